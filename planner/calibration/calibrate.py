"""From a record of measurements to profiles: the constants of an accelerator's kernels, of its links and of the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from planner.calibration.driver_names import known_accelerator, named
from planner.calibration.records import Record, Sample, record_runs, single_node
from planner.common.arrays import Array
from planner.common.errors import PlannerError
from planner.evidence.measured_runs import Run
from planner.hardware.cluster import FASTEST, SLOWEST, Accelerator, Node, cluster, load_accelerator
from planner.hardware.curves import Curves, curves_of
from planner.hardware.measured_kernels import Kernel
from planner.operators.row import FusedAttention, Matmul, Phase, Row
from planner.performance.collectives import bus_factor
from planner.performance.evaluation import evaluate
from planner.performance.roofline import Device, device_s
from planner.workload.framework import Framework, load_framework
from planner.workload.layout import as_columns

BOUNDS: dict[str, tuple[float, float]] = {
    "matmul_latency_s": (1e-8, 1e-3), "matmul_peak_fraction": (0.02, 1.25), "matmul_bandwidth_fraction": (0.02, 1.3),
    "matmul_exponent": (1.0, 8.0), "matmul_output": (1.0, 1e7), "matmul_depth": (0.1, 2e3), "grouped_tokens": (0.1, 1e3),
    "grouped_fraction": (0.05, 1.3), "attention_latency_s": (1e-8, 1e-3), "attention_forward_fraction": (0.005, 1.3),
    "attention_backward_fraction": (0.005, 1.3), "memory_fraction": (0.02, 1.3), "memory_latency_s": (1e-8, 1e-3),
    "sustained_fraction": (0.1, 1.3), "host_s_per_kernel": (1e-9, 1e-3),
}  # fmt: skip
STEP_CONSTANTS = {
    "cuda": ("sustained_fraction", "memory_fraction", "host_s_per_kernel"),
    "cpu": ("sustained_fraction", "memory_fraction", "memory_latency_s", "attention_backward_fraction"),
}
BALANCED = ("balanced", "weight_gradient")
"""Grouped products whose groups are alike."""
STEP_SPREAD, PRIOR_SPREAD = 0.05, 0.5
"""Relative spread of a measured step, and of a constant between its kernel benchmark and training: the step fit's weights."""
SEEN_OF_WIRE = 4.0
"""How far a link's rate may lie from the fastest rate that its messages reached: latency hides the rest of a faster wire."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How well the fitted constants give back what they were fitted to: relative errors.

    ``points``: (flops, bytes, measured seconds, fitted seconds) of every sample of a kernel, empty for other fits.
    ``left_out`` is filled for training steps only.
    """

    name: str
    samples: int
    median: float
    worst: float
    points: tuple[tuple[float, float, float, float], ...] = ()
    left_out: tuple[float, ...] = ()  # log(predicted / measured) of each sample by constants fitted without it


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Profiles made from one record, and the errors of the fits behind them."""

    accelerator: Accelerator
    node: Node
    framework: Framework
    fits: tuple[Fit, ...]
    measured: frozenset[str]  # constants that the record gave
    source: str
    base: str | None  # the catalog's profile whose data sheet stays; None = the fastest samples are the peaks


def calibrate(record: Record, name: str, base: str | None = None) -> Calibration:
    """Fit everything that the record holds samples for; the rest stays as in the base profile, with its own provenance.

    The base is the catalog's profile of the GPU that the record names, or ``base``; a device that no profile describes
    (a CPU) takes its peaks and its bandwidth from the fastest samples. Raises PlannerError when there are no samples to
    fit matrix multiplies and memory, or when ``base`` is unknown.
    """
    start = _start(record, name, base)
    curves = _start_curves(start)
    fits: list[Fit] = []
    done: set[str] = set()
    for fit in (_matmul, _memory, _attention, _grouped):
        curves, found, constants = fit(record, start, curves)
        fits += [found] if found is not None else []
        done |= set(constants if found is not None else ())
    framework = load_framework("kernels")
    host = _host_s(record)
    if host is not None:
        framework = framework.replaced(host_s_per_kernel=host)
        done.add("host_s_per_kernel")
    of_group, by_group = _host_s_of_group(record, _with_curves(start, curves))
    if by_group is not None:
        framework = framework.replaced(host_s_per_group=of_group)
        fits.append(by_group)
        done.add("host_s_per_group")
    if not any(s.shape.get("role") == "fit" for s in record.measured("training")):  # no step shows the clocks of training
        curves = curves.model_copy(update={"sustained_fraction": curves_of(start).sustained_fraction})
    accelerator = _with_curves(start, curves).model_copy(update={"measured_kernels": kept_kernels(record, start)})
    node, link_fits = _node(record, accelerator)
    fits += link_fits
    runs, _ = record_runs(record, accelerator, node, framework, role="fit")
    steps = [run for run in runs if run.step_time_s is not None and run.cluster.num_gpus == 1]
    if steps:
        accelerator, framework, found, constants = _steps(record, accelerator, framework, steps)
        fits.append(found)
        done |= set(constants)
    if not fits:
        raise PlannerError(
            "the record holds too few samples to fit anything; measure again without --only, or with more --budget."
        )
    source = f"{record.device.name}, torch {record.versions.get('torch', '?')}, {record.created}"
    return Calibration(
        accelerator=accelerator,
        node=node,
        framework=_found_stack(record, framework),
        fits=tuple(fits),
        measured=frozenset(done),
        source=source,
        base=_base(record, base),
    )


def kept_kernels(record: Record, accelerator: Accelerator) -> dict[str, float]:
    """Products of the record that a profile keeps: of quiet samples that waited for no host, in types that the law describes."""
    found: dict[str, float] = {}
    for sample in (*record.measured("gemm"), *record.measured("grouped_gemm")):
        quiet = not sample.doubtful and not sample.extra.get("host_bound")
        one = kernel_of(sample)
        if quiet and sample.time is not None and one is not None and one.dtype in accelerator.peak_flops_per_s:
            found[one.name] = sample.time.median_s
    return found


def kernel_of(sample: Sample) -> Kernel | None:
    """The product of a sample; None for fp8 (its casts are counted apart), uneven groups and groups launched one by one."""
    x = sample.shape
    if (sample.family, sample.name) == ("gemm", "matmul"):
        return Kernel(dtype=sample.dtype, layout=str(x["layout"]), m=int(x["m"]), n=int(x["n"]), k=int(x["k"]))
    if (
        (sample.family, sample.name) != ("grouped_gemm", "grouped_mm")
        or x["spread"] != "balanced"
        or sample.extra.get("kernel") == "loop"
    ):
        return None
    return Kernel(
        dtype=sample.dtype, layout="nt", groups=int(x["experts"]), m=int(x["tokens_per_expert"]), n=int(x["n"]), k=int(x["k"])
    )


def _base(record: Record, base: str | None) -> str | None:
    return base or (known_accelerator(record.device.name, record.device.memory_bytes) if record.device.kind == "cuda" else None)


def _known(name: str) -> Accelerator:
    return load_accelerator(name, "--base")


def _start(record: Record, name: str, base: str | None) -> Accelerator:
    """The accelerator before fitting: datasheet values of a known GPU, or the fastest samples of an unknown device."""
    known = _base(record, base)
    if known is not None:
        whole = _known(known)
        card = whole.replaced(name=name, aliases=(), memory_bytes=record.device.memory_bytes)
        return _sliced(card, whole, record) if named(record.device.name).is_slice else card
    peaks: dict[str, Any] = {}
    for sample in record.measured("gemm"):
        peaks[sample.dtype] = max(peaks.get(sample.dtype, 0.0), sample.flops_per_s or 0.0)
    streams = [s for s in record.measured("memory") if s.name in ("copy", "triad")]
    if not peaks or not streams:
        raise PlannerError("the record holds no gemm or no memory samples; measure again without --only, or with more --budget.")
    largest = max(int(s.shape["bytes"]) for s in streams)
    bandwidth = max(s.bytes_per_s or 0.0 for s in streams if s.shape["bytes"] >= largest // 8)
    links = [s.bytes_per_s or 0.0 for s in record.measured("copies") if s.shape.get("pinned")]
    return Accelerator.build(
        {
            "name": name,
            "vendor": "unknown",
            "architecture": record.device.name,
            "peak_flops_per_s": peaks,
            "memory_bytes": record.device.memory_bytes,
            "memory_bandwidth_bytes_per_s": bandwidth,
            "host_link_bytes_per_s": max(links, default=bandwidth),
            "curves": "cpu" if record.device.kind == "cpu" else "generic",
        },
        "record",
    )


def _start_curves(accelerator: Accelerator) -> Curves:
    curves = curves_of(accelerator)
    return curves.replaced(name=accelerator.name, sustained_fraction=1.0, notes="")


def _with_curves(accelerator: Accelerator, curves: Curves) -> Accelerator:
    values = curves.model_dump(exclude={"provenance", "name", "notes"})
    return accelerator.model_copy(update={"kernel_curves": values})


def _sliced(card: Accelerator, whole: Accelerator, record: Record) -> Accelerator:
    """A MIG slice: the GPU's peaks by its share of the multiprocessors, the bandwidth by its share of the memory."""
    sms = float(record.device.num_sms or 0)
    if not sms or not whole.num_sms:
        raise PlannerError(
            "device.name = {0!r}: a MIG slice whose multiprocessors are unknown; give --base a profile of it.", record.device.name
        )
    compute, memory = sms / whole.num_sms, record.device.memory_bytes / whole.memory_bytes
    peaks = {dtype: peak * compute for dtype, peak in whole.peak_flops_per_s.items()}
    return card.replaced(
        peak_flops_per_s=peaks,
        num_sms=round(sms),
        memory_bandwidth_bytes_per_s=whole.memory_bandwidth_bytes_per_s * memory,
    )


