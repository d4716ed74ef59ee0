"""AdamW as training uses it: on weights of one type, on fp32 master copies of 16-bit weights, or with states of 8 bits."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn

GROUP_ELEMENTS = 2**24
"""Weights updated together by MasterAdamW: bounds the fp32 copy of their gradients to 64 MiB, or one large weight."""


class Optimizer(Protocol):
    """What a training step needs of an optimizer."""

    def step(self) -> object: ...
    def zero_grad(self) -> None: ...


class MasterAdamW:
    """fp32 master weights and moments beside 16-bit weights (Micikevicius et al. 2018): 12 bytes per parameter more.

    Group by group: gradients cast to fp32, masters updated, weights overwritten; the temporary is one group's gradients.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        self.weights = list(parameters)
        self.groups: list[tuple[list[nn.Parameter], list[torch.Tensor], torch.optim.AdamW]] = []
        group: list[nn.Parameter] = []
        for weight in self.weights:
            if group and sum(w.numel() for w in group) + weight.numel() > GROUP_ELEMENTS:
                self._add(group, learning_rate)
                group = []
            group.append(weight)
        self._add(group, learning_rate)

    def _add(self, weights: list[nn.Parameter], learning_rate: float) -> None:
        masters = [w.detach().float() for w in weights]
        self.groups.append((weights, masters, torch.optim.AdamW(masters, lr=learning_rate, fused=True)))

    @torch.no_grad()
    def step(self) -> None:
        """Update all weights that have a gradient."""
        for weights, masters, optimizer in self.groups:
            pairs = [(w, m) for w, m in zip(weights, masters, strict=True) if w.grad is not None]
            if not pairs:
                continue
            for _, master in pairs:
                master.grad = torch.empty_like(master)
            torch._foreach_copy_([m.grad for _, m in pairs], [w.grad for w, _ in pairs])
            optimizer.step()
            torch._foreach_copy_([w for w, _ in pairs], [m for _, m in pairs])
            optimizer.zero_grad(set_to_none=True)

    def zero_grad(self) -> None:
        """Free the gradients."""
        for weight in self.weights:
            weight.grad = None


BLOCK = 256
"""Numbers that share a scale (Dettmers et al. 2022, section 2; bitsandbytes' default)."""
CHUNK_ELEMENTS = 2**22
"""Weights updated at a time by BlockwiseAdamW: bounds its fp32 temporaries, about eight of this size, to 128 MiB."""
BETAS, EPSILON, DECAY = (0.9, 0.999), 1e-8, 0.01
"""torch.optim.AdamW's defaults."""


def dynamic_map(signed: bool, device: torch.device | str = "cpu") -> torch.Tensor:
    """The 256 values of a dynamic 8-bit number, ascending: seven decades, each with twice the fraction steps of the one below.

    Source: Dettmers et al. 2022, 8-bit Optimizers via Block-wise Quantization, section 1.3 (dynamic tree quantization).
    """
    values = [0.0, 1.0]
    for decade in range(7):
        steps = 2 ** (decade + (0 if signed else 1))
        ends = torch.linspace(0.1, 1.0, steps + 1, dtype=torch.float64)
        middle = ((ends[:-1] + ends[1:]) / 2 * 10.0 ** (decade - 6)).tolist()
        values += [*middle, *((-x for x in middle) if signed else ())]
    return torch.tensor(sorted(values), dtype=torch.float32, device=device)


