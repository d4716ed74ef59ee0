"""What a search keeps: the best layouts, the front in time, dollars and headroom, and the best of every cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Array, Positions
from planner.workload.layout import Layouts


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Layouts that fit and keep the limits; arrays of shape ``(n,)``.

    ``setup`` numbers the cluster, stack and price; ``time_s`` and ``usd`` are of the whole run, of one step where the job
    has no length; ``usd`` is infinite without a price. ``value`` is the objective, less is better.
    """

    setup: Array
    layouts: Layouts
    step_time_s: Array
    peak_bytes: Array
    headroom_bytes: Array
    time_s: Array
    usd: Array
    value: Array

    def __len__(self) -> int:
        return len(self.setup)

    def take(self, index: Positions) -> Rows:
        """The rows that ``index`` selects."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "layouts"}
        return Rows(layouts=self.layouts.take(index), **{name: array[index] for name, array in arrays.items()})


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows of several."""
    names = [f.name for f in fields(Rows) if f.name != "layouts"]
    layouts = {f.name: np.concatenate([getattr(p.layouts, f.name) for p in parts]) for f in fields(Layouts)}
    arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    return Rows(layouts=Layouts(**layouts), **arrays)


def no_rows() -> Rows:
    """Nothing found yet."""
    empty = np.zeros(0)
    names = [f.name for f in fields(Rows) if f.name != "layouts"]
    return Rows(layouts=Layouts(**{f.name: empty for f in fields(Layouts)}), **dict.fromkeys(names, empty))


def ranked(rows: Rows) -> Positions:
    """Best first: by objective, then time, dollars, headroom, cluster and layout, so that the order is the same always."""
    layout = [getattr(rows.layouts, f.name) for f in reversed(fields(Layouts))]
    return np.lexsort((*layout, rows.setup, -rows.headroom_bytes, rows.usd, rows.time_s, rows.value))


def front(rows: Rows) -> NDArray[np.bool_]:
    """Mask of the rows that no other row matches in time, dollars and headroom and beats in one; the first of equals.

    ``rows`` must be ranked. Of one setup dollars follow time, so that a running maximum of the headroom decides; what is
    left of several setups is compared in pairs.
    """
    kept = np.zeros(len(rows), dtype=bool)
    for setup in np.unique(rows.setup):
        members = np.flatnonzero(rows.setup == setup)
        order = members[np.lexsort((members, -rows.headroom_bytes[members], rows.time_s[members]))]
        headroom = rows.headroom_bytes[order]
        before = np.concatenate(([-np.inf], np.maximum.accumulate(headroom)[:-1]))
        kept[order[headroom > before]] = True
    if len(np.unique(rows.setup)) > 1:
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
    """The first row of every setup; ``rows`` must be ranked."""
    _, first = np.unique(rows.setup, return_index=True)
    return first


def pruned(rows: Rows, top: int) -> Rows:
    """The ``top`` best, the front and the best of every setup, ranked. The same for any order of the rows."""
    rows = rows.take(ranked(rows))
    keep = front(rows)
    keep[:top] = True
    keep[best_of_setups(rows)] = True
    return rows.take(np.flatnonzero(keep))
