"""How many layouts a second one core evaluates: memory, step time and flops of GPT-3 175B on 512 A100.

Run: make bench. Prints the size of the space, layouts per second and the peak memory, at growing numbers of layouts.
"""

from __future__ import annotations

import resource
import time

import numpy as np

import planner
from planner.units import GIB

JOB = {"seq_len": 2048, "global_batch_size": 1536, "precision": "bf16"}
CLUSTER = {"node": "dgx-a100-80gb", "num_nodes": 64}


def main() -> None:
    start = time.perf_counter()
    space = planner.candidates(model="gpt3-175b", cluster=CLUSTER, job=JOB)
    print(f"space: {len(space):,} layouts, listed in {time.perf_counter() - start:.2f} s")
    for size in (1, 1_000, 10_000, 100_000, 1_000_000):
        index = np.arange(size) % len(space)
        layouts = space.take(index)
        start = time.perf_counter()
        answer = planner.evaluate(model="gpt3-175b", cluster=CLUSTER, job=JOB, layouts=layouts)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
        print(f"{size:>9,} layouts: {seconds:7.3f} s, {size / seconds:>10,.0f} layouts/s, peak memory {peak:.2f} GiB, "
              f"{int(answer.fits.sum()):,} fit")  # fmt: skip


if __name__ == "__main__":
    main()
