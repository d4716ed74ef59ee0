"""What would make a plan fit: every small change that does, and where no layout fits, another method, optimizer or number of
GPUs; each with what it costs in time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from planner.common.errors import PlannerError
from planner.hardware.cluster import Cluster, accelerator_names
from planner.hardware.cluster import cluster as build_cluster
from planner.layout_search.space import allowed
from planner.performance.evaluation import Evaluation, evaluate
from planner.training.plan import Plan
from planner.training.planning import plan
from planner.workload.default_framework import default_framework, leaner_frameworks
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.layout import RECOMPUTE, Layout, as_columns
from planner.workload.resolve import FrameworkLike, as_cluster
from planner.workload.tuning import USUAL_RANK, Adapter

Changes = Mapping[str, Mapping[str, Any]]
"""Table -> field -> value."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """Fields to change (table -> field -> value) and what the plan takes then; with ``anew`` the layout is chosen again."""

    changes: Changes
    step_time_s: float
    headroom_bytes: float
    anew: bool = False


METHODS = {"finetune": ("lora", "qlora"), "lora": ("qlora",)}
"""Kinds of job that tune the same model in less memory."""
MORE_GPUS = (2, 4, 8, 16, 32, 64)
"""Times as many GPUs that are tried, in turn."""
SHORTER = (2, 4, 8)
"""Parts of the sequence length that are tried."""


def ways_out(wanted: Plan, framework: FrameworkLike | None = None, allow: Iterable[str] = ()) -> list[Remedy]:
    """What to change where no layout of the job fits on these GPUs at the accepted risk: a named framework, the method, the
    optimizer, the number of GPUs, the sequence length; of each kind the first that surely fits, its layout chosen anew.

    ``framework`` and ``allow`` as ``plan`` was given them: None lets each job take its usual one. Empty where a layout fits.
    """
    admitted = allowed(allow)
    if wanted.fits or wanted.nearest is not None:
        return []
    job, found = wanted.job, list[Remedy]()
    sure = partial(_first_sure, wanted, framework, admitted)
    found += sure({"framework": {"name": name}} for name in _usual_stacks(wanted))
    for kind in METHODS.get(job.kind, ()):
        adapter = {} if job.adapter is not None else {"adapter": {"rank": USUAL_RANK}}
        found += sure([{"job": {"kind": kind, **adapter}}])
    optimizers = ("adamw-8bit", "adafactor") if job.optimizer == "adamw" and job.adapter is None else ()
    found += sure({"job": {"optimizer": name}} for name in optimizers)
    found += sure({"cluster": {"num_gpus": wanted.num_gpus * k}} for k in MORE_GPUS)
    lengths = [{"job": {"seq_len": job.seq_len // part}} for part in SHORTER if job.seq_len % part == 0]
    shortest = sure(lengths[-1:])  # where it does not fit, no longer one does
    return found + (sure(lengths[:-1]) or shortest if shortest else [])


SHARDED = {"huggingface": "transformers-fsdp"}
"""The same modules under a framework that shards all states: accelerate's FSDP."""


def _usual_stacks(wanted: Plan) -> list[str]:
    """The plan's own modules sharded, then the frameworks that such a job is usually run with; none that is the plan's own."""
    cluster, job = wanted.cluster, wanted.job
    sharded = [SHARDED[wanted.framework.name]] if wanted.framework.name in SHARDED and cluster.num_gpus > 1 else []
    usual = default_framework(wanted.model, cluster, job).framework
    names = [*sharded, usual.name, *(other.framework.name for other in leaner_frameworks(usual, cluster, job, wanted.risk))]
    return [name for name in names if name != wanted.framework.name]


def _first_sure(wanted: Plan, framework: FrameworkLike | None, allow: frozenset[str], changes: Iterable[Changes]) -> list[Remedy]:
    """The first of the changes with which a layout fits at the accepted risk; none where none does."""
    for change in changes:
        try:
            answer = plan(
                model=wanted.model,
                cluster=_cluster(wanted.cluster, change.get("cluster", {})),
                framework=change.get("framework", framework),
                job=_job(wanted.job, change.get("job", {})),
                price=wanted.price,
                explain=False,
                risk=wanted.risk,
                allow=allow,
            )
        except PlannerError:
            continue
        if answer.recommended:
            step_s, room = answer.step_time_s, answer.headroom_bytes
            return [Remedy(changes=change, step_time_s=step_s, headroom_bytes=room, anew=True)]
    return []


def _job(job: Job, changes: Mapping[str, Any]) -> Job:
    adapter = {"adapter": Adapter.build(changes["adapter"], "job.adapter")} if "adapter" in changes else {}
    return job.replaced(**{**changes, **adapter})


def remedies(wanted: Plan, framework: FrameworkLike | None = None, allow: Iterable[str] = ()) -> list[Remedy]:
    """Single changes with which ``wanted`` fits, and the nearest layout that fits, fastest first.

    Changes of the layout (micro-batch, recomputation, sharding, degrees, offload), of the optimizer, of the sequence length
    and of the number of GPUs; where no layout fits also ``ways_out``. A layout that fits needs none.
    """
    admitted = allowed(allow)
    if wanted.fits:
        return []
    found = [*_layouts(wanted), *_jobs(wanted), *_clusters(wanted), *ways_out(wanted, framework, admitted)]
    nearest = wanted.nearest
    if nearest is not None:
        changed = _difference(wanted.layout, nearest)
        if len(changed) > 1:
            found += _tried(wanted, [{"layout": changed}])
    return sorted(found, key=lambda r: r.step_time_s)


