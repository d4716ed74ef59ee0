"""Encoder-decoders are read with the count of transformers' own modules, cut to a few narrow layers of unequal stacks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from meta_modules import on_meta
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForSpeechSeq2Seq,
    AutoModelForTokenClassification,
    T5EncoderModel,
)

from planner.common.errors import PlannerError
from planner.model.huggingface import ENCODER_DECODERS, SEQUENCE_TO_SEQUENCE, known_types, model_from_config
from planner.model.parameters import parameters_active, parameters_total

T5 = {"num_layers": 2, "num_decoder_layers": 3, "d_model": 64, "d_ff": 100, "num_heads": 4, "d_kv": 8, "vocab_size": 1000}
BART = {
    "encoder_layers": 2, "decoder_layers": 3, "d_model": 64, "encoder_ffn_dim": 96, "decoder_ffn_dim": 100, "vocab_size": 1000,
    "encoder_attention_heads": 4, "decoder_attention_heads": 8, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
    "decoder_start_token_id": 2, "forced_eos_token_id": 2,
}  # fmt: skip
SPARSE = {"num_experts": 4, "encoder_sparse_step": 2, "decoder_sparse_step": 3}
GEMMA = {
    "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "vocab_size": 1000, "sliding_window": 32,
}  # fmt: skip
T5GEMMA = {
    "encoder": {**GEMMA, "num_hidden_layers": 2, "intermediate_size": 100}, "decoder": {**GEMMA, "num_hidden_layers": 3},
    "vocab_size": 1000,
}  # fmt: skip
OTHERS = ("t5gemma",)
CASES = [
    *((kind, T5 | {"feed_forward_proj": form}) for kind in ("t5", "mt5", "umt5") for form in ("relu", "gated-gelu")),
    *(
        (kind, BART | (SPARSE if kind == "nllb-moe" else {}))
        for kind in SEQUENCE_TO_SEQUENCE
        if not kind.endswith("t5") and kind not in OTHERS
    ),
    ("t5gemma", T5GEMMA),
]


def config_of(made: Any) -> dict[str, Any]:
    saved = json.loads(json.dumps(made.config.to_dict(), default=str))
    return {**saved, "architectures": [type(made).__name__]}


def built(auto: Any, settings: Any) -> Any:
    with on_meta():
        return auto.from_config(settings) if hasattr(auto, "from_config") else auto(settings)


@pytest.mark.parametrize(("kind", "sizes"), CASES)
def test_counts_are_those_of_transformers(kind: str, sizes: dict[str, Any]) -> None:
    settings = AutoConfig.for_model(kind, **sizes)
    for auto in (AutoModelForSpeechSeq2Seq if kind == "whisper" else AutoModelForSeq2SeqLM, AutoModel):
        made = built(auto, settings)
        model = model_from_config(config_of(made), kind, "config.json")
        assert parameters_total(model) == sum(weight.numel() for weight in made.parameters()), type(made).__name__
        assert (model.num_encoder_layers, model.num_layers) == (2, 5)


def test_the_encoder_of_t5_alone() -> None:
    made = built(T5EncoderModel, AutoConfig.for_model("t5", **T5))
    model = model_from_config(config_of(made), "t5", "config.json")
    assert model.architecture == "encoder"
    assert parameters_total(model) == sum(weight.numel() for weight in made.parameters())


def test_a_token_passes_two_experts() -> None:
    """NLLB-MoE: of each sparse layer all but two experts are idle: two matrices and two biases."""
    model = model_from_config({"model_type": "nllb-moe", **BART, **SPARSE}, "x", "config.json")
    idle = 2 * (2 * 64 * 96 + 96 + 64) + 2 * (2 * 64 * 100 + 100 + 64)
    assert parameters_active(model) == parameters_total(model) - idle


def test_published_sizes() -> None:
    """T5-11B (Raffel et al. 2020, section 2.3: 24 layers each, d_ff 65,536, 128 heads of 128) and BART-large (406 M)."""
    t5 = {"model_type": "t5", "num_layers": 24, "d_model": 1024, "d_ff": 65536, "num_heads": 128, "d_kv": 128}
    assert parameters_total(model_from_config(t5, "t5-11b", "config.json")) == pytest.approx(11e9, rel=0.03)
    assert parameters_total(model_from_config({"model_type": "bart"}, "bart", "config.json")) == pytest.approx(406e6, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "t5", "feed_forward_proj": "gated-snake"}, "feed_forward_proj"),
        ({"model_type": "bart", "architectures": ["BartForSequenceClassification"]}, "architectures"),
        ({"model_type": "marian", "share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings"),
        ({"model_type": "unheard_of", "is_encoder_decoder": True, "hidden_size": 64}, "cross_attention"),
    ],
)
def test_what_is_not_read_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(PlannerError, match=named) as caught:
        model_from_config(changes, "x", "config.json")
    assert len(str(caught.value)) <= 400


def test_t5gemma_has_the_parameters_of_its_checkpoints() -> None:
    """Hugging Face's count of the safetensors of google/t5gemma-b-b-prefixlm: 591,490,560."""
    base = {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 2048, "num_attention_heads": 12, "head_dim": 64}
    stack = {**base, "num_key_value_heads": 12, "vocab_size": 256000}
    model = model_from_config({"model_type": "t5gemma", "encoder": stack, "decoder": stack, "vocab_size": 256000}, "x", "x")
    assert parameters_total(model) == 591_490_560


def test_t5gemma_of_unequal_widths_is_refused() -> None:
    wide = {**T5GEMMA, "model_type": "t5gemma", "encoder": {**GEMMA, "num_hidden_layers": 2, "hidden_size": 96}}
    with pytest.raises(PlannerError, match="between equal widths"):
        model_from_config(wide, "x", "config.json")


def test_windows_are_in_the_encoder_of_led_and_in_the_decoder_of_t5gemma() -> None:
    led = model_from_config({"model_type": "led", **BART, "attention_window": [32, 32]}, "x", "config.json")
    assert [kind.sliding for kind in led.layer_kinds] == [True, True, False, False, False]
    assert led.sliding_window == 32
    gemma = model_from_config({"model_type": "t5gemma", **T5GEMMA}, "x", "config.json")
    assert [kind.sliding for kind in gemma.layer_kinds] == [False, False, True, False, True]
    with pytest.raises(PlannerError, match="attention_window"):
        model_from_config({"model_type": "led", **BART, "attention_window": [32, 64]}, "x", "config.json")


NARROW = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 1000}
HEADS = (
    AutoModelForMaskedLM, AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification,
)  # fmt: skip


@pytest.mark.parametrize("auto", HEADS)
@pytest.mark.parametrize(("kind", "window"), [("longformer", 512), ("big_bird", 512)])
def test_encoders_with_windows_have_transformers_count(kind: str, window: int, auto: Any) -> None:
    """BigBird: 3 + 2 + 3 blocks of 64 (arXiv 2007.14062, table 1: ITC)."""
    made = built(auto, AutoConfig.for_model(kind, **NARROW))
    model = model_from_config(config_of(made), kind, "config.json")
    assert parameters_total(model) == sum(weight.numel() for weight in made.parameters()), type(made).__name__
    assert model.sliding_window == window
    assert model.assumed()


def test_what_is_read_is_not_refused() -> None:
    assert not set(ENCODER_DECODERS) & set(known_types())
