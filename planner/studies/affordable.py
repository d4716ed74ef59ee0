"""How many tokens a sum of money or a time pays for, by the budget: with interruptions, and as published runs went."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from planner.common.errors import PlannerError
from planner.common.message import Message, join_messages
from planner.common.progress import Progress
from planner.common.units import DAY_S
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

    def pay_for(self, outlook: Outlook) -> bool:
        """Whether the budget keeps to both."""
        run, bill = outlook.run, outlook.bill
        late = self.seconds is not None and run is not None and run.budget_s.expected > self.seconds
        return not late and not (self.usd is not None and bill is not None and bill.budget_usd.expected > self.usd)

    def words(self) -> str:
        """ "for $50,000 in 14 days" """
        days = None if self.seconds is None else self.seconds / DAY_S
        if self.usd is None:
            return Message("in {0:,.4g} days", days)
        usd = f"{self.usd:,.0f}" if self.usd >= 100.0 else f"{self.usd:,.3g}"
        return Message("for ${0}", usd) if days is None else Message("for ${0} in {1:,.4g} days", usd, days)


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
        run, bill = best.outlook.run, best.outlook.bill
        least = Means(
            usd=None if means.usd is None or bill is None else bill.budget_usd.expected,
            seconds=None if means.seconds is None or run is None else run.budget_s.expected,
        )
        raise PlannerError("not even one step can be paid {0}; one is paid {1}.", means.words(), least.words())
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
