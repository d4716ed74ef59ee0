"""90 % intervals of a deployment's figures, from residuals of measurements that the fit had not seen."""

from __future__ import annotations

from collections.abc import Mapping

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
    """The classes of serving residuals, narrowest first."""
    return load_residuals(RESIDUALS)


def subject_of(setting: Setting) -> Subject:
    """What the class of an interval depends on; releases of one engine count as one."""
    return Subject(
        framework=engine_family(setting.engine.name),
        curves=setting.cluster.accelerator.curves,
        family=setting.model.family,
        num_nodes=setting.cluster.num_nodes,
        num_gpus=setting.serving.gpus_per_replica,
        parameters=float(parameters_total(setting.model)),
        precision="quantized" if setting.format.quantized else "16-bit",
    )


def interval_of(setting: Setting, name: str, value: float, batch: int | None = None) -> Interval:
    """The interval of one figure; residuals are log(measured / predicted) of seconds, so rates take them reversed.

    With a ``batch`` of one, throughput is the inverse of a request's seconds: the residuals of decoding hold for both.
    """
    subject, metric = subject_of(setting), METRICS[name]
    metric = "decode" if batch == 1 and metric == "throughput" else metric
    if name in RATES:
        return interval(1.0 / value, metric, subject, classes()).inverse(1.0)
    return interval(value, metric, subject, classes())


COSTS = (
    "usd_per_million_tokens", "usd_per_million_tokens_in_and_out", "usd_per_million_input_tokens",
    "usd_per_million_output_tokens", "usd_per_request", "joules_per_token",
)  # fmt: skip
"""Figures of an ``Expense`` that follow from a throughput."""


def intervals(
    figures: Mapping[str, float], times: Times, load: Load | None, expense: Expense | None, at_capacity: Expense | None = None
) -> dict[str, Interval]:
    """Intervals of ``figures`` (names of METRICS), of what a token costs and of latencies under load."""
    setting, batch = times.setting, times.setting.serving.batch
    costs = {name: float(getattr(expense, name)) for name in COSTS if getattr(expense, name, None) is not None}
    full = {name: float(getattr(at_capacity, name)) for name in COSTS if getattr(at_capacity, name, None) is not None}
    sure = {name: interval_of(setting, name, value, batch) for name, value in figures.items() if value}
    if load is None:
        return sure | {name: interval_of(setting, name, value, batch) for name, value in costs.items() if value}
    capacity = interval_of(setting, "requests_per_s", load.capacity_requests_per_s)
    sure["load.capacity_requests_per_s"] = capacity
    sure |= {f"at_capacity.{name}": _of_capacity(capacity, value) for name, value in full.items()}
    if load.clients is not None:
        sure |= {name: _of_capacity(capacity, value) for name, value in costs.items()}
        return sure | _of_clients(setting, load)
    sure |= {name: _at_rate(capacity, load.requests_per_s, value) for name, value in costs.items()}
    return sure | (_under_load(times, load, capacity) if load.stable else {})


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
                found[f"load.{name}.{key}"] = interval_of(setting, name, float(value))
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
            own = interval_of(times.setting, name, float(value))
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


def certainty(need: Interval, limit_bytes: float, fits: bool) -> str:
    """Whether it fits, by the interval of memory: "fits", "probably fits", "probably does not fit", "does not fit"."""
    sure = need.upper <= limit_bytes if fits else need.lower > limit_bytes
    return ("" if sure else "probably ") + ("fits" if fits else "does not fit")


def stability(capacity: Interval, load: Load) -> str:
    """Whether the queue is stable, by the interval of the capacity: "stable", "probably stable" ...; a closed loop always is."""
    if load.clients is not None:
        return "stable"
    sure = capacity.lower > load.requests_per_s if load.stable else capacity.upper < load.requests_per_s
    return ("" if sure else "probably ") + ("stable" if load.stable else "unstable")
