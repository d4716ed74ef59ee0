"""Vision encoders by their own type behind each projector: transformers' modules on the meta device have as many weights."""

from __future__ import annotations

import json
from typing import Any

import pytest
from meta_modules import on_meta
from transformers import AutoConfig, AutoModelForImageTextToText

from planner.common.errors import PlannerError
from planner.model.huggingface import model_from_config
from planner.model.parameters import parameters_total

Config = dict[str, Any]
SIZES: Config = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "vocab_size": 300, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SEEN: Config = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56,
    "patch_size": 14,
}  # fmt: skip
CLIP: Config = {"model_type": "clip_vision_model", **SEEN}
SIGLIP: Config = {"model_type": "siglip_vision_model", **SEEN}
SIGLIP2: Config = {"model_type": "siglip2_vision_model", **SEEN}
FP8: Config = {"dtype": "fp8_e4m3"}
CASES: dict[str, tuple[str, Config, str, Config]] = {
    "llava": ("llama", CLIP, "llava", {}),
    "llava, several layers of the encoder": ("llama", CLIP, "llava", {"vision_feature_layer": [-2, -1]}),
    "llava with pixtral's encoder": ("mistral", {"model_type": "pixtral", **SEEN}, "llava", {"multimodal_projector_bias": False}),
    "llava_next with siglip (granite vision)": ("granite", SIGLIP, "llava_next", {}),
    "llava_next_video": ("llama", CLIP, "llava_next_video", {}),
    "llava_onevision": ("qwen2", {**SIGLIP, "vision_use_head": False}, "llava_onevision", {}),
    "vipllava": ("llama", CLIP, "vipllava", {}),
    "paligemma": ("gemma2", {**SIGLIP, "projection_dim": 64}, "paligemma", {"projection_dim": 64}),
    "idefics3": ("llama", {"model_type": "idefics3_vision", **SEEN}, "idefics3", {"scale_factor": 2}),
    "smolvlm": ("llama", {"model_type": "smolvlm_vision", **SEEN}, "smolvlm", {"scale_factor": 4}),
    "aya_vision": ("cohere2", SIGLIP, "aya_vision", {"alignment_intermediate_size": 80}),
    "cohere2_vision": ("cohere2", SIGLIP, "cohere2_vision", {"alignment_intermediate_size": 80}),
    "lfm2_vl": ("lfm2", {**SIGLIP2, "num_patches": 16}, "lfm2_vl", {"projector_hidden_size": 40}),
    "lfm2_vl without its norm": ("lfm2", SIGLIP2, "lfm2_vl", {"projector_use_layernorm": False}),
    "lighton_ocr": ("qwen3", {"model_type": "pixtral", **SEEN}, "lighton_ocr", {}),
}  # fmt: skip


def settings(text: str, vision: Config, kind: str, outer: Config) -> Any:
    """transformers' configuration of a small model."""
    return AutoConfig.for_model(kind, text_config={"model_type": text, **SIZES}, vision_config=dict(vision), **outer)


@pytest.mark.parametrize("name", CASES)
def test_encoder_and_projector_have_transformers_weights(name: str) -> None:
    with on_meta():
        made = AutoModelForImageTextToText.from_config(settings(*CASES[name]))
    saved = json.loads(json.dumps(made.config.to_dict(), default=str))
    read = model_from_config({**saved, "model_type": CASES[name][2]}, "model", "config.json")
    assert parameters_total(read) == sum(weight.numel() for weight in made.parameters())
    (tower,) = read.towers
    assert tower.num_layers == 2
    assert not read.assumed()


@pytest.mark.parametrize("outer", [None, True, False])
@pytest.mark.parametrize("inner", [None, True, False])
@pytest.mark.parametrize(
    "kind",
    ["muse_glimmer", "llama4", "glm46v", "glm4v", "lfm2_vl", "cosmos3_edge", "llava_next_video", "minimax_m3_vl", "qwen3_vl"],
)
def test_a_head_is_tied_where_transformers_ties_it(kind: str, outer: bool | None, inner: bool | None) -> None:
    """A flag in the outer table, in the text's, in both or in neither, as transformers saves the file."""
    stated = [{} if flag is None else {"tie_word_embeddings": flag} for flag in (outer, inner)]
    table = {"model_type": AutoConfig.for_model(kind).text_config.model_type, "vocab_size": 300, "num_hidden_layers": 2}
    with on_meta():
        made = AutoModelForImageTextToText.from_config(
            AutoConfig.for_model(kind, text_config={**table, **stated[1]}, **stated[0])
        )
    for saved in (made.config.to_dict(), made.config.to_diff_dict()):
        config = json.loads(json.dumps({**saved, "model_type": kind}, default=str))
        read = model_from_config(config, "model", "config.json")
        assert parameters_total(read) == sum(weight.numel() for weight in made.parameters())


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl_moe", "glm4v_moe"])
def test_sizes_that_a_texts_table_leaves_out_are_those_of_its_own_type(kind: str) -> None:
    table = {"model_type": f"{kind}_text", "num_hidden_layers": 2}
    settings = AutoConfig.for_model(kind, text_config=dict(table))
    with on_meta():
        made = AutoModelForImageTextToText.from_config(settings)
    seen = json.loads(json.dumps(settings.vision_config.to_dict(), default=str))
    read = model_from_config({"model_type": kind, "text_config": table, "vision_config": seen}, "model", "config.json")
    assert parameters_total(read) == sum(weight.numel() for weight in made.parameters())


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model_type": "paligemma", "text_config": {"model_type": "gemma"}, "vision_config": SIGLIP}, "projection_dim = 2048"),
        ({"model_type": "llava"}, "text_config is not stated"),
        ({"model_type": "llava", "text_config": {"model_type": "llama"}}, "vision_config is not stated"),
        ({"model_type": "llava", "text_config": {"model_type": "bert"}, "vision_config": CLIP}, "an encoder"),
    ],
)
def test_a_file_that_leaves_its_parts_open_is_refused(config: Config, named: str) -> None:
    with pytest.raises(PlannerError, match=named):
        model_from_config(config, "model", "config.json")


