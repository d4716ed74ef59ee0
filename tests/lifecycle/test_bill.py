"""Bills: hand calculations, published energy, break-even, what is refused."""

from __future__ import annotations

import datetime
import json
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planner
from planner.common.errors import PlannerError
from planner.lifecycle.bill import ITEMS, Bill, bill_of, charged_run, drawn_w, embedding_bytes, energy_kwh, preprocessing_s
from planner.lifecycle.sensitivity import tornado
from planner.lifecycle.simulation import WholeRun, expected_run
from planner.prices.carbon import find_grid
from planner.prices.market import as_price, find_price, market
from planner.prices.ownership import (
    Ownership,
    constants,
    find_purchase,
    power_w_per_gpu,
    purchase_usd,
    purchases,
)
from planner.prices.price import Price
from planner.reports.focus import MANDATORY, focus_rows, focus_table

TODAY = datetime.date(2026, 11, 21)


@pytest.fixture(scope="module")
def result() -> WholeRun:
    plan = planner.plan(
        model="llama-2-7b",
        cluster="dgx-a100-80gb",
        job={"seq_len": 2048, "global_batch_size": 64, "num_tokens": 10**9},
        layout={"tp": 2, "sequence_parallel": True, "zero": 1},
        price={"term": "on-demand", "provider": "Azure"},
    )
    return expected_run(plan)


def test_blooms_energy_and_carbon() -> None:
    """Luccioni et al. 2022, table 1 and section 4.1: 1,082,990 GPU-hours at 400 W = 433,196 kWh, x 57 g = 24.69 t."""
    assert energy_kwh(1_082_990, 400.0) == pytest.approx(433_196)
    assert energy_kwh(1_082_990, 400.0) * 57 / 1e6 == pytest.approx(24.69, rel=1e-3)
    assert find_grid("france").grams_co2_per_kwh == pytest.approx(57, rel=0.05)


def test_the_bill_adds_up(result: WholeRun) -> None:
    fields: dict[str, Any] = {
        "region": "France", "pue": 1.2, "power_w_per_gpu": 600.0, "dataset_bytes": 1e12, "kept_checkpoints": 3,
        "storage_usd_per_gb_month": 0.02, "storage_s": 365.25 / 12 * 86400, "egress_bytes": 5e11, "egress_usd_per_gb": 0.09,
        "num_documents": 3600, "seconds_per_document": 2.0, "num_workers": 4, "usd_per_cpu_hour": 0.05,
    }  # fmt: skip
    bill = bill_of(result, fields, TODAY)
    stored = 1e12 + 3 * result.checkpoint_bytes
    assert bill.stored_bytes == stored
    assert bill.items_usd["storage"].expected == pytest.approx(stored / 1e9 * 0.02)
    assert bill.items_usd["egress"].expected == pytest.approx(45.0)
    assert (bill.preprocessing_s, bill.preprocessing_cpu_hours) == (1800.0, 2.0)
    assert bill.items_usd["preprocessing"].expected == pytest.approx(0.10)
    price = result.plan.price
    assert price is not None
    assert bill.items_usd["gpu_hours"].expected == pytest.approx(result.gpu_hours.expected * price.usd_per_gpu_hour)
    for end in ("expected", "lower", "upper"):
        assert getattr(bill.total_usd, end) == pytest.approx(sum(getattr(i, end) for i in bill.items_usd.values()))
    assert bill.total_usd.lower < bill.total_usd.expected < bill.total_usd.upper
    assert bill.energy_kwh.expected == pytest.approx(result.gpu_hours.expected * 0.6 * 1.2)
    assert bill.grams_co2 is not None
    assert bill.grams_co2.expected == pytest.approx(bill.energy_kwh.expected * 56.039)


