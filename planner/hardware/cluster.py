"""On what it runs: accelerators, nodes and clusters, read from ``hardware_profiles/``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from planner.common.data import PROFILES
from planner.common.errors import PlannerError, near
from planner.common.spec import Spec, read_table

Dtype = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4"]
Rate = Annotated[float, Field(gt=0)]
CollectiveName = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p"]


class CollectiveFit(BaseModel):
    """Time of a collective on one link: ``t = l + x / bus + c sqrt(l x / bus)``, l = latency + latency per peer (n - 1).

    ``x`` is the message times nccl-tests' bus factor (bytes). The square root carries the protocol change between
    small and large messages. Form and constants: fits to the NCCL tables of aiconfigurator-core 0.12.0 (Apache-2.0).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    latency_s: Annotated[float, Field(ge=0)]
    latency_s_per_peer: Annotated[float, Field(ge=0)] = 0.0
    bus_bytes_per_s: Rate
    sqrt_coefficient: Annotated[float, Field(ge=0)] = 0.0


class Link(Spec):
    """One level of the interconnect: it joins ``span`` neighbouring GPUs; levels are listed from near to far."""

    name: str
    kind: Literal["nvlink", "xgmi", "pcie", "network", "shared_memory"]
    span: Annotated[int, Field(ge=0, strict=True)]  # GPUs joined; 0 = the whole cluster
    bytes_per_s: Rate  # per GPU, one direction
    per_peer_bytes_per_s: Rate | None = None  # to any one peer, where GPUs are joined pairwise
    efficiency: Annotated[float, Field(gt=0, le=1.2)] = 0.8  # bus bandwidth reached / bytes_per_s
    latency_s: Annotated[float, Field(ge=0)] = 1e-5
    sqrt_coefficient: Annotated[float, Field(ge=0)] = 1.0
    collectives: dict[CollectiveName, CollectiveFit] = Field(default_factory=dict)
    captured: dict[CollectiveName, CollectiveFit] = Field(default_factory=dict)  # from CUDA graphs, where that was measured apart


class Accelerator(Spec):
    """One exact SKU. Peaks are dense, for the accumulate precision that training uses (fp32 for 16-bit operands)."""

    name: str
    vendor: str
    architecture: str
    aliases: tuple[str, ...] = ()
    peak_flops_per_s: dict[Dtype, Rate]  # a type that the hardware lacks is absent
    memory_bytes: Rate  # as the driver reports it
    usable_memory_bytes: Rate | None = None  # what the framework sees; None = memory_bytes less reserve
    memory_bandwidth_bytes_per_s: Rate
    host_link_bytes_per_s: Rate  # to the host, one direction
    l2_bytes: Annotated[float, Field(ge=0)] = 0.0
    num_sms: Annotated[int, Field(ge=0)] = 0
    tdp_w: Annotated[float, Field(ge=0)] = 0.0
    idle_w: Annotated[float, Field(ge=0)] = 0.0
    released: str = ""
    compute_capability: str = ""
    curves: str = "generic"  # file of kernel efficiency curves in hardware_profiles/measured/
    kernel_curves: dict[str, Any] | None = None  # the curves themselves, as a calibration writes them; before ``curves``
    notes: str = ""

    @model_validator(mode="before")
    @classmethod
    def _split_peaks(cls, data: Any) -> Any:
        """Peaks may carry their source too: ``[peak_flops_per_s] bf16 = { value, kind, source }``."""
        if not isinstance(data, dict) or not isinstance(data.get("peak_flops_per_s"), dict):
            return data
        peaks, sources = {}, dict(data.get("provenance", {}))
        for dtype, value in data["peak_flops_per_s"].items():
            if isinstance(value, dict) and "value" in value:
                peaks[dtype] = value["value"]
                sources[f"peak_flops_per_s.{dtype}"] = {k: v for k, v in value.items() if k != "value"}
            else:
                peaks[dtype] = value
        return {**data, "peak_flops_per_s": peaks, **({"provenance": sources} if sources else {})}

    def peak(self, dtype: str) -> float:
        """Dense peak (flop/s) for ``dtype``; PlannerError when the hardware has no such type."""
        if dtype in self.peak_flops_per_s:
            return self.peak_flops_per_s[dtype]
        have = ", ".join(self.peak_flops_per_s)
        raise PlannerError(
            f"job.precision: {self.name} has no {dtype} matrix units ({self.architecture}); it has {have}. "
            "Choose one of these, or another accelerator."
        )


