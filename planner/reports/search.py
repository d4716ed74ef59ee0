"""A search's answer for people: the best, the front, the best of each cluster, what was rejected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.layout_search.ranking import NOISE, NUM_GROUPS
from planner.layout_search.result import SearchResult
from planner.layout_search.table import runner_up, why_second
from planner.lifecycle.field_factor import field_factor
from planner.performance.risk import chance
from planner.reports.plans import ratio_text
from planner.reports.text import dollars, gib, seconds, span
from planner.scenarios.scenario import Outlook
from planner.uncertainty.ratio import Ratio

if TYPE_CHECKING:
    import pandas as pd

FRONT_ROWS = 12


def search_report(title: str, result: SearchResult, table: pd.DataFrame, outlook: Outlook | None = None) -> RenderableType:
    """Tables and sentences of a search; ``outlook``: the recommended row's whole run and bill."""
    found, q = result.found, result.question
    lines: list[RenderableType] = []
    if not result.complete:
        share = found.num_layouts / max(result.size, 1)
        lines.append(Text(f"stopped after {found.num_layouts:,} of {result.size:,} layouts ({share:.0%})", style="bold red"))
    sure = f"{1.0 - q.setups[0].risk:.0%}"
    counts = f"{found.num_fitting:,} layouts fit with a probability of {sure}, {found.num_possible:,} are valid"
    if not len(table):
        return Group(*lines, Text(counts))
    first = table.iloc[0]
    if len(found.rows):
        shown = table[table["simplest"] & (table["group"] <= min(NUM_GROUPS, q.top))].sort_values("group", kind="stable")
        name = f"{title}: by {q.objective}, the simplest of each group of layouts within {NOISE:.0%} ({counts})"
        lines.append(_rows(name, shown, dict(enumerate(result.group_sizes, start=1))))
    else:
        lines.append(_rows(f"{title}: none fits with a probability of {sure}, the most likely ({counts})", table.iloc[:1]))
    lines += _beside(result, table)
    lines.append(
        Text(
            f"90 % interval of rank {first['rank']}: step {seconds(first['step_time_lower_s'])} to "
            f"{seconds(first['step_time_upper_s'])}, memory {gib(first['peak_total_lower_bytes'])} to "
            f"{gib(first['peak_total_upper_bytes'])} ({first['provenance']}: {first['how_sure']})"
        )
    )
    lines += _budget(first["rank"], outlook)
    if len(table) > 1:
        lines.append(Text(f"{why_second(table)}; {_second_text(table)}"))
    front = table[table["front"]].sort_values(["step_time_s", "headroom_bytes"], kind="stable")
    shown = front.iloc[np.unique(np.linspace(0, len(front) - 1, min(FRONT_ROWS, q.top, len(front))).astype(int))]
    part = f"{len(shown)} of {len(front)} rows, evenly spaced; --out writes all" if len(shown) < len(front) else "all rows"
    lines.append(_rows(f"front in time, dollars and memory headroom ({part})", shown))
    if len(q.setups) > 1:
        lines.append(_rows("best of each cluster, stack and price", table[table["best_of_cluster"]]))
        absent = [s.label for i, s in enumerate(q.setups) if not (found.rows.setup == i).any()]
        lines += [Text(f"nothing is left on {label}") for label in absent]
    lines += [Text("no usual layout fits at this risk, so unusual ones were searched too")] if result.widened else []
    lines += [Text(note) for note in q.notes]
    lines += [Text(f"not searched: {reason}") for reason in q.refused]
    lines += [Text(f"rejected: {count:,} {reason}", style="dim") for reason, count in found.rejected.most_common() if count]
    if q.objective == "energy":
        lines.append(Text("energy: GPUs at rated power all the time; hosts and cooling are not counted", style="dim"))
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
    return f"time over the recommended one's {ratio_text(found)}"


def _budget(rank: Any, outlook: Outlook | None) -> list[RenderableType]:
    """What to ask money for: the recommended row's time and dollars with interruptions, as ``planner run`` states them."""
    if outlook is None or (outlook.run is None and not outlook.why):
        return []
    if outlook.run is None:
        return [Text(f"budget of rank {rank}: {outlook.why}", style="bold")]
    money = "" if outlook.bill is None else f", {span(outlook.bill.budget_usd, dollars)}"
    text = (
        f"budget of rank {rank}: {span(outlook.run.budget_s, seconds)}{money}: with interruptions, and as published runs went "
        f"({field_factor().factor:.2f} times what is modelled; planner run)"
    )
    return [Text(text, style="bold")]


def _beside(result: SearchResult, table: pd.DataFrame) -> list[RenderableType]:
    """The fastest of those that fit, and the boldest that may: what the recommended row gives up."""
    lines: list[RenderableType] = []
    best = result.question.objective
    recommended = float(result.rows.value[0])
    fastest = int(np.argmin(result.rows.value))
    if fastest:
        gain = recommended / float(result.rows.value[fastest]) - 1.0
        lines.append(Text(f"best by {best} alone: {table.iloc[fastest]['layout']}: {gain:.1%} better, less simple"))
    bold = result.found.boldest
    if len(bold) and float(bold.value[0]) < float(result.rows.value.min()):
        gain = recommended / float(bold.value[0]) - 1.0
        sure = chance(bold.fit_probability[0])
        over = f"; time over the recommended one's {ratio_text(result.bold_ratio)}" if result.bold_ratio else ""
        lines.append(Text(f"boldest that may fit: {bold.layouts.row(0).label}: {gain:.1%} better, {sure} sure to fit{over}"))
    return lines


def _rows(title: str, rows: pd.DataFrame, sizes: Mapping[int, int] | None = None) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    several = rows[["accelerator", "num_gpus", "framework", "price"]].drop_duplicates().shape[0] > 1
    for name in ("rank", "equals", "cluster", "layout", "step", "MFU", "needs", "free", "sure", "run", "cost"):
        if (name != "cluster" or several) and (name != "equals" or sizes is not None):
            table.add_column(name, justify="left" if name in ("cluster", "layout") else "right", overflow="fold")
    for row in rows.to_dict(orient="records"):
        where = [f"{row['num_gpus']} x {row['accelerator']}, {row['framework']}, {row['price'] or 'no price'}"] if several else []
        table.add_row(
            str(row["rank"]),
            *([f"{sizes.get(row['group'], 1):,}"] if sizes is not None else []),
            *where,
            row["layout"],
            seconds(row["step_time_s"]),
            f"{row['mfu']:.1%}",
            gib(row["peak_total_bytes"]),
            gib(row["headroom_bytes"]),
            f"{chance(row['fit_probability'])}",
            seconds(_known(row["run_s"])),
            _cost(row),
        )
    return table


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _cost(row: dict[Any, Any]) -> str:
    if np.isfinite(row["cost_usd"]):
        return dollars(row["cost_usd"])
    return f"{dollars(row['cost_usd_per_step'])} a step" if np.isfinite(row["cost_usd_per_step"]) else "no price"
