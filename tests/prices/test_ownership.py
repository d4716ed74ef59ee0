"""Owned GPUs and bound terms by hand: capital, energy in use and idle, room, what pays off, and when."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from examples import ACCELERATOR, NODE, gpus
from field_bounds import check_bounds
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.common.errors import PlannerError
from planner.hardware.cluster import Cluster, accelerator_names, cluster
from planner.prices import ownership
from planner.prices.carbon import embodied_grams, find_grid, grids
from planner.prices.market import commitment_note, run_usd
from planner.prices.ownership import (
    PURCHASE_SPREAD,
    Ownership,
    Purchase,
    capital_usd,
    constants,
    mean_rent,
    owned_gpu,
    power_w_per_gpu,
    purchase_spread,
    purchase_usd,
    purchases,
)
from planner.prices.price import Price


def test_owning_by_hand() -> None:
    """10,000 USD over 5 years at half use, 1 kW at PUE 1.2 and 0.10 USD/kWh, 8 GPUs with 4,000 USD of staff a year."""
    own = Ownership(
        purchase_usd_per_gpu=10_000,
        years=5,
        utilisation=0.5,
        staff_usd_per_year=4000,
        capital_rate=0.0,
        maintenance_share=0.0,
        colocation_usd_per_kw_month=0.0,
        idle_power_share=0.0,
        rent_change_per_year=0.0,
    )
    gpu = owned_gpu(cluster("dgx-a100-80gb"), own, power_w=1000, pue=1.2, electricity_usd_per_kwh=0.10, rent=2.12)
    used = 5 * 365.25 * 24 * 0.5
    assert gpu.capital_usd_per_gpu_hour == pytest.approx(10_000 / used)
    assert gpu.energy_usd_per_gpu_hour == pytest.approx(0.12)
    assert gpu.staff_and_space_usd_per_gpu_hour == pytest.approx(4000 * 5 / 8 / used)
    assert gpu.break_even_gpu_hours == pytest.approx(12_500 / 2.0)
    at_break_even = owned_gpu(
        cluster("dgx-a100-80gb"),
        own.replaced(utilisation=gpu.break_even_utilisation),
        power_w=1000,
        pue=1.2,
        electricity_usd_per_kwh=0.10,
        rent=2.12,
    )
    assert at_break_even.usd_per_gpu_hour == pytest.approx(2.12)
    never = owned_gpu(cluster("dgx-a100-80gb"), own, power_w=1000, pue=1.2, electricity_usd_per_kwh=5, rent=2.12)
    assert never.break_even_utilisation is None


def test_capital_maintenance_room_and_waiting_cost_by_hand() -> None:
    """40,000 USD at 10 % over 4 years: an annuity of 12,618.83 USD a year (Brealey, Myers: 40,000 / 3.169865); half use; 1 kW in
    training of 4/3 kW rated at 150 USD per kW and month; 5 % maintenance; 30 % of the power while it waits."""
    own = Ownership(
        purchase_usd_per_gpu=40_000,
        years=4,
        utilisation=0.5,
        capital_rate=0.10,
        maintenance_share=0.05,
        colocation_usd_per_kw_month=150.0,
        idle_power_share=0.3,
        rent_change_per_year=0.0,
    )
    gpu = owned_gpu(cluster("dgx-h100"), own, power_w=1000, pue=1.0, electricity_usd_per_kwh=0.10, rent=None)
    used = 4 * 365.25 * 24 * 0.5
    assert gpu.capital_usd_per_gpu_hour * used == pytest.approx(4 * 12_618.83, rel=1e-6)
    assert gpu.maintenance_usd_per_gpu_hour * used == pytest.approx(8_000)
    assert gpu.colocation_usd_per_gpu_hour * used == pytest.approx(4 / 3 * 150 * 48)
    assert gpu.idle_energy_usd_per_gpu_hour == pytest.approx(0.03)
    parts = (
        gpu.capital_usd_per_gpu_hour,
        gpu.energy_usd_per_gpu_hour,
        gpu.idle_energy_usd_per_gpu_hour,
        gpu.maintenance_usd_per_gpu_hour,
        gpu.colocation_usd_per_gpu_hour,
        gpu.staff_and_space_usd_per_gpu_hour,
    )
    assert gpu.usd_per_gpu_hour == pytest.approx(sum(parts))


def test_a_resale_pays_back_its_value_of_today() -> None:
    assert capital_usd(1000.0, 0.25, 0.0, 5) == 750.0
    assert capital_usd(1000.0, 1.0, 0.10, 1) == pytest.approx(100.0)  # bought and sold at the price: a year's interest
    assert mean_rent(2.0, 0.0, 4) == 2.0
    assert mean_rent(2.0, -0.5, 1) == pytest.approx(2.0 * 0.5 / 0.693147, rel=1e-5)  # from 2 to 1, exponentially


@pytest.mark.parametrize(
    "change",
    [
        {"capital_rate": 0.2},
        {"idle_power_share": 0.9},
        {"maintenance_share": 0.1},
        {"colocation_usd_per_kw_month": 400.0},
        {"utilisation": 0.4},
    ],
)
def test_what_costs_more_makes_owning_pay_later(change: dict[str, float]) -> None:
    at = {"power_w": 1000.0, "pue": 1.2, "electricity_usd_per_kwh": 0.1, "rent": 3.0}
    base, dear = (owned_gpu(cluster("dgx-h100"), Ownership.build(f, "own"), **at) for f in ({}, change))
    assert dear.usd_per_gpu_hour > base.usd_per_gpu_hour
    if "utilisation" not in change:
        assert (dear.break_even_utilisation or 9.0) > (base.break_even_utilisation or 0.0)


def test_every_constant_and_quote_has_a_source() -> None:
    names = {n for n in type(constants()).model_fields if n != "provenance"}
    assert names == set(constants().provenance)
    assert all(p.source and p.date for p in constants().provenance.values())
    assert {p.accelerator for p in purchases()} <= set(accelerator_names())
    assert all(p.source and p.date and p.usd_per_gpu > 100 for p in purchases())
    assert all(g.source and g.date and 0 < g.grams_co2_per_kwh < 1000 for g in grids().values())
    assert find_grid("us-central1").country == "United States"


def test_a_term_that_binds_longer_than_the_run_is_charged_by_hand() -> None:
    """44 hours on 64 GPUs at 2 USD: 5,632 USD; a year of them: 1,121,280 USD, unless other work uses the rest."""
    year = Price(usd_per_gpu_hour=2.0, term="reserved-1-year")
    used, whole = 44 * 64 * 2.0, 365 * 24 * 64 * 2.0
    assert run_usd(44 * 3600, 64, year) == pytest.approx(whole)
    assert run_usd(44 * 3600, 64, replace(year, other_use=1.0)) == pytest.approx(used)
    assert run_usd(44 * 3600, 64, replace(year, other_use=0.5)) == pytest.approx((used + whole) / 2)
    assert run_usd(44 * 3600, 64, replace(year, term="on-demand")) == pytest.approx(used)
    assert run_usd(2 * 365 * 86400, 64, year) == pytest.approx(2 * whole)


@given(hours=st.floats(1, 50_000), gpus=st.integers(1, 4096))
@settings(max_examples=50, deadline=None)
def test_a_longer_commitment_is_never_cheaper_for_a_short_run(hours: float, gpus: int) -> None:
    """At equal rates the longer term costs at least as much, and never less than the hours used."""
    costs = [
        run_usd(hours * 3600, gpus, Price(usd_per_gpu_hour=1.0, term=term))
        for term in ("on-demand", "reserved-1-year", "reserved-3-year")
    ]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(hours * gpus)


def test_power_and_purchase_of_a_card_and_of_a_server() -> None:
    """A DGX A100 is rated at 6.5 kW; of a card of 400 W, 0.75 x 1.821 of these, 546 W; eight cards share 9.999 kW unevenly."""
    assert power_w_per_gpu(cluster("dgx-a100-80gb")) == pytest.approx(0.75 * 6500 / 8)
    card = ACCELERATOR.replaced(tdp_w=400.0)
    alone = Cluster(node=NODE, accelerator=card, num_gpus=8)
    assert power_w_per_gpu(alone) == pytest.approx(0.75 * 1.821 * 400)
    rated = Cluster(node=NODE.replaced(max_power_w=9_999.0), accelerator=card, num_gpus=8)
    assert power_w_per_gpu(rated) == pytest.approx(0.75 * 9_999 / 8, rel=1e-12)
    with pytest.raises(PlannerError, match=r"cost\.power_w_per_gpu is missing"):
        power_w_per_gpu(gpus(8))
    price, quote = purchase_usd("rtx-3070-8gb")
    assert (quote.usd_per_gpu, quote.covers) == (499.0, "card")
    assert price == pytest.approx(499 * 1.64 / 0.81)


def test_quotes_of_a_purchase_spread_as_their_logarithms_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers at a price and e times it: 1 / sqrt(2), whatever cards cost; three cards at 1, e and e^2 times: 1. Two that are
    near each other, and one alone, as assumed."""
    e = math.e
    quotes = {
        "servers": [("server", 1.0), ("server", e), ("card", 1.0), ("card", e**5)],
        "cards": [("server", 1.0), ("card", 1.0), ("card", e), ("card", e**2)],
        "near": [("server", 1.0), ("server", 1.01)],
        "alone": [("card", 1.0)],
    }
    made = tuple(
        Purchase(accelerator=name, usd_per_gpu=1000.0 * times, covers=covers, date="2026-01", source="made up")
        for name, several in quotes.items()
        for covers, times in several
    )
    monkeypatch.setattr(ownership, "purchases", lambda: made)
    found = {name: purchase_spread(name) for name in (*quotes, "unquoted")}
    assert found == pytest.approx(
        {"servers": 0.5**0.5, "cards": 1.0, "near": PURCHASE_SPREAD, "alone": PURCHASE_SPREAD, "unquoted": PURCHASE_SPREAD}
    )


