"""Rows beside attention and feed-forward, counted by hand: bytes each way, kernels, what is kept, of the released models' sizes.

As in ``test_bytes_by_hand``: a tensor that a kernel reads or writes is counted once.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from examples import GPT, LLAMA, MIXTRAL, setting
from row_examples import B, S, T, amount, both, of_model, one, small

from planner.model.huggingface import model_from_config
from planner.operators.adapter import _scaled
from planner.operators.attention import attention, cross_attention
from planner.operators.embedding import encoder_ends
from planner.operators.feed_forward import feed_forward
from planner.operators.head import cross_entropy, head
from planner.operators.mixer import mixer
from planner.operators.moe import mixture_of_experts
from planner.operators.optimizer import low_rank_s, optimizer_row, updated_tensors
from planner.operators.routing import drawn_shares, kept_pairs
from planner.operators.row import Matmul, Row, recomputed
from planner.operators.setting import Setting, distinct_axes
from planner.operators.table import Table, build_table
from planner.workload.adapters import tuned_model
from planner.workload.framework import framework_names, load_framework
from planner.workload.layout import Layout, as_columns
from planner.workload.precision import precisions
from planner.workload.resolve import as_framework, as_job, as_model


def kernels(rows: tuple[Row, ...], name: str) -> tuple[float, float]:
    """Launched forward and backward."""
    return amount(one(rows, name), "kernels"), amount(one(rows, f"{name} gradient"), "kernels")


def kept(rows: tuple[Row, ...], name: str) -> float:
    """From forward to backward."""
    return amount(one(rows, name), "saved_bytes")


# --- attention --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fused", "rotated", "others"), [(True, 2, 0), (False, 11, 2 * (128 + 64))])
def test_latent_attention_puts_queries_keys_and_values_together(fused: bool, rotated: int, others: int) -> None:
    """DeepSeek-V2-Lite: 16 heads of 128 + 64, values of 128. A head's key and value come together and leave apart, the key with a
    copy of the rotated part; of the query the rotated 64 are read and written, and where no kernel does both, all is joined."""
    there = of_model("deepseek-v2-lite")
    there = replace(there, framework=there.framework.replaced(fused_rotary=fused))
    rows = attention(there, there.model.layer_kinds[0])
    numbers = rotated * 64 + others + (128 + 128) + (128 + 64 + 128)
    assert both(rows, "rotary") == (2 * T * 16 * numbers,) * 2
    # of queries and of keys: times the cosine, a half negated, joined, times the sine, summed
    assert kernels(rows, "rotary") == ((2, 2) if fused else (2 * 5, 2 * 5))


def test_scores_that_are_dropped_are_read_and_written_with_a_mask_of_a_byte() -> None:
    """Korthikanti et al. 2022, section 4.1: the mask, a s^2 b, and the output, 2 a s^2 b."""
    there = small(GPT, "megatron-2022")
    rows = attention(there, there.model.layer_kinds[0])
    scores = B * 8 * S * S
    assert both(rows, "attention dropout") == ((2 + 2 + 1) * scores,) * 2
    assert kept(rows, "attention dropout") == (1 + 2) * scores
    assert amount(one(rows, "softmax"), "workspace_bytes") == 2 * 2 * scores  # their gradient before and behind the softmax


@pytest.mark.parametrize(
    ("fused", "forward", "backward"), [(True, 2 + 1 + 2 + 2, 2 + 1 + 2), (False, 2 + 2 + 1 + 6, 2 + 2 + 1 + 4)]
)
def test_a_dropped_sum_is_one_kernel_or_two(fused: bool, forward: int, backward: int) -> None:
    """The block's output and the residual stream in, their sum out, with a mask of a byte; apart, the dropped output passes
    memory once more."""
    there = small(GPT, fused_dropout=fused)
    rows, elements = feed_forward(there, there.model.layer_kinds[0]), T * 512
    assert both(rows, "dropout and residual") == (forward * elements, backward * elements)
    assert kernels(rows, "dropout and residual") == ((1, 1) if fused else (2, 2))
    assert kept(rows, "dropout and residual") == elements


def test_relative_positions_are_scored_shifted_and_added() -> None:
    """Transformer-XL (Dai et al. 2019, section 3.3, appendix B): 256 tokens and 64 of memory. Scores of positions cost what those
    of contents do; they are copied by the shift, read and written, and added, two read and one written; keys and values of the
    memory are projected anew."""
    fields_ = {**LLAMA, "num_kv_heads": 8, "relative_attention": True, "memory_length": 64}
    there = setting(fields_, "huggingface", Layout(micro_batch_size=B), {"attention_kernel": "eager"}, seq_len=S)
    rows = attention(there, there.model.layer_kinds[0])
    pairs = B * 8 * 256 * (256 + 64)
    for name in ("scores", "position scores"):
        assert [amount(row, "flops") for row in rows if row.operator == name] == [2 * pairs * 64] * 3
    assert both(rows, "relative shift") == ((2 + 3) * 2 * pairs, 4 * 2 * pairs)
    assert kernels(rows, "relative shift") == (3, 3)
    assert amount(one(rows, "query key value"), "flops") == 2 * B * (256 + 64) * 512 * 3 * 512


def test_scores_against_distances_are_products_that_are_looked_up() -> None:
    """DeBERTa-v3-base (arXiv 2006.03654, section 3.1): 512 distances, 12 heads of 64. Backward the two indices of 8 bytes are
    read again, six numbers of 16 bit read and as many written, and the gradients of both products zeroed, then added to."""
    stack, asked = as_framework("huggingface").replaced(attention_kernel="eager"), {"seq_len": S, "global_batch_size": 64}
    columns, job = as_columns(Layout(dp=1, micro_batch_size=B), 1), as_job({**asked, "precision": "bf16"})
    there, _ = distinct_axes(columns, as_model("deberta-v3-base"), stack, job)
    rows = tuple(build_table(there).rows())
    pairs, wide = 12 * B * S * S, 12 * B * S * 512
    assert amount(one(rows, "positions' query key"), "flops") == 2 * 512 * 768 * 2 * 768
    for name in ("content to position", "position to content"):
        assert amount(one(rows, name), "flops") == 2 * wide * 64
        assert kept(rows, name) == 2 * 12 * B * 512 * 64  # the table, copied for each sequence
    assert amount(one(rows, "position scores gathered gradient")) == (2 * 8 + 12 * 2) * pairs + 2 * (1 + 1) * 2 * wide
    assert amount(one(rows, "position scores gathered"), "workspace_bytes") == 2 * 2 * wide


@pytest.mark.parametrize(("letter", "lanes", "ratio"), [("C", 2, 4), ("H", 1, 128)])
def test_runs_of_tokens_become_one_key(letter: str, lanes: int, ratio: int) -> None:
    """DeepSeek-V4: of each token 512 numbers and as many weights, twice where runs overlap; one key of a run, and of the indexer
    one of 128. Backward reads what forward did and writes as much."""
    there = of_model("deepseek-v4-flash")
    kind = next(k for k in there.model.layer_kinds if there.model.of(k).compress_ratio == ratio)
    rows = attention(there.of(kind), kind)
    for name, width in (("compressor", 512), *((("index key", 128),) if letter == "C" else ())):
        read, made = T * 2 * lanes * width, T / ratio * width
        assert both(rows, f"{name} sum") == (2 * (read + made), 2 * (2 * read + made))
        assert kept(rows, f"{name} sum") == 2 * read
        assert amount(one(rows, name), "flops") == 2 * T * 4096 * 2 * lanes * width
    assert kept(rows, "queries, keys, values kept") == 2 * T * 512 * (64 + 1 + 1 / ratio)


@pytest.mark.parametrize(("ratio", "most"), [(4, 512), (128, 0)])
@pytest.mark.parametrize("length", [256, 16384])
def test_a_query_sees_its_window_and_runs_of_what_is_in_front(length: int, ratio: int, most: int) -> None:
    """DeepSeek-V4: 128 tokens, and of those in front one key for 4 of which the best 512 count, or for 128; the convention counts
    what the last query sees."""
    there = of_model("deepseek-v4-flash", seq_len=length)
    kind = next(k for k in there.model.layer_kinds if there.model.of(k).compress_ratio == ratio)
    runs = [min(t / ratio, most or np.inf) for t in np.linspace(0, length, 20_001)]
    seen, convention = there.of(kind).keys(kind)
    assert seen == pytest.approx(np.mean([min(t + 1, 128) for t in range(length)]) + np.mean(runs), rel=1e-3)
    assert convention == 128 + runs[-1]


@pytest.mark.parametrize("window", [64, 256, 1000])
def test_a_query_of_a_window_sees_what_is_in_front_of_it(window: int) -> None:
    there = small({**LLAMA, "sliding_window": window})
    kind = there.model.layer_kinds[0]._replace(sliding=True)
    seen = np.mean([min(t + 1, window) for t in range(S)])
    assert there.keys(kind) == (pytest.approx(seen), min(window, S))
    assert there.keys(kind._replace(sliding=False)) == (pytest.approx((S + 1) / 2), S)


@pytest.mark.parametrize("frozen", [False, True])
def test_what_images_add_is_scaled_by_a_learned_number(frozen: bool) -> None:
    """Llama 3.2 Vision: tanh of a number times the outputs of attention and feed-forward of 4,096: read and written, backward the
    output too, which is kept where the number trains."""
    there = of_model("llama-3.2-11b-vision", "huggingface", images=2.0, precision="bf16-pure")
    if frozen:
        there = replace(there, job=there.job.replaced(kind="lora", adapter={"rank": 8}))
    kind = next(k for k in there.model.layer_kinds if there.model.of(k).image_attention)
    rows = cross_attention(there.of(kind), kind)
    elements = 2 * T * 4096
    assert both(rows, "learned scales") == (2 * 2 * elements, 3 * 2 * elements)
    assert kept(rows, "learned scales") == (0 if frozen else 2 * elements)
    assert kernels(rows, "learned scales") == (2, 2)
    assert [row.name for row in rows].count("cross source gradient sum") == (0 if frozen else 1)
    (ends,) = encoder_ends(there)
    assert amount(ends, "saved_bytes") == 2 * B * 2 * there.model.tokens_per_image * 4096
    # norms of 32 heads of queries and 8 of keys, of 128 each
    elements = 128 * (T * 32 + B * 2 * there.model.tokens_per_image * 8)
    fused = replace(there, framework=there.framework.replaced(fused_norm=True))
    assert both(cross_attention(fused.of(kind), kind), "cross query key norm") == (2 * 2 * elements, 4 * 2 * elements)


# --- experts ----------------------------------------------------------------------------------------------------------


def experts(stack: str, layout: Layout | None = None, of: dict[str, Any] | None = None, **changes: Any) -> tuple[Setting, Any]:
    """A layer of experts under an even router."""
    layout = layout or Layout(micro_batch_size=B, dp=1)
    there = setting({**MIXTRAL, **(of or {})}, stack, layout, changes, seq_len=S, routing="forced")
    return there, mixture_of_experts(there, there.model.layer_kinds[0])


@pytest.mark.parametrize("ep", [1, 4])
def test_biases_of_experts_are_added_expert_by_expert(ep: int) -> None:
    """NVIDIA-NeMo/Automodel#3387, bytes an element: 16-bit product of bias and probability (4), sum (2 + 4 + 4), parts joined
    (8), cast (4 + 2). Backward a cast (6), two products read, written and summed (12 each), a cast (6). Of each expert a product
    and a sum, backward two each; beside them joining and cast, and both casts."""
    _, rows = experts("megatron-core", Layout(ep=ep, dp=ep, micro_batch_size=B), {"ffn_bias": True})
    elements = 2 * T * 512
    assert both(rows, "expert biases") == ((4 + 10 + 8 + 6) * elements, (6 + 2 * 12 + 6) * elements)
    assert kernels(rows, "expert biases") == (2 * 8 / ep + 2, 4 * 8 / ep + 2)


@pytest.mark.parametrize("ep", [1, 2])
def test_a_loop_over_experts_launches_for_each_of_them(ep: int) -> None:
    """Its tokens are found, gathered and, behind the products, weighed and added: three kernels before, three after; each product
    one, gate and up of separate matrices as one, the eager activation two."""
    _, rows = experts("huggingface", Layout(ep=ep, dp=ep, micro_batch_size=B), grouped_experts=False, fused_activation=False)
    local = 8 / ep
    for name, launched in (("permute", 3), ("unpermute", 3), ("activation", 2)):
        assert kernels(rows, name) == (launched * local,) * 2, name
    products = {row.operator: amount(row, "kernels") for row in rows if row.operator in ("in projection", "out projection")}
    assert products == {"in projection": local, "out projection": local}


@pytest.mark.parametrize("slice_s", [None, 5e-5])
def test_a_grouped_product_that_is_a_loop_slices_for_each_expert(slice_s: float | None) -> None:
    stack = {"grouped_kernel": "loop", "grouped_experts": True, "host_s_per_kernel": 1e-5, "host_s_per_group": slice_s}
    _, rows = experts("megatron-core", None, None, **stack)
    more = 0.0 if slice_s is None else 8 * (5e-5 - 1e-5)
    products = [row for row in rows if row.operator in ("in projection", "out projection")]
    assert [amount(row, "kernels") for row in products] == [8] * 6
    assert [amount(row, "host_s") for row in products] == pytest.approx([more] * 6)
    assert kernels(rows, "activation") == (1, 1)  # over all groups' tokens


@pytest.mark.parametrize(
    ("dispatcher", "ep", "vectors"),
    [
        ("alltoall", 4, 2 + 1),  # a token is read once and written for each of its two experts
        ("alltoall", 1, 2 + 1),
        ("deepep", 4, 2 + 4 * (1 - (3 / 4) ** 2)),  # it arrives once on each rank of its experts
        ("deepep", 1, 2 + 1),
        ("hybridep", 4, 0),  # the exchange itself permutes
        ("hybridep", 1, 2 + 1),
    ],
)
def test_a_token_is_copied_for_each_of_its_experts(dispatcher: str, ep: int, vectors: float) -> None:
    _, rows = experts("megatron-core", Layout(ep=ep, dp=8, micro_batch_size=B), dispatcher=dispatcher)
    for name in ("permute", "unpermute"):
        assert both(rows, name) == pytest.approx((vectors * 2 * T * 512,) * 2), name


@pytest.mark.parametrize(("dispatcher", "vectors"), [("alltoall", 1 + 1 / 2), ("deepep", 1 + 4 * (1 - (3 / 4) ** 2) / 2)])
@pytest.mark.parametrize(("capacity", "pads"), [(None, False), (0.75, False), (1000.0, False), (1.25, True)])
def test_the_pairs_that_are_permuted_are_those_that_are_sent_or_computed(
    dispatcher: str, vectors: float, capacity: float | None, pads: bool
) -> None:
    """Of a token's own rank where each pair travels (those that experts compute over the imbalance), else of the experts'."""
    changes, cut = {"dispatcher": dispatcher, "pads_to_capacity": pads}, Layout(ep=4, dp=4, micro_batch_size=B)
    there = setting({**MIXTRAL, "capacity_factor": capacity}, "megatron-core", cut, changes, seq_len=S, routing_skew=0.8)
    rows = mixture_of_experts(there, there.model.layer_kinds[0])
    product = one(rows, "in projection")
    computed = amount(product, "flops") / (2 * 512 * 3072)
    pairs = computed / amount(product, "imbalance") if dispatcher == "alltoall" else computed
    assert both(rows, "permute") == pytest.approx((vectors * 2 * pairs * 512,) * 2)


@pytest.mark.parametrize(
    ("changes", "gathers", "adds"),
    [
        ({"fused_permutation": True}, 1.0, 1.0),  # a streaming copy, whatever other kernels reach
        ({"fused_permutation": False}, 0.45, 0.1),  # PyTorch's indexing: DLBlas#66
        ({"fused_permutation": False, "compile": True}, None, 0.1),  # gathered as torch.compile's other kernels
        ({"grouped_experts": False}, None, None),  # a loop is counted kernel by kernel
    ],
)
def test_gathers_and_sums_of_tokens_have_their_own_rates(
    changes: dict[str, Any], gathers: float | None, adds: float | None
) -> None:
    _, rows = experts("megatron-core", elementwise_rate=0.8, **changes)
    found = {(row.operator, row.phase): row.own_rate for row in rows if row.operator in ("permute", "unpermute")}
    assert found["permute", "forward"] == found["unpermute", "backward"] == gathers
    assert found["permute", "backward"] == found["unpermute", "forward"] == adds


@pytest.mark.parametrize(("dispatcher", "fused", "pairs"), [("alltoall", False, 2), ("alltoall", True, 3), ("deepep", False, 3)])
def test_outputs_that_are_weighed_are_kept_where_they_are(dispatcher: str, fused: bool, pairs: int) -> None:
    """Of the fullest rank, with half more than the mean: on a token's own rank two for each, else three on the experts'."""
    changes = {"dispatcher": dispatcher, "fused_permutation": fused, "weighs_expert_outputs": True}
    layout = Layout(ep=4, dp=4, micro_batch_size=B)
    there = setting(MIXTRAL, "megatron-core", layout, changes, seq_len=S, expert_load=1.5)
    rows = mixture_of_experts(there, there.model.layer_kinds[0])
    assert kept(rows, "unpermute") == pytest.approx(2 * pairs * T * 512)
    if not fused:
        held = 2 * pairs * T * 512
        assert both(rows, "weigh outputs") == pytest.approx((2 * held, 4 * held))
        assert kernels(rows, "weigh outputs") == (1, 2)
    plain = replace(there, framework=there.framework.replaced(weighs_expert_outputs=False))
    assert kept(mixture_of_experts(plain, plain.model.layer_kinds[0]), "unpermute") == 0.0


@pytest.mark.parametrize(("compiled", "width"), [(False, 4), (True, 2)])
def test_outputs_that_are_weighed_in_fp32_are_kept_so(compiled: bool, width: int) -> None:
    """torchtitan, two pairs a token: casts of 2 + 4 and 4 + 2 and a product of 4 + 4; backward casts of both, the gradient's
    product and that with the outputs, 4 + 4 + 4, and its sum's 4; three fp32 tensors at a time. Compiled, one kernel reads 16
    bit."""
    there = setting(MIXTRAL, "torchtitan", Layout(ep=4, dp=4, micro_batch_size=B), {"compile": compiled}, seq_len=S)
    rows, elements = mixture_of_experts(there, there.model.layer_kinds[0]), 2 * T * 512
    assert kept(rows, "unpermute") == pytest.approx(width * elements)
    if compiled:
        assert not [row for row in rows if row.operator == "weigh outputs"]
        return
    assert both(rows, "weigh outputs") == pytest.approx(((6 + 8 + 6) * elements, (6 + 8 + 12 + 4 + 6) * elements))
    assert kernels(rows, "weigh outputs") == (3, 5)
    assert max(amount(row, "workspace_bytes") for row in rows if row.operator == "weigh outputs") == pytest.approx(12 * elements)


def test_automodels_experts_are_weighed_inside_their_activation() -> None:
    there = setting(MIXTRAL, "automodel", Layout(ep=4, dp=4, micro_batch_size=B), seq_len=S)
    rows = mixture_of_experts(there, there.model.layer_kinds[0])
    assert kept(rows, "unpermute") == 0.0
    assert not [row for row in rows if row.operator == "weigh outputs"]


def test_an_expert_computes_its_share_of_the_pairs() -> None:
    """8 experts on 2 ranks, each cut in two: 4 of them on a rank, an even share of what 2 x 2 T pairs of its group are."""
    _, rows = experts("megatron-core", Layout(ep=2, etp=2, dp=4, micro_batch_size=B))
    into, out = one(rows, "in projection"), one(rows, "out projection")
    assert isinstance(into.work, Matmul)
    assert isinstance(out.work, Matmul)
    shape = [tuple(float(np.ravel(x)[0]) for x in (w.batch, w.m, w.k, w.n)) for w in (into.work, out.work)]
    assert shape == [(4, 4 * T / 4, 512, 1536), (4, 4 * T / 4, 768, 512)]
    assert kept(rows, "in projection") == 2 * 4 * T * 512
    assert kept(rows, "out projection") == 2 * 4 * T * 768


@pytest.mark.parametrize("load", [1.0, 1.5])
def test_of_the_fullest_ranks_flops_the_model_needs_the_means(load: float) -> None:
    there = setting(MIXTRAL, "megatron-core", Layout(ep=4, dp=4, micro_batch_size=B), None, seq_len=S, expert_load=load)
    rows = mixture_of_experts(there, there.model.layer_kinds[0])
    multiplied = [row for row in rows if row.operator in ("in projection", "out projection")]
    assert len(multiplied) == 6, "each forward and twice backward"
    for row in multiplied:
        assert amount(row, "model_flops") == pytest.approx(2 * 2 * T * 512 * (3072 if row.operator[0] == "i" else 1536))
        assert amount(row, "flops") == pytest.approx(load * amount(row, "model_flops"))
        assert amount(row, "imbalance") == load


def test_a_capacity_pads_every_rank_alike() -> None:
    """Switch (Fedus et al. 2021): 1.25 times the mean, computed by all, needed by none."""
    pads, cut = {"pads_to_capacity": True}, Layout(ep=4, dp=4, micro_batch_size=B)
    there = setting({**MIXTRAL, "capacity_factor": 1.25}, "megatron-core", cut, pads, seq_len=S)
    row = one(mixture_of_experts(there, there.model.layer_kinds[0]), "in projection")
    assert amount(row, "flops") == 1.25 * 2 * 2 * T * 512 * 3072
    assert amount(row, "model_flops") == pytest.approx(2 * 2 * T * 512 * 3072)
    assert amount(row, "imbalance") == 1.0


def test_scores_of_experts_pass_six_times_in_fp32() -> None:
    """Softmax, choice, normalization and the loss's means over T x 8 numbers, each way."""
    _, rows = experts("megatron-core")
    assert both(rows, "top-k") == (6 * 4 * T * 8,) * 2
    assert amount(one(rows, "router"), "flops") == 2 * T * 512 * 8
    assert kept(rows, "router") == 2 * T * 512


