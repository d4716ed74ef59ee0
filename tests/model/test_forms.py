"""What people have instead of a config.json: the same model, or a sentence that says what the file is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_gguf import LLAMA_3_8B as GGUF
from made_gguf import gguf

import planner
from planner.common.errors import PlannerError
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.gguf import FILE_TYPES, gguf_metadata
from planner.model.huggingface import model_from_config
from planner.model.names import is_model
from planner.model.parameters import parameters_active, parameters_total
from planner.serving.spec import ENGINES_OF_FORMATS

Config = dict[str, Any]
LLAMA: Config = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
    "tie_word_embeddings": False, "hidden_act": "silu",
}  # fmt: skip
META: Config = {
    "dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "ffn_dim_multiplier": 1.3,
    "multiple_of": 1024, "norm_eps": 1e-5, "rope_theta": 500000.0,
}  # fmt: skip
QWEN3_MOE: Config = {
    "general.architecture": "qwen3moe", "qwen3moe.block_count": 48, "qwen3moe.embedding_length": 2048,
    "qwen3moe.feed_forward_length": 6144, "qwen3moe.attention.head_count": 32, "qwen3moe.attention.head_count_kv": [4] * 48,
    "qwen3moe.attention.key_length": 128, "qwen3moe.expert_count": 128, "qwen3moe.expert_used_count": 8,
    "qwen3moe.expert_feed_forward_length": 768, "tokenizer.ggml.tokens": ["a"] * 151936,
}  # fmt: skip
MIXTRAL: Config = {
    "dim": 6144, "n_layers": 56, "head_dim": 128, "hidden_dim": 16384, "n_heads": 48, "n_kv_heads": 8, "vocab_size": 32768,
    "norm_eps": 1e-5, "moe": {"num_experts": 8, "num_experts_per_tok": 2},
}  # fmt: skip
LARGE: Config = {
    "dim": 7168, "n_layers": 61, "head_dim": 128, "hidden_dim": 16384, "n_heads": 128, "n_kv_heads": 128, "vocab_size": 131072,
    "norm_eps": 1e-6, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "kv_lora_rank": 512,
    "v_head_dim": 128, "tied_embeddings": False, "max_position_embeddings": 294912, "llama_4_scaling": {"beta": 0.1},
    "moe": {
        "first_k_dense_replace": 3, "num_experts": 128, "num_experts_per_tok": 4, "expert_hidden_dim": 4096,
        "num_shared_experts": 1, "num_expert_groups": 1, "num_expert_groups_per_tok": 1, "routed_scale": 1.0,
    },
}  # fmt: skip


def read(config: Config) -> Model:
    return model_from_config(config, "model", "config.json")


def test_metas_and_mistrals_params_and_a_ggufs_metadata_are_the_same_model() -> None:
    """Llama 3 8B: 2/3 of 4 x 4096, times 1.3, up to a multiple of 1,024, is 14,336."""
    wanted = parameters_total(read(LLAMA))
    assert wanted == 8_030_261_248  # safetensors index of meta-llama/Meta-Llama-3-8B
    assert [parameters_total(read(c)) for c in (META, GGUF)] == [wanted, wanted]
    assert parameters_total(read(QWEN3_MOE)) == parameters_total(load_model("qwen3-30b-a3b"))
    assert parameters_total(read(MIXTRAL)) == pytest.approx(parameters_total(load_model("mixtral-8x22b")), rel=1e-3)
    assert "output.weight" in read(GGUF).reading_notes[0]


def test_mistral_large_3_has_673_billion_39_active() -> None:
    """mistral.ai, Mistral 3 (2025-12-02): 675 billion, 41 active, with an encoder of 2.5 billion."""
    model = read(LARGE)
    assert parameters_total(model) == pytest.approx(673e9, rel=0.002)
    assert parameters_active(model) == pytest.approx(39e9, rel=0.03)


WRITTEN = {
    "list": json.dumps([LLAMA]),
    "wrapped": json.dumps({"config": LLAMA, "name": "mine"}),
    "comments": "// mine\n"
    + json.dumps(LLAMA, indent=1).replace('"vocab_size"', '/* words */ "vocab_size"')[:-2]
    + ",  // end\n}",
    "printed": "LlamaConfig " + json.dumps(LLAMA, indent=2),
    "python": str(LLAMA),
    "url": json.dumps({**LLAMA, "_name_or_path": "https://example.org/a,}"}, indent=1)[:-2] + ",\n}",
}


@pytest.mark.parametrize("form", WRITTEN)
def test_a_file_as_people_paste_it(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"{form}.json"
    path.write_text(WRITTEN[form], encoding="utf-8")
    assert parameters_total(load_model(str(path))) == 8_030_261_248


REFUSED: list[tuple[Config, str]] = [
    ({"_class_name": "FluxTransformer2DModel", "num_layers": 19}, "diffusers pipeline"),
    ({"peft_type": "LORA", "r": 16, "base_model_name_or_path": "meta-llama/Llama-3.1-8B"}, "rank 16. of meta-llama/Llama-3.1-8B"),
    ({"metadata": {}, "weight_map": {"lm_head.weight": "a"}}, "index of a checkpoint"),
    ({"temperature": 0.6, "bos_token_id": 1}, "generation_config.json"),
    ({"tokenizer_class": "LlamaTokenizer", "model_max_length": 131072}, "tokenizer_config.json"),
    ({"version": "1.0", "added_tokens": [], "model": {"type": "BPE"}}, "tokenizer.json"),
    ({"bos_token": "<s>", "eos_token": "</s>"}, "special_tokens_map.json"),
    ({"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14}, "preprocessor_config.json"),
    ({"log_history": [], "global_step": 100}, "trainer_state.json"),
    ({"zero_optimization": {"stage": 3}, "bf16": {"enabled": True}}, "DeepSpeed"),
    ({"word_embedding_dimension": 384, "pooling_mode_cls_token": True}, "sentence-transformers"),
    ({"bits": 4, "group_size": 128, "desc_act": False}, "quantize_config.json"),
    ({"medusa_num_heads": 4, "base_model_name_or_path": "lmsys/vicuna-7b-v1.3"}, "drafts tokens"),
    ({"model_type": "vit", "hidden_size": 768, "num_hidden_layers": 12}, "no language model"),
    ({"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"], "hidden_size": 768}, "no language model"),
    ({**META, "vocab_size": -1}, "leaves it to the tokenizer"),
    ({**META, "moe_args": {"num_experts": 16}}, "moe_args"),
    ({**MIXTRAL, "vision_encoder": {"hidden_size": 1664}}, "vision_encoder"),
    ({**MIXTRAL, "moe": 3}, "must be a table"),
    ({"dim": "wide", "n_layers": 2, "n_heads": 2, "multiple_of": 2}, "dim = 'wide'"),
    ({**GGUF, "general.architecture": "mamba2000"}, "mamba2000"),
    ({k: v for k, v in GGUF.items() if k != "llama.vocab_size"}, "vocab_size is not among"),
    ({k: v for k, v in GGUF.items() if k != "llama.block_count"}, "block_count is not among"),
]


@pytest.mark.parametrize(("config", "why"), REFUSED)
def test_a_file_that_holds_no_language_model_is_called_what_it_is(config: Config, why: str) -> None:
    with pytest.raises(PlannerError, match=why) as error:
        read(config)
    assert len(str(error.value)) < 400


def test_a_text_config_inside_another_is_the_text() -> None:
    text = {"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 100}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    eye = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2}
    once = {"model_type": "qwen2_vl", "text_config": text, "vision_config": eye}
    twice = {**once, "text_config": {"model_type": "qwen2_vl", "text_config": text}}
    assert read(twice).model_dump(exclude={"source"}) == read(once).model_dump(exclude={"source"})


def test_a_file_of_weights_is_no_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x08")
    with pytest.raises(PlannerError, match=r"none of the files that describe a model; give its config\.json"):
        load_model(str(path))


SIZES = {f"qwen3.{key}": value for key, value in (
    ("block_count", 28), ("embedding_length", 1024), ("feed_forward_length", 3072), ("attention.head_count", 16),
    ("attention.head_count_kv", 8), ("attention.key_length", 128),
)}  # fmt: skip


@pytest.mark.parametrize("own_head", [False, True])
def test_a_gguf_file_is_read_to_its_last_weight(own_head: bool, tmp_path: Path) -> None:
    """Qwen3-0.6B: 596,049,920 parameters; with a head of its own 151,936 x 1,024 more."""
    words = [f"t{i}" for i in range(151_936)]
    pairs = {"general.architecture": "qwen3", **SIZES, "general.file_type": 15, "tokenizer.ggml.tokens": words}
    path = tmp_path / "Qwen3-0.6B-Q4_K_M.gguf"
    path.write_bytes(gguf(pairs, ["token_embd.weight", *(["output.weight"] if own_head else [])]))
    model = load_model(str(path))
    assert parameters_total(model) == 596_049_920 + own_head * 151_936 * 1024
    assert model.stored_weights == "q4_k_m"
    assert not model.assumed()


@pytest.mark.parametrize("cut", [3, 10, 40, 200])
def test_a_gguf_file_that_is_cut_off_says_so(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    path.write_bytes(gguf({"general.architecture": "qwen3", **SIZES}, ["token_embd.weight"])[:cut])
    with pytest.raises(PlannerError, match=r"GGUF|damaged"):
        load_model(str(path))


HEAD = {"general.architecture": "llama", **{key: value for key, value in GGUF.items() if key.startswith("llama.")}}
WHOLE = ["token_embd.weight", "output.weight"]


def test_each_format_of_llama_cpp_that_serving_knows_is_read_from_a_file(tmp_path: Path) -> None:
    numbers = {name.lower(): number for number, name in FILE_TYPES.items()}
    for name in (name for name, engine in ENGINES_OF_FORMATS.items() if engine == "llama.cpp"):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(gguf({**HEAD, "general.file_type": numbers[name]}, WHOLE))
        assert load_model(str(path)).stored_weights == name


@pytest.mark.parametrize(("name", "bits"), [("F32", 32), ("F16", 16), ("BF16", 16)])
def test_plain_matrices_of_a_file_weigh_what_they_say(name: str, bits: int, tmp_path: Path) -> None:
    """A converted file of full precision is twice one of 16 bit (llama.cpp, convert_hf_to_gguf.py --outtype f32)."""
    number = next(key for key, value in FILE_TYPES.items() if value == name)
    path = tmp_path / f"{name}.gguf"
    path.write_bytes(gguf({**HEAD, "general.file_type": number}, WHOLE))
    served = planner.serve(model=str(path), cluster="1xa100-80gb", serving={"prompt": 128, "output": 16, "engine": "llama.cpp"})
    assert served.weights_bytes == pytest.approx(bits / 8 * served.parameters_total, rel=1e-3)


@pytest.mark.parametrize(("number", "said"), [(12, "Q3_K_M"), (30, "IQ4_XS"), (77, "type 77"), (None, "without")])
def test_a_format_that_serving_does_not_know_is_said(number: int | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf({**HEAD, **({} if number is None else {"general.file_type": number})}, WHOLE))
    model = load_model(str(path))
    assert model.stored_weights == ""
    assert said in model.reading_notes[0]
    assert "16 bit" in model.reading_notes[0]


def test_a_file_in_parts_has_the_head_that_any_of_them_holds(tmp_path: Path) -> None:
    """llama-gguf-split: sizes stand in the first part, output.weight often in the last."""
    split = {"split.count": 2, "general.file_type": 15}
    first, second = (tmp_path / f"big-0000{n}-of-00002.gguf" for n in (1, 2))
    first.write_bytes(gguf({**HEAD, **split}, ["token_embd.weight"]))
    alone = load_model(str(first))
    assert "other parts" in alone.reading_notes[0]
    second.write_bytes(gguf({"split.count": 2, "split.no": 1}, ["output.weight"]))
    assert gguf_metadata(first)["output.weight"] is True
    with pytest.raises(PlannerError, match="give its first part"):
        load_model(str(second))
    second.write_bytes(gguf({"split.count": 2, "split.no": 1}, ["blk.31.ffn_norm.weight"]))
    assert gguf_metadata(first)["output.weight"] is False


def test_a_files_name_ends_in_capitals_as_well(tmp_path: Path) -> None:
    path = tmp_path / "MODEL.GGUF"
    path.write_bytes(gguf({**HEAD, "general.file_type": 15}, WHOLE))
    assert parameters_total(load_model(str(path))) == 8_030_261_248
    assert is_model(str(path))


def test_a_gguf_that_is_not_here_is_read_by_its_name_and_says_so() -> None:
    model = load_model("models/Llama-3-8B-Q4_K_M.gguf")
    assert (model.name, model.stored_weights) == ("llama-3-8b", "q4_k_m")
    assert "not here" in model.reading_notes[0]
    assert not load_model("llama-3-8b").reading_notes
