"""Records of ``python -m kernels run``: read strictly, and their training steps as runs that can be predicted."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from planner.calibration.sample_tables import EXTRAS, SHAPES, Bytes, Extra, Seconds
from planner.common.errors import PlannerError, explain
from planner.common.message import Message
from planner.common.spec import read_table
from planner.evidence.measured_runs import Refusal, Run
from planner.hardware.cluster import Accelerator, Node, cluster
from planner.model.architecture import Model
from planner.workload.framework import Framework, load_framework
from planner.workload.job import Job
from planner.workload.layout import Layout

SCHEMA = "planner kernel record"
VERSION = 1
STEP_FAMILIES = ("training", "distributed_steps")
Positive = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, le=1e24)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Time(_Strict):
    """Quantiles of the repeats, seconds."""

    median_s: Seconds
    p10_s: Seconds
    p90_s: Seconds
    minimum_s: Seconds
    repeats: Annotated[int, Field(ge=1)]
    noisy: bool

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.minimum_s <= self.p10_s * (1 + 1e-9) or not self.p10_s <= self.median_s <= self.p90_s:
            raise ValueError("minimum_s, p10_s, median_s and p90_s must not fall in this order")
        return self


class Sample(_Strict):
    """One measurement, or the reason why there is none."""

    family: str
    name: str
    shape: dict[str, Any]
    dtype: str
    status: Literal["measured", "skipped"]
    reason: str
    time: Time | None
    flops: Annotated[float, Field(ge=0, le=1e30)]
    bytes: Bytes
    flops_per_s: Rate | None
    bytes_per_s: Rate | None
    error: Annotated[float, Field(ge=0)] | None
    extra: dict[str, Any]
    checksum: str

    @property
    def doubtful(self) -> bool:
        """Whether it scattered, or the device was slowed down or shared with another process while it was timed."""
        seen = self.extra.get("seen") or {}
        slowed = any(reason in SLOWED for reason in seen.get("clock_reasons", ()))
        return (self.time is not None and self.time.noisy) or slowed or seen.get("processes", 1) > 1


SLOWED = ("hardware slowdown", "hardware thermal slowdown", "software thermal slowdown", "power brake")
"""Reasons for low clocks (kernels/power.py) that say more of a hot or starved machine than of the GPU: a power cap is none."""


class Device(BaseModel):
    """What was measured; further fields are allowed and kept."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    kind: Literal["cuda", "cpu"]
    name: str
    memory_bytes: Annotated[float, Field(gt=0, le=1e18)]
    num_threads: Annotated[int, Field(ge=1)]
    num_devices: Annotated[int, Field(ge=0)] = 1
    num_sms: Annotated[int, Field(ge=1)] | None = None
    ranks_per_node: Annotated[int, Field(ge=1)] | None = None
    before: dict[str, Any]
    after: dict[str, Any]


class Record(_Strict):
    """One run of the measuring harness; the field names are those of ``kernels/record.py``."""

    schema_name: Annotated[str, Field(alias="schema")]
    version: int
    created: str
    finished: bool
    command: list[str]
    budget_s: Positive
    ranks: Annotated[int, Field(ge=1)]
    device: Device
    versions: dict[str, str]
    samples: list[Sample]
    checksum: str

    def measured(self, family: str) -> list[Sample]:
        """The samples of a family that have a time."""
        return [s for s in self.samples if s.family == family and s.status == "measured" and s.time is not None]


def read_record(path: Path) -> Record:
    """The record of that file. PlannerError names the field that is old, cut off, foreign or edited."""
    return record_of(read_table(path, "python -m kernels run writes records (docs/guide/calibrate.md)"), str(path))


