"""What recomputation runs again: all of a layer, up to the last tensor that is needed, or modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import LLAMA, MIXTRAL, framework, job, model

from planner.common.errors import PlannerError
from planner.model.catalog import load_model
from planner.operators.row import Matmul, Row
from planner.operators.setting import distinct_axes
from planner.operators.table import build_table, dropped_by, redone_by
from planner.workload.layout import Layout, as_columns


def layer(fields: dict[str, Any], stack: str, layout: Layout, load: float = 1.0, **changes: object) -> dict[str, float]:
    """Sums over the rows of one layer: flops forward and redone, bytes saved; the fullest rank has ``load`` times the mean."""
    found, _ = distinct_axes(as_columns(layout, 8), model(fields), framework(stack).replaced(**changes), job(expert_load=load))
    rows = next(iter(build_table(found).layers.values()))
    total = {phase: sum(float(np.max(r.flops)) for r in rows if r.phase == phase) for phase in ("forward", "recompute")}
    total["saved"] = sum(float(np.max(r.saved_bytes)) for r in rows)
    total["out"] = next(float(np.max(r.flops)) for r in rows if r.name == "out projection" and r.phase == "forward")
    return total


def test_a_checkpoint_that_stops_early_spares_the_last_multiplication() -> None:
    """torch.utils.checkpoint, non-reentrant: it ends when every tensor that backward needs is there again."""
    whole = layer(LLAMA, "fsdp", Layout(zero=3, recompute="full"), checkpoint_stops_early=False)
    early = layer(LLAMA, "fsdp", Layout(zero=3, recompute="full"))
    assert whole["recompute"] == pytest.approx(whole["forward"])
    assert early["recompute"] == pytest.approx(whole["forward"] - whole["out"])
    assert early["saved"] == whole["saved"]


def test_a_norm_behind_the_last_multiplication_needs_its_output_again() -> None:
    """Gemma2DecoderLayer: norm, attention, norm, norm, feed-forward, norm; a norm keeps its input."""
    gemma = {**LLAMA, "norms_per_layer": 4}
    early = layer(gemma, "fsdp", Layout(zero=3, recompute="full"))
    assert early["recompute"] == pytest.approx(early["forward"])


@pytest.mark.parametrize("fields", [LLAMA, MIXTRAL])
def test_each_module_spares_memory_and_costs_its_own_work(fields: dict[str, Any]) -> None:
    def kept(*modules: str) -> dict[str, float]:
        return layer(fields, "megatron-core", Layout(recompute="selective"), recompute_modules=frozenset(modules))

    plain = layer(fields, "megatron-core", Layout())
    names = ("core_attn", "layernorm", *(("moe_act", "moe") if fields is MIXTRAL else ("mlp",)))
    for name in names:
        some = kept(name)
        assert some["saved"] < plain["saved"]
        assert some["recompute"] >= 0.0
    everything, full = kept(*names), layer(fields, "megatron-core", Layout(recompute="full"))
    assert full["saved"] < everything["saved"] < min(kept(name)["saved"] for name in names)
    assert everything["recompute"] < full["recompute"]


def test_the_attention_core_is_what_selective_means_unless_told() -> None:
    usual = layer(LLAMA, "megatron-core", Layout(recompute="selective"))
    assert usual == layer(LLAMA, "megatron-core", Layout(recompute="selective"), recompute_modules=frozenset(("core_attn",)))


def test_torchtitan_keeps_what_an_exchange_of_tokens_brought() -> None:
    """Its list of operators to save has all_to_all_single: two exchanges of top_k w t h bytes a layer with spread experts."""
    here = layer(MIXTRAL, "torchtitan", Layout(zero=3, recompute="selective"))
    spread = layer(MIXTRAL, "torchtitan", Layout(zero=3, ep=8, recompute="selective"))
    tokens, fields = job().seq_len, model(MIXTRAL)
    exchanged = 2.0 * 2.0 * fields.top_k * tokens * fields.hidden_size
    assert spread["saved"] - here["saved"] == pytest.approx(exchanged)
    # of uneven experts the fullest rank keeps what it got; what comes back are each rank's own pairs (models/moe.py:
    # routed_output has bs * slen * top_k rows after self.experts, whose hooks dispatch and combine)
    uneven = layer(MIXTRAL, "torchtitan", Layout(zero=3, ep=8, recompute="selective"), load=1.5)
    assert uneven["saved"] - here["saved"] == pytest.approx(exchanged * (1.5 + 1.0) / 2.0)
    whole = layer(MIXTRAL, "torchtitan", Layout(zero=3, ep=8, recompute="full"))
    assert whole["saved"] == pytest.approx(2.0 * tokens * fields.hidden_size)


def test_autocast_casts_every_weight_of_a_layer_and_its_gradient() -> None:
    """fp32 read and 16 bit written, and back: 6 bytes a weight each way; weights in 16 bit are not cast."""
    found, _ = distinct_axes(as_columns(Layout(), 8), model(LLAMA), framework("huggingface"), job())
    rows = next(iter(build_table(found).layers.values()))
    weights = sum(float(np.max(r.parameters)) for r in rows if r.phase == "forward" and isinstance(r.work, Matmul))
    casts = {r.phase: float(np.max(r.bytes_moved)) for r in rows if r.name.startswith("weights cast")}
    assert casts == pytest.approx({"forward": 6.0 * weights, "backward": 6.0 * weights})
    plain, _ = distinct_axes(as_columns(Layout(), 8), model(LLAMA), framework("megatron-core"), job())
    assert not any(r.name.startswith("weights cast") for r in next(iter(build_table(plain).layers.values())))


def test_torchtitan_redoes_every_second_multiplication_but_the_router_that_it_always_redoes() -> None:
    """distributed/activation_checkpoint.py: of latent attention wq, wkv_b, a shared expert's w1 and w2 stay; wkv_a, wo, w3 do
    not. The layer's input, attention's output and its log-sums stay, too."""
    m = load_model("deepseek-v2-lite")
    asked = job(seq_len=64)
    found, _ = distinct_axes(as_columns(Layout(zero=3, recompute="selective"), 8), m, framework("torchtitan"), asked)
    (rows,) = (rows for kind, rows in build_table(found).layers.items() if kind.moe)
    saved = sum(float(np.max(row.saved_bytes)) for row in rows) / asked.seq_len
    queries, values = 16 * (128 + 64), 16 * 128  # heads; their parts without and with a position
    kept = queries + 16 * (128 + 128) + 2 * 1408 + 2048  # wq, wkv_b, w1 and w2 of two shared experts
    assert saved == 2 * kept + 2 * 2048 + 2 * values + 4 * 16


def test_a_loss_in_chunks_holds_the_logits_of_one() -> None:
    """torchtitan, components/loss.py: eight chunks, each forward and backward before the next."""

    def loss(**changes: Any) -> Row:
        found, _ = distinct_axes(as_columns(Layout(zero=3), 8), model(LLAMA), framework("torchtitan").replaced(**changes), job())
        return next(r for r in build_table(found).head if r.name == "cross-entropy" and r.phase == "forward")

    def live(row: Row) -> float:
        return float(np.max(row.saved_bytes + row.workspace_bytes))

    tokens, m = float(job().seq_len), model(LLAMA)
    whole, labels = loss(release="0.2"), 8.0 * tokens
    held = (2.0 + 2.0 + 4.0) * tokens * m.hidden_size  # the input's gradient, the chunks' own inputs, the fp32 sum of gradients
    assert live(loss()) - labels - held == pytest.approx((live(whole) - labels) / 8)
    assert float(np.max(loss().saved_bytes)) == 2.0 * tokens * m.hidden_size + labels
    assert loss().bytes_moved == whole.bytes_moved
    assert live(loss(chunked_loss=64)) < live(loss()) < live(whole)


def test_a_loss_in_chunks_multiplies_and_sums_chunk_by_chunk() -> None:
    """Each chunk reads the output layer and writes a gradient of it; the first is cast to fp32, the others are added to it."""

    def logits(precision: str = "bf16", **changes: Any) -> dict[str, Row]:
        asked, stack = job(precision=precision), framework("torchtitan").replaced(**changes)
        found, _ = distinct_axes(as_columns(Layout(zero=3), 8), model(LLAMA), stack, asked)
        return {str(r.name): r for r in build_table(found).head if r.operator == "logits" and r.collective is None}

    once, many = logits(release="0.2"), logits()
    weights = float(model(LLAMA).hidden_size * model(LLAMA).vocab_size)
    for name, row in once.items():
        assert float(np.max(many[name].flops)) == float(np.max(row.flops))
        assert float(np.max(many[name].bytes_moved - row.bytes_moved)) == pytest.approx(7 * 2 * weights)
        assert float(np.max(many[name].kernels)) == 8 * float(np.max(row.kernels))
    (extra,) = (row for name, row in many.items() if name not in once)
    assert float(np.max(extra.bytes_moved)) == (2 + 4 + 7 * (2 + 4 + 4)) * weights
    assert float(np.max(extra.kernels)) == 8
    (same,) = (row for name, row in logits("bf16-pure").items() if name == extra.name)
    assert float(np.max(same.bytes_moved)) == 7 * 3 * 2 * weights


@pytest.mark.parametrize(
    ("changes", "bytes_a_logit"), [({}, 2.0 + 4.0), ({"compile": True}, 2.0), ({"compile": True, "release": "0.0"}, 6.0)]
)
def test_a_compiled_loss_keeps_logits_in_16_bit_only(changes: dict[str, Any], bytes_a_logit: float) -> None:
    """pytorch/torchtitan#1033; before it (release 0.0) layers alone were compiled."""
    stack = framework("torchtitan").replaced(**{"release": "0.2", **changes})
    found, _ = distinct_axes(as_columns(Layout(zero=3), 8), model(LLAMA), stack, job())
    loss = next(r for r in build_table(found).head if r.name == "cross-entropy" and r.phase == "forward")
    logits = float(job().seq_len * model(LLAMA).vocab_size)
    labels = 8.0 * job().seq_len
    assert float(np.max(loss.saved_bytes)) == pytest.approx(bytes_a_logit * logits + labels)


