"""Collectives by message size, as nccl-tests count them: message bytes, bus bandwidth = message x factor / time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist

from kernels import distributed
from kernels.case import DTYPES, Case, Work
from kernels.faults import Skip
from kernels.session import Session
from kernels.timing import Timing

FAMILY = "collectives"
NAMES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")


def bus_factor(name: str, ranks: int) -> float:
    """Bytes over a rank's link per message byte (nccl-tests, doc/PERFORMANCE.md)."""
    if name == "p2p":
        return 1.0
    return (2.0 if name == "all_reduce" else 1.0) * (ranks - 1) / ranks


def cases(session: Session) -> Iterator[Case]:
    """1 KiB to 512 MiB on GPUs, to 4 MiB on CPUs: the largest, the smallest, and so on inwards, each collective in turn.

    So a short run has both ends of every line. On several machines over three groups of ranks: all of them (``world``),
    those of one machine (``node``), one of each machine (``across``). The experts' all-to-all runs in 16 bit too.
    """
    for message in inwards([2**power for power in range(10, 30 if session.cuda else 23, 2)] + [2**29] * session.cuda):
        for span in SPANS if several_nodes(session.ranks) else ("world",):
            size = len(members(0, session.ranks, distributed.ranks_per_node(), span))
            for name in NAMES:
                yield _case(name, message, size, span, "fp32")
            yield _case("all_to_all", message, size, span, session.half if session.cuda else "bf16")


SPANS = ("world", "node", "across")


def several_nodes(ranks: int) -> bool:
    """Whether the ranks lie on several machines, equally many on each and more than one."""
    here = distributed.ranks_per_node()
    return 1 < here < ranks and ranks % here == 0


def inwards(sizes: list[int]) -> list[int]:
    """Largest, smallest, second largest, second smallest ...

    >>> inwards([1, 2, 3, 4])
    [4, 1, 3, 2]
    """
    ordered = sorted(sizes)
    return [ordered[-1 - i // 2] if i % 2 == 0 else ordered[i // 2] for i in range(len(ordered))]


def members(rank: int, ranks: int, per_node: int, span: str) -> list[int]:
    """The ranks that share a group with ``rank``: all, those of its machine, or the same place of every machine.

    >>> members(5, 8, 4, "node"), members(5, 8, 4, "across")
    ([4, 5, 6, 7], [1, 5])
    """
    if span == "node":
        first = rank // per_node * per_node
        return list(range(first, first + per_node))
    return list(range(rank % per_node, ranks, per_node)) if span == "across" else list(range(ranks))


def _group(session: Session, span: str) -> Any:
    """This rank's process group of that kind, made once: every rank takes part in making every group."""
    if span == "world":
        return None
    if span not in session.groups:
        per_node = distributed.ranks_per_node()
        every = {tuple(members(rank, session.ranks, per_node, span)) for rank in range(session.ranks)}
        made = {ranks: dist.new_group(list(ranks)) for ranks in sorted(every)}
        session.groups[span] = made[tuple(members(session.rank, session.ranks, per_node, span))]
    return session.groups[span]


def _case(name: str, message: int, ranks: int, span: str, dtype: str) -> Case:
    def build(session: Session) -> Work:
        if ranks < 2:
            raise Skip("one rank: start with torchrun --nproc-per-node N -m kernels run ...")
        width = torch.empty(0, dtype=DTYPES[dtype]).element_size()
        group = Group(session, span, dtype)
        run, check = _operation(group, name, message // width // ranks * ranks)

        def finish(timing: Timing) -> dict[str, Any]:
            return {"ranks": ranks, "bus_bytes_per_s": message * bus_factor(name, ranks) / timing.median_s}

        inner = 20 if message < 2**22 else 5
        return Work(run=run, bytes=float(message), check=check, finish=finish, cold=False, inner=inner, tolerance=1e-5)

    shape = {"bytes": message, "ranks": ranks, "span": span}
    return Case(family=FAMILY, name=name, shape=shape, dtype=dtype, build=build)


class Group:
    """The ranks of one measurement, this one's place among them, and the type of the message."""

    def __init__(self, session: Session, span: str, dtype: str) -> None:
        self.members = members(session.rank, session.ranks, distributed.ranks_per_node(), span)
        self.handle, self.device, self.dtype = _group(session, span), session.device, DTYPES[dtype]
        self.rank, self.ranks = self.members.index(session.rank), len(self.members)


def _operation(group: Group, name: str, count: int) -> tuple[Callable[[], Any], Callable[[], float]]:
    """The collective on ``count`` elements, and how far its result is from what it must be."""
    ranks, handle = group.ranks, group.handle
    kind: dict[str, Any] = {"device": group.device, "dtype": group.dtype}
    whole, part = (torch.full((n,), float(group.rank + 1), **kind) for n in (count, count // ranks))
    every = torch.arange(1, ranks + 1, **kind)
    out = torch.empty_like(whole)
    if name == "all_reduce":

        def reduced() -> float:
            box = whole.clone()
            dist.all_reduce(box, group=handle)
            return _error(box[:1], every.sum()[None])

        # in place, so a sum would overflow when repeated; a maximum moves and combines the same bytes
        return lambda: dist.all_reduce(whole, op=dist.ReduceOp.MAX, group=handle), reduced
    # torch 2.13 renamed both; the old names warn there, the new ones are absent before
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    if name == "all_gather":
        run: Callable[[], Any] = lambda: gather(out, part, group=handle)  # noqa: E731
        return run, lambda: (run(), _error(out.view(ranks, -1)[:, 0], every))[1]
    if name == "reduce_scatter":
        run = lambda: scatter(part, whole, group=handle)  # noqa: E731
        return run, lambda: (run(), _error(part[:1], every.sum()[None]))[1]
    if name == "all_to_all":
        run = lambda: dist.all_to_all_single(out, whole, group=handle)  # noqa: E731
        return run, lambda: (run(), _error(out.view(ranks, -1)[:, 0], every))[1]
    return _pairs(group, whole, out)


def _pairs(group: Group, whole: torch.Tensor, out: torch.Tensor) -> tuple[Callable[[], Any], Callable[[], float]]:
    """Even ranks send to the next odd one; with an odd number of ranks the last one waits."""
    rank, ranks = group.rank, group.ranks
    peer = rank ^ 1

    def run() -> None:
        if peer >= ranks:
            return
        other = group.members[peer]
        operation = dist.P2POp(dist.isend, whole, other) if rank % 2 == 0 else dist.P2POp(dist.irecv, out, other)
        for request in dist.batch_isend_irecv([operation]):
            request.wait()

    def check() -> float:
        run()
        return abs(float(out[0]) - (peer + 1)) if rank % 2 else 0.0

    return run, check


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.float() - expected.float()).abs().max() / expected.float().abs().max())