class Node(Spec):
    """One server type: how many GPUs, which links join them, what the host brings."""

    name: str
    provider: str = ""
    accelerator: str
    aliases: tuple[str, ...] = ()
    num_gpus: Annotated[int, Field(gt=0, strict=True)]
    links: tuple[Link, ...]  # near to far; the last one is the network between nodes where there is one
    num_cpu_cores: Annotated[int, Field(ge=0)] = 0
    host_memory_bytes: Annotated[float, Field(ge=0)] = 0.0
    local_storage_bytes: Annotated[float, Field(ge=0)] = 0.0
    max_power_w: Annotated[float, Field(ge=0)] = 0.0
    host_link_bytes_per_s: Rate | None = None  # where the board gives a GPU fewer lanes than the card has
    gpus_per_host_link: Annotated[int, Field(gt=0, strict=True)] = 1  # GPUs behind one switch share its lanes to the host
    notes: str = ""

    @model_validator(mode="after")
    def _check(self) -> Node:
        spans = [link.span for link in self.links if link.span]
        if spans != sorted(spans):
            raise ValueError(f"links must be listed from near to far; their spans are {spans}")
        if self.num_gpus > 1 and not any(link.span >= self.num_gpus or link.span == 0 for link in self.links):
            raise ValueError(f"no link joins all {self.num_gpus} GPUs of the node; widest span is {max(spans, default=0)}")
        return self


class Cluster(Spec):
    """Nodes of one type. ``num_gpus`` may be fewer than the nodes hold."""

    node: Node
    accelerator: Accelerator
    num_nodes: Annotated[int, Field(gt=0, strict=True)] = 1
    num_gpus: Annotated[int, Field(gt=0, strict=True)]

    @property
    def name(self) -> str:
        """For people: "8 x A100-SXM4-80GB (dgx-a100-80gb)"."""
        return f"{self.num_gpus} x {self.accelerator.name} ({self.node.name})"


def host_link_rate(cluster: Cluster) -> float:
    """Bytes per second between one GPU and its host, one direction, when all GPUs of the node copy at once."""
    node = cluster.node
    sharing = min(node.gpus_per_host_link, node.num_gpus, cluster.num_gpus)
    return (node.host_link_bytes_per_s or cluster.accelerator.host_link_bytes_per_s) / sharing


@cache
def _index(folder: str) -> dict[str, Path]:
    return {p.stem: p for p in sorted((PROFILES / folder).glob("*.toml"))}


@cache
def _find(folder: str, what: str, name: str) -> Path:
    """The file of a profile: by its name, by an alias inside it, or by a path."""
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise PlannerError(f"{what} = {name!r}: no such file.")
        return Path(name)
    files = _index(folder)
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    if wanted in files:
        return files[wanted]
    for path in files.values():
        aliases = [str(a).lower().replace("_", "-").replace(" ", "-") for a in read_table(path).get("aliases", ())]
        if wanted in aliases:
            return path
    raise PlannerError(f"{what} = {name!r} is not in hardware_profiles/{folder}; {near(wanted, files)}")


def load_accelerator(name: str, field: str = "cluster.accelerator") -> Accelerator:
    """The accelerator of that name (or TOML path); an unknown name is an error in ``field`` that lists the near ones."""
    return _accelerator(_find("accelerators", field, name))


@cache
def _accelerator(path: Path) -> Accelerator:
    return Accelerator.build(read_table(path), str(path))


