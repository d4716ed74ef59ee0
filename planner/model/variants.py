"""Layers that differ from the rest of their model, and encoders in front of it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from planner.common.limits import MOST, MOST_ELEMENTS
from planner.common.spec import Spec

Positive = Annotated[int, Field(gt=0, le=MOST, strict=True)]
Count = Annotated[int, Field(ge=0, le=MOST, strict=True)]
Elements = Annotated[int, Field(ge=0, le=MOST_ELEMENTS, strict=True)]

Mixer = Literal[
    "attention", "gated_delta_net", "kimi_delta", "lightning", "mamba2", "mamba", "short_conv", "rwkv4", "rwkv5", "none"
]  # fmt: skip
"""What mixes tokens. Gated delta rule (arXiv 2412.06464), the same with a decay for each channel (Kimi Linear, arXiv
2510.26692), linear attention with fixed decays (MiniMax-01, arXiv 2501.08313), state spaces (Mamba-2, arXiv 2405.21060; Mamba,
arXiv 2312.00752), a gated convolution alone (LFM2), time mixing (RWKV-4, arXiv 2305.13048; RWKV-5, arXiv 2404.05892)."""


class Variant(Spec):
    """Layers that differ from the model's fields in what is given here. ``letter`` marks them in ``layer_pattern``."""

    letter: Annotated[str, Field(min_length=1, max_length=1)]
    mixer: Mixer | None = None
    attention_beside_mixer: bool | None = None
    feed_forward: Literal["none", "dense", "experts"] | None = None
    architecture: Literal["encoder"] | None = None  # layers of an encoder in front, which read the source in both directions
    cross_attention: bool | None = None
    image_attention: bool | None = None
    shared_weights: bool | None = None
    norms_per_layer: Annotated[int, Field(ge=1, le=8)] | None = None
    norm_placement: Literal["before", "after"] | None = None
    num_heads: Positive | None = None
    num_kv_heads: Positive | None = None
    head_dim: Positive | None = None
    v_head_dim: Positive | None = None
    attention: Literal["mha", "gqa", "mqa", "mla"] | None = None
    q_lora_rank: Count | None = None
    kv_lora_rank: Positive | None = None
    qk_nope_head_dim: Positive | None = None
    qk_rope_head_dim: Count | None = None
    attention_sinks: bool | None = None
    attention_gate: Literal["none", "head", "full", "query"] | None = None
    qk_norm: Literal["none", "head", "full", "key"] | None = None
    keys_are_values: bool | None = None
    shared_kv: bool | None = None
    compress_ratio: Count | None = None
    compress_overlap: bool | None = None
    index_num_heads: Count | None = None
    index_head_dim: Count | None = None
    index_top_k: Count | None = None
    position_embedding: Literal["rotary", "none"] | None = None
    ffn_hidden_size: Positive | None = None
    expert_ffn_hidden_size: Positive | None = None
    layer_vectors: Elements | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that it changes."""
        return self.model_dump(exclude_none=True, exclude={"letter", "provenance"})


class Tower(Spec):
    """A vision or audio encoder in front of the language model, with the projector behind it. ``parameters`` counts both."""

    name: str = "vision"
    parameters: Annotated[int, Field(gt=0, le=MOST_ELEMENTS, strict=True)]
    num_layers: Positive
    hidden_size: Positive
    num_heads: Positive
    ffn_hidden_size: Positive
    gated_ffn: bool = False
    patches_per_image: Positive | None = None  # positions that the encoder's layers see
    tokens_per_image: Positive | None = None  # positions that the language model sees; None: follows the image's size
    frozen: bool = False  # its weights do not train, also where all others do
