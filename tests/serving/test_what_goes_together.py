"""Fields of a deployment that exclude or need each other: the last that is right beside the first that is wrong, of each rule."""

from __future__ import annotations

from typing import Any

import pytest

from planner.common.errors import PlannerError
from planner.serving.spec import MOST_CLIENTS, Lengths, Serving

RULES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"weights": "exl2", "bits_per_weight": 4.0}, {"weights": "int4-awq", "bits_per_weight": 4.0}, "belongs to weights = 'exl2'"),
    ({"ep": 8, "tp": 4}, {"ep": 8, "tp": 3}, "ep = 8 and tp = 3: one must divide the other"),
    ({"ep": 2, "tp": 4}, {"ep": 3, "tp": 4}, "one must divide the other"),
    ({"batch": 8, "max_batch": 8}, {"batch": 9, "max_batch": 8}, "batch = 9 exceeds max_batch = 8;"),
    ({"batch": 32, "max_batch": 8, "ep": 4}, {"batch": 33, "max_batch": 8, "ep": 4}, "batch = 33 exceeds max_batch = 8 x 4"),
    ({"weights": "fp16", "compute_dtype": "fp16"}, {"weights": "fp16", "compute_dtype": "bf16"}, "compute in their own type"),
    ({"weights": "fp8", "compute_dtype": "fp16"}, {"weights": "fp32", "compute_dtype": "fp16"}, "compute in their own type"),
    ({"ttft_target_s": 1.0, "clients": 2}, {"ttft_target_s": 1.0}, "needs requests_per_s or clients"),
    ({"e2e_target_s": 1.0, "requests_per_s": 2.0}, {"e2e_target_s": 1.0}, "needs requests_per_s or clients"),
    ({"tpot_target_s": 1.0, "requests_per_s": 2.0}, {"tpot_target_s": 1.0}, "needs requests_per_s or clients"),
    ({"response_cache_s": 0.1, "response_cache_hit_rate": 0.1}, {"response_cache_s": 0.1}, "needs response_cache_hit_rate"),
    ({"embeds": True, "output": 1}, {"embeds": True, "output": 2}, "the answer is a vector, not text"),
    ({"embeds": True, "output": None}, {"embeds": True, "output": {"kind": "uniform", "low": 1, "high": 2}}, "leave output out"),
    ({"embeds": True, "output": 1, "requests_per_s": 1.0, "ttft_target_s": 1.0},
     {"embeds": True, "output": 1, "requests_per_s": 1.0, "tpot_target_s": 1.0}, "embeds = true with tpot_target_s"),
    ({"expert_placement": "sorted", "expert_zipf": 0.5, "ep": 2}, {"expert_placement": "sorted", "ep": 2}, "needs expert_zipf"),
    ({"expert_zipf": 0.5}, {"expert_placement": "sorted", "expert_zipf": 0.5}, "needs expert_zipf above 0, ep above 1"),
    ({"expert_load": 1.5, "ep": 2}, {"expert_placement": "sorted", "expert_zipf": 0.5, "ep": 2, "expert_load": 1.5},
     "no expert_load"),
    ({"redundant_experts": 2, "ep": 2}, {"redundant_experts": 2}, "with ep = 1 every GPU has all experts"),
    ({"redundant_experts": 2, "ep": 2, "expert_zipf": 0.5, "expert_placement": "rebalanced"},
     {"redundant_experts": 2, "ep": 2, "expert_zipf": 0.5, "expert_placement": "sorted"}, "copies go where the load is"),
    ({"expert_load": 2.0, "ep": 2}, {"expert_load": 2.1, "ep": 2}, "expert_load = 2.1 with ep = 2: the fullest"),
    ({"requests_per_s": 2.0}, {"requests_per_s": 2.0, "clients": 2}, "give one of the two"),
    ({"response_cache_hit_rate": 0.1, "requests_per_s": 2.0}, {"response_cache_hit_rate": 0.1, "clients": 2}, "not clients"),
    ({"clients": 2 * MOST_CLIENTS, "dp": 2}, {"clients": 2 * MOST_CLIENTS + 1, "dp": 2}, "at most 16384 a replica are simulated"),
    ({"prefill_pool": {"tp": 2, "ep": 4}}, {"prefill_pool": {"tp": 2, "ep": 3}}, "prefill_pool: ep = 3 and tp = 2"),
    ({"prefill_pool": {}, "clients": 1}, {"prefill_pool": {}, "clients": 1, "requests_per_s": 1.0}, "give one of the two"),
    ({"prefill_pool": {}, "expert_offload": 0.0}, {"prefill_pool": {}, "expert_offload": 0.5}, "with expert_offload"),
    ({"speculative": {"tokens": 2, "acceptance": 0.5}},
     {"prefill_pool": {}, "speculative": {"tokens": 2, "acceptance": 0.5}}, "prefill_pool with speculative"),
    ({"pass_tokens": 64}, {"pass_tokens": 64, "chunked_prefill_tokens": 64}, "chunks are the size of a pass"),
    ({"prefill_wait_steps": 2, "prefill_wait_share": 0.5, "clients": 2}, {"prefill_wait_steps": 2, "clients": 2}, "give both"),
    ({"clients": 2}, {"prefill_wait_share": 0.5, "clients": 2}, "give both, or neither"),
    ({"prefill_wait_steps": 2, "prefill_wait_share": 0.5, "requests_per_s": 2.0},
     {"prefill_wait_steps": 2, "prefill_wait_share": 0.5}, "a prompt alone does not wait"),
    ({"weights": "int4-gptq", "group_size": 64}, {"weights": "nf4", "group_size": 64}, "have groups of any size"),
    ({"weights": "fp8", "keep_16_bit": ["ffn"]}, {"weights": "fp16", "keep_16_bit": ["ffn"]}, "nothing is quantized"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "words"), RULES)
