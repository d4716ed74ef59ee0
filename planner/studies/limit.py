"""The largest that fits: model of the catalog, number of layers, sequence or micro-batch on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any

from planner.common.errors import PlannerError, one_of
from planner.common.message import Message, join_messages
from planner.common.progress import Progress
from planner.layout_search.space import allowed, divisors
from planner.model.catalog import load_model, model_names
from planner.model.parameters import parameters_total
from planner.performance.risk import RISK, chance, check_risk
from planner.scenarios.edited import plan_with, question_with
from planner.training.hopeless import is_hopeless
from planner.training.plan import Plan
from planner.workload.job import Job
from planner.workload.layout import Layout
from planner.workload.resolve import as_cluster

FIELDS = ("model", "model.num_layers", "job.seq_len", "layout.micro_batch_size")
MOST = {"model.num_layers": 4096, "job.seq_len": 2**24}
"""Larger values are not tried."""


Asked = Callable[[Any], Mapping[str, Any]]
"""The tables of a case by the value that is tried."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """At which risk a layout fits, and which unusual layouts are admitted, as in ``planner.plan``; who is told how far it is."""

    risk: float = RISK
    allow: tuple[str, ...] = ()
    tell: Progress = lambda done, size: None


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The largest value that fits and its plan; the next larger one tried and why it does not do (None: none is left)."""

    field: str
    value: int | str
    plan: Plan
    next_value: int | str | None
    reason: str


def largest(
    tables: Mapping[str, Any],
    field: str,
    step: int | None = None,
    *,
    risk: float = RISK,
    allow: Iterable[str] = (),
    progress: Progress | None = None,
    asked: Asked | None = None,
) -> Limit:
    """The largest value of ``field`` with which the case of ``tables`` fits, on its layout, or on any where it has none.

    ``model`` walks the catalog by parameters. Layers and sequence grow in multiples of ``step`` (by default what the layout
    divides them by) and are found by halving: memory grows with both. Micro-batches are the divisors of a rank's batch.
    It fits when its probability to is 1 - ``risk`` or more. ``progress`` is told (values tried, of how many at most).
    ``asked``: the tables with a value, where other fields follow it, such as a batch that nobody gave; ``tables`` by default.
    Raises PlannerError when nothing fits.
    """
    ask = Ask(risk=check_risk(risk), allow=tuple(sorted(allowed(allow))), tell=progress or (lambda done, size: None))
    if field not in FIELDS:
        raise PlannerError("limit {0!r}: {1}.", field, one_of(field, FIELDS))
    if step is not None and (step < 1 or field not in MOST):
        raise PlannerError("step = {0}: must be at least 1, and belongs to {1}.", step, " and ".join(MOST))
    layout = Layout.build(dict(tables["layout"]), "layout") if tables.get("layout") else None
    case = asked or (lambda value: tables)
    if field == "model":
        names = sorted(model_names(), key=lambda name: (parameters_total(load_model(name)), name))
        return _scanned(case, "model.name", names, ask)
    if field == "layout.micro_batch_size":
        if layout is None:
            raise PlannerError("limit 'layout.micro_batch_size': depends on the layout; give the scenario a [layout].")
        return _scanned(case, field, divisors(_rank_batch(tables, layout)), ask)
    cut = layout or Layout()
    width = step or (cut.pp * cut.vpp if field == "model.num_layers" else lcm(128, 2 * cut.cp * cut.tp))
    return _halved(case, field, width, MOST[field] // width, ask)


def _rank_batch(tables: Mapping[str, Any], layout: Layout) -> int:
    """Sequences that one data-parallel rank does a step."""
    batch = Job.build(dict(tables["job"]), "job").global_batch_size
    ranks = layout.dp or as_cluster(tables["cluster"]).num_gpus // (layout.tp * layout.pp * layout.cp)
    if ranks < 1 or batch % ranks:
        raise PlannerError("job.global_batch_size = {0}: must be a multiple of the {1} data-parallel ranks.", batch, ranks)
    return batch // ranks


def _scanned(case: Asked, field: str, values: list[Any], ask: Ask) -> Limit:
    """The last of ``values`` that fits; those after it do not, or cannot be."""
    following, reason = None, "no larger one is in the list"
    for tried, value in enumerate(reversed(values)):
        ask.tell(tried, len(values))
        if _is_hopeless(case, field, value):
            following, reason = value, ""
            continue
        answer, why = _attempt(case, field, value, ask)
        if answer is not None:
            reason = reason or _attempt(case, field, following, ask)[1]
            return Limit(field=field, value=value, plan=answer, next_value=following, reason=reason)
        following, reason = value, why
    reason = reason or _attempt(case, field, values[0], ask)[1]
    raise PlannerError("{0}: none fits; the smallest, {1}: {2}.", field, values[0], reason)


def _is_hopeless(case: Asked, field: str, value: Any) -> bool:
    """Whether no layout can hold it, which needs no search; False of what is wrong, and of a layout that is given."""
    try:
        tables = case(value)
        return not tables.get("layout") and is_hopeless(question_with(tables, {field: value}))
    except PlannerError:
        return False


def _halved(case: Asked, field: str, width: int, most: int, ask: Ask) -> Limit:
    """The largest multiple of ``width`` up to ``most`` times it that fits, found by doubling, then halving."""
    low, high, best, reason, tried = 0, 1, None, "", 0
    while True:
        ask.tell(tried, 2 * most.bit_length())
        answer, why = _attempt(case, field, high * width, ask)
        tried += 1
        if answer is None:
            reason = why
            break
        low, best = high, answer
        if high == most:
            return Limit(field=field, value=low * width, plan=best, next_value=None, reason="larger ones were not tried")
        high = min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        ask.tell(tried, tried + (high - low - 1).bit_length())
        tried += 1
        answer, why = _attempt(case, field, middle * width, ask)
        if answer is None:
            high, reason = middle, why
        else:
            low, best = middle, answer
    if best is None:
        raise PlannerError("{0}: not even {1} fits: {2}.", field, width, reason)
    return Limit(field=field, value=low * width, plan=best, next_value=high * width, reason=reason)


def _attempt(case: Asked, field: str, value: Any, ask: Ask) -> tuple[Plan | None, str]:
    """(plan that fits at the accepted risk or None, why not) of a case with a value: on its layout, or on the best of all."""
    try:
        answer = plan_with(case(value), {field: value}, risk=ask.risk, allow=ask.allow)
    except PlannerError as error:
        return None, str(error).rstrip(".")
    if answer.recommended:
        return answer, ""
    doubt = Message("fits with a probability of {0}, {1:.0%} is asked for", chance(answer.fit_probability), 1.0 - ask.risk)
    return None, join_messages("; ", answer.reasons) if answer.reasons else doubt
