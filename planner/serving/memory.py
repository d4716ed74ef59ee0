"""Bytes of the fullest GPU of a deployment: weights, cache, workspace, and what the software takes beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from planner.common.arrays import Array, Number
from planner.hardware.cluster import Cluster, usable_bytes
from planner.serving.kv_cache import sequence_bytes
from planner.serving.setting import Setting
from planner.serving.weights import stage_bytes

GATED_TENSORS = 3.0
"""Live tensors of a gated feed-forward's inner size, which ``workspace_ffn`` counts where nothing else is live: gate, up and
their product (vllm, layers/activation.py, SiluAndMul: an output beside its input of twice the size)."""
KINDS = ("weights", "kv_cache", "workspace", "overhead")


@dataclass(frozen=True, kw_only=True)
class ServingMemory:
    """Bytes by kind on the fullest GPU; arrays of shape ``(n,)`` over batches."""

    weights_bytes: Array
    kv_cache_bytes: Array
    workspace_bytes: Array
    overhead_bytes: Array

    @property
    def total_bytes(self) -> Array:
        """Everything."""
        return np.asarray(self.weights_bytes + self.kv_cache_bytes + self.workspace_bytes + self.overhead_bytes)


def workspace_bytes(setting: Setting, tokens: Number, sequences: Number) -> Array:
    """Live tensors of one pass of ``tokens``: hidden vectors, the feed-forward's inner ones, logits.

    Logits of the last token of each sequence, or of all tokens where the engine computes them. Experts have two buffers, for
    inputs and for results of both products, as wide as the wider one, in place of those ``GATED_TENSORS``. Where a GPU sees the
    tokens of all attention groups it has room for all of their pairs with experts: all may choose those that it holds (vLLM,
    fused_moe/modular_kernel.py, workspace_shapes; TensorRT-LLM, moe_kernels.cu, getWorkspaceDeviceBufferSizes). Of itself
    neither takes them in parts: vLLM no more since its pull request 34086 (2026), TensorRT-LLM only where
    moe_config.max_num_tokens is given (configurable_moe.py: else max_num_tokens x dp_size).
    """
    m, s, e = setting.model, setting.serving, setting.engine
    inner = float(m.ffn_hidden_size) / s.tp
    if m.num_experts:  # routed copies of the tokens, and the widest of dense and shared blocks
        own, hidden = float(m.expert_ffn_hidden_size or 0) / setting.etp, float(m.expert_latent_size or m.hidden_size)
        pairs = m.top_k * s.attention_groups / (1.0 if setting.dispatcher in ("none", "gather") else s.ep)
        routed = pairs * (max(own, hidden) + max((2.0 if m.gated_ffn else 1.0) * own, hidden)) / GATED_TENSORS
        shared = m.num_shared_experts * float(m.shared_expert_ffn_hidden_size or 0) / s.tp
        dense = inner if any(not kind.moe for kind in m.layer_kinds) else 0.0
        inner = max(routed, shared, dense)
    wide = e.workspace_hidden * m.hidden_size + e.workspace_ffn * inner
    t, rows = np.asarray(tokens, dtype=float), np.asarray(sequences, dtype=float)
    logits = (t if e.logits == "all" else rows) * m.vocab_size / s.tp * e.logits_bytes
    return np.maximum(setting.width * wide * t, logits)


def scores_bytes(setting: Setting, tokens: Number, prompt: float) -> Array:
    """Live scores of a pass of ``tokens``, each with every key of its ``prompt``, where attention is not one kernel."""
    heads = setting.model.num_heads / float(setting.serving.tp)
    return np.asarray(setting.engine.score_bytes * heads * np.asarray(tokens, dtype=float) * prompt)


def pass_tokens(setting: Setting, batch: Number, prompt: float) -> Array:
    """Tokens of the largest pass: as many prompts as the engine takes at once; a long one in parts where it can."""
    s, e = setting.serving, setting.engine
    b = s.fullest_group(batch)
    if s.chunked_prefill_tokens is not None:
        return np.maximum(np.minimum(b * prompt, float(s.chunked_prefill_tokens)), b)
    whole = 0.0 if "chunked_prefill" in e.features else prompt
    return np.maximum(np.minimum(b * prompt, max(float(setting.pass_tokens), whole)), b)


def overhead_bytes(setting: Setting) -> float:
    """Context and communicators."""
    s, e = setting.serving, setting.engine
    groups = sum(degree > 1 for degree in (s.tp, s.ep, s.pp))
    return e.context_bytes + (e.communicator_bytes * groups if s.tp > 1 or s.ep > 1 else 0.0)


def memory(setting: Setting, batch: Number, prompt: float, context: float, draft: Setting | None = None) -> ServingMemory:
    """Bytes on the fullest stage's GPU with ``batch`` sequences of ``context`` tokens each, prompts of ``prompt``."""
    b = np.asarray(batch, dtype=float)
    here = setting.serving.fullest_group(b)
    tokens = pass_tokens(setting, b, prompt)
    work = np.maximum(workspace_bytes(setting, tokens, here), scores_bytes(setting, tokens, prompt))
    for seen in setting.encoders:  # the images of one request at a time
        patches = max(setting.serving.images, 1.0) * float(seen.serving.prompt.mean or 1.0)
        work = np.maximum(work, workspace_bytes(seen, patches, 1.0))
    over = overhead_bytes(setting)
    best: ServingMemory | None = None
    for stage, weights in enumerate(stage_bytes(setting)):
        cache = here * sequence_bytes(setting, context, stage)
        if draft is not None:
            weights = weights + max(stage_bytes(draft))
            cache = cache + here * sequence_bytes(draft, context)
        found = ServingMemory(
            weights_bytes=weights + 0.0 * b, kv_cache_bytes=cache, workspace_bytes=work, overhead_bytes=over + 0.0 * b
        )
        if best is None or float(np.max(found.total_bytes)) > float(np.max(best.total_bytes)):
            best = found
    assert best is not None
    return best


