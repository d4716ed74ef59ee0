"""A scenario's case with changed fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from planner.common.errors import PlannerError, near
from planner.hardware.cluster import Accelerator, Cluster, CollectiveFit, Link
from planner.performance.risk import RISK
from planner.training.plan import Plan
from planner.training.planning import plan
from planner.workload.resolve import as_cluster

if TYPE_CHECKING:
    pass


Value = int | float | str | bool


def _set(table: dict[str, Any], name: str, value: Value) -> None:
    """Set a field, or one of a table inside: adapter.rank."""
    first, _, rest = name.partition(".")
    if not rest:
        table[name] = value
        return
    inner = table.get(first)
    table[first] = dict(inner) if isinstance(inner, Mapping) else {}
    _set(table[first], rest, value)


def plan_with(tables: Mapping[str, Any], changes: Mapping[str, Value], *, risk: float = RISK, allow: Iterable[str] = ()) -> Plan:
    """The plan of a case with some fields changed; no nearest layout is looked for. ``risk`` and ``allow`` as in ``plan``."""
    return plan(**question_with(tables, changes), explain=False, risk=risk, allow=allow)


def question_with(tables: Mapping[str, Any], changes: Mapping[str, Value]) -> dict[str, Any]:
    """What ``plan`` is asked of a case with some fields changed."""
    changed = {name: dict(table) for name, table in tables.items()}
    hardware: dict[str, Value] = {}
    for key, value in changes.items():
        table, _, name = key.partition(".")
        if table in ("accelerator", "link"):
            hardware[key] = value
            continue
        given = changed.setdefault(table, {})
        if table == "cluster" and name in ("num_gpus", "num_nodes"):
            given.pop("num_nodes" if name == "num_gpus" else "num_gpus", None)
        if key == "model.name":
            given.clear()
        elif table == "model" and set(given) == {"name"}:
            given["base"] = given.pop("name")  # a catalog model with a field changed
        _set(given, name, value)
    arguments: dict[str, Any] = changed
    if hardware:
        arguments["cluster"] = changed_hardware(as_cluster(changed["cluster"]), hardware)
    return arguments


def changed_hardware(cluster: Cluster, changes: Mapping[str, Value]) -> Cluster:
    """The cluster with fields of its accelerator (``accelerator.FIELD``) or of a link (``link.NAME.FIELD``) changed.

    NAME is a link's name or kind (nvlink, pcie, network).

    A link's rate scales its measured fits with it, a link's latency theirs.
    """
    accelerator, links = cluster.accelerator, list(cluster.node.links)
    for key, value in changes.items():
        table, *rest = key.split(".")
        if table == "accelerator":
            accelerator = accelerator.replaced(**_scaled(accelerator, ".".join(rest), value, changes))
            continue
        name, field = ".".join(rest[:-1]), rest[-1]
        found = [i for i, link in enumerate(links) if name in (link.name, link.kind)]
        if len(found) != 1:
            known = [text for link in links for text in (link.name, link.kind)]
            which = "no link" if not found else f"{len(found)} links"
            raise PlannerError("--vary {0}: {1} has {2} {3!r}; {4}.", key, cluster.node.name, which, name, near(name, known))
        links[found[0]] = _changed_link(links[found[0]], field, value)
    node = cluster.node.replaced(links=tuple(links))
    return Cluster(node=node, accelerator=accelerator, num_nodes=cluster.num_nodes, num_gpus=cluster.num_gpus)


def _scaled(accelerator: Accelerator, field: str, value: Value, changes: Mapping[str, Value]) -> dict[str, Value]:
    """A field of an accelerator with its value; other memory is usable in the part that the card's own is."""
    usable = accelerator.usable_memory_bytes
    if field != "memory_bytes" or usable is None or isinstance(value, bool | str) or "accelerator.usable_memory_bytes" in changes:
        return {field: value}
    return {field: value, "usable_memory_bytes": usable / accelerator.memory_bytes * float(value)}


def _changed_link(link: Link, field: str, value: Value) -> Link:
    changed = link.replaced(**{field: value})
    rate = changed.bytes_per_s / link.bytes_per_s
    latency = changed.latency_s / link.latency_s if link.latency_s else 1.0
    fits = {
        field: {
            name: CollectiveFit(
                latency_s=fit.latency_s * latency,
                latency_s_per_peer=fit.latency_s_per_peer * latency,
                bus_bytes_per_s=fit.bus_bytes_per_s * rate,
                sqrt_coefficient=fit.sqrt_coefficient,
            )
            for name, fit in found.items()
        }
        for field, found in (("collectives", link.collectives), ("captured", link.captured))
        if found
    }
    return changed.replaced(**fits) if fits else changed
