"""Fits to made-up samples whose constants are known: they are found again, and what a fit must not believe does not move it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from made_records import as_record, fake, session

from kernels import record as kernel_records
from kernels.models import Step, decoder
from planner.calibration.calibrate import (
    BOUNDS,
    _inside,
    _of_main_dtype,
    calibrate,
    kept_kernels,
    kernel_of,
    leverage,
    step_seconds,
)
from planner.calibration.records import Record, Sample
from planner.common.errors import PlannerError
from planner.evidence.measured_runs import Run
from planner.hardware.cluster import load_accelerator
from planner.hardware.curves import curves_of, load_curves
from planner.workload.framework import load_framework

CARD = load_accelerator("h200-sxm-141gb")
PEAK, BANDWIDTH = CARD.peak_flops_per_s["bf16"], CARD.memory_bandwidth_bytes_per_s
H200 = {"kind": "cuda", "name": "NVIDIA H200", "memory_bytes": 150e9}


def changed(sample: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return kernel_records.seal({**sample, **fields})


def noisy(sample: dict[str, Any]) -> dict[str, Any]:
    return changed(sample, time={**sample["time"], "noisy": True})


def recorded(samples: Any, device: dict[str, Any] = H200, **fields: Any) -> Record:
    made = session()
    made.record |= {"samples": list(samples), **fields}
    made.record["device"] |= device
    found: Record = as_record(made)
    return found


def product(m: int, n: int, k: int, seconds: float, dtype: str = "bf16", layout: str = "nt") -> dict[str, Any]:
    moved = 2.0 * (m * k + k * n + m * n)
    return changed(
        fake("gemm", "matmul", {"m": m, "n": n, "k": k, "layout": layout}, seconds, 2.0 * m * n * k, moved), dtype=dtype
    )


def grouped(experts: int, tokens: int, n: int, k: int, seconds: float, **fields: Any) -> dict[str, Any]:
    shape = {"experts": experts, "tokens_per_expert": tokens, "n": n, "k": k, "spread": fields.pop("spread", "balanced")}
    moved = 2.0 * experts * (tokens * k + k * n + tokens * n)
    made = fake("grouped_gemm", "grouped_mm", shape, seconds, 2.0 * experts * tokens * n * k, moved)
    return changed({**made, "dtype": "bf16"}, **fields)


def stream(size: int, seconds: float, name: str = "copy") -> dict[str, Any]:
    return fake("memory", name, {"bytes": size}, seconds, 0.0, 2.0 * size)


def products(power: float = 3.0, outputs: float = 5e4, depth: float = 40.0) -> Iterator[dict[str, Any]]:
    """2 us, half of the peak, 0.7 of the bandwidth, joined by a power; outputs and a depth beside the shape."""
    for m, n, k in itertools.product((16, 512, 4096), (256, 2048), (64, 512, 8192)):
        compute = 2.0 * k * (m * n + outputs) * (1.0 + depth / k) / (0.5 * PEAK)
        memory = 2.0 * (m * k + k * n + m * n) / (0.7 * BANDWIDTH)
        longer, shorter = max(compute, memory), min(compute, memory)
        yield product(m, n, k, 2e-6 + longer * (1.0 + (shorter / longer) ** power) ** (1.0 / power))


def streams() -> Iterator[dict[str, Any]]:
    """1.5 us and 0.6 of the bandwidth."""
    for power, name in itertools.product((14, 20, 24, 28), ("copy", "triad")):
        yield stream(2**power, 1.5e-6 + 2.0 * 2**power / (0.6 * BANDWIDTH), name)


def attention() -> Iterator[dict[str, Any]]:
    """4 us; 0.45 and 0.3 of the peak at a head of 128 and long sequences, forward and backward."""
    keys, width = load_curves("h200").attention_keys, load_curves("h200").attention_head_dim
    for s, causal, backward in itertools.product((256, 2048, 8192), (True, False), (True, False)):
        seen = (s + 1) / 2 if causal else s
        flops = 4.0 * 2 * 16 * s * seen * 128 * (2.5 if backward else 1.0)
        rate = (0.3 if backward else 0.45) / (1.0 + width / 128) * PEAK
        seconds = 4e-6 + flops * (1.0 + keys / seen) / rate
        shape = {"batch": 2, "seq_len": s, "heads": 16, "head_dim": 128, "causal": causal}
        name = f"flash {'backward' if backward else 'forward'}"
        yield changed(fake("attention", name, shape, seconds, flops, 1.0), dtype="bf16")


def groups() -> Iterator[dict[str, Any]]:
    """Of the plain product's rate 0.8, and 24 rows lost in each group."""
    for experts, tokens, spread in itertools.product((4, 32), (16, 128, 1024), ("balanced", "weight_gradient")):
        compute = 2.0 * 1024 * (experts * (tokens + 24.0) * 2048 + 5e4) * (1.0 + 40.0 / 1024) / (0.8 * 0.5 * PEAK)
        memory = 2.0 * experts * (tokens * 1024 + 1024 * 2048 + tokens * 2048) / (0.7 * BANDWIDTH)
        yield grouped(experts, tokens, 2048, 1024, 2e-6 + (compute**3 + memory**3) ** (1 / 3), spread=spread)


