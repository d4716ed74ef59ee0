"""Cells of a table of runs as numbers and answers; what cannot be read is an error that names column and text."""

from __future__ import annotations

import math
from collections.abc import Mapping

from planner.common.errors import PlannerError

TRUE, FALSE = ("1", "1.0", "true", "yes"), ("", "0", "0.0", "false", "no")


def whole(row: Mapping[str, str], column: str, default: int | None = None) -> int:
    """A whole number; empty = ``default``, an error without one. PlannerError names column and text."""
    text = row.get(column, "")
    if text == "":
        if default is not None:
            return default
        raise PlannerError("{0} is empty: every run needs it", column)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value != int(value) or value < 0:
        raise PlannerError("{0} = {1!r}: must be a whole number that is not negative", column, text)
    if value > 1e12:
        raise PlannerError("{0} = {1!r}: is too large", column, text)
    return int(value)


def yes(row: Mapping[str, str], column: str, default: bool = False) -> bool:
    """A yes or no cell; empty = ``default``."""
    text = row.get(column, "")
    if text == "":
        return default
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise PlannerError("{0} = {1!r}: must be 1 or 0, or empty", column, text)


def fraction(row: Mapping[str, str], column: str) -> float:
    """A number; empty = 0."""
    text = row.get(column, "") or "0"
    try:
        return float(text)
    except ValueError:
        raise PlannerError("{0} = {1!r}: must be a number from 0 to 1", column, text) from None


def measured_number(row: Mapping[str, str], column: str, scale: float) -> float | None:
    """A positive number times ``scale``; empty = None, not measured."""
    text = row.get(column, "")
    if text == "":
        return None
    try:
        value = float(text) * scale
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise PlannerError("{0} = {1!r}: must be a positive number", column, text)
    return value


def usual_framework(row: Mapping[str, str]) -> str:
    """The framework that such a run usually takes, where neither the row nor its source says: an assumption, and listed so."""
    sharding = row.get("data_parallel", "")
    if "fsdp" in sharding or "hsdp" in sharding:
        return "torchtitan"
    if any(whole(row, n, 1) > 1 for n in ("tp", "pp", "cp", "ep")) or "distopt" in sharding:
        return "megatron-core"
    return "deepspeed-zero" if sharding.startswith("zero") else "pytorch"
