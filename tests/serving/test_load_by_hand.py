"""What a load is told as, from few requests whose times are made up: percentiles, targets, shares; and bounds of a capacity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serving_examples import LLAMA, MIXTRAL, deployment, model, serving_times

from planner.common.errors import PlannerError
from planner.hardware.cluster import load_accelerator
from planner.prices.ownership import power_w_per_gpu
from planner.prices.price import Price
from planner.serving.batching import MOST_PASSES, Outcome, Server, simulate
from planner.serving.expense import IDLE_POWER, expense, power_w
from planner.serving.experts import distinct_experts
from planner.serving.load import (
    Load,
    Replica,
    _affordable,
    _summary,
    capacity_per_s,
    counted,
    measured,
    most_per_s,
    num_simulated,
    part_of_a_full_pass_s,
    replica,
    require_room,
    room_of,
    server_s,
    under_load,
)
from planner.serving.requests import Requests, longest_tokens, mean_tokens, sample
from planner.serving.spec import Lengths, PrefillPool, Serving
from planner.workload.resolve import as_cluster

N = 5
REQUESTS = Requests(
    arrivals_s=np.arange(5.0), prompts=np.array([10.0, 20.0, 30.0, 40.0, 50.0]), outputs=np.array([1.0, 3.0, 5.0, 2.0, 11.0])
)
FOUND = Outcome(
    arrived_s=np.arange(5.0),
    admitted_s=np.arange(5.0),
    first_s=np.arange(5.0) + np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
    done_s=np.arange(5.0) + np.array([1.0, 6.0, 7.0, 5.0, 25.0]),
    made=np.array([0.0, 7.0, 9.0, 8.0, 17.0]),
    batch_seconds=60.0,
    busy_s=24.0,
    end_s=30.0,
    preemptions=2,
    steps=np.zeros(3),
    step_tokens=np.zeros(3),
    passes=4,
    prefill_s=6.0,
)
EMPTY = Load(requests_per_s=2.0, capacity_requests_per_s=4.0, utilisation=0.5, stable=True)


def told(kept: slice = slice(0, 5), **fields: Any) -> Load:
    setting = deployment(model(LLAMA), requests_per_s=2.0, **fields)
    front = {"request_s": 0.5, "request_s_per_token": 0.01}
    return measured(EMPTY, replace(setting, engine=setting.engine.model_copy(update=front)), REQUESTS, FOUND, kept)


def test_latencies_of_five_requests_by_hand() -> None:
    """To the first token 1 to 5 s and the server's front, 0.6 to 1 s; a token 2, 1, 1 and 2 s; 22 tokens in all."""
    found = told()
    assert found.ttft_s is not None
    assert found.tpot_s is not None
    assert found.e2e_s is not None
    assert found.ttft_s["mean"] == pytest.approx(3.0 + 0.8)
    assert found.ttft_s["p50"] == pytest.approx(3.8)
    assert found.tpot_s["mean"] == pytest.approx((2 + 1 + 1 + 2) / 4)
    assert found.e2e_s["mean"] == pytest.approx((1 + 6 + 7 + 5 + 25) / 5 + 0.8)
    assert found.output_tokens_per_s == pytest.approx(2.0 * 22 / 5)
    assert (found.mean_batch, found.busy, found.prefill_share, found.preemptions_per_request) == (2.0, 0.8, 0.25, 0.4)
    assert (found.num_requests, found.goodput_requests_per_s, found.within_targets) == (5, None, None)
    some = told(slice(1, 4))
    assert some.ttft_s is not None
    assert some.ttft_s["mean"] == pytest.approx(3.0 + 0.8)
    assert some.output_tokens_per_s == pytest.approx(2.0 * 10 / 3)


@pytest.mark.parametrize(
    ("targets", "within"),
    [
        ({"ttft_target_s": 2.7}, 2 / 5), ({"ttft_target_s": 2.69}, 1 / 5), ({"tpot_target_s": 1.0}, 3 / 5),
        ({"e2e_target_s": 5.9}, 2 / 5), ({"ttft_target_s": 3.85, "tpot_target_s": 1.0}, 2 / 5), ({"e2e_target_s": 26.0}, 1.0),
    ],
)  # fmt: skip
def test_a_request_is_good_where_it_meets_every_target(targets: dict[str, float], within: float) -> None:
    """An answer of one token has no time a token, and meets that target."""
    found = told(**targets)
    assert found.within_targets == pytest.approx(within)
    assert found.goodput_requests_per_s == pytest.approx(2.0 * within)


