"""Rows of one block summed to what memory and step time need: seconds by pass and by communication, bytes, parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from planner.common.arrays import Array, Number
from planner.common.message import Message
from planner.hardware.cluster import Cluster
from planner.hardware.curves import Curves
from planner.model.architecture import LayerKind
from planner.operators.routing import places_load
from planner.operators.row import Group, Matmul, Phase, Row, is_nothing
from planner.operators.setting import Setting
from planner.operators.table import Table
from planner.performance.collectives import collective_s, token_exchange_s
from planner.performance.roofline import Device, device_s, devices_s, measured_s, stacked
from planner.workload.framework import Framework

GROUPS: tuple[Group, ...] = ("tp", "cp", "ep", "etp")


@dataclass(frozen=True, kw_only=True)
class BlockCost:
    """One block (a layer, the embedding, the head) for one micro-batch on one rank; arrays of shape ``(n,)``.

    Seconds: ``forward_s``, ``recompute_s`` and ``backward_s`` of computation (the slower of device and host),
    ``weight_gradient_s`` the part of backward that zero-bubble schedules may delay, ``idle_s`` the part in which the device
    waits for the host, ``<group>_s`` of exposed communication. Bytes: ``saved``, ``workspace`` (largest row). ``flops`` of the
    fullest rank, ``mean_flops`` of the average one with masked attention counted in full (Korthikanti et al. 2022, appendix A).
    """

    forward_s: Array
    recompute_s: Array
    backward_s: Array
    weight_gradient_s: Array
    idle_s: Array
    tp_s: Array
    cp_s: Array
    ep_s: Array
    etp_s: Array
    saved_bytes: Array
    workspace_bytes: Array
    dense_parameters: Array
    expert_parameters: Array
    frozen_dense_bytes: Array
    frozen_expert_bytes: Array
    skipped_dense_bytes: Array  # of weights that no pass reads
    skipped_expert_bytes: Array
    flops: Array
    mean_flops: Array
    model_flops: Array
    masked_flops: Array
    dummy_bytes: Array  # of Transformer Engine's cached dummy gradients: each weight of the layer once, in 16 bit

    @property
    def compute_s(self) -> Array:
        """Forward, recomputation and backward."""
        return self.forward_s + self.recompute_s + self.backward_s

    @property
    def communication_s(self) -> Array:
        """Exposed communication of one micro-batch inside the block."""
        return self.tp_s + self.cp_s + self.ep_s + self.etp_s

    @property
    def total_s(self) -> Array:
        """All of one micro-batch."""
        return self.compute_s + self.communication_s

    def take(self, index: np.ndarray[tuple[int], np.dtype[np.intp]]) -> BlockCost:
        """The entries that ``index`` selects: from distinct axes to layouts."""
        return BlockCost(**{name: values[index] for name, values in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class BlockCosts:
    """Costs of all blocks of a model: the embedding, one layer of each kind, the head."""

    embedding: BlockCost
    layers: dict[LayerKind, BlockCost]
    head: BlockCost
    teacher: tuple[tuple[float, BlockCost], ...] = ()  # how often each block of a teacher occurs

    def take(self, index: np.ndarray[tuple[int], np.dtype[np.intp]]) -> BlockCosts:
        """The entries that ``index`` selects."""
        return BlockCosts(
            embedding=self.embedding.take(index),
            head=self.head.take(index),
            layers={kind: cost.take(index) for kind, cost in self.layers.items()},
            teacher=tuple((count, cost.take(index)) for count, cost in self.teacher),
        )


def block_costs(table: Table, cluster: Cluster, curves: Curves) -> BlockCosts:
    """Reduce every block of a table."""
    setting = table.setting
    return BlockCosts(
        embedding=block_cost(table.embedding, setting, cluster, curves),
        layers={kind: block_cost(rows, setting, cluster, curves, layer=True) for kind, rows in table.layers.items()},
        head=block_cost(table.head, setting, cluster, curves),
        teacher=tuple((count, block_cost(rows, setting, cluster, curves)) for count, rows in table.teacher),
    )


def block_cost(rows: Iterable[Row], setting: Setting, cluster: Cluster, curves: Curves, *, layer: bool = False) -> BlockCost:
    """Reduce ``rows`` row by row (a stack would be larger, slower, and would round differently for one layout).

    In each pass the device waits for the host where launching takes longer than computing and communicating: the passes'
    sums are compared, since kernels queue up ahead of the device. Where the host itself waits for the device
    (``Row.host_waits``), none is queued: what comes before and what follows are compared on their own. Graphs of a layer take
    what stands before such a wait, and shared experts, as one launch in each pass (Megatron-LM#1917: attn, mamba, moe_router,
    moe_preprocess). What is nothing is not added: for one layout the additions are what takes the time.
    """
    f = setting.framework
    nothing: Array = np.zeros(setting.tp.shape)
    device = dict.fromkeys(PASSES, nothing)
    host, waiting, before = dict(device), dict(device), dict(device)
    sums = dict.fromkeys((*AMOUNTS, "weight", "dummy"), nothing)
    exposed: dict[Group, Array] = dict.fromkeys(GROUPS, nothing)
    dummies = f.dummy_weight_gradients and not setting.job.frozen
    waits = f.cuda_graphs != "full"
    graphed = captured = layer and f.cuda_graphs == "layers"
    if graphed:
        host["forward"] = host["backward"] = nothing + f.host_s_per_kernel
    rows = tuple(rows)
    for row, seconds in zip(rows, _seconds_of(rows, setting, cluster, curves), strict=True):
        phase = row.phase
        if row.host_waits and waits:
            before[phase] = before[phase] + np.maximum(device[phase], host[phase] - waiting[phase])
            device[phase] = host[phase] = waiting[phase] = nothing
            captured = False
        if seconds is None:
            pass
        elif row.collective is None or row.group is None:
            device[phase] = device[phase] + seconds
            if row.role == "weight gradient":
                sums["weight"] = sums["weight"] + seconds
        else:
            exposed[row.group] = exposed[row.group] + seconds
            waiting[phase] = waiting[phase] + seconds
        if waits and not (is_nothing(row.kernels) and is_nothing(row.host_s)):
            launches = 0.0 if graphed and (captured or row.block == "shared_expert") else row.kernels
            host[phase] = host[phase] + launches * f.host_s_per_kernel + row.host_s
        _add_amounts(sums, row)
        if dummies and isinstance(row.work, Matmul) and _has_dummy(row):
            sums["dummy"] = sums["dummy"] + DUMMY_WIDTH * row.work.n * row.work.k
    return BlockCost(
        forward_s=before["forward"] + np.maximum(device["forward"], host["forward"] - waiting["forward"]),
        recompute_s=before["recompute"] + np.maximum(device["recompute"], host["recompute"] - waiting["recompute"]),
        backward_s=before["backward"] + np.maximum(device["backward"], host["backward"] - waiting["backward"]),
        weight_gradient_s=sums["weight"],
        idle_s=np.maximum(host["backward"] - waiting["backward"] - device["backward"], 0.0),
        tp_s=exposed["tp"],
        cp_s=exposed["cp"],
        ep_s=exposed["ep"],
        etp_s=exposed["etp"],
        saved_bytes=sums["saved"],
        workspace_bytes=np.maximum(sums["workspace"] - sums["saved"], 0.0),
        dense_parameters=sums["dense"],
        expert_parameters=sums["expert"],
        frozen_dense_bytes=sums["fdense"],
        frozen_expert_bytes=sums["fexpert"],
        skipped_dense_bytes=sums["sdense"],
        skipped_expert_bytes=sums["sexpert"],
        flops=sums["flops"],
        mean_flops=sums["mean"],
        model_flops=sums["model"],
        masked_flops=sums["masked"],
        dummy_bytes=sums["dummy"],
    )


PASSES: tuple[Phase, ...] = ("forward", "recompute", "backward")
AMOUNTS = ("saved", "workspace", "dense", "expert", "fdense", "fexpert", "sdense", "sexpert", "flops", "mean", "model", "masked")


def _seconds_of(rows: tuple[Row, ...], setting: Setting, cluster: Cluster, curves: Curves) -> list[Array | None]:
    """Seconds of every row: a computation's, a collective's that nothing hides, None of a collective over a single rank.

    Collectives of one kind and group are worked out together, as an axis before that of the layouts.
    """
    together = {group: bool((group_of(setting, group)[0] > 1).any()) for group in GROUPS}
    found: list[Array | None] = [None] * len(rows)
    computed = [i for i, row in enumerate(rows) if row.collective is None or row.group is None]
    for i, seconds in zip(computed, computes_s([rows[i] for i in computed], setting, cluster, curves), strict=True):
        found[i] = seconds
    known = {_work_of(rows[i]): found[i] for i in computed if rows[i].work is not None}
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, row in enumerate(rows):
        if row.collective is not None and row.group is not None and together[row.group]:
            alike.setdefault((row.collective, row.group, row.copies, row.groups, row.in_turn), []).append(i)
    for members in alike.values():
        first = rows[members[0]]
        message = stacked([rows[i].communication_bytes for i in members], setting.tp.shape)
        for i, seconds in zip(members, _sent_s(first, message, setting, cluster), strict=True):
            beside = rows[i].beside
            with_ = None if beside is None else known.get(_work_of(beside))
            if beside is not None and with_ is None:
                with_ = compute_s(beside, setting, cluster, curves)
            found[i] = _unhidden_s(rows[i], seconds, with_, setting.framework)
    return found


def _work_of(row: Row) -> tuple[int, int, int, str]:
    """What tells the computation of a row of one table: a collective beside it holds a copy of the row."""
    return id(row.work), id(row.flops), id(row.bytes_moved), row.phase


DUMMY_WIDTH = 2.0
"""Bytes of an element of Transformer Engine's dummy gradients: bf16."""


