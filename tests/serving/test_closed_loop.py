"""Clients in a closed loop, prefill beside decoding, caches that run full: laws of the simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_examples import serving_times

from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster
from planner.model.catalog import load_model
from planner.reports.serving_answer import serving_lines
from planner.serving import serve
from planner.serving.batching import Outcome, Server, simulate
from planner.serving.closed_loop import closed_loop, loop_figures, near_figures, run_loop
from planner.serving.curves import client_curve
from planner.serving.deployment import capacity_of
from planner.serving.engine import load_engine
from planner.serving.intervals import figure_of
from planner.serving.load import capacity_per_s, replica, room_of, server_s
from planner.serving.requests import Requests

H100 = {"node": "dgx-h100", "num_gpus": 1}


def server(**fields: object) -> Server:
    sizes = np.arange(65.0)
    plain = Server(step_s=0.01 + 1e-4 * sizes, token_s=np.full(65, 1e-8), pass_s=0.005, slots=64, cache_tokens=1e6)
    return replace(plain, **fields)  # type: ignore[arg-type]


def drawn(n: int, seed: int, prompt: int = 200, output: int = 50) -> Requests:
    rng = np.random.default_rng(seed)
    lengths = (rng.integers(prompt // 2, prompt, n).astype(float), rng.integers(output // 2, output, n).astype(float))
    return Requests(arrivals_s=np.zeros(n), prompts=lengths[0], outputs=lengths[1])


@given(
    clients=st.integers(1, 40),
    chunk=st.sampled_from([0.0, 256.0]),
    reserved=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_clients_wait_for_their_answers(clients: int, chunk: float, reserved: float, seed: int) -> None:
    """Never more requests in the house than clients, each in order, each token made: the interactive law of response times."""
    coming = drawn(10 * clients, seed)
    found = simulate(server(chunk_tokens=chunk, reserved_output=reserved), coming, 1e-4 * coming.prompts, clients=clients)
    assert len(found.arrived_s) == 10 * clients
    assert np.all(found.arrived_s <= found.admitted_s)
    assert np.all(found.admitted_s <= found.first_s)
    assert np.all(found.first_s <= found.done_s)
    events = sorted([(t, 1) for t in found.arrived_s] + [(t, -1) for t in found.done_s])
    assert max(np.cumsum([step for _, step in events])) <= clients
    inside = float(np.sum(found.done_s - found.arrived_s))  # Little: clients in the house = throughput x time in it
    assert inside <= clients * found.end_s * (1 + 1e-9)
    assert inside >= 0.7 * clients * found.end_s
    assert found.steps.sum() >= coming.outputs.max() - 1.0


def one_by_one(s: Server, coming: Requests, work: np.ndarray, clients: int) -> tuple[np.ndarray, np.ndarray]:
    """Prefill beside decoding with preemption, one pass at a time: slow and plain."""
    n = len(work)
    prompts, outputs, own = coming.prompts.copy(), coming.outputs.copy(), work.copy()
    first, done = np.full(n, -1.0), np.zeros(n)
    queue, later, now = list(range(min(clients, n))), list(range(min(clients, n), n)), 0.0
    running: dict[int, float] = {}  # request -> tokens made
    filling: dict[int, float] = {}  # request -> prompt tokens left
    order: list[int] = []

    def held() -> float:
        return sum(prompts[j] + made for j, made in running.items()) + sum(prompts[j] for j in filling)

    while queue or running or filling:
        if running and held() + len(running) > s.cache_tokens and len(running) + len(filling) > 1:
            victim = [j for j in order if j in running][-1]
            order.remove(victim)
            made = running.pop(victim)
            own[victim] *= (prompts[victim] + made) / prompts[victim]
            prompts[victim], outputs[victim] = prompts[victim] + made, outputs[victim] - made
            queue.insert(0, victim)
            continue
        budget, seconds, complete = max(s.chunk_tokens - len(running), 1.0), 0.0, []
        decoding, cached = list(running), held() - sum(prompts[j] for j in filling)
        for j in list(filling):
            take = min(filling[j], budget)
            seconds, budget, filling[j] = seconds + own[j] * take / prompts[j], budget - take, filling[j] - take
        while queue and budget > 0 and len(running) + len(filling) < s.slots and held() + prompts[queue[0]] <= s.cache_tokens:
            j = queue.pop(0)
            order.append(j)
            take = min(prompts[j], budget)
            seconds, budget, filling[j] = seconds + own[j] * take / prompts[j], budget - take, prompts[j] - take
        complete = [j for j, left in filling.items() if left <= 0]
        b = len(decoding)
        now += seconds + (s.step_s[b] + s.token_s[b] * cached if b else s.pass_s)
        for j in decoding:
            running[j] += 1.0
        for j in complete:
            del filling[j]
            first[j] = now if first[j] < 0 else first[j]
            running[j] = 1.0
        for j in [j for j, made in running.items() if made >= outputs[j]]:
            del running[j]
            order.remove(j)
            done[j] = now
            if later:
                queue.append(later.pop(0))
    return first, done


@given(seed=st.integers(0, 30), clients=st.integers(1, 6), cache=st.sampled_from([320.0, 500.0, 1e6]))
@settings(max_examples=30, deadline=None)
def test_jumping_equals_single_passes_beside_decoding_and_with_preemption(seed: int, clients: int, cache: float) -> None:
    coming = drawn(5 * clients, seed)
    s = server(chunk_tokens=128.0, reserved_output=0.0, cache_tokens=cache)
    found = simulate(s, coming, 1e-4 * coming.prompts, clients=clients)
    first, done = one_by_one(s, coming, 1e-4 * coming.prompts, clients)
    assert np.allclose(found.first_s, first, atol=1e-9)
    assert np.allclose(np.sort(found.done_s), np.sort(done), atol=1e-9)
    assert found.preemptions == 0 or cache < 1e6


def full(reserved: float) -> Outcome:
    coming = drawn(200, 1, prompt=100, output=400)
    tight = server(cache_tokens=2000.0, reserved_output=reserved, chunk_tokens=512.0)
    return simulate(tight, coming, 1e-4 * coming.prompts, clients=20)


def test_a_reserved_output_is_never_preempted_and_admits_fewer() -> None:
    safe, bold = full(1.0), full(0.0)
    assert safe.preemptions == 0
    assert bold.preemptions > 0
    assert bold.batch_seconds / bold.end_s > safe.batch_seconds / safe.end_s
    assert float(np.median(bold.first_s - bold.arrived_s)) < float(np.median(safe.first_s - safe.arrived_s))


def test_equal_lengths_come_back_together_where_prefill_goes_first() -> None:
    """Sixteen equal requests: all wait for all prompts, and decoding is never interrupted (a convoy)."""
    coming = Requests(arrivals_s=np.zeros(160), prompts=np.full(160, 100.0), outputs=np.full(160, 50.0))
    found = simulate(server(), coming, np.full(160, 0.02), clients=16)
    waits = found.first_s - found.arrived_s
    assert np.allclose(waits, 0.005 + 16 * 0.02)
    steps = (found.done_s - found.first_s) / 49.0
    assert np.allclose(steps, steps[0], rtol=1e-3)


def test_a_single_client_has_what_a_request_takes_alone() -> None:
    fields = {"prompt": 512, "output": 128}
    alone = serve(model="llama-3.1-8b", cluster=H100, serving={**fields, "batch": 1})
    looped = serve(model="llama-3.1-8b", cluster=H100, serving={**fields, "clients": 1})
    assert looped.load is not None
    assert looped.load.ttft_s is not None
    assert looped.load.tpot_s is not None
    assert looped.load.ttft_s["p50"] == pytest.approx(alone.ttft_s, rel=0.01)
    assert looped.load.tpot_s["p50"] == pytest.approx(alone.tpot_s, rel=0.01)
    assert looped.load.clients == 1
    assert looped.stability == "stable"


def test_many_clients_reach_the_capacity_and_more_only_wait() -> None:
    times = serving_times(load_model("llama-3.1-8b"), 1, prompt=512, output=64, max_batch=32)
    capacity = capacity_per_s(replica(times))
    few, many, more = (closed_loop(times, n) for n in (4, 64, 128))
    assert few.requests_per_s < many.requests_per_s
    assert many.requests_per_s == pytest.approx(capacity, rel=0.1)
    assert more.requests_per_s == pytest.approx(many.requests_per_s, rel=0.05)
    assert more.ttft_s is not None
    assert many.ttft_s is not None
    assert more.ttft_s["p50"] > 1.5 * many.ttft_s["p50"]


def test_the_servers_front_adds_to_the_first_token_only() -> None:
    engine = load_engine("vllm-v1")
    quick, slow = (serving_times(load_model("llama-3.1-8b"), 1, prompt=512, output=64).setting for _ in range(2))
    quick, slow = (
        replace(s, engine=engine.model_copy(update={"request_s": front, "request_s_per_token": 0.0}))
        for s, front in ((quick, 0.0), (slow, 0.2))
    )
    times = serving_times(load_model("llama-3.1-8b"), 1, prompt=512, output=64)
    a, b = (closed_loop(replace(times, setting=s), 1) for s in (quick, slow))
    assert a.ttft_s is not None
    assert b.ttft_s is not None
    assert a.tpot_s is not None
    assert b.tpot_s is not None
    assert b.ttft_s["p50"] - a.ttft_s["p50"] == pytest.approx(0.2)
    assert b.tpot_s["p50"] == pytest.approx(a.tpot_s["p50"])


def test_figures_of_a_replica_near_itself_are_its_own() -> None:
    """To the last bit but one: the derivatives of a fit begin at the simulated figures."""
    one = replica(serving_times(load_model("llama-2-7b"), prompt=512))
    coming = drawn(80, 2)
    found = run_loop(one, coming, 8)
    token_s, first_s = loop_figures(one, coming, found)
    assert near_figures(one, one, coming, found) == pytest.approx((token_s, first_s), rel=1e-12)
    front = float(np.mean(server_s(one.times.setting.engine, coming.prompts)))
    busy = float(np.sum(found.done_s - found.first_s)) + 80 * (first_s - front)
    assert busy == pytest.approx(float(np.sum(found.done_s - found.arrived_s)), rel=1e-9)


@pytest.mark.parametrize(("loaded", "batch", "figure"), [
    (True, 1, "loop_token"), (True, 64, "loop_token"), (False, 64, "batched"), (False, 1, "decode"), (False, None, "decode"),
])  # fmt: skip
def test_a_question_meets_the_figure_that_was_measured_as_it_asks(loaded: bool, batch: int | None, figure: str) -> None:
    assert figure_of("decode", batch, loaded) == figure
    assert figure_of("prefill", batch, loaded) == ("loop_first" if loaded else "prefill")


def test_a_curve_over_clients_gives_throughput_for_latency() -> None:
    d = serve(model="llama-3.1-8b", cluster=H100, serving={"prompt": 512, "output": 64, "clients": 4, "ttft_target_s": 1.0})
    table = client_curve(d, (1, 4, 16))
    assert table["clients"].tolist() == [1, 4, 16]
    assert table["output_tokens_per_s"].is_monotonic_increasing
    assert table["tpot_s_p50"].is_monotonic_increasing
    assert (table["goodput_requests_per_s"] <= table["requests_per_s"] * (1 + 1e-9)).all()


def test_more_clients_never_hasten_an_answer() -> None:
    """Of equal lengths too, and beyond the places that there are: no first token sooner, no token faster, no lost rate."""
    for engine, clients, places in (("vllm", (1, 8, 64, 192, 256), 512), ("sglang", (1, 8, 64, 256, 320), 256)):
        d = serve(model="llama-3.1-8b", cluster=H100, serving={"engine": engine, "prompt": 512, "output": 128, "batch": 1})
        table = client_curve(d, clients)
        for name in ("ttft_s_mean", "tpot_s_mean", "e2e_s_mean"):
            ratios = (table[name] / table[name].shift()).dropna()
            assert (ratios > 0.95).all(), (engine, name, table[name].tolist())
        served = table[table["clients"] <= places]["output_tokens_per_s"]
        assert served.is_monotonic_increasing, (engine, served.tolist())


@pytest.mark.parametrize("model", ["bge-m3", "bert-base"])
@pytest.mark.parametrize("engine", ["vllm", "sglang", "llama.cpp"])
def test_more_clients_of_an_encoder_never_hasten_a_vector_and_never_get_more_than_they_are(model: str, engine: str) -> None:
    """Clients who start together need not stay so: n times as many get at most n times the rate, and none waits less."""
    d = serve(model=model, cluster=H100, serving={"engine": engine, "prompt": 256, "batch": 1})
    table = client_curve(d, (1, 2, 4, 8, 16, 32, 64, 128))
    rates, waits = table["requests_per_s"].to_numpy(), table["e2e_s_mean"].to_numpy()
    assert np.all(rates[1:] <= 2.05 * rates[:-1]), rates
    assert np.all(rates[1:] >= 0.98 * rates[:-1]), rates
    assert np.all(waits[1:] >= 0.95 * waits[:-1]), waits


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"clients": 4, "requests_per_s": 2.0}, "give one of the two"),
        ({"clients": 100_000}, "at most 16384 a replica are simulated"),
        ({"clients": 4, "response_cache_hit_rate": 0.5}, "needs requests_per_s, not clients"),
        ({"clients": 4, "engine": "gpt-fast"}, "gpt-fast has no continuous batching"),
        ({"ttft_target_s": 1.0}, "needs requests_per_s or clients"),
    ],
)
def test_what_a_closed_loop_cannot_be(fields: dict[str, object], words: str) -> None:
    with pytest.raises(PlannerError, match=words):
        serve(model="llama-3.1-8b", cluster=H100, serving={"prompt": 64, "output": 8, **fields})


def test_a_thousand_clients_have_room_or_wait() -> None:
    """More clients than the cache holds: throughput stays finite, waits grow, nothing is lost."""
    d = serve(model="llama-3.1-8b", cluster=H100, serving={"prompt": 2048, "output": 32, "clients": 256})
    assert d.load is not None
    assert d.load.num_requests == 2560
    assert math.isfinite(d.load.requests_per_s)


def test_prompts_wait_for_company_as_long_as_both_bounds_are_open() -> None:
    """One arrival beside a running batch is admitted after ``wait_steps`` decode steps, or at once with enough tokens."""
    coming = Requests(arrivals_s=np.array([0.0, 0.1]), prompts=np.array([100.0, 100.0]), outputs=np.array([200.0, 50.0]))
    slow = server(chunk_tokens=4096.0)
    work = np.zeros(2)
    at_once = simulate(slow, coming, work).admitted_s[1]
    for steps in (1, 20):
        waiting = simulate(replace(slow, wait_steps=steps, wait_tokens=1000.0), coming, work).admitted_s[1]
        assert waiting - at_once == pytest.approx(steps * float(slow.step_s[1]), rel=0.01)
    assert simulate(replace(slow, wait_steps=20, wait_tokens=101.0), coming, work).admitted_s[1] == at_once  # 100 and the batch


def test_a_lonely_prompt_never_waits() -> None:
    coming = Requests(arrivals_s=np.array([0.0]), prompts=np.array([100.0]), outputs=np.array([10.0]))
    slow = server(chunk_tokens=4096.0, wait_steps=50, wait_tokens=1e6, ahead=True)
    assert simulate(slow, coming, np.zeros(1)).admitted_s[0] == 0.0


@pytest.mark.parametrize("chunk", [0.0, 4096.0])
def test_a_pass_that_was_put_together_ahead_leaves_without_late_comers(chunk: float) -> None:
    """Who comes during a step joins the one after the next: a step later than where passes wait for the one before."""
    coming = Requests(arrivals_s=np.array([0.0, 0.1]), prompts=np.array([100.0, 100.0]), outputs=np.array([200.0, 50.0]))
    plain = server(chunk_tokens=chunk)
    admitted = [simulate(replace(plain, ahead=ahead), coming, np.zeros(2)).admitted_s[1] for ahead in (False, True)]
    assert admitted[1] - admitted[0] == pytest.approx(float(plain.step_s[1]), rel=0.01)


def test_settings_of_a_server_change_its_loop() -> None:
    """More tokens a pass let prompts in together; of a few clients each waits for company that does not come."""
    asked = {"engine": "tensorrt-llm", "prompt": 1024, "output": {"kind": "uniform", "low": 200, "high": 400}, "clients": 3}
    model = {"name": "llama-3.1-8b"}

    def load(**fields: object) -> dict[str, float]:
        found = serve(model=model, cluster=H100, serving={**asked, **fields}).load
        assert found is not None
        assert found.ttft_s is not None
        return dict(found.ttft_s)

    assert load(prefill_wait_steps=20, prefill_wait_share=0.9)["p50"] > load()["p50"]
    assert load(pass_tokens=1100, clients=64) != load(pass_tokens=32768, clients=64)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prefill_wait_steps": 20}, "give both"),
        ({"prefill_wait_steps": 20, "prefill_wait_share": 0.5}, "needs requests_per_s or clients"),
        ({"pass_tokens": 4096, "chunked_prefill_tokens": 2048}, "give one of the two"),
        ({"engine": "vllm", "prefill_wait_steps": 2, "prefill_wait_share": 0.5, "clients": 4}, "no prefill wait"),
        ({"engine": "huggingface", "pass_tokens": 4096}, "no continuous batching"),
    ],
)
def test_settings_that_nothing_follows_are_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(PlannerError, match=says):
        serve(model="llama-3.1-8b", cluster=H100, serving={"engine": "tensorrt-llm", "prompt": 100, "output": 10, **fields})


def test_prompts_of_clients_who_never_planned_meet_in_one_pass_by_chance() -> None:
    """As many clients as tokens of an answer on 8 attention groups: a step brings one prompt in the mean, and groups that have
    none wait for the one that has. In turn a step would take ``base + own``, by chance ``base + own (1 - 1 / e)``; less where
    prompts that come within a long step go on together, but no less than with one on each group, ``base + own / 8``."""
    times = serving_times(
        load_model("deepseek-v3"), on=cluster("dgx-h200"), weights="fp8-block", tp=1, ep=8, prompt=2048, output=128
    )
    one = replica(times, room_of(times, 128))
    assert one.server.groups == 8
    assert one.server.prefill_tokens >= 2 * 2048, "each group has room for its prompt"
    prompt = np.array([2048.0])
    own, shared = float(one.work_s(prompt)[0]), float(one.shared_s(prompt)[0])
    base = float(one.server.step_s[127] + one.server.token_s[127] * 127 * (2048 + 64)) + shared
    assert own > base / 2, "prefill counts"
    rate = closed_loop(times, 128).requests_per_s
    assert 0.95 / (base + own * (1.0 - math.exp(-1.0))) < rate < 1.0 / (base + own / 8.0)
    assert rate > 1.1 / (base + own)


def test_the_slowest_first_tokens_of_many_clients_take_longer_than_the_median() -> None:
    times = serving_times(load_model("llama-3.1-8b"), prompt=512, output=128)
    ttft = closed_loop(times, 64).ttft_s
    assert ttft["p95"] > 1.1 * ttft["p50"]


@pytest.mark.parametrize("clients", [1, 16, 64, 128])
def test_clients_are_never_served_more_than_the_capacity(clients: int) -> None:
    """Where the cache holds fewer of them than there are, two simulations of one queue count its rate."""
    asked = {"prompt": 16_000, "output": 500, "clients": clients}
    d = serve(model="deepseek-v3", cluster={"node": "dgx-h200", "num_gpus": 8}, serving=asked)
    assert d.load is not None
    assert d.load.requests_per_s <= (d.capacity_requests_per_s or 0.0)
    assert d.capacity_requests_per_s == pytest.approx(capacity_of(d), rel=0.03)
    assert dict(serving_lines(d))["capacity"].startswith(f"{d.capacity_requests_per_s:.3g} (")
