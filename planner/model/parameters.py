"""The one place that counts parameters: every tensor of a layer, of the embeddings and of the head, and how it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from planner.model.architecture import LayerKind, Model
from planner.model.mixers import mixer_linears, mixer_vectors

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
    m = model.of(kind)
    attention = _latent_attention(m) if m.attention == "mla" else _attention(m)
    inner = _moe(m) if kind.moe else () if m.feed_forward == "none" else _feed_forward(m)
    return (*(attention if m.attends else ()), *_cross(m), *_mixer(m), *inner, *_norms(m), *_streams(m))


def _attention(m: Model) -> Iterator[ParameterTensor]:
    h, q, kv = m.hidden_size, m.num_heads * m.head_dim, m.num_kv_heads * m.head_dim
    value, own = m.num_heads * m.value_head_dim, not m.shared_kv
    kv_value = 0 if m.keys_are_values or m.one_key_value else m.num_kv_heads * m.value_head_dim
    if m.q_lora_rank:
        yield from _tensor("attention.q_down.weight", h * m.q_lora_rank, "replicated")
        yield from _tensor("attention.q_down_norm.weight", m.q_lora_rank, "replicated")
    yield from _tensor(
        "attention.q_up.weight" if m.q_lora_rank else "attention.qkv.query.weight", (m.q_lora_rank or h) * q, "tensor"
    )
    yield from _tensor("attention.qkv.key_value.weight", h * (kv + kv_value), "kv_heads", own)
    yield from _tensor("attention.qkv.query.bias", q, "tensor", m.qkv_bias)
    yield from _tensor("attention.qkv.key_value.bias", kv + kv_value, "kv_heads", m.qkv_bias and own)
    yield from _gate(m, value)
    yield from _tensor("attention.output_norm", value, "tensor", m.attention_output_norm)
    yield from _tensor("attention.output_down.weight", value * m.output_lora_rank, "tensor")
    yield from _tensor("attention.output.weight", (m.output_groups * m.output_lora_rank or value) * h, "tensor")
    yield from _tensor("attention.output.bias", h, "replicated", m.attention_output_bias)
    if m.qk_norm != "none":
        widths = (q, kv) if m.qk_norm == "full" else (m.head_dim, m.head_dim)
        for name, width, wanted in (("q_norm", widths[0], m.qk_norm != "key"), ("k_norm", widths[1], own)):
            yield from _tensor(f"attention.{name}.weight", width, "replicated", m.qk_norm_weight and wanted)
            yield from _tensor(f"attention.{name}.bias", width, "replicated", m.qk_norm_bias and wanted)
    yield from _tensor("attention.sinks", m.num_heads, "tensor", m.attention_sinks)
    yield from _compressor(m, "compress", m.head_dim)
    yield from _indexer(m)


def _cross(m: Model) -> Iterator[ParameterTensor]:
    """Attention to the encoder's output: queries from the decoder's stream, keys and values from that output."""
    h, q, value = m.hidden_size, m.num_heads * m.head_dim, m.num_heads * m.value_head_dim
    kv, wanted = m.num_kv_heads * (m.head_dim + m.value_head_dim), m.cross_attention
    yield from _tensor("cross.query.weight", h * q, "tensor", wanted)
    yield from _tensor("cross.query.bias", q, "tensor", wanted and m.qkv_bias)
    yield from _tensor("cross.key_value.weight", h * kv, "kv_heads", wanted)
    yield from _tensor("cross.key_value.bias", kv, "kv_heads", wanted and m.qkv_bias)
    yield from _tensor("cross.output.weight", value * h, "tensor", wanted)
    yield from _tensor("cross.output.bias", h, "replicated", wanted and m.attention_output_bias)


def _compressor(m: Model, name: str, width: int) -> Iterator[ParameterTensor]:
    """One key of ``width`` from ``compress_ratio`` tokens, weighted by a softmax over them: a projection of what is summed, one
    of its weights, a bias for each place in the run, a norm. Overlapping runs need each twice as wide."""
    lanes, wanted = 1 + m.compress_overlap, m.compress_ratio > 0
    yield from _tensor(f"attention.{name}.weight", 2 * m.hidden_size * lanes * width, "replicated", wanted)
    yield from _tensor(f"attention.{name}.bias", m.compress_ratio * lanes * width, "replicated", wanted)
    yield from _tensor(f"attention.{name}.norm", width, "replicated", wanted)


def _gate(m: Model, value: int) -> Iterator[ParameterTensor]:
    """A sigmoid gate on attention's output, one for each head or for each element."""
    width = m.num_heads if m.attention_gate == "head" else value
    yield from _tensor("attention.qkv.gate.weight", m.hidden_size * width, "tensor", m.attention_gate != "none")
    yield from _tensor("attention.qkv.gate.bias", width, "tensor", m.attention_gate == "query" and m.qkv_bias)


