"""How sure: 90 % intervals from how far off predictions were of runs whose source the fit had not seen.

``planner fit`` leaves out whole sources and predicts their runs; the log ratios of measured to predicted are in
``catalog/held_out.parquet``, the hierarchical model of them in ``catalog/uncertainty.toml`` (hierarchy.py, effects.py). Its
prediction for a new source is the interval. Serving's figures take theirs from classes of residuals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from planner.common.arrays import Array, Number
from planner.common.files import State, state_of
from planner.common.message import Message, join_messages
from planner.common.spec import Spec, read_table
from planner.uncertainty.effects import Standing, standing
from planner.uncertainty.subject import Kind, Metric, Subject
from planner.workload.framework import lineage

__all__ = [
    "Interval", "Kind", "Member", "Metric", "ResidualClass", "Subject", "bounding_factors", "bounds", "interval",
    "interval_of", "load_residuals", "num_runs", "probability_below", "student_below", "student_quantile",
]  # fmt: skip
LEVEL = 0.90
NORMAL_95 = 1.6448536269514722
"""The 95 % point of the standard normal distribution."""
ENOUGH = 10
"""Runs that a class needs for an interval of its own."""
FEWEST_EFFECTIVE = 8.0
"""Runs that a class counts as at least, however alike they err: assumed, for between few models the likeness is hardly known."""
BEYOND = 2.0
"""GPUs or parameters beyond the largest measured by more than this factor (or below the smallest) are extrapolated."""
WIDENING = 1.5
"""Factor on the half-width of an extrapolated interval, in logarithms: assumed."""


class ResidualClass(Spec):
    """Left-out residuals of one class of runs: log(measured / predicted), its 5 % and 95 % points and the sizes covered.

    Empty ``framework``, ``curves``, ``family``, ``precision`` (of weights in serving memory) or ``nodes`` = any.
    """

    metric: Metric
    framework: str = ""
    curves: str = ""
    family: str = ""
    precision: str = ""
    nodes: Literal["", "one", "several"] = ""
    rows: int
    lower: float
    upper: float
    fewest_gpus: int
    most_gpus: int
    fewest_parameters: float
    most_parameters: float


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its 90 % bounds and how it came about; ``why`` in words."""

    lower: float
    expected: float
    upper: float
    provenance: Kind = "fitted"
    why: str = ""

    def scaled(self, factor: float) -> "Interval":
        """The interval of ``factor`` times the value: dollars from seconds."""
        return Interval(
            lower=self.lower * factor,
            expected=self.expected * factor,
            upper=self.upper * factor,
            provenance=self.provenance,
            why=self.why,
        )

    def inverse(self, numerator: float) -> "Interval":
        """The interval of ``numerator`` over the value: tokens per second from seconds."""
        return Interval(
            lower=numerator / self.upper,
            expected=numerator / self.expected,
            upper=numerator / self.lower,
            provenance=self.provenance,
            why=self.why,
        )

    def with_factor(self, lower: float, upper: float) -> "Interval":
        """The interval of the value times an independent factor whose own 90 % interval around 1 is (lower, upper).

        Logarithms are taken as normal on either side: reaches add as squares, so a wider factor never narrows the product.
        """
        if not self.lower > 0.0:
            return self
        down = math.hypot(math.log(self.expected / self.lower), math.log(1.0 / lower))
        up = math.hypot(math.log(self.upper / self.expected), math.log(upper))
        return replace(self, lower=self.expected * math.exp(-down), upper=self.expected * math.exp(up))

    def probability_below(self, limit: Number) -> Number:
        """Probability that the true value is at most ``limit``: of one limit or of an array of them.

        The logarithm of the true value follows Student's t with 2 degrees of freedom whose 5 % and 95 % points are the two
        bounds: P = T(2.920 (2 ln(limit) - ln(lower) - ln(upper)) / (ln(upper) - ln(lower))). So it is 0.95 exactly where the
        limit is the upper bound. Limits and bounds share a unit and are positive; a limit of 0 has probability 0. An interval
        without width gives 0 or 1. Source: measured peaks of memory, each predicted without its source, lie so around the
        prediction; with a normal law too few of them are near it, and too few far off (docs/accuracy.md). So do the 211 measured
        peaks of serving, whose bounds are those of their class: of the 50, 95 and 98 % said, 47, 94 and 98 % lie inside.
        """
        room = np.asarray(limit, dtype=float)
        with np.errstate(divide="ignore"):
            above = 2.0 * np.log(room) - np.log(self.lower) - np.log(self.upper)
        width = float(np.log(self.upper) - np.log(self.lower))
        found = student_below(STUDENT_95 * above / width) if width > 0.0 else np.where(above >= 0.0, 1.0, 0.0)
        return np.asarray(found, dtype=float) if np.ndim(limit) else float(found)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self)


