"""What the pages ask the planner, remembered by scenario."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from planner.common.errors import PlannerError
from planner.hardware.cluster import Cluster, load_accelerator, load_node
from planner.hardware.cluster import cluster as build_cluster
from planner.lifecycle.bill import Bill, bill_of, charged_run
from planner.lifecycle.sensitivity import Swing, tornado
from planner.lifecycle.simulation import WholeRun, under_experts
from planner.performance.evaluation import operator_table
from planner.reports.plans import row_dict
from planner.scenarios.scenario import asked
from planner.training.elsewhere import Elsewhere, elsewhere
from planner.training.memory_map import Cell, Moment, fit_map, map_axes, moments
from planner.training.narrow import precision_notes
from planner.training.plan import Plan
from planner.training.planning import plan
from planner.training.remedies import Remedy, remedies, scaling
from planner.web import state
from planner.web.download import scenario_toml, zipped
from planner.web.guard import MOST_CHARACTERS, require_safe, toml_tables
from planner.web.state import Tables
from planner.workload.default_framework import default_framework
from planner.workload.framework import load_framework
from planner.workload.framework_names import framework_of_name
from planner.workload.job import Job
from planner.workload.layout import Layout, as_columns
from planner.workload.resolve import as_cluster, as_model

if TYPE_CHECKING:
    from planner.audit.verdicts import Reading
    from planner.calibration.calibrate import Calibration


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One configuration's plan, or in words why there is none."""

    label: str
    tables: Tables
    plan: Plan | None
    error: str = ""

    @property
    def known(self) -> Plan:
        """The plan of an answer that has one."""
        assert self.plan is not None
        return self.plan


_KEPT: OrderedDict[str, Calibration] = OrderedDict()
"""Profiles that visitors calibrated, by names that hold a fingerprint: a reload and a shared link find them again."""
MOST_KEPT = 256


def calibrated() -> dict[str, Calibration]:
    """Profiles that this session made of records, by name."""
    found: dict[str, Calibration] = st.session_state.setdefault("calibrated", {})
    return found


def keep_profile(name: str, made: Calibration) -> None:
    """For this session, and for whoever has a link that names it, until the server ends or many newer ones come."""
    calibrated()[name] = made
    _KEPT[name] = made
    while len(_KEPT) > MOST_KEPT:
        _KEPT.popitem(last=False)


def profiles_of(scenario: state.Scenario) -> list[str]:
    """Names of the calibrated profiles that a scenario uses; those that another session made here become this one's too."""
    found = []
    for case in scenario["cases"]:
        tables = case["tables"]
        for name in (tables.get("cluster", {}).get("node"), tables.get("framework", {}).get("name")):
            if isinstance(name, str) and name not in calibrated() and name in _KEPT:
                calibrated()[name] = _KEPT[name]
            if isinstance(name, str) and name in calibrated():
                found.append(name)
    return list(dict.fromkeys(found))


