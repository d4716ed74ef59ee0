"""One question, one answer: every command that chooses a layout says what ``planner.plan`` says, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Run

import planner
from planner.common.errors import PlannerError
from planner.layout_search.question import as_question
from planner.layout_search.search import run_search
from planner.lifecycle.bill import bill_of
from planner.lifecycle.simulation import expected_run
from planner.prices.market import find_price
from planner.prices.ownership import Ownership
from planner.studies.equal_terms import on_equal_terms
from planner.studies.holding import holding
from planner.studies.limit import largest
from planner.studies.sizing import Purpose, sizes
from planner.studies.tuning_methods import tuning_choices
from planner.studies.ways import LATE, Wish, way
from planner.training.plan import Plan

TUNED: list[tuple[str, Purpose, str, int]] = [
    ("llama-3-8b", "lora", "a10g", 1),
    ("llama-3.1-8b", "qlora", "l40s", 1),
    ("llama-3.1-8b", "full", "mi300x", 1),
    ("llama-3-8b", "full", "h100", 1),  # no layout of the usual framework surely fits
    ("qwen3-30b-a3b", "lora", "h100", 2),
]


def job_of(purpose: str, gpus: int) -> dict[str, Any]:
    kind = "finetune" if purpose == "full" else purpose
    adapter = {} if purpose == "full" else {"adapter": {"rank": 16}}
    return {"kind": kind, "seq_len": 1024, "global_batch_size": gpus, "num_steps": 100, **adapter}


def said(plan: Plan) -> tuple[Any, ...]:
    return plan.layout, plan.framework.name, plan.step_time_s, plan.peak_total_bytes, plan.cost_usd


@pytest.mark.parametrize(("model", "purpose", "gpu", "gpus"), TUNED)
def test_tuning_is_one_answer(model: str, purpose: Purpose, gpu: str, gpus: int) -> None:
    tables: dict[str, Any] = {"model": {"name": model}, "cluster": f"{gpus}x{gpu}", "job": job_of(purpose, gpus)}
    answer = planner.plan(**{**tables, "model": model})
    # search
    first = run_search(as_question(model=model, cluster=tables["cluster"], job=tables["job"])).rows
    assert float(first.step_time_s[0]) == answer.step_time_s
    # size
    found = sizes(model, purpose, seq_len=1024, accelerator=gpu, gpus=gpus)
    assert bool(found.rows) == answer.recommended
    for row in found.rows:
        assert (row.cut, row.tokens_per_s, row.total_bytes) == (answer.layout.label, answer.tokens_per_s, answer.peak_total_bytes)
        assert answer.price is not None
        assert row.usd_per_hour == answer.price.usd_per_gpu_hour * gpus
        assert answer.cost_usd is not None
        tokens = answer.tokens_per_step * 100
        assert row.usd_per_million_tokens == pytest.approx(answer.cost_usd / tokens * 1e6)
    # tune
    method = {"full": "full", "lora": "lora", "qlora": "qlora"}[purpose]
    (tuned,) = tuning_choices(tables, methods=(method,))
    assert said(tuned.plan) == said(answer)


def test_a_way_may_keep_weights_on_hosts() -> None:
    """Two GPUs of 22 GiB hold 70B of frozen weights with their hosts: the list of ways says what ``plan`` says."""
    cards = {"accelerator": "a10g-24gb", "num_gpus": 2}
    tables: dict[str, Any] = {"model": {"name": "llama-3-70b"}, "cluster": cards, "job": job_of("lora", 2)}
    found = way(tables, "a10g-24gb", Wish(num_gpus=2))
    assert found.plan is not None
    assert found.plan.recommended
    assert found.plan.layout.offload_optimizer
    assert said(found.plan) == said(planner.plan(**{**tables, "model": "llama-3-70b"}))


def test_equal_terms_start_from_the_plan() -> None:
    asked: dict[str, Any] = {
        "model": "mixtral-8x7b",
        "cluster": "32xh100",
        "job": {"seq_len": 4096, "global_batch_size": 256, "num_steps": 1000},
        "price": 2.5,
    }
    mixture = planner.plan(**asked)
    dense = planner.plan(**{**asked, "model": "llama-2-13b"})
    first, second = on_equal_terms(["a", "b"], [mixture, dense], "flops")
    assert first.days.expected * 86400 == pytest.approx(mixture.run_s)
    assert first.cost_usd is not None
    assert first.cost_usd.expected == pytest.approx(mixture.cost_usd)
    budget = bill_of(expected_run(mixture, {"spare_nodes": 1}), {"tax_rate": 0.2}).budget_usd
    told, _ = on_equal_terms(["a", "b"], [mixture, dense], "flops", runs=[{"spare_nodes": 1}, {}], costs=[{"tax_rate": 0.2}, {}])
    assert told.budget_usd is not None
    for end in ("lower", "expected", "upper"):
        assert getattr(told.budget_usd, end) == pytest.approx(getattr(budget, end), rel=1e-9)
    assert first.budget_usd is not None
    assert first.budget_usd.expected < budget.expected
    assert second.plan is dense


def test_a_limit_is_where_the_plan_stops_to_fit() -> None:
    cards = {"accelerator": "h100-sxm5-80gb", "num_gpus": 1}
    tables: dict[str, Any] = {"model": {"name": "llama-3.1-8b"}, "cluster": cards, "job": job_of("lora", 1)}
    found = largest(tables, "job.seq_len", step=4096)
    assert isinstance(found.value, int)
    assert isinstance(found.next_value, int)
    here, beyond = (
        planner.plan(model="llama-3.1-8b", cluster="1xh100", job={**tables["job"], "seq_len": length}, explain=False)
        for length in (found.value, found.next_value)
    )
    assert said(here) == said(found.plan)
    assert here.recommended
    assert not beyond.recommended


PAGE: list[dict[str, Any]] = [
    {
        "model": {"name": "llama-3-8b"},
        "cluster": {"accelerator": "a10g-24gb", "num_gpus": 1},
        "job": job_of("lora", 1),
    },
    {
        "model": {"name": "mixtral-8x7b"},
        "cluster": {"node": "dgx-h100", "num_nodes": 2},
        "framework": {"name": "megatron-core"},
        "job": {"seq_len": 4096, "global_batch_size": 256, "num_tokens": 10**9},
        "price": {"usd_per_gpu_hour": 2.5},
    },
]


@pytest.mark.parametrize("tables", PAGE, ids=["tuned", "mixture"])
def test_the_page_and_the_command_line_say_what_the_library_says(tables: dict[str, Any], run: Run, tmp_path: Path) -> None:
    """The page's automatic layout, also beside a layout of one's own; ``planner plan`` of the file that the page saves."""
    pytest.importorskip("streamlit")
    from planner.web.answers import automatic, other_framework, whole_run
    from planner.web.download import scenario_toml

    answer = planner.plan(**tables)
    chosen, beside = automatic(tables), automatic({**tables, "layout": {"zero": 3, "micro_batch_size": 1}})
    assert said(chosen.known) == said(beside.known) == said(answer)
    assert chosen.known.intervals == answer.intervals
    file = tmp_path / "scenario.toml"
    file.write_text(scenario_toml({"title": "x", "cases": [{"label": "x", "tables": tables}]}), encoding="utf-8")
    code, out, err = run("plan", file, "--json")
    assert code == 0, err
    told = json.loads(out)
    for figure in ("step_time_s", "peak_total_bytes", "cost_usd", "fits"):
        assert told[figure] == getattr(answer, figure)
    page = whole_run(tables, chosen.known)
    assert page.bill is not None
    assert told["outlook"]["budget_usd"] == vars(page.bill.budget_usd)
    assert told["outlook"]["total_usd"] == vars(page.bill.total_usd)
    other = other_framework(tables, chosen.known)
    assert told["elsewhere"] == (None if other is None else other.to_dict())


@pytest.mark.parametrize("term", ["on-demand", "spot", "reserved-1-year"])
def test_every_command_says_the_same_dollars(term: str, run: Run, tmp_path: Path) -> None:
    """``run``, ``plan``, ``search --objective cost``, ``compare --at`` and the page, under one [run] and [cost]."""
    pytest.importorskip("streamlit")
    from planner.web.answers import whole_run
    from planner.web.download import scenario_toml

    tables: dict[str, Any] = {
        "model": {"name": "llama-3-8b"},
        "cluster": {"accelerator": "h100-sxm5-80gb", "num_gpus": 8},
        "job": {"seq_len": 4096, "global_batch_size": 64, "num_tokens": 10**9},
        "price": {"term": term},
        "run": {"preemption_mtbf_s": 200_000.0, "spare_nodes": 1, "num_simulations": 200},
        "cost": {"tax_rate": 0.1},
    }
    other = {**tables, "model": {"name": "llama-2-7b"}}
    cases = [{"label": "x", "tables": tables}, {"label": "y", "tables": other}]
    file = tmp_path / "scenario.toml"
    file.write_text(scenario_toml({"title": "x", "cases": cases}), encoding="utf-8")
    said = {}
    for name, words in {
        "run": ("run", file), "plan": ("plan", file), "at": ("compare", file, "--at", "flops"),
        "search": ("search", file, "--objective", "cost"),
    }.items():  # fmt: skip
        code, out, err = run(*words, "--json")
        assert code == 0, err
        said[name] = json.loads(out)
    bill, at, plan, search = said["run"]["cases"][0]["bill"], said["at"]["cases"][0], said["plan"], said["search"]
    assert plan["outlook"]["total_usd"] == search["outlook"]["total_usd"] == bill["total_usd"]
    assert plan["outlook"]["budget_usd"] == search["outlook"]["budget_usd"] == at["budget_usd"] == bill["budget_usd"]
    assert plan["outlook"]["budget_mean_usd"] == search["outlook"]["budget_mean_usd"] == bill["budget_mean_usd"]
    sure, row = plan["intervals"]["cost_usd"], search["rows"][0]
    for end, column in (("lower", "cost_lower_usd"), ("expected", "cost_usd"), ("upper", "cost_upper_usd")):
        assert row[column] == pytest.approx(sure[end], rel=1e-9)
        assert at["cost_usd"][end] == pytest.approx(sure[end], rel=1e-9)
    answer = planner.plan(**{name: tables[name] for name in ("model", "cluster", "job", "price")})
    page = whole_run(tables, answer)
    assert page.bill is not None
    assert vars(page.bill.budget_usd) == bill["budget_usd"]
    # size asks about tuning: its hour is that of these GPUs at this term
    rent = next(line for line in bill["lines"] if line["item"] == "gpu_hours")
    assert answer.price is not None
    assert rent["unit_usd"] == answer.price.usd_per_gpu_hour
    words = ("size", "llama-3-8b", "--for", "full", "--on", "h100", "--gpus", "8", "--seq-len", "4096", "--batch", "8")
    code, out, err = run(*words, "--price", term, "--json")
    if term == "spot":  # no price per token holds what preemptions cost
        assert code == 2
        assert "price.term = 'spot'" in err
    else:
        (size,) = json.loads(out)["rows"]
        assert size["usd_per_hour"] == rent["unit_usd"] * 8
        assert size["usd_per_million_tokens"] == pytest.approx(size["usd_per_hour"] / 3.6e3 / size["tokens_per_s"] * 1e6)


@pytest.mark.parametrize("term", ["on-demand", "reserved-3-year", "marketplace"])
def test_size_says_the_dollars_of_the_plan_and_of_the_run_at_every_term(term: str) -> None:
    """Of tuning: an hour and a million tokens of ``planner size`` are the plan's and those of the bill's first line; what a term
    binds beyond the run is no price of a token."""
    job = {"kind": "finetune", "seq_len": 1024, "global_batch_size": 8, "num_steps": 1000}
    answer = planner.plan(model="llama-3-8b", cluster="8xh100", job=job, price={"term": term})
    (row,) = sizes("llama-3-8b", "full", seq_len=1024, accelerator="h100", gpus=8, price={"term": term}).rows
    bill = bill_of(expected_run(answer, {"failures": "none", "checkpoint": "none", "restart_s": 0.0}))
    hours = next(line for line in bill.lines if line.item == "gpu_hours")
    assert (row.cut, row.tokens_per_s) == (answer.layout.label, answer.tokens_per_s)
    assert row.usd_per_hour == hours.unit_usd * 8
    assert row.usd_per_million_tokens is not None
    tokens = answer.tokens_per_step * 1000
    assert row.usd_per_million_tokens == pytest.approx(hours.quantity * hours.unit_usd / tokens * 1e6, rel=1e-9)
    if term != "reserved-3-year":
        assert answer.cost_usd == pytest.approx(row.usd_per_million_tokens * tokens / 1e6, rel=1e-9)


def test_an_owned_hour_is_the_same_in_a_bill_and_over_the_years() -> None:
    """``planner run`` with [cost.own], ``planner own``, and the dollars of the run on GPUs of one's own."""
    own = {"purchase_usd_per_gpu": 30_000.0, "utilisation": 0.7, "years": 4.0}
    job = {"seq_len": 4096, "global_batch_size": 64, "num_tokens": 10**9}
    whole = expected_run(planner.plan(model="llama-3-8b", cluster="8xh100", job=job), {"num_simulations": 200})
    bill = bill_of(whole, {"own": own})
    found = holding(whole.plan.cluster, Ownership(**own), years=4.0)
    assert bill.owned is not None
    assert bill.owned_usd is not None
    assert bill.owned.to_dict() == found.owned.to_dict()
    assert bill.owned_usd.expected == pytest.approx(whole.gpu_hours.expected * found.owned.usd_per_gpu_hour)


