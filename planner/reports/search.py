"""A search's answer for people: the best, the front, the best of each cluster, what was rejected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from planner.common.message import Message
from planner.layout_search.question import SearchQuestion
from planner.layout_search.ranking import NOISE, NUM_GROUPS
from planner.layout_search.result import SearchResult
from planner.layout_search.table import runner_up, step_basis, why_second
from planner.lifecycle.field_factor import field_factor
from planner.performance.risk import chance
from planner.reports.line import Line
from planner.reports.plans import ratio_text
from planner.reports.text import dollars, gib, seconds_like, seconds_of, span
from planner.scenarios.scenario import Outlook
from planner.uncertainty.ratio import Ratio

if TYPE_CHECKING:
    import pandas as pd

FRONT_ROWS = 12


def search_report(title: str, result: SearchResult, table: pd.DataFrame, outlook_of: Callable[[int], Outlook]) -> RenderableType:
    """Tables and sentences of a search; ``outlook_of``: the whole run and the bill of a row."""
    found, q, outlook_of = result.found, result.question, cache(outlook_of)
    lines: list[RenderableType] = []
    if not result.complete:
        share = found.num_layouts / max(result.size, 1)
        stopped = Message("stopped after {0:,} of {1:,} layouts ({2:.0%})", found.num_layouts, result.size, share)
        lines.append(Line(stopped, style="bold red"))
    sure = f"{1.0 - q.setups[0].risk:.0%}"
    counts = Message(
        "layouts that fit with a probability of {1}: {0:,}; valid: {2:,}", found.num_fitting, sure, found.num_possible
    )
    if not len(table):
        return Group(*lines, Line(counts))
    first = table.iloc[0]
    if len(found.rows):
        shown = table[table["simplest"] & (table["group"] <= min(NUM_GROUPS, q.top))].sort_values("group", kind="stable")
        name = Message(
            "{0}: by {1}, the simplest of each group of layouts within {2:.0%} ({3})", title, q.objective, NOISE, counts
        )
        lines.append(_rows(name, shown, q, outlook_of, dict(enumerate(result.group_sizes, start=1))))
    else:
        name = Message("{0}: none fits with a probability of {1}, the most likely ({2})", title, sure, counts)
        lines.append(_rows(name, table.iloc[:1], q, outlook_of))
    lines += _beside(result, table)
    lines.append(Line(_interval(first, step_basis(q, result.rows))))
    lines += _budget(first["rank"], outlook_of(0), q.budget_usd)
    if len(table) > 1:
        lines.append(Line(Message("{0}; {1}", why_second(table), _second_text(table))))
    front = table[table["front"]].sort_values(["step_time_s", "headroom_bytes"], kind="stable")
    shown = front.iloc[np.unique(np.linspace(0, len(front) - 1, min(FRONT_ROWS, q.top, len(front))).astype(int))]
    some = len(shown) < len(front)
    part = (
        Message("{0:,} of {1:,} rows, evenly spaced; --out writes all", len(shown), len(front)) if some else Message("all rows")
    )
    lines.append(_rows(Message("front in time, dollars and memory headroom ({0})", part), shown, q, outlook_of))
    if len(q.setups) > 1:
        lines.append(_rows("best of each cluster, framework and price", table[table["best_of_cluster"]], q, outlook_of))
        absent = [s.label for i, s in enumerate(q.setups) if not (found.rows.setup == i).any()]
        lines += [Line(Message("nothing is left on {0}", label)) for label in absent]
    lines += [Line(result.question.wide)] if result.widened else []
    lines += [Line(note) for note in q.said]
    lines += [Line(Message("not searched: {0}", reason)) for reason in q.refused]
    rejected = [(count, reason) for reason, count in found.rejected.most_common() if count]
    lines += [Line(Message("rejected: {0:,} {1}", count, reason), style="dim") for count, reason in rejected]
    if q.objective == "energy":
        lines.append(Line("energy: GPUs at rated power all the time; hosts and cooling are not counted", style="dim"))
    return Group(*lines)


def _second_text(table: pd.DataFrame) -> str:
    """ "time 1.02 (0.95 to 1.09, order not decidable: less with 34%) of the first" """
    second = table.iloc[runner_up(table)]
    found = Ratio(
        lower=second["time_over_first_lower"],
        expected=second["time_over_first"],
        upper=second["time_over_first_upper"],
        probability_first_smaller=second["probability_faster_than_first"],
    )
    return Message("time over the recommended one's {0}", ratio_text(found))


def _interval(first: pd.Series, basis: str) -> str:
    """The 90 % interval of step and memory of the recommended row, and what it rests on."""
    ends = [first["step_time_lower_s"], first["step_time_upper_s"]]
    show = seconds_like(ends)
    return Message(
        "90 % interval of rank {0}: step {1} to {2}, memory {3} to {4} ({5}: {6})",
        first["rank"],
        *(show(end) for end in ends),
        gib(first["peak_total_lower_bytes"]),
        gib(first["peak_total_upper_bytes"]),
        first["provenance"],
        basis,
    )


def _budget(rank: Any, outlook: Outlook, limit_usd: float | None) -> list[RenderableType]:
    """What to ask money for: the recommended row's time and dollars with interruptions, as ``planner run`` states them."""
    if outlook.run is None and not outlook.why:
        return []
    if outlook.run is None:
        return [Line(Message("budget of rank {0}: {1}", rank, outlook.why), style="bold")]
    money = "" if outlook.bill is None else Message("{0}, ", span(outlook.bill.budget_usd, dollars))
    text = Message(
        "budget of rank {0}: {1}{2}: with interruptions, and as published runs went: experiments, restarts, slower software "
        "({3:.2f} times what is modelled; planner run). The run and cost columns leave interruptions out.",
        rank,
        money,
        span(outlook.run.budget_s, seconds_of([outlook.run.budget_s])),
        field_factor().factor,
    )
    lines: list[RenderableType] = [Line(text, style="bold")]
    if limit_usd is not None and outlook.bill is not None and outlook.bill.budget_usd.expected > limit_usd:
        over = Message(
            "the budget of rank {0} is above --budget-usd {1}, which limits the undisturbed cost", rank, dollars(limit_usd)
        )
        lines.append(Line(over, style="bold yellow"))
    return lines


