"""The processes beside the server that work on long questions (``errands``): one for each that is worked on at a time."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from planner.common.errors import PlannerError
from planner.web.background import Task

_LOCK = threading.Lock()
_IDLE: list[subprocess.Popen[bytes]] = []
_ALL: list[subprocess.Popen[bytes]] = []


def work(task: Task, function: Callable[..., Any], *arguments: Any) -> None:
    """Have ``function(tell, *arguments)`` of ``errands`` done in another process; what it tells goes into the task at once."""
    process = _taken()
    try:
        _send(process, (function, arguments))
        while True:
            kind, *told = _received(process)
            if kind != "tell":
                break
            task.done, task.size, found = told
            if found is not None:
                task.found.append(found)
            task.cancelled = not task.wanted
            _send(process, not task.cancelled)
    except (EOFError, OSError, pickle.UnpicklingError):
        _end(process)
        raise PlannerError("the process that worked on this question ended before it had an answer; ask again.") from None
    except BaseException:  # nobody reads its answer any longer
        _end(process)
        raise
    with _LOCK:
        _IDLE.append(process)
    if kind == "error":
        raise PlannerError(told[0])
    task.result = told[0]


def _taken() -> subprocess.Popen[bytes]:
    with _LOCK:
        if _IDLE:
            return _IDLE.pop()
    path = os.pathsep.join(folder for folder in sys.path if folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "planner.web.errands"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    with _LOCK:
        _ALL.append(process)
    return process


def _send(process: subprocess.Popen[bytes], value: Any) -> None:
    assert process.stdin is not None
    pickle.dump(value, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
    process.stdin.flush()


def _received(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout is not None
    return pickle.load(process.stdout)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # what was left to send cannot be
                stream.close()
    with _LOCK:
        if process in _ALL:
            _ALL.remove(process)


@atexit.register
def end_all() -> None:
    """Let no process outlive the server."""
    for process in list(_ALL):
        _end(process)
    _IDLE.clear()