TRUE = {
    "matmul_latency_s": 2e-6, "matmul_peak_fraction": 0.5, "matmul_bandwidth_fraction": 0.7, "matmul_exponent": 3.0,
    "matmul_output": 5e4, "matmul_depth": 40.0, "memory_latency_s": 1.5e-6, "memory_fraction": 0.6, "attention_latency_s": 4e-6,
    "attention_forward_fraction": 0.45, "attention_backward_fraction": 0.3, "grouped_fraction": 0.8, "grouped_tokens": 24.0,
}  # fmt: skip


def test_the_constants_behind_exact_samples_are_found_again() -> None:
    """By the law of ``Curves``, worked out here. Other types, other kernels, uneven groups and loops belong to no curve."""
    others = [
        product(4096, 4096, 4096, 1.0, dtype="fp32"),
        stream(2**28, 1.0, "scale"),
        changed(next(attention()), name="eager forward"),
        changed(next(attention()), dtype="fp8_e5m2"),
        grouped(8, 64, 2048, 1024, 1.0, spread="zipf"),
        grouped(8, 64, 2048, 1024, 1.0, dtype="int4"),
        grouped(8, 64, 2048, 1024, 1.0, extra={"kernel": "loop"}),
    ]
    found = calibrate(recorded([*others, *products(), *streams(), *attention(), *groups()]), "mine")
    curves = found.accelerator.kernel_curves
    assert curves is not None
    for name, value in TRUE.items():
        assert curves[name] == pytest.approx(value, rel=1e-3), name
    assert found.measured == set(TRUE)
    sizes = {"matrix multiply, bf16": 18, "memory": 8, "attention, bf16": 12, "grouped matrix multiply, bf16": 12}
    assert {fit.name: fit.samples for fit in found.fits} == sizes
    assert all(fit.worst < 1e-4 and fit.median <= fit.worst and len(fit.points) == fit.samples for fit in found.fits)
    first = next(products())
    assert found.fits[0].points[0] == (first["flops"], first["bytes"], first["time"]["median_s"], pytest.approx(2e-6, rel=1.0))
    # no step shows the clocks of training: they stay the catalog's, as all that was not measured
    assert curves["sustained_fraction"] == load_curves("h200").sustained_fraction
    assert curves["attention_keys"] == load_curves("h200").attention_keys
    assert found.framework.host_s_per_kernel == load_framework("kernels").host_s_per_kernel
    assert (found.base, found.node.num_gpus, found.accelerator.memory_bytes) == ("h200-sxm-141gb", 1, 150e9)


@pytest.mark.parametrize("power", [1.0, 1.5, 7.8, 50.0])
def test_arithmetic_and_memory_add_up_or_hide_each_other(power: float) -> None:
    """From their sum to the longer of both: a power of 8 is that within some percent where they take as long."""
    found = calibrate(recorded(products(power)), "mine")
    curves = found.accelerator.kernel_curves
    assert curves is not None
    assert curves["matmul_exponent"] == pytest.approx(min(power, 8.0), rel=0.01)
    assert found.fits[0].worst < (0.1 if power > 8 else 1e-3)


