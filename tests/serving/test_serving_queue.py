"""The simulation of continuous batching: closed forms, Little's law, low load, overload, seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_examples import serving_times

from planner.common.errors import PlannerError
from planner.model.catalog import load_model
from planner.serving import Server, batching, serve, simulate
from planner.serving.deployment import Deployment, capacity_of
from planner.serving.load import capacity_per_s, replica, slowed
from planner.serving.memory import largest_context
from planner.serving.requests import Lengths, Requests, longest_tokens, mean_tokens, poisson, sample
from planner.serving.spec import Serving

CLUSTER = {"node": "dgx-h100", "num_gpus": 1}
CHAT = {"prompt": 512, "output": 128, "num_requests": 4000}


def one_at_a_time(slots: int = 1) -> Server:
    return Server(step_s=np.zeros(slots + 1), token_s=np.zeros(slots + 1), pass_s=0.0, slots=slots, cache_tokens=math.inf)


def requests(rate: float, n: int, seed: int = 1) -> Requests:
    return poisson(rate, n, Lengths(mean=1), Lengths(mean=1), seed)


def enough(load: float) -> int:
    """Requests whose mean wait has a standard error of 2 %: what an M/M/1 queue needs of them (Blomqvist 1967), M/D/1 fewer."""
    return round((2 + 5 * load - 4 * load**2 + load**3) / (load * (1 - load) ** 2) / 0.02**2)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_constant_service_waits_as_m_d_1(load: float) -> None:
    """Pollaczek and Khinchine: rho s (1 + c^2) / (2 (1 - rho)) with c = 0."""
    coming = requests(load / 0.02, enough(load))
    found = simulate(one_at_a_time(), coming, np.full(enough(load), 0.02))
    assert float(np.mean(found.admitted_s - coming.arrivals_s)) == pytest.approx(0.02 * load / (2 * (1 - load)), rel=0.06)


def test_a_simulation_is_kept_under_all_that_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    run = batching._Loop.run
    monkeypatch.setattr(batching._Loop, "run", lambda loop: (ran.append(1), run(loop))[1])
    monkeypatch.setattr(batching, "_KEPT", {})
    coming, service, server = requests(3.0, 50), np.full(50, 0.02), one_at_a_time(2)
    first = simulate(server, coming, service)
    assert simulate(one_at_a_time(2), requests(3.0, 50), np.full(50, 0.02)) is first
    assert len(ran) == 1
    for other in (
        lambda: simulate(one_at_a_time(3), coming, service),
        lambda: simulate(server, requests(3.0, 50, seed=2), service),
        lambda: simulate(server, coming, 2.0 * service),
        lambda: simulate(server, coming, service, service),
        lambda: simulate(server, coming, service, clients=4),
        lambda: simulate(server, coming, service, clients=4, between_s=1.0),
    ):
        assert other() is not first
    assert len(ran) == 7
    with pytest.raises(ValueError, match="read-only"):
        first.done_s[0] = 0.0
    for i in range(batching.KEPT + 3):
        simulate(server, coming, service, between_s=float(i))
    assert len(batching._KEPT) == batching.KEPT


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_exponential_service_waits_as_m_m_1(load: float) -> None:
    """Pollaczek and Khinchine with c = 1."""
    coming = requests(load / 0.02, enough(load))
    service = np.random.default_rng(5).exponential(0.02, enough(load))
    found = simulate(one_at_a_time(), coming, service)
    assert float(np.mean(found.admitted_s - coming.arrivals_s)) == pytest.approx(0.02 * load / (1 - load), rel=0.06)


def test_lindleys_recursion_gives_the_same_waits_one_by_one() -> None:
    """W(n+1) = max(0, W(n) + S(n) - A(n+1)) (Lindley 1952), for any service times."""
    coming = requests(3.0, 2000)
    service = np.random.default_rng(3).lognormal(-1.5, 1.0, 2000)
    found = simulate(one_at_a_time(), coming, service)
    wait, expected = 0.0, []
    for i in range(2000):
        expected.append(wait)
        if i + 1 < 2000:
            wait = max(0.0, wait + service[i] - (coming.arrivals_s[i + 1] - coming.arrivals_s[i]))
    assert np.allclose(found.admitted_s - coming.arrivals_s, expected, atol=1e-9)


def step_by_step(server: Server, coming: Requests, work: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same policy, one decode step at a time: slow and plain."""
    n, now, i = len(work), 0.0, 0
    first, done = np.zeros(n), np.zeros(n)
    batch: dict[int, float] = {}  # request -> tokens left
    while i < n or batch:
        held = sum(coming.prompts[j] + coming.outputs[j] for j in batch)
        taken: list[int] = []
        while (
            i < n
            and coming.arrivals_s[i] <= now
            and len(batch) + len(taken) < server.slots
            and held + coming.prompts[i] + coming.outputs[i] <= server.cache_tokens
        ):
            held += coming.prompts[i] + coming.outputs[i]
            taken.append(i)
            i += 1
        if taken:
            now += server.pass_s + sum(work[j] for j in taken)
            for j in taken:
                first[j] = now
                batch[j] = coming.outputs[j] - 1
        elif batch:
            cached = sum(coming.prompts[j] + coming.outputs[j] - left for j, left in batch.items())
            now += server.step_s[len(batch)] + server.token_s[len(batch)] * cached
            batch = {j: left - 1 for j, left in batch.items()}
        else:
            now = coming.arrivals_s[i]
        for j in [j for j, left in batch.items() if left <= 0]:
            done[j] = now
            del batch[j]
    return first, done


