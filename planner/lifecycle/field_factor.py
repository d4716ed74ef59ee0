"""How far GPU-hours of published runs lie from modelled ones."""

from __future__ import annotations

import math
from functools import cache
from typing import Annotated

from pydantic import Field

from planner.common import data
from planner.common.spec import Spec, read_table

CATALOG = data.CATALOG / "published_runs.toml"


class FieldFactor(Spec):
    """Published GPU-hours over modelled ones: the mean logarithm's exponential, how runs spread around it beyond what the
    planner's own intervals explain, the error of the mean, and of how many runs."""

    factor: Annotated[float, Field(gt=0)]
    log_spread: Annotated[float, Field(ge=0)]
    log_error: Annotated[float, Field(ge=0)]
    num_runs: Annotated[int, Field(gt=0, strict=True)]

    @property
    def predictive_spread(self) -> float:
        """Spread of one more run beside its own interval: sqrt(tau^2 + se^2)."""
        return math.hypot(self.log_spread, self.log_error)


@cache
def field_factor() -> FieldFactor:
    """The factor, fitted on all runs of the catalog (planner/evidence/published_runs.py)."""
    return FieldFactor.build(read_table(CATALOG)["field"], str(CATALOG))