def test_what_costs_nothing_beside_its_shape_is_found_to_cost_nothing() -> None:
    found = calibrate(recorded([*products(outputs=0.0, depth=0.0), *groups_of_free_products()]), "mine")
    assert [fit.samples for fit in found.fits] == [18, 12]
    assert all(fit.worst < 0.01 for fit in found.fits)


def groups_of_free_products() -> Iterator[dict[str, Any]]:
    """No rows, outputs or depth are lost."""
    for experts, tokens, spread in itertools.product((4, 32), (16, 128, 1024), ("balanced", "weight_gradient")):
        compute = 2.0 * 1024 * experts * tokens * 2048 / (0.8 * 0.5 * PEAK)
        memory = 2.0 * experts * (tokens * 1024 + 1024 * 2048 + tokens * 2048) / (0.7 * BANDWIDTH)
        yield grouped(experts, tokens, 2048, 1024, 2e-6 + (compute**3 + memory**3) ** (1 / 3), spread=spread)


def copies(*factors: float, doubtful: bool = False) -> list[dict[str, Any]]:
    """A second of a TB each, times a factor: so long that no latency shows."""
    made = [stream(2**39, factor * 2.0 * 2**39 / (0.5 * BANDWIDTH)) for factor in factors]
    return [noisy(one) for one in made] if doubtful else made


def rate(samples: list[dict[str, Any]]) -> float:
    """The fraction of the bandwidth that is fitted to them, over the one behind them."""
    curves = calibrate(recorded(samples), "mine").accelerator.kernel_curves
    assert curves is not None
    return float(curves["memory_fraction"]) / 0.5


def test_a_doubtful_sample_has_a_quarter_of_the_weight_of_a_quiet_one() -> None:
    """Of squares: four quiet ones and four that are 1 % slower meet at a seventeenth of the way."""
    assert rate([*copies(1, 1, 1, 1), *copies(*[1.01] * 4, doubtful=True)]) == pytest.approx(1.01 ** (-1 / 17), rel=1e-5)
    assert rate([*copies(1, 1, 1, 1), *copies(*[1.01] * 4)]) == pytest.approx(1.01**-0.5, rel=1e-5)


def test_one_sample_that_went_wrong_hardly_moves_a_fit() -> None:
    """Its pull is bounded: a tenth in logarithms, among eight others."""
    assert rate(copies(*[1.0] * 8, 10.0)) == pytest.approx(1.0, abs=0.02)
    found = calibrate(recorded(copies(*[1.0] * 8, 10.0)), "mine").fits[0]
    assert found.worst == pytest.approx(0.9, abs=0.01)
    assert found.median < 0.02


def test_bounds_hold_what_hardware_can_be() -> None:
    """A kernel takes ten nanoseconds to a millisecond to start, of which the host's part may be one; no rate is 1.3 times the
    data sheet's or nothing at all."""
    for name, (low, high) in BOUNDS.items():
        if name.endswith(("_s", "_per_kernel")):
            assert 1e-9 <= low <= 1e-8
            assert high == 1e-3
        elif name.endswith("fraction"):
            assert 0.005 <= low <= 0.1
            assert 1.25 <= high <= 1.3
        for value, inside in ((low, False), (low * 2.0, True), (math.sqrt(low * high), True), (high / 2.0, True), (high, False)):
            start = _inside(name, value)
            assert low < start < high
            assert start == pytest.approx(value, rel=1e-12 if inside else 0.02)


def test_of_two_types_with_as_many_samples_the_first_counts() -> None:
    """Whatever names they bear: the same record gives the same profile in every process."""
    for one, other in itertools.permutations(("bf16", "fp16", "fp32", "tf32"), 2):
        samples = [Sample.model_validate(product(8, 8, 8, 1.0, dtype=dtype)) for dtype in (one, other, other, one)]
        assert _of_main_dtype(samples, CARD) == (one, [samples[0], samples[3]])
        assert _of_main_dtype(samples[:3], CARD) == (other, samples[1:3])


def test_a_curve_is_fitted_to_samples_of_one_type_alone() -> None:
    """Products, attention and groups of another type run at another peak."""
    kinds = {"attention": attention, "grouped_gemm": groups}
    for family, made in kinds.items():
        alone = list(made())
        slow = [changed(fake_again(s, 3.0), dtype="fp32") for s in alone[:2]]
        want, got = (calibrate(recorded(some), "mine") for some in (alone, [*alone, *slow]))
        assert got.fits[0].samples == len(alone), family
        assert got.accelerator.kernel_curves == want.accelerator.kernel_curves, family


