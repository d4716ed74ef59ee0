"""Dollars and joules of served tokens and requests."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from planner.common.errors import PlannerError
from planner.common.units import HOUR_S
from planner.hardware.cluster import Cluster
from planner.prices.ownership import power_w_per_gpu
from planner.prices.price import Price

MILLION = 1e6


IDLE_POWER = 0.25
"""Watts of an idle server over those of one at work. Assumed: fans, memory and idle GPUs of an eight-GPU server."""


@dataclass(frozen=True, kw_only=True)
class Expense:
    """At a throughput: dollars need a price, joules the power of the node or GPU; None where that is not known.

    ``usd_per_million_tokens`` puts all dollars on output tokens, ``usd_per_million_tokens_in_and_out`` on those of prompts too.
    ``usd_per_million_input_tokens`` and ``usd_per_million_output_tokens`` divide them as prefill and decoding divide the GPUs'
    time: input tokens x the one + output tokens x the other = all dollars. ``power_w`` is that of the busy part of the time, and
    of idling for the rest. Where no text is written, dollars of output tokens are None and joules are those of a prompt's token.
    """

    usd_per_hour: float | None
    usd_per_million_tokens: float | None
    usd_per_million_tokens_in_and_out: float | None
    usd_per_million_input_tokens: float | None
    usd_per_million_output_tokens: float | None
    usd_per_request: float | None
    power_w: float | None
    joules_per_token: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def power_w(cluster: Cluster, busy: float = 1.0) -> float | None:
    """Watts of all GPUs with their share of the servers, busy for that part of the time; None where no power is known."""
    try:
        return power_w_per_gpu(cluster) * cluster.num_gpus * (IDLE_POWER + (1.0 - IDLE_POWER) * busy)
    except PlannerError:
        return None


def expense(
    cluster: Cluster,
    price: Price | None,
    tokens_per_s: float,
    requests_per_s: float,
    prompt_tokens: float,
    prefill_share: float,
    busy: float = 1.0,
) -> Expense:
    """Dollars and joules at ``tokens_per_s`` output tokens. The GPUs are paid whether busy or not.

    ``prefill_share``: part of the GPUs' busy time that prefill takes; ``busy``: part of the time that they work.
    """
    hourly = None if price is None else price.usd_per_gpu_hour * cluster.num_gpus
    watts = power_w(cluster, busy)
    inputs = requests_per_s * prompt_tokens

    def usd_per_million(tokens: float, share: float = 1.0) -> float | None:
        return None if hourly is None or not tokens else hourly / HOUR_S * share / tokens * MILLION

    return Expense(
        usd_per_hour=hourly,
        usd_per_million_tokens=usd_per_million(tokens_per_s),
        usd_per_million_tokens_in_and_out=usd_per_million(tokens_per_s + inputs),
        usd_per_million_input_tokens=usd_per_million(inputs, prefill_share),
        usd_per_million_output_tokens=usd_per_million(tokens_per_s, 1.0 - prefill_share),
        usd_per_request=None if hourly is None else hourly / HOUR_S / requests_per_s,
        power_w=watts,
        joules_per_token=None if watts is None else watts / (tokens_per_s or inputs),
    )
