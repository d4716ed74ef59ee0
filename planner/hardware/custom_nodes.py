"""Clusters that no profile describes: a known node type with another number of GPUs or another network."""

from __future__ import annotations

from functools import cache

from planner.hardware.cluster import Accelerator, Link, Node, load_accelerator, load_node, node_names

ASSUMED_PCIE_EFFICIENCY = 0.6
"""Bus bandwidth over the wire's on cards without NVLink: 24 to 35 of 64 GB/s are measured on PCIe 5 cards."""


@cache
def reference_node(accelerator: str) -> Node | None:
    """The profile with the most of these GPUs and NVLink or a full mesh first, a DGX before others; None when there is none."""
    nodes = [node for node in map(load_node, node_names()) if node.accelerator == accelerator]
    if not nodes:
        return None
    return max(nodes, key=lambda n: (n.num_gpus > 1, n.name.startswith("dgx"), n.num_gpus, n.name))


@cache
def custom_node(accelerator: str, num_gpus: int, network_bytes_per_s: float | None = None) -> Node:
    """A node of ``num_gpus`` of the accelerator, with a network of ``network_bytes_per_s`` for the whole node, one direction.

    Links and host are the reference node's; without one, PCIe to the host (assumed). None = the reference's network per
    GPU.
    """
    gpu = load_accelerator(accelerator)
    reference = reference_node(gpu.name)
    inner = [link for link in reference.links if link.kind != "network"] if reference else []
    if not inner or max(link.span for link in inner) == 1:
        inner = [_pcie(gpu, num_gpus)]
    widest = max(range(len(inner)), key=lambda i: inner[i].span)
    links = [
        link.replaced(span=num_gpus) if i == widest and link.span < 72 else link
        for i, link in enumerate(inner)
        if i == widest or link.span <= num_gpus
    ]
    links = [link for link in links if link.span > 1]  # a node of one GPU has a network only
    network = next((link for link in reference.links if link.kind == "network"), None) if reference else None
    if network_bytes_per_s is not None:
        start = network or Link(name="network", kind="network", span=0, bytes_per_s=1.0, latency_s=1.5e-5)
        network = start.replaced(name="network", bytes_per_s=network_bytes_per_s / num_gpus)
    host = {
        name: getattr(reference, name)
        for name in ("num_cpu_cores", "host_memory_bytes", "local_storage_bytes", "host_link_bytes_per_s")
        if reference is not None
    }
    label = f"{num_gpus} x {gpu.name}" + (f", {network_bytes_per_s * 8e-9:g} Gbit/s" if network_bytes_per_s else "")
    return Node(name=label, accelerator=gpu.name, num_gpus=num_gpus, links=(*links, *((network,) if network else ())), **host)


def _pcie(gpu: Accelerator, num_gpus: int) -> Link:
    return Link(
        name="PCIe",
        kind="pcie",
        span=num_gpus,
        bytes_per_s=gpu.host_link_bytes_per_s,
        efficiency=ASSUMED_PCIE_EFFICIENCY,
        latency_s=2e-5,
    )
