"""How sure the difference of two plans is: ratios of time, memory and dollars, with 90 % bounds."""

from __future__ import annotations

from dataclasses import replace

from planner.common.arguments import as_a
from planner.training.plan import Plan
from planner.uncertainty.ratio import Ratio, ratio
from planner.uncertainty.subject import Subject, movable_part


def ratios(plan: Plan, first: Plan) -> dict[str, Ratio]:
    """``plan`` over ``first`` by the name of the figure: time and dollars of the whole run where both have a length, else of a
    step, and peak memory.

    Prices and numbers of steps are taken as certain: they scale the ratio of the step times. PlannerError where either is no
    plan.
    """
    plan, first = as_a(plan, Plan, "plan", "planner.plan"), as_a(first, Plan, "first", "planner.plan")
    step = ratio(plan.step_time_s, first.step_time_s, "step_time", plan.subject, first.subject)
    memory = ratio(
        plan.peak_total_bytes,
        first.peak_total_bytes,
        "memory",
        _memory_subject(plan),
        _memory_subject(first),
    )
    found = {"step_time_s": step, "peak_total_bytes": memory}
    for name in ("run_s", "cost_usd_per_step", "cost_usd"):
        ours, theirs = getattr(plan, name), getattr(first, name)
        if ours and theirs:
            found[name] = step.scaled(ours / theirs / step.expected)
    return found


def _memory_subject(plan: Plan) -> Subject:
    movable = float(movable_part(plan.states_bytes, plan.peak_total_bytes))
    return replace(plan.subject, figure="reserved", movable=movable)
