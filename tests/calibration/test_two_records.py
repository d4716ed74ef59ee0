"""Two records of one machine, at least half an hour apart: calibrated on the first, steps of both that no constant saw."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
from places import ROOT

from planner.calibration.comparison import Row, unseen_steps
from planner.calibration.records import read_record

MEASURED = ROOT / "hardware_profiles" / "measured"
IDLE = (MEASURED / "amd-epyc-one-thread.json", MEASURED / "amd-epyc-one-thread-later.json")
SHARED = (MEASURED / "amd-epyc-shared-cores.json", MEASURED / "amd-epyc-shared-cores-later.json")


def _inside(rows: list[Row]) -> float:
    return float(np.mean([row.lower <= row.measured <= row.upper for row in rows]))


@pytest.mark.parametrize("pair", [IDLE, SHARED], ids=["idle", "shared"])
def test_the_records_are_of_one_machine_half_an_hour_apart(pair: tuple[Path, Path]) -> None:
    first, second = (read_record(path) for path in pair)
    assert first.device.name == second.device.name
    assert first.versions == second.versions
    began = [datetime.datetime.fromisoformat(record.created) for record in (first, second)]
    assert began[1] - began[0] >= datetime.timedelta(minutes=30)


def test_on_an_idle_machine_half_of_the_unseen_steps_lie_within_eight_percent() -> None:
    rows = [row for each in unseen_steps(*IDLE) for row in each]
    assert len(rows) >= 20
    assert float(np.median([abs(row.error) for row in rows])) <= 0.08
    assert 0.8 <= _inside(rows) <= 1.0


def test_while_others_share_the_cores_the_intervals_still_hold() -> None:
    """Up to a dozen processes shared the two cores while both records were measured."""
    rows = [row for each in unseen_steps(*SHARED) for row in each]
    assert len(rows) >= 20
    assert 0.8 <= _inside(rows) <= 1.0
