"""Large TOML files of the package, kept parsed in the user's cache folder.

``tomllib`` takes about a microsecond a byte, a third of what a short question costs; JSON is read 50 times as fast. What is
kept is named by the SHA-256 of the text, so another text never finds it, and begins with the SHA-256 of itself, so that a file
cut short or changed is not believed. Where the folder cannot be written all works as without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import tomllib
from pathlib import Path
from typing import Any

WORTH_CHARACTERS = 8192
"""Shorter texts are parsed in less time than a second file takes to open."""
MOST_FILES = 32
"""Kept at most, the newest: each release of the package brings other texts."""
FORM = "1"
"""Of what is kept; part of the name."""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/planner``, else ``~/.cache/planner``. Raises RuntimeError where there is no home."""
    stated = os.environ.get("XDG_CACHE_HOME")
    return (Path(stated) if stated else Path.home() / ".cache") / "planner"


def parsed_toml(text: str) -> dict[str, Any]:
    """``tomllib.loads(text)``, equal in values and types. Raises ``tomllib.TOMLDecodeError`` like it."""
    found = kept(text)
    if found is None:
        found = tomllib.loads(text)
        keep(text, found)
    return found


def kept(text: str) -> dict[str, Any] | None:
    """What the text says, if it was kept and is whole."""
    place = _place(text)
    if place is None:
        return None
    try:
        digest, _, payload = place.read_bytes().partition(b"\n")
        if hashlib.sha256(payload).hexdigest().encode() != digest:
            return None
        found: dict[str, Any] = json.loads(payload)
    except (OSError, ValueError):
        return None
    return found


def keep(text: str, data: dict[str, Any]) -> None:
    """Put what the text says into the folder in one step, if JSON can say it (dates it cannot) and the folder takes it."""
    place = _place(text)
    if place is None:
        return
    try:
        payload = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError):
        return
    fresh = place.with_name(f"{place.name}.{os.getpid()}-{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            fresh.write_bytes(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
            os.replace(fresh, place)
        finally:
            fresh.unlink(missing_ok=True)
        _clear_old(place.parent)


def _place(text: str) -> Path | None:
    """Where a text's content stands; None for a short text, and where there is no home."""
    if len(text) < WORTH_CHARACTERS:
        return None
    name = hashlib.sha256(f"{FORM}\n{text}".encode()).hexdigest()
    try:
        return cache_folder() / "parsed" / f"{name}.json"
    except RuntimeError:
        return None


def _clear_old(folder: Path) -> None:
    """Remove all but the newest; half-written files of killed processes age as the others do."""
    ages = sorted(((path.stat().st_mtime, path) for path in folder.iterdir()), reverse=True)
    for _, path in ages[MOST_FILES:]:
        path.unlink(missing_ok=True)
