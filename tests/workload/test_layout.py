"""Layouts as columns: what their numbers stand for."""

from __future__ import annotations

from typing import Any

import pytest

from planner.workload.layout import RECOMPUTE, SCHEDULE, Layout, Recompute, Schedule, as_columns

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
