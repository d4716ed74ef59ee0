"""The search answers what brute force answers, its rows are plan's, and it says why nothing is left."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import Run
from examples import ACCELERATOR, GPT, LLAMA, MIXTRAL, NODE, framework, gpus, job, listed, model
from hypothesis import given, settings
from hypothesis import strategies as st
from places import PATIENCE_S

import planner
from planner.common import files
from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster
from planner.layout_search.explore import leanest
from planner.layout_search.found import Found
from planner.layout_search.question import SearchQuestion, as_question
from planner.layout_search.result import SearchResult
from planner.layout_search.search import run_search, search_unit
from planner.layout_search.space import LayoutGrid
from planner.performance.evaluation import evaluate
from planner.performance.interruptions import Recovery
from planner.prices.price import PriceLike
from planner.workload.layout import Layouts

TWO = {"node": "dgx-a100-80gb", "num_gpus": 2}


def question(fields_: dict[str, Any] = LLAMA, **changes: Any) -> SearchQuestion:
    arguments: dict[str, Any] = {
        "model": model(fields_), "cluster": gpus(4), "framework": framework("megatron-core"), "job": job(num_steps=1000),
        "price": 2.0,
    }  # fmt: skip
    return as_question(**{"allow": ["all"], **arguments, **changes})


# --- the same as brute force ------------------------------------------------------------------------------------------

clusters = st.builds(
    lambda count, memory: cluster(
        NODE, num_gpus=count, accelerator=ACCELERATOR.replaced(memory_bytes=memory * 2.0**30, tdp_w=400.0)
    ),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1.6, 2.0, 3.0, 80.0]),
)


def brute_force(q: SearchQuestion, sure: bool = True) -> list[dict[str, Any]]:
    """Every layout that fits (at the accepted risk) and keeps the limits, one evaluation of plain columns for each setup."""
    found = []
    for i, setup in enumerate(q.setups):
        grid = setup.grid
        layouts = listed(grid)
        answer = evaluate(grid.question, layouts)
        step_s, peak_bytes = answer.step_time_s, answer.memory.total_bytes
        for n in np.flatnonzero(answer.fits & (setup.fit.holds(answer.firm_bytes, answer.states_bytes) if sure else True)):
            run_s = 1000.0 * float(step_s[n])
            usd = run_s * grid.question.cluster.num_gpus / 3600.0 * setup.price.usd_per_gpu_hour if setup.price else np.inf
            if (q.deadline_s and run_s > q.deadline_s) or (q.budget_usd and usd > q.budget_usd):
                continue
            peak = float(peak_bytes[n])
            key = {"time": run_s, "cost": usd, "memory": peak, "energy": run_s * 400.0 * grid.question.cluster.num_gpus}[
                q.objective
            ]
            found.append(
                {
                    "setup": i,
                    "layout": tuple(float(getattr(layouts, f.name)[n]) for f in fields(Layouts)),
                    "value": key,
                    "point": (run_s, usd, peak - answer.usable_bytes),
                }
            )
    return found


@settings(max_examples=25, deadline=None)
@given(
    fields_=st.sampled_from([GPT, LLAMA, MIXTRAL]),
    stack=st.sampled_from(["megatron-core", "fsdp", "huggingface"]),
    machines=st.lists(clusters, min_size=1, max_size=2),
    objective=st.sampled_from(["time", "cost", "memory", "energy"]),
    top=st.sampled_from([1, 3, 50]),
    batch=st.sampled_from([4, 12]),
    limit=st.sampled_from([None, 1.2, 3.0]),
)
def test_search_equals_brute_force(
    fields_: dict[str, Any], stack: str, machines: list[Any], objective: str, top: int, batch: int, limit: float | None
) -> None:
    work = job(num_steps=1000, global_batch_size=batch)
    parts = [question(fields_, cluster=c, framework=framework(stack), job=work, objective=objective, top=top) for c in machines]
    whole = SearchQuestion(
        setups=tuple(s for q in parts for s in q.setups), objective=parts[0].objective, deadline_s=None, budget_usd=None, top=top
    )
    every = brute_force(whole)
    if limit and every:
        least = min(r["point"][0] for r in every)
        whole = SearchQuestion(setups=whole.setups, objective=whole.objective, deadline_s=limit * least, budget_usd=None, top=top)
        every = brute_force(whole)
    if not every and brute_force(whole, sure=False):
        assert not run_search(whole).found.rows.setup.size
        return
    if not every:
        with pytest.raises(PlannerError, match="no layout is left"):
            run_search(whole)
        return
    result = run_search(whole)
    found = result.found
    rows = found.rows
    assert sorted(rows.value[:top].tolist()) == sorted(r["value"] for r in every)[:top]
    front: set[tuple[float, ...]] = set()
    for p in sorted({r["point"] for r in every}):  # whoever is as good in everything comes before
        if not any(all(a <= b for a, b in zip(o, p, strict=True)) for o in front):
            front.add(p)
    table = result.to_frame()
    kept = table[table["front"]]
    assert len(kept) == len(front)
    usable = kept["peak_total_bytes"] - kept["usable_bytes"]
    assert set(zip(kept["run_s"], kept["cost_usd"], usable, strict=True)) == front
    assert_recommended_is_the_simplest_of_equals(every, result)
    for setup in {r["setup"] for r in every}:
        own = rows.value[rows.setup == setup].min()
        assert own == min(r["value"] for r in every if r["setup"] == setup)
    assert (
        found.num_layouts
        == whole.num_layouts
        == found.num_possible
        + sum(
            count
            for reason, count in found.rejected.items()
            if not any(word in reason for word in ("memory", "deadline", "likely"))
        )
    )


@pytest.mark.parametrize("fields_", [LLAMA, MIXTRAL], ids=["dense", "mixture"])
@pytest.mark.parametrize("allow", [frozenset(), frozenset({"offload"})], ids=["usual", "offload"])
def test_the_leanest_layout_is_that_of_all_layouts_one_by_one(fields_: dict[str, Any], allow: frozenset[str]) -> None:
    grid = LayoutGrid(question=question(fields_).setups[0].grid.question, allow=allow)
    columns = grid.columns()
    found = evaluate(grid.question, columns)
    least = np.where(found.possible, found.memory.total_bytes, np.inf)
    chosen = leanest(grid)
    assert chosen is not None
    assert chosen == columns.row(int(least.argmin()))


def assert_recommended_is_the_simplest_of_equals(every: list[dict[str, Any]], result: SearchResult) -> None:
    """By hand: of all within 2 % (in steps of a quarter percent) the fewest kinds, experts whole before experts cut, least
    offload, fewest chunks, least recomputation, most room; of all as good in dollars or watts those that are as fast."""
    names = [f.name for f in fields(Layouts)]

    def complexity(row: dict[str, Any]) -> tuple[float, ...]:
        x = dict(zip(names, row["layout"], strict=True))
        kinds = sum(x[n] > 1 for n in ("tp", "pp", "cp", "ep", "etp"))
        away = x["offload_optimizer"] + x["offload_activations"]
        return (
            kinds + (x["shard_group_size"] > 0) + away,
            x["etp"] > 1,
            away,
            x["vpp"] + (x["schedule"] == 2) + 0.4 * x["recompute"],
            row["point"][2],
        )

    step = np.floor(np.log([r["value"] for r in every]) / np.log(1.02) * 8)
    equals = [every[i] for i in np.flatnonzero(step < step.min() + 8)]
    # of equal dollars or watts the faster: seconds step at other places, so that a group of them is one step wider
    pace = np.floor(np.log([r["point"][0] for r in equals]) / np.log(1.02) * 8)
    by_time = result.question.objective != "memory"
    equally_fast = [equals[i] for i in np.flatnonzero(pace < pace.min() + 9)] if by_time else equals
    best = min(equally_fast, key=complexity)
    rows = result.rows
    assert (
        complexity(best)[:4]
        == complexity({"layout": tuple(float(getattr(rows.layouts, n)[0]) for n in names), "point": (0.0, 0.0, 0.0)})[:4]
    )
    assert -rows.headroom_bytes[0] == best["point"][2]
    assert result.group_sizes[0] == len(equals)
    assert rows.value[0] <= 1.02 * rows.value.min()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_of_the_parts_does_not_matter(seed: int) -> None:
    q = question(MIXTRAL, gpus=[2, 4], framework=["megatron-core", "fsdp"], top=7)
    expected = run_search(q).to_frame()
    units = np.random.default_rng(seed).permutation(len(q.units))
    found = Found()
    for i in units:
        found.merge(search_unit(q, q.units[i], Found()), q.top)
    again = run_search(q)
    assert found.rejected == again.found.rejected
    again.found.rows = found.rows
    pd.testing.assert_frame_equal(expected, again.to_frame())


def random_questions(count: int, seed: int) -> list[dict[str, Any]]:
    """Small questions, drawn from models, nodes, stacks, batches, lengths and precisions."""
    draw = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        node, cards, memory = [
            ("dgx-h100", 8, True),
            ("dgx-a100-40gb", 8, True),
            ("g5-12xlarge", 4, True),
            ("p3-8xlarge", 4, False),
        ][int(draw.integers(4))]
        found.append(
            {
                "model": ["gpt2", "llama-3.2-1b", "tinyllama-1.1b", "olmoe-1b-7b", "qwen2.5-7b", "mixtral-8x7b"][
                    int(draw.integers(6))
                ],
                "cluster": {"node": node, "num_gpus": int(draw.choice([1, 2, cards // 2]))},
                "framework": ["megatron-core", "fsdp", "deepspeed-zero", "torchtitan"][int(draw.integers(4))],
                "job": {
                    "seq_len": int(draw.choice([512, 1024])),
                    "global_batch_size": int(draw.choice([8, 12, 16])),
                    "precision": "bf16" if memory else "fp16",
                },
            }
        )
    return found


def first_row(question_: dict[str, Any]) -> Any:
    """What search recommends, None where nothing is left."""
    try:
        return planner.search(**question_, top=1).iloc[0]
    except PlannerError:
        return None


@pytest.mark.parametrize("seed", range(4))
def test_plan_without_a_layout_is_the_first_row_of_search(seed: int) -> None:
    """200 questions in all: the same layout, or both say that none fits."""
    for question_ in random_questions(50, seed):
        answer = planner.plan(**question_, explain=False)
        first = first_row(question_)
        if first is None:
            assert not answer.fits, question_
            continue
        assert {f.name: first[f.name] for f in fields(Layouts)} == {
            f.name: getattr(answer.layout, f.name) for f in fields(Layouts)
        }, question_
        assert (first["step_time_s"], first["fit_probability"]) == (answer.step_time_s, answer.fit_probability)
        assert answer.fits


def test_two_hundred_random_rows_equal_plan_bit_for_bit() -> None:
    arguments: dict[str, Any] = {
        "model": "mixtral-8x7b", "framework": "megatron-core", "price": {"term": "on-demand"},
        "job": {"seq_len": 4096, "global_batch_size": 64, "num_tokens": 10**9},
    }  # fmt: skip
    where = {"node": "dgx-h100", "num_nodes": 2}
    table = planner.search(**arguments, cluster=where, objective="cost", top=5000, allow=["all"])
    assert len(table) >= 5000
    for row in table.sample(200, random_state=7).to_dict(orient="records"):
        layout = {f.name: row[f.name] for f in fields(Layouts)}
        one = planner.plan(**arguments, cluster=where, layout=layout, explain=False)
        for name in ("step_time_s", "peak_total_bytes", "headroom_bytes", "cost_usd", "cost_usd_per_step", "run_s", "mfu"):
            assert row[name] == getattr(one, name), (name, layout)
        assert row["num_microbatches"] == one.num_microbatches


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_clusters_stacks_and_prices_asked_for_are_all_searched() -> None:
    table = planner.search(
        model="llama-2-7b",
        cluster="dgx-a100-80gb",
        job={"seq_len": 2048, "global_batch_size": 64, "num_tokens": 10**9},
        gpus=[8, 16],
        accelerators=["a100-sxm4-80gb", "h100-sxm5-80gb"],
        framework=["megatron-core", "fsdp"],
        price=[{"term": "on-demand"}, {"term": "reserved-1-year"}],
        objective="cost",
        top=3,
    )
    best = table[table["best_of_cluster"]]
    assert len(best) == 2 * 2 * 2 * 2
    assert set(best["num_gpus"]) == {8, 16}
    assert set(best["accelerator"]) == {"a100-sxm4-80gb", "h100-sxm5-80gb"}
    assert table["cost_usd"].iloc[0] <= 1.02 * table["cost_usd"].min()
    front = table[table["front"]]
    assert front["step_time_s"].min() == table["step_time_s"].min()
    assert front["headroom_bytes"].max() == table["headroom_bytes"].max()


def test_clusters_that_cannot_run_the_job_are_left_out_and_named() -> None:
    arguments: dict[str, Any] = {
        "model": "llama-2-7b", "cluster": "dgx-a100-80gb", "job": {"seq_len": 2048, "global_batch_size": 64, "precision": "bf16"},
        "gpus": [8], "top": 2,
    }  # fmt: skip
    table = planner.search(**arguments, accelerators=["v100-sxm2-32gb", "a100-sxm4-80gb"])
    assert set(table["accelerator"]) == {"a100-sxm4-80gb"}
    assert len(table.attrs["refused"]) == 1
    assert "has no bf16" in table.attrs["refused"][0]
    with pytest.raises(PlannerError, match="v100-sxm2-32gb has no bf16"):
        planner.search(**arguments, accelerators=["v100-sxm2-32gb"])
    with pytest.raises(PlannerError, match=r"v100-sxm2-32gb has no bf16.*t4 has no bf16"):
        planner.search(**arguments, accelerators=["v100-sxm2-32gb", "t4"])


def test_limits_are_kept_and_counted() -> None:
    free = run_search(question(gpus=[1, 2, 4], cluster=gpus(4))).to_frame()
    assert free["num_gpus"].min() == 1
    limit = float(free[free["num_gpus"] == 4]["run_s"].min() * 1.01)
    result = run_search(question(gpus=[1, 2, 4], cluster=gpus(4), deadline_s=limit))
    table = result.to_frame()
    assert (table["run_s"] <= limit).all()
    assert set(table["num_gpus"]) == {4}
    assert result.found.rejected["misses the deadline"] > 0


def test_energy_is_rated_power_times_time() -> None:
    watts = cluster(NODE, num_gpus=4, accelerator=ACCELERATOR.replaced(tdp_w=400.0))
    table = run_search(question(cluster=watts, objective="energy")).to_frame()
    assert table["energy_j"].tolist() == pytest.approx((table["run_s"] * 4 * 400.0).tolist())
    assert table["energy_j"].iloc[0] <= 1.02 * table["energy_j"].min()


def test_stopping_keeps_what_was_found() -> None:
    calls = []

    def stop(done: int, size: int) -> None:
        calls.append((done, size))
        if len(calls) == 3:
            raise KeyboardInterrupt

    q = question(MIXTRAL, cluster=gpus(8))
    result = run_search(q, stop)
    assert not result.complete
    assert 0 < result.found.num_layouts == calls[-1][0] < result.size
    table = result.to_frame()
    assert len(table) > 0
    assert table.attrs["complete"] is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "speed"}, "objective = 'speed': must be one of "),
        ({"top": 0}, "top = 0"),
        ({"deadline_s": -1.0}, "deadline_s = -1.0: must be a positive"),
        ({"deadline_s": 1.0, "job": job()}, "deadline_s: the job has no length"),
        ({"budget_usd": 1.0, "job": job()}, "budget_usd: the job has no length"),
        ({"objective": "cost", "price": None}, "no quote for test-gpu"),
        ({"objective": "energy"}, "the power of test-gpu"),
        ({"gpus": [13]}, "does not spread evenly"),
        ({"gpus": []}, "at least one"),
        ({"accelerators": ["rtx-9999"]}, "not in hardware_profiles/accelerators"),
        ({"accelerators": ["test-gpu", "h100-sxm5-80gb"]}, "one price for h100-sxm5-80gb, test-gpu"),
        (
            {
                "gpus": list(range(720, 288000, 720)),
                "allow": ["all"],
                "cluster": gpus(8),
                "job": job(global_batch_size=720720, seq_len=5040),
            },
            "holds .* layouts, more than 1,000,000,000",
        ),
    ],
)
def test_bad_questions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlannerError, match=message):
        question(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cluster": cluster(NODE, num_gpus=2, accelerator=ACCELERATOR.replaced(memory_bytes=1e8))}, "the leanest needs"),
        ({"deadline_s": 1e-6}, "the fastest that fits takes"),
        ({"budget_usd": 1e-9}, "the cheapest that fits costs"),
        ({"job": job(global_batch_size=1, num_steps=9), "framework": framework("huggingface")}, "do not fill the global batch"),
    ],
)
def test_an_empty_answer_says_why(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlannerError, match=message):
        run_search(question(**changes))


# --- command line -----------------------------------------------------------------------------------------------------


def test_search_prints_json_and_writes_tables(run: Run, scenario: Any, tmp_path: Path) -> None:
    out = tmp_path / "rows.parquet"
    code, text, err = run("search", scenario(), "--json", "--top", "3", "--gpus", "4,8", "--objective", "cost", "--out", out)
    answer = json.loads(text)
    assert (code, err) == (0, "")
    assert answer["complete"] is True
    assert [row["rank"] for row in answer["rows"]] == list(range(1, len(answer["rows"]) + 1))
    assert sum(row["best"] for row in answer["rows"]) == 3
    written = pd.read_parquet(out)
    assert written["step_time_s"].tolist() == [row["step_time_s"] for row in answer["rows"]]


def test_search_prints_tables(run: Run, scenario: Any) -> None:
    code, text, _ = run("search", scenario(), "--top", "2", "--framework", "megatron-core,fsdp", "--deadline", "30d")
    assert code == 0
    for part in (
        "by time, the simplest of each group",
        "runner-up (",
        "front in time, dollars and memory",
        "best of each cluster",
        "rejected:",
    ):
        assert part in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--deadline", "soon"], "--deadline = 'soon': must be a number with its unit"),
        (["--gpus", "8,x"], "--gpus 8,x: give whole numbers"),
        (["--out", "rows.xls"], "ends in .parquet, .csv, .json"),
        (["--out", "no/such/folder/rows.csv"], "does not exist"),
        (["--engine", "spark"], "must be local or ray"),
        (["--address", "auto"], "belongs to engine = 'ray'"),
        (["--deadline", "1s"], "no layout is left of"),
        (["--budget-usd", "nan"], "must be a number of US dollars"),
        (["--framework", "megatorn"], "is not in planner/catalog/frameworks"),
    ],
)
def test_search_refuses_in_one_paragraph(run: Run, scenario: Any, arguments: list[str], message: str) -> None:
    code, out, err = run("search", scenario(), *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_a_folder_that_cannot_be_written_leaves_nothing(
    run: Run, scenario: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()

    def refused(path: Path) -> Path:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(files, "_temporary", refused)  # what a closed folder answers, to root too
    code, _, err = run("search", scenario(), "--top", "1", "--out", folder / "rows.csv")
    assert code == 2
    assert "cannot be written (Permission denied)" in err
    assert not list(folder.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    from planner.common.tables import write_table

    path = tmp_path / "rows.csv"
    path.write_text("before")

    class Full(pd.DataFrame):
        def to_csv(self, *_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(PlannerError, match=r"No space left on device.*nothing was written"):
        write_table(path, Full({"a": [1]}))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


# --- Ray --------------------------------------------------------------------------------------------------------------

RAY = """
import os, signal, sys
from pathlib import Path
import pandas as pd
import ray
import planner.ray_engine as engine
from planner.searching import as_question, run_search

