"""A field that is set twice, and not alike, is refused: one of the two would change nothing."""

from __future__ import annotations

import pytest

from planner.common.errors import PlannerError
from planner.scenarios.quick import parse_changes


def test_a_field_is_set_once() -> None:
    assert parse_changes(["layout.tp=2", "layout.tp=2", "layout.pp=4"]) == {"layout.tp": 2, "layout.pp": 4}
    with pytest.raises(PlannerError, match=r"--set layout\.tp=4: layout\.tp is given twice, before as 2; leave one"):
        parse_changes(["layout.tp=2", "layout.pp=1", "layout.tp=4"])
