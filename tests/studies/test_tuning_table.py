"""The table of tuning's memory: the same rule of what fits as every other answer."""

from __future__ import annotations

from typing import Any

import pytest
from command_line import Run

from planner.common.errors import PlannerError
from planner.studies.tuning_methods import memory_cells

TABLES: dict[str, Any] = {
    "model": "llama-2-7b",
    "cluster": {"accelerator": "rtx-4090-24gb", "num_gpus": 1},
    "job": {"seq_len": 1024, "global_batch_size": 1, "kind": "finetune"},
}
SIZES: dict[str, Any] = {"methods": ("lora",), "contexts": (512, 1024, 2048, 4096), "batches": (1, 2, 3, 4, 5, 6, 8)}


def test_who_accepts_more_risk_is_told_of_more_that_fits() -> None:
    careful, usual, bold = (sum(c.fits for c in memory_cells(TABLES, **SIZES, risk=risk)) for risk in (0.005, 0.05, 0.5))
    assert 0 < careful <= usual <= bold
    assert careful < bold


def test_layouts_by_name_are_taken_where_they_are_allowed() -> None:
    """Offloading serves who names it: no cell needs more memory for it."""
    usual = memory_cells(TABLES, **SIZES)
    allowed = memory_cells(TABLES, **SIZES, allow=["offload"])
    assert all(a.fits or not b.fits for a, b in zip(allowed, usual, strict=True))


@pytest.mark.parametrize("fields", [{"risk": 2.0}, {"allow": ["nothing"]}])
def test_what_is_no_risk_and_no_name_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(PlannerError, match=next(iter(fields))):
        memory_cells(TABLES, **SIZES, **fields)


def test_the_command_hands_them_on(run: Run) -> None:
    asked = ("tune", "llama-2-7b", "--on", "rtx-4090", "--table", "--methods", "lora", "--contexts", "4096", "--batches", "4")
    assert run(*asked, "--risk", "2")[0] == 2
    assert run(*asked, "--allow", "nothing")[0] == 2
