"""Tables of a trace: kind by kind measured against predicted, what overlaps and idles, and the kernels that nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.calibration.trace import TraceComparison
from planner.common.message import Message
from planner.reports.line import Line
from planner.reports.text import seconds, seconds_like

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST_UNKNOWN = 12


def trace_table(title: str, found: TraceComparison, elementwise_rate: float) -> RenderableType:
    """One line per kind of work; then the step, overlap, idle time, and constants that the trace suggests."""
    from rich.console import Group
    from rich.table import Table

    table = Table("work of one step", title=title, title_justify="left", pad_edge=False)
    for name in ("kernels", "measured", "predicted", "error"):
        table.add_column(name, justify="right")
    for row in found.rows:
        error = f"{row.error:+.0%}" if row.error is not None else "-"
        show = seconds_like((row.measured_s, row.predicted_s))
        table.add_row(row.kind, f"{row.kernels:,.0f}", show(row.measured_s), show(row.predicted_s), error)
    step_error = found.predicted_step_s / found.step_s - 1.0
    show = seconds_like((found.step_s, found.predicted_step_s))
    table.add_row("step", "", show(found.step_s), show(found.predicted_step_s), f"{step_error:+.0%}")
    show = seconds_like((found.exposed_s, found.predicted_exposed_s))
    table.add_row("communication that nothing hides", "", show(found.exposed_s), show(found.predicted_exposed_s), "-")
    table.add_row("device idle", "", seconds(found.idle_s), "-", "-")
    lines = [Line(Message("{0} step(s); the device works {1:.0%} of the time", found.steps, found.busy_s / found.step_s))]
    unknown = sum(s for _, s in found.unknown)
    if found.unknown:
        lines.append(Line(Message("{0} kernels of unknown kind take {1} of a step:", len(found.unknown), seconds(unknown))))
        lines += [Line(f"  {seconds(s)}  {name[:140]}", style="dim") for name, s in found.unknown[:MOST_UNKNOWN]]
    suggested = found.overrides(elementwise_rate)
    if suggested:
        lines.append(Line("constants that fit this trace, for [framework] of the scenario:"))
        lines += [Line(f"  {name} = {value:.3g}") for name, value in suggested.items()]
    return Group(table, *lines)