def fake_again(sample: dict[str, Any], factor: float) -> dict[str, Any]:
    """The sample, so many times as slow."""
    return fake(
        sample["family"], sample["name"], sample["shape"], factor * sample["time"]["median_s"], sample["flops"], sample["bytes"]
    )


def test_a_profile_keeps_quiet_products_of_types_that_the_card_has() -> None:
    quiet = product(64, 32, 16, 1e-4, layout="tn")
    samples = [
        quiet, noisy(product(64, 32, 17, 1e-4)), changed(product(64, 32, 18, 1e-4), extra={"host_bound": True}),
        product(64, 32, 19, 1e-4, dtype="fp64x"), grouped(4, 8, 16, 32, 2e-4), changed(product(8, 8, 8, 1.0), name="fp8 matmul"),
    ]  # fmt: skip
    assert kept_kernels(recorded(samples), CARD) == {"bf16 tn 64 x 32 x 16": 1e-4, "bf16 grouped nt 4 x 8 x 16 x 32": 2e-4}
    uneven = [grouped(4, 8, 16, 32, 1.0, spread="zipf"), grouped(4, 8, 16, 32, 1.0, extra={"kernel": "loop"})]
    uneven += [grouped(4, 8, 16, 32, 1.0, name="another"), changed(quiet, family="memory")]
    assert [kernel_of(Sample.model_validate(sample)) for sample in uneven] == [None] * 4


def test_a_device_that_nobody_described_has_the_best_rates_that_were_seen() -> None:
    """Of memory only at sizes from an eighth of the largest on: smaller ones lie in a cache. Of the host's link only pinned."""
    samples = [stream(size * 2**20, size * 2.0**21 / gigabytes / 1e9) for size, gigabytes in ((72, 1), (9, 3), (8, 9), (71, 2))]
    samples += [stream(72 * 2**20, 1e-9, "scale")]
    for pinned, gigabytes in ((True, 4), (True, 5), (False, 50)):
        shape = {"bytes": 2**20, "pinned": pinned}
        samples.append(fake("copies", "to device", shape, 2.0**20 / gigabytes / 1e9, 0.0, 2.0**20))
    samples += [product(64, 64, 64, 2.0 * 64**3 / tera / 1e12, dtype) for dtype, tera in (("fp32", 1), ("fp32", 2), ("bf16", 3))]
    for kind, curves in (("cpu", "cpu"), ("cuda", "generic")):
        found = calibrate(recorded(samples, {"kind": kind, "name": "A chip", "memory_bytes": 5e9}), "mine").accelerator
        assert found.memory_bandwidth_bytes_per_s == pytest.approx(3e9)
        assert found.host_link_bytes_per_s == pytest.approx(5e9)
        assert found.peak_flops_per_s == pytest.approx({"fp32": 2e12, "bf16": 3e12})
        assert (found.memory_bytes, found.curves, found.architecture) == (5e9, curves, "A chip")
    alone = [s for s in samples if s["family"] != "copies"]
    assert calibrate(recorded(alone, {"name": "A chip"}), "mine").accelerator.host_link_bytes_per_s == pytest.approx(3e9)


def test_a_cpu_is_no_gpu_of_the_catalog_whatever_it_is_called() -> None:
    with pytest.raises(PlannerError, match="no gemm or no memory"):
        calibrate(recorded(streams(), {"kind": "cpu"} | {"name": "NVIDIA H200"}), "mine")


def test_a_slice_has_its_share_of_processors_and_of_memory() -> None:
    """33 of 132 multiprocessors, an eighth of the memory."""
    eighth = {**H200, "name": "NVIDIA H200 MIG 1g.18gb", "memory_bytes": CARD.memory_bytes / 8, "num_sms": 33}
    found = calibrate(recorded(streams(), eighth), "mine").accelerator
    assert found.num_sms == 33
    assert found.peak_flops_per_s == pytest.approx({dtype: peak / 4 for dtype, peak in CARD.peak_flops_per_s.items()})
    assert found.memory_bandwidth_bytes_per_s == pytest.approx(BANDWIDTH / 8)
    with pytest.raises(PlannerError, match="multiprocessors are unknown"):
        calibrate(recorded(streams(), {**eighth, "num_sms": None}), "mine")


