"""Classes of serving residuals: as for training, but a class needs several models, because a question is often of a new one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.uncertainty.classify import CLASSES, MEMORY_CLASSES, class_key, class_table, effective_runs
from planner.uncertainty.interval import ENOUGH, Member, Metric, bounds, num_runs

ENOUGH_MODELS = 3
"""Models that a class needs for an interval of its own."""


def classify(
    metric: Metric, residuals: Sequence[Member], likes: Sequence[tuple[str, str]], unseen: Sequence[float]
) -> list[dict[str, Any]]:
    """Classes with enough measurements of enough models, narrow ones first; everything with ``unseen`` last.

    ``residuals``: log(measured / predicted) of measurements left out with their model; ``likes``: (model, source) of each,
    whose measurements err alike; ``unseen``: of measurements left out with their source.
    """
    tables: list[dict[str, Any]] = []
    keys = [class_key(subject) for subject, _ in residuals]
    for names in MEMORY_CLASSES if metric == "serving_memory" else CLASSES:
        groups: dict[tuple[str, ...], list[int]] = {}
        for i, key in enumerate(keys):
            groups.setdefault(tuple(key[n] for n in names), []).append(i)
        for of_class, at in sorted(groups.items()):
            members = [residuals[i] for i in at]
            few = num_runs(members) < ENOUGH or len({likes[i][0] for i in at}) < ENOUGH_MODELS
            if few and names:
                continue
            values = list(unseen) if not names else [value for _, value in members]
            if len(values) < 2:  # one value has no spread
                continue
            low, high = bounds(values, effective_runs(members, [likes[i] for i in at]) if names else None)
            tables.append(class_table(metric, dict(zip(names, of_class, strict=True)), members, low, high))
    return tables


def residuals_text(classes: Sequence[dict[str, Any]], source: str) -> str:
    """``catalog/serving_residuals.toml``: one table a class."""
    lines = [
        f"# Written by {source}.",
        "# log(measured / predicted) of runs that the fit had not seen: its 5 % and 95 % points by class, narrow classes first;",
        "# an empty key stands for any. Memory has no fitted constant: its residuals are those of the model as it is.",
    ]
    for table in classes:
        lines += ["", "[[class]]", *(f"{k} = {_toml(v)}" for k, v in table.items() if v != "")]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
