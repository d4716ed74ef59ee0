"""What the pages ask the planner, remembered by scenario."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster as build_cluster
from planner.lifecycle.simulation import WholeRun, expected_run
from planner.performance.evaluation import operator_table
from planner.reports.plans import row_dict
from planner.scenarios.scenario import asked
from planner.training.memory_map import Cell, Moment, fit_map, map_axes, moments
from planner.training.plan import Plan
from planner.training.planning import plan
from planner.training.remedies import Remedy, remedies, scaling
from planner.web import state
from planner.web.state import Tables
from planner.workload.default_framework import default_framework
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


def calibrated() -> dict[str, Calibration]:
    """Profiles that this session made of records, by name."""
    found: dict[str, Calibration] = st.session_state.setdefault("calibrated", {})
    return found


def arguments(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What ``planner.plan`` takes for a configuration; calibrated profiles of the session stand in for catalog names."""
    found: dict[str, Any] = dict(asked(tables))
    if not found.get("layout"):
        found.pop("layout", None)
    own = calibrated().get(str(found.get("cluster", {}).get("node", "")))
    if own is not None:
        fields = {k: v for k, v in found["cluster"].items() if k in ("num_gpus", "num_nodes")}
        found["cluster"] = build_cluster(own.node, accelerator=own.accelerator, **fields)
    stack = calibrated().get(str(found.get("framework", {}).get("name", "")))
    if stack is not None:
        found["framework"] = stack.framework
    return found


def stack_name(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The configuration's framework, the usual one where it names none."""
    name = tables.get("framework", {}).get("name")
    if name:
        return str(name)
    try:
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


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function(key, ...)`` with its answers kept; several sessions share them, so nobody changes one."""
    return st.cache_resource(max_entries=512, show_spinner=False)(function)


@remembered
def _plan(key: str, _arguments: Mapping[str, Any]) -> tuple[Plan | None, str]:
    try:
        return plan(**_arguments, explain=False), ""
    except PlannerError as error:
        return None, str(error)


def answer(label: str, tables: Tables) -> Answer:
    """The plan of one configuration."""
    try:
        given = arguments(tables)
    except PlannerError as error:
        return Answer(label=label, tables=tables, plan=None, error=str(error))
    found, why = _plan(key_of(tables), given)
    return Answer(label=label, tables=tables, plan=found, error=why)


def answers() -> list[Answer]:
    """The plans of all configurations of the session's scenario."""
    return [answer(case["label"], case["tables"]) for case in state.current()["cases"]]


@remembered
def _explained(key: str, _arguments: Mapping[str, Any]) -> tuple[Plan, list[Remedy]]:
    found = plan(**_arguments)
    return found, remedies(found)


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
    rows = operator_table(_plan.model, _plan.cluster, _plan.framework, _plan.job, columns).rows()
    return [row_dict(row) for row in rows]


def operators(tables: Tables, found: Plan) -> list[dict[str, Any]]:
    """The table of operators behind a plan."""
    rows: list[dict[str, Any]] = _operators(key_of(tables), found)
    return rows


@remembered
def _whole_run(key: str, _plan: Plan, run: Mapping[str, Any] | None) -> tuple[WholeRun | None, str]:
    try:
        return expected_run(_plan, run), ""
    except PlannerError as error:
        return None, str(error)


def whole_run(tables: Tables, found: Plan) -> tuple[WholeRun | None, str]:
    """(the run with its interruptions under the table [run], why there is none)."""
    result: tuple[WholeRun | None, str] = _whole_run(key_of(tables), found, tables.get("run"))
    return result


@st.cache_resource(show_spinner=False)
def claims() -> tuple[Reading, ...]:
    """The audit of the catalog's claims; the same for everybody."""
    from planner.audit.verdicts import audit_articles

    return audit_articles()


def chosen_layout(tables: Tables) -> dict[str, Any]:
    """Fields of the fastest layout that fits: what the planner chooses where no layout is given."""
    given = {name: value for name, value in arguments(tables).items() if name != "layout"}
    return layout_fields(plan(**given, explain=False).layout)


def layout_fields(layout: Layout) -> dict[str, Any]:
    """The fields of a layout that differ from the defaults; ``dp`` and a usual schedule follow from the others."""
    fields = layout.model_dump(exclude={"provenance", "dp"}, exclude_defaults=True)
    if fields.get("schedule") != "zero-bubble":
        fields.pop("schedule", None)
    return fields or {"micro_batch_size": 1}


def with_layouts(scenario: state.Scenario) -> state.Scenario:
    """The scenario with a layout in every configuration, so that the controls have something to show."""
    found: state.Scenario = json.loads(json.dumps(scenario))
    for case in found["cases"]:
        if not case["tables"].get("layout"):
            try:
                case["tables"]["layout"] = chosen_layout(case["tables"])
            except PlannerError:
                continue  # the page shows the error of its plan
    return found


def fingerprint(text: str | bytes) -> str:
    """A short name for uploaded content."""
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()[:16]
