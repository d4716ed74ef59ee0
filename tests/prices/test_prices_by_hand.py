"""Medians, ratios and the cost of an owned GPU on few numbers, worked out by hand; bounds of the constants behind them."""

from __future__ import annotations

import math
import statistics
from dataclasses import fields
from typing import Any

import pytest
from examples import gpus

from planner.common.errors import PlannerError
from planner.common.spec import read_table
from planner.hardware.cluster import load_accelerator
from planner.prices import market, ownership
from planner.prices.market import as_price
from planner.prices.ownership import Constants, OwnedGpu, Ownership, Purchase, find_purchase, owned_gpu
from planner.prices.price_tables import BOARDS, GPUHUNT_NAMES

CARDS = market.rented_accelerators()


def purchase(usd: float, covers: str = "server", date: str = "2026-06-01") -> Purchase:
    return Purchase(accelerator="x", usd_per_gpu=usd, covers=covers, date=date, source="test")


@pytest.mark.parametrize(("prices", "found"), [((10, 20, 30), 20), ((10, 20, 30, 40, 50, 60), 30), ((10, 20), 10), ((10,), 10)])
def test_a_purchase_is_the_lower_median_of_the_quotes_that_count(
    prices: tuple[float, ...], found: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [purchase(1.0, "card"), purchase(2.0, date="2001-01-01")]  # a card's price beside a server's, and an old one
    monkeypatch.setattr(ownership, "purchases", lambda: (*others, *map(purchase, reversed(prices))))
    assert find_purchase("x").usd_per_gpu == found


def test_a_class_of_providers_asks_the_lower_median_of_its_quotes() -> None:
    odd = even = 0
    for card in CARDS:
        quotes: dict[str, list[float]] = {}
        for quote in market.market(card, "on-demand"):
            quotes.setdefault(market.provider_class(quote.provider), []).append(quote.usd_per_gpu_hour)
        found = {name: price.usd_per_gpu_hour for name, price in market.class_prices(card).items()}
        assert found == {name: statistics.median_low(asked) for name, asked in quotes.items()}
        odd += sum(len(set(asked)) > 2 and len(asked) % 2 == 1 for asked in quotes.values())
        even += sum(len(set(asked)) > 2 and len(asked) % 2 == 0 for asked in quotes.values())
    assert min(odd, even) > 3


@pytest.mark.parametrize("term", ["reserved-1-year", "reserved-3-year", "spot"])
def test_a_ratio_of_terms_is_turned_round_with_them_and_says_of_how_many_pairs(term: str) -> None:
    over, pairs, spread = market._ratio(term, "on-demand", "h100-sxm5-80gb")
    under, others, same = market._ratio("on-demand", term, "h100-sxm5-80gb")
    assert over * under == pytest.approx(1.0)
    assert over < 1.0
    assert pairs == others >= market.FEWEST
    assert spread == same > 0.0


def test_a_provider_s_name_keeps_its_letters_and_a_term_does_not() -> None:
    asked = as_price({"term": "Spot", "provider": "AWS"}, "h100-sxm5-80gb", None)
    assert asked is not None
    assert (asked.provider, asked.term) == ("AWS", "spot")
    plain = as_price({"term": "SPOT"}, "h100-sxm5-80gb", None)
    assert plain is not None
    assert plain.term == "spot"


def owned(**changes: float) -> OwnedGpu:
    parts: dict[str, Any] = {
        one.name: None if one.name.startswith(("break_even", "rent")) or one.name == "purchase" else 0.0
        for one in fields(OwnedGpu)
    }
    return OwnedGpu(**{**parts, **changes})


def test_the_spread_of_an_owned_gpu_s_hour_by_its_parts() -> None:
    """Of 4 dollars an hour 1.50 + 0.50 follow the purchase, 0.70 + 0.30 the power: sqrt((0.3 x 2)^2 + (0.4 x 1)^2) / 4."""
    found = owned(
        usd_per_gpu_hour=4.0, capital_usd_per_gpu_hour=1.5, maintenance_usd_per_gpu_hour=0.5,
        energy_usd_per_gpu_hour=0.7, idle_energy_usd_per_gpu_hour=0.3, colocation_usd_per_gpu_hour=1.0,
    )  # fmt: skip
    assert found.log_spread(0.3, 0.4) == pytest.approx(math.sqrt(0.36 + 0.16) / 4)
    assert found.log_spread(0.3, 0.0) == pytest.approx(0.15)


@pytest.mark.parametrize(("rent", "pays"), [(None, False), (0.05, False), (0.12, False), (0.13, True)])
def test_what_costs_less_to_rent_than_its_power_never_pays_off(rent: float | None, pays: bool) -> None:
    """1 kW at a PUE of 1.2 and 10 cents a kWh: 12 cents an hour."""
    own = Ownership(purchase_usd_per_gpu=10_000, rent_change_per_year=0.0)
    found = owned_gpu(gpus(8), own, power_w=1000, pue=1.2, electricity_usd_per_kwh=0.10, rent=rent)
    assert (found.break_even_gpu_hours is not None) is pays
    assert (found.break_even_utilisation is not None) is pays


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("maintenance_share", 1.0), ("capital_rate", 1.0), ("power_share", 0.0), ("power_share", 1.01), ("utilisation", 0.0),
        ("utilisation", 1.01), ("idle_power_share", -0.01), ("idle_power_share", 1.01), ("pue", 0.99),
        ("interconnect_share", 1.0), ("rent_change_per_year", -1.0), ("rent_change_per_year", 1.0),
        ("electricity_usd_per_kwh", -0.01), ("years", 0.0),
        ("embodied_use", 0.0), ("embodied_use", 1.01), ("server_power_over_tdp", 0.0), ("power_share_spread", 1.0),
    ],
)  # fmt: skip
def test_a_constant_beyond_what_it_can_be_is_refused(name: str, value: float) -> None:
    table = dict(read_table(ownership.FOLDER / "cost.toml"))
    table[name] = {**table[name], "value": value}
    with pytest.raises(PlannerError, match=name):
        Constants.build(table, "cost.toml")


