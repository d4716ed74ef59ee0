"""The MoE layer alone, forward and forward + backward, by implementation: its share of the matrix-multiply ceiling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from kernels.case import DTYPES, Case, Work, relative_error
from kernels.faults import Skip
from kernels.moe_layer import Implementation, MoEConfig, MoELayer, grouped_mm_problem
from kernels.session import Session
from kernels.timing import Timing

FAMILY = "moe"


def cases(session: Session) -> Iterator[Case]:
    """(tokens, hidden, expert hidden, experts, top-k, shared experts), each implementation."""
    if session.cuda:
        sizes = [
            (8192, 2048, 1408, 64, 6, 2),
            (8192, 4096, 14336, 8, 2, 0),
            (8192, 1024, 4096, 8, 2, 1),
            (4096, 2048, 768, 128, 8, 0),
            (2048, 2048, 1024, 16, 1, 1),
        ]
    else:
        sizes = [(512, 256, 384, 8, 2, 1), (256, 128, 256, 16, 4, 0), (1024, 256, 512, 4, 1, 0)]
    for size in [_fitting(s, session) for s in sizes]:
        for implementation in ("grouped", "batched", "loop"):
            for direction in ("forward", "both"):
                yield _case(*size, implementation, direction, session.half)
    for size in [_fitting(s, session) for s in sizes if s[-1] and session.cuda]:  # claim L04 of the audit
        for direction in ("forward", "both"):
            yield _case(*size, "auto", direction, session.half, beside=True)
            yield _case(*size, "auto", direction, session.half)


Size = tuple[int, int, int, int, int, int]


def _fitting(size: Size, session: Session) -> Size:
    """The layer with experts so narrow that eight times its 16-bit weights fit: gradients, and another layer to check it by."""
    tokens, hidden, inner, experts, top_k, shared = size
    room = 0.7 * float(session.record["device"]["memory_bytes"]) if session.cuda else float("inf")
    while 8.0 * 2.0 * 3.0 * hidden * inner * (experts + shared) > room and inner % 128 == 0:
        inner //= 2
    return tokens, hidden, inner, experts, top_k, shared


def _case(
    tokens: int,
    hidden: int,
    inner: int,
    experts: int,
    top_k: int,
    shared: int,
    implementation: Implementation,
    direction: str,
    dtype: str,
    beside: bool = False,
) -> Case:
    capacity = 1.25 if implementation == "batched" else None

    def build(session: Session) -> Work:
        problem = grouped_mm_problem(session.device.type, DTYPES[dtype]) if implementation == "grouped" else ""
        if problem:
            raise Skip(f"grouped_mm: {problem}")
        config = MoEConfig(
            hidden_size=hidden,
            num_experts=experts,
            top_k=top_k,
            expert_hidden_size=inner,
            num_shared_experts=shared,
            capacity_factor=capacity,
            implementation=implementation,
            shared_stream=beside,
        )
        with torch.device(session.device):
            layer = MoELayer(config).to(DTYPES[dtype])
        x = torch.randn(tokens, hidden, device=session.device, dtype=DTYPES[dtype], requires_grad=True)
        gradient, pairs = torch.randn_like(x), tokens * top_k * (capacity or 1.0)
        useful = 6.0 * hidden * inner * (tokens * top_k + tokens * shared) + 2.0 * tokens * hidden * experts
        times = 1.0 if direction == "forward" else 3.0

        def forward() -> None:
            with torch.no_grad():
                layer(x)

        def both() -> None:
            y, loss = layer(x)
            torch.autograd.grad((y, loss), (x, *layer.parameters()), (gradient, torch.ones_like(loss)))

        def finish(timing: Timing) -> dict[str, Any]:
            return {"ceiling_share": _ceiling_s(session, pairs, tokens * shared, hidden, inner, times, dtype) / timing.median_s}

        return Work(
            run=forward if direction == "forward" else both,
            flops=times * useful,
            check=lambda: _check(layer, x),
            tolerance=3e-2,
            finish=finish,
        )

    shape = {
        "tokens": tokens,
        "hidden_size": hidden,
        "expert_ffn_hidden_size": inner,
        "num_experts": experts,
        "top_k": top_k,
        "num_shared_experts": shared,
        "capacity_factor": capacity,
    }
    name = f"{implementation} {direction}" + (", shared experts beside" if beside else "")
    return Case(family=FAMILY, name=name, shape=shape, dtype=dtype, build=build)


def _check(layer: MoELayer, x: torch.Tensor) -> float:
    """Output and gradients against the loop over experts, on some of the tokens: the largest relative error."""
    with torch.device(x.device):
        reference = MoELayer(replace(layer.config, implementation="loop")).to(x.dtype)
    reference.load_state_dict(layer.state_dict())
    found = []
    for module in (layer, reference):
        part = x[:256].detach().requires_grad_()
        y, _ = module(part)
        gradients = torch.autograd.grad(y, (part, module.experts.gate_up, module.experts.down), torch.ones_like(y))
        found.append((y, *(_sampled(g) for g in gradients)))
    return max(relative_error(a, b) for a, b in zip(*found, strict=True))


def _sampled(gradient: torch.Tensor) -> torch.Tensor:
    """Of a gradient of all experts' weights, 64 rows and columns of each expert: in float64 the whole would fill a small card."""
    if gradient.dim() < 3:
        return gradient
    rows, columns = (max(size // 64, 1) for size in gradient.shape[1:])
    return gradient[:, ::rows, ::columns].clone()


def _ceiling_s(session: Session, pairs: float, shared_tokens: float, hidden: int, inner: int, times: float, dtype: str) -> float:
    """Seconds that one large dense multiply would take for the same expert flops on this device: the layer's ceiling."""
    rows = max(int(pairs + shared_tokens), 64)
    kind: dict[str, Any] = {"device": session.device, "dtype": DTYPES[dtype]}
    x, w = torch.randn(rows, hidden, **kind), torch.randn(hidden, 2 * inner, **kind)
    timing = session.watch.time(lambda: x @ w, 0.05)
    return timing.median_s * 1.5 * times
