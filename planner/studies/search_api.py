"""``planner.search``: a checked question, what [run] says of preemptions, a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from planner.common.arguments import as_progress
from planner.common.errors import near
from planner.common.progress import Progress
from planner.layout_search.api import run as run_with
from planner.layout_search.question import SearchTerms, as_question
from planner.lifecycle.spec import Run

if TYPE_CHECKING:
    import pandas as pd


def search(
    *,
    run: Run | Mapping[str, Any] | None = None,
    engine: str = "local",
    address: str | None = None,
    progress: Progress | None = None,
    **question: Unpack[SearchTerms],
) -> pd.DataFrame:
    """Evaluate every layout and return the best, the front and the best of each cluster as a DataFrame, best first.

    Takes what ``plan`` takes (``model, cluster, framework, job, price, risk, allow``; cluster, framework, price may be lists) and
    ``objective`` (cost, time, memory, energy), ``gpus`` and ``accelerators`` (lists; the cluster's own when left out),
    ``deadline_s``, ``budget_usd``, ``top``. ``run`` is what ``expected_run`` takes: where it says how often a spot node is
    preempted, rows of such nodes are ranked and held to the limits at what that leaves; failures strike nodes at every price and
    rank none. ``engine`` is "local" or "ray" (with ``address``).
    ``progress(done, size)`` is called as it goes on; Ctrl-C ends the search with what it has found (``attrs["complete"]`` is
    False). Columns: ``layout_search.table.frame``. The first row is what ``plan`` recommends.

    Raises PlannerError for bad input, a space of more than a billion layouts, and when nothing is left, with the reasons.
    """
    progress = as_progress(progress)
    for name in question:
        if name not in SearchTerms.__annotations__:
            raise TypeError(f"search() got an unexpected keyword argument {name!r}; {near(name, SearchTerms.__annotations__)}")
    spec = run.checked("run") if isinstance(run, Run) else Run.build({} if run is None else run, "run")
    asked = as_question(**question, recovery=spec.recovery())
    return run_with(asked, engine=engine, address=address, progress=progress).to_frame()
