"""What rows of a search are budgeted at: whole runs and bills, as ``planner run`` has them of the same layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from planner.common.message import Message
from planner.common.progress import Progress
from planner.layout_search.result import SearchResult
from planner.scenarios.scenario import Case, Outlook
from planner.training.planning import plan

if TYPE_CHECKING:
    import pandas as pd

    from planner.lifecycle.bill import Bill

MOST_ROWS = 100
"""Rows that get a budget: a simulated run each."""


def outlook_of_row(case: Case, result: SearchResult, row: int) -> Outlook:
    """The outlook of the plan of ``result.rows[row]`` under the tables [run] and [cost] of ``case``."""
    setup = result.question.setups[int(result.rows.setup[row])]
    answer = plan(
        model=setup.question.model,
        cluster=setup.question.cluster,
        framework=setup.question.framework,
        job=setup.question.job,
        layout=result.rows.layouts.row(row),
        price=setup.price,
        explain=False,
    )
    return case.outlook(answer)


def budgeted(result: SearchResult, outlook_of: Callable[[int], Outlook], progress: Progress | None = None) -> pd.DataFrame:
    """The table of a search with ``budget_usd``: empty without a bill. ``outlook_of``: the whole run and the bill of a row.

    Of more rows than MOST_ROWS the first of each group have one, then the best; ``attrs["notes"]`` says so. Stopped by Ctrl-C it
    has those that it has found, says so and is not ``attrs["complete"]``.
    """
    table = result.to_frame()
    usd = np.full(len(table), np.nan)
    if len(result.found.rows):  # none where nothing fits: a run that cannot be has no budget
        again = table.duplicated(["group", "accelerator", "num_gpus", "framework"]).to_numpy()
        some = np.argsort(again, kind="stable")[:MOST_ROWS]
        bills: list[Bill | None] = []
        try:
            for row in some.tolist():
                if progress is not None:
                    progress(len(bills), len(some))
                bills.append(outlook_of(row).bill)
        except KeyboardInterrupt:
            some = some[: len(bills)]
            table.attrs["complete"] = False
            stopped = Message(
                "budget_usd is of {0:,} of {1:,} rows: it was stopped before the others were simulated", len(some), len(table)
            )
            table.attrs["notes"] = [*table.attrs["notes"], stopped]
        usd[some] = [np.nan if bill is None else bill.budget_usd.expected for bill in bills]
        if len(some) == MOST_ROWS < len(table) and np.isfinite(usd).any():
            said = Message(
                "budget_usd is of {0:,} of {1:,} rows: a simulated run each, of so many rows at most; with fewer rows all have "
                "one",
                len(some),
                len(table),
            )
            table.attrs["notes"] = [*table.attrs["notes"], said]
    return table.assign(budget_usd=usd)
