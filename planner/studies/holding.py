"""Rent, reserve, spot or own: dollars over the months for GPUs that are needed for part of every hour, and when owning pays.

Each way is paid for the same useful hours: ``utilisation`` of the cluster's hours.

- on demand: those hours, at a rent that changes by a share each year;
- spot: those hours over the part of them that preemptions leave;
- reserved: every hour of the term, used or not, at the rent of the day it begins; renewed for another term. What a term that has
  begun still asks for (``owed_usd``) is not in the dollars so far, but counts wherever ways are compared: the cheapest, and the
  break-even of owning, are those with it;
- own: what ``ownership.owned_gpu`` costs up to that month, less what a sale then brings (``resale_share`` of the book value,
  straight-line from the purchase to ``residual_share`` at the end of its years).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from planner.common.arrays import Array
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.units import HOUR_S
from planner.hardware.cluster import Cluster
from planner.lifecycle.bill import MONTH_S, Costs, drawn_w, power_spread
from planner.performance.interruptions import spot_goodput
from planner.prices.market import as_price, commitment, over_on_demand
from planner.prices.ownership import YEAR_S, OwnedGpu, Ownership, constants, owned_gpu, purchase_spread
from planner.prices.price import Price
from planner.uncertainty.interval import Interval

Z_90 = NormalDist().inv_cdf(0.95)
TERMS = ("on-demand", "spot", "reserved-1-year", "reserved-3-year")
MOST_YEARS = 10.0
DRAWS = 4000
RESALE_SHARE = 0.5
"""Of the book value that a sale brings. Assumed: used GPUs sell at a discount on what is left to write off."""
RENT_CHANGE_SPREAD = 0.10
"""How far the yearly change of rents may be off, one standard deviation. Assumed: p5.48xlarge fell by 32 % a year in 2023-25,
other instances not at all."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to hold the GPUs: cumulative dollars at the end of each month, what its term then still asks for, shape
    ``(months,)`` each, and the price behind them."""

    name: str
    usd: Array
    owed_usd: Array
    price: Price | None

    @property
    def bound_usd(self) -> Array:
        """What is paid by the end of each month and what is owed after it."""
        return self.usd + self.owed_usd

    @property
    def binds(self) -> bool:
        """Whether its term lasts beyond the day on which nobody needs the GPUs any more."""
        return self.name != "own" and bound_years(self.name) > 0.0

    def steps(self) -> tuple[Array, Array]:
        """(months from 0, dollars bound to then) as corners of a staircase: a term counts whole from the day it begins."""
        starts = np.arange(len(self.usd), dtype=float)
        rises = np.flatnonzero(np.diff(self.bound_usd, prepend=0.0) > 1e-9 * self.bound_usd[-1])
        months = np.concatenate([np.repeat(starts[rises], 2), [len(self.usd)]])[1:]
        return months, np.repeat(self.bound_usd[rises], 2)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "cumulative_usd": self.usd.tolist(),
            "owed_usd": self.owed_usd.tolist(),
            "price": None if self.price is None else self.price.to_dict(),
        }


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """Owning against one way to rent: after how many months it is the cheaper, with 90 % of the draws, and above which use.

    ``months`` are None where owning does not pay within the horizon; an upper end of None is beyond it. ``utilisation`` is that
    of the whole horizon. ``probability``: share of the draws of prices in which owning is cheaper at its end.
    """

    against: str
    months: float | None
    months_lower: float | None
    months_upper: float | None
    utilisation: Interval | None
    probability: float


@dataclass(frozen=True, kw_only=True)
class Holding:
    """All ways over the same months, the break-even of owning against each, and every assumption with its source."""

    cluster: Cluster
    years: float
    utilisation: float
    months: Array
    ways: tuple[Way, ...]
    break_even: tuple[BreakEven, ...]
    owned: OwnedGpu
    assumptions: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def cheapest(self) -> Way:
        """The fewest dollars at the end, with what is owed after it."""
        return min(self.ways, key=lambda way: float(way.bound_usd[-1]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "cluster": self.cluster.name,
            "num_gpus": self.cluster.num_gpus,
            "years": self.years,
            "utilisation": self.utilisation,
            "months": self.months.tolist(),
            "ways": [way.to_dict() for way in self.ways],
            "cheapest": self.cheapest.name,
            "break_even": [asdict(found) for found in self.break_even],
            "owned": self.owned.to_dict(),
            "assumptions": dict(self.assumptions),
            "notes": list(self.notes),
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row a month: cumulative dollars of each way; of a term that binds also what it then still asks for."""
        columns = {f"{way.name}_usd": way.usd for way in self.ways}
        columns |= {f"{way.name}_owed_usd": way.owed_usd for way in self.ways if way.binds}
        return [
            {"month": int(month), **{name: float(values[i]) for name, values in columns.items()}}
            for i, month in enumerate(self.months)
        ]


