"""The optimizer step: a sweep over gradients, weights and states, on the device or on the host."""

from __future__ import annotations

from planner.common.arrays import Number
from planner.operators.row import Row
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.precision import Precisions

FOREACH_PASSES = 2.5
"""A multi-tensor AdamW of separate kernels reads and writes its operands about 2.5 times as often as a fused one:
14 passes (lerp, mul, addcmul, sqrt, div, add, addcdiv) against 6."""

NEWTON_SCHULZ_STEPS = 5
"""Iterations of Muon's orthogonalization (Jordan 2024)."""


def update_bytes(job: Job, framework: Framework, precision: Precisions) -> float:
    """Bytes moved per updated parameter: clip (read g), read g, read and write weights and states, write the copy."""
    weight = precision.master or precision.parameter
    copy = precision.parameter if precision.master else 0.0
    passes = 1.0 if framework.fused_optimizer == "fused" else FOREACH_PASSES
    return precision.gradient + passes * (precision.gradient + 2.0 * weight + 2.0 * precision.state) + copy


def optimizer_row(elements: Number, hidden_size: float, job: Job, framework: Framework, precision: Precisions) -> Row:
    """The update of ``elements`` parameters on one rank.

    Flops matter for Muon only: five Newton-Schulz steps on matrices of ``hidden_size`` rows, about 6 r flops per
    element and step with r the shorter side (Jordan 2024: 4 r^2 c + 2 r^3 per step, r <= c).
    """
    flops = 16.0 * elements
    if job.optimizer == "muon":
        flops = NEWTON_SCHULZ_STEPS * 6.0 * hidden_size * elements
    return Row(
        name=f"{job.optimizer} update",
        block="optimizer",
        phase="optimizer",
        flops=flops,
        bytes_moved=update_bytes(job, framework, precision) * elements,
        kernels=20.0 if framework.fused_optimizer == "fused" else 200.0,
    )
