"""Bytes of a GPU that serves and figures of fixed batches by hand: workspace, passes, cache of every kind of layer, pools."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from examples import number
from serving_examples import LLAMA, MIXTRAL, chips, deployment, model, serving_times, with_engine

import planner
from planner.hardware.cluster import Cluster
from planner.performance.collectives import collective_s
from planner.serving.batch_figures import batch_figures, full_per_s
from planner.serving.curves import SHARES, curve
from planner.serving.disaggregated import Pools, prefill_times, transfer_s
from planner.serving.experts import distinct_experts, fullest_rank
from planner.serving.kv_cache import kept_tokens, replica_sequence_bytes, sequence_bytes, token_layer_bytes
from planner.serving.load import server_s
from planner.serving.memory import _largest, memory, overhead_bytes, pass_tokens, workspace_bytes
from planner.serving.nearest import more_gpus
from planner.serving.pass_time import Times
from planner.serving.rows import present_tokens
from planner.serving.weight_formats import bits_of, weight_format
from planner.serving.weights import host_bytes, stage_bytes, total_bytes
from planner.workload.resolve import as_model

LIVE: dict[str, Any] = {"workspace_hidden": 6.0, "workspace_ffn": 3.0, "logits": "last", "logits_bytes": 6.0}


def test_live_tensors_of_a_pass_by_hand() -> None:
    """Six vectors of 512 and three of 1,536 / tp numbers a token; or 6 bytes for each of 1,024 / tp words where that is more."""
    for tp in (1, 2):
        setting = with_engine(deployment(model(LLAMA), tp, tp=tp), **LIVE)
        hidden = 2 * (6 * 512 + 3 * 1536 / tp)
        assert number(workspace_bytes(setting, 100.0, 3.0)) == pytest.approx(100 * hidden)
        assert number(workspace_bytes(setting, 1.0, 50.0)) == pytest.approx(50 * 1024 / tp * 6)
        every = with_engine(setting, logits="all", workspace_hidden=0.0, workspace_ffn=0.0)
        assert number(workspace_bytes(every, 100.0, 3.0)) == pytest.approx(100 * 1024 / tp * 6)


def test_live_scores_of_a_prompt_by_hand() -> None:
    """Two prompts of 4,000 tokens: 10 bytes for each pair of their tokens and head, where that is more than other live tensors;
    half of the heads on each of two GPUs."""
    for tp in (1, 2):
        setting = with_engine(deployment(model(LLAMA), tp, tp=tp), **LIVE, score_bytes=10.0, prefill_tokens=8000)
        heads = setting.model.num_heads / tp
        assert number(memory(setting, 2.0, 4000.0, 4000.0).workspace_bytes) == pytest.approx(10 * heads * 2 * 4000**2)
        short = memory(setting, 2.0, 40.0, 40.0).workspace_bytes
        assert number(short) == number(workspace_bytes(setting, 80.0, 2.0))


def test_live_tensors_of_experts_by_hand() -> None:
    """Two pairs a token in two buffers: the wider of 1,536 / tp inputs and 512 results, and of these and both products of the
    first, 2 x 1,536 / tp; of all four groups' pairs where one rank may get them all."""
    whole = with_engine(deployment(model(MIXTRAL)), **LIVE)
    assert number(workspace_bytes(whole, 10.0, 1.0)) == pytest.approx(10 * 2 * (6 * 512 + 2 * (1536 + 2 * 1536)))
    cut = with_engine(deployment(model(MIXTRAL), 4, tp=4), **LIVE)  # 384 inputs, 768 products
    assert number(workspace_bytes(cut, 10.0, 1.0)) == pytest.approx(10 * 2 * (6 * 512 + 2 * (512 + 768)))
    spread = with_engine(deployment(model(MIXTRAL), 4, ep=4), **LIVE)
    assert spread.dispatcher == "gather"
    assert number(workspace_bytes(spread, 10.0, 1.0)) == pytest.approx(10 * 2 * (6 * 512 + 4 * 2 * (1536 + 2 * 1536)))
    shared = model({**MIXTRAL, "num_shared_experts": 1, "shared_expert_ffn_hidden_size": 8192})
    dense = with_engine(deployment(shared), **LIVE)
    assert number(workspace_bytes(dense, 10.0, 1.0)) == pytest.approx(10 * 2 * (6 * 512 + 3 * 8192))


