"""What is trained: the architecture of a dense or mixture-of-experts language model, field by field."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, PrivateAttr, model_validator

from planner.common.spec import Spec

Positive = Annotated[int, Field(gt=0, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]


class LayerKind(NamedTuple):
    """What tells one layer's operators from another's."""

    moe: bool
    sliding: bool
    role: int = 0  # what it does in fine-tuning with adapters: an index of ROLES


ROLES = ("trained", "adapted", "first adapted", "passing", "still")
"""All weights train; frozen with adapters; the first such one, below which nothing trains; frozen between adapters and
loss; frozen below all adapters."""


class Model(Spec):
    """One language model. Sizes are counts of elements; nothing is guessed from a name or a ratio.

    Field names follow ``training_runs.csv`` and, where that is silent, Hugging Face's ``config.json``.
    """

    name: str
    source: str = ""
    architecture: Literal["decoder", "encoder"] = "decoder"

    num_layers: Annotated[int, Field(gt=0, le=10_000, strict=True)]
    hidden_size: Positive
    vocab_size: Positive

    # attention
    num_heads: Positive
    num_kv_heads: Positive = 0  # filled from the other fields when left out
    head_dim: Positive = 0  # filled from the other fields when left out
    attention: Literal["mha", "gqa", "mqa", "mla"] = "mha"  # derived from the heads when left out
    q_lora_rank: Positive | None = None
    kv_lora_rank: Positive | None = None
    qk_nope_head_dim: Positive | None = None
    qk_rope_head_dim: Positive | None = None
    v_head_dim: Positive | None = None
    sliding_window: Positive | None = None
    memory_length: Count = 0  # cached keys of the previous segment (Transformer-XL); dense unfused attention only
    relative_attention: bool = False  # scores of positions beside those of content (Transformer-XL)
    full_attention_every: Count = 0  # every n-th layer attends to everything; 0 = none does
    first_sliding_layer: Count = 0
    full_attention_layers: tuple[Count, ...] = ()  # further layers that attend to everything, by index
    softmax_in_fp32: bool = True  # an eager kernel upcasts the scores (llama and kin; not gpt2, bert)
    attention_sinks: bool = False  # one learned logit per head (gpt_oss)
    qk_norm: Literal["none", "head", "full"] = "none"  # over head_dim (qwen3) or over all heads (olmoe)

    # feed-forward
    ffn_hidden_size: Positive = 0  # filled from the experts' when left out
    gated_ffn: bool = True
    activation: Literal["silu", "gelu", "relu", "gelu_tanh"] = "silu"  # gelu_tanh: GPT-2's formula, written in Python

    # mixture of experts
    num_experts: Count = 0
    top_k: Count = 0
    expert_ffn_hidden_size: Positive | None = None
    num_shared_experts: Count = 0
    shared_expert_ffn_hidden_size: Positive | None = None  # of one shared expert; default as a routed one
    shared_expert_gate: bool = False
    router_bias: bool = False
    num_dense_layers: Count = 0  # the first layers keep a dense feed-forward
    moe_every: Positive = 1  # layer i is MoE when (i + 1) % moe_every == 0
    dense_layers: tuple[Count, ...] = ()  # further dense layers, by index
    capacity_factor: Annotated[float, Field(gt=0)] | None = None  # None = dropless

    # the rest
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_bias: bool = False  # layer norms have one unless it says false
    norms_per_layer: Annotated[int, Field(ge=1, le=4)] = 2
    parallel_attention: bool = False  # attention and feed-forward read the same input (falcon, gpt_neox)
    final_norm: bool = True
    embedding_norm: bool = False
    position_embedding: Literal["rotary", "learned", "alibi", "none"] = "rotary"
    max_positions: Count = 0  # rows of a learned position table
    context_length: Count = 0  # tokens that its configuration allows; 0 = not known
    embedding_projection_size: Positive | None = None  # word embeddings narrower than hidden_size (opt-350m)
    type_vocab_size: Count = 0
    qkv_bias: bool = False
    attention_output_bias: bool = False
    ffn_bias: bool = False
    head_bias: bool = False
    tied_embeddings: bool = False
    head: Literal["language_model", "masked_language_model", "none"] = "language_model"
    pooler: bool = False  # a square layer with bias and tanh on the first token (BERT)
    # whose names its linear layers have (planner/model/linears.py); adapters are asked for by them
    modules: Literal[
        "llama",
        "mixtral",
        "deepseek",
        "gpt2",
        "qwen",
        "falcon",
        "gpt_neox",
        "chatglm",
        "baichuan",
        "opt",
        "phi",
        "phi3",
        "mpt",
        "internlm2",
        "bert",
    ] = "llama"
    num_labels: Count = 0  # outputs of a small classification layer with bias (BERT's next-sentence prediction: 2)
    hidden_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    _roles: tuple[int, ...] = PrivateAttr(default=())  # of each layer; set by with_roles

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Derive what follows from other fields, leaving type errors to the fields themselves."""
        if not isinstance(data, dict):
            return data
        d = dict(data)
        heads, hidden = d.get("num_heads"), d.get("hidden_size")
        if d.get("num_kv_heads") is None and isinstance(heads, int):
            d["num_kv_heads"] = 1 if d.get("attention") == "mqa" else heads
        if d.get("head_dim") is None and isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
            if hidden % heads and d.get("attention") != "mla":
                raise ValueError(
                    f"num_heads = {heads} does not divide hidden_size = {hidden}; give head_dim, or a num_heads that does"
                )
            d["head_dim"] = max(hidden // heads, 1)
        kv = d.get("num_kv_heads")
        if d.get("attention") is None and isinstance(heads, int) and isinstance(kv, int):
            d["attention"] = "mla" if d.get("kv_lora_rank") else _kind_of_heads(heads, kv)
        if d.get("norm_bias") is None:
            d["norm_bias"] = d.get("norm", "rmsnorm") == "layernorm"
        if d.get("ffn_hidden_size") is None and d.get("expert_ffn_hidden_size") is not None:
            d["ffn_hidden_size"] = d["expert_ffn_hidden_size"]
        if d.get("expert_ffn_hidden_size") is None and d.get("num_experts"):
            d["expert_ffn_hidden_size"] = d.get("ffn_hidden_size")
        if d.get("shared_expert_ffn_hidden_size") is None and d.get("num_shared_experts"):
            d["shared_expert_ffn_hidden_size"] = d.get("expert_ffn_hidden_size")
        return d

    @model_validator(mode="after")
    def _check(self) -> Model:
        if not self.ffn_hidden_size:
            raise ValueError("field ffn_hidden_size is missing")
        self._check_attention()
        self._check_moe()
        if self.position_embedding == "learned" and not self.max_positions:
            raise ValueError("max_positions = 0 with position_embedding = 'learned'; give the rows of the position table")
        if self.head == "none" and self.tied_embeddings:
            raise ValueError("tied_embeddings = true with head = 'none': there is no head to tie; set it to false")
        return self

    def _check_attention(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_kv_heads = {self.num_kv_heads} does not divide num_heads = {self.num_heads}; "
                f"use a divisor of {self.num_heads}"
            )
        mla = (self.kv_lora_rank, self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim)
        if self.attention == "mla":
            if None in mla:
                raise ValueError("attention = 'mla' needs kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim and v_head_dim")
        else:
            if any(x is not None for x in (*mla, self.q_lora_rank)):
                raise ValueError(f"attention = {self.attention!r} with latent sizes (kv_lora_rank, ...); use attention = 'mla'")
            right = _kind_of_heads(self.num_heads, self.num_kv_heads)
            if self.attention != right:
                raise ValueError(
                    f"attention = {self.attention!r} with {self.num_kv_heads} key-value heads for {self.num_heads} "
                    f"heads is {right!r}; correct one of them"
                )
        if (self.memory_length or self.relative_attention) and self.attention == "mla":
            raise ValueError("memory_length and relative_attention belong to plain attention; use attention = 'mha'")
        for field in ("full_attention_every", "full_attention_layers", "first_sliding_layer"):
            if getattr(self, field) and self.sliding_window is None:
                raise ValueError(f"{field} = {getattr(self, field)} needs sliding_window")
        last = self.num_layers - 1
        if self.full_attention_layers and max(self.full_attention_layers) > last:
            raise ValueError(f"full_attention_layers names layer {max(self.full_attention_layers)}; the last one is {last}")

    def _check_moe(self) -> None:
        if self.num_experts:
            if not 1 <= self.top_k <= self.num_experts:
                raise ValueError(f"top_k = {self.top_k}; a model of {self.num_experts} experts needs 1 to {self.num_experts}")
            if self.num_dense_layers >= self.num_layers:
                raise ValueError(
                    f"num_dense_layers = {self.num_dense_layers} leaves no MoE layer in {self.num_layers} layers; "
                    "set num_experts = 0 for a dense model"
                )
            if self.dense_layers and max(self.dense_layers) >= self.num_layers:
                raise ValueError(f"dense_layers names layer {max(self.dense_layers)}; the last one is {self.num_layers - 1}")
            if not any(kind.moe for kind in self.layer_kinds):
                raise ValueError(f"moe_every = {self.moe_every} leaves no MoE layer in {self.num_layers} layers")
            return
        for field in ("top_k", "num_shared_experts", "expert_ffn_hidden_size", "capacity_factor", "num_dense_layers"):
            if getattr(self, field):
                raise ValueError(f"{field} = {getattr(self, field)} needs num_experts; without it the model is dense")

    @cached_property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """The kind of each layer, from first to last."""
        kinds = []
        for i in range(self.num_layers):
            moe = bool(self.num_experts) and i >= self.num_dense_layers
            moe = moe and i not in self.dense_layers and (i + 1 - self.num_dense_layers) % self.moe_every == 0
            full = bool(self.full_attention_every) and (i + 1) % self.full_attention_every == 0
            full = full or i in self.full_attention_layers
            sliding = self.sliding_window is not None and i >= self.first_sliding_layer and not full
            kinds.append(LayerKind(moe, sliding, self._roles[i] if self._roles else 0))
        return tuple(kinds)

    def with_roles(self, roles: tuple[int, ...]) -> Model:
        """The same model with a role for each layer."""
        copy = self.model_copy()
        copy.__dict__.pop("layer_kinds", None)  # of the roles before
        copy._roles = roles
        return copy

    @property
    def family(self) -> str:
        """``encoder``, ``moe`` or ``dense``."""
        return "encoder" if self.architecture == "encoder" else "moe" if self.num_experts else "dense"

    @property
    def qk_head_dim(self) -> int:
        """Width of one query or key head."""
        if self.attention == "mla":
            return int(self.qk_nope_head_dim or 0) + int(self.qk_rope_head_dim or 0)
        return self.head_dim

    @property
    def value_head_dim(self) -> int:
        """Width of one value head."""
        return int(self.v_head_dim or 0) if self.attention == "mla" else self.head_dim


def _kind_of_heads(heads: int, kv_heads: int) -> Literal["mha", "gqa", "mqa"]:
    return "mha" if heads == kv_heads else "mqa" if kv_heads == 1 else "gqa"
