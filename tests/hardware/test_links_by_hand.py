"""What links, nodes and cards mean where little is stated, which GPUs stand in one box, which links a part of a node keeps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import ACCELERATOR

from planner.common.errors import PlannerError
from planner.hardware import cluster as clusters
from planner.hardware import custom_nodes
from planner.hardware.cluster import (
    Accelerator,
    Cluster,
    CollectiveFit,
    Link,
    Node,
    cluster,
    cluster_notes,
    is_asked_for,
    load_accelerator,
    load_node,
    named,
    partly_used,
    require_vendor,
    runs_on,
)
from planner.hardware.custom_nodes import (
    _networked,
    chosen_node,
    custom_node,
    described_cluster,
    reference_node,
)
from planner.hardware.measured_kernels import Kernel, kernel, shelves
from planner.performance.collectives import collective_s
from planner.workload.framework import load_framework

NEAR, FAR = (
    {"name": "near", "kind": "nvlink", "span": 8, "bytes_per_s": 3e11},
    {"name": "far", "kind": "network", "span": 0, "bytes_per_s": 25e9},
)


def node(**fields: Any) -> Node:
    return Node.build({"name": "n", "accelerator": "test-gpu", "num_gpus": 8, "links": [NEAR, FAR], **fields}, "test")


def test_what_nobody_states_is_nothing() -> None:
    """Neither power nor cache nor processors, cores nor disks: 0 is not known. One GPU has lanes of its own."""
    least = {"name": "c", "vendor": "v", "architecture": "a", "peak_flops_per_s": {"bf16": 1.0}, "memory_bytes": 1.0}
    card = Accelerator.build({**least, "memory_bandwidth_bytes_per_s": 1e9, "host_link_bytes_per_s": 1e9}, "test")
    assert (card.l2_bytes, card.num_sms, card.tdp_w, card.idle_w) == (0, 0, 0, 0)
    plain = node()
    assert (plain.num_cpu_cores, plain.host_memory_bytes, plain.local_storage_bytes, plain.max_power_w) == (0, 0, 0, 0)
    assert (plain.gpus_per_host_link, plain.named_after_domain, plain.nodes_per_domain) == (1, False, 1)
    assert not plain.links[1].rdma
    made = Cluster.build({"node": plain, "accelerator": ACCELERATOR, "num_gpus": 8}, "test")
    assert made.num_nodes == 1
    assert {memory for _, _, memory in named("nodes")} == {0.0}
    assert clusters._memory_stated('name = "x"', {}) == 0.0


def test_a_link_without_a_measurement_reaches_four_fifths_of_its_wire() -> None:
    """l + x / (0.8 W) + sqrt(l x / (0.8 W)), l = 10 us: half of the wire's rate where both take as long, by the same root."""
    here = cluster(node(), num_gpus=8, accelerator=ACCELERATOR)
    for message in (1e4, 1e7, 1e10):
        wire = 7 / 8 * message / (0.8 * 3e11)
        expected = 1e-5 + wire + math.sqrt(1e-5 * wire)
        assert float(collective_s(here, "all_gather", message, 8.0, 1.0)) == pytest.approx(expected)
    fit = CollectiveFit(latency_s=1e-5, bus_bytes_per_s=1e9)
    assert (fit.latency_s_per_peer, fit.sqrt_coefficient) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("build", "field", "least", "most"),
    [
        (lambda **x: Link.build({**NEAR, **x}, "l"), "bytes_per_s", 1e6, 1e15),
        (lambda **x: Link.build({**NEAR, **x}, "l"), "span", 0, None),
        (lambda **x: Link.build({**NEAR, **x}, "l"), "latency_s", 0.0, None),
        (lambda **x: Link.build({**NEAR, **x}, "l"), "sqrt_coefficient", 0.0, None),
        (lambda **x: Link.build({**NEAR, **x}, "l"), "efficiency", None, 1.2),
        (lambda **x: CollectiveFit(**{"latency_s": 1.0, "bus_bytes_per_s": 1.0, **x}), "latency_s", 0.0, None),
        (lambda **x: CollectiveFit(**{"latency_s": 1.0, "bus_bytes_per_s": 1.0, **x}), "latency_s_per_peer", 0.0, None),
        (lambda **x: CollectiveFit(**{"latency_s": 1.0, "bus_bytes_per_s": 1.0, **x}), "sqrt_coefficient", 0.0, None),
        (lambda **x: CollectiveFit(**{"latency_s": 1.0, "bus_bytes_per_s": 1.0, **x}), "bus_bytes_per_s", None, None),
        (lambda **x: ACCELERATOR.replaced(**x), "memory_bytes", None, 1e15),
        (lambda **x: ACCELERATOR.replaced(**x), "usable_memory_bytes", None, 1e15),
        (lambda **x: ACCELERATOR.replaced(**x), "memory_bandwidth_bytes_per_s", 1e6, 1e15),
        (lambda **x: node(**x), "gpus_per_host_link", 1, None),
        (lambda **x: Cluster.build({"node": node(), "accelerator": ACCELERATOR, "num_gpus": 8, **x}, "c"), "num_gpus", 1, None),
        (lambda **x: Cluster.build({"node": node(), "accelerator": ACCELERATOR, "num_gpus": 8, **x}, "c"), "num_nodes", 1, None),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_number_of_hardware_is_read_up_to_its_bounds(build: Any, field: str, least: Any, most: Any) -> None:
    """No least: above nothing. A span or a number of GPUs is a whole number, neither text nor an answer."""
    whole = isinstance(least, int)
    good = [1e-3 if least is None else least, *([most] if most else [])]
    bad = [0.0 if least is None else least - 1 if whole else math.nextafter(least, -math.inf)]
    bad += [math.nextafter(most, math.inf)] if most else []
    for value in good:
        assert getattr(build(**{field: value}), field) == value
    for value in [*bad, *([2.5, "2", True] if whole else [])]:
        with pytest.raises((PlannerError, ValueError), match=field):
            build(**{field: value})


# --- what nodes join ----------------------------------------------------------------------------------------------------------


def test_some_link_joins_all_gpus_of_a_node() -> None:
    inner = {**NEAR, "span": 4}
    for links, joined in (([inner], False), ([inner, FAR], True), ([NEAR], True), ([{**NEAR, "span": 9}], True), ([], False)):
        if joined:
            assert len(node(links=links).links) == len(links)
        else:
            with pytest.raises(PlannerError, match="no link joins all 8"):
                node(links=links)
    assert node(num_gpus=1, links=[]).links == ()
    with pytest.raises(PlannerError, match="near to far"):
        node(links=[NEAR, inner])
    assert [link.span for link in node(links=[inner, FAR, NEAR]).links] == [4, 0, 8], "0 is the whole cluster, wherever it stands"


def test_a_name_may_mean_all_that_the_widest_link_joins() -> None:
    """16 GPUs of nodes of 4: 4 nodes, by the node's own name or by one of its aliases; not by its others."""
    wide = {"num_gpus": 4, "links": [{**NEAR, "span": 16}, FAR], "aliases": ["Big One", "small"]}
    own, other, none = node(**wide, named_after_domain=True), node(**wide, domain_aliases=["Big One"]), node(**wide)
    assert [one.nodes_per_domain for one in (own, other, none)] == [4, 4, 1]
    assert [one.domain_names for one in (own, other, none)] == [("n",), ("Big One",), ()]
    assert [own.nodes_meant(name) for name in ("n", "small")] == [4, 4]
    assert [other.nodes_meant(name) for name in ("n", "small", "big one")] == [1, 1, 4]
    assert none.nodes_meant("n") == 1
    for links in ([{**NEAR, "span": 4}, FAR], [{**NEAR, "span": 18}, FAR], [FAR]):
        for means in ({"named_after_domain": True}, {"domain_aliases": ["Big One"]}):
            with pytest.raises(PlannerError, match="not several whole nodes"):
                node(**{**wide, "links": links, **means})
    with pytest.raises(PlannerError, match="none of its aliases"):
        node(**wide, domain_aliases=["another"])


def test_a_node_with_its_network_first_says_that_it_is_slow_all_the_same() -> None:
    slow = {**FAR, "bytes_per_s": 1e9}
    for links, notes in (([NEAR, slow], 1), ([NEAR], 0), ([], 0)):
        one = node(num_gpus=8 if links else 1, links=links)
        there = Cluster.build({"node": one, "accelerator": ACCELERATOR, "num_nodes": 2, "num_gpus": 2 * one.num_gpus}, "test")
        assert len(cluster_notes(there)) == notes


def test_a_part_of_a_node_is_not_named_after_all_that_its_link_joins() -> None:
    whole = node(num_gpus=4, links=[{**NEAR, "span": 16}, FAR], named_after_domain=True)
    part = partly_used(whole, 2, ACCELERATOR)
    assert (part.nodes_per_domain, [link.span for link in part.links]) == (1, [2, 0])


def test_software_runs_where_its_maker_says_and_on_ones_own() -> None:
    stack = load_framework("megatron-core")
    mac, own = load_accelerator("apple-m4-max-128gb"), ACCELERATOR
    assert (runs_on(mac, stack), runs_on(own, stack), runs_on(load_accelerator("h100-sxm5-80gb"), stack)) == (False, True, True)
    require_vendor(own, stack, "framework.name", load_framework, ["megatron-core"])
    for field, words in (("serving.engine", "no serving engine"), ("framework.name", "no training framework")):
        with pytest.raises(PlannerError, match=words):
            require_vendor(mac, stack, field, load_framework, ["megatron-core"])
    with pytest.raises(PlannerError, match=r"use peft\."):
        require_vendor(load_accelerator("gaudi3-128gb"), stack, "serving.engine", load_framework, ["apex", "peft"])


# --- names --------------------------------------------------------------------------------------------------------------------


def test_a_name_is_a_file_of_the_catalog_an_alias_or_a_path(tmp_path: Path) -> None:
    known = [is_asked_for("nodes", name) for name in ("dgx-h100", "DGX H100", "dgx.h100", "x.toml", "cerebras", "dgx-h1000")]
    assert known == [True, True, True, True, True, False]
    text = 'name = "mine"\naccelerator = "h100-sxm5-80gb"\nnum_gpus = 2\n[[links]]\nsame_as = "dgx-h100"\nspan = 2\n'
    (tmp_path / "mine.toml").write_text(text)
    (link,) = load_node(str(tmp_path / "mine.toml")).links
    usual = load_node("dgx-h100").links[0]
    assert (link.kind, link.span, link.bytes_per_s) == ("nvlink", 2, usual.bytes_per_s)
    (tmp_path / "far.toml").write_text(text.replace("span = 2", 'kind = "network"'))
    assert load_node(str(tmp_path / "far.toml")).links[0] == load_node("dgx-h100").links[-1]
    (tmp_path / "none.toml").write_text(text.replace("span = 2", 'kind = "fabric"'))
    with pytest.raises(PlannerError, match="no link of kind fabric"):
        load_node(str(tmp_path / "none.toml"))
    with pytest.raises(PlannerError, match="no such file"):
        load_node(str(tmp_path / "absent.toml"))


# --- boxes of one's own -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_nodes", "num_gpus", "boxes", "each"),
    [
        (None, None, 1, 1), (None, 1, 1, 1), (None, 8, 1, 8), (None, 9, 3, 3), (None, 12, 2, 6), (None, 16, 2, 8),
        (None, 7, 1, 7), (None, 11, 11, 1), (None, 15, 3, 5), (2, None, 2, 1), (2, 8, 2, 4), (4, 4, 4, 1),
    ],
)  # fmt: skip
def test_gpus_that_no_node_of_the_catalog_holds_stand_in_even_boxes(
    num_nodes: int | None, num_gpus: int | None, boxes: int, each: int
) -> None:
    """Of up to eight, as few as share them evenly."""
    assert reference_node("rtx-3060-12gb") is None
    found = described_cluster("rtx-3060-12gb", None, num_nodes, num_gpus, None, None)
    assert (found.num_nodes, found.node.num_gpus, found.num_gpus) == (boxes, each, boxes * each)
    if num_gpus != 12:  # of boxes of eight, six in use
        assert found.node.name == f"workstation-{each}x-rtx-3060-12gb"


