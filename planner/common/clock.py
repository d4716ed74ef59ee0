"""The day on which a question is asked: prices age by it, and answers widen with their age.

``PLANNER_TODAY`` (a date, ISO 8601) stands in for the calendar's: the same question then has the same answer on any day.
"""

from __future__ import annotations

import datetime
import os

from planner.common.errors import PlannerError

VARIABLE = "PLANNER_TODAY"


def today() -> datetime.date:
    """The date in ``PLANNER_TODAY``, else the calendar's. Raises PlannerError when it is not a date.

    >>> os.environ[VARIABLE] = "2026-09-19"
    >>> today()
    datetime.date(2026, 9, 19)
    """
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return datetime.date.today()
    try:
        return datetime.date.fromisoformat(given)
    except ValueError:
        raise PlannerError("{0} = {1!r}: must be a date as 2026-11-29.", VARIABLE, given) from None