def limit_bytes(setting: Setting, used: ServingMemory) -> float:
    """The most bytes of a GPU that weights, workspace, context and cache may take together, by ``memory_counts``.

    all: f C; weights_and_cache: min(f (C - o) + w + o, C); cache: h + f (C - h), or C where h is more than that. C = bytes of the
    GPU, f = ``memory_fraction``, o = context and communicators (``overhead_bytes``), w = workspace of ``used``, h = its weights +
    w + o.
    """
    card, fraction = card_bytes(setting.cluster), setting.engine.memory_fraction
    own = float(np.max(used.workspace_bytes + used.overhead_bytes))
    if setting.engine.memory_counts == "weights_and_cache":
        return min(fraction * (card - float(np.max(used.overhead_bytes))) + own, card)
    if setting.engine.memory_counts == "cache":
        held = own + float(np.max(used.weights_bytes))
        return held + fraction * (card - held) if held < card else card
    return fraction * card


def fits(setting: Setting, used: ServingMemory) -> bool:
    """Whether the engine holds that."""
    return float(used.total_bytes) <= limit_bytes(setting, used)


def card_bytes(cluster: Cluster) -> float:
    """What the framework sees of a GPU."""
    return usable_bytes(cluster)


def largest_batch(setting: Setting, prompt: float, context: float, draft: Setting | None = None, most: int = 1_000_000) -> int:
    """Sequences that fit at once; 0 when not even one does. Cache and workspace grow with the batch: bisection."""
    return _largest(most, lambda b: fits(setting, memory(setting, float(b), prompt, context, draft)))


def largest_context(setting: Setting, batch: int, output: float, draft: Setting | None = None, most: int = 2**27) -> int:
    """Tokens of prompt and output per sequence that fit with ``batch`` sequences; 0 when none do."""

    def held(context: int) -> bool:
        return fits(setting, memory(setting, float(batch), max(context - output, 1.0), float(context), draft))

    return _largest(most, held)


def _largest(most: int, holds: Callable[[int], bool]) -> int:
    """The largest number up to ``most`` that ``holds``, 0 where 1 does not: by doubling, then by halves."""
    low, high = 0, 1
    while high <= most and holds(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
