"""Adapters: parameters as peft counts them, names, roles, and what freezing saves."""

from __future__ import annotations

from typing import Any

import pytest
from meta_modules import on_meta
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from planner.common.errors import PlannerError
from planner.model.catalog import load_model
from planner.model.huggingface import model_from_config
from planner.workload.adapters import adapter_parameters, check_targets, saved_module, saved_parameters
from planner.workload.tuning import Adapter

# small models of many architectures: names, fused projections, biases, transposed weights, experts
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3, "num_attention_heads": 8,
              "num_key_value_heads": 2, "vocab_size": 211},
    "qwen2": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3, "num_attention_heads": 8,
              "num_key_value_heads": 4, "vocab_size": 211},
    "qwen3": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 32,
              "num_key_value_heads": 2, "vocab_size": 211},
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 211, "n_positions": 128},
    "opt": {"hidden_size": 64, "ffn_dim": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 211,
            "word_embed_proj_dim": 64},
    "falcon": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 211, "multi_query": True},
    "gpt_neox": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
                 "vocab_size": 211},
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 211},
    "mpt": {"d_model": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 211},
    "phi3": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 8,
             "num_key_value_heads": 8, "vocab_size": 211, "pad_token_id": 0},
    "mixtral": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 8,
                "num_key_value_heads": 2, "vocab_size": 211, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4,
                  "num_key_value_heads": 4, "vocab_size": 211, "num_experts": 8, "num_experts_per_tok": 2,
                  "moe_intermediate_size": 48, "shared_expert_intermediate_size": 96},
    "gemma2": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
               "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 211},
    "deepseek_v3": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
                    "num_key_value_heads": 4, "vocab_size": 211, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
                    "qk_rope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
                    "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1},
}  # fmt: skip
TARGETS: dict[str, list[list[str]]] = {
    "llama": [["q_proj", "v_proj"], ["gate_proj", "up_proj", "down_proj"], ["q_proj", "k_proj", "v_proj", "o_proj", "lm_head"]],
    "qwen2": [["q_proj"], ["k_proj", "o_proj"]], "qwen3": [["q_proj", "v_proj"]], "gemma2": [["q_proj", "down_proj"]],
    "gpt2": [["c_attn"], ["c_proj"], ["c_attn", "mlp.c_proj"], ["c_fc"]],
    "opt": [["q_proj", "v_proj"], ["out_proj"], ["fc1", "fc2"]],
    "falcon": [["query_key_value"], ["dense"], ["dense_h_to_4h", "dense_4h_to_h"]],
    "gpt_neox": [["query_key_value"], ["dense"]], "bloom": [["query_key_value", "dense_4h_to_h"]],
    "mpt": [["Wqkv"], ["up_proj", "down_proj"]], "phi3": [["qkv_proj"], ["gate_up_proj", "o_proj"]],
    "mixtral": [["q_proj", "v_proj"], ["experts.gate_up_proj", "experts.down_proj"]], "qwen2_moe": [["q_proj", "down_proj"]],
    "deepseek_v3": [["q_a_proj", "q_b_proj"], ["kv_a_proj_with_mqa", "kv_b_proj"], ["o_proj"]],
}  # fmt: skip
CASES = [(kind, targets) for kind, lists in TARGETS.items() for targets in ["all-linear", *lists]]
# peft gives experts of these two to "all-linear" through a conversion that changes from release to release; here they are named
CASES = [case for case in CASES if case not in (("mixtral", "all-linear"), ("deepseek_v3", "all-linear"))]


def built(kind: str) -> Any:
    with on_meta():
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **CONFIGS[kind]))


def peft_counts(kind: str, rank: int, targets: Any, **more: Any) -> int:
    """Trainable parameters after peft has wrapped a model on the meta device."""
    parameters = [t for t in targets if t.startswith("experts.")] if isinstance(targets, list) else []
    modules = [t for t in targets if not t.startswith("experts.")] if isinstance(targets, list) else targets
    config = LoraConfig(r=rank, target_modules=modules or [], target_parameters=parameters or None, task_type="CAUSAL_LM", **more)
    wrapped = get_peft_model(built(kind), config)
    return sum(p.numel() for p in wrapped.parameters() if p.requires_grad)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rank", [1, 8, 16])
