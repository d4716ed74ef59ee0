"""The sets of runs that constants are fitted to, apart from each other: training, and fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planner.common.errors import PlannerError, near
from planner.evidence.fit import CONSTANTS

CATALOG = CONSTANTS.parent


@dataclass(frozen=True, kw_only=True)
class FitSet:
    """Which constants a fit may change; a set leaves the other's constants and held-out runs alone."""

    name: str
    title: str
    constants: Path
    apart: bool = False  # beside the training set


FIT_SETS = {
    "training": FitSet(name="training", title="Accuracy", constants=CONSTANTS),
    "finetune": FitSet(
        name="finetune", title="Accuracy of fine-tuning", constants=CATALOG / "fit-finetune.toml", apart=True,
    ),
}  # fmt: skip


def fit_set(name: str) -> FitSet:
    """The set of that name; PlannerError for an unknown one."""
    if name not in FIT_SETS:
        raise PlannerError("--set {0}: {1}", name, near(name, FIT_SETS))
    return FIT_SETS[name]
