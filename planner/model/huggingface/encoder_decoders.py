"""Encoder-decoders: T5 and its kin, BART and its kin, Whisper. The encoder's layers come first, then the decoder's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planner.common.errors import PlannerError
from planner.model.huggingface.decoders import Fields
from planner.model.huggingface.encoders import GLOBAL, window_of
from planner.model.huggingface.source import Source

ENCODER, ENCODER_EXPERTS, DECODER, DECODER_EXPERTS = "E", "F", "D", "M"
"""Letters of layers."""
GATED = {"gated-gelu": "gelu_tanh", "gated-gelu_new": "gelu_tanh", "gated-silu": "silu", "gated-relu": "relu"}
"""Gated feed-forwards of T5's kin (``feed_forward_proj``), and their activation."""
TIED = (
    "transformers 5 ties the output layer to the words whatever the file says; a stack that keeps one of its own, as T5 1.1 was "
    "trained, holds vocab_size x hidden_size weights more"
)
UNUSED = tuple(
    """
    num_labels id2label label2id num_beams max_length length_penalty early_stopping extra_pos_embeddings num_hidden_layers
    hidden_size num_attention_heads output_past
    """.split()  # noqa: SIM905
)
"""Fields without effect in all of them; then those of some."""
OF_BART = tuple(
    """
    encoder_layerdrop decoder_layerdrop activation_dropout classifier_dropout classif_dropout scale_embedding add_bias_logits
    add_final_layer_norm normalize_before normalize_embedding static_position_embeddings gradient_checkpointing variant
    encoder_no_repeat_ngram_size no_repeat_ngram_size min_length do_blenderbot_90_layernorm num_key_value_heads
    """.split()  # noqa: SIM905
)
OF_EXPERTS = tuple(
    """
    expert_capacity moe_eval_capacity_token_fraction moe_token_dropout second_expert_policy batch_prioritized_routing
    normalize_router_prob_before_dropping router_ignore_padding_tokens router_dtype router_type sparse_step router_jitter_noise
    router_z_loss_coef
    """.split()  # noqa: SIM905
)
OF_SOUND = tuple(
    """
    max_source_positions max_target_positions num_mel_bins apply_spec_augment mask_time_length mask_time_prob mask_time_min_masks
    mask_feature_length mask_feature_prob mask_feature_min_masks use_weighted_layer_sum classifier_proj_size median_filter_width
    alignment_heads suppress_tokens begin_suppress_tokens forced_decoder_ids lang_ids task_ids
    """.split()  # noqa: SIM905
)


def _class(s: Source) -> str:
    """What the file's class is: ``both``, with the output layer; ``bare``, without; ``encoder`` alone."""
    named = s.get("architectures") or []
    name = named[0] if isinstance(named, list) and named else ""
    if name == "" or name.endswith(("ForConditionalGeneration", "MTModel", "WithLMHeadModel")):
        return "both"
    if name.endswith("EncoderModel"):
        return "encoder"
    if name.endswith("Model"):
        return "bare"
    raise PlannerError("architectures = [{0!r}]: known are the model with its output layer, bare, and the encoder alone", name)


def _stacks(encoder: list[str], decoder: list[str], variants: dict[str, Fields]) -> Fields:
    """Both stacks: the encoder's layers as variants without cross-attention; ``decoder`` layers have the model's own fields."""
    reads: Fields = {"architecture": "encoder", "cross_attention": False}
    letters = [*encoder, *decoder]
    made = []
    for letter in dict.fromkeys(letters):
        own = variants.get(letter, {})
        if letter in encoder:
            made.append({"letter": letter, **reads, **own})
        elif own:
            made.append({"letter": letter, **own})
    return {"num_layers": len(letters), "layer_pattern": "".join(letters), "variants": tuple(made), "cross_attention": True}


def _sparse(step: int, layers: int, dense: str, experts: str) -> list[str]:
    """Every ``step``-th layer has experts; none where it is 0."""
    return [experts if step and (i + 1) % step == 0 else dense for i in range(layers)]


