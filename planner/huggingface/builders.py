"""How each family's fields make a model. Names are transformers'; what cannot be expressed raises PlannerError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.errors import PlannerError
from planner.huggingface.reading import activation, alternating, class_name, sliding

Config = Mapping[str, Any]


def _llama_like(c: Config) -> dict[str, Any]:
    """Fields that llama and its kin share."""
    heads = c["num_attention_heads"]
    return {
        "num_layers": c["num_hidden_layers"], "hidden_size": c["hidden_size"], "vocab_size": c["vocab_size"],
        "num_heads": heads, "num_kv_heads": c.get("num_key_value_heads") or heads, "head_dim": c.get("head_dim"),
        "ffn_hidden_size": c["intermediate_size"], "activation": activation(c),
        "tied_embeddings": c.get("tie_word_embeddings", False), "attention_dropout": c.get("attention_dropout", 0.0),
    }  # fmt: skip


def llama(c: Config) -> dict[str, Any]:
    bias = c["attention_bias"]
    return {**_llama_like(c), "qkv_bias": bias, "attention_output_bias": bias, "ffn_bias": c["mlp_bias"]}


def internlm2(c: Config) -> dict[str, Any]:
    return {**_llama_like(c), "qkv_bias": c["bias"], "attention_output_bias": c["bias"], "ffn_bias": False}


def mistral(c: Config) -> dict[str, Any]:
    return {**_llama_like(c), **sliding(c, None)}


def mixtral(c: Config) -> dict[str, Any]:
    experts = {
        "num_experts": c["num_local_experts"],
        "top_k": c["num_experts_per_tok"],
        "expert_ffn_hidden_size": c["intermediate_size"],
    }
    return {**mistral(c), **experts}


def _qwen_sliding(c: Config, types: list[str] | None) -> dict[str, Any]:
    """Qwen slides only when ``use_sliding_window`` says so; ``layer_types``, where given, says in which layers."""
    if not c["use_sliding_window"]:
        return {}
    return sliding(c, c.get("layer_types") or types, 4096)


def _from_window_layer(c: Config) -> list[str]:
    """``layer_types`` of qwen2 and qwen3: the first ``max_window_layers`` attend to everything."""
    first = c.get("max_window_layers", 28)
    return ["sliding_attention" if i >= first else "full_attention" for i in range(c["num_hidden_layers"])]


def qwen2(c: Config) -> dict[str, Any]:
    return {**_llama_like(c), "qkv_bias": True, **_qwen_sliding(c, _from_window_layer(c))}


def _qwen3_blocks(c: Config) -> dict[str, Any]:
    bias = c["attention_bias"]
    return {**_llama_like(c), "qk_norm": "head", "qkv_bias": bias, "attention_output_bias": bias}


def qwen3(c: Config) -> dict[str, Any]:
    return {**_qwen3_blocks(c), **_qwen_sliding(c, _from_window_layer(c))}


def _qwen_experts(c: Config, shared: dict[str, Any]) -> dict[str, Any]:
    """Every ``decoder_sparse_step``-th layer is sparse unless ``mlp_only_layers`` names it."""
    only, layers = c.get("mlp_only_layers") or [], c["num_hidden_layers"]
    if not isinstance(only, list) or not all(isinstance(i, int) and 0 <= i < layers for i in only):
        raise PlannerError(f"mlp_only_layers = {only!r}: must list layers from 0 to {layers - 1}")
    step = c["decoder_sparse_step"]
    if not c["num_experts"] or all(i in only for i in range(step - 1, layers, step)):
        return {}
    return {
        "num_experts": c["num_experts"], "top_k": c["num_experts_per_tok"], "expert_ffn_hidden_size": c["moe_intermediate_size"],
        "moe_every": step, "dense_layers": tuple(only), **shared,
    }  # fmt: skip


def qwen2_moe(c: Config) -> dict[str, Any]:
    shared = {
        "num_shared_experts": 1,
        "shared_expert_ffn_hidden_size": c["shared_expert_intermediate_size"],
        "shared_expert_gate": True,
    }
    first = c.get("max_window_layers", 28)
    types = [t if i < first else "full_attention" for i, t in enumerate(alternating(c))]
    return {**_llama_like(c), "qkv_bias": c["qkv_bias"], **_qwen_sliding(c, types), **_qwen_experts(c, shared)}


def qwen3_moe(c: Config) -> dict[str, Any]:
    return {**_qwen3_blocks(c), **_qwen_sliding({**c, "layer_types": None}, None), **_qwen_experts(c, {})}


def gpt_oss(c: Config) -> dict[str, Any]:
    bias = c["attention_bias"]
    return {
        **_llama_like(c), "qkv_bias": bias, "attention_output_bias": bias, "ffn_bias": True, "router_bias": True,
        "attention_sinks": True, "num_experts": c["num_local_experts"], "top_k": c["num_experts_per_tok"],
        "expert_ffn_hidden_size": c["intermediate_size"], "softmax_in_fp32": False, **sliding(c, c.get("layer_types") or alternating(c)),
    }  # fmt: skip


def deepseek(c: Config) -> dict[str, Any]:
    common = {k: v for k, v in _llama_like(c).items() if k not in ("num_kv_heads", "head_dim")}
    latent = {k: c[k] for k in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")}
    query = {"q_lora_rank": c["q_lora_rank"]} if c.get("q_lora_rank") else {}
    bias = c["attention_bias"]
    experts: dict[str, Any] = {}
    if c.get("n_routed_experts") and c["first_k_dense_replace"] < c["num_hidden_layers"]:
        if c.get("moe_layer_freq", 1) != 1 or c.get("mlp_bias"):
            raise PlannerError("moe_layer_freq and mlp_bias: only 1 and false are known for DeepSeek models")
        if not c.get("num_experts_per_tok"):
            raise PlannerError(f"num_experts_per_tok = {c.get('num_experts_per_tok')!r}: give how many experts a token visits")
        experts = {
            "num_experts": c["n_routed_experts"], "top_k": c["num_experts_per_tok"],
            "expert_ffn_hidden_size": c["moe_intermediate_size"], "num_shared_experts": c.get("n_shared_experts") or 0,
            "num_dense_layers": c["first_k_dense_replace"],
        }  # fmt: skip
    return {**common, "attention": "mla", **latent, **query, "qkv_bias": bias, "attention_output_bias": bias, **experts}


def gpt2(c: Config) -> dict[str, Any]:
    return {
        "num_layers": c["n_layer"], "hidden_size": c["n_embd"], "num_heads": c["n_head"], "vocab_size": c["vocab_size"],
        "ffn_hidden_size": c.get("n_inner") or 4 * c["n_embd"], "activation": activation(c, "activation_function"),
        "max_positions": c["n_positions"], "tied_embeddings": c["tie_word_embeddings"],
        "hidden_dropout": c.get("resid_pdrop", 0.1), "attention_dropout": c.get("attn_pdrop", 0.1), "softmax_in_fp32": False,
        **_PLAIN, "position_embedding": "learned",
    }  # fmt: skip


_PLAIN: dict[str, Any] = {
    "gated_ffn": False, "norm": "layernorm", "qkv_bias": True, "attention_output_bias": True, "ffn_bias": True,
}  # fmt: skip


def gpt_neox(c: Config) -> dict[str, Any]:
    bias = c["attention_bias"]
    return {
        "num_layers": c["num_hidden_layers"], "hidden_size": c["hidden_size"], "num_heads": c["num_attention_heads"],
        "vocab_size": c["vocab_size"], "ffn_hidden_size": c["intermediate_size"], "activation": activation(c),
        "tied_embeddings": c["tie_word_embeddings"], "parallel_attention": True, **_PLAIN, "qkv_bias": bias,
        "attention_output_bias": bias, "hidden_dropout": c.get("hidden_dropout", 0.0),
        "attention_dropout": c.get("attention_dropout", 0.0),
    }  # fmt: skip


def mpt(c: Config) -> dict[str, Any]:
    attention = c.get("attn_config") or {}
    if not isinstance(attention, Mapping):
        raise PlannerError(f"attn_config = {attention!r}: must be a table")
    for key, allowed in (("qk_ln", (False, None)), ("prefix_lm", (False, None)), ("attn_type", ("multihead_attention", None))):
        if attention.get(key) not in allowed:
            raise PlannerError(f"attn_config.{key} = {attention[key]!r}: the planner cannot express this for mpt")
    if attention.get("alibi") is False:
        raise PlannerError("attn_config.alibi = false: transformers' mpt always uses ALiBi")
    if c.get("no_bias") is False:
        raise PlannerError("no_bias = false: transformers' mpt has no biases")
    hidden = c["d_model"]
    return {
        "num_layers": c["n_layers"], "hidden_size": hidden, "num_heads": c["n_heads"], "vocab_size": c["vocab_size"],
        "ffn_hidden_size": c["expansion_ratio"] * hidden, "activation": "gelu", "gated_ffn": False, "norm": "layernorm",
        "norm_bias": False, "position_embedding": "alibi", "tied_embeddings": c["tie_word_embeddings"],
    }  # fmt: skip


def opt(c: Config) -> dict[str, Any]:
    narrow = c.get("word_embed_proj_dim") or c["hidden_size"]
    bias = c["enable_bias"]
    return {
        "num_layers": c["num_hidden_layers"], "hidden_size": c["hidden_size"], "num_heads": c["num_attention_heads"],
        "vocab_size": c["vocab_size"], "ffn_hidden_size": c["ffn_dim"], "activation": activation(c, "activation_function"),
        # the table has two rows in front for padding (OPTLearnedPositionalEmbedding.offset)
        "max_positions": c["max_position_embeddings"] + 2, "tied_embeddings": c["tie_word_embeddings"],
        "embedding_projection_size": narrow if narrow != c["hidden_size"] else None, "hidden_dropout": c.get("dropout", 0.1),
        "attention_dropout": c.get("attention_dropout", 0.0), "softmax_in_fp32": False, **_PLAIN,
        "position_embedding": "learned", "qkv_bias": bias, "attention_output_bias": bias, "ffn_bias": bias,
    }  # fmt: skip


def bert(c: Config) -> dict[str, Any]:
    classes = c.get("architectures") or []
    masked = any("MaskedLM" in str(name) for name in classes)
    head = {"head": "masked_language_model", "head_bias": True, "tied_embeddings": c["tie_word_embeddings"]}
    return {
        "architecture": "encoder", "num_layers": c["num_hidden_layers"], "hidden_size": c["hidden_size"],
        "num_heads": c["num_attention_heads"], "vocab_size": c["vocab_size"], "ffn_hidden_size": c["intermediate_size"],
        "activation": activation(c), "max_positions": c["max_position_embeddings"], "type_vocab_size": c["type_vocab_size"],
        "embedding_norm": True, "final_norm": False, "hidden_dropout": c.get("hidden_dropout_prob", 0.1),
        "attention_dropout": c.get("attention_probs_dropout_prob", 0.1), "softmax_in_fp32": False, **_PLAIN,
        "position_embedding": "learned", **(head if masked else {"head": "none", "pooler": True}),
    }  # fmt: skip


def gemma2(c: Config) -> dict[str, Any]:
    layers, bias = c["num_hidden_layers"], c["attention_bias"]
    types = c.get("layer_types") or ["full_attention" if (i + 1) % 2 == 0 else "sliding_attention" for i in range(layers)]
    c = {**c, "hidden_act": c["hidden_activation"]}
    return {
        **_llama_like(c), "qkv_bias": bias, "attention_output_bias": bias, "norms_per_layer": 4,
        **_sliding({**c, "layer_types": types}, layers),
    }  # fmt: skip


def olmoe(c: Config) -> dict[str, Any]:
    bias = c["attention_bias"]
    return {
        **_llama_like(c), "qk_norm": "full", "qkv_bias": bias, "attention_output_bias": bias, "num_experts": c["num_experts"],
        "top_k": c["num_experts_per_tok"], "expert_ffn_hidden_size": c["intermediate_size"],
    }  # fmt: skip


def phi3(c: Config) -> dict[str, Any]:
    dropout = {"hidden_dropout": c.get("resid_pdrop", 0.0)}
    return {**_llama_like(c), **dropout, **_sliding({**c, "layer_types": None}, c["num_hidden_layers"])}


def falcon(c: Config) -> dict[str, Any]:
    heads, bias = c["num_attention_heads"], c["bias"]
    new = c["new_decoder_architecture"]
    if not (new or c["parallel_attn"]):
        raise PlannerError(
            "parallel_attn = false without new_decoder_architecture: the planner knows Falcon's parallel blocks only"
        )
    kv = (c.get("num_kv_heads") or heads) if new else 1 if c["multi_query"] else heads
    norms = c.get("num_ln_in_parallel_attn") or (2 if new else 1)
    return {
        "num_layers": c["num_hidden_layers"], "hidden_size": c["hidden_size"], "num_heads": heads, "num_kv_heads": kv,
        "vocab_size": c["vocab_size"], "ffn_hidden_size": c.get("ffn_hidden_size") or 4 * c["hidden_size"],
        "activation": activation(c, "activation"), "gated_ffn": False, "norm": "layernorm", "norms_per_layer": norms,
        "parallel_attention": True, "qkv_bias": bias, "attention_output_bias": bias, "ffn_bias": bias,
        "position_embedding": "alibi" if c["alibi"] else "rotary", "tied_embeddings": c["tie_word_embeddings"],
        "hidden_dropout": c.get("hidden_dropout", 0.0), "attention_dropout": c.get("attention_dropout", 0.0),
    }  # fmt: skip
