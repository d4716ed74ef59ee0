"""No test reads or writes the price table of the person who runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.prices.price import load_prices


@pytest.fixture(autouse=True)
def own_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's imported prices would go."""
    path = tmp_path / "own" / "prices.csv"
    monkeypatch.setenv("PLANNER_PRICES", str(path))
    load_prices.cache_clear()
    yield path
    load_prices.cache_clear()