def test_a_name_of_an_offer_has_the_memory_of_the_card_that_it_stands_for() -> None:
    """Where our own name says the gigabytes, an offer's must be these, but for a board that is offered with less."""
    for (_, size), card in GPUHUNT_NAMES.items():
        said = card.rpartition("-")[2].removesuffix("gb")
        if said.isdigit():
            assert size == int(said) or card == "gb300-278gb", (size, card)
        else:  # what is sold is a multiple of 4, of which a part may hold checksums; the RTX 2080 Ti has a chip less
            whole = 4 * math.ceil(load_accelerator(card).memory_bytes / 2**30 / 4) - (card == "rtx-2080-ti")
            assert size == whole, (size, card)
    for (_, size), cards in BOARDS.items():
        assert {round(load_accelerator(card).memory_bytes / 2**30) for card in cards} == {size}


@pytest.mark.parametrize("share", [-1.0, -0.5, 1.5, 2.0, True, "half"])
def test_a_share_of_hours_that_other_work_uses_is_one_of_all(share: Any) -> None:
    with pytest.raises(PlannerError, match=r"price\.other_use"):
        as_price({"usd_per_gpu_hour": 2.0, "other_use": share}, "h100-sxm5-80gb")


@pytest.mark.parametrize("share", [0, 0.25, 1])
def test_a_share_of_hours_is_taken_as_it_is_given(share: float) -> None:
    for price in ({"usd_per_gpu_hour": 2.0}, {"term": "on-demand"}):
        asked = as_price({**price, "other_use": share}, "h100-sxm5-80gb")
        assert asked is not None
        assert asked.other_use == share
