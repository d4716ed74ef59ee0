"""Rows of the huggingface framework, eager attention, against what autograd really saves in transformers' modules, on the CPU."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from examples import eager, framework, job
from saved_tensors import saved_bytes
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    DebertaV2Config,
    Exaone4Config,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    Olmo2Config,
    OPTConfig,
    Qwen3Config,
)
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Layer
from transformers.models.exaone4.modeling_exaone4 import Exaone4DecoderLayer
from transformers.models.gemma2.modeling_gemma2 import Gemma2DecoderLayer
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding
from transformers.models.mixtral.modeling_mixtral import MixtralDecoderLayer
from transformers.models.olmo2.modeling_olmo2 import Olmo2DecoderLayer
from transformers.models.opt.modeling_opt import OPTDecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from planner.model.architecture import Model
from planner.model.huggingface import model_from_config
from planner.operators.setting import distinct_axes
from planner.operators.table import Table, build_table
from planner.workload.layout import Layout, as_columns

NO_DROPOUT = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
PRECISION = {torch.float32: "fp32", torch.bfloat16: "bf16-pure"}
DTYPES = [torch.float32, torch.bfloat16]
# batch, sequence, hidden, heads, key-value heads, inner size
SHAPES = [(2, 48, 128, 8, 4, 352), (1, 96, 192, 6, 6, 512), (3, 64, 128, 4, 1, 256)]


def table(model: Model, batch: int, sequence: int, dtype: torch.dtype, recompute: str = "none") -> Table:
    columns = as_columns(Layout(micro_batch_size=batch, dp=1, recompute=recompute), 1)  # type: ignore[arg-type]
    work = job(seq_len=sequence, global_batch_size=batch, precision=PRECISION[dtype])
    return build_table(distinct_axes(columns, model, eager(), work)[0])


def rows_bytes(model: Model, batch: int, sequence: int, dtype: torch.dtype, recompute: str = "none") -> float:
    (rows,) = table(model, batch, sequence, dtype, recompute).layers.values()
    return float(sum(row.saved_bytes for row in rows)[0])


def measure(
    layer: torch.nn.Module, config: Any, batch: int, sequence: int, dtype: torch.dtype, recompute: bool, **inputs: Any
) -> int:
    layer = layer.to(dtype).train()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    x = torch.randn(batch, sequence, config.hidden_size, dtype=dtype, requires_grad=True)
    shared = [*layer.parameters(), *layer.buffers(), *(t for v in inputs.values() for t in (v if isinstance(v, tuple) else (v,)))]

    def forward() -> Any:
        return checkpoint(layer, x, use_reentrant=False, **inputs) if recompute else layer(x, **inputs)

    return saved_bytes(forward, shared)


def rotary_inputs(config: Any, sequence: int, dtype: torch.dtype) -> dict[str, Any]:
    angles = LlamaRotaryEmbedding(config)(torch.zeros(1, dtype=dtype), torch.arange(sequence)[None])
    mask = torch.full((sequence, sequence), torch.finfo(dtype).min, dtype=dtype).triu(1)[None, None]
    return {"attention_mask": mask, "position_embeddings": angles}


def llama_sizes(h: int, a: int, k: int, f: int) -> dict[str, Any]:
    return {
        "hidden_size": h,
        "num_attention_heads": a,
        "num_key_value_heads": k,
        "intermediate_size": f,
        "num_hidden_layers": 1,
        "vocab_size": 211,
        "head_dim": h // a,
    }


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("kind", "config_class", "layer_class"),
    [("llama", LlamaConfig, LlamaDecoderLayer), ("qwen3", Qwen3Config, Qwen3DecoderLayer)],
)
def test_dense_block(
    kind: str, config_class: Any, layer_class: Any, shape: tuple[int, ...], dtype: torch.dtype, recompute: bool
) -> None:
    b, s, h, a, k, f = shape
    fields = llama_sizes(h, a, k, f)
    config = config_class(**fields)
    config._attn_implementation = "eager"
    real = measure(layer_class(config, 0), config, b, s, dtype, recompute, **rotary_inputs(config, s, dtype))
    model = model_from_config({"model_type": kind, **fields}, kind, "test")
    assert rows_bytes(model, b, s, dtype, "full" if recompute else "none") == pytest.approx(real, rel=0.01)


PLACED = [
    ("llama", LlamaConfig, LlamaDecoderLayer),
    ("olmo2", Olmo2Config, Olmo2DecoderLayer),
    ("exaone4", Exaone4Config, Exaone4DecoderLayer),
    ("gemma2", Gemma2Config, Gemma2DecoderLayer),
    ("bert", BertConfig, BertLayer),
]
"""Norms in front of the blocks, behind them (two families), on both sides, and behind the sums."""


@pytest.mark.parametrize(("kind", "config_class", "layer_class"), PLACED)
def test_what_runs_again_follows_the_place_of_the_norms(kind: str, config_class: Any, layer_class: Any) -> None:
    """A norm behind the last multiplication needs its output again: a checkpoint that stops early runs that one, too."""
    b, s, h, a, k, f = SHAPES[0]
    fields = llama_sizes(h, a, k, f)
    if kind == "bert":
        fields = {**{name: fields[name] for name in fields if name not in ("num_key_value_heads", "head_dim")}, **NO_DROPOUT}
    config = config_class(**fields, eos_token_id=1)
    config._attn_implementation = "eager"
    layer = layer_class(config) if kind == "bert" else layer_class(config, 0)
    layer = layer.to(torch.bfloat16).train()
    inputs = {} if kind == "bert" else rotary_inputs(config, s, torch.bfloat16)
    counted = []
    for again in (False, True):
        x = torch.randn(b, s, h, dtype=torch.bfloat16, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            out = checkpoint(layer, x, use_reentrant=False, **inputs) if again else layer(x, **inputs)
            (out[0] if isinstance(out, tuple) else out).sum().backward()
        counted.append(counter.get_total_flops())
    model = model_from_config({"model_type": kind, **fields}, kind, "test")
    stack = eager().replaced(checkpoint_stops_early=True)
    columns = as_columns(Layout(micro_batch_size=b, dp=1, recompute="full"), 1)
    work = job(seq_len=s, global_batch_size=b, precision="bf16-pure")
    (rows,) = build_table(distinct_axes(columns, model, stack, work)[0]).layers.values()
    assert sum(float(np.max(row.flops)) for row in rows if row.phase == "recompute") == counted[1] - counted[0]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("kind", "config_class", "layer_class"), [case for case in PLACED if case[0] in ("olmo2", "exaone4")])
def test_a_block_with_norms_behind(kind: str, config_class: Any, layer_class: Any, recompute: bool) -> None:
    b, s, h, a, k, f = SHAPES[0]
    fields = llama_sizes(h, a, k, f)
    config = config_class(**fields, eos_token_id=1)
    config._attn_implementation = "eager"
    real = measure(layer_class(config, 0), config, b, s, torch.float32, recompute, **rotary_inputs(config, s, torch.float32))
    model = model_from_config({"model_type": kind, **fields}, kind, "test")
    assert rows_bytes(model, b, s, torch.float32, "full" if recompute else "none") == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("experts", "top_k"), [(4, 1), (6, 2), (16, 4)])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_moe_block(shape: tuple[int, ...], experts: int, top_k: int, dtype: torch.dtype, recompute: bool) -> None:
    b, s, h, a, k, f = shape
    fields = {**llama_sizes(h, a, k, f), "num_local_experts": experts, "num_experts_per_tok": top_k}
    config = MixtralConfig(**fields)
    config._attn_implementation, config._experts_implementation = "eager", "grouped_mm"
    real = measure(MixtralDecoderLayer(config, 0), config, b, s, dtype, recompute, **rotary_inputs(config, s, dtype))
    model = model_from_config({"model_type": "mixtral", **fields, "sliding_window": None}, "mixtral", "test")
    assert rows_bytes(model, b, s, dtype, "full" if recompute else "none") == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_bert_layer(shape: tuple[int, ...], dtype: torch.dtype, dropout: float, recompute: bool) -> None:
    b, s, h, a, _, f = shape
    fields = {
        "hidden_size": h,
        "num_attention_heads": a,
        "intermediate_size": f,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "num_hidden_layers": 1,
    }
    config = BertConfig(**fields)
    config._attn_implementation = "eager"
    real = measure(BertLayer(config), config, b, s, dtype, recompute)
    model = model_from_config({"model_type": "bert", **fields}, "bert", "test")
    assert rows_bytes(model, b, s, dtype, "full" if recompute else "none") == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_deberta_layer(shape: tuple[int, ...], dtype: torch.dtype, dropout: float) -> None:
    b, s, h, a, _, f = shape
    fields = {
        "hidden_size": h, "num_attention_heads": a, "intermediate_size": f, "num_hidden_layers": 1, "relative_attention": True,
        "position_buckets": 16, "share_att_key": True, "pos_att_type": "p2c|c2p", "position_biased_input": False,
        "norm_rel_ebd": "layer_norm", **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), dropout),
    }  # fmt: skip
    config = DebertaV2Config(**fields)
    inputs = {
        "attention_mask": torch.ones(b, 1, s, s, dtype=torch.bool),
        "rel_embeddings": torch.randn(32, h, dtype=dtype, requires_grad=True),
        "relative_pos": torch.zeros(1, s, s, dtype=torch.long),
    }
    real = measure(DebertaV2Layer(config), config, b, s, dtype, False, **inputs)
    model = model_from_config({"model_type": "deberta-v2", **fields}, "deberta-v2", "test")
    assert rows_bytes(model, b, s, dtype) == pytest.approx(real, rel=0.02)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gpt2_block(dtype: torch.dtype, dropout: float) -> None:
    b, s, h, a = 2, 48, 128, 8
    fields = {"n_embd": h, "n_head": a, "attn_pdrop": dropout, "resid_pdrop": dropout, "n_layer": 1}
    config = GPT2Config(**fields)
    config._attn_implementation = "eager"
    real = measure(GPT2Block(config, 0), config, b, s, dtype, recompute=False)
    model = model_from_config({"model_type": "gpt2", **fields}, "gpt2", "test")
    assert rows_bytes(model, b, s, dtype) == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("dtype", DTYPES)
def test_opt_layer(dtype: torch.dtype) -> None:
    b, s, h, a = 2, 48, 128, 8
    fields = {
        "hidden_size": h,
        "num_attention_heads": a,
        "ffn_dim": 4 * h,
        "dropout": 0.1,
        "num_hidden_layers": 1,
        "word_embed_proj_dim": h,
    }
    config = OPTConfig(**fields)
    config._attn_implementation = "eager"
    real = measure(OPTDecoderLayer(config, 0), config, b, s, dtype, recompute=False)
    model = model_from_config({"model_type": "opt", **fields}, "opt", "test")
    assert rows_bytes(model, b, s, dtype) == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "s", "h", "v"), [(2, 32, 128, 1000), (3, 64, 64, 5003)])
def test_embedding_head_and_loss(b: int, s: int, h: int, v: int, dtype: torch.dtype) -> None:
    fields = {**llama_sizes(h, 4, 4, 128), "vocab_size": v, "num_hidden_layers": 0}
    model = LlamaForCausalLM(LlamaConfig(**fields)).to(dtype).train()
    ids = torch.randint(0, v, (b, s))
    real = saved_bytes(lambda: model(ids, labels=ids, use_cache=False).loss, [*model.parameters(), *model.buffers()])
    ours = model_from_config({"model_type": "llama", **fields, "num_hidden_layers": 1}, "llama", "test")
    rows = table(ours, b, s, dtype)
    assert float(sum(r.saved_bytes for r in (*rows.embedding, *rows.head))[0]) == pytest.approx(real, rel=0.01)


# --- autocast ---------------------------------------------------------------------------------------------------------


class _PreNormBlock(torch.nn.Module):
    """A GPT layer as one writes it by hand: layer norms, hand-written attention, GELU."""

    def __init__(self, hidden: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(hidden) for _ in range(2))
        self.qkv, self.out = torch.nn.Linear(hidden, 3 * hidden), torch.nn.Linear(hidden, hidden)
        self.up, self.down = torch.nn.Linear(hidden, inner), torch.nn.Linear(inner, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, s, h = x.shape
        q, k, v = (t.view(b, s, self.heads, -1).transpose(1, 2) for t in self.qkv(self.norms[0](x)).split(h, dim=-1))
        scores = (q @ k.transpose(-1, -2)) * (h // self.heads) ** -0.5
        weights = torch.nn.functional.softmax(scores, dim=-1)
        x = x + self.out((weights.to(v.dtype) @ v).transpose(1, 2).reshape(b, s, h))
        return x + self.down(torch.nn.functional.gelu(self.up(self.norms[1](x))))


@pytest.mark.parametrize(("batch", "sequence", "hidden", "heads"), [(2, 64, 128, 4), (1, 96, 192, 6)])
def test_autocast_keeps_the_residual_stream_and_softmax_in_fp32(batch: int, sequence: int, hidden: int, heads: int) -> None:
    """CUDA's autocast runs layer norm and softmax in fp32; the CPU's does not, so these two are upcast by hand."""
    block = _PreNormBlock(hidden, heads, 4 * hidden).train()
    x = torch.randn(batch, sequence, hidden, requires_grad=True)
    upcast = {f"torch.nn.functional.{name}": _in_fp32(getattr(torch.nn.functional, name)) for name in ("layer_norm", "softmax")}
    casts: list[torch.Tensor] = []
    with torch.autocast("cpu", torch.bfloat16):
        casts = [torch.clear_autocast_cache() or torch.empty(0)]
        with mock.patch.multiple("torch.nn.functional", **{k.rsplit(".", 1)[1]: v for k, v in upcast.items()}):
            kept = saved_bytes(lambda: block(x), [*block.parameters(), *casts])
    weights = sum(p.numel() for n, p in block.named_parameters() if p.dim() == 2)  # their 16-bit copies are kept, too
    model = Model.build(
        {
            "name": "block",
            "num_layers": 1,
            "hidden_size": hidden,
            "num_heads": heads,
            "ffn_hidden_size": 4 * hidden,
            "vocab_size": 100,
            "gated_ffn": False,
            "activation": "gelu",
            "norm": "layernorm",
            "position_embedding": "none",
            "qkv_bias": True,
            "attention_output_bias": True,
            "ffn_bias": True,
            "softmax_in_fp32": False,
        },
        "test",
    )
    columns = as_columns(Layout(micro_batch_size=batch, dp=1), 1)
    work = job(seq_len=sequence, global_batch_size=batch, precision="bf16")
    (rows,) = build_table(distinct_axes(columns, model, framework("pytorch"), work)[0]).layers.values()
    predicted = float(sum(row.saved_bytes for row in rows)[0])
    assert predicted + 2.0 * weights == pytest.approx(kept, rel=0.02)


def _in_fp32(function: Any) -> Any:
    return lambda x, *args, **kwargs: function(x.float(), *args, **kwargs)
