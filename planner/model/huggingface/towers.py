"""Vision encoders in front of a language model, and their projectors: counted weight by weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from planner.common.errors import PlannerError
from planner.model.huggingface.projectors import ENCODER_OF, Tower, blocks, linear, projected, side, tower
from planner.model.huggingface.source import Source, defaults


def qwen_vl(s: Source, text: int) -> Tower:
    """Qwen3-VL and Qwen3.5: patches merged 2 x 2 behind the encoder, and for Qwen3-VL behind three of its layers too."""
    d, f, out = s.count("hidden_size"), s.count("intermediate_size"), s.count("out_hidden_size")
    layers, p, merge = s.count("depth"), s.count("patch_size"), s.count("spatial_merge_size") ** 2 * s.count("hidden_size")
    patch = linear(s.count("in_channels") * s.count("temporal_patch_size") * p * p, d)
    merger = linear(merge, merge) + linear(merge, out)
    deep = len(s.get("deepstack_visual_indexes") or []) * (merger + 2 * merge)
    total = patch + s.count("num_position_embeddings") * d + blocks(layers, d, f) + merger + 2 * d + deep
    return tower(total, layers, d, s.count("num_heads"), f)


def qwen2_5_vl(s: Source, text: int) -> Tower:
    d, f, out = s.count("hidden_size"), s.count("intermediate_size"), s.count("out_hidden_size")
    layers, p, merge = s.count("depth"), s.count("patch_size"), s.count("spatial_merge_size") ** 2 * s.count("hidden_size")
    patch = linear(s.count("in_channels") * s.count("temporal_patch_size") * p * p, d, False)
    total = patch + blocks(layers, d, f, gated=True, norm_bias=False) + d + linear(merge, merge) + linear(merge, out)
    return tower(total, layers, d, s.count("num_heads"), f, gated_ffn=True)


def qwen2_vl(s: Source, text: int) -> Tower:
    d, out = s.count("embed_dim"), s.count("hidden_size")
    f = int(d * s.get("mlp_ratio"))
    layers, p, merge = s.count("depth"), s.count("patch_size"), s.count("spatial_merge_size") ** 2 * d
    patch = linear(s.count("in_channels") * s.count("temporal_patch_size") * p * p, d, False)
    total = patch + blocks(layers, d, f) + 2 * d + linear(merge, merge) + linear(merge, out)
    return tower(total, layers, d, s.count("num_heads"), f)


def siglip(s: Source, text: int) -> Tower:
    """Gemma 3: 4,096 patches pooled to 256 tokens; SigLIP's own pooling head where the file keeps it."""
    d, f, layers, p = s.count("hidden_size"), s.count("intermediate_size"), s.count("num_hidden_layers"), s.count("patch_size")
    patches = (side(s) // p) ** 2
    total = linear(s.count("num_channels") * p * p, d) + patches * d + blocks(layers, d, f) + 2 * d + d * text + d
    if s.flag("vision_use_head", True):
        total += 4 * d * d + 4 * d + 3 * d + linear(d, f) + linear(f, d)
    return tower(total, layers, d, s.count("num_attention_heads"), f, patches_per_image=patches, tokens_per_image=256)


def gemma4(s: Source, text: int) -> Tower:
    d, f, layers, p = s.count("hidden_size"), s.count("intermediate_size"), s.count("num_hidden_layers"), s.count("patch_size")
    inside = blocks(
        layers, d, f, attention_bias=0, gated=True, ffn_bias=False, norms=4, norm_bias=False, more=2 * s.count("head_dim")
    )
    total = 2 * s.count("position_embedding_size") * d + 3 * p * p * d + inside + d * text
    tokens = s.count("default_output_length", 280)
    pooled = s.count("pooling_kernel_size") ** 2
    return tower(
        total,
        layers,
        d,
        s.count("num_attention_heads"),
        f,
        gated_ffn=True,
        tokens_per_image=tokens,
        patches_per_image=tokens * pooled,
    )


def gemma4_unified(s: Source, text: int) -> Tower:
    """Gemma 4 12B has no encoder: 48 x 48 pixels pass one layer between two norms, positions, a norm, the projector."""
    pixels = 3 * (s.count("patch_size") * s.count("pooling_kernel_size")) ** 2
    d, out = s.count("mm_embed_dim"), s.count("output_proj_dims")
    total = 2 * pixels + linear(pixels, d) + 2 * d + 2 * s.count("mm_posemb_size") * d + 2 * d + out * text
    return tower(total, 0, d, 1, d)


def cosmos3_edge(s: Source, text: int) -> Tower:
    """Cosmos 3 Edge: SigLIP 2 without its pooling head, 2 x 2 patches to a token, two layers of a wide projector."""
    d, f, layers, p = s.count("hidden_size"), s.count("intermediate_size"), s.count("num_hidden_layers"), side(s, "patch_size")
    patch = linear(s.count("num_channels") * p * p, d) + s.count("num_patches") * d
    wide, inner = s.count("spatial_merge_size") ** 2 * d, s.count("projector_hidden_size", 11520)
    total = patch + blocks(layers, d, f) + 4 * d + linear(wide, inner) + linear(inner, text)
    return tower(total, layers, d, s.count("num_attention_heads"), f)


def llama4(s: Source, text: int) -> Tower:
    d, f, layers, p = s.count("hidden_size"), s.count("intermediate_size"), s.count("num_hidden_layers"), s.count("patch_size")
    patches, inner = (side(s) // p) ** 2, s.count("projector_input_dim")
    total = (
        (patches + 2) * d
        + s.count("num_channels") * p * p * d
        + 4 * d
        + blocks(layers, d, f)
        + f * inner
        + inner * s.count("projector_output_dim")
        + s.count("vision_output_dim") * text
    )
    return tower(total, layers, d, s.count("num_attention_heads"), f, patches_per_image=patches, tokens_per_image=patches // 4)


def moon_vit(s: Source, text: int) -> Tower:
    """Kimi K2.5: positions of 64 x 64 patches, merged 2 x 2."""
    d = s.optional("vt_hidden_size") or s.count("hidden_size")
    f = s.optional("vt_intermediate_size") or s.count("intermediate_size")
    layers = s.optional("vt_num_hidden_layers") or s.count("num_hidden_layers")
    heads = s.optional("vt_num_attention_heads") or s.count("num_attention_heads")
    p, merge = s.count("patch_size"), s.get("merge_kernel_size")
    wide = d * merge[0] * merge[1]
    rows = (s.optional("init_pos_emb_height") or s.count("pos_emb_height")) * (
        s.optional("init_pos_emb_width") or s.count("pos_emb_width")
    )
    total = linear(3 * p * p, d) + rows * d + 2 * d + blocks(layers, d, f) + 2 * d + linear(wide, wide) + linear(wide, text)
    return tower(total, layers, d, heads, f)


def glm4v(s: Source, text: int) -> Tower:
    d, out, layers, p = s.count("hidden_size"), s.count("out_hidden_size"), s.count("depth"), s.count("patch_size")
    inner, merge = s.count("intermediate_size"), s.count("spatial_merge_size") ** 2
    inside = blocks(layers, d, out, attention_bias=0, gated=True, ffn_bias=False, norm_bias=False)
    merger = out * out + 2 * out + 3 * out * inner
    total = (
        (side(s) // p) ** 2 * d
        + linear(s.count("in_channels") * s.count("temporal_patch_size") * p * p, d)
        + inside
        + merger
        + 2 * d
        + d * out * merge
        + out
    )
    return tower(total, layers, d, s.count("num_heads"), out, gated_ffn=True)


def muse_glimmer(s: Source, text: int) -> Tower:
    """Two frames to a patch, positions of 32 x 32, norms in front and behind, 2 x 2 patches to a token, three plain layers."""
    d, f, layers, p = s.count("hidden_size"), s.count("intermediate_size"), s.count("num_hidden_layers"), s.count("patch_size")
    patch = s.count("patch_temporal") * 3 * p * p * d + s.count("pos_emb_height") * s.count("pos_emb_width") * d
    out, inner = s.count("out_hidden_size", 6144), s.count("projector_hidden_size", 4096)
    total = patch + 4 * d + blocks(layers, d, f) + out * inner + inner * inner + inner * text
    return tower(total, layers, d, s.count("num_attention_heads"), f)


def pixtral(s: Source, text: int) -> Tower:
    d, f, layers, p = s.count("hidden_size"), s.count("intermediate_size"), s.count("num_hidden_layers"), s.count("patch_size")
    merge = s.count("spatial_merge_size", 2) ** 2
    inside = blocks(layers, d, f, attention_bias=0, gated=True, ffn_bias=False, norm_bias=False)
    total = s.count("num_channels") * p * p * d + d + inside + d + d * d * merge + d * text + text * text
    return tower(total, layers, d, s.count("num_attention_heads"), f, gated_ffn=True)


def internvl(s: Source, text: int) -> Tower:
    d, f, layers = s.count("hidden_size"), s.count("intermediate_size"), s.count("num_hidden_layers")
    p = side(s, "patch_size")
    patches = (side(s) // p) ** 2
    qkv = 4 if s.flag("attention_bias") else 1
    total = (
        d
        + (patches + 1) * d
        + linear(s.count("num_channels") * p * p, d)
        + blocks(layers, d, f, attention_bias=qkv, more=2 * d)
        + 8 * d
        + linear(4 * d, text)
        + linear(text, text)
    )
    return tower(total, layers, d, s.count("num_attention_heads"), f, patches_per_image=patches, tokens_per_image=patches // 4)


def step3p5(s: Source, text: int) -> Tower:
    """Step-3.7: two strided convolutions behind the encoder, a fourth of a fourth of the patches."""
    d, p = s.optional("width") or s.count("hidden_size"), s.count("patch_size")
    layers, heads = s.optional("layers") or s.count("num_hidden_layers"), s.optional("heads") or s.count("num_attention_heads")
    f, patches = int(d * s.get("mlp_ratio", 8960 / 1536)), (side(s) // p) ** 2
    total = (
        s.count("num_channels") * p * p * d
        + patches * d
        + 2 * d
        + blocks(layers, d, f, more=2 * d)
        + linear(9 * d, 2 * d)
        + linear(18 * d, 4 * d)
        + 4 * d * text
    )
    return tower(total, layers, d, heads, f, patches_per_image=patches, tokens_per_image=patches // 16)


def intern_vit(s: Source, text: int) -> Tower:
    """InternVL's own files: the 300M encoder has layer norms, the 6B one RMS norms, also of queries and keys."""
    s.config["attention_bias"] = s.config.get("qkv_bias", True)
    rms, normed = s.get("norm_type", "layer_norm") == "rms_norm", s.flag("qk_normalization")
    found = internvl(s, text)
    layers, d = found["num_layers"], found["hidden_size"]
    found["parameters"] += layers * d * (2 * normed - 2 * rms)
    return found


def mllama(s: Source, text: int) -> Tower:
    """Llama 3.2 Vision: an image in tiles, whose patches and class tokens see each other in each layer, filled up to multiples of
    eight a tile; the last layers, and the tiles' positions, behind learned scales. The text attends to every position."""
    d, f, p = s.count("hidden_size"), s.count("intermediate_size"), side(s, "patch_size")
    local, scaled, tiles = s.count("num_hidden_layers"), s.count("num_global_layers"), s.count("max_num_tiles")
    positions = (side(s) // p) ** 2 + 1
    shapes = len(s.get("supported_aspect_ratios") or ((1,),) * 8) + 1
    tables = shapes * tiles * positions * d + 2 * shapes * tiles * d + positions * d + 3
    total = (
        s.count("num_channels") * p * p * d
        + d
        + tables
        + 4 * d
        + blocks(local + scaled, d, f, attention_bias=0)
        + 2 * scaled
        + linear(s.count("vision_output_dim"), text)
    )
    seen, tokens = tiles * -(-positions // 8) * 8, tiles * positions
    heads = s.count("num_attention_heads")
    return tower(total, local + scaled, d, heads, f, patches_per_image=seen, tokens_per_image=tokens)


def minimax_m3(s: Source, text: int) -> Tower:
    """MiniMax M3: each patch projected, then 2 x 2 of them merged."""
    d, f, layers, p = s.count("hidden_size"), s.count("intermediate_size"), s.count("num_hidden_layers"), s.count("patch_size")
    inner, merge = s.count("projector_hidden_size", 6144), s.count("spatial_merge_size", 2) ** 2
    patch = s.count("num_channels") * s.count("temporal_patch_size", 2) * p * p * d
    projector = linear(d, inner) + linear(inner, text) + linear(text * merge, inner) + linear(inner, text)
    return tower(patch + 2 * d + blocks(layers, d, f) + projector, layers, d, s.count("num_attention_heads"), f)


VISION: dict[str, tuple[str, Callable[[Source, int], Tower] | None, str]] = {
    "qwen3_vl": ("qwen3", qwen_vl, "qwen3_vl_vision"), "qwen3_vl_moe": ("qwen3_moe", qwen_vl, "qwen3_vl_moe_vision"),
    "qwen3_5": ("qwen3_5_text", qwen_vl, "qwen3_5_vision"), "qwen3_5_moe": ("qwen3_5_moe_text", qwen_vl, "qwen3_5_moe_vision"),
    "qwen2_5_vl": ("qwen2", qwen2_5_vl, "qwen2_5_vl_vision"), "qwen2_vl": ("qwen2", qwen2_vl, "qwen2_vl_vision"),
    "gemma3": ("gemma3_text", siglip, "siglip_vision_model"), "gemma4": ("gemma4_text", gemma4, "gemma4_vision"),
    "gemma4_unified": ("gemma4_unified_text", gemma4_unified, "gemma4_unified_vision"),
    "cohere_compass": ("cohere_compass_text", qwen_vl, "cohere_compass_vision"),
    "cosmos3_edge": ("cosmos3_edge_text", cosmos3_edge, "cosmos3_edge_vision"),
    "llama4": ("llama4_text", llama4, "llama4_vision_model"), "kimi_k25": ("deepseek_v3", moon_vit, "kimi_k25_vision"),
    "glm4v_moe": ("glm4_moe", glm4v, "glm4v_moe_vision"), "glm4v": ("glm4v_text", glm4v, "glm4v_vision"),
    "mistral3": ("mistral", pixtral, "pixtral"), "lighton_ocr": ("qwen3", pixtral, "pixtral"),
    "glm46v": ("glm4v_text", glm4v, "glm4v_vision"), "glmga": ("glm4v_text", glm4v, "glm4v_vision"),
    "shieldgemma2": ("gemma3_text", siglip, "siglip_vision_model"),
    "minimax_m3_vl": ("minimax_m3_vl_text", minimax_m3, "minimax_m3_vl_vision"),
    "internvl_chat": ("qwen2", intern_vit, "internvl_vision"),
    "internvl": ("qwen2", internvl, "internvl_vision"), "step3p7": ("step3p5", step3p5, "step3p5_vision"),
    "llava": ("llama", None, "clip_vision_model"), "llava_next": ("llama", None, "clip_vision_model"),
    "llava_next_video": ("llama", None, "clip_vision_model"), "vipllava": ("llama", None, "clip_vision_model"),
    "llava_onevision": ("qwen2", None, "siglip_vision_model"), "paligemma": ("gemma", None, "siglip_vision_model"),
    "idefics3": ("llama", None, "idefics3_vision"), "smolvlm": ("llama", None, "smolvlm_vision"),
    "aya_vision": ("cohere2", None, "siglip_vision_model"), "cohere2_vision": ("cohere2", None, "siglip_vision_model"),
    "lfm2_vl": ("lfm2", None, "siglip2_vision_model"),
    "mllama": ("mllama_text_model", mllama, "mllama_vision_model"),
    "mistral_large4": ("mistral_large4_text", pixtral, "pixtral"),
    "muse_glimmer": ("muse_glimmer_text", muse_glimmer, "muse_glimmer_vision"),
    "qwen3_6": ("qwen3_5_text", qwen_vl, "qwen3_5_vision"), "qwen3_6_moe": ("qwen3_5_moe_text", qwen_vl, "qwen3_5_moe_vision"),
    "qwen3_8": ("qwen3_5_text", qwen_vl, "qwen3_5_vision"), "qwen3_8_moe": ("qwen3_5_moe_text", qwen_vl, "qwen3_5_moe_vision"),
}  # fmt: skip
"""Models with a vision tower: the text model's reader where the file names none, the tower's (None: as
the vision table's own type says, with the model's projector), and whose defaults hold for it."""

SOUND: dict[str, Callable[[Mapping[str, Any], int], int]] = {
    "gemma4_unified": lambda heard, text: int(heard.get("audio_embed_dim") or 640) * text,
}
"""Weights of what reads sound, where the planner counts them: of width ``text``, from the table audio_config."""

TIED_BY_DEFAULT = frozenset(
    (
        "gemma3",
        "gemma4",
        "gemma4_unified",
        "mistral3",
        "internvl",
        "lighton_ocr",
        "kimi_k25",
        "paligemma",
        "aya_vision",
        "cohere2_vision",
        "lfm2_vl",
        "shieldgemma2",
        # read as their text alone
        "deepseek_vl",
        "deepseek_vl_hybrid",
        "fun_asr_nano",
        "gemma3n",
        "glmasr",
        "got_ocr2",
        "granite_docling",
        "granite_speech",
        "granite_speech_plus",
        "hunyuan_vl",
        "hyperclovax_vision_v2",
        "janus",
        "lfm3_vl",
        "minicpm_ocr",
        "moss_transcribe_diarize",
        "ovis2",
        "paddleocr_vl",
        "pp_chart2table",
        "qwen3_asr",
        "voxtral_realtime",
    )
)
"""Types whose head is tied where neither table says (tie_word_embeddings of transformers' outer class)."""
EITHER_TIES = frozenset(
    """
    qwen2_5_vl qwen2_vl glm4v glm4v_moe llava llava_next_video llava_onevision minimax_m3_vl shieldgemma2
    """.split()  # noqa: SIM905
)
"""Types that older releases saved with the flag in the text's table: a tie in either, also by default, holds."""
OUTER_TIES = frozenset(("muse_glimmer", "glm46v"))
"""Types whose outer class leaves a false flag out of the file, and reads no flag of the text's."""
TEXT_TIES = frozenset(("llama4",))
"""Types whose head is inside the text model: its table's flag alone holds."""
NEVER_TIED = frozenset(("cosmos3_edge",))
"""Types whose class ties nothing, whatever a flag says."""

NO_TOWER_UNSTATED = frozenset(("gemma4", "gemma4_unified"))
"""Types that have no tower where the file has no vision_config."""
TEXT_TYPES = {
    "qwen3_vl_text": "qwen3", "qwen3_vl_moe_text": "qwen3_moe", "qwen2_5_vl_text": "qwen2", "qwen2_vl_text": "qwen2",
    "glm4v_moe_text": "glm4_moe", "kimi_k2": "deepseek_v3",
    "qwen2_5_omni_text": "qwen2", "granite_docling_text": "granite",
    "granite4_vision_text": "granite", "hunyuan_vl_text": "hunyuan_v1_dense", "paddleocr_vl_text": "ernie4_5",
    "emu3_text_model": "llama", "exaone4_5_text": "exaone4",
}  # fmt: skip
"""Text parts that are read as another family."""
QWEN2_VL: dict[str, Any] = {
    "num_hidden_layers": 80, "hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 29568,
    "vocab_size": 152064,
}  # fmt: skip
TEXT_SIZES: dict[str, dict[str, Any]] = {
    "qwen2_vl_text": QWEN2_VL,
    "qwen2_5_vl_text": QWEN2_VL,
    "qwen2_5_omni_text": {
        "num_hidden_layers": 28, "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4,
        "intermediate_size": 18944, "vocab_size": 152064,
    },
    "qwen3_vl_moe_text": {
        "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 5632, "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408, "num_experts": 60,
    },
    "glm4v_moe_text": {"attention_bias": True, "vocab_size": 151424},
    "granite_docling_text": {
        "num_hidden_layers": 28, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 2048, "vocab_size": 133800,
    },
    "emu3_text_model": {"intermediate_size": 14336, "vocab_size": 184622},
}  # fmt: skip
"""What transformers takes for sizes that such a text's table leaves out, where it is not what it takes for the other family."""


def countable(kind: str, vision: Mapping[str, Any]) -> bool:
    """Whether the encoder that the vision table names is one whose weights are counted."""
    return VISION[kind][1] is not None or _encoder(kind, vision) in ENCODER_OF


def _encoder(kind: str, vision: Mapping[str, Any]) -> Any:
    """The type of the encoder: the outer type's own where the table names that, as Idefics 3 does, or none."""
    named = vision.get("model_type", kind)
    return VISION[kind][2] if named == kind else named


def tower_of(kind: str, config: Mapping[str, Any], text_width: int) -> Tower | None:
    """Fields of the tower that ``config`` describes; None where the file leaves the tower out (``vision_config`` null)."""
    _, read, default = VISION[kind]
    if "vision_config" not in config and read is None:
        raise PlannerError("{0} is not stated", "vision_config")
    if config.get("vision_config") is None and ("vision_config" in config or kind in NO_TOWER_UNSTATED):
        return None
    vision = config.get("vision_config") or {}
    if not isinstance(vision, Mapping):
        raise PlannerError("vision_config = {0!r}: must be a table", vision)
    named = _encoder(kind, vision)
    known = {*ENCODER_OF, *defaults()}
    s = Source(vision, named if isinstance(named, str) and (named in known or read is None) else default)
    if kind in ("mistral3", "mistral_large4") and "spatial_merge_size" in config:
        s.config.setdefault("spatial_merge_size", config["spatial_merge_size"])
    for key in ("projector_hidden_size", "out_hidden_size"):
        if key in config:
            s.config.setdefault(key, config[key])
    try:
        return projected(kind, config, s, text_width) if read is None else read(s, text_width)
    except PlannerError as error:
        raise PlannerError("vision_config: {0}", error) from None


BESIDE_TEXT = {
    "phi3_v": "its encoder of images and the projector",
    "phi4mm": "its encoders of images and sound, their projectors and adapters",
    "phi4_multimodal": "its encoders of images and sound, and their projectors",
    "dots3_note": "its encoders of images and sound, and their projectors",
    "minicpmv": "its encoder of images and the resampler",
    "minicpmo": "its encoders of images and sound, the resampler and speech",
    "ernie4_5_moe_vl": "its encoder of images, the resampler and the experts that images alone visit",
    "ernie4_5_vl_moe": "its encoder of images, the resampler and the experts that images alone visit",
}
"""Types with the text's fields at the top of the file, and what stands beside the text."""
_ENCODERS = frozenset(
    """
    embd_layer img_processor audio_processor vision_lora speech_lora vision_config audio_config tts_config query_num image_size
    patch_size drop_vision_last_layer batch_vision_input slice_config slice_mode use_image_id vision_batch_size init_vision
    init_audio init_tts audio_pool_step audio_chunk_length chunk_input stream_input version full_attn_mod interpolate_factor
    moe_multimodal_dispatch_use_allgather moe_capacity moe_gate pixel_hidden_size vision_token_interval listen_speak_type
    """.split()  # noqa: SIM905
)


def text_beside(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The text's own configuration of such a file."""
    text = {k: v for k, v in config.items() if k not in _ENCODERS}
    nested = text.pop("text_config", None)
    text = {**text, **nested} if isinstance(nested, Mapping) else text
    if kind.startswith("phi"):
        named = "phi3"
    elif kind == "dots3_note":
        named = "dots3_note_text"
    elif kind.startswith("ernie"):
        named = "ernie4_5_moe"
        firsts = ("moe_num_experts", "moe_intermediate_size", "moe_layer_start_index", "moe_layer_end_index")
        text |= {k: text[k][0] for k in firsts if isinstance(text.get(k), list) and text[k]}
    else:
        named = "qwen3" if "head_dim" in text else "llama" if config.get("version") == 2.5 else "qwen2"
    return {**text, "model_type": named, "architectures": ["ForCausalLM"]}
