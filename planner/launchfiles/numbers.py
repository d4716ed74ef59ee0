"""Numbers of options, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from planner.common.errors import PlannerError
from planner.launchfiles.understanding import Said, shown

MOST = 10**12


def whole(fields: Mapping[str, Any], name: str, least: int = 1) -> int | None:
    """A whole number that an option gives, None where none does; PlannerError for anything else.

    ``least`` = -1 admits -1, which several tools write for "whatever is left".
    """
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
        what = name.removeprefix("said.").replace("_", " ") if name.startswith("said.") else name
        raise PlannerError(
            "{0} = {1!r} in the launch file: must be a whole number of at least {2}.",
            what,
            value if isinstance(value, list) else shown(value),
            least,
            code="quantity",
            field=name,
            value=shown(value),
        )
    return value


SUFFIX = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG])")
MULTIPLES = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
"""Suffixes of vLLM's lengths, such as 1k and 1K (vllm/engine/arg_utils.py, human_readable_int); 1.5k is one, 1.5K is not."""


def length(said: Said, name: str, least: int = 1) -> int | None:
    """``whole`` of tokens, which vLLM writes as 8k and 8K too; the message names the option as it is written."""
    value = said.fields.get(name)
    found = SUFFIX.fullmatch(value) if isinstance(value, str) and said.has("vllm") else None
    if found is not None and (found[2].islower() or "." not in found[1]):
        return round(float(found[1]) * MULTIPLES[found[2]])
    written = next((line.option for line in reversed(said.lines) if line.field == name), name)
    return whole({written: value}, written, least)


def names_of(value: Any) -> list[str]:
    """A list of names, written as a list, with commas or spaces, or as Python's or JSON's list.

    >>> names_of("['q_proj', 'v_proj']"), names_of("q_proj,v_proj"), names_of(["all-linear"])
    (['q_proj', 'v_proj'], ['q_proj', 'v_proj'], ['all-linear'])
    """
    text = " ".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)
    return [name for name in re.split(r"[\s,\[\]\"']+", text) if name]
