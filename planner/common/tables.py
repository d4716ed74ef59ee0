"""Tables to files: parquet, CSV or JSON lines, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.common.errors import PlannerError
from planner.common.files import require_folder, write_whole

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".csv", ".json")


def check_output(path: Path) -> None:
    """Refuse a path for tables before any work is done."""
    if path.suffix.lower() not in SUFFIXES:
        raise PlannerError("--out {0}: give a path that ends in {1}.", path, ", ".join(SUFFIXES))
    require_folder(path, "--out")
    if path.is_dir():
        raise PlannerError("--out {0}: is a folder; give the path of a file.", path)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as parquet, CSV or JSON lines; on failure PlannerError, and the file is as before."""
    check_output(path)
    write_whole(path, lambda temporary: _write(temporary, path.suffix.lower(), table))


def one_row(values: Mapping[str, Any]) -> pd.DataFrame:
    """A frame of one row: nested tables become columns such as ``memory_bytes.parameters``, texts in a list one text."""
    import pandas as pd

    return pd.DataFrame([dict(_flat(values, ""))])


def _flat(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, list | tuple | set | frozenset):
            yield f"{before}{name}", "; ".join(str(one) for one in value)
        else:
            yield f"{before}{name}", value


def _write(path: Path, suffix: str, table: pd.DataFrame) -> None:
    if suffix == ".parquet":
        mixed = [c for c in table if len({type(v) for v in table[c] if v is not None}) > 1 and table[c].dtype == object]
        table.astype(dict.fromkeys(mixed, str)).to_parquet(path, index=False)  # a parquet column has one type
    elif suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)