@pytest.mark.parametrize(("target", "quick"), [(0.02, 1.0), (0.002, 0.0)])
def test_answers_from_a_cache_count_by_their_share(target: float, quick: float) -> None:
    """A quarter in 5 ms: good where the target is longer; a token of an answer that is there already takes no time."""
    found = told(ttft_target_s=target, response_cache_hit_rate=0.25)
    assert found.within_targets == pytest.approx(0.25 * quick)
    assert found.ttft_s is not None
    assert found.ttft_s["mean"] == pytest.approx(0.75 * 3.8 + 0.25 * 0.005)
    assert found.ttft_s["p50"] == pytest.approx(2.7)
    assert found.tpot_s == told(ttft_target_s=target).tpot_s
    slower = told(ttft_target_s=4.75, response_cache_hit_rate=0.25)
    assert slower.within_targets == pytest.approx(0.75 * 3 / 5 + 0.25)


def test_quantiles_of_a_mixture_by_hand() -> None:
    """A fifth at 0, the others 1 to 4: the middle is 2, nine of ten lie below 4."""
    values = np.array([4.0, 1.0, 3.0, 2.0])
    found = _summary(values, 0.2, 0.0)
    assert found == pytest.approx({"mean": 2.0, "p50": 2.0, "p95": 4.0, "p99": 4.0})
    assert _summary(values, 0.0, 9.0)["p50"] == 2.5
    assert _summary(np.array([]), 0.2, 1.0) == {"mean": 0.0, "p50": 0.0, "p95": 0.0, "p99": 0.0}


@pytest.mark.parametrize(("n", "first", "last"), [(1000, 100, 950), (10, 1, 9), (1, 0, 1)])
def test_the_first_tenth_and_the_last_twentieth_are_not_counted(n: int, first: int, last: int) -> None:
    assert counted(n) == slice(first, last)


def test_the_front_of_a_server_by_hand() -> None:
    engine = deployment(model(LLAMA)).engine.model_copy(update={"request_s": 0.5, "request_s_per_token": 0.01})
    assert server_s(engine, np.array([0.0, 100.0])).tolist() == [0.5, 1.5]


def test_a_rate_is_shared_by_replicas_and_a_cache_and_says_where_it_is_too_much() -> None:
    """Of 10 requests a second a fifth is answered beforehand, the others by two replicas: 4 of the 5 that each can."""
    times = serving_times(model(LLAMA), 2, dp=2, response_cache_hit_rate=0.2, num_requests=100, prompt=32, output=4)
    found = under_load(times, 10.0, capacity=5.0)
    assert (found.utilisation, found.capacity_requests_per_s, found.stable) == (pytest.approx(0.8), pytest.approx(12.5), True)
    assert found.num_requests == 100
    for rate in (12.5, 13.0):
        most = under_load(times, rate, capacity=5.0)
        assert not most.stable
        assert most.ttft_s is None
        assert str(most.why).startswith(f"{rate:g} requests per second arrive and at most 12.5 can be served")


def test_a_request_longer_than_the_cache_is_refused_by_whose_cache_it_is() -> None:
    one = replica(serving_times(model(LLAMA)))
    small = replace(one, server=replace(one.server, cache_tokens=60.0, request_tokens=80.0))
    require_room(replace(one, server=replace(one.server, cache_tokens=61.0, request_tokens=61.0)), REQUESTS)
    with pytest.raises(PlannerError, match="a request of 61 tokens is drawn and the cache of a replica holds 60"):
        require_room(small, REQUESTS)
    grouped = replica(serving_times(model(MIXTRAL), 2, ep=2))
    few = replace(grouped, server=replace(grouped.server, request_tokens=50.0))
    with pytest.raises(PlannerError, match="the cache of its attention group holds 50"):
        require_room(few, REQUESTS)


