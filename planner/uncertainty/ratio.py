"""How sure the difference of two cases is: the 90 % interval of their ratio, and which of the two is the smaller.

Two cases that one user runs share most of what a prediction gets wrong: the framework, the GPU, how the cluster is set up. What
they share cancels in the ratio (``Effects.difference``), so that it is known better than either case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.uncertainty.effects import effects_of
from planner.uncertainty.interval import NORMAL_95, STUDENT_95, Metric, Subject, student_below

UNDECIDED = 0.05
"""An order is decidable where one of the two is the smaller with a probability of 1 - UNDECIDED or more."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """First over second with 90 % bounds, and the probability that the first is the smaller."""

    lower: float
    expected: float
    upper: float
    probability_first_smaller: float

    @property
    def decidable(self) -> bool:
        """Whether it is known which of the two is the smaller, with 95 %."""
        return not UNDECIDED < self.probability_first_smaller < 1.0 - UNDECIDED

    def scaled(self, factor: float) -> Ratio:
        """The ratio where the first is multiplied by ``factor`` more than the second: dollars from seconds, by their prices."""
        return ratio_of(np.log(self.expected * factor), self._moved(), self._deviation())

    def widened(self, lower: float, upper: float) -> Ratio:
        """The ratio times a factor between ``lower`` and ``upper``, of which no more is known."""
        down, up = np.log(self.lower * min(lower, 1.0)), np.log(self.upper * max(upper, 1.0))
        log_ratio = float(np.log(self.expected))
        return ratio_of(log_ratio, (down + up) / 2.0 - log_ratio, (up - down) / (2.0 * NORMAL_95))

    def _deviation(self) -> float:
        return float(np.log(self.upper / self.lower) / (2.0 * NORMAL_95))

    def _moved(self) -> float:
        return float((np.log(self.upper) + np.log(self.lower)) / 2.0 - np.log(self.expected))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "decidable": self.decidable}


def ratio(first: float, second: float, metric: Metric, of_first: Subject, of_second: Subject) -> Ratio:
    """The ratio of two predicted values, first over second; equal questions have exactly the ratio that is predicted."""
    expected = float(np.log(first / second))
    if of_first == of_second:
        return ratio_of(expected, 0.0, 0.0)
    mean, deviation = effects_of(metric).difference(of_first, of_second)
    return ratio_of(expected, mean, deviation)


def ratio_of(log_ratio: float, moved: float, deviation: float) -> Ratio:
    """A ratio from its logarithm, what is known of its error, and the standard deviation of the error.

    The bounds hold the expected ratio itself; where the deviation is 0, equal values are undecided. The probability follows
    Student's t with 2 degrees of freedom through the bounds, as ratios of measured runs do (docs/accuracy.md).
    """
    lower = min(log_ratio + moved - NORMAL_95 * deviation, log_ratio)
    upper = max(log_ratio + moved + NORMAL_95 * deviation, log_ratio)
    centre, half = (lower + upper) / 2.0, (upper - lower) / 2.0
    smaller = float(student_below(-STUDENT_95 * centre / half)) if half > 0.0 else 0.5 - 0.5 * float(np.sign(log_ratio))
    return Ratio(
        lower=float(np.exp(lower)),
        expected=float(np.exp(log_ratio)),
        upper=float(np.exp(upper)),
        probability_first_smaller=smaller,
    )
