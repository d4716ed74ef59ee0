"""Clusters that no profile describes: a known node type with another number of GPUs or another network."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.references import spelt
from planner.hardware.cluster import (
    BOX_GPUS,
    BOX_NETWORK_BYTES_PER_S,
    NODES,
    Accelerator,
    Cluster,
    Link,
    Node,
    cluster,
    load_accelerator,
    load_node,
    workstation,
)

ASSUMED_PCIE_EFFICIENCY = 0.6
"""Bus bandwidth over the wire's on GPUs without NVLink: 24 to 35 of 64 GB/s are measured on PCIe 5 GPUs."""


MAKERS = frozenset({"NVIDIA DGX", "NVIDIA HGX", "HGX", "AMD", "Intel", "Huawei"})
"""Providers whose nodes are the makers' own designs."""
LEAST_GBIT_PER_S = 0.1
MOST_GBIT_PER_S = 51_200.0
"""Of a node, that a scenario may ask for: 100 Mbit/s to 8 x 6.4 Tbit/s."""


def described_cluster(
    accelerator: str | None,
    node: str | Node | None,
    num_nodes: int | None,
    num_gpus: int | None,
    gpus_per_node: int | None,
    network_gbit_per_s: float | None,
) -> Cluster:
    """A cluster from what a scenario says of it: a node type or only an accelerator, and perhaps a network of its own.

    Without ``node``: the accelerator's reference node (``reference_node``) where the GPUs fill such nodes evenly, else nodes of
    up to eight with its links, as for GPUs on PCIe that one box holds and a cloud rents by fewer; a workstation of up to 8 GPUs
    where the catalog has no node.
    ``gpus_per_node`` builds the node with so many; ``network_gbit_per_s`` is the network of one node, one direction, all
    its GPUs together. Raises PlannerError for what does not fit together.
    """
    if network_gbit_per_s is not None:
        _check_network(network_gbit_per_s)
    if node is not None:
        if gpus_per_node is not None:
            raise PlannerError("cluster.gpus_per_node belongs to an accelerator; give it without cluster.node.")
        found = load_node(node) if isinstance(node, str) else node
    elif accelerator is not None:
        found = _node_of(load_accelerator(accelerator), num_nodes, num_gpus, gpus_per_node)
    else:
        raise PlannerError(
            "cluster: give a node type (see `planner hardware list`), e.g. dgx-a100-80gb, or an accelerator with num_gpus."
        )
    return cluster(_networked(found, network_gbit_per_s), num_nodes=num_nodes, num_gpus=num_gpus, accelerator=accelerator)


