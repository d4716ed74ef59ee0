"""What the columns of a search's table are to each other, and what a search takes from its blocks, by plain arithmetic."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from examples import ACCELERATOR, LLAMA, MIXTRAL, NODE, framework, job, model
from test_layout_grid import listed

import planner
from planner.hardware.cluster import cluster
from planner.layout_search.found import Found
from planner.layout_search.nearest import changes, nearest_fitting
from planner.layout_search.question import as_question
from planner.layout_search.ranking import Rows, groups_of, no_rows, simplest_first
from planner.layout_search.search import _likelier, run_search
from planner.layout_search.space import LayoutGrid
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


def test_the_columns_of_a_row_agree() -> None:
    found = planner.search(**ASKED)
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


def test_preemptions_lengthen_the_ranked_time_and_nothing_of_a_row() -> None:
    """A row of spot nodes is the plan undisturbed, as one on demand of the same price is."""
    asked = {key: value for key, value in ASKED.items() if key != "price"}
    spot, plain = (
        run_search(as_question(**asked, price={"usd_per_gpu_hour": 3.0, "term": term}, recovery=Recovery(preemption_mtbf_s=3e5)))
        for term in ("spot", "on-demand")
    )
    assert (spot.found.rows.time_s > 1.001 * STEPS * spot.found.rows.step_time_s).all()
    both = plain.to_frame().set_index("layout").loc[spot.to_frame()["layout"]]
    for name in ("run_s", "cost_usd", "energy_j", "cost_lower_usd", "cost_upper_usd", "headroom_bytes"):
        assert spot.to_frame()[name].to_numpy() == pytest.approx(both[name].to_numpy()), name


@pytest.mark.parametrize(
    ("gib", "wanted"),
    [
        (1.4, Layout(tp=1, zero=1, micro_batch_size=64)),
        (1.6, Layout(tp=4, pp=2, micro_batch_size=2)),
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
    of = lambda chance: Found() if chance is None else Found(surest=one_row(chance))  # noqa: E731
    assert _likelier(of(wide), of(usual)) == likelier


def test_no_rows_have_no_order() -> None:
    assert len(simplest_first(no_rows())) == len(groups_of(no_rows().value)) == 0
