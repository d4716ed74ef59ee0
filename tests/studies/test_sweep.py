"""Sweeps and limits: each point is plan's answer, and the next larger value really does not fit."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import Run
from places import PATIENCE_S
from rich.console import Console
from rich.table import Table

import planner
from planner.common.errors import PlannerError
from planner.reports.narrow import narrowed
from planner.reports.sizing import sizes_table
from planner.reports.sweep import sweep_table
from planner.scenarios.edited import changed_hardware, plan_with
from planner.studies.limit import largest
from planner.studies.sizing import Capacity, Purpose, Sizes, sizes
from planner.studies.sweep import MEASURES, SweepQuestion, as_sweep, crossovers, frameworks_differ, parse_variation
from planner.studies.sweep_api import run_sweep
from planner.web.pages.explore import sweep_figure
from planner.workload.resolve import as_cluster

TABLES: dict[str, Any] = {
    "model": {"name": "llama-2-7b"}, "cluster": {"node": "dgx-a100-80gb"}, "framework": {"name": "megatron-core"},
    "job": {"seq_len": 2048, "global_batch_size": 64, "num_tokens": 10**9},
    "layout": {"tp": 2, "zero": 1, "sequence_parallel": True},
}  # fmt: skip


def test_each_point_is_the_answer_of_plan() -> None:
    table = planner.sweep(TABLES, {"job.seq_len": [1024, 2048], "layout.tp": [1, 2, 4], "price.usd_per_gpu_hour": [1.0, 2.5]})
    assert len(table) == 12
    for row in table.to_dict(orient="records"):
        one = planner.plan(
            model="llama-2-7b",
            cluster="dgx-a100-80gb",
            framework="megatron-core",
            job={**TABLES["job"], "seq_len": row["job.seq_len"]},
            layout={**TABLES["layout"], "tp": row["layout.tp"]},
            price=row["price.usd_per_gpu_hour"],
        )
        for name in MEASURES:
            assert row[name] == getattr(one, name), name
        assert one.cost_usd_per_step
        assert row["tokens_per_usd"] == one.tokens_per_step / one.cost_usd_per_step


def test_a_point_that_cannot_be_is_a_row_that_says_why() -> None:
    table = planner.sweep(TABLES, {"layout.tp": [2, 3]})
    assert table["fits"].tolist() == [True, False]
    assert "does not divide" in table["error"][1]
    assert np.isnan(table["step_time_s"][1])
    with pytest.raises(PlannerError, match=r"none of 2 points is possible; the first: .*does not divide"):
        planner.sweep(TABLES, {"layout.tp": [3, 5]})


def test_fields_of_models_clusters_frameworks_and_names_can_vary() -> None:
    deeper = planner.sweep(TABLES, {"model.num_layers": [16, 32, 48]})
    assert deeper["parameters_total"].is_monotonic_increasing
    assert deeper["parameters_total"][1] == planner.plan(**TABLES).parameters_total
    named = planner.sweep(TABLES, {"model.name": ["llama-2-7b", "llama-2-13b"], "framework.name": ["megatron-core"]})
    assert named["parameters_total"][1] == planner.plan(**{**TABLES, "model": "llama-2-13b"}).parameters_total
    wider = planner.sweep({**TABLES, "cluster": {"node": "dgx-a100-80gb", "num_nodes": 1}}, {"cluster.num_gpus": [8, 16, 32]})
    assert wider["num_gpus"].tolist() == [8, 16, 32]
    assert wider["step_time_s"].is_monotonic_decreasing


def test_a_slower_link_is_slower_and_scales_what_was_measured_on_it() -> None:
    node = as_cluster("dgx-h100").node
    link = node.links[0]
    slow = changed_hardware(as_cluster("dgx-h100"), {"link.nvlink.bytes_per_s": link.bytes_per_s / 4}).node.links[0]
    assert {name: fit.bus_bytes_per_s for name, fit in slow.collectives.items()} == {
        name: pytest.approx(fit.bus_bytes_per_s / 4) for name, fit in link.collectives.items()
    }
    rates = [link.bytes_per_s / n for n in (8, 2, 1)]
    table = planner.sweep({**TABLES, "cluster": {"node": "dgx-h100"}}, {"link.nvlink.bytes_per_s": rates})
    assert table["step_time_s"].is_monotonic_decreasing
    other = planner.sweep(TABLES, {"accelerator.memory_bytes": [4e10, 8e10]})  # of a card whose usable memory is measured, too
    assert (other["usable_bytes"] < other["accelerator.memory_bytes"]).all()
    assert other["usable_bytes"][1] / other["usable_bytes"][0] == pytest.approx(2.0)
    memory = planner.sweep(TABLES, {"accelerator.memory_bytes": [1e10, 8e10], "accelerator.usable_memory_bytes": [1e10]})
    assert memory["usable_bytes"].tolist() == [1e10, 1e10]


def test_tensor_parallelism_loses_more_on_a_slower_link_than_zero_3(tmp_path: Path) -> None:
    # Narayanan et al. 2021, section 3.2: tensor parallelism belongs on the fast links inside a node
    text = """
