"""Tables and their fields as text for a terminal and as Markdown for the reference pages."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from planner.scenarios.fields import TABLES, FieldNote, TableNote
from planner.scenarios.literals import literal


def tables_text(width: int = 80) -> str:
    """Every table: where it stands, and what it holds."""
    lines = []
    for note in TABLES.values():
        lines += textwrap.wrap(
            f"{note.where}. {note.summary}", width, initial_indent=f"{note.name:<20}", subsequent_indent=" " * 20
        )
    return "\n".join([*lines, "", "planner schema TABLE lists its fields; planner schema TABLE.FIELD shows one."])


def fields_text(table: TableNote, fields: Sequence[FieldNote], width: int = 80) -> str:
    """A table's fields, each with type, unit, default, meaning and example."""
    lines = textwrap.wrap(f"[{table.name}] in {table.where}. {table.summary}", width)
    for field in fields:
        lines += ["", f"{field.name}", *_indented(field.meaning, width), *_indented(_facts(field), width)]
        lines += _indented(f"example: {example_of(field)}", width)
    return "\n".join(lines)


def _facts(field: FieldNote) -> str:
    unit = f"; {field.unit}" if field.unit != "-" else ""
    default = {"required": "must be given", "-": "may be left out"}.get(field.default, f"{field.default} when left out")
    return f"{field.type}{unit}; {default}"


def _indented(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def example_of(field: FieldNote) -> str:
    """A line of TOML that sets the field."""
    return f"{field.name} = {literal(field.example)}"


def fields_markdown(table: TableNote, fields: Sequence[FieldNote]) -> str:
    """A table's fields as a section of a page."""
    rows = [
        f"| `{f.name}` | {_cell(f.meaning)} | {_cell(f.type)} | {f.unit} | {_code(f.default)} | `{_cell(literal(f.example))}` |"
        for f in fields
    ]
    head = ["| field | meaning | type | unit | default | example |", "|---|---|---|---|---|---|"]
    return "\n".join(
        [f"## [{table.name}] {{ #{anchor(table.name)} }}", "", f"In {table.where}. {table.summary}", "", *head, *rows]
    )


def anchor(name: str) -> str:
    """The anchor of a table on its page."""
    return "table-" + name.replace(".", "-")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _code(default: str) -> str:
    return default if default in ("required", "-") else f"`{_cell(default)}`"
