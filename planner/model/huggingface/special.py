"""What single families of decoders say beyond sizes and flags: latent attention, hybrids, layers of different widths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planner.common.errors import PlannerError
from planner.model.huggingface.decoders import (
    CHUNKED,
    FULL,
    LINEAR,
    RECURS,
    SLIDING,
    Fields,
    dense_from,
    layer_types,
    marked,
    windows,
)
from planner.model.huggingface.source import Source


def latent(s: Source, f: Fields) -> Fields:
    """Sizes of multi-head latent attention."""
    found: Fields = {k: s.count(k) for k in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")}
    rank = s.optional("q_lora_rank")
    s.get("qk_head_dim"), s.get("head_dim"), s.get("num_key_value_heads")
    return {**found, **({"q_lora_rank": rank} if rank else {}), "attention": "mla", "num_kv_heads": None, "head_dim": None}


def axk1(s: Source, f: Fields) -> Fields:
    """A.X K1: latent attention; layers with experts have a third norm behind them."""
    dense = f.get("num_dense_layers", 0)
    letters = ["A" if i < dense else "S" for i in range(f["num_layers"])]
    return {**latent(s, f), **marked(letters, [{"letter": "S", "norms_per_layer": 3}])}


def apertus(s: Source, f: Fields) -> Fields:
    """Apertus: its activation, xIELU, has two numbers that train; another one that a file names has none."""
    return {"layer_vectors": 2 if s.get("hidden_act", "xielu") == "xielu" else 0}


def bitnet(s: Source, f: Fields) -> Fields:
    """BitNet: a norm inside the feed-forward, and one of the heads' output that is as long as the residual stream."""
    return {"layer_vectors": f["ffn_hidden_size"] + f["hidden_size"] - f["num_heads"] * f["head_dim"]}


def biogpt(s: Source, f: Fields) -> Fields:
    """Two rows in front of the position table, as OPT's."""
    rows = s.count("max_position_embeddings") + 2
    return {"position_embedding": "learned", "max_positions": rows, "position_offset": 2}


def gpt1(s: Source, f: Fields) -> Fields:
    return {
        "position_embedding": "learned",
        "max_positions": s.count("max_position_embeddings"),
        "ffn_hidden_size": f["ffn_hidden_size"] or 4 * f["hidden_size"],
    }


def cohere_experts(s: Source, f: Fields) -> Fields:
    s.only("prefix_dense_intermediate_size", None)
    s.ignore("sliding_window_pattern", "prefix_dense_sliding_window_pattern", "shared_expert_combination_strategy")
    return {}


def cohere_types(s: Source, layers: int) -> list[str]:
    """Windows but in every so many layers, counted anew behind the dense layers in front."""
    dense = min(s.count("first_k_dense_replace", 0, least=0), layers)
    first, then = s.count("prefix_dense_sliding_window_pattern", 1), s.count("sliding_window_pattern", 4)
    return [
        FULL if (i + 1 if i < dense else i - dense + 1) % (first if i < dense else then) == 0 else SLIDING for i in range(layers)
    ]


def beam_types(s: Source, layers: int) -> list[str]:
    """Full attention in every sixth layer and in the last."""
    return [FULL if (i + 1) % 6 == 0 or i == layers - 1 else SLIDING for i in range(layers)]


def flint_types(s: Source, layers: int) -> list[str]:
    """Full attention in the first two layers, in every fourth from the second, and in the last."""
    return [FULL if i == 0 or i % 4 == 1 or i == layers - 1 else SLIDING for i in range(layers)]


def indexed(s: Source, f: Fields) -> Fields:
    """Latent attention with the lightning indexer; GLM-5.2 shares one indexer among several layers."""
    found = latent(s, f)
    found |= {
        "index_num_heads": s.count("index_n_heads"),
        "index_head_dim": s.count("index_head_dim"),
        "index_top_k": s.count("index_topk"),
    }
    layers = f["num_layers"]
    kinds = s.per_layer("indexer_types", layers)
    every, offset = s.optional("index_topk_freq"), s.get("index_skip_topk_offset", 0)
    s.ignore("index_topk_pattern", "index_share_for_mtp_iteration", "indexer_rope_interleave", "layer_types")
    if kinds is None and every and every > 1:
        kinds = ["full" if max(i - offset + 1, 0) % every == 0 else "shared" for i in range(layers)]
    if kinds is not None:
        found |= marked(["A" if k == "full" else "S" for k in kinds], [{"letter": "S", "index_num_heads": 0}])
    return found


def mistral_large4(s: Source, f: Fields) -> Fields:
    """Mistral Large 4: an indexer in every layer whose queries read the stream through a norm, scales of the softmax by
    position, and every fourth layer without positions, whose latent vector is all of a key."""
    layers, every = f["num_layers"], s.optional("no_rope_layer_interval") or 4
    turned = s.per_layer("no_rope_layers", layers) or [int((i + 1) % every != 0) for i in range(layers)]
    sources = s.per_layer("kv_source_layers", layers)
    if sources not in (None, list(range(layers))):
        raise PlannerError("kv_source_layers = {0!r}: layers that share one latent cache are not known", sources)
    s.config.pop("q_lora_rank", None)
    found = indexed(s, f)
    nope, rope = found["qk_nope_head_dim"], found["qk_rope_head_dim"]
    if found.get("variants"):
        raise PlannerError("indexer_types: layers that share an indexer are not known beside layers without positions")
    s.ignore("no_rope_layer_interval")
    return {
        **found,
        "layer_vectors": 2 * f["hidden_size"] + 2 * found["index_num_heads"] + 2 * f["num_heads"],
        "model_vectors": rope // 2,
        **marked(["A" if t else "N" for t in turned], [{"letter": "N", "qk_nope_head_dim": nope + rope, "qk_rope_head_dim": 0}]),
    }


def from_the_last(s: Source, f: Fields) -> Fields:
    """Windows in three of four layers, counted from the last, which attends to everything (Muse Glimmer)."""
    layers = f["num_layers"]
    return windows(s, layer_types(s, layers, [SLIDING if (layers - 1 - i) % 4 else FULL for i in range(layers)]))


def muse_spark(s: Source, f: Fields) -> Fields:
    """Muse Spark: experts on narrower vectors between two norms, a gate for each element of both residual sums."""
    hidden, narrow = f["hidden_size"], s.count("moe_hidden_size")
    dense = [t == "dense" for t in s.per_layer("mlp_layer_types", f["num_layers"]) or ()]
    letters = ["D" if d else "A" for d in dense]
    return {
        **from_the_last(s, f),
        "expert_latent_size": narrow,
        "layer_vectors": hidden + 2 * narrow,  # two gates, less the norm behind attention, which has no weight; two norms
        **marked(letters, [{"letter": "D", "layer_vectors": hidden}]),
    }


def mllama(s: Source, f: Fields) -> Fields:
    """Llama 3.2 Vision: between layers of Llama 3.1 some attend to the image instead, with norms of queries and keys and a
    learned scale of both residual sums; eight rows of words that the head has not, one of them the image's."""
    layers = f["num_layers"]
    chosen = s.get("cross_attention_layers", [3, 8, 13, 18, 23, 28, 33, 38])
    if not isinstance(chosen, list) or not all(isinstance(i, int) and 0 <= i < layers for i in chosen):
        raise PlannerError("cross_attention_layers = {0!r}: must list layers from 0 to {1}", chosen, layers - 1)
    s.only("dropout", 0, 0.0)
    variant = {"letter": "I", "image_attention": True, "position_embedding": "none", "qk_norm": "head", "layer_vectors": 2}
    return {
        "model_vectors": 8 * f["hidden_size"],
        **marked(["I" if i in chosen else "A" for i in range(layers)], [variant]),
    }


