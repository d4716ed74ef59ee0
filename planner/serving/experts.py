"""How many experts a batch touches."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from planner.common.arrays import Array, Number


def distinct_experts(num_experts: int, top_k: int, tokens: Number, zipf: float = 0.0) -> Array:
    """Expected experts that at least one of ``tokens`` chose: sum over experts of 1 - (1 - p)^tokens.

    Balanced routing: p = top_k / num_experts, that is E (1 - (1 - k/E)^B). With ``zipf`` > 0 expert i is chosen in proportion
    to i^-zipf (each at most once a token).
    """
    t = np.asarray(tokens, dtype=float)
    if zipf == 0.0:
        return np.asarray(num_experts * (1.0 - np.power(1.0 - top_k / num_experts, t)))
    chances = np.asarray(_popularity(num_experts, top_k, zipf))
    return np.asarray((1.0 - np.power(1.0 - chances, t[..., None])).sum(axis=-1))


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
