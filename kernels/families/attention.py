"""Attention core: fused (flash) and separate kernels, forward and backward, by length, heads and head_dim."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from kernels.case import DTYPES, Case, Work, relative_error
from kernels.probes import fused_attention
from kernels.session import Session
from kernels.transformer import eager, flash

FAMILY = "attention"
Shape = tuple[int, int, int, int, int]
Core = Callable[[Tensor, Tensor, Tensor, bool], Tensor]


def cases(session: Session) -> Iterator[Case]:
    """(batch, length, heads, key-value heads, head_dim), causal unless said."""
    if session.cuda:
        shapes = [
            (16, 1024, 32, 32, 128),
            (8, 2048, 32, 8, 128),
            (4, 4096, 32, 8, 128),
            (2, 8192, 32, 32, 128),
            (1, 16384, 32, 8, 128),
            (32, 1024, 12, 12, 64),
            (8, 4096, 12, 12, 64),
            (4, 512, 16, 16, 128),
        ]
    else:
        shapes = [(4, 128, 4, 4, 64), (2, 256, 8, 8, 32), (2, 512, 4, 2, 64), (1, 1024, 8, 8, 64), (8, 64, 4, 4, 32)]
    for kernel in ("flash", "eager"):
        chosen = shapes if kernel == "flash" else [s for s in shapes if s[1] <= (2048 if session.cuda else 512)][:4]
        for shape in chosen if kernel == "flash" else [_fitting(s, session) for s in chosen]:
            for direction in ("forward", "backward"):
                yield _case(*shape, True, kernel, direction, session.half)
    for direction in ("forward", "backward"):
        yield _case(*shapes[0], False, "flash", direction, session.half)


def _fitting(shape: Shape, session: Session) -> Shape:
    """The shape with as many sequences as their score matrices, about 16 bytes an element, find room for on a GPU."""
    b, s, heads, kv, d = shape
    if not session.cuda:
        return shape
    most = 0.4 * float(session.record["device"]["memory_bytes"]) / (16.0 * heads * s * s)
    return max(min(b, int(most)), 1), s, heads, kv, d


def _case(b: int, s: int, heads: int, kv: int, d: int, causal: bool, kernel: str, direction: str, dtype: str) -> Case:
    def build(session: Session) -> Work:
        def draw(n: int, gradient: bool = direction == "backward") -> Tensor:
            x = torch.randn(b, s, n, d, device=session.device, dtype=DTYPES[dtype])
            return x.transpose(1, 2).requires_grad_(gradient)

        q, k, v = draw(heads), draw(kv), draw(kv)
        core = flash if kernel == "flash" else eager
        width = q.element_size()
        pairs = s * (s + 1) / 2 if causal and kernel == "flash" else s * s
        flops = 4.0 * b * heads * pairs * d
        moved = float(width * b * s * (2 * heads + 2 * kv) * d)
        attend = _attend(core, causal, kernel)

        def check() -> float:
            with torch.no_grad():
                part = [t[:1, :1, : min(s, 1024)].double() for t in (q, k, v)]
                return relative_error(attend(q, k, v)[:1, :1, : min(s, 1024)], eager(*part, causal))

        checked = check if causal else None
        if direction == "forward":
            return Work(run=lambda: attend(q, k, v), flops=flops, bytes=moved, check=checked, tolerance=2e-2, graph=True)
        out = attend(q, k, v)
        gradient = torch.randn_like(out)

        def backward() -> None:
            with _kernels(kernel):
                torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)

        times = 2.5 if kernel == "flash" else 2.0
        return Work(run=backward, flops=times * flops, bytes=2.0 * moved, check=checked, tolerance=2e-2, graph=True)

    shape = {"batch": b, "seq_len": s, "heads": heads, "kv_heads": kv, "head_dim": d, "causal": causal}
    return Case(family=FAMILY, name=f"{kernel} {direction}", shape=shape, dtype=dtype, build=build)


def _kernels(kernel: str) -> AbstractContextManager[None]:
    return fused_attention() if kernel == "flash" else nullcontext()


def _attend(core: Core, causal: bool, kernel: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with _kernels(kernel):
            return core(q, k, v, causal)

    return run
