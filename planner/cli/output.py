"""What commands share: JSON and tables on standard output, plot paths that can be written."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from planner.common import clock
from planner.common.errors import PlannerError
from planner.common.files import require_folder
from planner.common.message import Message
from planner.common.translation import spoken

if TYPE_CHECKING:
    from planner.serving.deployment import Deployment

Row = TypeVar("Row")
WIDEST = 1000
"""Columns that a table into a pipe may take."""
TRAILING = re.compile(r"(?<! ) +((?:\x1b\[[\d;]*m)*)$", re.MULTILINE)
"""The blanks that rich fills a line up with, and the codes of colours after them. A run of blanks is looked at once, from its
first on: from each of its blanks on, a wide table would take the square of its width."""
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
    """Tables and lines on standard output, in the language that is spoken.

    As wide as the terminal or ``COLUMNS`` says; into a file or a pipe, as they must be. No line ends in a blank. Texts are shown
    as they stand: "[job.adapter]" is a table, ":fire:" what somebody wrote.
    """
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    from planner.reports.line import Line, spoken_table
    from planner.reports.narrow import narrowed

    shown = [spoken_table(one) if isinstance(one, Table) else one for one in _each(renderables)]
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        console = Console(soft_wrap=False, emoji=False, markup=False)
    else:
        wide = Console(width=WIDEST, emoji=False, markup=False)
        needed = max((Measurement.get(wide, wide.options, one).maximum for one in shown), default=80)
        console = Console(width=needed, emoji=False, markup=False)
    with console.capture() as printed:
        for one in shown:
            if isinstance(one, Table):
                console.print(narrowed(one, console.width))
            else:
                console.print(one.spoken(console.width) if isinstance(one, Line) else one)
    print(TRAILING.sub(r"\1", printed.get()), end="")


def tell(text: str, *, error: bool = False) -> None:
    """A line in the language that is spoken: on standard output, or, beside an answer, on standard error."""
    print(spoken(text), file=sys.stderr if error else sys.stdout)


def _each(renderables: Iterable[Any]) -> Iterator[Any]:
    """The renderables, those of groups one by one; texts as lines."""
    from rich.console import Group

    from planner.reports.line import Line

    for one in renderables:
        if isinstance(one, Group):
            yield from _each(one.renderables)
        else:
            yield Line(one) if isinstance(one, str) else one


def with_words(rows: Sequence[Row], search: str, text: Callable[[Row], str]) -> list[Row]:
    """The rows whose text has all words of ``--search``, in any case."""
    return [row for row in rows if all(word in text(row).lower() for word in search.lower().split())]


def none_found(search: str, number: int) -> PlannerError:
    """The error of a ``--search`` that finds none of so many lines."""
    return PlannerError(
        "--search {0!r}: none of {1} lines has all of these words; leave it out to see them.",
        search,
        number,
        field="--search",
        value=search,
    )


def picked(rows: Sequence[Row], search: str, text: Callable[[Row], str]) -> list[Row]:
    """``with_words``; PlannerError where there are none."""
    found = with_words(rows, search, text)
    if not found:
        raise none_found(search, len(rows))
    return found


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


def check_new(path: Path | None) -> None:
    """Refuse where ``--write`` would write anything but a new scenario, before any work is done."""
    if path is None:
        return
    said: dict[str, Any] = {"code": "output", "field": "--write", "value": str(path)}
    if path.suffix.lower() != ".toml":
        raise PlannerError("--write {0}: give a path that ends in .toml.", path, **said)
    if path.exists():
        raise PlannerError("--write {0}: exists already; give another name, or remove it.", path, **said)
    require_folder(path, "--write")


def show_deployment(title: str, found: Deployment, usual: Sequence[str] = ()) -> None:
    """A deployment for people: the answer first, then what it rests on."""
    from planner.reports.answer import notes_text
    from planner.reports.serving_answer import serving_notes, serving_text

    print(serving_text(title, found, width()))
    notes = [*serving_notes(found, clock.today()), *usual]
    if found.assumptions:
        notes.append(
            Message("{0} constants are assumed, not measured: --json lists them; --details: the table", len(found.assumptions))
        )
    print(notes_text(notes, width()))
