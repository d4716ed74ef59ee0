"""The only composition: specs and layouts in, arrays of memory, time and dollars out. Everything else calls it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from planner.common.arguments import as_amount
from planner.common.arrays import Array, Mask, Number, at_columns
from planner.hardware.cluster import Cluster, host_usable_bytes, usable_bytes
from planner.hardware.curves import Curves
from planner.model.architecture import LayerKind, Model
from planner.model.parameters import embedding_parameters
from planner.operators.optimizer import low_rank_state_bytes
from planner.operators.setting import AXES, Setting, distinct, distinct_axes
from planner.operators.table import Table, build_table
from planner.performance.block_cost import BlockCost, BlockCosts, block_costs
from planner.performance.context import Context
from planner.performance.feasibility import check_job, impossible
from planner.performance.memory import (
    KINDS,
    StageContent,
    StageMemory,
    model_states,
    page_out,
    parameters_away,
    peak,
    stage_moments,
)
from planner.performance.pipeline import Stage, bubble_s, in_flight, stages
from planner.performance.stage_content import NOTHING, stage_blocks, stage_content
from planner.performance.step_time import (
    PARTS,
    Exchange,
    StageTime,
    StepTime,
    beside_another,
    combine,
    exchange,
    synchronization_s,
    update_s,
)
from planner.performance.transfers import offload_s, pipeline_s
from planner.prices.price import gpu_hours
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.layout import Layouts
from planner.workload.question import Question

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 16_384
"""Layouts evaluated at a time: their columns stay in the processor's cache."""
KEPT_COLUMNS = 512
"""Combinations of axes up to which a table is kept for the next question: some megabytes of rows."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What each of ``n`` layouts takes; arrays of shape ``(n,)``. Impossible layouts hold NaN and a reason.

    ``memory`` is that of the heaviest stage, ``firm_bytes`` what of it cannot be paged out, ``states_bytes`` its model states
    while the optimizer runs, ``step`` follows the slowest.
    ``reason`` indexes ``reasons``, -1 = none. ``model_flops`` of one step and all GPUs, ``masked_flops`` those of
    them that the causal mask hides.
    """

    layouts: Layouts
    possible: NDArray[np.bool_]
    reason: NDArray[np.intp]
    reasons: tuple[str, ...]
    memory: StageMemory
    firm_bytes: Array
    states_bytes: Array
    heaviest_stage: Array
    step: StepTime
    model_flops: Array
    masked_flops: Array
    hardware_flops: Array
    num_microbatches: Array
    usable_bytes: float
    host_usable_bytes: Number
    tokens_per_step: Number
    num_gpus: Number
    peak_flops_per_s: float

    @property
    def step_time_s(self) -> Array:
        """Seconds of one optimizer step."""
        return self.step.total_s

    @property
    def tokens_per_s_per_gpu(self) -> Array:
        """Training tokens per second and GPU."""
        return self.tokens_per_step / self.step_time_s / self.num_gpus

    @property
    def mfu(self) -> Array:
        """Model flops utilization: needed flops (no recomputation, attention in full) over peak (PaLM, appendix B)."""
        return self.model_flops / (self.step_time_s * self.num_gpus * self.peak_flops_per_s)

    @property
    def hfu(self) -> Array:
        """Hardware flops utilization: flops that are done, recomputation among them, over peak."""
        return self.hardware_flops / (self.step_time_s * self.num_gpus * self.peak_flops_per_s)

    @property
    def mfu_causal(self) -> Array:
        """The same with causal attention counted as the mask leaves it: about half (Megatron-LM counts so)."""
        return (self.model_flops - self.masked_flops) / (self.step_time_s * self.num_gpus * self.peak_flops_per_s)

    @property
    def headroom_bytes(self) -> Array:
        """Usable memory less what the heaviest GPU needs; negative = does not fit."""
        return self.usable_bytes - self.memory.total_bytes

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Possible, fits in GPU memory, and what is offloaded fits in the host's."""
        host = (self.memory.host_bytes == 0) | (self.memory.host_bytes <= self.host_usable_bytes)
        return np.asarray(self.possible & (self.headroom_bytes >= 0) & host)

    def to_frame(self, *, usd_per_gpu_hour: float | None = None, num_steps: float | None = None) -> pd.DataFrame:
        """One row a layout, SI units: its fields, whether it is possible and fits, memory by kind, step time by part.

        With a price the dollars of a step, with ``num_steps`` the seconds, GPU-hours and dollars of the run. A layout that is
        impossible has its ``reason`` and empty figures. PlannerError for a price or a number of steps that is none.
        """
        import pandas as pd

        usd_per_gpu_hour = as_amount(usd_per_gpu_hour, "usd_per_gpu_hour", "zero")
        num_steps = as_amount(num_steps, "num_steps")
        step_hours = gpu_hours(self.step_time_s, self.num_gpus)
        columns: dict[str, Any] = {
            **self.layouts.to_columns(),
            "possible": self.possible,
            "fits": self.fits,
            "reason": ["" if i < 0 else self.reasons[i] for i in self.reason],
            "num_gpus": self.num_gpus,
            "num_microbatches": self.num_microbatches,
            "step_time_s": self.step_time_s,
            "tokens_per_s": self.tokens_per_step / self.step_time_s,
            "tokens_per_s_per_gpu": self.tokens_per_s_per_gpu,
            "mfu": self.mfu,
            "mfu_causal": self.mfu_causal,
            "peak_total_bytes": self.memory.total_bytes,
            "headroom_bytes": self.headroom_bytes,
            **{f"{kind}_bytes": getattr(self.memory, f"{kind}_bytes") for kind in KINDS},
            **{f"{part}_s": getattr(self.step, f"{part}_s") for part in PARTS},
        }
        if usd_per_gpu_hour is not None:
            columns["cost_usd_per_step"] = step_hours * usd_per_gpu_hour
        if num_steps is not None:
            columns |= {"run_s": self.step_time_s * num_steps, "gpu_hours": step_hours * num_steps}
        if usd_per_gpu_hour is not None and num_steps is not None:
            columns["cost_usd"] = step_hours * num_steps * usd_per_gpu_hour
        return pd.DataFrame(columns)


