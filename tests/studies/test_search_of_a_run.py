"""``planner.search`` takes [run] as ``planner.expected_run`` does."""

from __future__ import annotations

from typing import Any

import pytest

import planner
from planner.common.errors import PlannerError
from planner.lifecycle.spec import Run

ASKED: dict[str, Any] = {
    "model": "llama-2-7b",
    "cluster": "16xh100",
    "framework": "megatron-core",
    "job": {"seq_len": 4096, "global_batch_size": 256, "num_steps": 200_000},
    "price": [{"usd_per_gpu_hour": 2.0, "term": "on-demand"}, {"usd_per_gpu_hour": 1.5, "term": "spot"}],
    "objective": "cost",
    "top": 1,
}


@pytest.mark.parametrize("told", [{"preemption_wait_s": 3600.0}, {"checkpoint_every_steps": 1000}, {"restart_s": 3000.0}])
def test_all_that_a_run_says_of_preemptions_ranks_them(told: dict[str, Any]) -> None:
    """Spot at three quarters of the price stays first with the rate alone, and falls behind with what makes each dearer."""
    rate = {"preemption_mtbf_s": 4 * 3600.0}
    alone, dearer = (planner.search(**ASKED, run=run) for run in (rate, Run(**rate, **told)))
    assert "spot" in alone["price"].iloc[0]
    assert "on-demand" in dearer["price"].iloc[0]
    table = planner.search(**ASKED, run={**rate, **told, "failures": "none"})
    assert table.equals(dearer)  # failures strike nodes at every price


def test_a_wrong_field_of_a_run_is_told_by_its_name() -> None:
    with pytest.raises(PlannerError, match=r"run\.preemption_wait_s = -1"):
        planner.search(**ASKED, run={"preemption_wait_s": -1})
    with pytest.raises(PlannerError, match=r"run\.preemption_mtbf_s is missing"):
        planner.search(**ASKED)
    with pytest.raises(TypeError, match="preemption_mtbf_s"):
        planner.search(**ASKED, preemption_mtbf_s=86400.0)  # type: ignore[call-arg]