def test_money_has_date_source_interval_and_says_when_it_is_stale(result: WholeRun) -> None:
    old = replace(result, plan=replace(result.plan, price=find_price("a100-sxm4-80gb")))
    old = replace(old, plan=replace(old.plan, price=replace(old.plan.price, date="2025-03-01")))
    bill = bill_of(old, {}, TODAY)
    assert bill.price.date
    assert bill.price.source
    assert bill.stale
    assert any("stale price" in note for note in bill.notes)
    assert bill.market is not None
    assert bill.market.num_providers == len({p.provider for p in market("a100-sxm4-80gb", "on-demand")})
    fresh = bill_of(replace(result, plan=replace(result.plan, price=replace(bill.price, date="2026-11-01"))), {}, TODAY)
    assert not fresh.stale
    assert "stale" in Bill.to_dict(bill)["price"]


def test_energy_and_owning_are_as_uncertain_as_power_and_purchase_unless_they_are_given(result: WholeRun) -> None:
    hours, own = result.gpu_hours, Ownership.build({"purchase_usd_per_gpu": 30_000}, "own")
    wide, known = bill_of(result, {"own": Ownership()}, TODAY), bill_of(result, {"power_w_per_gpu": 600.0, "own": own}, TODAY)
    assert known.energy_kwh.lower / known.energy_kwh.expected == pytest.approx(hours.lower / hours.expected)
    assert wide.energy_kwh.upper / wide.energy_kwh.expected > hours.upper / hours.expected
    assert wide.owned_usd is not None
    assert known.owned_usd is not None
    assert known.owned_usd.upper / known.owned_usd.expected == pytest.approx(hours.upper / hours.expected)
    assert wide.owned_usd.upper / wide.owned_usd.expected > known.owned_usd.upper / known.owned_usd.expected
    share = energy_kwh(1.0, constants().power_share * 10_200 / 8) * math.exp(1.645 * constants().power_share_spread)
    told = next(note for note in wide.notes if "average power" in note)
    mean, low, high = (int(one) for one in re.findall(r"(\d+)%", told)[:3])
    assert low < mean < high, told
    assert high == pytest.approx(100.0 * share / energy_kwh(1.0, 10_200 / 8), abs=0.5)
    assert share > energy_kwh(1.0, 8_400 / 8)  # the most of an 8 x H100 node: Latif et al. 2024, arXiv 2412.08602


def test_a_million_vectors_of_claim_c07() -> None:
    assert embedding_bytes(1e6, 768) == 3.072e9
    assert embedding_bytes(1e6, 768, "int8") == 0.768e9
    assert preprocessing_s(1e6, 0.8, 8) == (1e5, pytest.approx(222.22, rel=1e-4))


def test_owning_from_the_catalog(result: WholeRun) -> None:
    bill = bill_of(result, {"own": {}}, TODAY)
    assert bill.owned is not None
    assert bill.owned.purchase is not None
    assert bill.owned.purchase.source
    assert power_w_per_gpu(result.plan.cluster) == pytest.approx(0.75 * 6500 / 8)
    price, quote = purchase_usd("rtx-3070-8gb")
    assert (quote.usd_per_gpu, quote.covers) == (499.0, "card")
    assert price == pytest.approx(499 * 1.64 / 0.81)
    servers = sorted(
        p.usd_per_gpu
        for p in purchases()
        if p.accelerator == "h100-sxm5-80gb" and p.covers == "server" and p.date >= "2023-09-01"
    )
    assert servers[0] < find_purchase("h100-sxm5-80gb").usd_per_gpu < servers[-1]


def test_a_bill_states_the_hours_that_nothing_uses(result: WholeRun) -> None:
    bound = replace(result, plan=replace(result.plan, price=Price(usd_per_gpu_hour=2.0, term="reserved-1-year")))
    bill = bill_of(bound, {}, TODAY)
    assert bill.items_usd["commitment"].expected > bill.items_usd["gpu_hours"].expected
    assert bill.total_usd.expected == pytest.approx(365 * 24 * 8 * 2.0)
    for end in ("lower", "expected", "upper"):  # however long the run takes, and with the budget's surplus: it is paid already
        assert getattr(bill.total_usd, end) == pytest.approx(bill.total_usd.expected)
        assert getattr(bill.budget_usd, end) == pytest.approx(bill.total_usd.expected)


