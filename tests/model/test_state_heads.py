"""Tensor parallelism of layers that keep a state: tp divides its heads of values and of keys."""

from __future__ import annotations

import pytest

import planner
from planner.common.errors import PlannerError
from planner.model.catalog import load_model, model_names
from planner.model.mixers import state_heads
from planner.serving.cuts import cuts
from planner.serving.engine import load_engine
from planner.workload.resolve import as_cluster


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("nemotron-3-nano-30b-a3b", 8),  # 64 heads in 8 groups: Megatron and vLLM take tp up to 8
        ("qwen3-next-80b-a3b", 16),  # 32 heads of values, 16 of keys
        ("granite-4.0-h-small", 128),  # one group, which every rank has
        ("llama-3-8b", 0),
    ],
)
def test_groups_of_keys_bound_tensor_parallelism(name: str, heads: int) -> None:
    assert state_heads(load_model(name)) == heads


def test_a_layout_that_cuts_a_group_is_refused_in_training_and_serving() -> None:
    name = "nemotron-3-nano-30b-a3b"
    with pytest.raises(PlannerError, match=r"tp = 16.*heads of the state"):
        planner.plan(
            model=name,
            cluster={"node": "dgx-h100", "num_nodes": 4},
            framework={"name": "megatron-core"},
            job={"seq_len": 4096, "global_batch_size": 64, "num_steps": 10},
            layout={"tp": 16},
        )
    with pytest.raises(PlannerError, match=r"tp = 16.*state"):
        planner.serve(
            model=name,
            cluster={"node": "dgx-h100", "num_nodes": 2},
            serving={"engine": "vllm", "prompt": 128, "output": 128, "tp": 16},
        )


def test_no_cut_that_is_chosen_cuts_a_group() -> None:
    cluster = as_cluster({"node": "gb200-nvl72", "num_nodes": 1})
    for name in model_names():
        model = load_model(name)
        if state_heads(model):
            assert all(state_heads(model) % cut["tp"] == 0 for cut in cuts(model, cluster, load_engine("vllm"))), name
