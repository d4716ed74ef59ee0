"""Serving questions in files: model, cluster, serving, price, and deployments to compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.common.errors import PlannerError, near
from planner.common.spec import read_table
from planner.scenarios.scenario import _resolve_config, _short, _table
from planner.serving.deploy import serve
from planner.serving.deployment import Deployment

TABLES = ("model", "cluster", "serving", "price")
REQUIRED = ("model", "cluster", "serving")
OF_WEIGHTS = ("group_size", "bits_per_weight", "keep_16_bit")
"""Fields that belong to the weights of the main case: other weights of a ``[[compare]]`` do not inherit them."""


@dataclass(frozen=True, kw_only=True)
class ServingCase:
    """One deployment of a scenario: a label and its tables."""

    label: str
    tables: dict[str, dict[str, Any]]
    where: str

    def serve(self) -> Deployment:
        """The answer; an error begins with the file."""
        try:
            return serve(**{name: dict(values) for name, values in self.tables.items()})
        except PlannerError as error:
            raise PlannerError(f"{self.where}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class ServingScenario:
    """A file's deployments: the main one first, then each ``[[compare]]``."""

    title: str
    cases: tuple[ServingCase, ...]


def read_serving_scenario(path: Path) -> ServingScenario:
    """Read ``[model] [cluster] [serving] [price]``; each ``[[compare]]`` has a ``label`` and tables whose fields replace
    those of the main case (a ``model`` replaces the whole model). Raises PlannerError naming file, field and value."""
    data = read_table(path)
    known = {"title", "label", "compare", *TABLES}
    for key in data:
        if key not in known:
            raise PlannerError(f"{path}: unknown table or field {key} = {_short(data[key])}; {near(key, known)}")
    missing = [name for name in REQUIRED if name not in data]
    if missing:
        hint = " (a scenario with [job] is for planner plan)" if "job" in data else ""
        raise PlannerError(f"{path}: table [{missing[0]}] is missing; serving needs [model], [cluster] and [serving]{hint}.")
    base = {name: _table(path, name, data[name]) for name in TABLES if name in data}
    _resolve_config(path, base)
    title = data.get("title", path.stem)
    if not isinstance(title, str):
        raise PlannerError(f"{path}: title = {title!r}: must be text.")
    cases = [ServingCase(label=str(data.get("label", _label(base))), tables=base, where=str(path))]
    entries = data.get("compare", [])
    if not isinstance(entries, list):
        raise PlannerError(f"{path}: compare = {_short(entries)}: must be a list of tables, each headed [[compare]].")
    cases += [_compared(path, i, entry, base) for i, entry in enumerate(entries)]
    return ServingScenario(title=title, cases=tuple(cases))


def _compared(path: Path, index: int, entry: Any, base: dict[str, dict[str, Any]]) -> ServingCase:
    where = f"{path}: compare[{index}]"
    if not isinstance(entry, dict):
        raise PlannerError(f"{where} = {_short(entry)}: must be a table.")
    for key in entry:
        if key not in {"label", *TABLES}:
            raise PlannerError(f"{where}: unknown field {key} = {_short(entry[key])}; {near(key, {'label', *TABLES})}")
    tables = {name: dict(values) for name, values in base.items()}
    for name in TABLES:
        if name in entry:
            given = _table(path, f"compare[{index}].{name}", entry[name])
            kept = {k: v for k, v in tables.get(name, {}).items() if "weights" not in given or k not in OF_WEIGHTS}
            tables[name] = given if name == "model" else {**kept, **given}
    _resolve_config(path, tables)
    return ServingCase(label=str(entry.get("label", _label(tables))), tables=tables, where=where)


def _label(tables: dict[str, dict[str, Any]]) -> str:
    model = tables["model"]
    name = str(model.get("name", model.get("base", model.get("config", "model"))))
    return f"{name}, {tables['serving'].get('weights', 'bf16')}"
