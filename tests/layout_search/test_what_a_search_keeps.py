"""What a search takes from its blocks before anything is ranked: no less than may be best, and no more, one row at a time."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from each import for_each
from examples import ACCELERATOR, LLAMA, MIXTRAL, NODE, framework, job, listed, model
from test_boundaries_of_a_search import asked
from test_ranking_by_hand import rows

from planner.common.arrays import at_columns
from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster
from planner.layout_search.found import Found, first_by
from planner.layout_search.question import SearchQuestion
from planner.layout_search.ranking import (
    NOISE,
    NUM_GROUPS,
    STEPS,
    Rows,
    ahead,
    complexity,
    groups_of_steps,
    no_rows,
    pruned,
    ranked,
    steps_of,
)
from planner.layout_search.result import SearchResult
from planner.layout_search.search import (
    _cut_out,
    _keep,
    _Leanest,
    _narrowed,
    _promising,
    _simplest,
    answered,
    run_search,
    searched,
)
from planner.performance.evaluation import evaluate
from planner.performance.interruptions import Recovery


class Columns:
    """Made-up rows as a search has them of a block."""

    def __init__(self, found: Rows, by_value: bool = False) -> None:
        self._found, self._by_value = found, by_value
        self.value, self.time_s, self.headroom_bytes = found.value, found.time_s, found.headroom_bytes

    def rung(self, index: Any) -> Any:
        return steps_of((self.value if self._by_value else self.time_s)[index])

    def layouts(self, index: Any) -> Any:
        return self._found.layouts.take(index)


def some(rng: np.random.Generator, count: int, setups: int = 2) -> Rows:
    """Rows of few values, so that most are ties."""
    given: list[dict[str, Any]] = [
        {
            "setup": int(rng.integers(setups)), "time_s": float(rng.integers(1, 5)), "headroom_bytes": float(rng.integers(4)),
            "layout": {"tp": int(2 ** rng.integers(2))}, "value": float(rng.integers(1, 5)),
        }
        for _ in range(count)
    ]  # fmt: skip
    found = rows(*given)
    return found.take(ranked(found))


@for_each("seed", range(8))
def test_what_may_be_of_the_best_or_the_front_is_taken_and_nothing_else(seed: int) -> None:
    """Of the known rows the top-th, or of the new ones where too few are known; of the front what no row before it outdoes."""
    rng, top = np.random.default_rng(seed), 3
    for old, count in ((no_rows(), 12), (some(rng, 2), 3), (some(rng, 2), 12), (some(rng, 3), 12), (some(rng, 12), 12)):
        new = some(rng, count, setups=1)
        within = rng.integers(3, size=count) > 0
        found = _promising(old, 0, top, Columns(new), within)  # type: ignore[arg-type]
        own = old.take(np.flatnonzero(old.setup == 0))
        few = len(old) < top or not len(own)
        limits = sorted(new.value[within].tolist()) if few else old.value.tolist()
        most = limits[top - 1] if len(limits) >= top and (not few or count > top) else np.inf
        pool, strict = (new, True) if few else (own, False)

        def outdone(i: int, new: Rows = new, pool: Rows = pool, strict: bool = strict) -> bool:
            """By more room in less time; of known rows in as much time, too."""
            time, room = new.time_s[i], new.headroom_bytes[i]
            return bool((((pool.time_s < time) if strict else (pool.time_s <= time)) & (pool.headroom_bytes > room)).any())

        equal = [
            few and bool(((new.time_s == new.time_s[i]) & (new.headroom_bytes > new.headroom_bytes[i])).any())
            for i in range(count)
        ]
        expected = [bool(new.value[i] <= most) or not (outdone(i) or equal[i]) for i in range(count)]
        assert found.tolist() == expected


def test_what_may_be_the_simplest_lies_a_little_beyond_the_groups_that_are_shown() -> None:
    """One group further of the best of all, two of a setup's own best; of bound dollars one more of time."""
    edge = {groups: (1.0 + NOISE) ** groups for groups in (2, NUM_GROUPS + 1, NUM_GROUPS + 2)}
    known = rows({"setup": 1, "time_s": 1.0})
    far = 2.0

    def kept(old: Rows, *times: float, **more: Any) -> list[bool]:
        found = Found(rows=old)
        new = rows(*({"time_s": time, **{name: values[i] for name, values in more.items()}} for i, time in enumerate(times)))
        mask = _simplest(found, 0, Columns(new), np.ones(len(times), dtype=bool), by_time=True)  # type: ignore[arg-type]
        return [bool(x) for x in mask]

    low, high = 1.0 - 1e-9, 1.0 + 1e-9
    assert kept(no_rows(), 1.0, edge[NUM_GROUPS + 1] * low, edge[NUM_GROUPS + 1] * high) == [True, True, False]
    assert kept(known, edge[NUM_GROUPS + 1] * low, edge[NUM_GROUPS + 1] * high) == [True, True]  # within two groups of its own
    assert kept(known, far, far * edge[2] * low, far * edge[2] * high) == [True, True, False]
    own = rows({"setup": 0, "time_s": far}, {"setup": 1, "time_s": 1.0})
    assert kept(own, far * edge[2] * low, far * edge[2] * high) == [True, False]
    last = edge[NUM_GROUPS + 2]
    assert kept(no_rows(), 1.0, last * low, last * high, value=[7.0] * 3) == [True, True, False]
    quick = rows({"setup": 0, "time_s": 1.0, "value": 7.0})
    assert kept(quick, last * low, last * high, value=[7.0] * 2) == [True, False]


