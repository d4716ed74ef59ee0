"""A profiler trace of the user's own step against the table of operators: what is off, what overlaps, what idles."""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from planner.common.data import CATALOG
from planner.common.errors import PlannerError
from planner.common.spec import read_table
from planner.hardware.curves import curves_of
from planner.operators.row import FusedAttention, Matmul, Row
from planner.performance.block_cost import compute_s
from planner.performance.evaluation import operator_table
from planner.performance.roofline import beside_memory, unfused_rate
from planner.training.plan import Plan
from planner.workload.layout import as_columns

KINDS = (
    "matrix multiply", "grouped multiply", "attention forward", "attention backward", "memory-bound", "optimizer",
    "communication", "host copies",
)  # fmt: skip
UNKNOWN = "unknown"
DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of events on the device in a Kineto trace; a trace of a CPU has operators (``cpu_op``) instead."""
EXPOSED = ("tensor_parallel", "expert_parallel", "context_parallel", "pipeline", "data_parallel")
MICRO = 1e-6
GZIP = b"\x1f\x8b"
"""How every gzip file begins (RFC 1952, section 2.3.1)."""
OVERLAPS = {"tp": "overlap_tensor_parallel", "cp": "overlap_context", "ep": "overlap_expert", "dp": "overlap_gradient_reduction"}
"""The framework's constant for the communication of each way to cut a model."""


class Event(NamedTuple):
    """One kernel, copy or operator: name, begin and end in seconds, own seconds (without what runs inside it)."""

    name: str
    begin: float
    end: float
    own_s: float
    in_optimizer: bool = False  # began while torch.optim's step() was at work

    @property
    def kind(self) -> str:
        """The kind of its work: by its name, or the optimizer's whatever it does there, but for what travels."""
        own = kind_of(self.name)
        return "optimizer" if self.in_optimizer and own != "communication" else own


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The events of one device, the number of steps that they cover, and the span of those steps, seconds."""

    events: tuple[Event, ...]
    steps: int
    span_s: float
    on_cpu: bool


def read_trace(path: Path, steps: int | None = None) -> Trace:
    """The busiest device's events of a Kineto trace (JSON, or that in gzip), or a CPU's operators where no device is.

    ``steps``: how many steps the trace holds; unasked, its ProfilerStep marks are counted, or there is one. PlannerError
    says what is wrong with the file.
    """
    found = [_checked(path, i, e) for i, e in enumerate(_events(path)) if e.get("ph") == "X" and "dur" in e]
    marks = [e for e in found if str(e.get("name", "")).startswith("ProfilerStep") and "gpu" not in str(e.get("cat"))]
    device = _busiest([e for e in found if str(e.get("cat", "")).lower() in DEVICE])
    operators = [] if device else [e for e in found if e.get("cat") == "cpu_op"]
    events = _own(device, nested=False) if device else _own(operators, nested=True)
    here = {str(e.get("pid")) for e in device or operators}
    category = "gpu_user_annotation" if device else "user_annotation"
    events = _of_optimizer(events, [e for e in found if e.get("cat") == category and str(e.get("pid")) in here])
    if not events:
        raise PlannerError("{0}: holds no kernel and no operator; export it with torch.profiler's export_chrome_trace.", path)
    whole = events if device or not marks else [Event("", e["ts"] * MICRO, (e["ts"] + e["dur"]) * MICRO, 0.0) for e in marks]
    span = max(e.end for e in whole) - min(e.begin for e in whole)
    if span <= 0:
        raise PlannerError("{0}: all its kernels take no time; export it with torch.profiler's export_chrome_trace.", path)
    names = {str(e["name"]) for e in marks}
    if steps is not None and steps < 1:
        raise PlannerError("--steps {0}: must be at least 1, the training steps that the trace holds.", steps)
    return Trace(events=tuple(events), steps=steps or max(len(names), 1), span_s=span, on_cpu=not device)


def _of_optimizer(events: list[Event], annotations: list[dict[str, Any]]) -> list[Event]:
    """The events, those marked that begin within torch.optim's own spans (Optimizer.step#AdamW.step)."""
    named = [e for e in annotations if str(e.get("name", "")).startswith("Optimizer.step")]
    spans: list[tuple[float, float]] = []  # united: an optimizer may call another's step within its own
    for begin, end in sorted((e["ts"] * MICRO, (e["ts"] + e["dur"]) * MICRO) for e in named):
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((begin, end))
    begins = [begin for begin, _ in spans]

    def inside(moment: float) -> bool:
        last = bisect_right(begins, moment) - 1
        return last >= 0 and moment < spans[last][1]

    return [event._replace(in_optimizer=inside(event.begin)) for event in events] if spans else events


