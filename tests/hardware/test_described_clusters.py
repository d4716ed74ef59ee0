"""Clusters from what a scenario says: an accelerator without a node, a network of one's own, boxes that nobody described."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from planner.common.data import PROFILES
from planner.common.errors import PlannerError
from planner.hardware.cluster import (
    VENDORS,
    accelerator_names,
    cluster_notes,
    load_accelerator,
    load_node,
    node_names,
    usual_host_bytes,
)
from planner.hardware.custom_nodes import MAKERS, _networked, chosen_node, described_cluster, reference_node
from planner.serving.deploy import serve
from planner.serving.engine import engine_names, load_engine
from planner.training.planning import plan
from planner.workload.framework import framework_names, load_framework
from planner.workload.resolve import as_cluster


def network(fields: dict[str, Any]) -> float:
    found = as_cluster(fields)
    return found.node.links[-1].bytes_per_s * found.node.num_gpus * 8 / 1e9


def test_an_accelerator_and_a_number_are_enough() -> None:
    found = as_cluster({"accelerator": "h100-sxm5-80gb", "num_gpus": 32})
    assert (found.node.name, found.num_nodes, found.num_gpus) == ("dgx-h100", 4, 32)
    small = as_cluster({"accelerator": "rtx-4090-24gb", "num_gpus": 4})
    assert (small.node.name, small.num_nodes) == ("workstation-4x-rtx-4090-24gb", 1)
    assert small.node == load_node("workstation-4x-rtx-4090")


@pytest.mark.parametrize("fields", [{"node": "dgx-h100"}, {"accelerator": "h100-sxm5-80gb"}, {"accelerator": "rtx-3090-24gb"}])
def test_a_network_of_ones_own_is_that_of_a_whole_node(fields: dict[str, Any]) -> None:
    assert network({**fields, "num_gpus": 16, "network_gbit_per_s": 400}) == pytest.approx(400)


def test_a_network_of_ones_own_joins_all_nodes_that_had_none() -> None:
    alone = load_node("workstation-4x-rtx-3090")
    alone = alone.replaced(links=[link for link in alone.links if link.kind != "network"])
    (joined,) = (link for link in _networked(alone, 100.0).links if link.kind == "network")
    assert joined.span == 0
    assert joined.bytes_per_s == pytest.approx(100e9 / 8 / 4)


def test_nodes_of_another_size_keep_the_network_of_each_gpu() -> None:
    found = as_cluster({"accelerator": "h100-sxm5-80gb", "gpus_per_node": 4, "num_gpus": 8})
    assert found.num_nodes == 2
    assert found.node.links[-1].bytes_per_s == load_node("dgx-h100").links[-1].bytes_per_s
    assert as_cluster({"accelerator": "h100-sxm5-80gb", "gpus_per_node": 16, "num_nodes": 2}).num_gpus == 32


def test_four_gpus_on_boxes_of_three_say_that_they_are_two_boxes_on_a_slow_network() -> None:
    (note,) = cluster_notes(as_cluster({"node": "workstation-3x-rtx-3070", "num_gpus": 4}))
    for words in ("4 GPUs are 2 boxes", "Ethernet, 1 Gbit/s", "1 Gbit/s a box"):
        assert words in note
    assert not cluster_notes(as_cluster({"node": "workstation-3x-rtx-3070", "num_gpus": 3}))
    assert not cluster_notes(as_cluster({"node": "dgx-h100", "num_nodes": 8}))


@pytest.mark.parametrize("num_gpus", [1, 2, 4, 8])
@pytest.mark.parametrize("name", ["rtx-3060-12gb", "rtx-5090-32gb", "rtx-pro-6000-blackwell", "rtx-4090-laptop-16gb"])
def test_a_workstation_of_every_size(name: str, num_gpus: int) -> None:
    node, card = load_node(f"workstation-{num_gpus}x-{name}"), load_accelerator(name)
    assert node.num_gpus == num_gpus
    assert [link.kind for link in node.links] == (["pcie", "network"] if num_gpus > 1 else ["network"])
    assert node.host_link_bytes_per_s == card.host_link_bytes_per_s * (0.5 if num_gpus == 2 else 1.0)
    assert {node.provenance[f].kind for f in ("host_memory_bytes", "host_link_bytes_per_s")} == {"assumed"}
    assert node.host_memory_bytes == usual_host_bytes(card, num_gpus)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_gpus": 4}, "give a node type"),
        ({"accelerator": "B100", "num_gpus": 8}, "known but has no profile.*b200-sxm-180gb"),
        ({"node": "cerebras"}, "known but has no profile.*another"),
        ({"node": "workstation-9x-rtx-4090"}, "1 to 8"),
        ({"node": "workstation-2x-rtx-4091"}, "rtx-4090-24gb"),
        ({"node": "dgx-h100", "network_gbit_per_s": 4e11}, "network_gbit_per_s.*3200"),
        ({"node": "dgx-h100", "network_gbit_per_s": "400"}, "network_gbit_per_s = '400'"),
        ({"node": "dgx-h100", "network_gbit_per_s": True}, "network_gbit_per_s"),
        ({"accelerator": "h100-sxm5-80gb", "gpus_per_node": 0}, "gpus_per_node"),
        ({"node": "dgx-h100", "gpus_per_node": 4}, "without cluster.node"),
        ({"node": "dgx-h100", "networks": 3}, "unknown field networks = 3; did you mean network_gbit_per_s?"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_what_would(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(PlannerError, match=words):
        as_cluster(fields)


def test_a_name_known_to_be_missing_is_not_there_and_its_siblings_are() -> None:
    there = {*accelerator_names(), *node_names()}
    aliases = {a.lower().replace(" ", "-") for n in accelerator_names() for a in load_accelerator(n).aliases}
    seen: set[str] = set()
    for entry in tomllib.loads((PROFILES / "known.toml").read_text())["known"]:
        names = set(entry["names"])
        assert not names & (there | aliases | seen)
        assert names == {n.lower().replace(" ", "-") for n in names}
        assert set(entry["near"]) <= there
        seen |= names


def test_no_node_that_is_left_unread_would_be_the_reference() -> None:
    nodes = [load_node(name) for name in node_names()]
    for accelerator in accelerator_names():
        alike = [node for node in nodes if node.accelerator == accelerator]
        best = max(alike, key=lambda n: (n.num_gpus > 1, n.provider in MAKERS, n.num_gpus, n.name), default=None)
        assert reference_node(accelerator) == best, accelerator


def test_a_reference_node_is_the_makers() -> None:
    makers = {
        "h100-sxm5-80gb": "dgx-h100",
        "b300-sxm-270gb": "dgx-b300",
        "gb200-186gb": "gb200-nvl72",
        "v100-sxm2-16gb": "dgx-1v-16gb",  # Huawei makes Ascend: its cloud's node of V100 is no maker's
        "ascend-910b-64gb": "atlas-800t-a2",
    }
    assert {accelerator: reference_node(accelerator).name for accelerator in makers} == makers  # type: ignore[union-attr]


def test_gpus_on_pcie_that_one_box_holds_stand_in_one_box() -> None:
    """Whatever the largest box is that a cloud rents: eight A30 are not two instances of four and their network."""
    for accelerator, gpus in (("a30-24gb", 8), ("a30-24gb", 6), ("v100-pcie-16gb", 8)):
        assert reference_node(accelerator).num_gpus == 4  # type: ignore[union-attr]
        found = described_cluster(accelerator, None, None, gpus, None, None)
        assert (found.num_nodes, found.num_gpus) == (1, gpus)
    assert described_cluster("a30-24gb", None, 2, 8, None, None).num_nodes == 2


# --- which software runs on whose accelerators --------------------------------------------------------------------------------


TRAINING = {"model": "gpt2", "job": {"seq_len": 512, "global_batch_size": 16}}


@pytest.mark.parametrize(
    ("cluster", "framework", "words"),
    [
        ("tpu-v5p", "megatron-core", "does not run on Google's tpu-v5p-95gb; use jax-xla"),
        ("trainium2-96gb", "torchtitan", "does not run on AWS's trainium2-96gb; use .*huggingface"),
        ("apple-m4-max-128gb", "peft", "no training framework in the catalog runs on Apple's"),
        ("gaudi3-128gb", "apex", "use .*peft"),
    ],
)
def test_a_framework_that_does_not_run_there_is_refused_with_those_that_do(cluster: str, framework: str, words: str) -> None:
    name = load_accelerator(cluster).name
    with pytest.raises(PlannerError, match=words):
        plan(**TRAINING, cluster={"accelerator": name, "num_gpus": 4}, framework=framework)  # type: ignore[arg-type]


def test_jax_trains_on_a_tpu_and_llama_cpp_serves_on_a_mac() -> None:
    tpu = plan(**TRAINING, cluster={"accelerator": "tpu-v5e-16gb", "num_gpus": 8}, framework="jax-xla")  # type: ignore[arg-type]
    assert tpu.step_time_s > 0
    mac = {"accelerator": "apple-m3-ultra-512gb", "num_gpus": 1}
    request = {"engine": "llama.cpp", "prompt": 512, "output": 128}
    served = serve(model="llama-3.1-8b", cluster=mac, serving=request)
    assert served.tpot_s is not None
    assert served.tpot_s > 8.03e9 * 2 / 8.19e11  # the weights are read once a token
    with pytest.raises(PlannerError, match=r"use llama\.cpp, mlc"):
        serve(model="llama-3.1-8b", cluster=mac, serving={**request, "engine": "vllm"})


def test_software_names_vendors_of_the_catalog_and_every_vendor_has_some() -> None:
    cards = {load_accelerator(n).vendor for n in accelerator_names()} - {"any"}
    stacks = [load_framework(n) for n in framework_names()]
    engines = [load_engine(n) for n in engine_names()]
    assert cards == VENDORS
    assert {v for one in (*stacks, *engines) for v in one.vendors} == VENDORS


@pytest.mark.parametrize(
    ("named", "node"),
    [
        ({"accelerator": "a10", "num_gpus": 1}, "tencent-pnv4-56xlarge932"),
        ({"accelerator": "l20-48gb", "num_gpus": 2}, "ecs-gn8is-8x-32xlarge"),
        ({"accelerator": "h100-sxm5-80gb", "num_gpus": 8}, ""),  # a maker's own
        ({"node": "workstation-1x-a10"}, ""),
        ({"accelerator": "rtx-3070-8gb", "num_gpus": 2}, ""),  # a workstation already
    ],
)
def test_a_cloud_s_node_that_nobody_named_is_said(named: dict[str, Any], node: str) -> None:
    said = " ".join(str(note) for note in chosen_node(named.get("accelerator"), as_cluster(named)))
    assert (f"stands in {node} of" in said) if node else said == ""
    if node:
        assert as_cluster({"node": said.rpartition(" ")[2]}).num_gpus == named["num_gpus"]
