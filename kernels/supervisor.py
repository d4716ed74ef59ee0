"""Measures in a process of its own, so that a crash, a hang or a lost device costs one case and not the rest of the record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from kernels import record as records

LOST = 75
"""Exit code of a worker whose device answers no more."""
MOST_WORKERS = 12
"""More than that many faults, and the device or the driver is broken."""
PATIENCE_S = 60.0
"""For a worker that was told to end: it finishes the kernel that runs, and writes the record."""


class Process(Protocol):
    """What the supervisor needs of a process."""

    def poll(self) -> int | None: ...
    def kill(self) -> None: ...
    def wait(self) -> int: ...
    def send_signal(self, signal: int, /) -> None: ...


class Start(Protocol):
    """Starts a worker with further options."""

    def __call__(self, more: list[str]) -> Process: ...


def worker(command: list[str]) -> Start:
    """Starts ``python -m kernels`` with the user's options as a worker, which knows when that was: its start costs time too."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])

    def start(more: list[str]) -> Process:
        environment = {**os.environ, "PYTHONPATH": paths}
        began = ["--began", f"{time.time():.3f}"]
        return subprocess.Popen([sys.executable, "-m", "kernels", *command, "--worker", *began, *more], env=environment)

    return start


def supervise(start: Start, out: Path, poll_s: float = 0.5, first: list[str] | None = None) -> int:
    """Run workers until one ends by itself; after a fault the next one goes on with what the record lacks.

    ``first`` are the first worker's further options.
    Returns the last worker's exit code; LOST when the device does not come back even for a new process.
    """
    more = first or []
    for _ in range(MOST_WORKERS):
        code, reason = _watched(start(more), out, poll_s)
        if not reason:
            records.unmark(out)
            return code
        if not records.note_lost(out, reason):
            break  # no case was being measured: a new process would end the same way
        print(f"{reason}; going on with the rest in a new process", file=sys.stderr)
        more = ["--resume"]
    print("the device does not come back; the record holds what was measured before", file=sys.stderr)
    return LOST


def _watched(process: Process, out: Path, poll_s: float) -> tuple[int, str]:
    """The exit code, and in words what was wrong: empty when the worker ended by itself."""
    try:
        while (code := process.poll()) is None:
            if _hangs(out):
                process.kill()
                process.wait()
                return LOST, "the case did not end: its process was killed"
            time.sleep(poll_s)
    except KeyboardInterrupt:  # the worker saves what it has
        process.send_signal(signal.SIGINT)
        return _ended(process, poll_s), ""
    if code == LOST:
        return code, "the device was lost in this case"
    if code < 0 and -code not in (signal.SIGINT, signal.SIGTERM):
        return code, f"the process crashed in this case: {signal.Signals(-code).name}"
    return code, ""


def _ended(process: Process, poll_s: float) -> int:
    """Wait for a worker that was told to end: a second Ctrl-C must not leave it behind on the device; it is killed at last."""
    until = time.monotonic() + PATIENCE_S
    while (code := process.poll()) is None:
        try:
            if time.monotonic() > until:
                process.kill()
                return process.wait()
            time.sleep(poll_s)
        except KeyboardInterrupt:
            continue
    return code


def _hangs(out: Path) -> bool:
    """Whether the case that is being measured has taken longer than its limit."""
    try:
        since = records.mark_path(out).stat().st_mtime
    except OSError:
        return False
    case = records.marked(out)
    return case is not None and time.time() - since > float(case.get("limit_s", 600.0))
