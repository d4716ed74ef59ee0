"""Bytes of keys and values: per token and layer, per sequence in whole blocks, and how many sequences fit."""

from __future__ import annotations

from collections import Counter

import numpy as np

from planner.common.arrays import Array, Number
from planner.common.units import DTYPE_BYTES
from planner.model.architecture import LayerKind
from planner.serving.setting import KV_SCALE_BYTES, Setting


def token_layer_bytes(setting: Setting, whole: bool = False) -> float:
    """Bytes that one token keeps in one layer, on one GPU (``whole``: on all GPUs of a tp group, without copies).

    2 x kv heads x head width; with multi-head latent attention one latent vector and the rotary key, which every GPU of
    the tp group holds in full (DeepSeek-V2, arXiv 2405.04434, section 2.1).
    """
    m, dtype = setting.model, setting.kv_dtype
    width = DTYPE_BYTES[dtype]
    scale = KV_SCALE_BYTES if dtype == "int8" else 0.0
    if m.attention == "mla":
        return float(int(m.kv_lora_rank or 0) + int(m.qk_rope_head_dim or 0)) * width + scale
    heads = float(m.num_kv_heads) if whole else max(m.num_kv_heads / setting.serving.tp, 1.0)
    return heads * ((m.head_dim + m.value_head_dim) * width + 2.0 * scale)


def kept_tokens(setting: Setting, kind: LayerKind, tokens: Number) -> Array:
    """Tokens that a layer keeps of a sequence: all, or the window of a sliding layer; in whole blocks."""
    block = float(setting.block_size) if "paged_cache" in setting.engine.features else 1.0
    window = float(setting.model.sliding_window or np.inf) if kind.sliding else np.inf
    return np.asarray(np.ceil(np.minimum(np.asarray(tokens, dtype=float), window) / block) * block)


def sequence_bytes(setting: Setting, tokens: Number, stage: int | None = None) -> Array:
    """Bytes on one GPU of one sequence of ``tokens``: of pipeline ``stage``, or of the fullest one."""
    each = token_layer_bytes(setting)
    stages = setting.stages if stage is None else (setting.stages[stage],)
    zero = np.zeros(np.shape(tokens))
    sums = [
        sum((count * each * kept_tokens(setting, kind, tokens) for kind, count in Counter(kinds).items()), zero)
        for kinds in stages
    ]
    return np.asarray(np.maximum.reduce(sums))


def replica_sequence_bytes(setting: Setting, tokens: Number) -> Array:
    """Bytes of one sequence over all GPUs of a replica, copies not counted."""
    each = token_layer_bytes(setting, whole=True)
    kinds = Counter(setting.model.layer_kinds)
    sums = (count * each * kept_tokens(setting, kind, tokens) for kind, count in kinds.items())
    return np.asarray(sum(sums, np.zeros(np.shape(tokens))))
