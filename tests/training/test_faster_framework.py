"""What another framework would do: only what is decidably faster, and only where nobody named one."""

from __future__ import annotations

import pytest

import planner
from planner.scenarios.scenario import Case
from planner.training.difference import ratios
from planner.training.elsewhere import elsewhere

JOBS = {
    "pretrain": {"kind": "pretrain", "seq_len": 4096, "global_batch_size": 64},
    "lora": {"kind": "lora", "seq_len": 2048, "global_batch_size": 64, "adapter": {"rank": 16}},
}


@pytest.mark.parametrize("kind", JOBS)
@pytest.mark.parametrize("cluster", ["1xa100-80gb", "8xa100-80gb", "8xh100", "4xl40s", "8xv100-32gb"])
@pytest.mark.parametrize("model", ["llama-3-8b", "qwen2.5-1.5b", "gpt2"])
def test_what_is_told_is_what_compare_tells(model: str, cluster: str, kind: str) -> None:
    """The framework that is told is faster by the ratio that two plans have, and its layout is a plan's own."""
    job = dict(JOBS[kind])
    if "v100" in cluster:
        job["precision"] = "fp16"
    if model == "gpt2":
        job["seq_len"] = 1024
    answer = planner.plan(model=model, cluster=cluster, job=job)
    other = elsewhere(answer)
    if other is None:
        return
    asked = planner.plan(model=model, cluster=cluster, job=job, framework=other.framework)
    assert (other.layout, other.step_time_s) == (asked.layout, asked.step_time_s)
    assert other.over == ratios(asked, answer)["step_time_s"]
    assert asked.recommended
    assert other.over.upper < 1.0
    assert other.framework != answer.framework.name


def test_one_node_says_what_several_would_do() -> None:
    """The default changes from one node to two: the answer on one says by how much that alone is faster."""
    job = JOBS["pretrain"]
    one, two = (planner.plan(model="llama-3-8b", cluster=cluster, job=job) for cluster in ("8xh100", "16xh100"))
    other = elsewhere(one)
    assert other is not None
    assert other.framework == two.framework.name == "megatron-core"
    assert elsewhere(two) is None
    assert other.step_time_s < one.step_time_s


@pytest.mark.parametrize("named", [{"framework": {"name": "fsdp"}}, {"layout": {"zero": 3, "micro_batch_size": 1}}])
def test_nothing_is_told_where_framework_or_layout_is_named(named: dict[str, dict[str, object]]) -> None:
    tables = {
        "model": {"name": "llama-3-8b"},
        "cluster": {"accelerator": "h100-sxm5-80gb", "num_gpus": 8},
        "job": JOBS["pretrain"],
    }
    free, bound = (Case(label="x", tables=found, where="x") for found in (tables, {**tables, **named}))
    assert free.elsewhere(free.plan()) is not None
    assert bound.elsewhere(bound.plan()) is None


def test_nothing_is_told_of_a_plan_that_does_not_fit() -> None:
    answer = planner.plan(model="llama-3.1-405b", cluster="2xl40s", job=JOBS["pretrain"], explain=False)
    assert not answer.recommended
    assert elsewhere(answer) is None
