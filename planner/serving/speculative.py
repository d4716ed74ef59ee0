"""Speculative decoding: what a round of drafting and checking yields."""

from __future__ import annotations


def expected_tokens(tokens: int, acceptance: float) -> float:
    """Expected tokens of a round: (1 - a^(g + 1)) / (1 - a), g proposed and each accepted with chance a.

    One token comes from the checking pass itself. Source: Leviathan et al. 2023, arXiv 2211.17192, equation 1.

    >>> expected_tokens(4, 0.0), expected_tokens(4, 1.0)
    (1.0, 5.0)
    """
    if acceptance >= 1.0:
        return tokens + 1.0
    return (1.0 - acceptance ** (tokens + 1)) / (1.0 - acceptance)
