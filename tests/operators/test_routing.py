"""How unevenly a router fills its ranks: laws of shares, of the fullest rank, and of what follows from it."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from examples import MIXTRAL, framework, gpus, job, model
from hypothesis import example, given, settings
from hypothesis import strategies as st

import planner
from planner.common.arrays import Array
from planner.hardware.cluster import cluster as build_cluster
from planner.model.architecture import OPEN
from planner.operators.routing import (
    distinct_places,
    drawn_shares,
    fullest_rank_load,
    kept_load,
    kept_pairs,
    places_load,
    rank_load,
)
from planner.performance.collectives import token_exchange_s
from planner.performance.evaluation import evaluate
from planner.workload.layout import Layout, as_columns
from planner.workload.question import Question

ROUTERS = st.sampled_from([(8, 2), (64, 6), (128, 8), (256, 8), (16, 1)])
WIDEST = 3.0
"""The largest skew that a job takes."""


@settings(max_examples=30, deadline=None)
@given(ROUTERS, st.floats(0.0, WIDEST))
@example((128, 8), 2.9797365689346345)  # a router that takes one expert always
def test_shares_are_of_all_tokens_and_even_without_skew(router: tuple[int, int], skew: float) -> None:
    experts, top_k = router
    shares = drawn_shares(experts, top_k, skew)
    assert shares.mean(axis=1) == pytest.approx(np.ones(len(shares)))
    assert shares.max() <= experts / top_k * (1 + 1e-8)  # an expert takes a token once
    assert shares.min() >= 0.0
    assert (drawn_shares(experts, top_k, 0.0) == 1.0).all()


@settings(max_examples=30, deadline=None)
@given(ROUTERS, st.floats(0.0, WIDEST - 0.5), st.floats(0.01, 0.5))
def test_the_fullest_rank_grows_with_skew_and_with_ranks(router: tuple[int, int], skew: float, more: float) -> None:
    experts, top_k = router
    degrees = np.array([1.0, 2.0, 4.0, 8.0])
    load = fullest_rank_load(experts, top_k, degrees, skew)
    assert load[0] == 1.0  # it holds all experts
    assert (np.diff(load) >= -1e-9).all()
    assert (load <= np.minimum(degrees, experts / top_k) * (1 + 1e-8)).all()  # a token takes each of top_k experts once
    assert (fullest_rank_load(experts, top_k, degrees, skew + more) >= load - 1e-9).all()
    assert fullest_rank_load(experts, top_k, degrees, 0.0) == pytest.approx(1.0)


def drawn_loads(experts: int, top_k: int, skew: float, tokens: int, degrees: list[int], routers: int) -> Array:
    """Tokens of the fullest rank over the mean, of drawn routers whose tokens take the experts of highest score."""
    drawn = np.random.default_rng(1)
    found = []
    for _ in range(routers):
        scores = skew * drawn.standard_normal(experts) + drawn.standard_normal((tokens, experts), dtype=np.float32)
        taken = np.argpartition(-scores, top_k - 1, axis=-1)[:, :top_k]
        shares = np.bincount(taken.ravel(), minlength=experts) * experts / (tokens * top_k)
        found.append([shares.reshape(ranks, -1).mean(axis=1).max() for ranks in degrees])
    return np.array(found)


@pytest.mark.parametrize("skew", [0.0, 0.3, 0.8, 1.2])
@pytest.mark.parametrize(("experts", "top_k", "routers"), [(8, 2, 400), (16, 1, 400), (64, 6, 200), (128, 8, 100), (512, 8, 30)])
def test_the_fullest_rank_is_as_full_as_tokens_make_it_that_are_drawn(
    experts: int, top_k: int, routers: int, skew: float
) -> None:
    """Within 2 % beside what so many drawn routers leave open (two deviations of their mean), 5 % of a token's only expert.

    Chance is not counted: what is drawn lies above by at most the greatest of ep normal variables of deviation
    1 / sqrt(pairs on a rank), and the tail of so few.
    """
    degrees = [ranks for ranks in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if ranks <= experts]
    found = fullest_rank_load(experts, top_k, np.array(degrees, dtype=float), skew)
    near = 0.05 if top_k == 1 else 0.02
    for tokens in (1000, 100):
        drawn = drawn_loads(experts, top_k, skew, tokens, degrees, routers)
        mean, open_ = drawn.mean(axis=0), 2.0 * drawn.std(axis=0) / routers**0.5
        pairs = tokens * top_k / np.array(degrees)
        chance = np.sqrt(2.0 * np.log(degrees) / pairs) + np.log(degrees) / pairs
        assert (found <= mean * (1 + near) + open_).all(), (found / mean, tokens)
        assert (found + chance >= mean * (1 - near) - open_).all(), (found / mean, tokens)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 24), st.integers(1, 8), st.integers(1, 30), st.floats(0.0, 60.0))
def test_any_number_of_ranks_is_within_its_bounds(experts: int, top_k: int, ranks: int, skew: float) -> None:
    """Also of ranks that do not divide the experts, and under a skew that leaves experts empty."""
    top_k = min(top_k, experts)
    assert drawn_shares(experts, top_k, skew).max() <= experts / top_k * (1 + 1e-6)
    load = rank_load(experts, top_k, ranks, skew)
    assert 1.0 - 1e-9 <= load <= min(ranks, experts / top_k) * (1 + 1e-6)
    assert rank_load(experts, top_k, ranks, 0.0) == pytest.approx(1.0)


def test_ranks_between_divisors_are_between_them() -> None:
    for skew in (0.3, 1.0):
        loads = [rank_load(8, 2, ranks, skew) for ranks in (2, 3, 4, 5, 6, 8)]
        assert loads == sorted(set(loads))


@pytest.mark.parametrize("experts", [8, 2048, 65536])
def test_drawn_routers_are_few_and_nobody_writes_into_them(experts: int) -> None:
    shares = drawn_shares(experts, 2, 0.3)
    assert shares.nbytes <= 8 * 2**16
    with pytest.raises(ValueError, match="read-only"):
        shares[:] = 7.0


@pytest.mark.parametrize("skew", [0.3, 1.4])
@pytest.mark.parametrize(("experts", "top_k", "ranks"), [(64, 6, 8), (128, 8, 8), (64, 6, 64), (8, 2, 2)])
@pytest.mark.parametrize("capacity", [0.5, 1.0, 1.25])
def test_the_fullest_rank_keeps_what_its_own_experts_do(
    experts: int, top_k: int, ranks: int, skew: float, capacity: float
) -> None:
    """Against tokens that are drawn: the experts that overflow are those that fill the fullest rank, so it keeps less than the
    mean kept share times its load."""
    drawn, tokens, found = np.random.default_rng(5), 2000, []
    for _ in range(60):
        scores = skew * drawn.standard_normal(experts) + drawn.standard_normal((tokens, experts), dtype=np.float32)
        taken = np.argpartition(-scores, top_k - 1, axis=-1)[:, :top_k]
        shares = np.bincount(taken.ravel(), minlength=experts) * experts / (tokens * top_k)
        found.append(np.minimum(shares, capacity).reshape(ranks, -1).mean(axis=1).max())
    mixture = model({**MIXTRAL, "num_experts": experts, "top_k": top_k, "capacity_factor": capacity})
    kept = kept_load(mixture, job(routing_skew=skew), np.array([float(ranks)]))[0]
    assert kept == pytest.approx(np.mean(found), rel=0.03)
    assert kept <= capacity


@pytest.mark.parametrize("given", [{}, {"routing_skew": 1.0}, {"expert_load": 1.7}, {"routing": "forced"}])
@pytest.mark.parametrize("dispatcher", ["alltoall", "deepep", "hybridep", "allgather"])
def test_a_capacity_that_drops_nothing_is_no_capacity(dispatcher: str, given: dict[str, object]) -> None:
    layout, cluster = as_columns(Layout(ep=32, zero=1), 32), build_cluster("dgx-h100", num_nodes=4)
    stack = framework("megatron-core").replaced(dispatcher=dispatcher, pads_to_capacity=False)
    found = []
    for capacity in (None, 1000.0):
        mixture = model({**MIXTRAL, "num_experts": 64, "top_k": 4, "capacity_factor": capacity})
        answer = evaluate(Question(mixture, cluster, stack, job(global_batch_size=32, **given)), layout)
        found.append((float(answer.step_time_s[0]), float(answer.memory.total_bytes[0])))
    assert found[0] == pytest.approx(found[1], rel=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([(8, 2, 8), (64, 6, 16)]), st.floats(0.05, 1.5), st.floats(0.5, 1.5))
def test_a_load_that_is_given_drops_what_the_skew_does_that_leads_to_it(
    router: tuple[int, int, int], skew: float, capacity: float
) -> None:
    """And an even load drops nothing, one that is nearly even nearly nothing, a greater one more."""
    experts, top_k, ranks = router
    mixture, ep = (
        model({**MIXTRAL, "num_experts": experts, "top_k": top_k, "capacity_factor": capacity}),
        np.array([float(ranks)]),
    )
    load = rank_load(experts, top_k, ranks, skew)
    own, given_ = job(routing_skew=skew), job(expert_load=load)
    for quantity in (kept_pairs, kept_load):
        assert quantity(mixture, given_, ep)[0] == pytest.approx(quantity(mixture, own, ep)[0], rel=1e-3)
    even, nearly, more = (kept_pairs(mixture, job(expert_load=x), ep)[0] for x in (1.0, 1.0001, load + 0.2))
    assert even == pytest.approx(min(capacity, 1.0))
    assert nearly == pytest.approx(even, abs=1e-3)
    assert more < kept_pairs(mixture, given_, ep)[0] + 1e-9


def test_trained_routers_have_the_loads_that_were_published() -> None:
    """The default skew lies between what trained models show and what steps of untrained routers cost.

    Fullest of 64 experts, top 6, under an auxiliary loss: 1.52 to 1.94 times the mean (arXiv 2408.15664, tables 2 and 6).
    Qwen3-235B on 256 H100, ep 8: forced over real routing 335 / 277 TFLOP/s (yanring/Megatron-MoE-ModelZoo, best_practice/qwen3),
    a load near 1.9 where the experts' part is a quarter of the step.
    """
    skew = job().routing_skew
    assert fullest_rank_load(64, 6, np.array([64.0]), skew)[0] > 1.94
    assert 1.1 < fullest_rank_load(128, 8, np.array([8.0]), skew)[0] < 1.9
    assert 1.35 < fullest_rank_load(8, 2, np.array([8.0]), skew)[0] < 1.6


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([(64, 6), (256, 8)]), st.sampled_from([16.0, 32.0, 64.0]), st.floats(0.05, 1.0))
def test_the_fullest_node_is_less_full_than_the_fullest_rank(router: tuple[int, int], ranks: float, skew: float) -> None:
    """And what comes over the network is spread over its ports: an exchange that sends once to a node takes less longer than one
    that sends each pair to its rank's port. A load that is given is what the skew that leads to it makes of nodes."""
    network = {"num_experts": router[0], "top_k": router[1], "capacity_factor": None}
    ep, nodes = np.array([ranks]), np.array([ranks / 8.0])
    even, own = job(routing="forced"), job(routing_skew=skew)
    mixture = model(MIXTRAL).replaced(**network)
    at_ranks, at_nodes = (places_load(mixture, own, ep, places)[0] for places in (ep, nodes))
    assert 1.0 < at_nodes < at_ranks
    given = job(expert_load=float(at_ranks))
    assert places_load(mixture, given, ep, ep)[0] == pytest.approx(at_ranks)
    assert places_load(mixture, given, ep, nodes)[0] - 1.0 == pytest.approx(at_nodes - 1.0, rel=0.2)
    assert places_load(mixture, even, ep, nodes)[0] == 1.0

    cluster = build_cluster("dgx-h100", num_nodes=8)
    load = partial(places_load, mixture, own, ep)
    mean = token_exchange_s(cluster, 1e8, float(router[1]), OPEN, ep, 1.0)
    fullest = token_exchange_s(cluster, 1e8 * at_ranks, float(router[1]), OPEN, ep, 1.0, load=load)
    assert mean[0] < fullest[0] < at_ranks * mean[0]


