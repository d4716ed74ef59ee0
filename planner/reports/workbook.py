"""A bill as tables for a workbook: its lines, its totals, the months, what moves it, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from planner.common import clock
from planner.lifecycle.bill import Bill
from planner.lifecycle.sensitivity import Month, Swing
from planner.lifecycle.simulation import WholeRun
from planner.prices.currency import ExchangeRate
from planner.reports.focus import focus_table

if TYPE_CHECKING:
    import pandas as pd

Priced = tuple[str, WholeRun, Bill]


def bill_sheets(
    cases: Sequence[Priced],
    months: Mapping[str, Sequence[Month]],
    swings: Mapping[str, Sequence[Swing]],
    rate: ExchangeRate,
    tags: Mapping[str, str],
) -> dict[str, pd.DataFrame]:
    """Sheets of one workbook, by name; dollars, beside them the totals in ``rate``'s currency where it is another."""
    import pandas as pd

    tables: dict[str, list[dict[str, Any]]] = {
        "totals": [row for case in cases for row in _totals(case, rate)],
        "lines": [{"case": label, **asdict(line)} for label, _, bill in cases for line in bill.lines],
        "months": [{"case": label, **asdict(m), "total_usd": m.total_usd} for label, flow in months.items() for m in flow],
        "what moves it": [{"case": label, **asdict(swing)} for label, found in swings.items() for swing in found],
        "assumptions": [row for case in cases for row in _assumed(case)],
        "FOCUS": focus_table(cases, clock.today(), tags, rate),
    }
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def _totals(case: Priced, rate: ExchangeRate) -> list[dict[str, Any]]:
    label, run, bill = case
    found = {
        "total as modelled": bill.total_usd,
        "budget, as published runs went": bill.budget_usd,
    }
    rows: list[dict[str, Any]] = [
        {"case": label, "figure": name, "expected": x.expected, "lower 90 %": x.lower, "upper 90 %": x.upper, "unit": "USD"}
        for name, x in found.items()
    ]
    rows.append({"case": label, "figure": "mean of many such budgets", "expected": bill.budget_mean_usd, "unit": "USD"})
    others = {"GPU-hours as modelled": run.gpu_hours, "GPU-hours of the budget": run.budget_gpu_hours}
    rows += [
        {"case": label, "figure": name, "expected": x.expected, "lower 90 %": x.lower, "upper 90 %": x.upper, "unit": "GPU-hours"}
        for name, x in others.items()
    ]
    if rate.currency != "USD":
        rows += [
            {
                **row,
                **{n: row[n] / rate.usd_per_unit for n in row if n.startswith(("expected", "lower", "upper"))},
                "unit": rate.currency,
            }
            for row in list(rows)
            if row["unit"] == "USD"
        ]
    return rows


def _assumed(case: Priced) -> list[dict[str, Any]]:
    label, run, bill = case
    found = {f"run.{name}": why for name, why in run.assumptions.items()}
    found |= {"price": f"{bill.price.describe()}; {bill.price.basis}; {bill.price.source}"}
    found |= {f"note {i}": note for i, note in enumerate((*run.notes, *bill.notes), start=1)}
    return [{"case": label, "field": name, "what is supposed": text} for name, text in found.items()]
