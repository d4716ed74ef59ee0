"""One answer: what a job on a layout takes, as a frozen result with names instead of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from planner.checks import Question, check_sizes, length_notes, require_possible
from planner.cost import Price, cost_usd, find_price, gpu_hours, own_price
from planner.curves import curves_of
from planner.errors import PlannerError, near
from planner.evaluation import Evaluation
from planner.evaluation import evaluate as evaluate_columns
from planner.framework import Framework, load_framework
from planner.hardware import Cluster
from planner.hardware import cluster as build_cluster
from planner.job import Job
from planner.layout import Layout, Layouts, as_columns
from planner.layout_space import candidates as all_candidates
from planner.layout_space import fastest_fitting, nearest_fitting
from planner.memory import KINDS, PHASES
from planner.model import Model
from planner.models import load_model
from planner.parameters import parameters_active, parameters_total
from planner.step_time import PARTS
from planner.tuned import trainable_parameters, tuning_notes
from planner.uncertainty import Interval, Subject, interval
from planner.units import GIB, HOUR_S

ModelLike = Model | str | Mapping[str, Any]
ClusterLike = Cluster | str | Mapping[str, Any]
FrameworkLike = Framework | str | Mapping[str, Any]
JobLike = Job | Mapping[str, Any]
LayoutLike = Layout | Mapping[str, Any]
PriceLike = Price | float | Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """A constant behind the answer that nobody measured."""

    where: str
    field: str
    value: Any
    source: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one job takes on one layout. SI units; memory is that of the heaviest pipeline stage's GPU.

    ``memory_bytes`` by kind adds up to ``peak_total_bytes`` (= reserved + overhead); ``step_parts_s`` add up to
    ``step_time_s``. Durations and costs of the whole run are None when the job gives no length.
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
    hfu: float
    model_flops_per_step: float
    peak_allocated_bytes: float
    peak_reserved_bytes: float
    peak_total_bytes: float
    usable_bytes: float
    headroom_bytes: float
    memory_bytes: Mapping[str, float]
    host_bytes_per_gpu: float
    heaviest_stage: int
    peak_phase: str
    fits: bool
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

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """90 % intervals of times, memory and money, by the name of the figure; absent where the figure is None.

        From the residuals of runs that the fit had not seen (uncertainty.py); a price is taken as certain.
        """
        subject = Subject(
            framework=self.framework.name, curves=self.cluster.accelerator.curves, family=self.model.family,
            num_nodes=self.cluster.num_nodes, num_gpus=self.num_gpus, parameters=float(self.parameters_total),
        )  # fmt: skip
        step = interval(self.step_time_s, "step_time", subject)
        found = {"step_time_s": step}
        for name in ("epoch_s", "run_s", "gpu_hours", "cost_usd", "cost_usd_per_step"):
            value = getattr(self, name)
            if value is not None:
                found[name] = step.scaled(value / self.step_time_s)
        for name in ("tokens_per_s", "tokens_per_s_per_gpu", "mfu", "hfu"):
            found[name] = step.inverse(getattr(self, name) * self.step_time_s)
        for name in ("peak_allocated_bytes", "peak_reserved_bytes", "peak_total_bytes"):
            found[name] = interval(getattr(self, name), "memory", subject)
        return found

    @property
    def certainty(self) -> str:
        """Whether it fits, by the interval of memory: "fits", "probably fits", "probably does not fit", "does not fit"."""
        need = self.intervals["peak_total_bytes"]
        sure = need.upper <= self.usable_bytes if self.fits else need.lower > self.usable_bytes
        return ("" if sure else "probably ") + ("fits" if self.fits else "does not fit")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, SI units, stable names."""
        specs = {
            "model": {"name": self.model.name, "family": self.model.family},
            "cluster": {
                "name": self.cluster.name, "node": self.cluster.node.name, "accelerator": self.cluster.accelerator.name,
                "num_nodes": self.cluster.num_nodes, "num_gpus": self.cluster.num_gpus,
            },
            "framework": self.framework.name,
            "job": self.job.model_dump(exclude={"provenance"}),
            "layout": self.layout.model_dump(exclude={"provenance"}),
            "price": None if self.price is None else self.price.to_dict(),
            "nearest": None if self.nearest is None else self.nearest.model_dump(exclude={"provenance"}),
            "assumptions": [vars_of(a) for a in self.assumptions],
        }  # fmt: skip
        numbers = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in specs}
        numbers["step_parts_s"], numbers["memory_bytes"] = dict(self.step_parts_s), dict(self.memory_bytes)
        sure = {name: found.to_dict() for name, found in self.intervals.items()}
        return {**specs, **numbers, "certainty": self.certainty, "intervals": sure}


