"""Work that may hang, crash or spoil the device, done by a process of its own with a time limit.

``run_apart("probe", {...}, timeout_s=120)`` starts ``python -m kernels.apart`` and returns the JSON that the task returns.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from kernels.faults import scrubbed

TASKS = {"probe": "kernels.probes:probe_task", "compile": "kernels.families.dispatch:compile_task"}
MARK = "result of kernels.apart: "


class Failed(RuntimeError):
    """The process ended without a result; the text says how."""


def run_apart(task: str, given: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """The task's result. Raises Failed when the process crashes, hangs past ``timeout_s``, or says why it cannot."""
    command = [sys.executable, "-m", "kernels.apart", task, json.dumps(given)]
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=os.name == "posix",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Failed(f"did not end within {timeout_s:.0f} s") from None
    finally:
        end(process)
    return _result(out, err, process.returncode)


def end(process: subprocess.Popen[str]) -> None:
    """Kill the process and what it started, when it still runs."""
    if process.poll() is not None:
        return
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def _result(out: str, err: str, code: int) -> dict[str, Any]:
    for line in reversed(out.splitlines()):
        if line.startswith(MARK):
            answer: dict[str, Any] = json.loads(line[len(MARK) :])
            if "failed" in answer:
                raise Failed(str(answer["failed"]))
            return answer
    if code < 0:
        raise Failed(f"crashed with signal {-code} ({signal.Signals(-code).name})")
    last = (err.strip().splitlines() or ["no message"])[-1]
    raise Failed(f"ended with code {code}: {scrubbed(last)[:200]}")


def main(arguments: list[str]) -> None:
    """Run one task and print its result on one line."""
    from kernels.faults import first_line

    module, function = TASKS[arguments[0]].split(":")
    try:
        answer = getattr(importlib.import_module(module), function)(**json.loads(arguments[1]))
    except Exception as error:
        answer = {"failed": f"{type(error).__name__}: {first_line(error)}"}
    print(f"\n{MARK}{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
