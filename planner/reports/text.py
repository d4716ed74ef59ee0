"""Figures as text: seconds, counts, GiB, dollars."""

from __future__ import annotations

from collections.abc import Callable

from planner.common.units import DAY_S, GIB, HOUR_S
from planner.uncertainty.interval import Interval


def seconds(value: float | None) -> str:
    """A duration in a unit that reads well.

    >>> seconds(0.0123), seconds(7.5), seconds(7200), seconds(5 * 86400)
    ('12.3 ms', '7.50 s', '2.00 h', '5.0 days')
    >>> seconds(180)
    '3.00 min'
    """
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1e3:.1f} ms"
    if value < 120:
        return f"{value:.2f} s"
    if value < HOUR_S:
        return f"{value / 60.0:.2f} min"
    if value < 3 * DAY_S:
        return f"{value / HOUR_S:.2f} h"
    return f"{value / DAY_S:.1f} days"


def count(value: float) -> str:
    """A large count.

    >>> count(6738415616), count(124439808)
    ('6.738 B', '124.4 M')
    """
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.4g} {unit}" if value < 1000 * size else f"{value / size:,.0f} {unit}"
    return f"{value:,.0f}"


def gib(value: float) -> str:
    """Bytes in GiB (2**30)."""
    return f"{value / GIB:.2f} GiB"


def span(interval: Interval, show: Callable[[float], str]) -> str:
    """An interval in words: the value alone where it is certain.

    >>> span(Interval(lower=1.0, expected=2.0, upper=3.0), dollars)
    '$2.00 ($1.00 to $3.00)'
    """
    if interval.lower == interval.upper:
        return show(interval.expected)
    return f"{show(interval.expected)} ({show(interval.lower)} to {show(interval.upper)})"


def dollars(value: float | None) -> str:
    """US dollars."""
    if value is None:
        return "no price"
    return f"${value:,.2f}" if value < 100 else f"${value:,.0f}"
