"""Laws of a pass's rows and seconds."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from examples import NODE
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_examples import LLAMA, MIXTRAL, deployment, model, serving_times, without_host

from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster, load_accelerator
from planner.hardware.custom_nodes import custom_node
from planner.model.catalog import load_model
from planner.model.parameters import parameters_active
from planner.operators.row import Matmul, Row
from planner.performance.collectives import collective_s
from planner.serving import serve
from planner.serving.engine import load_engine
from planner.serving.experts import distinct_experts, fullest_rank
from planner.serving.feasibility import warnings_of
from planner.serving.load import Load
from planner.serving.pass_time import Times, kernel_constants, overlapped
from planner.serving.rows import Phase, Shape, layer_rows, pass_rows
from planner.serving.speculative import expected_tokens


def shape(phase: Phase, sequences: float, queries: float, past: float) -> Shape:
    return Shape(phase=phase, sequences=np.array(sequences), queries=np.array(queries), past=np.array(past))


def flops(rows: tuple[Row, ...], block: str = "") -> float:
    return float(sum(r.flops * r.repeats for r in rows if r.block == block or not block))


def test_decoding_costs_two_flops_a_parameter_and_token() -> None:
    """Without attention over the cache; the embedding is a look-up (Kaplan et al. 2020, table 1)."""
    m = load_model("llama-2-7b")
    rows = tuple(r for r in pass_rows(deployment(m), shape("decode", 1, 1, 100)) if r.name != "attention")
    small = 65 * 4096  # norms
    assert flops(rows) == 2 * (parameters_active(m) - 32000 * 4096 - small)


def test_prefill_and_decoding_do_the_same_work_on_the_same_tokens() -> None:
    """A prompt of 8 after 4 cached tokens, at once or token by token: equal flops but for logits of the last token only."""
    s = deployment(model(LLAMA))
    at_once = flops(tuple(r for r in pass_rows(s, shape("prefill", 3, 8, 4)) if r.block != "head"))
    one_by_one = sum(flops(tuple(r for r in pass_rows(s, shape("decode", 3, 1, 4 + i)) if r.block != "head")) for i in range(8))
    assert at_once == pytest.approx(one_by_one)


def test_a_mixture_with_all_experts_active_equals_its_dense_equivalent() -> None:
    """E experts of width f / E, all chosen, against a feed-forward of width f: equal flops and equal weights read."""
    sparse = deployment(model({**LLAMA, "name": "all", "num_experts": 8, "top_k": 8, "expert_ffn_hidden_size": 192}))
    dense = deployment(model(LLAMA))
    for at in (shape("decode", 5, 1, 100), shape("prefill", 2, 64, 0)):
        assert flops(pass_rows(sparse, at), "experts") == pytest.approx(flops(pass_rows(dense, at), "ffn"))
    kind, plain = sparse.model.layer_kinds[0], dense.model.layer_kinds[0]
    assert sparse.layer_bytes(kind, "experts.") == dense.layer_bytes(plain, "ffn.")
    read = [r for r in pass_rows(sparse, shape("decode", 1, 1, 100)) if r.name == "experts out"]
    assert isinstance(read[0].work, Matmul)
    assert float(np.asarray(read[0].work.batch)) == 8.0  # every expert is read


@given(tokens=st.integers(1, 5000), zipf=st.sampled_from([0.0, 0.5, 1.2]))
def test_distinct_experts_grow_to_all(tokens: int, zipf: float) -> None:
    few, more = distinct_experts(64, 6, tokens, zipf), distinct_experts(64, 6, tokens + 1, zipf)
    assert 6 - 1e-9 <= float(few) <= float(more) <= 64 + 1e-9
    assert float(distinct_experts(64, 6, 1, zipf)) == pytest.approx(6)
    assert float(distinct_experts(64, 6, 1e6, zipf)) == pytest.approx(64)


def test_distinct_experts_by_drawing() -> None:
    rng = np.random.default_rng(0)
    drawn = [len(np.unique(np.concatenate([rng.permutation(16)[:3] for _ in range(5)]))) for _ in range(4000)]
    assert float(distinct_experts(16, 3, 5)) == pytest.approx(np.mean(drawn), rel=0.01)
    assert float(distinct_experts(16, 3, 5, 1.0)) < float(distinct_experts(16, 3, 5))


@pytest.mark.parametrize(("experts", "top_k", "ep"), [(256, 8, 8), (128, 8, 4), (8, 2, 8), (64, 6, 2), (128, 1, 8), (384, 8, 32)])
@pytest.mark.parametrize("tokens", [4, 16, 64])
def test_the_fullest_expert_rank_by_drawing(experts: int, top_k: int, ep: int, tokens: int) -> None:
    """Experts alike in popularity still meet unevenly in one pass: the fullest rank's are what all wait for."""
    rng = np.random.default_rng(0)
    chosen = np.argsort(rng.random((400, tokens, experts)), axis=2)[:, :, :top_k].reshape(400, -1)
    ranks = np.stack([np.bincount(one, minlength=experts) for one in chosen]).reshape(400, ep, -1)
    touched, pairs = fullest_rank(experts, top_k, float(tokens), ep, 1.0)
    assert float(touched) == pytest.approx((ranks > 0).sum(axis=2).max(axis=1).mean(), rel=0.13)
    assert float(pairs) == pytest.approx(ranks.sum(axis=2).max(axis=1).mean(), rel=0.15)