def test_the_most_of_a_replica_by_hand() -> None:
    """Steps of 1, 1.5 and 3 s for 1, 2 and 3 sequences and 1, 2 and 1 ms a cached token: (5 - 1) (0.75 + 0.001 x 12.5), and 2 s
    of prefill over two stages."""
    times = serving_times(model(LLAMA), prompt=10, output=5)
    server = Server(
        step_s=np.array([0.0, 1.0, 1.5, 3.0]),
        token_s=np.array([0.0, 1e-3, 2e-3, 1e-3]),
        pass_s=0.0,
        slots=3,
        cache_tokens=1e6,
        stages=2,
    )
    one = Replica(times=times, server=server, lengths=np.array([1.0, 100.0]), own=np.array([2.0, 2.0]), shared=np.zeros(2))
    assert most_per_s(one) == pytest.approx(1.0 / (4 * (0.75 + 1e-3 * 12.5) + 2.0 / 2))
    tables = {"tokens": np.array([0.0, 10.0, 20.0]), "own_s": np.array([0.0, 3.0, 4.0]), "shared_s": np.zeros(3)}
    shared = replace(
        one, server=replace(server, stages=1, **tables)
    )  # 2 s alone, of which 3 its tokens' part; 0.2 s a token at least
    assert most_per_s(shared) == pytest.approx(1.0 / (4 * (0.75 + 1e-3 * 12.5) + 2.0 - 3.0 + 10 * 0.2))
    few = replace(one, server=replace(server, cache_tokens=15.0))  # 1.2 sequences in the mean: four steps of one, one of two
    assert most_per_s(few) == pytest.approx(1.0 / (4 * ((4 * 1.0 + 1.5) / 6 + 1e-3 * 12.5) + 2.0 / 2))
    mixed = serving_times(model(LLAMA), prompt={"kind": "uniform", "low": 5, "high": 15}, output=5)
    assert most_per_s(replace(one, times=mixed)) == np.inf


def test_a_part_of_a_full_pass_by_hand() -> None:
    """1,024 tokens of prompts of 100 are 10.24 of them where prompts are cut (eleven parts of 93), else ten whole ones; no more
    than there are places."""
    for splits, places, prompts in ((False, 64.0, 10.0), (False, 4.0, 4.0), (True, 4.0, 4.0)):
        times = serving_times(model(LLAMA), pass_tokens=1024, prompt=100)
        engine = times.setting.engine.model_copy(update={"splits_prompts": splits})
        times = replace(times, setting=replace(times.setting, engine=engine))
        found = part_of_a_full_pass_s(times, 100.0, places)
        assert found == pytest.approx(float(times.prefill_busy_s(100.0, prompts)) / prompts)
    whole = part_of_a_full_pass_s(times, 100.0, 64.0)
    part = 1024 / 11
    assert whole == pytest.approx(float(times.prefill_busy_s(part, 11.0, (100 - part) / 2)) / 10.24)


def test_stages_that_work_at_the_same_time_share_a_full_pass() -> None:
    """Each of four holds the replica for a quarter of a prompt's way through them; stages that take turns for all of it."""
    pipelined = serving_times(model(LLAMA), 4, pp=4, pass_tokens=1024, prompt=8192)
    engine = pipelined.setting.engine.model_copy(update={"pipelined": False})
    in_turn = replace(pipelined, setting=replace(pipelined.setting, engine=engine))
    parts = {"prompt": 1024.0, "sequences": 1.0, "past": (8192 - 1024) / 2}
    for times, stages in ((pipelined, 4), (in_turn, 1)):
        found = part_of_a_full_pass_s(times, 8192.0, 64.0)
        assert found == pytest.approx(8 * float(times.together_s(**parts)) / stages, rel=1e-9)


def test_tokens_made_by_hand() -> None:
    """Two requests of 3 and 5 tokens side by side, the first of each from its prompt: 2 x 2 when one is done, 2 more then."""
    one = Server(step_s=np.ones(3), token_s=np.zeros(3), pass_s=1.0, slots=2, cache_tokens=1e9)
    found = simulate(one, Requests(arrivals_s=np.zeros(2), prompts=np.ones(2), outputs=np.array([3.0, 5.0])), np.zeros(2))
    assert found.made.tolist() == [4.0, 6.0]
    assert (found.done_s - found.first_s).tolist() == [2.0, 4.0]
    three = Requests(arrivals_s=np.zeros(3), prompts=np.ones(3), outputs=np.array([1.0, 2.0, 3.0]))
    beside = replace(one, chunk_tokens=1.0, slots=3)
    beside = replace(beside, step_s=np.ones(4), token_s=np.zeros(4))
    assert simulate(beside, three, np.zeros(3)).made.max() == 3.0  # (2 - 1) + (3 - 1), whatever they run beside


