"""Seconds of one row on one accelerator: the slower of arithmetic and memory, plus latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.common.arrays import Array, Number
from planner.hardware.cluster import Accelerator
from planner.hardware.curves import Curves
from planner.hardware.measured_kernels import Kernel, shelves
from planner.operators.row import FusedAttention, Matmul, Row, changed
from planner.workload.fp8_recipe import SCALINGS, Scaling

TENSORWISE = SCALINGS["tensorwise"]
CUBLAS = 12
"""Release where nothing is said: CUDA's of 2023 and later."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU under a framework, at a job's precision: what the seconds of a row depend on beside the row.

    ``dtype`` is the matrix-multiply type of the job, ``unquantized`` that of attention; ``flash`` the generation of the
    framework's fused attention, ``elementwise_rate`` that of its memory-bound kernels over streaming, on an A100, ``scaling``
    how it quantizes to FP8, ``cublas`` the release of its matrix multiplications.
    """

    accelerator: Accelerator
    curves: Curves
    dtype: str
    unquantized: str
    flash: int = 3
    elementwise_rate: float = 1.0
    scaling: Scaling = TENSORWISE
    cublas: int = CUBLAS


def device_s(row: Row, device: Device) -> Array:
    """Seconds that ``row`` keeps the device busy, shape of its arrays. Communication is not counted here. Zero flops and zero
    kernels take no time."""
    accelerator, curves, scaling = device.accelerator, device.curves, device.scaling
    if isinstance(row.work, Matmul):
        own = _own_dtype(row.work, accelerator, device.dtype)
        law = _matmul_s(row, row.work, accelerator, curves, own, scaling, device.cublas)
        kept = bool(accelerator.measured_kernels)
        seconds: Number = _kept_s(row, row.work, accelerator, curves, own, law, scaling) if kept else law
    elif isinstance(row.work, FusedAttention):
        rate = {1: curves.flash1_rate, 2: curves.flash2_rate}.get(device.flash, 1.0)
        seconds = _attention_s(row, row.work, accelerator, curves, device.unquantized, rate)
    else:
        seconds = _moved_s(row, accelerator, curves, device)
    return np.asarray(seconds, dtype=float)


def _own_dtype(work: Matmul, accelerator: Accelerator, dtype: str) -> str:
    own = work.dtype or dtype
    if own == "int8" and "int8" not in accelerator.peak_flops_per_s:  # Volta and older: bitsandbytes multiplies in 16 bit
        return dtype
    return own


BYTES_PER_CLOCK = 10.3
"""Bytes that memory streams to a multiprocessor of an A100 (80 GB) in a clock: 0.77 x 2,039 GB/s over 108 x 1.41 GHz. Rates of
frameworks are stated on that GPU, on which most of the runs behind them were measured."""


def beside_memory(accelerator: Accelerator, curves: Curves) -> float:
    """Bytes that memory streams to a multiprocessor in a clock, over those of an A100; 1 where no clock is known."""
    clocks = _clocks_per_s(accelerator)
    if clocks is None:
        return 1.0
    return curves.memory_fraction * accelerator.memory_bandwidth_bytes_per_s / clocks / BYTES_PER_CLOCK


def unfused_rate(rate: Number, beside: Number) -> Number:
    """``rate``, of memory-bound kernels over streaming on an A100, on a GPU of ``beside_memory``.

    A kernel that reaches the part r of streaming spends 1 / r - 1 of its time on what memory does not wait for: addresses,
    arithmetic, latency that too few loads in flight leave open. All three go with the clocks of the multiprocessors, not with
    the memory: ``1 / r' - 1 = (1 / r - 1) beside``. Its inverse is the same with ``1 / beside``. Parts, without a unit, of the
    shape of ``rate``.
    """
    return 1.0 / (1.0 + (1.0 / rate - 1.0) * beside)


def _clocks_per_s(accelerator: Accelerator) -> float | None:
    """Clocks a second of all of CUDA's multiprocessors: fp32's peak over two flops of each lane. None for other accelerators."""
    fp32 = accelerator.peak_flops_per_s.get("fp32")
    if fp32 is None or not accelerator.compute_capability:
        return None
    return fp32 / (2.0 * FP32_LANES.get(accelerator.compute_capability, 128.0))


def _moved_s(row: Row, accelerator: Accelerator, curves: Curves, device: Device) -> Number:
    """Seconds of memory-bound work; of kernels that multiply in chunks between (``Row.in_chunks``), no fewer than at the peak."""
    usual = unfused_rate(row.rate * device.elementwise_rate, beside_memory(accelerator, curves))
    rate = usual if row.own_rate is None else row.own_rate
    moved = row.bytes_moved / (rate * curves.memory_fraction * accelerator.memory_bandwidth_bytes_per_s)
    if row.in_chunks:
        moved = np.maximum(moved, row.flops / accelerator.peak(device.unquantized))
    found: Number = moved + np.where(np.asarray(row.bytes_moved) > 0, row.kernels, 0.0) * curves.memory_latency_s + row.idle_s
    return found


MOST_STACKED = 256
"""Layouts up to which rows are worked out together: of few, calls take longer than numbers; of many, a stack leaves the cache."""


def stacked(values: Sequence[Number], shape: tuple[int, ...]) -> Array:
    """Numbers or columns of ``shape`` under each other, shape ``(len(values), *shape)``."""
    found = np.empty((len(values), *shape))
    for i, value in enumerate(values):
        found[i] = value
    return found


def devices_s(rows: Sequence[Row], shape: tuple[int, ...], device: Device) -> list[Array]:
    """``device_s`` of several rows over layouts of ``shape``; the same bits, in fewer calls where the layouts are few."""
    accelerator, curves = device.accelerator, device.curves
    if len(shape) != 1 or shape[0] > MOST_STACKED or accelerator.measured_kernels:
        return [device_s(row, device) for row in rows]
    found: dict[int, Array] = {}
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, row in enumerate(rows):
        if isinstance(row.work, FusedAttention):
            found[i] = device_s(row, device)
        elif isinstance(row.work, Matmul):
            gradient = row.phase == "backward", row.role == "weight gradient"
            alike.setdefault((_own_dtype(row.work, accelerator, device.dtype), row.work.grouped, *gradient), []).append(i)
        else:
            rates = (x if x is None or isinstance(x, float) else id(x) for x in (row.rate, row.own_rate))
            alike.setdefault((*rates, row.in_chunks), []).append(i)
    for key, members in alike.items():
        several = [rows[i] for i in members]
        together = _together(several, shape)
        if isinstance(together.work, Matmul):
            seconds: Number = _matmul_s(together, together.work, accelerator, curves, str(key[0]), device.scaling, device.cublas)
        else:
            seconds = _moved_s(together, accelerator, curves, device)
        found.update(zip(members, np.asarray(seconds, dtype=float), strict=True))
    return [found[i] for i in range(len(rows))]


def _together(rows: Sequence[Row], shape: tuple[int, ...]) -> Row:
    """Rows of one kind as one, what tells their seconds stacked."""

    def column(of: Sequence[Any], name: str) -> Number:
        return stacked([getattr(one, name) for one in of], shape)

    names: tuple[str, ...] = ("flops", "bytes_moved") if rows[0].work is not None else ("bytes_moved", "kernels", "idle_s")
    names += ("flops",) if rows[0].in_chunks else ()
    work = rows[0].work
    if isinstance(work, Matmul):
        shapes = [row.work for row in rows]
        work = changed(work, **{name: column(shapes, name) for name in ("m", "n", "k", "batch", "cast", "aligned")})
    return changed(rows[0], work=work, **{name: column(rows, name) for name in names})


def measured_s(row: Row, accelerator: Accelerator, dtype: str) -> Array:
    """Seconds of a row's product as it was measured at exactly that shape; NaN where it was not, or does not run."""
    work, layout = row.work, _layout(row)
    shelf = shelves(tuple(accelerator.measured_kernels.items())).get((dtype, layout))
    if not isinstance(work, Matmul) or shelf is None:
        return np.asarray(np.nan)
    groups = work.batch if work.grouped else np.where(np.asarray(work.batch) == 1.0, 0.0, np.nan)
    first, second = (np.maximum(work.m, work.n), np.minimum(work.m, work.n)) if layout == "tn" else (work.m, work.n)
    m, n, k, b = np.broadcast_arrays(first, second, work.k, groups)
    return np.where(np.asarray(row.flops) > 0, shelf.find(m, n, k, b), np.nan)


