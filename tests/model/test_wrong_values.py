"""Any value of any field of a config.json is read, or named as wrong: no reader stumbles."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from planner.common.errors import PlannerError
from planner.model.huggingface import model_from_config
from planner.model.huggingface.source import defaults
from planner.model.parameters import parameters_active, parameters_total

NONSENSE: tuple[Any, ...] = (
    None, "", -1, 0, 3, 10**30, 2**63, 1.5, float("nan"), float("inf"), "abc", "12", True, [], [1], ["a"], [None], {},
    {"a": 1}, [{}],
)  # fmt: skip


KINDS = (
    "lfm2",
    "minimax",
    "deepseek_v4",
    "ernie4_5_moe",
    "t5",
    "gemma4_text",
    "mimo_v2_flash",
    "nemotron_h",
    "modernbert",
    "bart",
)
TABLES: dict[str, Any] = {
    "architectures": ["XForCausalLM"], "layer_types": ["full_attention"] * 4, "rope_parameters": {"rope_theta": 1e4},
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}  # fmt: skip
"""What files have beside the defaults of a type."""


def places(config: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in config.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


@pytest.mark.parametrize("kind", KINDS)
def test_any_value_of_any_field_is_read_or_named(kind: str) -> None:
    """Wrong types, signs and orders of magnitude, alone and two at once."""
    saved = {**TABLES, **{key: value for key, value in defaults()[kind].items() if key != "attribute_map"}, "model_type": kind}
    rng, where = random.Random(kind), list(places(saved))
    longest = 0
    for _ in range(60):
        config = copy.deepcopy(saved)
        for path in rng.sample(where, rng.choice((1, 1, 2))):
            table: Any = config
            for key in path[:-1]:
                table = table.get(key) if isinstance(table, dict) else None
            if isinstance(table, dict):
                table[path[-1]] = rng.choice(NONSENSE)
        try:
            model = model_from_config(config, kind, "config.json")
        except PlannerError as error:
            longest = max(longest, len(str(error)))
            continue
        assert 0 < parameters_active(model) <= parameters_total(model)
    assert longest <= 420


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_hidden_layers": 10**30}, "num_hidden_layers = 10^30"),
        ({"head_dim": float("nan")}, "head_dim = nan"),
        ({"layer_types": [[]]}, "layer_types"),
        ({"architectures": [[1]]}, "architectures"),
        ({"hidden_size": [64]}, "hidden_size"),
    ],
)
def test_a_wrong_value_is_named_with_its_field(change: dict[str, Any], named: str) -> None:
    config = {**GEMMA, **change}
    with pytest.raises(PlannerError) as caught:
        model_from_config(config, "x", "config.json")
    assert named in str(caught.value)


GEMMA: dict[str, Any] = {
    "model_type": "gemma3_text", "num_hidden_layers": 6, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "intermediate_size": 128, "vocab_size": 100,
}  # fmt: skip


def test_a_wrong_value_of_an_inner_table_is_named_with_its_table() -> None:
    vision = {"depth": 2, "hidden_size": 64, "num_heads": 4, "intermediate_size": 128, "deepstack_visual_indexes": 3}
    text = {**GEMMA, "model_type": "qwen3_vl_text"}
    with pytest.raises(PlannerError, match=r"vision_config\.deepstack_visual_indexes = 3"):
        model_from_config({"model_type": "qwen3_vl", "text_config": text, "vision_config": vision}, "x", "config.json")
