"""The training steps that are measured: models that fit the device, and which steps a calibration may learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kernels.transformer import ModelConfig

Role = Literal["fit", "validate"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One training step to measure; ``role`` keeps the steps that a calibration learns from apart from those that test it."""

    label: str
    model: ModelConfig
    seq_len: int
    micro_batch_size: int
    num_microbatches: int = 1
    recompute: Literal["none", "full"] = "none"
    attention: Literal["flash", "eager"] = "flash"
    experts: Literal["auto", "loop"] = "auto"
    precision: str | None = None  # None = the session's own type of training
    role: Role = "validate"
    reduced: str = ""  # what was made smaller to fit the card, in words
    balance_loss: Literal["switch", "variation"] = "switch"
    theta: float = 10000.0  # of the rotary positions
    lora_rank: int = 0  # of adapters on the frozen model; 0 = everything trains
    optimizer: Literal["adamw", "adamw-8bit"] = "adamw"

    def fields(self, precision: str) -> dict[str, Any]:
        """The sample's shape: everything that a prediction needs."""
        more = {"reduced": self.reduced} if self.reduced else {}
        return {
            "label": self.label,
            "model": self.model.fields(),
            "seq_len": self.seq_len,
            "micro_batch_size": self.micro_batch_size,
            "num_microbatches": self.num_microbatches,
            "recompute": self.recompute,
            "attention": self.attention,
            "experts": self.experts,
            "precision": precision,
            "optimizer": self.optimizer,
            "role": self.role,
            "balance_loss": self.balance_loss,
            "theta": self.theta,
            "lora_rank": self.lora_rank,
            **more,
        }


def decoder(layers: int, hidden: int, heads: int, kv_heads: int, inner: int, vocabulary: int, **more: Any) -> ModelConfig:
    """A Llama-like decoder."""
    return ModelConfig(
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=hidden // heads,
        ffn_hidden_size=inner,
        vocab_size=vocabulary,
        **more,
    )


def experts(num: int, top_k: int, inner: int, shared: int = 0, **more: Any) -> dict[str, Any]:
    """The fields of a mixture of experts."""
    return {"num_experts": num, "top_k": top_k, "expert_ffn_hidden_size": inner, "num_shared_experts": shared, **more}


def encoder(layers: int, hidden: int, heads: int, vocabulary: int) -> ModelConfig:
    """A BERT-like encoder."""
    return ModelConfig(
        architecture="encoder",
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        ffn_hidden_size=4 * hidden,
        vocab_size=vocabulary,
        tied_embeddings=True,
    )


def gpu_steps() -> list[Step]:
    """Dense 125M to 3B, MoE of 8 to 64 experts, an encoder; lengths, micro-batches, recomputation; fit and test in turn."""
    d125 = decoder(12, 768, 12, 12, 2048, 32000, tied_embeddings=True)
    d350 = decoder(24, 1024, 16, 16, 2816, 32000, tied_embeddings=True)
    d1b = decoder(16, 2048, 32, 8, 8192, 32000)
    d3b = decoder(26, 3072, 24, 8, 8192, 32000)
    m8 = decoder(12, 1024, 16, 16, 2816, 32000, **experts(8, 2, 2816))
    capped = decoder(12, 1024, 16, 16, 2816, 32000, **experts(8, 2, 2816, capacity_factor=1.25))
    seed = decoder(24, 1024, 16, 16, 4096, 32000, **experts(8, 2, 4096, 1))
    m16 = decoder(16, 1536, 16, 4, 4096, 32000, **experts(16, 2, 2048))
    m64 = decoder(8, 2048, 16, 16, 10944, 32000, **experts(64, 6, 1408, 2, num_dense_layers=1))
    m32 = decoder(16, 1024, 16, 8, 2816, 32000, **experts(32, 4, 1024))
    bert = encoder(24, 1024, 16, 30592)
    return [
        Step(label="dense 125M", model=d125, seq_len=2048, micro_batch_size=8, role="fit"),
        Step(label="dense 125M, short", model=d125, seq_len=512, micro_batch_size=16),
        Step(label="dense 1B", model=d1b, seq_len=4096, micro_batch_size=2),
        Step(label="MoE 8 x top 2", model=m8, seq_len=2048, micro_batch_size=8, role="fit"),
        Step(label="MoE 64 x top 6, 2 shared", model=m64, seq_len=4096, micro_batch_size=2),
        Step(label="dense 3B", model=d3b, seq_len=4096, micro_batch_size=2),
        Step(label="dense 350M", model=d350, seq_len=2048, micro_batch_size=8),
        Step(label="MoE 16 x top 2", model=m16, seq_len=2048, micro_batch_size=4),
        Step(label="dense 1B, recompute", model=d1b, seq_len=4096, micro_batch_size=4, recompute="full", role="fit"),
        Step(label="MoE 8 x top 2, 1 shared", model=seed, seq_len=2048, micro_batch_size=8),
        Step(label="dense 3B, recompute", model=d3b, seq_len=8192, micro_batch_size=2, recompute="full"),
        Step(label="MoE 16 x top 2, recompute", model=m16, seq_len=4096, micro_batch_size=4, recompute="full"),
        Step(label="encoder large", model=bert, seq_len=512, micro_batch_size=32),
        Step(label="MoE 32 x top 4", model=m32, seq_len=4096, micro_batch_size=4),
        Step(label="dense 1B, long", model=d1b, seq_len=16384, micro_batch_size=1),
        Step(label="dense 1B, 4 micro-batches", model=d1b, seq_len=2048, micro_batch_size=2, num_microbatches=4),
        Step(label="dense 350M, small", model=d350, seq_len=1024, micro_batch_size=1, role="fit"),
        Step(label="MoE 32 x top 4, recompute", model=m32, seq_len=2048, micro_batch_size=8, recompute="full", role="fit"),
        Step(label="dense 1B, bf16 pure", model=d1b, seq_len=4096, micro_batch_size=2, precision="bf16-pure"),
        Step(
            label="dense 1B, 8-bit Adam",
            model=d1b,
            seq_len=2048,
            micro_batch_size=4,
            precision="bf16-pure",
            optimizer="adamw-8bit",
        ),
        Step(label="dense 350M, eager attention", model=d350, seq_len=1024, micro_batch_size=8, attention="eager"),
        Step(label="dense 350M, fp32", model=d350, seq_len=1024, micro_batch_size=4, precision="fp32"),
        Step(label="dense 350M, tf32", model=d350, seq_len=1024, micro_batch_size=4, precision="tf32"),
        Step(label="MoE 8 x top 2, loop", model=m8, seq_len=2048, micro_batch_size=4, experts="loop"),
        Step(label="MoE 8 x top 2, capacity 1.25", model=capped, seq_len=2048, micro_batch_size=8, balance_loss="variation"),
        Step(label="dense 3B, LoRA 16", model=d3b, seq_len=2048, micro_batch_size=2, lora_rank=16),
        Step(label="dense 350M, theta 500000", model=d350, seq_len=4096, micro_batch_size=4, theta=500000.0),
    ]


