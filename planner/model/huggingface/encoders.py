"""Encoders: BERT and its kin, and those with rotary positions and gated feed-forwards."""

from __future__ import annotations

from collections.abc import Callable

from planner.common.errors import PlannerError
from planner.model.huggingface.decoders import PLAIN, SLIDING, Fields, layer_types, marked, windows
from planner.model.huggingface.source import Source

FULL = "full_attention"
MASKED: Fields = {"head": "masked_language_model", "tied_embeddings": True, "head_bias": True}


def class_head(s: Source, masked: Fields, bare: Fields, classifier: Fields) -> Fields:
    """The head that ``architectures`` names: masked language model (default), bare encoder, or a classifier."""
    named = s.get("architectures") or []
    name = named[0] if isinstance(named, list) and named else ""
    labels = len(s.get("id2label") or {}) or s.count("num_labels", 2)
    s.ignore("id2label", "label2id", "classifier_dropout", "classifier_pooling", "classifier_bias", "classifier_activation")
    if name == "" or name.endswith(("ForMaskedLM", "ForCausalLM", "LMHeadModel", "ForPreTraining")):
        masked = {**masked, **_untied(s, masked)}
        if name.endswith("ForPreTraining"):
            return {**masked, "pooler": True, "num_labels": 2}
        return masked
    s.ignore("tie_word_embeddings")
    if name.endswith("Model"):
        return {"head": "none", **bare}
    if name.endswith(("ForTokenClassification", "ForQuestionAnswering")):
        return {"head": "none", "num_labels": labels}
    if name.endswith("ForSequenceClassification"):
        return {"head": "none", "num_labels": labels, **classifier}
    raise PlannerError("architectures = [{0!r}]: the planner knows masked language models, bare encoders and classifiers", name)


ONE_BIAS = ("electra", "distilbert", "gte", "nomic_bert", "modernbert", "modernbert-decoder", "eurobert")
"""Encoders whose output layer has its bias once; the others keep it beside the layer's own where nothing is tied."""


def _untied(s: Source, masked: Fields) -> Fields:
    """An output layer of its own, where the file says that none is shared."""
    if s.flag("tie_word_embeddings", True):
        return {}
    twice = 0 if s.kind in ONE_BIAS else s.count("vocab_size")
    return {"tied_embeddings": False, "model_vectors": masked.get("model_vectors", 0) + twice}


def _common(s: Source) -> Fields:
    s.only("is_decoder", False)
    return {
        "architecture": "encoder",
        "num_layers": s.count("num_hidden_layers"),
        "hidden_size": s.count("hidden_size"),
        "num_heads": s.count("num_attention_heads"),
        "vocab_size": s.count("vocab_size"),
        "ffn_hidden_size": s.count("intermediate_size"),
        "activation": s.activation(otherwise="gelu"),
        "hidden_dropout": s.rate("hidden_dropout", 0.1),
        "attention_dropout": s.rate("attention_dropout", 0.1),
        "softmax_in_fp32": False,
        "final_norm": False,
        "embedding_norm": True,
        "norm_placement": "after",
    }


def bert_like(
    pre_norm: bool = False, embedding_norm: bool = True, types: str | None = "type_vocab_size", padded: bool = False
) -> Callable[[Source], Fields]:
    """BERT's layers with learned positions; ``pre_norm``: norms in front and one behind the last layer; ``padded``: positions
    begin behind the padding's row (create_position_ids_from_input_ids)."""

    def read(s: Source) -> Fields:
        s.only("position_embedding_type", "absolute", None)
        s.ignore(
            "pad_token_id",
            "summary_activation",
            "summary_last_dropout",
            "sinusoidal_pos_embds",
            "qa_dropout",
            "seq_classif_dropout",
            "output_past",
        )
        found = {
            **_common(s),
            **PLAIN,
            "position_embedding": "learned",
            "max_positions": s.count("max_position_embeddings"),
            "type_vocab_size": s.count(types, 0, least=0) if types else 0,
            "final_norm": pre_norm,
            "norm_placement": "before" if pre_norm else "after",
            "embedding_norm": embedding_norm,
            "modules": "bert",
        }
        if s.kind == "ernie" and s.flag("use_task_id"):  # a third table, of the token's task
            found["type_vocab_size"] += s.count("task_type_vocab_size", 3)
        s.ignore("use_task_id", "task_type_vocab_size")
        if padded:
            found["position_offset"] = s.count("pad_token_id", 1, least=0) + 1
        return {**found, **class_head(s, MASKED, {"pooler": types is not None}, {"pooler": True})}

    return read


