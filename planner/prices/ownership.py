"""Owned hardware: what a GPU-hour costs when the GPU is yours, and when buying beats renting."""

import csv
import datetime
import math
import statistics
from dataclasses import asdict, dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import Field

from planner.common import data
from planner.common.errors import PlannerError, nearest
from planner.common.spec import Spec, read_table
from planner.common.units import HOUR_S
from planner.hardware.cluster import Cluster

FOLDER = data.CATALOG
PURCHASES = FOLDER / "prices" / "purchase.csv"
YEAR_S = 365.25 * 86400.0
JOULES_PER_KWH = 3.6e6

PURCHASE_SPREAD = 0.15
"""Standard deviation of the logarithm of a purchase price where fewer than two quotes say. Assumed."""

RECENT_DAYS = 550
"""How far back quotes for a purchase count beside the newest: one shop's list price is no market."""

Positive = Annotated[float, Field(gt=0)]
Usd = Annotated[float, Field(ge=0)]


class Constants(Spec):
    """``catalog/cost.toml``: published and assumed constants of energy and ownership."""

    electricity_usd_per_kwh: Usd
    pue: Annotated[float, Field(ge=1)]
    power_share: Annotated[float, Field(gt=0, le=1)]
    power_share_spread: Annotated[float, Field(ge=0, lt=1)]
    server_power_over_tdp: Positive
    server_cost_over_card: Positive
    interconnect_share: Annotated[float, Field(ge=0, lt=1)]
    years: Positive
    utilisation: Annotated[float, Field(gt=0, le=1)]
    capital_rate: Annotated[float, Field(ge=0, lt=1)]
    maintenance_share: Annotated[float, Field(ge=0, lt=1)]
    colocation_usd_per_kw_month: Usd
    idle_power_share: Annotated[float, Field(ge=0, le=1)]
    rent_change_per_year: Annotated[float, Field(gt=-1, lt=1)]
    embodied_server_kg: Usd
    embodied_gpu_kg: Usd
    embodied_years: Positive
    embodied_use: Annotated[float, Field(gt=0, le=1)]

    def owned_defaults(self) -> dict[str, str]:
        """Constants that ``Ownership`` falls back on, with where they come from: field -> "value: source"."""
        fields = (
            "utilisation",
            "capital_rate",
            "maintenance_share",
            "colocation_usd_per_kw_month",
            "idle_power_share",
            "rent_change_per_year",
        )
        return {name: f"{getattr(self, name):g}: {self.provenance[name].source}" for name in fields}


@cache
def constants() -> Constants:
    """The catalog's constants."""
    path = FOLDER / "cost.toml"
    return Constants.build(read_table(path), str(path))


class Ownership(Spec):
    """The ``[cost.own]`` table. What is left out comes from the catalog."""

    purchase_usd_per_gpu: Positive | None = None  # with its share of server and network
    years: Positive | None = None
    utilisation: Annotated[float, Field(gt=0, le=1)] | None = None  # hours used over hours owned
    capital_rate: Annotated[float, Field(ge=0, lt=1)] | None = None  # yearly cost of the money in it
    maintenance_share: Annotated[float, Field(ge=0, lt=1)] | None = None  # of the purchase, each year
    colocation_usd_per_kw_month: Usd | None = None  # room and cooling for rated power, without the energy
    idle_power_share: Annotated[float, Field(ge=0, le=1)] | None = None  # power of an idle GPU over its power in training
    rent_change_per_year: Annotated[float, Field(gt=-1, lt=1)] | None = None  # of the rent that owning is compared with
    residual_share: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the purchase, when it is sold
    staff_usd_per_year: Usd = 0.0  # for the whole cluster
    space_usd_per_year: Usd = 0.0


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """A dated purchase price per GPU; ``covers`` a ``card`` alone or its share of a ``server``."""

    accelerator: str
    usd_per_gpu: float
    covers: str
    date: str
    source: str