def test_a_price_of_ones_own_and_a_provider_count_in_size() -> None:
    (row,) = sizes("llama-3-8b", "lora", seq_len=1024, accelerator="h100", gpus=2, price=2.5).rows
    assert row.usd_per_hour == 5.0
    found = sizes("llama-3-8b", "lora", seq_len=1024, accelerator="h100,l40s,rtx-4090", gpus=1, price={"provider": "AWS"})
    assert found.rows
    assert all("AWS" in row.quote for row in found.rows)
    assert "AWS" in found.left_out["rtx-4090-24gb"]
    for wrong, words in (
        (2.5, "one price for 2 types"),
        ({"term": "spot"}, "taken away"),
        ({"provider": "Nobody"}, "no such quote"),
        (find_price("h100-sxm5-80gb"), "is no price of l40s"),
    ):
        with pytest.raises(PlannerError, match=words):
            sizes("llama-3-8b", "lora", accelerator="h100,l40s", price=wrong)
    with pytest.raises(PlannerError, match="is no price of l40s"):
        sizes("llama-3-8b", "lora", accelerator="l40s", price=find_price("h100-sxm5-80gb"))


def test_dollars_that_a_user_gives_are_an_offer_whatever_the_term() -> None:
    """A price of one's own is paid, an estimate is not; a term beside it changes nothing."""
    for price, rented in (
        (0.05, True),
        ({"usd_per_gpu_hour": 0.05}, True),
        ({"usd_per_gpu_hour": 0.05, "term": "on-demand"}, True),
        ({"term": "on-demand"}, False),
        (None, False),
    ):
        assert [row.rented for row in sizes("gpt2", "serve", accelerator="gtx-1070", price=price).rows] == [rented], price


