"""Equal-terms comparisons for people: one table, one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.reports.line import Line
from planner.reports.pictures import pyplot, save_figure
from planner.reports.plans import over_text
from planner.reports.plots import COLOURS
from planner.reports.quotes import price_cells, price_lines
from planner.reports.text import count, dollars, span
from planner.studies.equal_terms import Side, law_notes
from planner.studies.scaling_law import predicted_loss

TERM_NAMES = {
    "loss": "{0}: equal predicted loss",
    "flops": "{0}: equal training flops",
    "dollars": "{0}: equal dollars",
    "days": "{0}: equal days",
    "active": "{0}: equal active parameters",
    "total": "{0}: equal total parameters",
}
"""The title of a comparison by what is equal."""


def equal_table(title: str, at: str, sides: Sequence[Side]) -> RenderableType:
    """One column per case on the common terms."""
    table = Table(title=Message(TERM_NAMES[at], title), title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for side in sides:
        table.add_column(side.label, justify="right", overflow="fold")
    rows: dict[str, Sequence[RenderableType]] = {
        "parameters, total": [count(s.parameters_total) for s in sides],
        "parameters, active per token": [count(s.parameters_active) for s in sides],
        "layout": [s.plan.layout.label for s in sides],
        "fits": ["yes" if s.plan.fits else "no" for s in sides],
        "tokens": [count(s.tokens) for s in sides],
        "training flops": [f"{s.training_flops:.3g}" for s in sides],
        "budget, dollars": [Line("-" if s.budget_usd is None else span(s.budget_usd, dollars), style="bold") for s in sides],
        "budget, as published runs went": ["-" if s.budget_days is None else span(s.budget_days, _days) for s in sides],
        "days, undisturbed (90 %)": [span(s.days, lambda v: f"{v:,.1f}") for s in sides],
        "GPU-hours (90 %)": [span(s.gpu_hours, lambda v: f"{v:,.0f}") for s in sides],
        "price per GPU-hour": price_cells([s.price for s in sides]),
        "cost, undisturbed (90 %)": ["no price" if s.cost_usd is None else span(s.cost_usd, dollars) for s in sides],
        _best_name(sides[0].served_tokens): [_optimal(s) for s in sides],
        "predicted loss, nats per token (assumed)": ["-" if s.loss is None else f"{s.loss:.4f}" for s in sides],
    }
    if not all(s.reachable for s in sides):
        rows["reaches the reference's loss"] = ["yes" if s.reachable else "never" for s in sides]
    for name, values in rows.items():
        table.add_row(name, *values)
    lines = [Line(over_text(side.label, sides[0].label, side.over_first)) for side in sides[1:]]
    lines += [Line(note) for side in sides for note in side.notes]
    lines += price_lines([side.label for side in sides], [side.price for side in sides])
    return Group(table, *lines, *(Line(note, style="dim") for note in law_notes()))


def _days(days: float) -> str:
    return Message("{0} days", f"{days:,.1f}")


def _best_name(served_tokens: float) -> str:
    if not served_tokens:
        return "best dense model for these flops (assumed)"
    return Message("best dense model, these flops and {0} tokens served (assumed)", count(served_tokens))


def _optimal(side: Side) -> str:
    """Size and tokens of the dense model with the least loss, from the least to the most that the laws say."""
    found = sorted(side.best_dense.values())
    (small, most), (large, least) = found[0], found[-1]
    return Message("{0} on {1} to {2} on {3} tokens", count(small), count(most), count(large), count(least))


def save_equal(path: Path, title: str, at: str, sides: Sequence[Side]) -> None:
    """Predicted loss against dollars (GPU-hours without a price) as tokens grow, each case's point marked; PNG, SVG or PDF."""
    plt = pyplot()

    priced = all(s.cost_usd is not None and s.cost_usd.expected > 0 for s in sides)
    figure, axes = plt.subplots(figsize=(10, 6), layout="constrained")
    try:
        for i, side in enumerate(sides):
            spent = side.cost_usd.expected if priced and side.cost_usd is not None else side.gpu_hours.expected
            tokens = side.tokens * np.geomspace(0.1, 10, 60)
            losses = [_loss(side, t) for t in tokens]
            axes.plot(spent * tokens / side.tokens, losses, color=COLOURS[(6 * i) % len(COLOURS)], linewidth=2, label=side.label)
            if side.loss is not None:
                axes.plot([spent], [side.loss], "o", color=COLOURS[(6 * i) % len(COLOURS)], markersize=10)
                axes.annotate(
                    f" {side.tokens / 1e9:,.3g} B tokens", (spent, side.loss), color=COLOURS[(6 * i) % len(COLOURS)], fontsize=11
                )
        axes.set(xscale="log", xlabel="US dollars" if priced else "GPU-hours", ylabel="predicted loss, nats per token (assumed)")
        axes.set_title(f"{title}\n{TERM_NAMES[at].partition(': ')[2]}", loc="left", fontsize=13, weight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=11)
        save_figure(figure, path)
    finally:
        plt.close(figure)


def _loss(side: Side, tokens: float) -> float:
    try:
        return predicted_loss(side.plan.model, float(tokens))
    except PlannerError:
        return float("nan")
