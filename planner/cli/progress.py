"""How far long work is, on standard error: a bar with an estimate on a terminal, JSON lines beside ``--json``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from planner.common.progress import Progress
from planner.common.translation import spoken_label

Case = TypeVar("Case")
Answer = TypeVar("Answer")
EVERY_S = 2.0
"""Between two JSON lines; work that takes less says nothing."""
DRAWN_S = 0.1
"""Between two drawings of the bar."""


@contextmanager
def progress_bar(what: str, *, quiet: bool) -> Iterator[Progress]:
    """A bar on standard error where somebody looks at it, told (done, size); ``quiet``, of ``--json``, lines of JSON instead.

    A line is {"progress": what, "done": 3, "size": 8, "remaining_s": 12.5}.
    """
    if quiet:
        yield _lines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # drawn here, not by a thread: a search forks processes, which is safe without threads only
    console, shown = Console(stderr=True), sys.stderr.isatty()
    with Bar(*columns, console=console, transient=True, disable=not shown, auto_refresh=False) as bar:
        task = bar.add_task(spoken_label(what), total=None)
        drawn = 0.0

        def tell(done: int, size: int) -> None:
            nonlocal drawn
            now = time.monotonic()
            bar.update(task, completed=done, total=size, refresh=shown and now - drawn >= DRAWN_S)
            drawn = now if now - drawn >= DRAWN_S else drawn

        yield tell


def answers_to(cases: Sequence[Case], answer: Callable[[Case], Answer], *, quiet: bool) -> list[Answer]:
    """The answers to several cases, with a bar over them where there is more than one."""
    if len(cases) == 1:
        return [answer(cases[0])]
    found = []
    with progress_bar("cases", quiet=quiet) as progress:
        for done, case in enumerate(cases):
            progress(done, len(cases))
            found.append(answer(case))
    return found


def _lines(what: str) -> Progress:
    start = said = time.monotonic()

    def say(done: int, size: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < EVERY_S:
            return
        said = now
        remaining = round((now - start) / done * (size - done), 1) if done else None
        print(json.dumps({"progress": what, "done": done, "size": size, "remaining_s": remaining}), file=sys.stderr, flush=True)

    return say
