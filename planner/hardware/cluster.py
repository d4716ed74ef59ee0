"""On what it runs: accelerators, nodes and clusters, read from ``hardware_profiles/``."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from planner.common.data import PROFILES
from planner.common.errors import PlannerError, as_text, near
from planner.common.files import State, state_of
from planner.common.message import Message
from planner.common.references import Catalog, spelt
from planner.common.spec import Spec, read_table
from planner.hardware.measured_kernels import kernel
from planner.hardware.spellings import same_name

ACCELERATORS = Catalog(PROFILES / "accelerators", "hardware_profiles/accelerators")
NODES = Catalog(PROFILES / "nodes", "hardware_profiles/nodes")
CATALOGS = {"accelerators": ACCELERATORS, "nodes": NODES}

Dtype = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4"]
Rate = Annotated[float, Field(gt=0)]
Memory = Annotated[float, Field(gt=0, le=1e15)]
"""Bytes of one accelerator; the largest hold less than 10^12."""
SLOWEST, FASTEST = 1e6, 1e15
"""Bytes per second that a link or a memory carries: from a slow home line to far beyond every GPU's own memory."""


def _plausible(value: float) -> float:
    """A rate in bytes per second; 400 is most likely meant as 400 GB/s."""
    if not SLOWEST <= value <= FASTEST:
        raise ValueError(Message("must be from {0:.0e} to {1:.0e} bytes per second; 400 GB/s are 400e9", SLOWEST, FASTEST))
    return value


BytesPerSecond = Annotated[float, AfterValidator(_plausible)]
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
    kind: Literal["nvlink", "xgmi", "fabric", "pcie", "network", "shared_memory"]  # fabric: any other between accelerators
    span: Annotated[int, Field(ge=0, strict=True)]  # GPUs joined; 0 = the whole cluster
    bytes_per_s: BytesPerSecond  # per GPU, one direction
    rdma: bool = False  # a network whose ports GPUs command themselves: InfiniBand or RoCE; no EFA, no TCP
    per_peer_bytes_per_s: BytesPerSecond | None = None  # to any one peer, where GPUs are joined pairwise
    efficiency: Annotated[float, Field(gt=0, le=1.2)] = 0.8  # bus bandwidth reached / bytes_per_s
    latency_s: Annotated[float, Field(ge=0)] = 1e-5
    sqrt_coefficient: Annotated[float, Field(ge=0)] = 1.0
    collectives: dict[CollectiveName, CollectiveFit] = Field(default_factory=dict)
    captured: dict[CollectiveName, CollectiveFit] = Field(default_factory=dict)  # from CUDA graphs, where that was measured apart


class Accelerator(Spec):
    """One exact SKU. Peaks are dense, for the accumulate precision that training uses (fp32 for 16-bit operands)."""

    name: str
    vendor: str
    architecture: Annotated[str, Field(min_length=1)]
    aliases: tuple[str, ...] = ()
    peak_flops_per_s: dict[Dtype, Rate]  # a type that the hardware lacks is absent
    memory_bytes: Memory  # as the driver reports it
    usable_memory_bytes: Memory | None = None  # what the framework sees; None = memory_bytes less reserve
    memory_bandwidth_bytes_per_s: BytesPerSecond
    host_link_bytes_per_s: BytesPerSecond  # to the host, one direction
    l2_bytes: Annotated[float, Field(ge=0)] = 0.0
    num_sms: Annotated[int, Field(ge=0)] = 0
    tdp_w: Annotated[float, Field(ge=0)] = 0.0
    idle_w: Annotated[float, Field(ge=0)] = 0.0
    released: str = ""
    compute_capability: str = ""
    curves: str = "generic"  # file of kernel efficiency curves in hardware_profiles/measured/
    kernel_curves: dict[str, Any] | None = None  # the curves themselves, as a calibration writes them; before ``curves``
    measured_kernels: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)  # seconds of products by shape
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

    @field_validator("measured_kernels")
    @classmethod
    def _readable(cls, value: dict[str, float]) -> dict[str, float]:
        for name in value:
            kernel(name)
        return value

    def peak(self, dtype: str) -> float:
        """Dense peak (flop/s) for ``dtype``; PlannerError when the hardware has no such type."""
        as_text(dtype, "dtype")
        if dtype in self.peak_flops_per_s:
            return self.peak_flops_per_s[dtype]
        have = ", ".join(self.peak_flops_per_s)
        raise PlannerError(
            "job.precision: {0} has no {1} matrix units ({2}); it has {3}. Choose one of these, or another accelerator.",
            self.name,
            dtype,
            self.architecture,
            have,
        )


