"""The table of measured serving runs against predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from planner.common.message import Message
from planner.evidence.measured_runs import Refusal
from planner.evidence.serving.predictions import ServingPrediction
from planner.reports.line import Line

if TYPE_CHECKING:
    from rich.console import RenderableType


def table_of(title: str, found: Sequence[ServingPrediction], refused: Sequence[Refusal]) -> RenderableType:
    """Errors by figure and group, then over each figure, then how many rows are refused and the commonest reasons."""
    from collections import Counter

    from rich.console import Group
    from rich.table import Table

    table = Table(
        "figure", "group", title=Message("{0}: predicted against measured", title), title_justify="left", pad_edge=False
    )
    for name in ("rows", "median error", "p90", "bias", "in 90 % interval"):
        table.add_column(name, justify="right")
    groups: dict[tuple[str, str], list[ServingPrediction]] = {}
    for p in found:
        groups.setdefault((p.figure, p.group), []).append(p)
        groups.setdefault((p.figure, "~all"), []).append(p)
    for (figure, name), members in sorted(groups.items()):
        errors = np.array([p.error for p in members])
        table.add_row(
            figure,
            "all" if name == "~all" else name,
            str(len(members)),
            f"{np.median(np.abs(errors)):.1%}",
            f"{np.quantile(np.abs(errors), 0.9):.0%}",
            f"{np.median(errors):+.1%}",
            Message("{0} of {1}", sum(p.inside for p in members), len(members)),
            end_section=name == "~all",
        )
    reasons = Counter(r.reason.split(";")[0] for r in refused).most_common(6)
    lines = [Line(Message("{0:,} rows refused, most because:" if reasons else "{0:,} rows refused", len(refused)), style="dim")]
    lines += [Line(Message("  {0}: {1}", n, reason), style="dim") for reason, n in reasons]
    return Group(table, *lines)
