"""What all tests share: the command line in this process, a scenario file, one day, no price table of whoever runs them.

The only conftest: the modules are collected for their doctests too, and two of one name cannot be imported beside each other.
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker has a core: more threads wait for each other, busily

import pytest
from command_line import GOOD, Run
from hypothesis import HealthCheck, settings
from places import SLOWEST

from doctools import AS_OF
from planner.cli import progress
from planner.cli.main import main
from planner.common import clock
from planner.common.translation import speak
from planner.prices.price import load_prices

if TYPE_CHECKING:
    from planner.audit.verdicts import Judgement, Reading

NUMBERS = itertools.count()

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # an example may take as long as a busy machine takes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files first; with ``--no-loadscope-reorder`` xdist hands them out in this order."""
    items.sort(key=lambda item: SLOWEST.index(name) if (name := item.nodeid.partition("::")[0]) in SLOWEST else len(SLOWEST))


def pytest_collection_finish() -> None:
    """What every test needs is here for good: whoever looks for garbage afterwards does not go through all of it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_prices(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's imported prices would go; what was read before is read again only where there are some."""
    path = tmp_path_factory.getbasetemp() / f"own-{next(NUMBERS)}" / "prices.csv"
    monkeypatch.setenv("PLANNER_PRICES", str(path))
    yield path
    if path.parent.exists():
        load_prices.cache_clear()


@pytest.fixture(autouse=True)
def the_same_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """English, whatever the locale of the person who runs the tests; the day of the documentation, since prices age, and a test
    that passes today passes in a year; no words of progress: lines beside ``--json`` come after seconds, on a busy machine where
    a quiet one says nothing; the same ``__main__``: a page under test runs as that and stays there, and a process that a later
    test spawns would run it again. One fixture, since nineteen thousand tests take each of them."""
    monkeypatch.setenv("PLANNER_LANG", "en")
    monkeypatch.delenv("COLUMNS", raising=False)  # a runner's, such as xdist's workers have
    monkeypatch.setenv(clock.VARIABLE, AS_OF)
    monkeypatch.setattr(progress, "EVERY_S", math.inf)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    yield
    speak("en")


@pytest.fixture(scope="session")
def readings() -> tuple[Reading, ...]:
    """Every article of the audit under the reading in which most of its numbers hold."""
    from planner.audit.verdicts import audit_articles  # what takes long to import, for who asks: xdist's first process does not

    return audit_articles()


@pytest.fixture(scope="session")
def judged(readings: tuple[Reading, ...]) -> dict[str, Judgement]:
    """Every claim's judgement."""
    return {j.id: j for r in readings for j in r.judgements}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["planner", *map(str, arguments)])
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        for printed in (captured.out, captured.err):
            assert re.search(r"[^\S\n]$", printed, re.MULTILINE) is None, "a line ends in a blank"
        return int(code), captured.out, captured.err

    return call


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str = GOOD, *changes: tuple[str, str], name: str = "question.toml") -> Path:
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / name
        path.write_text(text)
        return path

    return write
