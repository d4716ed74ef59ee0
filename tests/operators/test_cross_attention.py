"""Encoder-decoders: what their rows keep, compute and hold, against autograd, transformers' modules and formulas by hand."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from examples import eager, framework, job
from saved_tensors import saved_bytes
from transformers import BartConfig, T5Config
from transformers.models.bart.modeling_bart import BartDecoderLayer, BartEncoderLayer
from transformers.models.t5.modeling_t5 import T5Block

import planner
from planner.common.errors import PlannerError
from planner.model.architecture import Model
from planner.model.huggingface import model_from_config
from planner.model.parameters import embedding_parameters, head_parameters, layer_parameters, parameters_total
from planner.operators.setting import distinct_axes
from planner.operators.table import Table, build_table
from planner.workload.layout import Layout, as_columns

BATCH, SOURCE, TARGET = 2, 96, 40
BART = {
    "d_model": 128, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 8, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 352, "decoder_ffn_dim": 256, "vocab_size": 211, "dropout": 0.0, "max_position_embeddings": 128,
}  # fmt: skip
T5 = {
    "d_model": 128, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 8, "d_kv": 24, "d_ff": 352, "vocab_size": 211,
    "dropout_rate": 0.0, "feed_forward_proj": "relu",
}  # fmt: skip

READS = {"letter": "E", "architecture": "encoder", "cross_attention": False}


def read(kind: str, fields: dict[str, Any]) -> Model:
    return model_from_config({"model_type": kind, **fields}, kind, "config.json")


def table(model: Model, recompute: str = "none", stack: str = "huggingface", **layout: Any) -> Table:
    gpus = layout.get("tp", 1)
    columns = as_columns(Layout(micro_batch_size=BATCH, dp=1, recompute=recompute, **layout), gpus)  # type: ignore[arg-type]
    work = job(seq_len=SOURCE, target_len=TARGET, global_batch_size=BATCH, precision="fp32")
    return build_table(distinct_axes(columns, model, eager() if stack == "huggingface" else framework(stack), work)[0])


def kept(made: Table, model: Model, encoder: bool) -> float:
    """Bytes that one layer of the encoder or of the decoder keeps."""
    (rows,) = [rows for kind, rows in made.layers.items() if (model.of(kind).architecture == "encoder") == encoder]
    return float(sum(np.sum(row.saved_bytes) for row in rows))


def autograd(layer: torch.nn.Module, length: int, shared: tuple[torch.Tensor, ...], **inputs: Any) -> int:
    x = torch.randn(BATCH, length, 128, requires_grad=True)
    return saved_bytes(lambda: layer.train()(x, **inputs), [*layer.parameters(), *shared])


def test_layers_of_bart_keep_what_autograd_keeps() -> None:
    config = BartConfig(**BART)
    config._attn_implementation = "eager"
    model, source = read("bart", BART), torch.randn(BATCH, SOURCE, 128, requires_grad=True)
    real = autograd(BartDecoderLayer(config, 0), TARGET, (source,), encoder_hidden_states=source)
    assert kept(table(model), model, encoder=False) == pytest.approx(real, rel=0.01)
    real = autograd(BartEncoderLayer(config, 0), SOURCE, (), attention_mask=None)
    assert kept(table(model), model, encoder=True) == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("form", ["relu", "gated-silu"])
def test_layers_of_t5_keep_what_autograd_keeps(form: str) -> None:
    config = T5Config(**{**T5, "feed_forward_proj": form}, is_decoder=True)
    config._attn_implementation = "eager"
    model, source = read("t5", {**T5, "feed_forward_proj": form}), torch.randn(BATCH, SOURCE, 128, requires_grad=True)
    biases = tuple(torch.randn(1, 8, TARGET, keys, requires_grad=True) for keys in (TARGET, SOURCE))
    more = {"position_bias": biases[0], "encoder_decoder_position_bias": biases[1], "encoder_hidden_states": source}
    real = autograd(T5Block(config, layer_idx=0), TARGET, (source, *biases), **more)
    assert kept(table(model), model, encoder=False) == pytest.approx(real, rel=0.02)


@pytest.mark.parametrize("kind", ["bart", "t5"])
@pytest.mark.parametrize("tp", [1, 2])
def test_rows_hold_each_weight_once(kind: str, tp: int) -> None:
    model = read(kind, BART if kind == "bart" else T5)
    rows = table(model, tp=tp).rows()
    held = sum(float(np.sum(row.parameters)) * row.repeats for row in rows)
    tensors = [t for kind in model.layer_kinds for t in layer_parameters(model, kind)]
    tensors += [*embedding_parameters(model), *head_parameters(model)]
    whole = sum(t.elements for t in tensors if t.shard == "replicated")
    assert held == whole + (parameters_total(model) - whole) / tp


@pytest.mark.parametrize("stack", ["huggingface", "fsdp"])
def test_flops_by_hand(stack: str) -> None:
    """2 flops a weight and token, of the decoder's tokens but for keys and values across and the encoder's layers; attention
    2 (keys + values) a pair: all pairs of the source, those across, and of the target as the convention counts them."""
    model = read("bart", BART)
    forward = [row for row in table(model, stack=stack).rows() if row.phase == "forward"]
    h, s, t, f, g = 128, BATCH * SOURCE, BATCH * TARGET, 352, 256
    encoder = 2 * (2 * s * (4 * h * h + 2 * h * f) + 4 * s * SOURCE * h)
    across = 2 * t * 2 * h * h + 2 * s * 2 * h * h + 4 * t * SOURCE * h
    decoder = 3 * (2 * t * (4 * h * h + 2 * h * g) + 4 * t * TARGET * h + across)
    assert sum(float(np.sum(row.model_flops)) * row.repeats for row in forward) == encoder + decoder + 2 * t * h * 211


def test_full_recomputation_keeps_inputs_alone() -> None:
    """Each layer its input: 2 of the source's, 3 of the target's; and the encoder's output once, whatever is recomputed."""
    model = read("bart", BART)
    plain, again = table(model), table(model, recompute="full")
    layers = sum(float(np.sum(row.saved_bytes)) * row.repeats for rows in again.layers.values() for row in rows)
    assert layers == 4 * 128 * BATCH * (2 * SOURCE + 3 * TARGET)
    outputs = [row for made in (plain, again) for row in made.embedding if row.name == "encoder's output kept"]
    assert [float(np.sum(row.saved_bytes)) for row in outputs] == [4 * 128 * BATCH * SOURCE] * 2


