"""FP8 weights with a scale for each block: Hopper applies these on its CUDA cores, Blackwell in its tensor cores."""

from __future__ import annotations

import numpy as np
import pytest

from planner.hardware.curves import load_curves
from planner.operators.row import Matmul, Row
from planner.serving import serve
from planner.serving.pass_time import Times, kernel_constants


def times(weights: str, gpu: str) -> Times:
    serving = {"engine": "sglang-0.5", "weights": weights, "prompt": 64, "output": 16, "tp": 8}
    return serve(model="deepseek-v3", cluster={"accelerator": gpu, "num_gpus": 8}, serving=serving).times


def product_s(made: Times, k: float) -> float:
    """Seconds of one product of the feed-forward block that no byte bounds, without its latency."""
    work = Matmul(m=np.array(8192.0), k=k, n=8192.0, dtype="fp8")
    row = Row(name="in", block="ffn", phase="prefill", flops=work.flops, bytes_moved=np.array(1.0), work=work)
    return float(made.row_s(row)) - kernel_constants(made.setting)["prefill narrow"].matmul_latency_s


@pytest.mark.parametrize("k", [2048.0, 7168.0])
def test_blocks_on_hopper_by_hand(k: float) -> None:
    """0.712 of the peak in place of 0.79, and 658 in place of 324.3 elements of the depth that are lost: at 2,048 of depth 27 %
    slower than one scale for the whole matrix, at 7,168 16 %."""
    ratio = product_s(times("fp8-block", "h200-sxm-141gb"), k) / product_s(times("fp8", "h200-sxm-141gb"), k)
    assert ratio == pytest.approx((0.79 / 0.712) * (1.0 + 658.0 / k) / (1.0 + 324.3 / k), rel=1e-6)


def test_blackwell_scales_blocks_in_its_tensor_cores() -> None:
    assert load_curves("b200").fp8_block_fraction is None
    made = [product_s(times(weights, "b200-sxm-180gb"), 7168.0) for weights in ("fp8-block", "fp8")]
    assert made[0] == pytest.approx(made[1])