def t5(bias_in_each_layer: bool = False) -> Callable[[Source], Fields]:
    """RMS norms in front, no biases, a learned bias of positions: one table for each stack, or in each layer (UMT5)."""

    def read(s: Source) -> Fields:
        layers, h, heads = s.count("num_layers"), s.count("d_model"), s.count("num_heads")
        decoder = s.optional("num_decoder_layers") or layers
        form, what = s.get("feed_forward_proj", "relu"), _class(s)
        s.only("is_decoder", False)
        s.ignore("is_encoder_decoder")
        s.ignore("tie_word_embeddings", "dense_act_fn", "is_gated_act", "relative_attention_max_distance", "n_positions", *UNUSED)
        s.ignore("scale_decoder_outputs")
        if form not in ("relu", "gelu", *GATED):
            raise PlannerError("feed_forward_proj = {0!r}: known are {1}", form, ", ".join(("relu", "gelu", *GATED)))
        table = s.count("relative_attention_num_buckets", 32) * heads
        both = what != "encoder"
        found: Fields = {
            "hidden_size": h,
            "num_heads": heads,
            "head_dim": s.count("d_kv"),
            "vocab_size": s.count("vocab_size"),
            "ffn_hidden_size": s.count("d_ff"),
            "gated_ffn": form in GATED,
            "activation": GATED.get(form, form),
            "position_embedding": "none",
            "position_bias": True,
            "layer_vectors": table if bias_in_each_layer else 0,
            "model_vectors": 0 if bias_in_each_layer else table * (1 + both),
            "hidden_dropout": s.rate("dropout_rate", 0.1),
            "attention_dropout": s.rate("dropout_rate", 0.1),
            "modules": "t5",
        }
        if not both:
            return {**found, "architecture": "encoder", "num_layers": layers, "head": "none"}
        stacks = _stacks([ENCODER] * layers, [DECODER] * decoder, {ENCODER: {"norms_per_layer": 2}})
        ends: Fields = {"head": "none"} if what == "bare" else {"tied_embeddings": True}
        if what == "both" and s.config.get("tie_word_embeddings") is False:
            ends["provenance"] = {"tied_embeddings": {"kind": "assumed", "source": TIED}}
        return {**found, **stacks, **ends, "norms_per_layer": 3}

    return read


