"""Rows of prefill and decode: every operator of one pass of a model that serves, on one GPU."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planner.common.arrays import Array, Number
from planner.model.architecture import LayerKind
from planner.operators.row import FusedAttention, Matmul, Row, communication
from planner.serving.experts import distinct_experts
from planner.serving.kv_cache import token_layer_bytes
from planner.serving.setting import Setting

Phase = Literal["prefill", "decode"]
UNFUSED_KERNELS = 5.0
"""Kernels of an eager norm, rotary embedding or gated activation (square, mean, root, two products; halves, signs, sums)."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One pass: ``sequences`` with ``queries`` new tokens each after ``past`` cached ones; arrays of shape ``(n,)``."""

    phase: Phase
    sequences: Array
    queries: Array
    past: Array

    @property
    def tokens(self) -> Array:
        """New tokens of the pass."""
        return np.asarray(self.sequences * self.queries)


def pass_rows(setting: Setting, shape: Shape) -> tuple[Row, ...]:
    """Rows of a whole pass over the model on one GPU of each stage; ``repeats`` counts the layers of a kind."""
    s = setting.serving
    local = replace(shape, sequences=s.fullest_group(shape.sequences))
    rows: list[Row] = [_embedding(setting, local)]
    for kind, count in Counter(setting.model.layer_kinds).items():
        inner = _experts(setting, kind, shape, local) if kind.moe else _feed_forward(setting, kind, local)
        layer = (
            _pointwise("norms", local, 2.0 * setting.model.norms_per_layer * _hidden(setting, local), setting),
            *_attention(setting, kind, local),
            *inner,
        )
        rows += [replace(row, repeats=float(count)) for row in layer]
    return (*rows, *_head(setting, local), *_handover(setting, local))


def _hidden(setting: Setting, shape: Shape) -> Array:
    """Bytes of one hidden vector per token of the pass."""
    return np.asarray(setting.width * shape.tokens * setting.model.hidden_size)


def _pointwise(name: str, shape: Shape, moved: Number, setting: Setting, kernels: float = 1.0) -> Row:
    count = kernels if setting.engine.fused_kernels else UNFUSED_KERNELS * kernels
    return Row(name=name, block=name, phase=shape.phase, bytes_moved=moved, kernels=count)


def _linear(
    name: str,
    block: str,
    setting: Setting,
    shape: Shape,
    *,
    k: float,
    n: float,
    weight_bytes: Number,
    tokens: Number,
    quantized: bool = True,
    batch: Number = 1.0,
    grouped: bool = False,
    imbalance: Number = 1.0,
) -> Row:
    """y = x W: weights are read once in a pass, as stored; ``tokens`` per matrix of the ``batch``."""
    dtype = setting.matmul_dtype if quantized and setting.format.quantized else setting.compute_dtype
    work = Matmul(m=tokens, k=k, n=n, batch=batch, grouped=grouped, dtype=dtype)
    moved = weight_bytes + setting.width * batch * tokens * (k + n)
    return Row(
        name=name,
        block=block,
        phase=shape.phase,
        flops=work.flops,
        model_flops=work.flops / imbalance,
        bytes_moved=moved,
        kernels=1.0,
        work=work,
        imbalance=imbalance,
    )


def _embedding(setting: Setting, shape: Shape) -> Row:
    return _pointwise("word embedding", shape, 2.0 * _hidden(setting, shape), setting)


