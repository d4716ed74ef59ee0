"""Rows of training and of serving multiply by each matrix of ``projections`` once; adapters' names reach every one of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from planner.model.architecture import LayerKind, Model
from planner.model.linears import layer_linears
from planner.model.parameters import layer_parameters
from planner.model.projections import projections
from planner.operators.row import Matmul
from planner.operators.setting import distinct_axes
from planner.operators.table import build_table
from planner.serving.engine import load_engine
from planner.serving.rows import Shape, pass_rows
from planner.serving.setting import Setting
from planner.serving.spec import Lengths, Serving
from planner.workload.layout import Layout, as_columns
from planner.workload.resolve import as_cluster, as_framework, as_job, as_model

MODELS = (
    *("gpt2", "llama-3-8b", "gemma-4-e2b", "t5-base", "mixtral-8x7b", "qwen1.5-moe-a2.7b", "deepseek-v2-lite", "deepseek-v3.2"),
    *("deepseek-v4-flash", "qwen3-next-80b-a3b", "minimax-m1", "jamba-1.5-large", "falcon-mamba-7b", "falcon-h1-0.5b"),
    "nemotron-3-super-120b-a12b",
)
NO_ADAPTER = {"hyper weights", "layer projection", "layer gate"}
"""Products that no adapter goes on: of the streams beside a layer."""
NO_ROW = {"shared_gate_score"}
"""A column of one number a token, left out of the rows: under a thousandth of its layer's work."""
NO_MATRIX = ("norm", "bias", "vectors", "streams", "sinks")
"""In the names of the other parameters."""


def by_operator(model: Model, kind: LayerKind) -> Counter[str]:
    """Elements of each operator's matrices, as adapters see them; experts stored as one tensor are the same twice."""
    found: Counter[str] = Counter()
    for one in layer_linears(model, kind):
        if one.part not in ("experts_gate_up", *NO_ROW):
            found[f"{one.block} {one.operator}"] += one.inputs * one.outputs * one.copies
    return found


@pytest.mark.parametrize("name", MODELS)
def test_rows_multiply_by_the_matrices_that_adapters_go_on(name: str) -> None:
    model = as_model(name)
    job = as_job({"seq_len": 256, "global_batch_size": 1, "target_len": 128 if model.cross_attention else 0})
    setting, _ = distinct_axes(as_columns(Layout(dp=1), 1), model, as_framework("fsdp"), job)
    for kind, rows in build_table(setting).layers.items():
        found: Counter[str] = Counter()
        for row in rows:
            if row.role == "product" and row.has_weight and row.work is not None and row.operator not in NO_ADAPTER:
                elements = np.ravel(row.work.k * row.work.n * row.work.batch)[0]
                found[f"{row.block} {row.operator}"] += round(float(elements))
        assert found == by_operator(model, kind)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_count_the_matrices_that_adapters_go_on(name: str) -> None:
    model = as_model(name)
    for kind in set(model.layer_kinds):
        counted = {one.name: one.elements for one in layer_parameters(model, kind)}
        matrices = sum(elements for tensor, elements in counted.items() if not any(word in tensor for word in NO_MATRIX))
        listed = sum(one.inputs * one.outputs * one.copies for one in layer_linears(model, kind) if one.part != "experts_gate_up")
        assert matrices == listed, counted


@pytest.mark.parametrize("name", [*MODELS, "minimax-m3"])
def test_a_pass_multiplies_by_every_matrix_of_a_layer_and_by_no_other(name: str) -> None:
    """Serving, on one GPU, with every expert touched: elements of the rows' matrices are those of the list."""
    model = as_model(name)
    spec = Serving(prompt=Lengths(mean=256), output=Lengths(mean=16))
    setting = Setting(
        model=model, cluster=as_cluster({"node": "dgx-b200", "num_nodes": 1}), engine=load_engine("vllm"), serving=spec
    )
    one = np.ones(1)
    # a prompt so long that every expert of a layer has tokens
    rows = pass_rows(setting, Shape(phase="prefill", sequences=one, queries=one * 1e6, past=0.0 * one))
    multiplied = sum(
        row.repeats * float(np.ravel(row.work.k * row.work.n * row.work.batch)[0])
        for row in rows
        if isinstance(row.work, Matmul) and row.name not in ("scan", "logits")
    )
    listed = sum(p.elements for kind in model.layer_kinds for p in projections(model, kind) if p.own_row)
    assert multiplied == pytest.approx(listed, rel=1e-9)


def test_experts_without_a_gate_have_none_to_name() -> None:
    """Nemotron 3's shared expert is up and down, with a squared ReLU between (transformers, NemotronHMLP)."""
    model = as_model("nemotron-3-nano-30b-a3b")
    paths = {one.path for kind in model.layer_kinds for one in layer_linears(model, kind) if one.block == "shared_expert"}
    assert paths == {"mlp.shared_expert.up_proj", "mlp.shared_expert.down_proj"}
