"""A search by several processes: the answer of one, also when a process is killed; Ctrl-C keeps what is done."""

from __future__ import annotations

import os
import signal
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from examples import gpus
from test_search import question

from planner.layout_search import on_cores
from planner.layout_search.found import Found
from planner.layout_search.on_cores import searched_on_cores
from planner.layout_search.question import SearchQuestion
from planner.layout_search.result import SearchResult
from planner.layout_search.search import search_unit, searched

MINE = os.getpid()
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes inherit the question"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # the test runner has threads of its own
]


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


@pytest.mark.parametrize("cores", [2, 5])
def test_the_answer_does_not_depend_on_the_cores(cores: int) -> None:
    q = asked()
    told: list[tuple[int, int]] = []
    result = searched_on_cores(q, lambda done, size: told.append((done, size)), cores, worth=1)
    assert_equal(result, searched(q))
    assert result.complete
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (q.num_layouts, q.num_layouts)
    assert len(told) == len(q.units)


def test_a_killed_process_costs_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*arguments: Any) -> Found:
        if os.getpid() != MINE:
            os.kill(os.getpid(), signal.SIGKILL)
        return search_unit(*arguments)

    monkeypatch.setattr(on_cores, "search_unit", killed)
    assert_equal(searched_on_cores(asked(), None, 2, worth=1), searched(asked()))


def test_ctrl_c_answers_with_the_parts_that_are_done() -> None:
    def stop(done: int, size: int) -> None:
        raise KeyboardInterrupt

    q = asked()
    result = searched_on_cores(q, stop, 2, worth=1)
    assert not result.complete
    assert 0 < result.found.num_layouts < q.num_layouts


def test_small_spaces_are_searched_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_cores, "ProcessPoolExecutor", None)
    assert_equal(searched_on_cores(asked(), None, 2, worth=10**9), searched(asked()))
    assert_equal(searched_on_cores(asked(), None, 1, worth=1), searched(asked()))
