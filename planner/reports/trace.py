"""Tables of a trace: kind by kind measured against predicted, what overlaps and idles, and the kernels that nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from planner.calibration.trace import TraceComparison
from planner.reports.text import seconds

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
        table.add_row(row.kind, f"{row.kernels:,.0f}", seconds(row.measured_s), seconds(row.predicted_s), error)
    step_error = found.predicted_step_s / found.step_s - 1.0
    table.add_row("step", "", seconds(found.step_s), seconds(found.predicted_step_s), f"{step_error:+.0%}")
    table.add_row("communication that nothing hides", "", seconds(found.exposed_s), seconds(found.predicted_exposed_s), "-")
    table.add_row("device idle", "", seconds(found.idle_s), "-", "-")
    lines = [Text(f"{found.steps} step(s); the device works {found.busy_s / found.step_s:.0%} of the time")]
    unknown = sum(s for _, s in found.unknown)
    if found.unknown:
        lines.append(Text(f"{len(found.unknown)} kernels of unknown kind take {seconds(unknown)} of a step:"))
        lines += [Text(f"  {seconds(s)}  {name[:140]}", style="dim") for name, s in found.unknown[:MOST_UNKNOWN]]
    suggested = found.overrides(elementwise_rate)
    if suggested:
        lines.append(Text("constants that fit this trace, for [framework] of the scenario:"))
        lines += [Text(f"  {name} = {value:.3g}") for name, value in suggested.items()]
    return Group(table, *lines)