def _difference(before: Layout, after: Layout) -> dict[str, Any]:
    return {
        name: value
        for name, value in after.model_dump(exclude={"provenance", "dp", "schedule"}).items()
        if value != getattr(before, name)
    }


def _layouts(wanted: Plan) -> list[Remedy]:
    changes = [{name: value} for name, value in _layout_steps(wanted.layout, wanted.framework)]
    if not changes:
        return []
    layouts = [wanted.layout.replaced(**{"dp": None, "schedule": None, **change}) for change in changes]
    columns = as_columns(layouts, wanted.cluster.num_gpus)
    answer = evaluate(wanted.question, columns)
    return [_remedy({"layout": change}, answer, i) for i, change in enumerate(changes) if answer.fits[i]]


def _layout_steps(layout: Layout, framework: Framework) -> Iterable[tuple[str, Any]]:
    """One step of one field, in the direction that saves memory."""
    has = framework.features
    size = layout.micro_batch_size
    yield from (("micro_batch_size", size // d) for d in (2, 4, 8, 16) if size % d == 0)
    for name in RECOMPUTE[RECOMPUTE.index(layout.recompute) + 1 :]:
        if name != "selective" or "selective_recompute" in has:
            yield "recompute", name
    yield from (("zero", z) for z in (1, 2, 3) if z > layout.zero and f"zero{z}" in has)
    for degree in ("tp", "pp", "cp", "ep"):
        if degree in has:
            yield from ((degree, getattr(layout, degree) * k) for k in (2, 4, 8))
    for name in ("sequence_parallel", "offload_optimizer", "offload_parameters", "offload_activations"):
        if name in has and not getattr(layout, name):
            yield name, True


def _remedy(changes: Mapping[str, Mapping[str, Any]], answer: Evaluation, i: int) -> Remedy:
    return Remedy(changes=changes, step_time_s=float(answer.step_time_s[i]), headroom_bytes=float(answer.headroom_bytes[i]))


def _jobs(wanted: Plan) -> list[Remedy]:
    job = wanted.job
    changes: list[dict[str, Any]] = [{"seq_len": job.seq_len // d} for d in (2, 4) if job.seq_len % d == 0]
    changes += [{"optimizer": name} for name in ("adamw-8bit", "adafactor") if job.optimizer == "adamw"]
    changes += [{"precision": "bf16"}] if job.precision in ("fp32", "tf32") else []
    return _tried(wanted, [{"job": change} for change in changes])


def _clusters(wanted: Plan) -> list[Remedy]:
    return _tried(wanted, [{"cluster": {"num_gpus": wanted.num_gpus * k}} for k in (2, 4)])


def _tried(wanted: Plan, changes: Iterable[Changes]) -> list[Remedy]:
    """Those of the changes with which the plan is possible and fits."""
    found = []
    for change in changes:
        try:
            job = wanted.job.replaced(**change.get("job", {}))
            cluster = _cluster(wanted.cluster, change.get("cluster", {}))
            layout = wanted.layout.replaced(**{"dp": None, "schedule": None, **change.get("layout", {})})
            answer = plan(
                model=wanted.model,
                cluster=cluster,
                framework=wanted.framework,
                job=job,
                layout=layout,
                price=wanted.price,
                explain=False,
            )
        except PlannerError:
            continue
        if answer.fits:
            found.append(Remedy(changes=change, step_time_s=answer.step_time_s, headroom_bytes=answer.headroom_bytes))
    return found


def _cluster(cluster: Cluster, changes: Mapping[str, Any]) -> Cluster:
    if not changes:
        return cluster
    fields = {"accelerator": cluster.accelerator.name, "num_gpus": cluster.num_gpus}
    if cluster.accelerator.name in accelerator_names() and cluster == as_cluster(fields):
        return as_cluster({**fields, **changes})  # in the machines that such a number of cards is usually bought in
    whole = cluster.node.name.split(",")[0]  # a partly used node is called "NAME, 4 of 8 GPUs"
    node = cluster.node if whole == cluster.node.name else whole
    return build_cluster(node, num_gpus=int(changes["num_gpus"]), accelerator=cluster.accelerator)


def scaling(answer: Plan, factors: Iterable[float] = (0.5, 1, 2)) -> list[Plan]:
    """The plan on fewer and more GPUs of the same kind, its layout and batch kept; those that are possible and fit."""
    found = []
    for factor in factors:
        gpus = answer.num_gpus * factor
        if factor == 1:
            found.append(answer)
            continue
        try:
            if gpus < 1 or gpus != np.floor(gpus):
                continue
            other = plan(
                model=answer.model,
                cluster=_cluster(answer.cluster, {"num_gpus": int(gpus)}),
                framework=answer.framework,
                job=answer.job,
                layout=answer.layout.replaced(dp=None),
                price=answer.price,
                explain=False,
            )
        except PlannerError:
            continue
        if other.fits:
            found.append(other)
    return found
