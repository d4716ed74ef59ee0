"""Search: every layout on every cluster, stack and price asked for; the best, the front, and why the others lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Array
from planner.common.errors import PlannerError
from planner.common.progress import Progress
from planner.hardware.cluster import host_usable_bytes, usable_bytes
from planner.layout_search.explore import Block, explore
from planner.layout_search.found import NO_HOST_MEMORY, NO_MEMORY, TOO_DEAR, TOO_LATE, Found
from planner.layout_search.question import SearchQuestion
from planner.layout_search.ranking import Rows, joined, pruned
from planner.layout_search.result import SearchResult
from planner.prices.price import cost_usd, gpu_hours

if TYPE_CHECKING:
    pass


def search_unit(q: SearchQuestion, unit: tuple[int, int], found: Found, progress: Callable[[int], None] | None = None) -> Found:
    """Search the layouts of one setup and tp into the empty ``found``; ``progress`` is told how many were looked at."""
    setup, tp = unit
    for explored in explore(q.setups[setup].grid, tp):
        found.num_layouts += explored.num_layouts
        found.num_possible += explored.num_layouts - sum(explored.rejected.values())
        found.rejected.update(explored.rejected)
        for block in explored.blocks:
            _keep(q, setup, block, found)
        if progress is not None:
            progress(found.num_layouts)
    return found


def run_search(q: SearchQuestion, progress: Progress | None = None) -> SearchResult:
    """Search in this process. Stopped by Ctrl-C it answers with what it has found."""
    found, size, complete = Found(), q.num_layouts, True
    for unit in q.units:
        part = Found()
        try:
            search_unit(q, unit, part, progress and (lambda done: progress(found.num_layouts + done, size)))
        except KeyboardInterrupt:
            complete = False
        found.merge(part, q.top)
        if not complete:
            break
    return answered(SearchResult(question=q, found=found, size=size, complete=complete))


def answered(result: SearchResult) -> SearchResult:
    """The result, or PlannerError saying why nothing is left."""
    found, q = result.found, result.question
    if len(found.rows) or not result.complete:
        return result
    parts = [f"{count:,} {reason}" for reason, count in found.rejected.most_common()]
    least = found.least
    hints = []
    if "peak_bytes" in least and not found.num_fitting:
        usable = max(usable_bytes(s.grid.cluster) for s in q.setups)
        hints.append(f"the leanest needs {least['peak_bytes'] / 2**30:.1f} GiB per GPU of {usable / 2**30:.1f} usable")
    if "time_s" in least and q.deadline_s is not None:
        hints.append(f"the fastest that fits takes {least['time_s'] / 86400:.2f} days")
    if "usd" in least and q.budget_usd is not None:
        hints.append(f"the cheapest that fits costs ${least['usd']:,.0f}")
    raise PlannerError(f"no layout is left of {found.num_layouts:,}: {'; '.join([*parts, *hints]) or 'the space is empty'}.")


def _keep(q: SearchQuestion, setup: int, block: Block, found: Found) -> None:
    """Count a block's layouts and keep those that may be best."""
    shape = block.layouts.shape
    cluster = q.setups[setup].grid.cluster
    headroom = usable_bytes(cluster) - block.summary.peak_bytes
    found.note("peak_bytes", np.where(block.possible, block.summary.peak_bytes, np.inf))
    ok = _narrowed(found, block.possible, headroom >= 0, NO_MEMORY, shape)
    host = block.summary.host_bytes
    ok = _narrowed(found, ok, (host == 0) | (host <= host_usable_bytes(cluster)), NO_HOST_MEMORY, shape)
    where = np.flatnonzero(np.broadcast_to(ok, shape))
    found.num_fitting += len(where)
    if not len(where):
        return
    at = np.unravel_index(where, shape)
    step, peak, free = (np.broadcast_to(x, shape)[at] for x in (block.summary.step_time_s, block.summary.peak_bytes, headroom))
    time, usd = _run(q, setup, step)
    found.note("time_s", time)
    found.note("usd", usd)
    value = {"time": time, "cost": usd, "memory": peak, "energy": time * q.setups[setup].power_w}[q.objective]
    kept = _within(q, found, time, usd) & _promising(found.rows, setup, q.top, value, time, free)
    if kept.any():
        index = np.flatnonzero(kept)
        new = Rows(
            setup=np.full(len(index), float(setup)),
            layouts=block.layouts.at(where[index]),
            step_time_s=step[index],
            peak_bytes=peak[index],
            headroom_bytes=free[index],
            time_s=time[index],
            usd=usd[index],
            value=value[index],
        )
        found.rows = pruned(joined([found.rows, new]), q.top)


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
    """(seconds, dollars) of the run, of one step where the job has no length."""
    price, gpus = q.setups[setup].price, q.setups[setup].grid.cluster.num_gpus
    time = step_s if q.num_steps is None else q.num_steps * step_s
    usd = np.full(len(time), np.inf) if price is None else np.asarray(cost_usd(gpu_hours(time, gpus), price))
    return time, usd


def _within(q: SearchQuestion, found: Found, time: Array, usd: Array) -> NDArray[np.bool_]:
    """Mask of what keeps deadline and budget; the rest is counted."""
    ok = np.ones(len(time), dtype=bool)
    for limit, values, reason in ((q.deadline_s, time, TOO_LATE), (q.budget_usd, usd, TOO_DEAR)):
        if limit is not None:
            found.rejected[reason] += int(np.count_nonzero(ok & (values > limit)))
            ok &= values <= limit
    return ok


def _promising(rows: Rows, setup: int, top: int, value: Array, time: Array, headroom: Array) -> NDArray[np.bool_]:
    """Mask of what may enter the best or the front: never false for what belongs there."""
    if len(rows) < top:
        return np.ones(len(value), dtype=bool)
    best = value <= rows.value[top - 1]
    own = np.flatnonzero(rows.setup == setup)
    if not len(own):
        return np.ones(len(value), dtype=bool)
    order = own[np.argsort(rows.time_s[own], kind="stable")]
    most = np.concatenate(([-np.inf], np.maximum.accumulate(rows.headroom_bytes[order])))
    # equals stay: which of them is kept is for the ranking to say
    return np.asarray(best | (headroom >= most[np.searchsorted(rows.time_s[order], time, side="right")]))