def test_the_fullest_expert_rank_by_hand() -> None:
    """One token and two experts on two ranks: one of them computes the pair. Of many tokens chance is nothing, the load all."""
    assert [float(x) for x in fullest_rank(2, 1, 1.0, 2, 1.0)] == pytest.approx([1.0, 1.0])
    assert [float(x) for x in fullest_rank(64, 6, 10.0, 1, 1.0)] == pytest.approx([float(distinct_experts(64, 6, 10.0)), 60.0])
    touched, pairs = (float(x) for x in fullest_rank(64, 6, 1e8, 8, 1.5))
    assert (touched, pairs) == pytest.approx((8.0, 1.5 * 6e8 / 8), rel=1e-3)
    for tokens in (1.0, 30.0, 1000.0):  # never below the mean, nor above all that there is
        touched, pairs = (float(x) for x in fullest_rank(64, 6, tokens, 8, 1.0))
        assert tokens * 6 / 8 < pairs <= tokens * 6
        assert float(distinct_experts(64, 6, tokens)) / 8 <= touched <= 8


def test_deepseek_over_many_nodes_as_those_who_serve_it_so_report() -> None:
    """Tokens per second of a node of eight H100, DeepSeek-V3 with attention of its own on each GPU: 50,302 of prompts of 4,096 on
    32 GPUs, 22,282 written by 256 sequences a GPU of 2,000 tokens on 72, two half batches of them hiding each other's exchanges
    (LMSYS, 2025-05-05, large-scale expert parallelism); 14,800 written on H800, 4,989 tokens held in the mean (DeepSeek, open
    infra day 6)."""
    m = load_model("deepseek-v3")
    fields = {"engine": "sglang", "weights": "fp8-block", "dispatcher": "deepep"}
    prefill = serving_times(m, on=cluster("dgx-h100", num_nodes=4), tp=1, ep=32, **fields)
    assert 32 * 4 * 4096 / float(prefill.prefill_s(4096.0, 32 * 4)) / 4 == pytest.approx(50_302, rel=0.15)
    decode = serving_times(m, on=cluster("dgx-h100", num_nodes=8), tp=1, ep=64, **fields)
    assert 8 * 256 / float(decode.decode_s(64 * 256, 2050.0)) == pytest.approx(22_282, rel=0.2)
    assert 8 * 128 / float(decode.decode_s(64 * 128, 4989.0)) == pytest.approx(14_800, rel=0.2)


def test_each_attention_group_has_a_scheduler_of_its_own() -> None:
    """The host's part of a step grows with the sequences of one GPU, not with those of all GPUs that share experts."""
    m = load_model("deepseek-v2-lite")
    one, eight = serving_times(m, 1), serving_times(m, 8, tp=1, ep=8)
    steps = [float(t.pass_time(shape("decode", b, 1, 100)).host_step_s) for t, b in ((one, 64), (eight, 512), (eight, 64))]
    assert steps[0] == steps[1] > steps[2]


