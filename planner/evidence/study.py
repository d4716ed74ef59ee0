"""The accuracy study behind ``planner fit``: fit, leave groups out, compare with constant utilization, count coverage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.common.errors import PlannerError
from planner.evidence.columns import in_own_words
from planner.evidence.fit import Constant, Fit, ParallelPredict, Predict, Vector, fit, folds, leave_out, thinned
from planner.evidence.measured_runs import Refusal, Run
from planner.evidence.predictions import settled, settled_answer, step_time, subject_of
from planner.performance.evaluation import evaluate
from planner.uncertainty.classify import classify
from planner.uncertainty.interval import ResidualClass, Subject, interval
from planner.workload.layout import as_columns

LEFT_OUT: dict[str, tuple[str, ...]] = {
    "model": ("source", "model"),
    "GPU count": ("source", "num_gpus"),
    "GPU type": ("accelerator",),
    "source": ("source",),
}
"""What is left out at a time: every run is predicted by constants that never saw its group."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Study:
    """Log ratios log(predicted / measured) of step times, run by run, and what follows from them."""

    runs: tuple[Run, ...]  # settled, with a measured step time
    found: Fit
    in_sample: Vector
    left_out: dict[str, Vector]  # by LEFT_OUT
    baseline: Vector
    baseline_left_out: Vector
    intervals: NDArray[np.float64]  # (runs, 2): log(bound / predicted) from classes without the run's model
    memory: tuple[tuple[Run, str, float], ...]  # run, kind, log(predicted / measured)
    verdicts: tuple[tuple[Run, bool], ...]  # run, predicted to fit
    refused: tuple[Refusal, ...]
    classes: tuple[dict[str, Any], ...]


def study(
    runs: Sequence[Run], jobs: int = 1, progress: Progress | None = None, constants: tuple[Constant, ...] | None = None
) -> Study:
    """Fit the constants (those of ``catalog/fit.toml``) to ``runs`` and predict each run left out with its like.

    Raises PlannerError when no run has a step time.
    """
    say = progress or (lambda what, done, total: None)
    timed, memory, verdicts, refused = _settle(runs, say)
    if not timed:
        raise PlannerError("planner fit: no run has a measured step time that can be predicted; nothing to fit.")
    kept = thinned(timed)
    with ParallelPredict(timed, step_time, jobs) as predict:
        inner = _at(predict, kept)
        found = fit([timed[i] for i in kept], inner, constants, progress=lambda done, total: say("fitting", done, total))
        measured = np.log(np.array([run.step_time_s for run in timed], dtype=float))
        in_sample = np.log(predict(range(len(timed)), found.values)) - measured
        left = {
            what: leave_out(found, kept, timed, predict, by, lambda done, total, what=what: say(f"without {what}", done, total))  # type: ignore[misc]
            for what, by in LEFT_OUT.items()
        }
    subjects = [subject_of(run) for run in timed]
    classes = classify("step_time", *_left_out_residuals(timed, subjects, left), likes=_likes(timed) * 2)
    classes += _memory_classes(memory)
    baseline, baseline_left = utilization_baseline(timed)
    return Study(
        runs=tuple(timed),
        found=found,
        in_sample=in_sample,
        left_out=left,
        baseline=baseline,
        baseline_left_out=baseline_left,
        intervals=cross_intervals(timed, subjects, left, say),
        memory=tuple(memory),
        verdicts=tuple(verdicts),
        refused=tuple(refused),
        classes=tuple(classes),
    )


def _settle(
    runs: Sequence[Run], say: Progress
) -> tuple[list[Run], list[tuple[Run, str, float]], list[tuple[Run, bool]], list[Refusal]]:
    """Runs with one layout each; what their memory was predicted to be."""
    timed: list[Run] = []
    memory: list[tuple[Run, str, float]] = []
    verdicts: list[tuple[Run, bool]] = []
    refused: list[Refusal] = []
    for done, run in enumerate(runs, start=1):
        say("reading runs", done, len(runs))
        try:
            one = settled(run)
        except PlannerError as error:
            refused.append(Refusal(id=run.id, reason=in_own_words(run, str(error))))
            continue
        answer = evaluate(one.model, one.cluster, one.framework, one.job, as_columns(list(one.layouts), one.cluster.num_gpus))
        settle = settled_answer(one, answer)
        verdicts.append((one, settle.fits))
        predicted = {"allocated": answer.memory.allocated, "reserved": answer.memory.reserved, "device": answer.memory.total}
        if settle.share == 0.0:  # else the card is full by construction
            memory += [
                (one, kind, float(np.log(settle.value(predicted[kind]) / value))) for kind, value in run.memory_bytes.items()
            ]
        if run.step_time_s is not None:
            timed.append(one)
    return timed, memory, verdicts, refused


