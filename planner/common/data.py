"""Where the files lie that the package reads: the one place that knows.

In a clone ``hardware_profiles/``, ``scenarios/`` and ``kernels/`` stand beside ``planner/``; in an installed package they lie
in ``planner/shipped/``. The catalog is inside the package in both.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package ``planner``."""
CATALOG = PACKAGE / "catalog"
"""Models, frameworks, engines, prices, claims and fitted tables."""
_SHIPPED = PACKAGE / "shipped"
INSTALLED = _SHIPPED.is_dir()
"""Whether this is an installed package, no clone."""
ROOT = _SHIPPED if INSTALLED else PACKAGE.parent
"""What holds ``hardware_profiles``, ``scenarios`` and ``kernels``."""
PROFILES = ROOT / "hardware_profiles"
"""Accelerators, nodes and measured curves."""
SCENARIOS = ROOT / "scenarios"
"""Ready-made questions; those of ``planner serve`` in ``serving/``."""
