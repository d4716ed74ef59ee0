"""Models from Hugging Face's config.json: one reader per family, with transformers' defaults and no silent guesses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.errors import PlannerError, near
from planner.huggingface.families import FAMILIES, Family
from planner.huggingface.reading import causal_head, check_values
from planner.model import Model

__all__ = ["FAMILIES", "model_from_config"]

Config = Mapping[str, Any]

# fields without effect on parameters, flops or bytes: tokens, seeds, numerics, positions' angles, bookkeeping. Clamps and
# soft caps are one pointwise pass over a tensor that is already being read
IRRELEVANT = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _name_or_path alibi_implementation attn_implementation
    attn_logit_softcapping auto_map aux_loss_alpha bad_words_ids begin_suppress_tokens bos_token_id cache_implementation
    classifier_dropout clip_qkv cls_token_id custom_pipelines decoder_start_token_id diversity_penalty do_sample dtype
    early_stopping encoder_no_repeat_ngram_size eos_token_id ep_size experts_implementation
    exponential_decay_length_penalty final_logit_softcapping finetuning_task forced_bos_token_id forced_eos_token_id
    gradient_checkpointing id2label init_config init_device init_std initial_context_length initializer_factor
    initializer_range label2id layer_norm_eps layer_norm_epsilon learned_pos_emb length_penalty logit_scale max_length
    min_length model_type n_ctx n_group no_repeat_ngram_size norm_eps norm_topk_prob num_beam_groups num_beams num_labels
    num_nextn_predict_layers num_return_sequences original_max_position_embeddings output_attentions output_hidden_states
    output_router_logits output_scores pad_token_id partial_rotary_factor prefix pretraining_tp problem_type
    query_pre_attn_scalar remove_invalid_values reorder_and_upcast_attn repetition_penalty return_dict
    return_dict_in_generate rms_norm_eps rope_interleave rope_parameters rope_scaling rope_theta rotary rotary_emb_base
    rotary_pct routed_scaling_factor router_aux_loss_coef router_jitter_noise router_z_loss_coef
    scale_attn_by_inverse_layer_idx scale_attn_weights scoring_func sep_token_id seq_aux summary_activation
    summary_first_dropout summary_proj_to_labels summary_type summary_use_proj suppress_tokens swiglu_alpha swiglu_limit
    task_specific_params temperature tf_legacy_loss tie_encoder_decoder tokenizer_class tokenizer_name top_k top_p
    topk_group topk_method torch_dtype torchscript transformers_version typical_p unk_token_id use_bfloat16 use_cache
    use_flash_attn verbose
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
HINTS = {
    "quantization_config": " The planner takes precision and quantization from the job: remove the field.",
    "is_encoder_decoder": " Encoder-decoder models cannot be planned.",
}


def model_from_config(config: Config, name: str, where: str) -> Model:
    """The model that ``config`` (a parsed config.json) describes.

    Fields that are absent take transformers' defaults for that ``model_type``; ``architectures`` chooses the head
    (absent: the language model's, for BERT the bare encoder with its pooler). DeepSeek's multi-token-prediction layers are
    left out, as transformers does; ``source`` says so. Raises PlannerError naming ``where``, the field and the value:
    unknown model_type, a field that the planner cannot express, a wrong type or number.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        hint = f" {near(kind, FAMILIES)}" if isinstance(kind, str) else ""
        raise PlannerError(f"{where}: model_type = {kind!r} is not supported; supported: {known}.{hint}")
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
    return Model.build({"name": name, "source": _source(config, kind), **fields}, where)


def _source(config: Config, kind: str) -> str:
    left_out = config.get("num_nextn_predict_layers")
    note = f", without its {left_out} multi-token-prediction layer(s)" if left_out else ""
    return f"Hugging Face config.json ({kind}){note}"


def _renamed(config: Config, family: Family) -> dict[str, Any]:
    """The config with transformers' second names (``attribute_map``) replaced by the first."""
    renamed = {k: v for k, v in config.items() if k not in family.aliases}
    for alias, key in family.aliases.items():
        if alias in config:
            if renamed.setdefault(key, config[alias]) != config[alias]:
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
        if key == "layer_types" and isinstance(value, list) and set(value) == {"full_attention"}:
            continue
        if key == "quantization_config" and family.stores_quantized:
            continue
        if value is None or value is False:
            continue
        hint = HINTS.get(key, " Remove it if it has no effect on the architecture, or give the model's fields in TOML.")
        raise PlannerError(
            f"{where}: {key} = {value!r} is not a field that the planner can express for model_type = {kind!r}.{hint}"
        )
