"""Dollars of GPUs held: hours by hand, the price's own interval beside the time's."""

from __future__ import annotations

import math

import pytest

from planner.common.units import HOUR_S
from planner.prices.price import Price
from planner.uncertainty.dollars import at_price, held_usd
from planner.uncertainty.interval import Interval

DAY = Interval(lower=20.0 * HOUR_S, expected=24.0 * HOUR_S, upper=36.0 * HOUR_S)


def test_a_certain_price_pays_for_the_hours_at_each_end() -> None:
    usd = held_usd(DAY, 8, Price(usd_per_gpu_hour=2.0, term="mine"))
    assert (usd.lower, usd.expected, usd.upper) == pytest.approx((8 * 2 * 20, 8 * 2 * 24, 8 * 2 * 36))


def test_errors_of_time_and_price_add_as_squares_of_logarithms() -> None:
    price = Price(usd_per_gpu_hour=2.0, term="mine", lower_usd_per_gpu_hour=1.0, upper_usd_per_gpu_hour=6.0)
    usd = held_usd(DAY, 8, price)
    assert usd.expected == pytest.approx(384.0)
    assert math.log(usd.upper / 384.0) == pytest.approx(math.sqrt(math.log(1.5) ** 2 + math.log(3.0) ** 2))
    assert math.log(384.0 / usd.lower) == pytest.approx(math.sqrt(math.log(1.2) ** 2 + math.log(2.0) ** 2))


def test_a_term_that_binds_longer_costs_the_same_at_each_end_but_for_its_price() -> None:
    usd = held_usd(DAY, 8, Price(usd_per_gpu_hour=2.0, term="reserved-1-year"))
    assert usd.expected == pytest.approx(2.0 * 8 * 365 * 24, rel=0.001)
    assert usd.lower == usd.expected == usd.upper


def test_what_is_free_is_free_whatever_its_quotes_say() -> None:
    assert at_price(DAY, Price(usd_per_gpu_hour=0.0, term="mine", upper_usd_per_gpu_hour=3.0)) == DAY
