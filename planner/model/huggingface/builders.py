"""How each family's fields make a model. Names are transformers'; what cannot be expressed raises PlannerError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.common.errors import PlannerError
from planner.model.huggingface.reading import IRRELEVANT, ONLY, activation, alternating, class_name, router_groups, sliding

Config = Mapping[str, Any]


def _llama_like(c: Config) -> dict[str, Any]:
    """Fields that llama and its kin share."""
    heads = c["num_attention_heads"]
    return {
        "num_layers": c["num_hidden_layers"],
        "hidden_size": c["hidden_size"],
        "vocab_size": c["vocab_size"],
        "num_heads": heads,
        "num_kv_heads": c.get("num_key_value_heads") or heads,
        "head_dim": c.get("head_dim"),
        "ffn_hidden_size": c["intermediate_size"],
        "activation": activation(c),
        "tied_embeddings": c.get("tie_word_embeddings", False),
        "attention_dropout": c.get("attention_dropout", 0.0),
    }


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
        raise PlannerError("mlp_only_layers = {0!r}: must list layers from 0 to {1}", only, layers - 1)
    step = c["decoder_sparse_step"]
    if not c["num_experts"] or all(i in only for i in range(step - 1, layers, step)):
        return {}
    return {
        "num_experts": c["num_experts"],
        "top_k": c["num_experts_per_tok"],
        "expert_ffn_hidden_size": c["moe_intermediate_size"],
        "moe_every": step,
        "dense_layers": tuple(only),
        **shared,
    }


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
        **_llama_like(c),
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "ffn_bias": True,
        "router_bias": True,
        "attention_sinks": True,
        "num_experts": c["num_local_experts"],
        "top_k": c["num_experts_per_tok"],
        "expert_ffn_hidden_size": c["intermediate_size"],
        "activation": "clamped_quick_gelu",  # transformers, modeling_gpt_oss.py; config.json says silu, which nothing reads
        "softmax_in_fp32": False,
        **sliding(c, c.get("layer_types") or alternating(c)),
    }


def deepseek(c: Config) -> dict[str, Any]:
    common = {k: v for k, v in _llama_like(c).items() if k not in ("num_kv_heads", "head_dim")}
    latent = {k: c[k] for k in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")}
    query = {"q_lora_rank": c["q_lora_rank"]} if c.get("q_lora_rank") else {}
    bias = c["attention_bias"]
    experts: dict[str, Any] = {}
    if c.get("mlp_bias"):
        raise PlannerError("mlp_bias = true: biases of dense and shared but not of routed experts cannot be expressed")
    if c.get("n_routed_experts") and c["first_k_dense_replace"] < c["num_hidden_layers"]:
        if not c.get("num_experts_per_tok"):
            raise PlannerError("num_experts_per_tok = {0!r}: give how many experts a token visits", c.get("num_experts_per_tok"))
        experts = {
            "num_experts": c["n_routed_experts"],
            "top_k": c["num_experts_per_tok"],
            "expert_ffn_hidden_size": c["moe_intermediate_size"],
            "num_shared_experts": c.get("n_shared_experts") or 0,
            "num_dense_layers": c["first_k_dense_replace"],
            **({} if c.get("topk_method") == "greedy" else router_groups(c.get("n_group"), c.get("topk_group"))),
        }
    return {**common, "attention": "mla", **latent, **query, "qkv_bias": bias, "attention_output_bias": bias, **experts}


def gpt2(c: Config) -> dict[str, Any]:
    return {
        "num_layers": c["n_layer"],
        "hidden_size": c["n_embd"],
        "num_heads": c["n_head"],
        "vocab_size": c["vocab_size"],
        "ffn_hidden_size": c.get("n_inner") or 4 * c["n_embd"],
        "activation": activation(c, "activation_function"),
        "max_positions": c["n_positions"],
        "tied_embeddings": c["tie_word_embeddings"],
        "hidden_dropout": c.get("resid_pdrop", 0.1),
        "attention_dropout": c.get("attn_pdrop", 0.1),
        "softmax_in_fp32": False,
        **_PLAIN,
        "position_embedding": "learned",
    }


_PLAIN: dict[str, Any] = {
    "gated_ffn": False,
    "norm": "layernorm",
    "qkv_bias": True,
    "attention_output_bias": True,
    "ffn_bias": True,
}


def gpt_neox(c: Config) -> dict[str, Any]:
    bias = c["attention_bias"]
    return {
        "num_layers": c["num_hidden_layers"],
        "hidden_size": c["hidden_size"],
        "num_heads": c["num_attention_heads"],
        "vocab_size": c["vocab_size"],
        "ffn_hidden_size": c["intermediate_size"],
        "activation": activation(c),
        "tied_embeddings": c["tie_word_embeddings"],
        "parallel_attention": c["use_parallel_residual"],
        **_PLAIN,
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "hidden_dropout": c.get("hidden_dropout", 0.0),
        "attention_dropout": c.get("attention_dropout", 0.0),
    }


_MPT_ATTENTION_ONLY: dict[str, tuple[Any, ...]] = {
    "attn_type": ("multihead_attention", None), "qk_ln": (False, None), "qk_gn": (False, None), "prefix_lm": (False, None),
    "rope": (False, None), "sliding_window_size": (-1, None),
}  # fmt: skip
_MPT_ATTENTION_READS = frozenset({"alibi", "attn_pdrop", "alibi_bias_max", "attn_impl", "softmax_scale", "attn_uses_sequence_id"})


def _mpt_attention(c: Config) -> Config:
    """``attn_config``, with what cannot be expressed refused."""
    attention = c.get("attn_config") or {}
    if not isinstance(attention, Mapping):
        raise PlannerError("attn_config = {0!r}: must be a table", attention)
    for key, value in attention.items():
        if key in _MPT_ATTENTION_ONLY and value in _MPT_ATTENTION_ONLY[key]:
            continue
        if key in _MPT_ATTENTION_READS or key in IRRELEVANT or key in ONLY or value is None or value is False:
            continue
        raise PlannerError("attn_config.{0} = {1!r}: the planner cannot express this for mpt", key, value)
    return attention


def mpt(c: Config) -> dict[str, Any]:
    """As LLM Foundry's own classes read the file; transformers' class always has ALiBi and never a bias."""
    attention = _mpt_attention(c)
    hidden, bias, alibi = c["d_model"], not c["no_bias"], attention.get("alibi", True) is not False
    learned = not alibi and c["learned_pos_emb"]
    return {
        "num_layers": c["n_layers"],
        "hidden_size": hidden,
        "num_heads": c["n_heads"],
        "vocab_size": c["vocab_size"],
        "ffn_hidden_size": c["expansion_ratio"] * hidden,
        "activation": "gelu",
        "tied_embeddings": c["tie_word_embeddings"],
        **_PLAIN,
        "norm_bias": bias,
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "ffn_bias": bias,
        "position_embedding": "alibi" if alibi else "learned" if learned else "none",
        "max_positions": c["max_seq_len"] if learned else 0,
        "hidden_dropout": c.get("resid_pdrop", 0.0),
        "attention_dropout": attention.get("attn_pdrop") or 0.0,
    }


def bloom(c: Config) -> dict[str, Any]:
    return {
        "num_layers": c["n_layer"],
        "hidden_size": c["hidden_size"],
        "num_heads": c["n_head"],
        "vocab_size": c["vocab_size"],
        "ffn_hidden_size": 4 * c["hidden_size"],
        "activation": "gelu_tanh",
        "tied_embeddings": c["tie_word_embeddings"],
        "hidden_dropout": c.get("hidden_dropout", 0.0),
        "attention_dropout": c.get("attention_dropout", 0.0),
        **_PLAIN,
        "embedding_norm": True,
        "position_embedding": "alibi",
    }


def opt(c: Config) -> dict[str, Any]:
    narrow = c.get("word_embed_proj_dim") or c["hidden_size"]
    bias = c["enable_bias"]
    return {
        "num_layers": c["num_hidden_layers"],
        "hidden_size": c["hidden_size"],
        "num_heads": c["num_attention_heads"],
        "vocab_size": c["vocab_size"],
        "ffn_hidden_size": c["ffn_dim"],
        "activation": activation(c, "activation_function"),
        # the table has two rows in front for padding (OPTLearnedPositionalEmbedding.offset)
        "max_positions": c["max_position_embeddings"] + 2,
        "position_offset": 2,
        "tied_embeddings": c["tie_word_embeddings"],
        "embedding_projection_size": narrow if narrow != c["hidden_size"] else None,
        "hidden_dropout": c.get("dropout", 0.1),
        "attention_dropout": c.get("attention_dropout", 0.0),
        **_PLAIN,
        "position_embedding": "learned",
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "ffn_bias": bias,
        # with the norms behind the blocks (opt-350m) the last one closes the model
        "final_norm": c["do_layer_norm_before"] and not c["_remove_final_layer_norm"],
        "norm_placement": "before" if c["do_layer_norm_before"] else "after",
    }


def _bert_head(c: Config) -> dict[str, Any]:
    """Head by the class that ``architectures`` names; without one, the bare encoder with its pooler."""
    name = class_name(c).removeprefix("BertFor")
    labels = len(c["id2label"]) if isinstance(c.get("id2label"), dict) else c.get("num_labels", 2)
    masked = {"head": "masked_language_model", "head_bias": True, "tied_embeddings": True}
    heads: dict[str, dict[str, Any]] = {
        "": {"head": "none", "pooler": True},
        "BertModel": {"head": "none", "pooler": True},
        "MaskedLM": masked,
        "BertLMHeadModel": masked,
        "PreTraining": {**masked, "pooler": True, "num_labels": 2},
        "NextSentencePrediction": {"head": "none", "pooler": True, "num_labels": 2},
        "SequenceClassification": {"head": "none", "pooler": True, "num_labels": labels},
        "TokenClassification": {"head": "none", "num_labels": labels},
        "QuestionAnswering": {"head": "none", "num_labels": labels},
    }
    if name not in heads:
        known = ", ".join(f"BertFor{n}" for n in heads if n not in ("", "BertModel"))
        raise PlannerError("architectures = {0!r}: the planner knows BertModel, {1}", c["architectures"], known)
    if heads[name].get("tied_embeddings") and not c["tie_word_embeddings"]:
        raise PlannerError("tie_word_embeddings = false: the planner knows BERT's tied output layer only")
    return heads[name]


def bert(c: Config) -> dict[str, Any]:
    if c["is_decoder"]:
        raise PlannerError("is_decoder = true: the planner knows BERT as an encoder only")
    return {
        "architecture": "encoder",
        "num_layers": c["num_hidden_layers"],
        "hidden_size": c["hidden_size"],
        "num_heads": c["num_attention_heads"],
        "vocab_size": c["vocab_size"],
        "ffn_hidden_size": c["intermediate_size"],
        "activation": activation(c),
        "max_positions": c["max_position_embeddings"],
        "type_vocab_size": c["type_vocab_size"],
        "embedding_norm": True,
        "final_norm": False,
        "norm_placement": "after",
        "hidden_dropout": c.get("hidden_dropout_prob", 0.1),
        "attention_dropout": c.get("attention_probs_dropout_prob", 0.1),
        "softmax_in_fp32": False,
        **_PLAIN,
        "position_embedding": "learned",
        **_bert_head(c),
    }


def gemma2(c: Config) -> dict[str, Any]:
    bias = c["attention_bias"]
    return {
        **_llama_like({**c, "hidden_act": c["hidden_activation"]}),
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "norms_per_layer": 4,
        **sliding(c, c.get("layer_types") or alternating(c)),
    }


def olmoe(c: Config) -> dict[str, Any]:
    bias = c["attention_bias"]
    return {
        **_llama_like(c),
        "qk_norm": "full",
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "num_experts": c["num_experts"],
        "top_k": c["num_experts_per_tok"],
        "expert_ffn_hidden_size": c["intermediate_size"],
    }


def phi3(c: Config) -> dict[str, Any]:
    dropout = {"hidden_dropout": c.get("resid_pdrop", 0.0)}
    return {**_llama_like(c), **dropout, **sliding(c, None)}


def falcon(c: Config) -> dict[str, Any]:
    heads, bias, new, parallel = c["num_attention_heads"], c["bias"], c["new_decoder_architecture"], c["parallel_attn"]
    if new and not parallel:
        raise PlannerError("parallel_attn = false with new_decoder_architecture: the planner knows no such Falcon")
    kv = (c.get("num_kv_heads") or heads) if new else 1 if c["multi_query"] else heads
    norms = c.get("num_ln_in_parallel_attn") or (2 if new else 1)
    return {
        "num_layers": c["num_hidden_layers"],
        "hidden_size": c["hidden_size"],
        "num_heads": heads,
        "num_kv_heads": kv,
        "vocab_size": c["vocab_size"],
        "ffn_hidden_size": c.get("ffn_hidden_size") or 4 * c["hidden_size"],
        "activation": activation(c, "activation"),
        "gated_ffn": False,
        "norm": "layernorm",
        "norms_per_layer": norms if parallel else 2,
        "parallel_attention": parallel,
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "ffn_bias": bias,
        "position_embedding": "alibi" if c["alibi"] else "rotary",
        "tied_embeddings": c["tie_word_embeddings"],
        "softmax_in_fp32": False,
        "hidden_dropout": c.get("hidden_dropout", 0.0),
        "attention_dropout": c.get("attention_dropout", 0.0),
    }