@pytest.mark.parametrize(("kind", "merged"), [("llava", 1), ("paligemma", 1), ("idefics3", 4), ("aya_vision", 4)])
def test_an_image_is_its_patches_or_a_fourth_of_them(kind: str, merged: int) -> None:
    """56 pixels of 14 a patch: 16 patches; pixel shuffling by two puts four of them into one token."""
    saved = json.loads(json.dumps(settings(*CASES[kind]).to_dict(), default=str))
    (tower,) = model_from_config({**saved, "model_type": kind}, "model", "config.json").towers
    assert (tower.patches_per_image, tower.tokens_per_image) == (16, 16 // merged)


def test_an_encoder_that_is_not_known_is_left_out_and_said() -> None:
    text = {"model_type": "llama", **SIZES}
    read = model_from_config(
        {"model_type": "llava", "text_config": text, "vision_config": {"model_type": "vit_of_tomorrow", "hidden_size": 8}},
        "model",
        "config.json",
    )
    assert not read.towers
    assert "vit_of_tomorrow" in read.reading_notes[0]
    assert parameters_total(read) == parameters_total(model_from_config(text, "text", "config.json"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("LlamaForCausalLM", "llama"),
        ("GPT2LMHeadModel", "gpt2"),
        ("DeepseekV3ForCausalLM", "deepseek_v3"),
        ("GptOssModel", "gpt_oss"),
    ],
)
def test_a_file_without_a_type_is_of_its_class(name: str, kind: str) -> None:
    sizes = {"num_hidden_layers": 2, "architectures": [name]}
    named = model_from_config({**sizes, "model_type": kind}, "model", "config.json")
    assert parameters_total(model_from_config(sizes, "model", "config.json")) == parameters_total(named)


PLAIN: Config = {"model_type": "llama", **SIZES}
FORMATS: list[tuple[Config, str]] = [
    ({"quant_method": "awq", "bits": 4}, "int4-awq"),
    ({"quant_method": "gptq", "bits": 8}, "int8-gptq"),
    ({"quant_method": "auto-round", "bits": 4, "packing_format": "auto_round:auto_awq"}, "int4-awq"),
    ({"quant_method": "auto-round", "bits": 4, "data_type": "mx_fp"}, "mxfp4"),
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block"),
    ({"load_in_8bit": True}, "int8"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
    ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}, "fp8"),
    ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "w4a8"),
    ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig"}}}, "int4"),
    ({"quant_method": "torchao", "quant_type": "int8_dynamic_activation_int8_weight"}, "int8"),
    ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Float8WeightOnlyConfig"}}}, "fp8-weight-only"),
    ({"quant_method": "quark", "global_quant_config": {"weight": FP8, "input_tensors": FP8}}, "fp8"),
    ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "group_size": 32}}}, "mxfp4"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "stored"), FORMATS)
def test_how_a_checkpoint_stores_its_matrices(table: Config, stored: str) -> None:
    assert model_from_config({**PLAIN, "quantization_config": table}, "model", "config.json").stored_weights == stored


@pytest.mark.parametrize("table", [{"quant_method": "gptq", "bits": 3}, {"quant_method": "aqlm", "nbits_per_codebook": 16}])
def test_a_format_that_is_not_known_is_said(table: Config) -> None:
    read = model_from_config({**PLAIN, "quantization_config": table}, "model", "config.json")
    assert read.stored_weights == ""
    assert "16 bit" in read.reading_notes[0]


@pytest.mark.parametrize("turned", [False, True])
def test_a_mixed_checkpoint_counts_as_its_widest_part_and_says_so(turned: bool) -> None:
    """Attention in FP8, experts in NVFP4, whatever group is listed first (ModelOpt's MIXED_PRECISION)."""
    wide = {"weights": {"num_bits": 8, "type": "float"}, "input_activations": {"num_bits": 8}}
    groups = {"a": wide, "b": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}}
    groups = dict(reversed(groups.items())) if turned else groups
    table = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "config_groups": groups}
    read = model_from_config({**PLAIN, "quantization_config": table}, "model", "config.json")
    assert read.stored_weights == "fp8"
    assert "fp8, nvfp4" in read.reading_notes[0]
