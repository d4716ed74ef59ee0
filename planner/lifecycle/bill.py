"""The bill of a whole run: GPU-hours at a dated price, own hardware, storage, egress, preprocessing, energy and CO2."""

import datetime
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from planner.common import clock
from planner.common.arguments import as_a, as_day
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.spec import Spec
from planner.common.units import DAY_S, DTYPE_BYTES, GB, HOUR_S
from planner.hardware.cluster import Cluster
from planner.lifecycle.simulation import Z_90, WholeRun, expected_run
from planner.lifecycle.spec import Run
from planner.prices.carbon import Grid, embodied_grams, find_grid
from planner.prices.market import market
from planner.prices.ownership import (
    JOULES_PER_KWH,
    OwnedGpu,
    Ownership,
    constants,
    owned_gpu,
    power_w_per_gpu,
    purchase_spread,
)
from planner.prices.price import Price
from planner.training.plan import Plan
from planner.uncertainty.dollars import held_usd
from planner.uncertainty.interval import Interval

Usd = Annotated[float, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0, strict=True)]
MONTH_S = 365.25 / 12.0 * DAY_S
ITEMS = ("gpu_hours", "commitment", "spares", "storage", "egress", "transfer", "preprocessing", "tax")
HELD = ("gpu_hours", "commitment", "spares")
"""Items that follow from how long GPUs are held, at their price."""
ROUNDING = 1e-12
"""A part of a cost that is less than this is the rounding of its sums."""


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
    transfer_bytes: Amount = 0.0  # between regions or to another provider: data and checkpoints that move on the way
    transfer_usd_per_gb: Usd | None = None
    tax_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of all items, value-added or sales tax that nobody refunds
    tags: dict[str, str] = Field(default_factory=dict)  # team = "nlp": in every row of the bill

    num_documents: Count | None = None
    seconds_per_document: Annotated[float, Field(gt=0)] | None = None
    num_workers: Count = 1
    usd_per_cpu_hour: Usd | None = None
    num_vectors: Count | None = None
    vector_dimensions: Count | None = None
    vector_dtype: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"

    own: Ownership | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for one, other in (("num_documents", "seconds_per_document"), ("num_vectors", "vector_dimensions")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ValueError(Message("{0} and {1} work together; give both or neither", one, other))
        stored = self.dataset_bytes or self.kept_checkpoints or self.num_vectors
        if stored and self.storage_usd_per_gb_month is None:
            raise ValueError("storage_usd_per_gb_month is missing, though something is stored")
        if self.egress_bytes and self.egress_usd_per_gb is None:
            raise ValueError("egress_usd_per_gb is missing, though egress_bytes is given")
        if self.transfer_bytes and self.transfer_usd_per_gb is None:
            raise ValueError("transfer_usd_per_gb is missing, though transfer_bytes is given")
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
class Line:
    """One line of a bill for whoever checks it: ``quantity`` x ``unit_usd`` = ``usd``, and where the unit price is from."""

    item: str
    quantity: float
    unit: str
    unit_usd: float
    usd: float
    term: str
    source: str
    date: str


@dataclass(frozen=True, kw_only=True)
class Bill:
    """Dollars of a whole run with 90 % intervals. ``items_usd`` add up to ``total_usd``; owning is an alternative, not an item.

    ``budget_usd`` is the total with GPU-hours as published runs took them (``WholeRun.budget_gpu_hours``), ``budget_mean_usd``
    what many such runs would cost on average: above it, because hours and prices may be higher by more than they may be lower.
    Intervals hold the run's GPU-hours and what one would pay for one; ``market`` says how far quotes are apart. Energy and CO2
    hold how far the average power may be off, ``owned_usd`` that and the spread of purchase prices, where these are not given.
    ``embodied_grams_co2``: the share of making the servers, beside the electricity's ``grams_co2``.
    """

    price: Price
    stale: bool
    market: Market | None
    items_usd: Mapping[str, Interval]
    total_usd: Interval
    budget_usd: Interval
    budget_mean_usd: float
    preprocessing_s: float
    preprocessing_cpu_hours: float
    embedding_bytes: float
    stored_bytes: float
    energy_kwh: Interval
    grams_co2: Interval | None
    embodied_grams_co2: Interval
    grid: Grid | None
    owned: OwnedGpu | None
    owned_usd: Interval | None
    tags: Mapping[str, str]
    lines: tuple[Line, ...]
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


def charged_run(
    answer: Plan, run: Run | Mapping[str, Any] | None = None, costs: Costs | Mapping[str, Any] | None = None
) -> WholeRun:
    """The whole run that ``bill_of`` charges under the same ``[cost]``: a power that this gives is known to its power cap."""
    spec = costs.checked("cost") if isinstance(costs, Costs) else Costs.build({} if costs is None else costs, "cost")
    return expected_run(answer, run, power_w_per_gpu=spec.power_w_per_gpu)


def bill_of(result: WholeRun, costs: Costs | Mapping[str, Any] | None = None, today: datetime.date | None = None) -> Bill:
    """The bill of a whole run; PlannerError when the plan has no price or a quantity lacks its own."""
    result = as_a(result, WholeRun, "result", "planner.expected_run")
    spec = costs.checked("cost") if isinstance(costs, Costs) else Costs.build({} if costs is None else costs, "cost")
    price, answer = result.plan.price, result.plan
    if price is None:
        raise PlannerError(
            "price: the catalog has no quote for {0}; give price.usd_per_gpu_hour.", answer.cluster.accelerator.name
        )
    day = as_day(today, "today") or clock.today()
    embeddings = embedding_bytes(spec.num_vectors or 0, spec.vector_dimensions or 0, spec.vector_dtype)
    stored = spec.dataset_bytes + spec.kept_checkpoints * result.checkpoint_bytes + embeddings
    wall_s, cpu_hours = preprocessing_s(spec.num_documents or 0, spec.seconds_per_document or 0.0, spec.num_workers)
    beside = {
        "storage": _storage(result, spec, stored),
        "egress": _exact(spec.egress_bytes / GB * (spec.egress_usd_per_gb or 0.0)),
        "transfer": _exact(spec.transfer_bytes / GB * (spec.transfer_usd_per_gb or 0.0)),
        "preprocessing": _exact(cpu_hours * (spec.usd_per_cpu_hour or 0.0)),
    }
    items = _taxed({**_held(result, result.gpu_hours, price), **beside}, spec)
    budget = _taxed({**_held(result, result.budget_gpu_hours, price), **beside}, spec)
    total, budget_usd = _sum(items.values()), _sum(budget.values())
    if result.run.power_cap_w is not None and spec.power_w_per_gpu != result.power_w_per_gpu:
        raise PlannerError(
            "cost.power_w_per_gpu = {0}: the run was computed with {1}, and how far run.power_cap_w slows it follows from this; "
            "give expected_run the same power_w_per_gpu.",
            spec.power_w_per_gpu,
            result.power_w_per_gpu,
        )
    reach = math.exp(Z_90 * power_spread(spec))
    low, power, high = (
        drawn_w(answer.cluster, result.run.power_cap_w, spec.power_w_per_gpu, f) for f in (1.0 / reach, 1.0, reach)
    )
    pue = spec.pue or constants().pue
    drawn = low / power, high / power
    energy = result.gpu_hours.scaled(energy_kwh(1.0, power, pue)).with_factor(*drawn)
    grid = None if spec.region is None else find_grid(spec.region)
    owned = None if spec.own is None else _owned(result, spec, price, power, pue)
    return Bill(
        price=price,
        stale=price.is_stale(day),
        market=_market(price),
        items_usd=items,
        total_usd=total,
        budget_usd=budget_usd,
        budget_mean_usd=mean_of(budget_usd),
        preprocessing_s=wall_s,
        preprocessing_cpu_hours=cpu_hours,
        embedding_bytes=embeddings,
        stored_bytes=stored,
        energy_kwh=energy,
        grams_co2=None if grid is None else energy.scaled(grid.grams_co2_per_kwh),
        embodied_grams_co2=result.gpu_hours.scaled(embodied_grams(1.0, answer.cluster.node.num_gpus)),
        grid=grid,
        owned=owned,
        owned_usd=None if owned is None else _owned_usd(result, owned, drawn),
        tags=spec.tags,
        lines=_lines(result, spec, price, items, stored, cpu_hours),
        notes=_notes(spec, price, day, owned),
    )


def drawn_w(cluster: Cluster, cap_w: float | None = None, given_w: float | None = None, factor: float = 1.0) -> float:
    """Average watts of one GPU's share of its server while training; a cap takes off what the GPU itself would draw above it.

    Without a cap ``factor`` times ``given_w``, or times the catalog's; the GPU itself draws the same part of either.
    """
    power, rated = factor * (given_w or power_w_per_gpu(cluster)), cluster.accelerator.tdp_w
    if cap_w is None or not rated:
        return power
    own = power * constants().power_share * rated / power_w_per_gpu(cluster)
    return power - max(own - cap_w, 0.0)


def power_spread(costs: Costs) -> float:
    """Standard deviation of the logarithm of the average power: none where it was given."""
    return 0.0 if costs.power_w_per_gpu is not None else constants().power_share_spread


def mean_of(money: Interval) -> float:
    """Mean of a quantity whose logarithm is normal on either side of its median: the average of exp(s^2 / 2) Phi(s) each.

    E = m (e^(a^2/2) Phi(-a) + e^(b^2/2) Phi(b)) with a, b the lower and the upper standard deviation of the logarithm.
    """
    if money.expected <= 0.0 or money.lower <= 0.0:
        return money.expected
    low, high = (abs(math.log(end / money.expected)) / Z_90 for end in (money.lower, money.upper))
    law = NormalDist()
    return money.expected * (math.exp(low * low / 2.0) * law.cdf(-low) + math.exp(high * high / 2.0) * law.cdf(high))


def _held(result: WholeRun, hours: Interval, price: Price) -> dict[str, Interval]:
    """Dollars of the GPUs: hours of the run, hours that a term binds and nothing uses, spares for as long as the run.

    A term that binds longer than the run costs the same however long that takes: the ends of both items add up to those of
    ``held_usd``, in the parts that the expected run uses and leaves.
    """
    gpus, spares = result.plan.num_gpus, result.run.spare_nodes * result.plan.cluster.node.num_gpus
    seconds = hours.scaled(HOUR_S / gpus)
    both = held_usd(seconds, gpus, price)
    used = hours.expected * price.usd_per_gpu_hour / both.expected if both.expected else 1.0
    unused = 1.0 - used if used < 1.0 - ROUNDING else 0.0
    return {
        "gpu_hours": both.scaled(1.0 - unused),
        "commitment": both.scaled(unused),
        "spares": held_usd(seconds, spares, price) if spares else _exact(0.0),
    }


def _taxed(items: dict[str, Interval], spec: Costs) -> dict[str, Interval]:
    """The items in order, with the tax on all of them."""
    tax = _sum(items.values()).scaled(spec.tax_rate) if spec.tax_rate else _exact(0.0)
    return {name: {**items, "tax": tax}[name] for name in ITEMS}


def _lines(
    result: WholeRun, spec: Costs, price: Price, items: Mapping[str, Interval], stored: float, cpu_hours: float
) -> tuple[Line, ...]:
    """What is charged, as quantity x unit price; lines of nothing are left out."""
    rent, hours = price.usd_per_gpu_hour, result.gpu_hours.expected
    kept_s = result.wall_s.expected if spec.storage_s is None else spec.storage_s
    quote = (rent, price.term, price.source or "given", price.date)
    given = ("", "given", "")
    before = sum(items[name].expected for name in ITEMS if name != "tax")
    found = {
        "gpu_hours": (hours, "GPU-hours", *quote),
        "commitment": (items["commitment"].expected / rent if rent else 0.0, "GPU-hours", *quote),
        "spares": (items["spares"].expected / rent if rent else 0.0, "GPU-hours", *quote),
        "storage": (stored / GB * kept_s / MONTH_S, "GB-months", spec.storage_usd_per_gb_month or 0.0, *given),
        "egress": (spec.egress_bytes / GB, "GB", spec.egress_usd_per_gb or 0.0, *given),
        "transfer": (spec.transfer_bytes / GB, "GB", spec.transfer_usd_per_gb or 0.0, *given),
        "preprocessing": (cpu_hours, "CPU-hours", spec.usd_per_cpu_hour or 0.0, *given),
        "tax": (before, "USD", spec.tax_rate, *given),
    }
    return tuple(
        Line(
            item=name,
            quantity=quantity,
            unit=unit,
            unit_usd=unit_usd,
            usd=items[name].expected,
            term=term,
            source=source,
            date=date,
        )
        for name, (quantity, unit, unit_usd, term, source, date) in found.items()
        if items[name].expected > 0.0
    )


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


def _owned_usd(result: WholeRun, owned: OwnedGpu, drawn: tuple[float, float]) -> Interval:
    """Dollars of the run on GPUs of one's own: its hours, what servers sell for and what they draw are each uncertain."""
    quotes = 0.0 if owned.purchase is None else purchase_spread(owned.purchase.accelerator)
    low, high = (math.exp(Z_90 * owned.log_spread(quotes, abs(math.log(end)) / Z_90)) for end in drawn)
    return result.gpu_hours.scaled(owned.usd_per_gpu_hour).with_factor(1.0 / low, high)


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
    notes: list[str] = []
    if price.is_stale(today):
        notes.append(
            Message(
                "stale price: quoted {0}, {1} days ago; import a newer one or give your own", price.date, price.age_days(today)
            )
        )
    if price.may_be_stale(today):
        notes.append(
            Message("the price may be stale: only {0} is known of its date; import a newer one or give your own", price.date)
        )
    if not price.date:
        notes.append(Message("the price was given without a date"))
    c = constants()
    if spec.power_w_per_gpu is None:
        shares = (c.power_share * math.exp(z * c.power_share_spread) for z in (0.0, -Z_90, Z_90))
        source = c.provenance["power_share"].source
        notes.append(
            Message("energy: average power {0:.0%} ({1:.0%} to {2:.0%}) of the server's rated power ({3})", *shares, source)
        )
    if spec.pue is None:
        notes.append(Message("energy: PUE {0:.2f}, {1}", c.pue, c.provenance["pue"].source))
    if spec.region is None:
        notes.append(Message("no CO2 figure: give cost.region, a country or a Google Cloud region"))
    if owned is not None and owned.purchase is not None:
        notes.append(Message("purchase price of {0}: {1}", owned.purchase.date, owned.purchase.source))
    return tuple(notes)
