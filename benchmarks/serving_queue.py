"""Seconds to simulate a million requests of continuous batching on one core: ``python benchmarks/serving_queue.py [requests]``.

Aim: less than 10 s. Chat traffic on one H100 at 70 % of its capacity, prompts and outputs lognormal.
"""

from __future__ import annotations

import sys
import time

from planner.serving import serve
from planner.serving.batching import simulate
from planner.serving.load import capacity_per_s, replica
from planner.serving.requests import poisson

LENGTHS = {
    "prompt": {"kind": "lognormal", "mean": 800, "standard_deviation": 900, "maximum": 8000},
    "output": {"kind": "lognormal", "mean": 250, "standard_deviation": 250, "maximum": 2000},
}


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    cluster = {"node": "dgx-h100", "num_gpus": 1}
    d = serve(model="llama-3.1-8b", cluster=cluster, serving={"engine": "vllm", "weights": "fp8", **LENGTHS})
    one = replica(d.times)
    rate = 0.7 * capacity_per_s(one)
    requests = poisson(rate, n, d.serving.prompt, d.serving.output, seed=0)
    start, cpu = time.perf_counter(), time.process_time()
    found = simulate(one.server, requests, one.work_s(requests.prompts), one.shared_s(requests.prompts))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    batch = found.batch_seconds / found.end_s
    print(f"{n} requests at {rate:.1f}/s, mean batch {batch:.1f}: {seconds:.2f} s (cpu {cpu:.2f} s)")


if __name__ == "__main__":
    main()
