"""Latency and throughput of fixed batches, and the capacity."""

from __future__ import annotations

from typing import Any

import numpy as np

from planner.serving.disaggregated import Pools, prefill_times, transfer_s
from planner.serving.load import capacity_per_s, most_per_s, replica, room_of, server_s
from planner.serving.pass_time import Times
from planner.serving.requests import mean_tokens


def batch_figures(times: Times, batches: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    """Latency and throughput of batches of a replica at mean lengths; rates over all replicas; arrays of ``batches``' shape.

    ttft: all prompts in one pass, after the server's front. e2e = ttft + (outputs - 1) x step at the middle of the output.
    Throughput: batch over e2e (Little's law); stages of a pipeline prefill different prompts at the same time. Cached answers
    come on top. prefill_share: part of the GPUs' time.
    """
    s = times.setting.serving
    if s.prefill_pool is not None:
        return _apart(times, batches)
    prompt, output = mean_tokens(s.prompt), mean_tokens(s.output)
    hit = prompt * s.prefix_cache_hit_rate
    front = server_s(times.setting.engine, np.asarray(prompt))
    ttft = times.prefill_s(max(prompt - hit, 1.0), batches, hit) + front
    tpot = times.decode_s(batches, prompt + output / 2.0)
    held = times.prefill_busy_s(max(prompt - hit, 1.0), batches, hit)
    e2e = ttft + (output - 1.0) * tpot
    rate = s.dp * batches / (front + held + (output - 1.0) * tpot) / (1.0 - s.response_cache_hit_rate)
    share = held / (held + (output - 1.0) * tpot)
    return {
        "ttft_s": ttft,
        "tpot_s": tpot,
        "e2e_s": e2e,
        "requests_per_s": rate,
        "output_tokens_per_s": rate * output,
        "prefill_share": share,
    }


def _apart(times: Times, batches: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    """``batch_figures`` where prompts have GPUs of their own: the slower of the two pools, or the links, bounds the rate."""
    s, before = times.setting.serving, prefill_times(times)
    prompt, output = mean_tokens(s.prompt), mean_tokens(s.output)
    hit = prompt * s.prefix_cache_hit_rate
    new = max(prompt - hit, 1.0)
    front = server_s(times.setting.engine, np.asarray(prompt))
    sending = transfer_s(times.setting, prompt)
    ttft = before.prefill_s(new, batches, hit) + batches * sending + front
    tpot = times.decode_s(batches, prompt + output / 2.0)
    e2e = ttft + (output - 1.0) * tpot
    held = before.prefill_busy_s(new, batches, hit)
    pool = before.setting.serving.dp * batches / np.maximum(held, batches * sending)
    decoding = s.dp * batches / np.maximum((output - 1.0) * tpot, 1e-12)
    rate = np.minimum(pool, decoding)
    gpus = float(before.setting.serving.num_gpus)
    return {
        "ttft_s": ttft,
        "tpot_s": tpot,
        "e2e_s": e2e,
        "requests_per_s": rate / (1.0 - s.response_cache_hit_rate),
        "output_tokens_per_s": rate / (1.0 - s.response_cache_hit_rate) * output,
        "prefill_share": np.full_like(tpot, gpus / s.num_gpus),
    }


def most_full_per_s(times: Times, places: int | None = None) -> float:
    """What ``full_per_s`` cannot exceed, without a simulation; infinite where it is not known."""
    s = times.setting.serving
    if s.prefill_pool is not None:
        return np.inf
    return most_per_s(replica(times, room_of(times, places))) * s.dp / (1.0 - s.response_cache_hit_rate)


def full_per_s(times: Times, places: int | None = None) -> float:
    """Requests per second that all replicas of a deployment that fits can serve; ``places``: at most so many on each."""
    s = times.setting.serving
    if s.prefill_pool is not None:
        return Pools(times).capacity_per_s / (1.0 - s.response_cache_hit_rate)
    return capacity_per_s(replica(times, room_of(times, places)), s.seed) * s.dp / (1.0 - s.response_cache_hit_rate)
