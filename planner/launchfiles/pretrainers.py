"""Files of GPT-NeoX, Nanotron, llm-foundry, NeMo 1 and Megatron-DeepSpeed: what several options say together, and the model."""

from __future__ import annotations

import math
import re
from typing import Any

from planner.common.message import Message
from planner.launchfiles.formats import load_format
from planner.launchfiles.numbers import whole
from planner.launchfiles.understanding import Said

SIZED = ("gpt-neox", "nanotron", "llm-foundry")
GATED = ("swiglu", "geglu", "reglu", "bilinear", "glu")
"""Activations of GPT-NeoX that multiply one half of their input by the other."""
LLAMA_CHUNK = 256


def settle(said: Said) -> None:
    """Fields that several options of these tools decide together."""
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
    if said.has("llm-foundry"):
        _foundry(said)
    if said.has("nemo-1"):
        _nemo(said)
    if said.has("nemo"):
        _recipe(said)


NARROW = {
    "mxfp8": "mxfp8",
    "nvfp4": "nvfp4",
    "fp8_current_scaling": "tensorwise",
    "fp8_subchannel_scaling": "blockwise",
    "fp8": "delayed",
}
"""Words in the name of a recipe of Megatron-Bridge, and the precision that they stand for."""
OF_RECIPES = {"layout.zero": 1, "framework.fused_cross_entropy": True, "job.gradient_dtype": "fp32"}
"""What recipes that train all weights set (src/megatron/bridge/recipes/llama/llama3.py, 0d5f5558c16f): those of SFT leave the
optimizer distributed, and the DDP follows it (training/config.py); bf16_mixed sets grad_reduce_in_fp32 again."""
OF_ADAPTERS = {**OF_RECIPES, "layout.zero": 0, "framework.fused_cross_entropy": False}
"""What recipes of LoRA and DoRA set (same): neither the optimizer nor the DDP is distributed, and the loss is not fused."""
ADAPTED = re.compile(r"_(?:peft|lora|dora)(?:_|$)")
METHOD = re.compile(r"_(?:pretrain|sft|finetune|dpo|peft|lora|dora)(?:_|$)")
CLUSTERED = re.compile(r"_(\d{1,6})gpu_([a-z0-9]+)_(bf16|fp8cs|fp8ds|fp8mx|fp8sc|nvfp4)(?=_|$)")
"""GPUs, their kind and the precision of a recipe for one cluster (Megatron-Bridge, scripts/training/recipe_metadata.py)."""
RANKS = {"8b": 8, "70b": 16, "405b": 16}
"""LoRA.dim of recipes of Llama 3 and 3.1 by the model's size (same); others' recipes have their own."""
USUAL_DIM = 32
"""LoRA.dim where a recipe sets none (src/megatron/bridge/peft/lora.py)."""


def _recipe(said: Said) -> None:
    """What the name of a recipe says, and what recipes of Megatron-Bridge have in common."""
    f = said.fields
    recipe = _named_recipe(f)
    if not recipe:
        return
    _of_benchmark(said, recipe)
    adapted = ADAPTED.search(recipe) is not None
    if not f.get("said.megatron_fsdp"):
        for name, value in (OF_ADAPTERS if adapted else OF_RECIPES).items():
            f.setdefault(name, value)
        if recipe.startswith("llama31_405b") and "_pretrain" not in recipe:  # whose mixed_precision unsets grad_reduce_in_fp32
            f["job.gradient_dtype"] = "same"
    _dim(said, recipe, adapted)
    narrow = next((meant for word, meant in NARROW.items() if word in recipe), None)
    if narrow is not None:
        f.setdefault("said.precision", narrow)
    tuned = re.search(r"_(?:sft|finetune|dpo)(?:_|$)", recipe) is not None or f.get("said.stage") == "sft"
    if adapted:
        f.setdefault("said.tuning", "lora")
    elif f.get("said.tuning") != "lora" and tuned:
        f.setdefault("job.kind", "finetune")
    if re.search(r"_dpo(?:_|$)", recipe):
        f["said.stage"] = "dpo"
    said.notes.append(
        Message(
            "recipe = {0}: the parallel degrees, micro-batch and lengths that it sets are not read; give those "
            "that are not in the launch file",
            recipe,
        )
    )