def _has_dummy(row: Row) -> bool:
    """A linear layer of Transformer Engine: not the router, the output layer or grouped experts (cached since its 2.10)."""
    return (
        row.phase == "forward"
        and row.block in ("attention", "feed_forward", "shared_expert")
        and bool(np.any(np.asarray(row.parameters) > 0))
    )


def _add_amounts(sums: dict[str, Array], row: Row) -> None:
    """Add a row's bytes, flops and parameters to ``sums``."""
    if not is_nothing(row.saved_bytes):
        sums["saved"] = sums["saved"] + row.saved_bytes
    if not is_nothing(row.workspace_bytes):
        # backward frees from the end: beside a row's temporaries lives what the rows up to it keep
        sums["workspace"] = np.maximum(sums["workspace"], sums["saved"] + row.workspace_bytes)
    if not (is_nothing(row.flops) and is_nothing(row.model_flops)):
        sums["flops"] = sums["flops"] + row.flops
        # attention counts in full, as in model flops, so that hardware flops are never fewer
        sums["mean"] = sums["mean"] + np.maximum(row.flops / row.imbalance, row.model_flops)
        sums["model"] = sums["model"] + row.model_flops
        if not is_nothing(row.masked_flops):
            sums["masked"] = sums["masked"] + row.masked_flops
    if row.shard_group is not None:
        sums[row.shard_group] = sums[row.shard_group] + row.parameters
        if not is_nothing(row.frozen_bytes):
            sums[f"f{row.shard_group}"] = sums[f"f{row.shard_group}"] + row.frozen_bytes
        if not is_nothing(row.skipped_bytes):
            sums[f"s{row.shard_group}"] = sums[f"s{row.shard_group}"] + row.skipped_bytes


