"""What Hugging Face publishes (config.json, fields that shape the model) for the models of the catalog.

Written from the published files, not from ``planner/catalog``: the two are compared by the tests. Where a model has no
class of its own in transformers, the entry is the class that holds the same tensors, and says so.
"""

from __future__ import annotations

from typing import Any

import transformers
from meta_modules import on_meta

Config = dict[str, Any]


def _llama(layers: int, hidden: int, heads: int, kv_heads: int, inner: int, vocabulary: int, **more: Any) -> Config:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-05,
        **more,
    }


def _as(kind: str, layers: int, hidden: int, heads: int, kv_heads: int, inner: int, vocabulary: int, **more: Any) -> Config:
    return {**_llama(layers, hidden, heads, kv_heads, inner, vocabulary), "model_type": kind, "architectures": None, **more}


def _gpt2(layers: int, hidden: int, heads: int, vocabulary: int = 50257, positions: int = 1024, **more: Any) -> Config:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_layer": layers,
        "n_embd": hidden,
        "n_head": heads,
        "vocab_size": vocabulary,
        "n_positions": positions,
        "n_ctx": positions,
        "activation_function": "gelu_new",
        **more,
    }


def _megatron(layers: int, hidden: int, heads: int) -> Config:
    """Megatron's GPT holds the tensors of GPT-2: learned positions, biases everywhere, tied output layer."""
    return _gpt2(layers, hidden, heads, 51200, 2048, activation_function="gelu")


def _foundry(layers: int, hidden: int, heads: int) -> Config:
    """LLM Foundry's benchmark MPT (no ALiBi, with biases) holds the tensors of GPT-2; transformers' mpt does not."""
    return _gpt2(layers, hidden, heads, 50368, 2048, activation_function="gelu", resid_pdrop=0.0, attn_pdrop=0.0)


def _bert(layers: int, hidden: int, heads: int, head: str, vocabulary: int = 30522, **more: Any) -> Config:
    return {
        "model_type": "bert",
        "architectures": [head],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "vocab_size": vocabulary,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "position_embedding_type": "absolute",
        **more,
    }


def _opt(layers: int, hidden: int, heads: int) -> Config:
    return {
        "model_type": "opt",
        "architectures": ["OPTForCausalLM"],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "ffn_dim": 4 * hidden,
        "vocab_size": 50272,
        "max_position_embeddings": 2048,
        "word_embed_proj_dim": hidden,
        "do_layer_norm_before": True,
        "activation_function": "relu",
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "layerdrop": 0.0,
        "_remove_final_layer_norm": False,
    }


def _mixtral(layers: int, hidden: int, heads: int, inner: int) -> Config:
    return {
        **_llama(layers, hidden, heads, 8, inner, 32000),
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "sliding_window": None,
        "router_aux_loss_coef": 0.02,
    }


def _qwen_moe(
    kind: str, layers: int, hidden: int, heads: int, kv_heads: int, inner: int, experts: int, top_k: int, **more: Any
) -> Config:
    return _as(
        kind,
        layers,
        hidden,
        heads,
        kv_heads,
        more.pop("intermediate_size"),
        151936,
        moe_intermediate_size=inner,
        num_experts=experts,
        num_experts_per_tok=top_k,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        use_sliding_window=False,
        max_window_layers=layers,
        norm_topk_prob=True,
        router_aux_loss_coef=0.001,
        **more,
    )


