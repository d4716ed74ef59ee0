"""transformers' configuration classes are read with their own count and attention, or refused; nothing is read wrong.

Every ``model_type`` of transformers' two mappings with the defaults of its class, cut to a few layers so that building it on the
meta device is cheap. What the fields cannot express must be refused.
"""

from __future__ import annotations

import json
import random
import warnings
from functools import cache
from typing import Any

import pytest
import torch
import transformers
from meta_modules import on_meta
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as PAIRED

from planner.common.errors import PlannerError
from planner.common.translation import translated
from planner.model.architecture import Model
from planner.model.huggingface import ENCODER_DECODERS, FAMILIES, READERS, known_types, model_from_config
from planner.model.huggingface.by_keys import read_by_keys
from planner.model.huggingface.encoder_decoders import READ
from planner.model.huggingface.encoders import ENCODERS
from planner.model.huggingface.source import defaults
from planner.model.parameters import parameters_active, parameters_total

LOOK_ALIKES = ("jetmoe", "diffllama", "zamba2")
"""Types whose sizes read like a plain model's and whose attention, or sharing of weights, is another."""


said: list[str] = []
"""What refusals said."""


@cache
def short(kind: str) -> Any:
    """The default configuration with at most twelve layers, where its class takes another number of them."""
    settings = AutoConfig.for_model(kind)
    stated = settings.to_dict()
    fewer = {key: 12 for key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers") if (stated.get(key) or 0) > 12}
    try:
        return AutoConfig.for_model(kind, **fewer)
    except Exception:  # of lists that the class checks
        return settings


@cache
def default(kind: str, causal: bool) -> dict[str, Any] | None:
    """The default configuration as it is saved; None where transformers itself cannot make it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            saved = json.loads(json.dumps(short(kind).to_dict(), default=str))
        except Exception:
            return None
    named = (CAUSAL if causal else MASKED)[kind]
    return {**saved, "model_type": kind, "architectures": [named if isinstance(named, str) else named[0]]}


@cache
def read(kind: str, causal: bool) -> Model | None:
    """The planner's model of that default; None where it is refused in one short paragraph."""
    config = default(kind, causal)
    if config is None:
        return None
    try:
        return model_from_config(config, kind, "config.json")
    except PlannerError as error:
        said.append(str(error))
        return None


def transformers_total(kind: str, causal: bool) -> int | None:
    """Parameters of transformers' modules on the meta device; None where it cannot build its own default."""
    auto = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    with on_meta():
        try:
            made = auto.from_config(short(kind))
        except Exception:
            return None
    return sum(weight.numel() for weight in made.parameters())


@pytest.mark.parametrize(("causal", "least"), [(True, 120), (False, 14)])
def test_defaults_are_read_with_transformers_count_or_refused(causal: bool, least: int) -> None:
    names = CAUSAL if causal else MASKED
    counted = {
        kind: parameters_total(model) for kind in names if (model := read(kind, causal)) is not None and not model.assumed()
    }
    theirs = {kind: transformers_total(kind, causal) for kind in counted}
    equal = {kind for kind, total in counted.items() if theirs[kind] == total}
    assert {
        kind: (total, theirs[kind]) for kind, total in counted.items() if kind not in equal and theirs[kind] is not None
    } == {}
    assert len(equal) >= least, sorted(set(names) - equal)


def first_weight(kind: str, causal: bool) -> torch.nn.Parameter:
    """The weight that the first layer of transformers' model uses first."""
    settings, auto = short(kind), AutoModelForCausalLM if causal else AutoModelForMaskedLM
    settings._attn_implementation = "eager"
    used: list[torch.nn.Parameter] = []
    with on_meta():
        made = auto.from_config(settings)
        layer = max((m for m in made.modules() if isinstance(m, torch.nn.ModuleList)), key=len)[0]
        for module in layer.modules():
            for weight in list(module.parameters(recurse=False))[:1]:
                module.register_forward_pre_hook(lambda *_, weight=weight: used.append(weight))
        made(torch.zeros(1, 8, dtype=torch.long))
    return used[0]


BEHIND = ("olmo2", "olmo3", "exaone4", "openai-gpt")
IN_FRONT = ("llama", "gpt2", "gemma2", "qwen3")


@pytest.mark.parametrize(
    ("kind", "causal"), [(kind, True) for kind in (*BEHIND, *IN_FRONT)] + [("bert", False), ("roberta", False)]
)
def test_the_norms_stand_where_transformers_runs_them(kind: str, causal: bool) -> None:
    """A layer with norms in front begins with one, of one dimension; one with norms behind with a matrix."""
    model = read(kind, causal)
    assert model is not None
    assert (model.norm_placement == "before") == (first_weight(kind, causal).dim() == 1)
    assert (model.norm_placement == "before") == (kind in IN_FRONT)


def test_what_keys_alone_say_of_a_known_type_is_what_its_reader_says() -> None:
    """A type that no reader names is read by its keys: on types that we know, they say the same or are refused.

    Vectors that no key states are less than a thousandth of the count; a gate that none states is said to be left out.
    """
    checked = 0
    for kind in CAUSAL:
        model, config = read(kind, True), default(kind, True)
        if model is None or config is None or model.assumed() or model.towers:
            continue
        try:
            found = Model.build({"name": kind, **read_by_keys(config, "unheard_of")}, kind)
        except PlannerError:
            continue
        checked += 1
        known = model if any("gate" in key for key in config) else model.model_copy(update={"attention_gate": "none"})
        assert parameters_total(found) == pytest.approx(parameters_total(known), rel=1e-3), kind
        assert parameters_active(found) == pytest.approx(parameters_active(known), rel=1e-3), kind
        longest = config.get("max_position_embeddings") or 0
        if not model.sliding_window or model.sliding_window < longest:
            assert [k.sliding for k in found.layer_kinds] == [k.sliding for k in model.layer_kinds], kind
        assert [k.moe for k in found.layer_kinds] == [k.moe for k in model.layer_kinds], kind
        assert [found.of(k).recurs for k in found.layer_kinds] == [model.of(k).recurs for k in model.layer_kinds], kind
        assert found.assumed(), kind
    assert checked >= 45


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architectures": []}, "architectures"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings"),
        ({"sliding_window": 512}, "which layers slide"),
        ({"rms_norm_eps": None, "layer_norm_eps": 1e-5}, "rms_norm_eps"),
        ({"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}, "which layers have experts"),
        ({"num_experts": 8}, "is not stated"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "which block"),
        ({"gated_memory_slots": 7}, "gated_memory_slots"),
        ({"hidden_act": "snake"}, "hidden_act"),
    ],
)
def test_what_keys_leave_open_is_named(changes: dict[str, Any], named: str) -> None:
    config = {**PLAIN_NEW, **changes}
    with pytest.raises(PlannerError, match=named) as caught:
        model_from_config({k: v for k, v in config.items() if v is not None}, "x", "config.json")
    assert len(str(caught.value)) <= 400
    assert "TOML" in str(caught.value)