def mpnet(s: Source) -> Fields:
    """BERT without token types, with a learned bias of positions that all layers share; the bare encoder has a pooler."""
    found = bert_like(types=None, padded=True)(s)
    bare = found["head"] == "none" and not found.get("num_labels")
    table = s.count("relative_attention_num_buckets", 32) * found["num_heads"]
    return {
        **found,
        "position_bias": True,
        "model_vectors": table + found.get("model_vectors", 0),
        **({"pooler": True} if bare else {}),
    }


def layoutlm(s: Source) -> Fields:
    """BERT with four further tables of positions on the page; its masked language model keeps the pooler."""
    found = bert_like()(s)
    tables = 4 * s.count("max_2d_position_embeddings", 1024) * found["hidden_size"]
    masked = {"pooler": True} if found["head"] == "masked_language_model" else {}
    return {**found, "model_vectors": tables + found.get("model_vectors", 0), **masked}


def ibert(s: Source) -> Fields:
    """I-BERT as it is trained: RoBERTa; with quant_mode its kernels are integer ones."""
    s.only("quant_mode", False)
    s.ignore("force_dequant")
    return bert_like()(s)


GLOBAL = "no token attends globally: the projections of those that would count as weights alone"
SPARSE = "a query reads its own three blocks of keys, those at both ends and some at random; counted as one window as wide"


def window_of(s: Source, layers: int) -> int:
    """Tokens that a query of Longformer's sees on both sides together; all layers must have as many."""
    window = s.get("attention_window", 512)
    if isinstance(window, list) and len(window) == layers and len(set(window)) == 1:
        window = window[0]
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise PlannerError(
            "attention_window = {0!r}: must be a whole number, or the same one for each of {1} layers", window, layers
        )
    return window


def longformer(s: Source) -> Fields:
    """RoBERTa with a window (arXiv 2004.05150); tokens that attend globally have projections of their own."""
    found = bert_like()(s)
    h = found["hidden_size"]
    s.ignore("onnx_export", "ignore_attention_mask", "attention_mode", "attention_dilation", "autoregressive")
    return {
        **found,
        "sliding_window": window_of(s, found["num_layers"]),
        "layer_vectors": 3 * (h * h + h),
        "provenance": {"layer_vectors": {"kind": "assumed", "source": GLOBAL}},
    }


def big_bird(s: Source) -> Fields:
    """BERT whose queries read blocks of keys: 3 around them, 2 at the ends, some at random (arXiv 2007.14062, section 2)."""
    found = bert_like()(s)
    s.ignore("rescale_embeddings")
    found |= {"qkv_bias": s.flag("use_bias", True), "pooler": True}  # it has one whatever its head is
    if "ForSequenceClassification" in str(s.get("architectures")):  # a square layer in front of the labels, too
        found["model_vectors"] = found["hidden_size"] ** 2 + found["hidden_size"]
    s.only("attention_type", "block_sparse", "original_full")
    blocks, size = s.count("num_random_blocks", 3) + 5, s.count("block_size", 64)
    if s.get("attention_type", "block_sparse") == "original_full":
        return found
    sparse = {"sliding_window": {"kind": "assumed", "source": SPARSE}}
    return {**found, "sliding_window": blocks * size, "provenance": sparse}


