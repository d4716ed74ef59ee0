"""How much memory a training step will take, before it is tried: from counting, so that small cards measure too.

The estimate only chooses the size of a step (``fitting``); the memory that is recorded is measured. Bytes, one GPU.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from kernels.models import Step
from kernels.transformer import ModelConfig

SHARE = 0.85
"""Of the free memory; the rest is for cuBLAS, kernels' workspaces and what the allocator cannot use."""
WIDTHS = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "bf16-pure": 2}
STATES = {"fp32": 16, "tf32": 16, "bf16": 16, "fp16": 16, "bf16-pure": 8}
"""Weight, gradient, two moments, and fp32 master copies where the precision has them, bytes per parameter."""
GROUP_BYTES = 64 * 2**20
"""fp32 copies of one group's gradients (kernels.optimizers)."""


def parameters(model: ModelConfig) -> int:
    """Weights of ``kernels.transformer``; norms and an encoder's biases, a thousandth of them, left out."""
    h, d = model.hidden_size, model.head_dim
    attention = 2 * h * d * (model.num_heads + model.num_kv_heads)
    inner = model.ffn_hidden_size
    dense = (2 if model.architecture == "encoder" else 3) * h * inner
    sparse = 0
    if model.num_experts:
        expert = model.expert_ffn_hidden_size or inner
        shared = model.num_shared_experts * (model.shared_expert_ffn_hidden_size or expert)
        sparse = 3 * h * (model.num_experts * expert + shared) + h * model.num_experts
    num_dense = model.num_dense_layers if model.num_experts else model.num_layers
    words = model.vocab_size * h * (1 if model.tied_embeddings else 2)
    return words + model.num_layers * attention + num_dense * dense + (model.num_layers - num_dense) * sparse


def saved_bytes(step: Step, precision: str, *, grouped: bool = True, fused_norm: bool = True) -> float:
    """What the forward pass of one micro-batch keeps for its backward pass, without the output layer."""
    m, width = step.model, WIDTHS[precision]
    tokens = step.micro_batch_size * step.seq_len
    if step.recompute == "full":
        block = _layer(step, m.num_layers - 1, width, grouped, fused_norm)
        return float(tokens * (m.num_layers * m.hidden_size * width + block))
    return float(tokens * sum(_layer(step, i, width, grouped, fused_norm) for i in range(m.num_layers)))


def _layer(step: Step, layer: int, width: int, grouped: bool, fused_norm: bool) -> float:
    """Per token: norms and their inputs, queries, keys, values, attention's output, and the feed-forward's inner values."""
    m = step.model
    queries, keys = m.num_heads * m.head_dim, m.num_kv_heads * m.head_dim
    norms = 2 * (2 * m.hidden_size * width + (0 if fused_norm else 2 * 4 * m.hidden_size))
    found = norms + width * (2 * queries + 2 * keys)
    if step.attention == "eager":  # softmax in fp32 and its result in 16 bit; keys and values copied to all heads
        found += m.num_heads * step.seq_len * (4 + width) + width * 2 * (queries - keys)
    if m.num_experts and layer >= m.num_dense_layers:
        expert = m.expert_ffn_hidden_size or m.ffn_hidden_size
        shared = m.num_shared_experts * (m.shared_expert_ffn_hidden_size or expert)
        pairs = m.top_k * (m.capacity_factor or 1.0) if m.capacity_factor else m.top_k
        passes = (4 * expert + 3 * m.hidden_size) if grouped else (5 * expert + 3 * m.hidden_size)
        return found + width * (pairs * passes + 4 * shared) + 8.0 * m.num_experts + 40.0 * m.top_k
    return found + width * (2 if m.architecture == "encoder" else 4) * m.ffn_hidden_size


