"""How unevenly a router fills the ranks of an expert-parallel group."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from planner.common.arrays import Array, Number, distinct_values
from planner.model.architecture import Model
from planner.workload.job import ROUTING_SKEW, Job

NORMAL = NormalDist()
ROUTERS, PREFERENCES = 2048, 2**16
"""Routers that are drawn, and preferences of experts that all of them have at most."""
REACH, STEP = 9.0, 1.0 / 256.0
"""Of the table of a normal score's distribution."""


@lru_cache(maxsize=1)
def _below() -> Array:
    """The chance that a normal score is below -``REACH``, and so on in steps of ``STEP``."""
    return np.array([NORMAL.cdf(STEP * i - REACH) for i in range(int(2.0 * REACH / STEP) + 2)])


def _chance(scores: Array) -> Array:
    """Phi, linear between the entries of ``_below``: within 5e-7. Shape of ``scores``."""
    places = np.clip((scores + REACH) / STEP, 0.0, 2.0 * REACH / STEP)
    left, below = places.astype(np.int32), _below()
    return np.asarray(below[left] + (places - left) * (below[left + 1] - below[left]))


NEWTON, LONGEST = 6, 1.0
"""Steps of Newton's method on the logarithm of the experts taken, from the threshold of endlessly many; the longest of them."""


