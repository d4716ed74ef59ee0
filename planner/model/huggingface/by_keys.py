"""A decoder of a type that no reader names, where its keys alone say what it is.

Only what is stated counts: no default of any family. A key that speaks of an architecture and is not one of these refuses the
file, and so does a choice that families make differently and that the file leaves open (which layers slide, whether the
feed-forward is gated, whether the head is tied). What families differ in and no key says are vectors: norms of queries and
keys, norms behind the blocks, biases of routers; they are a few parts in a million of the count and are said to be left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.common.errors import PlannerError
from planner.model.huggingface import special
from planner.model.huggingface.decoders import (
    CHUNKED,
    FULL,
    LINEAR,
    RECURS,
    SEES_ALL,
    SLIDING,
    Fields,
    dense_from,
    marked,
    sizes,
    windows,
)
from planner.model.huggingface.reading import class_name
from planner.model.huggingface.source import Source

NUMBER = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
CHOSEN = (
    "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "top_k_experts", "moe_k", "experts_per_token",
    "num_experts_per_topk",
)  # fmt: skip
WIDTH = ("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size", "expert_intermediate_size")
SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
SHARED_WIDTH = (
    "shared_expert_intermediate_size",
    "moe_shared_expert_intermediate_size",
    "share_expert_dim",
    "shared_intermediate_size",
)
FIRST_DENSE = ("first_k_dense_replace", "num_dense_layers")
EVERY_FULL = ("sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers")
GATED = ("silu", "gelu", "gelu_tanh")
"""Activations that follow RMS norms in a gated feed-forward only."""
STATED = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
LEFT_OUT = "norms of queries and keys, norms behind the blocks, gates and biases that no key states are left out"


def read_by_keys(config: Mapping[str, Any], kind: str) -> Fields:
    """Fields of the model. Raises PlannerError for what the keys leave open."""
    s = Source(config, kind, {})
    name = class_name(config)
    if not name.endswith("ForCausalLM"):
        raise PlannerError("architectures = {0!r}: only a ...ForCausalLM says that it is a decoder", [name] if name else [])
    for key in STATED:
        if s.get(key) is None:
            raise PlannerError("{0} is not stated", key)
    if s.get("tie_word_embeddings") is None:
        raise PlannerError("tie_word_embeddings is not stated, and families differ in it: add it to the file, true or false")
    blocks = s.get("hybrid_override_pattern") or s.get("layers_block_type")
    if isinstance(blocks, str) and s.get("ssm_state_size") is not None:
        s.ignore("mamba_hidden_act")
        fields = special.nemotron_h(s)
    else:
        fields = sizes(s)
        fields |= _norms_and_gates(s)
        types = _types(s, fields["num_layers"])
        fields |= _attention(s, fields, types)
        fields |= _biases(s, fields)
        fields |= _experts(s, fields["num_layers"], fields["ffn_hidden_size"])
    s.ignore("num_nextn_predict_layers", "mtp_num_hidden_layers", "use_sliding_window", "max_window_layers")
    for key in s.unread():
        raise PlannerError("what {0} changes is not known", key)
    fields["provenance"] = {
        "norms_per_layer": {"kind": "assumed", "source": f"no reader for {kind!r}: read by its keys; {LEFT_OUT}"}
    }
    return {k: v for k, v in fields.items() if v is not None}


def _first(s: Source, keys: Sequence[str]) -> tuple[str, int | None]:
    """The one of several names that the file has."""
    present = [key for key in keys if s.config.get(key) is not None]
    for key in present[1:]:
        if s.config[key] != s.config[present[0]]:
            raise PlannerError("{0} and {1} are two numbers of one thing", present[0], key)
    s.ignore(*present)
    return (present[0], s.optional(present[0])) if present else (keys[0], None)


def _norms_and_gates(s: Source) -> Fields:
    if not any(key in s.config for key in ("rms_norm_eps", "norm_eps", "rms_norm_epsilon", "layernorm_epsilon")):
        raise PlannerError("rms_norm_eps is not stated; with layer norms, biases and the order of blocks are open")
    if s.get("hidden_act") is None:
        raise PlannerError("hidden_act is not stated; whether the feed-forward is gated is open")
    activation = s.activation(otherwise="")
    if activation not in GATED:
        raise PlannerError("hidden_act = {0!r}: whether the feed-forward is gated is open", s.get("hidden_act"))
    gate = s.get("attn_output_gate", s.get("attention_output_gate", False))
    if gate not in (True, False):
        raise PlannerError("attn_output_gate = {0!r}: must be true or false", gate)
    normed = any(s.get(key) is True for key in ("use_qk_norm", "qk_norm", "qk_layernorm"))
    s.ignore("layernorm_epsilon")
    return {
        "attention_gate": "full" if gate else "none",
        "qk_norm": "head" if normed else "none",
    }


def _types(s: Source, layers: int) -> list[str]:
    """One type a layer: as listed, or by a stated interval; all full where nothing slides and nothing recurs."""
    listed = s.per_layer("layer_types", layers)
    recurs = s.optional("full_attention_interval")
    slides = s.optional("sliding_window")
    s.ignore("full_attention_interval")
    longest = s.get("max_position_embeddings")
    if slides and (s.get("use_sliding_window") is False or (isinstance(longest, int) and slides >= longest)):
        s.config.pop("sliding_window")
        slides = None
    _, every = _first(s, EVERY_FULL)
    if listed is not None:
        types = [str(t) for t in listed]
    elif recurs:
        types = [FULL if (i + 1) % recurs == 0 else LINEAR for i in range(layers)]
    elif slides and every:
        types = [FULL if (i + 1) % every == 0 else SLIDING for i in range(layers)]
    elif slides:
        raise PlannerError("sliding_window = {0}: which layers slide is not stated", slides)
    else:
        types = [FULL] * layers
    known = (*SEES_ALL, *RECURS, SLIDING, CHUNKED)
    other = next((t for t in types if t not in known), None)
    if other is not None:
        raise PlannerError("layer_types holds {0!r}", other)
    if not slides and SLIDING in types:
        raise PlannerError("sliding_window is not stated, and layer_types says that layers slide")
    return types


def _attention(s: Source, f: Fields, types: Sequence[str]) -> Fields:
    found: Fields = dict(windows(s, types, "attention_chunk_size" if CHUNKED in types else "sliding_window"))
    if s.get("kv_lora_rank"):
        found |= special.latent(s, f)
    if s.get("index_n_heads") or s.get("index_topk"):
        if "kv_lora_rank" not in found:
            raise PlannerError("index_n_heads without kv_lora_rank: what the indexer reads is open")
        found |= special.indexed(s, f)
    recurs = [t in RECURS for t in types]
    if not any(recurs):
        return found
    if found.get("variants"):
        raise PlannerError("layer_types: an indexer and layers that recur are not known together")
    return found | _recurrent(s, types, recurs)


def _recurrent(s: Source, types: Sequence[str], recurs: Sequence[bool]) -> Fields:
    """Gated delta net by its five sizes, Mamba-2 by its five."""
    letters = ["L" if r else "A" for r in recurs]
    if s.get("mamba_n_heads") and s.get("mamba_d_state"):
        s.ignore("attn_layer_indices")
        return special.bamba(s, {"num_layers": len(types)})
    if s.get("linear_num_value_heads") and LINEAR in types:
        if s.get("attn_output_gate") is None:
            raise PlannerError("attn_output_gate is not stated; families with a gated delta net differ in it")
        return {
            **special.delta_sizes(s),
            **marked(letters, [{"letter": "L", "mixer": "gated_delta_net", "attention_gate": "none"}]),
        }
    raise PlannerError("layer_types holds {0!r}: which block that is stays open", next(t for t in types if t in RECURS))


def _biases(s: Source, f: Fields) -> Fields:
    both = any(s.flag(key) for key in ("attention_bias", "use_bias") if key in s.config)
    query = s.flag("qkv_bias") if "qkv_bias" in s.config else both
    inner = any(s.flag(key) for key in ("mlp_bias", "use_bias") if key in s.config)
    return {"qkv_bias": query, "attention_output_bias": both, "ffn_bias": inner}


def _experts(s: Source, layers: int, dense_width: int | None) -> Fields:
    _, number = _first(s, NUMBER)
    names = (*CHOSEN, *WIDTH, *SHARED, *SHARED_WIDTH, *FIRST_DENSE)
    if number is None or (number == 1 and dense_width is not None):
        s.ignore(*(key for key in names if number or not s.config.get(key)))
        return {}
    chosen_key, chosen = _first(s, CHOSEN)
    if chosen is None:
        raise PlannerError("{0} is not stated", chosen_key)
    _, width = _first(s, WIDTH)
    _, shared = _first(s, SHARED)
    _, shared_width = _first(s, SHARED_WIDTH)
    if width is None and dense_width is None:
        raise PlannerError("{0} is not stated", WIDTH[0])
    found: Fields = {
        "num_experts": number,
        "top_k": chosen,
        "expert_ffn_hidden_size": width or dense_width,
        **_dense_layers(s, layers, width is not None and dense_width is not None),
    }
    if shared_width and (shared or 1) > 1:
        raise PlannerError("the width of the shared experts: whether it is one expert's or that of all of them is open")
    if shared_width or shared:
        found |= {
            "num_shared_experts": shared or 1,
            "shared_expert_ffn_hidden_size": shared_width or found["expert_ffn_hidden_size"],
        }
    return found


def _dense_layers(s: Source, layers: int, may_be_dense: bool) -> Fields:
    """Which layers have no experts, where the file says so; where it could and does not, it is refused."""
    listed = s.per_layer("mlp_layer_types", layers)
    first_key, first = _first(s, FIRST_DENSE)
    freq = s.get("moe_layer_freq")
    only, step = s.get("mlp_only_layers"), s.get("decoder_sparse_step")
    if listed is not None:
        return dense_from([t in ("dense", "mlp") for t in listed])
    if isinstance(freq, list):
        return dense_from([not x for x in s.per_layer("moe_layer_freq", layers) or ()])
    if freq not in (None, 1):
        raise PlannerError("moe_layer_freq = {0!r}: which layers have experts is open", freq)
    if only is not None or step is not None:
        step, chosen = s.count("decoder_sparse_step", 1), only or []
        if not isinstance(chosen, list):
            raise PlannerError("mlp_only_layers = {0!r}: must list layers", only)
        return dense_from([i in chosen or (i + 1) % step != 0 for i in range(layers)])
    if first_key in s.config:
        return {"num_dense_layers": first or 0}
    if may_be_dense:
        raise PlannerError("first_k_dense_replace is not stated: which layers have experts is open")
    return {}
