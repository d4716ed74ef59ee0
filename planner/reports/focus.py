"""A bill as rows of FOCUS, the FinOps Foundation's specification of cost and usage data (focus.finops.org, version 1.1)."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

from planner.lifecycle.bill import ITEMS, Bill
from planner.lifecycle.simulation import WholeRun

SERVICES = {
    "gpu_hours": ("Compute", "GPU", "GPU-hours"),
    "commitment": ("Compute", "GPU commitment left unused", "GPU-hours"),
    "storage": ("Storage", "Storage", "GB-months"),
    "egress": ("Networking", "Egress", "GB"),
    "preprocessing": ("Compute", "CPU preprocessing", "CPU-hours"),
}
"""Item -> FOCUS ServiceCategory, ServiceName and PricingUnit."""
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
    for item in ITEMS:
        money = bill.items_usd[item]
        if money.expected <= 0.0:
            continue
        category, service, unit = SERVICES[item]
        hours = item == "gpu_hours"
        yield {
            "BilledCost": money.expected,
            "EffectiveCost": money.expected,
            "ListCost": money.expected,
            "ContractedCost": money.expected,
            "BillingCurrency": "USD",
            "BillingPeriodStart": start.isoformat(),
            "BillingPeriodEnd": end.isoformat(),
            "ChargePeriodStart": start.isoformat(),
            "ChargePeriodEnd": end.isoformat(),
            "ChargeCategory": "Usage" if item != "commitment" else "Purchase",
            "ChargeClass": "",
            "ChargeDescription": f"{label}: {service}",
            "PricingCategory": _pricing(price.term),
            "PricingQuantity": result.gpu_hours.expected if hours else "",
            "PricingUnit": unit,
            "ListUnitPrice": price.usd_per_gpu_hour if hours else "",
            "ProviderName": price.provider or "given",
            "RegionName": price.region,
            "ResourceId": cluster.node.name,
            "ResourceType": cluster.accelerator.name,
            "ServiceCategory": category,
            "ServiceName": service,
            "Tags": tags,
            "x_Lower90": money.lower,
            "x_Upper90": money.upper,
            "x_PriceDate": price.date,
            "x_PriceSource": price.source,
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
            "ListUnitPrice": price.usd_per_gpu_hour,
            "Tags": tags,
            "x_Lower90": bill.budget_usd.lower - bill.total_usd.expected,
            "x_Upper90": bill.budget_usd.upper - bill.total_usd.expected,
            "x_Basis": "forecast, budget",
        }


def _pricing(term: str) -> str:
    """FOCUS PricingCategory of a term."""
    if term == "spot":
        return "Dynamic"
    return "Committed" if term in COMMITTED or term.startswith("reserved") else "Standard"


def focus_table(cases: Sequence[tuple[str, WholeRun, Bill]], start: datetime.date, tags: str = "") -> list[dict[str, Any]]:
    """The rows of several cases."""
    return [row for label, run, bill in cases for row in focus_rows(label, run, bill, start, tags)]