def _indexer(m: Model) -> Iterator[ParameterTensor]:
    """The lightning indexer: queries from the query latent, one key, a weight per head (DeepSeek-V3.2, section 2.1)."""
    d, wanted = m.index_head_dim, m.index_num_heads > 0
    yield from _tensor(
        "attention.index.query.weight", (m.q_lora_rank or m.hidden_size) * m.index_num_heads * d, "replicated", wanted
    )
    if wanted and m.compress_ratio:
        yield from _compressor(m, "index.key", d)
    else:
        yield from _tensor("attention.index.key.weight", m.hidden_size * d, "replicated", wanted)
        yield from _tensor("attention.index.key_norm", 2 * d, "replicated", wanted)
    weighted = wanted and (
        m.attention == "mla" or m.compress_ratio > 0
    )  # beside grouped heads all of the indexer's heads weigh the same (MiniMax-M3)
    yield from _tensor("attention.index.scores.weight", m.hidden_size * m.index_num_heads, "replicated", weighted)


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
    yield from _gate(m, heads * value)
    yield from _tensor("attention.output.weight", heads * value * h, "tensor")
    yield from _tensor("attention.output.bias", h, "replicated", m.attention_output_bias)
    yield from _indexer(m)


def _mixer(m: Model) -> Iterator[ParameterTensor]:
    """Projections and vectors of what mixes tokens beside or instead of attention."""
    for linear in mixer_linears(m):
        shard: Shard = "tensor" if linear.cut else "replicated"
        yield from _tensor(f"mixer.{linear.step}.{linear.part}.weight", linear.inputs * linear.outputs, shard)
        yield from _tensor(f"mixer.{linear.step}.{linear.part}.bias", linear.outputs, shard, linear.bias)
    for name, elements, cut in mixer_vectors(m):
        yield from _tensor(f"mixer.vectors.{name}", elements, "tensor" if cut else "replicated")


def _streams(m: Model) -> Iterator[ParameterTensor]:
    """What a layer has beside its blocks: per-layer embeddings, AltUp and LAuReL of Gemma 3n, vectors without a field."""
    h, d, n = m.hidden_size, m.per_layer_embedding_size, m.altup_streams
    yield from _tensor("streams.per_layer.weight", 2 * h * d, "replicated")
    yield from _tensor("streams.per_layer_norm", h, "replicated", d > 0)
    yield from _tensor("streams.altup", n**3 + n**2 + n * h + 2 * h, "replicated", n > 0)
    yield from _tensor("streams.laurel.weight", 2 * h * m.laurel_rank, "replicated")
    yield from _tensor("streams.laurel_norm", h, "replicated", m.laurel_rank > 0)
    yield from _tensor("streams.hyper.weight", 2 * hyper_outputs(m) * m.hyper_streams * h, "replicated")
    yield from _tensor("streams.hyper_vectors", 2 * (hyper_outputs(m) + 3), "replicated", m.hyper_streams > 0)
    yield from _tensor("streams.vectors", m.layer_vectors, "replicated")


