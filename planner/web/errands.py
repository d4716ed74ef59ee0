"""``python -m planner.web.errands``: a process beside the server that works on long questions, so that no page waits for them.

It reads pickled (function, arguments) from standard input, one after the other, and answers on standard output: ("tell", done,
size, what was found now) as often as the function says how far it is, then ("result", value) or ("error", words). After each
"tell" it reads whether somebody still wants the answer. It ends when its input does. No screen is imported here.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any, BinaryIO, Protocol

from planner.common.errors import PlannerError
from planner.common.processes import as_they_come
from planner.layout_search.on_cores import run_on_cores
from planner.layout_search.question import SearchQuestion
from planner.scenarios.scenario import Case
from planner.scenarios.tables import Tables
from planner.studies.affordable import Affordable, Means, affordable
from planner.studies.budgets import budgeted, outlook_of_row
from planner.studies.limit import largest
from planner.studies.sweep import SweepQuestion
from planner.studies.sweep_api import run_sweep
from planner.studies.ways import Way, Wish, serving_way, way

BUDGETS = "budgets"
"""What a search tells once it has its rows and simulates the run of each."""
NICE = 10
"""A page that somebody looks at goes first."""


class Tell(Protocol):
    """Says how far the work is, and what it found since; raises KeyboardInterrupt once nobody wants it."""

    def __call__(self, done: int, size: int, found: Any = None) -> None: ...


def ways(tell: Tell, tables: Mapping[str, Mapping[str, Any]], names: tuple[str, ...], wish: Wish, serving: bool) -> None:
    """The question on every accelerator of a list, on all cores, each told when it is found."""
    with closing(as_they_come(partial(_way, tables, wish, serving), names)) as found:
        for i, one in enumerate(found):
            tell(i + 1, len(names), one)


def _way(tables: Mapping[str, Mapping[str, Any]], wish: Wish, serving: bool, name: str) -> Way:
    return (serving_way if serving else way)(tables, name, wish)


def search(tell: Tell, question: SearchQuestion, tables: Tables) -> Any:
    """The table of a search, on all cores as ``planner search``, with budgets under the tables [run] and [cost]; of what it has
    looked at, and of the runs that it has simulated, where nobody wants it any longer."""
    result = run_on_cores(question, tell)
    outlook_of = partial(outlook_of_row, Case(label="", tables=tables, where=""), result)
    return budgeted(result, outlook_of, lambda done, size: tell(done, size, BUDGETS))


def sweep(tell: Tell, question: SweepQuestion) -> Any:
    """The table of a sweep."""
    return run_sweep(question, progress=tell)


def limit(tell: Tell, tables: Mapping[str, Any], field: str) -> Any:
    """The largest value of a field that fits."""
    return largest(tables, field, progress=tell)


def afford(tell: Tell, case: Case, means: Means) -> Affordable:
    """The most tokens that money and time pay for."""
    return affordable(case, means, progress=tell)


def main() -> None:
    """Work until the input ends."""
    if hasattr(os, "nice"):
        os.nice(NICE)
    answers, questions = os.fdopen(os.dup(1), "wb"), sys.stdin.buffer
    os.dup2(2, 1)  # what is printed by chance is no answer
    while (asked := _read(questions)) is not None:
        function, arguments = asked
        _write(answers, _answer(function, arguments, questions, answers))


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...], questions: BinaryIO, answers: BinaryIO) -> Any:
    def tell(done: int, size: int, found: Any = None) -> None:
        _write(answers, ("tell", done, size, found))
        if not _read(questions):
            raise KeyboardInterrupt

    try:
        return "result", function(tell, *arguments)
    except PlannerError as error:
        return "error", str(error)
    except KeyboardInterrupt:
        return "result", None
    except Exception as error:  # a visitor waits for words, whatever it was
        return "error", f"{type(error).__name__}: {error}"


def _read(stream: BinaryIO) -> Any:
    try:
        return pickle.load(stream)
    except EOFError:
        return None


def _write(stream: BinaryIO, value: Any) -> None:
    try:
        pickle.dump(value, stream, protocol=pickle.HIGHEST_PROTOCOL)
        stream.flush()
    except BrokenPipeError:  # the server has ended
        os._exit(0)


if __name__ == "__main__":
    main()
