"""Every notebook runs from top to bottom, ends in asserts, and holds what it prints: `make notebooks` writes that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from doctools.notebooks import FOLDER, MEASURING, printed

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
RUN = """
import json, sys
from pathlib import Path
from doctools.notebooks import printed, run
print(json.dumps(printed(run(Path(sys.argv[1])))))
"""


def test_there_are_notebooks() -> None:
    assert [p.name[:2] for p in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_ends_in_asserts_and_keeps_what_every_machine_prints(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert "assert " in "".join(code[-1]["source"])
    outputs = [one for cell in code for one in cell["outputs"]]
    if path.name in MEASURING:
        assert not outputs
        return
    assert any("image/png" in one.get("data", {}) for one in outputs)
    assert not any(one["output_type"] == "error" or one.get("name") == "stderr" for one in outputs)
    assert path.stat().st_size < 500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_and_prints_what_it_holds(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", RUN, path], capture_output=True, text=True, check=False, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    if path.name not in MEASURING:
        assert json.loads(done.stdout) == printed(json.loads(path.read_text(encoding="utf-8"))), "make notebooks"
