"""Copies of full experts (EPLB): what they take in memory, and what they make of the fullest rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from serving_examples import deployment

from planner.common.errors import PlannerError
from planner.export.servers import export_deployment
from planner.hardware.cluster import cluster
from planner.launchfiles import read_launch
from planner.model.catalog import load_model
from planner.model.parameters import layer_parameters
from planner.operators.expert_load import copied_shares, expert_copies, zipf_shares
from planner.serving.deploy import serve
from planner.serving.experts import distinct_experts, fullest_rank
from planner.serving.pass_time import Times
from planner.serving.setting import Setting
from planner.serving.weights import stage_bytes

QUESTION = {"engine": "sglang", "prompt": 512, "output": 64, "tp": 1, "ep": 32, "dispatcher": "deepep"}


def deepseek(**fields: object) -> Setting:
    """DeepSeek-V3 over 32 H200."""
    on = cluster("dgx-h200", num_nodes=4)
    return deployment(load_model("deepseek-v3"), on=on, weights="fp8-block", **{**QUESTION, **fields})


def test_copies_go_to_the_experts_with_the_most_tokens() -> None:
    shares = np.array([0.5, 0.3, 0.1, 0.1])
    assert expert_copies(tuple(shares), 3) == (3, 2, 1, 1)
    copied = copied_shares(shares, 3)
    assert copied.sum() == pytest.approx(1.0)
    assert copied.max() < shares.max()
    assert expert_copies(tuple(zipf_shares(0.0, 4)), 4) == (2, 2, 2, 2)


def test_each_rank_stores_its_part_of_the_copies() -> None:
    """32 copies on 32 ranks: one expert more on each, in every layer that has experts."""
    few, more = deepseek(), deepseek(redundant_experts=32)
    kind = next(k for k in few.model.layer_kinds if k.moe)
    one = sum(few.tensor_bytes(t) for t in layer_parameters(few.model, kind) if t.name.startswith("experts.")) / 256
    layers = sum(k.moe for k in few.model.layer_kinds)
    assert sum(stage_bytes(more)) - sum(stage_bytes(few)) == pytest.approx(layers * one, rel=1e-6)


def test_copies_bring_the_fullest_rank_to_the_mean() -> None:
    loads = [deepseek(expert_zipf=0.6, redundant_experts=r).serving.rank_load(256) for r in (0, 32, 64)]
    assert loads[0] > 1.5
    assert loads[0] > loads[1] >= loads[2] >= 1.0
    slow, fast = (Times(setting=deepseek(expert_zipf=0.6, redundant_experts=r)) for r in (0, 32))
    assert float(fast.prefill_s(4096, 32)) < float(slow.prefill_s(4096, 32))
    alike = [Times(setting=deepseek(redundant_experts=r)) for r in (0, 32)]  # alike ones are read once more each
    assert float(alike[0].decode_s(4096, 1024)) < float(alike[1].decode_s(4096, 1024))


def test_copies_are_touched_as_the_tokens_of_their_expert_split() -> None:
    for zipf in (0.0, 0.8):
        own, copied = (distinct_experts(64, 4, np.array([1.0, 16.0, 1e6]), zipf, r) for r in (0, 16))
        assert copied[0] == pytest.approx(own[0])  # one token takes one copy of each
        assert own[1] < copied[1]
        assert copied[2] == pytest.approx(80.0)
    touched, pairs = fullest_rank(64, 4, np.array([1e6]), 8, 1.0, 0.0, 16)
    assert touched[0] == pytest.approx(10.0)
    assert pairs[0] == pytest.approx(4e6 / 8, rel=0.01)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"redundant_experts": 20}, "256 experts and these copies do not fill 32 ranks evenly; use 32, 64 and so on"),
        ({"redundant_experts": 20, "ep": 96}, "do not fill 96 ranks evenly; use 32, 128 and so on"),
        ({"redundant_experts": 32, "expert_zipf": 0.5, "expert_placement": "sorted"}, "copies go where the load is"),
        (
            {"redundant_experts": 32, "ep": 1, "tp": 32, "dispatcher": None},
            "with ep = 1 every GPU has all experts; use ep above 1",
        ),
        ({"redundant_experts": 32, "engine": "vllm-v0", "dispatcher": None}, "has no redundant experts"),
        ({"redundant_experts": 32, "engine": "sglang 0.4.3", "dispatcher": None}, "has no redundant experts"),
    ],
)
def test_copies_that_no_server_holds_are_refused(fields: dict[str, object], words: str) -> None:
    question = {k: v for k, v in {**QUESTION, **fields}.items() if v is not None}
    with pytest.raises(PlannerError, match=words):
        serve(model="deepseek-v3", cluster="32xh200", serving=question)


def test_more_ranks_than_divide_the_experts_hold_them_with_their_copies() -> None:
    """DeepSeek's decoding: 256 experts and 32 copies, two on each of 144 ranks."""
    cut = {**QUESTION, "ep": 144, "memory_fraction": 0.85}
    with pytest.raises(PlannerError, match="use a divisor of it, or redundant_experts = 32"):
        serve(model="deepseek-v3", cluster="144xh200", serving=cut)
    assert serve(model="deepseek-v3", cluster="144xh200", serving={**cut, "redundant_experts": 32}).fits
    with pytest.raises(PlannerError, match=r"256 experts; use a divisor of it\."):
        serve(model="deepseek-v3", cluster="144xh200", serving={**cut, "engine": "vllm-v0", "dispatcher": "gather"})


def test_copies_are_not_exported_to_a_server_that_takes_them_in_a_file_of_their_own() -> None:
    asked = {**QUESTION, "engine": "tensorrt-llm", "dispatcher": None, "redundant_experts": 32, "ep": 16, "memory_fraction": 0.85}
    answer = serve(model="deepseek-v3", cluster="16xh200", serving={k: v for k, v in asked.items() if v is not None})
    with pytest.raises(PlannerError, match="redundant_experts = 32: its load balancer"):
        export_deployment(answer, "tensorrt-llm")


@pytest.mark.parametrize(("server", "words"), [("vllm", "--enable-eplb"), ("sglang", "--ep-num-redundant-experts 32")])
def test_copies_are_exported_and_read_back(server: str, words: str, tmp_path: Path) -> None:
    asked = {**QUESTION, "engine": server, "redundant_experts": 32, "ep": 16, "memory_fraction": 0.85}
    text = export_deployment(serve(model="deepseek-v3", cluster="16xh200", serving=asked), server)["launch.sh"]
    assert words in text
    script = tmp_path / "launch.sh"
    script.write_text(text)
    launch = read_launch([script])
    assert launch.tables["serving"]["redundant_experts"] == 32
    assert (launch.not_understood, launch.unmodelled) == ((), ())
