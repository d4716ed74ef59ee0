"""How far GPU-hours of published runs lie from modelled ones."""

import math
from functools import cache
from statistics import NormalDist
from typing import Annotated

from pydantic import Field

from planner.common import data
from planner.common.spec import Spec, read_table
from planner.uncertainty.interval import student_quantile

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


@cache
def field_factor() -> FieldFactor:
    """The factor, fitted on all runs of the catalog (planner/evidence/published_runs.py)."""
    return FieldFactor.build(read_table(CATALOG)["field"], str(CATALOG))
