"""Questions in files: a scenario names model, cluster, framework, job, layout and price, and what to compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.common.errors import PlannerError, near
from planner.common.spec import read_table
from planner.lifecycle.bill import Bill, bill_of
from planner.lifecycle.simulation import WholeRun, expected_run
from planner.training.plan import Plan
from planner.training.planning import plan

TABLES = ("model", "cluster", "framework", "job", "layout", "price", "run", "cost")
BESIDE_THE_PLAN = ("run", "cost")  # what a whole run meets, and what it costs beside GPU-hours
REQUIRED = ("model", "cluster", "job")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration of a scenario: a label and its tables."""

    label: str
    tables: dict[str, dict[str, Any]]
    where: str

    def plan(self) -> Plan:
        """The answer; an error begins with file and label."""
        arguments: dict[str, Any] = {name: dict(values) for name, values in self.tables.items() if name not in BESIDE_THE_PLAN}
        try:
            if "name" not in arguments.get("framework", {"name": ""}):
                raise PlannerError("framework.name is missing; give one of the catalog, e.g. megatron-core.")
            return plan(**arguments)
        except PlannerError as error:
            raise PlannerError(f"{self.where}: {error}") from None

    def whole_run(self) -> WholeRun:
        """The plan's whole run under the tables [run] and [cost]; an error begins with file and label."""
        answer = self.plan()
        try:
            return expected_run(answer, self.tables.get("run"))
        except PlannerError as error:
            raise PlannerError(f"{self.where}: {error}") from None

    def bill(self, result: WholeRun) -> Bill | None:
        """The whole run's bill under the table [cost]; None without a price and without that table."""
        if result.plan.price is None and "cost" not in self.tables:
            return None
        try:
            return bill_of(result, self.tables.get("cost"))
        except PlannerError as error:
            raise PlannerError(f"{self.where}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A file's cases: the main one first, then each ``[[compare]]``."""

    title: str
    cases: tuple[Case, ...]


def read_scenario(path: Path) -> Scenario:
    """Read a scenario file.

    Tables ``[model] [cluster] [framework] [job] [layout] [price] [run] [cost]``; each ``[[compare]]`` entry has a
    ``label`` and any of the tables, whose fields replace those of the main case (a ``model`` replaces the whole model);
    with ``standalone = true`` it takes nothing from the main case and brings all its tables.
    Relative paths of models, of ``job.teacher.model`` and of ``run.expert_histogram`` are looked up beside the file. Raises
    PlannerError naming file, field and value.
    """
    return scenario_of(read_table(path, "see scenarios/ for complete examples"), path)


def scenario_of(data: dict[str, Any], path: Path) -> Scenario:
    """The scenario of a file's tables; ``path`` stands in messages, and relative paths are looked up beside it."""
    known = {"title", "label", "compare", *TABLES}
    if "serving" in data:
        raise PlannerError(f"{path}: table [serving] makes it a question of serving; ask it with `planner serve {path}`.")
    for key in data:
        if key not in known:
            raise PlannerError(f"{path}: unknown table or field {key} = {_short(data[key])}; {near(key, known)}")
    missing = [name for name in REQUIRED if name not in data]
    if missing:
        raise PlannerError(f"{path}: table [{missing[0]}] is missing; a scenario needs [model], [cluster] and [job].")
    base = {name: _table(path, name, data[name]) for name in TABLES if name in data}
    _resolve_config(path, base)
    _resolve_histogram(path, base)
    _resolve_teacher(path, base)
    title = data.get("title", path.stem)
    if not isinstance(title, str):
        raise PlannerError(f"{path}: title = {title!r}: must be text.")
    cases = [Case(label=str(data.get("label", _label(base))), tables=base, where=str(path))]
    entries = data.get("compare", [])
    if not isinstance(entries, list):
        raise PlannerError(f"{path}: compare = {_short(entries)}: must be a list of tables, each headed [[compare]].")
    cases += [_compared(path, i, entry, base) for i, entry in enumerate(entries)]
    return Scenario(title=title, cases=tuple(cases))


def _compared(path: Path, index: int, entry: Any, base: dict[str, dict[str, Any]]) -> Case:
    where = f"{path}: compare[{index}]"
    if not isinstance(entry, dict):
        raise PlannerError(f"{where} = {_short(entry)}: must be a table.")
    for key in entry:
        if key not in {"label", "standalone", *TABLES}:
            raise PlannerError(
                f"{where}: unknown field {key} = {_short(entry[key])}; {near(key, {'label', 'standalone', *TABLES})}"
            )
    alone = entry.get("standalone", False)
    if not isinstance(alone, bool):
        raise PlannerError(f"{where}: standalone = {_short(alone)}: must be true or false.")
    missing = [name for name in REQUIRED if alone and name not in entry]
    if missing:
        raise PlannerError(f"{where}: table {missing[0]} is missing; a standalone case needs model, cluster and job.")
    tables = {} if alone else {name: dict(values) for name, values in base.items()}
    for name in TABLES:
        if name in entry:
            given = _table(path, f"compare[{index}].{name}", entry[name])
            tables[name] = given if name == "model" else {**tables.get(name, {}), **given}
    _resolve_config(path, tables)
    _resolve_histogram(path, tables)
    _resolve_teacher(path, tables)
    return Case(label=str(entry.get("label", _label(tables))), tables=tables, where=where)


def _table(path: Path, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PlannerError(f"{path}: {name} = {_short(value)}: must be a table, [{name}].")
    return dict(value)


def _label(tables: dict[str, dict[str, Any]]) -> str:
    model = tables["model"]
    return str(model.get("name", model.get("base", model.get("config", "model"))))


def _resolve_config(path: Path, tables: dict[str, dict[str, Any]]) -> None:
    for key in ("config", "name", "base"):
        file = tables["model"].get(key)
        if not isinstance(file, str) or not (key == "config" or file.endswith((".toml", ".json"))):
            continue
        if not Path(file).is_absolute() and not Path(file).exists():
            tables["model"] = {**tables["model"], key: str(path.parent / file)}


def _resolve_histogram(path: Path, tables: dict[str, dict[str, Any]]) -> None:
    name = tables.get("run", {}).get("expert_histogram")
    if isinstance(name, str) and not Path(name).is_absolute() and not Path(name).exists():
        tables["run"] = {**tables["run"], "expert_histogram": str(path.parent / name)}


def _resolve_teacher(path: Path, tables: dict[str, dict[str, Any]]) -> None:
    teacher = tables["job"].get("teacher")
    name = teacher.get("model") if isinstance(teacher, dict) else None
    if isinstance(teacher, dict) and isinstance(name, str) and name.endswith((".toml", ".json")) and not Path(name).exists():
        tables["job"] = {**tables["job"], "teacher": {**teacher, "model": str(path.parent / name)}}


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
