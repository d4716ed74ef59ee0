"""How long work tells those who wait how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""``progress(done, size)``, called as the work goes on."""
