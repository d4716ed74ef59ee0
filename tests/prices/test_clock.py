"""PLANNER_TODAY: the day on which a question is asked."""

from __future__ import annotations

import datetime

import pytest
from command_line import Run

from planner.common import clock
from planner.common.errors import PlannerError
from planner.prices.market import find_price


def test_without_it_the_calendar_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(clock.VARIABLE)
    before = datetime.date.today()
    assert before <= clock.today() <= datetime.date.today()


def test_a_quote_is_less_sure_as_it_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    def width(day: str) -> float:
        monkeypatch.setenv(clock.VARIABLE, day)
        lower, upper = find_price("h100-sxm5-80gb").interval_usd_per_gpu_hour
        return upper / lower

    assert width("2026-10-01") < width("2026-12-01") < width("2027-10-01")


@pytest.mark.parametrize("given", ["x", "2026-02-30", "29.11.2026"])
def test_what_is_no_date_is_refused(monkeypatch: pytest.MonkeyPatch, run: Run, given: str) -> None:
    monkeypatch.setenv(clock.VARIABLE, given)
    with pytest.raises(PlannerError, match=f"PLANNER_TODAY = '{given}'"):
        clock.today()
    code, out, err = run("plan", "gpt2", "--on", "h100")
    assert (code, out) == (2, "")
    assert err.strip() == f"error: gpt2 on h100: PLANNER_TODAY = '{given}': must be a date as 2026-11-29."
