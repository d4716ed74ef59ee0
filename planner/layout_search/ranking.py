"""What a search keeps: the simplest of each group of equals, the best, the front in time, dollars and headroom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Array, Mask, Positions, distinct_values
from planner.workload.layout import FIELDS, Layouts, Schedule

NOISE = 0.02
"""Relative difference of predicted values that means nothing: repeated runs of one layout differ by as much (MLPerf Training
asks for several runs of each benchmark for that reason, mlcommons/training_policies, section 12)."""
STEPS = 8
"""Into how many steps a group is cut while a search goes on: bounds of groups are exact to NOISE / STEPS."""
NUM_GROUPS = 10
"""Groups whose simplest layouts are kept."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Layouts that keep the limits; arrays of shape ``(n,)``.

    ``setup`` numbers the cluster, framework and price; ``time_s`` and ``usd`` are of the whole run, of one step where the job
    has no length, on spot nodes with what preemptions take; ``usd`` is infinite without a price. ``value`` is the objective,
    less is better; ``rung`` the step of time by which rows of one setup and equal objective are told apart: where a term binds
    longer than the run, all cost the same. Of memory it is the step of the objective.
    """

    setup: Array
    layouts: Layouts
    step_time_s: Array
    peak_bytes: Array
    headroom_bytes: Array
    fit_probability: Array
    time_s: Array
    usd: Array
    value: Array
    rung: Array

    def __len__(self) -> int:
        return len(self.setup)

    def take(self, index: Positions) -> Rows:
        """The rows that ``index`` selects."""
        return Rows(layouts=self.layouts.take(index), **{name: getattr(self, name)[index] for name in COLUMNS})


COLUMNS = tuple(f.name for f in fields(Rows) if f.name != "layouts")
"""Names of the columns beside the layouts'."""


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows of several."""
    parts = [part for part in parts if len(part)] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    layouts = {name: np.concatenate([getattr(p.layouts, name) for p in parts]) for name in FIELDS}
    arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS}
    return Rows(layouts=Layouts(**layouts), **arrays)


def no_rows() -> Rows:
    """Nothing found yet."""
    empty = np.zeros(0)
    return Rows(layouts=Layouts(**dict.fromkeys(FIELDS, empty)), **dict.fromkeys(COLUMNS, empty))


def ranked(rows: Rows) -> Positions:
    """Best first: by objective, then time, dollars, headroom, cluster and layout, so that the order is the same always."""
    layout = [getattr(rows.layouts, name) for name in reversed(FIELDS)]
    return np.lexsort((*layout, rows.setup, -rows.headroom_bytes, rows.usd, rows.time_s, rows.value))


def recommended_first(rows: Rows) -> Rows:
    """Ranked ``rows`` with the recommended one, the simplest of the best group, before the others."""
    if not len(rows):
        return rows
    first = int(simplest_first(rows)[0])
    return rows.take(np.concatenate(([first], np.delete(np.arange(len(rows)), first))))


def steps_of(value: Array) -> Array:
    """The step of each value on a logarithmic ladder, STEPS to a group of width NOISE; values of zero are lowest."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.floor(np.log(value) / np.log1p(NOISE) * STEPS))


def groups_of(value: Array) -> Array:
    """The group of each value, 0 = the best: within NOISE of each other, they are equal for all we know."""
    return groups_of_steps(steps_of(value))


def groups_of_steps(steps: Array) -> Array:
    """The group of each step; values of zero are a group before all others."""
    some = steps > -np.inf
    groups = np.zeros(len(steps))
    groups[some] = np.floor((steps[some] - steps[some].min(initial=np.inf)) / STEPS) + (not some.all())
    return groups


def kinds(layouts: Layouts) -> Array:
    """How many kinds of parallelism and offload a layout takes: tensor, pipeline, context, expert, expert tensor, ZeRO within
    groups, offloaded states, offloaded activations."""
    x = layouts
    used: tuple[Mask, ...] = (
        x.tp > 1,
        x.pp > 1,
        x.cp > 1,
        x.ep > 1,
        x.etp > 1,
        x.shard_group_size > 0,
        x.offload_optimizer > 0,
        x.offload_activations > 0,
    )
    return np.asarray(sum((mask.astype(float) for mask in used), np.zeros(1)))


def complexity(layouts: Layouts) -> Array:
    """One number to compare layouts by what it takes to run them: kinds first, then offload, then the schedule.

    A schedule counts its virtual stages, and a zero-bubble schedule one more; of as many, less recomputation comes first (below
    one stage each). Of as many kinds, experts spread whole come before experts cut: larger multiplications, no gather behind the
    exchange (NVIDIA-NeMo/Megatron-Bridge, docs/training/moe-optimization.md: "Prefer EP over TP for expert layers").
    """
    away = layouts.offload_optimizer + layouts.offload_activations
    cut = (layouts.etp > 1).astype(float)
    switched = layouts.vpp + (layouts.schedule == Schedule.ZERO_BUBBLE) + 0.4 * layouts.recompute
    return np.asarray(1e6 * kinds(layouts) + 5e5 * cut + 1e5 * away + switched)