def test_use_between_hours_and_years_by_hand() -> None:
    """A used hour at 80 %: energy of 10 cents; a quarter of an hour idle at 0.4 of the power; 6,000 USD of staff and space a year
    over eight GPUs; a resale of 0.2 of the purchase after three years without interest."""
    own = Ownership(
        purchase_usd_per_gpu=20_000, years=3, utilisation=0.8, idle_power_share=0.4, staff_usd_per_year=4000.0,
        space_usd_per_year=2000.0, residual_share=0.2, capital_rate=0.0, maintenance_share=0.0, colocation_usd_per_kw_month=0.0,
    )  # fmt: skip
    found = owned_gpu(gpus(8), own, power_w=1000, pue=1.0, electricity_usd_per_kwh=0.10, rent=2.0)
    used = 3 * 8766 * 0.8
    assert found.energy_usd_per_gpu_hour == pytest.approx(0.10)
    assert found.idle_energy_usd_per_gpu_hour == pytest.approx(0.10 * 0.4 * 0.25)
    assert found.staff_and_space_usd_per_gpu_hour == pytest.approx(6000 * 3 / 8 / used)
    assert found.capital_usd_per_gpu_hour == pytest.approx(16_000 / used)
    assert found.usd_per_gpu_hour == pytest.approx((16_000 + 2_250) / used + 0.11)
    rent = 2.0 * (1 - 0.9**3) / (-3 * math.log(0.9))  # it falls by a tenth a year
    assert found.rent_usd_per_gpu_hour == pytest.approx(rent)
    assert found.break_even_gpu_hours == pytest.approx(18_250 / (rent - 0.10))
    assert found.break_even_utilisation == pytest.approx((18_250 / 26_298 + 0.04) / (rent - 0.10 + 0.04))


