"""How unevenly a router fills the ranks of an expert-parallel group."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from planner.common.arrays import Array, Number, distinct_values
from planner.model.architecture import Model
from planner.workload.job import ROUTING_SKEW, Job

NORMAL = NormalDist()
ROUTERS = 2048
"""Routers that are drawn at most, each with preferences of its own."""
PREFERENCES = 2**16
"""Preferences that are drawn in all: of more experts, fewer routers are drawn, one at least."""
TABLE_END, TABLE_STEP = 9.0, 1.0 / 256.0
"""The table of the normal distribution ends this many deviations from the mean and has an entry at every step. scipy.special has
the function, but takes a third of a second to import, half of what a whole plan takes."""
CLOSE, MOST_STEPS = 1e-7, 100
"""A threshold is found once it takes ``top_k`` experts to this part; bisection alone comes there in fewer steps."""
WIDEST, HALVINGS = 8.0, 14
"""The largest skew that is looked for where a load is given, and how often its range is halved."""


@lru_cache(maxsize=1)
def _table() -> Array:
    """The chance that a normal score is below -``TABLE_END``, and so on in steps of ``TABLE_STEP``."""
    return np.array([NORMAL.cdf(TABLE_STEP * i - TABLE_END) for i in range(int(2.0 * TABLE_END / TABLE_STEP) + 2)])


def _chance(scores: Array) -> Array:
    """Phi, linear between the entries of the table: within 5e-7. Shape of ``scores``."""
    places = np.clip((scores + TABLE_END) / TABLE_STEP, 0.0, 2.0 * TABLE_END / TABLE_STEP)
    left, table = places.astype(np.int32), _table()
    return np.asarray(table[left] + (places - left) * (table[left + 1] - table[left]))


@lru_cache(maxsize=4)
def _preferences(num_experts: int) -> Array:
    """Normal quantiles in random order, shape ``(routers, num_experts)``: each stratum of the distribution is drawn once."""
    routers = max(min(ROUTERS, PREFERENCES // num_experts), 1)
    places = (np.arange(routers * num_experts) + 0.5) / (routers * num_experts)
    scores = TABLE_STEP * np.arange(len(_table())) - TABLE_END
    drawn = np.random.default_rng(0).permutation(np.interp(places, _table(), scores)).reshape(routers, num_experts)
    drawn.setflags(write=False)
    return np.asarray(drawn)


@lru_cache(maxsize=4)
def drawn_shares(num_experts: int, top_k: int, skew: float) -> Array:
    """Tokens of each expert over the mean under routers with preferences of their own, shape ``(routers, num_experts)``.

    A token takes the ``top_k`` experts of highest score. Scores are normal with deviation 1 from token to token, around a
    preference of the expert that is itself normal with deviation ``skew``: the chance of expert e is Phi(b_e - tau), with the
    router's tau such that ``top_k`` are taken on average, so that no share exceeds E / top_k. 0 = balanced. Seeded: the same
    routers each time, and the same preferences, widened, under another skew. Read-only.
    """
    if skew == 0.0 or top_k >= num_experts:
        shares = np.ones((1, num_experts))
    else:
        preferences = skew * _preferences(num_experts)
        chance = _chance(preferences - _threshold(preferences, top_k, skew))
        # tau is known to CLOSE, and a token takes an expert once
        shares = np.minimum(chance / chance.mean(axis=1, keepdims=True), num_experts / top_k)
    shares.setflags(write=False)
    return shares


def _threshold(preferences: Array, top_k: int, skew: float) -> Array:
    """The tau of each router with sum over e of Phi(b_e - tau) = ``top_k``, shape ``(routers, 1)``.

    Newton's method from the tau of infinitely many experts, and bisection where it would leave the bounds: at the lower one each
    expert is taken with a chance of at least top_k / E, at the upper one with at most that.
    """
    num_experts = preferences.shape[1]
    alone = NORMAL.inv_cdf(1.0 - top_k / num_experts)  # of experts that are all preferred alike
    low, high = (bound(axis=1, keepdims=True) + alone for bound in (preferences.min, preferences.max))
    threshold = np.clip(np.full_like(low, alone * (1.0 + skew * skew) ** 0.5), low, high)
    for _ in range(MOST_STEPS):
        over = preferences - threshold
        excess = _chance(over).sum(axis=1, keepdims=True) - top_k
        if np.abs(excess).max() <= CLOSE * top_k:
            break
        low, high = np.where(excess > 0.0, threshold, low), np.where(excess > 0.0, high, threshold)
        density = np.exp(-0.5 * over * over).sum(axis=1, keepdims=True) / (2.0 * np.pi) ** 0.5
        newton = threshold + excess / np.maximum(density, 1e-100)
        threshold = np.where((low < newton) & (newton < high), newton, 0.5 * (low + high))
    return np.asarray(threshold)


@lru_cache(maxsize=1024)
def rank_load(num_experts: int, top_k: int, ep: int, skew: float, capacity: float | None = None) -> float:
    """``fullest_rank_load`` of one degree, of experts that drop what exceeds ``capacity`` times the mean.

    The mean over drawn routers of the greatest of ``ep`` sums of min(share, capacity) over E / ep experts, over E / ep. Where
    that is no whole number, a place begins within an expert and has a part of its tokens.
    """
    if ep == 1:
        return 1.0 if capacity is None else kept_share(num_experts, top_k, skew, capacity)
    shares = drawn_shares(num_experts, top_k, skew)
    if capacity is not None:
        shares = np.minimum(shares, capacity)
    edges = np.arange(ep + 1) * (num_experts / ep)
    first = np.minimum(edges.astype(int), num_experts - 1)
    before = np.cumsum(shares, axis=1)[:, first] - shares[:, first] * (1.0 - (edges - first))
    return float(np.diff(before, axis=1).max(axis=1).mean() * ep / num_experts)


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


def distinct_places(places: Number, groups: tuple[int, int], copies: float, in_turn: float = 0.0) -> Array:
    """Of ``places`` with equal parts of the experts, those that a token's ``copies`` experts lie on; shape of ``places``.

    Experts stand in G groups of neighbours, ``groups`` = (G, those that a token chooses: C), and come from all of the chosen ones
    alike, k / C from each: DeepSeek-V3 chooses groups by their two best experts, so that hardly one stays without. Of n <= G
    places, each with G / n groups, a token lies on n (1 - prod_{i < C} (G - G/n - i) / (G - i)); of n > G, p = n / G of each
    group, on C p (1 - (1 - 1/p)^(k/C)). Without groups, G = C = 1, that is n (1 - (1 - 1/n)^k).

    Of E = ``in_turn`` experts that tokens take in turn, token t takes the experts (t k + i) mod E with i < k: they begin at every
    multiple of g = gcd(k, E/n) within a place of E/n, and the mean over those is 1 + (k - g) n / E, at most all.
    """
    n = np.maximum(np.asarray(places, dtype=float), 1.0)
    if in_turn:
        step = np.gcd(int(copies), np.maximum(in_turn / n, 1.0).astype(int))
        return np.asarray(np.minimum(1.0 + (copies - step) * n / in_turn, n))
    total, chosen = groups
    missed = np.ones_like(n)
    for i in range(chosen):
        missed = missed * np.maximum(total - total / n - i, 0.0) / (total - i)
    each = np.maximum(n / total, 1.0)
    apart = chosen * each * (1.0 - np.power(1.0 - 1.0 / each, copies / chosen))
    return np.asarray(np.where(n <= total, n * (1.0 - missed), apart))


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


@lru_cache(maxsize=256)
def skew_of(num_experts: int, top_k: int, ep: int, load: float) -> float:
    """The least skew that fills the fullest of ``ep`` ranks to ``load`` times the mean: ``rank_load`` solved for it by bisection.

    0 for a load of 1; ``WIDEST`` where no router is so uneven.
    """
    if load <= 1.0:
        return 0.0
    low, high = 0.0, WIDEST
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if rank_load(num_experts, top_k, ep, middle) >= load else (middle, high)
    return high


def _skew(model: Model, job: Job, ep: int) -> float:
    """The skew of a job's router: of a load that is given, the one that leads to it on ``ep`` ranks; 0 where it is forced."""
    if job.expert_load is not None:
        return skew_of(model.num_experts, model.top_k, ep, min(job.expert_load, float(ep)))
    return 0.0 if job.routing == "forced" else job.routing_skew


