"""How sure and how costly recommended layouts are, over a grid of questions: upper bounds inside the card, time given up.

Run: .venv/bin/python benchmarks/recommended_layouts.py [EVERY]. Models x clusters x batches x frameworks; with EVERY = 8 each
eighth question. Printed: the share of recommended layouts whose upper bound of memory lies inside the card, and the time that
they give up against the fastest layout that fits as surely, and against the boldest, which fits by the prediction alone.
"""

from __future__ import annotations

import itertools
import sys
import time
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


def main() -> None:
    """Answer the grid and print what it shows."""
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    questions = list(itertools.product(MODELS, CLUSTERS, JOBS, FRAMEWORKS))[::every]
    inside: list[bool] = []
    simpler: list[float] = []
    bolder: list[float] = []
    none = wide = 0
    started = time.perf_counter()
    for model, cluster, job, framework in questions:
        try:
            result = search_all(as_question(model=model, cluster=cluster, job=job, framework=framework, top=1), searched)
        except PlannerError:
            none += 1
            continue
        rows, (setup,) = result.rows, result.question.setups
        wide += result.widened
        if not len(result.found.rows):
            none += 1
            continue
        upper = result.rows.peak_bytes[0] * setup.fit.error.upper
        inside.append(bool(upper <= setup.fit.usable_bytes * (1 + 1e-12)))
        seconds, fastest = float(rows.time_s[0]), float(rows.time_s.min())
        bold = float(result.found.boldest.time_s[0]) if len(result.found.boldest) else fastest
        simpler.append(seconds / fastest - 1.0)
        bolder.append(seconds / min(bold, fastest) - 1.0)
    print(f"{len(questions)} questions, {time.perf_counter() - started:.0f} s; risk {RISK:.0%}")
    print(f"{len(inside)} recommended layouts, {none} questions without one, {wide} of them answered by unusual layouts only")
    print(f"upper bound of memory inside the card: {np.mean(inside):.1%}")
    for name, lost in (("the fastest that fits as surely", simpler), ("the boldest that may fit", bolder)):
        parts = ", ".join(f"{q:.0%} point {np.quantile(lost, q):.1%}" for q in (0.75, 0.9, 0.95))
        print(f"time against {name}: median {np.median(lost):.2%}, {parts}, most {max(lost):.1%}")


if __name__ == "__main__":
    main()