def hyper_outputs(m: Model) -> int:
    """Weights that a hyper-connection computes for a token: into the block, out of it, and of each stream on each."""
    return m.hyper_streams * (2 + m.hyper_streams)


def _feed_forward(m: Model) -> Iterator[ParameterTensor]:
    h, f, lanes = m.hidden_size, m.ffn_hidden_size, 2 if m.gated_ffn else 1
    yield from _tensor("ffn.in.weight", h * f * lanes, "tensor")
    yield from _tensor("ffn.in.bias", f * lanes, "tensor", m.ffn_bias)
    yield from _tensor("ffn.out.weight", f * h, "tensor")
    yield from _tensor("ffn.out.bias", h, "replicated", m.ffn_bias)


def _moe(m: Model) -> Iterator[ParameterTensor]:
    h, e, lanes = m.hidden_size, m.num_experts, 2 if m.gated_ffn else 1
    f, io, choices = int(m.expert_ffn_hidden_size or 0), m.expert_latent_size or h, e + m.num_zero_experts
    yield from _tensor("router.weight", h * choices, "replicated")
    yield from _tensor("router.bias", choices, "replicated", m.router_bias)
    yield from _tensor("latent.in.weight", h * io, "replicated", m.expert_latent_size is not None)
    yield from _tensor("latent.out.weight", io * h, "replicated", m.expert_latent_size is not None)
    yield from _tensor("experts.in.weight", e * io * f * lanes, "expert")
    yield from _tensor("experts.in.bias", e * f * lanes, "expert", m.ffn_bias)
    yield from _tensor("experts.out.weight", e * f * io, "expert")
    yield from _tensor("experts.out.bias", e * io, "expert_replicated", m.ffn_bias)
    shared = m.num_shared_experts * int(m.shared_expert_ffn_hidden_size or 0)
    yield from _tensor("shared.in.weight", h * shared * lanes, "tensor")
    yield from _tensor("shared.out.weight", shared * h, "tensor")
    yield from _tensor("shared.gate.weight", h, "replicated", m.shared_expert_gate)


def _norms(m: Model) -> Iterator[ParameterTensor]:
    yield from _tensor("norms.weight", m.norms_per_layer * m.hidden_size, "replicated", m.norm_weight)
    yield from _tensor("norms.bias", m.norms_per_layer * m.hidden_size, "replicated", m.norm_weight and m.norm_bias)


@lru_cache(maxsize=4096)
def embedding_parameters(model: Model) -> tuple[ParameterTensor, ...]:
    """Weights at the entrance: words, positions, token types, norm, projection, vision towers."""
    m, width = model, model.embedding_projection_size or model.hidden_size
    learned, inner = m.position_embedding == "learned", width if m.embedding_all_narrow else m.hidden_size
    projected = m.embedding_projection_size is not None
    return (
        *_tensor("embedding.words", m.vocab_size * width, "vocabulary"),
        *_tensor("embedding.projection", width * m.hidden_size, "replicated", projected),
        *_tensor("embedding.projection_bias", m.hidden_size, "replicated", projected and m.embedding_all_narrow),
        *_tensor("embedding.positions", m.max_positions * inner, "replicated", learned),
        *_tensor("embedding.types", m.type_vocab_size * inner, "replicated"),
        *_tensor("embedding.norm.weight", inner, "replicated", m.embedding_norm),
        *_tensor("embedding.norm.bias", inner, "replicated", m.embedding_norm and m.norm_bias),
        *_source(m, inner if learned else 0),
        *_per_layer_embeddings(m),
        *_tensor("embedding.altup", 2 * (m.altup_streams - 1) * m.hidden_size**2, "replicated", m.altup_streams > 1),
        *_tensor("embedding.vectors", m.model_vectors, "replicated"),
        *(tensor for tower in m.towers for tensor in _tensor(f"towers.{tower.name}", tower.parameters, "replicated")),
    )


