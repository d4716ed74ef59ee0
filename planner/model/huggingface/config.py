"""One config.json of Hugging Face as a model: the reader of its family, what is refused, and what no reader looked at."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from planner.common.errors import PlannerError, brief
from planner.common.message import Message
from planner.model.architecture import Model
from planner.model.huggingface.by_keys import read_by_keys
from planner.model.huggingface.culprit import STUMBLES, culprit
from planner.model.huggingface.decoders import Decoder
from planner.model.huggingface.encoder_decoders import READ as SEQUENCE_TO_SEQUENCE
from planner.model.huggingface.encoders import ENCODERS
from planner.model.huggingface.families import FAMILIES, Family
from planner.model.huggingface.formats import quantization, stored_parts, stored_weights
from planner.model.huggingface.forms import GGUF_CUT, GGUF_TIED, NO_LANGUAGE, as_config
from planner.model.huggingface.readers import ALIASES, READERS
from planner.model.huggingface.reading import HINTS, IRRELEVANT, ONLY, causal_head, check_values, class_name
from planner.model.huggingface.source import ARCHITECTURE, Source, harmless, unknown
from planner.model.huggingface.towers import (
    BESIDE_TEXT,
    EITHER_TIES,
    NEVER_TIED,
    OUTER_TIES,
    SOUND,
    TEXT_SIZES,
    TEXT_TIES,
    TEXT_TYPES,
    TIED_BY_DEFAULT,
    VISION,
    countable,
    text_beside,
    tower_of,
)

__all__ = ["ENCODERS", "ENCODER_DECODERS", "FAMILIES", "READERS", "REFUSED", "SEQUENCE_TO_SEQUENCE", "VISION", "known_types"]
__all__ += ["model_from_config"]

Config = Mapping[str, Any]
MODULES = {
    "mixtral": "mixtral", "deepseek_v2": "deepseek", "deepseek_v3": "deepseek", "gpt2": "gpt2", "gpt_neox": "gpt_neox",
    "mpt": "mpt", "bloom": "falcon", "falcon": "falcon", "opt": "opt", "bert": "bert", "internlm2": "internlm2", "phi3": "phi3",
    "phi": "phi", "persimmon": "falcon", "baichuan": "baichuan", "qwen": "qwen", "chatglm": "chatglm", "glm": "phi3",
    "glm4": "phi3", "glm4v_text": "phi3", "mllama_text_model": "mllama",
    "gpt_bigcode": "gpt2", "deepseek_v32": "deepseek", "glm4_moe": "deepseek", "glm_moe_dsa": "deepseek", "dots1": "deepseek",
}  # fmt: skip
"""Families whose linear layers are not named as llama's (``model.modules``)."""

AGREES: dict[tuple[str, str], tuple[Any, ...]] = {
    ("qwen2", "attention_bias"): (True,), ("qwen3", "use_qk_norm"): (True,), ("qwen3_moe", "use_qk_norm"): (True,),
    ("qwen3_moe", "shared_expert_intermediate_size"): (0,),
    ("deepseek_v2", "lm_head"): (True,), ("deepseek_v2", "use_mla"): (True,), ("phi3", "interpolate_factor"): (1,),
}  # fmt: skip
"""Fields of a type that transformers ignores, with the value that says what its class does."""

