"""What an accelerator costs to rent: comparable quotes, terms by paired ratios, and an estimate where nobody rents it.

The price without a provider is the median of the newest quotes of comparable providers; its interval holds 90 % of what
they ask, widened by the age of the quotes. A term that binds is priced within providers: the on-demand price times the
median ratio of one provider's two terms, so that a commitment never looks dearer because other providers sell it. A capacity
block is what those who sell it ask: hyperscalers alone do, and a part of another provider's price is nobody's offer.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

from planner.common import clock, data
from planner.common.arguments import as_day
from planner.common.arrays import Number
from planner.common.errors import PlannerError, as_text, near, nearest, one_of, unknown_field
from planner.common.message import Message, join_messages
from planner.common.spec import fields_of, python_value, read_table
from planner.common.units import DAY_S, HOUR_S
from planner.hardware.cluster import Accelerator, Node, accelerator_names, load_accelerator
from planner.prices.currency import to_usd
from planner.prices.price import TERMS, Price, PriceLike, load_prices, named_term, own_price

FOLDER = data.CATALOG / "prices"
COMPARABLE_DAYS = 400
"""A quote counts as long as it is at most so much older than the newest one of its accelerator and term."""
FEWEST = 3
"""From so many providers on, resellers, and for ratios other accelerators, are left out."""
FAR = 5.0
"""Times the market's price, or under it, at which a price of one's own is doubted; assumed. On-demand is 2 to 3 times spot."""
TAIL = NormalDist().inv_cdf(0.95)
ORDER = ("on-demand", "reserved-1-year", "reserved-3-year")
"""Longer commitments, in order: none is dearer than the one before it."""
BY_QUOTES = ("on-demand", "marketplace", "capacity-block")
"""Terms whose price is the median of their own quotes, whatever the others are."""
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
        raise PlannerError("price.term = {0!r}: {1}, or US dollars per GPU-hour, such as 2.50.", term, one_of(term, TERMS))
    return _commitments()[term]


@cache
def _classes() -> dict[str, str]:
    return dict(read_table(FOLDER / "providers.toml")["class"])


def provider_class(provider: str) -> str:
    """hyperscaler, gpu-cloud, marketplace or reseller; a provider that the catalog does not class is a gpu-cloud."""
    return _classes().get(provider, "gpu-cloud")


def rented_accelerators() -> list[str]:
    """The catalog's accelerators that somebody rents out, those with the most quotes first: what one can have."""
    names, quotes = set(accelerator_names()), Counter(price.accelerator for price in load_prices())
    return sorted(names & set(quotes), key=lambda name: (-quotes[name], name))


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

    With a provider or region: its newest quote (of the instance ``item`` where it has one). Without: the lower median of
    comparable providers; a term that binds by paired ratio. An accelerator that nobody rents is estimated from those that
    are. Raises PlannerError that names what exists when the term, the provider or the region is unknown.
    """
    as_text(accelerator, "accelerator")
    for field, name in (("provider", provider), ("region", region), ("item", item)):
        if name is not None:
            as_text(name, f"price.{field}")
    if (term := named_term(as_text(term, "price.term"))) not in TERMS:
        raise PlannerError("price.term = {0!r}: {1}, or US dollars per GPU-hour, such as 2.50.", term, one_of(term, TERMS))
    now = as_day(today, "today") or clock.today()
    _require_known(provider)
    quotes = [p for p in load_prices() if p.accelerator == accelerator]
    if not quotes:
        estimate = _with_interval(_estimated(accelerator, term), _estimate_spread(), now)
        _require_none(accelerator, provider=provider, region=region)
        return estimate
    if provider is not None or region is not None:
        kept, among = quotes, dict[str, str]()
        for field, wanted in (("term", term), ("provider", provider), ("region", region)):
            if wanted is not None:
                kept = _narrow(kept, field, wanted, accelerator, among, quotes)
                among[field] = wanted
        return _with_interval(_newest_of(kept, item), 0.0, now)
    ranked = _comparable(quotes, term)
    if ranked and (term in BY_QUOTES or not _comparable(quotes, "on-demand")):
        chosen = ranked[(len(ranked) - 1) // 2]
        return _with_interval(_of_market(chosen, len(ranked)), _spread(ranked), now)
    base, ranked = _base(quotes)
    ratio, pairs, spread = _ratio(term, base.term, accelerator)
    scaled = replace(_by_ratio(base, term, ratio, pairs), provider="")  # nobody quotes it
    found = _with_interval(scaled, float(np.hypot(_spread(ranked), spread)), now)
    newest = max(p.last_day() for p in ranked)
    offers = [p for p in _comparable(quotes, term) if (newest - p.last_day()).days <= COMPARABLE_DAYS]
    if not offers or offers[0].usd_per_gpu_hour <= found.usd_per_gpu_hour:
        return found
    return _on_offer(found, offers[0], find_price(accelerator, term=_shorter(term), today=now))


def _require_none(accelerator: str, **wanted: str | None) -> None:
    """PlannerError for a provider or a region of an accelerator that nobody quotes: an estimate is nobody's price."""
    for field, name in wanted.items():
        if name is not None:
            raise PlannerError(
                "price.{0} = {1!r}: no such quote for {2}, nor any other; leave it out for an estimate.", field, name, accelerator
            )