PLAIN_NEW = {
    "model_type": "unheard_of", "architectures": ["UnheardOfForCausalLM"], "num_hidden_layers": 2, "hidden_size": 64,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False, "hidden_act": "silu", "max_position_embeddings": 4096,
}  # fmt: skip


def test_a_plain_new_type_counts_as_by_hand() -> None:
    """Two layers (queries and output, keys and values, feed-forward, two norms), words twice, a norm."""
    model = model_from_config(PLAIN_NEW, "x", "config.json")
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
    assert parameters_total(model) == 2 * layer + 2 * 100 * 64 + 64
    assert "norms_per_layer" in model.assumed()


@pytest.mark.parametrize("kind", ["exaone4_5", "ovis2"])
def test_text_in_front_of_an_unknown_tower_is_counted_alone(kind: str) -> None:
    settings = AutoConfig.for_model(kind)
    config = {**json.loads(json.dumps(settings.to_dict(), default=str)), "model_type": kind}
    model = model_from_config(config, kind, "config.json")
    with on_meta():
        made = AutoModelForImageTextToText.from_config(settings)
    text = sum(w.numel() for name, w in made.named_parameters() if not name.startswith(("model.visual", "model.vision")))
    assert parameters_total(model) == text
    assert "left out" in model.provenance["towers"].source


