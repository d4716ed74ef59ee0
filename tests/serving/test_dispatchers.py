"""How tokens come to their experts' GPUs: by DeepEP where the engine has it and the fabric allows it, else by the library."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from serving_examples import deployment

from planner.hardware.cluster import Cluster, cluster
from planner.hardware.custom_nodes import custom_node
from planner.model.catalog import load_model
from planner.operators.row import Row
from planner.performance.collectives import collective_s
from planner.serving.engine import engine_names, load_engine
from planner.serving.pass_time import Times
from planner.serving.rows import Phase, Shape, pass_rows
from planner.serving.setting import Setting

FABRICS = {
    "RDMA": cluster("dgx-h100", num_nodes=4),
    "EFA": cluster("p5-48xlarge", num_nodes=4),
    "TCP": cluster("a3-highgpu-8g", num_nodes=4),
    "AMD": cluster("standard-nd96isr-mi300x-v5", num_nodes=4),
    "L40S": cluster("bm-gpu-l40s-4", num_nodes=8),
    "T4": cluster(custom_node("t4", 8), num_nodes=4),
    "A100": cluster("dgx-a100-80gb", num_nodes=4),
}


def served(on: Cluster) -> Setting:
    return deployment(load_model("qwen3-30b-a3b"), on=on, engine="sglang-0.5", weights="fp16", ep=32, tp=1)


def seconds(setting: Setting, row: Row) -> float:
    """Without the wait for the last GPU."""
    engine = setting.engine.model_copy(update={"collective_wait_s": 0.0})
    return float(Times(setting=replace(setting, engine=engine)).row_s(row)[0])


def exchanges(setting: Setting, phase: Phase = "decode") -> dict[str, Row]:
    one = np.ones(1)
    shape = Shape(
        phase=phase, sequences=128.0 * 32.0 * one, queries=one * (64.0 if phase == "prefill" else 1.0), past=one * 512.0
    )
    return {row.operator: row for row in pass_rows(setting, shape) if row.collective == "all_to_all"}


@pytest.mark.parametrize("fabric", [name for name in FABRICS if name != "RDMA"])
@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_a_fabric_without_deepep_takes_the_librarys_time(fabric: str, phase: Phase) -> None:
    """NCCL's and RCCL's, of every pair of a token and an expert, in the width of the activations."""
    setting = served(FABRICS[fabric])
    there, back = exchanges(setting, phase).values()
    assert there.copies is back.copies is None
    assert np.all(there.communication_bytes == back.communication_bytes)
    theirs = collective_s(setting.cluster, "all_to_all", there.communication_bytes, 32.0, 1.0)
    assert seconds(setting, there) == pytest.approx(float(theirs[0]))


def test_deepep_is_faster_over_rdma_and_sends_a_prompt_once_to_a_node() -> None:
    setting = served(FABRICS["RDMA"])
    there = exchanges(setting)["dispatch tokens"]
    theirs = collective_s(setting.cluster, "all_to_all", there.communication_bytes, 32.0, 1.0)
    assert seconds(setting, there) < 0.9 * float(theirs[0])
    assert all(row.copies == setting.model.top_k for row in exchanges(setting, "prefill").values())


def test_inside_a_node_of_hopper_the_network_does_not_matter() -> None:
    for node in ("dgx-h100", "p5-48xlarge"):
        assert deployment(load_model("qwen3-30b-a3b"), on=cluster(node, num_gpus=8), engine="sglang", ep=8).dispatcher == "deepep"


@pytest.mark.parametrize("engine", [name for name in engine_names() if "ep" in load_engine(name).features])
def test_an_engine_without_deepep_sends_every_pair_in_16_bit(engine: str) -> None:
    setting = served(FABRICS["RDMA"])
    setting = replace(setting, engine=load_engine(engine), serving=setting.serving.replaced(weights="fp8-block"))
    has = load_engine(engine).dispatcher == "deepep"
    there, back = (float(row.communication_bytes[0]) for row in exchanges(setting).values())
    assert there == pytest.approx(back * (0.5 if has else 1.0))
    assert (exchanges(setting, "prefill")["dispatch tokens"].copies is not None) == has
    assert has or engine not in ("sglang-0.5", "vllm-v1")


def test_engines_older_than_deepep_do_not_have_it() -> None:
    """The library is of February 2025 (deepseek-ai/DeepEP)."""
    for name in ("vllm-2023", "vllm-2024", "vllm-v0", "sglang-0.4", "tensorrt-llm-2023"):
        assert load_engine(name).dispatcher == "alltoall"


def test_one_sided_kernels_send_a_token_once_to_a_rank_and_only_over_nvlink() -> None:
    """TensorRT-LLM, tech blog 18: at most once from a rank to another, NVFP4 and FP8 before they are sent, back in 16 bit."""
    for node, weights, narrow in (("dgx-h100", "fp8", 0.5), ("dgx-b200", "nvfp4", 0.25)):
        on = cluster(node, num_gpus=8)
        setting = deployment(load_model("qwen3-30b-a3b"), on=on, engine="tensorrt-llm", weights=weights, ep=8, tp=1)
        for phase in ("decode", "prefill"):
            there, back = exchanges(setting, phase).values()  # type: ignore[arg-type]
            assert there.copies == back.copies == setting.model.top_k
            assert float(there.communication_bytes[0]) == pytest.approx(narrow * float(back.communication_bytes[0]))
    apart = replace(served(FABRICS["RDMA"]), engine=load_engine("tensorrt-llm-1"))
    assert apart.dispatcher == "alltoall"
