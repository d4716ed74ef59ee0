"""A pass with prompts is launched kernel by kernel: it lasts no less than that takes, decoding beside it or not."""

from __future__ import annotations

import numpy as np
import pytest

from planner.serving import serve
from planner.serving.batching import Server, simulate
from planner.serving.load import replica
from planner.serving.requests import Requests

ONE = {"step_s": np.array([0.0, 0.01, 0.01]), "token_s": np.zeros(3), "pass_s": 0.01, "slots": 2, "cache_tokens": 10_000.0}


def asked(outputs: list[float], arrivals: list[float]) -> Requests:
    n = len(outputs)
    return Requests(arrivals_s=np.array(arrivals), prompts=np.full(n, 100.0), outputs=np.array(outputs))


@pytest.mark.parametrize("beside", [0.0, 4096.0])
def test_a_short_prompt_waits_for_its_launches(beside: float) -> None:
    """10 ms of a pass and 5 of the prompt; launching takes 50. Where it takes 2, the device decides: 15."""
    for launch, first in ((0.05, 0.05), (0.002, 0.015)):
        server = Server(**ONE, chunk_tokens=beside, launch_s=launch)
        assert simulate(server, asked([1.0], [0.0]), np.array([0.005])).first_s[0] == pytest.approx(first)


def test_decoding_waits_beside_it() -> None:
    """The first request decodes steps of 10 ms, from 50 ms on; the second comes at 55 and joins the pass from 60 to 110 ms."""
    server = Server(**ONE, chunk_tokens=4096.0, launch_s=0.05)
    found = simulate(server, asked([4.0, 1.0], [0.0, 0.055]), np.array([0.005, 0.005]))
    assert found.first_s == pytest.approx([0.05, 0.11])
    assert found.done_s[0] == pytest.approx(0.05 + 0.01 + 0.05 + 0.01)


@pytest.mark.parametrize(
    ("gpus", "weights", "launch"), [("h200-sxm-141gb", "mxfp4", 36 * 0.00136), ("h200-sxm-141gb", "bf16", 36 * 0.0004)]
)
def test_seconds_by_hand(gpus: str, weights: str, launch: float) -> None:
    """gpt-oss-120b has 36 layers, all with experts: 49 ms under TensorRT-LLM; in 16 bit its kernels are the library's,
    and take what those of any layer do."""
    cluster = {"accelerator": gpus, "num_gpus": 8}
    serving = {"engine": "tensorrt-llm", "weights": weights, "prompt": 64, "output": 16, "tp": 8}
    d = serve(model="gpt-oss-120b", cluster=cluster, serving=serving)
    assert d.times.prompt_launch_s == pytest.approx(launch)
    assert replica(d.times).server.launch_s == pytest.approx(launch)
    alone = float(d.times.prefill_s(64.0))
    device = float(d.times.on_device.prefill_s(64.0))
    step = float(d.times.pass_time(d.times.shape("prefill", 1.0, 64.0, 0.0)).host_step_s)
    assert alone == pytest.approx(max(device, launch + step))


@pytest.mark.parametrize(
    ("model", "weights", "launch"),
    [("deepseek-v3", "fp8-block", 58 * 0.001355 + 3 * 0.0004), ("llama-3.1-70b", "fp8", 80 * 0.0004)],
)
def test_prefill_passes_are_launched_layer_by_layer(model: str, weights: str, launch: float) -> None:
    """DeepSeek-V3 has experts in 58 of its 61 layers: a prompt of 64 tokens takes 80 ms under SGLang 0.5, and no less with a
    second one beside it; long prompts last as long as the device works. Dense layers have fewer kernels."""
    serving = {"engine": "sglang-0.5", "weights": weights, "prompt": 64, "output": 16, "tp": 8}
    d = serve(model=model, cluster={"accelerator": "h200-sxm-141gb", "num_gpus": 8}, serving=serving)
    assert d.times.prompt_launch_s == pytest.approx(launch)
    assert replica(d.times).server.launch_s == pytest.approx(launch)
    step = float(d.times.pass_time(d.times.shape("prefill", 1.0, 64.0, 0.0)).host_step_s)
    assert [float(d.times.prefill_s(64.0, n)) for n in (1.0, 2.0)] == pytest.approx([launch + step] * 2, rel=1e-3)
    assert float(d.times.prefill_s(8192.0, 4.0)) == pytest.approx(float(d.times.on_device.prefill_s(8192.0, 4.0)))


def test_other_engines_launch_nothing_and_blackwell_no_more_than_any_layer() -> None:
    """vLLM holds such passes in graphs or compiles them; Blackwell multiplies mxfp4 as it is: 36 layers as all others."""
    for engine, gpus, launch in (("vllm", "h200-sxm-141gb", 0.0), ("tensorrt-llm", "b200-sxm-180gb", 36 * 0.0004)):
        serving = {"engine": engine, "weights": "mxfp4", "prompt": 64, "output": 16}
        d = serve(model="gpt-oss-120b", cluster={"accelerator": gpus, "num_gpus": 1}, serving=serving)
        assert d.times.prompt_launch_s == pytest.approx(launch)
