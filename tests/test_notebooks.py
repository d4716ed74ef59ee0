"""Every notebook runs from top to bottom, ends in asserts, and holds what it prints: `make notebooks` writes that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from doctools.notebooks import FOLDER, MEASURING, printed
from kernels.__main__ import parser

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
RUN = """
import json, sys
from pathlib import Path
from doctools.notebooks import printed, run
print(json.dumps(printed(run(*map(Path, sys.argv[1:])))))
"""
HARNESS = """
import json, shutil, sys
from pathlib import Path
Path("asked.json").write_text(json.dumps(sys.argv[1:]))
shutil.copy("tests/data/cpu-record.json", sys.argv[sys.argv.index("--out") + 1])
"""
"""In place of a minute's measurement, which tests/calibration makes once: the stored record."""


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
def test_a_notebook_reads_nothing_beside_it(path: Path) -> None:
    """One that was downloaded alone runs from any folder: what it reads is named, not found by a path."""
    code = [c["source"] for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    assert not [line for source in code for line in source if "../" in line]


def executed(path: Path, folder: Path) -> list[str]:
    """What the notebook's cells print, run in ``folder`` in a process of its own."""
    done = subprocess.run([sys.executable, "-c", RUN, path, folder], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.name not in MEASURING], ids=lambda p: p.stem)
def test_a_notebook_runs_from_an_empty_folder_and_prints_what_it_holds(path: Path, tmp_path: Path) -> None:
    assert executed(path, tmp_path) == printed(json.loads(path.read_text(encoding="utf-8"))), "make notebooks"


def test_a_notebook_that_measures_runs_on_a_stored_record(tmp_path: Path) -> None:
    folder, harness = tmp_path / "notebooks", tmp_path / "kernels"
    folder.mkdir()
    harness.mkdir()
    (harness / "__init__.py").touch()
    (harness / "__main__.py").write_text(HARNESS)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    for name in MEASURING:
        executed(FOLDER / name, folder)
        asked = parser().parse_args(json.loads((tmp_path / "asked.json").read_text()))
        assert (asked.command, asked.device) == ("run", "cpu")
