"""Decoders that one reader understands: what each family says beyond sizes, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from planner.common.errors import PlannerError
from planner.model.huggingface.reading import router_groups
from planner.model.huggingface.source import Source

Fields = dict[str, Any]
FULL, SLIDING, CHUNKED, LINEAR = "full_attention", "sliding_attention", "chunked_attention", "linear_attention"
SEES_ALL = (FULL, "indexed_attention", "deepseek_sparse_attention", "attention", "dense", "hybrid", "global")
RECURS = (LINEAR, "mamba", "recurrent", "conv")


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Which keys of a config tell of experts. ``dense``: how layers without them are named."""

    num: str = "num_experts"
    top_k: str = "num_experts_per_tok"
    width: str = "moe_intermediate_size"
    shared: str | None = None  # number of shared experts
    shared_width: str | None = None  # width of all shared experts together
    one_shared: bool = False  # one shared expert, as wide as a routed one
    gate: bool = False  # of the shared expert
    first: str | None = None  # dense layers in front
    first_default: int = 0
    bias: bool = False  # the router's, also where it only corrects the choice


Cycle = Callable[[Source, int], Sequence[str]]
"""Types of so many layers, where a key of the file says them."""


def every(key: str, otherwise: int, first: str = SLIDING) -> Cycle:
    """Full attention in every n-th layer, n by a key that files state beside layer_types or instead of it."""

    def cycle(s: Source, layers: int) -> Sequence[str]:
        period = s.get(key, otherwise)
        if not isinstance(period, int) or isinstance(period, bool) or period < 1:  # LLLG, of files that list the types too
            period = otherwise
        return (*(first,) * (period - 1), FULL)

    return cycle


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """One ``model_type`` that the common reader understands.

    ``fixed``: fields of the model that all of the family have. ``take``: field of the model -> key of the config (a flag).
    ``window``: ``always`` where sliding_window is set, ``types`` by layer_types, else by ``cycle``; ``never``; ``own``
    where ``more`` says it. ``more``: what no table says. ``like``: whose defaults hold. ``own``: defaults of a family that
    transformers has not.
    """

    fixed: Fields = field(default_factory=dict)
    take: Mapping[str, str] = field(default_factory=dict)
    window: str = "never"
    cycle: Sequence[str] | Cycle = (FULL,)
    experts: Experts | None = None
    more: Callable[[Source, Fields], Fields] | None = None
    like: str | None = None
    own: Fields | None = None
    ignore: tuple[str, ...] = ()
    dropout: bool = False  # of the residual stream

    def read(self, s: Source) -> Fields:
        """The model's fields."""
        fields = sizes(s)
        fields |= self.fixed
        fields |= {name: s.flag(key) for name, key in self.take.items()}
        if self.dropout:
            fields["hidden_dropout"] = s.rate("hidden_dropout")
        if self.experts is not None:
            fields |= experts(s, self.experts, fields["num_layers"])
        fields |= self._windows(s, fields["num_layers"])
        if self.more is not None:
            fields |= self.more(s, fields)
        s.ignore(*self.ignore)
        return fields

    def _windows(self, s: Source, layers: int) -> Fields:
        if self.window == "never":
            types = s.per_layer("layer_types", layers)
            if types is not None and any(t not in SEES_ALL and t not in RECURS for t in types):
                raise PlannerError(
                    "layer_types holds {0!r}: every layer of {1} attends to everything", _first_other(types), s.kind
                )
            return {}
        if self.window == "own":
            return {}
        if self.window == "always":
            size = s.optional("sliding_window")
            return {"sliding_window": size} if size else {}
        return windows(s, layer_types(s, layers, self.cycle(s, layers) if callable(self.cycle) else self.cycle))


def _first_other(types: Sequence[Any]) -> Any:
    return next(t for t in types if t not in SEES_ALL and t not in RECURS)


def sizes(s: Source) -> Fields:
    """Fields that all decoders share."""
    heads, hidden = s.count("num_attention_heads"), s.count("hidden_size")
    s.get("max_position_embeddings")
    return {
        "num_layers": s.count("num_hidden_layers"),
        "hidden_size": hidden,
        "vocab_size": s.count("vocab_size"),
        "num_heads": heads,
        "num_kv_heads": s.optional("num_key_value_heads") or heads,
        "head_dim": s.optional("head_dim") or hidden // heads,
        "ffn_hidden_size": _width(s),
        "activation": s.activation(),
        "tied_embeddings": s.flag("tie_word_embeddings"),
        "attention_dropout": s.rate("attention_dropout"),
    }


def _width(s: Source) -> int | None:
    """intermediate_size; where a list gives one for each layer, they must agree."""
    value = s.get("intermediate_size")
    if isinstance(value, list) and value and all(v == value[0] for v in value):
        s.config["intermediate_size"] = value[0]
    elif isinstance(value, list):
        raise PlannerError("intermediate_size differs between layers; give the model's fields in TOML, a variant for each width")
    return s.optional("intermediate_size")


