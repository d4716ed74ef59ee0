"""The most tokens that money and time pay for: their budget keeps to both, a step more does not."""

from __future__ import annotations

import json

import pytest
from command_line import Run

from planner.common.errors import PlannerError
from planner.common.quantities import dollars, duration_s
from planner.reports.text import count
from planner.scenarios.scenario import Case
from planner.studies.affordable import Means, affordable
from planner.training.planning import lasting

TABLES = {
    "model": {"name": "pythia-1b"},
    "cluster": {"accelerator": "h100-sxm5-80gb", "num_gpus": 8},
    "job": {"seq_len": 2048, "global_batch_size": 256, "num_tokens": 10**9},
    "run": {"num_simulations": 100},
}


def case(**tables: dict[str, object]) -> Case:
    return Case(label="x", tables={**TABLES, **tables}, where="")


@pytest.mark.parametrize(("usd", "days"), [(500.0, None), (None, 2.0), (500.0, 2.0)])
def test_the_budget_keeps_to_the_means_and_one_percent_more_does_not(usd: float | None, days: float | None) -> None:
    means = Means(usd=usd, seconds=None if days is None else days * 86400.0)
    found = affordable(case(), means)
    assert means.pay_for(found.outlook)
    longer = case(job={**TABLES["job"], "num_tokens": int(1.01 * found.num_tokens)})
    assert not means.pay_for(longer.outlook(longer.plan()))


def test_more_money_and_more_time_never_pay_for_fewer_tokens() -> None:
    little, much = (affordable(case(), Means(usd=usd, seconds=1e5)).num_tokens for usd in (100.0, 400.0))
    assert little < much
    both = affordable(case(), Means(usd=400.0, seconds=1e4)).num_tokens
    assert both <= min(much, affordable(case(), Means(seconds=1e4)).num_tokens)


def test_a_price_twice_as_high_pays_for_half_the_tokens() -> None:
    one, two = (affordable(case(price={"usd_per_gpu_hour": usd}), Means(usd=5000.0)).num_tokens for usd in (1.0, 2.0))
    assert two == pytest.approx(one / 2.0, rel=0.01)


def test_a_commitment_that_costs_more_than_the_means_pays_for_nothing() -> None:
    with pytest.raises(PlannerError, match=r"budget = \$5,000: too little for one step"):
        affordable(case(price={"term": "reserved-1-year"}), Means(usd=5000.0))
    with pytest.raises(PlannerError, match="preemption_mtbf_s"):
        affordable(case(price={"term": "spot"}), Means(usd=5000.0))


@pytest.mark.parametrize("price", [{"usd_per_gpu_hour": 2.0}, {"term": "reserved-1-year"}])
def test_a_plan_that_lasts_is_what_plan_answers_for_that_length(price: dict[str, object]) -> None:
    """In both directions, with the notes of a term that binds."""
    lengths = (1, 3_000, 90_000)
    plans = [case(price=price, job={"seq_len": 2048, "global_batch_size": 256, "num_steps": n}).plan() for n in lengths]
    for answer in plans:
        for number, other in zip(lengths, plans, strict=True):
            assert lasting(answer, number).to_dict() == other.to_dict()


def needed(usd: float | None = None, seconds: float | None = None, **tables: dict[str, object]) -> list[str]:
    """What of the two means is said to be needed."""
    with pytest.raises(PlannerError, match="too little for one step; give at least ") as told:
        affordable(case(**tables), Means(usd=usd, seconds=seconds))
    assert "e-" not in str(told.value)
    return str(told.value).rpartition(" at least ")[2].rstrip(".").split(", ")


@pytest.mark.parametrize("usd_per_gpu_hour", [0.013, 0.37, 2.5, 41.0, 1300.0, 77_000.0])
def test_what_is_said_to_be_needed_is_enough_as_it_is_printed(usd_per_gpu_hour: float) -> None:
    """Rounded up: to nearest, the printed number would be refused again, and might be the one that was asked with."""
    price: dict[str, object] = {"usd_per_gpu_hour": usd_per_gpu_hour}
    usd, time = needed(1e-7, 0.001, price=price)
    means = Means(usd=dollars(usd, "--budget"), seconds=duration_s(time, "--deadline"))
    assert affordable(case(price=price), means).num_tokens >= 256 * 2048
    for one in (0.99, 0.5):
        assert needed(usd=one * dollars(usd, ""), seconds=1e9, price=price) == [usd]


def test_what_is_too_little_is_named_in_its_own_units() -> None:
    with pytest.raises(PlannerError, match=r"^budget = \$0\.0000001, deadline = 1 ms: too little for one step"):
        affordable(case(), Means(usd=1e-7, seconds=0.001))
    with pytest.raises(PlannerError, match=r"^deadline = 2 s: too little for one step; give at least [\d.]+ (s|min|h)\.$"):
        affordable(case(), Means(usd=1e6, seconds=2.0))


def test_limit_answers_on_the_command_line(run: Run) -> None:
    question = ("limit", "pythia-1b", "--on", "8xh100", "--budget", "2k", "--deadline", "3d")
    code, out, err = run(*question, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["outlook"]["budget_usd"]["expected"] <= 2000.0
    assert told["outlook"]["budget_s"]["expected"] <= 3 * 86400.0
    assert f"{count(told['value'])} tokens for $2,000 in 3 days" in run(*question)[1]
    code, _, err = run(*question, "--field", "job.seq_len")
    assert code == 2
    assert "limit job.num_tokens" in err
