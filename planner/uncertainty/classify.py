"""Classes of runs that share their residuals."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from planner.uncertainty.interval import FEWEST_EFFECTIVE, Member, Metric, Subject, num_runs

CLASSES: tuple[tuple[str, ...], ...] = (
    ("framework", "curves", "family", "nodes"),
    ("framework", "curves", "family"),
    ("framework", "curves"),
    ("framework",),
    (),
)
"""From narrow to wide: what the runs of a class share."""


MEMORY_CLASSES: tuple[tuple[str, ...], ...] = (("framework", "precision"), ("precision",), ())
"""Of serving memory: it is that of one GPU of whatever type. Weights of 16 bit are counted exactly, and so are those in the
format that the checkpoint states; of others it is not always known which parts stay wide, and what kernels unpack."""


def effective_runs(members: Sequence[Member], likes: Sequence[Hashable]) -> float:
    """How many runs that err independently the members are worth: n / (1 + (m - 1) rho), Kish 1965's design effect.

    m is the size of a run's group of likes in the mean over runs, rho the part of the variance that lies between groups, by
    one-way analysis of variance of the runs' mean residuals; at least FEWEST_EFFECTIVE, at most the runs.
    """
    runs: dict[int, list[float]] = {}
    groups: dict[Hashable, set[int]] = {}
    for (subject, value), like in zip(members, likes, strict=True):
        runs.setdefault(id(subject), []).append(value)
        groups.setdefault(like, set()).add(id(subject))
    sizes = np.array([len(group) for group in groups.values()], dtype=float)
    n, count = float(sizes.sum()), len(groups)
    if count < 2 or count == n:
        return n if count == n else min(n, FEWEST_EFFECTIVE)
    values = [np.array([np.mean(runs[run]) for run in sorted(group)]) for group in groups.values()]
    centre = np.concatenate(values).mean()
    between = sum(len(v) * (v.mean() - centre) ** 2 for v in values) / (count - 1)
    within = sum(((v - v.mean()) ** 2).sum() for v in values) / (n - count)
    typical = (n - (sizes**2).sum() / n) / (count - 1)
    scale = between + (typical - 1.0) * within
    rho = max((between - within) / scale, 0.0) if scale > 0 else 0.0
    return float(min(max(n / (1.0 + ((sizes**2).sum() / n - 1.0) * rho), FEWEST_EFFECTIVE), n))


def class_key(s: Subject) -> Mapping[str, str]:
    """What tells the class of a subject."""
    return {
        "framework": s.framework,
        "curves": s.curves,
        "family": s.family,
        "precision": s.precision,
        "nodes": "one" if s.num_nodes == 1 else "several",
    }


def class_table(
    metric: Metric, key: Mapping[str, str], members: Sequence[tuple[Subject, float]], low: float, high: float
) -> dict[str, Any]:
    """One class as a table for a residuals file."""
    subjects = [subject for subject, _ in members]
    gpus, sizes = [s.num_gpus for s in subjects], [s.parameters for s in subjects]
    return {
        "metric": metric,
        **key,
        "rows": num_runs(members),
        "lower": round(low, 4),
        "upper": round(high, 4),
        "fewest_gpus": min(gpus),
        "most_gpus": max(gpus),
        "fewest_parameters": float(f"{min(sizes):.4g}"),
        "most_parameters": float(f"{max(sizes):.4g}"),
    }
