"""The table: every operator of a model on a layout, with recomputation as rows of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planner.common.arrays import Number
from planner.common.message import Message
from planner.model.architecture import LayerKind, Model
from planner.operators.adapter import tuned_embedding, tuned_head, tuned_layer
from planner.operators.attention import attention, cross_attention
from planner.operators.embedding import embedding, encoder_ends
from planner.operators.feed_forward import feed_forward
from planner.operators.head import head
from planner.operators.mixer import mixer
from planner.operators.moe import mixture_of_experts
from planner.operators.norm import norm
from planner.operators.prediction import prediction_rows
from planner.operators.row import Matmul, Row, changed, is_nothing, part_of, pointwise, recomputed
from planner.operators.setting import Setting
from planner.operators.skipped import skipped
from planner.operators.streams import streams
from planner.operators.teacher import distillation_loss, teacher_rows
from planner.operators.tower import tower_rows
from planner.operators.weights import local_parameters
from planner.workload.framework import modules_of
from planner.workload.layout import Recompute


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of the embedding, of one layer of each kind, and of the head; ``repeats`` counts the layers of a kind."""

    setting: Setting
    embedding: tuple[Row, ...]
    layers: dict[LayerKind, tuple[Row, ...]]
    head: tuple[Row, ...]
    teacher: tuple[tuple[float, tuple[Row, ...]], ...] = ()

    def rows(self) -> tuple[Row, ...]:
        """All rows of the model in order, then those of a teacher."""
        taught = (
            changed(row, name=Message("teacher's {0}", row.name), repeats=count) for count, rows in self.teacher for row in rows
        )
        return (*self.embedding, *(row for rows in self.layers.values() for row in rows), *self.head, *taught)


def build_table(setting: Setting) -> Table:
    """All rows of ``setting.model`` on the axes of ``setting``."""
    entrance, layers, exit_ = block_rows(setting)
    loss = distillation_loss(setting, setting.job)
    return Table(
        setting=setting, embedding=entrance, layers=layers, head=(*exit_, *loss), teacher=teacher_rows(setting, block_rows)
    )


def block_rows(setting: Setting) -> tuple[tuple[Row, ...], dict[LayerKind, tuple[Row, ...]], tuple[Row, ...]]:
    """(embedding, one layer of each kind, head), with adapters where the job has them."""
    counts = Counter(setting.model.layer_kinds)
    layers = {kind: tuple(changed(row, repeats=float(n)) for row in _in_use(setting, kind)) for kind, n in counts.items()}
    further = prediction_rows(setting, _whole_layer(setting.model, layers))
    images = tower_rows(setting, lambda seen, kind: with_recomputation(seen, _layer(seen, kind)))
    return (
        (*tuned_embedding(setting, embedding(setting.decoder)), *encoder_ends(setting), *images),
        layers,
        (*_with_casts(setting, tuned_head(setting, head(setting.decoder))), *further),
    )


def _whole_layer(model: Model, layers: Mapping[LayerKind, tuple[Row, ...]]) -> tuple[Row, ...]:
    """Rows of the layer that a module of multi-token prediction runs: the last one, and where a layer holds one block that mixes
    no tokens, the last layer of attention in front of it (Nemotron 3: mtp_hybrid_override_pattern = "*E")."""
    kinds = model.layer_kinds
    if model.of(kinds[-1]).attends or model.of(kinds[-1]).recurs:
        return layers[kinds[-1]]
    attention = [kind for kind in kinds if model.of(kind).attends]
    return (*(layers[attention[-1]] if attention else ()), *layers[kinds[-1]])


