"""Tables, notes and lines by ``--lang zh``: every label in the source has its Chinese, and no English prose is printed."""

from __future__ import annotations

import ast
import re

import pytest
import table_labels as source
from command_line import Run
from rich.cells import cell_len

from planner.common import translation

ASKED = (
    "plan chatlaw2-moe --details --explain",
    "plan llama-3-70b --on h100 --seq-len 4096 --tokens 1B --details",
    "run chatlaw2-moe --currency EUR",
    "compare qwen-7b-and-student",
    "compare chatlaw2-moe --at loss",
    "search chatlaw2-moe --accelerator a100-sxm4-80gb,v100-sxm2-32gb --gpus 8",
    "operators llama-3-8b --on 8xh100 --framework megatron-core",
    "size llama-3-8b --for lora --on rtx-4090,l40s",
    "tune qwen-7b-lora",
    "limit llama-3-8b --on rtx-4090 --lora",
    "sweep llama-3-8b --on 8xh100 --vary job.seq_len=2048,131072",
    "own 8xh100 --years 1 --use 0.2",
    "serve serving/qwen-7b",
    "serve llama-3-70b --on h100 --details",
    "serve llama-3-70b --on 2xrtx-3090 --engine llama.cpp --weights q4_k_m",
    "serve llama-3-70b --on 8xh100 --clients 16",
    "serve bge-m3 --on l4 --rate 20 --details",
    "prices list --term capacity-block",
    "prices show a100-sxm4-80gb",
    "hardware list",
    "hardware show dgx-h100",
    "models show mixtral-8x7b",
    "models families",
    "models derive llama-3-8b --drop-layers 21-27 --sparsity 0.5",
)
"""A question of each command that prints a table."""
CITED = re.compile(
    r"算子: |链路: |来源|依据|故障率|假定|cost\.own|assumed|备注|source|description|说明|损失按|│ *│ *│|read as|PUE|notes"
)
"""Where lines hold the name of an operator or a link, a source or a description in the words of its author."""
LAYOUT = re.compile(r"recompute (none|full|selective)( offload \w+)*")
PROSE = re.compile(r"(?<![\w.'`=/-])[a-z]{3,} [a-z]{2,} [a-z]{3,}(?![\w.'`=/-])")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def known() -> set[str]:
    """What has Chinese: labels, messages without blanks, single words."""
    tables = translation.tables()
    words = {word for name in translation.WORDS for word in tables[name]}
    return words | set(translation.templates())


def test_every_label_of_a_table_has_its_chinese() -> None:
    told = known()
    missing = {
        label: path.stem for path in source.modules() for label in source.labels_in(path) if label.removesuffix(".") not in told
    }
    assert not missing, f"ADD to [label] in planner/common/messages.zh.toml: {missing}"


def test_no_label_in_the_table_is_gone_from_the_source() -> None:
    texts = set()
    for path in source.PLANNER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts |= {node.value.strip(), node.value.strip().replace("_", " ")}
    stale = [label for label in translation.tables()["label"] if label not in texts]
    assert not stale, f"REMOVE from [label] in planner/common/messages.zh.toml: {stale}"


@pytest.mark.parametrize("line", ASKED)
def test_a_table_in_chinese_has_no_english_prose_and_fits(run: Run, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, said, _ = run(*line.split(), "--lang", "zh")
    assert code == 0, said
    assert CHINESE.search(said)
    title, cited = said.splitlines()[0], False
    for text in said.splitlines():
        assert cell_len(text) <= 80, text
        cited = bool(CITED.search(text)) or (cited and not CHINESE.match(text.strip("│ ")))
        assert cited or text == title or not PROSE.search(LAYOUT.sub("", text)), text


def test_words_of_a_figure_are_translated_wherever_they_stand(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, said, _ = run("run", "chatlaw2-moe", "--lang", "zh")
    for word in ("days", "no price", "providers", "interruptions", "GPU-hours", "layout", " to "):
        assert word not in "\n".join(text for text in said.splitlines() if text.startswith("│")), word
    _, english, _ = run("run", "chatlaw2-moe")
    assert not CHINESE.search(english)
    figures = [sorted(re.findall(r"\$[\d,.]+\d", text)) for text in (said, english)]
    assert figures[0] == figures[1]


def test_cases_stand_side_by_side_where_each_has_room(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cases fold their cells at 150 columns; at 100 they stand below one another."""
    for columns, side_by_side in ((150, True), (100, False)):
        monkeypatch.setenv("COLUMNS", str(columns))
        _, out, _ = run("compare", "llama4-style-moe")
        printed = out.splitlines()
        assert any("uneven experts" in line and "balanced" in line and "batch of 32" in line for line in printed) == side_by_side
        assert all(cell_len(line) <= columns for line in printed)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("compare chatlaw2-moe", ("4x7B MoE", "dense 33B", "8 x a100-sxm4-80gb", "(dgx-a100-80gb)")),
        (
            "serve serving/qwen-7b",
            ("fp16, eager", "int8, eager", "int4 AWQ, vLLM", "student 0.7B, int8, eager", "1 x l4 (g6-xlarge)"),
        ),
    ],
)
def test_cases_without_room_stand_in_tables_below_with_no_name_broken(
    run: Run, monkeypatch: pytest.MonkeyPatch, line: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(*line.split())
    assert code == 0
    assert all(cell_len(text) <= 80 for text in out.splitlines())
    for name in names:
        assert re.search(rf"│[^│]*{re.escape(name)} *[│┃]|┃[^┃]*{re.escape(name)} *┃", out), name