@pytest.mark.parametrize(("capacity", "skew"), [(0.5, 0.3), (1.0, 0.3), (1.0, 0.8), (1.25, 0.3), (8.0, 0.3)])
def test_what_exceeds_a_capacity_is_dropped_and_nothing_padded(capacity: float, skew: float) -> None:
    """Megatron-Core without --moe-pad-expert-input-to-capacity: experts take their share, at most c. On one rank that is
    what routers keep that are drawn; of eight with an expert each, the fullest has no less and at most c."""
    model_ = {**MIXTRAL, "capacity_factor": capacity}

    def pairs(ep: int) -> tuple[float, float]:
        cut = Layout(ep=ep, dp=8, micro_batch_size=B)
        there = setting(model_, "megatron-core", cut, None, seq_len=S, global_batch_size=8 * B, routing_skew=skew)
        row = one(mixture_of_experts(there, there.model.layer_kinds[0]), "in projection")
        return amount(row, "flops") / (2 * 2 * T * 512 * 3072), amount(row, "imbalance")

    drawn = np.random.default_rng(3)
    scores = skew * drawn.standard_normal((300, 1, 8)) + drawn.standard_normal((300, 400, 8))
    taken = np.argsort(-scores, axis=-1)[..., :2]
    shares = np.array([np.bincount(one_.ravel(), minlength=8) for one_ in taken]) / (400 * 2 / 8)
    kept, alike = pairs(1)
    assert (kept, alike) == (pytest.approx(np.minimum(shares, capacity).mean(), abs=0.04), 1.0)
    fullest, over = pairs(8)
    assert kept <= fullest <= capacity
    assert over == pytest.approx(fullest / kept)