def _node_of(card: Accelerator, num_nodes: int | None, num_gpus: int | None, gpus_per_node: int | None) -> Node:
    reference = reference_node(card.name)
    if gpus_per_node is not None:
        whole = isinstance(gpus_per_node, int) and not isinstance(gpus_per_node, bool)
        if not whole or not 1 <= gpus_per_node <= MOST_GPUS_PER_NODE:
            raise PlannerError(
                "cluster.gpus_per_node = {0!r}: must be a whole number from 1 to {1}.", gpus_per_node, MOST_GPUS_PER_NODE
            )
        if reference is not None:
            return reference if gpus_per_node == reference.num_gpus else custom_node(card.name, gpus_per_node)
        return workstation(card, gpus_per_node)
    if reference is not None:
        if num_nodes is not None or not isinstance(num_gpus, int):
            return reference
        kept = _holds(reference, num_gpus) and not _fills_a_box(reference, num_gpus)
        return reference if kept else _nodes_of_eight(card, num_gpus)
    if not isinstance(num_gpus, int) or num_gpus < 1:
        return workstation(card, 1)
    if isinstance(num_nodes, int) and num_nodes > 0:
        return workstation(card, max(num_gpus // num_nodes, 1))
    box = min(num_gpus, BOX_GPUS)
    return workstation(card, box if num_gpus % -(-num_gpus // box) == 0 else _evenly(num_gpus))


def _evenly(num_gpus: int) -> int:
    """The most GPUs of a box that so many divide into."""
    return max(n for n in range(1, BOX_GPUS + 1) if num_gpus % n == 0)


def _holds(node: Node, num_gpus: int) -> bool:
    """Whether so many GPUs stand in such nodes: in one of them, or evenly in several that a network joins."""
    if num_gpus <= node.num_gpus:
        return True
    num_nodes = -(-num_gpus // node.num_gpus)
    return num_gpus % num_nodes == 0 and any(link.kind == "network" for link in node.links)


def _fills_a_box(node: Node, num_gpus: int) -> bool:
    """Whether a cloud rents smaller boxes than the one that so many GPUs on PCIe would stand in."""
    alike = node.provider not in MAKERS and all(link.kind in ("pcie", "network") for link in node.links)
    return alike and node.num_gpus < num_gpus <= BOX_GPUS


def chosen_node(accelerator: str | None, machine: Cluster) -> tuple[str, ...]:
    """Says that GPUs on PCIe, named without a node, were put into a cloud's: a person's own board may have other lanes."""
    node, card = machine.node, machine.accelerator
    alike = all(link.kind in ("pcie", "network") for link in node.links)
    rented = node.provider not in MAKERS and node.provider != "on-prem"
    if accelerator is None or not alike or not rented or node != reference_node(card.name):
        return ()
    own = f"workstation-{min(machine.num_gpus, BOX_GPUS)}x-{card.name}"
    return (
        Message(
            "no node was named: {0} stands in {1} of {2}; for a box of your own give {3}",
            card.name,
            node.name,
            node.provider,
            own,
        ),
    )


def _nodes_of_eight(card: Accelerator, num_gpus: int) -> Node:
    """The widest node of at most eight such GPUs that so many divide into, with the reference's links, a box's network where
    it has none."""
    reference = reference_node(card.name)
    wide = _evenly(num_gpus)
    joined = reference is not None and any(link.kind == "network" for link in reference.links)
    return custom_node(card.name, wide, None if joined or num_gpus <= wide else BOX_NETWORK_BYTES_PER_S)


MOST_GPUS_PER_NODE = 72


def _check_network(gbit_per_s: float) -> None:
    number = isinstance(gbit_per_s, int | float) and not isinstance(gbit_per_s, bool)
    if not number or not LEAST_GBIT_PER_S <= gbit_per_s <= MOST_GBIT_PER_S:
        raise PlannerError(
            "cluster.network_gbit_per_s = {0!r}: must be the Gbit/s of one node, {1:g} to {2:g}, e.g. 3200 for "
            "eight adapters of 400.",
            gbit_per_s,
            LEAST_GBIT_PER_S,
            MOST_GBIT_PER_S,
        )


def _networked(node: Node, gbit_per_s: float | None) -> Node:
    """The node with a network of so many Gbit/s for all its GPUs together."""
    if gbit_per_s is None:
        return node
    old = next((link for link in node.links if link.kind == "network"), None)
    start = old or Link(name="network", kind="network", span=0, bytes_per_s=1e9, latency_s=1.5e-5)
    link = start.replaced(name=f"network, {gbit_per_s:g} Gbit/s", bytes_per_s=gbit_per_s * 1e9 / 8 / node.num_gpus)
    return node.replaced(links=(*(x for x in node.links if x.kind != "network"), link))


@lru_cache(maxsize=1024)
def reference_node(accelerator: str) -> Node | None:
    """The profile with the most of these GPUs, a maker's own before a cloud's; None when there is none.

    A maker's box of several GPUs comes before all others: where there is one, clouds' nodes are not read.
    """
    stems, texts = list(NODES.mentioning(spelt(accelerator))), NODES.texts()
    best = _best_node([stem for stem in stems if any(maker in texts[stem] for maker in MAKERS)], accelerator)
    return best if best is not None and _rank(best)[:2] == (True, True) else _best_node(stems, accelerator)


def _best_node(stems: Iterable[str], accelerator: str) -> Node | None:
    return max((node for node in map(load_node, stems) if node.accelerator == accelerator), key=_rank, default=None)


def _rank(node: Node) -> tuple[bool, bool, int, str]:
    return node.num_gpus > 1, node.provider in MAKERS, node.num_gpus, node.name


def has_dgx(accelerator: str) -> bool:
    """Whether its reference node is a DGX; no node is built where no DGX mentions it."""
    if not any(stem.startswith("dgx") for stem in NODES.mentioning(spelt(accelerator))):
        return False
    node = reference_node(accelerator)
    return node is not None and node.name.startswith("dgx")


@lru_cache(maxsize=4096)
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
        start = network or Link(name="network", kind="network", span=0, bytes_per_s=1e9, latency_s=1.5e-5)
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
