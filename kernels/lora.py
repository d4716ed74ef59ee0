"""Low-rank adapters on a frozen model (Hu et al. 2021): y = x W' + (alpha / r) x A' B', A (r, inputs), B (outputs, r)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.moe_layer import SwiGLU
from kernels.transformer import Attention, Transformer

SCALE = 2.0
"""alpha / r, as most recipes choose; it costs nothing."""


class LoRALinear(nn.Module):
    """A frozen linear layer with an adapter beside it; B begins at zero, so that nothing changes at first."""

    def __init__(self, frozen: nn.Linear, rank: int) -> None:
        super().__init__()
        self.frozen = frozen
        kind = {"device": frozen.weight.device, "dtype": frozen.weight.dtype}
        self.a = nn.Parameter(torch.randn(rank, frozen.in_features, **kind) * 0.02)
        self.b = nn.Parameter(torch.zeros(frozen.out_features, rank, **kind))

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x) + F.linear(F.linear(x, self.a), self.b) * SCALE


def add_adapters(model: Transformer, rank: int) -> None:
    """Freeze the model, and put an adapter beside every linear layer of its blocks but routers and routed experts."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in list(model.modules()):
        if isinstance(module, Attention | SwiGLU):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(module, name, LoRALinear(child, rank))