def test_a_forced_router_drops_nothing_below_a_capacity_of_one() -> None:
    for capacity, share in ((0.5, 0.5), (1.0, 1.0), (2.0, 1.0)):
        there = setting({**MIXTRAL, "capacity_factor": capacity}, "megatron-core", Layout(ep=4, dp=4), None, routing="forced")
        assert kept_pairs(there.model, there.job, there.ep)[0] == pytest.approx(share)
        assert amount(one(mixture_of_experts(there, there.model.layer_kinds[0]), "in projection"), "imbalance") == 1.0
    assert kept_pairs(there.model.model_copy(update={"capacity_factor": None}), there.job, there.ep)[0] == 1.0


@pytest.mark.parametrize("skew", [0.3, 0.8])
@pytest.mark.parametrize(("number", "top_k"), [(8, 2), (32, 4)])
def test_experts_that_are_drawn_fill_as_the_shares_say(number: int, top_k: int, skew: float) -> None:
    """Routers drawn at random, and tokens that take the experts of highest score: the share of each place among the experts is
    what is drawn there, to 4 % or a twentieth of the mean."""
    draws, tokens = 400, 600
    drawn = np.random.default_rng(1)
    scores = skew * drawn.standard_normal((draws, 1, number)) + drawn.standard_normal((draws, tokens, number))
    taken = np.argpartition(-scores, top_k - 1, axis=-1)[..., :top_k]
    shares = np.array([np.bincount(one.ravel(), minlength=number) for one in taken]) / (tokens * top_k / number)
    found = np.sort(drawn_shares(number, top_k, skew)).mean(axis=0)
    assert found == pytest.approx(np.sort(shares).mean(axis=0), rel=0.04, abs=0.05)


