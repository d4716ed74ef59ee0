"""How many layouts a second one core searches, and in how much memory: memory, step time, dollars of every layout.

Run: make bench. Spaces from 1e4 to 1e7 layouts, each in a process of its own; then plain columns through ``planner.evaluate``.
Seconds are of the wall clock; "cpu" is the processor's time, which other work on the machine does not change.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from typing import Any

import numpy as np

import planner
from planner.common.units import GIB
from planner.layout_search.api import run
from planner.layout_search.question import as_question

GPT3 = {"seq_len": 2048, "global_batch_size": 1536, "precision": "bf16", "num_tokens": 300_000_000_000}
DEEPSEEK = {"seq_len": 4096, "global_batch_size": 8192, "precision": "bf16", "num_tokens": 14_800_000_000_000}
A100 = {"node": "dgx-a100-80gb", "num_nodes": 64}
OVERLAPPED = {"name": "megatron-core", "overlap_tensor_parallel": 0.8}  # --tp-comm-overlap
ALL = ["megatron-core", OVERLAPPED, "megatron-2022", "fsdp", "deepspeed-zero"]

SPACES: list[tuple[str, dict[str, Any]]] = [
    ("Llama-3 70B, 32 H100, Megatron 2022", {
        "model": "llama-3-70b", "cluster": {"node": "dgx-h100", "num_nodes": 4}, "job": {**GPT3, "seq_len": 8192},
        "framework": "megatron-2022"}),
    ("GPT-3 175B, 512 A100, Megatron 2022", {"model": "gpt3-175b", "cluster": A100, "job": GPT3, "framework": "megatron-2022"}),
    ("GPT-3 175B, 512 A100, Megatron-Core", {"model": "gpt3-175b", "cluster": A100, "job": GPT3, "framework": "megatron-core"}),
    ("GPT-3 175B, 512 A100, five stacks", {"model": "gpt3-175b", "cluster": A100, "job": GPT3, "framework": ALL}),
    ("DeepSeek-V3, 2048 H100, Megatron-Core", {
        "model": "deepseek-v3", "cluster": {"node": "dgx-h100", "num_nodes": 256}, "job": DEEPSEEK,
        "framework": "megatron-core"}),
]  # fmt: skip


def searched(space: dict[str, Any]) -> tuple[int, int, int, float, float, float]:
    """(layouts, possible, fitting, seconds, processor seconds, peak GiB) of one search, imports not counted."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = run(as_question(**space, objective="cost", top=20, allow=["all"])).found
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    return found.num_layouts, found.num_possible, found.num_fitting, wall, cpu, peak


def columns(size: int) -> tuple[float, float]:
    """(seconds, peak GiB) of ``size`` layouts as plain columns, all parts of memory and step kept."""
    some = planner.candidates(model="gpt3-175b", cluster=A100, framework="megatron-core", job=GPT3)
    layouts = some.take(np.arange(size) % len(some))
    start = time.perf_counter()
    planner.evaluate(model="gpt3-175b", cluster=A100, framework="megatron-core", job=GPT3, layouts=layouts)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def main() -> None:
    context = multiprocessing.get_context("spawn")
    print("search, one core: every layout's memory, step time and dollars")
    for label, space in SPACES:
        with context.Pool(1) as pool:
            layouts, possible, fitting, wall, cpu, peak = pool.apply(searched, (space,))
        print(f"{label:<38} {layouts:>11,} layouts, {possible:>11,} possible, {fitting:>10,} fit")
        print(
            f"{'':<38} {wall:.2f} s (cpu {cpu:.2f} s), {layouts / wall:,.0f} layouts/s, {possible / wall:,.0f} possible/s, "
            f"peak {peak:.2f} GiB"
        )
    print("planner.evaluate, one core: plain columns, all parts kept")
    for size in (1, 10_000, 100_000, 1_000_000):
        with context.Pool(1) as pool:
            seconds, peak = pool.apply(columns, (size,))
        print(f"{size:>11,} layouts: {seconds:7.3f} s, {size / seconds:>10,.0f} layouts/s, peak {peak:.2f} GiB")


if __name__ == "__main__":
    main()
