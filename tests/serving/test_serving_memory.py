"""Laws of a deployment's bytes: weights by format, the cache by attention, and what fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_examples import LLAMA, MIXTRAL, deployment, model

from planner.common.errors import PlannerError
from planner.common.units import GIB
from planner.hardware.asked import cluster_table
from planner.hardware.cluster import cluster
from planner.model.catalog import load_model
from planner.model.parameters import parameters_total
from planner.serving import serve
from planner.serving.kv_cache import replica_sequence_bytes, sequence_bytes
from planner.serving.load import cache_tokens
from planner.serving.memory import card_bytes, fits, largest_batch, largest_context, limit_bytes, memory
from planner.serving.pass_time import Times
from planner.serving.weight_formats import FORMATS
from planner.serving.weights import stage_bytes, total_bytes
from planner.workload.resolve import as_cluster

H100 = {"node": "dgx-h100", "num_gpus": 1}


def test_sixteen_bit_weights_are_two_bytes_a_parameter() -> None:
    m = load_model("llama-3.1-8b")
    assert total_bytes(deployment(m, weights="bf16")) == 2 * parameters_total(m)
    assert total_bytes(deployment(m, weights="fp32")) == 4 * parameters_total(m)


@pytest.mark.parametrize("name", ["llama-3-8b", "llama-3-70b"])
def test_q4_k_m_files_are_as_large_as_published(name: str) -> None:
    """XiongjieDai/GPU-Benchmarks-on-LLM-Inference, README: 4.58 and 39.59 GiB."""
    published = {"llama-3-8b": 4.58, "llama-3-70b": 39.59}[name]
    found = total_bytes(deployment(load_model(name), engine="llama.cpp", weights="q4_k_m", compute_dtype="fp16"))
    assert found / GIB == pytest.approx(published, rel=0.01)


def test_a_gptq_group_costs_a_scale_and_a_zero() -> None:
    """4 + 20 / 128 bits in the layers' matrices; embedding, output layer, norms and biases stay in 16 bit."""
    m = load_model("llama-2-7b")
    wide = 2 * 32000 * 4096 + 65 * 4096  # word embedding, output layer, norms
    found = total_bytes(deployment(m, weights="int4-gptq"))
    assert found == pytest.approx((parameters_total(m) - wide) * (4 + 20 / 128) / 8 + 2 * wide)


@given(
    group=st.sampled_from([32, 64, 128]), name=st.sampled_from(["llama-2-7b", "mixtral-8x7b", "qwen2.5-0.5b", "deepseek-v2-lite"])
)
@settings(max_examples=12, deadline=None)
def test_fewer_bits_never_take_more_bytes(group: int, name: str) -> None:
    m = load_model(name)
    at = {w: total_bytes(deployment(m, weights=w, group_size=group)) for w in ("int8-gptq", "int4-gptq", "int4-awq")}
    at["bf16"] = total_bytes(deployment(m))
    assert at["int4-gptq"] == at["int4-awq"] <= at["int8-gptq"] <= at["bf16"]
    eight = total_bytes(deployment(m, weights="int8-weight-only"))
    assert total_bytes(deployment(m, weights="int4", group_size=group)) <= eight <= at["bf16"]


@pytest.mark.parametrize("weights", [w for w in FORMATS if w not in ("exl2", "int8", "nvfp4", "fp32", "fp16", "bf16")])
def test_what_stays_in_16_bit_adds_bytes(weights: str) -> None:
    m, on = model(MIXTRAL), cluster("dgx-h100", num_gpus=1)  # which expands fp4 on the way
    less = total_bytes(deployment(m, on=on, weights=weights, keep_16_bit=()))
    more = total_bytes(deployment(m, on=on, weights=weights, keep_16_bit=("embedding", "head", "router", "attention")))
    assert less < more


@given(tokens=st.integers(1, 200), factor=st.integers(2, 9), dtype=st.sampled_from(["bf16", "fp8", "fp16"]))
def test_cache_is_linear_in_tokens(tokens: int, factor: int, dtype: str) -> None:
    s = deployment(model(LLAMA), kv_dtype=dtype, block_size=1)
    assert float(sequence_bytes(s, factor * tokens)) == pytest.approx(factor * float(sequence_bytes(s, tokens)))


def test_cache_of_known_models() -> None:
    """2 x layers x kv heads x width x 2 bytes (GQA); DeepSeek-V2: 576 elements a layer (arXiv 2405.04434, table 1: 4.5 heads)."""
    per = {
        n: float(replica_sequence_bytes(deployment(load_model(n)), 16.0)) / 16
        for n in ("llama-2-7b", "llama-3.1-8b", "deepseek-v2")
    }
    assert per == {"llama-2-7b": 524288.0, "llama-3.1-8b": 131072.0, "deepseek-v2": 60 * 576 * 2.0}
    int8 = deployment(load_model("internlm-7b"), engine="lmdeploy-turbomind", kv_dtype="int8")
    assert 0.5 < float(replica_sequence_bytes(int8, 64.0)) / (64 * 524288) < 0.55  # a byte each, and scales


