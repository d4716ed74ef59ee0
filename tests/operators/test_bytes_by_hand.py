"""Bytes that rows read and write, counted by hand: how often each tensor passes device memory, in numbers of one width.

A tensor that a kernel reads or writes is counted once. The models are the catalog's, which differ in what they have
beside attention and feed-forward; sizes are those of their papers.
"""

from __future__ import annotations

import numpy as np
import pytest
from examples import GPT, LLAMA, MIXTRAL, model, setting
from row_examples import B, S, T, amount, both, of_model, one, small

from planner.model.parameters import layer_parameters, parameters_total
from planner.operators.attention import _cross_norms, _softmax_traffic, attention, cross_attention
from planner.operators.embedding import embedding
from planner.operators.feed_forward import feed_forward
from planner.operators.head import cross_entropy, head
from planner.operators.mixer import mixer
from planner.operators.moe import expert_tokens, mixture_of_experts
from planner.operators.norm import norm, norm_saved_bytes
from planner.operators.optimizer import decomposition_flops, low_rank_s, update_bytes
from planner.operators.row import Matmul, Row, alignment, linear
from planner.operators.setting import Setting, distinct_axes
from planner.operators.streams import streams
from planner.operators.table import build_table
from planner.operators.teacher import distillation_loss
from planner.operators.weights import local_parameters, on_one_rank
from planner.workload.adapters import tuned_model
from planner.workload.layout import Layout, as_columns
from planner.workload.precision import precisions
from planner.workload.resolve import as_framework, as_job, as_model


def test_a_norm_reads_and_writes_once_and_backward_twice_as_much() -> None:
    """Fused: x in, y out; backward x, dy and twice dx's sums: 4. Eager in 16 bit: seven kernels over fp32 copies."""
    fused = norm("n", "block", small(LLAMA), T * 512.0, rows_of=512.0)
    assert both(fused, "n") == (2 * 2 * T * 512, 4 * 2 * T * 512)
    eager = small(LLAMA, "huggingface", fused_norm=False)
    # two casts (2 + 4 each), square 8, mean 4, normalized 8, weight 2 + 2 and their write: 16 + 12 + 4 bytes an element
    assert both(norm("n", "block", eager, T * 512.0, rows_of=512.0, residual=False), "n") == (32 * T * 512, 64 * T * 512)
    assert float(np.ravel(norm_saved_bytes(eager, T * 512.0, 512.0, 2.0))[0]) == (4 + 2) * T * 512 + 4 * T


def test_the_entrance_reads_and_writes_a_vector_for_each_table() -> None:
    """GPT-2's words and positions: two tables; Llama's words alone. Backward the sum is read, too."""
    assert both(embedding(small(GPT)), "look up") == (2 * 2 * 2 * T * 512, 2 * 3 * 2 * T * 512)
    assert both(embedding(small(LLAMA)), "look up") == (2 * 2 * T * 512, 3 * 2 * T * 512)
    # dropout reads and writes a vector and its mask of a byte each way, and keeps the mask
    assert both(embedding(small(GPT)), "embedding dropout") == (5 * T * 512, 5 * T * 512)
    assert amount(one(embedding(small(GPT)), "embedding dropout"), "saved_bytes") == T * 512


def test_an_activation_reads_its_lanes_and_writes_one() -> None:
    """SwiGLU, fused: gate and up in, product out; backward these and the gradient in, two out. GELU: one in, one out."""
    kind = small(LLAMA).model.layer_kinds[0]
    assert both(feed_forward(small(LLAMA), kind), "activation") == (3 * 2 * T * 1536, 5 * 2 * T * 1536)
    plain = small(GPT)
    assert both(feed_forward(plain, plain.model.layer_kinds[0]), "activation") == (2 * 2 * T * 2048, 3 * 2 * T * 2048)
    row = one(feed_forward(small(LLAMA), kind), "activation")
    assert amount(row, "saved_bytes") == 2 * 2 * T * 1536  # gate and up
    assert amount(row, "workspace_bytes") == 3 * 2 * T * 1536  # the gradients of the product, of gate and of up


def test_the_residual_sum_reads_two_vectors_and_writes_one() -> None:
    kind = small(LLAMA).model.layer_kinds[0]
    assert both(feed_forward(small(LLAMA), kind), "residual") == (3 * 2 * T * 512, 2 * 2 * T * 512)


def test_rotary_positions_are_read_and_written_once_in_a_fused_kernel() -> None:
    """Eight query and four key heads of 64."""
    fused = small(LLAMA, fused_rotary=True)
    kind = fused.model.layer_kinds[0]
    assert both(attention(fused, kind), "rotary") == (2 * 2 * T * 12 * 64, 2 * 2 * T * 12 * 64)


