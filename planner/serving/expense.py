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


@dataclass(frozen=True, kw_only=True)
class Expense:
    """At a throughput: dollars need a price, joules the power of the node or card; None where that is not known.

    ``usd_per_million_tokens`` counts output tokens, ``usd_per_million_tokens_in_and_out`` those of prompts too.
    """

    usd_per_hour: float | None
    usd_per_million_tokens: float | None
    usd_per_million_tokens_in_and_out: float | None
    usd_per_request: float | None
    power_w: float | None
    joules_per_token: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def power_w(cluster: Cluster) -> float | None:
    """Watts of all GPUs with their share of the servers, at work; None where no power is known."""
    try:
        return power_w_per_gpu(cluster) * cluster.num_gpus
    except PlannerError:
        return None


def expense(cluster: Cluster, price: Price | None, tokens_per_s: float, requests_per_s: float, prompt_tokens: float) -> Expense:
    """Dollars and joules of output tokens at ``tokens_per_s``. The GPUs are paid and powered whether busy or not."""
    hourly = None if price is None else price.usd_per_gpu_hour * cluster.num_gpus
    watts = power_w(cluster)
    each = None if hourly is None else hourly / HOUR_S
    both = tokens_per_s + requests_per_s * prompt_tokens
    return Expense(
        usd_per_hour=hourly,
        usd_per_million_tokens=None if each is None else each / tokens_per_s * MILLION,
        usd_per_million_tokens_in_and_out=None if each is None else each / both * MILLION,
        usd_per_request=None if each is None else each / requests_per_s,
        power_w=watts,
        joules_per_token=None if watts is None else watts / tokens_per_s,
    )