def kept_pairs(model: Model, job: Job, ep: Array) -> Array:
    """``kept_share`` of a job's router, shape of ``ep``: 1 without a capacity."""
    result = np.ones(ep.shape)
    if model.capacity_factor is None or not model.num_experts:
        return result
    for degree in distinct_values(ep):
        skew = _skew(model, job, int(degree))
        result = np.where(ep == degree, kept_share(model.num_experts, model.top_k, skew, model.capacity_factor), result)
    return result


def _under_capacity(model: Model, job: Job, ep: Array, places: Array, load: Array) -> Array:
    """Of the fullest place's ``load``, what its experts keep: cut as drawn routers' is, and at most the capacity."""
    capacity = model.capacity_factor
    if capacity is None or not model.num_experts:
        return load
    kept = np.ones(np.broadcast_shapes(ep.shape, places.shape))
    for degree in distinct_values(ep):
        skew = _skew(model, job, int(degree))
        for number in distinct_values(places):
            full, cut = (rank_load(model.num_experts, model.top_k, int(number), skew, c) for c in (None, capacity))
            kept = np.where((ep == degree) & (places == number), cut / full, kept)
    return np.asarray(np.minimum(load * kept, capacity))


def kept_load(model: Model, job: Job, ep: Array) -> Array:
    """Pairs that the fullest of ``ep`` ranks computes over the mean of all that are routed: ``expert_load`` less what is dropped
    beyond a capacity without padding. Shape of ``ep``."""
    return _under_capacity(model, job, ep, ep, expert_load(model, job, ep))


def places_load(model: Model, job: Job, ep: Array, places: Array, pads: bool = False) -> Array:
    """Tokens of the fullest of ``places``, nodes that hold the ``ep`` ranks, over the mean; shape of ``places``.

    Of a load that is given for ranks, the excess falls as that of drawn routers does. Of experts that drop beyond a capacity,
    what they keep (``kept_load``); those that are padded to it (``pads``) fill all places alike.
    """
    if not model.num_experts or (pads and model.capacity_factor is not None):
        return np.ones_like(places)
    load = expert_load(model, job, places)
    if job.expert_load is not None:
        excess = expert_load(model, job, ep) - 1.0
        of_ranks, of_places = (fullest_rank_load(model.num_experts, model.top_k, n, ROUTING_SKEW) for n in (ep, places))
        load = np.asarray(1.0 + excess * (of_places - 1.0) / np.maximum(of_ranks - 1.0, 1e-9))
    return _under_capacity(model, job, ep, places, load)


def job_load(model: Model, job: Job, ep: int) -> float:
    """``expert_load`` of one layout."""
    return float(expert_load(model, job, np.array([float(ep)]))[0])
