"""ALBERT: each layer runs the weights of its group's first; they are held, updated and adapted once."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import peft
import pytest
import torch
from examples import eager, job
from transformers import AlbertConfig, AlbertForMaskedLM

import planner
from planner.common.errors import PlannerError
from planner.model.architecture import Model
from planner.model.huggingface import model_from_config
from planner.model.parameters import parameters_total
from planner.operators.setting import distinct_axes
from planner.operators.table import Table, build_table
from planner.workload.adapters import parameters_trainable, tuned_model
from planner.workload.layout import Layout, as_columns

SIZES = {
    "num_hidden_layers": 6, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 256, "vocab_size": 211,
    "embedding_size": 32,
}  # fmt: skip


def albert(groups: int) -> Model:
    return model_from_config({"model_type": "albert", **SIZES, "num_hidden_groups": groups}, "albert", "config.json")


def table(model: Model, **changes: Any) -> Table:
    columns = as_columns(Layout(micro_batch_size=2, dp=1), 1)
    asked = job(seq_len=64, global_batch_size=2, precision="fp32", **changes)
    return build_table(distinct_axes(columns, tuned_model(model, asked), eager(), asked)[0])


def summed(made: Table, field: str) -> float:
    return sum(float(np.sum(getattr(row, field))) * row.repeats for row in made.rows())


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_transformers_and_each_is_held_once(groups: int, tied: bool) -> None:
    config = AlbertConfig(**SIZES, num_hidden_groups=groups, tie_word_embeddings=tied)
    with torch.device("meta"):
        theirs = sum(weight.numel() for weight in AlbertForMaskedLM(config).parameters())
    model = model_from_config({**config.to_dict(), "architectures": ["AlbertForMaskedLM"]}, "albert", "config.json")
    assert parameters_total(model) == theirs
    assert summed(table(model), "parameters") == theirs


@pytest.mark.parametrize("field", ["flops", "saved_bytes", "bytes_moved"])
def test_sharing_saves_weights_and_no_work(field: str) -> None:
    assert summed(table(albert(1)), field) == summed(table(albert(6)), field)


@pytest.mark.parametrize("groups", [1, 3])
def test_adapters_are_shared_as_the_layers_are(groups: int) -> None:
    model, config = albert(groups), AlbertConfig(**SIZES, num_hidden_groups=groups)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        theirs = peft.get_peft_model(AlbertForMaskedLM(config), peft.LoraConfig(r=4, target_modules=["query", "value"]))
    lora: dict[str, Any] = {"kind": "lora", "adapter": {"rank": 4, "target_modules": ("attention.query", "attention.value")}}
    trained = theirs.get_nb_trainable_parameters()[0]
    assert parameters_trainable(model, job(**lora, seq_len=64, global_batch_size=2)) == trained
    assert summed(table(model, **lora), "parameters") == trained


def test_no_stack_cuts_shared_layers_into_stages() -> None:
    asked = {"seq_len": 512, "global_batch_size": 8}
    with pytest.raises(PlannerError, match=r"layout\.pp = 2.*share weights"):
        planner.plan(model="albert-base-v2", cluster="2xa100-80gb", job=asked, layout={"pp": 2}, framework="megatron-core")


def test_a_first_layer_has_weights_of_its_own() -> None:
    plain = {"name": "x", "num_layers": 2, "hidden_size": 64, "num_heads": 4, "ffn_hidden_size": 128, "vocab_size": 100}
    shares = {"architecture": "encoder", "layer_pattern": "RA", "variants": ({"letter": "R", "shared_weights": True},)}
    with pytest.raises(PlannerError, match="shared_weights"):
        Model.build({**plain, **shares}, "x")
