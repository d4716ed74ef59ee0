"""Which field of a config.json a reader stumbled over: the first one without which it comes to another end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from planner.common.errors import PlannerError

STUMBLES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What Python raises where a value is of another kind than a reader takes it for."""


NAMES = ("model_type", "architectures")
"""Fields that choose the reader, blamed last."""


def paths(config: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every field, and every table."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from paths(value, (*above, key))
        yield (*above, key)


def without(config: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The same tables without one field."""
    first, rest = path[0], path[1:]
    if not rest:
        return {key: value for key, value in config.items() if key != first}
    return {key: (without(value, rest) if key == first else value) for key, value in config.items()}


def _at(config: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = config
    for key in path:
        value = value[key]
    return value


def culprit(config: Mapping[str, Any], read: Callable[[Mapping[str, Any]], object]) -> PlannerError:
    """What to say where ``read(config)`` stumbled: the field and its value, found by leaving each out in turn, whole tables
    last."""
    for path in sorted(paths(config), key=lambda path: (path[-1] in NAMES, isinstance(_at(config, path), Mapping))):
        try:
            read(without(config, path))
        except PlannerError:
            pass
        except STUMBLES:
            continue
        value = _at(config, path)
        return PlannerError("{0} = {1!r}: no value that this field can have; correct it, or leave it out", ".".join(path), value)
    return PlannerError("several of its fields have values that they cannot have; write the file anew with transformers")
