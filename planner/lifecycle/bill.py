"""The bill of a whole run: GPU-hours at a dated price, own hardware, storage, egress, preprocessing, energy and CO2."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.spec import Spec
from planner.common.units import DAY_S, DTYPE_BYTES, GB, HOUR_S
from planner.lifecycle.simulation import WholeRun
from planner.prices.carbon import Grid, find_grid
from planner.prices.market import market, run_usd
from planner.prices.ownership import JOULES_PER_KWH, OwnedGpu, Ownership, constants, owned_gpu, power_w_per_gpu
from planner.prices.price import Price
from planner.uncertainty.interval import Interval

Usd = Annotated[float, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0, strict=True)]
MONTH_S = 365.25 / 12.0 * DAY_S
ITEMS = ("gpu_hours", "commitment", "storage", "egress", "preprocessing")


class Costs(Spec):
    """The ``[cost]`` table. A quantity needs its price; nothing is priced by guess."""

    region: str | None = None  # of the grid; None = no CO2 figure
    pue: Annotated[float, Field(ge=1)] | None = None
    electricity_usd_per_kwh: Usd | None = None
    power_w_per_gpu: Annotated[float, Field(gt=0)] | None = None  # average while training, with the server's share

    dataset_bytes: Amount = 0.0
    kept_checkpoints: Annotated[int, Field(ge=0, strict=True)] = 0
    storage_usd_per_gb_month: Usd | None = None
    storage_s: Amount | None = None  # how long it is kept; None = the run's wall-clock
    egress_bytes: Amount = 0.0
    egress_usd_per_gb: Usd | None = None

    num_documents: Count | None = None
    seconds_per_document: Annotated[float, Field(gt=0)] | None = None
    num_workers: Count = 1
    usd_per_cpu_hour: Usd | None = None
    num_vectors: Count | None = None
    vector_dimensions: Count | None = None
    vector_dtype: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"

    own: Ownership | None = None

    @model_validator(mode="after")
    def _check(self) -> Costs:
        for one, other in (("num_documents", "seconds_per_document"), ("num_vectors", "vector_dimensions")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ValueError(Message("{0} and {1} work together; give both or neither", one, other))
        stored = self.dataset_bytes or self.kept_checkpoints or self.num_vectors
        if stored and self.storage_usd_per_gb_month is None:
            raise ValueError("storage_usd_per_gb_month is missing, though something is stored")
        if self.egress_bytes and self.egress_usd_per_gb is None:
            raise ValueError("egress_usd_per_gb is missing, though egress_bytes is given")
        if self.num_documents and self.usd_per_cpu_hour is None:
            raise ValueError("usd_per_cpu_hour is missing, though documents are preprocessed")
        return self


@dataclass(frozen=True, kw_only=True)
class Market:
    """What providers ask for the same GPU and term: newest quote of each, cheapest and dearest, and how many."""

    cheapest: Price
    dearest: Price
    num_providers: int


@dataclass(frozen=True, kw_only=True)
class Bill:
    """Dollars of a whole run with 90 % intervals. ``items_usd`` add up to ``total_usd``; owning is an alternative, not an item.

    ``budget_usd`` is the total with GPU-hours as published runs took them (``WholeRun.budget_gpu_hours``). Intervals hold
    the run's GPU-hours and what one would pay for one; ``market`` says how far quotes are apart.
    """

    price: Price
    stale: bool
    market: Market | None
    items_usd: Mapping[str, Interval]
    total_usd: Interval
    budget_usd: Interval
    preprocessing_s: float
    preprocessing_cpu_hours: float
    embedding_bytes: float
    stored_bytes: float
    energy_kwh: Interval
    grams_co2: Interval | None
    grid: Grid | None
    owned: OwnedGpu | None
    owned_usd: Interval | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, SI units beside kWh and grams."""
        data = asdict(self)
        data["price"] = self.price.to_dict()
        if self.market is not None:
            data["market"] |= {"cheapest": self.market.cheapest.to_dict(), "dearest": self.market.dearest.to_dict()}
        return data


def embedding_bytes(num_vectors: float, dimensions: float, dtype: str = "fp32") -> float:
    """Bytes of vectors: count x dimensions x width, without an index."""
    return num_vectors * dimensions * DTYPE_BYTES[dtype]


def preprocessing_s(num_documents: float, seconds_per_document: float, num_workers: float = 1) -> tuple[float, float]:
    """(wall-clock seconds, CPU-hours) when workers share documents evenly."""
    seconds = num_documents * seconds_per_document
    return seconds / num_workers, seconds / HOUR_S


def energy_kwh(gpu_hours: float, power_w: float, pue: float = 1.0) -> float:
    """kWh at the meter: GPU-hours x watts per GPU x PUE."""
    return gpu_hours * HOUR_S * power_w * pue / JOULES_PER_KWH


