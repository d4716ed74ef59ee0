"""config.json files as people paste them, with all that their publishers left in: counted as transformers' modules."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
import transformers
from meta_modules import on_meta
from transformers import CONFIG_MAPPING

from planner.common.errors import PlannerError
from planner.model.huggingface import model_from_config
from planner.model.parameters import parameters_total


def modules(auto: Any, kind: str, config: dict[str, Any]) -> int:
    with on_meta():
        own = {key: value for key, value in config.items() if key != "model_type"}
        return sum(w.numel() for w in auto(transformers.AutoConfig.for_model(kind, **own)).parameters())


def encoder(layers: int, hidden: int, heads: int, inner: int, words: int, **more: Any) -> dict[str, Any]:
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": inner}
    return {**sizes, "vocab_size": words, **more}


def test_a_text_in_front_of_an_unknown_tower_is_tied_as_the_outer_class_ties_it() -> None:
    """Gemma 3n's files leave the flag out of both tables: 0.5 billion weights."""
    told = 0
    for kind in sorted(CONFIG_MAPPING.keys()):
        made = CONFIG_MAPPING[kind]
        if "text_config" not in (getattr(made, "sub_configs", None) or {}):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                config = json.loads(json.dumps(made().to_dict(), default=str))
            except Exception:
                continue
            config.pop("tie_word_embeddings", None)
            if isinstance(config.get("text_config"), dict):
                config["text_config"].pop("tie_word_embeddings", None)
            own = {key: value for key, value in config.items() if key not in ("model_type", "transformers_version")}
            theirs = getattr(made(**own), "tie_word_embeddings", None)
        if theirs is None:
            continue
        try:
            model = model_from_config({**config, "model_type": kind}, kind, "config.json")
        except PlannerError:
            continue
        told += 1
        assert model.tied_embeddings == theirs, kind
    assert told >= 40


def test_where_the_outer_class_ties_nothing_the_texts_default_holds() -> None:
    text = {"model_type": "opt", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "ffn_dim": 128}
    model = model_from_config({"model_type": "blip-2", "text_config": text, "vision_config": {}}, "blip-2", "config.json")
    assert model.tied_embeddings


def test_text_behind_an_encoder_is_no_encoder() -> None:
    text = {"model_type": "modernbert", "num_hidden_layers": 3}
    with pytest.raises(PlannerError, match="an encoder"):
        model_from_config({"model_type": "modernvbert", "text_config": text, "vision_config": {}}, "x", "config.json")


