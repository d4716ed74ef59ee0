"""Every supported family of config.json makes a model with transformers' own parameter count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BertForMaskedLM, BertModel

from planner.errors import PlannerError
from planner.huggingface import FAMILIES, model_from_config
from planner.models import load_model
from planner.parameters import parameters_total

HERE = sorted(set(FAMILIES) - {"internlm", "internlm2"})  # transformers runs these two with remote code only


def count(config: Any, masked: bool = False) -> int:
    """Parameters of transformers' model, built without memory; tied weights once."""
    with torch.device("meta"):
        if config.model_type == "bert":
            built: torch.nn.Module = BertForMaskedLM(config) if masked else BertModel(config)
        else:
            built = AutoModelForCausalLM.from_config(config)
    return sum(p.numel() for p in built.parameters())


SMALL: dict[str, dict[str, Any]] = {
    "llama": {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 160, "vocab_size": 211, "attention_bias": True, "mlp_bias": True},
    "mistral": {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 160, "vocab_size": 211, "sliding_window": None},
    "mixtral": {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 160, "vocab_size": 211, "num_local_experts": 5},
    "qwen2": {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 160, "vocab_size": 211, "tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1},
    "qwen2_moe": {"num_hidden_layers": 5, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 160, "vocab_size": 211, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "shared_expert_intermediate_size": 64, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
    "qwen3": {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 40, "intermediate_size": 160, "vocab_size": 211},
    "qwen3_moe": {"num_hidden_layers": 4, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 40, "intermediate_size": 160, "vocab_size": 211, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "mlp_only_layers": [0]},
    "gpt_oss": {"num_hidden_layers": 4, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 80, "vocab_size": 211, "num_local_experts": 6},
    "deepseek_v2": {"num_hidden_layers": 4, "hidden_size": 96, "num_attention_heads": 6, "intermediate_size": 160, "vocab_size": 211, "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "first_k_dense_replace": 1, "q_lora_rank": None, "kv_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16},
    "deepseek_v3": {"num_hidden_layers": 4, "hidden_size": 96, "num_attention_heads": 6, "intermediate_size": 160, "vocab_size": 211, "n_routed_experts": 8, "moe_intermediate_size": 48, "first_k_dense_replace": 2, "q_lora_rank": 32, "kv_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "n_group": 1, "topk_group": 1},
    "gpt2": {"n_layer": 3, "n_embd": 96, "n_head": 6, "vocab_size": 211, "n_positions": 77, "n_inner": 200},
    "gpt_neox": {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "intermediate_size": 160, "vocab_size": 211},
    "mpt": {"n_layers": 3, "d_model": 96, "n_heads": 6, "vocab_size": 211},
    "opt": {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "ffn_dim": 160, "vocab_size": 211, "max_position_embeddings": 77, "word_embed_proj_dim": 64},
    "bert": {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "intermediate_size": 160, "vocab_size": 211, "type_vocab_size": 3},
    "gemma2": {"num_hidden_layers": 4, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 24, "intermediate_size": 160, "vocab_size": 211},
    "olmoe": {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": 211, "num_experts": 6, "num_experts_per_tok": 2},
    "phi3": {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 160, "vocab_size": 211, "pad_token_id": 0},
    "falcon": {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "vocab_size": 211, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True},
}  # fmt: skip


@pytest.mark.parametrize("kind", HERE)
def test_a_small_config_has_transformers_count(kind: str) -> None:
    fields = SMALL[kind]
    assert parameters_total(model_from_config({"model_type": kind, **fields}, kind, "test")) == count(
        AutoConfig.for_model(kind, **fields)
    )


@pytest.mark.parametrize("kind", sorted(set(HERE) - {"deepseek_v2"}))  # whose default leaves top-k open
def test_absent_fields_take_transformers_defaults(kind: str) -> None:
    assert parameters_total(model_from_config({"model_type": kind}, kind, "test")) == count(AutoConfig.for_model(kind))


@pytest.mark.parametrize("kind", HERE)
def test_a_whole_saved_config_is_understood(kind: str, tmp_path: Path) -> None:
    config = AutoConfig.for_model(kind, **SMALL[kind])
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    saved["model_type"] = kind
    full = {**config.to_dict(), **saved}
    for given in (saved, full):
        (tmp_path / "config.json").write_text(json.dumps(given))
        load_model.cache_clear()
        assert parameters_total(load_model(str(tmp_path / "config.json"))) == count(config)


def test_masked_language_model_head_is_counted() -> None:
    fields = {"model_type": "bert", "architectures": ["BertForMaskedLM"], **SMALL["bert"]}
    assert parameters_total(model_from_config(fields, "bert", "test")) == count(
        AutoConfig.for_model("bert", **SMALL["bert"]), masked=True
    )


def test_other_shapes_of_falcon_and_phi3_windows() -> None:
    for fields in ({"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 99, "multi_query": False, "alibi": True},
                   {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 99}):  # fmt: skip
        assert parameters_total(model_from_config({"model_type": "falcon", **fields}, "f", "t")) == count(
            AutoConfig.for_model("falcon", **fields)
        )
    assert model_from_config({"model_type": "phi3", "sliding_window": 2047}, "p", "t").sliding_window == 2047


def test_sliding_layers_follow_the_config() -> None:
    qwen = model_from_config({"model_type": "qwen2", **SMALL["qwen2"]}, "q", "t")
    assert [k.sliding for k in qwen.layer_kinds] == [False, True, True]
    gemma = model_from_config({"model_type": "gemma2", **SMALL["gemma2"]}, "g", "t")
    assert [k.sliding for k in gemma.layer_kinds] == [True, False, True, False]
    mistral = model_from_config({"model_type": "mistral", **SMALL["mistral"]}, "m", "t")
    assert not any(k.sliding for k in mistral.layer_kinds)


def test_internlm_blocks_are_llama_with_biases() -> None:
    # internlm/internlm-7b config.json; 7,321,948,160 parameters: LLaMA blocks with q, k, v, o biases
    model = model_from_config({"model_type": "internlm", "bias": True}, "internlm-7b", "t")
    assert parameters_total(model) == parameters_total(load_model("internlm-7b"))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model_type": "t5"}, "model_type = 't5'"),
        ({"model_type": "lama"}, "llama"),
        ({}, "model_type = None"),
        ({"model_type": "llama", "num_expertz": 8}, "num_expertz = 8"),
        ({"model_type": "llama", "sliding_window": 4096}, "sliding_window = 4096"),
        ({"model_type": "llama", "bias": True}, "bias = True"),
        ({"model_type": "llama", "quantization_config": {"bits": 4}}, "quantization_config"),
        ({"model_type": "llama", "hidden_size": "4096"}, "hidden_size = '4096'"),
        ({"model_type": "llama", "hidden_size": -4096}, "hidden_size = -4096"),
        ({"model_type": "llama", "num_hidden_layers": 0}, "num_layers = 0"),
        ({"model_type": "llama", "hidden_act": "mystery"}, "hidden_act = 'mystery'"),
        ({"model_type": "gpt_neox", "use_parallel_residual": False}, "use_parallel_residual = False"),
        ({"model_type": "opt", "do_layer_norm_before": False}, "do_layer_norm_before = False"),
        ({"model_type": "mpt", "attn_config": {"qk_ln": True}}, "attn_config.qk_ln = True"),
        ({"model_type": "falcon", "parallel_attn": False}, "parallel_attn = false"),
        ({"model_type": "bert", "is_encoder_decoder": True}, "is_encoder_decoder = True"),
        ({"model_type": "gemma2", "num_hidden_layers": 3, "layer_types": ["linear_attention"] * 3}, "linear_attention"),
    ],
)
def test_what_cannot_be_expressed_is_named(config: dict[str, Any], named: str) -> None:
    with pytest.raises(PlannerError) as caught:
        model_from_config(config, "x", "some/config.json")
    assert named in str(caught.value)
    assert "some/config.json" in str(caught.value)