# --- what mixes tokens in attention's place ---------------------------------------------------------------------------


def mixed(name: str) -> tuple[Setting, tuple[Row, ...]]:
    """The rows of a model's first layer that recurs."""
    there = of_model(name)
    kind = next(k for k in there.model.layer_kinds if there.model.of(k).recurs)
    return there.of(kind), mixer(there.of(kind), kind)


@pytest.mark.parametrize(
    ("name", "heads", "key", "value", "chunk", "flops", "narrow", "wide"),
    [
        # a head's products with its state, and within a chunk three of keys and two of values a token
        ("qwen3-next-80b-a3b", 32, 128, 128, 64, 6 * 128 * 128 + 2 * 64 * (3 + 2) * 128, 3 * 128 + 1 + 64, 2),
        ("kimi-linear-48b-a3b", 32, 128, 128, 64, 6 * 128 * 128 + 2 * 64 * (3 + 2) * 128, 3 * 128 + 1 + 2 * 64, 128),
        ("minimax-m1", 64, 128, 128, 256, 4 * 128 * 128 + 2 * 256 * 2 * 128, 6 * 128, 0),
    ],
)
def test_a_scan_in_chunks_reads_what_it_keeps_and_writes_outputs_and_states(
    name: str, heads: int, key: int, value: int, chunk: int, flops: int, narrow: int, wide: int
) -> None:
    there, rows = mixed(name)
    scan, back = one(rows, "scan"), one(rows, "scan gradient")
    states = 2 * T / chunk * heads * key * value
    moved = T * heads * (2 * narrow + 4 * wide + 2 * value) + states
    assert (amount(scan), amount(back)) == (moved, 3 * moved)
    assert amount(back, "workspace_bytes") == 2 * states
    assert (amount(scan, "flops"), amount(back, "flops")) == (T * heads * flops, 2.5 * T * heads * flops)
    needed = T * heads * (6 if chunk == 64 else 4) * key * value
    assert (amount(scan, "model_flops"), amount(back, "model_flops")) == (needed, 2 * needed)
    for row in (scan, back):  # as products of a chunk's tokens with its keys, one for each head
        assert isinstance(row.work, Matmul)
        assert (row.work.m, row.work.k, float(np.ravel(row.work.batch)[0])) == (chunk, key, T / chunk * heads)
        assert float(np.ravel(row.work.flops)[0]) == pytest.approx(amount(row, "flops"))
        assert row.work.dtype == "bf16"
    assert there.model.mixer in ("gated_delta_net", "kimi_delta", "lightning")


