"""The table of ``planner size``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.model.parameters import parameters_total
from planner.reports.text import count, gib
from planner.studies.sizing import Sizes

if TYPE_CHECKING:
    from rich.console import RenderableType


def sizes_table(found: Sizes) -> RenderableType:
    """The rows by price, the two best in words, and how many are left out."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    weights = f", weights {found.weights}" if found.weights else ""
    title = f"{found.model.name} ({count(parameters_total(found.model))} parameters), {found.purpose}{weights}: GPUs that fit"
    table = Table("GPU", "cut", title=title, title_justify="left", pad_edge=False)
    for name in ("GPUs", "needed of a card", "free", "at once", "tokens/s", "$ per hour", "$ per million tokens", "at best"):
        table.add_column(name, justify="right")
    for s in found.rows:
        hourly = "-" if s.usd_per_hour is None else f"{s.usd_per_hour:.2f}"
        each = "too slow" if not s.in_time else "-" if s.usd_per_million_tokens is None else f"{s.usd_per_million_tokens:.2f}"
        table.add_row(
            s.accelerator,
            s.cut,
            str(s.num_gpus),
            f"{gib(s.total_bytes)} of {gib(s.card_bytes)}",
            f"{s.headroom:.0%}",
            f"{s.batch:,}",
            f"{s.tokens_per_s:,.0f}",
            hourly,
            each,
            ""
            if s.value is None
            else f"{s.value.usd_per_million_tokens:.2f} with {s.value.num_gpus} ({s.value.batch:,} at once)",
        )
    lines = []
    for name, best in (("smallest", found.smallest), ("cheapest", found.cheapest)):
        text = (
            "none"
            if best is None
            else f"{best.num_gpus} x {best.accelerator}"
            + ("" if best.usd_per_hour is None else f", ${best.usd_per_hour:.2f} per hour")
        )
        lines.append(Text(f"{name}: {text}", style="bold"))
    best = found.best_value
    if best is not None:
        lines.append(
            Text(
                f"cheapest per token: {best.num_gpus} x {best.accelerator}, ${best.usd_per_million_tokens:.2f} per million, "
                f"{best.batch:,} at once",
                style="bold",
            )
        )
    lines += [Text(f"{s.accelerator}: {s.quote}", style="dim") for s in found.rows if s.quote]
    if len(found.left_out) == 1 and not found.rows:
        ((name, why),) = found.left_out.items()
        return Group(
            Text(f"{found.model.name}, {found.purpose}: does not fit on {found.max_gpus} x {name}: {why}", style="bold red")
        )
    lines.append(
        Text(
            f"{len(found.left_out)} others do not fit on up to {found.max_gpus} (--json says why; --max-gpus tries more)",
            style="dim",
        )
    )
    return Group(table, *lines)
