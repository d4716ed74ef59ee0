"""What the columns of a search's table are to each other, and what a search takes from its blocks, by plain arithmetic."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from examples import ACCELERATOR, LLAMA, MIXTRAL, NODE, framework, job, listed, model

import planner
from planner.hardware.cluster import cluster
from planner.layout_search.found import TOO_DEAR, TOO_LATE, Found
from planner.layout_search.nearest import changes, nearest_fitting
from planner.layout_search.question import as_question
from planner.layout_search.ranking import Rows, groups_of, no_rows, simplest_first
from planner.layout_search.result import SearchResult
from planner.layout_search.search import _Ladder, _likelier, _simpler, _within, run_search
from planner.layout_search.space import LayoutGrid
from planner.layout_search.table import runner_up, why_second
from planner.performance.evaluation import evaluate
from planner.performance.interruptions import Recovery
from planner.performance.risk import RISK, fit_rule
from planner.workload.layout import Layout, Layouts, as_columns
from planner.workload.question import Question

HOUR_S, STEPS, GPUS = 3600.0, 1000, 8


ASKED: dict[str, Any] = {
    "model": model(MIXTRAL),
    "cluster": cluster(NODE, num_gpus=GPUS, accelerator=ACCELERATOR.replaced(tdp_w=400.0)),
    "framework": framework("megatron-core"),
    "job": job(num_steps=STEPS),
    "price": {"usd_per_gpu_hour": 3.0, "term": "on-demand"},
    "top": 10_000,
}


@pytest.fixture(scope="module")
def on_demand() -> pd.DataFrame:
    return planner.search(**ASKED)


def test_the_columns_of_a_row_agree(on_demand: pd.DataFrame) -> None:
    found = on_demand
    assert len(found) > 20
    assert found["headroom_bytes"].to_numpy() == pytest.approx((found["usable_bytes"] - found["peak_total_bytes"]).to_numpy())
    assert found["run_s"].to_numpy() == pytest.approx((STEPS * found["step_time_s"]).to_numpy())
    usd = found["run_s"] * GPUS / HOUR_S * 3.0
    assert found["cost_usd"].to_numpy() == pytest.approx(usd.to_numpy())
    assert found["cost_usd_per_step"].to_numpy() == pytest.approx((usd / STEPS).to_numpy())
    assert found["tokens_per_s_per_gpu"].to_numpy() == pytest.approx((found["tokens_per_s"] / GPUS).to_numpy())
    # of one machine energy and time are the same question, and so are the bounds of a price that nobody doubts
    assert np.ptp(found["energy_j"] / found["run_s"]) == pytest.approx(0.0, abs=1e-6)
    for end in ("lower", "upper"):
        seconds = found[f"step_time_{end}_s"] / found["step_time_s"]
        assert (found[f"cost_{end}_usd"] / found["cost_usd"]).to_numpy() == pytest.approx(seconds.to_numpy())
    for name, unit in (("step_time", "s"), ("peak_total", "bytes"), ("cost", "usd")):
        middle = found[f"{name}_{unit}"]
        assert ((found[f"{name}_lower_{unit}"] < middle) & (middle < found[f"{name}_upper_{unit}"])).all()


def test_preemptions_lengthen_the_ranked_time_and_nothing_of_a_row(on_demand: pd.DataFrame) -> None:
    """A row of spot nodes is the plan undisturbed, as one on demand of the same price is."""
    price, recovery = {"usd_per_gpu_hour": 3.0, "term": "spot"}, Recovery(preemption_mtbf_s=3e5)
    spot = run_search(as_question(**{**ASKED, "price": price, "top": 50}, recovery=recovery))
    assert (spot.found.rows.time_s > 1.001 * STEPS * spot.found.rows.step_time_s).all()
    rows = spot.to_frame()
    both = on_demand.set_index("layout").loc[rows["layout"]]
    assert len(rows) > 5
    for name in ("run_s", "cost_usd", "energy_j", "cost_lower_usd", "cost_upper_usd", "headroom_bytes"):
        assert rows[name].to_numpy() == pytest.approx(both[name].to_numpy()), name


@pytest.mark.parametrize(
    ("gib", "wanted"),
    [
        (1.7, Layout(tp=1, zero=1, micro_batch_size=64)),
        (1.55, Layout(tp=4, pp=2, micro_batch_size=64)),
        (2.0, Layout(tp=16)),
        (2.0, Layout(tp=1, pp=8)),
    ],
)
def test_the_nearest_that_fits_has_the_fewest_changes_and_is_the_fastest_of_those(gib: float, wanted: Layout) -> None:
    """By going through all layouts, one evaluation of plain columns."""
    machine = cluster(NODE, num_gpus=8, accelerator=ACCELERATOR.replaced(memory_bytes=gib * 2.0**30))
    q = Question(model(LLAMA), machine, framework("megatron-core"), job())
    layouts = listed(LayoutGrid(question=q))
    answer = evaluate(q, layouts)
    fits = answer.fits & fit_rule(q, RISK).holds(answer.firm_bytes, answer.states_bytes)
    assert fits.any()
    away = np.where(fits, changes(layouts, wanted), np.inf)
    fewest = away == away.min()
    found, least = nearest_fitting(q, wanted)
    assert found is not None
    column = as_columns([found], 8)
    same = np.ones(len(away), dtype=bool)
    for field in fields(Layouts):
        same &= getattr(layouts, field.name) == getattr(column, field.name)
    (at,) = np.flatnonzero(same)
    assert fewest[at]
    assert answer.step_time_s[at] == answer.step_time_s[fewest].min()
    assert np.count_nonzero(fewest) > 1
    assert least == pytest.approx(float(np.nanmin(answer.memory.total_bytes)))


def one_row(probability: float) -> Rows:
    one = np.ones(1)
    return Rows(
        setup=np.zeros(1), layouts=as_columns([Layout(tp=1)], 8), step_time_s=one, peak_bytes=one, headroom_bytes=one,
        fit_probability=np.array([probability]), time_s=one, usd=one, rung=one, value=one,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wide", "usual", "likelier"),
    [
        (0.9, 0.9, False),
        (0.9, 0.9 - RISK / 2, False),
        (0.9, 0.9 - 2 * RISK, True),
        (0.2, 0.9, False),
        (None, 0.9, True),
        (0.2, None, True),
    ],
)
def test_unusual_layouts_take_over_where_they_are_likelier_to_fit_by_more_than_the_risk(
    wide: float | None, usual: float | None, likelier: bool
) -> None:
    def of(chance: float | None) -> Found:
        return Found() if chance is None else Found(surest=one_row(chance))

    assert _likelier(of(wide), of(usual)) == likelier


def test_no_rows_have_no_order() -> None:
    assert len(simplest_first(no_rows())) == len(groups_of(no_rows().value)) == 0


def of_card(*gibs: float, top: int = 50) -> SearchResult:
    """A search on machines of cards of so much memory."""
    cards = [ACCELERATOR.replaced(name=f"card-{gib}", memory_bytes=gib * 2.0**30) for gib in gibs]
    machines = [cluster(NODE, num_gpus=8, accelerator=card) for card in cards]
    return run_search(
        as_question(model=model(MIXTRAL), cluster=machines, framework=framework("fsdp"), job=job(num_steps=10), top=top)
    )


@pytest.mark.parametrize("gib", [1.8, 2.4])
def test_each_row_of_a_search_has_its_upper_bound_inside_the_card(gib: float) -> None:
    found = of_card(gib, top=10_000).to_frame()
    assert len(found) > 5
    assert (found["peak_total_upper_bytes"] <= found["usable_bytes"] * (1.0 + 1e-12)).all()
    assert (found["fit_probability"] >= 1.0 - RISK - 1e-12).all()


def test_what_was_looked_at_besides_is_said_of_each_cluster_as_of_itself_alone() -> None:
    alone, both = of_card(1.7), of_card(1.7, 80.0)
    assert alone.question.wide
    assert both.question.wide == f"{both.question.setups[0].where}: {alone.question.wide}"
    assert of_card(80.0).question.wide == ""


def test_the_ladder_holds_of_each_step_the_simplest_with_the_most_room() -> None:
    """By hand: what is no simpler and has less room than the ladder's row of its step goes; new steps stay."""
    steps, level, room = (
        np.array([2.0, 1.0, 1.0, 1.0, 2.0]),
        np.array([5.0, 7.0, 3.0, 3.0, 4.0]),
        np.array([9.0, 9.0, 1.0, 2.0, 0.0]),
    )
    ladder = _Ladder(steps, level, room)
    assert (ladder.steps.tolist(), ladder.level.tolist(), ladder.room.tolist()) == ([1.0, 2.0], [3.0, 4.0], [2.0, 0.0])
    assert _simpler(ladder, steps, level, room).tolist() == [False, False, False, True, True]
    new, least = np.array([0.0, 3.0, 1.0]), np.array([9.0, 9.0, 2.0])
    assert _simpler(ladder, new, least, np.zeros(3)).tolist() == [True, True, True]
    assert _simpler(_Ladder(np.zeros(0), np.zeros(0), np.zeros(0)), new, least, np.zeros(3)).all()


