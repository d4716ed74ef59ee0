"""A search as tasks on a Ray cluster."""

from __future__ import annotations

from typing import Any

from planner.common.progress import Progress
from planner.common.ray_tasks import RETRIES, connected, result_of
from planner.layout_search.found import Found
from planner.layout_search.on_cores import largest_first
from planner.layout_search.question import SearchQuestion
from planner.layout_search.result import SearchResult
from planner.layout_search.search import answered, search_all, search_unit


def run_on_ray(q: SearchQuestion, address: str | None = None, progress: Progress | None = None) -> SearchResult:
    """Search on the Ray cluster at ``address`` ("auto" finds a running one; None starts one on this machine).

    Partial fronts are merged as tasks end; merging does not depend on their order, so the answer is that of the local
    search. Raises PlannerError when Ray is not installed or not reachable, or a unit's workers keep dying.
    """
    ray = connected(address)
    return answered(search_all(q, lambda part: _searched(ray, part, progress)))


def _searched(ray: Any, q: SearchQuestion, progress: Progress | None) -> SearchResult:
    task = ray.remote(max_retries=RETRIES)(_unit)
    shared = ray.put(q)
    waiting = [task.remote(shared, unit) for unit in largest_first(q)]
    found, size, complete = Found(), q.num_layouts, True
    try:
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1)
            found.merge(result_of(ray, ready[0]), q.top)
            if progress is not None:
                progress(found.num_layouts, size)
    except KeyboardInterrupt:
        complete = False
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
    return SearchResult(question=q, found=found, size=size, complete=complete)


def _unit(q: SearchQuestion, unit: tuple[int, int]) -> Found:
    return search_unit(q, unit, Found())
