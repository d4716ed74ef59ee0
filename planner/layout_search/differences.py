"""How sure the order of two layouts is: 90 % intervals of the ratio of their times."""

from __future__ import annotations

from typing import Any

from planner.layout_search.question import SearchQuestion
from planner.layout_search.ranking import Rows
from planner.uncertainty.ratio import Ratio, ratio
from planner.uncertainty.subject import Subject


def times_over(q: SearchQuestion, rows: Rows, first: Rows) -> list[Ratio]:
    """The time of each of ``rows`` over that of the first of ``first``: of the whole run, of a step where it has no length."""
    against = _subject(q, first, 0)
    found = []
    for i in range(len(rows)):
        step = ratio(float(rows.step_time_s[i]), float(first.step_time_s[0]), "step_time", _subject(q, rows, i), against)
        found.append(step.scaled(float(rows.time_s[i]) / float(first.time_s[0]) / step.expected))
    return found


def difference_columns(q: SearchQuestion, rows: Rows) -> dict[str, Any]:
    """Columns of a table: each row's time over the first row's with its 90 % bounds, the probability that it takes less time,
    and whether it is known which of the two does."""
    found = times_over(q, rows, rows)
    return {
        "time_over_first": [r.expected for r in found],
        "time_over_first_lower": [r.lower for r in found],
        "time_over_first_upper": [r.upper for r in found],
        "probability_faster_than_first": [r.probability_first_smaller for r in found],
        "order_decidable": [r.decidable for r in found],
    }


def _subject(q: SearchQuestion, rows: Rows, i: int) -> Subject:
    return Subject.of(q.setups[int(rows.setup[i])].question, rows.layouts.row(i))
