"""Sizes beyond the table of ``limits.py`` are refused."""

from __future__ import annotations

from typing import Any

from planner.common.errors import PlannerError, brief, too_large
from planner.common.limits import LARGEST


def require_answerable(place: str, spec: Any) -> None:
    """Raise PlannerError where a field of ``spec``, the table ``place`` of a question, is beyond the largest answered."""
    for field, (most, _) in LARGEST.items():
        table, name = field.split(".")
        value = getattr(spec, name, None) if table == place else None
        if value is not None and value > most:
            raise PlannerError("{0}.", too_large(field, field, brief(value)), code="size", field=field)