def _at(predict: Predict, positions: Sequence[int]) -> Predict:
    return lambda chosen, values: predict([positions[i] for i in chosen], values)


def utilization_baseline(runs: Sequence[Run]) -> tuple[Vector, Vector]:
    """What most estimates do: model flops over (peak x one utilization per GPU type and precision).

    The utilization is the median over the runs themselves (in-sample), and over those of other models (left out; of
    other GPUs where there is none). Returns log(predicted / measured) both ways.
    """
    ideal = np.empty(len(runs))
    for i, run in enumerate(runs):
        columns = as_columns(list(run.layouts), run.cluster.num_gpus)
        answer = evaluate(run.model, run.cluster, run.framework, run.job, columns)
        ideal[i] = np.log(answer.model_flops[0] / (answer.peak_flops_per_s * run.cluster.num_gpus * float(run.step_time_s or 1)))
    kinds = [(run.cluster.accelerator.name, run.job.precision) for run in runs]
    whole, left = np.empty(len(runs)), np.empty(len(runs))
    by_model = folds(runs, LEFT_OUT["model"])
    member = np.empty(len(runs), dtype=int)
    for k, positions in enumerate(by_model.values()):
        member[positions] = k
    for i, kind in enumerate(kinds):
        same = np.array([other == kind for other in kinds])
        whole[i] = ideal[i] - np.median(ideal[same])
        others = same & (member != member[i])
        left[i] = ideal[i] - np.median(ideal[others] if others.any() else ideal[member != member[i]])
    return whole, left


def pooled_residuals(subjects: Sequence[Subject], ratios: Sequence[Vector]) -> list[tuple[Subject, float]]:
    """log(measured / predicted) of the runs in each of the series, series after series."""
    return [(s, -float(r)) for series in ratios for s, r in zip(subjects, series, strict=True)]


def _left_out_residuals(
    runs: Sequence[Run], subjects: Sequence[Subject], left: dict[str, Vector], at: Sequence[int] | None = None
) -> tuple[list[tuple[Subject, float]], list[float]]:
    """Residuals of new models, then of new GPU counts, as a question may be of either; and those of new sources."""
    chosen = list(range(len(runs)) if at is None else at)
    pooled = pooled_residuals([subjects[i] for i in chosen], [left["model"][chosen], left["GPU count"][chosen]])
    return pooled, (-left["source"][chosen]).tolist()


def _likes(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Runs that err alike: of one model of one source."""
    return [tuple(run.columns.get(column, "") for column in LEFT_OUT["model"]) for run in runs]


def _memory_classes(memory: Sequence[tuple[Run, str, float]]) -> list[dict[str, Any]]:
    """Classes of memory: nothing is fitted, so no run is left out; several figures of a run are one run."""
    if not memory:
        return []
    subjects = {run.id: subject_of(run) for run, _, _ in memory}
    rows = [(subjects[run.id], -ratio) for run, _, ratio in memory]
    return classify("memory", rows, [value for _, value in rows], _likes([run for run, _, _ in memory]))


def cross_intervals(
    runs: Sequence[Run], subjects: Sequence[Subject], left: dict[str, Vector], say: Progress
) -> NDArray[np.float64]:
    """log(bound / predicted) of every run, from classes that hold no run of its own model: honest coverage."""
    result = np.empty((len(runs), 2))
    done = 0
    for members in folds(runs, LEFT_OUT["model"]).values():
        others = sorted(set(range(len(runs))) - set(members.tolist()))
        likes = _likes([runs[i] for i in others]) * 2
        tables = classify("step_time", *_left_out_residuals(runs, subjects, left, others), likes=likes)
        classes = tuple(ResidualClass.build(t, "class") for t in tables)
        for i in members:
            found = interval(1.0, "step_time", subjects[int(i)], classes)
            result[i] = np.log(found.lower), np.log(found.upper)
        done += len(members)
        say("intervals", done, len(runs))
    return result


def covered(found: Study) -> NDArray[np.bool_]:
    """Whether each run's measured step time lies in its 90 % interval, both without its model."""
    truth = -found.left_out["model"]
    return np.asarray((truth >= found.intervals[:, 0]) & (truth <= found.intervals[:, 1]))
