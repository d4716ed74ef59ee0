"""Laws of the dispatcher that is taken where nobody names one."""

from __future__ import annotations

from typing import Any

import pytest
from examples import LLAMA, MIXTRAL, model

import planner
from planner.common.errors import PlannerError
from planner.hardware.cluster import Cluster, cluster
from planner.model.catalog import load_model
from planner.training.plan import Plan
from planner.workload.dispatch import dispatcher_on, modules_on, runs_deepep, stack_notes, stack_on
from planner.workload.framework import framework_names, load_framework
from planner.workload.layout import Layout

CORE = load_framework("megatron-core")
QUESTION: dict[str, Any] = {"model": "qwen3-30b-a3b", "job": {"seq_len": 4096, "global_batch_size": 64, "num_steps": 10}}


@pytest.mark.parametrize(
    ("node", "usual"),
    [
        # NVIDIA-NeMo/Megatron-Bridge, docs/training/moe-optimization.md, "Hardware affinity"
        ("dgx-h100", "deepep"),
        ("dgx-b200", "deepep"),
        ("gb200-nvl72", "hybridep"),
        ("gb300-nvl72", "hybridep"),
        # neither runs there: Ampere's nodes, AMD's, cards without NVLink
        ("dgx-a100-80gb", "alltoall"),
        ("bm-gpu-mi300x-8", "alltoall"),
        ("g6e-48xlarge", "alltoall"),
    ],
)
def test_the_fabric_decides(node: str, usual: str) -> None:
    on = cluster(node, num_nodes=2)
    assert dispatcher_on(CORE, on, model(MIXTRAL)).dispatcher == usual
    assert dispatcher_on(CORE.replaced(dispatcher="allgather"), on, model(MIXTRAL)).dispatcher == "allgather"
    padded = dispatcher_on(CORE, on, model(MIXTRAL, capacity_factor=1.0))
    assert padded.dispatcher == "alltoall"


@pytest.mark.parametrize("stack", sorted(name for name in framework_names() if load_framework(name).dispatcher != "alltoall"))
@pytest.mark.parametrize("pads", [True, False])
def test_under_a_capacity_a_framework_takes_what_its_recipes_allow(stack: str, pads: bool) -> None:
    """Megatron-Bridge, apply_moe_token_drop: alltoall or it does not start. Another one that somebody names cannot pad (Megatron-
    Core, MoEFlexTokenDispatcher); without padding it is taken."""
    on, capped = cluster("dgx-h100", num_nodes=2), model(MIXTRAL, capacity_factor=1.0)
    own = load_framework(stack).replaced(pads_to_capacity=pads)
    runs = stack_on(own, on, capped)
    assert runs.dispatcher == "alltoall"
    assert stack_on(runs, on, capped) == runs
    said = "\n".join(stack_notes(own, on, capped, Layout(ep=8)))
    assert ("alltoall, not DeepEP" in said) == (own.dispatcher == "deepep")
    assert stack_on(own, on, model(LLAMA)).dispatcher == own.dispatcher or own.dispatcher == "auto"
    other = own.replaced(dispatcher="hybridep")
    if pads:
        with pytest.raises(PlannerError, match="pad experts to a capacity"):
            stack_on(other, on, capped)
    else:
        assert stack_on(other, on, capped).dispatcher == "hybridep"


@pytest.mark.parametrize(
    ("node", "ranks", "runs"),
    [
        ("dgx-h100", 8, True),
        ("dgx-h100", 16, True),
        ("p5-48xlarge", 8, True),
        ("p5-48xlarge", 16, False),
        ("dgx-a100-80gb", 8, False),
    ],
)
def test_deepep_runs_over_nvlink_and_between_nodes_over_rdma(node: str, ranks: int, runs: bool) -> None:
    """deepseek-ai/DeepEP, README, requirements: Hopper or newer; AWS's EFA has no ports that GPUs command themselves."""
    assert runs_deepep(cluster(node, num_nodes=2), ranks) is runs


def test_mixtures_spare_what_costs_little_where_attention_is_fused() -> None:
    """The up-projections of latent attention only where there are some; nothing where somebody says what, or scores are kept."""
    usual = CORE.model_copy(
        update={"usual_recompute_modules": ("layernorm", "moe_act", "mla_up_proj"), "recompute_modules": None}
    )
    latent, plain = load_model("deepseek-v2-lite"), model(MIXTRAL)
    assert modules_on(usual, latent).recompute_modules == {"layernorm", "moe_act", "mla_up_proj"}
    assert modules_on(usual, plain).recompute_modules == {"layernorm", "moe_act"}
    said = usual.replaced(recompute_modules={"core_attn"})
    for stack, of in (
        (usual, model(LLAMA)), (said, plain), (usual.replaced(attention_kernel="standard"), plain),
        (usual.model_copy(update={"usual_recompute_modules": ()}), plain),
    ):  # fmt: skip
        assert modules_on(stack, of) == stack


def test_a_model_without_experts_is_left_alone() -> None:
    on = cluster("dgx-h100", num_nodes=2)
    assert stack_on(CORE, on, model(LLAMA)) == CORE


def asked(on: Cluster, **more: Any) -> Plan:
    return planner.plan(**QUESTION, cluster=on, layout={"ep": 16, "zero": 1}, explain=False, **more)


def test_naming_what_is_taken_by_default_changes_nothing() -> None:
    on = cluster("dgx-h100", num_nodes=2)
    default, named = asked(on), asked(on, framework="megatron-core")
    assert default.framework.dispatcher == named.framework.dispatcher == "deepep"
    assert default.step_time_s == named.step_time_s
    slower = asked(on, framework={"name": "megatron-core", "dispatcher": "alltoall"})
    assert slower.step_time_s > default.step_time_s


def test_the_answer_names_the_library_where_tokens_travel() -> None:
    on = cluster("dgx-h100", num_nodes=2)
    assert any("DeepEP" in note for note in asked(on).notes)
    alone = planner.plan(**QUESTION, cluster=on, layout={"pp": 16, "zero": 1}, explain=False)
    assert not any("DeepEP" in note for note in alone.notes)


@pytest.mark.parametrize("tool", ["megatron", "nemo"])
@pytest.mark.parametrize("dispatcher", ["auto", "alltoall", "hybridep"])
def test_the_launch_file_says_what_the_plan_counted(tool: str, dispatcher: str) -> None:
    answer = asked(cluster("dgx-h100", num_nodes=2), framework={"name": "megatron-core", "dispatcher": dispatcher})
    text = "\n".join(planner.export_plan(answer, tool).values()).replace("_", "-")
    flex = {"deepep": True, "hybridep": True, "alltoall": False}[answer.framework.dispatcher]
    assert ("flex" in text) == flex
    assert answer.framework.dispatcher in text
    assert ("moe-router-dtype" in text) == flex
