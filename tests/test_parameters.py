"""Parameters of the catalog: equal to transformers' models on the meta device, and to published figures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BertForMaskedLM, BertModel

from planner.models import load_model, model_names
from planner.parameters import parameters_active, parameters_total


def sizes(layers: int, hidden: int, heads: int, kv: int, inner: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    return {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": kv,
            "intermediate_size": inner, "vocab_size": vocabulary, "tie_word_embeddings": False, **more}  # fmt: skip


def deepseek(layers: int, hidden: int, heads: int, inner: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    return {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": heads,
            "intermediate_size": inner, "vocab_size": vocabulary, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64, "v_head_dim": 128, **more}  # fmt: skip


def gpt2(layers: int, hidden: int, heads: int) -> dict[str, Any]:
    return {"n_layer": layers, "n_embd": hidden, "n_head": heads}


def megatron(layers: int, hidden: int, heads: int, vocabulary: int = 51200, positions: int = 2048) -> dict[str, Any]:
    """Megatron's and MPT's learned-position GPT has GPT-2's blocks."""
    return {"n_layer": layers, "n_embd": hidden, "n_head": heads, "vocab_size": vocabulary, "n_positions": positions}


# fields of the published config.json files, written in transformers' names, not derived from our catalog
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-2-7b": ("llama", sizes(32, 4096, 32, 32, 11008, 32000)),
    "llama-2-13b": ("llama", sizes(40, 5120, 40, 40, 13824, 32000)),
    "llama-2-70b": ("llama", sizes(80, 8192, 64, 8, 28672, 32000)),
    "llama-3-8b": ("llama", sizes(32, 4096, 32, 8, 14336, 128256)),
    "llama-3-70b": ("llama", sizes(80, 8192, 64, 8, 28672, 128256)),
    "llama-3.1-8b": ("llama", sizes(32, 4096, 32, 8, 14336, 128256)),
    "llama-3.1-70b": ("llama", sizes(80, 8192, 64, 8, 28672, 128256)),
    "llama-3.1-405b": ("llama", sizes(126, 16384, 128, 8, 53248, 128256)),
    "llama-3.2-1b": ("llama", sizes(16, 2048, 32, 8, 8192, 128256, head_dim=64) | {"tie_word_embeddings": True}),
    "llama-3.2-3b": ("llama", sizes(28, 3072, 24, 8, 8192, 128256, head_dim=128) | {"tie_word_embeddings": True}),
    "dense-33b": ("llama", sizes(60, 6656, 52, 52, 17920, 32000)),
    "dense-13b": ("llama", sizes(40, 5120, 40, 40, 13824, 32000)),
    "mistral-7b": ("mistral", sizes(32, 4096, 32, 8, 14336, 32000)),
    "mixtral-8x7b": ("mixtral", sizes(32, 4096, 32, 8, 14336, 32000, num_local_experts=8)),
    "mixtral-8x22b": ("mixtral", sizes(56, 6144, 48, 8, 16384, 32000, num_local_experts=8)),
    "qwen-7b": ("qwen2", sizes(32, 4096, 32, 32, 11008, 151936)),
    "qwen2.5-7b": ("qwen2", sizes(28, 3584, 28, 4, 18944, 152064)),
    "qwen1.5-moe-a2.7b": ("qwen2_moe", sizes(24, 2048, 16, 16, 5632, 151936, num_experts=60, num_experts_per_tok=4, moe_intermediate_size=1408, shared_expert_intermediate_size=5632)),
    "qwen2-57b-a14b": ("qwen2_moe", sizes(28, 3584, 28, 4, 18944, 151936, num_experts=64, num_experts_per_tok=8, moe_intermediate_size=2560, shared_expert_intermediate_size=20480)),
    "qwen3-8b": ("qwen3", sizes(36, 4096, 32, 8, 12288, 151936, head_dim=128)),
    "qwen3-30b-a3b": ("qwen3_moe", sizes(48, 2048, 32, 4, 6144, 151936, head_dim=128, num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768)),
    "qwen3-235b-a22b": ("qwen3_moe", sizes(94, 4096, 64, 4, 12288, 151936, head_dim=128, num_experts=128, num_experts_per_tok=8, moe_intermediate_size=1536)),
    "gpt-oss-20b": ("gpt_oss", sizes(24, 2880, 64, 8, 2880, 201088, head_dim=64, num_local_experts=32)),
    "gpt-oss-120b": ("gpt_oss", sizes(36, 2880, 64, 8, 2880, 201088, head_dim=64, num_local_experts=128)),
    "deepseek-v2": ("deepseek_v2", deepseek(60, 5120, 128, 12288, 102400, n_routed_experts=160, n_shared_experts=2, num_experts_per_tok=6, moe_intermediate_size=1536, first_k_dense_replace=1, q_lora_rank=1536)),
    "deepseek-v2-lite": ("deepseek_v2", deepseek(27, 2048, 16, 10944, 102400, n_routed_experts=64, n_shared_experts=2, num_experts_per_tok=6, moe_intermediate_size=1408, first_k_dense_replace=1, q_lora_rank=None)),
    "deepseek-v3": ("deepseek_v3", deepseek(61, 7168, 128, 18432, 129280, n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8, moe_intermediate_size=2048, first_k_dense_replace=3, q_lora_rank=1536)),
    "olmoe-1b-7b": ("olmoe", sizes(16, 2048, 16, 16, 1024, 50304, num_experts=64, num_experts_per_tok=8)),
    "gemma-2-9b": ("gemma2", sizes(42, 3584, 16, 8, 14336, 256000, head_dim=256) | {"tie_word_embeddings": True}),
    "phi-3-mini": ("phi3", sizes(32, 3072, 32, 32, 8192, 32064, pad_token_id=32000)),
    "gpt2": ("gpt2", gpt2(12, 768, 12)),
    "gpt2-medium": ("gpt2", gpt2(24, 1024, 16)),
    "gpt2-large": ("gpt2", gpt2(36, 1280, 20)),
    "gpt2-xl": ("gpt2", gpt2(48, 1600, 25)),
    "gpt3-175b": ("gpt2", megatron(96, 12288, 96)),
    "megatron-22b": ("gpt2", megatron(48, 6144, 64)),
    "megatron-530b": ("gpt2", megatron(105, 20480, 128)),
    "megatron-1t": ("gpt2", megatron(128, 25600, 160)),
    "mpt-125m": ("gpt2", megatron(12, 768, 12, 50368)),
    "mpt-1b": ("gpt2", megatron(24, 2048, 16, 50368)),
    "mpt-7b": ("gpt2", megatron(32, 4096, 32, 50368)),
    "mpt-30b": ("gpt2", megatron(48, 7168, 56, 50368)),
    "mpt-70b": ("gpt2", megatron(80, 8192, 64, 50368)),
    "mpt-7b-alibi": ("mpt", {"n_layers": 32, "d_model": 4096, "n_heads": 32, "vocab_size": 50432}),
    "gpt-neox-20b": ("gpt_neox", {"num_hidden_layers": 44, "hidden_size": 6144, "num_attention_heads": 64, "intermediate_size": 24576, "vocab_size": 50432}),
    "opt-1.3b": ("opt", {"num_hidden_layers": 24, "hidden_size": 2048, "num_attention_heads": 32, "ffn_dim": 8192, "word_embed_proj_dim": 2048}),
    "opt-30b": ("opt", {"num_hidden_layers": 48, "hidden_size": 7168, "num_attention_heads": 56, "ffn_dim": 28672, "word_embed_proj_dim": 7168}),
    "falcon-7b": ("falcon", {"num_hidden_layers": 32, "hidden_size": 4544, "num_attention_heads": 71, "vocab_size": 65024}),
    "falcon-40b": ("falcon", {"num_hidden_layers": 60, "hidden_size": 8192, "num_attention_heads": 128, "num_kv_heads": 8, "vocab_size": 65024, "new_decoder_architecture": True}),
    "bert-base": ("bert", {}),
    "bert-base-mlm": ("bert", {}),
    "bert-large": ("bert", {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}),
    "litebert": ("bert", {"vocab_size": 8000, "num_hidden_layers": 6, "type_vocab_size": 1}),
}  # fmt: skip