@dataclass(frozen=True, kw_only=True)
class Staged:
    """One distinct pipeline stage: memory at each moment of a step, seconds of a micro-batch."""

    stage: Stage
    moments: tuple[StageMemory, ...]
    time: StageTime


def evaluate(question: Question, layouts: Layouts, curves: Curves | None = None) -> Evaluation:
    """Memory, step time and flops of every layout.

    Operator rows are evaluated once per distinct combination of the few axes they depend on; then layouts of equal
    (pp, vpp) share their stages. One layout gives the same bits alone as among millions: every step is elementwise.
    ``curves`` replaces those of the accelerator's GPU family.
    Raises PlannerError for a precision that the accelerator lacks or a sequence that the model cannot take.
    """
    question = question.on_stack()
    check_job(question)
    question = question.tuned()
    broken, reason, reasons = impossible(question, layouts)
    context = Context.of(question, curves)
    valid = np.flatnonzero(~broken)
    good = layouts.take(valid)
    columns = _evaluate_possible(context, good) if len(good) else {}
    return _assemble(context, layouts, ~broken, reason, reasons, valid, columns)


def evaluate_each(
    model: Model, clusters: Sequence[Cluster], framework: Framework, jobs: Sequence[Job], layouts: Layouts
) -> Evaluation:
    """``evaluate`` of one layout on one cluster for one job each, ``n`` of them; each number equals that of its question alone.

    The clusters differ in ``num_gpus`` and ``num_nodes`` only, the jobs in ``seq_len``, ``global_batch_size`` and length, and
    jobs with images, teachers or an indexer's choice of keys in no sequence. ``check_job`` holds for every pair: it is not
    asked here.
    """
    first = Question(model, clusters[0], framework, jobs[0]).on_stack().tuned()
    columns = {"global_batch_size": np.array([float(job.global_batch_size) for job in jobs])}
    if any(job.seq_len != jobs[0].seq_len for job in jobs):
        columns["seq_len"] = np.array([float(job.seq_len) for job in jobs])
    job = jobs[0].model_copy(update=columns)
    cluster = clusters[0].model_copy(update={"num_gpus": np.array([float(one.num_gpus) for one in clusters])})
    context = replace(Context.of(first), job=job, cluster=cluster)
    broken, reason, reasons = impossible(context, layouts)
    valid = np.flatnonzero(~broken)
    found = _evaluate_possible(context.take(valid), layouts.take(valid)) if len(valid) else {}
    return _assemble(context, layouts, ~broken, reason, reasons, valid, found)