def test_a_paged_cache_comes_in_whole_blocks() -> None:
    s = deployment(model(LLAMA), block_size=16)
    assert float(sequence_bytes(s, 17)) == float(sequence_bytes(s, 32)) == 2 * float(sequence_bytes(s, 16))


def test_a_sliding_layer_keeps_its_window() -> None:
    s = deployment(model({**LLAMA, "sliding_window": 64}))
    assert float(sequence_bytes(s, 64)) == float(sequence_bytes(s, 6400))


@pytest.mark.parametrize("cut", [{"tp": 2}, {"tp": 4}, {"pp": 2}, {"tp": 2, "pp": 2}])
def test_cutting_shares_bytes_and_loses_none(cut: dict[str, int]) -> None:
    m, gpus = model(LLAMA), cut.get("tp", 1) * cut.get("pp", 1)
    whole, s = deployment(m), deployment(m, gpus, **cut)
    assert sum(stage_bytes(s)) * cut.get("tp", 1) >= total_bytes(whole)
    assert max(stage_bytes(s)) < stage_bytes(whole)[0]
    assert float(sequence_bytes(s, 512)) * gpus == pytest.approx(float(sequence_bytes(whole, 512)))


def test_latent_cache_is_not_shared_by_tensor_parallel() -> None:
    m = load_model("deepseek-v2-lite")
    assert float(sequence_bytes(deployment(m, 2, tp=2), 512)) == float(sequence_bytes(deployment(m), 512))


def test_largest_batch_and_context_fill_memory_and_no_more() -> None:
    s = deployment(load_model("llama-2-7b"))
    b, c = largest_batch(s, 256.0, 320.0), largest_context(s, 4, 64.0)
    assert fits(s, memory(s, b, 256.0, 320.0))
    assert not fits(s, memory(s, b + 1, 256.0, 320.0))
    assert fits(s, memory(s, 4, c - 64.0, float(c)))
    assert not fits(s, memory(s, 4, c - 63.0, c + 1.0))


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm", "lmdeploy"])
def test_a_cache_is_what_the_engine_counts_it(engine: str) -> None:
    """vLLM: all is a part of the card. SGLang: weights and cache, of what the context leaves. TensorRT-LLM and LMDeploy:
    the cache is a part of what all else leaves."""
    s = deployment(load_model("llama-3.1-8b"), on=as_cluster(cluster_table("1xh100")), engine=engine)
    one = memory(s, 1.0, 256.0, 320.0)
    card, part = card_bytes(s.cluster), s.engine.memory_fraction
    weights, work, over = (float(getattr(one, f"{k}_bytes")) for k in ("weights", "workspace", "overhead"))
    cache = {
        "vllm": part * card - weights - work - over,
        "sglang": part * (card - over) - weights,
        "tensorrt-llm": part * (card - weights - work - over),
        "lmdeploy": part * (card - weights - work - over),
    }[engine]
    assert limit_bytes(s, one) == pytest.approx(weights + work + over + cache)
    tokens = cache_tokens(Times(setting=s), 1)
    assert tokens == pytest.approx(cache / (32 * 2 * 8 * 128 * 2), rel=1e-6)


def test_offloaded_experts_leave_the_gpu_for_the_host() -> None:
    engine = load_engine_with_offload()
    m = load_model("mixtral-8x7b")
    on = deployment(m, engine=engine)
    off = deployment(m, engine=engine, expert_offload=0.5)
    experts = 2.0 * 32 * 8 * 3 * 4096 * 14336
    assert stage_bytes(on)[0] - stage_bytes(off)[0] == pytest.approx(experts / 2)


def load_engine_with_offload() -> str:
    from planner.serving.engine import engine_names, load_engine

    return next(name for name in engine_names() if "expert_offload" in load_engine(name).features)


def test_a_sequence_that_does_not_fit_is_an_answer_with_the_nearest_change() -> None:
    answer = serve(model="llama-2-7b", cluster=H100, serving={"prompt": 190_000, "output": 1000})
    assert not answer.fits
    assert "cache of one sequence of 191,000 tokens" in answer.reasons[0]
    assert answer.nearest == {"kv_dtype": "fp8"}
    assert answer.tpot_s is None
    assert answer.expense is None
    changed = serve(model="llama-2-7b", cluster=H100, serving={"prompt": 190_000, "output": 1000, "kv_dtype": "fp8"})
    assert changed.fits


