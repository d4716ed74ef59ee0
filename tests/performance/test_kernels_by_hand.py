"""Seconds of single kernels on a chip of round numbers, by hand from the formulas that the fields of the curves state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import ACCELERATOR, LLAMA, MIXTRAL, framework, gpus, job, model

from planner.hardware.curves import Curves, load_curves
from planner.model.parameters import parameters_total
from planner.operators.optimizer import low_rank_s
from planner.operators.row import FusedAttention, Matmul, Row
from planner.performance.context import Context
from planner.performance.evaluation import evaluate
from planner.performance.roofline import _attention_s, _matmul_s, matmul_efficiency
from planner.performance.step_time import host_share_bytes_per_s, update_s
from planner.workload.fp8_recipe import Scaling
from planner.workload.layout import Layout, as_columns
from planner.workload.question import Question

ROUND: dict[str, Any] = {
    "matmul_latency_s": 1e-6, "matmul_peak_fraction": 0.8, "matmul_bandwidth_fraction": 0.9, "matmul_exponent": 2.0,
    "matmul_output": 1e5, "matmul_depth": 64.0, "cuda_core_fraction": 0.9, "fp8_latency_s": 2e-6, "fp8_peak_fraction": 0.6,
    "fp8_depth": 256.0, "fp8_block_fraction": 0.5, "fp8_block_depth": 128.0, "fp8_cast_passes": 3.0, "grouped_tokens": 32.0,
    "grouped_fraction": 0.75, "attention_latency_s": 1e-5, "attention_forward_fraction": 0.7, "attention_backward_fraction": 0.5,
    "attention_keys": 128.0, "attention_head_dim": 20.0, "memory_fraction": 0.85, "sustained_fraction": 0.9,
    "fp8_sustained_fraction": 0.8,
}  # fmt: skip
"""On the test chip: 300 TFLOP/s in bf16, 600 in fp8, 20 in fp32, 2 TB/s."""


def curves(**changes: float) -> Curves:
    return load_curves("a100").model_copy(update={**ROUND, **changes})


def product(
    work: Matmul, dtype: str = "bf16", scaling: Scaling | None = None, moved: float = 1e9, phase: Any = "forward"
) -> float:
    role = "weight gradient" if phase == "backward" else "product"
    row = Row(name="x", block="", phase=phase, role=role, flops=work.flops, bytes_moved=moved, work=work)
    given = {} if scaling is None else {"scaling": scaling}
    return float(_matmul_s(row, work, ACCELERATOR, curves(), dtype, **given))


def root_sum(compute: float, memory: float) -> float:
    return float(np.hypot(compute, memory))  # the exponent of ROUND is 2


MEMORY = 1e9 / (0.9 * 2e12)


def test_a_product_by_hand() -> None:
    """2 (k + 64) (m n + 1e5) flops at 0.8 x 0.9 of the peak, beside 1 GB at 0.9 of 2 TB/s."""
    work = Matmul(m=4096.0, n=2048.0, k=1024.0)
    compute = 2 * (1024 + 64) * (4096 * 2048 + 1e5) / (0.8 * 0.9 * 300e12)
    assert product(work) == pytest.approx(1e-6 + root_sum(compute, MEMORY), rel=1e-12)
    assert product(work, "fp32") == pytest.approx(1e-6 + root_sum(compute * 0.8 / 0.9 * 300 / 20, MEMORY), rel=1e-12)


@pytest.mark.parametrize(("rows", "depth"), [(16.0, 1024.0), (4096.0, 8.0)])
def test_the_part_of_the_peak_that_one_product_reaches(rows: float, depth: float) -> None:
    """Its flops over seconds and peak; two operands are read and one written, of 2 bytes, five times over."""
    work = Matmul(m=rows, n=2048.0, k=depth, batch=5.0)
    compute = 2 * (depth + 64) * (5 * rows * 2048 + 1e5) / (0.8 * 0.9 * 300e12)
    moved = 2 * 5 * (rows * depth + depth * 2048 + rows * 2048)
    seconds = 1e-6 + root_sum(compute, moved / (0.9 * 2e12))
    found = float(matmul_efficiency(work, ACCELERATOR, curves(), "bf16", 2.0))
    assert found == pytest.approx(5 * 2 * rows * 2048 * depth / seconds / 300e12, rel=1e-12)


def test_grouped_products_lose_rows_and_a_part_of_the_rate() -> None:
    work = Matmul(m=512.0, n=2048.0, k=1024.0, batch=8.0, grouped=True)
    compute = 2 * (1024 + 64) * (8 * (512 + 32) * 2048 + 1e5) / (0.8 * 0.75 * 0.9 * 300e12)
    assert product(work) == pytest.approx(1e-6 + root_sum(compute, MEMORY), rel=1e-12)


@pytest.mark.parametrize("blocks", [False, True])
def test_products_in_8_bit_quantize_what_enters(blocks: bool) -> None:
    """Two bytes read and one written for each element, three times over; a floor of 2 us where there are any."""
    work = Matmul(m=4096.0, n=2048.0, k=1024.0)
    scaling = Scaling(blocks=blocks, inputs=True)
    fraction, depth = (0.5, 128) if blocks else (0.6, 256)
    compute = 2 * (1024 + depth) * (4096 * 2048 + 1e5) / (fraction * 0.8 * 600e12)
    law = 1e-6 + root_sum(compute, MEMORY)
    cast = 2e-6 + 3 * 3 * 4096 * 1024 * scaling.casts / 2e12
    assert product(work, "fp8", scaling) == pytest.approx(law + cast, rel=1e-12)
    assert product(work, "fp8", scaling, phase="backward") == pytest.approx(law, rel=1e-12)
    weights = Scaling(blocks=blocks, weights=True, passes=1.5)
    assert product(work, "fp8", weights) == pytest.approx(law + 2e-6 + 3 * 3 * 1024 * 2048 * 1.5 / 2e12, rel=1e-12)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("qk", "value", "padded"), [(64.0, 64.0, 64.0), (80.0, 80.0, 96.0), (192.0, 128.0, 160.0)])
def test_fused_attention_by_hand(backward: bool, qk: float, value: float, padded: float) -> None:
    """Heads are padded to the next 32; short rows of keys and narrow heads reach less; or its bytes at 0.85 of 2 TB/s."""
    head = (qk + value) / 2
    work = FusedAttention(
        sequences=2.0, heads=8.0, queries=1024.0, keys=512.0, qk_head_dim=qk, value_head_dim=value, backward=backward
    )
    fraction = 0.5 if backward else 0.7
    for flops, moved, rate in ((1e12, 1e6, 1.0), (1e12, 1e6, 0.6), (1e3, 1e9, 1.0)):
        row = Row(name="x", block="", phase="forward", flops=flops, bytes_moved=moved, work=work)
        compute = padded / head * flops * (1 + 128 / 512) / (rate * fraction / (1 + 20 / head) * 300e12)
        expected = 1e-5 + max(compute, moved / (0.85 * 2e12))
        assert float(_attention_s(row, work, ACCELERATOR, curves(), "bf16", rate)) == pytest.approx(expected, rel=1e-12)
    nothing = Row(name="x", block="", phase="forward", flops=0.0, bytes_moved=1e9, work=work)
    assert float(_attention_s(nothing, work, ACCELERATOR, curves(), "bf16", 1.0)) == 0.0


def test_a_gpu_has_its_share_of_the_host_or_what_its_process_has() -> None:
    stack = framework("fsdp", host_optimizer_bytes_per_s=80e9, host_process_bytes_per_s=30e9)
    assert [float(host_share_bytes_per_s(stack, n)) for n in (1, 2, 4, 8)] == [30e9, 30e9, 20e9, 10e9]


@pytest.mark.parametrize("optimizer", ["muon", "galore-adamw"])
def test_a_faster_chip_shortens_the_multiplications_of_an_update(optimizer: str) -> None:
    """Twice the peak: half of their seconds are saved, and no others."""
    asked, stack = job(optimizer=optimizer), framework("megatron-core" if optimizer == "muon" else "huggingface")
    elements, layouts = np.array([512.0 * 512.0]), as_columns(Layout(), 1)
    took = []
    for times in (1.0, 2.0):
        peaks = {name: times * value for name, value in ACCELERATOR.peak_flops_per_s.items()}
        cluster = gpus(1).model_copy(update={"accelerator": ACCELERATOR.model_copy(update={"peak_flops_per_s": peaks})})
        context = Context.of(Question(model(LLAMA), cluster, stack, asked), curves())
        took.append(float(update_s(context, layouts, elements)[0]))
    if optimizer == "muon":  # five steps of 6 r^2 c flops (Jordan 2024)
        whole = 5 * 6 * 512.0**3 / (0.8 * 300e12)
        assert took[0] - took[1] == pytest.approx(whole / 2, rel=1e-6)
    else:
        dtype = "fp32" if Context.of(Question(model(LLAMA), gpus(1), stack, asked)).precision.gradient == 4.0 else "bf16"
        rate = 0.8 * ACCELERATOR.peak(dtype)
        saved = low_rank_s(model(LLAMA), asked, rate) - low_rank_s(model(LLAMA), asked, 2 * rate)
        assert saved > 0
        assert took[0] - took[1] == pytest.approx(saved, rel=1e-6)


@pytest.mark.parametrize("ep", [1, 2, 4])
def test_sums_of_shards_are_of_an_eighth_of_all_experts_however_they_lie(ep: int) -> None:
    """8 ranks, ZeRO 2 of DeepSpeed: each adds 7 of 8 micro-batches, 2 + 2 + 2 bytes, to its eighth of all parameters: of experts
    on ep ranks each shard is a part of 8 / ep."""
    wide = model(MIXTRAL, hidden_size=4096, num_heads=32, ffn_hidden_size=11008, expert_ffn_hidden_size=11008)
    took = []
    for changes in ({}, {"gradient_sum": "fused"}):
        stack = framework("deepspeed-zero", host_s_per_kernel=0.0, host_s_per_layer=0.0, **changes)
        question = Question(wide, gpus(8), stack, job(global_batch_size=64))
        took.append(float(evaluate(question, as_columns(Layout(zero=2, dp=8, ep=ep), 8)).step.backward_s[0]))
    rate = float(framework("deepspeed-zero").elementwise_rate * load_curves(ACCELERATOR.curves).memory_fraction * 2e12)
    assert took[0] - took[1] == pytest.approx(7 * 6.0 * parameters_total(wide) / 8 / rate, rel=1e-6)