def _events(path: Path) -> list[dict[str, Any]]:
    """What the file lists, packed or not, whatever its name ends in."""
    try:
        raw = path.read_bytes()
        data = json.loads(gzip.decompress(raw) if raw[:2] == GZIP else raw)
    except json.JSONDecodeError as error:
        text = error.doc.strip()
        cut = not error.doc[error.pos :].strip() or (text[0] in "[{" and text[-1] not in "]}")
        if not cut:
            raise PlannerError("{0}: line {1}: is not JSON; give a .json or .json.gz.", path, error.lineno) from None
        raise PlannerError("{0}: ends in the middle of its JSON: it was cut off; export it again.", path) from None
    except EOFError:
        raise PlannerError("{0}: ends in the middle of its archive: it was cut off; export it again.", path) from None
    except (OSError, ValueError, RecursionError, zlib.error) as error:
        raise PlannerError(
            "{0}: cannot be read as a trace ({1}); give a .json or .json.gz.", path, type(error).__name__
        ) from None
    events = data.get("traceEvents") if isinstance(data, dict) else data
    if not isinstance(events, list):
        raise PlannerError("{0}: holds no traceEvents; export it with torch.profiler's export_chrome_trace.", path)
    return [e if isinstance(e, dict) else {} for e in events]


def _checked(path: Path, index: int, event: dict[str, Any]) -> dict[str, Any]:
    """The event, its begin and length as numbers: an event left out would be missing from every sum."""
    times = {}
    for field in ("ts", "dur"):
        value = event.get(field)
        try:
            times[field] = math.nan if value is None or isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            times[field] = math.nan
        if not math.isfinite(times[field]) or (field == "dur" and times[field] < 0):
            raise PlannerError("{0}: traceEvents.{1}.{2} = {3!r}: must be microseconds.", path, index, field, value)
    args = event.get("args")
    return {**event, **times, "args": args if isinstance(args, dict) else {}}


