"""What a cluster gives each GPU, of machines of round numbers: links, host memory and lanes, whole nodes and parts of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import ACCELERATOR, NODE, gpus

from planner.common.errors import PlannerError
from planner.hardware.cluster import (
    Accelerator,
    Node,
    cluster,
    cluster_notes,
    gpus_of_host,
    host_copy_rate,
    host_link_rate,
    host_usable_bytes,
    load_accelerator,
    partly_used,
    usable_bytes,
    usual_host_bytes,
    workstation,
)
from planner.hardware.custom_nodes import custom_node, described_cluster, has_dgx, reference_node
from planner.hardware.measured_kernels import Kernel, kernel, shelves

GIB = 2.0**30


def node(**fields: Any) -> Node:
    """The test node with changes: 8 GPUs, 300 GB/s near, 25 GB/s far, 2 TB of host memory."""
    return Node.build({**NODE.model_dump(exclude_unset=True), **fields}, "test")


def card(**fields: Any) -> Accelerator:
    return Accelerator.build({**ACCELERATOR.model_dump(exclude_unset=True), **fields}, "test")


def test_a_gpu_has_its_share_of_the_hosts_memory() -> None:
    """2 TB among 8 GPUs, or among the 2 that work; where nobody says, 8 / 3 of what the GPUs hold, but 32 GiB."""
    assert host_usable_bytes(gpus(8)) == 2e12 / 8
    assert host_usable_bytes(gpus(2)) == 2e12 / 2
    assert host_usable_bytes(gpus(16)) == 2e12 / 8
    unknown = cluster(node(host_memory_bytes=0.0), num_gpus=8, accelerator=ACCELERATOR)
    assert host_usable_bytes(unknown) == pytest.approx(8 / 3 * 80 * GIB)
    assert usual_host_bytes(ACCELERATOR, 3) == 8 * 80 * GIB
    small = card(memory_bytes=6 * GIB)
    assert (usual_host_bytes(small, 1), usual_host_bytes(small, 3)) == (32 * GIB, 48 * GIB)


def test_memory_is_what_the_framework_sees_of_what_the_driver_reports() -> None:
    assert usable_bytes(gpus(8)) == 80 * GIB
    seen = cluster(node(), num_gpus=8, accelerator=card(usable_memory_bytes=79 * GIB))
    assert usable_bytes(seen) == 79 * GIB


@pytest.mark.parametrize(
    ("build", "fields"),
    [
        (card, ("l2_bytes", "num_sms", "tdp_w", "idle_w")),
        (node, ("num_cpu_cores", "host_memory_bytes", "local_storage_bytes", "max_power_w")),
    ],
)
def test_what_may_be_unknown_is_nothing_but_never_less(build: Any, fields: tuple[str, ...]) -> None:
    for field in fields:
        assert getattr(build(**{field: 0}), field) == 0
        with pytest.raises(PlannerError, match=field):
            build(**{field: -1 if field.startswith("num_") else -0.5})


def test_columns_of_clusters_have_a_host_for_each() -> None:
    """Clusters of several sizes that are evaluated together: the GPUs of one node at most."""
    assert [gpus_of_host(gpus(n)) for n in (4, 8, 16)] == [4, 8, 8]
    together = gpus(8).model_copy(update={"num_gpus": np.array([4.0, 8.0, 16.0]), "node": node(gpus_per_host_link=6)})
    assert gpus_of_host(together).tolist() == [4.0, 8.0, 8.0]
    assert host_link_rate(together).tolist() == [25e9 / 4, pytest.approx(25e9 / 6), pytest.approx(25e9 / 6)]


def stated(rate: float, kind: str) -> dict[str, Any]:
    return {"value": rate, "kind": kind, "source": "test"}


def test_copies_reach_a_part_of_the_lanes_and_all_of_what_was_measured() -> None:
    for kind, part in (("datasheet", 0.78), ("assumed", 0.78), ("measured", 1.0)):
        assert host_copy_rate(node(), card(host_link_bytes_per_s=stated(32e9, kind))) == pytest.approx(part * 32e9)
        # a board that gives a GPU fewer lanes comes first
        assert host_copy_rate(node(host_link_bytes_per_s=stated(16e9, kind)), ACCELERATOR) == pytest.approx(part * 16e9)
    assert host_copy_rate(node(), ACCELERATOR) == 25e9  # without a source
    shared = node(gpus_per_host_link=2)
    assert [host_link_rate(cluster(shared, num_gpus=n, accelerator=ACCELERATOR)) for n in (1, 2, 8)] == [25e9, 12.5e9, 12.5e9]


@pytest.mark.parametrize(
    ("asked", "nodes", "count"),
    [
        ({}, 1, 8),
        ({"num_nodes": 3}, 3, 24),
        ({"num_gpus": 3}, 1, 3),
        ({"num_gpus": 8}, 1, 8),
        ({"num_gpus": 9, "num_nodes": 3}, 3, 9),
        ({"num_gpus": 16}, 2, 16),
        ({"num_gpus": 24}, 3, 24),
    ],
)
def test_as_many_nodes_as_the_gpus_fill(asked: dict[str, int], nodes: int, count: int) -> None:
    found = cluster(NODE, accelerator=ACCELERATOR, **asked)
    assert (found.num_nodes, found.num_gpus) == (nodes, count)
    assert found.node.num_gpus == (3 if asked.get("num_nodes") == 3 and count == 9 else 8)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"num_gpus": 17, "num_nodes": 2}, "raise num_nodes to 3"),
        ({"num_gpus": 9}, "does not spread evenly over 2"),
        ({"num_gpus": 0}, "at least 1"),
        ({"num_nodes": True}, "at least 1"),
        ({"num_gpus": 8.0}, "whole number"),
    ],
)
def test_gpus_that_fill_no_nodes_are_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(PlannerError, match=words):
        cluster(NODE, accelerator=ACCELERATOR, **asked)


def test_nodes_without_a_network_stand_alone() -> None:
    alone = node(links=[NODE.links[0].model_dump(exclude_unset=True)])
    assert cluster(alone, num_gpus=8, accelerator=ACCELERATOR).num_nodes == 1
    with pytest.raises(PlannerError, match="no network link"):
        cluster(alone, num_nodes=2, accelerator=ACCELERATOR)


def test_a_part_of_a_node_has_more_of_its_network_but_no_more_than_its_lanes() -> None:
    """8 x 2 GB/s of network among 4, 2 and 1 GPUs; 3 GB/s of lanes at most; a single one has no neighbours."""
    near, far = (one.model_dump(exclude_unset=True) for one in NODE.links)
    thin = node(links=[near, {**far, "bytes_per_s": 2e9}], host_link_bytes_per_s=3e9)
    for count, rate in ((8, 2e9), (6, 2e9 * 8 / 6), (4, 3e9), (1, 3e9)):
        found = partly_used(thin, count, ACCELERATOR)
        assert [(link.kind, link.span) for link in found.links] == [*([("nvlink", count)] if count > 1 else []), ("network", 0)]
        assert (found.links[-1].bytes_per_s, found.num_gpus) == (pytest.approx(rate), count)
    # of a node that states none, those of the card that stands in it
    assert partly_used(node(links=[near, {**far, "bytes_per_s": 4e9}]), 1, ACCELERATOR).links[-1].bytes_per_s == 25e9
    # a network that is faster than the lanes stays as it is
    assert partly_used(node(host_link_bytes_per_s=20e9), 4, ACCELERATOR).links[-1].bytes_per_s == 25e9


@pytest.mark.parametrize(("rate", "nodes", "notes"), [(2.4e9, 2, 1), (2.5e9, 2, 0), (2.4e9, 1, 0)])
def test_a_slow_network_is_said_where_there_are_several_boxes(rate: float, nodes: int, notes: int) -> None:
    """Below 20 Gbit/s a GPU; the note states that of the box."""
    near, far = (one.model_dump(exclude_unset=True) for one in NODE.links)
    there = cluster(node(links=[near, {**far, "bytes_per_s": rate}]), num_nodes=nodes, accelerator=ACCELERATOR)
    found = cluster_notes(there)
    assert len(found) == notes
    assert all("153.6 Gbit/s a box" in note for note in found)


def test_a_box_of_ones_own_has_the_lanes_of_its_board() -> None:
    """RTX 4090: 16 lanes of 32 GB/s; two share a desktop's; GeForce bounces through the host: half of them, else 0.6."""
    geforce, pro = load_accelerator("rtx-4090-24gb"), load_accelerator("l40s-48gb")
    for count, part in ((1, 1.0), (2, 0.5), (3, 1.0), (8, 1.0)):
        box = workstation(geforce, count)
        assert box.host_link_bytes_per_s == part * geforce.host_link_bytes_per_s
        assert box.links[-1].bytes_per_s == pytest.approx(1.25e9 / count)  # 10 Gbit/s of the box
        assert [link.span for link in box.links] == ([count, 0] if count > 1 else [0])
        if count > 1:
            assert (box.links[0].bytes_per_s, box.links[0].efficiency, box.links[0].latency_s) == (
                part * geforce.host_link_bytes_per_s, 0.5, 3e-5,
            )  # fmt: skip
    inner = workstation(pro, 4).links[0]
    assert (inner.efficiency, inner.latency_s) == (0.6, 2e-5)
    for count in (0, 9):
        with pytest.raises(PlannerError, match="must hold 1 to 8"):
            workstation(geforce, count)


