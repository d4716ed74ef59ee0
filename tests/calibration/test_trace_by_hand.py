"""Traces of few events whose sums are worked out by hand: steps, spans, own time, idle time, what a plan says of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_trace import kernel, written

import planner
from planner.calibration.trace import (
    KindRow,
    TraceComparison,
    _overlap,
    _union,
    compare_trace,
    kind_of_row,
    predicted_seconds,
    read_trace,
)
from planner.common.errors import PlannerError
from planner.operators.row import FusedAttention, Matmul, Row
from planner.training.plan import Plan


def operator(name: str, begin: float, seconds: float, **more: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": "cpu_op", "name": name, "ts": begin * 1e6, "dur": seconds * 1e6, "tid": 1, "pid": 1, **more}


def mark(number: int, begin: float, seconds: float, cat: str = "user_annotation") -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": f"ProfilerStep#{number}", "ts": begin * 1e6, "dur": seconds * 1e6, "pid": 1}


def asked(num_gpus: int = 1, model: str = "llama-3.2-1b", **layout: Any) -> Plan:
    cluster = {"node": "dgx-h100", "num_gpus": num_gpus}
    job = {"seq_len": 4096, "global_batch_size": 16, "num_steps": 1}
    return planner.plan(
        model=model, cluster=cluster, framework="megatron-core", job=job, layout={"micro_batch_size": 1, **layout}
    )


PLAN = asked()


def compared(path: Path, events: list[dict[str, Any]], steps: int | None = None) -> TraceComparison:
    return compare_trace(read_trace(written(path / "t.json", events), steps), PLAN)


def test_a_step_is_its_part_of_all_that_the_trace_holds(tmp_path: Path) -> None:
    """Two steps: 7 s from the first kernel's begin to the last one's end, 6 busy, of which 1 of 3 s of exchange alone."""
    events = [
        kernel("nvjet_a", 1.0, 3.0), kernel("ncclDevKernel_AllReduce", 3.0, 2.0), kernel("nvjet_b", 6.0, 1.0),
        kernel("ncclDevKernel_AllReduce", 6.0, 1.0), kernel("Memcpy DtoH", 7.0, 0.5), kernel("secret_b", 7.5, 0.1),
        kernel("secret_a", 7.6, 0.4),
    ]  # fmt: skip
    found = compared(tmp_path, events, 2)
    assert (found.step_s, found.busy_s, found.idle_s) == pytest.approx((3.5, 3.0, 0.5))
    assert (found.communication_s, found.exposed_s, found.steps) == pytest.approx((1.5, 0.5, 2))
    rows = {row.kind: row for row in found.rows}
    assert (rows["matrix multiply"].measured_s, rows["matrix multiply"].kernels) == pytest.approx((2.0, 1.0))
    assert (rows["host copies"].measured_s, rows["host copies"].predicted_s) == pytest.approx((0.25, 0.0))
    assert rows["matrix multiply"].error == pytest.approx(rows["matrix multiply"].predicted_s / 2.0 - 1.0)
    assert found.unknown == (("secret_a", pytest.approx(0.2)), ("secret_b", pytest.approx(0.05)))
    assert (found.predicted_step_s, found.predicted_exposed_s) == (PLAN.step_time_s, 0.0)
    assert found.overlap == "overlap_gradient_reduction"
    assert found.beside == pytest.approx(1.0, abs=0.5)


def test_of_a_cpu_the_operators_own_time_is_busy_and_steps_are_the_marks(tmp_path: Path) -> None:
    """Two threads within two marked steps of 5 s each, 12 s with the pause: 8 s of work, whatever lies beside."""
    events = [
        operator("aten::mm", 1.0, 4.0), operator("aten::add", 2.0, 1.0), operator("aten::mm", 1.0, 3.0, tid=2),
        operator("aten::relu", 8.0, 1.0), mark(1, 0.0, 5.0), mark(2, 7.0, 5.0), mark(2, 7.0, 5.0, "another"),
        mark(3, 0.0, 99.0, "gpu_user_annotation"),
    ]  # fmt: skip
    found = compared(tmp_path, events)
    assert found.steps == 2
    assert (found.step_s, found.busy_s, found.idle_s, found.exposed_s) == pytest.approx((6.0, 4.0, 2.0, 0.0))
    unmarked = compared(tmp_path, events[:4])
    assert (unmarked.steps, unmarked.step_s) == (1, pytest.approx(8.0))
    crowded = compared(tmp_path, [operator("aten::mm", 0.0, 1.0, tid=i) for i in range(3)])
    assert (crowded.busy_s, crowded.idle_s) == pytest.approx((3.0, 0.0)), "more threads than seconds leave none idle"


def test_on_a_device_the_marks_of_the_host_count_steps_alone(tmp_path: Path) -> None:
    found = read_trace(written(tmp_path / "t.json", [kernel("nvjet", 2.0, 1.0), mark(1, 0.0, 9.0), mark(2, 9.0, 9.0)]))
    assert (found.steps, found.span_s, found.on_cpu) == (2, pytest.approx(1.0), False)


@pytest.mark.parametrize(("steps", "taken"), [(1, True), (2, True), (0, False), (-1, False)])
def test_a_trace_holds_a_step_at_least(steps: int, taken: bool, tmp_path: Path) -> None:
    path = written(tmp_path / "t.json", [kernel("nvjet", 0.0, 1.0), *(mark(i, 0.0, 1.0) for i in range(4))])
    if taken:
        assert read_trace(path, steps).steps == steps
    else:
        with pytest.raises(PlannerError, match="at least 1"):
            read_trace(path, steps)


def test_what_is_no_event_of_a_length_is_passed_over(tmp_path: Path) -> None:
    """Counters, instants and other categories; a clock may begin below nothing, a kernel may take less than it can tell."""
    events = [
        kernel("nvjet", -2.0, 1.0), kernel("nvjet", 0.0, 0.0), {**kernel("nvjet", 5.0, 1.0), "ph": "B"},
        {k: v for k, v in kernel("nvjet", 5.0, 1.0).items() if k != "dur"}, {**kernel("nvjet", 5.0, 1.0), "cat": "cuda_runtime"},
    ]  # fmt: skip
    found = read_trace(written(tmp_path / "t.json", events))
    assert [(e.begin, e.end, e.own_s) for e in found.events] == [(-2.0, -1.0, 1.0), (0.0, 0.0, 0.0)]
    assert found.span_s == pytest.approx(2.0)
    for field, value in (("ts", True), ("ts", None), ("dur", True), ("dur", "x")):
        with pytest.raises(PlannerError, match=rf"traceEvents\.1\.{field} = "):
            read_trace(written(tmp_path / "t.json", [kernel("a", 0.0, 1.0), {**kernel("b", 0.0, 1.0), field: value}]))


def test_an_operator_contains_what_begins_before_its_end(tmp_path: Path) -> None:
    """At its end the next one begins; of two that begin together the longer holds the shorter; none has less than no time."""
    events = [
        operator("outer", 0.0, 10.0), operator("inner", 0.0, 4.0), operator("next", 10.0, 5.0), operator("deep", 1.0, 1.0),
        operator("over the end", 14.0, 8.0),
    ]  # fmt: skip
    found = read_trace(written(tmp_path / "t.json", events))
    own = {e.name: e.own_s for e in found.events}
    assert own == pytest.approx({"outer": 6.0, "inner": 3.0, "deep": 1.0, "next": 0.0, "over the end": 8.0})
    assert [e.begin for e in found.events] == sorted(e.begin for e in found.events)
    assert found.span_s == pytest.approx(22.0)


def test_an_optimizers_step_begins_at_its_begin_and_ends_before_its_end(tmp_path: Path) -> None:
    spans = [(2e6, 1e6), (3e6, 1e6), (8e6, 1e6)]
    step = {"ph": "X", "cat": "gpu_user_annotation", "name": "Optimizer.step#A.step", "args": {}, "pid": 0}
    marks = [{**step, "ts": begin, "dur": length} for begin, length in spans]
    other = {**step, "name": "zero_grad", "ts": 0.0, "dur": 9e6}
    begins = (1.0, 2.0, 3.0, 4.0, 8.5, 9.0)
    events = [*(kernel("vectorized_elementwise", at, 0.1, pid=0) for at in begins), *marks, other]
    found = read_trace(written(tmp_path / "t.json", events))
    assert [e.in_optimizer for e in found.events] == [False, True, True, False, True, False]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[1,\n x]", "line 2: is not JSON"),
        ("a[1, 2", "line 1: is not JSON"),
        ('{"a": [1, 2', "cut off"),
        ('["a', "cut off"),
        ("{", "cut off"),
        ("5", "holds no traceEvents"),
        ('{"traceEvents": {}}', "holds no traceEvents"),
    ],
)
def test_a_file_that_was_cut_is_told_from_one_that_is_none(text: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(PlannerError, match=word):
        read_trace(path)


def test_lengths_of_unions() -> None:
    assert _union([]) == 0.0
    assert _union([(0.0, 1.0), (1.0, 2.0), (0.5, 1.5)]) == 2.0
    assert _union([(5.0, 6.0), (0.0, 4.0), (1.0, 2.0), (3.0, 4.5)]) == 5.5
    assert _union([(-3.0, -1.0)]) == 2.0


# --- the plan beside it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "layout"),
    [
        ("llama-3.2-1b", {}),
        ("llama-3.2-1b", {"recompute": "full"}),
        ("llama-3.2-1b", {"micro_batch_size": 4}),
        ("olmoe-1b-7b", {"micro_batch_size": 4}),
    ],
)
def test_the_kinds_of_a_plan_add_up_to_its_own_parts(model: str, layout: dict[str, Any]) -> None:
    """Forward, backward and recomputation, where the host is never late."""
    answer = asked(model=model, **layout)
    found, parts = predicted_seconds(answer), answer.step_parts_s
    computed = sum(seconds for kind, seconds in found.items() if kind not in ("optimizer", "communication"))
    assert computed == pytest.approx(parts["forward"] + parts["backward"] + parts["recompute"], rel=1e-9)
    assert found["optimizer"] == parts["optimizer"] > 0
    assert ("grouped multiply" in found) is (model == "olmoe-1b-7b")
    assert {"matrix multiply", "attention forward", "attention backward", "memory-bound"} <= found.keys()


def test_exchange_that_a_plan_shows_is_that_of_all_ways() -> None:
    """Of 8 GPUs, by data or by tensors; the micro-batches are shared among the former alone."""
    alone, data, tensor = PLAN, asked(8), asked(8, tp=8)
    for answer, part in ((data, "data_parallel"), (tensor, "tensor_parallel")):
        assert predicted_seconds(answer)["communication"] == pytest.approx(answer.step_parts_s[part])
        assert answer.step_parts_s[part] > 0.0
    one, eighth = (predicted_seconds(answer)["attention forward"] for answer in (alone, data))
    assert eighth == pytest.approx(one / 8.0)


def test_whose_exchange_it_is_says_the_layout() -> None:
    """Experts lie on GPUs that also share gradients: two ways."""
    ways = {_overlap(asked(8, **layout)) for layout in ({"tp": 4}, {"cp": 4}, {"tp": 4, "cp": 2})}
    assert ways == {_overlap(asked(8, "olmoe-1b-7b", ep=8))} == {None}
    assert [_overlap(asked(8, **layout)) for layout in ({}, {"tp": 8}, {"cp": 8})] == [
        "overlap_gradient_reduction", "overlap_tensor_parallel", "overlap_context",
    ]  # fmt: skip


def test_a_row_is_of_the_kind_of_its_work() -> None:
    shape = {"name": "x", "block": "", "phase": "forward"}
    attention = {"sequences": 1.0, "heads": 1.0, "queries": 1.0, "keys": 1.0, "qk_head_dim": 1.0, "value_head_dim": 1.0}
    product = Matmul(m=1.0, n=1.0, k=1.0)
    kinds = {
        "communication": Row(**shape, collective="all_reduce", work=product), "matrix multiply": Row(**shape, work=product),
        "grouped multiply": Row(**shape, work=Matmul(m=1.0, n=1.0, k=1.0, grouped=True)), "memory-bound": Row(**shape),
        "attention forward": Row(**shape, work=FusedAttention(**attention)), 
        "attention backward": Row(**shape, work=FusedAttention(**attention, backward=True)),
        "optimizer": Row(**{**shape, "phase": "optimizer"}, work=product),
    }  # fmt: skip
    assert {kind: kind_of_row(row) for kind, row in kinds.items()} == {kind: kind for kind in kinds}


@pytest.mark.parametrize(("exposed", "overlap"), [(0.0, 1.0), (0.5, 0.75), (2.0, 0.0), (3.0, 0.0), (-1.0, 1.0)])
def test_overlap_is_the_part_of_the_exchange_that_is_hidden(exposed: float, overlap: float) -> None:
    times = dict.fromkeys(("step_s", "predicted_step_s", "busy_s", "idle_s", "predicted_exposed_s"), 1.0)
    for unit in (1.0, 1e-6):  # seconds or microseconds of them
        spans = {"communication_s": 2.0 * unit, "exposed_s": exposed * unit}
        found = TraceComparison(rows=(), unknown=(), steps=1, **spans, **times)
        assert found.overrides(1.0) == {"overlap_gradient_reduction": pytest.approx(overlap)}
    silent = TraceComparison(rows=(), unknown=(), steps=1, communication_s=0.0, exposed_s=0.0, **times)
    assert silent.overrides(1.0) == {}


def test_an_error_is_of_what_was_measured() -> None:
    for unit in (1.0, 1e-6):
        assert KindRow(kind="x", measured_s=2.0 * unit, predicted_s=3.0 * unit, kernels=1.0).error == pytest.approx(0.5)
    assert KindRow(kind="x", measured_s=0.0, predicted_s=0.75, kernels=1.0).error is None


def test_two_stages_are_refused_and_json_of_a_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps([kernel("nvjet", 0.0, 1.0)]))
    trace = read_trace(path)
    assert len(trace.events) == 1
    with pytest.raises(PlannerError, match="one pipeline stage"):
        compare_trace(trace, asked(8, pp=2))
