"""The answer of ``planner.plan``: a frozen result with names instead of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.common.assumption import Assumption, vars_of
from planner.common.tables import one_row
from planner.hardware.cluster import Cluster, host_usable_bytes
from planner.layout_search.choice import Bolder
from planner.model.architecture import Model
from planner.operators.routing import job_load, kept_load
from planner.performance.evaluation import evaluate
from planner.performance.risk import FitRule, fit_rule
from planner.prices.price import Price
from planner.uncertainty.dollars import at_price, held_usd
from planner.uncertainty.interval import Interval, Subject, interval
from planner.uncertainty.subject import movable_part
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.layout import Layout, as_columns
from planner.workload.question import Question

if TYPE_CHECKING:
    import pandas as pd


TOLD_FROM = 0.05
"""A step's or a peak's difference from even routing that is shown."""


@dataclass(frozen=True, kw_only=True)
class EvenRouting:
    """The same layout where the router is forced to be even, as benchmarks do; ``expert_load`` is the plan's own, less what a
    capacity drops."""

    expert_load: float
    step_time_s: float
    peak_total_bytes: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one job takes on one layout. SI units; memory is that of the heaviest pipeline stage's GPU.

    ``memory_bytes`` by kind adds up to ``peak_total_bytes``, of which ``firm_bytes`` cannot be paged out and ``states_bytes`` are
    model states while the optimizer runs; ``peak_reserved_bytes`` holds besides what the allocator keeps where there is room;
    ``step_parts_s`` add up to ``step_time_s``. Durations and costs of the whole run are None when the job gives no length,
    dollars also where it does not fit.
    """

    model: Model
    cluster: Cluster
    framework: Framework
    job: Job
    layout: Layout
    price: Price | None
    parameters_total: int
    parameters_active: int
    parameters_trainable: int
    num_gpus: int
    num_microbatches: int
    step_time_s: float
    step_parts_s: Mapping[str, float]
    tokens_per_step: float
    tokens_per_s: float
    tokens_per_s_per_gpu: float
    mfu: float
    mfu_causal: float
    hfu: float
    model_flops_per_step: float
    peak_allocated_bytes: float
    peak_reserved_bytes: float
    peak_total_bytes: float
    firm_bytes: float
    states_bytes: float
    usable_bytes: float
    headroom_bytes: float
    memory_bytes: Mapping[str, float]
    host_bytes_per_gpu: float
    heaviest_stage: int
    peak_phase: str
    fits: bool
    risk: float
    bolder: Bolder | None
    reasons: tuple[str, ...]
    nearest: Layout | None
    num_steps: float | None
    steps_per_epoch: float | None
    epoch_s: float | None
    run_s: float | None
    gpu_hours: float | None
    cost_usd: float | None
    cost_usd_per_step: float | None
    assumptions: tuple[Assumption, ...]
    notes: tuple[str, ...]

    @property
    def question(self) -> Question:
        """What was asked, but the layout."""
        return Question(self.model, self.cluster, self.framework, self.job)

    @property
    def subject(self) -> Subject:
        """What the intervals of this plan depend on."""
        return Subject.of(self.question, self.layout)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """90 % intervals of times, memory and money, by the name of the figure; absent where the figure is None.

        From runs whose source the fit had not seen (planner/uncertainty); money holds the price's own interval too. What the
        driver shows holds cache that the allocator would give back, so ``peak_total_bytes`` is as uncertain as reserved memory.
        No step is faster than the GPU's peak allows: with its operations at that peak all the time.
        """
        subject = self.subject
        step = interval(self.step_time_s, "step_time", subject)
        least_s = self.step_time_s * min(max(self.hfu, self.mfu), 1.0)
        step = replace(step, lower=max(step.lower, least_s))
        found = {"step_time_s": step}
        for name in ("epoch_s", "run_s", "gpu_hours", "cost_usd", "cost_usd_per_step"):
            value = getattr(self, name)
            if value is not None:
                found[name] = step.scaled(value / self.step_time_s)
        if self.price is not None:
            if "cost_usd_per_step" in found:
                found["cost_usd_per_step"] = at_price(found["cost_usd_per_step"], self.price)
            if "cost_usd" in found:
                found["cost_usd"] = held_usd(found["run_s"], self.num_gpus, self.price)
        for name in ("tokens_per_s", "tokens_per_s_per_gpu", "mfu", "mfu_causal", "hfu"):
            found[name] = step.inverse(getattr(self, name) * self.step_time_s)
        for name in ("peak_allocated_bytes", "peak_reserved_bytes", "peak_total_bytes"):
            figure = "allocated" if name == "peak_allocated_bytes" else "reserved"
            value = getattr(self, name)
            movable = float(movable_part(self.states_bytes, value))
            found[name] = interval(value, "memory", replace(subject, figure=figure, movable=movable))
        return found

    @cached_property
    def fit_probability(self) -> float:
        """Probability that the heaviest GPU's memory is enough; 0 where the host's is not."""
        if self.host_bytes_per_gpu > host_usable_bytes(self.cluster):
            return 0.0
        return float(self._rule.probability(self.firm_bytes, self.states_bytes))

    @cached_property
    def even_routing(self) -> EvenRouting | None:
        """Step and memory with a router forced to be even, where either differs by more than 5 % (``TOLD_FROM``)."""
        if job_load(self.model, self.job, self.layout.ep) == 1.0:
            return None
        load = float(kept_load(self.model, self.job, np.array([float(self.layout.ep)]))[0])
        even = self.job.replaced(routing="forced", expert_load=None)
        columns = as_columns(self.layout, self.num_gpus)
        found = evaluate(replace(self.question, job=even), columns)
        step_s, peak_bytes = float(found.step_time_s[0]), float(found.memory.total_bytes[0])
        differ = max(self.step_time_s / step_s, self.peak_total_bytes / peak_bytes) - 1.0
        return EvenRouting(expert_load=load, step_time_s=step_s, peak_total_bytes=peak_bytes) if differ > TOLD_FROM else None

    @property
    def recommended(self) -> bool:
        """Whether it fits at the accepted risk."""
        return self.fits and bool(self._rule.holds(self.firm_bytes, self.states_bytes))

    @cached_property
    def _rule(self) -> FitRule:
        return fit_rule(self.question, self.risk)

    @property
    def certainty(self) -> str:
        """Whether it fits at the accepted risk: "fits", "probably fits", "probably does not fit", "does not fit"."""
        sure = self.recommended if self.fits else self.fit_probability <= self.risk
        return ("" if sure else "probably ") + ("fits" if self.fits else "does not fit")

    def to_frame(self) -> pd.DataFrame:
        """The figures of ``to_dict`` as a table of one row, SI units: ``pd.concat`` puts plans under each other."""
        return one_row({name: value for name, value in self.to_dict().items() if name != "assumptions"})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, SI units, stable names."""
        specs = {
            "model": {"name": self.model.name, "family": self.model.family},
            "cluster": self.cluster.summary(),
            "framework": self.framework.name,
            "framework_changes": self.framework.changes(),
            "job": self.job.model_dump(exclude={"provenance"}),
            "layout": fields_of(self.layout),
            "price": None if self.price is None else self.price.to_dict(),
            "bolder": None if self.bolder is None else {**vars(self.bolder), "layout": fields_of(self.bolder.layout)},
            "nearest": None if self.nearest is None else fields_of(self.nearest),
            "assumptions": [vars_of(a) for a in self.assumptions],
        }
        numbers = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in specs}
        numbers["step_parts_s"], numbers["memory_bytes"] = dict(self.step_parts_s), dict(self.memory_bytes)
        sure = {name: found.to_dict() for name, found in self.intervals.items()}
        even = None if self.even_routing is None else dict(vars(self.even_routing))
        doubt = {
            "even_routing": even,
            "certainty": self.certainty,
            "fit_probability": self.fit_probability,
            "recommended": self.recommended,
        }
        return {**specs, **numbers, **doubt, "even_routing": even, "intervals": sure}


def fields_of(layout: Layout) -> dict[str, Any]:
    """A layout's fields for JSON."""
    return layout.model_dump(exclude={"provenance"})


def step_time_interval(plan: Plan) -> Interval:
    """Lower, expected and upper seconds of one step."""
    return plan.intervals["step_time_s"]


def memory_interval(plan: Plan) -> Interval:
    """Lower, expected and upper bytes needed on the heaviest GPU."""
    return plan.intervals["peak_total_bytes"]
