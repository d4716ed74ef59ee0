"""What a search keeps and in which order, on few made-up rows; and the degrees, sizes and shardings of small spaces by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from examples import LLAMA, MIXTRAL, gpus, model

from planner.layout_search.nearest import changes
from planner.layout_search.ranking import (
    FIELDS,
    NOISE,
    NUM_GROUPS,
    STEPS,
    Rows,
    _dominated,
    ahead,
    best_of_setups,
    champions,
    complexity,
    front,
    groups_of,
    joined,
    kinds,
    no_rows,
    pruned,
    ranked,
    recommended_first,
    simplest_first,
    steps_of,
)
from planner.layout_search.space import EVERYTHING, LayoutGrid, slices
from planner.workload.framework import load_framework
from planner.workload.job import Job
from planner.workload.layout import Layout, Layouts, as_columns
from planner.workload.question import Question


def rows(*given: dict[str, Any]) -> Rows:
    """Rows with a time of 1 and all else alike, but for what each says; a layout by its fields."""
    layouts = as_columns([Layout(**{"tp": 1, **one.pop("layout", {})}) for one in given], 64)
    full = [{"setup": 0, "time_s": 1.0, "usd": 1.0, "headroom_bytes": 1.0, **one} for one in given]
    table = {name: np.array([float(one[name]) for one in full]) for name in ("setup", "time_s", "usd", "headroom_bytes")}
    value = np.array([float(one.get("value", one["time_s"])) for one in full])
    ones = np.ones(len(full))
    return Rows(
        setup=table["setup"].astype(int), layouts=layouts, step_time_s=table["time_s"], peak_bytes=ones,
        headroom_bytes=table["headroom_bytes"], fit_probability=ones, time_s=table["time_s"], usd=table["usd"], value=value,
        rung=steps_of(table["time_s"]),
    )  # fmt: skip


def test_rows_are_ranked_by_objective_then_time_dollars_room_and_cluster() -> None:
    found = rows(
        {"value": 2.0}, {"value": 1.0, "time_s": 3.0}, {"value": 1.0, "usd": 2.0},
        {"value": 1.0, "headroom_bytes": 5.0, "setup": 1}, {"value": 1.0, "headroom_bytes": 5.0}, {"value": 1.0},
        {"value": 1.0, "layout": {"tp": 2}},
    )  # fmt: skip
    assert ranked(found).tolist() == [4, 3, 5, 6, 2, 1, 0]


def test_a_ladder_of_two_percent_in_eight_steps_and_its_groups() -> None:
    """1.02^(k / 8) lies on step k; nothing lies below all; two values 2 % apart are a group apart."""
    assert (NOISE, STEPS, NUM_GROUPS) == (0.02, 8, 10)
    assert steps_of(1.02 ** (np.arange(-3, 20) / 8 + 1e-9)).tolist() == list(range(-3, 20))
    assert steps_of(np.array([0.0]))[0] == -np.inf
    assert groups_of(np.array([1.0, 1.019, 1.021, 1.05, 2.0])).tolist() == [0.0, 0.0, 1.0, 2.0, 35.0]
    assert groups_of(np.array([0.0, 0.0])).tolist() == [0.0, 0.0]
    assert len(groups_of(np.zeros(0))) == 0
    steps = np.array([5.0, 12.0, 13.0, 84.0, 85.0])
    assert ahead(steps, 1).tolist() == [True, True, False, False, False]
    assert ahead(steps, 10).tolist() == [True, True, True, True, False]


PLAIN: dict[str, Any] = {}
MORE: list[dict[str, Any]] = [
    {"tp": 2}, {"pp": 2}, {"cp": 2}, {"ep": 2}, {"tp": 2, "etp": 2}, {"shard_group_size": 4, "zero": 3},
    {"offload_optimizer": True}, {"offload_activations": True},
]  # fmt: skip


def test_each_kind_of_parallelism_counts_one() -> None:
    found = kinds(as_columns([Layout(**one) for one in ({}, *MORE)], 64))
    assert found.tolist() == [0, 1, 1, 1, 1, 2, 1, 1, 1]
    assert float(kinds(as_columns(Layout(tp=2, pp=2, cp=2, ep=2, offload_optimizer=True), 64))[0]) == 5.0


def test_the_simpler_of_two_has_fewer_kinds_then_no_cut_experts_no_offload_fewer_chunks_less_recomputation() -> None:
    ordered = [
        {"pp": 2, "recompute": "none"}, {"pp": 2, "recompute": "selective"}, {"pp": 2, "recompute": "full"},
        {"pp": 2, "schedule": "zero-bubble"}, {"pp": 2, "vpp": 4}, {"offload_optimizer": True}, {"tp": 2, "pp": 2},
        {"tp": 2, "offload_activations": True}, {"offload_optimizer": True, "offload_activations": True}, {"tp": 2, "etp": 2},
        {"tp": 2, "pp": 2, "cp": 2},
    ]  # fmt: skip
    found = complexity(as_columns([Layout(**one) for one in ordered], 64))
    assert found.tolist() == sorted(found.tolist())
    assert len(set(found.tolist())) == len(ordered)
    assert found[3] == 1e6 + 1 + 1
    assert found[2] == pytest.approx(1e6 + 1 + 0.8)


def test_the_simplest_of_the_fastest_is_recommended() -> None:
    """Of those within 2 % the one with fewer kinds, of equals that with more room; what is slower comes behind."""
    found = rows(
        {"time_s": 1.0, "layout": {"tp": 2, "pp": 2}}, {"time_s": 1.01, "layout": {"tp": 2}},
        {"time_s": 1.015, "layout": {"pp": 2}, "headroom_bytes": 2.0}, {"time_s": 1.2},
    )  # fmt: skip
    assert simplest_first(found).tolist() == [2, 1, 0, 3]
    assert recommended_first(found).time_s.tolist() == [1.015, 1.0, 1.01, 1.2]
    assert len(recommended_first(no_rows())) == 0
    bound = rows({"value": 7.0, "time_s": 2.0}, {"value": 7.0, "time_s": 1.0, "layout": {"tp": 2}})
    assert simplest_first(bound).tolist() == [1, 0]  # of equal dollars the faster


def test_the_front_is_what_nothing_beats_in_time_dollars_and_room() -> None:
    """Against pairs, of random rows of one setup and of three; of equals the first."""
    rng = np.random.default_rng(3)
    for setups in (1, 3):
        given = [
            {"setup": int(rng.integers(setups)), "time_s": t, "usd": t, "headroom_bytes": float(rng.integers(6))}
            for t in rng.integers(1, 7, 60).astype(float)
        ]
        found = rows(*given)
        found = found.take(ranked(found))
        costs = np.stack([found.time_s, found.usd, -found.headroom_bytes]).T
        kept = [
            not any((costs[j] <= costs[i]).all() and ((costs[j] < costs[i]).any() or j < i) for j in range(len(costs)) if j != i)
            for i in range(len(costs))
        ]
        assert front(found).tolist() == kept
        assert (~_dominated(costs.T)).tolist() == kept


def test_champions_are_the_simplest_of_each_setup_and_step() -> None:
    found = rows(
        {"layout": {"tp": 2}}, {}, {"setup": 1, "layout": {"pp": 2}}, {"time_s": 1.5, "layout": {"tp": 2}},
        {"headroom_bytes": 3.0}, {"time_s": 1.5, "layout": {"tp": 2, "pp": 2}},
    )  # fmt: skip
    assert champions(found).tolist() == [False, False, True, True, True, False]
    assert best_of_setups(found).tolist() == [4, 2]


def test_pruning_keeps_what_any_answer_needs_whatever_the_order() -> None:
    """The best few, the best of each setup, the front, and the simplest of each step near the best: of any part, too."""
    rng = np.random.default_rng(7)
    given: list[dict[str, Any]] = [
        {
            "setup": int(rng.integers(2)), "time_s": float(t), "usd": float(t), "headroom_bytes": float(rng.integers(9)),
            "layout": {"tp": int(2 ** rng.integers(3)), "pp": int(2 ** rng.integers(3))},
        }
        for t in np.exp(rng.uniform(0.0, 0.5, 150))
    ]  # fmt: skip
    whole = rows(*({**one, "layout": dict(one["layout"])} for one in given))
    found = pruned(whole, 5)
    assert found.time_s[:5].tolist() == sorted(whole.time_s.tolist())[:5]
    assert {int(s) for s in found.setup} == {0, 1}
    best = whole.take(ranked(whole))
    assert set(best.time_s[front(best)]) <= set(found.time_s)
    first = recommended_first(best)
    assert recommended_first(found).time_s[0] == first.time_s[0]
    for cut in (40, 75):
        parts = [pruned(whole.take(np.arange(a, b)), 5) for a, b in ((0, cut), (cut, 150))]
        again = pruned(joined(parts), 5)
        assert again.time_s.tolist() == found.time_s.tolist()
    assert len(joined([no_rows(), no_rows()])) == 0
    assert len(found) < len(whole)


def test_how_far_a_layout_is_by_what_differs() -> None:
    """Two for a degree of tensor or pipeline parallelism, one for a micro-batch, ZeRO or recomputation, a half for cut norms."""
    wanted = Layout(tp=2, zero=1)
    given = (
        ({"tp": 2, "zero": 1}, 0.0), ({"tp": 4, "zero": 1}, 2.0), ({"tp": 2, "zero": 3}, 1.0),
        ({"tp": 2, "zero": 1, "recompute": "full"}, 1.0), ({"tp": 2, "zero": 1, "micro_batch_size": 2}, 1.0),
        ({"tp": 2, "zero": 1, "sequence_parallel": True}, 0.5), ({"tp": 2, "pp": 2, "vpp": 2, "zero": 1}, 3.0),
        ({"tp": 1, "zero": 0, "offload_optimizer": True}, 5.0), ({"tp": 2, "zero": 1, "cp": 2, "ep": 2, "etp": 2}, 6.0),
        ({"tp": 2, "zero": 3, "shard_group_size": 4}, 2.0), ({"tp": 2, "zero": 1, "offload_activations": True}, 2.0),
        ({"tp": 2, "zero": 1, "ep": 2}, 2.0), ({"tp": 2, "zero": 1, "cp": 2}, 2.0),
    )  # fmt: skip
    columns = as_columns([Layout(**fields) for fields, _ in given], 64)
    assert changes(columns, wanted).tolist() == [away for _, away in given]


def grid(
    m: Any = None, count: int = 16, framework: str = "megatron-core", allow: frozenset[str] = frozenset(), **job: Any
) -> LayoutGrid:
    fields = {"seq_len": 8192, "global_batch_size": 32, **job}
    question = Question(m or model(LLAMA), gpus(count), load_framework(framework), Job(**fields))
    return LayoutGrid(question=question, allow=allow)


def test_degrees_of_small_spaces_by_hand() -> None:
    """Eight heads, four layers, two nodes of eight: tensor parallelism within a node, stages up to the layers; with all that is
    unusual also over the network, and of any parts of a node."""
    usual, every = grid(), grid(allow=EVERYTHING)
    assert usual.tps == [1, 2, 4, 8]
    assert grid(model({**LLAMA, "num_heads": 12, "num_kv_heads": 4, "head_dim": 64})).tps == [1, 2, 4]
    assert every.tps == [1, 2, 4, 8]
    wide = model({**LLAMA, "num_heads": 16})
    assert (grid(wide).tps, grid(wide, allow=EVERYTHING).tps) == ([1, 2, 4, 8], [1, 2, 4, 8, 16])
    assert (usual.pps(1), usual.pps(8)) == ([1, 2, 4], [1, 2])
    deep = model({**LLAMA, "num_layers": 16})
    assert (grid(deep).vpps(1), grid(deep).vpps(2), grid(deep).vpps(4)) == ([1], [1, 2, 3, 4, 8], [1, 2, 4])  # 18 of 3
    assert grid(framework="fsdp", count=8).pps(1) == [1]


def test_slices_of_a_sequence_and_micro_batches_by_hand() -> None:
    """8,192 tokens over at most two ranks of 4,096 each; of 32 sequences 1 to 16 at once are no more than 131,072 tokens, over
    two ranks all are."""
    usual = grid()
    assert usual._cps(16) == [1, 2]
    assert grid(allow=EVERYTHING)._cps(16) == [1, 2, 4, 8, 16]
    assert grid(seq_len=16384)._cps(16) == [1, 2, 4]
    assert usual._micro_batches(32, 1) == [1, 2, 4, 8, 16]
    assert usual._micro_batches(32, 2) == [1, 2, 4, 8, 16, 32]
    assert grid(allow=EVERYTHING)._micro_batches(32, 1) == [1, 2, 4, 8, 16, 32]
    one = LayoutGrid(question=usual.question, micro_batch_size=4)
    assert one._micro_batches(32, 1) == [4]


def test_experts_shardings_and_schedules_by_hand() -> None:
    """Eight experts over sixteen ranks, whole or cut over all of tp; Megatron-Core shards optimizer states alone, FSDP has no
    stage 0 and groups of a node."""
    of_experts = grid(model(MIXTRAL))
    assert of_experts._experts(2, 8) == [(1, 1), (1, 2), (2, 1), (4, 1), (8, 1)]
    assert grid()._experts(2, 8) == [(1, 1)]
    assert (of_experts._sequence_parallel(1), of_experts._sequence_parallel(2), grid()._sequence_parallel(2)) == (
        [0],
        [1],
        [0, 1],
    )
    megatron, sharded = grid(), grid(framework="fsdp")
    assert (0, 0) in megatron._shardings(16, 1)
    assert (0, 0) not in sharded._shardings(16, 1)
    assert {group for _, group in sharded._shardings(16, 1)} == {0, 8}
    assert {group for _, group in grid(framework="fsdp", allow=EVERYTHING)._shardings(16, 1)} == {0, 2, 4, 8}
    assert {stage for stage, _ in megatron._shardings(16, 1)} == {0, 1}
    assert megatron._schedules(2, 2) == ["interleaved"]
    assert megatron._schedules(1, 1) == ["1f1b"]


@pytest.mark.parametrize(
    ("rows_", "tails", "elements", "cuts"), [(200, 1, 100, [100, 200]), (130, 50, 100, [64, 128, 192]), (5, 0, 10, [64])]
)
def test_cuts_of_a_block(rows_: int, tails: int, elements: int, cuts: list[int]) -> None:
    """About as many numbers as asked for, of at least 64 rows."""
    assert [s.stop for s in slices(rows_, tails, elements)] == cuts
    assert [s.start for s in slices(rows_, tails, elements)] == [0, *cuts[:-1]]


def test_a_space_is_as_large_as_its_blocks_hold_layouts() -> None:
    for one in (grid(count=8), grid(model(MIXTRAL), 8), grid(count=8, framework="fsdp", allow=EVERYTHING)):
        size = sum(one.size(tp) for tp in one.tps)
        assert size == sum(int(np.prod(block.shape)) for block in one.blocks())
        assert size == len(one.columns())
        listed = one.columns()
        distinct = set(zip(*(getattr(listed, name).tolist() for name in FIELDS), strict=True))
        assert len(distinct) == size
        for tp, pp in itertools.product(one.tps, (1, 2)):
            if pp in one.pps(tp):
                found = one.rows(tp, pp)
                assert isinstance(found, Layouts)
                assert len(found.dp) == one.num_rows(tp, pp)
                assert (found.dp * found.cp * tp * pp == one.question.cluster.num_gpus).all()
