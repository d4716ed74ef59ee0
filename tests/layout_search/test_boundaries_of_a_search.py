"""Where a search's comparisons turn: ties, exactly at a limit, one more than is shown; by hand or by going through all."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from each import for_each
from examples import ACCELERATOR, LLAMA, MIXTRAL, NODE, framework, job, listed, model
from test_ranking_by_hand import grid, rows

from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster
from planner.layout_search import question as questions
from planner.layout_search.choice import _bolder
from planner.layout_search.differences import times_over
from planner.layout_search.found import Found
from planner.layout_search.question import HOST_GAIN, SearchQuestion, as_question
from planner.layout_search.ranking import NOISE, NUM_GROUPS, STEPS, Rows, front, joined, ranked
from planner.layout_search.result import SearchResult
from planner.layout_search.search import _best, _promising, _quickest, run_search, search_all, searched
from planner.layout_search.table import runner_up, why_second
from planner.performance.evaluation import evaluate
from planner.performance.step_time import PARTS
from planner.workload.layout import Layout, Layouts


@for_each("seed", range(12))
def test_what_belongs_to_the_best_or_the_front_is_never_left_out_before_it_is_ranked(seed: int) -> None:
    """Of few values, so that most are ties: whichever of equals the ranking takes, it is still there."""
    rng, top = np.random.default_rng(seed), 3

    def some(count: int) -> Rows:
        given: list[dict[str, Any]] = [
            {
                "setup": int(rng.integers(2)), "time_s": float(rng.integers(1, 4)), "headroom_bytes": float(rng.integers(4)),
                "layout": {"tp": int(2 ** rng.integers(3)), "pp": int(2 ** rng.integers(3))},
            }
            for _ in range(count)
        ]  # fmt: skip
        found = rows(*given)
        return replace(found, usd=found.time_s)

    def best(found: Rows) -> set[tuple[Any, ...]]:
        found = found.take(ranked(found))
        kept = front(found)
        kept[:top] = True
        return {(*key(found, int(i)),) for i in np.flatnonzero(kept)}

    def key(found: Rows, i: int) -> tuple[Any, ...]:
        return found.setup[i], found.time_s[i], found.headroom_bytes[i], found.layouts.tp[i], found.layouts.pp[i]

    for old_count in (1, 2, 3, 12):
        old, new = some(old_count), some(12)
        old, new = old.take(ranked(old)), new.take(np.flatnonzero(new.setup == 0))
        mask = _promising(old, 0, top, new, np.ones(len(new), dtype=bool))  # type: ignore[arg-type]
        assert best(joined([old, new.take(np.flatnonzero(mask))])) == best(joined([old, new]))


def table(**columns: list[Any]) -> pd.DataFrame:
    """Two rows or more of a search's table, alike but for these columns."""
    count = len(next(iter(columns.values())))
    alike: dict[str, Any] = {
        "accelerator": "a", "num_gpus": 8, "framework": "f", "framework_changes": "{}", "group": 1, "simplest": False,
        "step_time_s": 1.0, "peak_total_bytes": 2.0**30, "cost_usd_per_step": np.nan,
        **{f.name: getattr(Layout(tp=1), f.name, 1) for f in fields(Layouts)}, **{f"{part}_s": 0.1 for part in PARTS},
    }  # fmt: skip
    return pd.DataFrame({**{name: [value] * count for name, value in alike.items()}, **columns})