def test_mambas_scan_is_no_product() -> None:
    """Falcon-Mamba 7B: 8,192 channels of 16 states, 9 flops each (Gu and Dao 2023, appendix), x and z, a step's 256, B and C."""
    _, rows = mixed("falcon-mamba-7b")
    scan, back = one(rows, "scan"), one(rows, "scan gradient")
    assert (scan.work, back.work) == (None, None)
    assert (amount(scan, "flops"), amount(back, "flops")) == (9 * T * 8192 * 16, 2.5 * 9 * T * 8192 * 16)
    assert kept(rows, "scan") == 2 * T * (2 * 8192 + 256 + 2 * 16)
    assert (amount(scan), amount(back, "workspace_bytes")) == (kept(rows, "scan") + 2 * T * 8192, 0.0)
    assert "gated norm" not in {row.name for row in rows}
    assert (kept(rows, "convolution"), kernels(rows, "convolution")) == (0.0, (1, 1))


def test_mamba_2s_scan_multiplies_in_chunks_of_128_tokens() -> None:
    """Nemotron 3 Super, 128 heads of 64 with states of 128, keys of 8 groups: 4 flops an element of the state; within a chunk C
    B' once for a group, and its product with the values for each head."""
    _, rows = mixed("nemotron-3-super-120b-a12b")
    scan = one(rows, "scan")
    assert amount(scan, "flops") == T * (4 * 128 * 64 * 128 + 2 * 128 * (128 * 64 + 8 * 128))
    assert amount(scan, "model_flops") == T * 4 * 128 * 64 * 128
    assert kernels(rows, "scan") == (4, 13)
    assert kept(rows, "gated norm") == 2 * T * 128 * 64  # its gate lies in the in-projection, which the scan keeps


def test_a_delta_rules_convolution_keeps_its_input_and_its_norm_both_of_its() -> None:
    """Qwen3-Next: queries and keys of 16 heads of 128, values of 32."""
    _, rows = mixed("qwen3-next-80b-a3b")
    assert kept(rows, "convolution") == 2 * T * (2 * 16 + 32) * 128
    assert kept(rows, "gated norm") == 2 * 2 * T * 32 * 128
    assert kernels(rows, "scan") == (4, 8)


@pytest.mark.parametrize(("kind", "mixtures"), [("rwkv", 5), ("rwkv5", 6)])
def test_time_mixing_mixes_each_token_with_the_one_in_front(kind: str, mixtures: int) -> None:
    """Of the feed-forward's key and receptance, and of receptance, key, value (and gate): two products (2 + 2) and a sum (3);
    both tokens are kept for all."""
    model = model_from_config({"model_type": kind, "hidden_size": 256, "num_hidden_layers": 2, "vocab_size": 512}, kind, "x")
    columns, job = (
        as_columns(Layout(dp=1, micro_batch_size=B), 1),
        as_job({"seq_len": S, "global_batch_size": 64, "precision": "bf16"}),
    )
    there, _ = distinct_axes(columns, model, as_framework("megatron-core"), job)
    rows, elements = mixer(there, model.layer_kinds[0]), T * 256
    assert both(rows, "token shift") == (mixtures * (2 + 2 + 3) * 2 * elements, mixtures * 10 * 2 * elements)
    assert kept(rows, "token shift") == 2 * 2 * elements
    assert kernels(rows, "token shift") == (3 * mixtures,) * 2


# --- ends -------------------------------------------------------------------------------------------------------------


def test_a_masked_models_head_transforms_its_states() -> None:
    """BERT (Devlin et al. 2018): a layer of h x h with an activation and a norm in front of the vocabulary; every rank of tp does
    all of it, of which the model needs one."""
    for tp in (1, 2):
        there = of_model("bert-base-mlm", layout=Layout(tp=tp, micro_batch_size=B))
        rows, elements = head(there), T * 768
        row = one(rows, "transform")
        assert (amount(row, "flops"), amount(row, "model_flops")) == (2 * T * 768 * 768, 2 * T * 768 * 768 / tp)
        assert kept(rows, "transform") == kept(rows, "transform activation") == 2 * elements
        assert both(rows, "transform activation") == (2 * 2 * elements, 3 * 2 * elements)
        assert both(rows, "transform norm") == (2 * 2 * elements, 4 * 2 * elements)


def test_a_loss_in_chunks_holds_a_chunk_of_logits_and_the_gradient_of_its_input() -> None:
    """Hsu et al. 2024, section 3.2: logits are written, read, overwritten by their gradient and read by the products behind it;
    backward scales what forward made. Beside it live the chunk's logits, their gradient and its part of the input's."""
    rows = cross_entropy(small(LLAMA, "fsdp", chunked_loss=True))
    logits, held = T * 1024, 2 * T * 512
    assert both(rows, "cross-entropy") == (4 * 2 * logits, 2 * held)
    row = one(rows, "cross-entropy")
    assert (amount(row, "saved_bytes"), amount(row, "workspace_bytes")) == (held, 3 * held)
    # without logits, nothing but a weight's gradient lies beside the output layer's
    gradient = one(head(small(LLAMA, "fsdp", chunked_loss=True)), "logits input gradient")
    assert amount(gradient, "workspace_bytes") == 2 * 1024 * 512


