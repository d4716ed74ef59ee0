"""Models from Hugging Face's config.json: one reader per family, with transformers' defaults and no silent guesses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.errors import PlannerError, near
from planner.huggingface.families import FAMILIES, Family
from planner.model import Model

__all__ = ["FAMILIES", "model_from_config"]

Config = Mapping[str, Any]

# fields without effect on parameters, flops or bytes: tokens, seeds, numerics, positions' angles, bookkeeping
IRRELEVANT = frozenset(
    """
    _attn_implementation _name_or_path _remove_final_layer_norm activation_dropout alibi_implementation architectures
    attn_implementation attn_logit_softcapping auto_map aux_loss_alpha bad_words_ids begin_suppress_tokens bos_token_id
    chunk_size_feed_forward classifier_dropout clip_qkv cls_token_id cross_attention_hidden_size custom_pipelines
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping embedding_fraction encoder_no_repeat_ngram_size
    eos_token_id ep_size experts_implementation exponential_decay_length_penalty final_logit_softcapping finetuning_task
    forced_bos_token_id forced_eos_token_id gelu_fast gradient_checkpointing id2label init_config init_device init_std
    initial_context_length initializer_factor initializer_range is_decoder label2id layer_norm_eps layer_norm_epsilon
    layerdrop learned_pos_emb length_penalty logit_scale max_length min_length model_type n_ctx n_group no_repeat_ngram_size
    norm_eps norm_topk_prob num_beam_groups num_beams num_nextn_predict_layers num_return_sequences
    original_max_position_embeddings output_attentions output_hidden_states output_router_logits output_scores pad_token_id
    partial_rotary_factor prefix qk_head_dim swiglu_alpha pretraining_tp problem_type pruned_heads query_pre_attn_scalar remove_invalid_values
    reorder_and_upcast_attn repetition_penalty return_dict return_dict_in_generate rms_norm_eps rope_interleave
    rope_parameters rope_scaling rope_theta rotary rotary_emb_base rotary_pct routed_scaling_factor router_aux_loss_coef
    router_jitter_noise router_z_loss_coef scale_attn_by_inverse_layer_idx scale_attn_weights scoring_func sep_token_id
    seq_aux summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj suppress_tokens
    swiglu_limit task_specific_params temperature tie_encoder_decoder tokenizer_class tokenizer_name top_p topk_group
    topk_method torch_dtype torchscript transformers_version typical_p unk_token_id use_bfloat16 use_cache use_flash_attn
    verbose
    """.split()  # noqa: SIM905 - a list of a hundred quoted names would be harder to read
)
# accepted only with these values: another one is an architecture that the planner cannot express
ONLY: dict[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "use_parallel_residual": (True, None),
    "apply_residual_connection_post_layernorm": (False, None),
    "norm_type": ("low_precision_layernorm", "layernorm", None),
    "position_embedding_type": ("absolute", None),
    "expansion_ratio_ffn": (None,),
    "do_layer_norm_before": (True, None),
    "layer_norm_elementwise_affine": (True, None),
}


def model_from_config(config: Config, name: str, where: str) -> Model:
    """The model that ``config`` (a parsed config.json) describes.

    Fields that are absent take transformers' defaults for that ``model_type``. Raises PlannerError naming ``where``, the
    field and the value: unknown model_type, a field that the planner cannot express, a wrong type or number.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        hint = f" {near(kind, FAMILIES)}" if isinstance(kind, str) else ""
        raise PlannerError(f"{where}: model_type = {kind!r} is not supported; supported: {known}.{hint}")
    family = FAMILIES[kind]
    _refuse_unknown(config, family, kind, where)
    filled = {**family.defaults, **config}
    _check_numbers(filled, family, where)
    try:
        fields = family.build(filled)
    except PlannerError as error:
        raise PlannerError(f"{where}: {error}") from None
    return Model.build({"name": name, "source": f"Hugging Face config.json ({kind})", **fields}, where)


def _refuse_unknown(config: Config, family: Family, kind: str, where: str) -> None:
    for key, value in config.items():
        if key in ONLY and value not in ONLY[key]:
            raise PlannerError(
                f"{where}: {key} = {value!r}: the planner cannot express this for {kind}; it knows {ONLY[key][0]!r}."
            )
        if key in family.defaults or key in family.reads or key in IRRELEVANT or key in ONLY:
            continue
        if key == "layer_types" and isinstance(value, list) and set(value) == {"full_attention"}:
            continue
        if key == "quantization_config" and family.stores_quantized:
            continue
        if value is None or value is False:
            continue
        raise PlannerError(
            f"{where}: {key} = {value!r} is not a field that the planner can express for model_type = {kind!r}; remove it if it "
            "has no effect on the architecture, or give the model's fields in TOML."
        )


def _check_numbers(filled: Config, family: Family, where: str) -> None:
    """Sizes must be whole numbers; pydantic checks ranges later, with our names."""
    for key, default in family.defaults.items():
        value = filled[key]
        if value is None and key in ("num_key_value_heads", "sliding_window", "head_dim", "q_lora_rank", "n_routed_experts"):
            continue
        sized = isinstance(default, int) and not isinstance(default, bool)
        if sized and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise PlannerError(f"{where}: {key} = {value!r}: must be a whole number that is not negative (default {default}).")
        if isinstance(default, bool) and not isinstance(value, bool):
            raise PlannerError(f"{where}: {key} = {value!r}: must be true or false (default {default}).")