class BlockwiseState:
    """One moment of one weight: a byte per number and an fp32 scale, the largest magnitude, per block of 256.

    ``values``: what a byte stands for, ascending; ``zero``: the byte of 0.
    """

    def __init__(self, elements: int, values: torch.Tensor, zero: int) -> None:
        self.values = values
        self.borders = (self.values[1:] + self.values[:-1]) / 2
        self.codes = torch.full((-(-elements // BLOCK), BLOCK), zero, dtype=torch.uint8, device=values.device)
        self.scales = torch.zeros(self.codes.shape[0], 1, device=values.device)

    def read(self, rows: slice) -> torch.Tensor:
        """The blocks in fp32, (blocks, 256)."""
        return self.values.index_select(0, self.codes[rows].reshape(-1).int()).view(-1, BLOCK).mul_(self.scales[rows])

    def write(self, rows: slice, moment: torch.Tensor) -> None:
        """The nearest values of the blocks."""
        scale = moment.abs().amax(dim=1, keepdim=True)
        self.scales[rows] = scale
        self.codes[rows] = torch.bucketize(moment / scale.clamp_min(1e-30), self.borders, out_int32=True).to(torch.uint8)


class BlockwiseAdamW:
    """AdamW with both moments in 8 bits (Dettmers et al. 2022), in plain PyTorch: the memory of bitsandbytes' without its kernel.

    Chunk by chunk: moments to fp32, the update, moments back to 8 bits.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        self.weights, self.rate, self.steps = list(parameters), learning_rate, 0
        zeros = [int(torch.nonzero(dynamic_map(signed) == 0.0)) for signed in (True, False)]
        maps = {d: [dynamic_map(signed, d) for signed in (True, False)] for d in {w.device for w in self.weights}}
        self.states = [
            tuple(BlockwiseState(w.numel(), values, zero) for values, zero in zip(maps[w.device], zeros, strict=True))
            for w in self.weights
        ]

    @torch.no_grad()
    def step(self) -> None:
        """Update all weights that have a gradient."""
        self.steps += 1
        for weight, (first, second) in zip(self.weights, self.states, strict=True):
            if weight.grad is None:
                continue
            flat, gradient = weight.view(-1), weight.grad.reshape(-1)
            for begin in range(0, flat.numel(), CHUNK_ELEMENTS):
                end = min(begin + CHUNK_ELEMENTS, flat.numel())
                rows = slice(begin // BLOCK, -(-end // BLOCK))
                g = torch.zeros((rows.stop - rows.start) * BLOCK, device=flat.device)
                g[: end - begin] = gradient[begin:end]
                m, v = first.read(rows), second.read(rows)
                g = g.view(-1, BLOCK)
                m.mul_(BETAS[0]).add_(g, alpha=1.0 - BETAS[0])
                v.mul_(BETAS[1]).addcmul_(g, g, value=1.0 - BETAS[1])
                first.write(rows, m)
                second.write(rows, v)
                m.div_(1.0 - BETAS[0] ** self.steps)
                m.div_(v.div_(1.0 - BETAS[1] ** self.steps).sqrt_().add_(EPSILON))
                part = flat[begin:end]
                part.mul_(1.0 - self.rate * DECAY)
                part.sub_(m.view(-1)[: end - begin].to(part.dtype), alpha=self.rate)

    def zero_grad(self) -> None:
        """Free the gradients."""
        for weight in self.weights:
            weight.grad = None


def bitsandbytes() -> Any:
    """The library, where it is installed and works here; None otherwise."""
    try:
        return importlib.import_module("bitsandbytes")
    except Exception:  # it raises many kinds of errors where its binary does not fit the machine
        return None


def adam_8bit(parameters: Iterable[nn.Parameter], precision: str, learning_rate: float = 1e-4) -> Optimizer:
    """8-bit AdamW on weights of one type: bitsandbytes' kernel on a GPU that has it, else this module's own."""
    if precision in ("bf16", "fp16"):
        raise ValueError(f"precision = {precision!r}: 8-bit AdamW here updates the weights themselves; use bf16-pure or fp32")
    weights = list(parameters)
    library = bitsandbytes() if weights[0].is_cuda else None
    if library is not None:
        made: Optimizer = library.optim.AdamW8bit(weights, lr=learning_rate)
        return made
    return BlockwiseAdamW(weights, learning_rate)


def adamw(parameters: Iterable[nn.Parameter], precision: str, learning_rate: float = 1e-4) -> Optimizer:
    """AdamW in one fused kernel: with master weights for bf16 and fp16, plain for fp32, tf32 and bf16-pure."""
    if precision in ("bf16", "fp16"):
        return MasterAdamW(parameters, learning_rate)
    return torch.optim.AdamW(list(parameters), lr=learning_rate, fused=True)
