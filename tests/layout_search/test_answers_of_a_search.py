"""What is answered from what a search found: the choice, its table and the nearest layout, row by row."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from each import for_each
from examples import ACCELERATOR, LLAMA, MIXTRAL, NODE, framework, job, model
from test_boundaries_of_a_search import asked
from test_ranking_by_hand import rows

from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster
from planner.layout_search import nearest
from planner.layout_search.choice import _why, choose
from planner.layout_search.differences import times_over
from planner.layout_search.found import Found
from planner.layout_search.nearest import nearest_fitting
from planner.layout_search.ranking import complexity, groups_of, ranked
from planner.layout_search.result import SearchResult
from planner.layout_search.search import run_search, search_all, searched
from planner.layout_search.space import EVERYTHING, LayoutGrid
from planner.layout_search.table import _intervals, frame, step_basis, summary
from planner.performance.evaluation import evaluate
from planner.performance.risk import fit_rule
from planner.uncertainty.effects import standing
from planner.uncertainty.interval import bounding_factors
from planner.uncertainty.subject import Subject
from planner.workload.layout import Layout, Layouts, as_columns
from planner.workload.question import Question

PRICE = {"usd_per_gpu_hour": 3.0, "term": "on-demand"}


def card(gib: float, **more: Any) -> Any:
    return ACCELERATOR.replaced(memory_bytes=gib * 2.0**30, **more)


def of(gib: float, stack: str = "fsdp", host_bytes: float = 2e12, count: int = 8) -> Question:
    machine = cluster(NODE.replaced(host_memory_bytes=host_bytes), num_gpus=count, accelerator=card(gib))
    return Question(model(MIXTRAL), machine, framework(stack), job())


def test_a_choice_is_the_first_row_of_its_search_or_what_comes_nearest() -> None:
    """What surely fits, what is likeliest to, what needs the least."""
    met = []
    for gib in (80.0, 2.0, 1.7, 1.55, 0.9):
        q = of(gib)
        taken = choose(q)
        setup = replace(asked().setups[0], grid=LayoutGrid(question=q, allow=frozenset()))
        result = search_all(replace(asked(), setups=(setup,), top=1), searched)
        found = result.found
        first = result.rows if len(result.rows) else found.leanest
        assert taken.layout == first.layouts.row(0)
        assert taken.sure == bool(len(found.rows))
        for name in ("step_time_s", "peak_bytes", "fit_probability"):
            assert getattr(taken, name) == getattr(first, name)[0], name
        assert taken.hosted
        assert taken.gives_way == (taken.sure and result.widened)
        wide = [str(result.question.wide)] if result.widened else []
        assert [str(x) for x in taken.why[1:]] == wide
        met.append((taken.sure, bool(len(found.surest)), result.widened))
        one = evaluate(q, as_columns([taken.layout], 8))
        assert (one.step_time_s[0], one.memory.total_bytes[0]) == (taken.step_time_s, taken.peak_bytes)
    assert len(set(met)) >= 3


def test_where_the_host_holds_nothing_either_the_choice_says_so() -> None:
    q = of(0.4, "megatron-core", host_bytes=1.0, count=1)
    whole = LayoutGrid(question=q).columns()
    answer = evaluate(q, whole)
    hosted = answer.possible & (answer.memory.host_bytes <= answer.host_usable_bytes)
    taken = choose(q, allow=["all"])
    assert taken.hosted
    assert taken.peak_bytes == answer.memory.total_bytes[hosted].min()
    assert not taken.sure


def test_what_is_said_of_a_choice_is_counted() -> None:
    def why(found: Found, wide: str = "") -> list[str]:
        q = replace(asked(), wide=wide)
        return [str(x) for x in _why(SearchResult(question=q, found=found, size=1, complete=True))]

    likely = Found(surest=replace(rows({}), fit_probability=np.array([0.4567])), num_possible=1234)
    assert why(likely) == [
        "layout chosen: none fits with a probability of 95%, this one is likeliest to, 45.6% (valid: 1,234)"
    ]  # fmt: skip
    assert why(Found(num_possible=7), "wide") == ["layout chosen: none fits, this one needs the least memory (valid: 7)", "wide"]
    sure = Found(rows=rows({"time_s": 1.0}), num_possible=9, num_fitting=5)
    sure.counts.update({0.0: 3, 8.0: 2})
    assert why(sure) == [
        "layout chosen: the simplest of 3 within 2% of the fastest; 5 layouts fit with a probability of 95% or more (valid: 9)"
    ]


def test_a_table_has_dollars_where_there_is_a_price_and_runs_where_there_is_a_length() -> None:
    for price in (None, PRICE, 0.0):
        for length in ({}, {"num_steps": 10}):
            q = asked(price=price, job=job(**length), cluster=cluster(NODE, num_gpus=8, accelerator=card(2.0, tdp_w=400.0)))
            found = run_search(q).to_frame()
            known = {
                "usd_per_gpu_hour": price is not None, "cost_usd_per_step": price is not None, "run_s": bool(length),
                **dict.fromkeys(("cost_usd", "cost_lower_usd", "cost_upper_usd"), price is not None and bool(length)),
                "energy_j": True,
            }  # fmt: skip
            assert {name: bool(found[name].notna().all()) for name in known} == known
            assert {name: bool(found[name].isna().all()) for name in known} == {name: not told for name, told in known.items()}
            assert (found["price"] != "").all() == (price is not None)
    unknown = run_search(asked()).to_frame()
    assert unknown["energy_j"].isna().all()


def test_marks_of_a_table_are_those_of_its_rows() -> None:
    """Groups from 1 on, of each the simplest, the best few, the recommended row of each cluster first among its own."""
    q = asked(gpus=[4, 8], top=3, price=PRICE)
    result = run_search(q)
    table, found = result.to_frame(), result.rows
    assert table["rank"].tolist() == list(range(1, len(found) + 1))
    order = ranked(found)
    steps = np.log(found.value / found.value.min()) / np.log(1.02)
    assert (np.abs(table["group"] - 1 - steps) <= 1.0 + 1.0 / 8).all()
    assert table["group"].tolist() == (groups_of(found.value) + 1).tolist()
    assert table["best"].sum() == 3
    assert table["best"].tolist() == [place in order[:3] for place in range(len(found))]
    level = complexity(found.layouts)
    for _, own in table.groupby("group"):
        assert own["simplest"].sum() == 1
    first = table[table["group"] == 1]
    assert first["simplest"].iloc[0]
    assert level[0] == level[first.index].min()
    assert table["best_of_cluster"].sum() == 2
    for i, setup in enumerate(q.setups):
        own = table[table["num_gpus"] == setup.question.cluster.num_gpus]
        (chosen,) = own.index[own["best_of_cluster"]]
        quick = groups_of(found.value[own.index]) == 0.0
        assert level[chosen] == level[own.index[quick]].min()
        assert (found.setup[own.index] == i).all()
    empty = frame(q, found.take(np.zeros(0, dtype=int)), {"why": "none"})
    assert (list(empty.columns), empty.attrs) == (["rank", "group", "front", "layout"], {"why": "none"})
    one, two = (replace(setup, risk=risk) for setup, risk in zip(q.setups, (0.1, 0.2), strict=True))
    told = summary(replace(q, setups=(one, two)), result.found, 7, False)
    assert (told["fits_at_risk"], told["num_layouts"], told["complete"], told["widened"]) == (0.1, 7, False, False)


def test_the_best_rows_are_the_first_by_objective_though_the_recommended_one_stands_before_them() -> None:
    found = rows({"time_s": 1.01}, {"time_s": 1.0, "layout": {"tp": 2}}, {"time_s": 1.5}, {"time_s": 1.6})
    assert ranked(found).tolist() == [1, 0, 2, 3]
    result = SearchResult(question=asked(), found=Found(rows=found.take(ranked(found))), size=1, complete=True)
    assert result.rows.time_s.tolist() == [1.01, 1.0, 1.5, 1.6]
    assert result.groups.tolist() == groups_of(np.array([1.01, 1.0, 1.5, 1.6])).tolist()


def test_no_bound_of_a_step_is_faster_than_the_hardware() -> None:
    """Beyond the usual bounds, but at no more than all of its peak: by model or by hardware flops, whichever are more."""
    q = asked(price=PRICE)
    few = run_search(q).rows.take(np.array([0, 0, 0, 0]))
    where = q.setups[0]
    lower, _ = bounding_factors(standing("step_time", Subject.of(where.question, few.layouts)))
    low = float(np.ravel(lower)[0])
    assert low < 0.97
    hfu, mfu = np.array([0.1, 0.97, 0.2, 1.5]), np.array([0.1, 0.5, 0.98, 0.2])
    told = SimpleNamespace(hfu=hfu, mfu=mfu, states_bytes=few.peak_bytes / 2.0)
    for has_length in (True, False):
        bounds = _intervals(where, few, told, few.time_s, has_length)  # type: ignore[arg-type]
        assert bounds["step_time_lower_s"] / few.step_time_s == pytest.approx(np.array([low, 0.97, 0.98, 1.0]))
        if has_length:
            hours = few.time_s * np.array([low, 0.97, 0.98, 1.0]) / 3600.0
            assert np.array(bounds["cost_lower_usd"]) == pytest.approx(hours * 8 * 3.0)
        else:
            assert np.isnan(bounds["cost_lower_usd"])
            assert np.isnan(bounds["cost_upper_usd"])


def test_what_an_interval_comes_from_is_told_of_the_first_row() -> None:
    q = asked(gpus=[4, 8])
    found = run_search(q).rows
    setup = q.setups[int(found.setup[0])]
    assert step_basis(q, found) == standing("step_time", Subject.of(setup.question, found.layouts.take(np.array([0])))).why
    told = times_over(q, found, found.take(np.arange(1, len(found))))
    assert [r.expected for r in told] == pytest.approx((found.time_s / found.time_s[1]).tolist())


def test_the_rows_of_a_setup_are_its_own_alone() -> None:
    result = run_search(asked(gpus=[4, 8]))
    for i in (0, 1):
        own = result.of(i)
        expected = result.found.rows.take(np.flatnonzero(result.found.rows.setup == i))
        assert own.found.rows.time_s.tolist() == expected.time_s.tolist()
        assert not own.found.rows.setup.any()
        assert own.question.setups == (result.question.setups[i],)


def test_unusual_layouts_are_nearest_only_where_no_usual_one_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where all of them together are no more than are searched."""
    machine, work = cluster(NODE, num_gpus=1, accelerator=card(1.6)), job(global_batch_size=1, seq_len=128)
    q = Question(model(LLAMA, num_layers=24), machine, framework("deepspeed-zero"), work)
    grids: list[frozenset[str]] = []
    plain = nearest._nearest
    monkeypatch.setattr(nearest, "_nearest", lambda grid, *rest: (grids.append(grid.allow), plain(grid, *rest))[1])
    every = LayoutGrid(question=q)
    size = sum(every.size(tp) for tp in every.tps)
    wanted = Layout(tp=1, zero=1)
    for limit, found in ((size, True), (size - 1, False)):
        monkeypatch.setattr(nearest, "MAX_LAYOUTS", limit)
        grids.clear()
        layout, least = nearest_fitting(q, wanted)
        assert (layout is not None) == found
        assert grids == ([frozenset(), EVERYTHING] if found else [frozenset()])
        assert least > 0.0
        if layout is not None:
            assert layout.offload_optimizer
    grids.clear()
    roomy = replace(q, cluster=cluster(NODE, num_gpus=1, accelerator=card(80.0)))
    layout, _ = nearest_fitting(roomy, wanted)
    assert layout is not None
    assert grids == [frozenset()]


