"""Dollars by month as a picture: stacked items, and the budget beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from planner.lifecycle.bill import ITEMS, Bill
from planner.lifecycle.sensitivity import Month
from planner.reports.pictures import pyplot, save_figure
from planner.reports.plots import COLOURS
from planner.reports.text import dollars
from planner.reports.whole_run import ITEM_NAMES


def save_cash_flow(path: Path, flows: Mapping[str, Sequence[Month]], bills: Mapping[str, Bill]) -> None:
    """One panel a case: what falls due each month by item. PlannerError when the path cannot be written."""
    plt = pyplot()
    figure, panels = plt.subplots(len(flows), 1, figsize=(10, 3.6 * len(flows)), layout="constrained", squeeze=False)
    try:
        for axes, (label, months) in zip(panels[:, 0], flows.items(), strict=True):
            low = [0.0] * len(months)
            for colour, item in zip(COLOURS, ITEMS, strict=False):
                due = [getattr(month, f"{item}_usd") for month in months]
                if any(due):
                    axes.bar([m.month for m in months], due, bottom=low, color=colour, label=ITEM_NAMES[item])
                    low = [a + b for a, b in zip(low, due, strict=True)]
            bill = bills[label]
            axes.set_title(
                f"{label}: {dollars(bill.total_usd.expected)} as modelled over {len(months)} months; budget "
                f"{dollars(bill.budget_usd.expected)}",
                loc="left",
            )
            axes.set_xlabel("month")
            axes.set_ylabel("US dollars due")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(frameon=False, fontsize=9)
        save_figure(figure, path)
    finally:
        plt.close(figure)
