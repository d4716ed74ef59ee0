"""One answer: what a job on a layout takes, as a frozen result with names instead of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from planner.common.arguments import as_flag
from planner.common.assumption import Assumption
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.units import GIB
from planner.hardware.cluster import Cluster, cluster_notes, usual_host_bytes
from planner.hardware.curves import curves_of
from planner.layout_search.choice import Bolder, Choice, choose
from planner.layout_search.nearest import nearest_fitting
from planner.layout_search.ranking import NOISE
from planner.layout_search.space import LayoutGrid, allowed
from planner.model.architecture import Model
from planner.model.parameters import parameters_active, parameters_total
from planner.performance.evaluation import Evaluation
from planner.performance.evaluation import evaluate as evaluate_columns
from planner.performance.feasibility import check_sizes, job_notes, require_possible
from planner.performance.memory import KINDS, PHASES
from planner.performance.risk import RISK, check_risk
from planner.performance.step_time import PARTS
from planner.prices.market import as_price, commitment_note, price_note, run_usd
from planner.prices.price import Price, PriceLike, cost_usd, gpu_hours
from planner.training.narrow import precision_notes
from planner.training.plan import Plan
from planner.training.trainable import trainable_parameters, tuning_notes
from planner.workload.default_framework import default_framework, leaner_frameworks
from planner.workload.dispatch import stack_notes, stack_on
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.layout import Layout, Layouts, as_columns, as_rows, checked
from planner.workload.question import Question
from planner.workload.resolve import (
    ClusterLike,
    FrameworkLike,
    JobLike,
    LayoutLike,
    ModelLike,
    as_cluster,
    as_framework,
    as_job,
    as_layout,
    as_model,
    read_as,
    staged,
)


def plan(
    *,
    model: ModelLike,
    cluster: ClusterLike,
    framework: FrameworkLike | None = None,
    job: JobLike,
    layout: LayoutLike | None = None,
    price: PriceLike | None = None,
    explain: bool = True,
    risk: float = RISK,
    allow: Iterable[str] = (),
) -> Plan:
    """What the job takes. Names, mappings of fields or objects are accepted.

    Without a layout the first row of ``search``: the simplest within 2 % of the fastest that fits with a probability of
    1 - ``risk``. ``allow`` admits layouts that are not usual ("all", or names of ``layout_search.space.UNUSUAL``).
    Raises PlannerError for unknown names, bad fields and layouts that are impossible. A layout that does not fit in
    memory is an answer: ``fits`` is False, ``reasons`` say why, ``nearest`` is the nearest layout that fits (not looked for
    without ``explain``, nor is why a narrow precision saves little).
    """
    check_risk(risk)
    admitted, explain = allowed(allow), as_flag(explain, "explain")
    the_model, the_cluster = as_model(model), as_cluster(cluster)
    the_job = as_job(job, the_cluster)
    check_sizes(the_model, the_job)
    the_price = as_price(price, the_cluster.accelerator.name, the_cluster.node)
    chosen = None if layout is None else as_layout(layout)
    named, notes = framework_of(framework, the_model, the_cluster, the_job, chosen)
    if chosen is not None:
        chosen, why = as_sharded(chosen, named)
        notes = (*notes, *why)
    the_framework = stack_on(named, the_cluster, the_model)
    bolder: Bolder | None = None
    if chosen is None:
        usual = Question(the_model, the_cluster, named, the_job)
        named, choice, why = chosen_stack(usual, notes, framework is None, risk, admitted)
        notes = (*why, *choice.why)
        the_framework = stack_on(named, the_cluster, the_model)
        chosen, bolder = choice.layout, choice.bolder
    question = Question(the_model, the_cluster, the_framework, the_job)
    columns = as_columns(chosen, the_cluster.num_gpus)
    whole = columns.dp[0] == np.floor(columns.dp[0]) and columns.dp[0] >= 1
    chosen = columns.row(0) if whole else chosen
    evaluation = evaluate_columns(question, columns)
    if not evaluation.possible[0]:
        require_possible(question, columns, chosen)
    notes = (*notes, *question_notes(replace(question, framework=named), chosen))
    notes = (*notes, *price_note(the_price, the_cluster.accelerator.name))
    notes = (*notes, *(precision_notes(question, chosen) if explain else ()))
    answer = _one(evaluation, question, chosen, the_price, notes)
    answer = replace(answer, risk=risk, bolder=bolder)
    return answer if answer.fits or not explain else _explained(answer)


def question_notes(named: Question, layout: Layout) -> tuple[str, ...]:
    """What a reader should know of a question; ``named``: with the framework before its attention kernel was chosen."""
    model, cluster, job = named.model, named.cluster, named.job
    notes: tuple[str, ...] = ()
    if cluster.node.host_memory_bytes == 0 and (
        layout.offload_optimizer or layout.offload_parameters or layout.offload_activations
    ):
        taken = usual_host_bytes(cluster.accelerator, cluster.node.num_gpus) / GIB
        notes = (Message("host memory of {0} is not known: {1:,.0f} GiB were taken, as usual", cluster.node.name, taken),)
    return (
        *notes,
        *cluster_notes(cluster),
        *stack_notes(named.framework, cluster, model, layout),
        *model.reading_notes,
        *job_notes(model, job),
        *tuning_notes(model, job),
    )


def as_sharded(layout: Layout, framework: Framework) -> tuple[Layout, tuple[str, ...]]:
    """(the layout with the stage that its framework has where none is named, a note of it)."""
    found = staged(layout, framework)
    taken = (Message("layout.zero = {0}, as {1} shards where no stage is named", found.zero, framework.name),)
    return found, () if found is layout else taken


def framework_of(
    given: FrameworkLike | None, model: Model, cluster: Cluster, job: Job, layout: Layout | None
) -> tuple[Framework, tuple[str, ...]]:
    """(the framework, why where none was named)."""
    if given is not None:
        return (found := as_framework(given, job.kind)), read_as(given, found, job.kind)
    usual = default_framework(model, cluster, job, layout)
    return usual.framework, (usual.why,)


def chosen_stack(
    usual: Question,
    why: tuple[str, ...],
    free: bool,
    risk: float,
    allow: Iterable[str],
    micro_batch_size: int | None = None,
    headroom: float = 0.0,
) -> tuple[Framework, Choice, tuple[str, ...]]:
    """(framework, layout, why this framework): as ``search`` chooses. ``why``: of the usual one, see ``framework_of``.

    ``free``: nobody named a framework, so that a leaner one is taken where it surely fits and the usual one does not, or gives
    way and is slower; where none surely fits the likeliest to, and of several the leanest. ``micro_batch_size``: the only one
    looked at; ``headroom``: part of the GPU's memory to keep free besides.
    """
    asked: dict[str, Any] = {"risk": risk, "allow": allow, "micro_batch_size": micro_batch_size, "headroom": headroom}
    chosen: list[tuple[Framework, Choice, tuple[str, ...]]] = []
    failed: PlannerError | None = None
    try:
        choice = choose(usual.on_stack(), **asked)
        chosen.append((usual.framework, choice, why))
    except PlannerError as error:
        failed = error
    sure = chosen[0][1] if chosen and chosen[0][1].sure else None
    best = chosen[0] if sure is not None else None
    for other in leaner_frameworks(usual.framework, usual.cluster, usual.job, risk) if free else ():
        if best is not None and not (best[1].gives_way and other.faster):
            continue
        try:
            surer = choose(replace(usual, framework=other.framework).on_stack(), **asked)
        except PlannerError:
            continue
        found = other.framework, surer, (other.why if sure is None else other.faster,)
        if surer.sure and (best is None or surer.step_time_s * (1.0 + NOISE) < best[1].step_time_s):
            best = found
        chosen.append(found)
    if best is not None:
        return best
    if failed is not None and not chosen:
        raise failed
    return min(chosen, key=lambda one: (not one[1].hosted, -round(one[1].fit_probability, 3), one[1].peak_bytes))


def evaluate(
    *,
    model: ModelLike,
    cluster: ClusterLike,
    framework: FrameworkLike | None = None,
    job: JobLike,
    layouts: Layouts | Layout | Iterable[Layout | Mapping[str, Any]],
) -> Evaluation:
    """The array form of ``plan``: memory, step time and flops of many layouts at once, as columns of shape ``(n,)``.

    Impossible layouts are masked (``possible``), with ``reasons[reason]``. Takes what ``plan`` takes.
    """
    the_cluster = as_cluster(cluster)
    the_job = as_job(job, the_cluster)
    given = checked(layouts) if isinstance(layouts, Layouts) else as_rows(layouts)
    columns = as_columns(given, the_cluster.num_gpus)
    the_model = as_model(model)
    one = columns.row(0) if len(columns) and np.floor(columns.dp[0]) == columns.dp[0] else None
    the_framework, _ = framework_of(framework, the_model, the_cluster, the_job, one)
    if not isinstance(given, Layouts):
        columns = as_columns([staged(row, the_framework) for row in given], the_cluster.num_gpus)
    return evaluate_columns(Question(the_model, the_cluster, the_framework, the_job), columns)


def candidates(
    *,
    model: ModelLike,
    cluster: ClusterLike,
    framework: FrameworkLike | None = None,
    job: JobLike,
    allow: Iterable[str] = (),
) -> Layouts:
    """The layouts that ``plan`` and ``search`` choose from, as columns for ``evaluate``; ``allow`` as in ``plan``."""
    the_cluster = as_cluster(cluster)
    the_job = as_job(job, the_cluster)
    the_model = as_model(model)
    check_sizes(the_model, the_job)
    the_framework, _ = framework_of(framework, the_model, the_cluster, the_job, None)
    question = Question(the_model, the_cluster, the_framework, the_job)
    return LayoutGrid(question=question, allow=allowed(allow)).columns()


def _one(evaluation: Evaluation, q: Question, layout: Layout, price: Price | None, notes: tuple[str, ...]) -> Plan:
    model, cluster, job = q.model, q.cluster, q.job
    step_s = float(evaluation.step_time_s[0])
    memory = evaluation.memory
    paid = price if evaluation.fits[0] else None  # what cannot run costs nothing
    notes = (*notes, *batch_notes(evaluation, job), *crossing_notes(evaluation, cluster, layout))
    length = _length(job, step_s, cluster.num_gpus, paid)
    return Plan(
        model=model,
        cluster=cluster,
        framework=q.framework,
        job=job,
        layout=layout,
        price=price,
        parameters_total=parameters_total(model),
        parameters_active=parameters_active(model),
        parameters_trainable=trainable_parameters(model, job),
        num_gpus=cluster.num_gpus,
        num_microbatches=int(evaluation.num_microbatches[0]),
        step_time_s=step_s,
        step_parts_s={part: float(getattr(evaluation.step, f"{part}_s")[0]) for part in PARTS},
        tokens_per_step=job.tokens_per_step,
        tokens_per_s=job.tokens_per_step / step_s,
        tokens_per_s_per_gpu=float(evaluation.tokens_per_s_per_gpu[0]),
        mfu=float(evaluation.mfu[0]),
        mfu_causal=float(evaluation.mfu_causal[0]),
        hfu=float(evaluation.hfu[0]),
        model_flops_per_step=float(evaluation.model_flops[0]),
        peak_allocated_bytes=float(memory.allocated_bytes[0]),
        peak_reserved_bytes=float(memory.reserved_bytes[0]),
        peak_total_bytes=float(memory.total_bytes[0]),
        firm_bytes=float(evaluation.firm_bytes[0]),
        states_bytes=float(evaluation.states_bytes[0]),
        usable_bytes=evaluation.usable_bytes,
        headroom_bytes=float(evaluation.headroom_bytes[0]),
        memory_bytes={kind: float(getattr(memory, f"{kind}_bytes")[0]) for kind in KINDS},
        host_bytes_per_gpu=float(memory.host_bytes[0]),
        heaviest_stage=int(evaluation.heaviest_stage[0]),
        peak_phase=PHASES[int(memory.phase[0])],
        fits=bool(evaluation.fits[0]),
        risk=RISK,
        bolder=None,
        reasons=reasons_of(evaluation),
        nearest=None,
        **length,
        cost_usd_per_step=None if paid is None else float(cost_usd(gpu_hours(step_s, cluster.num_gpus), paid)),
        assumptions=_assumptions(q),
        notes=(*notes, *_commitment(length["run_s"], cluster.num_gpus, paid)),
    )


def _length(job: Job, step_s: float, num_gpus: int, paid: Price | None) -> dict[str, Any]:
    """The figures of a plan that follow from how long the job is; None where that is not given."""
    steps_per_epoch = job.steps_per_epoch
    num_steps = None if steps_per_epoch is None else steps_per_epoch * job.num_epochs
    run_s = None if num_steps is None else num_steps * step_s
    return {
        "num_steps": num_steps,
        "steps_per_epoch": steps_per_epoch,
        "epoch_s": None if steps_per_epoch is None else steps_per_epoch * step_s,
        "run_s": run_s,
        "gpu_hours": None if run_s is None else float(gpu_hours(run_s, num_gpus)),
        "cost_usd": None if run_s is None or paid is None else float(run_usd(run_s, num_gpus, paid)),
    }


def _commitment(run_s: float | None, num_gpus: int, paid: Price | None) -> tuple[str, ...]:
    return () if run_s is None or paid is None else commitment_note(run_s, num_gpus, paid)


def lasting(answer: Plan, num_steps: int) -> Plan:
    """The plan of the same job for another number of steps, as ``plan`` answers it: no step depends on how many there are."""
    job = answer.job.replaced(num_steps=num_steps, num_tokens=None, num_samples=None, num_epochs=1)
    paid = answer.price if answer.fits else None
    length = _length(job, answer.step_time_s, answer.num_gpus, paid)
    said = _commitment(answer.run_s, answer.num_gpus, paid)
    notes = (*(note for note in answer.notes if note not in said), *_commitment(length["run_s"], answer.num_gpus, paid))
    return replace(answer, job=job, notes=notes, **length)


SMALL_BATCH = 0.15
"""Part of a step that does not grow with its batch, from which an answer says so. Assumed: half of it is within reach of a batch
twice as large."""


def batch_notes(evaluation: Evaluation, job: Job, i: int = 0) -> tuple[str, ...]:
    """Whether layout ``i`` spends much of a step on what a larger batch takes no longer for."""
    once = float(evaluation.step.once_s[i]) / float(evaluation.step_time_s[i])
    if job.kind != "pretrain" or not evaluation.possible[i] or once < SMALL_BATCH:
        return ()
    return (
        Message(
            "a small batch: {0:.0%} of a step fills the pipeline, exchanges gradients and updates the weights, which takes no "
            "longer with a larger job.global_batch_size than {1:,}",
            once,
            job.global_batch_size,
        ),
    )


def crossing_notes(evaluation: Evaluation, cluster: Cluster, layout: Layout, i: int = 0) -> tuple[str, ...]:
    """A warning where tensor parallelism of layout ``i`` leaves what joins the GPUs inside a node: each layer waits for it."""
    links = cluster.node.links
    joined = max((link.span for link in links if link.kind != "network"), default=1)
    if not links or links[-1].kind != "network" or layout.tp <= joined:
        return ()
    share = float(evaluation.step.tensor_parallel_s[i]) / float(evaluation.step_time_s[i])
    return (
        Message(
            "warning: layout.tp = {0} is more than the {1} GPUs that faster links join: its exchanges, over {2}, take {3:.0%} of "
            "a step; use tp = {1} at most, with pp or data parallelism between nodes",
            layout.tp,
            joined,
            links[-1].name,
            share,
        ),
    )


def reasons_of(evaluation: Evaluation, i: int = 0) -> tuple[str, ...]:
    """Why layout ``i`` of ``evaluation`` does not fit; empty when it does."""
    reasons = []
    need, usable = float(evaluation.memory.total_bytes[i]), evaluation.usable_bytes
    if need > usable:
        heaviest = max(KINDS, key=lambda kind: float(getattr(evaluation.memory, f"{kind}_bytes")[i]))
        largest = float(getattr(evaluation.memory, f"{heaviest}_bytes")[i])
        reasons.append(
            Message(
                "needs {0:.1f} GiB per GPU, {1:.1f} GiB usable; largest part: {2} {3:.1f} GiB",
                need / GIB,
                usable / GIB,
                heaviest,
                largest / GIB,
            )
        )
    host = float(evaluation.memory.host_bytes[i])
    room = float(np.broadcast_to(evaluation.host_usable_bytes, evaluation.possible.shape)[i])
    if host > room:
        reasons.append(
            Message(
                "offloading needs {0:.1f} GiB of host memory per GPU, {1:.1f} GiB available",
                host / GIB,
                room / GIB,
            )
        )
    return tuple(reasons)


def _explained(answer: Plan) -> Plan:
    """Add the nearest layout that fits, or say that none does."""
    nearest, least = nearest_fitting(answer.question, answer.layout, answer.risk)
    if nearest is not None:
        return replace(answer, nearest=nearest)
    reason = Message("no layout of {0} fits this cluster with a probability of {1:.0%}", answer.framework.name, 1.0 - answer.risk)
    if np.isfinite(least):
        reason += Message(": the leanest needs {0:.1f} GiB per GPU", least / GIB)
    return replace(answer, reasons=(*answer.reasons, reason))


def _assumptions(q: Question) -> tuple[Assumption, ...]:
    model, cluster, framework = q.model, q.cluster, q.framework
    specs = {
        Message("model {0}", model.name): model,
        Message("accelerator {0}", cluster.accelerator.name): cluster.accelerator,
        Message("curves {0}", cluster.accelerator.curves): curves_of(cluster.accelerator),
        Message("node {0}", cluster.node.name): cluster.node,
        Message("framework {0}", framework.name): framework,
        **{Message("link {0}", link.name): link for link in cluster.node.links},
    }
    return tuple(
        Assumption(where=where, field=field, value=value, source=spec.provenance[field].source)
        for where, spec in specs.items()
        for field, value in spec.assumed().items()
    )
