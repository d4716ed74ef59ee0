"""nvfp4 checkpoints on GPUs that cannot multiply fp4: four bits in memory, 16-bit arithmetic where an engine has such kernels."""

from __future__ import annotations

import pytest

from planner.common.errors import PlannerError
from planner.serving.deploy import serve
from planner.serving.deployment import Deployment
from planner.serving.engine import engine_names

ASKED = {"prompt": 512, "output": 64}


def served(node: str, gpus: int = 8, **fields: object) -> Deployment:
    model = {"base": "llama-3.1-70b", "stored_weights": "nvfp4"}
    return serve(model=model, cluster={"node": node, "num_gpus": gpus}, serving={**ASKED, "tp": gpus, **fields})


@pytest.mark.parametrize(
    ("node", "engine", "weights"),
    [
        ("dgx-h100", None, "nvfp4-weight-only"),
        ("dgx-a100-80gb", "sglang", "nvfp4-weight-only"),
        ("dgx-b200", "vllm", "nvfp4"),
        ("dgx-h100", "tensorrt-llm", "bf16"),
        ("dgx-h100", "sglang-0.4", "bf16"),
        ("standard-nd96isr-mi300x-v5", None, "bf16"),
    ],
)
def test_marlin_kernels_expand_what_nothing_multiplies(node: str, engine: str | None, weights: str) -> None:
    """vLLM and SGLang, is_fp4_marlin_supported: NVIDIA's GPUs from Turing on."""
    d = served(node, **({} if engine is None else {"engine": engine}))
    assert d.serving.weights == weights


def test_four_bits_are_read_and_sixteen_multiplied() -> None:
    """4.5 bits a weight in layers: what int4 of groups of 128 takes, and an eighth more; prompts are no faster than in 16 bit."""
    narrow, wide = served("dgx-h100"), served("dgx-h100", weights="bf16")
    native = served("dgx-b200")
    assert narrow.weights_bytes == pytest.approx(native.weights_bytes)
    assert narrow.weights_bytes < 0.32 * wide.weights_bytes
    assert narrow.tpot_s < wide.tpot_s
    assert narrow.ttft_s >= 0.95 * wide.ttft_s


def test_what_needs_units_says_what_does_not() -> None:
    with pytest.raises(PlannerError, match="Use nvfp4-weight-only or int4-awq"):
        served("dgx-h100", weights="nvfp4")


@pytest.mark.parametrize("engine", engine_names())
@pytest.mark.parametrize("node", ["dgx-h100", "standard-nd96isr-mi300x-v5"])
def test_what_is_asked_and_what_a_checkpoint_stores_are_answered_alike(node: str, engine: str) -> None:
    """Where a checkpoint in nvfp4 is counted in 16 bit for want of kernels, those kernels cannot be asked for either."""
    try:
        stored = served(node, engine=engine).serving.weights
    except PlannerError:
        return  # the engine does not run there at all
    if stored == "nvfp4-weight-only":
        assert served(node, engine=engine, weights=stored).serving.weights == stored
        return
    with pytest.raises(PlannerError, match=r"kernels that expand fp4|no engine of the catalog expands") as refused:
        served(node, engine=engine, weights="nvfp4-weight-only")
    assert ("sglang-0.5" in str(refused.value)) == (node == "dgx-h100")
    with pytest.raises(PlannerError, match="Use int4-awq or int4-gptq"):
        served(node, engine=engine, weights="nvfp4")
