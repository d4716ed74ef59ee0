"""Predicted against measured: what the planner says of runs that somebody timed, and how far off it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np

from planner.common.arrays import Array
from planner.common.errors import PlannerError
from planner.common.units import GIB, TERA
from planner.evidence.causes import group_of
from planner.evidence.columns import in_own_words
from planner.evidence.fit import Values
from planner.evidence.measured_runs import Refusal, Run
from planner.hardware.curves import Curves
from planner.model.parameters import embedding_parameters, parameters_active
from planner.performance.evaluation import Evaluation, evaluate, step_time_columns
from planner.performance.feasibility import require_possible
from planner.uncertainty.interval import Subject, interval
from planner.uncertainty.subject import movable_part
from planner.workload.framework import Framework
from planner.workload.layout import as_columns
from planner.workload.precision import matmul_dtype

S = TypeVar("S", Framework, Curves)
Metric = Literal["step_time_s", "peak_allocated_bytes", "peak_reserved_bytes", "peak_device_bytes"]
METRICS: tuple[Metric, ...] = ("step_time_s", "peak_allocated_bytes", "peak_reserved_bytes", "peak_device_bytes")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One figure of one run, measured and predicted, SI units."""

    id: str
    metric: Metric
    measured: float
    predicted: float
    lower: float
    upper: float
    provenance: str
    why: str
    fits: bool
    group: str
    recompute: str
    assumed: tuple[str, ...] = ()

    @property
    def inside(self) -> bool:
        """Whether the measured value lies in the 90 % interval."""
        return self.lower <= self.measured <= self.upper

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1.0

    def to_dict(self) -> dict[str, Any]:
        """Fields, the relative error and whether the interval holds the measurement, for JSON."""
        return {**asdict(self), "error": self.error, "inside": self.inside}


@dataclass(frozen=True, kw_only=True)
class GroupError:
    """Errors of one metric over a group of runs, as fractions."""

    group: str
    metric: Metric
    rows: int
    median: float
    mean: float
    percentile_90: float
    bias: float  # median of the signed error
    inside: int  # rows whose measured value lies in the 90 % interval


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a run is predicted to fit in memory, and whether it did."""

    id: str
    group: str
    ran: bool
    predicted_to_fit: bool


def predict(
    runs: Sequence[Run], by: Sequence[str], progress: Callable[[int], None] | None = None
) -> tuple[list[Prediction], list[Verdict], list[Refusal]]:
    """Predict every run; impossible layouts are refused with the reason.

    A run whose recomputation is not known takes the lightest that fits, of part of the layers where that is enough, or the
    heaviest when none does. ``by`` names the columns or causes.CAUSES that make a run's group; ``progress`` is told how many runs
    are done.
    """
    found: list[Prediction] = []
    verdicts: list[Verdict] = []
    refused: list[Refusal] = []
    answers: dict[Any, Answer] = {}
    for done, run in enumerate(runs, start=1):
        try:
            check_peak(run)
            answer = answers.get(run.key) or answers.setdefault(run.key, _answer(run))
            check_states(run, answer)
        except PlannerError as error:
            refused.append(Refusal(id=run.id, reason=in_own_words(run, str(error))))
        else:
            group = group_of(run, by)
            verdicts.append(Verdict(id=run.id, group=group, ran=not run.out_of_memory, predicted_to_fit=answer.fits))
            found += _figures(run, answer, group)
        if progress is not None:
            progress(done)
    return found, verdicts, refused


def _figures(run: Run, answer: Answer, group: str) -> list[Prediction]:
    """What was measured of one run, beside what is predicted."""
    memory = answer.evaluation.memory
    values: dict[Metric, tuple[float | None, float]] = {
        "step_time_s": (run.step_time_s, answer.value(answer.evaluation.step_time_s)),
        "peak_allocated_bytes": (run.memory_bytes.get("allocated"), answer.value(memory.allocated_bytes)),
        "peak_reserved_bytes": (run.memory_bytes.get("reserved"), answer.value(memory.reserved_bytes)),
        "peak_device_bytes": (run.memory_bytes.get("device"), answer.value(memory.device_bytes)),
    }
    subject, found = subject_of(run), []
    states = answer.value(answer.evaluation.states_bytes)
    for metric, (measured, predicted) in values.items():
        # a share of layers that was chosen to fill the card predicts no memory
        if measured is not None and (metric == "step_time_s" or answer.share == 0.0):
            of_time, figure = metric == "step_time_s", metric.removeprefix("peak_").removesuffix("_bytes")
            movable = float(movable_part(states, predicted))
            of_memory = replace(subject, figure=figure, movable=movable)
            sure = interval(predicted, "step_time", subject) if of_time else interval(predicted, "memory", of_memory)
            found.append(
                Prediction(
                    id=run.id,
                    metric=metric,
                    measured=measured,
                    predicted=predicted,
                    lower=sure.lower,
                    upper=sure.upper,
                    provenance=sure.provenance,
                    why=sure.why,
                    fits=answer.fits,
                    group=group,
                    recompute=_recomputation(run, answer),
                    assumed=run.assumed,
                )
            )
    return found


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The evaluation of a run's layouts and which of them is predicted: ``light``, and ``heavy`` in a share of the layers.

    Where the lighter recomputation of two does not fit and the heavier does, as many layers recompute more as memory asks
    for (Megatron's ``--recompute-num-layers``); time and memory are then linear in that share.
    """

    evaluation: Evaluation
    light: int
    heavy: int
    share: float

    @property
    def fits(self) -> bool:
        """Whether what is predicted fits."""
        return bool(self.evaluation.fits[self.heavy])

    def value(self, of_layouts: Array) -> float:
        """What is predicted, from the values of all layouts."""
        return float((1.0 - self.share) * of_layouts[self.light] + self.share * of_layouts[self.heavy])


