"""The full space of layouts: complete, without repeats, and every number the same as that of the layout alone."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from examples import GPT, LLAMA, MIXTRAL, framework, gpus, job, listed, model

import planner
from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster as build_cluster
from planner.layout_search.explore import Explored, Parts, explore
from planner.layout_search.space import BESIDE_ROWS, EVERYTHING, SHORTEST_CONTEXT, UNUSUAL, LayoutGrid, allowed, divisors
from planner.model.catalog import load_model
from planner.performance.evaluation import evaluate
from planner.performance.feasibility import impossible
from planner.workload.job import Job
from planner.workload.layout import Layouts
from planner.workload.question import Question


def grid(fields_: dict[str, Any], stack: str, count: int, **job_fields: Any) -> LayoutGrid:
    return LayoutGrid(question=Question(model(fields_), gpus(count), framework(stack), job(**job_fields)))


def as_set(layouts: Layouts) -> set[tuple[float, ...]]:
    return set(zip(*(getattr(layouts, f.name).tolist() for f in fields(Layouts)), strict=True))


SPACES = [
    (GPT, "megatron-2022", 8, {"precision": "fp16"}),
    (LLAMA, "megatron-core", 8, {}),
    (LLAMA, "fsdp", 8, {}),
    (MIXTRAL, "megatron-core", 8, {}),
    ({**MIXTRAL, "num_shared_experts": 1, "num_dense_layers": 1}, "deepspeed-zero", 8, {}),
    (LLAMA, "huggingface", 4, {}),
]


@pytest.mark.parametrize(("fields_", "stack", "count", "work"), SPACES)
def test_every_layout_is_listed_once_and_counted(fields_: dict[str, Any], stack: str, count: int, work: dict[str, Any]) -> None:
    space = grid(fields_, stack, count, **work)
    found = listed(space)
    assert len(as_set(found)) == len(found) == sum(space.size(tp) for tp in space.tps)
    explored = [e for tp in space.tps for e in explore(space, tp)]
    assert sum(e.num_layouts for e in explored) == len(found)
    _, first, reasons = impossible(space.question, found)
    expected = Counter(reasons[i] for i in first if i >= 0)
    counted: Counter[str] = Counter()
    for e in explored:
        counted.update(e.rejected)
    assert counted == expected


@pytest.mark.parametrize(("fields_", "stack", "count", "work"), [*SPACES, (LLAMA, "fsdp", 16, {}), (GPT, "megatron-2022", 3, {})])
def test_degrees_searched_together_are_those_searched_alone(
    fields_: dict[str, Any], stack: str, count: int, work: dict[str, Any]
) -> None:
    """Each layout once, with the same bits; what is rejected, too. FSDP's groups differ from tp to tp; a prime leaves one row."""
    space = grid(fields_, stack, count, **work)
    alone = [e for tp in space.tps for e in explore(space, tp)]
    expected = numbers(alone)
    for parts in (None, Parts(space)):
        assert parts is None or parts.batches == [tuple(space.tps)]
        together = list(explore(space, *space.tps, parts=parts))
        assert len(together) < len(alone) or len(space.tps) == 1
        assert sum((Counter(e.rejected) for e in together), Counter()) == sum((Counter(e.rejected) for e in alone), Counter())
        assert numbers(together) == expected


@pytest.mark.parametrize(("fields_", "stack", "count", "work"), SPACES)
def test_what_is_beside_the_rows_leaves_them_as_they_are(
    fields_: dict[str, Any], stack: str, count: int, work: dict[str, Any]
) -> None:
    """Their operators are worked out once for the usual layouts and those that offload."""
    usual = dataclasses.replace(grid(fields_, stack, count, **work), allow=frozenset())
    wider = dataclasses.replace(usual, allow=BESIDE_ROWS)
    assert [(tp, usual.pps(tp)) for tp in usual.tps] == [(tp, wider.pps(tp)) for tp in wider.tps]
    for tp, pp in [(degree, stages) for degree in usual.tps for stages in usual.pps(degree)]:
        assert all(
            np.array_equal(*both)
            for both in zip(vars(usual.rows(tp, pp)).values(), vars(wider.rows(tp, pp)).values(), strict=True)
        )
    assert Parts(wider).batch(usual.tps[0])[usual.tps[0]].costs is Parts(wider).batch(usual.tps[0])[usual.tps[0]].costs


def numbers(explored: list[Explored]) -> Counter[tuple[float, ...]]:
    """Layout, whether it is possible, bytes and seconds of each."""
    found: Counter[tuple[float, ...]] = Counter()
    for block in (b for e in explored for b in e.blocks):
        held = block.summary
        columns = (*vars(block.layouts).values(), block.possible, held.peak_bytes, held.host_bytes, block.step_time_s)
        found.update(zip(*(np.broadcast_to(x, block.layouts.shape).ravel().tolist() for x in columns), strict=True))
    return found


def uneven(space: LayoutGrid, layouts: Layouts) -> np.ndarray:
    """Cuts that leave chunks of different sizes: stacks that take them are not searched for them."""
    chunks, asked = layouts.pp * layouts.vpp, space.question
    return np.all([(asked.model.num_layers + more) % chunks != 0 for more in asked.framework.edge_layers], axis=0)