@pytest.mark.parametrize(
    ("compiled", "forward", "backward", "held", "alive", "launched"),
    [
        # the compiled model's logits are read twice, the log-softmax is written in fp32
        (("never", True), 2 + 2 + 4, 4 + 2 + 2, 4, 4 + 4, 3),
        # and the compiled loss keeps fp32 in registers
        (("always", False), 2 + 2, 2 + 2, 2, 2, 2),
        (("with compile", True), 2 + 2, 2 + 2, 2, 2, 2),
        # kernel by kernel: a cast and the log-softmax; the likelihood's gradient, the log-softmax's and a cast back
        (("with compile", False), (2 + 4) + 4 * 4, 4 + 4 * 4 + (4 + 2), 4, 4 + 4, 6),
    ],
)
def test_a_loss_compiled_or_not(
    compiled: tuple[str, bool], forward: int, backward: int, held: int, alive: int, launched: int
) -> None:
    """Kernels: one for each tensor that is read or written in between, and as many as PyTorch has where nothing is compiled."""
    changes = {"chunked_loss": False, "fused_cross_entropy": False, "logits_kept": False, "extra_logit_bytes": 0.0}
    stack = {**changes, "compiled_loss": compiled[0], "compile": compiled[1]}
    rows, logits = cross_entropy(small(LLAMA, "torchtitan", **stack)), T * 1024
    assert both(rows, "cross-entropy") == (forward * logits, backward * logits)
    row = one(rows, "cross-entropy")
    assert (amount(row, "saved_bytes"), amount(row, "workspace_bytes")) == (held * logits + 8 * T, alive * logits)
    assert amount(row, "kernels") == launched


def test_megatrons_loss_apart_is_as_many_passes_over_fp32() -> None:
    """Korthikanti et al. 2022, section 4.3: 4 s b v are kept, the 16-bit gradient lives beside them. Megatron-LM, unfused: each
    line of tensor_parallel/cross_entropy.py reads fp32, and all but the maximum and the sum write it; 2022's is not in place."""
    logits = T * 1024
    lines = {"float": 2 + 4, "max": 4, "-=": 4 + 4, "exp": 4 + 4, "sum": 4, "div_": 4 + 4}
    back = {"mul_": 4 + 4, "cast": 4 + 2}
    for stack, fused, moved, alive in (
        ("megatron-core", True, (2 + 2 + 8, 4 + 2 + 2), 2),
        ("megatron-core", False, (sum(lines.values()), sum(back.values())), 2),
        ("megatron-2022", False, (sum(lines.values()), sum(back.values())), 2 + 4),
    ):
        rows = cross_entropy(small(LLAMA, stack, fused_cross_entropy=fused))
        row = one(rows, "cross-entropy")
        assert (amount(row, "saved_bytes"), amount(row, "workspace_bytes")) == (4 * logits, alive * logits)
        assert both(rows, "cross-entropy") == (moved[0] * logits, moved[1] * logits)


@pytest.mark.parametrize(
    ("stack", "fused"), [("megatron-core", False), ("megatron-2022", False), ("megatron-bridge", True), ("megatron-fsdp", False)]
)
def test_megatrons_loss_is_fused_where_its_software_says_so(stack: str, fused: bool) -> None:
    """--cross-entropy-loss-fusion is off unless given (core/model_parallel_config.py); recipes of Megatron-Bridge set it."""
    assert load_framework(stack).fused_cross_entropy is fused


@pytest.mark.parametrize("tp", [1, 2])
def test_a_module_for_a_further_token_projects_two_states_to_one(tp: int) -> None:
    """DeepSeek-V3, section 2.2, equation 21: 2 h x h, cut by its outputs; both states are kept."""
    there = setting(LLAMA, "megatron-core", Layout(tp=tp, micro_batch_size=B), seq_len=S, multi_token_prediction=1)
    rows = tuple(row for row in build_table(there).head if row.block == "prediction")
    row = one(rows, "prediction: projection")
    assert amount(row, "flops") == 2 * T * 1024 * 512 / tp
    assert amount(row, "saved_bytes") == 2 * 2 * T * 512
    assert amount(row, "parameters") == 1024 * 512 / tp
    for name in ("state norm", "word norm"):
        assert (amount(one(rows, f"prediction: {name}")), kept(rows, f"prediction: {name}")) == (2 * 2 * T * 512, 2 * T * 512)


def test_a_teacher_in_4_bit_is_unpacked_before_each_product() -> None:
    """Llama 3 70B in nf4 (QLoRA, section 3): 4 bits, one byte of scale for 64 and 4 bytes for 64 x 256 weights of the layers'
    matrices; words, output layer and norms in 16 bit. It only runs forward, and keeps nothing."""
    there = of_model("llama-3-8b", kind="distil", teacher={"model": "llama-3-70b", "precision": "nf4"})
    matrices = 80 * (8192 * (8192 + 2 * 1024) + 8192 * 8192 + 3 * 8192 * 28_672)
    others = 80 * 2 * 8192 + 2 * 128_256 * 8192 + 8192
    packed = 0.5 + 1 / 64 + 4 / (64 * 256)
    rows = [(count, row) for count, some in build_table(there).teacher for row in some]
    assert sum(count * amount(row, "frozen_bytes") for count, row in rows) == packed * matrices + 2 * others
    unpacked = [(count, row) for count, row in rows if row.name.endswith("unpacked")]
    assert sum(count * amount(row) for count, row in unpacked) == (packed + 2) * matrices
    assert {amount(row, "kernels") for _, row in unpacked} == {2.0}
    assert {row.phase for _, row in rows} == {"forward"}
    for field in ("saved_bytes", "workspace_bytes", "parameters"):
        assert {amount(row, field) for _, row in rows} == {0.0}
    assert not [row for _, row in rows if row.operator == "cross-entropy"]


# --- adapters ---------------------------------------------------------------------------------------------------------

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tuned(stack: str = "peft", changes: dict[str, Any] | None = None, precision: str = "bf16-pure", **job: Any) -> Table:
    """A Llama of tests beside adapters of rank 8, which two of its layers carry."""
    asked = {"kind": "lora", "seq_len": S, "global_batch_size": 64, "precision": precision, **job}
    asked["adapter"] = {"rank": 8, "target_modules": ALL, **asked.get("adapter", {})}
    work, columns = as_job(asked), as_columns(Layout(dp=1, micro_batch_size=B), 1)
    found, _ = distinct_axes(columns, tuned_model(as_model(LLAMA), work), as_framework(stack).replaced(**(changes or {})), work)
    return build_table(found)


WIDTHS = {"query": (512, 512), "key": (512, 256), "value": (512, 256), "attention_output": (512, 512)}
WIDTHS |= {"gate": (512, 1536), "up": (512, 1536), "down": (1536, 512)}