def test_a_deadline_on_spot_nodes_holds_their_preemptions() -> None:
    """The list of ways to do it: in time undisturbed, too late where a node is taken away every hour."""
    asked: dict[str, Any] = {
        "model": {"name": "llama-3-8b"},
        "job": {"seq_len": 4096, "global_batch_size": 64, "num_tokens": 10**9},
        "price": {"term": "spot"},
    }
    undisturbed = way(asked, "h100-sxm5-80gb", Wish(num_gpus=8)).plan
    assert undisturbed is not None
    assert undisturbed.run_s is not None
    wish = Wish(num_gpus=8, deadline_s=1.1 * undisturbed.run_s)
    assert way(asked, "h100-sxm5-80gb", wish).enough
    taken = way({**asked, "run": {"preemption_mtbf_s": 3600.0}}, "h100-sxm5-80gb", wish)
    assert (taken.enough, taken.why) == (False, LATE)


def test_a_price_per_token_is_that_of_serving() -> None:
    """``planner size --for serve`` and ``planner serve`` of what it found, a number of sequences at once being given."""
    (row,) = sizes("llama-3.1-8b", "serve", seq_len=1280, batch=8, accelerator="l40s").rows
    cards = {"accelerator": "l40s-48gb", "num_gpus": row.num_gpus}
    served = planner.serve(model="llama-3.1-8b", cluster=cards, serving={"prompt": 960, "output": 320, "batch": 8})
    assert row.usd_per_million_tokens == pytest.approx(served.expense.usd_per_million_tokens)
    assert row.tokens_per_s == served.output_tokens_per_s


def test_nodes_that_are_always_taken_away_are_no_way() -> None:
    tables = {
        "model": {"name": "llama-3-8b"},
        "job": {"seq_len": 4096, "global_batch_size": 64, "num_steps": 100},
        "price": {"term": "spot"},
        "run": {"preemption_mtbf_s": 1.0},
    }
    found = way(tables, "h100-sxm5-80gb", Wish(num_gpus=8, deadline_s=1e9))
    assert not found.enough
    assert "the run would never end" in found.why
