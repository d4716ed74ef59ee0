"""Rent, reserve, spot or own: the table, and one chart of cumulative dollars with the break-even."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from planner.common.message import Message, join_messages
from planner.lifecycle.bill import Costs
from planner.prices.ownership import OwnedGpu, Ownership
from planner.prices.price import Price
from planner.reports.line import Line
from planner.reports.pictures import pyplot, save_figure
from planner.reports.plots import COLOURS
from planner.reports.text import dollars
from planner.studies.holding import BreakEven, Holding


def holding_table(found: Holding) -> RenderableType:
    """Dollars of each way by year, the break-even of owning against each, and what all of it rests on."""
    title = "{0}, GPUs: {1}, {2:.0%} of the hours used: dollars so far"
    title = Message(title, found.cluster.name, found.cluster.num_gpus, found.utilisation)
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("way")
    ends = [i for i, month in enumerate(found.months) if month % 12 == 0] or [len(found.months) - 1]
    for i in ends:
        table.add_column(Message("{0:g} y", found.months[i] / 12), justify="right")
    for name in ("$ per GPU-hour used", "owning is cheaper from (90 %)", "above a use of (90 %)", "surely"):
        table.add_column(name, justify="right", overflow="fold")
    hours = found.cluster.num_gpus * found.utilisation * float(found.months[-1]) * 730.5
    even = {one.against: one for one in found.break_even}
    for way in found.ways:
        cells = [dollars(float(way.usd[i])) for i in ends]
        table.add_row(way.name, *cells, f"{float(way.usd[-1]) / hours:.2f}", *_even(even.get(way.name)))
    best = found.cheapest
    cheapest = Message(
        "cheapest over {0:g} years: {1}, {2}" if found.years != 1.0 else "cheapest over {0:g} year: {1}, {2}",
        found.years,
        Message(best.name),
        dollars(float(best.bound_usd[-1])),
    )
    lines = [Line(cheapest, style="bold"), Line(_parts(found.owned))]
    lines += [Line(note) for note in found.notes]
    prices = [(way.name, way.price) for way in found.ways if way.price]
    lines += [Line(Message("{0}: {1}", Message(way), _source(price)), style="dim") for way, price in prices]
    lines += [Line(Message("{0} = {1}", _place(name), text), style="dim") for name, text in found.assumptions.items()]
    return Group(table, *lines)


def _place(name: str) -> str:
    """Where an assumption is given: in [cost.own], in [cost], or the resale as an argument alone."""
    table = next((table for table, spec in (("cost.own.", Ownership), ("cost.", Costs)) if name in spec.model_fields), "")
    return f"{table}{name}"


def _parts(owned: OwnedGpu) -> str:
    """What an hour of an owned GPU consists of."""
    return Message(
        "owned for {0:g} years, $ per GPU-hour used: {1:.2f} = capital {2:.2f} + maintenance {3:.2f} + colocation {4:.2f} + "
        "energy {5:.2f} + idle energy {6:.2f} + staff and space {7:.2f}",
        owned.years,
        owned.usd_per_gpu_hour,
        owned.capital_usd_per_gpu_hour,
        owned.maintenance_usd_per_gpu_hour,
        owned.colocation_usd_per_gpu_hour,
        owned.energy_usd_per_gpu_hour,
        owned.idle_energy_usd_per_gpu_hour,
        owned.staff_and_space_usd_per_gpu_hour,
    )


def _source(price: Price) -> str:
    """Whose price it is and how it was found; of a rent that was given, the rent."""
    if not price.provider and not price.date:
        return Message("${0:.2f}, {1}", price.usd_per_gpu_hour, price.basis)
    return join_messages("; ", [part for part in (price.describe(), price.basis) if part])


def _even(found: BreakEven | None) -> tuple[str, str, str]:
    if found is None:
        return "", "", ""
    used = found.utilisation
    use = "-" if used is None else Message("{0} ({1} to {2})", *(_share(v) for v in (used.expected, used.lower, used.upper)))
    return (
        Message("{0} ({1} to {2})", _month(found.months), _month(found.months_lower), _month(found.months_upper)),
        use,
        f"{found.probability:.0%}",
    )


def _share(value: float) -> str:
    return f"{value:.0%}" if value <= 1.0 else Message("never")


def _month(value: float | None) -> str:
    return Message("never") if value is None else Message("month {0:.0f}", value)


def save_holding(path: Path, found: Holding) -> None:
    """One chart: cumulative dollars of each way over the months, the break-even of owning with its interval, the assumptions.

    Raises PlannerError when the path cannot be written.
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(11, 7), layout="constrained")
    try:
        months = np.concatenate([[0.0], found.months])
        for colour, way in zip((COLOURS[0], COLOURS[2], COLOURS[3], COLOURS[5], COLOURS[8]), found.ways, strict=False):
            line = np.concatenate([[0.0], way.usd]) / 1e6
            own = way.name == "own"
            axes.plot(months, line, color=colour, linewidth=3.0 if own else 1.8)
            axes.annotate(f" {way.name}", (months[-1], line[-1]), color=colour, va="center", fontsize=11)
            if way.binds:
                bound_months, bound = way.steps()
                axes.plot(bound_months, bound / 1e6, color=colour, linewidth=1.2, linestyle="--")
            even = next((one for one in found.break_even if one.against == way.name), None)
            if even is not None and even.months is not None:
                at = float(way.bound_usd[int(even.months) - 1]) / 1e6
                axes.plot([even.months], [at], "o", color=colour, markersize=8)
                ends = (even.months_lower or found.months[-1], even.months_upper or found.months[-1])
                axes.plot(ends, [at, at], color=colour, linewidth=6, alpha=0.25, solid_capstyle="butt")
        axes.set_xlim(0, months[-1] * 1.16)
        axes.set_ylim(0)
        axes.set_xlabel("months")
        axes.set_ylabel("million US dollars so far")
        axes.grid(alpha=0.3)
        best = found.cheapest
        title = f"{found.cluster.name}: over {found.years:g} years at {found.utilisation:.0%} use, {best.name} is the cheapest"
        axes.set_title(title, loc="left", fontsize=13, weight="bold")
        words = [f"{name.replace('_', ' ')} {text.partition(':')[0]}" for name, text in found.assumptions.items()]
        text = (
            "dots: owning is cheaper from there on, bands hold 90 % of the draws; dashed: with all that a begun term asks for; "
            + ", ".join(words)
        )
        figure.supxlabel(textwrap.fill(text, 150), fontsize=8, x=0.01, ha="left")
        save_figure(figure, path)
    finally:
        plt.close(figure)
