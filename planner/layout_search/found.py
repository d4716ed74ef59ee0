"""What a search keeps while it goes on, and why layouts fell away."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from planner.common.arrays import Array
from planner.layout_search.ranking import NUM_GROUPS, STEPS, Rows, joined, no_rows, pruned, ranked

NO_MEMORY, NO_HOST_MEMORY = "does not fit in the GPU's memory", "offloaded bytes do not fit in the host's memory"


TOO_RISKY = "is less likely to fit than asked for"


TOO_LATE, TOO_DEAR = "misses the deadline", "costs more than the budget"


@dataclass
class Found:
    """What a search has found so far.

    ``rows``: layouts that fit at the accepted risk and keep the limits; ``counts``: how many there are by step of the
    objective (``ranking.steps_of``). ``boldest``, ``surest``, ``leanest``: one row each or none: the fastest and the most likely
    of those that fit by the prediction itself but at more risk, and, where there is none of all these, the one that needs least;
    ``starved``: the one that needs least of those that move more to the host than it holds.
    ``least`` holds the least values met, whatever the limits.
    """

    rows: Rows = field(default_factory=no_rows)
    boldest: Rows = field(default_factory=no_rows)
    surest: Rows = field(default_factory=no_rows)
    leanest: Rows = field(default_factory=no_rows)
    starved: Rows = field(default_factory=no_rows)
    counts: Counter[float] = field(default_factory=Counter)
    num_layouts: int = 0
    num_possible: int = 0
    num_fitting: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    least: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, values: Array) -> None:
        """Remember the least value met."""
        if values.size:
            self.least[name] = min(self.least.get(name, np.inf), float(values.min()))

    def count(self, steps: Array) -> None:
        """Count rows by step, and forget steps beyond the groups that are shown."""
        for step, number in zip(*np.unique(steps, return_counts=True), strict=True):
            self.counts[float(step)] += int(number)
        if self.counts:
            least = min(self.counts)
            beyond = least + NUM_GROUPS * STEPS
            self.counts = Counter({step: n for step, n in self.counts.items() if step == least or step < beyond})

    def merge(self, other: Found, top: int) -> None:
        """Take in what another part of the search found; the order of the parts does not matter."""
        self.rows = pruned(joined([self.rows, other.rows]), top)
        self.boldest = first_by(joined([self.boldest, other.boldest]), "value")
        self.surest = first_by(joined([self.surest, other.surest]), "fit_probability", largest=True)
        self.leanest = first_by(joined([self.leanest, other.leanest]), "peak_bytes")
        self.starved = first_by(joined([self.starved, other.starved]), "peak_bytes")
        self.counts.update(other.counts)
        self.count(np.zeros(0))
        self.num_layouts += other.num_layouts
        self.num_possible += other.num_possible
        self.num_fitting += other.num_fitting
        self.rejected.update(other.rejected)
        for name, value in other.least.items():
            self.least[name] = min(self.least.get(name, np.inf), value)


def first_by(rows: Rows, name: str, largest: bool = False) -> Rows:
    """The row with the least (or largest) of a column, the best ranked of equals; no row of none."""
    if len(rows) < 2:
        return rows
    rows = rows.take(ranked(rows))
    column = getattr(rows, name)
    return rows.take(np.argsort(-column if largest else column, kind="stable")[:1])
