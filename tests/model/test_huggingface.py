"""Every supported family of config.json makes a model with transformers' own parameter count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_configs import PUBLISHED, transformers_count
from transformers import AutoConfig

from planner.common.errors import PlannerError
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.huggingface import FAMILIES, model_from_config
from planner.model.parameters import parameters_total

HERE = sorted(set(FAMILIES) - {"internlm", "internlm2"})  # transformers runs these two with remote code only
TINY = {
    "num_hidden_layers": 4, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 160,
    "vocab_size": 211, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
PLAIN = {k: v for k, v in TINY.items() if k != "num_key_value_heads"}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
LATENT = {
    **PLAIN, "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "first_k_dense_replace": 1,
    "kv_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "llama": {**TINY, "attention_bias": True, "mlp_bias": True},
    "mistral": {**TINY, "head_dim": 32, "sliding_window": None},
    "mixtral": {**TINY, "num_local_experts": 5},
    "qwen2": {**TINY, "tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1},
    "qwen2_moe": {**TINY, **EXPERTS, "shared_expert_intermediate_size": 64, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
    "qwen3": {**TINY, "head_dim": 40},
    "qwen3_moe": {**TINY, **EXPERTS, "head_dim": 40, "mlp_only_layers": [0]},
    "gpt_oss": {**TINY, "head_dim": 16, "intermediate_size": 80, "num_local_experts": 6},
    "deepseek_v2": {**LATENT, "q_lora_rank": None},
    "deepseek_v3": {**LATENT, "q_lora_rank": 32, "n_group": 1, "topk_group": 1},
    "gpt2": {
        "n_layer": 3, "n_embd": 96, "n_head": 6, "vocab_size": 211, "n_positions": 77, "n_inner": 200, "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "gpt_neox": PLAIN,
    "mpt": {"n_layers": 3, "d_model": 96, "n_heads": 6, "vocab_size": 211},
    "bloom": {"n_layer": 3, "hidden_size": 96, "n_head": 6, "vocab_size": 211},
    "opt": {
        "num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "ffn_dim": 160, "vocab_size": 211,
        "max_position_embeddings": 77, "word_embed_proj_dim": 64, "pad_token_id": 0,
    },
    "bert": {**PLAIN, "type_vocab_size": 3},
    "gemma2": {**TINY, "head_dim": 24},
    "olmoe": {**TINY, "num_experts": 6, "num_experts_per_tok": 2},
    "phi3": TINY,
    "falcon": {
        "num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 6, "vocab_size": 211, "new_decoder_architecture": True,
        "num_kv_heads": 2, "bias": True, "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip
# one step away from SMALL: everything that a family reads
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"num_key_value_heads": None}),
    ("llama", {"head_dim": None}),
    ("llama", {"head_dim": 48, "tie_word_embeddings": True}),
    ("mistral", {"sliding_window": 64, "head_dim": None}),
    ("mixtral", {"sliding_window": 64}),
    ("qwen2", {"use_sliding_window": False}),
    ("qwen2", {"layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]}),
    ("qwen2", {"sliding_window": None}),
    ("qwen2_moe", {"num_experts": 0}),
    ("qwen2_moe", {"qkv_bias": False, "mlp_only_layers": None}),
    ("qwen2_moe", {"mlp_only_layers": [0, 1, 2, 3]}),
    ("qwen2_moe", {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 3}),
    ("qwen3", {"attention_bias": True, "use_sliding_window": True, "sliding_window": 32, "max_window_layers": 2}),
    ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 2}),
    ("qwen3_moe", {"num_experts": 0}),
    ("qwen3_moe", {"decoder_sparse_step": 2, "mlp_only_layers": []}),
    ("gpt_oss", {"attention_bias": False}),
    ("gpt_oss", {"layer_types": ["full_attention"] * 4}),
    ("deepseek_v2", {"attention_bias": True, "q_lora_rank": 16}),
    ("deepseek_v2", {"first_k_dense_replace": 4}),
    ("deepseek_v3", {"attention_bias": True, "q_lora_rank": None, "num_nextn_predict_layers": 1}),
    ("gpt2", {"n_inner": None, "tie_word_embeddings": False}),
    ("gpt_neox", {"attention_bias": False, "tie_word_embeddings": True, "use_parallel_residual": False}),
    ("mpt", {"attn_config": None, "learned_pos_emb": False}),
    ("opt", {"word_embed_proj_dim": None, "enable_bias": False}),
    ("opt", {"_remove_final_layer_norm": True}),
    ("opt", {"do_layer_norm_before": False}),  # opt-350m
    ("bert", {"architectures": ["BertForMaskedLM"]}),
    ("bert", {"architectures": ["BertForPreTraining"]}),
    ("bert", {"architectures": ["BertForSequenceClassification"], "id2label": {0: "a", 1: "b", 2: "c"}}),
    ("bert", {"architectures": ["BertForQuestionAnswering"]}),
    ("gemma2", {"attention_bias": True}),
    ("gemma2", {"layer_types": ["full_attention", "full_attention", "sliding_attention", "full_attention"]}),
    ("gemma2", {"sliding_window": None}),
    ("olmoe", {"attention_bias": True, "num_key_value_heads": None}),
    ("phi3", {"sliding_window": 20, "num_key_value_heads": None, "tie_word_embeddings": True}),
    ("falcon", {"num_kv_heads": None, "num_ln_in_parallel_attn": 1}),
    ("falcon", {"new_decoder_architecture": False}),
    ("falcon", {"new_decoder_architecture": False, "multi_query": False, "alibi": True}),
    ("falcon", {"new_decoder_architecture": False, "parallel_attn": False}),  # falcon-rw-1b
    ("falcon", {"ffn_hidden_size": 100, "tie_word_embeddings": False}),
]  # fmt: skip


def imported(config: dict[str, Any]) -> Model:
    return model_from_config(config, "x", "some/config.json")


def sliding_layers(config: dict[str, Any]) -> list[bool]:
    """Which layers slide, by transformers' configuration object."""
    theirs = AutoConfig.for_model(**{k: v for k, v in config.items() if k != "architectures"})
    window, types = getattr(theirs, "sliding_window", None), getattr(theirs, "layer_types", None)
    return [bool(window) and (types is None or types[i] == "sliding_attention") for i in range(theirs.num_hidden_layers)]


