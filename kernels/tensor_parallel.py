"""A dense decoder over several ranks, as Megatron cuts it (Shoeybi et al. 2019): heads, inner width and vocabulary by columns.

Each rank holds 1 / n of the heads, of the feed-forward's width and of the vocabulary, and whole norms. Two all-reduces a layer
forward, two backward; one for the words' look-up, one for the gradient of the last hidden state, three small ones for the loss.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.transformer import Choices, ModelConfig, Transformer


class Entering(torch.autograd.Function):
    """Into a part that every rank does a share of: nothing forward, the sum of the gradients backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


class Leaving(torch.autograd.Function):
    """Out of it: the sum of the shares forward, nothing backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        x = x.contiguous()
        dist.all_reduce(x, group=group)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0], None


class Shared(nn.Module):
    """A part of a block whose columns then rows are split: ``inner`` is this rank's share of it."""

    def __init__(self, inner: nn.Module, group: Any) -> None:
        super().__init__()
        self.inner, self.group = inner, group

    def forward(self, x: Tensor, *more: Any) -> Tensor:
        y: Tensor = Leaving.apply(self.inner(Entering.apply(x, self.group), *more), self.group)
        return y


class SplitEmbedding(nn.Module):
    """Rows of the words' table of this rank; words of other ranks' rows give zeros, and the sum puts them together."""

    def __init__(self, table: nn.Embedding, group: Any) -> None:
        super().__init__()
        self.weight, self.group = table.weight, group
        self.first = dist.get_rank(group) * table.num_embeddings

    def forward(self, ids: Tensor) -> Tensor:
        local = ids - self.first
        absent = (local < 0) | (local >= self.weight.shape[0])
        x = F.embedding(local.masked_fill(absent, 0), self.weight).masked_fill(absent.unsqueeze(-1), 0.0)
        y: Tensor = Leaving.apply(x, self.group)
        return y


class SplitCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of logits (t, V / n) whose columns lie on n ranks; keeps the softmax."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, group: Any) -> Tensor:
        largest = logits.amax(dim=-1)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=group)
        logits = logits - largest.unsqueeze(-1)
        local = labels - dist.get_rank(group) * logits.shape[-1]
        absent = (local < 0) | (local >= logits.shape[-1])
        local = local.masked_fill(absent, 0)
        wanted = logits.gather(-1, local.unsqueeze(-1)).squeeze(-1).masked_fill(absent, 0.0)
        dist.all_reduce(wanted, group=group)
        softmax = logits.exp_()
        total = softmax.sum(dim=-1)
        dist.all_reduce(total, group=group)
        softmax.div_(total.unsqueeze(-1))
        ctx.save_for_backward(softmax, local, absent)
        return (total.log() - wanted).mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        softmax, local, absent = ctx.saved_tensors
        hit = (~absent).to(softmax.dtype).unsqueeze(-1)
        gradient = softmax.scatter_add(-1, local.unsqueeze(-1), -hit)
        return gradient * (gradients[0] / softmax.shape[0]), None, None


class TensorParallel(Transformer):
    """One rank's share of a dense decoder. ``forward(ids, labels)`` gives the loss of the whole model on every rank."""

    def __init__(self, config: ModelConfig, choices: Choices, group: Any) -> None:
        super().__init__(share(config, dist.get_world_size(group)), choices)
        self.group = group
        self.words = SplitEmbedding(self.words, group)  # type: ignore[assignment]
        for block in self.blocks:
            block.attention, block.feed_forward = Shared(block.attention, group), Shared(block.feed_forward, group)

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        x, _ = self.hidden(ids)
        logits = self.head(Entering.apply(x, self.group))
        wide = torch.promote_types(logits.dtype, torch.float32)
        flat = logits.to(wide).view(-1, logits.shape[-1])
        loss: Tensor = SplitCrossEntropy.apply(flat, labels.reshape(-1), self.group)
        return loss

    def split(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Weights of which this rank has a share, and those that every rank has whole (norms)."""
        whole = [p for name, p in self.named_parameters() if "norm" in name]
        known = {id(p) for p in whole}
        return [p for p in self.parameters() if id(p) not in known], whole


def share(config: ModelConfig, ranks: int) -> ModelConfig:
    """The sizes of one rank. ValueError where heads, inner width or vocabulary do not divide."""
    if config.num_experts or config.architecture != "decoder":
        raise ValueError("tensor parallelism here cuts dense decoders")
    for name in ("num_heads", "num_kv_heads", "ffn_hidden_size", "vocab_size"):
        if getattr(config, name) % ranks:
            raise ValueError(f"{name} = {getattr(config, name)}: must be a multiple of the {ranks} tensor-parallel ranks")
    return replace(
        config,
        num_heads=config.num_heads // ranks,
        num_kv_heads=config.num_kv_heads // ranks,
        ffn_hidden_size=config.ffn_hidden_size // ranks,
        vocab_size=config.vocab_size // ranks,
    )


def clip(split: Iterable[nn.Parameter], whole: Iterable[nn.Parameter], group: Any, most: float = 1.0) -> Tensor:
    """Scale all gradients by one factor on all ranks, so that the norm of the whole model's is at most ``most``; the norm.

    ``split`` weights differ between the ranks and their squares add up; ``whole`` ones have equal gradients everywhere.
    """
    parts, copies = ([p.grad for p in weights if p.grad is not None] for weights in (split, whole))
    squares = torch.stack(torch._foreach_norm(parts)).float().square().sum()
    dist.all_reduce(squares, group=group)
    if copies:
        squares = squares + torch.stack(torch._foreach_norm(copies)).float().square().sum()
    norm = squares.sqrt()
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    for gradient in (*parts, *copies):
        gradient.mul_(factor.to(gradient.dtype))
    return norm
