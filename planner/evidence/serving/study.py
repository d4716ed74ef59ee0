"""The accuracy study of serving behind ``planner fit serving.csv``: fit, leave groups out, intervals and their coverage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from planner.common.errors import PlannerError
from planner.evidence.fit import Fit, Vector, fit, folds, leave_out, thinned
from planner.evidence.held_out import Held, said_by_others
from planner.evidence.measured_runs import Refusal, Run
from planner.evidence.serving.check import check, predicted
from planner.evidence.serving.fit import Predictor, load_constants
from planner.evidence.serving.held_out import fit_serving_held
from planner.evidence.serving.residuals import classify
from planner.evidence.serving.runs import ServingRun
from planner.serving.intervals import remembered
from planner.uncertainty.hierarchy import unseen
from planner.uncertainty.interval import NORMAL_95, Metric, ResidualClass, Subject, interval

LIKE = "engine, GPU and model"
LEFT_OUT: dict[str, tuple[str, ...]] = {
    LIKE: ("engine", "accelerator", "shape"),
    "model": ("shape",),
    "GPU type": ("accelerator",),
    "engine": ("engine",),
    "source": ("campaign",),
}
"""What is left out at a time: each measurement is predicted by constants that never saw its group. Models of one shape are one,
under whatever names (Llama 2 and 1, Qwen 1.5 and 1)."""
ALIKE = ("engine", "accelerator", "shape", "figure")
"""Columns of measurements that err alike: the fit looks at few of each, and weighs them by the root of their number."""
MOST_ALIKE = 16
ITERATIONS = 3
FIGURES: dict[Metric, tuple[str, ...]] = {
    "decode": ("decode", "batched", "loop_token"), "prefill": ("prefill", "loop_first"), "throughput": ("saturated",),
}  # fmt: skip
"""Which measurements make the intervals of which times."""
FEWEST = 10
"""Measurements of a release that its errors are told by at least; of fewer, chance decides."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class ServingStudy:
    """log(predicted / measured) of every measurement, and what follows."""

    runs: tuple[ServingRun, ...]  # of time
    found: Fit
    in_sample: Vector
    left_out: dict[str, Vector]  # by LEFT_OUT
    held: tuple[Held, ...]  # the model of the errors of each metric of FIGURES
    inside: NDArray[np.bool_]  # measured within the 90 % interval that was made without the run's source
    half_width: Vector  # of that interval, over the expected value
    like_inside: NDArray[np.bool_]  # of a run left out with its like: measured within the interval made without its part
    like_half_width: Vector
    memory: tuple[tuple[ServingRun, float], ...]
    memory_inside: NDArray[np.bool_]
    refused: tuple[Refusal, ...]
    classes: tuple[dict[str, Any], ...]


def study(runs: Sequence[ServingRun], progress: Progress | None = None) -> ServingStudy:
    """Fit the constants to all measured times and predict each left out with its like; memory has no fitted constant.

    Raises PlannerError when no measurement of time can be predicted.
    """
    say = progress or (lambda what, done, total: None)
    timed, memory, refused = _settle(runs, say)
    if not timed:
        raise PlannerError("planner fit: no measured time can be predicted; nothing to fit.")
    kept = thinned(cast(Sequence[Run], timed), ALIKE, MOST_ALIKE)
    chosen = [timed[i] for i in kept]
    found = fit(
        cast(Sequence[Run], chosen),
        Predictor(chosen),
        cast(Any, load_constants()),
        ITERATIONS,
        lambda done, total: say("fitting", done, total),
        ALIKE,
    )
    predict = Predictor(timed)
    measured = np.log(np.array([run.measured for run in timed]))
    in_sample = np.log(predict(range(len(timed)), [found.values])[:, 0]) - measured
    left = {
        what: leave_out(found, kept, cast(Sequence[Run], timed), predict, by, _reporter(say, f"without {what}"))
        for what, by in LEFT_OUT.items()
    }
    known = [(remembered(run.times.setting), ratio) for run, ratio in memory]
    classes = _memory_classes([run for run, _ in memory], known)
    held = fit_serving_held(timed, left["source"], in_sample, FIGURES)
    inside, half_width = _judged(timed, held)
    like_inside, like_half_width = _judged_by_like(timed, held, left[LIKE])
    return ServingStudy(
        runs=tuple(timed),
        found=found,
        in_sample=in_sample,
        left_out=left,
        held=held,
        inside=inside,
        half_width=half_width,
        like_inside=like_inside,
        like_half_width=like_half_width,
        memory=tuple(memory),
        memory_inside=_memory_covered([run for run, _ in memory], known),
        refused=tuple(refused),
        classes=tuple(classes),
    )


