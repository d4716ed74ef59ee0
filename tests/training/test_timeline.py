"""A step as a timeline: it spans the plan's step, its parts and its memory are the plan's, and no GPU does two things at once."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Run

import planner
from planner.common.errors import PlannerError
from planner.common.units import GIB
from planner.performance.evaluation import stage_memory
from planner.performance.memory import KINDS
from planner.reports.chrome_trace import write_trace
from planner.training.memory_map import moments
from planner.training.plan import Plan
from planner.training.schedule import order_of, passes
from planner.training.timeline import SENT, Timeline, _with, timeline
from planner.workload.layout import as_columns

CASES: list[dict[str, Any]] = [
    {"layout": {"tp": 2, "sequence_parallel": True, "pp": 4, "vpp": 2, "zero": 1}},
    {"layout": {"tp": 2, "sequence_parallel": True, "pp": 4, "zero": 1, "recompute": "full"}},
    {"layout": {"tp": 2, "sequence_parallel": True, "pp": 4, "zero": 1, "schedule": "zero-bubble"},
     "framework": "megatron-zero-bubble"},
    {"model": "mixtral-8x7b", "layout": {"tp": 2, "sequence_parallel": True, "pp": 8, "ep": 2, "zero": 1, "recompute": "full"}},
    {"framework": "fsdp", "layout": {"zero": 3, "recompute": "full"}, "nodes": 1},
    {"framework": "megatron-core", "layout": {"zero": 1, "offload_optimizer": True, "micro_batch_size": 1}, "nodes": 1,
     "model": "llama-3.2-1b"},
    {"framework": "peft", "model": "llama-3.2-1b", "nodes": 1, "layout": {"zero": 0},
     "job": {"kind": "lora", "adapter": {"rank": 16}, "global_batch_size": 64}},
    {"layout": {"pp": 5, "zero": 1, "recompute": "full"}, "nodes": 5, "job": {"global_batch_size": 80}},
]  # fmt: skip


def asked(case: dict[str, Any]) -> Plan:
    return planner.plan(
        model=case.get("model", "llama-3-8b"),
        cluster={"node": "dgx-h100", "num_nodes": case.get("nodes", 4)},
        framework=case.get("framework", "megatron-core"),
        job={"seq_len": 4096, "global_batch_size": 128, "num_steps": 10, **case.get("job", {})},
        layout=case["layout"],
        explain=False,
    )


@pytest.fixture(scope="module", params=range(len(CASES)))
def drawn(request: pytest.FixtureRequest) -> Timeline:
    return timeline(asked(CASES[request.param]))


def test_it_spans_the_step_and_its_parts_are_the_plans(drawn: Timeline) -> None:
    plan = drawn.plan
    assert max(one.start_s + one.seconds for one in drawn.slices) == pytest.approx(plan.step_time_s, rel=1e-12)
    assert min(one.start_s for one in drawn.slices) == 0.0
    parts = drawn.parts_s(drawn.slowest)
    for part, seconds in plan.step_parts_s.items():
        assert parts[part] == pytest.approx(seconds, rel=1e-9, abs=1e-9 * plan.step_time_s), part


def test_a_stage_does_one_thing_at_a_time(drawn: Timeline) -> None:
    for stage in range(drawn.plan.layout.pp):
        end = 0.0
        for one in sorted((one for one in drawn.slices if one.stage == stage and not one.hidden), key=lambda one: one.start_s):
            assert one.start_s >= end - 1e-9 * drawn.plan.step_time_s
            end = one.start_s + one.seconds


def test_hidden_communication_lies_beside_computation_of_its_pass(drawn: Timeline) -> None:
    hidden = [one for one in drawn.slices if one.hidden]
    for one in hidden:
        assert one.part in SENT
    for stage in range(drawn.plan.layout.pp):
        worked = sum(one.seconds for one in drawn.slices if one.stage == stage and not one.hidden)
        assert sum(one.seconds for one in hidden if one.stage == stage) <= worked


def test_its_largest_memory_is_the_plans_kind_by_kind(drawn: Timeline) -> None:
    plan = drawn.plan
    most = max(drawn.samples, key=lambda sample: sample.total_bytes)
    assert most.total_bytes == pytest.approx(plan.peak_total_bytes, rel=1e-12)
    for kind, size in plan.memory_bytes.items():
        assert most.kinds_bytes[kind] == pytest.approx(size, rel=1e-12), kind


def test_the_update_of_the_weights_begins_behind_the_exchange_of_gradients_and_ends_the_step(drawn: Timeline) -> None:
    for stage in range(drawn.plan.layout.pp):
        times = [sample.time_s for sample in drawn.samples if sample.stage == stage]
        update_s = drawn.parts_s(stage)["optimizer"]
        assert times[0] == 0.0
        assert times[-2:] == pytest.approx([drawn.plan.step_time_s - update_s, drawn.plan.step_time_s])


def flying(pp: int, vpp: int, stage: int, m: int) -> int:
    """Micro-batches of a chunk that a stage holds at most: as many as its warm-up runs ahead, and one (Narayanan et al. 2021)."""
    return min(m * vpp, (pp - stage if vpp == 1 else 2 * (pp - stage - 1) + (vpp - 1) * pp + 1))


def test_memory_between_passes_is_that_of_the_micro_batches_in_flight(drawn: Timeline) -> None:
    """A forward pass adds a micro-batch's activations and works, a backward pass takes them away and leaves no workspace; behind
    the last one there are none, behind the update no gradients either, unless they stay allocated."""
    plan = drawn.plan
    pp, vpp, m = plan.layout.pp, plan.layout.vpp, plan.num_microbatches
    for here in stage_memory(plan.question, as_columns(plan.layout, plan.cluster.num_gpus)):
        loss, backward, update = ({k: float(getattr(now, f"{k}_bytes")[0]) for k in KINDS} for now in here.moments)
        each = loss["activations"] / flying(pp, vpp, here.stage.first, m)
        for stage in here.stage.members:
            held = [one.kinds_bytes for one in drawn.samples if one.stage == stage]
            assert len(held) == 2 * m * vpp + 4
            *within, emptied, updating, end = held[1:]
            (last,) = [i for i, one in enumerate(within) if one == backward][-1:]
            counts, before = [], 0
            for one in (*within[:last], *within[last + 1 :]):
                count = round(one["activations"] / each) if each else before + (1 if one["workspace"] else -1)
                assert one["activations"] == pytest.approx(count * each, rel=1e-9, abs=1.0)
                assert abs(count - before) == 1
                assert one["workspace"] == (loss["workspace"] if count > before else 0.0)
                counts.append(before := count)
            assert max(counts) == flying(pp, vpp, stage, m)
            assert counts[-1] == 1
            for idle in (held[0], emptied, end):
                assert (idle["activations"], idle["workspace"]) == (0.0, 0.0)
            assert updating == update
            stays = update["gradients"] if plan.framework.persistent_gradients else 0.0
            assert (end["gradients"], end["optimizer"]) == (stays, update["optimizer"])
            for one in held[:-3]:
                assert {k: one[k] for k in ("parameters", "optimizer")} == {k: loss[k] for k in ("parameters", "optimizer")}


def test_fragmentation_is_a_share_of_what_is_allocated() -> None:
    """0.6 of six is a tenth: of seven, with three activations and no workspace, 0.7."""
    kinds = {**dict.fromkeys(KINDS, 1.0), "fragmentation": 0.6}
    changed = {**kinds, "activations": 3.0, "workspace": 0.0, "fragmentation": pytest.approx(0.7)}
    assert _with(kinds, 3.0, workspace=0.0) == changed
    assert _with(kinds, 1.0) == kinds


def test_the_memory_map_of_a_plan_has_its_peak(drawn: Timeline) -> None:
    assert max(one.total_bytes for one in moments(drawn.plan)) == pytest.approx(drawn.plan.peak_total_bytes, rel=1e-12)


@pytest.mark.parametrize(("pp", "vpp", "m"), [(1, 1, 3), (4, 1, 8), (4, 1, 2), (4, 3, 8), (2, 2, 6), (3, 2, 5)])
def test_a_schedule_does_each_pass_once_and_in_the_order_of_the_stages(pp: int, vpp: int, m: int) -> None:
    found = passes([1.0] * pp, [2.0] * pp, vpp, m, 3.0 * m + 3.0 * (pp - 1) / vpp)
    assert len(found) == len({(one.backward, one.microbatch, one.chunk, one.stage) for one in found}) == 2 * pp * vpp * m
    for stage in range(pp):
        order = order_of(pp, vpp, stage, m)
        for micro in range(m):
            for chunk in range(vpp):
                assert order.index((False, micro, chunk)) < order.index((True, micro, chunk))


def test_1f1b_of_equal_stages_is_the_closed_form_with_no_gap_changed() -> None:
    """(m + pp - 1)(F + B), Narayanan et al. 2021, section 2.2: the simulated end is the formula's."""
    pp, m = 4, 8
    found = passes([1.0] * pp, [2.0] * pp, 1, m, (m + pp - 1) * 3.0)
    assert max(one.end_s for one in found) == pytest.approx(33.0)
    at = {(one.stage, one.backward, one.microbatch): one for one in found}
    assert at[(3, False, 0)].start_s == pytest.approx(3.0)
    assert at[(0, True, 0)].start_s == pytest.approx(4.0 + 2.0 * 3)
    for stage in range(1, pp):
        for micro in range(m):
            assert at[(stage, False, micro)].start_s >= at[(stage - 1, False, micro)].end_s - 1e-9
            assert at[(stage - 1, True, micro)].start_s >= at[(stage, True, micro)].end_s - 1e-9


