"""Values as TOML writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def literal(value: Any) -> str:
    """A value as TOML writes it; whole numbers of six digits or more in groups of three.

    >>> literal(100000000000), literal(2.1), literal(True), literal(["a", 2])
    ('100_000_000_000', '2.1', 'true', '["a", 2]')
    >>> literal(4e12), literal(5e-6), literal(2000.0)
    ('4e12', '5e-6', '2000.0')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}" if abs(value) >= 100_000 else str(value)
    if isinstance(value, float):
        mantissa, _, power = f"{value:.15e}".partition("e")
        short = f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
        return short if (abs(value) >= 1e7 or 0 < abs(value) < 1e-3) and float(short) == value else repr(value)
    if isinstance(value, frozenset | set):
        return literal(sorted(value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(literal(one) for one in value)}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {literal(one)}" for key, one in value.items()) + " }" if value else "{}"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