Predict = Callable[[Curves], Array]


def _fit(
    label: str, samples: Sequence[Sample], start: Curves, constants: Sequence[str], predict: Predict
) -> tuple[Curves, Fit | None, Sequence[str]]:
    """Least squares on the logarithm of time over ``constants``; a quarter of the weight for doubtful samples."""
    if len(samples) < len(constants) + 1:
        return start, None, ()
    measured = np.array([s.time.median_s for s in samples if s.time is not None])
    weight = np.array([0.25 if s.doubtful else 1.0 for s in samples])
    first = np.array([_inside(name, float(getattr(start, name))) for name in constants])
    low, high = (np.log([BOUNDS[name][side] for name in constants]) for side in (0, 1))

    def changed(x: Array) -> Curves:
        return start.model_copy(update=dict(zip(constants, np.exp(x).tolist(), strict=True)))

    def residuals(x: Array) -> Array:
        return np.asarray(weight * np.log(predict(changed(x)) / measured))

    found = least_squares(residuals, np.log(first), bounds=(low, high), loss="soft_l1", f_scale=0.1)
    curves = changed(found.x)
    fitted = predict(curves)
    errors = np.abs(fitted / measured - 1.0)
    points = tuple((s.flops, s.bytes, float(m), float(p)) for s, m, p in zip(samples, measured, fitted, strict=True))
    fit = Fit(name=label, samples=len(samples), median=float(np.median(errors)), worst=float(errors.max()), points=points)
    return curves, fit, constants


