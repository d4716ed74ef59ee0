"""Whether a job fits in memory, as a probability: the one rule by which every command recommends a layout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from planner.common.arrays import Array, Mask
from planner.common.errors import PlannerError
from planner.hardware.cluster import Cluster, usable_bytes
from planner.model.architecture import Model
from planner.uncertainty.interval import NORMAL_95, Interval, Subject, interval
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.layout import Layout

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
    if not number or not 0.0 < float(risk) <= MOST_RISK:
        raise PlannerError(
            f"risk = {risk!r}: must be a probability above 0 and at most {MOST_RISK}; the default is {RISK} (fits with "
            f"{1.0 - RISK:.0%})."
        )
    return float(risk)


@dataclass(frozen=True, kw_only=True)
class FitRule:
    """Memory of one GPU, the prediction's relative error, the accepted risk, and the part of the GPU to keep free besides.

    ``error`` is the 90 % interval of the true need over the predicted one, whose logarithm is normal:
    ``P(fits) = P(error <= usable / need)`` (``Interval.probability_below``).
    """

    usable_bytes: float
    error: Interval
    risk: float = RISK
    headroom: float = 0.0

    def probability(self, need_bytes: Array | float) -> Array:
        """Probability that a predicted need fits, 0 to 1; the shape of ``need_bytes``."""
        return np.asarray(self.error.probability_below(self.usable_bytes / np.asarray(need_bytes, dtype=float)))

    @cached_property
    def most_bytes(self) -> float:
        """The largest predicted need that fits with probability 1 - ``risk``, usable over that quantile of the error, and
        leaves ``headroom`` by the prediction itself."""
        lower, upper = np.log(self.error.lower), np.log(self.error.upper)
        z = NormalDist().inv_cdf(1.0 - self.risk) / NORMAL_95
        sure = self.usable_bytes / float(np.exp((lower + upper) / 2.0 + z * (upper - lower) / 2.0))
        return min(sure, self.usable_bytes * (1.0 - self.headroom))

    def holds(self, need_bytes: Array | float) -> Mask:
        """Where a predicted need fits with probability 1 - ``risk`` or more."""
        return np.asarray(need_bytes <= self.most_bytes)


def fit_rule(
    model: Model, cluster: Cluster, framework: Framework, job: Job, risk: float = RISK, headroom: float = 0.0
) -> FitRule:
    """The rule for a job on a cluster: the error of predicted memory does not depend on the layout."""
    return FitRule(
        usable_bytes=usable_bytes(cluster),
        error=interval(1.0, "memory", Subject.of(model, cluster, framework, job, Layout())),
        risk=risk,
        headroom=headroom,
    )