def student_below(x: Number) -> Array:
    """Student's t with 2 degrees of freedom, F(x) = (1 + x / sqrt(2 + x^2)) / 2, by roots and quotients alone, so the same bits
    for one value and for a column; of the smaller tail first, 1 / (s (s + |x|)) with s = sqrt(2 + x^2), so it never falls."""
    root = np.sqrt(2.0 + np.square(x))
    tail = 1.0 / (root * (root + np.abs(x)))
    return np.asarray(np.where(np.less(x, 0.0), tail, 1.0 - tail))


def student_quantile(probability: float, degrees: int) -> float:
    """t below which Student's t of a whole number of degrees lies with a probability above 0 and below 1.

    With t = sqrt(n) tan(theta) the distribution is a finite sum in theta (Abramowitz and Stegun 26.7.3, 26.7.4), halved until
    nothing is left between. As scipy.special.stdtrit, whose import takes longer than a plan.

    >>> round(student_quantile(0.95, 2), 3), student_quantile(0.5, 2)
    (2.92, 0.0)
    """
    if probability < 0.5:
        return -student_quantile(1.0 - probability, degrees)
    low, high = 0.0, math.pi / 2.0
    while low < (middle := (low + high) / 2.0) < high:
        low, high = (middle, high) if _within(middle, degrees) < 2.0 * probability - 1.0 else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _within(theta: float, degrees: int) -> float:
    """Probability that abs(t) is below sqrt(n) tan(theta)."""
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, degrees, 2):
        total += term
        term *= k / (k + 1) * cosine**2
    return 2.0 / math.pi * (theta + sine * total) if odd else sine * total


DEGREES = 2
"""Of Student's t where the logarithm of a true value lies around its prediction."""
STUDENT_95 = student_quantile(0.95, DEGREES)
"""Its 95 % point."""


def probability_below(limit: Number, value: Number, metric: Metric, subject: Subject) -> Number:
    """Probability that the truth is at most ``limit`` where ``value`` is predicted: of one value or an array of them.

    With ``metric`` "memory", a predicted peak of bytes and the usable bytes of the GPU: the probability that it fits.
    """
    return interval(1.0, metric, subject).probability_below(np.divide(limit, value))


def load_residuals(path: Path) -> tuple[ResidualClass, ...]:
    """The classes, narrowest first within a metric."""
    return _residuals(path, state_of(str(path)))


@lru_cache(maxsize=1024)
def _residuals(path: Path, state: State) -> tuple[ResidualClass, ...]:
    return tuple(
        ResidualClass.build(c, Message("{0}: class {1}", path, i)) for i, c in enumerate(read_table(path)["class"], start=1)
    )


def interval(value: float, metric: Metric, subject: Subject, classes: Sequence[ResidualClass] | None = None) -> Interval:
    """The 90 % interval of a predicted ``value``: that of a source never seen, by the hierarchical model (effects.py).

    It always holds the value itself. Serving's figures have ``classes`` of residuals instead.
    """
    if classes is not None:
        return _interval_of_class(value, metric, subject, classes)
    return interval_of(value, standing(metric, subject))


def interval_of(value: float, found: Standing) -> Interval:
    """The 90 % interval of a predicted ``value`` of which that is known."""
    lower, upper = bounding_factors(found)
    return Interval(
        lower=value * float(lower), expected=value, upper=value * float(upper), provenance=found.provenance, why=found.why
    )


def bounding_factors(found: Standing) -> tuple[Number, Number]:
    """What a predicted value is multiplied by to get its two bounds; they hold the value itself."""
    lower, upper = found.mean - NORMAL_95 * found.deviation, found.mean + NORMAL_95 * found.deviation
    return np.exp(np.minimum(lower, 0.0)), np.exp(np.maximum(upper, 0.0))


