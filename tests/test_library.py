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
    "objective": (lambda: planner.search(model=MODEL, cluster=CLUSTER, job=JOB, objective=5), r"objective = 5: must be text"),
    "allow": (lambda: asked(layout=None, allow=3), r"allow = 3: must be a list of names"),
    "allow within": (lambda: asked(layout=None, allow=[1]), r"allow = 1: must be text"),
    "questions": (lambda: planner.plan_many("x"), r"questions = 'x': must be a list of mappings or a frame"),
    "no tables": (lambda: planner.tuning_choices(8), r"tables = 8: must be a table"),
    "tables without a job": (lambda: planner.tuning_choices({"model": MODEL, "cluster": CLUSTER}), r"job is missing"),
    "methods": (
        lambda: planner.tuning_choices({"model": MODEL, "cluster": CLUSTER, "job": JOB}, methods=8),
        r"methods = 8: must be a list of names",
    ),
    "size for": (lambda: planner.sizes("gpt2", ["lora"]), r"--for \['lora'\]: must be one of"),
    "size length": (lambda: planner.sizes("gpt2", "lora", seq_len="4k"), r"--seq-len 4k: must be a whole number"),
    "size batch": (lambda: planner.sizes("gpt2", "lora", batch="8"), r"--batch 8: must be a whole number"),
    "size framework": (lambda: planner.sizes("gpt2", "lora", framework=["x"]), r"--framework = \['x'\]: must be text"),
    "size headroom": (lambda: planner.sizes("gpt2", "lora", headroom="10%"), r"--headroom 10%: must be from 0"),
    "size most": (lambda: planner.sizes("gpt2", "lora", max_gpus=2.5), r"--max-gpus 2\.5: must be a whole number"),
    "size gpus": (lambda: planner.sizes("gpt2", "lora", gpus="2"), r"--gpus 2: must be a whole number"),
    "size job": (lambda: planner.sizes("gpt2", "lora", job=[1]), r"job = \[1\]: must be a table"),
    "size weights": (lambda: planner.sizes("gpt2", "lora", weights="fp8"), r"--weights fp8: goes with --for serve"),
    "size engine": (lambda: planner.sizes("gpt2", "lora", engine="vllm"), r"--engine vllm: goes with --for serve"),
    "size stack": (lambda: planner.sizes("gpt2", "serve", framework="fsdp"), r"--framework fsdp: goes with tuning"),
    "size tuning": (lambda: planner.sizes("gpt2", "serve", job={"num_steps": 1}), r"job = \{'num_steps': 1\}: goes with tuning"),
    "size on": (lambda: planner.sizes("gpt2", "lora", accelerator=8), r"--on = 8: must be text"),
    "quote": (lambda: planner.find_price(None), r"accelerator = None: must be text"),
    "quote's term": (lambda: planner.find_price("h100-sxm5-80gb", term=["spot"]), r"price\.term = \['spot'\]: must be text"),
    "quote's provider": (lambda: planner.find_price("h100-sxm5-80gb", provider=8), r"price\.provider = 8: must be text"),
    "catalog model": (lambda: planner.load_model(["gpt2"]), r"model\.name = \['gpt2'\]: must be text"),
    "catalog node": (lambda: planner.load_node(None), r"cluster\.node = None: must be text"),
    "catalog card": (lambda: planner.load_accelerator({}), r"cluster\.accelerator = {}: must be text"),
    "catalog framework": (lambda: planner.load_framework([1]), r"framework\.name = \[1\]: must be text"),
    "scenario": (lambda: planner.read_scenario(None), r"scenario = None: must be the path"),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_a_wrong_type_is_refused_in_words(what: str) -> None:
    ask, words = WRONG[what]
    with pytest.raises(PlannerError, match=words) as refused:
        ask()
    assert refused.value.field


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
