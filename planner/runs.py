"""Measured training runs from a CSV: each row a question for the planner and the answer that somebody measured."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from planner.errors import PlannerError, near
from planner.framework import Framework, framework_names, load_framework
from planner.hardware import Cluster, load_accelerator
from planner.hardware import cluster as build_cluster
from planner.job import Job
from planner.layout import RECOMPUTE, Layout
from planner.model import Model
from planner.nodes import custom_node
from planner.spec import read_table
from planner.units import GIB

LABELS = Path(__file__).resolve().parent / "catalog" / "run_labels.toml"
REQUIRED = (
    "id", "framework", "num_layers", "hidden_size", "num_heads", "vocab_size", "seq_len", "accelerator", "num_gpus",
    "micro_batch_size", "global_batch_size", "precision",
)  # fmt: skip
ZERO = {"ddp": 0, "none": 0, "zero1": 1, "zero2": 2, "zero3": 3, "fsdp": 3}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured run: the question as specs, the candidates for a layout whose recomputation is unknown, the answers."""

    id: str
    columns: Mapping[str, str]
    model: Model
    cluster: Cluster
    framework: Framework
    job: Job
    layouts: tuple[Layout, ...]  # lightest recomputation first; the first that fits is predicted
    step_time_s: float | None
    peak_allocated_bytes: float | None
    out_of_memory: bool  # it was tried and did not fit


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A row that is not predicted, and why."""

    id: str
    reason: str


def read_runs(path: Path) -> tuple[list[Run], list[Refusal]]:
    """Rows of a CSV with the columns of published training runs; bad rows are refused by id, the others kept.

    Raises PlannerError when the file cannot be read, is empty or lacks a column that every row needs.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PlannerError(f"{path}: cannot be read as CSV ({error}).") from None
    if not header or not rows:
        raise PlannerError(f"{path}: holds no rows; give a CSV with a header and one measured run a line.")
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise PlannerError(f"{path}: column {missing[0]} is missing; every run needs {', '.join(REQUIRED)}.")
    runs: list[Run] = []
    refused: list[Refusal] = []
    for number, row in enumerate(rows, start=2):
        name = (row.get("id") or "").strip() or f"line {number}"
        try:
            runs.append(_run(name, {k: (v or "").strip() for k, v in row.items() if k is not None}))
        except PlannerError as error:
            refused.append(Refusal(id=name, reason=str(error)))
    return runs, refused


@cache
def _labels() -> dict[str, dict[str, Any]]:
    return read_table(LABELS)


def _whole(row: Mapping[str, str], column: str, default: int | None = None) -> int:
    text = row.get(column, "")
    if text == "" and default is not None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value != int(value) or value < 0:
        raise PlannerError(f"{column} = {text!r}: must be a whole number that is not negative")
    return int(value)


def _measured(row: Mapping[str, str], column: str, scale: float) -> float | None:
    text = row.get(column, "")
    if text == "":
        return None
    try:
        value = float(text) * scale
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise PlannerError(f"{column} = {text!r}: must be a positive number")
    return value


def _run(name: str, row: Mapping[str, str]) -> Run:
    label = _labels().get(row["framework"], {"framework": row["framework"]})
    if label["framework"] not in framework_names():
        known = [*framework_names(), *_labels()]
        raise PlannerError(f"framework = {row['framework']!r} is not known; {near(row['framework'], known)}")
    framework = _framework(row, load_framework(label["framework"]))
    measured = _measured(row, "step_time_s", 1.0)
    memory = _measured(row, "peak_allocated_gib", GIB)
    out_of_memory = _out_of_memory(row)
    if measured is None and memory is None and not out_of_memory:
        raise PlannerError("neither step_time_s nor peak_allocated_gib nor oom is given: nothing to compare with")
    return Run(
        id=name, columns=row, model=_model(name, row, float(label.get("dropout", 0.0))), cluster=_cluster(row),
        framework=framework, job=_job(name, row), layouts=_layouts(name, row), step_time_s=measured,
        peak_allocated_bytes=memory, out_of_memory=out_of_memory,
    )  # fmt: skip


def _out_of_memory(row: Mapping[str, str]) -> bool:
    return row.get("oom", "") in ("1", "1.0", "true", "True")


def _framework(row: Mapping[str, str], start: Framework) -> Framework:
    changes: dict[str, Any] = {}
    kernel = row.get("attention_kernel", "")
    if kernel not in ("", start.attention_kernel):
        if kernel not in ("standard", "eager", "flash"):
            raise PlannerError(f"attention_kernel = {kernel!r}: must be standard, eager or flash")
        changes["attention_kernel"] = kernel
    if row.get("overlap_grad_reduce") == "0" and start.overlap_gradient_reduction > 0:
        changes["overlap_gradient_reduction"] = 0.0
    return _changed(start, tuple(sorted(changes.items()))) if changes else start


