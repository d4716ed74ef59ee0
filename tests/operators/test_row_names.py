"""A row's name is for people: what is recomputed, frozen, adapted, timed and delayed follows from its fields alone."""

from __future__ import annotations

import itertools
from dataclasses import FrozenInstanceError, asdict, fields, replace
from typing import Any

import numpy as np
import pytest

from planner.hardware.cluster import cluster
from planner.hardware.curves import curves_of
from planner.operators.row import Row, changed
from planner.operators.setting import Setting, distinct_axes
from planner.operators.table import build_table
from planner.performance.block_cost import block_cost
from planner.training.trainable import trainable_parameters
from planner.workload.adapters import tuned_model
from planner.workload.layout import as_columns
from planner.workload.resolve import as_framework, as_job, as_layout, as_model

LORA = {"kind": "lora", "adapter": {"rank": 8}}
QLORA = {"kind": "qlora", "adapter": {"rank": 8, "target_modules": ["q_proj", "down_proj"]}}
DISTIL = {"kind": "distil", "teacher": {"model": "llama-3-8b", "precision": "bf16"}}
MODULES = {"name": "megatron-core", "recompute_modules": ["core_attn", "layernorm", "moe_act", "mla_up_proj", "mlp"]}
CASES: list[tuple[str, Any, dict[str, Any], dict[str, Any]]] = [
    ("llama-3-8b", "megatron-core", {}, {"tp": 2, "sequence_parallel": True, "pp": 2, "schedule": "zero-bubble"}),
    ("llama-3-8b", "megatron-core", {"precision": "fp8", "multi_token_prediction": 1}, {"recompute": "full"}),
    ("deepseek-v3", MODULES, {}, {"ep": 8, "recompute": "selective"}),
    ("mixtral-8x7b", "torchtitan", {}, {"zero": 3, "recompute": "selective"}),
    ("llama-3-8b", "fsdp", LORA, {"zero": 3, "tp": 2}),
    ("mixtral-8x7b", "fsdp", QLORA, {"zero": 3, "recompute": "full"}),
    ("llama-3-8b", "megatron-core", DISTIL, {}),
]
FROZEN = ["llama-3-8b", "mixtral-8x7b", "deepseek-v3", "deepseek-v4-flash", "qwen3-next-80b-a3b", "t5-base"]


def test_a_row_is_what_dataclass_makes_of_its_fields() -> None:
    """Made and changed at once: the same fields in the same order, frozen, and no field that there is not."""
    given: dict[str, Any] = {"name": "x", "block": "norm", "phase": "forward", "flops": 2.0}
    row = Row(**given)
    assert list(vars(row)) == [field.name for field in fields(Row)]
    assert all(getattr(row, field.name) == given.get(field.name, field.default) for field in fields(Row))
    assert changed(row, flops=3.0) == replace(row, flops=3.0) != row
    with pytest.raises(FrozenInstanceError):
        row.flops = 1.0  # type: ignore[misc]
    wrongs: list[dict[str, Any]] = [{"flops": 1.0}, {}, {**given, "flop": 1.0}]
    for wrong in wrongs:
        with pytest.raises(TypeError):
            Row(**wrong)
    with pytest.raises(TypeError):
        changed(row, flop=1.0)


def setting_of(name: str, stack: Any, work: dict[str, Any], cut: dict[str, Any]) -> Setting:
    job = as_job({"seq_len": 1024, "global_batch_size": 64, **work})
    columns = as_columns(as_layout(cut), 16)
    return distinct_axes(columns, tuned_model(as_model(name), job), as_framework(stack), job)[0]


def costs(case: tuple[str, Any, dict[str, Any], dict[str, Any]]) -> list[list[list[float]]]:
    """All that the rows of each block come to."""
    setting, machine = setting_of(*case), cluster("dgx-h100", num_nodes=2)
    table = build_table(setting)
    blocks = [table.embedding, *table.layers.values(), table.head, *(rows for _, rows in table.teacher)]
    found = [block_cost(rows, setting, machine, curves_of(machine.accelerator)) for rows in blocks]
    return [[np.ravel(value).tolist() for value in asdict(one).values()] for one in found]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[2].get('kind', 'pretrain')}")
def test_what_a_row_is_called_changes_nothing(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, count, make = costs(case), itertools.count(), Row.__init__

    def anonymous(row: Row, **fields: Any) -> None:
        make(row, **{**fields, "name": f"row {next(count)}"})

    monkeypatch.setattr(Row, "__init__", anonymous)
    assert costs(case) == plain
    assert next(count) > 0


@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_weight_has_no_gradient(name: str) -> None:
    """Whatever a layer's linear layers are called: under adapters none of their weight gradients is computed."""
    target = {"target_len": 512} if name == "t5-base" else {}
    for work in ({"kind": "finetune", **target}, {**LORA, **target}):
        rows = [row for rows in build_table(setting_of(name, "fsdp", work, {"zero": 3})).layers.values() for row in rows]
        gradients = {row.operator for row in rows if row.has_weight and row.role == "weight gradient"}
        frozen = {row.operator for row in rows if row.has_weight and np.any(np.asarray(row.frozen_bytes) > 0)}
        assert bool(gradients) == (work["kind"] == "finetune"), gradients
        assert bool(frozen) == (work["kind"] == "lora")


@pytest.mark.parametrize("name", FROZEN)
def test_the_rows_hold_the_adapters_that_are_counted(name: str) -> None:
    """Parameters that train over all rows of one rank are those that the question counts: no adapted layer is left out."""
    target = {"target_len": 512} if name == "t5-base" else {}
    model, job = as_model(name), as_job({"seq_len": 1024, "global_batch_size": 64, **LORA, **target})
    setting = distinct_axes(as_columns(as_layout({"dp": 1}), 1), tuned_model(model, job), as_framework("fsdp"), job)[0]
    trained = sum(float(np.sum(row.parameters)) * row.repeats for row in build_table(setting).rows())
    assert trained == trainable_parameters(model, job)