def _named_recipe(f: dict[str, Any]) -> str:
    """The recipe's name in lower case, with its method, without its module and its arguments.

    NeMo 2 writes arguments behind the name (``--factory "llama3_8b(num_nodes=2)"``), its recipes take one node of 8 GPUs where
    none are given (nemo/collections/llm/recipes); scripts that run benchmarks say the method apart (``--task``).
    """
    given = str(f.get("said.recipe") or f.get("said.factory") or "").lower().strip()
    name, _, arguments = given.partition("(")
    name = re.split(r"[.:]", name.strip())[-1]
    if "said.factory" in f:
        counts = dict(re.findall(r"(num_nodes|num_gpus_per_node)\s*=\s*(\d{1,6})", arguments))
        f.setdefault("said.num_nodes", int(counts.get("num_nodes", 1)))
        f.setdefault("said.gpus_per_node", int(counts.get("num_gpus_per_node", 8)))
    method = "finetune" if f.get("said.task") == "lora" and f.get("said.tuning") == "full" else f.get("said.task")
    if name and method and not METHOD.search(name):
        name = f"{name}_{method}"
    f["said.recipe"] = name
    return name


def _of_benchmark(said: Said, recipe: str) -> None:
    """GPUs and precision in the name of a recipe for one cluster, where nothing else says them."""
    f = said.fields
    found = CLUSTERED.search(recipe)
    if found is None:
        return
    if "said.gpus_per_node" not in f:
        f.setdefault("said.num_gpus", int(found[1]))
    f.setdefault("cluster.accelerator", found[2])
    f.setdefault(
        "said.precision", (load_format("nemo").options["compute-dtype"].values or {})[re.sub(r"fp8(?=\w)", "fp8_", found[3])]
    )


def _dim(said: Said, recipe: str, adapted: bool) -> None:
    """The adapter's rank as the recipe sets it; LoRA's default, with a note, where that is not known."""
    f = said.fields
    if f.get("job.adapter.rank") is not None:
        return
    llama = re.match(r"llama31?_(\d+b)_", recipe) if adapted else None
    known = RANKS.get(llama[1]) if llama is not None else None
    f["job.adapter.rank"] = known or USUAL_DIM
    if adapted and known is None:
        said.notes.append(Message("recipe = {0}: its peft.dim is not read; LoRA's default of {1} is used", recipe, USUAL_DIM))


def _neox(f: dict[str, Any]) -> None:
    for name in ("layout.pp", "layout.tp"):
        f[name] = f.get(name) or 1  # 0: no pipeline
    if f.get("said.parameters_moved"):
        f.setdefault("layout.offload_parameters", True)
    if "flash" in str(f.get("said.attention_config", "")):
        f.setdefault("framework.attention_kernel", "flash")
    elif f.get("said.fused_softmax") is False:
        f.setdefault("framework.attention_kernel", "standard")


DURATION = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)(ba|tok|sp|ep)")
LENGTHS = {"ba": "job.num_steps", "tok": "job.num_tokens", "sp": "job.num_samples", "ep": "job.num_epochs"}
"""Composer's units of time (composer/core/time.py): batches, tokens, samples, epochs."""


def _foundry(said: Said) -> None:
    f = said.fields
    found = DURATION.fullmatch(str(f.get("said.duration", "")).strip().replace("_", ""))
    if found is not None:
        f.setdefault(LENGTHS[found[2]], float(found[1]) if found[2] == "ep" else round(float(found[1])))
    if f.get("said.optimizer") is not None:
        f.setdefault("job.optimizer", "sgd-momentum" if f["said.optimizer"] == "lion" else f["said.optimizer"])
    if f.get("said.optimizer") == "lion":
        said.notes.append(Message("Lion is counted as SGD with momentum: both keep one state of each weight"))
    if f.get("said.fsdp_precision") == "pure":
        said.unmodelled.append(
            Message("fsdp_config.mixed_precision = PURE: gradients are exchanged in 16 bit: less communication")
        )
    if f.get("layout.micro_batch_size") is None:
        said.notes.append(Message("the file leaves the micro-batch to Composer, which tries until one fits; 1 is used here"))


