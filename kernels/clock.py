"""The host's clock: every budget and every host time reads it here, so that a test can put a clock of its own in its place."""

from __future__ import annotations

import time


def now() -> float:
    """Seconds of a steady clock."""
    return time.perf_counter()
