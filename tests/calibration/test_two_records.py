"""Two records of one machine, half an hour apart and under load: calibrated on the first, steps of both that no constant saw."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
from places import ROOT

from planner.calibration.calibrate import calibrate
from planner.calibration.comparison import Row, compare_record
from planner.calibration.profiles import write_profiles
from planner.calibration.records import read_record

MEASURED = ROOT / "hardware_profiles" / "measured"
FIRST, SECOND = MEASURED / "amd-epyc-one-thread.json", MEASURED / "amd-epyc-one-thread-later.json"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Step times of role validate: of the first by its own calibration, of the second by the first one's profiles."""
    folder: Path = tmp_path_factory.mktemp("profiles")
    made = calibrate(read_record(FIRST), "first")
    profiles = [str(path) for path in write_profiles(made, folder / "first.toml")]
    both = [*compare_record(FIRST).rows, *compare_record(SECOND, *profiles).rows]
    return [row for row in both if row.metric == "step_time_s"]


def test_the_records_are_of_one_machine_half_an_hour_apart() -> None:
    first, second = read_record(FIRST), read_record(SECOND)
    assert first.device.name == second.device.name
    assert first.versions == second.versions
    began = [datetime.datetime.fromisoformat(record.created) for record in (first, second)]
    assert began[1] - began[0] >= datetime.timedelta(minutes=30)


def test_intervals_hold_four_fifths_to_all_of_the_steps_that_no_constant_saw(rows: list[Row]) -> None:
    """Up to a dozen processes shared the two cores while both records were measured."""
    assert len(rows) >= 20
    assert 0.8 <= float(np.mean([row.lower <= row.measured <= row.upper for row in rows])) <= 1.0
