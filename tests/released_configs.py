"""Released models of 2022 to 2026 by what their config.json on the Hugging Face Hub says: fields that shape the model.

Written from the published files; ``planner/catalog/models`` is compared with them. A field that is left out has the default of
transformers' configuration class.
"""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]


def sized(kind: str, layers: int, hidden: int, heads: int, kv_heads: int, inner: int, words: int, **more: Any) -> Config:
    """The sizes that every decoder has."""
    return {
        "model_type": kind,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": words,
        **more,
    }


def compressed(
    layers: int, hidden: int, heads: int, groups: int, query_rank: int, inner: int, experts: int, picked: int, ratios: list[int]
) -> Config:
    """DeepSeek-V4: tokens to a compressed key in each layer, 0 = a window alone."""
    return {
        "model_type": "deepseek_v4",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": 1,
        "head_dim": 512,
        "vocab_size": 129280,
        "o_groups": groups,
        "o_lora_rank": 1024,
        "q_lora_rank": query_rank,
        "moe_intermediate_size": inner,
        "n_routed_experts": experts,
        "n_shared_experts": 1,
        "num_experts_per_tok": 6,
        "index_n_heads": 64,
        "index_head_dim": 128,
        "index_topk": picked,
        "sliding_window": 128,
        "hc_mult": 4,
        "num_hash_layers": 3,
        "compress_ratios": ratios,
    }


def neox(layers: int, hidden: int, heads: int, words: int = 50304) -> Config:
    return {
        "model_type": "gpt_neox",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "vocab_size": words,
        "max_position_embeddings": 2048,
    }


def opt(layers: int, hidden: int, heads: int, **more: Any) -> Config:
    return {
        "model_type": "opt",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "ffn_dim": 4 * hidden,
        "vocab_size": 50272,
        "max_position_embeddings": 2048,
        "word_embed_proj_dim": hidden,
        **more,
    }


def bloom(layers: int, hidden: int, heads: int) -> Config:
    return {"model_type": "bloom", "n_layer": layers, "hidden_size": hidden, "n_head": heads, "vocab_size": 250880}


def encoder(kind: str, layers: int, hidden: int, heads: int, words: int, positions: int, types: int, **more: Any) -> Config:
    return {
        "model_type": kind,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "vocab_size": words,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        **more,
    }


def t5(layers: int, hidden: int, heads: int, inner: int, form: str = "gated-gelu", width: int = 64) -> Config:
    return {
        "model_type": "t5",
        "num_layers": layers,
        "d_model": hidden,
        "num_heads": heads,
        "d_kv": width,
        "d_ff": inner,
        "feed_forward_proj": form,
        "vocab_size": 32128,
    }


def stacks(kind: str, encoder: int, decoder: int, hidden: int, heads: int, words: int, **more: Any) -> Config:
    """Encoder and decoder of BART and its kin, feed-forwards four times as wide."""
    return {
        "model_type": kind,
        "encoder_layers": encoder,
        "decoder_layers": decoder,
        "d_model": hidden,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * hidden,
        "decoder_ffn_dim": 4 * hidden,
        "vocab_size": words,
        **more,
    }


GEMMA_VISION = {
    "model_type": "gemma4_vision",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "head_dim": 72,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_hidden_layers": 27,
}


def mamba(layers: int, hidden: int, words: int = 50280) -> Config:
    return {
        "model_type": "mamba",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "state_size": 16,
        "vocab_size": words,
        "intermediate_size": 2 * hidden,
        "time_step_rank": -(-hidden // 16),
    }


def falcon_h1(
    layers: int,
    hidden: int,
    heads: int,
    kv: int,
    inner: int,
    words: int,
    mamba: tuple[int, int, int, int],
    groups: int = 1,
) -> Config:
    """``mamba``: width, heads, size of a head, size of the state."""
    ssm, mamba_heads, d_head, state = mamba
    return sized(
        "falcon_h1",
        layers,
        hidden,
        heads,
        kv,
        inner,
        words,
        head_dim=128,
        mamba_d_ssm=ssm,
        mamba_n_heads=mamba_heads,
        mamba_d_head=d_head,
        mamba_d_state=state,
        mamba_n_groups=groups,
        mamba_rms_norm=False,
    )


def qwen3_next(
    kind: str, layers: int, hidden: int, heads: int, kv: int, inner: int, words: int, values: int, **more: Any
) -> Config:
    return sized(
        kind,
        layers,
        hidden,
        heads,
        kv,
        inner,
        words,
        head_dim=256,
        linear_conv_kernel_dim=4,
        linear_key_head_dim=128,
        linear_num_key_heads=16,
        linear_num_value_heads=values,
        linear_value_head_dim=128,
        **more,
    )


def seeing(kind: str, text: Config, **vision: Any) -> Config:
    """A text model behind a vision tower."""
    tied = text.get("tie_word_embeddings", False)
    own = {k: v for k, v in text.items() if k != "model_type"}
    return {"model_type": kind, "text_config": own, "vision_config": vision, "tie_word_embeddings": tied}


SMALL_EYE = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_heads": 16,
    "deepstack_visual_indexes": [5, 11, 17],
}
LARGE_EYE = {
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_heads": 16,
    "deepstack_visual_indexes": [8, 16, 24],
}
PLAIN_EYE = {**LARGE_EYE, "deepstack_visual_indexes": []}
SIGLIP = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
    "vision_use_head": False,
}
TIED = {"tie_word_embeddings": True}
MLA = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
TYPES = {"layer_types": ["sliding_attention"] * 5 + ["full_attention"]}


def gemma3(
    layers: int, hidden: int, heads: int, kv: int, inner: int, window: int, head_dim: int = 256, words: int = 262208
) -> Config:
    return sized("gemma3_text", layers, hidden, heads, kv, inner, words, head_dim=head_dim, sliding_window=window, **TIED)


def glm_moe(layers: int, hidden: int, heads: int, inner: int, expert: int, experts: int, dense: int, qk_norm: bool) -> Config:
    return sized(
        "glm4_moe",
        layers,
        hidden,
        heads,
        8,
        inner,
        151552,
        head_dim=128,
        attention_bias=True,
        use_qk_norm=qk_norm,
        moe_intermediate_size=expert,
        n_routed_experts=experts,
        num_experts_per_tok=8,
        n_shared_experts=1,
        first_k_dense_replace=dense,
    )