def test_a_runner_up_is_told_by_its_three_largest_losses_and_two_largest_gains() -> None:
    """Of more than a thousandth of the best step; dollars only where the best costs any."""
    moved = [0.004, 0.003, 0.002, 0.0015, -0.004, -0.003, -0.002, 0.001, -0.001]
    parts = {f"{part}_s": [0.1, 0.1 + gain] for part, gain in zip(PARTS, moved, strict=False)}
    names = [part.replace("_", " ") for part in PARTS]
    said = str(why_second(table(step_time_s=[1.0, 1.05], **parts)))
    told = ("+0.004", "+0.003", "+0.002", "-0.004", "-0.003")
    parted = ", ".join(f"{name} {gain} s" for name, gain in zip((*names[:3], *names[4:6]), told, strict=True))
    assert said == f"runner-up (the same layout): step +5.00% ({parted}), memory +0.00 GiB"
    assert "(" not in str(why_second(table(step_time_s=[1.0, 1.05]))).partition("step")[2]
    for dollars, told in (([2.0, 3.0], ", dollars +50.00%"), ([0.0, 0.0], ""), ([np.inf, np.inf], ""), ([np.nan, np.nan], "")):
        said = str(why_second(table(cost_usd_per_step=dollars)))
        assert said.endswith(f"memory +0.00 GiB{told}")
    changes = [json.dumps({"a": 1, "b": 2}), json.dumps({"a": 1, "b": 3})]
    said = str(why_second(table(framework_changes=changes, tp=[1, 2])))
    assert said.startswith("runner-up (tp 1 -> 2, framework.b 2 -> 3): ")
    assert str(why_second(table(framework_changes=changes, framework=["f", "g"]))).startswith("runner-up (framework f -> g): ")


def test_the_runner_up_is_the_simplest_of_the_second_group_else_the_second_row() -> None:
    assert runner_up(table(group=[1, 1, 3, 2, 2], simplest=[True, False, True, False, True])) == 4
    assert runner_up(table(group=[1, 1, 2], simplest=[True, False, True])) == 2
    assert runner_up(table(group=[1, 1, 1], simplest=[True, False, False])) == 1


def test_steps_are_counted_up_to_the_last_group_that_is_shown() -> None:
    found, last = Found(), 5.0 + NUM_GROUPS * STEPS
    found.count(np.array([5.0, last - 1.0, last, 5.0]))
    assert found.counts == {5.0: 2, last - 1.0: 1}
    found.count(np.array([4.0]))
    assert found.counts == {4.0: 1, 5.0: 2}
    found.count(np.array([-np.inf, 5.0]))
    assert found.counts == {-np.inf: 1}
    found.note("usd", np.array([3.0, 2.0]))
    found.note("usd", np.zeros(0))
    found.note("usd", np.array([7.0]))
    assert found.least == {"usd": 2.0}


def asked(**changed: Any) -> SearchQuestion:
    machine = cluster(NODE, num_gpus=8, accelerator=ACCELERATOR.replaced(memory_bytes=2.0 * 2.0**30))
    given = {"model": model(LLAMA), "cluster": machine, "framework": framework("fsdp"), "job": job(num_steps=10), **changed}
    return as_question(**given)


def result(value: float, q: SearchQuestion | None = None, bold: float = np.inf, **layout: Any) -> SearchResult:
    """An answer of one made-up row, and of a bolder one."""
    bolder = rows({"time_s": bold}) if np.isfinite(bold) else Found().boldest
    found = Found(rows=rows({"time_s": value, "layout": layout}), boldest=bolder)
    return SearchResult(question=q or asked(), found=found, size=1, complete=True)


def test_what_takes_the_place_of_the_usual_is_better_by_more_than_what_is_asked_of_it() -> None:
    """Exactly as much is not enough."""
    for gain, best in ((HOST_GAIN, _best), (NOISE, _quickest)):
        q = asked()
        q = replace(q, others=((q.setups, ("why",), ("faster",)),))
        for value, taken in ((1.0 + gain, False), (np.nextafter(1.0 + gain, 2.0), True)):
            usual, other = result(value, q, recompute="full"), result(1.0)
            assert (best(usual, lambda _, other=other: other) is other) == taken  # type: ignore[misc]
    usual = result(9.0, recompute="selective")
    assert _best(usual, lambda _: result(1.0)) is usual


def test_a_bolder_layout_is_told_of_only_where_it_is_faster() -> None:
    for bold, faster in ((1.0, False), (np.nextafter(1.0, 0.0), True), (1.5, False)):
        one = result(1.0, bold=bold)
        assert (one.bold_ratio is not None) == (_bolder(one) is not None) == faster
    assert result(1.0).bold_ratio is None
    told = _bolder(result(1.0, bold=0.8))
    assert told is not None
    assert told.gain == pytest.approx(0.25)