marker = Path(sys.argv[1])
q = as_question(
    model="mixtral-8x7b", cluster={"node": "dgx-h100", "num_nodes": 2}, framework=["megatron-core", "fsdp"],
    job={"seq_len": 4096, "global_batch_size": 64, "num_tokens": 10**9}, objective="cost", top=10,
)
whole = engine._unit

def dies_once(question, unit):
    if unit == question.units[2] and not marker.exists():
        marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(question, unit)

engine._unit = dies_once
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
calls = []
answer = engine.run_on_ray(q, None, lambda done, size: calls.append(done))
assert marker.exists(), "no worker died"
assert calls == sorted(calls) and calls[-1] == q.num_layouts
local = run_search(q)
pd.testing.assert_frame_equal(local.to_frame(), answer.to_frame(), check_exact=True)
assert local.found.rejected == answer.found.rejected
ray.shutdown()
print("same")
"""


def test_a_ray_address_without_a_cluster_is_refused_at_once(run: Run, scenario: Any) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'llm-capacity-planner[ray]'")
    for address, message in (("127.0.0.1:1", "no Ray cluster answers at this address"), ("nowhere", "must be auto, host:port")):
        code, out, err = run("search", scenario(), "--engine", "ray", "--address", address)
        assert (code, out) == (2, "")
        assert message in err


def test_ray_gives_the_local_answer_though_a_worker_dies(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'llm-capacity-planner[ray]'")
    done = subprocess.run(
        [sys.executable, "-c", RAY, str(tmp_path / "marker")], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("same")


def test_rows_have_the_intervals_of_their_plans() -> None:
    fields_ = {
        "model": "llama-2-7b",
        "cluster": {"node": "dgx-a100-80gb", "num_gpus": 2},
        "framework": "fsdp",
        "price": 2.0,
        "job": {"seq_len": 2048, "global_batch_size": 8, "num_steps": 100},
    }
    row = planner.search(**fields_).iloc[0]
    axes = {f.name: row[f.name] for f in fields(Layouts)}
    layout = {k: v.item() if hasattr(v, "item") else v for k, v in axes.items()}
    sure = planner.plan(**fields_, layout=layout).intervals
    assert row["step_time_lower_s"] == pytest.approx(sure["step_time_s"].lower)
    assert row["step_time_upper_s"] == pytest.approx(sure["step_time_s"].upper)
    assert row["peak_total_upper_bytes"] == pytest.approx(sure["peak_total_bytes"].upper)
    assert row["cost_lower_usd"] == pytest.approx(sure["cost_usd"].lower)
    assert row["provenance"] == sure["step_time_s"].provenance


def test_preempted_nodes_rank_by_what_is_left_of_them() -> None:
    """Spot at three quarters of the price: first where it is seldom taken away, behind where its runs take half as long again.

    One node taken away every M s: of an interval of 1830 s e^(1830 / M) - 1 attempts fail. Each loses what it had done (M less
    1830 / (e^(1830 / M) - 1) on average), waits 450 s, and restarts for M (e^(450 / M) - 1) s, of which 30 read the checkpoint.
    """
    how = Recovery(checkpoint_interval_s=1800.0, checkpoint_bytes=60e9, preemption_wait_s=450.0, restart_s=420.0)
    long: dict[str, Any] = {"objective": "cost", "job": job(num_steps=10**9)}
    terms = [{"usd_per_gpu_hour": 2.0, "term": "on-demand"}, {"usd_per_gpu_hour": 1.5, "term": "spot"}]
    seldom, often = (run_search(question(price=terms, **long, recovery=replace(how, preemption_mtbf_s=s))) for s in (1e9, 3600.0))
    first = [found.question.setups[int(found.rows.setup[0])].price for found in (seldom, often)]
    assert [price and price.term for price in first] == ["spot", "on-demand"]
    assert often.rows.usd[0] == pytest.approx(2.0 / 1.5 * seldom.rows.usd[0] * 1800 / 1830, rel=1e-5)  # checkpoints of 30 s
    again = np.expm1(1830 / 3600)
    lost = again * (3600 - 1830 / again + 450 + 3600 * np.expm1(450 / 3600))
    table = often.to_frame()
    spot, other = (table[table["price"].str.contains(term)].iloc[0] for term in ("spot", "on-demand"))
    assert spot["time_over_first"] == pytest.approx((1830 + lost) / 1800 * spot["step_time_s"] / other["step_time_s"], rel=2e-3)
    assert spot["cost_usd"] == pytest.approx(spot["step_time_s"] * 10**9 / 3600 * spot["num_gpus"] * 1.5)  # as its plan says
    assert sum("spot is ranked at" in note for note in often.summary()["notes"]) == 1
    kept = run_search(replace(often.question, deadline_s=1.2 * float(seldom.rows.time_s[0])))
    assert {kept.question.setups[int(i)].price.term for i in kept.rows.setup if kept.question.setups[int(i)].price} == {
        "on-demand"
    }


RUNS: list[dict[str, Any]] = [
    {},
    {"preemption_wait_s": 60.0, "restart_s": 900.0},
    {"checkpoint_interval_s": 600.0},
    {"checkpoint_every_steps": 100, "blocking_fraction": 0.2},
    {"checkpoint": "none"},
    {"checkpoint_bytes": 4e11, "storage_bytes_per_s": 1e9},
]


@pytest.mark.parametrize("term", ["spot", "Spot", "own price", "on-demand"])
@pytest.mark.parametrize("told", RUNS, ids=lambda told: " ".join(told) or "rate alone")
def test_a_search_ranks_preemptions_as_a_run_has_them(told: dict[str, Any], term: str) -> None:
    """The wall-clock of ``planner run`` without failures, less its own start; of a price whose nodes stay no different."""
    spec = planner.Run.build({"failures": "none", "num_simulations": 100, "preemption_mtbf_s": 40_000.0, **told}, "run")
    price = {"usd_per_gpu_hour": 2.0, "term": term}
    asked = {"price": price, "job": job(num_steps=2_000_000)}
    found = run_search(question(**asked, recovery=spec.recovery(), top=1))
    row = found.to_frame().iloc[0]
    q = found.question.setups[0].question
    named = {"model": q.model, "cluster": q.cluster, "framework": q.framework, "job": q.job, "price": price}
    answer = planner.plan(**named, layout=found.rows.layouts.row(0))
    wall = answer.run_s if term == "on-demand" else planner.expected_run(answer, spec).wall_s.expected - spec.restart_s
    assert float(found.rows.time_s[0]) == pytest.approx(wall, rel=1e-6)
    assert row["run_s"] == pytest.approx(answer.run_s)
    notes = " ".join(found.summary()["notes"])
    assert (f"{term.lower()} is ranked at" in notes) == (term != "on-demand")
    assert ("preemptions do not count at a price of on-demand" in notes) == (term == "on-demand")


@pytest.mark.parametrize("mtbf_s", [1.0, 1e-300])
def test_a_search_on_nodes_that_are_always_taken_away_is_refused(mtbf_s: float) -> None:
    with pytest.raises(PlannerError, match="the run would never end"):
        question(price={"usd_per_gpu_hour": 2.0, "term": "spot"}, recovery=Recovery(preemption_mtbf_s=mtbf_s))


def test_a_limit_that_preemptions_break_says_that_they_are_in_it() -> None:
    price = {"usd_per_gpu_hour": 2.0, "term": "spot"}
    late = question(price=price, recovery=Recovery(preemption_mtbf_s=86_400.0), deadline_s=1.0)
    with pytest.raises(PlannerError, match=r"fastest that fits takes .* days; spot is ranked at"):
        run_search(late)


def test_dollars_of_spot_beside_others_need_a_rate_of_preemptions() -> None:
    terms = [{"usd_per_gpu_hour": 2.0, "term": "on-demand"}, {"usd_per_gpu_hour": 1.5, "term": "spot"}]
    with pytest.raises(PlannerError, match="preemption_mtbf_s is missing"):
        question(price=terms, objective="cost")
    assert question(price=terms, objective="time").said == question(price=terms[1], objective="cost").said


@pytest.mark.parametrize("price", [{"term": "on-demand"}, {"term": "reserved-3-year"}, {"term": "spot"}, 0.0])
def test_dollars_of_a_row_are_as_uncertain_as_those_of_its_plan(price: PriceLike) -> None:
    """What quotes differ by, and that a term that binds costs the same however long the run takes."""
    asked: dict[str, Any] = {
        "model": "llama-2-7b",
        "cluster": {"node": "dgx-a100-80gb", "num_gpus": 8},
        "job": {"seq_len": 2048, "global_batch_size": 8, "num_steps": 100},
        "price": price,
    }
    row, sure = planner.search(**asked).iloc[0], planner.plan(**asked).intervals["cost_usd"]
    assert (row["cost_lower_usd"], row["cost_upper_usd"]) == pytest.approx((sure.lower, sure.upper), rel=1e-9)