@pytest.mark.parametrize(
    ("batch", "prompt", "chunk", "splits", "tokens"),
    [
        (4, 100, None, True, 400), (4, 1000, None, True, 2048), (4, 5000, None, True, 2048), (4, 5000, None, False, 5000),
        (4, 100, 256, True, 256), (1, 100, 256, True, 100), (300, 1, 256, True, 300), (3000, 1, None, True, 3000),
    ],
)  # fmt: skip
def test_tokens_of_the_largest_pass(batch: int, prompt: int, chunk: int | None, splits: bool, tokens: float) -> None:
    """As many prompts as go into 2,048 tokens, a longer one whole where it cannot be cut; no less than one a sequence."""
    setting = deployment(model(LLAMA), pass_tokens=None if chunk else 2048, chunked_prefill_tokens=chunk)
    features = setting.engine.features | {"chunked_prefill"} if splits else setting.engine.features - {"chunked_prefill"}
    assert number(pass_tokens(with_engine(setting, features=features), float(batch), float(prompt))) == tokens


def test_context_and_a_communicator_for_each_way_of_cutting() -> None:
    for count, cut, groups in ((1, {}, 0), (2, {"tp": 2}, 1), (4, {"tp": 2, "pp": 2}, 2), (2, {"pp": 2}, 0)):
        setting = with_engine(deployment(model(LLAMA), count, **cut), context_bytes=7.0, communicator_bytes=10.0)
        assert overhead_bytes(setting) == 7.0 + 10.0 * groups
    both = with_engine(deployment(model(MIXTRAL), 4, tp=2, ep=4), context_bytes=7.0, communicator_bytes=10.0)
    assert overhead_bytes(both) == 27.0


def test_the_fullest_stage_by_hand() -> None:
    """Weights of a stage, caches of its layers for the sequences of one group, and of a draft, whole, on each."""
    setting = deployment(model(LLAMA), 2, pp=2)
    found = memory(setting, 6.0, 100.0, 256.0)
    entrance, exit_ = stage_bytes(setting)
    cache = 6 * 2 * 256 * 2 * 4 * 64 * 2
    assert number(found.kv_cache_bytes) == cache
    assert number(found.weights_bytes) == max(entrance, exit_)
    parts = found.weights_bytes + found.kv_cache_bytes + found.workspace_bytes + found.overhead_bytes
    assert number(found.total_bytes) == number(parts)
    draft = deployment(model(LLAMA, num_layers=1))
    drafted = memory(setting, 6.0, 100.0, 256.0, draft)
    assert number(drafted.weights_bytes) == max(entrance, exit_) + total_bytes(draft)
    assert number(drafted.kv_cache_bytes) == cache + 6 * 256 * 2 * 4 * 64 * 2
    grouped = deployment(model(MIXTRAL), 4, ep=4)
    assert number(memory(grouped, 6.0, 100.0, 256.0).kv_cache_bytes) == 2 * 4 * 256 * 2 * 4 * 64 * 2  # two of six on the fullest


def test_weights_of_stages_by_hand() -> None:
    """Embedding in front, head behind, a tied matrix at both ends; a part of the experts in host memory."""
    h, words = 512, 1024
    plain = deployment(model(LLAMA), 2, pp=2)
    first, last = stage_bytes(plain)
    assert first - last == pytest.approx(-2 * h)  # the final norm
    assert first + last == pytest.approx(total_bytes(plain))
    tied = deployment(model({**LLAMA, "tied_embeddings": True}), 2, pp=2)
    assert sum(stage_bytes(tied)) == pytest.approx(total_bytes(tied) + 2 * h * words)
    held = deployment(model(MIXTRAL), expert_offload=0.25)
    experts = 4 * 8 * 3 * 512 * 1536 * 2
    assert host_bytes(held) == pytest.approx(0.25 * experts)
    assert sum(stage_bytes(held)) == pytest.approx(total_bytes(held) - 0.25 * experts)


