"""Seconds of collectives and of kernels: laws, and figures that others measured."""

from __future__ import annotations

import numpy as np
import pytest
from examples import gpus
from hypothesis import given
from hypothesis import strategies as st

from planner.hardware.cluster import CollectiveName, cluster, load_accelerator
from planner.hardware.curves import load_curves
from planner.operators.row import Matmul
from planner.performance.collectives import bus_factor, collective_s
from planner.performance.roofline import matmul_efficiency

NAMES: tuple[CollectiveName, ...] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")


@pytest.mark.parametrize(
    ("collective", "factor"),
    [("all_reduce", 2 * 7 / 8), ("all_gather", 7 / 8), ("reduce_scatter", 7 / 8), ("all_to_all", 7 / 8), ("p2p", 1.0)],
)
def test_bus_factors_are_those_of_nccl_tests(collective: CollectiveName, factor: float) -> None:
    # NVIDIA nccl-tests, doc/PERFORMANCE.md
    assert float(bus_factor(collective, 8.0)) == factor
    assert float(bus_factor(collective, 1.0)) == 0.0


@pytest.mark.parametrize("name", NAMES)
@given(message=st.floats(1, 1e10), ranks=st.sampled_from([2, 4, 8, 16]))
def test_more_bytes_and_farther_ranks_take_longer(name: CollectiveName, message: float, ranks: int) -> None:
    once = float(collective_s(gpus(16), name, message, float(ranks), 1.0))
    assert once > 0
    assert float(collective_s(gpus(16), name, 2 * message, float(ranks), 1.0)) > once
    if ranks == 8:
        assert float(collective_s(gpus(64), name, message, 8.0, 8.0)) > once


@pytest.mark.parametrize("name", NAMES)
def test_a_group_of_one_and_an_empty_message_take_no_time(name: CollectiveName) -> None:
    assert float(collective_s(gpus(8), name, 1e9, 1.0, 1.0)) == 0.0
    assert float(collective_s(gpus(8), name, 0.0, 8.0, 1.0)) == 0.0


def test_an_all_reduce_moves_what_a_scatter_and_a_gather_move() -> None:
    whole, halves = (float(collective_s(gpus(8), n, 1e10, 8.0, 1.0)) for n in ("all_reduce", "all_gather"))
    assert whole == pytest.approx(2 * halves, rel=0.02)


def test_groups_over_nodes_share_the_network_of_their_local_ranks() -> None:
    # 16 ranks on two nodes feed 8 ports of 25 GB/s per node, 2 ranks one port each: eight times the bytes for equal time
    wide = float(collective_s(gpus(16), "all_gather", 8e9, 16.0, 1.0)) / (15 / 16)
    narrow = float(collective_s(gpus(16), "all_gather", 1e9, 2.0, 8.0)) / (1 / 2)
    assert wide == pytest.approx(narrow, rel=0.02)


@pytest.mark.parametrize(
    ("node", "collective", "bus"),
    [
        # bus bandwidth at 512 MiB on 8 GPUs: NCCL tables of aiconfigurator-core 0.12.0, GB/s
        ("dgx-a100-80gb", "all_reduce", 222), ("dgx-a100-80gb", "all_gather", 205), ("dgx-h100", "all_reduce", 445),
        ("dgx-h100", "reduce_scatter", 336), ("dgx-h200", "all_to_all", 311), ("dgx-b200", "all_reduce", 704),
    ],
)  # fmt: skip
def test_measured_bus_bandwidth_is_reached(node: str, collective: CollectiveName, bus: float) -> None:
    message = 512 * 2.0**20
    seconds = float(collective_s(cluster(node), collective, message, 8.0, 1.0))
    assert message * float(bus_factor(collective, 8.0)) / seconds == pytest.approx(bus * 1e9, rel=0.1)


@pytest.mark.parametrize(("ranks", "microseconds"), [(2, 94.96), (4, 108.05), (8, 137.52)])
def test_eager_gathers_take_longer_than_graphs_of_them(ranks: int, microseconds: float) -> None:
    # all-gather of 64 MiB on B200 in CUDA graphs: NCCL table of aiconfigurator-core 0.12.0; from PyTorch it takes more, not twice
    seconds = float(collective_s(cluster("dgx-b200"), "all_gather", 64 * 2.0**20, float(ranks), 1.0))
    assert 0.85 * microseconds < seconds * 1e6 < 1.5 * microseconds


@pytest.mark.parametrize("message", [2.0**14, 2.0**20, 2.0**26])
def test_captured_collectives_of_a_newer_generation_are_not_far_slower(message: float) -> None:
    old, new = (
        float(collective_s(cluster(node), "all_reduce", message, 8.0, 1.0, captured=True)) for node in ("dgx-h100", "dgx-b200")
    )
    assert new < 2.5 * old


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        # sustained best-shape matrix multiply: stas00/ml-engineering compute/accelerator (MAMF); H100's training clocks are lower
        ("a100-sxm4-80gb", 271),
        ("v100-sxm2-32gb", 95),  # zzc0721/torch-performance-test-data
        ("mi300x-192gb", 668),
    ],
)
def test_large_matrix_multiplies_stay_below_measured_ceilings_but_near(name: str, tflops: float) -> None:
    gpu = load_accelerator(name)
    work = Matmul(m=16384.0, n=16384.0, k=16384.0)
    reached = float(matmul_efficiency(work, gpu, load_curves(gpu.curves), "fp16", 2.0)) * gpu.peak("fp16")
    assert 0.8 * tflops * 1e12 < reached < 1.05 * tflops * 1e12


@given(m=st.integers(1, 32768), n=st.integers(64, 32768), k=st.integers(64, 32768))
def test_efficiency_is_a_fraction_and_grows_with_rows(m: int, n: int, k: int) -> None:
    gpu = load_accelerator("a100-sxm4-80gb")
    curves = load_curves(gpu.curves)
    small, large = (
        float(matmul_efficiency(Matmul(m=np.float64(rows), n=float(n), k=float(k)), gpu, curves, "bf16", 2.0))
        for rows in (m, 2 * m)
    )
    assert 0 < small <= large * (1 + 1e-9) < 1
