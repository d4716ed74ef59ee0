"""Rows grow as what they count: with sequences in proportion, with a size of the model as a sum of products, with tensor-parallel
ranks not at all in sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import parts
from row_examples import amount

from planner.model.architecture import Model
from planner.operators.row import FusedAttention, Matmul, Row
from planner.operators.setting import distinct_axes
from planner.operators.table import build_table
from planner.workload.adapters import tuned_model
from planner.workload.framework import Framework
from planner.workload.layout import Layout, as_columns
from planner.workload.resolve import as_framework, as_job, as_model

MODELS = (
    *("gpt2", "bert-large", "llama-3-8b", "gemma-2-9b", "gemma-4-e2b", "t5-base", "mixtral-8x7b", "qwen1.5-moe-a2.7b"),
    *("deepseek-v2-lite", "deepseek-v3.2", "deepseek-v4-flash", "qwen3-next-80b-a3b", "minimax-m1", "jamba-1.5-large"),
    *("falcon-mamba-7b", "falcon-h1-0.5b", "nemotron-3-super-120b-a12b"),
)
STACKS = ("megatron-core", "fsdp", "huggingface")
AMOUNTS = ("flops", "model_flops", "saved_bytes", "workspace_bytes", "communication_bytes")


EAGER = as_framework("huggingface").replaced(attention_kernel="eager")


def rows_of(name: str | Model, stack: str | Framework, layout: Layout, **changes: Any) -> list[Row]:
    """All rows of one micro-batch, forward and backward."""
    model = as_model(name)
    lengths = {"seq_len": 512, "target_len": 256 if model.cross_attention else 0}
    job = as_job({**lengths, "global_batch_size": 64, "routing": "forced", **changes})
    columns = as_columns(layout, layout.tp * layout.cp * layout.pp * (layout.dp or 1))
    setting, _ = distinct_axes(columns, tuned_model(model, job), as_framework(stack), job)
    return [row for row in build_table(setting).rows() if row.phase in ("forward", "backward")]


WEIGHTS = {"weights cast"}
"""Rows beside the multiplications that move weights, once a micro-batch however large it is."""


def of_tokens_alone(row: Row) -> bool:
    """Whether it reads no weight: all that it moves belongs to tokens."""
    return row.operator not in WEIGHTS and (row.work is None or isinstance(row.work, FusedAttention))


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", MODELS)
def test_work_and_kept_bytes_are_in_proportion_to_the_sequences(name: str, stack: str) -> None:
    one, two, three = (rows_of(name, stack, Layout(dp=1, micro_batch_size=b)) for b in (1, 2, 3))
    assert [row.name for row in one] == [row.name for row in three]
    for first, second, third in zip(one, two, three, strict=True):
        for field in AMOUNTS:
            single = amount(first, field)
            if field == "workspace_bytes" and single and amount(third, field) != pytest.approx(3.0 * single, rel=1e-9):
                # gradients of a weight, which no sequence makes larger, lie beside those of tokens
                assert amount(third, field) - amount(second, field) == pytest.approx(amount(second, field) - single, rel=1e-9)
                assert amount(third, field) < 3.0 * single
                continue
            assert amount(second, field) == pytest.approx(2.0 * single, rel=1e-9), (first.name, field)
            assert amount(third, field) == pytest.approx(3.0 * single, rel=1e-9), (first.name, field)
        moved = [amount(row, "bytes_moved") for row in (first, second, third)]
        assert moved[2] - moved[1] == pytest.approx(moved[1] - moved[0], rel=1e-9), first.name
        assert min(moved) >= 0.0
        if of_tokens_alone(first):
            assert moved[1] == pytest.approx(2.0 * moved[0], rel=1e-9), first.name


def test_the_table_of_distances_is_there_once_and_each_sequence_adds_as_much() -> None:
    """DeBERTa: the table's rows pass their projections, and the indices are kept, however many sequences look them up."""
    by_count = [rows_of("deberta-v3-base", EAGER, Layout(dp=1, micro_batch_size=b)) for b in (1, 2, 3)]
    once = set()
    for first, second, third in zip(*by_count, strict=True):
        for field in (*AMOUNTS, "bytes_moved"):
            one, two, three = (amount(row, field) for row in (first, second, third))
            assert three - two == pytest.approx(two - one, rel=1e-9), (first.name, field)
            if field == "bytes_moved" and of_tokens_alone(first):
                assert two == pytest.approx(2.0 * one, rel=1e-9), first.name
            if field == "flops" and one and two == one:
                once.add(first.operator)
    assert once == {"positions' query key"}
    # 12 heads: of each pair two indices of 8 bytes are read and two numbers of 2 read and written, forward and backward
    gathered = [amount(row, "bytes_moved") for row in by_count[0] if row.operator == "position scores gathered"]
    assert len(gathered) >= 2
    assert min(gathered) >= (2 * 8 + 4 * 2) * 12 * 512 * 512