def product_of(row: Row, dtype: str) -> Kernel | None:
    """The product of a row for the first layout; None for other work, for one that does not run, and for sizes in parts."""
    work, layout = row.work, _layout(row)
    if not isinstance(work, Matmul) or not layout or not float(np.ravel(row.flops)[0]) > 0:
        return None
    m, n, k, batch = (float(np.ravel(size)[0]) for size in (work.m, work.n, work.k, work.batch))
    whole = all(size == int(size) and size >= 1 for size in (m, n, k, batch))
    if not whole or (batch > 1 and not work.grouped) or (work.grouped and layout != "nt"):
        return None
    groups = int(batch) if work.grouped else 0
    return Kernel(dtype=work.dtype or dtype, layout=layout, groups=groups, m=int(m), n=int(n), k=int(k))


def _layout(row: Row) -> str:
    """How the operands of a row's product lie: as a linear layer's, its input gradient's or its weight gradient's."""
    if row.phase != "backward":
        return "nt"
    return {"weight gradient": "tn", "input gradient": "nn"}.get(row.role or "", "")


def _kept_s(row: Row, work: Matmul, accelerator: Accelerator, curves: Curves, dtype: str, law: Array, scaling: Scaling) -> Array:
    """The measured seconds where there are some, slowed from a short burst's clocks to training's as the law is."""
    found = measured_s(row, accelerator, dtype)
    if np.all(np.isnan(found)):
        return law
    burst = _matmul_s(row, work, accelerator, curves.model_copy(update={"sustained_fraction": 1.0}), dtype, scaling)
    return np.asarray(np.where(np.isnan(found), law, found * np.divide(law, burst, where=burst > 0, out=np.ones_like(law))))


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


