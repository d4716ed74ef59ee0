"""Weights that no pass reads, by hand: they lie there, and train nothing."""

from __future__ import annotations

import numpy as np
import pytest

from planner.operators.row import Row
from planner.operators.setting import Setting, distinct_axes
from planner.operators.skipped import skipped
from planner.workload.layout import Layout, as_columns
from planner.workload.resolve import as_framework, as_job, as_model

ROW = Row(
    name="Q", block="layer", phase="forward", flops=8e9, bytes_moved=4e6, saved_bytes=2e6, parameters=1e6, frozen_bytes=5e5,
    kernels=1, shard_group="dense",
)  # fmt: skip


def of_framework(name: str) -> Setting:
    """One layout of GPT-2 in bf16."""
    job = as_job({"seq_len": 512, "global_batch_size": 1, "precision": "bf16"})
    found, _ = distinct_axes(as_columns(Layout(dp=1), 1), as_model("gpt2"), as_framework(name), job)
    return found


@pytest.mark.parametrize(("name", "width"), [("huggingface", 4), ("fsdp", 4), ("torchtitan", 4)])
def test_what_is_not_called_is_held_and_not_trained(name: str, width: int) -> None:
    """fp32 parameters under autocast and in FSDP's shards: 4 bytes each beside the frozen ones."""
    held = skipped(ROW, of_framework(name))
    assert np.all(held.parameters == 0.0)
    assert float(held.skipped_bytes) == width * 1e6 + 5e5


@pytest.mark.parametrize("name", ["megatron-core", "deepspeed-zero"])
def test_flat_buffers_hold_states_of_all_that_trains(name: str) -> None:
    """Masters, gradients and Adam's states lie in buffers that are made at the start."""
    held = skipped(ROW, of_framework(name))
    assert (float(held.parameters), float(held.skipped_bytes)) == (1e6, 5e5)


def test_nothing_runs() -> None:
    held = skipped(ROW, of_framework("fsdp"))
    assert (held.flops, held.bytes_moved, held.saved_bytes, held.frozen_bytes, held.kernels) == (0.0, 0.0, 0.0, 0.0, 0.0)
    assert (held.name, held.block, held.shard_group) == ("Q", "layer", "dense")