def _beside(result: SearchResult, table: pd.DataFrame) -> list[RenderableType]:
    """The fastest of those that fit, and the boldest that may: what the recommended row gives up."""
    lines: list[RenderableType] = []
    best = result.question.objective
    recommended = float(result.rows.value[0])
    fastest = int(np.argmin(result.rows.value))
    if fastest:
        gain = recommended / float(result.rows.value[fastest]) - 1.0
        layout = table.iloc[fastest]["layout"]
        lines.append(Line(Message("best by {0} alone: {1}: {2:.1%} better, less simple", best, layout, gain)))
    bold = result.found.boldest
    if len(bold) and float(bold.value[0]) < float(result.rows.value.min()):
        gain = recommended / float(bold.value[0]) - 1.0
        sure = chance(bold.fit_probability[0])
        over = Message("; time over the recommended one's {0}", ratio_text(result.bold_ratio)) if result.bold_ratio else ""
        layout = bold.layouts.row(0).label
        lines.append(Line(Message("boldest that may fit: {0}: {1:.1%} better, {2} sure to fit{3}", layout, gain, sure, over)))
    return lines


def _rows(
    title: str,
    rows: pd.DataFrame,
    q: SearchQuestion,
    outlook_of: Callable[[int], Outlook],
    sizes: Mapping[int, int] | None = None,
) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    several = len(q.setups) > 1
    budgets = [outlook_of(int(rank) - 1) for rank in rows["rank"]]
    without = {"cluster"} if not several else set()
    without |= {"equals"} if sizes is None else set()
    without |= {"budget"} if all(one.run is None for one in budgets) else set()
    for name in ("rank", "equals", "cluster", "layout", "step", "MFU", "needs", "free", "sure", "budget", "run", "cost"):
        if name not in without:
            table.add_column(name, justify="left" if name in ("cluster", "layout") else "right", overflow="fold")
    found = rows.to_dict(orient="records")
    step, run = (seconds_like((_known(row[name]) for row in found), min) for name in ("step_time_s", "run_s"))
    prices = {setup.price.describe(): setup.price.describe() for setup in q.setups if setup.price is not None}
    budget = seconds_like((one.run.budget_s.expected for one in budgets if one.run is not None), min)
    for row, outlook in zip(found, budgets, strict=True):
        where = [_where(row, prices)] if several else []
        table.add_row(
            str(row["rank"]),
            *([f"{sizes.get(row['group'], 1):,}"] if sizes is not None else []),
            *where,
            row["layout"],
            step(row["step_time_s"]),
            f"{row['mfu']:.1%}",
            gib(row["peak_total_bytes"]),
            gib(row["headroom_bytes"]),
            f"{chance(row['fit_probability'])}",
            *([] if "budget" in without else [_budgeted(outlook, budget)]),
            run(_known(row["run_s"])),
            _cost(row),
        )
    return table


def _where(row: dict[Any, Any], prices: Mapping[str, str]) -> str:
    """Cluster, framework and price of a row; ``prices``: the messages of the frame's texts."""
    price = prices.get(row["price"]) or Message("no price")
    return Message("{0} x {1} ({2}), {3}, {4}", row["num_gpus"], row["accelerator"], row["node"], row["framework"], price)


def _budgeted(outlook: Outlook, show: Callable[[float | None], str]) -> RenderableType:
    """Dollars to ask for; without a price the time."""
    if outlook.run is None:
        return "-"
    money = None if outlook.bill is None else outlook.bill.budget_usd.expected
    return Line(show(outlook.run.budget_s.expected) if money is None else dollars(money), style="bold")


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _cost(row: dict[Any, Any]) -> str:
    if np.isfinite(row["cost_usd"]):
        return dollars(row["cost_usd"])
    return Message("{0} a step", dollars(row["cost_usd_per_step"])) if np.isfinite(row["cost_usd_per_step"]) else "no price"
