"""Which cut over the GPUs a deployment takes when none is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.hardware.cluster import Cluster
from planner.model.architecture import Model
from planner.model.mixers import state_heads
from planner.serving.batch_figures import batch_figures
from planner.serving.engine import Engine
from planner.serving.intervals import interval_of
from planner.serving.load import slots_of
from planner.serving.memory import card_bytes, fits, memory
from planner.serving.pass_time import Times
from planner.serving.requests import longest_tokens, mean_tokens
from planner.serving.spec import Serving

CUT = ("tp", "pp", "ep", "dp")
"""Fields of ``Serving`` that cut a deployment; where one is given, nothing is chosen."""


def cuts(model: Model, cluster: Cluster, engine: Engine) -> Iterator[dict[str, int]]:
    """Cuts that fill the cluster with equal replicas: tp as wide as the node and the heads allow, pp for the rest of a replica,
    with every expert cut over tp (ep = 1), with whole experts spread over it (ep = tp), and with whole experts spread over a
    replica whose GPUs each attend to sequences of their own (tp = 1). An engine that splits layers alone over GPUs, as llama.cpp
    does, has tp = 1."""
    most = min(cluster.node.num_gpus, cluster.num_gpus) if "tp" in engine.features else 1
    for replica_gpus in (n for n in range(1, cluster.num_gpus + 1) if cluster.num_gpus % n == 0):
        tp = max(
            n
            for n in range(1, min(most, replica_gpus) + 1)
            if replica_gpus % n == 0 and model.num_heads % n == 0 and state_heads(model) % n == 0
        )
        pp = replica_gpus // tp
        if pp > model.num_layers:
            continue
        cut = {"tp": tp, "pp": pp, "dp": cluster.num_gpus // replica_gpus}
        yield {**cut, "ep": 1}
        if tp > 1 and model.num_experts and model.num_experts % tp == 0:
            yield {**cut, "ep": tp}
        if tp > 1 and "ep" in engine.features and model.num_experts and model.num_experts % replica_gpus == 0:
            yield {"tp": 1, "pp": 1, "dp": cluster.num_gpus // replica_gpus, "ep": replica_gpus}


def with_cut(
    spec: Serving, model: Model, cluster: Cluster, engine: Engine, times: Callable[[Serving], Times]
) -> tuple[Serving, tuple[str, ...]]:
    """(the deployment with a cut that fills the cluster, a note on it), where the question names none.

    Of those that surely fit (else of those that may, else of all: the widest replica), the one with the most output tokens
    per second: with ``serving.clients`` at their number, else at the capacity. ``times``: how a deployment's passes are timed.
    """
    if cluster.num_gpus == 1 or spec.prefill_pool is not None or set(CUT) & spec.model_fields_set:
        return _shared(spec, times), ()
    found: list[tuple[int, float, Serving]] = []
    for cut in cuts(model, cluster, engine):
        try:
            tried = _shared(spec.replaced(**cut), times)
            found.append((*rank(times(tried)), tried))
        except PlannerError:
            continue
    if not found:
        return _shared(spec, times), ()
    certainty, _, best = max(found, key=lambda one: one[:2])
    words = ", ".join(f"{name} = {getattr(best, name)}" for name in CUT if getattr(best, name) > 1)
    fit = sum(one[0] > 0 for one in found)
    if not certainty:
        return best, (Message("cut chosen: {0}, the widest replica; no cut of {1} fits", words, len(found)),)
    if fit == 1:
        return best, (Message("cut chosen: {0}, the only one that fits; serving.tp, pp, ep and dp name another", words),)
    aim = Message("output with these clients") if spec.clients is not None else Message("capacity")
    return best, (
        Message(
            "cut chosen: {0}, the most {1} of the {2} cuts that fit; serving.tp, pp, ep and dp name another", words, aim, fit
        ),
    )


def _shared(spec: Serving, times: Callable[[Serving], Times]) -> Serving:
    """With clients and no batch: the clients of a replica are its batch, as far as they find room."""
    if spec.clients is None or "batch" in spec.model_fields_set:
        return spec
    return spec.replaced(batch=min(-(-spec.clients // spec.dp), max(slots_of(times(spec)), 1)))


def rank(times: Times) -> tuple[int, float]:
    """(2 surely fits, 1 may fit, 0 does not fit; output tokens per second, or for what does not fit less the bytes)."""
    setting, s = times.setting, times.setting.serving
    context = mean_tokens(s.prompt) + mean_tokens(s.output)
    used = memory(setting, float(s.batch), longest_tokens(s.prompt), context, times.draft)
    need = float(used.total_bytes)
    if not fits(setting, used) or slots_of(times) < 1:
        return 0, -need
    if s.clients is not None and "paged_cache" in setting.engine.features:  # its cache is what is free, however many ask
        need = float(memory(setting, 1.0, longest_tokens(s.prompt), context, times.draft).total_bytes)
    sure = 2 if interval_of(setting, "total_bytes", need).upper <= card_bytes(setting.cluster) else 1
    batch = s.batch if s.clients is not None else slots_of(times)
    return sure, float(batch_figures(times, np.array([float(batch)]))["output_tokens_per_s"][0])