def _reporter(say: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: say(what, done, total)


def _settle(runs: Sequence[ServingRun], say: Progress) -> tuple[list[ServingRun], list[tuple[ServingRun, float]], list[Refusal]]:
    timed: list[ServingRun] = []
    memory: list[tuple[ServingRun, float]] = []
    refused: list[Refusal] = []
    for done, run in enumerate(runs, start=1):
        say("reading", done, len(runs))
        try:
            check(run)
            if run.quantity == "memory":
                memory.append((run, float(np.log(predicted(run) / run.measured))))
            else:
                if run.quantity not in ("loop_token", "loop_first"):
                    predicted(run)
                timed.append(run)
        except PlannerError as error:
            refused.append(Refusal(id=run.id, reason=str(error)))
    return timed, memory, refused


def _judged(runs: Sequence[ServingRun], held: Sequence[Held]) -> tuple[NDArray[np.bool_], Vector]:
    """Of each run: whether it lies in the interval of its metric, and that interval's half-width over the expected value."""
    inside, half = np.zeros(len(runs), dtype=bool), np.full(len(runs), np.nan)
    of_metric = {h.metric: h for h in held}
    for metric, figures in FIGURES.items():
        found = of_metric.get(metric)
        mine = [i for i, run in enumerate(runs) if run.figure in figures]
        if found is None:
            continue
        widths = _half_widths(found.mean, found.deviation)
        for k, i in enumerate(mine):
            if _metric(runs[i]) == metric:
                inside[i], half[i] = found.inside[k], widths[k]
    return inside, half


def _half_widths(mean: Vector, deviation: Vector) -> Vector:
    """Half of upper less lower bound, over the expected value, of intervals that hold it."""
    lower, upper = mean - NORMAL_95 * deviation, mean + NORMAL_95 * deviation
    return np.asarray(0.5 * (np.exp(np.maximum(upper, 0.0)) - np.exp(np.minimum(lower, 0.0))))


def _judged_by_like(runs: Sequence[ServingRun], held: Sequence[Held], like: Vector) -> tuple[NDArray[np.bool_], Vector]:
    """The same of a run that was left out with its like, ``like`` = log(predicted / measured): its software was measured, but not
    on this GPU with this model. Its interval is made without the errors of its part (``_parts``), too."""
    inside, half = np.zeros(len(runs), dtype=bool), np.full(len(runs), np.nan)
    for found in held:
        mine = np.array([i for i, run in enumerate(runs) if run.figure in FIGURES[found.metric]])
        parts = [members for members, _ in _parts([runs[i] for i in mine])]
        mean, deviation = said_by_others(found, parts)
        inside[mine] = np.abs(-like[mine] - mean) <= NORMAL_95 * deviation
        half[mine] = _half_widths(mean, deviation)
    return inside, half


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """How much more the releases err that one source alone measured, where that source is left out."""

    metric: Metric
    releases: tuple[str, ...]
    ratio: float  # 1 where knowing a release's other measurements helps nothing; nan without a release


def unseen_errors(found: ServingStudy) -> tuple[Unseen, ...]:
    """Of each metric: errors of releases that nobody else measured, left out with their source over left out with their like."""
    errors = []
    for held in found.held:
        mine = np.array([run.figure in FIGURES[held.metric] for run in found.runs])
        columns = {name: held.frame[name].to_numpy() for name in ("framework", "source")}
        errors.append(unseen_ratio(held.metric, columns, found.left_out["source"][mine], found.left_out[LIKE][mine]))
    return tuple(errors)


def unseen_ratio(metric: Metric, columns: Mapping[str, Any], without_source: Vector, without_like: Vector) -> Unseen:
    """Geometric mean over releases of the ratio of their root mean square errors.

    ``columns``: framework and source of each run, (runs,); the errors are log(predicted / measured), (runs,). A release is one
    that no other source has (``hierarchy.unseen``), of FEWEST runs or more. Left out with its source nothing of it is known; left
    out with its like (LIKE) its runs on other GPUs and with other models are.
    """
    names, alone = np.asarray(columns["framework"]).astype(str), unseen(columns) == 1.0
    releases = tuple(name for name in sorted(set(names[alone].tolist())) if (alone & (names == name)).sum() >= FEWEST)
    if not releases:
        return Unseen(metric=metric, releases=(), ratio=float("nan"))
    rows = [alone & (names == name) for name in releases]
    logs = [0.5 * np.log(np.mean(without_source[at] ** 2) / np.mean(without_like[at] ** 2)) for at in rows]
    return Unseen(metric=metric, releases=releases, ratio=float(np.exp(np.mean(logs))))


def _memory_classes(runs: Sequence[ServingRun], rows: Sequence[tuple[Subject, float]]) -> list[dict[str, Any]]:
    pooled = [(subject, -ratio) for subject, ratio in rows]
    return classify("serving_memory", pooled, _likes(runs), [value for _, value in pooled]) if pooled else []


def _likes(runs: Sequence[ServingRun]) -> list[tuple[str, str]]:
    """Measurements that err alike: of one model on one accelerator from one source."""
    return [(run.times.setting.model.name, f"{run.columns['accelerator']} {run.columns['source']}") for run in runs]


def _metric(run: ServingRun) -> Metric:
    return "throughput" if run.figure == "saturated" else "prefill" if run.figure in FIGURES["prefill"] else "decode"


COVERAGE_FOLDS = 16
"""Parts that the groups of LEFT_OUT[LIKE] are dealt into: an interval is checked on measurements whose part did not make it."""


def _parts(runs: Sequence[ServingRun]) -> list[tuple[list[int], list[int]]]:
    """(members, others) of each part."""
    groups = [members.tolist() for _, members in sorted(folds(cast(Sequence[Run], runs), LEFT_OUT[LIKE]).items())]
    parts = [sorted(i for group in groups[k::COVERAGE_FOLDS] for i in group) for k in range(COVERAGE_FOLDS)]
    return [(part, sorted(set(range(len(runs))) - set(part))) for part in parts if part]


def _memory_covered(runs: Sequence[ServingRun], rows: Sequence[tuple[Subject, float]]) -> NDArray[np.bool_]:
    inside = np.zeros(len(rows), dtype=bool)
    for members, others in _parts(runs):
        classes = _built(_memory_classes([runs[i] for i in others], [rows[i] for i in others]))
        for i in members:
            inside[i] = _holds("serving_memory", rows[i][0], classes, -rows[i][1])
    return inside


def _built(tables: Sequence[dict[str, Any]]) -> tuple[ResidualClass, ...]:
    return tuple(ResidualClass.build(table, "class") for table in tables)


def _holds(metric: Metric, subject: Subject, classes: tuple[ResidualClass, ...], truth: float) -> bool:
    """``truth``: log(measured / predicted). False when nothing else was measured of this metric."""
    if not any(c.metric == metric for c in classes):
        return False
    found = interval(1.0, metric, subject, classes)
    return bool(np.log(found.lower) <= truth <= np.log(found.upper))