@pytest.mark.parametrize("kind", HERE)
def test_a_small_config_has_transformers_count(kind: str) -> None:
    config = {"model_type": kind, **SMALL[kind]}
    assert parameters_total(imported(config)) == transformers_count(config)


@pytest.mark.parametrize(("kind", "changes"), VARIANTS)
def test_every_variant_has_transformers_count_and_windows(kind: str, changes: dict[str, Any]) -> None:
    config = {"model_type": kind, **SMALL[kind], **changes}
    ours = imported(config)
    assert parameters_total(ours) == transformers_count(config)
    assert [k.sliding for k in ours.layer_kinds] == sliding_layers(config)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["llama", "mistral", "mixtral", "qwen2", "qwen3", "phi3", "gemma2", "olmoe", "gpt_oss"]),
    layers=st.integers(1, 5),
    kv_heads=st.sampled_from([1, 2, 4]),
    head_dim=st.sampled_from([8, 16, 24]),
    inner=st.integers(1, 300),
    vocabulary=st.integers(3, 999),
    tied=st.booleans(),
)
def test_random_sizes_have_transformers_count(
    kind: str, layers: int, kv_heads: int, head_dim: int, inner: int, vocabulary: int, tied: bool
) -> None:
    config = {
        "model_type": kind, "num_hidden_layers": layers, "hidden_size": 8 * head_dim, "num_attention_heads": 8,
        "num_key_value_heads": kv_heads, "head_dim": head_dim, "intermediate_size": inner, "vocab_size": vocabulary,
        "tie_word_embeddings": tied, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    assert parameters_total(imported(config)) == transformers_count(config)


@pytest.mark.parametrize("kind", HERE)
def test_absent_fields_take_transformers_defaults(kind: str) -> None:
    config = {"model_type": kind, **({"num_experts_per_tok": 6} if kind == "deepseek_v2" else {})}  # theirs leaves it open
    ours = imported(config)
    assert parameters_total(ours) == transformers_count(config)
    assert [k.sliding for k in ours.layer_kinds] == sliding_layers(config)


@pytest.mark.parametrize("kind", HERE)
def test_each_default_is_that_of_transformers(kind: str) -> None:
    theirs = AutoConfig.for_model(kind)
    for field, default in FAMILIES[kind].defaults.items():
        if hasattr(theirs, field) and (kind, field) != ("qwen2_moe", "sliding_window"):
            assert getattr(theirs, field) == default, field
    for alias, field in FAMILIES[kind].aliases.items():
        if alias not in ("experts_per_token", "n_embed"):  # in published files only, not in attribute_map
            assert field == theirs.attribute_map.get(alias, alias) or alias == theirs.attribute_map.get(field)


@pytest.mark.parametrize("kind", HERE)
def test_a_whole_saved_config_is_understood(kind: str, tmp_path: Path) -> None:
    config = AutoConfig.for_model(kind, **SMALL[kind])
    config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    saved = {**json.loads(path.read_text()), "model_type": kind}
    expected = transformers_count({"model_type": kind, **SMALL[kind]})
    for given_ in (saved, {**config.to_dict(), **saved}):
        path.write_text(json.dumps(given_))
        assert parameters_total(load_model(str(path))) == expected


def test_second_names_are_understood() -> None:
    for config, first in (
        ({"model_type": "gpt2", "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6}, "n_embd"),
        ({"model_type": "mixtral", **TINY, "num_experts": 3}, "num_local_experts"),
        ({"model_type": "qwen3_moe", **TINY, "num_local_experts": 12}, "num_experts"),
    ):
        assert parameters_total(imported(config)) == transformers_count(config)
        with pytest.raises(PlannerError, match=first):
            imported({**config, first: 97})


def test_foundry_mpt_has_learned_positions_and_biases_where_its_file_says_so() -> None:
    # transformers' own mpt class ignores both; LLM Foundry's classes, which the files name, do not
    config = {
        "model_type": "mpt", "n_layers": 12, "d_model": 768, "n_heads": 12, "no_bias": False, "learned_pos_emb": True,
        "attn_config": {"alibi": False, "attn_pdrop": 0.1}, "resid_pdrop": 0.2,
    }  # fmt: skip
    ours = imported(config)
    assert parameters_total(ours) == 125_311_488  # mosaicml/llm-foundry scripts/train/benchmarking/README.md
    assert (ours.attention_dropout, ours.hidden_dropout) == (0.1, 0.2)


def test_internlm_blocks_are_llama_with_biases() -> None:
    # internlm/internlm-7b config.json; 7,321,948,160 parameters: LLaMA blocks with q, k, v, o biases
    assert parameters_total(imported({"model_type": "internlm", "bias": True})) == parameters_total(load_model("internlm-7b"))
    second = {"model_type": "internlm2", "bias": False, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 92544}
    assert parameters_total(imported(second)) == parameters_total(load_model("internlm2-7b"))


def test_what_is_left_out_is_said() -> None:
    v3 = {**PUBLISHED["deepseek-v3"], "num_nextn_predict_layers": 1}
    assert "without its 1 multi-token-prediction layer" in imported(v3).source
    assert "without" not in imported(PUBLISHED["deepseek-v3"]).source


def test_the_bare_model_has_no_head() -> None:
    config = {"model_type": "llama", **TINY, "tie_word_embeddings": True}
    bare = imported({**config, "architectures": ["LlamaModel"]})
    assert bare.head == "none"
    assert parameters_total(bare) == parameters_total(imported(config))


LLAMA = {"model_type": "llama"}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model_type": "longt5"}, "model_type = 'longt5'"),
        ({"model_type": "lama"}, "llama"),
        ({}, "model_type = None"),
        ({**LLAMA, "num_expertz": 8}, "num_expertz = 8"),
        ({**LLAMA, "sliding_window": 4096}, "sliding_window = 4096"),
        ({**LLAMA, "bias": True}, "bias = True"),
        ({**LLAMA, "text_config": {"hidden_size": 8}}, "text_config"),
        ({**LLAMA, "pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({**LLAMA, "architectures": ["LlamaForMultipleChoice"]}, "LlamaForMultipleChoice"),
        ({**LLAMA, "architectures": "LlamaForCausalLM"}, "architectures = 'LlamaForCausalLM'"),
        ({**LLAMA, "hidden_size": "4096"}, "hidden_size = '4096'"),
        ({**LLAMA, "hidden_size": 4096.0}, "hidden_size = 4096.0"),
        ({**LLAMA, "hidden_size": -4096}, "hidden_size = -4096"),
        ({**LLAMA, "hidden_size": None}, "hidden_size = None"),
        ({**LLAMA, "hidden_size": True}, "hidden_size = True"),
        ({**LLAMA, "num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ({**LLAMA, "num_key_value_heads": "8"}, "num_key_value_heads = '8'"),
        ({**LLAMA, "num_key_value_heads": 5}, "num_kv_heads = 5"),
        ({**LLAMA, "attention_bias": 1}, "attention_bias = 1"),
        ({**LLAMA, "attention_dropout": 1.5}, "attention_dropout = 1.5"),
        ({**LLAMA, "hidden_act": "mystery"}, "hidden_act = 'mystery'"),
        ({**LLAMA, "hidden_act": ["silu"]}, "hidden_act = ['silu']"),
        ({"model_type": "gpt2", "n_inner": -1}, "n_inner = -1"),
        ({"model_type": "gpt2", "add_cross_attention": True}, "add_cross_attention = True"),
        ({"model_type": "deepseek_v2"}, "num_experts_per_tok = None"),
        ({"model_type": "deepseek_v2", "num_experts_per_tok": 6, "mlp_bias": True}, "mlp_bias = true"),
        ({"model_type": "deepseek_v3", "moe_layer_freq": 2}, "moe_layer_freq = 2"),
        ({"model_type": "qwen2_moe", "mlp_only_layers": [99]}, "mlp_only_layers = [99]"),
        ({"model_type": "opt", "layerdrop": 0.1}, "layerdrop = 0.1"),
        ({"model_type": "opt", "layer_norm_elementwise_affine": False}, "layer_norm_elementwise_affine = False"),
        ({"model_type": "mpt", "attn_config": {"qk_ln": True}}, "attn_config.qk_ln = True"),
        ({"model_type": "mpt", "attn_config": {"kv_n_heads": 2}}, "attn_config.kv_n_heads = 2"),
        ({"model_type": "mpt", "attn_config": [1]}, "attn_config = [1]"),
        ({"model_type": "mpt", "ffn_config": {"ffn_type": "mptglu"}}, "ffn_config"),
        ({"model_type": "falcon", "new_decoder_architecture": True, "parallel_attn": False}, "parallel_attn = false"),
        ({"model_type": "bert", "is_encoder_decoder": True}, "is_encoder_decoder = True"),
        ({"model_type": "bert", "is_decoder": True}, "is_decoder = true"),
        ({"model_type": "bert", "position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
        ({"model_type": "bert", "architectures": ["BertForMultipleChoice"]}, "BertForMultipleChoice"),
        ({"model_type": "gemma2", "num_hidden_layers": 3, "layer_types": ["linear_attention"] * 3}, "linear_attention"),
        ({"model_type": "gemma2", "num_hidden_layers": 3, "layer_types": ["full_attention"]}, "must list 3 layers"),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed_is_named(config: dict[str, Any], named: str) -> None:
    with pytest.raises(PlannerError) as caught:
        imported(config)
    assert named in str(caught.value)
    assert "some/config.json" in str(caught.value)


# names at huggingface.co of base and instruction-tuned weights of one shape
@pytest.mark.parametrize(
    ("hub", "name"),
    [
        ("Qwen/Qwen3-8B", "qwen3-8b"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-8b"),
        ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"),
        ("google/gemma-2-9b-it", "gemma-2-9b"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
        ("https://huggingface.co/deepseek-ai/DeepSeek-V3", "deepseek-v3"),
    ],
)
def test_a_model_is_found_by_its_name_at_the_hub(hub: str, name: str) -> None:
    assert load_model(hub) is load_model(hub)
    assert load_model(hub) == load_model(name)


def test_another_version_at_the_hub_is_another_model() -> None:
    """Mistral-7B-v0.3 has 768 more words than v0.1 (its config.json); a version that nobody collected is no other one."""
    assert load_model("mistralai/Mistral-7B-Instruct-v0.3").vocab_size == 32_768
    assert load_model("mistralai/Mistral-7B-v0.1").vocab_size == 32_000
    with pytest.raises(PlannerError, match="not in the catalog"):
        load_model("mistralai/Mistral-7B-v0.9")