def _recomputation(run: Run, answer: Answer) -> str:
    heavy = run.layouts[answer.heavy].recompute
    return heavy if answer.light == answer.heavy else f"{heavy} in {answer.share:.0%} of the layers"


def _answer(run: Run) -> Answer:
    """The lightest recomputation that fits, of a part of the layers where that is enough. Raises PlannerError."""
    columns = as_columns(list(run.layouts), run.cluster.num_gpus)
    require_possible(run.question, columns.take(slice(0, 1)), run.layouts[0])
    answer = evaluate(run.question, columns)
    fitting = np.flatnonzero(answer.fits)
    heavy = int(fitting[0] if len(fitting) else np.flatnonzero(answer.possible)[-1])
    if heavy == 0 or not len(fitting):
        return Answer(evaluation=answer, light=heavy, heavy=heavy, share=0.0)
    room = answer.headroom_bytes
    share = float(room[heavy - 1] / (room[heavy - 1] - room[heavy]))
    return Answer(evaluation=answer, light=heavy - 1, heavy=heavy, share=share)


LEAST_OF_STATES = 0.9
"""A measured peak may be so much of the counted model states: tables mix up GB and GiB, which differ by 0.93."""


def check_states(run: Run, answer: Answer) -> None:
    """PlannerError where less memory was measured than parameters, gradients and optimizer states take: not as stated.

    They are counted and all there when the optimizer steps; what a paged optimizer may move to the host is not among them.
    """
    memory = answer.evaluation.memory
    states = answer.value(answer.evaluation.states_bytes - memory.pageable_bytes)
    for value in run.memory_bytes.values():
        if value < LEAST_OF_STATES * states:
            raise PlannerError(
                "a peak of {0:.1f} GiB is less than the parameters, gradients and optimizer states, {1:.1f} GiB on each GPU; "
                "check precision, optimizer and number of GPUs",
                value / GIB,
                states / GIB,
            )


