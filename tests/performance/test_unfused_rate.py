"""What a framework's memory-bound kernels reach on another GPU: the work beside memory goes with the multiprocessors' clocks."""

import pytest

from planner.hardware.cluster import accelerator_names, load_accelerator
from planner.hardware.curves import curves_of
from planner.operators.row import Row
from planner.performance.roofline import Device, beside_memory, device_s, unfused_rate


def reached(name: str, rate: float, bandwidth: float = 1.0, fp32: float = 1.0) -> float:
    card = load_accelerator(name)
    peaks = {**card.peak_flops_per_s, "fp32": card.peak_flops_per_s["fp32"] * fp32}
    changes = {"memory_bandwidth_bytes_per_s": card.memory_bandwidth_bytes_per_s * bandwidth, "peak_flops_per_s": peaks}
    return float(unfused_rate(rate, beside_memory(card.model_copy(update=changes), curves_of(card))))


def test_a_rate_is_stated_on_an_a100() -> None:
    assert reached("a100-sxm4-80gb", 0.63) == pytest.approx(0.63, abs=0.003)


@pytest.mark.parametrize("name", ["rtx-4090-24gb", "h100-sxm5-80gb", "v100-sxm2-16gb"])
def test_work_beside_memory_goes_with_the_clocks(name: str) -> None:
    """Twice the memory at the same clocks: the part beside it doubles over streaming. Twice both: as it was."""
    one = reached(name, 0.6)
    assert 1.0 / reached(name, 0.6, bandwidth=2.0) - 1.0 == pytest.approx(2.0 * (1.0 / one - 1.0))
    assert reached(name, 0.6, bandwidth=2.0, fp32=2.0) == pytest.approx(one)


def test_no_kernel_is_faster_than_streaming_and_the_law_has_an_inverse() -> None:
    for name in accelerator_names():
        card = load_accelerator(name)
        beside = beside_memory(card, curves_of(card))
        assert 0.0 < unfused_rate(0.6, beside) < 1.0 == unfused_rate(1.0, beside), name
        assert unfused_rate(unfused_rate(0.6, beside), 1.0 / beside) == pytest.approx(0.6), name


@pytest.mark.parametrize("name", ["a100-sxm4-80gb", "rtx-4090-24gb", "b200-sxm-180gb"])
def test_a_row_goes_with_the_clocks_or_has_a_rate_of_its_own(name: str) -> None:
    card = load_accelerator(name)
    curves = curves_of(card)
    at = Device(accelerator=card, curves=curves, dtype="bf16", unquantized="bf16", elementwise_rate=0.7)
    row = {"name": "x", "block": "", "phase": "forward", "bytes_moved": 1e9}
    streaming = 1e9 / (curves.memory_fraction * card.memory_bandwidth_bytes_per_s)
    assert float(device_s(Row(**row, own_rate=0.25), at)) == pytest.approx(streaming / 0.25)
    expected = 1.0 + (1.0 / (0.5 * 0.7) - 1.0) * beside_memory(card, curves)
    assert float(device_s(Row(**row, rate=0.5), at)) == pytest.approx(streaming * expected)
