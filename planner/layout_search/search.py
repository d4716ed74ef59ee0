"""Search: every layout on every cluster, framework and price asked for; the best, the front, and why the others lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Array, Mask, at_columns, at_index
from planner.common.errors import PlannerError
from planner.common.message import Message, join_messages
from planner.common.progress import Progress
from planner.hardware.cluster import host_usable_bytes, usable_bytes
from planner.layout_search.explore import Block, Parts, explore, parts_of
from planner.layout_search.found import NO_HOST_MEMORY, NO_MEMORY, TOO_DEAR, TOO_LATE, TOO_RISKY, Found, first_by
from planner.layout_search.question import HOST_GAIN, MAX_LAYOUTS, SearchQuestion
from planner.layout_search.ranking import NOISE, NUM_GROUPS, Rows, complexity, joined, no_rows, pruned, steps_of
from planner.layout_search.result import SearchResult
from planner.performance.risk import RISK
from planner.prices.market import run_usd
from planner.prices.price import cost_usd, gpu_hours
from planner.workload.layout import Layouts

MANY, FEW = 256, 0.5
"""Length of a block's last axis from which, and part of it up to which, chosen places are cut out before their step is worked
out."""


def search_unit(
    q: SearchQuestion,
    unit: tuple[int, ...],
    found: Found,
    progress: Callable[[int], None] | None = None,
    parts: Parts | None = None,
) -> Found:
    """Search the layouts of ``unit``, a setup and one tp or more, into the empty ``found``; ``progress`` is told how many were
    looked at. ``parts`` of the setup's grid are shared by its units."""
    setup, *tps = unit
    leanest, starved = _Leanest(), _Leanest()
    for explored in explore(q.setups[setup].grid, *tps, parts=parts):
        found.num_layouts += explored.num_layouts
        found.num_possible += explored.num_layouts - sum(explored.rejected.values())
        found.rejected.update(explored.rejected)
        for block in explored.blocks:
            _keep(q, setup, block, found, leanest, starved)
        if progress is not None:
            progress(found.num_layouts)
    if not len(found.rows) and not len(found.surest):
        found.leanest, found.starved = leanest.rows(q, setup), starved.rows(q, setup)
    return found


def run_search(q: SearchQuestion, progress: Progress | None = None) -> SearchResult:
    """Search in this process. Stopped by Ctrl-C it answers with what it has found. Raises PlannerError when nothing is left."""
    return answered(search_all(q, lambda part: searched(part, progress)))


def search_all(q: SearchQuestion, searcher: Callable[[SearchQuestion], SearchResult]) -> SearchResult:
    """The usual layouts, and where none of them fits at the accepted risk, what UNUSUAL names too: what moves to the host, then
    everything; at last the same of the other setups. Where one fits but recomputes everything, what moves to the host if that is
    better by more than HOST_GAIN; of adapters, and where states move to the host, the other setups that are faster by more than
    the noise: each setup is judged by its own best, as if it had been asked for alone."""
    return _settled(_widest(searcher(q), searcher), searcher)


def _settled(result: SearchResult, searcher: Callable[[SearchQuestion], SearchResult]) -> SearchResult:
    """The widest result with every setup as it is best alone; where any changes, all are searched again together."""
    q = result.question
    if not result.complete:
        return result
    if len(q.setups) == 1:
        return _alone(result, searcher)
    changed = {}
    for i in range(len(q.setups)):
        usual = result.of(i)
        best = _alone(_widest(usual, searcher), searcher)
        if not best.complete:
            return replace(result, complete=False)
        if best is not usual and len(best.found.rows):
            changed[i] = best
    if not changed:
        return result
    setups = tuple(changed[i].question.setups[0] if i in changed else setup for i, setup in enumerate(q.setups))
    wide = (
        Message("{0}: {1}", x.question.setups[0].where, x.question.wide) for x in changed.values() if x.question.wide != q.wide
    )
    notes = (note for part in changed.values() for note in part.question.notes)
    together = replace(
        q,
        setups=setups,
        notes=tuple(dict.fromkeys((*q.notes, *notes))),
        wide=join_messages("; ", [*([q.wide] if q.wide else []), *wide]),
    )
    return result if together.num_layouts > MAX_LAYOUTS else searcher(together)