NESTED_ONLY = frozenset(("step3p7",))
"""Types of which transformers reads the text's fields in text_config only: at the top of a file they are set aside."""
ENCODER_DECODERS = {
    "pegasus_x": "its encoder attends by blocks and to global tokens",
    "longt5": "its encoder's attention is local and global",
    "bigbird_pegasus": "its encoder's attention is sparse by blocks",
    **dict.fromkeys(("t5gemma2", "t5gemma2_decoder", "t5gemma2_text"), "its decoder attends to itself and across at once"),
    "t5gemma2_encoder": "it is one half of an encoder-decoder",
    "switch_transformers": "its experts drop tokens beyond a capacity",
    "prophetnet": "it predicts several streams of tokens",
    "encoder-decoder": "it is made of two models; plan each",
    "fsmt": "its two vocabularies have tables of their own",
}
"""Encoder-decoders that the planner's blocks cannot express, and why."""
REFUSED = {
    "zamba": "its layers share attention blocks",
    "zamba2": "its layers share attention blocks",
    "phi4flash": "its attention is a difference of two softmaxes, and half of its layers share one cache",
    "longcat_flash_ngram": "most of its weights are tables of n-grams",
    "diffllama": "its attention is a difference of two softmaxes",
    "jetmoe": "its attention is a mixture of experts",
    "qwen4_exp_text": "it looks up tables of n-grams, and mixes its residual streams through a narrow layer",
    "hy_v4": "most of its layers share an indexer, and gates of their own mix its residual streams",
    "hy_v4_vl_text": "most of its layers share an indexer, and gates of their own mix its residual streams",
    "inkling_text": "each token projects a bias of relative positions, and keys and values pass convolutions",
    "inkling2_text": "each token projects a bias of relative positions, and keys and values pass convolutions",
    "glm5_next_text": "its indexer picks pooled groups of keys, and most of its layers share one",
    "zaya": "its queries and keys pass convolutions, and its router is a network of its own",
    "xlstm": "its memory cells are none of the planner's blocks",
    "recurrent_gemma": "its gated recurrence is not one of the planner's blocks",
    "xlnet": "its attention has two streams and relative positions",
    "xlm": "it adds an embedding of the language to each token",
    "funnel": "its layers pool the sequence",
    "convbert": "its attention is mixed with convolutions",
    "squeezebert": "its linear layers are grouped convolutions",
    "nystromformer": "its attention is approximated by landmarks",
    "mobilebert": "each of its layers narrows, has several feed-forwards, and widens again",
}
"""Known types that the planner's blocks cannot express, and why."""


CLASSES: dict[Any, str] = {"Grok1ForCausalLM": "grok-2", "Grok1ModelForCausalLM": "grok-1"}
"""Classes that say more than the file's model_type does (Grok 2's says git)."""
HEADS = re.compile(r"(For[A-Z]\w*|LMHeadModel|Model)$")
"""What the name of a class says of its head."""
LANGUAGE = ("llm_config", "language_config")
"""Other names of text_config."""
BESIDE = ("vision_config", "vit_config", "audio_config", "encoder_config", "vq_config")
"""Endings of the tables that stand beside text_config and are no text."""
SIZES = ("num_hidden_layers", "hidden_size", "text_config")
"""Keys that speak of a model, not of a name alone."""
LAYERS = re.compile(r"layers?$|^depth$|_interval$|_freq$|_step$")
"""Names of numbers of layers."""
LONGEST = ("max_position_embeddings", "n_positions", "max_sequence_length", "model_max_length", "max_seq_len", "seq_length")
"""Names of the tokens that a model allows, the surest first; engines take them so, whatever tells the positions."""
MOST_LAYERS, MOST = 10_000, 2**62
MOST_REASON = 150
"""Characters of a reason inside a message."""


def known_types() -> dict[str, str]:
    """Every ``model_type`` that is read: decoder, encoder, both, or with a vision tower."""
    found = dict.fromkeys((*FAMILIES, *READERS, *ALIASES), "decoder") | dict.fromkeys((*ENCODERS, "bert"), "encoder")
    found |= dict.fromkeys(SEQUENCE_TO_SEQUENCE, "encoder and decoder")
    return dict(sorted((found | dict.fromkeys((*VISION, *BESIDE_TEXT), "vision and text")).items()))