@dataclass(frozen=True, kw_only=True)
class _Owning:
    """Owning is linear in its purchase and its power: dollars up to each month = purchase x slope + energy + rest, shape
    ``(months,)`` each."""

    slope: Array
    energy: Array
    rest: Array
    purchase_usd: float

    def usd(self, purchase: Array | float = 1.0, power: Array | float = 1.0) -> Array:
        """Cumulative dollars with the purchase and the power times a factor each; broadcasts over leading axes."""
        bought = np.multiply.outer(purchase, self.purchase_usd * self.slope)
        return np.asarray(bought + np.multiply.outer(power, self.energy) + self.rest)


def holding(
    cluster: Cluster,
    own: Ownership | None = None,
    *,
    years: float = 5.0,
    rent_usd_per_gpu_hour: float | None = None,
    preemption_mtbf_s: float | None = None,
    resale_share: float | None = None,
    pue: float | None = None,
    electricity_usd_per_kwh: float | None = None,
    power_w_per_gpu: float | None = None,
    seed: int = 0,
) -> Holding:
    """Cumulative dollars of each way to hold the cluster's GPUs over the months of ``years``, and the break-even of owning.

    ``own.utilisation`` is the part of all hours that is used, whatever the way. The rent is the catalog's for each term on the
    cluster's node, or a given one on demand with the catalog's ratios of terms to it. Spot needs ``preemption_mtbf_s`` of one
    node. ``power_w_per_gpu``: on average at work, with the server's share; certain where it is given. Raises PlannerError for
    years out of range or prices that nobody knows.
    """
    if not 1.0 / 12.0 <= years <= MOST_YEARS:
        raise PlannerError("years = {0:g}: must be from one month to {1:g} years.", years, MOST_YEARS)
    if resale_share is not None and not 0.0 <= resale_share <= 1.0:
        raise PlannerError("resale_share = {0:g}: must be from 0 to 1.", resale_share)
    resale = RESALE_SHARE if resale_share is None else resale_share
    spec, c = own or Ownership(), constants()
    use = spec.utilisation or c.utilisation
    change = c.rent_change_per_year if spec.rent_change_per_year is None else spec.rent_change_per_year
    months = np.arange(1, math.ceil(years * YEAR_S / MONTH_S - 1e-9) + 1, dtype=float)
    prices, notes = _prices(cluster, rent_usd_per_gpu_hour)
    given = {"pue": pue, "electricity_usd_per_kwh": electricity_usd_per_kwh, "power_w_per_gpu": power_w_per_gpu}
    costs = Costs.build({name: value for name, value in given.items() if value is not None}, "cost")
    tariff = costs.electricity_usd_per_kwh
    power = {
        "power_w": costs.power_w_per_gpu or drawn_w(cluster),
        "pue": costs.pue or c.pue,
        "electricity_usd_per_kwh": c.electricity_usd_per_kwh if tariff is None else tariff,
    }
    rent = prices["on-demand"].usd_per_gpu_hour
    owning = _owning(cluster, spec, months, use, resale, power)
    half = _owning(cluster, spec, months[-1:], use / 2.0, resale, power)
    ways, leaving = [], None if preemption_mtbf_s is None else spot_goodput(cluster, preemption_mtbf_s)
    for term, price in prices.items():
        if term == "spot" and leaving is None:
            notes.append("spot is left out: spot nodes get preempted; give preemption_mtbf_s, of one node")
            continue
        rates = price.usd_per_gpu_hour, cluster.num_gpus, months
        usd = _rented(term, *rates, use, np.array([change]), leaving or 1.0)[0]
        owed = _owed(term, *rates, np.array([change]))[0]
        ways.append(Way(name=term, usd=usd, owed_usd=owed, price=price))
        if owed[-1] > 0.0:
            told = "{0}: its term binds until the end of year {1:g}; the ${2:,.0f} still owed count in what is cheapest"
            notes.append(Message(told, Message(term), (months + _months_left(bound_years(term), months))[-1] / 12.0, owed[-1]))
    ways.append(Way(name="own", usd=owning.usd(), owed_usd=np.zeros(len(months)), price=None))
    drawn = _Draws(np.random.default_rng(seed), prices, cluster, spec, change, power_spread(costs))
    found = tuple(
        _break_even(way, owning, half, drawn, cluster, months, use, leaving or 1.0) for way in ways if way.price is not None
    )
    whole = owned_gpu(cluster, spec, **power, rent=rent)
    return Holding(
        cluster=cluster,
        years=years,
        utilisation=use,
        months=months,
        ways=tuple(ways),
        break_even=found,
        owned=whole,
        assumptions=_assumptions(spec, whole, resale_share, power, costs),
        notes=tuple(notes),
    )