LENGTHS: list[tuple[dict[str, Any], float, float]] = [
    ({"kind": "fixed", "mean": 7}, 7.0, 7.0),
    ({"kind": "fixed", "mean": 7, "maximum": 5}, 5.0, 5.0),
    ({"kind": "uniform", "low": 2, "high": 6}, 4.0, 6.0),
    ({"kind": "uniform", "low": 2, "high": 6, "maximum": 4}, (2 + 3 + 4 + 4 + 4) / 5, 4.0),
    ({"kind": "uniform", "low": 2, "high": 6, "maximum": 1}, 1.0, 1.0),
    ({"kind": "histogram", "values": [1, 5, 9], "weights": [2, 1, 1]}, 4.0, 9.0),
    ({"kind": "histogram", "values": [1, 5, 9], "weights": [3, 1, 0], "maximum": 4}, 7 / 4, 4.0),
    ({"kind": "lognormal", "mean": 10, "standard_deviation": 0}, 10.0, 10.0),
    ({"kind": "lognormal", "mean": 10, "standard_deviation": 0, "maximum": 8}, 8.0, 8.0),
]


@pytest.mark.parametrize(("fields", "mean", "longest"), LENGTHS)
def test_lengths_by_hand(fields: dict[str, Any], mean: float, longest: float) -> None:
    lengths = Lengths.build(fields, "prompt")
    assert mean_tokens(lengths) == pytest.approx(mean)
    assert longest_tokens(lengths) == pytest.approx(longest, abs=1.0 if lengths.kind == "lognormal" else 0.0)
    drawn = sample(lengths, 20_000, np.random.default_rng(1))
    assert drawn.mean() == pytest.approx(mean, rel=0.02)
    assert drawn.max() <= longest
    assert (drawn == np.rint(drawn)).all()


def test_a_lognormal_s_long_end_by_hand() -> None:
    """Mean 100 and deviation 100: sigma^2 = ln 2, so that one in a thousand is longer than 100 / sqrt(2) exp(3.09 x 0.8326)."""
    assert longest_tokens(Lengths.build({"kind": "lognormal", "mean": 100, "standard_deviation": 100}, "x")) == 927


def test_dollars_and_joules_of_a_deployment_by_hand() -> None:
    """Two GPUs at 3.60 USD are 2 USD in 1,000 s; a second has 100 output tokens and two prompts of 50, a fifth of its time."""
    two = as_cluster({"node": "dgx-h100", "num_gpus": 2})
    made = expense(two, Price(usd_per_gpu_hour=3.6, term="mine"), 100.0, 2.0, 50.0, 0.2, 0.5)
    second = 2 * 3.6 / 3600
    assert made.usd_per_hour == pytest.approx(7.2)
    assert made.usd_per_million_tokens == pytest.approx(second / 100 * 1e6)
    assert made.usd_per_million_tokens_in_and_out == pytest.approx(second / 200 * 1e6)
    assert made.usd_per_million_input_tokens == pytest.approx(0.2 * second / 100 * 1e6)
    assert made.usd_per_million_output_tokens == pytest.approx(0.8 * second / 100 * 1e6)
    assert made.usd_per_request == pytest.approx(second / 2)
    watts = 2 * power_w_per_gpu(two) * (IDLE_POWER + (1 - IDLE_POWER) / 2)
    assert made.power_w == pytest.approx(watts)
    assert made.joules_per_token == pytest.approx(watts / 100)
    assert power_w(two) == pytest.approx(2 * power_w_per_gpu(two))
    vectors = expense(two, None, 0.0, 2.0, 50.0, 1.0)
    assert (vectors.usd_per_hour, vectors.usd_per_million_tokens, vectors.usd_per_request) == (None, None, None)
    assert vectors.joules_per_token == pytest.approx(2 * power_w_per_gpu(two) / 100)
    assert load_accelerator("h100-sxm5-80gb").tdp_w == 700