label = "ZeRO-3"
[model]
name = "llama-2-13b"
[cluster]
node = "dgx-h100"
[framework]
name = "fsdp"
[job]
seq_len = 4096
global_batch_size = 64
[layout]
zero = 3
recompute = "full"
micro_batch_size = 8
[[compare]]
label = "tensor parallel"
layout = { zero = 2, tp = 8, sequence_parallel = true, micro_batch_size = 8, recompute = "none" }
"""
    path = tmp_path / "slower.toml"
    path.write_text(text)
    table = planner.sweep(path, {"link.nvlink.bytes_per_s": list(np.geomspace(5e9, 450e9, 6))})
    zero, tensor = (table[table["case"] == c]["step_time_s"].to_numpy() for c in ("ZeRO-3", "tensor parallel"))
    assert (np.diff(tensor - zero) < 0).all()


def test_crossovers_name_the_leaders() -> None:
    table = pd.DataFrame(
        {
            "case": ["a", "b"] * 3,
            "k": [1, 1, 2, 2, 3, 3],
            "fits": True,
            "step_time_s": [1.0, 2.0, 1.0, 2.0, 3.0, 2.0],
        }
    )
    assert crossovers(table, "k") == ["k: a leads at 2, b at 3"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("job.seq_len=1024:4096:4", (1024, 2048, 3072, 4096)),
        ("job.seq_len=1:1024:11:log", tuple(2**n for n in range(11))),
        ("layout.recompute=none,full", ("none", "full")),
        ("layout.sequence_parallel=true,false", (True, False)),
        ("price.usd_per_gpu_hour=1:2:3", (1, 1.5, 2)),
    ],
)
def test_ranges(text: str, values: tuple[Any, ...]) -> None:
    assert parse_variation(text).values == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("job.seq_len", "give KEY=start:stop:steps"), ("seq_len=1:2:3", "the table is missing; did you mean --vary job.seq_len"),
        ("jobs.seq_len=1:2:3", "tables: model"), ("job.seq_len=1:2", "a range is start:stop:steps"),
        ("job.seq_len=1:2:0", "at least one step"), ("job.seq_len=0:2:3:log", "needs positive ends"),
        ("job.seq_len=1:2:3:square", "a range is"), ("job.seq_len=nan:2:3", "a range is"),
        ("job.seq_len=true:4:2", "a range is"), ("job.seq_len=1:false:2", "a range is"),
        ("job.seq_len=1:2:1000000000", "1,000,000,000 steps; a sweep holds at most 1,000,000"),
    ],
)  # fmt: skip
def test_bad_ranges_are_refused(text: str, message: str) -> None:
    with pytest.raises(PlannerError, match=message):
        parse_variation(text)


def test_a_grid_of_a_billion_points_is_refused_with_its_size() -> None:
    thousand = tuple(range(1, 1001))
    with pytest.raises(PlannerError, match=r"1,000,000,000 points \(1 x 1000 x 1000 x 1000\).*fewer steps"):
        as_sweep(TABLES, {"job.seq_len": thousand, "layout.tp": thousand, "layout.pp": thousand})
    with pytest.raises(PlannerError, match="nothing to vary"):
        as_sweep(TABLES, {})


def test_stopping_a_sweep_keeps_the_rows_that_are_done() -> None:
    def stop(done: int, size: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    table = run_sweep(as_sweep(TABLES, {"layout.tp": [1, 2, 4]}), progress=stop)
    assert len(table) == 2
    assert table.attrs == {"complete": False, "num_points": 3, "notes": []}


@pytest.mark.parametrize(
    ("layout", "field", "noted"),
    [({}, "layout.tp", True), ({}, "job.seq_len", False), ({"layout": {"pp": 2}}, "layout.tp", False)],
)
def test_a_sweep_says_where_the_rest_of_a_layout_is_not_chosen(layout: dict[str, Any], field: str, noted: bool) -> None:
    tables = {name: table for name, table in TABLES.items() if name != "layout"} | layout
    notes = as_sweep(tables, {field: [2]}).notes
    assert [field in note for note in notes] == [True] * noted


def test_values_of_several_types_go_to_parquet_as_text(tmp_path: Path) -> None:
    from planner.common.tables import write_table

    table = planner.sweep(TABLES, {"layout.tp": [2, "four"]})
    write_table(tmp_path / "grid.parquet", table)
    assert pd.read_parquet(tmp_path / "grid.parquet")["layout.tp"].tolist() == ["2", "four"]


def test_sweep_command_writes_table_and_picture(run: Run, scenario: Any, tmp_path: Path) -> None:
    out, picture = tmp_path / "grid.csv", tmp_path / "grid.png"
    code, text, _ = run(
        "sweep", scenario(), "--vary", "layout.tp=1,2,3", "--vary", "job.seq_len=1024,2048", "--out", out, "--plot", picture
    )
    assert code == 0
    assert "layout.tp x pp" in text
    assert len(pd.read_csv(out)) == 6
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    code, text, _ = run("sweep", scenario(), "--vary", "layout.tp=1,2", "--json")
    assert [row["layout.tp"] for row in json.loads(text)["rows"]] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vary", "link.nvlnk.bytes_per_s=1e9:2e9:2"], "has no link 'nvlnk'; did you mean nvlink"),
        (["--vary", "job.seq_length=1,2"], "unknown field seq_length"),
        (["--vary", "layout.tp=1,2", "--vary", "layout.tp=4"], "given twice"),
        (["--vary", "layout.tp=1", "--vary", "layout.pp=1", "--vary", "layout.cp=1", "--plot", "a.png"], "draws one or two"),
        (["--vary", "layout.tp=1:8:1000000", "--vary", "job.seq_len=1024,2048"], "2,000,000 points"),
    ],
)
def test_sweep_refuses_in_one_paragraph(run: Run, scenario: Any, arguments: list[str], message: str) -> None:
    code, out, err = run("sweep", scenario(), *arguments)
    assert (code, out) == (2, "")
    assert message in err


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "step"),
    [("job.seq_len", None), ("model.num_layers", None), ("job.seq_len", 4096), ("layout.micro_batch_size", None)],
)
@pytest.mark.parametrize("layout", [TABLES["layout"], {"tp": 2, "pp": 2, "zero": 1, "recompute": "full"}])
def test_the_limit_fits_and_the_next_does_not(field: str, step: int | None, layout: dict[str, Any]) -> None:
    tables = {**TABLES, "layout": layout}
    told: list[float] = []
    found = largest(tables, field, step, progress=lambda done, size: told.append(done / size))
    assert told == sorted(told)
    assert told[-1] < 1.0
    assert isinstance(found.value, int)
    assert plan_with(tables, {field: found.value}).recommended
    if found.next_value is not None:
        assert found.next_value > found.value
        assert not plan_with(tables, {field: found.next_value}).recommended
        assert "needs" in found.reason or "probability" in found.reason
    else:
        assert field == "layout.micro_batch_size"


def test_without_a_layout_the_limit_is_that_of_the_whole_space(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        **TABLES,
        "cluster": {"node": "workstation-3x-rtx-3070"},
        "model": {"name": "gpt2"},
        "job": {"seq_len": 1024, "global_batch_size": 12, "precision": "fp16"},
    }
    free = {name: table for name, table in small.items() if name != "layout"}
    found = largest(free, "model.num_layers")
    fixed = largest({**free, "layout": {"micro_batch_size": 1}}, "model.num_layers")
    assert isinstance(found.value, int)
    assert isinstance(fixed.value, int)
    assert found.value > fixed.value
    assert found.plan.fits
    names = ("gpt2", "gpt2-medium", "gpt2-large", "olmo-1b", "pythia-1.4b", "llama-2-7b")
    monkeypatch.setattr("planner.studies.limit.model_names", lambda: names)  # the whole catalog takes 200 searches
    model = largest(free, "model")
    fit = [planner.plan(**{**free, "model": name}).recommended for name in names]  # smallest first
    assert model.plan.recommended
    assert model.value == [name for name, fits in zip(names, fit, strict=True) if fits][-1]
    assert model.next_value == names[names.index(str(model.value)) + 1]


@pytest.mark.parametrize(
    ("tables", "field", "step", "message"),
    [
        (TABLES, "job.batch", None, "must be one of "),
        (TABLES, "job.seq_len", 0, "step = 0: must be at least 1"),
        (TABLES, "model", 2, "belongs to model.num_layers and job.seq_len"),
        ({k: v for k, v in TABLES.items() if k != "layout"}, "layout.micro_batch_size", None, r"give the scenario a \[layout\]"),
        ({**TABLES, "model": {"name": "gpt3-175b"}}, "job.seq_len", None, "not even 128 fits: needs"),
        ({**TABLES, "job": {**TABLES["job"], "global_batch_size": 6}}, "layout.micro_batch_size", None, "must be a multiple of"),
    ],
)
def test_bad_limits_are_refused(tables: dict[str, Any], field: str, step: int | None, message: str) -> None:
    with pytest.raises(PlannerError, match=message):
        largest(tables, field, step)


@pytest.mark.parametrize(
    ("words", "field", "option"),
    [
        (["llama-3.1-8b", "--on", "8xh100"], "job.seq_len", ["--seq-len", "{}"]),  # beyond what the model has learned
        (["llama-3.1-8b", "--on", "8xh100", "--batch", "8"], "job.seq_len", ["--seq-len", "{}"]),
        (["gpt2", "--on", "rtx-4090", "--lora"], "model.num_layers", ["--set", "model.num_layers={}"]),
        (["gpt2", "--on", "rtx-3070"], "model", []),
    ],
)
def test_a_limit_is_the_plan_of_its_value_with_what_is_usual_there(
    words: list[str], field: str, option: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("gpt2", "olmo-1b", "llama-2-7b")  # whose usual batches differ
    monkeypatch.setattr("planner.studies.limit.model_names", lambda: names)
    code, text, _ = run("limit", *words, "--field", field, "--json")
    limit = json.loads(text)
    asked = [limit["value"], *words[1:]] if field == "model" else [*words, *(part.format(limit["value"]) for part in option)]
    plan = json.loads(run("plan", *asked, "--json")[1])
    differs = {"label", "assumptions", "instead", "elsewhere", "outlook"}  # of plan alone
    assert code == 0
    assert {name: limit["plan"][name] for name in limit["plan"] if name not in differs} == {
        name: plan[name] for name in limit["plan"] if name not in differs
    }
    code, text, _ = run("limit", *words, "--field", field)
    shown = f"{limit['value']:,}" if field != "model" else limit["value"]
    assert f"largest {field} that fits: {shown};" in text
    assert all(note in text for note in plan["notes"])
    assert "taken as usual, not given: " in text
    assert (f"global_batch_size = {plan['job']['global_batch_size']}" in text) == ("--batch" not in words)


def test_limit_command(run: Run, scenario: Any) -> None:
    code, text, _ = run("limit", scenario(), "--field", "model.num_layers", "--json")
    answer = json.loads(text)
    assert code == 0
    assert answer["plan"]["fits"] is True
    assert answer["next_value"] == answer["value"] + 1


RAY = """
import pandas as pd
import ray
from planner.sweeping import SweepQuestion, as_sweep, run_sweep
q = as_sweep({"model": "llama-2-7b", "cluster": {"node": "dgx-a100-80gb"}, "framework": "megatron-core",
              "job": {"seq_len": 2048, "global_batch_size": 64}, "layout": {"tp": 2}},
             {"layout.tp": [1, 2, 3, 4], "job.seq_len": list(range(1024, 21504, 1024))})
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
pd.testing.assert_frame_equal(run_sweep(q), run_sweep(q, engine="ray"), check_exact=True)
ray.shutdown()
print("same")
"""


def test_ray_gives_the_local_sweep() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'llm-capacity-planner[ray]'")
    done = subprocess.run([sys.executable, "-c", RAY], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("same")


def test_points_count_cases_times_values() -> None:
    q = as_sweep(TABLES, {"layout.tp": [1, 2], "layout.pp": [1, 2, 4]})
    assert isinstance(q, SweepQuestion)
    assert q.num_points == len(q.points()) == 6


def _shown(what: Any, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(narrowed(what, width) if isinstance(what, Table) else what)
    return console.export_text()


def test_points_of_several_frameworks_say_theirs() -> None:
    """The usual framework changes with the GPUs: what differs by framework is not compared unsaid."""
    tables = {
        "model": "llama-3-8b",
        "cluster": {"node": "dgx-h100"},
        "job": {"kind": "finetune", "seq_len": 2048, "global_batch_size": 64},
    }
    table = planner.sweep(tables, {"cluster.num_gpus": [8, 16]})
    each = [planner.plan(**{**tables, "cluster": {"node": "dgx-h100", "num_gpus": n}}).framework.name for n in (8, 16)]
    assert table["framework"].tolist() == each
    assert len(set(each)) == 2
    assert frameworks_differ(table)
    text = _shown(sweep_table("sweep", table, ["cluster.num_gpus"]))
    assert all(name in text for name in each)
    groups = {row["group"] for row in sweep_figure(table, "cluster.num_gpus", "step_time_s").rows}
    assert len(groups) == 2
    assert all(any(name in group for group in groups) for name in each)
    alone = planner.sweep({**tables, "framework": "fsdp"}, {"cluster.num_gpus": [8, 16]})
    assert not frameworks_differ(alone)
    assert "framework" not in _shown(sweep_table("sweep", alone, ["cluster.num_gpus"]))


def test_sizes_of_several_frameworks_say_theirs() -> None:
    found = sizes("qwen3-14b", "full", accelerator="h100-sxm,mi300x")
    names = {row.software for row in found.rows}
    assert len(names) == 2
    assert all(name in _shown_size(found) for name in names)
    assert {row["software"] for row in found.to_dict()["rows"]} == names
    one = sizes("qwen3-14b", "full", accelerator="h100-sxm,mi300x", framework="huggingface")
    assert {row.software for row in one.rows} == {"huggingface"}
    assert "huggingface" not in _shown_size(one)


def _shown_size(found: Sizes, top: int | None = None) -> str:
    table, *lines = sizes_table(found, top).renderables  # type: ignore[attr-defined]
    return _shown(table) + "".join(_shown(line) for line in lines)


@pytest.mark.parametrize(
    ("model", "purpose", "named"),
    [
        ("llama-3.1-8b", "lora", "rtx-3060,rtx-4000-ada,rtx-5090"),
        ("llama-3.1-70b", "serve", "mi325x,a100-sxm4-40gb,h100-sxm,quadro-rtx-8000"),
    ],
)
def test_what_words_name_stands_in_the_table_and_a_column_has_a_value(model: str, purpose: Purpose, named: str) -> None:
    found = sizes(model, purpose, accelerator=named, batch=Capacity(value=True) if purpose == "serve" else None)
    others = [row for row in found.rows if row.value is not None]
    assert bool(others) == (purpose == "serve")
    for top in range(1, len(found.rows) + 1):
        text = _shown_size(found, top)
        rows, words = text.split("least memory in all: ")
        shown = [row for row in found.rows if re.search(rf"^{row.accelerator} ", rows, re.MULTILINE)]
        assert {row.accelerator for row in found.rows[:top]} <= {row.accelerator for row in shown}
        for best in (found.smallest, found.cheapest, found.best_value):
            assert best is not None
            assert best.accelerator in {row.accelerator for row in shown}
        assert ("at best" in rows) == any(row.value is not None for row in shown)
        left = len(found.rows) - len(shown)
        assert (f"{left} more fit" in words) if left else ("more fit" not in words)
    assert found.smallest is not None
    assert words.startswith(f"{found.smallest.num_gpus} x {found.smallest.accelerator}")
    assert found.smallest.memory_bytes == min(row.memory_bytes for row in found.rows)


def test_a_word_among_numbers_is_refused_before_any_point() -> None:
    """A range of numbers with a slip of the pen is a mistake, no row that says why not."""
    with pytest.raises(PlannerError, match="'x' is no number, the other values are"):
        parse_variation("layout.micro_batch_size=1,x,2")


def test_a_sweep_over_lengths_asks_what_a_plan_of_each_length_asks(run: Run) -> None:
    """The batch that nobody gave follows the length, as `planner plan` takes it; one that is given stays."""
    asked = ("llama-3-8b", "--on", "8xh100", "--layout", "tp2 zero1 sp mbs1")
    status, out, _ = run("sweep", *asked, "--vary", "job.seq_len=4096,32768", "--json")
    assert status == 0
    rows = {row["job.seq_len"]: row for row in json.loads(out)["rows"]}
    for length, row in rows.items():
        plan = json.loads(run("plan", *asked, "--seq-len", str(length), "--json")[1])
        assert row["step_time_s"] == plan["step_time_s"]
    _, shown, _ = run("sweep", *asked, "--vary", "job.seq_len=4096,32768")
    assert "1,024 (4,096), 128 (32,768)" in " ".join(shown.split())
    fixed = json.loads(run("sweep", *asked, "--vary", "job.seq_len=4096,32768", "--batch", "1024", "--json")[1])["rows"]
    assert fixed[1]["step_time_s"] > 4 * rows[32768]["step_time_s"]
    status, _, wrong = run("sweep", *asked, "--seq-len", "4k", "--vary", "job.seq_len=4096,32768")
    assert status == 2
    assert "--seq-len" in wrong


@pytest.mark.parametrize("bad", ["-4", "0", "2048.5", "1e30"])
def test_a_length_that_cannot_be_is_a_row_beside_the_others(bad: str, run: Run) -> None:
    """As a bad value of any field; the lengths beside it keep the batch of their own plans."""
    asked = ("llama-3-8b", "--on", "8xh100", "--layout", "tp2 zero1 sp mbs1")
    status, out, _ = run("sweep", *asked, "--vary", f"job.seq_len={bad},16384", "--json")
    assert status == 0
    wrong, right = json.loads(out)["rows"]
    assert wrong["error"].startswith("job.seq_len = ")
    assert right["step_time_s"] == json.loads(run("plan", *asked, "--seq-len", "16384", "--json")[1])["step_time_s"]


def test_a_row_says_the_whole_of_its_error(run: Run) -> None:
    """Names of tables stand in brackets, which are no markup."""
    status, out, _ = run("sweep", "gpt2", "--on", "rtx-4090", "--vary", "job.kind=pretrain,lora")
    assert status == 0
    assert "[job.adapter]" in out


def test_a_type_that_cannot_hold_a_model_says_what_it_takes() -> None:
    """140 GB of 16-bit weights on two cards of 24 GB and a desktop's host: not that it does not fit, but by how much."""
    why = sizes("llama-3.3-70b", "lora", accelerator="rtx-3090", gpus=2).left_out["rtx-3090-24gb"]
    assert re.fullmatch(r"needs \d+\.\d GiB per GPU, 23\.7 GiB usable; largest part: parameters \d+\.\d GiB", str(why))
