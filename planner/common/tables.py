"""Tables to files: parquet, CSV or JSON lines, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from planner.common.errors import PlannerError
from planner.common.files import require_folder

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".csv", ".json")


def check_output(path: Path) -> None:
    """Refuse a path for tables before any work is done."""
    if path.suffix.lower() not in SUFFIXES:
        raise PlannerError(f"--out {path}: give a path that ends in {', '.join(SUFFIXES)}.")
    require_folder(path, "--out")
    if path.is_dir():
        raise PlannerError(f"--out {path}: is a folder; give the path of a file.")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as parquet, CSV or JSON lines; on failure PlannerError, and the file is as before."""
    check_output(path)
    write_whole(path, lambda temporary: _write(temporary, path.suffix.lower(), table))


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place: readers see the old file or all of the new.

    Raises PlannerError when the folder or the disk does not take it; then nothing is left behind.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise PlannerError(f"{path}: cannot be written ({error.strerror}).") from None
    try:
        write(Path(name))
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except OSError as error:
        raise PlannerError(f"{path}: cannot be written ({error.strerror or error}); nothing was written.") from None
    finally:
        Path(name).unlink(missing_ok=True)


def _write(path: Path, suffix: str, table: pd.DataFrame) -> None:
    if suffix == ".parquet":
        mixed = [c for c in table if len({type(v) for v in table[c] if v is not None}) > 1 and table[c].dtype == object]
        table.astype(dict.fromkeys(mixed, str)).to_parquet(path, index=False)  # a parquet column has one type
    elif suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)
