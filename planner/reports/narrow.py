"""Tables of many columns on a narrow terminal: no number is broken, long text stands in lines of its own."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from planner.reports.text import folded

GAP = 2
"""Columns between two columns."""
FEWEST_COLUMNS = 5
"""The cells of a table of fewer columns wrap well."""
WRAPPED = 22
"""Columns of a case, at least, where several stand side by side: a number and its interval, the name of a node."""
NAMED = 28
"""Columns of the names of figures beside cases that have no more room; longer ones wrap."""
LONG = 12
"""Columns of a cell that may stand in a line of its own."""


def narrowed(table: Table, width: int) -> Table | Text | Group:
    """The table itself where it fits. Else cases side by side, as many as have room, the others in tables below; or rows as
    lines, with the columns that do not fit below them by name."""
    headers = [_plain(column.header) for column in table.columns]
    rows = list(zip(*([_plain(cell) for cell in column.cells] for column in table.columns), strict=True))
    wide = [max([cell_len(h), *(cell_len(row[i]) for row in rows)]) for i, h in enumerate(headers)]
    if sum(wide) + 3 * len(wide) + 1 <= width:
        return table
    if not headers[0] and all(column.overflow == "fold" for column in table.columns[1:]):
        room = width - 1 - (WRAPPED + 3) * (len(headers) - 1)  # beside all cases
        return _cases(table, min(wide[0], max(NAMED, room)), width)
    if len(headers) < FEWEST_COLUMNS:
        return table
    kept, below = _kept(wide, width)
    right = [column.justify == "right" for column in table.columns]
    lines = folded(_plain(table.title), width) if table.title else []
    lines += [_line([headers[i] for i in kept], [wide[i] for i in kept], [right[i] for i in kept]), "─" * width]
    for row in rows:
        lines.append(_line([row[i] for i in kept], [wide[i] for i in kept], [right[i] for i in kept]))
        for i in below:
            if row[i]:
                text = f"{headers[i]}: {row[i]}"
                lines += folded(text, width, " " * 4, " " * 8)
    return Text("\n".join(line.rstrip() for line in lines))


def _cases(table: Table, named: int, width: int) -> Group:
    """A table whose first column names figures and whose others are cases, ``width`` columns wide at most."""
    each = max((width - named - 1) // (WRAPPED + 3), 1)
    parts: list[Table] = []
    for start in range(1, len(table.columns), each):
        part = Table(title=None if parts else table.title, title_justify="left", title_style="bold", pad_edge=False)
        shown = table.columns[start : start + each]
        part.add_column("", max_width=named)
        for column in shown:
            part.add_column(column.header, justify=column.justify, overflow="fold")
        cells = zip(*(list(column.cells) for column in (table.columns[0], *shown)), strict=True)
        for row, told in zip(table.rows, cells, strict=True):
            part.add_row(*told, end_section=row.end_section)
        parts.append(part)
    return Group(*parts)


def _kept(wide: Sequence[int], width: int) -> tuple[list[int], list[int]]:
    """(columns that stand in the line, columns below it): the widest go first, but never the first column."""
    kept = list(range(len(wide)))
    below: list[int] = []
    while len(kept) > 1 and sum(wide[i] for i in kept) + GAP * (len(kept) - 1) > width:
        widest = max(kept[1:], key=lambda i: (wide[i] > LONG, wide[i], i))
        kept.remove(widest)
        below.append(widest)
    return kept, sorted(below)


def _line(cells: Sequence[str], wide: Sequence[int], right: Sequence[bool]) -> str:
    parts = []
    for cell, size, flush in zip(cells, wide, right, strict=True):
        space = " " * (size - cell_len(cell))
        parts.append(space + cell if flush else cell + space)
    return (" " * GAP).join(parts)


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)