@pytest.mark.parametrize("other_use", [0.0, 0.5])
@pytest.mark.parametrize("days", [(100, 120, 150), (320, 350, 400), (320, 373, 437), (400, 450, 500)])
def test_hours_and_the_rest_of_a_term_add_up_to_what_holding_the_gpus_costs(
    days: tuple[int, ...], other_use: float, result: WholeRun
) -> None:
    """Of both ends, for runs below, astride and above a year's term: no run costs less than the term does."""
    price = Price(usd_per_gpu_hour=2.0, term="reserved-1-year", other_use=other_use)
    bound = replace(result, plan=replace(result.plan, price=price))
    gpus = bound.plan.num_gpus
    hours = replace(bound.gpu_hours, **dict(zip(("lower", "expected", "upper"), (24.0 * gpus * d for d in days), strict=True)))
    items = bill_of(replace(bound, gpu_hours=hours), {}, TODAY).items_usd
    assert (items["commitment"].expected > 0.0) == (days[1] < 365)
    assert items["gpu_hours"].expected == pytest.approx(2.0 * hours.expected)
    for end, day in zip(("lower", "expected", "upper"), days, strict=True):
        by_hand = 2.0 * 24.0 * gpus * (day + max(365 - day, 0) * (1.0 - other_use))
        assert getattr(items["gpu_hours"], end) + getattr(items["commitment"], end) == pytest.approx(by_hand), end


def test_every_line_is_its_quantity_times_its_unit_price_with_a_source(result: WholeRun) -> None:
    """Tax is on all others; a spare node of eight is rented as long as the run's own node; transfer by hand: 200 USD."""
    spare = replace(result, run=result.run.replaced(spare_nodes=1))
    fields: dict[str, Any] = {
        "transfer_bytes": 1e13,
        "transfer_usd_per_gb": 0.02,
        "tax_rate": 0.2,
        "tags": {"team": "nlp"},
        "dataset_bytes": 1e12,
        "storage_usd_per_gb_month": 0.02,
        "egress_bytes": 1e9,
        "egress_usd_per_gb": 0.1,
        "num_documents": 3600,
        "seconds_per_document": 2.0,
        "usd_per_cpu_hour": 0.05,
    }
    plain, bill = bill_of(result, {}, TODAY), bill_of(spare, fields, TODAY)
    assert {line.item for line in bill.lines} == {name for name in ITEMS if name != "commitment"}
    for line in bill.lines:
        assert line.quantity * line.unit_usd == pytest.approx(line.usd)
        assert line.source
    assert sum(line.usd for line in bill.lines) == pytest.approx(bill.total_usd.expected)
    usd = {line.item: line.usd for line in bill.lines}
    assert usd["spares"] == pytest.approx(usd["gpu_hours"]) == pytest.approx(plain.total_usd.expected)
    assert usd["transfer"] == pytest.approx(200.0)
    assert usd["tax"] == pytest.approx(0.2 * (bill.total_usd.expected - usd["tax"]))
    row = focus_table([("a", spare, bill)], TODAY, {"project": "x"})[0]
    assert json.loads(row["Tags"]) == {"team": "nlp", "project": "x"}


def test_the_mean_of_a_budget_is_above_its_middle(result: WholeRun) -> None:
    bill = bill_of(result, {}, TODAY)
    assert bill.budget_usd.expected < bill.budget_mean_usd < bill.budget_usd.upper
    draws = np.random.default_rng(0).standard_normal(200_000)
    low, high = (math.log(end / bill.budget_usd.expected) / 1.6448536 for end in (bill.budget_usd.lower, bill.budget_usd.upper))
    money = bill.budget_usd.expected * np.exp(draws * np.where(draws < 0, -low, high))
    assert bill.budget_mean_usd == pytest.approx(float(money.mean()), rel=0.01)


