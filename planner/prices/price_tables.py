"""Tables of prices: read strictly, import, refresh. Imported quotes join the shipped ones; nothing is half-written."""

from __future__ import annotations

import csv
import datetime
import io
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.common.errors import PlannerError, near, one_of
from planner.common.files import locked, read_text, write_text
from planner.common.message import Message, join_messages
from planner.common.version import install_with
from planner.hardware.cluster import accelerator_names
from planner.prices.currency import to_usd
from planner.prices.price import TERMS, Price, load_prices, read_price_table, user_table

COLUMNS = ("provider", "item", "accelerator", "term", "region", "usd_per_gpu_hour", "date", "source", "num_gpus_per_instance")
FIELD = {"num_gpus_per_instance": "num_gpus"}
"""Columns that a price names otherwise."""
NEEDED = ("provider", "accelerator", "term", "date", "source")
OPTIONAL = ("item", "region", "num_gpus_per_instance", "notes")
MONEY = ("usd_per_gpu_hour", "price_per_gpu_hour", "currency", "usd_per_currency_unit")
MOST_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import did."""

    path: Path
    new: int
    replaced: int
    total: int


def read_quotes(path: Path, today: datetime.date) -> tuple[Price, ...]:
    """Quotes of a CSV file. Needs provider, accelerator, term, date, source and either ``usd_per_gpu_hour`` or
    ``price_per_gpu_hour`` with ``currency`` (at the catalog's rate, or at ``usd_per_currency_unit``).

    Raises PlannerError that lists every bad line: missing currency, negative or odd price, unknown accelerator or term,
    bad or future date, a quote given twice.
    """
    rows = _rows(path)
    quotes: list[Price] = []
    wrong: list[str] = []
    seen: dict[tuple[str, ...], int] = {}
    for line, row in rows:
        try:
            quote = _quote(row, today)
        except PlannerError as error:
            wrong.append(Message("line {0}: {1}", line, error))
            continue
        if _key(quote) in seen:
            wrong.append(Message("line {0}: the same quote as line {1}; keep one", line, seen[_key(quote)]))
        seen[_key(quote)] = line
        quotes.append(quote)
    if wrong:
        more = f" (and {len(wrong) - MOST_LISTED} more)" if len(wrong) > MOST_LISTED else ""
        raise PlannerError("{0}: nothing imported. {1}{2}.", path, join_messages("; ", wrong[:MOST_LISTED]), more)
    if not quotes:
        raise PlannerError("{0}: holds no quotes, only a header.", path)
    return tuple(quotes)


def import_prices(path: Path, today: datetime.date) -> Imported:
    """Check a file of quotes and join it to the user's table (replaced as a whole, or not at all)."""
    return _join(read_quotes(path, today))


def refresh_prices(today: datetime.date) -> tuple[Imported, int]:
    """Fetch the ``gpuhunt`` catalog and join its quotes; (what was imported, offers left out as ambiguous).

    Raises PlannerError, with the old table untouched, when gpuhunt is not installed or the network gives nothing.
    """
    try:
        import gpuhunt
    except ImportError:
        raise PlannerError(
            "prices refresh: the package gpuhunt is not installed; {0}. The price table is unchanged.", install_with("prices")
        ) from None
    logger = logging.getLogger("gpuhunt")  # it logs a traceback for each provider out of reach; ours is the one message
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        catalog = gpuhunt.Catalog(auto_reload=False)
        catalog.load()
        offers = catalog.query(min_gpu_count=1)
    except Exception as error:  # whatever the network or the provider's API raises, the answer is the same
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PlannerError(
            "prices refresh: the gpuhunt catalog could not be fetched ({0}); check the network. The price table is unchanged.",
            reason[:200],
        ) from None
    finally:
        logger.setLevel(level)
    quotes = {_key(q): q for q in (_from_offer(o, today) for o in offers) if q is not None}
    if not quotes:
        raise PlannerError(
            "prices refresh: the gpuhunt catalog holds no offer of a known accelerator. The price table is unchanged."
        )
    return _join(tuple(quotes.values())), len(offers) - len(quotes)


PROVIDERS = {
    "aws": "AWS",
    "azure": "Azure",
    "gcp": "GCP",
    "lambdalabs": "Lambda",
    "nebius": "Nebius",
    "oci": "Oracle Cloud",
    "runpod": "RunPod",
    "vastai": "Vast.ai",
}
MARKETPLACES = ("vastai", "tensordock")
SXM = ("sxm", "p4d", "p4de", "p5.", "p5e", "p5en", "a2-", "a3-", "nd96", "nd40")
PCIE = ("pcie", "nc24ads", "nc48ads", "nc96ads")
GPUHUNT_NAMES = {
    ("A10", 24): "a10", ("A10G", 24): "a10g", ("L4", 24): "l4", ("L40S", 48): "l40s", ("T4", 16): "t4",
    ("H200", 141): "h200-sxm-141gb", ("B200", 180): "b200-sxm-180gb", ("H100NVL", 94): "h100-nvl-94gb",
    ("MI300X", 192): "mi300x-192gb", ("RTX3070", 8): "rtx-3070-8gb", ("RTX3080", 10): "rtx-3080-10gb",
    ("RTX3090", 24): "rtx-3090-24gb", ("RTX4090", 24): "rtx-4090-24gb", ("RTX5090", 32): "rtx-5090-32gb",
    ("A30", 24): "a30-24gb", ("A40", 48): "a40", ("A4000", 16): "rtx-a4000", ("A4500", 20): "rtx-a4500",
    ("A5000", 24): "rtx-a5000", ("A6000", 48): "rtx-a6000", ("L40", 48): "l40",
    ("P100", 16): "p100-sxm2-16gb", ("H200NVL", 141): "h200-nvl-141gb",
    ("GB200", 186): "gb200-186gb", ("B300", 270): "b300-sxm-270gb", ("GB300", 270): "gb300-278gb", ("GH200", 96): "gh200-96gb",
    ("RTX2080Ti", 11): "rtx-2080-ti", ("RTX3060", 12): "rtx-3060-12gb", ("RTX3060Ti", 8): "rtx-3060-ti-8gb",
    ("RTX3070Ti", 8): "rtx-3070-ti-8gb", ("RTX3080Ti", 12): "rtx-3080-ti-12gb", ("RTX3090Ti", 24): "rtx-3090-ti-24gb",
    ("RTX4060", 8): "rtx-4060-8gb", ("RTX4060Ti", 16): "rtx-4060-ti-16gb", ("RTX4070", 12): "rtx-4070-12gb",
    ("RTX4070Ti", 12): "rtx-4070-ti-12gb", ("RTX4070TiSUPER", 16): "rtx-4070-ti-super", ("RTX4080", 16): "rtx-4080-16gb",
    ("RTX4080SUPER", 16): "rtx-4080-super-16gb", ("RTX5060Ti", 16): "rtx-5060-ti-16gb", ("RTX5070", 12): "rtx-5070-12gb",
    ("RTX5070Ti", 16): "rtx-5070-ti-16gb", ("RTX5080", 16): "rtx-5080-16gb", ("RTX4000Ada", 20): "rtx-4000-ada",
    ("RTX6000Ada", 48): "rtx-6000-ada", ("RTXPRO4500", 32): "rtx-pro-4500-blackwell",
    ("RTXPRO6000", 96): "rtx-pro-6000-blackwell-server", ("MI325X", 256): "mi325x-256gb", ("MI350X", 288): "mi350x-288gb",
    ("MI355X", 288): "mi355x-288gb", ("Gaudi2", 96): "gaudi2-96gb", ("Gaudi3", 128): "gaudi3-128gb",
}  # fmt: skip
BOARDS = {
    ("A100", 40): ("a100-sxm4-40gb", "a100-pcie-40gb"),
    ("A100", 80): ("a100-sxm4-80gb", "a100-pcie-80gb"),
    ("H100", 80): ("h100-sxm5-80gb", "h100-pcie-80gb"),
}


def accelerator_of_offer(gpu_name: str, gpu_memory_gb: float, instance: str) -> str | None:
    """Our accelerator for a gpuhunt offer, or None: an A100 or H100 counts only where the instance says which board."""
    key = (gpu_name, round(gpu_memory_gb))
    if key in GPUHUNT_NAMES:
        return GPUHUNT_NAMES[key]
    if key not in BOARDS:
        return None
    text = instance.lower()
    if any(mark in text for mark in PCIE):
        return BOARDS[key][1]
    return BOARDS[key][0] if any(mark in text for mark in SXM) else None


def _from_offer(offer: Any, today: datetime.date) -> Price | None:
    accelerator = accelerator_of_offer(str(offer.gpu_name), float(offer.gpu_memory or 0), str(offer.instance_name))
    if accelerator is None or not offer.price or offer.price <= 0:
        return None
    name = str(offer.provider)
    return Price(
        usd_per_gpu_hour=round(float(offer.price) / int(offer.gpu_count), 6),
        term="spot" if offer.spot else "marketplace" if name in MARKETPLACES else "on-demand",
        provider=PROVIDERS.get(name, name),
        region=str(offer.location),
        item=str(offer.instance_name),
        accelerator=accelerator,
        date=today.isoformat(),
        source="gpuhunt catalog",
        num_gpus=int(offer.gpu_count),
    )


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    text = read_text(path, "the path of a CSV file")
    reader = csv.DictReader(io.StringIO(text))
    names = [n.strip() for n in reader.fieldnames or []]
    reader.fieldnames = names
    known = {*NEEDED, *OPTIONAL, *MONEY}
    for name in names:
        if name not in known:
            raise PlannerError("{0}: unknown column {1!r}; {2}.", path, name, near(name, known))
    missing = [n for n in NEEDED if n not in names]
    if missing:
        raise PlannerError("{0}: column {1} is missing; it has {2}.", path, ", ".join(missing), ", ".join(names) or "no header")
    if "usd_per_gpu_hour" not in names and "price_per_gpu_hour" not in names:
        raise PlannerError("{0}: has no price; give usd_per_gpu_hour, or price_per_gpu_hour and currency.", path)
    try:
        return [(reader.line_num, {k: (v or "").strip() for k, v in row.items() if k}) for row in reader]
    except csv.Error as error:
        raise PlannerError("{0}: cannot be read as CSV ({1}); give the path of a CSV file.", path, error) from None


def _quote(row: dict[str, str], today: datetime.date) -> Price:
    for name in NEEDED:
        if not row.get(name):
            raise PlannerError("{0} is empty", name)
    if row["term"] not in TERMS:
        raise PlannerError("term = {0!r}: {1}", row["term"], one_of(row["term"], TERMS))
    if row["accelerator"] not in accelerator_names():
        raise PlannerError(
            "accelerator = {0!r}: not in the catalog; {1}", row["accelerator"], near(row["accelerator"], accelerator_names())
        )
    return Price(
        usd_per_gpu_hour=_dollars(row),
        term=row["term"],
        provider=row["provider"],
        region=row.get("region", ""),
        item=row.get("item", ""),
        accelerator=row["accelerator"],
        date=_date(row["date"], today),
        source=row["source"],
        num_gpus=_count(row.get("num_gpus_per_instance", "")),
    )


def _count(text: str) -> int:
    if text and not (text.isdecimal() and int(text) > 0):
        raise PlannerError("num_gpus_per_instance = {0!r}: must be a whole number of at least 1", text)
    return int(text or 0)


def _dollars(row: dict[str, str]) -> float:
    if row.get("usd_per_gpu_hour"):
        if row.get("currency", "USD") not in ("", "USD"):
            raise PlannerError(
                "currency = {0!r} with usd_per_gpu_hour; use price_per_gpu_hour for other currencies", row["currency"]
            )
        return _positive("usd_per_gpu_hour", row["usd_per_gpu_hour"])
    price = _positive("price_per_gpu_hour", row.get("price_per_gpu_hour", ""))
    currency = row.get("currency", "")
    if not currency:
        raise PlannerError("currency is missing; give its code, e.g. USD, EUR or CNY")
    if row.get("usd_per_currency_unit"):
        return price * _positive("usd_per_currency_unit", row["usd_per_currency_unit"])
    return to_usd(price, currency)


def _positive(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise PlannerError("{0} = {1!r}: must be a number", name, text) from None
    if not math.isfinite(value) or value <= 0:
        raise PlannerError("{0} = {1}: must be finite and above zero", name, text)
    return value


def _date(text: str, today: datetime.date) -> str:
    parts = text.split("-")
    try:
        first = datetime.date(int(parts[0]), int(parts[1]) if len(parts) > 1 else 1, int(parts[2]) if len(parts) > 2 else 1)
    except (ValueError, IndexError):
        raise PlannerError("date = {0!r}: must be YYYY, YYYY-MM or YYYY-MM-DD", text) from None
    if len(parts) > 3 or len(parts[0]) != 4 or any(len(p) != 2 for p in parts[1:]):
        raise PlannerError("date = {0!r}: must be YYYY, YYYY-MM or YYYY-MM-DD", text)
    if first > today:
        raise PlannerError("date = {0}: lies in the future; today is {1}", text, today.isoformat())
    return text


def _key(quote: Price) -> tuple[str, ...]:
    return (quote.provider, quote.item, quote.accelerator, quote.term, quote.region, quote.date)


def _join(quotes: Iterable[Price]) -> Imported:
    path = user_table()
    _make_folder(path)
    fresh = {_key(q): q for q in quotes}
    with locked(path):
        old = {_key(q): q for q in (read_price_table(path) if path.is_file() else ())}
        both = {**old, **fresh}
        _write(path, sorted(both.values(), key=_key))
    load_prices.cache_clear()
    return Imported(path=path, new=len(fresh.keys() - old.keys()), replaced=len(fresh.keys() & old.keys()), total=len(both))


def _write(path: Path, quotes: Iterable[Price]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(q, FIELD.get(column, column)) for column in COLUMNS] for q in quotes)
    write_text(path, text.getvalue())


def _make_folder(path: Path) -> None:
    """Make the planner's own folder, which no user names."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlannerError("{0}: its folder cannot be made ({1}).", path, error.strerror) from None
