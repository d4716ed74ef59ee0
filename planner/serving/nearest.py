"""The nearest change that makes a deployment fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from planner.common.errors import PlannerError
from planner.serving.feasibility import require_possible
from planner.serving.memory import fits, largest_batch, largest_context, memory
from planner.serving.pass_time import Times
from planner.serving.requests import longest_tokens, mean_tokens
from planner.serving.setting import Setting
from planner.serving.spec import Serving


def nearest_change(times: Times) -> Mapping[str, Any] | None:
    """Fields to change, in the order of how little they disturb: batch, cache type, cut on the same GPUs, context, weights.

    None when none of them alone is enough.
    """
    for change in _candidates(times):
        try:
            setting = _changed(times.setting, change)
            require_possible(setting)
        except PlannerError:
            continue
        if _fits(setting, times.draft):
            return change
    return None


def more_gpus(times: Times) -> int | None:
    """The fewest GPUs of its node, matrices cut over all of them, on which a deployment on fewer fits; None where none do."""
    setting, s = times.setting, times.setting.serving
    node = setting.cluster.node
    if s.ep > 1 or s.prefill_pool is not None or setting.cluster.num_nodes > 1:
        return None
    for gpus in range(setting.cluster.num_gpus + 1, node.num_gpus + 1):
        if setting.model.num_heads % gpus == 0:
            wider = replace(setting, cluster=setting.cluster.replaced(num_gpus=gpus), serving=s.replaced(tp=gpus, pp=1, dp=1))
            try:
                require_possible(wider)
            except PlannerError:
                continue
            if _fits(wider, times.draft):
                return gpus
    return None


def _candidates(times: Times) -> Iterator[dict[str, Any]]:
    setting, s = times.setting, times.setting.serving
    batch = largest_batch(setting, longest_tokens(s.prompt), mean_tokens(s.prompt) + mean_tokens(s.output), times.draft)
    if 0 < batch < s.batch:
        yield {"batch": batch}
    if s.kv_dtype not in ("fp8", "int8"):
        yield {"kv_dtype": "fp8"}
        yield {"kv_dtype": "int8"}
    gpus = s.gpus_per_replica * s.dp
    yield from _cuts(s, gpus)
    context = largest_context(setting, 1, longest_tokens(s.output), times.draft)
    prompt = context - int(longest_tokens(s.output))
    if s.prompt.kind == "fixed" and 0 < prompt < longest_tokens(s.prompt):
        yield {"prompt": prompt}
    for weights in ("fp8", "int8-weight-only", "int4-awq"):
        yield {"weights": weights}
    for weights in ("int8-weight-only", "int4-awq"):
        for cut in _wider(s, gpus):
            yield {"weights": weights, **cut}


def _cuts(s: Serving, gpus: int) -> Iterator[dict[str, int]]:
    """Wider cuts of the same GPUs: over matrices, then over layers."""
    yield from _wider(s, gpus)
    for pp in range(s.pp + 1, gpus // s.tp + 1):
        if gpus % (pp * s.tp) == 0:
            yield {"pp": pp, "dp": gpus // (s.tp * pp)}


def _wider(s: Serving, gpus: int) -> Iterator[dict[str, int]]:
    """Matrices cut over more of the same GPUs, replicas over the rest; the model's heads decide which cuts are possible."""
    for tp in range(s.tp + 1, gpus // s.pp + 1):
        if s.ep == 1 and gpus % (tp * s.pp) == 0:
            yield {"tp": tp, "dp": gpus // (tp * s.pp)}


def _changed(setting: Setting, change: Mapping[str, Any]) -> Setting:
    clean = {"bits_per_weight": None, "keep_16_bit": None, "group_size": None} if "weights" in change else {}
    return replace(setting, serving=setting.serving.replaced(**{**clean, **change}))


def _fits(setting: Setting, draft: Setting | None) -> bool:
    s = setting.serving
    longest = longest_tokens(s.prompt) + longest_tokens(s.output)
    mean = mean_tokens(s.prompt) + mean_tokens(s.output)
    one = memory(setting, 1.0, longest_tokens(s.prompt), longest, draft)
    all_ = memory(setting, float(s.batch), longest_tokens(s.prompt), mean, draft)
    return fits(setting, one) and fits(setting, all_)
