"""Folders that tests read: the repository, its data, scenarios and pages."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
SCENARIOS = ROOT / "scenarios"
DOCS = ROOT / "docs"
