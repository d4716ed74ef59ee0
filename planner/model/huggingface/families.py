"""The families: transformers' defaults by model_type, and which further fields each reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.model.huggingface import builders

Config = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One ``model_type``: transformers' defaults, the fields it reads, and how they make a model."""

    defaults: dict[str, Any]
    build: Callable[[Config], dict[str, Any]]
    reads: frozenset[str] = field(default_factory=frozenset)
    aliases: dict[str, str] = field(default_factory=dict)  # transformers' attribute_map: second name -> first
    stores_quantized: bool = False  # released with quantized weights: the field says how they are stored, not what they are


def _sizes(layers: int, hidden: int, heads: int, inner: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        **more,
    }


_OPTIONAL = frozenset({"num_key_value_heads", "head_dim", "attention_dropout", "max_position_embeddings"})
_WINDOW = _OPTIONAL | {"sliding_window"}
_SLIDING = _WINDOW | {"layer_types"}
_QWEN = _SLIDING | {"max_window_layers"}
_LOCAL = {"num_experts": "num_local_experts"}
_LATENT = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "attention_bias": False}

# transformers' defaults by model_type (configuration_*.py of transformers 5)
FAMILIES: dict[str, Family] = {
    "llama": Family(
        defaults=_sizes(32, 4096, 32, 11008, 32000, attention_bias=False, mlp_bias=False), build=builders.llama, reads=_OPTIONAL
    ),
    "mistral": Family(
        defaults=_sizes(32, 4096, 32, 14336, 32000, num_key_value_heads=8, sliding_window=4096),
        build=builders.mistral, reads=_OPTIONAL,
    ),
    "mixtral": Family(
        defaults=_sizes(32, 4096, 32, 14336, 32000, num_key_value_heads=8, num_local_experts=8, num_experts_per_tok=2),
        build=builders.mixtral, reads=_WINDOW, aliases=_LOCAL,
    ),
    "qwen2": Family(
        defaults=_sizes(32, 4096, 32, 22016, 151936, num_key_value_heads=32, use_sliding_window=False),
        build=builders.qwen2, reads=_QWEN,
    ),
    "qwen2_moe": Family(
        defaults=_sizes(
            24, 2048, 16, 5632, 151936, num_key_value_heads=16, num_experts=60, num_experts_per_tok=4, moe_intermediate_size=1408,
            shared_expert_intermediate_size=5632, decoder_sparse_step=1, qkv_bias=True, use_sliding_window=False,
        ),
        build=builders.qwen2_moe, reads=_QWEN | {"mlp_only_layers"},
    ),
    "qwen3": Family(
        defaults=_sizes(32, 4096, 32, 22016, 151936, num_key_value_heads=32, head_dim=128, attention_bias=False,
                        use_sliding_window=False),
        build=builders.qwen3, reads=_QWEN,
    ),
    "qwen3_moe": Family(
        defaults=_sizes(
            24, 2048, 32, 6144, 151936, num_key_value_heads=4, attention_bias=False, num_experts=128, num_experts_per_tok=8,
            moe_intermediate_size=768, decoder_sparse_step=1, use_sliding_window=False,
        ),
        build=builders.qwen3_moe, reads=_WINDOW | {"max_window_layers", "mlp_only_layers"},
        aliases={"num_local_experts": "num_experts"},
    ),
    "gpt_oss": Family(
        defaults=_sizes(
            36, 2880, 64, 2880, 201088, num_key_value_heads=8, head_dim=64, sliding_window=128, num_local_experts=128,
            num_experts_per_tok=4, attention_bias=True,
        ),
        build=builders.gpt_oss, reads=_SLIDING, aliases=_LOCAL | {"experts_per_token": "num_experts_per_tok"},
        stores_quantized=True,
    ),
    "deepseek_v2": Family(
        defaults=_sizes(
            32, 4096, 32, 11008, 102400, moe_intermediate_size=1407, first_k_dense_replace=0,
            n_routed_experts=64, n_shared_experts=2, q_lora_rank=1536, mlp_bias=False,
            num_experts_per_tok=None, **_LATENT,
        ),
        build=builders.deepseek, reads=_OPTIONAL, aliases={"num_experts": "n_routed_experts"}, stores_quantized=True,
    ),
    "deepseek_v3": Family(
        defaults=_sizes(
            61, 7168, 128, 18432, 129280, moe_intermediate_size=2048, num_experts_per_tok=8, first_k_dense_replace=3,
            n_routed_experts=256, n_shared_experts=1, q_lora_rank=1536, n_group=8, topk_group=4, **_LATENT,
        ),
        build=builders.deepseek, reads=_OPTIONAL, aliases={"num_local_experts": "n_routed_experts"}, stores_quantized=True,
    ),
    "gpt2": Family(
        defaults={
            "n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257, "n_positions": 1024,
            "activation_function": "gelu_new", "tie_word_embeddings": True,
        },
        build=builders.gpt2, reads=frozenset({"n_inner", "resid_pdrop", "attn_pdrop", "embd_pdrop"}),
        aliases={
            "hidden_size": "n_embd", "max_position_embeddings": "n_positions", "num_attention_heads": "n_head",
            "num_hidden_layers": "n_layer",
        },
    ),
    "gpt_neox": Family(
        defaults={**_sizes(44, 6144, 64, 24576, 50432, attention_bias=True, use_parallel_residual=True), "hidden_act": "gelu"},
        build=builders.gpt_neox, reads=frozenset({"attention_dropout", "hidden_dropout", "max_position_embeddings"}),
    ),
    "mpt": Family(
        defaults={
            "n_layers": 24, "d_model": 2048, "n_heads": 16, "expansion_ratio": 4, "vocab_size": 50368,
            "tie_word_embeddings": True, "no_bias": True, "learned_pos_emb": True, "max_seq_len": 2048,
        },
        build=builders.mpt, reads=frozenset({"attn_config", "emb_pdrop", "resid_pdrop"}),
        aliases={"hidden_size": "d_model", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"},
    ),
    "bloom": Family(
        defaults={"n_layer": 2, "hidden_size": 64, "n_head": 8, "vocab_size": 250880, "tie_word_embeddings": True},
        build=builders.bloom,
        # where the residual branches off and whether sums are exact changes neither parameters nor work
        reads=frozenset(
            {"attention_dropout", "hidden_dropout", "seq_length", "slow_but_exact", "apply_residual_connection_post_layernorm"}
        ),
        aliases={"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "n_embed": "hidden_size"},
    ),
    "opt": Family(
        defaults={
            "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "ffn_dim": 3072, "vocab_size": 50272,
            "max_position_embeddings": 2048, "activation_function": "relu", "tie_word_embeddings": True, "enable_bias": True,
            "do_layer_norm_before": True, "_remove_final_layer_norm": False,
        },
        build=builders.opt, reads=frozenset({"word_embed_proj_dim", "dropout", "attention_dropout"}),
    ),
    "bert": Family(
        defaults={
            **_sizes(12, 768, 12, 3072, 30522), "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
            "tie_word_embeddings": True, "is_decoder": False,
        },
        build=builders.bert, reads=frozenset({"hidden_dropout_prob", "attention_probs_dropout_prob"}),
    ),
    "internlm": Family(defaults=_sizes(32, 4096, 32, 11008, 103168, bias=True), build=builders.internlm2, reads=_OPTIONAL),
    "internlm2": Family(defaults=_sizes(32, 4096, 32, 11008, 103168, bias=True), build=builders.internlm2, reads=_OPTIONAL),
    "gemma2": Family(
        defaults=_sizes(
            26, 2304, 8, 9216, 256000, num_key_value_heads=4, head_dim=256, hidden_activation="gelu_pytorch_tanh",
            sliding_window=4096, attention_bias=False,
        ) | {"tie_word_embeddings": True},
        build=builders.gemma2, reads=_SLIDING,
    ),
    "olmoe": Family(
        defaults=_sizes(16, 2048, 16, 2048, 50304, attention_bias=False, num_experts_per_tok=8, num_experts=64),
        build=builders.olmoe, reads=_OPTIONAL, aliases={"num_local_experts": "num_experts"},
    ),
    "phi3": Family(defaults=_sizes(32, 3072, 32, 8192, 32064), build=builders.phi3,
        reads=_WINDOW | {"resid_pdrop", "embd_pdrop"}),
    "falcon": Family(
        defaults={
            "num_hidden_layers": 32, "hidden_size": 4544, "num_attention_heads": 71, "vocab_size": 65024, "alibi": False,
            "new_decoder_architecture": False, "multi_query": True, "parallel_attn": True, "bias": False, "activation": "gelu",
            "tie_word_embeddings": True,
        },
        build=builders.falcon, reads=_OPTIONAL | {"num_kv_heads", "ffn_hidden_size", "hidden_dropout", "num_ln_in_parallel_attn"},
        aliases={"n_embed": "hidden_size"},
    ),
}  # fmt: skip
