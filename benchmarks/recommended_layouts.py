"""How sure and how costly recommended layouts are, over a grid of questions: upper bounds inside the card, time given up.

Run: .venv/bin/python benchmarks/recommended_layouts.py [--questions N] [--jobs N]. 800 questions: models x clusters x batches x
frameworks; --questions 100 takes the same 100 each time, spread evenly over all. Printed: the share of recommended layouts whose
upper bound of memory lies inside the card, and the time that they give up against the fastest layout that fits as surely, and
against the boldest, which fits by the prediction alone.
"""

from __future__ import annotations

import argparse
import itertools
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.common.errors import PlannerError
from planner.layout_search.question import as_question
from planner.layout_search.search import search_all, searched
from planner.performance.risk import RISK

MODELS = (
    "gpt2-xl",
    "llama-3.2-1b",
    "qwen2.5-3b",
    "llama-3.1-8b",
    "olmoe-1b-7b",
    "llama-2-13b",
    "dense-33b",
    "mixtral-8x7b",
    "llama-3-70b",
    "qwen3-30b-a3b",
)
CLUSTERS: tuple[dict[str, Any], ...] = (
    {"node": "g5-12xlarge", "num_gpus": 4},
    {"node": "dgx-a100-40gb", "num_gpus": 8},
    {"node": "dgx-a100-80gb", "num_gpus": 8},
    {"node": "dgx-a100-80gb", "num_gpus": 32},
    {"node": "dgx-h100", "num_gpus": 1},
    {"node": "dgx-h100", "num_gpus": 8},
    {"node": "dgx-h100", "num_gpus": 64},
    {"node": "dgx-h200", "num_gpus": 16},
    {"node": "dgx-b200", "num_gpus": 8},
    {"node": "dgx-b200", "num_gpus": 32},
)
JOBS = tuple({"seq_len": s, "global_batch_size": b} for s, b in ((1024, 256), (2048, 512), (4096, 128), (8192, 128)))
FRAMEWORKS = (None, "megatron-core")
"""The usual one of each question, and one for all."""


GOLDEN = (5.0**0.5 - 1.0) / 2.0


def chosen(number: int) -> list[tuple[Any, ...]]:
    """So many of the questions, spread evenly: those whose multiples of the golden ratio have the least fractions."""
    every = list(itertools.product(MODELS, CLUSTERS, JOBS, FRAMEWORKS))
    order = np.argsort(np.arange(1, len(every) + 1) * GOLDEN % 1.0, kind="stable")
    return [every[i] for i in sorted(order[:number].tolist())]


@dataclass(frozen=True)
class Answer:
    """Of one question: whether the upper bound lies inside the card, time over the fastest's and over the boldest's, and whether
    unusual layouts had to be looked at."""

    inside: bool
    simpler: float
    bolder: float
    wide: bool


def answer(question: tuple[Any, ...]) -> Answer | None:
    """What is recommended for a question; None where nothing fits as surely."""
    model, cluster, job, framework = question
    try:
        result = search_all(as_question(model=model, cluster=cluster, job=job, framework=framework, top=1), searched)
    except PlannerError:
        return None
    rows, (setup,) = result.rows, result.question.setups
    if not len(result.found.rows):
        return None
    table = result.to_frame()
    seconds, fastest = float(rows.time_s[0]), float(rows.time_s.min())
    bold = float(result.found.boldest.time_s[0]) if len(result.found.boldest) else fastest
    return Answer(
        inside=bool(table["peak_total_upper_bytes"].iloc[0] <= setup.fit.usable_bytes * (1 + 1e-9)),
        simpler=seconds / fastest - 1.0,
        bolder=seconds / min(bold, fastest) - 1.0,
        wide=result.widened,
    )


def main() -> None:
    """Answer the grid and print what it shows."""
    options = argparse.ArgumentParser(description="How sure and how costly recommended layouts are.")
    options.add_argument("--questions", type=int, default=800, help="how many of the 800")
    options.add_argument("--jobs", type=int, default=1, help="processes")
    given = options.parse_args()
    questions = chosen(given.questions)
    started = time.perf_counter()
    with ProcessPoolExecutor(given.jobs) as pool:
        answers = list(pool.map(answer, questions, chunksize=1))
    found = [a for a in answers if a is not None]
    none, wide = len(answers) - len(found), sum(a.wide for a in found)
    inside, simpler, bolder = [a.inside for a in found], [a.simpler for a in found], [a.bolder for a in found]
    print(f"{len(questions)} of 800 questions, {time.perf_counter() - started:.0f} s; risk {RISK:.0%}")
    print(f"{len(inside)} recommended layouts, {none} questions without one, {wide} of them answered by unusual layouts only")
    print(f"upper bound of memory inside the card: {np.mean(inside):.1%}")
    for name, lost in (("the fastest that fits as surely", simpler), ("the boldest that may fit", bolder)):
        parts = ", ".join(f"{q:.0%} point {np.quantile(lost, q):.1%}" for q in (0.75, 0.9, 0.95))
        print(f"time against {name}: median {np.median(lost):.2%}, {parts}, most {max(lost):.1%}")


if __name__ == "__main__":
    main()