@pytest.mark.parametrize(("per_node", "gbit", "rate"), [(8, 3200.0, 50e9), (4, 400.0, 12.5e9), (8, 0.1, 0.1e9 / 64)])
def test_a_described_network_is_shared_by_the_nodes_gpus(per_node: int, gbit: float, rate: float) -> None:
    found = described_cluster("h100-sxm5-80gb", None, 2, None, per_node, gbit)
    assert (found.num_gpus, found.node.num_gpus) == (2 * per_node, per_node)
    assert found.node.links[-1].bytes_per_s == pytest.approx(rate)


@pytest.mark.parametrize("gbit", [0.09, 51_201.0, True, "fast"])
def test_networks_that_nobody_has_are_refused(gbit: Any) -> None:
    with pytest.raises(PlannerError, match="network_gbit_per_s"):
        described_cluster("h100-sxm5-80gb", None, 2, None, 8, gbit)
    assert described_cluster("h100-sxm5-80gb", None, 2, None, 8, 51_200.0).num_gpus == 16


@pytest.mark.parametrize(
    ("asked", "nodes", "each"),
    [
        ({"num_gpus": 16}, 2, 8),
        ({"num_gpus": 4}, 1, 8),  # of a whole node
        ({"num_gpus": 12}, 2, 6),  # a DGX would be used in part: six to a node
        ({"num_gpus": 9}, 3, 3),
        ({"num_nodes": 2}, 2, 8),
        ({"num_gpus": 8, "gpus_per_node": 4}, 2, 4),
        ({"num_gpus": 8, "gpus_per_node": 8}, 1, 8),
    ],
)
def test_an_accelerator_alone_stands_in_its_makers_nodes(asked: dict[str, int], nodes: int, each: int) -> None:
    given = {"num_nodes": None, "num_gpus": None, "gpus_per_node": None, "network_gbit_per_s": None, **asked}
    found = described_cluster("h100-sxm5-80gb", None, **given)
    assert (found.num_nodes, found.node.num_gpus) == (nodes, each)
    reference = reference_node("h100-sxm5-80gb")
    assert reference is not None
    assert (reference.name, has_dgx("h100-sxm5-80gb"), has_dgx("rtx-4090-24gb")) == ("dgx-h100", True, False)


