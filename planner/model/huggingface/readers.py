"""The decoders by ``model_type``: what each family says beyond sizes, as data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planner.model.huggingface import elsewhere
from planner.model.huggingface import special as own
from planner.model.huggingface.decoders import (
    BIAS,
    FULL,
    GLM_EXPERTS,
    HEAD_NORM,
    LAYERNORM,
    LLAMA_BIAS,
    PLAIN,
    SLIDING,
    THREE_TO_ONE,
    Decoder,
    Experts,
    Fields,
)
from planner.model.huggingface.source import Source


def d(**more: Any) -> Decoder:
    return Decoder(**more)


QWEN3_MOE = Experts()
BAILING_EXPERTS = Experts(shared="num_shared_experts", first="first_k_dense_replace")
READERS: dict[str, Decoder | Callable[[Source], Fields]] = {
    "afmoe": d(
        fixed={**HEAD_NORM, "norms_per_layer": 4, "attention_gate": "full"},
        take=BIAS,
        window="types",
        cycle=THREE_TO_ONE,
        experts=Experts(shared="num_shared_experts", first="num_dense_layers", bias=True),
        ignore=(
            "global_attn_every_n_layers",
            "mup_enabled",
            "n_group",
            "num_expert_groups",
            "num_limited_groups",
            "route_norm",
            "use_grouped_mm",
        ),
    ),
    "apertus": d(fixed={**HEAD_NORM, "gated_ffn": False, "layer_vectors": 2}, take=BIAS),
    "apertus1p5_text": d(fixed={**HEAD_NORM, "gated_ffn": False, "layer_vectors": 2}, take=BIAS, ignore=("output_vocab_size",)),
    "arcee": d(fixed={"gated_ffn": False}, take=LLAMA_BIAS),
    "aria_text": d(
        take=BIAS,
        experts=Experts(
            num="moe_num_experts", top_k="moe_topk", width="intermediate_size", first_default=0, shared="moe_num_shared_experts"
        ),
        ignore=("mlp_bias",),
    ),
    "axk1": d(
        take=BIAS,
        more=own.axk1,
        experts=Experts(num="n_routed_experts", shared="n_shared_experts", first="first_k_dense_replace", first_default=1),
    ),
    "bailing_hybrid": d(
        take=BIAS,
        more=own.kimi_delta,
        experts=Experts(
            top_k="num_experts_per_token", shared="num_shared_experts", first="first_k_dense_replace", first_default=2
        ),
    ),
    "bailing_moe": d(own={}, more=elsewhere.bailing, experts=BAILING_EXPERTS),
    "bailing_moe_linear": d(own={}, more=elsewhere.bailing_linear, experts=BAILING_EXPERTS),
    "bamba": d(take=LLAMA_BIAS, more=own.bamba),
    "beam": d(
        fixed={**HEAD_NORM, "norms_per_layer": 4, "attention_gate": "full"},
        take=BIAS,
        window="types",
        cycle=(SLIDING,) * 5 + (FULL,),
        experts=Experts(first="first_k_dense_replace", first_default=3),
        more=lambda s, f: {"layer_vectors": f["num_heads"]},
    ),
    "biogpt": d(fixed=PLAIN, more=own.biogpt, dropout=True, ignore=("scale_embedding", "activation_dropout", "layerdrop")),
    "bitnet": d(fixed={"attention_output_norm": True}, take=BIAS, more=lambda s, f: {"layer_vectors": f["ffn_hidden_size"]}),
    "codegen": d(
        fixed={
            **PLAIN,
            "qkv_bias": False,
            "attention_output_bias": False,
            "parallel_attention": True,
            "norms_per_layer": 1,
            "head_bias": True,
            "softmax_in_fp32": True,
        },
        more=own.gptj,
        dropout=True,
        ignore=("n_ctx",),
    ),
    "cohere": d(
        fixed={"norm": "layernorm", "norm_bias": False, "norms_per_layer": 1, "parallel_attention": True},
        take=BIAS,
        more=own.cohere,
    ),
    "cohere2": d(
        fixed={"norm": "layernorm", "norm_bias": False, "norms_per_layer": 1, "parallel_attention": True},
        take=BIAS,
        window="types",
        cycle=THREE_TO_ONE,
        ignore=(
            "sliding_window_pattern",
            "order_of_interleaved_layers",
            "rotary_pct",
            "use_embedding_sharing",
            "use_gated_activation",
            "use_parallel_block",
            "use_parallel_embedding",
            "position_embedding_type",
            "layer_switch",
            "use_qk_norm",
        ),
    ),
    "cohere2_moe": d(
        fixed={"norm": "layernorm", "norm_bias": False, "norms_per_layer": 1, "parallel_attention": True},
        take=BIAS,
        window="types",
        cycle=THREE_TO_ONE,
        experts=Experts(width="intermediate_size", shared="num_shared_experts"),
        more=own.cohere_experts,
    ),
    "cwm": d(take={"ffn_bias": "mlp_bias"}, window="types", cycle=(FULL, SLIDING, SLIDING, SLIDING)),
    "dbrx": elsewhere.dbrx,
    "deepseek_v4": d(take=BIAS, more=own.compressed, window="own", ignore=("mlp_bias",)),
    "deepseek_v32": d(take=BIAS, more=own.indexed, experts=GLM_EXPERTS, ignore=("mlp_bias", "topk_method")),
    "dots1": d(
        fixed=HEAD_NORM,
        take=BIAS,
        window="types",
        cycle=(FULL,),
        ignore=("max_window_layers",),
        experts=Experts(num="n_routed_experts", shared="n_shared_experts", first="first_k_dense_replace"),
    ),
    "ernie4_5": d(more=own.ernie, ignore=("dropout",)),
    "ernie4_5_moe": d(
        more=own.ernie_moe, experts=Experts(num="moe_num_experts", top_k="moe_k", shared="moe_num_shared_experts", bias=True)
    ),
    "exaone": d(take=LLAMA_BIAS),
    "exaone4": d(fixed=HEAD_NORM, window="types", cycle=THREE_TO_ONE, ignore=("sliding_window_pattern",)),
    "exaone_moe": d(
        fixed=HEAD_NORM,
        window="types",
        cycle=THREE_TO_ONE,
        ignore=("sliding_window_pattern",),
        experts=Experts(shared="num_shared_experts", first="first_k_dense_replace"),
    ),
    "falcon_h1": d(take=LLAMA_BIAS, more=own.falcon_h1),
    "falcon_mamba": own.mamba1,
    "flex_olmo": d(fixed={"qk_norm": "full"}, take=BIAS, experts=Experts(width="intermediate_size")),
    "flint": d(
        fixed={**HEAD_NORM, "attention_sinks": True},
        take=BIAS,
        window="types",
        cycle=(FULL,),
        experts=Experts(shared_width="shared_expert_intermediate_size"),
    ),
    "gemma": d(take=BIAS, ignore=("use_bidirectional_attention",)),
    "gemma3_text": d(
        fixed={**HEAD_NORM, "norms_per_layer": 4},
        take=BIAS,
        window="types",
        cycle=(SLIDING,) * 5 + (FULL,),
        ignore=("_sliding_window_pattern", "sliding_window_pattern", "use_bidirectional_attention"),
    ),
    "gemma3n_text": d(take=BIAS, more=own.gemma3n, window="own"),
    "gemma4_text": d(take=BIAS, more=own.gemma4, window="own"),
    "glm": d(take={"qkv_bias": "attention_bias"}),
    "glm4": d(fixed={"norms_per_layer": 4}, take={"qkv_bias": "attention_bias"}),
    "glm4_moe": d(take={"qkv_bias": "attention_bias"}, experts=GLM_EXPERTS, more=own.qk_norm_flag("use_qk_norm")),
    "glm4_moe_lite": d(
        take=BIAS,
        more=own.latent,
        experts=Experts(num="n_routed_experts", shared="n_shared_experts", first="first_k_dense_replace", first_default=1),
    ),
    "glm_moe_dsa": d(take=BIAS, more=own.indexed, experts=GLM_EXPERTS, ignore=("mlp_bias", "topk_method")),
    "glm_ocr_text": d(
        own={"attention_bias": False, "tie_word_embeddings": False},
        fixed={"norms_per_layer": 4},
        take={"qkv_bias": "attention_bias"},
    ),
    "gpt_bigcode": d(fixed=PLAIN, more=own.gpt_bigcode, dropout=True),
    "gpt_neo": d(fixed={**PLAIN, "qkv_bias": False}, more=own.gpt_neo, window="own", dropout=True),
    "gptj": d(
        fixed={
            **PLAIN,
            "qkv_bias": False,
            "attention_output_bias": False,
            "parallel_attention": True,
            "norms_per_layer": 1,
            "head_bias": True,
        },
        more=own.gptj,
        dropout=True,
    ),
    "grok-1": d(own={"tie_word_embeddings": True}, more=elsewhere.grok),
    "grok-2": d(own={"tie_word_embeddings": False}, more=elsewhere.grok),
    "granite": d(take=LLAMA_BIAS),
    "granite_swa": d(
        fixed={"attention_sinks": True},
        take=LLAMA_BIAS,
        window="types",
        cycle=(FULL, SLIDING, SLIDING, SLIDING),
        ignore=("layer_rope_theta",),
    ),
    "granitemoe": d(take=BIAS, experts=Experts(num="num_local_experts", width="intermediate_size")),
    "granitemoe_swa": d(
        fixed={"attention_sinks": True},
        take=BIAS,
        window="types",
        cycle=(FULL, SLIDING, SLIDING, SLIDING),
        experts=Experts(num="num_local_experts", width="intermediate_size"),
        more=own.granite_experts,
        ignore=("layer_rope_theta",),
    ),
    "granitemoehybrid": d(
        take=BIAS,
        experts=Experts(num="num_local_experts", width="intermediate_size", shared_width="shared_intermediate_size"),
        more=own.granite_hybrid,
    ),
    "granitemoeshared": d(
        take=BIAS, experts=Experts(num="num_local_experts", width="intermediate_size"), more=own.granite_experts
    ),
    "helium": d(take={"qkv_bias": "attention_bias", "ffn_bias": "mlp_bias"}),
    "hunyuan_v1_dense": d(take=BIAS, more=elsewhere.hunyuan_moe),
    "hunyuan_v1_moe": d(take=BIAS, more=elsewhere.hunyuan_moe),
    "hy_v3": d(
        fixed=HEAD_NORM,
        take=LLAMA_BIAS,
        experts=Experts(shared="num_shared_experts", first="first_k_dense_replace", first_default=1),
        ignore=("enable_moe_fp32_combine",),
    ),
    "hyperclovax": d(take=LLAMA_BIAS, more=lambda s, f: {"norms_per_layer": 4 if s.flag("use_post_norm", True) else 2}),
    "internlm3": d(take=LLAMA_BIAS),
    "iquestcoder": d(take=LLAMA_BIAS),
    "jais2": d(fixed={**LAYERNORM, "gated_ffn": False}, take=LLAMA_BIAS),
    "jamba": d(more=own.jamba, experts=Experts(width="intermediate_size")),
    "kimi_linear": d(
        take=BIAS,
        more=own.kimi_delta,
        experts=Experts(
            top_k="num_experts_per_token", shared="num_shared_experts", first="first_k_dense_replace", first_default=1
        ),
    ),
    "kolibri1": d(
        fixed={**HEAD_NORM, "norms_per_layer": 4},
        window="types",
        cycle=(SLIDING,) * 4 + (FULL,),
        experts=Experts(num="num_local_experts", shared_width="shared_expert_intermediate_size"),
    ),
    "laguna": d(
        fixed=HEAD_NORM,
        take=BIAS,
        window="types",
        cycle=(FULL,),
        experts=Experts(shared_width="shared_expert_intermediate_size", first_default=1),
        more=elsewhere.laguna,
    ),
    "lfm2": d(more=own.lfm2),
    "lfm2_moe": d(more=elsewhere.lfm2_moe, experts=Experts(first="num_dense_layers")),
    "lfm3": d(take=BIAS, window="own", more=own.lfm3),
    "llama4_text": d(
        take={"qkv_bias": "attention_bias", "attention_output_bias": "attention_bias"}, more=own.llama4, window="own"
    ),
    "longcat_flash": d(take={"qkv_bias": "attention_bias", "attention_output_bias": "attention_bias"}, more=elsewhere.longcat),
    "mamba": own.mamba1,
    "mamba2": own.mamba2,
    "mellum": d(fixed=HEAD_NORM, take=BIAS, window="types", cycle=(FULL,), experts=Experts(num="num_local_experts")),
    "mimo": d(
        own={"tie_word_embeddings": False},
        fixed={"qkv_bias": True},
        more=own.unslid,
        ignore=("attention_bias", "max_window_layers", "use_mrope"),
    ),
    "mimo_v2_flash": d(
        more=own.mimo_v2,
        window="own",
        take={"qkv_bias": "attention_bias"},
        experts=Experts(num="n_routed_experts", shared="n_shared_experts", first="moe_layer_freq", first_default=1),
    ),
    "minicpm3": d(take=LLAMA_BIAS, more=own.latent),
    "minimax": d(more=own.lightning, experts=Experts(num="num_local_experts", width="intermediate_size")),
    "minimax_m2": d(
        fixed={"qk_norm": "full"},
        experts=Experts(num="num_local_experts", width="intermediate_size"),
        ignore=(
            "attn_type_list",
            "use_qk_norm",
            "qk_norm_type",
            "rotary_dim",
            "use_routing_bias",
            "use_mtp",
            "num_mtp_modules",
            "mtp_transformer_layers",
            "layernorm_full_attention_alpha",
            "scoring_func",
            "shared_intermediate_size",
        ),
    ),
    "minimax_m3": d(own=own.MINIMAX_M3, fixed=HEAD_NORM, window="own", more=own.minimax_m3),
    "minimax_m3_vl_text": d(fixed=HEAD_NORM, window="own", more=own.minimax_m3),
    "ministral": d(window="types", cycle=(SLIDING,)),
    "ministral3": d(window="always"),
    "mistral4": d(
        take=BIAS,
        more=own.latent,
        experts=Experts(num="n_routed_experts", shared="n_shared_experts", first="first_k_dense_replace"),
    ),
    "nanochat": d(fixed={"qk_norm": "head", "qk_norm_weight": False, "norm_weight": False, "gated_ffn": False}, take=BIAS),
    "nemotron": d(fixed={**LAYERNORM, "gated_ffn": False}, take=LLAMA_BIAS),
    "nemotron_h": own.nemotron_h,
    "nemotron-nas": own.nemotron_nas,
    "olmo": d(fixed={"norm": "layernorm", "norm_weight": False, "norm_bias": False}, take=BIAS, ignore=("clip_qkv",)),
    "olmo2": d(fixed={"qk_norm": "full"}, take=BIAS),
    "olmo3": d(fixed={"qk_norm": "full"}, take=BIAS, window="types", cycle=THREE_TO_ONE),
    "olmo_hybrid": d(take=BIAS, more=own.olmo_hybrid, ignore=("linear_allow_neg_eigval", "linear_use_gate")),
    "persimmon": d(fixed=PLAIN, more=own.persimmon, dropout=True),
    "phi": d(
        fixed={**PLAIN, "parallel_attention": True, "norms_per_layer": 1, "head_bias": True},
        more=own.phi,
        dropout=True,
        ignore=("embd_pdrop",),
    ),
    "phimoe": d(
        fixed=LAYERNORM,
        take={**BIAS, "head_bias": "lm_head_bias"},
        window="always",
        experts=Experts(num="num_local_experts", width="intermediate_size"),
    ),
    "qwen3_5_text": d(
        fixed={**HEAD_NORM, "attention_gate": "query"}, take=BIAS, more=own.gated_delta, ignore=("mlp_only_layers",)
    ),
    "qwen3_5_moe_text": d(
        fixed={**HEAD_NORM, "attention_gate": "query"},
        take=BIAS,
        more=own.gated_delta,
        experts=Experts(shared_width="shared_expert_intermediate_size", gate=True),
    ),
    "qwen3_next": d(
        fixed={**HEAD_NORM, "attention_gate": "query"},
        take=BIAS,
        more=own.gated_delta,
        experts=Experts(shared_width="shared_expert_intermediate_size", gate=True),
    ),
    "sarvam_mla": d(take=BIAS, more=own.latent, experts=GLM_EXPERTS),
    "sarvam_moe": d(take={"qkv_bias": "attention_bias"}, experts=GLM_EXPERTS, more=own.qk_norm_flag("use_qk_norm")),
    "seed_oss": d(
        take={"qkv_bias": "attention_bias", "attention_output_bias": "attention_out_bias", "ffn_bias": "mlp_bias"}, dropout=True
    ),
    "smollm3": d(
        take=LLAMA_BIAS,
        ignore=(
            "no_rope_layers",
            "no_rope_layer_interval",
            "use_sliding_window",
            "sliding_window",
            "max_window_layers",
            "pretraining_tp",
        ),
    ),
    "solar_open": d(
        take={"qkv_bias": "attention_bias"},
        experts=Experts(num="n_routed_experts", shared="n_shared_experts", first="first_k_dense_replace"),
        ignore=("use_qk_norm",),
    ),
    "stablelm": d(fixed=LAYERNORM, take={"qkv_bias": "use_qkv_bias"}, more=own.stablelm, dropout=True),
    "starcoder2": d(
        fixed={**LAYERNORM, "gated_ffn": False},
        more=own.starcoder2,
        window="always",
        dropout=True,
        ignore=("embedding_dropout", "norm_type", "mlp_type", "sliding_window_pattern"),
    ),
    "vaultgemma": d(take=BIAS, window="types", cycle=(SLIDING, FULL)),
    "xglm": d(fixed=PLAIN, dropout=True, ignore=("activation_dropout", "scale_embedding")),
    "youtu": d(take=BIAS, more=own.latent),
    "step3p5": d(
        fixed={**HEAD_NORM, "attention_gate": "head"},
        take=LLAMA_BIAS,
        window="own",
        more=own.step3,
        experts=Experts(num="n_routed_experts", shared_width="share_expert_dim", first="first_k_dense_replace", first_default=3),
    ),
    "step3_text": d(own={"tie_word_embeddings": False}, more=elsewhere.step3_mfa),
    # read as their own repositories' classes do: transformers has none
    "arctic": d(own={"tie_word_embeddings": False}, more=elsewhere.arctic),
    "baichuan": d(own={"tie_word_embeddings": False}),
    "chatglm": own.chatglm,
    "deepseek": d(own={"attention_bias": False, "tie_word_embeddings": False}, take=BIAS, experts=GLM_EXPERTS),
    "minicpm": d(
        own={"attention_bias": False, "tie_word_embeddings": True},
        take=BIAS,
        more=own.minicpm,
        experts=Experts(width="intermediate_size"),
    ),
    "openai-gpt": d(fixed={**PLAIN, "final_norm": False}, more=own.gpt1, dropout=True, ignore=("embd_pdrop",)),
    "orion": d(own={"attention_bias": False, "tie_word_embeddings": False}, fixed=LAYERNORM, take=BIAS),
    "PanguEmbedded": d(own={"tie_word_embeddings": False}, take={"qkv_bias": "bias", "attention_output_bias": "bias"}),
    "phi-msft": d(
        own={"tie_word_embeddings": False, "vocab_size": 51200},
        fixed={**PLAIN, "parallel_attention": True, "norms_per_layer": 1, "head_bias": True},
        more=own.phi_msft,
        dropout=True,
    ),
    "qwen": d(own={"tie_word_embeddings": False}, fixed={"qkv_bias": True}, more=own.qwen),
    "smallthinker": d(own={"tie_word_embeddings": False}, more=elsewhere.smallthinker, window="own"),
}
ALIASES: dict[str, str] = {
    "kimi_k2": "deepseek_v3",
    "bailing_moe_v2": "bailing_moe",
    "bailing_moe_linear_v2": "bailing_moe_linear",
    "minimax_text_01": "minimax",
    "minimax_m1": "minimax",
    "hunyuan": "hunyuan_v1_moe",
    "mistral_small": "mistral",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "deepseek_ref": "deepseek_v4",
}
"""Types that another reader understands."""
