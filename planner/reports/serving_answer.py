"""One deployment's answer first: eight lines that fit a narrow terminal, each figure with its 90 % interval."""

from __future__ import annotations

import datetime
from collections.abc import Callable

from planner.common.units import GIB, HOUR_S
from planner.reports.answer import wrapped
from planner.reports.serving import speculative_words
from planner.reports.text import seconds
from planner.serving.batch_figures import capacity_of
from planner.serving.deployment import Deployment
from planner.serving.intervals import interval_of
from planner.serving.requests import mean_tokens
from planner.uncertainty.interval import Interval


def serving_text(title: str, d: Deployment, width: int = 80) -> str:
    """Title, whether it fits, latency, output, capacity, cost, cut, on what, based on what; no bill where it does not fit."""
    return "\n".join([title, *wrapped(serving_lines(d), width)])


def serving_lines(d: Deployment) -> list[tuple[str, str]]:
    """(name, text) of each line."""
    found = [("fits", _fits(d))]
    if d.fits:
        found += [("latency", _latency(d)), ("output", _output(d)), ("capacity", _capacity(d)), ("cost", _cost(d))]
    else:
        found += [("why not", "; ".join(d.reasons)), ("instead", _instead(d))]
    return [*found, ("cut", _cut(d)), ("on", _on(d)), *([("based on", _based_on(d))] if d.fits else [])]


def serving_notes(d: Deployment, today: datetime.date) -> list[str]:
    """What belongs under the lines: how to read them, a quote that is old, warnings and what was chosen."""
    stale = d.price.staleness(today) if d.price is not None and d.fits else ""
    return [
        "in parentheses: 90 % prediction intervals",
        *([f"price: {stale}"] if stale else []),
        *(f"warning: {warning}" for warning in d.warnings),
        *d.notes,
    ]


def _fits(d: Deployment) -> str:
    need = d.intervals["total_bytes"]
    verdict = {"fits": "yes", "probably fits": "probably", "probably does not fit": "probably not"}.get(d.certainty, "no")
    span = f"{need.lower / GIB:.1f} to {need.upper / GIB:.1f}"
    room = f"; room for {d.max_batch:,} requests at once" + (" on each replica" if d.serving.dp > 1 else "")
    text = f"{verdict}: {d.total_bytes / GIB:.1f} of {d.limit_bytes / GIB:.1f} GiB per GPU ({span})"
    return text + (room if d.fits else "")


def _instead(d: Deployment) -> str:
    if not d.nearest:
        return "no single change of batch, cache, cut, context or weights makes it fit on these GPUs"
    return "it fits with " + ", ".join(f"{name} = {value}" for name, value in d.nearest.items())


def _latency(d: Deployment) -> str:
    if d.load is None:
        first = _sure(d.ttft_s, d.intervals["ttft_s"], seconds)
        token = _sure(d.tpot_s, d.intervals["tpot_s"], seconds)
        return f"first token {first}, then {token} a token with {_batch(d)}"
    if d.load.ttft_s is None or d.load.tpot_s is None:
        return "grows without end: more requests arrive than the GPUs can answer"

    def median(name: str) -> str:
        values = getattr(d.load, name)
        key = f"load.{name}.p50"
        p50 = _sure(values["p50"], d.intervals[key], seconds) if key in d.intervals else seconds(values["p50"])
        return f"{p50}, 95 % within {seconds(values['p95'])}"

    return f"first token {median('ttft_s')}; a token {median('tpot_s')}"


def _output(d: Deployment) -> str:
    if d.load is not None and d.load.output_tokens_per_s is not None:
        return f"{_number(d.load.output_tokens_per_s)} tokens/s, {_number(d.load.requests_per_s)} requests/s"
    tokens = _sure(d.output_tokens_per_s, d.intervals["output_tokens_per_s"], _number)
    return f"{tokens} tokens/s, {_number(d.requests_per_s or 0.0)} requests/s with {_batch(d)}"


def _capacity(d: Deployment) -> str:
    loaded = d.load is not None and d.load.clients is None
    most = d.load.capacity_requests_per_s if d.load is not None and loaded else capacity_of(d)
    found = d.intervals.get("load.capacity_requests_per_s") if loaded else None
    found = found or interval_of(d.times.setting, "requests_per_s", most)
    text = f"{_sure(most, found, _number)} requests/s, {_number(most * mean_tokens(d.serving.output))} output tokens/s"
    if d.load is None or not loaded:
        return text
    return f"{text}; {d.load.utilisation:.0%} used, {d.stability}"


def _cost(d: Deployment) -> str:
    if d.price is None:
        return "no quote for this GPU: add [price] usd_per_gpu_hour"
    price = f"${d.price.usd_per_gpu_hour:.2f} per GPU-hour ({d.price.describe()})"
    value = None if d.expense is None else d.expense.usd_per_million_tokens
    if value is None:
        return price
    what = f"per million output tokens, prompts included, at {price}"
    if d.load is not None:
        return f"{_sure(value, d.intervals['usd_per_million_tokens'], _dollars)} {what}"
    usd_per_s, most = d.price.usd_per_gpu_hour * d.num_gpus / HOUR_S, capacity_of(d)
    full = usd_per_s / most / mean_tokens(d.serving.output) * 1e6
    sure = interval_of(d.times.setting, "requests_per_s", most).inverse(full * most)
    return f"{_sure(full, sure, _dollars)} {what} where the GPUs are full, {_dollars(value)} with {_batch(d)}"


def _cut(d: Deployment) -> str:
    s = d.serving
    degrees = [(s.tp, "tensor"), (s.pp, "pipeline")]
    words = " x ".join(f"{name} {n}" for n, name in degrees if n > 1) or "one GPU"
    words += f", experts over {s.ep}" if s.ep > 1 else ""
    return f"{words}, {s.dp} replicas" if s.dp > 1 else words


def _on(d: Deployment) -> str:
    s = d.serving
    load = "" if s.requests_per_s is None else f", {s.requests_per_s:g} requests/s"
    load = load if s.clients is None else f", {s.clients:,} clients"
    draft = "" if s.speculative is None else f"; draft {speculative_words(d)}"
    tokens = f"{mean_tokens(s.prompt):,g} tokens in, {mean_tokens(s.output):,g} out"
    return f"{d.cluster.name}; {d.engine.name}, weights {s.weights}, cache {d.times.setting.kv_dtype}; {tokens}{load}{draft}"


def _batch(d: Deployment) -> str:
    return f"{d.serving.batch:,} at once" + (" on each replica" if d.serving.dp > 1 else "")


def _based_on(d: Deployment) -> str:
    found = d.intervals["tpot_s"]
    return f"{found.why}, so the interval is wider" if found.provenance == "extrapolated" else found.why


def _sure(value: float | None, found: Interval, show: Callable[[float], str]) -> str:
    return "-" if value is None else f"{show(value)} ({show(found.lower)} to {show(found.upper)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _dollars(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 else f"${value:.3f}"
