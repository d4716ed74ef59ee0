"""Prices and dollars."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from planner.common.errors import PlannerError
from planner.hardware.cluster import accelerator_names
from planner.prices.market import find_price, market
from planner.prices.price import TERMS, Price, cost_usd, gpu_hours, load_prices, own_price


def test_every_quote_is_usable() -> None:
    known = set(accelerator_names())
    for price in load_prices():
        assert price.accelerator in known
        assert price.term in TERMS
        assert 0.05 < price.usd_per_gpu_hour < 50
        assert price.provider
        assert price.source
        assert price.age_days(datetime.date(2030, 1, 1)) > 365  # type: ignore[operator]


def test_an_8_gpu_day_at_2_dollars_costs_384() -> None:
    hours = gpu_hours(86400.0, 8)
    assert hours == 192
    assert cost_usd(hours, own_price(2)) == 384
    assert cost_usd(np.array([1.0, 2.0]), own_price(3)).tolist() == [3.0, 6.0]  # type: ignore[union-attr]


def test_the_median_provider_sets_the_price() -> None:
    chosen = find_price("a100-sxm4-80gb")
    prices = [p.usd_per_gpu_hour for p in market("a100-sxm4-80gb", "on-demand")]
    assert chosen.usd_per_gpu_hour in prices
    assert sum(p <= chosen.usd_per_gpu_hour for p in prices) >= len(prices) / 2
    assert sum(p >= chosen.usd_per_gpu_hour for p in prices) >= len(prices) / 2


def test_provider_and_region_narrow_the_choice() -> None:
    price = find_price("h100-sxm5-80gb", provider="aws")
    assert price.provider == "AWS"
    assert price.date == max(p.date for p in load_prices() if (p.provider, p.accelerator) == ("AWS", "h100-sxm5-80gb"))
    assert find_price("a100-sxm4-80gb", provider="Azure", region="eastus").region == "eastus"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"term": "on demand"}, "price.term = 'on demand'"),
        ({"provider": "Nobody"}, "price.provider = 'Nobody'"),
        ({"region": "mars"}, "price.region = 'mars'"),
        ({"term": "reserved-3-year", "provider": "RunPod"}, "price.provider = 'RunPod'"),
    ],
)
def test_an_unknown_quote_is_an_error_that_says_what_exists(arguments: dict[str, str], named: str) -> None:
    with pytest.raises(PlannerError) as caught:
        find_price("a100-sxm4-80gb", **arguments)  # type: ignore[arg-type]
    assert named in str(caught.value)


def test_an_accelerator_without_a_quote_asks_for_a_price() -> None:
    with pytest.raises(PlannerError, match=r"give price\.usd_per_gpu_hour"):
        find_price("cpu")


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), True, "2", 10**400, -(10**400)])
def test_a_bad_own_price_is_refused(bad: float) -> None:
    with pytest.raises(PlannerError, match=r"price\.usd_per_gpu_hour"):
        own_price(bad)


def test_age_counts_from_the_last_day_a_date_can_mean() -> None:
    today = datetime.date(2026, 3, 1)
    assert Price(usd_per_gpu_hour=1, term="spot", date="2026-02-27").age_days(today) == 2
    assert Price(usd_per_gpu_hour=1, term="spot", date="2026-02").age_days(today) == 1
    assert Price(usd_per_gpu_hour=1, term="spot", date="2025").age_days(today) == 60
    assert Price(usd_per_gpu_hour=1, term="spot", date="2025-11").is_stale(today)
    assert not own_price(1).is_stale(today)


def test_a_quote_of_a_year_may_be_stale_before_it_surely_is() -> None:
    day = datetime.date(2026, 11, 21)
    vague, fresh, old = (Price(usd_per_gpu_hour=1, term="spot", date=d) for d in ("2026", "2026-11", "2025"))
    assert (vague.is_stale(day), vague.may_be_stale(day)) == (False, True)
    assert vague.staleness(day) == "may be stale: only 2026 is known of its date"
    assert (fresh.is_stale(day), fresh.may_be_stale(day), fresh.staleness(day)) == (False, False, "")
    assert (old.is_stale(day), old.may_be_stale(day), old.staleness(day)) == (True, False, "stale: older than 90 days")
    assert not Price(usd_per_gpu_hour=1, term="spot", date="2026").may_be_stale(datetime.date(2026, 2, 1))
    assert not own_price(1).may_be_stale(day)