def test_flash_attention_reads_queries_keys_and_values_and_writes_the_output() -> None:
    """8 heads of 64, 4 of keys and values; causal: (S + 1) / 2 keys a query; two products forward, five backward."""
    there = small(LLAMA)
    rows = attention(there, there.model.layer_kinds[0])
    qkv = 2 * T * (8 + 4 + 4) * 64
    assert both(rows, "fused attention") == (qkv + 2 * T * 8 * 64, 3 * qkv)
    forward, backward = one(rows, "fused attention"), one(rows, "fused attention gradient")
    pairs = T * 8 * (S + 1) / 2
    assert amount(forward, "flops") == 2 * 2 * pairs * 64
    assert amount(backward, "flops") == 5 * 2 * pairs * 64
    assert amount(forward, "model_flops") == 2 * 2 * T * 8 * S * 64
    assert amount(backward, "model_flops") == 2 * amount(forward, "model_flops")
    assert amount(forward, "masked_flops") == amount(forward, "model_flops") - amount(forward, "flops")
    assert amount(forward, "saved_bytes") == 4 * T * 8  # a log-sum of a query and head
    assert amount(backward, "workspace_bytes") == qkv + 4 * T * 8 * 64  # three gradients and the queries' in fp32


def test_the_ring_sends_keys_and_values_to_all_others() -> None:
    """Of four ranks each sends its quarter three times; backward the gradients too."""
    there = small(LLAMA, layout=Layout(cp=4, micro_batch_size=B))
    rows = attention(there, there.model.layer_kinds[0])
    sent = 3 * 2 * (T / 4) * (4 + 4) * 64
    assert amount(one(rows, "ring keys and values"), "communication_bytes") == sent
    assert amount(one(rows, "ring gradients"), "communication_bytes") == 2 * sent


def test_pytorchs_ring_copies_keys_and_values_and_sends_gradients_in_fp32() -> None:
    """torch.distributed.tensor.experimental: keys and values are copied together (2 + 2) before each later step; backward their
    gradients too (4 + 4), after each step of all, and travel so. torchtitan of 2025 repeats the keys of four heads to eight."""
    there = small(LLAMA, "torchtitan", Layout(cp=4, micro_batch_size=B, zero=3), release="0.1")
    rows = attention(there, there.model.layer_kinds[0])
    keys = (T / 4) * (8 + 8) * 64
    assert both(rows, "ring copies") == (3 * 4 * keys, 3 * 4 * keys + 4 * 8 * keys)
    assert amount(one(rows, "ring keys and values"), "communication_bytes") == 3 * 2 * keys
    assert amount(one(rows, "ring gradients"), "communication_bytes") == 3 * 2 * keys + 4 * 4 * keys
    # all ranks' keys and values, gathered at once; the sum, its part and their difference in fp32; backward gradients in fp32,
    # those of keys and values as they came, as they go and where the next ones arrive; a half's sum, a copy of either; in 16 bit
    # the step's own, and keys and values as they were copied together
    outputs = queries = (T / 4) * 8 * 64
    assert amount(one(rows, "ring copies"), "workspace_bytes") == 4 * 2 * keys + 3 * 4 * outputs
    assert amount(one(rows, "ring copies gradient"), "workspace_bytes") == (
        4 * 2 * keys + 4 * (queries + 3 * keys + max(keys, queries)) + 2 * (queries + keys) + 2 * keys
    )
    fused = small(LLAMA, layout=Layout(cp=4, micro_batch_size=B))
    assert not [row for row in attention(fused, fused.model.layer_kinds[0]) if row.name == "ring copies"]


@pytest.mark.parametrize(
    ("heads", "sequences", "seq_len", "fused"),
    [
        (8, 2, S, True),
        (2, 2, S, True),
        (2, 1, S, False),
        (6, 1, S, False),
        (8, 2, S + 2, False),
        (8, 1, 4096, True),
        (8, 1, 8192, False),
    ],
)
def test_megatrons_softmax_reads_the_triangle_and_takes_whole_steps(
    heads: int, sequences: int, seq_len: int, fused: bool
) -> None:
    """Megatron-LM of 2022, fused_softmax.py: heads times sequences, queries and keys in multiples of 4, at most 4,096 keys. Its
    kernel reads what the mask leaves, (s + 1) / 2 s of the scores, and writes all; PyTorch masks and takes the softmax."""
    fields = {**GPT, "num_heads": heads, "hidden_size": 64 * heads, "ffn_hidden_size": 256 * heads}
    there = setting(fields, "megatron-2022", Layout(micro_batch_size=sequences), seq_len=seq_len)
    rows = attention(there, there.model.layer_kinds[0])
    pairs, seen = sequences * heads * seq_len**2, (seq_len + 1) / (2 * seq_len)
    expected = (2 * (seen + 1), 2 * (2 * seen + 1)) if fused else (4 * 2, 5 * 2)
    assert both(rows, "softmax") == pytest.approx((expected[0] * pairs, expected[1] * pairs), rel=1e-12)
    assert amount(one(rows, "softmax"), "kernels") == (1 if fused else 2)
    assert amount(one(rows, "softmax"), "saved_bytes") == 2 * pairs  # the probabilities, whoever makes them


