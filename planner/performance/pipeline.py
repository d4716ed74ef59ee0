"""Which layers lie on which pipeline stage, how many micro-batches are in flight, how long the bubble is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from planner.common.arrays import Array
from planner.common.message import Message
from planner.model.architecture import LayerKind, Model
from planner.workload.layout import Schedule


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Stages of equal content. ``first`` is the earliest (most micro-batches in flight), ``count`` how many there are,
    ``members`` which.

    ``layers`` counts all layers of the stage by kind, over its ``vpp`` chunks.
    """

    first: int
    count: int
    layers: tuple[tuple[LayerKind, int], ...]
    embedding: bool
    head: bool
    members: tuple[int, ...] = ()


@lru_cache(maxsize=4096)
def stages(model: Model, pp: int, vpp: int) -> tuple[Stage, ...]:
    """The distinct stages of ``model`` cut into ``pp x vpp`` chunks, dealt round to the stages (Narayanan et al. 2021).

    Layers that do not divide go one each to the chunks after the first, so that the stage with the embedding, and
    where possible the one with the head, stay light; with virtual stages these two may hold no layer at all.
    Raises ValueError when there are more chunks than that.
    """
    chunks = pp * vpp
    if chunks > model.num_layers + (2 if vpp > 1 else 0):
        raise ValueError(Message("pp x vpp = {0} chunks for {1} layers", chunks, model.num_layers))
    base, extra = divmod(model.num_layers, chunks)
    sizes = [base + (1 if 1 <= c <= extra else 0) for c in range(chunks)]
    kinds = model.layer_kinds
    content: list[Counter[LayerKind]] = [Counter() for _ in range(pp)]
    start = 0
    for c, size in enumerate(sizes):
        content[c % pp].update(kinds[start : start + size])
        start += size
    groups: dict[tuple[object, ...], list[int]] = {}
    for s in range(pp):
        key = (tuple(sorted(content[s].items())), s == 0, s == pp - 1)
        groups.setdefault(key, []).append(s)
    return tuple(
        Stage(
            first=members[0],
            count=len(members),
            layers=tuple(sorted(content[members[0]].items())),
            embedding=members[0] == 0,
            head=members[0] == pp - 1,
            members=tuple(members),
        )
        for members in groups.values()
    )


def in_flight(pp: int, vpp: Array, stage: int, num_microbatches: Array, further: float = 0.0) -> Array:
    """Micro-batches whose activations stage ``stage`` holds at most, in units of the whole stage; ``further`` of them, or of
    their chunks, run ahead beside (one where experts' exchange runs beside another micro-batch: schedules.py warms up with it).

    1F1B: min(m, pp - stage). Interleaved: the warm-up runs 2 (pp - stage - 1) + (vpp - 1) pp chunks ahead, plus one
    (Narayanan et al. 2021, section 2.2; Megatron-Core schedules.py). ZB-H1 holds as many as 1F1B (Qi et al. 2023).
    """
    plain = np.minimum(num_microbatches, pp - stage + further)
    if not (vpp > 1).any():
        return plain
    ahead = 2.0 * (pp - stage - 1) + (vpp - 1.0) * pp + 1.0 + further
    return np.where(vpp > 1, np.minimum(num_microbatches * vpp, ahead) / vpp, plain)


def bubble_s(schedule: Array, vpp: Array, others_s: Array, weight_gradient_s: Array) -> Array:
    """Seconds a pipeline idles per step, shape ``(n,)``.

    1F1B: the first micro-batch crosses all other stages, ``others_s`` (their forward and backward). Interleaved: a
    vpp-th of it. Zero-bubble ZB-H1: weight gradients fill gaps, (pp - 1)(F + B - W) with B the input gradient;
    ``weight_gradient_s`` sums W over the other stages.
    """
    plain = others_s / vpp
    filled = np.maximum(plain - 2.0 * weight_gradient_s, 0.0)
    return np.asarray(np.where(schedule == Schedule.ZERO_BUBBLE, filled, plain))