def record_of(data: dict[str, Any], where: str) -> Record:
    """The record of a file's content; ``where`` stands in messages."""
    if data.get("schema") != SCHEMA:
        raise PlannerError(
            "{0}: schema = {1!r}: must be {2!r}, as python -m kernels run writes it.", where, data.get("schema"), SCHEMA
        )
    if data.get("version") != VERSION:
        raise PlannerError(
            "{0}: version = {1!r}: this planner reads {2}; measure again with it.", where, data.get("version"), VERSION
        )
    try:
        record = Record.model_validate(data)
    except ValidationError as error:
        raise explain(error, where, Record) from None
    for i, sample in enumerate(data["samples"]):
        _check_sum(f"{where}: samples.{i}", sample)
    _check_sum(where, data)
    for i, one in enumerate(record.samples):
        _check_tables(f"{where}: samples.{i}", one)
    return record


def _check_tables(where: str, sample: Sample) -> None:
    """PlannerError where the harness would have written no such shape, or no such extra, for this family."""
    tables: list[tuple[str, type[BaseModel] | None, dict[str, Any]]] = [("shape", SHAPES.get(sample.family), sample.shape)]
    if sample.status == "measured":
        tables.append(("extra", EXTRAS.get(sample.family, Extra), sample.extra))
    for name, table, given in tables:
        if table is None:
            continue
        try:
            table.model_validate(given)
        except ValidationError as error:
            raise explain(error, f"{where}.{name}", table) from None


def read_records(paths: Sequence[Path]) -> Record:
    """Several records of one device as one: kernels of one process, and collectives under torchrun."""
    records = [read_record(path) for path in paths]
    first = records[0]
    for i, (path, record) in enumerate(zip(paths, records, strict=True)):
        if record in records[:i]:
            other = paths[records.index(record)]
            raise PlannerError(
                "{0}: is the same record as {1}; its samples would count twice, so give each record once.", path, other
            )
    for path, record in zip(paths[1:], records[1:], strict=True):
        if (record.device.kind, record.device.name) != (first.device.kind, first.device.name):
            raise PlannerError(
                "{0}: device.name = {1!r}: must be {2!r}, as in {3}.", path, record.device.name, first.device.name, paths[0]
            )
    samples = [sample for record in records for sample in record.samples]
    return first.model_copy(update={"samples": samples, "ranks": max(record.ranks for record in records)})


