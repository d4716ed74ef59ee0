"""How far GPU-hours of published runs lie from modelled ones."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist
from typing import Annotated

from pydantic import Field

from planner.common import data
from planner.common.spec import Spec, read_table

CATALOG = data.CATALOG / "published_runs.toml"
ABOVE = 0.95
"""Probability below the upper end of a 90 % interval."""


class FieldFactor(Spec):
    """Published GPU-hours over modelled ones: the mean logarithm's exponential, how runs spread around it beyond what the
    planner's own intervals explain, the error of the mean, and of how many runs of how many organisations."""

    factor: Annotated[float, Field(gt=0)]
    log_spread: Annotated[float, Field(ge=0)]
    log_error: Annotated[float, Field(ge=0)]
    num_runs: Annotated[int, Field(gt=0, strict=True)]
    num_organisations: Annotated[int, Field(gt=0, strict=True)]

    @property
    def predictive_spread(self) -> float:
        """Spread of one more run beside its own interval: t sqrt(tau^2 + se^2) / z.

        t and z are the 95 % points of Student's t with k - 2 degrees of freedom and of the normal distribution: tau is known from
        k organisations only (Higgins, Thompson and Spiegelhalter 2009, section 4.1). Of fewer than three it is one degree.
        """
        few = student_quantile(ABOVE, max(self.num_organisations - 2, 1)) / NormalDist().inv_cdf(ABOVE)
        return few * math.hypot(self.log_spread, self.log_error)


def student_quantile(probability: float, degrees: int) -> float:
    """t below which Student's t of a whole number of degrees lies with a probability between 0.5 and 1.

    With t = sqrt(n) tan(theta) the distribution is a finite sum in theta (Abramowitz and Stegun 26.7.3, 26.7.4), halved until
    nothing is left between. As scipy.special.stdtrit, whose import takes longer than a plan.
    """
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


@cache
def field_factor() -> FieldFactor:
    """The factor, fitted on all runs of the catalog (planner/evidence/published_runs.py)."""
    return FieldFactor.build(read_table(CATALOG)["field"], str(CATALOG))
