"""Metadata of a GGUF file, from its head (ggml-org/ggml, docs/gguf.md): sizes, format, whether head and words are one table."""

from __future__ import annotations

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
FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 7: "Q8_0", 14: "Q4_K_S", 15: "Q4_K_M", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16"}
"""general.file_type (llama.cpp, include/llama.h, llama_ftype)."""


def gguf_metadata(path: Path) -> dict[str, Any]:
    """Key -> value, as gguf-dump prints them; of arrays of texts the number. ``output.weight``: whether the head has a table of
    its own. PlannerError where the file is none, or ends inside its head.
    """
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
    return {**found, "output.weight": "output.weight" in names}


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
