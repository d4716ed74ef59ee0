"""Released models of 2022 to 2026 by what their config.json on the Hugging Face Hub says: fields that shape the model.

Written from the published files; ``planner/catalog/models`` is compared with them. A field that is left out has the default of
transformers' configuration class.
"""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]


def sized(kind: str, layers: int, hidden: int, heads: int, kv_heads: int, inner: int, words: int, **more: Any) -> Config:
    """The sizes that every decoder has. A table without its type takes the defaults of another family."""
    assert kind, "the file's model_type, that of its text_config where it has one"
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


def t5(
    layers: int,
    hidden: int,
    heads: int,
    inner: int,
    form: str = "gated-gelu",
    width: int = 64,
    words: int = 32128,
    kind: str = "t5",
) -> Config:
    """T5, and what came after it: its gated feed-forwards came with an output layer of their own (T5 1.1)."""
    return {
        "model_type": kind,
        "num_layers": layers,
        "d_model": hidden,
        "num_heads": heads,
        "d_kv": width,
        "d_ff": inner,
        "feed_forward_proj": form,
        "vocab_size": words,
        "tie_word_embeddings": not form.startswith("gated"),
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
    return {"model_type": kind, "text_config": text, "vision_config": vision, "tie_word_embeddings": tied}


def disentangled(layers: int, hidden: int, words: int = 128100) -> Config:
    """DeBERTa-v3: 256 buckets of distances, no table of positions, heads of 64."""
    sizes = encoder("deberta-v2", layers, hidden, hidden // 64, words, 512, 0)
    positions = {"relative_attention": True, "position_buckets": 256, "max_relative_positions": -1, "share_att_key": True}
    return {**sizes, **positions, "norm_rel_ebd": "layer_norm", "pos_att_type": "p2c|c2p", "position_biased_input": False}


def albert(layers: int, hidden: int, heads: int) -> Config:
    """ALBERT v2: one set of weights, embeddings of 128."""
    sizes = encoder("albert", layers, hidden, heads, 30000, 512, 2)
    return {**sizes, "embedding_size": 128, "hidden_act": "gelu_new"}


def crossing(layers: int, hidden: int, heads: int, inner: int) -> Config:
    """Llama 3.2 Vision: every fifth layer, from the fourth on, attends to images of four tiles of 560 pixels."""
    chosen = list(range(3, layers, 5))
    text = sized("mllama_text_model", layers, hidden, heads, 8, inner, 128256, max_position_embeddings=131072)
    return seeing("mllama", {**text, "cross_attention_layers": chosen}, image_size=560)


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
PIXTRAL = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "head_dim": 64,
    "image_size": 1540,
    "patch_size": 14,
    "hidden_act": "silu",
}
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}


def eye(layers: int, hidden: int, inner: int, heads: int, out: int) -> Config:
    """The tower of a small Qwen3.5."""
    return {
        "depth": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_heads": heads,
        "deepstack_visual_indexes": [],
        "out_hidden_size": out,
    }


TIED = {"tie_word_embeddings": True}
UNTIED = {"tie_word_embeddings": False}
IDEFICS = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16, "patch_size": 14}
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


