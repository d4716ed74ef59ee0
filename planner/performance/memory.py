"""Peak bytes on one GPU, by kind: states, activations, workspace, buffers, and what the allocator and CUDA add."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Array
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.layout import Layouts, Recompute
from planner.workload.precision import Precisions

KINDS = ("parameters", "gradients", "optimizer", "activations", "workspace", "buffers", "fragmentation", "overhead")
PHASES = ("forward end and loss", "backward end", "optimizer step")


@dataclass(frozen=True, kw_only=True)
class StageMemory:
    """What one GPU of one stage holds at the step's peak, by kind; arrays of shape ``(n,)``.

    Parameters, gradients and optimizer are the model states; ``buffers_bytes`` copies for communication; allocated = the first
    six kinds; the GPU also holds ``fragmentation_bytes``, what the allocator cannot do without, and ``overhead_bytes`` (CUDA
    context, NCCL). These add up to the total, which decides whether a job fits. ``cache_bytes`` is what the allocator keeps
    besides where there is room, and gives back when memory is short: reserved = allocated + fragmentation + cache.
    ``pageable_bytes`` of the total may move to the host when memory is short. ``host_bytes`` is CPU memory per GPU taken by
    offloading. ``phase`` indexes PHASES.
    """

    parameters_bytes: Array
    gradients_bytes: Array
    optimizer_bytes: Array
    activations_bytes: Array
    workspace_bytes: Array
    buffers_bytes: Array
    fragmentation_bytes: Array
    overhead_bytes: Array
    cache_bytes: Array
    pageable_bytes: Array
    host_bytes: Array
    phase: Array

    @property
    def held_bytes(self) -> Array:
        """The tensors on the device at the peak."""
        return (
            self.parameters_bytes
            + self.gradients_bytes
            + self.optimizer_bytes
            + self.activations_bytes
            + self.workspace_bytes
            + self.buffers_bytes
        )

    @property
    def allocated_bytes(self) -> Array:
        """What the caching allocator has given out at the peak: unified memory of paged optimizers does not come from it."""
        return self.held_bytes - self.pageable_bytes

    @property
    def reserved_bytes(self) -> Array:
        """What the caching allocator takes from the device."""
        return self.allocated_bytes + self.fragmentation_bytes + self.cache_bytes

    @property
    def device_bytes(self) -> Array:
        """What the driver shows in use."""
        return self.reserved_bytes + self.pageable_bytes + self.overhead_bytes

    @property
    def total_bytes(self) -> Array:
        """All that the GPU holds and needs."""
        return self.held_bytes + self.fragmentation_bytes + self.overhead_bytes

    @property
    def states_bytes(self) -> Array:
        """Parameters, gradients and optimizer states."""
        return self.parameters_bytes + self.gradients_bytes + self.optimizer_bytes

    @property
    def firm_bytes(self) -> Array:
        """What of the total cannot leave the GPU: it decides whether a job fits."""
        return self.total_bytes - self.pageable_bytes

    def where(self, choose: NDArray[np.bool_], other: StageMemory) -> StageMemory:
        """``self`` where ``choose``, else ``other``."""
        if choose.all():
            return self
        return StageMemory(**{f.name: np.where(choose, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class StageContent:
    """What a stage holds, before sharding: parameters and activation bytes; arrays of shape ``(n,)``."""

    dense_parameters: Array
    expert_parameters: Array
    end_parameters: Array  # of them, embedding and head
    largest_layer_parameters: Array
    largest_layer_experts: Array  # of the former
    activations_bytes: Array  # all micro-batches in flight, without the head
    head_activations_bytes: Array
    largest_layer_activations_bytes: Array
    layer_workspace_bytes: Array
    head_workspace_bytes: Array
    frozen_bytes: Array  # of weights that do not train, as stored
    frozen_expert_bytes: Array
    end_frozen_bytes: Array  # of the former, embedding and head
    largest_layer_frozen_bytes: Array
    skipped_bytes: Array  # of weights that no pass reads: never gathered, without gradients and states
    skipped_expert_bytes: Array
    dummy_bytes: Array  # gradients that nobody reads, one for each shape of a weight


@dataclass(frozen=True, kw_only=True)
class States:
    """Sharded model states on one GPU; arrays of shape ``(n,)``."""

    parameters_bytes: Array
    gradients_bytes: Array
    optimizer_bytes: Array
    host_bytes: Array
    update_elements: Array  # parameters that this rank updates


def parameters_away(layouts: Layouts, framework: Framework) -> Array:
    """1 where the shards of the parameters live on the host: as asked for, and where FSDP's optimizer updates them there.

    FSDP moves shards, gradients and optimizer states together, whether what is gathered is freed after the forward pass (ZeRO 3)
    or kept until the backward one (ZeRO 2): torch/distributed/fsdp/_fully_shard/_fsdp_api.py, CPUOffloadPolicy.
    """
    updated_there = layouts.offload_optimizer if framework.mixed_precision == "sharded_fp32" else 0.0
    return np.asarray(np.maximum(layouts.offload_parameters, updated_there * (layouts.zero >= 2)))


def model_states(
    content: StageContent,
    layouts: Layouts,
    precision: Precisions,
    *,
    factored_width: float,
    shards_from: float = 3.0,
    on_host: Array | float = 0.0,
) -> States:
    """Bytes of parameters, gradients and optimizer states on one GPU.

    ZeRO 1, 2, 3 divide optimizer states, then gradients, then parameters by the ranks that hold copies (Rajbhandari
    et al. 2020, figure 1); experts by their own, smaller group. Offloading moves optimizer states and master weights
    to the host, and from ZeRO 2 on the gradients too (ZeRO-Offload, Ren et al. 2021). ``factored_width`` is the bytes per
    parameter of Adafactor's sums of rows and columns; ``shards_from`` the ZeRO stage
    from which kept parameters are sharded: 3, but 2 in FSDP, which keeps fp32 shards and gathers 16-bit copies; ``on_host`` is 1
    where the shards of parameters live on the host (``parameters_away``).
    """
    dense, expert = content.dense_parameters, content.expert_parameters
    shards, expert_shards = layouts.shard_ranks, layouts.expert_shard_ranks
    zero = layouts.zero

    def held(stage: float, width: float) -> Array:
        cut = zero >= stage
        return np.asarray(width * (dense / np.where(cut, shards, 1.0) + expert / np.where(cut, expert_shards, 1.0)))

    update = held(1.0, 1.0)
    ends = precision.vector_state * content.end_parameters / shards
    parameters = held(shards_from, precision.parameter)
    still = (content.frozen_bytes + content.skipped_bytes, content.frozen_expert_bytes + content.skipped_expert_bytes)
    if still[0].any() or still[1].any():
        cut = zero >= shards_from
        parameters = parameters + still[0] / np.where(cut, shards, 1.0) + still[1] / np.where(cut, expert_shards, 1.0)
    optimizer = held(1.0, precision.master + precision.state + factored_width) + ends
    gradients = held(2.0, precision.gradient)
    away = layouts.offload_optimizer
    gradients_away = away * (zero >= 2)
    return States(
        parameters_bytes=parameters * (1.0 - on_host),
        gradients_bytes=gradients * (1.0 - gradients_away),
        optimizer_bytes=optimizer * (1.0 - away),
        host_bytes=optimizer * away + gradients * gradients_away + parameters * on_host,
        update_elements=update,
    )


def weight_copies(
    content: StageContent, layouts: Layouts, framework: Framework, precision: Precisions, *, layers: float = 2.0
) -> Array:
    """Bytes of compute-type copies of the weights: the whole stage's, or ``layers`` gathered layers under ZeRO 3.

    Autocast keeps them from forward to backward; FSDP gathers one layer and prefetches the next, holds one layer's whole
    gradient until it is scattered, and keeps the root (embedding and head) gathered from forward to backward. While the loss
    runs, the last layer alone is gathered beside the root: it was the last of the forward pass, or backward fetches it first
    (torch/distributed/fsdp, BackwardPrefetch); no layer has a gradient yet.
    """
    sharded = framework.mixed_precision == "sharded_fp32"
    width = precision.cast if sharded and precision.cast else precision.parameter
    # FSDP under ZeRO 2 keeps everything gathered; FP8 caches and autocast leave embedding and output layer alone
    inner = content.dense_parameters + content.expert_parameters - content.end_parameters
    whole = width * (inner + content.end_parameters) if sharded else precision.cast * inner
    # experts that no other rank of the group shares are whole as they are
    experts = np.where(layouts.expert_shard_ranks > 1, content.largest_layer_experts, 0.0)
    layer = content.largest_layer_parameters - content.largest_layer_experts + experts
    gathered = layers * width * layer + width * content.end_parameters
    gradient = (layers - 1.0) * width * layer
    if content.frozen_bytes.any() or content.frozen_expert_bytes.any():
        # frozen weights are gathered as they are stored, one layer and the next; they have no gradients
        gathered = gathered + layers * content.largest_layer_frozen_bytes + content.end_frozen_bytes
        every = content.frozen_bytes + content.frozen_expert_bytes
        whole = whole + np.where(layouts.zero >= 2, every, 0.0) if sharded else whole
    if sharded:  # in a pipeline the whole stage stays gathered, with its gradients, until the last micro-batch
        all_gradients = precision.gradient * (inner + content.end_parameters)
        gathered = np.where(layouts.pp > 1, whole + all_gradients, np.minimum(gathered, whole) + gradient)
        whole = np.where(layouts.pp > 1, whole + all_gradients, whole + gradient)
    else:
        gathered = gathered + gradient
    # a group of one rank gathers nothing: FSDP turns to NO_SHARD, DeepSpeed's NoGatherHandle hands out the weights themselves,
    # and weights kept as they are computed with are used where they lie, their gradients too
    alone = (layouts.shard_ranks <= 1) & ((layouts.expert_shard_ranks <= 1) | (content.expert_parameters <= 0))
    own = np.where(alone & (layouts.zero >= 3) & (layouts.pp <= 1), 0.0, whole) if sharded and not precision.cast else whole
    return np.asarray(np.where((layouts.zero >= 3) & ~alone, gathered, own))


def stage_moments(
    content: StageContent,
    layouts: Layouts,
    states: States,
    *,
    framework: Framework,
    precision: Precisions,
    job: Job,
    num_microbatches: Array,
    usable: float,
    summed_weights: Array | float = 0.0,
) -> tuple[StageMemory, ...]:
    """Memory of one stage at the moments of a step that can be its peak, in the order of PHASES.

    End of forward and first backward: states + all activations + the larger of (head, loss) and one layer's backward.
    End of backward: states + gradients + one layer. Optimizer step: states + gradients + its temporaries. Gradients
    that are freed between steps are absent from the first moment of the first micro-batch. ``summed_weights``: elements of the
    output layer on a rank whose gradients are summed over the chunks of a loss.
    """
    if job.optimizer_in_backward:
        states = _freed_at_once(states, content)
    at_loss = weight_copies(content, layouts, framework, precision, layers=1.0)
    states, copies, at_loss = _with_lasting_copies(
        states, weight_copies(content, layouts, framework, precision), at_loss, layouts, framework
    )
    always = np.where((num_microbatches > 1) | framework.persistent_gradients, 1.0, 0.0)
    summed = unsharded_gradients(content, layouts, framework, precision) * (num_microbatches > 1)
    summed = np.maximum(states.gradients_bytes, summed)
    # an optimizer in backward meets the output layer's gradient first, beside all that forward kept
    early = states.gradients_bytes if job.optimizer_in_backward else summed * always
    # while the first layer's backward runs, its own gradients are still to come
    coming = content.largest_layer_parameters / np.maximum(content.dense_parameters + content.expert_parameters, 1.0)
    late = summed * (1.0 - coming * (1.0 - always))
    offloaded = layouts.offload_activations > 0
    kept = np.where(
        offloaded, np.minimum(content.activations_bytes, 2.0 * content.largest_layer_activations_bytes), content.activations_bytes
    )
    buffers = gradient_buffers(content, layouts, framework, precision, job)
    loss_activations = kept + content.head_activations_bytes
    loss_workspace = np.maximum(
        content.head_workspace_bytes + at_loss, content.layer_workspace_bytes - content.head_activations_bytes + copies
    )
    loss_workspace = loss_workspace + precision.gradient * summed_apart(summed_weights, layouts, always)
    temporaries = optimizer_workspace(states, framework, precision, job) * (1.0 - layouts.offload_optimizer)
    overhead = _overhead(layouts, framework)
    host = states.host_bytes + np.where(offloaded, content.activations_bytes, 0.0)
    # checkpointed inputs that backward does not free, and as many gradients of them beside
    held = framework.sharded_backward_keeps_inputs & (layouts.zero >= 3) & (layouts.recompute == Recompute.FULL)
    held = held & (content.frozen_bytes > 0)
    late_activations = content.largest_layer_activations_bytes + np.where(held, 2.0 * kept, 0.0)
    moments = (
        (early, loss_activations, np.maximum(loss_workspace, 0.0)),
        (late, late_activations, content.layer_workspace_bytes + copies),
        (states.gradients_bytes, np.zeros(1), temporaries),
    )
    return tuple(
        _moment(states, gradients, activations, workspace, buffers, framework, usable, overhead, host, float(phase))
        for phase, (gradients, activations, workspace) in enumerate(moments)
    )


def unsharded_gradients(content: StageContent, layouts: Layouts, framework: Framework, precision: Precisions) -> Array:
    """Bytes of gradients that each rank keeps between the micro-batches of a step that exchanges them once, at its end.

    FSDP under ``no_sync`` adds up whole gradients (pytorch.org/docs/stable/fsdp.html, FullyShardedDataParallel.no_sync), those of
    frozen weights too that lie in one flat parameter with adapters. Offloaded ones are exchanged each time.
    """
    width = precision.cast if framework.mixed_precision == "sharded_fp32" and precision.cast else precision.gradient
    whole = width * (content.dense_parameters + content.expert_parameters) + content.frozen_bytes + content.frozen_expert_bytes
    sums = framework.accumulates_unsharded & (layouts.zero >= 3) & (layouts.offload_optimizer == 0)
    return np.asarray(np.where(sums, whole, 0.0))


def summed_apart(weights: Array | float, layouts: Layouts, always: Array) -> Array:
    """Elements of the output layer whose gradients are summed over the chunks of a loss, beside all that is counted elsewhere.

    FSDP2 holds the sum whole, in the type in which ranks reduce it, until the last chunk (PyTorch,
    fsdp/_fully_shard/_fsdp_param.py, unsharded_accumulated_grad). A pipeline's whole gradients are counted with the gathered
    weights, those that are not sharded and live between micro-batches (``always`` 1) with the gradients.
    """
    whole = (layouts.zero < 2) | (layouts.shard_ranks <= 1)
    return np.where((layouts.pp > 1) | (whole & (always > 0)), 0.0, weights)


def _freed_at_once(states: States, content: StageContent) -> States:
    """States whose gradients are those of one layer, or of embedding and output layer, at a time: an optimizer in backward."""
    every = content.dense_parameters + content.expert_parameters
    share = np.minimum(np.maximum(content.largest_layer_parameters, content.end_parameters) / np.maximum(every, 1.0), 1.0)
    return replace(states, gradients_bytes=states.gradients_bytes * share, update_elements=states.update_elements * share)


def _with_lasting_copies(
    states: States, copies: Array, at_loss: Array, layouts: Layouts, framework: Framework
) -> tuple[States, Array, Array]:
    """States with the copies of weights that last through the step; the copies that do not, in a layer and at the loss."""
    if framework.mixed_precision != "master_weights":
        return states, copies, at_loss
    lasting = np.where(layouts.zero >= 3, 0.0, copies)
    return replace(states, parameters_bytes=states.parameters_bytes + lasting), copies - lasting, at_loss - lasting


def _overhead(layouts: Layouts, framework: Framework) -> Array:
    """Bytes outside the allocator: the context, and a communicator for each group of more than one."""
    groups = sum((degree > 1).astype(float) for degree in (layouts.tp, layouts.pp, layouts.cp, layouts.ep, layouts.dp))
    return np.asarray(framework.context_bytes + framework.communicator_bytes * groups)


def peak(moments: tuple[StageMemory, ...]) -> StageMemory:
    """The moment that needs the most memory, the first of equals; where paged states fill the GPU each time, that which leaves
    them the least."""
    best = moments[0]
    for now in moments[1:]:
        most = best.total_bytes >= now.total_bytes
        if best.pageable_bytes.any() or now.pageable_bytes.any():
            full = np.isclose(best.total_bytes, now.total_bytes, rtol=10.0 * (PAGED - 1.0), atol=0.0)
            most = np.where(full, best.firm_bytes >= now.firm_bytes, most)
        best = best.where(most, now)
    return best


def _moment(
    states: States,
    gradients: Array,
    activations: Array,
    workspace: Array,
    buffers: Array,
    framework: Framework,
    usable: float,
    overhead: Array,
    host: Array,
    phase: float,
) -> StageMemory:
    allocated = states.parameters_bytes + gradients + states.optimizer_bytes + activations + workspace + buffers
    fragmentation = framework.least_fragmentation * allocated
    varying = framework.length_fragmentation > 0
    changing = framework.length_fragmentation * (activations + np.maximum(workspace, 0.0)) if varying else None
    return StageMemory(
        parameters_bytes=states.parameters_bytes,
        gradients_bytes=gradients,
        optimizer_bytes=states.optimizer_bytes,
        activations_bytes=activations,
        workspace_bytes=workspace,
        buffers_bytes=buffers,
        fragmentation_bytes=fragmentation,
        overhead_bytes=overhead,
        pageable_bytes=np.zeros(1),
        cache_bytes=cached_bytes(allocated, usable - overhead - allocated - fragmentation, framework, changing),
        host_bytes=host,
        phase=np.full(1, phase),
    )


def cached_bytes(allocated: Array, room: Array, framework: Framework, changing: Array | None) -> Array:
    """What the caching allocator keeps beyond what is in use and what it cannot do without, where there is ``room`` for it.

    ``changing``: bytes cached on top for batches of other lengths.
    PyTorch returns cached blocks to the device and tries again before it gives up, so that only
    ``least_fragmentation`` of the allocated bytes decides whether a job fits.
    """
    most = max(framework.fragmentation - framework.least_fragmentation, 0.0) * allocated
    most = most if changing is None else most + changing
    return np.clip(room, 0.0, most)


def gradient_buffers(content: StageContent, layouts: Layouts, framework: Framework, precision: Precisions, job: Job) -> Array:
    """Data-parallel buckets where they are a second copy of the gradients (PyTorch DistributedDataParallel), and what stays.

    Libraries keep workspaces of their own, and Transformer Engine a dummy gradient for each shape of a weight.
    """
    whole = precision.gradient * (content.dense_parameters + content.expert_parameters)
    copied = framework.gradient_buckets_copy * (layouts.ranks > 1) * (layouts.zero < 2)
    extra = framework.extra_parameter_bytes * (content.dense_parameters + content.expert_parameters)
    elements = content.dense_parameters + content.expert_parameters
    buckets = np.minimum(framework.bucket_bytes, BUCKET_WIDTH * elements)  # a bucket holds no more than there is
    exchanged = (layouts.ranks > 1) | (layouts.zero >= 1)  # DeepSpeed allocates them for a single rank too
    return np.asarray(whole * copied + buckets * exchanged + extra + framework.library_bytes + content.dummy_bytes)


def optimizer_workspace(states: States, framework: Framework, precision: Precisions, job: Job) -> Array:
    """Temporaries of the update: a multi-tensor ("foreach") AdamW holds one denominator per parameter.

    bitsandbytes' optimizers work in place, GaLore's on one matrix at a time. DeepSpeed's step makes an fp32 copy of its part of
    16-bit gradients, of at most ``sub_group_size`` elements at a time (deepspeed.ai/docs/config-json).
    """
    width = 4.0 if precision.parameter >= 4 or precision.master else precision.parameter
    if framework.step_gradients and precision.master and precision.gradient < 4:
        return 4.0 * np.minimum(states.update_elements, SUB_GROUP)
    if job.optimizer.endswith("adamw-8bit") or job.paged or job.low_rank:
        return np.zeros_like(states.update_elements)
    if framework.fused_optimizer != "foreach" or job.optimizer in ("sgd", "sgd-momentum"):
        return np.zeros_like(states.update_elements)
    return width * states.update_elements


PAGED = 1.0 + 1e-9
"""Of what does not fit: a GPU that is filled to the byte is not said to be too small by rounding."""
BUCKET_WIDTH = 18.0
"""Bytes of DeepSpeed's buckets per element: 4.5 each for reducing and gathering under overlap_comm, of 2 bytes."""
SUB_GROUP = 1e9
"""Elements that DeepSpeed's optimizer updates at a time (its default sub_group_size)."""


def page_out(moment: StageMemory, usable: float) -> StageMemory:
    """Optimizer states that do not fit move to the host (CUDA unified memory; QLoRA, section 3, paged optimizers)."""
    away = np.clip((moment.total_bytes - usable) * PAGED, 0.0, moment.optimizer_bytes)
    left = moment.optimizer_bytes - away
    return replace(moment, optimizer_bytes=left, host_bytes=moment.host_bytes + away, pageable_bytes=left)
