"""The answer of a search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.common.arrays import Array
from planner.layout_search.differences import times_over
from planner.layout_search.found import Found
from planner.layout_search.question import SearchQuestion
from planner.layout_search.ranking import NUM_GROUPS, Rows, groups_of, groups_of_steps, recommended_first
from planner.layout_search.table import frame, summary
from planner.uncertainty.ratio import Ratio

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The answer of a search. ``complete`` is False when it was stopped: then ``found`` holds what it had met."""

    question: SearchQuestion
    found: Found
    size: int
    complete: bool

    @property
    def widened(self) -> bool:
        """Whether unusual layouts were searched that nobody named; ``question.wide`` says why."""
        return bool(self.question.wide)

    def of(self, setup: int) -> SearchResult:
        """The rows of one setup, as the answer to a search of it alone."""
        rows = self.found.rows.take(np.flatnonzero(self.found.rows.setup == setup))
        found = Found(rows=replace(rows, setup=np.zeros(len(rows))))
        return replace(self, question=self.question.alone(setup), found=found)

    @cached_property
    def rows(self) -> Rows:
        """The rows kept, the recommended one first, then by objective; where none fits at the accepted risk, the most likely."""
        return recommended_first(self.found.rows) if len(self.found.rows) else self.found.surest

    @cached_property
    def groups(self) -> Array:
        """The group of each of ``rows``, 0 = the best."""
        return groups_of(self.rows.value)

    @cached_property
    def group_sizes(self) -> list[int]:
        """How many layouts fit and keep the limits in each of the best groups."""
        steps = np.array(sorted(self.found.counts))
        number = np.zeros(NUM_GROUPS, dtype=int)
        np.add.at(number, groups_of_steps(steps).astype(np.intp), [self.found.counts[step] for step in steps.tolist()])
        return [int(n) for n in number]

    def to_frame(self) -> pd.DataFrame:
        """The best layouts, the front and the best of every cluster as a table, SI units, best first."""
        return frame(self.question, self.rows, self.summary())

    def summary(self) -> dict[str, Any]:
        """What was searched: sizes and rejections, plain values for JSON."""
        return {**summary(self.question, self.found, self.size, self.complete), "boldest": self._boldest()}

    @cached_property
    def bold_ratio(self) -> Ratio | None:
        """Time of the boldest layout that may fit over that of the recommended one; None where nothing bolder is faster."""
        bold = self.found.boldest
        if not len(bold) or not len(self.found.rows) or float(bold.value[0]) >= float(self.rows.value.min()):
            return None
        return times_over(self.question, bold, self.rows)[0]

    def _boldest(self) -> dict[str, Any] | None:
        if self.bold_ratio is None:
            return None
        bold = self.found.boldest
        return {
            "layout": bold.layouts.row(0).label,
            "fit_probability": float(bold.fit_probability[0]),
            "time_over_first": self.bold_ratio.to_dict(),
        }