def test_tensorrt_llm_hands_out_all_groups_answers_on_one_rank() -> None:
    """Its host's part of a step grows with the sequences of all GPUs; the GPUs' own part is that of their groups."""
    m = load_model("deepseek-v2-lite")
    engine = load_engine("tensorrt-llm-1")
    times = serving_times(m, 8, tp=1, ep=8, engine=engine.name)
    few, many = (times.pass_time(shape("decode", b, 1, 100)) for b in (64, 512))
    assert float(many.host_step_s - few.host_step_s) == pytest.approx(448 * engine.host_s_per_sequence, rel=1e-9)


def test_prompts_reach_a_node_once_and_fp8_experts_are_sent_fp8() -> None:
    m = load_model("deepseek-v3")
    s = deployment(m, on=cluster("dgx-h100", num_nodes=8), tp=1, ep=64, weights="fp8-block", dispatcher="deepep")
    for phase, copies in (("decode", 8.0), ("prefill", 1.0)):
        rows = [r for r in pass_rows(s, shape(phase, 640, 1, 100)) if r.collective == "all_to_all"]  # type: ignore[arg-type]
        assert [float(r.communication_bytes) for r in rows] == [10 * copies * 7168, 10 * copies * 7168 * 2]
        assert {r.copies for r in rows} == {8.0 if phase == "prefill" else None}


def test_one_gpu_communicates_nothing() -> None:
    for m in (model(LLAMA), model(MIXTRAL)):
        for phase in ("prefill", "decode"):
            rows = pass_rows(deployment(m), shape(phase, 4, 1, 32))  # type: ignore[arg-type]
            assert all(float(np.max(r.communication_bytes)) == 0 for r in rows)
        assert float(serving_times(m).pass_time(shape("decode", 4, 1, 32)).communication_s) == 0


def test_each_way_of_cutting_has_its_collective() -> None:
    def found(**cut: int) -> set[str]:
        rows = pass_rows(deployment(model(MIXTRAL), 4, dp=1, **cut), shape("decode", 8, 1, 32))
        return {str(r.collective) for r in rows if float(np.max(r.communication_bytes)) > 0}

    assert found(tp=4) == {"all_reduce", "all_gather"}
    assert found(tp=1, ep=4) == {"all_gather", "reduce_scatter"}
    assert found(pp=4) == {"p2p"}


@given(
    batch=st.integers(1, 60),
    name=st.sampled_from(["llama-2-7b", "mixtral-8x7b", "deepseek-v2-lite"]),
    fields=st.sampled_from([{}, {"weights": "int4-awq"}, {"tp": 2}, {"pp": 2}, {"kv_dtype": "fp8"}]),
)
@settings(max_examples=25, deadline=None)
def test_more_batch_never_lowers_throughput(batch: int, name: str, fields: dict[str, object]) -> None:
    gpus = int(fields.get("tp", 1)) * int(fields.get("pp", 1))  # type: ignore[call-overload]
    times = serving_times(load_model(name), gpus, **fields)
    step = times.decode_s(np.array([batch, batch + 1.0]), 300.0)
    assert batch / step[0] <= (batch + 1) / step[1] * (1 + 1e-9)


@given(context=st.integers(1, 5000), batch=st.integers(1, 64))
@settings(max_examples=20, deadline=None)
def test_longer_contexts_and_prompts_never_take_less_time(context: int, batch: int) -> None:
    times = serving_times(model(LLAMA))
    assert float(times.decode_s(batch, context)) <= float(times.decode_s(batch, context + 100))
    assert float(times.prefill_s(context, batch)) <= float(times.prefill_s(context + 100, batch))


def test_decoding_a_large_model_reads_its_weights_at_the_memorys_rate() -> None:
    """One token reads every weight once: never faster than the data sheet, and at batch 1 within a factor of it."""
    times = without_host(serving_times(load_model("llama-2-13b")))
    bound = 2 * 13e9 / 2e12
    assert bound < float(times.decode_s(1, 1)) < 2 * bound


