"""Deployments for people: one column each, from memory to dollars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from planner.common.message import Message, join_messages
from planner.reports.line import Line
from planner.reports.quotes import price_cells, price_lines
from planner.reports.text import count, gib, seconds_like, small_dollars
from planner.serving.deployment import Deployment
from planner.serving.memory import KINDS
from planner.serving.nearest import more_gpus
from planner.serving.requests import mean_tokens
from planner.serving.spec import Lengths

Show = Callable[[float], str]


def deployments_table(title: str, labels: Sequence[str], deployments: Sequence[Deployment]) -> RenderableType:
    """One column a deployment; where something else than the figure is meant the row says so."""
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for label in labels:
        table.add_column(label, justify="right", overflow="fold")

    def row(name: str, cell: Callable[[Deployment], Any]) -> None:
        cells = [cell(d) for d in deployments]
        if any(str(c) not in ("-", "") for c in cells):
            table.add_row(name, *cells)

    _memory_rows(row, table.add_section)
    table.add_section()
    _time_rows(row)
    table.add_section()
    _load_rows(row)
    table.add_section()
    prices = [d.price for d in deployments]
    table.add_row("price per GPU-hour", *price_cells(prices, "no price"))
    for name, title in DOLLARS.items():
        row(title, lambda d, name=name: _expense(d, name, small_dollars))  # type: ignore[misc]
    row("per request", lambda d: _expense(d, "usd_per_request", lambda v: f"${v:.6f}"))
    row("power", lambda d: f"{d.expense.power_w:,.0f} W" if d.expense and d.expense.power_w else "-")
    for vectors, name in ((False, "per output token"), (True, "per input token")):
        row(name, lambda d, vectors=vectors: _joules(d) if d.serving.embeds == vectors else "-")  # type: ignore[misc]
    for name, title in DOLLARS.items():
        row(Message("at capacity, {0}", Message(title)), lambda d, name=name: _expense(d, name, small_dollars, "at_capacity"))  # type: ignore[misc]
    return Group(table, *price_lines(labels, prices), *notes(labels, deployments))


def _joules(d: Deployment) -> str:
    return _expense(d, "joules_per_token", lambda v: f"{v:.3g} J")


DOLLARS = {
    "usd_per_million_input_tokens": "per million input tokens",
    "usd_per_million_output_tokens": "per million output tokens",
    "usd_per_million_tokens": "all, per million output tokens",
    "usd_per_million_tokens_in_and_out": "all, per million tokens in and out",
}
"""The first two divide the dollars as prefill and decoding divide the time; the others put all on the tokens named."""


Rows = Callable[[str, Callable[[Deployment], Any]], None]


def _memory_rows(row: Rows, section: Callable[[], None]) -> None:
    row("GPUs", lambda d: d.cluster.name)
    row("engine, weights, cache", lambda d: join_messages(", ", _stored(d)))
    row("cut", _cut)
    row("speculative decoding", speculative_words)
    row("parameters, active", lambda d: f"{count(d.parameters_total)}, {count(d.parameters_active)}")
    row("prompt, output tokens", lambda d: f"{_lengths(d.serving.prompt)}, {_output(d)}")
    section()
    row("weights, all", lambda d: gib(d.weights_bytes))
    row("experts in host memory", lambda d: gib(d.host_weights_bytes) if d.host_weights_bytes else "-")
    for kind in KINDS:
        row(Message("  {0}, one GPU", Message(kind.replace("_", " "))), lambda d, kind=kind: gib(d.memory_bytes[kind]))  # type: ignore[misc]
    row("needed of usable, one GPU", lambda d: Message("{0} of {1}", gib(d.total_bytes), gib(d.limit_bytes)))
    row("memory", lambda d: Line(d.certainty, style="green" if d.fits else "bold red"))
    row("cache of a token", lambda d: f"{d.kv_bytes_per_token / 1024:.1f} KiB" if d.kv_bytes_per_token else "-")
    row("largest batch, replica", lambda d: f"{d.max_batch:,}")
    row("largest context", _context)


def _stored(d: Deployment) -> tuple[str, ...]:
    cache = (d.times.setting.kv_dtype,) if d.kv_bytes_per_token else ()
    return (d.engine.name, d.serving.weights, *cache)


def _output(d: Deployment) -> str:
    return "0" if d.serving.embeds else _lengths(d.serving.output)


def speculative_words(d: Deployment) -> str:
    """The draft model, its tokens and how many are accepted; "-" without one."""
    spec = d.serving.speculative
    if spec is None:
        return "-"
    draft = spec.draft or Message("n-gram look-up")
    return Message("{0}: {1:,} tokens, {2:.0%} accepted", draft, spec.tokens, spec.acceptance)


def _context(d: Deployment) -> str:
    bound = Message("what memory holds" if d.max_context_bound == "memory" else d.max_context_bound)
    return Message("{0:,} tokens with {1}: {2}", d.max_context, d.serving.batch, bound)


def _time_rows(row: Rows) -> None:
    row("batch", lambda d: f"{d.serving.batch}")
    row("time to first token", lambda d: "-" if d.serving.embeds else _sure(d, "ttft_s"))
    row("time per output token", lambda d: _sure(d, "tpot_s"))
    row("whole request", lambda d: _sure(d, "e2e_s"))
    row("output tokens/s", lambda d: _sure(d, "output_tokens_per_s", _number))
    row("requests/s", lambda d: _sure(d, "requests_per_s", _number))


def _load_rows(row: Rows) -> None:
    row("clients", lambda d: f"{d.load.clients:,}" if d.load and d.load.clients else "-")
    row("request rate", lambda d: f"{d.load.requests_per_s:.4g}/s" if d.load else "-")
    row(
        "output tokens/s under load",
        lambda d: _number(d.load.output_tokens_per_s) if d.load and d.load.output_tokens_per_s else "-",
    )
    row("capacity", lambda d: _capacity(d))
    row("queue", _queue)
    for name, title in (
        ("ttft_s", "  first token p50, p95, p99"),
        ("tpot_s", "  per token p50, p95, p99"),
        ("e2e_s", "  request p50, p95, p99"),
    ):
        row(title, lambda d, name=name: _percentiles(d, name))  # type: ignore[misc]
    row("goodput", _goodput)
    row("mean batch, replica", lambda d: f"{d.load.mean_batch:.1f}" if d.load and d.load.mean_batch is not None else "-")
    row("needed at that batch, one GPU", lambda d: gib(d.loaded_total_bytes) if d.load and d.load.mean_batch else "-")
    row("preemptions", _preempted)


def _queue(d: Deployment) -> Line | str:
    if d.load is None or d.load.clients is not None:
        return "-"
    return Line(Message(d.stability or ""), style="" if d.load.stable else "bold red")


def _capacity(d: Deployment) -> str:
    if d.capacity_requests_per_s is None:
        return "-"
    if d.load is None or d.load.clients is not None:
        return f"{d.capacity_requests_per_s:.3g}/s"
    return Message("{0:.3g}/s, {1:.0%} used", d.load.capacity_requests_per_s, d.load.utilisation)


def _preempted(d: Deployment) -> str:
    often = d.load.preemptions_per_request if d.load else 0.0
    return Message("{0:.2g} a request", often) if often else "-"


def _cut(d: Deployment) -> str:
    parts = [f"{name} {getattr(d.serving, name)}" for name in ("tp", "pp", "ep", "dp") if getattr(d.serving, name) > 1]
    return ", ".join(parts) or "one GPU"


def _lengths(lengths: Lengths) -> str:
    text = f"{mean_tokens(lengths):g}"
    return text if lengths.kind == "fixed" else f"{lengths.kind} {text}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _sure(d: Deployment, name: str, show: Show | None = None) -> str:
    value = getattr(d, name)
    if value is None:
        return "-"
    found = d.intervals[name]
    show = show or seconds_like((value, found.lower, found.upper))
    return Message("{0} ({1} to {2})", show(value), show(found.lower), show(found.upper))


def _expense(d: Deployment, name: str, show: Show, of: str = "expense") -> str:
    spent = getattr(d, of)
    value = None if spent is None else getattr(spent, name)
    if value is None:
        return "-"
    found = d.intervals.get(name) if of == "expense" else d.capacity_intervals.get(f"{of}.{name}")
    if not found or found.lower >= found.upper:
        return show(value)
    return Message("{0} ({1} to {2})", show(value), show(found.lower), show(found.upper))


def _percentiles(d: Deployment, name: str) -> str:
    found = None if d.load is None else getattr(d.load, name)
    if found is None or (d.serving.embeds and name != "e2e_s"):
        return "-"
    values = [found[k] for k in ("p50", "p95", "p99")]
    return join_messages(", ", map(seconds_like(values), values))


def _goodput(d: Deployment) -> str:
    if d.load is None or d.load.goodput_requests_per_s is None:
        return "-"
    return f"{d.load.goodput_requests_per_s:.3g}/s ({d.load.within_targets:.1%})"


def notes(labels: Sequence[str], deployments: Sequence[Deployment]) -> list[RenderableType]:
    """Reasons, nearest changes, warnings, where the intervals come from, and how much is assumed."""
    lines: list[RenderableType] = []
    several = len(deployments) > 1
    for label, d in zip(labels, deployments, strict=True):
        told: list[tuple[str, str]] = [(Message("does not fit: {0}", reason), "bold red") for reason in d.reasons]
        if d.reasons:
            told.append((instead(d), ""))
        told += [(Message("warning: {0}", warning), "yellow") for warning in d.warnings]
        told += [(note, "") for note in d.notes]
        if d.tpot_s is not None:
            found = d.intervals["tpot_s"]
            told.append((Message("90 % interval of decoding: {0}, {1}", Message(found.provenance), found.why), "dim"))
        elif d.ttft_s is not None:
            found = d.intervals["ttft_s"]
            told.append((Message("90 % interval of prefill: {0}, {1}", Message(found.provenance), found.why), "dim"))
        if d.assumptions:
            names = ", ".join(sorted({a.field for a in d.assumptions}))
            told.append((Message("assumed: {0} (--json gives value and reason)", names), "dim"))
        lines += [Line(Message("{0}: {1}", label, text) if several else text, style=style) for text, style in told]
    return lines


def instead(d: Deployment) -> str:
    """The nearest change with which it fits, and on how many such GPUs it does without it."""
    gpus, s = more_gpus(d.times), d.times.setting.serving
    cut = ", ".join([f"tp = {gpus}", *(f"{name} = 1" for name in ("pp", "dp") if getattr(s, name) != 1)])
    if not d.nearest:
        text = "no single change of batch, cache, cut, context or weights makes it fit on these GPUs"
        return Message(text) if gpus is None else Message("{0}; it fits on {1} such GPUs with {2}", Message(text), gpus, cut)
    found = Message("it fits with {0}", ", ".join(f"{name} = {value}" for name, value in d.nearest.items()))
    return found if gpus is None else Message("{0}, or on {1} such GPUs with {2}", found, gpus, cut)
