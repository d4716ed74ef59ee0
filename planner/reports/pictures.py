"""Figures of matplotlib to files, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planner.common.errors import PlannerError
from planner.common.files import write_whole


def pyplot() -> Any:
    """matplotlib's pyplot, drawing into files without a screen."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def save_figure(figure: Any, path: Path, option: str = "--plot ", dpi: int = 110) -> None:
    """Write a figure as PNG, SVG or PDF; PlannerError for another suffix or a place that cannot be written."""
    known = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise PlannerError(
            "{0}{1}: {2} is no format of pictures; give a .png, .svg or .pdf path.", option, path, path.suffix or "no suffix"
        )
    try:
        write_whole(path, lambda temporary: figure.savefig(temporary, dpi=dpi))
    except PlannerError as error:
        raise PlannerError("{0}{1}", option, error) from None