@cache
def purchases() -> tuple[Purchase, ...]:
    """All purchase quotes."""
    with PURCHASES.open(newline="", encoding="utf-8") as file:
        return tuple(
            Purchase(
                accelerator=r["accelerator"],
                usd_per_gpu=float(r["usd_per_gpu"]),
                covers=r["covers"],
                date=r["date"],
                source=r["source"],
            )
            for r in csv.DictReader(file)
        )


def find_purchase(accelerator: str) -> Purchase:
    """The lower median of the quotes of the last ``RECENT_DAYS`` before the newest, a server's before a GPU's; PlannerError
    without any."""
    quotes = [p for p in purchases() if p.accelerator == accelerator]
    if not quotes:
        known = sorted({p.accelerator for p in purchases()})
        raise PlannerError(
            "cost.own: the catalog has no purchase price of {0}; give cost.own.purchase_usd_per_gpu. With prices: {1}.",
            accelerator,
            nearest(accelerator, known),
            code="unknown",
        )
    kind = "server" if any(p.covers == "server" for p in quotes) else "card"
    alike = [p for p in quotes if p.covers == kind]
    newest = max(datetime.date.fromisoformat(p.date) for p in alike)
    recent = [p for p in alike if (newest - datetime.date.fromisoformat(p.date)).days <= RECENT_DAYS]
    return sorted(recent, key=lambda p: p.usd_per_gpu)[(len(recent) - 1) // 2]


def purchase_spread(accelerator: str) -> float:
    """Standard deviation of the logarithm of purchase prices, of quotes that cover the same."""
    for covers in ("server", "card"):
        logs = [math.log(p.usd_per_gpu) for p in purchases() if p.accelerator == accelerator and p.covers == covers]
        if len(logs) > 1:
            return max(statistics.stdev(logs), PURCHASE_SPREAD)
    return PURCHASE_SPREAD


@dataclass(frozen=True, kw_only=True)
class OwnedGpu:
    """What one owned GPU costs. ``usd_per_gpu_hour`` is per hour of use, the sum of its parts; ``break_even_*`` against a rent.

    ``rent_usd_per_gpu_hour`` is the mean over the years of a rent that changes each year. ``break_even_utilisation``: above it
    owning is cheaper over the years; None when power alone costs more than the rent. ``break_even_gpu_hours``: hours of use
    per GPU after which the purchase has paid off.
    """

    purchase_usd_per_gpu: float
    purchase: Purchase | None
    years: float
    utilisation: float
    power_w_per_gpu: float
    usd_per_gpu_hour: float
    capital_usd_per_gpu_hour: float
    energy_usd_per_gpu_hour: float
    idle_energy_usd_per_gpu_hour: float
    maintenance_usd_per_gpu_hour: float
    colocation_usd_per_gpu_hour: float
    staff_and_space_usd_per_gpu_hour: float
    rent_usd_per_gpu_hour: float | None
    break_even_utilisation: float | None
    break_even_gpu_hours: float | None

    def log_spread(self, purchase: float, power: float) -> float:
        """Standard deviation of the logarithm of ``usd_per_gpu_hour``, from those of the purchase and of the power.

        To first order, each by its share of the cost: capital and maintenance grow with the purchase, energy with the power;
        the room is paid for rated power.
        """
        bought = self.capital_usd_per_gpu_hour + self.maintenance_usd_per_gpu_hour
        drawn = self.energy_usd_per_gpu_hour + self.idle_energy_usd_per_gpu_hour
        return math.hypot(purchase * bought, power * drawn) / self.usd_per_gpu_hour

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def power_w_per_gpu(cluster: Cluster) -> float:
    """Average electrical power of one GPU's share of its server while training, watts, without cooling."""
    c, node, accelerator = constants(), cluster.node, cluster.accelerator
    if node.max_power_w:
        return c.power_share * node.max_power_w / node.num_gpus
    if not accelerator.tdp_w:
        raise PlannerError("cost.power_w_per_gpu is missing: the power of {0} is not known.", accelerator.name)
    return c.power_share * c.server_power_over_tdp * accelerator.tdp_w


def purchase_usd(accelerator: str) -> tuple[float, Purchase]:
    """Purchase per GPU with its share of server and network, and the quote behind it."""
    quote, c = find_purchase(accelerator), constants()
    server = quote.usd_per_gpu if quote.covers == "server" else quote.usd_per_gpu * c.server_cost_over_card
    return server / (1.0 - c.interconnect_share), quote


def capital_usd(price: float, residual_share: float, rate: float, years: float) -> float:
    """What a purchase costs over its years: an annuity on what the resale does not pay back.

    (price - residual / (1 + r)^n) r / (1 - (1 + r)^-n) n; price - residual where the rate r is 0.
    """
    if rate == 0:
        return price * (1.0 - residual_share)
    log_discount = -years * math.log1p(rate)
    return price * (1.0 - residual_share * math.exp(log_discount)) * rate / -math.expm1(log_discount) * years


def mean_rent(rent: float, change_per_year: float, years: float) -> float:
    """Mean over the years of a rent that changes by a share each year: rent ((1 + g)^n - 1) / (n ln(1 + g))."""
    if change_per_year == 0:
        return rent
    growth = math.log1p(change_per_year)
    return rent * math.expm1(growth * years) / (growth * years)


def owned_gpu(
    cluster: Cluster, own: Ownership, *, power_w: float, pue: float, electricity_usd_per_kwh: float, rent: float | None
) -> OwnedGpu:
    """Dollars per used hour of an owned GPU: (capital + maintenance + colocation + staff and space) / used hours + energy in use
    and, for the hours between, energy of an idle GPU. What ``own`` leaves out comes from the catalog's constants."""
    c = constants()
    quote: Purchase | None = None
    price = own.purchase_usd_per_gpu
    if price is None:
        price, quote = purchase_usd(cluster.accelerator.name)
    years = own.years or c.years
    given = own.model_dump(exclude={"provenance"})
    use, rate, care, room, idle, change = (
        getattr(c, name) if given[name] is None else float(given[name])
        for name in (
            "utilisation",
            "capital_rate",
            "maintenance_share",
            "colocation_usd_per_kw_month",
            "idle_power_share",
            "rent_change_per_year",
        )
    )
    owned_hours = years * YEAR_S / HOUR_S
    capital = capital_usd(price, own.residual_share, rate, years)
    maintenance = care * price * years
    colocation = room * power_w / c.power_share / 1e3 * 12.0 * years
    yearly = (own.staff_usd_per_year + own.space_usd_per_year) * years / cluster.num_gpus
    energy = power_w * pue * HOUR_S / JOULES_PER_KWH * electricity_usd_per_kwh
    fixed, used = capital + maintenance + colocation + yearly, owned_hours * use
    average = None if rent is None else mean_rent(rent, change, years)
    saved = 0.0 if average is None else average - energy
    return OwnedGpu(
        purchase_usd_per_gpu=price,
        purchase=quote,
        years=years,
        utilisation=use,
        power_w_per_gpu=power_w,
        usd_per_gpu_hour=fixed / used + energy * (1.0 + idle * (1.0 / use - 1.0)),
        capital_usd_per_gpu_hour=capital / used,
        energy_usd_per_gpu_hour=energy,
        idle_energy_usd_per_gpu_hour=energy * idle * (1.0 / use - 1.0),
        maintenance_usd_per_gpu_hour=maintenance / used,
        colocation_usd_per_gpu_hour=colocation / used,
        staff_and_space_usd_per_gpu_hour=yearly / used,
        rent_usd_per_gpu_hour=average,
        break_even_utilisation=(fixed / owned_hours + energy * idle) / (saved + energy * idle) if saved > 0 else None,
        break_even_gpu_hours=fixed / saved if saved > 0 else None,
    )
