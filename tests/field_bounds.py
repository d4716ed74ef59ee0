"""What the fields of a spec may be, in the notation of intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from planner.common.spec import Spec


def ranges(kind: type[Spec]) -> dict[str, str]:
    """ "[0, 1)" for each field that has bounds: 0 is allowed, 1 is not."""
    found = {}
    for name, field in kind.model_fields.items():
        known = {
            what: getattr(one, what)
            for one in (*field.metadata, *_inside(field.annotation))
            for what in BOUNDS
            if hasattr(one, what)
        }
        if known:
            low = f"[{known['ge']}" if "ge" in known else f"({known.get('gt', '-inf')}"
            found[name] = low + (f", {known['le']}]" if "le" in known else f", {known.get('lt', 'inf')})")
    return found


BOUNDS = ("ge", "gt", "le", "lt")


def _inside(annotation: Any) -> Iterator[Any]:
    """The metadata of what an optional field holds."""
    for part in get_args(annotation):
        yield from getattr(part, "__metadata__", ())
        for one in getattr(part, "__metadata__", ()):
            yield from getattr(one, "metadata", ())
