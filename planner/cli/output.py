"""What commands share: JSON and tables on standard output, plot paths that can be written."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from planner.common.errors import PlannerError
from planner.common.files import require_folder

WIDEST = 1000
"""Columns that a table into a pipe may take."""
SCHEMA_VERSION = 1
"""Of the JSON that commands print: raised when a name goes or changes its meaning, not when one is added."""


def print_json(value: Mapping[str, Any]) -> None:
    """JSON on standard output, nothing else: an object that begins with ``schema_version``."""
    print(json.dumps(plain({"schema_version": SCHEMA_VERSION, **value}), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """Values that JSON can hold; a number that is not finite becomes null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def show(*renderables: Any) -> None:
    """Tables on standard output: as wide as the terminal or ``COLUMNS`` says; into a file or a pipe, as they must be."""
    from rich.console import Console
    from rich.measure import Measurement

    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        console = Console(soft_wrap=False)
    else:
        wide = Console(width=WIDEST)
        console = Console(width=max((Measurement.get(wide, wide.options, one).maximum for one in renderables), default=80))
    from rich.table import Table

    from planner.reports.narrow import narrowed

    for one in _each(renderables):
        console.print(narrowed(one, console.width) if isinstance(one, Table) else one)


def _each(renderables: Iterable[Any]) -> Iterator[Any]:
    """The renderables, those of groups one by one."""
    from rich.console import Group

    for one in renderables:
        if isinstance(one, Group):
            yield from _each(one.renderables)
        else:
            yield one


def width() -> int:
    """Columns of text: the terminal's or those of ``COLUMNS``, at most 100; 80 into a pipe."""
    from shutil import get_terminal_size

    return min(get_terminal_size((80, 24)).columns, 100) if sys.stdout.isatty() or os.environ.get("COLUMNS") else 80


def check_plot(path: Path | None) -> None:
    """Refuse a plot path before any work is done."""
    if path is None:
        return
    if path.suffix.lower() not in {".png", ".svg", ".pdf"}:
        raise PlannerError("--plot {0}: give a path that ends in .png, .svg or .pdf.", path)
    require_folder(path, "--plot")
