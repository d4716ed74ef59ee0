"""What moves a bill, and when it falls due: one input at a time from its low to its high end; dollars by month."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from planner.common.message import Message
from planner.common.units import DAY_S, HOUR_S
from planner.lifecycle.bill import HELD, ITEMS, MONTH_S, Bill
from planner.lifecycle.simulation import Z_90, WholeRun, expected_run
from planner.lifecycle.spec import MEAN_TIMES
from planner.prices.market import Commitment, commitment, run_usd
from planner.prices.ownership import constants, power_w_per_gpu


@dataclass(frozen=True, kw_only=True)
class Swing:
    """The bill's total with one input at either end of what is known of it, all others as they are."""

    name: str
    low: str
    high: str
    low_usd: float
    high_usd: float

    @property
    def width_usd(self) -> float:
        """How far the ends are apart."""
        return abs(self.high_usd - self.low_usd)


def tornado(result: WholeRun, bill: Bill) -> tuple[Swing, ...]:
    """What moves the total, the widest first: step time, what no plan names, failures, recovery, the power
    that a cap holds back, price.

    Ends are the 5th and 95th percentile where the input has an interval; of the price the cheapest and dearest newest quote.
    """
    return tuple(sorted(_swings(result, bill), key=lambda swing: -swing.width_usd))


def _swings(result: WholeRun, bill: Bill) -> Iterator[Swing]:
    rent = bill.price.usd_per_gpu_hour
    usd = {name: item.expected for name, item in bill.items_usd.items()}
    beside = sum(usd[name] for name in ITEMS if name not in (*HELD, "tax"))
    before, gpus = sum(usd.values()) - usd["tax"], result.plan.num_gpus
    taxed = 1.0 + (usd["tax"] / before if before else 0.0)
    spares = result.run.spare_nodes * result.plan.cluster.node.num_gpus

    def total(hours: float, usd_per_gpu_hour: float = rent) -> float:
        price = replace(bill.price, usd_per_gpu_hour=usd_per_gpu_hour)  # what a term binds is paid at that price, too
        seconds = hours / gpus * HOUR_S
        held = float(run_usd(seconds, gpus, price)) + (float(run_usd(seconds, spares, price)) if spares else 0.0)
        return (beside + held) * taxed

    hours, step = result.gpu_hours.expected, result.step_time_s
    ends = [step.lower / step.expected, step.upper / step.expected]
    yield _swing("step time", [f"{end - 1.0:+.0%}" for end in ends], [total(hours * end) for end in ends])
    budget = result.budget_gpu_hours
    if budget.expected > hours:
        names = ["as modelled", "as published runs went"]
        yield _swing("what no plan names", names, [total(hours), total(budget.expected)])
    spread = result.run.rates().log_spread
    if result.mtbf_s is not None and spread:
        factors = [math.exp(-spread * Z_90), math.exp(spread * Z_90)]
        yield _swing(
            "failures", [Message("{0:.1f} x as many", f) for f in factors], [total(_hours(result, rates=f)) for f in factors]
        )
    if result.mtbf_s is not None and not result.run.knows_recovery:
        ends = [result.run.detection_s + result.run.restart_s, result.run.slowest_recovery_s]
        texts = [f"{seconds / 60:.0f} min" for seconds in ends]
        yield _swing("recovery after a failure", texts, [total(_hours(result, recovery_s=s)) for s in ends])
    if result.run.power_cap_w is not None and result.power_w_per_gpu is None:
        ends = [math.exp(sign * constants().power_share_spread * Z_90) for sign in (-1.0, 1.0)]
        texts = [Message("{0:.0%} of rated", constants().power_share * end) for end in ends]
        yield _swing("power without the cap", texts, [total(_hours(result, power=end)) for end in ends])
    if bill.market is not None:
        quotes = (bill.market.cheapest, bill.market.dearest)
        texts = [f"${quote.usd_per_gpu_hour:.2f} {quote.provider}" for quote in quotes]
        yield _swing("price", texts, [total(hours, quote.usd_per_gpu_hour) for quote in quotes])


def _swing(name: str, texts: list[str], usd: list[float]) -> Swing:
    return Swing(name=name, low=texts[0], high=texts[1], low_usd=usd[0], high_usd=usd[1])


def _hours(result: WholeRun, rates: float = 1.0, recovery_s: float | None = None, power: float | None = None) -> float:
    """Expected GPU-hours of the run with other failures, another recovery, or ``power`` times the catalog's watts."""
    spec, known = result.run, result.run.rates()
    changes: dict[str, Any] = {"num_simulations": 100}
    for name in MEAN_TIMES:
        value = getattr(spec, name) or getattr(known, name)
        if value is not None:
            changes[name] = value / rates
    if recovery_s is not None:
        changes["detection_s"] = max(recovery_s - spec.restart_s, 0.0)
    drawn_w = result.power_w_per_gpu if power is None else power * power_w_per_gpu(result.plan.cluster)
    return expected_run(result.plan, spec.replaced(**changes), power_w_per_gpu=drawn_w).gpu_hours.expected


@dataclass(frozen=True, kw_only=True)
class Month:
    """Dollars that fall due in one month; ``month`` counts from 1. Fields are the items of the bill."""

    month: int
    gpu_hours_usd: float
    commitment_usd: float
    spares_usd: float
    storage_usd: float
    preprocessing_usd: float
    egress_usd: float
    transfer_usd: float
    tax_usd: float

    @property
    def total_usd(self) -> float:
        """All of it."""
        return float(sum(value for name, value in vars(self).items() if name != "month"))


def cash_flow(result: WholeRun, bill: Bill) -> tuple[Month, ...]:
    """The bill month by month: rent and storage as time passes, preprocessing and transfer before the first step, egress after
    the last. Bound hours that nothing uses are paid as the term says: what of it is upfront at once, the rest evenly over its
    months. Tax falls due with what it is on.

    A month is a twelfth of a year. The months add up to ``bill.total_usd.expected``.
    """
    wall_s = result.wall_s.expected
    during = max(math.ceil(wall_s / MONTH_S), 1)
    usd = {name: item.expected for name, item in bill.items_usd.items()}
    term = commitment(bill.price.term) if usd["commitment"] else None
    bound = 1 if term is None else max(math.ceil(term.length_days * DAY_S / MONTH_S), 1)
    before = sum(usd.values()) - usd["tax"]
    rate = usd["tax"] / before if before else 0.0
    found = []
    for i in range(max(during, bound)):
        share = max(min(MONTH_S, wall_s - i * MONTH_S), 0.0) / wall_s if i < during else 0.0
        due = {
            "gpu_hours": usd["gpu_hours"] * share,
            "commitment": 0.0 if term is None else _bound(usd["commitment"], term, i, bound),
            "spares": usd["spares"] * share,
            "storage": usd["storage"] * share,
            "preprocessing": usd["preprocessing"] if i == 0 else 0.0,
            "egress": usd["egress"] if i == during - 1 else 0.0,
            "transfer": usd["transfer"] if i == 0 else 0.0,
        }
        found.append(Month(month=i + 1, tax_usd=rate * sum(due.values()), **{f"{name}_usd": x for name, x in due.items()}))
    return tuple(found)


def _bound(usd: float, term: Commitment, month: int, months: int) -> float:
    """What of a term's unused hours falls due in a month."""
    return usd * ((term.upfront_fraction if month == 0 else 0.0) + (1.0 - term.upfront_fraction) / months)
