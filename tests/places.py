"""Folders that tests read: the repository, its data, scenarios and pages; and which test files take long."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
SCENARIOS = ROOT / "scenarios"
DOCS = ROOT / "docs"
SLOWEST = (
    "tests/web/test_web_browser.py",
    "tests/calibration/test_calibration.py",
    "tests/layout_search/test_search.py",
    "tests/test_notebooks.py",
    "tests/layout_search/test_layout_grid.py",
    "tests/evidence/test_published_runs.py",
)
"""Files that take half a minute and more: each goes to one worker, and no other should wait for it at the end."""
