"""What lies on one pipeline stage: the blocks' costs summed, largest layer and ends apart."""

from __future__ import annotations

import numpy as np

from planner.common.arrays import Array
from planner.performance.block_cost import BlockCost, BlockCosts
from planner.performance.memory import StageContent
from planner.performance.pipeline import Stage
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.precision import frozen_width

NOTHING = np.zeros(1)
"""Broadcasts with columns of one layout, of many, and with the axes of a block of layouts."""


def stage_blocks(blocks: BlockCosts, stage: Stage, pp: int) -> list[tuple[float, BlockCost]]:
    """The blocks of a stage and how often each occurs."""
    parts = [(float(count), blocks.layers[kind]) for kind, count in stage.layers]
    parts += [(count / pp, block) for count, block in blocks.teacher]  # cut evenly over the stages
    parts += [(1.0, blocks.embedding)] if stage.embedding else []
    parts += [(1.0, blocks.head)] if stage.head else []
    return parts


def stage_content(
    job: Job, framework: Framework, pp: int, blocks: BlockCosts, stage: Stage, flying: Array, tied: Array
) -> StageContent:
    """Parameters and activation bytes of a stage; ``flying``: micro-batches in flight, ``tied``: its copy of tied words."""
    dense = expert = ends = saved = largest = largest_experts = largest_saved = workspace = dummy = NOTHING
    frozen = frozen_expert = frozen_ends = frozen_layer = skipped = skipped_expert = NOTHING
    on_stage = stage_blocks(blocks, stage, pp)
    still = any(block.frozen_dense_bytes.any() or block.frozen_expert_bytes.any() for _, block in on_stage)
    for count, block in on_stage:
        skipped = skipped + count * block.skipped_dense_bytes
        skipped_expert = skipped_expert + count * block.skipped_expert_bytes
        if still:
            frozen = frozen + count * block.frozen_dense_bytes
            frozen_expert = frozen_expert + count * block.frozen_expert_bytes
        dense = dense + count * block.dense_parameters
        expert = expert + count * block.expert_parameters
        if block is blocks.head or block is blocks.embedding:
            ends = ends + block.dense_parameters
            frozen_ends = frozen_ends + block.frozen_dense_bytes if still else frozen_ends
        if block is blocks.head:
            continue
        saved = saved + count * block.saved_bytes
        if block is not blocks.embedding:
            largest = np.maximum(largest, block.dense_parameters + block.expert_parameters)
            largest_experts = np.maximum(largest_experts, block.expert_parameters)
            largest_saved = np.maximum(largest_saved, block.saved_bytes)
            workspace = np.maximum(workspace, block.workspace_bytes)
            dummy = np.maximum(dummy, block.dummy_bytes)
            if still:
                frozen_layer = np.maximum(frozen_layer, block.frozen_dense_bytes + block.frozen_expert_bytes)
    if stage.head and job.frozen:
        frozen = frozen + frozen_width(job, framework)[0] * tied
    elif stage.head:
        dense, ends = dense + tied, ends + tied
    head = blocks.head if stage.head else None
    return StageContent(
        dense_parameters=dense,
        expert_parameters=expert,
        end_parameters=ends,
        largest_layer_parameters=largest,
        largest_layer_experts=largest_experts,
        activations_bytes=saved * flying,
        head_activations_bytes=head.saved_bytes if head else NOTHING,
        largest_layer_activations_bytes=largest_saved,
        layer_workspace_bytes=workspace,
        head_workspace_bytes=head.workspace_bytes if head else NOTHING,
        frozen_bytes=frozen,
        frozen_expert_bytes=frozen_expert,
        end_frozen_bytes=frozen_ends,
        largest_layer_frozen_bytes=frozen_layer,
        skipped_bytes=skipped,
        skipped_expert_bytes=skipped_expert,
        dummy_bytes=dummy,
    )
