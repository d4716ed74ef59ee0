"""What a tool's files are written of: a case's plan, or that of the best-ranked layout or cut which the tool can express."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from planner.common.errors import PlannerError
from planner.layout_search.api import run
from planner.layout_search.question import as_question
from planner.scenarios.edited import plan_with
from planner.scenarios.serving import ServingCase
from planner.serving.cuts import CUT, best_cut, cuts
from planner.serving.deployment import Deployment
from planner.training.plan import Plan
from planner.workload.layout import Layout

RANKED = 10_000
"""Layouts that are tried at most: all that eight GPUs of a framework have."""


def exported(
    tables: Mapping[str, Any], write: Callable[[Plan], dict[str, str]], *, risk: float, allow: Iterable[str]
) -> tuple[dict[str, str], Plan, Plan]:
    """(the files, the plan that they run, the plan that is recommended): two where the case gives no layout and the tool cannot
    express the recommended one. Raises its PlannerError where it can express none."""
    best = plan_with(tables, {}, risk=risk, allow=allow)
    try:
        return write(best), best, best
    except PlannerError as refused:
        if "layout" in tables or not best.fits:
            raise
        refusals = [refused]
        for other in _ranked(tables, best, risk, allow):
            refusal = _refusal(replace(best, layout=other), write)
            if refusal is None:
                break
            refusals.append(refusal)
        else:  # none: what it says of the job tells more than what it says of the first layout
            raise next((r for r in refusals if "layout." not in str(r)), refused) from None
    plan = plan_with(
        {**tables, **_stack(tables, best), "layout": other.model_dump(exclude={"provenance"})}, {}, risk=risk, allow=allow
    )
    return write(plan), plan, best


def exported_deployment(case: ServingCase, write: Callable[[Deployment], dict[str, str]]) -> tuple[dict[str, str], str, str]:
    """(the files, the cut that they run, the cut that is recommended), as ``exported``."""
    best = case.serve()
    try:
        return write(best), _cut(best), _cut(best)
    except PlannerError as refused:
        if set(CUT) & set(case.tables["serving"]) or not best.fits:
            raise
        found = []
        for cut in cuts(best.model, best.cluster, best.engine):
            with contextlib.suppress(PlannerError):
                tried = replace(case, tables={**case.tables, "serving": {**case.tables["serving"], **cut}}).serve()
                found.append((tried.times, write(tried), _cut(tried)))
        if not found:
            raise refused from None
    _, files, taken = found[best_cut([one[0] for one in found])]
    return files, taken, _cut(best)


def _cut(d: Deployment) -> str:
    return " ".join(f"{name}{getattr(d.serving, name)}" for name in CUT if getattr(d.serving, name) > 1)


def _stack(tables: Mapping[str, Any], best: Plan) -> dict[str, Any]:
    """The framework: the case's, or the one that was chosen for it."""
    return {} if "framework" in tables else {"framework": {"name": best.framework.name}}


def _ranked(tables: Mapping[str, Any], best: Plan, risk: float, allow: Iterable[str]) -> Iterator[Layout]:
    """Layouts of the case that fit at the accepted risk, the recommended one first."""
    asked = {name: table for name, table in {**tables, **_stack(tables, best)}.items() if name != "price"}
    rows = run(as_question(**asked, top=RANKED, risk=risk, allow=allow)).rows
    return (rows.layouts.row(i) for i in range(len(rows)))


def _refusal(plan: Plan, write: Callable[[Plan], dict[str, str]]) -> PlannerError | None:
    try:
        write(plan)
    except PlannerError as refused:
        return refused
    return None