@lru_cache(maxsize=16)
def _preferences(num_experts: int) -> Array:
    """Normal quantiles in random order, shape ``(routers, num_experts)``: each stratum of the distribution is drawn once."""
    routers = max(min(ROUTERS, PREFERENCES // num_experts), 64)
    places = (np.arange(routers * num_experts) + 0.5) / (routers * num_experts)
    drawn = np.random.default_rng(0).permutation(np.interp(places, _below(), STEP * np.arange(len(_below())) - REACH))
    return np.asarray(drawn.reshape(routers, num_experts))


@lru_cache(maxsize=64)
def drawn_shares(num_experts: int, top_k: int, skew: float) -> Array:
    """Tokens of each expert over the mean under routers with preferences of their own, shape ``(routers, num_experts)``.

    A token takes the ``top_k`` experts of highest score. Scores are normal with deviation 1 from token to token, around a
    preference of the expert that is itself normal with deviation ``skew``: the chance of expert e is Phi(b_e - tau), with the
    router's tau such that ``top_k`` are taken on average, so that no share exceeds E / top_k. 0 = balanced. Seeded: the same
    routers each time, and the same preferences, widened, under another skew.
    """
    if skew == 0.0 or top_k >= num_experts:
        return np.ones((1, num_experts))
    preferences = skew * _preferences(num_experts)
    threshold = np.full((len(preferences), 1), NORMAL.inv_cdf(1.0 - top_k / num_experts) * (1.0 + skew * skew) ** 0.5)
    for _ in range(NEWTON):
        over = preferences - threshold
        taken = _chance(over).sum(axis=1, keepdims=True)
        fall = np.exp(-0.5 * over * over).sum(axis=1, keepdims=True) / (2.0 * np.pi) ** 0.5 / taken
        threshold = threshold + np.clip(np.log(taken / top_k) / fall, -LONGEST, LONGEST)
    chance = _chance(preferences - threshold)
    return np.asarray(chance / chance.mean(axis=1, keepdims=True))


@lru_cache(maxsize=1024)
def rank_load(num_experts: int, top_k: int, ep: int, skew: float) -> float:
    """``fullest_rank_load`` of one degree."""
    local = max(num_experts // ep, 1)
    if local == num_experts:
        return 1.0
    shares = drawn_shares(num_experts, top_k, skew)[:, : num_experts // local * local]
    return float(shares.reshape(len(shares), -1, local).mean(axis=2).max(axis=1).mean())


def fullest_rank_load(num_experts: int, top_k: int, ep: Array, skew: float) -> Array:
    """Tokens of the fullest of ``ep`` ranks over the mean, shape of ``ep``; 1 on one rank, at most min(ep, E / top_k).

    Ranks hold E / ep experts each, placed without regard to their shares: the mean over drawn routers (``drawn_shares``) of the
    fullest rank's. Every layer waits for the fullest of its ranks, another one in each layer: this is the mean over layers and
    micro-batches, for time as for what all layers keep. What t tokens a rank choose by chance is not counted: it adds less than
    E(max of ep) / sqrt(top_k t), 1 % of the mean at 8,192 pairs on each of 2 to 4 ranks.
    """
    result = np.ones(ep.shape)
    for degree in distinct_values(ep):
        result = np.where(ep == degree, rank_load(num_experts, top_k, int(degree), skew), result)
    return result


def distinct_places(places: Number, reach: float, copies: float, in_turn: float = 0.0) -> Array:
    """Of ``places`` with equal parts of the experts, those that a token's ``copies`` experts lie on, in ``reach`` of them.

    Drawn without regard to each other, k of r places are r (1 - (1 - 1/r)^k). Of E = ``in_turn`` experts that tokens take in
    turn, token t the experts (t k + i) mod E with i < k: they begin at every multiple of g = gcd(k, E/r) within a place of E/r,
    and the mean over those is 1 + (k - g) r / E, at most all.
    """
    if in_turn:
        r = np.asarray(places, dtype=float)
        step = np.gcd(int(copies), np.maximum(in_turn / r, 1.0).astype(int))
        return np.asarray(np.minimum(1.0 + (copies - step) * r / in_turn, r))
    open_ = np.maximum(np.asarray(places) * reach, 1.0)
    return np.asarray(open_ * (1.0 - np.power(1.0 - 1.0 / open_, copies)))


def expert_load(model: Model, job: Job, ep: Array) -> Array:
    """Tokens of the fullest of ``ep`` ranks over the mean: as given, even where the router is forced, else by its skew."""
    if job.expert_load is not None:
        return np.minimum(job.expert_load, ep)
    if job.routing == "forced" or not model.num_experts:
        return np.ones_like(ep)
    return fullest_rank_load(model.num_experts, model.top_k, ep, job.routing_skew)


@lru_cache(maxsize=256)
def kept_share(num_experts: int, top_k: int, skew: float, capacity: float) -> float:
    """Part of the pairs of token and expert that are kept where an expert drops what exceeds ``capacity`` times the mean.

    The mean over experts and drawn routers of min(share, capacity).
    """
    return float(np.minimum(drawn_shares(num_experts, top_k, skew), capacity).mean())


def kept_pairs(model: Model, job: Job) -> float:
    """``kept_share`` of a job's router: of even shares where it is forced or fills all ranks alike, 1 without a capacity."""
    if model.capacity_factor is None:
        return 1.0
    even = job.routing == "forced" or job.expert_load == 1.0
    return kept_share(model.num_experts, model.top_k, 0.0 if even else job.routing_skew, model.capacity_factor)


def places_load(model: Model, job: Job, ep: Array, places: Array) -> Array:
    """Tokens of the fullest of ``places``, nodes that hold the ``ep`` ranks, over the mean; shape of ``places``.

    Of a load that is given for ranks, the excess falls as that of drawn routers does. A capacity leaves all places nearly alike.
    """
    if model.capacity_factor is not None or not model.num_experts:
        return np.ones_like(places)
    if job.expert_load is None:
        return expert_load(model, job, places)
    excess = expert_load(model, job, ep) - 1.0
    of_ranks, of_places = (fullest_rank_load(model.num_experts, model.top_k, n, ROUTING_SKEW) for n in (ep, places))
    return np.asarray(1.0 + excess * (of_places - 1.0) / np.maximum(of_ranks - 1.0, 1e-9))


def job_load(model: Model, job: Job, ep: int) -> float:
    """``expert_load`` of one layout."""
    return float(expert_load(model, job, np.array([float(ep)]))[0])