def _interval_of_class(value: float, metric: Metric, subject: Subject, classes: Sequence[ResidualClass]) -> Interval:
    """The interval by the narrowest class with enough runs: value x exp(left-out residuals of its class)."""
    known = [c for c in classes if c.metric == metric]
    found = min((c for c in known if _holds(c, subject)), key=lambda c: _distance(c, subject))
    reasons = _outside(found, subject)
    widening = WIDENING if reasons else 1.0
    middle, half = (found.upper + found.lower) / 2.0, (found.upper - found.lower) / 2.0
    lower, upper = middle - widening * half, middle + widening * half
    label = " ".join(x for x in (found.framework, found.curves, found.family) if x) or "all frameworks and GPUs"
    return Interval(
        lower=value * float(np.exp(min(lower, 0.0))),
        expected=value,
        upper=value * float(np.exp(max(upper, 0.0))),
        provenance="extrapolated" if reasons else "fitted",
        why=join_messages("; ", reasons) if reasons else _rows_of(found, label),
    )


def _rows_of(c: ResidualClass, label: str) -> str:
    """The runs of a class in words."""
    if c.precision == "16-bit":
        return Message("{0} measured runs of {1} with weights of known bytes", c.rows, label)
    if c.precision:
        return Message("{0} measured runs of {1} with weights quantized afterwards", c.rows, label)
    return Message("{0} measured runs of {1}", c.rows, label)


def _distance(c: ResidualClass, s: Subject) -> tuple[int, bool, int]:
    """Smaller is nearer: what is shared, then several sizes of models before one, then the framework itself before its bases."""
    shared = sum(1 for name in (c.framework, c.curves, c.family, c.precision, c.nodes) if name)
    return -shared, c.fewest_parameters == c.most_parameters, lineage(s.framework).index(c.framework) if c.framework else 0


def _holds(c: ResidualClass, s: Subject) -> bool:
    stack = not c.framework or c.framework in lineage(s.framework)
    nodes = not c.nodes or c.nodes == ("one" if s.num_nodes == 1 else "several")
    alike = c.curves in ("", s.curves) and c.family in ("", s.family) and c.precision in ("", s.precision)
    return stack and nodes and alike


def _outside(c: ResidualClass, s: Subject) -> list[str]:
    """Why the subject lies outside what the class has seen; empty when it does not."""
    reasons: list[str] = []
    if c.metric == "serving_memory":  # of one GPU, by no fitted constant: any engine is like those measured
        pass
    elif not c.framework:
        reasons.append(Message("few or no measured runs of {0} like this", s.framework))
    elif not c.curves:
        reasons.append(Message("few or no measured runs of {0} on {1} GPUs like this", s.framework, s.curves))
    if s.num_gpus > BEYOND * c.most_gpus and c.metric != "serving_memory":
        reasons.append(Message("{0} GPUs, at most {1} were measured", s.num_gpus, c.most_gpus))
    if s.parameters > BEYOND * c.most_parameters:
        reasons.append(
            Message(
                "{0:,.4g}B parameters, at most {1:,.4g}B were measured",
                s.parameters / 1e9,
                c.most_parameters / 1e9,
            )
        )
    if s.parameters < c.fewest_parameters / BEYOND:
        reasons.append(
            Message(
                "{0:,.4g}B parameters, at least {1:,.4g}B were measured",
                s.parameters / 1e9,
                c.fewest_parameters / 1e9,
            )
        )
    return reasons


def bounds(residuals: Sequence[float], num_runs: float | None = None) -> tuple[float, float]:
    """Lower and upper log factors that hold the next value with 90 %: split-conformal order statistics, two-sided.

    With n exchangeable residuals the k-th smallest and largest, k = floor((n + 1) 0.05), hold 90 % or more (Vovk et al.
    2005); n is ``num_runs`` where several residuals are of one run or runs err alike, and k is then that part of them. Too
    few for that: the mean and Student's t, with the sample's spread.
    """
    r = np.sort(np.asarray(residuals, dtype=float))
    n = float(len(r)) if num_runs is None else num_runs
    k = float(np.floor((n + 1.0) * (1.0 - LEVEL) / 2.0 * (1.0 + 1e-12)))  # 1 - 0.9 is a little less than a tenth
    if k >= 1.0:
        at = max(int(np.ceil(k / n * len(r) * (1.0 - 1e-12))), 1)
        return float(r[at - 1]), float(r[len(r) - at])
    from scipy.special import stdtrit  # a third of a second

    half = float(stdtrit(n - 1.0, 0.5 + LEVEL / 2.0) * np.std(r, ddof=1) * np.sqrt(1.0 + 1.0 / n))
    return float(np.mean(r)) - half, float(np.mean(r)) + half


Member = tuple[Subject, float]


def num_runs(members: Sequence[Member]) -> int:
    """Runs among residuals: a run has one for each way of leaving it out, of the same subject."""
    return len({id(subject) for subject, _ in members})