@pytest.mark.parametrize(("kind", "targets"), CASES)
def test_adapters_have_as_many_parameters_as_peft_counts(kind: str, targets: Any, rank: int) -> None:
    model = model_from_config({"model_type": kind, **CONFIGS[kind]}, kind, "test")
    assert adapter_parameters(model, Adapter(rank=rank, target_modules=targets)) == peft_counts(kind, rank, targets)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layers", [[0], [1, 2]])
def test_adapters_on_some_layers_count_as_peft_counts_them(layers: list[int]) -> None:
    model = model_from_config({"model_type": "llama", **CONFIGS["llama"]}, "llama", "test")
    ours = adapter_parameters(model, Adapter(rank=4, target_modules=("q_proj", "up_proj"), layers=tuple(layers)))
    assert ours == peft_counts("llama", 4, ["q_proj", "up_proj"], layers_to_transform=layers)


@pytest.mark.filterwarnings("ignore")
def test_modules_trained_in_full_count_as_peft_counts_them() -> None:
    model = model_from_config({"model_type": "llama", **CONFIGS["llama"]}, "llama", "test")
    adapter = Adapter(rank=4, target_modules=("q_proj",), modules_to_save=("embed_tokens", "lm_head"))
    wanted = peft_counts("llama", 4, ["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    assert adapter_parameters(model, adapter) + saved_parameters(model, adapter) == wanted


def test_unknown_target_lists_the_names_that_the_model_has() -> None:
    model = model_from_config({"model_type": "gpt2", **CONFIGS["gpt2"]}, "gpt2", "test")
    with pytest.raises(PlannerError, match=r"job\.adapter\.target_modules: 'q_proj' is no linear layer of gpt2; it has c_attn"):
        check_targets(model, Adapter(rank=4, target_modules=("q_proj",)))


def test_layers_that_the_model_lacks_are_an_error() -> None:
    model = model_from_config({"model_type": "gpt2", **CONFIGS["gpt2"]}, "gpt2", "test")
    with pytest.raises(PlannerError, match=r"job\.adapter\.layers names layer 3: the last one is 2"):
        check_targets(model, Adapter(rank=4, layers=(3,)))
    with pytest.raises(PlannerError, match=r"job\.adapter\.last_layers = 4: the model has only 3 layers"):
        check_targets(model, Adapter(rank=4, last_layers=4))


def test_a_rank_above_the_width_of_every_adapted_layer_is_refused() -> None:
    """A and B of that rank hold more than the layers they stand for; of layers of several widths the widest decides."""
    model = load_model("qwen3-8b")  # q_proj 4096 x 4096, k_proj 4096 x 1024
    check_targets(model, Adapter(rank=4096))
    check_targets(model, Adapter(rank=1024, target_modules=("k_proj",)))
    check_targets(model, Adapter(rank=4096, target_modules=("k_proj", "q_proj")))
    for adapter in (Adapter(rank=4097), Adapter(rank=1025, target_modules=("k_proj",))):
        with pytest.raises(PlannerError, match=f"rank = {adapter.rank}.*at most {adapter.rank - 1}"):
            check_targets(model, adapter)


def test_words_and_the_head_have_names_of_their_own_and_of_every_model() -> None:
    model = model_from_config({"model_type": "gpt2", **CONFIGS["gpt2"]}, "gpt2", "test")
    assert {name: saved_module(model, name) for name in ("wte", "words", "embed_tokens", "head", "lm_head", "c_attn")} == {
        "wte": "words", "words": "words", "embed_tokens": "words", "head": "head", "lm_head": "head", "c_attn": None,
    }  # fmt: skip
    assert saved_module(model.replaced(head="none", tied_embeddings=False), "lm_head") is None