@dataclass(frozen=True, kw_only=True)
class StageHeld:
    """What one distinct pipeline stage holds: memory at each moment of a step, and what its time depends on: parameters, those
    that a rank updates, bytes paged out."""

    stage: Stage
    moments: tuple[StageMemory, ...]
    dense_parameters: Array
    expert_parameters: Array
    update_elements: Array
    paged_bytes: Array

    def at(self, columns: Mask) -> StageHeld:
        """Without moments, at some positions of the last axis."""
        return StageHeld(
            stage=self.stage,
            moments=(),
            dense_parameters=at_columns(self.dense_parameters, columns),
            expert_parameters=at_columns(self.expert_parameters, columns),
            update_elements=at_columns(self.update_elements, columns),
            paged_bytes=at_columns(self.paged_bytes, columns),
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a search asks first of each layout: its heaviest GPU, what of that cannot be paged out, its model states, that GPU's
    share of the host; they broadcast. ``held``: the stages, from which the step's time follows where it is asked for."""

    peak_bytes: Array
    firm_bytes: Array
    states_bytes: Array
    host_bytes: Array
    held: tuple[StageHeld, ...]

    def at(self, columns: Mask) -> Summary:
        """At some positions of the last axis."""
        return Summary(
            peak_bytes=at_columns(self.peak_bytes, columns),
            firm_bytes=at_columns(self.firm_bytes, columns),
            states_bytes=at_columns(self.states_bytes, columns),
            host_bytes=at_columns(self.host_bytes, columns),
            held=tuple(here.at(columns) for here in self.held),
        )


class GridEvaluator:
    """Evaluates layouts whose columns broadcast against each other, so that nothing is computed twice.

    The same functions as ``evaluate``, elementwise: every number equals that of the layout alone, bit for bit.
    """

    def __init__(self, question: Question) -> None:
        question = question.on_stack()
        check_job(question)
        self._context = Context.of(question.tuned())

    def block_costs(self, parts: Sequence[Layouts]) -> tuple[BlockCosts, list[NDArray[np.intp]]]:
        """Costs of the blocks on the distinct axes of all ``parts``, and for each part the positions of its rows' own."""
        axes = {name: np.concatenate([getattr(part, name) for part in parts]) for name in AXES}
        costs, index = _block_costs(self._context, Layouts(**{f.name: axes.get(f.name, NOTHING) for f in fields(Layouts)}))
        return costs, np.split(index, np.cumsum([len(part) for part in parts])[:-1])

    def summary(self, layouts: Layouts, blocks: BlockCosts, pp: int, cut: tuple[Stage, ...]) -> Summary:
        """Memory of layouts of one ``pp`` and equal stages; ``blocks`` along their last axis."""
        held = _held(self._context, layouts, blocks, pp, cut, self._num_microbatches(layouts))
        need = host = states = NOTHING
        for here in held:  # the largest total is the total of the largest: ``peak`` without its parts
            total = np.maximum(np.maximum(here.moments[0].total_bytes, here.moments[1].total_bytes), here.moments[2].total_bytes)
            host = np.maximum(host, here.moments[0].host_bytes)
            states = (
                here.moments[-1].states_bytes if len(held) == 1 else np.where(total > need, here.moments[-1].states_bytes, states)
            )
            need = np.maximum(need, total)
        firm = _firm([here.moments for here in held]) if self._context.job.paged else need
        return Summary(peak_bytes=need, firm_bytes=firm, states_bytes=states, host_bytes=host, held=tuple(held))

    def step_time_s(self, layouts: Layouts, blocks: BlockCosts, pp: int, held: Sequence[StageHeld]) -> Array:
        """Seconds of a step of layouts whose stages hold ``held``."""
        m = self._num_microbatches(layouts)
        return _step(layouts, _timed(self._context, layouts, blocks, pp, held), pp, m).total_s

    def _num_microbatches(self, layouts: Layouts) -> Array:
        return np.asarray(self._context.job.global_batch_size / (layouts.micro_batch_size * layouts.dp))


def stage_memory(question: Question, layouts: Layouts) -> list[Staged]:
    """Memory of each distinct pipeline stage at the moments of a step (memory.PHASES); possible layouts of one (pp, vpp)."""
    context = Context.of(question.on_stack().tuned())
    blocks, index = _block_costs(context, layouts)
    pp, m = int(layouts.pp[0]), context.job.global_batch_size / (layouts.micro_batch_size * layouts.dp)
    return _stages(context, layouts, blocks.take(index), pp, stages(context.model, pp, int(layouts.vpp[0])), m)


def operator_table(question: Question, layouts: Layouts) -> Table:
    """The rows themselves, for the distinct axes of ``layouts``."""
    question = question.on_stack()
    check_job(question)
    setting, _ = distinct_axes(layouts, question.tuned().model, question.framework, question.job)
    return build_table(setting)


def step_time_columns(question: Question, layout: Layouts, curves: Curves, copies: int) -> Array:
    """Seconds of a step of one possible layout under ``copies`` sets of constants at once, shape ``(copies,)``.

    The framework and ``curves`` hold columns of that shape where the sets differ: everything after the specs is elementwise,
    so that the derivatives of a fit come from one pass. Each number equals that of its set alone.
    """
    columns = Layouts(**{f.name: np.repeat(getattr(layout, f.name), copies) for f in fields(Layouts)})
    context = Context.of(question.tuned(), curves)
    axes = {name: getattr(columns, name) for name in AXES}
    table = build_table(Setting(model=context.model, framework=context.framework, job=context.job, **axes))
    blocks = block_costs(table, context.cluster, curves)
    pp, vpp = int(layout.pp[0]), int(layout.vpp[0])
    m = context.job.global_batch_size / (columns.micro_batch_size * columns.dp)
    staged = _stages(context, columns, blocks, pp, stages(context.model, pp, vpp), m)
    return np.broadcast_to(_step(columns, staged, pp, m).total_s, (copies,))


def _block_costs(context: Context, layouts: Layouts) -> tuple[BlockCosts, NDArray[np.intp]]:
    if context.varies:
        axes_of = [getattr(layouts, name) for name in AXES]
        first, index = distinct(
            [*axes_of, np.broadcast_to(context.job.seq_len, len(layouts)), np.asarray(context.cluster.num_gpus)]
        )
        here = context.take(first)
        columns = {name: axis[first] for name, axis in zip(AXES, axes_of, strict=True)}
        table = build_table(Setting(model=here.model, framework=here.framework, job=here.job, **columns))
        return block_costs(table, here.cluster, here.curves), index
    first, index = distinct([getattr(layouts, name) for name in AXES])
    axes = tuple(getattr(layouts, name)[first] for name in AXES)
    if len(first) > KEPT_COLUMNS:
        setting = Setting(model=context.model, framework=context.framework, job=context.job, **dict(zip(AXES, axes, strict=True)))
        return block_costs(build_table(setting), context.cluster, context.curves), index
    table = _kept_table(context.model, context.framework, context.job, tuple(tuple(axis.tolist()) for axis in axes))
    return block_costs(table, context.cluster, context.curves), index


@lru_cache(maxsize=32)
def _kept_table(model: Model, framework: Framework, job: Job, axes: tuple[tuple[float, ...], ...]) -> Table:
    """The table of the combinations ``axes`` of AXES, kept: no row depends on the accelerator, and one question is asked of many,
    and of several numbers of GPUs."""
    values = {name: np.array(column) for name, column in zip(AXES, axes, strict=True)}
    return build_table(Setting(model=model, framework=framework, job=job, **values))


def _evaluate_possible(context: Context, layouts: Layouts) -> dict[str, Array]:
    blocks, index = _block_costs(context, layouts)
    columns: dict[str, Array] = {}
    first, group = distinct([layouts.pp, layouts.vpp])
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group))
    for representative, members in zip(first, np.split(order, ends[:-1]), strict=True):
        pp, vpp = int(layouts.pp[representative]), int(layouts.vpp[representative])
        for chunk in np.split(members, range(CHUNK, len(members), CHUNK)):
            part = _pipeline_group(context.take(chunk), layouts.take(chunk), blocks.take(index[chunk]), pp, vpp)
            for name, values in part.items():
                if name not in columns:
                    columns[name] = np.empty(len(layouts))
                columns[name][chunk] = values
    return columns


