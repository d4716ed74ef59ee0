"""Every line of a bill on the page is that of ``planner run``: quantity, unit, unit price, dollars, term, date and source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run
from test_every_dollar import question

import planner

COLUMNS = {"quantity": "quantity", "unit": "unit", "unit_usd": "unit_usd", "usd": "line_usd", "date": "date", "term": "term"}


@pytest.mark.parametrize("seed", range(30, 42))
def test_the_page_has_each_line_of_planner_run(seed: int, run: Run, tmp_path: Path) -> None:
    pytest.importorskip("streamlit")
    from planner.web.answers import whole_run
    from planner.web.download import scenario_toml
    from planner.web.pages.run import line_rows
    from planner.web.text import say

    tables = question(seed)
    file = tmp_path / "scenario.toml"
    file.write_text(scenario_toml({"title": "x", "cases": [{"label": "x", "tables": tables}]}), encoding="utf-8")
    code, out, err = run("run", file, "--json")
    assert code == 0, err
    bill = json.loads(out)["cases"][0]["bill"]
    answer = planner.plan(**{name: tables[name] for name in ("model", "cluster", "job", "price")})
    page = whole_run(tables, answer).bill
    assert (page is None) == (bill is None) == (not answer.fits)
    if page is None:
        return
    rows = line_rows(["x"], [page])
    assert len(rows) == len(bill["lines"])
    for row, line in zip(rows, bill["lines"], strict=True):
        assert row[say("en", "run.column_item")] == say("en", f"run.item_{line['item']}")
        for name, column in COLUMNS.items():
            assert row[say("en", f"run.column_{column}")] == (line[name] or "–")
        assert row[say("en", "evidence.source")] == line["source"]
        assert line["usd"] == pytest.approx(line["quantity"] * line["unit_usd"], rel=1e-9)
    text = " ".join(run("run", file)[1].split())
    for line in bill["lines"]:
        assert (f"${line['usd']:,.2f}" if line["usd"] < 100 else f"${line['usd']:,.0f}") in text
    assert sum(line["usd"] for line in bill["lines"]) == pytest.approx(bill["total_usd"]["expected"], rel=1e-9)