def test_an_encoders_keys_are_made_from_its_output_for_each_decoder_layer() -> None:
    """T5: the gradients of all layers are summed, two read and one written; queries of the target, keys of the source."""
    there = of_model("t5-base", target_len=64)
    kind = next(k for k in there.model.layer_kinds if there.of(k).job.seq_len == 64)
    rows = cross_attention(there.of(kind), kind)
    h, heads = there.model.hidden_size, there.model.num_heads * there.model.head_dim
    assert amount(one(rows, "cross source gradient sum")) == 3 * 2 * T * h
    assert amount(one(rows, "cross query"), "flops") == 2 * (B * 64) * h * heads
    assert amount(one(rows, "cross key value"), "flops") == 2 * T * h * 2 * heads
    assert amount(one(rows, "cross output"), "saved_bytes") == 2 * (B * 64) * heads
    core = one(rows, "cross fused attention")
    assert amount(core, "flops") == amount(core, "model_flops") == 4 * (B * 64) * S * heads  # no mask


def test_the_loss_reads_logits_and_keeps_probabilities() -> None:
    """Megatron's, fused: 16-bit logits in and out, fp32 in and out; it keeps fp32. Three sums of a token over the ranks."""
    there = small(LLAMA, fused_cross_entropy=True)
    row = one(cross_entropy(there), "cross-entropy")
    assert (amount(row), amount(row, "saved_bytes")) == ((2 * 2 + 8) * T * 1024, 4 * T * 1024)
    two = small(LLAMA, layout=Layout(tp=2, micro_batch_size=B), fused_cross_entropy=True)
    assert amount(one(cross_entropy(two), "maximum and sums"), "communication_bytes") == 3 * 4 * T
    assert amount(one(cross_entropy(two), "cross-entropy")) == amount(row) / 2
    gradient = one(head(there), "logits input gradient")
    assert amount(gradient, "workspace_bytes") == 2 * 1024 * (T + 512)


@pytest.mark.parametrize(("precision", "width"), [("bf16", 2), ("fp32", 4)])
def test_a_fused_loss_leaves_its_gradient_where_the_logits_were(precision: str, width: int) -> None:
    """Liger's kernel (Hsu et al. 2024, section 3.2): logits are read and overwritten, and once more by the gradient that
    comes in; beside them lies nothing. Forward a second kernel sums the losses of the tokens. Labels of 8 bytes stay."""
    fused = {"fused_cross_entropy": True, "chunked_loss": False}
    rows = cross_entropy(setting(LLAMA, "fsdp", Layout(micro_batch_size=B), fused, seq_len=S, precision=precision))
    assert both(rows, "cross-entropy") == (2 * width * T * 1024, 2 * width * T * 1024)
    row = one(rows, "cross-entropy")
    assert (amount(row, "saved_bytes"), amount(row, "workspace_bytes")) == (width * T * 1024 + 8 * T, 0.0)
    assert amount(row, "kernels") == 2.0


def test_a_pair_of_tokens_looks_up_two_scores_of_its_distance() -> None:
    """transformers, DebertaV2's disentangled_attention_bias, 16 bit: twice an index of 8 bytes, a number read and written, one
    scaled (2 + 2); the first is added to nothing (2), the second to the first (3), both to the scores of the contents (3)."""
    stack = as_framework("huggingface").replaced(attention_kernel="eager")
    asked = as_job({"seq_len": S, "global_batch_size": 64, "precision": "bf16"})
    there, _ = distinct_axes(as_columns(Layout(dp=1, micro_batch_size=B), 1), as_model("deberta-v3-base"), stack, asked)
    row = one(build_table(there).rows(), "position scores gathered")
    assert amount(row) == (2 * 8 + 2 * (2 + 2 + 2 + 2) + 2 * (2 + 3 + 3)) * 12 * B * S * S


def test_distillation_compares_the_whole_vocabulary_in_fp32() -> None:
    there = of_model("llama-3-8b", kind="distil", teacher={"model": "llama-3-70b"})
    logits = T * 128_256
    row, back = distillation_loss(there, there.job)
    # the student's 16-bit logits, the teacher's in fp32 to probabilities and both once more; backward two in, one out
    assert (amount(row), amount(back)) == ((2 + 16) * logits, 12 * logits)
    assert (amount(row, "saved_bytes"), amount(row, "workspace_bytes")) == (4 * logits, 2 * logits)
    cached = of_model("llama-3-8b", kind="distil", teacher={"model": "llama-3-70b", "cached_top_k": 64})
    row, back = distillation_loss(cached, cached.job)
    assert (amount(row), amount(back), amount(row, "saved_bytes")) == (30 * 64 * T, 16 * 64 * T, 12 * 64 * T)


