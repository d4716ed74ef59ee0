"""Tables of a scenario file: the main case and its ``[[compare]]`` entries, checked and completed, whatever they ask."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.common.errors import PlannerError, near
from planner.common.message import Message

Table = dict[str, Any]
Tables = dict[str, Table]
OF_SERVING = ("model", "cluster", "serving", "load", "price")
"""Tables of a scenario of serving. They stand here for who only asks for their names."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a kind of scenario holds: its tables, those it needs, and what a case is called without a label."""

    tables: tuple[str, ...]
    required: tuple[str, ...]
    label: Callable[[Tables], str]
    not_inherited: Mapping[str, tuple[str, ...]]
    """Field -> others of its table: a ``[[compare]]`` that gives the first does not take over the others."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """Tables of one case with its label and the place that an error begins with."""

    label: str
    tables: Tables
    where: str


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Errors inside begin with the place, once."""
    try:
        yield
    except PlannerError as error:
        raise error if str(error).startswith(f"{where}:") else error.placed(where) from None


def title_of(data: Mapping[str, Any], path: Path) -> str:
    """The scenario's title; its file's name where it has none."""
    title = data.get("title", path.stem)
    if not isinstance(title, str):
        raise PlannerError("{0}: title = {1!r}: must be text.", path, title)
    return title


def cases_of(data: Mapping[str, Any], path: Path, form: Form) -> list[Named]:
    """The main case first, then each ``[[compare]]``; unknown tables and wrong types raise PlannerError.

    A compared case takes the main one's tables, its own fields in their place (a ``model`` replaces the whole model); with
    ``standalone = true`` it takes nothing. Relative paths are looked up beside the file.
    """
    known = {"title", "label", "compare", *form.tables}
    for key in data:
        if key not in known:
            raise PlannerError("{0}: unknown table or field {1} = {2}; {3}.", path, key, _short(data[key]), near(key, known))
    base = {name: _table(path, name, data[name]) for name in form.tables if name in data}
    _resolve(path, base)
    cases = [Named(label=str(data.get("label", form.label(base))), tables=base, where=str(path))]
    entries = data.get("compare", [])
    if not isinstance(entries, list):
        raise PlannerError("{0}: compare = {1}: must be a list of tables, each headed [[compare]].", path, _short(entries))
    return cases + [_compared(path, i, entry, base, form) for i, entry in enumerate(entries)]


def _compared(path: Path, index: int, entry: Any, base: Tables, form: Form) -> Named:
    where = Message("{0}: compare[{1}]", path, index)
    if not isinstance(entry, dict):
        raise PlannerError("{0} = {1}: must be a table.", where, _short(entry))
    known = {"label", "standalone", *form.tables}
    for key in entry:
        if key not in known:
            raise PlannerError("{0}: unknown field {1} = {2}; {3}.", where, key, _short(entry[key]), near(key, known))
    alone = entry.get("standalone", False)
    if not isinstance(alone, bool):
        raise PlannerError("{0}: standalone = {1}: must be true or false.", where, _short(alone))
    missing = [name for name in form.required if alone and name not in entry]
    if missing:
        raise PlannerError("{0}: table {1} is missing; a standalone case needs {2}.", where, missing[0], ", ".join(form.required))
    tables = {} if alone else {name: dict(values) for name, values in base.items()}
    for name in form.tables:
        if name in entry:
            given = _table(path, Message("compare[{0}].{1}", index, name), entry[name])
            tables[name] = given if name == "model" else {**_inherited(tables.get(name, {}), given, form), **given}
    _resolve(path, tables)
    return Named(label=str(entry.get("label", form.label(tables))), tables=tables, where=where)


def _inherited(table: Table, given: Table, form: Form) -> Table:
    dropped = {name for first, names in form.not_inherited.items() if first in given for name in names}
    return {name: value for name, value in table.items() if name not in dropped}


def model_label(tables: Tables) -> str:
    """What the case's model is called."""
    model = tables["model"]
    return str(model.get("name", model.get("base", model.get("config", "model"))))


def _table(path: Path, name: str, value: Any) -> Table:
    if not isinstance(value, dict):
        raise PlannerError("{0}: {1} = {2}: must be a table, [{3}].", path, name, _short(value), name)
    return dict(value)


def _resolve(path: Path, tables: Tables) -> None:
    """Relative paths that lead nowhere from the current folder are looked up beside the file."""
    for key in ("config", "name", "base"):
        file = tables["model"].get(key)
        if isinstance(file, str) and (key == "config" or file.endswith((".toml", ".json"))):
            tables["model"] = {**tables["model"], key: _beside(path, file)}
    for table, key in (("cluster", "node"), ("cluster", "accelerator"), ("framework", "name")):
        file = tables.get(table, {}).get(key)
        if isinstance(file, str) and file.endswith(".toml"):
            tables[table] = {**tables[table], key: _beside(path, file)}
    histogram = tables.get("run", {}).get("expert_histogram")
    if isinstance(histogram, str):
        tables["run"] = {**tables["run"], "expert_histogram": _beside(path, histogram)}
    teacher = tables.get("job", {}).get("teacher")
    name = teacher.get("model") if isinstance(teacher, dict) else None
    if isinstance(teacher, dict) and isinstance(name, str) and name.endswith((".toml", ".json")):
        tables["job"] = {**tables["job"], "teacher": {**teacher, "model": _beside(path, name)}}


def _beside(path: Path, file: str) -> str:
    return file if Path(file).is_absolute() or os.path.exists(file) else str(path.parent / file)


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
