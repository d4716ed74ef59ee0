"""planner run as a user meets it, and the pages that describe it."""

from __future__ import annotations

import csv
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
from planner.prices.currency import exchange_rate
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
    monkeypatch.setenv("COLUMNS", "160")  # what is said, not where a narrow terminal breaks it
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


QUESTIONS = {
    "dense, on demand": ("llama-3.1-8b", "16xh100", ()),
    "mixture, own price": ("mixtral-8x7b", "32xa100-80gb", ("--price", "2.1")),
    "a year bound": ("llama-2-7b", "8xh100", ("--price", "reserved-1-year")),
    "spot": ("llama-2-7b", "8xh100", ("--price", "spot", "--set", "run.preemption_mtbf_s=200000")),
}


LAYOUT = ("tp", "pp", "vpp", "ep", "etp", "zero", "micro_batch_size", "recompute", "schedule")


@pytest.mark.parametrize("name", QUESTIONS)
def test_search_plan_and_run_agree_on_every_dollar(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The layout that the search recommends costs there what plan and run say of it."""
    model, cluster, more = QUESTIONS[name]
    length = ("--tokens", "20B", "--seq-len", "2048", "--batch", "512")
    path = tmp_path / "q.toml"
    call(monkeypatch, capsys, "init", model, "--on", cluster, *length, "-o", path)
    asked = [part for part in more if part != "--price"]
    if "--price" in more:
        value = more[more.index("--price") + 1]
        asked.remove(value)
        own = value.replace(".", "").isdigit()
        asked = ["--set", f"price.{'usd_per_gpu_hour' if own else 'term'}={value}", *asked]
    found = json.loads(call(monkeypatch, capsys, "search", path, *asked, "--objective", "cost", "--json")[1])
    first, budget = found["rows"][0], found["outlook"]
    layout = [f"--set=layout.{n}={first[n]}" for n in LAYOUT]
    layout += [f"--set=layout.sequence_parallel={str(first['sequence_parallel']).lower()}"]
    plan, run = (
        json.loads(call(monkeypatch, capsys, command, path, *asked, *layout, "--json")[1]) for command in ("plan", "run")
    )
    assert plan["layout"] == first["layout"] or plan["step_time_s"] == pytest.approx(first["step_time_s"])
    assert plan["cost_usd"] == pytest.approx(first["cost_usd"], rel=1e-9)
    assert plan["outlook"]["budget_usd"] == budget["budget_usd"]
    whole = run["cases"][0]
    assert whole["bill"]["budget_usd"] == budget["budget_usd"]
    assert whole["bill"]["total_usd"] == budget["total_usd"]
    assert whole["budget_gpu_hours"] == budget["budget_gpu_hours"]
    if "term" not in str(asked) or "spot" in str(asked):
        at_price = whole["gpu_hours"]["expected"] * first["usd_per_gpu_hour"]
        assert whole["bill"]["items_usd"]["gpu_hours"]["expected"] == pytest.approx(at_price)
    lines = sum(line["usd"] for line in whole["bill"]["lines"])
    assert lines == pytest.approx(whole["bill"]["total_usd"]["expected"])


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
    assert outlook["budget_mean_usd"] == whole["bill"]["budget_mean_usd"] > outlook["budget_usd"]["expected"]
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
    euro = scenario.parent / "euro.csv"
    assert call(monkeypatch, capsys, "run", scenario, "--focus", euro, "--currency", "EUR")[0] == 0
    dollars, euros = (read(file) for file in (path, euro))
    rate = exchange_rate("EUR")
    for one, other in zip(dollars, euros, strict=True):
        assert float(other["BilledCost"]) * rate.usd_per_unit == pytest.approx(float(one["BilledCost"]))
        assert (other["BillingCurrency"], other["x_RateDate"]) == ("EUR", rate.date)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_bill_as_a_workbook(scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines add up to the total; without the package it says how to get it, before anything is computed."""
    openpyxl = pytest.importorskip("openpyxl")
    path = scenario.parent / "bill.xlsx"
    code, _, err = call(monkeypatch, capsys, "run", scenario, "--xlsx", path, "--tags", "team=nlp")
    assert code == 0, err
    book = openpyxl.load_workbook(path, read_only=True)
    assert set(book.sheetnames) == {"totals", "lines", "months", "what moves it", "assumptions", "FOCUS"}
    head, *rows = book["lines"].iter_rows(values_only=True)
    lines = [dict(zip(head, row, strict=True)) for row in rows]
    assert all(line["usd"] == pytest.approx(line["quantity"] * line["unit_usd"]) for line in lines)
    months = list(book["months"].iter_rows(values_only=True))
    total = months[0].index("total_usd")
    assert sum(row[total] for row in months[1:]) == pytest.approx(sum(line["usd"] for line in lines))


def test_without_the_package_a_workbook_is_refused_with_the_way_to_get_it(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    code, out, err = call(monkeypatch, capsys, "run", scenario, "--xlsx", scenario.parent / "bill.xlsx")
    assert (code, out) == (2, "")
    assert "pip install 'llm-capacity-planner[xlsx]'" in err
    assert "ends in .xlsx" in call(monkeypatch, capsys, "run", scenario, "--xlsx", scenario.parent / "bill.csv")[2]


def test_months_as_a_picture(scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = scenario.parent / "months.png"
    assert call(monkeypatch, capsys, "run", scenario, "--plot", path)[0] == 0
    assert path.read_bytes().startswith(b"\x89PNG")