def peak_bytes(step: Step, precision: str, *, grouped: bool = True, fused_norm: bool = True) -> float:
    """The larger of two moments: the loss with everything saved, and the update of the weights."""
    m, width = step.model, WIDTHS[precision]
    total = parameters(m)
    states, gradients = total * STATES[precision], total * width
    if step.optimizer == "adamw-8bit":  # a byte and a 256th of four for each moment in place of a whole number
        states -= total * 2.0 * (width - 1.0 - 4.0 / 256.0)
    if step.lora_rank:  # frozen weights alone; the adapters are a hundredth of them
        states, gradients = total * width * 1.05, 0.0
    logits = float(step.micro_batch_size * step.seq_len) * m.vocab_size * (width + 4 + 4 + 4)
    forward = states - (gradients if step.num_microbatches == 1 else 0) + logits
    forward += saved_bytes(step, precision, grouped=grouped, fused_norm=fused_norm)
    largest = m.vocab_size * m.hidden_size
    if m.num_experts:
        largest = max(largest, m.num_experts * 2 * (m.expert_ffn_hidden_size or m.ffn_hidden_size) * m.hidden_size)
    if step.lora_rank:
        largest = 0
    update = states + (max(GROUP_BYTES, 4 * largest) if precision in ("bf16", "fp16") else 0)
    return max(forward, float(update))


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One way to make a step smaller: fewer layers, a narrower model, shorter sequences, a smaller micro-batch."""

    layers: int
    width: int = 1  # hidden size, inner widths and heads are divided by it
    micro_batch: int = 1  # divides the micro-batch
    length: int = 1  # divides the sequence


def ladder(step: Step) -> list[Step]:
    """The step and its smaller forms, the least changed first; every one differs from the others."""
    m = step.model
    least = m.num_dense_layers + 1 if m.num_experts else 1
    layers = [m.num_layers, *(n for d in (2, 3, 4, 6, 8, 12) if (n := m.num_layers // d) >= max(least, 2))]
    found: dict[Step, None] = {}
    for length in (1, 2, 4, 8):
        for width in (1, 2, 4):
            for num in layers:
                for micro_batch in (1, 2, 4):
                    rung = Rung(layers=num, width=width, micro_batch=micro_batch, length=length)
                    made = reduced(step, rung)
                    if made is not None:
                        found[made] = None
    return list(found)


def reduced(step: Step, rung: Rung) -> Step | None:
    """The step on that rung; None where it cannot be made so small."""
    m, w = step.model, rung.width
    divided = [m.hidden_size, m.num_heads, m.num_kv_heads, m.ffn_hidden_size, m.expert_ffn_hidden_size or w]
    if any(size % w for size in divided) or step.micro_batch_size < rung.micro_batch:
        return None
    model = _narrower(m, rung.layers, w)
    batch, length = step.micro_batch_size // rung.micro_batch, step.seq_len // rung.length
    said = [
        f"{rung.layers} of {m.num_layers} layers" if rung.layers < m.num_layers else "",
        f"width / {w}" if w > 1 else "",
        f"{batch} of {step.micro_batch_size} sequences" if batch < step.micro_batch_size else "",
        f"{length} of {step.seq_len} tokens" if length < step.seq_len else "",
    ]
    words = ", ".join(part for part in said if part)
    return replace(step, model=model, micro_batch_size=batch, seq_len=length, reduced=words)


@functools.lru_cache(maxsize=64)
def _narrower(m: ModelConfig, layers: int, width: int) -> ModelConfig:
    """The model of a rung: a dozen rungs of a ladder share it."""
    return replace(
        m,
        num_layers=layers,
        hidden_size=m.hidden_size // width,
        num_heads=m.num_heads // width,
        num_kv_heads=m.num_kv_heads // width,
        ffn_hidden_size=m.ffn_hidden_size // width,
        expert_ffn_hidden_size=m.expert_ffn_hidden_size // width if m.expert_ffn_hidden_size else None,
        shared_expert_ffn_hidden_size=m.shared_expert_ffn_hidden_size // width if m.shared_expert_ffn_hidden_size else None,
    )


def fitting(step: Step, precision: str, free_bytes: float, *, grouped: bool = True, fused_norm: bool = True) -> list[Step]:
    """The forms of a step that should fit into a share of the free memory, the least changed first; the smallest otherwise."""
    forms = ladder(step)
    room = SHARE * free_bytes
    fit = [s for s in forms if peak_bytes(s, precision, grouped=grouped, fused_norm=fused_norm) <= room]
    return fit or forms[-1:]