@pytest.mark.parametrize(
    ("fields", "count", "each"),
    [
        ({}, 1, 4 * 2 * 64 * 2), ({"kv_dtype": "fp8"}, 1, 4 * 2 * 64), ({"tp": 2}, 2, 2 * 2 * 64 * 2), ({"tp": 8}, 8, 2 * 64 * 2),
        ({"kv_dtype": "int8", "engine": "lmdeploy-turbomind"}, 1, 4 * 2 * (64 + 8)),  # a scale and a zero in fp32
    ],
)  # fmt: skip
def test_keys_and_values_of_a_token_by_hand(fields: dict[str, Any], count: int, each: float) -> None:
    """Four heads of 64 of keys and as many of values; over eight GPUs each has one whole, half of them a copy."""
    setting = deployment(model(LLAMA), count, **fields)
    kind = setting.model.layer_kinds[0]
    assert token_layer_bytes(setting, kind) == each
    whole = 4 * each / max(4 / count, 1.0) if count > 1 else each
    assert token_layer_bytes(setting, kind, whole=True) == whole
    assert number(sequence_bytes(setting, 64.0)) == 4 * 64 * each
    assert number(replica_sequence_bytes(setting, 64.0)) == 4 * 64 * whole


def test_windows_and_blocks_by_hand() -> None:
    """Gemma 2: half of the layers keep 4,096 tokens; blocks of 16 are filled up."""
    setting = deployment(as_model("gemma-2-9b"))
    kinds = {kind.sliding: kind for kind in setting.model.layer_kinds}
    assert kept_tokens(setting, kinds[False], np.array([1.0, 16.0, 17.0, 5000.0])).tolist() == [16.0, 16.0, 32.0, 5008.0]
    assert kept_tokens(setting, kinds[True], np.array([17.0, 5000.0])).tolist() == [32.0, 4096.0]
    loose = with_engine(setting, features=setting.engine.features - {"paged_cache"})
    assert kept_tokens(loose, kinds[True], np.array([17.0, 4097.0])).tolist() == [17.0, 4096.0]


def test_states_and_compressed_keys_of_a_sequence_by_hand() -> None:
    """Falcon-Mamba 7B: 64 layers of 8,192 x (16 + 3) numbers in fp32, however long. DeepSeek-V4-Flash: the last 128 tokens in
    all of 43 layers; one key of 512 for four tokens in 21, with an indexer's of 128 in fp8, and one for 128 in 20; and what an
    open run keeps: of four twice two lanes of 640, of 128 one of 512, twice, in 16 bit."""
    mamba = deployment(as_model("falcon-mamba-7b"))
    assert number(replica_sequence_bytes(mamba, 999.0)) == 64 * 4 * 8192 * (16 + 3)
    setting = deployment(as_model("deepseek-v4-flash"), prompt=1024)
    key = 512 * 2
    index = 128 + 4.0
    open_runs = 21 * 4 * 2 * 2 * 2 * (512 + 128) * 2 + 20 * 128 * 2 * 512 * 2
    by_hand = 43 * 128 * key + 21 * 256 * (key + index) + 20 * 8 * key + open_runs
    assert number(replica_sequence_bytes(setting, 1024.0)) == pytest.approx(by_hand)


@pytest.mark.parametrize(("limit", "found"), [(0, 0), (1, 1), (2, 2), (3, 3), (6, 6), (7, 7), (10, 10), (11, 10), (99, 10)])
def test_the_largest_number_that_holds(limit: int, found: int) -> None:
    """Of at most ten."""
    assert _largest(10, lambda n: n <= limit) == found


def test_parts_of_llama_cpps_formats_by_hand() -> None:
    """Half of the second matrices and of the values in six bits, which are half of keys and values together; the output too."""
    q4, q5, six = weight_format("q4_k_m"), weight_format("q5_k_m"), 6.5625
    for fmt, bits in ((q4, 4.5), (q5, 5.5)):
        assert bits_of(fmt, "ffn.in.weight", 16.0) == bits
        assert bits_of(fmt, "ffn.out.weight", 16.0) == bits_of(fmt, "experts.out.weight", 16.0) == (bits + six) / 2
        assert bits_of(fmt, "attention.qkv.key_value.weight", 16.0) == bits + (six - bits) / 4
        assert bits_of(fmt, "head.words", 16.0) == bits_of(fmt, "embedding.words", 16.0, tied=True) == six
        assert bits_of(fmt, "embedding.words", 16.0) == bits
        assert bits_of(fmt, "norm.weight", 16.0) == 16.0
    assert bits_of(weight_format("fp32"), "ffn.in.weight", 16.0) == 32.0
    assert bits_of(weight_format("bf16"), "ffn.in.weight", 16.0) == 16.0
    assert bits_of(weight_format("int4-awq", 64), "ffn.in.weight", 16.0) == 4 + 20 / 64
    assert bits_of(weight_format("int4-awq", kept=frozenset({"ffn"})), "ffn.in.weight", 16.0) == 16.0


