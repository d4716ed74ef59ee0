"""Figures as text: seconds, counts, GiB, dollars."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable

from rich.cells import cell_len

from planner.common.units import DAY_S, GIB, HOUR_S
from planner.uncertainty.interval import Interval

WORD = re.compile(r"[\x21-\x7e]+|\s+|[^\x00-\x7f][，。；：、）？]*")
"""What a line may not break: a run of Latin letters; a Chinese sign with the marks that end it."""


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
