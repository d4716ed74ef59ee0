"""Layers that attend to images (Llama 3.2 Vision): against autograd, transformers' and peft's modules, and by hand."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import peft
import pytest
import torch
from examples import eager, framework, job
from saved_tensors import saved_bytes
from transformers import MllamaForCausalLM
from transformers.models.mllama.configuration_mllama import MllamaTextConfig
from transformers.models.mllama.modeling_mllama import MllamaCrossAttentionDecoderLayer

import planner
from planner.common.errors import PlannerError
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.huggingface import model_from_config
from planner.model.parameters import embedding_parameters, head_parameters, layer_parameters, parameters_total
from planner.operators.setting import distinct_axes
from planner.operators.table import Table, build_table
from planner.workload.adapters import parameters_trainable
from planner.workload.layout import Layout, as_columns

BATCH, TEXT, TILES, POSITIONS = 2, 40, 2, 17
TEXT_CONFIG = {
    "num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 352,
    "vocab_size": 211, "cross_attention_layers": [1, 3],
}  # fmt: skip
VISION = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 4,
    "image_size": 56, "patch_size": 14, "max_num_tiles": TILES,
    "supported_aspect_ratios": [[1, 1], [1, 2]], "vision_output_dim": 192,
}  # fmt: skip


def small() -> Model:
    text = {"model_type": "mllama_text_model", **TEXT_CONFIG}
    return model_from_config({"model_type": "mllama", "text_config": text, "vision_config": VISION}, "small", "config.json")


def table(model: Model, stack: str = "huggingface", layout: dict[str, Any] | None = None, **work: Any) -> Table:
    given = layout or {}
    columns = as_columns(Layout(micro_batch_size=BATCH, dp=1, **given), given.get("tp", 1))
    asked = job(seq_len=TEXT, global_batch_size=BATCH, precision="fp32", **work)
    return build_table(distinct_axes(columns, model, eager() if stack == "huggingface" else framework(stack), asked)[0])


def of_images(made: Table, model: Model) -> list[Any]:
    (rows,) = [rows for kind, rows in made.layers.items() if model.of(kind).image_attention]
    return list(rows)


@pytest.mark.parametrize("images", [1.0, 2.0])
def test_a_layer_keeps_what_autograd_keeps(images: float) -> None:
    config = MllamaTextConfig(**TEXT_CONFIG)
    config._attn_implementation = "eager"
    layer, model = MllamaCrossAttentionDecoderLayer(config, 1).train(), small()
    seen = torch.randn(BATCH, int(images) * TILES * POSITIONS, 128, requires_grad=True)
    x = torch.randn(BATCH, TEXT, 128, requires_grad=True)
    with torch.no_grad():
        for gate in (layer.cross_attn_attn_gate, layer.cross_attn_mlp_gate):
            gate.fill_(0.5)
    call = {"cross_attention_mask": None, "attention_mask": None, "full_text_row_masked_out_mask": None}
    real = saved_bytes(lambda: layer(x, cross_attention_states=seen, **call), [*layer.parameters(), seen])
    ours = sum(float(np.sum(row.saved_bytes)) for row in of_images(table(model, images=images), model))
    assert ours == pytest.approx(real, rel=0.02)


@pytest.mark.parametrize("images", [0.0, 1.0])
@pytest.mark.parametrize("tp", [1, 2])
def test_rows_hold_each_weight_once(images: float, tp: int) -> None:
    model = small()
    rows = table(model, layout={"tp": tp}, images=images).rows()
    held = sum((float(np.sum(row.parameters)) + float(np.sum(row.skipped_bytes)) / 4) * row.repeats for row in rows)  # fp32
    tensors = [t for kind in model.layer_kinds for t in layer_parameters(model, kind)]
    tensors += [*embedding_parameters(model), *head_parameters(model)]
    whole = sum(t.elements for t in tensors if t.shard == "replicated")
    assert held == whole + (parameters_total(model) - whole) / tp


@pytest.mark.parametrize("stack", ["huggingface", "fsdp"])
@pytest.mark.parametrize("images", [1.0, 2.5])
def test_flops_by_hand(stack: str, images: float) -> None:
    """Of one layer, with t tokens of text and s of images: queries and output 2 t 2 h^2, keys and values 2 s h (2 kv), each pair
    of one token of text and one of its images 4 h, three matrices of the feed-forward 2 t 3 h f."""
    model = small()
    h, kv, f, t, seen = 128, 64, 352, BATCH * TEXT, images * TILES * POSITIONS
    by_hand = 2 * t * 2 * h * h + 2 * BATCH * int(seen) * h * 2 * kv + 4 * t * seen * h + 2 * t * 3 * h * f
    forward = [row for row in of_images(table(model, stack, images=images), model) if row.phase == "forward"]
    assert sum(float(np.sum(row.model_flops)) for row in forward) == by_hand


def test_text_alone_computes_what_the_layers_of_text_do() -> None:
    """Llama 3.2 11B Vision has the 32 layers of Llama 3.1 8B, and 8 that text alone does not pass."""
    asked = {"cluster": "4xh100", "framework": "fsdp", "layout": {"micro_batch_size": 1, "zero": 3}}
    work = {"seq_len": 2048, "global_batch_size": 16}
    sees, reads = (planner.plan(model=name, job=work, **asked) for name in ("llama-3.2-11b-vision", "llama-3.1-8b"))  # type: ignore[arg-type]
    assert sees.model_flops_per_step == reads.model_flops_per_step
    assert sees.memory_bytes["activations"] == pytest.approx(reads.memory_bytes["activations"])
    images = planner.plan(model="llama-3.2-11b-vision", job={**work, "images": 1}, **asked)  # type: ignore[arg-type]
    # what no pass reads is not gathered, has no gradient and no state, and is not updated: it is held
    assert images.step_time_s > sees.step_time_s
    assert sees.step_time_s == pytest.approx(reads.step_time_s, rel=1e-3)
    for kind in ("gradients", "optimizer"):
        assert sees.memory_bytes[kind] == pytest.approx(reads.memory_bytes[kind], rel=1e-3)
    held = parameters_total(load_model("llama-3.2-11b-vision")) - parameters_total(load_model("llama-3.1-8b"))
    assert sees.memory_bytes["parameters"] - reads.memory_bytes["parameters"] == pytest.approx(4.0 * held / 4, rel=1e-3)
    assert any("8 layers that attend to images" in note for note in sees.notes)
    assert not any("layers that attend to images" in note for note in images.notes)


def test_stacks_that_hold_master_weights_make_states_of_what_text_alone_skips() -> None:
    """Megatron-Core and DeepSpeed make gradients, masters and states of all that trains from the start, in flat buffers."""
    asked = {"cluster": "8xh100", "framework": "deepspeed-zero", "layout": {"micro_batch_size": 1, "zero": 3}}
    work = {"seq_len": 2048, "global_batch_size": 16}
    sees, reads = (planner.plan(model=name, job=work, **asked) for name in ("llama-3.2-11b-vision", "llama-3.1-8b"))  # type: ignore[arg-type]
    more = parameters_total(load_model("llama-3.2-11b-vision")) - parameters_total(load_model("llama-3.1-8b"))
    for kind, width in (("parameters", 2.0), ("gradients", 2.0), ("optimizer", 12.0)):
        assert sees.memory_bytes[kind] - reads.memory_bytes[kind] == pytest.approx(width * more / 8, rel=1e-3)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("cross_attn.k_proj",), "all-linear"])
def test_adapters_are_those_of_peft(targets: Any) -> None:
    model, config = small(), MllamaTextConfig(**TEXT_CONFIG)
    config.pad_token_id = 0
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # peft asks by a name that transformers has renamed
        wanted = targets if isinstance(targets, str) else list(targets)
        theirs = peft.get_peft_model(
            MllamaForCausalLM(config), peft.LoraConfig(r=4, target_modules=wanted, task_type="CAUSAL_LM")
        )
    ours = job(kind="lora", adapter={"rank": 4, "target_modules": targets}, seq_len=TEXT, global_batch_size=BATCH)
    assert parameters_trainable(model, ours) == theirs.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize("layout", [{"pp": 2}, {"cp": 2}])
def test_cuts_that_images_cannot_take_are_named(layout: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": "llama-3.2-11b-vision", "cluster": "8xh100", "framework": "megatron-core", "layout": layout}
    (field,) = layout
    with pytest.raises(PlannerError, match=re.escape(f"layout.{field} = 2")):
        planner.plan(job={"seq_len": 2048, "global_batch_size": 8, "images": 1}, **asked)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_attention": True}, "variants"),
        ({"variants": ({"letter": "I", "image_attention": True, "mixer": "none"},), "layer_pattern": "AI"}, "plain heads"),
        (
            {"variants": ({"letter": "I", "image_attention": True},), "layer_pattern": "AI", "towers": "open"},
            "tokens_per_image",
        ),
    ],
)
def test_layers_that_cannot_attend_to_images_are_refused(changes: dict[str, Any], named: str) -> None:
    eye = load_model("llama-3.2-11b-vision").towers[0].model_dump(exclude={"tokens_per_image", "provenance"})
    plain = {"name": "x", "num_layers": 2, "hidden_size": 64, "num_heads": 4, "ffn_hidden_size": 128, "vocab_size": 100}
    given = {**changes, **({"towers": (eye,)} if "towers" in changes else {})}
    with pytest.raises(PlannerError, match=named):
        Model.build({**plain, **given}, "x")
