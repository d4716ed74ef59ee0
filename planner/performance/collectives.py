"""Seconds of one collective over a group of ranks, on the links that the group spans."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from planner.common.arrays import Array, Number
from planner.hardware.cluster import Cluster, CollectiveFit, CollectiveName, Link
from planner.operators.routing import distinct_places


def bus_factor(collective: CollectiveName, ranks: Number) -> Number:
    """Bytes that cross a rank's link per message byte, as nccl-tests define bus bandwidth.

    2 (n-1)/n for all-reduce, (n-1)/n for all-gather, reduce-scatter and all-to-all, 1 for p2p.
    Source: NVIDIA nccl-tests, doc/PERFORMANCE.md.
    """
    if collective == "p2p":
        return np.where(np.asarray(ranks) > 1, 1.0, 0.0)
    share = (ranks - 1.0) / np.maximum(ranks, 1.0)
    return 2.0 * share if collective == "all_reduce" else share


class Exchange(NamedTuple):
    """An all-to-all whose kernels write into the other GPUs' memory themselves, over a network."""

    rate: float
    """Part of a port's rate that it reaches."""
    latency_s: float
    """Seconds for each doubling of the nodes."""


def _fit(link: Link, collective: CollectiveName, captured: bool = False, exchange: Exchange | None = None) -> CollectiveFit:
    """The measured fit of this link, or one made from its rate, its reached fraction and its latency."""
    if captured and collective in link.captured:
        return link.captured[collective]
    if exchange is not None and collective == "all_to_all" and link.kind == "network":
        rate = link.bytes_per_s * exchange.rate
        return CollectiveFit(latency_s=exchange.latency_s, bus_bytes_per_s=rate, sqrt_coefficient=0.0)
    if collective in link.collectives:
        return link.collectives[collective]
    bandwidth = link.bytes_per_s * link.efficiency
    return CollectiveFit(latency_s=link.latency_s, bus_bytes_per_s=bandwidth, sqrt_coefficient=link.sqrt_coefficient)


def collective_s(
    cluster: Cluster,
    collective: CollectiveName,
    message_bytes: Number,
    ranks: Number,
    stride: Number,
    captured: bool = False,
    exchange: Exchange | None = None,
) -> Array:
    """Seconds of ``collective`` on ``message_bytes`` over ``ranks`` ranks that lie ``stride`` GPUs apart.

    The narrowest link that joins the whole group rules. A ring (or tree) over several nodes crosses a node's edge once,
    with all of the group's local ranks feeding their own network ports: bus bandwidth is the port's rate times the
    ranks per node, never above the inner link's. All-to-all sends each rank's share for other nodes through its own
    port. Each: ``t = latency + x / bus + c sqrt(latency x / bus)``. Message: bytes as nccl-tests count them (per-rank
    buffer for all-reduce, all-to-all and p2p; the whole output or input for all-gather and reduce-scatter).
    Groups of one rank, and empty messages, take no time. ``captured``: launched from CUDA graphs, as serving engines do.
    ``exchange``: how an all-to-all crosses a network whose kernels do so themselves; None = as NCCL's.
    """
    ranks, stride, message = np.asarray(ranks, float), np.asarray(stride, float), np.asarray(message_bytes, float)
    same = ranks.shape == stride.shape == message.shape
    result = np.zeros(ranks.shape if same else np.broadcast_shapes(ranks.shape, stride.shape, message.shape))
    done = (ranks <= 1) | (message <= 0)
    if done.all():
        return result
    x = message * bus_factor(collective, ranks)
    span = ranks * stride
    inner: CollectiveFit | None = None
    reach = 1.0
    for link in cluster.node.links:
        reach_now = float(link.span) if link.span else float("inf")
        fits = ~done & (span <= reach_now)
        inside = cluster.num_gpus <= reach_now
        if not np.all(inside):
            # a group that does not divide its nodes straddles their edge somewhere, and the slowest group rules; where a link
            # joins several nodes (NVL72: 18 trays of 4), jobs leave some of them out rather than cut a group, where as many
            # racks as the GPUs take up hold all groups whole
            whole = np.floor(reach_now / np.maximum(span, 1.0)) * np.ceil(cluster.num_gpus / reach_now) * span
            trays = (span % cluster.node.num_gpus == 0) & (reach_now > cluster.node.num_gpus) & (whole >= cluster.num_gpus)
            fits = fits & (inside | trays | (reach_now % np.maximum(span, 1.0) == 0))
        fit = _fit(link, collective, captured, exchange)
        if fits.any():
            result = np.where(fits, _link_s(link, collective, x, ranks, stride, reach, inner, fit), result)
            done = done | fits
            if done.all():
                break
        inner, reach = fit, reach_now
    if not done.all():
        # a cluster without a network link is refused when it is built; a group cannot outgrow it
        raise AssertionError(f"no link of {cluster.node.name} spans {float(span.max()):.0f} GPUs")
    return result