def _matmul_s(
    row: Row,
    work: Matmul,
    accelerator: Accelerator,
    curves: Curves,
    dtype: str,
    scaling: Scaling = TENSORWISE,
    cublas: int = CUBLAS,
) -> Array:
    peak: Number = accelerator.peak(dtype)
    fp8 = dtype in ("fp8", "fp4")
    blocks = dtype == "fp8" and scaling.blocks
    fraction = curves.fp8_peak_fraction if fp8 else curves.matmul_peak_fraction
    if dtype == "fp32" and curves.cuda_core_fraction is not None:
        fraction = curves.cuda_core_fraction
    depth = curves.fp8_depth if fp8 else curves.matmul_depth
    if blocks and curves.fp8_block_fraction is not None:
        fraction = curves.fp8_block_fraction
    if blocks and curves.fp8_block_depth is not None:
        depth = curves.fp8_block_depth
    latency = curves.matmul_latency_s
    sustained = curves.fp8_sustained_fraction if fp8 else curves.sustained_fraction
    m = work.m
    if work.grouped:
        fraction = fraction * curves.grouped_fraction
        m = m + curves.grouped_tokens
    outputs = work.batch * m * work.n + curves.matmul_output
    # a recomputed row that is not recomputed has zero flops: `active` turns it off
    active = np.where(np.asarray(row.flops) > 0, 1.0, 0.0)
    rate = _as_loaded(fraction * sustained * peak, work, accelerator, dtype, cublas)
    compute = 2.0 * work.k * outputs * (1.0 + depth / work.k) / rate
    bandwidth = accelerator.memory_bandwidth_bytes_per_s
    memory = row.bytes_moved / (curves.matmul_bandwidth_fraction * bandwidth)
    p = curves.matmul_exponent
    larger = np.maximum(compute, memory)
    smaller = np.minimum(compute, memory)
    seconds = larger * np.power(1.0 + np.power(smaller / larger, p), 1.0 / p)
    # quantizing reads two bytes and writes one; the fit counts passes over them, and a floor
    elements = _quantized(row, work, scaling if dtype == "fp8" else TENSORWISE)
    casts = np.where(np.asarray(elements) > 0, curves.fp8_latency_s, 0.0)
    cast = casts + curves.fp8_cast_passes * 3.0 * elements / bandwidth if fp8 else 0.0
    return np.asarray(active * (latency + seconds + cast))