def _pipeline_group(context: Context, layouts: Layouts, blocks: BlockCosts, pp: int, vpp: int) -> dict[str, Array]:
    """Columns for layouts of one (pp, vpp): heaviest and slowest of the distinct stages."""
    m = context.job.global_batch_size / (layouts.micro_batch_size * layouts.dp)
    staged = _stages(context, layouts, blocks, pp, stages(context.model, pp, vpp), m)
    memory, heaviest, host = peak(staged[0].moments), NOTHING, staged[0].moments[0].host_bytes
    states = staged[0].moments[-1].states_bytes
    for here in staged[1:]:
        most = peak(here.moments)
        heavier = most.total_bytes > memory.total_bytes
        heaviest = np.where(heavier, float(here.stage.first), heaviest)
        states = np.where(heavier, here.moments[-1].states_bytes, states)
        memory = most.where(heavier, memory)
        host = np.maximum(host, here.moments[0].host_bytes)
    firm = _firm([here.moments for here in staged]) if context.job.paged else memory.total_bytes
    memory = replace(memory, host_bytes=host)  # the stages of a pipeline may share a host
    step = _step(layouts, staged, pp, m)
    model_flops, hardware_flops, masked_flops = _flops(context, layouts, blocks, m)
    return {
        **{f"memory.{n}": getattr(memory, n) for n in memory.__dataclass_fields__},
        **{f"step.{n}": getattr(step, n) for n in step.__dataclass_fields__},
        "firm_bytes": firm,
        "states_bytes": states,
        "heaviest_stage": heaviest,
        "model_flops": model_flops,
        "masked_flops": masked_flops,
        "hardware_flops": hardware_flops,
        "num_microbatches": m,
    }