@for_each("count", [1, 8])
def test_the_nearest_is_the_first_of_the_fastest_of_the_nearest(count: int) -> None:
    """With a host that holds exactly what one of them moves."""
    machine = cluster(NODE, num_gpus=count, accelerator=card(1.9))
    for allow in (frozenset[str](), EVERYTHING):
        q = Question(model(LLAMA), machine, framework("megatron-core"), job())
        grid = LayoutGrid(question=q, allow=allow)
        whole = grid.columns()
        answer = evaluate(q, whole)
        need = np.sort(answer.memory.host_bytes[answer.possible & (answer.memory.host_bytes > 0)])
        held = float(need[len(need) // 2]) if len(need) else 1.0
        q = replace(q, cluster=cluster(NODE.replaced(host_memory_bytes=8 * held), num_gpus=count, accelerator=card(1.9)))
        rule = fit_rule(q)
        hosted = answer.possible & (answer.memory.host_bytes <= held)
        fits = hosted & rule.holds(answer.firm_bytes, answer.states_bytes)
        for wanted in (Layout(tp=1, zero=1, offload_optimizer=bool(allow)), Layout(tp=2, micro_batch_size=16)):
            found, least = nearest._nearest(LayoutGrid(question=q, allow=allow), wanted, 0.05)
            assert least == answer.memory.total_bytes[hosted].min()
            away = np.where(fits, nearest.changes(whole, wanted), np.inf)
            assert found is not None
            column = as_columns([found], count)
            same = np.all([getattr(whole, f.name) == getattr(column, f.name) for f in fields(Layouts)], axis=0)
            (at,) = np.flatnonzero(same)
            assert (away[at], answer.step_time_s[at]) == (away.min(), answer.step_time_s[away == away.min()].min())


def test_no_valid_layout_is_an_error_that_counts_why() -> None:
    q = replace(of(80.0), job=job(global_batch_size=1), framework=framework("deepspeed-zero"))
    with pytest.raises(PlannerError, match=r"layout: none is valid on 8 GPUs with global_batch_size = 1 \("):
        choose(q)