def _inside(name: str, value: float) -> float:
    low, high = BOUNDS[name]
    return min(max(value, low * 1.01), high / 1.01)


def _column(samples: Sequence[Sample], field: str) -> Array:
    return np.array([float(s.shape[field]) for s in samples])


def _of_main_dtype(samples: Sequence[Sample], accelerator: Accelerator) -> tuple[str, list[Sample]]:
    """Of the types that the accelerator has, the one with the most samples, that of training, and these samples.

    Of types with as many, the first in the record; "" where there is none.
    """
    kinds = [s.dtype for s in samples if s.dtype in accelerator.peak_flops_per_s]
    dtype = max(kinds, key=kinds.count, default="")
    return dtype, [s for s in samples if s.dtype == dtype]


def _matmul(record: Record, accelerator: Accelerator, start: Curves) -> tuple[Curves, Fit | None, Sequence[str]]:
    dtype, samples = _of_main_dtype(record.measured("gemm"), accelerator)
    work = Matmul(m=_column(samples, "m"), n=_column(samples, "n"), k=_column(samples, "k"))
    row = Row(
        name="matmul", block="", phase="forward", flops=work.flops, bytes_moved=np.array([s.bytes for s in samples]), work=work
    )
    constants = (
        "matmul_latency_s",
        "matmul_peak_fraction",
        "matmul_bandwidth_fraction",
        "matmul_exponent",
        "matmul_output",
        "matmul_depth",
    )
    label = f"matrix multiply, {dtype}"
    return _fit(label, samples, start, constants, lambda c: device_s(row, _device(accelerator, c, dtype)))


def _device(accelerator: Accelerator, curves: Curves, dtype: str) -> Device:
    return Device(accelerator=accelerator, curves=curves, dtype=dtype, unquantized=dtype)


