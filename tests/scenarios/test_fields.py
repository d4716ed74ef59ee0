"""Every field that people write is described once, and its example is one that the model takes."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import pytest
from command_line import Run
from pydantic import TypeAdapter
from rich.cells import cell_len

from planner.prices.market import as_price
from planner.reports.schema import fields_markdown, fields_text
from planner.scenarios.commented import commented_toml
from planner.scenarios.fields import TABLES, declared, meanings, table_fields
from planner.scenarios.literals import literal
from planner.scenarios.scenario import read_scenario
from planner.scenarios.shipped import scenario_names
from planner.serving import serve
from planner.serving.deployment import Deployment

FIELDS = [(name, field) for name in TABLES for field in table_fields(name)]


def test_every_field_has_a_meaning_and_an_example_and_no_note_is_of_a_field_that_is_gone() -> None:
    missing = [f"[{name}] {field.name}" for name, field in FIELDS if not field.meaning or field.example is None]
    assert not missing, "ADD to planner/catalog/fields.toml: " + ", ".join(missing)
    fields = {name: {field.name for field in table_fields(name)} for name in TABLES}
    stale = [f"[{name}] {field}" for name, said in meanings().items() for field in said if field not in fields[name]]
    assert not stale, "REMOVE from planner/catalog/fields.toml: " + ", ".join(stale)


def test_every_meaning_and_summary_is_said_in_chinese_with_the_names_that_it_says_in_english() -> None:
    chinese, field_name = re.compile(r"[\u4e00-\u9fff]"), re.compile(r"\b[a-z]+_[a-z_]+[a-z]\b")
    plain = {f"[{name}] {field.name}" for name, field in FIELDS if not chinese.search(field.said("zh"))}
    assert plain <= {"[framework] expandable_segments", "[model.towers] name"}, plain
    for name, field in FIELDS:
        lost = {word for word in field_name.findall(field.meaning) if word not in field.said("zh")}
        assert not lost, f"[{name}] {field.name}: {lost}"
    for table in TABLES.values():
        assert all(chinese.search(text) for text in table.said("zh")), table.name


def test_what_schema_prints_in_chinese_fits_80_columns_and_leaves_no_english_sentence(run: Run) -> None:
    for arguments in (["schema"], ["schema", "job"], ["schema", "layout"], ["schema", "cost.own"]):
        printed = run(*arguments, "--lang", "zh")[1]
        assert all(cell_len(line) <= 80 for line in printed.splitlines())
        english = [line for line in printed.splitlines() if re.search(r"\b(of|the|which|where|when)\b", line)]
        assert not english, english


@pytest.mark.parametrize("name", TABLES)
def test_a_model_takes_the_example_of_each_of_its_fields(name: str) -> None:
    examples = {field.name: field.example for field in table_fields(name)}
    for field, annotation, _ in declared(TABLES[name]):
        example = examples[field]
        TypeAdapter(annotation).validate_python(tuple(example) if isinstance(example, list) else example, strict=False)


def test_a_price_takes_the_fields_that_are_described_and_no_other() -> None:
    examples = {field.name: field.example for field in table_fields("price")}
    for given in ({"term": "on-demand"}, {"provider": "AWS"}, {"usd_per_gpu_hour": 2.1}, {"other_use": 0.8}):
        assert set(given) <= set(examples)
        assert as_price(given, "h100-sxm5-80gb") is not None
    assert as_price({name: examples[name] for name in ("price_per_gpu_hour", "currency")}, "h100-sxm5-80gb") is not None


def test_names_that_state_a_unit_are_shown_with_it() -> None:
    units = {f"{name}.{field.name}": field.unit for name, field in FIELDS}
    for name, unit in (
        ("run.detection_s", "s"),
        ("accelerator.memory_bytes", "bytes"),
        ("node.links.bytes_per_s", "bytes/s"),
        ("price.usd_per_gpu_hour", "USD"),
        ("framework.host_s_per_kernel", "s"),
        ("job.num_tokens", "tokens"),
        ("layout.tp", "-"),
    ):
        assert units[name] == unit


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_shown_whole_at_80_columns_and_as_markdown(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run("schema", name)
    assert (code, err) == (0, "")
    assert out.rstrip("\n") == fields_text(TABLES[name], table_fields(name), 80)
    assert max(len(line) for line in out.splitlines() if "example:" not in line) <= 80
    page = fields_markdown(TABLES[name], table_fields(name))
    assert all(f"| `{field.name}` |" in page for field in table_fields(name))
    assert {len(line.replace("\\|", "").split("|")) for line in page.splitlines() if line.startswith("|")} == {8}
    found = json.loads(run("schema", name, "--json")[1])["fields"]
    assert [one["name"] for one in found] == [field.name for field in table_fields(name)]


def test_a_field_that_is_not_there_is_answered_with_the_near_one(run: Run) -> None:
    assert run("schema", "jb")[::2] == (2, "error: no table 'jb'; did you mean job?\n")
    assert run("schema", "job.seqlen")[::2] == (2, "error: [job] has no field 'seqlen'; did you mean seq_len?\n")
    assert "must be given" in run("schema", "job.seq_len")[1]


@pytest.mark.parametrize("name", [name for name in scenario_names() if not name.startswith("serving/")])
def test_a_scenario_with_comments_reads_back_as_the_same_tables(name: str, tmp_path: Path) -> None:
    scenario = read_scenario(name)
    path = tmp_path / "again.toml"
    path.write_text(commented_toml(scenario), encoding="utf-8")
    assert read_scenario(path).cases[0].tables == scenario.cases[0].tables


def test_init_writes_a_scenario_once_and_every_line_that_is_commented_out_can_be_used(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    asked = ("init", "gpt2", "--on", "8xa100-80gb", "--tokens", "1B", "-o", path)
    assert run(*asked)[:2] == (0, "")
    text = path.read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("# ") and " = " in line.partition("  #")[0]:
            tomllib.loads(line.removeprefix("# "))
    code, _, err = run(*asked)
    assert code == 2
    assert "exists already" in err
    assert run(*asked, "--force")[0] == 0
    assert "give a model and --on GPUs" in run("init", "-o", tmp_path / "other.toml")[2]


@pytest.mark.parametrize(
    "value", [1, 123456, -0.5, 1e-5, 3.35e12, 0.0, 12345.678, 'a "b" \\ c', True, [1, 2.5, "x"], {"a": {"b": 1}}]
)
def test_a_literal_reads_back_as_itself(value: object) -> None:
    assert tomllib.loads(f"x = {literal(value)}")["x"] == value


def test_a_name_that_is_asked_and_answered_is_told_apart() -> None:
    """A field of [serving] that a deployment has too, with another value, says what the answer's is."""
    plain = {"engine": "vllm", "prompt": 2000, "output": 300, "batch": 2}
    asked = {"max_batch": 3, "max_context": 3000, "requests_per_s": 0.5}
    answer = serve(model="llama-3.1-8b", cluster={"node": "dgx-h100", "num_gpus": 1}, serving={**plain, **asked})
    free = serve(model="llama-3.1-8b", cluster={"node": "dgx-h100", "num_gpus": 1}, serving=plain)
    assert answer.max_batch == free.max_batch > 3
    assert answer.max_context == 3000 < free.max_context
    both = {field.name for field in dataclasses.fields(Deployment)} & {field.name for field in table_fields("serving")}
    differ = {name for name in both if name != "engine" and getattr(free, name) != getattr(free.serving, name)}
    assert differ >= {"max_batch", "max_context", "requests_per_s"}
    for name in differ:
        assert f"The answer's {name} " in meanings()["serving"][name]["meaning"], name
        assert f"结果中的 {name} " in meanings()["serving"][name]["zh"], name