@pytest.mark.parametrize("causal", [True, False])
def test_windows_are_those_of_transformers_layer_types(causal: bool) -> None:
    for kind in CAUSAL if causal else MASKED:
        model, config = read(kind, causal), default(kind, causal)
        if model is None or config is None or isinstance(config.get("text_config"), dict):
            continue
        types = config.get("layer_types")
        if not isinstance(types, list) or len(types) != model.num_layers:
            continue
        # DeepSeek-V4 keeps its window beside the compressed keys
        slides = [t in ("sliding_attention", "chunked_attention") or "compressed" in t for t in types]
        if config.get("sliding_window") or config.get("attention_chunk_size"):
            assert [k.sliding for k in model.layer_kinds] == slides, kind
        recurs = [t in ("linear_attention", "mamba", "conv") for t in types]
        assert [model.of(k).recurs and not model.of(k).attends for k in model.layer_kinds] == recurs, kind


PERIODS = ("sliding_window_pattern", "global_attn_every_n_layers", "no_rope_layer_interval", "full_attention_interval")


@pytest.mark.parametrize("period", [None, *PERIODS])
def test_a_file_without_a_list_of_its_layers_has_transformers_pattern(period: str | None) -> None:
    """First files state a period, or nothing, in place of layer_types: nine layers, of which the class says what each is."""
    checked = 0
    for kind in (*CAUSAL, *MASKED):
        given = {"num_hidden_layers": 9, **({period: 3} if period else {})}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                settings = AutoConfig.for_model(kind, **given)
            except Exception:  # of fewer layers than its other lists have
                continue
        types = getattr(settings, "layer_types", None)
        if not isinstance(types, list) or len(types) != 9:
            continue
        named = "XForCausalLM" if kind in CAUSAL else "XForMaskedLM"
        try:
            model = model_from_config({**given, "model_type": kind, "architectures": [named]}, kind, "config.json")
        except PlannerError:
            continue
        checked += 1
        if getattr(settings, "sliding_window", None) or getattr(settings, "attention_chunk_size", None):
            slides = [t in ("sliding_attention", "chunked_attention") or "compressed" in t for t in types]
            assert [k.sliding for k in model.layer_kinds] == slides, kind
        recurs = [t in ("linear_attention", "mamba", "conv") for t in types]
        assert [model.of(k).recurs and not model.of(k).attends for k in model.layer_kinds] == recurs, kind
    assert checked >= (40 if period is None else 1)


def test_sizes_of_a_recurrence_that_a_file_leaves_out_follow_those_that_it_states() -> None:
    """Falcon-H1's heads share mamba_d_ssm; Kimi's linear layers keep their width where head_dim is another."""
    for kind, changes in (
        ("falcon_h1", {"mamba_n_heads": 64}),
        ("falcon_h1", {"mamba_d_ssm": None, "mamba_n_heads": 16}),
        ("kimi_linear", {"head_dim": 32}),
    ):
        file = {
            "num_hidden_layers": 5,
            "hidden_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 512,
            "pad_token_id": 1,
            **changes,
        }
        with on_meta():
            made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **file))
        model = model_from_config({**file, "model_type": kind, "architectures": ["XForCausalLM"]}, "x", "config.json")
        assert parameters_total(model) == sum(weight.numel() for weight in made.parameters()), kind


def test_half_of_an_encoder_decoder_is_no_decoder() -> None:
    whole = json.loads(json.dumps(AutoConfig.for_model("t5gemma2").to_dict(), default=str))
    for half in (whole["encoder"], whole["decoder"]):
        with pytest.raises(PlannerError, match="cannot be planned"):
            model_from_config(half, "x", "config.json")


@pytest.mark.parametrize("kind", [*LOOK_ALIKES, *sorted(ENCODER_DECODERS)])
def test_what_looks_right_and_is_not_is_refused(kind: str) -> None:
    with pytest.raises(PlannerError) as caught:
        model_from_config({"model_type": kind, "hidden_size": 64, "num_hidden_layers": 2}, "x", "config.json")
    assert len(str(caught.value)) <= 400


