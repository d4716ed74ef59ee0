"""A transformer to measure: decoder (Llama-like, dense or mixture of experts) and encoder (BERT-like), in plain PyTorch.

Shapes: b sequences, s tokens, h hidden, a query heads, g key-value heads, d head_dim, f inner width, V vocabulary.
Weights and activations have one type (fp32, bf16 or fp16); softmax, norms and the loss work in fp32.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kernels import probes
from kernels.moe_layer import Implementation, MoEConfig, MoELayer, SwiGLU

Balance = Literal["switch", "variation", "none"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model. Field names are those of the planner's model specs, so that a record can be read there."""

    architecture: Literal["decoder", "encoder"] = "decoder"
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_hidden_size: int
    vocab_size: int
    tied_embeddings: bool = False
    max_positions: int = 512  # rows of the encoder's position table
    type_vocab_size: int = 2  # rows of the encoder's type table
    hidden_dropout: float = 0.0  # encoder only
    num_experts: int = 0  # 0 = dense
    top_k: int = 0
    expert_ffn_hidden_size: int | None = None
    num_shared_experts: int = 0
    shared_expert_ffn_hidden_size: int | None = None
    num_dense_layers: int = 0  # the first layers keep a dense feed-forward
    capacity_factor: float | None = None

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads = {self.num_kv_heads}: must divide num_heads = {self.num_heads}")
        if self.architecture == "encoder" and (self.num_experts or self.num_kv_heads != self.num_heads):
            raise ValueError("architecture = 'encoder': dense with as many key-value heads as heads; use 'decoder' for others")
        if self.architecture == "decoder" and self.hidden_dropout:
            raise ValueError(f"hidden_dropout = {self.hidden_dropout}: only the encoder has dropout")
        if self.head_dim % 2:
            raise ValueError(f"head_dim = {self.head_dim}: rotary positions need an even one")

    def moe(self, implementation: Implementation = "auto", balance_loss: Balance = "switch") -> MoEConfig:
        """The expert layer of this model."""
        return MoEConfig(
            hidden_size=self.hidden_size,
            num_experts=self.num_experts,
            top_k=self.top_k,
            expert_hidden_size=self.expert_ffn_hidden_size or self.ffn_hidden_size,
            num_shared_experts=self.num_shared_experts,
            shared_hidden_size=self.shared_expert_ffn_hidden_size,
            capacity_factor=self.capacity_factor,
            implementation=implementation,
            balance_loss=balance_loss,
        )

    def fields(self) -> dict[str, Any]:
        """For the record: every field that a prediction needs."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How to run it: attention kernel, recomputation, experts' implementation, process group of the experts."""

    attention: Literal["flash", "eager"] = "flash"
    recompute: Literal["none", "full"] = "none"
    experts: Implementation = "auto"
    expert_group: Any = None
    balance_loss: Balance = "switch"
    theta: float = 10000.0  # base of the rotary positions' wavelengths


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight: torch's fused kernel where there is one, else its steps."""

    def __init__(self, size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if fused_norm(x.device.type):
            return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def fused_norm(device_type: str) -> bool:
    """Whether torch runs an RMS norm as one kernel here, found by trying."""
    return bool(probes.found(device_type, torch.float32)["fused_norm"])


def rotary_angles(length: int, head_dim: int, device: torch.device, theta: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines of position x frequency, (s, d) each, fp32; the two halves of d turn together (GPT-NeoX order)."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim)
    angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequencies)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of (b, s, heads, d); angles (s, 1, d). Source: Su et al. 2021."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query attention: a query heads share g key-value heads; rotary in decoders, biases in encoders."""

    def __init__(self, config: ModelConfig, kernel: str) -> None:
        super().__init__()
        self.config, self.kernel = config, kernel
        h, d, bias = config.hidden_size, config.head_dim, config.architecture == "encoder"
        self.query = nn.Linear(h, config.num_heads * d, bias=bias)
        self.key = nn.Linear(h, config.num_kv_heads * d, bias=bias)
        self.value = nn.Linear(h, config.num_kv_heads * d, bias=bias)
        self.output = nn.Linear(config.num_heads * d, h, bias=bias)

    @property
    def projections(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """Of queries, keys and values."""
        return self.query, self.key, self.value

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor] | None) -> Tensor:
        b, s, _ = x.shape
        q, k, v = (f(x).view(b, s, -1, self.config.head_dim) for f in self.projections)
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        causal = self.config.architecture == "decoder"
        out = flash(q, k, v, causal) if self.kernel == "flash" else eager(q, k, v, causal)
        return self.output(out.transpose(1, 2).reshape(b, s, -1))


