"""The table of ``planner size``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from planner.common.message import Message
from planner.model.parameters import parameters_total
from planner.reports.line import Line
from planner.reports.text import count, gib
from planner.studies.sizing import Size, Sizes

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


SHOWN = 30
"""Types of GPU in a table; a person chooses among the cheapest."""
REASONS = 3
"""Types of GPU that are left out with the reason of each; of more, how many."""


def sizes_table(found: Sizes, top: int | None = None) -> RenderableType:
    """The first ``top`` rows by price (all by default) and those named below them, the best in words, and how many are not shown
    and do not fit."""
    from rich.console import Group

    shown = _shown(found, top)
    table = _table(found, shown)
    lines = []
    if found.purpose == "serve" and found.model.embeds:
        lines.append(Line(Message("tokens are of the texts read: {0} makes vectors", found.model.name)))
    for name, best in (("least memory in all: {0}", found.smallest), ("cheapest: {0}", found.cheapest)):
        lines.append(Line(Message(name, _card(best)), style="bold"))
    best = found.best_value
    if best is not None:
        lines.append(
            Line(
                Message(
                    "cheapest per token: {0} x {1}, ${2} per million, {3:,} at once",
                    best.num_gpus,
                    best.accelerator,
                    _million(best),
                    best.batch,
                ),
                style="bold",
            )
        )
    lines += [Line(Message("{0}: {1}", s.accelerator, s.quote), style="dim") for s in shown if s.quote]
    if len(found.rows) > len(shown):
        count_more = len(found.rows) - len(shown)
        lines.append(Line(Message("{0} more fit (--top {1} shows them)", count_more, len(found.rows))))
    if len(found.left_out) == 1 and not found.rows:
        ((name, why),) = found.left_out.items()
        return Group(
            Line(
                Message("{0}, {1}: does not fit on {2} x {3}: {4}", found.model.name, found.purpose, found.max_gpus, name, why),
                style="bold red",
            )
        )
    few = len(found.left_out) <= REASONS
    lines += [
        Line(Message("left out: {0}, up to {1} of them: {2}", name, found.max_gpus, why), style="dim")
        for name, why in (found.left_out.items() if few else ())
    ]
    if not few:
        out = len(found.left_out)
        lines.append(
            Line(
                Message("{0} others do not fit on up to {1} (--json says why; --max-gpus tries more)", out, found.max_gpus),
                style="dim",
            )
        )
    if found.not_tried:
        some = len(found.not_tried)
        lines.append(
            Line(Message("{0} that nobody rents out were not tried (--on all tries them, --on rtx-4070 one)", some), style="dim")
        )
    return Group(table, *lines)


def _card(best: Size | None) -> str:
    """GPUs and their dollars an hour."""
    if best is None:
        return Message("none")
    hourly = "" if best.usd_per_hour is None else Message(", ${0:.2f} per hour", best.usd_per_hour)
    return Message("{0} x {1}{2}", best.num_gpus, best.accelerator, hourly)


def _shown(found: Sizes, top: int | None) -> list[Size]:
    """The first rows, and behind them those of the best in words, where these are not among them."""
    first = list(found.rows[:top])
    named = {best.accelerator for best in (found.smallest, found.cheapest, found.best_value) if best is not None}
    return [*first, *(s for s in found.rows[len(first) :] if s.accelerator in named)]


def _table(found: Sizes, shown: Sequence[Size]) -> Table:
    """A row for each."""
    from rich.table import Table

    weights = Message(", weights {0}", found.weights) if found.weights else ""
    size = count(parameters_total(found.model))
    title = Message("{0} ({1} parameters), {2}{3}: GPUs that fit", found.model.name, size, found.purpose, weights)
    software = () if len({s.software for s in shown}) < 2 else ("engine",) if found.purpose == "serve" else ("framework",)
    table = Table("GPU", *software, "cut", title=title, title_justify="left", pad_edge=False)
    for name in ("GPUs", "needed of a GPU", "free", "at once", "tokens/s", "$ per hour", "$ per million tokens"):
        table.add_column(name, justify="right")
    others = any(s.value is not None for s in shown)
    if others:
        table.add_column("at best", justify="right")
    for s in shown:
        hourly = "-" if s.usd_per_hour is None else f"{s.usd_per_hour:.2f}"
        each = "too slow" if not s.in_time else "-" if s.usd_per_million_tokens is None else _million(s)
        table.add_row(
            s.accelerator,
            *[s.software for _ in software],
            s.cut,
            str(s.num_gpus),
            Message("{0} of {1}", gib(s.total_bytes), gib(s.card_bytes)),
            f"{s.headroom:.0%}",
            f"{s.batch:,}",
            f"{s.tokens_per_s:,.0f}",
            hourly,
            each,
            *([_at_best(s)] if others else []),
        )
    return table


def _at_best(s: Size) -> str:
    """The number of a row's GPUs with the fewest dollars per token, where it is another."""
    if s.value is None:
        return ""
    return Message("{0} with {1} ({2:,} at once)", _million(s.value), s.value.num_gpus, s.value.batch)


def _million(s: Size) -> str:
    """Dollars per million tokens, two digits of those below a cent: vectors cost so little."""
    usd = s.usd_per_million_tokens or 0.0
    return f"{usd:.2f}" if usd >= 0.01 else np.format_float_positional(usd, precision=2, fractional=False)
