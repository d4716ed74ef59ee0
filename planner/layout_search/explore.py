"""Evaluate every layout of a grid, a block at a time: memory and step time in the processor's cache, then the next block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Array, Mask, at_columns
from planner.layout_search.space import LayoutGrid, select, slices
from planner.performance.block_cost import BlockCosts
from planner.performance.evaluation import GridEvaluator, Summary
from planner.performance.feasibility import screen
from planner.performance.pipeline import Stage
from planner.workload.layout import Layout, Layouts

ELEMENTS = 65_536
"""Numbers in an array of one block, half a megabyte: many enough to pay for the calls, few enough for the caches."""
TOGETHER = 4096
"""Rows of parts whose operators are worked out together, about: their columns stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Evaluated layouts: columns, mask of the possible ones, memory, and step time once it is asked for; all broadcast against
    each other. Where nothing fits, and that is half of a large space, nobody asks how fast it would be."""

    layouts: Layouts
    possible: Mask
    summary: Summary
    evaluator: GridEvaluator
    costs: BlockCosts

    @cached_property
    def step_time_s(self) -> Array:
        """Seconds of one step."""
        return self.evaluator.step_time_s(self.layouts, self.costs, int(self.layouts.pp[0]), self.summary.held)

    def at(self, columns: Mask) -> Block:
        """The block at some positions of the last axis."""
        return replace(
            self,
            layouts=select(self.layouts, columns),
            possible=at_columns(self.possible, columns),
            summary=self.summary.at(columns),
            costs=self.costs.take(np.flatnonzero(columns)),
        )


@dataclass(frozen=True, kw_only=True)
class Explored:
    """Layouts of one (tp, pp) and equal stages: how many were looked at, how many break which rule, and the evaluated ones."""

    num_layouts: int
    rejected: dict[str, int]
    blocks: Iterator[Block]


@dataclass(frozen=True, kw_only=True)
class Part:
    """The rows of one ``tp``, for each ``pp``, with the costs of their blocks and each row's place among them."""

    evaluator: GridEvaluator
    costs: BlockCosts
    rows: list[Layouts]
    numbers: list[NDArray[np.intp]]


class Parts:
    """The parts of a grid by ``tp``. Operators of small parts are worked out together: it is the calls that take the time."""

    def __init__(self, grid: LayoutGrid) -> None:
        self.grid = grid
        self._evaluator = GridEvaluator(grid.question)
        self._made: dict[int, Part] = {}

    def part(self, tp: int, alone: bool = False) -> Part:
        """The part of ``tp``; with it those of the next degrees are made, up to TOGETHER rows, unless ``alone``."""
        made = self._made
        if tp not in made:
            made = self._made = self._make(tp, alone)
        return made[tp]  # not of the object, which another thread may have filled anew

    def _make(self, tp: int, alone: bool) -> dict[int, Part]:
        tps = self.grid.tps[self.grid.tps.index(tp) :]
        rows: dict[int, list[Layouts]] = {}
        for degree in tps[:1] if alone else tps:
            rows[degree] = [self.grid.rows(degree, pp) for pp in self.grid.pps(degree)]
            if sum(len(one) for several in rows.values() for one in several) > TOGETHER:
                break
        costs, numbers = self._evaluator.block_costs([one for several in rows.values() for one in several])
        place = iter(numbers)
        return {
            degree: Part(evaluator=self._evaluator, costs=costs, rows=several, numbers=[next(place) for _ in several])
            for degree, several in rows.items()
        }


def explore(grid: LayoutGrid, tp: int, parts: Parts | None = None) -> Iterator[Explored]:
    """All layouts of the grid with this ``tp``; ``parts`` of the grid, where others are asked for too. Raises PlannerError for
    what no layout can mend."""
    part = Parts(grid).part(tp, alone=True) if parts is None else parts.part(tp)
    evaluator, costs = part.evaluator, part.costs
    for rows, number in zip(part.rows, part.numbers, strict=True):
        for cut, schedules in grid.cuts(int(rows.pp[0])).items():
            layouts = grid.block(rows, schedules)
            possible, rejected = screen(grid.question, layouts)
            blocks = _blocks(evaluator, layouts, possible, costs, number, cut)
            yield Explored(num_layouts=prod(layouts.shape), rejected=rejected, blocks=blocks)


@lru_cache(maxsize=4)
def parts_of(grid: LayoutGrid) -> Parts:
    """The parts of the grid, kept for the next question about the same space."""
    return Parts(grid)


def leanest(grid: LayoutGrid) -> Layout | None:
    """The layout of the grid that needs least memory on its fullest GPU, the first of several; None where none is possible. How
    fast they are is not asked."""
    parts, least, found = parts_of(grid), np.inf, None
    for block in (block for tp in grid.tps for explored in explore(grid, tp, parts) for block in explored.blocks):
        shape = block.layouts.shape
        need = np.broadcast_to(np.where(block.possible, block.summary.peak_bytes, np.inf), shape)
        if float(need.min()) < least:
            least, found = float(need.min()), block.layouts.at(np.array([need.argmin()])).row(0)
    return found


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
        possible = at_columns(possible, kept)
    tails = prod(layouts.shape[:-1])
    for part in slices(len(number), tails, ELEMENTS):
        some = select(layouts, part)
        of_some = costs.take(number[part])
        summary = evaluator.summary(some, of_some, int(layouts.pp[0]), cut)
        where = at_columns(possible, part)
        yield Block(layouts=some, possible=where, summary=summary, evaluator=evaluator, costs=of_some)
