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
from planner.model.parameters import parameters_total
from planner.uncertainty.interval import LEVEL, Interval, Subject, interval
from planner.workload.framework import Framework

RISK = 0.05
"""Of running out of memory, that a recommended layout may take: one in twenty, the upper bound of the 90 % interval."""
MOST_RISK = 0.5
_NORMAL = NormalDist()
_BOUND = _NORMAL.inv_cdf(0.5 + LEVEL / 2.0)


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

    The logarithm of (true need / predicted need) is normal on either side of the prediction, with the bounds of ``error``, the
    90 % interval of a predicted byte, as its 5 % and 95 % points:
    ``P(fits) = Phi(z ln(usable / need) / ln(bound))``, z = 1.645.
    """

    usable_bytes: float
    error: Interval
    risk: float = RISK
    headroom: float = 0.0

    def probability(self, need_bytes: Array | float) -> Array:
        """Probability that a predicted need fits, 0 to 1; the shape of ``need_bytes``."""
        room = np.log(self.usable_bytes / np.asarray(need_bytes, dtype=float))
        above, below = np.log(self.error.upper / self.error.expected), np.log(self.error.expected / self.error.lower)
        side = np.where(room >= 0, above, below)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(room == 0, 0.0, _BOUND * room / side)
        return np.asarray(np.vectorize(_NORMAL.cdf, otypes=[float])(z))

    @cached_property
    def most_bytes(self) -> float:
        """The largest predicted need that fits with probability 1 - ``risk``, usable over that quantile of the error, and
        leaves ``headroom`` by the prediction itself."""
        z = _NORMAL.inv_cdf(1.0 - self.risk) / _BOUND
        sure = self.usable_bytes / float((self.error.upper / self.error.expected) ** z)
        return min(sure, self.usable_bytes * (1.0 - self.headroom))

    def holds(self, need_bytes: Array | float) -> Mask:
        """Where a predicted need fits with probability 1 - ``risk`` or more."""
        return np.asarray(need_bytes <= self.most_bytes)


def fit_rule(model: Model, cluster: Cluster, framework: Framework, risk: float = RISK, headroom: float = 0.0) -> FitRule:
    """The rule for a model and stack on a cluster."""
    return FitRule(
        usable_bytes=usable_bytes(cluster),
        error=interval(1.0, "memory", subject_of(model, cluster, framework)),
        risk=risk,
        headroom=headroom,
    )


def subject_of(model: Model, cluster: Cluster, framework: Framework) -> Subject:
    """What the interval of a training prediction depends on."""
    return Subject(
        framework=framework.name,
        curves=cluster.accelerator.curves,
        family=model.family,
        num_nodes=cluster.num_nodes,
        num_gpus=cluster.num_gpus,
        parameters=float(parameters_total(model)),
    )
