"""90 % intervals of a deployment's figures: those of a source never seen, by the hierarchical model of held-out measurements
(uncertainty/effects.py); of memory by classes of residuals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from planner.common import data
from planner.common.message import Message
from planner.model.parameters import parameters_total
from planner.serving.disaggregated import Pools, slowed_apart
from planner.serving.engine import engine_family
from planner.serving.expense import Expense
from planner.serving.load import Load, replica, slowed
from planner.serving.pass_time import Times
from planner.serving.setting import Setting
from planner.uncertainty.interval import Interval, Metric, ResidualClass, Subject, interval, load_residuals
from planner.uncertainty.subject import die

RESIDUALS = data.CATALOG / "serving_residuals.toml"

METRICS: dict[str, Metric] = {
    "ttft_s": "prefill", "tpot_s": "decode", "e2e_s": "decode", "prefill_tokens_per_s": "prefill",
    "decode_tokens_per_s": "decode", "output_tokens_per_s": "throughput", "requests_per_s": "throughput",
    "total_bytes": "serving_memory", "usd_per_million_tokens": "throughput", "usd_per_request": "throughput",
    "usd_per_million_tokens_in_and_out": "throughput", "usd_per_million_input_tokens": "throughput",
    "usd_per_million_output_tokens": "throughput", "joules_per_token": "throughput",
}  # fmt: skip
"""Whose residuals hold for a figure."""
RATES = ("prefill_tokens_per_s", "decode_tokens_per_s", "output_tokens_per_s", "requests_per_s")


def classes() -> tuple[ResidualClass, ...]:
    """The classes of residuals of serving memory, narrowest first."""
    return load_residuals(RESIDUALS)


def remembered(setting: Setting) -> Subject:
    """What the class of an interval of memory depends on; releases of one engine count as one.

    Weights are of known bytes in 16 bit, and in the format that the checkpoint itself states with what it leaves wide.
    """
    weights, stored = setting.serving.weights, setting.model.stored_weights
    expanded = {"fp8-weight-only": "fp8", "nvfp4-weight-only": "nvfp4"}.get(weights)
    own = weights == stored or (expanded is not None and stored.startswith(expanded))
    return Subject(
        framework=engine_family(setting.engine.name),
        curves=setting.cluster.accelerator.curves,
        family=setting.model.family,
        num_nodes=setting.cluster.num_nodes,
        num_gpus=setting.serving.gpus_per_replica,
        parameters=float(parameters_total(setting.model)),
        precision="quantized" if setting.format.quantized and not own else "16-bit",
    )


def subject_of(setting: Setting, figure: str, batch: float = 1.0, context: float = 1.0) -> Subject:
    """What the interval of a time depends on: ``figure`` as a measurement's (evidence/serving/runs.py)."""
    model, chip, s = setting.model, setting.cluster.accelerator, setting.serving
    experts = f"x{model.num_experts}" if model.family == "moe" else ""
    parameters = float(parameters_total(model))
    return Subject(
        framework=setting.engine.name,
        curves=chip.curves,
        family=model.family,
        num_nodes=setting.cluster.num_nodes,
        num_gpus=s.gpus_per_replica,
        parameters=parameters,
        root=engine_family(setting.engine.name),
        generation=chip.architecture.split()[0],
        die=die(chip.architecture),
        precision=setting.format.compute or str(setting.format.family),
        job="several GPUs" if s.gpus_per_replica > 1 else "one GPU",
        model=f"{model.num_layers}x{model.hidden_size}x{model.num_heads}x{model.vocab_size}" + experts,
        figure=figure,
        coordinates=tuple(np.log2([s.tp, s.pp, 1, s.ep, max(batch, 1.0), max(context, 1.0), s.num_gpus, parameters]).tolist()),
    )


def figure_of(metric: Metric, batch: int | None, loaded: bool) -> str:
    """The measured figure that a question asks for: of clients, of a batch, or of one sequence."""
    if metric == "prefill":
        return "loop_first" if loaded else "prefill"
    if metric == "decode":
        return "loop_token" if loaded else "batched" if (batch or 1) > 1 else "decode"
    return "saturated"


def interval_of(setting: Setting, name: str, value: float, batch: int | None = None, loaded: bool = False) -> Interval:
    """The interval of one figure; errors are log(measured / predicted) of seconds, so rates take them reversed.

    ``loaded``: of many requests at a time, not of one batch. The throughput of a ``batch`` is the inverse of its seconds: what is
    known of decoding holds for both.
    """
    metric = METRICS[name]
    if metric == "serving_memory":
        return interval(value, metric, remembered(setting), classes())
    metric = "decode" if batch is not None and metric == "throughput" and not loaded else metric
    metric = "prefill" if setting.serving.embeds and metric == "decode" else metric
    subject = subject_of(setting, figure_of(metric, batch, loaded))
    if name in RATES:
        return interval(1.0 / value, metric, subject).inverse(1.0)
    return interval(value, metric, subject)


COSTS = (
    "usd_per_million_tokens", "usd_per_million_tokens_in_and_out", "usd_per_million_input_tokens",
    "usd_per_million_output_tokens", "usd_per_request", "joules_per_token",
)  # fmt: skip
"""Figures of an ``Expense`` that follow from a throughput."""


