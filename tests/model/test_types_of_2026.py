"""Types of 2026: as many weights as transformers' modules on the meta device, and the layers that see everything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from meta_modules import on_meta
from serving_examples import deployment
from transformers import AutoConfig, AutoModelForImageTextToText

from planner.common.errors import PlannerError
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.huggingface import model_from_config
from planner.model.parameters import parameters_active, parameters_total
from planner.serving.kv_cache import replica_sequence_bytes

Config = dict[str, Any]
SIZES: Config = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "vocab_size": 300, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "sliding_window": 8,
}  # fmt: skip
LATENT: Config = {
    **{k: v for k, v in SIZES.items() if k not in ("num_key_value_heads", "head_dim", "sliding_window")},
    "kv_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "moe_intermediate_size": 32,
    "n_routed_experts": 8, "num_experts_per_tok": 2, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 4,
}  # fmt: skip
SEEN: Config = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 14}
SPARSE: Config = {"num_local_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "moe_hidden_size": 40}
ADAPTER: Config = {"out_hidden_size": 192, "projector_hidden_size": 80}
HEARD: Config = {"out_hidden_size": 64}
CASES: dict[str, Config] = {
    "muse_glimmer": {"text_config": SIZES, "vision_config": SEEN, **ADAPTER},
    "muse_spark": {"text_config": {**SIZES, **SPARSE}, "vision_config": SEEN, "audio_config": HEARD, **ADAPTER},
    "muse_spark, first layers dense": {
        "text_config": {**SIZES, **SPARSE, "mlp_layer_types": ["dense"] * 2 + ["sparse"] * 4}, "vision_config": SEEN,
        "audio_config": HEARD, **ADAPTER,
    },
    "mistral_large4": {"text_config": LATENT, "vision_config": {"model_type": "pixtral", **SEEN, "head_dim": 12}},
    "mistral_large4, other layers without positions": {
        "text_config": {**LATENT, "no_rope_layers": [1, 0, 1, 0, 1, 0]},
        "vision_config": {"model_type": "pixtral", **SEEN, "head_dim": 12},
    },
}  # fmt: skip
NOT_TEXT = ("vision", "audio", "multi_modal_projector")


def read(name: str) -> tuple[Model, int, int]:
    """The model as read, its weights in transformers, and those of its text alone."""
    kind = name.partition(",")[0]
    with on_meta():
        made = AutoModelForImageTextToText.from_config(AutoConfig.for_model(kind, **json.loads(json.dumps(CASES[name]))))
    saved = json.loads(json.dumps(made.config.to_dict(), default=str))
    weights = {key: weight.numel() for key, weight in made.named_parameters()}
    text = sum(n for key, n in weights.items() if not any(part in key for part in NOT_TEXT))
    return model_from_config({**saved, "model_type": kind}, "model", "config.json"), sum(weights.values()), text


@pytest.mark.parametrize("name", CASES)
def test_as_many_weights_as_transformers(name: str) -> None:
    """All of them, or of the text where the answer says that the encoders are left out."""
    model, all_of_them, text = read(name)
    assert parameters_total(model) == (text if "towers" in model.assumed() else all_of_them)
    assert ("towers" in model.assumed()) == name.startswith("muse_spark")


def test_layers_that_see_everything_are_counted_from_the_last() -> None:
    """transformers' muse_glimmer: full attention where (layers - 1 - i) % 4 == 0."""
    assert read("muse_glimmer")[0].full_attention_layers == (1, 5)


def test_a_layer_without_positions_keeps_no_part_for_them() -> None:
    """Mistral Large 4: 54 layers of 512 + 64 elements, 18 of 512; in each an indexer's key of 128 bytes and a 4-byte scale."""
    setting = deployment(load_model("mistral-large-4"), 8, tp=8, weights="fp8", kv_dtype="bf16")
    of_a_token = 2 * (54 * (512 + 64) + 18 * 512) + 72 * 132
    assert float(replica_sequence_bytes(setting, 8192.0)) == 8192 * of_a_token


def test_layers_that_share_one_latent_cache_are_refused() -> None:
    text = {**LATENT, "model_type": "mistral_large4_text", "kv_source_layers": [0, 0, 2, 2, 4, 4]}
    with pytest.raises(PlannerError, match="kv_source_layers"):
        model_from_config(text, "model", "config.json")


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("mistral-large-4", 1052e9, 52e9),  # mistralai/Mistral-Large-4-1T-A52B
        ("muse-spark-816b-a42b", 816e9, 42e9),  # meta-models/Muse-Spark-Open-816B-A42B
        ("muse-glimmer-30b", 30e9, 30e9),  # meta-models/Muse-Glimmer-30B
        ("laguna-s-2.1", 118e9, 8e9),  # poolside/Laguna-S-2.1
        ("laguna-xs.2", 33.4e9, 3e9),  # poolside/Laguna-XS.2, 33B-A3B
    ],
)
def test_totals_are_those_of_the_names(name: str, total: float, active: float) -> None:
    """A maker's active parameters may leave the two tables of words out."""
    model = load_model(name)
    words = 2 * model.vocab_size * model.hidden_size
    assert parameters_total(model) == pytest.approx(total, rel=0.01)
    assert parameters_active(model) - words <= active * 1.02 <= parameters_active(model) * 1.04


@pytest.mark.parametrize(("kind", "as_kind"), [("qwen3_8", "qwen3_5"), ("qwen3_8_moe", "qwen3_5_moe")])
def test_a_later_name_of_one_architecture(kind: str, as_kind: str) -> None:
    """Qwen3.6 and 3.8 keep Qwen3.5's modules: servers register them as such."""
    saved = json.loads(json.dumps(AutoConfig.for_model(as_kind).to_dict(), default=str))
    renamed = json.loads(json.dumps(saved).replace(f'"{as_kind}', f'"{kind}'))
    first, second = (model_from_config(c, "model", "config.json") for c in (saved, renamed))
    assert first.replaced(source="") == second.replaced(source="")
