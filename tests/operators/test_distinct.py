"""Distinct combinations of columns: each row's own, one row of each, whether they are dense or sparse."""

from __future__ import annotations

import numpy as np
import pytest

from planner.operators.setting import distinct


@pytest.mark.parametrize(("columns", "values"), [(1, 3), (3, 4), (6, 40)])
def test_every_row_finds_its_combination_and_no_two_are_alike(columns: int, values: int) -> None:
    """Forty values in each of six columns are four thousand million combinations, too many for a table of them."""
    rows = np.random.default_rng(0).integers(0, values, size=(500, columns)).astype(float)
    first, inverse = distinct([rows[:, i] for i in range(columns)])
    assert (rows[first][inverse] == rows).all()
    assert len(first) == len(np.unique(rows, axis=0))
    assert sorted(set(inverse.tolist())) == list(range(len(first)))
