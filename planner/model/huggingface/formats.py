"""How a checkpoint stores its matrices: quantization_config in serving's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

GGUF_FORMATS = ("q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0", "fp32")
"""Formats of llama.cpp that serving knows, by their own names, and matrices of 32 bit."""


def stored_weights(config: Mapping[str, Any]) -> str:
    """The weight format that ``quantization_config`` describes, empty where there is none or no format means it."""
    q = quantization(config)
    method, bits = str(q.get("quant_method", "")).lower(), q.get("bits") or q.get("w_bit")
    bits = bits if isinstance(bits, int) else 0
    if method.startswith("gguf"):
        named = str(q.get("file_type")).lower()
        named = {"f32": "fp32"}.get(named, named)
        return named if named in GGUF_FORMATS else ""
    if method in BY_METHOD:
        return BY_METHOD[method](q, bits)
    algorithm = _algorithm(q)
    if method.startswith("modelopt") or algorithm:
        return next((name for part, name in MODELOPT.items() if part in algorithm), "") or _groups(q, bits)
    if method:
        return ""
    if any(q.get(f"{p}load_in_{n}bit") for p in ("", "_") for n in (4, 8)):
        return _bitsandbytes(q, bits)
    return {4: "q4_0", 8: "q8_0"}.get(bits, "") if q.get("group_size") else ""  # MLX: a 16-bit scale and bias to 64 weights


WIDEST_FIRST = (
    "int8-weight-only", "int8", "int8-gptq", "fp8-weight-only", "fp8-block", "fp8", "w4a8", "int4-gptq", "int4-awq", "int4",
    "nvfp4", "mxfp4",
)  # fmt: skip
"""Formats of mixed checkpoints, by bytes a weight."""


def stored_parts(config: Mapping[str, Any]) -> tuple[str, ...]:
    """All formats that ``quantization_config`` names, the widest first: mixed checkpoints store attention and experts apart."""
    groups = quantization(config).get("config_groups")
    several = groups if isinstance(groups, Mapping) else {}
    found = {stored_weights(config), *(_groups({"config_groups": {name: group}}, 0) for name, group in several.items())}
    return tuple(name for name in WIDEST_FIRST if name in found)


def _algorithm(q: Mapping[str, Any]) -> str:
    inner = q.get("quantization")
    return str(q.get("quant_algo") or (inner.get("quant_algo") if isinstance(inner, Mapping) else "") or "").upper()


def _bitsandbytes(q: Mapping[str, Any], bits: int) -> str:
    return "nf4" if q.get("load_in_4bit") or q.get("_load_in_4bit") else "int8"


def _gptq(q: Mapping[str, Any], bits: int) -> str:
    return {4: "int4-gptq", 8: "int8-gptq"}.get(bits, "")


def _fp8(q: Mapping[str, Any], bits: int) -> str:
    return "fp8-block" if q.get("weight_block_size") else "fp8"


MODELOPT = {"NVFP4": "nvfp4", "FP8_PB_WO": "fp8-block", "W4A8": "w4a8", "W4A16": "int4-awq", "INT4_AWQ": "int4-awq", "FP8": "fp8",
            "INT8_SQ": "int8", "W8A8": "int8", "W8A16": "int8-weight-only", "MXFP4": "mxfp4"}  # fmt: skip
"""Parts of the names of ModelOpt's algorithms (its hf_quant_config.json); the first that fits holds."""
TORCHAO = (
    ("int8dynamicactivationint8", "int8"), ("int8dynamicactivationint4", "w4a8"), ("float8dynamicactivationfloat8", "fp8"),
    ("float8weightonly", "fp8-weight-only"), ("int8weightonly", "int8-weight-only"), ("int4weightonly", "int4"),
)  # fmt: skip
"""torchao's configurations, by their names without underscores."""


def quantization(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table that speaks of quantized weights (MLX names it ``quantization``); an empty one where there is none."""
    for key in ("quantization_config", "compression_config", "quantization"):
        found = config.get(key)
        if isinstance(found, Mapping) and found:
            return found
    return {}


def _auto_round(q: Mapping[str, Any], bits: int) -> str:
    """AutoRound: integers in GPTQ's or AWQ's order, or 4-bit floats."""
    kind = str(q.get("data_type", "int"))
    if bits == 4 and kind.startswith(("mx_fp", "nv_fp")):
        return "mxfp4" if kind.startswith("mx_fp") else "nvfp4"
    if bits == 4 and "awq" in str(q.get("packing_format", "")):
        return "int4-awq"
    return _gptq(q, bits)


def _torchao(q: Mapping[str, Any], bits: int) -> str:
    """torchao: the name of a function, or of a configuration's class."""
    kind = q.get("quant_type")
    kind = kind.get("default", kind) if isinstance(kind, Mapping) else kind
    name = str(kind.get("_type", "") if isinstance(kind, Mapping) else kind).lower().replace("_", "")
    return next((ours for theirs, ours in TORCHAO if theirs in name), "")


def _quark(q: Mapping[str, Any], bits: int) -> str:
    """AMD Quark: types of weights and of inputs."""
    every = q.get("global_quant_config")
    every = every if isinstance(every, Mapping) else {}
    weight, inputs = every.get("weight"), every.get("input_tensors")
    kind = str(weight.get("dtype", "")) if isinstance(weight, Mapping) else ""
    if kind.startswith("fp8"):
        return "fp8" if inputs else "fp8-weight-only"
    if kind in ("fp4", "mxfp4") and isinstance(weight, Mapping) and weight.get("group_size") == 32:
        return "mxfp4"
    return ("int8" if inputs else "int8-weight-only") if kind == "int8" else ""


def _groups(q: Mapping[str, Any], number: int) -> str:
    """compressed-tensors: type and bits of the first group's weights."""
    groups = q.get("config_groups")
    group: Any = next(iter(groups.values()), {}) if isinstance(groups, Mapping) else {}
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(weights, Mapping):
        return ""
    bits, kind = weights.get("num_bits"), weights.get("type")
    activations = isinstance(group.get("input_activations"), Mapping)
    if kind == "float":
        wide = str(group.get("format", "")).startswith("mxfp4") or weights.get("group_size") == 32
        names = {8: "fp8" if activations else "fp8-weight-only", 4: "mxfp4" if wide else "nvfp4"}
    else:
        names = {8: "int8" if activations else "int8-weight-only", 4: "int4-gptq"}
    return names.get(bits, "") if isinstance(bits, int) else ""


BY_METHOD: dict[str, Callable[[Mapping[str, Any], int], str]] = {
    "awq": lambda q, bits: "int4-awq" if bits in (0, 4) else "", "gptq": _gptq, "bitsandbytes": _bitsandbytes,
    **dict.fromkeys(("auto-round", "autoround", "auto_round", "intel/auto-round"), _auto_round),
    "mxfp4": lambda q, bits: "mxfp4", "fp8": _fp8, "fbgemm_fp8": _fp8, "eetq": lambda q, bits: "int8-weight-only",
    "torchao": _torchao, "quark": _quark, "compressed-tensors": _groups,
}  # fmt: skip
"""Readers by ``quant_method``."""
