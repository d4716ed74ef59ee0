"""The matrices of a layer are the same wherever they are described: for adapters, in the count of parameters, in the rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from planner.model.architecture import LayerKind, Model
from planner.model.linears import layer_linears
from planner.model.parameters import layer_parameters
from planner.operators.setting import distinct_axes
from planner.operators.table import build_table
from planner.workload.layout import Layout, as_columns
from planner.workload.resolve import as_framework, as_job, as_model

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
