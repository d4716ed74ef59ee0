"""What another framework would do, where nobody named one and the usual one takes decidably more time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from planner.common.errors import PlannerError
from planner.layout_search.choice import choose
from planner.layout_search.space import allowed
from planner.training.difference import ratios
from planner.training.plan import Plan, fields_of
from planner.training.planning import plan
from planner.uncertainty.ratio import Ratio
from planner.workload.default_framework import quicker_frameworks
from planner.workload.framework import Framework
from planner.workload.layout import Layout
from planner.workload.resolve import FrameworkLike, LayoutLike


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A framework, its recommended layout, the time of a step (s), and the ratio of that time to the plan's."""

    framework: str
    layout: Layout
    step_time_s: float
    over: Ratio

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "layout": fields_of(self.layout), "over": self.over.to_dict()}


def elsewhere(
    answer: Plan, framework: FrameworkLike | None = None, layout: LayoutLike | None = None, allow: Iterable[str] = ()
) -> Elsewhere | None:
    """The framework with the shortest step of those that people change to for time, its layout chosen as ``plan`` does.

    ``framework``, ``layout`` and ``allow`` as ``plan`` was given them. None where either was named, where the plan is not
    recommended, and where it is not decidable that another takes less time.
    """
    if framework is not None or layout is not None or not answer.recommended:
        return None
    admitted = allowed(allow)
    found = [_on(answer, other, admitted) for other in quicker_frameworks(answer.framework, answer.cluster, answer.job)]
    quicker = [one for one in found if one is not None and one.over.decidable and one.over.expected < 1.0]
    return min(quicker, key=lambda one: one.step_time_s, default=None)


def _on(answer: Plan, other: Framework, allow: frozenset[str]) -> Elsewhere | None:
    """The plan's question under another framework; None where no layout surely fits."""
    question = replace(answer.question, framework=other).on_stack()
    try:
        choice = choose(question, risk=answer.risk, allow=allow)
        if not choice.sure:
            return None
        made = plan(
            model=answer.model,
            cluster=answer.cluster,
            framework=other,
            job=answer.job,
            layout=choice.layout,
            price=answer.price,
            explain=False,
            risk=answer.risk,
        )
    except PlannerError:
        return None
    over = ratios(made, answer)["step_time_s"]
    return Elsewhere(framework=other.name, layout=choice.layout, step_time_s=made.step_time_s, over=over)
