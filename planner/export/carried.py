"""What a launch file does not hold of its plan, as comments ``# planner: FIELD = VALUE``, which ``plan --from`` reads back."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from planner.common.errors import PlannerError
from planner.common.spec import Spec
from planner.hardware.cluster import Cluster, load_node, node_names
from planner.hardware.custom_nodes import described_cluster
from planner.model.architecture import Model
from planner.model.catalog import load_model, model_names
from planner.training.plan import Plan
from planner.workload.framework import load_framework

OF_EVERY_JOB = (
    "kind",
    "expert_load",
    "routing",
    "routing_skew",
    "target_len",
    "images",
    "image_patches",
    "adapter.layers",
    "adapter.last_layers",
    "adapter.dtype",
    "quantization.format",
    "quantization.block_size",
    "quantization.compute_dtype",
    "quantization.double_quantization",
)
"""Fields of a job that no tool has an option for."""


def carried_lines(plan: Plan, extra: Collection[str] = (), mark: str = "# ") -> str:
    """Comments with model, cluster and framework by name, and of the job what no option holds; ``extra``: further fields."""
    names = [f"job.{name}" for name in OF_EVERY_JOB if f"job.{name}" not in extra] + [n for n in extra if n.startswith("job.")]
    found = [*model_fields(plan.model), *cluster_fields(plan.cluster, sized="cluster.num_gpus" in extra), *_framework(plan)]
    found += [(name, value) for name in names if (value := _of_job(plan, name.removeprefix("job."), name in extra)) is not None]
    return "".join(f"{mark}planner: {name} = {literal(value)}\n" for name, value in found)


def literal(value: Any) -> str:
    """A value as TOML writes it.

    >>> literal("a"), literal(True), literal([1, 2]), literal(0.5)
    ('"a"', 'true', '[1, 2]', '0.5')
    """
    if isinstance(value, frozenset | set):
        return json.dumps(sorted(value))
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _changed(spec: Spec, start: Spec) -> Iterator[tuple[str, Any]]:
    """Fields in which a spec differs from the catalog's."""
    for name in type(spec).model_fields:
        if name not in ("provenance", "source", "name", "description", "notes", "releases", "release"):
            value = getattr(spec, name)
            if value != getattr(start, name) and not _deep(value):
                yield name, value


def _deep(value: Any) -> bool:
    """Tables of tables: layers that differ, towers."""
    return isinstance(value, tuple) and any(isinstance(one, Spec) for one in value)


def model_fields(model: Model) -> list[tuple[str, Any]]:
    """A catalog model by name, with the fields in which it was changed; nothing of a model of one's own."""
    if model.name not in model_names():
        return []
    start = load_model(model.name)
    if (model.variants, model.towers) != (start.variants, start.towers):
        return []
    changed = list(_changed(model, start))
    return [("model.base" if changed else "model.name", model.name), *((f"model.{name}", value) for name, value in changed)]


def cluster_fields(cluster: Cluster, *, sized: bool) -> list[tuple[str, Any]]:
    """A catalog node, or an accelerator with the GPUs of a node; nothing of a node file of one's own."""
    size = [("cluster.num_gpus", cluster.num_gpus)] if sized else []
    node, card = cluster.node, cluster.accelerator.name
    if node.name in node_names() and load_node(node.name) == node:
        other = [] if card == node.accelerator else [("cluster.accelerator", card)]
        return [("cluster.node", node.name), *other, *size]
    for network in (None, *(link.bytes_per_s * 8e-9 * node.num_gpus for link in node.links if link.kind == "network")):
        try:
            again = described_cluster(card, None, None, cluster.num_gpus, node.num_gpus, network)
        except PlannerError:
            continue
        if again.node == node:
            found = [("cluster.accelerator", card), ("cluster.gpus_per_node", node.num_gpus)]
            return [*found, *([("cluster.network_gbit_per_s", network)] if network is not None else []), *size]
    return size


def _framework(plan: Plan) -> list[tuple[str, Any]]:
    framework = plan.framework
    try:
        start = load_framework(framework.name)
    except PlannerError:
        return []
    return [("framework.name", framework.name), *((f"framework.{name}", value) for name, value in _changed(framework, start))]


def _of_job(plan: Plan, name: str, asked: bool) -> Any:
    """A field of the job; None where it is as every job has it, unless it was asked for."""
    at: Any = plan.job
    *inner, last = name.split(".")
    for part in inner:
        at = getattr(at, part)
        if at is None:
            return None
    value = getattr(at, last)
    default = type(at).model_fields[last].default
    return value if asked or value != default else None
