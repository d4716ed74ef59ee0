"""Full tuning, LoRA and QLoRA of one scenario side by side: what trains, what it needs, how long and how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner.common.errors import PlannerError, one_of
from planner.training.plan import Plan
from planner.training.planning import plan
from planner.training.trainable import frozen_parameters, stored_bytes
from planner.workload.adapters import check_targets
from planner.workload.resolve import as_model
from planner.workload.tuning import Adapter

METHODS = ("full", "lora", "qlora")
RANK = 16
"""Rank of adapters where the scenario has none and the command line gives none: peft's examples."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """One way to tune the scenario's model, and the plan of it."""

    method: str
    plan: Plan
    parameters_frozen: int
    stored_bytes: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, SI units."""
        return {
            "method": self.method,
            "parameters_trainable": self.plan.parameters_trainable,
            "parameters_frozen": self.parameters_frozen,
            "stored_bytes": self.stored_bytes,
            "plan": self.plan.to_dict(),
        }


def tuning_choices(
    tables: dict[str, dict[str, Any]], rank: int | None = None, targets: str | None = None, methods: tuple[str, ...] = METHODS
) -> list[Tuning]:
    """Plans of the scenario's tables with ``job.kind`` finetune, lora and qlora.

    The adapter is the scenario's, with ``rank`` and ``targets`` instead of its own where given. A scenario without [framework]
    takes peft's stack. Raises PlannerError for a bad rank, target or method.
    """
    unknown = [m for m in methods if m not in METHODS]
    if unknown:
        raise PlannerError(f"--methods {unknown[0]}: {one_of(unknown[0], METHODS)}.")
    job = dict(tables["job"])
    adapter = {**({"rank": RANK} if "adapter" not in job else _table(job["adapter"]))}
    adapter |= {"rank": rank} if rank is not None else {}
    adapter |= {"target_modules": targets} if targets is not None else {}
    check_targets(as_model(tables["model"]), Adapter.build(adapter, "job.adapter"))
    common = {k: v for k, v in job.items() if k not in ("kind", "adapter", "quantization", "teacher")}
    quantization = job.get("quantization") if str(job.get("kind")) == "qlora" else None
    jobs = {
        "full": {**common, "kind": "finetune"},
        "lora": {**common, "kind": "lora", "adapter": adapter},
        "qlora": {**common, "kind": "qlora", "adapter": adapter, **({"quantization": quantization} if quantization else {})},
    }
    framework = tables.get("framework", {"name": "peft"})
    rest = {k: v for k, v in tables.items() if k in ("model", "cluster", "layout", "price")}
    found = []
    for method in methods:
        try:
            found.append(_answered(method, {**rest, "framework": framework, "job": jobs[method]}))
        except PlannerError as error:
            others = ",".join(other for other in methods if other != method)
            leave = f" Or leave {method} out: --methods {others}." if others else ""
            raise PlannerError(f"{method}: {error}{leave}") from None
    return found


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PlannerError(f"job.adapter = {value!r}: must be a table, [job.adapter].")
    return value


def _answered(method: str, arguments: dict[str, Any]) -> Tuning:
    answer = plan(**arguments)
    return Tuning(
        method=method,
        plan=answer,
        parameters_frozen=frozen_parameters(answer.model, answer.job),
        stored_bytes=stored_bytes(answer.model, answer.job, answer.framework),
    )
