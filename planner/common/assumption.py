"""A constant behind an answer that nobody measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """A constant behind the answer that nobody measured."""

    where: str
    field: str
    value: Any
    source: str


def vars_of(assumption: Assumption) -> dict[str, Any]:
    """Fields of an assumption."""
    return {name: getattr(assumption, name) for name in assumption.__dataclass_fields__}
