"""What recomputation runs again: all of a layer, up to the last tensor that is needed, or modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import LLAMA, MIXTRAL, framework, job, model

from planner.operators.setting import distinct_axes
from planner.operators.table import build_table
from planner.workload.layout import Layout, as_columns


def layer(fields: dict[str, Any], stack: str, layout: Layout, **changes: object) -> dict[str, float]:
    """Sums over the rows of one layer: flops forward and redone, bytes saved."""
    found, _ = distinct_axes(as_columns(layout, 8), model(fields), framework(stack).replaced(**changes), job())
    rows = next(iter(build_table(found).layers.values()))
    total = {phase: sum(float(np.max(r.flops)) for r in rows if r.phase == phase) for phase in ("forward", "recompute")}
    total["saved"] = sum(float(np.max(r.saved_bytes)) for r in rows)
    total["out"] = next(float(np.max(r.flops)) for r in rows if r.name == "out projection" and r.phase == "forward")
    return total


def test_a_checkpoint_that_stops_early_spares_the_last_multiplication() -> None:
    """torch.utils.checkpoint, non-reentrant: it ends when every tensor that backward needs is there again."""
    whole = layer(LLAMA, "fsdp", Layout(zero=3, recompute="full"), checkpoint_stops_early=False)
    early = layer(LLAMA, "fsdp", Layout(zero=3, recompute="full"))
    assert whole["recompute"] == pytest.approx(whole["forward"])
    assert early["recompute"] == pytest.approx(whole["forward"] - whole["out"])
    assert early["saved"] == whole["saved"]


@pytest.mark.parametrize("fields", [LLAMA, MIXTRAL])
def test_each_module_spares_memory_and_costs_its_own_work(fields: dict[str, Any]) -> None:
    def kept(*modules: str) -> dict[str, float]:
        return layer(fields, "megatron-core", Layout(recompute="selective"), recompute_modules=frozenset(modules))

    plain = layer(fields, "megatron-core", Layout())
    names = ("core_attn", "layernorm", *(("moe_act", "moe") if fields is MIXTRAL else ("mlp",)))
    for name in names:
        some = kept(name)
        assert some["saved"] < plain["saved"]
        assert some["recompute"] >= 0.0
    everything, full = kept(*names), layer(fields, "megatron-core", Layout(recompute="full"))
    assert full["saved"] < everything["saved"] < min(kept(name)["saved"] for name in names)
    assert everything["recompute"] < full["recompute"]


def test_the_attention_core_is_what_selective_means_unless_told() -> None:
    usual = layer(LLAMA, "megatron-core", Layout(recompute="selective"))
    assert usual == layer(LLAMA, "megatron-core", Layout(recompute="selective"), recompute_modules=frozenset(("core_attn",)))
