"""A pipeline's queue: prompts hold the replica for a stage's part, and their tokens come when all stages have worked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import planner
from planner.serving.batching import Server, simulate
from planner.serving.load import Replica, capacity_per_s, most_per_s, replica
from planner.serving.requests import Requests

CASES: list[dict[str, Any]] = [
    {"engine": "vllm", "prompt": 200},
    {"engine": "vllm", "prompt": 1500, "chunked_prefill_tokens": 512},
    {"engine": "sglang", "prompt": 200},
    {"engine": "tensorrt-llm", "prompt": 700},
]


def case(**fields: Any) -> Replica:
    d = planner.serve(model="llama-3-8b", cluster="4xl4", serving={"tp": 1, "pp": 4, "output": 20, **fields})
    one = replica(d.times)
    return replace(one, server=replace(one.server, launch_s=0.0))


@pytest.mark.parametrize(
    ("fields", "beside"),
    [(c, door) for c in CASES for door in (True, False) if door or "chunked_prefill_tokens" not in c],
    ids=str,
)
def test_a_lone_prompt_has_its_first_token_after_all_stages_at_any_door(fields: dict[str, Any], beside: bool) -> None:
    one = case(**fields)
    chunk = one.server.chunk_tokens or float(fields["prompt"])
    server = replace(one.server, chunk_tokens=chunk if beside else 0.0)
    coming = Requests(arrivals_s=np.zeros(1), prompts=np.full(1, float(fields["prompt"])), outputs=np.full(1, 20.0))
    found = simulate(server, coming, one.work_s(coming.prompts), one.shared_s(coming.prompts))
    first = float(one.times.on_device.prefill_s(float(fields["prompt"])))
    assert float(found.first_s[0]) == pytest.approx(first, rel=1e-6)
    steps = float(found.done_s[0] - found.first_s[0]) / 19.0
    assert steps == pytest.approx(float(one.times.on_device.decode_s(1.0, fields["prompt"] + 10.0)), rel=0.01)


@pytest.mark.parametrize("fields", CASES, ids=str)
@pytest.mark.parametrize("output", [2, 4, 50])
def test_stages_that_work_together_serve_no_less_than_one_after_the_other(fields: dict[str, Any], output: int) -> None:
    one = case(**{**fields, "output": output})
    assert one.server.stages == 4
    after = capacity_per_s(replace(one, server=replace(one.server, stages=1)))
    assert after <= capacity_per_s(one) <= most_per_s(one)


def test_seconds_of_a_prompt_beside_a_decode_step_by_hand() -> None:
    """A pass takes 4 s and 8 more a prompt, a step 1 s, on 4 stages: the first prompt has its token after 12 s, the stages are
    free after 3. The second comes at 3.5: a step ends at 4, one with the prompt takes 1 + 8 / 4, its token is there 6 s later."""
    server = Server(step_s=np.ones(9), token_s=np.zeros(9), pass_s=4.0, slots=8, cache_tokens=1e9, chunk_tokens=100.0, stages=4)
    coming = Requests(arrivals_s=np.array([0.0, 3.5]), prompts=np.full(2, 10.0), outputs=np.array([5.0, 2.0]))
    found = simulate(server, coming, np.full(2, 8.0))
    assert found.first_s.tolist() == pytest.approx([12.0, 13.0])
    assert found.done_s.tolist() == pytest.approx([9.0 + 9.0, 8.0 + 6.0])
    assert found.end_s == pytest.approx(18.0)


def test_a_client_comes_back_when_its_last_token_has_passed_all_stages() -> None:
    server = Server(step_s=np.ones(3), token_s=np.zeros(3), pass_s=4.0, slots=2, cache_tokens=1e9, stages=4)
    coming = Requests(arrivals_s=np.zeros(2), prompts=np.full(2, 10.0), outputs=np.ones(2))
    assert simulate(server, coming, np.zeros(2), None, 1).arrived_s.tolist() == pytest.approx([0.0, 4.0])