def test_a_longer_target_costs_the_decoder_only() -> None:
    model = read("t5", {"num_layers": 24, "d_model": 1024, "d_ff": 4096, "num_heads": 16})
    ask = {"model": model, "cluster": "1xa100-80gb", "framework": "fsdp", "layout": {"micro_batch_size": 2, "zero": 2}}
    plans = [planner.plan(job={"seq_len": 512, "global_batch_size": 2, "target_len": n}, **ask) for n in (128, 512)]  # type: ignore[arg-type]
    assert plans[0].step_time_s < plans[1].step_time_s < 4 * plans[0].step_time_s
    assert plans[0].job.tokens_per_step == plans[1].job.tokens_per_step == 1024


@pytest.mark.parametrize(
    ("kind", "work", "layout", "named"),
    [
        ("t5", {}, {"pp": 2}, "layout.pp = 2"),
        ("t5", {}, {"cp": 2}, "layout.cp = 2"),
        ("bart", {"seq_len": 512, "target_len": 64}, {}, "job.seq_len = 512"),
        ("bart", {"target_len": 200}, {}, "job.target_len = 200"),
        ("t5", {"multi_token_prediction": 1}, {}, "job.multi_token_prediction = 1"),
    ],
)
def test_what_it_cannot_have_is_named(kind: str, work: dict[str, Any], layout: dict[str, Any], named: str) -> None:
    asked = {"seq_len": 128, "global_batch_size": 4, **work}
    with pytest.raises(PlannerError, match=re.escape(named)):
        planner.plan(
            model=read(kind, BART if kind == "bart" else T5),
            cluster="2xa100-80gb",
            job=asked,
            layout={"zero": 2, **layout},
            framework="fsdp",
        )


def test_a_decoder_alone_has_no_target() -> None:
    with pytest.raises(PlannerError, match=r"job\.target_len = 128"):
        planner.plan(model="gpt2", cluster="1xa100-80gb", job={"seq_len": 128, "global_batch_size": 4, "target_len": 128})


@pytest.mark.parametrize(
    "changes",
    [
        {"cross_attention": True},
        {"layer_pattern": "DE", "cross_attention": True, "variants": (READS,)},
        {"layer_pattern": "ED", "variants": ({**READS, "cross_attention": None},)},
    ],
)  # fmt: skip
def test_stacks_that_are_no_encoder_decoder_are_refused(changes: dict[str, Any]) -> None:
    plain = {"name": "x", "num_layers": 2, "hidden_size": 64, "num_heads": 4, "ffn_hidden_size": 128, "vocab_size": 100}
    with pytest.raises(PlannerError, match=r"cross_attention|layer_pattern"):
        Model.build({**plain, **changes}, "x")