# shapes of our own, or of models that transformers has no class for: tested by the importer, by hand, or by a published total
OTHERS = {
    "chatlaw2-moe-4x7b", "internlm-7b", "internlm2-7b", "llama4-style-moe-1.3b", "qwen-0.7b-student", "mpt-350m", "mpt-760m",
    "mpt-3b", "mpt-13b",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_parameters_equal_transformers_to_the_last_one(name: str) -> None:
    kind, fields = CONFIGS[name]
    config = AutoConfig.for_model(kind, **fields)
    with torch.device("meta"):
        if kind == "bert":
            built: torch.nn.Module = BertForMaskedLM(config) if name.endswith("mlm") else BertModel(config)
        else:
            built = AutoModelForCausalLM.from_config(config)
    assert parameters_total(load_model(name)) == sum(p.numel() for p in built.parameters())


def test_every_model_of_the_catalog_is_covered() -> None:
    assert set(model_names()) == set(CONFIGS) | OTHERS


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("llama-2-7b", 6_738_415_616),  # huggingface.co/meta-llama/Llama-2-7b-hf, safetensors index
        ("llama-3-8b", 8_030_261_248),  # huggingface.co/meta-llama/Meta-Llama-3-8B
        ("mixtral-8x7b", 46_702_792_704),  # huggingface.co/mistralai/Mixtral-8x7B-v0.1
        ("gpt2", 124_439_808),  # huggingface.co/openai-community/gpt2
        ("bert-base", 109_482_240),  # huggingface.co/google-bert/bert-base-uncased, BertModel
        ("mpt-70b", 64_862_437_376),  # mosaicml/llm-foundry scripts/train/benchmarking/README.md
        ("internlm2-7b", 7_737_708_544),  # huggingface.co/internlm/internlm2-7b
    ],
)
def test_published_totals(name: str, total: int) -> None:
    assert parameters_total(load_model(name)) == total