def _prices(cluster: Cluster, rent: float | None) -> tuple[dict[str, Price], list[str]]:
    """The price of each term on the cluster's node; with a rent of one's own, in the catalog's ratios to on demand."""
    card, notes = cluster.accelerator.name, []
    found = {}
    for term in TERMS:
        price = as_price({"term": term}, card, cluster.node)
        assert price is not None
        found[term] = price
    if rent is not None:
        for term in TERMS:
            own = as_price({"usd_per_gpu_hour": rent * over_on_demand(term, card, cluster.node), "term": term}, card)
            assert own is not None
            basis = Message("as given") if term == "on-demand" else Message("in the catalog's ratio to the rent that was given")
            found[term] = replace(own, basis=basis)
        notes.append("other terms are in the catalog's ratios to the rent that was given")
    return found, notes


def bound_years(term: str) -> float:
    """Years that a term binds for, 365 days each; 0 of one that ends at will."""
    return commitment(term).length_days / 365.0


def _rented(term: str, price: float, gpus: int, months: Array, use: float, change: Array, goodput: float) -> Array:
    """Cumulative dollars at the end of each month, shape ``(changes, months)``; see the module."""
    edges = np.concatenate([[0.0], months]) / 12.0  # years
    bound = bound_years(term)
    hours = gpus * YEAR_S / HOUR_S
    growth = np.log1p(change)[:, None]
    if bound:
        each = np.diff(edges) * np.exp(growth * _begins(bound, months))
        return np.asarray(price * hours * np.cumsum(each, axis=1))
    flat = np.abs(growth) < 1e-12
    safe = np.where(flat, 1.0, growth)
    paid = np.where(flat, edges, np.expm1(safe * edges) / safe)[:, 1:]
    part = use / goodput if term == "spot" else use
    return np.asarray(price * hours * part * paid)


def _begins(bound: float, months: Array) -> Array:
    """The year in which the term of each month began, shape ``(months,)``."""
    return np.asarray(np.floor((months - 1.0) / 12.0 / bound + 1e-9) * bound)


def _months_left(bound: float, months: Array) -> Array:
    """Months from the end of each month to the end of its term, shape ``(months,)``."""
    return np.round(12.0 * (_begins(bound, months) + bound) - months, 6)


