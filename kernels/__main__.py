"""``python -m kernels run`` measures this machine; ``python -m kernels show`` prints a record."""

from __future__ import annotations

import argparse
import importlib
import re
import signal
import sys
from pathlib import Path

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def budget(text: str) -> float:
    """Seconds from 90, 60s, 5m or 1h."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: give a time such as 60s, 5m or 15m")
    return float(match[1]) * UNITS[match[2] or "s"]


def device(text: str) -> str:
    """cpu, cuda or cuda:N."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r}: give cuda, cuda:N or cpu")
    return text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m kernels", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure this machine and write a record")
    run.add_argument("--out", type=Path, required=True, metavar="record.json", help="where the record goes")
    there = run.add_mutually_exclusive_group()
    there.add_argument("--resume", action="store_true", help="go on with the record that --out names, where it exists")
    there.add_argument("--overwrite", action="store_true", help="replace a record that exists")
    run.add_argument("--device", type=device, help="cuda, cuda:N or cpu; default: cuda when there is a GPU")
    run.add_argument("--budget", type=budget, default=300.0, metavar="60s|5m|15m", help="time for everything; default 5m")
    run.add_argument("--only", metavar="gemm,attention,...", help="families to measure, by name; see list")
    run.add_argument("--threads", type=int, help="threads of a CPU's kernels; default: what torch takes")
    clock = "cpu: this process's CPU time, for a CPU that others use too; needs --threads 1"
    run.add_argument("--clock", choices=("wall", "cpu"), default="wall", help=clock)
    run.add_argument(
        "--shapes", type=Path, metavar="shapes.json", help="products to measure first, as planner measure writes them"
    )
    run.add_argument("--seed", type=int, default=0, help="of the random inputs")
    run.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    run.add_argument("--began", type=float, help=argparse.SUPPRESS)  # seconds since 1970, when this worker was started
    commands.add_parser("list", help="print the families")
    show = commands.add_parser("show", help="print the summary of a record")
    show.add_argument("record", type=Path)
    show.add_argument("--all", action="store_true", help="every sample, not the best of each kind")
    return top


def unusable() -> str:
    """Why this python cannot measure, in one line; empty when it can."""
    version = sys.version_info
    if version[:2] < (3, 10):
        return f"Python {version[0]}.{version[1]}: the harness needs 3.10 or newer"
    for name in ("numpy", "torch"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"{sys.executable} cannot import {name} ({error}); start the harness with a python that has torch and numpy"
    torch_version = str(importlib.import_module("torch").__version__)
    old = re.match(r"(\d+)\.(\d+)", torch_version)
    if old is not None and (int(old[1]), int(old[2])) < (2, 4):
        return f"torch {torch_version}: the harness needs 2.4 or newer"
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 1 when nothing could be measured; 2 with one line on standard error; 130 when stopped."""
    given = parser().parse_args(arguments)
    problem = unusable()
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    given.line = list(sys.argv[1:] if arguments is None else arguments)
    from kernels.record import RecordError

    try:
        return _run(given) if given.command == "run" else _print(given)
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _print(given: argparse.Namespace) -> int:
    if given.command == "show":
        from kernels.record import read
        from kernels.summary import summary

        print(summary(read(given.record), every=given.all))
    else:
        from kernels.runner import FAMILIES

        print("\n".join(f"{name:<18} {family.what}" for name, family in FAMILIES.items()))
    return 0


def _run(given: argparse.Namespace) -> int:
    from kernels.faults import DeviceLost
    from kernels.runner import Unusable, run
    from kernels.supervisor import LOST

    try:
        return run(given)
    except Unusable as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DeviceLost as error:
        print(f"the device does not answer any more: {error}", file=sys.stderr)
        return LOST
    except KeyboardInterrupt:
        print("stopped; the record holds what was measured so far, --resume goes on with it", file=sys.stderr)
        return 130


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT):  # a scheduler's end, too, saves what was measured; nohup ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
