"""``planner models import`` counts with transformers' class of each family, or with the class that the file names."""

from __future__ import annotations

from typing import Any

import pytest

from planner.cli.module_shapes import imported_model

SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 211}
TWO = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", **SMALL},
        {"model_type": "llama", **SMALL, "architectures": ["LlamaForCausalLM"]},
        {"model_type": "bert", **SMALL},
        {"model_type": "bert", **SMALL, "architectures": ["BertForMaskedLM"]},
        {"model_type": "bert", **SMALL, "architectures": ["BertForSequenceClassification"]},
        {"model_type": "roberta", **SMALL},
        {"model_type": "distilbert", "n_layers": 2, "dim": 64, "n_heads": 4, "hidden_dim": 96, "vocab_size": 211},
        {"model_type": "deberta-v2", **SMALL},
        {"model_type": "deberta-v2", **SMALL, "architectures": ["DebertaV2ForSequenceClassification"]},
        {"model_type": "deberta-v2", **SMALL, "architectures": ["DebertaV2Model"]},
        {"model_type": "t5", "d_model": 64, "num_layers": 2, "num_heads": 4, "d_kv": 16, "d_ff": 96, "vocab_size": 211},
        {"model_type": "bart", **TWO, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "vocab_size": 211, **TOKENS},
    ],
    ids=lambda config: " ".join((config["model_type"], *config.get("architectures", ()))),
)
def test_each_family_is_checked_against_its_class(config: dict[str, Any]) -> None:
    assert imported_model(config, "small", "config.json")[1] == "read from its fields"
