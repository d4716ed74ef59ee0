"""What an accelerator costs to rent: comparable quotes, terms by paired ratios, and an estimate where nobody rents it.

The price without a provider is the median of the newest quotes of comparable providers; its interval holds 90 % of what
they ask, widened by the age of the quotes. A term that binds is priced within providers: the on-demand price times the
median ratio of one provider's two terms, so that a commitment never looks dearer because other providers sell it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import lsq_linear
from scipy.stats import norm

from planner.common import data
from planner.common.errors import PlannerError, near, one_of
from planner.common.spec import read_table
from planner.hardware.cluster import Accelerator, Node, accelerator_names, load_accelerator
from planner.prices.price import TERMS, Price, load_prices

FOLDER = data.CATALOG / "prices"
COMPARABLE_DAYS = 400
"""A quote counts as long as it is at most so much older than the newest one of its accelerator and term."""
FEWEST = 3
"""From so many providers on, resellers, and for ratios other accelerators, are left out."""
TAIL = float(norm.ppf(0.95))
ORDER = ("on-demand", "reserved-1-year", "reserved-3-year")
"""Longer commitments, in order: none is dearer than the one before it."""
PRIOR_WEIGHT = 2.0
"""How many providers the spread of all accelerators together counts for beside an accelerator's own."""


@dataclass(frozen=True, kw_only=True)
class Commitment:
    """What a term binds one to: ``minimum_usd`` of an order is due whether or not it is used."""

    name: str
    length_days: float
    upfront_fraction: float
    minimum_gpus: int
    interruptible: bool
    source: str
    kind: str

    def minimum_usd(self, price: Price, num_gpus: int) -> float:
        """Dollars due for the whole term: price x GPUs (at least the smallest order) x its hours; 0 without a commitment."""
        return price.usd_per_gpu_hour * max(num_gpus, self.minimum_gpus) * self.length_days * 24.0

    def upfront_usd(self, price: Price, num_gpus: int) -> float:
        """The part of ``minimum_usd`` that is paid at the start."""
        return self.upfront_fraction * self.minimum_usd(price, num_gpus)


@cache
def _commitments() -> dict[str, Commitment]:
    return {row["name"]: Commitment(**row) for row in read_table(FOLDER / "terms.toml")["term"]}


def commitment(term: str) -> Commitment:
    """The commitment behind a term; one's own price binds to nothing. PlannerError lists the terms."""
    if term == "own price":
        return Commitment(
            name=term, length_days=0, upfront_fraction=0.0, minimum_gpus=1, interruptible=False, source="given", kind="given"
        )
    if term not in _commitments():
        raise PlannerError(f"price.term = {term!r}: {one_of(term, TERMS)}.")
    return _commitments()[term]


@cache
def _classes() -> dict[str, str]:
    return dict(read_table(FOLDER / "providers.toml")["class"])


def provider_class(provider: str) -> str:
    """hyperscaler, gpu-cloud, marketplace or reseller; a provider that the catalog does not class is a gpu-cloud."""
    return _classes().get(provider, "gpu-cloud")


