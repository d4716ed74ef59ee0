"""Vision encoders by their own type, and the projectors that models put behind them: counted weight by weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from planner.common.errors import PlannerError
from planner.model.huggingface.source import Source

Tower = dict[str, Any]


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    """Weights of a linear layer."""
    return inputs * outputs + outputs * bias


def blocks(
    layers: int,
    d: int,
    f: int,
    *,
    attention_bias: int = 4,
    gated: bool = False,
    ffn_bias: bool = True,
    norms: int = 2,
    norm_bias: bool = True,
    more: int = 0,
) -> int:
    """Weights of ``layers`` transformer layers of width ``d``; ``attention_bias``: how many of q, k, v and output have one."""
    lanes = 2 if gated else 1
    ffn = (lanes + 1) * d * f + ffn_bias * (lanes * f + d)
    return layers * (4 * d * d + attention_bias * d + ffn + norms * d * (1 + norm_bias) + more)


def tower(parameters: int, layers: int, d: int, heads: int, f: int, **more: Any) -> Tower:
    """Fields of a tower."""
    return {"parameters": parameters, "num_layers": layers, "hidden_size": d, "num_heads": heads, "ffn_hidden_size": f, **more}


def side(s: Source, key: str = "image_size") -> int:
    """Pixels of one side of an image, or of a patch."""
    value = s.get(key)
    if isinstance(value, list) and value and all(isinstance(x, int) for x in value):
        value = value[0]
    if not isinstance(value, int) or value < 1:
        raise PlannerError("vision_config.{0} = {1!r}: must be a whole number of pixels", key, value)
    return value


def _plain(s: Source, total: Callable[[int, int, int], int], patches: int | None) -> Tower:
    """An encoder of plain layers: ``total`` of width, inner width and layers."""
    d, f, layers = s.count("hidden_size"), s.count("intermediate_size"), s.count("num_hidden_layers")
    return tower(total(d, f, layers), layers, d, s.count("num_attention_heads"), f, patches_per_image=patches)


def clip(s: Source) -> Tower:
    """CLIP: a class token, learned positions, norms in front and behind."""
    p = side(s, "patch_size")
    patches, pixels = (side(s) // p) ** 2, s.count("num_channels") * p * p
    return _plain(s, lambda d, f, n: d + pixels * d + (patches + 1) * d + 4 * d + blocks(n, d, f), patches)


def siglip(head: bool = True) -> Callable[[Source], Tower]:
    """SigLIP: learned positions, a norm behind; ``head``: its pooling head, unless vision_use_head says no."""

    def read(s: Source) -> Tower:
        p = side(s, "patch_size")
        patches = s.optional("num_patches") if s.kind == "siglip2_vision_model" else (side(s) // p) ** 2
        rows, pixels = patches or 256, s.count("num_channels") * p * p
        pools = head and s.flag("vision_use_head", True)

        def total(d: int, f: int, layers: int) -> int:
            pooling = 4 * d * d + 4 * d + 3 * d + linear(d, f) + linear(f, d)
            return linear(pixels, d) + rows * d + blocks(layers, d, f) + 2 * d + pools * pooling

        return _plain(s, total, rows)

    return read


def pixtral(s: Source) -> Tower:
    """Pixtral: rotary positions, RMS norms, gated feed-forwards, images of any size."""
    pixels = s.count("num_channels") * s.count("patch_size") ** 2

    def total(d: int, f: int, layers: int) -> int:
        return pixels * d + d + blocks(layers, d, f, attention_bias=0, gated=True, ffn_bias=False, norm_bias=False)

    found = _plain(s, total, None)
    return {**{k: v for k, v in found.items() if v is not None}, "gated_ffn": True}


ENCODER_OF: dict[str, Callable[[Source], Tower]] = {
    "clip_vision_model": clip, "siglip_vision_model": siglip(), "siglip2_vision_model": siglip(), "pixtral": pixtral,
    "idefics3_vision": siglip(head=False), "smolvlm_vision": siglip(head=False),
}  # fmt: skip
"""Encoders by ``vision_config.model_type``."""

Outer = Mapping[str, Any]
Projector = Callable[[Outer, int, int], tuple[int, int]]
"""Of the model's outer table, the encoder's and the text's width: weights, and patches that make one token."""