@given(seed=st.integers(0, 50), slots=st.integers(1, 7), rate=st.sampled_from([0.5, 5.0, 50.0]))
@settings(max_examples=30, deadline=None)
def test_jumping_from_event_to_event_equals_single_steps(seed: int, slots: int, rate: float) -> None:
    lengths = Lengths(kind="uniform", low=1, high=40)
    coming = poisson(rate, 60, lengths, lengths, seed)
    sizes = np.arange(slots + 1.0)
    server = Server(step_s=0.01 + 0.002 * sizes, token_s=1e-5 / (1 + sizes), pass_s=0.004, slots=slots, cache_tokens=200.0)
    found = simulate(server, coming, 1e-3 * coming.prompts)
    first, done = step_by_step(server, coming, 1e-3 * coming.prompts)
    assert np.allclose(found.first_s, first, atol=1e-9)
    assert np.allclose(found.done_s, done, atol=1e-9)


def chunk_by_chunk(server: Server, coming: Requests, work: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prompts in chunks beside decoding, the cache reserved as it is used up, one pass at a time: slow and plain."""
    n, now, i = len(work), 0.0, 0
    first, done = np.zeros(n), np.zeros(n)
    filling: dict[int, float] = {}  # request -> tokens of its prompt left
    batch: dict[int, float] = {}  # request -> tokens of its output left
    while i < n or batch or filling:
        now = now if batch or filling else max(now, float(coming.arrivals_s[i]))
        budget, part, decoded = max(server.chunk_tokens - len(batch), 1.0), 0.0, list(batch)
        cached = sum(coming.prompts[j] + coming.outputs[j] - left for j, left in batch.items())
        decode_s = server.step_s[len(batch)] + server.token_s[len(batch)] * cached if batch else 0.0
        complete: list[int] = []
        while budget > 0.0:
            if not filling:
                if i >= n or coming.arrivals_s[i] > now or len(batch) + len(complete) >= server.slots:
                    break
                filling[i] = coming.prompts[i]
                i += 1
            (j,) = filling
            take = min(filling[j], budget)
            part, budget, filling[j] = part + take / coming.prompts[j] * work[j], budget - take, filling[j] - take
            if not filling[j]:
                complete.append(j)
                del filling[j]
        now += max(part + (decode_s or server.pass_s), server.launch_s) if part else decode_s
        for j in complete:
            first[j], batch[j] = now, coming.outputs[j] - 1
        for j in decoded:
            batch[j] -= 1
        for j in [j for j, left in batch.items() if left <= 0]:
            done[j] = now
            del batch[j]
    return first, done


@given(
    seed=st.integers(0, 50),
    slots=st.integers(1, 5),
    rate=st.sampled_from([0.5, 5.0]),
    launch_s=st.sampled_from([0.0, 0.012, 0.02]),
)
@settings(max_examples=40, deadline=None)
def test_full_chunks_of_a_long_prompt_taken_at_once_equal_one_after_another(
    seed: int, slots: int, rate: float, launch_s: float
) -> None:
    coming = poisson(rate, 40, Lengths(kind="uniform", low=1, high=400), Lengths(kind="uniform", low=1, high=40), seed)
    sizes = np.arange(slots + 1.0)
    server = Server(
        step_s=0.01 + 0.002 * sizes, token_s=1e-5 / (1 + sizes), pass_s=0.004, slots=slots, cache_tokens=math.inf,
        chunk_tokens=12.0, launch_s=launch_s,
    )  # fmt: skip
    found = simulate(server, coming, 1e-4 * coming.prompts)
    first, done = chunk_by_chunk(server, coming, 1e-4 * coming.prompts)
    assert np.allclose(found.first_s, first, atol=1e-9)
    assert np.allclose(found.done_s, done, atol=1e-9)


@pytest.mark.parametrize(("cache_tokens", "passes"), [(1e4, 80), (900.0, 39 + 38)])
def test_a_full_cache_ends_the_chunks_that_are_taken_at_once(cache_tokens: float, passes: int) -> None:
    """By hand: a prompt of 800 tokens in passes of 12, 2 of them for those who decode: 80 passes. They hold 22 tokens, then
    822 with it, and 2 more after each: 900 are full after 39. The second gives way, and 410 tokens are left, 11 a pass: 38."""
    server = Server(
        step_s=np.full(4, 0.01), token_s=np.zeros(4), pass_s=0.01, slots=3, cache_tokens=cache_tokens, chunk_tokens=12.0,
        reserved_output=0.0,
    )  # fmt: skip
    coming = Requests(
        arrivals_s=np.array([0.0, 0.0, 0.05]), prompts=np.array([6.0, 6.0, 800.0]), outputs=np.array([150.0, 150.0, 10.0])
    )
    assert simulate(server, coming, np.zeros(3)).first_s[2] == pytest.approx(0.05 + 0.01 * passes)


@pytest.mark.parametrize("chunk", [0.0, 64.0])
def test_littles_law(chunk: float) -> None:
    """Mean batch = throughput x mean time in the batch; the left side is added up over time, the right over requests."""
    lengths = Lengths(kind="lognormal", mean=200, standard_deviation=150)
    coming = poisson(8.0, 5000, lengths, lengths, 2)
    server = Server(
        step_s=0.01 + 1e-4 * np.arange(65.0),
        token_s=np.full(65, 1e-8),
        pass_s=0.01,
        slots=64,
        cache_tokens=1e6,
        chunk_tokens=chunk,
    )
    found = simulate(server, coming, 1e-4 * coming.prompts)
    throughput = 5000 / found.end_s
    assert found.batch_seconds / found.end_s == pytest.approx(
        throughput * float(np.mean(found.done_s - found.admitted_s)), rel=0.02
    )


def test_a_request_larger_than_the_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="exceeds the cache"):
        simulate(
            Server(step_s=np.zeros(2), token_s=np.zeros(2), pass_s=0.0, slots=1, cache_tokens=1.0), requests(1.0, 3), np.ones(3)
        )


def test_a_drawn_request_that_no_cache_holds_is_explained() -> None:
    wide = {"prompt": {"kind": "lognormal", "mean": 500, "standard_deviation": 1500}, "output": 10, "requests_per_s": 0.01}
    with pytest.raises(PlannerError, match="give them a maximum"):
        serve(model="llama-2-7b", cluster={"node": "g5-xlarge"}, serving={**wide, "weights": "int4-awq"})


def test_at_low_load_a_request_takes_what_it_takes_alone() -> None:
    answer = serve(model="llama-3.1-8b", cluster=CLUSTER, serving={**CHAT, "requests_per_s": 0.01})
    assert answer.load is not None
    assert answer.load.e2e_s is not None
    assert answer.load.ttft_s is not None
    assert answer.load.e2e_s["p50"] == pytest.approx(answer.e2e_s, rel=0.01)
    assert answer.load.ttft_s["p50"] == pytest.approx(answer.ttft_s, rel=0.01)


def test_overload_is_unstable_instead_of_a_number() -> None:
    answer = serve(model="llama-3.1-8b", cluster=CLUSTER, serving={**CHAT, "requests_per_s": 10_000, "e2e_target_s": 2})
    assert answer.load is not None
    assert not answer.load.stable
    assert answer.load.e2e_s is None
    assert answer.load.goodput_requests_per_s is None
    assert answer.expense is None
    assert "the queue grows without end" in answer.load.why
    capacity = answer.load.capacity_requests_per_s
    near = serve(model="llama-3.1-8b", cluster=CLUSTER, serving={**CHAT, "requests_per_s": 0.8 * capacity})
    assert near.load is not None
    assert near.load.stable
    assert near.load.utilisation == pytest.approx(0.8)


def test_a_seed_decides_everything() -> None:
    def load(seed: int) -> object:
        return serve(model="llama-3.1-8b", cluster=CLUSTER, serving={**CHAT, "requests_per_s": 20, "seed": seed}).load

    assert load(3) == load(3)
    assert load(3) != load(4)


def test_replicas_and_cached_answers_carry_more() -> None:
    fields = {**CHAT, "requests_per_s": 20}
    one = serve(model="llama-3.1-8b", cluster=CLUSTER, serving=fields).load
    two = serve(model="llama-3.1-8b", cluster={"node": "dgx-h100", "num_gpus": 2}, serving={**fields, "dp": 2}).load
    cached = serve(model="llama-3.1-8b", cluster=CLUSTER, serving={**fields, "response_cache_hit_rate": 0.5}).load
    assert one is not None
    assert two is not None
    assert cached is not None
    assert two.capacity_requests_per_s == pytest.approx(2 * one.capacity_requests_per_s)
    assert cached.capacity_requests_per_s == pytest.approx(2 * one.capacity_requests_per_s)
    assert one.e2e_s is not None
    assert cached.e2e_s is not None
    assert cached.e2e_s["p50"] < one.e2e_s["p50"]


def test_targets_that_all_meet_and_none_meets() -> None:
    easy = serve(model="llama-3.1-8b", cluster=CLUSTER, serving={**CHAT, "requests_per_s": 5, "e2e_target_s": 1000}).load
    hard = serve(model="llama-3.1-8b", cluster=CLUSTER, serving={**CHAT, "requests_per_s": 5, "ttft_target_s": 1e-6}).load
    assert easy is not None
    assert hard is not None
    assert easy.goodput_requests_per_s == 5
    assert hard.goodput_requests_per_s == 0


def test_chunked_prefill_spares_the_running_and_delays_the_new() -> None:
    fields = {"prompt": 6000, "output": 200, "num_requests": 1500, "requests_per_s": 2}
    whole = serve(model="llama-3.1-8b", cluster=CLUSTER, serving=fields).load
    chunked = serve(model="llama-3.1-8b", cluster=CLUSTER, serving={**fields, "chunked_prefill_tokens": 512}).load
    assert whole is not None
    assert chunked is not None
    assert whole.ttft_s is not None
    assert chunked.ttft_s is not None
    assert chunked.ttft_s["p50"] > whole.ttft_s["p50"]


def test_capacity_of_a_plain_server_is_the_inverse_of_its_work() -> None:
    answer = serve(model="llama-3.1-8b", cluster=CLUSTER, serving={"prompt": 512, "output": 1, "max_batch": 1})
    one = replica(answer.times)
    assert capacity_per_s(one) == pytest.approx(1 / (one.server.pass_s + float(one.work_s(np.array([512.0]))[0])), rel=0.01)


@given(mean=st.floats(20, 5000), spread=st.floats(0.05, 1.5))
@settings(max_examples=15, deadline=None)
def test_lognormal_lengths_have_the_mean_that_was_asked_for(mean: float, spread: float) -> None:
    lengths = Lengths(kind="lognormal", mean=mean, standard_deviation=spread * mean)
    drawn = sample(lengths, 200_000, np.random.default_rng(0))
    assert float(drawn.mean()) == pytest.approx(mean, rel=0.05)
    assert np.quantile(drawn, 0.999) == pytest.approx(longest_tokens(lengths), rel=0.1)


def test_other_lengths() -> None:
    rng = np.random.default_rng(0)
    uniform, table = Lengths(kind="uniform", low=3, high=9), Lengths(kind="histogram", values=(10, 100), weights=(3, 1))
    assert float(sample(uniform, 100_000, rng).mean()) == pytest.approx(mean_tokens(uniform), rel=0.01)
    assert float(sample(table, 100_000, rng).mean()) == pytest.approx(mean_tokens(table), rel=0.02)
    assert mean_tokens(table) == 32.5
    assert (longest_tokens(uniform), longest_tokens(table)) == (9, 100)


def last_first_token_s(groups: int, prompts: int, own: float, shared: float, chunk: float) -> float:
    """When the last of equal prompts that arrive together has its first token, on a server that reads no weights."""
    server = Server(
        step_s=np.zeros(100),
        token_s=np.zeros(100),
        pass_s=0.0,
        slots=99,
        cache_tokens=math.inf,
        groups=groups,
        prefill_tokens=100.0,
        chunk_tokens=chunk,
    )
    coming = Requests(arrivals_s=np.zeros(prompts), prompts=np.full(prompts, 100.0), outputs=np.ones(prompts))
    return float(simulate(server, coming, np.full(prompts, own), np.full(prompts, shared)).first_s.max())


@given(
    groups=st.integers(1, 8),
    rounds=st.integers(1, 5),
    own=st.floats(0.0, 2.0),
    shared=st.floats(0.0, 2.0),
    chunk=st.sampled_from([0.0, 25.0]),
)
@settings(max_examples=40, deadline=None)
def test_groups_prefill_side_by_side_but_for_the_part_they_share(
    groups: int, rounds: int, own: float, shared: float, chunk: float
) -> None:
    """Prompts of G groups take rounds of own work, G of them at once, and all of their shared work."""
    n = groups * rounds
    assert last_first_token_s(groups, n, own, shared, chunk) == pytest.approx(rounds * own + n * shared)
    assert last_first_token_s(groups, 1, own, shared, chunk) == pytest.approx(own + shared)


@pytest.mark.parametrize("chunk", [None, 256])
def test_prompts_on_several_groups_take_what_a_pass_of_all_takes(chunk: int | None) -> None:
    """Experts over 8 GPUs: eight prompts at once take one pass of eight, not eight passes; one alone takes a pass of one."""
    fields = {"ep": 8, "dp": 1, "prompt": 1024, "output": 1, "max_batch": 8}
    times = serving_times(load_model("deepseek-v2-lite"), 8, **fields)
    one = replica(serving_times(load_model("deepseek-v2-lite"), 8, **fields, chunked_prefill_tokens=chunk))
    alone, together = (float(times.prefill_s(1024.0, float(n))) for n in (1, 8))

    def last_s(n: int) -> float:
        prompts = np.full(n, 1024.0)
        coming = Requests(arrivals_s=np.zeros(n), prompts=prompts, outputs=np.ones(n))
        return float(simulate(one.server, coming, one.work_s(prompts), one.shared_s(prompts)).first_s.max())

    if chunk is None:
        assert last_s(1) == pytest.approx(alone, rel=1e-6)
        assert last_s(8) == pytest.approx(together, rel=1e-6)
        assert capacity_per_s(one) >= 0.95 * 8 / together
    assert 8 * last_s(1) > 3 * last_s(8)


def test_one_request_has_the_cache_of_its_attention_group_only() -> None:
    """What one group's GPU holds, by the bytes of a sequence: not the eightfold of it."""
    times = serving_times(load_model("deepseek-v2-lite"), 8, ep=8, dp=1, prompt=1024)
    server = replica(times).server
    longest = largest_context(times.setting, 1, 64.0)
    assert longest / 2 < server.request_tokens <= 1.02 * longest
    assert server.cache_tokens == pytest.approx(8 * server.request_tokens)
    for tokens, fine in ((server.request_tokens, True), (1.5 * server.request_tokens, False)):
        coming = Requests(arrivals_s=np.zeros(3), prompts=np.full(3, tokens - 1.0), outputs=np.ones(3))
        if fine:
            simulate(server, coming, np.zeros(3))
            continue
        with pytest.raises(ValueError, match="exceeds the cache"):
            simulate(server, coming, np.zeros(3))


@given(maximum=st.integers(1, 3000), kind=st.sampled_from(["lognormal", "uniform", "histogram", "fixed"]))
@settings(max_examples=40, deadline=None)
def test_the_mean_is_that_of_the_lengths_that_are_drawn(maximum: int, kind: str) -> None:
    """With the cut at ``maximum``, for every kind of length."""
    shape = {
        "lognormal": {"mean": 500, "standard_deviation": 900},
        "uniform": {"low": 10, "high": 2000},
        "histogram": {"values": (10, 700, 2500), "weights": (3, 1, 1)},
        "fixed": {"mean": 600},
    }[kind]
    lengths = Lengths(kind=kind, maximum=maximum, **shape)
    drawn = sample(lengths, 200_000, np.random.default_rng(0))
    assert mean_tokens(lengths) == pytest.approx(float(drawn.mean()), rel=0.02)


def at(share: float, **fields: object) -> Deployment:
    """Chat traffic at a share of the capacity."""
    capacity = capacity_of(serve(model="llama-3.1-8b", cluster=CLUSTER, serving={**CHAT, **fields}))
    return serve(model="llama-3.1-8b", cluster=CLUSTER, serving={**CHAT, **fields, "requests_per_s": share * capacity}, price=3.0)


def test_a_slower_deployment_is_the_same_queue_on_another_clock() -> None:
    """Each step and pass 1.3 times as long, simulated as such, against the law of scaling."""
    d = at(0.6)
    one = replica(d.times)
    capacity = capacity_per_s(one)
    found = slowed(d.times, 0.6 * capacity, 1.3, one)
    scaled = {name: 1.3 * getattr(one.server, name) for name in ("step_s", "token_s", "pass_s", "own_s", "shared_s")}
    server = replace(one.server, **scaled)
    coming = poisson(0.6 * capacity, d.serving.num_requests, d.serving.prompt, d.serving.output, 0)
    done = simulate(server, coming, 1.3 * one.work_s(coming.prompts)).done_s - coming.arrivals_s
    assert found["e2e_s"]["p95"] == pytest.approx(float(np.quantile(done[400:-200], 0.95)), rel=0.02)


def test_intervals_under_load_know_the_queue() -> None:
    """Wider than the residuals alone where a slower machine queues; and says where it cannot carry the rate."""
    low, mid, high = (at(share) for share in (0.05, 0.7, 0.97))

    def spread(d: Deployment, key: str = "load.e2e_s.p95") -> float:
        found = d.intervals[key]
        return found.upper / found.expected

    assert spread(low) < spread(mid) < math.inf
    assert spread(high) > 1.5 * spread(low)
    assert "the queue grows without end" in high.intervals["load.e2e_s.p50"].why
    assert "the queue grows without end" not in low.intervals["load.e2e_s.p50"].why
    assert all(i.lower <= i.expected <= i.upper for d in (low, mid, high) for i in d.intervals.values())


def test_dollars_at_a_rate_are_exact_and_at_the_capacity_as_sure_as_it() -> None:
    """Price over a given rate has no error while the GPUs carry it; at the capacity it has the capacity's."""
    d, near = at(0.2), at(0.97)
    assert d.at_capacity is not None
    cost, most = d.intervals["usd_per_million_tokens"], d.intervals["load.capacity_requests_per_s"]
    assert cost.lower == cost.upper == pytest.approx(3.0 / 3600 / (d.load.requests_per_s * 128) * 1e6)  # type: ignore[union-attr]
    full = d.intervals["at_capacity.usd_per_million_tokens"]
    assert full.upper / full.expected == pytest.approx(most.expected / most.lower)
    assert full.expected == pytest.approx(0.2 * cost.expected, rel=0.01)
    dear = near.intervals["usd_per_million_tokens"]
    assert dear.lower == dear.expected < dear.upper


@pytest.mark.parametrize("fields", [{}, {"clients": 8}, {"requests_per_s": 2.0}])
def test_dollars_of_input_and_output_tokens_add_up(fields: dict[str, object]) -> None:
    d = serve(model="llama-3.1-8b", cluster=CLUSTER, serving={**CHAT, **fields}, price=3.0)
    spent = d.expense
    assert spent is not None
    rate = d.requests_per_s if d.load is None else d.load.requests_per_s
    assert rate is not None
    inputs, outputs = spent.usd_per_million_input_tokens, spent.usd_per_million_output_tokens
    assert inputs is not None
    assert outputs is not None
    assert rate * (512 * inputs + 128 * outputs) / 1e6 == pytest.approx(3.0 / 3600, rel=1e-6)


def test_near_the_capacity_a_warning_says_that_waits_grow_with_time() -> None:
    assert any("num_requests = 4000" in warning for warning in at(0.95).warnings)
    assert not any("num_requests" in warning for warning in at(0.8).warnings)


@pytest.mark.parametrize("output", [1, 64])
def test_one_request_at_a_time_has_the_interval_of_its_seconds(output: int) -> None:
    d = serve(model="llama-3.1-8b", cluster=CLUSTER, serving={"prompt": 512, "output": output})
    seconds, rate = d.intervals["e2e_s"], d.intervals["requests_per_s"]
    assert rate.lower * seconds.upper == pytest.approx(1.0)
    assert rate.upper * seconds.lower == pytest.approx(1.0)


def test_max_batch_is_that_of_each_attention_group() -> None:
    """As the engines count it: --max-num-seqs of vLLM is that of one data-parallel rank."""
    fields = {"prompt": 100, "output": 10, "tp": 1, "ep": 8, "max_batch": 32}
    assert Serving.build({**fields, "batch": 256}, "serving").batch == 256
    with pytest.raises(PlannerError, match="exceeds max_batch = 32 x 8"):
        Serving.build({**fields, "batch": 257}, "serving")
