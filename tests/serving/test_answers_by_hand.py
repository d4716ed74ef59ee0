"""Figures of an answer from those of its batch and its load, by hand: rates, warnings, curves over rates, choices of a cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serving_examples import LLAMA, MIXTRAL, chips, model, serving_times

import planner
from planner.serving import cuts as cuts_module
from planner.serving.batch_figures import batch_figures
from planner.serving.curves import load_curve
from planner.serving.cuts import best_cut, cuts
from planner.serving.deploy import _crowded, _replicas
from planner.serving.deployment import Deployment
from planner.serving.engine import load_engine
from planner.serving.expense import expense
from planner.serving.load import CROWDED, Load, server_s, slots_of, under_load
from planner.serving.memory import memory
from planner.serving.pass_time import Times
from planner.serving.spec import Serving
from planner.workload.resolve import as_model


def served(**fields: Any) -> Deployment:
    asked = {"engine": "vllm", "prompt": 200, "output": 40, "num_requests": 200, **fields}
    return planner.serve(model="llama-3-8b", cluster="2xh100", serving=asked, price=3.6)


def test_rates_of_a_batch_by_hand() -> None:
    """Two replicas of eight: 16 x 200 tokens in a prefill without the server's front, 16 in a step."""
    d = served(batch=8, dp=2)
    assert d.ttft_s is not None
    assert d.tpot_s is not None
    front = float(server_s(d.engine, np.array(200.0)))
    assert front > 0.0
    assert d.prefill_tokens_per_s == pytest.approx(2 * 8 * 200 / (d.ttft_s - front))
    assert d.decode_tokens_per_s == pytest.approx(2 * 8 / d.tpot_s)
    assert d.output_tokens_per_s == pytest.approx(40 * (d.requests_per_s or 0.0))
    assert d.total_bytes == pytest.approx(sum(d.memory_bytes.values()))
    assert d.kv_bytes_per_token == 32 * 2 * 8 * 128 * 2  # arXiv 2407.21783, table 3
    assert d.kv_bytes_per_sequence == 240 * d.kv_bytes_per_token
    assert (d.loaded_batch, d.loaded_total_bytes) == (8, pytest.approx(d.total_bytes))


def test_dollars_at_a_capacity_by_hand() -> None:
    """Where nothing is asked prefill has its part of a full batch; under a load that of its busy time, as much more of it as the
    capacity is of the rate."""
    d = served(dp=2)
    most = d.capacity_requests_per_s
    assert most is not None
    full = float(batch_figures(d.times, np.array([float(slots_of(d.times))]))["prefill_share"][0])
    assert d.at_capacity == expense(d.cluster, d.price, most * 40, most, 200.0, full)
    loaded = served(dp=2, requests_per_s=most / 4)
    load = loaded.load
    assert load is not None
    assert load.prefill_share is not None
    assert load.busy is not None
    at = loaded.capacity_requests_per_s
    assert at == pytest.approx(most)
    share = load.prefill_share * load.busy * 4
    assert 0.0 < share < 1.0
    by_hand = expense(loaded.cluster, loaded.price, most * 40, most, 200.0, share)
    assert loaded.at_capacity is not None
    assert loaded.at_capacity.usd_per_million_input_tokens == pytest.approx(by_hand.usd_per_million_input_tokens)
    assert loaded.at_capacity.usd_per_million_tokens == pytest.approx(by_hand.usd_per_million_tokens)


def test_bytes_under_a_load_are_those_of_its_batch() -> None:
    """Of 12.2 sequences on average thirteen; of a queue without end every place; the batch where that is more."""
    d = served(dp=2, requests_per_s=1.0)
    assert d.load is not None

    def batch(**changes: Any) -> int:
        return replace(d, load=replace(d.load, **changes)).loaded_batch  # type: ignore[type-var]

    assert batch(mean_batch=12.2) == 13
    assert batch(mean_batch=0.2) == 1
    assert batch(stable=False) == slots_of(d.times)
    assert replace(d, load=replace(d.load, mean_batch=3.5), serving=d.serving.replaced(batch=9)).loaded_batch == 9
    some = replace(d, load=replace(d.load, mean_batch=12.2))
    used = memory(d.times.setting, 13.0, 200.0, 240.0)
    assert some.loaded_total_bytes == pytest.approx(float(used.total_bytes))
    tight = replace(some, limit_bytes=float(used.total_bytes) - 1e6)
    assert tight.loaded_total_bytes == pytest.approx(tight.limit_bytes)
    none = replace(some, limit_bytes=1.0)
    assert none.loaded_bytes["kv_cache"] == d.memory_bytes["kv_cache"]


