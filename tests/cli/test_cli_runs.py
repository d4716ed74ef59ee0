"""planner run as a user meets it, and the pages that describe it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from places import ROOT

from planner.cli.main import main
from planner.common.spec import read_table
from planner.lifecycle.bill import Costs
from planner.lifecycle.spec import Run
from planner.scenarios.scenario import read_scenario

PAGE = (ROOT / "docs" / "guide" / "prices.md").read_text(encoding="utf-8")
SCENARIO = """
title = "test"
[model]
name = "mixtral-8x7b"
[cluster]
node = "dgx-a100-80gb"
num_nodes = 4
[framework]
name = "megatron-core"
[job]
seq_len = 4096
global_batch_size = 256
num_tokens = 100_000_000_000
[layout]
tp = 2
pp = 2
sequence_parallel = true
ep = 8
zero = 1
[run]
expert_histogram = "counts.csv"
evaluation_every_steps = 1000
evaluation_tokens = 10_000_000
[cost]
region = "gcp us-central1"
kept_checkpoints = 2
storage_usd_per_gb_month = 0.02
[cost.own]
utilisation = 0.5
[[compare]]
label = "spot"
price = { usd_per_gpu_hour = 1.0, term = "spot" }
run = { preemption_mtbf_s = 864_000 }
"""


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["planner", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    (tmp_path / "counts.csv").write_text("2\n1\n1\n1\n1\n1\n1\n1\n")
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO)
    return path


def test_json_holds_runs_and_bills(scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(monkeypatch, capsys, "run", scenario, "--json")
    assert (code, err) == (0, "")
    main_case, spot = json.loads(out)["cases"]
    assert main_case["expert_load"] == pytest.approx(16 / 9)
    assert sum(main_case["causes_s"].values()) == pytest.approx(main_case["wall_s"]["expected"])
    bill = main_case["bill"]
    assert bill["grid"]["country"] == "United States"
    assert bill["price"]["date"]
    assert isinstance(bill["price"]["stale"], bool)
    assert bill["total_usd"]["lower"] < bill["total_usd"]["expected"] < bill["total_usd"]["upper"]
    assert bill["owned"]["break_even_gpu_hours"] > 0
    assert spot["interruptions"]["expected"] > main_case["interruptions"]["expected"]
    assert spot["causes_s"]["preemption"] > 0
    assert spot["bill"]["price"]["usd_per_gpu_hour"] == 1.0


def test_the_table_names_causes_money_and_sources(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(monkeypatch, capsys, "run", scenario)
    assert code == 0
    for text in (
        "goodput",
        "uneven experts",
        "work lost to interruptions",
        "waiting for spot nodes",
        "owning pays above",
        "CO2",
        "kWh",
        "arXiv 2407.21783",
        "assumed: run.detection_s",
        "simulated runs",
    ):
        assert text in out, text


BAD = {
    "run": (("[run]", "[run]\nseed = -1"), "seed = -1"),
    "typo in run": (("evaluation_tokens", "evaluation_token"), "did you mean evaluation_tokens"),
    "cost": (("kept_checkpoints = 2", "kept_checkpoints = -2"), "kept_checkpoints = -2"),
    "own": (("utilisation = 0.5", "utilisation = 5"), "own.utilisation = 5"),
    "region": (("gcp us-central1", "atlantis"), "cost.region = 'atlantis'"),
    "no length": (("num_tokens = 100_000_000_000\n", ""), "a whole run needs a length"),
    "histogram": (("counts.csv", "nowhere.csv"), "nowhere.csv"),
}


@pytest.mark.parametrize("what", sorted(BAD))
def test_bad_scenarios_are_explained(
    what: str, scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (old, new), named = BAD[what]
    assert old in SCENARIO
    scenario.write_text(SCENARIO.replace(old, new))
    code, out, err = call(monkeypatch, capsys, "run", scenario)
    assert (code, out) == (2, "")
    assert named in err
    assert str(scenario) in err
    assert len(err.strip().splitlines()) == 1


def test_a_scenario_with_run_and_cost_still_plans(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, capsys, "plan", scenario, "--json")[0] == 0


SCENARIOS = sorted((ROOT / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_ready_made_scenarios_have_a_run_and_a_bill(path: Path) -> None:
    for case in read_scenario(path).cases:
        result = case.whole_run()
        bill = case.bill(result)
        assert result.wall_s.lower <= result.wall_s.expected <= result.wall_s.upper
        if not result.plan.fits:  # what cannot run costs nothing
            assert bill is None
            continue
        assert bill is not None
        assert bill.total_usd.expected >= bill.items_usd["gpu_hours"].expected > 0
        assert 0 < result.goodput.expected <= 1


def test_the_pages_tables_name_every_field(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    (tmp_path / "x.toml").write_text(example.group(1))
    tables = read_table(tmp_path / "x.toml")
    Run.build(tables["run"], "run")
    Costs.build(tables["cost"], "cost")
    for spec in (Run, Costs):
        missing = [n for n in spec.model_fields if n != "provenance" and not re.search(rf"\b{n}\b", PAGE)]
        assert not missing, missing


def test_plan_compare_and_run_agree_on_every_dollar(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And none of them ignores [run]: uneven experts take longer than even ones in a comparison, too."""
    even = scenario.parent / "even.toml"
    even.write_text(scenario.read_text().replace('expert_histogram = "counts.csv"', "expert_zipf = 0.0"))
    (found, told, alone, run) = (
        json.loads(call(monkeypatch, capsys, command, path, "--json")[1])
        for command, path in (("compare", scenario), ("compare", even), ("plan", scenario), ("run", scenario))
    )
    outlook = found["cases"][0]["outlook"]
    assert outlook == alone["outlook"]
    whole = run["cases"][0]
    assert outlook["budget_usd"] == whole["bill"]["budget_usd"]
    assert outlook["total_usd"] == whole["bill"]["total_usd"]
    assert outlook["budget_s"] == whole["budget_s"]
    assert outlook["budget_usd"]["expected"] > outlook["total_usd"]["expected"]
    assert outlook["wall_s"]["expected"] > told["cases"][0]["outlook"]["wall_s"]["expected"]
    assert outlook["expert_load"] > told["cases"][0]["outlook"]["expert_load"] == 1.0
    _, out, _ = call(monkeypatch, capsys, "compare", scenario)
    assert "budget, as published runs went" in out


def test_a_bill_in_the_columns_of_focus(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scenario.parent / "focus.csv"
    assert call(monkeypatch, capsys, "run", scenario, "--focus", path, "--tags", "team=nlp,project=a")[0] == 0
    head, *rows = path.read_text().splitlines()
    assert {"BilledCost", "ChargeCategory", "ListUnitPrice", "PricingQuantity", "ServiceCategory", "Tags"} <= set(head.split(","))
    assert len(rows) >= 3
    code, out, err = call(monkeypatch, capsys, "run", scenario, "--focus", path, "--tags", "team")
    assert (code, out) == (2, "")
    assert "KEY=VALUE" in err
    code, _, err = call(monkeypatch, capsys, "run", scenario, "--tags", "a=b")
    assert code == 2
    assert "--focus" in err
