"""A layout as tables print it, read back: "tp2 pp8 ep4 sp zero1 mbs1 recompute selective"."""

from __future__ import annotations

import re
from typing import Any

from planner.common.errors import PlannerError, near

NUMBERS = {
    **{name: name for name in ("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "zero")},
    "shard": "shard_group_size",
    "mbs": "micro_batch_size",
    "micro batch size": "micro_batch_size",
}
"""A word that a number follows, and the field of Layout that it is."""
WORDS: dict[str, tuple[str, Any]] = {
    "sp": ("sequence_parallel", True),
    "sequence parallel": ("sequence_parallel", True),
    "fsdp": ("zero", 3),
    "zero-bubble": ("schedule", "zero-bubble"),
    "recompute none": ("recompute", "none"),
    "recompute selective": ("recompute", "selective"),
    "recompute full": ("recompute", "full"),
    "offload optimizer": ("offload_optimizer", True),
    "offload parameters": ("offload_parameters", True),
    "offload activations": ("offload_activations", True),
}
"""Words without a number: (field, value)."""
EXAMPLE = "tp2 pp8 ep4 sp zero1 mbs1 recompute selective"
_NUMBERED = re.compile(rf"({'|'.join(NUMBERS)})[ =:]?(\d{{1,9}})(?![\w.])")
_WORD = re.compile(rf"({'|'.join(re.escape(word) for word in WORDS)})(?![\w.])")
_SPELLED = re.compile("|".join(re.sub(" ", "[_=:]", name) for name in (*NUMBERS, *WORDS) if " " in name))
"""Names of several words as a scenario writes them: offload_activations, recompute=full."""


def _spaced(found: re.Match[str]) -> str:
    return re.sub("[_=:]", " ", found[0])


def layout_fields(text: str, name: str = "--layout") -> dict[str, Any]:
    """The fields of Layout that a text gives, as ``Layout.label`` or a scenario has them; commas, "x", capitals do not matter.

    What it leaves out is Layout's default. Raises PlannerError, named ``name``, for a part that is none or that comes twice.

    >>> layout_fields("TP2, PP=4 x sp recompute full")
    {'tp': 2, 'pp': 4, 'sequence_parallel': True, 'recompute': 'full'}
    >>> layout_fields("micro_batch_size=2 recompute=full offload_activations")
    {'micro_batch_size': 2, 'recompute': 'full', 'offload_activations': True}
    """
    rest = re.sub(r"\s+", " ", re.sub(r"[,;+]| x ", " ", _SPELLED.sub(_spaced, text.lower()))).strip()
    found: dict[str, Any] = {}
    while rest:
        part = _NUMBERED.match(rest) or _WORD.match(rest)
        if part is None:
            wrong = rest.partition(" ")[0]
            meant = near(re.sub(r"[=:]?[\d.]*$", "", wrong), (*NUMBERS, *WORDS), limit=len(NUMBERS) + len(WORDS))
            raise PlannerError(
                "{0} {1!r}: {2!r} is no part of a layout, such as {3!r}; {4}.",
                name,
                text,
                wrong,
                EXAMPLE,
                meant,
                field=name,
                value=text,
            )
        field, value = WORDS[part[1]] if part[1] in WORDS else (NUMBERS[part[1]], int(part[2]))
        if field in found:
            raise PlannerError("{0} {1!r}: gives {2} twice; give it once.", name, text, field, field=name, value=text)
        found[field] = value
        rest = rest[part.end() :].strip()
    if not found:
        raise PlannerError(
            "{0}: is empty; write a layout as tables print it, such as {1!r}.", name, EXAMPLE, field=name, value=text
        )
    return found
