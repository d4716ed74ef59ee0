"""The linear layers of one model by Hugging Face's names, and which of them adapters go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from planner.model.architecture import LayerKind, Model
from planner.model.mixers import mixer_linears


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """One linear layer: ``path`` as Hugging Face names it, ``part`` as we do, in which ``block`` and row ``operator`` it counts.

    ``share``: its part of the operator's outputs. ``copies``: experts. ``module``: a module of its own, which
    "all-linear" means; routers and experts stored as one tensor are not.
    """

    path: str
    part: str
    block: str
    operator: str
    inputs: int
    outputs: int
    share: float = 1.0
    copies: int = 1
    module: bool = True
    also: str = ""  # its path in other releases of transformers

    def named(self, target: str) -> bool:
        """Whether ``target`` means it: peft's rule, the whole path or its end after a dot; or our own name.

        Experts stored as one tensor are parameters, not modules: they want their name with "experts." before it.
        """
        if not self.module and "." not in target and self.path.endswith("_proj"):
            return False
        paths = (self.path, self.also) if self.also else (self.path,)
        return self.part == target or any(path == target or path.endswith(f".{target}") for path in paths)

    def adapter_parameters(self, rank: int) -> int:
        """Elements of A and B: rank (inputs + outputs), for each expert."""
        return rank * (self.inputs + self.outputs) * self.copies


@dataclass(frozen=True, kw_only=True)
class Names:
    """Hugging Face's names in one architecture; what is fused there has one name for all its parts."""

    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    output: str = "self_attn.o_proj"
    cross: tuple[str, str, str, str] = (
        "encoder_attn.q_proj",
        "encoder_attn.k_proj",
        "encoder_attn.v_proj",
        "encoder_attn.out_proj",
    )
    ffn_in: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    ffn_out: str = "mlp.down_proj"
    router: str = "mlp.gate"
    experts_in: tuple[str, ...] = ("mlp.experts.gate_proj", "mlp.experts.up_proj")
    experts_out: str = "mlp.experts.down_proj"
    shared: str = "mlp.shared_expert"
    head: str = "lm_head"
    words: str = "embed_tokens"


_FUSED = Names(
    qkv=("self_attention.query_key_value",),
    output="self_attention.dense",
    ffn_in=("mlp.dense_h_to_4h",),
    ffn_out="mlp.dense_4h_to_h",
    words="word_embeddings",
)
_GPT2 = Names(qkv=("attn.c_attn",), output="attn.c_proj", ffn_in=("mlp.c_fc",), ffn_out="mlp.c_proj", words="wte")
_FC = {"ffn_in": ("mlp.fc1",), "ffn_out": "mlp.fc2"}

NAMES: dict[str, Names] = {
    "llama": Names(),
    "mixtral": Names(
        router="block_sparse_moe.gate", experts_out="block_sparse_moe.experts.w2",
        experts_in=("block_sparse_moe.experts.w1", "block_sparse_moe.experts.w3"),
    ),
    "deepseek": Names(shared="mlp.shared_experts"),
    "gpt2": _GPT2,
    "qwen": Names(
        qkv=("attn.c_attn",), output="attn.c_proj", ffn_in=("mlp.w2", "mlp.w1"), ffn_out="mlp.c_proj", words="wte"
    ),
    "falcon": _FUSED,
    "gpt_neox": Names(
        qkv=("attention.query_key_value",), output="attention.dense", ffn_in=_FUSED.ffn_in, ffn_out=_FUSED.ffn_out,
        head="embed_out", words="embed_in",
    ),
    "chatglm": Names(
        qkv=_FUSED.qkv, output=_FUSED.output, ffn_in=_FUSED.ffn_in, ffn_out=_FUSED.ffn_out, head="output_layer",
        words="word_embeddings",
    ),
    "baichuan": Names(qkv=("self_attn.W_pack",)),
    "opt": Names(output="self_attn.out_proj", ffn_in=("fc1",), ffn_out="fc2"),
    "phi": Names(output="self_attn.dense", **_FC),  # type: ignore[arg-type]
    "phi3": Names(qkv=("self_attn.qkv_proj",), ffn_in=("mlp.gate_up_proj",)),
    "mpt": Names(qkv=("attn.Wqkv",), output="attn.out_proj", ffn_in=("ffn.up_proj",), ffn_out="ffn.down_proj", words="wte"),
    "t5": Names(
        qkv=("SelfAttention.q", "SelfAttention.k", "SelfAttention.v"), output="SelfAttention.o",
        cross=("EncDecAttention.q", "EncDecAttention.k", "EncDecAttention.v", "EncDecAttention.o"),
        ffn_in=("DenseReluDense.wi_0", "DenseReluDense.wi_1"), ffn_out="DenseReluDense.wo", words="shared",
    ),
    "bart": Names(output="self_attn.out_proj", ffn_in=("fc1",), ffn_out="fc2", words="shared"),
    "internlm2": Names(
        qkv=("attention.wqkv",), output="attention.wo", ffn_in=("feed_forward.w1", "feed_forward.w3"),
        ffn_out="feed_forward.w2", head="output", words="tok_embeddings",
    ),
    "bert": Names(
        qkv=("attention.self.query", "attention.self.key", "attention.self.value"), output="attention.output.dense",
        ffn_in=("intermediate.dense",), ffn_out="output.dense", head="decoder", words="word_embeddings",
    ),
}  # fmt: skip
"""Names by ``model.modules``, from transformers' modeling_*.py, and the repositories of Qwen, InternLM2, ChatGLM and Baichuan."""