@pytest.mark.parametrize(("share", "told"), [(CROWDED, ""), (CROWDED + 0.02, "of the capacity"), (1.2, "")])
def test_a_queue_near_its_capacity_is_told_with_how_long_the_load_lasts(share: float, told: str) -> None:
    """400 requests at 5 a second are 80 s; a loop of clients has no queue that grows."""
    load = Load(requests_per_s=5.0, capacity_requests_per_s=5 / share, utilisation=share, stable=share < 1, num_requests=400)
    assert [(told in str(one), "400, 80 s of it" in str(one)) for one in _crowded(load)] == ([(True, True)] if told else [])
    assert _crowded(replace(load, clients=4)) == ()
    assert _crowded(None) == ()


def test_replicas_fill_what_is_left_of_a_cluster() -> None:
    """Eight GPUs are four of two; beside a pool of two, three; what does not divide, or is given, stays."""
    asked = {"prompt": 8, "output": 8, "tp": 2}
    for gpus, more, dp in (
        (8, {}, 4), (8, {"dp": 1}, 1), (7, {}, 1), (2, {}, 1), (8, {"prefill_pool": {"replicas": 2}}, 3),
        (4, {"prefill_pool": {"replicas": 2}}, 1),
    ):  # fmt: skip
        found, notes = _replicas(Serving.build({**asked, **more}, "serving"), chips(gpus))
        assert (found.dp, len(notes)) == (dp, int(dp > 1)), (gpus, more)


def test_a_curve_over_rates_simulates_each_share_of_the_capacity() -> None:
    """Two replicas, a fifth of the answers from a cache: shares of 2 x capacity / 0.8."""
    d = served(dp=2, response_cache_hit_rate=0.2)
    table = load_curve(d, (0.25, 0.5, 1.5))
    assert table["share"].tolist() == [0.25, 0.5, 1.5]
    most = d.capacity_requests_per_s
    assert most is not None
    assert table["requests_per_s"].to_numpy() == pytest.approx(np.array([0.25, 0.5, 1.5]) * most)
    assert table["stable"].tolist() == [True, True, False]
    alone = under_load(d.times, 0.5 * most)
    assert alone.ttft_s is not None
    assert table["ttft_s_p95"][1] == pytest.approx(alone.ttft_s["p95"])
    assert table["output_tokens_per_s"][1] == pytest.approx(alone.output_tokens_per_s)


def cut(found: dict[str, int]) -> tuple[int, ...]:
    return tuple(found[name] for name in ("tp", "pp", "ep", "dp"))