def vars_of(assumption: Assumption) -> dict[str, Any]:
    """Fields of an assumption."""
    return {name: getattr(assumption, name) for name in assumption.__dataclass_fields__}


def as_model(value: ModelLike) -> Model:
    """A model from a name, a path to TOML or config.json, fields, or itself. ``base`` starts from a catalog model."""
    if isinstance(value, Model):
        return value
    if isinstance(value, str):
        return load_model(value)
    fields = dict(value)
    if set(fields) == {"name"}:
        return load_model(_text(fields["name"], "model.name"))
    for key in ("config", "base"):
        if key in fields:
            start = load_model(str(fields.pop(key)))
            name = fields.pop("name", start.name)
            return start.replaced(**fields, name=name) if fields or name != start.name else start
    return Model.build({"name": "inline model", **fields}, "model")


def _text(value: Any, field: str) -> str:
    """``value`` where it is text; PlannerError that names the field otherwise."""
    if not isinstance(value, str):
        raise PlannerError(f"{field} = {value!r}: must be text, a name in quotes.")
    return value


def as_cluster(value: ClusterLike) -> Cluster:
    """A cluster from a node's name (one node), from fields, or itself."""
    if isinstance(value, Cluster):
        return value
    fields = {"node": value} if isinstance(value, str) else dict(value)
    unknown = set(fields) - {"node", "num_nodes", "num_gpus", "accelerator"}
    if unknown:
        raise PlannerError(f"cluster: unknown field {', '.join(sorted(unknown))}; use node, num_nodes, num_gpus, accelerator.")
    if "node" not in fields:
        raise PlannerError("cluster.node is missing; give a node type (see `planner hardware list`), e.g. dgx-a100-80gb.")
    for key in ("node", "accelerator"):
        if isinstance(fields.get(key), int | float | list | tuple | dict):
            _text(fields[key], f"cluster.{key}")
    return build_cluster(**fields)


def as_framework(value: FrameworkLike) -> Framework:
    """A framework from a name, from a name with changed fields, or itself."""
    if isinstance(value, Framework):
        return value
    fields = {"name": value} if isinstance(value, str) else dict(value)
    if "name" not in fields:
        raise PlannerError("framework.name is missing; give one of the catalog, e.g. megatron-core.")
    start = load_framework(_text(fields.pop("name"), "framework.name"))
    return start.replaced(**fields) if fields else start


def as_price(value: PriceLike | None, accelerator: str) -> Price | None:
    """A price from a number (USD per GPU-hour), from search fields, or None for the catalog's on-demand quote."""
    if isinstance(value, Price):
        return value
    if isinstance(value, int | float):
        return own_price(float(value))
    fields = dict(value or {})
    own = "usd_per_gpu_hour" in fields
    known = {"usd_per_gpu_hour", "term"} if own else {"term", "provider", "region"}
    unknown = sorted(set(fields) - known)
    for key in known & set(fields) - {"usd_per_gpu_hour"}:
        _text(fields[key], f"price.{key}")
    if unknown:
        raise PlannerError(
            f"price: unknown field {unknown[0]} = {fields[unknown[0]]!r}; {near(unknown[0], {*known, 'usd_per_gpu_hour'})}"
        )
    if own:
        return own_price(**fields)
    if fields:
        return find_price(accelerator, **fields)
    try:
        return find_price(accelerator)
    except PlannerError:
        return None