def test_a_power_cap_lowers_power_and_never_the_energy_below_what_the_cap_allows(result: WholeRun) -> None:
    """A100 at 400 W rated: 300 W on average; a cap of 250 W takes off 50 W of the server's share."""
    full, capped = drawn_w(result.plan.cluster), drawn_w(result.plan.cluster, 250.0)
    assert full - capped == pytest.approx(50.0)
    assert drawn_w(result.plan.cluster, 350.0) == full
    held = expected_run(result.plan, {"power_cap_w": 250.0})
    before, after = bill_of(result, {}, TODAY), bill_of(held, {}, TODAY)
    assert after.total_usd.expected > before.total_usd.expected
    assert after.energy_kwh.expected < before.energy_kwh.expected


def test_a_given_power_is_what_a_cap_holds_back(result: WholeRun) -> None:
    """Of 956 W of a DGX A100's kind the GPU has its part; less is drawn where less is given, and a cap above it holds nothing."""
    answer, whole = result.plan, power_w_per_gpu(result.plan.cluster)
    cap = {"power_cap_w": 250.0}
    hours, kwh = {}, {}
    for watts in (0.5 * whole, whole, 1.2 * whole):
        run = charged_run(answer, cap, {"power_w_per_gpu": watts})
        bill = bill_of(run, {"power_w_per_gpu": watts, "pue": 1.0}, TODAY)
        hours[watts], kwh[watts] = run.gpu_hours, bill.energy_kwh
        assert bill.energy_kwh.upper / bill.energy_kwh.expected == pytest.approx(run.gpu_hours.upper / run.gpu_hours.expected)
        assert all(swing.name != "power without the cap" for swing in tornado(run, bill))
        held = watts * (1 - 300.0 / whole) + 250.0
        assert bill.energy_kwh.expected <= energy_kwh(run.gpu_hours.expected, held) * (1 + 1e-9)
    assert hours[0.5 * whole] == expected_run(answer, power_w_per_gpu=0.5 * whole).gpu_hours
    assert sorted(one.expected for one in hours.values()) == [one.expected for one in hours.values()]
    assert hours[whole].expected == expected_run(answer, cap).gpu_hours.expected
    with pytest.raises(PlannerError, match="give expected_run the same power_w_per_gpu"):
        bill_of(expected_run(answer, cap), {"power_w_per_gpu": 600.0}, TODAY)


def test_what_a_cap_holds_is_no_doubt_of_the_energy(result: WholeRun) -> None:
    """A cap far below the draw leaves the rest of the server alone uncertain."""
    held = bill_of(run := expected_run(result.plan, {"power_cap_w": 120.0}), {}, TODAY)
    free = bill_of(expected_run(result.plan), {}, TODAY)
    whole, reach = power_w_per_gpu(result.plan.cluster), math.exp(1.6448536 * constants().power_share_spread)
    rest = whole - 300.0
    most = (rest * reach + 120.0) / (rest + 120.0)
    drawn = math.hypot(math.log(run.gpu_hours.upper / run.gpu_hours.expected), math.log(most))
    assert math.log(held.energy_kwh.upper / held.energy_kwh.expected) == pytest.approx(drawn)
    assert most < reach
    assert free.energy_kwh.upper / free.energy_kwh.expected > reach