def _firm(moments_of_stages: Iterable[tuple[StageMemory, ...]]) -> Array:
    """The most that a GPU needs once all that may be paged out is."""
    most = NOTHING
    for moment in (moment for moments in moments_of_stages for moment in moments):
        most = np.maximum(most, moment.firm_bytes)
    return most


def _stages(context: Context, layouts: Layouts, blocks: BlockCosts, pp: int, cut: tuple[Stage, ...], m: Array) -> list[Staged]:
    """Memory and time of each distinct stage."""
    return _timed(context, layouts, blocks, pp, _held(context, layouts, blocks, pp, cut, m))


def _held(context: Context, layouts: Layouts, blocks: BlockCosts, pp: int, cut: tuple[Stage, ...], m: Array) -> list[StageHeld]:
    """Memory of each distinct stage."""
    tied = _words_copy(context.model, context.job, layouts, pp)
    held = []
    for stage in cut:
        flying = in_flight(pp, layouts.vpp, stage.first, m, 1.0 if context.framework.overlaps_experts else 0.0)
        content = stage_content(context.job, context.framework, pp, blocks, stage, flying, tied)
        held.append(_held_by_stage(context, layouts, stage, content, m))
    return held


def _timed(context: Context, layouts: Layouts, blocks: BlockCosts, pp: int, held: Sequence[StageHeld]) -> list[Staged]:
    """The time of each distinct stage beside its memory."""
    parallel = exchange(context, layouts, blocks)
    wide = context.precision.activation * context.model.hidden_size * max(context.model.hyper_streams, 1)
    sends = pipeline_s(context.cluster, context.framework, layouts, wide, context.job.seq_len)
    staged = []
    for here in held:
        parts = stage_blocks(blocks, here.stage, pp)
        copies = offload_s(context.cluster, layouts, [part for part in parts if part[1] is not blocks.head])
        time = _stage_time(context, layouts, parts, here, parallel, sends, copies)
        staged.append(Staged(stage=here.stage, moments=here.moments, time=time))
    return staged


