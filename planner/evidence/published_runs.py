"""Published runs and their GPU-hours: how far field totals lie from undisturbed steps with the failure model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from planner.common.arrays import Array
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.spec import Spec, read_table
from planner.lifecycle.field_factor import CATALOG, FieldFactor
from planner.lifecycle.simulation import expected_run
from planner.training.planning import candidates, evaluate, plan
from planner.uncertainty.interval import Interval

Z_90 = NormalDist().inv_cdf(0.95)


class PublishedRun(Spec):
    """One run: its public configuration, what had to be chosen, and the hours its authors report.

    ``organisation``: who trained it, with software and habits that its other runs share. ``tried``: settings to try where
    none is published. ``stages`` follow each other; both change the tables. Hours of ``measured = "steps"`` are a step time
    times steps, without failures and checkpoints.
    """

    name: str
    organisation: str
    gpu_hours: Annotated[float, Field(gt=0)]
    source: str
    chosen: str
    measured: Literal["run", "steps"] = "run"
    model: dict[str, Any]
    cluster: dict[str, Any]
    tried: tuple[dict[str, dict[str, Any]], ...] = ({},)
    framework: dict[str, Any] = Field(default_factory=lambda: {"name": "megatron-core"})
    job: dict[str, Any]
    layout: dict[str, Any] | None = None
    stages: tuple[dict[str, dict[str, Any]], ...] = ({},)
    run: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Modelled:
    """What the planner makes of a run's configuration: hours, and its own 90 % interval as logarithms around them."""

    hours: float
    log_lower: float
    log_upper: float

    @property
    def log_spread(self) -> float:
        """The interval as a standard deviation."""
        return (self.log_upper - self.log_lower) / 2.0 / Z_90


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A run's hours: published, modelled, and expected with the factor of other organisations' runs, with a 90 % interval."""

    run: PublishedRun
    own: Modelled
    field: FieldFactor
    expected: float
    lower: float
    upper: float

    @property
    def modelled(self) -> float:
        """Hours without a field factor."""
        return self.own.hours

    @property
    def error(self) -> float:
        """Expected over published, less one."""
        return self.expected / self.run.gpu_hours - 1.0

    @property
    def inside(self) -> bool:
        """Does the interval hold the published hours?"""
        return self.lower <= self.run.gpu_hours <= self.upper


@cache
def published_runs() -> tuple[PublishedRun, ...]:
    """All published runs of the catalog."""
    table = read_table(CATALOG)["runs"]
    return tuple(
        PublishedRun.build({"name": name, **fields}, Message("{0}: {1}", CATALOG, name)) for name, fields in table.items()
    )


def fit_field_factor(published: Sequence[float], modelled: Sequence[Modelled], organisations: Sequence[str]) -> FieldFactor:
    """Mean and spread of log(published / modelled), two runs or more: a random-effects mean, DerSimonian and Laird 1986.

    A run whose own interval is wide (an extrapolated class, GPUs not published) says less about the mean; what spread the
    intervals explain is not counted again. Runs of one organisation err alike: each of its m runs counts as 1 / m, so that the
    organisation counts as one.
    """
    logs, own, alike = _logarithms(published, modelled, organisations)
    between = _between(logs, own, organisations)
    weights = 1.0 / (alike * (own**2 + between))
    return FieldFactor(
        factor=math.exp(float(np.average(logs, weights=weights))),
        log_spread=math.sqrt(between),
        log_error=float(np.sum(weights)) ** -0.5,
        num_runs=len(logs),
        num_organisations=len(set(organisations)),
    )


def _logarithms(
    published: Sequence[float], modelled: Sequence[Modelled], organisations: Sequence[str]
) -> tuple[Array, Array, Array]:
    """(runs,) each: log(published / modelled), standard deviation of a run's own interval, runs of its organisation."""
    logs = np.array([math.log(p / m.hours) for p, m in zip(published, modelled, strict=True)])
    own = np.array([max(m.log_spread, 1e-6) for m in modelled])
    return logs, own, np.array([organisations.count(name) for name in organisations], dtype=float)


def _between(logs: Array, own: Array, organisations: Sequence[str]) -> float:
    """tau^2 between organisations by the method of moments; 0 where there is one only.

    Q = y'Ay, the weighted squares around the weighted mean, with A = W - w w' / sum w, w = 1 / (m s^2), has the mean
    tr(A (S + tau^2 B)): covariances of runs that err alike within an organisation, S = s s' and B = 1 there and 0 elsewhere
    (DerSimonian and Kacker 2007, for any weights).
    """
    names = np.array(organisations)
    same = (names[:, None] == names[None, :]).astype(float)
    weights = 1.0 / (same.sum(axis=1) * own**2)
    a = np.diag(weights) - np.outer(weights, weights) / weights.sum()
    share = float(np.sum(a * same)) / float(weights.sum())
    if share < 1e-9:
        return 0.0
    return max(float(logs @ a @ logs - np.sum(a * np.outer(own, own) * same)), 0.0) / (share * float(weights.sum()))


