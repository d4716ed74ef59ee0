"""Other currencies than the dollar: dated reference rates, in and out."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache

from planner.common import data
from planner.common.errors import PlannerError, near

TABLE = data.CATALOG / "prices" / "exchange_rates.csv"


@dataclass(frozen=True, kw_only=True)
class ExchangeRate:
    """What one unit of a currency buys in dollars, with the day of the rate and where it was read."""

    currency: str
    usd_per_unit: float
    date: str
    source: str


@cache
def exchange_rates() -> dict[str, ExchangeRate]:
    """All currencies that the catalog knows, the dollar among them, by ISO 4217 code."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        found = {
            row["currency"]: ExchangeRate(
                currency=row["currency"], usd_per_unit=float(row["usd_per_unit"]), date=row["date"], source=row["source"]
            )
            for row in csv.DictReader(file)
        }
    return {"USD": ExchangeRate(currency="USD", usd_per_unit=1.0, date="", source="by definition"), **found}


def exchange_rate(currency: str, field: str = "currency") -> ExchangeRate:
    """The rate of a currency; PlannerError in ``field`` lists the near codes."""
    rates = exchange_rates()
    if currency.upper() not in rates:
        raise PlannerError("{0} = {1!r}: no rate is known; {2}.", field, currency, near(currency.upper(), rates))
    return rates[currency.upper()]


def to_usd(amount: float, currency: str, field: str = "currency") -> float:
    """Dollars that an amount of a currency buys."""
    return amount * exchange_rate(currency, field).usd_per_unit