class Software(Protocol):
    """A training framework or a serving engine: its name and the vendors that it runs on."""

    @property
    def name(self) -> str: ...
    @property
    def vendors(self) -> frozenset[str]: ...


VENDORS = frozenset({"NVIDIA", "AMD", "Intel", "AWS", "Google", "Huawei", "Apple"})
"""Whose accelerators the catalog holds; software says which of them it runs on."""


def runs_on(card: Accelerator, asked: Software) -> bool:
    """Whether software runs on an accelerator; a CPU and one's own are never refused."""
    return card.vendor not in VENDORS or card.vendor in asked.vendors


def require_vendor(card: Accelerator, asked: Software, field: str, load: Callable[[str], Software], names: Iterable[str]) -> None:
    """Raise PlannerError where software does not run on a vendor's accelerators; it names what does."""
    if runs_on(card, asked):
        return
    others = ", ".join(name for name in names if card.vendor in load(name).vendors)
    if not others and field.startswith("serving"):
        raise PlannerError("no serving engine in the catalog runs on {0}'s {1}; choose another GPU.", card.vendor, card.name)
    if not others:
        raise PlannerError(
            "no training framework in the catalog runs on {0}'s {1}; choose another GPU (`planner serve` also knows those that "
            "only serve).",
            card.vendor,
            card.name,
        )
    raise PlannerError("{0} = {1!r} does not run on {2}'s {3}; use {4}.", field, asked.name, card.vendor, card.name, others)


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
    host_link_bytes_per_s: BytesPerSecond | None = None  # where the board gives a GPU fewer lanes than the card has
    gpus_per_host_link: Annotated[int, Field(gt=0, strict=True)] = 1  # GPUs behind one switch share its lanes to the host
    named_after_domain: Annotated[bool, Field(strict=True)] = (
        False  # its name means all that one link joins: NVL72, 18 nodes of 4
    )
    domain_aliases: tuple[str, ...] = ()  # of its aliases, those that mean all that one link joins: u-p6e-gb200x72
    notes: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        spans = [link.span for link in self.links if link.span]
        if spans != sorted(spans):
            raise ValueError(Message("links must be listed from near to far; their spans are {0}", spans))
        if self.num_gpus > 1 and not any(link.span >= self.num_gpus or link.span == 0 for link in self.links):
            raise ValueError(
                Message("no link joins all {0} GPUs of the node; widest span is {1}", self.num_gpus, max(spans, default=0))
            )
        unknown = [name for name in self.domain_aliases if name not in self.aliases]
        if unknown:
            raise ValueError(Message("domain_aliases: {0} is none of its aliases; name it there, too", unknown[0]))
        uneven = max(spans, default=0) <= self.num_gpus or max(spans) % self.num_gpus
        if (self.named_after_domain or self.domain_aliases) and uneven:
            raise ValueError(
                Message(
                    "named_after_domain: the widest link joins {0} GPUs, which are not several whole nodes of {1}; leave it out",
                    max(spans, default=0),
                    self.num_gpus,
                )
            )
        return self

    @property
    def domain_names(self) -> tuple[str, ...]:
        """Its names that mean all that its widest link joins."""
        return (*((self.name,) if self.named_after_domain else ()), *self.domain_aliases)

    @property
    def nodes_per_domain(self) -> int:
        """Nodes that its widest link joins, where one of its names means all of these; else one."""
        return max(link.span for link in self.links) // self.num_gpus if self.domain_names else 1

    def nodes_meant(self, name: str) -> int:
        """Nodes that one of a name of it after --on means: all that its widest link joins where it is named after them."""
        one = not self.named_after_domain and spelt(name) not in map(spelt, self.domain_aliases)
        return 1 if one else self.nodes_per_domain


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

    def summary(self) -> dict[str, Any]:
        """Names and numbers for JSON."""
        named = {"name": self.name, "node": self.node.name, "accelerator": self.accelerator.name}
        return {**named, "num_nodes": self.num_nodes, "num_gpus": self.num_gpus}


