"""Token, position and type embeddings at the model's entrance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.common.message import Message
from planner.model.parameters import embedding_parameters
from planner.operators.norm import norm
from planner.operators.row import Matmul, Row, communication, linear, pointwise
from planner.operators.setting import Setting
from planner.operators.skipped import skipped
from planner.operators.weights import on_one_rank, once

BLOCK = "embedding"


def embedding(setting: Setting) -> tuple[Row, ...]:
    """Rows of the embedding: table look-up, positions, norm, dropout (a one-byte mask is kept)."""
    m, w, t = setting.model, setting.width, setting.tokens
    h = float(m.hidden_size)
    elements = setting.sequence_tokens * h
    ids = 8.0 * t if setting.framework.activation_accounting == "autograd" else 0.0
    tables = 1.0 + (m.position_embedding == "learned") + (m.type_vocab_size > 0)
    split = setting.tensor_parallel * setting.sequence_parallel
    whole = setting.tensor_parallel * (1.0 - setting.sequence_parallel)
    message = w * t * h
    rows = (
        *pointwise(
            "look up",
            BLOCK,
            forward_bytes=2.0 * w * t * h * tables,
            backward_bytes=3.0 * w * t * h * tables,
            kernels=2.0 * tables,
            saved_bytes=ids * tables,
            parameters=on_one_rank(setting, [x for x in embedding_parameters(m) if not x.name.startswith("towers.")]),
        ),
        communication("scatter sequence", BLOCK, "forward", "reduce_scatter", "tp", message, split),
        communication("sum partial look-ups", BLOCK, "forward", "all_reduce", "tp", message, whole),
        communication("gather sequence gradient", BLOCK, "backward", "all_gather", "tp", message, split),
    )
    rows += (*_per_layer_vectors(setting), *_towers(setting))
    if m.embedding_norm:
        rows += norm("embedding norm", BLOCK, setting, elements, rows_of=h)
    if m.hidden_dropout > 0:
        rows += pointwise(
            "embedding dropout",
            BLOCK,
            forward_bytes=(2.0 * w + 1.0) * elements,
            backward_bytes=(2.0 * w + 1.0) * elements,
            saved_bytes=elements,
        )
    return rows


def encoder_ends(setting: Setting) -> tuple[Row, ...]:
    """The source's words at the encoder's entrance, and its final norm and output, which all decoder layers read and keep once;
    or the images' tokens, where layers attend to them.

    Weights of both are counted with the embedding.
    """
    m, elements = setting.model, setting.sequence_tokens * float(setting.model.hidden_size)
    if m.reads_images:
        tokens = setting.micro_batch_size * setting.job.images * m.tokens_per_image
        kept = setting.input_width * tokens * float(m.hidden_size)
        return (Row(name="images' tokens kept", block=BLOCK, phase="forward", saved_bytes=kept),)
    if not m.cross_attention:
        return ()
    looked_up = tuple(replace(row, name=Message("source {0}", row.name), parameters=0.0) for row in embedding(setting))
    exit_ = norm("encoder's final norm", BLOCK, setting, elements, rows_of=float(m.hidden_size)) if m.final_norm else ()
    kept = setting.input_width * elements
    return (*looked_up, *exit_, Row(name="encoder's output kept", block=BLOCK, phase="forward", saved_bytes=kept))


def _per_layer_vectors(setting: Setting) -> tuple[Row, ...]:
    """The second table's look-up and the projection of the words, a vector of each layer; both are kept for all layers."""
    m, w, t = setting.model, setting.width, setting.tokens
    wide = float(m.num_layers * m.per_layer_embedding_size)
    if not wide:
        return ()
    return (
        *linear("per-layer projection", BLOCK, Matmul(m=t, k=float(m.hidden_size), n=wide), width=w, useful=once(setting, t)),
        *pointwise(
            "per-layer vectors",
            BLOCK,
            forward_bytes=8.0 * w * t * wide,
            backward_bytes=8.0 * w * t * wide,
            kernels=4.0,
            saved_bytes=2.0 * w * t * wide,
        ),
    )


def _towers(setting: Setting) -> tuple[Row, ...]:
    """Vision towers: their weights, which train unless they are frozen. A sequence without images does not run them."""
    rows = []
    for tower in setting.model.towers:
        count = float(tower.parameters) * np.ones_like(setting.tp)
        frozen = tower.frozen and setting.job.adapter is None
        row = Row(
            name=Message("{0} tower", tower.name),
            block=BLOCK,
            phase="forward",
            parameters=0.0 if frozen else count,
            frozen_bytes=setting.precision.parameter * count if frozen else 0.0,
            shard_group="dense",
        )
        # an adapter's frozen weights get their width later
        rows.append(row if setting.job.images or setting.job.adapter is not None else skipped(row, setting))
    return tuple(rows)
