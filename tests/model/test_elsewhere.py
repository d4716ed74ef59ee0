"""Families that transformers has not, or cannot count as released: their published totals and active parameters.

Each configuration is what the released config.json says of the model's shape; totals are those of the authors' model cards and
papers, rounded as they print them.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from meta_modules import on_meta
from transformers import AutoConfig, AutoModelForCausalLM

from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.huggingface import model_from_config
from planner.model.parameters import parameters_active, parameters_total

Config = dict[str, Any]
LING: Config = {
    "architectures": ["BailingMoeV2ForCausalLM"], "model_type": "bailing_moe", "use_qk_norm": True, "use_qkv_bias": False,
    "use_rmsnorm": True, "use_bias": False, "num_experts": 256, "num_experts_per_tok": 8, "num_shared_experts": 1, "n_group": 8,
    "topk_group": 4, "vocab_size": 157184, "head_dim": 128, "tie_word_embeddings": False, "sliding_window": 4096,
    "use_sliding_window": False, "max_window_layers": 20, "moe_router_enable_expert_bias": True, "router_dtype": "fp32",
}  # fmt: skip
LING_MINI: Config = {
    **LING, "hidden_size": 2048, "intermediate_size": 5120, "moe_intermediate_size": 512, "num_hidden_layers": 20,
    "moe_shared_expert_intermediate_size": 512, "num_attention_heads": 16, "num_key_value_heads": 4, "first_k_dense_replace": 1,
}  # fmt: skip
LONGCAT: Config = {
    "architectures": ["LongcatFlashForCausalLM"], "model_type": "longcat_flash", "attention_bias": False,
    "attention_method": "MLA",
    "ffn_hidden_size": 12288, "hidden_size": 6144, "expert_ffn_hidden_size": 2048, "kv_lora_rank": 512, "q_lora_rank": 1536,
    "mla_scale_kv_lora": True, "mla_scale_q_lora": True, "moe_topk": 12, "n_routed_experts": 512, "num_attention_heads": 64,
    "num_layers": 28, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 131072,
    "zero_expert_num": 256, "zero_expert_type": "identity", "router_bias": False, "max_position_embeddings": 131072,
}  # fmt: skip
PUBLISHED: dict[str, tuple[Config, float, float]] = {
    "LongCat-Flash (arXiv 2509.01322: 560B, 27B in the mean)": (LONGCAT, 560, 27.5),
    "Ling-mini-2.0": ({**LING_MINI, "max_position_embeddings": 32768}, 16.3, 1.43),
    "Ling-1T": (
        {
            **LING, "hidden_size": 8192, "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 80,
            "num_attention_heads": 64, "num_key_value_heads": 8, "first_k_dense_replace": 4, "max_position_embeddings": 32768,
        },
        1000, 51,
    ),
    "Ling-flash-2.0 (arXiv 2510.22115, table 1: 103B, 6.1B)": (
        {
            **LING, "hidden_size": 4096, "intermediate_size": 9216, "moe_intermediate_size": 1024, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 4, "first_k_dense_replace": 1, "max_position_embeddings": 32768,
        },
        103, 6.1,
    ),
    "Hunyuan-Large (arXiv 2411.02265: 389B, 52B)": (
        {
            "architectures": ["HunYuanForCausalLM"], "model_type": "hunyuan", "hidden_size": 6400, "intermediate_size": 18304,
            "num_hidden_layers": 64, "num_attention_heads": 80, "num_key_value_heads": 8, "num_experts": 16, "moe_topk": 1,
            "num_shared_expert": 1, "use_cla": True, "cla_share_factor": 2, "use_qk_norm": True, "use_mixed_mlp_moe": True,
            "vocab_size": 129024, "tie_word_embeddings": True, "max_position_embeddings": 131072,
        },
        389, 52,
    ),
    "Ring-mini-linear-2.0 (arXiv 2510.19338)": (
        {
            **LING_MINI, "architectures": ["BailingMoeLinearV2ForCausalLM"], "model_type": "bailing_moe_linear",
            "layer_group_size": 5, "group_norm_size": 4, "linear_silu": False,
        },
        16.4, 1.6,
    ),
    "MiniMax-Text-01 (arXiv 2501.08313: 456B, 45.9B without the two tables of words)": (
        {
            "architectures": ["MiniMaxText01ForCausalLM"], "model_type": "minimax_text_01", "head_dim": 128, "hidden_size": 6144,
            "attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1] * 10, "intermediate_size": 9216, "num_attention_heads": 64,
            "num_hidden_layers": 80, "num_key_value_heads": 8, "num_local_experts": 32, "num_experts_per_tok": 2,
            "vocab_size": 200064, "layernorm_mlp_beta": 1.0, "layernorm_full_attention_beta": 1.0, "rotary_dim": 64,
            "shared_intermediate_size": 0, "postnorm": True, "tie_word_embeddings": False,
        },
        456, 45.9 + 2.46,
    ),
    "DBRX": (
        {
            "architectures": ["DbrxForCausalLM"], "model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40,
            "vocab_size": 100352, "max_seq_len": 32768, "attn_config": {"clip_qkv": 8, "kv_n_heads": 8},
            "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4}, "tie_word_embeddings": False,
        },
        132, 36,
    ),
    "Hunyuan-A13B (arXiv 2507.05201 and its card: 80B, 13B)": (
        {
            "architectures": ["HunYuanMoEV1ForCausalLM"], "model_type": "hunyuan_v1_moe", "hidden_size": 4096,
            "intermediate_size": 3072, "moe_intermediate_size": [3072] * 32, "moe_topk": [8] * 32, "num_shared_expert": [1] * 32,
            "num_experts": 64, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "attention_head_dim": 128, "use_cla": False, "cla_share_factor": 2, "use_qk_norm": True, "use_mixed_mlp_moe": True,
            "vocab_size": 128167, "tie_word_embeddings": True, "anyres_pooling_size": 2, "dense_list": [4096, 0],
        },
        80.4, 13,
    ),
    "Snowflake Arctic": (
        {
            "architectures": ["ArcticForCausalLM"], "model_type": "arctic", "hidden_size": 7168, "intermediate_size": 4864,
            "num_attention_heads": 56, "num_experts_per_tok": 2, "num_hidden_layers": 35, "num_key_value_heads": 8,
            "num_local_experts": 128, "parallel_attn_mlp_res": True, "use_residual": True, "moe_layer_frequency": 1,
            "vocab_size": 32000, "hidden_act": "silu", "tie_word_embeddings": False,
        },
        480, 17,
    ),
    "Grok-1 (314B)": (
        {
            "architectures": ["Grok1ModelForCausalLM"], "model_type": "grok-1", "hidden_size": 6144, "intermediate_size": 32768,
            "num_hidden_layers": 64, "num_attention_heads": 48, "num_key_value_heads": 8, "num_experts": 8, "vocab_size": 131072,
            "num_experts_per_tok": 2, "tie_word_embeddings": True, "max_attn_value": 30.0,
        },
        314, 85,
    ),
    "Grok 2 (270B, 115B)": (
        {
            "architectures": ["Grok1ForCausalLM"], "model_type": "git", "hidden_size": 8192, "intermediate_size": 32768,
            "moe_intermediate_size": 16384, "residual_moe": True, "num_hidden_layers": 64, "num_attention_heads": 64,
            "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "head_dim": 128, "vocab_size": 131072,
            "sliding_window_size": -1, "global_attn_every_n": 1, "max_position_embeddings": 131072,
        },
        270, 115,
    ),
    "Step-3 (arXiv 2507.19427: 316B language model, 38B active)": (
        {
            "architectures": ["Step3TextForCausalLM"], "model_type": "step3_text", "hidden_size": 7168,
            "intermediate_size": 18432,
            "num_hidden_layers": 61, "vocab_size": 128815, "num_attention_heads": 64, "num_attention_groups": 1, "head_dim": 256,
            "att_impl_type": "MFA", "share_q_dim": 2048, "moe_layers_enum": ",".join(str(i) for i in range(4, 60)),
            "use_moe": True, "moe_intermediate_size": 5120, "moe_num_experts": 48, "moe_top_k": 3, "share_expert_dim": 5120,
            "max_position_embeddings": 65536,
        },
        316, 38.5,
    ),
    "SmallThinker-21B-A3B": (
        {
            "architectures": ["SmallThinkerForCausalLM"], "model_type": "smallthinker", "head_dim": 128, "hidden_size": 2560,
            "moe_ffn_hidden_size": 768, "moe_num_primary_experts": 64, "moe_num_active_primary_experts": 6, "vocab_size": 151936,
            "moe_layer_layout": [1] * 52, "num_attention_heads": 28, "num_key_value_heads": 4, "num_hidden_layers": 52,
            "rope_layout": [0, 1, 1, 1] * 13, "sliding_window_layout": [0, 1, 1, 1] * 13, "sliding_window_size": 4096,
            "moe_enable_early_router": True, "tie_word_embeddings": False,
        },
        21.5, 3.7,
    ),
    "InternVL3.5-8B (8.5B with its encoder)": (
        {
            "architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "downsample_ratio": 0.5,
            "force_image_size": 448,
            "llm_config": {
                "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 4096, "intermediate_size": 12288,
                "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 36, "head_dim": 128,
                "vocab_size": 151936,
                "tie_word_embeddings": False, "max_position_embeddings": 40960,
            },
            "vision_config": {
                "model_type": "intern_vit_6b", "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
                "num_hidden_layers": 24, "image_size": 448, "patch_size": 14, "qkv_bias": True, "qk_normalization": False,
                "norm_type": "layer_norm", "num_channels": 3,
            },
        },
        8.5, 8.5,
    ),
}  # fmt: skip


def read(config: Config) -> Model:
    return model_from_config(config, "model", "config.json")


@pytest.mark.parametrize("name", PUBLISHED)
def test_totals_are_the_published_ones(name: str) -> None:
    config, total, active = PUBLISHED[name]
    model = read(config)
    assert parameters_total(model) / 1e9 == pytest.approx(total, rel=0.008)
    assert parameters_active(model) / 1e9 == pytest.approx(active, rel=0.025)


CATALOGUED = {
    "longcat-flash": ("meituan-longcat/LongCat-Flash-Chat", "LongCat-Flash (arXiv 2509.01322: 560B, 27B in the mean)"),
    "ling-mini-2.0": ("inclusionAI/Ling-mini-2.0", "Ling-mini-2.0"),
    "ling-flash-2.0": ("inclusionAI/Ling-flash-2.0", "Ling-flash-2.0 (arXiv 2510.22115, table 1: 103B, 6.1B)"),
    "ling-1t": ("inclusionAI/Ling-1T", "Ling-1T"),
    "ring-mini-linear-2.0": ("inclusionAI/Ring-mini-linear-2.0", "Ring-mini-linear-2.0 (arXiv 2510.19338)"),
    "hunyuan-large": ("tencent/Tencent-Hunyuan-Large", "Hunyuan-Large (arXiv 2411.02265: 389B, 52B)"),
    "grok-2": ("xai-org/grok-2", "Grok 2 (270B, 115B)"),
    "step-3": ("stepfun-ai/step3", "Step-3 (arXiv 2507.19427: 316B language model, 38B active)"),
    "smallthinker-21b-a3b": ("PowerInfer/SmallThinker-21BA3B-Instruct", "SmallThinker-21B-A3B"),
    "internvl3.5-8b": ("OpenGVLab/InternVL3_5-8B", "InternVL3.5-8B (8.5B with its encoder)"),
}
"""Name in the catalog -> (repository on the Hub, whose counts these are)."""


@pytest.mark.parametrize("name", CATALOGUED)
def test_the_catalog_says_what_these_files_say(name: str) -> None:
    hub, published = CATALOGUED[name]
    ours, theirs = load_model(name), read(PUBLISHED[published][0])
    aside = {"name", "source", "provenance"}
    assert ours.model_dump(exclude=aside) == theirs.model_dump(exclude=aside)
    assert hub in ours.source


def test_models_of_papers_have_the_parameters_that_their_papers_state() -> None:
    # GLM-130B: arXiv 2210.02414; Gopher: arXiv 2112.11446, table 1; Chinchilla: arXiv 2203.15556, table 4
    published = {"glm-130b": 130, "gopher-280b": 280, "chinchilla-70b": 70}
    for name, total in published.items():
        assert float(f"{parameters_total(load_model(name)) / 1e9:.2g}") == total  # as their names round it
    # by hand: 70 layers of 12,288 with 4 matrices of attention and 3 of a gated feed-forward of 32,768; 150,528 words
    glm = 70 * (4 * 12_288**2 + 3 * 12_288 * 32_768) + 150_528 * 12_288
    assert parameters_total(load_model("glm-130b")) == pytest.approx(glm, rel=0.001)


BUILT: list[Config] = [
    {**LONGCAT, "num_layers": 2, "n_routed_experts": 16, "zero_expert_num": 0},
    {
        "model_type": "nemotron", "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 100, "hidden_act": "relu2", "head_dim": 16,
    },
    {
        "model_type": "lfm2_moe", "hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_dense_layers": 1, "num_experts": 4, "num_experts_per_tok": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 100, "layer_types": ["conv", "conv", "full_attention", "conv"], "conv_L_cache": 3,
        "tie_word_embeddings": True,
    },
    {
        "model_type": "hunyuan_v1_moe", "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 2, "num_experts": 4,
        "moe_topk": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100,
    },
    {
        "model_type": "laguna", "hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 32, "num_hidden_layers": 3,
        "shared_expert_intermediate_size": 48, "num_experts": 4, "num_experts_per_tok": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100, "num_attention_heads_per_layer": [4, 6, 6],
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"], "sliding_window": 32,
    },
]  # fmt: skip


@pytest.mark.parametrize("config", BUILT, ids=lambda c: str(c["model_type"]))
def test_transformers_builds_as_many_parameters(config: Config) -> None:
    own = {k: v for k, v in config.items() if k not in ("model_type", "architectures")}
    with on_meta():
        settings = AutoConfig.for_model(config["model_type"], **own)
        made = AutoModelForCausalLM.from_config(settings)
    saved = {**json.loads(json.dumps(settings.to_dict(), default=str)), "model_type": config["model_type"]}
    expected = sum(weight.numel() for weight in made.parameters())
    assert parameters_total(read(config)) == expected
    assert parameters_total(read({**saved, "architectures": [type(made).__name__]})) == expected


SMALL: Config = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 100, "head_dim": 16, "tie_word_embeddings": False,
}  # fmt: skip
LATENT: Config = {"kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": None}
MAMBA: Config = {
    "mamba_d_state": 16, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_conv": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "sizes", "said"),
    [
        ("jamba", {"num_experts": 2, "num_experts_per_tok": 1}, {"mamba_inner_layernorms": True, "n_ctx": 4096}),
        ("granitemoehybrid", {**MAMBA, "shared_intermediate_size": 128}, {"normalization_function": "rmsnorm"}),
        ("falcon_h1", {**MAMBA, "mamba_d_ssm": 128}, {"mlp_expansion_factor": 8, "mamba_use_mlp": True}),
        ("hunyuan_v1_dense", {}, {"cla_share_factor": 2, "use_cla": False, "num_experts": 1, "dense_list": [64, 0]}),
        ("smollm3", {}, {"max_window_layers": 28, "no_rope_layer_interval": 4}),
        ("deepseek_v2", LATENT, {"use_mla": True, "lm_head": True, "rm_head": False}),
    ],
)
def test_keys_of_released_files_that_change_nothing_change_nothing(kind: str, sizes: Config, said: Config) -> None:
    plain = {"model_type": kind, **SMALL, **sizes}
    assert parameters_total(read({**plain, **said})) == parameters_total(read(plain))


def test_longcat_caches_two_latents_a_layer_and_reaches_two_thirds_of_its_choices() -> None:
    """Two attentions a layer, 576 elements of cache each; of 12 choices 8 compute in the mean (512 of 768)."""
    model = read(LONGCAT)
    assert model.num_layers == 56
    assert all(model.of(kind).attends for kind in model.layer_kinds)
    assert [kind.moe for kind in model.layer_kinds] == [True, False] * 28
    assert model.inside_experts.top_k == pytest.approx(8.0)


def test_a_fifth_of_ring_linears_layers_attends_and_the_others_keep_a_state() -> None:
    model = read(PUBLISHED["Ring-mini-linear-2.0 (arXiv 2510.19338)"][0])
    assert [model.of(kind).attends for kind in model.layer_kinds] == ([False] * 4 + [True]) * 4


@pytest.mark.parametrize("key", ["llm_config", "language_config", "text_config"])
def test_the_text_is_found_under_each_of_its_names(key: str) -> None:
    text = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "vocab_size": 100, "tie_word_embeddings": False,
    }  # fmt: skip
    outer = {"model_type": "unheard_of_vl", "architectures": ["UnheardOfModel"], "vision_config": {"layers": 2}, key: text}
    model = read(outer)
    assert parameters_total(model) == parameters_total(read(text))
    assert "left out" in model.reading_notes[0]
