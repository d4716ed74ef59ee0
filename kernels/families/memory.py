"""Memory bandwidth: copy, triad, reduction, fill; and copies between host and device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from kernels.case import DTYPES, Case, Work, relative_error
from kernels.faults import Skip
from kernels.session import Session

FAMILY = "memory"
COPIES = "copies"


def cases(session: Session) -> Iterator[Case]:
    """By bytes of one operand, small to large: small ones show the latency, large ones the bandwidth."""
    sizes = [2**p for p in ((16, 20, 23, 26, 28, 30, 31) if session.cuda else (14, 18, 20, 22, 24, 26, 27))]
    for name in ("copy", "triad", "reduction", "fill"):
        for size in sizes if name in ("copy", "triad") else sizes[-2:]:
            yield _case(name, size, session.half)


def _case(name: str, size: int, dtype: str) -> Case:
    def build(session: Session) -> Work:
        kind: dict[str, Any] = {"device": session.device, "dtype": DTYPES[dtype]}
        n = size // torch.empty(0, dtype=DTYPES[dtype]).element_size()
        x, y = torch.randn(n, **kind), torch.randn(n, **kind)
        out = torch.empty_like(x)
        if name == "copy":
            return Work(
                run=lambda: out.copy_(x),
                bytes=2.0 * size,
                check=lambda: relative_error(out.copy_(x)[-4096:], x[-4096:]),
                graph=True,
            )
        if name == "triad":
            expected = x[:4096].double() + 3.0 * y[:4096].double()
            return Work(
                run=lambda: torch.add(x, y, alpha=3.0, out=out),
                bytes=3.0 * size,
                flops=2.0 * n,
                check=lambda: relative_error(torch.add(x, y, alpha=3.0, out=out)[:4096], expected),
                tolerance=2e-2,
                graph=True,
            )
        if name == "reduction":
            return Work(run=lambda: torch.sum(x), bytes=float(size), flops=float(n), graph=True)
        return Work(run=lambda: out.fill_(1.0), bytes=float(size), graph=True)

    return Case(family=FAMILY, name=name, shape={"bytes": size}, dtype=dtype, build=build)


def copies(session: Session) -> Iterator[Case]:
    """Host to device and back, pinned and pageable."""
    for name in ("host to device", "device to host"):
        for pinned in (True, False):
            for size in (2**16, 2**22, 2**26, 2**28):
                yield _copy(name, size, pinned)


def _copy(name: str, size: int, pinned: bool) -> Case:
    def build(session: Session) -> Work:
        if not session.cuda:
            raise Skip("a CPU is its own host")
        host = torch.randint(1, 255, (size,), dtype=torch.uint8)
        host = host.pin_memory() if pinned else host
        device = torch.randint(1, 255, (size,), dtype=torch.uint8, device=session.device)
        target, source = (device, host) if name == "host to device" else (host, device)

        def check() -> float:
            target.copy_(source)
            return 0.0 if torch.equal(target.cpu(), source.cpu()) else 1.0

        return Work(run=lambda: target.copy_(source, non_blocking=True), bytes=float(size), check=check, cold=False)

    return Case(family=COPIES, name=name, shape={"bytes": size, "pinned": pinned}, dtype="uint8", build=build)