VARIED: list[tuple[str, dict[str, Any]]] = [
    ("apertus", {"hidden_act": "silu", "num_hidden_layers": 2}),
    ("bitnet", {"hidden_size": 512, "num_hidden_layers": 2}),  # 20 heads of 25
    ("gemma4_text", {"num_hidden_layers": 12, "global_head_dim": 128, "num_global_key_value_heads": 2, "attention_k_eq_v": True}),
    ("gemma4_unified_text", {"num_hidden_layers": 12, "global_head_dim": 64}),
    ("dots3_note_text", {"num_hidden_layers": 9, "use_sliding_window": False}),
    ("dots3_note_text", {
        "num_hidden_layers": 9, "use_dsa": False, "swa_num_attention_heads": 32, "swa_num_key_value_heads": 32,
        "swa_head_dim": 128, "swa_qk_nope_head_dim": 96,
    }),
    ("mimo_v2_flash", {"num_hidden_layers": 12, "num_attention_heads": 4, "num_key_value_heads": 2}),
    ("deberta", {"relative_attention": True, "pos_att_type": "c2p|p2c", "num_hidden_layers": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "changes"), VARIED)
def test_what_a_file_changes_is_counted_as_transformers_saves_it(kind: str, changes: dict[str, Any]) -> None:
    """Sizes of single layers, which transformers saves as a table for each of them; an activation without weights."""
    settings = AutoConfig.for_model(kind, **changes)
    auto, names = (AutoModelForCausalLM, CAUSAL) if kind in CAUSAL else (AutoModelForMaskedLM, MASKED)
    with on_meta():
        made = auto.from_config(settings)
    saved = json.loads(json.dumps(settings.to_dict(), default=str))
    model = model_from_config({**saved, "model_type": kind, "architectures": [names[kind]]}, kind, "config.json")
    assert parameters_total(model) == sum(weight.numel() for weight in made.parameters())
    windows = [t == "sliding_attention" for t in saved.get("layer_types", [])]
    assert [k.sliding for k in model.layer_kinds] == (windows or [False] * model.num_layers)


def test_a_width_that_a_file_leaves_out_is_that_of_the_heads() -> None:
    """Ling's linear layers are as wide as head_dim says, which transformers saves as linear_head_dim."""
    stated = {"num_hidden_layers": 6, "hidden_size": 256, "num_attention_heads": 4, "head_dim": 16, "pad_token_id": 1}
    with on_meta():
        made = AutoModelForCausalLM.from_config(AutoConfig.for_model("bailing_hybrid", **stated))
    model = model_from_config({**stated, "model_type": "bailing_hybrid"}, "x", "config.json")
    assert parameters_total(model) == sum(weight.numel() for weight in made.parameters())


def test_sizes_of_single_layers_that_no_field_holds_are_refused() -> None:
    uneven = {"5": {"head_dim": 512}, "11": {"head_dim": 128}}
    with pytest.raises(PlannerError, match="per_layer_config") as caught:
        model_from_config({"model_type": "gemma4_text", "num_hidden_layers": 12, "per_layer_config": uneven}, "x", "config.json")
    assert len(str(caught.value)) <= 400


def test_an_encoder_of_sound_is_left_out_and_said() -> None:
    text = {"model_type": "gemma4_text", "num_hidden_layers": 6}
    config = {"model_type": "gemma4", "text_config": text, "vision_config": None, "audio_config": {"hidden_size": 1024}}
    model = model_from_config(config, "x", "config.json")
    assert "sound" in model.provenance["towers"].source
    assert "声音" in translated(model.reading_notes[0], "zh")
    assert parameters_total(model) == parameters_total(model_from_config({**config, "audio_config": None}, "x", "config.json"))


def test_no_near_name_across_generations() -> None:
    with pytest.raises(PlannerError) as caught:
        model_from_config({"model_type": "gemma9"}, "x", "config.json")
    assert "gemma2" not in str(caught.value)


def test_defaults_were_written_from_this_major_release() -> None:
    stated = defaults()
    assert int(transformers.__version__.split(".")[0]) == 5
    for kind in ("olmo3", "granite", "glm4_moe", "qwen3_next", "nemotron_h", "gemma3_text"):
        theirs = AutoConfig.for_model(kind).to_dict()
        for key in set(stated[kind]) - {"attribute_map"}:
            assert json.loads(json.dumps(theirs[key], default=str)) == stated[kind][key], (kind, key)


def test_every_type_that_is_read_is_listed() -> None:
    listed = known_types()
    assert len(listed) > 120
    assert {"llama", "qwen3_5", "kimi_k2", "modernbert", "nemotron_h"} <= set(listed)


CHOICES: dict[str, tuple[int | bool | str, ...]] = {
    "hidden_act": ("silu", "gelu"),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers"), (2, 3, 4, 5)),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), (2, 3)),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim"), (256, 512)),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), (4, 8)),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim"), (96, 352)),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"), (64, 96)),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), (4, 8)),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "top_k_experts", "moe_k"), (1, 2)),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "type_vocab_size"), (1, 2)),
    **dict.fromkeys(("tie_word_embeddings", "attention_bias", "mlp_bias", "use_bias"), (True, False)),
    **dict.fromkeys(("qk_layernorm", "use_qk_norm"), (True, False)),
    "vocab_size": (512, 777), "num_key_value_heads": (1, 2, 4), "head_dim": (32, 64), "first_k_dense_replace": (0, 1),
    "pad_token_id": (1,), "eos_token_id": (1,), "bos_token_id": (1,),
}  # fmt: skip
"""What is drawn for each field that a type's default configuration has."""
KINDS = sorted(
    {(kind, "causal") for kind in CAUSAL if kind in {*FAMILIES, *READERS}}
    | {(kind, "masked") for kind in MASKED if kind in ENCODERS}
    | {(kind, "paired") for kind in PAIRED if kind in READ}
)
BUILD = {
    "causal": (CAUSAL, AutoModelForCausalLM), "masked": (MASKED, AutoModelForMaskedLM), "paired": (PAIRED, AutoModelForSeq2SeqLM),
}  # fmt: skip


