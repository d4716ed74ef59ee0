"""Formats of stored weights: bits with their scales, and in which type the arithmetic runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Literal, get_args

from planner.common import data
from planner.common.errors import PlannerError
from planner.common.spec import read_table
from planner.hardware.cluster import Accelerator

NAMES = data.CATALOG / "weight_names.toml"
Format = Literal[
    "fp32",
    "fp16",
    "bf16",
    "fp8",
    "fp8-weight-only",
    "int8",
    "int8-weight-only",
    "int8-gptq",
    "int4",
    "int4-awq",
    "int4-gptq",
    "fp8-block",
    "w4a8",
    "mxfp4",
    "nf4",
    "nvfp4",
    "nvfp4-weight-only",
    "q4_0",
    "q4_k_m",
    "q5_k_m",
    "q6_k",
    "q8_0",
    "exl2",
]
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
    def blocks(self) -> bool:
        """Partial sums are scaled block by block, which Hopper's tensor cores leave to the CUDA cores."""
        return self.name == "fp8-block"

    @property
    def bits_per_weight(self) -> float:
        """Bits with scales."""
        return self.bits + (self.scale_bits / self.group if self.group else 0.0)


GROUPED: dict[str, tuple[float, float]] = {
    "int8-gptq": (8.0, 24.0),
    "int4-gptq": (4.0, 20.0),
    "int4-awq": (4.0, 20.0),
    "int4": (4.0, 32.0),
    "w4a8": (4.0, 16.0),
}
"""bits, bits of scale and zero per group: a 16-bit scale and a zero as wide as a weight; gpt-fast keeps two bf16."""
GROUP_SIZE = 128
"""Of AWQ and GPTQ where nothing is said: group_size of the checkpoints on the Hub (Lin et al. 2023, arXiv 2306.00978: g128)."""

Q4_K, Q5_K, Q6_K = 4.5, 5.5, 6.5625
"""Bits per weight of llama.cpp's super-blocks (ggml-common.h: 144, 176 and 210 bytes per 256 weights)."""
NF4_SCALE_BITS = 8.0 + 32.0 / 256.0
"""8-bit scale per block of 64 and an fp32 scale of 256 of these (Dettmers et al. 2023, section 3: 0.127 bit a parameter)."""
NVFP4_GROUP = 16
MXFP4_GROUP = 32
"""Numbers that share an 8-bit scale: 4.25 bits a weight (OCP Microscaling Formats 1.0, section 5.2). gpt-oss keeps its attention,
embedding, router and output layer in bf16 (openai/gpt-oss, README: "MXFP4 ... linear projection weights in the MoE layer")."""
FP8_BLOCK = 128 * 128
"""Weights that share an fp32 scale (DeepSeek-V3, arXiv 2412.19437, section 3.3: blocks of 128 x 128)."""


_USUAL: frozenset[Part] = frozenset({"embedding", "head", "router"})
_NO_HEAD: frozenset[Part] = frozenset({"embedding", "router"})
_ROUTER: frozenset[Part] = frozenset({"router"})
_FIXED: dict[str, WeightFormat] = {
    f.name: f
    for f in (
        WeightFormat(name="fp32", bits=32.0, kept=frozenset()),
        WeightFormat(name="fp16", bits=16.0, kept=frozenset()),
        WeightFormat(name="bf16", bits=16.0, kept=frozenset()),
        WeightFormat(name="fp8", bits=8.0, compute="fp8", family=8),  # scales per channel: less than 0.1 %
        WeightFormat(name="fp8-block", bits=8.0, scale_bits=32.0, group=FP8_BLOCK, compute="fp8", family=8),
        WeightFormat(name="int8", bits=8.0, compute="int8", family=8),
        WeightFormat(name="fp8-weight-only", bits=8.0, family=8),
        WeightFormat(name="int8-weight-only", bits=8.0, family=8),
        WeightFormat(name="mxfp4", bits=4.0, scale_bits=8.0, group=MXFP4_GROUP, kept=_USUAL | {"attention"}, family=4),
        WeightFormat(name="nf4", bits=4.0, scale_bits=NF4_SCALE_BITS, group=64, family=4),
        WeightFormat(name="nvfp4", bits=4.0, scale_bits=8.0, group=NVFP4_GROUP, compute="fp4", family=4),
        WeightFormat(name="nvfp4-weight-only", bits=4.0, scale_bits=8.0, group=NVFP4_GROUP, family=4),
        WeightFormat(name="q4_0", bits=4.5, kept=_ROUTER, family=4),
        WeightFormat(name="q4_k_m", bits=Q4_K, kept=_ROUTER, family=4),
        WeightFormat(name="q5_k_m", bits=Q5_K, kept=_ROUTER, family=4),
        WeightFormat(name="q6_k", bits=Q6_K, kept=_ROUTER, family=4),
        WeightFormat(name="q8_0", bits=8.5, kept=_ROUTER, family=8),
    )
}
"""Formats that nothing else describes."""


def format_spelling(name: str) -> str:
    """A format's name without case, blanks and hyphens."""
    return re.sub(r"[^a-z0-9.]", "", name.lower())