@pytest.mark.parametrize("name", MODELS)
def test_a_multiplications_shape_is_its_flops_and_bytes(name: str) -> None:
    for row in rows_of(name, "megatron-core", Layout(dp=1)):
        work = row.work
        if not isinstance(work, Matmul) or row.role is None:
            continue
        m, n, k, batch = (float(np.ravel(getattr(work, size))[0]) for size in ("m", "n", "k", "batch"))
        assert amount(row, "flops") == pytest.approx(2.0 * m * n * k * batch), row.name
        # two operands are read, one is written; all in one width of 2 or 4 bytes
        elements = batch * (m * k + k * n + m * n)
        assert amount(row, "bytes_moved") / elements == pytest.approx(4.0 if work.dtype == "fp32" else 2.0, rel=1e-6), row.name
        assert 0.0 <= amount(row, "model_flops") <= amount(row, "flops") * (1.0 + 1e-9), row.name


@pytest.mark.parametrize(
    ("name", "work"),
    [
        *((name, {}) for name in ("gpt2", "bert-large", "llama-3-8b", "gemma-2-9b", "falcon-h1-0.5b", "t5-base")),
        # vectors of each layer, latents, gates and an indexer that are whole on every rank; an encoder of images
        *((name, {}) for name in ("gemma-4-e2b", "minicpm3-4b", "kimi-linear-48b-a3b", "deepseek-v3.2", "deepseek-v4-flash")),
        *((name, {}) for name in ("qwen3-next-80b-a3b", "nemotron-3-super-120b-a12b")),
        ("qwen3-vl-8b", {"images": 1.0, "image_patches": 1024}),
        ("llama-3-8b", {"multi_token_prediction": 1}),
    ],
)
def test_the_model_needs_the_same_flops_however_it_is_cut(name: str, work: dict[str, Any]) -> None:
    """What all tensor-parallel ranks compute of use is what one would, whether sequences are cut with them or not."""

    def needed(layout: Layout) -> float:
        rows = rows_of(name, "megatron-core", layout, **work)
        return layout.tp * layout.cp * sum(amount(row, "model_flops") for row in rows)

    whole = needed(Layout(dp=1))
    if not as_model(name).num_experts:  # experts route each rank's own tokens: not without sequence parallelism
        assert needed(Layout(dp=1, tp=2)) == pytest.approx(whole, rel=1e-9)
    assert needed(Layout(dp=1, tp=2, sequence_parallel=True)) == pytest.approx(whole, rel=1e-9)
    assert needed(Layout(dp=1, cp=2)) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", MODELS)
def test_a_rank_alone_sends_nothing_and_launches_nothing_to_send(name: str, stack: str) -> None:
    for row in rows_of(name, stack, Layout(dp=1)):
        if row.collective is not None:
            assert (amount(row, "communication_bytes"), amount(row, "kernels")) == (0.0, 0.0), row.name