def _step(layouts: Layouts, staged: list[Staged], pp: int, m: Array) -> StepTime:
    """The step of a pipeline: its slowest stage sets the pace, the others delay its start."""
    slowest = staged[0].time
    crossing = once_dp = once_optimizer = weight = NOTHING
    for here in staged:
        time = here.time
        if here is not staged[0]:
            slowest = time.where(time.microbatch_s > slowest.microbatch_s, slowest)
        crossing = crossing + here.stage.count * time.microbatch_s
        once_dp = np.maximum(once_dp, time.once_data_parallel_s)
        once_optimizer = np.maximum(once_optimizer, time.once_optimizer_s)
        weight = weight + here.stage.count * time.weight_gradient_s
    others = crossing - slowest.microbatch_s
    other_weights = weight - slowest.weight_gradient_s
    bubble = bubble_s(layouts.schedule, layouts.vpp, others, other_weights) if pp > 1 else NOTHING
    return combine(slowest, once_dp, once_optimizer, m, bubble)


def _words_copy(model: Model, job: Job, layouts: Layouts, pp: int) -> Array:
    """Elements of the last stage's own copy of the words: tied, or read by multi-token prediction (Megatron keeps both)."""
    if not (model.tied_embeddings or job.multi_token_prediction) or pp == 1 or model.head == "none":
        return NOTHING
    words = sum(t.elements for t in embedding_parameters(model) if t.shard == "vocabulary")
    return np.asarray(words / layouts.tp)


def _summed_weights(context: Context, layouts: Layouts) -> Array:
    """Elements of the output layer on a rank, tied or not, whose gradients are summed over the chunks of a loss."""
    if context.framework.loss_chunks is None or context.job.frozen or context.model.head == "none":
        return NOTHING
    return np.asarray(float(context.model.vocab_size * context.model.hidden_size) / layouts.tp)


def _held_by_stage(context: Context, layouts: Layouts, stage: Stage, content: StageContent, m: Array) -> StageHeld:
    job, framework, precision = context.job, context.framework, context.precision
    # Adafactor keeps fp32 sums of rows and columns: about 2 / hidden_size elements per parameter
    factored = 8.0 / context.model.hidden_size if precision.factored else 0.0
    if job.low_rank:
        total = float((content.dense_parameters + content.expert_parameters).max())
        factored = low_rank_state_bytes(context.model, job, precision, total, float(content.end_parameters.max()))
    gathers = framework.mixed_precision == "sharded_fp32"
    states = model_states(
        content,
        layouts,
        precision,
        factored_width=factored,
        shards_from=2.0 if gathers else 3.0,
        on_host=parameters_away(layouts, framework),
    )
    moments = stage_moments(
        content,
        layouts,
        states,
        framework=framework,
        precision=precision,
        job=job,
        num_microbatches=m,
        usable=usable_bytes(context.cluster),
        summed_weights=_summed_weights(context, layouts) if stage.head else NOTHING,
    )
    away: Array = NOTHING
    if job.paged:
        usable = usable_bytes(context.cluster)
        paged = [page_out(moment, usable) for moment in moments]
        for before, after in zip(moments, paged, strict=True):
            away = np.maximum(away, after.host_bytes - before.host_bytes)
        moments = tuple(replace(after, host_bytes=before.host_bytes + away) for before, after in zip(moments, paged, strict=True))
    return StageHeld(
        stage=stage,
        moments=moments,
        dense_parameters=content.dense_parameters,
        expert_parameters=content.expert_parameters,
        update_elements=states.update_elements,
        paged_bytes=away,
    )