def bart(
    *, positions: str = "learned", offset: int = 2, pre_norm: bool = False, embedding_norm: bool = True, final: bool | None = None
) -> Callable[[Source], Fields]:
    """Layer norms, biases, positions from a table (``offset`` rows more than positions) or computed.

    ``final``: a norm behind each stack; by default where norms stand in front of the blocks.
    """

    def read(s: Source) -> Fields:
        h, what = s.count("d_model"), _class(s)
        layers = (s.count("encoder_layers"), s.count("decoder_layers"))
        heads = (s.count("encoder_attention_heads"), s.count("decoder_attention_heads"))
        inner = (s.count("encoder_ffn_dim"), s.count("decoder_ffn_dim"))
        s.only("is_decoder", False)
        s.ignore("is_encoder_decoder")
        if what == "encoder":
            raise PlannerError("architectures: the planner reads {0} with its decoder; leave the field out", s.kind)
        s.ignore(*UNUSED, *OF_BART)
        vocabulary = s.count("vocab_size")
        if s.kind == "marian":
            s.only("decoder_vocab_size", vocabulary, None)
            s.only("share_encoder_decoder_embeddings", True, None)
        table = positions == "learned"
        differs: Fields = {}
        if heads[0] != heads[1]:
            differs |= {"num_heads": heads[0], "num_kv_heads": heads[0], "head_dim": h // heads[0]}
        if inner[0] != inner[1]:
            differs |= {"ffn_hidden_size": inner[0]}
        found: Fields = {
            "hidden_size": h,
            "num_heads": heads[1],
            "vocab_size": vocabulary,
            "ffn_hidden_size": inner[1],
            "gated_ffn": False,
            "activation": s.activation(otherwise="gelu"),
            "norm": "layernorm",
            "norms_per_layer": 3,
            "qkv_bias": True,
            "attention_output_bias": True,
            "ffn_bias": True,
            "position_embedding": "learned" if table else "none",
            "embedding_norm": embedding_norm,
            "final_norm": pre_norm if final is None else final,
            "norm_placement": "before" if pre_norm else "after",
            "hidden_dropout": s.rate("dropout", 0.1),
            "attention_dropout": s.rate("attention_dropout"),
            "softmax_in_fp32": False,
            "modules": "bart",
            **({"max_positions": s.count("max_position_embeddings") + offset, "position_offset": offset} if table else {}),
            **({"head": "none"} if what == "bare" else {"tied_embeddings": s.flag("tie_word_embeddings", True)}),
        }
        if not s.flag("tie_word_embeddings", True):  # then each stack has a table of its own beside the common one
            found["model_vectors"] = 2 * vocabulary * h
        encoder, decoder = [ENCODER] * layers[0], [DECODER] * layers[1]
        variants: dict[str, Fields] = {ENCODER: {"norms_per_layer": 2, **differs}}
        if s.kind == "nllb-moe":
            encoder = _sparse(s.count("encoder_sparse_step", 4, least=0), layers[0], ENCODER, ENCODER_EXPERTS)
            decoder = _sparse(s.count("decoder_sparse_step", 4, least=0), layers[1], DECODER, DECODER_EXPERTS)
            variants = {
                ENCODER: {**variants[ENCODER], "feed_forward": "dense"},
                ENCODER_EXPERTS: {**variants[ENCODER], "feed_forward": "experts", "expert_ffn_hidden_size": inner[0]},
                DECODER_EXPERTS: {"feed_forward": "experts"},
            }
            found |= {
                "num_experts": s.count("num_experts"),
                "top_k": 2,
                "expert_ffn_hidden_size": inner[1],
                "router_bias": s.flag("router_bias"),
                "feed_forward": "dense",
            }
            s.ignore(*OF_EXPERTS)
        return {**found, **_stacks(encoder, decoder, variants)}

    return read


def whisper(s: Source) -> Fields:
    """BART's layers with norms in front over 1,500 frames of 30 s of sound; keys have no bias; two convolutions in front."""
    read = bart(pre_norm=True, embedding_norm=False, offset=0)
    h, mel = s.count("d_model"), s.count("num_mel_bins")
    source, target = s.count("max_source_positions"), s.count("max_target_positions")
    s.config["max_position_embeddings"] = target
    found = read(s)
    s.ignore(*OF_SOUND)
    convolutions = 3 * mel * h + h + 3 * h * h + h
    variants = tuple({**x, "layer_vectors": 2 * h} for x in found["variants"])  # biases of queries and values
    return {
        **found,
        "qkv_bias": False,
        "layer_vectors": 4 * h,
        "variants": variants,
        "source_positions": source,
        "model_vectors": convolutions,
    }


def led(s: Source) -> Fields:
    """BART whose encoder has Longformer's windows and a longer table of positions (arXiv 2004.05150, section 7)."""
    source, target = s.count("max_encoder_position_embeddings"), s.count("max_decoder_position_embeddings")
    s.config["max_position_embeddings"] = target
    s.ignore("max_encoder_position_embeddings", "max_decoder_position_embeddings")
    found = bart(offset=0)(s)
    h, layers = s.count("d_model"), s.count("encoder_layers")
    projections = {"layer_vectors": 3 * (h * h + h)}
    return {
        **found,
        "sliding_window": window_of(s, layers),
        "full_attention_layers": tuple(range(layers, found["num_layers"])),
        "variants": tuple({**x, **projections} for x in found["variants"]),
        "source_positions": source,
        "provenance": {"variants": {"kind": "assumed", "source": GLOBAL}},
    }


def t5gemma(s: Source) -> Fields:
    """Gemma 2's layers in both stacks, each with words of its own (arXiv 2504.06225); they must be equally wide."""
    stacks = {name: Source(_table(s, name), "gemma2") for name in ("encoder", "decoder")}
    read, written = (_module(stack) for stack in stacks.values())
    what = _class(s)
    if read["hidden_size"] != written["hidden_size"]:
        raise PlannerError(
            "encoder.hidden_size = {0}, decoder.hidden_size = {1}: the planner knows cross-attention between equal widths",
            read["hidden_size"],
            written["hidden_size"],
        )
    if what == "encoder":
        raise PlannerError("architectures: the planner reads {0} with its decoder; leave the field out", s.kind)
    s.ignore("is_encoder_decoder", "classifier_dropout_rate", "dropout_rate", "attention_dropout", *UNUSED)
    layers = (read.pop("num_layers"), written.pop("num_layers"))
    read.pop("full")  # its windows reach sliding_window tokens to either side: as far as its positions go
    full = (*range(layers[0]), *(layers[0] + i for i in written.pop("full")))
    differs = {key: value for key, value in read.items() if value != written[key]}
    if differs.keys() - {"num_heads", "num_kv_heads", "head_dim", "ffn_hidden_size"}:
        raise PlannerError("encoder and decoder differ in {0}; give the model's fields in TOML", ", ".join(differs))
    s.ignore("vocab_size")  # each stack has its own
    words, h = written["vocab_size"], written["hidden_size"]
    variants = {ENCODER: {"norms_per_layer": 4, **differs}}
    return {
        **written,
        **_stacks([ENCODER] * layers[0], [DECODER] * layers[1], variants),
        **({"full_attention_layers": full} if written["sliding_window"] else {}),
        **({"head": "none"} if what == "bare" else {"tied_embeddings": s.flag("tie_word_embeddings", True)}),
        "vocab_size": words,
        "norms_per_layer": 6,
        "model_vectors": words * h,
    }


def _table(s: Source, name: str) -> dict[str, Any]:
    """A stack's own table."""
    found = s.get(name)
    if not isinstance(found, dict):
        raise PlannerError("{0} = {1!r}: must be a table", name, found)
    return found


def _module(s: Source) -> Fields:
    """One stack of T5Gemma; every second layer has a window."""
    layers, heads = s.count("num_hidden_layers", 26), s.count("num_attention_heads", 8)
    types = s.per_layer("layer_types", layers) or ["sliding_attention", "full_attention"] * layers
    bias = s.flag("attention_bias")
    s.ignore(
        "cross_attention_hidden_size", "query_pre_attn_scalar", "is_decoder", "tie_word_embeddings", "classifier_dropout_rate"
    )
    found: Fields = {
        "num_layers": layers,
        "hidden_size": s.count("hidden_size", 2304),
        "num_heads": heads,
        "num_kv_heads": s.count("num_key_value_heads", 4),
        "head_dim": s.count("head_dim", 256),
        "ffn_hidden_size": s.count("intermediate_size", 9216),
        "vocab_size": s.count("vocab_size", 256000),
        "activation": s.activation("hidden_activation", "gelu_pytorch_tanh"),
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "hidden_dropout": s.rate("dropout_rate"),
        "attention_dropout": s.rate("attention_dropout"),
        "sliding_window": s.optional("sliding_window", 4096),
        "full": tuple(i for i in range(layers) if types[i] == "full_attention"),
    }
    s.left()
    return found


READ: dict[str, Callable[[Source], Fields]] = {
    "t5": t5(), "mt5": t5(), "umt5": t5(bias_in_each_layer=True),
    "bart": bart(), "mbart": bart(pre_norm=True), "pegasus": bart(pre_norm=True, embedding_norm=False, offset=0),
    "marian": bart(embedding_norm=False, offset=0), "m2m_100": bart(positions="none", pre_norm=True, embedding_norm=False),
    "blenderbot": bart(pre_norm=True, embedding_norm=False, offset=0), "blenderbot-small": bart(offset=0),
    "mvp": bart(), "plbart": bart(), "nllb-moe": bart(positions="none", pre_norm=True, embedding_norm=False),
    "whisper": whisper, "led": led, "t5gemma": t5gemma,
}  # fmt: skip
"""Readers by ``model_type``."""
