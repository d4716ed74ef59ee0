"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from planner.common.quantities import RUN_LENGTHS

RISK = "0.05"  # planner.performance.risk.RISK, kept here so that --help imports nothing; a test holds them equal


Risk = Annotated[str, typer.Option("--risk", metavar="N", help="Accepted probability of running out of GPU memory: 0.05, 5%.")]
Allow = Annotated[
    str | None,
    typer.Option(
        "--allow",
        metavar="NAME,...",
        help="Unusual layouts to admit, separated by commas: all, or names from docs/guide/search.md.",
    ),
]
Price = Annotated[str | None, typer.Option("--price", "--term", help="Dollars per GPU-hour, or a term: spot ...")]
Provider = Annotated[str | None, typer.Option("--provider", help="Whose price: AWS, Lambda ...; else the median.")]

UNREAD = {
    "search": ("layout",),
    "tune": (),
    "limit": (),
    **dict.fromkeys(("sweep", "export"), ("run", "cost")),
    **dict.fromkeys(("operators", "trace"), ("price", "run", "cost", *(f"job.{name}" for name in (*RUN_LENGTHS, "num_epochs")))),
}
"""Command -> tables and fields of a scenario that change nothing in its answer: what --set writes there is refused."""


def names(text: str | None) -> list[str] | None:
    """Names of a list with commas; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def allowed_names(text: str | None) -> tuple[str, ...]:
    """What --allow admits, none where it is absent."""
    return tuple(names(text) or ())
