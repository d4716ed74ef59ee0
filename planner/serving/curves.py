"""Latency against throughput as tables: over batches, and over request rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from planner.common.errors import PlannerError
from planner.serving.batch_figures import batch_figures
from planner.serving.closed_loop import closed_loop
from planner.serving.deployment import Deployment
from planner.serving.disaggregated import Pools, clients_apart, load_apart
from planner.serving.expense import expense
from planner.serving.intervals import interval_of
from planner.serving.load import Load, capacity_per_s, replica, room_of, slots_of, under_load
from planner.serving.memory import memory
from planner.serving.requests import longest_tokens, mean_tokens

if TYPE_CHECKING:
    import pandas as pd


def curve(d: Deployment, batches: tuple[int, ...] | None = None) -> pd.DataFrame:
    """Latency and throughput against batch, one row a batch (per replica): powers of two to the largest that fits and that the
    engine takes, or the given ones.

    Columns: batch, ttft_s, tpot_s, e2e_s, output_tokens_per_s, requests_per_s, prefill_share, total_bytes,
    usd_per_million_tokens, joules_per_token, and lower and upper of tpot_s and output_tokens_per_s.
    """
    import pandas as pd

    s = d.serving
    if s.embeds:
        raise PlannerError("{0} makes vectors, no text: it has no curve of tokens; load_curve gives latencies.", d.model.name)
    most = min(d.max_batch, d.times.setting.places)
    if most < 1:
        raise PlannerError("this deployment does not fit: it has no curve.")
    chosen = batches or tuple(sorted({*(2**i for i in range(int(np.log2(most)) + 1)), most}))
    sizes = np.array([b for b in chosen if b <= most], dtype=float)
    table = pd.DataFrame({"batch": sizes.astype(int), **batch_figures(d.times, sizes)})
    prompt, output = mean_tokens(s.prompt), mean_tokens(s.output)
    table["total_bytes"] = memory(d.times.setting, sizes, longest_tokens(s.prompt), prompt + output, d.times.draft).total_bytes
    costs = [
        expense(d.cluster, d.price, tokens, rate, prompt, share)
        for tokens, rate, share in zip(table["output_tokens_per_s"], table["requests_per_s"], table["prefill_share"], strict=True)
    ]
    table["usd_per_million_tokens"] = [c.usd_per_million_tokens for c in costs]
    table["joules_per_token"] = [c.joules_per_token for c in costs]
    for name in ("tpot_s", "output_tokens_per_s"):
        pairs = zip(table[name], table["batch"], strict=True)
        sure = [interval_of(d.times.setting, name, float(v), int(batch)) for v, batch in pairs]
        table[f"{name}_lower"], table[f"{name}_upper"] = [i.lower for i in sure], [i.upper for i in sure]
    return table


SHARES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95)
"""Of the capacity, at which ``load_curve`` simulates."""


def load_curve(d: Deployment, shares: tuple[float, ...] = SHARES) -> pd.DataFrame:
    """Latencies at shares of the capacity, one row a request rate: mean, percentiles, goodput, mean batch."""
    import pandas as pd

    if not d.fits:
        raise PlannerError("this deployment does not fit: it has no curve.")
    if "continuous_batching" not in d.engine.features:
        raise PlannerError(
            "serving.engine = {0!r} does not batch continuously: there is no curve over request rates.", d.engine.name
        )
    s = d.serving
    pools = None if s.prefill_pool is None else Pools(d.times)
    one = replica(d.times) if pools is None else pools.decode
    capacity = capacity_per_s(one, s.seed) if pools is None else pools.capacity_per_s / s.dp
    total = capacity * s.dp / (1.0 - s.response_cache_hit_rate)
    rows = []
    for share in shares:
        rate = share * total
        load = under_load(d.times, rate, one, capacity) if pools is None else load_apart(d.times, rate, pools)
        row = {
            "share": share,
            "requests_per_s": load.requests_per_s,
            "stable": load.stable,
            "output_tokens_per_s": load.output_tokens_per_s,
            "goodput_requests_per_s": load.goodput_requests_per_s,
            "mean_batch": load.mean_batch,
        }
        rows.append(row | _latencies(load))
    return _written(d, pd.DataFrame(rows))


def client_curve(d: Deployment, clients: tuple[int, ...] | None = None) -> pd.DataFrame:
    """Latencies and throughput of a closed loop against the number of clients, over all replicas, one row a number.

    Powers of two to twice the places that the replicas have, or the given numbers. Columns: clients, requests_per_s,
    output_tokens_per_s, goodput_requests_per_s, mean_batch, preemptions_per_request, and mean and percentiles of the latencies.
    """
    import pandas as pd

    if not d.fits:
        raise PlannerError("this deployment does not fit: it has no curve.")
    if "continuous_batching" not in d.engine.features:
        raise PlannerError("serving.engine = {0!r} does not batch continuously: there is no curve over clients.", d.engine.name)
    most = max(min(2 * slots_of(d.times), 1024), 2) * d.serving.dp
    chosen = clients or tuple(2**i for i in range(int(np.log2(most)) + 1))
    pools = None if d.serving.prefill_pool is None else Pools(d.times)
    one = None if pools else replica(d.times, room_of(d.times, -(-max(chosen) // d.serving.dp)))
    rows = []
    for number in chosen:
        load = closed_loop(d.times, number, one) if pools is None else clients_apart(d.times, number, pools)
        row = {
            "clients": number,
            "requests_per_s": load.requests_per_s,
            "output_tokens_per_s": load.output_tokens_per_s,
            "goodput_requests_per_s": load.goodput_requests_per_s,
            "mean_batch": load.mean_batch,
            "preemptions_per_request": load.preemptions_per_request,
        }
        rows.append(row | _latencies(load))
    return _written(d, pd.DataFrame(rows))


def _written(d: Deployment, table: pd.DataFrame) -> pd.DataFrame:
    """The table without figures of written tokens where what is made are vectors."""
    if not d.serving.embeds:
        return table
    return table.drop(columns=[name for name in table if str(name).startswith(("tpot_s", "output_tokens"))])


def _latencies(load: Load) -> dict[str, float | None]:
    names = ("ttft_s", "tpot_s", "e2e_s")
    return {f"{name}_{key}": value for name in names for key, value in (getattr(load, name) or {}).items()}