def test_cuts_of_eight_gpus_by_hand() -> None:
    """Eight heads: matrices over 1 to 8, replicas over the rest. Eight experts beside: whole over these, or over a replica whose
    GPUs attend each to its own. Six heads are cut over two, and layers over what is left."""
    vllm, cluster = load_engine("vllm"), chips(8)
    dense = {cut(one) for one in cuts(model(LLAMA), cluster, vllm)}
    assert dense == {(1, 1, 1, 8), (2, 1, 1, 4), (4, 1, 1, 2), (8, 1, 1, 1)}
    experts = {cut(one) for one in cuts(model(MIXTRAL), cluster, vllm)}
    assert experts == dense | {(n, 1, n, 8 // n) for n in (2, 4, 8)} | {(1, 1, n, 8 // n) for n in (2, 4, 8)}
    few = {cut(one) for one in cuts(model(LLAMA, num_heads=6, num_kv_heads=6, head_dim=64), cluster, vllm)}
    assert few == {(1, 1, 1, 8), (2, 1, 1, 4), (2, 2, 1, 2), (2, 4, 1, 1)}
    stages = {cut(one) for one in cuts(model(LLAMA), cluster, load_engine("llama.cpp"))}
    assert stages == {(1, 1, 1, 8), (1, 2, 1, 4), (1, 4, 1, 2)}  # of four layers


RATES = {1.0: (2.0, 0.5), 2.0: (3.0, 0.75), 4.0: (4.0, 1.0), 6.0: (5.0, 2.0)}
"""Batch: requests per second, seconds of one."""


def test_a_request_at_a_rate_takes_what_its_company_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two a second alone in 0.5 s, 2.5 between one and two; beyond five, the most, as many times longer as is missing."""
    times, met = serving_times(model(LLAMA)), []

    def made(_: Times, batches: Any) -> dict[str, Any]:
        met.append(batches.tolist())
        return {name: np.array([RATES[b][i] for b in batches.tolist()]) for i, name in enumerate(("requests_per_s", "e2e_s"))}

    monkeypatch.setattr(cuts_module, "batch_figures", made)
    monkeypatch.setattr(cuts_module, "slots_of", lambda _: 6)
    found = [cuts_module._latency_s(times, rate) for rate in (1.0, 2.0, 2.5, 4.5, 5.0, 10.0)]
    assert found == pytest.approx([0.5, 0.5, 0.625, 1.5, 2.0, 4.0])
    assert met[0] == [1.0, 2.0, 4.0, 6.0]


@pytest.mark.parametrize(
    ("fields", "batch", "times"),
    [
        ({}, 6.0, 1.0), ({"batch": 4}, 4.0, 1.0), ({"batch": 2, "clients": 8, "dp": 2}, 4.0, 1.0),
        ({"clients": 3, "dp": 2}, 2.0, 3 / 4), ({"clients": 40, "dp": 2}, 6.0, 1.0),
    ],
)  # fmt: skip
def test_output_of_a_cut_is_that_of_as_many_as_are_there(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], batch: float, times: float
) -> None:
    """Full where nothing is asked; a batch; clients as those of the fullest replica, no more than it holds: three on two are
    three quarters of two on each."""
    monkeypatch.setattr(
        cuts_module, "batch_figures", lambda _, b: {"requests_per_s": np.array([RATES[x][0] for x in b.tolist()])}
    )
    monkeypatch.setattr(cuts_module, "slots_of", lambda _: 6)
    one = serving_times(model(LLAMA), fields.get("dp", 1), **fields)
    assert cuts_module._output(one) == pytest.approx(RATES[batch][0] * times)


def test_the_cut_of_a_rate_is_the_quickest_that_carries_it_with_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capacities of 2, 5 and 20 in 1, 2 and 3 s: the quickest of whose capacity the rate takes no more than 95 %, or the largest;
    the surest come first; of what does not fit the one with the least bytes."""
    latency, most, least = {0: 1.0, 1: 2.0, 2: 3.0}, {0: 2.0, 1: 5.0, 2: 20.0}, {0: 3.0, 1: 1.0, 2: 2.0}

    def times(rate: float) -> list[Times]:
        return [serving_times(model(LLAMA), requests_per_s=rate, num_requests=100 + i) for i in range(3)]

    def at(one: Times) -> int:
        return one.setting.serving.num_requests - 100

    monkeypatch.setattr(cuts_module, "_latency_s", lambda one, _: latency[at(one)])
    monkeypatch.setattr(cuts_module, "full_per_s", lambda one: most[at(one)])
    monkeypatch.setattr(cuts_module, "_least_bytes", lambda one: least[at(one)])
    monkeypatch.setattr(cuts_module, "CROWDED", 0.5)
    rates = (1.0, 1.1, 2.5, 2.6, 10.0, 11.0)
    assert [best_cut(times(rate), [2, 2, 2]) for rate in rates] == [0, 1, 1, 2, 2, 2]
    assert best_cut(times(1.0), [1, 2, 2]) == 1
    assert best_cut(times(1.0), [1, 1, 0]) == 0
    assert best_cut(times(1.0), [0, 0, 0]) == 1


def test_a_model_of_more_heads_than_gpus_in_a_node_is_cut_within_it() -> None:
    """Sixteen GPUs in two nodes: eight wide at most."""
    found = list(cuts(as_model("llama-3-70b"), chips(16), load_engine("vllm")))
    assert max(one["tp"] for one in found) == 8
    assert (8, 2, 1, 1) in {cut(one) for one in found}