EVERY = (*AMOUNTS, "bytes_moved", "parameters", "frozen_bytes", "kernels")
SIZES = (
    *("hidden_size", "ffn_hidden_size", "expert_ffn_hidden_size", "head_dim", "v_head_dim", "vocab_size", "kv_lora_rank"),
    *("recurrent_key_head_dim", "recurrent_value_head_dim", "index_head_dim", "per_layer_embedding_size"),
)


@pytest.mark.parametrize("name", MODELS)
def test_a_larger_size_never_takes_less(name: str) -> None:
    """Amounts are sums of products of sizes: of one of them a + b x + c x^2, and no part is less than nothing."""
    model = as_model(name)
    for size in SIZES:
        value = getattr(model, size)
        if not value:
            continue
        tables = [rows_of(model.replaced(**{size: value * x}), "megatron-core", Layout(dp=1)) for x in (1, 2, 3)]
        for rows in zip(*tables, strict=True):
            for field in EVERY:
                assert min(parts(*(amount(row, field) for row in rows))) > -1e-9, (size, rows[0].name, field)


CUTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cut": ({"tp": 2, "cp": 2, "sequence_parallel": True, "dp": 1}, {}),
    "redone": ({"dp": 1, "recompute": "full"}, {}),
    "core redone": ({"dp": 1, "recompute": "selective"}, {}),
    "experts apart": ({"dp": 4, "ep": 4}, {}),
    "adapters": ({"dp": 1}, {"kind": "lora", "adapter": {"rank": 8}}),
    "adapters on 4 bit": ({"dp": 1}, {"kind": "qlora", "adapter": {"rank": 8}}),
    "predicted from": ({"dp": 1}, {"multi_token_prediction": 1}),
}


@pytest.mark.parametrize(
    ("name", "cut"),
    [("deepseek-v3", "predicted from"), *((name, cut) for cut in CUTS if cut != "predicted from" for name in MODELS[::2])],
)
def test_each_sequence_adds_as_much_wherever_it_is_worked_on(name: str, cut: str) -> None:
    """Cut, redone, beside frozen weights or predicted from: what is kept and sent is in proportion to the sequences."""
    layout, changes = CUTS[cut]
    stack = "huggingface" if "kind" in changes else "megatron-core"
    tables = [rows_of(name, stack, Layout(**layout, micro_batch_size=x), **changes) for x in (1, 2, 3)]
    for rows in zip(*tables, strict=True):
        for field in EVERY:
            once, each, square = parts(*(amount(row, field) for row in rows))
            assert abs(square) < 1e-9, (rows[0].name, field)
            assert min(once, each) > -1e-9, (rows[0].name, field)
            assert once < 1e-9 or field not in ("saved_bytes", "communication_bytes"), (rows[0].name, field)


@pytest.mark.parametrize(("sequence_parallel", "kinds"), [(False, {"all_reduce"}), (True, {"all_gather", "reduce_scatter"})])
@pytest.mark.parametrize("name", ["gpt2", "llama-3-8b", "falcon-h1-0.5b"])
def test_a_layer_sums_whole_activations_or_gathers_and_scatters_their_shards(
    name: str, sequence_parallel: bool, kinds: set[str]
) -> None:
    """Korthikanti et al. 2022, figures 4 to 6; what the words are looked up in and the loss is summed over aside."""
    layout = Layout(dp=1, tp=2, sequence_parallel=sequence_parallel)
    rows = [row for row in rows_of(name, "megatron-core", layout) if row.block in ("attention", "feed_forward", "mixer")]
    assert {row.collective for row in rows if row.collective is not None and amount(row, "communication_bytes")} == kinds


def test_adapters_of_experts_lie_with_them() -> None:
    """Each expert has its own A and B, sharded as the expert; those of attention are dense."""
    adapter = {"rank": 8, "target_modules": ["q_proj", "w1", "w2", "w3"]}
    rows = rows_of("mixtral-8x7b", "huggingface", Layout(dp=1), kind="lora", adapter=adapter)
    groups = {(row.block, row.shard_group) for row in rows if amount(row, "parameters")}
    assert groups == {("attention", "dense"), ("moe", "expert")}