def plan(
    *,
    model: ModelLike,
    cluster: ClusterLike,
    framework: FrameworkLike = "megatron-core",
    job: JobLike,
    layout: LayoutLike | None = None,
    price: PriceLike | None = None,
    explain: bool = True,
) -> Plan:
    """What the job takes. Names, mappings of fields or objects are accepted; without a layout, the fastest that fits.

    Raises PlannerError for unknown names, bad fields and layouts that are impossible. A layout that does not fit in
    memory is an answer: ``fits`` is False, ``reasons`` say why, ``nearest`` is the nearest layout that fits (not looked for
    without ``explain``).
    """
    the_model, the_cluster, the_framework = as_model(model), as_cluster(cluster), as_framework(framework)
    the_job = job if isinstance(job, Job) else Job.build(dict(job), "job")
    check_sizes(the_model, the_job)
    the_price = as_price(price, the_cluster.accelerator.name)
    chosen = layout if isinstance(layout, Layout) or layout is None else Layout.build(dict(layout), "layout")
    notes: tuple[str, ...] = ()
    if chosen is None:
        chosen, notes = _choose(the_model, the_cluster, the_framework, the_job)
    columns = as_columns(chosen, the_cluster.num_gpus)
    whole = columns.dp[0] == np.floor(columns.dp[0]) and columns.dp[0] >= 1
    chosen = columns.row(0) if whole else chosen
    require_possible(
        Question(model=the_model, cluster=the_cluster, framework=the_framework, job=the_job, layouts=columns), chosen
    )  # fmt: skip
    evaluation = evaluate_columns(the_model, the_cluster, the_framework, the_job, columns)
    if the_cluster.node.host_memory_bytes == 0 and (chosen.offload_optimizer or chosen.offload_activations):
        notes = (*notes, f"host memory of {the_cluster.node.name} is not known: whether the offloaded bytes fit was not checked")
    notes = (*notes, *length_notes(the_model, the_job), *tuning_notes(the_model, the_job))
    answer = _one(evaluation, the_model, the_cluster, the_framework, the_job, chosen, the_price, notes)
    return answer if answer.fits or not explain else _explained(answer)


def evaluate(
    *,
    model: ModelLike,
    cluster: ClusterLike,
    framework: FrameworkLike = "megatron-core",
    job: JobLike,
    layouts: Layouts | Layout | Iterable[Layout | Mapping[str, Any]],
) -> Evaluation:
    """The array form of ``plan``: memory, step time and flops of many layouts at once, as columns of shape ``(n,)``.

    Impossible layouts are masked (``possible``), with ``reasons[reason]``. Takes what ``plan`` takes.
    """
    the_cluster = as_cluster(cluster)
    the_job = job if isinstance(job, Job) else Job.build(dict(job), "job")
    columns = as_columns(layouts, the_cluster.num_gpus)
    return evaluate_columns(as_model(model), the_cluster, as_framework(framework), the_job, columns)


def candidates(*, model: ModelLike, cluster: ClusterLike, framework: FrameworkLike = "megatron-core", job: JobLike) -> Layouts:
    """Every layout worth asking about on the cluster, as columns for ``evaluate``."""
    the_job = job if isinstance(job, Job) else Job.build(dict(job), "job")
    the_model = as_model(model)
    check_sizes(the_model, the_job)
    return all_candidates(the_model, as_cluster(cluster), as_framework(framework), the_job)


def _choose(model: Model, cluster: Cluster, framework: Framework, job: Job) -> tuple[Layout, tuple[str, ...]]:
    found = all_candidates(model, cluster, framework, job, offload=False)
    if not len(found):
        raise PlannerError(
            f"layout: no combination of degrees and micro-batch fills {cluster.num_gpus} GPUs with global_batch_size = "
            f"{job.global_batch_size}; choose a batch that the GPUs divide, or give a layout."
        )
    evaluation = evaluate_columns(model, cluster, framework, job, found)
    best = fastest_fitting(evaluation)
    note = f"layout chosen: the fastest of {int(evaluation.possible.sum())} possible ones that fits"
    if best is None:
        if not evaluation.possible.any():
            raise PlannerError(f"layout: none is possible; first reason: {evaluation.reasons[int(evaluation.reason[0])]}.")
        best = int(np.nanargmin(np.where(evaluation.possible, evaluation.memory.total, np.nan)))
        note = "layout chosen: none fits, this one needs the least memory"
    return found.row(best), (note,)