def drawn(kind: str, head: str, seed: int) -> tuple[dict[str, Any], int] | None:
    """A configuration as saved and transformers' count; None where transformers does not build these sizes."""
    names, auto = BUILD[head]
    rng = random.Random(f"{kind} {seed}")
    with on_meta():
        try:
            base = AutoConfig.for_model(kind).to_dict()
            fields = {
                key: rng.choice(CHOICES[key]) for key in sorted(CHOICES) if base.get(key) is not None and rng.random() < 0.7
            }
            settings = AutoConfig.for_model(kind, **fields)
            made = auto.from_config(settings)
        except Exception:  # of sizes that do not go together
            return None
    saved = settings.to_dict() if seed % 2 else {**settings.to_diff_dict(), **fields}
    named = names[kind]
    config = json.loads(json.dumps(saved, default=str))
    config |= {"model_type": kind, "architectures": [named if isinstance(named, str) else named[0]]}
    return config, sum(weight.numel() for weight in made.parameters())


def test_counts_of_random_sizes_are_transformers_or_refused() -> None:
    """For any layers, widths, heads, experts, ties and biases, files saved whole or in part; every third type."""
    counted, wrong = 0, {}
    for number, (kind, head) in enumerate(KINDS[::3]):
        found = next((pair for seed in (3 * number, 3 * number + 1) if (pair := drawn(kind, head, seed))), None)
        if found is None:
            continue
        try:
            model = model_from_config(found[0], kind, "config.json")
        except PlannerError:
            continue
        if model.assumed():
            continue
        counted += 1
        if parameters_total(model) != found[1]:
            wrong[kind] = (parameters_total(model) - found[1], found[0])
    assert wrong == {}
    assert counted >= 30


def test_molmo2_reads_the_switch_of_its_norms_and_the_released_file() -> None:
    """The released text_config has ``use_qk_norm`` beside ``qk_norm_type``, and the encoder's table is ``vit_config``."""
    text = {"model_type": "molmo2_text", "num_hidden_layers": 4, "qk_norm_type": "qwen3"}
    for given, normed in (({}, "head"), ({"use_qk_norm": True}, "head"), ({"use_qk_norm": False}, "none")):
        inner = text | given
        alone = model_from_config(inner, "x", "config.json")
        whole = {
            "model_type": "molmo2",
            "text_config": inner,
            "vit_config": {"hidden_size": 1152},
            "adapter_config": {"hidden_size": 1152},
        }
        read = model_from_config(whole, "x", "config.json")
        assert alone.qk_norm == read.qk_norm == normed
        assert parameters_total(alone) == parameters_total(read)
        assert read.assumed()
