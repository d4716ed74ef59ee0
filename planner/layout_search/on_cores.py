"""A large search on all cores of this machine: one process a core, one task for each setup and tp."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool

from planner.common.processes import copies, end_with_parent, may_copy, spare_cores
from planner.common.progress import Progress
from planner.layout_search.found import Found
from planner.layout_search.question import SearchQuestion
from planner.layout_search.result import SearchResult
from planner.layout_search.search import answered, search_all, search_unit, searched

WORTH_LAYOUTS = 2_000_000
"""Half a second to a second of one core; a process more costs some 20 ms."""

PULSE_S = 0.3
"""So often progress is told while nothing is done: whoever waits may have had enough."""

_ASKED: list[SearchQuestion] = []
"""The question, which processes inherit."""


def run_on_cores(q: SearchQuestion, progress: Progress | None = None) -> SearchResult:
    """``run_search`` with the same answer: merging does not depend on the order of the parts. Small spaces are searched here.

    Stopped by Ctrl-C it answers with the parts that were done. Raises PlannerError when nothing is left.
    """
    return answered(search_all(q, lambda part: searched_on_cores(part, progress, spare_cores())))


def searched_on_cores(q: SearchQuestion, progress: Progress | None, cores: int, worth: int = WORTH_LAYOUTS) -> SearchResult:
    """What the question's own space holds, searched by ``cores`` processes where it has ``worth`` layouts or more.

    By this process alone where it may not be copied: its copies inherit what is loaded.
    """
    size, units = q.num_layouts, largest_first(q)
    if cores < 2 or size < worth or len(units) < 2 or not may_copy():
        return searched(q, progress)
    found, complete = Found(), True
    before = set(multiprocessing.active_children())
    _ASKED[:] = [q]
    pool = copies(min(cores, len(units)), end_with_parent)
    try:
        waiting = {pool.submit(_unit, unit) for unit in units}
        while waiting:
            done, waiting = wait(waiting, PULSE_S, FIRST_COMPLETED)
            for future in done or (None,):
                if future is not None:
                    found.merge(future.result(), q.top)
                if progress is not None:
                    progress(found.num_layouts, size)
    except KeyboardInterrupt:
        complete = False
    except BrokenProcessPool:  # one was killed, for memory or by somebody: here each part is searched after the other
        return searched(q, progress)
    finally:
        _ASKED.clear()
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        pool.shutdown(cancel_futures=True)
    return SearchResult(question=q, found=found, size=size, complete=complete)


def largest_first(q: SearchQuestion) -> list[tuple[int, int]]:
    """The units by size, so that no long one is begun last."""
    return sorted(q.units, key=lambda unit: (-q.setups[unit[0]].grid.size(unit[1]), unit))


def _unit(unit: tuple[int, int]) -> Found:
    return search_unit(_ASKED[0], unit, Found())
