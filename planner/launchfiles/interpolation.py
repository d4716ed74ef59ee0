"""Values of YAML files that refer to others, as OmegaConf writes them: ``${model.hidden_size}``, ``${multiply:4, ${.heads}}``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from functools import reduce
from typing import Any

INNER = re.compile(r"\$\{([^${}]{1,200})\}")
"""A reference that holds no other."""
MOST_ROUNDS = 16
COMPUTED: dict[str, Callable[[Any, Any], Any]] = {
    "multiply": operator.mul,
    "divide_ceil": lambda a, b: -(-a // b),
    "divide_floor": operator.floordiv,
}
"""Resolvers of two numbers that NeMo's launcher registers (NVIDIA/NeMo-Framework-Launcher, launcher_scripts/main.py)."""


def interpolated(data: Mapping[str, Any], within: Collection[str] = ()) -> dict[str, Any]:
    """The table with the references resolved that it holds the answers to; others stay as they are written.

    ``within``: names under which a larger configuration may hold the table, such as its folders. A reference that begins with
    one of them points into the table itself, unless the table has such a key.

    >>> interpolated({"a": 2, "b": {"c": "${multiply:4, ${a}}", "d": "${.c}", "e": "${nothing}"}})
    {'a': 2, 'b': {'c': 8, 'd': 8, 'e': '${nothing}'}}
    """
    found = dict(data)
    for _ in range(MOST_ROUNDS):
        after = _walked(found, found, (), within)
        if after == found:
            break
        found = after
    return found


def _walked(value: Any, root: Mapping[str, Any], path: tuple[str, ...], within: Collection[str]) -> Any:
    if len(path) > MOST_ROUNDS:
        return value
    if isinstance(value, Mapping):
        return {key: _walked(one, root, (*path, str(key)), within) for key, one in value.items()}
    if not isinstance(value, str) or "${" not in value or len(value) > 1000:
        return value
    whole = INNER.fullmatch(value)
    if whole is not None:
        answer = _answered(whole[1], root, path, within)
        return value if answer is None else answer
    return INNER.sub(lambda one: _text(_answered(one[1], root, path, within), one[0]), value)


def _text(answer: Any, written: str) -> str:
    return str(answer) if isinstance(answer, str | int | float) and "${" not in str(answer) else written


def _answered(reference: str, root: Mapping[str, Any], path: tuple[str, ...], within: Collection[str]) -> Any:
    """What a reference stands for; None where the file does not say it."""
    name, colon, rest = reference.partition(":")
    if name == "oc.env":
        return rest.partition(",")[2].strip() or None
    if colon:
        words = rest.split(",")
        numbers = [number for number in map(_number, words) if number is not None]
        if name not in COMPUTED or len(numbers) < len(words) or (name != "multiply" and 0 in numbers[1:]):
            return None
        answer: float = reduce(COMPUTED[name], numbers)
        return int(answer) if float(answer).is_integer() and abs(answer) < 10**15 else answer
    dots = len(reference) - len(reference.lstrip("."))
    keys = [*path[: len(path) - dots], *reference[dots:].split(".")] if dots else reference.split(".")
    keys = keys[1:] if not dots and len(keys) > 1 and keys[0] in within and keys[0] not in root else keys
    found = _at(root, keys)
    return None if isinstance(found, Mapping | list) or (isinstance(found, str) and "${" in found) else found


def _at(root: Any, keys: list[str]) -> Any:
    for key in keys:
        root = root.get(key) if isinstance(root, Mapping) else None
    return root


def _number(word: str) -> int | float | None:
    try:
        return int(word) if re.fullmatch(r"\s*-?\d{1,15}\s*", word) else float(word)
    except ValueError:
        return None
