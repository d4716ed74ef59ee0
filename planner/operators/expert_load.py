"""How unevenly tokens fall on experts, and what that makes of the fullest rank."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from planner.common.arrays import Array
from planner.common.errors import PlannerError
from planner.common.files import read_text


def given_shares(values: Sequence[float], num_experts: int, where: str = "run.expert_shares") -> Array:
    """Shares of tokens per expert, shape ``(num_experts,)``, from shares or counts. PlannerError names the bad entry."""
    if len(values) != num_experts:
        raise PlannerError(
            "{0}: has {1} entries; the model has {2} experts, give one entry each.", where, len(values), num_experts
        )
    for i, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
            raise PlannerError("{0}[{1}] = {2!r}: must be a finite number that is not negative.", where, i, value)
    shares = np.asarray(values, dtype=float)
    if shares.sum() <= 0:
        raise PlannerError("{0}: all entries are zero; give the tokens or the share of each expert.", where)
    return np.asarray(shares / shares.sum())


def zipf_shares(exponent: float, num_experts: int) -> Array:
    """Share of the i-th expert ~ 1 / i^exponent; 0 is balanced. Shape ``(num_experts,)``."""
    weights = np.arange(1, num_experts + 1, dtype=float) ** -exponent
    return np.asarray(weights / weights.sum())


def read_histogram(path: Path, num_experts: int) -> Array:
    """Shares from a measured histogram: a JSON list, or one count per line; a word in front of a number is skipped."""
    try:
        text = read_text(path, "a file with one count per expert")
    except PlannerError as error:
        raise PlannerError("run.expert_histogram is not usable: {0}", error) from None
    try:
        if path.suffix == ".json":
            values = json.loads(text)
        else:
            values = [float(line.replace(",", " ").split()[-1]) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise PlannerError("{0}: not a histogram ({1}); give a JSON list or one count per line.", path, error) from None
    if not isinstance(values, list):
        raise PlannerError("{0}: holds a {1}; a list with one count per expert is needed.", path, type(values).__name__)
    return given_shares(values, num_experts, str(path))


def mixed_shares(shares_by_type: Sequence[Sequence[float]], parts: Sequence[float]) -> Array:
    """Shares per expert of a mixture of data types: row i of ``shares_by_type`` weighted by ``parts[i]``."""
    rows = np.asarray(shares_by_type, dtype=float)
    weights = np.asarray(parts, dtype=float)
    return np.asarray((rows / rows.sum(axis=1, keepdims=True)).T @ (weights / weights.sum()))


def expert_load(shares: Array, ep: int) -> float:
    """Tokens on the fullest of ``ep`` ranks over the mean; neighbouring experts share a rank. 1 = balanced."""
    if len(shares) % ep:
        raise PlannerError("layout.ep = {0}: does not divide {1} experts.", ep, len(shares))
    ranks = shares.reshape(ep, -1).sum(axis=1)
    return float(max(ranks.max() * ep, 1.0))


def placed_load(shares: Array, ep: int) -> float:
    """Mean of ``expert_load`` over random placements of the experts on ``ep`` ranks: nobody places them by their load.

    200 seeded placements: the mean is within 1 % for shares of any published histogram.
    """
    if ep == 1 or len(shares) % ep or bool(np.all(shares == shares[0])):
        return expert_load(shares, ep)
    rng = np.random.default_rng(0)
    placed = rng.permuted(np.broadcast_to(shares, (200, len(shares))), axis=1)
    return float(placed.reshape(200, ep, -1).sum(axis=2).max(axis=1).mean() * ep)


def sorted_load(shares: Array, ep: int) -> float:
    """``expert_load`` with the fullest experts together on one rank: the worst placement."""
    return expert_load(np.sort(shares)[::-1], ep)


def rebalanced_load(shares: Array, ep: int) -> float:
    """``expert_load`` where experts are placed by their measured load: the fullest first, each on the emptiest rank with room.

    Longest-processing-time order (Graham 1969) with E / ep places on a rank, as expert-parallel load balancers pack.
    """
    if len(shares) % ep:
        return expert_load(shares, ep)  # says why not
    room = np.full(ep, len(shares) // ep)
    ranks = np.zeros(ep)
    for share in np.sort(shares)[::-1]:
        rank = int(np.argmin(np.where(room > 0, ranks, np.inf)))
        ranks[rank], room[rank] = ranks[rank] + share, room[rank] - 1
    return float(max(ranks.max() * ep, 1.0))


@lru_cache(maxsize=256)
def expert_copies(shares: tuple[float, ...], redundant: int) -> tuple[int, ...]:
    """Copies of each expert where ``redundant`` more than one each are given out: each to the expert with the most tokens a copy
    (deepseek-ai/EPLB, eplb.py, replicate_experts)."""
    each, copies = np.asarray(shares), np.ones(len(shares), dtype=int)
    for _ in range(redundant):
        copies[int(np.argmax(each / copies))] += 1
    return tuple(int(n) for n in copies)


def copied_shares(shares: Array, redundant: int) -> Array:
    """Shares of the copies, shape ``(num_experts + redundant,)``: those of one expert split its tokens evenly."""
    copies = np.asarray(expert_copies(tuple(float(x) for x in shares), redundant))
    return np.repeat(shares / copies, copies)


PLACEMENTS: dict[str, Callable[[Array, int], float]] = {
    "given": expert_load,
    "random": placed_load,
    "sorted": sorted_load,
    "rebalanced": rebalanced_load,
}
"""What a placement of experts makes of the fullest rank."""


@lru_cache(maxsize=1024)
def zipf_load(exponent: float, num_experts: int, ep: int, placement: str, redundant: int = 0) -> float:
    """Tokens on the fullest of ``ep`` ranks over the mean, of experts whose popularity follows Zipf's law, with ``redundant``
    copies of the fullest."""
    shares = zipf_shares(exponent, num_experts)
    return PLACEMENTS[placement](copied_shares(shares, redundant) if redundant else shares, ep)


def dropped_share(shares: Array, capacity_factor: float) -> float:
    """Part of the token-expert pairs that overflow experts of capacity ``capacity_factor`` times the mean (Switch)."""
    room = capacity_factor / len(shares)
    return float(np.maximum(shares - room, 0.0).sum())
