"""All layouts worth asking about on one cluster, and the one nearest to a layout that does not fit."""

from __future__ import annotations

import itertools
from dataclasses import fields

import numpy as np

from planner.common.arrays import Array
from planner.hardware.cluster import Cluster
from planner.model.architecture import Model
from planner.performance.evaluation import Evaluation, evaluate
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.layout import RECOMPUTE, Layout, Layouts

MAX_MICRO_BATCH = 64


def candidates(model: Model, cluster: Cluster, framework: Framework, job: Job, *, offload: bool = True) -> Layouts:
    """Every combination of degrees that multiply to the cluster, with sharding, micro-batch, recomputation, offload.

    Degrees of two-power steps and divisors only; rules that need more than one axis are left to ``evaluate``, which
    masks what is impossible.
    """
    has, gpus = framework.features, cluster.num_gpus
    node = min(cluster.node.num_gpus, gpus)
    tp = [d for d in _divisors(gpus) if "tp" in has and d <= node and model.num_heads % d == 0] or [1]
    pp = [d for d in _divisors(gpus) if "pp" in has and d <= model.num_layers] or [1]
    cp = [d for d in _divisors(gpus) if "cp" in has and d <= 16 and job.seq_len // d >= 2048] or [1]
    ep = [d for d in _divisors(model.num_experts) if "ep" in has and gpus % d == 0] if model.num_experts else [1]
    zero = [z for z in (0, 1, 2, 3) if z == 0 or f"zero{z}" in has]
    micro = [b for b in (1, 2, 4, 8, 16, 32, MAX_MICRO_BATCH) if job.global_batch_size % b == 0]
    away = [0, 1] if offload and "offload_optimizer" in has else [0]
    recompute = [i for i, r in enumerate(RECOMPUTE) if r != "selective" or "selective_recompute" in has]
    rows = []
    for t, p, c, e in itertools.product(tp, pp, cp, ep or [1]):
        if gpus % (t * p * c):
            continue
        dp = gpus // (t * p * c)
        vpp = [1] + [v for v in range(2, 9) if p > 1 and "vpp" in has and _splits(model.num_layers, p * v)]
        sp = [1] if model.num_experts and t > 1 else [0, 1] if t > 1 and "sequence_parallel" in has else [0]
        for s, v, z, b, r, o in itertools.product(sp, vpp, zero, micro, recompute, away):
            if job.global_batch_size % (b * dp) == 0:
                rows.append((t, s, p, v, c, e, 1, dp, z, 0, b, r, 1 if v > 1 else 0, o, 0))
    table = np.array(rows, dtype=float).reshape(-1, len(fields(Layouts)))
    return Layouts(**{f.name: np.ascontiguousarray(table[:, i]) for i, f in enumerate(fields(Layouts))})


def _splits(num_layers: int, chunks: int) -> bool:
    """Whether the layers, alone or with embedding and loss counted, fill equal chunks."""
    return num_layers >= chunks and any((num_layers + more) % chunks == 0 for more in (0, 1, 2))


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def changes(layouts: Layouts, wanted: Layout) -> Array:
    """How far each layout is from ``wanted``: fields changed, those that cost little counted less; shape ``(n,)``."""
    weights = {
        "micro_batch_size": 1.0,
        "recompute": 1.0,
        "sequence_parallel": 0.5,
        "zero": 1.0,
        "tp": 2.0,
        "pp": 2.0,
        "vpp": 1.0,
        "cp": 2.0,
        "ep": 2.0,
        "etp": 2.0,
        "shard_group_size": 1.0,
        "offload_optimizer": 2.0,
        "offload_activations": 2.0,
    }
    total = np.zeros(len(layouts))
    for name, weight in weights.items():
        value = getattr(wanted, name)
        number = float(RECOMPUTE.index(value)) if name == "recompute" else float(value)
        total = total + weight * (getattr(layouts, name) != number)
    return total


def fastest_fitting(evaluation: Evaluation) -> int | None:
    """Position of the fastest layout that fits, or None."""
    seconds = np.where(evaluation.fits, evaluation.step_time_s, np.inf)
    best = int(np.argmin(seconds)) if len(seconds) else 0
    return best if len(seconds) and np.isfinite(seconds[best]) else None


def nearest_fitting(
    model: Model, cluster: Cluster, framework: Framework, job: Job, wanted: Layout
) -> tuple[Layout | None, float]:
    """(the layout that fits with the fewest changes, the fastest among equals; least bytes that any layout needs).

    None when nothing on this cluster fits.
    """
    found = candidates(model, cluster, framework, job)
    if not len(found):
        return None, float("nan")
    evaluation = evaluate(model, cluster, framework, job, found)
    need = np.where(evaluation.possible, evaluation.memory.total, np.inf)
    least = float(need.min())
    if not evaluation.fits.any():
        return None, least
    distance = np.where(evaluation.fits, changes(found, wanted), np.inf)
    closest = distance == distance.min()
    seconds = np.where(closest, evaluation.step_time_s, np.inf)
    return found.row(int(np.argmin(seconds))), least
