"""Weights that no pass reads: layers and encoders of images, on text alone."""

from __future__ import annotations

from planner.operators.row import Row
from planner.operators.setting import Setting


def skipped(row: Row, setting: Setting) -> Row:
    """The weights of a row that does not run.

    Their ``.grad`` stays None: FSDP gathers a module when it is called, autograd makes no gradient, and PyTorch's optimizers make
    the state of a parameter at its first gradient (torch/optim/adam.py, ``_init_group``). Stacks that hold master weights make
    gradients, masters and states of all that trains from the start, in flat buffers (Megatron-Core, distrib_optimizer.py;
    DeepSpeed, stage_1_and_2.py): there they count as trained.
    """
    kept = setting.framework.mixed_precision == "master_weights"
    return Row(
        name=row.name,
        block=row.block,
        phase=row.phase,
        operator=row.operator,
        parameters=row.parameters if kept else 0.0,
        skipped_bytes=row.frozen_bytes + (0.0 if kept else setting.precision.parameter * row.parameters),
        shard_group=row.shard_group,
    )
