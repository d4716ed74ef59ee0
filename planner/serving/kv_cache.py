"""Bytes of keys, values and states: per token and layer, per sequence in whole blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from planner.common.arrays import Array, Number
from planner.common.units import DTYPE_BYTES
from planner.model.architecture import LayerKind
from planner.model.mixers import state_bytes
from planner.serving.setting import KV_SCALE_BYTES, Setting

INDEX_KEY_BYTES = 1.0 + 4.0 / 128.0
"""Of one element of an indexer's key: fp8 with an fp32 scale for 128 (DeepSeek-V3.2-Exp, inference/model.py)."""


def token_layer_bytes(setting: Setting, kind: LayerKind, whole: bool = False) -> float:
    """Bytes that one token keeps in one layer, on one GPU (``whole``: on all GPUs of a tp group, without copies).

    2 x kv heads x head width; with multi-head latent attention one latent vector and the rotary key, which every GPU of
    the tp group holds in full (DeepSeek-V2, arXiv 2405.04434, section 2.1); an indexer's key beside them. Nothing where an
    earlier layer's keys are read, where a state is kept instead, or in an encoder. A decoder behind an encoder keeps
    one token of its own as it keeps one of the source.
    """
    m, dtype = setting.model.of(kind), setting.kv_dtype
    if not m.attends or m.shared_kv or m.architecture == "encoder":
        return 0.0
    width = DTYPE_BYTES[dtype]
    scale = KV_SCALE_BYTES if dtype == "int8" else 0.0
    if m.one_key_value:
        return m.head_dim * width + scale
    index = INDEX_KEY_BYTES * m.index_head_dim if m.index_num_heads else 0.0
    if m.attention == "mla":
        return float(int(m.kv_lora_rank or 0) + int(m.qk_rope_head_dim or 0)) * width + scale + index
    heads = float(m.num_kv_heads) if whole else max(m.num_kv_heads / setting.serving.tp, 1.0)
    return heads * ((m.head_dim + m.value_head_dim) * width + 2.0 * scale) + index


def compressed_bytes(setting: Setting, kind: LayerKind) -> float:
    """Bytes of one compressed key, and of the indexer's beside it; every GPU of a tp group holds them in full."""
    m = setting.model.of(kind)
    index = INDEX_KEY_BYTES * m.index_head_dim if m.index_num_heads else 0.0
    return token_layer_bytes(setting, kind) + index if m.compress_ratio else 0.0


def compressed_tokens(setting: Setting, kind: LayerKind, tokens: Number) -> Array:
    """Compressed keys that ``tokens`` have made."""
    ratio = setting.model.of(kind).compress_ratio
    return np.floor(np.asarray(tokens, dtype=float) / ratio) if ratio else np.zeros(np.shape(tokens))


def image_bytes(setting: Setting, kind: LayerKind, whole: bool = False) -> float:
    """Bytes of the keys and values of a request's images in a layer that attends to them (Llama 3.2 Vision).

    images x tokens of an image x heads x (key width + value width), kept beside those of the text for as long as it.
    """
    m, s = setting.model.of(kind), setting.serving
    if not m.image_attention:
        return 0.0
    heads = float(m.num_kv_heads) if whole else max(m.num_kv_heads / s.tp, 1.0)
    scale = KV_SCALE_BYTES if setting.kv_dtype == "int8" else 0.0
    width = (m.head_dim + m.value_head_dim) * DTYPE_BYTES[setting.kv_dtype] + 2.0 * scale
    return s.images * setting.model.tokens_per_image * heads * width


def layer_state_bytes(setting: Setting, kind: LayerKind, whole: bool = False) -> float:
    """Bytes that one sequence keeps in one layer however long it is, on one GPU: a recurrent state is cut by its heads.

    A compressor keeps the projections of the run that is not yet full, and where runs overlap of the one before, whole on
    every GPU.
    """
    m = setting.model.of(kind)
    lanes, width = 1.0 + m.compress_overlap, float(m.head_dim + (m.index_head_dim if m.index_num_heads else 0))
    open_run = m.compress_ratio * lanes * 2.0 * lanes * width * setting.width
    state = state_bytes(m) / (1.0 if whole else float(setting.serving.tp))
    return state + open_run + image_bytes(setting, kind, whole)


def kept_tokens(setting: Setting, kind: LayerKind, tokens: Number) -> Array:
    """Tokens that a layer keeps of a sequence: all, or the window of a sliding layer; in whole blocks."""
    block = float(setting.block_size) if "paged_cache" in setting.engine.features else 1.0
    window = float(setting.model.sliding_window or np.inf) if kind.sliding else np.inf
    return np.asarray(np.ceil(np.minimum(np.asarray(tokens, dtype=float), window) / block) * block)


def sequence_bytes(setting: Setting, tokens: Number, stage: int | None = None) -> Array:
    """Bytes on one GPU of one sequence of ``tokens``: of pipeline ``stage``, or of the fullest one."""
    stages = setting.stages if stage is None else (setting.stages[stage],)
    return np.asarray(np.maximum.reduce([_layers_bytes(setting, kinds, tokens, False) for kinds in stages]))


def replica_sequence_bytes(setting: Setting, tokens: Number) -> Array:
    """Bytes of one sequence over all GPUs of a replica, copies not counted."""
    return _layers_bytes(setting, setting.model.layer_kinds, tokens, True)


def _layers_bytes(setting: Setting, kinds: Iterable[LayerKind], tokens: Number, whole: bool) -> Array:
    total = np.zeros(np.shape(tokens))
    for kind, count in Counter(kinds).items():
        cache = token_layer_bytes(setting, kind, whole) * kept_tokens(setting, kind, tokens)
        cache = cache + compressed_bytes(setting, kind) * compressed_tokens(setting, kind, tokens)
        total = total + count * (cache + layer_state_bytes(setting, kind, whole))
    return np.asarray(total)
