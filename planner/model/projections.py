"""The linear layers of a block, described once.

The count of parameters, the targets of adapters, the rows of training and the rows of serving all read this list: what one of
them multiplies by, the others count, name and cut alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

from planner.model.architecture import LayerKind, Model
from planner.model.mixers import mixer_linears

Shard = Literal["tensor", "kv_heads", "replicated", "vocabulary", "expert", "expert_replicated"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Projection:
    """One linear layer y = x W (+ b), W of shape (inputs, outputs).

    ``part``: its name. ``block``, ``operator``: the row that multiplies by it, together with the others of that operator, which
    read the same input. ``tensor``: what it is called in the list of parameters, alone or together with its neighbours.
    ``shard``: over what it is cut (``ParameterTensor``), by its outputs, or ``by_inputs``. ``copies``: of it, an expert's each.
    ``groups``: of outputs, each with inputs of its own. ``own_row``: false for a single column, which no row counts.
    """

    part: str
    block: str
    operator: str
    tensor: str
    inputs: int
    outputs: int
    shard: Shard = "replicated"
    by_inputs: bool = False
    bias: bool = False
    copies: int = 1
    groups: int = 1
    own_row: bool = True

    @property
    def elements(self) -> int:
        """Of the matrices of all copies."""
        return self.inputs * self.outputs * self.copies


@lru_cache(maxsize=4096)
def projections(model: Model, kind: LayerKind) -> tuple[Projection, ...]:
    """All linear layers of one layer of that kind."""
    m = model.of(kind)
    attention = (_latent_attention(m) if m.attention == "mla" else _attention(m)) if m.attends else ()
    inner = _moe(m) if kind.moe else _feed_forward(m) if m.feed_forward != "none" else ()
    return (*attention, *_cross(m), *_mixer(m), *inner, *_streams(m))


@lru_cache(maxsize=16384)
def of_operator(model: Model, kind: LayerKind, block: str, operator: str) -> tuple[Projection, ...]:
    """The linear layers that one row multiplies by. LookupError where there are none."""
    found = tuple(p for p in projections(model, kind) if (p.block, p.operator) == (block, operator))
    if not found:
        raise LookupError(f"{model.name}: no linear layer of {block} is multiplied by in {operator!r}")
    return found


@lru_cache(maxsize=16384)
def of_tensors(model: Model, kind: LayerKind, start: str) -> tuple[Projection, ...]:
    """The linear layers whose weights' names begin with ``start``."""
    return tuple(p for p in projections(model, kind) if f"{p.tensor}.weight".startswith(start))


def key_value_width(m: Model) -> int:
    """Outputs of the key and value projections for each head of them: none where an earlier layer's are read."""
    return 0 if m.shared_kv else m.head_dim + (0 if m.keys_are_values or m.one_key_value else m.value_head_dim)


def gate_width(m: Model) -> int:
    """Gates of each query head: one, or one for each element of its output."""
    return {"none": 0, "head": 1}.get(m.attention_gate, m.value_head_dim)


def hyper_outputs(m: Model) -> int:
    """Weights that a hyper-connection computes for a token: into the block, out of it, and of each stream on each."""
    return m.hyper_streams * (2 + m.hyper_streams)


_attend = partial(Projection, block="attention")
_stream = partial(Projection, block="streams")