def test_a_hit_in_the_prefix_cache_saves_its_part_of_the_prefill() -> None:
    cluster = {"node": "dgx-h100", "num_gpus": 1}
    plain = {"prompt": 4000, "output": 10}
    cold = serve(model="llama-3.1-8b", cluster=cluster, serving=plain)
    warm = serve(model="llama-3.1-8b", cluster=cluster, serving={**plain, "prefix_cache_hit_rate": 0.75})
    assert cold.ttft_s is not None
    assert warm.ttft_s is not None
    front = cold.engine.request_s + cold.engine.request_s_per_token * 4000  # HTTP and the tokenizer see the whole prompt
    assert 0.15 < (warm.ttft_s - front) / (cold.ttft_s - front) < 0.45


SEEING = "qwen3-vl-8b"


def test_an_images_patches_pass_each_layer_of_the_encoder_before_the_first_token() -> None:
    """2 (4 d^2 + 2 d f) for a patch, and 4 d for each that it attends to, at most at the chip's peak; decoding is as before."""
    m = load_model(SEEING)
    tower = m.towers[0]
    d, f, patches = tower.hidden_size, tower.ffn_hidden_size, 4096
    by_hand = tower.num_layers * patches * (2 * (4 * d * d + 2 * d * f) + 4 * d * patches)
    blind, one, four = (serving_times(m, images=images, image_patches=4096) for images in (0.0, 1.0, 4.0))
    seen = one.setting.encoders[0]
    rows = layer_rows(seen, shape("prefill", 1, patches, 0))
    assert flops(tuple(row for row in rows if row.operator != "norms")) == pytest.approx(by_hand, rel=0.01)
    assert float(one.images_s(1)) > by_hand / one.setting.cluster.accelerator.peak("bf16")
    assert float(one.prefill_s(2000) - blind.prefill_s(2000)) == pytest.approx(float(one.images_s(1)), rel=1e-9)
    assert 3.0 * float(one.images_s(1)) < float(four.images_s(1)) <= 4.0 * float(one.images_s(1))
    assert float(four.images_s(1)) == pytest.approx(float(one.images_s(4)), rel=1e-9)
    assert float(one.decode_s(8, 1000)) == float(blind.decode_s(8, 1000))
    assert float(blind.images_s(1)) == 0.0


def test_images_of_a_loaded_server_take_its_time_and_those_in_the_prefix_cache_do_not() -> None:
    asked = {"prompt": 2000, "output": 50, "requests_per_s": 1.0, "num_requests": 500, "image_patches": 4096}

    def load(**fields: float) -> Load:
        found = serve(model=SEEING, cluster={"node": "dgx-h100", "num_gpus": 1}, serving={**asked, **fields})
        assert found.load is not None
        return found.load

    blind, one, four, cached = load(), load(images=1.0), load(images=4.0), load(images=4.0, prefix_cache_hit_rate=0.9)
    capacities = [found.capacity_requests_per_s for found in (four, one, blind)]
    assert capacities == sorted(set(capacities))
    first = [found.ttft_s["mean"] for found in (blind, one, four) if found.ttft_s]
    assert first == sorted(set(first))
    assert cached.capacity_requests_per_s > one.capacity_requests_per_s


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("llama-3-8b", {"images": 1.0}, "serving.images = 1: llama-3-8b has no vision encoder"),
        (SEEING, {"images": 1.0}, "serving.image_patches = 0"),
        ("gemma-3-4b", {"images": 64.0}, "they need 16,384 of prompt = 2000"),
    ],
)
def test_images_that_cannot_be_seen_are_refused(name: str, fields: dict[str, float], words: str) -> None:
    with pytest.raises(PlannerError, match=re.escape(words)):
        serve(model=name, cluster={"node": "dgx-h100", "num_gpus": 1}, serving={"prompt": 2000, "output": 10, **fields})