def _one(
    evaluation: Evaluation, model: Model, cluster: Cluster, framework: Framework, job: Job, layout: Layout,
    price: Price | None, notes: tuple[str, ...],
) -> Plan:  # fmt: skip
    step_s = float(evaluation.step_time_s[0])
    steps_per_epoch = job.steps_per_epoch
    num_steps = None if steps_per_epoch is None else steps_per_epoch * job.num_epochs
    run_s = None if num_steps is None else num_steps * step_s
    hours = None if run_s is None else float(gpu_hours(run_s, cluster.num_gpus))
    memory = evaluation.memory
    return Plan(
        model=model, cluster=cluster, framework=framework, job=job, layout=layout, price=price,
        parameters_total=parameters_total(model), parameters_active=parameters_active(model),
        parameters_trainable=trainable_parameters(model, job), num_gpus=cluster.num_gpus,
        num_microbatches=int(evaluation.num_microbatches[0]), step_time_s=step_s,
        step_parts_s={part: float(getattr(evaluation.step, part)[0]) for part in PARTS},
        tokens_per_step=job.tokens_per_step, tokens_per_s=job.tokens_per_step / step_s,
        tokens_per_s_per_gpu=float(evaluation.tokens_per_s_per_gpu[0]), mfu=float(evaluation.mfu[0]),
        hfu=float(evaluation.hardware_flops[0] / (step_s * cluster.num_gpus * evaluation.peak_flops_per_s)),
        model_flops_per_step=float(evaluation.model_flops[0]), peak_allocated_bytes=float(memory.allocated[0]),
        peak_reserved_bytes=float(memory.reserved[0]), peak_total_bytes=float(memory.total[0]),
        usable_bytes=evaluation.usable_bytes, headroom_bytes=float(evaluation.headroom_bytes[0]),
        memory_bytes={kind: float(getattr(memory, kind)[0]) for kind in KINDS},
        host_bytes_per_gpu=float(memory.host[0]), heaviest_stage=int(evaluation.heaviest_stage[0]),
        peak_phase=PHASES[int(memory.phase[0])], fits=bool(evaluation.fits[0]), reasons=_reasons(evaluation), nearest=None,
        num_steps=num_steps, steps_per_epoch=steps_per_epoch,
        epoch_s=None if steps_per_epoch is None else steps_per_epoch * step_s, run_s=run_s, gpu_hours=hours,
        cost_usd=None if hours is None or price is None else float(cost_usd(hours, price)),
        cost_usd_per_step=None if price is None else float(cost_usd(gpu_hours(step_s, cluster.num_gpus), price)),
        assumptions=_assumptions(cluster, framework), notes=notes,
    )  # fmt: skip


def _reasons(evaluation: Evaluation) -> tuple[str, ...]:
    """Why the single layout of ``evaluation`` does not fit; empty when it does."""
    reasons = []
    need, usable = float(evaluation.memory.total[0]), evaluation.usable_bytes
    if need > usable:
        heaviest = max(KINDS, key=lambda kind: float(getattr(evaluation.memory, kind)[0]))
        largest = float(getattr(evaluation.memory, heaviest)[0])
        reasons.append(
            f"needs {need / GIB:.1f} GiB per GPU, {usable / GIB:.1f} GiB usable; largest part: {heaviest} {largest / GIB:.1f} GiB"
        )
    host = float(evaluation.memory.host[0])
    if host > evaluation.host_usable_bytes:
        reasons.append(
            f"offloading needs {host / GIB:.1f} GiB of host memory per GPU, {evaluation.host_usable_bytes / GIB:.1f} GiB there"
        )
    return tuple(reasons)


def _explained(answer: Plan) -> Plan:
    """Add the nearest layout that fits, or say that none does."""
    nearest, least = nearest_fitting(answer.model, answer.cluster, answer.framework, answer.job, answer.layout)
    if nearest is not None:
        return replace(answer, nearest=nearest)
    reason = f"no layout of {answer.framework.name} fits this cluster"
    if np.isfinite(least):
        reason += f": the leanest needs {least / GIB:.1f} GiB per GPU"
    return replace(answer, reasons=(*answer.reasons, reason))


def _assumptions(cluster: Cluster, framework: Framework) -> tuple[Assumption, ...]:
    specs = {
        f"accelerator {cluster.accelerator.name}": cluster.accelerator,
        f"curves {cluster.accelerator.curves}": curves_of(cluster.accelerator),
        f"node {cluster.node.name}": cluster.node,
        f"framework {framework.name}": framework,
        **{f"link {link.name}": link for link in cluster.node.links},
    }
    return tuple(
        Assumption(where=where, field=field, value=value, source=spec.provenance[field].source)
        for where, spec in specs.items()
        for field, value in spec.assumed().items()
    )


def run_hours(answer: Plan) -> float | None:
    """Hours of the whole run."""
    return None if answer.run_s is None else answer.run_s / HOUR_S