@pytest.mark.parametrize("count", [0, 73, 2.5, True])
def test_nodes_of_no_whole_number_of_gpus_are_refused(count: Any) -> None:
    with pytest.raises(PlannerError, match="gpus_per_node"):
        described_cluster("h100-sxm5-80gb", None, 1, None, count, None)


def test_a_node_of_another_size_has_the_links_of_the_makers() -> None:
    """A single GPU has a network only; one network for the whole node is shared, or each GPU keeps the reference's."""
    usual = reference_node("h100-sxm5-80gb")
    assert usual is not None
    for count in (1, 2, 16):
        made = custom_node("h100-sxm5-80gb", count)
        assert [(link.kind, link.span) for link in made.links] == [*([("nvlink", count)] if count > 1 else []), ("network", 0)]
        assert made.links[-1].bytes_per_s == usual.links[-1].bytes_per_s
        assert made.host_memory_bytes == usual.host_memory_bytes
        assert custom_node("h100-sxm5-80gb", count, 8e9).links[-1].bytes_per_s == 8e9 / count


def test_a_kept_kernel_is_read_as_it_is_written_and_found_by_its_shape() -> None:
    kept = {"bf16 nt 8 x 16 x 32": 1.0, "bf16 tn 16 x 8 x 32": 2.0, "bf16 grouped nt 4 x 8 x 16 x 32": 3.0}
    assert [kernel(name).name for name in kept] == list(kept)
    assert kernel("bf16 grouped nt 4 x 8 x 16 x 32") == Kernel(dtype="bf16", layout="nt", groups=4, m=8, n=16, k=32)
    found = shelves(tuple(kept.items()))

    def seconds(layout: str, *sizes: float) -> float:
        return float(found["bf16", layout].find(*(np.array(size) for size in sizes)))

    assert seconds("nt", 8, 16, 32, 0) == 1.0
    assert seconds("nt", 8, 16, 32, 4) == 3.0
    assert seconds("tn", 16, 8, 32, 0) == 2.0
    for wrong in ((9, 16, 32, 0), (8, 17, 32, 0), (8, 16, 33, 0), (8, 16, 32, 1)):
        assert np.isnan(seconds("nt", *wrong))
    for name in (
        "bf16 nt 8 x 16",
        "bf16 nt 0 x 16 x 32",
        "bf16 grouped nt 8 x 16 x 32",
        "bf16 nt 1 x 8 x 16 x 32",
        "nt 8 x 16 x 32",
    ):
        with pytest.raises(PlannerError, match="must be like"):
            kernel(name)
