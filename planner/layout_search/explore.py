"""Evaluate every layout of a grid, a block at a time: memory and step time in the processor's cache, then the next block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Mask
from planner.layout_search.space import LayoutGrid, select, slices
from planner.performance.block_cost import BlockCosts
from planner.performance.evaluation import GridEvaluator, Summary
from planner.performance.feasibility import screen
from planner.performance.pipeline import Stage
from planner.workload.layout import Layouts
from planner.workload.question import Question

ELEMENTS = 65_536
"""Numbers in an array of one block, half a megabyte: many enough to pay for the calls, few enough for the caches."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Evaluated layouts: columns, mask of the possible ones, memory and step time; all broadcast against each other."""

    layouts: Layouts
    possible: Mask
    summary: Summary


@dataclass(frozen=True, kw_only=True)
class Explored:
    """Layouts of one (tp, pp) and equal stages: how many were looked at, how many break which rule, and the evaluated ones."""

    num_layouts: int
    rejected: dict[str, int]
    blocks: Iterator[Block]


def explore(grid: LayoutGrid, tp: int) -> Iterator[Explored]:
    """All layouts of the grid with this ``tp``. Raises PlannerError for what no layout can mend."""
    evaluator = GridEvaluator(grid.model, grid.cluster, grid.framework, grid.job)
    parts = [grid.rows(tp, pp) for pp in grid.pps(tp)]
    costs, numbers = evaluator.block_costs(parts)
    for rows, number in zip(parts, numbers, strict=True):
        for cut, schedules in grid.cuts(int(rows.pp[0])).items():
            layouts = grid.block(rows, schedules)
            question = Question(model=grid.model, cluster=grid.cluster, framework=grid.framework, job=grid.job, layouts=layouts)
            possible, rejected = screen(question)
            blocks = _blocks(evaluator, layouts, possible, costs, number, cut)
            yield Explored(num_layouts=prod(layouts.shape), rejected=rejected, blocks=blocks)


def _blocks(
    evaluator: GridEvaluator,
    layouts: Layouts,
    possible: Mask,
    costs: BlockCosts,
    number: NDArray[np.intp],
    cut: tuple[Stage, ...],
) -> Iterator[Block]:
    kept = np.broadcast_to(possible.any(axis=tuple(range(possible.ndim - 1))), number.shape)
    if not kept.any():
        return
    if not kept.all():
        layouts, number = select(layouts, kept), number[kept]
        possible = possible[..., kept] if possible.shape[-1] > 1 else possible
    tails = prod(layouts.shape[:-1])
    for part in slices(len(number), tails, ELEMENTS):
        some = select(layouts, part)
        summary = evaluator.summary(some, costs.take(number[part]), int(layouts.pp[0]), cut)
        yield Block(layouts=some, possible=possible[..., part] if possible.shape[-1] > 1 else possible, summary=summary)
