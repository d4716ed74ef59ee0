"""A search with an engine: on the cores of this machine, or on a Ray cluster."""

from __future__ import annotations

from planner.common.errors import PlannerError
from planner.common.progress import Progress
from planner.layout_search.on_cores import run_on_cores
from planner.layout_search.on_ray import run_on_ray
from planner.layout_search.question import SearchQuestion
from planner.layout_search.result import SearchResult


def run(
    q: SearchQuestion, *, engine: str = "local", address: str | None = None, progress: Progress | None = None
) -> SearchResult:
    """Search with an engine: "local" on the cores of this machine, "ray" on a Ray cluster; both give the same answer."""
    if engine == "local":
        if address is not None:
            raise PlannerError("address = {0!r}: belongs to engine = 'ray'.", address)
        return run_on_cores(q, progress)
    if engine != "ray":
        raise PlannerError("engine = {0!r}: must be local or ray.", engine)
    return run_on_ray(q, address, progress)
