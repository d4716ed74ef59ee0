"""Processes beside this one that end: no copy of a process waits for a lock that one of its threads held.

``copies`` inherit all that is loaded within milliseconds, where this process has one thread. ``others`` begin anew and are given
what they need, pickled; they take a second or two to start and are right anywhere.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any


def may_copy() -> bool:
    """Whether this process may be copied: on Linux, while no thread runs beside this one, whose locks a copy would hold for ever.

    A process of a pool that ends with it starts none.
    """
    return sys.platform == "linux" and threading.active_count() == 1 and not multiprocessing.current_process().daemon


def spare_cores() -> int:
    """Copies of this process that may be started: one for each core, or one, itself, where it may not be copied."""
    return len(os.sched_getaffinity(0)) if may_copy() else 1


def copies(number: int, initializer: Callable[[], object]) -> ProcessPoolExecutor:
    """A pool of copies of this process. Only where ``may_copy``."""
    if not may_copy():
        raise RuntimeError("a process with threads is not copied")
    return ProcessPoolExecutor(number, multiprocessing.get_context("fork"), initializer=initializer)


def as_they_come(function: Callable[[Any], Any], items: Sequence[Any], cores: int | None = None) -> Generator[Any, None, None]:
    """``function(item)`` of each, the first first, then as they are done: on all cores where this process may be copied.

    The first is answered here, so that the copies find loaded what all of them need. What a copy that was killed left is answered
    here, too. Whoever closes the iterator ends the copies.
    """
    if items:
        yield function(items[0])
    left, number = list(items[1:]), min(spare_cores() if cores is None else cores, len(items) - 1)
    if number > 1 and may_copy():
        before = set(multiprocessing.active_children())
        pool = copies(number, end_with_parent)
        try:
            waiting = {pool.submit(function, item): item for item in left}
            for future in as_completed(waiting):
                found = future.result()
                left.remove(waiting[future])
                yield found
        except BrokenProcessPool:
            pass
        finally:
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
            pool.shutdown(cancel_futures=True)
    for item in left:
        yield function(item)


def end_with_parent() -> None:
    """Let this copy end at once, without a word, on Ctrl-C, which goes to all processes of a terminal, and when what it is a copy
    of ends, however that ends (prctl(2), PR_SET_PDEATHSIG = 1): it would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def others(number: int, initializer: Callable[..., object], *given: object) -> ProcessPoolExecutor:
    """A pool of new processes, each of which calls ``initializer(*given)`` first."""
    return ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), initializer=initializer, initargs=given)
