"""Prompts that share a pass share its reading of weights and experts: in the queue as in ``prefill_s``."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import planner
from planner.serving.batching import Server, simulate
from planner.serving.load import Replica, capacity_per_s, most_per_s, replica
from planner.serving.requests import Requests

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("llama-3.1-8b", "1xh100", {"engine": "vllm", "prompt": 128}),
    ("llama-3.1-8b", "1xh100", {"engine": "sglang", "prompt": 100}),
    ("llama-3.1-8b", "1xh100", {"engine": "tensorrt-llm", "prompt": 1000}),
    ("llama-3.1-8b", "1xh100", {"engine": "vllm", "prompt": 600, "prefix_cache_hit_rate": 0.5}),
    ("qwen3-235b-a22b", "8xh100", {"engine": "vllm", "tp": 4, "weights": "fp8", "prompt": 128}),
    ("mixtral-8x7b", "8xh100", {"engine": "sglang", "tp": 8, "prompt": 333}),
    ("deepseek-v3", "8xh200", {"engine": "vllm", "tp": 1, "ep": 8, "weights": "fp8", "prompt": 256}),
]


def case(model: str, cluster: str, fields: dict[str, Any]) -> Replica:
    d = planner.serve(model=model, cluster=cluster, serving={"output": 4, **fields})
    one = replica(d.times)
    return replace(one, server=replace(one.server, launch_s=0.0))


def last_s(one: Replica, n: int, prompt: float) -> float:
    """When the last of ``n`` prompts that come together has its first token."""
    coming = Requests(arrivals_s=np.zeros(n), prompts=np.full(n, prompt), outputs=np.ones(n))
    work, shared = one.work_s(coming.prompts), one.shared_s(coming.prompts)
    return float(simulate(one.server, coming, work, shared).first_s.max())


@pytest.mark.parametrize(("model", "cluster", "fields"), CASES, ids=lambda value: str(value))
def test_prompts_that_come_together_take_what_a_pass_of_them_takes(model: str, cluster: str, fields: dict[str, Any]) -> None:
    """Seconds are those of ``prefill_s``; each prompt's part falls with their number, never below that of a full pass."""
    one = case(model, cluster, fields)
    prompt, server, times = float(fields["prompt"]), one.server, one.times.on_device
    new = prompt * (1.0 - one.times.setting.serving.prefix_cache_hit_rate)
    most = int(min((server.chunk_tokens or server.prefill_tokens) // prompt * server.groups, server.slots))
    numbers = [n for n in (1, 2, 3, 5, 8, 16, 24, 40, 64, most) if n <= most]
    found = [last_s(one, n, prompt) for n in numbers]
    stated = [float(times.prefill_s(new, float(n), prompt - new)) for n in numbers]
    assert found[0] == pytest.approx(stated[0], rel=1e-9)
    assert found == pytest.approx(stated, rel=0.005)
    each = [seconds / n for n, seconds in zip(numbers, found, strict=True)]
    assert all(after <= before * (1.0 + 1e-9) for before, after in pairwise(each))


@pytest.mark.parametrize(("model", "cluster", "fields"), CASES, ids=lambda value: str(value))
def test_a_queue_of_short_answers_is_served_at_nearly_the_rate_of_full_passes(
    model: str, cluster: str, fields: dict[str, Any]
) -> None:
    one = case(model, cluster, {**fields, "output": 2})
    capacity = capacity_per_s(one)
    assert capacity <= most_per_s(one) * (1.0 + 1e-9)
    assert capacity > 0.6 * most_per_s(one)


def plain(**fields: Any) -> Server:
    """A pass takes 1 s; tokens 2 s for 10, then 0.1 s each: ten read what more of them only multiply by."""
    tables = {"tokens": np.array([0.0, 10.0, 20.0]), "own_s": np.array([0.0, 2.0, 3.0]), "shared_s": np.zeros(3)}
    steps = {"step_s": np.full(9, 0.5), "token_s": np.zeros(9)}
    return Server(**{"pass_s": 1.0, "slots": 8, "cache_tokens": math.inf, **tables, **steps, **fields})


def firsts(server: Server, prompts: list[float], outputs: float = 1.0, at: list[float] | None = None) -> list[float]:
    """Prompts of 10 tokens take 2 s alone, those of 20 3.5 s: half a second more than their tokens."""
    lengths = np.array(prompts)
    coming = Requests(arrivals_s=np.array(at or [0.0] * len(prompts)), prompts=lengths, outputs=np.full(len(prompts), outputs))
    return list(simulate(server, coming, np.interp(lengths, [0.0, 10.0, 20.0], [0.0, 2.0, 3.5])).first_s)


@pytest.mark.parametrize("chunk", [0.0, 100.0])
def test_seconds_of_a_pass_by_hand(chunk: float) -> None:
    """1 + 2; two share: 1 + 3; with one of 20 tokens 30 in all: 1 + 4 + 0.5; straight on beyond the table."""
    server = plain(chunk_tokens=chunk)
    assert firsts(server, [10.0]) == pytest.approx([3.0])
    assert firsts(server, [20.0]) == pytest.approx([4.5])
    assert firsts(server, [10.0, 10.0]) == pytest.approx([4.0, 4.0])
    assert firsts(server, [10.0, 20.0]) == pytest.approx([5.5, 5.5])


def test_a_prompt_that_is_cut_takes_alone_what_it_says() -> None:
    """Passes of 8, 8 and 4 tokens, and 3.5 s of the prompt in all."""
    assert firsts(plain(chunk_tokens=8.0), [20.0]) == pytest.approx([3.0 + 3.5])


def test_prompts_beside_a_decode_step_share_it() -> None:
    """The first has its token after 3 s; two that came meanwhile share the next pass: 0.5 + 3."""
    assert firsts(plain(chunk_tokens=100.0), [10.0, 10.0, 10.0], 3.0, [0.0, 1.0, 1.0]) == pytest.approx([3.0, 6.5, 6.5])


def test_groups_share_the_part_of_all() -> None:
    """Two groups: 10 tokens on one take 2 there and 1 for all (5 a group), on each 2 and 2."""
    server = plain(groups=2, shared_s=np.array([0.0, 2.0, 2.0]))
    work, shared = np.full(2, 2.0), np.full(2, 1.0)

    def last(n: int) -> float:
        coming = Requests(arrivals_s=np.zeros(n), prompts=np.full(n, 10.0), outputs=np.ones(n))
        return float(simulate(server, coming, work[:n], shared[:n]).first_s.max())

    assert last(1) == pytest.approx(1.0 + 2.0 + 1.0)
    assert last(2) == pytest.approx(1.0 + 2.0 + 2.0)


def test_no_prompt_gives_time_back() -> None:
    """In passes much smaller than its prompts a server still goes forward: what it takes in chunks is not what one pass takes."""
    fields = {"engine": "vllm", "tp": 1, "ep": 16, "weights": "fp8", "prompt": 1536, "output": 64, "pass_tokens": 64}
    one = case("deepseek-v3", "16xh200", fields)
    n = 40
    coming = Requests(arrivals_s=np.zeros(n), prompts=np.full(n, 1536.0), outputs=np.full(n, 64.0))
    work, shared = one.work_s(coming.prompts), one.shared_s(coming.prompts)
    assert (one.server.beyond_s(coming.prompts, work, shared)[1] >= 0.0).all()
    found = simulate(one.server, coming, work, shared)
    assert (found.first_s > found.admitted_s).all()
    assert (found.done_s > found.first_s).all()
    assert found.prefill_s > 0.0
