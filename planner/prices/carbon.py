"""Grams of CO2 per kWh by country and cloud region, each with its date and source."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache

from planner.common import data
from planner.common.errors import PlannerError, near
from planner.common.units import HOUR_S
from planner.prices.ownership import YEAR_S, constants

TABLE = data.CATALOG / "prices" / "grid_carbon.csv"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Carbon intensity of the electricity of one region."""

    region: str
    country: str
    grams_co2_per_kwh: float
    date: str
    source: str


@cache
def grids() -> dict[str, Grid]:
    """All regions by lower-case name: countries, and Google's regions as ``gcp NAME``."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = [
            Grid(
                region=r["region"],
                country=r["country"],
                grams_co2_per_kwh=float(r["grams_co2_per_kwh"]),
                date=r["date"],
                source=r["source"],
            )
            for r in csv.DictReader(file)
        ]
    return {g.region.lower(): g for g in rows}


def embodied_grams(gpu_hours: float, gpus_per_node: int) -> float:
    """Grams of CO2 from making the servers, the share of these hours in their years of use: Luccioni et al. 2022, section 4.2.

    hours x (server / GPUs of a node + GPU) / (years x use); servers without their GPUs.
    """
    c = constants()
    hours = c.embodied_years * YEAR_S / HOUR_S * c.embodied_use
    return gpu_hours * (c.embodied_server_kg / gpus_per_node + c.embodied_gpu_kg) / hours * 1e3


def find_grid(region: str) -> Grid:
    """The grid of a country or region; PlannerError lists near names."""
    known = grids()
    for name in (region.lower(), f"gcp {region.lower()}"):
        if name in known:
            return known[name]
    raise PlannerError("cost.region = {0!r}: no grid data; {1}.", region, near(region, [g.region for g in known.values()]))
