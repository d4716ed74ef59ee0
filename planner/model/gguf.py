"""Metadata of a GGUF file, from its head (ggml-org/ggml, docs/gguf.md): sizes, format, whether head and words are one table."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any, BinaryIO

from planner.common.errors import PlannerError

MAGIC = b"GGUF"
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""Type of a value -> how struct reads it; 8 is a text, 9 an array."""
TEXT, ARRAY = 8, 9
MOST = 10_000_000
"""Entries of an array, tensors, and bytes of a text that no model has more of."""
MOST_PARTS = 1000
"""Parts of a split file that are opened."""
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S",
    22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS",
    31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
}  # fmt: skip
"""general.file_type (llama.cpp, include/llama.h, llama_ftype)."""
GUESSED = 1024
"""Added to a file_type that llama.cpp read off the tensors."""
PART = re.compile(r"-(\d{5})-of-(\d{5})(\.gguf)$", re.IGNORECASE)
"""How the name of a part of a split file ends (llama.cpp, llama_split_path)."""


def is_gguf(name: str) -> bool:
    """Whether a name is that of a GGUF file."""
    return name.lower().endswith(".gguf")


def file_type(number: Any) -> str:
    """The format that a general.file_type names.

    >>> file_type(15), file_type(1024 + 18), file_type(77), file_type(None)
    ('Q4_K_M', 'Q6_K', 'type 77', 'without general.file_type')
    """
    if not isinstance(number, int):
        return "without general.file_type"
    return FILE_TYPES.get(number & ~GUESSED, f"type {number}")


def gguf_metadata(path: Path) -> dict[str, Any]:
    """Key -> value, as gguf-dump prints them; of arrays of texts the number. ``output.weight``: whether the head has a table of
    its own, left out where it may be in a part of the file that is not beside this one. PlannerError where the file is none, ends
    inside its head, or is a later part, which says no sizes.
    """
    found, names = _head(path)
    count = found.get("split.count")
    if not isinstance(count, int) or count < 2:
        return {**found, "output.weight": "output.weight" in names}
    if "general.architecture" not in found:
        raise PlannerError("{0}: is a later part of a split GGUF, which says no sizes; give its first part.", path, code="file")
    others = [path.with_name(PART.sub(rf"-{n:05}-of-{count:05}\3", path.name)) for n in range(1, count + 1) if n <= MOST_PARTS]
    whole = PART.search(path.name) is not None and len(others) == count
    there = [one for one in others if whole and one.is_file()]
    if any("output.weight" in part for part in (names, *(_head(one)[1] for one in there if one != path))):
        return {**found, "output.weight": True}
    return {**found, "output.weight": False} if len(there) == count else found


def _head(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Metadata, and the names of the tensors."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise PlannerError("{0}: does not begin as a GGUF file does; give the model's config.json.", path, code="file")
            _, tensors, pairs = _number(file, "<I"), _number(file, "<Q"), _number(file, "<Q")
            found = {}
            for _ in range(_sane(pairs)):
                key = _text(file)
                found[key] = _value(file, _number(file, "<I"))
            names = [_tensor(file) for _ in range(_sane(tensors))]
    except (OSError, ValueError, struct.error, UnicodeDecodeError, RecursionError):
        raise PlannerError(
            "{0}: ends inside its head, or is damaged; download it again, or give the model's config.json.", path, code="file"
        ) from None
    return found, names


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _sane(count: int) -> int:
    if count > MOST:
        raise ValueError
    return count


def _text(file: BinaryIO) -> str:
    size = _sane(_number(file, "<Q"))
    raw = file.read(size)
    if len(raw) < size:
        raise ValueError
    return raw.decode()


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == TEXT:
        return _text(file)
    if kind != ARRAY:
        return _number(file, _form(kind))
    inner, count = _number(file, "<I"), _sane(_number(file, "<Q"))
    if inner == TEXT:
        for _ in range(count):
            file.seek(_sane(_number(file, "<Q")), 1)
        return count
    return [_value(file, inner) for _ in range(count)]


def _form(kind: int) -> str:
    if kind not in SCALARS:
        raise ValueError
    return SCALARS[kind]


def _tensor(file: BinaryIO) -> str:
    name = _text(file)
    file.seek(8 * _sane(_number(file, "<I")) + 4 + 8, 1)  # dimensions, type, offset
    return name
