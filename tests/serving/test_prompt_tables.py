"""What prompts take together: tables of a replica against the seconds of the passes that they stand for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from serving_examples import LLAMA, MIXTRAL, deployment, model, serving_times

import planner
from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster
from planner.model.catalog import load_model
from planner.serving.batch_figures import batch_figures
from planner.serving.batching import along
from planner.serving.closed_loop import closed_loop
from planner.serving.curves import client_curve
from planner.serving.disaggregated import prefill_setting, prefill_times
from planner.serving.feasibility import require_possible
from planner.serving.load import replica


@pytest.mark.parametrize("prompt", [90, 1000])
@pytest.mark.parametrize("groups", [2, 4])
def test_what_groups_share_is_what_their_prompts_take_beyond_one(groups: int, prompt: int) -> None:
    """T(t, G) = pass + own(t) + shared(t) where each of G groups has t tokens; one prompt alone adds a G-th of shared work's
    tokens: shared(t) - shared(t / G) = T(t, G) - T(t, 1). No tokens take nothing."""
    times = serving_times(model(MIXTRAL), groups, ep=groups, prompt=prompt, output=4)
    server = replica(times).server
    assert server.tokens is not None
    assert server.own_s is not None
    assert server.shared_s is not None
    assert (server.tokens[0], server.own_s[0], server.shared_s[0]) == (0.0, 0.0, 0.0)
    assert server.groups == groups

    def seconds(t: float, on: float) -> float:
        return float(times.on_device.together_s(np.array([t]), np.array([on]), np.zeros(1))[0])

    assert server.pass_s == pytest.approx(seconds(1.0, 1.0))
    t = float(prompt)
    while t > groups:
        shared, less = (float(along(server.tokens, server.shared_s, np.asarray(x))) for x in (t, t / groups))
        assert shared - less == pytest.approx(seconds(t, groups) - seconds(t, 1.0), rel=1e-9), t
        own = float(along(server.tokens, server.own_s, np.asarray(t)))
        assert own == pytest.approx(seconds(t, groups) - server.pass_s - shared, rel=1e-9), t
        t /= groups


def test_on_one_group_all_is_its_own_or_shared_by_none() -> None:
    """Several prompts of 100 take what a pass of them does."""
    times = serving_times(model(LLAMA), prompt=100, output=4)
    server = replica(times).server
    assert server.tokens is not None
    assert server.own_s is not None
    for prompts in (1.0, 2.0, 5.0):
        whole = float(times.on_device.together_s(np.array([100.0]), np.array([prompts]), np.zeros(1))[0])
        assert server.pass_s + float(along(server.tokens, server.own_s, np.asarray(100 * prompts))) == pytest.approx(whole)


@pytest.mark.parametrize("pool", [None, {"replicas": 1}])
def test_a_prompt_in_the_cache_still_has_one_token_to_compute(pool: dict[str, int] | None) -> None:
    """Of one token of which 0.9 are cached a whole one is computed, behind 0.9."""
    times = serving_times(model(LLAMA), 2 if pool else 1, prompt=1, output=8, prefix_cache_hit_rate=0.9, prefill_pool=pool)
    before = prefill_times(times) if pool else times
    seen = []
    kept = type(before).prefill_s

    def told(self: object, prompt: float, *rest: object) -> object:
        seen.append(prompt)
        return kept(self, prompt, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(before), "prefill_s", told)
        batch_figures(times, np.array([1.0]))
    assert seen == [1.0]


def test_a_way_to_experts_of_a_pool_for_prompts_is_asked_of_the_pool_alone() -> None:
    """Decoding cut 16 ways over a network without RDMA sends no tokens, so that it may be told of DeepEP within the pool's node;
    of a pool of 16 it may not."""
    fields = {"engine": "sglang", "weights": "fp16", "tp": 16, "ep": 16, "dispatcher": "deepep"}
    m, three, four = load_model("qwen3-30b-a3b"), cluster("a3-highgpu-8g", num_nodes=3), cluster("a3-highgpu-8g", num_nodes=4)
    found = deployment(m, on=three, **fields, prefill_pool={"ep": 8})
    assert (found.dispatcher, prefill_setting(found).dispatcher) == ("none", "deepep")
    wide = prefill_setting(deployment(m, on=four, **fields, prefill_pool={"ep": 16}))
    with pytest.raises(PlannerError, match=r"which 16 GPUs of 16 x .*a3-highgpu-8g"):
        require_possible(replace(wide, cluster=cluster("a3-highgpu-8g", num_nodes=2)))


def test_clients_of_a_curve_are_powers_of_two_to_twice_the_places() -> None:
    """Three places on each of two replicas: to twelve clients; each row is its own loop."""
    asked = {"prompt": 64, "output": 8, "max_batch": 3, "dp": 2, "num_requests": 100, "engine": "vllm"}
    d = planner.serve(model="llama-3-8b", cluster="2xh100", serving=asked)
    table = client_curve(d)
    assert table["clients"].tolist() == [1, 2, 4, 8]
    for row in table.itertuples():
        alone = closed_loop(d.times, int(row.clients), replica(d.times))
        assert row.requests_per_s == pytest.approx(alone.requests_per_s)
        assert row.output_tokens_per_s == pytest.approx(alone.output_tokens_per_s)
    assert client_curve(d, (3,))["clients"].tolist() == [3]
