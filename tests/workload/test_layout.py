"""Layouts as columns: what their numbers stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from planner.common.errors import PlannerError
from planner.workload.layout import RECOMPUTE, SCHEDULE, Layout, Recompute, Schedule, as_columns, checked

EVERY: list[tuple[dict[str, Any], Recompute, Schedule]] = [
    ({"recompute": "none", "schedule": "1f1b"}, Recompute.NONE, Schedule.ONE_FORWARD_ONE_BACKWARD),
    ({"recompute": "selective", "vpp": 2}, Recompute.SELECTIVE, Schedule.INTERLEAVED),
    ({"recompute": "full", "schedule": "zero-bubble"}, Recompute.FULL, Schedule.ZERO_BUBBLE),
]


@pytest.mark.parametrize(("fields", "recompute", "schedule"), EVERY)
def test_a_columns_number_is_that_of_its_name(fields: dict[str, Any], recompute: Recompute, schedule: Schedule) -> None:
    columns = as_columns(Layout(pp=4, dp=1, **fields), 4)
    assert (columns.recompute[0], columns.schedule[0]) == (recompute, schedule)
    assert columns.row(0).recompute == fields["recompute"] == RECOMPUTE[recompute]
    assert columns.row(0).schedule == fields.get("schedule", "interleaved") == SCHEDULE[schedule]


def test_every_number_has_one_name() -> None:
    assert (len(RECOMPUTE), len(SCHEDULE)) == (len(Recompute), len(Schedule))


@pytest.mark.parametrize(
    ("fields", "held", "sharded"),
    [
        # 64 GPUs; tp 4 leaves 16 ranks with the same dense weights, ep 2 x etp 4 leaves 8 with the same experts
        ({"tp": 4, "ep": 2, "etp": 4}, (16, 8), (1, 1)),
        ({"tp": 4, "ep": 2, "etp": 4, "zero": 1}, (16, 8), (16, 8)),
        ({"tp": 4, "ep": 2, "etp": 4, "zero": 3, "shard_group_size": 4}, (16, 8), (4, 4)),
        ({"tp": 2, "cp": 4, "pp": 2, "ep": 16, "zero": 2}, (16, 2), (16, 2)),
        ({"tp": 2, "cp": 4, "pp": 2, "ep": 16, "zero": 2, "shard_group_size": 8}, (16, 2), (8, 2)),
    ],
)
def test_ranks_that_hold_and_that_share_the_same_weights(
    fields: dict[str, Any], held: tuple[int, int], sharded: tuple[int, int]
) -> None:
    """Megatron-LM: dense weights lie on dp x cp ranks, an expert's on world / (pp x ep x etp); ZeRO shards over its group."""
    columns = as_columns(Layout(**fields), 64)
    assert (columns.ranks[0], columns.expert_ranks[0]) == held
    assert (columns.shard_ranks[0], columns.expert_shard_ranks[0]) == sharded


def test_columns_are_what_was_asked_for() -> None:
    """What is left open follows; a fraction of a replica where degrees do not divide; names and truth values for people."""
    columns = as_columns([Layout(tp=3), Layout(tp=2, dp=3, offload_optimizer=True, vpp=2, pp=2)], 8)
    assert columns.dp.tolist() == [8 / 3, 3]
    assert [RECOMPUTE[0], SCHEDULE[1]] == [columns.to_columns()["recompute"][0], columns.to_columns()["schedule"][1]]
    assert columns.to_columns()["offload_optimizer"].tolist() == [False, True]
    assert columns.to_columns()["tp"].dtype == int
    assert columns.take([1]).row(0) == Layout(tp=2, dp=3, offload_optimizer=True, vpp=2, pp=2, schedule="interleaved")
    several = as_columns(Layout(tp=2), np.array([8.0, 16.0]))
    assert several.dp.tolist() == [4.0, 8.0]


@pytest.mark.parametrize(
    ("column", "value"),
    [("tp", [[1.0]]), ("pp", [1.0, 2.0]), ("cp", [np.inf]), ("dp", [-1.0]), ("ep", ["many"]), ("tp", None)],
)
def test_columns_that_are_none_are_named(column: str, value: Any) -> None:
    """Not of one axis, of another length, not finite, below 0, no numbers."""
    good = as_columns(Layout(), 8)
    assert checked(good).tp.tolist() == [1.0]
    with pytest.raises(PlannerError, match=rf"layouts\.{column} = "):
        checked(replace(good, **{column: value}))
