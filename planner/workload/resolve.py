"""Names, mappings or objects turned into a model, a cluster, a framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.common.errors import PlannerError, as_text
from planner.hardware.cluster import Cluster
from planner.hardware.cluster import cluster as build_cluster
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.workload.framework import Framework, load_framework
from planner.workload.job import Job
from planner.workload.layout import Layout

ModelLike = Model | str | Mapping[str, Any]


ClusterLike = Cluster | str | Mapping[str, Any]


FrameworkLike = Framework | str | Mapping[str, Any]


JobLike = Job | Mapping[str, Any]


LayoutLike = Layout | Mapping[str, Any]


def as_model(value: ModelLike) -> Model:
    """A model from a name, a path to TOML or config.json, fields, or itself. ``base`` starts from a catalog model."""
    if isinstance(value, Model):
        return value
    if isinstance(value, str):
        return load_model(value)
    fields = dict(value)
    if set(fields) == {"name"}:
        return load_model(as_text(fields["name"], "model.name"))
    for key in ("config", "base"):
        if key in fields:
            start = load_model(str(fields.pop(key)))
            name = fields.pop("name", start.name)
            return start.replaced(**fields, name=name) if fields or name != start.name else start
    return Model.build({"name": "inline model", **fields}, "model")


def as_cluster(value: ClusterLike) -> Cluster:
    """A cluster from a node's name (one node), from fields, or itself."""
    if isinstance(value, Cluster):
        return value
    fields = {"node": value} if isinstance(value, str) else dict(value)
    unknown = set(fields) - {"node", "num_nodes", "num_gpus", "accelerator"}
    if unknown:
        raise PlannerError(f"cluster: unknown field {', '.join(sorted(unknown))}; use node, num_nodes, num_gpus, accelerator.")
    if "node" not in fields:
        raise PlannerError("cluster.node is missing; give a node type (see `planner hardware list`), e.g. dgx-a100-80gb.")
    for key in ("node", "accelerator"):
        if isinstance(fields.get(key), int | float | list | tuple | dict):
            as_text(fields[key], f"cluster.{key}")
    return build_cluster(**fields)


def as_framework(value: FrameworkLike) -> Framework:
    """A framework from a name, from a name with changed fields, or itself."""
    if isinstance(value, Framework):
        return value
    fields = {"name": value} if isinstance(value, str) else dict(value)
    if "name" not in fields:
        raise PlannerError("framework.name is missing; give one of the catalog, e.g. megatron-core.")
    start = load_framework(as_text(fields.pop("name"), "framework.name"))
    return start.replaced(**fields) if fields else start