def bill_of(result: WholeRun, costs: Costs | Mapping[str, Any] | None = None, today: datetime.date | None = None) -> Bill:
    """The bill of a whole run; PlannerError when the plan has no price or a quantity lacks its own."""
    spec = costs if isinstance(costs, Costs) else Costs.build(dict(costs or {}), "cost")
    price, answer = result.plan.price, result.plan
    if price is None:
        raise PlannerError(
            "price: the catalog has no quote for {0}; give price.usd_per_gpu_hour.", answer.cluster.accelerator.name
        )
    day = today or datetime.date.today()
    embeddings = embedding_bytes(spec.num_vectors or 0, spec.vector_dimensions or 0, spec.vector_dtype)
    stored = spec.dataset_bytes + spec.kept_checkpoints * result.checkpoint_bytes + embeddings
    wall_s, cpu_hours = preprocessing_s(spec.num_documents or 0, spec.seconds_per_document or 0.0, spec.num_workers)
    items = {
        "gpu_hours": _rented(result.gpu_hours, price),
        "commitment": _exact(_left_over(result, price)),
        "storage": _storage(result, spec, stored),
        "egress": _exact(spec.egress_bytes / GB * (spec.egress_usd_per_gb or 0.0)),
        "preprocessing": _exact(cpu_hours * (spec.usd_per_cpu_hour or 0.0)),
    }
    power = spec.power_w_per_gpu or power_w_per_gpu(answer.cluster)
    pue = spec.pue or constants().pue
    energy = result.gpu_hours.scaled(energy_kwh(1.0, power, pue))
    grid = None if spec.region is None else find_grid(spec.region)
    owned = None if spec.own is None else _owned(result, spec, price, power, pue)
    return Bill(
        price=price,
        stale=price.is_stale(day),
        market=_market(price),
        items_usd=items,
        total_usd=_sum(items.values()),
        budget_usd=_sum([_rented(result.budget_gpu_hours, price), *(items[n] for n in ITEMS if n != "gpu_hours")]),
        preprocessing_s=wall_s,
        preprocessing_cpu_hours=cpu_hours,
        embedding_bytes=embeddings,
        stored_bytes=stored,
        energy_kwh=energy,
        grams_co2=None if grid is None else energy.scaled(grid.grams_co2_per_kwh),
        grid=grid,
        owned=owned,
        owned_usd=None if owned is None else result.gpu_hours.scaled(owned.usd_per_gpu_hour),
        notes=_notes(spec, price, day, owned),
    )


def _rented(hours: Interval, price: Price) -> Interval:
    """Dollars of GPU-hours at a price: both are uncertain, and their errors are independent."""
    money = hours.scaled(price.usd_per_gpu_hour)
    if price.usd_per_gpu_hour <= 0.0:
        return money
    lower, upper = price.interval_usd_per_gpu_hour
    return money.with_factor(lower / price.usd_per_gpu_hour, upper / price.usd_per_gpu_hour)


def _left_over(result: WholeRun, price: Price) -> float:
    """Dollars of a term that binds longer than the run, for hours that nothing uses."""
    run_s, gpus = result.wall_s.expected, result.plan.num_gpus
    return float(run_usd(run_s, gpus, price)) - price.usd_per_gpu_hour * gpus * run_s / HOUR_S


def _storage(result: WholeRun, spec: Costs, stored: float) -> Interval:
    per_second = stored / GB * (spec.storage_usd_per_gb_month or 0.0) / MONTH_S
    return _exact(per_second * spec.storage_s) if spec.storage_s is not None else result.wall_s.scaled(per_second)


def _owned(result: WholeRun, spec: Costs, price: Price, power: float, pue: float) -> OwnedGpu:
    tariff = spec.electricity_usd_per_kwh
    return owned_gpu(
        result.plan.cluster,
        spec.own or Ownership(),
        power_w=power,
        pue=pue,
        rent=price.usd_per_gpu_hour,
        electricity_usd_per_kwh=constants().electricity_usd_per_kwh if tariff is None else tariff,
    )


def _market(price: Price) -> Market | None:
    if not price.accelerator:
        return None
    quotes = market(price.accelerator, price.term)
    return Market(cheapest=quotes[0], dearest=quotes[-1], num_providers=len(quotes)) if quotes else None


def _exact(value: float) -> Interval:
    return Interval(expected=value, lower=value, upper=value, why="a given quantity at a given price")


def _sum(parts: Any) -> Interval:
    """Ends add up because all parts grow with the same wall-clock."""
    found = list(parts)
    return Interval(
        expected=sum(p.expected for p in found),
        lower=sum(p.lower for p in found),
        upper=sum(p.upper for p in found),
        why="the run's GPU-hours and their price",
    )


def _notes(spec: Costs, price: Price, today: datetime.date, owned: OwnedGpu | None) -> tuple[str, ...]:
    notes = []
    if price.is_stale(today):
        notes.append(f"stale price: quoted {price.date}, {price.age_days(today)} days ago; import a newer one or give your own")
    if price.may_be_stale(today):
        notes.append(f"the price may be stale: only {price.date} is known of its date; import a newer one or give your own")
    if not price.date:
        notes.append("the price was given without a date")
    if spec.power_w_per_gpu is None or spec.pue is None:
        c = constants()
        notes.append(
            f"energy: average power {c.power_share:.0%} of the server's rated power and PUE {spec.pue or c.pue:.2f} "
            f"({c.provenance['power_share'].source})"
        )
    if spec.region is None:
        notes.append("no CO2 figure: give cost.region, a country or a Google Cloud region")
    if owned is not None and owned.purchase is not None:
        notes.append(f"purchase price of {owned.purchase.date}: {owned.purchase.source}")
    return tuple(notes)