def cpu_steps() -> list[Step]:
    """The same questions at a size that a few cores answer in a second: 1 to 40 million parameters."""
    a = decoder(4, 256, 4, 4, 704, 4096)
    b = decoder(6, 384, 6, 2, 1024, 4096)
    c = decoder(2, 512, 8, 8, 1408, 4096, tied_embeddings=True)
    d = decoder(8, 192, 6, 6, 512, 2048)
    e = decoder(4, 640, 10, 5, 1728, 4096)
    m4 = decoder(4, 256, 4, 4, 512, 4096, **experts(4, 1, 512, 1))
    m8 = decoder(4, 256, 4, 2, 384, 4096, **experts(8, 2, 384))
    m16 = decoder(3, 320, 5, 5, 256, 4096, **experts(16, 2, 256, 1))
    bert = encoder(4, 256, 4, 4096)
    return [
        Step(label="dense 256 wide", model=a, seq_len=256, micro_batch_size=4, role="fit"),
        Step(label="MoE 8 x top 2", model=m8, seq_len=256, micro_batch_size=4, role="fit"),
        Step(label="dense 384 wide", model=b, seq_len=256, micro_batch_size=4),
        Step(label="MoE 4 x top 1, 1 shared", model=m4, seq_len=256, micro_batch_size=4),
        Step(label="dense 512 wide", model=c, seq_len=512, micro_batch_size=2),
        Step(label="dense 192 wide, deep", model=d, seq_len=128, micro_batch_size=8),
        Step(label="MoE 16 x top 2, 1 shared", model=m16, seq_len=256, micro_batch_size=4),
        Step(label="dense 256 wide, recompute", model=a, seq_len=256, micro_batch_size=8, recompute="full"),
        Step(label="dense 512 wide, small", model=c, seq_len=128, micro_batch_size=2, role="fit"),
        Step(label="dense 640 wide", model=e, seq_len=256, micro_batch_size=2),
        Step(label="MoE 8 x top 2, recompute", model=m8, seq_len=128, micro_batch_size=8, recompute="full"),
        Step(label="dense 384 wide, recompute", model=b, seq_len=128, micro_batch_size=4, recompute="full", role="fit"),
        Step(label="MoE 8 x top 2, long", model=m8, seq_len=512, micro_batch_size=2),
        Step(label="dense 256 wide, 2 micro-batches", model=a, seq_len=512, micro_batch_size=1, num_microbatches=2),
        Step(label="encoder", model=bert, seq_len=128, micro_batch_size=8),
        Step(label="MoE 16 x top 2, short", model=m16, seq_len=128, micro_batch_size=2, role="fit"),
        Step(label="dense 192 wide, long", model=d, seq_len=512, micro_batch_size=2),
        Step(label="dense 384 wide, eager attention", model=b, seq_len=128, micro_batch_size=8, attention="eager"),
        Step(label="MoE 8 x top 2, loop", model=m8, seq_len=256, micro_batch_size=2, experts="loop"),
        Step(label="dense 384 wide, LoRA 8", model=b, seq_len=256, micro_batch_size=4, lora_rank=8),
        Step(label="dense 640 wide, small", model=e, seq_len=128, micro_batch_size=1, role="fit"),
    ]
