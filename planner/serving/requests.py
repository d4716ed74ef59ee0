"""Random requests: when they arrive and how long their prompts and outputs are."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from planner.common.arrays import Array
from planner.serving.spec import Lengths


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Arrival times in seconds, ascending, and tokens of prompts and outputs; all of shape ``(n,)``."""

    arrivals_s: Array
    prompts: Array
    outputs: Array


def sample(lengths: Lengths, n: int, rng: np.random.Generator) -> Array:
    """``n`` lengths in whole tokens, at least one."""
    if lengths.kind == "fixed":
        drawn = np.full(n, float(lengths.mean or 1.0))
    elif lengths.kind == "lognormal":
        mu, sigma = _lognormal(lengths)
        drawn = rng.lognormal(mu, sigma, n)
    elif lengths.kind == "uniform":
        drawn = rng.integers(int(lengths.low or 1), int(lengths.high or 1), n, endpoint=True).astype(float)
    else:
        weights = np.asarray(lengths.weights)
        drawn = rng.choice(np.asarray(lengths.values, dtype=float), n, p=weights / weights.sum())
    return np.asarray(np.maximum(np.rint(np.minimum(drawn, float(lengths.maximum or np.inf))), 1.0), dtype=float)


def _lognormal(lengths: Lengths) -> tuple[float, float]:
    """Parameters of the logarithm from mean and standard deviation: sigma^2 = ln(1 + (s/m)^2), mu = ln m - sigma^2 / 2."""
    mean, deviation = float(lengths.mean or 1.0), float(lengths.standard_deviation or 0.0)
    variance = float(np.log1p((deviation / mean) ** 2))
    return float(np.log(mean)) - variance / 2.0, float(np.sqrt(variance))


def mean_tokens(lengths: Lengths) -> float:
    """The mean of the lengths as ``sample`` cuts them at ``maximum``, without rounding to whole tokens."""
    most = float(lengths.maximum or np.inf)
    if lengths.kind == "uniform":
        low, high = int(lengths.low or 1), int(lengths.high or 1)
        cut = max(min(most, high), low - 1)  # whole lengths up to it stay, those above become ``most``
        return min((cut - low + 1) * (low + cut) / 2.0 + (high - cut) * min(most, high), (high - low + 1) * most) / (
            high - low + 1
        )
    if lengths.kind == "histogram":
        weights = np.asarray(lengths.weights)
        return float(np.dot(np.minimum(np.asarray(lengths.values, dtype=float), most), weights) / weights.sum())
    return _lognormal_mean(lengths, most) if lengths.kind == "lognormal" else min(float(lengths.mean or 1.0), most)


def _lognormal_mean(lengths: Lengths, most: float) -> float:
    """E min(X, M) = m N((ln M - mu) / sigma - sigma) + M (1 - N((ln M - mu) / sigma)), N the standard normal distribution."""
    mean, (mu, sigma) = float(lengths.mean or 1.0), _lognormal(lengths)
    if np.isinf(most) or sigma == 0.0:
        return min(mean, most)
    below, normal = (float(np.log(most)) - mu) / sigma, NormalDist()
    return mean * normal.cdf(below - sigma) + most * (1.0 - normal.cdf(below))


def longest_tokens(lengths: Lengths) -> float:
    """The longest length that counts: the largest possible, or a lognormal's 99.9 % point."""
    if lengths.kind == "uniform":
        longest = float(lengths.high or 1)
    elif lengths.kind == "histogram":
        longest = float(max(v for v, w in zip(lengths.values, lengths.weights, strict=True) if w > 0))
    elif lengths.kind == "lognormal":
        mu, sigma = _lognormal(lengths)
        longest = float(np.ceil(np.exp(mu + 3.09 * sigma)))
    else:
        longest = float(lengths.mean or 1.0)
    return min(longest, float(lengths.maximum or np.inf))


def poisson(rate_per_s: float, n: int, prompt: Lengths, output: Lengths, seed: int) -> Requests:
    """Independent requests at ``rate_per_s``; the same seed gives the same requests."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1.0 / rate_per_s, n))
    return Requests(arrivals_s=arrivals, prompts=sample(prompt, n, rng), outputs=sample(output, n, rng))
