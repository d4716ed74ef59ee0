"""The question of the first page in the tables of a configuration: what is wanted, of which model, on what, by when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from planner.common.errors import PlannerError
from planner.common.units import DAY_S
from planner.hardware.cluster import accelerator_names
from planner.performance.interruptions import Recovery
from planner.prices.market import rented_accelerators
from planner.scenarios.quick import quick_scenario
from planner.scenarios.quick_serving import usual_serving as usual_of
from planner.studies.ways import Way, Wish
from planner.web import background, errands, worker
from planner.web.background import Task
from planner.web.state import Scenario, Tables
from planner.workload.resolve import as_model

KINDS = ("pretrain", "finetune", "lora", "qlora", "distil", "serve")


def kind_of(scenario: Scenario, tables: Mapping[str, Any]) -> str:
    """What the first page is asked for."""
    return "serve" if scenario.get("ask", {}).get("serve") else str(tables.get("job", {}).get("kind", "pretrain"))


def wish_of(scenario: Scenario, num_gpus: int | None = None) -> Wish:
    """The limits of the first page."""
    given = scenario.get("ask", {})
    days = given.get("days")
    return Wish(num_gpus=num_gpus, deadline_s=None if days is None else days * DAY_S, budget_usd=given.get("usd"))


def usual_serving(tables: Mapping[str, Any]) -> dict[str, Any]:
    """What serving is asked where nothing is given: as ``planner serve MODEL --on GPUS``, at two requests a second; weights as
    the checkpoint stores them or in the GPU's 16 bit. Where vectors are made there is no output, also when the model before
    wrote text."""
    given = dict(tables.get("serving", {}))
    try:
        model = as_model(tables["model"]) if "model" in tables else None
    except PlannerError:
        model = None
    usual = {name: value for name, value in usual_of(model, given.get("embeds") is True).items() if name != "weights"}
    if model is not None and "output" not in usual:
        given.pop("output", None)
    return {**usual, **({} if given.get("clients") else {"requests_per_s": 2.0}), **given}


def take_model(tables: Tables, model: dict[str, Any]) -> None:
    """Another model in a configuration: what of its serving was usual of the model before is what is usual of this one; it is
    cut anew."""
    before, given = usual_serving({**tables, "serving": {}}), tables.get("serving")
    tables["model"] = model
    if given:
        left = {name for name, value in given.items() if before.get(name) == value} | {"tp", "pp", "dp", "ep"}
        tables["serving"] = {name: value for name, value in given.items() if name not in left}
        tables["serving"] = usual_serving(tables)


def usual_job(model: str, card: str, gpus: int, kind: str) -> dict[str, Any]:
    """The job that ``planner plan MODEL --on GPUS`` takes as usual."""
    found = quick_scenario(model, f"{gpus}x{card}", kind, {}, {})  # type: ignore[arg-type]
    return dict(found.cases[0].tables["job"])


def others() -> list[str]:
    """Accelerators of the catalog that nobody rents: their prices are estimates."""
    known = set(rented_accelerators())
    return [name for name in accelerator_names() if name not in known and name != "cpu"]


def asked_of(scenario: Scenario, tables: Tables) -> tuple[str, dict[str, Any]]:
    """(key of the list below the verdict, the tables that it is asked with): what the GPUs have no part in."""
    serving = kind_of(scenario, tables) == "serve"
    names = ("model", "serving") if serving else ("model", "job")
    found: dict[str, Any] = {name: json.loads(json.dumps(tables[name])) for name in names if name in tables}
    if serving:
        found["serving"] = {k: v for k, v in usual_serving(tables).items() if k not in ("tp", "pp", "dp", "ep", "batch")}
    if "term" in tables.get("price", {}):
        found["price"] = {"term": tables["price"]["term"]}
    told = tables.get("run", {})
    if "preemption_mtbf_s" in told:
        found["run"] = {field.name: told[field.name] for field in fields(Recovery) if field.name in told}
    wish = wish_of(scenario)
    return json.dumps(["ways", found, wish.deadline_s, wish.budget_usd], sort_keys=True), found


def ways(scenario: Scenario, tables: Tables, names: tuple[str, ...], *, patient: bool = False) -> Task:
    """Every GPU of a list, found one after the other in the background."""
    key, given = asked_of(scenario, tables)
    wish, serving = wish_of(scenario), kind_of(scenario, tables) == "serve"

    def work(task: Task) -> None:
        worker.work(task, errands.ways, given, names, wish, serving)

    return background.ask(f"{key}{len(names)}", work, size=len(names), patient=patient)


def in_order(found: list[Way]) -> tuple[list[Way], list[Way]]:
    """(those that do it, cheapest first; those that do not)."""
    enough = [one for one in found if one.enough]
    enough.sort(key=lambda one: (one.usd is None, one.usd or 0.0, one.num_gpus))
    return enough, [one for one in found if not one.enough]
