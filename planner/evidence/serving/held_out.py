"""Held-out serving measurements as rows of the hierarchical model of errors (uncertainty/hierarchy.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.evidence.fit import Vector
from planner.evidence.held_out import COORDINATES, FIELDS, Held, fit_held
from planner.evidence.serving.runs import ServingRun
from planner.serving.intervals import subject_of
from planner.uncertainty.interval import Metric


def fit_serving_held(
    runs: Sequence[ServingRun], left_out: Vector, in_sample: Vector, figures: Mapping[Metric, tuple[str, ...]]
) -> tuple[Held, ...]:
    """The model of each metric that was measured by two sources or more.

    ``left_out``, ``in_sample``: log(predicted / measured) of the runs without and with their source; a metric's rows are in the
    order of the runs.
    """
    import pandas as pd

    found = []
    for metric, names in figures.items():
        rows = [
            _row(run, metric, -float(out), -float(seen))
            for run, out, seen in zip(runs, left_out, in_sample, strict=True)
            if run.figure in names
        ]
        if len({row["source"] for row in rows}) > 1:
            found.append(fit_held(pd.DataFrame(rows), metric))
    return tuple(found)


def _row(run: ServingRun, metric: Metric, residual: float, in_sample: float) -> dict[str, Any]:
    subject = subject_of(run.times.setting, run.figure, run.batch, run.prompt + run.output)
    return {
        "metric": metric,
        "id": run.id,
        "source": run.columns["campaign"] or "no source",
        **{name: getattr(subject, name) for name in FIELDS},
        **dict(zip(COORDINATES, subject.coordinates, strict=True)),
        "residual": residual,
        "in_sample": in_sample,
    }