def model_from_config(config: Config, name: str, where: str) -> Model:
    """The model that ``config`` (a parsed config.json) describes.

    Fields that are absent take transformers' defaults for that ``model_type``; ``architectures`` chooses the head
    (absent: the language model's, for BERT the bare encoder with its pooler). Multi-token-prediction layers are
    left out, as transformers does; so are fields that do not speak of an architecture; ``source`` says so. Raises PlannerError
    naming ``where``, field and value: an unknown model_type, a field that the planner cannot express, a wrong type or number.
    Other forms of one file are understood (``forms.as_config``).
    """
    try:
        packed = "general.architecture" in config
        dumped = packed and "output.weight" not in config
        tied = GGUF_CUT if "split.count" in config else GGUF_TIED
        config = as_config(config)
        try:
            kind, fields, aside = _read(config)
        except PlannerError:
            raise
        except STUMBLES:
            raise culprit(config, _read) from None
    except PlannerError as error:
        raise PlannerError("{0}: {1}.", where, str(error).rstrip(".")) from None
    if dumped:
        known = {**fields.get("provenance", {}), "tied_embeddings": {"kind": "assumed", "source": tied}}
        fields = {**fields, "provenance": known}
    return Model.build({"name": name, "source": _source(config, kind, aside, packed), **fields}, where)


def _read(config: Config) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Type, fields, and keys that were set aside."""
    _answerable(config)
    kind, named = config.get("model_type"), config.get("architectures")
    if isinstance(named, list) and named and isinstance(named[0], str):
        kind = CLASSES.get(named[0], kind)
        kind = _kind_of_class(named[0]) if kind is None else kind
    if not isinstance(kind, str):
        raise PlannerError("model_type = {0!r} is not supported; give the family, such as llama", kind)
    fields, aside = _fields(config, kind)
    return kind, {**fields, **_stored(config, fields)}, aside


def _answerable(config: Config) -> None:
    """Refuse numbers that no model has, before lists of so many layers are made."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            _answerable(value)
        elif isinstance(value, int) and value > (MOST_LAYERS if LAYERS.search(key) else MOST):
            raise PlannerError("{0} = {1}: no model has this many; give a smaller number", key, brief(value))


def _stored(config: Config, fields: Mapping[str, Any]) -> dict[str, Any]:
    """How the checkpoint stores its matrices; a format that the planner has not is said, and they count as 16 bit."""
    tables = [t for t in (config, config.get("text_config")) if isinstance(t, Mapping) and quantization(t)]
    if not tables:
        return {}
    stored = next((found for t in tables if (found := stored_weights(t))), "")
    parts = next((several for t in tables if len(several := stored_parts(t)) > 1), ())
    if parts:
        source = (
            f"its parts are stored as {', '.join(parts)}: all matrices count as {parts[0]}, the widest, name one with --weights"
        )
        aside = {**fields.get("provenance", {}), "stored_weights": {"kind": "assumed", "source": source}}
        return {"stored_weights": parts[0], "provenance": aside}
    if stored:
        return {"stored_weights": stored}
    q = quantization(tables[0])
    named = q.get("quant_method") or "quantization"
    source = f"its quantized format ({named}) is none that the planner knows; weights count as 16 bit, name one with --weights"
    return {"provenance": {**fields.get("provenance", {}), "stored_weights": {"kind": "assumed", "source": source}}}


def _kind_of_class(name: Any) -> str | None:
    """The type that a class's name tells of where the file says none: LlamaForCausalLM is llama's."""
    family = HEADS.sub("", name) if isinstance(name, str) else ""
    plain = re.sub(r"[^a-z0-9]", "", family.lower())
    return next((kind for kind in known_types() if plain and re.sub(r"[^a-z0-9]", "", kind.lower()) == plain), None)