def test_a_bold_layout_keeps_a_limit_that_it_just_meets() -> None:
    """By time and by dollars: a limit of its own value."""
    q = asked(model=model(MIXTRAL), price={"usd_per_gpu_hour": 3.0, "term": "on-demand"})
    free = run_search(q).found.boldest
    assert len(free) == 1
    for name, value in (("deadline_s", float(free.time_s[0])), ("budget_usd", float(free.usd[0]))):
        assert run_search(replace(q, **{name: value})).found.boldest.value[0] == free.value[0]


def test_each_time_is_compared_with_the_first_alone() -> None:
    q = asked()
    found = run_search(replace(q, top=20)).rows
    assert len(found) > 5
    assert times_over(q, found, found) == times_over(q, found, found.take(np.array([0])))


def test_a_space_may_be_as_large_as_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    size = asked().num_layouts
    monkeypatch.setattr(questions, "MAX_LAYOUTS", size)
    assert asked().num_layouts == size
    monkeypatch.setattr(questions, "MAX_LAYOUTS", size - 1)
    with pytest.raises(PlannerError, match=f"{size:,} layouts, more than {size - 1:,}"):
        asked()


def test_rows_of_a_grid_are_whole_layouts_of_nothing_sharded_or_moved() -> None:
    for one in (grid(count=8), grid(count=1)):
        found = one.rows(1, 1)
        assert found.shape == (one.num_rows(1, 1),)
        for name in ("zero", "shard_group_size", "offload_optimizer", "offload_parameters", "offload_activations", "schedule"):
            assert getattr(found, name).tolist() == [0.0]
        assert (found.vpp.tolist(), found.pp.tolist()) == ([1.0], [1.0])


def test_where_a_further_look_is_stopped_the_answer_is_what_was_found_until_then() -> None:
    """Of one cluster and of a list; nothing is searched after that."""
    q = asked()
    for setups in (q.setups, 2 * q.setups):
        first, looks = result(1.0, replace(q, setups=setups), recompute="full"), []

        def searcher(_: SearchQuestion, first: SearchResult = first, looks: list[int] = looks) -> SearchResult:
            looks.append(1)
            return first if len(looks) == 1 else SearchResult(question=q, found=Found(), size=1, complete=False)

        stopped = search_all(first.question, searcher)
        assert stopped.found is first.found
        assert not stopped.complete
        assert len(looks) == 2


def test_layouts_of_a_group_are_counted_over_its_steps() -> None:
    one = result(1.0)
    one.found.counts.update({-3.0: 2, 4.0: 1, 5.0: 7, 12.0: 1, 13.0: 4, -3.0 + 10 * STEPS - 1: 9})
    assert one.group_sizes == [3, 8, 4, 0, 0, 0, 0, 0, 0, 9]
    assert result(1.0).group_sizes == [0] * NUM_GROUPS


def test_where_nothing_fits_the_leanest_is_that_of_least_bytes_and_of_those_the_fastest() -> None:
    """By one evaluation of all layouts of the space, of cards so small that none fits."""
    for stack in ("megatron-core", "fsdp"):
        machine = cluster(NODE, num_gpus=8, accelerator=ACCELERATOR.replaced(memory_bytes=0.2 * 2.0**30))
        q = asked(cluster=machine, framework=framework(stack), allow=["all"])
        found = searched(q).found
        layouts = listed(q.setups[0].grid)
        answer = evaluate(q.setups[0].question, layouts)
        need = np.where(
            answer.possible & (answer.memory.host_bytes <= answer.host_usable_bytes), answer.memory.total_bytes, np.inf
        )
        seconds = answer.step_time_s[need == need.min()].min()
        assert len(found.leanest) == 1
        assert len(found.rows) == len(found.surest) == 0
        assert found.leanest.peak_bytes[0] == need.min()
        assert found.leanest.step_time_s[0] == seconds