def _stage_time(
    context: Context,
    layouts: Layouts,
    parts: list[tuple[float, BlockCost]],
    held: StageHeld,
    parallel: Exchange,
    sends: Array,
    copies: Array,
) -> StageTime:
    names = ("forward_s", "backward_s", "recompute_s", "tp_s", "ep_s", "etp_s", "cp_s", "weight_gradient_s")
    sums = dict.fromkeys(names, NOTHING)
    gather = host = NOTHING
    for count, block in parts:
        for name in names:
            sums[name] = sums[name] + count * getattr(block, name)
        if parallel.sums:
            sums["backward_s"] = sums["backward_s"] + count * parallel.sums[id(block)]
        gather = gather + count * parallel.gathers[id(block)]
        host = host + count * parallel.host[id(block)]
    backward = sums["backward_s"] + sums["recompute_s"]
    if context.framework.overlaps_experts:
        m = context.job.global_batch_size / (layouts.micro_batch_size * layouts.dp)
        sums["ep_s"] = sums["ep_s"] * beside_another(context.framework, m)
    once = synchronization_s(parallel.sync, held.dense_parameters, held.expert_parameters, sums["forward_s"], backward)
    optimizer = update_s(context, layouts, held.update_elements, held.paged_bytes)
    return StageTime(
        forward_s=sums["forward_s"],
        backward_s=sums["backward_s"],
        recompute_s=sums["recompute_s"],
        tensor_parallel_s=sums["tp_s"],
        expert_parallel_s=sums["ep_s"] + sums["etp_s"],
        context_parallel_s=sums["cp_s"],
        pipeline_s=sends,
        gather_s=gather,
        offload_s=copies + host,
        weight_gradient_s=sums["weight_gradient_s"],
        once_data_parallel_s=once,
        once_optimizer_s=optimizer,
    )


def _flops(context: Context, layouts: Layouts, blocks: BlockCosts, m: Array) -> tuple[Array, Array, Array]:
    """(model flops, executed, masked) of one step on all GPUs: rows of a rank x ranks of a stage, over all stages."""
    counts: dict[LayerKind, int] = {}
    for kind in context.model.layer_kinds:
        counts[kind] = counts.get(kind, 0) + 1
    parts = [
        (1.0, blocks.embedding),
        (1.0, blocks.head),
        *((n, blocks.layers[kind]) for kind, n in counts.items()),
        *blocks.teacher,
    ]
    ranks = layouts.tp * layouts.cp * layouts.dp * m

    def total(name: str) -> Array:
        return np.asarray(sum(times * getattr(block, name) for times, block in parts) * ranks)

    return total("model_flops"), total("mean_flops"), total("masked_flops")


def _assemble(
    context: Context,
    layouts: Layouts,
    possible: NDArray[np.bool_],
    reason: NDArray[np.intp],
    reasons: tuple[str, ...],
    valid: NDArray[np.intp],
    columns: dict[str, Array],
) -> Evaluation:
    def full(name: str) -> Array:
        values = np.full(len(layouts), np.nan)
        if name in columns:
            values[valid] = columns[name]
        return values

    dtype = context.precision.matmul
    return Evaluation(
        layouts=layouts,
        possible=possible,
        reason=reason,
        reasons=reasons,
        memory=StageMemory(**{n: full(f"memory.{n}") for n in StageMemory.__dataclass_fields__}),
        firm_bytes=full("firm_bytes"),
        states_bytes=full("states_bytes"),
        heaviest_stage=full("heaviest_stage"),
        step=StepTime(**{n: full(f"step.{n}") for n in StepTime.__dataclass_fields__}),
        model_flops=full("model_flops"),
        masked_flops=full("masked_flops"),
        hardware_flops=full("hardware_flops"),
        num_microbatches=full("num_microbatches"),
        usable_bytes=usable_bytes(context.cluster),
        host_usable_bytes=host_usable_bytes(context.cluster),
        tokens_per_step=np.asarray(context.job.global_batch_size) * np.asarray(context.job.seq_len, dtype=float)
        if context.varies
        else context.job.tokens_per_step,
        num_gpus=context.cluster.num_gpus,
        peak_flops_per_s=context.cluster.accelerator.peak(dtype),
    )