HOST_LINK_FRACTION = 0.78
"""Of the lanes' rate, that copies of pinned memory reach, published: 25 of 32 GB/s on an A100 and 12 of 16 on a V100, as BaM
measured (ZaidQureshi/bam#54), 24.7 of 32 on an RTX 4090 (efeslab/fiddler#7)."""


def host_copy_rate(node: Node, accelerator: Accelerator) -> float:
    """Bytes per second of copies between one GPU and its host, one direction: HOST_LINK_FRACTION of what a data sheet says; a
    rate that was measured, or given without a source, is that of copies."""
    spec = node if node.host_link_bytes_per_s else accelerator
    known = spec.provenance.get("host_link_bytes_per_s")
    lanes = known is not None and known.kind in ("datasheet", "assumed")
    return (spec.host_link_bytes_per_s or 0.0) * (HOST_LINK_FRACTION if lanes else 1.0)


def host_link_rate(cluster: Cluster) -> float:
    """``host_copy_rate`` when all GPUs of the node copy at once."""
    node = cluster.node
    here = gpus_of_host(cluster)
    sharing = min(node.gpus_per_host_link, here) if isinstance(here, int) else np.minimum(node.gpus_per_host_link, here)
    return host_copy_rate(node, cluster.accelerator) / sharing


def gpus_of_host(cluster: Cluster) -> Any:
    """GPUs of one node that work; a column where clusters of several sizes are evaluated together."""
    if isinstance(cluster.num_gpus, int):
        return min(cluster.node.num_gpus, cluster.num_gpus)
    return np.minimum(cluster.node.num_gpus, cluster.num_gpus)


@lru_cache(maxsize=1024)  # names that people type
def _named(folder: str, name: str) -> Path | None:
    """The catalog's file of a profile, by its name or by an alias inside it; None where there is none.

    Clouds put dots into the names of their machines (p6-b300.48xlarge), files have hyphens there.
    """
    catalog, wanted = CATALOGS[folder], spelt(name)
    files = catalog.files()
    for written in (wanted, wanted.replace(".", "-")):
        if written in files:
            return files[written]
    for stem in catalog.mentioning(f'"{wanted}"'):
        if wanted in (spelt(str(alias)) for alias in catalog.table(stem).get("aliases", ())):
            return files[stem]
    return None


def is_asked_for(folder: str, name: str) -> bool:
    """Whether a name is a path, one of the catalog, or one that is known to have no profile; near names are not looked for."""
    if name.endswith(".toml") or _named(folder, name) is not None:
        return True
    return _without_profile(name) is not None


def _find(folder: str, what: str, name: str) -> Path:
    """The file of a profile: by its name, by an alias inside it, or by a path."""
    if name.endswith(".toml"):
        if not os.path.isfile(name):
            raise PlannerError("{0} = {1!r}: no such file.", what, name)
        return Path(name)
    found = _named(folder, name)
    if found is not None:
        return found
    files, wanted = CATALOGS[folder].files(), spelt(name)
    known = _without_profile(name)
    if known is not None:
        raise PlannerError(
            "{0} = {1!r} is known but has no profile: {2}. Write one from {3} (docs/guide/calibrate.md), or choose another.",
            what,
            name,
            known["reason"],
            ", ".join(known["near"]) or "a measurement",
            code="no_profile",
            field=what,
            value=name,
        )
    raise PlannerError("{0} = {1!r} is not in hardware_profiles/{2}; {3}.", what, name, folder, near(wanted, files))


