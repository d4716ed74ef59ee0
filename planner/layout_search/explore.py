"""Evaluate every layout of a grid, a block at a time: memory and step time in the processor's cache, then the next block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Array, Mask, at_columns
from planner.layout_search.space import BESIDE_ROWS, LayoutGrid, select, side_by_side, slices
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
    """Layouts of one pp, with equal stages and shardings: how many were looked at, how many break which rule, and the evaluated
    ones."""

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

    def __init__(self, grid: LayoutGrid, batches: Sequence[tuple[int, ...]] | None = None) -> None:
        self.grid = grid
        self.batches = _batches(grid) if batches is None else batches
        of_rows = replace(grid, allow=grid.allow - BESIDE_ROWS)
        self._same = parts_of(of_rows) if batches is None and of_rows != grid else None
        self._evaluator = GridEvaluator(grid.question)
        self._made: dict[int, Part] = {}

    def batch(self, tp: int) -> dict[int, Part]:
        """The parts made together with that of ``tp``, which share their costs; those of a grid with the same rows, if any."""
        if self._same is not None:
            return self._same.batch(tp)
        made = self._made
        if tp not in made:
            made = self._made = self._make(next(batch for batch in self.batches if tp in batch))
        return made  # not the object's, which another thread may have filled anew

    def _make(self, tps: tuple[int, ...]) -> dict[int, Part]:
        rows = {tp: [self.grid.rows(tp, pp) for pp in self.grid.pps(tp)] for tp in tps}
        costs, numbers = self._evaluator.block_costs([one for several in rows.values() for one in several])
        place = iter(numbers)
        return {
            tp: Part(evaluator=self._evaluator, costs=costs, rows=several, numbers=[next(place) for _ in several])
            for tp, several in rows.items()
        }


def _batches(grid: LayoutGrid) -> list[tuple[int, ...]]:
    """The grid's tps; those before the last of a batch have up to TOGETHER rows."""
    batches: list[tuple[int, ...]] = []
    size = math.inf
    for tp in grid.tps:
        batches = [*batches[:-1], (*batches[-1], tp)] if size <= TOGETHER else [*batches, (tp,)]
        size = (size if len(batches[-1]) > 1 else 0) + sum(grid.num_rows(tp, pp) for pp in grid.pps(tp))
    return batches


def explore(grid: LayoutGrid, *tps: int, parts: Parts | None = None) -> Iterator[Explored]:
    """All layouts of the grid with one of these ``tps``, those of one pp together; of one batch of ``parts`` of the grid, where
    others are asked for too. Raises PlannerError for what no layout can mend."""
    made = (Parts(grid, [tps]) if parts is None else parts).batch(tps[0])
    alike: dict[tuple[int, tuple[tuple[int, int], ...]], list[tuple[Layouts, NDArray[np.intp]]]] = {}
    for part in (made[tp] for tp in tps):
        for rows, number in zip(part.rows, part.numbers, strict=True):
            alike.setdefault((int(rows.pp[0]), grid.shardings(rows)), []).append((rows, number))
    for (pp, _), several in alike.items():
        rows, number = side_by_side([rows for rows, _ in several]), np.concatenate([number for _, number in several])
        for cut, schedules in grid.cuts(pp).items():
            layouts = grid.block(rows, schedules)
            possible, rejected = screen(grid.question, layouts)
            blocks = _blocks(part.evaluator, layouts, possible, part.costs, number, cut)
            yield Explored(num_layouts=math.prod(layouts.shape), rejected=rejected, blocks=blocks)


@lru_cache(maxsize=4)
def parts_of(grid: LayoutGrid) -> Parts:
    """The parts of the grid, kept for the next question about the same space."""
    return Parts(grid)


def leanest(grid: LayoutGrid) -> Layout | None:
    """The layout of the grid that needs least memory on its fullest GPU, the first of several; None where none is possible. How
    fast they are is not asked."""
    parts, least, found = parts_of(grid), np.inf, None
    for block in (block for tp in grid.tps for explored in explore(grid, tp, parts=parts) for block in explored.blocks):
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
    tails = math.prod(layouts.shape[:-1])
    for part in slices(len(number), tails, ELEMENTS):
        some = select(layouts, part)
        of_some = costs.take(number[part])
        summary = evaluator.summary(some, of_some, int(layouts.pp[0]), cut)
        where = at_columns(possible, part)
        yield Block(layouts=some, possible=where, summary=summary, evaluator=evaluator, costs=of_some)
