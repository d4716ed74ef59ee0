"""A search by several processes: the answer of one, also when a process is killed; Ctrl-C keeps what is done.

The test runner has threads of its own and is not copied: each test with copies runs this module in a process of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import gpus
from places import PATIENCE_S
from test_search import question

from planner.layout_search import on_cores
from planner.layout_search.found import Found
from planner.layout_search.on_cores import searched_on_cores
from planner.layout_search.question import SearchQuestion
from planner.layout_search.result import SearchResult
from planner.layout_search.search import search_unit, searched

MINE = os.getpid()
ALONE: dict[str, Callable[[], None]] = {}
"""Tests by name that need a process without threads."""
STARTED: list[int] = []
"""An element for each pool."""


def alone(test: Callable[[], None]) -> Callable[[], None]:
    """The test in a process of its own, which has five minutes."""
    ALONE[test.__name__] = test

    def run() -> None:
        path = os.pathsep.join((str(Path(__file__).parent), str(Path(__file__).parents[1])))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((path, os.environ.get("PYTHONPATH", "")))}
        command = [sys.executable, __file__, test.__name__]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    return pytest.mark.skipif(sys.platform != "linux", reason="processes inherit the question")(run)


def asked() -> SearchQuestion:
    return question(cluster=gpus(8))


def assert_equal(one: SearchResult, other: SearchResult) -> None:
    for name in ("rows", "boldest", "surest", "leanest"):
        ours, theirs = getattr(one.found, name), getattr(other.found, name)
        for field in fields(ours):
            a, b = getattr(ours, field.name), getattr(theirs, field.name)
            if field.name == "layouts":
                assert [a.row(i) for i in range(len(ours))] == [b.row(i) for i in range(len(theirs))]
            else:
                assert np.array_equal(a, b), (name, field.name)
    for name in ("counts", "num_layouts", "num_possible", "num_fitting", "rejected", "least"):
        assert getattr(one.found, name) == getattr(other.found, name), name


@alone
def test_the_answer_does_not_depend_on_the_cores() -> None:
    for cores in (2, 5):
        q = asked()
        told: list[tuple[int, int]] = []
        started = len(STARTED)
        result = searched_on_cores(q, lambda done, size, told=told: told.append((done, size)), cores, worth=1)  # type: ignore[misc]
        assert len(STARTED) == started + 1
        assert_equal(result, searched(q))
        assert result.complete
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert told[-1] == (q.num_layouts, q.num_layouts)
        assert len(told) == len(q.units)


@alone
def test_two_parts_are_worth_two_processes_and_a_space_of_what_is_worth_it_too() -> None:
    """And one part or one layout less is not."""
    two, one = question(cluster=gpus(2)), question(cluster=gpus(1))
    assert (len(two.units), len(one.units)) == (2, 1)
    for q, worth, copies in ((two, two.num_layouts, 1), (two, two.num_layouts + 1, 0), (one, 1, 0)):
        started = len(STARTED)
        assert_equal(searched_on_cores(q, None, 2, worth), searched(q))
        assert len(STARTED) == started + copies


@alone
def test_a_killed_process_costs_time_only() -> None:
    def killed(*arguments: Any) -> Found:
        if os.getpid() != MINE:
            os.kill(os.getpid(), signal.SIGKILL)
        return search_unit(*arguments)

    on_cores.search_unit = killed
    assert_equal(searched_on_cores(asked(), None, 2, worth=1), searched(asked()))
    assert STARTED


@alone
def test_ctrl_c_answers_with_the_parts_that_are_done() -> None:
    def stop(done: int, size: int) -> None:
        raise KeyboardInterrupt

    q = asked()
    result = searched_on_cores(q, stop, 2, worth=1)
    assert not result.complete
    assert 0 < result.found.num_layouts < q.num_layouts


def test_small_spaces_and_those_of_a_process_with_threads_are_searched_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_cores, "copies", None)
    assert_equal(searched_on_cores(asked(), None, 2, worth=10**9), searched(asked()))
    assert_equal(searched_on_cores(asked(), None, 1, worth=1), searched(asked()))
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert_equal(searched_on_cores(asked(), None, 2, worth=1), searched(asked()))
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    copied, on_cores.PULSE_S = on_cores.copies, PATIENCE_S
    on_cores.copies = lambda *arguments: STARTED.append(1) or copied(*arguments)  # type: ignore[func-returns-value]
    ALONE[sys.argv[1]]()
