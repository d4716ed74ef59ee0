"""Prompts on GPUs of their own: laws of two queues in a row."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from serving_examples import LLAMA, model, serving_times

from planner.common.errors import PlannerError
from planner.serving import serve
from planner.serving.curves import client_curve
from planner.serving.deployment import Deployment
from planner.serving.disaggregated import Pools, _sent, load_apart, prefill_setting, prefill_times, transfer_s
from planner.serving.kv_cache import replica_sequence_bytes
from planner.serving.load import server_s
from planner.serving.requests import Requests, poisson

FIELDS = {"engine": "vllm", "weights": "fp8", "prompt": 2000, "output": 100, "num_requests": 2000}


def apart(gpus: int = 2, **fields: object) -> Deployment:
    cluster = {"node": "dgx-h100", "num_gpus": gpus}
    return serve(model="llama-3.1-8b", cluster=cluster, serving={**FIELDS, "prefill_pool": {"replicas": 1}, **fields})


def test_nothing_delays_a_lonely_request() -> None:
    """Time to first token without company = front + prefill + cache over the link; then one decode step a token."""
    d = apart(requests_per_s=0.05)
    assert d.load is not None
    assert d.load.ttft_s is not None
    assert d.load.tpot_s is not None
    assert d.load.utilisation == pytest.approx(0.05 / d.load.capacity_requests_per_s)
    front = float(server_s(d.engine, np.array(2000.0)))
    alone = front + float(prefill_times(d.times).prefill_s(2000.0)) + float(transfer_s(d.times.setting, 2000.0))
    assert d.load.ttft_s["p50"] == pytest.approx(alone, rel=0.02)
    assert d.load.tpot_s["p50"] == pytest.approx(float(d.times.decode_s(1.0, 2050.0)), rel=0.02)


def test_every_request_passes_both_pools_in_order() -> None:
    d = apart(4, dp=2, prefill_pool={"replicas": 2})
    s = d.serving
    coming = poisson(20.0, 500, s.prompt, s.output, 3)
    found = Pools(d.times).serve(coming)
    sent = float(transfer_s(d.times.setting, 2000.0))
    assert np.all(found.arrived_s <= found.admitted_s)
    assert np.all(found.first_s >= found.admitted_s + sent)
    assert np.all(found.done_s > found.first_s)


def test_each_gpu_is_busy_with_its_own_part_of_lonely_requests() -> None:
    """Two GPUs make a first token, its cache crosses, one of two replicas makes the other seven: of four GPUs' time."""
    times = serving_times(model(LLAMA), 4, dp=2, prefill_pool={"tp": 2}, prompt=64, output=8)
    n = 6
    coming = Requests(arrivals_s=100.0 * np.arange(n), prompts=np.full(n, 64.0), outputs=np.full(n, 8.0))
    found = Pools(times).serve(coming)
    sent = float(transfer_s(times.setting, 64.0))
    making, writing = found.first_s - found.admitted_s - sent, found.done_s - found.first_s
    assert making == pytest.approx(float(prefill_times(times).prefill_s(64.0)), rel=0.02)
    assert writing == pytest.approx(7 * float(times.decode_s(1.0, 68.0)), rel=0.02)
    assert found.busy_s == pytest.approx((2 * making.sum() + writing.sum()) / 4)
    assert found.prefill_s == pytest.approx(2 * making.sum() / 4)
    assert found.batch_seconds == pytest.approx(writing.sum() / 2)
    assert found.end_s == pytest.approx(found.done_s.max())
    assert (found.preemptions, found.passes) == (0, 0)


def test_caches_cross_a_link_one_after_the_other_as_they_are_ready() -> None:
    """Ready at 3, 1 and 1.5 s, 1, 2 and 0.25 s each: the second from 1 to 3, the third to 3.25, the first to 4.25."""
    assert _sent(np.array([3.0, 1.0, 1.5]), np.array([1.0, 2.0, 0.25])).tolist() == [4.25, 3.0, 3.25]


@pytest.mark.parametrize("rate", [1.0, 10.0])
def test_prompts_do_not_stall_answers(rate: float) -> None:
    """On GPUs of their own long prompts leave the time per token as it is; beside decoding they lengthen it."""
    long = {"prompt": 6000, "requests_per_s": rate}
    own, mixed = apart(**long).load, apart(**long, prefill_pool=None).load
    assert own is not None
    assert mixed is not None
    assert own.tpot_s is not None
    assert mixed.tpot_s is not None
    assert own.tpot_s["p99"] < mixed.tpot_s["p99"]


def test_the_weaker_pool_bounds_the_rate() -> None:
    """Twice the replicas of the pool that binds carry twice as much, those of the other no more."""
    one, more_prefill = Pools(apart(2).times), Pools(apart(3, prefill_pool={"replicas": 2}).times)
    more_decode = Pools(apart(3, dp=2).times)
    assert one.capacity_per_s == min(one.capacities_per_s.values()) == one.capacities_per_s["prefill"]
    assert more_prefill.capacity_per_s == pytest.approx(min(2 * one.capacity_per_s, one.capacities_per_s["decode"]), rel=0.02)
    assert more_decode.capacity_per_s == pytest.approx(one.capacity_per_s, rel=0.02)
    assert one.balance == pytest.approx(one.capacities_per_s["decode"] / one.capacities_per_s["prefill"])
    load = load_apart(one.times, 1.1 * one.capacity_per_s)
    assert not load.stable
    assert "prefill carries at most" in load.why