# --- the host -----------------------------------------------------------------------------------------------------------------


def loops(*sizes: tuple[int, int]) -> list[dict[str, Any]]:
    """Groups that the host launches one by one: 40 us a call and 25 us a group."""
    return [grouped(n, tokens, 256, 256, 4e-5 + 2.5e-5 * n, extra={"kernel": "loop"}) for n, tokens in sizes]


LOOP: dict[str, Any] = {"dtype": "bf16", "extra": {"kernel": "loop"}}


def test_what_a_group_costs_the_host_is_the_slope_over_groups() -> None:
    """Where a library loops on a GPU, from three samples of two numbers of groups on; the first samples of a type count."""
    some = loops((8, 4), (16, 4), (64, 4))
    found = calibrate(recorded(some), "mine")
    assert found.framework.host_s_per_group == pytest.approx(2.5e-5, rel=1e-3)
    assert found.measured == {"host_s_per_group"}
    (fit,) = found.fits
    assert (fit.name, fit.samples) == ("host time of a group, bf16", 3)
    assert fit.worst < 1e-3
    held = [
        changed(fake_again(s, 30.0 if i == 3 else 1.0), **LOOP) for i, s in enumerate(loops(*((2**i, 4) for i in range(3, 11))))
    ]
    assert calibrate(recorded(held), "mine").framework.host_s_per_group == pytest.approx(2.5e-5, rel=0.1)
    other = [changed(fake_again(s, 5.0), dtype="fp32", extra={"kernel": "loop"}) for s in some[:2]]
    zipf = [grouped(8, 4, 256, 256, 1.0, spread="zipf", extra={"kernel": "loop"})]
    mixed = calibrate(recorded([*some, *other, *zipf]), "mine").framework
    assert mixed.host_s_per_group == pytest.approx(2.5e-5, rel=1e-3)
    for few in (loops((8, 4), (64, 4)), loops((8, 4), (8, 8), (8, 16))):
        with pytest.raises(PlannerError, match="too few samples"):
            calibrate(recorded(few), "mine")
    assert "host_s_per_group" not in calibrate(recorded([*loops((8, 4), (8, 8), (8, 16)), *streams()]), "mine").measured


def dispatch(name: str, seconds: float) -> dict[str, Any]:
    return changed(fake("dispatch", name, {"elements": 64}, 1e-3, 0.0, 1.0), extra={"host_s_per_kernel": seconds})


def test_host_time_is_that_of_a_linear_layer_with_autograd() -> None:
    samples = [dispatch("add", 1e-6), dispatch("autograd linear", 7e-6), dispatch("autograd linear", 9e-6), *streams()]
    found = calibrate(recorded(samples), "mine")
    assert found.framework.host_s_per_kernel == 7e-6
    assert "host_s_per_kernel" in found.measured
    on_cpu = calibrate(recorded([*samples, *products()], {"name": "A chip"}), "mine").framework
    assert on_cpu.host_s_per_kernel == 1e-9, "on a CPU it is in the kernels' own time"


# --- links --------------------------------------------------------------------------------------------------------------------

FACTORS = {"all_reduce": 1.5, "all_gather": 0.75, "reduce_scatter": 0.75, "all_to_all": 0.75, "p2p": 1.0}
"""Bus factors of four ranks (nccl-tests, doc/PERFORMANCE.md)."""


def messages(
    name: str, seconds: Callable[[float], float], powers: Any = range(10, 30, 2), **shape: Any
) -> Iterator[dict[str, Any]]:
    """``seconds`` of the bytes that pass a rank's link."""
    for power in powers:
        size = {"bytes": 2**power, "ranks": 4, **shape}
        yield fake("collectives", name, size, seconds(FACTORS[name] * 2.0**power), 0.0, 2.0**power)


def line(latency: float, wire: float, root: float) -> Callable[[float], float]:
    return lambda x: latency + x / wire + root * math.sqrt(latency * x / wire)


