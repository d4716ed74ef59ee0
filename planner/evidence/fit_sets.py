"""The sets of runs that constants are fitted to, apart from each other: training, and fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planner.common.errors import PlannerError, near
from planner.evidence.fit import CONSTANTS
from planner.uncertainty.interval import RESIDUALS, TUNING_RESIDUALS

CATALOG = CONSTANTS.parent


@dataclass(frozen=True, kw_only=True)
class FitSet:
    """Which constants a fit may change and where its residuals go; a set leaves the other's files alone."""

    name: str
    title: str
    constants: Path
    residuals: Path
    apart: bool = False  # classes of stacks that the training set knows, or of all stacks, stay out


FIT_SETS = {
    "training": FitSet(name="training", title="Accuracy", constants=CONSTANTS, residuals=RESIDUALS),
    "finetune": FitSet(
        name="finetune", title="Accuracy of fine-tuning", constants=CATALOG / "fit-finetune.toml", residuals=TUNING_RESIDUALS,
        apart=True,
    ),
}  # fmt: skip


def fit_set(name: str) -> FitSet:
    """The set of that name; PlannerError for an unknown one."""
    if name not in FIT_SETS:
        raise PlannerError(f"--set {name}: {near(name, FIT_SETS)}")
    return FIT_SETS[name]