def _memory(record: Record, accelerator: Accelerator, start: Curves) -> tuple[Curves, Fit | None, Sequence[str]]:
    samples = [s for s in record.measured("memory") if s.name in ("copy", "triad")]
    row = Row(name="stream", block="", phase="forward", bytes_moved=np.array([s.bytes for s in samples]), kernels=1.0)
    constants = ("memory_fraction", "memory_latency_s")
    return _fit("memory", samples, start, constants, lambda c: device_s(row, _device(accelerator, c, "fp32")))


def _attention(record: Record, accelerator: Accelerator, start: Curves) -> tuple[Curves, Fit | None, Sequence[str]]:
    flash = [s for s in record.measured("attention") if s.name.startswith("flash")]
    dtype, samples = _of_main_dtype(flash, accelerator)
    rows = [_attention_row(s) for s in samples]

    def predict(curves: Curves) -> Array:
        return np.array([float(device_s(row, _device(accelerator, curves, dtype))) for row in rows])

    constants = ("attention_latency_s", "attention_forward_fraction", "attention_backward_fraction")
    return _fit(f"attention, {dtype}", samples, start, constants, predict)


def _attention_row(sample: Sample) -> Row:
    x = sample.shape
    s = float(x["seq_len"])
    work = FusedAttention(
        sequences=float(x["batch"]),
        heads=float(x["heads"]),
        queries=s,
        keys=(s + 1.0) / 2.0 if x["causal"] else s,
        qk_head_dim=float(x["head_dim"]),
        value_head_dim=float(x["head_dim"]),
        backward=sample.name.endswith("backward"),
    )
    phase: Phase = "backward" if work.backward else "forward"
    return Row(name="attention", block="", phase=phase, flops=sample.flops, bytes_moved=sample.bytes, kernels=1.0, work=work)


def _grouped(record: Record, accelerator: Accelerator, start: Curves) -> tuple[Curves, Fit | None, Sequence[str]]:
    balanced = [s for s in record.measured("grouped_gemm") if s.shape["spread"] in BALANCED]
    on_gpu = record.device.kind == "cuda"  # where torch multiplies group after group, this measures the host: no curve
    together = [s for s in balanced if not (on_gpu and s.extra.get("kernel") == "loop")]
    dtype, samples = _of_main_dtype(together, accelerator)
    row = _grouped_row(samples)
    constants = ("grouped_tokens", "grouped_fraction")
    label = f"grouped matrix multiply, {dtype}"
    return _fit(label, samples, start, constants, lambda c: device_s(row, _device(accelerator, c, dtype)))


def _grouped_row(samples: Sequence[Sample]) -> Row:
    """Grouped products as one row of many columns."""
    work = Matmul(
        m=_column(samples, "tokens_per_expert"),
        n=_column(samples, "n"),
        k=_column(samples, "k"),
        batch=_column(samples, "experts"),
        grouped=True,
    )
    moved = np.array([s.bytes for s in samples])
    return Row(name="grouped", block="", phase="forward", flops=work.flops, bytes_moved=moved, work=work)


def _host_s(record: Record) -> float | None:
    """Host seconds per kernel with autograd; on a CPU the kernels themselves contain it, so it is nothing extra."""
    if record.device.kind == "cpu":
        return 1e-9
    found = [s for s in record.measured("dispatch") if s.name == "autograd linear"]
    return float(found[0].extra["host_s_per_kernel"]) if found else None


def _host_s_of_group(record: Record, card: Accelerator) -> tuple[float, Fit | None]:
    """Host seconds of one group where torch multiplies group after group: t = max(start + groups x host, the device's own).

    Outside bf16 on compute capability 9.0 and 10.0 (``kernels.probes``), a GPU's grouped product copies the sizes to the host
    and launches one product per group. The device's part is the law's of a grouped product; ``start`` stays with the sample.
    """
    balanced = [s for s in record.measured("grouped_gemm") if s.shape["spread"] in BALANCED]
    dtype, found = _of_main_dtype([s for s in balanced if s.extra.get("kernel") == "loop"], card)
    if record.device.kind != "cuda" or len(found) < 3 or len({s.shape["experts"] for s in found}) < 2:
        return 0.0, None
    groups, measured = _column(found, "experts"), np.array([s.time.median_s for s in found if s.time is not None])
    device = device_s(_grouped_row(found), _device(card, curves_of(card), dtype))

    def seconds(x: Array) -> Array:
        return np.asarray(np.maximum(np.exp(x[0]) + groups * np.exp(x[1]), device))

    first = np.clip(np.log([measured.min() / 2.0, (measured / groups).min()]), -17.9, -0.1)  # a search starts within its bounds
    fit = least_squares(lambda x: np.log(seconds(x) / measured), first, bounds=(-18.0, 0.0), loss="soft_l1", f_scale=0.1)
    errors = np.abs(seconds(fit.x) / measured - 1.0)
    label, median, worst = f"host time of a group, {dtype}", float(np.median(errors)), float(errors.max())
    return math.exp(fit.x[1]), Fit(name=label, samples=len(found), median=median, worst=worst)


