"""``planner.search``: a checked question, an engine, a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from planner.common.arguments import as_progress
from planner.common.errors import PlannerError, near
from planner.common.progress import Progress
from planner.layout_search.on_cores import run_on_cores
from planner.layout_search.on_ray import run_on_ray
from planner.layout_search.question import SearchQuestion, SearchTerms, as_question
from planner.layout_search.result import SearchResult

if TYPE_CHECKING:
    import pandas as pd


def search(
    *, engine: str = "local", address: str | None = None, progress: Progress | None = None, **question: Unpack[SearchTerms]
) -> pd.DataFrame:
    """Evaluate every layout and return the best, the front and the best of each cluster as a DataFrame, best first.

    Takes what ``plan`` takes (``model, cluster, framework, job, price, risk, allow``; framework and price may be lists) and
    ``objective`` (cost, time, memory, energy), ``gpus`` and ``accelerators`` (lists; the cluster's own when left out),
    ``deadline_s``, ``budget_usd``, ``top``, ``preemption_mtbf_s`` (mean seconds between preemptions of one spot node: its rows
    are ranked and held to the limits at what these leave). ``engine`` is "local" or "ray" (with ``address``).
    ``progress(done, size)`` is called as it goes on; Ctrl-C ends the search with what it has found (``attrs["complete"]`` is
    False). Columns: ``layout_search.table.frame``. The first row is what ``plan`` recommends.

    Raises PlannerError for bad input, a space of more than a billion layouts, and when nothing is left, with the reasons.
    """
    progress = as_progress(progress)
    for name in question:
        if name not in SearchTerms.__annotations__:
            raise TypeError(f"search() got an unexpected keyword argument {name!r}; {near(name, SearchTerms.__annotations__)}")
    return run(as_question(**question), engine=engine, address=address, progress=progress).to_frame()


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
