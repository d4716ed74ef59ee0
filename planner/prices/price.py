"""Dollars: GPU-hours times a dated price."""

from __future__ import annotations

import csv
import datetime
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from planner.common import clock, data
from planner.common.answerable import require_answerable
from planner.common.arguments import as_amount
from planner.common.arrays import Number
from planner.common.errors import PlannerError, as_text
from planner.common.message import Message, join_messages
from planner.common.units import HOUR_S

TABLE = data.CATALOG / "prices" / "gpu_hours.csv"
TERMS = ("on-demand", "spot", "reserved-1-year", "reserved-3-year", "capacity-block", "marketplace")
STALE_AFTER_DAYS = 90


def named_term(term: str) -> str:
    """A term as TERMS has it, in whatever case it is written; the name of a price of one's own as it is."""
    return found if (found := term.strip().lower()) in TERMS else term


@dataclass(frozen=True, kw_only=True)
class Price:
    """Dollars per GPU-hour: one quote, or what a market asks (``basis`` says how it was found).

    ``date`` is ISO, as exact as its source: a year, a month or a day. ``lower`` and ``upper`` hold 90 % of what one would
    pay; a price that the user gives is certain and has none.
    """

    usd_per_gpu_hour: float
    term: str
    provider: str = ""
    region: str = ""
    item: str = ""
    accelerator: str = ""
    date: str = ""
    source: str = ""
    num_gpus: int = 0  # of the instance quoted; 0 = not stated
    lower_usd_per_gpu_hour: float | None = None
    upper_usd_per_gpu_hour: float | None = None
    basis: str = ""
    other_use: float = 0.0  # of a term that binds: the share of the hours left over that other work uses and pays

    def __post_init__(self) -> None:
        """PlannerError that names the field for text where a number belongs, and the other way round."""
        for name, where, is_text, may_be_none in CHECKED:
            given = getattr(self, name)
            if is_text:
                as_text(given, where)
            elif given is None and not may_be_none:
                raise PlannerError("{0} = {1!r}: must be {2}.", where, given, Message("a number of at least 0"), code="type")
            else:
                as_amount(given, where, "zero")
        object.__setattr__(self, "term", named_term(self.term))

    @property
    def interval_usd_per_gpu_hour(self) -> tuple[float, float]:
        """The 90 % interval; the price itself twice where it is certain."""
        lower, upper = self.lower_usd_per_gpu_hour, self.upper_usd_per_gpu_hour
        return (self.usd_per_gpu_hour if lower is None else lower, self.usd_per_gpu_hour if upper is None else upper)

    def describe(self) -> str:
        """For people: "Azure on-demand, eastus, 2026-06-18"."""
        rest = join_messages("", (Message(", {0}", part) for part in (self.region, self.date) if part))
        return Message("{0} {1}{2}" if self.provider else "{1}{2}", self.provider, self.term, rest)

    def last_day(self) -> datetime.date:
        """The latest day that its date can mean; ValueError for a price without a date."""
        return last_day_of(self.date)

    def age_days(self, today: datetime.date) -> int | None:
        """Days since the quote, from the latest day its date can mean; None for a price without a date."""
        if not self.date:
            return None
        return max((today - self.last_day()).days, 0)

    def may_be_stale(self, today: datetime.date) -> bool:
        """Not surely older than 90 days, but it may be: its date is a year or a month."""
        if not self.date or self.is_stale(today):
            return False
        first = [*(int(p) for p in self.date.split("-")), 1, 1][:3]
        return (today - datetime.date(*first)).days > STALE_AFTER_DAYS

    def staleness(self, today: datetime.date) -> str:
        """What to say beside the price: nothing where it is fresh."""
        if self.is_stale(today):
            return Message("stale: older than {0} days", STALE_AFTER_DAYS)
        return Message("may be stale: only {0} is known of its date", self.date) if self.may_be_stale(today) else ""

    @property
    def preempted(self) -> bool:
        """Whether the provider may take a node away while the job runs."""
        return self.term == "spot"

    @property
    def held(self) -> bool:
        """Whether its term binds the provider to leave the nodes until the job is done."""
        return self.term in ("on-demand", "reserved-1-year", "reserved-3-year", "capacity-block")

    def is_stale(self, today: datetime.date) -> bool:
        """Older than 90 days."""
        age = self.age_days(today)
        return age is not None and age > STALE_AFTER_DAYS

    def to_dict(self) -> dict[str, Any]:
        """Fields, for JSON, with the quote's age today."""
        today = clock.today()
        return {
            **asdict(self),
            "age_days": self.age_days(today),
            "stale": self.is_stale(today),
            "may_be_stale": self.may_be_stale(today),
        }


CHECKED = tuple(
    (f.name, f"price.{f.name}", f.name == "term" or isinstance(f.default, str), f.default is None) for f in fields(Price)
)
"""Of each field its name, its place in messages, whether it is text, and whether it may be left open."""


@lru_cache(maxsize=1024)
def last_day_of(date: str) -> datetime.date:
    """The latest day that "2026", "2026-06" or "2026-06-18" can mean.

    >>> last_day_of("2024-02").isoformat(), last_day_of("2026").isoformat()
    ('2024-02-29', '2026-12-31')
    """
    parts = [int(p) for p in date.split("-")]
    year, month = parts[0], parts[1] if len(parts) > 1 else 12
    last = (datetime.date(year + month // 12, month % 12 + 1, 1) - datetime.timedelta(days=1)).day
    return datetime.date(year, month, parts[2] if len(parts) > 2 else last)


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
        raise PlannerError("{0}: not a table of prices ({1!r}); mend or remove it, then import again.", own, error) from None


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
                num_gpus=int(row.get("num_gpus_per_instance") or 0),
            )
            for row in csv.DictReader(file)
        )


def own_price(usd_per_gpu_hour: float, term: str = "own price") -> Price:
    """A price the user gives. Zero is allowed; negative, NaN and infinite ones raise PlannerError."""
    if isinstance(usd_per_gpu_hour, bool) or not isinstance(usd_per_gpu_hour, int | float):
        raise PlannerError("price.usd_per_gpu_hour = {0!r}: must be a number of US dollars.", usd_per_gpu_hour)
    price = Price(usd_per_gpu_hour=usd_per_gpu_hour, term=term)  # refuses what is negative, NaN, or too large
    require_answerable("price", price)
    return replace(price, usd_per_gpu_hour=float(usd_per_gpu_hour))


def gpu_hours(seconds: Number, num_gpus: Number) -> Number:
    """GPU-hours of ``num_gpus`` GPUs held for ``seconds``; broadcasts."""
    return seconds * num_gpus / HOUR_S


def cost_usd(hours: Number, price: Price) -> Number:
    """Dollars for GPU-hours at a price; broadcasts."""
    return hours * price.usd_per_gpu_hour


PriceLike = Price | float | Mapping[str, Any]


def price_amount(price: Price) -> str:
    """Dollars of a GPU-hour with their interval: "$2.79 (1.43 to 5.44)"."""
    lower, upper = price.interval_usd_per_gpu_hour
    between = "" if lower == upper else Message(" ({0:.2f} to {1:.2f})", lower, upper)
    return Message("${0:.2f}{1}", price.usd_per_gpu_hour, between)


def price_text(price: Price, today: datetime.date) -> str:
    """A price in one line with its interval, marked when it is older than 90 days, or may be."""
    mark = price.staleness(today)
    found = Message(", {0}", price.basis) if price.basis else ""
    stale = Message(" ({0})", mark) if mark else ""
    return Message("{0} {1}{2}{3}", price_amount(price), price.describe(), found, stale)
