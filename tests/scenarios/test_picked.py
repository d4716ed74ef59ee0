"""A row of a search is asked again as it was: on the same software, with what that changes of its framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import planner
from planner.common.spec import read_table
from planner.common.tables import write_table
from planner.scenarios.picked import chosen_row
from planner.workload.framework import load_framework
from planner.workload.framework_names import NAMES
from planner.workload.resolve import as_framework

TABLES: dict[str, Any] = {
    "model": {"name": "gpt2"},
    "cluster": {"node": "dgx-a100-80gb", "num_gpus": 2},
    "job": {"seq_len": 1024, "global_batch_size": 32},
}
NAMED = [word for entry in read_table(NAMES)["stacks"].values() for word in entry["names"]]
"""Software that always means the same framework."""
STACKS: list[Any] = ["nanogpt", "pytorch", "unsloth", "huggingface", {"name": "fsdp", "compile": True, "fused_norm": False}]


@pytest.mark.parametrize("kind", [".csv", ".json", ".parquet"])
def test_a_row_gives_back_its_step_time(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows{kind}"
    table = planner.search(**TABLES, framework=STACKS, top=50)
    write_table(path, table)
    assert len(set(zip(table["framework"], table["framework_changes"], strict=True))) == len(STACKS)
    for (_, _), rows in table.groupby(["framework", "framework_changes"]):
        for given in ({}, {"framework": {"name": "nanogpt"}}):
            answer = planner.plan(**chosen_row({**TABLES, **given}, path, int(rows["rank"].iloc[0])), explain=False)
            assert answer.step_time_s == pytest.approx(rows["step_time_s"].iloc[0], rel=1e-9)


@pytest.mark.parametrize("asked", [*STACKS, *NAMED, {"name": "pytorch", "flash_attention": 1, "fp8_recipes": []}])
def test_a_framework_is_its_name_and_its_changes(asked: Any) -> None:
    found = as_framework(asked, "finetune")
    assert as_framework({"name": found.name, **found.changes()}) == found
    assert bool(found.changes()) == (found != load_framework(found.name))


def test_a_plan_says_what_its_software_changes() -> None:
    answer = planner.plan(**TABLES, framework="nanogpt", explain=False)
    told = answer.to_dict()
    assert (told["framework"], told["framework_changes"]) == ("pytorch", {"attention_kernel": "flash", "compile": True})
    assert "framework: nanogpt is read as pytorch with attention_kernel = flash, compile = true" in answer.notes
    again = planner.plan(**TABLES, framework={"name": told["framework"], **told["framework_changes"]}, explain=False)
    assert again.step_time_s == answer.step_time_s
