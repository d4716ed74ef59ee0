"""Dollars: GPU-hours times a dated price."""

from __future__ import annotations

import csv
import datetime
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from planner.common import data
from planner.common.arrays import Number
from planner.common.errors import PlannerError, as_text, near, one_of
from planner.common.units import HOUR_S

TABLE = data.CATALOG / "prices" / "gpu_hours.csv"
TERMS = ("on-demand", "spot", "reserved-1-year", "reserved-3-year", "marketplace")
STALE_AFTER_DAYS = 90


@dataclass(frozen=True, kw_only=True)
class Price:
    """One quote per GPU-hour. ``date`` is ISO, as exact as its source: a year, a month or a day."""

    usd_per_gpu_hour: float
    term: str
    provider: str = ""
    region: str = ""
    item: str = ""
    accelerator: str = ""
    date: str = ""
    source: str = ""

    def describe(self) -> str:
        """For people: "Azure on-demand, eastus, 2026-06-18"."""
        if not self.provider:
            return self.term
        return ", ".join(part for part in (f"{self.provider} {self.term}", self.region, self.date) if part)

    def age_days(self, today: datetime.date) -> int | None:
        """Days since the quote, from the latest day its date can mean; None for a price without a date."""
        if not self.date:
            return None
        parts = [int(p) for p in self.date.split("-")]
        year, month = parts[0], parts[1] if len(parts) > 1 else 12
        last = (datetime.date(year + month // 12, month % 12 + 1, 1) - datetime.timedelta(days=1)).day
        day = parts[2] if len(parts) > 2 else last
        return max((today - datetime.date(year, month, day)).days, 0)

    def may_be_stale(self, today: datetime.date) -> bool:
        """Not surely older than 90 days, but it may be: its date is a year or a month."""
        if not self.date or self.is_stale(today):
            return False
        first = [*(int(p) for p in self.date.split("-")), 1, 1][:3]
        return (today - datetime.date(*first)).days > STALE_AFTER_DAYS

    def staleness(self, today: datetime.date) -> str:
        """What to say beside the price: nothing where it is fresh."""
        if self.is_stale(today):
            return f"stale: older than {STALE_AFTER_DAYS} days"
        return f"may be stale: only {self.date} is known of its date" if self.may_be_stale(today) else ""

    def is_stale(self, today: datetime.date) -> bool:
        """Older than 90 days."""
        age = self.age_days(today)
        return age is not None and age > STALE_AFTER_DAYS

    def to_dict(self) -> dict[str, Any]:
        """Fields, for JSON, with the quote's age today."""
        today = datetime.date.today()
        return {
            **asdict(self),
            "age_days": self.age_days(today),
            "stale": self.is_stale(today),
            "may_be_stale": self.may_be_stale(today),
        }


def user_table() -> Path:
    """Where imported quotes are kept: ``$PLANNER_PRICES``, else ``planner/prices.csv`` in the user's data folder."""
    if own := os.environ.get("PLANNER_PRICES"):
        return Path(own)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "planner" / "prices.csv"


@cache
def load_prices() -> tuple[Price, ...]:
    """All quotes: the catalog's and those the user imported."""
    own = user_table()
    if not own.is_file():
        return read_price_table(TABLE)
    try:
        return (*read_price_table(TABLE), *read_price_table(own))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise PlannerError(f"{own}: not a table of prices ({error!r}); mend or remove it, then import again.") from None


def read_price_table(path: Path) -> tuple[Price, ...]:
    """The quotes of a table that was checked when it was written."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(
            Price(
                usd_per_gpu_hour=float(row["usd_per_gpu_hour"]),
                term=row["term"],
                provider=row["provider"],
                region=row["region"],
                item=row["item"],
                accelerator=row["accelerator"],
                date=row["date"],
                source=row["source"],
            )
            for row in csv.DictReader(file)
        )


def own_price(usd_per_gpu_hour: float, term: str = "own price") -> Price:
    """A price the user gives. Zero is allowed; negative, NaN and infinite ones raise PlannerError."""
    if isinstance(usd_per_gpu_hour, bool) or not isinstance(usd_per_gpu_hour, int | float):
        raise PlannerError(f"price.usd_per_gpu_hour = {usd_per_gpu_hour!r}: must be a number of US dollars.")
    if not math.isfinite(usd_per_gpu_hour) or usd_per_gpu_hour < 0:
        raise PlannerError(f"price.usd_per_gpu_hour = {usd_per_gpu_hour}: must be finite and not negative.")
    return Price(usd_per_gpu_hour=float(usd_per_gpu_hour), term=term)


def find_price(accelerator: str, *, term: str = "on-demand", provider: str | None = None, region: str | None = None) -> Price:
    """The catalog's quote for an accelerator.

    Of each provider the newest quote counts (the cheapest region of that day); of the providers the one with the median
    price, the lower of two. Raises PlannerError naming what exists when nothing matches.
    """
    if term not in TERMS:
        raise PlannerError(f"price.term = {term!r}: {one_of(term, TERMS)}.")
    quotes = [p for p in load_prices() if p.accelerator == accelerator]
    if not quotes:
        raise PlannerError(
            f"price: the catalog has no quote for {accelerator}; give price.usd_per_gpu_hour. "
            f"With quotes: {near(accelerator, {p.accelerator for p in load_prices()})}."
        )
    quotes = _narrow(quotes, "term", term, accelerator)
    if provider is not None:
        quotes = _narrow(quotes, "provider", provider, accelerator)
    if region is not None:
        quotes = _narrow(quotes, "region", region, accelerator)
    ranked = _newest(quotes)
    return ranked[(len(ranked) - 1) // 2]


def market(accelerator: str, term: str) -> tuple[Price, ...]:
    """The newest quote of each provider (the cheapest region of that day), cheapest first."""
    return tuple(_newest(p for p in load_prices() if p.accelerator == accelerator and p.term == term))


def _newest(quotes: Iterable[Price]) -> list[Price]:
    newest: dict[str, Price] = {}
    for quote in sorted(quotes, key=lambda p: (p.date, -p.usd_per_gpu_hour)):
        newest[quote.provider] = quote
    return sorted(newest.values(), key=lambda p: (p.usd_per_gpu_hour, p.provider))


def _narrow(quotes: Iterable[Price], field: str, wanted: str, accelerator: str) -> list[Price]:
    quotes = list(quotes)
    kept = [p for p in quotes if getattr(p, field).lower() == wanted.lower()]
    if not kept:
        have = sorted({getattr(p, field) or "(none given)" for p in quotes})
        raise PlannerError(f"price.{field} = {wanted!r}: no such quote for {accelerator}; {near(wanted, have)}.")
    return kept


def gpu_hours(seconds: Number, num_gpus: Number) -> Number:
    """GPU-hours of ``num_gpus`` GPUs held for ``seconds``; broadcasts."""
    return seconds * num_gpus / HOUR_S


def cost_usd(hours: Number, price: Price) -> Number:
    """Dollars for GPU-hours at a price; broadcasts."""
    return hours * price.usd_per_gpu_hour


PriceLike = Price | float | Mapping[str, Any]


def as_price(value: PriceLike | None, accelerator: str) -> Price | None:
    """A price from a number (USD per GPU-hour), from search fields, or None for the catalog's on-demand quote."""
    if isinstance(value, Price):
        return value
    if isinstance(value, int | float):
        return own_price(float(value))
    fields = dict(value or {})
    own = "usd_per_gpu_hour" in fields
    known = {"usd_per_gpu_hour", "term"} if own else {"term", "provider", "region"}
    unknown = sorted(set(fields) - known)
    for key in known & set(fields) - {"usd_per_gpu_hour"}:
        as_text(fields[key], f"price.{key}")
    if unknown:
        raise PlannerError(
            f"price: unknown field {unknown[0]} = {fields[unknown[0]]!r}; {near(unknown[0], {*known, 'usd_per_gpu_hour'})}"
        )
    if own:
        return own_price(**fields)
    if fields:
        return find_price(accelerator, **fields)
    try:
        return find_price(accelerator)
    except PlannerError:
        return None


def price_text(price: Price, today: datetime.date) -> str:
    """A quote in one line, marked when it is older than 90 days, or may be."""
    mark = price.staleness(today)
    return f"${price.usd_per_gpu_hour:.2f} {price.describe()}{f' ({mark})' if mark else ''}"