def group_of(setting: Setting, group: Group) -> tuple[Array, Array]:
    """Ranks of a group and how many GPUs apart they lie, in Megatron's order tp - cp - dp - pp (experts: etp - ep)."""
    if group == "cp":
        return setting.cp, setting.tp
    if group == "ep":
        return setting.ep, setting.etp
    return setting.tp if group == "tp" else setting.etp, np.ones_like(setting.tp)


def exposed_s(row: Row, setting: Setting, cluster: Cluster, curves: Curves) -> Array:
    """Seconds of a collective that computation does not hide: what is left of it beside the row it runs with."""
    seconds = _sent_s(row, row.communication_bytes, setting, cluster)
    beside = None if row.beside is None else compute_s(row.beside, setting, cluster, curves)
    return _unhidden_s(row, seconds, beside, setting.framework)


def _sent_s(row: Row, message: Number, setting: Setting, cluster: Cluster) -> Array:
    """Seconds of a collective, or of several like it: ``message`` may have an axis before that of the layouts."""
    if row.collective is None or row.group is None:
        raise ValueError(Message("row {0!r} is no collective", row.name))
    ranks, stride = group_of(setting, row.group)
    if row.copies is not None:
        load = partial(places_load, setting.model, setting.job, setting.ep, pads=setting.framework.pads_to_capacity)
        return token_exchange_s(cluster, message, row.copies, row.groups, ranks, stride, in_turn=row.in_turn, load=load)
    return collective_s(cluster, row.collective, message, ranks, stride)


