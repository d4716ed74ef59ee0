"""Thirty random money questions: ``run``, ``plan``, ``search``, ``compare --at``, ``size`` and the page agree on every dollar."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from command_line import Run

import planner
from planner.studies.sizing import sizes

MODELS = ("pythia-1b", "llama-3.2-1b", "qwen2.5-0.5b", "llama-3-8b", "olmoe-1b-7b")
CARDS = ("h100-sxm5-80gb", "a100-sxm4-80gb", "l40s-48gb", "h200-sxm-141gb", "mi300x")
PRICES: tuple[dict[str, Any], ...] = (
    {"term": "on-demand"}, {"term": "spot"}, {"term": "reserved-1-year"}, {"term": "reserved-3-year", "other_use": 0.7},
    {"usd_per_gpu_hour": 1.7}, {"price_per_gpu_hour": 12.0, "currency": "CNY"},
)  # fmt: skip
OF_RUN: tuple[dict[str, Any], ...] = (
    {"spare_nodes": 1}, {"power_cap_w": 300.0}, {"failures": "llama-3", "restart_s": 900.0}, {"slowest_recovery_s": 7200.0},
    {"ramp_up_s": 3600.0}, {"outage_mtbf_s": 1e6, "outage_s": 7200.0}, {"evaluation_every_steps": 50, "evaluation_tokens": 10**6},
)  # fmt: skip
OF_COST: tuple[dict[str, Any], ...] = (
    {"tax_rate": 0.19}, {"egress_bytes": 1e12, "egress_usd_per_gb": 0.09}, {"own": {"purchase_usd_per_gpu": 2e4}},
    {"dataset_bytes": 1e12, "storage_usd_per_gb_month": 0.02}, {"transfer_bytes": 1e12, "transfer_usd_per_gb": 0.02},
    {"num_documents": 10**6, "seconds_per_document": 0.5, "usd_per_cpu_hour": 0.04}, {"region": "France", "pue": 1.1},
)  # fmt: skip


def question(seed: int) -> dict[str, Any]:
    """A question of training at a price, with two fields of [run] and two of [cost]."""
    draw = random.Random(seed)
    run = {"preemption_mtbf_s": draw.uniform(5e4, 1e6), "num_simulations": 100}
    for fields in draw.sample(OF_RUN, 2):
        run |= fields
    cost: dict[str, Any] = {}
    for fields in draw.sample(OF_COST, 2):
        cost |= fields
    gpus = draw.choice((1, 2, 4, 8, 16))
    return {
        "model": {"name": draw.choice(MODELS)},
        "cluster": {"accelerator": draw.choice(CARDS), "num_gpus": gpus},
        "job": {"seq_len": draw.choice((1024, 2048)), "global_batch_size": gpus * draw.choice((4, 16)), "num_tokens": 10**9},
        "price": draw.choice(PRICES),
        "run": run,
        "cost": cost,
    }


@pytest.mark.parametrize("seed", range(30))
def test_every_command_and_the_page_say_the_same_dollars(seed: int, run: Run, tmp_path: Path) -> None:
    pytest.importorskip("streamlit")
    from planner.web.answers import whole_run
    from planner.web.download import scenario_toml

    tables = question(seed)
    file = tmp_path / "scenario.toml"
    cases = [{"label": name, "tables": tables} for name in ("x", "y")]
    file.write_text(scenario_toml({"title": "x", "cases": cases}), encoding="utf-8")
    said = {}
    for name, words in {
        "run": ("run", file),
        "plan": ("plan", file),
        "at": ("compare", file, "--at", "flops"),
        "search": ("search", file, "--top", "1"),  # by time, as plan chooses; by cost another of its equals may come first
    }.items():
        code, out, err = run(*words, "--json")
        assert code == 0, err
        said[name] = json.loads(out)
    answer = planner.plan(**{name: tables[name] for name in ("model", "cluster", "job", "price")})
    assert said["plan"]["cost_usd"] == answer.cost_usd
    assert answer.price is not None
    if not answer.fits:
        assert not said["search"]["rows"]
        assert said["run"]["cases"][0]["bill"] is None
        assert said["at"]["cases"][0]["budget_usd"] is None
        return
    bill, at, outlook = said["run"]["cases"][0]["bill"], said["at"]["cases"], said["plan"]["outlook"]
    page = whole_run(tables, answer).bill
    assert page is not None
    for figure in ("total_usd", "budget_usd"):
        assert vars(getattr(page, figure)) == bill[figure] == outlook[figure] == said["search"]["outlook"][figure]
    assert page.budget_mean_usd == bill["budget_mean_usd"] == outlook["budget_mean_usd"]
    for side in at:
        for figure, theirs in (("budget_usd", bill["budget_usd"]), ("cost_usd", said["plan"]["intervals"]["cost_usd"])):
            for end in ("lower", "expected", "upper"):
                assert side[figure][end] == pytest.approx(theirs[end], rel=1e-9)
    for end, column in (("lower", "cost_lower_usd"), ("expected", "cost_usd"), ("upper", "cost_upper_usd")):
        row = said["search"]["rows"][0]
        assert row[column] == pytest.approx(said["plan"]["intervals"]["cost_usd"][end], rel=1e-9)
    assert sum(line["usd"] for line in bill["lines"]) == pytest.approx(bill["total_usd"]["expected"], rel=1e-9)
    hours = next(line for line in bill["lines"] if line["item"] == "gpu_hours")
    assert hours["unit_usd"] == answer.price.usd_per_gpu_hour
    if answer.price.preempted:  # no price of a token holds what preemptions cost
        return
    card, gpus = tables["cluster"]["accelerator"], tables["cluster"]["num_gpus"]
    for row in sizes(tables["model"]["name"], "full", seq_len=1024, accelerator=card, gpus=gpus, price=tables["price"]).rows:
        assert row.usd_per_hour == hours["unit_usd"] * gpus
