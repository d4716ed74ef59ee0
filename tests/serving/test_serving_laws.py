"""Laws over the catalog for serving: a newer chip of a line is never slower on the same cut, and what is faster at the same price
never costs more for a token at its capacity."""

from __future__ import annotations

import pytest

from planner.hardware.custom_nodes import custom_node
from planner.serving import serve
from planner.serving.deployment import Deployment

OLDER_AND_NEWER = [
    ("dgx-1v-32gb", "dgx-a100-80gb", "fp16"), ("dgx-a100-40gb", "dgx-a100-80gb", "bf16"), ("dgx-a100-80gb", "dgx-h100", "bf16"),
    ("dgx-h100", "dgx-h200", "bf16"), ("dgx-h100", "dgx-h200", "fp8"),
    ("dgx-b200", "dgx-b300", "bf16"), ("dgx-b200", "dgx-b300", "fp8"), ("standard-nd96isr-mi300x-v5", "mi325x-8", "bf16"),
    ("mi325x-8", "bm-gpu-mi355x-8", "bf16"),
]  # fmt: skip
SLOWER_AND_FASTER_CARD = [
    ("a100-pcie-80gb", "a100-sxm4-80gb"), ("a100-sxm4-40gb", "a100-sxm4-80gb"), ("h100-pcie-80gb", "h100-sxm5-80gb"),
    ("h100-nvl-94gb", "h200-nvl-141gb"), ("h200-nvl-141gb", "h200-sxm-141gb"), ("h100-sxm5-80gb", "gh200-96gb"),
    ("rtx-4080-16gb", "rtx-4090-24gb"), ("rtx-3090-24gb", "rtx-3090-ti-24gb"), ("rtx-5080-16gb", "rtx-5090-32gb"),
    ("rtx-4090-laptop-16gb", "rtx-4080-16gb"), ("l4", "l40s"), ("a10g", "a10"),
]  # fmt: skip
CUTS = [
    ("llama-3.1-8b", {"tp": 1, "dp": 8}), ("mixtral-8x7b", {"tp": 8, "ep": 8, "dp": 1}),
    ("llama-2-70b", {"tp": 4, "pp": 2, "dp": 1}),
]  # fmt: skip
SLACK = 1.0 + 1e-9
SIMULATED = 1.05
"""Capacities are simulated, of some thousand requests that start at once: more room in memory cuts off more of them."""


def no_more_memory(first: Deployment, second: Deployment) -> None:
    """``second`` needs no more memory and holds as many."""
    assert second.total_bytes <= first.total_bytes * SLACK
    if second.card_bytes >= first.card_bytes:
        assert second.max_batch >= first.max_batch


def never_worse(first: Deployment, second: Deployment) -> None:
    """``second`` answers as fast and costs no more for a token at the same price."""
    for name in ("ttft_s", "tpot_s"):
        assert getattr(second, name) <= getattr(first, name) * SLACK, name
    assert first.capacity_requests_per_s is not None
    assert second.capacity_requests_per_s is not None
    assert second.capacity_requests_per_s * SIMULATED >= first.capacity_requests_per_s
    assert first.at_capacity is not None
    assert second.at_capacity is not None
    least, most = (d.at_capacity.usd_per_million_tokens for d in (second, first))  # type: ignore[union-attr]
    assert (least or 0.0) <= (most or 0.0) * SIMULATED


@pytest.mark.parametrize(("older", "newer", "weights"), OLDER_AND_NEWER)
@pytest.mark.parametrize(("model", "cut"), CUTS)
def test_a_newer_node_serves_no_slower_and_at_the_same_price_no_dearer(
    older: str, newer: str, weights: str, model: str, cut: dict[str, int]
) -> None:
    asked = {"engine": "vllm", "weights": weights, "prompt": 1024, "output": 128, "batch": 8, "requests_per_s": 0.01, **cut}
    asked |= {"num_requests": 100}
    clusters = [{"node": n, "num_gpus": 8} for n in (older, newer)]
    never_worse(*(serve(model=model, cluster=c, price=2.0, serving=asked) for c in clusters))
    passes = {**asked, "requests_per_s": None, "pass_tokens": 8192}  # of one size: by itself vLLM takes smaller ones on an A100
    no_more_memory(*(serve(model=model, cluster=c, serving=passes) for c in clusters))


@pytest.mark.parametrize(("slower", "faster"), SLOWER_AND_FASTER_CARD)
def test_a_faster_card_of_a_line_serves_no_slower(slower: str, faster: str) -> None:
    asked = {"engine": "vllm", "weights": "bf16", "prompt": 1024, "output": 128, "batch": 4}
    first, second = (
        serve(model="llama-3.2-1b", cluster={"node": custom_node(n, 1)}, price=2.0, serving=asked) for n in (slower, faster)
    )
    never_worse(first, second)
    no_more_memory(first, second)
    one, other = (d.output_tokens_per_s or 0.0 for d in (first, second))
    assert other * SLACK >= one


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_blackwell_loses_to_hopper_by_the_latency_of_its_exchanges_only(tp: int) -> None:
    """Small sums over GPUs take longer on B200 than on H200: 5.6 against 3.5 us of 8 KB over 8 (TensorRT-LLM 1.3.0rc20, in
    aiconfigurator-core 0.12.0). All else is faster, and so is a step on one GPU."""
    for model, weights in (("llama-3.2-1b", "bf16"), ("qwen3-30b-a3b", "bf16"), ("llama-3.1-70b", "fp8")):
        asked = {"engine": "vllm", "weights": weights, "prompt": 1024, "output": 128, "batch": 8, "tp": tp, "dp": 1}
        old, new = (
            serve(model=model, cluster={"node": custom_node(card, tp), "num_gpus": tp}, serving=asked).times
            for card in ("h200-sxm-141gb", "b200-sxm-180gb")
        )
        for batch in (1.0, 64.0):
            first, second = (t.pass_time(t.shape("decode", batch, 1.0, 1024.0)) for t in (old, new))
            assert float(second.device_s) < float(first.device_s)
            assert float(second.total - first.total) <= max(float(second.communication_s - first.communication_s), 0.0)
