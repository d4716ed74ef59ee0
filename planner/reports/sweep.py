"""A sweep for people: one line a point, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from planner.common.message import Message
from planner.common.units import GIB
from planner.reports.pictures import pyplot, save_figure
from planner.reports.plots import COLOURS
from planner.reports.text import dollars, gib, seconds_like
from planner.studies.sweep import frameworks_differ

if TYPE_CHECKING:
    import pandas as pd

PANELS = (("step_time_s", "step time, s", 1.0), ("peak_total_bytes", "GiB per GPU", GIB), ("cost_usd", "cost of the run, $", 1.0))


def sweep_table(title: str, table: pd.DataFrame, keys: Sequence[str]) -> RenderableType:
    """Cases and values against what they take; points that cannot be say why."""
    if not table.attrs.get("complete", True):
        title = Message("{0}, stopped after {1:,} of {2:,} points", title, len(table), table.attrs["num_points"])
    lines = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    framework = ("framework",) if frameworks_differ(table) else ()
    for name in ("case", *keys, *framework, "layout", "step", "MFU", "needs", "fits", "run", "cost", "tokens/$", "why not"):
        lines.add_column(name, justify="left" if name in ("case", "framework", "layout", "why not") else "right", overflow="fold")
    rows = table.to_dict(orient="records")
    step, run = (seconds_like((_finite(row[name]) for row in rows), min) for name in ("step_time_s", "run_s"))
    for row in rows:
        known = np.isfinite(row["step_time_s"])
        lines.add_row(
            str(row["case"]),
            *[_value(row[key]) for key in keys],
            *[str(row[name]) for name in (*framework, "layout")],
            *([step(row["step_time_s"]), f"{row['mfu']:.1%}", gib(row["peak_total_bytes"])] if known else ["-"] * 3),
            "yes" if row["fits"] else "no",
            run(_finite(row["run_s"])),
            dollars(row["cost_usd"]) if _finite(row["cost_usd"]) is not None else "-",
            "-" if _finite(row["tokens_per_usd"]) is None else f"{row['tokens_per_usd']:,.0f}",
            row["error"],
        )
    return lines


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def save_sweep(path: Path, title: str, table: pd.DataFrame, keys: Sequence[str]) -> None:
    """Draw step time, memory and cost against the first field, a line for each case, framework and value of the second.

    Hollow points do not fit. Raises PlannerError when the file cannot be written.
    """
    plt = pyplot()

    panels = [p for p in PANELS if np.isfinite(table[p[0]].astype(float)).any()]
    figure, axes = plt.subplots(1, len(panels), figsize=(5.5 * len(panels), 5), layout="constrained", squeeze=False)
    lines = ["case", *keys[1:], *(["framework"] if frameworks_differ(table) else [])]
    try:
        figure.suptitle(title, fontsize=13, x=0.01, ha="left", weight="bold")
        for (name, label, unit), panel in zip(panels, axes[0], strict=True):
            for i, (line, rows) in enumerate(table.groupby(lines, sort=False)):
                _draw(panel, rows, keys[0], rows[name].astype(float) / unit, ", ".join(map(str, line)), COLOURS[i % len(COLOURS)])
            numbers = all(isinstance(v, int | float) for v in table[keys[0]])
            values = table[keys[0]].astype(float) if numbers else None
            if values is not None and values.min() > 0 and values.max() / values.min() > 20:
                panel.set_xscale("log")
            panel.set(xlabel=keys[0], ylabel=label)
            panel.set_ylim(0, 1.08 * float(np.nanmax(table[name].astype(float))) / unit)
            panel.spines[["top", "right"]].set_visible(False)
        axes[0][0].legend(fontsize=8, frameon=False)
        save_figure(figure, path)
    finally:
        plt.close(figure)


def _draw(panel: Any, rows: pd.DataFrame, key: str, values: pd.Series, label: str, colour: str) -> None:
    x = rows[key] if all(isinstance(v, int | float) for v in rows[key]) else rows[key].astype(str)
    panel.plot(x, values, color=colour, label=label)
    for fits, face in ((True, colour), (False, "white")):
        some = rows["fits"] == fits
        panel.plot(x[some], values[some], "o", color=colour, markerfacecolor=face, markersize=5)
