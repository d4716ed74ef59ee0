"""A search's answer for people: the best, the front, the best of each cluster, what was rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.layout_search.result import SearchResult
from planner.layout_search.table import why_second
from planner.reports.text import dollars, gib, seconds

if TYPE_CHECKING:
    import pandas as pd

FRONT_ROWS = 12


def search_report(title: str, result: SearchResult, table: pd.DataFrame) -> RenderableType:
    """Tables and sentences of a search."""
    found, q = result.found, result.question
    lines: list[RenderableType] = []
    if not result.complete:
        share = found.num_layouts / max(result.size, 1)
        lines.append(Text(f"stopped after {found.num_layouts:,} of {result.size:,} layouts ({share:.0%})", style="bold red"))
    counts = f"{found.num_layouts:,} layouts, {found.num_possible:,} possible, {found.num_fitting:,} fit"
    if not len(table):
        return Group(*lines, Text(counts))
    lines.append(_rows(f"{title}: best by {q.objective} ({counts})", table[table["best"]]))
    first = table.iloc[0]
    lines.append(
        Text(
            f"90 % interval of rank {first['rank']}: step {seconds(first['step_time_lower_s'])} to "
            f"{seconds(first['step_time_upper_s'])}, memory {gib(first['peak_total_lower_bytes'])} to "
            f"{gib(first['peak_total_upper_bytes'])} ({first['provenance']}: {first['how_sure']})"
        )
    )
    if table["best"].sum() > 1:
        lines.append(Text(why_second(table)))
    front = table[table["front"]].sort_values(["step_time_s", "headroom_bytes"], kind="stable")
    shown = front.iloc[np.unique(np.linspace(0, len(front) - 1, min(FRONT_ROWS, len(front))).astype(int))]
    part = f"{len(shown)} of {len(front)} rows, evenly spaced; --out writes all" if len(shown) < len(front) else "all rows"
    lines.append(_rows(f"front in time, dollars and memory headroom ({part})", shown))
    if len(q.setups) > 1:
        lines.append(_rows("best of each cluster, stack and price", table[table["best_of_cluster"]]))
        absent = [s.label for i, s in enumerate(q.setups) if not (found.rows.setup == i).any()]
        lines += [Text(f"nothing is left on {label}") for label in absent]
    lines += [Text(f"not searched: {reason}") for reason in q.refused]
    lines += [Text(f"rejected: {count:,} {reason}", style="dim") for reason, count in found.rejected.most_common() if count]
    if q.objective == "energy":
        lines.append(Text("energy: GPUs at rated power all the time; hosts and cooling are not counted", style="dim"))
    return Group(*lines)


def _rows(title: str, rows: pd.DataFrame) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    several = rows[["accelerator", "num_gpus", "framework", "price"]].drop_duplicates().shape[0] > 1
    for name in ("rank", "cluster", "layout", "step", "MFU", "needs", "free", "run", "cost"):
        if name != "cluster" or several:
            table.add_column(name, justify="left" if name in ("cluster", "layout") else "right", overflow="fold")
    for row in rows.to_dict(orient="records"):
        where = [f"{row['num_gpus']} x {row['accelerator']}, {row['framework']}, {row['price'] or 'no price'}"] if several else []
        table.add_row(
            str(row["rank"]),
            *where,
            row["layout"],
            seconds(row["step_time_s"]),
            f"{row['mfu']:.1%}",
            gib(row["peak_total_bytes"]),
            gib(row["headroom_bytes"]),
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
