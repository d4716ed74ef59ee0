"""One deployment's answer first: eight lines that fit a narrow terminal, each figure with its 90 % interval."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace

from planner.common.message import Message, join_messages
from planner.common.translation import spoken
from planner.common.units import GIB, HOUR_S
from planner.reports.answer import wrapped
from planner.reports.serving import instead, speculative_words
from planner.reports.text import seconds, small_dollars, span
from planner.serving.deployment import Deployment, capacity_of
from planner.serving.intervals import interval_of
from planner.serving.requests import mean_tokens
from planner.uncertainty.dollars import at_price
from planner.uncertainty.interval import Interval


def serving_text(title: str, d: Deployment, width: int = 80) -> str:
    """Title, whether it fits, latency, output, capacity, cost, cut, on what, based on what; no bill where it does not fit."""
    return "\n".join([spoken(title), *wrapped(serving_lines(d), width)])


def serving_lines(d: Deployment) -> list[tuple[str, str]]:
    """(name, text) of each line."""
    found = [("fits", _fits(d))]
    if d.fits:
        found += [("latency", _latency(d)), ("output", _output(d)), ("capacity", _capacity(d)), ("cost", _cost(d))]
    else:
        found += [("why not", join_messages("; ", d.reasons)), ("instead", instead(d))]
    return [*found, ("cut", _cut(d)), ("on", _on(d)), *([("based on", _based_on(d))] if d.fits else [])]


def serving_notes(d: Deployment, today: datetime.date) -> list[str]:
    """What belongs under the lines: how to read them, a quote that is old, warnings and what was chosen."""
    stale = d.price.staleness(today) if d.price is not None and d.fits else ""
    return [
        "in parentheses: 90 % prediction intervals",
        *([Message("price: {0}", stale)] if stale else []),
        *(Message("warning: {0}", warning) for warning in d.warnings),
        *d.notes,
    ]


def _fits(d: Deployment) -> str:
    need = interval_of(d.times.setting, "total_bytes", d.loaded_total_bytes)
    verdict = {"fits": "yes", "probably fits": "probably", "probably does not fit": "probably not"}.get(d.certainty, "no")
    span = Message("{0:.1f} to {1:.1f}", need.lower / GIB, need.upper / GIB)
    each, places = " on each replica" if d.serving.dp > 1 else "", d.times.setting.places
    room = Message("; room for {0:,} requests at once{1}", d.max_batch, each)
    if places < d.max_batch:
        whose = "serving.max_batch" if d.serving.max_batch else d.engine.name
        room = Message("; {0:,} requests at once{1}, the limit of {2}: memory for {3:,}", places, each, whose, d.max_batch)
    return Message(
        "{0}: {1:.1f} of {2:.1f} GiB per GPU with {5} ({3}){4}",
        verdict,
        d.loaded_total_bytes / GIB,
        d.limit_bytes / GIB,
        span,
        room if d.fits else "",
        _at_once(d, d.loaded_batch),
    )


def _latency(d: Deployment) -> str:
    if d.serving.embeds:
        return _vector_latency(d)
    if d.load is None:
        first = _sure(d.ttft_s, d.intervals["ttft_s"], seconds)
        token = _sure(d.tpot_s, d.intervals["tpot_s"], seconds)
        return Message("first token {0}, then {1} a token with {2}", first, token, _batch(d))
    if d.load.ttft_s is None or d.load.tpot_s is None:
        return "grows without end: more requests arrive than the GPUs can answer"

    def median(name: str) -> str:
        values = getattr(d.load, name)
        key = f"load.{name}.p50"
        p50 = _sure(values["p50"], d.intervals[key], seconds) if key in d.intervals else seconds(values["p50"])
        return Message("{0}, 95 % within {1}", p50, seconds(values["p95"]))

    return Message("first token {0}; a token {1}", median("ttft_s"), median("tpot_s"))


def _vector_latency(d: Deployment) -> str:
    if d.load is None:
        return Message("a vector {0} with {1}", _sure(d.ttft_s, d.intervals["ttft_s"], seconds), _batch(d))
    if d.load.ttft_s is None:
        return "grows without end: more requests arrive than the GPUs can answer"
    key, values = "load.ttft_s.p50", d.load.ttft_s
    p50 = _sure(values["p50"], d.intervals[key], seconds) if key in d.intervals else seconds(values["p50"])
    return Message("a vector {0}, 95 % within {1}", p50, seconds(values["p95"]))


def _vectors(d: Deployment) -> str:
    prompt = mean_tokens(d.serving.prompt)
    if d.load is not None and d.load.output_tokens_per_s is not None:
        rate = d.load.requests_per_s
        return Message("{0} vectors/s, {1} tokens/s in", _number(rate), _number(rate * prompt))
    rate = d.requests_per_s or 0.0
    sure = _sure(rate, d.intervals["requests_per_s"], _number)
    return Message("{0} vectors/s, {1} tokens/s in with {2}", sure, _number(rate * prompt), _batch(d))


def _output(d: Deployment) -> str:
    if d.serving.embeds:
        return _vectors(d)
    if d.load is not None and d.load.output_tokens_per_s is not None:
        return Message("{0} tokens/s, {1} requests/s", _number(d.load.output_tokens_per_s), _number(d.load.requests_per_s))
    tokens = _sure(d.output_tokens_per_s, d.intervals["output_tokens_per_s"], _number)
    return Message("{0} tokens/s, {1} requests/s with {2}", tokens, _number(d.requests_per_s or 0.0), _batch(d))


def _most_per_s(d: Deployment) -> float:
    """The deployment's capacity; PlannerError says why it has none."""
    return capacity_of(d) if d.capacity_requests_per_s is None else d.capacity_requests_per_s


