"""Checks of single values of a config.json, and the parts that several families share: activation, head, windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from planner.errors import PlannerError

Config = Mapping[str, Any]

ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "swiglu": "silu", "gelu": "gelu", "relu": "relu", "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
}  # fmt: skip
# fields for which null means "as derived from the others", or "none"
NULLABLE = frozenset({
    "num_key_value_heads", "sliding_window", "head_dim", "q_lora_rank", "n_routed_experts", "n_inner", "num_kv_heads",
    "ffn_hidden_size", "word_embed_proj_dim", "num_ln_in_parallel_attn", "num_experts_per_tok", "n_shared_experts",
    "max_position_embeddings", "max_seq_len", "experts_per_token",
})  # fmt: skip
# whole numbers that are not among a family's defaults, because transformers' default is null or is derived
COUNTS = NULLABLE | {"max_window_layers"}
MAY_BE_ZERO = frozenset({
    "first_k_dense_replace", "n_shared_experts", "n_routed_experts", "num_experts", "type_vocab_size", "max_window_layers",
    "sliding_window", "max_position_embeddings",
})  # fmt: skip
RATES = frozenset({
    "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "emb_pdrop", "dropout",
    "hidden_dropout_prob", "attention_probs_dropout_prob",
})  # fmt: skip


class Reader(Protocol):
    """The part of a family that says which fields it reads."""

    @property
    def defaults(self) -> dict[str, Any]: ...
    @property
    def reads(self) -> frozenset[str]: ...


def check_values(config: Config, family: Reader) -> None:
    """Types and ranges of the fields that a family reads. Raises PlannerError naming field and value."""
    for key, value in config.items():
        if key not in family.defaults and key not in family.reads:
            continue
        default = family.defaults.get(key)
        if value is None and (key in NULLABLE or default is None):
            continue
        if key in RATES:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise PlannerError(f"{key} = {value!r}: must be a number from 0 to below 1")
        elif isinstance(default, bool):
            if not isinstance(value, bool):
                raise PlannerError(f"{key} = {value!r}: must be true or false")
        elif isinstance(default, int) or key in COUNTS:
            least = 0 if key in MAY_BE_ZERO else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise PlannerError(f"{key} = {value!r}: must be a whole number, at least {least}")


def activation(c: Config, key: str = "hidden_act") -> str:
    """Our name of an activation."""
    if not isinstance(c[key], str) or c[key] not in ACTIVATIONS:
        raise PlannerError(f"{key} = {c[key]!r}: known are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[c[key]]


def class_name(c: Config) -> str:
    """The first of ``architectures``, or nothing."""
    names = c.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise PlannerError(f"architectures = {names!r}: must be a list of class names")
    return names[0] if names else ""


def causal_head(c: Config, fields: dict[str, Any]) -> dict[str, Any]:
    """The head of a decoder: a language model's unless ``architectures`` names the bare model."""
    name = class_name(c)
    if not name or name.endswith(("ForCausalLM", "LMHeadModel")):
        return {"tied_embeddings": fields["tied_embeddings"]}
    if name.endswith("Model"):
        return {"head": "none", "tied_embeddings": False}
    raise PlannerError(f"architectures = [{name!r}]: the planner knows a decoder's ...ForCausalLM and ...Model")


def sliding(c: Config, types: Any, default_window: int | None = None) -> dict[str, Any]:
    """Window and which layers attend to everything, from ``layer_types`` (None: every layer slides)."""
    layers, window = c["num_hidden_layers"], c.get("sliding_window", default_window) or None
    if types is None:
        return {"sliding_window": window} if window else {}
    if not isinstance(types, list) or len(types) != layers:
        raise PlannerError(f"layer_types = {types!r}: must list {layers} layers")
    unknown = [t for t in types if t not in ("sliding_attention", "full_attention")]
    if unknown:
        raise PlannerError(f"layer_types holds {unknown[0]!r}; known are full_attention and sliding_attention")
    full = tuple(i for i, kind in enumerate(types) if kind == "full_attention")
    if window is None or len(full) == layers:
        return {}
    for every in range(2, layers + 1):
        if full == tuple(range(every - 1, layers, every)):
            return {"sliding_window": window, "full_attention_every": every}
    return {"sliding_window": window, "full_attention_layers": full}


def alternating(c: Config) -> list[str]:
    """``layer_types`` of gpt_oss and gemma2: sliding, full, sliding, full, ..."""
    return ["full_attention" if i % 2 else "sliding_attention" for i in range(c["num_hidden_layers"])]
