"""The answer of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.layout_search.found import Found
from planner.layout_search.question import SearchQuestion
from planner.layout_search.table import frame, summary

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The answer of a search. ``complete`` is False when it was stopped: then ``found`` holds what it had met."""

    question: SearchQuestion
    found: Found
    size: int
    complete: bool

    def to_frame(self) -> pd.DataFrame:
        """The best layouts, the front and the best of every cluster as a table, SI units, best first."""
        return frame(self.question, self.found, self.size, self.complete)

    def summary(self) -> dict[str, Any]:
        """What was searched: sizes and rejections, plain values for JSON."""
        return summary(self.question, self.found, self.size, self.complete)