@pytest.mark.parametrize("named", [None, "idefics3", "idefics3_vision"])
def test_an_encoder_of_images_may_have_the_outer_types_name(named: str | None) -> None:
    """HuggingFaceM4/Idefics3-8B-Llama3 and HuggingFaceTB/SmolVLM-Instruct: vision_config.model_type = "idefics3"."""
    seen = {"hidden_size": 1152, "image_size": 364, "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27,
            "patch_size": 14, "size": {"longest_edge": 1820}, **({"model_type": named} if named else {})}  # fmt: skip
    text = {"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
            "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128259}  # fmt: skip
    config = {
        "model_type": "idefics3",
        "tie_word_embeddings": False,
        "scale_factor": 2,
        "text_config": text,
        "vision_config": seen,
    }
    model = model_from_config(config, "idefics3-8b", "config.json")
    assert parameters_total(model) / 1e9 == pytest.approx(8.46, rel=1e-3)  # the hub's count
    assert model.tokens_per_image == 169  # its paper (arXiv 2408.12637, section 4.1)


@pytest.mark.parametrize(
    ("named", "auto"),
    [
        ("EsmForMaskedLM", transformers.AutoModelForMaskedLM),
        ("EsmModel", transformers.AutoModel),
        ("EsmForTokenClassification", transformers.AutoModelForTokenClassification),
    ],
)
@pytest.mark.parametrize("positions", ["rotary", "absolute"])
@pytest.mark.parametrize("before", [True, False])
def test_a_language_of_proteins(named: str, auto: Any, positions: str, before: bool) -> None:
    sizes = encoder(3, 80, 5, 160, 33, max_position_embeddings=1026, pad_token_id=1, mask_token_id=32, token_dropout=True)
    config = {**sizes, "position_embedding_type": positions, "emb_layer_norm_before": before, "vocab_list": None}
    model = model_from_config({"model_type": "esm", "architectures": [named], **config}, "esm", "config.json")
    assert parameters_total(model) == modules(auto.from_config, "esm", config)


def test_esm2_has_its_published_size() -> None:
    config = encoder(33, 1280, 20, 5120, 33, max_position_embeddings=1026, position_embedding_type="rotary")
    model = model_from_config({"model_type": "esm", "architectures": ["EsmForMaskedLM"], **config}, "esm2", "config.json")
    assert parameters_total(model) / 1e6 == pytest.approx(651, rel=1e-3)  # facebook/esm2_t33_650M_UR50D


def test_proteins_are_not_folded() -> None:
    with pytest.raises(PlannerError, match="is_folding_model"):
        model_from_config({"model_type": "esm", "is_folding_model": True, "vocab_size": 33}, "esm", "config.json")


@pytest.mark.parametrize(("width", "narrow"), [(64, 64), (64, 32)])
@pytest.mark.parametrize(
    ("named", "auto"),
    [("ElectraForPreTraining", transformers.AutoModelForPreTraining), ("ElectraForMaskedLM", transformers.AutoModelForMaskedLM)],
)
def test_a_discriminator_has_one_output(named: str, auto: Any, width: int, narrow: int) -> None:
    config = encoder(2, width, 4, 128, 1000, embedding_size=narrow, max_position_embeddings=128, type_vocab_size=2)
    model = model_from_config({"model_type": "electra", "architectures": [named], **config}, "electra", "config.json")
    assert parameters_total(model) == modules(auto.from_config, "electra", config)


def test_nomics_own_file_pads_its_words() -> None:
    config = {"model_type": "nomic_bert", "architectures": ["NomicBertModel"], "n_embd": 768, "n_head": 12, "n_inner": 3072,
              "n_layer": 12, "n_positions": 8192, "vocab_size": 30522, "type_vocab_size": 2, "activation_function": "swiglu",
              "pad_vocab_size_multiple": 64, "qkv_proj_bias": False, "mlp_fc1_bias": False, "mlp_fc2_bias": False,
              "prenorm": False, "parallel_block": False, "use_rms_norm": False, "rotary_emb_fraction": 1.0,
              "max_trained_positions": 2048, "fused_bias_fc": True, "causal": False}  # fmt: skip
    model = model_from_config(config, "nomic", "config.json")
    assert model.vocab_size == 30528
    assert parameters_total(model) == 136_731_648  # nomic-ai/nomic-embed-text-v1.5
    with pytest.raises(PlannerError, match="prenorm"):
        model_from_config({**config, "prenorm": True}, "nomic", "config.json")


GUARD = {"model_type": "llama4_text", "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "head_dim": 16,
         "num_key_value_heads": 2, "intermediate_size": 96, "intermediate_size_mlp": 128, "vocab_size": 500,
         "use_qk_norm": True, "moe_layers": [], "num_local_experts": 0, "num_experts_per_tok": 0}  # fmt: skip


def test_llama_4_without_experts_is_dense() -> None:
    """meta-llama/Llama-Guard-4-12B: interleave_moe_layer_step = 0, moe_layers = []."""
    model = model_from_config({**GUARD, "interleave_moe_layer_step": 0}, "guard", "config.json")
    own = {**GUARD, "interleave_moe_layer_step": 1}
    assert parameters_total(model) == modules(transformers.AutoModelForCausalLM.from_config, "llama4_text", own)
    assert not any(kind.moe for kind in model.layer_kinds)


def test_a_normalized_output_layer_is_an_output_layer() -> None:
    """inclusionAI/Ling-lite: norm_head = true; its card says 16.8 billion, 2.75 of them active."""
    config = {"model_type": "bailing_moe", "architectures": ["BailingMoeForCausalLM"], "num_hidden_layers": 28,
              "hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 4, "intermediate_size": 5632,
              "vocab_size": 126464, "head_dim": 128, "moe_intermediate_size": 1408, "num_experts": 64,
              "num_experts_per_tok": 6, "num_shared_experts": 2, "norm_head": True, "norm_softmax": False}  # fmt: skip
    assert parameters_total(model_from_config(config, "ling", "config.json")) / 1e9 == pytest.approx(16.8, rel=1e-3)


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"model_type": "codegen", "n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 2048, "rotary_dim": 8}, 2048),
        ({"model_type": "kimi_linear", "num_hidden_layers": 4, "model_max_length": 1048576,
          "linear_attn_config": {"full_attn_layers": [4], "kda_layers": [1, 2, 3], "num_heads": 4, "head_dim": 32,
                                 "short_conv_kernel_size": 4}}, 1048576),
        ({"model_type": "baichuan", "num_hidden_layers": 40, "hidden_size": 5120, "num_attention_heads": 40,
          "intermediate_size": 13696, "vocab_size": 64000, "model_max_length": 4096}, 4096),
        ({"model_type": "t5", "num_layers": 2, "d_model": 64, "num_heads": 4, "n_positions": 512}, 0),  # relative positions
    ],
)  # fmt: skip
def test_how_long_a_context_may_be_has_several_names(config: dict[str, Any], tokens: int) -> None:
    assert model_from_config(config, "x", "config.json").context_length == tokens


def test_baichuan_13b_has_no_angles() -> None:
    """Baichuan-13B, modeling_baichuan.py: ALiBi; the 7B: rotary positions, and its file says how many."""
    sizes = {"model_type": "baichuan", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
             "intermediate_size": 96, "vocab_size": 500, "model_max_length": 4096}  # fmt: skip
    assert model_from_config(sizes, "x", "config.json").position_embedding == "alibi"
    rotary = {**sizes, "max_position_embeddings": 4096}
    assert model_from_config(rotary, "x", "config.json").position_embedding == "rotary"
