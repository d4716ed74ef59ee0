"""An expression over uncertain figures: its value, with an interval that knows which errors go together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

from planner.audit.expression import evaluate, names_in
from planner.audit.figures import Figured
from planner.common.message import join_messages
from planner.uncertainty.effects import load_effects
from planner.uncertainty.interval import NORMAL_95, Interval

LIKE_SERVED = 0.05
"""What two like figures of serving each keep of their errors, relative, 90 %. kind: assumed; between plans it is measured."""

LIKE_PLANNED = 0.025
"""The least that each of two like figures of plans keeps, relative, 90 %: where nothing measured tells the two questions apart.
kind: assumed."""
Value = Callable[[Mapping[str, float]], float]
"""The expression at other values of some figures."""


def combined(expression: str, figures: Mapping[str, Figured], together: bool) -> Interval:
    """The expression's value and 90 % interval over the errors of its figures.

    Errors of different figures are independent: each is moved to its ends alone, and the effects add as squares, in logarithms
    where all values are positive. Of like figures (``together``) only the part of their errors moves that they do not share:
    between plans as measured on runs of the same source (uncertainty/ratio.py), between served figures ``LIKE_SERVED``.
    """
    middle = {name: f.interval.expected for name, f in figures.items()}
    expected = evaluate(expression, middle)
    used = [n for n in figures if n in names_in(expression) and figures[n].interval.lower != figures[n].interval.upper]
    if not used:
        return Interval(expected=expected, lower=expected, upper=expected, why="exact")

    def value(moved: Mapping[str, float]) -> float:
        return evaluate(expression, {**middle, **moved})

    moves = _moves(used, figures, together)
    ends = [(value(down), value(up)) for down, up in moves]
    lower, upper = _added(expected, [(min(e), max(e)) for e in ends])
    why = join_messages("; ", dict.fromkeys(figures[name].interval.why for name in used))
    return Interval(expected=expected, lower=lower, upper=upper, why=why)


def _moves(used: list[str], figures: Mapping[str, Figured], together: bool) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Independent movements, each as (figures at its one end, figures at its other end)."""
    if not together:
        return [({n: figures[n].interval.lower}, {n: figures[n].interval.upper}) for n in used]
    at = {n: figures[n].interval.expected for n in used}
    subjects = [figures[n] for n in used]
    if any(f.subject is None for f in subjects) or len({f.metric for f in subjects}) > 1:
        return [({n: at[n] * (1 - LIKE_SERVED)}, {n: at[n] * (1 + LIKE_SERVED)}) for n in used]
    apart = {pair: _apart(figures[pair[0]], figures[pair[1]]) for pair in itertools.combinations(used, 2)}
    if len(used) == 2:  # a contrast of the two, half of it on either side
        first, second = used
        mean, deviation = apart[first, second]
        ends = [mean - NORMAL_95 * deviation, mean + NORMAL_95 * deviation]
        down, up = min(ends[0], 0.0), max(ends[1], 0.0)
        return [
            (
                {first: at[first] * math.exp(down / 2), second: at[second] * math.exp(-down / 2)},
                {first: at[first] * math.exp(up / 2), second: at[second] * math.exp(-up / 2)},
            )
        ]
    contrasts = [(abs(mean) + NORMAL_95 * deviation) / math.sqrt(2.0) for mean, deviation in apart.values()]
    own = max([LIKE_PLANNED, *contrasts])
    return [({n: at[n] * math.exp(-own)}, {n: at[n] * math.exp(own)}) for n in used]


def _apart(first: Figured, second: Figured) -> tuple[float, float]:
    """Mean and standard deviation of the difference of two plans' logarithms."""
    least = math.sqrt(2.0) * LIKE_PLANNED / NORMAL_95
    if first.subject is None or second.subject is None or first.metric is None or first.subject == second.subject:
        return 0.0, least
    mean, deviation = load_effects()[first.metric].difference(first.subject, second.subject)
    return mean, max(deviation, least)


def _added(expected: float, ends: list[tuple[float, float]]) -> tuple[float, float]:
    """Both bounds where effects add as squares; they hold the expected value."""
    if expected > 0.0 and all(low > 0.0 for low, _ in ends):
        down = math.hypot(*(max(math.log(expected / low), 0.0) for low, _ in ends))
        up = math.hypot(*(max(math.log(high / expected), 0.0) for _, high in ends))
        return expected * math.exp(-down), expected * math.exp(up)
    down = math.hypot(*(max(expected - low, 0.0) for low, _ in ends))
    up = math.hypot(*(max(high - expected, 0.0) for _, high in ends))
    return expected - down, expected + up
