"""Work of vision towers on a sequence's images: each layer of the encoder as a layer of any model, over an image's patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from planner.common.message import Message
from planner.model.architecture import LayerKind, Model
from planner.model.variants import Tower
from planner.operators.row import Row, changed
from planner.operators.setting import Setting

Layer = Callable[[Setting, LayerKind], tuple[Row, ...]]


def tower_rows(setting: Setting, layer: Layer) -> tuple[Row, ...]:
    """Rows of all encoders' layers for a micro-batch; nothing where the job has no images. ``layer``: rows of one layer.

    Images are further sequences of ``job.image_patches`` tokens, seen in both directions. The encoder is whole on every rank
    of the first stage. Frozen, or under adapters, it runs forward and keeps nothing. The projector's product, some percent
    of the encoder's, is left out.
    """
    rows: tuple[Row, ...] = ()
    for tower in setting.model.towers if setting.job.images else ():
        seen = _on_images(setting, tower)
        ranks = setting.tp * setting.cp  # each runs it, and the model needs it once
        one = tuple(
            changed(row, parameters=0.0, model_flops=row.model_flops / ranks, masked_flops=row.masked_flops / ranks)
            for row in layer(seen, seen.model.layer_kinds[0])
        )
        if tower.frozen or setting.job.adapter is not None:
            one = tuple(changed(row, saved_bytes=0.0) for row in one if row.phase == "forward")
        rows += tuple(changed(row, name=Message("{0} tower: {1}", tower.name, row.name)) for row in one) * tower.num_layers
    return rows


def _on_images(setting: Setting, tower: Tower) -> Setting:
    """The setting of the encoder: its sizes, an image for a sequence, no cut."""
    job, whole = setting.job, np.ones_like(setting.tp)
    patches = job.image_patches or int(tower.patches_per_image or 0)
    return replace(
        setting,
        model=encoder(tower),
        job=job.model_copy(update={"seq_len": patches, "adapter": None}),
        micro_batch_size=setting.micro_batch_size * job.images,
        tp=whole,
        sequence_parallel=0.0 * whole,
        cp=whole,
        ep=whole,
        etp=whole,
    )


@lru_cache(maxsize=256)
def encoder(tower: Tower) -> Model:
    """The tower's layers as a model: layer norms, biases, no positions of its own (they are added once)."""
    return Model.build(
        {
            "name": tower.name,
            "architecture": "encoder",
            "num_layers": tower.num_layers,
            "hidden_size": tower.hidden_size,
            "vocab_size": 1,
            "num_heads": tower.num_heads,
            "head_dim": max(tower.hidden_size // tower.num_heads, 1),
            "ffn_hidden_size": tower.ffn_hidden_size,
            "gated_ffn": tower.gated_ffn,
            "activation": "silu" if tower.gated_ffn else "gelu",
            "norm": "layernorm",
            "qkv_bias": True,
            "attention_output_bias": True,
            "ffn_bias": True,
            "position_embedding": "none",
            "head": "none",
        },
        f"towers.{tower.name}",
    )