QWEN_27B = seeing("qwen3_5", qwen3_next("qwen3_5_text", 64, 5120, 24, 4, 17408, 248320, 48), **PLAIN_EYE, out_hidden_size=5120)
"""Of Qwen3.5 and Qwen3.6 alike."""
QWEN_35B_A3B = seeing(
    "qwen3_5_moe",
    qwen3_next(
        "qwen3_5_moe_text",
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
                "qwen3_5_moe_text",
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
                "qwen3_5_moe_text",
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
        seeing(
            "qwen3_vl",
            sized("qwen3_vl_text", 28, 2048, 16, 8, 6144, 151936, head_dim=128, **TIED),
            **SMALL_EYE,
            out_hidden_size=2048,
        ),
    ),
    "qwen3-vl-4b": (
        "Qwen/Qwen3-VL-4B-Instruct",
        seeing(
            "qwen3_vl",
            sized("qwen3_vl_text", 36, 2560, 32, 8, 9728, 151936, head_dim=128, **TIED),
            **SMALL_EYE,
            out_hidden_size=2560,
        ),
    ),
    "llama-3.2-11b-vision": ("meta-llama/Llama-3.2-11B-Vision-Instruct", crossing(40, 4096, 32, 14336)),
    "llama-3.2-90b-vision": ("meta-llama/Llama-3.2-90B-Vision-Instruct", crossing(100, 8192, 64, 28672)),
    "qwen3-vl-8b": (
        "Qwen/Qwen3-VL-8B-Instruct",
        seeing(
            "qwen3_vl", sized("qwen3_vl_text", 36, 4096, 32, 8, 12288, 151936, head_dim=128), **LARGE_EYE, out_hidden_size=4096
        ),
    ),
    "qwen3-vl-32b": (
        "Qwen/Qwen3-VL-32B-Instruct",
        seeing(
            "qwen3_vl", sized("qwen3_vl_text", 64, 5120, 64, 8, 25600, 151936, head_dim=128), **LARGE_EYE, out_hidden_size=5120
        ),
    ),
    "qwen3-vl-30b-a3b": (
        "Qwen/Qwen3-VL-30B-A3B-Instruct",
        seeing(
            "qwen3_vl_moe",
            sized(
                "qwen3_vl_moe_text",
                48,
                2048,
                32,
                4,
                6144,
                151936,
                head_dim=128,
                num_experts=128,
                num_experts_per_tok=8,
                moe_intermediate_size=768,
            ),
            **LARGE_EYE,
            out_hidden_size=2048,
        ),
    ),
    "qwen2.5-vl-7b": (
        "Qwen/Qwen2.5-VL-7B-Instruct",
        seeing(
            "qwen2_5_vl",
            sized("qwen2_5_vl_text", 28, 3584, 28, 4, 18944, 152064),
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
    "albert-base-v2": ("albert/albert-base-v2", albert(12, 768, 12)),
    "albert-large-v2": ("albert/albert-large-v2", albert(24, 1024, 16)),
    "albert-xlarge-v2": ("albert/albert-xlarge-v2", albert(24, 2048, 16)),
    "albert-xxlarge-v2": ("albert/albert-xxlarge-v2", albert(12, 4096, 64)),
    "deberta-v3-xsmall": ("microsoft/deberta-v3-xsmall", disentangled(12, 384)),
    "deberta-v3-small": ("microsoft/deberta-v3-small", disentangled(6, 768)),
    "deberta-v3-base": ("microsoft/deberta-v3-base", disentangled(12, 768)),
    "deberta-v3-large": ("microsoft/deberta-v3-large", disentangled(24, 1024)),
    "mdeberta-v3-base": ("microsoft/mdeberta-v3-base", disentangled(12, 768, 251000)),
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
    "nemotron-h-8b": (
        "nvidia/Nemotron-H-8B-Base-8K",
        {
            "model_type": "nemotron_h",
            "hybrid_override_pattern": "M-M-M-M*-" + "M-M-M-M-M*-" * 3 + "M-M-M-M-M-",
            "hidden_size": 4096,
            "intermediate_size": 21504,
            "max_position_embeddings": 8192,
            "mamba_num_heads": 128,
            "ssm_state_size": 128,
            "num_attention_heads": 32,
        },
    ),
    "skywork-13b": (
        "Skywork/Skywork-13B-base",
        {
            "model_type": "llama",
            "num_hidden_layers": 52,
            "hidden_size": 4608,
            "num_attention_heads": 36,
            "num_key_value_heads": 36,
            "intermediate_size": 12288,
            "vocab_size": 65519,
        },
    ),
    "dbrx": (
        "databricks/dbrx-base",
        {
            "model_type": "dbrx",
            "n_layers": 40,
            "d_model": 6144,
            "n_heads": 48,
            "vocab_size": 100352,
            "max_seq_len": 32768,
            "attn_config": {"clip_qkv": 8, "kv_n_heads": 8, "rope_theta": 500000},
            "ffn_config": {
                "ffn_hidden_size": 10752,
                "moe_num_experts": 16,
                "moe_top_k": 4,
                "moe_jitter_eps": 0,
                "ffn_act_fn": {"name": "silu"},
                "moe_loss_weight": 0.05,
            },
        },
    ),
    "cerebras-gpt-1.3b": (
        "cerebras/Cerebras-GPT-1.3B",
        {"model_type": "gpt2", "n_layer": 24, "n_embd": 2048, "n_head": 16, "n_inner": 8192, "n_positions": 2048},
    ),
    "cerebras-gpt-2.7b": (
        "cerebras/Cerebras-GPT-2.7B",
        {"model_type": "gpt2", "n_layer": 32, "n_embd": 2560, "n_head": 32, "n_inner": 10240, "n_positions": 2048},
    ),
    "cerebras-gpt-6.7b": (
        "cerebras/Cerebras-GPT-6.7B",
        {"model_type": "gpt2", "n_layer": 32, "n_embd": 4096, "n_head": 32, "n_inner": 16384, "n_positions": 2048},
    ),
    "cerebras-gpt-13b": (
        "cerebras/Cerebras-GPT-13B",
        {"model_type": "gpt2", "n_layer": 40, "n_embd": 5120, "n_head": 40, "n_inner": 20480, "n_positions": 2048},
    ),
    "stablelm-2-12b": (
        "stabilityai/stablelm-2-12b",
        {
            "model_type": "stablelm",
            "num_hidden_layers": 40,
            "hidden_size": 5120,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 13824,
            "vocab_size": 100352,
            "qk_layernorm": True,
            "use_parallel_residual": True,
            "partial_rotary_factor": 0.25,
            "use_qkv_bias": False,
        },
    ),
    "aquila2-7b": (
        "BAAI/Aquila2-7B",
        {
            "model_type": "llama",
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "intermediate_size": 11008,
            "vocab_size": 143973,
        },
    ),
    "aquila2-34b": (
        "BAAI/Aquila2-34B",
        {
            "model_type": "llama",
            "num_hidden_layers": 60,
            "hidden_size": 6144,
            "num_attention_heads": 48,
            "num_key_value_heads": 8,
            "intermediate_size": 24576,
            "vocab_size": 143973,
        },
    ),
    "redpajama-incite-3b": (
        "togethercomputer/RedPajama-INCITE-Base-3B-v1",
        {
            "model_type": "gpt_neox",
            "num_hidden_layers": 32,
            "hidden_size": 2560,
            "num_attention_heads": 32,
            "intermediate_size": 10240,
            "vocab_size": 50432,
            "max_position_embeddings": 2048,
        },
    ),
    "redpajama-incite-7b": (
        "togethercomputer/RedPajama-INCITE-7B-Base",
        {
            "model_type": "gpt_neox",
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "intermediate_size": 16384,
            "vocab_size": 50432,
            "max_position_embeddings": 2048,
        },
    ),
    "eurollm-1.7b": (
        "utter-project/EuroLLM-1.7B",
        {
            "model_type": "llama",
            "num_hidden_layers": 24,
            "hidden_size": 2048,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "intermediate_size": 5632,
            "vocab_size": 128000,
        },
    ),
    "eurollm-9b": (
        "utter-project/EuroLLM-9B",
        {
            "model_type": "llama",
            "num_hidden_layers": 42,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 12288,
            "vocab_size": 128000,
        },
    ),
    "xgen-7b": (
        "Salesforce/xgen-7b-8k-base",
        {
            "model_type": "llama",
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "intermediate_size": 11008,
            "vocab_size": 51200,
            "max_position_embeddings": 8192,
        },
    ),
    "k2-65b": (
        "LLM360/K2",
        {
            "model_type": "llama",
            "num_hidden_layers": 80,
            "hidden_size": 8192,
            "num_attention_heads": 64,
            "num_key_value_heads": 64,
            "intermediate_size": 22016,
            "vocab_size": 32032,
            "max_position_embeddings": 8192,
        },
    ),
    "falcon-11b": (
        "tiiuae/falcon-11B",
        {
            "model_type": "falcon",
            "num_hidden_layers": 60,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_kv_heads": 8,
            "vocab_size": 65024,
            "new_decoder_architecture": True,
            "ffn_hidden_size": 16384,
            "num_ln_in_parallel_attn": 1,
            "bias": False,
            "tie_word_embeddings": False,
        },
    ),
    "minitron-8b": (
        "nvidia/Minitron-8B-Base",
        {
            "model_type": "nemotron",
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "num_attention_heads": 48,
            "num_key_value_heads": 8,
            "intermediate_size": 16384,
            "vocab_size": 256000,
            "head_dim": 128,
        },
    ),
    "minitron-4b": (
        "nvidia/Minitron-4B-Base",
        {
            "model_type": "nemotron",
            "num_hidden_layers": 32,
            "hidden_size": 3072,
            "num_attention_heads": 24,
            "num_key_value_heads": 8,
            "intermediate_size": 9216,
            "vocab_size": 256000,
            "head_dim": 128,
        },
    ),
    "nemotron-4-15b": (
        "arXiv 2402.16819, table 1",
        {
            "model_type": "nemotron",
            "num_hidden_layers": 32,
            "hidden_size": 6144,
            "num_attention_heads": 48,
            "num_key_value_heads": 8,
            "intermediate_size": 24576,
            "vocab_size": 256000,
        },
    ),
    "nemotron-4-340b": (
        "arXiv 2406.11704, table 1",
        {
            "model_type": "nemotron",
            "num_hidden_layers": 96,
            "hidden_size": 18432,
            "num_attention_heads": 96,
            "num_key_value_heads": 8,
            "intermediate_size": 73728,
            "vocab_size": 256000,
        },
    ),
    "codeqwen1.5-7b": (
        "Qwen/CodeQwen1.5-7B",
        {
            "model_type": "qwen2",
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "intermediate_size": 13440,
            "vocab_size": 92416,
        },
    ),
    "granite-3.1-8b": (
        "ibm-granite/granite-3.1-8b-base",
        {
            "model_type": "granite",
            "num_hidden_layers": 40,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 12800,
            "vocab_size": 49152,
            "tie_word_embeddings": True,
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.0078125,
            "residual_multiplier": 0.22,
            "logits_scaling": 16.0,
        },
    ),
    "hunyuan-a13b": (
        "tencent/Hunyuan-A13B-Pretrain",
        {
            "model_type": "hunyuan_v1_moe",
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 3072,
            "vocab_size": 128167,
            "head_dim": 128,
            "num_experts": 64,
            "moe_topk": 8,
            "num_shared_expert": 1,
            "moe_intermediate_size": 3072,
            "tie_word_embeddings": True,
        },
    ),
    # vision and text, experts and hybrids of 2025 and 2026
    "ernie-4.5-300b-a47b": (
        "baidu/ERNIE-4.5-300B-A47B-PT",
        sized(
            "ernie4_5_moe",
            54,
            8192,
            64,
            8,
            28672,
            103424,
            moe_intermediate_size=3584,
            moe_k=8,
            moe_num_experts=64,
            moe_num_shared_experts=0,
            moe_layer_start_index=3,
            tie_word_embeddings=False,
        ),
    ),
    "qwen2-vl-2b": (
        "Qwen/Qwen2-VL-2B-Instruct",
        seeing(
            "qwen2_vl",
            sized("qwen2_vl_text", 28, 1536, 12, 2, 8960, 151936, **TIED),
            depth=32,
            embed_dim=1280,
            hidden_size=1536,
            num_heads=16,
            mlp_ratio=4,
        ),
    ),
    "qwen2-vl-7b": (
        "Qwen/Qwen2-VL-7B-Instruct",
        seeing(
            "qwen2_vl",
            sized("qwen2_vl_text", 28, 3584, 28, 4, 18944, 152064),
            depth=32,
            embed_dim=1280,
            hidden_size=3584,
            num_heads=16,
            mlp_ratio=4,
        ),
    ),
    "qwen2-vl-72b": (
        "Qwen/Qwen2-VL-72B-Instruct",
        seeing(
            "qwen2_vl",
            sized("qwen2_vl_text", 80, 8192, 64, 8, 29568, 152064),
            depth=32,
            embed_dim=1280,
            hidden_size=8192,
            num_heads=16,
            mlp_ratio=4,
        ),
    ),
    "qwen2.5-vl-3b": (
        "Qwen/Qwen2.5-VL-3B-Instruct",
        seeing(
            "qwen2_5_vl",
            sized("qwen2_5_vl_text", 36, 2048, 16, 2, 11008, 151936, **TIED),
            depth=32,
            hidden_size=1280,
            intermediate_size=3420,
            num_heads=16,
            out_hidden_size=2048,
        ),
    ),
    "qwen2.5-vl-32b": (
        "Qwen/Qwen2.5-VL-32B-Instruct",
        seeing(
            "qwen2_5_vl",
            sized("qwen2_5_vl_text", 64, 5120, 40, 8, 27648, 152064),
            depth=32,
            hidden_size=1280,
            intermediate_size=3456,
            num_heads=16,
            out_hidden_size=5120,
        ),
    ),
    "qwen2.5-vl-72b": (
        "Qwen/Qwen2.5-VL-72B-Instruct",
        seeing(
            "qwen2_5_vl",
            sized("qwen2_5_vl_text", 80, 8192, 64, 8, 29568, 152064),
            depth=32,
            hidden_size=1280,
            intermediate_size=3456,
            num_heads=16,
            out_hidden_size=8192,
        ),
    ),
    "llava-1.5-7b": ("llava-hf/llava-1.5-7b-hf", {**seeing("llava", sized("llama", 32, 4096, 32, 32, 11008, 32064), **CLIP)}),
    "llava-1.5-13b": ("llava-hf/llava-1.5-13b-hf", {**seeing("llava", sized("llama", 40, 5120, 40, 40, 13824, 32064), **CLIP)}),
    "ministral-3-3b": (
        "mistralai/Ministral-3-3B-Instruct-2512",
        seeing("mistral3", sized("ministral3", 26, 3072, 32, 8, 9216, 131072, head_dim=128, **TIED), **PIXTRAL),
    ),
    "ministral-3-8b": (
        "mistralai/Ministral-3-8B-Reasoning-2512",
        seeing(
            "mistral3", sized("ministral3", 34, 4096, 32, 8, 14336, 131072, head_dim=128, tie_word_embeddings=False), **PIXTRAL
        ),
    ),
    "mistral-small-3.1-24b": (
        "mistralai/Mistral-Small-3.1-24B-Base-2503",
        seeing("mistral3", sized("mistral", 40, 5120, 32, 8, 32768, 131072, head_dim=128, sliding_window=None), **PIXTRAL),
    ),
    "mistral-large-3": (
        "mistralai/Mistral-Large-3-675B-Instruct-2512",
        sized(
            "deepseek_v3",
            61,
            7168,
            128,
            128,
            16384,
            131072,
            q_lora_rank=1536,
            **MLA,
            n_routed_experts=128,
            num_experts_per_tok=4,
            n_shared_experts=1,
            moe_intermediate_size=4096,
            first_k_dense_replace=3,
            n_group=1,
            topk_group=1,
        ),
    ),
    "lfm2-700m": (
        "LiquidAI/LFM2-700M",
        sized(
            "lfm2",
            16,
            1536,
            24,
            8,
            10240,
            65536,
            full_attn_idxs=[2, 5, 8, 10, 12, 14],
            layer_types=["full_attention" if i in (2, 5, 8, 10, 12, 14) else "conv" for i in range(16)],
            **TIED,
        ),
    ),
    "lfm2-8b-a1b": (
        "LiquidAI/LFM2-8B-A1B",
        sized(
            "lfm2_moe",
            24,
            2048,
            32,
            8,
            7168,
            65536,
            moe_intermediate_size=1792,
            num_dense_layers=2,
            num_experts=32,
            num_experts_per_tok=4,
            conv_L_cache=3,
            layer_types=["full_attention" if i in (2, 6, 10, 14, 18, 21) else "conv" for i in range(24)],
            **TIED,
        ),
    ),
    "lfm2-24b-a2b": (
        "LiquidAI/LFM2-24B-A2B",
        sized(
            "lfm2_moe",
            40,
            2048,
            32,
            8,
            11776,
            65536,
            moe_intermediate_size=1536,
            num_dense_layers=2,
            num_experts=64,
            num_experts_per_tok=4,
            conv_L_cache=3,
            layer_types=["full_attention" if i % 4 == 2 else "conv" for i in range(40)],
            **TIED,
        ),
    ),
    "glm-4.7-flash": (
        "zai-org/GLM-4.7-Flash",
        sized(
            "glm4_moe_lite",
            47,
            2048,
            20,
            20,
            10240,
            154880,
            q_lora_rank=768,
            kv_lora_rank=512,
            qk_nope_head_dim=192,
            qk_rope_head_dim=64,
            v_head_dim=256,
            moe_intermediate_size=1536,
            n_routed_experts=64,
            n_shared_experts=1,
            num_experts_per_tok=4,
        ),
    ),
    "granite-4.0-h-1b": (
        "ibm-granite/granite-4.0-h-1b",
        sized(
            "granitemoehybrid",
            40,
            1536,
            12,
            4,
            4096,
            100352,
            shared_intermediate_size=4096,
            num_local_experts=0,
            num_experts_per_tok=0,
            mamba_n_heads=48,
            mamba_d_head=64,
            mamba_d_state=128,
            mamba_n_groups=1,
            mamba_expand=2,
            layer_types=["full_attention" if i in (5, 15, 25, 35) else "linear_attention" for i in range(40)],
            **TIED,
        ),
    ),
    "granite-4.0-h-350m": (
        "ibm-granite/granite-4.0-h-350m",
        sized(
            "granitemoehybrid",
            32,
            768,
            12,
            4,
            2048,
            100352,
            shared_intermediate_size=2048,
            num_local_experts=0,
            num_experts_per_tok=0,
            mamba_n_heads=48,
            mamba_d_head=32,
            mamba_d_state=128,
            mamba_n_groups=1,
            mamba_expand=2,
            layer_types=["full_attention" if i in (10, 13, 17, 27) else "linear_attention" for i in range(32)],
            **TIED,
        ),
    ),
    "hunyuan-0.5b": (
        "tencent/Hunyuan-0.5B-Pretrain",
        sized("hunyuan_v1_dense", 24, 1024, 16, 8, 3584, 120818, head_dim=128, **TIED),
    ),
    "hunyuan-1.8b": (
        "tencent/Hunyuan-1.8B-Instruct",
        sized("hunyuan_v1_dense", 32, 2048, 16, 4, 6144, 120818, head_dim=128, **TIED),
    ),
    "hunyuan-4b": ("tencent/Hunyuan-4B-Instruct", sized("hunyuan_v1_dense", 36, 3072, 32, 8, 8192, 120818, head_dim=128, **TIED)),
    "trinity-mini": (
        "arcee-ai/Trinity-Mini",
        sized(
            "afmoe",
            32,
            2048,
            32,
            4,
            6144,
            200192,
            head_dim=128,
            moe_intermediate_size=1024,
            num_experts=128,
            num_experts_per_tok=8,
            num_shared_experts=1,
            num_dense_layers=2,
            sliding_window=2048,
            layer_types=(["sliding_attention"] * 3 + ["full_attention"]) * 8,
        ),
    ),
    "trinity-nano": (
        "arcee-ai/Trinity-Nano-Preview",
        sized(
            "afmoe",
            56,
            1024,
            8,
            2,
            3072,
            200192,
            head_dim=128,
            moe_intermediate_size=256,
            num_experts=128,
            num_experts_per_tok=8,
            num_shared_experts=1,
            num_dense_layers=2,
            sliding_window=2048,
            layer_types=(["sliding_attention"] * 3 + ["full_attention"]) * 14,
        ),
    ),
    "qwen3.5-0.8b": (
        "Qwen/Qwen3.5-0.8B",
        seeing("qwen3_5", qwen3_next("qwen3_5_text", 24, 1024, 8, 2, 3584, 248320, 16, **TIED), **eye(12, 768, 3072, 12, 1024)),
    ),
    "qwen3.5-9b": (
        "Qwen/Qwen3.5-9B",
        seeing("qwen3_5", qwen3_next("qwen3_5_text", 32, 4096, 16, 4, 12288, 248320, 32), **PLAIN_EYE, out_hidden_size=4096),
    ),
    "qwen3.5-4b": (
        "Qwen/Qwen3.5-4B",
        seeing("qwen3_5", qwen3_next("qwen3_5_text", 32, 2560, 16, 4, 9216, 248320, 32, **TIED), **eye(24, 1024, 4096, 16, 2560)),
    ),
    "mimo-7b": ("XiaomiMiMo/MiMo-7B-Base", sized("qwen2", 36, 4096, 32, 8, 11008, 151680)),
    # encoders, stacks, states, proteins and small models that people ask for; the catalog says of each which file was read, or
    # that none was: STATED is then all that checks it
    **{
        f"whisper-{name}": (f"openai/whisper-{name}", stacks("whisper", layers, layers, hidden, hidden // 64, 51865))
        for name, layers, hidden in (("tiny", 4, 384), ("base", 6, 512), ("medium", 24, 1024), ("large-v2", 32, 1280))
    },
    "distil-large-v3": ("distil-whisper/distil-large-v3", stacks("whisper", 32, 2, 1280, 20, 51866, num_mel_bins=128)),
    "nllb-200-1.3b": (
        "facebook/nllb-200-1.3B",
        {
            **stacks("m2m_100", 24, 24, 1024, 16, 256206, max_position_embeddings=1024),
            "encoder_ffn_dim": 8192,
            "decoder_ffn_dim": 8192,
        },
    ),
    "m2m100-1.2b": (
        "facebook/m2m100_1.2B",
        {
            **stacks("m2m_100", 24, 24, 1024, 16, 128112, max_position_embeddings=1024),
            "encoder_ffn_dim": 8192,
            "decoder_ffn_dim": 8192,
        },
    ),
    "bart-large-cnn": ("facebook/bart-large-cnn", stacks("bart", 12, 12, 1024, 16, 50264, max_position_embeddings=1024)),
    **{
        f"mt5-{name}": (f"google/mt5-{name}", t5(layers, hidden, heads, inner, words=250112, kind="mt5"))
        for name, layers, hidden, heads, inner in (
            ("small", 8, 512, 6, 1024),
            ("base", 12, 768, 12, 2048),
            ("large", 24, 1024, 16, 2816),
            ("xl", 24, 2048, 32, 5120),
            ("xxl", 24, 4096, 64, 10240),
        )
    },
    **{
        f"byt5-{name}": (
            f"google/byt5-{name}",
            {**t5(layers, hidden, heads, inner, words=384), "num_decoder_layers": layers // 3},
        )
        for name, layers, hidden, heads, inner in (
            ("small", 12, 1472, 6, 3584),
            ("base", 18, 1536, 12, 3968),
            ("large", 36, 1536, 16, 3840),
            ("xl", 36, 2560, 32, 6720),
            ("xxl", 36, 4672, 64, 12352),
        )
    },
    "madlad400-3b": ("google/madlad400-3b-mt", t5(32, 1024, 16, 8192, width=128, words=256000)),
    "flan-ul2": ("google/flan-ul2", t5(32, 4096, 16, 16384, "gated-silu", 256)),
    "granite-code-8b": (
        "ibm-granite/granite-8b-code-base-4k",
        sized(
            "llama",
            36,
            4096,
            32,
            8,
            14336,
            49152,
            attention_bias=True,
            mlp_bias=True,
            attention_dropout=0.1,
            max_position_embeddings=4096,
            **TIED,
        ),
    ),
    "granite-code-20b": (
        "ibm-granite/granite-20b-code-base-8k",
        {
            "model_type": "gpt_bigcode",
            "n_embd": 6144,
            "n_head": 48,
            "n_inner": 24576,
            "n_layer": 52,
            "n_positions": 8192,
            "vocab_size": 49152,
            "multi_query": True,
        },
    ),
    **{
        f"starcoderbase-{name}": (
            f"bigcode/starcoderbase-{name}",
            {
                "model_type": "gpt_bigcode",
                "n_embd": hidden,
                "n_head": hidden // 128,
                "n_inner": 4 * hidden,
                "n_layer": layers,
                "n_positions": 8192,
                "vocab_size": 49152,
                "multi_query": True,
                "activation_function": form,
            },
        )
        for name, layers, hidden, form in (
            ("1b", 24, 2048, "gelu_pytorch_tanh"),
            ("3b", 36, 2816, "gelu_pytorch_tanh"),
            ("7b", 42, 4096, "gelu"),
        )
    },
    **{
        f"codegen-{name}": (
            f"Salesforce/codegen-{hub}-mono",
            {
                "model_type": "codegen",
                "n_embd": hidden,
                "n_head": heads,
                "n_layer": layers,
                "n_positions": 2048,
                "vocab_size": 51200,
                "tie_word_embeddings": False,
            },
        )
        for name, hub, layers, hidden, heads in (
            ("350m", "350M", 20, 1024, 16),
            ("16b", "16B", 34, 6144, 24),
        )
    },
    "granite-4.0-h-tiny": (
        "ibm-granite/granite-4.0-h-tiny",
        sized(
            "granitemoehybrid",
            40,
            1536,
            12,
            4,
            512,
            100352,
            shared_intermediate_size=1024,
            num_local_experts=64,
            num_experts_per_tok=6,
            mamba_n_heads=48,
            mamba_d_head=64,
            mamba_d_state=128,
            mamba_n_groups=1,
            mamba_expand=2,
            layer_types=["full_attention" if i in (5, 15, 25, 35) else "linear_attention" for i in range(40)],
            max_position_embeddings=131072,
            **TIED,
        ),
    ),
    **{
        f"nemotron-nano-{name}-v2": (
            f"nvidia/NVIDIA-Nemotron-Nano-{name.upper()}-v2",
            {
                "model_type": "nemotron_h",
                "hybrid_override_pattern": pattern,
                "hidden_size": hidden,
                "intermediate_size": inner,
                "mamba_num_heads": 128,
                "mamba_head_dim": 80,
                "ssm_state_size": 128,
                "num_attention_heads": 40,
                "max_position_embeddings": 131072,
            },
        )
        for name, hidden, inner, pattern in (
            ("9b", 4480, 15680, "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"),
            ("12b", 5120, 20480, "M-M-M-M*-" * 6 + "M-M-M-M-"),
        )
    },
    "kimi-linear-48b-a3b": (
        "moonshotai/Kimi-Linear-48B-A3B-Instruct",
        {
            **sized("kimi_linear", 27, 2304, 32, 32, 9216, 163840),
            **MLA,
            "q_lora_rank": None,
            "first_k_dense_replace": 1,
            "moe_intermediate_size": 1024,
            "num_experts": 256,
            "num_experts_per_token": 8,
            "num_shared_experts": 1,
            "max_position_embeddings": 1048576,
            "tie_word_embeddings": False,
            "linear_attn_config": {
                "full_attn_layers": [4, 8, 12, 16, 20, 24, 27],
                "num_heads": 32,
                "head_dim": 128,
                "kda_layers": [i for i in range(1, 27) if i % 4],
                "short_conv_kernel_size": 4,
            },
        },
    ),
    "ministral-3-14b": (
        "mistralai/Ministral-3-14B-Instruct-2512",
        seeing(
            "mistral3",
            sized("ministral3", 40, 5120, 32, 8, 16384, 131072, head_dim=128, max_position_embeddings=262144, **UNTIED),
            **PIXTRAL,
        ),
    ),
    "pixtral-12b": (
        "mistral-community/pixtral-12b",
        seeing(
            "llava",
            sized("mistral", 40, 5120, 32, 8, 14336, 131072, head_dim=128, max_position_embeddings=1024000, sliding_window=None),
            **{**PIXTRAL, "model_type": "pixtral", "image_size": 1024, "patch_size": 16},
        ),
    ),
    **{
        f"rwkv-4-{name}": (
            f"RWKV/rwkv-4-{name}-pile",
            {
                "model_type": "rwkv",
                "num_hidden_layers": layers,
                "hidden_size": hidden,
                "attention_hidden_size": hidden,
                "intermediate_size": 4 * hidden,
                "vocab_size": 50277,
                "tie_word_embeddings": False,
            },
        )
        for name, layers, hidden in (
            ("169m", 12, 768),
            ("430m", 24, 1024),
            ("1b5", 24, 2048),
            ("3b", 32, 2560),
            ("7b", 32, 4096),
            ("14b", 40, 5120),
        )
    },
    **{
        f"mamba2-{name}": (
            f"state-spaces/mamba2-{name}",
            {
                "model_type": "mamba2",
                "num_hidden_layers": layers,
                "hidden_size": hidden,
                "num_heads": hidden // 32,
                "head_dim": 64,
                "state_size": 128,
                "n_groups": 1,
                "vocab_size": 50288,
                **TIED,
            },
        )
        for name, layers, hidden in (
            ("130m", 24, 768),
            ("370m", 48, 1024),
            ("780m", 48, 1536),
            ("1.3b", 48, 2048),
            ("2.7b", 64, 2560),
        )
    },
    "xglm-7.5b": (
        "facebook/xglm-7.5B",
        {
            "model_type": "xglm",
            "d_model": 4096,
            "num_layers": 32,
            "ffn_dim": 16384,
            "attention_heads": 32,
            "vocab_size": 256008,
            "max_position_embeddings": 2048,
        },
    ),
    "polyglot-ko-12.8b": ("EleutherAI/polyglot-ko-12.8b", neox(40, 5120, 40, 30080)),
    "persimmon-8b": (
        "adept/persimmon-8b-base",
        {
            "model_type": "persimmon",
            "num_hidden_layers": 36,
            "hidden_size": 4096,
            "num_attention_heads": 64,
            "intermediate_size": 16384,
            "vocab_size": 262144,
            "max_position_embeddings": 16384,
        },
    ),
    **{
        f"esm2-{name}": (
            f"facebook/esm2_t{layers}_{name.upper()}_UR50D",
            {
                **encoder("esm", layers, hidden, heads, 33, 1026, 0),
                "position_embedding_type": "rotary",
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
            },
        )
        for name, layers, hidden, heads in (("650m", 33, 1280, 20), ("3b", 36, 2560, 40), ("15b", 48, 5120, 40))
    },
    "distilroberta-base": ("distilbert/distilroberta-base", encoder("roberta", 6, 768, 12, 50265, 514, 1)),
    "camembert-base": ("almanach/camembert-base", encoder("camembert", 12, 768, 12, 32005, 514, 1)),
    "all-mpnet-base-v2": (
        "sentence-transformers/all-mpnet-base-v2",
        encoder("mpnet", 12, 768, 12, 30527, 514, 0),
    ),
    "deberta-base": (
        "microsoft/deberta-base",
        {
            **encoder("deberta", 12, 768, 12, 50265, 512, 0),
            "relative_attention": True,
            "pos_att_type": "c2p|p2c",
            "position_biased_input": False,
            "max_relative_positions": -1,
        },
    ),
    "embeddinggemma-300m": (
        "google/embeddinggemma-300m",
        {**gemma3(24, 768, 3, 1, 1152, 512, words=262144), "max_position_embeddings": 2048, "architectures": ["Gemma3TextModel"]},
    ),
    "e5-mistral-7b": (
        "intfloat/e5-mistral-7b-instruct",
        sized(
            "mistral",
            32,
            4096,
            32,
            8,
            14336,
            32000,
            max_position_embeddings=32768,
            sliding_window=4096,
            architectures=["MistralModel"],
        ),
    ),
    "paligemma-3b": (
        "google/paligemma-3b-pt-224",
        seeing("paligemma", sized("gemma", 18, 2048, 8, 1, 16384, 257216, **TIED), **{**SIGLIP, "image_size": 224})
        | {"projection_dim": 2048},
    ),
    "paligemma2-10b": (
        "google/paligemma2-10b-pt-224",
        seeing("paligemma", sized("gemma2", 42, 3584, 16, 8, 14336, 257216, **TIED), **{**SIGLIP, "image_size": 224})
        | {"projection_dim": 3584},
    ),
    "llava-v1.6-mistral-7b": (
        "llava-hf/llava-v1.6-mistral-7b-hf",
        seeing(
            "llava_next",
            sized("mistral", 32, 4096, 32, 8, 14336, 32064, max_position_embeddings=32768, sliding_window=None),
            **CLIP,
        ),
    ),
    "idefics3-8b": (
        "HuggingFaceM4/Idefics3-8B-Llama3",
        seeing(
            "idefics3", sized("llama", 32, 4096, 32, 8, 14336, 128259, max_position_embeddings=131072), **IDEFICS, image_size=364
        )
        | {"scale_factor": 2},
    ),
    "smolvlm2-2.2b": (
        "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        seeing("smolvlm", sized("llama", 24, 2048, 32, 32, 8192, 49280, max_position_embeddings=8192), **IDEFICS, image_size=384)
        | {"scale_factor": 3},
    ),
    "seed-coder-8b": (
        "ByteDance-Seed/Seed-Coder-8B-Base",
        sized("llama", 32, 4096, 32, 8, 14336, 155136, max_position_embeddings=32768),
    ),
    "bitnet-b1.58-2b": (
        "microsoft/bitnet-b1.58-2B-4T",
        sized("bitnet", 30, 2560, 20, 5, 6912, 128256, hidden_act="relu2", max_position_embeddings=4096, **TIED),
    ),
    "command-r-08-2024": (
        "CohereLabs/c4ai-command-r-08-2024",
        sized("cohere", 40, 8192, 64, 8, 24576, 256000, max_position_embeddings=131072),
    ),
    "h2o-danube3-4b": (
        "h2oai/h2o-danube3-4b-base",
        sized("llama", 24, 3840, 32, 8, 10240, 32000, head_dim=120, max_position_embeddings=8192),
    ),
    "open-llama-3b": (
        "openlm-research/open_llama_3b",
        sized("llama", 26, 3200, 32, 32, 8640, 32000, max_position_embeddings=2048),
    ),
    "deepseek-r1-distill-qwen-1.5b": (
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
        sized("qwen2", 28, 1536, 12, 2, 8960, 151936, max_position_embeddings=131072, **UNTIED),
    ),
    "llama-guard-4-12b": (
        "meta-llama/Llama-Guard-4-12B",
        {
            "model_type": "llama4",
            "text_config": {
                **sized("llama4_text", 48, 5120, 40, 8, 8192, 202048, head_dim=128, intermediate_size_mlp=8192, **UNTIED),
                "moe_layers": [],
                "num_local_experts": 0,
                "num_experts_per_tok": 0,
                "max_position_embeddings": 131072,
            },
            "vision_config": {
                "hidden_size": 1408,
                "intermediate_size": 5632,
                "num_hidden_layers": 34,
                "num_attention_heads": 16,
                "image_size": 336,
                "patch_size": 14,
                "projector_input_dim": 4096,
                "projector_output_dim": 4096,
                "vision_output_dim": 4096,
            },
        },
    ),
    **{
        name: (hub, {**encoder("bert", layers, 64 * heads, heads, words, 512, 2), "architectures": ["BertModel"]})
        for name, hub, layers, heads, words in (
            ("bert-base-cased", "google-bert/bert-base-cased", 12, 12, 28996),
            ("bert-large-cased", "google-bert/bert-large-cased", 24, 16, 28996),
            ("bert-base-multilingual-cased", "google-bert/bert-base-multilingual-cased", 12, 12, 119547),
            ("bert-base-chinese", "google-bert/bert-base-chinese", 12, 12, 21128),
        )
    },
}
"""Name in the catalog -> (repository on the Hub, what its config.json says)."""

CONTEXTS = {
    "llama-7b": 2048, "llama-13b": 2048, "llama-30b": 2048, "llama-3.3-70b": 131072, "codellama-7b": 16384,
    "codellama-13b": 16384, "codellama-70b": 16384, "llama-4-scout": 10485760, "llama-4-maverick": 1048576,
    "mistral-nemo-12b": 131072, "mistral-small-22b": 32768, "mistral-small-24b": 32768, "mistral-large-123b": 131072,
    "codestral-22b": 32768, "mistral-7b-v0.3": 32768, "devstral-2-123b": 262144, "qwen1.5-0.5b": 32768, "qwen1.5-1.8b": 32768,
    "qwen1.5-4b": 32768, "qwen1.5-7b": 32768, "qwen1.5-14b": 32768, "qwen1.5-32b": 32768, "qwen1.5-72b": 32768,
    "qwen1.5-110b": 32768, "qwq-32b": 131072, "qwen3-coder-480b-a35b": 262144, "qwen3-next-80b-a3b": 262144,
    "qwen3.5-27b": 262144, "qwen3.5-35b-a3b": 262144, "qwen3.6-27b": 262144, "qwen3.6-35b-a3b": 262144,
    "qwen3.5-122b-a10b": 262144, "qwen3.5-397b-a17b": 262144, "qwen3-vl-2b": 262144, "qwen3-vl-4b": 262144,
    "qwen3-vl-8b": 262144, "qwen3-vl-32b": 262144, "qwen3-vl-30b-a3b": 262144, "qwen2.5-vl-7b": 128000, "gemma-2-27b": 8192,
    "gemma-3-1b": 32768, "gemma-3-4b": 131072, "gemma-3-12b": 131072, "gemma-3-27b": 131072, "phi-3-medium": 4096,
    "phi-3.5-moe": 131072, "phi-4": 16384, "phi-4-mini": 131072, "deepseek-llm-7b": 4096, "deepseek-llm-67b": 4096,
    "deepseek-coder-1.3b": 16384, "deepseek-coder-6.7b": 16384, "deepseek-r1": 163840, "deepseek-v3.2": 163840,
    "deepseek-v4-flash": 1048576, "deepseek-v4-pro": 1048576, "kimi-k2": 131072, "moonlight-16b-a3b": 8192,
    "glm-4-9b-0414": 32768, "glm-4-32b-0414": 32768, "glm-4.5-air": 131072, "glm-4.5": 131072, "glm-5": 202752,
    "minimax-m2": 196608, "yi-9b": 4096, "internlm3-8b": 32768, "ernie-4.5-0.3b": 131072, "ernie-4.5-21b-a3b": 131072,
    "seed-oss-36b": 524288, "minicpm3-4b": 32768, "olmo-1b": 2048, "olmo-7b": 2048, "olmo-2-1b": 4096, "olmo-2-7b": 4096,
    "olmo-2-13b": 4096, "olmo-2-32b": 4096, "smollm2-135m": 8192, "smollm2-360m": 8192, "smollm2-1.7b": 8192,
    "granite-3.3-2b": 131072, "granite-3.3-8b": 131072, "falcon3-1b": 4096, "falcon3-3b": 32768, "falcon3-7b": 32768,
    "falcon3-10b": 32768, "nemotron-3-nano-30b-a3b": 262144, "nemotron-3-super-120b-a12b": 262144, "lfm2-1.2b": 128000,
    "exaone-4.0-32b": 131072, "aya-23-8b": 8192, "starcoder2-3b": 16384, "starcoder2-7b": 16384, "starcoder2-15b": 16384,
    "stablelm-2-1.6b": 4096, "stablelm-3b-4e1t": 4096, "gpt-j-6b": 2048, "modernbert-base": 8192, "modernbert-large": 8192,
    "falcon-11b": 8192, "nemotron-4-15b": 4096, "nemotron-4-340b": 4096, "codeqwen1.5-7b": 65536, "granite-3.1-8b": 131072,
    "ernie-4.5-300b-a47b": 131072, "qwen2-vl-2b": 32768, "qwen2-vl-7b": 32768, "qwen2-vl-72b": 32768, "qwen2.5-vl-3b": 128000,
    "qwen2.5-vl-32b": 128000, "qwen2.5-vl-72b": 128000, "llava-1.5-7b": 4096, "llava-1.5-13b": 4096, "ministral-3-3b": 262144,
    "lfm2-700m": 128000, "glm-4.7-flash": 202752, "qwen3.5-0.8b": 262144, "qwen3.5-9b": 262144, "qwen3.5-4b": 262144,
    "mimo-7b": 32768,
}  # fmt: skip
"""max_position_embeddings of the same files: of Llama 4 of its Instruct releases, of Mistral Large of its card; Nemotron-4 of its
papers, whose sequences are that long."""
for _name, _most in CONTEXTS.items():
    _config = RELEASED[_name][1]
    _config.get("text_config", _config)["max_position_embeddings"] = _most

# what the hub or the card of a model states of its weights: all that checks the sizes of one whose config.json was not opened
STATED: dict[str, float] = {
    "mt5-small": 300176768, "mt5-base": 582e6, "mt5-large": 1.23e9, "mt5-xl": 3.74e9, "mt5-xxl": 12.9e9, "byt5-small": 300e6,
    "byt5-base": 582e6, "byt5-large": 1.23e9, "byt5-xl": 3.74e9, "byt5-xxl": 12.9e9, "madlad400-3b": 2.94e9,
    "flan-t5-small": 76961152, "flan-t5-base": 247577856, "flan-t5-large": 783e6, "flan-t5-xl": 2.85e9, "flan-t5-xxl": 11.14e9,
    "whisper-tiny": 37.8e6, "whisper-base": 72.6e6, "whisper-medium": 764e6, "whisper-large-v2": 1.543e9,
    "distil-large-v3": 756e6, "nllb-200-1.3b": 1.37e9, "m2m100-1.2b": 1.239e9, "bart-large-cnn": 406e6, "flan-ul2": 19.59e9,
    "granite-code-8b": 8.05e9, "granite-code-20b": 20.07e9, "starcoderbase-1b": 1.137e9, "starcoderbase-3b": 3.04e9,
    "starcoderbase-7b": 7.33e9, "codegen-350m": 357e6, "codegen-16b": 16.03e9, "granite-4.0-h-tiny": 6.94e9,
    "nemotron-nano-9b-v2": 8.89e9, "nemotron-nano-12b-v2": 12.31e9, "kimi-linear-48b-a3b": 49.12e9,
    "ministral-3-14b": 13.95e9, "pixtral-12b": 12.68e9, "rwkv-4-169m": 169342464, "rwkv-4-430m": 430397440,
    "rwkv-4-1b5": 1515106304, "rwkv-4-3b": 2984627200, "rwkv-4-7b": 7392649216, "rwkv-4-14b": 14148597760,
    "mamba2-130m": 129e6, "mamba2-370m": 368e6, "mamba2-780m": 780e6, "mamba2-1.3b": 1.344e9, "mamba2-2.7b": 2.703e9,
    "xglm-7.5b": 7.49e9, "polyglot-ko-12.8b": 12898631680, "persimmon-8b": 9.4e9, "esm2-650m": 651e6, "esm2-3b": 2.84e9,
    "esm2-15b": 15.1e9, "distilroberta-base": 82e6, "camembert-base": 111e6, "all-mpnet-base-v2": 109e6,
    "deberta-base": 139e6, "embeddinggemma-300m": 303e6, "e5-mistral-7b": 7.11e9, "paligemma-3b": 2.92e9,
    "paligemma2-10b": 9.66e9, "llava-v1.6-mistral-7b": 7.57e9, "idefics3-8b": 8.46e9, "smolvlm2-2.2b": 2.25e9,
    "seed-coder-8b": 8.25e9, "bitnet-b1.58-2b": 2.41e9, "command-r-08-2024": 32.3e9, "h2o-danube3-4b": 3.96e9,
    "open-llama-3b": 3.43e9, "llama-guard-4-12b": 12.0e9, "baichuan-7b": 7000559616, "baichuan-13b": 13264901120,
    "exaone-3.5-2.4b": 2.405e9, "exaone-3.5-7.8b": 7.82e9, "exaone-3.5-32b": 32.0e9, "internvl3-8b": 7.94e9,
    "ling-lite": 16.8e9, "minicpm4-8b": 8.19e9, "nomic-embed-text-v1.5": 137e6, "orion-14b": 14.5e9,
    "openpangu-embedded-7b": 8.03e9,
}  # fmt: skip

# max_position_embeddings of files above that were first written without it
CONTEXTS: dict[str, int] = {
    "apertus-8b": 65536, "apertus-70b": 65536, "minitron-8b": 4096, "trinity-mini": 131072, "olmo-3-7b": 65536,
    "olmo-3-32b": 65536, "minitron-4b": 4096, "trinity-nano": 131072, "jamba-1.5-mini": 262144, "jamba-1.5-large": 262144,
    "smollm3-3b": 65536, "exaone-4.0-1.2b": 65536, "gemma-3-270m": 32768, "dots.llm1": 32768, "eurollm-1.7b": 4096,
    "eurollm-9b": 4096, "falcon-h1-0.5b": 16384, "falcon-h1-7b": 262144, "falcon-h1-34b": 262144,
    "granite-3.1-1b-a400m": 131072, "granite-4.0-h-small": 131072, "granite-4.0-h-micro": 131072, "helium-1-2b": 4096,
    "minimax-m1": 10240000, "ministral-3-8b": 262144, "ministral-8b": 32768, "mistral-small-3.1-24b": 131072,
    "nllb-200-3.3b": 1024, "nllb-200-distilled-600m": 1024, "qwen2-0.5b": 131072, "qwen2-1.5b": 131072, "solar-10.7b": 4096,
    "solar-open-100b": 131072, "stablelm-2-12b": 4096, "lfm2-350m": 128000, "afm-4.5b": 65536, "aquila2-7b": 8192,
    "aquila2-34b": 8192,
}  # fmt: skip
for _name, _tokens in CONTEXTS.items():
    RELEASED[_name][1].get("text_config", RELEASED[_name][1])["max_position_embeddings"] = _tokens
