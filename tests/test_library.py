"""The library from Python: types that a checker sees, numbers as people have them, wrong types refused, answers as tables."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from places import ROOT

import planner
from planner.common.errors import PlannerError

MODEL: dict[str, Any] = {"name": "llama-2-7b"}
CLUSTER: dict[str, Any] = {"node": "dgx-a100-80gb", "num_gpus": 8}
JOB: dict[str, Any] = {"seq_len": 2048, "global_batch_size": 64, "num_tokens": 10**9}
LAYOUT: dict[str, Any] = {"tp": 2, "zero": 1, "sequence_parallel": True}
SERVING: dict[str, Any] = {"weights": "bf16", "prompt": 512, "output": 64, "batch": 4}

SCRIPT = """import planner

answer = planner.plan(
    model="llama-2-7b",
    cluster={"node": "dgx-a100-80gb"},
    job={"seq_len": 2048, "global_batch_size": 64},
    layuot={"tp": 2},
)
print(answer.step_tiem_s)
print(answer.step_time_s, answer.intervals["step_time_s"].upper)
"""


def test_a_type_checker_finds_a_wrong_argument_and_a_wrong_name(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    # with the project's settings: what `make test` has checked is not read again
    command = [sys.executable, "-m", "mypy", str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if ": error:" in line and "script.py" in line]
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(found) == 2, done.stdout
    assert "script.py:3: error" in found[0]
    assert 'Unexpected keyword argument "layuot"' in found[0]
    assert "script.py:9: error" in found[1]
    assert '"step_tiem_s"' in found[1]


def asked(**changes: Any) -> planner.Plan:
    given: dict[str, Any] = {"model": MODEL, "cluster": CLUSTER, "job": JOB, "layout": LAYOUT, **changes}
    return planner.plan(**given)


def test_numbers_of_numpy_and_whole_floats_are_whole_numbers() -> None:
    first = asked()
    assert asked(layout={**LAYOUT, "tp": np.int64(2), "zero": 1.0, "sequence_parallel": np.bool_(True)}) == first
    assert asked(job={**JOB, "seq_len": 2048.0, "num_tokens": 1e9, "global_batch_size": np.int32(64)}) == first
    assert asked(cluster={**CLUSTER, "num_gpus": np.int64(8)}) == first
    assert asked(price=np.float64(2.0)).cost_usd == asked(price=2).cost_usd
    for wrong in (2.5, True, np.float64(2.5), "2"):
        with pytest.raises(PlannerError, match="tp = "):
            asked(layout={**LAYOUT, "tp": wrong})


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "layout": (lambda: asked(layout="tp2"), r"layout = 'tp2': must be a table of fields"),
    "job": (lambda: asked(job=["seq_len"]), r"job = \['seq_len'\]: must be a table"),
    "search": (lambda: planner.search(model=MODEL, cluster=CLUSTER, job=5), r"job = 5: must be a table"),
    "price": (lambda: asked(price="spot"), r"price = 'spot': .*\{'term': 'spot'\}"),
    "cluster": (lambda: asked(cluster=8), r"cluster = 8: must be a table of fields"),
    "no model": (lambda: asked(model=None), r"model = None: must be a table of fields"),
    "framework": (lambda: asked(framework=3), r"framework = 3: must be a table"),
    "name and config": (lambda: asked(model={"name": "x", "config": "config.json"}), r"both given; give one"),
    "serving": (lambda: planner.serve(model=MODEL, cluster=CLUSTER, serving="fp8"), r"serving = 'fp8': must be a table"),
    "evaluate": (lambda: planner.evaluate(model=MODEL, cluster=CLUSTER, job=JOB, layouts=["tp2"]), r"layout 0 = 'tp2'"),
    "scenario": (lambda: planner.read_scenario(None), r"scenario = None: must be the path"),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_a_wrong_type_is_refused_in_words(what: str) -> None:
    ask, words = WRONG[what]
    with pytest.raises(PlannerError, match=words):
        ask()


def test_an_unknown_argument_of_search_is_python_s_own_error() -> None:
    with pytest.raises(TypeError, match="objectve"):
        planner.search(model=MODEL, cluster=CLUSTER, job=JOB, objectve="cost")  # type: ignore[call-arg]


def test_answers_are_tables_that_concat_takes() -> None:
    plans = [asked(), asked(layout={**LAYOUT, "tp": 4})]
    table = pd.concat([p.to_frame() for p in plans], ignore_index=True)
    assert list(table["step_time_s"]) == [p.step_time_s for p in plans]
    assert list(table["layout.tp"]) == [2, 4]
    assert list(table["intervals.cost_usd.upper"]) == [p.intervals["cost_usd"].upper for p in plans]
    served = planner.serve(model=MODEL, cluster=CLUSTER, serving=SERVING)
    assert served.to_frame()["ttft_s"][0] == served.ttft_s


def test_many_layouts_are_a_table_with_dollars() -> None:
    plan = asked()
    many = planner.evaluate(model=MODEL, cluster=CLUSTER, job=JOB, framework="megatron-core", layouts=[LAYOUT, {"tp": 64}])
    assert plan.num_steps is not None
    assert plan.price is not None
    table = many.to_frame(usd_per_gpu_hour=plan.price.usd_per_gpu_hour, num_steps=plan.num_steps)
    assert list(table["possible"]) == [True, False]
    assert table["reason"][1]
    assert (table["step_time_s"][0], table["tp"][0], table["recompute"][0]) == (plan.step_time_s, 2, "none")
    assert table["cost_usd"][0] == pytest.approx(plan.cost_usd)
    assert table["gpu_hours"][0] == pytest.approx(plan.gpu_hours)
    assert sum(table[f"{kind}_bytes"][0] for kind in plan.memory_bytes) == pytest.approx(plan.peak_total_bytes)
    assert "cost_usd" not in many.to_frame()
