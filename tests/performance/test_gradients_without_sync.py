"""FSDP that accumulates without exchanging: whole gradients on each rank, of frozen weights too."""

from __future__ import annotations

import pytest

from planner import plan
from planner.training.plan import Plan

GB = 1e9


def lora(gpus: int, batch: int = 128, micro: int = 1) -> Plan:
    """LoRA as litgpt's resource table ran it: r = 8 on queries and values, A100-SXM4-40GB, blocks recomputed over several."""
    return plan(
        model="llama-2-13b",
        cluster={"accelerator": "a100-sxm4-40gb", "num_gpus": gpus, "gpus_per_node": gpus},
        framework={"name": "litgpt"},
        job={
            "kind": "lora",
            "seq_len": 1304,
            "global_batch_size": batch,
            "precision": "bf16",
            "adapter": {"rank": 8, "target_modules": ["q_proj", "v_proj"]},
        },
        layout={"zero": 3, "micro_batch_size": micro, "recompute": "full"},
    )


def test_four_cards_hold_what_litgpt_measured_and_two_do_not() -> None:
    """Lightning-AI/litgpt, tutorials/resource-tables.md, LoRA on several GPUs: 13B 35.57 GB on four A100 40GB, OOM on two."""
    four = lora(4)
    assert four.fits
    assert four.peak_allocated_bytes == pytest.approx(35.57 * GB, rel=0.05)
    assert not lora(2).fits


def test_one_micro_batch_is_exchanged_at_once() -> None:
    """A step of one micro-batch accumulates nothing; with more, all weights in 16 bit are gradients."""
    weights = 2 * 13.0e9
    once, summed = lora(4, batch=4), lora(4, batch=8)
    assert summed.peak_allocated_bytes - once.peak_allocated_bytes == pytest.approx(weights, rel=0.1)