def test_a_kernel_for_each_expert_takes_its_time_whichever_are_chosen() -> None:
    """vllm pull request 12185: DeepSeek-V3 in int4 on eight A100, captured: 11.1 tokens/s with a Marlin kernel for each expert,
    29.6 with one for all; dense models and 16-bit experts have none."""
    m = load_model("deepseek-v3")
    many = serving_times(m, 8, tp=8, weights="int4-awq")
    each = many.setting.engine.replaced(launch_s_per_expert=load_engine("sglang-0.4").launch_s_per_expert)
    slow = Times(setting=replace(many.setting, engine=each))
    more = float(slow.decode_s(1, 500) - many.decode_s(1, 500))
    assert more == pytest.approx(1 / 11.1 - 1 / 29.6, rel=0.05)
    assert float(slow.decode_s(16, 500) - many.decode_s(16, 500)) == pytest.approx(more, rel=1e-9)
    for other in (serving_times(m, 8, tp=8), serving_times(load_model("llama-2-7b"), weights="int4-awq")):
        launched = Times(setting=replace(other.setting, engine=each))
        assert float(launched.decode_s(1, 500)) == pytest.approx(
            float(Times(setting=replace(other.setting, engine=each.replaced(launch_s_per_expert=0.0))).decode_s(1, 500)),
            rel=1e-12,
        )


def test_a_host_that_waits_for_each_product_hides_none_of_its_work() -> None:
    """transformers' FP8Linear synchronizes after each product: the time is the sum; in 16 bit it is the longer of the two."""
    m = load_model("llama-2-7b")
    for weights, waits in (("fp8", True), ("bf16", False)):
        own = serving_times(m, weights=weights)
        times = Times(setting=replace(own.setting, engine=load_engine("huggingface")))
        found = times.pass_time(times.shape("decode", 1, 1, 500))
        parts = float(found.device_s), float(found.host_layers_s)
        assert float(found.total - found.host_step_s) == pytest.approx(sum(parts) if waits else max(parts), rel=1e-9)


def test_speculation_yields_what_leviathan_says_and_costs_the_draft() -> None:
    """Leviathan et al. 2023, arXiv 2211.17192, equation 1: (1 - a^(g+1)) / (1 - a)."""
    assert expected_tokens(3, 0.8) == pytest.approx(1 + 0.8 + 0.64 + 0.512)
    m = load_model("llama-3.1-70b")
    plain = serving_times(m, 8, tp=8)
    spec = {"tokens": 4, "acceptance": 0.8}
    free = serving_times(m, 8, tp=8, speculative=spec)
    assert float(plain.decode_s(1, 500)) / expected_tokens(4, 0.8) <= float(free.decode_s(1, 500)) < float(plain.decode_s(1, 500))
    useless = serving_times(m, 8, tp=8, speculative={"tokens": 4, "acceptance": 0.0})
    assert float(useless.decode_s(1, 500)) >= float(plain.decode_s(1, 500))
    draft = replace(free.setting, model=load_model("llama-3.2-1b"), serving=plain.setting.serving)
    drafted = Times(setting=free.setting, draft=draft)
    assert float(drafted.decode_s(1, 500)) > float(free.decode_s(1, 500))


def test_stages_share_the_batch_and_one_sequence_passes_all() -> None:
    m = load_model("llama-2-13b")
    whole, cut = serving_times(m), serving_times(m, 4, pp=4)
    assert float(cut.decode_s(1, 100)) > float(whole.decode_s(1, 100))  # sends between stages
    assert 32 / float(cut.decode_s(32, 100)) < 4 * 8 / float(whole.decode_s(8, 100))


def test_experts_read_over_the_host_link_take_the_links_time() -> None:
    from planner.serving.engine import engine_names, load_engine

    engine = next(name for name in engine_names() if "expert_offload" in load_engine(name).features)
    m = load_model("mixtral-8x7b")
    times = serving_times(m, engine=engine, expert_offload=1.0)
    moved = 2.0 * 32 * 2 * 3 * 4096 * 14336  # two experts of each layer
    assert float(times.pass_time(shape("decode", 1, 1, 32)).host_link_s) == pytest.approx(moved / 25e9)