def test_streams_beside_a_layer() -> None:
    """As Gemma 3n: four streams read and written twice forward, three times backward; a low-rank path, a narrow vector."""
    there = small({**LLAMA, "altup_streams": 4, "laurel_rank": 64, "per_layer_embedding_size": 128})
    m = there.model
    rows = streams(there.of(m.layer_kinds[0]), m.layer_kinds[0])
    every = 2 * T * m.hidden_size * m.altup_streams
    assert both(rows, "altup") == (4 * every, 6 * every)
    assert amount(one(rows, "altup"), "saved_bytes") == 2 * every
    narrow = 2 * T * m.per_layer_embedding_size
    assert both(rows, "layer vector") == (4 * narrow, 6 * narrow)
    assert amount(one(rows, "layer gate"), "flops") == 2 * T * m.hidden_size * m.per_layer_embedding_size
    assert amount(one(rows, "laurel left"), "flops") == amount(one(rows, "laurel right"), "flops") == 2 * T * m.hidden_size * 64


def test_hyper_connections_read_all_streams_and_write_them() -> None:
    """DeepSeek-V4: n streams read for their weights and sum, read and written to be mixed, with a block's input and output."""
    there = of_model("deepseek-v4-flash")
    m = there.model
    rows = streams(there.of(m.layer_kinds[0]), m.layer_kinds[0])
    n, h = m.hyper_streams, m.hidden_size
    assert both(rows, "hyper streams") == ((3 * n + 2) * 2 * T * h, 2 * (3 * n + 2) * 2 * T * h)
    assert amount(one(rows, "hyper streams"), "saved_bytes") == n * 2 * T * h
    assert amount(one(rows, "hyper weights"), "flops") == 2 * T * (n * h) * n * (n + 2)


def test_a_convolution_and_a_gated_norm_beside_a_scan() -> None:
    """Mamba-2: 64 heads of 64, one group's two states of 128... by the shape that its config.json states."""
    there = of_model("nemotron-3-super-120b-a12b")
    m = there.model
    kind = next(k for k in m.layer_kinds if there.of(k).model.mixer == "mamba2")
    inside = there.of(kind)
    rows, m = mixer(inside, kind), inside.model
    values = m.recurrent_value_heads * m.recurrent_value_head_dim
    channels = values + 2 * m.recurrent_key_heads * m.recurrent_key_head_dim
    assert both(rows, "convolution") == (2 * 2 * T * channels, 4 * 2 * T * channels)
    assert both(rows, "gated norm") == (3 * 2 * T * values, 6 * 2 * T * values)
    scan, back = one(rows, "scan"), one(rows, "scan gradient")
    # chunks of 128: states of 128 heads of 64 x 128 in fp32 at their ends, and C B' of 8 groups within them
    states = T / 128 * 128 * 64 * 128
    inner = T * 128 * 8
    assert amount(scan) == (4 + 4 + 2 + 2) * states + 5 * 2 * T * values + (4 + 4) * inner
    assert amount(back) == (24 + 5 * 2) * states + 16 * 2 * T * values + 24 * inner
    assert amount(back, "workspace_bytes") == 2 * 4 * states
    assert amount(back, "flops") == 2.5 * amount(scan, "flops")
    # at least what every form needs: the state is decayed, takes a product in and gives one out for each token
    assert amount(scan, "model_flops") >= 2 * 2 * T * values * m.recurrent_key_head_dim
    # two states in and out, and the values twice, at the least
    assert amount(scan) >= 2 * T * (channels + values)


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_a_ranks_parameters_times_the_ranks_are_the_models(tp: int) -> None:
    """But what each rank holds whole: norms, and keys and values where there are fewer heads than ranks."""
    there = small(LLAMA, layout=Layout(tp=tp, micro_batch_size=B))
    m = there.model
    kind = m.layer_kinds[0]
    held = float(on_one_rank(there, layer_parameters(m, kind))[0]) * tp
    whole = sum(one.elements for one in layer_parameters(m, kind))
    copies = (tp - 1) * 2 * 512 + max(tp / 4 - 1, 0) * 2 * 4 * 64 * 512
    assert held == whole + copies
    assert float(local_parameters(there, kind, "ffn.in")[0]) == 2 * 512 * 1536 / tp
    assert whole * m.num_layers < parameters_total(m)


def test_an_indexer_keeps_its_choice_and_what_it_chose_by() -> None:
    """DeepSeek-V3.2: scores of all keys in front by 64 heads of 128, one key; index_top_k indices of 4 bytes a token."""
    there = of_model("deepseek-v3.2", seq_len=4096)
    m, kind = there.model, there.model.layer_kinds[0]
    rows, tokens = attention(there.of(kind), kind), B * 4096
    heads, width, chosen = m.index_num_heads, m.index_head_dim, m.index_top_k
    assert (heads, width, chosen) == (64, 128, 2048)
    vectors = 2 * tokens * (heads + 1) * width
    row, back = one(rows, "indexer"), one(rows, "indexer gradient")
    assert (amount(row), amount(row, "saved_bytes")) == (vectors + 4 * tokens * chosen,) * 2
    assert amount(back) == 2 * amount(row)
    assert amount(row, "flops") == 2 * tokens * (4096 + 1) / 2 * heads * width
    assert amount(back, "flops") == 2 * amount(row, "flops")


