"""Folders that tests read: the repository, its data, scenarios and pages; which test files take long, how long tests wait."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
SCENARIOS = ROOT / "scenarios"
DOCS = ROOT / "docs"
PATIENCE_S = 300.0
"""How long a test waits for what must come, before it gives up: no test says how fast anything is (a benchmark does)."""
SLOWEST = (
    "tests/web/test_web_browser.py",
    "tests/web/test_web_tasks.py",
    "tests/calibration/test_calibration.py",
    "tests/layout_search/test_search.py",
    "tests/test_notebooks.py",
    "tests/layout_search/test_layout_grid.py",
    "tests/evidence/test_published_runs.py",
)
"""Files that take half a minute and more: each goes to one worker, and no other should wait for it at the end."""