def test_an_engine_with_one_host_time_a_layer_cannot_be_faster() -> None:
    times = serving_times(model(LLAMA), engine="huggingface")
    assert float(times.decode_s(1, 10)) >= 4 * times.setting.engine.host_s_per_layer


def test_a_pipeline_answers_no_more_than_its_gpus_could_alone() -> None:
    def rate(gpus: int, pp: int) -> float:
        found = serve(
            model="llama-3-8b",
            cluster={"node": "dgx-a100-80gb", "num_gpus": gpus},
            serving={"engine": "vllm", "pp": pp, "batch": 32, "prompt": 2048, "output": 1},
        )
        assert found.requests_per_s is not None
        # two flops per parameter and token, below the data sheet's 312 TFLOP/s a GPU
        assert found.requests_per_s * 2048 * 2 * 7.5e9 < gpus * 312e12
        return float(found.requests_per_s)

    alone = rate(1, 1)
    for pp in (2, 4, 8):
        assert rate(pp, pp) <= 1.05 * pp * alone


def test_a_sequence_stays_whole_on_one_attention_group() -> None:
    def cache(batch: int, ep: int) -> float:
        found = serve(
            model="qwen3-30b-a3b",
            cluster={"node": "dgx-h100", "num_gpus": 8 if ep > 1 else 1},
            serving={"engine": "sglang", "ep": ep, "batch": batch, "prompt": 4096, "output": 64},
        )
        return float(found.memory_bytes["kv_cache"])

    assert cache(1, 8) == cache(1, 1)
    assert cache(8, 8) == cache(1, 1)
    assert cache(9, 8) == pytest.approx(2 * cache(1, 1))


def test_a_prompt_in_chunks_does_the_same_work_and_reads_the_weights_again_for_each() -> None:
    """Chunks one after the other, each after those before: the sum of their passes, in prefill and in a batch's figures."""
    m = load_model("llama-3.1-8b")
    whole, cut = (serving_times(m, prompt=4096, chunked_prefill_tokens=c) for c in (None, 512))
    one_by_one = sum(float(whole.prefill_s(512.0, 1.0, 512.0 * i)) for i in range(8))
    assert float(cut.prefill_s(4096.0)) == pytest.approx(one_by_one, rel=0.01)
    assert float(cut.prefill_s(4096.0)) > float(whole.prefill_s(4096.0))
    assert float(cut.prefill_s(512.0)) == float(whole.prefill_s(512.0))
    assert float(cut.prefill_s(128.0, 8.0)) == pytest.approx(2 * float(whole.prefill_s(128.0, 4.0)))


@given(chunk=st.integers(16, 4096), prompt=st.integers(1, 8192), batch=st.integers(1, 32))
@settings(max_examples=30, deadline=None)
def test_chunks_never_save_time(chunk: int, prompt: int, batch: int) -> None:
    m = model(LLAMA)
    whole, cut = (serving_times(m, chunked_prefill_tokens=c) for c in (None, chunk))
    assert float(cut.prefill_s(prompt, batch)) >= 0.999 * float(whole.prefill_s(prompt, batch))


def test_a_drafts_prefill_holds_every_stage_in_full() -> None:
    """The pipeline overlaps the model's own stages; the draft is whole on each of them."""
    fields: dict[str, Any] = {"pp": 4, "batch": 8}
    own, drafted = load_model("llama-2-13b"), load_model("llama-2-7b")
    alone = serving_times(own, 4, **fields)
    both = replace(alone, draft=deployment(drafted, 4, dp=4))
    latency, busy = (float(getattr(both, f)(512.0, 8.0) - getattr(alone, f)(512.0, 8.0)) for f in ("prefill_s", "prefill_busy_s"))
    assert busy == pytest.approx(latency)