def _alone(result: SearchResult, searcher: Callable[[SearchQuestion], SearchResult]) -> SearchResult:
    """The widest result of one setup, or what is better of what moves to the host and of the other setups; where it has no row,
    what fits of the other setups."""
    if result.complete and not len(result.found.rows):
        for question in result.question.elsewhere():
            other = _widest(searcher(question), searcher)
            if len(other.found.rows):
                return _settled(other, searcher)
            if not other.complete:
                return _stopped(result, other)
        return result
    result = _best(result, searcher)
    return _quickest(result, searcher) if result.complete and gives_way(result) else result


def _best(result: SearchResult, searcher: Callable[[SearchQuestion], SearchResult]) -> SearchResult:
    """The result, or also what moves to the host where recomputing everything takes longer by HOST_GAIN: so that a GPU with more
    memory is not the slower one for holding a layout that a smaller one cannot."""
    q = result.question
    usual = result.complete and len(result.found.rows) and not result.widened
    if not usual or q.objective == "memory" or result.rows.layouts.row(0).recompute != "full":
        return result
    wider = q.hosted()
    if wider is None or wider.num_layouts > MAX_LAYOUTS:
        return result
    other = searcher(wider)
    better = len(other.found.rows) and float(other.rows.value[0]) * (1.0 + HOST_GAIN) < float(result.rows.value[0])
    return other if better else _stopped(result, other)


def _stopped(result: SearchResult, further: SearchResult) -> SearchResult:
    """The result, which is not complete where a further look was stopped."""
    return result if further.complete else replace(result, complete=False)


def gives_way(result: SearchResult) -> bool:
    """Whether a quicker setup takes the place of the usual one: of adapters always, for what a smaller GPU takes for want of
    memory must not be the faster one; else where what is recommended moves to the host."""
    q = result.question
    return q.objective != "memory" and (q.job.frozen or result.widened)


def _quickest(result: SearchResult, searcher: Callable[[SearchQuestion], SearchResult]) -> SearchResult:
    """The result, or that of the other setups, each of which must be better than what stands by more than the noise."""
    for question in result.question.quicker():
        other = _best(_widest(searcher(question), searcher), searcher)
        better = len(other.found.rows) and float(other.rows.value[0]) * (1.0 + NOISE) < float(result.rows.value[0])
        result = other if better else _stopped(result, other)
        if not result.complete:
            break
    return result


def _widest(result: SearchResult, searcher: Callable[[SearchQuestion], SearchResult]) -> SearchResult:
    for wider in result.question.widened():
        if not result.complete or len(result.found.rows) or wider.num_layouts > MAX_LAYOUTS:
            break
        wide = searcher(wider)
        result = wide if len(wide.found.rows) or _likelier(wide.found, result.found) else _stopped(result, wide)
    return result


def _likelier(wide: Found, usual: Found) -> bool:
    """Whether the likeliest of all layouts is so by more than the usual risk, where none surely fits."""
    if not len(wide.surest) or not len(usual.surest):
        return True
    return bool(wide.surest.fit_probability[0] > usual.surest.fit_probability[0] + RISK)


def searched(q: SearchQuestion, progress: Progress | None = None) -> SearchResult:
    """What the question's own space holds; nothing may be left."""
    found, size, complete = Found(), q.num_layouts, True
    for unit in ((i, *tps) for i, setup in enumerate(q.setups) for tps in parts_of(setup.grid).batches):
        part, parts = Found(), parts_of(q.setups[unit[0]].grid)
        try:
            search_unit(q, unit, part, progress and (lambda done: progress(found.num_layouts + done, size)), parts)
        except KeyboardInterrupt:
            complete = False
        found.merge(part, q.top)
        if not complete:
            break
    return SearchResult(question=q, found=found, size=size, complete=complete)