def compressed(s: Source, f: Fields) -> Fields:
    """DeepSeek-V4: one key beside a window, compressed ones behind it (CSA picks by an indexer, HCA takes all), grouped
    outputs, hyper-connections. The first layers choose experts by the token's number: a table that does not train."""
    layers = f["num_layers"]
    types = _compressed_types(s, layers)
    rates = s.get("compress_rates") or {}
    few = rates.get("compressed_sparse_attention", s.count("compress_rate_csa", 4))
    many = rates.get("heavily_compressed_attention", s.count("compress_rate_hca", 128))
    s.only("scoring_func", "sqrtsoftplus", "softmax", "sigmoid")
    s.only("n_shared_experts", 1)
    s.only("attention_bias", False)
    s.ignore(
        "qk_rope_head_dim", "hc_sinkhorn_iters", "hc_eps", "num_hash_layers", "topk_method", "expert_dtype", "mlp_layer_types"
    )
    s.ignore("compress_rope_theta", "intermediate_size")
    index = {
        k: s.count(key)
        for k, key in (
            ("index_num_heads", "index_n_heads"),
            ("index_head_dim", "index_head_dim"),
            ("index_top_k", "index_topk"),
        )
    }
    letters = {"sliding_attention": "A", "compressed_sparse_attention": "C", "heavily_compressed_attention": "H"}
    return {
        "q_lora_rank": s.count("q_lora_rank"),
        "one_key_value": True,
        "qk_norm": "key",
        "attention_sinks": True,
        "sliding_window": s.count("sliding_window"),
        "output_groups": s.count("o_groups"),
        "output_lora_rank": s.count("o_lora_rank"),
        "hyper_streams": s.count("hc_mult"),
        "num_experts": s.count("n_routed_experts"),
        "top_k": s.count("num_experts_per_tok"),
        "expert_ffn_hidden_size": s.count("moe_intermediate_size"),
        "ffn_hidden_size": None,
        "num_shared_experts": 1,
        **marked(
            [letters[t] for t in types],
            [
                {"letter": "C", "compress_ratio": few, "compress_overlap": True, **index},
                {"letter": "H", "compress_ratio": many},
            ],
        ),
    }