def arguments(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What ``planner.plan`` takes for a configuration; calibrated profiles of the session stand in for catalog names."""
    found: dict[str, Any] = dict(asked(tables))
    if not found.get("layout"):
        found.pop("layout", None)
    if not found.get("framework"):
        found.pop("framework", None)
    own = calibrated().get(str(found.get("cluster", {}).get("node", "")))
    if own is not None:
        fields = {k: v for k, v in found["cluster"].items() if k in ("num_gpus", "num_nodes")}
        found["cluster"] = build_cluster(own.node, accelerator=own.accelerator, **fields)
    stack = calibrated().get(str(found.get("framework", {}).get("name", "")))
    if stack is not None:
        found["framework"] = stack.framework
    return found


def profile_archive(scenario: state.Scenario) -> bytes:
    """The scenario as a file beside the calibrated profiles that it names: ``planner plan`` reads it where it is unpacked."""
    texts: dict[str, str] = {}
    for name in profiles_of(scenario):
        texts |= profile_texts(calibrated()[name], name)
    renamed: state.Scenario = json.loads(json.dumps(scenario))
    for case in renamed["cases"]:
        cluster, framework = case["tables"].get("cluster", {}), case["tables"].get("framework", {})
        if cluster.get("node") in calibrated():
            name = str(cluster["node"])
            case["tables"]["cluster"] = {**cluster, "node": f"{name}-node.toml", "accelerator": f"{name}.toml"}
        if framework.get("name") in calibrated():
            case["tables"]["framework"] = {**framework, "name": f"{framework['name']}-framework.toml"}
    return zipped({SCENARIO_FILE: scenario_toml(renamed), **texts})


SCENARIO_FILE = "scenario.toml"
MOST_FILES = 20


def profile_texts(made: Calibration, name: str) -> dict[str, str]:
    """The three profiles as the command line writes them, by file name."""
    from planner.calibration.profiles import write_profiles

    with tempfile.TemporaryDirectory() as folder:
        paths = write_profiles(made, Path(folder) / f"{name}.toml")
        return {path.name: path.read_text(encoding="utf-8").replace(f"{Path(folder).resolve()}/", "") for path in paths}


def load_archive(content: bytes, name: str) -> state.Scenario:
    """The scenario of a saved archive; its profiles become this session's. PlannerError says what is wrong with it."""
    texts = _texts(content, name)
    if SCENARIO_FILE not in texts:
        raise PlannerError("{0}: holds no {1}; save it on the page anew.", name, SCENARIO_FILE)
    for profile in [n.removesuffix("-node.toml") for n in texts if n.endswith("-node.toml")]:
        files = [f"{profile}.toml", f"{profile}-node.toml", f"{profile}-framework.toml"]
        if missing := [n for n in files if n not in texts]:
            raise PlannerError("{0}: {1} is missing; the three files of a profile belong together.", name, missing[0])
        keep_profile(f"{profile}-{fingerprint(content)[:8]}" if profile in _KEPT else profile, _profile(texts, files))
    plain = toml_tables(texts[SCENARIO_FILE], name, require=False)
    others = plain.get("compare", [])
    for table in [plain, *(others if isinstance(others, list) else ())]:
        cluster, framework = (_table(table, part) for part in ("cluster", "framework"))
        if cluster.get("node") in texts:
            cluster["node"] = _kept_name(cluster["node"].removesuffix("-node.toml"), content)
            cluster.pop("accelerator", None)
        if framework.get("name") in texts:
            framework["name"] = _kept_name(framework["name"].removesuffix("-framework.toml"), content)
    require_safe(plain, name)
    return state.from_tables(plain, name)


def _table(tables: Any, name: str) -> dict[str, Any]:
    """A table of a file that nobody has checked; empty where it is none."""
    found = tables.get(name) if isinstance(tables, dict) else None
    return found if isinstance(found, dict) and all(isinstance(v, str | int | float) for v in found.values()) else {}


def _kept_name(profile: str, content: bytes) -> str:
    other = f"{profile}-{fingerprint(content)[:8]}"
    return other if other in calibrated() else profile


def _texts(content: bytes, name: str) -> dict[str, str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_FILES or any(entry.file_size > MOST_CHARACTERS for entry in entries):
                raise PlannerError(
                    "{0}: holds more than {1} files, or one of more than {2:,} bytes.", name, MOST_FILES, MOST_CHARACTERS
                )
            return {entry.filename: archive.read(entry).decode("utf-8") for entry in entries}
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise PlannerError("{0}: cannot be read as an archive of text ({1}).", name, error) from None


def _profile(texts: Mapping[str, str], files: list[str]) -> Calibration:
    """A calibration from its files, without the fits that are in the record."""
    from planner.calibration.calibrate import Calibration

    for file in files:
        tables = toml_tables(texts[file], file, require=False)
        require_safe({k: v for k, v in tables.items() if k != "accelerator"}, file)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / Path(file).name for file in files]
        for path, file in zip(paths, files, strict=True):
            path.write_text(texts[file], encoding="utf-8")
        card = load_accelerator(str(paths[0]))
        node = load_node(str(paths[1]))
        stack = load_framework(str(paths[2]))
    source = next((line[2:] for line in texts[files[0]].splitlines() if line.startswith("# ")), files[0])
    return Calibration(accelerator=card, node=node, framework=stack, fits=(), measured=frozenset(), source=source, base=None)


def cluster_of(tables: Mapping[str, Mapping[str, Any]]) -> Cluster | None:
    """The cluster of a configuration, or None where it cannot be."""
    try:
        return as_cluster(arguments(tables)["cluster"])
    except (PlannerError, KeyError):
        return None


def stack_name(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The configuration's framework, the usual one where it names none."""
    name = tables.get("framework", {}).get("name")
    try:
        if name:
            kind = str(tables.get("job", {}).get("kind", "pretrain"))
            return str((framework_of_name(str(name), "framework.name", kind) or {"name": name})["name"])
        given = arguments(tables)
        job = Job.build(dict(given["job"]), "job")
        return default_framework(as_model(given["model"]), as_cluster(given["cluster"]), job).framework.name
    except (PlannerError, KeyError):
        return "megatron-core"  # the page shows the error of its plan


def key_of(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """What tells one question from another: the tables, and the calibrated profiles that they name."""
    names = {str(tables.get("cluster", {}).get("node", "")), str(tables.get("framework", {}).get("name", ""))}
    own = {name: calibrated()[name].source for name in names & set(calibrated())}
    return json.dumps([tables, own], sort_keys=True)


MOST_ANSWERS = 128
"""Of each kind: the last two or three of fifty visitors; 20 to 100 kB each, so that a server stays flat after minutes."""


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function(key, ...)`` with its answers kept; several sessions share them, so nobody changes one."""
    return st.cache_resource(max_entries=MOST_ANSWERS, show_spinner=False)(function)


@remembered
def _plan(key: str, _arguments: Mapping[str, Any], _run: Mapping[str, Any] | None) -> tuple[Plan | None, str]:
    try:
        found = plan(**_arguments, explain=False)
        found = replace(found, notes=(*found.notes, *precision_notes(found.question, found.layout)))
        return (under_experts(found, _run) if found.model.num_experts else found), ""
    except PlannerError as error:
        return None, str(error)


def answer(label: str, tables: Tables) -> Answer:
    """The plan of one configuration, with the experts' shares of its table [run], as ``planner plan`` shows it."""
    try:
        given = arguments(tables)
    except PlannerError as error:
        return Answer(label=label, tables=tables, plan=None, error=str(error))
    found, why = _plan(key_of(tables), given, tables.get("run"))
    return Answer(label=label, tables=tables, plan=found, error=why)


def answers() -> list[Answer]:
    """The plans of all configurations of the session's scenario."""
    return [answer(case["label"], case["tables"]) for case in state.current()["cases"]]


@remembered
def _elsewhere(key: str, _plan: Plan) -> Elsewhere | None:
    return elsewhere(_plan)


def other_framework(tables: Tables, found: Plan) -> Elsewhere | None:
    """What another framework would do in decidably less time, where the question names neither framework nor layout."""
    if tables.get("framework") or tables.get("layout"):
        return None
    other: Elsewhere | None = _elsewhere(key_of(tables), found)
    return other


@remembered
def _explained(key: str, _arguments: Mapping[str, Any]) -> tuple[Plan, list[Remedy]]:
    found = plan(**_arguments)
    return found, remedies(found, _arguments.get("framework"))


def what_would_fit(tables: Tables) -> tuple[Plan, list[Remedy]]:
    """(the plan with its nearest layout that fits, the changes with which it fits)."""
    found: tuple[Plan, list[Remedy]] = _explained(key_of(tables), arguments(tables))
    return found


@remembered
def _scaling(key: str, _plan: Plan) -> list[Plan]:
    return scaling(_plan)


def on_other_sizes(tables: Tables, found: Plan) -> list[Plan]:
    """The plan on fewer and more GPUs."""
    answers: list[Plan] = _scaling(key_of(tables), found)
    return answers


@remembered
def _moments(key: str, _plan: Plan) -> list[Moment]:
    return moments(_plan)


def memory_moments(tables: Tables, found: Plan) -> list[Moment]:
    """Memory by stage and moment of a step."""
    answers: list[Moment] = _moments(key_of(tables), found)
    return answers


@remembered
def _fit_map(key: str, _plan: Plan) -> list[Cell]:
    return fit_map(_plan, *map_axes(_plan))


def memory_map(tables: Tables, found: Plan) -> list[Cell]:
    """Headroom over micro-batch and sequence length."""
    cells: list[Cell] = _fit_map(key_of(tables), found)
    return cells


@remembered
def _operators(key: str, _plan: Plan) -> list[dict[str, Any]]:
    columns = as_columns(_plan.layout, _plan.cluster.num_gpus)
    rows = operator_table(_plan.question, columns).rows()
    return [row_dict(row) for row in rows]


def operators(tables: Tables, found: Plan) -> list[dict[str, Any]]:
    """The table of operators behind a plan."""
    rows: list[dict[str, Any]] = _operators(key_of(tables), found)
    return rows


@dataclass(frozen=True, kw_only=True)
class Run:
    """A whole run with its bill; or in words why there is none."""

    whole: WholeRun | None
    bill: Bill | None
    error: str = ""


@remembered
def _whole_run(key: str, _plan: Plan, run: Mapping[str, Any] | None, cost: Mapping[str, Any] | None) -> Run:
    try:
        whole = charged_run(_plan, run, cost)
        bill = bill_of(whole, cost) if _plan.fits and (_plan.price is not None or cost) else None
    except PlannerError as error:
        return Run(whole=None, bill=None, error=str(error))
    return Run(whole=whole, bill=bill)


def whole_run(tables: Tables, found: Plan) -> Run:
    """The run with its interruptions under the tables [run] and [cost], and its bill."""
    result: Run = _whole_run(key_of(tables), found, tables.get("run"), tables.get("cost"))
    return result


@remembered
def _swings(key: str, _run: Run) -> tuple[Swing, ...]:
    return () if _run.whole is None or _run.bill is None else tornado(_run.whole, _run.bill)


def swings(tables: Tables, run: Run) -> tuple[Swing, ...]:
    """What moves the bill of ``whole_run`` of the same tables."""
    found: tuple[Swing, ...] = _swings(key_of(tables), run)
    return found


@st.cache_resource(show_spinner=False)
def claims() -> tuple[Reading, ...]:
    """The audit of the catalog's claims; the same for everybody."""
    from planner.audit.verdicts import audit_articles

    return audit_articles()


def automatic(tables: Tables) -> Answer:
    """The plan of a configuration with the layout that the planner chooses."""
    return answer("", {name: table for name, table in tables.items() if name != "layout"})


def layout_fields(layout: Layout) -> dict[str, Any]:
    """The fields of a layout that differ from the defaults; ``dp`` and a usual schedule follow from the others."""
    fields = layout.model_dump(exclude={"provenance", "dp"}, exclude_defaults=True)
    if fields.get("schedule") != "zero-bubble":
        fields.pop("schedule", None)
    return fields or {"micro_batch_size": 1}


def fingerprint(text: str | bytes) -> str:
    """A short name for uploaded content."""
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()[:16]
