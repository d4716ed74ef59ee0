"""A search of several clusters; of several models it is refused in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from command_line import Run
from each import for_each

import planner
from planner.layout_search.question import as_question
from planner.layout_search.result import SearchResult
from planner.layout_search.search import search_all, searched

JOB: dict[str, Any] = {"seq_len": 2048, "global_batch_size": 64, "num_tokens": 10**9}


def test_clusters_of_a_list_are_searched_as_alone() -> None:
    both = planner.search(model="llama-3-8b", cluster=["8xh100", "8xa100-80gb"], job=JOB, top=400)
    assert set(both["accelerator"]) == {"h100-sxm5-80gb", "a100-sxm4-80gb"}
    alone = planner.search(model="llama-3-8b", cluster="8xa100-80gb", job=JOB)
    there = both[both["accelerator"] == "a100-sxm4-80gb"].set_index("layout")["step_time_s"]
    for layout, seconds in alone.head(5).set_index("layout")["step_time_s"].items():  # the simplest of equals is first among all
        assert there[layout] == seconds
    assert there.min() == alone["step_time_s"].min()
    assert planner.search(model="llama-3-8b", cluster=["8xh100", "8xh100"], job=JOB).equals(
        planner.search(model="llama-3-8b", cluster="8xh100", job=JOB)
    )


LORA: dict[str, Any] = {**JOB, "kind": "lora", "adapter": {"rank": 16}}
ROOMY, NARROW, TINY = "8xa100-80gb", "4xv100-sxm2-32gb", "8xt4"
"""Of an 8B model: cards on which a usual layout fits, on which only one that moves states to the host does, and the like."""


@for_each(
    "asked",
    [
        ("llama-3-8b", JOB, "time", (ROOMY, NARROW, "8xl4")),  # usual layouts, unusual ones, activations on the host for speed
        ("llama-3-8b", JOB, "time", (NARROW, TINY)),  # no usual layout on either
        ("llama-3-8b", JOB, "cost", (TINY, ROOMY)),
        ("llama-3-70b", JOB, "time", ("8xh100", "8xl4")),  # nothing at all fits on the second
        ("llama-3-70b", JOB, "cost", ("4xa10", "8xt4", "8xh100")),
        ("llama-3-8b", JOB, "memory", (NARROW, ROOMY)),
        ("llama-3-8b", LORA, "time", (ROOMY, NARROW)),
    ],
)
def test_each_of_a_list_is_as_good_as_alone(asked: tuple[str, dict[str, Any], str, tuple[str, ...]]) -> None:
    """The least of each cluster, to the bit, and the framework it is in; none where alone nothing fits at the accepted risk."""
    name, job, objective, clusters = asked

    def found(cluster: Any) -> SearchResult:
        return search_all(as_question(model=name, cluster=cluster, job=job, objective=objective), searched)

    def bests(result: SearchResult) -> dict[str, tuple[str, float]]:
        rows = result.found.rows
        return {
            setup.question.cluster.name: (setup.question.framework.name, float(rows.value[rows.setup == i].min()))
            for i, setup in enumerate(result.question.setups)
            if (rows.setup == i).any()
        }

    alone = {key: best for one in clusters for key, best in bests(found(one)).items()}
    assert alone
    assert bests(found(list(clusters))) == alone
    assert bests(found(list(clusters[::-1]))) == alone


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


@pytest.mark.parametrize(
    "asked", [("--on", "8xh100,8xv100-sxm2-32gb"), ("--on", "8xh100", "--accelerator", "h100,v100-sxm2-32gb")]
)
def test_the_command_line_searches_a_list_as_each_of_it_alone(run: Run, asked: tuple[str, ...]) -> None:
    """The best of each is that of itself, in its own usual precision, and the answer says where each row stands."""
    question = ("search", "pythia-1b", "--tokens", "1B", "--seq-len", "2048", "--top", "3", "--json")
    code, out, err = run(*question, *asked)
    assert code == 0, err
    both = json.loads(out)
    assert any("bf16 on h100-sxm5-80gb" in note and "fp16 on v100-sxm2-32gb" in note for note in both["notes"])
    for gpu in ("h100-sxm5-80gb", "v100-sxm2-32gb"):
        best = next(row for row in both["rows"] if row["accelerator"] == gpu and row["best_of_cluster"])
        alone = json.loads(run(*question, "--on", f"8x{gpu}")[1])["rows"][0]
        for name in ("layout", "step_time_s", "cost_usd", "budget_usd"):
            assert best[name] == alone[name], (gpu, name)
    text = " ".join(run("search", "pythia-1b", "--tokens", "1B", "--top", "1", *asked)[1].split())
    assert "8 x h100-sxm5-80gb (dgx-h100), " in text.partition("front in time")[0]


@pytest.mark.parametrize(
    ("on", "said"), [("8xh100,8xzzz", "--on zzz: no such GPU"), (",", "--on"), ("8xh100,0xa100-80gb", "--on 0xa100-80gb: ")]
)
def test_a_wrong_word_of_a_list_is_named(run: Run, on: str, said: str) -> None:
    code, out, err = run("search", "gpt2", "--on", on)
    assert (code, out) == (2, "")
    assert said in err
