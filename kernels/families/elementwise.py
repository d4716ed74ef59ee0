"""Norms, SwiGLU, rotary positions, cross-entropy, softmax, embedding: memory-bound work, forward and forward + backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.case import DTYPES, Case, Work, relative_error
from kernels.session import Session
from kernels.transformer import RMSNorm, fused_norm, rotary_angles, rotate

FAMILY = "elementwise"


def cases(session: Session) -> Iterator[Case]:
    """(tokens, width); for cross-entropy the width is the vocabulary."""
    shapes = [(8192, 4096), (16384, 2048), (2048, 1024)] if session.cuda else [(512, 512), (1024, 256), (128, 128)]
    share = 4 if float(session.record["device"]["memory_bytes"]) < 30e9 else 1  # logits and their float64 reference must fit
    vocabularies = [(8192 // share, 32000), (4096 // share, 128256)] if session.cuda else [(512, 4096), (128, 8192)]
    for name in ("rmsnorm", "layernorm", "swiglu", "rotary", "residual", "embedding"):
        for shape in shapes:
            for direction in ("forward", "backward"):
                yield _case(name, *shape, direction, session.half)
    for shape in vocabularies:
        for direction in ("forward", "backward"):
            yield _case("cross_entropy", *shape, direction, session.half)


def _case(name: str, tokens: int, width: int, direction: str, dtype: str) -> Case:
    def build(session: Session) -> Work:
        inputs, run, reference, moved = _operator(name, tokens, width, session, DTYPES[dtype])
        size = torch.empty(0, dtype=DTYPES[dtype]).element_size()
        extra = {"fused": fused_norm(session.device.type)} if name == "rmsnorm" else {}

        def check() -> float:
            with torch.no_grad():
                return relative_error(run(), reference())

        if direction == "forward":
            return Work(run=run, bytes=moved * size, check=check, tolerance=2e-2, extra=extra, graph=True)
        out = run()
        gradient = torch.randn_like(out)

        def backward() -> None:
            torch.autograd.grad(out, inputs, gradient, retain_graph=True)

        return Work(run=backward, bytes=1.5 * moved * size, check=check, tolerance=2e-2, extra=extra, graph=True)

    shape = {"tokens": tokens, "width": width, "direction": direction}
    return Case(family=FAMILY, name=f"{name} {direction}", shape=shape, dtype=dtype, build=build)


Operator = tuple[list[Tensor], Callable[[], Tensor], Callable[[], Tensor], float]


def _operator(name: str, tokens: int, width: int, session: Session, dtype: torch.dtype) -> Operator:
    """(inputs with gradients, the work, its float64 reference, elements moved by a forward that reads and writes once)."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, device=session.device, dtype=dtype, requires_grad=True)

    elements = float(tokens * width)
    if name == "cross_entropy":
        return _cross_entropy(draw(tokens, width), elements)
    if name == "embedding":
        table, ids = draw(32000 if session.cuda else 4096, width), torch.randint(0, 4096, (tokens,), device=session.device)
        return [table], lambda: F.embedding(ids, table), lambda: table.double()[ids], 2.0 * elements
    x = draw(tokens, width)
    if name == "rmsnorm":
        norm = RMSNorm(width).to(session.device, dtype)
        return [x], lambda: norm(x), lambda: _rms(x.double()), 2.0 * elements
    if name == "layernorm":
        return [x], lambda: F.layer_norm(x, (width,)), lambda: F.layer_norm(x.double(), (width,)), 2.0 * elements
    y = draw(tokens, width)
    if name == "swiglu":
        return [x, y], lambda: F.silu(x) * y, lambda: F.silu(x.double()) * y.double(), 3.0 * elements
    if name == "residual":
        return [x, y], lambda: x + y, lambda: x.double() + y.double(), 3.0 * elements
    return _rotary(x, tokens, width, elements)


def _rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)


def _rotary(x: Tensor, tokens: int, width: int, elements: float) -> Operator:
    head = 64 if width % 64 == 0 else 32
    cos, sin = (a[:, None].to(x.dtype) for a in rotary_angles(tokens, head, x.device))

    def run() -> Tensor:
        return rotate(x.view(1, tokens, -1, head), cos, sin)

    def reference() -> Tensor:
        return rotate(x.double().view(1, tokens, -1, head), cos.double(), sin.double())

    return [x], run, reference, 2.0 * elements


def _cross_entropy(logits: Tensor, elements: float) -> Operator:
    labels = torch.randint(0, logits.shape[1], (logits.shape[0],), device=logits.device)

    def run() -> Tensor:
        return F.cross_entropy(logits.float(), labels)

    return [logits], run, lambda: F.cross_entropy(logits.double(), labels), elements
