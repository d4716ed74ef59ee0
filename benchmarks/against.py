"""CPU seconds and memory of whole commands and programs, of this tree and of another commit, in turn on the same machine.

    python benchmarks/against.py [COMMIT] [--runs 5]

Each is a process of its own, counted by the operating system (user + system, largest resident set), so what else the machine
does counts less than in seconds of the clock. The commit (the last tag, else the parent of this one) is checked out into a
temporary worktree, its modules compiled as this tree's are. Whether both print the same is said, too; a program prints its
answer. What the other commit cannot answer yet has no ratio.
"""

from __future__ import annotations

import argparse
import math
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
    ("limit", "llama-3-8b", "--on", "8xh100", "--field", "model"),
    ("size", "llama-3.1-70b", "--for", "serve"),
    ("fit", "tests/data/korthikanti2022.csv", "--dry-run", "--jobs", "1"),
)

SEARCH = """
import planner
cluster = {{"node": "dgx-a100-80gb", "num_nodes": 64}}
job = {{"seq_len": 2048, "global_batch_size": 1536, "precision": "bf16", "num_tokens": 300_000_000_000}}
found = planner.search(model="gpt3-175b", cluster=cluster, job=job, framework="{framework}", allow=["all"])
print(found.iloc[0].to_dict())
"""
QUESTIONS = """
import sys
import planner
sys.path.insert(0, "benchmarks")
from plans_per_second import questions
asked = questions({number})
{ask}
"""
ONE_BY_ONE = """
for tables in asked:
    try:
        answer = planner.plan(**tables, explain=False)
    except planner.PlannerError:
        continue
print(answer.step_time_s, answer.states_bytes)
"""
TOGETHER = "print(planner.plan_many(asked).to_csv())"
QUEUE = """
from planner.serving import serve
lengths = {"prompt": 800, "output": {"kind": "lognormal", "mean": 250, "standard_deviation": 250, "maximum": 2000}}
asked = {"engine": "vllm", "weights": "fp8", "requests_per_s": 8.0, "num_requests": 200_000, **lengths}
answer = serve(model="llama-3.1-8b", cluster={"node": "dgx-h100", "num_gpus": 1}, serving=asked)
print(answer.load)
"""
CHOOSE = """
from planner.prices.market import rented_accelerators
from planner.studies.ways import Wish, serving_way
tables = {"model": {"name": "llama-3-70b"}, "serving": {"prompt": 1024, "output": 256, "requests_per_s": 5.0}}
for name in rented_accelerators():
    way = serving_way(tables, name, Wish())
    print(name, way.num_gpus, way.why, way.need_bytes)
"""
SLIDER = """
from pathlib import Path
from streamlit.testing.v1 import AppTest
from planner.web import main
main.FIRST = "compare"
page = AppTest.from_file(str(Path("app.py").resolve()), default_timeout=600).run()
for tokens in (1024, 2048, 8192, 16384, 32768, 4096):
    next(slider for slider in page.sidebar.select_slider if "Sequence" in slider.label).set_value(tokens).run()
print([block.proto.body for block in page.get("html")])
"""
PROGRAMS = (
    ("search: GPT-3 on 512, Megatron-Core", SEARCH.format(framework="megatron-core")),
    ("search: GPT-3 on 512, Megatron 2022", SEARCH.format(framework="megatron-2022")),
    ("plan: 500 questions", QUESTIONS.format(number=500, ask=ONE_BY_ONE)),
    ("plan: 2,000 questions", QUESTIONS.format(number=2000, ask=ONE_BY_ONE)),
    ("plan_many: 5,000 questions", QUESTIONS.format(number=5000, ask=TOGETHER)),
    ("serve: 200,000 requests", QUEUE),
    ("the page's choice of GPUs for serving", CHOOSE),
    ("the page: opened, a slider moved 6 times", SLIDER),
)
"""Figures of the library: layouts, questions and requests are as many on both sides, so a ratio of seconds is one of rates."""


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
            head = f"{'before':>9}{'now':>9}{'ratio':>8}{'MiB':>8}{'now':>7}{'ratio':>8}"
            print(f"{'planner':46}{head}  ({git('rev-parse', '--short', commit)}; CPU s, median)")
            for command in COMMANDS:
                row(" ".join(command), ("-m", "planner", *command), before, options.runs)
            for label, program in PROGRAMS:
                row(label, ("-c", program), before, options.runs)
        finally:
            git("worktree", "remove", "--force", str(before))


def row(label: str, arguments: Sequence[str], before: Path, runs: int) -> None:
    """Print the seconds and MiB of one command of Python; the first run of each tree is not counted."""
    seconds: tuple[list[float], list[float]] = ([], [])
    printed, held = ["", ""], [0.0, 0.0]
    for number in range(runs + 1):
        for which, tree in enumerate((before, ROOT)):
            found = timed(arguments, tree)
            if found is None and tree != ROOT:
                continue
            if found is None:
                sys.exit(f"against: {label} ended with an error")
            taken, held[which], printed[which] = found
            if number:
                seconds[which].append(taken)
    then, now = (statistics.median(taken) if taken else math.nan for taken in seconds)
    ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True)) if seconds[0] else math.nan
    same = "" if printed[0] == printed[1] else "  prints something else"
    memory = f"{held[0]:8.0f}{held[1]:7.0f}{held[1] / held[0] if held[0] else math.nan:8.2f}"
    print(f"{label:46}{then:9.2f}{now:9.2f}{ratio:8.2f}{memory}{same}", flush=True)


def timed(arguments: Sequence[str], tree: Path) -> tuple[float, float, str] | None:
    """(CPU seconds, MiB at most, what it printed) of a process; None where it ended with an error."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as out, open(os.devnull, "w") as nowhere:
        process = subprocess.Popen([sys.executable, *arguments], cwd=tree, env=environment, stdout=out, stderr=nowhere)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        return None if process.returncode else (used.ru_utime + used.ru_stime, used.ru_maxrss / 1024.0, out.read())


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
