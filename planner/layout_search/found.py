"""What a search keeps while it goes on, and why layouts fell away."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from planner.common.arrays import Array
from planner.layout_search.ranking import Rows, joined, no_rows, pruned

if TYPE_CHECKING:
    pass


NO_MEMORY, NO_HOST_MEMORY = "does not fit in the GPU's memory", "offloaded bytes do not fit in the host's memory"


TOO_LATE, TOO_DEAR = "misses the deadline", "costs more than the budget"


@dataclass
class Found:
    """What a search has found so far; ``least`` holds the leanest, fastest and cheapest it met, whatever the limits."""

    rows: Rows = field(default_factory=no_rows)
    num_layouts: int = 0
    num_possible: int = 0
    num_fitting: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    least: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, values: Array) -> None:
        """Remember the least value met."""
        if values.size:
            self.least[name] = min(self.least.get(name, np.inf), float(values.min()))

    def merge(self, other: Found, top: int) -> None:
        """Take in what another part of the search found; the order of the parts does not matter."""
        self.rows = pruned(joined([self.rows, other.rows]), top)
        self.num_layouts += other.num_layouts
        self.num_possible += other.num_possible
        self.num_fitting += other.num_fitting
        self.rejected.update(other.rejected)
        for name, value in other.least.items():
            self.least[name] = min(self.least.get(name, np.inf), value)