@pytest.mark.parametrize("skew", [0.3, 1.0])
def test_a_router_of_limited_groups_fills_its_fullest_node_with_more_than_the_mean(skew: float) -> None:
    """DeepSeek-V3: 4 of 8 nodes for a token, those with the greatest sums of two experts, and 8 experts in them. Against tokens
    that are drawn: a node can get more than the half of all tokens that is the mean."""
    drawn, tokens, found = np.random.default_rng(7), 500, []
    for _ in range(60):
        scores = skew * drawn.standard_normal(256) + drawn.standard_normal((tokens, 256))
        groups = scores.reshape(tokens, 8, 32)
        best = np.argsort(-np.sort(groups, axis=2)[:, :, -2:].sum(axis=2), axis=1)[:, :4]
        open_ = np.zeros((tokens, 8, 1), dtype=bool)
        np.put_along_axis(open_, best[:, :, None], True, axis=1)
        taken = np.argsort(-np.where(open_, groups, -np.inf).reshape(tokens, 256), axis=1)[:, :8] // 32
        found.append(max((taken == node).any(axis=1).mean() for node in range(8)))
    mixture, ep = model({**MIXTRAL, "num_experts": 256, "top_k": 8}), np.array([64.0])
    load = partial(places_load, mixture, job(routing_skew=skew), ep)
    cluster, fullest = build_cluster("dgx-h100", num_nodes=8), 1e9 * load(ep)
    mean = token_exchange_s(cluster, 1e9, 8.0, (8, 4), ep, 1.0)[0]
    part = token_exchange_s(cluster, fullest, 8.0, (8, 4), ep, 1.0, load=load)[0] / mean * 4.0 / 8.0
    assert part == pytest.approx(np.mean(found), rel=0.15)


