"""Choices as people write them: BF16, AdamW, Full. A table's file has them as the schema does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from planner.common.errors import meant


def set_fields(texts: list[str] | None, *tables: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` changes (``parse_changes``), each choice as its table has it."""
    from planner.scenarios.quick import parse_changes

    return {field: as_choice(field, value) for field, value in parse_changes(texts, *tables).items()}


def as_choice(field: str, value: Any) -> Any:
    """The value of a field written on the command line; one of its choices in another case or with other marks is that choice.

    >>> as_choice("job.precision", "BF16"), as_choice("layout.recompute", "Full"), as_choice("job.optimizer", "AdamW 8bit")
    ('bf16', 'full', 'adamw-8bit')
    >>> as_choice("job.precision", "blue"), as_choice("job.seq_len", 4096)
    ('blue', 4096)
    """
    return meant(value, _choices(*field.rpartition(".")[::2])) if isinstance(value, str) and re.search("[A-Z ]", value) else value


@lru_cache(maxsize=1024)
def _choices(table: str, name: str) -> tuple[str, ...]:
    from planner.scenarios.fields import TABLES

    spec: Any = TABLES[table].spec if table in TABLES else None
    return tuple(_words(get_type_hints(spec, include_extras=True).get(name))) if spec is not None else ()


def _words(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [one for one in get_args(annotation) if isinstance(one, str)]
    return [word for one in get_args(annotation) for word in _words(one)]
