"""A deployment as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.serving.deployment import Deployment


def to_dict(d: Deployment) -> dict[str, Any]:
    """For JSON: SI units, stable names."""
    skipped = {"model", "cluster", "engine", "serving", "price", "times", "load", "expense", "assumptions"}
    numbers = {name: getattr(d, name) for name in d.__dataclass_fields__ if name not in skipped}
    return {
        "model": {"name": d.model.name, "family": d.model.family},
        "cluster": {"name": d.cluster.name, "node": d.cluster.node.name, "accelerator": d.cluster.accelerator.name,
                    "num_nodes": d.cluster.num_nodes, "num_gpus": d.cluster.num_gpus},
        "engine": d.engine.name,
        "serving": d.serving.model_dump(exclude={"provenance"}),
        "price": None if d.price is None else d.price.to_dict(),
        **numbers, "memory_bytes": dict(d.memory_bytes), "nearest": None if d.nearest is None else dict(d.nearest),
        "load": None if d.load is None else d.load.to_dict(),
        "expense": None if d.expense is None else d.expense.to_dict(),
        "intervals": {name: found.to_dict() for name, found in d.intervals.items()},
        "assumptions": [vars(a) for a in d.assumptions],
    }  # fmt: skip
