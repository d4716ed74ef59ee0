"""The controls of the work: lengths, precision, and what fine-tuning trains."""

from __future__ import annotations

from typing import Any, get_args

import streamlit as st

from planner.common.quantities import RUN_LENGTHS
from planner.model.architecture import Model
from planner.model.linears import layer_linears
from planner.training.trainable import teachers
from planner.web.answers import cluster_of, stack_name
from planner.web.controls import choice, key_of, number_field, slider
from planner.web.inputs import changed, load_or_none
from planner.web.state import Tables
from planner.web.text import t
from planner.workload.framework import load_framework
from planner.workload.job import Kind, Optimizer, Precision
from planner.workload.resolve import usual_precision
from planner.workload.tuning import USUAL_RANK

SEQUENCES = [2**i for i in range(7, 21)]
BATCHES = [2**i for i in range(15)]
LENGTHS = RUN_LENGTHS
RANKS = [2**i for i in range(11)]
FORMATS = {"qlora": ("nf4", "fp4", "int8"), "gptq-lora": ("gptq-int4", "gptq-int8")}
"""How the frozen weights of a kind of fine-tuning may be stored."""


def size(case: int, tables: Tables) -> None:
    """How long and how many the sequences are."""
    job = tables.get("job", {})
    slider(case, "job", "seq_len", t("in.seq_len"), SEQUENCES, job.get("seq_len", 2048))
    slider(case, "job", "global_batch_size", t("in.batch"), BATCHES, job.get("global_batch_size", 32))
    cluster = cluster_of(tables)
    usual = "bf16" if cluster is None else usual_precision(cluster.accelerator)
    choice(case, "job", "precision", t("in.precision"), get_args(Precision), job.get("precision", usual))


def training(case: int, tables: Tables) -> None:
    """What is trained, how, and for how long."""
    job, model = tables.get("job", {}), load_or_none(tables)
    _kind(case, tables, model)
    if "adapter" in job:
        _adapter(case, job, model)
    if "teacher" in job:
        names = teachers(model) if model is not None else ()
        choice(case, "job.teacher", "model", t("in.teacher"), names, str(job["teacher"].get("model", "")))
    choice(case, "job", "optimizer", t("in.optimizer"), get_args(Optimizer), job.get("optimizer", "adamw"))
    if model is not None and model.num_experts:
        choice(
            case,
            "job",
            "routing",
            t("in.routing"),
            ("unforced", "forced"),
            job.get("routing", "unforced"),
            lambda name: t(f"in.routing_{name}"),
        )
    _length(case, job)


def _kind(case: int, tables: Tables, model: Model | None) -> None:
    """Pre-training or a kind of fine-tuning."""
    job, key = tables.get("job", {}), key_of(case, "kind")
    now = str(job.get("kind", "pretrain"))

    def store() -> None:
        of_kind(job, st.session_state[key], model)
        drop_unable_framework(tables)
        changed(case)
        st.session_state["revision"] += 1

    kinds = get_args(Kind)
    at = kinds.index(now) if now in kinds else 0
    st.selectbox(t("in.kind"), kinds, at, key=key, on_change=store, format_func=lambda k: t(f"in.kind_{k.replace('-', '_')}"))


def of_kind(job: dict[str, Any], kind: str, model: Model | None) -> None:
    """Make ``job`` one of this kind: the tables that it needs appear with usual values, those of other kinds go."""
    job["kind"] = kind
    teacher = next(iter(teachers(model)), model.name) if model is not None and kind == "distil" else ""
    tunes = kind in ("lora", "qlora", "gptq-lora")
    for table, wanted, usual in (
        ("adapter", tunes, {"rank": 16}),
        ("quantization", kind in FORMATS, {"format": FORMATS.get(kind, ("",))[0]}),
        ("teacher", kind == "distil", {"model": teacher}),
    ):
        if not wanted:
            job.pop(table, None)
        elif table not in job or (table == "quantization" and job[table].get("format") not in FORMATS[kind]):
            job[table] = usual
    if tunes and job.get("optimizer") in ("muon", "adafactor", "galore-adamw", "galore-adamw-8bit"):
        job["optimizer"] = "adamw"
    if kind in FORMATS and job.get("precision") in ("fp8", "nvfp4"):
        job["precision"] = "bf16"


def drop_unable_framework(tables: Tables) -> None:
    """The planner chooses again where the framework that is named cannot store frozen weights as the job has them."""
    job, name = tables.get("job", {}), tables.get("framework", {}).get("name")
    if name and job.get("kind") in FORMATS and not load_framework(stack_name(tables)).quantized_weights:
        del tables["framework"]


def _adapter(case: int, job: dict[str, Any], model: Model | None) -> None:
    """Rank, layers that carry adapters, how the frozen weights are stored."""
    adapter = job["adapter"]
    slider(case, "job.adapter", "rank", t("in.rank"), RANKS, adapter.get("rank", USUAL_RANK))
    if model is not None:
        _targets(case, adapter, model)
    kind = str(job.get("kind"))
    if kind in FORMATS:
        stored = job.get("quantization", {}).get("format", FORMATS[kind][0])
        choice(case, "job.quantization", "format", t("in.stored_as"), FORMATS[kind], stored)


def modules_of(model: Model) -> list[str]:
    """Names of the linear layers that adapters may go on, as Hugging Face has them."""
    linears = (linear for kind in dict.fromkeys(model.layer_kinds) for linear in layer_linears(model, kind))
    return list(dict.fromkeys(linear.path.rsplit(".", 1)[-1] for linear in linears if linear.module))


def _targets(case: int, adapter: dict[str, Any], model: Model) -> None:
    """Which linear layers carry adapters; none chosen means all."""
    key = key_of(case, "adapter.target_modules")
    given = adapter.get("target_modules", "all-linear")
    chosen = [] if given == "all-linear" else given.split(",") if isinstance(given, str) else list(given)

    def store() -> None:
        adapter["target_modules"] = st.session_state[key] or "all-linear"

    names = list(dict.fromkeys([*modules_of(model), *chosen]))
    st.multiselect(t("in.targets"), names, chosen, key=key, on_change=store, placeholder=t("in.targets_all"))


def _length(case: int, job: dict[str, Any]) -> None:
    """How long the run is, in tokens, samples or steps."""
    unit = next((name for name in LENGTHS if name in job), "none")
    key, value_key = key_of(case, "length"), key_of(case, f"length.{unit}")

    def store() -> None:
        for name in LENGTHS:
            job.pop(name, None)
        chosen = st.session_state[key]
        if chosen != "none":
            job[chosen] = {"num_tokens": 10**10, "num_samples": 10**6, "num_steps": 10**4}[chosen]

    def store_value() -> None:
        job[unit] = int(st.session_state[value_key])

    units = [*LENGTHS, "none"]
    st.selectbox(t("in.length"), units, units.index(unit), key=key, on_change=store, format_func=lambda n: t(f"in.{n}"))
    if unit != "none":
        now = int(job[unit])
        number_field(t(f"in.{unit}"), now, least=1, most=10**15, step=1, whole=True, key=value_key, on_change=store_value)