def simplest_first(rows: Rows) -> Positions:
    """Positions of ranked ``rows`` by group, speed within it, complexity, and room: the recommended one first, and each group's
    simplest."""
    groups = groups_of(rows.value)
    order = (np.arange(len(rows)), -rows.headroom_bytes, complexity(rows.layouts), _slower(rows, groups), groups)
    return np.lexsort(order)


def _slower(rows: Rows, groups: Array) -> Array:
    """By how many groups of time each row is behind the fastest of its own group."""
    _, number = np.unique(groups, return_inverse=True)
    least = np.full(int(number.max(initial=-1)) + 1, np.inf)
    np.minimum.at(least, number, rows.rung)
    # dollars and seconds of one setup step at different places: one step more than a group
    return np.asarray(np.floor((rows.rung - least[number]) / (STEPS + 1)))


def champions(rows: Rows) -> NDArray[np.bool_]:
    """Mask of the simplest of each setup and rung of ranked ``rows``: whatever the best turns out to be, the simplest of its
    group is one of them."""
    steps = rows.rung
    order = np.lexsort((np.arange(len(rows)), -rows.headroom_bytes, complexity(rows.layouts), steps, rows.setup))
    mask = np.zeros(len(rows), dtype=bool)
    if len(order):
        setup, step = rows.setup[order], steps[order]
        mask[order[np.concatenate(([True], (setup[1:] != setup[:-1]) | (step[1:] != step[:-1])))]] = True
    return mask


def front(rows: Rows) -> NDArray[np.bool_]:
    """Mask of the rows that no other row matches in time, dollars and headroom and beats in one; the first of equals.

    ``rows`` must be ranked. Of one setup dollars follow time, so that a running maximum of the headroom decides; what is
    left of several setups is compared in pairs.
    """
    kept = np.zeros(len(rows), dtype=bool)
    for setup in distinct_values(rows.setup):
        members = np.flatnonzero(rows.setup == setup)
        order = members[np.lexsort((members, -rows.headroom_bytes[members], rows.time_s[members]))]
        headroom = rows.headroom_bytes[order]
        before = np.concatenate(([-np.inf], np.maximum.accumulate(headroom)[:-1]))
        kept[order[headroom > before]] = True
    if len(distinct_values(rows.setup)) > 1:
        some = np.flatnonzero(kept)
        kept[some] = ~_dominated(np.stack([rows.time_s[some], rows.usd[some], -rows.headroom_bytes[some]]))
    return kept


def _dominated(costs: Array) -> NDArray[np.bool_]:
    """Mask of the points of ``costs``, shape (3, n), that another matches everywhere and beats once, or an earlier equals."""
    number = np.arange(costs.shape[1])
    result = np.zeros(costs.shape[1], dtype=bool)
    for i in number:
        matches = (costs <= costs[:, i : i + 1]).all(axis=0)
        better = (costs < costs[:, i : i + 1]).any(axis=0)
        result[i] = bool((matches & (better | (number < i))).any())
    return result


def best_of_setups(rows: Rows) -> Positions:
    """The recommended row of every setup, the simplest of its own best group; ``rows`` must be ranked."""
    members = [np.flatnonzero(rows.setup == setup) for setup in distinct_values(rows.setup)]
    return np.array([own[simplest_first(rows.take(own))[0]] for own in members], dtype=np.intp)


def ahead(steps: Array, groups: int) -> NDArray[np.bool_]:
    """Mask of the steps within the first so many groups."""
    least = steps.min(initial=np.inf)
    return np.asarray((steps == least) | (steps < least + groups * STEPS))


def pruned(rows: Rows, top: int) -> Rows:
    """The ``top`` best, the best of each setup, the front, and the simplest of each step of the best groups and of each setup's
    best group, ranked.

    The same for any order of the rows.
    """
    rows = rows.take(ranked(rows))
    keep = front(rows)
    keep[:top] = True
    steps = steps_of(rows.value)
    near = ahead(steps, NUM_GROUPS)
    for setup in distinct_values(rows.setup):
        own = np.flatnonzero(rows.setup == setup)
        keep[own[0]] = True
        near[own] |= ahead(steps[own], 1)
        near[own] &= ahead(rows.rung[own], NUM_GROUPS + 1)
    return rows.take(np.flatnonzero(keep | (champions(rows) & near)))
