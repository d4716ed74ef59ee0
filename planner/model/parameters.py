"""The one place that counts parameters: every tensor of a layer, of the embeddings and of the head, and how it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from planner.model.architecture import LayerKind, Model
from planner.model.mixers import mixer_vectors
from planner.model.projections import Projection, Shard, hyper_outputs, projections


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
    matrices = (t for name, some in groupby(projections(model, kind), lambda p: p.tensor) for t in _linear(name, tuple(some)))
    vectors = (*_attention_vectors(m), *_latent_vectors(m)) if m.attends or m.image_attention else ()
    return (*matrices, *vectors, *_mixer_vectors(m), *_norms(m), *_streams(m))


def _linear(name: str, some: tuple[Projection, ...]) -> Iterator[ParameterTensor]:
    """Weight and bias of linear layers that lie side by side in one tensor. A sum over tp ranks adds its bias once, whole."""
    shard = some[0].shard
    after: Shard = ("expert_replicated" if shard == "expert" else "replicated") if some[0].by_inputs else shard
    yield from _tensor(f"{name}.weight", sum(p.elements for p in some), shard)
    yield from _tensor(f"{name}.bias", sum(p.outputs * p.copies for p in some if p.bias), after)


def _attention_vectors(m: Model) -> Iterator[ParameterTensor]:
    """Norms of queries and keys, of the output, sinks."""
    if m.attention == "mla":
        return
    yield from _tensor("attention.output_norm", m.num_heads * m.value_head_dim, "tensor", m.attention_output_norm)
    if m.qk_norm != "none":
        full = m.qk_norm == "full"
        for name, heads, wanted in (("q_norm", m.num_heads, m.qk_norm != "key"), ("k_norm", m.num_kv_heads, not m.shared_kv)):
            width = heads * m.head_dim if full else m.head_dim
            yield from _tensor(f"attention.{name}.weight", width, "replicated", m.qk_norm_weight and wanted)
            yield from _tensor(f"attention.{name}.bias", width, "replicated", m.qk_norm_bias and wanted)
    yield from _tensor("attention.sinks", m.num_heads, "tensor", m.attention_sinks)
    yield from _compressor_vectors(m, "compress", m.head_dim)


def _latent_vectors(m: Model) -> Iterator[ParameterTensor]:
    """Norms of the latents of queries and of keys and values, and of the indexer's key."""
    yield from _tensor("attention.q_down_norm.weight", m.q_lora_rank or 0, "replicated")
    yield from _tensor("attention.kv_down_norm.weight", m.kv_lora_rank or 0, "replicated", m.attention == "mla")
    if m.index_num_heads and m.compress_ratio:
        yield from _compressor_vectors(m, "index.key", m.index_head_dim)
    else:
        yield from _tensor("attention.index.key.norm", 2 * m.index_head_dim, "replicated", m.index_num_heads > 0)


def _compressor_vectors(m: Model, name: str, width: int) -> Iterator[ParameterTensor]:
    """A bias for each place in the run, as wide as what is summed, and a norm."""
    wanted = m.compress_ratio > 0
    places = m.compress_ratio * (1 + m.compress_overlap) * width
    yield from _tensor(f"attention.{name}.bias", places, "replicated", wanted)
    yield from _tensor(f"attention.{name}.norm", width, "replicated", wanted)


def _mixer_vectors(m: Model) -> Iterator[ParameterTensor]:
    """Vectors of what mixes tokens beside or instead of attention."""
    for name, elements, cut in mixer_vectors(m):
        yield from _tensor(f"mixer.vectors.{name}", elements, "tensor" if cut else "replicated")


def _streams(m: Model) -> Iterator[ParameterTensor]:
    """What a layer has beside its blocks: norms and AltUp of Gemma 3n, hyper-connections, vectors without a field."""
    h, n = m.hidden_size, m.altup_streams
    yield from _tensor("streams.per_layer_norm", h, "replicated", m.per_layer_embedding_size > 0)
    yield from _tensor("streams.altup", n**3 + n**2 + n * h + 2 * h, "replicated", n > 0)
    yield from _tensor("streams.laurel_norm", h, "replicated", m.laurel_rank > 0)
    yield from _tensor("streams.hyper_vectors", 2 * (hyper_outputs(m) + 3), "replicated", m.hyper_streams > 0)
    yield from _tensor("streams.vectors", m.layer_vectors, "replicated")


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
