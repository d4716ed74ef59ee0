"""Whole runs, bills and prices for people."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from planner.common.message import Message, join_messages
from planner.common.units import DAY_S, GB, HOUR_S
from planner.lifecycle.bill import ITEMS, Bill
from planner.lifecycle.sensitivity import Swing
from planner.lifecycle.simulation import CAUSES, WholeRun
from planner.prices.currency import ExchangeRate
from planner.prices.price import Price
from planner.reports.line import Line
from planner.reports.quotes import price_cells, price_lines
from planner.reports.text import dollars, seconds_like, seconds_of, span
from planner.training.plan import Plan
from planner.uncertainty.interval import Interval

CAUSE_NAMES = {
    "compute": "steps, balanced and undisturbed",
    "expert_imbalance": "uneven experts",
    "power_cap": "lower clocks under the cap",
    "warmup": "slow first steps",
    "startup": "first start",
    "ramp_up": "until all nodes have joined",
    "maintenance": "planned stops",
    "checkpoint": "writing checkpoints",
    "lost_work": "work lost to interruptions",
    "detection": "noticing failures",
    "replacement": "waiting for repaired nodes",
    "preemption": "waiting for spot nodes",
    "outage": "outages of all nodes",
    "rollback": "work done again after rollbacks",
    "restart": "restarts",
    "field": "beyond the model, as in published runs",
}
ITEM_NAMES = {
    "gpu_hours": "GPU-hours",
    "commitment": "bound hours that nothing uses",
    "spares": "spare nodes",
    "storage": "storage",
    "egress": "egress",
    "transfer": "transfer between regions",
    "preprocessing": "preprocessing (CPU)",
    "tax": "tax",
}
FAILING = {"gpu": "GPUs {0:.0%}", "network": "network {0:.0%}", "software": "software {0:.0%}", "node": "hosts {0:.0%}"}


def run_table(
    title: str, labels: Sequence[str], runs: Sequence[WholeRun], bills: Sequence[Bill | None], rate: ExchangeRate | None = None
) -> RenderableType:
    """One column per run: days, goodput, each cause in time and money, checkpoints, the bill, energy and CO2."""
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for label in labels:
        table.add_column(label, justify="right", overflow="fold")

    def row(name: str, values: Sequence[RenderableType]) -> None:
        table.add_row(name, *values)

    def head(name: str) -> None:
        table.add_section()
        table.add_row(Line(name, style="bold"), *[""] * len(runs))

    row("layout", [r.plan.layout.label for r in runs])
    if not all(r.plan.fits for r in runs):
        row(
            "fits",
            [r.plan.certainty if r.plan.fits else Line(_misfit(r.plan), style="bold red") for r in runs],
        )
    show = seconds_like(r.step_time_s.expected for r in runs)
    row("steps x step time", [f"{r.num_steps:,.0f} x {show(r.step_time_s.expected)}" for r in runs])
    if any(bills) and rate is not None and rate.currency != "USD":
        _in_currency(table, bills, rate)
    if any(bills):
        row("budget, dollars", [Line("-" if b is None else span(b.budget_usd, dollars), style="bold") for b in bills])
        row("  mean of many such runs", ["-" if b is None else dollars(b.budget_mean_usd) for b in bills])
    show = seconds_of(r.budget_s for r in runs)
    row("budget, as published runs went (90 %)", [Line(span(r.budget_s, show), style="bold") for r in runs])
    row("  GPU-hours", [span(r.budget_gpu_hours, lambda v: f"{v:,.0f}") for r in runs])
    show = seconds_of(r.wall_s for r in runs)
    row("as modelled (90 %)", [span(r.wall_s, show) for r in runs])
    row("  mean of the simulated runs", [_mean(r, b, show) for r, b in zip(runs, bills, strict=True)])
    row("  GPU-hours", [span(r.gpu_hours, lambda v: f"{v:,.0f}") for r in runs])
    row("goodput (90 %)", [span(r.goodput, lambda v: f"{v:.1%}") for r in runs])
    head("what each cause costs")
    for cause in CAUSES:
        if any(r.causes_s[cause] > 0 for r in runs):
            show = seconds_like(r.causes_s[cause] for r in runs)
            row("  " + CAUSE_NAMES.get(cause, cause), [_cause(r, b, cause, show) for r, b in zip(runs, bills, strict=True)])
    head("interruptions and checkpoints")
    show = seconds_like(r.mtbf_s for r in runs)
    row("  mean time between interruptions", [show(r.mtbf_s) for r in runs])
    row("  interruptions (90 %)", [span(r.interruptions, lambda v: f"{v:,.3g}") for r in runs])
    row("    of these", [_by_cause(r) for r in runs])
    show = seconds_like(r.checkpoint_write_s for r in runs)
    row("  checkpoint", [Message("{0} GB in {1}", _gigabytes(r.checkpoint_bytes), show(r.checkpoint_write_s)) for r in runs])
    show = seconds_like(r.checkpoint_interval_s for r in runs)
    row("  every", ["never" if r.checkpoint_interval_s is None else show(r.checkpoint_interval_s) for r in runs])
    if any(bills):
        _bill_rows(table, head, bills)
    quotes = price_lines(labels, [None if b is None else b.price for b in bills])
    return Group(table, *quotes, *_notes(labels, runs, bills))


def _bill_rows(table: Table, head, bills: Sequence[Bill | None]) -> None:  # type: ignore[no-untyped-def]
    head("bill")
    table.add_row("  price per GPU-hour", *price_cells([None if b is None else b.price for b in bills]))
    table.add_row("  asked elsewhere", *[_market(b) for b in bills])
    for item in ITEMS:
        if any(b is not None and b.items_usd[item].expected > 0 for b in bills):
            name = "  " + ITEM_NAMES[item]
            table.add_row(name, *["-" if b is None else span(b.items_usd[item], dollars) for b in bills])
    table.add_row("  total as modelled (90 %)", *["-" if b is None else span(b.total_usd, dollars) for b in bills])
    table.add_row("  energy", *["-" if b is None else span(b.energy_kwh, lambda v: f"{v:,.0f} kWh") for b in bills])
    if any(b is not None and b.grams_co2 for b in bills):
        table.add_row("  CO2", *[_carbon(b) for b in bills])
        table.add_row("  CO2 of making the servers", *["-" if b is None else _tonnes(b.embodied_grams_co2) for b in bills])
    if any(b is not None and b.owned for b in bills):
        table.add_row("  on own hardware (90 %)", *[_own(b) for b in bills])
        table.add_row("  owning pays above", *[_break_even(b) for b in bills])


def _in_currency(table: Table, bills: Sequence[Bill | None], rate: ExchangeRate) -> None:
    """The budget, and what is modelled, in another currency, with the day of its rate."""

    def show(usd: float) -> str:
        return f"{rate.currency} {usd / rate.usd_per_unit:,.0f}"

    budgets = [Line("-" if b is None else span(b.budget_usd, show), style="bold") for b in bills]
    table.add_row(Message("budget, {0}", rate.currency), *budgets)
    table.add_row("  as modelled", *["-" if b is None else span(b.total_usd, show) for b in bills])
    table.add_row(Message("  at USD a {0}", rate.currency), *[f"{rate.usd_per_unit:g}, {rate.date}"] * len(bills))


def lines_table(label: str, bill: Bill) -> RenderableType:
    """What is charged as modelled, for whoever checks it: quantity x unit price, term, date and source of each line."""
    table = Table(title=Message("{0}: lines of the bill", label), title_justify="left", pad_edge=False)
    for name in ("item", "quantity", "unit", "unit price, dollars", "dollars", "term", "date", "source"):
        table.add_column(
            name, justify="right" if name in ("quantity", "unit price, dollars", "dollars") else "left", overflow="fold"
        )
    for line in bill.lines:
        table.add_row(
            ITEM_NAMES[line.item],
            f"{line.quantity:,.5g}" if line.quantity < 1e5 else f"{line.quantity:,.0f}",
            line.unit,
            f"{line.unit_usd:,.4g}",
            dollars(line.usd),
            line.term or "-",
            line.date or "-",
            line.source,
        )
    return table


def tornado_table(label: str, swings: Sequence[Swing]) -> RenderableType:
    """What moves the total of one case, the widest first."""
    table = Table(title=Message("{0}: what moves the total", label), title_justify="left", pad_edge=False)
    for name in ("input", "low", "total", "high", "total "):
        table.add_column(name, justify="right" if "total" in name else "left", overflow="fold")
    for s in swings:
        table.add_row(s.name, s.low, dollars(s.low_usd), s.high, dollars(s.high_usd))
    return table


def _misfit(plan: Plan) -> str:
    return Message("no: {0}", join_messages("; ", plan.reasons))


def _gigabytes(held: float) -> str:
    """ "284", and of a few adapters "0.1"."""
    return f"{held / GB:,.0f}" if held >= GB else f"{held / GB:.2g}"


def _by_cause(run: WholeRun) -> str:
    """ "GPUs 64%, software 13%, ..." of the failures."""
    whole = sum(run.failures_by_cause.values())
    ranked = sorted(run.failures_by_cause.items(), key=lambda one: -one[1])
    return join_messages(", ", (Message(FAILING[cause], count / whole) for cause, count in ranked if count > 0)) or "-"


def _cause(run: WholeRun, bill: Bill | None, cause: str, show: Callable[[float], str]) -> str:
    lost = run.causes_s[cause]
    text = Message("{0}, {1:.1%}", show(lost), lost / run.wall_s.expected)
    if bill is None:
        return text
    return Message("{0}, {1}", text, dollars(lost / HOUR_S * run.plan.num_gpus * bill.price.usd_per_gpu_hour))


def _mean(run: WholeRun, bill: Bill | None, show: Callable[[float], str]) -> str:
    """Wall-clock, and GPU dollars, that many such runs would take on average."""
    text = show(run.mean_wall_s)
    if bill is None:
        return text
    return Message("{0}, {1} for GPUs", text, dollars(run.mean_wall_s / HOUR_S * run.plan.num_gpus * bill.price.usd_per_gpu_hour))


def _market(bill: Bill | None) -> str:
    """From the cheapest to the dearest provider; nothing where one alone quotes it, whose price is taken."""
    if bill is None or bill.market is None or bill.market.num_providers < 2:
        return "-"
    low, high = bill.market.cheapest, bill.market.dearest
    ends = (Message("${0:.2f} ({1}, {2})", one.usd_per_gpu_hour, one.provider, one.date) for one in (low, high))
    return Message("{0} to {1}, {2} providers", *ends, bill.market.num_providers)


def _carbon(bill: Bill | None) -> str:
    if bill is None or bill.grams_co2 is None or bill.grid is None:
        return "-"
    return Message("{0}, {1} {2}", _tonnes(bill.grams_co2), bill.grid.region, bill.grid.date)


def _tonnes(grams: Interval) -> str:
    return span(grams, lambda v: f"{v / 1e6:,.3g} t")


def _own(bill: Bill | None) -> str:
    if bill is None or bill.owned is None or bill.owned_usd is None:
        return "-"
    return Message("{0}, ${1:.2f} per GPU-hour", span(bill.owned_usd, dollars), bill.owned.usd_per_gpu_hour)


def _break_even(bill: Bill | None) -> str:
    if bill is None or bill.owned is None:
        return "-"
    share, hours = bill.owned.break_even_utilisation, bill.owned.break_even_gpu_hours
    if share is None or hours is None:
        return "never: power alone costs more"
    if share > 1:
        used = hours * HOUR_S / DAY_S / 365.25
        return Message("never within {0:.0f} years: {1:.1f} years of full use", bill.owned.years, used)
    return Message("{0:.0%} use over {1:.0f} years ({2:,.0f} hours of use)", share, bill.owned.years, hours)


def _notes(labels: Sequence[str], runs: Sequence[WholeRun], bills: Sequence[Bill | None]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for label, run, bill in zip(labels, runs, bills, strict=True):
        lines += [Line(Message("{0}: {1}", label, note)) for note in (*run.notes, *(bill.notes if bill else ()))]
    lines.append(Line(Message("intervals: {0}", runs[0].wall_s.why), style="dim"))
    rates = {s.source for r in runs for s in r.run.rates().provenance.values() if s.source}
    lines += [Line(Message("failure rates: {0}", source), style="dim") for source in sorted(rates)]
    assumed = {name: why for run in runs for name, why in run.assumptions.items()}
    lines += [Line(Message("assumed: run.{0}: {1}", name, why), style="dim") for name, why in assumed.items()]
    return lines


def market_table(by_term: Mapping[str, Price], by_class: Mapping[str, Price], rate: ExchangeRate) -> RenderableType:
    """The price at each term and of each class of provider, with its 90 % interval and how it was found."""
    note = "" if rate.currency == "USD" else f"; 1 {rate.currency} = {rate.usd_per_unit:g} USD, {rate.date}"
    table = Table(title=Message("{0} per GPU-hour, 90 % interval{1}", rate.currency, note), title_justify="left", pad_edge=False)
    for name in ("term", "price", "from", "to", "how"):
        table.add_column(name, justify="right" if name in ("price", "from", "to") else "left", overflow="fold")
    named = [*by_term.items(), *((Message("on-demand, {0}", name), price) for name, price in by_class.items())]
    for name, price in named:
        figures = (price.usd_per_gpu_hour, *price.interval_usd_per_gpu_hour)
        table.add_row(
            name,
            *(f"{x / rate.usd_per_unit:.2f}" for x in figures),
            join_messages(", ", [text for text in (price.describe(), price.basis) if text]),
        )
    return table


def prices_table(title: str, prices: Sequence[Price], today: datetime.date, rate: ExchangeRate | None = None) -> RenderableType:
    """Quotes with date, age and source; stale ones say so."""
    table = Table(title=title, title_justify="left", pad_edge=False)
    unit, per_usd = ("$", 1.0) if rate is None or rate.currency == "USD" else (rate.currency, 1.0 / rate.usd_per_unit)
    money = Message("{0}/GPU-hour", unit)
    for name in ("accelerator", "term", money, "provider", "region", "item", "date", "age", "source"):
        table.add_column(name, justify="right" if name == money else "left", overflow="fold")
    for p in prices:
        age = p.age_days(today)
        aged = "{0} d stale" if p.is_stale(today) else "{0} d or more, may be stale" if p.may_be_stale(today) else "{0} d"
        table.add_row(
            p.accelerator,
            p.term,
            f"{p.usd_per_gpu_hour * per_usd:.3f}",
            p.provider,
            p.region,
            p.item,
            p.date,
            "-" if age is None else Message(aged, age),
            p.source,
        )
    return table