def test_the_file_is_a_chrome_trace_of_the_same_numbers(tmp_path: Path) -> None:
    drawn = timeline(asked(CASES[0]))
    write_trace(tmp_path / "step.json", drawn)
    data = json.loads((tmp_path / "step.json").read_text())
    events = data["traceEvents"]
    complete = [one for one in events if one["ph"] == "X"]
    end = max(one["ts"] + one["dur"] for one in complete)
    assert end / 1e6 == pytest.approx(drawn.plan.step_time_s, rel=1e-9)
    counters = [sum(one["args"].values()) for one in events if one["ph"] == "C"]
    assert max(counters) * GIB == pytest.approx(drawn.plan.peak_total_bytes, rel=1e-9)
    assert {one["args"]["name"] for one in events if one.get("name") == "process_name"} == {
        f"pipeline stage {i}" for i in range(4)
    }
    threads = {one["args"]["name"] for one in events if one.get("name") == "thread_name"}
    assert {"compute", "tensor parallel", "pipeline", "data parallel"} <= threads
    assert all(one["dur"] > 0 for one in complete)


def test_a_step_of_too_many_passes_is_refused() -> None:
    with pytest.raises(PlannerError, match="holds at most"):
        timeline(asked({"layout": {"zero": 1}, "nodes": 1, "model": "llama-3.2-1b", "job": {"global_batch_size": 1_000_000}}))


def test_the_command_writes_trace_and_memory(run: Run, scenario: Any, tmp_path: Path) -> None:
    code, out, err = run("trace", scenario(), "-o", tmp_path / "step.json", "--memory", tmp_path / "memory.csv")
    assert (code, out) == (0, "")
    assert err.count("wrote") == 2
    code, text, _ = run("plan", scenario(), "--json")
    answer = json.loads(text)
    rows = list(csv.DictReader((tmp_path / "memory.csv").read_text().splitlines()))
    assert max(float(row["total_bytes"]) for row in rows) == pytest.approx(answer["peak_total_bytes"], rel=1e-12)
    assert {name for name in rows[0] if name.endswith("_bytes")} == {
        f"{kind}_bytes" for kind in (*answer["memory_bytes"], "total")
    }
    code, _, err = run("trace", scenario(), "-o", tmp_path / "step.txt")
    assert (code, "ends in .json" in err) == (2, True)