def test_biases_of_grouped_experts_cost_passes_over_their_outputs() -> None:
    def moved(**fields: Any) -> float:
        found, _ = distinct_axes(as_columns(Layout(ep=8), 8), model({**MIXTRAL, **fields}), framework("megatron-core"), job())
        return sum(float(np.max(r.bytes_moved)) for r in next(iter(build_table(found).layers.values())) if r.block == "moe")

    fields = model(MIXTRAL)
    pairs = float(fields.top_k * job().seq_len)
    assert moved(ffn_bias=True) - moved() > (28.0 + 36.0) * pairs * fields.hidden_size


MODULES = ("core_attn", "layernorm", "mlp", "moe", "moe_act", "mla_up_proj")


@pytest.mark.parametrize(
    ("block", "operator", "core", "dropped", "redone"),
    [
        # Megatron-Core, transformer_config.py, recompute_modules: what keeps its input only, and what drops its output
        ("attention", "softmax", True, {"core_attn"}, {"core_attn"}),
        ("norm", "norm", False, set(), {"layernorm"}),
        ("attention", "query key value", False, {"layernorm"}, set()),
        ("attention", "query down", False, {"layernorm"}, set()),
        ("attention", "key value down", False, {"layernorm"}, set()),
        ("attention", "query", False, {"layernorm"}, set()),
        ("attention", "query up", False, set(), {"mla_up_proj"}),
        ("attention", "key value up", False, set(), {"mla_up_proj"}),
        ("attention", "query latent norm", False, set(), {"mla_up_proj"}),
        ("attention", "key value latent norm", False, set(), {"mla_up_proj"}),
        ("attention", "queries, keys, values kept", False, {"mla_up_proj"}, set()),
        ("attention", "output projection", False, set(), set()),
        ("feed_forward", "in projection", False, {"layernorm"}, {"mlp"}),
        ("feed_forward", "activation", False, {"mlp"}, {"mlp"}),
        ("feed_forward", "out projection", False, {"mlp"}, {"mlp"}),
        ("moe", "router", False, {"layernorm"}, {"moe"}),
        ("moe", "in projection", False, {"moe"}, {"moe"}),
        ("moe", "activation", False, {"moe"}, {"moe", "moe_act"}),
        ("moe", "out projection", False, {"moe", "moe_act"}, {"moe"}),
        ("shared_expert", "in projection", False, {"moe"}, {"moe"}),
        ("shared_expert", "activation", False, {"moe"}, {"moe"}),
        ("shared_expert", "out projection", False, {"moe"}, {"moe"}),
    ],
)
def test_modules_that_spare_and_that_redo_a_row(
    block: str, operator: str, core: bool, dropped: set[str], redone: set[str]
) -> None:
    row = Row(name=operator, operator=operator, block=block, phase="forward", core=core)
    assert {module for module in MODULES if dropped_by(row, frozenset((module,)))} == dropped
    assert {module for module in MODULES if redone_by(row, frozenset((module,)))} == redone
    assert not dropped_by(row, frozenset())
    assert not redone_by(row, frozenset())


@pytest.mark.parametrize("count", [1, 4])
def test_norms_behind_the_blocks_are_one_a_block(count: int) -> None:
    """Of one norm a layer, or four, nothing would stand elsewhere: what has no effect is refused."""
    with pytest.raises(PlannerError, match=f"norm_placement = 'after' with norms_per_layer = {count}: .* 2 here"):
        load_model("llama-3-8b").replaced(norm_placement="after", norms_per_layer=count)