def esm(s: Source) -> Fields:
    """ESM-2 (proteins): BERT's matrices behind norms, rotary positions, and a regression on the attention maps (contacts)."""
    s.only("is_folding_model", False)
    s.only("position_embedding_type", "rotary", "absolute")
    s.ignore("token_dropout", "mask_token_id", "vocab_list", "esmfold_config", "pad_token_id")
    found = {
        **_common(s),
        **PLAIN,
        "final_norm": True,
        "embedding_norm": s.flag("emb_layer_norm_before"),
        "norm_placement": "before",
    }
    if s.get("position_embedding_type", "absolute") == "absolute":
        found |= {
            "position_embedding": "learned",
            "max_positions": s.count("max_position_embeddings"),
            "position_offset": s.count("pad_token_id", 1, least=0) + 1,
        }
    found |= class_head(s, MASKED, {"pooler": True}, {"pooler": True})
    contacts = found["num_layers"] * found["num_heads"] + 1
    return {**found, "modules": "bert", "model_vectors": contacts + found.get("model_vectors", 0)}


def electra(s: Source) -> Fields:
    """Embeddings narrower than the layers; the generator's head goes back to their width, the discriminator's is a square layer
    and one output."""
    discriminates = "ForPreTraining" in str(s.get("architectures"))
    if discriminates:
        s.config["architectures"] = ["ElectraModel"]
    found = bert_like()(s)
    if discriminates:
        found |= {"pooler": False, "num_labels": 1, "model_vectors": found["hidden_size"] ** 2 + found["hidden_size"]}
    elif found["head"] == "none" and "num_labels" not in found:
        found["pooler"] = False
    width = s.count("embedding_size")
    if width != found["hidden_size"]:
        found |= {"embedding_projection_size": width, "embedding_all_narrow": True}
    return found


def albert(s: Source) -> Fields:
    """BERT with narrow embeddings whose layers run the weights of their group's first (arXiv 1909.11942, section 3.1)."""
    found = bert_like()(s)
    layers, groups = found["num_layers"], s.count("num_hidden_groups", 1)
    s.only("inner_group_num", 1)
    s.ignore("classifier_dropout_prob", "down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks")
    first = [i == 0 or int(i / (layers / groups)) != int((i - 1) / (layers / groups)) for i in range(layers)]
    return {
        **found,
        "modules": "albert",
        "embedding_projection_size": s.count("embedding_size"),
        "embedding_all_narrow": True,
        **marked(["A" if new else "R" for new in first], [{"letter": "R", "shared_weights": True}]),
    }


def deberta_v2(s: Source) -> Fields:
    """DeBERTa-v2 and v3: BERT with scores between tokens and distances, by the projections of queries and keys themselves."""
    found = bert_like()(s)
    h = found["hidden_size"]
    s.only("embedding_size", h)
    s.only("conv_kernel_size", 0)
    s.ignore("pooler_dropout", "pooler_hidden_act", "pooler_hidden_size", "legacy", "conv_act", "conv_groups")
    found |= {"modules": "deberta", "pooler": found.get("pooler", False) and found["head"] == "none" and "num_labels" in found}
    if not s.flag("position_biased_input", True):
        found |= {"position_embedding": "none", "max_positions": 0}
    if not s.flag("relative_attention"):
        s.ignore("share_att_key", "pos_att_type", "position_buckets", "max_relative_positions", "norm_rel_ebd")
        return found
    s.only("share_att_key", True)
    ways = s.get("pos_att_type") or ()
    ways = ways.split("|") if isinstance(ways, str) else list(ways)
    if sorted(ways) != ["c2p", "p2c"]:
        raise PlannerError("pos_att_type = {0!r}: the planner knows both ways together, c2p|p2c", s.get("pos_att_type"))
    buckets, most = s.get("position_buckets", -1), s.get("max_relative_positions", -1)
    if not all(isinstance(x, int) and not isinstance(x, bool) for x in (buckets, most)):
        raise PlannerError("position_buckets = {0!r}: must be a whole number; -1 takes max_relative_positions", buckets)
    rows = 2 * (buckets if buckets > 0 else most if most > 0 else s.count("max_position_embeddings"))
    normed = "layer_norm" in str(s.get("norm_rel_ebd", "none")).lower().split("|")
    table = rows * h + (2 * h if normed else 0)
    return {**found, "disentangled_positions": rows, "model_vectors": table + found.get("model_vectors", 0)}


