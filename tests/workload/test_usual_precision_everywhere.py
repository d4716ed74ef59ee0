"""Where nobody names a precision, each door takes the usual one of the GPUs that it answers for."""

from __future__ import annotations

from typing import Any

import pytest

import planner
from planner.layout_search.question import as_question
from planner.training.many import plan_many
from planner.workload.job import Job

WORK: dict[str, Any] = {"seq_len": 1024, "global_batch_size": 64}
USUAL = {"v100-sxm2-32gb": "fp16", "h100-sxm5-80gb": "bf16"}


@pytest.mark.parametrize("card", USUAL)
@pytest.mark.parametrize("job", [WORK, Job(**WORK)], ids=["table", "object"])
def test_a_job_without_a_precision_has_that_of_its_gpus(job: Any, card: str) -> None:
    cluster = {"accelerator": card, "num_gpus": 8}
    assert planner.plan(model="gpt2", cluster=cluster, job=job, explain=False).job.precision == USUAL[card]


def test_a_precision_that_is_named_stays() -> None:
    cluster = {"accelerator": "h100-sxm5-80gb", "num_gpus": 8}
    for precision in ("bf16", "fp16"):
        found = planner.plan(model="gpt2", cluster=cluster, job=Job(**WORK, precision=precision), explain=False)
        assert found.job.precision == precision
    with pytest.raises(planner.PlannerError, match="bf16"):
        planner.plan(model="gpt2", cluster={"accelerator": "v100-sxm2-32gb"}, job=Job(**WORK, precision="bf16"))


@pytest.mark.parametrize("job", [WORK, Job(**WORK)], ids=["table", "object"])
@pytest.mark.parametrize("first", USUAL)
def test_a_search_takes_that_of_each_accelerator(job: Any, first: str) -> None:
    found = as_question(model="gpt2", cluster={"accelerator": first, "num_gpus": 8}, accelerators=list(USUAL), job=job)
    assert not found.refused
    assert {one.question.cluster.accelerator.name: one.question.job.precision for one in found.setups} == USUAL


def test_many_questions_keep_a_named_precision_apart() -> None:
    """The two jobs are equal: the second is refused on a V100, the first is fp16."""
    asked = {"model": "gpt2", "cluster": {"accelerator": "v100-sxm2-32gb", "num_gpus": 8}, "layout": {}}
    table = plan_many([{**asked, "job": Job(**WORK)}, {**asked, "job": Job(**WORK, precision="bf16")}])
    assert list(table["error"].astype(bool)) == [False, True]