def _source(m: Model, positions: int) -> Iterator[ParameterTensor]:
    """What an encoder in front has of its own outside its layers: positions, norm of the embedding, final norm."""
    rows, norm = m.source_positions or m.max_positions, (1 + m.norm_bias) * m.hidden_size
    yield from _tensor("embedding.source_positions", rows * positions, "replicated", m.cross_attention)
    yield from _tensor("embedding.source_norm", norm, "replicated", m.cross_attention and m.embedding_norm)
    yield from _tensor("embedding.encoder_norm", norm, "replicated", m.cross_attention and m.final_norm and m.norm_weight)


def _per_layer_embeddings(m: Model) -> Iterator[ParameterTensor]:
    """A second table, a vector of each layer for each token; the projection of the words to as many; one norm."""
    wide = m.num_layers * m.per_layer_embedding_size
    yield from _tensor("embedding.per_layer_words", (m.per_layer_vocab_size or m.vocab_size) * wide, "vocabulary")
    yield from _tensor("embedding.per_layer_projection", m.hidden_size * wide, "replicated")
    yield from _tensor("embedding.per_layer_norm", m.per_layer_embedding_size, "replicated")


@lru_cache(maxsize=4096)
def head_parameters(model: Model) -> tuple[ParameterTensor, ...]:
    """Weights at the exit: final norm, transform of a masked head, output layer (absent when tied), biases, pooler."""
    m, h = model, model.hidden_size
    width = m.embedding_projection_size or h
    masked, has_head = m.head == "masked_language_model", m.head != "none"
    inner = width if m.embedding_all_narrow else h
    projected = m.embedding_projection_size is not None and not m.embedding_all_narrow
    return (
        *_tensor("head.hyper", m.hyper_streams**2 * h + m.hyper_streams + 1, "replicated", m.hyper_streams > 0),
        *_tensor("head.norm.weight", h, "replicated", m.final_norm and m.norm_weight),
        *_tensor("head.norm.bias", h, "replicated", m.final_norm and m.norm_weight and m.norm_bias),
        *_tensor("head.transform.weight", h * inner, "replicated", masked),
        *_tensor("head.transform.bias", inner, "replicated", masked and m.norm_bias),
        *_tensor("head.transform.norm", (1 + m.norm_bias) * inner, "replicated", masked),
        *_tensor("head.projection", h * width, "replicated", has_head and projected),
        *_tensor("head.words", m.vocab_size * width, "vocabulary", has_head and not m.tied_embeddings),
        *_tensor("head.bias", m.vocab_size, "vocabulary", has_head and m.head_bias),
        *_tensor("pooler.weight", h * h, "replicated", m.pooler),
        *_tensor("pooler.bias", h, "replicated", m.pooler),
        *_tensor("labels.weight", h * m.num_labels, "replicated"),
        *_tensor("labels.bias", m.num_labels, "replicated", m.label_bias),
    )


@lru_cache(maxsize=256)
def parameters_total(model: Model) -> int:
    """All parameters, towers included; a tied output layer counts once."""
    layers = sum(t.elements for kind in model.layer_kinds for t in layer_parameters(model, kind))
    ends = sum(t.elements for t in (*embedding_parameters(model), *head_parameters(model)))
    return round(layers + ends)


@lru_cache(maxsize=256)
def parameters_active(model: Model) -> int:
    """Parameters that one token passes: top_k of num_experts in each MoE layer, everything else once. Of a router with choices
    that compute nothing, the mean: top_k E / (E + zero experts) (LongCat-Flash: 18.6 to 31.3 billion, 27 in the mean).

    Embeddings count in full, as the published figures of Mixtral, Qwen and DeepSeek do.
    """
    idle = 0.0
    for kind in model.layer_kinds:
        if kind.moe:
            experts = sum(t.elements for t in layer_parameters(model, kind) if t.shard.startswith("expert"))
            idle += experts * (1.0 - model.inside_experts.top_k / model.num_experts)
    return round(parameters_total(model) - idle)