def test_autocast_reads_each_weight_in_fp32_and_writes_it_in_16_bit() -> None:
    """Seven matrices of a Llama layer, one kernel each; the gradient comes back the same way."""
    there = small(LLAMA, "huggingface")
    rows = build_table(there).layers[there.model.layer_kinds[0]]
    weights = 512 * 64 * (8 + 4 + 4) + 8 * 64 * 512 + 3 * 512 * 1536
    assert both(rows, "weights cast") == ((4 + 2) * weights, (4 + 2) * weights)
    assert amount(one(rows, "weights cast"), "kernels") == 7
    # products of activations, of which eager attention has two, are of no weight
    apart = small(LLAMA, "huggingface", attention_kernel="eager", repeats_kv_heads=True)
    rows = build_table(apart).layers[apart.model.layer_kinds[0]]
    assert amount(one(rows, "weights cast"), "kernels") == 7


def test_a_vector_of_each_layer_is_looked_up_at_the_entrance() -> None:
    """Gemma 4: looked up, projected, normalized, summed: four passes, read and written; what is summed is kept."""
    there = of_model("gemma-4-e2b")
    m = there.model
    wide = m.num_layers * m.per_layer_embedding_size
    rows = embedding(there)
    assert both(rows, "per-layer vectors") == (8 * 2 * T * wide, 8 * 2 * T * wide)
    assert amount(one(rows, "per-layer vectors"), "saved_bytes") == 2 * 2 * T * wide
    assert amount(one(rows, "per-layer projection"), "flops") == 2 * T * m.hidden_size * wide


def test_lightning_attention_keeps_queries_keys_and_values_before_and_behind_their_activation() -> None:
    there = of_model("minimax-m1")
    kind = next(k for k in there.model.layer_kinds if there.of(k).model.recurs)
    inside = there.of(kind)
    m = inside.model
    wide, values = (m.recurrent_value_heads * d for d in (m.recurrent_key_head_dim, m.recurrent_value_head_dim))
    assert amount(one(mixer(inside, kind), "scan"), "saved_bytes") == 2 * T * 2 * (2 * wide + values)


@pytest.mark.parametrize(
    ("changes", "bytes_"),
    [
        # fused: the gradient for its norm; then gradient, weight and both moments in, weight and moments out
        ({"precision": "fp32"}, 4 + 4 + 2 * 4 + 2 * 8),
    ],
)
def test_an_update_reads_and_writes_weights_and_moments(changes: dict[str, str], bytes_: int) -> None:
    stack, there = (
        as_framework("megatron-core").replaced(fused_optimizer="fused"),
        as_job({"seq_len": 1, "global_batch_size": 1, **changes}),
    )
    assert update_bytes(there, stack, precisions(there, stack)) == bytes_
    apart = stack.replaced(fused_optimizer="foreach")
    assert update_bytes(there, apart, precisions(there, apart)) == 4 + 2.5 * (bytes_ - 4)


def test_a_projection_to_a_low_rank_by_hand() -> None:
    """GaLore: 6 n m^2 + 20 m^3 of a decomposition (Golub and Van Loan); a projection and two moments are kept of a matrix."""
    assert decomposition_flops(2.0, 3.0) == 6 * 3 * 4 + 20 * 8
    # 4 layers of 512 x 512 (q, o), 512 x 256 (k, v), 512 x 1536 (gate, up, down); 4 m n r flops each step, one in 200 decomposes
    sides = [(512, 512)] * 2 + [(256, 512)] * 2 + [(512, 1536)] * 3
    products = sum(4 * m * n * 64 for m, n in sides) / 1e14
    new = sum((6 * n * m**2 + 20 * m**3) / 0.8e12 / 200 for m, n in sides)
    adam = as_job({"seq_len": 1, "global_batch_size": 1, "optimizer": "galore-adamw", "optimizer_rank": 64})
    assert low_rank_s(model(LLAMA), adam, 1e14) == pytest.approx(4 * (products + new), rel=1e-9)


def test_the_entrance_keeps_its_numbers_of_words_and_of_positions() -> None:
    """autograd keeps int64 indices, 8 bytes a token, for each table that looks them up."""
    assert amount(one(embedding(small(GPT, "huggingface")), "look up"), "saved_bytes") == 2 * 8 * T
    assert amount(one(embedding(small(LLAMA, "huggingface")), "look up"), "saved_bytes") == 8 * T
    assert amount(one(embedding(small(GPT)), "look up"), "saved_bytes") == 0