def test_gpus_of_a_deployment_by_hand() -> None:
    """Experts over eight GPUs of which two share attention: four groups; three stages, two replicas, and four pools of 2 x 3."""
    s = Serving.build(
        {"prompt": 8, "output": 8, "tp": 2, "ep": 8, "pp": 3, "dp": 2, "prefill_pool": {"replicas": 4, "tp": 2, "pp": 3}},
        "serving",
    )
    assert (s.attention_groups, s.ranks, s.gpus_per_replica, s.num_gpus) == (4, 8, 24, 48 + 24)
    assert s.fullest_group(np.array([1.0, 4.0, 5.0])).tolist() == [1.0, 1.0, 2.0]
    assert PrefillPool().num_gpus == 1
    wide = Serving.build({"prompt": 8, "output": 8, "tp": 8, "ep": 2}, "serving")
    assert (wide.attention_groups, wide.ranks, wide.gpus_per_replica) == (1, 8, 8)


def test_experts_that_are_chosen_by_hand() -> None:
    """Four experts of which each token takes one: 4 (1 - (3/4)^n)."""
    assert distinct_experts(4, 1, np.array([1.0, 2.0, 3.0])) == pytest.approx([1.0, 1.75, 2.3125])


def test_places_are_those_asked_for_of_those_that_there_are() -> None:
    times = serving_times(model(LLAMA), max_batch=12)
    assert room_of(times).slots == 12
    assert [room_of(times, most).slots for most in (0, 5, 12, 99)] == [1, 5, 12, 12]


@pytest.mark.parametrize(
    ("chunk", "given", "n"), [(512, {}, 200_000 // 196), (512, {"num_requests": 3000}, 3000), (50_000, {}, 20_000)]
)
def test_fewer_requests_of_many_passes_are_simulated_where_nobody_says_how_many(chunk: int, given: Any, n: int) -> None:
    """100,000 tokens in chunks of 512 are 196 passes each; 200,000 passes are followed."""
    asked = {"prompt": 100_000, "output": 10, "requests_per_s": 1.0, "chunked_prefill_tokens": chunk, **given}
    assert num_simulated(replica(serving_times(model(LLAMA), **asked))) == n


def test_prompts_of_unlike_lengths_take_their_own_passes() -> None:
    """Half of 1 token, half of 1,023 in chunks of 512: 1 and 2 passes, where the mean of 512 takes 1."""
    prompt = {"kind": "histogram", "values": [1, 1023], "weights": [1, 1]}
    asked = {"prompt": prompt, "output": 10, "requests_per_s": 1.0, "chunked_prefill_tokens": 512}
    one = replica(serving_times(model(LLAMA), **asked))
    assert _affordable(one) == pytest.approx(200_000 / 1.5, rel=0.05)


@pytest.mark.parametrize(("given", "remedy"), [("num_requests", True), ("clients", True), ("", False)])
def test_fewer_requests_are_a_remedy_only_where_a_field_asks_for_them(given: str, remedy: bool) -> None:
    one = Server(step_s=np.ones(3), token_s=np.zeros(3), pass_s=1.0, slots=2, cache_tokens=1e9, chunk_tokens=4.0)
    prompts = np.full(2, 4.0 * MOST_PASSES)
    with pytest.raises(PlannerError) as caught:
        simulate(one, Requests(arrivals_s=np.zeros(2), prompts=prompts, outputs=np.ones(2)), prompts, asked_by=given)
    assert (f"fewer requests ({given})" in str(caught.value)) is remedy
    assert ("fewer" in str(caught.value)) is remedy
    assert "larger chunks" in caught.value.remedy


def test_a_capacity_of_too_many_passes_names_no_number_of_requests() -> None:
    """It is counted of as many prompts as it takes, whatever num_requests says."""
    asked = {"prompt": 100_000, "output": 10, "requests_per_s": 1.0, "chunked_prefill_tokens": 1, "num_requests": 100}
    with pytest.raises(PlannerError, match="the capacity is that of so many prompts") as caught:
        capacity_per_s(replica(serving_times(model(LLAMA), **asked)))
    assert "num_requests" not in str(caught.value)


def test_more_passes_than_can_be_followed_are_refused_at_once() -> None:
    one = Server(step_s=np.ones(3), token_s=np.zeros(3), pass_s=1.0, slots=2, cache_tokens=1e9, chunk_tokens=4.0)
    n = 1001
    prompts = np.full(n, 4.0 * MOST_PASSES / 1000)
    requests = Requests(arrivals_s=np.zeros(n), prompts=prompts, outputs=np.ones(n))
    with pytest.raises(
        PlannerError, match="serving: 1,001 prompts in chunks of 4 tokens take 1,001,000 passes; at most 1,000,000"
    ):
        simulate(one, requests, prompts)