def test_gpus_that_fill_no_boxes_are_refused() -> None:
    with pytest.raises(PlannerError, match="evenly over 3 nodes"):
        described_cluster("rtx-3060-12gb", None, 3, 2, None, None)
    with pytest.raises(PlannerError, match="raise num_nodes to 3"):
        described_cluster("rtx-3060-12gb", None, 2, 9, None, None)  # in two boxes of four
    with pytest.raises(PlannerError, match="at least 1"):
        described_cluster("rtx-3060-12gb", None, None, 0, None, None)


@pytest.mark.parametrize("count", [1, 8, 72])
def test_a_node_may_hold_one_gpu_to_seventy_two(count: int) -> None:
    assert described_cluster("h100-sxm5-80gb", None, 2, None, count, None).num_gpus == 2 * count


@pytest.mark.parametrize(
    ("accelerator", "num_gpus", "nodes", "each"),
    [
        ("a30-24gb", 4, 1, 4), ("a30-24gb", 5, 1, 5), ("a30-24gb", 8, 1, 8), ("a30-24gb", 12, 3, 4), ("h100-sxm5-80gb", 8, 1, 8),
        ("h100-sxm5-80gb", 10, 2, 5),
    ],
)  # fmt: skip
def test_a_clouds_node_of_four_is_a_box_of_up_to_eight(accelerator: str, num_gpus: int, nodes: int, each: int) -> None:
    found = described_cluster(accelerator, None, None, num_gpus, None, None)
    assert (found.num_nodes, found.node.num_gpus) == (nodes, each)