def test_spot_never_has_the_goodput_of_on_demand(result: WholeRun) -> None:
    """Under one [run]: nodes on demand stay, those at the price of spot are taken away."""
    assert result.plan.price is not None
    spot = replace(result.plan, price=replace(result.plan.price, term="spot"))
    asked: list[dict[str, Any]] = [{"preemption_mtbf_s": s} for s in (1e7, 1e6, 1e5)]
    stays = {expected_run(result.plan, run).goodput.expected for run in ({}, *asked)}
    goodput = [*stays, *(expected_run(spot, run).goodput.expected for run in asked)]
    assert goodput == sorted(goodput, reverse=True)
    assert len(set(goodput)) == len(goodput) == 4
    assert any("preemption_mtbf_s does not count" in note for note in expected_run(result.plan, asked[0]).notes)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "region": ({"region": "Frence"}, "did you mean France"),
    "negative": ({"egress_bytes": -1.0, "egress_usd_per_gb": 1.0}, "egress_bytes"),
    "storage without price": ({"kept_checkpoints": 2}, "storage_usd_per_gb_month is missing"),
    "egress without price": ({"egress_bytes": 1e9}, "egress_usd_per_gb is missing"),
    "cpu without price": ({"num_documents": 5, "seconds_per_document": 1.0}, "usd_per_cpu_hour is missing"),
    "half a quantity": ({"num_vectors": 5}, "num_vectors and vector_dimensions work together"),
    "pue below one": ({"pue": 0.9}, "pue = 0.9"),
    "typo": ({"regoin": "France"}, "did you mean region"),
    "typo below": ({"own": {"yaers": 5}}, "did you mean years"),
}


@pytest.mark.parametrize("what", sorted(BAD))
def test_bad_costs_are_explained(what: str, result: WholeRun) -> None:
    fields, named = BAD[what]
    with pytest.raises(PlannerError) as caught:
        bill_of(result, fields, TODAY)
    assert named in str(caught.value)


@pytest.mark.parametrize(("date", "said"), [("", True), ("2026-11-01", False)])
def test_a_price_without_a_date_is_said(result: WholeRun, date: str, said: bool) -> None:
    price = Price(usd_per_gpu_hour=2.0, term="own price", date=date)
    priced = replace(result, plan=replace(result.plan, price=price))
    assert ("the price was given without a date" in bill_of(priced, {}, TODAY).notes) == said


def test_no_price_is_said(result: WholeRun) -> None:
    with pytest.raises(PlannerError, match=r"give price\.usd_per_gpu_hour"):
        bill_of(replace(result, plan=replace(result.plan, price=None)), {}, TODAY)
    free = replace(result, plan=replace(result.plan, price=Price(usd_per_gpu_hour=0.0, term="own price")))
    assert bill_of(free, {}, TODAY).total_usd.expected == 0


@given(st.floats(1.0, 4.0), st.floats(1.0, 2.0))
@settings(max_examples=15)
def test_a_wider_spread_of_quotes_never_narrows_a_bill(result: WholeRun, spread: float, wider: float) -> None:
    """The price's own interval is a part of the bill's; without one the bill is as uncertain as its hours."""

    def ends(factor: float) -> tuple[float, float]:
        price = Price(
            term="on-demand", usd_per_gpu_hour=2.0, lower_usd_per_gpu_hour=2.0 / factor, upper_usd_per_gpu_hour=2.0 * factor
        )
        bill = bill_of(replace(result, plan=replace(result.plan, price=price)), {}, TODAY)
        assert bill.total_usd.lower <= bill.total_usd.expected <= bill.total_usd.upper
        assert bill.budget_usd.upper / bill.budget_usd.expected >= factor * (1 - 1e-9)
        return bill.total_usd.lower, bill.total_usd.upper

    certain, narrow, broad = ends(1.0), ends(spread), ends(spread * wider)
    assert certain == pytest.approx((2.0 * result.gpu_hours.lower, 2.0 * result.gpu_hours.upper))
    assert broad[0] <= narrow[0] * (1 + 1e-9)
    assert broad[1] >= narrow[1] * (1 - 1e-9)