def _price_on(provider: str, names: frozenset[str], term: str, card: str, today: datetime.date) -> Price:
    """The price on a node: of the provider whose node it is; a term that it does not quote by ratio to one that it does.

    The market's where that provider quotes the accelerator at no term, or has none. ``names``: what the node is called.
    """
    own = [p for p in load_prices() if p.accelerator == card and p.provider == provider]
    if not own or term not in TERMS:
        return find_price(card, term=term, today=today)
    same = [p for p in own if p.item.lower() in names] or own
    if exact := [p for p in same if p.term == term] or [p for p in own if p.term == term]:
        return _with_interval(_newest_of(exact, None), 0.0, today)
    base = _base(same)[0]
    ratio, pairs, spread = _ratio(term, base.term, card, provider)
    return _with_interval(_by_ratio(base, term, ratio, pairs), spread, today)


class _Book:
    """What follows from all quotes together, worked out once for each state of the tables."""

    def __init__(self, quotes: tuple[Price, ...]) -> None:
        self.quotes = quotes

    @cached_property
    def pairs(self) -> dict[tuple[str, str, str, str], float]:
        """Price over the on-demand price of the same provider, instance and date, by (term, accelerator, provider, item)."""
        demand = {(p.provider, p.accelerator, p.item, p.date, p.region): p for p in self.quotes if p.term == "on-demand"}
        loose = {(p.provider, p.accelerator, p.date): p for p in self.quotes if p.term == "on-demand"}
        found = {}
        for p in self.quotes:
            other = demand.get((p.provider, p.accelerator, p.item, p.date, p.region))
            if p.term == "marketplace":  # sold under another name than the provider's own machines
                other = loose.get((p.provider, p.accelerator, p.date))
            if p.term != "on-demand" and other is not None:
                found[(p.term, p.accelerator, p.provider, p.item)] = p.usd_per_gpu_hour / other.usd_per_gpu_hour
        return found

    @cached_property
    def spread(self) -> float:
        """Standard deviation of log price over the comparable providers of an accelerator, pooled over accelerators."""
        squares, degrees = 0.0, 0
        for accelerator in sorted({p.accelerator for p in self.quotes}):
            logs = np.log([p.usd_per_gpu_hour for p in market(accelerator, "on-demand")])
            if len(logs) >= FEWEST:
                squares += float(np.var(logs)) * len(logs)
                degrees += len(logs) - 1
        return float(np.sqrt(squares / degrees)) if degrees else UNKNOWN_SPREAD

    @cached_property
    def drift(self) -> float:
        """How far one provider's price of one accelerator moves in a year: standard deviation of its logarithm."""
        cheapest: dict[tuple[str, str], dict[datetime.date, float]] = {}
        for p in self.quotes:
            if p.term == "on-demand":
                days = cheapest.setdefault((p.provider, p.accelerator), {})
                days[p.last_day()] = min(days.get(p.last_day(), np.inf), p.usd_per_gpu_hour)
        squares = []
        for days in cheapest.values():
            first, last = min(days), max(days)
            years = (last - first).days / 365.25
            if years > 0.25:
                squares.append(np.log(days[last] / days[first]) ** 2 / years)
        return float(np.sqrt(np.mean(squares))) if squares else UNKNOWN_DRIFT

    @cached_property
    def hedonic(self) -> tuple[tuple[float, ...], float, int]:
        """log price = a + b log(peak) + c log(memory) + d log(bandwidth), b, c, d >= 0: (a, b, c, d), spread, accelerators."""
        from scipy.optimize import lsq_linear

        rows, prices = [], []
        for name in accelerator_names():
            ranked = market(name, "on-demand")
            if ranked:
                rows.append([1.0, *_features(load_accelerator(name))])
                prices.append(np.log(ranked[(len(ranked) - 1) // 2].usd_per_gpu_hour))
        solved = lsq_linear(np.array(rows), np.array(prices), bounds=([-np.inf, 0.0, 0.0, 0.0], [np.inf] * 4))
        spread = float(np.sqrt(2.0 * solved.cost / max(len(rows) - 4, 1)))
        return tuple(float(x) for x in solved.x), spread, len(rows)


UNKNOWN_SPREAD = 0.45
"""Of log price between providers where there are too few to tell; what the shipped table gives."""
UNKNOWN_DRIFT = 0.15
_HELD: list[_Book] = []


def _book() -> _Book:
    """The book of the tables as they are read now."""
    quotes = load_prices()
    if not _HELD or _HELD[0].quotes is not quotes:
        _HELD[:] = [_Book(quotes)]
    return _HELD[0]


def market(accelerator: str, term: str) -> tuple[Price, ...]:
    """The newest quote of each comparable provider, cheapest first."""
    return _comparable([p for p in load_prices() if p.accelerator == accelerator], term)


def class_prices(accelerator: str, term: str = "on-demand", today: datetime.date | None = None) -> dict[str, Price]:
    """The median price by class of provider, each with its interval: what hyperscalers ask, and what others do."""
    now = today or clock.today()
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
    last = max(p.last_day() for p in kept)
    kept = [p for p in kept if (last - p.last_day()).days <= COMPARABLE_DAYS]
    first_hand = [p for p in kept if provider_class(p.provider) != "reseller"]
    return tuple(first_hand if len(first_hand) >= FEWEST else kept)


def _newest_of(quotes: Sequence[Price], item: str | None) -> Price:
    """The newest of some quotes, of the instance ``item`` where one is, the cheapest of that day."""
    same = [p for p in quotes if item is not None and p.item == item] or list(quotes)
    last = max(p.date for p in same)
    return min((p for p in same if p.date == last), key=lambda p: (p.usd_per_gpu_hour, p.item))


def _base(quotes: Sequence[Price]) -> tuple[Price, tuple[Price, ...]]:
    """The median quote of the first term, from on-demand on, that anybody quotes; and the quotes beside it."""
    for term in (*ORDER, "capacity-block", "spot", "marketplace"):
        ranked = _comparable(quotes, term)
        if ranked:
            return ranked[(len(ranked) - 1) // 2], ranked
    raise AssertionError(f"quotes of no known term: {quotes}")


def _of_market(chosen: Price, providers: int) -> Price:
    return replace(
        chosen, basis=Message("median of {0} providers", providers) if providers > 1 else "the only provider that quotes it"
    )


def _by_ratio(base: Price, term: str, ratio: float, pairs: int) -> Price:
    text = "{0}'s {1} price times {2:.2f}, the median of {3} pairs of one provider's two terms"
    how = Message(text, base.provider, base.term, ratio, pairs)
    return replace(base, term=term, usd_per_gpu_hour=base.usd_per_gpu_hour * ratio, basis=how)


def _on_offer(by_ratio: Price, offer: Price, shorter: Price) -> Price:
    """The cheapest quote of a term where its price by ratio lies below; as the ``shorter`` term where that one is cheaper still.

    The interval reaches as far as that of the price by ratio.
    """
    cheapest, ours = offer.usd_per_gpu_hour, by_ratio.usd_per_gpu_hour
    if cheapest <= shorter.usd_per_gpu_hour:
        found = replace(offer, basis=Message("the cheapest quote of this term; by ratio to on demand it would be ${0:.2f}", ours))
    else:
        text = "as {0}, for the cheapest quote of this term is ${1:.2f}; by ratio to on demand it would be ${2:.2f}"
        basis = Message(text, Message(shorter.term), cheapest, ours)
        found = replace(shorter, term=by_ratio.term, provider="", basis=basis)
    low, high = (end * found.usd_per_gpu_hour / ours for end in by_ratio.interval_usd_per_gpu_hour)
    return replace(found, lower_usd_per_gpu_hour=low, upper_usd_per_gpu_hour=high)


def over_on_demand(term: str, accelerator: str, node: Node | None = None) -> float:
    """The price at ``term`` over the on-demand price of the same provider: of the node's, or the median of all pairs."""
    if node is not None and any(p.accelerator == accelerator and p.provider == node.provider for p in load_prices()):
        bound, free = (as_price({"term": name}, accelerator, node) for name in (term, "on-demand"))
        assert bound is not None
        assert free is not None
        return bound.usd_per_gpu_hour / free.usd_per_gpu_hour
    return _over_demand(term, accelerator, None)[0]


def _ratio(term: str, base: str, accelerator: str, provider: str | None = None) -> tuple[float, int, float]:
    """Price at ``term`` over price at ``base``, the number of pairs behind it and the spread of its logarithm."""
    if base != "on-demand" and not _paired(base):
        text = (
            "price.term = {0!r}: {1} is quoted at {2} alone, which nobody quotes beside on-demand; give price.usd_per_gpu_hour."
        )
        raise PlannerError(text, term, accelerator, base)
    over, pairs, spread = _over_demand(term, accelerator, provider)
    under, other, more = _over_demand(base, accelerator, provider)
    return over / under, pairs or other, float(np.hypot(spread, more))


def _paired(term: str) -> bool:
    """Whether anybody quotes a term beside on-demand."""
    return any(of_pair == term for of_pair, *_ in _book().pairs)


def _shorter(term: str) -> str:
    """The longest of the shorter commitments whose ratio to on-demand is known; on-demand where none is."""
    earlier = ORDER[1 : ORDER.index(term)] if term in ORDER[1:] else ()
    return next((one for one in reversed(earlier) if _paired(one)), "on-demand")


def _over_demand(term: str, accelerator: str, provider: str | None) -> tuple[float, int, float]:
    if term == "on-demand":
        return 1.0, 0, 0.0
    rows = [(a, p, r) for (t, a, p, _), r in _book().pairs.items() if t == term]
    own = [r for _, p, r in rows if provider is not None and p == provider]
    card = [r for a, _, r in rows if a == accelerator]
    everyone = [r for _, _, r in rows]
    ratios = own if len(own) >= FEWEST else card if len(card) >= FEWEST else everyone
    if not ratios:
        raise PlannerError("price.term = {0!r}: no provider quotes it beside on-demand; give price.usd_per_gpu_hour.", term)
    value = min(float(np.median(ratios)), 1.0)
    if term in ORDER[1:]:
        value = min(value, _over_demand(_shorter(term), accelerator, provider)[0])
    return value, len(ratios), float(np.std(np.log(everyone)))


def _spread(ranked: Sequence[Price]) -> float:
    """Standard deviation of log price among providers: their own, drawn towards that of all accelerators together."""
    logs = np.log([p.usd_per_gpu_hour for p in ranked])
    own = float(np.var(logs)) * len(logs)
    return float(np.sqrt((own + PRIOR_WEIGHT * _book().spread ** 2) / (len(logs) - 1 + PRIOR_WEIGHT)))


def _with_interval(price: Price, spread: float, today: datetime.date) -> Price:
    """The price with the 90 % interval that its spread and the age of its quote leave."""
    years = (price.age_days(today) or 0) / 365.25
    reach = TAIL * float(np.hypot(spread, _book().drift * np.sqrt(years)))
    centre = price.usd_per_gpu_hour
    return replace(
        price, lower_usd_per_gpu_hour=centre * float(np.exp(-reach)), upper_usd_per_gpu_hour=centre * float(np.exp(reach))
    )


def _features(card: Accelerator) -> list[float]:
    peaks = card.peak_flops_per_s
    peak = peaks.get("bf16") or peaks.get("fp16") or peaks["fp32"]
    return [float(np.log(x)) for x in (peak, card.memory_bytes, card.memory_bandwidth_bytes_per_s)]


def _estimate_spread() -> float:
    return float(np.hypot(_book().hedonic[1], _book().spread))


def _estimated(accelerator: str, term: str) -> Price:
    """An estimate from rented accelerators of other sizes; PlannerError for one that the catalog does not know."""
    known = accelerator_names()
    if accelerator not in known or accelerator == "cpu":
        raise PlannerError(
            "price: the catalog has no quote for {0}; give price.usd_per_gpu_hour. With quotes: {1}.",
            accelerator,
            nearest(accelerator, {p.accelerator for p in load_prices()}),
            code="unknown",
        )
    (intercept, *slopes), _, cards = _book().hedonic
    logarithm = intercept + float(np.dot(slopes, _features(load_accelerator(accelerator))))
    ratio, _, _ = _ratio(term, "on-demand", accelerator)
    newest = max(load_prices(), key=lambda p: p.date)
    return Price(
        usd_per_gpu_hour=float(np.exp(logarithm)) * ratio,
        term=term,
        accelerator=accelerator,
        date=newest.date,
        source="peak, memory and bandwidth against the prices of rented accelerators",
        basis=Message("estimated from {0} accelerators that are rented: no price of this one is quoted", cards),
    )


def _require_known(provider: str | None) -> None:
    """PlannerError for a provider of whom no accelerator has a quote."""
    known = {p.provider for p in load_prices() if p.provider}
    if provider is not None and provider.lower() not in map(str.lower, known):
        raise PlannerError("price.provider = {0!r}: no such quote of any GPU; {1}.", provider, near(provider, sorted(known)))


def _narrow(
    quotes: Sequence[Price], field: str, wanted: str, accelerator: str, among: Mapping[str, str], every: Sequence[Price]
) -> list[Price]:
    """The quotes with ``field`` as wanted; ``among``: what they all have already, of ``every`` quote of the accelerator.

    PlannerError names both, what else is quoted there, and where what is wanted is quoted: at which terms, by whom.
    """
    kept = [p for p in quotes if getattr(p, field).lower() == wanted.lower()]
    if not kept:
        have = sorted({getattr(p, field) or "(none given)" for p in quotes})
        places = join_messages(", ", [Message("price.{0} = {1!r}", name, value) for name, value in among.items()])
        at = Message(" at {0}", places) if among else ""
        other = _elsewhere(field, wanted, among, every) if among else ""
        known = near("" if other else wanted, have)  # what is quoted elsewhere is not misspelt
        raise PlannerError("price.{0} = {1!r}: no such quote for {2}{3}; {4}{5}.", field, wanted, accelerator, at, known, other)
    return kept


def _elsewhere(field: str, wanted: str, among: Mapping[str, str], every: Sequence[Price]) -> str:
    """At which terms a provider, or a region of the provider that is asked for, quotes it; or whose region it is."""
    found = [p for p in every if getattr(p, field).lower() == wanted.lower()]
    provider = among.get("provider")
    own = [p for p in found if provider is None or p.provider.lower() == provider.lower()]
    terms = ", ".join(sorted({p.term for p in own}))
    if field == "provider" and own:
        return Message("; {0} quotes it at {1}", wanted, terms)
    if field == "region" and own:
        return Message("; in {0} it is quoted at {1}", wanted, terms)
    whose = ", ".join(sorted({p.provider for p in found}))
    return Message("; {0} is a region of {1}", wanted, whose) if field == "region" and found else ""


PRICE_FIELDS = ("term", "provider", "region", "usd_per_gpu_hour", "price_per_gpu_hour", "currency", "other_use")
"""What a table of a price may hold: a quote's term, provider and region, or a price of one's own; beside either other_use."""


def as_price(value: PriceLike | None, accelerator: str, node: Node | None = None) -> Price | None:
    """A price from a number (USD per GPU-hour), from search fields, or the catalog's; None where nobody can say.

    ``price_per_gpu_hour`` with ``currency`` is a price of one's own in another currency, at the catalog's rate.

    On a provider's ``node`` it is that provider's, unless the fields name another provider or a region.
    """
    if isinstance(value, Price):
        return _of_card(value, accelerator)
    value = python_value(value)
    if isinstance(value, int | float):
        return own_price(value)
    if isinstance(value, str) and value.strip().lstrip("$").replace(".", "", 1).isdecimal():
        raise PlannerError("price = {0!r}: must be a number; write it without quotes.", value, field="price", value=value)
    if isinstance(value, str):
        raise PlannerError(
            "price = {0!r}: must be dollars per GPU-hour or a table; give {{'term': {1!r}}} for a term of the catalog.",
            value,
            value,
            field="price",
            value=value,
        )
    fields = dict(fields_of({} if value is None else value, "price"))
    if "price_per_gpu_hour" in fields:
        fields["usd_per_gpu_hour"] = _in_dollars(fields.pop("price_per_gpu_hour"), fields.pop("currency", None))
    other_use = _share(fields.pop("other_use", 0.0))
    own = "usd_per_gpu_hour" in fields
    known = {"usd_per_gpu_hour", "term"} if own else {"term", "provider", "region"}  # other_use beside them
    unknown = sorted(set(fields) - known)
    for key in known & set(fields) - {"usd_per_gpu_hour"}:
        as_text(fields[key], f"price.{key}")
    if unknown:
        raise _no_field(unknown[0], fields[unknown[0]], own=own)
    if own:
        return replace(own_price(**fields), other_use=other_use)
    found = _quoted(fields, accelerator, node)
    return found if found is None else replace(found, other_use=other_use)


def _no_field(name: str, value: Any, *, own: bool) -> PlannerError:
    """Why a field is none of a price (of one's own)."""
    if name == "currency" and not own:
        return PlannerError(
            "price.{0} = {1!r}: goes with {2}, which is missing; give both or neither.", name, value, "price_per_gpu_hour"
        )
    if name in PRICE_FIELDS:
        return PlannerError(
            "price.{0} = {1!r}: a price of one's own has no {0}; give usd_per_gpu_hour alone, or leave it out.", name, value
        )
    return unknown_field("price", name, value, PRICE_FIELDS)


def _of_card(price: Price, accelerator: str) -> Price:
    """The price; PlannerError where it is one of another accelerator."""
    if price.accelerator in ("", accelerator):
        return price
    if _or_none(lambda: find_price(accelerator), asked=False) is None:
        raise PlannerError(
            "price.accelerator = {0!r}: the price of this type of GPU is no price of {1}, which has none; give "
            "dollars per GPU-hour.",
            price.accelerator,
            accelerator,
        )
    raise PlannerError(
        "price.accelerator = {0!r}: the price of this type of GPU is no price of {1}; give find_price({1!r}), a term, or "
        "dollars per GPU-hour.",
        price.accelerator,
        accelerator,
    )


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise PlannerError("price.other_use = {0!r}: must be a number from 0 to 1.", value)
    return float(value)


def _quoted(fields: Mapping[str, Any], accelerator: str, node: Node | None) -> Price | None:
    """The catalog's price for what the fields ask."""
    names: tuple[str, ...] | None = None
    if node is not None and not {"provider", "region"} & set(fields):
        names = (node.provider, node.name.lower(), *sorted(alias.lower() for alias in node.aliases))
    asked = tuple(sorted((name, named_term(value) if name == "term" else value) for name, value in fields.items()))
    return _or_none(lambda: _found(_book(), clock.today(), accelerator, names, asked), bool(fields))


@lru_cache(maxsize=1024)
def _found(
    book: _Book, today: datetime.date, accelerator: str, names: tuple[str, ...] | None, fields: tuple[tuple[str, str], ...]
) -> Price:
    """The price in one state of the tables on one day; ``names``: the provider of a node, and what the node is called."""
    if names is None:
        return find_price(accelerator, today=today, **dict(fields))
    return _price_on(names[0], frozenset(names[1:]), dict(fields).get("term", "on-demand"), accelerator, today)


def run_usd(run_s: Number, num_gpus: int, price: Price) -> Number:
    """Dollars of a run: its GPU-hours, and of a term that binds longer the hours left over that no other work uses.

    price x GPUs x (run + max(term - run, 0) x (1 - other_use)); a term's smallest order counts as GPUs of no use.
    """
    bound = _commitments().get(price.term)  # a price of one's own under another name binds to nothing
    bound_s = bound.length_days * DAY_S if bound is not None else 0.0
    gpus = max(num_gpus, bound.minimum_gpus) if bound is not None and bound_s else num_gpus
    left_s = np.maximum(bound_s - np.asarray(run_s), 0.0) * (1.0 - price.other_use)
    total = price.usd_per_gpu_hour * gpus * (np.asarray(run_s) + left_s) / HOUR_S
    return float(total) if np.ndim(total) == 0 else total


def price_note(price: Price | None, accelerator: str) -> tuple[str, ...]:
    """A warning where a price of one's own is beyond every quote and FAR times the market's: cents, or the price of a node.

    Nothing for 0, a machine whose hours cost nothing.
    """
    if price is None or price.provider or price.source or not price.usd_per_gpu_hour:
        return ()
    asked = _or_none(lambda: find_price(accelerator), asked=False)
    if asked is None:
        return ()
    quoted = [p.usd_per_gpu_hour for p in load_prices() if p.accelerator == accelerator]
    lower, upper = (min(quoted), max(quoted)) if quoted else asked.interval_usd_per_gpu_hour
    usual, given = asked.usd_per_gpu_hour, price.usd_per_gpu_hour
    if min(lower, usual / FAR) <= given <= max(upper, usual * FAR):
        return ()
    return (
        Message(
            "warning: price.usd_per_gpu_hour = {0:g}: {1} usually costs ${2:.2f}, and from ${3:.2f} to ${4:.2f} over all terms "
            "and providers; give US dollars for one GPU and one hour, not cents, nor the price of a node",
            given,
            accelerator,
            usual,
            lower,
            upper,
        ),
    )


def commitment_note(run_s: float, num_gpus: int, price: Price) -> tuple[str, ...]:
    """What a term costs beyond the run, in words; nothing where it binds no longer than the run."""
    beyond = float(run_usd(run_s, num_gpus, price)) - price.usd_per_gpu_hour * num_gpus * run_s / HOUR_S
    if beyond <= 0:
        return ()
    days = commitment(price.term).length_days
    return (
        Message(
            "{0} binds for {1:g} days and the run takes {2:.3g}: ${3:,.0f} of the cost are hours that nothing uses; give "
            "price.other_use, the share of them that other work uses",
            price.term,
            days,
            run_s / DAY_S,
            beyond,
        ),
    )


def _in_dollars(amount: Any, currency: Any) -> float:
    if not isinstance(currency, str):
        raise PlannerError("price.currency is missing; give the code of price_per_gpu_hour's currency, e.g. EUR or CNY.")
    own_price(amount)  # refuses what is no price
    return to_usd(float(amount), currency, "price.currency")


def _or_none(find: Callable[[], Price], asked: bool) -> Price | None:
    """The price; None where there is none and nobody asked for one."""
    clock.today()  # a PLANNER_TODAY that is no date is no missing price
    try:
        return find()
    except PlannerError:
        if asked:
            raise
        return None
