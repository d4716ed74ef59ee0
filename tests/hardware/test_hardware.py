"""Hardware profiles: every file is read, every number has a source, and the traps of data sheets are avoided."""

from __future__ import annotations

import pytest
from each import for_each

from planner.common.errors import PlannerError
from planner.hardware.cluster import accelerator_names, cluster, load_accelerator, load_node, named, node_names
from planner.hardware.curves import load_curves
from planner.hardware.custom_nodes import custom_node
from planner.performance.collectives import collective_s

NUMBERS = ("memory_bytes", "usable_memory_bytes", "memory_bandwidth_bytes_per_s", "host_link_bytes_per_s", "num_sms", "tdp_w")


@for_each("name", accelerator_names())
def test_every_number_of_an_accelerator_has_a_source(name: str) -> None:
    accelerator = load_accelerator(name)
    assert accelerator.name == name
    given = [f for f in NUMBERS if f in accelerator.model_fields_set and getattr(accelerator, f) is not None]
    given += [f"peak_flops_per_s.{dtype}" for dtype in accelerator.peak_flops_per_s]
    for field in given:
        assert accelerator.provenance[field].source, field
    load_curves(accelerator.curves)


FP8_OVER_16_BIT = {"trainium3-144gb": 2517 / 671, "rubin-288gb": 17.5 / 4, "mi455x-432gb": 4.0}
"""Chips of 2026 give their area to 8 bit: AWS Neuron documentation; NVIDIA, Vera Rubin NVL72; LLVM's schedule of gfx1250."""


@for_each("name", accelerator_names())
def test_peaks_are_dense_and_ordered(name: str) -> None:
    peaks = load_accelerator(name).peak_flops_per_s
    if "tf32" in peaks:
        assert peaks["tf32"] <= peaks["bf16"]
    if "fp8" in peaks:
        most = FP8_OVER_16_BIT.get(name, 2.5)  # Gaudi 3 and Trainium: no faster
        assert peaks["bf16"] <= peaks["fp8"] <= most * peaks["bf16"] * (1 + 1e-9)
    if "fp32" in peaks and "fp16" in peaks:
        assert peaks["fp32"] <= peaks["fp16"]  # equal on chips that only store fp16


@pytest.mark.parametrize(
    ("name", "dtype", "peak"),
    [
        ("a100-sxm4-80gb", "bf16", 312e12),  # NVIDIA A100 data sheet; 624 is with sparsity
        ("v100-sxm2-32gb", "fp16", 125e12),  # NVIDIA V100 data sheet
        ("h100-sxm5-80gb", "bf16", 989.4e12),  # NVIDIA H100 architecture paper; 1979 is with sparsity
        ("h100-pcie-80gb", "bf16", 756e12),  # the PCIe card is not the SXM part
        ("rtx-3070-8gb", "fp16", 40.6e12),  # GA102 white paper: fp32 accumulation halves the rate; 163 is sparse and fp16
        ("rtx-4090-24gb", "bf16", 165.2e12),  # Ada white paper
        ("trainium3-144gb", "bf16", 671e12),  # AWS Neuron documentation; 2517 is with sparsity
    ],
)
def test_published_peaks(name: str, dtype: str, peak: float) -> None:
    assert load_accelerator(name).peak(dtype) == pytest.approx(peak, rel=1e-3)


@pytest.mark.parametrize(("name", "dtype"), [("v100-sxm2-16gb", "bf16"), ("a100-sxm4-40gb", "fp8"), ("t4", "tf32")])
def test_a_type_that_the_hardware_lacks_is_an_error(name: str, dtype: str) -> None:
    with pytest.raises(PlannerError, match=f"has no {dtype} matrix units"):
        load_accelerator(name).peak(dtype)


@for_each("name", node_names())
def test_every_node_names_its_accelerator_and_joins_its_gpus(name: str) -> None:
    node = load_node(name)
    assert node.name == name
    gpu = load_accelerator(node.accelerator)
    for link in node.links:
        assert 1e6 < link.bytes_per_s <= 1.8e12  # NVLink 6: 3.6 TB/s in both directions
        assert link.provenance["bytes_per_s"].source
        for fit in link.collectives.values():
            # the asymptote of a fit stays near the wire; NVSwitch reductions may exceed it (NVLS)
            assert 0.4 * link.bytes_per_s < fit.bus_bytes_per_s < 1.3 * link.bytes_per_s
            assert 1e-6 < fit.latency_s < 1e-4
    assert cluster(name).num_gpus == node.num_gpus
    assert gpu.name == node.accelerator


def test_networks_are_shared_by_the_nodes_gpus() -> None:
    # DGX A100: eight HDR ports of 200 Gbit/s, one per GPU; p4d: four EFA ports of 100 Gbit/s for eight GPUs
    for name, gbit in (("dgx-a100-80gb", 1600), ("p4d-24xlarge", 400), ("p5-48xlarge", 3200)):
        node = load_node(name)
        (network,) = [link for link in node.links if link.kind == "network"]
        assert network.bytes_per_s * node.num_gpus * 8 == pytest.approx(gbit * 1e9)


@pytest.mark.parametrize(
    ("name", "near"), [("a100", "a100-sxm4-80gb"), ("h100", "h100-pcie-80gb"), ("rtx 30700", "rtx-3070-8gb")]
)
def test_an_ambiguous_or_unknown_name_lists_the_near_ones(name: str, near: str) -> None:
    with pytest.raises(PlannerError) as caught:
        load_accelerator(name)
    assert near in str(caught.value)


@pytest.mark.parametrize(
    ("alias", "name"), [("RTX 3070", "rtx-3070-8gb"), ("A100-SXM4-80GB", "a100-sxm4-80gb"), ("H200", "h200-sxm-141gb")]
)
def test_common_spellings_are_aliases(alias: str, name: str) -> None:
    assert load_accelerator(alias).name == name


def test_a_custom_node_changes_size_and_network_of_the_reference() -> None:
    node = custom_node("a100-sxm4-80gb", 4, 100e9)
    assert [(link.kind, link.span) for link in node.links] == [("nvlink", 4), ("network", 0)]
    assert node.links[1].bytes_per_s == 25e9
    assert node.links[0].collectives == load_node("dgx-a100-80gb").links[0].collectives
    alone = custom_node("rtx-4090-24gb", 2)
    assert alone.links[0].kind == "pcie"
    assert custom_node("a100-sxm4-80gb", 1).num_gpus == 1


def test_nodes_that_are_partly_used_join_fewer_gpus_and_share_the_network_among_them() -> None:
    half = cluster("dgx-a100-80gb", num_nodes=2, num_gpus=8)
    assert half.node.num_gpus == 4
    assert [(link.kind, link.span) for link in half.node.links] == [("nvlink", 4), ("network", 0)]
    # a GPU may use its neighbour's network card too, through its own PCIe lanes
    assert half.node.links[1].bytes_per_s == load_accelerator("a100-sxm4-80gb").host_link_bytes_per_s
    assert load_node("dgx-a100-80gb").links[1].bytes_per_s < half.node.links[1].bytes_per_s
    whole = cluster("dgx-a100-80gb", num_nodes=1, num_gpus=8)
    message = 1e9
    apart = float(collective_s(half, "all_reduce", message, 8.0, 1.0))
    assert apart > float(collective_s(whole, "all_reduce", message, 8.0, 1.0))


def test_the_memory_read_from_a_profiles_text_is_that_of_the_profile() -> None:
    """Its own, another's by reference, or that of what it is based on."""
    for stem, _, memory_bytes in named("accelerators"):
        assert memory_bytes == load_accelerator(stem).memory_bytes, stem
