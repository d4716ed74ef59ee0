"""The call that a borrowed GPU gets, as it is typed there: a machine with torch and numpy alone, the device pretended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from places import PATIENCE_S, ROOT

from kernels import record as records
from kernels.__main__ import main, unusable

SITE = """
import importlib.machinery, sys
ABSENT = {"pydantic", "scipy", "pandas", "pyarrow", "matplotlib", "typer", "rich", "planner", "pytest"}
real = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.split(".")[0] in ABSENT else real(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
if "--worker" in sys.orig_argv:
    from pretended_cuda import CARDS, Pretended
    Pretended(CARDS["h200-sxm-141gb"]).__enter__()
elif "kernels" in " ".join(sys.orig_argv):  # which asks only whether there is one, and starts the worker
    import torch
    torch.cuda.is_available = lambda: True
"""


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of its processes: the parent and the worker that it starts."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    paths = [str(tmp_path / "site"), str(ROOT / "tests"), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def call(out: Path, only: str, budget: str) -> list[str]:
    line = f"-m kernels run --budget {budget} --out {out} --only {only} --seed 0"
    return [sys.executable, *line.split()]


def test_the_call_measures_with_torch_and_numpy_alone(machine: dict[str, str], tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "a.json"
    done = subprocess.run(call(out, "memory", "1h"), env=machine, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = records.read(out)
    assert record["finished"]
    assert record["device"]["name"] == "NVIDIA H200"
    assert {s["family"] for s in record["samples"] if s["status"] == "measured"} == {"memory"}
    assert record["command"] == ["run", "--budget", "1h", "--out", "a.json", "--only", "memory", "--seed", "0"]
    assert record["device"]["elapsed_s"] > 0.3, "the worker's start counts: the budget is for everything"
    assert [p.name for p in tmp_path.iterdir() if p.name != "site"] == ["a.json"]
    assert main(["show", str(out)]) == 0
    assert "GB/s" in capsys.readouterr().out


def _runs(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_end_in_the_middle_leaves_a_record_and_no_process(machine: dict[str, str], tmp_path: Path) -> None:
    """``timeout -s INT`` tells the whole group, twice; the record stays whole, and nothing is left on the device."""
    out = tmp_path / "b.json"
    command = ["timeout", "-s", "INT", "600", *call(out, "training,attention,grouped_gemm,moe", "1h")]
    process = subprocess.Popen(command, env=machine, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + PATIENCE_S
    while not (out.is_file() and records.marked(out)):
        assert time.monotonic() < until, "the worker never began"
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    until = time.monotonic() + PATIENCE_S
    assert process.returncode == 130, said
    assert not records.read(out)["finished"]
    while _runs(process.pid):  # what has ended may wait for a busy system to bury it
        assert time.monotonic() < until, "a process is left"
        time.sleep(0.1)
    assert [p.name for p in tmp_path.iterdir() if p.name != "site"] == ["b.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.setattr(sys, "version_info", (3, 9, 18)), "Python 3.9"),
        (lambda m: m.setitem(sys.modules, "numpy", None), "cannot import numpy"),
        (lambda m: m.setattr("torch.__version__", "2.3.1+cu121"), "2.4 or newer"),
        (lambda m: m.setattr("torch.__version__", "2.11.0+cu130"), ""),
    ],
)
def test_a_python_that_cannot_measure_says_so_in_a_line(change: Any, said: str, monkeypatch: Any) -> None:
    change(monkeypatch)
    problem = unusable()
    monkeypatch.undo()
    assert said in problem
    assert bool(said) == bool(problem)
    assert "\n" not in problem
