"""What some layers have beside their blocks: a vector of their own for each token, several residual streams (Gemma 3n and 4)."""

from __future__ import annotations

from planner.model.architecture import LayerKind
from planner.operators.norm import norm
from planner.operators.row import Row, linear, pointwise
from planner.operators.setting import Setting
from planner.operators.weights import local_parameters, once, product, projected

BLOCK = "streams"


def streams(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Rows of per-layer embeddings, of LAuReL and of AltUp, and the vectors that no other block counts."""
    parameters = local_parameters(setting, kind, "streams.vectors") + local_parameters(setting, kind, "streams.altup")
    counted = Row(name="vectors", block=BLOCK, phase="forward", parameters=parameters, shard_group="dense")
    return (*_per_layer(setting, kind), *_laurel(setting, kind), *_altup(setting), *_hyper(setting, kind), counted)


def _hyper(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Manifold-constrained hyper-connections around both blocks (Xie et al. 2025, arXiv 2512.24880, section 4).

    Each reads all streams once for the weights and their sum, and once more to mix them with the block's output. The fused
    kernels keep the streams in front of the block in the width of the residual and compute weights again: n h elements a block.
    """
    m, t = setting.model, setting.sequence_tokens
    n, h, r = float(m.hyper_streams), float(m.hidden_size), setting.residual_width
    if not n:
        return ()
    half = 0.5 * (
        local_parameters(setting, kind, "streams.hyper.weight") + local_parameters(setting, kind, "streams.hyper_vectors")
    )
    moved = r * t * h * (3.0 * n + 2.0)
    rows: tuple[Row, ...] = ()
    for _ in ("attention", "feed-forward"):
        rows += linear(
            "hyper weights",
            BLOCK,
            product(setting, kind, BLOCK, "hyper weights", t, "fp32"),
            width=4.0,
            parameters=half,
            useful=once(setting, t),
        )
        rows += pointwise(
            "hyper streams",
            BLOCK,
            forward_bytes=moved,
            backward_bytes=2.0 * moved,
            saved_bytes=r * t * h * n,
            kernels=2.0,
        )
    return rows


def _per_layer(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """The layer's own vector of each token, gated by the hidden one: down, product, up, norm, sum."""
    m, w, t = setting.model, setting.width, setting.sequence_tokens
    if not m.per_layer_embedding_size:
        return ()
    h, d = float(m.hidden_size), float(m.per_layer_embedding_size)
    return (
        *projected(setting, kind, BLOCK, "layer gate", t, saved_bytes=setting.input_width * t * h),
        *pointwise(
            "layer vector", BLOCK, forward_bytes=4.0 * w * t * d, backward_bytes=6.0 * w * t * d, saved_bytes=3.0 * w * t * d
        ),
        *projected(setting, kind, BLOCK, "layer projection", t, saved_bytes=setting.input_width * t * d),
        *norm(
            "layer vector norm",
            BLOCK,
            setting,
            t * h,
            rows_of=h,
            parameters=local_parameters(setting, kind, "streams.per_layer_norm"),
        ),
    )


def _laurel(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """A low-rank path beside attention (Menghani et al. 2024, arXiv 2411.07501)."""
    m, t = setting.model, setting.sequence_tokens
    if not m.laurel_rank:
        return ()
    h, rank = float(m.hidden_size), float(m.laurel_rank)
    return (
        *projected(setting, kind, BLOCK, "laurel left", t),
        *projected(setting, kind, BLOCK, "laurel right", t, saved_bytes=setting.input_width * t * rank),
        *norm("laurel norm", BLOCK, setting, t * h, rows_of=h, parameters=local_parameters(setting, kind, "streams.laurel_norm")),
    )


def _altup(setting: Setting) -> tuple[Row, ...]:
    """All streams are predicted from all before the layer and corrected behind it (Baykal et al. 2023, arXiv 2301.13310)."""
    m, w = setting.model, setting.width
    n = float(m.altup_streams)
    elements = setting.sequence_tokens * float(m.hidden_size) * n
    if not n:
        return ()
    return pointwise(
        "altup",
        BLOCK,
        forward_bytes=4.0 * w * elements,
        backward_bytes=6.0 * w * elements,
        saved_bytes=2.0 * w * elements,
        kernels=6.0,
    )
