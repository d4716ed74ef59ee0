"""Checks of single values of a config.json, and the parts that several families share: activation, head, windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from planner.common.errors import PlannerError

Config = Mapping[str, Any]

# fields without effect on parameters, flops or bytes: tokens, seeds, numerics, positions' angles, bookkeeping. Clamps and
# soft caps are one pointwise pass over a tensor that is already being read
IRRELEVANT = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _name_or_path alibi_implementation architectures attn_implementation
    attn_logit_softcapping auto_map aux_loss_alpha bad_words_ids begin_suppress_tokens bos_token_id cache_implementation
    classifier_dropout clip_qkv cls_token_id custom_pipelines decoder_start_token_id diversity_penalty do_sample dtype
    early_stopping encoder_no_repeat_ngram_size eos_token_id ep_size experts_implementation
    exponential_decay_length_penalty final_logit_softcapping finetuning_task forced_bos_token_id forced_eos_token_id
    gradient_checkpointing id2label init_config init_device init_std initial_context_length initializer_factor
    initializer_range is_decoder label2id layer_norm_eps layer_norm_epsilon length_penalty logit_scale max_length
    min_length model_type n_ctx n_group no_repeat_ngram_size norm_eps norm_topk_prob num_beam_groups num_beams num_labels
    num_nextn_predict_layers num_return_sequences original_max_position_embeddings output_attentions output_hidden_states
    output_router_logits output_scores pad_token_id partial_rotary_factor prefix pretraining_tp problem_type
    qk_head_dim query_pre_attn_scalar remove_invalid_values reorder_and_upcast_attn repetition_penalty
    rescale_prenorm_residual return_dict
    return_dict_in_generate rms_norm_eps rope_interleave rope_parameters rope_scaling rope_theta rotary rotary_emb_base
    rotary_pct routed_scaling_factor router_aux_loss_coef router_jitter_noise router_z_loss_coef
    scale_attn_by_inverse_layer_idx scale_attn_weights scoring_func sep_token_id seq_aux summary_activation
    summary_first_dropout summary_proj_to_labels summary_type summary_use_proj suppress_tokens swiglu_alpha swiglu_limit
    task_specific_params temperature tf_legacy_loss tie_encoder_decoder tokenizer_class tokenizer_name top_k top_p
    topk_group topk_method torch_dtype torchscript transformers_version typical_p unk_token_id use_bfloat16 use_cache
    use_flash_attn verbose pixel_shuffle_factor perceiver_config neftune_noise_alpha
    """.split()  # noqa: SIM905 - a list of a hundred quoted names would be harder to read
)
# accepted only with these values: another one is an architecture, or work, that the planner cannot express
ONLY: dict[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "chunk_size_feed_forward": (0, None),
    "pruned_heads": ({}, None),
    "layerdrop": (0, None),
    "activation_dropout": (0, None),
    "embedding_fraction": (1, None),
    "norm_type": ("low_precision_layernorm", "layernorm", None),
    "position_embedding_type": ("absolute", None),
    "layer_norm_elementwise_affine": (True, None),
    "moe_layer_freq": (1, None),
}
HINTS = {"is_encoder_decoder": ". Encoder-decoders have types of their own (planner models families)"}
ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "swiglu": "silu", "gelu": "gelu", "relu": "relu", "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_pytorch": "gelu", "geglu": "gelu", "relu2": "relu2", "relu_2": "relu2", "xielu": "relu2", "swigluoai": "silu",
    "situ": "silu",
}  # fmt: skip
# fields for which null means "as derived from the others", or "none"
NULLABLE = frozenset(
    {
        "num_key_value_heads",
        "sliding_window",
        "head_dim",
        "q_lora_rank",
        "n_routed_experts",
        "n_inner",
        "num_kv_heads",
        "ffn_hidden_size",
        "word_embed_proj_dim",
        "num_ln_in_parallel_attn",
        "num_experts_per_tok",
        "n_shared_experts",
        "max_position_embeddings",
        "max_seq_len",
        "experts_per_token",
    }
)
# whole numbers that are not among a family's defaults, because transformers' default is null or is derived
COUNTS = NULLABLE | {"max_window_layers"}
MAY_BE_ZERO = frozenset(
    {
        "first_k_dense_replace",
        "n_shared_experts",
        "n_routed_experts",
        "num_experts",
        "type_vocab_size",
        "max_window_layers",
        "sliding_window",
        "max_position_embeddings",
    }
)
RATES = frozenset(
    {
        "attention_dropout",
        "hidden_dropout",
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "emb_pdrop",
        "dropout",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
    }
)


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
                raise PlannerError("{0} = {1!r}: must be a number from 0 to below 1", key, value)
        elif isinstance(default, bool):
            if not isinstance(value, bool):
                raise PlannerError("{0} = {1!r}: must be true or false", key, value)
        elif isinstance(default, int) or key in COUNTS:
            least = 0 if key in MAY_BE_ZERO else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise PlannerError("{0} = {1!r}: must be a whole number, at least {2}", key, value, least)


def activation(c: Config, key: str = "hidden_act") -> str:
    """Our name of an activation."""
    if not isinstance(c[key], str) or c[key] not in ACTIVATIONS:
        raise PlannerError("{0} = {1!r}: known are {2}", key, c[key], ", ".join(ACTIVATIONS))
    return ACTIVATIONS[c[key]]


def class_name(c: Config) -> str:
    """The first of ``architectures``, or nothing."""
    names = c.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise PlannerError("architectures = {0!r}: must be a list of class names", names)
    return names[0] if names else ""


def causal_head(c: Config, fields: dict[str, Any]) -> dict[str, Any]:
    """The head of a decoder: a language model's unless ``architectures`` names the bare model."""
    name = class_name(c)
    if not name or name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        return {"tied_embeddings": fields["tied_embeddings"]}
    if name.endswith("Model"):
        return {"head": "none", "tied_embeddings": False}
    if name.endswith(("ForSequenceClassification", "ForTokenClassification")):
        token = name.endswith("ForTokenClassification")
        labels = len(c.get("id2label") or ()) or c.get("num_labels") or 2
        return {"head": "none", "tied_embeddings": False, "num_labels": labels, "label_bias": token}
    raise PlannerError(
        "architectures = [{0!r}]: the planner knows a decoder's ...ForCausalLM, ...Model and ...ForSequenceClassification", name
    )


def sliding(c: Config, types: Any, default_window: int | None = None) -> dict[str, Any]:
    """Window and which layers attend to everything, from ``layer_types`` (None: every layer slides)."""
    layers, window = c["num_hidden_layers"], c.get("sliding_window", default_window) or None
    if types is None:
        return {"sliding_window": window} if window else {}
    if not isinstance(types, list) or len(types) != layers:
        raise PlannerError("layer_types = {0!r}: must list {1} layers", types, layers)
    unknown = [t for t in types if t not in ("sliding_attention", "full_attention")]
    if unknown:
        raise PlannerError("layer_types holds {0!r}; known are full_attention and sliding_attention", unknown[0])
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


def router_groups(groups: Any, chosen: Any) -> dict[str, Any]:
    """Groups of neighbouring experts of which a token visits some (DeepSeek-V3: 4 of 8); nothing where it visits all."""
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (groups, chosen))
    return {"router_groups": groups, "router_top_groups": chosen} if whole and 0 < chosen < groups else {}