def test_the_cache_crosses_the_link_in_proportion_to_its_bytes() -> None:
    """A cache in 8 bits takes half of the time of one in 16; two ports half of one; a network more than NVLink."""
    wide, narrow = apart().times.setting, apart(kv_dtype="fp8").times.setting
    latency = float(transfer_s(wide, 1.0))
    assert float(transfer_s(narrow, 2000.0)) - latency == pytest.approx((float(transfer_s(wide, 2000.0)) - latency) / 2, rel=0.1)
    inner = max(link.bytes_per_s for link in wide.cluster.node.links)
    assert float(transfer_s(wide, 2000.0)) >= float(replica_sequence_bytes(wide, 2000.0)) / inner
    both = apart(4, tp=2, prefill_pool={"tp": 2}).times.setting
    assert float(transfer_s(both, 20000.0)) < 0.7 * float(transfer_s(wide, 20000.0))
    nodes = replace(wide, cluster=wide.cluster.replaced(num_nodes=2, num_gpus=16))
    assert float(transfer_s(nodes, 2000.0)) > float(transfer_s(wide, 2000.0))


def test_money_is_that_of_both_pools() -> None:
    d = apart(requests_per_s=2.0)
    assert d.num_gpus == 2
    assert d.expense is not None
    assert d.price is not None
    assert d.expense.usd_per_hour == pytest.approx(2 * d.price.usd_per_gpu_hour)
    assert any("to one of decoding" in note for note in d.notes)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"clients": 4, "requests_per_s": 1.0}, "give one of the two"),
        ({"prefill_pool": {"tp": 2}}, "takes 3 GPUs"),
        ({"prefill_pool": {"ep": 3, "tp": 2}}, "one must divide"),
        ({"engine": "lmdeploy"}, "no disaggregated"),
    ],
)
def test_what_cannot_be_names_its_field(fields: dict[str, object], says: str) -> None:
    with pytest.raises(PlannerError, match=says):
        apart(**fields)


def test_a_prefill_replica_must_fit_too() -> None:
    d = serve(
        model="llama-3.1-70b",
        cluster={"node": "dgx-h100", "num_gpus": 5},
        serving={**FIELDS, "weights": "bf16", "tp": 4, "dp": 1, "prefill_pool": {"tp": 1}},
    )
    assert not d.fits
    assert "a prefill replica" in d.reasons[0]


@pytest.mark.parametrize("pool", [{"tp": 8}, {"ep": 24}, {"ep": 8}])
@pytest.mark.parametrize(
    "experts",
    [
        {"redundant_experts": 32, "expert_zipf": 0.5},
        {"expert_placement": "sorted", "expert_zipf": 0.5},
        {"expert_load": 12.0},
    ],
)
def test_copies_and_loads_of_ranks_hold_where_a_pool_has_ranks_of_experts(
    pool: dict[str, int], experts: dict[str, object]
) -> None:
    """GPUs that each have a part of all experts hold no copies, and none is fuller than another; ranks as decoding's do."""
    if pool.get("ep") == 24 and "redundant_experts" not in experts:
        pool = {"ep": 32}
    gpus = 32 + max(pool.values())
    fields = {"engine": "sglang", "weights": "fp8-block", "prompt": 512, "output": 64, "memory_fraction": 0.95, "ep": 32, "dp": 1}
    asked = {**fields, "dispatcher": "deepep", "prefill_pool": pool, **experts}
    found = serve(model="deepseek-v3", cluster=f"{gpus}xh200", serving=asked)
    own, ranks = prefill_setting(found.times.setting).serving, pool.get("ep", 1)
    if ranks == 1:
        assert (own.redundant_experts, own.expert_placement, own.rank_load(256)) == (0, None, 1.0)
    else:
        assert own.redundant_experts == found.serving.redundant_experts
        assert own.expert_placement == found.serving.expert_placement
        assert own.rank_load(256) <= ranks


def test_one_client_is_answered_and_asks_again() -> None:
    """Nobody else delays it: a request each front + prefill + link + 99 decode steps."""
    d = apart(clients=1)
    assert d.load is not None
    front = float(server_s(d.engine, np.array(2000.0)))
    prefill, link = float(prefill_times(d.times).prefill_s(2000.0)), float(transfer_s(d.times.setting, 2000.0))
    each = front + prefill + link + 99.0 * float(d.times.decode_s(1.0, 2050.0))
    assert d.load.requests_per_s == pytest.approx(1.0 / each, rel=0.02)


def test_a_curve_over_clients_is_what_each_number_of_them_is_answered() -> None:
    d = apart(clients=4)
    assert d.load is not None
    table = client_curve(d, (1, 4))
    assert table["clients"].tolist() == [1, 4]
    assert table["requests_per_s"].tolist()[1] == d.load.requests_per_s


@pytest.mark.parametrize(("pool", "dp"), [(1, 1), (2, 1), (1, 3)])
def test_clients_are_at_one_place_at_a_time_and_the_weaker_pool_bounds_them(pool: int, dp: int) -> None:
    """Little's law: clients = rate x seconds of a request; more of them are never answered less, nor more than a pool carries."""
    rates = []
    for clients in (1, 4, 16, 64, 256):
        d = apart(pool + dp, dp=dp, prefill_pool={"replicas": pool}, clients=clients)
        assert d.load is not None
        assert d.load.e2e_s is not None
        rates.append(d.load.requests_per_s)
        assert rates[-1] * d.load.e2e_s["mean"] == pytest.approx(clients, rel=0.15)
    most = Pools(d.times).capacity_per_s
    assert all(more >= 0.99 * fewer for fewer, more in pairwise(rates))
    assert rates[-1] <= 1.02 * most
    assert rates[-1] == pytest.approx(most, rel=0.1)
