"""A sweep as tasks on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.common.progress import Progress
from planner.common.ray_tasks import RETRIES, connected, result_of
from planner.scenarios.edited import Value
from planner.studies.sweep import SweepQuestion, evaluate_points

POINTS = 32
"""Points of a sweep in one task."""


def sweep_on_ray(
    q: SweepQuestion, points: Sequence[tuple[int, tuple[Value, ...]]], address: str | None, progress: Progress | None
) -> tuple[list[dict[str, Any]], bool]:
    """(rows in the order of ``points``, whether all were done) of a sweep, as tasks of a few points each."""
    ray = connected(address)
    task = ray.remote(max_retries=RETRIES)(evaluate_points)
    shared = ray.put(q)
    numbers = {task.remote(shared, list(points[i : i + POINTS])): i for i in range(0, len(points), POINTS)}
    done: dict[int, list[dict[str, Any]]] = {}
    waiting, complete = list(numbers), True
    try:
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1)
            done[numbers[ready[0]]] = result_of(ray, ready[0])
            if progress is not None:
                progress(sum(map(len, done.values())), len(points))
    except KeyboardInterrupt:
        complete = False
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
    return [row for number in sorted(done) for row in done[number]], complete
