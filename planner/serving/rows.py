"""Rows of prefill and decode: every operator of one pass of a model that serves, on one GPU."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planner.common.arrays import Array, Number
from planner.common.units import DTYPE_BYTES
from planner.model.architecture import LayerKind
from planner.model.mixers import CHUNK, mixer_shape, state_bytes
from planner.model.parameters import embedding_parameters
from planner.model.projections import Projection, gate_width, of_tensors, projections
from planner.operators.mixer import kept_elements, products, scan_flops
from planner.operators.row import FusedAttention, Matmul, Row, changed, communication
from planner.serving.experts import fullest_rank
from planner.serving.kv_cache import INDEX_KEY_BYTES, image_bytes, token_layer_bytes
from planner.serving.setting import Setting
from planner.serving.weight_formats import part_of

Phase = Literal["prefill", "decode"]
NARROW_ROWS = 32.0
"""Rows up to which engines that expand weights first multiply by the narrow ones (llama.cpp, ggml-cuda.cu of May 2024; ExLlamaV2,
q_gemm.cu: MAX_Q_GEMM_ROWS)."""
APART = {"norms": 14.0, "ffn activation": 20.0 / 3.0}
"""Bytes a number in fp32, over the passes of one fused kernel: norm, scale and sum read or write seven times where one kernel
does so twice, the activation and the product five times where it does so three times (ggml-cuda: an operator a kernel)."""
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
    rows: list[Row] = [_embedding(setting, local), *layer_rows(setting, shape)]
    spoken = _first_token(local) if setting.model.cross_attention and shape.phase == "prefill" else local
    rows += _head(setting, spoken)
    if shape.phase == "prefill" and (setting.engine.expands_first or setting.engine.casts_activations):
        rows = [part for row in rows for part in _around(setting, row)]
    return (*rows, *_handover(setting, local))


def layer_rows(setting: Setting, shape: Shape) -> tuple[Row, ...]:
    """Rows of all layers, without embedding and head."""
    local = replace(shape, sequences=setting.serving.fullest_group(shape.sequences))
    layer = _of_stack if setting.model.cross_attention else _layer
    kinds = Counter(setting.model.layer_kinds).items()
    return tuple(
        replace(row, repeats=count * (image_chance(setting, local) if setting.model.of(kind).image_attention else 1.0))
        for kind, count in kinds
        for row in layer(setting.of(kind), kind, shape, local)
    )


def image_chance(setting: Setting, shape: Shape) -> Number:
    """The chance that a pass holds an image, so that its tokens pass the layers that attend to images: 1 - (1 - images)^sequences
    where a request has fewer than one on average."""
    images = setting.serving.images
    return 1.0 - (1.0 - images) ** shape.sequences if images < 1 else 1.0


def _around(setting: Setting, row: Row) -> tuple[Row, ...]:
    """What an engine's library multiply needs beside it: weights expanded to memory first, activations converted.

    Expanding reads the stored bytes and writes 16 bit a weight; fp32 inputs are read and written in 16 bit, products the
    other way round: 6 bytes a number.
    """
    work = row.work
    if not isinstance(work, Matmul):
        if work is not None or row.collective is not None or not setting.engine.casts_activations:
            return (row,)
        return (replace(row, bytes_moved=row.bytes_moved * APART.get(row.operator, 4.0) / setting.width),)
    activations = setting.width * work.batch * work.m * (work.k + work.n)
    stored, wide = row.bytes_moved - activations, setting.width * work.batch * work.k * work.n
    moved: Number = 0.0
    kernels = 0.0
    if setting.engine.casts_activations:
        moved, kernels = 6.0 * work.batch * work.m * (work.k + work.n), 2.0
    if setting.engine.expands_first and setting.format.quantized and setting.format.compute is None:
        expands = (stored < 0.99 * wide) & (np.asarray(work.m) > NARROW_ROWS)
        moved = moved + np.where(expands, stored + wide, 0.0)
        kernels += float(np.any(expands))
        row = replace(row, bytes_moved=np.where(expands, wide, stored) + activations)
    beside = Row(
        name=f"around {row.name}", block=row.block, phase=row.phase, bytes_moved=moved, kernels=kernels, repeats=row.repeats
    )
    return (beside, row)


def _of_stack(setting: Setting, kind: LayerKind, shape: Shape, local: Shape) -> tuple[Row, ...]:
    """A layer of an encoder-decoder. The encoder's run over the prompt once, and never again; the decoder's project its output to
    keys and values once, which the cache holds, and begin with one token, so that prefill ends with a first token here too."""
    if setting.model.architecture == "encoder":
        return _layer(setting, kind, shape, local) if shape.phase == "prefill" else ()
    if shape.phase == "decode":
        return _layer(setting, kind, shape, local)
    keys = _projected("cross keys and values", "attention", setting, kind, local, "cross.key_value")
    written = _pointwise("cross cache write", local, local.tokens * token_layer_bytes(setting, kind), setting)
    return (keys, written, *_layer(setting, kind, _first_token(shape), _first_token(local)))


def _first_token(shape: Shape) -> Shape:
    """The pass of a decoder's first token over the source that was read."""
    return Shape(phase="decode", sequences=shape.sequences, queries=np.ones_like(shape.queries), past=shape.past + shape.queries)


