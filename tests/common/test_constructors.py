"""Every public class that people build says in words what is wrong, by whatever way it is built."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import planner
from planner.common.errors import PlannerError
from planner.common.spec import Spec
from planner.workload.resolve import as_cluster

SPECS = [one for name in planner.__all__ if isinstance(one := getattr(planner, name), type) and issubclass(one, Spec)]


def test_there_are_public_specs() -> None:
    assert {planner.Model, planner.Cluster, planner.Framework, planner.Job, planner.Layout, planner.Serving} <= {*SPECS}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
@pytest.mark.parametrize("given", [{"zzz": 1}, 3, None, [], "text"])
def test_validation_ends_in_words(spec: type[Spec], given: Any) -> None:
    for build in (spec.model_validate, spec.model_validate_strings):
        with pytest.raises(PlannerError) as caught:
            build(given)
        assert spec.__name__.lower() in str(caught.value)
        assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
@pytest.mark.parametrize("text", ['{"zzz": 1}', "3", "{", "", b"\xff"])
def test_validation_of_json_ends_in_words(spec: type[Spec], text: str | bytes) -> None:
    with pytest.raises(PlannerError, match=f"^{spec.__name__.lower()}"):
        spec.model_validate_json(text)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_construction_ends_in_words(spec: type[Spec]) -> None:
    with pytest.raises(PlannerError, match="unknown field zzz = 1"):
        spec(zzz=1)


@pytest.mark.parametrize(
    ("table", "changes", "said"),
    [
        ("job", {"seq_len": -5}, "job.seq_len = -5: must be greater than 0."),
        ("job", {"seq_len": "x"}, "job.seq_len = 'x': must be a whole number."),
        ("model", {"num_layers": 0}, "model.num_layers = 0: must be greater than 0."),
        ("layout", {"tp": 0}, "layout.tp = 0: must be greater than 0."),
        ("framework", {"elementwise_rate": "fast"}, "framework.elementwise_rate = 'fast': must be a number."),
    ],
)
def test_a_copy_with_impossible_fields_is_refused_where_it_is_asked(table: str, changes: dict[str, Any], said: str) -> None:
    subject: dict[str, Any] = {
        "model": planner.load_model("gpt2"),
        "cluster": {"accelerator": "rtx-4090", "num_gpus": 1},
        "framework": planner.load_framework("fsdp"),
        "job": planner.Job(seq_len=512, global_batch_size=4),
        "layout": planner.Layout(zero=3),
    }
    subject[table] = subject[table].model_copy(update=changes)
    with pytest.raises(PlannerError) as caught:
        planner.plan(**subject)
    assert str(caught.value).startswith(said)


def test_a_copy_has_only_fields_that_there_are() -> None:
    with pytest.raises(PlannerError, match=r"^job: unknown field zzz = 1"):
        planner.Job(seq_len=512, global_batch_size=4).model_copy(update={"zzz": 1})


def test_an_impossible_copy_is_refused_each_time_it_is_asked_with():
    job = planner.Job(seq_len=512, global_batch_size=4).model_copy(update={"seq_len": -1})
    for _ in range(2):
        with pytest.raises(PlannerError, match="seq_len = -1"):
            planner.plan(model="gpt2", cluster="h100", job=job)


def holders() -> dict[str, Callable[[], object]]:
    """By what is impossible: questions whose fields hold, floors down, a copy that nobody checked."""
    cluster, model = as_cluster("8xh100"), planner.load_model("gpt2")
    node, job = cluster.node, planner.Job(seq_len=512, global_batch_size=8)
    spec = planner.Serving(prompt=128, output=128)
    worse = {
        "accelerator.memory_bytes = -1": {"accelerator": cluster.accelerator.model_copy(update={"memory_bytes": -1.0})},
        "node.num_gpus = 0": {"node": node.model_copy(update={"num_gpus": 0})},
        "links.bytes_per_s: must be": {
            "node": node.model_copy(update={"links": (*node.links[:1], node.links[1].model_copy(update={"bytes_per_s": -1.0}))})
        },
    }
    copies = {said: cluster.model_copy(update=changes) for said, changes in worse.items()}
    adapter = planner.Adapter(rank=8).model_copy(update={"rank": -1})
    prompt = spec.prompt.model_copy(update={"mean": -1.0})
    return {
        **{said: lambda c=c: planner.plan(model="gpt2", cluster=c, job=job) for said, c in copies.items()},
        "adapter.rank = -1": lambda: planner.plan(model=model, cluster=cluster, job=job.model_copy(update={"adapter": adapter})),
        "prompt.mean = -1": lambda: planner.serve(
            model=model, cluster=cluster, serving=spec.model_copy(update={"prompt": prompt})
        ),
        "rank = -1": lambda: planner.Job(seq_len=512, global_batch_size=8, adapter=adapter),
        "mean = -1": lambda: planner.Serving(prompt=prompt, output=128),
    }


@pytest.mark.parametrize("said", holders())
def test_an_impossible_copy_within_others_is_refused_where_they_are_asked_or_made(said: str) -> None:
    for _ in range(2):
        with pytest.raises(PlannerError, match=re.escape(said)):
            holders()[said]()
