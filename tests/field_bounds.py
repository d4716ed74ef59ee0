"""What the numbers of a spec may be, by what they are: laws of their bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

from planner.common.spec import Spec

PARTS = re.compile(
    r".*_(share|fraction|probability|hit_rate)|(tax|capital)_rate|utilisation|acceptance|reserved_output|expert_offload"
    r"|straggler_jitter|memory_fraction"
)
"""Of a whole: at most 1."""
FACTORS = re.compile(r".*_slowdown|pue|expert_load")
"""On what is least: at least 1."""
CHANGES = re.compile(r".*_change_per_year")
"""Above -1: what falls by all of itself is gone."""
BOUNDS = ("ge", "gt", "le", "lt")


def check_bounds(kind: type[Spec]) -> None:
    """Each number has a lower bound, which is not below 0; no part is above 1, no factor below 1; a default is within."""
    checked = 0
    for name, field in kind.model_fields.items():
        bounds = {
            what: getattr(one, what)
            for one in (*field.metadata, *_inside(field.annotation))
            for what in BOUNDS
            if hasattr(one, what)
        }
        if not bounds and field.annotation not in (int, float):
            continue
        checked += 1
        low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
        assert low is not None, f"{kind.__name__}.{name} has no lower bound"
        if CHANGES.fullmatch(name):
            assert bounds["gt"] == -1, name
        else:
            assert low >= (1 if FACTORS.fullmatch(name) else 0), name
        if PARTS.fullmatch(name):
            assert high == 1, name
        if isinstance(field.default, int | float):
            assert bounds.get("ge", field.default) <= field.default <= bounds.get("le", field.default), name
            assert "gt" not in bounds or field.default > bounds["gt"], name
            assert "lt" not in bounds or field.default < bounds["lt"], name
    assert checked, kind.__name__


def _inside(annotation: Any) -> Iterator[Any]:
    """The metadata of what an optional field, or a list, holds."""
    for part in get_args(annotation):
        yield from _inside(part)
        for one in getattr(part, "__metadata__", ()):
            yield one
            yield from getattr(one, "metadata", ())