def _flag(outer: Outer, key: str) -> bool:
    return outer.get(key) is not False


def _two_linears(newline: bool = False, norm: bool = False) -> Projector:
    """LLaVA: two layers behind one or several layers of the encoder; ``newline``: a vector between rows of tiles."""

    def project(outer: Outer, d: int, text: int) -> tuple[int, int]:
        layers = outer.get("vision_feature_layer")
        wide = d * (len(layers) if isinstance(layers, (list, tuple)) else 5 if norm and layers is None else 1)
        bias = _flag(outer, "multimodal_projector_bias") or norm
        return linear(wide, text, bias) + linear(text, text, bias) + text * newline + 2 * wide * norm, 1

    return project


def _shuffled(key: str, default: int, *, gated: bool = True, norm: str = "", bias: str = "") -> Projector:
    """Neighbouring patches side by side, then two layers of inner width ``key``; ``gated``: half of them multiply the others."""

    def project(outer: Outer, d: int, text: int) -> tuple[int, int]:
        factor, inner = outer.get("downsample_factor", 2), outer.get(key, default or text)
        for name, value in (("downsample_factor", factor), (key, inner)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise PlannerError("{0} = {1!r}: must be a whole number, at least {2}", name, value, 1)
        wide, has_bias = d * factor**2, _flag(outer, bias)
        normed = 2 * wide * _flag(outer, norm) if norm else 0
        return linear(wide, inner, has_bias) + linear(inner // 2 if gated else inner, text, has_bias) + normed, factor**2

    return project


def _one_linear(outer: Outer, d: int, text: int) -> tuple[int, int]:
    """PaliGemma: one layer, whose outputs stand among the text's vectors."""
    wide = outer.get("projection_dim", 2048)
    if wide != text:
        raise PlannerError("projection_dim = {0!r}: must be {1}, the width of the text", wide, text)
    return linear(d, text), 1


def _merged(outer: Outer, d: int, text: int) -> tuple[int, int]:
    """Idefics 3 and SmolVLM: neighbouring patches side by side, one layer."""
    factor = outer.get("scale_factor", 2)
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise PlannerError("{0} = {1!r}: must be a whole number, at least {2}", "scale_factor", factor, 1)
    return linear(d * factor**2, text, False), factor**2


PROJECTORS: dict[str, Projector] = {
    "llava": _two_linears(), "llava_next": _two_linears(newline=True), "llava_next_video": _two_linears(newline=True),
    "llava_onevision": _two_linears(newline=True), "vipllava": _two_linears(norm=True), "paligemma": _one_linear,
    "idefics3": _merged, "smolvlm": _merged,
    "aya_vision": _shuffled("alignment_intermediate_size", 0, norm="projector_use_layernorm"),
    "cohere2_vision": _shuffled("alignment_intermediate_size", 36864),
    "lfm2_vl": _shuffled("projector_hidden_size", 2560, gated=False, norm="projector_use_layernorm", bias="projector_bias"),
}  # fmt: skip
"""What stands between an encoder and the text, by ``model_type``."""


def projected(kind: str, outer: Outer, s: Source, text: int) -> Tower:
    """The encoder of the vision table's own type with the model's projector behind it."""
    if s.kind not in ENCODER_OF:
        raise PlannerError("model_type = {0!r}: known are {1}", s.kind, ", ".join(ENCODER_OF))
    found = ENCODER_OF[s.kind](s)
    weights, merged = PROJECTORS[kind](outer, found["hidden_size"], text)
    patches = found.get("patches_per_image")
    tokens = {"tokens_per_image": patches // merged} if patches else {}
    return {**found, "parameters": found["parameters"] + weights, **tokens}