def _gpt_oss(layers: int, experts: int) -> Config:
    return {
        **_llama(layers, 2880, 64, 8, 2880, 201088),
        "model_type": "gpt_oss",
        "architectures": ["GptOssForCausalLM"],
        "head_dim": 64,
        "num_local_experts": experts,
        "num_experts_per_tok": 4,
        "experts_per_token": 4,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * (layers // 2),
        "attention_bias": True,
        "swiglu_limit": 7.0,
        "initial_context_length": 4096,
    }


def _deepseek(kind: str, layers: int, hidden: int, heads: int, inner: int, vocabulary: int, **more: Any) -> Config:
    return {
        **_llama(layers, hidden, heads, heads, inner, vocabulary),
        "model_type": kind,
        "architectures": None,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "moe_layer_freq": 1,
        "ep_size": 1,
        "attention_bias": False,
        "pretraining_tp": 1,
        **more,
    }


FP8_BLOCKS = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
MXFP4 = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.embed_tokens", "lm_head"]}
STORED: dict[str, Config] = {
    **dict.fromkeys(("deepseek-v3", "deepseek-r1", "deepseek-v3.2", "kimi-k2", "minimax-m2", "mimo-v2-flash"), FP8_BLOCKS),
    **dict.fromkeys(("gpt-oss-20b", "gpt-oss-120b"), MXFP4),
    "kimi-k2.5": {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
}
"""quantization_config of the released config.json files that have one."""


def as_stored(name: str, config: Config) -> Config:
    """The configuration with the quantization_config of its file."""
    return {**config, "quantization_config": STORED[name]} if name in STORED else config


def transformers_count(config: Config) -> int:
    """Parameters of transformers' own model, built on the meta device (no memory); tied weights count once."""
    fields = {k: v for k, v in config.items() if k not in ("model_type", "architectures")}
    settings = transformers.AutoConfig.for_model(config["model_type"], **fields)
    name = (config.get("architectures") or ["BertModel"])[0]
    with on_meta():
        if config["model_type"] == "bert":
            model = getattr(transformers, name)(settings)
        else:
            model = transformers.AutoModelForCausalLM.from_config(settings)
    return sum(p.numel() for p in model.parameters())


PUBLISHED: dict[str, Config] = {
    "qwen-1.8b": _as("qwen2", 24, 2048, 16, 16, 5504, 151936, use_sliding_window=False,
                        sliding_window=None, max_window_layers=24),
    "qwen2-7b": _as("qwen2", 28, 3584, 28, 4, 18944, 152064, use_sliding_window=False,
                        sliding_window=None, max_window_layers=28),
    "qwen2-72b": _as("qwen2", 80, 8192, 64, 8, 29568, 152064, use_sliding_window=False,
                        sliding_window=None, max_window_layers=80),
    "qwen2.5-0.5b": _as("qwen2", 24, 896, 14, 2, 4864, 151936, use_sliding_window=False,
                        sliding_window=None, max_window_layers=24, tie_word_embeddings=True),
    "qwen2.5-1.5b": _as("qwen2", 28, 1536, 12, 2, 8960, 151936, use_sliding_window=False,
                        sliding_window=None, max_window_layers=28, tie_word_embeddings=True),
    "qwen2.5-3b": _as("qwen2", 36, 2048, 16, 2, 11008, 151936, use_sliding_window=False,
                        sliding_window=None, max_window_layers=36, tie_word_embeddings=True),
    "qwen2.5-14b": _as("qwen2", 48, 5120, 40, 8, 13824, 152064, use_sliding_window=False,
                        sliding_window=None, max_window_layers=48),
    "qwen2.5-32b": _as("qwen2", 64, 5120, 40, 8, 27648, 152064, use_sliding_window=False,
                        sliding_window=None, max_window_layers=64),
    "qwen2.5-72b": _as("qwen2", 80, 8192, 64, 8, 29568, 152064, use_sliding_window=False,
                        sliding_window=None, max_window_layers=80),
    "qwen3-0.6b": _as("qwen3", 28, 1024, 16, 8, 3072, 151936, head_dim=128, attention_bias=False, use_sliding_window=False,
                       sliding_window=None, max_window_layers=28, tie_word_embeddings=True),
    "qwen3-1.7b": _as("qwen3", 28, 2048, 16, 8, 6144, 151936, head_dim=128, attention_bias=False, use_sliding_window=False,
                       sliding_window=None, max_window_layers=28, tie_word_embeddings=True),
    "qwen3-4b": _as("qwen3", 36, 2560, 32, 8, 9728, 151936, head_dim=128, attention_bias=False, use_sliding_window=False,
                       sliding_window=None, max_window_layers=36, tie_word_embeddings=True),
    "qwen3-14b": _as("qwen3", 40, 5120, 40, 8, 17408, 151936, head_dim=128, attention_bias=False, use_sliding_window=False,
                       sliding_window=None, max_window_layers=40),
    "qwen3-32b": _as("qwen3", 64, 5120, 64, 8, 25600, 151936, head_dim=128, attention_bias=False, use_sliding_window=False,
                       sliding_window=None, max_window_layers=64),
    "llama-65b": _llama(80, 8192, 64, 64, 22016, 32000),
    "codellama-34b": _llama(48, 8192, 64, 8, 22016, 32000),
    "deepseek-coder-33b": _llama(62, 7168, 56, 8, 19200, 32256),
    "opt-13b": _opt(40, 5120, 40),
    "llama-2-7b": _llama(32, 4096, 32, 32, 11008, 32000, pretraining_tp=1, rope_scaling=None),
    "llama-2-13b": _llama(40, 5120, 40, 40, 13824, 32000),
    "llama-2-70b": _llama(80, 8192, 64, 8, 28672, 32000),
    "llama-3-8b": _llama(32, 4096, 32, 8, 14336, 128256, rope_theta=500000.0),
    "llama-3-70b": _llama(80, 8192, 64, 8, 28672, 128256),
    "llama-3.1-8b": _llama(32, 4096, 32, 8, 14336, 128256, mlp_bias=False, attention_bias=False),
    "llama-3.1-70b": _llama(80, 8192, 64, 8, 28672, 128256),
    "llama-3.1-405b": _llama(126, 16384, 128, 8, 53248, 128256),
    "llama-3.2-1b": _llama(16, 2048, 32, 8, 8192, 128256, head_dim=64, tie_word_embeddings=True),
    "llama-3.2-3b": _llama(28, 3072, 24, 8, 8192, 128256, head_dim=128, tie_word_embeddings=True),
    "dense-13b": _llama(40, 5120, 40, 40, 13824, 32000),  # LLaMA-13B
    "dense-33b": _llama(60, 6656, 52, 52, 17920, 32000),  # LLaMA-33B (Touvron et al. 2023, table 2)
    "mistral-7b": {**_as("mistral", 32, 4096, 32, 8, 14336, 32000), "sliding_window": 4096},
    "mixtral-8x7b": _mixtral(32, 4096, 32, 14336),
    "mixtral-8x22b": _mixtral(56, 6144, 48, 16384),
    # InternLM's own classes are not in transformers; LLaMA with biases on the four attention projections holds v1's tensors
    "internlm-7b": _llama(32, 4096, 32, 32, 11008, 103168, attention_bias=True),
    "internlm2-7b": _llama(32, 4096, 32, 8, 14336, 92544),  # wqkv in one matrix, no biases
    # Qwen v1 holds the tensors of Qwen2 with as many key-value heads as heads (its intermediate_size 22016 is gate + up)
    "qwen-7b": _as("qwen2", 32, 4096, 32, 32, 11008, 151936),
    "qwen2.5-7b": _as("qwen2", 28, 3584, 28, 4, 18944, 152064, use_sliding_window=False, sliding_window=131072,
                        max_window_layers=28),
    "qwen3-8b": _as("qwen3", 36, 4096, 32, 8, 12288, 151936, head_dim=128, attention_bias=False, use_sliding_window=False,
                      sliding_window=None, max_window_layers=36),
    "qwen1.5-moe-a2.7b": _qwen_moe("qwen2_moe", 24, 2048, 16, 16, 1408, 60, 4, intermediate_size=5632,
                                   shared_expert_intermediate_size=5632),
    "qwen2-57b-a14b": _qwen_moe("qwen2_moe", 28, 3584, 28, 4, 2560, 64, 8, intermediate_size=18944,
                                shared_expert_intermediate_size=20480),
    "qwen3-30b-a3b": _qwen_moe("qwen3_moe", 48, 2048, 32, 4, 768, 128, 8, intermediate_size=6144, head_dim=128),
    "qwen3-235b-a22b": _qwen_moe("qwen3_moe", 94, 4096, 64, 4, 1536, 128, 8, intermediate_size=12288, head_dim=128),
    "gpt-oss-20b": _gpt_oss(24, 32),
    "gpt-oss-120b": _gpt_oss(36, 128),
    "deepseek-v2": _deepseek(
        "deepseek_v2", 60, 5120, 128, 12288, 102400, q_lora_rank=1536, moe_intermediate_size=1536, n_routed_experts=160,
        n_shared_experts=2, num_experts_per_tok=6, first_k_dense_replace=1, n_group=8, topk_group=3,
        topk_method="group_limited_greedy", routed_scaling_factor=16.0, scoring_func="softmax", seq_aux=True,
        aux_loss_alpha=0.001, norm_topk_prob=False,
    ),
    "deepseek-v2-lite": _deepseek(
        "deepseek_v2", 27, 2048, 16, 10944, 102400, q_lora_rank=None, moe_intermediate_size=1408, n_routed_experts=64,
        n_shared_experts=2, num_experts_per_tok=6, first_k_dense_replace=1, n_group=1, topk_group=1, topk_method="greedy",
        routed_scaling_factor=1.0, scoring_func="softmax", seq_aux=True, aux_loss_alpha=0.001, norm_topk_prob=False,
    ),
    "deepseek-v3": _deepseek(
        "deepseek_v3", 61, 7168, 128, 18432, 129280, q_lora_rank=1536, moe_intermediate_size=2048, n_routed_experts=256,
        n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=3, n_group=8, topk_group=4, topk_method="noaux_tc",
        routed_scaling_factor=2.5, scoring_func="sigmoid", norm_topk_prob=True,
    ),
    "olmoe-1b-7b": {
        **_llama(16, 2048, 16, 16, 1024, 50304), "model_type": "olmoe", "architectures": ["OlmoeForCausalLM"], "clip_qkv": None,
        "num_experts": 64, "num_experts_per_tok": 8, "norm_topk_prob": False, "router_aux_loss_coef": 0.01,
    },
    "gpt2": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1024, 16),
    "gpt2-large": _gpt2(36, 1280, 20),
    "gpt2-xl": _gpt2(48, 1600, 25),
    "gpt3-175b": _megatron(96, 12288, 96),
    "megatron-1.7b": _megatron(24, 2304, 24),
    "megatron-3.6b": _megatron(30, 3072, 32),
    "megatron-7.5b": _megatron(36, 4096, 32),
    "megatron-18b": _megatron(40, 6144, 48),
    "megatron-39b": _megatron(48, 8192, 64),
    "megatron-76b": _megatron(60, 10240, 80),
    "megatron-145b": _megatron(80, 12288, 96),
    "megatron-310b": _megatron(96, 16384, 128),
    "gpt3-1.3b": _megatron(24, 2048, 16),
    "gpt3-2.7b": _megatron(32, 2560, 32),
    "gpt3-6.7b": _megatron(32, 4096, 32),
    "gpt3-13b": _megatron(40, 5120, 40),
    "megatron-22b": _megatron(48, 6144, 64),
    "megatron-175b": _megatron(96, 12288, 96),
    "megatron-530b": _megatron(105, 20480, 128),
    "megatron-1t": _megatron(128, 25600, 160),
    "mpt-125m": _foundry(12, 768, 12),
    "mpt-350m": _foundry(24, 1024, 16),
    "mpt-760m": _foundry(24, 1536, 12),
    "mpt-1b": _foundry(24, 2048, 16),
    "mpt-3b": _foundry(32, 2560, 20),
    "mpt-7b": _foundry(32, 4096, 32),
    "mpt-13b": _foundry(40, 5120, 40),
    "mpt-30b": _foundry(48, 7168, 56),
    "mpt-70b": _foundry(80, 8192, 64),
    "mpt-7b-alibi": {
        "model_type": "mpt", "architectures": ["MPTForCausalLM"], "d_model": 4096, "n_heads": 32, "n_layers": 32,
        "vocab_size": 50432, "max_seq_len": 2048, "expansion_ratio": 4, "no_bias": True, "learned_pos_emb": True,
        "attn_config": {"alibi": True, "alibi_bias_max": 8, "attn_type": "multihead_attention", "qk_ln": False, "attn_pdrop": 0},
    },
    "gpt-neox-20b": {
        "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "num_hidden_layers": 44, "hidden_size": 6144,
        "num_attention_heads": 64, "intermediate_size": 24576, "vocab_size": 50432, "hidden_act": "gelu_fast",
        "rotary_pct": 0.25, "rotary_emb_base": 10000, "use_parallel_residual": True, "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    },
    "opt-1.3b": _opt(24, 2048, 32),
    "opt-30b": _opt(48, 7168, 56),
    "gemma-2-9b": {
        **_llama(42, 3584, 16, 8, 14336, 256000, head_dim=256), "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"],
        "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
        "sliding_window": 4096, "query_pre_attn_scalar": 256, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0,
    },
    "phi-3-mini": {
        **_llama(32, 3072, 32, 32, 8192, 32064), "model_type": "phi3", "architectures": ["Phi3ForCausalLM"],
        "sliding_window": 2047, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "original_max_position_embeddings": 4096,
    },
    "falcon-7b": {
        "model_type": "falcon", "architectures": ["FalconForCausalLM"], "num_hidden_layers": 32, "hidden_size": 4544,
        "num_attention_heads": 71, "vocab_size": 65024, "multi_query": True, "parallel_attn": True, "bias": False,
        "alibi": False, "new_decoder_architecture": False, "hidden_dropout": 0.0, "attention_dropout": 0.0,
    },
    "falcon-40b": {
        "model_type": "falcon", "architectures": ["FalconForCausalLM"], "num_hidden_layers": 60, "hidden_size": 8192,
        "num_attention_heads": 128, "num_kv_heads": 8, "vocab_size": 65024, "multi_query": True, "parallel_attn": True,
        "bias": False, "alibi": False, "new_decoder_architecture": True,
    },
    "falcon-180b": {
        "model_type": "falcon", "architectures": ["FalconForCausalLM"], "num_hidden_layers": 80, "hidden_size": 14848,
        "num_attention_heads": 232, "num_kv_heads": 8, "vocab_size": 65024, "multi_query": True, "parallel_attn": True,
        "bias": False, "alibi": False, "new_decoder_architecture": True,
    },
    "bert-base": _bert(12, 768, 12, "BertModel"),
    "bert-base-mlm": _bert(12, 768, 12, "BertForMaskedLM"),
    "bert-large": _bert(24, 1024, 16, "BertModel"),
    "bert-large-pretraining": _bert(24, 1024, 16, "BertForPreTraining"),
    "bloom-7b1": {
        "model_type": "bloom", "architectures": ["BloomForCausalLM"], "n_layer": 30, "hidden_size": 4096, "n_head": 32,
        "vocab_size": 250880, "apply_residual_connection_post_layernorm": False, "hidden_dropout": 0.0, "pretraining_tp": 4,
    },
    "litebert": _bert(6, 768, 12, "BertModel", 8000, type_vocab_size=1),
}  # fmt: skip
