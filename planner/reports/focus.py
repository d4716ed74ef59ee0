"""A bill as rows of FOCUS, the FinOps Foundation's specification of cost and usage data (focus.finops.org, version 1.1)."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planner.common.errors import PlannerError
from planner.common.units import DAY_S
from planner.lifecycle.bill import HELD, Bill, Line
from planner.lifecycle.simulation import WholeRun
from planner.prices.currency import ExchangeRate
from planner.prices.market import as_price, commitment
from planner.prices.price import Price

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
UNITS = {"GPU-hours": "GPU-Hours", "CPU-hours": "CPU-Hours", "GB-months": "GB-Months"}
"""Units of a bill -> the spelling of FOCUS (Unit Format): capitalized nouns, a hyphen between base units."""
ACCOUNT = "forecast"
"""FOCUS BillingAccountId: nobody has been billed yet."""
MANDATORY = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost",
    "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName",
    "ServiceCategory", "ServiceName",
)  # fmt: skip
"""Columns of feature level "Mandatory" in FOCUS 1.1; null only where the specification allows it."""


def focus_rows(label: str, result: WholeRun, bill: Bill, start: datetime.date, tags: str = "") -> list[dict[str, Any]]:
    """One row per item of the bill that costs something, forecast for a run that begins on ``start``, 00:00 UTC.

    Columns are FOCUS's, empty where it says null; ``x_`` columns are ours, as the specification asks of additions: the 90 %
    interval, the source of the price, and whether the row is the run as modelled or the surplus that published runs took. The
    run is one billing period. Hours that a term binds and nothing uses are usage of an unused commitment, up to the term's end.
    """
    rows = list(_rows(label, result, bill, start, tags))
    columns = sorted({key for row in rows for key in row}.union(MANDATORY))
    return [{name: row.get(name, "") for name in columns} for row in rows]


def _rows(label: str, result: WholeRun, bill: Bill, start: datetime.date, tags: str) -> Iterator[dict[str, Any]]:
    wall_s, bound_s = result.wall_s.expected, commitment(bill.price.term).length_days * DAY_S
    last_s = max(wall_s, bound_s) if bill.items_usd["commitment"].expected else wall_s
    every = {
        "BillingAccountId": ACCOUNT,
        "BillingAccountName": ACCOUNT,
        "BillingCurrency": "USD",
        "BillingPeriodStart": _moment(start, 0.0),
        "BillingPeriodEnd": _moment(start, last_s),
        "ChargePeriodStart": _moment(start, 0.0),
        "Tags": tags,
    }
    for line in bill.lines:
        money = bill.items_usd[line.item]
        end_s = last_s if line.item in ("commitment", "tax") else wall_s
        yield {
            **every,
            **_charge(label, line, bill.price, result),
            "ChargePeriodEnd": _moment(start, end_s),
            "x_Lower90": money.lower,
            "x_Upper90": money.upper,
            "x_PriceDate": line.date,
            "x_PriceSource": line.source,
            "x_Basis": "forecast, as modelled",
        }
    surplus = bill.budget_usd.expected - bill.total_usd.expected
    if surplus > 0.0:
        hours = result.budget_gpu_hours.expected - result.gpu_hours.expected
        yield {
            **every,
            **_costs(surplus, surplus),
            **_seller(bill.price),
            "ChargePeriodEnd": _moment(start, wall_s),
            "ChargeCategory": "Adjustment",
            "ChargeDescription": f"{label}: what published runs took more than modelled",
            "ServiceCategory": "Compute",
            "ServiceName": "GPU",
            "PricingUnit": UNITS["GPU-hours"],
            "PricingQuantity": hours,
            "ListUnitPrice": surplus / hours if hours else "",
            "x_Lower90": bill.budget_usd.lower - bill.total_usd.expected,
            "x_Upper90": bill.budget_usd.upper - bill.total_usd.expected,
            "x_Basis": "forecast, budget",
        }


def _charge(label: str, line: Line, price: Price, result: WholeRun) -> dict[str, Any]:
    """What one line of the bill is: its category, service, resource and prices; of a tax no quantity and no price."""
    category, service = SERVICES[line.item]
    held = line.item in HELD
    found: dict[str, Any] = {
        "ChargeCategory": "Tax" if line.item == "tax" else "Usage",
        "ChargeDescription": f"{label}: {service}",
        "ServiceCategory": category,
        "ServiceName": service,
        **_costs(line.usd, line.usd),
        **(_seller(price) if held else _seller(None)),
    }
    if line.item == "tax":
        return found
    found |= {
        "PricingQuantity": line.quantity,
        "PricingUnit": UNITS.get(line.unit, line.unit),
        "PricingCategory": _pricing(price.term) if held else "Standard",
        "ListUnitPrice": line.unit_usd,
    }
    if held:
        found |= {"ResourceId": label, "ResourceName": result.plan.cluster.node.name, "ResourceType": price.accelerator or "GPU"}
        found |= {"RegionId": price.region, "RegionName": price.region}
    if held and commitment(price.term).length_days:
        unit = _list_usd(price, result)
        found |= {
            **_costs(line.usd, line.quantity * unit),
            "ListUnitPrice": unit,
            "CommitmentDiscountId": price.term,
            "CommitmentDiscountCategory": "Usage",
            "CommitmentDiscountStatus": "Unused" if line.item == "commitment" else "Used",
            "CommitmentDiscountType": price.term,
        }
    return found


def _costs(billed: float, listed: float) -> dict[str, float]:
    """The four costs of FOCUS: what is charged, and what it would be without the discount of a commitment."""
    return {"BilledCost": billed, "EffectiveCost": billed, "ListCost": listed, "ContractedCost": listed}


def _seller(price: Price | None) -> dict[str, str]:
    """Who sells it, makes it available and bills it: the provider of the GPUs, "market" where nobody quotes the term;
    of what stands beside them whoever was given a price of."""
    name = "given" if price is None else price.provider or ("market" if price.basis else "given")
    return {"ProviderName": name, "PublisherName": name, "InvoiceIssuerName": name}


def _list_usd(price: Price, result: WholeRun) -> float:
    """Dollars per GPU-hour without the commitment: the catalog's on demand; the price itself where nobody quotes that."""
    node = result.plan.cluster.node
    fields = {"term": "on-demand"} | ({"provider": price.provider} if price.provider else {})
    for asked in (fields, {"term": "on-demand"}):
        try:
            found = as_price(asked, result.plan.cluster.accelerator.name, node)
        except PlannerError:
            continue
        if found is not None:
            return max(found.usd_per_gpu_hour, price.usd_per_gpu_hour)
    return price.usd_per_gpu_hour


def _moment(start: datetime.date, after_s: float) -> str:
    """FOCUS Date/Time Format: 2026-11-29T00:00:00Z."""
    begin = datetime.datetime(start.year, start.month, start.day, tzinfo=datetime.UTC)
    return (begin + datetime.timedelta(seconds=round(after_s))).strftime("%Y-%m-%dT%H:%M:%SZ")


def _pricing(term: str) -> str:
    """FOCUS PricingCategory of a term."""
    bound = commitment(term)
    return "Dynamic" if bound.interruptible else "Committed" if bound.length_days else "Standard"


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
    money = [name for name in MONEY if row.get(name) not in (None, "")]
    return {
        **row,
        **{name: row[name] / rate.usd_per_unit for name in money},
        "BillingCurrency": rate.currency,
        "x_UsdPerUnit": rate.usd_per_unit,
        "x_RateDate": rate.date,
    }