def _check_sum(where: str, value: Mapping[str, Any]) -> None:
    rest = {k: v for k, v in value.items() if k != "checksum"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
    if digest != value["checksum"]:
        raise PlannerError(
            "{0}: checksum = {1!r} does not match the content: it was edited or damaged.", where, value["checksum"]
        )


def model_from_fields(fields: Mapping[str, Any], name: str) -> Model:
    """A planner model from the fields of ``kernels.transformer.ModelConfig``."""
    given = {k: v for k, v in fields.items() if v is not None}
    encoder = given.get("architecture") == "encoder"
    if not given.get("num_experts"):
        for field in ("num_experts", "top_k", "num_shared_experts", "num_dense_layers"):
            given.pop(field, None)
    if not given.get("num_shared_experts"):
        given.pop("num_shared_experts", None)
    if encoder:
        given |= {
            "gated_ffn": False,
            "activation": "gelu",
            "norm": "layernorm",
            "position_embedding": "learned",
            "embedding_norm": True,
            "final_norm": False,
            "head": "masked_language_model",
            "head_bias": True,
            "qkv_bias": True,
            "attention_output_bias": True,
            "ffn_bias": True,
            "softmax_in_fp32": True,
        }
    else:
        given = {k: v for k, v in given.items() if k not in ("max_positions", "type_vocab_size")} | {"modules": "llama"}
    return Model.build({"name": name, **given}, Message("model of {0}", name))


def stack_of(sample: Sample, start: Framework | None = None) -> Framework:
    """The framework of a measured step: the catalog's ``kernels`` (or ``start``) with what the sample says."""
    stack = dict(sample.extra.get("stack", {}))
    base = start or load_framework(str(stack.pop("framework", "kernels")))
    stack.pop("framework", None)
    return base.replaced(**stack)


def record_runs(
    record: Record,
    accelerator: Accelerator,
    node: Node | None = None,
    framework: Framework | None = None,
    role: str | None = None,
) -> tuple[list[Run], list[Refusal]]:
    """The record's training steps (of one role, or all) and its out-of-memory probes as runs to predict."""
    runs: list[Run] = []
    refused: list[Refusal] = []
    for i, sample in enumerate(record.samples):
        if sample.family not in (*STEP_FAMILIES, "out_of_memory"):
            continue
        name = sample_name(sample, i)
        if role is not None and sample.shape.get("role", "validate") != role:
            continue
        if sample.status == "skipped":
            refused.append(Refusal(id=name, reason=sample.reason))
            continue
        try:
            runs += _runs_of(name, sample, accelerator, node or single_node(accelerator), framework)
        except PlannerError as error:
            refused.append(Refusal(id=name, reason=Message("{0}: {1}", type(error).__name__, error)))
    return runs, refused


def sample_name(sample: Sample, index: int) -> str:
    """How a step is called: its label, and what it is where it is no plain training step."""
    label = sample.shape.get("label", index)
    return str(label) if sample.family == "training" else f"{label} ({sample.name})"


def single_node(accelerator: Accelerator) -> Node:
    """A node with this one accelerator."""
    link = {"name": "none", "kind": "shared_memory", "span": 1, "bytes_per_s": accelerator.host_link_bytes_per_s}
    return Node.build(
        {"name": f"1 x {accelerator.name}", "accelerator": accelerator.name, "num_gpus": 1, "links": [link]}, "node"
    )


def _runs_of(name: str, sample: Sample, accelerator: Accelerator, node: Node, framework: Framework | None) -> list[Run]:
    """One run of a step; two of a probe: the largest micro-batch that ran, and the smallest that did not."""
    extra = sample.extra
    if sample.family != "out_of_memory":
        assert sample.time is not None
        memory = extra.get("peak_allocated_bytes")
        return [_run(name, sample, accelerator, node, framework, seconds=sample.time.median_s, memory=memory)]
    size, fails = int(extra["largest_micro_batch_size"]), extra.get("smallest_that_fails")
    memory = extra.get("peak_allocated_bytes")
    found = [_run(f"{name}: {size}", sample, accelerator, node, framework, memory=memory, micro_batch_size=size)]
    if fails:
        found.append(_run(f"{name}: {fails}", sample, accelerator, node, framework, micro_batch_size=int(fails), failed=True))
    return found


def _run(
    name: str,
    sample: Sample,
    accelerator: Accelerator,
    node: Node,
    framework: Framework | None,
    *,
    seconds: float | None = None,
    memory: float | None = None,
    micro_batch_size: int | None = None,
    failed: bool = False,
) -> Run:
    shape = sample.shape
    model = model_from_fields(shape["model"], name)
    ranks, size = int(shape.get("ranks", 1)), micro_batch_size or int(shape["micro_batch_size"])
    tp = int(shape.get("tp", 1))
    job = {
        "seq_len": shape["seq_len"],
        "global_batch_size": size * int(shape["num_microbatches"]) * (ranks // tp),
        "precision": shape["precision"],
        "optimizer": shape["optimizer"],
    }
    layout = {
        "micro_batch_size": size,
        "recompute": shape["recompute"],
        "tp": tp,
        "dp": ranks // tp,
        "ep": int(shape.get("ep", 1)),
        "zero": int(shape.get("zero", 0)),
    }
    rank = int(shape.get("lora_rank", 0))
    if rank:
        job |= {"kind": "lora", "adapter": {"rank": rank, "dtype": "same"}}
    columns = {"family": model.family, "source": accelerator.name, "role": str(shape.get("role", "validate"))}
    return Run(
        id=name,
        columns=columns,
        model=model,
        cluster=cluster(node, num_gpus=ranks, accelerator=accelerator),
        framework=stack_of(sample, framework),
        job=Job.build(job, name),
        layouts=(Layout.build(layout, name),),
        step_time_s=seconds,
        memory_bytes={"allocated": float(memory)} if memory else {},
        out_of_memory=failed,
        key=(("record", name),),
    )