def factor_of(runs: Sequence[PublishedRun], models: Sequence[Modelled]) -> FieldFactor:
    """The factor of whole runs and of step times times steps together: software slower than what is modelled and layouts that
    were not the best lengthen either, and what only whole runs hold, experiments and restarts, is less than the organisations
    of either kind differ."""
    return fit_field_factor([r.gpu_hours for r in runs], models, [r.organisation for r in runs])


def model_run(run: PublishedRun) -> Modelled:
    """GPU-hours of a run's stages, with failures, checkpoints and restarts where its hours hold them.

    Where settings are not published: the geometric mean over those tried, and the spread of a uniform choice between
    them beside the step time's own. Where the layout is not, a choice among the fastest quarter of those that fit: none is
    faster than the fastest, which is what is modelled, so it widens the upper side alone, by the root of the mean square
    above the fastest. Raises PlannerError when none of them fits.
    """
    tried: list[tuple[float, Longest]] = []
    refused = ""
    for setting in run.tried:
        try:
            tried.append(_hours(run, setting))
        except PlannerError as error:
            refused = str(error)
    if not tried:
        raise PlannerError("{0}: nothing tried can run it; {1}", run.name, refused)
    logs = [math.log(hours) for hours, _ in tried]
    _, middle = tried[len(tried) // 2]
    step, slower = middle.step, _layout_spread(run, middle) if run.layout is None else 0.0
    between = Z_90 * (max(logs) - min(logs)) / math.sqrt(12.0)
    above = math.hypot(between, Z_90 * slower / math.sqrt(3.0))
    low = math.hypot(math.log(step.lower / step.expected), between)
    high = math.hypot(math.log(step.upper / step.expected), above)
    return Modelled(hours=math.exp(sum(logs) / len(logs)), log_lower=-low, log_upper=high)


@dataclass(frozen=True)
class Longest:
    """A run's longest stage: its step time and what it asked."""

    step: Interval
    cluster: dict[str, Any]
    job: dict[str, Any]


def _hours(run: PublishedRun, setting: dict[str, dict[str, Any]]) -> tuple[float, Longest]:
    """Hours of all stages with what ``setting`` changes, and the longest of them."""
    undisturbed = {"failures": "none", "checkpoint": "none", "restart_s": 0.0}
    parts: list[tuple[float, Longest]] = []
    for stage in run.stages:
        cluster, job = (
            {**base, **setting.get(n, {}), **stage.get(n, {})} for n, base in (("cluster", run.cluster), ("job", run.job))
        )
        layout = None if run.layout is None else {**run.layout, **stage.get("layout", {})}
        answer = plan(model=run.model, cluster=cluster, framework=run.framework, job=job, layout=layout, explain=False)
        if layout is None and not answer.fits:
            raise PlannerError("{0}: no layout fits {1} nodes", run.name, cluster["num_nodes"])
        whole = expected_run(answer, {"num_simulations": 100, **run.run, **(undisturbed if run.measured == "steps" else {})})
        hours = whole.wall_s.expected * answer.num_gpus / 3600.0
        parts.append((hours, Longest(answer.intervals["step_time_s"], cluster, job)))
    return sum(hours for hours, _ in parts), max(parts, key=lambda part: part[0])[1]


def _layout_spread(run: PublishedRun, stage: Longest) -> float:
    """Logarithm of the step time of the layout at the fastest quarter of those that fit, over the fastest's."""
    question: dict[str, Any] = {"model": run.model, "cluster": stage.cluster, "framework": run.framework, "job": stage.job}
    answer = evaluate(**question, layouts=candidates(**question))
    seconds = answer.step_time_s[answer.fits]
    return math.log(float(np.quantile(seconds, 0.25)) / float(seconds.min()))


def compare_published() -> tuple[Comparison, ...]:
    """Predict every published run, each with a field factor fitted on the runs of other organisations only."""
    runs = published_runs()
    models = [model_run(r) for r in runs]
    return tuple(compare(runs, models, i) for i in range(len(runs)))


def compare(runs: Sequence[PublishedRun], models: Sequence[Modelled], i: int) -> Comparison:
    """Run ``i`` with the factor of other organisations' runs: its own interval, their spread and the error of their mean
    together. PlannerError when fewer than two such runs are left."""
    mine = runs[i]
    others = [j for j, r in enumerate(runs) if r.organisation != mine.organisation]
    if len(others) < 2:
        raise PlannerError("{0}: a factor needs two runs of other organisations than {1}.", mine.name, mine.organisation)
    fit = factor_of([runs[j] for j in others], [models[j] for j in others])
    own, expected = models[i], models[i].hours * fit.factor
    low, high = (math.hypot(side, Z_90 * fit.predictive_spread) for side in (own.log_lower, own.log_upper))
    return Comparison(
        run=runs[i],
        own=own,
        field=fit,
        expected=expected,
        lower=expected * math.exp(-low),
        upper=expected * math.exp(high),
    )