@pytest.mark.parametrize(
    ("precision", "in_fp32", "forward", "backward"),
    [
        ("bf16", True, (2 + 4) + 4 * 4, 4 + 4 * 4 + (4 + 2)),
        ("bf16", False, 4 * 2, 2 + 4 * 2),
        ("fp32", True, 4 * 4, 4 + 4 * 4),
    ],
)
def test_pytorchs_loss_takes_the_log_softmax_in_fp32_where_it_casts_to_it(
    precision: str, in_fp32: bool, forward: int, backward: int
) -> None:
    """Cast: 16-bit logits are read (2), fp32 is written (4). The log-softmax reads them for the maximum, for the sum and for the
    difference, which it writes. Backward: the likelihood's gradient is written, nearly all zeros; the log-softmax's sums it,
    reads it and the kept values and writes a third; the cast back reads 4 and writes 2. Kept: the log-softmax and the logits;
    alive backward: two gradients."""
    changes = {"fused_cross_entropy": False, "chunked_loss": False, "loss_in_fp32": in_fp32, "logits_kept": True}
    stack = {**changes, "compile": False}
    there = setting(LLAMA, "huggingface", Layout(micro_batch_size=B), stack, seq_len=S, precision=precision)
    logits = T * there.model.vocab_size
    rows = cross_entropy(there)
    row = one(rows, "cross-entropy")
    wide, width = 4 if in_fp32 else 2, 4 if precision == "fp32" else 2
    assert both(rows, "cross-entropy") == (forward * logits, backward * logits)
    assert amount(row, "saved_bytes") == (wide + width) * logits + 8 * T
    assert amount(row, "workspace_bytes") == 2 * wide * logits


def routed(stack: str = "megatron-core", layout: Layout | None = None, **changes: object) -> tuple[Setting, tuple[Row, ...]]:
    """A mixture's expert layer and its rows."""
    there = small(MIXTRAL, stack, layout, **changes)
    return there, mixture_of_experts(there, there.model.layer_kinds[0])


def test_the_router_keeps_a_number_for_each_expert_and_each_choice() -> None:
    """Megatron: fp32 logits, probabilities and the loss's, 12 bytes an expert; probability and index, 12 a choice. Elsewhere 4 an
    expert, and with three more indices and a copy of the sort 40 a choice."""
    for stack, expert, choice in (("megatron-core", 12, 12), ("huggingface", 4, 40)):
        _, rows = routed(stack)
        kept = [row for row in rows if row.phase == "forward" and amount(row, "saved_bytes") == T * (expert * 8 + choice * 2)]
        assert len(kept) == 1, stack


def test_the_host_waits_for_counts_of_tokens_only_where_it_launches_by_them() -> None:
    """Outside of a CUDA graph of the step, unless experts are padded to a capacity: only then are shapes known beforehand."""
    name = "token counts to the host"
    for capacity, pads, waits in ((None, False, True), (None, True, True), (1.25, False, True), (1.25, True, False)):
        there = small({**MIXTRAL, "capacity_factor": capacity}, "megatron-core", pads_to_capacity=pads)
        counts = one(mixture_of_experts(there, there.model.layer_kinds[0]), name)
        assert counts.host_waits == waits, (capacity, pads)
        assert amount(counts, "host_s") == there.framework.expert_host_s > 0  # as many launches
    for graphs in ("none", "layers"):
        there, rows = routed(cuda_graphs=graphs)
        assert amount(one(rows, name), "host_s") == there.framework.expert_host_s > 0
        assert one(rows, name).host_waits
    _, graphed = routed(cuda_graphs="full")
    assert amount(one(graphed, name), "host_s") == 0
    assert not one(graphed, name).host_waits


def test_a_rank_with_several_experts_of_several_ranks_sorts_what_it_received() -> None:
    """8 experts on 4 ranks: what arrived is read and written once more; on 1 rank or on 8 there is nothing to sort."""
    for ep, sorts in ((1, False), (4, True), (8, False)):
        there, rows = routed(layout=Layout(ep=ep, dp=ep, micro_batch_size=B), dispatcher="alltoall")
        moved = sum(amount(row) for row in rows if row.name.startswith("sort by expert") and row.phase == "forward")
        received = float(np.ravel(expert_tokens(there))[0])  # two choices a token on average, more on the fullest rank
        assert received >= 2 * T
        assert moved == (2 * 2 * received * there.model.hidden_size if sorts else 0), ep


def test_a_gate_of_attention_keeps_its_projection_and_the_output() -> None:
    """Qwen3-Next: a gate for each number of the output; forward reads both and writes one, backward twice as much."""
    there = small({**LLAMA, "attention_gate": "full"})
    width = there.model.num_heads * there.model.head_dim
    rows = attention(there, there.model.layer_kinds[0])
    assert amount(one(rows, "attention gate"), "saved_bytes") == 2 * T * 2 * width
    assert both(rows, "attention gate") == (3 * 2 * T * width, 6 * 2 * T * width)


def test_norms_of_queries_and_keys_read_16_bit_whatever_the_residual_stream_is_kept_in() -> None:
    """As ``n`` of an eager norm beside: 32 bytes an element forward, 64 backward; of the heads of queries and of keys."""
    there = small({**LLAMA, "qk_norm": "head"}, "huggingface", fused_norm=False)
    m = there.model
    elements = T * (m.num_heads + m.num_kv_heads) * m.head_dim
    assert both(attention(there, m.layer_kinds[0]), "query key norm") == (32 * elements, 64 * elements)