def test_a_node_of_another_size_keeps_pairs_and_widens_what_joins_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure's four A100 on PCIe: bridges of two, and the host's lanes."""
    usual = load_node("standard-nc96ads-a100-v4")
    monkeypatch.setattr(custom_nodes, "reference_node", lambda name: usual)
    assert [(link.kind, link.span) for link in usual.links if link.kind != "network"] == [("nvlink", 2), ("pcie", 4)]
    for count, inner in (
        (1, []),
        (2, [("nvlink", 2), ("pcie", 2)]),
        (3, [("nvlink", 2), ("pcie", 3)]),
        (8, [("nvlink", 2), ("pcie", 8)]),
    ):
        made = custom_node.__wrapped__("a100-pcie-80gb", count)
        assert [(link.kind, link.span) for link in made.links if link.kind != "network"] == inner
        assert (made.num_cpu_cores, made.host_memory_bytes) == (usual.num_cpu_cores, usual.host_memory_bytes)


def test_a_rack_that_one_link_joins_stays_as_wide() -> None:
    for count in (2, 8, 36):
        assert [link.span for link in custom_node("gb200-186gb", count).links] == [72, 0]


def test_a_card_that_stands_in_no_node_has_the_lanes_of_its_board() -> None:
    card = load_accelerator("rtx-3060-12gb")
    (link,) = custom_node("rtx-3060-12gb", 4).links
    assert (link.kind, link.span, link.bytes_per_s) == ("pcie", 4, card.host_link_bytes_per_s)
    assert (link.efficiency, link.latency_s) == (0.6, 2e-5)
    near, far = custom_node("rtx-3060-12gb", 4, 1e9).links
    assert (far.kind, far.span, far.bytes_per_s, far.latency_s) == ("network", 0, 2.5e8, 1.5e-5)
    assert near == link


def test_a_network_of_ones_own_takes_the_place_of_the_nodes() -> None:
    usual = load_node("dgx-h100")
    made = _networked(usual, 800.0)
    assert made.links[:-1] == usual.links[:-1]
    assert (made.links[-1].kind, made.links[-1].bytes_per_s) == ("network", 12.5e9)
    assert made.links[-1].latency_s == usual.links[-1].latency_s
    bare = _networked(usual.replaced(links=list(usual.links[:-1])), 800.0).links[-1]
    assert (bare.bytes_per_s, bare.latency_s, bare.span) == (12.5e9, 1.5e-5, 0)
    assert _networked(usual, None) is usual


def test_one_is_told_of_a_clouds_node_that_stands_for_the_own_box() -> None:
    """Of GPUs on PCIe alone, and the box that is proposed holds eight at most."""
    for count, box in ((3, 3), (8, 8), (16, 8)):
        machine = cluster("ecs-gn8is-8x-32xlarge", num_gpus=count)
        (note,) = chosen_node("l20-48gb", machine)
        assert f"workstation-{box}x-l20-48gb" in note
        assert chosen_node(None, machine) == ()


# --- kept kernels -------------------------------------------------------------------------------------------------------------


def test_of_several_kept_kernels_each_answers_for_its_own_shape() -> None:
    kept = {"bf16 nt 8 x 16 x 32": 1.0, "bf16 nt 9 x 16 x 32": 2.0, "bf16 nt 8 x 17 x 32": 3.0, "fp16 nt 8 x 16 x 32": 4.0}
    found = shelves(tuple(kept.items()))
    columns = [np.array(sizes, dtype=float) for sizes in ((8, 9, 8, 9), (16, 16, 17, 17), (32, 32, 32, 32), (0, 0, 0, 0))]
    assert found["bf16", "nt"].find(*columns).tolist()[:3] == [1.0, 2.0, 3.0]
    assert np.isnan(found["bf16", "nt"].find(*columns)[3])
    assert found["fp16", "nt"].find(*(column[:1] for column in columns)).tolist() == [4.0]
    assert kernel("bf16 tn 1 x 1 x 1") == Kernel(dtype="bf16", layout="tn", m=1, n=1, k=1)
    assert Kernel(dtype="bf16", layout="nt", m=1, n=1, k=1).groups == 0
    assert kernel("bf16 grouped nt 1 x 1 x 1 x 1").groups == 1
    wide = shelves((("bf16 tn 8 x 16 x 32", 5.0),))["bf16", "tn"]
    assert wide.sizes.tolist() == [[16.0, 8.0, 32.0, 0.0]], "the larger of m and n first"
    for name in ("bf16 nt 8 x 16 x 32 x 0", "bf16 grouped nt 0 x 8 x 16 x 32", "bf16 nt 8 x 0 x 32", "bf16 nt 8 x 16 x 32 "):
        with pytest.raises(PlannerError, match="must be like"):
            kernel(name)
