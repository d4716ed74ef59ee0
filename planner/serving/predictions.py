"""Each serving measurement beside its prediction with the interval, and the errors by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.errors import PlannerError
from planner.runs import Refusal
from planner.serving.certainty import classes, subject_of
from planner.serving.runs import TITLES, ServingRun
from planner.serving.validation import check, predicted
from planner.uncertainty import Metric, interval

if TYPE_CHECKING:
    from rich.console import RenderableType

METRIC: dict[str, Metric] = {
    "decode": "decode", "batched": "decode", "prefill": "prefill", "saturated": "throughput", "memory": "serving_memory",
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
        sure = interval(value, METRIC[run.figure], subject_of(setting), classes())
        own = {**run.columns, "engine": setting.engine.name, "figure": run.figure}
        found.append(ServingPrediction(
            id=run.id, figure=TITLES[run.figure], engine=setting.engine.name, group=", ".join(own.get(c, "") for c in by),
            measured=run.measured, predicted=value, lower=sure.lower, upper=sure.upper, provenance=sure.provenance, why=sure.why,
        ))  # fmt: skip
    return found, refused


def table_of(title: str, found: Sequence[ServingPrediction], refused: Sequence[Refusal]) -> RenderableType:
    """Errors by figure and group, then over each figure, then how many rows are refused and the commonest reasons."""
    from collections import Counter

    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table("figure", "group", title=f"{title}: predicted against measured", title_justify="left", pad_edge=False)
    for name in ("rows", "median error", "p90", "bias", "in 90 % interval"):
        table.add_column(name, justify="right")
    groups: dict[tuple[str, str], list[ServingPrediction]] = {}
    for p in found:
        groups.setdefault((p.figure, p.group), []).append(p)
        groups.setdefault((p.figure, "~all"), []).append(p)
    for (figure, name), members in sorted(groups.items()):
        errors = np.array([p.error for p in members])
        table.add_row(
            figure, "all" if name == "~all" else name, str(len(members)), f"{np.median(np.abs(errors)):.1%}",
            f"{np.quantile(np.abs(errors), 0.9):.0%}", f"{np.median(errors):+.1%}",
            f"{sum(p.inside for p in members)} of {len(members)}", end_section=name == "~all",
        )  # fmt: skip
    reasons = Counter(r.reason.split(";")[0] for r in refused).most_common(6)
    lines = [Text(f"{len(refused)} rows refused" + (", most because:" if reasons else ""), style="dim")]
    lines += [Text(f"  {n}: {reason}", style="dim") for reason, n in reasons]
    return Group(table, *lines)
