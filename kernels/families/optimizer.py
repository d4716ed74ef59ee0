"""The optimizer step alone, on as many weights as a model of that size has."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from kernels.case import DTYPES, Case, Work, relative_error
from kernels.optimizers import MasterAdamW, adam_8bit, adamw, bitsandbytes
from kernels.session import Session

FAMILY = "optimizer"
RATE = 0.05
"""Learning rate, large so that one step shows in bf16 too."""
BYTES = {"fp32": 28.0, "tf32": 28.0, "bf16-pure": 14.0, "bf16": 40.0, "fp16": 40.0}
"""Moved per parameter: gradient read, weight and two moments read and written; with master weights also the gradient's cast
(2 + 4), the copy's write and the masters' second read (4 + 2)."""

BYTES_8BIT = {"fp32": 16.0, "bf16-pure": 10.0}
"""As above with moments of one byte each: gradient read, weight and two moments read and written."""


def cases(session: Session) -> Iterator[Case]:
    """(parameters, number of tensors) by precision."""
    most = min(10, int(float(session.record["device"]["memory_bytes"]) * 0.5 / 16.0 / 1e8))  # 16 bytes for each parameter
    sizes = [(10**8, 100), (max(most, 2) * 10**8, 200)] if session.cuda else [(10**6, 20), (10**7, 60), (3 * 10**7, 60)]
    precisions = [session.half, f"{session.half}-pure"] if session.half == "bf16" else [session.half]
    for precision in [*precisions, *(["fp32"] if session.cuda else [])]:
        for size in sizes:
            yield _case(*size, precision)
    yield _case(*sizes[0], f"{session.half}-pure" if session.half == "bf16" else "fp32", "adamw-8bit")


def _case(parameters: int, tensors: int, precision: str, name: str = "adamw") -> Case:
    dtype = precision.removesuffix("-pure")

    def build(session: Session) -> Work:
        size = parameters // tensors
        kernel = "bitsandbytes" if session.cuda and bitsandbytes() is not None else "plain"
        weights = [nn.Parameter(torch.randn(size, device=session.device, dtype=DTYPES[dtype])) for _ in range(tensors)]
        optimizer = (adam_8bit if name == "adamw-8bit" else adamw)(weights, precision, RATE)

        def gradients() -> None:
            for weight in weights:
                if weight.grad is None:
                    weight.grad = torch.randn_like(weight)

        def check() -> float:
            """One step against the formula: the first step of AdamW moves each weight by the learning rate against its sign."""
            gradients()
            before, gradient = weights[0].detach().double().clone(), weights[0].grad
            assert gradient is not None
            moved = -RATE * (gradient.double().sign() + 1e-2 * before)  # torch's default weight decay is 0.01
            optimizer.step()
            after = optimizer.groups[0][1][0] if isinstance(optimizer, MasterAdamW) else weights[0].detach()
            return relative_error(after.double() - before, moved)

        return Work(
            run=optimizer.step,
            prepare=gradients,
            bytes=(BYTES_8BIT if name == "adamw-8bit" else BYTES)[precision] * size * tensors,
            check=check,
            tolerance=0.1 if precision == "bf16-pure" else 1e-3,
            extra={"kernel": kernel} if name == "adamw-8bit" else {},
        )

    shape = {"parameters": parameters, "tensors": tensors, "precision": precision}
    return Case(family=FAMILY, name=name, shape=shape, dtype=dtype, build=build)