def test_a_cluster_alone_keeps_the_setups_that_may_take_its_place() -> None:
    first, second = of_card(1.8, 80.0).question.setups
    asked = as_question(**{**ASKED, "top": 1})
    together = replace(asked, setups=(first, second), others=(((first,), (), ("quick",)), ((second,), ("note",), ())))
    assert together.alone(0).others == (((first,), (), ("quick",)),)
    assert together.alone(1).others == (((second,), ("note",), ()),)
    assert together.alone(1).setups == (second,)


def test_the_runner_up_is_told_by_what_it_needs_and_takes_more() -> None:
    found = planner.search(**{**ASKED, "top": 50})
    best, second = found.iloc[0], found.iloc[runner_up(found)]
    said = str(why_second(found))
    assert f"step {100 * (second['step_time_s'] / best['step_time_s'] - 1):+.2f}%" in said
    assert f"memory {(second['peak_total_bytes'] - best['peak_total_bytes']) / 2**30:+.2f} GiB" in said
    assert f"dollars {second['cost_usd_per_step'] / best['cost_usd_per_step'] - 1:+.2%}" in said


def test_what_breaks_a_limit_is_counted_under_the_first_that_it_breaks() -> None:
    limited = replace(as_question(**ASKED), deadline_s=10.0, budget_usd=5.0)
    time, usd, found = np.array([9.0, 10.0, 11.0, 12.0, 1.0]), np.array([4.0, 6.0, 7.0, 1.0, 5.0]), Found()
    assert _within(limited, found, time, usd).tolist() == [True, False, False, False, True]
    assert found.rejected == {TOO_LATE: 2, TOO_DEAR: 1}
