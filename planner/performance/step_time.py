"""Seconds of one optimizer step: micro-batches through the slowest stage, bubble, exposed communication, update."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Array, Number
from planner.hardware.cluster import Cluster, gpus_of_host, host_link_rate
from planner.operators.optimizer import low_rank_s, optimizer_row, updated_tensors
from planner.performance.block_cost import BlockCost, BlockCosts
from planner.performance.collectives import collective_s
from planner.performance.context import Context
from planner.performance.memory import parameters_away
from planner.performance.roofline import beside_memory, unfused_rate
from planner.workload.framework import Framework
from planner.workload.layout import Layouts
from planner.workload.precision import Precisions

PARTS = (
    "forward", "backward", "recompute", "tensor_parallel", "expert_parallel", "context_parallel", "pipeline",
    "data_parallel", "offload", "bubble", "optimizer",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of a step by part (``PARTS``); they add up to the step. ``(n,)`` each. Communication is what is exposed of it.

    ``once_s``: what of them a step takes once, however many micro-batches it has: bubble, update, exchange after the last.
    """

    forward_s: Array
    backward_s: Array
    recompute_s: Array
    tensor_parallel_s: Array
    expert_parallel_s: Array
    context_parallel_s: Array
    pipeline_s: Array
    data_parallel_s: Array
    offload_s: Array
    bubble_s: Array
    optimizer_s: Array
    once_s: Array

    @property
    def total_s(self) -> Array:
        """The whole step."""
        total = np.zeros_like(self.forward_s)
        for part in PARTS:
            total = total + getattr(self, f"{part}_s")
        return total


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """One stage: seconds of one micro-batch by part, and of what happens once a step; ``(n,)`` each."""

    forward_s: Array
    backward_s: Array
    recompute_s: Array
    tensor_parallel_s: Array
    expert_parallel_s: Array
    context_parallel_s: Array
    pipeline_s: Array
    gather_s: Array  # ZeRO-3 gathers and scatters of every micro-batch, exposed
    offload_s: Array  # activations to the host and back, shards in and gradients out, exposed
    weight_gradient_s: Array
    once_data_parallel_s: Array
    once_optimizer_s: Array

    @property
    def microbatch_s(self) -> Array:
        """Seconds of one micro-batch."""
        return (
            self.forward_s
            + self.backward_s
            + self.recompute_s
            + self.tensor_parallel_s
            + self.expert_parallel_s
            + self.context_parallel_s
            + self.pipeline_s
            + self.gather_s
            + self.offload_s
        )

    def where(self, choose: NDArray[np.bool_], other: StageTime) -> StageTime:
        """``self`` where ``choose``, else ``other``."""
        if not choose.any():
            return other
        return StageTime(**{f.name: np.where(choose, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Synchronization:
    """How data-parallel ranks exchange: groups, message widths (bytes per parameter) and what may overlap."""

    cluster: Cluster
    framework: Framework
    layouts: Layouts
    gather_width: float
    reduce_width: float
    contention: Number  # seconds that computation loses to a second of exchange beside it
    kept_width: float  # bytes per parameter of a shard as it is kept
    away: Array  # 1 where the shards live on the host
    returned_s: Array  # seconds in which a gradient's element goes to the host beside the backward pass, mean over micro-batches
    added_s: Array  # in which the host takes it in and adds it to those of earlier micro-batches, and launches nothing
    gathers_16: bool  # ZeRO 2 gathers every micro-batch too (FSDP's shard-grad-op), once instead of twice
    gather_overlap: float  # the part of a gather that may hide behind a block's computation

    @property
    def once_a_step(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Where FSDP keeps a stage gathered over all micro-batches: in pipelines, whose chunks would gather too often."""
        return np.asarray(self.gathers_16 & (self.layouts.pp > 1))

    def _groups(self, expert: bool) -> tuple[Array, Array, Array]:
        """(ranks that hold copies, ranks that shard among them, stride)."""
        x = self.layouts
        if expert:
            return x.expert_ranks, x.expert_shard_ranks, x.ep * x.etp
        return x.ranks, x.shard_ranks, x.tp

    @staticmethod
    def _exchanged(dense: Array, expert: Array) -> tuple[tuple[Array, bool], ...]:
        return ((dense, False), (expert, True)) if expert.any() else ((dense, False),)

    def gather_s(self, dense: Array, expert: Array, frozen: Array | None = None, frozen_expert: Array | None = None) -> Array:
        """All-gather of parameters from the shards, and of frozen weights' bytes as they are stored."""
        total = np.zeros_like(dense)
        for is_expert, elements, still in ((False, dense, frozen), (True, expert, frozen_expert)):
            message = self.gather_width * elements
            message = message if still is None else message + still
            if is_expert and not message.any():
                continue
            _, shards, stride = self._groups(is_expert)
            total = total + collective_s(self.cluster, "all_gather", message, shards, stride)
        return total

    def reduce_s(self, dense: Array, expert: Array) -> Array:
        """Reduce-scatter of gradients to the shards, and all-reduce of the shards between replicas of the group.

        Without ZeRO a plain all-reduce; with hybrid sharding both (Zhao et al. 2023, section 3.2.2).
        """
        total = np.zeros_like(dense)
        for elements, is_expert in self._exchanged(dense, expert):
            ranks, shards, stride = self._groups(is_expert)
            message = self.reduce_width * elements
            total = total + collective_s(self.cluster, "reduce_scatter", message, shards, stride)
            replicas = ranks / np.maximum(shards, 1.0)
            total = total + collective_s(self.cluster, "all_reduce", message / shards, replicas, stride * shards)
        return total


def from_host_s(sync: Synchronization, block: BlockCost) -> tuple[Array, Array, Array]:
    """Seconds in which a block's shard comes in from the host for one gather, in which its gradients' shard goes back, and in
    which the host adds it to that of earlier micro-batches."""
    x, link = sync.layouts, host_link_rate(sync.cluster)
    dense, expert = x.shard_ranks, x.expert_shard_ranks
    elements = block.dense_parameters / dense + block.expert_parameters / expert
    still = block.frozen_dense_bytes / dense + block.frozen_expert_bytes / expert
    brought = (sync.kept_width * elements + still) / link
    return sync.away * brought, sync.away * sync.returned_s * elements, sync.away * sync.added_s * elements


def to_host_s(framework: Framework, precision: Precisions, cluster: Cluster, repeated: Array) -> tuple[Array, Array]:
    """Seconds of one element's gradient that goes to the host, mean over micro-batches: (beside the backward pass, while the host
    waits); ``repeated``: the part of a step's micro-batches after the first.

    The first gradient of a step goes to pinned memory beside the backward pass, g / link. FSDP takes each later one to pageable
    memory and adds it there before it goes on (PyTorch, fsdp/_fully_shard/_fsdp_collectives.py, foreach_reduce: ``non_blocking``
    only where nothing is accumulated). The driver stages it, which a core reads and writes, max(g / link, 2 g / host), and the
    sum reads two and writes one, 3 g / host (docs.nvidia.com/cuda/cuda-driver-api/api-sync-behavior.html). DeepSpeed adds on the
    device.
    """
    link, host, g = host_link_rate(cluster), host_share_bytes_per_s(framework, gpus_of_host(cluster)), precision.gradient
    later = repeated * (framework.mixed_precision == "sharded_fp32")
    return (1.0 - later) * g / link, later * (np.maximum(g / link, 2.0 * g / host) + 3.0 * g / host)


def hidden_s(communication_s: Array, fraction: float, window_s: Array) -> Array:
    """The part of a communication that computation of ``window_s`` seconds can hide, at most ``fraction`` of it."""
    return np.minimum(communication_s * fraction, window_s)


def sharded_block_s(sync: Synchronization, block: BlockCost) -> tuple[Array, Array]:
    """(exposed gathers and scatters, exposed traffic with the host) of one block and micro-batch under ZeRO 2 and 3.

    ZeRO 3 gathers a block's parameters before its forward and again before its backward pass; FSDP under ZeRO 2 keeps them
    in between; both stages scatter its gradients after it. Each runs beside the block's computation, which it delays: NCCL's
    kernels hold some of the GPU's processors, and on Hopper multiplications that own all of them wait for a second turn
    (``Curves.exchange_contention``). In a pipeline FSDP does this once a step (``once_a_step``). Where each adapter is a unit of
    its own (``Framework.adapters_sharded_apart``) no gather runs beside computation. Shards on the host come in before each
    gather, and their gradients go back (``from_host_s``); nothing hides what the host adds, since it launches nothing meanwhile.
    A gather waits for its shard, so that both are exposed by their share of the seconds.
    """
    dense, expert = block.dense_parameters, block.expert_parameters
    zero = np.where(sync.once_a_step, 0.0, sync.layouts.zero) if sync.gathers_16 else sync.layouts.zero
    if not (zero >= 2).any():
        return np.zeros(1), np.zeros(1)
    frozen = (block.frozen_dense_bytes, block.frozen_expert_bytes)
    gathered = sync.gather_s(dense, expert, *(frozen if frozen[0].any() or frozen[1].any() else ()))
    reduced = sync.reduce_s(dense, expert)
    brought: Array | float = 0.0
    returned: Array | float = 0.0
    added: Array | float = 0.0
    if sync.away.any():
        brought, returned, added = from_host_s(sync, block)
    gather = np.where(zero >= (2 if sync.gathers_16 else 3), gathered + brought, 0.0)
    window = block.recompute_s + block.backward_s
    # a teacher, and what lies below the lowest adapter, has no backward pass
    again = np.where((zero >= 3) & (window > 0), gather, 0.0)
    reduce = np.where(zero >= 2, reduced + returned, 0.0)
    f = sync.framework
    free = 1.0 - sync.contention
    forward = gather - free * hidden_s(gather, sync.gather_overlap, block.forward_s)
    hidden = np.minimum(again * sync.gather_overlap + reduce * f.overlap_gradient_reduction, window)
    backward = again + reduce - free * hidden
    if not sync.away.any():
        return forward + backward, np.zeros(1)
    of_gather = _part(brought, gathered + brought)
    of_backward = _part(again * of_gather + reduce * _part(returned, reduced + returned), again + reduce)
    host = forward * of_gather + backward * of_backward
    return forward + backward - host, host + np.where(zero >= 2, added, 0.0)


def _part(part: Array | float, whole: Array) -> Array:
    """``part`` / ``whole``; 0 of nothing."""
    return np.asarray(part / np.where(whole > 0.0, whole, 1.0))


def gradient_sum_s(context: Context, sync: Synchronization, block: BlockCost) -> Array:
    """Seconds in which one block's gradients of a micro-batch are added to those of the earlier ones, mean over a step's.

    A kernel reads the new gradient, w bytes an element, and the sum, g, and writes the sum: w + 2 g (PyTorch, AccumulateGrad).
    DeepSpeed casts first (BF16_Optimizer, update_hp_grads): g more written and read. The first gradient of a step is added too
    where a buffer of zeros waits for it, copied (w + g) into the buffer of DeepSpeed's ZeRO-3 shards (stage3.py,
    partition_grads), else kept as it is. Sums run while the device would wait for the host, as far as it does.
    """
    framework, job, precision, layouts = context.framework, context.job, context.precision, sync.layouts
    whole = (layouts.zero < 2) | sync.once_a_step | framework.accumulates_unsharded
    dense, expert = (np.where(whole, 1.0, shards) for shards in (layouts.shard_ranks, layouts.expert_shard_ranks))
    elements = block.dense_parameters / dense + block.expert_parameters / expert
    gathered = framework.mixed_precision == "sharded_fp32"  # computes with 16-bit copies, and reduces in fp32
    new = np.where(whole & gathered, precision.activation, precision.parameter)
    copied = framework.gradient_sum == "cast" and precision.gradient > precision.parameter
    width = new + (4.0 if copied else 2.0) * precision.gradient
    micro_batches = job.global_batch_size / (layouts.micro_batch_size * layouts.dp)
    copied_in = (framework.first_gradient == "copied") & (layouts.zero >= 3)
    first = width if framework.first_gradient == "added" else np.where(copied_in, new + precision.gradient, 0.0)
    accelerator, curves = context.cluster.accelerator, context.curves
    unfused = unfused_rate(framework.elementwise_rate, beside_memory(accelerator, curves))
    rate = unfused * curves.memory_fraction * accelerator.memory_bandwidth_bytes_per_s
    moved = (first + (micro_batches - 1.0) * width) / micro_batches
    seconds = (1.0 - sync.away) * moved * elements / rate
    return np.asarray(np.maximum(seconds - block.idle_s, 0.0))


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What data-parallel ranks exchange, the same in every stage; ``gathers``, traffic of shards with the ``host`` and ``sums``
    of gradients per micro-batch, by the identity of the block; no sums where the multiplications do them."""

    sync: Synchronization
    gathers: dict[int, Array]
    host: dict[int, Array]
    sums: dict[int, Array]


def exchange(context: Context, layouts: Layouts, blocks: BlockCosts) -> Exchange:
    """The data-parallel exchange of ``layouts`` and its exposed seconds for every block and micro-batch."""
    cluster, framework, job, precision = context.cluster, context.framework, context.job, context.precision
    in_fp8 = job.precision == "fp8" and framework.fp8_parameters and not job.frozen
    gathered = 1.0 if in_fp8 else precision.activation if precision.cast else precision.parameter
    reduce_16 = (job.gradient_dtype or framework.gradient_dtype) == "same" and precision.activation < 4
    repeated = 1.0 - layouts.micro_batch_size * layouts.dp / job.global_batch_size
    returned, added = to_host_s(framework, precision, cluster, repeated)
    sync = Synchronization(
        cluster=cluster,
        framework=framework,
        layouts=layouts,
        gather_width=gathered,
        reduce_width=precision.activation if reduce_16 else precision.gradient,
        contention=context.curves.exchange_contention,
        kept_width=precision.parameter,
        away=parameters_away(layouts, framework),
        returned_s=returned,
        added_s=added,
        gathers_16=framework.mixed_precision == "sharded_fp32",
        gather_overlap=0.0
        if job.adapter is not None and framework.adapters_sharded_apart
        else framework.overlap_parameter_gather,
    )
    parts = (blocks.embedding, *blocks.layers.values(), blocks.head, *(block for _, block in blocks.teacher))
    sharded = {id(block): sharded_block_s(sync, block) for block in parts}
    return Exchange(
        sync=sync,
        gathers={block: exposed for block, (exposed, _) in sharded.items()},
        host={block: exposed for block, (_, exposed) in sharded.items()},
        sums={id(block): gradient_sum_s(context, sync, block) for block in parts if framework.gradient_sum != "fused"},
    )


OVERLAPPED_EXPERTS = 0.9
"""Of experts' all-to-all that hides beside another micro-batch (--overlap-moe-expert-parallel-comm). Assumed, as for gradients'
exchange beside the backward pass."""


def beside_another(framework: Framework, num_microbatches: Array) -> Array:
    """What stays of the experts' exposed all-to-all where it runs beside another micro-batch (``Framework.overlaps_experts``).

    One micro-batch's forward pass runs beside the backward pass of the one before (megatron/core/pipeline_parallel/
    combined_1f1b.py): beside the first's forward and the last's backward there is none, so that 0.9 (1 - 1/m) of all hides, and
    no less than what hides without it. Of etp nothing more hides: its gathers belong to the experts' own computation.
    """
    hidden = OVERLAPPED_EXPERTS * (1.0 - 1.0 / num_microbatches)
    without = np.maximum(1.0 - np.asarray(framework.overlap_expert), 1e-9)
    return np.asarray(np.minimum((1.0 - hidden) / without, 1.0))


def synchronization_s(sync: Synchronization, dense: Array, expert: Array, forward_s: Array, backward_s: Array) -> Array:
    """Exposed exchange once a step: gradients after the last micro-batch (ZeRO 0, 1), updated parameters (ZeRO 1, 2)."""
    zero, f = sync.layouts.zero, sync.framework
    every = zero < 2 if not sync.gathers_16 else (zero < 2) | sync.once_a_step
    reduce = np.where(every, sync.reduce_s(dense, expert), 0.0) if every.any() else np.zeros(1)
    late = (zero == 1) | (zero == (1 if sync.gathers_16 else 2))
    late = late | sync.once_a_step if sync.gathers_16 else late
    gather = np.where(late, sync.gather_s(dense, expert), 0.0) if late.any() else np.zeros(1)
    free = 1.0 - sync.contention
    exposed = reduce - free * hidden_s(reduce, f.overlap_gradient_reduction, backward_s)
    return np.asarray(exposed + gather - free * hidden_s(gather, sync.gather_overlap, forward_s))


def update_s(context: Context, layouts: Layouts, elements: Array, paged_bytes: Array | float = 0.0) -> Array:
    """Seconds of what happens once a step: the update on the device, or on the host with transfers, and its own work.

    A loop over tensors takes the device no less than the host takes to launch it (a stage's share of them).
    """
    cluster, framework, job, precision = context.cluster, context.framework, context.job, context.precision
    curves, accelerator = context.curves, cluster.accelerator
    tensors = updated_tensors(context.model, framework) / layouts.pp if framework.fused_optimizer == "loop" else 0.0
    row = optimizer_row(elements, float(context.model.hidden_size), job, framework, precision, tensors)
    swept = row.bytes_moved / (curves.memory_fraction * accelerator.memory_bandwidth_bytes_per_s)
    if job.optimizer == "muon":
        dtype = precision.matmul if precision.matmul not in ("fp8", "fp4") else "bf16"
        swept = swept + row.flops / (curves.matmul_peak_fraction * accelerator.peak(dtype))
    if job.low_rank:
        dtype = {4.0: "fp32"}.get(precision.gradient, "bf16")
        swept = swept + low_rank_s(context.model, job, curves.matmul_peak_fraction * accelerator.peak(dtype))
    launched = row.kernels * framework.host_s_per_kernel if framework.fused_optimizer == "loop" else 0.0
    on_device = np.maximum(swept + row.kernels * curves.memory_latency_s, launched) + framework.host_s_per_step
    link = host_link_rate(cluster)
    transfers = elements * (precision.gradient + precision.parameter) * (1.0 - parameters_away(layouts, framework)) / link
    if job.paged:
        on_device = on_device + 2.0 * paged_bytes / link  # what was paged out comes in and goes out again
    gpus = gpus_of_host(cluster)
    # parameters and gradients that live on the host in 16 bit are cast there, from the master copy and to its type
    cast = parameters_away(layouts, framework) * (precision.gradient + precision.parameter + 2.0 * precision.master)
    swept_there = row.bytes_moved + cast * (precision.master > 0) * elements
    on_host = transfers + swept_there / host_share_bytes_per_s(framework, gpus)
    return np.asarray(np.where(layouts.offload_optimizer > 0, on_host + framework.host_s_per_step, on_device))


def host_share_bytes_per_s(framework: Framework, gpus: Number) -> Number:
    """Bytes a second that the host moves for one GPU of a node's ``gpus``: its share of all cores, or what its process has."""
    return np.minimum(framework.host_optimizer_bytes_per_s / gpus, framework.host_process_bytes_per_s)


def combine(slowest: StageTime, once_dp: Array, once_optimizer: Array, num_microbatches: Array, bubble: Array) -> StepTime:
    """A step from its slowest stage: m micro-batches, the bubble, and what happens once."""
    m = num_microbatches
    return StepTime(
        forward_s=slowest.forward_s * m,
        backward_s=slowest.backward_s * m,
        recompute_s=slowest.recompute_s * m,
        tensor_parallel_s=slowest.tensor_parallel_s * m,
        expert_parallel_s=slowest.expert_parallel_s * m,
        context_parallel_s=slowest.context_parallel_s * m,
        pipeline_s=slowest.pipeline_s * m,
        data_parallel_s=slowest.gather_s * m + once_dp,
        offload_s=slowest.offload_s * m,
        bubble_s=bubble,
        optimizer_s=once_optimizer,
        once_s=bubble + once_dp + once_optimizer,
    )