def test_a_sum_an_activation_and_a_gate_are_one_kernel_each() -> None:
    there = small({**LLAMA, "attention_gate": "full"})
    kind = there.model.layer_kinds[0]
    rows = (*feed_forward(there, kind), *attention(there, kind))
    assert {amount(one(rows, name), "kernels") for name in ("residual", "activation", "attention gate")} == {1.0}


@pytest.mark.parametrize(("precision", "stored"), [("fp32", 4), ("fp16", 2), ("bf16", 2), ("fp8", 1)])
def test_a_teacher_lies_there_in_its_own_precision(precision: str, stored: int) -> None:
    """Llama 3 70B: 80 layers of query, key, value and output, gate, up and down, two norms; words, head and a norm."""
    there = of_model("llama-3-8b", kind="distil", teacher={"model": "llama-3-70b", "precision": precision})
    layer = 8192 * (8192 + 2 * 1024) + 8192 * 8192 + 3 * 8192 * 28_672 + 2 * 8192
    weights = 80 * layer + 2 * 128_256 * 8192 + 8192
    assert (
        sum(count * amount(row, "frozen_bytes") for count, rows in build_table(there).teacher for row in rows) == stored * weights
    )


def test_a_weight_is_unpacked_whole_before_each_of_its_multiplications() -> None:
    """QLoRA (Dettmers et al. 2023, arXiv 2305.14314, section 3): bf16 copies of nf4, the same elements forward and backward."""
    there = of_model("llama-3-8b", "huggingface", kind="qlora", adapter={"rank": 8}, precision="bf16-pure")
    rows = next(iter(build_table(there).layers.values()))
    sizes = {"query key value": 4096 * 6144, "output projection": 4096 * 4096, "in projection": 4096 * 28_672}
    for name, elements in {**sizes, "out projection": 14_336 * 4096}.items():
        found = [row for row in rows if row.name == f"{name} unpacked"]
        assert [row.phase for row in found] == ["forward", "backward"]
        # four bits, one byte of scale for 64 elements, and 4 bytes for 256 of these
        assert {amount(row) for row in found} == {(0.5 + 1 / 64 + 4 / (64 * 256) + 2) * elements}


def test_a_matrix_of_which_nothing_is_said_is_aligned_as_well_as_any() -> None:
    assert Matmul(m=1.0, n=64.0, k=64.0).aligned == alignment(64.0, 64.0) == alignment(4096.0, 14_336.0)


@pytest.mark.parametrize("stack", ["torchtitan", "fsdp", "megatron-core"])
def test_a_layer_that_runs_again_brings_back_what_it_kept_and_no_byte_more(stack: str) -> None:
    """The most of what the rows up to each keep, less the layer's input, which never left, and of that row's temporaries."""
    layers = {
        recompute: next(
            iter(build_table(of_model("llama-3-8b", stack, Layout(micro_batch_size=B, recompute=recompute))).layers.values())
        )
        for recompute in ("none", "full")
    }
    alive = -amount(one(layers["full"], "layer input kept"), "saved_bytes")
    most = 0.0
    for row in layers["none"]:
        alive += amount(row, "saved_bytes")
        most = max(most, alive + (amount(row, "workspace_bytes") if alive > 0 else 0.0))
    assert amount(one(layers["full"], "recomputed activations"), "workspace_bytes") == most


def test_a_bias_of_positions_is_read_once_and_its_gradient_summed() -> None:
    """A number for each of 12 heads, query and key of T5-base: read forward, its gradient written, read and summed backward."""
    rows = build_table(of_model("t5-base", "fsdp", target_len=S)).rows()
    found = [row for row in rows if row.name.startswith("position bias")]
    scores = B * 12 * S * S
    assert {(row.phase, amount(row)) for row in found} == {("forward", 2.0 * scores), ("backward", 3 * 2.0 * scores)}
    assert {amount(row, "workspace_bytes") for row in found if row.phase == "forward"} == {2.0 * scores}


@pytest.mark.parametrize(("dropout", "rows"), [(0.0, 0), (0.1, 1)])
def test_scores_pass_a_dropout_only_where_there_is_one(dropout: float, rows: int) -> None:
    stack = as_framework("huggingface").replaced(attention_kernel="eager")
    columns = as_columns(Layout(dp=1, micro_batch_size=B), 1)
    asked = as_job({"seq_len": S, "global_batch_size": 64, "precision": "bf16"})
    found, _ = distinct_axes(columns, model(GPT, attention_dropout=dropout), stack, asked)
    named = {row.name for row in build_table(found).rows() if row.name == "attention dropout"}
    assert len(named) == rows