def _busiest(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A trace may hold several devices: those of the one that worked longest."""
    total: dict[Any, float] = {}
    for e in events:
        total[_place(e)] = total.get(_place(e), 0.0) + e["dur"]
    if not total:
        return []
    first = max(total, key=lambda place: total[place])
    return [e for e in events if _place(e) == first]


def _place(event: dict[str, Any]) -> tuple[str, str]:
    """The process and the device: a file into which ranks were merged holds a device 0 of each."""
    return str(event.get("pid")), str(event["args"].get("device"))


def _own(events: list[dict[str, Any]], *, nested: bool) -> list[Event]:
    """Events in order of time; of ``nested`` operators the own time of each, without those that run inside it."""
    found: list[Event] = []
    for thread in dict.fromkeys(str(e.get("tid")) for e in events) if nested else (None,):
        here = [e for e in events if not nested or str(e.get("tid")) == thread]
        here.sort(key=lambda e: (e["ts"], -e["dur"]))
        inside = [0.0] * len(here)
        stack: list[int] = []
        for i, e in enumerate(here):
            while stack and here[stack[-1]]["ts"] + here[stack[-1]]["dur"] <= e["ts"]:
                stack.pop()
            if nested and stack:
                inside[stack[-1]] += e["dur"]
            stack.append(i)
        for e, seconds in zip(here, inside, strict=True):
            begin = e["ts"] * MICRO
            found.append(Event(str(e.get("name", "")), begin, begin + e["dur"] * MICRO, max(e["dur"] - seconds, 0.0) * MICRO))
    return sorted(found, key=lambda event: event.begin)


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    table = read_table(CATALOG / "kernel_names.toml")["patterns"]
    return tuple((re.compile(f"({'|'.join(entry['match'])})"), str(entry["kind"])) for entry in table)


@lru_cache(maxsize=1024)
def kind_of(name: str) -> str:
    """The kind of work that a kernel of that name does; "unknown" when no pattern of the catalog knows it.

    >>> kind_of("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n"), kind_of("ncclDevKernel_AllReduce_Sum_bf16_RING_LL")
    ('matrix multiply', 'communication')
    """
    plain = name.lower()
    return next((kind for pattern, kind in _patterns() if pattern.search(plain)), UNKNOWN)


def kind_of_row(row: Row) -> str:
    """The kind of work that a row of the table of operators is."""
    if row.collective is not None:
        return "communication"
    if row.phase == "optimizer":
        return "optimizer"
    if isinstance(row.work, FusedAttention):
        return "attention backward" if row.work.backward else "attention forward"
    if isinstance(row.work, Matmul):
        return "grouped multiply" if row.work.grouped else "matrix multiply"
    return "memory-bound"


@dataclass(frozen=True, kw_only=True)
class KindRow:
    """One kind of work in one step: measured and predicted seconds of the device, and kernels launched."""

    kind: str
    measured_s: float
    predicted_s: float
    kernels: float

    @property
    def error(self) -> float | None:
        """predicted / measured - 1; None where nothing was measured."""
        return self.predicted_s / self.measured_s - 1.0 if self.measured_s > 0 else None


@dataclass(frozen=True, kw_only=True)
class TraceComparison:
    """A step of the trace beside the plan's, seconds. ``unknown``: (kernel, seconds) that no pattern knows, longest first."""

    rows: tuple[KindRow, ...]
    step_s: float
    predicted_step_s: float
    busy_s: float
    idle_s: float
    communication_s: float
    exposed_s: float
    predicted_exposed_s: float
    unknown: tuple[tuple[str, float], ...]
    steps: int
    overlap: str | None = OVERLAPS["dp"]  # the constant that the overlap belongs to; None where several ways communicate
    beside: float = 1.0  # of the GPU (roofline.beside_memory)

    def overrides(self, elementwise_rate: float) -> dict[str, float]:
        """Constants of the framework that would bring memory-bound work and overlap to what was measured."""
        found = {}
        bound = next((r for r in self.rows if r.kind == "memory-bound"), None)
        if bound is not None and bound.measured_s > 0 and bound.predicted_s > 0:
            reached = float(unfused_rate(elementwise_rate, self.beside)) * bound.predicted_s / bound.measured_s
            found["elementwise_rate"] = float(unfused_rate(min(max(reached, 0.01), 1.0), 1.0 / self.beside))
        if self.communication_s > 0 and self.overlap is not None:
            found[self.overlap] = min(max(1.0 - self.exposed_s / self.communication_s, 0.0), 1.0)
        return found


def compare_trace(trace: Trace, answer: Plan) -> TraceComparison:
    """Kind by kind, the trace's seconds of one step and the plan's. PlannerError for pipelines: a trace holds one stage."""
    if answer.layout.pp > 1:
        raise PlannerError(
            "layout.pp = {0}: a trace holds one pipeline stage; give a scenario without pipeline.", answer.layout.pp
        )
    measured, launches, unknown = _summed(trace)
    predicted = predicted_seconds(answer)
    kinds = [k for k in KINDS if measured.get(k) or predicted.get(k)]
    rows = [
        KindRow(kind=k, measured_s=measured.get(k, 0.0), predicted_s=predicted.get(k, 0.0), kernels=launches.get(k, 0.0))
        for k in kinds
    ]
    compute = _union((e.begin, e.end) for e in trace.events if e.kind != "communication")
    both = _union((e.begin, e.end) for e in trace.events)
    if trace.on_cpu:
        both = compute = sum(measured.values()) * trace.steps
    return TraceComparison(
        rows=tuple(rows),
        step_s=trace.span_s / trace.steps,
        predicted_step_s=answer.step_time_s,
        busy_s=both / trace.steps,
        idle_s=max(trace.span_s - both, 0.0) / trace.steps,
        communication_s=measured.get("communication", 0.0),
        exposed_s=(both - compute) / trace.steps,
        predicted_exposed_s=float(sum(answer.step_parts_s.get(part, 0.0) for part in EXPOSED)),
        unknown=unknown,
        steps=trace.steps,
        overlap=_overlap(answer),
        beside=beside_memory(answer.cluster.accelerator, curves_of(answer.cluster.accelerator)),
    )


def _overlap(answer: Plan) -> str | None:
    """Kernels do not say whose exchange they are: with tensor and data parallelism together, neither's overlap is known."""
    layout = answer.layout
    dp = answer.cluster.num_gpus // (layout.tp * layout.cp * layout.pp)
    ways = [name for name, ranks in (("tp", layout.tp), ("cp", layout.cp), ("ep", layout.ep), ("dp", dp)) if ranks > 1]
    return OVERLAPS[ways[0] if ways else "dp"] if len(ways) <= 1 else None


def _summed(trace: Trace) -> tuple[dict[str, float], dict[str, float], tuple[tuple[str, float], ...]]:
    """Seconds and kernels of a step by kind, and the kernels that no pattern knows."""
    seconds: dict[str, float] = {}
    kernels: dict[str, float] = {}
    strangers: dict[str, float] = {}
    for event in trace.events:
        kind = event.kind
        seconds[kind] = seconds.get(kind, 0.0) + event.own_s / trace.steps
        kernels[kind] = kernels.get(kind, 0.0) + 1.0 / trace.steps
        if kind == UNKNOWN:
            strangers[event.name] = strangers.get(event.name, 0.0) + event.own_s / trace.steps
    return seconds, kernels, tuple(sorted(strangers.items(), key=lambda item: -item[1]))


def predicted_seconds(answer: Plan) -> dict[str, float]:
    """Seconds of the device in one step by kind: rows times layers times micro-batches; the optimizer once."""
    columns = as_columns(answer.layout, answer.cluster.num_gpus)
    table = operator_table(answer.question, columns)
    curves = curves_of(answer.cluster.accelerator)
    times = answer.job.global_batch_size / (answer.layout.micro_batch_size * float(columns.dp[0]))
    found: dict[str, float] = {}
    for row in table.rows():
        if row.collective is None:
            seconds = float(np.ravel(compute_s(row, table.setting, answer.cluster, curves) * row.repeats)[0])
            found[kind_of_row(row)] = found.get(kind_of_row(row), 0.0) + seconds * times
    found["optimizer"] = float(answer.step_parts_s.get("optimizer", 0.0))
    found["communication"] = float(sum(answer.step_parts_s.get(part, 0.0) for part in EXPOSED))
    return found


def _union(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, last = 0.0, -np.inf
    ordered: Sequence[tuple[float, float]] = sorted(spans)
    for begin, end in ordered:
        if end > last:
            total += end - max(begin, last)
            last = end
    return float(total)
