"""The record: one JSON file with everything that was measured, written atomically, read strictly.

Version 1. Top: ``schema``, ``version``, ``created``, ``finished``, ``command``, ``budget_s``, ``ranks``, ``device``,
``versions``, ``samples``, ``checksum``. A sample: ``family``, ``name``, ``shape``, ``dtype``, ``status`` (measured or
skipped), ``reason``, ``time`` (seconds: median, p10, p90, minimum, repeats, noisy), ``flops``, ``bytes``, ``flops_per_s``,
``bytes_per_s``, ``error`` (of the correctness check), ``extra``, ``checksum``.

Checksums are the first 16 digits of SHA-256 over the canonical JSON of the rest: they tell an edited or damaged record from a
whole one, not a forged one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

SCHEMA = "planner kernel record"
VERSION = 1
TOP = {
    "schema": str, "version": int, "created": str, "finished": bool, "command": list, "budget_s": float, "ranks": int,
    "device": dict, "versions": dict, "samples": list, "checksum": str,
}  # fmt: skip
SAMPLE = {
    "family": str, "name": str, "shape": dict, "dtype": str, "status": str, "reason": str, "time": (dict, type(None)),
    "flops": float, "bytes": float, "flops_per_s": (float, type(None)), "bytes_per_s": (float, type(None)),
    "error": (float, type(None)), "extra": dict, "checksum": str,
}  # fmt: skip
TIME = {"median_s": float, "p10_s": float, "p90_s": float, "minimum_s": float, "repeats": int, "noisy": bool}
DEVICE = {"kind": str, "name": str, "memory_bytes": float, "num_threads": int, "before": dict, "after": dict}


class RecordError(ValueError):
    """A record that cannot be used; the message names file and field."""


def checksum(value: dict[str, Any]) -> str:
    """Of everything but the field ``checksum`` itself."""
    rest = {k: v for k, v in value.items() if k != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def seal(value: dict[str, Any]) -> dict[str, Any]:
    """``value`` as JSON holds it (tuples become lists), with its checksum."""
    plain: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    return {**plain, "checksum": checksum(plain)}


def write(record: dict[str, Any], path: Path) -> None:
    """Write beside the target and rename: whoever reads, or kills us, finds the old record or the new one, never half.

    One process writes a record: what a killed one left beside it is written over by the next.
    """
    text = json.dumps(seal(record), indent=1, allow_nan=False)
    beside = path.with_name(f".{path.name}.written")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def mark_path(path: Path) -> Path:
    """Where a run says what it is measuring."""
    return path.with_name(f".{path.name}.running")


def mark(path: Path, case: dict[str, Any]) -> None:
    """Leave word beside the record of the case that is measured now."""
    mark_path(path).write_text(json.dumps(case), encoding="utf-8")


def marked(path: Path) -> dict[str, Any] | None:
    """The case that a run was measuring when it ended; None when there is no word of one."""
    try:
        found: dict[str, Any] = json.loads(mark_path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return found


def unmark(path: Path) -> None:
    """Nothing is measured any more."""
    mark_path(path).unlink(missing_ok=True)


def note_lost(path: Path, reason: str) -> bool:
    """Put the case that was being measured into the record as skipped, for ``reason``; False when no case was marked."""
    case = marked(path)
    unmark(path)
    if case is None or not path.is_file():
        return False
    record = read(path)
    identity = {name: case[name] for name in ("family", "name", "shape", "dtype")}
    if any(all(s[name] == value for name, value in identity.items()) for s in record["samples"]):
        return True
    empty = {"time": None, "flops": 0.0, "bytes": 0.0, "flops_per_s": None, "bytes_per_s": None, "error": None, "extra": {}}
    record["samples"].append(seal({**identity, "status": "skipped", "reason": reason, **empty}))
    write(record, path)
    return True


def read(path: Path) -> dict[str, Any]:
    """Read and check a record; RecordError says what is wrong and where."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: cannot be read ({error}).") from None
    except json.JSONDecodeError as error:
        raise RecordError(f"{path}: not valid JSON, cut off or edited: {error}.") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise RecordError(f"{path}: schema = {found!r}: must be {SCHEMA!r}; this is no record of python -m kernels run.")
    if data.get("version") != VERSION:
        raise RecordError(f"{path}: version = {data.get('version')!r}: this program reads {VERSION}; measure again with it.")
    _fields(f"{path}", data, TOP)
    _fields(f"{path}: device", data["device"], DEVICE, more=True)
    for i, sample in enumerate(data["samples"]):
        _sample(f"{path}: samples[{i}]", sample)
    if data["checksum"] != checksum(data):
        raise RecordError(
            f"{path}: checksum = {data['checksum']!r} does not match the content: the record was edited or damaged."
        )
    return data


def _fields(where: str, value: Any, fields: dict[str, Any], more: bool = False) -> None:
    if not isinstance(value, dict):
        raise RecordError(f"{where} = {value!r}: must be an object.")
    for name, kinds in fields.items():
        if name not in value:
            raise RecordError(f"{where}: field {name} is missing.")
        given, allowed = value[name], kinds if isinstance(kinds, tuple) else (kinds,)
        whole_number = float in allowed and isinstance(given, int) and not isinstance(given, bool)
        is_bool = isinstance(given, bool) and bool not in allowed
        if is_bool or not (isinstance(given, allowed) or whole_number):
            raise RecordError(f"{where}: {name} = {_short(given)}: must be {' or '.join(k.__name__ for k in allowed)}.")
        if isinstance(given, float) and not math.isfinite(given):
            raise RecordError(f"{where}: {name} = {given}: must be finite.")
    unknown = set(value) - set(fields)
    if unknown and not more:
        raise RecordError(f"{where}: unknown field {min(unknown)}; known: {', '.join(fields)}.")


def _sample(where: str, sample: Any) -> None:
    _fields(where, sample, SAMPLE)
    if sample["status"] not in ("measured", "skipped"):
        raise RecordError(f"{where}: status = {sample['status']!r}: must be measured or skipped.")
    if sample["status"] == "skipped" and not sample["reason"]:
        raise RecordError(f"{where}: reason is empty: a skipped sample says why.")
    if sample["status"] == "measured" and sample["time"] is None and sample["family"] not in ("out_of_memory", "compile"):
        raise RecordError(f"{where}: time is null: a measured sample has one.")
    if sample["time"] is not None:
        _fields(f"{where}: time", sample["time"], TIME)
        if not 0 < sample["time"]["minimum_s"] <= sample["time"]["median_s"]:
            raise RecordError(f"{where}: time.median_s = {sample['time']['median_s']}: must be positive, not below minimum_s.")
    if sample["checksum"] != checksum(sample):
        raise RecordError(f"{where}: checksum does not match the content: the sample was edited or damaged.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
