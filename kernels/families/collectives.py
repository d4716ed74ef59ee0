"""Collectives by message size, as nccl-tests count them: message bytes, bus bandwidth = message x factor / time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist

from kernels.case import Case, Work
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
    """1 KiB to 512 MiB on GPUs, to 16 MiB on CPUs; every second power of two."""
    for name in NAMES:
        for power in range(10, 30 if session.cuda else 25, 2):
            yield _case(name, 2**power, session.ranks)
        if session.cuda:
            yield _case(name, 2**29, session.ranks)


def _case(name: str, message: int, ranks: int) -> Case:
    def build(session: Session) -> Work:
        if ranks < 2:
            raise Skip("one rank: start with torchrun --nproc-per-node N -m kernels run ...")
        run, check = _operation(session, name, message // 4 // ranks * ranks, ranks)

        def finish(timing: Timing) -> dict[str, Any]:
            return {"ranks": ranks, "bus_bytes_per_s": message * bus_factor(name, ranks) / timing.median_s}

        inner = 20 if message < 2**22 else 5
        return Work(run=run, bytes=float(message), check=check, finish=finish, cold=False, inner=inner, tolerance=1e-5)

    return Case(family=FAMILY, name=name, shape={"bytes": message, "ranks": ranks}, dtype="fp32", build=build)


def _operation(session: Session, name: str, count: int, ranks: int) -> tuple[Callable[[], Any], Callable[[], float]]:
    """The collective on ``count`` fp32 elements, and how far its result is from what it must be."""
    rank = session.rank
    whole = torch.full((count,), float(rank + 1), device=session.device)
    part = torch.full((count // ranks,), float(rank + 1), device=session.device)
    every = torch.arange(1, ranks + 1, device=session.device, dtype=torch.float32)
    out = torch.empty_like(whole)
    if name == "all_reduce":

        def reduced() -> float:
            box = whole.clone()
            dist.all_reduce(box)
            return _error(box[:1], every.sum()[None])

        # in place, so a sum would overflow when repeated; a maximum moves and combines the same bytes
        return lambda: dist.all_reduce(whole, op=dist.ReduceOp.MAX), reduced
    # torch 2.13 renamed both; the old names warn there, the new ones are absent before
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    if name == "all_gather":
        run: Callable[[], Any] = lambda: gather(out, part)  # noqa: E731
        return run, lambda: (run(), _error(out.view(ranks, -1)[:, 0], every))[1]
    if name == "reduce_scatter":
        run = lambda: scatter(part, whole)  # noqa: E731
        return run, lambda: (run(), _error(part[:1], every.sum()[None]))[1]
    if name == "all_to_all":
        run = lambda: dist.all_to_all_single(out, whole)  # noqa: E731
        return run, lambda: (run(), _error(out.view(ranks, -1)[:, 0], every))[1]
    return _pairs(rank, ranks, whole, out)


def _pairs(rank: int, ranks: int, whole: torch.Tensor, out: torch.Tensor) -> tuple[Callable[[], Any], Callable[[], float]]:
    """Even ranks send to the next odd one; with an odd number of ranks the last one waits."""
    peer = rank ^ 1

    def run() -> None:
        if peer >= ranks:
            return
        operation = dist.P2POp(dist.isend, whole, peer) if rank % 2 == 0 else dist.P2POp(dist.irecv, out, peer)
        for request in dist.batch_isend_irecv([operation]):
            request.wait()

    def check() -> float:
        run()
        return abs(float(out[0]) - (peer + 1)) if rank % 2 else 0.0

    return run, check


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())