def intervals(figures: Mapping[str, float], times: Times, load: Load | None, expense: Expense | None) -> dict[str, Interval]:
    """Intervals of ``figures`` (names of METRICS), of what a token costs and of latencies under load."""
    setting, batch = times.setting, times.setting.serving.batch
    costs = {name: float(getattr(expense, name)) for name in COSTS if getattr(expense, name, None) is not None}
    sure = {name: interval_of(setting, name, value, batch) for name, value in figures.items() if value}
    if load is None:
        return sure | {name: interval_of(setting, name, value, batch) for name, value in costs.items() if value}
    capacity = interval_of(setting, "requests_per_s", load.capacity_requests_per_s, loaded=True)
    sure["load.capacity_requests_per_s"] = capacity
    if load.clients is not None:
        sure |= {name: _of_capacity(capacity, value) for name, value in costs.items()}
        return sure | _of_clients(setting, load)
    sure |= {name: _at_rate(capacity, load.requests_per_s, value) for name, value in costs.items()}
    return sure | (_under_load(times, load, capacity) if load.stable else {})


def of_capacity(setting: Setting, rate: float, at_capacity: Expense | None) -> dict[str, Interval]:
    """Intervals of the most requests per second and of what a token costs at it."""
    capacity = interval_of(setting, "requests_per_s", rate, loaded=True)
    full = {name: float(getattr(at_capacity, name)) for name in COSTS if getattr(at_capacity, name, None) is not None}
    return {
        "capacity_requests_per_s": capacity,
        **{f"at_capacity.{name}": _of_capacity(capacity, value) for name, value in full.items()},
    }


def _of_capacity(capacity: Interval, value: float) -> Interval:
    """Dollars and joules of a token at the most that the GPUs do: the inverse of their throughput."""
    return Interval(
        lower=value * capacity.expected / capacity.upper,
        expected=value,
        upper=value * capacity.expected / capacity.lower,
        provenance=capacity.provenance,
        why=Message("price over throughput: {0}", capacity.why),
    )


def _at_rate(capacity: Interval, rate: float, value: float) -> Interval:
    """Dollars and joules at a given rate: price over rate, exact, unless the GPUs may carry less than the rate."""
    if capacity.lower >= rate:
        return Interval(
            lower=value,
            expected=value,
            upper=value,
            provenance=capacity.provenance,
            why="price over the given rate of requests, which the lower bound of the capacity carries",
        )
    return Interval(
        lower=value,
        expected=value,
        upper=value * rate / capacity.lower,
        provenance=capacity.provenance,
        why=Message("price over the given rate of requests; the GPUs may carry less: {0}", capacity.why),
    )


def _of_clients(setting: Setting, load: Load) -> dict[str, Interval]:
    """Latencies of a closed loop by their own residuals, and its throughput."""
    found = {}
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        for key, value in (getattr(load, name) or {}).items():
            if value:
                found[f"load.{name}.{key}"] = interval_of(setting, name, float(value), loaded=True)
    return found


def _under_load(times: Times, load: Load, capacity: Interval) -> dict[str, Interval]:
    """Latencies under load, simulated again as quick and as slow as the capacity's bounds; never narrower than the figure's own
    residuals make it. Where the slow one cannot carry the rate, the upper bound is that of ``num_requests`` and says so."""
    quick, slow = (_slowed(times, load.requests_per_s, capacity.expected / b) for b in (capacity.upper, capacity.lower))
    rate = load.requests_per_s
    found: dict[str, Interval] = {}
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        for key, value in (getattr(load, name) or {}).items():
            if not value:
                continue
            own = interval_of(times.setting, name, float(value), loaded=True)
            found[f"load.{name}.{key}"] = Interval(
                lower=min(own.lower, quick[name][key]),
                expected=value,
                upper=max(own.upper, slow[name][key]),
                provenance=own.provenance,
                why=own.why if rate < capacity.lower else _grows(own.why),
            )
    return found


def _slowed(times: Times, rate: float, factor: float) -> dict[str, Mapping[str, float]]:
    if times.setting.serving.prefill_pool is None:
        return slowed(times, rate, factor, replica(times))
    load = slowed_apart(times, rate, factor, Pools(times))
    found = {"ttft_s": load.ttft_s, "tpot_s": load.tpot_s, "e2e_s": load.e2e_s}
    return {name: {k: factor * v for k, v in (values or {}).items()} for name, values in found.items()}


def _grows(why: str) -> str:
    return Message(
        "{0}; at the lower bound of the capacity the queue grows without end: the upper bound is that of num_requests", why
    )


def certainty(need: Interval, card_bytes: float, fits: bool) -> str:
    """Whether it fits, by the interval of memory: "fits", "probably fits", "probably does not fit", "does not fit"."""
    sure = need.upper <= card_bytes if fits else need.lower > card_bytes
    return ("" if sure else "probably ") + ("fits" if fits else "does not fit")


def stability(capacity: Interval, load: Load) -> str:
    """Whether the queue is stable, by the interval of the capacity: "stable", "probably stable" ...; a closed loop always is."""
    if load.clients is not None:
        return "stable"
    sure = capacity.lower > load.requests_per_s if load.stable else capacity.upper < load.requests_per_s
    return ("" if sure else "probably ") + ("stable" if load.stable else "unstable")
