"""Seconds of one row on one accelerator: the slower of arithmetic and memory, plus latency."""

from __future__ import annotations

import numpy as np

from planner.common.arrays import Array
from planner.hardware.cluster import Accelerator
from planner.hardware.curves import Curves
from planner.operators.row import FusedAttention, Matmul, Row


def device_s(
    row: Row,
    accelerator: Accelerator,
    curves: Curves,
    dtype: str,
    unquantized: str,
    flash: int = 3,
    elementwise_rate: float = 1.0,
) -> Array:
    """Seconds that ``row`` keeps the device busy, shape of its arrays.

    ``dtype`` is the matrix-multiply type of the job, ``unquantized`` that of attention; ``flash`` the
    generation of the stack's fused attention, ``elementwise_rate`` of its memory-bound
    kernels over streaming. Communication is not counted
    here. Zero flops and zero kernels take no time.
    """
    if isinstance(row.work, Matmul):
        seconds = _matmul_s(row, row.work, accelerator, curves, row.work.dtype or dtype)
    elif isinstance(row.work, FusedAttention):
        rate = {1: curves.flash1_rate, 2: curves.flash2_rate}.get(flash, 1.0)
        seconds = _attention_s(row, row.work, accelerator, curves, unquantized, rate)
    else:
        moved = row.bytes_moved / (
            row.rate * elementwise_rate * curves.memory_fraction * accelerator.memory_bandwidth_bytes_per_s
        )
        seconds = moved + np.where(np.asarray(row.bytes_moved) > 0, row.kernels, 0.0) * curves.memory_latency_s + row.idle_s
    return np.asarray(seconds, dtype=float)


def matmul_efficiency(work: Matmul, accelerator: Accelerator, curves: Curves, dtype: str, width: float) -> Array:
    """Fraction of the dense peak that one matrix multiply reaches on its own, for reports and plots."""
    m, n, k, b = work.m, work.n, work.k, work.batch
    row = Row(
        name="matmul",
        block="",
        phase="forward",
        flops=work.flops,
        bytes_moved=width * b * (m * k + k * n + m * n),
        work=work,
    )
    return np.asarray(work.flops / _matmul_s(row, work, accelerator, curves, dtype) / accelerator.peak(dtype))


def _matmul_s(row: Row, work: Matmul, accelerator: Accelerator, curves: Curves, dtype: str) -> Array:
    peak = accelerator.peak(dtype)
    fp8 = dtype in ("fp8", "fp4")
    fraction = curves.fp8_peak_fraction if fp8 else curves.matmul_peak_fraction
    if dtype == "fp32" and curves.cuda_core_fraction is not None:
        fraction = curves.cuda_core_fraction
    depth = curves.fp8_depth if fp8 else curves.matmul_depth
    latency = curves.matmul_latency_s
    sustained = curves.fp8_sustained_fraction if fp8 else curves.sustained_fraction
    m = work.m
    if work.grouped:
        fraction = fraction * curves.grouped_fraction
        m = m + curves.grouped_tokens
    outputs = work.batch * m * work.n + curves.matmul_output
    # a recomputed row that is not recomputed has zero flops: `active` turns it off
    active = np.where(np.asarray(row.flops) > 0, 1.0, 0.0)
    compute = 2.0 * work.k * outputs * (1.0 + depth / work.k) / (fraction * sustained * peak)
    bandwidth = accelerator.memory_bandwidth_bytes_per_s
    memory = row.bytes_moved / (curves.matmul_bandwidth_fraction * bandwidth)
    p = curves.matmul_exponent
    larger = np.maximum(compute, memory)
    smaller = np.minimum(compute, memory)
    seconds = larger * np.power(1.0 + np.power(smaller / larger, p), 1.0 / p)
    # quantizing reads two bytes and writes one; the fit counts passes over them, and a floor
    casts = np.where(np.asarray(work.cast) > 0, curves.fp8_latency_s, 0.0)
    cast = casts + curves.fp8_cast_passes * 3.0 * work.cast / bandwidth if fp8 else 0.0
    return np.asarray(active * (latency + seconds + cast))


def _attention_s(row: Row, work: FusedAttention, accelerator: Accelerator, curves: Curves, dtype: str, rate: float) -> Array:
    fraction = curves.attention_backward_fraction if work.backward else curves.attention_forward_fraction
    head = (work.qk_head_dim + work.value_head_dim) / 2.0
    reached = rate * fraction / (1.0 + curves.attention_head_dim / head)
    compute = row.flops * (1.0 + curves.attention_keys / work.keys) / (reached * accelerator.peak(dtype))
    memory = row.bytes_moved / (curves.memory_fraction * accelerator.memory_bandwidth_bytes_per_s)
    active = np.where(np.asarray(row.flops) > 0, 1.0, 0.0)
    return np.asarray(active * (curves.attention_latency_s + np.maximum(compute, memory)))