@pytest.mark.parametrize(
    ("name", "active"),
    [
        ("mixtral-8x7b", 12.9e9),  # Jiang et al. 2024, arXiv 2401.04088: 47B, 13B active
        ("qwen3-30b-a3b", 3.3e9),  # Qwen3 report, arXiv 2505.09388, table 2
        ("qwen3-235b-a22b", 22e9),
        ("deepseek-v3", 37e9),  # arXiv 2412.19437, abstract
        ("deepseek-v2", 21e9),  # arXiv 2405.04434, abstract
        ("qwen1.5-moe-a2.7b", 2.7e9),
        ("olmoe-1b-7b", 1.3e9),  # arXiv 2409.02060
    ],
)
def test_published_active_parameters(name: str, active: float) -> None:
    assert parameters_active(load_model(name)) == pytest.approx(active, rel=0.025)


def test_chatlaw_by_hand() -> None:
    # InternLM-7B: 32 layers of 4 (4096^2 + 4096) attention, 3 x 4096 x 11008 per expert, 4096 x 4 router, two norms
    layer = 4 * (4096 * 4096 + 4096) + 4 * 3 * 4096 * 11008 + 4096 * 4 + 2 * 4096
    assert parameters_total(load_model("chatlaw2-moe-4x7b")) == 32 * layer + 2 * 103168 * 4096 + 4096


def test_llama4_style_by_hand() -> None:
    layer = 4 * 1024 * 1024 + 9 * 3 * 1024 * 4096 + 1024 * 8 + 2 * 1024
    assert parameters_total(load_model("llama4-style-moe-1.3b")) == 24 * layer + 2 * 32000 * 1024 + 1024


@pytest.mark.parametrize("name", sorted(OTHERS | {"mixtral-8x7b", "deepseek-v3"}))
def test_active_parameters_are_all_of_a_dense_model_and_fewer_of_a_sparse_one(name: str) -> None:
    model = load_model(name)
    total, active = parameters_total(model), parameters_active(model)
    assert active == total if model.family != "moe" else active < total
    if model.family == "moe":
        everyone = model.replaced(top_k=model.num_experts)
        assert parameters_active(everyone) == total
