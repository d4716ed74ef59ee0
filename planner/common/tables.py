"""Tables to files: parquet, CSV, JSON lines or a workbook, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.common.errors import PlannerError
from planner.common.files import require_folder, write_whole
from planner.common.version import install_with

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".csv", ".json", ".xlsx")


def check_output(path: Path, option: str = "--out") -> None:
    """Refuse a path for tables, which ``option`` gives, before any work is done."""
    if path.suffix.lower() not in SUFFIXES:
        raise PlannerError(
            "{0} {1}: give a path that ends in {2}.", option, path, ", ".join(SUFFIXES), field=option, value=str(path)
        )
    require_folder(path, option)
    if path.is_dir():
        raise PlannerError("{0} {1}: is a folder; give the path of a file.", option, path, field=option, value=str(path))
    if path.suffix.lower() == ".xlsx":
        require_workbooks(path)


def require_workbooks(path: Path) -> None:
    """PlannerError where nothing here writes workbooks."""
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise PlannerError(
            "{0}: the package openpyxl is not installed; {1}, or give a path that ends in .csv.", path, install_with("xlsx")
        ) from None


def write_workbook(path: Path, sheets: Mapping[str, pd.DataFrame]) -> None:
    """Write tables as sheets of one workbook (.xlsx), headings frozen, columns as wide as their texts; whole or not at all."""
    import pandas as pd

    require_folder(path, "--xlsx")
    if path.suffix.lower() != ".xlsx":
        raise PlannerError("--xlsx {0}: give a path that ends in .xlsx.", path)
    require_workbooks(path)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file, pd.ExcelWriter(file, engine="openpyxl") as writer:
            for name, table in sheets.items():
                table.to_excel(writer, sheet_name=name, index=False, freeze_panes=(1, 0))
                sheet = writer.sheets[name]
                for column, values in zip(sheet.columns, table.columns, strict=False):
                    longest = max([len(str(values)), *(len(str(value)) for value in table[values])])
                    sheet.column_dimensions[column[0].column_letter].width = min(longest + 2, WIDEST_COLUMN)

    write_whole(path, write)


WIDEST_COLUMN = 60
"""Characters of a workbook's column."""


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
    elif suffix == ".xlsx":
        with path.open("wb") as file:
            table.to_excel(file, index=False, engine="openpyxl")
    else:
        table.to_json(path, orient="records", lines=True)
