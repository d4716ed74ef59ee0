"""Long answers in the background: two at a time for all visitors, found again after a reload, ended when nobody looks."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from planner.common.errors import PlannerError

AT_ONCE = 2
"""Questions that are worked on at a time."""
UNSEEN_S = 45.0
"""So long after the last look a question that nobody waits for is given up: it held a place that others wait for."""
MOST = 64
"""Answers that are kept."""


@dataclass(eq=False)
class Task:
    """One question: what it has found so far, how far it is, whether somebody still wants it."""

    key: str
    work: Callable[[Task], None]
    found: list[Any] = field(default_factory=list)
    result: Any = None
    done: int = 0
    size: int = 1
    started: float | None = None
    took_s: float = 0.0
    cancelled: bool = False
    finished: bool = False
    error: str = ""
    seen: float = field(default_factory=time.monotonic)
    patient: bool = False
    """Goes on though nobody looks."""

    @property
    def wanted(self) -> bool:
        """Whether to go on."""
        return not self.cancelled and (self.patient or time.monotonic() - self.seen < UNSEEN_S)

    def look(self) -> None:
        """Somebody waits for it."""
        self.seen = time.monotonic()


_LOCK = threading.Lock()
_TASKS: OrderedDict[str, Task] = OrderedDict()
_WAITING: list[Task] = []
_RUNNING: list[Task] = []


def ask(key: str, work: Callable[[Task], None], *, size: int = 1, patient: bool = False) -> Task:
    """The task of a question: the one that runs or has ended, else a new one, of ``size`` parts as far as is known before it has
    begun. One that was given up is begun anew."""
    with _LOCK:
        task = _TASKS.get(key)
        if task is None or (task.finished and task.cancelled):
            task = _TASKS[key] = Task(key=key, work=work, size=size, patient=patient)
            _WAITING.append(task)
            while len(_TASKS) > MOST:
                _, old = _TASKS.popitem(last=False)
                old.cancelled = True
        _TASKS.move_to_end(key)
        task.look()
    _next()
    return task


def known(key: str) -> Task | None:
    """The task of a question that somebody asked, looked at now."""
    with _LOCK:
        task = _TASKS.get(key)
    if task is not None:
        task.look()
    return task


def forget(key: str) -> None:
    """Ask anew the next time."""
    with _LOCK:
        task = _TASKS.pop(key, None)
    if task is not None:
        task.cancelled = True


def place(task: Task) -> int:
    """Which of those that wait it is, from 1; 0 while it runs or has ended."""
    with _LOCK:
        return _WAITING.index(task) + 1 if task in _WAITING else 0


def _next() -> None:
    with _LOCK:
        for task in [one for one in _WAITING if not one.wanted]:
            _WAITING.remove(task)
            task.finished = task.cancelled = True
        while _WAITING and len(_RUNNING) < AT_ONCE:
            task = _WAITING.pop(0)
            _RUNNING.append(task)
            threading.Thread(target=_run, args=(task,), name="planner-background", daemon=True).start()


def _run(task: Task) -> None:
    task.started = time.monotonic()
    try:
        task.work(task)
    except PlannerError as error:
        task.error = str(error)
    except KeyboardInterrupt:
        task.cancelled = True
    except Exception as error:  # a visitor waits for words, whatever it was
        task.error = f"{type(error).__name__}: {error}"
    finally:
        task.took_s = time.monotonic() - task.started
        task.finished = True
        with _LOCK:
            _RUNNING.remove(task)
        _next()