def _owed(term: str, price: float, gpus: int, months: Array, change: Array) -> Array:
    """Dollars from the end of each month to the end of its term, at that term's own rent, shape ``(changes, months)``."""
    bound = bound_years(term)
    if not bound:
        return np.zeros((len(change), len(months)))
    growth = np.log1p(change)[:, None]
    left = _months_left(bound, months) / 12.0
    return np.asarray(price * gpus * YEAR_S / HOUR_S * left * np.exp(growth * _begins(bound, months)))


def _owning(
    cluster: Cluster, own: Ownership, months: Array, use: float, resale_share: float, power: Mapping[str, float]
) -> _Owning:
    """The line of owning: its cost with twice the purchase less that with the purchase is the slope of it."""
    price = owned_gpu(cluster, own, **power, rent=None).purchase_usd_per_gpu
    life = own.years or constants().years
    totals, energy = [], np.zeros(len(months))
    for factor in (1.0, 2.0):
        column, drawn = [], []
        for month in months:
            years = float(month) / 12.0
            book = 1.0 - (1.0 - own.residual_share) * min(years / life, 1.0)
            one = own.replaced(
                purchase_usd_per_gpu=price * factor,
                years=years,
                utilisation=use,
                residual_share=min(max(resale_share * book if years < life else own.residual_share, 0.0), 0.999),
            )
            found = owned_gpu(cluster, one, **power, rent=None)
            column.append(found.usd_per_gpu_hour * use * years)
            drawn.append((found.energy_usd_per_gpu_hour + found.idle_energy_usd_per_gpu_hour) * use * years)
        hours = YEAR_S / HOUR_S * cluster.num_gpus
        totals.append(np.array(column) * hours)
        energy = np.array(drawn) * hours
    slope = (totals[1] - totals[0]) / price
    return _Owning(slope=slope, energy=energy, rest=totals[0] - price * slope - energy, purchase_usd=price)


class _Draws:
    """Factors on each rent, on the purchase and on the power, and the yearly change of rents; shape ``(DRAWS,)`` each."""

    def __init__(
        self,
        rng: np.random.Generator,
        prices: Mapping[str, Price],
        cluster: Cluster,
        own: Ownership,
        change: float,
        power_spread: float,
    ) -> None:
        z = rng.standard_normal(DRAWS)
        self.rent = {}
        for term, price in prices.items():
            low, high = price.interval_usd_per_gpu_hour
            sides = [abs(math.log(end / price.usd_per_gpu_hour)) / Z_90 if end > 0 else 0.0 for end in (low, high)]
            self.rent[term] = np.exp(z * np.where(z < 0, *sides))
        spread = 0.0 if own.purchase_usd_per_gpu is not None else purchase_spread(cluster.accelerator.name)
        self.purchase = np.exp(rng.standard_normal(DRAWS) * spread)
        given = own.rent_change_per_year is not None
        self.change = np.clip(change + (0.0 if given else RENT_CHANGE_SPREAD) * rng.standard_normal(DRAWS), -0.9, 0.9)
        self.power = np.exp(rng.standard_normal(DRAWS) * power_spread)


def _break_even(
    way: Way, owning: _Owning, half: _Owning, drawn: _Draws, cluster: Cluster, months: Array, use: float, goodput: float
) -> BreakEven:
    """When owning is cheaper for good within the horizon: in the centre, and in the draws; a term with what is owed of it.

    ``half``: owning with half the use, up to the last month.
    """
    assert way.price is not None
    rent = way.price.usd_per_gpu_hour
    central = first_below(owning.usd()[None, :], way.bound_usd[None, :], months)[0]
    paid = _rented(way.name, rent, cluster.num_gpus, months, use, drawn.change, goodput)
    owed = _owed(way.name, rent, cluster.num_gpus, months, drawn.change)
    rented = (paid + owed) * drawn.rent[way.name][:, None]
    owned = owning.usd(drawn.purchase, drawn.power)
    crossed = np.sort(first_below(owned, rented, months))
    lower, upper = (float(np.quantile(crossed, q, method="nearest")) for q in (0.05, 0.95))
    return BreakEven(
        against=way.name,
        months=_finite(float(central)),
        months_lower=_finite(lower),
        months_upper=_finite(upper),
        utilisation=_even_use(way, owned, rented, owning, half, drawn, use),
        probability=float(np.mean(owned[:, -1] < rented[:, -1])),
    )


