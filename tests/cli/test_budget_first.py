"""Wherever a run's money is shown, the budget stands before what is modelled, and is what ``planner run`` says."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import Run

import planner.studies.budgets
from planner.layout_search.question import as_question
from planner.layout_search.search import run_search
from planner.scenarios.scenario import Case

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
    budget = json.loads(text)["cases"][0]["bill"]["budget_usd"]["expected"]
    assert last["budget_usd"] == pytest.approx(budget)
    assert _dollars(budget) in out


def test_every_row_that_a_search_writes_has_its_budget(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, file = ("search", *QUESTION, "--objective", "cost", "--top", "3"), tmp_path / "rows.csv"
    told = json.loads(run(*asked, "--json", "--out", str(file))[1])
    budgets = [row["budget_usd"] for row in told["rows"]]
    assert all(budget > row["cost_usd"] for budget, row in zip(budgets, told["rows"], strict=True))
    assert pd.read_csv(file)["budget_usd"].to_list() == pytest.approx(budgets)
    monkeypatch.setattr(planner.studies.budgets, "MOST_ROWS", 2)
    told = json.loads(run(*asked, "--json")[1])
    has = [row["budget_usd"] is not None for row in told["rows"]]
    assert sum(has) == 2
    words = f"budget_usd is of 2 of {len(has)} rows"
    assert words in " ".join(told["notes"])
    assert words in run(*asked, "--out", str(file))[1]


def test_a_search_stopped_among_its_budgets_keeps_those_that_it_has() -> None:
    job = {"seq_len": 1024, "global_batch_size": 64, "num_tokens": 10**9}
    cluster = {"accelerator": "h100-sxm5-80gb", "num_gpus": 8}
    result = run_search(as_question(model="gpt2", cluster=cluster, job=job, price={"term": "on-demand"}, top=4))
    case = Case(label="", tables={}, where="")

    def stopped(done: int, size: int) -> None:
        assert size == len(result.rows)
        if done == 2:
            raise KeyboardInterrupt

    outlook_of = partial(planner.studies.budgets.outlook_of_row, case, result)
    whole, part = (planner.studies.budgets.budgeted(result, outlook_of, progress) for progress in (None, stopped))
    every, some = whole["budget_usd"], part["budget_usd"]
    assert every.notna().all()
    assert some.notna().sum() == 2
    assert (some.isna() | (some == every)).all()
    assert (whole.attrs["complete"], part.attrs["complete"]) == (True, False)
    assert [note for note in part.attrs["notes"] if note not in whole.attrs["notes"]] == [
        f"budget_usd is of 2 of {len(every)} rows: it was stopped before the others were simulated"
    ]


@pytest.mark.parametrize("door", ["--json", "--out"])
def test_a_search_stopped_among_its_budgets_says_so_and_ends_as_stopped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    simulated = planner.studies.budgets.outlook_of_row
    rows: list[int] = []

    def once(case: Case, result: Any, row: int) -> Any:
        rows.append(row)
        if len(rows) == 2:
            raise KeyboardInterrupt
        return simulated(case, result, row)

    monkeypatch.setattr(planner.studies.budgets, "outlook_of_row", once)
    more = ("--json",) if door == "--json" else ("--out", str(tmp_path / "rows.csv"))
    code, out, _ = run("search", *QUESTION, "--objective", "cost", "--top", "3", *more)
    assert code == 130
    assert "it was stopped before the others were simulated" in " ".join(out.split())
    if door == "--json":
        assert json.loads(out)["complete"] is False


def test_what_a_budget_may_be_is_written_as_dollars_are(run: Run) -> None:
    out = " ".join(
        run("search", "llama-3-8b", "--on", "256xh100", "--tokens", "20T", "--budget", "2.5M", "--top", "1")[1].split()
    )
    assert "is above --budget-usd $2,500,000, which limits the undisturbed cost" in out
    assert "T tokens for $100,000,000" in run("limit", "pythia-1b", "--on", "512xh100", "--budget", "100M")[1]


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
