"""Other forms in which people hold a model's sizes, made into a Hugging Face config.json: params.json of Meta and of Mistral,
metadata of a GGUF file, a file inside a list, JSON with comments; and files that hold no language model, refused as such.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from planner.common.errors import PlannerError
from planner.model.gguf import file_type

Config = Mapping[str, Any]
WRAPPERS = ("config", "model_config", "hf_config", "model")
"""Keys under which tools put a whole config.json."""
COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
TRAILING = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', re.DOTALL)
PRINTED = re.compile(r"^\s*\w+(?:Config|config\.json)?\s*[:=]?\s*(?=[{\[])")
"""What precedes the braces where a configuration was printed: Qwen3Config {...}."""


def parse(text: str) -> Any:
    """What JSON says; comments, commas before a closing bracket, a class's name in front and Python's own way of printing a
    table are understood. Raises ValueError as json.loads does.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        plain = PRINTED.sub("", text, count=1)
        plain = COMMENT.sub(lambda m: m[1] or "", plain)
        plain = TRAILING.sub(lambda m: m[1] or "", plain)
        try:
            return json.loads(plain)
        except ValueError:
            pass
        if plain.lstrip().startswith("{'"):
            try:
                return ast.literal_eval(plain.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                pass
        raise error from None


def unwrapped(data: Any) -> Any:
    """The table of a model's own fields: out of a list of one, or from under the key that a tool put it."""
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if isinstance(data, Mapping) and "model_type" not in data and "architectures" not in data:
        inner = [data[key] for key in WRAPPERS if isinstance(data.get(key), Mapping)]
        if len(inner) == 1 and ("model_type" in inner[0] or "architectures" in inner[0]):
            return inner[0]
    return data


def config_of(text: str) -> Any:
    """The table of a model's own fields in the text of a file. Raises ValueError where it is no JSON."""
    return unwrapped(parse(text))


def as_config(data: Config) -> Config:
    """``data`` as a Hugging Face config.json would say it. Raises PlannerError for a file that holds no model's sizes."""
    _no_model(data)
    if isinstance(data.get("general.architecture"), str):
        return _gguf(data)
    if "dim" in data and "n_layers" in data and data.get("model_type") in (None, "transformer") and "architectures" not in data:
        return _meta(data) if "multiple_of" in data else _mistral(data)
    return data


def _no_model(data: Config) -> None:
    """Say what a file is that lies beside a config.json."""
    if isinstance(data.get("_class_name"), str):
        raise PlannerError(
            "{0} is a part of a diffusers pipeline, which makes images or sound; the planner reads language models",
            data["_class_name"],
        )
    if isinstance(data.get("peft_type"), str):
        raise PlannerError(
            "this is an adapter ({0}, rank {1}) of {2}; give that model, and the adapter as a method (--lora)",
            data["peft_type"],
            data.get("r", "?"),
            data.get("base_model_name_or_path", "?"),
        )
    if isinstance(data.get("weight_map"), Mapping):
        raise PlannerError("this is the index of a checkpoint's files; give the config.json beside it")
    if data.get("model_type") or data.get("architectures"):
        return
    for keys, what in BESIDE:
        if keys & data.keys() or (what == "special_tokens_map.json" and data and all(k.endswith("_token") for k in data)):
            raise PlannerError("this is {0}, which holds no sizes; give the config.json beside it", what)


def _count(data: Config, key: str, *names: str) -> int:
    """A whole number under one of several names."""
    for name in (key, *names):
        value = data.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    raise PlannerError("{0} = {1!r}: must be a whole number, at least {2}", key, data.get(key), 1)


def _meta(data: Config) -> Config:
    """params.json of Meta's Llama: the width of the feed-forward follows from dim (llama/model.py, FeedForward)."""
    for key in ("moe_args", "vision_chunk_size", "quantization_args"):
        if data.get(key):
            raise PlannerError("{0} in a params.json of Meta is not read; give the model's config.json of Hugging Face", key)
    dim, heads, multiple = _count(data, "dim"), _count(data, "n_heads"), _count(data, "multiple_of")
    factor = data.get("ffn_dim_multiplier")
    inner = int(2 * (4 * dim) / 3)
    inner = int(factor * inner) if isinstance(factor, (int, float)) and not isinstance(factor, bool) else inner
    if not isinstance(data.get("vocab_size"), int) or data["vocab_size"] < 1:
        raise PlannerError(
            "vocab_size = {0!r}: Meta's file leaves it to the tokenizer; write it in (Llama 2: 32000)", data.get("vocab_size")
        )
    return {
        "model_type": "llama",
        "hidden_size": dim,
        "num_hidden_layers": _count(data, "n_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": data.get("n_kv_heads") or heads,
        "intermediate_size": -(-inner // multiple) * multiple,
        "vocab_size": data["vocab_size"],
        "tie_word_embeddings": False,
    }


BESIDE = tuple(
    (frozenset(keys.split()), what)
    for keys, what in (
        ("tokenizer_class added_tokens_decoder model_max_length", "tokenizer_config.json"),
        ("added_tokens pre_tokenizer", "tokenizer.json"),
        ("image_processor_type feature_extractor_type processor_class", "preprocessor_config.json"),
        ("temperature do_sample _from_model_config", "generation_config.json"),
        ("log_history", "trainer_state.json"),
        ("per_device_train_batch_size", "a file of training arguments"),
        ("zero_optimization train_micro_batch_size_per_gpu", "a configuration of DeepSpeed"),
        ("word_embedding_dimension similarity_fn_name do_lower_case", "a file of sentence-transformers"),
        ("desc_act damp_percent", "quantize_config.json"),
        ("medusa_num_heads", "a head that drafts tokens"),
        ("", "special_tokens_map.json"),
    )
)
"""Files that lie beside a config.json, by keys of which each is enough where neither model_type nor architectures is said."""
LATENT = ("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")


def _mistral(data: Config) -> Config:
    """params.json of Mistral AI: Mistral, Mixtral, or with a latent rank the layers of DeepSeek-V3 (Mistral Large 3)."""
    moe = data.get("moe")
    if moe is not None and not isinstance(moe, Mapping):
        raise PlannerError("{0} = {1!r}: must be a table", "moe", moe)
    found: dict[str, Any] = {
        "model_type": "mistral",
        "hidden_size": _count(data, "dim"),
        "num_hidden_layers": _count(data, "n_layers"),
        "num_attention_heads": _count(data, "n_heads"),
        "num_key_value_heads": data.get("n_kv_heads") or data.get("n_heads"),
        "head_dim": data.get("head_dim"),
        "intermediate_size": _count(data, "hidden_dim"),
        "vocab_size": _count(data, "vocab_size"),
        "tie_word_embeddings": data.get("tied_embeddings") is True,
        "sliding_window": data.get("sliding_window") if isinstance(data.get("sliding_window"), int) else None,
        "max_position_embeddings": data.get("max_position_embeddings") or data.get("max_seq_len"),
        "quantization_config": _stored(data.get("quantization")),
    }
    if isinstance(data.get("sliding_window"), list):
        raise PlannerError("sliding_window = {0!r}: a list is not read; give the config.json", data["sliding_window"])
    if data.get("vision_encoder"):
        raise PlannerError("vision_encoder in a params.json of Mistral is not read; give the model's config.json, or remove it")
    if not moe:
        return {key: value for key, value in found.items() if value is not None}
    found["num_experts_per_tok"] = _count(moe, "num_experts_per_tok")
    if data.get("kv_lora_rank"):
        found |= {key: data.get(key) for key in LATENT}
        found |= {
            "model_type": "deepseek_v3",
            "n_routed_experts": _count(moe, "num_experts"),
            "n_shared_experts": moe.get("num_shared_experts", 0),
            "moe_intermediate_size": _count(moe, "expert_hidden_dim"),
            "first_k_dense_replace": moe.get("first_k_dense_replace", 0),
            "n_group": moe.get("num_expert_groups", 1),
            "topk_group": moe.get("num_expert_groups_per_tok", 1),
            "head_dim": None,
            "sliding_window": None,
        }
        return {key: value for key, value in found.items() if value is not None or key == "q_lora_rank"}
    if moe.get("num_shared_experts") or moe.get("expert_hidden_dim"):
        raise PlannerError("moe: shared experts beside grouped heads are not read from a params.json; give the config.json")
    found |= {"model_type": "mixtral", "num_local_experts": _count(moe, "num_experts")}
    return {key: value for key, value in found.items() if value is not None}


def _stored(table: Any) -> Config | None:
    """How Mistral's files say that weights are stored (qformat_weight = fp8_e4m3)."""
    named = table.get("qformat_weight") if isinstance(table, Mapping) else None
    return {"quant_method": "fp8"} if isinstance(named, str) and named.startswith("fp8") else None


GGUF = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3moe": "qwen3_moe", "gemma": "gemma", "gemma2": "gemma2",
    "gemma3": "gemma3_text", "phi3": "phi3", "gpt-oss": "gpt_oss", "olmo2": "olmo2", "starcoder2": "starcoder2",
    "internlm2": "internlm2", "smollm3": "smollm3", "seed_oss": "seed_oss", "ernie4_5": "ernie4_5", "arcee": "arcee",
}  # fmt: skip
"""``general.architecture`` of llama.cpp (src/llama-arch.cpp) whose sizes are all in the metadata -> our reader."""
GGUF_SIZES = {
    "block_count": "num_hidden_layers", "embedding_length": "hidden_size", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "context_length": "max_position_embeddings", "vocab_size": "vocab_size",
    "expert_count": "num_experts", "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size", "attention.sliding_window": "sliding_window",
}  # fmt: skip
PLAIN_TYPES = ("F16", "BF16")
GGUF_TIED = (
    "metadata of a GGUF do not say whether head and words are one table (output.weight among the tensors: they are two); "
    "this is the family's default"
)
GGUF_CUT = (
    "the other parts of this GGUF, which may hold output.weight, are not beside it: whether head and words are one table is the \
family's default"
)


def _gguf(data: Config) -> Config:
    """The key-value metadata of a GGUF file, as gguf-dump prints them."""
    arch = data["general.architecture"]
    if arch not in GGUF:
        raise PlannerError(
            "general.architecture = {0!r}: metadata of this GGUF are not read; give the config.json of the model it was made of",
            arch,
        )
    found = {"model_type": GGUF[arch], **_gguf_sizes(data, arch)}
    if "output.weight" in data:
        found["tie_word_embeddings"] = not data["output.weight"]
    named = file_type(data.get("general.file_type"))
    if named not in PLAIN_TYPES:
        found["quantization_config"] = {"quant_method": f"GGUF {named}", "file_type": named}
    if arch == "llama" and found.get("num_experts"):
        found |= {"model_type": "mixtral", "num_local_experts": found.pop("num_experts")}
    if arch == "gpt-oss":
        found["num_local_experts"] = found.pop("num_experts", None)
        found["intermediate_size"] = found.pop("moe_intermediate_size", found["intermediate_size"])
    return found


def _gguf_sizes(data: Config, arch: str) -> dict[str, Any]:
    """Sizes among the metadata, by Hugging Face's names."""
    for key in ("block_count", "embedding_length", "feed_forward_length", "attention.head_count"):
        if f"{arch}.{key}" not in data:
            raise PlannerError("{0}.{1} is not among the metadata; add it", arch, key)
    found = {name: data[f"{arch}.{key}"] for key, name in GGUF_SIZES.items() if data.get(f"{arch}.{key}") is not None}
    for name, value in found.items():
        if isinstance(value, list) and value and all(v == value[0] for v in value):
            found[name] = value[0]
    tokens = data.get("tokenizer.ggml.tokens")
    if "vocab_size" not in found and isinstance(tokens, (list, int)):
        found["vocab_size"] = len(tokens) if isinstance(tokens, list) else tokens
    if not isinstance(found.get("vocab_size"), int) or found["vocab_size"] < FEWEST_TOKENS:
        raise PlannerError("{0}.vocab_size is not among the metadata; add it (the number of tokenizer.ggml.tokens)", arch)
    return found


FEWEST_TOKENS = 16
"""A list of tokens that a dump has cut short holds fewer."""


NO_LANGUAGE = frozenset(
    """
    vit deit beit swin swinv2 convnext convnextv2 resnet regnet dinov2 dinov3_vit dinov3_convnext clip siglip siglip2 align
    altclip clipseg chinese_clip detr deformable_detr rt_detr d_fine yolos conditional_detr sam sam2 sam3 segformer mask2former
    maskformer oneformer depth_anything dpt zoedepth glpn mobilevit mobilenet_v1 mobilenet_v2 efficientnet levit poolformer pvt
    wav2vec2 wav2vec2-bert wav2vec2-conformer hubert wavlm unispeech unispeech-sat sew sew-d data2vec-audio data2vec-vision
    audio-spectrogram-transformer encodec dac mimi clap vits speecht5 bark musicgen musicgen_melody seamless_m4t
    pop2piano videomae timesformer vivit vjepa2 ijepa timm_wrapper timm_backbone patchtst patchtsmixer time_series_transformer
    autoformer informer timesfm decision_transformer graphormer tvlt owlvit owlv2 grounding-dino superpoint superglue hiera
    """.split()  # noqa: SIM905
)
"""Types of transformers that see, hear or forecast, and neither read nor write text."""