@pytest.mark.parametrize(
    ("card", "gain"), [("rtx-3090-24gb", 2.0), ("rtx-4090-24gb", 2.0), ("rtx-a6000", 1.0), ("a100-sxm4-80gb", 1.0)]
)
def test_sums_in_16_bit_are_twice_as_fast_on_geforce_cards_only(card: str, gain: float) -> None:
    """142 against 71 TFLOP/s on the GeForce RTX 3090, equal on the RTX A6000 (NVIDIA GA102 white paper, appendix A)."""
    on = cluster(NODE, num_gpus=1, accelerator=load_accelerator(card))
    summed = Times(setting=deployment(load_model("llama-2-7b"), on=on, engine="llama.cpp", prompt=512))
    engine = summed.setting.engine.model_copy(update={"accumulates_fp16": False})
    fp32 = replace(summed, setting=replace(summed.setting, engine=engine))
    fast, slow = (kernel_constants(times.setting)["prefill 16"].matmul_peak_fraction for times in (summed, fp32))
    assert fast / slow == pytest.approx(gain, rel=0.02)
    assert (float(summed.prefill_s(512.0)) < 0.8 * float(fp32.prefill_s(512.0))) == (gain > 1)


@pytest.mark.parametrize(
    ("gpus", "message_bytes", "measured_s"),
    [
        (2, 131072, 4.8e-6),
        (4, 131072, 5.8e-6),
        (8, 131072, 7.9e-6),
        (4, 2097152, 17.8e-6),
        (2, 2**29, 1.69e-3),
        (4, 2**29, 2.31e-3),
    ],
)
def test_engines_sum_over_gpus_as_their_own_kernels_were_measured(gpus: int, message_bytes: float, measured_s: float) -> None:
    """vLLM 0.24's all-reduce in CUDA graphs on H200 (aiconfigurator-core 0.12.0, custom_allreduce_perf): within a quarter."""
    node = custom_node("h200-sxm-141gb", gpus)
    own = collective_s(cluster(node, num_gpus=gpus), "all_reduce", message_bytes, float(gpus), 1.0, captured=True)
    assert float(own) == pytest.approx(measured_s, rel=0.25)


def test_gpus_wait_for_the_last_of_them() -> None:
    """Twice the GPUs, one doubling more to wait for; one GPU waits for nobody."""
    waits = []
    for tp in (1, 2, 4):
        s = deployment(model(LLAMA), tp, tp=tp)
        at = shape("decode", 1, 1, 100)
        with_it, without = (
            Times(setting=replace(s, engine=s.engine.replaced(collective_wait_s=w))).pass_time(at).communication_s
            for w in (1e-3, 0.0)
        )
        waits.append(float(with_it - without))
    assert waits[0] == 0.0
    assert waits[2] == pytest.approx(2.0 * waits[1])


def test_a_layer_of_experts_takes_what_was_measured() -> None:
    """gpt-oss-120b's experts on an H200, 128 tokens, so that nearly all are read: 0.62 and 0.66 ms a layer with TensorRT-LLM 1.3
    and vLLM 0.24, tokens dealt evenly, 0.54 and 0.56 where some experts are chosen more (aiconfigurator-core 0.12.0)."""
    for engine in ("tensorrt-llm-1", "vllm-v1"):
        chip = cluster(custom_node("h200-sxm-141gb", 1), num_gpus=1)
        s = Times(setting=deployment(load_model("gpt-oss-120b"), on=chip, engine=engine, weights="mxfp4"))
        rows = [r for r in pass_rows(s.setting, shape("decode", 128, 1, 100)) if r.name.startswith("experts")]
        seconds = sum(float(np.sum(r.repeats * s.row_s(r))) for r in rows) / s.setting.model.num_layers
        assert 0.5e-3 < seconds < 0.7e-3


@given(st.integers(1, 40), st.integers(1, 16), st.floats(0.05, 8.0), st.floats(0.0, 4.0))
@settings(max_examples=60, deadline=None)
def test_a_longer_queue_of_launches_never_slows_a_pipeline(passes: int, stages: int, queued: float, more: float) -> None:
    """n passes over s stages: s stage times each where nothing overlaps, n + s - 1 where everything is queued at once."""
    short, long = overlapped(passes, stages, queued), overlapped(passes, stages, queued + more)
    n = np.arange(1, passes + 1)
    assert np.all(long <= short + 1e-9)
    assert np.all((n + stages - 1 <= long + 1e-9) & (short <= n * stages + 1e-9))
    assert overlapped(passes, stages, float(passes)) == pytest.approx(n + stages - 1)