def check_peak(run: Run) -> None:
    """PlannerError where a step would beat the GPU's peak: 6 flops a parameter and token, 4 where the weights are frozen.

    Embeddings and attention are not counted (Kaplan et al. 2020, section 2.1), so that no real run is refused.
    """
    if run.step_time_s is None:
        return
    looked_up = sum(t.elements for t in embedding_parameters(run.model))
    elements, tokens, per = parameters_active(run.model) - looked_up, run.job.tokens_per_step, 4.0 if run.job.frozen else 6.0
    dtype, chip = matmul_dtype(run.job.precision), run.cluster.accelerator
    rate, peak = per * elements * tokens / run.step_time_s / run.cluster.num_gpus, chip.peak(dtype)
    if rate > peak:
        raise PlannerError(
            "step_time_s = {0:.4g}: {1:g} flops x {2:.3g} parameters x {3:,.0f} tokens on {4} GPUs are {5:.0f} "
            "TFLOP/s each, {6} has {7:.0f} in {8}; check batch, length and number of GPUs",
            run.step_time_s,
            per,
            elements,
            tokens,
            run.cluster.num_gpus,
            rate / TERA,
            chip.name,
            peak / TERA,
            dtype,
        )


def settled(run: Run) -> Run:
    """The run with what is predicted alone: one layout, or two with the share of the second. Raises PlannerError."""
    check_peak(run)
    answer = _answer(run)
    if answer.light == answer.heavy:
        return replace(run, layouts=(run.layouts[answer.light],))
    return replace(run, layouts=(run.layouts[answer.light], run.layouts[answer.heavy]), heavier_share=answer.share)


def settled_answer(run: Run, evaluation: Evaluation) -> Answer:
    """What is predicted of a settled run, from an evaluation of its layouts."""
    return Answer(evaluation=evaluation, light=0, heavy=len(run.layouts) - 1, share=run.heavier_share)


def step_time(run: Run, values: Values) -> float:
    """Seconds of a step of a settled run with other constants than the catalog's."""
    columns = as_columns(list(run.layouts), run.cluster.num_gpus)
    answer = evaluate(replace(run.question, framework=values.framework(run)), columns, values.curves(run))
    return settled_answer(run, answer).value(answer.step_time_s)


def step_times(run: Run, many: Sequence[Values]) -> Array:
    """``step_time`` under many sets of constants in one pass, shape ``(len(many),)``."""
    question = replace(run.question, framework=_stacked([values.framework(run) for values in many]))
    curves = _stacked([values.curves(run) for values in many])
    total = np.zeros(len(many))
    for layout, share in zip(run.layouts, (1.0 - run.heavier_share, run.heavier_share), strict=False):
        columns = as_columns(layout, run.cluster.num_gpus)
        weight = share if len(run.layouts) > 1 else 1.0
        total = total + weight * step_time_columns(question, columns, curves, len(many))
    return total


def _stacked(specs: Sequence[S]) -> S:
    """One spec whose numbers are columns where the given ones differ. For elementwise work only."""
    first = specs[0]
    differing = {
        name: np.array([getattr(spec, name) for spec in specs])
        for name in type(first).model_fields
        if isinstance(getattr(first, name), float) and any(getattr(spec, name) != getattr(first, name) for spec in specs)
    }
    return first.model_copy(update=differing) if differing else first


def group_errors(predictions: Iterable[Prediction]) -> list[GroupError]:
    """Errors by group and metric, groups in order of appearance."""
    groups: dict[tuple[str, Metric], list[Prediction]] = {}
    for p in predictions:
        groups.setdefault((p.group, p.metric), []).append(p)
    return [_group_error(group, metric, members) for (group, metric), members in groups.items()]


def _group_error(group: str, metric: Metric, members: Sequence[Prediction]) -> GroupError:
    errors = np.array([p.error for p in members])
    return GroupError(
        group=group,
        metric=metric,
        rows=len(errors),
        median=float(np.median(np.abs(errors))),
        mean=float(np.mean(np.abs(errors))),
        percentile_90=float(np.quantile(np.abs(errors), 0.9)),
        bias=float(np.median(errors)),
        inside=sum(p.inside for p in members),
    )


def subject_of(run: Run) -> Subject:
    """What a run's interval depends on: of its heaviest layout, where recomputation is not known."""
    of_question = Subject.of(run.question, run.layouts[-1])
    return replace(of_question, incomplete=float(run.columns.get("quality") == "B"))
