"""Names, mappings or objects turned into a model, a cluster, a framework."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planner.common.answerable import require_answerable
from planner.common.errors import PlannerError, as_text, unknown_field
from planner.common.message import Message
from planner.common.spec import fields_of, whole_number
from planner.hardware.asked import accelerator_of_field, cluster_table, node_of_field
from planner.hardware.cluster import Accelerator, Cluster
from planner.hardware.custom_nodes import described_cluster
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.names import meant
from planner.workload.framework import Framework, load_framework
from planner.workload.framework_names import framework_of_name, without_release
from planner.workload.job import Job, Precision
from planner.workload.layout import Layout

NEEDED_FIELDS = tuple(name for name, field in Model.model_fields.items() if field.is_required() and name != "name")
"""Without which there is no model."""

ModelLike = Model | str | Path | Mapping[str, Any]


ClusterLike = Cluster | str | Mapping[str, Any]


FrameworkLike = Framework | str | Mapping[str, Any]


JobLike = Job | Mapping[str, Any]


LayoutLike = Layout | Mapping[str, Any]


def as_model(value: ModelLike) -> Model:
    """A model from a name, a path to TOML or config.json, fields, or itself. ``base`` starts from a catalog model."""
    if isinstance(value, Model):
        return value.checked("model")
    if isinstance(value, str | Path):
        return load_model(str(value))
    fields = fields_of(value, "model", "llama-3-8b")
    given = [key for key in ("name", "config") if fields.get(key)]
    if len(given) > 1 and "base" not in fields:
        raise PlannerError(
            "model: name = {0!r} and config = {1!r} are both given; give one.", fields["name"], fields["config"], field="model"
        )
    if set(fields) == {"name"}:
        return load_model(as_text(fields["name"], "model.name"))
    for key in ("config", "base"):
        if key in fields:
            start = load_model(str(fields.pop(key)))
            name = fields.pop("name", start.name)
            return start.replaced(**fields, name=name) if fields or name != start.name else start
    _require_own_fields(fields)
    return Model.build({"name": "inline model", **fields}, "model")


def _require_own_fields(fields: Mapping[str, Any]) -> None:
    """PlannerError where fields beside a catalog's name mean a change of that model."""
    name = fields.get("name")
    if not isinstance(name, str) or meant(name) is None or all(f in fields for f in NEEDED_FIELDS):
        return
    others = ", ".join(field for field in fields if field != "name")
    raise PlannerError(
        "model.name = {0!r}: a model of the catalog, given with {1}; to change it write base = {0!r} in place of name.",
        name,
        others,
    )


CLUSTER_FIELDS = ("node", "num_nodes", "num_gpus", "accelerator", "gpus_per_node", "network_gbit_per_s")


def as_cluster(value: ClusterLike) -> Cluster:
    """A cluster from a node's name (one node), from "32xh100", from fields, or itself."""
    if isinstance(value, Cluster):
        require_answerable("cluster", value.checked("cluster"))
        return value
    fields = cluster_table(value, "cluster") if isinstance(value, str) else fields_of(value, "cluster", "8xh100")
    for name in fields:
        if name not in CLUSTER_FIELDS:
            raise unknown_field("cluster", name, fields[name], CLUSTER_FIELDS)
    for key in ("node", "accelerator"):
        if isinstance(fields.get(key), int | float | list | tuple | dict):
            as_text(fields[key], f"cluster.{key}")
    if isinstance(fields.get("accelerator"), str):
        fields["accelerator"] = accelerator_of_field(fields["accelerator"], "cluster.accelerator")
    if isinstance(fields.get("node"), str):
        fields["node"] = node_of_field(fields["node"], "cluster.node")
    counts = ("num_nodes", "num_gpus", "gpus_per_node")
    asked: dict[str, Any] = {k: whole_number(fields.get(k)) if k in counts else fields.get(k) for k in CLUSTER_FIELDS}
    found = described_cluster(**asked)
    require_answerable("cluster", found)
    return found


def as_job(value: JobLike, cluster: Cluster | None = None) -> Job:
    """A job from its fields, or itself; where nobody named its precision, the cluster's usual one."""
    if isinstance(value, Job):
        found = value.checked("job")
        usual = found.precision if cluster is None else usual_precision(cluster.accelerator)
        return found if usual == found.precision or "precision" in found.model_fields_set else found.replaced(precision=usual)
    if cluster is not None and isinstance(value, Mapping) and "precision" not in value:
        value = {**value, "precision": usual_precision(cluster.accelerator)}
    return Job.build(value, "job")


def usual_precision(accelerator: Accelerator) -> Precision:
    """bf16; fp16 on a chip without it (Volta, Turing), fp32 on one that has neither."""
    usual: tuple[Precision, ...] = ("bf16", "fp16")
    found = [one for one in usual if one in accelerator.peak_flops_per_s]
    return found[0] if found else "fp32"


def as_layout(value: LayoutLike) -> Layout:
    """A layout from its fields, or itself."""
    return value.checked("layout") if isinstance(value, Layout) else Layout.build(value, "layout")


def staged(layout: Layout, framework: Framework) -> Layout:
    """The layout with the ZeRO stage that FSDP has where nobody names one; itself where one is named, and elsewhere.

    3, as fully_shard gathers a layer anew in the backward pass; beside a pipeline the framework's own ``zero_with_pp``.
    """
    if framework.mixed_precision != "sharded_fp32" or "zero" in layout.model_fields_set:
        return layout
    return layout.replaced(zero=3 if layout.pp == 1 else framework.zero_with_pp)


def as_framework(value: FrameworkLike, kind: str | None = None) -> Framework:
    """A framework from a name, from a name with changed fields, or itself. ``kind``: the job's, where it is known."""
    if isinstance(value, Framework):
        return value.checked("framework")
    fields = {"name": value} if isinstance(value, str) else fields_of(value, "framework", "fsdp")
    for name in fields:
        if name not in Framework.model_fields:
            raise unknown_field("framework", name, fields[name], Framework.model_fields)
    if "name" not in fields:
        raise PlannerError("framework.name is missing; give one of the catalog, e.g. megatron-core.")
    start = load_framework(as_text(fields.pop("name"), "framework.name"), kind=kind)
    return start.replaced(**fields) if fields else start


def read_as(given: FrameworkLike, found: Framework, kind: str | None = None) -> tuple[str, ...]:
    """What software as people call it was taken for, what it changes of that, and whether the release that its name ends in was
    read. ``kind``: the job's."""
    name = given if isinstance(given, str) else given.get("name") if isinstance(given, Mapping) else None
    if name is None or name.endswith(".toml") or name.lower() == found.name:
        return ()
    release = without_release(name)[1]
    if release == found.release != "":
        return (Message("framework: {0} is read as {1}, release {2}", name, found.name, release),)
    if release:
        return (Message("framework: {0} is read as {1}; its release {2} is not read", name, found.name, release),)
    changed = framework_of_name(name, "framework.name", kind) or {}
    fields = ", ".join(f"{field} = {str(value).lower()}" for field, value in changed.items() if field != "name")
    if fields:
        return (Message("framework: {0} is read as {1} with {2}", name, found.name, fields),)
    return (Message("framework: {0} is read as {1}", name, found.name),)
