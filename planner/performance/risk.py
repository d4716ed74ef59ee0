"""Whether a job fits in memory, as a probability: the one rule by which every command recommends a layout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.common.arrays import Array, Mask
from planner.common.errors import PlannerError
from planner.hardware.cluster import usable_bytes
from planner.uncertainty.effects import Effects, standing
from planner.uncertainty.interval import DEGREES, STUDENT_95, Interval, Subject, interval_of, student_quantile
from planner.uncertainty.subject import TYPICAL_MOVABLE, lever, movable_part
from planner.workload.layout import Layout
from planner.workload.question import Question

RISK = 0.05
"""Of running out of memory, that a recommended layout may take: one in twenty, the upper bound of the 90 % interval."""
MOST_RISK = 0.5


def chance(probability: float) -> str:
    """A probability for people, never rounded up to what it does not reach.

    >>> chance(0.9499), chance(0.95), chance(1.0)
    ('94.9%', '95.0%', '100%')
    """
    return "100%" if probability >= 1.0 else f"{np.floor(probability * 1000.0) / 10.0:.1f}%"


def check_risk(risk: float) -> float:
    """``risk`` as a number; PlannerError unless it lies above 0 and is at most MOST_RISK."""
    number = isinstance(risk, int | float | np.floating | np.integer) and not isinstance(risk, bool)
    if not number or not 0.0 < risk <= MOST_RISK:
        raise PlannerError(
            "risk = {0!r}: must be a probability above 0 and at most {1}; the default is {2} (fits with {3:.0%}).",
            risk,
            MOST_RISK,
            RISK,
            1.0 - RISK,
        )
    return float(risk)


@dataclass(frozen=True, kw_only=True)
class FitRule:
    """Memory of one GPU, the prediction's relative error, the accepted risk, and the part of the GPU to keep free besides.

    ``error`` is the 90 % interval of the true need over the predicted one where half of it is model states; its logarithm
    follows Student's t through the bounds (``Interval.probability_below``), and grows with the part of the need that is none
    (``uncertainty.subject.lever``): ``P(fits) = P(lever log(error) <= log(usable / need))``.
    """

    usable_bytes: float
    error: Interval
    risk: float = RISK
    headroom: float = 0.0

    def probability(self, need_bytes: Array | float, states_bytes: Array | float | None = None) -> Array:
        """Probability that a predicted need, of which so much is model states (None: half), fits; the shape of ``need_bytes``."""
        room = np.log(self.usable_bytes / np.asarray(need_bytes, dtype=float))
        return np.asarray(self.error.probability_below(np.exp(room / lever(_movable(need_bytes, states_bytes)))))

    @cached_property
    def _error_at_risk(self) -> float:
        """Logarithm of the error that is exceeded with probability ``risk``."""
        lower, upper = np.log(self.error.lower), np.log(self.error.upper)
        return float((lower + upper) / 2.0 + student_quantile(1.0 - self.risk, DEGREES) / STUDENT_95 * (upper - lower) / 2.0)

    def most_bytes(self, movable: Array | float) -> Array:
        """The largest predicted need that fits with probability 1 - ``risk`` where such a part of it is no model states: usable
        over that quantile of the error, and leaving ``headroom`` by the prediction itself."""
        sure = self.usable_bytes / np.exp(self._error_at_risk * lever(movable))
        return np.minimum(sure, self.usable_bytes * (1.0 - self.headroom))

    def holds(self, need_bytes: Array | float, states_bytes: Array | float | None = None) -> Mask:
        """Where a predicted need, of which so much is model states (None: half), fits with probability 1 - ``risk`` or more."""
        return np.asarray(need_bytes <= self.most_bytes(_movable(need_bytes, states_bytes)))


def _movable(need_bytes: Array | float, states_bytes: Array | float | None) -> Array | float:
    return TYPICAL_MOVABLE if states_bytes is None else movable_part(states_bytes, need_bytes)


def fit_rule(q: Question, risk: float = RISK, headroom: float = 0.0, known: Effects | None = None) -> FitRule:
    """The rule for a job on a cluster: the error of predicted memory depends on the layout by its model states alone.

    ``known``: the model of that error, where it is not the catalog's.
    """
    return FitRule(
        usable_bytes=usable_bytes(q.cluster),
        error=interval_of(1.0, standing("memory", Subject.of(q, Layout()), known)),
        risk=risk,
        headroom=headroom,
    )
