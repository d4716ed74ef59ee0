"""A model's fields from the shapes of transformers' own modules, built on the meta device: nothing is loaded or computed.

Accepted only where every weight of a layer has a known role, the counted parameters are equal to the last one, and the
configuration's attention is one that the planner knows: full, or sliding by ``layer_types``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from planner.common.errors import PlannerError
from planner.model.architecture import Model
from planner.model.huggingface import ENCODERS, model_from_config
from planner.model.huggingface.decoders import Fields, dense_from, windows
from planner.model.huggingface.source import Source
from planner.model.parameters import parameters_total

Shapes = dict[str, tuple[int, ...]]
ROLES = (
    ("query", r"attn\.q_proj|attention\.q_proj|attn\.query"), ("key", r"attn\.k_proj|attention\.k_proj"),
    ("value", r"attn\.v_proj|attention\.v_proj"), ("qkv", r"qkv_proj|query_key_value|Wqkv|W_pack|c_attn"),
    ("output", r"attn\.(o_proj|out_proj|dense|c_proj|wo)|attention\.(o_proj|dense|wo)|attn\.Wo"),
    ("query_norm", r"q_norm|q_layernorm|query_norm"), ("key_norm", r"k_norm|k_layernorm|key_norm"), ("sinks", r"sinks"),
    ("shared_gate", r"shared_expert_gate"), ("shared_down", r"shared_experts?\.down_proj"),
    ("shared_up", r"shared_experts?\.(gate_proj|up_proj|gate_up_proj)"),
    ("experts_in", r"experts\.gate_up_proj|experts\.up_proj"), ("experts_out", r"experts\.down_proj"),
    ("router", r"mlp\.gate\.|router|block_sparse_moe\.gate\."),
    ("ffn_gate", r"mlp\.gate_proj|feed_forward\.(gate_proj|w1)"), ("ffn_both", r"gate_up_proj|mlp\.Wi"),
    ("ffn_in", r"up_proj|fc1|fc_in|c_fc|dense_h_to_4h|feed_forward\.w3"),
    ("ffn_out", r"down_proj|fc2|fc_out|mlp\.c_proj|dense_4h_to_h|feed_forward\.w2|mlp\.Wo"), ("norm", r"norm|ln_"),
)  # fmt: skip
"""Role of a weight in a layer by its name, first match."""
UNKNOWN_ATTENTION = re.compile(
    r"index_|compress|chunk_size$|alibi|relative|block_sparse|global_attn|mamba|linear_attn|conv|recurrent"
)
"""Parts of a configuration's fields that speak of attention, or of something in its place, that shapes do not show."""


def imported_model(config: Mapping[str, Any], name: str, where: str) -> tuple[Model, str]:
    """The model of a config.json, checked against transformers' modules: (model, how it was derived).

    Raises PlannerError where transformers is missing or refuses, where the planner's reader and the modules disagree, and where
    the modules hold what no field expresses.
    """
    shapes, settings, kind = _built(config, where)
    total = sum(_size(shape) for shape in shapes.values())
    try:
        model = model_from_config(config, name, where)
    except PlannerError as refused:
        fields = _fields(shapes, settings, where, str(refused))
        found = Model.build({"name": name, "source": f"modules of transformers' {kind}, on the meta device", **fields}, where)
        return _equal(found, total, where), "derived from module shapes"
    return _equal(model, total, where), "read from its fields"


def _equal(model: Model, total: int, where: str) -> Model:
    counted = parameters_total(model)
    if counted != total:
        raise PlannerError(
            "{0}: transformers' modules have {1:,} parameters, the planner's fields {2:,}; the model is not "
            "imported. Give its fields in TOML.",
            where,
            total,
            counted,
        )
    return model


def _built(config: Mapping[str, Any], where: str) -> tuple[Shapes, Any, str]:
    """Names and shapes of all weights, the configuration object, the class's name."""
    try:
        import torch
        import transformers
    except ImportError:
        raise PlannerError("planner models import needs transformers and torch: pip install transformers torch.") from None
    own = {
        k: v for k, v in config.items() if k not in ("model_type", "architectures", "quantization_config", "transformers_version")
    }
    try:
        settings = transformers.AutoConfig.for_model(str(config.get("model_type")), **own)
        with torch.device("meta"):
            built = _class_of(config, settings)(settings)
    except Exception as error:  # whatever a configuration's own code raises
        raise PlannerError(
            "{0}: transformers {1} cannot build it: {2}", where, transformers.__version__, str(error).splitlines()[0][:200]
        ) from None
    shapes = {key: tuple(weight.shape) for key, weight in built.named_parameters()}
    return shapes, settings, type(built).__name__


def _class_of(config: Mapping[str, Any], settings: Any) -> Any:
    """What makes the model: the class that the file names, where transformers has it for this configuration; else the one with
    the head that its family is read with."""
    import transformers

    named = config.get("architectures")
    named = getattr(transformers, str(named[0]), None) if isinstance(named, list) and named else None
    if getattr(named, "config_class", None) is type(settings):
        return named
    kind = type(settings)
    if isinstance(config.get("text_config"), Mapping):
        return transformers.AutoModelForImageTextToText.from_config
    if config.get("model_type") == "bert":  # read as the bare encoder
        return transformers.AutoModel.from_config
    for auto, known in (
        (transformers.AutoModelForMaskedLM, transformers.MODEL_FOR_MASKED_LM_MAPPING if _is_encoder(config) else ()),
        (transformers.AutoModelForSeq2SeqLM, transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING),
        (transformers.AutoModelForCausalLM, transformers.MODEL_FOR_CAUSAL_LM_MAPPING),
    ):
        if kind in known:
            return auto.from_config
    return transformers.AutoModelForImageTextToText.from_config


