"""Arguments from Python: what stands for a plan, a list, a flag or a day is one, or a PlannerError says what is right."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from planner.common.errors import PlannerError
from planner.common.message import Message, shown_value
from planner.common.progress import Progress
from planner.common.spec import python_value, whole_number

T = TypeVar("T")


def as_a(value: Any, kind: type[T], field: str, source: str) -> T:
    """``value`` where it is a ``kind``, which ``source`` returns; PlannerError that names the field otherwise.

    >>> as_a(3, int, "n", "len"), as_a([], list, "rows", "list")
    (3, [])
    """
    if isinstance(value, kind):
        return value
    raise PlannerError(
        "{0} = {1}: must be a {2}; give what {3} returns.",
        field,
        shown_value(value),
        kind.__name__,
        source,
        code="type",
        field=field,
        value=value,
    )


def as_list(value: Any, field: str, of: str) -> list[Any]:
    """The items of a list or of what else can be gone through; neither text nor a mapping is one. ``of``: what it holds."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return list(value)
    raise PlannerError("{0} = {1}: must be a list of {2}.", field, shown_value(value), of, code="type", field=field, value=value)


def as_flag(value: Any, field: str) -> bool:
    """A truth value, Python's or numpy's."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise PlannerError("{0} = {1}: must be True or False.", field, shown_value(value), code="type", field=field, value=value)


def as_day(value: Any, field: str) -> datetime.date | None:
    """A day, or None for today."""
    if value is None or isinstance(value, datetime.date):
        return value.date() if isinstance(value, datetime.datetime) else value
    raise PlannerError(
        "{0} = {1}: must be a datetime.date, or None for today.",
        field,
        shown_value(value),
        code="type",
        field=field,
        value=value,
    )


def as_progress(value: Any) -> Progress | None:
    """What is told how far the work is, or None."""
    if value is None or callable(value):
        return value  # type: ignore[no-any-return]
    raise PlannerError(
        "progress = {0}: must be a function of two whole numbers, done and all, or None.",
        shown_value(value),
        code="type",
        field="progress",
        value=value,
    )


def as_amount(value: Any, field: str, least: str = "positive") -> float | None:
    """A finite number above 0 (``least`` "zero": or 0), or None.

    >>> as_amount(None, "deadline_s"), as_amount(3600, "deadline_s"), as_amount(0, "usd", "zero")
    (None, 3600.0, 0.0)
    """
    if value is None:
        return None
    number = value if isinstance(value, int) else python_value(value)
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if is_number and (0 < number < MOST or (number == 0 and least == "zero")):
        return float(number)
    said: dict[str, Any] = {"field": field, "value": value}
    if is_number and number >= MOST:
        raise PlannerError(
            "{0} = {1}: is too large for a quantity; use a smaller number.", field, digits(number), code="value", **said
        )
    if is_number and number <= 0 and least == "zero":
        raise PlannerError("{0} = {1}: is negative; use a number of at least 0.", field, digits(number), code="value", **said)
    right = Message("a number of at least 0") if least == "zero" else Message("a positive number")
    raise PlannerError("{0} = {1!r}: must be {2}.", field, value, right, code="type", **said)


def digits(number: float) -> str:
    """A number for people; of a whole one that is too long to read, how long it is.

    >>> digits(2.5), digits(10**400)
    ('2.5', '10^400')
    """
    if isinstance(number, int) and abs(number) >= MOST:
        return f"{'-' * (number < 0)}10^{int(math.log10(abs(number)))}"
    return str(number)


MOST = 1e300
"""Below which a number is one: far beyond any quantity."""


def as_counts(value: Any, field: str) -> list[int]:
    """Whole numbers of at least 1; one of them stands for a list of one.

    >>> as_counts([8, 16.0], "gpus"), as_counts(8, "gpus")
    ([8, 16], [8])
    """
    given = [value] if isinstance(value, int | float) else as_list(value, field, "whole numbers")
    found = [one if isinstance(one, int) else whole_number(one) for one in given]
    for one in found:
        if isinstance(one, bool) or not isinstance(one, int) or one < 1:
            raise PlannerError(
                "{0} = {1!r}: must be a whole number of at least 1.", field, one, code="type", field=field, value=one
            )
    return found
