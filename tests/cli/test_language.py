"""`--lang zh`: answers and errors in Chinese with the same figures, anywhere on the command line; the locale, too."""

from __future__ import annotations

import json
import re

import pytest
from command_line import Run
from rich.cells import cell_len

CHINESE = re.compile(r"[\u4e00-\u9fff]")
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
ASKED = (
    ("plan", "llama-3-8b", "--lora", "--on", "rtx-4090"),
    ("plan", "mixtral-8x7b", "--on", "8xh100", "--tokens", "1B", "--seq-len", "4096"),
    ("serve", "llama-3-8b", "--on", "h100", "--clients", "8"),
)


@pytest.fixture(autouse=True)
def no_locale(monkeypatch: pytest.MonkeyPatch, the_same_everywhere: None) -> None:
    for name in ("PLANNER_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("question", ASKED)
def test_an_answer_in_chinese_says_the_same_figures(run: Run, question: tuple[str, ...]) -> None:
    code, english, _ = run(*question)
    assert (code, CHINESE.search(english)) == (0, None)
    code, chinese, _ = run(*question, "--lang", "zh")
    assert code == 0
    assert sorted(NUMBER.findall(chinese)) == sorted(NUMBER.findall(english))
    lines = chinese.splitlines()
    assert all(cell_len(line) <= 80 for line in lines)
    labels = [line.split()[0] for line in lines[1:] if re.match(r"  \S", line)]
    assert sum(bool(CHINESE.match(label)) for label in labels) >= 7
    prose = re.findall(r"(?<![\w.'`=/-] )\b[a-z]{3,} [a-z]{3,} [a-z]{3,}", chinese)
    assert not prose, prose


@pytest.mark.parametrize(
    "arguments", [("--lang", "zh", "plan", "nope", "--on", "h100"), ("plan", "nope", "--on", "h100", "--lang=zh")]
)
def test_errors_are_said_in_chinese_wherever_the_option_stands(run: Run, arguments: tuple[str, ...]) -> None:
    code, _, err = run(*arguments)
    assert (code, err.startswith("错误：model.name = 'nope' 不在目录中")) == (2, True), err


@pytest.mark.parametrize(
    ("variables", "chinese"),
    [
        ({"PLANNER_LANG": "zh"}, True),
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, False),
        ({"PLANNER_LANG": "en", "LANG": "zh_CN.UTF-8"}, False),
    ],
)
def test_the_environment_chooses_where_the_option_does_not(
    run: Run, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], chinese: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, _, err = run("plam")
    assert (code, CHINESE.search(err) is not None) == (2, chinese)


def test_json_keeps_english_templates_for_programs_and_an_unknown_language_is_refused(run: Run) -> None:
    code, _, err = run("plan", "nope", "--on", "h100", "--json", "--lang", "zh")
    error = json.loads(err)["error"]
    assert (code, error["field"], error["value"]) == (2, "model.name", "nope")
    assert error["message"].startswith("model.name = 'nope' is not in the catalog")
    code, _, err = run("plan", "llama-3-8b", "--lang", "fr")
    assert (code, "--lang = 'fr': must be one of" in err) == (2, True)


QUANTITIES = (
    ("plan", "--tokens", "many"),
    ("plan", "--seq-len", "long"),
    ("size", "--tpot", "abc"),
    ("search", "--deadline", "14"),
    ("search", "--budget-usd", "much"),
    ("plan", "--set", "cluster.network_gbit_per_s=400d"),
    ("run", "--set", "cost.dataset_bytes=4 apples"),
)
PARSED = (
    ("plan", "gpt2", "--foo"),
    ("plan", "gpt2", "--framewor", "fsdp"),
    ("plan", "gpt2", "--tp", "2", "--on", "h100"),
    ("plan", "gpt2", "--on"),
    ("plan", "gpt2", "--lora=3"),
    ("size", "gpt2"),
    ("size", "--for", "serve"),
    ("size", "gpt2", "gpt3", "--for", "serve"),
    ("prices", "foo"),
    ("frameworks", "show"),
)


@pytest.mark.parametrize("words", QUANTITIES)
def test_a_number_that_cannot_be_read_is_refused_in_chinese(run: Run, words: tuple[str, ...]) -> None:
    asked = ("gpt2", "--for", "serve") if words[0] == "size" else ("gpt2", "--on", "rtx-4090")
    code, _, err = run(words[0], *asked, *words[1:], "--lang", "zh")
    assert (code, "必须是" in err) == (2, True), err
    assert not re.search(r"\b[a-z]{2,} [a-z]{2,} [a-z]{2,}\b", err), err


def test_examples_of_counts_in_chinese_are_written_as_in_chinese(run: Run) -> None:
    assert "10亿" in run("plan", "gpt2", "--on", "h100", "--tokens", "many", "--lang", "zh")[2]
    assert "8千" in run("plan", "gpt2", "--on", "h100", "--seq-len", "long", "--lang", "zh")[2]
    assert run("plan", "gpt2", "--on", "h100", "--tokens", "10亿", "--seq-len", "1千")[0] == 0


@pytest.mark.parametrize("words", PARSED)
def test_what_the_parser_says_is_said_in_chinese(run: Run, words: tuple[str, ...]) -> None:
    code, _, err = run(*words, "--lang", "zh")
    assert code == 2
    assert re.match("错误：[\u4e00-\u9fff]", err), err
    assert not re.search(r"\b(?:No such|Missing|Option|Possible|Got)\b", err), err


@pytest.mark.parametrize(
    "line",
    [
        "plan gpt2 --on l4",
        "serve llama-3-8b --on l4",
        "compare gpt2 gpt2-medium --on l4",
        "run gpt2 --on l4 --tokens 1B",
        "tune gpt2 --on l4",
        "limit gpt2 --on l4",
    ],
)
def test_the_title_of_an_answer_is_in_the_language_of_the_answer(run: Run, line: str) -> None:
    code, said, err = run(*line.split(), "--lang", "zh")
    assert code == 0, err
    assert re.search(r"[\u4e00-\u9fff]", said.splitlines()[0]), said.splitlines()[0]