@pytest.mark.parametrize(("fields_", "stack", "count", "work"), SPACES)
def test_the_grid_holds_every_layout_that_the_rules_allow(
    fields_: dict[str, Any], stack: str, count: int, work: dict[str, Any]
) -> None:
    # brute force over whole numbers, straight from planner.checks; it knows nothing of divisors, nodes or features
    space = grid(fields_, stack, count, global_batch_size=8, **work)
    few = divisors(count)
    axes = ((0, 1), range(1, 5), few, few, range(4), (0, 2, 4), range(1, 9), (0, 1, 2), (0, 1, 2))
    s, v, e, x, z, g, b, r, k = (a.ravel() for a in np.meshgrid(*axes, indexing="ij"))
    every = set()
    for t, p, c in itertools.product(range(1, count + 1), repeat=3):
        if t * p * c > count:
            continue
        keep = ~((s == 1) & (t == 1)) & ((g == 0) | (g < count / (t * p)))  # a group of all ranks is group 0
        columns = (t, s, p, v, c, e, x, count / (t * p * c), z, g, b, r, k, 0, 0, 0)
        names = (f.name for f in fields(Layouts))
        part = Layouts(**{n: np.broadcast_to(a, keep.shape)[keep].astype(float) for n, a in zip(names, columns, strict=True)})
        broken, _, _ = impossible(space.question, part)
        every |= as_set(part.take(~(broken | (part.vpp > 1) & uneven(space, part))))
    found = listed(space)
    possible, _, _ = impossible(space.question, found)
    here = (found.offload_optimizer == 0) & (found.offload_activations == 0) & ~possible
    assert every == as_set(found.take(here))
    assert here.sum() > 3


def test_usual_layouts_are_part_of_the_space_and_each_name_admits_more() -> None:
    space = grid(MIXTRAL, "megatron-core", 16, global_batch_size=64, seq_len=8192)
    usual = dataclasses.replace(space, allow=frozenset())
    few, every = as_set(usual.columns()), as_set(space.columns())
    assert few < every
    assert not usual.columns().offload_optimizer.any()
    assert (8192 / usual.columns().cp >= SHORTEST_CONTEXT)[usual.columns().cp > 1].all()
    for allow, cut in ((frozenset[str](), False), (frozenset({"expert-tensor"}), True)):
        some = dataclasses.replace(space, allow=allow).columns()
        assert (some.etp > 1).any()
        assert bool(((some.ep > 1) & (some.etp > 1)).any()) is cut  # experts that are spread whole are not cut besides
    union = set(few)
    for name in UNUSUAL:
        more = as_set(dataclasses.replace(space, allow=frozenset({name})).columns())
        assert few <= more <= every
        union |= more
    assert len(union) > len(few)


def test_names_of_unusual_layouts_are_checked() -> None:
    assert allowed(["all"]) == EVERYTHING
    assert allowed(["offload"]) == {"offload"}
    with pytest.raises(PlannerError, match="allow = 'ofload': must be one of offload"):
        allowed(["ofload"])


BIG = [
    ("gpt3-175b", "dgx-a100-80gb", 64, "megatron-core", {"seq_len": 2048, "global_batch_size": 1536}),
    ("gpt3-175b", "dgx-a100-80gb", 64, "fsdp", {"seq_len": 2048, "global_batch_size": 1536}),
    ("deepseek-v3", "dgx-h100", 256, "megatron-core", {"seq_len": 4096, "global_batch_size": 8192}),
    ("mixtral-8x7b", "dgx-a100-40gb", 8, "deepspeed-zero", {"seq_len": 2048, "global_batch_size": 1024}),
]


@pytest.mark.parametrize(("name", "node", "nodes", "stack", "work"), BIG)
def test_random_rows_equal_plan_bit_for_bit(name: str, node: str, nodes: int, stack: str, work: dict[str, Any]) -> None:
    asked = Question(
        load_model(name), build_cluster(node, num_nodes=nodes), framework(stack), Job.build({**work, "num_steps": 1000}, "job")
    )
    space = LayoutGrid(question=asked)
    random = np.random.default_rng(20)
    wanted = 50 // len(space.tps) + 1
    compared = 0
    for tp in space.tps:
        blocks = [b for e in explore(space, tp) for b in e.blocks]
        for i in random.integers(len(blocks), size=wanted):
            block = blocks[i]
            possible, peak, host, seconds = (
                np.broadcast_to(x, block.layouts.shape).ravel()
                for x in (block.possible, block.summary.peak_bytes, block.summary.host_bytes, block.step_time_s)
            )
            at = int(random.choice(np.flatnonzero(possible)))
            one = block.layouts.at(np.array([at]))
            alone = evaluate(space.question, one)
            assert (alone.memory.total_bytes[0], alone.memory.host_bytes[0]) == (peak[at], host[at])
            assert alone.step_time_s[0] == seconds[at]
            if alone.fits[0]:  # plan looks for a nearer one otherwise, which takes long
                answer = planner.plan(
                    model=asked.model,
                    cluster=asked.cluster,
                    framework=asked.framework,
                    job=asked.job,
                    layout=one.row(0),
                    explain=False,
                )
                assert (answer.peak_total_bytes, answer.step_time_s) == (peak[at], seconds[at])
            compared += 1
    assert compared >= 50