def test_the_rows_of_focus_add_up_to_the_budget(result: WholeRun) -> None:
    bill = bill_of(result, {"dataset_bytes": 1e12, "storage_usd_per_gb_month": 0.02, "storage_s": 86_400.0}, TODAY)
    rows = focus_rows("case", result, bill, TODAY, '{"team": "nlp"}')
    assert sum(r["BilledCost"] for r in rows) == pytest.approx(bill.budget_usd.expected)
    assert sum(r["BilledCost"] for r in rows if r["ChargeCategory"] == "Usage") == pytest.approx(bill.total_usd.expected)
    compute = rows[0]
    assert compute["PricingQuantity"] * compute["ListUnitPrice"] == pytest.approx(compute["BilledCost"])
    assert {r["Tags"] for r in rows} == {'{"team": "nlp"}'}
    assert {r["BillingCurrency"] for r in rows} == {"USD"}


@pytest.mark.parametrize("term", ["on-demand", "spot", "reserved-1-year"])
def test_rows_keep_the_rules_of_focus(term: str, result: WholeRun) -> None:
    """FOCUS 1.1 (github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec): mandatory columns, what is null when, moments in UTC,
    units, quantity x unit price = cost, and an unused commitment beside the used one. Every moment of a run of hours differs."""
    price = as_price({"term": term}, result.plan.cluster.accelerator.name, result.plan.cluster.node)
    assert price is not None
    bound = replace(result, plan=replace(result.plan, price=price), run=result.run.replaced(preemption_mtbf_s=1e9))
    bill = bill_of(bound, {"egress_bytes": 1e12, "egress_usd_per_gb": 0.1, "tax_rate": 0.2}, TODAY)
    rows = focus_rows("case", bound, bill, TODAY)
    nullable = {"ChargeClass", "PricingQuantity", "PricingUnit"}
    for row in rows:
        assert all(row[name] not in ("", None) for name in set(MANDATORY) - nullable), row
        assert row["ChargeCategory"] in {"Usage", "Purchase", "Tax", "Credit", "Adjustment"}
        for name in ("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row[name])
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
        if row["ChargeCategory"] == "Tax":
            assert {row[name] for name in ("PricingQuantity", "PricingUnit", "PricingCategory", "ListUnitPrice")} == {""}
        else:
            assert row["PricingQuantity"] * row["ListUnitPrice"] == pytest.approx(row["ListCost"])
            assert re.fullmatch(r"[A-Z]\w*(-[A-Z]\w+)?", row["PricingUnit"])
        assert bool(row.get("CommitmentDiscountStatus")) == bool(row.get("CommitmentDiscountId"))
    used = {row["ServiceName"]: row for row in rows if row["ChargeCategory"] == "Usage"}
    if term == "reserved-1-year":
        unused = used["GPU commitment left unused"]
        assert (used["GPU"]["CommitmentDiscountStatus"], unused["CommitmentDiscountStatus"]) == ("Used", "Unused")
        assert used["GPU"]["ChargePeriodEnd"] < unused["ChargePeriodEnd"] == f"{TODAY.year + 1}{TODAY:-%m-%dT00:00:00Z}"
    assert used["GPU"]["PricingCategory"] == {"on-demand": "Standard", "spot": "Dynamic", "reserved-1-year": "Committed"}[term]
    assert sum(r["BilledCost"] for r in rows) == pytest.approx(bill.budget_usd.expected)


def test_spares_cost_what_as_many_gpus_of_the_run_do() -> None:
    """One spare node beside eight, on demand: an eighth of the run's GPU-hours, on 64 GPUs, which do not divide an hour."""
    plan = planner.plan(
        model="llama-2-7b",
        cluster={"node": "dgx-a100-80gb", "num_nodes": 8},
        job={"seq_len": 2048, "global_batch_size": 256, "num_tokens": 10**9},
        layout={"tp": 2, "sequence_parallel": True, "zero": 1},
        price=2.0,
    )
    items = bill_of(expected_run(plan, {"spare_nodes": 1}), {}, TODAY).items_usd
    assert items["spares"].expected == pytest.approx(items["gpu_hours"].expected / 8, rel=1e-9)
    assert items["spares"].expected > 0
