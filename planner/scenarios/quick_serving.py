"""Questions of serving without a file: a model, "2xh100", and what the load departs from the usual in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from planner.common.message import Message
from planner.hardware.asked import cluster_table
from planner.hardware.custom_nodes import chosen_node
from planner.model.architecture import Model
from planner.scenarios.quick import changed_tables
from planner.scenarios.serving import NOT_INHERITED, OF_LOAD, ServingCase, ServingScenario
from planner.scenarios.tables import Tables
from planner.serving.engine import usual_engine, weights_of_tags
from planner.serving.feasibility import usual_passage
from planner.serving.spec import OUTPUT, PROMPT
from planner.workload.resolve import as_cluster, as_model


def usual_serving(model: Model | None, vectors: bool = False) -> dict[str, Any]:
    """What is asked of a model where nothing is given; where ``vectors`` are made, a passage that its positions hold."""
    if model is None or not (vectors or model.embeds):
        return {"weights": "bf16", "prompt": PROMPT, "output": OUTPUT}
    return {"weights": "bf16", "prompt": usual_passage(model)}


def quick_serving(
    model: str, on: str, given: Mapping[str, Any], told: Collection[str] = ()
) -> tuple[ServingScenario, tuple[str, ...]]:
    """(a serving scenario of a model and a cluster, what was taken as usual in it); ``told``: fields that are set afterwards."""
    the_model, cluster, on = as_model({"name": model}), cluster_table(on), on.strip(" ,，")
    machine = as_cluster(cluster)
    card = machine.accelerator
    engine = usual_engine(card, the_model, given.get("weights") or the_model.stored_weights)
    usual = {"engine": engine, **usual_serving(the_model, given.get("embeds") is True)}
    missing = {name: value for name, value in usual.items() if name not in given and name not in told}
    if the_model.stored_weights or weights_of_tags(given.get("engine")) or "bf16" not in card.peak_flops_per_s:
        missing.pop("weights", None)  # as stored, or the chip's own 16-bit type: the answer says it
    tables: Tables = {"model": {"name": model}, "cluster": cluster, "serving": {**missing, **given}}
    case = ServingCase(label=the_model.name, tables=tables, where=f"{model} on {on}")
    taken = ", ".join(f"{name} = {value}" for name, value in missing.items())
    notes: tuple[str, ...] = (Message("taken as usual, not given: {0}", taken),) if taken else ()
    notes += chosen_node(cluster.get("accelerator"), machine)
    return ServingScenario(title=Message("{0}, {1}, on {2}", the_model.name, "serving", on), cases=(case,)), notes


def changed_deployment(tables: Tables, changes: Mapping[str, Any]) -> Tables:
    """The tables of a deployment with some fields changed, whichever of [serving] and [load] holds them; a field drops those that
    it takes the place of: clients a rate, other weights the groups of the old ones."""
    found = {name: dict(table) for name, table in tables.items()}
    both = [found.get(name, {}) for name in ("serving", "load")]
    for key in changes:
        name, _, field = key.partition(".")
        first = field.partition(".")[0]
        if name not in ("serving", "load"):
            continue
        for table in both:
            for other in NOT_INHERITED.get(first, ()):
                table.pop(other, None)
            if first in OF_LOAD and first in table and table is not found.get(name):
                found.setdefault(name, {})[first] = table.pop(first)
    return changed_tables(found, changes)
