"""Tables of ``planner tune`` and ``planner models derive``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from planner.common.message import Message
from planner.common.units import GB, GIB
from planner.performance.memory import KINDS
from planner.performance.risk import chance
from planner.reports.answer import no_length
from planner.reports.line import Line
from planner.reports.quotes import price_cells, price_lines
from planner.reports.text import count, dollars, gib, seconds_of, span
from planner.scenarios.scenario import Outlook
from planner.studies.tuning_methods import MemoryCell, Tuning
from planner.studies.what_if import Derived
from planner.uncertainty.interval import Interval
from planner.workload.layout import Layout
from planner.workload.layout_text import layout_fields

MARKS = {
    "r": Message("r: each layer is computed again in the backward pass."),
    "o": Message("o: optimizer states, parameters or activations lie on the host."),
}
"""What is told of a cell's layout beside its memory."""


def memory_table(title: str, cells: Sequence[MemoryCell]) -> RenderableType:
    """GiB of the fullest GPU: one row a method and context, one column a batch; red where it does not fit."""
    batches = sorted({cell.batch for cell in cells})
    table = Table(
        "method", "context", title=Message("{0}: memory of the fullest GPU, GiB", title), title_justify="left", pad_edge=False
    )
    for batch in batches:
        table.add_column(Message("batch {0}", batch), justify="right")
    by = {(cell.method, cell.seq_len, cell.batch): cell for cell in cells}
    rows = dict.fromkeys((cell.method, cell.seq_len) for cell in cells)
    last = None
    for method, seq_len in rows:
        if last not in (None, method):
            table.add_section()
        last = method
        texts = []
        for batch in batches:
            cell = by[method, seq_len, batch]
            text = "-" if cell.total_bytes is None else f"{cell.total_bytes / GIB:.1f} {_marks(cell)}".rstrip()
            texts.append(Line(text, style="green" if cell.fits else "red"))
        table.add_row(method, f"{seq_len:,}", *texts)
    card = cells[0].card_bytes / GIB
    legend = "Green fits in the {0:.1f} GiB that the framework sees of a GPU, red does not; a batch is on each GPU at a time."
    marked = "".join(_marks(cell) for cell in cells)
    lines = [
        Message(legend, card),
        *(line for mark, line in MARKS.items() if mark in marked),
        *([Message("Each figure is for the layout chosen in that cell, so a longer context can need less.")] if marked else []),
        *dict.fromkeys(Message("{0}: {1}", cell.method, cell.taken) for cell in cells if cell.taken),
        *dict.fromkeys(Message("{0} at {1:,}: {2}", cell.method, cell.seq_len, cell.why) for cell in cells if cell.why),
    ]
    return Group(table, *(Line(line, style="dim") for line in lines))


def _marks(cell: MemoryCell) -> str:
    """The letters of ``MARKS`` that hold of a cell's layout."""
    layout = Layout.build(layout_fields(cell.layout), "layout") if cell.layout else Layout()
    offloaded = layout.offload_optimizer or layout.offload_parameters or layout.offload_activations
    return ("r" if layout.recompute == "full" else "") + ("o" if offloaded else "")


def tuning_table(title: str, found: Sequence[Tuning], outlooks: Sequence[Outlook]) -> RenderableType:
    """One column a method; 90 % intervals behind time, memory and money, the budget of ``outlooks`` before what is modelled."""
    table = Table("", *(t.method for t in found), title=title, title_justify="left", pad_edge=False)
    step, run = (seconds_of(t.plan.intervals.get(name) for t in found) for name in ("step_time_s", "run_s"))
    rows: list[tuple[str, Callable[[Tuning], str]]] = [
        ("trainable parameters", lambda t: count(t.plan.parameters_trainable)),
        ("frozen parameters", lambda t: count(t.parameters_frozen) if t.parameters_frozen else "-"),
        ("file that tuning writes", lambda t: f"{t.stored_bytes / GB:,.3f} GB"),
        ("layout", lambda t: t.plan.layout.label),
        *((Message("memory: {0}", kind), lambda t, kind=kind: gib(t.plan.memory_bytes[kind])) for kind in KINDS),
        ("memory of the fullest GPU", lambda t: _between(t.plan.intervals["peak_total_bytes"], gib)),
        ("fits", lambda t: Message("{0}, {1}", Message(t.plan.certainty), chance(t.plan.fit_probability))),
        ("step", lambda t: _between(t.plan.intervals["step_time_s"], step)),
        ("tokens/s", lambda t: _between(t.plan.intervals["tokens_per_s"], lambda x: f"{x:,.0f}")),
    ]
    for name, cell in rows:
        table.add_row(name, *(cell(t) for t in found))
    runs, bills = [o.run for o in outlooks], [o.bill for o in outlooks]
    if any(runs):
        show = seconds_of(r.budget_s for r in runs if r is not None)
        budgets = [Line("-" if b is None else span(b.budget_usd, dollars), style="bold") for b in bills]
        table.add_row("budget, dollars", *budgets)
        table.add_row("budget, as published runs went", *["-" if r is None else span(r.budget_s, show) for r in runs])
    measured = any(t.plan.run_s is not None for t in found)
    if measured:
        table.add_row("whole run, undisturbed", *[_maybe(t.plan.intervals.get("run_s"), run) for t in found])
        table.add_row("cost, undisturbed", *[_maybe(t.plan.intervals.get("cost_usd"), dollars) for t in found])
    prices = [t.plan.price for t in found]
    table.add_row("price per GPU-hour", *price_cells(prices, "no quote"))
    quotes = price_lines([t.method for t in found], prices)
    notes = dict.fromkeys(
        Message("{0}: {1}", t.method, note)
        for t, outlook in zip(found, outlooks, strict=True)
        for note in (*([Message("budget {0}", outlook.why)] if outlook.why else ()), *t.plan.reasons, *t.plan.notes)
    )
    lengths = () if measured else (Line(no_length(found[0].plan.job), style="dim"),)
    return Group(table, *quotes, *lengths, *(Line(note, style="dim") for note in notes))


def _between(found: Interval, show: Callable[[float], str]) -> str:
    return Message("{0} ({1} - {2})", show(found.expected), show(found.lower), show(found.upper))


def _maybe(found: Interval | None, show: Callable[[float], str]) -> str:
    return "-" if found is None else _between(found, show)


def derived_table(found: Derived) -> RenderableType:
    """Before and after, and what must be said."""
    table = Table("", found.before.name, found.after.name, "after / before", pad_edge=False)
    for row in found.rows():
        show = _shown(str(row["unit"]))
        table.add_row(row["figure"], show(row["before"]), show(row["after"]), f"{row['after'] / row['before']:.1%}")
    return Group(table, *(Line(note) for note in found.notes))


def _shown(unit: str) -> Callable[[float], str]:
    return {"bytes": lambda x: f"{x / GB:,.2f} GB", "flop": lambda x: f"{x / 1e9:,.2f} GFLOP"}.get(unit, count)
