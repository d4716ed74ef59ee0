"""Types of the numbers that broadcast: float64 columns over layouts, masks and positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""float64; one number a layout, or what broadcasts to it."""
Number = Array | float
"""One number, or one for each layout."""
Mask = NDArray[np.bool_]
"""True where it holds."""
Positions = NDArray[np.intp]
"""Indices of rows."""


def at_columns(values: NDArray[Any], columns: Mask | Positions | slice) -> NDArray[Any]:
    """Values at some positions of the last axis, along which they may broadcast."""
    return values[..., columns] if values.shape[-1] > 1 else values


def at_index(values: NDArray[Any], index: tuple[Positions, ...]) -> NDArray[Any]:
    """Values at an index into the shape that they broadcast to, without the broadcast array; shape that of the positions."""
    if values.size == 1:
        return np.full(index[-1].shape, values.flat[0], dtype=values.dtype)
    last = index[len(index) - values.ndim :]
    return np.asarray(values[tuple(at if size > 1 else 0 for at, size in zip(last, values.shape, strict=True))])


def percentiles(values: Array, percents: Sequence[float]) -> Array:
    """Percentiles of a column, linear between its ordered values: ``np.percentile``, without loading masked arrays.

    >>> percentiles(np.array([4.0, 1.0, 3.0]), (0.0, 50.0, 75.0)).tolist()
    [1.0, 3.0, 3.5]
    """
    ordered = np.sort(values, axis=None)
    place = np.asarray(percents, dtype=float) / 100.0 * (len(ordered) - 1)
    below = np.minimum(place.astype(np.intp), max(len(ordered) - 2, 0))
    low, high, part = ordered[below], ordered[np.minimum(below + 1, len(ordered) - 1)], place - below
    return np.asarray(np.where(part < 0.5, low + (high - low) * part, high - (high - low) * (1.0 - part)))


def distinct_values(values: NDArray[Any]) -> NDArray[Any]:
    """The values that occur in a column, each once, in order: ``np.unique`` of numbers, without loading masked arrays.

    >>> distinct_values(np.array([3, 1, 3])).tolist()
    [1, 3]
    """
    ordered = np.sort(values, axis=None)
    first = np.ones(ordered.shape, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]
