"""Files written as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from planner.common.errors import PlannerError


def require_folder(path: Path, option: str = "") -> None:
    """PlannerError where the folder that ``path`` goes into does not exist: a mistyped path makes none."""
    if not path.parent.is_dir():
        raise PlannerError(f"{f'{option} ' if option else ''}{path}: the folder {path.parent} does not exist; make it first.")


def write_text(path: Path, text: str) -> None:
    """Write beside ``path``, then move into place; PlannerError when it cannot be written. No folder is made."""
    require_folder(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        try:
            with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
                file.write(text)
            Path(name).chmod(0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PlannerError(f"{path}: cannot be written ({error.strerror}); give a path in a writable folder.") from None
