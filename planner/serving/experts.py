"""How many experts a batch touches, and what falls on the fullest of the ranks that hold them."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from planner.common.arrays import Array, Number
from planner.operators.expert_load import expert_copies


def distinct_experts(num_experts: int, top_k: int, tokens: Number, zipf: float = 0.0, redundant: int = 0) -> Array:
    """Expected experts that at least one of ``tokens`` chose: sum over experts of 1 - (1 - p)^tokens.

    Balanced routing: p = top_k / num_experts, that is E (1 - (1 - k/E)^B). With ``zipf`` > 0 expert i is chosen in proportion
    to i^-zipf (each at most once a token). Of ``redundant`` copies each counts: an expert's c copies have p / c each.
    """
    t = np.asarray(tokens, dtype=float)
    if redundant:
        chances = np.asarray(_popularity(num_experts, top_k, zipf))
        copies = np.asarray(expert_copies(tuple(float(p) for p in chances), redundant), dtype=float)
        return np.asarray((copies * (1.0 - np.power(1.0 - chances / copies, t[..., None]))).sum(axis=-1))
    if zipf == 0.0:
        return np.asarray(num_experts * (1.0 - np.power(1.0 - top_k / num_experts, t)))
    chances = np.asarray(_popularity(num_experts, top_k, zipf))
    return np.asarray((1.0 - np.power(1.0 - chances, t[..., None])).sum(axis=-1))


def fullest_rank(
    num_experts: int, top_k: int, tokens: Number, ep: int, load: float, zipf: float = 0.0, redundant: int = 0
) -> tuple[Array, Array]:
    """(distinct experts, token-expert pairs) of the fullest of ``ep`` ranks, expected; shape of ``tokens``.

    Which experts the tokens of one pass choose is chance. Of n experts without replacement from E, a rank with E / ep of them
    gets a hypergeometric number: mean n / ep, variance n / ep (1 - 1 / ep) (E - n) / (E - 1); n is the distinct experts, and
    ``top_k`` for each token's pairs. The largest of ep that add up to n lies sigma / sqrt(1 - 1 / ep) times the largest of ep
    standard normals above the mean. ``load``, what popularity makes of the fullest rank over the mean, spreads beside it.
    ``redundant`` copies are experts as the others: E and n count them.
    """
    t = np.asarray(tokens, dtype=float)
    distinct = distinct_experts(num_experts, top_k, t, zipf, redundant)
    if ep == 1:
        return distinct, t * top_k
    num_experts += redundant
    above = NormalDist().inv_cdf((ep - 0.375) / (ep + 0.25))  # of the largest of ep normals (Blom 1958)

    def fullest(mean: Array, drawn: Number, draws: Number) -> Array:
        left = np.maximum(num_experts - np.asarray(drawn), 0.0) / max(num_experts - 1.0, 1.0)
        chance = above * np.sqrt(draws * drawn / ep * left)
        return np.asarray(mean + np.hypot((load - 1.0) * mean, chance))

    here = num_experts / ep
    pairs = np.clip(fullest(t * top_k / ep, float(top_k), t), 1.0, np.maximum(t * min(float(top_k), here), 1.0))
    return np.clip(fullest(distinct / ep, distinct, 1.0), 1.0, np.minimum(here, pairs)), pairs


@lru_cache(maxsize=64)
def _popularity(num_experts: int, top_k: int, zipf: float) -> tuple[float, ...]:
    """Chance of each expert to be among a token's top_k: proportional to i^-zipf, at most 1, adding up to top_k."""
    weight = np.arange(1, num_experts + 1, dtype=float) ** -zipf
    sure = np.zeros(num_experts, dtype=bool)
    chance = np.ones(num_experts)
    while True:
        left = float(top_k - sure.sum())
        if sure.all() or left <= 0:
            return tuple(np.where(sure, 1.0, 0.0))
        chance = np.where(sure, 1.0, left * weight / weight[~sure].sum())
        over = (chance >= 1.0) & ~sure
        if not over.any():
            return tuple(chance)
        sure |= over