@pytest.mark.parametrize(
    ("card", "gpus", "weights", "gain"),
    [("rtx-4090-24gb", 4, "q4_k_m", 898.17 / 834.74), ("a100-sxm4-80gb", 4, "fp16", 1834.16 / 1233.31),
     ("rtx-4090-24gb", 8, "fp16", 1890.48 / 1183.87), ("rtx-3090-24gb", 6, "q4_k_m", 739.40 / 456.95)],
)  # fmt: skip
def test_llama_cpps_stages_overlap_as_far_as_its_launches_fit_the_queue(card: str, gpus: int, weights: str, gain: float) -> None:
    """XiongjieDai/GPU-Benchmarks-on-LLM-Inference, README, Llama 3 70B: prompt tokens per second of 1,024 over those of 512."""
    asked = {"engine": "llama.cpp", "weights": weights, "pp": gpus, "dp": 1, "batch": 1, "output": 1}
    node = {"node": custom_node(card, gpus), "num_gpus": gpus}
    times = serve(model="llama-3-70b", cluster=node, serving={**asked, "prompt": 1024}).times
    found = 2.0 * float(times.prefill_s(512.0)) / float(times.prefill_s(1024.0))
    assert found == pytest.approx(gain, rel=0.12)


def test_narrow_weights_are_expanded_once_a_pass_and_16_bit_ones_never() -> None:
    """The bytes of 16-bit weights cross the memory once more to be written, and once to be read by the library's multiply."""
    m = load_model("llama-3.1-8b")
    at = shape("prefill", 1, 512, 0)
    narrow, wide = (pass_rows(deployment(m, engine="llama.cpp", weights=w), at) for w in ("q8_0", "fp16"))
    moved = [
        sum(float(np.sum(r.bytes_moved)) * r.repeats for r in rows if r.block in ("attention", "ffn")) for rows in (narrow, wide)
    ]
    matrices = sum(
        float(np.sum(r.work.k * r.work.n)) * r.repeats for r in wide if isinstance(r.work, Matmul) and r.block != "head"
    )
    assert moved[0] - moved[1] == pytest.approx(matrices * (2.0 + 8.5 / 8.0), rel=0.01)


@pytest.mark.parametrize(
    "card", ["a100-sxm4-80gb", "rtx-4090-24gb", "rtx-5090-32gb", "h20-96gb", "h100-sxm5-80gb", "b200-sxm-180gb"]
)
def test_narrow_weights_gain_by_their_kernels(card: str) -> None:
    """One token is faster by fewer bytes on every card. Of many rows Marlin takes 0.97 to 1.01 of the 16-bit time (vllm pull
    request 24722) where a warp's instructions are all there are, and more where they are not; Machete no more than Marlin,
    arithmetic in the narrow type less."""
    times = {
        weights: serving_times(load_model("llama-3.1-8b"), 1, weights=weights, on=cluster(custom_node(card, 1), num_gpus=1))
        for weights in ("bf16", "int4-awq", "int4-gptq", "fp8", "nvfp4")
        if weights in ("bf16", "int4-awq", "int4-gptq")
        or {"fp8": "fp8", "nvfp4": "fp4"}[weights] in load_accelerator(card).peak_flops_per_s
    }
    one, many = (
        {w: float(t.pass_time(t.shape(*at)).device_s) for w, t in times.items()}
        for at in (("decode", 1, 1, 512), ("prefill", 1, 4096, 0))
    )
    assert all(one[w] < one["bf16"] for w in one if w != "bf16")
    assert many["int4-gptq"] <= many["int4-awq"]
    for narrow in ("fp8", "nvfp4"):
        assert many.get(narrow, 0.0) < min(many["bf16"], many["int4-awq"])
    share = many["int4-awq"] / many["bf16"]
    assert (0.97 < share < 1.05) if card.startswith(("a100", "rtx")) else share > 1.1
    slow = any("multiplied at" in text for text in warnings_of(times["int4-awq"].setting))
    assert slow == (share > 1.1)
