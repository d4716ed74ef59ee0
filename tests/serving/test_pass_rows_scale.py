"""Rows of a pass grow as what they count: with sequences and cached tokens in proportion, with a size of the model as a sum of
products of which none is less than nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from examples import parts
from serving_examples import deployment

from planner.operators.row import Matmul, Row
from planner.serving.rows import APART, Phase, Shape, pass_rows
from planner.serving.setting import Setting
from planner.workload.resolve import as_model

MODELS = (
    *("gpt2", "llama-3-8b", "gemma-2-9b", "gemma-4-e2b", "mixtral-8x7b", "qwen1.5-moe-a2.7b", "deepseek-v2-lite"),
    *("deepseek-v3.2", "deepseek-v4-flash", "qwen3-next-80b-a3b", "minimax-m1", "jamba-1.5-large", "falcon-mamba-7b"),
    *("falcon-h1-0.5b", "nemotron-3-super-120b-a12b", "llama-3.2-11b-vision", "t5-3b"),
)
OWN: dict[str, dict[str, Any]] = {
    "llama-3.2-11b-vision": {"images": 2, "engine": "vllm-v0"},
    "t5-3b": {"engine": "tensorrt-llm-1"},
}
SEQUENCES = 1.37 * np.array([1.0, 2.0, 3.0])
"""A mean over passes is no whole number."""
SIZES = (
    *("hidden_size", "ffn_hidden_size", "expert_ffn_hidden_size", "head_dim", "v_head_dim", "vocab_size", "kv_lora_rank"),
    *("recurrent_key_head_dim", "recurrent_value_head_dim", "index_head_dim", "per_layer_embedding_size"),
)
WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "vllm": (1, {}),
    "cut": (2, {"tp": 2}),
    "huggingface": (1, {"engine": "huggingface"}),
}
AMOUNTS = ("flops", "bytes_moved", "communication_bytes", "workspace_bytes", "kernels")
PASSES: tuple[tuple[Phase, float, float], ...] = (("prefill", 128.0, 0.0), ("prefill", 64.0, 512.0), ("decode", 1.0, 300.0))
ROUTED = {"experts in", "experts out"}
"""Their weights are read for those experts alone that some token chose: each further token adds fewer."""


def rows(setting: Setting, phase: Phase, sequences: Any, queries: float, past: Any) -> tuple[Row, ...]:
    shape = np.broadcast_arrays(np.asarray(sequences, dtype=float), queries, np.asarray(past, dtype=float))
    return pass_rows(setting, Shape(phase=phase, sequences=shape[0], queries=shape[1], past=shape[2]))


def three(row: Row, field: str) -> Any:
    return np.broadcast_to(np.asarray(getattr(row, field), dtype=float), (3,))


@pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for name in MODELS for way in WAYS if (name, way) != ("falcon-mamba-7b", "cut")],  # one head, which is whole
)
def test_each_sequence_adds_as_much_work(name: str, way: str) -> None:
    """What is computed and sent is in proportion; of what is moved weights are not."""
    count, fields = WAYS[way]
    setting = deployment(as_model(name), count, **{**fields, **OWN.get(name, {})})
    for phase, queries, past in PASSES:
        for row in rows(setting, phase, SEQUENCES, queries, past):
            for field in AMOUNTS:
                once, each, square = parts(*three(row, field))
                if field == "bytes_moved" and row.name in ROUTED:
                    assert square < 1e-9
                    assert each > 0.0
                    continue
                assert abs(square) < 1e-9, (row.name, phase, field)
                assert min(once, each) > -1e-9, (row.name, phase, field)
                assert once < 1e-9 or field not in ("flops", "communication_bytes"), (row.name, phase, field)


@pytest.mark.parametrize("name", MODELS)
def test_a_larger_size_never_makes_a_pass_cheaper(name: str) -> None:
    model = as_model(name)
    for size in SIZES:
        value = getattr(model, size)
        if not value:
            continue
        settings = [deployment(model.replaced(**{size: value * x}), **OWN.get(name, {})) for x in (1, 2, 3)]
        for phase, queries, past in PASSES[::2]:
            tables = (rows(setting, phase, 4.0, queries, past) for setting in settings)
            for found in zip(*tables, strict=True):
                for field in AMOUNTS:
                    amounts = [float(np.ravel(getattr(row, field))[0]) for row in found]
                    assert min(parts(*amounts)) > -1e-9, (size, found[0].name, phase, field)


@pytest.mark.parametrize("way", ["vllm", "cut", "huggingface"])
@pytest.mark.parametrize("name", ["gpt2", "llama-3-8b", "mixtral-8x7b", "deepseek-v2-lite", "falcon-h1-0.5b"])
def test_each_cached_token_adds_as_much_to_a_step(name: str, way: str) -> None:
    """Where every layer attends to all: keys and values read once, two products a head; nothing but attention grows."""
    count, fields = WAYS[way]
    grown = set()
    for row in rows(deployment(as_model(name), count, **fields), "decode", 4.1, 1.0, [999.3, 1999.3, 2999.3]):
        for field in AMOUNTS:
            once, each, square = parts(*three(row, field))
            assert abs(square) < 1e-9, (row.name, field)
            assert min(once, each) > -1e-9, (row.name, field)
            if each > 1e-9:
                grown.add(row.block)
    assert grown == {"attention"}


@pytest.mark.parametrize("name", ["gpt2", "llama-3-8b", "falcon-h1-0.5b"])
def test_an_engine_without_fused_kernels_launches_more_of_them_over_as_many_bytes(name: str) -> None:
    """Assumed: five small kernels of PyTorch where an engine has one; multiplications are one in both."""
    setting = deployment(as_model(name))
    engines = (setting.engine.model_copy(update={"fused_kernels": fused}) for fused in (True, False))
    fused, eager = (rows(replace(setting, engine=engine), "decode", 4.0, 1.0, 300.0) for engine in engines)
    ratios = set()
    for one, other in zip(fused, eager, strict=True):
        assert np.all(one.bytes_moved == other.bytes_moved), one.name
        launched = float(np.ravel(one.kernels)[0])
        ratios |= (
            {(one.work is None and not np.any(one.flops), float(np.ravel(other.kernels)[0]) / launched)} if launched else set()
        )
    assert ratios == {(True, 5.0), (False, 1.0)}


@pytest.mark.parametrize("name", ["llama-3-8b", "mixtral-8x7b"])
def test_activations_kept_in_fp32_pass_memory_twice_as_wide_and_are_cast_around_each_product(name: str) -> None:
    """4 bytes for 2, or what the kernels of an operator take apart; attention and exchanges are in 16 bit as before. A product of
    (m, k) x (k, n) has its input read in 4 and written in 2 bytes, and its output the other way round."""
    setting = deployment(as_model(name), 2, tp=2)
    engines = (setting.engine.model_copy(update={"casts_activations": casts, "expands_first": False}) for casts in (False, True))
    plain, cast = (rows(replace(setting, engine=engine), "prefill", 2.0, 64.0, 0.0) for engine in engines)
    around = {row.name: row for row in cast if row.name.startswith("around ")}
    for one, other in zip(plain, [row for row in cast if row.name not in around], strict=True):
        narrow = one.work is not None or one.collective is not None
        wider = 1.0 if narrow else APART.get(one.operator, 4.0) / 2.0
        assert np.all(other.bytes_moved == one.bytes_moved * wider), one.name
        assert wider >= 1.0
        if isinstance(one.work, Matmul):
            m, k, n, batch = (float(np.ravel(x)[0]) for x in (one.work.m, one.work.k, one.work.n, one.work.batch))
            beside = around[f"around {one.name}"]
            assert float(np.ravel(beside.bytes_moved)[0]) == pytest.approx((4 + 2) * batch * m * (k + n))
            assert float(np.ravel(beside.kernels)[0]) == 2.0
