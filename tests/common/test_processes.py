"""Processes beside this one: none is a copy of a process whose threads hold locks, in the library, in a script or in a test."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from places import DATA, PATIENCE_S, ROOT

from planner.common import processes
from planner.evidence.fit import ParallelPredict, Values, load_constants
from planner.evidence.measured_runs import read_runs
from planner.evidence.predictions import settled, step_times

STARTS = re.compile(r"ProcessPoolExecutor\(|\bPool\(|\bProcess\(|\bos\.(fork|forkpty)\b|get_context\(|set_start_method\(")
"""Starts a process that runs Python's own code; subprocess replaces the program and holds no lock."""


@contextmanager
def busy() -> Iterator[None]:
    """Another thread that holds the lock of logging, as one that writes a line does for a moment."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with logging._lock:  # type: ignore[attr-defined]
            held.set()
            done.wait(PATIENCE_S)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_one_module_starts_processes() -> None:
    found = [path for path in (ROOT / "planner").rglob("*.py") if STARTS.search(path.read_text(encoding="utf-8"))]
    assert found == [Path(processes.__file__)]


def test_a_process_with_threads_is_not_copied() -> None:
    with busy():
        assert not processes.may_copy()
        assert processes.spare_cores() == 1
        with pytest.raises(RuntimeError, match="not copied"):
            processes.copies(2, os.getpid)


def test_a_process_alone_is_copied_on_linux() -> None:
    asked = "from planner.common.processes import *; print(may_copy(), spare_cores())"
    printed = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    alone = sys.platform == "linux"
    assert printed == [str(alone), str(len(os.sched_getaffinity(0)) if alone else 1)]


copied = pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")

ORPHANS = """
import os, signal, sys, time
from planner.common.processes import copies, end_with_parent

def told():
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(600)

pool = copies(2, end_with_parent)
pool.submit(told), pool.submit(told)
time.sleep(600)
"""


@copied
def test_a_copy_ends_with_what_it_is_a_copy_of() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHANS], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        numbers = {int(parent.stdout.readline()) for _ in range(2)}
        assert len(numbers) == 2
        parent.kill()
        assert parent.stdout.read() == ""  # comes when the last that could write has ended


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_fit_s_processes_answer_while_threads_hold_locks(jobs: int) -> None:
    runs = [settled(run) for run in read_runs(DATA / "korthikanti2022.csv")[0]]
    constants = tuple(c for c in load_constants() if c.curves == "a100")
    prior = tuple(c.prior for c in constants)
    sets = [Values(constants, prior), Values(constants, tuple(1.1 * v for v in prior))]
    with busy(), ParallelPredict(runs, step_times, jobs) as predict:
        found = predict([3, 0, 2], sets)
    assert found.tolist() == [step_times(runs[i], sets).tolist() for i in (3, 0, 2)]  # bit for bit


def _square_unless_copied(mine: int, number: int) -> int:
    if number == 3 and os.getpid() != mine:
        os._exit(1)
    return number * number


def _squares(cores: int) -> list[int]:
    return list(processes.as_they_come(partial(_square_unless_copied, os.getpid()), range(6), cores))


def test_every_item_is_answered_once_also_those_of_a_copy_that_was_killed() -> None:
    assert _squares(1) == [0, 1, 4, 9, 16, 25]
    assert sorted(_squares(2)) == [0, 1, 4, 9, 16, 25]
    assert list(processes.as_they_come(abs, [], 2)) == []


CLOSED = """
import multiprocessing
from planner.common.processes import as_they_come
answers = as_they_come(abs, [-1, -2, -3, -4], 2)
print(next(answers), next(answers) in (2, 3, 4), len(multiprocessing.active_children()) > 0, end=" ")
answers.close()
print(len(multiprocessing.active_children()))
"""


@copied
def test_copies_end_with_whoever_waits_for_them() -> None:
    told = subprocess.run(
        [sys.executable, "-c", CLOSED], capture_output=True, text=True, timeout=PATIENCE_S, check=True, cwd=ROOT
    )
    assert told.stdout == "1 True True 0\n"