def test_a_part_is_one_of_all_and_money_is_not_negative() -> None:
    """What is left out costs nothing."""
    check_bounds(Ownership)
    nothing = Ownership()
    assert (nothing.residual_share, nothing.staff_usd_per_year, nothing.space_usd_per_year) == (0.0, 0.0, 0.0)


def test_making_the_servers_counts_by_the_hours_of_their_years() -> None:
    """A GPU of a node of eight: (2,500 / 8 + 150) kg over 6 years of 8,766 hours at 85 %."""
    assert embodied_grams(1000.0, 8) == pytest.approx(1000 * (2500 / 8 + 150) * 1e3 / (6 * 8766 * 0.85))


def test_what_a_term_costs_beyond_a_run_is_told_in_days_and_dollars() -> None:
    """36.5 days on ten GPUs at 1 USD of a year: 328.5 days of them are 78,840 USD."""
    year = Price(usd_per_gpu_hour=1.0, term="reserved-1-year")
    (said,) = commitment_note(36.5 * 86_400, 10, year)
    assert "reserved-1-year binds for 365 days and the run takes 36.5: $78,840 of the cost" in str(said)
    assert commitment_note(365 * 86_400, 10, year) == ()
    assert commitment_note(86_400, 10, replace(year, other_use=1.0)) == ()
    assert commitment_note(60.0, 10, replace(year, term="spot")) == ()
