"""Each serving measurement beside its prediction with the interval, and the errors by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from planner.common.errors import PlannerError
from planner.evidence.measured_runs import Refusal
from planner.evidence.serving.check import check, predicted
from planner.evidence.serving.runs import TITLES, ServingRun
from planner.serving.intervals import classes, remembered, subject_of
from planner.uncertainty.interval import Metric, interval

if TYPE_CHECKING:
    pass

METRIC: dict[str, Metric] = {
    "decode": "decode", "batched": "decode", "prefill": "prefill", "saturated": "throughput", "memory": "serving_memory",
    "loop_token": "decode", "loop_first": "prefill",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ServingPrediction:
    """One figure, measured and predicted: seconds, or bytes where ``figure`` is memory."""

    id: str
    figure: str
    engine: str
    group: str
    measured: float
    predicted: float
    lower: float
    upper: float
    provenance: str
    why: str

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1.0

    @property
    def inside(self) -> bool:
        """Whether the measured value lies in the 90 % interval."""
        return self.lower <= self.measured <= self.upper

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "error": self.error, "inside": self.inside}


def predict_runs(runs: Sequence[ServingRun], by: Sequence[str]) -> tuple[list[ServingPrediction], list[Refusal]]:
    """Predict every run; those whose batch does not fit are refused with the reason."""
    found: list[ServingPrediction] = []
    refused: list[Refusal] = []
    for run in runs:
        try:
            check(run)
            value = predicted(run)
        except PlannerError as error:
            refused.append(Refusal(id=run.id, reason=str(error)))
            continue
        setting = run.times.setting
        metric = METRIC[run.figure]
        if metric == "serving_memory":
            sure = interval(value, metric, remembered(setting), classes())
        else:
            sure = interval(value, metric, subject_of(setting, run.figure, run.batch, run.prompt + run.output))
        own = {**run.columns, "engine": setting.engine.name, "figure": run.figure}
        found.append(
            ServingPrediction(
                id=run.id,
                figure=TITLES[run.figure],
                engine=setting.engine.name,
                group=", ".join(own.get(c, "") for c in by),
                measured=run.measured,
                predicted=value,
                lower=sure.lower,
                upper=sure.upper,
                provenance=sure.provenance,
                why=sure.why,
            )
        )
    return found, refused