def _cross(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    """Queries and output of attention to the encoder's output. The keys that it reads are part of the context, so that its core
    is counted with that of the decoder's own tokens; here is its launch alone."""
    m = setting.model
    mixed = shape.tokens * m.num_heads / float(setting.serving.tp) * m.value_head_dim
    return (
        _projected("cross queries", "attention", setting, kind, shape, "cross.query"),
        _pointwise("cross attention", shape, 2.0 * setting.width * mixed, setting),
        _projected("cross output", "attention", setting, kind, shape, "cross.output"),
        _all_reduce("cross output", "attention", setting, shape),
    )


def _to_images(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    """Attention to a request's images: each query reads the keys and values of all of their tokens, which are cached.
    Their number is that of a pass that holds an image."""
    m, w, heads = setting.model, setting.width, setting.model.num_heads / float(setting.serving.tp)
    chance, qk, value = image_chance(setting, shape), float(m.head_dim), float(m.value_head_dim)
    keys = setting.serving.images * m.tokens_per_image / chance
    flops = 2.0 * shape.tokens * keys * heads * (qk + value)
    core = Row(
        name="attention to images",
        block="attention",
        phase=shape.phase,
        flops=flops,
        model_flops=flops,
        bytes_moved=shape.sequences * image_bytes(setting, kind) / chance + w * shape.tokens * heads * (qk + value),
        kernels=1.0,
        work=FusedAttention(
            sequences=shape.sequences, heads=heads, queries=shape.queries, keys=keys, qk_head_dim=qk, value_head_dim=value
        ),
    )
    return (
        _projected("cross queries", "attention", setting, kind, shape, "cross.query"),
        _pointwise("cross query norm", shape, 2.0 * w * shape.tokens * heads * qk, setting),
        core,
        _projected("cross output", "attention", setting, kind, shape, "cross.output"),
        _pointwise("learned scales", shape, 4.0 * _hidden(setting, shape), setting, 2.0),
        _all_reduce("cross output", "attention", setting, shape),
    )


def image_rows(setting: Setting, images: Number) -> tuple[Row, ...]:
    """Keys and values of ``images`` in the layers that attend to them, projected and written once for each image."""
    tokens = np.asarray(images, dtype=float) * setting.model.tokens_per_image
    rows: list[Row] = []
    for kind, count in Counter(setting.model.layer_kinds).items():
        layer = setting.of(kind)
        if not layer.model.image_attention:
            continue
        shape = Shape(phase="prefill", sequences=np.ones_like(tokens), queries=tokens, past=np.zeros_like(tokens))
        written = np.asarray(images, dtype=float) / layer.serving.images * image_bytes(layer, kind)
        keys = (
            _projected("cross keys and values", "attention", layer, kind, shape, "cross.key_value"),
            _pointwise("cross key norm, cache write", shape, 2.0 * written, layer, 2.0),
        )
        rows += [replace(row, repeats=float(count)) for row in keys]
    return tuple(rows)


def _layer(setting: Setting, kind: LayerKind, shape: Shape, local: Shape) -> tuple[Row, ...]:
    """Rows of one layer; ``setting`` has the fields that hold in it."""
    m = setting.model
    if m.image_attention and not setting.serving.images:  # text alone skips the layer
        return ()
    count = float(m.norms_per_layer)  # each a kernel, with the residual sum before it
    norms = _pointwise("norms", local, 2.0 * count * _hidden(setting, local), setting, count)
    attended = _attention(setting, kind, local) if m.attends else ()
    attended = _to_images(setting, kind, local) if m.image_attention else attended
    attended = (*attended, *_cross(setting, kind, local)) if m.cross_attention else attended
    mixed = _mixer(setting, kind, local) if m.recurs else ()
    if kind.moe:
        inner = _experts(setting, kind, shape, local)
    else:
        inner = _feed_forward(setting, kind, local) if m.feed_forward != "none" else ()
    return (norms, *attended, *mixed, *inner, *_streams(setting, kind, local))


def _hidden(setting: Setting, shape: Shape) -> Array:
    """Bytes of one hidden vector per token of the pass."""
    return np.asarray(setting.width * shape.tokens * setting.model.hidden_size)


def _pointwise(name: str, shape: Shape, moved: Number, setting: Setting, kernels: float = 1.0) -> Row:
    count = kernels if setting.engine.fused_kernels else UNFUSED_KERNELS * kernels
    return Row(name=name, block=name, phase=shape.phase, operator=name, bytes_moved=moved, kernels=count)


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


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Linear layers of one input on one GPU, together: ``batch`` matrices (k, n)."""

    k: float
    n: float
    batch: float = 1.0


def _sizes(setting: Setting, some: tuple[Projection, ...]) -> _Sizes:
    """``some`` as one matrix as wide as the widest input; those of other inputs are as many columns as have their elements."""
    first, widest = some[0], max(p.inputs for p in some)
    if first.by_inputs:
        ranks = setting.etp if first.shard == "expert" else float(setting.serving.tp)
        return _Sizes(k=first.inputs / ranks, n=float(first.outputs))
    if first.groups > 1:
        return _Sizes(
            k=float(first.inputs), n=float(first.outputs // first.groups), batch=first.groups / float(setting.serving.tp)
        )
    if first.shard == "expert":
        return _Sizes(k=float(first.inputs), n=sum(p.outputs for p in some) / setting.etp)
    columns = (p.outputs * p.copies * p.inputs / widest / setting.shards(p.shard) for p in some if p.own_row)
    return _Sizes(k=float(widest), n=sum(columns, 0.0))


def _projected(
    name: str, block: str, setting: Setting, kind: LayerKind, shape: Shape, *starts: str, quantized: bool | None = None
) -> Row:
    """y = x W of the linear layers whose weights' names begin with one of ``starts``; quantized where the format says so."""
    some = tuple(p for start in starts for p in of_tensors(setting.model, kind, start))
    sizes = _sizes(setting, some)
    if quantized is None:
        quantized = part_of(f"{some[0].tensor}.weight") not in setting.format.kept
    return _linear(
        name,
        block,
        setting,
        shape,
        k=sizes.k,
        n=sizes.n,
        batch=sizes.batch,
        tokens=shape.tokens,
        weight_bytes=sum(setting.layer_bytes(kind, start) for start in starts),
        quantized=quantized,
    )


def _embedding(setting: Setting, shape: Shape) -> Row:
    return _pointwise("word embedding", shape, 2.0 * _hidden(setting, shape), setting)


def _attention(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    m, tp, t = setting.model, float(setting.serving.tp), shape.tokens
    if m.attention == "mla":
        entrance = ("attention.q_down", "attention.kv_down") if m.q_lora_rank else ("attention.kv_down",)
        rows = [
            _projected("latents", "attention", setting, kind, shape, *entrance),
            *_latent_norms(setting, shape),
            _projected("query heads", "attention", setting, kind, shape, "attention.q_up"),
            _projected("key and value heads", "attention", setting, kind, shape, "attention.kv_up"),
        ]
    elif m.q_lora_rank:
        rows = [
            _projected("latents", "attention", setting, kind, shape, "attention.q_down", "attention.qkv"),
            *_latent_norms(setting, shape),
            _projected("query heads", "attention", setting, kind, shape, "attention.q_up"),
            *_compressor(setting, kind, shape),
        ]
    else:
        rows = [_projected("qkv", "attention", setting, kind, shape, "attention.qkv")]
    moved = 2.0 * setting.width * t * m.num_heads / tp * m.qk_head_dim + t * token_layer_bytes(setting, kind)
    rows += [
        *_attention_gate(setting, kind, shape),
        *_head_norms(setting, shape),
        _pointwise("rotary embedding, cache write", shape, moved, setting, 2.0),
        *_indexer(setting, kind, shape, present_tokens(setting, kind, shape)),
        *_core(setting, kind, shape),
        *_output_down(setting, kind, shape),
        _projected("attention output", "attention", setting, kind, shape, "attention.output."),
        _all_reduce("attention output", "attention", setting, shape),
    ]
    return tuple(rows)


def _latent_norms(setting: Setting, shape: Shape) -> tuple[Row, ...]:
    """Norms of the latents of queries and of keys and values, which every rank computes whole: 2 w rank bytes a token each."""
    m = setting.model
    ranks = [float(rank) for rank in (m.q_lora_rank, m.kv_lora_rank if m.attention == "mla" else None) if rank]
    moved = 2.0 * setting.width * shape.tokens * sum(ranks)
    return (_pointwise("latent norms", shape, moved, setting, float(len(ranks))),)


def _head_norms(setting: Setting, shape: Shape) -> tuple[Row, ...]:
    """Norms of the queries and of the keys of a rank, a kernel each, which reads and writes w d bytes a token and head."""
    m, tp = setting.model, setting.serving.tp
    if m.qk_norm == "none":
        return ()
    keys = 0.0 if m.shared_kv else m.num_kv_heads / setting.shards("kv_heads")
    moved = 2.0 * setting.width * shape.tokens * m.head_dim * (m.num_heads / float(tp) + keys)
    return (_pointwise("query key norm", shape, moved, setting, 1.0 if m.shared_kv else 2.0),)


def _compressor(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    """What is summed and its weights for each token, and their softmax over the run (DeepSeek-V4)."""
    m, t = setting.model, shape.tokens
    if not m.compress_ratio:
        return ()
    both = 2.0 * (1.0 + m.compress_overlap) * m.head_dim
    return (
        _projected("compressor", "attention", setting, kind, shape, "attention.compress."),
        _pointwise("compressor sum", shape, 2.0 * setting.width * t * both, setting),
    )


def _output_down(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    """Each group of heads to its rank, in front of the output projection (DeepSeek-V4)."""
    if not setting.model.output_groups:
        return ()
    return (_projected("output down", "attention", setting, kind, shape, "attention.output_down"),)


def _compressed(setting: Setting, shape: Shape) -> tuple[Array, Array]:
    """Compressed keys that the last query of a sequence attends to, and an average one."""
    m = setting.model
    if not m.compress_ratio:
        return np.zeros_like(shape.past), np.zeros_like(shape.past)
    most = float(m.index_top_k or np.inf)
    last = np.minimum(np.floor((shape.past + shape.queries) / m.compress_ratio), most)
    mean = np.minimum((shape.past + (shape.queries + 1.0) / 2.0) / m.compress_ratio, most)
    return last, np.minimum(mean, last)


def _core(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    """Attention over the cache. Decoding reads it once for all heads of a group; latents are used without expanding them.

    An engine that repeats grouped heads or copies the cache moves it that many times more.
    """
    m, tp, engine = setting.model, float(setting.serving.tp), setting.engine
    present = present_tokens(setting, kind, shape)  # read for the last query of a sequence
    if not m.compress_ratio:
        present = np.minimum(present, float(m.index_top_k or np.inf))  # an indexer picks that many
    whole = m.architecture != "decoder" or (bool(engine.score_passes) and shape.phase == "prefill")
    keys = present if whole else np.minimum(shape.past + (shape.queries + 1.0) / 2.0, present)
    last, mean = _compressed(setting, shape)
    present, keys = present + last, keys + mean
    heads = m.num_heads / tp
    absorbed = m.attention == "mla" and shape.phase == "decode"
    qk = float(int(m.kv_lora_rank or 0) + int(m.qk_rope_head_dim or 0)) if absorbed else float(m.qk_head_dim)
    value = float(m.kv_lora_rank or 0) if absorbed else float(m.value_head_dim)
    cache = shape.sequences * present * (token_layer_bytes(setting, kind) or _earlier_keys(setting, kind))
    moved = cache + setting.width * shape.tokens * heads * (qk + value)
    if engine.copies_cache:
        moved = moved + 2.0 * cache
    if engine.repeats_kv_heads and m.num_kv_heads < m.num_heads and m.attention != "mla":
        moved = moved + 2.0 * cache * m.num_heads / m.num_kv_heads
    if engine.reads_kv_per_head and shape.phase == "decode" and m.attention != "mla":
        moved = moved + cache * (m.num_heads / m.num_kv_heads - 1.0)
    if shape.phase == "prefill" and m.position_bias:
        moved = moved + setting.width * shape.tokens * keys * heads
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


def present_tokens(setting: Setting, kind: LayerKind, shape: Shape) -> Array:
    """Cached tokens that a layer's last query may see: all, those of its window, or on average half of its chunk."""
    m = setting.model
    window = float(m.sliding_window or np.inf) if kind.sliding else np.inf
    if kind.sliding and m.attention_chunked:
        window = (window + 1.0) / 2.0
    return np.asarray(np.minimum(shape.past + shape.queries, window))


def _earlier_keys(setting: Setting, kind: LayerKind) -> float:
    """Bytes a token that a layer without a cache of its own reads: an earlier layer's, or what an encoder has just projected."""
    own = replace(setting, model=setting.model.model_copy(update={"shared_kv": False, "architecture": "decoder"}))
    return token_layer_bytes(own, kind._replace(variant=0))


def _attention_gate(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    """The gate on attention's output; latent attention has a projection of its own for it."""
    m, tp = setting.model, float(setting.serving.tp)
    if m.attention_gate == "none":
        return ()
    heads = m.num_heads / tp
    moved = setting.width * shape.tokens * heads * (gate_width(m) + 2.0 * m.value_head_dim)
    rows = (_pointwise("attention gate", shape, moved, setting),)
    if m.attention != "mla":
        return rows
    return (_projected("gate", "attention", setting, kind, shape, "attention.qkv.gate"), *rows)


def _indexer(setting: Setting, kind: LayerKind, shape: Shape, present: Array) -> tuple[Row, ...]:
    """The lightning indexer reads the short key of every cached token and picks the best (DeepSeek-V3.2, section 2.1)."""
    m = setting.model
    if not m.index_num_heads:
        return ()
    heads, d = float(m.index_num_heads), float(m.index_head_dim)
    if m.compress_ratio:  # of all compressed keys, which the window does not bound
        present = np.floor((shape.past + shape.queries) / m.compress_ratio)
        keys = np.minimum((shape.past + (shape.queries + 1.0) / 2.0) / m.compress_ratio, present)
    else:
        keys = np.minimum(shape.past + (shape.queries + 1.0) / 2.0, present)
    flops = 2.0 * shape.tokens * keys * heads * d
    keys = np.maximum(keys, 1.0)  # a short prompt has made none yet
    moved = shape.sequences * present * INDEX_KEY_BYTES * d + setting.width * shape.tokens * heads * d + 4.0 * shape.tokens * keys
    work = FusedAttention(
        sequences=shape.sequences, heads=heads, queries=shape.queries, keys=keys, qk_head_dim=d, value_head_dim=d
    )
    return (
        _projected("index projections", "attention", setting, kind, shape, "attention.index"),
        Row(
            name="indexer",
            block="attention",
            phase=shape.phase,
            flops=flops,
            model_flops=flops,
            bytes_moved=moved,
            kernels=2.0,
            work=work,
        ),
    )


def _mixer(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    """Projections, convolution and state: read and written once for each new token in decoding, once a chunk in prefill."""
    m, tp, t, w = setting.model, float(setting.serving.tp), shape.tokens, setting.width
    sizes = mixer_shape(m)
    linears = [
        _projected(p.part, "mixer", setting, kind, shape, f"{p.tensor}.") for p in projections(m, kind) if p.block == "mixer"
    ]
    executed, needed = scan_flops(m)
    narrow, wide = kept_elements(m)
    state = state_bytes(m) / tp
    if shape.phase == "decode":
        flops, moved = t * needed / tp, 2.0 * shape.sequences * state
    else:
        chunk = float(CHUNK.get(m.mixer, 64))
        flops, moved = t * executed / tp, 2.0 * shape.sequences * state + w * t * sizes.state / tp / chunk
    moved = moved + t * (w * narrow + 4.0 * wide + w * sizes.values) / tp
    work = products(m, t, flops, tp, float(CHUNK.get(m.mixer, 64))) if shape.phase == "prefill" else None
    scan = Row(
        name="scan", block="mixer", phase=shape.phase, flops=flops, model_flops=flops, bytes_moved=moved, kernels=4.0, work=work
    )
    conv = _pointwise("convolution", shape, 2.0 * w * t * float(sizes.channels) / tp, setting)
    gate = _pointwise("gated norm", shape, 3.0 * w * t * float(sizes.values) / tp, setting)
    return (*linears[:-1], conv, scan, gate, linears[-1], _all_reduce("mixer output", "mixer", setting, shape))


def _streams(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    """The layer's own vector of each token, low-rank path and further residual streams (Gemma 3n and 4)."""
    m, t, w = setting.model, shape.tokens, setting.width
    rows: tuple[Row, ...] = ()
    for name, width, prefix in (
        ("layer vectors", m.per_layer_embedding_size, "streams.per_layer."),
        ("laurel", m.laurel_rank, "streams.laurel."),
    ):
        if width:
            rows += (
                _projected(name, "streams", setting, kind, shape, prefix, quantized=True),
                _pointwise(f"{name} sum", shape, 4.0 * w * t * m.hidden_size, setting),
            )
    if m.hyper_streams:  # for each of two blocks: weights from all streams, their sum, their mixture with the block's output
        wide = float(m.hidden_size * m.hyper_streams)
        rows += (
            _projected("hyper weights", "streams", setting, kind, shape, "streams.hyper", quantized=False),
            _pointwise("hyper streams", shape, 2.0 * w * t * (3.0 * wide + 2.0 * m.hidden_size), setting, 6.0),
        )
    if m.altup_streams:
        rows += (_pointwise("altup", shape, 4.0 * w * t * m.hidden_size * m.altup_streams, setting, 6.0),)
    return rows


def _feed_forward(setting: Setting, kind: LayerKind, shape: Shape) -> tuple[Row, ...]:
    return (*_gated(setting, kind, shape, "ffn"), _all_reduce("feed-forward", "ffn", setting, shape))


def _gated(setting: Setting, kind: LayerKind, shape: Shape, name: str) -> tuple[Row, ...]:
    """In, activation, out, of the feed-forward block or of the shared experts."""
    out = _sizes(setting, of_tensors(setting.model, kind, f"{name}.out"))
    lanes = 2.0 if setting.model.gated_ffn else 1.0
    return (
        _projected(f"{name} in", name, setting, kind, shape, f"{name}.in"),
        _pointwise(f"{name} activation", shape, setting.width * shape.tokens * out.k * (lanes + 1.0), setting),
        _projected(f"{name} out", name, setting, kind, shape, f"{name}.out"),
    )


def _experts(setting: Setting, kind: LayerKind, shape: Shape, local: Shape) -> tuple[Row, ...]:
    """Router, exchange, the experts that at least one token of the whole batch chose, and shared experts.

    ``shape`` holds the tokens of all attention groups: their experts lie on the same GPUs.
    """
    inside = setting.inside_experts
    m, s = inside.model, setting.serving
    h, k = float(m.hidden_size), float(m.top_k)
    sizes = {way: _sizes(setting, of_tensors(m, kind, f"experts.{way}.")) for way in ("in", "out")}
    f = sizes["out"].k
    lanes = 2.0 if m.gated_ffn else 1.0
    mean_pairs = shape.tokens * k / s.ep
    spread, copies = s.rank_load(m.num_experts), s.redundant_experts
    touched, pairs = fullest_rank(m.num_experts, m.top_k, shape.tokens, s.ep, spread, s.expert_zipf, copies)
    load = pairs / mean_pairs
    each = setting.layer_bytes(kind, "experts.") * s.ep / setting.stored_experts
    first = setting.layer_bytes(kind, "experts.in") * s.ep / setting.stored_experts
    quantized = "experts" not in setting.format.kept
    sorted_bytes = local.tokens * (12.0 * m.num_experts + 4.0 * k * h * setting.width / s.tp)
    rows = [
        _projected("router", "moe", setting, kind, local, "router", quantized=False),
        _pointwise("top-k and sort", local, sorted_bytes, setting, 3.0),
        _linear(
            "experts in",
            "experts",
            setting,
            shape,
            k=sizes["in"].k,
            n=sizes["in"].n,
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
            k=sizes["out"].k,
            n=sizes["out"].n,
            tokens=pairs / touched,
            batch=touched,
            grouped=True,
            weight_bytes=touched * (each - first),
            quantized=quantized,
            imbalance=load,
        ),
    ]
    if quantized and setting.format.quantized and setting.format.compute is None and setting.engine.launch_s_per_expert:
        launches = 2.0 * setting.stored_experts / s.ep  # of both products, for each expert that lies here
        idle_s = launches * setting.engine.launch_s_per_expert
        rows.append(Row(name="a kernel for each expert", block="experts", phase=shape.phase, idle_s=idle_s))
    if s.expert_offload:
        rows.append(
            Row(
                name="experts over the host link",
                block="host_link",
                phase=shape.phase,
                bytes_moved=s.expert_offload * touched * each,
            )
        )
    rows += _exchange(inside, shape, local, mean_pairs)
    if m.expert_latent_size:
        rows += [_projected(f"latent {way}", "moe", setting, kind, local, f"latent.{way}") for way in ("in", "out")]
    if m.num_shared_experts:
        rows += _gated(setting, kind, local, "shared")
    return tuple(rows)


def _exchange(setting: Setting, shape: Shape, local: Shape, pairs: Array) -> list[Row]:
    """What brings tokens to their experts and their sums back, by ``Setting.dispatcher``.

    Where one attention group has all tokens on all of its GPUs, each adds what its experts say: one all-reduce. gather: all ranks
    gather the tokens of all groups, and scatter the sums of what their experts say; parts of decoding are padded to the fullest
    group's, those of prompts as the engine does it (``Engine.gathers_prompts``). DeepEP sends prompts once to each node
    and rank, tokens of decoding straight to each expert, and to experts in fp8 what is fp8 already; they answer in 16 bit
    (deepseek-ai/DeepEP, README: normal and low-latency kernels). One-sided kernels send every token once to each rank, in the
    type that it is multiplied in (TensorRT-LLM, tech blog 18).
    """
    m, s = setting.model, setting.serving
    h, k = float(m.hidden_size), float(m.top_k)
    by = setting.dispatcher
    if by == "none":
        return [_all_reduce("experts", "moe", setting, local)]
    narrow = {"deepep": ("fp8",), "one-sided": ("fp8", "fp4"), "gather": ("fp8", "fp4") if setting.engine.gathers_narrow else ()}[
        by
    ]
    sent = setting.format.compute if setting.format.compute in narrow and "experts" not in setting.format.kept else None
    there, back = DTYPE_BYTES[sent] if sent else setting.width, setting.width
    if by == "gather":
        # equal parts are as large as the fullest group's; else there are as many tokens as the groups have together
        equal, unlike = float(s.attention_groups) * local.tokens * h, shape.tokens * h
        ways = (setting.engine.gathers_prompts, setting.engine.scatters_prompts)
        sent_on = [equal if way == "equal" or shape.phase == "decode" else unlike for way in ways]
        rows = [
            communication("gather tokens", "experts", shape.phase, "all_gather", "ep", there * sent_on[0], 1.0),
            communication("scatter sums", "experts", shape.phase, "reduce_scatter", "ep", back * sent_on[1], 1.0),
        ]
    else:
        rows = [
            communication(f"{way} tokens", "experts", shape.phase, "all_to_all", "ep", width * pairs * h, 1.0)
            for way, width in (("dispatch", there), ("combine", back))
        ]
    if by == "one-sided" or (by == "deepep" and shape.phase == "prefill"):
        once = {"copies": k, "groups": m.chosen_groups}
        rows = [changed(row, communication_bytes=row.communication_bytes / k, **once) for row in rows]
    gather = communication("gather hidden", "moe", shape.phase, "all_gather", "tp", _hidden(setting, local), float(s.tp > 1))
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
    tied = setting.local_bytes(embedding_parameters(m), "embedding.words")
    weights = tied if m.tied_embeddings else setting.head_bytes
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