def _fields(config: Config, kind: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Fields of the model, and keys that were set aside."""
    inner = next((key for key in LANGUAGE if isinstance(config.get(key), Mapping)), None)
    if inner is not None and "text_config" not in config:
        config = {("text_config" if key == inner else key): value for key, value in config.items()}
    if kind in BESIDE_TEXT:
        return _flat(config, kind)
    text = config.get("text_config")
    if isinstance(text, Mapping) and isinstance(text.get("text_config"), Mapping):  # an outer class saved inside another
        return _fields({**config, **text}, kind)
    if kind in VISION:
        return _with_tower(config, kind)
    if isinstance(text, Mapping) and text.get("model_type") == kind:  # a text model with its vision tower
        return _with_tower(config, "mistral3" if kind in ("ministral3", "mistral") else kind)
    sizes, kind = TEXT_SIZES.get(kind, {}), TEXT_TYPES.get(kind, ALIASES.get(kind, kind))
    if sizes:
        stated = {FAMILIES[kind].aliases.get(key, key) if kind in FAMILIES else key for key in config}
        config = {**{key: value for key, value in sizes.items() if key not in stated}, **config}
    named = {"modules": MODULES[kind]} if kind in MODULES else {}
    if kind in FAMILIES:
        fields, aside = _by_family(config, FAMILIES[kind], kind)
    elif kind in READERS or kind in ENCODERS or kind in SEQUENCE_TO_SEQUENCE:
        fields, aside = _by_reader(config, kind)
    else:
        fields, aside = _unknown(config, kind)
    named_so = LONGEST[:1] if kind in SEQUENCE_TO_SEQUENCE else LONGEST  # T5's n_positions bounds nothing
    allowed = next((config[key] for key in named_so if config.get(key) is not None), None)
    if isinstance(allowed, int) and not isinstance(allowed, bool) and 0 < allowed <= MOST:
        fields["context_length"] = allowed
    return {**named, **fields}, aside


def _unknown(config: Config, kind: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A type without a reader: its text with an unknown tower left out, or what its keys say alone."""
    if kind in NO_LANGUAGE:
        raise PlannerError("model_type = {0!r} is no language model; the planner reads decoders, encoders of text, or both", kind)
    known = {**REFUSED, **ENCODER_DECODERS}
    if kind in known:
        raise PlannerError(
            "model_type = {0!r} cannot be planned: {1}. A plain model of its sizes, its fields given in TOML, shows all but that",
            kind,
            known[kind],
        )
    if config.get("is_encoder_decoder") is True:
        raise PlannerError(
            "model_type = {0!r} has no reader, and is an encoder-decoder, which keys alone do not describe; give the model's "
            "fields in TOML, with cross_attention = true",
            kind,
        )
    speaking = config.get("thinker_config")
    if isinstance(speaking, Mapping) and isinstance(speaking.get("text_config"), Mapping):
        return _without_tower(speaking, kind)
    if isinstance(config.get("text_config"), Mapping):
        return _without_tower(config, kind)
    if not any(config.get(key) is not None for key in SIZES):
        raise _not_read(kind)
    try:
        return read_by_keys(config, kind), ()
    except PlannerError as error:
        why = str(error).rstrip(".")
        why = why if len(why) <= MOST_REASON else f"{why[: MOST_REASON - 3]}..."
        raise PlannerError(
            "model_type = {0!r} has no reader, and its keys leave open what it is: {1}. Give the model's fields in "
            "TOML; planner models import tries to derive them",
            kind,
            why,
        ) from None


def _without_tower(config: Config, kind: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The text of a model whose tower and projector no reader counts; the answer says that they are left out."""
    nested = config["text_config"]
    if not any(key.endswith(BESIDE) and value is not None for key, value in config.items()):
        raise PlannerError(
            "model_type = {0!r} has no reader, and text_config is not all of it; give the text's table alone", kind
        )
    class_name(config)
    text = {**nested, "architectures": ["ForCausalLM"]}
    if kind in TIED_BY_DEFAULT or any("tie_word_embeddings" in table for table in (config, nested)):
        text["tie_word_embeddings"] = _tied(config, nested, kind)
    named = nested.get("model_type")
    if not isinstance(named, str):
        raise PlannerError("text_config.model_type = {0!r}: give the family, such as llama", named)
    fields, aside = _fields(text, named)
    _require_decoder(fields, named)
    source = Message(
        "no reader for {0!r}: this is its text; encoders of images and sound, projectors and speech are left out", kind
    )
    known = fields.get("provenance", {})
    return {**fields, "provenance": {**known, "towers": {"kind": "assumed", "source": source}}}, aside


def _require_decoder(fields: Mapping[str, Any], named: str) -> None:
    if fields.get("architecture") == "encoder":
        raise PlannerError("text_config.model_type = {0!r}: an encoder; the text behind an encoder of images is a decoder", named)


def _flat(config: Config, kind: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The text of a model whose file has its fields at the top, beside those of the encoders, which are left out."""
    text = text_beside(config, kind)
    fields, aside = _fields(text, text["model_type"])
    source = Message("{0!r} is read as its text, a {1}: {2} are left out", kind, text["model_type"], Message(BESIDE_TEXT[kind]))
    return {**fields, "provenance": {**fields.get("provenance", {}), "towers": {"kind": "assumed", "source": source}}}, aside


def _not_read(kind: str) -> PlannerError:
    """What to do about a name that says nothing; a near one only where letters alone differ (gemma4 is not gemma2)."""
    meant = [name for name in difflib.get_close_matches(kind, known_types(), 1, 0.8) if _digits(name) == _digits(kind)]
    if meant:
        return PlannerError(
            "model_type = {0!r} is not supported; did you mean {1}? planner models families lists what is", kind, meant[0]
        )
    return PlannerError(
        "model_type = {0!r} is not supported; planner models families lists what is. Give the model's fields in "
        "TOML, or try planner models import, which derives them from transformers",
        kind,
    )


def _digits(name: str) -> str:
    return "".join(c for c in name if c.isdigit())


def _with_tower(config: Config, kind: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The text model with its vision tower; text fields may stand at the top of older files."""
    if kind not in VISION:
        raise PlannerError(
            "text_config: the planner knows no vision tower for model_type = {0!r}; give the text's table alone", kind
        )
    default = f"{kind}_text" if f"{kind}_text" in TEXT_SIZES else VISION[kind][0]
    nested = config.get("text_config")
    if nested is not None and not isinstance(nested, Mapping):
        raise PlannerError("text_config = {0!r}: must be a table", nested)
    top = {
        k: v
        for k, v in config.items()
        if k not in ("text_config", "vision_config", "audio_config", "model_type", "architectures")
    }
    text = dict(nested) if nested is not None else {k: v for k, v in top.items() if not k.startswith(("vision_", "image_"))}
    outside: tuple[str, ...] = ()
    if nested is None and kind in NESTED_ONLY:
        outside, text = tuple(key for key in text if ARCHITECTURE.search(key)), {}
    if nested is None and not any(key in top for key in SIZES):
        raise PlannerError("{0} is not stated", "text_config")
    named = text.pop("model_type", default)
    known = (*FAMILIES, *READERS, *TEXT_TYPES, *ALIASES)
    named = default if named not in known and str(named).startswith(kind) else named  # the outer type's own name of its text
    text.pop("architectures", None)
    text.pop("use_bidirectional_attention", None)  # of an image's tokens, which are few
    named_class = class_name(config)
    blind = named_class.endswith("ForCausalLM") and nested is not None  # the text model's class, which has no tower
    if not blind or not isinstance(text.get("tie_word_embeddings"), bool):  # that class reads the inner table alone
        text["tie_word_embeddings"] = _tied(config, text, kind)
    fields, aside = _fields(text, named)
    _require_decoder(fields, named)
    aside = (*outside, *aside)
    seen = config.get("vision_config")
    if isinstance(seen, Mapping) and not countable(kind, seen):
        named = str(seen.get("model_type"))
        return _left_out(
            fields,
            Message("the encoder {0!r} in front of {1!r} is none that the planner counts: this is the text alone", named, kind),
        ), aside
    tower = None if blind else tower_of(kind, config, fields["hidden_size"])
    heard = None if blind else config.get("audio_config")
    outside_layers = SOUND[kind](heard, fields["hidden_size"]) if isinstance(heard, Mapping) and kind in SOUND else 0
    if tower and not tower["num_layers"]:  # no encoder, a projection alone
        outside_layers += tower["parameters"]
        tower = None
    fields["model_vectors"] = fields.get("model_vectors", 0) + outside_layers
    fields |= {"towers": (tower,)} if tower else {}
    return (_left_out(fields, AUDIO) if heard and kind not in SOUND else fields), aside


AUDIO = Message("its encoder of sound is left out: the planner counts those of images")


def _left_out(fields: dict[str, Any], source: str) -> dict[str, Any]:
    return {**fields, "provenance": {**fields.get("provenance", {}), "towers": {"kind": "assumed", "source": source}}}


def _tied(config: Config, text: Config, kind: str) -> bool:
    """Whether head and words are one: as the outer table says, else the text's, else transformers' default of the outer class."""
    outer, inner = config.get("tie_word_embeddings", config.get("tie_embedding")), text.get("tie_word_embeddings")
    if kind in NEVER_TIED:
        return False
    if kind in TEXT_TIES:
        return inner is True
    if kind in OUTER_TIES:
        return outer is True
    said = inner if isinstance(inner, bool) else kind in TIED_BY_DEFAULT
    if isinstance(outer, bool):
        return outer or (said and kind in EITHER_TIES)
    return said


def _by_reader(config: Config, kind: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    read = READERS.get(kind) or {**ENCODERS, **SEQUENCE_TO_SEQUENCE}[kind]
    if isinstance(read, Decoder):
        s = Source(config, read.like or kind, read.own)
        fields = read.read(s)
    else:
        s = Source(config, kind)
        fields = read(s)
    if kind in READERS:
        fields |= causal_head(config, fields)
    aside = s.left()
    return {k: v for k, v in fields.items() if v is not None}, aside


def _by_family(config: Config, family: Family, kind: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    aside = _refuse_unknown(config, family, kind)
    filled = {**family.defaults, **_renamed(config, family)}
    check_values(filled, family)
    fields = family.build(filled)
    if fields.get("architecture") != "encoder":
        fields |= causal_head(filled, fields)
    return fields, aside


def _source(config: Config, kind: str, aside: tuple[str, ...], packed: bool) -> str:
    if packed:
        return f"metadata of a GGUF ({kind})"
    text = config.get("text_config")
    left_out = config.get("num_nextn_predict_layers") or (
        text.get("num_nextn_predict_layers") if isinstance(text, Mapping) else 0
    )
    note = (
        f", without its {left_out} multi-token-prediction layer(s), which job.multi_token_prediction trains" if left_out else ""
    )
    ignored = f"; set aside: {', '.join(aside)}" if aside else ""
    return f"Hugging Face config.json ({kind}){note}{ignored}"


def _renamed(config: Config, family: Family) -> dict[str, Any]:
    """The config with transformers' second names (``attribute_map``) replaced by the first."""
    renamed = {k: v for k, v in config.items() if k not in family.aliases}
    for alias, key in family.aliases.items():
        if alias in config and renamed.setdefault(key, config[alias]) != config[alias]:
            raise PlannerError(
                "{0} = {1!r} and {2} = {3!r} name one thing; keep one of them", alias, config[alias], key, renamed[key]
            )
    return renamed


def _refuse_unknown(config: Config, family: Family, kind: str) -> tuple[str, ...]:
    """Fields set aside. Raises PlannerError for one that may change the architecture."""
    aside = []
    for key, value in config.items():
        if key in family.defaults or key in family.reads or key in family.aliases or key in IRRELEVANT:
            continue
        if key in ONLY:
            if value not in ONLY[key]:
                raise PlannerError(
                    Message(
                        "{0} = {1!r}: the planner cannot express this for {2}; it knows {3!r}.", key, value, kind, ONLY[key][0]
                    )
                    + HINTS.get(key, "")
                )
            continue
        if value in AGREES.get((kind, key), ()):
            continue
        if (
            key == "sliding_window_size"
            and value == config.get("sliding_window", value)
            and "sliding_window" in (*family.defaults, *family.reads)
        ):
            continue
        if key == "layer_types" and isinstance(value, list) and all(t == "full_attention" for t in value):
            continue
        if harmless(key, value):
            continue
        if ARCHITECTURE.search(key):
            raise unknown(key, value, kind)
        aside.append(key)
    return tuple(aside)
