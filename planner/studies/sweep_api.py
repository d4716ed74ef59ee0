"""``planner.sweep``: a checked question, an engine, a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.common.arguments import as_progress
from planner.common.errors import PlannerError
from planner.common.progress import Progress
from planner.performance.risk import RISK
from planner.scenarios.edited import Value
from planner.studies.sweep import MEASURES, SweepQuestion, as_sweep, evaluate_points
from planner.studies.sweep_on_ray import sweep_on_ray

if TYPE_CHECKING:
    import pandas as pd


POINTS = 1024
"""Points worked out together where each has its layout: about a second's. Without a layout a point is a search."""


def run_sweep(
    q: SweepQuestion, *, engine: str = "local", address: str | None = None, progress: Progress | None = None
) -> pd.DataFrame:
    """Evaluate all points; Ctrl-C keeps the rows that are done (``attrs["complete"]``). PlannerError when every point fails."""
    points = q.points()
    rows: list[dict[str, Any]] = []
    complete = True
    if engine == "ray":
        rows, complete = sweep_on_ray(q, points, address, progress)
    elif engine != "local":
        raise PlannerError("engine = {0!r}: must be local or ray.", engine)
    elif address is not None:
        raise PlannerError("address = {0!r}: belongs to engine = 'ray'.", address)
    else:
        try:
            several = POINTS if q.has_layouts else 1
            for start in range(0, len(points), several):
                for row in evaluate_points(q, points[start : start + several]):
                    rows.append(row)
                    if progress is not None:
                        progress(len(rows), len(points))
        except KeyboardInterrupt:
            complete = False
    return _table(q, rows, complete, len(points))


def _table(q: SweepQuestion, rows: list[dict[str, Any]], complete: bool, size: int) -> pd.DataFrame:
    import pandas as pd

    if rows and all("fits" not in row for row in rows):
        if len(rows) == 1:
            raise PlannerError("no point can be: {0}", rows[0]["error"])
        raise PlannerError("none of {0:,} points is possible; the first: {1}", len(rows), rows[0]["error"])
    columns = ["case", *q.keys, *MEASURES, "tokens_per_usd", "framework", "layout", "error"]
    table = pd.DataFrame([{"fits": False, **row} for row in rows], columns=columns)
    table.attrs.update({"complete": complete, "num_points": size, "notes": list(q.notes)})
    return table


def sweep(
    scenario: str | Path | Mapping[str, Any],
    vary: Mapping[str, Sequence[Value]],
    *,
    risk: float = RISK,
    allow: Iterable[str] = (),
    engine: str = "local",
    address: str | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Evaluate a scenario over a grid of changed fields; a DataFrame with one row a case and point, SI units.

    ``scenario`` is a file, or the tables ``plan`` takes; ``vary`` maps ``table.field`` to values: fields of a scenario's
    tables, ``accelerator.FIELD`` and ``link.NAME.FIELD``. Without a layout each point takes the one that ``plan`` chooses
    at ``risk`` and with ``allow``. A point that cannot be, or does not fit, says why in ``error``. Raises PlannerError for
    unknown tables, more than a million points, and when no point can be.
    """
    progress = as_progress(progress)
    return run_sweep(as_sweep(scenario, vary, risk=risk, allow=allow), engine=engine, address=address, progress=progress)