def step_seconds(run: Run) -> float:
    """Predicted seconds of one step of a run's first layout."""
    columns = as_columns(list(run.layouts[:1]), run.cluster.num_gpus)
    return float(evaluate(run.question, columns).step_time_s[0])


def _steps(
    record: Record, accelerator: Accelerator, framework: Framework, runs: Sequence[Run]
) -> tuple[Accelerator, Framework, Fit, Sequence[str]]:
    """Scale a few constants so that the record's steps of role "fit" come out; kernels alone are the prior.

    In training, clocks, caches and the allocator differ from a benchmark of one kernel: this fit carries the difference.
    """
    constants = STEP_CONSTANTS[record.device.kind]
    curves = curves_of(accelerator)
    first = np.log([_inside(n, float(getattr(framework if n.startswith("host") else curves, n))) for n in constants])
    low, high = (np.log([BOUNDS[name][side] for name in constants]) for side in (0, 1))
    measured = np.array([run.step_time_s for run in runs], dtype=float)

    def profiles(x: Array) -> tuple[Accelerator, Mapping[str, float]]:
        values = dict(zip(constants, np.exp(x).tolist(), strict=True))
        host = {n: values.pop(n) for n in list(values) if n.startswith("host")}
        return _with_curves(accelerator, curves.model_copy(update=values)), host

    def predicted(x: Array) -> Array:
        card, host = profiles(x)
        return np.array([step_seconds(_on(run, card, host)) for run in runs])

    def residuals(x: Array) -> Array:
        return np.concatenate([np.log(predicted(x) / measured) / STEP_SPREAD, (x - first) / PRIOR_SPREAD])

    found = least_squares(residuals, first, bounds=(low, high), loss="soft_l1", diff_step=1e-3)
    card, host = profiles(found.x)
    logs = np.log(predicted(found.x) / measured)
    errors = np.abs(np.expm1(logs))
    fit = Fit(
        name="training steps used to fit",
        samples=len(runs),
        median=float(np.median(errors)),
        worst=float(errors.max()),
        left_out=tuple(float(x) for x in logs / (1.0 - leverage(found.jac)[: len(runs)])),
    )
    return card, framework.replaced(**host) if host else framework, fit, constants


def leverage(jacobian: Array) -> Array:
    """How much each residual's own measurement pulls its prediction: diag(J (J'J)^-1 J'), 0 to 1.

    The error of a sample predicted by a fit without it is, to first order, its residual / (1 - leverage): the PRESS residual
    (Allen 1974, The relationship between variable selection and data augmentation). The prior's rows keep it below 1.
    """
    left, sizes, _ = np.linalg.svd(jacobian, full_matrices=False)
    kept = left[:, sizes > 1e-9 * max(float(sizes.max()), 1e-300)]
    return np.asarray(np.minimum(np.sum(kept**2, axis=1), 0.99))


def _on(run: Run, accelerator: Accelerator, host: Mapping[str, float]) -> Run:
    """The run on another accelerator, with other host constants."""
    moved = cluster(single_node(accelerator), num_gpus=1, accelerator=accelerator)
    changed = run.framework.replaced(**host) if host else run.framework
    return Run(**{**vars(run), "cluster": moved, "framework": changed})


def _found_stack(record: Record, framework: Framework) -> Framework:
    """What torch fuses here; medians of what its allocator reserves over what is allocated, and of what the GPU holds beside."""
    for sample in record.measured("training")[:1]:
        found = sample.extra.get("stack", {})
        framework = framework.replaced(**{n: found[n] for n in ("fused_norm", "grouped_experts", "grouped_kernel") if n in found})
    extras = [s.extra for s in record.measured("training") if s.extra.get("peak_reserved_bytes")]
    over = [e["peak_reserved_bytes"] / e["peak_allocated_bytes"] - 1.0 for e in extras if e.get("peak_allocated_bytes")]
    beside = [e["used_by_all_bytes"] - e["peak_reserved_bytes"] for e in extras if e.get("used_by_all_bytes")]
    fragmentation = {"fragmentation": max(float(np.median(over)), 0.0)} if over else {}
    context = {"context_bytes": float(np.median(beside))} if beside and np.median(beside) > 0 else {}
    return framework.replaced(**fragmentation, **context)


