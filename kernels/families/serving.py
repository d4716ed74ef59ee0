"""One layer of a model that serves: prefill of prompts and decoding over a key-value cache, dense and mixture of experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.case import DTYPES, Case, Work, relative_error
from kernels.models import decoder, experts
from kernels.probes import fused_attention
from kernels.session import Session
from kernels.transformer import Choices, DecoderBlock, ModelConfig, rotary_angles, rotate, shares_kv_heads

FAMILY = "serving"
CHECKED = 32
"""Sequences, and tokens of each, that are computed in both ways to check the cache."""


def cases(session: Session) -> Iterator[Case]:
    """Layers of Llama-3-8B, Mixtral and Qwen3-30B-A3B; (sequences, new tokens) of prefill, (sequences, past ones) of decoding."""
    for label, model in layers(session.cuda):
        for phase, sizes in passes(session.cuda).items():
            for sequences, tokens in sizes:
                yield _case(label, model, phase, sequences, tokens, session)


def layers(cuda: bool) -> list[tuple[str, ModelConfig]]:
    """One layer of each kind; on a CPU small ones."""
    if not cuda:
        return [
            ("dense", decoder(1, 256, 8, 4, 704, 256)),
            ("MoE 8 x top 2", decoder(1, 256, 8, 4, 384, 256, **experts(8, 2, 384))),
        ]
    return [
        ("dense 8B", decoder(1, 4096, 32, 8, 14336, 256)),
        ("MoE 8 x top 2", decoder(1, 4096, 32, 8, 14336, 256, **experts(8, 2, 14336))),
        ("MoE 128 x top 8", replace(decoder(1, 2048, 32, 4, 768, 256, **experts(128, 8, 768)), head_dim=128)),
    ]


def passes(cuda: bool) -> dict[str, list[tuple[int, int]]]:
    """Shapes of the passes."""
    if not cuda:
        return {"prefill": [(1, 256), (4, 128)], "decode": [(1, 256), (16, 256), (1, 1024)]}
    return {
        "prefill": [(1, 512), (1, 2048), (4, 2048), (1, 8192)],
        "decode": [(1, 2048), (8, 2048), (64, 2048), (256, 1024), (1, 32768), (8, 16384)],
    }


class ServedLayer:
    """A decoder block without gradients, and the keys and values of its earlier tokens, (b, length, g, d) each."""

    def __init__(self, model: ModelConfig, sequences: int, length: int, device: torch.device, dtype: torch.dtype) -> None:
        with torch.device(device):
            self.block = DecoderBlock(model, Choices(balance_loss="none"), 0).to(dtype).eval()
        shape = (sequences, length, model.num_kv_heads, model.head_dim)
        self.keys, self.values = (torch.randn(shape, device=device, dtype=dtype) for _ in (0, 1))
        self.angles = tuple(a.to(dtype)[:, None] for a in rotary_angles(length, model.head_dim, device))

    @torch.no_grad()
    def run(self, x: Tensor, past: int) -> Tensor:
        """(b, q, h) new tokens behind ``past`` cached ones to (b, q, h); their keys and values go into the cache."""
        block, (b, q, _) = self.block, x.shape
        attention = block.attention
        normed = block.attention_norm(x)
        queries, keys, values = (f(normed).view(b, q, -1, attention.config.head_dim) for f in attention.projections)
        cos, sin = (a[past : past + q] for a in self.angles)
        self.keys[:b, past : past + q] = rotate(keys, cos, sin)
        self.values[:b, past : past + q] = values
        k, v = (t[:b, : past + q].transpose(1, 2) for t in (self.keys, self.values))
        out = attend(rotate(queries, cos, sin).transpose(1, 2), k, v, causal=q > 1)
        x = x + attention.output(out.transpose(1, 2).reshape(b, q, -1))
        inner = block.feed_forward(block.feed_forward_norm(x))
        return x + (inner[0] if block.moe else inner)


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Fused attention of one new token to all, or of a whole prompt to itself."""
    more = {"enable_gqa": True} if k.shape[1] != q.shape[1] and shares_kv_heads(q.device.type, q.dtype) else {}
    if k.shape[1] != q.shape[1] and not more:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    with fused_attention():
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, **more)


def _case(label: str, model: ModelConfig, phase: str, sequences: int, tokens: int, session: Session) -> Case:
    dtype = session.half

    def build(session: Session) -> Work:
        new, past = (tokens, 0) if phase == "prefill" else (1, tokens)
        layer = ServedLayer(model, sequences, past + new, session.device, DTYPES[dtype])
        x = torch.randn(sequences, new, model.hidden_size, device=session.device, dtype=DTYPES[dtype])
        width = x.element_size()
        return Work(
            run=lambda: layer.run(x, past),
            flops=pass_flops(model, sequences, new, past),
            bytes=width * pass_elements(model, sequences, new, past),
            check=lambda: _check(layer, model, session),
            tolerance=5e-2,  # a router whose scores lie close may choose otherwise after another rounding
            graph=phase == "decode",
        )

    shape = {"label": label, "model": model.fields(), "phase": phase, "sequences": sequences, "tokens": tokens}
    return Case(family=FAMILY, name=f"{phase} layer", shape=shape, dtype=dtype, build=build)


def pass_flops(m: ModelConfig, sequences: int, new: int, past: int) -> float:
    """2 flops per weight that a token meets, and 4 per pair of query and key and head dimension."""
    h, d, tokens = m.hidden_size, m.head_dim, float(sequences * new)
    linear = 2.0 * h * d * (m.num_heads + m.num_kv_heads)
    if m.num_experts:
        linear += 3.0 * h * m.top_k * (m.expert_ffn_hidden_size or m.ffn_hidden_size) + h * m.num_experts
    else:
        linear += 3.0 * h * m.ffn_hidden_size
    pairs = sequences * (new * past + new * (new + 1) / 2.0)
    return 2.0 * tokens * linear + 4.0 * pairs * m.num_heads * d


def pass_elements(m: ModelConfig, sequences: int, new: int, past: int) -> float:
    """Numbers read or written at least: weights that are met (of evenly chosen experts), the cache, the layer's ends."""
    h, d, tokens = m.hidden_size, m.head_dim, float(sequences * new)
    weights = 2.0 * h * d * (m.num_heads + m.num_kv_heads)
    if m.num_experts:
        met = m.num_experts * (1.0 - (1.0 - m.top_k / m.num_experts) ** tokens)
        weights += 3.0 * h * met * (m.expert_ffn_hidden_size or m.ffn_hidden_size) + h * m.num_experts
    else:
        weights += 3.0 * h * m.ffn_hidden_size
    return weights + 2.0 * sequences * (past + new) * m.num_kv_heads * d + 2.0 * tokens * h


def _check(layer: ServedLayer, model: ModelConfig, session: Session) -> float:
    """The last token of some sequences by the cache, against the whole sequences at once by the block that trains."""
    dtype = layer.keys.dtype
    small = ServedLayer(model, CHECKED, CHECKED, session.device, dtype)
    small.block = layer.block
    x = torch.randn(CHECKED, CHECKED, model.hidden_size, device=session.device, dtype=dtype)
    small.run(x[:, :-1], 0)
    with torch.no_grad():
        expected, _ = layer.block(x, small.angles)
    return relative_error(small.run(x[:, -1:], CHECKED - 1)[:, -1], expected[:, -1])
