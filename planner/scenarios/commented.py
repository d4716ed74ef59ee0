"""A scenario as a file to be edited: every field of its tables with its meaning, those that are not set commented out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.common.translation import spoken_language
from planner.scenarios.fields import TABLES, FieldNote, table_fields
from planner.scenarios.literals import literal
from planner.scenarios.scenario import PLAN_TABLES, Scenario

OFFERED = ("cluster", "job", "layout", "price", "run", "cost")
"""Tables whose other fields are shown, too; a model and a framework have a hundred each: ``planner schema`` lists them."""
LEAD = {
    "layout": "# left out: the simplest of the fastest layouts that fit is chosen",
    "price": "# left out: the catalog's median of the newest comparable quotes",
    "run": "# for planner run: failures, checkpoints, experts",
    "cost": "# for planner run: energy, storage, data, owning",
    "framework": "# left out: the usual one for the job; planner frameworks list",
}


def commented_toml(scenario: Scenario) -> str:
    """The main case as a scenario file with comments; it reads back as the same tables."""
    case = scenario.cases[0]
    lines = [f"title = {literal(scenario.title)}", f"label = {literal(case.label)}"]
    for name in (*PLAN_TABLES, "run", "cost"):
        lines += ["", *_table(name, case.tables.get(name))]
    return "\n".join(lines) + "\n"


def _table(name: str, given: Mapping[str, Any] | None) -> list[str]:
    """The lines of a table, commented out where the scenario has none."""
    mark = "" if given is not None else "# "
    lines = [f"{mark}[{name}]", *([LEAD[name]] if name in LEAD and given is None else [])]
    notes = {note.name: note for note in table_fields(name)} if name in TABLES else {}
    inner = {key: value for key, value in (given or {}).items() if isinstance(value, Mapping)}
    for key, value in (given or {}).items():
        if value is not None and key not in inner:
            lines.append(f"{key} = {literal(value)}{_why(notes.get(key))}")
    if name in OFFERED:
        lines += [f"# {n.name} = {literal(n.example)}{_why(n)}" for n in notes.values() if n.name not in (given or {})]
    for key, value in inner.items():
        lines += _table(f"{name}.{key}", value)
    return lines


def _why(note: FieldNote | None) -> str:
    if note is None:
        return ""
    unit = f" ({note.unit})" if note.unit not in ("-", note.meaning.partition(" ")[0]) else ""
    return f"  # {note.said(spoken_language())}{unit}"
