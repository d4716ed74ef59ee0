"""Multi-token prediction: weights, work and memory of the modules behind the last layer."""

from __future__ import annotations

import numpy as np
import pytest
from examples import framework, job

import planner
from planner.common.errors import PlannerError
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.operators.setting import distinct_axes
from planner.operators.table import Table, build_table
from planner.workload.layout import Layout, as_columns


def table(model: Model, modules: int) -> Table:
    work = job(seq_len=4096, multi_token_prediction=modules)
    columns = as_columns(Layout(dp=1), 1)
    return build_table(distinct_axes(columns, model, framework("megatron-core"), work)[0])


def weights(found: Table) -> float:
    return float(sum(np.sum(row.parameters * row.repeats) for row in found.rows()))


def test_deepseek_v3s_module_has_eleven_and_a_half_billion_weights_of_its_own() -> None:
    """README_WEIGHTS.md of DeepSeek-V3: 11.5 B of its own, without the shared words and output layer."""
    model = load_model("deepseek-v3")
    own = weights(table(model, 1)) - weights(table(model, 0))
    assert own / 1e9 == pytest.approx(11.5, rel=0.01)


def test_a_module_is_a_layer_a_projection_and_three_norms() -> None:
    model = load_model("llama-3-8b")
    h = model.hidden_size
    layer = 2 * h * h + 2 * h * 1024 + 3 * h * model.ffn_hidden_size + 2 * h
    for number in (1, 2):
        own = weights(table(model, number)) - weights(table(model, 0))
        assert own == pytest.approx(number * (layer + 2 * h * h + 3 * h), rel=1e-12)


def test_a_module_multiplies_by_the_vocabulary_again() -> None:
    """Forward: a layer's products, 2 x 2 h x h of the projection, 2 h V of the logits, for each token."""
    model = load_model("llama-3-8b")
    h, t = model.hidden_size, 4096

    def forward(found: Table) -> float:
        return float(sum(np.sum(r.model_flops * r.repeats) for r in found.rows() if r.phase == "forward"))

    one, none = table(model, 1), table(model, 0)
    layer = (forward(none) - 2 * h * model.vocab_size * t) / model.num_layers
    assert forward(one) - forward(none) == pytest.approx(layer + (4 * h * h + 2 * h * model.vocab_size) * t, rel=1e-9)


def test_a_module_of_a_model_of_single_blocks_attends_and_has_experts() -> None:
    """Nemotron 3 Super: "*E" (mtp_hybrid_override_pattern): 32 heads of 128 over 2 of keys and values, then 512 experts of
    1,024 x 2,688 behind a latent pair, a shared one of 5,376 and the router, each block under one norm."""
    model = load_model("nemotron-3-super-120b-a12b")
    h = model.hidden_size
    attention = 2 * h * 32 * 128 + 2 * h * 2 * 128 + h
    experts = 512 * 2 * 1024 * 2688 + 2 * h * 1024 + 2 * h * 5376 + 512 * h + h
    own = weights(table(model, 1)) - weights(table(model, 0))
    assert own == pytest.approx(attention + experts + 2 * h * h + 3 * h, rel=1e-5)


def plan(modules: int, pp: int = 2) -> planner.Plan:
    return planner.plan(
        model="llama-3-8b",
        cluster={"node": "dgx-h100", "num_nodes": 1},
        framework={"name": "megatron-core"},
        job={"seq_len": 4096, "global_batch_size": 64, "num_steps": 10, "multi_token_prediction": modules},
        layout={"tp": 2, "sequence_parallel": True, "pp": pp, "zero": 1},
    )


def test_a_step_with_modules_takes_longer_and_more_memory() -> None:
    assert plan(0).step_time_s < plan(1).step_time_s < plan(2).step_time_s
    assert plan(0, 1).peak_total_bytes < plan(1, 1).peak_total_bytes < plan(2, 1).peak_total_bytes


@pytest.mark.parametrize(
    ("model", "work"),
    [
        ("bert-base-mlm", {"multi_token_prediction": 1}),
        ("llama-3-8b", {"multi_token_prediction": 1, "kind": "lora", "adapter": {"rank": 8}}),
        ("llama-3-8b", {"multi_token_prediction": -1}),
    ],
)
def test_what_has_no_such_modules_is_refused(model: str, work: dict[str, object]) -> None:
    with pytest.raises(PlannerError, match="multi_token_prediction"):
        planner.plan(
            model=model,
            cluster={"node": "dgx-h100"},
            framework={"name": "fsdp"},
            job={"seq_len": 512, "global_batch_size": 64, "num_steps": 10, **work},
        )