def _attention(m: Model) -> Iterator[Projection]:
    """Queries of each head, keys and values of each group; or queries through a narrow vector, and one key (DeepSeek-V4)."""
    h, rank, bias = m.hidden_size, m.q_lora_rank, m.qkv_bias
    queries, keys = m.num_heads * m.head_dim, m.num_kv_heads * m.head_dim
    values = m.num_kv_heads * (key_value_width(m) - m.head_dim)
    own = partial(_attend, tensor="attention.qkv.key_value", inputs=h, bias=bias)
    if rank:
        yield from _query_latent(m, queries)
        if not m.shared_kv:
            yield own(part="key_value", operator="key value", outputs=keys + values)
    else:
        first = partial(_attend, operator="query key value", inputs=h, shard="tensor", bias=bias)
        yield first(part="query", tensor="attention.qkv.query", outputs=queries)
        if not m.shared_kv:
            yield own(part="key", operator="query key value", outputs=keys, shard="kv_heads")
        if not m.shared_kv and values:
            yield own(part="value", operator="query key value", outputs=values, shard="kv_heads")
        if m.attention_gate != "none":
            gated = m.attention_gate == "query" and bias
            yield first(part="attention_gate", tensor="attention.qkv.gate", outputs=m.num_heads * gate_width(m), bias=gated)
    yield from _compressor(m, "compressor", "attention.compress", m.head_dim, ("compressed", "compressor_gate"))
    yield from _indexer(m)
    heads, narrow = m.num_heads * m.value_head_dim, m.output_groups * m.output_lora_rank
    if narrow:
        down = partial(_attend, part="output_down", operator="output down", tensor="attention.output_down", shard="tensor")
        yield down(inputs=heads // m.output_groups, outputs=narrow, groups=m.output_groups)
    yield from _leaves(m, "attention", narrow or heads)


def _leaves(m: Model, tensor: str, inputs: int) -> Iterator[Projection]:
    """What leaves attention, or attention to an encoder's output."""
    cross = tensor == "cross"
    yield _attend(
        part=f"{tensor}_output",
        operator="cross output" if cross else "output projection",
        tensor=f"{tensor}.output",
        inputs=inputs,
        outputs=m.hidden_size,
        shard="tensor",
        by_inputs=True,
        bias=m.attention_output_bias,
    )


def _query_latent(m: Model, queries: int) -> Iterator[Projection]:
    """Down to the query latent, whole on every rank, and up to the heads. Latent attention has its bias on the way down."""
    rank, latent = int(m.q_lora_rank or 0), m.attention == "mla"
    bias = m.qkv_bias
    down = partial(_attend, part="query_down", operator="query down", tensor="attention.q_down")
    yield down(inputs=m.hidden_size, outputs=rank, bias=bias and latent)
    up = partial(_attend, part="query_up", operator="query up", tensor="attention.q_up", shard="tensor")
    yield up(inputs=rank, outputs=queries, bias=bias and not latent)


def _latent_attention(m: Model) -> Iterator[Projection]:
    """Multi-head latent attention (DeepSeek-V2, section 2.1): down to the latent on every rank, up to the heads."""
    h, heads, latent = m.hidden_size, m.num_heads, int(m.kv_lora_rank or 0)
    if m.q_lora_rank:
        yield from _query_latent(m, heads * m.qk_head_dim)
    else:
        query = partial(_attend, part="query", operator="query", tensor="attention.q_up", shard="tensor")
        yield query(inputs=h, outputs=heads * m.qk_head_dim)
    down = partial(_attend, part="key_value_down", operator="key value down", tensor="attention.kv_down")
    yield down(inputs=h, outputs=latent + int(m.qk_rope_head_dim or 0), bias=m.qkv_bias)
    up = partial(_attend, part="key_value_up", operator="key value up", tensor="attention.kv_up", shard="tensor")
    yield up(inputs=latent, outputs=heads * (int(m.qk_nope_head_dim or 0) + m.value_head_dim))
    if m.attention_gate != "none":
        gate = partial(_attend, part="attention_gate", operator="attention gate projection", tensor="attention.qkv.gate")
        gated = m.attention_gate == "query" and m.qkv_bias
        yield gate(inputs=h, outputs=heads * gate_width(m), shard="tensor", bias=gated)
    yield from _indexer(m)
    yield from _leaves(m, "attention", heads * m.value_head_dim)


def _compressor(m: Model, operator: str, tensor: str, width: int, parts: tuple[str, str]) -> Iterator[Projection]:
    """One key of ``width`` from ``compress_ratio`` tokens, weighted by a softmax over them: what is summed, and its weights.

    Overlapping runs need each twice as wide.
    """
    for part in parts if m.compress_ratio else ():
        outputs = (1 + m.compress_overlap) * width
        yield _attend(part=part, operator=operator, tensor=tensor, inputs=m.hidden_size, outputs=outputs)


def _indexer(m: Model) -> Iterator[Projection]:
    """The lightning indexer: queries from the query latent, one key, a weight per head (DeepSeek-V3.2, section 2.1)."""
    h, d = m.hidden_size, m.index_head_dim
    if not m.index_num_heads:
        return
    query = partial(_attend, part="index_query", operator="index query", tensor="attention.index.query")
    yield query(inputs=m.q_lora_rank or h, outputs=m.index_num_heads * d)
    if m.compress_ratio:
        yield from _compressor(m, "index key", "attention.index.key", d, ("index_key", "index_gate"))
    else:
        yield _attend(part="index_key", operator="index key", tensor="attention.index.key", inputs=h, outputs=d)
    if m.attention == "mla" or m.compress_ratio:  # beside grouped heads all of its heads weigh the same (MiniMax-M3)
        weights = partial(_attend, part="index_weights", operator="index weights", tensor="attention.index.scores")
        yield weights(inputs=h, outputs=m.index_num_heads)


def _cross(m: Model) -> Iterator[Projection]:
    """Attention to an encoder's output: queries from the decoder's stream, keys and values from that output."""
    if not (m.cross_attention or m.image_attention):
        return
    into = partial(_attend, inputs=m.hidden_size, bias=m.qkv_bias)
    query = partial(into, part="cross_query", operator="cross query", tensor="cross.query", shard="tensor")
    yield query(outputs=m.num_heads * m.head_dim)
    both = partial(into, operator="cross key value", tensor="cross.key_value", shard="kv_heads")
    yield both(part="cross_key", outputs=m.num_kv_heads * m.head_dim)
    yield both(part="cross_value", outputs=m.num_kv_heads * m.value_head_dim)
    yield from _leaves(m, "cross", m.num_heads * m.value_head_dim)


def _mixer(m: Model) -> Iterator[Projection]:
    for x in mixer_linears(m):
        yield Projection(
            part=x.part,
            block="mixer",
            operator=x.part,
            tensor=f"mixer.{x.step}.{x.part}",
            inputs=x.inputs,
            outputs=x.outputs,
            shard="tensor" if x.cut else "replicated",
            by_inputs=x.step == "out",
            bias=x.bias,
        )


def _two_layers(m: Model, block: str, tensor: str, prefix: str, width: int, given: partial[Projection]) -> Iterator[Projection]:
    """In, through ``width`` inner elements, two lanes where a gate multiplies them, and out."""
    inside = ("gate", "up") if m.gated_ffn else ("in",)
    for part in inside:
        yield given(
            part=prefix + part,
            block=block,
            operator="in projection",
            tensor=f"{tensor}.in",
            inputs=m.hidden_size,
            outputs=width,
        )
    yield given(
        part=prefix + ("down" if m.gated_ffn else "out"),
        block=block,
        operator="out projection",
        tensor=f"{tensor}.out",
        inputs=width,
        outputs=m.hidden_size,
        by_inputs=True,
    )


def _feed_forward(m: Model) -> Iterator[Projection]:
    given = partial(Projection, shard="tensor", bias=m.ffn_bias)
    yield from _two_layers(m, "feed_forward", "ffn", "", m.ffn_hidden_size, given)


def _moe(m: Model) -> Iterator[Projection]:
    """Router, the experts, of hidden vectors or of narrow ones (latent MoE), and those that every token passes."""
    h = m.hidden_size
    routed = partial(Projection, block="moe", inputs=h)
    choices = m.num_experts + m.num_zero_experts
    yield routed(part="router", operator="router", tensor="router", outputs=choices, bias=m.router_bias)
    narrow = m.expert_latent_size
    if narrow:
        yield routed(part="latent_in", operator="latent in", tensor="latent.in", outputs=narrow)
        yield routed(part="latent_out", operator="latent out", tensor="latent.out", inputs=narrow, outputs=h)
    given = partial(Projection, shard="expert", bias=m.ffn_bias, copies=m.num_experts)
    yield from _two_layers(m.inside_experts, "moe", "experts", "experts_", int(m.expert_ffn_hidden_size or 0), given)
    if m.num_shared_experts:
        width = m.num_shared_experts * int(m.shared_expert_ffn_hidden_size or 0)
        yield from _two_layers(m, "shared_expert", "shared", "shared_", width, partial(Projection, shard="tensor"))
    if m.shared_expert_gate:
        gate = partial(Projection, part="shared_gate_score", block="shared_expert", operator="in projection")
        yield gate(tensor="shared.gate", inputs=h, outputs=1, own_row=False)


def _streams(m: Model) -> Iterator[Projection]:
    """What a layer has beside its blocks: its own vector of each token, LAuReL (Gemma 3n), hyper-connections."""
    h, d, rank = m.hidden_size, m.per_layer_embedding_size, m.laurel_rank
    if d:
        yield _stream(part="layer_gate", operator="layer gate", tensor="streams.per_layer.gate", inputs=h, outputs=d)
        yield _stream(part="layer_projection", operator="layer projection", tensor="streams.per_layer.up", inputs=d, outputs=h)
    if rank:
        yield _stream(part="laurel_left", operator="laurel left", tensor="streams.laurel.left", inputs=h, outputs=rank)
        yield _stream(part="laurel_right", operator="laurel right", tensor="streams.laurel.right", inputs=rank, outputs=h)
    if m.hyper_streams:  # one in front of each of two blocks
        hyper = partial(_stream, part="hyper_weights", operator="hyper weights", tensor="streams.hyper", copies=2)
        yield hyper(inputs=h * m.hyper_streams, outputs=hyper_outputs(m))
