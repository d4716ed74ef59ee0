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

TABLES = ("model", "cluster", "serving", "load", "price")
REQUIRED = ("model", "cluster", "serving")
OF_LOAD = (
    "clients", "requests_per_s", "num_requests", "seed", "prompt", "output", "ttft_target_s", "tpot_target_s", "e2e_target_s",
)  # fmt: skip
"""Fields of ``[load]``: who asks, for what, and what counts as good. They may also stand in ``[serving]``."""
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
            tables = {name: dict(values) for name, values in self.tables.items()}
            tables["serving"] |= tables.pop("load", {})
            return serve(**tables)
        except PlannerError as error:
            raise PlannerError(f"{self.where}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class ServingScenario:
    """A file's deployments: the main one first, then each ``[[compare]]``."""

    title: str
    cases: tuple[ServingCase, ...]


def read_serving_scenario(path: Path) -> ServingScenario:
    """Read ``[model] [cluster] [serving] [load] [price]``; each ``[[compare]]`` has a ``label`` and tables whose fields replace
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
    _check_load(path, "load", base)
    title = data.get("title", path.stem)
    if not isinstance(title, str):
        raise PlannerError(f"{path}: title = {title!r}: must be text.")
    cases = [ServingCase(label=str(data.get("label", _label(base))), tables=base, where=str(path))]
    entries = data.get("compare", [])
    if not isinstance(entries, list):
        raise PlannerError(f"{path}: compare = {_short(entries)}: must be a list of tables, each headed [[compare]].")
    cases += [_compared(path, i, entry, base) for i, entry in enumerate(entries)]
    return ServingScenario(title=title, cases=tuple(cases))


def _check_load(path: Path, where: str, tables: dict[str, dict[str, Any]]) -> None:
    """PlannerError for a field of ``[load]`` that does not belong there, or stands in ``[serving]`` too."""
    for key in tables.get("load", {}):
        if key not in OF_LOAD:
            raise PlannerError(f"{path}: unknown field {where}.{key}; {near(key, OF_LOAD)}")
        if key in tables["serving"]:
            raise PlannerError(f"{path}: {where}.{key} and serving.{key}: give it once.")


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
    if "load" in entry and {"clients", "requests_per_s"} & set(entry["load"]):  # another kind of load replaces the first
        tables["load"] = {k: v for k, v in tables["load"].items() if k not in ("clients", "requests_per_s") or k in entry["load"]}
    _check_load(path, f"compare[{index}].load", tables)
    _resolve_config(path, tables)
    return ServingCase(label=str(entry.get("label", _label(tables))), tables=tables, where=where)


def _label(tables: dict[str, dict[str, Any]]) -> str:
    model = tables["model"]
    name = str(model.get("name", model.get("base", model.get("config", "model"))))
    return f"{name}, {tables['serving'].get('weights', 'bf16')}"
