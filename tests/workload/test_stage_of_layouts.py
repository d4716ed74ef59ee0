"""A layout that names no ZeRO stage, under software that always shards: FSDP's own stage, in every door."""

from __future__ import annotations

from typing import Any

import pytest

import planner
from planner.workload.layout import Layout

ASKED: dict[str, Any] = {"model": "llama-3-8b", "cluster": "8xh100", "job": {"seq_len": 4096, "global_batch_size": 64}}


@pytest.mark.parametrize(
    ("framework", "layout", "stage"),
    [
        ("fsdp", {"tp": 8, "sequence_parallel": True}, 3),
        ("fsdp", {"tp": 2, "zero": 2}, 2),
        ("torchtitan", {"tp": 2}, 3),
        ("fsdp", {"pp": 2}, 3),  # fully_shard's own reshard_after_forward, whatever the layers are cut into
        ("torchtitan", {"pp": 2}, 2),  # fsdp_reshard_after_forward = "default" keeps layers gathered beside a pipeline
        ("megatron-core", {"tp": 2}, 0),
        ("deepspeed-zero", {}, 0),
    ],
)
def test_the_stage_is_the_frameworks_where_none_is_named(framework: str, layout: dict[str, Any], stage: int) -> None:
    answer = planner.plan(**ASKED, framework=framework, layout=layout, explain=False)
    assert answer.layout.zero == stage
    assert answer == planner.plan(**ASKED, framework=framework, layout=Layout(**layout), explain=False)
    taken = "zero" not in layout and stage > 0
    assert any("where no stage is named" in note for note in answer.notes) == taken
    named = planner.plan(**ASKED, framework=framework, layout={**layout, "zero": stage}, explain=False)
    assert (named.step_time_s, named.peak_total_bytes) == (answer.step_time_s, answer.peak_total_bytes)
    columns = planner.evaluate(**ASKED, framework=framework, layouts=[layout])
    assert float(columns.step_time_s[0]) == answer.step_time_s
    many = planner.plan_many([{**ASKED, "framework": framework, "layout": layout}])
    assert many["step_time_s"].iloc[0] == answer.step_time_s
    assert ("where no stage is named" in many["notes"].iloc[0]) == taken


def test_a_stage_that_is_named_and_is_none_of_its_own_is_refused() -> None:
    with pytest.raises(planner.PlannerError, match=r"layout\.zero = 0: fsdp shards"):
        planner.plan(**ASKED, framework="fsdp", layout={"tp": 8, "zero": 0})
