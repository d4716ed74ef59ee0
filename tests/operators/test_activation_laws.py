"""Activation bytes against Megatron's law (Korthikanti et al. 2022, arXiv 2205.05198, equations 1, 2, 4 and table 2)."""

from __future__ import annotations

import pytest
from examples import GPT, setting
from hypothesis import given
from hypothesis import strategies as st

from planner.operators.table import build_table
from planner.workload.layout import Layout


def layer_bytes(layout: Layout, s: int, a: int = 8, h: int = 512) -> float:
    """Bytes that one transformer layer keeps, by the rows of megatron-2022 in fp16."""
    fields = {**GPT, "hidden_size": h, "num_heads": a, "ffn_hidden_size": 4 * h}
    table = build_table(setting(fields, "megatron-2022", layout, seq_len=s, precision="fp16"))
    (rows,) = table.layers.values()
    return float(sum(row.saved_bytes for row in rows)[0])


SHAPES = [(1024, 1, 8, 512), (2048, 4, 16, 1024), (512, 3, 8, 768)]


@pytest.mark.parametrize(("s", "b", "a", "h"), SHAPES)
def test_a_layer_keeps_34_sbh_plus_5_a_s2_b(s: int, b: int, a: int, h: int) -> None:
    # equation 1
    assert layer_bytes(Layout(micro_batch_size=b), s, a, h) == 34 * s * b * h + 5 * a * s * s * b


@pytest.mark.parametrize(("s", "b", "a", "h"), SHAPES)
@pytest.mark.parametrize("t", [2, 4, 8])
def test_tensor_parallelism_divides_what_lies_inside_its_regions(s: int, b: int, a: int, h: int, t: int) -> None:
    # equation 2: s b h (10 + 24 / t + 5 a s / (h t))
    expected = s * b * h * (10 + 24 / t + 5 * a * s / (h * t))
    assert layer_bytes(Layout(micro_batch_size=b, tp=t), s, a, h) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("s", "b", "a", "h"), SHAPES)
@pytest.mark.parametrize("t", [2, 4, 8])
def test_sequence_parallelism_divides_everything(s: int, b: int, a: int, h: int, t: int) -> None:
    # equation 4: (s b h / t)(34 + 5 a s / h)
    expected = s * b * h / t * (34 + 5 * a * s / h)
    assert layer_bytes(Layout(micro_batch_size=b, tp=t, sequence_parallel=True), s, a, h) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("s", "b", "a", "h"), SHAPES)
@pytest.mark.parametrize("t", [1, 2, 8])
def test_selective_recomputation_drops_the_attention_core(s: int, b: int, a: int, h: int, t: int) -> None:
    # table 2: 34 s b h / t with sequence parallelism, s b h (10 + 24 / t) without
    parallel = Layout(micro_batch_size=b, tp=t, sequence_parallel=True, recompute="selective")
    assert layer_bytes(parallel, s, a, h) == pytest.approx(34 * s * b * h / t, rel=1e-12)
    plain = Layout(micro_batch_size=b, tp=t, recompute="selective")
    assert layer_bytes(plain, s, a, h) == pytest.approx(s * b * h * (10 + 24 / t), rel=1e-12)


@pytest.mark.parametrize("t", [1, 4])
def test_full_recomputation_keeps_the_layers_input(t: int) -> None:
    # table 2: 2 s b h
    assert layer_bytes(Layout(micro_batch_size=2, tp=t, recompute="full"), 1024) == 2 * 1024 * 2 * 512


def test_head_keeps_4_sbh_and_4_sbv() -> None:
    # section 4.3: 4 s b h (1 + v / h) for final norm, output layer and fp32 logits
    table = build_table(setting(GPT, "megatron-2022", Layout(micro_batch_size=2), seq_len=1024, precision="fp16"))
    kept = float(sum(row.saved_bytes for row in table.head)[0])
    assert kept == 4 * 1024 * 2 * 512 * (1 + 1024 / 512)


@given(b=st.integers(1, 16), doublings=st.integers(0, 5))
def test_activations_grow_linearly_with_the_micro_batch_and_faster_with_the_sequence(b: int, doublings: int) -> None:
    s = 128 * 2**doublings
    one, many = layer_bytes(Layout(), s), layer_bytes(Layout(micro_batch_size=b), s)
    assert many == pytest.approx(b * one)
    assert layer_bytes(Layout(), 2 * s) > 2 * one