def names_of(model: Model) -> Names:
    """The model's naming."""
    return NAMES[model.modules]


@lru_cache(maxsize=1024)
def layer_linears(model: Model, kind: LayerKind) -> tuple[Linear, ...]:
    """All linear layers of one layer of that kind."""
    m = model.of(kind)
    attention = (_latent(m) if m.attention == "mla" else _attention(m)) if m.attends else ()
    inner = _experts(m) if kind.moe else _feed_forward(m) if m.feed_forward != "none" else ()
    mixed = (
        Linear(path=x.path, part=x.part, block="mixer", operator=x.part, inputs=x.inputs, outputs=x.outputs, also=x.also)
        for x in mixer_linears(m)
    )
    return (*attention, *(_cross(m) if m.cross_attention else ()), *mixed, *inner)


def _attention(m: Model) -> Iterator[Linear]:
    names, h = names_of(m), m.hidden_size
    q, key = m.num_heads * m.head_dim, m.num_kv_heads * m.head_dim
    value = m.num_kv_heads * m.value_head_dim
    gate = {"none": 0, "head": m.num_heads}.get(m.attention_gate, m.num_heads * m.value_head_dim)
    q += gate if m.attention_gate == "query" else 0
    if m.q_lora_rank:
        yield from _narrow(m)
        return
    if len(names.qkv) == 1:
        parts = [(names.qkv[0], "query_key_value", q + key + value)]
    else:
        parts = [(names.qkv[0], "query", q)]
        parts += [] if m.shared_kv else [(names.qkv[1], "key", key)]
        parts += [] if m.shared_kv or m.keys_are_values else [(names.qkv[2], "value", value)]
    if m.attention_gate in ("head", "full"):
        parts.append(("self_attn.gate_proj" if m.attention_gate == "full" else "self_attn.g_proj", "attention_gate", gate))
    whole = sum(width for _, _, width in parts)
    for path, part, width in parts:
        yield Linear(
            path=path, part=part, block="attention", operator="query key value", inputs=h, outputs=width, share=width / whole
        )
    yield Linear(
        path=names.output,
        part="attention_output",
        block="attention",
        operator="output projection",
        inputs=m.num_heads * m.value_head_dim,
        outputs=h,
    )
    yield from _indexer(m)


def _cross(m: Model) -> Iterator[Linear]:
    """Attention to the encoder's output."""
    names, h = names_of(m), m.hidden_size
    query, key, value = names.cross[:3]
    widths = (m.num_heads * m.head_dim, m.num_kv_heads * m.head_dim, m.num_kv_heads * m.value_head_dim)
    both = float(widths[1] + widths[2])
    for path, part, operator, width, share in (
        (query, "cross_query", "cross query", widths[0], 1.0),
        (key, "cross_key", "cross key value", widths[1], widths[1] / both),
        (value, "cross_value", "cross key value", widths[2], widths[2] / both),
    ):
        yield Linear(path=path, part=part, block="attention", operator=operator, inputs=h, outputs=width, share=share)
    yield Linear(
        path=names.cross[3],
        part="cross_output",
        block="attention",
        operator="cross output",
        inputs=m.num_heads * m.value_head_dim,
        outputs=h,
    )


