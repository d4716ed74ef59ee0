"""`make notebooks`: runs the notebooks and keeps what they print and draw, so that a code host shows it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from doctools import AS_OF
from planner.common import clock

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
MEASURING = ("04-calibrate-this-machine.ipynb",)
"""Kept without outputs: they measure the machine that runs them."""
TIMEOUT_S = 300


def run(path: Path, folder: Path = FOLDER) -> Any:
    """The notebook with its outputs, run in ``folder``."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with mock.patch.dict(os.environ, {clock.VARIABLE: AS_OF}):
        NotebookClient(notebook, timeout=TIMEOUT_S, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def printed(notebook: Any) -> list[str]:
    """What each cell of code printed; pictures differ by a pixel from machine to machine."""
    return [
        "".join("".join(one["text"]) for one in cell["outputs"] if one["output_type"] == "stream")
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def main(names: Sequence[str]) -> None:
    """Run and write the notebooks, or those named."""
    import nbformat

    for path in sorted(FOLDER.glob("*.ipynb")):
        if path.name not in MEASURING and (not names or path.name in names):
            nbformat.write(run(path), path)
            print(f"wrote {path.relative_to(FOLDER.parent)}")


if __name__ == "__main__":
    main(sys.argv[1:])