def test_experts_of_one_rank_by_hand() -> None:
    """One rank holds all; of popular ones the first is always chosen, of copies each has its part of the tokens."""
    tokens = np.array([1.0, 4.0])
    touched, pairs = fullest_rank(8, 2, tokens, 1, 3.0)
    assert touched == pytest.approx(distinct_experts(8, 2, tokens))
    assert pairs.tolist() == [2.0, 8.0]
    weights = 1.0 / np.arange(1.0, 5.0)
    chances = weights / weights.sum()
    assert distinct_experts(4, 1, tokens, zipf=1.0) == pytest.approx([(1 - (1 - chances) ** t).sum() for t in tokens])
    always = distinct_experts(4, 3, np.array([1.0]), zipf=4.0)
    assert number(always) == pytest.approx(3.0)
    copied = distinct_experts(4, 1, tokens, redundant=4)  # two of each, an eighth of the tokens on each
    assert copied == pytest.approx(8 * (1 - (7 / 8) ** tokens))


def test_a_batch_by_hand() -> None:
    """Two replicas, a quarter of prompts in the cache, a fifth of the answers: 150 new tokens behind 50; steps at 200 + 20."""
    times = serving_times(model(LLAMA), 2, dp=2, prompt=200, output=40, prefix_cache_hit_rate=0.25, response_cache_hit_rate=0.2)
    found = batch_figures(times, np.array([8.0]))
    front = number(server_s(times.setting.engine, np.array(200.0)))
    first, step = number(times.prefill_s(150.0, 8.0, 50.0)) + front, number(times.decode_s(8.0, 220.0))
    assert number(found["ttft_s"]) == pytest.approx(first)
    assert number(found["tpot_s"]) == pytest.approx(step)
    assert number(found["e2e_s"]) == pytest.approx(first + 39 * step)
    rate = 2 * 8 / (first + 39 * step) / 0.8
    assert number(found["requests_per_s"]) == pytest.approx(rate)
    assert number(found["output_tokens_per_s"]) == pytest.approx(40 * rate)
    assert number(found["prefill_share"]) == pytest.approx((first - front) / (first - front + 39 * step))


def test_a_batch_with_a_pool_for_prompts_by_hand() -> None:
    """Three replicas make first tokens, whose caches cross the link one by one; one decodes. The slower bounds the rate."""
    for output in (2, 400):
        times = serving_times(model(LLAMA), 4, prefill_pool={"replicas": 3}, prompt=200, output=output)
        found = batch_figures(times, np.array([8.0]))
        before, link = prefill_times(times), number(transfer_s(times.setting, 200.0))
        front = number(server_s(times.setting.engine, np.array(200.0)))
        made, step = number(before.prefill_s(200.0, 8.0)), number(times.decode_s(8.0, 200 + output / 2))
        assert number(found["ttft_s"]) == pytest.approx(made + 8 * link + front)
        assert number(found["e2e_s"]) == pytest.approx(made + 8 * link + front + (output - 1) * step)
        rates = (3 * 8 / max(made, 8 * link), 8 / ((output - 1) * step))
        assert number(found["requests_per_s"]) == pytest.approx(min(rates))
        assert number(found["prefill_share"]) == 0.75


def test_the_way_of_a_cache_by_hand() -> None:
    """Four layers of 1 KiB a token: over one port, or two where both sides have as many; beside it pools in balance."""
    alone = deployment(model(LLAMA), 2, prefill_pool={})
    bytes_ = 4 * 1024 * 160
    assert number(transfer_s(alone, 160.0)) == pytest.approx(
        number(collective_s(alone.cluster, "p2p", np.asarray(bytes_), 2.0, 1.0))
    )
    twice = deployment(model(LLAMA), 4, tp=2, prefill_pool={"tp": 2})
    half = collective_s(twice.cluster, "p2p", np.asarray(bytes_ / 2), 2.0, 1.0)
    assert number(transfer_s(twice, 160.0)) == pytest.approx(number(half))
    nodes = Cluster(node=chips().node, accelerator=chips().accelerator, num_nodes=2, num_gpus=16)
    far = deployment(model(LLAMA), on=nodes, dp=8, prefill_pool={"replicas": 8})
    assert number(transfer_s(far, 160.0)) == pytest.approx(number(collective_s(nodes, "p2p", np.asarray(bytes_), 2.0, 8.0)))
    times = serving_times(model(LLAMA), 4, dp=1, prefill_pool={"replicas": 3}, prompt=64, output=8)
    pools = Pools(times)
    each = pools.capacities_per_s
    assert pools.capacity_per_s == min(each.values())
    assert each["transfer"] == pytest.approx(3 / number(transfer_s(times.setting, 64.0)))
    assert pools.balance == pytest.approx(each["decode"] / (each["prefill"] / 3))


