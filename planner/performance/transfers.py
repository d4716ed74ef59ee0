"""Exposed seconds of what a pipeline stage sends: to its neighbours, and to the host where activations are offloaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.common.arrays import Array
from planner.hardware.cluster import Cluster, host_link_rate
from planner.performance.block_cost import BlockCost
from planner.performance.collectives import collective_s
from planner.workload.framework import Framework
from planner.workload.layout import Layouts, Schedule


def pipeline_s(cluster: Cluster, framework: Framework, layouts: Layouts, token_bytes: float, seq_len: int) -> Array:
    """Exposed sends of one micro-batch at one stage: an activation forward and a gradient backward for every chunk.

    The widest link between any two neighbouring stages rules. Each tensor-parallel rank sends its share, s b h / (cp tp):
    sequence parallelism has only that, and without it Megatron scatters before and gathers after the send (Narayanan et
    al. 2021, section 4.1; the gather on the inner link is not counted). ``token_bytes``: bytes of one token's activation.

    With each send the device waits until the host has entered the chunk (``host_s_per_chunk``): Megatron synchronizes
    after ``batch_isend_irecv`` (p2p_communication.py), so that nothing is queued. Both hide alike where sends run beside
    another chunk's computation. A zero-bubble schedule enters each chunk once more, for its weight gradients.
    """
    tokens = layouts.micro_batch_size * seq_len / layouts.cp / layouts.tp
    once = collective_s(cluster, "p2p", token_bytes * tokens, layouts.pp, layouts.tp * layouts.cp * layouts.dp)
    hidden = framework.overlap_pipeline * (layouts.vpp > 1)  # 1F1B waits for its neighbours
    host = framework.host_s_per_chunk * (layouts.pp > 1)
    split = host * (layouts.schedule == Schedule.ZERO_BUBBLE)
    return np.asarray(layouts.vpp * (2.0 * (once + host) * (1.0 - hidden) + split))


def offload_s(cluster: Cluster, layouts: Layouts, blocks: Sequence[tuple[float, BlockCost]]) -> Array:
    """Exposed copies of one micro-batch's activations: to the host beside the forward pass, back beside the backward pass.

    Two layers' activations are all that stays on the device, so each layer's copy has its own layer's computation to hide
    behind, and each direction its own pass: per layer max(0, T - F) + max(0, T - B - R), with T = saved bytes over the
    GPU's share of the host link. ``blocks``: how many of each kind a stage holds; the head keeps its own on the device.
    """
    if not (layouts.offload_activations > 0).any():
        return np.zeros(1)
    rate, exposed = host_link_rate(cluster), np.zeros(1)
    for count, block in blocks:
        transfer = block.saved_bytes / rate
        away = np.maximum(transfer - block.forward_s, 0.0)
        back = np.maximum(transfer - block.backward_s - block.recompute_s, 0.0)
        exposed = exposed + count * (away + back)
    return np.asarray(np.where(layouts.offload_activations > 0, exposed, 0.0))
