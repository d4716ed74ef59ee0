"""The accuracy study behind ``planner fit``: fit, leave groups out, compare with constant utilization, count coverage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from planner.common.errors import PlannerError
from planner.evidence.columns import in_own_words
from planner.evidence.fit import Constant, Fit, ParallelPredict, Predict, Vector, fit, folds, leave_out, thinned
from planner.evidence.held_out import Held, rows_of, source_of
from planner.evidence.measured_runs import Refusal, Run
from planner.evidence.predictions import check_states, settled, settled_answer, step_times, subject_of
from planner.performance.evaluation import evaluate
from planner.performance.risk import fit_rule
from planner.uncertainty.subject import movable_part
from planner.workload.layout import as_columns

if TYPE_CHECKING:
    import pandas as pd

LEFT_OUT: dict[str, tuple[str, ...]] = {
    "model": ("source", "model"),
    "GPU count": ("source", "num_gpus"),
    "GPU type": ("accelerator",),
    "source": ("source",),
}
"""What is left out at a time: every run is predicted by constants that never saw its group."""

Progress = Callable[[str, int, int], None]


class Peak(NamedTuple):
    """One measured peak of memory: which of them, log(predicted / measured), and the part of it that is no model states."""

    run: Run
    kind: str
    ratio: float
    movable: float


class Fate(NamedTuple):
    """Whether one run was predicted to fit, and how surely: nan where its recomputation was chosen so that it does.

    ``need_bytes`` and ``states_bytes``: what was predicted of the fullest GPU (``FitRule``).
    """

    run: Run
    fits: bool
    probability: float
    need_bytes: float = np.nan
    states_bytes: float = np.nan


@dataclass(frozen=True, kw_only=True)
class Study:
    """Log ratios log(predicted / measured) of step times, run by run, and what follows from them."""

    runs: tuple[Run, ...]  # settled, with a measured step time
    found: Fit
    in_sample: Vector
    left_out: dict[str, Vector]  # by LEFT_OUT
    baseline: Vector
    baseline_left_out: Vector
    held_out: pd.DataFrame  # of this set's figures: held_out.rows_of
    memory: tuple[Peak, ...]
    verdicts: tuple[Fate, ...]
    refused: tuple[Refusal, ...]


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
    with ParallelPredict(timed, step_times, jobs) as predict:
        inner = _at(predict, kept)
        found = fit([timed[i] for i in kept], inner, constants, progress=lambda done, total: say("fitting", done, total))
        measured = np.log(np.array([run.step_time_s for run in timed], dtype=float))
        in_sample = np.log(predict(range(len(timed)), [found.values])[:, 0]) - measured
        left = {
            what: leave_out(found, kept, timed, predict, by, lambda done, total, what=what: say(f"without {what}", done, total))  # type: ignore[misc]
            for what, by in LEFT_OUT.items()
        }
    baseline, baseline_left = utilization_baseline(timed)
    return Study(
        runs=tuple(timed),
        found=found,
        in_sample=in_sample,
        left_out=left,
        baseline=baseline,
        baseline_left_out=baseline_left,
        held_out=_held_out(timed, left["source"], in_sample, memory),
        memory=tuple(memory),
        verdicts=tuple(verdicts),
        refused=tuple(refused),
    )


def without_source(fates: Iterable[Fate], memory: Held) -> list[Fate]:
    """The runs with the probability that a model of memory's errors gives which never saw their source."""
    found = []
    for one in fates:
        if not np.isnan(one.probability):
            rule = fit_rule(one.run.question, known=memory.without(source_of(one.run)))
            one = one._replace(probability=float(rule.probability(one.need_bytes, one.states_bytes)))
        found.append(one)
    return found


def _settle(runs: Sequence[Run], say: Progress) -> tuple[list[Run], list[Peak], list[Fate], list[Refusal]]:
    """Runs with one layout each; what their memory was predicted to be."""
    timed: list[Run] = []
    memory: list[Peak] = []
    verdicts: list[Fate] = []
    refused: list[Refusal] = []
    for done, run in enumerate(runs, start=1):
        say("reading runs", done, len(runs))
        try:
            one = settled(run)
            answer = evaluate(one.question, as_columns(list(one.layouts), one.cluster.num_gpus))
            settle = settled_answer(one, answer)
            check_states(one, settle)
        except PlannerError as error:
            refused.append(Refusal(id=run.id, reason=in_own_words(run, str(error))))
            continue
        need, states = settle.value(answer.firm_bytes), settle.value(answer.states_bytes)
        sure = float(fit_rule(one.question).probability(need, states)) if len(run.layouts) == 1 else np.nan
        verdicts.append(Fate(one, settle.fits, sure, need, states))
        predicted = {
            "allocated": answer.memory.allocated_bytes,
            "reserved": answer.memory.reserved_bytes,
            "device": answer.memory.device_bytes,
        }
        if settle.share == 0.0:  # else the card is full by construction
            for kind, value in run.memory_bytes.items():
                need = settle.value(predicted[kind])
                memory.append(Peak(one, kind, float(np.log(need / value)), float(movable_part(states, need))))
        if run.step_time_s is not None:
            timed.append(one)
    return timed, memory, verdicts, refused


def _at(predict: Predict, positions: Sequence[int]) -> Predict:
    return lambda chosen, sets: predict([positions[i] for i in chosen], sets)


def utilization_baseline(runs: Sequence[Run]) -> tuple[Vector, Vector]:
    """What most estimates do: model flops over (peak x one utilization per GPU type and precision).

    The utilization is the median over the runs themselves (in-sample), and over those of other models (left out; of
    other GPUs where there is none). Returns log(predicted / measured) both ways.
    """
    ideal = np.empty(len(runs))
    for i, run in enumerate(runs):
        columns = as_columns(list(run.layouts), run.cluster.num_gpus)
        answer = evaluate(run.question, columns)
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


def _held_out(timed: Sequence[Run], left: Vector, in_sample: Vector, memory: Sequence[Peak]) -> pd.DataFrame:
    """One row a figure: step times without their source; memory as it is, for no constant of memory is fitted."""
    import pandas as pd

    of_run = {run.id: subject_of(run) for run in (*timed, *(peak.run for peak in memory))}
    rows = [
        rows_of(run, of_run[run.id], "step_time", -float(out), -float(seen))
        for run, out, seen in zip(timed, left, in_sample, strict=True)
    ]
    for run, kind, ratio, movable in memory:
        rows.append(rows_of(run, replace(of_run[run.id], figure=kind, movable=movable), "memory", -ratio, -ratio))
    return pd.DataFrame(rows)