def test_of_a_step_the_simplest_is_taken_and_of_equals_that_with_the_most_room() -> None:
    """By all pairs of a step: of new rows and of those of the setup that are known."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        old, new = some(rng, 6), some(rng, 12, setups=1)
        old, new = (replace(x, time_s=x.time_s**0.02, value=x.time_s**0.02, rung=steps_of(x.time_s**0.02)) for x in (old, new))
        within = rng.integers(4, size=12) > 0
        found = Found(rows=old)
        mask = _simplest(found, 0, Columns(new), within, by_time=True)  # type: ignore[arg-type]
        own = old.take(np.flatnonzero(old.setup == 0))
        rivals = [(x.rung[i], float(complexity(x.layouts)[i]), -x.headroom_bytes[i]) for x in (own,) for i in range(len(x))]
        mine = [(new.rung[i], float(complexity(new.layouts)[i]), -new.headroom_bytes[i]) for i in range(12)]
        rivals += [row for row, inside in zip(mine, within, strict=True) if inside]
        best = {step: min(row for row in rivals if row[0] == step) for step, _, _ in mine if any(r[0] == step for r in rivals)}
        assert mask.tolist() == [bool(inside) and row == best[row[0]] for row, inside in zip(mine, within, strict=True)]
        assert sum(found.counts.values()) == within.sum()


def test_nothing_within_the_limits_is_neither_counted_nor_kept() -> None:
    found = Found()
    assert not _simplest(found, 0, Columns(rows({}, {})), np.zeros(2, dtype=bool), by_time=True).any()  # type: ignore[arg-type]
    assert not found.counts


def test_few_places_of_many_are_cut_out() -> None:
    """From 256 on, where at most half hold what is chosen on any of the other axes; all masks at the same places."""

    class Block:
        def __init__(self, columns: Any = None) -> None:
            self.columns = columns

        def at(self, columns: Any) -> Block:
            return Block(columns)

    for length, chosen, cut in ((256, 128, True), (256, 129, False), (255, 1, False), (300, 150, True), (300, 151, False)):
        mask = np.zeros((3, length), dtype=bool)
        mask[np.arange(chosen) % 3, np.arange(chosen) * 2 % length + (np.arange(chosen) * 2 >= length)] = True
        assert np.count_nonzero(mask.any(axis=0)) == chosen
        other = np.arange(length)[None] % 2 == 0
        same, itself = _cut_out(Block(), mask)  # type: ignore[arg-type]
        block, *masks = _cut_out(Block(), mask, other, mask)  # type: ignore[arg-type]
        assert (block.columns is not None) == (same.columns is not None) == cut
        columns = mask.any(axis=0) if cut else np.ones(length, dtype=bool)
        assert itself.tolist() == at_columns(mask, columns).tolist()
        assert [x.tolist() for x in masks] == [at_columns(x, columns).tolist() for x in (other, mask)]


def test_what_a_rule_takes_away_is_counted_in_whole_layouts() -> None:
    """Masks that broadcast stand for as many layouts as they broadcast to."""
    found = Found()
    ok, rule = np.array([[True], [True], [False]]), np.array([[True, False, False, True]])
    assert _narrowed(found, ok, rule, "lost", (5, 3, 4)).tolist() == (ok & rule).tolist()
    assert found.rejected == {"lost": 5 * 2 * 2}
    assert _narrowed(found, ok, np.ones((1, 1), dtype=bool), "other", (5, 3, 4)) is ok
    assert found.rejected == {"lost": 20}


def test_the_leanest_is_met_once_or_in_several_blocks() -> None:
    """Only blocks that hold the least; nothing where nothing is possible."""
    blocks = [SimpleNamespace(name=str(i)) for i in range(5)]
    needs = [[3.0, 5.0], [np.inf, np.inf], [2.0, 4.0], [2.0, 2.0], [9.0, 3.0]]
    lean = _Leanest()
    assert len(lean.rows(asked(), 0)) == 0
    for block, need in zip(blocks, needs, strict=True):
        lean.meet(block, np.array(need))  # type: ignore[arg-type]
    assert [(block.name, mask.tolist()) for block, mask in lean._met] == [  # type: ignore[attr-defined]
        ("2", [True, False]),
        ("3", [True, True]),
    ]


def every(q: SearchQuestion) -> list[dict[str, float]]:
    """Each layout that fits by the prediction itself: value, chance, whether it surely fits, by one evaluation of each setup."""
    found = []
    for i, setup in enumerate(q.setups):
        answer = evaluate(setup.question, listed(setup.grid))
        sure = setup.fit.holds(answer.firm_bytes, answer.states_bytes)
        chance = setup.fit.probability(answer.firm_bytes, answer.states_bytes)
        found += [
            {
                "setup": i, "time_s": 10.0 * float(answer.step_time_s[n]), "sure": bool(sure[n]), "chance": float(chance[n]),
            }
            for n in np.flatnonzero(answer.fits)
        ]  # fmt: skip
    return found


@for_each("gib", [1.3, 1.5, 1.6, 2.0, 80.0])
def test_the_boldest_and_the_likeliest_are_those_of_all_layouts(gib: float) -> None:
    """The fastest of those at more risk, where none that surely fits is as fast; the likeliest, where none surely fits."""
    for stack, fields in (("fsdp", MIXTRAL), ("megatron-core", LLAMA), ("deepspeed-zero", LLAMA)):
        card = ACCELERATOR.replaced(memory_bytes=gib * 2.0**30)
        q = asked(model=model(fields), cluster=cluster(NODE, num_gpus=4, accelerator=card), framework=framework(stack))
        free = every(q)
        middle = float(np.median([row["time_s"] for row in free])) if free else 1.0
        for limit in (None, middle):
            found = searched(replace(q, deadline_s=limit)).found
            here = [row for row in free if limit is None or row["time_s"] <= limit]
            sure, risky = ([row for row in here if row["sure"] == which] for which in (True, False))
            quick = min((row["time_s"] for row in sure), default=np.inf)
            bold = min((row["time_s"] for row in risky), default=np.inf)
            assert len(found.rows) == 0 if not sure else found.rows.time_s.min() == quick
            if bold < quick:
                assert found.boldest.time_s[0] == bold
            if risky and not sure:
                assert found.surest.fit_probability[0] == max(row["chance"] for row in risky)
            assert len(found.leanest) == (0 if sure or risky else 1)  # asked for only where there is nothing else
            assert len(found.starved) == 0


def test_the_least_or_the_largest_of_a_column_is_the_best_ranked_of_equals() -> None:
    given = rows({"time_s": 3.0, "headroom_bytes": 2.0}, {"time_s": 2.0}, {"time_s": 1.0}, {"time_s": 1.0, "headroom_bytes": 2.0})
    assert first_by(given, "value").time_s.tolist() == [1.0]
    assert first_by(given, "value").headroom_bytes.tolist() == [2.0]
    assert first_by(given, "headroom_bytes").time_s.tolist() == [1.0]
    assert first_by(given, "headroom_bytes", largest=True).time_s.tolist() == [1.0]
    assert first_by(given.take(np.arange(2)), "headroom_bytes", largest=True).time_s.tolist() == [3.0]
    one = given.take(np.arange(1))
    assert first_by(one, "value") is one


def test_of_two_parts_of_a_search_the_better_is_kept_whichever_comes_first() -> None:
    """The fastest of the bold, the likeliest, the leanest; all that is counted is summed, the least of each value is kept."""

    def part(time_s: float, chance: float, peak_bytes: float, number: int) -> Found:
        def row(**changed: float) -> Rows:
            return replace(rows({"time_s": time_s}), **{name: np.array([value]) for name, value in changed.items()})

        found = Found(
            rows=row(), boldest=row(), surest=row(fit_probability=chance), leanest=row(peak_bytes=peak_bytes),
            starved=row(peak_bytes=peak_bytes), num_layouts=number, num_possible=number + 1, num_fitting=number + 2,
            least={"time_s": time_s, f"of {number}": 1.0},
        )  # fmt: skip
        found.counts.update({0.0: number})
        found.rejected.update({"why": number})
        return found

    for turned in (False, True):
        found, *others = [part(2.0, 0.3, 5.0, 10), part(1.0, 0.6, 7.0, 3)][:: -1 if turned else 1]
        for other in others:
            found.merge(other, 5)
        assert found.rows.time_s.tolist() == [1.0, 2.0]
        assert (found.boldest.time_s.tolist(), found.surest.fit_probability.tolist()) == ([1.0], [0.6])
        assert found.leanest.peak_bytes.tolist() == found.starved.peak_bytes.tolist() == [5.0]
        assert (found.num_layouts, found.num_possible, found.num_fitting) == (13, 15, 17)
        assert (found.counts, found.rejected) == ({0.0: 13}, {"why": 13})
        assert found.least == {"time_s": 1.0, "of 10": 1.0, "of 3": 1.0}
    empty = Found()
    empty.merge(Found(), 5)
    assert (empty.num_layouts, empty.num_possible, empty.num_fitting, empty.counts) == (0, 0, 0, {})


def test_why_nothing_is_left_is_said_by_what_was_met() -> None:
    """The leanest where none fits, the fastest and the cheapest where a limit rules out what does."""
    gib, day = 2.0**30, 86_400.0
    price = {"usd_per_gpu_hour": 2.0, "term": "on-demand"}
    q = asked(price=price)
    met = {"peak_bytes": 3.0 * gib, "time_s": 1.5 * day, "usd": 12_345.0}
    leanest = "the leanest needs 3.0 GiB per GPU of 1.0 usable"
    quickest, cheapest = "the fastest that fits takes 1.50 days", "the cheapest that fits costs $12,345"
    cases: list[tuple[dict[str, float], dict[str, Any], int, list[str]]] = [
        (met, {}, 0, [leanest]),
        (met, {}, 1, []),
        ({}, {"deadline_s": 1.0, "budget_usd": 1.0}, 0, []),
        ({"peak_bytes": np.inf}, {}, 0, []),
        (met, {"deadline_s": 1.0}, 1, [quickest]),
        (met, {"budget_usd": 1.0}, 1, [cheapest]),
        (met, {"deadline_s": 1.0, "budget_usd": 1.0}, 1, [quickest, cheapest]),
    ]
    for least, limits, fitting, said in cases:
        found = Found(num_layouts=1234, num_fitting=fitting, least=dict(least))
        found.rejected.update({"few": 2, "many": 3000})
        card = q.setups[0].question.cluster.accelerator.replaced(usable_memory_bytes=gib)
        machine = cluster(NODE, num_gpus=8, accelerator=card)
        here = asked(price=price, cluster=machine, **limits)
        with pytest.raises(PlannerError) as error:
            answered(SearchResult(question=here, found=found, size=1, complete=True))
        assert str(error.value) == f"no layout is left of 1,234: {'; '.join(['3,000 many', '2 few', *said])}."
        stopped = SearchResult(question=here, found=found, size=1, complete=False)
        assert answered(stopped) is stopped
    with pytest.raises(PlannerError, match=r"of 0: the space is empty\."):
        answered(SearchResult(question=q, found=Found(), size=0, complete=True))
    for name in ("rows", "surest"):
        some_row = SearchResult(question=q, found=Found(**{name: rows({})}), size=1, complete=True)
        assert answered(some_row) is some_row


def test_preemptions_are_told_beside_either_limit_that_they_may_break() -> None:
    price, recovery = {"usd_per_gpu_hour": 2.0, "term": "spot"}, Recovery(preemption_mtbf_s=86_400.0)
    for limits in ({}, {"deadline_s": 1.0}, {"budget_usd": 1.0}):
        q = asked(price=price, recovery=recovery, **limits)
        with pytest.raises(PlannerError) as error:
            answered(SearchResult(question=q, found=Found(num_fitting=1), size=1, complete=True))
        assert ("spot is ranked at" in str(error.value)) == bool(limits)


def test_a_layout_that_just_fits_and_a_host_that_just_holds_are_enough() -> None:
    """The card's usable bytes, and the host's, of exactly the need."""
    for stack in ("fsdp", "megatron-core"):
        q = asked(model=model(LLAMA), framework=framework(stack), allow=["all"])
        for block in (b for e in _explored(q) for b in e.blocks):
            shape = block.layouts.shape
            peak, host = (np.broadcast_to(x, shape) for x in (block.summary.peak_bytes, block.summary.host_bytes))
            possible = np.broadcast_to(block.possible, shape)
            moved = possible & (host > 0)
            if not moved.any():
                continue
            usable, held = float(np.median(peak[possible])), float(np.sort(host[moved])[np.count_nonzero(moved) // 2])
            node = NODE.replaced(host_memory_bytes=8 * held)  # of eight GPUs
            card = ACCELERATOR.replaced(usable_memory_bytes=usable)
            here = asked(
                model=model(LLAMA), framework=framework(stack), allow=["all"], cluster=cluster(node, num_gpus=8, accelerator=card)
            )
            found = Found()
            _keep(here, 0, block, found, _Leanest(), _Leanest())
            fits = possible & (peak <= usable)
            assert found.rejected["does not fit in the GPU's memory"] == np.count_nonzero(possible & (peak > usable))
            lost = np.count_nonzero(fits & (host > held))
            assert found.rejected["offloaded bytes do not fit in the host's memory"] == lost
            break


def _explored(q: SearchQuestion) -> Any:
    from planner.layout_search.explore import explore

    return explore(q.setups[0].grid, *q.setups[0].grid.tps)


@for_each("seed", range(4))
def test_pruning_keeps_what_it_says_and_nothing_else(seed: int) -> None:
    """The first few, the front, the best of each setup, and of each step of the first groups or of a setup's own first group the
    simplest, within one group more of time; row by row."""
    rng = np.random.default_rng(seed)
    top = int(rng.integers(1, 4))
    given: list[dict[str, Any]] = [
        {
            "setup": int(setup), "time_s": float(t), "usd": float(t), "headroom_bytes": float(rng.integers(5)),
            "value": float(t) ** (seed % 2 or 0.1), "layout": {"tp": int(2 ** rng.integers(2)), "pp": int(2 ** rng.integers(2))},
        }
        for setup, t in zip(rng.integers(3, size=120), np.exp(rng.choice(np.linspace(0.0, 0.6, 90), 120)), strict=True)
    ]  # fmt: skip
    given += [
        {"setup": 3, "time_s": 9.0 + i / 1000.0, "usd": 9.0, "headroom_bytes": -1.0, "layout": {"tp": 2 - i}} for i in (0, 1)
    ]
    whole = rows(*given)
    whole = whole.take(ranked(whole))
    level, steps = complexity(whole.layouts), steps_of(whole.value)
    costs = np.stack([whole.time_s, whole.usd, -whole.headroom_bytes]).T

    def kept(i: int) -> bool:
        own = whole.setup == whole.setup[i]
        same = np.flatnonzero(own & (whole.rung == whole.rung[i])).tolist()
        simplest = min(same, key=lambda j: (level[j], -whole.headroom_bytes[j], j)) == i
        near = steps[i] < steps.min() + STEPS * NUM_GROUPS or steps[i] < steps[own].min() + STEPS
        near &= whole.rung[i] < whole.rung[own].min() + STEPS * (NUM_GROUPS + 1)
        no_worse = (costs <= costs[i]).all(axis=1)
        beaten = no_worse & ((costs < costs[i]).any(axis=1) | (np.arange(len(costs)) < i))
        return bool(i < top or not beaten.any() or i == np.flatnonzero(own)[0] or (simplest and near))

    found = pruned(whole, top)
    expected = whole.take(np.array([i for i in range(len(whole)) if kept(i)]))
    for name in ("setup", "time_s", "usd", "headroom_bytes", "value"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist()
    assert len(expected) < len(whole)


def test_what_costs_nothing_comes_before_all_that_costs_anything() -> None:
    """However little that is: a machine whose hours are free beside cents for a step."""
    prices = [{"usd_per_gpu_hour": 2.0, "term": "on-demand"}, 0.0]
    for work in (job(), job(num_steps=10**6)):
        found = run_search(asked(job=work, price=prices, objective="cost", top=50))
        rank = found.rows.usd
        assert rank[0] == 0.0
        assert found.groups[rank == 0.0].max() == 0.0
        assert found.groups[rank > 0.0].min() == 1.0
        assert found.group_sizes[0] == found.found.num_fitting // 2
    steps = steps_of(np.array([0.001, 0.0, 5.0, 0.0, 0.001 * 1.021]))
    assert groups_of_steps(steps).tolist() == [1.0, 0.0, 1.0 + np.floor(np.log(5000.0) / np.log(1.02)), 0.0, 2.0]


def test_no_steps_are_in_no_group() -> None:
    assert len(groups_of_steps(np.zeros(0))) == len(ahead(np.zeros(0), 1)) == 0