def find_price(
    accelerator: str,
    *,
    term: str = "on-demand",
    provider: str | None = None,
    region: str | None = None,
    item: str | None = None,
    today: datetime.date | None = None,
) -> Price:
    """The price of an accelerator, with the interval that holds 90 % of what one would pay.

    With a provider or region: its newest quote (of the instance ``item`` where it has one), by ratio where it quotes other
    terms only. Without: the lower median of comparable providers. An accelerator that nobody rents is estimated from those
    that are. Raises PlannerError that names what exists when the term, the provider or the region is unknown.
    """
    if term not in TERMS:
        raise PlannerError(f"price.term = {term!r}: {one_of(term, TERMS)}.")
    now = today or datetime.date.today()
    quotes = [p for p in load_prices() if p.accelerator == accelerator]
    if not quotes:
        return _with_interval(_estimated(accelerator, term), _estimate_spread(), now)
    named = bool(provider or region)
    for field, wanted in (("provider", provider), ("region", region)):
        if wanted:
            quotes = _narrow(quotes, field, wanted, accelerator)
    if named:
        found, ratio_spread = _of_provider(quotes, term, item)
        return _with_interval(found, ratio_spread, now)
    ranked = _comparable(quotes, term) if term in ("on-demand", "marketplace") else ()
    if ranked:
        chosen = ranked[(len(ranked) - 1) // 2]
        return _with_interval(_of_market(chosen, len(ranked)), _spread(ranked), now)
    base, ranked = _base(quotes)
    ratio, pairs, spread = _ratio(term, base.term, accelerator)
    scaled = _by_ratio(base, term, ratio, pairs)
    return _with_interval(scaled, float(np.hypot(_spread(ranked), spread)), now)


def price_on(node: Node, term: str = "on-demand", accelerator: str | None = None) -> Price:
    """The price on a node: of the provider whose node it is, where it quotes the term; else the market's."""
    card = accelerator or node.accelerator
    names = {node.name.lower(), *(alias.lower() for alias in node.aliases)}
    own = [p for p in load_prices() if p.accelerator == card and p.provider == node.provider and p.term == term]
    if not own:
        return find_price(card, term=term)
    item = next((p.item for p in own if p.item.lower() in names), None)
    return find_price(card, term=term, provider=node.provider, item=item)


def market(accelerator: str, term: str) -> tuple[Price, ...]:
    """The newest quote of each comparable provider, cheapest first."""
    return _comparable([p for p in load_prices() if p.accelerator == accelerator], term)


def class_prices(accelerator: str, term: str = "on-demand", today: datetime.date | None = None) -> dict[str, Price]:
    """The median price by class of provider, each with its interval: what hyperscalers ask, and what others do."""
    now = today or datetime.date.today()
    found: dict[str, list[Price]] = {}
    for quote in market(accelerator, term):
        found.setdefault(provider_class(quote.provider), []).append(quote)
    return {
        name: _with_interval(_of_market(ranked[(len(ranked) - 1) // 2], len(ranked)), _spread(ranked), now)
        for name, ranked in sorted(found.items())
    }


def _comparable(quotes: Iterable[Price], term: str) -> tuple[Price, ...]:
    """Of each provider the newest quote (the largest instance, then the cheapest), cheapest first; see the module."""
    newest: dict[str, Price] = {}
    for quote in sorted((p for p in quotes if p.term == term), key=lambda p: (p.date, p.num_gpus, -p.usd_per_gpu_hour)):
        newest[quote.provider] = quote
    kept = sorted(newest.values(), key=lambda p: (p.usd_per_gpu_hour, p.provider))
    if not kept:
        return ()
    last = max(_day(p) for p in kept)
    kept = [p for p in kept if (last - _day(p)).days <= COMPARABLE_DAYS]
    first_hand = [p for p in kept if provider_class(p.provider) != "reseller"]
    return tuple(first_hand if len(first_hand) >= FEWEST else kept)


def _of_provider(quotes: Sequence[Price], term: str, item: str | None) -> tuple[Price, float]:
    exact = [p for p in quotes if p.term == term]
    if not exact:
        base, _ = _base(quotes)
        ratio, pairs, spread = _ratio(term, base.term, base.accelerator, base.provider)
        return _by_ratio(base, term, ratio, pairs), spread
    last = max(p.date for p in exact)
    same = [p for p in exact if item is not None and p.item == item] or [p for p in exact if p.date == last]
    last = max(p.date for p in same)
    return min((p for p in same if p.date == last), key=lambda p: (p.usd_per_gpu_hour, p.item)), 0.0


def _base(quotes: Sequence[Price]) -> tuple[Price, tuple[Price, ...]]:
    """The median quote of the first term, from on-demand on, that anybody quotes; and the quotes beside it."""
    for term in (*ORDER, "capacity-block", "spot", "marketplace"):
        ranked = _comparable(quotes, term)
        if ranked:
            return ranked[(len(ranked) - 1) // 2], ranked
    raise AssertionError(f"quotes of no known term: {quotes}")


def _of_market(chosen: Price, providers: int) -> Price:
    return replace(chosen, basis=f"median of {providers} providers" if providers > 1 else "the only provider that quotes it")


def _by_ratio(base: Price, term: str, ratio: float, pairs: int) -> Price:
    how = f"{base.term} price of {base.provider} times {ratio:.2f}, the median of {pairs} pairs of one provider's two terms"
    return replace(base, term=term, usd_per_gpu_hour=base.usd_per_gpu_hour * ratio, basis=how)


@cache
def _pairs() -> dict[tuple[str, str, str, str], float]:
    """Price over the on-demand price of the same provider, instance and date, by (term, accelerator, provider, item)."""
    quotes = load_prices()
    demand = {(p.provider, p.accelerator, p.item, p.date, p.region): p for p in quotes if p.term == "on-demand"}
    loose = {(p.provider, p.accelerator, p.date): p for p in quotes if p.term == "on-demand"}
    found = {}
    for p in quotes:
        if p.term == "on-demand":
            continue
        if p.term == "marketplace":
            other = loose.get((p.provider, p.accelerator, p.date))
        else:
            other = demand.get((p.provider, p.accelerator, p.item, p.date, p.region))
        if other is not None:
            found[(p.term, p.accelerator, p.provider, p.item)] = p.usd_per_gpu_hour / other.usd_per_gpu_hour
    return found


def _ratio(term: str, base: str, accelerator: str, provider: str | None = None) -> tuple[float, int, float]:
    """Price at ``term`` over price at ``base``, the number of pairs behind it and the spread of its logarithm."""
    over, pairs, spread = _over_demand(term, accelerator, provider)
    under, other, more = _over_demand(base, accelerator, provider)
    return over / under, pairs or other, float(np.hypot(spread, more))


def _over_demand(term: str, accelerator: str, provider: str | None) -> tuple[float, int, float]:
    if term == "on-demand":
        return 1.0, 0, 0.0
    rows = [(a, p, r) for (t, a, p, _), r in _pairs().items() if t == term]
    own = [r for _, p, r in rows if provider is not None and p == provider]
    card = [r for a, _, r in rows if a == accelerator]
    everyone = [r for _, _, r in rows]
    ratios = own if len(own) >= FEWEST else card if len(card) >= FEWEST else everyone
    if not ratios:
        raise PlannerError(f"price.term = {term!r}: no provider quotes it beside on-demand; give price.usd_per_gpu_hour.")
    value = min(float(np.median(ratios)), 1.0)
    if term in ORDER[1:]:
        shorter = ORDER[ORDER.index(term) - 1]
        value = min(value, _over_demand(shorter, accelerator, provider)[0])
    return value, len(ratios), float(np.std(np.log(everyone)))


@cache
def _market_spread() -> float:
    """Standard deviation of log price over the comparable providers of an accelerator, pooled over accelerators."""
    squares, degrees = 0.0, 0
    for accelerator in {p.accelerator for p in load_prices()}:
        ranked = market(accelerator, "on-demand")
        if len(ranked) >= FEWEST:
            squares += float(np.var(np.log([p.usd_per_gpu_hour for p in ranked]))) * len(ranked)
            degrees += len(ranked) - 1
    return float(np.sqrt(squares / degrees)) if degrees else 0.5


def _spread(ranked: Sequence[Price]) -> float:
    """Standard deviation of log price among providers: their own, drawn towards that of all accelerators together."""
    logs = np.log([p.usd_per_gpu_hour for p in ranked])
    own = float(np.var(logs)) * len(logs)
    return float(np.sqrt((own + PRIOR_WEIGHT * _market_spread() ** 2) / (len(logs) - 1 + PRIOR_WEIGHT)))


@cache
def _drift() -> float:
    """How far one provider's price of one accelerator moves in a year: standard deviation of its logarithm."""
    squares = []
    for group in _grouped(p for p in load_prices() if p.term == "on-demand").values():
        days = sorted(group)
        years = (days[-1] - days[0]).days / 365.25
        if years > 0.25:
            squares.append(np.log(group[days[-1]] / group[days[0]]) ** 2 / years)
    return float(np.sqrt(np.mean(squares))) if squares else 0.15


def _grouped(quotes: Iterable[Price]) -> dict[tuple[str, str], dict[datetime.date, float]]:
    found: dict[tuple[str, str], dict[datetime.date, float]] = {}
    for p in quotes:
        day = found.setdefault((p.provider, p.accelerator), {})
        day[_day(p)] = min(day.get(_day(p), np.inf), p.usd_per_gpu_hour)
    return found


def _with_interval(price: Price, spread: float, today: datetime.date) -> Price:
    """The price with the 90 % interval that its spread and the age of its quote leave."""
    years = (price.age_days(today) or 0) / 365.25
    reach = TAIL * float(np.hypot(spread, _drift() * np.sqrt(years)))
    centre = price.usd_per_gpu_hour
    return replace(
        price, lower_usd_per_gpu_hour=centre * float(np.exp(-reach)), upper_usd_per_gpu_hour=centre * float(np.exp(reach))
    )


def _day(price: Price) -> datetime.date:
    return price.last_day()


# --- accelerators that nobody rents ---------------------------------------------------------------------------------------


@cache
def _hedonic() -> tuple[tuple[float, ...], float, int]:
    """log price = a + b log(peak) + c log(memory) + d log(bandwidth), b, c, d >= 0: (a, b, c, d), residual spread, cards."""
    rows, prices = [], []
    for name in accelerator_names():
        ranked = market(name, "on-demand")
        if ranked:
            rows.append([1.0, *_features(load_accelerator(name))])
            prices.append(np.log(ranked[(len(ranked) - 1) // 2].usd_per_gpu_hour))
    lower = [-np.inf, 0.0, 0.0, 0.0]
    solved = lsq_linear(np.array(rows), np.array(prices), bounds=(lower, [np.inf] * 4))
    spread = float(np.sqrt(2.0 * solved.cost / max(len(rows) - 4, 1)))
    return tuple(float(x) for x in solved.x), spread, len(rows)


def _features(card: Accelerator) -> list[float]:
    peaks = card.peak_flops_per_s
    peak = peaks.get("bf16") or peaks.get("fp16") or peaks["fp32"]
    return [float(np.log(x)) for x in (peak, card.memory_bytes, card.memory_bandwidth_bytes_per_s)]


def _estimate_spread() -> float:
    return float(np.hypot(_hedonic()[1], _market_spread()))


def _estimated(accelerator: str, term: str) -> Price:
    """An estimate from rented accelerators of other sizes; PlannerError for one that the catalog does not know."""
    known = accelerator_names()
    if accelerator not in known or accelerator == "cpu":
        raise PlannerError(
            f"price: the catalog has no quote for {accelerator}; give price.usd_per_gpu_hour. "
            f"With quotes: {near(accelerator, {p.accelerator for p in load_prices()})}."
        )
    (intercept, *slopes), _, cards = _hedonic()
    logarithm = intercept + float(np.dot(slopes, _features(load_accelerator(accelerator))))
    ratio, _, _ = _ratio(term, "on-demand", accelerator)
    newest = max(load_prices(), key=lambda p: p.date)
    return Price(
        usd_per_gpu_hour=float(np.exp(logarithm)) * ratio, term=term, accelerator=accelerator, date=newest.date,
        source="peak, memory and bandwidth against the prices of rented accelerators",
        basis=f"estimated: nobody quotes it; from {cards} accelerators that are rented",
    )  # fmt: skip


def _narrow(quotes: Sequence[Price], field: str, wanted: str, accelerator: str) -> list[Price]:
    kept = [p for p in quotes if getattr(p, field).lower() == wanted.lower()]
    if not kept:
        have = sorted({getattr(p, field) or "(none given)" for p in quotes})
        raise PlannerError(f"price.{field} = {wanted!r}: no such quote for {accelerator}; {near(wanted, have)}.")
    return kept


def forget() -> None:
    """Read the quotes again: after an import."""
    for read_before in (load_prices, _pairs, _market_spread, _drift, _hedonic):
        read_before.cache_clear()


def asked(fields: dict[str, Any], node: Node, accelerator: str) -> Price:
    """The price that a scenario's table asks for: term, provider, region; on a provider's node that provider's."""
    if "provider" not in fields and "region" not in fields:
        return price_on(node, fields.get("term", "on-demand"), accelerator)
    return find_price(accelerator, **fields)
