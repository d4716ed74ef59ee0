"""Questions answered a second: ``planner.plan_many`` over a table, and a loop over ``planner.plan``, in one run.

    python benchmarks/plans_per_second.py [QUESTIONS]

CPU seconds of this process, so that what else the machine does counts less; the loop asks every 50th question. The bits are the
same: tests/training/test_many.py.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any

import planner

MODELS = ("gpt2-xl", "llama-3-8b", "llama-3-70b", "qwen2.5-7b", "qwen2.5-14b", "mixtral-8x7b", "deepseek-v2-lite", "gemma-2-9b")
EVERY = 50


def questions(number: int) -> list[dict[str, Any]]:
    """The first ``number`` of a grid of models, nodes, sequences, batches and layouts."""
    sizes = itertools.product(("dgx-h100", "dgx-a100-80gb"), (4, 8, 16, 32), (512, 768, 1024), (128, 256, 512, 1024))
    layouts = [{"tp": tp, "pp": pp, "zero": 1, "recompute": how} for tp in (1, 4) for pp in (1, 2, 4) for how in ("none", "full")]
    grid = itertools.product(MODELS, list(sizes), layouts)
    step = max(len(MODELS) * 96 * len(layouts) // number, 1)
    return [
        {
            "model": model,
            "cluster": {"node": node, "num_nodes": nodes},
            "framework": "megatron-core",
            "job": {"seq_len": seq_len, "global_batch_size": batch, "num_tokens": 10**10},
            "layout": layout,
        }
        for model, (node, nodes, seq_len, batch), layout in itertools.islice(grid, 0, None, step)
    ][:number]


def main() -> None:
    asked = questions(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
    planner.plan_many(asked[:1])
    start = time.process_time()
    table = planner.plan_many(asked)
    together = (time.process_time() - start) / len(asked)
    some = [tables for tables, error in zip(asked, table["error"], strict=True) if not error][::EVERY]
    start = time.process_time()
    for tables in some:
        planner.plan(**tables, explain=False)
    alone = (time.process_time() - start) / len(some)
    print(f"{len(asked):,} questions, {int((table['error'] == '').sum()):,} of them possible")
    print(f"plan_many {1e3 * together:.2f} ms a question, plan {1e3 * alone:.2f} ms: {alone / together:.0f} times as fast")


if __name__ == "__main__":
    main()
