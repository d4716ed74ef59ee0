"""Models from Hugging Face's config.json: one reader per family, with transformers' defaults and no silent guesses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.common.errors import PlannerError, near
from planner.model.architecture import Model
from planner.model.huggingface.families import FAMILIES, Family
from planner.model.huggingface.reading import HINTS, IRRELEVANT, ONLY, causal_head, check_values

__all__ = ["FAMILIES", "model_from_config"]

Config = Mapping[str, Any]
MODULES = {
    "mixtral": "mixtral", "deepseek_v2": "deepseek", "deepseek_v3": "deepseek", "gpt2": "gpt2", "gpt_neox": "gpt_neox",
    "mpt": "mpt", "bloom": "falcon", "falcon": "falcon", "opt": "opt", "bert": "bert", "internlm2": "internlm2", "phi3": "phi3",
}  # fmt: skip
"""Families whose linear layers are not named as llama's (``model.modules``)."""


def model_from_config(config: Config, name: str, where: str) -> Model:
    """The model that ``config`` (a parsed config.json) describes.

    Fields that are absent take transformers' defaults for that ``model_type``; ``architectures`` chooses the head
    (absent: the language model's, for BERT the bare encoder with its pooler). DeepSeek's multi-token-prediction layers are
    left out, as transformers does; ``source`` says so. Raises PlannerError naming ``where``, the field and the value:
    unknown model_type, a field that the planner cannot express, a wrong type or number.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise PlannerError(f"{where}: model_type = {kind!r} is not supported; {near(str(kind), FAMILIES)}.")
    family = FAMILIES[kind]
    _refuse_unknown(config, family, kind, where)
    try:
        filled = {**family.defaults, **_renamed(config, family)}
        check_values(filled, family)
        fields = family.build(filled)
        if fields.get("architecture") != "encoder":
            fields |= causal_head(filled, fields)
    except PlannerError as error:
        raise PlannerError(f"{where}: {error}") from None
    named = {"modules": MODULES[kind]} if kind in MODULES else {}
    allowed = config.get("max_position_embeddings")
    if isinstance(allowed, int) and not isinstance(allowed, bool) and allowed > 0:
        fields["context_length"] = allowed
    return Model.build({"name": name, "source": _source(config, kind), **named, **fields}, where)


def _source(config: Config, kind: str) -> str:
    left_out = config.get("num_nextn_predict_layers")
    note = f", without its {left_out} multi-token-prediction layer(s)" if left_out else ""
    return f"Hugging Face config.json ({kind}){note}"


def _renamed(config: Config, family: Family) -> dict[str, Any]:
    """The config with transformers' second names (``attribute_map``) replaced by the first."""
    renamed = {k: v for k, v in config.items() if k not in family.aliases}
    for alias, key in family.aliases.items():
        if alias in config and renamed.setdefault(key, config[alias]) != config[alias]:
            raise PlannerError(f"{alias} = {config[alias]!r} and {key} = {renamed[key]!r} name one thing; keep one of them")
    return renamed


def _refuse_unknown(config: Config, family: Family, kind: str, where: str) -> None:
    for key, value in config.items():
        if key in family.defaults or key in family.reads or key in family.aliases or key in IRRELEVANT:
            continue
        if key in ONLY:
            if value not in ONLY[key]:
                raise PlannerError(
                    f"{where}: {key} = {value!r}: the planner cannot express this for {kind}; it knows {ONLY[key][0]!r}."
                    + HINTS.get(key, "")
                )
            continue
        if key == "layer_types" and isinstance(value, list) and all(t == "full_attention" for t in value):
            continue
        if key == "quantization_config" and family.stores_quantized:
            continue
        if value is None or value is False:
            continue
        hint = HINTS.get(key, " Remove it if it has no effect on the architecture, or give the model's fields in TOML.")
        raise PlannerError(
            f"{where}: {key} = {value!r} is not a field that the planner can express for model_type = {kind!r}.{hint}"
        )