def flash(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """torch's fused attention, (b, a, s, d); keys and values are copied to all heads where the kernel cannot share them."""
    if k.shape[1] == q.shape[1]:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    if shares_kv_heads(q.device.type, q.dtype):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    copies = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(copies, dim=1), v.repeat_interleave(copies, dim=1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def eager(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """softmax(q k' / sqrt(d) + mask) v as separate kernels, softmax in fp32: the score matrix is kept for the gradient."""
    copies = q.shape[1] // k.shape[1]
    if copies > 1:
        k, v = k.repeat_interleave(copies, dim=1), v.repeat_interleave(copies, dim=1)
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if causal:
        length = q.shape[-2]
        hidden = torch.full((length, length), torch.finfo(q.dtype).min, dtype=q.dtype, device=q.device)
        scores = scores + hidden.triu(1)
    wide = torch.promote_types(q.dtype, torch.float32)
    return torch.softmax(scores, dim=-1, dtype=wide).to(q.dtype) @ v


def shares_kv_heads(device_type: str, dtype: torch.dtype) -> bool:
    """Whether the fused kernel reads grouped keys and values without copies, found by trying."""
    return bool(probes.found(device_type, dtype)["shared_kv_heads"])


class DecoderBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); the feed-forward is dense or a mixture of experts."""

    def __init__(self, config: ModelConfig, choices: Choices, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size)
        self.attention = Attention(config, choices.attention)
        self.feed_forward_norm = RMSNorm(config.hidden_size)
        self.moe = bool(config.num_experts) and layer >= config.num_dense_layers
        self.feed_forward: nn.Module
        if self.moe:
            self.feed_forward = MoELayer(config.moe(choices.experts, choices.balance_loss), choices.expert_group)
        else:
            self.feed_forward = SwiGLU(config.hidden_size, config.ffn_hidden_size)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
        """The new hidden states, and the load-balance loss of a mixture of experts."""
        x = x + self.attention(self.attention_norm(x), angles)
        inner = self.feed_forward_norm(x)
        if self.moe:
            y, balance = self.feed_forward(inner)
            return x + y, balance
        return x + self.feed_forward(inner), None


class EncoderBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x)), with biases and GELU (BERT, Devlin et al. 2018)."""

    def __init__(self, config: ModelConfig, choices: Choices, layer: int) -> None:
        super().__init__()
        h, f = config.hidden_size, config.ffn_hidden_size
        self.attention = Attention(config, choices.attention)
        self.attention_norm = nn.LayerNorm(h)
        self.enter, self.leave = nn.Linear(h, f), nn.Linear(f, h)
        self.feed_forward_norm = nn.LayerNorm(h)
        self.dropout = config.hidden_dropout

    def forward(self, x: Tensor, angles: None) -> tuple[Tensor, None]:
        drop = partial(F.dropout, p=self.dropout, training=self.training and self.dropout > 0)
        x = self.attention_norm(x + drop(self.attention(x, angles)))
        return self.feed_forward_norm(x + drop(self.leave(F.gelu(self.enter(x))))), None


class Encoder(nn.Module):
    """Entrance and exit of the encoder: words + positions + types, norm; dense, GELU, norm before the tied output layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        h = config.hidden_size
        self.positions = nn.Embedding(config.max_positions, h)
        self.types = nn.Embedding(config.type_vocab_size, h)
        self.norm, self.transform, self.transform_norm = nn.LayerNorm(h), nn.Linear(h, h), nn.LayerNorm(h)
        self.dropout = config.hidden_dropout

    def enter(self, words: Tensor) -> Tensor:
        """(b, s, h) word embeddings to the first block's input; all tokens are of type 0."""
        places = torch.arange(words.shape[1], device=words.device)
        x = self.norm(words + self.positions(places) + self.types(torch.zeros_like(places)))
        return F.dropout(x, self.dropout, self.training) if self.dropout > 0 else x

    def leave(self, x: Tensor) -> Tensor:
        """The last block's output to the output layer's input."""
        return self.transform_norm(F.gelu(self.transform(x)))


class Transformer(nn.Module):
    """Embedding, blocks, output layer, loss. ``forward(ids, labels)`` gives the mean cross-entropy (+ balance losses)."""

    def __init__(self, config: ModelConfig, choices: Choices = Choices(), balance_weight: float = 0.01) -> None:
        super().__init__()
        self.config, self.choices, self.balance_weight = config, choices, balance_weight
        encoder = config.architecture == "encoder"
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.words.weight, std=0.02)
        self.encoder = Encoder(config) if encoder else None
        block = EncoderBlock if encoder else DecoderBlock
        self.blocks = nn.ModuleList(block(config, choices, i) for i in range(config.num_layers))
        self.norm = None if encoder else RMSNorm(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=encoder)
        if config.tied_embeddings:
            self.head.weight = self.words.weight

    def hidden(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(b, s) token ids to (b, s, h), and the balance losses of the expert layers."""
        x = self.words(ids)
        angles = None
        if self.encoder is not None:
            x = self.encoder.enter(x)
        else:
            cos, sin = rotary_angles(ids.shape[1], self.config.head_dim, ids.device, self.choices.theta)
            angles = (cos.to(x.dtype)[:, None], sin.to(x.dtype)[:, None])
        losses = []
        for block in self.blocks:
            if self.choices.recompute == "full" and self.training:
                random = self.config.hidden_dropout > 0
                x, balance = checkpoint(block, x, angles, use_reentrant=False, preserve_rng_state=random)
            else:
                x, balance = block(x, angles)
            losses += [balance] if balance is not None else []
        x = self.encoder.leave(x) if self.encoder is not None else self.norm(x)
        return x, losses

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        x, losses = self.hidden(ids)
        logits = self.head(x)
        wide = torch.promote_types(logits.dtype, torch.float32)
        loss = F.cross_entropy(logits.to(wide).view(-1, self.config.vocab_size), labels.reshape(-1))
        return loss + self.balance_weight * sum(losses) if losses else loss


def build(config: ModelConfig, choices: Choices, device: torch.device | str, dtype: torch.dtype) -> Transformer:
    """A model with random weights on the device, made there layer by layer in its own type."""
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            return Transformer(config, choices).train()
        finally:
            torch.set_default_dtype(before)