@cache
def _changed(start: Framework, changes: tuple[tuple[str, Any], ...]) -> Framework:
    return start.replaced(**dict(changes))


def _cluster(row: Mapping[str, str]) -> Cluster:
    gpus = _whole(row, "num_gpus")
    per_node = min(_whole(row, "gpus_per_node", 8), gpus)
    network = _measured(row, "inter_node_gbit_per_s_per_node", 1e9 / 8.0)
    accelerator = load_accelerator(row["accelerator"])
    return build_cluster(custom_node(accelerator.name, max(per_node, 1), network), num_gpus=gpus)


def _job(name: str, row: Mapping[str, str]) -> Job:
    fields: dict[str, Any] = {
        "seq_len": _whole(row, "seq_len"), "global_batch_size": _whole(row, "global_batch_size"), "precision": row["precision"],
    }  # fmt: skip
    if row.get("grad_dtype"):
        fields["gradient_dtype"] = "fp32" if row["grad_dtype"] == "fp32" else "same"
    return Job.build(fields, name)


def _layouts(name: str, row: Mapping[str, str]) -> tuple[Layout, ...]:
    sharding = row.get("data_parallel", "") or "ddp"
    if sharding not in ZERO:
        raise PlannerError(f"data_parallel = {sharding!r}: must be one of {', '.join(ZERO)}")
    fields: dict[str, Any] = {n: _whole(row, n, 1) for n in ("tp", "pp", "vpp", "cp", "ep")}
    fields |= {
        "micro_batch_size": _whole(row, "micro_batch_size"), "zero": ZERO[sharding],
        "sequence_parallel": row.get("sequence_parallel") == "1" and fields["tp"] > 1,
    }  # fmt: skip
    if row.get("dp"):
        fields["dp"] = _whole(row, "dp")
    recompute = row.get("recompute", "")
    if recompute and recompute not in RECOMPUTE:
        raise PlannerError(f"recompute = {recompute!r}: must be one of {', '.join(RECOMPUTE)}, or empty")
    # whoever ran out of memory had not recomputed everything: without a word on it, nothing
    unknown = RECOMPUTE[:1] if _out_of_memory(row) else RECOMPUTE
    return tuple(Layout.build({**fields, "recompute": r}, name) for r in ((recompute,) if recompute else unknown))


POSITIONS: dict[str, str] = {"rope": "rotary", "rotary": "rotary", "learned": "learned", "alibi": "alibi", "none": "none"}


def _model(name: str, row: Mapping[str, str], dropout: float) -> Model:
    """The model of a row. Tables do not name the norm: gated models use RMS norm, plain ones layer norm."""
    gated, biases = row.get("gated_ffn", "1") != "0", row.get("biases") == "1"
    positions = POSITIONS.get(row.get("position_embedding", "") or "rope")
    if positions is None:
        raise PlannerError(f"position_embedding = {row['position_embedding']!r}: must be one of {', '.join(POSITIONS)}")
    fields: dict[str, Any] = {
        "name": row.get("model") or name, "norm": "rmsnorm" if gated else "layernorm", "gated_ffn": gated,
        "activation": "silu" if gated else "gelu", "qkv_bias": biases, "attention_output_bias": biases, "ffn_bias": biases,
        "tied_embeddings": row.get("tied_embeddings") == "1", "position_embedding": positions,
        "hidden_dropout": dropout, "attention_dropout": dropout,
    }  # fmt: skip
    if positions == "learned":
        fields["max_positions"] = _whole(row, "seq_len")
    for column in ("num_layers", "hidden_size", "num_heads", "vocab_size"):
        fields[column] = _whole(row, column)
    latent = row.get("attention") == "mla"
    optional = ["ffn_hidden_size", "num_experts", "top_k", "expert_ffn_hidden_size", "num_shared_experts", "num_dense_layers"]
    optional += ["q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"] if latent else []
    optional += [] if latent else ["num_kv_heads", "head_dim"]
    for column in optional:
        if row.get(column):
            fields[column] = _whole(row, column)
    if latent:
        fields["attention"] = "mla"
    return _built(tuple(sorted(fields.items())))


@cache
def _built(fields: tuple[tuple[str, Any], ...]) -> Model:
    return Model.build(dict(fields), "model")