def _narrow(m: Model) -> Iterator[Linear]:
    """DeepSeek-V4: queries through a narrow vector, one key and value, grouped outputs, compressors."""
    h, lanes, at = m.hidden_size, 1 + m.compress_overlap, "self_attn.compressor"
    inner = m.output_groups * m.output_lora_rank
    found = [
        ("self_attn.q_a_proj", "query_down", "query down", h, m.q_lora_rank or 0),
        ("self_attn.q_b_proj", "query_up", "query up", m.q_lora_rank or 0, m.num_heads * m.head_dim),
        ("self_attn.kv_proj", "key_value", "key value", h, m.num_kv_heads * m.head_dim * (1 if m.one_key_value else 2)),
    ]
    if m.compress_ratio:
        found += [
            (f"{at}.kv_proj", "compressed", "compressor", h, lanes * m.head_dim),
            (f"{at}.gate_proj", "compressor_gate", "compressor", h, lanes * m.head_dim),
        ]
    if m.compress_ratio and m.index_num_heads:
        index, d = f"{at}.indexer", m.index_head_dim
        found += [
            (f"{index}.q_b_proj", "index_query", "index query", m.q_lora_rank or 0, m.index_num_heads * d),
            (f"{index}.kv_proj", "index_key", "index key", h, lanes * d),
            (f"{index}.gate_proj", "index_gate", "index key", h, lanes * d),
            (f"{index}.scorer.weights_proj", "index_weights", "index weights", h, m.index_num_heads),
        ]
    if inner:
        found.append(
            ("self_attn.o_a_proj", "output_down", "output down", m.num_heads * m.value_head_dim // m.output_groups, inner)
        )
    found.append(
        (
            "self_attn.o_b_proj" if inner else "self_attn.o_proj",
            "attention_output",
            "output projection",
            inner or m.num_heads * m.value_head_dim,
            h,
        )
    )
    for path, part, operator, inputs, outputs in found:
        shared = operator in ("compressor", "index key")
        yield Linear(
            path=path,
            part=part,
            block="attention",
            operator=operator,
            inputs=inputs,
            outputs=outputs,
            share=0.5 if shared else 1.0,
        )


def _indexer(m: Model) -> Iterator[Linear]:
    d, name = m.index_head_dim, "self_attn.indexer"
    if not m.index_num_heads:
        return
    for path, part, operator, inputs, outputs in (
        ("wq_b", "index_query", "index query", m.q_lora_rank or m.hidden_size, m.index_num_heads * d),
        ("wk", "index_key", "index key", m.hidden_size, d),
        ("weights_proj", "index_weights", "index weights", m.hidden_size, m.index_num_heads),
    ):
        if part != "index_weights" or m.attention == "mla":
            yield Linear(path=f"{name}.{path}", part=part, block="attention", operator=operator, inputs=inputs, outputs=outputs)


def _latent(m: Model) -> Iterator[Linear]:
    h, heads, latent = m.hidden_size, m.num_heads, int(m.kv_lora_rank or 0)
    query, value = heads * m.qk_head_dim, int(m.v_head_dim or 0)
    if m.q_lora_rank:
        yield Linear(
            path="self_attn.q_a_proj",
            part="query_down",
            block="attention",
            operator="query down",
            inputs=h,
            outputs=m.q_lora_rank,
        )
        yield Linear(
            path="self_attn.q_b_proj",
            part="query_up",
            block="attention",
            operator="query up",
            inputs=m.q_lora_rank,
            outputs=query,
        )
    else:
        yield Linear(path="self_attn.q_proj", part="query", block="attention", operator="query", inputs=h, outputs=query)
    yield Linear(
        path="self_attn.kv_a_proj_with_mqa",
        part="key_value_down",
        block="attention",
        operator="key value down",
        inputs=h,
        outputs=latent + int(m.qk_rope_head_dim or 0),
    )
    yield Linear(
        path="self_attn.kv_b_proj",
        part="key_value_up",
        block="attention",
        operator="key value up",
        inputs=latent,
        outputs=heads * (int(m.qk_nope_head_dim or 0) + value),
    )
    yield Linear(
        path="self_attn.o_proj",
        part="attention_output",
        block="attention",
        operator="output projection",
        inputs=heads * value,
        outputs=h,
    )
    if m.attention_gate != "none":
        yield Linear(
            path="self_attn.g_proj",
            part="attention_gate",
            block="attention",
            operator="attention gate projection",
            inputs=h,
            outputs=heads if m.attention_gate == "head" else heads * value,
        )
    yield from _indexer(m)


def _two_layers(
    m: Model, block: str, into: tuple[str, ...], out: str, width: int, prefix: str = "", copies: int = 1, module: bool = True
) -> Iterator[Linear]:
    h, lanes = m.hidden_size, 2 if m.gated_ffn else 1
    where = {"block": block, "copies": copies, "module": module}
    parts = ("gate", "up") if len(into) == 2 else ("gate_up" if m.gated_ffn else "in",)
    for path, part in zip(into, parts, strict=True):
        yield Linear(
            path=path,
            part=prefix + part,
            operator="in projection",
            inputs=h,
            outputs=width * lanes // len(into),
            share=1.0 / len(into),
            **where,  # type: ignore[arg-type]
        )
    down = "down" if m.gated_ffn else "out"
    yield Linear(path=out, part=prefix + down, operator="out projection", inputs=width, outputs=h, **where)  # type: ignore[arg-type]


def _feed_forward(m: Model) -> Iterator[Linear]:
    names = names_of(m)
    into = names.ffn_in if m.gated_ffn or len(names.ffn_in) == 1 else names.ffn_in[1:]
    yield from _two_layers(m, "feed_forward", into, names.ffn_out, m.ffn_hidden_size)


def _experts(m: Model) -> Iterator[Linear]:
    """Router and experts: one module for each expert, or since transformers 5 one tensor for all, gate and up in one."""
    names, width = names_of(m), int(m.expert_ffn_hidden_size or 0)
    yield Linear(
        path=names.router,
        part="router",
        block="moe",
        operator="router",
        inputs=m.hidden_size,
        outputs=m.num_experts + m.num_zero_experts,
        module=False,
    )
    into = names.experts_in if m.gated_ffn else names.experts_in[1:]
    inside = m.inside_experts
    for linear in _two_layers(inside, "moe", into, names.experts_out, width, "experts_", m.num_experts, False):
        one = linear.operator == "out projection" and linear.path != "mlp.experts.down_proj"
        yield replace(linear, also="mlp.experts.down_proj") if one else linear
    yield Linear(
        path="mlp.experts.gate_up_proj",
        part="experts_gate_up",
        block="moe",
        operator="in projection",
        copies=m.num_experts,
        inputs=inside.hidden_size,
        outputs=width * (2 if m.gated_ffn else 1),
        module=False,
    )
    if m.expert_latent_size:
        for path, operator, inputs, outputs in (
            ("fc1_latent_proj", "latent in", m.hidden_size, m.expert_latent_size),
            ("fc2_latent_proj", "latent out", m.expert_latent_size, m.hidden_size),
        ):
            part = operator.replace(" ", "_")
            yield Linear(path=f"mixer.{path}", part=part, block="moe", operator=operator, inputs=inputs, outputs=outputs)
    if m.num_shared_experts:
        shared = m.num_shared_experts * int(m.shared_expert_ffn_hidden_size or 0)
        inner = (f"{names.shared}.gate_proj", f"{names.shared}.up_proj")
        yield from _two_layers(m, "shared_expert", inner, f"{names.shared}.down_proj", shared, "shared_")
        if m.shared_expert_gate:
            yield Linear(
                path=f"{names.shared}_gate",
                part="shared_gate_score",
                block="shared_expert",
                operator="in projection",
                inputs=m.hidden_size,
                outputs=1,
                share=0.5 / shared,
            )


def head_linear(model: Model) -> Linear | None:
    """The output layer; None where the model has none."""
    if model.head == "none":
        return None
    return Linear(
        path=names_of(model).head,
        part="head",
        block="head",
        operator="logits",
        inputs=model.hidden_size,
        outputs=model.vocab_size,
    )