def layer_types(s: Source, layers: int, cycle: Sequence[str], key: str = "layer_types") -> list[str]:
    """One type a layer: as listed, or the family's cycle."""
    listed = s.per_layer(key, layers)
    types = [str(t) for t in listed] if listed is not None else [cycle[i % len(cycle)] for i in range(layers)]
    for kind in types:
        if kind not in SEES_ALL and kind not in RECURS and kind not in (SLIDING, CHUNKED, "local"):
            raise PlannerError("{0} holds {1!r}; known are full_attention, sliding_attention and linear_attention", key, kind)
    return types


def windows(s: Source, types: Sequence[str], key: str = "sliding_window") -> Fields:
    """Window and which layers attend to everything."""
    slides = [t in (SLIDING, CHUNKED, "local") for t in types]
    size = s.optional(key)
    if size is None or not any(slides):
        return {}
    full = tuple(i for i, t in enumerate(types) if t in SEES_ALL)
    found: Fields = {"sliding_window": size}
    if CHUNKED in types:
        found["attention_chunked"] = True
    layers = len(types)
    if all(slides):
        return found
    for every in range(2, layers + 1):
        if full == tuple(range(every - 1, layers, every)):
            return {**found, "full_attention_every": every}
    return {**found, "full_attention_layers": full}


def experts(s: Source, e: Experts, layers: int) -> Fields:
    """Fields on experts; nothing where the config has none."""
    number = s.optional(e.num)
    if number is None:
        s.ignore(e.top_k, e.width)
        return {}
    found: Fields = {
        "num_experts": number,
        "top_k": s.count(e.top_k),
        "expert_ffn_hidden_size": s.count(e.width),
        "router_bias": e.bias,
        **router_groups(s.get("n_group"), s.get("topk_group")),
        **dense_layers(s, e, layers),
    }
    shared = s.optional(e.shared) if e.shared else 1 if e.one_shared else None
    if e.shared_width:
        width = s.optional(e.shared_width)
        if width and (shared or not e.shared):
            found |= {"num_shared_experts": 1, "shared_expert_ffn_hidden_size": width, "shared_expert_gate": e.gate}
    elif shared:
        found |= {"num_shared_experts": shared, "shared_expert_gate": e.gate}
    return found


def dense_layers(s: Source, e: Experts, layers: int) -> Fields:
    """Layers that keep a dense feed-forward: as mlp_layer_types lists, or the first ones, or as mlp_only_layers says."""
    listed = s.per_layer("mlp_layer_types", layers)
    if listed is not None:
        if e.first:
            s.get(e.first)
        return dense_from([t in ("dense", "mlp") for t in listed])
    if e.first:
        value = s.get(e.first, e.first_default)
        if isinstance(value, list):
            return dense_from([bool(x == 0) for x in value])
        return {"num_dense_layers": s.count(e.first, e.first_default, least=0)}
    if e.first_default:
        return {"num_dense_layers": e.first_default}
    only, step = s.get("mlp_only_layers") or [], s.count("decoder_sparse_step", 1)
    if not isinstance(only, list) or not all(isinstance(i, int) and 0 <= i < layers for i in only):
        raise PlannerError("mlp_only_layers = {0!r}: must list layers from 0 to {1}", only, layers - 1)
    return dense_from([i in only or (i + 1) % step != 0 for i in range(layers)])


def dense_from(dense: Sequence[bool]) -> Fields:
    """Fields for layers of which these are dense: the first ones, every second one, or a list."""
    if all(dense):
        return {"num_experts": 0, "top_k": 0, "expert_ffn_hidden_size": None, "num_shared_experts": 0, "router_bias": False}
    first = next(i for i, d in enumerate(dense) if not d)
    if not any(dense[first:]):
        return {"num_dense_layers": first} if first else {}
    for every in range(2, len(dense)):
        if all(d == ((i + 1) % every != 0) for i, d in enumerate(dense)):
            return {"moe_every": every}
    return {"dense_layers": tuple(i for i, d in enumerate(dense) if d)}


def pattern(letters: Sequence[str]) -> str:
    """The shortest cycle of letters that gives these layers."""
    for length in range(1, len(letters) + 1):
        if all(letter == letters[i % length] for i, letter in enumerate(letters)):
            return "".join(letters[:length])
    return ""


def marked(letters: Sequence[str], variants: Sequence[Fields]) -> Fields:
    """layer_pattern and the variants that occur in it."""
    present = [v for v in variants if v["letter"] in letters]
    return {"layer_pattern": pattern(letters), "variants": tuple(present)} if present else {}


BIAS = {"qkv_bias": "attention_bias", "attention_output_bias": "attention_bias"}
LLAMA_BIAS = {**BIAS, "ffn_bias": "mlp_bias"}
LATENT = {"attention": "mla"}
LAYERNORM: Fields = {"norm": "layernorm", "norm_bias": True}
PLAIN: Fields = {**LAYERNORM, "gated_ffn": False, "qkv_bias": True, "attention_output_bias": True, "ffn_bias": True}
HEAD_NORM = {"qk_norm": "head"}
OLMO_2 = {"qk_norm": "full", "norm_placement": "after"}
THREE_TO_ONE = (SLIDING, SLIDING, SLIDING, FULL)
GLM_EXPERTS = Experts(num="n_routed_experts", shared="n_shared_experts", first="first_k_dense_replace")