def _is_encoder(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") in ENCODERS and config.get("is_decoder") is not True


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _fields(shapes: Shapes, settings: Any, where: str, refused: str) -> Fields:
    """Fields that these shapes mean."""
    said = settings.to_dict()
    hidden_from_shapes = [key for key, value in said.items() if value and UNKNOWN_ATTENTION.search(key)]
    if hidden_from_shapes or getattr(settings, "is_encoder_decoder", False):
        because = ", ".join(hidden_from_shapes[:3]) or "an encoder-decoder"
        raise PlannerError("{0}: the planner does not know its attention ({1}); give its fields in TOML", where, because)
    layers: dict[int, dict[str, list[tuple[int, ...]]]] = {}
    rest: Shapes = {}
    for key, shape in shapes.items():
        match = re.match(r"^.*?(?:layers|h|blocks|layer)\.(\d+)\.(.*)$", key)
        if match is None:
            rest[key] = shape
            continue
        role = next((role for role, names in ROLES if re.search(names, match[2])), None)
        if role is None:
            raise PlannerError(
                "{0}: {1} is a weight whose role the planner does not know; give the model's fields in TOML", where, key
            )
        suffix = ".bias" if match[2].endswith("bias") else ""
        layers.setdefault(int(match[1]), {}).setdefault(role + suffix, []).append(shape)
    ordered = [layers[i] for i in sorted(layers)]
    if not ordered:
        raise PlannerError("{0}: its modules have no layers that the planner recognizes. {1}", where, refused)
    return _assembled(ordered, rest, Source(said, str(said.get("model_type")), {}), where)


def _assembled(layers: list[dict[str, list[tuple[int, ...]]]], rest: Shapes, s: Source, where: str) -> Fields:
    first = layers[0]
    hidden, heads = s.count("hidden_size"), s.count("num_attention_heads")
    kv = s.optional("num_key_value_heads") or heads
    if "qkv" in first:
        head_dim = max(first["qkv"][0]) // (heads + 2 * kv) if max(first["qkv"][0]) != hidden else hidden // heads
    elif "query" in first:
        head_dim = first["query"][0][0] // heads
        kv = first["key"][0][0] // head_dim
    else:
        raise PlannerError("{0}: a layer has no query projection that the planner recognizes; give its fields in TOML", where)
    words = next(shape for key, shape in rest.items() if len(shape) == 2)
    gated = "ffn_gate" in first or "ffn_both" in first or any("experts_in" in layer for layer in layers)
    norms = len(first.get("norm", ()))
    tied = not any("lm_head" in key or key.startswith("output") for key in rest)
    fields: Fields = {
        "num_layers": len(layers), "hidden_size": hidden, "vocab_size": words[0], "num_heads": heads, "num_kv_heads": kv,
        "head_dim": head_dim, "tied_embeddings": tied, "gated_ffn": gated, "norms_per_layer": max(norms, 1),
        "norm": "layernorm" if "norm.bias" in first else "rmsnorm", "norm_bias": "norm.bias" in first,
        "qkv_bias": "query.bias" in first or "qkv.bias" in first, "attention_output_bias": "output.bias" in first,
        "ffn_bias": any("ffn_out.bias" in layer for layer in layers), "attention_sinks": "sinks" in first,
        "head_bias": any("lm_head.bias" in key for key in rest), "activation": s.activation(),
        "position_embedding": "rotary", "parallel_attention": norms == 1,
    }  # fmt: skip
    if "query_norm" in first:
        fields["qk_norm"] = "head" if first["query_norm"][0][0] == head_dim else "full"
    dense = next((layer for layer in layers if "ffn_out" in layer and "experts_in" not in layer), None)
    if dense is not None:
        fields["ffn_hidden_size"] = (
            next(x for x in dense["ffn_out"][0] if x != hidden) if len(set(dense["ffn_out"][0])) > 1 else hidden
        )
    fields |= _experts(layers, s)
    types = s.per_layer("layer_types", len(layers))
    return {**fields, **(windows(s, types) if types else {})}


def _experts(layers: list[dict[str, list[tuple[int, ...]]]], s: Source) -> Fields:
    sparse = [layer for layer in layers if "experts_out" in layer]
    if not sparse:
        return {}
    number, a, b = sparse[0]["experts_out"][0]
    width = a if b == s.count("hidden_size") else b
    fields: Fields = {
        "num_experts": number, "top_k": s.count("num_experts_per_tok"), "expert_ffn_hidden_size": width,
        "router_bias": "router.bias" in sparse[0], **dense_from(["experts_out" not in layer for layer in layers]),
    }  # fmt: skip
    if "shared_down" in sparse[0]:
        fields |= {
            "num_shared_experts": 1,
            "shared_expert_ffn_hidden_size": sparse[0]["shared_down"][0][1],
            "shared_expert_gate": "shared_gate" in sparse[0],
        }
    return fields
