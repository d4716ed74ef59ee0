"""Formats of stored weights: bits with their scales, and in which type the arithmetic runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from planner.common.errors import PlannerError
from planner.hardware.cluster import Accelerator

Format = Literal[
    "fp32", "fp16", "bf16", "fp8", "fp8-weight-only", "int8", "int8-weight-only", "int8-gptq", "int4", "int4-awq", "int4-gptq",
    "nf4", "nvfp4", "q4_0", "q4_k_m", "q8_0", "exl2",
]  # fmt: skip
FORMATS: tuple[str, ...] = get_args(Format)
Part = Literal["embedding", "head", "router", "attention", "ffn", "shared", "experts"]
Width = Literal[16, 8, 4]


@dataclass(frozen=True, kw_only=True)
class WeightFormat:
    """How matrices are stored. ``bits`` without scales; ``scale_bits`` per group of ``group`` elements (0 = per row: none).

    ``compute``: type of the matrix units that it needs, None = expanded to the activations' type on the way.
    ``kept``: parts that stay in 16 bit unless the scenario says otherwise. ``family``: which kernel constants hold.
    """

    name: str
    bits: float
    scale_bits: float = 0.0
    group: int = 0
    compute: str | None = None
    kept: frozenset[Part] = frozenset({"embedding", "head", "router"})
    family: Width = 16

    @property
    def quantized(self) -> bool:
        """Narrower than the 16-bit types."""
        return self.family != 16

    @property
    def bits_per_weight(self) -> float:
        """Bits with scales."""
        return self.bits + (self.scale_bits / self.group if self.group else 0.0)


GROUPED: dict[str, tuple[float, float]] = {
    "int8-gptq": (8.0, 24.0), "int4-gptq": (4.0, 20.0), "int4-awq": (4.0, 20.0), "int4": (4.0, 32.0),
}  # fmt: skip
"""bits, bits of scale and zero per group: a 16-bit scale and a zero as wide as a weight; gpt-fast keeps two bf16."""
GROUP_SIZE = 128
"""Of AWQ and GPTQ where nothing is said: group_size of the checkpoints on the Hub (Lin et al. 2023, arXiv 2306.00978: g128)."""

Q4_K, Q6_K = 4.5, 6.5625
"""Bits per weight of llama.cpp's super-blocks (ggml-common.h: 144 and 210 bytes per 256 weights)."""
NF4_SCALE_BITS = 8.0 + 32.0 / 256.0
"""8-bit scale per block of 64 and an fp32 scale of 256 of these (Dettmers et al. 2023, section 3: 0.127 bit a parameter)."""
NVFP4_GROUP = 16


def weight_format(
    name: str, group_size: int = GROUP_SIZE, bits_per_weight: float | None = None, kept: frozenset[Part] | None = None
) -> WeightFormat:
    """The format of that name; ``group_size`` of AWQ, GPTQ and int4; ``bits_per_weight`` of exl2."""
    plain = {"fp32": 32.0, "fp16": 16.0, "bf16": 16.0}
    if name in plain:
        found = WeightFormat(name=name, bits=plain[name], kept=frozenset())
    elif name in ("fp8", "int8"):  # scales per channel or per block of 128 x 128: less than 0.1 %
        found = WeightFormat(name=name, bits=8.0, compute=name, family=8)
    elif name in ("fp8-weight-only", "int8-weight-only"):
        found = WeightFormat(name=name, bits=8.0, family=8)
    elif name in GROUPED:
        bits, scale = GROUPED[name]
        found = WeightFormat(name=name, bits=bits, scale_bits=scale, group=group_size, family=8 if bits == 8.0 else 4)
    elif name == "nf4":
        found = WeightFormat(name=name, bits=4.0, scale_bits=NF4_SCALE_BITS, group=64, family=4)
    elif name == "nvfp4":
        found = WeightFormat(name=name, bits=4.0, scale_bits=8.0, group=NVFP4_GROUP, compute="fp4", family=4)
    elif name == "exl2":
        if bits_per_weight is None:
            raise PlannerError("serving.bits_per_weight is missing: weights = 'exl2' needs it, e.g. 4.0.")
        found = WeightFormat(name=name, bits=bits_per_weight, kept=frozenset({"embedding", "router"}), family=4)
    else:
        bits = {"q4_0": 4.5, "q4_k_m": Q4_K, "q8_0": 8.5}[name]
        found = WeightFormat(name=name, bits=bits, kept=frozenset({"router"}), family=8 if name == "q8_0" else 4)
    if kept is not None and found.quantized:
        found = WeightFormat(**{**{f: getattr(found, f) for f in found.__dataclass_fields__}, "kept": kept})
    return found


def part_of(tensor: str) -> Part | None:
    """The part of the model that a matrix belongs to; None for norms, biases and other small vectors, which stay wide."""
    if not tensor.endswith((".weight", ".words", ".projection")) or "norm" in tensor:
        return None
    heads: dict[str, Part] = {
        "embedding.words": "embedding",
        "head.words": "head",
        "router.": "router",
        "attention.": "attention",
        "ffn.": "ffn",
        "shared.": "shared",
        "experts.": "experts",
    }
    return next((part for start, part in heads.items() if tensor.startswith(start)), None)


def bits_of(fmt: WeightFormat, tensor: str, wide_bits: float, tied: bool = False) -> float:
    """Bits per element of a tensor, scales included; ``wide_bits`` of what is not quantized.

    llama.cpp's Q4_0 and Q4_K_M keep the output layer in six bits, and so the embedding where it is the output layer (``tied``);
    Q4_K_M also the values and the second feed-forward matrix of half of the layers. Keys and values are one tensor here.
    Source: ggml-org/llama.cpp, src/llama-quant.cpp, llama_tensor_get_type; for tied embeddings pull request 5650 (2024).
    """
    part = part_of(tensor)
    if not fmt.quantized or part is None or part in fmt.kept:
        return wide_bits if fmt.quantized or fmt.name != "fp32" else 32.0
    if fmt.name in ("q4_0", "q4_k_m") and tensor == ("embedding.words" if tied else "head.words"):
        return Q6_K
    if fmt.name == "q4_k_m":
        share = {"ffn.out.weight": 0.5, "experts.out.weight": 0.5, "attention.qkv.key_value.weight": 0.25}.get(tensor, 0.0)
        return Q4_K + share * (Q6_K - Q4_K)
    return fmt.bits_per_weight


def require_hardware(fmt: WeightFormat, accelerator: Accelerator) -> None:
    """PlannerError when the arithmetic of the format needs matrix units that the accelerator lacks."""
    need = fmt.compute
    if need is None or need in accelerator.peak_flops_per_s:
        return
    instead = {"fp8": "fp8-weight-only or int8-weight-only", "int8": "int8-weight-only or int8-gptq", "fp4": "int4-awq or nf4"}
    have = ", ".join(accelerator.peak_flops_per_s)
    raise PlannerError(
        f"serving.weights = {fmt.name!r}: {accelerator.name} has no {need} matrix units ({accelerator.architecture}; it has "
        f"{have}). Use {instead[need]}, which are expanded to 16 bit on the way, or another accelerator."
    )
