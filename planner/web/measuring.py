"""A measurement of this server's own GPU in the background, and who may start one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st

from planner.common import data
from planner.web.guard import short_text

ROOT = data.ROOT
ONE = threading.Lock()
"""One measurement at a time: two would measure each other."""
SWITCH = "PLANNER_MEASURE"
"""Set to 1 where visitors of a server that others reach may measure it, to 0 where nobody may."""
LOCAL = ("localhost", "127.0.0.1", "::1", "[::1]")


def may_measure(bound_to: str | None, host: str, switch: str | None) -> bool:
    """Whether a visitor may start a measurement: at their own machine, or where whoever runs the server said so.

    ``bound_to``: the address that the server listens on; ``host``: the name that the browser asked for.

    >>> may_measure("localhost", "localhost:8501", None), may_measure("0.0.0.0", "localhost:8501", None)
    (True, False)
    >>> may_measure("localhost", "planner.example", None), may_measure("0.0.0.0", "planner.example", "1")
    (False, True)
    """
    if switch in ("0", "1"):
        return switch == "1"
    return bound_to in LOCAL and host.rsplit(":", 1)[0] in LOCAL


def allowed() -> bool:
    """Whether this session's visitor may."""
    host = st.context.headers.get("Host", "")
    return may_measure(st.get_option("server.address"), host, os.environ.get(SWITCH))


@dataclass
class Measurement:
    """``python -m kernels run`` on ``device`` ("cuda" or "cpu") for about ``budget``."""

    device: str
    budget: str
    finished: bool = False
    cancelled: bool = False
    error: str = ""
    record: bytes = b""
    started: float = field(default_factory=time.monotonic)

    def start(self) -> bool:
        """Measure in the background; False while another measurement runs."""
        if not ONE.acquire(blocking=False):
            return False
        try:
            threading.Thread(target=self._run, name="measure", daemon=True).start()
        except RuntimeError:  # no more threads
            ONE.release()
            raise
        return True

    def _run(self) -> None:
        """Measure into a folder of its own, which is gone afterwards."""
        try:
            with tempfile.TemporaryDirectory() as folder:
                self._measure(Path(folder) / "record.json")
        except OSError as error:
            self.error = short_text(error, 300)
        finally:
            self.finished = True
            ONE.release()

    def _measure(self, out: Path, longest_s: float = 1200.0) -> None:
        command = [sys.executable, "-m", "kernels", "run", "--out", str(out), "--budget", self.budget, "--device", self.device]
        with (out.parent / "errors").open("w+") as errors:
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
            try:
                while process.poll() is None and not self.cancelled and time.monotonic() - self.started < longest_s:
                    time.sleep(0.2)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # with the ranks that it started
                code = process.wait()
            errors.seek(0)
            said = errors.read()
        if self.cancelled:
            return
        if code or not out.exists():
            self.error = short_text(said[-600:] or f"exit code {code}", 600)
        else:
            self.record = out.read_bytes()
