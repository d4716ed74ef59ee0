"""The one place that counts parameters: every tensor of a layer, of the embeddings and of the head, and how it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from planner.model.architecture import LayerKind, Model

Shard = Literal["tensor", "kv_heads", "replicated", "vocabulary", "expert", "expert_replicated"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterTensor:
    """One weight. ``shard`` says over what it is cut.

    ``tensor``: tp. ``kv_heads``: tp, at most one head each. ``vocabulary``: its rows over tp. ``replicated``: whole on
    every rank of the tp group. ``expert``: ep x etp (``elements`` counts all experts). ``expert_replicated``: per expert,
    over ep only.
    """

    name: str
    elements: float
    shard: Shard


def _tensor(name: str, elements: float, shard: Shard, wanted: bool = True) -> Iterator[ParameterTensor]:
    if wanted and elements:
        yield ParameterTensor(name=name, elements=float(elements), shard=shard)


@lru_cache(maxsize=4096)
def layer_parameters(model: Model, kind: LayerKind) -> tuple[ParameterTensor, ...]:
    """All weights of one layer of that kind."""
    attention = _latent_attention(model) if model.attention == "mla" else _attention(model)
    inner = _moe(model) if kind.moe else _feed_forward(model)
    return (*attention, *inner, *_norms(model))


def _attention(m: Model) -> Iterator[ParameterTensor]:
    h, q, kv = m.hidden_size, m.num_heads * m.head_dim, m.num_kv_heads * m.head_dim
    yield from _tensor("attention.qkv.query.weight", h * q, "tensor")
    yield from _tensor("attention.qkv.key_value.weight", h * 2 * kv, "kv_heads")
    yield from _tensor("attention.qkv.query.bias", q, "tensor", m.qkv_bias)
    yield from _tensor("attention.qkv.key_value.bias", 2 * kv, "kv_heads", m.qkv_bias)
    yield from _tensor("attention.output.weight", q * h, "tensor")
    yield from _tensor("attention.output.bias", h, "replicated", m.attention_output_bias)
    if m.qk_norm != "none":
        widths = (m.head_dim, m.head_dim) if m.qk_norm == "head" else (q, kv)
        yield from _tensor("attention.q_norm.weight", widths[0], "replicated")
        yield from _tensor("attention.k_norm.weight", widths[1], "replicated")
    yield from _tensor("attention.sinks", m.num_heads, "tensor", m.attention_sinks)


def _latent_attention(m: Model) -> Iterator[ParameterTensor]:
    h, heads = m.hidden_size, m.num_heads
    latent, rope, value = int(m.kv_lora_rank or 0), int(m.qk_rope_head_dim or 0), int(m.v_head_dim or 0)
    query = heads * m.qk_head_dim
    if m.q_lora_rank:
        yield from _tensor("attention.q_down.weight", h * m.q_lora_rank, "replicated")
        yield from _tensor("attention.q_down.bias", m.q_lora_rank, "replicated", m.qkv_bias)
        yield from _tensor("attention.q_down_norm.weight", m.q_lora_rank, "replicated")
        yield from _tensor("attention.q_up.weight", m.q_lora_rank * query, "tensor")
    else:
        yield from _tensor("attention.q_up.weight", h * query, "tensor")
    yield from _tensor("attention.kv_down.weight", h * (latent + rope), "replicated")
    yield from _tensor("attention.kv_down.bias", latent + rope, "replicated", m.qkv_bias)
    yield from _tensor("attention.kv_down_norm.weight", latent, "replicated")
    yield from _tensor("attention.kv_up.weight", latent * heads * (int(m.qk_nope_head_dim or 0) + value), "tensor")
    yield from _tensor("attention.output.weight", heads * value * h, "tensor")
    yield from _tensor("attention.output.bias", h, "replicated", m.attention_output_bias)


def _feed_forward(m: Model) -> Iterator[ParameterTensor]:
    h, f, lanes = m.hidden_size, m.ffn_hidden_size, 2 if m.gated_ffn else 1
    yield from _tensor("ffn.in.weight", h * f * lanes, "tensor")
    yield from _tensor("ffn.in.bias", f * lanes, "tensor", m.ffn_bias)
    yield from _tensor("ffn.out.weight", f * h, "tensor")
    yield from _tensor("ffn.out.bias", h, "replicated", m.ffn_bias)


def _moe(m: Model) -> Iterator[ParameterTensor]:
    h, e, lanes = m.hidden_size, m.num_experts, 2 if m.gated_ffn else 1
    f = int(m.expert_ffn_hidden_size or 0)
    yield from _tensor("router.weight", h * e, "replicated")
    yield from _tensor("router.bias", e, "replicated", m.router_bias)
    yield from _tensor("experts.in.weight", e * h * f * lanes, "expert")
    yield from _tensor("experts.in.bias", e * f * lanes, "expert", m.ffn_bias)
    yield from _tensor("experts.out.weight", e * f * h, "expert")
    yield from _tensor("experts.out.bias", e * h, "expert_replicated", m.ffn_bias)
    shared = m.num_shared_experts * int(m.shared_expert_ffn_hidden_size or 0)
    yield from _tensor("shared.in.weight", h * shared * lanes, "tensor")
    yield from _tensor("shared.out.weight", shared * h, "tensor")
    yield from _tensor("shared.gate.weight", h, "replicated", m.shared_expert_gate)


def _norms(m: Model) -> Iterator[ParameterTensor]:
    yield from _tensor("norms.weight", m.norms_per_layer * m.hidden_size, "replicated")
    yield from _tensor("norms.bias", m.norms_per_layer * m.hidden_size, "replicated", m.norm_bias)


@lru_cache(maxsize=4096)
def embedding_parameters(model: Model) -> tuple[ParameterTensor, ...]:
    """Weights at the entrance: words, positions, token types, norm, projection."""
    m, width = model, model.embedding_projection_size or model.hidden_size
    learned = m.position_embedding == "learned"
    return (
        *_tensor("embedding.words", m.vocab_size * width, "vocabulary"),
        *_tensor("embedding.projection", width * m.hidden_size, "replicated", m.embedding_projection_size is not None),
        *_tensor("embedding.positions", m.max_positions * m.hidden_size, "replicated", learned),
        *_tensor("embedding.types", m.type_vocab_size * m.hidden_size, "replicated"),
        *_tensor("embedding.norm.weight", m.hidden_size, "replicated", m.embedding_norm),
        *_tensor("embedding.norm.bias", m.hidden_size, "replicated", m.embedding_norm and m.norm_bias),
    )


@lru_cache(maxsize=4096)
def head_parameters(model: Model) -> tuple[ParameterTensor, ...]:
    """Weights at the exit: final norm, transform of a masked head, output layer (absent when tied), biases, pooler."""
    m, h = model, model.hidden_size
    width = m.embedding_projection_size or h
    masked, has_head = m.head == "masked_language_model", m.head != "none"
    return (
        *_tensor("head.norm.weight", h, "replicated", m.final_norm),
        *_tensor("head.norm.bias", h, "replicated", m.final_norm and m.norm_bias),
        *_tensor("head.transform.weight", h * h, "replicated", masked),
        *_tensor("head.transform.bias", h, "replicated", masked),
        *_tensor("head.transform.norm", 2 * h, "replicated", masked),
        *_tensor("head.projection", h * width, "replicated", has_head and m.embedding_projection_size is not None),
        *_tensor("head.words", m.vocab_size * width, "vocabulary", has_head and not m.tied_embeddings),
        *_tensor("head.bias", m.vocab_size, "vocabulary", has_head and m.head_bias),
        *_tensor("pooler.weight", h * h, "replicated", m.pooler),
        *_tensor("pooler.bias", h, "replicated", m.pooler),
        *_tensor("labels.weight", h * m.num_labels, "replicated"),
        *_tensor("labels.bias", m.num_labels, "replicated"),
    )


@lru_cache(maxsize=256)
def parameters_total(model: Model) -> int:
    """All parameters; a tied output layer counts once."""
    layers = sum(t.elements for kind in model.layer_kinds for t in layer_parameters(model, kind))
    ends = sum(t.elements for t in (*embedding_parameters(model), *head_parameters(model)))
    return round(layers + ends)


@lru_cache(maxsize=256)
def parameters_active(model: Model) -> int:
    """Parameters that one token passes: top_k of num_experts in each MoE layer, everything else once.

    Embeddings count in full, as the published figures of Mixtral, Qwen and DeepSeek do.
    """
    idle = 0.0
    for kind in model.layer_kinds:
        if kind.moe:
            experts = sum(t.elements for t in layer_parameters(model, kind) if t.shard.startswith("expert"))
            idle += experts * (1.0 - model.top_k / model.num_experts)
    return round(parameters_total(model) - idle)
