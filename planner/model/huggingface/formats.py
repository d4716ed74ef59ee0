"""How a checkpoint stores its matrices: quantization_config in serving's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def stored_weights(config: Mapping[str, Any]) -> str:
    """The weight format that ``quantization_config`` describes, empty where there is none or no format means it."""
    q = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(q, Mapping):
        return ""
    method, bits = str(q.get("quant_method", "")).lower(), q.get("bits") or q.get("w_bit")
    if method == "awq":
        return "int4-awq"
    if method in ("gptq", "auto-round", "autoround"):
        return {4: "int4-gptq", 8: "int8-gptq"}.get(bits, "") if isinstance(bits, int) else ""
    if method == "bitsandbytes":
        return "nf4" if q.get("load_in_4bit") or q.get("_load_in_4bit") else "int8"
    if method == "mxfp4":
        return "mxfp4"
    if method in ("fp8", "fbgemm_fp8"):
        return "fp8-block" if q.get("weight_block_size") else "fp8"
    if method == "modelopt" or "quant_algo" in q:
        algorithm = str(q.get("quant_algo") or (q.get("quantization") or {}).get("quant_algo") or "").upper()
        return "nvfp4" if "NVFP4" in algorithm else "fp8" if "FP8" in algorithm else _groups(q)
    return _groups(q) if method == "compressed-tensors" else ""


def _groups(q: Mapping[str, Any]) -> str:
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