def _quantized(row: Row, work: Matmul, scaling: Scaling) -> Number:
    """Elements that are quantized for a product, each counted as often as a recipe goes over it, in passes of ``tensorwise``."""
    cast, weight_gradient = work.cast, row.role == "weight gradient"
    if scaling.inputs and row.phase != "backward" and not work.grouped:
        cast = cast + work.batch * work.m * work.k
    cast = cast * scaling.casts
    if scaling.weights and not weight_gradient:
        cast = cast + work.batch * work.k * work.n * scaling.passes
    return cast


TENSOR_ROW_BYTES = 16.0
"""Rows of a matrix must begin at multiples of it for tensor cores to be fed in whole words (NVIDIA, Matrix Multiplication
Background User's Guide, section 3)."""
NARROW_LOADS_PER_CLOCK = 5.0
"""Narrower loads that a multiprocessor completes in a clock, each with what it takes to address, check, pack and store it.
Assumed: about 25 of its 128 lanes' instructions each. An A100 then multiplies matrices of odd sizes in 16 bit at 98 TFLOP/s,
two to three times as slowly as others (the same guide, figure 2)."""
FLOPS_PER_ELEMENT = 128.0
"""Of each element that a tile of 128 x 128 outputs loads: 2 x 128 x 128 for every 128 + 128."""
FP32_LANES = {"6.0": 64.0, "7.0": 64.0, "7.5": 64.0, "8.0": 64.0}
"""Results of fp32 a clock of a multiprocessor by compute capability, of others 128 (CUDA C++ Programming Guide, throughput of
arithmetic instructions)."""


def _as_loaded(rate: Number, work: Matmul, accelerator: Accelerator, dtype: str, cublas: int) -> Number:
    """Flops per second, ``rate`` where a weight's rows begin at multiples of 16 bytes.

    Else no more than come in: ``aligned`` elements a load, ``NARROW_LOADS_PER_CLOCK`` and ``FLOPS_PER_ELEMENT``, times the clocks
    a second of all multiprocessors, fp32's peak over its lanes. That does not grow with the tensor cores. cuBLAS before 11 leaves
    these alone (the guide, section 3): sums of 16-bit products are then taken at fp32's peak.
    """
    width, fp32 = {"fp16": 2.0, "bf16": 2.0, "tf32": 4.0}.get(dtype), accelerator.peak_flops_per_s.get("fp32")
    if width is None or fp32 is None or (isinstance(work.aligned, float) and width * work.aligned >= TENSOR_ROW_BYTES):
        return rate
    narrow = width * np.asarray(work.aligned) < TENSOR_ROW_BYTES
    if not narrow.any():
        return rate
    lanes = FP32_LANES.get(accelerator.compute_capability, 128.0)
    fed = NARROW_LOADS_PER_CLOCK * FLOPS_PER_ELEMENT * np.asarray(work.aligned) * fp32 / (2.0 * lanes)
    return np.where(narrow, np.minimum(rate, fp32 if cublas < 11 else fed), rate)


FLASH_HEAD_STEP = 32.0
"""Fused attention kernels are compiled for head dimensions in steps of 32 and pad to the next (flash-attn 2, csrc)."""


def _attention_s(row: Row, work: FusedAttention, accelerator: Accelerator, curves: Curves, dtype: str, rate: float) -> Array:
    fraction = curves.attention_backward_fraction if work.backward else curves.attention_forward_fraction
    head = (work.qk_head_dim + work.value_head_dim) / 2.0
    reached = rate * fraction / (1.0 + curves.attention_head_dim / head)
    padded = np.ceil(head / FLASH_HEAD_STEP) * FLASH_HEAD_STEP / head
    compute = padded * row.flops * (1.0 + curves.attention_keys / work.keys) / (reached * accelerator.peak(dtype))
    memory = row.bytes_moved / (curves.memory_fraction * accelerator.memory_bandwidth_bytes_per_s)
    active = np.where(np.asarray(row.flops) > 0, 1.0, 0.0)
    return np.asarray(active * (curves.attention_latency_s + np.maximum(compute, memory)))
