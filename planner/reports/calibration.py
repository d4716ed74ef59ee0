"""Tables of a record: predicted against measured, and how well the fitted constants give back its samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planner.calibration.calibrate import Calibration
from planner.calibration.comparison import Comparison, summary
from planner.common.message import Message, join_messages
from planner.evidence.predictions import Verdict
from planner.reports.line import Line

if TYPE_CHECKING:
    from rich.console import RenderableType


def comparison_table(title: str, comparison: Comparison) -> RenderableType:
    """Predicted against measured, row by row, then the errors."""
    from rich.console import Group
    from rich.table import Table

    table = Table("step", "metric", title=title, title_justify="left", pad_edge=False)
    for name in ("measured", "predicted", "90 % interval", "error"):
        table.add_column(name, justify="right")
    for row in comparison.rows:
        unit, digits = (1.0, 4) if row.metric.endswith("_s") else (2.0**30, 3)
        interval = f"{row.lower / unit:.{digits}f} - {row.upper / unit:.{digits}f}" if row.upper > row.lower else ""
        name = row.metric if row.metric.endswith("_s") else f"{row.metric.removesuffix('_bytes')} GiB"
        table.add_row(
            row.id, name, f"{row.measured / unit:.{digits}f}", f"{row.predicted / unit:.{digits}f}", interval, f"{row.error:+.1%}"
        )
    lines = [
        Line(
            Message(
                "{0}: {1:,.0f} rows, median error {2:.1%}, worst {3:.1%}, bias {4:+.1%}",
                metric,
                *(s[name] for name in ("rows", "median", "worst", "bias")),
            )
        )
        for metric, s in summary(comparison.rows).items()
    ]
    lines += _fit_lines(comparison.verdicts) if any(not v.ran for v in comparison.verdicts) else []
    lines += [Line(Message("refused: {0}: {1}", r.id, r.reason), style="dim") for r in comparison.refused]
    return Group(table, *lines)


def _fit_lines(verdicts: Sequence[Verdict]) -> list[Line]:
    """Of the runs that ran, and of those that ran out of memory, how many were predicted so; the wrong ones by name."""
    right = [v for v in verdicts if v.ran == v.predicted_to_fit]
    wrong = [Message("{0} (ran)" if v.ran else "{0} (did not fit)", v.id) for v in verdicts if v.ran != v.predicted_to_fit]
    named = Message("; wrong: {0}", join_messages(", ", wrong)) if wrong else ""
    return [Line(Message("{0} of {1} runs classified correctly as fitting or not{2}", len(right), len(verdicts), named))]


def fits_table(calibration: Calibration) -> RenderableType:
    """How well the fitted constants give back the samples behind them."""
    from rich.table import Table

    table = Table("fit", title=Message("calibrated on {0}", calibration.source), title_justify="left", pad_edge=False)
    for name in ("samples", "median error", "worst error"):
        table.add_column(name, justify="right")
    for fit in calibration.fits:
        table.add_row(fit.name, str(fit.samples), f"{fit.median:.1%}", f"{fit.worst:.1%}")
    return table
