"""What rows of a search are budgeted at: whole runs and bills, as ``planner run`` has them of the same layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from planner.layout_search.result import SearchResult
from planner.scenarios.scenario import Case, Outlook
from planner.training.planning import plan

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 20
"""Rows that get a budget on a page: a simulated run each."""


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


def budgeted(case: Case, result: SearchResult) -> pd.DataFrame:
    """The table of a search with ``budget_usd``, of the first row of each of the first groups; empty in the others."""
    table = result.to_frame()
    firsts = table.drop_duplicates(["group", "accelerator", "num_gpus", "framework"]) if len(result.found.rows) else table[:0]
    bills = {row: outlook_of_row(case, result, row).bill for row in firsts.index[:MOST_ROWS].tolist()}
    usd = [np.nan if (bill := bills.get(row)) is None else bill.budget_usd.expected for row in range(len(table))]
    return table.assign(budget_usd=np.array(usd, dtype=float))
