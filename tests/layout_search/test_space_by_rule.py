"""The space of layouts by its rules, over whole numbers: it knows nothing of divisors, blocks or columns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from each import for_each
from examples import ACCELERATOR, GPT, LLAMA, MIXTRAL, NODE, framework, job, model

from planner.common.errors import PlannerError
from planner.hardware.cluster import Cluster, cluster
from planner.layout_search import explore as explored
from planner.layout_search import space as spaces
from planner.layout_search.explore import _batches
from planner.layout_search.space import EVERYTHING, LEAST_OFFLOADED, OF_ROWS, UNUSUAL, LayoutGrid, divisors
from planner.model.parameters import parameters_total
from planner.performance.feasibility import impossible
from planner.workload.adapters import adapter_parameters, saved_parameters
from planner.workload.layout import FIELDS
from planner.workload.precision import precisions
from planner.workload.question import Question

SMALL = ACCELERATOR.replaced(memory_bytes=0.1 * 2.0**30)
"""So small that optimizer states on the host free a part of it."""
IDLE = {"megatron-core": "dense", "megatron-zero-bubble": "dense", "fsdp": "all", "nanotron": "all"}
"""Where selective recomputation redoes the core of fused attention alone: of experts Megatron-Core redoes norms, too."""


def machine(count: int, in_node: int = 8, span: int = 8) -> Cluster:
    """GPUs in nodes of so many, which NVLink joins up to ``span`` (0: all of them)."""
    near, far = NODE.links
    links = [near.replaced(span=span), far]
    return cluster(NODE.replaced(num_gpus=in_node, links=links), num_gpus=count, accelerator=SMALL)


def grid(
    fields: dict[str, Any] | None = None, stack: str = "megatron-core", on: Cluster | None = None, without: str = "", **work: Any
) -> LayoutGrid:
    """Every layout of a small question; of a framework without one of its features."""
    software = framework(stack)
    software = software.replaced(features=frozenset(software.features) - {without})
    work = {"global_batch_size": 16, "seq_len": 16384, **work}
    return LayoutGrid(question=Question(model(fields or LLAMA), on or machine(8), software, job(**work)))


class Rules:
    """Which degrees, micro-batches, shardings and schedules a space's question and framework leave."""

    def __init__(self, space: LayoutGrid) -> None:
        q = self.question = space.question
        self.allow, self.model, self.has = space.allow, q.model, q.framework.features
        self.gpus, self.batch, self.tokens = q.cluster.num_gpus, q.job.global_batch_size, q.job.seq_len
        self.node, self.sharded = min(q.cluster.node.num_gpus, self.gpus), q.framework.mixed_precision == "sharded_fp32"
        self.joined = max([self.node, *(link.span or self.gpus for link in q.cluster.node.links if link.kind == "nvlink")])

    def usual(self, name: str, holds: bool) -> bool:
        return holds or name in self.allow

    def cut(self, tp: int, pp: int, cp: int) -> bool:
        m, node = self.model, self.node
        tensor = "tp" in self.has and m.num_heads % tp == 0 and self.usual("wide-tensor", tp <= self.joined)
        tensor &= self.usual("split-nodes", node % tp == 0 or tp % node == 0)
        stages = "pp" in self.has and pp <= m.num_layers
        stages &= self.usual("node-pipeline", not self.sharded or self.question.cluster.num_nodes > 1)
        context = "cp" in self.has and self.tokens % (2 * cp) == 0 and self.usual("short-context", self.tokens >= 4096 * cp)
        whole = self.gpus % (tp * pp * cp) == 0
        return whole and (tp == 1 or tensor) and (pp == 1 or stages) and (cp == 1 or context)

    def micro(self, dp: int, cp: int) -> list[int]:
        if self.batch % dp:
            return [1]
        found = [b for b in range(1, self.batch + 1) if self.batch // dp % b == 0]
        return [b for b in found if b == 1 or self.usual("large-micro-batches", b * self.tokens <= 131_072 * cp)]

    def experts(self, tp: int, rest: int) -> list[tuple[int, int]]:
        m, node = self.model, self.node
        if not m.num_experts:
            return [(1, 1)]
        whole = [ep for ep in range(1, m.num_experts + 1) if ep == 1 or ("ep" in self.has and m.num_experts % ep == 0)]
        width = m.expert_ffn_hidden_size or 1
        cut = [x for x in range(1, node + 1) if x == 1 or ("etp" in self.has and node % x == width % x == 0)]
        several = [(e, x) for e, x in product(whole, cut) if self.usual("expert-tensor", x in (1, tp) and 1 in (e, x))]
        return [(ep, etp) for ep, etp in several if tp * rest % (ep * etp) == 0]

    def shardings(self, ranks: int, tp: int) -> list[tuple[int, int]]:
        groups = [g for g in range(2, ranks) if ranks % g == 0 and self.usual("shard-groups", g * tp == self.node)]
        groups = [0, *(groups if "hybrid_shard" in self.has else [])]
        none = [] if self.sharded else [(0, 0)]
        return [*none, *((zero, group) for zero in (1, 2, 3) if f"zero{zero}" in self.has for group in groups)]

    def schedules(self, pp: int) -> list[tuple[int, int]]:
        if pp == 1:
            return [(1, 0)]
        layers, edges = self.model.num_layers, (0, 1, 2) if "edge_layers" in self.has else (0,)
        even = [vpp for vpp in range(2, layers + 3) if any((layers + more) % (pp * vpp) == 0 for more in edges)]
        several = [(vpp, 1) for vpp in even if "vpp" in self.has and self.usual("edge-chunks", pp * vpp <= layers)]
        return [(1, 0), *([(1, 2)] if "zero_bubble" in self.has else []), *several]

    def moved(self, *features: str) -> list[int]:
        return [0, 1] if "offload" in self.allow and self.has & set(features) else [0]

    @property
    def recompute(self) -> list[int]:
        idle = IDLE.get(self.question.framework.name) in ("all", "all" if self.model.num_experts else "dense")
        return [0, *([1] if "selective_recompute" in self.has and self.usual("idle-recompute", not idle) else []), 2]

    def norms(self, tp: int) -> list[int]:
        if tp == 1 or "sequence_parallel" not in self.has:
            return [0]
        return [1] if self.model.num_experts else [0, 1]


def by_rule(space: LayoutGrid) -> Iterator[tuple[float, ...]]:
    """Every layout of a space, columns as FIELDS names them."""
    rules = Rules(space)
    states, kept = rules.moved("offload_optimizer"), rules.moved("offload_activations", "offload_checkpoints")
    for tp, pp, cp in product(range(1, rules.gpus + 1), repeat=3):
        if not rules.cut(tp, pp, cp):
            continue
        dp = rules.gpus // (tp * pp * cp)
        rows = product(rules.norms(tp), rules.experts(tp, dp * cp), rules.micro(dp, cp), rules.recompute)
        rest = list(product(rules.shardings(dp * cp, tp), rules.schedules(pp), states, kept))
        for (sp, (ep, etp), b, again), ((zero, group), (vpp, order), away, back) in product(rows, rest):
            yield tuple(map(float, (tp, sp, pp, vpp, cp, ep, etp, dp, zero, group, b, again, order, away, 0, back)))


def as_set(space: LayoutGrid) -> set[tuple[float, ...]]:
    found = space.columns()
    rows = list(zip(*(getattr(found, name).tolist() for name in FIELDS), strict=True))
    assert len(rows) == len(set(rows)) == sum(space.size(tp) for tp in space.tps)
    return set(rows)


ODD: dict[str, Any] = {**LLAMA, "num_layers": 6, "num_heads": 12, "num_kv_heads": 4, "head_dim": 64}
FINE: dict[str, Any] = {**MIXTRAL, "num_experts": 6, "expert_ffn_hidden_size": 12}


@for_each(
    "space",
    [
        grid(),
        *(grid(without=name, on=machine(4)) for name in ("tp", "sequence_parallel", "cp", "vpp", "selective_recompute")),
        *(grid(MIXTRAL, without=name, on=machine(2)) for name in ("ep", "etp", "hybrid_shard", "zero1", "offload_optimizer")),
        grid(on=machine(4, 8)),
        grid({**LLAMA, "num_heads": 16, "num_layers": 2}, on=machine(16, 2), seq_len=4096),
        grid(MIXTRAL, on=machine(4)),
        grid(FINE, on=machine(12, 4), global_batch_size=6, seq_len=8192),
        grid(ODD, "megatron-zero-bubble", on=machine(6, 6), global_batch_size=18, seq_len=12288),
        grid(ODD, "fsdp", on=machine(6, 3), global_batch_size=7),
        grid(MIXTRAL, "fsdp", on=machine(4), global_batch_size=4),
        grid(GPT, "deepspeed-zero", seq_len=1024),
        grid(MIXTRAL, "deepspeed-zero", seq_len=1024),
        grid(GPT, "huggingface", seq_len=1024, on=machine(1)),
        grid(ODD, "nanotron", on=machine(12, 6, 0), global_batch_size=12),
    ],
)
def test_a_space_is_what_its_rules_leave(space: LayoutGrid) -> None:
    """The usual layouts, all, and all but one kind of unusual ones."""
    small = len(set(by_rule(space))) < 1000
    for allow in (frozenset[str](), EVERYTHING, *(EVERYTHING - {name} for name in UNUSUAL if small)):
        some = replace(space, allow=allow)
        assert as_set(some) == set(by_rule(some)), sorted(allow)


def test_optimizer_states_that_free_a_twentieth_of_a_card_may_go_to_the_host() -> None:
    """Of all parameters, over the ranks that a framework shards them over; exactly a twentieth is enough."""
    for stack, count, shards in (("megatron-core", 8, 8), ("huggingface", 8, 1), ("megatron-core", 1, 1)):
        one = grid(stack=stack, on=machine(count))
        q = one.question
        freed = precisions(q.job, q.framework).model_states * parameters_total(q.model) / shards
        just = freed / LEAST_OFFLOADED
        just = next(x for x in (just, math.nextafter(just, 0.0), math.nextafter(just, math.inf)) if LEAST_OFFLOADED * x == freed)
        for memory, offered in ((just, [0.0, 1.0]), (just * (1.0 + 1e-12), [0.0]), (10.0 * just, [0.0])):
            card = cluster(q.cluster.node, num_gpus=count, accelerator=SMALL.replaced(memory_bytes=memory))
            changed = LayoutGrid(question=replace(q, cluster=card))
            assert np.unique(changed.columns().offload_optimizer).tolist() == offered, (stack, count)


def test_weights_that_adapters_save_whole_count_among_what_is_trained() -> None:
    work: dict[str, Any] = {"kind": "lora", "adapter": {"rank": 4}, "seq_len": 1024}
    saving = {**work, "adapter": {"rank": 4, "modules_to_save": ["lm_head"]}}
    few, more = (grid(stack="peft", on=machine(1), **fields).question for fields in (work, saving))
    adapters = adapter_parameters(few.model, few.job.adapter)
    whole = saved_parameters(more.model, more.job.adapter)
    assert whole == LLAMA["vocab_size"] * LLAMA["hidden_size"]
    width = precisions(few.job, few.framework).model_states
    for q, trained in ((few, adapters), (more, adapters + whole)):
        for part, offered in ((1.001, [0.0]), (0.999, [0.0, 1.0])):
            card = SMALL.replaced(memory_bytes=part * width * trained / LEAST_OFFLOADED)
            changed = LayoutGrid(question=replace(q, cluster=cluster(NODE, num_gpus=1, accelerator=card)))
            assert np.unique(changed.columns().offload_optimizer).tolist() == offered


def test_a_space_is_listed_up_to_the_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    one = grid(on=machine(2))
    size = sum(one.size(tp) for tp in one.tps)
    monkeypatch.setattr(spaces, "MAX_COLUMNS", size)
    assert len(one.columns()) == size
    monkeypatch.setattr(spaces, "MAX_COLUMNS", size - 1)
    with pytest.raises(PlannerError, match=f"the space holds {size:,} layouts, too many"):
        one.columns()


def test_the_divisors_of_a_number_are_all_that_divide_it() -> None:
    for number in (*range(1, 150), 29 * 29, 30 * 30, 31 * 37):
        assert divisors(number) == [d for d in range(1, number + 1) if number % d == 0]


def test_a_batch_of_parts_takes_another_until_it_has_the_rows_to_be_worked_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: of ten rows, so many as there are before the last."""
    rows = {1: [3, 1], 2: [6], 4: [1], 8: [5, 6], 16: [2], 32: [9], 64: [1], 128: [1]}

    class Counted:
        tps = tuple(rows)

        def pps(self, tp: int) -> range:
            return range(len(rows[tp]))

        def num_rows(self, tp: int, pp: int) -> int:
            return rows[tp][pp]

    monkeypatch.setattr(explored, "TOGETHER", 10)
    assert _batches(Counted()) == [(1, 2, 4), (8,), (16, 32), (64, 128)]  # type: ignore[arg-type]


def test_a_block_holds_about_as_many_numbers_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all choices beside the rows, at least 64 rows; together they are the whole."""
    one = replace(grid(), allow=EVERYTHING)
    for most in (1, 4096):
        monkeypatch.setattr(explored, "ELEMENTS", most)
        for found in explored.explore(one, *one.tps):
            blocks = list(found.blocks)
            tails = math.prod(blocks[0].layouts.shape[:-1]) if blocks else 1
            assert all(block.layouts.shape[-1] == max(most // tails, 64) for block in blocks[:-1])
            assert all(block.layouts.shape[-1] <= max(most // tails, 64) for block in blocks[-1:])


def test_columns_without_a_possible_layout_are_not_worked_out() -> None:
    """Of four sequences eight ranks take none: those columns go, wherever they stand, and no other."""
    one = grid(MIXTRAL, on=machine(8), seq_len=1024, global_batch_size=4)
    columns = 0
    for found in explored.explore(one, *one.tps):
        for block in found.blocks:
            possible = np.broadcast_to(block.possible, block.layouts.shape)
            columns += possible.shape[-1]
            assert possible.any(axis=tuple(range(possible.ndim - 1))).all()
    whole = one.columns()
    broken, _, _ = impossible(one.question, whole)
    rows = list(zip(*(getattr(whole, name).tolist() for name in (*OF_ROWS, "pp")), strict=True))
    kept = {row for row, gone in zip(rows, broken, strict=True) if not gone}
    assert len(kept) <= columns
    assert len(kept) < len(set(rows))
