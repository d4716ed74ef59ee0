"""Attention: projections, rotary positions, the core (standard, eager or fused), output projection."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from planner.common.arrays import Mask, Number
from planner.common.message import Message
from planner.model.architecture import LayerKind, Model
from planner.model.projections import gate_width, key_value_width, projections
from planner.operators.norm import norm
from planner.operators.row import FusedAttention, Matmul, Row, changed, communication, gradient_rows, linear, pointwise
from planner.operators.setting import Setting, compressed_keys
from planner.operators.weights import local_parameters, projected

BLOCK = "attention"


def attention(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Rows of one attention block, forward and backward, from the normalized input to the residual sum."""
    return (
        *_enter(setting, kind),
        *_rotary(setting),
        *_indexer_core(setting, kind),
        *_core(setting, kind),
        *_gate(setting),
        *_output(setting, kind),
    )


def _enter(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Projections behind the tensor-parallel entrance. Latent attention gathers the latents, not the hidden states."""
    m = setting.model
    if m.attention != "mla":
        gathered = m.q_lora_rank + m.num_kv_heads * key_value_width(m) if m.q_lora_rank else m.hidden_size
        first = "query up" if m.q_lora_rank else "query key value"
        return tensor_parallel_entrance(setting, BLOCK, _projections(setting, kind), first, gathered)
    first, query = ("query up", m.q_lora_rank) if m.q_lora_rank else ("query", m.hidden_size)
    gathered = query + int(m.kv_lora_rank or 0) + int(m.qk_rope_head_dim or 0)
    return tensor_parallel_entrance(setting, BLOCK, _latent_projections(setting, kind), first, gathered)


def tensor_parallel_entrance(setting: Setting, block: str, rows: tuple[Row, ...], first: str, width: float) -> tuple[Row, ...]:
    """``rows`` behind the entrance of a tensor-parallel region whose first linear layer, of ``width`` inputs, is ``first``.

    Without sequence parallelism: all-reduce of the input's gradient. With it: all-gather forward and, backward, once more
    for the weight gradient where the framework kept the shard only, and reduce-scatter of the input's gradient
    (Korthikanti et al. 2022, figures 4-6). Megatron launches the second gather beside the multiplication of the input
    gradient, and the sum or scatter beside that of the weight gradient.
    """
    message = setting.width * width * setting.tokens
    split = setting.tensor_parallel * setting.sequence_parallel
    whole = setting.tensor_parallel * (1.0 - setting.sequence_parallel)
    input_gradient, weight_gradient = gradient_rows(rows, first)
    again = split if setting.framework.gathers_input_again else 0.0 * split
    return (
        communication("gather sequence", block, "forward", "all_gather", "tp", message, split),
        *rows,
        communication("gather sequence again", block, "backward", "all_gather", "tp", message, again, input_gradient),
        communication("scatter input gradient", block, "backward", "reduce_scatter", "tp", message, split, weight_gradient),
        communication("sum input gradient", block, "backward", "all_reduce", "tp", message, whole, weight_gradient),
    )


def tensor_parallel_exit(setting: Setting, block: str) -> tuple[Row, ...]:
    """Collectives at the exit of a tensor-parallel region: all-reduce of the output, or its scatter and gather (SP)."""
    message = setting.width * setting.model.hidden_size * setting.tokens
    split = setting.tensor_parallel * setting.sequence_parallel
    whole = setting.tensor_parallel * (1.0 - setting.sequence_parallel)
    return (
        communication("scatter output", block, "forward", "reduce_scatter", "tp", message, split),
        communication("sum output", block, "forward", "all_reduce", "tp", message, whole),
        communication("gather output gradient", block, "backward", "all_gather", "tp", message, split),
    )


def _projections(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Query, key and value from the normalized input, which is kept once: w h t."""
    m, t = setting.model, setting.tokens
    if m.q_lora_rank:
        return _narrow_projections(setting, kind) + _key_norm(setting, kind)
    eager = setting.framework.layer_linears == "separate"
    rows = projected(
        setting,
        kind,
        BLOCK,
        "query key value",
        # cached hidden states of the previous segment are projected anew (Dai et al. 2019, section 3.2)
        t * (1.0 + m.memory_length / setting.job.seq_len),
        saved_bytes=setting.input_width * m.hidden_size * setting.sequence_tokens,
        kernels=3.0 if eager else 1.0,
    )
    return rows + _indexer(setting, kind) + _key_norm(setting, kind)


def _narrow_projections(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Queries through a narrow vector, one key that is the value too, whole on every rank (DeepSeek-V4)."""
    ts, h = setting.sequence_tokens, float(setting.model.hidden_size)
    return (
        *_latent_queries(setting, kind, setting.input_width * ts * h),
        *projected(setting, kind, BLOCK, "key value", ts),
        *_compressor(setting, kind, "compressor", float(setting.model.head_dim)),
        *_indexer(setting, kind),
    )


def _latent_queries(setting: Setting, kind: LayerKind, kept_bytes: Number) -> tuple[Row, ...]:
    """Down to the query latent on every rank, its norm, and up to the local heads; ``kept_bytes`` of the block's input, where
    nothing else keeps it."""
    ts, rank = setting.sequence_tokens, float(setting.model.q_lora_rank or 0)
    return (
        *projected(setting, kind, BLOCK, "query down", ts, saved_bytes=kept_bytes),
        *norm(
            "query latent norm",
            BLOCK,
            setting,
            ts * rank,
            rows_of=rank,
            residual=False,
            parameters=local_parameters(setting, kind, "attention.q_down_norm"),
        ),
        *projected(setting, kind, BLOCK, "query up", setting.tokens, saved_bytes=setting.input_width * ts * rank),
    )


def _compressor(setting: Setting, kind: LayerKind, name: str, width: float) -> tuple[Row, ...]:
    """What is summed and its weights from the block's input; softmax over each run of tokens, weighted sum, norm.

    The fused kernel keeps both projections and recomputes the softmax: 2 lanes width elements a token.
    """
    m, w, ts = setting.model, setting.width, setting.sequence_tokens
    if not m.compress_ratio:
        return ()
    both = 2.0 * (1.0 + m.compress_overlap) * width
    made = ts * width / m.compress_ratio
    return (
        *projected(setting, kind, BLOCK, name, ts),
        *pointwise(
            Message("{0} sum", name),
            BLOCK,
            forward_bytes=w * (ts * both + made),
            backward_bytes=w * (2.0 * ts * both + made),
            saved_bytes=w * ts * both,
        ),
    )


def _key_norm(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Norms of queries and keys."""
    m, t = setting.model, setting.tokens
    heads, kv = m.num_heads / setting.tp, setting.local_kv_heads()
    if m.qk_norm == "none":
        return ()
    per_row = float(m.hidden_size) if m.qk_norm == "full" else float(m.head_dim)
    return norm(
        "query key norm",
        BLOCK,
        setting,
        t * (heads + (0.0 if m.shared_kv else kv)) * m.head_dim,
        rows_of=per_row,
        residual=False,
        parameters=local_parameters(setting, kind, "attention.q_norm") + local_parameters(setting, kind, "attention.k_norm"),
    )


def _gate(setting: Setting) -> tuple[Row, ...]:
    """A sigmoid of a projection of the input multiplies the output; it keeps the projection and the output (Qwen3-Next)."""
    m, w = setting.model, setting.width
    if m.attention_gate == "none":
        return ()
    heads = setting.tokens * m.num_heads / setting.tp
    kept = heads * (gate_width(m) + m.value_head_dim)
    moved = w * (kept + heads * m.value_head_dim)
    return pointwise("attention gate", BLOCK, forward_bytes=moved, backward_bytes=2.0 * moved, saved_bytes=w * kept)


def _indexer(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Projections of the lightning indexer, whole on every rank: queries of few heads, one key, a weight for each head."""
    m, ts = setting.model, setting.sequence_tokens
    if not m.index_num_heads:
        return ()
    key = (
        _compressor(setting, kind, "index key", float(m.index_head_dim))
        if m.compress_ratio
        else projected(setting, kind, BLOCK, "index key", ts)
    )
    weighted = any(p.operator == "index weights" for p in projections(m, kind))
    weights = projected(setting, kind, BLOCK, "index weights", ts) if weighted else ()
    return (*projected(setting, kind, BLOCK, "index query", ts), *key, *weights)


def _indexer_core(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Scores of every key in front, by all heads of the indexer, and the choice of the best index_top_k.

    2 t keys heads width flops (DeepSeek-V3.2-Exp, section 2.1: the part that stays quadratic); nothing but the chosen
    indices is kept, 4 bytes each. Its backward pass is that of the small attention it resembles.
    """
    m, w, t = setting.model, setting.width, setting.tokens
    if not m.index_num_heads:
        return ()
    heads, d = float(m.index_num_heads), float(m.index_head_dim)
    seen: Number
    if m.compress_ratio:
        seen, made = compressed_keys(float(setting.job.seq_len), m.compress_ratio)
        chosen = min(float(m.index_top_k), made)
    else:
        seen, _ = replace(setting, model=m.model_copy(update={"index_top_k": 0})).keys(kind)
        chosen = min(float(m.index_top_k), float(setting.job.seq_len))
    flops = 2.0 * t * seen * heads * d
    work = FusedAttention(
        sequences=setting.micro_batch_size, heads=heads, queries=setting.queries, keys=seen, qk_head_dim=d, value_head_dim=d
    )
    moved = w * t * (heads + 1.0) * d + 4.0 * t * chosen
    return (
        Row(
            name="indexer",
            block=BLOCK,
            phase="forward",
            flops=flops,
            model_flops=flops / setting.tp,
            bytes_moved=moved,
            kernels=2.0,
            saved_bytes=4.0 * t * chosen + w * t * (heads + 1.0) * d,
            work=work,
            core=True,
        ),
        Row(
            name="indexer gradient",
            block=BLOCK,
            phase="backward",
            flops=2.0 * flops,
            model_flops=2.0 * flops / setting.tp,
            bytes_moved=2.0 * moved,
            kernels=2.0,
            work=replace(work, backward=True),
        ),
    )


def _latent_projections(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Multi-head latent attention (DeepSeek-V2, section 2.1): down to the latent on every rank, up to the local heads."""
    m, t, ts = setting.model, setting.tokens, setting.sequence_tokens
    latent = float(m.kv_lora_rank or 0)
    query = _latent_queries(setting, kind, 0.0) if m.q_lora_rank else projected(setting, kind, BLOCK, "query", t)
    gated = m.attention_gate != "none"
    return (
        *query,
        *(projected(setting, kind, BLOCK, "attention gate projection", t) if gated else ()),
        *_indexer(setting, kind),
        *projected(setting, kind, BLOCK, "key value down", ts, saved_bytes=setting.input_width * ts * float(m.hidden_size)),
        *norm(
            "key value latent norm",
            BLOCK,
            setting,
            ts * latent,
            rows_of=latent,
            residual=False,
            parameters=local_parameters(setting, kind, "attention.kv_down_norm"),
        ),
        *projected(setting, kind, BLOCK, "key value up", t, saved_bytes=setting.input_width * ts * latent),
    )


def _rotary(setting: Setting) -> tuple[Row, ...]:
    """Rotate queries and keys. Nothing is kept: the gradient needs only the angles, which all layers share."""
    m, w = setting.model, setting.width
    if m.position_embedding != "rotary":
        return ()
    passes, kernels = (2.0, 2.0) if setting.framework.fused_rotary else (11.0, 10.0)
    if m.attention == "mla":
        moved = w * setting.tokens * m.num_heads / setting.tp * _latent_assembly(setting, passes)
    else:
        moved = passes * w * setting.tokens * (m.num_heads / setting.tp + setting.local_kv_heads()) * m.head_dim
    return pointwise("rotary", BLOCK, forward_bytes=moved, backward_bytes=moved, kernels=kernels)


def _latent_assembly(setting: Setting, passes: float) -> float:
    """Elements moved per head and token to make queries, keys and values of latent attention.

    The rotated part of the query is read and written ``passes`` / 2 times; keys and values are read as the up-projection
    leaves them and written apart, each key with its own copy of the rotated part that all heads share. Without a fused
    kernel the query is put together anew too.
    """
    m = setting.model
    rope, nope, value = float(m.qk_rope_head_dim or 0), float(m.qk_nope_head_dim or 0), float(m.v_head_dim or 0)
    query = 0.0 if setting.framework.fused_rotary else 2.0 * (nope + rope)
    return passes * rope + query + (nope + value) + (nope + rope + value)


def _core(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    return (*_kernels(setting, kind), *_position_bias(setting), *_context_parallel(setting))


def _kernels(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Queries, keys and values, which are kept, and the kernels that read them."""
    kept = Row(
        name="queries, keys, values kept",
        block=BLOCK,
        phase="forward",
        operator="queries, keys, values kept",
        saved_bytes=qkv_saved_bytes(setting),
    )
    core = _flash_core if setting.framework.attention_kernel == "flash" else _unfused_core
    return (kept, *core(setting, kind))


def _position_bias(setting: Setting) -> tuple[Row, ...]:
    """A number for each head, query and key, which all sequences and layers share, added to the scores: read forward, its
    gradient written for each sequence and summed backward (PyTorch's memory-efficient kernel takes it as a mask that trains)."""
    m, w = setting.model, setting.width
    if not m.position_bias:
        return ()
    scores = setting.micro_batch_size * m.num_heads / setting.tp * setting.queries * setting.keys_in_all
    return pointwise(
        "position bias",
        BLOCK,
        forward_bytes=w * scores,
        backward_bytes=3.0 * w * scores,
        kernels=0.0,
        backward_kernels=1.0,
        workspace_bytes=w * scores,
        core=True,
    )


def cross_attention(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Rows of attention to the encoder's output, from the normalized input to the residual sum (Vaswani et al. 2017, 3.2.3).

    Queries from the decoder's ``t`` tokens, keys and values from the ``s`` of the source: 2 t h q + 2 s h kv flops, and
    4 t s q for the core, which no mask hides. The encoder's output is kept once for all layers (``encoder_ends``). To images:
    queries and keys have norms, and a learned number scales what each block adds (Llama 3.2 Vision, MllamaCrossAttention).
    """
    m, w, h = setting.model, setting.width, float(setting.model.hidden_size)
    source = setting.source
    separate = 2.0 if setting.framework.layer_linears == "separate" else 1.0
    kept = setting.input_width * h * setting.sequence_tokens
    query = projected(setting, kind, BLOCK, "cross query", setting.tokens, saved_bytes=kept)
    keys = projected(setting, kind, BLOCK, "cross key value", source.tokens, kernels=separate)
    summed = Row(
        name="cross source gradient sum",
        block=BLOCK,
        phase="backward",
        bytes_moved=3.0 * w * h * source.sequence_tokens,
        kernels=1.0,
    )
    inner = _kernels(setting.across, kind._replace(sliding=False))
    kept = setting.input_width * setting.tokens * (m.num_heads / setting.tp * m.value_head_dim)
    output = projected(setting, kind, BLOCK, "cross output", setting.tokens, saved_bytes=kept)
    return (
        *tensor_parallel_entrance(setting, BLOCK, query, "cross query", h),
        *tensor_parallel_entrance(source, BLOCK, keys, "cross key value", h),
        *(() if m.image_attention and setting.job.frozen else (summed,)),  # a frozen encoder asks for no gradient
        *_cross_norms(setting, kind),
        *(replace(row, name=Message("cross {0}", row.name)) for row in inner),
        *output,
        *tensor_parallel_exit(setting, BLOCK),
        *_learned_scales(setting),
        *dropout_and_residual(setting, BLOCK),
    )


def _cross_norms(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Norms of the queries of the text and of the keys of its images."""
    m = setting.model
    if not m.image_attention or m.qk_norm == "none":
        return ()
    heads = setting.tokens * m.num_heads / setting.tp + setting.source.tokens * setting.local_kv_heads()
    return norm(
        "cross query key norm",
        BLOCK,
        setting,
        heads * m.head_dim,
        rows_of=float(m.head_dim),
        residual=False,
        parameters=local_parameters(setting, kind, "attention.q_norm") + local_parameters(setting, kind, "attention.k_norm"),
    )


def _learned_scales(setting: Setting) -> tuple[Row, ...]:
    """tanh of a learned number times the output of attention and of the feed-forward, which that number's gradient needs: each
    keeps w h t, unless it is frozen."""
    m, w = setting.model, setting.width
    elements = 2.0 * setting.sequence_tokens * float(m.hidden_size)
    if not m.image_attention:
        return ()
    kept = 0.0 if setting.job.frozen else w * elements
    return pointwise(
        "learned scales",
        BLOCK,
        forward_bytes=2.0 * w * elements,
        backward_bytes=3.0 * w * elements,
        saved_bytes=kept,
        kernels=2.0,
    )


class Ring(NamedTuple):
    """How a library runs a later step of ring attention: bytes moved per element of the output to add its part (``sum``),
    kernels of the sums forward and backward; whether keys and values are ``copied`` together before they travel, and their
    gradients, which then travel in fp32 and after the last step once more, to where they belong."""

    sum: float
    kernels: tuple[float, float]
    copied: bool


FUSED_RING = Ring(sum=10.0, kernels=(4.0, 3.0), copied=False)
RINGS = {
    # the part 2, the sum so far 4 + 4, each in one kernel; keys and values arrive where they are read (context_parallel.py)
    "transformer-engine": FUSED_RING,
    "flash-attn": FUSED_RING,
    # torch.distributed.tensor.experimental, _templated_ring_attention. Sum in four kernels (_SDPAMerger): cast 2 + 4, difference
    # 4 + 4 + 4, product 4 + 4, difference 4 + 4 + 4
    "pytorch": Ring(sum=38.0, kernels=(11.0, 3.0), copied=True),
}
"""By whose fused kernels run. Counted."""
RING_GRADIENT_BYTES = 10.0
"""Bytes moved per element of queries', keys' and values' gradients: part 2, sum so far 4 + 4. Counted."""
RING_PART = 0.75
"""Of a rank's tokens that a ring step works on, on average: each rank has a piece of the front and one of the back, so that the
mask leaves equal work, and half of the later steps see only one of the two (Transformer Engine, context_parallel.py)."""


def _context_parallel(setting: Setting) -> tuple[Row, ...]:
    """Ring attention (Liu et al. 2023): keys and values travel once around forward; with their gradients backward. Each of the
    cp - 1 later steps adds its part to the output in fp32, and to the gradients.

    PyTorch gathers all ranks' keys and values at once, and holds sum, part and difference in fp32; backward the gradients of
    queries and three times those of keys and values: as they came, copied together to go on, and where the next ones arrive.
    Of a half that a step sees, the sum is a copy (_partial_update): of keys and values while they are sent, or of queries
    after that. The 16-bit keys and values that were copied together stay, too.
    """
    m, f = setting.model, setting.framework
    ring = RINGS[f.attention_library]
    present = (setting.cp > 1).astype(float)
    heads = m.num_heads / setting.tp
    kv_heads = heads if m.attention == "mla" or f.repeats_kv_heads else setting.local_kv_heads()
    later, rounds = setting.cp - 1.0, present * setting.cp
    keys = setting.tokens * kv_heads * (m.qk_head_dim + m.value_head_dim)
    queries, outputs = setting.tokens * heads * m.qk_head_dim, setting.tokens * heads * m.value_head_dim
    message = setting.width * keys * later
    gathered = setting.width * keys * rounds
    forward, backward = ring.kernels
    sums = pointwise(
        "ring sums",
        BLOCK,
        forward_bytes=ring.sum * outputs * RING_PART * later,
        backward_bytes=RING_GRADIENT_BYTES * (queries + keys) * RING_PART * later,
        kernels=forward * later,
        backward_kernels=backward * later,
        core=True,
    )
    copies = pointwise(
        "ring copies",
        BLOCK,
        forward_bytes=2.0 * setting.width * keys * later,
        backward_bytes=2.0 * keys * (setting.width * later + 4.0 * rounds),
        kernels=later,
        backward_kernels=later + rounds,
        core=True,
        workspace_bytes=gathered + 3.0 * 4.0 * outputs * present,
    )
    copied, returned = copies
    back = 4.0 * (queries + 3.0 * keys + np.maximum(queries, keys)) + setting.width * (queries + 2.0 * keys)
    copies = (copied, changed(returned, workspace_bytes=gathered + back * present))
    gradients = 4.0 * keys * rounds if ring.copied else message
    return (
        communication("ring keys and values", BLOCK, "forward", "p2p", "cp", message, present),
        communication("ring gradients", BLOCK, "backward", "p2p", "cp", message + gradients, present),
        *(sums if present.any() else ()),
        *(copies if ring.copied and present.any() else ()),
    )


def qkv_saved_bytes(setting: Setting) -> Number:
    """Queries, keys and values as the attention core reads them, kept for its backward pass."""
    m, w, t = setting.model, setting.width, setting.tokens
    heads = m.num_heads / setting.tp
    if m.attention == "mla":
        return w * t * heads * (2.0 * m.qk_head_dim + m.value_head_dim)
    # eager and scaled-dot-product attention of transformers copy keys and values to every query head
    copies = heads if setting.framework.repeats_kv_heads else setting.local_kv_heads()
    if m.shared_kv and not setting.framework.repeats_kv_heads:  # the earlier layer keeps them
        return w * t * heads * m.head_dim
    if m.one_key_value:
        runs = 1.0 + (1.0 / m.compress_ratio if m.compress_ratio else 0.0)
        return w * t * m.head_dim * (heads + runs)
    widths = m.head_dim + m.value_head_dim
    keys = (setting.keys_in_all + m.memory_length) / setting.job.seq_len
    return w * t * (heads * m.head_dim + widths * copies * keys)


def _flash_core(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Fused attention (Dao 2023): keeps q, k, v, the output and one fp32 log-sum per query and head.

    The output is the next linear layer's input and counted there. Backward: five matrix multiplies to forward's two.
    """
    m, w, t = setting.model, setting.width, setting.tokens
    heads = m.num_heads / setting.tp
    seen, convention = setting.keys(kind)
    widths = m.qk_head_dim + m.value_head_dim
    work = FusedAttention(
        sequences=setting.micro_batch_size,
        heads=heads,
        queries=setting.queries,
        keys=seen,
        qk_head_dim=float(m.qk_head_dim),
        value_head_dim=float(m.value_head_dim),
    )
    pairs = 2.0 * t * heads * widths
    log_sums = 4.0 * t * heads
    qkv = qkv_saved_bytes(setting)
    backward = FusedAttention(
        sequences=work.sequences,
        heads=heads,
        queries=work.queries,
        keys=seen,
        qk_head_dim=work.qk_head_dim,
        value_head_dim=work.value_head_dim,
        backward=True,
    )
    return (
        Row(
            name="fused attention",
            block=BLOCK,
            phase="forward",
            flops=pairs * seen,
            model_flops=pairs * convention,
            masked_flops=pairs * (convention - seen),
            bytes_moved=qkv + w * t * heads * m.value_head_dim,
            saved_bytes=log_sums,
            kernels=1.0,
            work=work,
            core=True,
        ),
        Row(
            name="fused attention gradient",
            block=BLOCK,
            phase="backward",
            flops=2.5 * pairs * seen,
            model_flops=2.0 * pairs * convention,
            masked_flops=2.0 * pairs * (convention - seen),
            bytes_moved=3.0 * qkv,
            kernels=3.0,
            work=backward,
            workspace_bytes=qkv + 4.0 * t * heads * m.qk_head_dim,
        ),
    )


def _unfused_core(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Scores, softmax, dropout and weighted sum as separate kernels: 5 a s^2 b bytes with dropout, in 16 bit.

    Source: Korthikanti et al. 2022, section 4.1. A full score matrix is computed; the mask only hides half of it.
    """
    m, w = setting.model, setting.width
    heads, q, s = m.num_heads / setting.tp, setting.queries, setting.keys_in_all + m.memory_length
    pairs = setting.micro_batch_size * heads * q * s
    batch = setting.micro_batch_size * heads
    softmax, dropped = softmax_saved_bytes(setting)
    traffic = _softmax_traffic(setting, kind)
    scores = Matmul(m=q, k=float(m.qk_head_dim), n=s, batch=batch, dtype=setting.unquantized_dtype)
    context = Matmul(m=q, k=s, n=float(m.value_head_dim), batch=batch, dtype=setting.unquantized_dtype)
    relative = linear("position scores", BLOCK, scores, width=w, has_weight=False) if m.relative_attention else ()
    shift = (
        pointwise(  # the relative shift copies the position scores, the sum with the content scores makes another
            "relative shift",
            BLOCK,
            forward_bytes=5.0 * w * pairs,
            backward_bytes=4.0 * w * pairs,
            kernels=3.0,
        )
        if m.relative_attention
        else ()
    )
    rows = [
        *linear("scores", BLOCK, scores, width=w, has_weight=False),
        *_disentangled(setting, scores),
        *relative,
        *shift,
        *pointwise(
            "softmax",
            BLOCK,
            forward_bytes=traffic.forward_bytes * pairs,
            backward_bytes=traffic.backward_bytes * pairs,
            kernels=traffic.kernels,
            backward_kernels=traffic.backward_kernels,
            saved_bytes=softmax * pairs,
            core=True,
            workspace_bytes=2.0 * w * pairs,
        ),
    ]
    if m.attention_dropout > 0:
        rows += pointwise(
            "attention dropout",
            BLOCK,
            forward_bytes=(2.0 * w + 1.0) * pairs,
            backward_bytes=(2.0 * w + 1.0) * pairs,
            saved_bytes=dropped * pairs,
            core=True,
        )
    rows += linear("weighted values", BLOCK, context, width=w, has_weight=False)
    # selective recomputation redoes scores, softmax, dropout and the weighted sum; it keeps q, k and v
    hidden = 1.0 - setting.keys(kind)[0] / s
    return tuple(changed(r, core=r.phase == "forward" or r.core, masked_flops=r.model_flops * hidden) for r in rows)


def _disentangled(setting: Setting, scores: Matmul) -> tuple[Row, ...]:
    """Scores of tokens against distances, both ways (arXiv 2006.03654, section 3.1), as transformers' code has them.

    The table's p rows pass the projections of queries and keys, copied for each sequence: 2 p h (2 a d) flops; then 2 q p d a
    head, twice; each pair looks its two scores up by an index of 8 bytes, scales and adds them. Kept: the table behind its
    dropout, both copies, both products, the two indices of s x s numbers, which all sequences and heads share, the scaled keys,
    and a mask of one byte a pair of a sequence.
    """
    m, w = setting.model, setting.width
    if not m.disentangled_positions:
        return ()
    rows, h, d = float(m.disentangled_positions), float(m.hidden_size), float(m.head_dim)
    own = Matmul(m=rows, k=h, n=2.0 * m.num_heads / setting.tp * d)
    table = (setting.input_width + 1.0) * rows * h if m.hidden_dropout > 0 else 0.0
    copies = w * scores.batch * rows * d
    wide, pairs = w * scores.batch * scores.m * rows, scores.batch * scores.m * scores.n
    mask, keys = setting.micro_batch_size * scores.m * scores.n, w * scores.batch * scores.n * d
    against = changed(scores, n=rows)
    return (
        *linear("positions' query key", BLOCK, own, width=w, saved_bytes=table, kernels=2.0),
        *linear("content to position", BLOCK, against, width=w, has_weight=False, saved_bytes=copies),
        *linear("position to content", BLOCK, against, width=w, has_weight=False, saved_bytes=copies),
        *pointwise(
            "position scores gathered",
            BLOCK,
            forward_bytes=(16.0 + 16.0 * w) * pairs,
            backward_bytes=(16.0 + 12.0 * w) * pairs + 4.0 * wide,
            kernels=8.0,
            saved_bytes=16.0 * scores.m * scores.n + 2.0 * wide + mask + keys,
            workspace_bytes=2.0 * wide,
        ),
    )


class SoftmaxTraffic(NamedTuple):
    """Bytes moved per score between the two products, and kernels launched, forward and backward."""

    forward_bytes: Number
    backward_bytes: Number
    kernels: Number
    backward_kernels: Number


def _softmax_traffic(setting: Setting, kind: LayerKind) -> SoftmaxTraffic:
    """Of w wide scores and u wide probabilities.

    One fused kernel reads and writes scores, backward the probabilities and both gradients: 2 w and 3 w; Megatron's for causal
    masks reads what the mask leaves and writes all (scaled_upper_triang_masked_softmax.h). Eager PyTorch scales
    (2 w), masks (2 w) and takes the softmax (w + u), then casts back where it ran in fp32 (u + w); backward each has its own
    gradient. Under autocast the cast to fp32 is a kernel of its own, both ways (w + 4). Where Megatron's kernel does not take a
    shape, PyTorch masks (2 w) and takes the softmax (2 w); backward 3 w and 2 w.
    """
    w = setting.width
    if setting.framework.attention_kernel == "eager":
        upcast = setting.autocast or (setting.model.softmax_in_fp32 and w < 4)
        u = 4.0 if upcast else w
        back = u + w if upcast else 0.0
        apart = w + u if setting.autocast else 0.0
        softmax = 2.0 * u if setting.autocast else w + u
        gradient = 3.0 * u if setting.autocast else 2.0 * u + w
        return SoftmaxTraffic(4.0 * w + apart + softmax + back, 4.0 * w + apart + gradient + back, 6.0, 5.0)
    if not setting.framework.fused_softmax_keys:
        return SoftmaxTraffic(2.0 * w, 3.0 * w, 1.0, 1.0)
    fused = softmax_is_fused(setting)
    seen = setting.keys(kind)[0] / setting.keys_in_all if setting.causal and not kind.sliding else 1.0
    return SoftmaxTraffic(
        np.where(fused, w * (seen + 1.0), 4.0 * w),
        np.where(fused, w * (2.0 * seen + 1.0), 5.0 * w),
        np.where(fused, 1.0, 2.0),
        np.where(fused, 1.0, 2.0),
    )


SOFTMAX_STEP = 4
"""Megatron's fused softmax takes queries, keys, and sequences times heads, in multiples of it (is_kernel_available)."""


def softmax_is_fused(setting: Setting) -> Mask:
    """Where Megatron's fused softmax takes the scores: 16-bit, 17 to ``fused_softmax_keys`` keys, whole steps, no sinks.

    Source: Megatron-LM, megatron/core/fusions/fused_softmax.py, FusedScaleMaskSoftmax.is_kernel_available and forward.
    """
    m = setting.model
    keys = setting.keys_in_all
    batch = setting.micro_batch_size * np.ceil(m.num_heads / setting.tp)
    whole = (batch % SOFTMAX_STEP == 0) & (setting.queries % SOFTMAX_STEP == 0) & (np.asarray(keys) % SOFTMAX_STEP == 0)
    within = (np.asarray(keys) > 16) & (np.asarray(keys) <= setting.framework.fused_softmax_keys)
    return np.asarray(whole & within & (setting.width < 4) & (not m.attention_sinks))


def softmax_saved_bytes(setting: Setting) -> tuple[float, float]:
    """Bytes per score kept by softmax and by dropout (its mask, and its output for the weighted sum)."""
    m, w = setting.model, setting.width
    eager = setting.framework.attention_kernel == "eager" and m.softmax_in_fp32 and w < 4
    upcast = eager or setting.autocast
    softmax = 4.0 if upcast else w
    softmax += setting.framework.extra_score_bytes
    if m.attention_dropout > 0:
        return softmax, 1.0 + w
    return softmax + (w if upcast else 0.0), 0.0


def _output(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Output projection (keeps its input), dropout (keeps a one-byte mask) and the residual sum."""
    m, t = setting.model, setting.tokens
    width, sinks = m.num_heads / setting.tp * m.value_head_dim, local_parameters(setting, kind, "attention.sinks")
    grouped: tuple[Row, ...] = ()
    if m.output_groups:
        grouped = projected(setting, kind, BLOCK, "output down", t, saved_bytes=setting.input_width * t * width)
        width = m.output_groups / setting.tp * float(m.output_lora_rank)
    inner = (
        norm(
            "attention output norm",
            BLOCK,
            setting,
            t * width,
            rows_of=width_of_output(m),
            residual=False,
            parameters=local_parameters(setting, kind, "attention.output_norm"),
        )
        if m.attention_output_norm
        else ()
    )
    return (
        *inner,
        *grouped,
        *projected(setting, kind, BLOCK, "output projection", t, saved_bytes=setting.input_width * t * width, more=sinks),
        *tensor_parallel_exit(setting, BLOCK),
        *dropout_and_residual(setting, BLOCK),
    )


def width_of_output(m: Model) -> float:
    """Inputs of the output projection."""
    return float(m.num_heads * m.value_head_dim)


def dropout_and_residual(setting: Setting, block: str) -> tuple[Row, ...]:
    """Add to the residual stream; with dropout a one-byte mask per element is kept."""
    m, w = setting.model, setting.width
    elements = setting.sequence_tokens * float(m.hidden_size)
    dropout = m.hidden_dropout > 0
    fused = setting.framework.fused_dropout
    kernels = 1.0 + (1.0 if dropout and not fused else 0.0)
    extra = (1.0 + (0.0 if fused else 2.0 * w)) if dropout else 0.0
    r = setting.residual_width
    return pointwise(
        "dropout and residual" if dropout else "residual",
        block,
        forward_bytes=(w + 2.0 * r + extra) * elements,
        backward_bytes=(w + r + extra) * elements,
        kernels=kernels,
        saved_bytes=(1.0 if dropout else 0.0) * elements,
    )
