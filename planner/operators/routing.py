"""How unevenly a router fills the ranks of an expert-parallel group."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from planner.common.arrays import Array, Number, distinct_values
from planner.model.architecture import Model
from planner.workload.job import Job

NORMAL = NormalDist()


@lru_cache(maxsize=1024)
def expert_shares(num_experts: int, top_k: int, skew: float) -> tuple[float, ...]:
    """Tokens of each expert over the mean, fullest first, under a router with preferences of its own.

    A token takes the ``top_k`` experts of highest score. Scores are normal with deviation 1 from token to token, around a
    preference of the expert that is itself normal with deviation ``skew``: the chance of expert e is Phi(b_e - tau), with tau
    such that ``top_k`` are taken on average. 0 = balanced. The preferences stand at the normal quantiles of their ranks
    (Blom 1958), so that the shares are a typical draw, not a random one.
    """
    places = [NORMAL.inv_cdf((i - 0.375) / (num_experts + 0.25)) for i in range(1, num_experts + 1)]
    threshold = NORMAL.inv_cdf(1.0 - top_k / num_experts) * (1.0 + skew * skew) ** 0.5 if top_k < num_experts else -np.inf
    chance = np.array([NORMAL.cdf(skew * z - threshold) if np.isfinite(threshold) else 1.0 for z in places])
    return tuple((chance / chance.mean())[::-1].tolist())


def fullest_rank_load(num_experts: int, top_k: int, ep: Array, skew: float) -> Array:
    """Tokens of the fullest of ``ep`` ranks over the mean, shape of ``ep``.

    Ranks hold n = E / ep experts each, placed without regard to their shares: a rank's mean share has the deviation
    v sqrt((1 - (n - 1) / (E - 1)) / n), v that of the experts (draws without replacement), and the fullest of ep lies
    E(max of ep) deviations above the mean (Blom 1958) - at most where the n fullest experts are together. 1 on one rank.
    Every layer waits for the fullest of its ranks, another one in each layer: this is the mean over layers and micro-batches,
    for time as for what all layers keep. Chance adds 1 / sqrt(k t) to the deviation, 1 % at 8,192 pairs on a rank: not counted.
    """
    shares = np.array(expert_shares(num_experts, top_k, skew))
    result = np.ones(ep.shape)
    for degree in distinct_values(ep):
        if degree > 1:
            local = max(num_experts / degree, 1.0)
            deviation = shares.std() * np.sqrt((1.0 - (local - 1.0) / max(num_experts - 1.0, 1.0)) / local)
            most = float(shares[: max(int(local), 1)].mean())
            load = 1.0 + NORMAL.inv_cdf((degree - 0.375) / (degree + 0.25)) * deviation
            result = np.where(ep == degree, min(load, most), result)
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


def kept_pairs(model: Model, job: Job) -> float:
    """Part of the pairs of token and expert that experts take which drop what exceeds their capacity, c times the mean.

    The mean over experts of min(share, c), of shares by the router's skew, even ones where the router is forced or fills all
    ranks alike.
    """
    if model.capacity_factor is None:
        return 1.0
    even = job.routing == "forced" or job.expert_load == 1.0
    shares = expert_shares(model.num_experts, model.top_k, 0.0 if even else job.routing_skew)
    return float(np.minimum(shares, model.capacity_factor).mean())


def job_load(model: Model, job: Job, ep: int) -> float:
    """``expert_load`` of one layout."""
    return float(expert_load(model, job, np.array([float(ep)]))[0])
