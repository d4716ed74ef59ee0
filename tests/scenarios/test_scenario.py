"""Scenarios: every command answers every shipped one, and each way of naming one leads to the same question."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import GOOD, Run

from planner.common.errors import PlannerError
from planner.scenarios.scenario import PLAN_TABLES, asked, read_scenario
from planner.scenarios.serving import read_serving_scenario
from planner.scenarios.shipped import scenario_names, scenario_path

TRAINING = [name for name in scenario_names() if not name.startswith("serving/")]
SERVING = [name for name in scenario_names() if name.startswith("serving/")]
COMMANDS: dict[str, tuple[str, ...]] = {
    "plan": (),
    "operators": (),
    "run": (),
    "sweep": ("--vary", "job.global_batch_size=192"),
    "limit": ("--field", "job.seq_len", "--step", "1048576"),
}


def small(name: str, folder: Path) -> Path:
    """The scenario with a layout, so that no command looks for one."""
    text = scenario_path(name).read_text(encoding="utf-8")
    if "\n[layout]" not in text:
        zero = 3 if '"fsdp"' in text else 1
        text = text.replace("\n[job]", f'\n[layout]\nzero = {zero}\nrecompute = "full"\n[job]', 1)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", TRAINING)
def test_every_command_answers_every_shipped_scenario(name: str, run: Run, tmp_path: Path) -> None:
    """An answer (0), or one paragraph that says why there is none (2): launch files of a LoRA job, 1 M tokens that do not fit."""
    path = small(name, tmp_path)
    for command, options in COMMANDS.items():
        code, out, err = run(command, path, *options, "--json")
        assert code == 0 or (code == 2 and command == "limit" and "not even" in err), (command, err)
        assert code == 2 or json.loads(out)
    for stack in ("megatron", "deepspeed", "accelerate-fsdp"):
        code, out, err = run("export", path, "--to", stack)
        assert (code == 0) == bool(out), err
        assert code in (0, 2)
        assert code == 0 or err.startswith(f"error: {path}: ")


@pytest.mark.parametrize("name", ["llama4-style-moe", "qwen-7b-and-student"])
def test_search_and_tune_answer_scenarios_with_tables_of_a_run_and_of_costs(
    name: str,
    run: Run,
    tmp_path: Path,
) -> None:
    assert set(read_scenario(name).cases[0].tables) - set(PLAN_TABLES)
    path = tmp_path / "one.toml"
    path.write_text(scenario_path(name).read_text(encoding="utf-8").replace("[cluster]", "[cluster]\nnum_gpus = 2", 1))
    code, out, err = run("search", path, "--top", "1", "--json")
    assert code == 0, err
    assert json.loads(out)["rows"]
    code, out, err = run("tune", small(name, tmp_path), "--methods", "lora", "--json")
    assert (code, len(json.loads(out or '{"methods": []}')["methods"])) in ((0, 1), (2, 0)), err


def test_a_question_is_the_tables_that_plan_reads_and_a_copy_of_them() -> None:
    case = read_scenario("llama4-style-moe").cases[0]
    found = case.asked()
    assert set(found) == set(case.tables) & set(PLAN_TABLES)
    found["job"]["seq_len"] = 1
    assert case.tables["job"]["seq_len"] != 1
    with pytest.raises(PlannerError, match=r"table \[job\] is missing"):
        asked({"model": {}, "cluster": {}})


def test_a_shipped_scenario_is_found_by_name_and_a_file_of_the_folder_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_scenario("chatlaw2-moe").title.startswith("4x7B")
    assert read_serving_scenario("chatlaw2-moe").title.startswith("4x7B MoE in fp16")
    assert read_serving_scenario("serving/chatlaw2-moe") == read_serving_scenario("chatlaw2-moe")
    Path("chatlaw2-moe").write_text(GOOD, encoding="utf-8")
    assert read_scenario("chatlaw2-moe").title == "test"
    with pytest.raises(PlannerError, match="did you mean chatlaw2-moe"):
        read_scenario("chatlaw2")
    with pytest.raises(PlannerError, match="scenario = 3: must be"):
        read_scenario(3)  # type: ignore[arg-type]


def test_a_row_of_a_search_with_ones_own_node_is_exported_on_that_node(
    run: Run,
    scenario: Any,
    tmp_path: Path,
) -> None:
    shutil.copy(scenario_path("chatlaw2-moe").parents[1] / "hardware_profiles/nodes/dgx-a100-80gb.toml", tmp_path / "own.toml")
    own = (tmp_path / "own.toml").read_text(encoding="utf-8")
    (tmp_path / "own.toml").write_text(own.replace('name = "dgx-a100-80gb"', 'name = "our box"'), encoding="utf-8")
    path = scenario(GOOD, ('node = "dgx-a100-80gb"', 'node = "own.toml"\nnum_gpus = 2'))
    rows = tmp_path / "rows.csv"
    assert run("search", path, "--top", "1", "--out", rows)[0] == 0
    assert "our box" in rows.read_text(encoding="utf-8")
    code, out, err = run("export", path, "--to", "megatron", "--rows", rows)
    assert code == 0, err
    assert "our box" in out