def first_below(one: Array, other: Array, months: Array) -> Array:
    """The month from whose end on ``one`` stays below ``other``, shape of the leading axis; infinite where it ends above."""
    above = one >= other
    last = np.where(above.any(axis=-1), above.shape[-1] - np.argmax(above[..., ::-1], axis=-1), 0)  # months not below, counted
    return np.where(last >= len(months), np.inf, months[np.minimum(last, len(months) - 1)])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _even_use(
    way: Way, owned: Array, rented: Array, owning: _Owning, half: _Owning, drawn: _Draws, use: float
) -> Interval | None:
    """Utilisation above which owning is cheaper at the end: both sides are linear in it. None against terms paid whole."""
    if commitment(way.name).length_days:
        return None
    less = half.usd(drawn.purchase, drawn.power)[:, -1]
    slope = (owned[:, -1] - less) / (use / 2.0)  # dollars of a whole hour more
    fixed = owned[:, -1] - slope * use
    per_use = rented[:, -1] / use
    with np.errstate(divide="ignore", invalid="ignore"):
        even = np.where(per_use > slope, fixed / (per_use - slope), np.inf)
    at = float(_at_centre(way, owning, half, use))
    lower, upper = (float(np.quantile(even, q, method="nearest")) for q in (0.05, 0.95))
    if not math.isfinite(at):
        return None
    return Interval(
        lower=min(lower, at), expected=at, upper=max(upper, at), why="draws of rent, its yearly change, purchase and power"
    )


def _at_centre(way: Way, owning: _Owning, half: _Owning, use: float) -> float:
    slope = (float(owning.usd()[-1]) - float(half.usd()[-1])) / (use / 2.0)
    per_use = float(way.usd[-1]) / use
    return (float(owning.usd()[-1]) - slope * use) / (per_use - slope) if per_use > slope else math.inf


def _rests_on(value: float, source: str) -> str:
    return Message("{0:g}: {1}", value, Message(source))


def _assumptions(
    own: Ownership, owned: OwnedGpu, resale_share: float | None, power: Mapping[str, float], costs: Costs
) -> dict[str, str]:
    """What the figures rest on: field -> "value: where from"."""
    c = constants()
    given = {name for name in own.model_fields_set if getattr(own, name) is not None}
    found = {
        name: Message("{0:g}: given", getattr(own, name)) if name in given else text for name, text in c.owned_defaults().items()
    }
    quote = owned.purchase
    share = Message("{0}, {1}, with its share of network", quote.source, quote.date) if quote is not None else Message("given")
    found["purchase_usd_per_gpu"] = Message("{0:,.0f}: {1}", owned.purchase_usd_per_gpu, share)
    found["years"] = _rests_on(owned.years, "given" if own.years else c.provenance["years"].source)
    if resale_share is None:
        found["resale_share"] = Message("{0:g} of the book value: assumed", RESALE_SHARE)
    else:
        found["resale_share"] = Message("{0:g}: given", resale_share)
    drawn = c.provenance["power_share"].source if costs.power_w_per_gpu is None else "given"
    found["power_w_per_gpu"] = Message("{0:,.0f}: {1}", power["power_w"], Message(drawn))
    for name in ("pue", "electricity_usd_per_kwh"):
        found[name] = _rests_on(power[name], c.provenance[name].source if getattr(costs, name) is None else "given")
    staff = Message("given" if own.staff_usd_per_year else "none counted")
    found["staff_usd_per_year"] = Message("{0:,.0f}: {1}", own.staff_usd_per_year, staff)
    return found