def test_what_excludes_or_needs_what(right: dict[str, Any], wrong: dict[str, Any], words: str) -> None:
    usual = {"prompt": 64, "output": 8}
    assert Serving.build({**usual, **right}, "serving")
    with pytest.raises(PlannerError) as told:
        Serving.build({**usual, **wrong}, "serving")
    assert words in str(told.value)


LENGTHS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"kind": "fixed", "mean": 4}, {"kind": "fixed"}, "mean is missing"),
    ({"kind": "fixed", "mean": 4.0}, {"kind": "fixed", "mean": 4.5}, "must be a whole number of tokens"),
    ({"kind": "lognormal", "mean": 4.5, "standard_deviation": 0}, {"kind": "lognormal", "mean": 4.5}, "standard_deviation is"),
    ({"kind": "uniform", "low": 3, "high": 3}, {"kind": "uniform", "low": 3, "high": 2}, "high = 2 is below low = 3"),
    ({"kind": "uniform", "low": 3, "high": 4}, {"kind": "uniform", "low": 3}, "high is missing"),
    ({"kind": "uniform", "low": 3, "high": 4}, {"kind": "uniform", "low": 3, "high": 4, "mean": 3}, "mean does not belong"),
    ({"kind": "histogram", "values": [1, 2], "weights": [0, 1]}, {"kind": "histogram", "values": [1, 2], "weights": [0, 0]},
     "weights are all zero"),
    ({"kind": "histogram", "values": [1], "weights": [2]}, {"kind": "histogram", "values": [1, 2], "weights": [2]},
     "2 values but 1 weights"),
    ({"kind": "histogram", "values": [1], "weights": [2]}, {"kind": "histogram", "values": [1]}, "weights is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "words"), LENGTHS)
def test_what_a_length_needs(right: dict[str, Any], wrong: dict[str, Any], words: str) -> None:
    assert Lengths.build(right, "prompt")
    with pytest.raises(PlannerError) as told:
        Lengths.build(wrong, "prompt")
    assert words in str(told.value)


def test_the_fullest_rank_is_given_or_follows_popularity() -> None:
    """Given it is no more than all on one of four; without popular experts, or on one rank, all are alike."""
    asked = {"prompt": 64, "output": 8}
    given = Serving.build({**asked, "ep": 4, "expert_load": 2.5}, "serving")
    assert given.rank_load(8) == 2.5
    assert given.model_copy(update={"ep": 2}).rank_load(8) == 2.0
    assert Serving.build({**asked, "ep": 4}, "serving").rank_load(8) == 1.0
    assert Serving.build({**asked, "expert_zipf": 1.0}, "serving").rank_load(8) == 1.0
    popular = [Serving.build({**asked, "ep": 4, "expert_zipf": 1.0, **more}, "serving").rank_load(8) for more in (
        {"expert_placement": "sorted"}, {}, {"expert_placement": "rebalanced"}, {"redundant_experts": 8})]  # fmt: skip
    assert popular == sorted(popular, reverse=True)
    assert len(set(popular)) == 4
    weights = [1 / i for i in range(1, 9)]
    assert popular[0] == pytest.approx((weights[0] + weights[1]) / sum(weights) * 4)
    assert popular[-1] >= 1.0
