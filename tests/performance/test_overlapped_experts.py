"""Experts' exchange beside another micro-batch: what hides, what it holds, and where there is no such schedule."""

from __future__ import annotations

import pytest
from examples import MIXTRAL, framework, gpus, job, model

import planner
from planner.common.errors import PlannerError
from planner.performance.evaluation import Evaluation, evaluate
from planner.workload.framework import Framework
from planner.workload.layout import Layout, as_columns
from planner.workload.question import Question

MOE = framework("megatron-core", cuda_graphs="full", dispatcher="alltoall")
BESIDE = framework("megatron-core", cuda_graphs="full", dispatcher="alltoall", overlaps_experts=True)


def run(layout: Layout, stack: Framework, batch: int) -> Evaluation:
    return evaluate(Question(model(MIXTRAL), gpus(64), stack, job(global_batch_size=batch)), as_columns(layout, 64))


@pytest.mark.parametrize("layout", [Layout(ep=8, zero=1), Layout(ep=8, zero=1, pp=2, vpp=2, schedule="interleaved")])
def test_experts_exchange_hides_beside_another_micro_batch_and_holds_one_more(layout: Layout) -> None:
    hidden = []
    for microbatches in (4, 8, 64):
        batch = microbatches * 64 // layout.pp
        alone, beside = (run(layout, f, batch) for f in (MOE, BESIDE))
        both = alone.step.expert_parallel_s[0], beside.step.expert_parallel_s[0]
        hidden.append(1.0 - both[1] / both[0])
        assert hidden[-1] == pytest.approx(0.9 * (1.0 - 1.0 / microbatches))
        # no more than all of the exchange goes, in the bubble too, and nothing else changes
        assert 0.0 < alone.step_time_s[0] - beside.step_time_s[0] < 2.0 * both[0]
        assert beside.step.forward_s[0] == alone.step.forward_s[0]
        assert beside.memory.activations_bytes[0] > alone.memory.activations_bytes[0]
    assert hidden == sorted(hidden)


def test_a_single_micro_batch_has_none_to_exchange_beside() -> None:
    alone, beside = (run(Layout(ep=8, zero=1), f, 64) for f in (MOE, BESIDE))
    assert beside.step_time_s[0] == alone.step_time_s[0]
    assert beside.memory.total_bytes[0] == alone.memory.total_bytes[0]


def test_nothing_of_tensor_parallel_experts_hides_beside_another_micro_batch() -> None:
    layout = Layout(tp=2, sequence_parallel=True, ep=2, etp=2, zero=1)
    less = [run(layout, f, 256).step.expert_parallel_s[0] for f in (MOE, BESIDE)]
    gathers = run(layout.replaced(ep=1), MOE, 256).step.expert_parallel_s[0]
    assert less[1] > gathers > 0.0


@pytest.mark.parametrize(
    ("stack", "layout", "told"),
    [
        ("fsdp", Layout(ep=8, zero=3), "fsdp has no such schedule; use megatron-core"),
        ("deepspeed-zero", Layout(ep=8, zero=3), "has no such schedule"),
        ("megatron-2022", Layout(), "has no such schedule"),
        ("megatron-bridge", Layout(), "layout.ep = 1: no experts are exchanged; use ep > 1"),
        ("megatron-core", Layout(ep=8, pp=4), "layout.pp = 4, vpp = 1: .* use vpp > 1"),
        ("megatron-core", Layout(ep=8, recompute="full"), "layout.recompute = 'full': .* use selective or none"),
    ],
)
def test_experts_exchange_beside_another_micro_batch_where_there_is_none(stack: str, layout: Layout, told: str) -> None:
    with pytest.raises(PlannerError, match=told):
        planner.plan(
            model=MIXTRAL,
            cluster=gpus(64),
            framework={"name": stack, "overlaps_experts": True},
            job=job(global_batch_size=256),
            layout=layout,
        )
