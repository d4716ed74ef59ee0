"""Owned hardware: what a GPU-hour costs when the GPU is yours, and when buying beats renting."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import Field

from planner.common import data
from planner.common.errors import PlannerError, near
from planner.common.spec import Spec, read_table
from planner.common.units import HOUR_S
from planner.hardware.cluster import Cluster

FOLDER = data.CATALOG
PURCHASES = FOLDER / "prices" / "purchase.csv"
YEAR_S = 365.25 * 86400.0
JOULES_PER_KWH = 3.6e6

Positive = Annotated[float, Field(gt=0)]
Usd = Annotated[float, Field(ge=0)]


class Constants(Spec):
    """``catalog/cost.toml``: published and assumed constants of energy and ownership."""

    electricity_usd_per_kwh: Usd
    pue: Annotated[float, Field(ge=1)]
    power_share: Annotated[float, Field(gt=0, le=1)]
    server_power_over_tdp: Positive
    server_cost_over_card: Positive
    interconnect_share: Annotated[float, Field(ge=0, lt=1)]
    years: Positive
    utilisation: Annotated[float, Field(gt=0, le=1)]


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
    """The quote of the newest day, a server's before a card's, the lower median of several; PlannerError without any."""
    quotes = [p for p in purchases() if p.accelerator == accelerator]
    if not quotes:
        known = sorted({p.accelerator for p in purchases()})
        raise PlannerError(
            f"cost.own: the catalog has no purchase price of {accelerator}; give cost.own.purchase_usd_per_gpu. "
            f"With prices: {near(accelerator, known)}."
        )
    newest = max(p.date for p in quotes)
    same = sorted((p for p in quotes if p.date == newest), key=lambda p: p.usd_per_gpu)
    servers = [p for p in same if p.covers == "server"] or same
    return servers[(len(servers) - 1) // 2]


@dataclass(frozen=True, kw_only=True)
class OwnedGpu:
    """What one owned GPU costs. ``usd_per_gpu_hour`` is per hour of use; ``break_even_*`` against a rent.

    ``break_even_utilisation``: above it owning is cheaper over the years; None when power alone costs more than the rent.
    ``break_even_gpu_hours``: hours of use per GPU after which the purchase has paid off.
    """

    purchase_usd_per_gpu: float
    purchase: Purchase | None
    years: float
    utilisation: float
    power_w_per_gpu: float
    usd_per_gpu_hour: float
    capital_usd_per_gpu_hour: float
    energy_usd_per_gpu_hour: float
    staff_and_space_usd_per_gpu_hour: float
    rent_usd_per_gpu_hour: float | None
    break_even_utilisation: float | None
    break_even_gpu_hours: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def power_w_per_gpu(cluster: Cluster) -> float:
    """Average electrical power of one GPU's share of its server while training, watts, without cooling."""
    c, node, accelerator = constants(), cluster.node, cluster.accelerator
    if node.max_power_w:
        return c.power_share * node.max_power_w / node.num_gpus
    if not accelerator.tdp_w:
        raise PlannerError(f"cost.power_w_per_gpu is missing: the power of {accelerator.name} is not known.")
    return c.power_share * c.server_power_over_tdp * accelerator.tdp_w


def purchase_usd(accelerator: str) -> tuple[float, Purchase]:
    """Purchase per GPU with its share of server and network, and the quote behind it."""
    quote, c = find_purchase(accelerator), constants()
    server = quote.usd_per_gpu if quote.covers == "server" else quote.usd_per_gpu * c.server_cost_over_card
    return server / (1.0 - c.interconnect_share), quote


def owned_gpu(
    cluster: Cluster, own: Ownership, *, power_w: float, pue: float, electricity_usd_per_kwh: float, rent: float | None
) -> OwnedGpu:
    """Dollars per used hour of an owned GPU: capital / used hours + power x PUE x price + staff and space / used hours."""
    c = constants()
    quote: Purchase | None = None
    price = own.purchase_usd_per_gpu
    if price is None:
        price, quote = purchase_usd(cluster.accelerator.name)
    years, utilisation = own.years or c.years, own.utilisation or c.utilisation
    owned_hours = years * YEAR_S / HOUR_S
    capital = price * (1.0 - own.residual_share)
    yearly = (own.staff_usd_per_year + own.space_usd_per_year) * years / cluster.num_gpus
    energy = power_w * pue * HOUR_S / JOULES_PER_KWH * electricity_usd_per_kwh
    used = owned_hours * utilisation
    saved = None if rent is None else rent - energy
    pays = saved is not None and saved > 0
    return OwnedGpu(
        purchase_usd_per_gpu=price,
        purchase=quote,
        years=years,
        utilisation=utilisation,
        power_w_per_gpu=power_w,
        usd_per_gpu_hour=capital / used + energy + yearly / used,
        capital_usd_per_gpu_hour=capital / used,
        energy_usd_per_gpu_hour=energy,
        staff_and_space_usd_per_gpu_hour=yearly / used,
        rent_usd_per_gpu_hour=rent,
        break_even_utilisation=(capital + yearly) / (saved * owned_hours) if pays and saved else None,
        break_even_gpu_hours=(capital + yearly) / saved if pays and saved else None,
    )