@lru_cache(maxsize=2)
def known_names(kind: Literal["known", "lender"]) -> tuple[dict[str, Any], ...]:
    """Machines that people ask for and that have no profile, or services that lend some."""
    return tuple(read_table(PROFILES / "known.toml")[kind])


@lru_cache(maxsize=1024)
def _without_profile(name: str) -> dict[str, Any] | None:
    """What is known of a machine that people ask for and that has no profile."""
    return next((known for known in known_names("known") if any(same_name(name, other) for other in known["names"])), None)


@lru_cache(maxsize=1024)
def named(folder: str) -> tuple[tuple[str, tuple[str, ...], float], ...]:
    """Stem, aliases and memory (bytes; 0 where none is stated) of every profile of a folder, from its text: none is built.

    A node states no memory of its GPUs.
    """
    found = []
    texts = CATALOGS[folder].texts()
    for stem, text in texts.items():
        aliases = re.search(r"^aliases = (\[.*\])$", text, flags=re.MULTILINE)
        listed = tuple(json.loads(aliases[1])) if aliases else ()  # a list of strings is the same in TOML and JSON
        found.append((stem, listed, _memory_stated(text, texts) if folder == "accelerators" else 0.0))
    return tuple(found)


def _memory_stated(text: str, texts: Mapping[str, str]) -> float:
    """The memory (bytes) that the text of a profile states, itself or by reference; 0 where none does."""
    own = re.search(r"^memory_bytes = \{ value = ([\d.e+]+)", text, flags=re.MULTILINE)
    if own:
        return float(own[1])
    other = re.search(r'^memory_bytes = \{ same_as = "([^"]+)"', text, flags=re.MULTILINE)
    other = other or re.search(r'^base = "([^"]+)"', text, flags=re.MULTILINE)
    return _memory_stated(texts[other[1]], texts) if other else 0.0


def load_accelerator(name: str, field: str = "cluster.accelerator") -> Accelerator:
    """The accelerator of that name (or TOML path); an unknown name is an error in ``field`` that lists the near ones."""
    return _accelerator(_find("accelerators", as_text(field, "field"), as_text(name, field)), ACCELERATORS.state(name))


@lru_cache(maxsize=1024)
def _accelerator(path: Path, state: tuple[State, ...]) -> Accelerator:
    return Accelerator.build(ACCELERATORS.table(_name(path)), str(path))


def _name(path: Path) -> str:
    """What a catalog calls a file: its stem in the catalog's folder, its path elsewhere."""
    return path.stem if path.parent.parent == PROFILES else str(path)


def load_node(name: str) -> Node:
    """The node type of that name (or TOML path), or ``workstation-4x-NAME``: so many GPUs of that name in one box."""
    return _node(as_text(name, "cluster.node"), NODES.state(name))


@lru_cache(maxsize=1024)
def _node(name: str, state: tuple[State, ...]) -> Node:
    box = re.fullmatch(r"workstation-(\d+)x-(.+)", name.lower())
    if box and name.lower() not in NODES.files():
        return workstation(load_accelerator(box[2], "cluster.node"), int(box[1]))
    path = _find("nodes", "cluster.node", name)
    table = NODES.table(_name(path))
    return Node.build({**table, "links": _linked(table.get("links", []), str(path))}, str(path))


def _linked(links: Any, where: str) -> Any:
    """The links of a node, references followed; what is no list is left to the spec, which says so."""
    return [_link(link, where) for link in links] if isinstance(links, list | tuple) else links


def _link(link: Any, where: str) -> Any:
    """A link that says ``same_as`` is that node's first link of its kind, with what is stated here in its place."""
    if not isinstance(link, dict) or "same_as" not in link:
        return link
    other = NODES.path(str(link["same_as"]), f"{where}: links.same_as")
    found = next((x for x in _links(other, state_of(str(other))) if x["kind"] == link.get("kind", "nvlink")), None)
    if found is None:
        raise PlannerError(
            "{0}: links.same_as = {1!r}: that node has no link of kind {2}.", where, other.stem, link.get("kind", "nvlink")
        )
    return {**_link(found, str(other)), **{k: v for k, v in link.items() if k != "same_as"}}


