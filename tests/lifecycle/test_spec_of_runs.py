"""Which fields of a run go together, and what they make of a cluster's rates, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from planner.common.errors import PlannerError
from planner.lifecycle.failures import waiting_s
from planner.lifecycle.spec import Run

PAIRS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"outage_mtbf_s": 1e6}, {"outage_s": 3600.0}),
    ({"rollback_mtbf_s": 1e6}, {"rollback_s": 3600.0}),
    ({"maintenance_every_s": 1e6}, {"maintenance_s": 3600.0}),
    ({"evaluation_every_steps": 100}, {"evaluation_tokens": 1000}),
    ({"slow_node_probability": 0.1}, {"slow_node_slowdown": 1.5}),
)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_what_works_together_is_given_together(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert Run(**one, **other)
    for alone in (one, other):
        with pytest.raises(PlannerError, match="both"):
            Run(**alone)


@pytest.mark.parametrize("uneven", [{"expert_zipf": 0.5}, {"expert_shares": (0.5, 0.5)}, {"expert_histogram": "counts.json"}])
def test_experts_are_placed_only_where_they_are_uneven(uneven: dict[str, Any]) -> None:
    assert Run(expert_placement="sorted", **uneven).expert_placement == "sorted"
    with pytest.raises(PlannerError, match="expert_placement"):
        Run(expert_placement="sorted")


def test_a_rule_and_an_interval_exclude_each_other_and_a_slow_start_needs_steps() -> None:
    assert Run(checkpoint_interval_s=600.0)
    assert Run(checkpoint="young")
    assert Run(warmup_steps=10, warmup_slowdown=2.0)
    for bad in (
        {"checkpoint": "young", "checkpoint_interval_s": 600.0},
        {"checkpoint_interval_s": 600.0, "checkpoint_every_steps": 10},
        {"expert_zipf": 0.5, "expert_shares": (0.5, 0.5)},
        {"warmup_slowdown": 2.0},
    ):
        with pytest.raises(PlannerError):
            Run(**bad)  # type: ignore[arg-type]


def test_rates_of_a_cluster_by_hand() -> None:
    """64 GPUs in 8 nodes: a failure of a GPU every 64,000 s each, one preemption, outage and rollback each so often."""
    run = Run(
        gpu_mtbf_s=64_000.0,
        preemption_mtbf_s=8e5,
        preemption_wait_s=60.0,
        outage_mtbf_s=1e6,
        outage_s=7200.0,
        rollback_mtbf_s=2e6,
        rollback_s=900.0,
        detection_s=30.0,
        restart_s=300.0,
        repair_s=7200.0,
        spare_nodes=1,
    )
    stops = run.interruptions(64, 8, 20.0)
    assert stops.failure_rate_per_s == pytest.approx(1e-3)
    assert stops.preemption_rate_per_s == pytest.approx(1e-5)
    assert (stops.outage_rate_per_s, stops.rollback_rate_per_s) == pytest.approx((1e-6, 5e-7))
    assert (stops.detection_s, stops.preemption_wait_s, stops.outage_s, stops.rollback_s) == (30.0, 60.0, 7200.0, 900.0)
    assert stops.restart_s == 320.0  # the checkpoint is read again
    assert stops.replacement_s == pytest.approx(waiting_s(1e-3, 7200.0, 1))
    # software alone breaks no node: nothing is waited for
    soft = Run(software_mtbf_s=64_000.0, repair_s=7200.0, spare_nodes=1).interruptions(64, 8, 20.0)
    assert soft.failure_rate_per_s == pytest.approx(1e-3)
    assert soft.replacement_s == 0.0
    # half of the failures are software's: the others wait, at half of the rate
    half = Run(software_mtbf_s=128_000.0, gpu_mtbf_s=128_000.0, repair_s=7200.0, spare_nodes=1).interruptions(64, 8, 20.0)
    assert half.replacement_s == pytest.approx(0.5 * waiting_s(5e-4, 7200.0, 1))