def answered(result: SearchResult) -> SearchResult:
    """The result, or PlannerError saying why nothing is left."""
    found, q = result.found, result.question
    if len(found.rows) or len(found.surest) or not result.complete:
        return result
    parts = [Message("{0:,} {1}", count, reason) for reason, count in found.rejected.most_common()]
    least = found.least
    hints = []
    if "peak_bytes" in least and np.isfinite(least["peak_bytes"]) and not found.num_fitting:
        usable = max(usable_bytes(s.question.cluster) for s in q.setups)
        hints.append(
            Message("the leanest needs {0:.1f} GiB per GPU of {1:.1f} usable", least["peak_bytes"] / 2**30, usable / 2**30)
        )
    if "time_s" in least and q.deadline_s is not None:
        hints.append(Message("the fastest that fits takes {0:.2f} days", least["time_s"] / 86400))
    if "usd" in least and q.budget_usd is not None:
        hints.append(Message("the cheapest that fits costs ${0:,.0f}", least["usd"]))
    limited = q.said_of_preemptions if q.deadline_s is not None or q.budget_usd is not None else ()
    raise PlannerError(
        "no layout is left of {0:,}: {1}.",
        found.num_layouts,
        join_messages("; ", [*parts, *hints, *limited]) or "the space is empty",
    )


class _Leanest:
    """The layouts of a unit that need least memory. How fast they are is asked at its end, and only where nothing fits."""

    def __init__(self) -> None:
        self._bytes = np.inf
        self._met: list[tuple[Block, Mask]] = []

    def meet(self, block: Block, need: Array) -> None:
        """``need``: bytes of the block's layouts, infinite where impossible."""
        least = float(need.min())
        if not np.isfinite(least) or least > self._bytes:
            return
        self._met = [*(self._met if least == self._bytes else ()), (block, need == least)]
        self._bytes = least

    def rows(self, q: SearchQuestion, setup: int) -> Rows:
        """The fastest of them; no row where none is possible."""
        found = no_rows()
        for block, chosen in self._met:
            block, chosen = _cut_out(block, chosen)
            rows = _Columns(q, setup, block, np.flatnonzero(np.broadcast_to(chosen, block.layouts.shape)))
            some = rows.rows(np.flatnonzero(rows.step_s == rows.step_s.min()))
            found = first_by(joined([found, some]), "peak_bytes")
        return found


def _keep(q: SearchQuestion, setup: int, block: Block, found: Found, leanest: _Leanest, starved: _Leanest) -> None:
    """Count a block's layouts and keep those that may be best."""
    shape = block.layouts.shape
    where = q.setups[setup]
    peak, firm, states = block.summary.peak_bytes, block.summary.firm_bytes, block.summary.states_bytes
    host = block.summary.host_bytes
    hosted = (host == 0) | (host <= host_usable_bytes(where.question.cluster))
    need = np.where(block.possible & hosted, peak, np.inf)
    found.note("peak_bytes", need)
    leanest.meet(block, need)
    if not hosted.all():
        starved.meet(block, np.where(block.possible & ~hosted, peak, np.inf))
    ok = _narrowed(found, block.possible, peak <= where.fit.usable_bytes, NO_MEMORY, shape)
    ok = _narrowed(found, ok, hosted, NO_HOST_MEMORY, shape)
    if not ok.any():
        return
    safe = where.fit.holds(firm, states)
    fits, risky = ok, ok & ~safe
    ok = _narrowed(found, ok, safe, TOO_RISKY, shape)
    block, risky, ok = _cut_out(block, fits, risky, ok)
    if risky.any():
        _keep_risky(q, setup, block, risky, found)
    at = np.flatnonzero(np.broadcast_to(ok, block.layouts.shape))
    found.num_fitting += len(at)
    if not len(at):
        return
    rows = _Columns(q, setup, block, at)
    found.note("time_s", rows.time_s)
    found.note("usd", rows.usd)
    within = _within(q, found, rows.time_s, rows.usd)
    kept = within & _promising(found.rows, setup, q.top, rows, within)
    kept |= _simplest(found, setup, rows, within, by_time=q.objective != "memory")
    if kept.any():
        found.rows = pruned(joined([found.rows, rows.rows(np.flatnonzero(kept))]), q.top)


def _cut_out(block: Block, chosen: Mask, *more: Mask) -> tuple[Any, ...]:
    """Block and masks (``chosen`` alone, else ``more``) at the places of the last axis where any layout is chosen, if those are
    few of many: what the others take is not worked out."""
    columns = np.asarray(chosen.any(axis=tuple(range(chosen.ndim - 1))))
    masks = more or (chosen,)
    if len(columns) < MANY or np.count_nonzero(columns) > FEW * len(columns):
        return block, *masks
    return block.at(columns), *(at_columns(mask, columns) for mask in masks)


