"""Matrix multiply: (m, k) x (k, n) over layer shapes, cubes, few rows, short inner sizes, and the backward layouts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kernels import probes
from kernels.case import DTYPES, Case, Work, relative_error
from kernels.faults import Skip
from kernels.session import Session

FAMILY = "gemm"
TOLERANCE = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 2e-2, "fp16": 5e-3}


def cases(session: Session) -> Iterator[Case]:
    """What was asked for, then layer shapes in the type of training; a shorter list in the other types; then everything else."""
    main = session.half
    for dtype, layout, groups, m, n, k in session.products:
        if not groups:
            yield _case(m, n, k, layout, dtype)
    yield from (_case(*shape, main) for shape in _layers(session))
    for dtype in [d for d in ("bf16", "fp16", "tf32", "fp32") if d != main and (session.cuda or d == "bf16")]:
        yield from (_case(*shape, dtype) for shape in _few(session))
    if session.cuda:
        yield from (_fp8_case(m, n, k) for m, n, k, _ in (*_few(session), *_layers(session)[6:30]))
    yield from (_case(*shape, main) for shape in (*_cubes(session), *_thin(session)))
    yield from (_case(*shape, main) for shape in _backward(session))


def _layers(session: Session) -> list[tuple[int, int, int, str]]:
    """Forward shapes of transformer layers: (tokens, out, in)."""
    if session.cuda:
        widths, tokens = (768, 2048, 4096, 8192), (2048, 8192, 16384)
    else:
        widths, tokens = (128, 256, 512, 768), (128, 512, 1024)
    found = []
    for h in widths:
        for m in tokens:
            inner = -(-8 * h // 3 // 64) * 64
            found += [(m, h, h, "nt"), (m, inner, h, "nt"), (m, h, inner, "nt")]
    vocabulary = 32000 if session.cuda else 4096
    return [*found, *((m, vocabulary, h, "nt") for h in widths[:2] for m in tokens[:2])]


def _few(session: Session) -> list[tuple[int, int, int, str]]:
    return [(8192, 4096, 4096, "nt"), (4096, 8192, 2048, "nt")] if session.cuda else [(512, 512, 512, "nt")]


def _cubes(session: Session) -> list[tuple[int, int, int, str]]:
    sizes = (256, 512, 1024, 2048, 4096, 8192, 16384) if session.cuda else (64, 128, 256, 512, 1024)
    return [(s, s, s, "nt") for s in sizes]


def _thin(session: Session) -> list[tuple[int, int, int, str]]:
    """Few rows (decoding, small experts), short inner sizes (scores, low rank)."""
    if session.cuda:
        rows = [(m, n, k, "nt") for m in (1, 4, 16, 64, 128, 256) for n, k in ((4096, 4096), (14336, 4096))]
        return rows + [(8192, 8192, k, "nt") for k in (16, 64, 128, 512)]
    return [(m, 512, 512, "nt") for m in (1, 4, 16, 64)] + [(1024, 1024, k, "nt") for k in (8, 32, 64)]


def _backward(session: Session) -> list[tuple[int, int, int, str]]:
    """The same linear layers' gradients: dx = dy W (nn), dW = dy' x (tn)."""
    if session.cuda:
        return [
            (8192, 4096, 4096, "nn"),
            (4096, 4096, 8192, "tn"),
            (4096, 4096, 16384, "tn"),
            (16384, 2048, 8192, "nn"),
            (2048, 8192, 16384, "tn"),
            (32000, 2048, 8192, "tn"),
        ]
    found = []
    for h, inner in ((256, 704), (512, 1408)):
        for m in (256, 1024):
            found += [(m, h, inner, "nn"), (inner, h, m, "tn"), (h, h, m, "tn")]
    return [*found, (4096, 256, 512, "tn")]


def _case(m: int, n: int, k: int, layout: str, dtype: str) -> Case:
    def build(session: Session) -> Work:
        a, b = operands(session, m, n, k, layout, dtype)
        width = a.element_size()
        return Work(
            run=lambda: torch.matmul(a, b),
            flops=2.0 * m * n * k,
            bytes=float(width * (m * k + k * n + m * n)),
            check=lambda: check(a, b),
            tolerance=TOLERANCE[dtype],
            graph=True,
        )

    return Case(family=FAMILY, name="matmul", shape={"m": m, "n": n, "k": k, "layout": layout}, dtype=dtype, build=build)


def _fp8_case(m: int, n: int, k: int) -> Case:
    """torch._scaled_mm with scales per tensor, bf16 result; nothing is quantized while it is timed."""

    def build(session: Session) -> Work:
        problem = str(probes.found("cuda", DTYPES[session.half])["fp8"])
        if problem:
            raise Skip(f"fp8: {problem}")
        a, b = (torch.randn(*size, device=session.device).to(torch.float8_e4m3fn) for size in ((m, k), (n, k)))
        one = torch.ones((), device=session.device)

        def error() -> float:
            return relative_error(probes.scaled_mm(a, b.t(), one)[:64, :64], a[:64].double() @ b[:64].double().t())

        return Work(
            run=lambda: probes.scaled_mm(a, b.t(), one),
            flops=2.0 * m * n * k,
            bytes=float(m * k + k * n + 2 * m * n),
            check=error,
            tolerance=2e-2,
            graph=True,
        )

    return Case(family=FAMILY, name="scaled_mm", shape={"m": m, "n": n, "k": k, "layout": "nt"}, dtype="fp8", build=build)


def operands(session: Session, m: int, n: int, k: int, layout: str, dtype: str) -> tuple[Tensor, Tensor]:
    """(m, k) and (k, n) as views: layout nt is x W' of a linear layer, nn its input gradient, tn its weight gradient."""
    kind: dict[str, Any] = {"device": session.device, "dtype": DTYPES[dtype]}
    a = torch.randn(k, m, **kind).t() if layout[0] == "t" else torch.randn(m, k, **kind)
    b = torch.randn(n, k, **kind).t() if layout[1] == "t" else torch.randn(k, n, **kind)
    return a, b


def check(a: Tensor, b: Tensor, rows: int = 64) -> float:
    """Relative error of some rows and columns against float64."""
    return relative_error(torch.matmul(a, b)[:rows, :rows], a[:rows].double() @ b[:, :rows].double())