@pytest.mark.parametrize(("places", "copies"), [(2, 1), (4, 2), (4, 3), (8, 4)])
def test_a_token_meets_as_many_places_as_all_draws_of_them_do(places: int, copies: int) -> None:
    """The mean over every way to draw its experts' places, of all or of those that follow one another."""
    drawn = np.mean([len(set(draw)) for draw in itertools.product(range(places), repeat=copies)])
    assert distinct_places(float(places), OPEN, float(copies)) == pytest.approx(drawn)
    turns = [len({(t * copies + i) % 96 * places // 96 for i in range(copies)}) for t in range(96)]
    assert distinct_places(float(places), OPEN, float(copies), 96.0) == pytest.approx(sum(turns) / 96)
    assert distinct_places(1.0, OPEN, float(copies)) == distinct_places(1.0, (8, 4), float(copies)) == 1.0


@pytest.mark.parametrize(("experts", "groups", "copies"), [(256, (8, 4), 8), (160, (8, 3), 6), (128, (4, 2), 8)])
def test_a_token_of_limited_groups_meets_as_many_places_as_drawn_tokens_do(
    experts: int, groups: tuple[int, int], copies: int
) -> None:
    """DeepSeek-V3, DeepSeek-V2 and half of four groups: those with the greatest sums of two experts, and the best experts in
    them. Of few nodes, which hold several groups, a token meets nearly all."""
    total, chosen = groups
    scores = np.random.default_rng(3).standard_normal((4000, total, experts // total))
    best = np.argsort(-np.sort(scores, axis=2)[:, :, -2:].sum(axis=2), axis=1)[:, :chosen]
    open_ = np.zeros((len(scores), total, 1), dtype=bool)
    np.put_along_axis(open_, best[:, :, None], True, axis=1)
    taken = np.argsort(-np.where(open_, scores, -np.inf).reshape(len(scores), experts), axis=1)[:, :copies]
    for places in (2, 4, 8, 16, 32):
        met = taken * places // experts
        drawn = np.mean([(met == place).any(axis=1) for place in range(places)]) * places
        assert distinct_places(float(places), groups, float(copies)) == pytest.approx(drawn, rel=0.05), places
    assert distinct_places(float(total), groups, float(copies)) == pytest.approx(chosen)


def test_a_plan_shows_even_routing_beside_its_own() -> None:
    layout = {"ep": 8, "zero": 1, "micro_batch_size": 1}
    question = {"model": MIXTRAL, "cluster": gpus(8), "framework": framework("megatron-core", cuda_graphs="full")}
    own = planner.plan(**question, job=job(), layout=layout, explain=False)
    forced = planner.plan(**question, job=job(routing="forced"), layout=layout, explain=False)
    shown = own.even_routing
    assert shown is not None
    assert (shown.step_time_s, shown.peak_total_bytes) == (forced.step_time_s, forced.peak_total_bytes)
    assert own.to_dict()["even_routing"]["step_time_s"] == forced.step_time_s < own.step_time_s
    assert forced.even_routing is None
    assert forced.to_dict()["even_routing"] is None


def test_a_forced_router_is_even_and_a_given_load_counts() -> None:
    layout = as_columns(Layout(ep=8, zero=1), 8)

    def step(**fields: object) -> float:
        return float(
            evaluate(
                Question(model(MIXTRAL), gpus(8), framework("megatron-core", cuda_graphs="full"), job(**fields)), layout
            ).step_time_s[0]
        )

    forced, usual = step(routing="forced"), step()
    assert forced == step(expert_load=1.0) == step(routing_skew=0.0)
    assert forced < usual < step(expert_load=4.0)
    assert step(routing="forced", expert_load=2.0) == step(expert_load=2.0)