class _Columns:
    """Values of a block's layouts at some flat positions; ``rows`` makes Rows of a few of them."""

    def __init__(self, q: SearchQuestion, setup: int, block: Block, at: NDArray[np.intp]) -> None:
        self._setup, self._layouts, self._at, self._fit = setup, block.layouts, at, q.setups[setup].fit
        index = np.unravel_index(at, block.layouts.shape)
        summary = block.summary
        columns = (block.step_time_s, summary.peak_bytes, summary.firm_bytes, summary.states_bytes)
        self.step_s, self.peak_bytes, self.firm_bytes, self.states_bytes = (at_index(x, index) for x in columns)
        self.headroom_bytes = self._fit.usable_bytes - self.peak_bytes
        self.time_s, self.usd = _run(q, setup, self.step_s)
        self.value = _value(q, setup, self.time_s, self.usd, self.peak_bytes)
        self._by_value = q.objective == "memory"

    def rung(self, index: NDArray[np.intp]) -> Array:
        return steps_of((self.value if self._by_value else self.time_s)[index])

    def layouts(self, index: NDArray[np.intp]) -> Layouts:
        return self._layouts.at(self._at[index])

    def rows(self, index: NDArray[np.intp]) -> Rows:
        return Rows(
            setup=np.full(len(index), float(self._setup)),
            layouts=self.layouts(index),
            step_time_s=self.step_s[index],
            peak_bytes=self.peak_bytes[index],
            headroom_bytes=self.headroom_bytes[index],
            fit_probability=self._fit.probability(self.firm_bytes[index], self.states_bytes[index]),
            time_s=self.time_s[index],
            usd=self.usd[index],
            rung=self.rung(index),
            value=self.value[index],
        )


def _value(q: SearchQuestion, setup: int, time_s: Array, usd: Array, peak_bytes: Array) -> Array:
    """The objective, less is better."""
    return {"time": time_s, "cost": usd, "memory": peak_bytes, "energy": time_s * q.setups[setup].power_w}[q.objective]


def _keep_risky(q: SearchQuestion, setup: int, block: Block, risky: NDArray[np.bool_], found: Found) -> None:
    """Of layouts that fit by the prediction itself, at more risk than accepted, keep the best and the most likely."""
    rows = _Columns(q, setup, block, np.flatnonzero(np.broadcast_to(risky, block.layouts.shape)))
    within = np.ones(len(rows.time_s), dtype=bool)
    for limit, values in ((q.deadline_s, rows.time_s), (q.budget_usd, rows.usd)):
        within = within if limit is None else within & (values <= limit)
    if not within.any():
        return
    for column, name in ((rows.value, "boldest"), (rows.firm_bytes, "surest")):
        largest, known = name == "surest", getattr(found, name)
        least = column[within].min()
        if len(found.rows) and (largest or least >= found.rows.value[0]):  # what fits surely is there, or as good
            continue
        if not largest and len(known) and least > known.value[0]:
            continue
        some = rows.rows(np.flatnonzero(within & (column == least)))
        best = first_by(joined([getattr(found, name), some]), "fit_probability" if largest else "value", largest)
        setattr(found, name, best)


def _simplest(found: Found, setup: int, rows: _Columns, within: NDArray[np.bool_], by_time: bool) -> NDArray[np.bool_]:
    """Count rows by step; mask of those that may be the simplest of a rung of the best groups, or of the setup's best."""
    kept = np.zeros(len(rows.value), dtype=bool)
    if not within.any():
        return kept
    best = float(rows.value[within].min())
    known = found.rows.value
    every = min(best, float(known.min())) if len(known) else best
    own = found.rows.setup == setup
    own_best = min(best, float(known[own].min())) if own.any() else best
    limit = max(every * (1.0 + NOISE) ** (NUM_GROUPS + 1), own_best * (1.0 + NOISE) ** 2)  # a little beyond the last step
    near = np.flatnonzero(within & (rows.value <= limit))
    found.count(steps_of(rows.value[near]))
    if by_time:  # bound dollars are the same for slow and fast: only the fast are near
        fastest = min(float(rows.time_s[near].min(initial=np.inf)), float(found.rows.time_s[own].min(initial=np.inf)))
        near = near[rows.time_s[near] <= fastest * (1.0 + NOISE) ** (NUM_GROUPS + 2)]
    steps = rows.rung(near)
    level, room = complexity(rows.layouts(near)), rows.headroom_bytes[near]
    mine = found.rows.take(np.flatnonzero(own))
    among = _simpler(_Ladder(mine.rung, complexity(mine.layouts), mine.headroom_bytes), steps, level, room)
    kept[near[among]] = _simpler(_Ladder(steps[among], level[among], room[among]), steps[among], level[among], room[among])
    return kept


