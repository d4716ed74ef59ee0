"""Lines and cells of a terminal that keep the message they show, and tables in the language that is spoken."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from rich.table import Table
from rich.text import Text

from planner.common.translation import spoken_label, spoken_language
from planner.reports.text import folded


class Line(Text):
    """Text that keeps its message: said in another language it keeps its style."""

    def __init__(self, message: str, style: str = "") -> None:
        super().__init__(str.__str__(message), style=style)
        self.message = message

    def spoken(self, width: int | None = None) -> Text:
        """In the language that is spoken; a Chinese one broken into lines of at most ``width`` columns."""
        if spoken_language() == "en":
            return self
        said = spoken_label(self.message)
        if width is not None and not said.isascii():
            said = "\n".join(folded(said.strip(), width, said[: len(said) - len(said.lstrip())]))
        return Text(said, style=self.style)


def spoken_table(table: Table) -> Table:
    """The table with title, headers and cells in the language that is spoken; itself in English."""
    if spoken_language() == "en":
        return table
    said = copy.copy(table)
    said.title = _said(table.title)
    said.columns = [
        replace(column, header=_said(column.header), _cells=[_said(cell) for cell in column.cells]) for column in table.columns
    ]
    return said


def _said(cell: Any) -> Any:
    if isinstance(cell, Line):
        return cell.spoken()
    return spoken_label(cell) if isinstance(cell, str) else cell
