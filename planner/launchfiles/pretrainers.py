"""GPT-NeoX's and Nanotron's files: what several of their options say together, and the model that their sizes describe."""

from __future__ import annotations

import math
from typing import Any

from planner.launchfiles.numbers import whole
from planner.launchfiles.understanding import Said

SIZED = ("gpt-neox", "nanotron")
GATED = ("swiglu", "geglu", "reglu", "bilinear", "glu")
"""Activations of GPT-NeoX that multiply one half of their input by the other."""
LLAMA_CHUNK = 256


def settle(said: Said) -> None:
    """Fields that several options of GPT-NeoX, Megatron-DeepSpeed or Nanotron decide together."""
    f = said.fields
    if said.has("gpt-neox"):
        _neox(f)
    if said.has("megatron-deepspeed") and f.get("model.num_experts") in (None, 1):
        for name in ("layout.ep", "model.top_k"):
            f.pop(name, None)
    spread = said.has("megatron-deepspeed") and (f.get("layout.ep") or 1) != 1
    if said.has("gpt-neox", "megatron-deepspeed") and (f.get("layout.zero") in (2, 3) or spread):
        f.setdefault("framework.name", "deepspeed-zero")  # DeepSpeed's engine, without its pipeline
    if said.has("nanotron"):
        _nanotron(f)


def _neox(f: dict[str, Any]) -> None:
    for name in ("layout.pp", "layout.tp"):
        f[name] = f.get(name) or 1  # 0: no pipeline
    if f.get("said.parameters_moved"):
        f.setdefault("layout.offload_parameters", True)
    if "flash" in str(f.get("said.attention_config", "")):
        f.setdefault("framework.attention_kernel", "flash")
    elif f.get("said.fused_softmax") is False:
        f.setdefault("framework.attention_kernel", "standard")


def _nanotron(f: dict[str, Any]) -> None:
    ranks = [whole(f, name) or 1 for name in ("said.ranks", "layout.tp", "layout.pp", "layout.cp")]
    f.setdefault("said.num_gpus", math.prod(ranks))
    if f.get("said.gradients_fp32"):  # FP32GradientAccumulator holds the master weights, too
        f.setdefault("job.gradient_dtype", "fp32")
    elif f.get("said.precision") == "bf16":
        f["said.stored"] = "bf16"


def sizes(said: Said) -> dict[str, Any]:
    """Fields of the model as a file of GPT-NeoX or Nanotron says them, {} where it says none."""
    f = said.fields
    found = {name.removeprefix("model."): value for name, value in f.items() if name.startswith("model.") and value is not None}
    if not all(isinstance(found.get(name), int) for name in ("num_layers", "hidden_size", "num_heads")):
        return {}
    hidden, heads = whole(f, "model.hidden_size") or 1, whole(f, "model.num_heads") or 1
    found |= {"num_kv_heads": whole(f, "said.groups") or heads, "head_dim": max(hidden // heads, 1), "qk_norm": "none"}
    if said.has("nanotron"):
        plain = {"norm": "rmsnorm", "gated_ffn": True, "ffn_bias": False, "attention_output_bias": False, "qkv_bias": False}
        return {**plain, **found}
    biased = not f.get("said.no_bias")
    found |= {"qkv_bias": biased, "attention_output_bias": biased, **_feed_forward(said, hidden)}
    if found.get("position_embedding") == "learned" and f.get("said.positions"):
        found["max_positions"] = f["said.positions"]
    return found


def _feed_forward(said: Said, hidden: int) -> dict[str, Any]:
    """GPT-NeoX's feed-forward: 4 h, 8/3 h in steps of 256 as Llama's, a third of what is said where the activation is gated."""
    f = said.fields
    word = str(f.get("said.activation") or "gelu").lower()
    llama, said_size = f.get("said.feed_forward") == "llama", whole(f, "model.ffn_hidden_size")
    size = said_size or 4 * hidden
    if llama and said_size is None:
        size = -(-int(8 * hidden / 3) // LLAMA_CHUNK) * LLAMA_CHUNK
    elif word in GATED and not llama:
        size = int(size * 2 / 3) // 2  # ParallelMLP
    activation = next((one for one in ("silu", "relu") if one in word), "silu" if word == "swiglu" else None)
    return {
        "gated_ffn": llama or word in GATED,
        "ffn_hidden_size": size,
        "ffn_bias": not (llama or f.get("said.no_ffn_bias")),
        **({} if activation is None else {"activation": activation}),
    }