def _attention(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    m, tp, t = setting.model, float(setting.serving.tp), shape.tokens
    h, output = float(m.hidden_size), m.num_heads * m.value_head_dim / tp
    q = "attention" not in setting.format.kept
    rows: list[Row] = []
    if m.attention == "mla":
        latent, rank = int(m.kv_lora_rank or 0), m.q_lora_rank
        wide = float(latent + int(m.qk_rope_head_dim or 0) + (rank or 0))
        down = setting.layer_bytes(kind, "attention.q_down") + setting.layer_bytes(kind, "attention.kv_down")
        rows += [
            _linear("latents", "attention", setting, shape, k=h, n=wide, weight_bytes=down, tokens=t, quantized=q),
            _linear(
                "query heads",
                "attention",
                setting,
                shape,
                k=float(rank or h),
                n=m.num_heads / tp * m.qk_head_dim,
                tokens=t,
                weight_bytes=setting.layer_bytes(kind, "attention.q_up"),
                quantized=q,
            ),
            _linear(
                "key and value heads",
                "attention",
                setting,
                shape,
                k=float(latent),
                tokens=t,
                quantized=q,
                n=m.num_heads / tp * (int(m.qk_nope_head_dim or 0) + m.value_head_dim),
                weight_bytes=setting.layer_bytes(kind, "attention.kv_up"),
            ),
        ]
    else:
        n = (m.num_heads * m.head_dim) / tp + 2.0 * max(m.num_kv_heads / tp, 1.0) * m.head_dim
        weights = setting.layer_bytes(kind, "attention.qkv")
        rows.append(_linear("qkv", "attention", setting, shape, k=h, n=n, weight_bytes=weights, tokens=t, quantized=q))
    moved = 2.0 * setting.width * t * m.num_heads / tp * m.qk_head_dim + t * token_layer_bytes(setting)
    rows += [
        _pointwise("rotary embedding, cache write", shape, moved, setting, 2.0),
        *_core(setting, kind, shape),
        _linear(
            "attention output",
            "attention",
            setting,
            shape,
            k=output,
            n=h,
            tokens=t,
            quantized=q,
            weight_bytes=setting.layer_bytes(kind, "attention.output"),
        ),
        _all_reduce("attention output", "attention", setting, shape),
    ]
    return tuple(rows)


def _core(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    """Attention over the cache. Decoding reads it once for all heads of a group; latents are used without expanding them.

    An engine that repeats grouped heads or copies the cache moves it that many times more.
    """
    m, tp, engine = setting.model, float(setting.serving.tp), setting.engine
    window = float(m.sliding_window or np.inf) if kind.sliding else np.inf
    present = np.minimum(shape.past + shape.queries, window)  # read for the last query of a sequence
    keys = np.minimum(shape.past + (shape.queries + 1.0) / 2.0, present)
    heads = m.num_heads / tp
    absorbed = m.attention == "mla" and shape.phase == "decode"
    qk = float(int(m.kv_lora_rank or 0) + int(m.qk_rope_head_dim or 0)) if absorbed else float(m.qk_head_dim)
    value = float(m.kv_lora_rank or 0) if absorbed else float(m.value_head_dim)
    cache = shape.sequences * present * token_layer_bytes(setting)
    moved = cache + setting.width * shape.tokens * heads * (qk + value)
    if engine.copies_cache:
        moved = moved + 2.0 * cache
    if engine.repeats_kv_heads and m.num_kv_heads < m.num_heads and m.attention != "mla":
        moved = moved + 2.0 * cache * m.num_heads / m.num_kv_heads
    if engine.reads_kv_per_head and shape.phase == "decode" and m.attention != "mla":
        moved = moved + cache * (m.num_heads / m.num_kv_heads - 1.0)
    if shape.phase == "prefill":
        moved = moved + engine.score_passes * 4.0 * shape.tokens * keys * heads
    flops = 2.0 * shape.tokens * keys * heads * (qk + value)
    work = FusedAttention(
        sequences=shape.sequences, heads=heads, queries=shape.queries, keys=keys, qk_head_dim=qk, value_head_dim=value
    )
    return (
        Row(
            name="attention",
            block="attention",
            phase=shape.phase,
            flops=flops,
            model_flops=flops,
            bytes_moved=moved,
            kernels=1.0,
            work=work,
        ),
    )


def _feed_forward(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    m, tp = setting.model, float(setting.serving.tp)
    rows = _gated(setting, kind, shape, "ffn", float(m.ffn_hidden_size) / tp, shape.tokens, "ffn" not in setting.format.kept)
    return (*rows, _all_reduce("feed-forward", "ffn", setting, shape))


def _gated(
    setting: Setting, kind: LayerKind, shape: Shape, name: str, f: float, tokens: Array, quantized: bool
) -> tuple[Row, ...]:
    m, h = setting.model, float(setting.model.hidden_size)
    lanes = 2.0 if m.gated_ffn else 1.0
    first, second = setting.layer_bytes(kind, f"{name}.in"), setting.layer_bytes(kind, f"{name}.out")
    return (
        _linear(f"{name} in", name, setting, shape, k=h, n=lanes * f, weight_bytes=first, tokens=tokens, quantized=quantized),
        _pointwise(f"{name} activation", shape, setting.width * tokens * f * (lanes + 1.0), setting),
        _linear(f"{name} out", name, setting, shape, k=f, n=h, weight_bytes=second, tokens=tokens, quantized=quantized),
    )


def _experts(setting: Setting, kind: LayerKind, shape: Shape, local: Shape) -> tuple[Row, ...]:
    """Router, exchange, the experts that at least one token of the whole batch chose, and shared experts.

    ``shape`` holds the tokens of all attention groups: their experts lie on the same GPUs.
    """
    m, s = setting.model, setting.serving
    h, f, k = float(m.hidden_size), float(m.expert_ffn_hidden_size or 0) / setting.etp, float(m.top_k)
    lanes = 2.0 if m.gated_ffn else 1.0
    load = min(s.expert_load, float(s.ep))
    touched = distinct_experts(m.num_experts, m.top_k, shape.tokens, s.expert_zipf) / s.ep
    touched = np.minimum(touched * load, m.num_experts / s.ep)
    pairs = shape.tokens * k / s.ep * load
    each = setting.layer_bytes(kind, "experts.") * s.ep / m.num_experts
    first = setting.layer_bytes(kind, "experts.in") * s.ep / m.num_experts
    quantized = "experts" not in setting.format.kept
    sorted_bytes = local.tokens * (12.0 * m.num_experts + 4.0 * k * h * setting.width / s.tp)
    rows = [
        _linear(
            "router",
            "moe",
            setting,
            local,
            k=h,
            n=float(m.num_experts),
            tokens=local.tokens,
            weight_bytes=setting.layer_bytes(kind, "router"),
            quantized=False,
        ),
        _pointwise("top-k and sort", local, sorted_bytes, setting, 3.0),
        _linear(
            "experts in",
            "experts",
            setting,
            shape,
            k=h,
            n=lanes * f,
            tokens=pairs / touched,
            batch=touched,
            grouped=True,
            weight_bytes=touched * first,
            quantized=quantized,
            imbalance=load,
        ),
        _pointwise("experts activation", shape, setting.width * pairs * f * (lanes + 1.0), setting),
        _linear(
            "experts out",
            "experts",
            setting,
            shape,
            k=f,
            n=h,
            tokens=pairs / touched,
            batch=touched,
            grouped=True,
            weight_bytes=touched * (each - first),
            quantized=quantized,
            imbalance=load,
        ),
    ]
    if s.expert_offload:
        rows.append(
            Row(
                name="experts over the host link",
                block="host_link",
                phase=shape.phase,
                bytes_moved=s.expert_offload * touched * each,
            )
        )
    rows += _exchange(setting, shape, local, pairs / load)
    if m.num_shared_experts:
        width = float(m.num_shared_experts * (m.shared_expert_ffn_hidden_size or 0)) / s.tp
        rows += _gated(setting, kind, local, "shared", width, local.tokens, "shared" not in setting.format.kept)
    return tuple(rows)


def _exchange(setting: Setting, shape: Shape, local: Shape, pairs: Array) -> list[Row]:
    """Tokens to their experts' GPUs and back, then to all of the tp group; without expert parallelism one all-reduce."""
    s, h = setting.serving, float(setting.model.hidden_size)
    if s.ep == 1:
        return [_all_reduce("experts", "moe", setting, local)]
    message = setting.width * pairs * h
    rows = [
        communication(f"{way} tokens", "experts", shape.phase, "all_to_all", "ep", message, 1.0)
        for way in ("dispatch", "combine")
    ]
    gather = communication("gather tokens", "moe", shape.phase, "all_gather", "tp", _hidden(setting, local), float(s.tp > 1))
    return [*rows, gather]


def _all_reduce(name: str, block: str, setting: Setting, shape: Shape) -> Row:
    present = 1.0 if setting.serving.tp > 1 else 0.0
    return communication(f"{name} all-reduce", block, shape.phase, "all_reduce", "tp", _hidden(setting, shape), present)


def _head(setting: Setting, shape: Shape) -> tuple[Row, ...]:
    """Final norm, logits of the last token of each sequence (or of all, as the engine does), sampling."""
    m, tp = setting.model, float(setting.serving.tp)
    if m.head == "none":
        return (_pointwise("final norm", shape, 2.0 * _hidden(setting, shape), setting),)
    every = shape.phase == "decode" or setting.engine.logits == "all"
    tokens = shape.tokens if every else shape.sequences
    h = float(m.embedding_projection_size or m.hidden_size)
    weights = setting.embedding_bytes if m.tied_embeddings else setting.head_bytes
    part = "embedding" if m.tied_embeddings else "head"
    logits = tokens * m.vocab_size
    gathered = setting.width * logits * (1.0 if tp > 1 else 0.0)
    return (
        _pointwise("final norm", shape, 2.0 * _hidden(setting, shape), setting),
        _linear(
            "logits",
            "head",
            setting,
            shape,
            k=h,
            n=m.vocab_size / tp,
            weight_bytes=weights,
            tokens=tokens,
            quantized=part not in setting.format.kept,
        ),
        communication("logits over tp", "head", shape.phase, "all_gather", "tp", gathered, float(tp > 1)),
        _pointwise("sampling", shape, shape.sequences * m.vocab_size * (setting.width + 8.0), setting, 3.0),
    )


def _handover(setting: Setting, shape: Shape) -> tuple[Row, ...]:
    """Hidden vectors from stage to stage."""
    steps = float(setting.serving.pp - 1)
    if not steps:
        return ()
    message = _hidden(setting, shape)
    row = Row(
        name="to the next stage",
        block="pipeline",
        phase=shape.phase,
        communication_bytes=message,
        collective="p2p",
        kernels=1.0,
        repeats=steps,
    )
    return (row,)
