"""Dollars as uncertain as the time that is paid for and the price of an hour."""

from __future__ import annotations

from dataclasses import replace

from planner.prices.market import run_usd
from planner.prices.price import Price
from planner.uncertainty.interval import Interval


def at_price(money: Interval, price: Price) -> Interval:
    """Dollars with what one would pay for an hour as uncertain as it is; the errors are independent."""
    if price.usd_per_gpu_hour <= 0.0:
        return money
    lower, upper = price.interval_usd_per_gpu_hour
    return money.with_factor(lower / price.usd_per_gpu_hour, upper / price.usd_per_gpu_hour)


def held_usd(seconds: Interval, num_gpus: int, price: Price) -> Interval:
    """Dollars of GPUs held for so long: ``run_usd`` at each end, and the price's own interval.

    A term that binds longer than all of the interval costs the same however long the run takes.
    """
    ends = (seconds.lower, seconds.expected, seconds.upper)
    lower, expected, upper = (float(run_usd(end, num_gpus, price)) for end in ends)
    return at_price(replace(seconds, lower=lower, expected=expected, upper=upper), price)
