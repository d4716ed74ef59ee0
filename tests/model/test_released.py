"""The catalog's released models: equal to transformers' modules on the meta device, and to what their config.json says."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from meta_modules import on_meta
from published_configs import as_stored
from released_configs import RELEASED, STATED

from planner.model.catalog import load_model, model_names
from planner.model.huggingface import ENCODERS, SEQUENCE_TO_SEQUENCE, VISION, model_from_config
from planner.model.parameters import parameters_active, parameters_total


def modules_total(config: dict[str, Any]) -> int:
    """Parameters of the class that holds this configuration."""
    own = {k: v for k, v in config.items() if k != "model_type"}
    with on_meta():
        settings = transformers.AutoConfig.for_model(config["model_type"], **own)
        auto = transformers.AutoModelForCausalLM
        if "vision_config" in config or config["model_type"] in VISION:
            auto = transformers.AutoModelForImageTextToText
        elif config["model_type"] == "whisper":
            auto = transformers.AutoModelForSpeechSeq2Seq
        elif config["model_type"] in SEQUENCE_TO_SEQUENCE:
            auto = transformers.AutoModelForSeq2SeqLM
        elif config.get("architectures", [""])[0].endswith("Model"):
            auto = transformers.AutoModel
        elif config["model_type"] in ENCODERS:
            auto = transformers.AutoModelForMaskedLM
        return sum(weight.numel() for weight in auto.from_config(settings).parameters())


def shallow(config: dict[str, Any]) -> dict[str, Any]:
    """The same widths in four layers, where no list says what each layer is: building all layers of all would take minutes."""
    for key in ("num_hidden_layers", "n_layer", "num_layers", "n_layers"):
        text = config.get("text_config", config)
        whole = any(isinstance(value, list) for value in text.values()) or {"num_kv_shared_layers", "linear_attn_config"} & set(
            text
        )
        if key in text and not whole:
            cut = {**text, key: min(text[key], 6 if config["model_type"] == "gemma4" else 4)}  # its last layer is a full one
            return {**config, "text_config": cut} if "text_config" in config else cut
    return config


def test_every_released_model_has_transformers_count() -> None:
    counts = {}
    for name, (_, config) in RELEASED.items():
        few = shallow(config)
        counts[name] = (parameters_total(model_from_config(few, name, name)), modules_total(few))
    assert {name: pair for name, pair in counts.items() if pair[0] != pair[1]} == {}


HEADLESS = ("qwen3-embedding-0.6b",)
"""Its config names a class with a tied head, which its vectors do not pass (model card): the catalog leaves it away."""


def test_the_catalog_says_what_the_released_config_says() -> None:
    for name, (hub, config) in RELEASED.items():
        ours, theirs = load_model(name), model_from_config(as_stored(name, config), name, name)
        if name in HEADLESS:
            theirs = theirs.replaced(head="none", tied_embeddings=False)
        if theirs.modules == "t5" and not config["tie_word_embeddings"]:
            theirs = theirs.replaced(tied_embeddings=False)  # transformers 5 ties what it makes anew: the next test
        aside = {"name", "source", "provenance"}
        assert ours.model_dump(exclude=aside) == theirs.model_dump(exclude=aside), name
        assert hub in ours.source


BY_FAMILY = {"byt5-small", "byt5-base", "byt5-large", "byt5-xl", "byt5-xxl"}
"""Their output layer of 384 bytes is less than the rounding of the total that their release states: theirs as mT5's."""


def test_an_output_layer_of_its_own_is_in_the_total_that_the_release_states() -> None:
    """Of every T5 whose feed-forwards are gated: with a tied layer its total would be further from the stated one."""
    untold = set()
    for name, (_, config) in RELEASED.items():
        ours = load_model(name)
        if ours.modules != "t5" or config["tie_word_embeddings"]:
            continue
        total, tied = parameters_total(ours), parameters_total(ours.replaced(tied_embeddings=True))
        assert total - tied == ours.vocab_size * ours.hidden_size, name
        if total - tied < 0.005 * total:
            untold.add(name)
        else:
            assert abs(total - STATED[name]) < abs(tied - STATED[name]), name
    assert untold == BY_FAMILY


def test_the_catalog_holds_what_people_train_tune_and_serve() -> None:
    assert len(model_names()) >= 200


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("qwen3-next-80b-a3b", 80, 3.9),
        ("kimi-k2", 1026, 32.9),
        ("glm-4.5-air", 106.9, 13.4),
        ("minimax-m1", 456, 48.4),
        ("nemotron-3-nano-30b-a3b", 31.6, 3.6),
        ("nemotron-3-ultra-550b-a55b", 550, 55),
        ("granite-4.0-h-small", 32.2, 8.8),
        ("jamba-1.5-large", 398, 94.1),
        ("llama-4-scout", 107.8, 17.2),
        ("dots.llm1", 142.8, 14.0),
        ("solar-open-100b", 102.7, 12.1),
        ("deepseek-v3.2", 671.9, 38.4),
        ("deepseek-v4-pro", 1573, 49.8),
        ("deepseek-v4-flash", 284.3, 13.8),
        ("falcon-h1-34b", 33.6, 33.6),
        ("mamba-2.8b", 2.77, 2.77),
        ("command-r-plus", 103.8, 103.8),
    ],
)
def test_total_and_active_parameters_are_those_that_their_makers_publish(name: str, total: float, active: float) -> None:
    # billions, of the model cards, embeddings included (MiniMax-M1 and DeepSeek publish 45.9 and 37 without them)
    model = load_model(name)
    assert parameters_total(model) / 1e9 == pytest.approx(total, rel=0.01)
    assert parameters_active(model) / 1e9 == pytest.approx(active, rel=0.02)
