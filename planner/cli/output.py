"""What commands share: JSON and tables on standard output, plot paths that can be written."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from planner.common.errors import PlannerError
from planner.common.files import require_folder


def print_json(value: Any) -> None:
    """JSON on standard output, nothing else."""
    print(json.dumps(plain(value), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """Values that JSON can hold; a number that is not finite becomes null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def show(*renderables: Any) -> None:
    """Tables on standard output, as wide as the terminal."""
    from rich.console import Console

    console = Console(soft_wrap=False) if sys.stdout.isatty() else Console(width=180)
    for renderable in renderables:
        console.print(renderable)


def check_plot(path: Path | None) -> None:
    """Refuse a plot path before any work is done."""
    if path is None:
        return
    if path.suffix.lower() not in {".png", ".svg", ".pdf"}:
        raise PlannerError(f"--plot {path}: give a path that ends in .png, .svg or .pdf.")
    require_folder(path, "--plot")