def test_the_line_of_every_collective_is_found_again() -> None:
    """Latency, wire and the root between them, each its own; the link is as fast as the fastest."""
    true = {name: (1e-6 * (i + 3), 1e10 * (i + 1), 0.5 * i) for i, name in enumerate(FACTORS)}
    samples = [sample for name, constants in true.items() for sample in messages(name, line(*constants))]
    other = [changed(sample, dtype="bf16") for sample in messages("all_to_all", line(1.0, 1e9, 0.0))]
    found = calibrate(recorded([*samples, *other], ranks=4), "mine")
    (link,) = found.node.links
    assert (found.node.num_gpus, link.span, link.kind, link.name) == (4, 4, "pcie", "measured link")
    for name, (latency, wire, root) in true.items():
        fit = link.collectives[name]
        assert fit.latency_s == pytest.approx(latency, rel=1e-3), name
        assert fit.bus_bytes_per_s == pytest.approx(wire, rel=1e-3), name
        assert fit.sqrt_coefficient == pytest.approx(root, abs=2e-3), name
    assert link.bytes_per_s == pytest.approx(5e10, rel=1e-3)
    assert [fit.name for fit in found.fits] == list(FACTORS)
    assert all(fit.samples == 10 and fit.worst < 1e-3 for fit in found.fits)


@pytest.mark.parametrize(
    ("wire", "device", "kind"),
    [(6.3e10, H200, "pcie"), (6.5e10, H200, "nvlink"), (6.5e10, {"kind": "cpu", "name": "A chip"}, "shared_memory")],
)
def test_what_is_faster_than_sixteen_lanes_is_no_pcie(wire: float, device: dict[str, Any], kind: str) -> None:
    """PCIe 5.0 x16: 32 GT/s x 16 / 8 = 64 GB/s."""
    cpu = [*products(), *streams()] if device["kind"] == "cpu" else []
    found = calibrate(recorded([*cpu, *messages("p2p", line(1e-6, wire, 0.0))], device, ranks=2), "mine")
    assert [link.kind for link in found.node.links] == [kind]


def test_a_wire_that_latency_hides_is_found_up_to_four_times_what_was_reached() -> None:
    """Of 20 GB/s a longest message of 26 us reached 5.4 behind its 70 us of latency."""
    hidden = list(messages("p2p", line(7e-5, 2e10, 0.0), range(13, 20, 2)))
    seen = max(s["bytes_per_s"] for s in hidden)
    assert 3.0 < 2e10 / seen < 4.0
    found = calibrate(recorded(hidden, ranks=2), "mine").node.links[0]
    assert found.bytes_per_s == pytest.approx(2e10, rel=0.01)
    assert found.collectives["p2p"].latency_s == pytest.approx(7e-5, rel=1e-3)


def test_the_slower_of_latency_and_wire_has_no_root() -> None:
    """Less than their sum: the root's coefficient is none, never below."""
    found = calibrate(recorded(messages("p2p", lambda x: max(1e-5, x / 2e10)), ranks=2), "mine").node.links[0]
    assert 0.0 <= found.collectives["p2p"].sqrt_coefficient < 1e-3


def test_a_message_that_was_held_up_hardly_moves_a_line() -> None:
    samples = list(messages("p2p", line(1e-5, 2e10, 0.0)))
    held = [changed(fake_again(one, 30.0)) if i == 4 else one for i, one in enumerate(samples)]
    fit = calibrate(recorded(held, ranks=2), "mine").node.links[0].collectives["p2p"]
    assert fit.latency_s == pytest.approx(1e-5, rel=0.15)
    assert fit.bus_bytes_per_s == pytest.approx(2e10, rel=0.15)


@pytest.mark.parametrize("rate", [1e3, 1e17])
def test_a_clock_that_shows_nothing_makes_a_link_all_the_same(rate: float) -> None:
    """From a megabyte to a petabyte a second, as far as a link may go."""
    found = calibrate(recorded(messages("p2p", lambda x: x / rate), ranks=2), "mine").node.links[0]
    assert 1e6 <= found.bytes_per_s <= 1e15


