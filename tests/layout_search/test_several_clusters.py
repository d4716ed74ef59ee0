"""A search of several clusters; of several models it is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

import planner

JOB: dict[str, Any] = {"seq_len": 2048, "global_batch_size": 64, "num_tokens": 10**9}


def test_clusters_of_a_list_are_searched_as_alone() -> None:
    both = planner.search(model="llama-3-8b", cluster=["8xh100", "8xa100-80gb"], job=JOB, top=400)
    assert set(both["accelerator"]) == {"h100-sxm5-80gb", "a100-sxm4-80gb"}
    alone = planner.search(model="llama-3-8b", cluster="8xa100-80gb", job=JOB)
    best = both[both["accelerator"] == "a100-sxm4-80gb"].iloc[0]
    assert (best["layout"], best["step_time_s"]) == (alone.iloc[0]["layout"], alone.iloc[0]["step_time_s"])
    assert planner.search(model="llama-3-8b", cluster=["8xh100", "8xh100"], job=JOB).equals(
        planner.search(model="llama-3-8b", cluster="8xh100", job=JOB)
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": ["llama-3-8b", "llama-2-7b"]}, "planner compare"),
        ({"cluster": []}, "at least one cluster"),
        ({"cluster": ["8xh100", 3]}, "cluster"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_words(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(planner.PlannerError, match=said):
        planner.search(**{"model": "llama-3-8b", "cluster": "8xh100", "job": JOB, **wrong})
