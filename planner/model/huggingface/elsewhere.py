"""Families whose own repositories define them, and those of transformers that no common table describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.common.errors import PlannerError
from planner.model.huggingface.decoders import FULL, LINEAR, SLIDING, Fields, dense_from, marked, windows
from planner.model.huggingface.source import Source
from planner.model.huggingface.special import latent, lfm2, lightning_layers

ZERO = (
    "choices that compute nothing have no weights, as the paper counts and servers hold them (transformers 5 sets unused rows "
    "aside: 741 instead of 561 billion for LongCat-Flash); its experts run behind the dense block"
)


def longcat(s: Source, f: Fields) -> Fields:
    """LongCat-Flash: a layer is two of latent attention and dense feed-forward; the experts of the first read what its dense
    block reads, as a shared expert would, and some of the router's choices compute nothing (arXiv 2509.01322, section 2).
    """
    layers = 2 * f["num_layers"]
    s.only("zero_expert_type", "identity", None)
    s.ignore("attention_method", "mla_scale_q_lora", "mla_scale_kv_lora", "num_hidden_layers")
    zero = s.optional("zero_expert_num")
    dense = s.count("ffn_hidden_size")
    return {
        **latent(s, f),
        "num_layers": layers,
        "ffn_hidden_size": dense,
        "num_experts": s.count("n_routed_experts"),
        "top_k": s.count("moe_topk"),
        "expert_ffn_hidden_size": s.count("expert_ffn_hidden_size"),
        "num_zero_experts": zero or 0,
        "router_bias": s.flag("router_bias"),
        "num_shared_experts": 1,
        "shared_expert_ffn_hidden_size": dense,
        "dense_layers": tuple(range(1, layers, 2)),
        "provenance": {"num_zero_experts": {"kind": "assumed", "source": ZERO}} if zero else {},
    }


def bailing(s: Source, f: Fields) -> Fields:
    """Ling and Ring: norms of queries and keys where the file says so; one width for all shared experts together."""
    bias = s.flag("use_bias")
    s.only("use_rmsnorm", True, None)
    s.only("use_sliding_window", False, None)
    s.ignore(
        "sliding_window",
        "max_window_layers",
        "moe_shared_expert_intermediate_size",
        "moe_router_enable_expert_bias",
        "moe_router_enable_shared_expert",
        "embedding_dropout",
        "output_dropout",
        "norm_head",  # rows of the output layer are normalized as they are loaded
        "norm_softmax",
        "router_type",
        "using_split_qkv_in_self_attention",
        "rotary_dim",
        "multi_gate",
    )
    return {
        "qk_norm": "head" if s.flag("use_qk_norm") else "none",
        "qkv_bias": s.flag("use_qkv_bias") or bias,
        "attention_output_bias": bias,
        "tied_embeddings": s.flag("tie_word_embeddings"),
    }


def bailing_linear(s: Source, f: Fields) -> Fields:
    """Ring-linear: lightning attention of ungrouped heads, with norms of queries and keys; the last of each group of layers is
    softmax attention, and so are those behind the last whole group."""
    layers, group = f["num_layers"], s.count("layer_group_size")
    whole = layers // group * group
    types = [FULL if (i + 1) % group == 0 or i >= whole else LINEAR for i in range(layers)]
    s.ignore("group_norm_size", "linear_silu", "linear_rope", "num_kv_heads_for_linear_attn")
    found, width = bailing(s, f), f["head_dim"]
    normed = {"layer_vectors": 2 * width} if found["qk_norm"] == "head" else {}
    return {**found, **lightning_layers(f["num_heads"], width, types, **normed)}


def _one(value: Any, key: str) -> Any:
    """The value that all layers have; a list must agree with itself."""
    if isinstance(value, list) and value:
        if any(x != value[0] for x in value):
            raise PlannerError("{0} differs between layers; give the model's fields in TOML, a variant for each width", key)
        return value[0]
    return value


HUNYUAN_ASIDE = frozenset(
    """
    anyres_pooling_size anyres_vit_max_image_size anyres_vit_two_views class_num dense_list pool_type num_media_embeds
    moe_layer_num_skipped moe_drop_tokens moe_random_routing_dropped_token norm_type use_mixed_mlp_moe mlp_bias
    kv_lora_rank q_lora_rank qk_rope_head_dim qk_nope_head_dim v_head_dim attention_head_dim org_vocab_size
    position_embedding_xdrope group_limited_greedy use_rotary_pos_emb add_classification_head skip_cls_token
    capacity_factor norm_after vit_add_patchemb_bias vit_input_resolution vit_mapping_type vit_norm_type vit_patch
    vit_path vit_remove_prenorm vit_token vit_type vit_used_rms_norm video_start_id text_start_id text_end_id
    image_token_id mask_init_id cla_share_factor
    """.split()  # noqa: SIM905
)


def hunyuan_moe(s: Source, f: Fields) -> Fields:
    """Hunyuan-A13B and -Large: one shared expert in each layer; with use_cla every second layer has keys of its own."""
    s.only("use_mla", False, None)
    for key in ("num_experts", "moe_topk", "moe_intermediate_size", "num_shared_expert"):
        if key in s.config:
            s.config[key] = _one(s.config[key], key)
    s.ignore(*HUNYUAN_ASIDE)
    normed = s.flag("use_qk_norm", True)
    found: Fields = {"qk_norm": "head" if normed else "none"}
    if s.flag("use_cla"):
        factor = s.count("cla_share_factor", 2)
        letters = ["A" if i % factor == 0 else "S" for i in range(f["num_layers"])]
        found |= marked(letters, [{"letter": "S", "shared_kv": True}])
    if (s.optional("num_experts") or 1) > 1:
        s.only("moe_layer_num_skipped", 0, None)
        width = s.optional("moe_intermediate_size") or f["ffn_hidden_size"]
        shared = s.optional("num_shared_expert") or 1
        found |= {
            "num_experts": s.count("num_experts"),
            "top_k": s.count("moe_topk"),
            "expert_ffn_hidden_size": width,
            "num_shared_experts": shared if s.flag("use_mixed_mlp_moe", True) else 0,
        }
    else:
        s.ignore("num_experts", "moe_topk", "moe_intermediate_size", "num_shared_expert")
    return found


def dbrx(s: Source) -> Fields:
    """Grouped heads, sixteen experts in every layer, layer norms without bias."""
    attention, ffn = s.get("attn_config") or {}, s.get("ffn_config") or {}
    if not isinstance(attention, Mapping) or not isinstance(ffn, Mapping):
        raise PlannerError("attn_config and ffn_config must be tables")
    heads = s.count("n_heads")
    s.ignore("max_seq_len", "emb_pdrop")
    return {
        "num_layers": s.count("n_layers"),
        "hidden_size": s.count("d_model"),
        "vocab_size": s.count("vocab_size"),
        "num_heads": heads,
        "num_kv_heads": attention.get("kv_n_heads", 1),
        "ffn_hidden_size": None,
        "norm": "layernorm",
        "norm_bias": False,
        "activation": "silu",
        "num_experts": ffn.get("moe_num_experts", 4),
        "top_k": ffn.get("moe_top_k", 1),
        "expert_ffn_hidden_size": ffn.get("ffn_hidden_size", 3584),
        "hidden_dropout": s.rate("resid_pdrop"),
        "tied_embeddings": s.flag("tie_word_embeddings"),
    }


def lfm2_moe(s: Source, f: Fields) -> Fields:
    s.config.setdefault("block_auto_adjust_ff_dim", False)
    if "tie_embedding" in s.config:
        f["tied_embeddings"] = s.flag("tie_embedding")
    s.ignore("use_expert_bias")
    return {**lfm2(s, f), "tied_embeddings": f["tied_embeddings"]}


def grok(s: Source, f: Fields) -> Fields:
    """Grok: norms before and behind each block; Grok 2 has a dense block beside its experts (residual_moe)."""
    beside = s.flag("residual_moe")
    width = s.optional("moe_intermediate_size") or f["ffn_hidden_size"]
    s.ignore("global_attn_every_n", "sliding_window_size", "attn_temperature_len", "max_attn_value", "embedding_multiplier_scale")
    s.ignore("output_multiplier_scale", "attn_output_multiplier")
    return {
        "norms_per_layer": 4,
        "num_experts": s.count("num_local_experts" if "num_local_experts" in s.config else "num_experts"),
        "top_k": s.count("num_experts_per_tok"),
        "expert_ffn_hidden_size": width,
        **({"num_shared_experts": 1, "shared_expert_ffn_hidden_size": f["ffn_hidden_size"]} if beside else {}),
    }


ARCTIC_ASIDE = frozenset(
    """
    use_residual moe_eval_capacity_factor moe_train_capacity_factor moe_min_capacity moe_token_dropping enc_index
    enable_expert_tensor_parallelism sliding_window num_local_experts num_experts_per_tok quantization
    """.split()  # noqa: SIM905
)


def arctic(s: Source, f: Fields) -> Fields:
    """Snowflake Arctic: experts beside a dense block as wide as the model, which has a norm of its own."""
    s.only("parallel_attn_mlp_res", True)
    s.only("moe_layer_frequency", 1)
    s.ignore(*ARCTIC_ASIDE)
    return {
        "norms_per_layer": 3,
        "num_experts": s.count("num_local_experts"),
        "top_k": s.count("num_experts_per_tok"),
        "expert_ffn_hidden_size": f["ffn_hidden_size"],
        "num_shared_experts": 1,
        "shared_expert_ffn_hidden_size": f["hidden_size"],
    }


STEP3_ASIDE = frozenset(
    """
    att_impl_type use_moe moe_layer_offset moe_every_n_layer norm_expert_weight max_seq_len use_qk_norm
    max_position_embedding rope_theta share_q_dim
    """.split()  # noqa: SIM905
)


def step3_mfa(s: Source, f: Fields) -> Fields:
    """Step-3: queries through a narrow vector, one key and one value (multi-matrix factorization attention, arXiv 2507.19427)."""
    layers = f["num_layers"]
    listed = s.get("moe_layers_enum")
    sparse = {int(i) for i in (listed.split(",") if isinstance(listed, str) else listed or ())}
    s.only("num_attention_groups", 1)
    s.ignore(*STEP3_ASIDE)
    shared = s.optional("share_expert_dim")
    return {
        "num_kv_heads": 1,
        "q_lora_rank": s.count("share_q_dim"),
        "num_experts": s.count("moe_num_experts"),
        "top_k": s.count("moe_top_k"),
        "expert_ffn_hidden_size": s.count("moe_intermediate_size"),
        **({"num_shared_experts": 1, "shared_expert_ffn_hidden_size": shared} if shared else {}),
        **(dense_from([i not in sparse for i in range(layers)]) if sparse else {}),
    }


SMALLTHINKER_ASIDE = frozenset(
    """
    rope_layout moe_enable_early_router moe_primary_router_apply_softmax moe_enable_secondary_experts
    moe_num_secondary_experts moe_secondary_expert_size
    """.split()  # noqa: SIM905
)


def smallthinker(s: Source, f: Fields) -> Fields:
    """SmallThinker: ReLU in gated experts, a router that reads the layer's input, layers with and without a window."""
    layers = f["num_layers"]
    layout, chosen = s.per_layer("sliding_window_layout", layers), s.per_layer("moe_layer_layout", layers)
    types = [SLIDING if x else FULL for x in layout] if layout else [FULL] * layers
    dense = dense_from([not x for x in chosen]) if chosen else {}
    s.ignore(*SMALLTHINKER_ASIDE)
    return {
        "activation": "relu",
        "num_experts": s.count("moe_num_primary_experts"),
        "top_k": s.count("moe_num_active_primary_experts"),
        "expert_ffn_hidden_size": s.count("moe_ffn_hidden_size"),
        **windows(s, types, "sliding_window_size"),
        **dense,
    }


def laguna(s: Source, f: Fields) -> Fields:
    """Laguna: a gate for each head or element; layers may have their own number of heads."""
    layers, gating = f["num_layers"], s.get("gating", True)
    if gating not in (True, "per-head", "per-element"):
        raise PlannerError("gating = {0!r}: must be true, per-head or per-element", gating)
    heads = s.per_layer("num_attention_heads_per_layer", layers) or [f["num_heads"]] * layers
    others = sorted(set(heads) - {f["num_heads"]})
    letters = {n: chr(ord("a") + i) for i, n in enumerate(others)}
    s.ignore("moe_apply_router_weight_on_input", "moe_router_logit_softcapping", "qkv_bias", "mlp_only_layers")
    s.ignore("decoder_sparse_step", "swa_attention_sink_enabled", "moe_router_use_sigmoid", "swa_rope_parameters")
    return {
        "attention_gate": "full" if gating == "per-element" else "head",
        "router_bias": True,
        **marked(
            ["A" if n == f["num_heads"] else letters[n] for n in heads], [{"letter": letters[n], "num_heads": n} for n in others]
        ),
    }
