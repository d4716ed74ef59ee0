"""The layout that is recommended for one question: the first row of its search, what stands beside it, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from planner.common.errors import PlannerError
from planner.common.message import Message, join_messages
from planner.hardware.curves import Curves, curves_of
from planner.layout_search.question import SearchQuestion, Setup
from planner.layout_search.ranking import NOISE
from planner.layout_search.result import SearchResult
from planner.layout_search.search import gives_way, search_all, searched
from planner.layout_search.space import LayoutGrid, allowed
from planner.performance.feasibility import check_job
from planner.performance.risk import RISK, chance, check_risk
from planner.workload.layout import Layout
from planner.workload.question import Question


@dataclass(frozen=True, kw_only=True)
class Bolder:
    """A layout that is faster than the recommended one and may run out of memory; ``gain``: steps per second, relative."""

    layout: Layout
    step_time_s: float
    gain: float
    fit_probability: float


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The layout chosen, whether it fits at the accepted risk, in words why, and the boldest one where that is faster."""

    layout: Layout
    sure: bool
    why: tuple[str, ...]
    bolder: Bolder | None
    step_time_s: float
    peak_bytes: float
    hosted: bool  # the host holds what is moved to it
    fit_probability: float
    gives_way: bool  # it fits, and to a framework that takes less time


def choose(
    q: Question,
    *,
    risk: float = RISK,
    allow: Iterable[str] = (),
    headroom: float = 0.0,
    micro_batch_size: int | None = None,
) -> Choice:
    """The first row of the search by time: the simplest layout within NOISE of the fastest that fits at the accepted risk.

    ``headroom``: part of the GPU's memory to keep free besides; ``micro_batch_size``: the only one looked at. Where none does,
    the one most likely to fit; where none may, the one that needs the least memory. Raises PlannerError when no layout is valid.
    """
    check_job(q)
    grid = LayoutGrid(question=q, allow=allowed(allow), micro_batch_size=micro_batch_size)
    return _choice(grid, check_risk(risk), headroom, curves_of(q.cluster.accelerator))


@lru_cache(maxsize=256)
def _choice(grid: LayoutGrid, risk: float, headroom: float, curves: Curves) -> Choice:
    """``choose`` of a grid, kept: the sides of a comparison, a run beside its plan and what is drawn anew ask for the same one.
    ``curves`` are the accelerator's own: where their file has changed, it is another question."""
    setup = Setup(grid=grid, price=None, risk=risk, headroom=headroom)
    search = SearchQuestion(setups=(setup,), objective="time", deadline_s=None, budget_usd=None, top=1)
    result = search_all(search, searched)
    found = result.found
    rows = next((rows for rows in (result.rows, found.leanest) if len(rows)), found.starved)
    if not len(rows):
        q = grid.question
        why = join_messages("; ", (Message("{0:,} {1}", count, reason) for reason, count in found.rejected.most_common()))
        raise PlannerError(
            "layout: none is valid on {0} GPUs with global_batch_size = {1} ({2}); choose a batch that the GPUs "
            "divide, or give a layout.",
            q.cluster.num_gpus,
            q.job.global_batch_size,
            why,
        )
    sure = len(found.rows) > 0
    return Choice(
        layout=rows.layouts.row(0),
        sure=sure,
        why=_why(result),
        bolder=_bolder(result),
        step_time_s=float(rows.step_time_s[0]),
        peak_bytes=float(rows.peak_bytes[0]),
        hosted=rows is not found.starved,
        fit_probability=float(rows.fit_probability[0]),
        gives_way=sure and gives_way(result),
    )


def _why(result: SearchResult) -> tuple[str, ...]:
    found, (setup,) = result.found, result.question.setups
    valid, sure = f"{found.num_possible:,}", f"{1.0 - setup.risk:.0%}"
    wide = (result.question.wide,) if result.widened else ()
    if len(found.rows):
        why = _chosen(result.group_sizes[0], found.num_fitting, sure, valid)
    elif len(found.surest):
        most = chance(found.surest.fit_probability[0])
        why = Message(
            "layout chosen: none fits with a probability of {0}, this one is likeliest to, {1} (valid: {2})", sure, most, valid
        )
    else:
        why = Message("layout chosen: none fits, this one needs the least memory (valid: {0})", valid)
    return (why, *wide)


def _chosen(equals: int, fitting: int, sure: str, valid: str) -> Message:
    if fitting == 1:
        return Message("layout chosen: the only one that fits with a probability of {0} or more (valid: {1})", sure, valid)
    noise = f"{NOISE:.0%}"
    if equals == 1:
        return Message(
            "layout chosen: the fastest, no other is within {0} of it; {1:,} layouts fit with a probability of {2} or more "
            "(valid: {3})",
            noise,
            fitting,
            sure,
            valid,
        )
    return Message(
        "layout chosen: the simplest of {0:,} within {1} of the fastest; {2:,} layouts fit with a probability of "
        "{3} or more (valid: {4})",
        equals,
        noise,
        fitting,
        sure,
        valid,
    )


def _bolder(result: SearchResult) -> Bolder | None:
    bold, safe = result.found.boldest, result.rows
    if not len(bold) or not len(result.found.rows) or bold.step_time_s[0] >= safe.step_time_s.min():
        return None
    seconds = float(bold.step_time_s[0])
    return Bolder(
        layout=bold.layouts.row(0),
        step_time_s=seconds,
        gain=float(safe.step_time_s[0]) / seconds - 1.0,
        fit_probability=float(bold.fit_probability[0]),
    )