@pytest.mark.parametrize("fused", [False, True])
def test_an_adapter_is_two_narrow_products_and_four_behind_them(fused: bool) -> None:
    """Hu et al. 2021, section 4.1: A of k x 8, B of 8 x n. Backward gradients of both and of both their inputs; scaled (2 + 2)
    and added (2 + 2 + 2), or both in one kernel; their gradients are scaled (2 + 2), and summed with the layer's (2 + 2 + 2)."""
    table = tuned(changes={"fused_adapters": fused}, adapter={"dtype": "same"})
    rows = list(table.layers.values())[-1]
    of_adapters = [row for row in rows if " adapter " in row.name]
    assert sum(amount(row, "parameters") for row in of_adapters) == 8 * sum(k + n for k, n in WIDTHS.values())
    for part, (k, n) in WIDTHS.items():
        own = {row.name.partition(" adapter ")[2]: row for row in of_adapters if row.name.startswith(f"{part} adapter ")}
        narrow, wide = 2 * T * k * 8, 2 * T * 8 * n
        flops = {"A": narrow, "B": wide, "B gradient": wide, "B input gradient": wide}
        flops |= {"A gradient": narrow, "A input gradient": narrow}
        assert {name: amount(row, "flops") for name, row in own.items() if row.work is not None} == flops
        for name, row in own.items():
            if row.work is not None:
                inner = k if name[0] == "A" else n
                assert amount(row) == 2 * (T * inner + inner * 8 + T * 8), name
                assert amount(row, "kernels") == 1.0
        assert amount(own["B"], "saved_bytes") == 2 * T * 8
        assert (amount(own["sum"]), amount(own["sum"], "kernels")) == ((3 * 2 * T * n, 1) if fused else (5 * 2 * T * n, 2))
        assert ("sum gradient" in own) is not fused
        if not fused:
            assert amount(own["sum gradient"]) == 2 * 2 * T * n
        assert amount(own["input gradient sum"]) == 3 * 2 * T * k


@pytest.mark.parametrize(
    ("stack", "asked", "of_matrices"),
    [
        ("peft", {}, 2),
        ("peft", {"precision": "fp32"}, 4),
        ("megatron-core", {"precision": "fp8"}, 2 + 2 * 1),  # Transformer Engine holds both ways in 8 bit beside 16
        ("peft", {"kind": "qlora"}, 0.5 + 1 / 64 + 4 / (64 * 256)),
        ("peft", {"kind": "gptq-lora"}, 0.5 + 2.5 / 128),
    ],
)
def test_frozen_weights_of_a_layer_lie_there_as_they_are_stored(stack: str, asked: dict[str, Any], of_matrices: float) -> None:
    """Seven matrices as they are packed or copied; two norms in the model's own type."""
    rows = list(tuned(stack, **asked).layers.values())[-1]
    matrices = sum(k * n for k, n in WIDTHS.values())
    plain = 4 if asked.get("precision") == "fp32" else 2
    plain = 4 if asked.get("kind") == "qlora" and as_framework(stack).upcasts_unquantized else plain
    assert sum(amount(row, "frozen_bytes") for row in rows) == pytest.approx(of_matrices * matrices + plain * 2 * 512)
    assert not [row for row in rows if row.role == "weight gradient"]


def test_a_frozen_layer_passes_gradients_and_exchanges_them_for_its_inputs_alone() -> None:
    """Adapters on the feed-forward, tp 2 with sequences cut, inputs gathered again: of attention nothing is gathered for
    gradients of weights that do not train; of the feed-forward beside the input's gradient, as without adapters."""
    asked = {"kind": "lora", "seq_len": S, "global_batch_size": 64, "adapter": {"rank": 8, "target_modules": ["up_proj"]}}
    work, layout = as_job(asked), Layout(tp=2, sequence_parallel=True, micro_batch_size=B)
    stack = as_framework("megatron-core").replaced(gathers_input_again=True)
    there, _ = distinct_axes(as_columns(layout, 2), tuned_model(as_model(LLAMA), work), stack, work)
    rows = list(build_table(there).layers.values())[-1]
    again = [row for row in rows if row.operator == "gather sequence again" and amount(row, "communication_bytes")]
    assert [(row.block, None if row.beside is None else row.beside.role) for row in again] == [("feed_forward", "input gradient")]
    scattered = [row for row in rows if row.operator == "scatter input gradient" and amount(row, "communication_bytes")]
    assert [(row.block, row.beside) for row in scattered] == [("attention", None), ("feed_forward", None)]


def test_int8_scales_tokens_and_results() -> None:
    """Dettmers et al. 2022, section 3: a token's numbers are read for their maxima and for the cast, one byte each written; int32
    results are read and written in 16 bit. Row maxima, cast, outliers' columns, their product, scaling and sum: six kernels."""
    rows = list(tuned(kind="qlora", quantization={"format": "int8"}).layers.values())[-1]
    for name, k, n in (("output projection", 512, 512), ("out projection", 1536, 512)):
        row = one(rows, f"{name} int8 casts")
        assert (amount(row), row.phase) == ((2 + 2 + 1) * T * k + (4 + 2) * T * n, "forward")
        assert amount(row, "kernels") == 6.0


@pytest.mark.parametrize(("dtype", "width"), [("fp32", 4), ("same", 2)])
@pytest.mark.parametrize("module", ["embed_tokens", "lm_head"])
def test_a_module_that_trains_beside_adapters_is_a_copy(module: str, dtype: str, width: int) -> None:
    """peft, ModulesToSaveWrapper: the frozen weights stay, in 16 bit, and a copy of them trains in that type, which counts as so
    many parameters of the adapters' type as have its bytes."""
    table, words = tuned(adapter={"modules_to_save": [module], "dtype": dtype}), 1024 * 512
    held = {row.name: row for row in (*table.embedding, *table.head)}
    ends = (held["look up"], held["logits"])
    assert [amount(row, "parameters") for row in ends] == [0.0, 0.0]
    assert [amount(row, "frozen_bytes") for row in ends] == [2 * words, 2 * (words + 512)]  # the last norm lies with the head
    assert width * amount(held["trained copy"], "parameters") == 2 * words
    roles = {row.role for row in table.head if row.operator == "logits"}
    assert ("weight gradient" in roles) is (module == "lm_head")
    backward = [row for row in table.embedding if row.operator == "look up" and row.phase == "backward"]
    assert bool(backward) is (module == "embed_tokens")


def test_nothing_flows_below_the_lowest_adapter() -> None:
    """Of four layers the last carries adapters: backward the others do nothing, until checkpoints make all of them run again."""
    for recompute, runs in (("none", False), ("full", True)):
        work = as_job({"kind": "lora", "seq_len": S, "global_batch_size": 64, "adapter": {"rank": 8, "last_layers": 1}})
        columns = as_columns(Layout(dp=1, micro_batch_size=B, recompute=recompute), 1)  # type: ignore[arg-type]
        found, _ = distinct_axes(columns, tuned_model(as_model(LLAMA), work), as_framework("peft"), work)
        table = build_table(found)
        carried = {kind: any(" adapter " in row.name for row in rows) for kind, rows in table.layers.items()}
        assert sorted(carried.values()) == [False, True]
        for kind, rows in table.layers.items():
            back = [row for row in rows if row.phase == "backward" and row.operator]
            for field in ("flops", "kernels", "workspace_bytes"):
                assert bool(sum(amount(row, field) for row in back)) is (carried[kind] or runs)
            kept_ = sum(amount(row, "saved_bytes") for row in rows)
            assert bool(kept_) is (carried[kind] or runs)