class _Ladder:
    """The simplest of each step, of equals the one with the most room."""

    def __init__(self, steps: Array, level: Array, room: Array) -> None:
        order = np.lexsort((-room, level, steps))
        self.steps, first = np.unique(steps[order], return_index=True)
        self.level, self.room = level[order[first]], room[order[first]]


def _simpler(ladder: _Ladder, steps: Array, level: Array, room: Array) -> NDArray[np.bool_]:
    """Mask of what is as simple as the ladder's row of its step, or simpler, with as much room; all of new steps."""
    if not len(ladder.steps):
        return np.ones(len(steps), dtype=bool)
    at = np.minimum(np.searchsorted(ladder.steps, steps), len(ladder.steps) - 1)
    least, most = ladder.level[at], ladder.room[at]
    return np.asarray((ladder.steps[at] != steps) | (level < least) | ((level == least) & (room >= most)))


def _narrowed(
    found: Found, ok: NDArray[np.bool_], rule: NDArray[np.bool_], reason: str, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """``ok`` where ``rule`` holds; what falls away is counted. Masks broadcast to ``shape``."""
    lost = ok & ~rule
    number = int(np.count_nonzero(lost)) * (int(np.prod(shape)) // lost.size)
    if number:
        found.rejected[reason] += number
        return ok & rule
    return ok


def _run(q: SearchQuestion, setup: int, step_s: Array) -> tuple[Array, Array]:
    """(seconds, dollars) of the run, of one step where the job has no length; of spot nodes with what preemptions take."""
    price, gpus = q.setups[setup].price, q.setups[setup].question.cluster.num_gpus
    time = (step_s if q.num_steps is None else q.num_steps * step_s) * q.setups[setup].stretch(step_s, q.num_steps)
    if price is None:
        usd = np.full(len(time), np.inf)
    else:
        usd = np.asarray(cost_usd(gpu_hours(time, gpus), price) if q.num_steps is None else run_usd(time, gpus, price))
    return time, usd


def _within(q: SearchQuestion, found: Found, time: Array, usd: Array) -> NDArray[np.bool_]:
    """Mask of what keeps deadline and budget; the rest is counted."""
    ok = np.ones(len(time), dtype=bool)
    for limit, values, reason in ((q.deadline_s, time, TOO_LATE), (q.budget_usd, usd, TOO_DEAR)):
        if limit is not None:
            found.rejected[reason] += int(np.count_nonzero(ok & (values > limit)))
            ok &= values <= limit
    return ok


def _promising(rows: Rows, setup: int, top: int, new: _Columns, within: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask of what may enter the best or the front: never false for what is ``within`` the limits and belongs there."""
    value, time, headroom = new.value, new.time_s, new.headroom_bytes
    own = np.flatnonzero(rows.setup == setup)
    if len(rows) < top or not len(own):
        most = np.partition(np.where(within, value, np.inf), top - 1)[top - 1] if len(value) > top else np.inf
        order = np.lexsort((-headroom, time))
        front = np.empty(len(value), dtype=bool)
        front[order] = headroom[order] >= np.concatenate(([-np.inf], np.maximum.accumulate(headroom[order])[:-1]))
        return np.asarray((value <= most) | front)
    best = value <= rows.value[top - 1]
    order = own[np.argsort(rows.time_s[own], kind="stable")]
    most = np.concatenate(([-np.inf], np.maximum.accumulate(rows.headroom_bytes[order])))
    # equals stay: which of them is kept is for the ranking to say
    return np.asarray(best | (headroom >= most[np.searchsorted(rows.time_s[order], time, side="right")]))
