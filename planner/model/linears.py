"""The linear layers of one model by Hugging Face's names, and which of them adapters go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from planner.model.architecture import LayerKind, Model
from planner.model.mixers import mixer_linears
from planner.model.projections import Projection, projections


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
    "mllama": Names(cross=("cross_attn.q_proj", "cross_attn.k_proj", "cross_attn.v_proj", "cross_attn.o_proj")),
    "bart": Names(output="self_attn.out_proj", ffn_in=("fc1",), ffn_out="fc2", words="shared"),
    "internlm2": Names(
        qkv=("attention.wqkv",), output="attention.wo", ffn_in=("feed_forward.w1", "feed_forward.w3"),
        ffn_out="feed_forward.w2", head="output", words="tok_embeddings",
    ),
    "albert": Names(
        qkv=("attention.query", "attention.key", "attention.value"), output="attention.dense", ffn_in=("ffn",),
        ffn_out="ffn_output", head="decoder", words="word_embeddings",
    ),
    "deberta": Names(
        qkv=("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
        output="attention.output.dense", ffn_in=("intermediate.dense",), ffn_out="output.dense", head="decoder",
        words="word_embeddings",
    ),
    "deberta_v1": Names(
        qkv=("attention.self.in_proj",), output="attention.output.dense", ffn_in=("intermediate.dense",),
        ffn_out="output.dense", head="decoder", words="word_embeddings",
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


_LATENT = {
    "query": "self_attn.q_proj",
    "query_down": "self_attn.q_a_proj",
    "query_up": "self_attn.q_b_proj",
    "key_value_down": "self_attn.kv_a_proj_with_mqa",
    "key_value_up": "self_attn.kv_b_proj",
    "attention_gate": "self_attn.g_proj",
    "attention_output": "self_attn.o_proj",
    "index_query": "self_attn.indexer.wq_b",
    "index_key": "self_attn.indexer.wk",
    "index_weights": "self_attn.indexer.weights_proj",
}
"""Of multi-head latent attention (DeepSeek-V2 and V3.2)."""
_COMPRESSED = {
    "key_value": "self_attn.kv_proj",
    "compressed": "self_attn.compressor.kv_proj",
    "compressor_gate": "self_attn.compressor.gate_proj",
    "index_query": "self_attn.compressor.indexer.q_b_proj",
    "index_key": "self_attn.compressor.indexer.kv_proj",
    "index_gate": "self_attn.compressor.indexer.gate_proj",
    "index_weights": "self_attn.compressor.indexer.scorer.weights_proj",
    "output_down": "self_attn.o_a_proj",
    "attention_output": "self_attn.o_b_proj",
}
"""Of DeepSeek-V4's attention, beside the names of ``_LATENT``."""
_FUSED_EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
"""Since transformers 5 one tensor for all experts, gate and up in one."""


def _paths(m: Model) -> dict[str, str]:
    """The path of each part of a layer; parts that are one module have the same."""
    names = names_of(m)
    gate = {"full": "self_attn.gate_proj", "head": "self_attn.g_proj"}.get(m.attention_gate, names.qkv[0])
    grouped = dict(zip(("query", "key", "value"), names.qkv * (1 if len(names.qkv) == 3 else 3), strict=True))
    attention = {**grouped, "attention_gate": gate, "attention_output": names.output}
    if m.q_lora_rank:
        attention |= _COMPRESSED if m.output_groups else {**_COMPRESSED, "attention_output": "self_attn.o_proj"}
    inside = ("gate", "up") if m.gated_ffn else ("in", "in")
    out = "down" if m.gated_ffn else "out"
    shared = [f"{names.shared}.{part}_proj" for part in ("gate", "up", "down")]
    return {
        **_LATENT,
        **({} if m.attention == "mla" else attention),
        **dict(zip(("cross_query", "cross_key", "cross_value", "cross_output"), names.cross, strict=True)),
        **{x.part: x.path for x in mixer_linears(m)},
        **dict(zip((*inside, out), (names.ffn_in[0], names.ffn_in[-1], names.ffn_out), strict=True)),
        "router": names.router,
        **dict(zip((f"experts_{x}" for x in (*inside, out)), (*names.experts_in, names.experts_out), strict=True)),
        "latent_in": "mixer.fc1_latent_proj",
        "latent_out": "mixer.fc2_latent_proj",
        **dict(zip((f"shared_{x}" for x in (*inside, out)), shared, strict=True)),
        "shared_gate_score": f"{names.shared}_gate",
    }


@lru_cache(maxsize=1024)
def layer_linears(model: Model, kind: LayerKind) -> tuple[Linear, ...]:
    """All linear layers of one layer of that kind, but for those beside its blocks, which no adapter goes on."""
    m = model.of(kind)
    paths, also = _paths(m), {x.part: x.also for x in mixer_linears(m)}
    modules: dict[str, list[Projection]] = {}
    whole: Counter[tuple[str, str]] = Counter()
    for p in projections(model, kind):
        if p.part in paths:
            modules.setdefault(paths[p.part], []).append(p)
            whole[p.block, p.operator] += p.outputs if p.own_row else 0
    found = [_module(path, parts, whole, also.get(parts[0].part, "")) for path, parts in modules.items()]
    return (*found, *_experts_in_one(found))


def _module(path: str, parts: list[Projection], whole: Counter[tuple[str, str]], also: str) -> Linear:
    """The module that holds ``parts``; ``whole``: outputs of each operator."""
    first, outputs = parts[0], sum(p.outputs for p in parts)
    expert = first.shard == "expert"
    if expert and first.by_inputs and path != _FUSED_EXPERTS[1]:
        also = _FUSED_EXPERTS[1]
    return Linear(
        path=path,
        part=_part(path, parts),
        block=first.block,
        operator=first.operator,
        inputs=first.inputs,
        outputs=outputs,
        share=outputs / whole[first.block, first.operator],
        copies=first.copies,
        module=not expert and first.part != "router",
        also=also,
    )


def _part(path: str, parts: list[Projection]) -> str:
    """Our name of a module: query, key and value in one have theirs even where a layer lacks some of them."""
    if parts[0].part != "query":
        return "_".join(p.part for p in parts)
    return "query_key_value" if any(names.qkv == (path,) for names in NAMES.values()) else "query"


def _experts_in_one(found: list[Linear]) -> Iterator[Linear]:
    """The experts' gate and up as one tensor, the same weights under another name."""
    into = [linear for linear in found if (linear.block, linear.operator) == ("moe", "in projection")]
    if into:
        outputs = sum(linear.outputs for linear in into)
        yield replace(into[0], path=_FUSED_EXPERTS[0], part="experts_gate_up", outputs=outputs, share=1.0)


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