# --- a row done again, or in part -------------------------------------------------------------------------------------

FULL = Row(
    name="x", block="b", phase="forward", operator="x", has_weight=True, flops=2.0, model_flops=4.0, masked_flops=8.0,
    bytes_moved=16.0, saved_bytes=32.0, workspace_bytes=64.0, parameters=128.0, frozen_bytes=256.0, shard_group="dense",
    communication_bytes=512.0, kernels=1024.0, host_s=2048.0, idle_s=4096.0,
)  # fmt: skip
AGAIN = {"flops", "bytes_moved", "communication_bytes", "kernels", "host_s", "idle_s"}
"""What a row that is done again takes once more; the model needs it once, and what it keeps and weighs is counted."""


AMOUNTS = {f.name: getattr(FULL, f.name) for f in fields(Row) if isinstance(getattr(FULL, f.name), float)}
AMOUNTS = {name: value for name, value in AMOUNTS.items() if value > 1.0}


@pytest.mark.parametrize("part", [0.0, 0.25, 1.0])
def test_what_is_done_again_costs_its_work_and_nothing_else(part: float) -> None:
    again, some = recomputed(FULL, part), _scaled(FULL, part)
    assert (again.phase, again.shard_group) == ("recompute", None)
    assert {name: getattr(again, name) for name in AMOUNTS} == {
        name: part * value if name in AGAIN else 0.0 for name, value in AMOUNTS.items()
    }
    whole = {"saved_bytes", "parameters", "frozen_bytes", "idle_s"}  # a part of the backward pass has none of them
    assert {name: getattr(some, name) for name in AMOUNTS} == {
        name: value if name in whole else part * value for name, value in AMOUNTS.items()
    }


def test_torchtitan_redoes_every_other_product() -> None:
    """activation_checkpoint.py: of q, k, v, output, gate, up, down those at even places are done again, and what the others gave
    is kept: queries and values, gate, and down; attention's output is, too."""

    def rows(fields_: dict[str, Any]) -> tuple[Row, ...]:
        there = setting(fields_, "torchtitan", Layout(dp=1, micro_batch_size=B, zero=3, recompute="selective"), seq_len=S)
        return next(iter(build_table(there).layers.values()))

    def done(fields_: dict[str, Any]) -> dict[str, float]:
        again = [row for row in rows(fields_) if row.phase == "recompute" and row.role == "product"]
        return {row.operator: amount(row, "flops") for row in again}

    def saved(fields_: dict[str, Any]) -> dict[str, float]:
        return {str(row.name): amount(row, "saved_bytes") for row in rows(fields_) if str(row.name).endswith(" kept")}

    redone = done(LLAMA)
    assert redone == {
        "query key value": 2 * T * 512 * 256,
        "output projection": 2 * T * 512 * 512,
        "in projection": 2 * T * 512 * 1536,
        "out projection": 0.0,
    }
    held = saved(LLAMA)
    assert held["query key value kept"] == 2 * T * (512 + 256)
    assert held["output projection kept"] == 0.0
    assert held["in projection kept"] == 2 * T * 1536
    assert held["out projection kept"] == 2 * T * 512
    assert held["layer input kept"] == 2 * T * 512
    # of q, k, v, output, up, down
    plain = {**LLAMA, "gated_ffn": False, "activation": "gelu"}
    assert done(plain)["in projection"] == 0.0
    assert (saved(plain)["in projection kept"], saved(plain)["out projection kept"]) == (2 * T * 1536, 0.0)


# --- updates ----------------------------------------------------------------------------------------------------------


def test_galores_usual_rank_is_that_of_its_optimizers_in_transformers() -> None:
    """trainer.py: rank 128 and a new projection every 200 steps, where optim_args say nothing."""
    asked = {"seq_len": 1, "global_batch_size": 1, "optimizer": "galore-adamw"}
    plain, given = (low_rank_s(as_model(LLAMA), as_job({**asked, **more}), 1e14) for more in ({}, {"optimizer_rank": 128}))
    assert plain == given


def test_an_update_touches_each_element() -> None:
    """AdamW: about 16 operations an element; one kernel for each of some chunks of tensors, or for each of ten operations."""
    stack = as_framework("megatron-core").replaced(fused_optimizer="fused")
    asked = as_job({"seq_len": 1, "global_batch_size": 1, "precision": "fp32"})
    row = optimizer_row(1e6, 512.0, asked, stack, precisions(asked, stack))
    assert (amount(row, "flops"), amount(row)) == (16e6, (4 + 4 + 2 * 4 + 2 * 8) * 1e6)
    apart = optimizer_row(1e6, 512.0, asked, stack.replaced(fused_optimizer="foreach"), precisions(asked, stack))
    assert amount(apart, "kernels") == 10 * amount(row, "kernels")
    looped = optimizer_row(1e6, 512.0, asked, stack.replaced(fused_optimizer="loop"), precisions(asked, stack), 7.0)
    assert (amount(looped, "kernels"), amount(looped)) == (10 * 7, amount(apart))


def test_a_loop_goes_through_each_tensor_and_fsdp_has_one_of_each_layer() -> None:
    """transformers' GPT-2 has 148: words and positions; twelve layers of four linear layers and two norms, each with a bias; a
    final norm."""
    gpt2 = as_model("gpt2")
    assert updated_tensors(gpt2, as_framework("apex")) == 2 + 12 * (4 + 2) * 2 + 2
    assert updated_tensors(gpt2, as_framework("fsdp")) == 12 + 2


def test_a_layer_costs_the_host_its_bookkeeping_each_way() -> None:
    there = small(LLAMA, host_s_per_layer=3e-4)
    rows = build_table(there).layers[there.model.layer_kinds[0]]
    assert [(row.phase, amount(row, "host_s")) for row in rows if amount(row, "host_s")] == [
        ("forward", 3e-4),
        ("backward", 3e-4),
    ]


def test_a_loss_of_plain_kernels_streams_whatever_the_frameworks_other_kernels_reach() -> None:
    """Megatron's, unfused, is casts, differences and quotients of long rows; other losses run at their framework's rate."""
    for name in framework_names():
        framework = load_framework(name)
        plain = framework.activation_accounting == "megatron" and not framework.fused_cross_entropy
        rows = cross_entropy(setting(LLAMA, name, Layout(dp=1), seq_len=S))
        assert {row.own_rate for row in rows if row.operator == "cross-entropy"} == {1.0 if plain else None}, name