@cache
def _by_spelling() -> dict[str, str]:
    """Spellings -> formats: their own, the endings of checkpoints' names, and those of catalog/weight_names.toml."""
    endings = read_table(data.CATALOG / "model_names.toml")["formats"]
    others = read_table(NAMES)["names"]
    found = {**{other: f for f, names in others.items() for other in names}, **endings, **{f: f for f in FORMATS}}
    return {spelled: str(f) for name, f in found.items() if f and (spelled := format_spelling(name)) not in _several()}


@cache
def _several() -> dict[str, tuple[str, ...]]:
    """Spellings that could be several formats -> these."""
    return {format_spelling(name): tuple(formats) for name, formats in read_table(NAMES)["several"].items()}


def formats_meant(name: str) -> tuple[str, ...]:
    """The formats that people may mean by a name of several: "4bit", "8-bit"; empty for any other.

    >>> formats_meant("4-bit"), formats_meant("awq")
    (('nf4', 'int4-awq', 'int4-gptq', 'q4_k_m'), ())
    """
    return _several().get(format_spelling(name), ())


def format_named(name: str) -> str:
    """The format that people mean by a name: "Q4_K_M", "awq", "W4A16", "half"; the name itself where none is.

    >>> [format_named(name) for name in ("Q4_K_M", "AWQ", "bnb-4bit", "float16", "fp9")]
    ['q4_k_m', 'int4-awq', 'nf4', 'fp16', 'fp9']
    """
    return _by_spelling().get(format_spelling(name), name)


def weight_format(
    name: str, group_size: int = GROUP_SIZE, bits_per_weight: float | None = None, kept: frozenset[Part] | None = None
) -> WeightFormat:
    """The format of that name; ``group_size`` of AWQ, GPTQ, int4 and w4a8; ``bits_per_weight`` of exl2."""
    if name in GROUPED:
        bits, scale = GROUPED[name]
        compute = "fp8" if name == "w4a8" else None
        family: Width = 8 if bits == 8.0 else 4
        found = WeightFormat(name=name, bits=bits, scale_bits=scale, group=group_size, compute=compute, family=family)
    elif name == "exl2":
        if bits_per_weight is None:
            raise PlannerError("serving.bits_per_weight is missing: weights = 'exl2' needs it, e.g. 4.0.")
        found = WeightFormat(name=name, bits=bits_per_weight, kept=_NO_HEAD, family=4)
    else:
        found = _FIXED[name]
    return found if kept is None or not found.quantized else replace(found, kept=kept)


@lru_cache(maxsize=4096)
def part_of(tensor: str) -> Part | None:
    """The part of the model that a matrix belongs to; None for norms, biases and other small vectors, which stay wide."""
    if not tensor.endswith((".weight", ".words", ".projection")) or "norm" in tensor:
        return None
    heads: dict[str, Part] = {
        "embedding.words": "embedding",
        "head.words": "head",
        "router.": "router",
        "attention.": "attention",
        "cross.": "attention",
        "ffn.": "ffn",
        "shared.": "shared",
        "experts.": "experts",
        "mixer.": "attention",
        "latent.": "shared",
        "streams.": "ffn",
    }
    return next((part for start, part in heads.items() if tensor.startswith(start)), None)


def bits_of(fmt: WeightFormat, tensor: str, wide_bits: float, tied: bool = False) -> float:
    """Bits per element of a tensor, scales included; ``wide_bits`` of what is not quantized.

    llama.cpp's Q4_0, Q4_K_M and Q5_K_M keep the output layer in six bits, and so the embedding where it is the output layer
    (``tied``); the last two also the values and the second feed-forward matrix of half of the layers. Keys and values are one
    tensor here.
    Source: ggml-org/llama.cpp, src/llama-quant.cpp, llama_tensor_get_type; for tied embeddings pull request 5650 (2024).
    """
    part = part_of(tensor)
    if not fmt.quantized or part is None or part in fmt.kept:
        return wide_bits if fmt.quantized or fmt.name != "fp32" else 32.0
    if fmt.name in ("q4_0", "q4_k_m", "q5_k_m") and tensor == ("embedding.words" if tied else "head.words"):
        return Q6_K
    if fmt.name in ("q4_k_m", "q5_k_m"):
        share = {"ffn.out.weight": 0.5, "experts.out.weight": 0.5, "attention.qkv.key_value.weight": 0.25}.get(tensor, 0.0)
        return fmt.bits + share * (Q6_K - fmt.bits)
    return fmt.bits_per_weight


def require_hardware(fmt: WeightFormat, accelerator: Accelerator, expands_fp4: bool) -> None:
    """PlannerError when the arithmetic of the format needs matrix units that the accelerator lacks.

    ``expands_fp4``: whether the engine has kernels that expand fp4 weights there.
    """
    need = fmt.compute
    if need is None or need in accelerator.peak_flops_per_s:
        return
    instead = {
        "fp8": "fp8-weight-only or int8-weight-only",
        "int8": "int8-weight-only or int8-gptq",
        "fp4": "nvfp4-weight-only or int4-awq" if expands_fp4 else "int4-awq or int4-gptq",
    }
    have = ", ".join(accelerator.peak_flops_per_s)
    raise PlannerError(
        "serving.weights = {0!r}: {1} has no {2} matrix units ({3}; it has {4}). Use {5}, which are expanded to 16 "
        "bit on the way, or another accelerator.",
        fmt.name,
        accelerator.name,
        need,
        accelerator.architecture,
        have,
        instead[need],
    )