def _node(record: Record, accelerator: Accelerator) -> tuple[Node, list[Fit]]:
    """A node of as many devices as the record has ranks on one machine, its link, and between several machines another one."""
    if record.ranks == 1:
        return single_node(accelerator), []
    per_node = record.device.ranks_per_node or record.ranks
    several = per_node < record.ranks
    near, fits = _link(record, "node" if several else "world", accelerator, per_node)
    links = [near]
    if several:
        far, more = _link(record, "across", accelerator, 0)
        links, fits = [near, far], fits + more
    label = f"{per_node} x {accelerator.name}"
    fields = {"name": label, "accelerator": accelerator.name, "num_gpus": per_node, "links": links}
    return Node.build(fields, "node"), fits


def _link(record: Record, span: str, accelerator: Accelerator, gpus: int) -> tuple[dict[str, Any], list[Fit]]:
    """A link with a fitted line per collective, from the samples over ranks of one machine, or over one rank of each."""
    collectives, fits = {}, []
    for name in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p"):
        measured = [s for s in record.measured("collectives") if s.shape.get("span", "world") == span]
        samples = [s for s in measured if s.name == name and s.dtype == "fp32"]
        if len(samples) >= 4:
            ranks = int(samples[0].shape["ranks"])
            collectives[name], fit = _line(name, samples, ranks)
            fits.append(replace(fit, name=f"{name}, between machines") if span == "across" else fit)
    if not collectives:
        raise PlannerError("the record of {0} ranks holds no collectives; measure again with --only collectives.", record.ranks)
    rate = max(c["bus_bytes_per_s"] for c in collectives.values())
    # PCIe 5.0 x16 carries 64 GB/s in one direction: what is faster is no PCIe
    kind = "shared_memory" if record.device.kind == "cpu" else "nvlink" if rate > 6.4e10 else "pcie"
    words = {"name": "measured network", "kind": "network"} if span == "across" else {"name": "measured link", "kind": kind}
    return {**words, "span": gpus, "bytes_per_s": rate, "collectives": collectives}, fits


def _line(name: Any, samples: Sequence[Sample], ranks: int) -> tuple[dict[str, float], Fit]:
    """t = latency + x / bus + c sqrt(latency x / bus), least squares on its logarithm.

    Messages that are too short show the latency alone and would leave the wire's rate free: it stays from a
    ``SEEN_OF_WIRE``-th to ``SEEN_OF_WIRE`` times the fastest rate that a sample reached, inside what a link may have.
    """
    if not all(s.bytes for s in samples):
        raise PlannerError("{0}: bytes = 0.0: a collective moves bytes; measure again with --only collectives.", name)
    x = np.array([s.bytes * float(bus_factor(name, float(ranks))) for s in samples])
    seconds = np.array([s.time.median_s for s in samples if s.time is not None])

    def predict(p: Array) -> Array:
        latency, wire = math.exp(p[0]), x / math.exp(p[1])
        return np.asarray(latency + wire + p[2] * np.sqrt(latency * wire))

    reached = float(np.clip((x / seconds).max(), SLOWEST * SEEN_OF_WIRE, FASTEST / SEEN_OF_WIRE))
    low, high = math.log(reached / SEEN_OF_WIRE), math.log(reached * SEEN_OF_WIRE)
    bounds = np.array([-25.0, low, 0.0]), np.array([5.0, high, 10.0])
    start = np.clip([math.log(seconds.min()), math.log(reached), 0.5], bounds[0] + 0.1, bounds[1] - 0.1)
    found = least_squares(lambda p: np.log(predict(p) / seconds), start, bounds=bounds, loss="soft_l1", f_scale=0.1)
    errors = np.abs(predict(found.x) / seconds - 1.0)
    fit = Fit(name=name, samples=len(samples), median=float(np.median(errors)), worst=float(errors.max()))
    values = {"latency_s": math.exp(found.x[0]), "bus_bytes_per_s": math.exp(found.x[1]), "sqrt_coefficient": float(found.x[2])}
    return values, fit