def test_weights_that_do_not_fit_name_the_format_that_does() -> None:
    answer = serve(model="llama-3.1-70b", cluster=H100, serving={"prompt": 256, "output": 64})
    assert not answer.fits
    assert answer.reasons[0].startswith("weights and overhead need 132")
    assert answer.nearest is not None
    assert serve(model="llama-3.1-70b", cluster=H100, serving={"prompt": 256, "output": 64, **answer.nearest}).fits


@pytest.mark.parametrize(
    ("fields", "node", "words"),
    [
        ({"weights": "int8"}, "dgx-1v-32gb", "has no int8 matrix units"),
        ({"weights": "fp8"}, "dgx-a100-80gb", "serving.weights = 'fp8': a100-sxm4-80gb has no fp8"),
        ({"weights": "bf16"}, "dgx-1v-32gb", "has no bf16 arithmetic"),
        ({"tp": 3}, "dgx-h100", "serving.tp = 3: does not divide"),
        ({"ep": 2}, "dgx-h100", "is dense, it has no experts"),
        ({"engine": "vlm"}, "dgx-h100", "did you mean vllm"),
        ({"engine": "huggingface", "tp": 2}, "dgx-h100", "huggingface has no tp"),
        ({"engine": "huggingface", "requests_per_s": 1}, "dgx-h100", "huggingface has no continuous batching"),
        ({"weights": "exl2"}, "dgx-h100", "bits_per_weight is missing"),
        ({"expert_zipf": 0.5}, "dgx-h100", "serving.expert_zipf = 0.5: llama-2-7b is dense"),
        ({"group_size": 64}, "dgx-h100", "group_size = 64 with weights = 'bf16': only int8-gptq"),
        ({"group_size": 128, "weights": "fp8"}, "dgx-h100", "group_size = 128 with weights = 'fp8'"),
        ({"keep_16_bit": ["experts"], "weights": "fp8"}, "dgx-h100", "serving.keep_16_bit = 'experts': llama-2-7b has no such"),
        ({"output": 0}, "dgx-h100", "output"),
        ({"speculative": {"draft": "gpt2", "tokens": 4, "acceptance": 0.7}}, "dgx-h100", "share the vocabulary"),
        ({"tp": 2, "dp": 2}, "dgx-h100", "takes 4 GPUs, cluster.num_gpus is 8"),
    ],
)  # fmt: skip
def test_bad_input_names_the_field_and_what_would_be_right(fields: dict[str, object], node: str, words: str) -> None:
    with pytest.raises(PlannerError) as error:
        serve(model="llama-2-7b", cluster=node, serving={"prompt": 256, "output": 64, **fields})
    assert words in str(error.value)


def test_weight_only_formats_run_on_any_gpu() -> None:
    fields = {"prompt": 256, "output": 64, "weights": "int8-weight-only"}
    assert serve(model="llama-2-7b", cluster="p3-2xlarge", serving=fields).times.setting.compute_dtype == "fp16"


def test_a_context_beyond_the_models_is_a_warning_that_names_the_field() -> None:
    answer = serve(model="llama-2-7b", cluster=H100, serving={"prompt": 8000, "output": 64})
    assert answer.fits
    assert any("model.context_length = 4096" in warning for warning in answer.warnings)


def test_popular_experts_cost_what_their_placement_makes_of_the_fullest_rank() -> None:
    usual = {"prompt": 256, "output": 64, "batch": 256, "ep": 8, "tp": 8}

    def tpot(**changes: Any) -> float:
        return serve(model="qwen3-30b-a3b", cluster="dgx-h100", serving={**usual, **changes}).tpot_s or 0.0

    placed = {name: tpot(expert_zipf=0.5, expert_placement=name) for name in ("rebalanced", "random", "sorted")}
    assert placed["rebalanced"] < placed["random"] == tpot(expert_zipf=0.5) < placed["sorted"]
    fullest = sum(i**-0.5 for i in range(1, 17)) / sum(i**-0.5 for i in range(1, 129)) * 8  # 16 of 128 experts on a rank
    assert tpot(expert_zipf=0.5, expert_load=fullest) == pytest.approx(placed["sorted"])
    with pytest.raises(PlannerError, match="expert_placement = 'sorted' needs expert_zipf"):
        tpot(expert_placement="sorted")


def test_a_load_above_the_number_of_expert_ranks_is_refused_and_one_below_counts() -> None:
    def tpot(load: float) -> float:
        spec = {"prompt": 256, "output": 64, "batch": 64, "ep": 8, "tp": 8, "expert_load": load}
        return serve(model="mixtral-8x7b", cluster="dgx-h100", serving=spec).tpot_s or 0.0

    assert tpot(2.0) > tpot(1.0) > 0
    with pytest.raises(PlannerError, match="expert_load = 9 with ep = 8: the fullest of 8"):
        tpot(9.0)


