"""The one error that users see: which file, which field, which value, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError


class PlannerError(ValueError):
    """Bad input. The message is one paragraph for people; the command line prints it and exits with 2."""


def near(name: str, known: Iterable[str], limit: int = 8) -> str:
    """Say which known names are near to ``name``: "did you mean ...?", or the whole list when nothing is near.

    >>> near("lama-2-7b", ["llama-2-7b", "gpt2"])
    'did you mean llama-2-7b?'
    """
    names = sorted(known)
    lowered = {n.lower(): n for n in names}
    close = [lowered[n] for n in difflib.get_close_matches(name.lower(), lowered, n=limit, cutoff=0.55)]
    close += [n for n in names if name and name.lower() in n.lower() and n not in close]
    if close:
        return f"did you mean {', '.join(close[:limit])}?"
    return f"known: {', '.join(names)}"


def _field_names(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields allowed where ``location`` points, for suggestions on a typo."""
    for part in location[:-1]:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return []
        annotation = fields[part].annotation
        inner = [a for a in (annotation, *getattr(annotation, "__args__", ())) if hasattr(a, "model_fields")]
        if not inner:
            return []
        model = inner[0]
    return list(getattr(model, "model_fields", {}))


def explain(error: ValidationError, where: str, model: type[Any]) -> PlannerError:
    """Turn pydantic's report into one paragraph that names place, field, value and remedy."""
    parts = []
    for item in error.errors(include_url=False):
        location = tuple(item["loc"])
        field = ".".join(str(p) for p in location) or "the whole table"
        given = item.get("input")
        if item["type"] == "extra_forbidden":
            hint = near(str(location[-1]), _field_names(model, location))
            parts.append(f"unknown field {field} = {given!r}; {hint}")
        elif item["type"] == "missing":
            parts.append(f"field {field} is missing")
        elif item["type"] == "value_error":
            message = str(item.get("ctx", {}).get("error", item["msg"]))
            parts.append(f"{field}: {message}" if location else message)
        else:
            parts.append(f"{field} = {_short(given)}: {item['msg'][0].lower()}{item['msg'][1:]}")
    return PlannerError(f"{where}: {'; '.join(parts)}.")


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