@pytest.mark.parametrize(("root", "most"), [(9.5, 9.51), (12.0, 10.01)])
def test_the_root_is_at_most_ten_times_what_it_lies_between(root: float, most: float) -> None:
    found = calibrate(recorded(messages("p2p", line(1e-5, 2e10, root)), ranks=2), "mine").node.links[0]
    assert 9.49 < found.collectives["p2p"].sqrt_coefficient < most


def test_between_machines_lies_a_network() -> None:
    """Four ranks of each of two, and one of each: whatever all eight together reached."""
    true = {"node": (1e-5, 1e11, 4), "across": (2e-5, 1e10, 2), "world": (9e-5, 1e9, 8)}
    samples = [
        one for span, (latency, wire, n) in true.items() for one in messages("p2p", line(latency, wire, 0.0), span=span, ranks=n)
    ]
    found = calibrate(recorded(samples, {**H200, "ranks_per_node": 4}, ranks=8), "mine")
    near, far = found.node.links
    assert [(link.name, link.kind, link.span) for link in (near, far)] == [
        ("measured link", "nvlink", 4), ("measured network", "network", 0),
    ]  # fmt: skip
    assert (near.bytes_per_s, far.bytes_per_s) == pytest.approx((1e11, 1e10), rel=1e-3)
    assert [fit.name for fit in found.fits] == ["p2p", "p2p, between machines"]


def test_three_messages_are_no_line() -> None:
    for count, fitted in ((3, False), (4, True)):
        samples = [
            *messages("p2p", line(1e-5, 2e10, 0.0), range(10, 10 + 4 * count, 4)),
            *messages("all_gather", line(1e-5, 2e10, 0.0)),
        ]
        link = calibrate(recorded(samples, ranks=2), "mine").node.links[0]
        assert ("p2p" in link.collectives) is fitted
    with pytest.raises(PlannerError, match="holds no collectives"):
        calibrate(recorded(messages("p2p", line(1e-5, 2e10, 0.0), range(10, 13)), ranks=2), "mine")


def test_ranks_of_one_machine_are_one_node() -> None:
    """As many to a machine as there are: the world is the node, and nothing lies between machines."""
    samples = list(messages("p2p", line(1e-5, 2e10, 0.0), span="world"))
    found = calibrate(recorded(samples, {**H200, "ranks_per_node": 4}, ranks=4), "mine").node
    assert (found.num_gpus, [link.span for link in found.links]) == (4, [4])


# --- steps --------------------------------------------------------------------------------------------------------------------


def step(label: str, seconds: float, role: str = "fit", **more: Any) -> dict[str, Any]:
    made = Step(label=label, model=decoder(2, 64, 4, 2, 96, 64), seq_len=32, micro_batch_size=2)
    shape = {**made.fields("bf16"), "role": role, **more.pop("shape", {})}
    return changed(fake("training", "training step", shape, seconds, 0.0, 1.0), **more)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes 1 s at full clocks, and longer as they fall: nothing else matters to it."""

    def seconds(run: Run) -> float:
        return 1.0 / curves_of(run.cluster.accelerator).sustained_fraction

    monkeypatch.setattr("planner.calibration.calibrate.step_seconds", seconds)


def test_a_steps_error_left_out_is_that_of_the_kernels_alone_where_there_is_no_other(clocks: None) -> None:
    """Gauss: 5 % of a step against half of a constant leaves a hundredth of the way to the kernels' own constants."""
    found = calibrate(recorded([step("a", 1.01)]), "mine")
    curves = found.accelerator.kernel_curves
    assert curves is not None
    assert math.log(curves["sustained_fraction"]) == pytest.approx(-math.log(1.01) * 100 / 101, rel=1e-3)
    (fit,) = found.fits
    assert (fit.name, fit.samples) == ("training steps used to fit", 1)
    assert fit.left_out == pytest.approx([-math.log(1.01)], rel=0.02)
    assert fit.worst == pytest.approx(0.01 / 101, rel=0.02)
    assert "sustained_fraction" in found.measured


def test_two_steps_predict_each_other(clocks: None) -> None:
    """Left out, the one is predicted by the other and the kernels: 1.02 by 1.00, and 1.00 by 1.02."""
    (fit,) = calibrate(recorded([step("a", 1.0), step("b", 1.02)]), "mine").fits
    other = math.log(1.02) * 100 / 101
    assert fit.left_out == pytest.approx([other, -math.log(1.02)], rel=0.02)
    assert fit.median == pytest.approx(0.01, rel=0.02)