def deberta(s: Source) -> Fields:
    """DeBERTa (arXiv 2006.03654): as v2, but distances have projections of their own in each layer, and keys no bias."""
    s.only("talking_head", False)
    s.config.setdefault("share_att_key", True)
    found = deberta_v2(s)
    h = found["hidden_size"]
    # the keys' bias that it has not is as long as that of the distances' queries
    own = {"layer_vectors": 2 * h * h} if found.get("disentangled_positions") else {"qkv_bias": False, "layer_vectors": 2 * h}
    return {**found, **own, "modules": "deberta_v1"}


def modernbert(decoder: bool = False) -> Callable[[Source], Fields]:
    """Local attention in two of three layers, gated feed-forward, no biases, no norm in front of the first attention."""

    def read(s: Source) -> Fields:
        layers, every = s.count("num_hidden_layers"), s.count("global_attn_every_n_layers", 3)
        types = layer_types(s, layers, (FULL,) + (SLIDING,) * (every - 1))
        bias = s.flag("attention_bias")
        s.only("classifier_bias", False)
        s.only("norm_bias", False)
        local = s.count("local_attention", 128)
        s.config.setdefault("sliding_window", local // 2 if decoder else local)
        s.ignore(
            "global_attn_every_n_layers",
            "local_attention",
            "sliding_window",
            "embedding_dropout",
            "mlp_dropout",
            "sparse_prediction",
            "sparse_pred_ignore_index",
            "deterministic_flash_attn",
            "reference_compile",
            "repad_logits_with_grad",
            "initializer_cutoff_factor",
            "position_embedding_type",
            "global_rope_theta",
            "local_rope_theta",
            "classifier_bias",
            "classifier_dropout",
            "classifier_activation",
            "num_labels",
        )
        found: Fields = {
            "architecture": "decoder" if decoder else "encoder",
            "num_layers": layers,
            "hidden_size": s.count("hidden_size"),
            "num_heads": s.count("num_attention_heads"),
            "vocab_size": s.count("vocab_size"),
            "ffn_hidden_size": s.count("intermediate_size"),
            "activation": s.activation("hidden_activation", "gelu"),
            "norm": "layernorm",
            "norm_bias": False,
            "qkv_bias": bias,
            "attention_output_bias": bias,
            "ffn_bias": s.flag("mlp_bias"),
            "embedding_norm": True,
            "attention_dropout": s.rate("attention_dropout"),
            "softmax_in_fp32": False,
            **windows(s, types),
            "layer_pattern": "F" + "A" * (layers - 1) if layers > 1 else "F",
            "variants": ({"letter": "F", "norms_per_layer": 1},),
        }
        masked = {**MASKED, "head_bias": s.flag("decoder_bias", True)}
        return {**found, **class_head(s, masked, {}, {})}

    return read


def nomic(s: Source) -> Fields:
    """Rotary positions, gated feed-forward without biases, BERT's head."""
    found = _common(s)
    multiple = s.count("pad_vocab_size_multiple", 1)
    found["vocab_size"] += -found["vocab_size"] % multiple
    for key in ("prenorm", "parallel_block", "use_rms_norm", "qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", "causal"):
        s.only(key, False, None)
    s.only("scale_attn_by_inverse_layer_idx", False)
    s.only("rotary_emb_fraction", 1.0)
    s.ignore(
        "fused_dropout_add_ln", "fused_bias_fc", "dense_seq_output", "use_xentropy", "parallel_block_tied_norm", "embd_pdrop"
    )
    s.ignore("max_trained_positions", "rotary_scaling_factor", "rotary_emb_scale_base", "rotary_emb_interleaved")
    return {
        **found,
        "head_dim": s.optional("head_dim"),
        "norm": "layernorm",
        "norm_bias": True,
        "type_vocab_size": s.count("type_vocab_size", 0, least=0),
        "activation": s.activation(otherwise="silu"),
        **class_head(s, MASKED, {}, {"pooler": True}),
    }


def gte(s: Source) -> Fields:
    """Rotary positions, biases but for gate and up, BERT's head."""
    found = _common(s)
    return {
        **found,
        "norm": "layernorm",
        "norm_bias": True,
        "type_vocab_size": s.count("type_vocab_size", 0, least=0),
        "qkv_bias": True,
        "attention_output_bias": True,
        "layer_vectors": found["hidden_size"],
        **class_head(s, MASKED, {}, {"pooler": True}),
    }


def rotary_bert(s: Source) -> Fields:
    """BERT with rotary positions instead of a table (jina-embeddings-v3)."""
    return {
        **_common(s),
        **PLAIN,
        "type_vocab_size": s.count("type_vocab_size", 0, least=0),
        **class_head(s, MASKED, {"pooler": True}, {"pooler": True}),
    }


def roformer(s: Source) -> Fields:
    """Rotary BERT; transformers keeps the angles' table as a weight."""
    found = rotary_bert(s)
    s.only("rotary_value", False)
    s.only("embedding_size", found["hidden_size"])
    angles = s.count("max_position_embeddings") * (found["hidden_size"] // found["num_heads"])
    return {**found, "model_vectors": angles + found.get("model_vectors", 0)}


def eurobert(s: Source) -> Fields:
    """Llama's layers without a mask."""
    heads, bias = s.count("num_attention_heads"), s.flag("attention_bias")
    s.ignore("mask_token_id", "classifier_pooling", "clf_pooling")
    s.only("architectures", None, ["EuroBertForMaskedLM"])
    return {
        "architecture": "encoder",
        "num_layers": s.count("num_hidden_layers"),
        "hidden_size": s.count("hidden_size"),
        "num_heads": heads,
        "num_kv_heads": s.optional("num_key_value_heads") or heads,
        "head_dim": s.optional("head_dim"),
        "vocab_size": s.count("vocab_size"),
        "ffn_hidden_size": s.count("intermediate_size"),
        "activation": s.activation(),
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "ffn_bias": s.flag("mlp_bias"),
        "head_bias": s.flag("mlp_bias"),
        "tied_embeddings": s.flag("tie_word_embeddings"),
        "attention_dropout": s.rate("attention_dropout"),
    }


ENCODERS: dict[str, Callable[[Source], Fields]] = {
    **dict.fromkeys(("roberta", "camembert", "xlm-roberta", "data2vec-text"), bert_like(padded=True)), "ernie": bert_like(),
    "megatron-bert": bert_like(pre_norm=True, embedding_norm=False),
    "roberta-prelayernorm": bert_like(pre_norm=True, padded=True),
    "xlm-roberta-xl": bert_like(pre_norm=True, embedding_norm=False, padded=True),
    "distilbert": bert_like(types=None), "electra": electra,
    "modernbert": modernbert(), "modernbert-decoder": modernbert(decoder=True), "nomic_bert": nomic, "eurobert": eurobert,
    "gte": gte, "esm": esm, "deberta-v2": deberta_v2, "deberta": deberta, "albert": albert,
    "mpnet": mpnet, "jina_embeddings_v3": rotary_bert, "roformer": roformer,
    "layoutlm": layoutlm, "ibert": ibert, "longformer": longformer, "big_bird": big_bird,
}  # fmt: skip
