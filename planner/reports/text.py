"""Figures as text: seconds, counts, GiB, dollars."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable

from rich.cells import cell_len

from planner.common.message import Message
from planner.common.units import DURATIONS, GIB
from planner.uncertainty.interval import Interval

WORD = re.compile(r"[（(\[]*(?:[\x21-\x7e]+|[^\x00-\x7f])[，。；：、）？]*|\s+")
"""What a line may not break: a run of Latin letters, or a Chinese sign, with the marks that begin and end it."""


def folded(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Lines of at most ``width`` columns; a Chinese sign takes two, and lines break between any two of them.

    >>> folded("显存不足，需要 80 GiB", 12, "a ", "  ")
    ['a 显存不足，', '  需要 80', '  GiB']
    """
    if text.isascii():
        return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    lines, line = [], first
    for word in WORD.findall(text):
        if cell_len(line) + cell_len(word.rstrip()) > width and line.strip():
            lines.append(line.rstrip())
            line = rest + word.lstrip()
        else:
            line += word
    return [*lines, line.rstrip()]


SMALL = 2.0
"""A duration of fewer of its row's unit needs more decimals."""
MOST_APART = 1000.0
"""A duration that is smaller than the largest of its row by more than this has a unit of its own."""


def seconds(value: float | None) -> str:
    """A duration in a unit that reads well.

    >>> seconds(0.0123), seconds(7.5), seconds(7200), seconds(5 * 86400)
    ('12.3 ms', '7.50 s', '2.00 h', '5.0 days')
    >>> seconds(180)
    '3.00 min'
    """
    return seconds_like([value])(value)


def seconds_like(values: Iterable[float | None], by: Callable[[list[float]], float] = max) -> Callable[[float | None], str]:
    """How to show the durations of one row of a table: in the unit of the largest, with as many decimals as the smallest needs.

    Of a column that begins with the best, ``by=min``: in the unit of the smallest.

    >>> show = seconds_like([29.66 * 3600, 6.2 * 86400])
    >>> show(29.66 * 3600), show(6.2 * 86400), show(None)
    ('1.24 days', '6.20 days', '-')
    >>> seconds_like([24.26, 147.6], by=min)(147.6)
    '147.60 s'
    """
    known = [value for value in values if value is not None] or [0.0]
    leading = by(known)
    size, decimals, name = next((size, decimals, name) for below, size, decimals, name in DURATIONS if not leading >= below)
    least = min((value / size for value in known if value * MOST_APART >= leading and value > 0.0), default=1.0)
    if least < SMALL and len(known) > 1:
        decimals = max(decimals, 2, 1 - math.floor(math.log10(least)))
    form = f"{'' if by is max else ','}.{decimals}f"

    def show(value: float | None) -> str:
        if value is None:
            return "-"
        if value and value * MOST_APART < leading:
            return seconds(value)
        shown = format(value / size, form)
        return Message("{0} days", shown) if name == "days" else f"{shown} {name}"

    return show


def seconds_of(intervals: Iterable[Interval | None]) -> Callable[[float | None], str]:
    """As ``seconds_like``, of durations with their bounds."""
    return seconds_like([end for one in intervals if one is not None for end in (one.lower, one.expected, one.upper)])


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
    return Message("{0} ({1} to {2})", show(interval.expected), show(interval.lower), show(interval.upper))


def small_dollars(value: float) -> str:
    """US dollars of a few tokens or requests, with three digits below a dime.

    >>> small_dollars(2.5), small_dollars(0.25), small_dollars(0.002334)
    ('$2.50', '$0.250', '$0.00233')
    """
    return f"${value:,.2f}" if value >= 1 else f"${value:.3f}" if value >= 0.1 else f"${value:.3g}"


def dollars(value: float | None) -> str:
    """US dollars."""
    if value is None:
        return "no price"
    return f"${value:,.2f}" if value < 100 else f"${value:,.0f}"
