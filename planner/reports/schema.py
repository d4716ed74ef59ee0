"""Tables and their fields as text for a terminal and as Markdown for the reference pages."""

from __future__ import annotations

from collections.abc import Sequence

from planner.common.message import Message, join_messages
from planner.common.translation import spoken, spoken_language
from planner.reports.text import folded
from planner.scenarios.fields import TABLES, FieldNote, TableNote
from planner.scenarios.literals import literal


def tables_text(width: int = 80) -> str:
    """Every table: where it stands, and what it holds."""
    lines = []
    for note in TABLES.values():
        where, summary = note.said(spoken_language())
        lines += folded(spoken(Message("{0}. {1}", where, summary)), width, f"{note.name:<20}", " " * 20)
    end = spoken(Message("planner schema TABLE lists its fields; planner schema TABLE.FIELD shows one."))
    return "\n".join([*lines, "", *folded(end, width)])


def fields_text(table: TableNote, fields: Sequence[FieldNote], width: int = 80) -> str:
    """A table's fields, each with type, unit, default, meaning and example."""
    lines = folded(spoken(Message("[{0}] in {1}. {2}", table.name, *table.said(spoken_language()))), width)
    for field in fields:
        lines += ["", f"{field.name}", *_indented(field.said(spoken_language()), width), *_indented(_facts(field), width)]
        lines += _indented(spoken(Message("example: {0}", example_of(field))), width)
    return "\n".join(lines)


LEFT_OUT = {"required": Message("must be given"), "-": Message("may be left out")}
"""What is said of a field without a default."""


def _facts(field: FieldNote) -> str:
    kind = field.type_zh if spoken_language() == "zh" else field.type
    default = LEFT_OUT.get(field.default, Message("{0} when left out", field.default))
    return spoken(join_messages("; ", [kind, *([field.unit] if field.unit != "-" else []), default]))


def _indented(text: str, width: int) -> list[str]:
    return folded(text, width, "    ", "    ")


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