def _capacity(d: Deployment) -> str:
    loaded = d.load is not None and d.load.clients is None
    most = _most_per_s(d)
    found = d.intervals.get("load.capacity_requests_per_s") if loaded else None
    found = found or interval_of(d.times.setting, "requests_per_s", most)
    sure = _sure(most, found, _number)
    text = Message("{0} requests/s, {1} output tokens/s", sure, _number(most * mean_tokens(d.serving.output)))
    if d.serving.embeds:
        text = Message("{0} vectors/s, {1} tokens/s in", sure, _number(most * mean_tokens(d.serving.prompt)))
    if d.load is None or not loaded:
        return text
    return Message("{0}; {1:.0%} used, {2}", text, d.load.utilisation, Message(d.stability or ""))


def _cost(d: Deployment) -> str:
    if d.price is None:
        return "no quote for this GPU: add [price] usd_per_gpu_hour"
    price = Message("${0:.2f} per GPU-hour ({1})", d.price.usd_per_gpu_hour, d.price.describe())
    vectors = d.serving.embeds
    name = "usd_per_million_input_tokens" if vectors else "usd_per_million_tokens"
    value = None if d.expense is None else getattr(d.expense, name)
    if value is None:
        return price
    if d.load is not None:
        sure = _sure(value, d.intervals[name], small_dollars)
        if vectors:
            return Message("{0} per million tokens at {1}", sure, price)
        return Message("{0} per million output tokens, prompts included, at {1}", sure, price)
    usd_per_s, most = d.price.usd_per_gpu_hour * d.num_gpus / HOUR_S, _most_per_s(d)
    full = usd_per_s / most / mean_tokens(d.serving.prompt if vectors else d.serving.output) * 1e6
    sure = _sure(
        full, at_price(interval_of(d.times.setting, "requests_per_s", most).inverse(full * most), d.price), small_dollars
    )
    if vectors:
        return Message(
            "{0} per million tokens at {1} where the GPUs are full, {2} with {3}", sure, price, small_dollars(value), _batch(d)
        )
    return Message(
        "{0} per million output tokens, prompts included, at {1} where the GPUs are full, {2} with {3}",
        sure,
        price,
        small_dollars(value),
        _batch(d),
    )


def _cut(d: Deployment) -> str:
    s = d.serving
    degrees = [
        (s.attention_groups, Message("data-parallel attention {0}", s.attention_groups)),
        (s.tp, Message("tensor {0}", s.tp)),
        (s.pp, Message("pipeline {0}", s.pp)),
    ]
    words: list[str] = [join_messages(" x ", [text for n, text in degrees if n > 1]) or "one GPU"]
    words += [Message("experts over {0}", s.ep)] if s.ep > 1 else []
    words += [Message("{0} replicas", s.dp)] if s.dp > 1 else []
    return join_messages(", ", words)


def _on(d: Deployment) -> str:
    s = d.serving
    load = "" if s.requests_per_s is None else Message(", {0:,.4g} requests/s", s.requests_per_s)
    if s.clients is not None:
        load = ", 1 client" if s.clients == 1 else Message(", {0:,} clients", s.clients)
    draft = "" if s.speculative is None else Message("; draft {0}", speculative_words(d))
    tokens = Message("{0:,g} tokens in, {1:,g} out", mean_tokens(s.prompt), mean_tokens(s.output))
    if s.embeds:
        tokens = Message("{0:,g} tokens in, a vector out", mean_tokens(s.prompt))
        return Message("{0}; {1}, weights {2}; {3}{4}", d.cluster.name, d.engine.name, s.weights, tokens, load)
    return Message(
        "{0}; {1}, weights {2}, cache {3}; {4}{5}{6}",
        d.cluster.name,
        d.engine.name,
        s.weights,
        d.times.setting.kv_dtype,
        tokens,
        load,
        draft,
    )


def _batch(d: Deployment) -> str:
    return _at_once(d, d.serving.batch)


def _at_once(d: Deployment, batch: int) -> str:
    return Message("{0:,} at once{1}", batch, " on each replica" if d.serving.dp > 1 else "")


def _based_on(d: Deployment) -> str:
    found = d.intervals["ttft_s" if d.serving.embeds else "tpot_s"]
    return Message("{0}, so the interval is wider", found.why) if found.provenance == "extrapolated" else found.why


def _sure(value: float | None, found: Interval, show: Callable[[float], str]) -> str:
    return "-" if value is None else span(replace(found, expected=value), show)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
