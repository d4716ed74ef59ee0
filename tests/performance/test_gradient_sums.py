"""Gradients of a micro-batch are added to those of the earlier ones: bytes by hand, and where they take no time."""

from __future__ import annotations

from typing import Any

import pytest
from examples import ACCELERATOR, LLAMA, framework, gpus, job, model

from planner.hardware.curves import load_curves
from planner.model.parameters import parameters_total
from planner.performance.evaluation import evaluate
from planner.workload.layout import Layout, as_columns
from planner.workload.question import Question

WIDE = model(LLAMA, hidden_size=4096, num_heads=32, ffn_hidden_size=11008)
FREE_HOST = {"host_s_per_kernel": 0.0, "host_s_per_layer": 0.0}


def backward_s(stack: str, count: int = 1, changes: dict[str, Any] | None = None, **of: Any) -> float:
    """Seconds of a step's backward passes on ``count`` GPUs."""
    layout, of_model = of.pop("layout", {}), of.pop("of", WIDE)
    question = Question(of_model, gpus(count), framework(stack, **{**FREE_HOST, **(changes or {})}), job(**of))
    return float(evaluate(question, as_columns(Layout(**layout), count)).step.backward_s[0])


def rate(stack: str) -> float:
    """Bytes a second of the stack's memory-bound kernels."""
    return float(framework(stack).elementwise_rate * load_curves(ACCELERATOR.curves).memory_fraction * 2e12)


@pytest.mark.parametrize(
    ("zero", "elements", "first"),
    [(1, 1.0, 0.0), (2, 0.125, 0.0), (3, 0.125, 4.0)],  # ZeRO 3 copies 2 + 2 bytes of the first into its buffer
)
def test_zero_of_deepspeed_adds_nothing_to_zeros(zero: int, elements: float, first: float) -> None:
    """Of 8 micro-batches a rank 7 are added, 2 + 2 + 2 bytes of all elements or of an eighth (stage3.py, partition_grads)."""
    of: dict[str, Any] = {"global_batch_size": 64, "layout": {"zero": zero, "dp": 8}}
    more = backward_s("deepspeed-zero", 8, **of) - backward_s("deepspeed-zero", 8, {"gradient_sum": "fused"}, **of)
    moved = (7 * 6.0 + first) * parameters_total(WIDE) * elements
    assert more == pytest.approx(moved / rate("deepspeed-zero"), rel=1e-6)


@pytest.mark.parametrize(
    ("stack", "of", "width", "sums"),
    [
        # the gradient 2, its cast 4 + 4, the sum 4 + 4; each of 16 micro-batches adds to a buffer of zeros
        ("megatron-deepspeed", {"gradient_dtype": "fp32"}, 18.0, 16),
        # fp16 without fp32 gradients: autograd adds 2 + 2 + 2
        ("megatron-deepspeed", {"precision": "fp16"}, 6.0, 16),
        # fp32 parameters under autocast: 4 + 4 + 4, the first gradient is kept as it is
        ("huggingface", {}, 12.0, 15),
        ("huggingface", {"layout": {"micro_batch_size": 4}}, 12.0, 3),
        # a step of one micro-batch adds nothing
        ("huggingface", {"layout": {"micro_batch_size": 16}}, 12.0, 0),
    ],
)
def test_bytes_of_the_sums_by_hand(stack: str, of: dict[str, Any], width: float, sums: int) -> None:
    more = backward_s(stack, **of) - backward_s(stack, changes={"gradient_sum": "fused"}, **of)
    assert more == pytest.approx(sums * width * parameters_total(WIDE) / rate(stack), rel=1e-6, abs=1e-12)


def test_sharded_gradients_are_summed_by_the_shard() -> None:
    """FSDP reduces each micro-batch's gradients to fp32 shards: 4 + 4 + 4 bytes an eighth of the elements, but for the first."""
    of: dict[str, Any] = {"layout": {"zero": 3, "dp": 8}}
    more = backward_s("fsdp", 8, **of) - backward_s("fsdp", 8, {"gradient_sum": "fused"}, **of)
    assert more == pytest.approx(12.0 * parameters_total(WIDE) / 8 / rate("fsdp"), rel=1e-6)


def test_gradients_of_experts_are_summed_by_their_own_group() -> None:
    """8 GPUs, 4 ranks of experts: a rank sums an eighth of the dense gradients, and half of its quarter of the experts'."""
    mixture = model(LLAMA, hidden_size=4096, num_heads=32, num_experts=8, top_k=2, expert_ffn_hidden_size=11008)
    experts = 4 * 8 * 3 * 4096 * 11008
    of: dict[str, Any] = {"layout": {"zero": 3, "dp": 8, "ep": 4}, "of": mixture}
    more = backward_s("fsdp", 8, **of) - backward_s("fsdp", 8, {"gradient_sum": "fused"}, **of)
    elements = (parameters_total(mixture) - experts) / 8 + experts / 4 / 2
    assert more == pytest.approx(12.0 * elements / rate("fsdp"), rel=1e-6)


def test_a_pipeline_of_fsdp_sums_whole_gradients_and_shards_them_once() -> None:
    """FSDP2 without exchange: the 16-bit gradient 2, the fp32 sum 4 + 4, of half the layers on each of two stages."""
    of: dict[str, Any] = {"layout": {"zero": 3, "dp": 2, "pp": 2}}
    more = backward_s("torchtitan", 4, **of) - backward_s("torchtitan", 4, {"gradient_sum": "fused"}, **of)
    assert more == pytest.approx(7 * 10.0 * parameters_total(WIDE) / 2 / rate("torchtitan"), rel=0.01)


def test_where_the_device_waits_for_the_host_sums_take_none_of_its_time() -> None:
    slow = {"host_s_per_layer": 1.0}
    of: dict[str, Any] = {"layout": {"micro_batch_size": 4}}
    waiting = backward_s("huggingface", changes={**slow, "gradient_sum": "fused"}, **of)
    ends = parameters_total(WIDE) - 4 * (4096 * (2 * 4096 + 2 * 4 * 128 + 3 * 11008) + 2 * 4096)
    more = backward_s("huggingface", changes=slow, **of) - waiting
    assert more == pytest.approx(3 * 12.0 * ends / rate("huggingface"), rel=1e-6)  # embedding and head call no layer