def _compressed_types(s: Source, layers: int) -> list[str]:
    """As listed; by the ratios of released files, which go on to the layers of multi-token prediction; two of HCA, then CSA and
    HCA in turn."""
    named = {0: SLIDING, 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
    listed, ratios = s.per_layer("layer_types", layers), s.get("compress_ratios")
    if isinstance(ratios, list) and len(ratios) >= layers and all(r in named for r in ratios):
        return [named[r] for r in ratios[:layers]]
    if ratios is not None:
        raise PlannerError("compress_ratios = {0!r}: must give 0, 4 or 128 for each of {1} layers", ratios, layers)
    types = listed or [named[128] if i < 2 or i % 2 else named[4] for i in range(layers)]
    other = next((t for t in types if t not in named.values()), None)
    if other is not None:
        raise PlannerError("layer_types holds {0!r}; known are {1}", other, ", ".join(named.values()))
    return types


def dots3_note(s: Source, f: Fields) -> Fields:
    """Dots 3 Note: latent attention by an indexer in some layers, with a window and other sizes in the others; a gate for each
    head, and a norm of the part of a key that turns."""
    layers = f["num_layers"]
    full = "full_attention" if s.get("use_dsa") is False else "indexed_attention"
    free = s.get("use_sliding_window") is False
    types = layer_types(s, layers, [full if free or i < 2 or i % 4 == 1 else SLIDING for i in range(layers)])
    if s.get("use_dsa") is None and s.get("per_layer_config") is None:
        types = [full if t == FULL else t for t in types]
    own = _sliding_latents(s, types)
    own["num_kv_heads"] = own["num_heads"]
    found = indexed(s, f) | {"attention_gate": "head", "layer_vectors": s.count("qk_rope_head_dim")}
    width = s.optional("shared_experts_intermediate_size") or s.count("moe_shared_expert_intermediate_size", 1536)
    s.ignore("use_dsa", "use_sliding_window", "shared_experts_intermediate_size", "moe_shared_expert_intermediate_size")
    letters = {SLIDING: "S", FULL: "F", "indexed_attention": "A"}
    none = {"index_num_heads": 0}
    own["layer_vectors"] = own["qk_rope_head_dim"]
    return {
        **found,
        **({"num_shared_experts": 1, "shared_expert_ffn_hidden_size": width} if f.get("num_experts") else {}),
        **windows(s, types),
        **marked([letters[t] for t in types], [{"letter": "S", **own, **none}, {"letter": "F", **none}]),
    }


def _sliding_latents(s: Source, types: list[str]) -> Fields:
    """Sizes of the layers with a window: the released file has them as swa_..., transformers saves a table for each layer."""
    names = {
        "num_attention_heads": ("num_heads", 64),
        "q_lora_rank": ("q_lora_rank", 1024),
        "kv_lora_rank": ("kv_lora_rank", 1024),
        "qk_nope_head_dim": ("qk_nope_head_dim", 192),
        "v_head_dim": ("v_head_dim", 128),
    }
    given = s.get("per_layer_config")
    if given:
        tables = [given.get(str(i), given.get(f"{i:02d}")) for i, t in enumerate(types) if t == SLIDING]
        known = {*names, "num_key_value_heads", "head_dim", "qk_rope_head_dim"}
        if len(tables) != len(given) or any(t != tables[0] for t in tables) or set(tables[0] or ()) - known:
            raise PlannerError("per_layer_config = {0!r}: give all sliding layers the same sizes, the others none", given)
        changed = {key: s.get(key) for key in (*names, "qk_rope_head_dim")} | tables[0]
        return {names[key][0]: changed[key] for key in names} | {"qk_rope_head_dim": changed["qk_rope_head_dim"]}
    own = {name: s.count(f"swa_{key}", default) for key, (name, default) in names.items()}
    rope = s.count("swa_head_dim", 256) - own["qk_nope_head_dim"]
    s.ignore("swa_num_key_value_heads", "swa_rope_theta")
    return own | {"qk_rope_head_dim": s.count("swa_qk_rope_head_dim", rope)}


def molmo2(s: Source, f: Fields) -> Fields:
    """Molmo 2: further rows of words that the head has not, the images'."""
    kind = "head" if s.get("qk_norm_type", "qwen3") == "qwen3" else "full"
    normed = kind if s.flag("use_qk_norm", True) else "none"  # the released files' switch; transformers has the norms always
    s.ignore("norm_after", "rope_scaling_layers")
    return {"qk_norm": normed, "model_vectors": s.count("additional_vocab_size", 128, least=0) * f["hidden_size"]}


def gpt_neox_japanese(s: Source, f: Fields) -> Fields:
    """GPT-NeoX-Japanese: no biases but of the last layer's output."""
    return {
        "ffn_hidden_size": s.count("intermediate_multiple_size", 4) * f["hidden_size"],
        "model_vectors": f["hidden_size"],
    }


def qk_norm_flag(key: str, kind: str = "head", **more: Any) -> Callable[[Source, Fields], Fields]:
    """Norms of queries and keys where a flag says so."""
    return lambda s, f: {"qk_norm": kind, **more} if s.flag(key) else {}


def gated_delta(s: Source, f: Fields) -> Fields:
    """Three layers of gated delta net to one of gated attention (Qwen3-Next)."""
    layers, every = f["num_layers"], s.optional("full_attention_interval") or 4
    types = layer_types(s, layers, (LINEAR,) * (every - 1) + (FULL,))
    s.ignore("attn_output_gate")
    return {
        **delta_sizes(s),
        **marked(["L" if t == LINEAR else "A" for t in types], [{"letter": "L", "mixer": "gated_delta_net"}]),
    }


def delta_sizes(s: Source) -> Fields:
    return {
        "recurrent_key_heads": s.count("linear_num_key_heads"),
        "recurrent_key_head_dim": s.count("linear_key_head_dim"),
        "recurrent_value_heads": s.count("linear_num_value_heads"),
        "recurrent_value_head_dim": s.count("linear_value_head_dim"),
        "conv_kernel": s.count("linear_conv_kernel_dim"),
        "recurrent_norm": "head",
    }


def lara_mini(s: Source, f: Fields) -> Fields:
    """Of five layers two of gated delta net, two with a window and one that attends to everything."""
    types = layer_types(s, f["num_layers"], (LINEAR, SLIDING, LINEAR, FULL, SLIDING))
    delta = marked(["L" if t == LINEAR else "A" for t in types], [{"letter": "L", "mixer": "gated_delta_net"}])
    return {**windows(s, types), **delta_sizes(s), **delta}


def olmo_hybrid(s: Source, f: Fields) -> Fields:
    """OLMo 2's layers of attention, norms behind their blocks, among layers of gated delta net with norms in front."""
    found = gated_delta(s, f)
    variants = tuple({**v, "norm_placement": "before"} for v in found["variants"])
    return {**found, "variants": variants, "qk_norm": "full", "norm_placement": "after"}


RESIDUALS = "attn_res_block_size: attention over the outputs of earlier blocks of layers is left out, and so are its few weights"


def kimi_delta(s: Source, f: Fields) -> Fields:
    """Layers of Kimi delta attention among latent ones; the first files put the list into linear_attn_config."""
    layers, nested = f["num_layers"], s.get("linear_attn_config") or {}
    every = s.optional("layer_group_size") or 4
    if nested:
        full = set(nested.get("full_attn_layers") or ())  # counted from one
        types = [FULL if i + 1 in full else LINEAR for i in range(layers)]
        heads, width, kernel = nested.get("num_heads"), nested.get("head_dim"), nested.get("short_conv_kernel_size")
    else:
        cycle = (
            [FULL if i and i % 4 == 0 else LINEAR for i in range(layers)]
            if s.kind == "kimi_linear"
            else (LINEAR,) * (every - 1) + (FULL,)
        )
        types = layer_types(s, layers, cycle)
        if s.config.get("head_dim") and s.kind != "kimi_linear":
            s.config.setdefault("linear_head_dim", s.config["head_dim"])
        heads, width, kernel = (
            s.count("linear_num_heads", f["num_heads"]),
            s.count("linear_head_dim", 128),
            s.count("linear_conv_kernel_dim", 4),
        )
    s.ignore(
        "layer_group_size",
        "short_conv_kernel_size",
        "kda_safe_gate",
        "kda_lower_bound",
        "mla_use_nope",
        "latent_moe_use_norm",
        "activation_situ_linear_beta",
    )
    s.ignore("num_expert_group", "use_grouped_topk", "moe_renormalize", "moe_router_activation_func", "attn_res_block_size")
    low = s.kind == "kimi_linear" and not nested.get("use_full_rank_gate")
    gate = ("full" if s.flag("mla_use_output_gate") else "none") if s.kind == "kimi_linear" else "head"
    narrow = s.optional("routed_expert_hidden_size")
    aside = {"hyper_streams": {"kind": "assumed", "source": RESIDUALS}} if s.config.get("attn_res_block_size") else {}
    return {
        **latent(s, f),
        **({"expert_latent_size": narrow} if narrow else {}),
        "provenance": aside,
        "tied_embeddings": False,  # the class has a head of its own, whatever the file says
        "recurrent_key_heads": heads,
        "recurrent_value_heads": heads,
        "recurrent_key_head_dim": width,
        "recurrent_value_head_dim": width,
        "conv_kernel": kernel,
        "recurrent_norm": "head",
        "recurrent_gate_rank": width if low else 0,
        "attention_gate": gate,
        **marked(
            ["L" if t == LINEAR else "A" for t in types], [{"letter": "L", "mixer": "kimi_delta", "attention_gate": "none"}]
        ),
    }


def lightning_layers(heads: int, width: int, types: list[str], **mixer: Any) -> dict[str, Any]:
    """Layers of lightning attention beside full ones: a state of width x width for each head; ``mixer``: more of its fields."""
    return {
        "recurrent_key_heads": heads,
        "recurrent_value_heads": heads,
        "recurrent_key_head_dim": width,
        "recurrent_value_head_dim": width,
        "recurrent_norm": "full",
        **marked(["L" if t == LINEAR else "A" for t in types], [{"letter": "L", "mixer": "lightning", **mixer}]),
    }


def lightning(s: Source, f: Fields) -> Fields:
    """MiniMax-Text-01 and M1: lightning attention, every eighth layer (or as listed) softmax."""
    layers = f["num_layers"]
    listed = s.per_layer("attn_type_list", layers)
    types = [FULL if t else LINEAR for t in listed] if listed else layer_types(s, layers, (FULL, LINEAR))
    width = f["head_dim"] or f["hidden_size"] // f["num_heads"]
    s.ignore("block_size", "postnorm", "shared_moe_mode", "rotary_dim", "attn_type_list")
    s.ignore(
        *(f"{block}_{part}_factor" for block in ("full_attn", "linear_attn", "mlp") for part in ("alpha", "beta")),
        *(f"layernorm_{block}_{part}" for block in ("full_attention", "linear_attention", "mlp") for part in ("alpha", "beta")),
    )
    return lightning_layers(f["num_heads"], width, types)


def mamba2_sizes(s: Source, f: Fields, heads: str, width: str, groups: str, state: str, kernel: str) -> Fields:
    return {
        "recurrent_value_heads": s.count(heads),
        "recurrent_value_head_dim": s.count(width),
        "recurrent_key_heads": s.count(groups),
        "recurrent_key_head_dim": s.count(state),
        "conv_kernel": s.count(kernel),
        "recurrent_norm": "full",
    }


_MAMBA = ("mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv")
_MAMBA_ASIDE = (
    "mamba_expand",
    "mamba_chunk_size",
    "chunk_size",
    "expand",
    "attn_rotary_emb",
    "head_dim",
    "ssm_multipliers",
    "mlp_multipliers",
    "time_step_rank",
    "num_logits_to_keep",
    "z_loss_coefficient",
)


def _mamba_bias(s: Source) -> Fields:
    return {"conv_bias": s.flag("mamba_conv_bias", True), "recurrent_bias": s.flag("mamba_proj_bias")}


def bamba(s: Source, f: Fields) -> Fields:
    """Mamba-2 layers with attention at attn_layer_indices."""
    layers, chosen = f["num_layers"], s.get("attn_layer_indices") or []
    types = s.per_layer("layer_types", layers) or s.per_layer("layers_block_type", layers)
    letters = ["M" if t in RECURS else "A" for t in types] if types else ["A" if i in chosen else "M" for i in range(layers)]
    s.ignore(*_MAMBA_ASIDE)
    if s.optional("mamba_d_head") is None:  # "auto"
        s.ignore("mamba_d_head")
    return {
        **mamba2_sizes(s, f, *_MAMBA),
        **_mamba_bias(s),
        "position_embedding": "rotary",
        **marked(letters, [{"letter": "M", "mixer": "mamba2"}]),
    }


def granite_hybrid(s: Source, f: Fields) -> Fields:
    """Granite 4: Mamba-2 or attention, a dense block (shared_mlp) and, in some, experts beside it."""
    s.only("normalization_function", "rmsnorm", None)
    found = bamba(s, f)
    layers = f["num_layers"]
    types = s.per_layer("layer_types", layers) or s.per_layer("layers_block_type", layers)
    if types is None:
        found |= marked(["M"] * layers, [{"letter": "M", "mixer": "mamba2"}])
    rotary = s.get("position_embedding_type") == "rope"
    found["position_embedding"] = "rotary" if rotary else "none"
    width = s.count("shared_intermediate_size")
    if not f.get("num_experts"):
        found["ffn_hidden_size"] = width
    return found


def falcon_h1(s: Source, f: Fields) -> Fields:
    """Attention and Mamba-2 read the same input in every layer."""
    s.only("mamba_proj_bias", False)
    s.only("projectors_bias", False)
    if s.config.get("mamba_d_head") in (None, "auto"):
        inner = s.optional("mamba_d_ssm") or s.count("mamba_expand", 2) * f["hidden_size"]
        s.config["mamba_d_head"] = inner // s.count("mamba_n_heads")
    found = mamba2_sizes(s, f, *_MAMBA)
    found["recurrent_norm"] = "full" if s.flag("mamba_rms_norm") else "none"
    s.ignore(*_MAMBA_ASIDE, "mamba_d_ssm", "mamba_norm_before_gate", "mamba_use_mlp", "mlp_expansion_factor")
    return {**found, **_mamba_bias(s), "mixer": "mamba2", "attention_beside_mixer": True}


def jamba(s: Source, f: Fields) -> Fields:
    """Mamba with attention in every eighth layer and experts in every second."""
    layers = f["num_layers"]
    types = s.per_layer("layer_types", layers) or s.per_layer("layers_block_type", layers)
    period, offset = s.count("attn_layer_period", 8), s.count("attn_layer_offset", 4, least=0)
    letters = (
        ["M" if t in RECURS else "A" for t in types] if types else ["A" if i % period == offset else "M" for i in range(layers)]
    )
    every, start = s.count("expert_layer_period", 2), s.count("expert_layer_offset", 1, least=0)
    rank = s.get("mamba_dt_rank")
    rank = -(-f["hidden_size"] // 16) if rank in (None, "auto") else s.count("mamba_dt_rank")
    inner, state = s.count("mamba_expand", 2) * f["hidden_size"], s.count("mamba_d_state")
    moe = dense_from([i % every != start for i in range(layers)]) if f.get("num_experts", 0) > 1 else dense_from([True])
    normed = s.flag("mamba_inner_layernorms", True)
    variants = [{"letter": "M", "mixer": "mamba", "layer_vectors": rank + 2 * state if normed else 0}]
    return {
        "recurrent_value_heads": inner,
        "recurrent_value_head_dim": 1,
        "recurrent_key_head_dim": state,
        "conv_kernel": s.count("mamba_d_conv"),
        "time_step_rank": rank,
        **_mamba_bias(s),
        "position_embedding": "none",
        **moe,
        **marked(letters, variants),
    }


def mamba1(s: Source) -> Fields:
    """State spaces alone: no attention, no feed-forward."""
    hidden, layers = s.count("hidden_size"), s.count("num_hidden_layers")
    rank = s.get("time_step_rank")
    rank = -(-hidden // 16) if rank in (None, "auto") else s.count("time_step_rank")
    inner = s.optional("intermediate_size") or s.count("expand", 2) * hidden
    s.ignore("expand", "residual_in_fp32", "hidden_act", "use_associative_scan", "mixer_rms_eps", "use_falcon_mambapy")
    return {
        "num_layers": layers,
        "hidden_size": hidden,
        "vocab_size": s.count("vocab_size"),
        "num_heads": 1,
        "head_dim": hidden,
        "ffn_hidden_size": None,
        "feed_forward": "none",
        "norms_per_layer": 1,
        "mixer": "mamba",
        "position_embedding": "none",
        "recurrent_value_heads": inner,
        "recurrent_value_head_dim": 1,
        "recurrent_key_head_dim": s.count("state_size"),
        "conv_kernel": s.count("conv_kernel"),
        "conv_bias": s.flag("use_conv_bias", True),
        "time_step_rank": rank,
        "recurrent_bias": s.flag("use_bias"),
        "tied_embeddings": s.flag("tie_word_embeddings"),
    }


def rwkv(s: Source) -> Fields:
    """RWKV-4, and RWKV-5 by its own repository's class: time mixing with a vector, or a matrix for each head, for a state; a
    feed-forward of squared relus, its output gated by the receptance of the same input; a norm behind the words."""
    hidden, layers, fifth = s.count("hidden_size"), s.count("num_hidden_layers"), s.kind == "rwkv5"
    inner = s.optional("attention_hidden_size") or hidden
    size = s.count("head_size", 64) if fifth else 1
    if inner % size or (fifth and inner != hidden):
        raise PlannerError("attention_hidden_size = {0}: must be hidden_size, in whole heads of head_size = {1}", inner, size)
    s.ignore("rescale_every", "head_size_divisor", "head_size", "num_attention_heads", "model_version")
    heads = hidden // 64 if hidden % 64 == 0 else 1
    return {
        "num_layers": layers,
        "hidden_size": hidden,
        "vocab_size": s.count("vocab_size", 65536),
        "num_heads": heads,
        "head_dim": hidden // heads,
        "ffn_hidden_size": s.optional("intermediate_size") or (int(hidden * 3.5) // 32 * 32 if fifth else 4 * hidden),
        "gated_ffn": False,
        "activation": "relu2",
        "norm": "layernorm",
        "norm_bias": True,
        "embedding_norm": True,
        "position_embedding": "none",
        "mixer": "rwkv5" if fifth else "rwkv4",
        "recurrent_key_heads": inner // size,
        "recurrent_value_heads": inner // size,
        "recurrent_key_head_dim": size,
        "recurrent_value_head_dim": size,
        "recurrent_norm": "full" if fifth else "none",
        "tied_embeddings": s.flag("tie_word_embeddings"),
    }


def mamba2(s: Source) -> Fields:
    hidden, heads = s.count("hidden_size"), s.count("num_heads")
    s.ignore("expand", "residual_in_fp32", "hidden_act", "chunk_size", "time_step_rank", "norm_before_gate", "rms_norm")
    return {
        "num_layers": s.count("num_hidden_layers"),
        "hidden_size": hidden,
        "vocab_size": s.count("vocab_size"),
        "num_heads": heads,
        "head_dim": s.count("head_dim"),
        "ffn_hidden_size": None,
        "feed_forward": "none",
        "norms_per_layer": 1,
        "mixer": "mamba2",
        "position_embedding": "none",
        **mamba2_sizes(s, {}, "num_heads", "head_dim", "n_groups", "state_size", "conv_kernel"),
        "conv_bias": s.flag("use_conv_bias", True),
        "recurrent_bias": s.flag("use_bias"),
        "tied_embeddings": s.flag("tie_word_embeddings"),
    }


BLOCKS = {"M": LINEAR, "E": "moe", "*": FULL, "-": "mlp"}


def nemotron_h(s: Source) -> Fields:
    """One block a layer: Mamba-2, attention, experts or a plain feed-forward."""
    written = s.get("hybrid_override_pattern")
    names = [BLOCKS.get(c, c) for c in written] if isinstance(written, str) and "hybrid_override_pattern" in s.config else None
    kinds = names or s.get("layers_block_type")
    letters = {LINEAR: "M", "mamba": "M", "moe": "E", FULL: "A", "attention": "A", "mlp": "F"}
    if not isinstance(kinds, list) or not kinds or any(k not in letters for k in kinds):
        raise PlannerError(
            "hybrid_override_pattern = {0!r}: must be made of M (Mamba-2), E (experts), * (attention) and -", written
        )
    s.ignore(
        "num_hidden_layers",
        "layers_block_type",
        "layer_types",
        *_MAMBA_ASIDE,
        "sliding_window",
        "moe_shared_expert_overlap",
        "hidden_act",
        "attention_head_dim",
        "mtp_layers_block_type",
        "mtp_hybrid_override_pattern",
    )
    fields = sizes_of_blocks(s, len(kinds))
    marks = [letters[k] for k in kinds]
    alone = {"mixer": "none", "norms_per_layer": 1}
    if "E" in marks:
        latent_size = s.optional("moe_latent_size")
        fields |= {
            "num_experts": s.count("n_routed_experts"),
            "top_k": s.count("num_experts_per_tok"),
            "expert_ffn_hidden_size": s.count("moe_intermediate_size"),
            **({"expert_latent_size": latent_size} if latent_size else {}),
        }
        shared = s.optional("n_shared_experts")
        if shared:
            fields |= {"num_shared_experts": 1, "shared_expert_ffn_hidden_size": s.count("moe_shared_expert_intermediate_size")}
    else:
        s.ignore(
            "n_routed_experts",
            "num_experts_per_tok",
            "moe_intermediate_size",
            "moe_latent_size",
            "n_shared_experts",
            "moe_shared_expert_intermediate_size",
        )
    variants: list[Fields] = [
        {"letter": "M", "mixer": "mamba2", "feed_forward": "none"},
        {"letter": "E", **alone, "feed_forward": "experts"},
        {"letter": "F", **alone, "feed_forward": "dense"},
    ]
    return {**fields, "feed_forward": "none", "norms_per_layer": 1, **marked(marks, variants)}


def sizes_of_blocks(s: Source, layers: int) -> Fields:
    """Sizes of Nemotron-H's blocks. Its attention has no biases, and its head is its own, whatever the file says."""
    s.only("mlp_bias", False)
    s.ignore("attention_bias", "tie_word_embeddings", "mamba_proj_bias")
    return {
        "num_layers": layers,
        "hidden_size": s.count("hidden_size"),
        "vocab_size": s.count("vocab_size"),
        "num_heads": s.count("num_attention_heads"),
        "num_kv_heads": s.count("num_key_value_heads"),
        "head_dim": s.optional("head_dim"),
        "ffn_hidden_size": s.count("intermediate_size"),
        "activation": s.activation("mlp_hidden_act", "relu2"),
        "gated_ffn": False,
        "position_embedding": "none",
        "tied_embeddings": False,
        "attention_dropout": s.rate("attention_dropout"),
        **mamba2_sizes(s, {}, "mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel"),
        "conv_bias": s.flag("use_conv_bias", True),
        "recurrent_bias": s.flag("use_bias"),
    }


def lfm2(s: Source, f: Fields) -> Fields:
    """Gated short convolutions with some layers of attention; the feed-forward's width is adjusted."""
    layers, chosen = f["num_layers"], s.get("full_attn_idxs")
    types = s.per_layer("layer_types", layers)
    if types is None:
        types = [FULL if chosen is None or i in chosen else "conv" for i in range(layers)]
    width = f["ffn_hidden_size"]
    if s.flag("block_auto_adjust_ff_dim", True):
        multiple = s.count("block_multiple_of", 256)
        width = int(s.get("block_ffn_dim_multiplier", 1.0) * int(2 * width / 3))
        width = multiple * -(-width // multiple)
    s.ignore(
        "full_attn_idxs",
        "conv_dim",
        "conv_dim_out",
        "block_dim",
        "block_mlp_init_scale",
        "block_norm_eps",
        "block_out_init_scale",
        "block_use_swiglu",
        "block_use_xavier_init",
        "conv_use_xavier_init",
        "block_ff_dim",
        "use_pos_enc",
    )
    return {
        "ffn_hidden_size": width,
        "qk_norm": "head",
        "conv_kernel": s.count("conv_L_cache"),
        "conv_bias": s.flag("conv_bias"),
        "recurrent_bias": s.flag("conv_bias"),
        "activation": "silu",
        **marked(["C" if t == "conv" else "A" for t in types], [{"letter": "C", "mixer": "short_conv"}]),
    }


def lfm3(s: Source, f: Fields) -> Fields:
    """Short convolutions, attention with windows in half of its layers, a gate for each head, norms behind the blocks."""
    layers = f["num_layers"]
    cycle = ["conv" if i % 2 or i < 2 else FULL if i % 4 == 2 else SLIDING for i in range(layers)]
    types = layer_types(s, layers, cycle)
    bias = s.flag("conv_bias")
    return {
        **windows(s, types),
        "qk_norm": "head",
        "conv_kernel": s.count("conv_L_cache"),
        "conv_bias": bias,
        "recurrent_bias": bias,
        "activation": "silu",
        "attention_gate": "head" if s.flag("use_attention_gate") else "none",
        "norms_per_layer": 4 if s.flag("use_sandwich_norm") else 2,
        **marked(
            ["C" if t == "conv" else "A" for t in types], [{"letter": "C", "mixer": "short_conv", "attention_gate": "none"}]
        ),
    }


def baichuan(s: Source, f: Fields) -> Fields:
    """The 13B's file has no max_position_embeddings: its own class adds ALiBi where the 7B's turns by positions."""
    alibi = s.get("model_max_length") is not None and "max_position_embeddings" not in s.config
    return {"position_embedding": "alibi"} if alibi else {}


def rotary(s: Source, layers: int) -> list[int]:
    """Which layers turn queries and keys by position: as listed, else all but every fourth, or what the interval says."""
    interval = s.count("no_rope_layer_interval", 4)
    listed = s.per_layer("no_rope_layers", layers) if s.get("no_rope_layers") else None
    return listed or [int((i + 1) % interval != 0) for i in range(layers)]


def smollm3(s: Source, f: Fields) -> Fields:
    """Where windows are on, the layers without rotation have them."""
    slides = s.flag("use_sliding_window") and s.optional("sliding_window") is not None
    turned = rotary(s, f["num_layers"])
    types = s.per_layer("layer_types", f["num_layers"]) or [SLIDING if slides and not turns else FULL for turns in turned]
    return windows(s, types)


def llama4(s: Source, f: Fields) -> Fields:
    """Chunked attention in three of four layers, experts in every or every second layer, one shared expert."""
    layers = f["num_layers"]
    chosen = s.get("moe_layers")
    none = not (s.count("num_local_experts", least=0) and s.count("interleave_moe_layer_step", least=0)) and not chosen
    dense = (
        [none or i not in chosen for i in range(layers)]
        if isinstance(chosen, list) and (chosen or none)
        else [(i + 1) % s.count("interleave_moe_layer_step") != 0 for i in range(layers)]
    )
    types = s.per_layer("layer_types", layers) or [CHUNKED if r else FULL for r in rotary(s, layers)]
    s.ignore("attn_temperature_tuning", "floor_scale", "attn_scale", "rope_scaling", "for_llm_compressor")
    s.count("num_experts_per_tok", least=0)
    experts = {
        "num_experts": s.count("num_local_experts", least=0),
        "top_k": s.count("num_experts_per_tok", least=0),
        "expert_ffn_hidden_size": s.count("intermediate_size"),
        "num_shared_experts": 1,
        **dense_from(dense),
    }
    return {
        "ffn_hidden_size": s.count("intermediate_size_mlp"),
        **({} if all(dense) else experts),
        **windows(s, types, "attention_chunk_size"),
        **({"qk_norm": "head", "qk_norm_weight": False} if s.flag("use_qk_norm") else {}),
    }


def gemma4(s: Source, f: Fields) -> Fields:
    """Full layers have wider heads, and fewer of keys; experts may stand beside the dense block; some reuse earlier keys."""
    layers, kv = f["num_layers"], f["num_kv_heads"]
    types = layer_types(s, layers, (SLIDING,) * 5 + (FULL,))
    if s.per_layer("layer_types", layers) is None:
        types[-1] = FULL
    wide, few = s.optional("global_head_dim") or 512, s.optional("num_global_key_value_heads")
    equal = s.flag("attention_k_eq_v")
    own = {"head_dim": wide, "num_kv_heads": few if equal and few else kv, "keys_are_values": equal}
    own |= _of_full_layers(s, types, f)
    shared = s.count("num_kv_shared_layers", 0, least=0)
    double = s.flag("use_double_wide_mlp")
    letters = []
    for i, kind in enumerate(types):
        reuses = bool(shared) and i >= layers - shared
        letters.append(("X" if reuses else "F") if kind == FULL else ("Y" if reuses else "S"))
    tail = {"shared_kv": True, **({"ffn_hidden_size": 2 * f["ffn_hidden_size"]} if double else {})}
    experts_ = {}
    norms, vectors = 4, 1
    if s.flag("enable_moe_block"):
        experts_ = {
            "num_experts": s.count("num_experts"),
            "top_k": s.count("top_k_experts"),
            "expert_ffn_hidden_size": s.count("moe_intermediate_size"),
            "num_shared_experts": 1,
            "shared_expert_ffn_hidden_size": f["ffn_hidden_size"],
        }
        norms, vectors = 7, f["hidden_size"] + experts_["num_experts"]
    else:
        s.ignore("num_experts", "top_k_experts", "moe_intermediate_size")
    s.ignore("use_bidirectional_attention", "vocab_size_per_layer_input", "hidden_size_per_layer_input")
    ple = s.get("hidden_size_per_layer_input") or 0
    return {
        **windows(s, types),
        **experts_,
        "norms_per_layer": norms,
        "layer_vectors": 0 if norms == 4 else vectors,
        "qk_norm": "head",
        "per_layer_embedding_size": ple,
        "per_layer_vocab_size": s.count("vocab_size_per_layer_input") if ple else 0,
        **marked(letters, [{"letter": "F", **own}, {"letter": "X", **own, **tail}, {"letter": "Y", **tail}]),
    }


def _of_full_layers(s: Source, types: list[str], f: Fields) -> Fields:
    """Heads of the full layers as ``per_layer_config`` gives them, which transformers writes since 5.20 in place of
    ``global_head_dim`` and ``num_global_key_value_heads``: a table for each layer that differs."""
    given = s.get("per_layer_config")
    if not given:
        return {}
    names = {"head_dim": "head_dim", "num_key_value_heads": "num_kv_heads"}
    tables = {int(k): v for k, v in given.items() if str(k).isdigit()} if isinstance(given, dict) else {}
    full = [i for i, kind in enumerate(types) if kind == FULL]
    found = [{names.get(k, k): n for k, n in tables.get(i, {}).items()} for i in full]
    if set(tables) - set(full) or any(x != found[0] or set(x) - set(names.values()) for x in found):
        raise PlannerError(
            "per_layer_config = {0!r}: give all full layers the same head_dim and num_key_value_heads, sliding ones none",
            given,
        )
    plain = {"head_dim": f["head_dim"], "num_kv_heads": f["num_kv_heads"]}
    return {**plain, **found[0]} if found else {}


def gemma3n(s: Source, f: Fields) -> Fields:
    """AltUp, LAuReL, per-layer embeddings; the last layers reuse keys and values."""
    layers = f["num_layers"]
    types = layer_types(s, layers, (SLIDING,) * 4 + (FULL,))
    shared = s.count("num_kv_shared_layers", 0, least=0)
    if shared >= layers:
        raise PlannerError("num_kv_shared_layers = {0}: must be below the number of layers, {1}", shared, layers)
    letters = ["Y" if i >= layers - shared else "A" for i in range(layers)]
    s.ignore("altup_active_idx", "altup_coef_clip", "altup_correct_scale", "activation_sparsity_pattern")
    return {
        **windows(s, types),
        "norms_per_layer": 4,
        "qk_norm": "head",
        "per_layer_embedding_size": s.count("hidden_size_per_layer_input"),
        "per_layer_vocab_size": s.count("vocab_size_per_layer_input"),
        "altup_streams": s.count("altup_num_inputs"),
        "laurel_rank": s.count("laurel_rank"),
        **marked(letters, [{"letter": "Y", "shared_kv": True}]),
    }


def mimo_v2(s: Source, f: Fields) -> Fields:
    """Sliding layers have twice the key heads and a sink; values are narrower than keys."""
    layers = f["num_layers"]
    hybrid = s.per_layer("hybrid_layer_pattern", layers)
    types = (
        [SLIDING if t else FULL for t in hybrid]
        if hybrid
        else layer_types(s, layers, [FULL if i == 0 or (i + 1) % 6 == 0 else SLIDING for i in range(layers)])
    )
    heads = s.optional("swa_num_attention_heads") or f["num_heads"]
    kv = s.optional("swa_num_key_value_heads") or 2 * f["num_kv_heads"]
    sinks, full_sinks = s.flag("add_swa_attention_sink_bias", True), s.flag("add_full_attention_sink_bias")
    s.ignore(
        "swa_head_dim",
        "swa_v_head_dim",
        "attention_value_scale",
        "attention_chunk_size",
        "hybrid_block_size",
        "attention_projection_layout",
        "sliding_window_size",
        "hybrid_layer_pattern",
    )
    return {
        **windows(s, types),
        "v_head_dim": s.count("v_head_dim"),
        "attention_sinks": full_sinks,
        **marked(
            ["S" if t == SLIDING else "A" for t in types],
            [{"letter": "S", "num_heads": heads, "num_kv_heads": kv, "attention_sinks": sinks}],
        ),
    }


def unslid(s: Source, f: Fields) -> Fields:
    s.only("use_sliding_window", False)
    s.ignore("sliding_window")
    return {}


MINIMAX_M3: Fields = {"tie_word_embeddings": False, "index_block_size": 128}
"""Of the text part that is published as a type of its own; transformers has it inside minimax_m3_vl."""


def minimax_m3(s: Source, f: Fields) -> Fields:
    """Grouped heads behind an indexer of four in most layers: sixteen blocks of 128 keys; the first layers are dense and full."""
    layers, nested = f["num_layers"], s.get("sparse_attention_config") or {}

    def said(key: str, first: str) -> int:
        return int(nested[first]) if first in nested else s.count(key)

    chosen = nested.get("sparse_attention_freq")
    types = s.per_layer("layer_types", layers) or [FULL] * layers
    sparse = [bool(x) for x in chosen] if chosen else [t == "minimax_m3_sparse" for t in types]
    freq = s.per_layer("moe_layer_freq", layers)
    listed = s.per_layer("mlp_layer_types", layers)
    dense = [not x for x in freq] if freq else [t == "dense" for t in listed or ["sparse"] * layers]
    s.ignore(
        "index_local_blocks",
        "first_k_dense_replace",
        "qk_norm_type",
        "use_qk_norm",
        "attention_output_gate",
        "num_mtp_modules",
        "use_gemma_norm",
        "use_routing_bias",
        "rotary_dim",
        "moe_intermediate_size",
        "n_shared_experts",
        "swiglu_alpha",
    )
    index = {
        "index_num_heads": said("index_n_heads", "sparse_num_index_heads"),
        "index_head_dim": said("index_head_dim", "sparse_index_dim"),
        "index_top_k": said("index_topk_blocks", "sparse_topk_blocks") * said("index_block_size", "sparse_block_size"),
    }
    mixed = marked(["S" if x else "A" for x in sparse], [{"letter": "S", **index}])
    return {
        **mixed,
        "ffn_hidden_size": s.count("dense_intermediate_size"),
        "num_experts": s.count("num_local_experts"),
        "top_k": s.count("num_experts_per_tok"),
        "expert_ffn_hidden_size": s.count("intermediate_size"),
        "num_shared_experts": 1,
        "shared_expert_ffn_hidden_size": s.count("shared_intermediate_size"),
        **dense_from(dense),
    }


def stablelm(s: Source, f: Fields) -> Fields:
    """A norm of its own for each head, as many weights as one over all heads."""
    parallel = s.flag("use_parallel_residual")
    normed = {"qk_norm": "full", "qk_norm_bias": False} if s.flag("qk_layernorm") else {}
    return {"parallel_attention": parallel, "norms_per_layer": 1 if parallel else 2, **normed}


def starcoder2(s: Source, f: Fields) -> Fields:
    bias = s.flag("use_bias", True)
    return {"qkv_bias": bias, "attention_output_bias": bias, "ffn_bias": bias}


def ernie(s: Source, f: Fields) -> Fields:
    bias = s.flag("use_bias")
    return {"qkv_bias": bias, "attention_output_bias": bias, "ffn_bias": bias}


def ernie_moe(s: Source, f: Fields) -> Fields:
    s.only("use_bias", False)
    layers, start, every = f["num_layers"], s.get("moe_layer_start_index", 1), s.count("moe_layer_interval", 1)
    last = s.get("moe_layer_end_index", layers - 1)
    last = layers - 1 if last in (-1, None) else last
    first, last = (start, last) if isinstance(start, int) and isinstance(last, int) else (start[0], last[0])
    dense = [not (first <= i <= last and (i + 1) % every == 0) for i in range(layers)]
    s.ignore(
        "moe_capacity",
        "moe_gate",
        "moe_use_aux_free",
        "moe_group",
        "moe_norm_min",
        "moe_dropout_prob",
        "moe_norm_gate_logits",
        "moe_all_to_all_dropout",
        "moe_gate_act",
        "moe_orthogonal_loss_lambda",
        "moe_group_experts",
        "moe_layer_end_index",
    )
    return {**ernie(s, f), **dense_from(dense)}


def phi(s: Source, f: Fields) -> Fields:
    return {"qk_norm": "head", "qk_norm_bias": True} if s.flag("qk_layernorm") else {}


def square(s: Source, f: Fields) -> Fields:
    """Helium's output projection is square: its heads must be as wide as the stream."""
    if f["num_heads"] * f["head_dim"] != f["hidden_size"]:
        raise PlannerError(
            "head_dim = {0}: times {1} heads it must be hidden_size = {2} for {3}",
            f["head_dim"],
            f["num_heads"],
            f["hidden_size"],
            s.kind,
        )
    return {}


def plain_inner(s: Source, f: Fields) -> Fields:
    """Biases in the dense layers alone, or in shared experts alone, are none that the fields express."""
    s.only("mlp_bias", False)
    return {}


def persimmon(s: Source, f: Fields) -> Fields:
    return {"qk_norm": "head", "qk_norm_bias": True} if s.flag("qk_layernorm", True) else {}


def gptj(s: Source, f: Fields) -> Fields:
    s.ignore("rotary_dim", "embd_pdrop")
    return {"ffn_hidden_size": f["ffn_hidden_size"] or 4 * f["hidden_size"]}


def gpt_bigcode(s: Source, f: Fields) -> Fields:
    kv = 1 if s.flag("multi_query", True) else f["num_heads"]
    s.ignore(
        "num_key_value_heads",
        "attention_softmax_in_fp32",
        "scale_attention_softmax_in_fp32",
        "embd_pdrop",
        "inference_runner",
        "pre_allocate_kv_cache",
        "pad_key_length",
        "max_batch_size",
        "max_sequence_length",
        "validate_runner_input",
    )
    return {
        "ffn_hidden_size": f["ffn_hidden_size"] or 4 * f["hidden_size"],
        "num_kv_heads": kv,
        "position_embedding": "learned",
        "max_positions": s.count("max_position_embeddings"),
    }


def gpt_neo(s: Source, f: Fields) -> Fields:
    layers = f["num_layers"]
    listed = s.per_layer("attention_layers", layers) if "attention_layers" in s.config else None
    if listed is None:
        listed = [
            kind
            for kinds, times in (s.get("attention_types") or [[["global", "local"], layers // 2]])
            for _ in range(times)
            for kind in kinds
        ]
    if len(listed) != layers:
        raise PlannerError("attention_types gives {0} layers; num_layers = {1}", len(listed), layers)
    s.ignore("attention_types", "embed_dropout")
    return {
        **windows(s, listed, "window_size"),
        "ffn_hidden_size": f["ffn_hidden_size"] or 4 * f["hidden_size"],
        "position_embedding": "learned",
        "max_positions": s.count("max_position_embeddings"),
    }


def cohere(s: Source, f: Fields) -> Fields:
    return {"qk_norm": "full"} if s.flag("use_qk_norm") else {}


def granite_experts(s: Source, f: Fields) -> Fields:
    shared = s.optional("shared_intermediate_size") if s.kind != "granitemoe" else None
    return {"num_shared_experts": 1, "shared_expert_ffn_hidden_size": shared} if shared else {}


def nemotron_nas(s: Source) -> Fields:
    """Each block of its own: attention with its own groups, or none; a feed-forward of its own width, or none (DeciLM)."""
    blocks = s.get("block_configs")
    hidden, heads = s.count("hidden_size"), s.count("num_attention_heads")
    if not isinstance(blocks, list) or not blocks:
        raise PlannerError("block_configs = {0!r}: must list the blocks of all layers", blocks)
    s.ignore("num_hidden_layers", "intermediate_size", "num_key_value_heads", "mlp_bias")
    seen: dict[tuple[Any, ...], str] = {}
    letters, variants = [], []
    for block in blocks:
        attention, ffn = block["attention"], block["ffn"]
        if attention.get("replace_with_linear") or ffn.get("replace_with_linear"):
            raise PlannerError(
                "block_configs: replace_with_linear = true: the planner cannot express a linear layer in a block's place"
            )
        group = None if attention.get("no_op") else attention["n_heads_in_group"]
        width = 0 if ffn.get("no_op") else _multiple(int(2 * ffn["ffn_mult"] * hidden / 3), 256)
        key = (group, width)
        if key not in seen:
            seen[key] = chr(ord("a") + len(seen))
            variants.append(
                {
                    "letter": seen[key],
                    "norms_per_layer": (group is not None) + (width > 0) or 1,
                    **({"num_kv_heads": heads // group} if group else {"mixer": "none"}),
                    **({"ffn_hidden_size": width} if width else {"feed_forward": "none"}),
                }
            )
        letters.append(seen[key])
    groups = [g for g, _ in seen if g]
    return {
        "num_layers": len(blocks),
        "hidden_size": hidden,
        "vocab_size": s.count("vocab_size"),
        "num_heads": heads,
        "num_kv_heads": heads // groups[0],
        "head_dim": s.optional("head_dim"),
        "ffn_hidden_size": max(w for _, w in seen),
        "activation": s.activation(),
        "tied_embeddings": s.flag("tie_word_embeddings"),
        "attention_dropout": s.rate("attention_dropout"),
        "qkv_bias": s.flag("attention_bias"),
        "attention_output_bias": s.flag("attention_bias"),
        **marked(letters, variants),
    }


def _multiple(value: int, of: int) -> int:
    return of * -(-value // of)


def step3(s: Source, f: Fields) -> Fields:
    """Step-3.5 and 3.7: a gate for each head; sliding layers may have more heads; the first three layers dense."""
    layers = f["num_layers"]
    other = s.get("attention_other_setting") or {}
    heads = s.optional("num_sliding_attention_heads") or other.get("num_attention_heads") or f["num_heads"]
    types = layer_types(s, layers, (FULL,)) if s.optional("sliding_window") else [FULL] * layers
    listed = s.get("moe_layers_enum")
    sparse = {int(i) for i in (listed.split(",") if isinstance(listed, str) else listed)} if listed else None
    dense = dense_from([i not in sparse for i in range(layers)]) if sparse is not None else {}
    s.ignore(
        "att_impl_type",
        "use_head_wise_attn_gate",
        "use_moe",
        "use_moe_router_bias",
        "moe_router_activation",
        "need_fp32_gate",
        "layer_types",
        "rope_theta",
        "swiglu_limits",
        "swiglu_limits_shared",
        "yarn_only_types",
        "use_rope_layers",
        "moe_router_scaling_factor",
        "partial_rotary_factors",
        "n_shared_experts",
    )
    return {
        **windows(s, types),
        **dense,
        **marked(
            ["S" if t == SLIDING and heads != f["num_heads"] else "A" for t in types], [{"letter": "S", "num_heads": heads}]
        ),
    }


def minicpm(s: Source, f: Fields) -> Fields:
    s.ignore("scale_emb", "dim_model_base", "scale_depth", "rope_scaling", "sparse_config", "mup_denominator")
    if not s.config.get("sparse_config"):
        return {}
    source = "sparse_config (InfLLM v2) is left out: attention is dense, as it is up to dense_len tokens"
    return {"provenance": {"attention": {"kind": "assumed", "source": source}}}


def chatglm(s: Source) -> Fields:
    """THUDM's own class: fused projections, grouped keys, RMS norms."""
    s.only("rmsnorm", True)
    heads, bias = s.count("num_attention_heads"), s.flag("add_bias_linear")
    kv = s.count("multi_query_group_num") if s.flag("multi_query_attention") else heads
    s.ignore(
        "architectures",
        "kv_channels",
        "apply_residual_connection_post_layernorm",
        "apply_query_key_layer_scaling",
        "attention_softmax_in_fp32",
        "fp32_residual_connection",
        "original_rope",
        "quantization_bit",
        "pre_seq_len",
        "prefix_projection",
        "layernorm_epsilon",
        "classifier_dropout",
        "post_layer_norm",
        "interleaved_qkv",
        "rope_ratio",
    )
    return {
        "num_layers": s.count("num_layers"),
        "hidden_size": s.count("hidden_size"),
        "vocab_size": s.count("padded_vocab_size"),
        "num_heads": heads,
        "num_kv_heads": kv,
        "head_dim": s.optional("kv_channels"),
        "ffn_hidden_size": s.count("ffn_hidden_size"),
        "activation": "silu",
        "qkv_bias": s.flag("add_qkv_bias") or bias,
        "attention_output_bias": bias,
        "ffn_bias": bias,
        "tied_embeddings": s.flag("tie_word_embeddings"),
        "final_norm": s.flag("post_layer_norm", True),
        "attention_dropout": s.rate("attention_dropout"),
        "hidden_dropout": s.rate("hidden_dropout"),
    }


def qwen(s: Source, f: Fields) -> Fields:
    """The first Qwen: a fused projection with bias; the inner width is half of intermediate_size."""
    bias = not s.flag("no_bias", True)
    s.ignore(
        "kv_channels",
        "emb_dropout_prob",
        "attn_dropout_prob",
        "use_dynamic_ntk",
        "use_logn_attn",
        "use_cache_quantization",
        "use_cache_kernel",
        "softmax_in_fp32",
    )
    return {"ffn_hidden_size": f["ffn_hidden_size"] // 2, "attention_output_bias": bias, "ffn_bias": bias}


def phi_msft(s: Source, f: Fields) -> Fields:
    s.ignore("rotary_dim", "embd_pdrop", "flash_attn", "flash_rotary", "fused_dense", "img_processor")
    return {
        "ffn_hidden_size": f["ffn_hidden_size"] or 4 * f["hidden_size"],
        "num_kv_heads": s.optional("n_head_kv") or f["num_heads"],
        "activation": "gelu_tanh",
    }