def test_only_whole_steps_of_one_gpu_are_fitted_to(clocks: None) -> None:
    """Neither those that are kept to be predicted, nor several GPUs' or a probe of memory, which has no time."""
    probe = {"largest_micro_batch_size": 4, "smallest_that_fails": 5, "peak_allocated_bytes": 7e10}
    many = {"ranks": 2, "tp": 1, "dp": 2, "zero": 1, "ep": 1}
    samples = [
        step("a", 1.01),
        step("b", 9.0, "validate"),
        step("c", 9.0, family="distributed_steps", name="ddp", shape=many),
        step("d", 9.0, family="out_of_memory", name="largest micro-batch", extra=probe),
        *messages("p2p", line(1e-5, 2e10, 0.0)),
    ]
    found = calibrate(recorded(samples, ranks=2), "mine")
    assert [fit.samples for fit in found.fits if fit.name.startswith("training")] == [1]
    assert found.accelerator.kernel_curves is not None
    assert found.accelerator.kernel_curves["sustained_fraction"] == pytest.approx(1 / 1.01, rel=1e-3)


def test_leverage_of_what_one_row_alone_decides_stays_below_one() -> None:
    """Of a mean of n each has 1 / n; a row of its own all, held at 0.99; a column that does nothing has none."""
    assert leverage(np.ones((4, 1))) == pytest.approx([0.25] * 4)
    assert leverage(np.eye(2)) == pytest.approx([0.99] * 2)
    assert leverage(np.zeros((3, 2))) == pytest.approx([0.0] * 3)
    assert leverage(np.array([[1.0, 0.0], [1.0, 1e-12]])) == pytest.approx([0.5, 0.5])


def test_memory_beside_what_is_allocated_is_the_median_of_the_steps() -> None:
    """Reserved over allocated 1.1, 1.2 and 1.6; held beside by the driver 1, 2 and 4 GB; what torch fuses is the first one's."""
    stack = {"fused_norm": True, "grouped_kernel": "loop"}
    samples = []
    for i, (over, beside) in enumerate(((1.2, 2e9), (1.6, 4e9), (1.1, 1e9))):
        memory = {"peak_allocated_bytes": 1e10, "peak_reserved_bytes": over * 1e10, "used_by_all_bytes": over * 1e10 + beside}
        samples.append(step(str(i), 1.0, "validate", extra={**memory, "stack": stack if i == 0 else {"fused_norm": False}}))
    unknown = [step("x", 1.0, "validate", extra={"peak_reserved_bytes": 5e10}), step("y", 1.0, "validate")]
    found = calibrate(recorded([*samples, *unknown, *streams()]), "mine").framework
    assert found.fragmentation == pytest.approx(0.2)
    assert found.context_bytes == pytest.approx(2e9)
    assert (found.fused_norm, found.grouped_kernel) == (True, "loop")
    start = load_framework("kernels")
    bare = calibrate(recorded([*unknown, *streams()]), "mine").framework
    assert (bare.fragmentation, bare.context_bytes) == (start.fragmentation, start.context_bytes)
    less = {"peak_allocated_bytes": 1e10, "peak_reserved_bytes": 9e9}
    for beside, context in ((-1e9, start.context_bytes), (0.0, start.context_bytes), (1.0, 1.0)):
        memory = {**less, "used_by_all_bytes": less["peak_reserved_bytes"] + beside}
        kept = calibrate(recorded([step("z", 1.0, "validate", extra=memory), *streams()]), "mine").framework
        assert (kept.fragmentation, kept.context_bytes) == (0.0, context)


def test_a_step_is_that_of_its_runs_first_layout() -> None:
    from planner.calibration.records import record_runs

    (run,), _ = record_runs(recorded([step("a", 1.0)]), CARD)
    slower = run.layouts[0].replaced(recompute="full")
    both = Run(**{**vars(run), "layouts": (run.layouts[0], slower)})
    assert step_seconds(both) == step_seconds(run)
    assert step_seconds(Run(**{**vars(run), "layouts": (slower, run.layouts[0])})) > step_seconds(run)
