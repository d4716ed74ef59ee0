"""The cut that is chosen where a deployment names none."""

from __future__ import annotations

import pytest

from planner.common.errors import PlannerError
from planner.hardware.asked import cluster_table
from planner.model.catalog import load_model
from planner.serving.cuts import CUT, cuts
from planner.serving.deploy import serve
from planner.serving.deployment import Deployment, capacity_of
from planner.serving.engine import engine_names, load_engine
from planner.workload.resolve import as_cluster

ASKED = {"engine": "vllm", "prompt": 1024, "output": 256}


def asked(model: str, on: str, **fields: object) -> Deployment:
    return serve(model=model, cluster=cluster_table(on), serving={**ASKED, **fields})


@pytest.mark.parametrize(
    ("model", "on"), [("llama-3-70b", "4xh100"), ("mixtral-8x7b", "8x a100-sxm4-80gb"), ("llama-2-7b", "8xh100")]
)
def test_a_chosen_cut_fits_where_one_does_and_none_that_fits_serves_more(model: str, on: str) -> None:
    chosen = asked(model, on)
    every = [asked(model, on, **cut) for cut in cuts(load_model(model), as_cluster(cluster_table(on)), load_engine("vllm"))]
    fitting = [d for d in every if d.certainty == "fits"]
    assert fitting
    assert chosen.certainty == "fits"
    assert {name: getattr(chosen.serving, name) for name in CUT} in [{n: getattr(d.serving, n) for n in CUT} for d in fitting]
    # by a queue that is never empty, where the choice goes by full batches: within what mixing prefill in makes of it
    assert capacity_of(chosen) > 0.8 * max(capacity_of(d) for d in fitting)


def test_every_cut_fills_the_cluster_and_divides_the_heads() -> None:
    model, cluster = load_model("llama-3-70b"), as_cluster(cluster_table("16xh100"))
    found = list(cuts(model, cluster, load_engine("vllm")))
    assert {cut["tp"] * cut["pp"] * cut["dp"] for cut in found} == {16}
    assert all(model.num_heads % cut["tp"] == 0 and cut["tp"] <= 8 for cut in found)
    assert max(cut["pp"] for cut in found) == 2  # two nodes


def test_an_engine_that_splits_layers_alone_is_cut_into_stages() -> None:
    """llama.cpp ran Llama 3 70B in Q4_K_M on two RTX 3090 (XiongjieDai/GPU-Benchmarks-on-LLM-Inference), which hold 48 GB."""
    found = asked("llama-3-70b", "2x rtx-3090", engine="llama.cpp", weights="q4_k_m", prompt=512, batch=1)
    assert found.fits
    assert (found.serving.tp, found.serving.pp, found.serving.dp) == (1, 2, 1)
    alone = asked("llama-3-70b", "2x rtx-3090", engine="llama.cpp", weights="q4_k_m", prompt=512, batch=1, tp=1, pp=1, dp=2)
    assert alone.nearest == {"pp": 2, "dp": 1}


def test_no_engine_is_cut_in_a_way_that_it_lacks() -> None:
    model, cluster = load_model("llama-3-70b"), as_cluster(cluster_table("8xh100"))
    for name in engine_names():
        engine = load_engine(name)
        if "tp" not in engine.features:
            assert {cut["tp"] for cut in cuts(model, cluster, engine)} == {1}, name
            assert {cut["pp"] for cut in cuts(model, cluster, engine)} == {1, 2, 4, 8}, name


def test_a_given_degree_is_kept() -> None:
    assert asked("llama-2-7b", "8xh100", tp=8).serving.dp == 1
    assert asked("llama-2-7b", "8xh100", dp=4, tp=2).serving.tp == 2


def test_clients_are_spread_over_the_replicas() -> None:
    found = asked("llama-2-7b", "8xh100", clients=33)
    assert found.serving.batch == -(-33 // found.serving.dp)
    assert asked("llama-2-7b", "8xh100", clients=33, batch=5).serving.batch == 5


@pytest.mark.parametrize("clients", [64, 512, 2048])
def test_clients_who_fill_the_cache_are_served_by_the_cut_that_serves_most(clients: int) -> None:
    """A replica whose cache they fill is no less sure to fit than one that has room left."""
    fields = {"engine": "tensorrt-llm", "weights": "fp8", "prompt": 294, "output": 294, "clients": clients, "max_batch": 2048}
    chosen = asked("llama-2-70b", "8xh100", **fields)
    assert chosen.load is not None
    for tp in (2, 4, 8):
        other = asked("llama-2-70b", "8xh100", **fields, tp=tp, dp=8 // tp)
        assert other.load is not None
        assert (chosen.load.output_tokens_per_s or 0.0) >= 0.9 * (other.load.output_tokens_per_s or 0.0)


@pytest.mark.parametrize(
    ("model", "clients", "times"), [("deepseek-v3", 512, 1.25), ("deepseek-v3", 1024, 1.5), ("qwen3-235b-a22b", 1024, 1.5)]
)
def test_many_clients_of_experts_are_served_by_gpus_that_attend_each_to_its_own(model: str, clients: int, times: float) -> None:
    """DeepSeek's and LMSYS's own deployments: experts over all GPUs, attention of its own on each."""
    chosen = asked(model, "8xh200", engine="sglang", clients=clients, output=1024)
    assert (chosen.serving.tp, chosen.serving.ep) == (1, 8)
    whole = asked(model, "8xh200", engine="sglang", clients=clients, output=1024, tp=8, dp=1)
    assert chosen.load is not None
    assert whole.load is not None
    assert (chosen.load.output_tokens_per_s or 0.0) > times * (whole.load.output_tokens_per_s or 0.0)
    assert asked(model, "8xh200", engine="sglang", clients=8).serving.tp > 1


def test_what_fits_nowhere_says_how_many_cuts_were_tried() -> None:
    found = asked("deepseek-v3", "8xh100", weights="bf16")
    assert not found.fits
    assert any("no cut of" in note for note in found.notes)


def test_weights_are_as_the_checkpoint_stores_them() -> None:
    assert asked("gpt-oss-120b", "h100").serving.weights == "mxfp4"
    assert asked("deepseek-v3", "8xh200").serving.weights == "fp8-block"
    assert asked("gpt-oss-120b", "h100", weights="bf16").serving.weights == "bf16"


def test_weights_that_nobody_gave_are_in_the_chips_own_16_bit_type() -> None:
    """Turing and Volta have no bf16 (NVIDIA, compute capability 7.5 and 7.0); what is asked for in so many words is refused."""
    for card in ("t4", "v100-sxm2-16gb"):
        found = asked("llama-3.2-1b", card)
        assert found.serving.weights == "fp16"
        assert any("fp16" in note for note in found.notes)
        with pytest.raises(PlannerError, match="no bf16 arithmetic"):
            asked("llama-3.2-1b", card, weights="bf16")
    assert asked("llama-3.2-1b", "a10g").serving.weights == "bf16"
