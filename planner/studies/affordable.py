"""How many tokens a sum of money or a time pays for, by the budget: with interruptions, and as published runs went."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from planner.common.errors import PlannerError
from planner.common.message import Message, join_messages
from planner.common.progress import Progress
from planner.common.units import DURATIONS
from planner.performance.risk import RISK
from planner.scenarios.scenario import Case, Outlook
from planner.training.plan import Plan
from planner.training.planning import lasting

NEAR = 1e-3
"""Steps are found to this part."""
MOST_STEPS = 2**40
LENGTHS = ("num_tokens", "num_samples", "num_steps", "num_epochs")


@dataclass(frozen=True, kw_only=True)
class Means:
    """Dollars and seconds that a run may take; None = no limit."""

    usd: float | None = None
    seconds: float | None = None

    def lacks(self, outlook: Outlook) -> Means:
        """What the budget takes where it takes more."""
        run, bill = outlook.run, outlook.bill
        seconds = None if self.seconds is None or run is None else run.budget_s.expected
        usd = None if self.usd is None or bill is None else bill.budget_usd.expected
        return Means(
            usd=usd if usd is not None and usd > (self.usd or 0.0) else None,
            seconds=seconds if seconds is not None and seconds > (self.seconds or 0.0) else None,
        )

    def pay_for(self, outlook: Outlook) -> bool:
        """Whether the budget keeps to both."""
        return self.lacks(outlook) == Means()

    def words(self) -> str:
        """ "for $50,000 in 14 days" """
        usd, time = (None if value is None else say(value) for value, say in ((self.usd, dollars), (self.seconds, duration)))
        if usd is None:
            return Message("in {0}", time)
        return Message("for {0}", usd) if time is None else Message("for {0} in {1}", usd, time)


def digits(value: float, rounding: str) -> str:
    """Three digits, and all of those before the point, rounded up or down.

    >>> digits(5.1201, ROUND_CEILING), digits(5.12, ROUND_CEILING), digits(1e-7, ROUND_FLOOR), digits(2000.4, ROUND_CEILING)
    ('5.13', '5.12', '0.0000001', '2,001')
    """
    exact = Decimal(f"{value:.12g}")
    last = Decimal(1).scaleb(min(exact.adjusted() - 2, 0))
    return f"{exact.quantize(last, rounding).normalize():,f}"


def dollars(usd: float, rounding: str = ROUND_FLOOR) -> str:
    """What money there is, or rounded up what is needed."""
    return f"${digits(usd, rounding)}"


def duration(seconds: float, rounding: str = ROUND_FLOOR) -> str:
    """What time there is, or rounded up what is needed, in a unit that reads well.

    >>> duration(0.001), duration(90.0), duration(363.21, ROUND_CEILING), duration(14 * 86400.0)
    ('1 ms', '90 s', '6.06 min', '14 days')
    """
    size, name = next((size, name) for below, size, _, name in DURATIONS if seconds < below)
    shown = digits(seconds / size, rounding)
    return Message("{0} days", shown) if name == "days" else f"{shown} {name}"


@dataclass(frozen=True, kw_only=True)
class Affordable:
    """The most tokens, of whole steps, whose budget keeps to the means, with their plan and outlook."""

    num_tokens: int
    plan: Plan
    outlook: Outlook


def affordable(
    case: Case, means: Means, *, risk: float = RISK, allow: Iterable[str] = (), progress: Progress | None = None
) -> Affordable:
    """The most tokens that the case can train on with ``means``, found by doubling its steps, then halving.

    The layout is that of the case, or the one that ``plan`` chooses, which does not follow from the length; a longer run costs no
    less. Raises PlannerError where not even one step is paid for, where nothing fits, and where there is no price.
    """
    job = {name: value for name, value in case.tables["job"].items() if name not in LENGTHS}
    one = replace(case, tables={**case.tables, "job": {**job, "num_steps": 1}})
    first = one.plan(risk=risk, allow=tuple(allow))
    if not first.fits:
        raise PlannerError("it does not fit: {0}.", join_messages("; ", first.reasons))
    if means.usd is not None and first.price is None:
        raise PlannerError(
            "price.usd_per_gpu_hour is missing: the catalog has no quote for {0}; give the price of a GPU-hour.",
            first.cluster.accelerator.name,
            code="missing",
        )
    tried = 0

    def of(steps: int) -> Affordable:
        nonlocal tried
        if progress is not None:
            progress(tried, MOST_STEPS.bit_length())
        tried += 1
        answer = lasting(first, steps)
        return Affordable(num_tokens=int(steps * answer.tokens_per_step), plan=answer, outlook=one.outlook(answer))

    best = of(1)
    if best.outlook.why:
        raise PlannerError("{0}", best.outlook.why)
    if not means.pay_for(best.outlook):
        least, given, needed = means.lacks(best.outlook), list[str](), list[str]()
        if means.usd is not None and least.usd is not None:
            given.append(Message("budget = {0}", dollars(means.usd)))
            needed.append(dollars(least.usd, ROUND_CEILING))
        if means.seconds is not None and least.seconds is not None:
            given.append(Message("deadline = {0}", duration(means.seconds)))
            needed.append(duration(least.seconds, ROUND_CEILING))
        both = join_messages(", ", given), join_messages(", ", needed)
        raise PlannerError("{0}: too little for one step; give at least {1}.", *both, code="value")
    return _most(of, best, means)


def _most(of: Callable[[int], Affordable], best: Affordable, means: Means) -> Affordable:
    """The longest run that ``means`` pay for; ``best``: one step, which they do."""
    low = 1
    while low < MOST_STEPS and means.pay_for((found := of(2 * low)).outlook):
        low, best = 2 * low, found
    high = 2 * low
    while high - low > max(1.0, NEAR * low):
        middle = (low + high) // 2
        if means.pay_for((found := of(middle)).outlook):
            low, best = middle, found
        else:
            high = middle
    return best
