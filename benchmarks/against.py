"""CPU seconds of whole commands, of this tree and of another commit, in turn on the same machine.

    python benchmarks/against.py [COMMIT] [--runs 5]

Each command is a process of its own, counted by the operating system (user + system), so what else the machine does counts
less than in seconds of the clock. The commit (the last tag, else the parent of this one) is checked out into a temporary
worktree, its modules compiled as this tree's are. Whether both print the same is said, too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    ("--version",),
    ("plan", "llama-3-8b", "--on", "8xh100"),
    ("plan", "mixtral-8x7b", "--on", "32xh100", "--tokens", "100B"),
    ("run", "llama-3-8b", "--on", "8xh100", "--tokens", "100B"),
    ("serve", "llama-3-8b", "--on", "1xh100"),
    ("--lang", "zh", "plan", "llama-3-8b", "--on", "8xh100"),
    ("audit",),
)


def main() -> None:
    """A row for each command: seconds before and now, their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", nargs="?", default="")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    commit = options.commit or last_tag() or "HEAD^"
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        git("worktree", "add", "--detach", str(before), commit)
        try:
            for tree in (before, ROOT):
                subprocess.run([sys.executable, "-m", "compileall", "-q", "planner"], cwd=tree, check=False)
            print(f"{'planner':58}{'before':>9}{'now':>9}{'ratio':>8}  ({git('rev-parse', '--short', commit)}; CPU s, median)")
            for command in COMMANDS:
                row(command, before, options.runs)
        finally:
            git("worktree", "remove", "--force", str(before))


def row(command: Sequence[str], before: Path, runs: int) -> None:
    """Print one command's seconds; the first run of each tree is not counted."""
    seconds: tuple[list[float], list[float]] = ([], [])
    printed = ["", ""]
    for number in range(runs + 1):
        for which, tree in enumerate((before, ROOT)):
            taken, printed[which] = timed(command, tree)
            if number:
                seconds[which].append(taken)
    ratio = statistics.median(now / then for then, now in zip(*seconds, strict=True))
    then, now = (statistics.median(taken) for taken in seconds)
    same = "" if printed[0] == printed[1] else "  prints something else"
    print(f"{' '.join(command):58}{then:9.2f}{now:9.2f}{ratio:8.2f}{same}", flush=True)


def timed(command: Sequence[str], tree: Path) -> tuple[float, str]:
    """(CPU seconds of a process, what it printed)."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "planner", *command], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    after = os.times()
    if done.returncode:
        sys.exit(f"against: planner {' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    taken = after.children_user + after.children_system - before.children_user - before.children_system
    return taken, done.stdout


def last_tag() -> str:
    """The newest tag that this commit descends from; empty where there is none."""
    found = subprocess.run(["git", "describe", "--tags", "--abbrev=0", "HEAD^"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip()


def git(*arguments: str) -> str:
    """What git prints."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"against: git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
