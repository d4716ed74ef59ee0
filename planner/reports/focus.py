"""A bill as rows of FOCUS, the FinOps Foundation's specification of cost and usage data (focus.finops.org, version 1.1)."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planner.lifecycle.bill import HELD, Bill
from planner.lifecycle.simulation import WholeRun
from planner.prices.currency import ExchangeRate

SERVICES = {
    "gpu_hours": ("Compute", "GPU"),
    "commitment": ("Compute", "GPU commitment left unused"),
    "spares": ("Compute", "GPU spare nodes"),
    "storage": ("Storage", "Storage"),
    "egress": ("Networking", "Egress"),
    "transfer": ("Networking", "Transfer between regions"),
    "preprocessing": ("Compute", "CPU preprocessing"),
    "tax": ("Other", "Tax"),
}
"""Item -> FOCUS ServiceCategory and ServiceName."""
CATEGORIES = {"commitment": "Purchase", "tax": "Tax"}
"""FOCUS ChargeCategory of items that are no usage."""
COMMITTED = {"reserved-1-year", "reserved-3-year", "commitment"}


def focus_rows(label: str, result: WholeRun, bill: Bill, start: datetime.date, tags: str = "") -> list[dict[str, Any]]:
    """One row per item of the bill that costs something, forecast for a run that begins on ``start``.

    Columns are FOCUS's; ``x_`` columns are ours, as the specification asks of additions: the 90 % interval, the source of the
    price, and whether the row is the run as modelled or the surplus that published runs took.
    """
    rows = list(_rows(label, result, bill, start, tags))
    return [{name: row.get(name, "") for name in sorted({key for r in rows for key in r})} for row in rows]


def _rows(label: str, result: WholeRun, bill: Bill, start: datetime.date, tags: str) -> Iterator[dict[str, Any]]:
    price, cluster = bill.price, result.plan.cluster
    end = start + datetime.timedelta(seconds=result.wall_s.expected)
    for line in bill.lines:
        category, service = SERVICES[line.item]
        money, held = bill.items_usd[line.item], line.item in HELD
        yield {
            "BilledCost": line.usd,
            "EffectiveCost": line.usd,
            "ListCost": line.usd,
            "ContractedCost": line.usd,
            "BillingCurrency": "USD",
            "BillingPeriodStart": start.isoformat(),
            "BillingPeriodEnd": end.isoformat(),
            "ChargePeriodStart": start.isoformat(),
            "ChargePeriodEnd": end.isoformat(),
            "ChargeCategory": CATEGORIES.get(line.item, "Usage"),
            "ChargeClass": "",
            "ChargeDescription": f"{label}: {service}",
            "PricingCategory": _pricing(price.term) if held else "Standard",
            "PricingQuantity": line.quantity,
            "PricingUnit": line.unit,
            "ListUnitPrice": line.unit_usd,
            "ProviderName": (price.provider or "given") if held else "given",
            "RegionName": price.region if held else "",
            "ResourceId": cluster.node.name if held else "",
            "ResourceType": cluster.accelerator.name if held else "",
            "ServiceCategory": category,
            "ServiceName": service,
            "Tags": tags,
            "x_Lower90": money.lower,
            "x_Upper90": money.upper,
            "x_PriceDate": line.date,
            "x_PriceSource": line.source,
            "x_Basis": "forecast, as modelled",
        }
    surplus = bill.budget_usd.expected - bill.total_usd.expected
    if surplus > 0.0:
        yield {
            "BilledCost": surplus,
            "EffectiveCost": surplus,
            "BillingCurrency": "USD",
            "ChargePeriodStart": start.isoformat(),
            "ChargeCategory": "Adjustment",
            "ChargeDescription": f"{label}: what published runs took more than modelled",
            "ServiceCategory": "Compute",
            "ServiceName": "GPU",
            "PricingUnit": "GPU-hours",
            "PricingQuantity": result.budget_gpu_hours.expected - result.gpu_hours.expected,
            "ListUnitPrice": _each(surplus, result.budget_gpu_hours.expected - result.gpu_hours.expected),
            "Tags": tags,
            "x_Lower90": bill.budget_usd.lower - bill.total_usd.expected,
            "x_Upper90": bill.budget_usd.upper - bill.total_usd.expected,
            "x_Basis": "forecast, budget",
        }


def _each(usd: float, quantity: float) -> float:
    return usd / quantity if quantity else 0.0


def _pricing(term: str) -> str:
    """FOCUS PricingCategory of a term."""
    if term == "spot":
        return "Dynamic"
    return "Committed" if term in COMMITTED or term.startswith("reserved") else "Standard"


MONEY = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "ListUnitPrice", "x_Lower90", "x_Upper90")


def focus_table(
    cases: Sequence[tuple[str, WholeRun, Bill]],
    start: datetime.date,
    tags: Mapping[str, str] | None = None,
    rate: ExchangeRate | None = None,
) -> list[dict[str, Any]]:
    """The rows of several cases; tags are those of [cost] with the given ones over them, as a JSON object.

    ``rate``: the currency they are billed in, at its dated rate; dollars without one.
    """
    found = []
    for label, run, bill in cases:
        both = {**bill.tags, **(tags or {})}
        found += focus_rows(label, run, bill, start, json.dumps(both) if both else "")
    return [_in_currency(row, rate) for row in found] if rate is not None and rate.currency != "USD" else found


def _in_currency(row: dict[str, Any], rate: ExchangeRate) -> dict[str, Any]:
    taxed = row.get("ChargeCategory") == "Tax"  # its unit price is a share of money
    money = [name for name in MONEY if row.get(name) not in (None, "") and not (taxed and name == "ListUnitPrice")]
    return {
        **row,
        **{name: row[name] / rate.usd_per_unit for name in money},
        "BillingCurrency": rate.currency,
        "x_UsdPerUnit": rate.usd_per_unit,
        "x_RateDate": rate.date,
    }