@lru_cache(maxsize=1024)
def _links(path: Path, state: State) -> tuple[Any, ...]:
    """The links of a node as they are written: several nodes have those of one."""
    return tuple(read_table(path)["links"])


BOX_GPUS = 8
"""The most GPUs of one box."""
BOX_NETWORK_BYTES_PER_S = 1.25e9
"""Of a box that nobody described: 10 Gbit/s Ethernet."""
HOST_SHARE = 8.0 / 3.0
"""Host memory over the memory of its GPUs, where nobody says: assumed, 64 GiB for a GPU of 24."""
LEAST_HOST_BYTES = 32 * 2.0**30
"""Of a desktop."""


def workstation(card: Accelerator, num_gpus: int) -> Node:
    """A box of ``num_gpus`` GPUs on PCIe, assumed throughout: what its board gives each GPU, usual Ethernet and host memory.

    One GPU has all its lanes; two share those of a desktop board; from three on the board is a workstation's or a
    server's. GeForce drivers deny peer-to-peer: copies bounce through host memory (20 of 32 GB/s on RTX 4090, half of 13.2
    on RTX 3070). Raises PlannerError beyond 8 GPUs.
    """
    if not 1 <= num_gpus <= BOX_GPUS:
        raise PlannerError("cluster.node: a workstation of {0} GPUs: must hold 1 to {1}; use several boxes.", num_gpus, BOX_GPUS)
    lanes = card.host_link_bytes_per_s * (0.5 if num_gpus == 2 else 1.0)
    bounces = card.aliases and any(alias.startswith("GeForce") for alias in card.aliases)
    source = "a box that nobody described: planner/hardware/cluster.py, workstation"
    links = [_assumed_link("PCIe", "pcie", num_gpus, lanes, 0.5 if bounces else 0.6, 3e-5 if bounces else 2e-5, source)]
    network = _assumed_link("Ethernet, 10 Gbit/s", "network", 0, BOX_NETWORK_BYTES_PER_S / num_gpus, 0.8, 4e-5, source)
    return Node.build(
        {
            "name": f"workstation-{num_gpus}x-{card.name}",
            "provider": "on-prem",
            "accelerator": card.name,
            "num_gpus": num_gpus,
            "links": [*(links if num_gpus > 1 else ()), network],
            "host_memory_bytes": {"value": usual_host_bytes(card, num_gpus), "kind": "assumed", "source": source},
            "host_link_bytes_per_s": {"value": lanes, "kind": "assumed", "source": source},
        },
        "workstation",
    )


def _assumed_link(
    name: str, kind: str, span: int, rate: float, efficiency: float, latency_s: float, source: str
) -> dict[str, Any]:
    numbers = {"bytes_per_s": rate, "efficiency": efficiency, "latency_s": latency_s}
    stated = {field: {"value": value, "kind": "assumed", "source": source} for field, value in numbers.items()}
    return {"name": name, "kind": kind, "span": span, **stated}


def accelerator_names() -> list[str]:
    """All SKUs in ``hardware_profiles/accelerators``."""
    return ACCELERATORS.names()


