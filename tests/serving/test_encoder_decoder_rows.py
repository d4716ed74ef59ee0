"""Rows of an encoder-decoder that serves, by hand: T5 3B (Raffel et al. 2020, arXiv 1910.10683, section 3.7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import number
from serving_examples import deployment

from planner.operators.row import FusedAttention, Matmul, Row
from planner.serving.rows import Phase, Shape, pass_rows
from planner.workload.resolve import as_model

HIDDEN, HEADS, HEAD, INNER, LAYERS, WORDS = 1024, 32, 128, 16384, 24, 32128


def rows(phase: Phase, sequences: float, queries: float, past: float, tp: int) -> tuple[Row, ...]:
    setting = deployment(as_model("t5-3b"), tp, tp=tp, engine="tensorrt-llm-1", prompt=64, output=16)
    shape = Shape(phase=phase, sequences=np.array([sequences]), queries=np.array([queries]), past=np.array([past]))
    return pass_rows(setting, shape)


def layer(t: float, sequences: float, keys: float, tp: int, cross: bool) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """A layer's multiplications (name, k, n, m) and the rest (name, numbers of 16 bit, kernels). Only a decoder's keys and values
    go to the cache."""
    own, inner = HEADS * HEAD / tp, INNER / tp
    linears = [("qkv", HIDDEN, 3 * own, t), ("attention output", own, HIDDEN, t)]
    linears += [("ffn in", HIDDEN, inner, t), ("ffn out", inner, HIDDEN, t)]
    others = [
        ("rotary embedding, cache write", (4 if cross else 2) * t * own, 2),
        ("attention", 2 * sequences * keys * own + 2 * t * own, 1),
    ]
    others += [("ffn activation", 2 * t * inner, 1)]
    if cross:
        linears += [("cross queries", HIDDEN, own, t), ("cross output", own, HIDDEN, t)]
        others += [("cross attention", 2 * t * own, 1)]
    return linears, others


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_an_encoder_reads_once_and_its_keys_are_written_once(phase: Phase, tp: int) -> None:
    """Three sources of 64 tokens: 24 layers read them, 24 write their keys and values and make a first token, which sees all 64
    and itself; each later one sees what there is. Among 64 tokens a bias by distance is read for each pair and head."""
    s, q = 3.0, 64.0
    t, own = s * q, HEADS * HEAD / tp
    linears, others = layer(s, s, 65.0 if phase == "prefill" else 81.0, tp, cross=True)
    if phase == "prefill":
        read, beside = layer(t, s, q, tp, cross=False)
        linears += [*read, ("cross keys and values", HIDDEN, 2 * own, t)]
        (core,) = (row for row in beside if row[0] == "attention")
        beside[beside.index(core)] = ("attention", core[1] + t * q * HEADS / tp, 1)
        others += [*beside, ("cross cache write", 2 * t * own, 1)]
    found = rows(phase, s, q, 0.0, tp) if phase == "prefill" else rows(phase, s, 1.0, 80.0, tp)
    layers = [row for row in found if number(row.repeats) == LAYERS and row.collective is None and "norm" not in row.name]
    multiplied = [row for row in layers if isinstance(row.work, Matmul)]
    met = sorted((r.name, number(r.work.k), number(r.work.n), number(r.work.m)) for r in multiplied if isinstance(r.work, Matmul))
    assert met == sorted(linears)
    for row in multiplied:
        assert isinstance(row.work, Matmul)
        k, n, m = number(row.work.k), number(row.work.n), number(row.work.m)
        assert number(row.bytes_moved) == pytest.approx(2 * (k * n + m * (k + n)), rel=0.002), row.name
    rest = sorted(
        (row.name, number(row.bytes_moved) / 2, number(row.kernels)) for row in layers if not isinstance(row.work, Matmul)
    )
    assert rest == sorted(others)
    (logits,) = (row.work for row in found if row.name == "logits")
    assert isinstance(logits, Matmul)
    assert (number(logits.k), number(logits.n), number(logits.m)) == (HIDDEN, WORDS / tp, s)


def test_a_source_is_seen_from_both_sides_and_a_first_token_sees_all_of_it() -> None:
    """2 t keys operations a head and number, of q k and of p v."""
    cores = [row for row in rows("prefill", 3.0, 64.0, 0.0, 1) if isinstance(row.work, FusedAttention)]
    assert sorted(number(row.flops) for row in cores) == [4 * 3 * 65 * HEADS * HEAD, 4 * 3 * 64 * 64 * HEADS * HEAD]
    summed = [row for row in rows("prefill", 3.0, 64.0, 0.0, 2) if row.collective == "all_reduce"]
    assert sorted(number(row.communication_bytes) for row in summed) == [2 * 3 * HIDDEN] * 3 + [2 * 192 * HIDDEN] * 2
