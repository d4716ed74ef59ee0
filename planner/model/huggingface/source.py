"""One config.json being read: typed access, transformers' defaults, and what nobody asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from planner.common.errors import PlannerError
from planner.model.huggingface.reading import ACTIVATIONS, IRRELEVANT, ONLY

Config = Mapping[str, Any]
DEFAULTS = Path(__file__).with_name("defaults.json")

SYNONYMS: dict[str, tuple[str, ...]] = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"), "hidden_size": ("n_embd", "d_model", "dim"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads", "attention_heads"),
    "intermediate_size": ("n_inner", "ffn_dim", "hidden_dim", "ffn_hidden_size", "d_ff"),
    "n_routed_experts": ("num_experts", "num_local_experts"), "sliding_window": ("sliding_window_size",),
    "head_dim": ("attention_head_dim", "kv_channels"),
    "max_position_embeddings": ("n_positions", "max_sequence_length", "model_max_length", "context_length", "seq_length"),
    "hidden_act": ("hidden_activation", "activation_function", "activation", "mlp_hidden_act", "afn"),
    "hidden_dropout": ("hidden_dropout_prob", "resid_pdrop", "residual_dropout", "resid_dropout", "dropout"),
    "attention_dropout": ("attention_probs_dropout_prob", "attn_pdrop", "attention_dropout_prob"),
}  # fmt: skip
"""Second names of what every family has."""

LOOSE = frozenset(("hidden_act",))
"""Fields whose second names may disagree: transformers reads the one that its class has."""

ARCHITECTURE = re.compile(
    r"expert|moe|layer|head|hidden|size|dim|rank|window|bias|attn|attention|norm|ffn|mlp|conv|ssm|state|mamba|linear|vision|"
    r"audio|encoder|decoder_(?!start)|sparse|pattern|block|chunk|kernel|width|depth|memory|lora|tower|tie_|vocab|embed|compress|"
    r"group|factor|multiplier|text_config|cross|^hc_"
)
"""Parts of names that speak of an architecture: an unknown field with one of them is refused, any other is set aside."""


@cache
def defaults() -> dict[str, dict[str, Any]]:
    """Defaults of transformers' configuration classes by ``model_type``, without those that follow from other fields.

    Written by ``benchmarks/config_defaults.py`` from the release that its first entry names.
    """
    found: dict[str, dict[str, Any]] = json.loads(DEFAULTS.read_text(encoding="utf-8"))
    return found


class Source:
    """A config.json of one family: what it says, else transformers' default; remembers which fields were asked for.

    Accessors raise PlannerError that names field and value.
    """

    def __init__(self, config: Config, kind: str, own: Config | None = None) -> None:
        stated = dict(own) if own is not None else dict(defaults().get(kind, {}))
        self.kind = kind
        self.aliases: dict[str, str] = stated.pop("attribute_map", {})
        self.default = stated
        self.config = dict(config)
        self.used: set[str] = set(SYNONYMS["max_position_embeddings"]) | {"max_position_embeddings"}

    def names(self, key: str) -> tuple[str, ...]:
        """The names that one field may have here, its own first."""
        mapped = [alias for alias, name in self.aliases.items() if name == key]
        target = [self.aliases[key]] if key in self.aliases else []
        return tuple(dict.fromkeys((key, *target, *mapped, *SYNONYMS.get(key, ()))))

    def get(self, key: str, otherwise: Any = None) -> Any:
        """The value, transformers' default, or ``otherwise``; two names of one field must agree."""
        found: Any = None
        where = ""
        for name in self.names(key):
            if name not in self.config:
                continue
            self.used.add(name)
            value = self.config[name]
            if where and value is not None and found is not None and value != found and key not in LOOSE:
                raise PlannerError("{0} = {1!r} and {2} = {3!r} name one thing; keep one of them", where, found, name, value)
            if (value is not None and (found is None or name in self.default)) or not where:
                found, where = (value, name) if value is not None else (found, where or name)
        if where and found is not None:
            return found
        if where and key in self.config and self.config[key] is None:
            return otherwise
        return next((self.default[n] for n in self.names(key) if n in self.default), otherwise)

    def count(self, key: str, otherwise: int | None = None, least: int = 1) -> int:
        """A whole number."""
        value = self.get(key, otherwise)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise PlannerError("{0} = {1!r}: must be a whole number, at least {2}", key, value, least)
        return value

    def optional(self, key: str, otherwise: int | None = None) -> int | None:
        """A whole number, or None where the field is absent, null or 0."""
        value = self.get(key, otherwise)
        if value is None or value == 0:
            return None
        return self.count(key, otherwise)

    def flag(self, key: str, otherwise: bool = False) -> bool:
        """True or false."""
        value = self.get(key, otherwise)
        if not isinstance(value, bool):
            raise PlannerError("{0} = {1!r}: must be true or false", key, value)
        return value

    def rate(self, key: str, otherwise: float = 0.0) -> float:
        """A dropout."""
        value = self.get(key, otherwise)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise PlannerError("{0} = {1!r}: must be a number from 0 to below 1", key, value)
        return float(value)

    def activation(self, key: str = "hidden_act", otherwise: str = "silu") -> str:
        """Our name of an activation."""
        value = self.get(key, otherwise)
        if not isinstance(value, str) or value not in ACTIVATIONS:
            raise PlannerError("{0} = {1!r}: known are {2}", key, value, ", ".join(ACTIVATIONS))
        return ACTIVATIONS[value]

    def per_layer(self, key: str, length: int) -> list[Any] | None:
        """A list with one entry a layer, or None."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != length:
            shown = f"{len(value)} entries" if isinstance(value, list) else repr(value)
            raise PlannerError("{0} = {1}: must list {2} layers", key, shown, length)
        return value

    def only(self, key: str, *allowed: Any) -> None:
        """Refuse any other value than these."""
        value = self.get(key, allowed[0])
        if value not in allowed:
            raise PlannerError(
                "{0} = {1!r}: the planner cannot express this for {2}; it knows {3!r}", key, value, self.kind, allowed[0]
            )

    def ignore(self, *keys: str) -> None:
        """Fields without effect in this family."""
        self.used.update(keys)

    def left(self) -> tuple[str, ...]:
        """Fields that were set aside because they do not speak of an architecture. Raises PlannerError for the others."""
        aside = self.unread()
        for key in aside:
            if key in ONLY or ARCHITECTURE.search(key):
                raise unknown(key, self.config[key], self.kind)
        return aside

    def unread(self) -> tuple[str, ...]:
        """Fields that nobody asked for and that may mean something."""
        return tuple(
            key
            for key, value in self.config.items()
            if not (key in self.used or key in IRRELEVANT or harmless(key, value))
            and not (key in self.default and value == self.default[key])
            and not (key in ONLY and value in ONLY[key])
        )


def harmless(key: str, value: Any) -> bool:
    """Nothing is said, or something about tokens, numerics or bookkeeping."""
    if value is None or value is False or value in ({}, [], "", 0):
        return True
    return bool(HARMLESS.search(key))


HARMLESS = re.compile(
    r"_token_ids?$|_token_index$|_token$|^token_|_token_id_list$|_init|init_|^rope|rope_|^rotary|_eps$|eps$|_epsilon$|_std$|dtype|_loss|_coef$|"
    r"_alpha$|_limit$|_scale$|scaling|^quantization_config$|^unsloth|^transformers|tokenizer|^is_llama_config$|^use_cache|"
    r"^tf_|^auto_map$|_penalty$|^_|^version$|_version$|_loss_|implementation|^generation|checkpoint|softmax_in_fp32$|^fused|^use_fused|_jitter|"
    r"^pooler_|^context_window|^prefill_chunk|^directionality$|_sink_size$|^full_attn_mod$|^bias_dropout|^mup|multiplier$|softcap|soft_cap|temperature|_freeze|^mtp_|^nextn|nextn_predict|kernels$|^use_mamba|flash_att|mambapy|_dtype$|time_step_(min|max|floor|limit|init)"
)
"""Names of fields that change neither parameters, flops nor bytes: tokens, initial values, angles, scales, numerics."""


def unknown(key: str, value: Any, kind: str) -> PlannerError:
    """What is said of a field that nothing reads."""
    shown = repr(value)
    if len(shown) > 60:
        shown = f"{shown[:57]}..."
    return PlannerError(
        "{0} = {1} is no field that the planner knows for model_type = {2!r}, and its name speaks of an "
        "architecture. Remove it if it changes nothing, or give the model's fields in TOML (planner models import "
        "tries to derive them)",
        key,
        shown,
        kind,
    )