def node_names() -> list[str]:
    """All node types in ``hardware_profiles/nodes``."""
    return NODES.names()


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
    node_type = node if isinstance(node, Node) else load_node(node)
    if accelerator is None:
        accelerator = load_accelerator(node_type.accelerator, f"node {node_type.name}: accelerator")
    gpu = accelerator if isinstance(accelerator, Accelerator) else load_accelerator(accelerator)
    for field, value in (("cluster.num_nodes", num_nodes), ("cluster.num_gpus", num_gpus)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise PlannerError("{0} = {1!r}: must be a whole number of at least 1.", field, value)
    if num_nodes is None:
        num_nodes = 1 if num_gpus is None else -(-num_gpus // node_type.num_gpus)
    gpus = num_nodes * node_type.num_gpus if num_gpus is None else num_gpus
    if gpus > num_nodes * node_type.num_gpus:
        raise PlannerError(
            "cluster.num_gpus = {0}: {1} x {2} hold {3}; raise num_nodes to {4} or lower num_gpus.",
            gpus,
            num_nodes,
            node_type.name,
            num_nodes * node_type.num_gpus,
            -(-gpus // node_type.num_gpus),
        )
    if num_nodes > 1 and gpus % num_nodes:
        raise PlannerError(
            "cluster.num_gpus = {0}: does not spread evenly over {1} nodes; use a multiple of {2}.", gpus, num_nodes, num_nodes
        )
    if num_nodes > 1 and not any(link.kind == "network" for link in node_type.links):
        raise PlannerError(
            "cluster.num_nodes = {0}: {1} has no network link in its profile; add a [[links]] table with kind = "
            '"network" and span = 0, or use one node.',
            num_nodes,
            node_type.name,
        )
    if num_nodes > 1 and gpus < num_nodes * node_type.num_gpus:
        node_type = partly_used(node_type, gpus // num_nodes, gpu)
    return Cluster.build({"node": node_type, "accelerator": gpu, "num_nodes": num_nodes, "num_gpus": gpus}, "cluster")


def cluster_notes(machine: Cluster) -> tuple[str, ...]:
    """A warning where the GPUs do not fit one node and what joins the nodes is a slow network."""
    network = machine.node.links[-1] if machine.node.links else None
    if machine.num_nodes == 1 or network is None or network.kind != "network":
        return ()
    per_node = network.bytes_per_s * machine.node.num_gpus
    if network.bytes_per_s >= SLOW_NETWORK_BYTES_PER_S:
        return ()
    return (
        Message(
            "warning: {0} GPUs are {1} boxes of {2}, joined by {3} ({4:g} Gbit/s a box): exchanges between boxes may "
            "take most of the time",
            machine.num_gpus,
            machine.num_nodes,
            machine.node.name,
            network.name,
            per_node * 8e-09,
        ),
    )


SLOW_NETWORK_BYTES_PER_S = 2.5e9
"""Of one GPU: below 20 Gbit/s the exchange between nodes is the first thing to look at."""


def partly_used(node: Node, num_gpus: int, card: Accelerator) -> Node:
    """The node with only ``num_gpus`` of its GPUs in use: inner links join fewer, each gets more of the network.

    Never more than its own host link carries: the other GPUs of the node lie behind it.
    """
    lane = node.host_link_bytes_per_s or card.host_link_bytes_per_s
    links = tuple(
        link.replaced(bytes_per_s=max(min(link.bytes_per_s * node.num_gpus / num_gpus, lane), link.bytes_per_s))
        if link.kind == "network"
        else link.replaced(span=min(link.span, num_gpus))
        for link in node.links
        if link.kind == "network" or num_gpus > 1
    )
    name = f"{node.name}, {num_gpus} of {node.num_gpus} GPUs"
    return node.replaced(name=name, num_gpus=num_gpus, links=links, named_after_domain=False)


def usable_bytes(cluster: Cluster) -> float:
    """Memory that a process can use: what the framework sees, else what the driver reports."""
    accelerator = cluster.accelerator
    return accelerator.usable_memory_bytes or accelerator.memory_bytes


def host_usable_bytes(cluster: Cluster) -> float:
    """Host memory for each GPU; where the node's is not known, what is usual."""
    node = cluster.node
    room: float = (node.host_memory_bytes or usual_host_bytes(cluster.accelerator, node.num_gpus)) / gpus_of_host(cluster)
    return room


def usual_host_bytes(card: Accelerator, num_gpus: int) -> float:
    """Host memory of a box that nobody described: HOST_SHARE of what its GPUs hold, and no less than 32 GiB.

    Of the nodes in hardware_profiles/ whose host memory is known the median is 2.3 times, of the largest class of cloud nodes
    with RTX GPUs 2.7.
    """
    return max(HOST_SHARE * num_gpus * card.memory_bytes, LEAST_HOST_BYTES)
