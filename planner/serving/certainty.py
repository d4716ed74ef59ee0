"""90 % intervals of a deployment's figures, from residuals of measurements that the fit had not seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from planner.serving.engine import engine_lineage
from planner.uncertainty import Interval, Metric, ResidualClass, Subject, interval, load_residuals

if TYPE_CHECKING:
    from planner.serving.deployment import Deployment
    from planner.serving.setting import Setting

RESIDUALS = Path(__file__).resolve().parent.parent / "catalog" / "serving_residuals.toml"

METRICS: dict[str, Metric] = {
    "ttft_s": "prefill", "tpot_s": "decode", "e2e_s": "decode", "prefill_tokens_per_s": "prefill",
    "decode_tokens_per_s": "decode", "output_tokens_per_s": "throughput", "requests_per_s": "throughput",
    "total_bytes": "serving_memory", "usd_per_million_tokens": "throughput", "usd_per_request": "throughput",
    "usd_per_million_tokens_in_and_out": "throughput", "joules_per_token": "throughput",
}  # fmt: skip
"""Whose residuals hold for a figure."""
RATES = ("prefill_tokens_per_s", "decode_tokens_per_s", "output_tokens_per_s", "requests_per_s")


def classes() -> tuple[ResidualClass, ...]:
    """The classes of serving residuals, narrowest first."""
    return load_residuals(RESIDUALS)


def subject_of(setting: Setting) -> Subject:
    """What the class of an interval depends on; an engine counts as the one that it is based on."""
    from planner.parameters import parameters_total

    return Subject(
        framework=engine_lineage(setting.engine.name)[-1], curves=setting.cluster.accelerator.curves,
        family=setting.model.family, num_nodes=setting.cluster.num_nodes, num_gpus=setting.serving.gpus_per_replica,
        parameters=float(parameters_total(setting.model)),
    )  # fmt: skip


def interval_of(d: Deployment, name: str, value: float) -> Interval:
    """The interval of one figure; residuals are log(measured / predicted) of seconds, so rates take them reversed."""
    subject = subject_of(d.times.setting)
    if name in RATES:
        return interval(1.0 / value, METRICS[name], subject, classes()).inverse(1.0)
    return interval(value, METRICS[name], subject, classes())


def intervals(d: Deployment) -> dict[str, Interval]:
    """Intervals of all figures that the deployment has."""
    found = {name: getattr(d, name) for name in METRICS if getattr(d, name, None) is not None}
    if d.expense is not None:
        found |= {name: getattr(d.expense, name) for name in METRICS if getattr(d.expense, name, None) is not None}
    sure = {name: interval_of(d, name, float(value)) for name, value in found.items() if value}
    if d.load is not None and d.load.stable:
        for name in ("ttft_s", "tpot_s", "e2e_s"):
            for key, value in (getattr(d.load, name) or {}).items():
                if value:
                    sure[f"load.{name}.{key}"] = interval_of(d, name, float(value))
    return sure