def _in_use(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    """Rows of a layer with recomputation. Layers that attend to images are skipped on text alone."""
    rows = _with_casts(setting, _tuned(setting, kind))
    if setting.model.of(kind).image_attention and not setting.job.images:
        return tuple(skipped(row, setting) for row in rows if row.shard_group is not None)
    return with_recomputation(setting.of(kind), rows)


def _with_casts(setting: Setting, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Under autocast each weight of a multiplication is cast from fp32 once a pass (the cache lives as long as the context), and
    its gradient back: 4 + w bytes a parameter each way, one kernel a weight (torch.autocast, weight cache)."""
    weights = [row for row in rows if row.phase == "forward" and isinstance(row.work, Matmul) and row.shard_group is not None]
    if not setting.autocast or setting.job.frozen or not weights:
        return rows
    elements: Number = 0.0
    kernels: Number = 0.0
    for row in weights:
        elements = elements + row.parameters
        kernels = kernels + np.where(np.asarray(row.parameters) > 0, row.kernels, 0.0)
    moved = (4.0 + setting.width) * elements
    return (*pointwise("weights cast", weights[0].block, forward_bytes=moved, backward_bytes=moved, kernels=kernels), *rows)


def _tuned(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    return tuned_layer(setting, kind, _layer(setting, kind))


def _layer(setting: Setting, kind: LayerKind) -> tuple[Row, ...]:
    setting = setting.of(kind)
    m = setting.model
    elements = setting.sequence_tokens * float(m.hidden_size)
    parameters = local_parameters(setting, kind, "norms")
    norms = [
        norm(
            Message("norm {0}", i + 1),
            "norm",
            setting,
            elements,
            rows_of=float(m.hidden_size),
            parameters=parameters if i == 0 else 0.0,
        )
        for i in range(m.norms_per_layer)
    ]
    inner = mixture_of_experts(setting, kind) if kind.moe else feed_forward(setting, kind) if m.feed_forward != "none" else ()
    host = setting.framework.host_s_per_layer
    bookkeeping = [
        Row(name="bookkeeping", block="layer", phase="forward", host_s=host),
        Row(name=Message("{0} gradient", "bookkeeping"), block="layer", phase="backward", host_s=host),
    ]
    half = max(m.norms_per_layer // (3 if m.cross_attention else 2), 1)
    before, after, last = norms[:half], norms[half:], []
    if m.norms_per_layer == 4 and not m.cross_attention:  # one in front of each half and one behind it, as in Gemma 2
        before, after, last = norms[:1], norms[1:3], norms[3:]
    if m.norm_placement == "after":
        before, after, last = [], norms[:-half], norms[-half:]
    attended = attention(setting, kind) if m.attends else ()
    if m.image_attention:
        attended = cross_attention(setting, kind)
    if m.cross_attention:
        attended = (*attended, *_flat(after[:half]), *cross_attention(setting, kind))
        after = after[half:]
    mixed = mixer(setting, kind) if m.recurs else ()
    return (*bookkeeping, *_flat(before), *attended, *mixed, *_flat(after), *inner, *_flat(last), *streams(setting, kind))


def _flat(groups: list[tuple[Row, ...]]) -> tuple[Row, ...]:
    return tuple(row for group in groups for row in group)


def with_recomputation(setting: Setting, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Apply the layout's recomputation to a layer's rows.

    ``full`` keeps only the layer's input and does all forward rows again (Chen et al. 2016); ``selective`` redoes the
    framework's modules: the attention core (Korthikanti et al. 2022, section 5), or those of Megatron-Core's
    ``--recompute-modules``. What a recomputation brings back is alive for one layer only: it is workspace, not saved.
    """
    if not setting.recompute.any():
        return rows
    if setting.framework.selective_recompute == "alternate_matmuls":
        return _alternate_recomputation(setting, rows)
    redo_full, redo_selective = setting.full_recompute, setting.core_recompute
    modules = modules_of(setting.framework)
    needed = _needed_again(setting, rows)
    result: list[Row] = []
    again: list[Row] = []
    dropped: list[Number] = []
    for i, row in enumerate(rows):
        if row.phase != "forward":
            result.append(row)
            dropped.append(0.0)
            continue
        drop = redo_selective if dropped_by(row, modules) else redo_full
        redo = redo_selective if redone_by(row, modules) else redo_full
        result.append(row if is_nothing(row.saved_bytes) else changed(row, saved_bytes=row.saved_bytes * (1.0 - drop)))
        dropped.append(part_of(row.saved_bytes, drop))
        again += [recomputed(row, redo)] if i < needed or modules - {"core_attn"} else []
    m = setting.model
    kept = setting.residual_width * float(m.hidden_size * max(m.hyper_streams, 1)) * setting.sequence_tokens * redo_full
    entrance = Row(name="layer input kept", block="layer", phase="forward", saved_bytes=kept)
    return (entrance, *result, *again, _restored(rows, dropped, kept))


def dropped_by(row: Row, modules: frozenset[str]) -> bool:
    """Whether recomputing ``modules`` (Megatron-Core, transformer_config.py) spares what a forward row keeps.

    ``core_attn``, ``mlp`` and ``moe`` keep their input only. ``layernorm``, ``moe_act`` and ``mla_up_proj`` drop their output,
    which is what the next multiplication or the attention core keeps.
    """
    if row.core:
        return "core_attn" in modules
    if row.block in ("moe", "shared_expert"):
        inner = row.operator in ("out projection", "clamp") and row.block == "moe" and "moe_act" in modules
        return inner or (row.operator != "router" and "moe" in modules) or (row.operator == "router" and "layernorm" in modules)
    if row.block == "feed_forward":
        kept_input = row.operator == "in projection"
        return ("layernorm" if kept_input else "mlp") in modules
    if row.block == "attention" and row.operator in ("query key value", "query down", "key value down", "query"):
        return "layernorm" in modules
    return row.operator == "queries, keys, values kept" and "mla_up_proj" in modules


def redone_by(row: Row, modules: frozenset[str]) -> bool:
    """Whether recomputing ``modules`` runs a forward row again."""
    if row.core:
        return "core_attn" in modules
    if row.block == "norm":
        return "layernorm" in modules
    if row.block in ("moe", "shared_expert"):
        return "moe" in modules or (row.block == "moe" and row.operator in ("clamp", "activation") and "moe_act" in modules)
    if row.block == "feed_forward":
        return "mlp" in modules
    return row.operator in ("query up", "key value up", "query latent norm", "key value latent norm") and "mla_up_proj" in modules


def _needed_again(setting: Setting, rows: tuple[Row, ...]) -> int:
    """Rows of a layer, in forward order, that a full recomputation runs again: all, or up to the last tensor that backward needs.

    PyTorch's non-reentrant checkpoint stops as soon as every tensor that was kept the first time is there again
    (``torch.utils.checkpoint.set_checkpoint_early_stop``, on by default). A multiplication keeps its input, so that the
    last one of a layer is not run again; neither is what follows it.
    """
    if not setting.framework.checkpoint_stops_early:
        return len(rows)
    keeping = [i for i, row in enumerate(rows) if row.phase == "forward" and _keeps(row)]
    if not keeping:
        return len(rows)
    return keeping[-1] + (0 if isinstance(rows[keeping[-1]].work, Matmul) else 1)


def _keeps(row: Row) -> bool:
    return not is_nothing(row.saved_bytes) and bool(np.any(np.asarray(row.saved_bytes) > 0))


def _restored(rows: tuple[Row, ...], dropped: list[Number], entrance: Number) -> Row:
    """What a recomputation brings back, alive beside the temporaries of the layer's backward pass.

    The backward pass frees from the end: while a row's gradient runs, what the rows up to it keep is alive. ``rows``
    come in forward order, each followed by its gradients; ``dropped`` holds for each what recomputation brings back.
    The first operator keeps the layer's input, ``entrance`` bytes, which was never dropped.
    """
    alive: Number = 0.0
    first = next((i for i, row in enumerate(rows) if _keeps(row)), 0)
    dropped = [*dropped[:first], np.maximum(dropped[first] - entrance, 0.0), *dropped[first + 1 :]]
    peak: Number = 0.0
    for row, bytes_ in zip(rows, dropped, strict=True):
        if is_nothing(bytes_) and is_nothing(row.workspace_bytes):
            continue
        alive = alive + bytes_
        peak = np.maximum(peak, alive + np.where(np.asarray(alive) > 0, row.workspace_bytes, 0.0))
    return Row(name="recomputed activations", block="layer", phase="recompute", workspace_bytes=peak)


def _alternate_recomputation(setting: Setting, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """``selective`` as torchtitan does it: keep what attention, every other matrix multiply and each exchange of tokens gave, and
    redo the rest.

    Multiplications are counted through a layer, but the router's, which is always redone: of a gated layer with plain attention
    q, v, gate and down stay, k, the output projection and up are redone (torchtitan, distributed/activation_checkpoint.py,
    per-operator policy and per_op_sac_force_recompute_mm_shapes_by_fqns). Its list has the tokens that an all-to-all brought, not
    the grouped multiplications between (llama4/infra/parallelize.py at 05a6cb38). ``full`` redoes all.
    """
    redo_full, selective = setting.full_recompute, (setting.recompute == Recompute.SELECTIVE).astype(float)
    result: list[Row] = []
    again: list[Row] = []
    dropped: list[Number] = []
    needed = _needed_again(setting, rows)
    counted = 0
    for i, row in enumerate(rows):
        if row.phase != "forward":
            result.append(row)
            dropped.append(0.0)
            continue
        share, counted = _alternate_share(setting, row, counted)
        redo = (redo_full + selective * share) * (1.0 if i < needed else 0.0)
        part = np.where(redo > 0, redo, 1.0)
        # attention keeps its output, which the next projection holds as its input, and its log-sums
        stays = row.core or row.operator == "output projection"
        drop = redo_full + selective * (0.0 if stays else 1.0)
        result.append(row if is_nothing(row.saved_bytes) else changed(row, saved_bytes=row.saved_bytes * (1.0 - drop)))
        dropped.append(part_of(row.saved_bytes, drop))
        work = changed(row.work, n=row.work.n * part) if isinstance(row.work, Matmul) else row.work
        again.append(changed(recomputed(row, redo), work=work))
        if row.collective == "all_to_all" and row.group == "ep":
            result.append(
                Row(
                    name=Message("{0} kept", row.name),
                    block=row.block,
                    phase="forward",
                    saved_bytes=row.communication_bytes * row.arriving * selective,
                )
            )
        if isinstance(row.work, Matmul) and not row.core:
            outputs = setting.width * row.work.batch * row.work.m * row.work.n
            result.append(
                Row(
                    name=Message("{0} kept", row.name),
                    block=row.block,
                    phase="forward",
                    saved_bytes=outputs * (1.0 - share) * selective,
                )
            )
    wide = float(setting.model.hidden_size * max(setting.model.hyper_streams, 1))
    kept = setting.width * wide * setting.sequence_tokens * (redo_full + selective)
    entrance = Row(name="layer input kept", block="layer", phase="forward", saved_bytes=kept)
    return (entrance, *result, *again, _restored(rows, dropped, kept))


def _alternate_share(setting: Setting, row: Row, counted: int) -> tuple[Number, int]:
    """(part of a forward row that the per-operator policy redoes, multiplications up to its end): of those counted every second
    one, beside what is no multiplication. Its list holds mm, not the grouped multiplications of experts."""
    if row.core or row.collective is not None:
        return 0.0, counted
    if not isinstance(row.work, Matmul) or row.work.grouped or row.operator == "router":
        return 1.0, counted
    m = setting.model
    widths: tuple[float, ...] = (1.0,)
    if row.operator == "query key value":
        widths = (float(m.num_heads), float(m.num_kv_heads), float(m.num_kv_heads))
    elif row.operator == "in projection" and m.gated_ffn:
        widths = (1.0, 1.0)
    redone = sum(width for position, width in enumerate(widths, counted + 1) if position % 2 == 0)
    return redone / sum(widths), counted + len(widths)
