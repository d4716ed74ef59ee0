"""Wherever a run's money is shown, the budget stands before what is modelled, and is what ``planner run`` says."""

from __future__ import annotations

import json
import re

import pytest
from command_line import Run

QUESTION = ("llama-3.2-1b", "--on", "8xh100", "--tokens", "3B")
ANSWERS = {
    "plan": ("plan", *QUESTION),
    "plan --details": ("plan", *QUESTION, "--details"),
    "run": ("run", *QUESTION),
    "compare": ("compare", QUESTION[0], "pythia-1b", *QUESTION[1:]),
    "compare --at": ("compare", QUESTION[0], "pythia-1b", *QUESTION[1:], "--at", "flops"),
    "search": ("search", *QUESTION, "--objective", "cost", "--top", "2"),
}


def _dollars(usd: float) -> str:
    return f"${usd:,.2f}" if usd < 100 else f"${usd:,.0f}"


@pytest.mark.parametrize("name", ANSWERS)
def test_the_budget_stands_before_what_is_modelled(name: str, run: Run) -> None:
    plan = json.loads(run("plan", *QUESTION, "--json")[1])
    if name == "search":  # its first row need not be the plan's
        plan = json.loads(run(*ANSWERS[name], "--json")[1])
        plan = {"cost_usd": plan["rows"][0]["cost_usd"], "outlook": plan["outlook"]}
    budget, cost = _dollars(plan["outlook"]["budget_usd"]["expected"]), _dollars(plan["cost_usd"])
    code, out, err = run(*ANSWERS[name])
    assert code == 0, err
    assert budget != cost
    modelled = _dollars(plan["outlook"]["total_usd"]["expected"]) if name == "run" else cost
    places = [re.search(re.escape(money) + r"(?![\d,.]\d)", out) for money in (budget, modelled)]
    assert None not in places, out
    first, second = (place.start() for place in places if place)
    assert first < second, out


def test_each_row_of_a_search_has_the_budget_of_its_own_run(run: Run) -> None:
    out = run("search", *QUESTION, "--objective", "cost", "--top", "3")[1]
    rows = json.loads(run("search", *QUESTION, "--objective", "cost", "--top", "3", "--json")[1])["rows"]
    last = next(row for row in rows if row["simplest"] and row["group"] == 3)
    code, text, err = run("run", *QUESTION, "--framework", last["framework"], "--layout", last["layout"], "--json")
    assert code == 0, err
    told = json.loads(text)
    assert _dollars(told["cases"][0]["bill"]["budget_usd"]["expected"]) in out


def test_tuning_has_a_budget_of_each_method(run: Run) -> None:
    question = ("tune", "llama-3.2-1b", "--on", "1xh100", "--tokens", "100M")
    told = json.loads(run(*question, "--json")[1])["methods"]
    out = run(*question)[1]
    assert len(told) == 3
    for method in told:
        budget, cost = method["outlook"]["budget_usd"]["expected"], method["plan"]["cost_usd"]
        assert out.index(_dollars(budget)) < out.index(_dollars(cost))
    job = told[0]["plan"]["job"]
    given = [f"job.{name}={job[name]}" for name in ("kind", "seq_len", "global_batch_size", "precision")]
    whole = json.loads(run("run", *question[1:], *[word for field in given for word in ("--set", field)], "--json")[1])
    assert whole["cases"][0]["bill"]["budget_usd"] == told[0]["outlook"]["budget_usd"]