@pytest.mark.parametrize(
    ("precision", "in_fp32", "forward", "backward"),
    [
        # scaled 2 + 2, masked 2 + 2, the softmax 2 + 2; backward each step has its own gradient, the softmax's reads two
        ("bf16-pure", False, 4 + 4 + 4, 4 + 4 + 6),
        # read in 16 bit and written in 32, cast back; backward 4 + 4 read, 2 written, cast
        ("bf16-pure", True, 4 + 4 + 6 + 6, 4 + 4 + 10 + 6),
        # autocast's cast to fp32 is a kernel of its own, and all of the softmax is fp32
        ("bf16", False, 4 + 4 + 6 + 8 + 6, 4 + 4 + 6 + 12 + 6),
    ],
)
def test_scores_pass_memory_as_eager_kernels_read_and_write_them(
    precision: str, in_fp32: bool, forward: float, backward: float
) -> None:
    columns = as_columns(Layout(dp=1), 1)
    stack, work = (
        as_framework("huggingface").replaced(attention_kernel="eager"),
        as_job({"seq_len": S, "global_batch_size": 64, "precision": precision}),
    )
    found, _ = distinct_axes(columns, model(LLAMA, softmax_in_fp32=in_fp32), stack, work)
    assert found.autocast is (precision == "bf16")
    traffic = _softmax_traffic(found, found.model.layer_kinds[0])
    assert (traffic.forward_bytes, traffic.backward_bytes) == (forward, backward)
    assert (traffic.kernels, traffic.backward_kernels) == (6.0, 5.0)


@pytest.mark.parametrize("grouped", [False, True])
def test_what_is_cast_to_8_bit_for_each_product_of_a_linear_layer(grouped: bool) -> None:
    """4 products of 3 x 5 by 5 x 7. Inputs where tokens come to their experts; dy once for both gradients; nothing for dW."""
    rows = linear("x", "block", Matmul(m=3.0, k=5.0, n=7.0, batch=4.0, grouped=grouped), width=2.0, parameters=1.0)
    casts = {row.role: row.work.cast for row in rows if isinstance(row.work, Matmul)}
    assert casts == {"product": 4 * 3 * 5 if grouped else 0, "input gradient": 4 * 3 * 7, "weight gradient": 0}
    shapes = {row.role: (row.work.m, row.work.k, row.work.n) for row in rows if isinstance(row.work, Matmul)}
    assert shapes == {"product": (3, 5, 7), "input gradient": (3, 7, 5), "weight gradient": (5, 3, 7)}


@pytest.mark.parametrize(("kind", "more"), [("lora", 0), ("qlora", 2 * T * (4096 + 14336))])
def test_old_bitsandbytes_keeps_the_input_of_each_layer_in_4_bit(kind: str, more: float) -> None:
    """Until 0.41, of layers in 4 bit alone: the feed-forward's two. Adapters of queries keep their input as it is, and fused
    attention its output."""
    kept = []
    for keeps in (False, True):
        columns, stack = (
            as_columns(Layout(dp=1, micro_batch_size=B), 1),
            as_framework("litgpt").replaced(quantized_keeps_input=keeps),
        )
        work = as_job({"kind": kind, "seq_len": S, "global_batch_size": 64, "adapter": {"rank": 8, "target_modules": ["q_proj"]}})
        columns = as_columns(Layout(dp=1, micro_batch_size=B), 1)
        found, _ = distinct_axes(columns, tuned_model(as_model("llama-3-8b"), work), stack, work)
        rows = build_table(found).layers[found.model.layer_kinds[0]]
        kept.append(sum(amount(row, "saved_bytes") for row in rows))
    assert kept[1] - kept[0] == more


@pytest.mark.parametrize(
    ("precision", "fused", "casts"), [("bf16", False, True), ("bf16", True, False), ("fp32", False, False), ("fp32", True, False)]
)
def test_adapters_in_fp32_are_cast_to_where_activations_are_narrow_and_no_kernel_does_both(
    precision: str, fused: bool, casts: bool
) -> None:
    columns, stack = as_columns(Layout(dp=1), 1), as_framework("peft").replaced(fused_adapters=fused, adapter_dtype="fp32")
    work = as_job({"kind": "lora", "seq_len": S, "global_batch_size": 8, "precision": precision, "adapter": {"rank": 8}})
    found, _ = distinct_axes(columns, tuned_model(as_model("gpt2"), work), stack, work)
    inputs = [row for row in build_table(found).rows() if str(row.name).endswith("adapter input") and row.phase == "forward"]
    assert bool(inputs) is casts
    widths = {float(np.sum(row.bytes_moved / found.tokens)) for row in inputs}  # 2 bytes read, 4 written, and the way back
    assert widths == ({12.0 * found.model.hidden_size, 12.0 * found.model.ffn_hidden_size} if casts else set())


@pytest.mark.parametrize("name", ["llama-3.2-11b-vision", "qwen3-8b", "llama-3-8b"])
def test_queries_and_keys_of_images_have_norms_of_their_own(name: str) -> None:
    """Llama 3.2 Vision, in the layers that attend to images alone (modeling_mllama: q_norm and k_norm)."""
    found = of_model(name)
    kinds = [(kind, found.of(kind)) for kind in found.model.layer_kinds]
    assert [bool(_cross_norms(here, kind)) for kind, here in kinds] == [here.model.image_attention for _, here in kinds]
    assert any(here.model.image_attention for _, here in kinds) is (name == "llama-3.2-11b-vision")