QWEN_27B = seeing("qwen3_5", qwen3_next("", 64, 5120, 24, 4, 17408, 248320, 48), **PLAIN_EYE, out_hidden_size=5120)
"""Of Qwen3.5 and Qwen3.6 alike."""
QWEN_35B_A3B = seeing(
    "qwen3_5_moe",
    qwen3_next(
        "",
        40,
        2048,
        16,
        2,
        512,
        248320,
        32,
        num_experts=256,
        num_experts_per_tok=8,
        moe_intermediate_size=512,
        shared_expert_intermediate_size=512,
    ),
    **PLAIN_EYE,
    out_hidden_size=2048,
)
"""Of Qwen3.5 and Qwen3.6 alike."""

RELEASED: dict[str, tuple[str, Config]] = {
    # Meta
    "llama-7b": ("huggyllama/llama-7b", sized("llama", 32, 4096, 32, 32, 11008, 32000)),
    "llama-13b": ("huggyllama/llama-13b", sized("llama", 40, 5120, 40, 40, 13824, 32000)),
    "llama-30b": ("huggyllama/llama-30b", sized("llama", 60, 6656, 52, 52, 17920, 32000)),
    "llama-3.3-70b": ("meta-llama/Llama-3.3-70B-Instruct", sized("llama", 80, 8192, 64, 8, 28672, 128256)),
    "codellama-7b": ("codellama/CodeLlama-7b-hf", sized("llama", 32, 4096, 32, 32, 11008, 32016)),
    "codellama-13b": ("codellama/CodeLlama-13b-hf", sized("llama", 40, 5120, 40, 40, 13824, 32016)),
    "codellama-70b": ("codellama/CodeLlama-70b-hf", sized("llama", 80, 8192, 64, 8, 28672, 32016)),
    "llama-4-scout": (
        "meta-llama/Llama-4-Scout-17B-16E",
        sized(
            "llama4_text",
            48,
            5120,
            40,
            8,
            8192,
            202048,
            intermediate_size_mlp=16384,
            head_dim=128,
            num_local_experts=16,
            num_experts_per_tok=1,
            interleave_moe_layer_step=1,
            use_qk_norm=True,
        ),
    ),
    "llama-4-maverick": (
        "meta-llama/Llama-4-Maverick-17B-128E",
        sized(
            "llama4_text",
            48,
            5120,
            40,
            8,
            8192,
            202048,
            intermediate_size_mlp=16384,
            head_dim=128,
            num_local_experts=128,
            num_experts_per_tok=1,
            interleave_moe_layer_step=2,
            use_qk_norm=False,
        ),
    ),
    # Mistral
    "mistral-nemo-12b": (
        "mistralai/Mistral-Nemo-Base-2407",
        sized("mistral", 40, 5120, 32, 8, 14336, 131072, head_dim=128, sliding_window=None),
    ),
    "mistral-small-22b": (
        "mistralai/Mistral-Small-Instruct-2409",
        sized("mistral", 56, 6144, 48, 8, 16384, 32768, head_dim=128, sliding_window=None),
    ),
    "mistral-small-24b": (
        "mistralai/Mistral-Small-24B-Base-2501",
        sized("mistral", 40, 5120, 32, 8, 32768, 131072, head_dim=128, sliding_window=None),
    ),
    "mistral-large-123b": (
        "mistralai/Mistral-Large-Instruct-2407",
        sized("mistral", 88, 12288, 96, 8, 28672, 32768, head_dim=128, sliding_window=None),
    ),
    "ministral-8b": (
        "mistralai/Ministral-8B-Instruct-2410",
        sized("mistral", 36, 4096, 32, 8, 12288, 131072, head_dim=128, sliding_window=32768),
    ),
    "codestral-22b": (
        "mistralai/Codestral-22B-v0.1",
        sized("mistral", 56, 6144, 48, 8, 16384, 32768, head_dim=128, sliding_window=None),
    ),
    "mistral-7b-v0.3": ("mistralai/Mistral-7B-v0.3", sized("mistral", 32, 4096, 32, 8, 14336, 32768, sliding_window=None)),
    "devstral-2-123b": (
        "mistralai/Devstral-2-123B-Instruct-2512",
        sized("ministral3", 88, 12288, 96, 8, 28672, 131072, head_dim=128),
    ),
    # Alibaba
    "qwen1.5-0.5b": ("Qwen/Qwen1.5-0.5B", sized("qwen2", 24, 1024, 16, 16, 2816, 151936, **TIED)),
    "qwen1.5-1.8b": ("Qwen/Qwen1.5-1.8B", sized("qwen2", 24, 2048, 16, 16, 5504, 151936)),
    "qwen1.5-4b": ("Qwen/Qwen1.5-4B", sized("qwen2", 40, 2560, 20, 20, 6912, 151936)),
    "qwen1.5-7b": ("Qwen/Qwen1.5-7B", sized("qwen2", 32, 4096, 32, 32, 11008, 151936)),
    "qwen1.5-14b": ("Qwen/Qwen1.5-14B", sized("qwen2", 40, 5120, 40, 40, 13696, 152064)),
    "qwen1.5-32b": ("Qwen/Qwen1.5-32B", sized("qwen2", 64, 5120, 40, 8, 27392, 152064)),
    "qwen1.5-72b": ("Qwen/Qwen1.5-72B", sized("qwen2", 80, 8192, 64, 64, 24576, 152064)),
    "qwen1.5-110b": ("Qwen/Qwen1.5-110B", sized("qwen2", 80, 8192, 64, 8, 49152, 152064)),
    "qwen2-0.5b": ("Qwen/Qwen2-0.5B", sized("qwen2", 24, 896, 14, 2, 4864, 151936, **TIED)),
    "qwen2-1.5b": ("Qwen/Qwen2-1.5B", sized("qwen2", 28, 1536, 12, 2, 8960, 151936, **TIED)),
    "qwq-32b": ("Qwen/QwQ-32B", sized("qwen2", 64, 5120, 40, 8, 27648, 152064)),
    "qwen3-coder-480b-a35b": (
        "Qwen/Qwen3-Coder-480B-A35B-Instruct",
        sized(
            "qwen3_moe",
            62,
            6144,
            96,
            8,
            8192,
            151936,
            head_dim=128,
            num_experts=160,
            num_experts_per_tok=8,
            moe_intermediate_size=2560,
        ),
    ),
    "qwen3-next-80b-a3b": (
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        qwen3_next(
            "qwen3_next",
            48,
            2048,
            16,
            2,
            5632,
            151936,
            32,
            num_experts=512,
            num_experts_per_tok=10,
            moe_intermediate_size=512,
            shared_expert_intermediate_size=512,
        ),
    ),
    "qwen3.5-27b": (
        "Qwen/Qwen3.5-27B",
        QWEN_27B,
    ),
    "qwen3.5-35b-a3b": (
        "Qwen/Qwen3.5-35B-A3B",
        QWEN_35B_A3B,
    ),
    "qwen3.6-27b": (
        "nvidia/Qwen3.6-27B-NVFP4",
        QWEN_27B,
    ),
    "qwen3.6-35b-a3b": (
        "nvidia/Qwen3.6-35B-A3B-NVFP4",
        QWEN_35B_A3B,
    ),
    "qwen3.5-122b-a10b": (
        "Qwen/Qwen3.5-122B-A10B",
        seeing(
            "qwen3_5_moe",
            qwen3_next(
                "",
                48,
                3072,
                32,
                2,
                1024,
                248320,
                64,
                num_experts=256,
                num_experts_per_tok=8,
                moe_intermediate_size=1024,
                shared_expert_intermediate_size=1024,
            ),
            **PLAIN_EYE,
            out_hidden_size=3072,
        ),
    ),
    "qwen3.5-397b-a17b": (
        "Qwen/Qwen3.5-397B-A17B",
        seeing(
            "qwen3_5_moe",
            qwen3_next(
                "",
                60,
                4096,
                32,
                2,
                1024,
                248320,
                64,
                num_experts=512,
                num_experts_per_tok=10,
                moe_intermediate_size=1024,
                shared_expert_intermediate_size=1024,
            ),
            **PLAIN_EYE,
            out_hidden_size=4096,
        ),
    ),
    "qwen3-vl-2b": (
        "Qwen/Qwen3-VL-2B-Instruct",
        seeing("qwen3_vl", sized("", 28, 2048, 16, 8, 6144, 151936, head_dim=128, **TIED), **SMALL_EYE, out_hidden_size=2048),
    ),
    "qwen3-vl-4b": (
        "Qwen/Qwen3-VL-4B-Instruct",
        seeing("qwen3_vl", sized("", 36, 2560, 32, 8, 9728, 151936, head_dim=128, **TIED), **SMALL_EYE, out_hidden_size=2560),
    ),
    "qwen3-vl-8b": (
        "Qwen/Qwen3-VL-8B-Instruct",
        seeing("qwen3_vl", sized("", 36, 4096, 32, 8, 12288, 151936, head_dim=128), **LARGE_EYE, out_hidden_size=4096),
    ),
    "qwen3-vl-32b": (
        "Qwen/Qwen3-VL-32B-Instruct",
        seeing("qwen3_vl", sized("", 64, 5120, 64, 8, 25600, 151936, head_dim=128), **LARGE_EYE, out_hidden_size=5120),
    ),
    "qwen3-vl-30b-a3b": (
        "Qwen/Qwen3-VL-30B-A3B-Instruct",
        seeing(
            "qwen3_vl_moe",
            sized(
                "", 48, 2048, 32, 4, 6144, 151936, head_dim=128, num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768
            ),
            **LARGE_EYE,
            out_hidden_size=2048,
        ),
    ),
    "qwen2.5-vl-7b": (
        "Qwen/Qwen2.5-VL-7B-Instruct",
        seeing(
            "qwen2_5_vl",
            sized("", 28, 3584, 28, 4, 18944, 152064),
            depth=32,
            hidden_size=1280,
            intermediate_size=3420,
            num_heads=16,
            out_hidden_size=3584,
        ),
    ),
    # Google
    "gemma-2-27b": ("google/gemma-2-27b", sized("gemma2", 46, 4608, 32, 16, 36864, 256000, head_dim=128, sliding_window=4096)),
    "gemma-3-270m": ("google/gemma-3-270m", gemma3(18, 640, 4, 1, 2048, 512, words=262144)),
    "gemma-3-1b": ("google/gemma-3-1b-it", gemma3(26, 1152, 4, 1, 6912, 512, words=262144)),
    "gemma-3-4b": ("google/gemma-3-4b-it", seeing("gemma3", gemma3(34, 2560, 8, 4, 10240, 1024), **SIGLIP)),
    "gemma-3-12b": ("google/gemma-3-12b-it", seeing("gemma3", gemma3(48, 3840, 16, 8, 15360, 1024), **SIGLIP)),
    "gemma-3-27b": ("google/gemma-3-27b-it", seeing("gemma3", gemma3(62, 5376, 32, 16, 21504, 1024, 128), **SIGLIP)),
    # Microsoft
    "phi-3-medium": (
        "microsoft/Phi-3-medium-4k-instruct",
        sized("phi3", 40, 5120, 40, 10, 17920, 32064, sliding_window=2047, pad_token_id=32000),
    ),
    "phi-3.5-moe": (
        "microsoft/Phi-3.5-MoE-instruct",
        sized(
            "phimoe",
            32,
            4096,
            32,
            8,
            6400,
            32064,
            num_local_experts=16,
            num_experts_per_tok=2,
            attention_bias=True,
            lm_head_bias=True,
            sliding_window=131072,
        ),
    ),
    "phi-4": ("microsoft/phi-4", sized("phi3", 40, 5120, 40, 10, 17920, 100352, pad_token_id=0)),
    "phi-4-mini": (
        "microsoft/Phi-4-mini-instruct",
        sized("phi3", 32, 3072, 24, 8, 8192, 200064, sliding_window=262144, pad_token_id=0, **TIED),
    ),
    # DeepSeek
    "deepseek-llm-7b": ("deepseek-ai/deepseek-llm-7b-base", sized("llama", 30, 4096, 32, 32, 11008, 102400)),
    "deepseek-llm-67b": ("deepseek-ai/deepseek-llm-67b-base", sized("llama", 95, 8192, 64, 8, 22016, 102400)),
    "deepseek-coder-1.3b": ("deepseek-ai/deepseek-coder-1.3b-base", sized("llama", 24, 2048, 16, 16, 5504, 32256)),
    "deepseek-coder-6.7b": ("deepseek-ai/deepseek-coder-6.7b-base", sized("llama", 32, 4096, 32, 32, 11008, 32256)),
    "deepseek-r1": (
        "deepseek-ai/DeepSeek-R1",
        sized(
            "deepseek_v3",
            61,
            7168,
            128,
            128,
            18432,
            129280,
            **MLA,
            q_lora_rank=1536,
            n_routed_experts=256,
            n_shared_experts=1,
            num_experts_per_tok=8,
            moe_intermediate_size=2048,
            first_k_dense_replace=3,
        ),
    ),
    "deepseek-v3.2": (
        "deepseek-ai/DeepSeek-V3.2",
        sized(
            "deepseek_v32",
            61,
            7168,
            128,
            128,
            18432,
            129280,
            **MLA,
            q_lora_rank=1536,
            n_routed_experts=256,
            n_shared_experts=1,
            num_experts_per_tok=8,
            moe_intermediate_size=2048,
            first_k_dense_replace=3,
            index_head_dim=128,
            index_n_heads=64,
            index_topk=2048,
        ),
    ),
    "deepseek-v4-flash": (
        "deepseek-ai/DeepSeek-V4-Flash",
        compressed(43, 4096, 64, 8, 1024, 2048, 256, 512, [0, 0, *[4, 128] * 20, 4]),
    ),
    "deepseek-v4-pro": (
        "deepseek-ai/DeepSeek-V4-Pro",
        compressed(61, 7168, 128, 16, 1536, 3072, 384, 1024, [128, *[128, 4] * 30]),
    ),
    # Moonshot
    "kimi-k2": (
        "moonshotai/Kimi-K2-Instruct",
        sized(
            "deepseek_v3",
            61,
            7168,
            64,
            64,
            18432,
            163840,
            **MLA,
            q_lora_rank=1536,
            n_routed_experts=384,
            n_shared_experts=1,
            num_experts_per_tok=8,
            moe_intermediate_size=2048,
            first_k_dense_replace=1,
            n_group=1,
            topk_group=1,
        ),
    ),
    "moonlight-16b-a3b": (
        "moonshotai/Moonlight-16B-A3B",
        sized(
            "deepseek_v3",
            27,
            2048,
            16,
            16,
            11264,
            163840,
            **MLA,
            q_lora_rank=None,
            n_routed_experts=64,
            n_shared_experts=2,
            num_experts_per_tok=6,
            moe_intermediate_size=1408,
            first_k_dense_replace=1,
            n_group=1,
            topk_group=1,
        ),
    ),
    # Zhipu
    "glm-4-9b": ("zai-org/glm-4-9b-hf", sized("glm", 40, 4096, 32, 2, 13696, 151552, head_dim=128, attention_bias=True)),
    "glm-4-9b-0414": ("zai-org/GLM-4-9B-0414", sized("glm4", 40, 4096, 32, 2, 13696, 151552, head_dim=128, attention_bias=False)),
    "glm-4-32b-0414": (
        "zai-org/GLM-4-32B-0414",
        sized("glm4", 61, 6144, 48, 2, 23040, 151552, head_dim=128, attention_bias=False),
    ),
    "glm-4.5-air": ("zai-org/GLM-4.5-Air", glm_moe(46, 4096, 96, 10944, 1408, 128, 1, False)),
    "glm-4.5": ("zai-org/GLM-4.5", glm_moe(92, 5120, 96, 12288, 1536, 160, 3, True)),
    "glm-4.5v": (
        "zai-org/GLM-4.5V",
        {
            "model_type": "glm4v_moe",
            "tie_word_embeddings": False,
            "text_config": {
                "num_hidden_layers": 46,
                "max_position_embeddings": 65536,
                "hidden_size": 4096,
                "num_attention_heads": 96,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "intermediate_size": 10944,
                "moe_intermediate_size": 1408,
                "vocab_size": 151552,
                "attention_bias": True,
                "first_k_dense_replace": 1,
                "n_routed_experts": 128,
                "n_shared_experts": 1,
                "num_experts_per_tok": 8,
            },
            "vision_config": {
                "depth": 24,
                "hidden_size": 1536,
                "image_size": 336,
                "intermediate_size": 10944,
                "num_heads": 12,
                "out_hidden_size": 4096,
                "patch_size": 14,
            },
        },
    ),
    "glm-5": (
        "zai-org/GLM-5",
        sized(
            "glm_moe_dsa",
            78,
            6144,
            64,
            64,
            12288,
            154880,
            kv_lora_rank=512,
            q_lora_rank=2048,
            qk_nope_head_dim=192,
            qk_rope_head_dim=64,
            v_head_dim=256,
            n_routed_experts=256,
            n_shared_experts=1,
            num_experts_per_tok=8,
            moe_intermediate_size=2048,
            first_k_dense_replace=3,
            index_head_dim=128,
            index_n_heads=32,
            index_topk=2048,
        ),
    ),
    # MiniMax
    "minimax-m1": (
        "MiniMaxAI/MiniMax-M1-80k",
        sized(
            "minimax",
            80,
            6144,
            64,
            8,
            9216,
            200064,
            head_dim=128,
            num_local_experts=32,
            num_experts_per_tok=2,
            layer_types=(["linear_attention"] * 7 + ["full_attention"]) * 10,
        ),
    ),
    "minimax-m2": (
        "MiniMaxAI/MiniMax-M2",
        sized("minimax_m2", 62, 3072, 48, 8, 1536, 200064, head_dim=128, num_local_experts=256, num_experts_per_tok=8),
    ),
    # 01.AI, InternLM, Baidu, ByteDance, Tencent, OpenBMB, rednote
    "yi-9b": ("01-ai/Yi-9B", sized("llama", 48, 4096, 32, 4, 11008, 64000)),
    "internlm3-8b": ("internlm/internlm3-8b-instruct", sized("internlm3", 48, 4096, 32, 2, 10240, 128512, head_dim=128)),
    "ernie-4.5-0.3b": ("baidu/ERNIE-4.5-0.3B-PT", sized("ernie4_5", 18, 1024, 16, 2, 3072, 103424, head_dim=128, **TIED)),
    "ernie-4.5-21b-a3b": (
        "baidu/ERNIE-4.5-21B-A3B-PT",
        sized(
            "ernie4_5_moe",
            28,
            2560,
            20,
            4,
            12288,
            103424,
            moe_intermediate_size=1536,
            moe_k=6,
            moe_num_experts=64,
            moe_num_shared_experts=2,
            moe_layer_start_index=1,
            **TIED,
        ),
    ),
    "seed-oss-36b": ("ByteDance-Seed/Seed-OSS-36B-Base", sized("seed_oss", 64, 5120, 80, 8, 27648, 155136, head_dim=128)),
    "hunyuan-7b": (
        "tencent/Hunyuan-7B-Pretrain",
        sized("hunyuan_v1_dense", 32, 4096, 32, 8, 14336, 128167, head_dim=128, **TIED),
    ),
    "minicpm3-4b": (
        "openbmb/MiniCPM3-4B",
        sized(
            "minicpm3",
            62,
            2560,
            40,
            40,
            6400,
            73448,
            kv_lora_rank=256,
            q_lora_rank=768,
            qk_nope_head_dim=64,
            qk_rope_head_dim=32,
            v_head_dim=64,
            **TIED,
        ),
    ),
    "dots.llm1": (
        "rednote-hilab/dots.llm1.base",
        sized(
            "dots1",
            62,
            4096,
            32,
            32,
            10944,
            152064,
            head_dim=128,
            n_routed_experts=128,
            n_shared_experts=2,
            num_experts_per_tok=6,
            moe_intermediate_size=1408,
            first_k_dense_replace=1,
            n_group=1,
            topk_group=1,
        ),
    ),
    # Allen Institute
    "olmo-1b": ("allenai/OLMo-1B-hf", sized("olmo", 16, 2048, 16, 16, 8192, 50304, **TIED)),
    "olmo-7b": ("allenai/OLMo-7B-hf", sized("olmo", 32, 4096, 32, 32, 11008, 50304)),
    "olmo-2-1b": ("allenai/OLMo-2-0425-1B", sized("olmo2", 16, 2048, 16, 16, 8192, 100352)),
    "olmo-2-7b": ("allenai/OLMo-2-1124-7B", sized("olmo2", 32, 4096, 32, 32, 11008, 100352)),
    "olmo-2-13b": ("allenai/OLMo-2-1124-13B", sized("olmo2", 40, 5120, 40, 40, 13824, 100352)),
    "olmo-2-32b": ("allenai/OLMo-2-0325-32B", sized("olmo2", 64, 5120, 40, 8, 27648, 100352)),
    "olmo-3-7b": ("allenai/Olmo-3-1025-7B", sized("olmo3", 32, 4096, 32, 32, 11008, 100278)),
    "olmo-3-32b": ("allenai/Olmo-3-1125-32B", sized("olmo3", 64, 5120, 40, 8, 27648, 100278)),
    # Hugging Face, IBM, NVIDIA, AI21, TII, Liquid, Kyutai, Swiss AI, Arcee, LG, Cohere
    "smollm2-135m": ("HuggingFaceTB/SmolLM2-135M", sized("llama", 30, 576, 9, 3, 1536, 49152, **TIED)),
    "smollm2-360m": ("HuggingFaceTB/SmolLM2-360M", sized("llama", 32, 960, 15, 5, 2560, 49152, **TIED)),
    "smollm2-1.7b": ("HuggingFaceTB/SmolLM2-1.7B", sized("llama", 24, 2048, 32, 32, 8192, 49152, **TIED)),
    "smollm3-3b": ("HuggingFaceTB/SmolLM3-3B", sized("smollm3", 36, 2048, 16, 4, 11008, 128256, **TIED)),
    "granite-3.3-2b": ("ibm-granite/granite-3.3-2b-base", sized("granite", 40, 2048, 32, 8, 8192, 49159, **TIED)),
    "granite-3.3-8b": ("ibm-granite/granite-3.3-8b-base", sized("granite", 40, 4096, 32, 8, 12800, 49159, **TIED)),
    "granite-3.1-1b-a400m": (
        "ibm-granite/granite-3.1-1b-a400m-base",
        sized("granitemoe", 24, 1024, 16, 8, 512, 49155, num_local_experts=32, num_experts_per_tok=8, **TIED),
    ),
    "granite-4.0-h-micro": (
        "ibm-granite/granite-4.0-h-micro",
        sized(
            "granitemoehybrid",
            40,
            2048,
            32,
            8,
            8192,
            100352,
            shared_intermediate_size=8192,
            num_local_experts=0,
            num_experts_per_tok=0,
            mamba_n_heads=64,
            mamba_d_head=64,
            mamba_d_state=128,
            mamba_n_groups=1,
            mamba_expand=2,
            layer_types=["full_attention" if i in (5, 15, 25, 35) else "linear_attention" for i in range(40)],
            **TIED,
        ),
    ),
    "granite-4.0-h-small": (
        "ibm-granite/granite-4.0-h-small",
        sized(
            "granitemoehybrid",
            40,
            4096,
            32,
            8,
            768,
            100352,
            shared_intermediate_size=1536,
            num_local_experts=72,
            num_experts_per_tok=10,
            mamba_n_heads=128,
            mamba_d_head=64,
            mamba_d_state=128,
            mamba_n_groups=1,
            mamba_expand=2,
            layer_types=["full_attention" if i in (5, 15, 25, 35) else "linear_attention" for i in range(40)],
            **TIED,
        ),
    ),
    "bamba-9b": (
        "ibm-ai-platform/Bamba-9B-v2",
        sized(
            "bamba",
            32,
            4096,
            32,
            8,
            14336,
            128256,
            mamba_n_heads=128,
            mamba_d_head=64,
            mamba_d_state=128,
            attn_layer_indices=[9, 18, 27],
        ),
    ),
    "jamba-1.5-mini": (
        "ai21labs/AI21-Jamba-1.5-Mini",
        sized("jamba", 32, 4096, 32, 8, 14336, 65536, num_experts=16, num_experts_per_tok=2, mamba_dt_rank=256),
    ),
    "jamba-1.5-large": (
        "ai21labs/AI21-Jamba-1.5-Large",
        sized("jamba", 72, 8192, 64, 8, 24576, 65536, num_experts=16, num_experts_per_tok=2, mamba_dt_rank=512),
    ),
    "falcon-h1-0.5b": (
        "tiiuae/Falcon-H1-0.5B-Base",
        {**falcon_h1(36, 1024, 8, 2, 2048, 32784, (1536, 24, 64, 128)), "head_dim": 64},
    ),
    "falcon-h1-7b": ("tiiuae/Falcon-H1-7B-Base", falcon_h1(44, 3072, 12, 2, 12288, 130048, (3072, 24, 128, 256))),
    "falcon-h1-34b": ("tiiuae/Falcon-H1-34B-Base", falcon_h1(72, 5120, 20, 4, 21504, 261120, (4096, 32, 128, 256), 2)),
    "falcon3-1b": ("tiiuae/Falcon3-1B-Base", sized("llama", 18, 2048, 8, 4, 8192, 131072, head_dim=256)),
    "falcon3-3b": ("tiiuae/Falcon3-3B-Base", sized("llama", 22, 3072, 12, 4, 9216, 131072, head_dim=256)),
    "falcon3-7b": ("tiiuae/Falcon3-7B-Base", sized("llama", 28, 3072, 12, 4, 23040, 131072, head_dim=256)),
    "falcon3-10b": ("tiiuae/Falcon3-10B-Base", sized("llama", 40, 3072, 12, 4, 23040, 131072, head_dim=256)),
    "falcon-mamba-7b": (
        "tiiuae/falcon-mamba-7b",
        {
            "model_type": "falcon_mamba",
            "num_hidden_layers": 64,
            "hidden_size": 4096,
            "intermediate_size": 8192,
            "state_size": 16,
            "time_step_rank": 256,
            "vocab_size": 65024,
            "tie_word_embeddings": False,
        },
    ),
    "mamba-130m": ("state-spaces/mamba-130m-hf", mamba(24, 768)),
    "mamba-370m": ("state-spaces/mamba-370m-hf", mamba(48, 1024)),
    "mamba-790m": ("state-spaces/mamba-790m-hf", mamba(48, 1536)),
    "mamba-1.4b": ("state-spaces/mamba-1.4b-hf", mamba(48, 2048)),
    "mamba-2.8b": ("state-spaces/mamba-2.8b-hf", mamba(64, 2560)),
    "mamba-codestral-7b": (
        "mistralai/Mamba-Codestral-7B-v0.1",
        {
            "model_type": "mamba2",
            "num_hidden_layers": 64,
            "hidden_size": 4096,
            "num_heads": 128,
            "head_dim": 64,
            "state_size": 128,
            "n_groups": 8,
            "vocab_size": 32768,
            "tie_word_embeddings": False,
        },
    ),
    "nemotron-3-nano-30b-a3b": (
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        {
            "model_type": "nemotron_h",
            "hidden_size": 2688,
            "num_attention_heads": 32,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "intermediate_size": 1856,
            "vocab_size": 131072,
            "mamba_num_heads": 64,
            "mamba_head_dim": 64,
            "n_groups": 8,
            "ssm_state_size": 128,
            "n_routed_experts": 128,
            "n_shared_experts": 1,
            "num_experts_per_tok": 6,
            "moe_intermediate_size": 1856,
            "moe_shared_expert_intermediate_size": 3712,
            "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
        },
    ),
    "nemotron-3-super-120b-a12b": (
        "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8",
        {
            "model_type": "nemotron_h",
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "intermediate_size": 2688,
            "vocab_size": 131072,
            "mamba_num_heads": 128,
            "mamba_head_dim": 64,
            "n_groups": 8,
            "ssm_state_size": 128,
            "n_routed_experts": 512,
            "n_shared_experts": 1,
            "num_experts_per_tok": 22,
            "moe_intermediate_size": 2688,
            "moe_latent_size": 1024,
            "moe_shared_expert_intermediate_size": 5376,
            "hybrid_override_pattern": "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME",
        },
    ),
    "nemotron-3-ultra-550b-a55b": (
        "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
        {
            "model_type": "nemotron_h",
            "hidden_size": 8192,
            "num_attention_heads": 64,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "intermediate_size": 5120,
            "vocab_size": 131072,
            "mamba_num_heads": 256,
            "mamba_head_dim": 64,
            "n_groups": 8,
            "ssm_state_size": 128,
            "n_routed_experts": 512,
            "n_shared_experts": 1,
            "num_experts_per_tok": 22,
            "moe_intermediate_size": 5120,
            "moe_latent_size": 2048,
            "moe_shared_expert_intermediate_size": 10240,
            "max_position_embeddings": 262144,
            "hybrid_override_pattern": f"MEMEMEM*EMEMEM*EMEMEMEM*{'EMEMEMEM*EMEMEM*EMEMEMEM*' * 3}EMEMEMEME",
        },
    ),
    "lfm2-350m": (
        "LiquidAI/LFM2-350M",
        sized(
            "lfm2",
            16,
            1024,
            16,
            8,
            6656,
            65536,
            full_attn_idxs=[2, 5, 8, 10, 12, 14],
            layer_types=["full_attention" if i in (2, 5, 8, 10, 12, 14) else "conv" for i in range(16)],
            **TIED,
        ),
    ),
    "lfm2-1.2b": (
        "LiquidAI/LFM2-1.2B",
        sized(
            "lfm2",
            16,
            2048,
            32,
            8,
            12288,
            65536,
            full_attn_idxs=[2, 5, 8, 10, 12, 14],
            layer_types=["full_attention" if i in (2, 5, 8, 10, 12, 14) else "conv" for i in range(16)],
            **TIED,
        ),
    ),
    "helium-1-2b": ("kyutai/helium-1-2b", sized("helium", 28, 2048, 16, 8, 8192, 64000, head_dim=128, **TIED)),
    "apertus-8b": ("swiss-ai/Apertus-8B-2509", sized("apertus", 32, 4096, 32, 8, 21504, 131072)),
    "apertus-70b": ("swiss-ai/Apertus-70B-2509", sized("apertus", 80, 8192, 64, 8, 43008, 131072)),
    "afm-4.5b": ("arcee-ai/AFM-4.5B-Base", sized("arcee", 36, 2560, 20, 4, 18432, 128004, head_dim=128)),
    "exaone-4.0-32b": (
        "LGAI-EXAONE/EXAONE-4.0-32B",
        sized("exaone4", 64, 5120, 40, 8, 27392, 102400, head_dim=128, sliding_window=4096),
    ),
    "exaone-4.0-1.2b": (
        "LGAI-EXAONE/EXAONE-4.0-1.2B",
        sized(
            "exaone4",
            30,
            2048,
            32,
            8,
            4096,
            102400,
            head_dim=64,
            sliding_window=None,
            layer_types=["full_attention"] * 30,
            **TIED,
        ),
    ),
    "command-r": ("CohereLabs/c4ai-command-r-v01", sized("cohere", 40, 8192, 64, 64, 22528, 256000, **TIED)),
    "command-r-plus": (
        "CohereLabs/c4ai-command-r-plus",
        sized("cohere", 64, 12288, 96, 8, 33792, 256000, use_qk_norm=True, **TIED),
    ),
    "aya-23-8b": ("CohereLabs/aya-23-8B", sized("cohere", 32, 4096, 32, 8, 14336, 256000, **TIED)),
    "command-r7b": (
        "CohereLabs/c4ai-command-r7b-12-2024",
        sized("cohere2", 32, 4096, 32, 8, 14336, 256000, sliding_window=4096, **TIED),
    ),
    "command-a": (
        "CohereLabs/c4ai-command-a-03-2025",
        sized("cohere2", 64, 12288, 96, 8, 36864, 256000, head_dim=128, sliding_window=4096, **TIED),
    ),
    "solar-10.7b": ("upstage/SOLAR-10.7B-v1.0", sized("llama", 48, 4096, 32, 8, 14336, 32000)),
    "solar-open-100b": (
        "upstage/Solar-Open-100B",
        sized(
            "solar_open",
            48,
            4096,
            64,
            8,
            10240,
            196608,
            head_dim=128,
            n_routed_experts=128,
            n_shared_experts=1,
            num_experts_per_tok=8,
            moe_intermediate_size=1280,
        ),
    ),
    # BigCode, Stability, EleutherAI, BigScience, Meta OPT
    "starcoder2-3b": ("bigcode/starcoder2-3b", sized("starcoder2", 30, 3072, 24, 2, 12288, 49152, sliding_window=4096, **TIED)),
    "starcoder2-7b": ("bigcode/starcoder2-7b", sized("starcoder2", 32, 4608, 36, 4, 18432, 49152, sliding_window=4096, **TIED)),
    "starcoder2-15b": ("bigcode/starcoder2-15b", sized("starcoder2", 40, 6144, 48, 4, 24576, 49152, sliding_window=4096, **TIED)),
    "starcoder-15b": (
        "bigcode/starcoder",
        {
            "model_type": "gpt_bigcode",
            "n_layer": 40,
            "n_embd": 6144,
            "n_head": 48,
            "n_inner": 24576,
            "n_positions": 8192,
            "vocab_size": 49152,
            "multi_query": True,
        },
    ),
    "stablelm-2-1.6b": ("stabilityai/stablelm-2-1_6b", sized("stablelm", 24, 2048, 32, 32, 5632, 100352, use_qkv_bias=True)),
    "stablelm-3b-4e1t": ("stabilityai/stablelm-3b-4e1t", sized("stablelm", 32, 2560, 32, 32, 6912, 50304)),
    "pythia-70m": ("EleutherAI/pythia-70m", neox(6, 512, 8)),
    "pythia-160m": ("EleutherAI/pythia-160m", neox(12, 768, 12)),
    "pythia-410m": ("EleutherAI/pythia-410m", neox(24, 1024, 16)),
    "pythia-1.4b": ("EleutherAI/pythia-1.4b", neox(24, 2048, 16)),
    "pythia-2.8b": ("EleutherAI/pythia-2.8b", neox(32, 2560, 32)),
    "pythia-6.9b": ("EleutherAI/pythia-6.9b", neox(32, 4096, 32, 50432)),
    "pythia-12b": ("EleutherAI/pythia-12b", neox(36, 5120, 40, 50688)),
    "gpt-j-6b": (
        "EleutherAI/gpt-j-6b",
        {"model_type": "gptj", "n_layer": 28, "n_embd": 4096, "n_head": 16, "vocab_size": 50400, "tie_word_embeddings": False},
    ),
    "gpt-neo-1.3b": (
        "EleutherAI/gpt-neo-1.3B",
        {
            "model_type": "gpt_neo",
            "num_layers": 24,
            "hidden_size": 2048,
            "num_heads": 16,
            "attention_types": [[["global", "local"], 12]],
            "vocab_size": 50257,
        },
    ),
    "gpt-neo-2.7b": (
        "EleutherAI/gpt-neo-2.7B",
        {
            "model_type": "gpt_neo",
            "num_layers": 32,
            "hidden_size": 2560,
            "num_heads": 20,
            "attention_types": [[["global", "local"], 16]],
            "vocab_size": 50257,
        },
    ),
    "bloom-560m": ("bigscience/bloom-560m", bloom(24, 1024, 16)),
    "bloom-1b7": ("bigscience/bloom-1b7", bloom(24, 2048, 16)),
    "bloom-3b": ("bigscience/bloom-3b", bloom(30, 2560, 32)),
    "bloom-176b": ("bigscience/bloom", bloom(70, 14336, 112)),
    "opt-125m": ("facebook/opt-125m", opt(12, 768, 12)),
    "opt-2.7b": ("facebook/opt-2.7b", opt(32, 2560, 32)),
    "opt-6.7b": ("facebook/opt-6.7b", opt(32, 4096, 32)),
    "opt-66b": ("facebook/opt-66b", opt(64, 9216, 72)),
    # encoders
    "roberta-base": ("FacebookAI/roberta-base", encoder("roberta", 12, 768, 12, 50265, 514, 1)),
    "roberta-large": ("FacebookAI/roberta-large", encoder("roberta", 24, 1024, 16, 50265, 514, 1)),
    "xlm-roberta-base": ("FacebookAI/xlm-roberta-base", encoder("xlm-roberta", 12, 768, 12, 250002, 514, 1)),
    "xlm-roberta-large": ("FacebookAI/xlm-roberta-large", encoder("xlm-roberta", 24, 1024, 16, 250002, 514, 1)),
    "distilbert-base": (
        "distilbert/distilbert-base-uncased",
        {
            "model_type": "distilbert",
            "dim": 768,
            "hidden_dim": 3072,
            "n_heads": 12,
            "n_layers": 6,
            "vocab_size": 30522,
            "max_position_embeddings": 512,
        },
    ),
    "electra-small-generator": (
        "google/electra-small-generator",
        {**encoder("electra", 12, 256, 4, 30522, 512, 2), "embedding_size": 128},
    ),
    "modernbert-base": (
        "answerdotai/ModernBERT-base",
        {
            "model_type": "modernbert",
            "num_hidden_layers": 22,
            "hidden_size": 768,
            "num_attention_heads": 12,
            "intermediate_size": 1152,
            "vocab_size": 50368,
        },
    ),
    "modernbert-large": (
        "answerdotai/ModernBERT-large",
        {
            "model_type": "modernbert",
            "num_hidden_layers": 28,
            "hidden_size": 1024,
            "num_attention_heads": 16,
            "intermediate_size": 2624,
            "vocab_size": 50368,
        },
    ),
    # encoders and decoders
    "t5-small": ("google-t5/t5-small", t5(6, 512, 8, 2048, "relu")),
    "t5-base": ("google-t5/t5-base", t5(12, 768, 12, 3072, "relu")),
    "t5-large": ("google-t5/t5-large", t5(24, 1024, 16, 4096, "relu")),
    "t5-3b": ("google-t5/t5-3b", t5(24, 1024, 32, 16384, "relu", 128)),
    "t5-11b": ("google-t5/t5-11b", t5(24, 1024, 128, 65536, "relu", 128)),
    "flan-t5-small": ("google/flan-t5-small", t5(8, 512, 6, 1024)),
    "flan-t5-base": ("google/flan-t5-base", t5(12, 768, 12, 2048)),
    "flan-t5-large": ("google/flan-t5-large", t5(24, 1024, 16, 2816)),
    "flan-t5-xl": ("google/flan-t5-xl", t5(24, 2048, 32, 5120)),
    "flan-t5-xxl": ("google/flan-t5-xxl", t5(24, 4096, 64, 10240)),
    "bart-base": ("facebook/bart-base", stacks("bart", 6, 6, 768, 12, 50265)),
    "bart-large": ("facebook/bart-large", stacks("bart", 12, 12, 1024, 16, 50265)),
    "mbart-large-50": ("facebook/mbart-large-50", stacks("mbart", 12, 12, 1024, 16, 250054)),
    "pegasus-large": ("google/pegasus-large", stacks("pegasus", 16, 16, 1024, 16, 96103, activation_function="relu")),
    "nllb-200-distilled-600m": ("facebook/nllb-200-distilled-600M", stacks("m2m_100", 12, 12, 1024, 16, 256206)),
    "nllb-200-3.3b": ("facebook/nllb-200-3.3B", stacks("m2m_100", 24, 24, 2048, 16, 256206)),
    "whisper-small": ("openai/whisper-small", stacks("whisper", 12, 12, 768, 12, 51865)),
    "whisper-large-v3": ("openai/whisper-large-v3", stacks("whisper", 32, 32, 1280, 20, 51866, num_mel_bins=128)),
    "whisper-large-v3-turbo": ("openai/whisper-large-v3-turbo", stacks("whisper", 32, 4, 1280, 20, 51866, num_mel_bins=128)),
    # of 2025 and 2026
    "qwen3-embedding-0.6b": (
        "Qwen/Qwen3-Embedding-0.6B",
        sized("qwen3", 28, 1024, 16, 8, 3072, 151669, tie_word_embeddings=True, max_position_embeddings=32768),
    ),
    "glm-5.2": (
        "zai-org/GLM-5.2",
        {
            "model_type": "glm_moe_dsa",
            "num_hidden_layers": 78,
            "max_position_embeddings": 1048576,
            "index_skip_topk_offset": 3,
            "index_topk_freq": 4,
        },
    ),
    "kimi-k2.5": (
        "moonshotai/Kimi-K2.5",
        {
            "model_type": "kimi_k25",
            "tie_word_embeddings": False,
            "text_config": {
                "model_type": "deepseek_v3",
                "num_hidden_layers": 61,
                "max_position_embeddings": 262144,
                "vocab_size": 163840,
                "n_routed_experts": 384,
                "num_attention_heads": 64,
                "first_k_dense_replace": 1,
                "n_group": 1,
                "topk_group": 1,
            },
            "vision_config": {"model_type": "kimi_k25_vision"},
        },
    ),
    "gemma-4-26b-a4b": (
        "google/gemma-4-26B-A4B-it",
        {
            "model_type": "gemma4",
            "text_config": {
                "model_type": "gemma4_text",
                "num_hidden_layers": 30,
                "max_position_embeddings": 262144,
                "attention_k_eq_v": True,
                "enable_moe_block": True,
                "hidden_size": 2816,
                "intermediate_size": 2112,
                "sliding_window": 1024,
                "moe_intermediate_size": 704,
                "num_experts": 128,
                "num_attention_heads": 16,
                "hidden_size_per_layer_input": 0,
                "num_global_key_value_heads": 2,
                "num_key_value_heads": 8,
                "top_k_experts": 8,
            },
            "vision_config": GEMMA_VISION,
        },
    ),
    "gemma-4-31b": (
        "google/gemma-4-31B-it",
        {
            "model_type": "gemma4",
            "text_config": {
                "model_type": "gemma4_text",
                "num_hidden_layers": 60,
                "max_position_embeddings": 262144,
                "attention_k_eq_v": True,
                "hidden_size": 5376,
                "intermediate_size": 21504,
                "sliding_window": 1024,
                "num_attention_heads": 32,
                "num_key_value_heads": 16,
                "num_global_key_value_heads": 4,
                "hidden_size_per_layer_input": 0,
            },
            "vision_config": GEMMA_VISION,
        },
    ),
    "gemma-4-e2b": (
        "google/gemma-4-E2B-it",
        {
            "model_type": "gemma4",
            "text_config": {
                "model_type": "gemma4_text",
                "num_hidden_layers": 35,
                "max_position_embeddings": 131072,
                "hidden_size": 1536,
                "intermediate_size": 6144,
                "num_kv_shared_layers": 20,
                "num_key_value_heads": 1,
                "use_double_wide_mlp": True,
                "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
            },
            "vision_config": {"model_type": "gemma4_vision"},
        },
    ),
    "gemma-4-e4b": (
        "google/gemma-4-E4B-it",
        {
            "model_type": "gemma4",
            "text_config": {
                "model_type": "gemma4_text",
                "num_hidden_layers": 42,
                "max_position_embeddings": 131072,
                "hidden_size": 2560,
                "intermediate_size": 10240,
                "num_kv_shared_layers": 18,
                "num_key_value_heads": 2,
            },
            "vision_config": {"model_type": "gemma4_vision"},
        },
    ),
    "qwen3-vl-235b-a22b": (
        "Qwen/Qwen3-VL-235B-A22B-Instruct",
        {
            "model_type": "qwen3_vl_moe",
            "tie_word_embeddings": False,
            "text_config": {
                "model_type": "qwen3_vl_moe_text",
                "num_hidden_layers": 94,
                "max_position_embeddings": 262144,
                "hidden_size": 4096,
                "intermediate_size": 12288,
                "moe_intermediate_size": 1536,
                "head_dim": 128,
                "num_attention_heads": 64,
                "num_key_value_heads": 4,
                "num_experts": 128,
                "num_experts_per_tok": 8,
            },
            "vision_config": {"model_type": "qwen3_vl_moe_vision", "out_hidden_size": 4096},
        },
    ),
    "mimo-v2-flash": (
        "XiaomiMiMo/MiMo-V2-Flash",
        {
            "model_type": "mimo_v2_flash",
            "max_position_embeddings": 262144,
            "sliding_window_size": 128,
            "hybrid_layer_pattern": [0, 1, 1, 1, 1] + [0, 1, 1, 1, 1, 1] * 7 + [0],
        },
    ),
    "nemotron-h-56b": (
        "nvidia/Nemotron-H-56B-Base-8K",
        {
            "model_type": "nemotron_h",
            "hybrid_override_pattern": "M-M-M-M*-" + "M-M-M-M-M*-" * 9 + "M-M-M-M-M-",
            "hidden_size": 8192,
            "intermediate_size": 32768,
            "max_position_embeddings": 8192,
            "mamba_num_heads": 256,
            "ssm_state_size": 256,
            "num_attention_heads": 64,
        },
    ),
}
"""Name in the catalog -> (repository on the Hub, what its config.json says)."""