def token_exchange_s(
    cluster: Cluster,
    token_bytes: Number,
    copies: float,
    groups: tuple[int, int],
    ranks: Number,
    stride: Number,
    captured: bool = False,
    in_turn: float = 0.0,
    load: Callable[[Array], Array] | None = None,
) -> Array:
    """Seconds in which every rank sends its tokens, ``token_bytes``, each to ``copies`` experts spread over ``ranks`` ranks.

    A token crosses the network once for each other node that has experts of it, and a node's inner links once for each rank
    (DeepSeek-V3 report, section 3.2.2: DeepEP; NVIDIA's HybridEP likewise). Both legs run as a pipeline: the slower counts.
    Those are ``routing.distinct_places`` of ``ranks`` and of nodes, under limited ``groups`` and ``in_turn``.

    ``token_bytes`` are the fullest rank's, ``load(ranks)`` times the mean. What comes over the network is spread over the ports
    of a node: the fullest node counts there, ``load(nodes)``, with every token once at most: ``groups`` limit the nodes of a
    token, not the tokens of a node.
    """
    ranks, stride, message = (np.asarray(x, dtype=float) for x in (ranks, stride, token_bytes))
    inner = cluster.node.links[0].span or cluster.num_gpus
    for link in cluster.node.links:
        if link.kind != "network":
            inner = link.span or cluster.num_gpus
    local = np.clip(np.floor(inner / stride), 1.0, ranks)
    nodes = np.maximum(ranks / local, 1.0)
    at_ranks, at_nodes = (distinct_places(places, groups, copies, in_turn) for places in (ranks, nodes))
    # as nccl-tests count an all-to-all: what a rank sends if its own share counts too
    inside = collective_s(cluster, "all_to_all", message * at_ranks, local, stride, captured)
    if load is not None:
        there = np.ceil(nodes)
        at_nodes = np.minimum(at_nodes * load(there), there) / load(ranks)
    across = collective_s(cluster, "all_to_all", message * at_nodes, nodes, stride * local, captured)
    return np.asarray(np.maximum(inside, across))


def _link_s(
    link: Link,
    collective: CollectiveName,
    x: Array,
    ranks: Array,
    stride: Array,
    reach: float,
    inner: CollectiveFit | None,
    fit: CollectiveFit,
) -> Array:
    """Seconds where ``link`` joins the group; ``reach`` GPUs share the next nearer link, whose fit is ``inner``."""
    near = np.maximum(np.floor(reach / stride), 1.0)
    # of a group no larger than what the nearer link joins, and yet here, the nodes' edge leaves the rest of a node on one side
    local = np.where(near < ranks, near, np.maximum(near % ranks, 1.0)) if inner is not None else np.minimum(near, ranks)
    bus: Number = fit.bus_bytes_per_s
    if link.per_peer_bytes_per_s is not None:
        bus = np.minimum(bus, link.per_peer_bytes_per_s * link.efficiency * np.maximum(ranks - 1.0, 1.0))
    if inner is not None and collective == "all_to_all":
        x = x * (ranks - local) / np.maximum(ranks - 1.0, 1.0)
    elif inner is not None and collective != "p2p":
        bus = np.minimum(bus * local, inner.bus_bytes_per_s)
    wire = x / bus
    latency: Number = fit.latency_s
    if inner is not None and collective in ("all_gather", "reduce_scatter"):
        # NCCL has rings only for these: a piece passes every node in turn; inside a node it moves on while the next one crosses
        latency = fit.latency_s * np.maximum(ranks / local, 2.0) + np.where(local > 1, inner.latency_s, 0.0)
    elif inner is not None:
        latency = fit.latency_s * np.log2(np.maximum(ranks / local, 2.0))
    latency = latency + fit.latency_s_per_peer * np.maximum(ranks - 1.0, 0.0)
    return np.asarray(latency + wire + fit.sqrt_coefficient * np.sqrt(latency * wire))
