"""The layout that fits with the fewest changes to one that does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.common.arrays import Array
from planner.hardware.cluster import host_usable_bytes
from planner.layout_search.explore import explore
from planner.layout_search.question import MAX_LAYOUTS
from planner.layout_search.space import EVERYTHING, LayoutGrid
from planner.performance.risk import RISK, fit_rule
from planner.workload.layout import RECOMPUTE, Layout, Layouts
from planner.workload.question import Question

WEIGHTS = {
    "micro_batch_size": 1.0,
    "recompute": 1.0,
    "sequence_parallel": 0.5,
    "zero": 1.0,
    "tp": 2.0,
    "pp": 2.0,
    "vpp": 1.0,
    "cp": 2.0,
    "ep": 2.0,
    "etp": 2.0,
    "shard_group_size": 1.0,
    "offload_optimizer": 2.0,
    "offload_activations": 2.0,
}
"""What changing a field counts: those that cost little count less."""


def changes(layouts: Layouts, wanted: Layout) -> Array:
    """How far each layout is from ``wanted``, the WEIGHTS of what differs; broadcasts as the columns of ``layouts`` do."""
    total: Array = np.zeros(1)
    for name, weight in WEIGHTS.items():
        value = getattr(wanted, name)
        number = float(RECOMPUTE.index(value)) if name == "recompute" else float(value)
        total = total + weight * (getattr(layouts, name) != number)
    return total


def nearest_fitting(q: Question, wanted: Layout, risk: float = RISK) -> tuple[Layout | None, float]:
    """(the layout that fits at the accepted risk with the fewest changes, the fastest of equals; least bytes any layout needs).

    Usual layouts first; None only after all others were looked at too.
    """
    usual = LayoutGrid(question=q, allow=frozenset())
    found, least = _nearest(usual, wanted, risk)
    every = replace(usual, allow=EVERYTHING)
    if found is None and sum(every.size(tp) for tp in every.tps) <= MAX_LAYOUTS:
        return _nearest(every, wanted, risk)
    return found, least


def _nearest(grid: LayoutGrid, wanted: Layout, risk: float) -> tuple[Layout | None, float]:
    rule = fit_rule(grid.question, risk)
    host = host_usable_bytes(grid.question.cluster)
    best: tuple[float, float] = (np.inf, np.inf)
    nearest, least = None, np.inf
    for block in (b for tp in grid.tps for e in explore(grid, tp) for b in e.blocks):
        summary, shape = block.summary, block.layouts.shape
        hosted = block.possible & ((summary.host_bytes == 0) | (summary.host_bytes <= host))
        least = min(least, float(np.where(hosted, summary.peak_bytes, np.inf).min()))
        fits = hosted & rule.holds(summary.firm_bytes, summary.states_bytes)
        if not fits.any():
            continue
        away = np.broadcast_to(np.where(fits, changes(block.layouts, wanted), np.inf), shape)
        if away.min() > best[0]:
            continue
        seconds = np.where(away == away.min(), np.broadcast_to(block.step_time_s, shape), np.inf)
        at = int(np.argmin(seconds))
        here = (float(away.min()), float(seconds.ravel()[at]))
        if here < best:
            best, nearest = here, block.layouts.at(np.array([at])).row(0)
    return nearest, least