@cache
def load_node(name: str) -> Node:
    """The node type of that name (or TOML path)."""
    path = _find("nodes", "cluster.node", name)
    return Node.build(read_table(path), str(path))


def accelerator_names() -> list[str]:
    """All SKUs in ``hardware_profiles/accelerators``."""
    return list(_index("accelerators"))


def node_names() -> list[str]:
    """All node types in ``hardware_profiles/nodes``."""
    return list(_index("nodes"))


def cluster(
    node: str | Node,
    *,
    num_nodes: int | None = None,
    num_gpus: int | None = None,
    accelerator: str | Accelerator | None = None,
) -> Cluster:
    """Build a cluster from a node type and a number of nodes or GPUs.

    Raises PlannerError when the GPUs do not fill whole nodes (several nodes) or exceed the nodes.
    """
    node_type = load_node(node) if isinstance(node, str) else node
    if accelerator is None:
        accelerator = load_accelerator(node_type.accelerator, f"node {node_type.name}: accelerator")
    gpu = load_accelerator(accelerator) if isinstance(accelerator, str) else accelerator
    for field, value in (("num_nodes", num_nodes), ("num_gpus", num_gpus)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise PlannerError(f"cluster.{field} = {value!r}: must be a whole number of at least 1.")
    if num_nodes is None:
        num_nodes = 1 if num_gpus is None else -(-num_gpus // node_type.num_gpus)
    gpus = num_nodes * node_type.num_gpus if num_gpus is None else num_gpus
    if gpus > num_nodes * node_type.num_gpus:
        raise PlannerError(
            f"cluster.num_gpus = {gpus}: {num_nodes} x {node_type.name} hold {num_nodes * node_type.num_gpus}; "
            f"raise num_nodes to {-(-gpus // node_type.num_gpus)} or lower num_gpus."
        )
    if num_nodes > 1 and gpus % num_nodes:
        raise PlannerError(
            f"cluster.num_gpus = {gpus}: does not spread evenly over {num_nodes} nodes; use a multiple of {num_nodes}."
        )
    if num_nodes > 1 and not any(link.kind == "network" for link in node_type.links):
        raise PlannerError(
            f"cluster.num_nodes = {num_nodes}: {node_type.name} has no network link in its profile; "
            'add a [[links]] table with kind = "network" and span = 0, or use one node.'
        )
    if num_nodes > 1 and gpus < num_nodes * node_type.num_gpus:
        node_type = partly_used(node_type, gpus // num_nodes)
    return Cluster(node=node_type, accelerator=gpu, num_nodes=num_nodes, num_gpus=gpus)


def partly_used(node: Node, num_gpus: int) -> Node:
    """The node with only ``num_gpus`` of its GPUs in use: inner links join fewer, each gets more of the network.

    Never more than its own host link carries: the other cards of the node lie behind it.
    """
    lane = (
        node.host_link_bytes_per_s or load_accelerator(node.accelerator, f"node {node.name}: accelerator").host_link_bytes_per_s
    )
    links = tuple(
        link.replaced(bytes_per_s=max(min(link.bytes_per_s * node.num_gpus / num_gpus, lane), link.bytes_per_s))
        if link.kind == "network"
        else link.replaced(span=min(link.span, num_gpus))
        for link in node.links
        if link.kind == "network" or num_gpus > 1
    )
    return node.replaced(name=f"{node.name}, {num_gpus} of {node.num_gpus} GPUs", num_gpus=num_gpus, links=links)


def usable_bytes(cluster: Cluster) -> float:
    """Memory that a process can use: what the framework sees, else what the driver reports."""
    accelerator = cluster.accelerator
    return accelerator.usable_memory_bytes or accelerator.memory_bytes


def host_usable_bytes(cluster: Cluster) -> float:
    """Host memory for each GPU; infinite where the node's is not known."""
    return (cluster.node.host_memory_bytes or np.inf) / min(cluster.node.num_gpus, cluster.num_gpus)