def test_a_tied_embedding_is_stored_as_llama_cpps_output_layer() -> None:
    """ggml-org/llama.cpp pull request 5650: token_embd.weight of Gemma 2B (256000 x 2048) takes 410.16 MiB as Q6_K."""
    words, rest = 256_000 * 2048, {"name": "tied", "vocab_size": 256_000, "hidden_size": 2048, "num_heads": 8, "num_kv_heads": 1}
    tied = deployment(model({**LLAMA, **rest, "tied_embeddings": True}), weights="q4_k_m")
    loose = deployment(model({**LLAMA, **rest, "tied_embeddings": False}), weights="q4_k_m")
    assert tied.embedding_bytes == pytest.approx(410.16 * 2**20, rel=1e-4)
    assert loose.embedding_bytes == pytest.approx(words * 4.5 / 8)
    assert loose.head_bytes - tied.head_bytes == pytest.approx(tied.embedding_bytes)


def test_the_largest_context_says_what_bounds_it() -> None:
    """Memory where a longer one would not fit; else the model's own limit, of positions or of training."""

    def longest(name: str, batch: int) -> tuple[int, str]:
        d = serve(model=name, cluster=H100, serving={"prompt": 256, "output": 64, "batch": batch})
        return d.max_context, d.max_context_bound

    assert longest("llama-2-7b", 1) == (4096, "model.context_length")
    assert longest("gpt2", 1) == (1024, "model.max_positions")
    tokens, bound = longest("llama-3.1-8b", 16)
    assert bound == "memory"
    assert tokens < 131_072
    spec = {"prompt": tokens, "output": 64, "batch": 16}
    assert not serve(model="llama-3.1-8b", cluster=H100, serving=spec).fits


@pytest.mark.parametrize("load", [{"requests_per_s": 8.0}, {"clients": 24}, {"requests_per_s": 8.0, "batch": 64}])
def test_memory_under_a_load_is_that_of_a_batch_of_as_many(load: dict[str, Any]) -> None:
    """The cache grows with what is at work at once: the mean of the simulation, rounded up, or the batch where that is more."""
    tables: dict[str, Any] = {"model": {"name": "llama-3-8b"}, "cluster": H100}
    lengths = {"prompt": 512, "output": 128, "num_requests": 2000}
    found = serve(**tables, serving={**lengths, **load})
    assert found.load is not None
    assert found.load.mean_batch is not None
    assert found.loaded_batch == max(-int(-found.load.mean_batch // 1), load.get("batch", load.get("clients", 1)))
    alone = serve(**tables, serving={"prompt": 512, "output": 128, "batch": found.loaded_batch})
    assert found.loaded_bytes == alone.memory_bytes == alone.loaded_bytes
    assert found.loaded_total_bytes == alone.total_bytes
    cache = found.loaded_bytes["kv_cache"]
    assert cache == pytest.approx(found.loaded_batch * 640 * 2 * 32 * 8 * 128 * 2, rel=0.01)  # whole blocks of tokens


def test_memory_grows_with_the_rate_and_an_overloaded_server_is_full() -> None:
    """A queue that grows without end keeps every place taken: never less than a rate that the server keeps up with."""
    lengths = {"prompt": 4096, "output": 1024, "num_requests": 1000}
    asked: dict[str, Any] = {"model": "llama-3.1-8b", "cluster": "1xh100"}
    found = [serve(**asked, serving={**lengths, "requests_per_s": rate}) for rate in (0.5, 1.0, 2.0, 4.0, 8.0)]
    assert [d.load.stable for d in found if d.load is not None] == [True, True, True, False, False]
    need = [d.loaded_total_bytes for d in found]
    assert need == sorted(need)
    assert found[-1].loaded_batch == found[-1].max_batch
    assert all(one <= d.limit_bytes for one, d in zip(need, found, strict=True))


@pytest.mark.parametrize("clients", [8, 26, 28, 32, 128])
@pytest.mark.parametrize("card", ["a10g", "l4"])
def test_a_full_cache_takes_no_more_than_the_engine_has(card: str, clients: int) -> None:
    """Of requests at work together not all are at their end: more may be in than whole ones have room, in the same memory."""
    found = serve(model="llama-3.1-8b", cluster=f"1x{card}", serving={"prompt": 1024, "output": 256, "clients": clients})
    assert found.fits
    assert found.total_bytes <= found.loaded_total_bytes <= found.limit_bytes * (1.0 + 1e-12)
    assert found.loaded_bytes["weights"] == found.memory_bytes["weights"]