def _nemo(said: Said) -> None:
    f = said.fields
    if "distributed" in str(f.get("said.optimizer", "")):
        f.setdefault("layout.zero", 1)
    f["said.gated"] = "swiglu" in str(f.get("said.glu", ""))
    f["said.grouped"] = f.get("said.groups") is not None
    if f.get("said.half_weights") is False and f.get("said.precision") in ("fp16", "bf16"):
        said.unmodelled.append(
            Message("model.megatron_amp_O2 = false: autocast over fp32 weights, cast in each pass: memory and time differ")
        )


def _nanotron(f: dict[str, Any]) -> None:
    ranks = [whole(f, name) or 1 for name in ("said.ranks", "layout.tp", "layout.pp", "layout.cp")]
    f.setdefault("said.num_gpus", math.prod(ranks))
    if f.get("said.gradients_fp32"):  # FP32GradientAccumulator holds the master weights, too
        f.setdefault("job.gradient_dtype", "fp32")
    elif f.get("said.precision") == "bf16":
        f["said.stored"] = "bf16"


def sizes(said: Said) -> dict[str, Any]:
    """Fields of the model that a file of these tools gives; {} where it gives none."""
    f = said.fields
    found = {name.removeprefix("model."): value for name, value in f.items() if name.startswith("model.") and value is not None}
    if not all(isinstance(found.get(name), int) for name in ("num_layers", "hidden_size", "num_heads")):
        return {}
    hidden, heads = whole(f, "model.hidden_size") or 1, whole(f, "model.num_heads") or 1
    if said.has("llm-foundry"):
        return {**_mpt(f, hidden, heads), **found}
    found |= {"num_kv_heads": whole(f, "said.groups") or heads, "head_dim": max(hidden // heads, 1), "qk_norm": "none"}
    if said.has("nanotron"):
        plain = {"norm": "rmsnorm", "gated_ffn": True, "ffn_bias": False, "attention_output_bias": False, "qkv_bias": False}
        return {**plain, **found}
    biased = not f.get("said.no_bias")
    found |= {"qkv_bias": biased, "attention_output_bias": biased, **_feed_forward(said, hidden)}
    if (whole(f, "model.num_experts") or 1) > 1:
        found |= {"moe_every": whole(f, "said.expert_interval") or 1, "expert_ffn_hidden_size": found["ffn_hidden_size"]}
    else:
        found = {name: value for name, value in found.items() if name not in ("num_experts", "top_k", "capacity_factor")}
    if found.get("position_embedding") == "learned" and f.get("said.positions"):
        found["max_positions"] = f["said.positions"]
    return found


def _mpt(f: dict[str, Any], hidden: int, heads: int) -> dict[str, Any]:
    """MPT's fields as llm-foundry's options and their defaults say them."""
    multi_query = f.get("said.attention_type") == "multiquery_attention"
    gated = "glu" in str(f.get("said.feed_forward", ""))
    positions = "alibi" if f.get("said.alibi") else "rotary" if f.get("said.rope") else "learned"
    positions = "none" if positions == "learned" and f.get("said.learned_positions") is False else positions
    biased = not f.get("said.no_bias")
    expansion = f.get("said.expansion")
    size = int(expansion * hidden) if isinstance(expansion, int | float) else 4 * hidden
    bias = dict.fromkeys(("qkv_bias", "attention_output_bias", "ffn_bias"), biased)
    return {
        "num_kv_heads": 1 if multi_query else whole(f, "said.groups") or heads,
        "head_dim": max(hidden // heads, 1),
        "ffn_hidden_size": size,
        "gated_ffn": gated,
        "activation": "gelu",
        "position_embedding": positions,
        **({"max_positions": f.get("job.seq_len")} if positions == "learned" else {}),
        "tied_embeddings": True,
        "qk_norm": "none",
        **bias,
    }


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