def _unhidden_s(row: Row, seconds: Array, beside_s: Array | None, framework: Framework) -> Array:
    """What is left of a collective's seconds beside ``beside_s`` of computation."""
    seconds = seconds * (1.0 - overlap(framework, row.group or "tp"))
    if beside_s is None:
        return seconds
    hides = framework.overlap_tensor_parallel_gradients
    return np.asarray(seconds - hides * np.minimum(seconds, beside_s))


def computes_s(rows: Sequence[Row], setting: Setting, cluster: Cluster, curves: Curves) -> list[Array]:
    """``compute_s`` of several rows."""
    return devices_s(rows, setting.tp.shape, _device(setting, cluster, curves))


def compute_s(row: Row, setting: Setting, cluster: Cluster, curves: Curves) -> Array:
    """Seconds that a row keeps the device busy, on this framework and at this job's precision."""
    return device_s(row, _device(setting, cluster, curves))


def _device(setting: Setting, cluster: Cluster, curves: Curves) -> Device:
    return Device(
        accelerator=cluster.accelerator,
        curves=curves,
        dtype=setting.precision.matmul,
        unquantized=setting.unquantized_dtype,
        flash=setting.framework.flash_attention,
        elementwise_rate=setting.framework.memory_rate,
        scaling=setting.job.scaling,
        cublas=setting.framework.cublas,
    )


def measured_rows(table: Table, cluster: Cluster) -> frozenset[int]:
    """Places in ``table.rows()`` of the products that the accelerator's profile holds measured seconds of (first layout)."""
    card, dtype = cluster.accelerator, table.setting.precision.matmul
    if not card.measured_kernels:
        return frozenset()
    products = [(i, row) for i, row in enumerate(table.rows()) if isinstance(row.work, Matmul)]
    found = ((i, measured_s(row, card, row.work.dtype or dtype)) for i, row in products if isinstance(row.work, Matmul))
    return frozenset(i for i, seconds in found if np.isfinite(np.ravel(seconds)[0]))


def overlap(framework: Framework, group: Group) -> Number:
    """The part of a group's communication that the framework hides behind computation of the same micro-batch."""
    hidden: dict[Group, Number] = {
        "tp": framework.overlap_tensor_parallel,
        "cp": framework.overlap_context,
        "ep": framework.overlap_expert,
        "etp": framework.overlap_expert,
    }
    return hidden[group]