def test_tokens_of_a_pass_are_shared_by_the_groups_of_a_server() -> None:
    """A server told 8,192 tokens for four groups takes 2,048 on each, one at least; what is stated is of each group."""
    setting = with_engine(deployment(model(MIXTRAL), 4, ep=4), prefill_tokens=8192, limits_of_all_groups=True)
    assert setting.pass_tokens == 2048
    assert with_engine(setting, limits_of_all_groups=False).pass_tokens == 8192
    assert with_engine(setting, prefill_tokens=3).pass_tokens == 1
    assert replace(setting, serving=setting.serving.replaced(pass_tokens=512)).pass_tokens == 512
    assert setting.places == setting.engine.max_batch * 4


def test_the_fewest_gpus_of_a_node_that_hold_it() -> None:
    """Llama 2 70B in 16 bit, 138 GB: two test GPUs of 80 GiB, four where 64 sequences hold 4,000 tokens of 320 KiB; none of eight
    hold ten times the layers. What has experts over ranks is not cut anew."""
    m = as_model("llama-2-70b")
    one_gpu = Times(setting=deployment(m, 1))
    assert more_gpus(one_gpu) == 2
    assert more_gpus(Times(setting=deployment(m, 1, prompt=3000, output=1000, batch=64))) == 4
    assert more_gpus(Times(setting=deployment(m.replaced(num_layers=800), 1))) is None
    assert more_gpus(Times(setting=deployment(as_model("mixtral-8x7b"), 2, ep=2, weights="bf16"))) is None


def test_a_chunk_is_half_seen_on_average() -> None:
    """Llama 4: chunks of 8,192 tokens: a token sees 4,096.5 of its own on average, or all that there are."""
    setting = deployment(as_model("llama-4-scout"), 8, tp=8)
    kinds = {kind.sliding: kind for kind in setting.model.layer_kinds}
    shape = Times(setting=setting).shape("decode", np.ones(3), 1.0, np.array([99.0, 9_999.0, 99_999.0]))
    assert present_tokens(setting, kinds[True], shape).tolist() == [100.0, 4096.5, 4096.5]
    assert present_tokens(setting, kinds[False], shape).tolist() == [100.0, 10_000.0, 100_000.0]


def test_a_curve_has_the_batches_and_their_figures() -> None:
    """Powers of two to twelve places, and these; dollars and joules of each by its own rates."""
    d = planner.serve(model="llama-3-8b", cluster="1xh100", serving={"prompt": 64, "output": 16, "max_batch": 12}, price=3.6)
    table = curve(d)
    assert table["batch"].tolist() == [1, 2, 4, 8, 12]
    assert curve(d, (3, 5, 99))["batch"].tolist() == [3, 5]
    figures = batch_figures(d.times, np.array([1.0, 2.0, 4.0, 8.0, 12.0]))
    for name in ("ttft_s", "tpot_s", "e2e_s", "requests_per_s", "output_tokens_per_s", "prefill_share"):
        assert table[name].to_numpy() == pytest.approx(figures[name])
    assert table["usd_per_million_tokens"].to_numpy() == pytest.approx(1e-3 / table["output_tokens_per_s"].to_numpy() * 1e6)
    assert (table["tpot_s_lower"] < table["tpot_s"]).all()
    assert (table["tpot_s_upper"] > table["tpot_s"]).all()
    assert table["total_bytes"].is_monotonic_increasing
    assert sorted(SHARES) == list(SHARES)
    assert 0.0 < min(SHARES) < max(SHARES) < 1.0


def test_a_deployment_with_a_pool_serves_what_the_least_of_three_carries() -> None:
    times = serving_times(model(LLAMA), 2, prefill_pool={}, prompt=64, output=8, response_cache_hit_rate=0.2)
    assert full_per_s(times) == pytest.approx(Pools(times).capacity_per_s / 0.8)
