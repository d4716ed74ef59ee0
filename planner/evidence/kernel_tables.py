"""Measured MoE layers and the kernels of one training step beside the rows that price them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.common import data
from planner.hardware.cluster import Cluster, load_node
from planner.hardware.cluster import cluster as build_cluster
from planner.hardware.curves import Curves, curves_of
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.operators.row import Phase, Row
from planner.operators.setting import Setting, distinct_axes
from planner.operators.table import build_table
from planner.performance.block_cost import compute_s, exposed_s
from planner.workload.framework import Framework, load_framework
from planner.workload.job import Job
from planner.workload.layout import Layout, as_columns

TABLES = data.CATALOG / "kernels"
LAYERS = TABLES / "moe_layers.csv"
"""One MoE layer on 8 H100: NVIDIA/Megatron-LM@d98e8a64, tests/functional_tests/test_cases/common/moe_perf/baseline.json."""
STEP = TABLES / "deepseek_v3_h800_chunk_pair.csv"
"""Kernels of a DeepSeek-V3 step on 64 H800: deepseek-ai/profile-data@449602428a, train.json; grouped by hand."""
GROUPS: dict[str, tuple[str, ...]] = {
    "attention forward": ("attention: fused attention",),
    "attention backward": ("attention: fused attention gradient",),
    "grouped multiply fp8 (experts, forward and input gradient)": (
        "moe: in projection", "moe: in projection input gradient", "moe: out projection", "moe: out projection input gradient",
    ),
    "expert dispatch (all-to-all, sends)": ("moe: dispatch tokens", "moe: combine gradients"),
    "expert combine (all-to-all, sends)": ("moe: combine tokens", "moe: dispatch gradients"),
    "permute and unpermute": ("moe: permute", "moe: permute gradient", "moe: unpermute", "moe: unpermute gradient"),
    "SwiGLU": (
        "moe: activation", "moe: activation gradient", "shared_expert: activation", "shared_expert: activation gradient",
    ),
    "rotary": ("attention: rotary", "attention: rotary gradient"),
}  # fmt: skip
"""Groups of the step that rows have an equal of; weights' gradients are parts of several groups there. Products without casts."""
CASTS = "quantization, casts, transposes"
"""The group that is a part of every product here."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Seconds of a measured piece of work and of its rows."""

    name: str
    part: str
    measured_s: float
    predicted_s: float

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted_s / self.measured_s - 1.0


def moe_layers() -> tuple[Compared, ...]:
    """Forward and backward of every measured MoE layer; a layer alone, so that the GPU clocks as in bursts.

    Sustained fractions are 1, and grouped multiplications as fast as plain ones (aiconfigurator-core 0.12.0, balanced rows).
    Tokens are permuted by fused kernels: assumed, the table does not say.
    """
    on = build_cluster(load_node("dgx-h100"), num_gpus=8)
    burst = {"sustained_fraction": 1.0, "fp8_sustained_fraction": 1.0, "grouped_fraction": 1.0}
    curves = curves_of(on.accelerator).replaced(**burst)
    found: list[Compared] = []
    for row in _rows(LAYERS):
        stack = load_framework("megatron-core").replaced(dispatcher=row["dispatcher"], fused_permutation=True)
        job = {
            "seq_len": int(row["seq_len"]),
            "global_batch_size": 8 * int(row["micro_batch_size"]),
            "precision": row["precision"],
            "fp8_recipe": row["recipe"] or None,
            "routing": row["routing"],
        }
        layout = Layout(ep=int(row["ep"]), zero=1, micro_batch_size=int(row["micro_batch_size"]))
        setting = _setting(_layer_of(row), stack, job, layout, on)
        rows = [x for x in _layer(setting) if x.block in ("moe", "shared_expert")]
        phases: tuple[tuple[Phase, str], ...] = (("forward", "forward_s"), ("backward", "backward_s"))
        for phase, column in phases:
            seconds = sum(_seconds(x, setting, on, curves) for x in rows if x.phase == phase)
            found.append(Compared(name=row["id"], part=phase, measured_s=float(row[column]), predicted_s=seconds))
    return tuple(found)


def deepseek_step() -> tuple[Compared, ...]:
    """Groups of kernels of one layer of DeepSeek-V3, forward and backward, in training: 64 H800, ep 64, fp8, even routing.

    Tokens are permuted by fused kernels: assumed, the profile is of a framework of their own.
    """
    on = build_cluster(load_node("hgx-h800"), num_gpus=64)
    stack = load_framework("megatron-core").replaced(dispatcher="deepep", fused_permutation=True)
    job = {"seq_len": 4096, "global_batch_size": 64, "precision": "fp8", "fp8_recipe": "blockwise", "routing": "forced"}
    setting = _setting(load_model("deepseek-v3"), stack, job, Layout(ep=64, zero=1), on)
    curves = curves_of(on.accelerator)
    ready = curves.replaced(fp8_cast_passes=0.0, fp8_latency_s=0.0)
    seconds: dict[str, float] = {}
    casts = 0.0
    for row in _layer(setting):
        name, alone = f"{row.block}: {row.name}", _seconds(row, setting, on, ready)
        seconds[name] = seconds.get(name, 0.0) + alone
        casts += _seconds(row, setting, on, curves) - alone
    return tuple(
        Compared(
            name=row["group"],
            part="layer",
            measured_s=float(row["seconds_per_layer"]),
            predicted_s=casts if row["group"] == CASTS else sum(seconds[name] for name in GROUPS[row["group"]]),
        )
        for row in _rows(STEP)
        if row["group"] in (*GROUPS, CASTS)
    )


def _rows(path: Any) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _layer_of(row: dict[str, str]) -> Model:
    fields: dict[str, Any] = {
        "name": row["model"], "num_layers": 1, "num_heads": 32, "num_kv_heads": 8, "head_dim": 128, "vocab_size": 32000,
        "hidden_size": int(row["hidden_size"]), "num_experts": int(row["num_experts"]), "top_k": int(row["top_k"]),
        "expert_ffn_hidden_size": int(row["expert_ffn_hidden_size"]),
    }  # fmt: skip
    if row["shared_expert_ffn_hidden_size"]:
        fields |= {"num_shared_experts": 1, "shared_expert_ffn_hidden_size": int(row["shared_expert_ffn_hidden_size"])}
        fields |= {"router_groups": int(row["router_groups"]), "router_top_groups": int(row["router_top_groups"])}
    return Model.build(fields, row["id"])


def _setting(model: Model, stack: Framework, job: dict[str, Any], layout: Layout, on: Cluster) -> Setting:
    return distinct_axes(as_columns(layout, on.num_gpus), model, stack, Job.build(job, "kernels"))[0]


def _layer(setting: Setting) -> tuple[Row, ...]:
    """Rows of one layer with experts."""
    return next(rows for kind, rows in build_table(setting).layers.items() if kind.moe)


def _seconds(row: Row, setting: Setting, on: Cluster, curves: Curves) -> float:
    find = exposed_s if row.collective is not None else compute_s
    return float(np.asarray(find(row, setting, on, curves)).ravel()[0])
