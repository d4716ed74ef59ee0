"""The web page without a browser: scenario in link and file, refusals, figures as the command line's, downloads, words."""

from __future__ import annotations

import io
import json
import re
import string
import zipfile
from typing import get_args

import pandas as pd
import pytest
from each import for_each
from places import PATIENCE_S, ROOT

st = pytest.importorskip("streamlit", reason="the extra `app` is not installed: pip install llm-capacity-planner[app]")

from streamlit.testing.v1 import AppTest  # noqa: E402

import planner  # noqa: E402
from planner.common.errors import PlannerError  # noqa: E402
from planner.lifecycle.sensitivity import cash_flow  # noqa: E402
from planner.model.catalog import load_model, model_names  # noqa: E402
from planner.model.parameters import parameters_total  # noqa: E402
from planner.scenarios.scenario import read_scenario  # noqa: E402
from planner.training.memory_map import fit_map, moments  # noqa: E402
from planner.training.remedies import remedies, scaling  # noqa: E402
from planner.training.trainable import teachers  # noqa: E402
from planner.web import charts, download, inputs_job, main, show, state, text  # noqa: E402
from planner.web.answers import answer, whole_run  # noqa: E402
from planner.web.pages import run as run_page  # noqa: E402
from planner.workload.adapters import check_targets  # noqa: E402
from planner.workload.framework import framework_names, load_framework  # noqa: E402
from planner.workload.job import Job, Kind  # noqa: E402
from planner.workload.tuning import Adapter  # noqa: E402


@pytest.fixture
def app(monkeypatch):
    """The page opened on Compare: AppTest knows no address of st.navigation."""
    monkeypatch.setattr(main, "FIRST", "compare")
    test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE_S)
    return test.run()


def figures(test, name):
    """Headline figures of the cards."""
    html = "".join(block.proto.body for block in test.get("html"))
    return re.findall(rf"data-figure='{name}'>([^<]+)<", html)


def texts_of_figures(table):
    """Columns of a table that hold numbers with a unit as text: a click on their head would put 10.4 h before 7.06 h."""
    figure = re.compile(r"[-+×$]?\s?[\d,.]+\s?(%|h|min|m?s|days|[KMG]i?B|小时|分钟|毫秒|秒|天)?")
    told = {name: [str(cell) for cell in table[name] if isinstance(cell, str) and cell != "–"] for name in table}
    return [name for name, cells in told.items() if cells and all(figure.fullmatch(cell) for cell in cells)]


def slider(test, label):
    return next(s for s in test.sidebar.select_slider if label in s.label)


# ---- the same answer as the command line's


def test_the_page_shows_what_planner_plan_answers(app, tmp_path, capsys):
    from planner.cli.main import main as command

    path = tmp_path / "s.toml"
    path.write_text(download.scenario_toml(app.session_state["scenario"]), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["planner", "plan", str(path), "--json"])
        with pytest.raises(SystemExit):
            command()
    answer = json.loads(capsys.readouterr().out)
    assert figures(app, "gib")[0] == f"{answer['peak_total_bytes'] / 2**30:,.1f} GiB"
    assert figures(app, "tokens")[0] == f"{answer['tokens_per_s']:,.0f}"
    assert figures(app, "mfu")[0] == f"{answer['mfu']:.1%}"
    assert figures(app, "cost")[0] == f"${answer['cost_usd']:,.0f}"


def opened(name):
    """One page for itself: AppTest knows no st.navigation address."""

    def script(name):
        import importlib

        import streamlit as st

        from planner.web import state

        state.current()
        st.session_state["pages"] = {}
        importlib.import_module(f"planner.web.pages.{name}").page()

    test = AppTest.from_function(script, args=(name,), default_timeout=PATIENCE_S).run()
    assert not test.exception
    return test


def test_every_dollar_of_ask_and_of_the_whole_run_is_that_of_planner_run(tmp_path):
    """The bill, the budget and their intervals; dollars by month add up to the bill."""
    path = tmp_path / "s.toml"
    path.write_text(download.scenario_toml(state.default_scenario()), encoding="utf-8")
    scenario = read_scenario(path)
    found = [case.outlook(case.plan()) for case in scenario.cases]
    test = opened("run")
    for key, name in (("total", "total_usd"), ("budget", "budget_usd")):
        assert figures(test, key) == [f"${getattr(one.bill, name).expected:,.0f}" for one in found]
    html = "".join(block.proto.body for block in opened("ask").get("html"))
    first = found[0]
    for money in (first.bill.budget_usd.expected, first.bill.budget_usd.lower, first.bill.budget_usd.upper):
        assert f"${money:,.0f}" in html
    for one in found:
        months = cash_flow(one.run, one.bill)
        assert sum(month.total_usd for month in months) == pytest.approx(one.bill.total_usd.expected)


def test_dollars_by_month_are_drawn_where_a_run_lasts_several():
    tables = {
        "model": {"name": "llama-2-7b"},
        "cluster": {"accelerator": "h100-sxm5-80gb", "num_gpus": 8},
        "job": {"seq_len": 4096, "global_batch_size": 256, "num_tokens": 4 * 10**11},
    }
    plan = planner.plan(**tables, explain=False)
    drawn = run_page.cash_flow_figure("a", whole_run(tables, plan))
    bill = whole_run(tables, plan).bill
    assert len({row["month"] for row in drawn.rows}) > 2
    assert sum(row["value"] for row in drawn.rows) == pytest.approx(bill.total_usd.expected)
    tables["job"]["num_tokens"] = 10**9
    short = planner.plan(**tables, explain=False)
    assert run_page.cash_flow_figure("a", whole_run(tables, short)) is None


def test_ends_of_a_range_share_their_unit_and_the_ends_of_a_bill_their_colours():
    assert show.span("1.65 s", "3.21 s") == "1.65 to 3.21 s"
    assert show.span("59.1 min", "1.2 h") == "59.1 min to 1.2 h"
    rows = [
        {"name": "a", "end": end, "from": 1.0, "to": to, "now": 1.0, "low": "", "high": ""}
        for end, to in (("低端", 0), ("高端", 2))
    ]
    spec = charts.tornado("t", "", "", rows).spec
    (scale,) = [layer["encoding"]["color"]["scale"] for layer in spec["layer"] if "color" in layer["encoding"]]
    assert (scale["domain"], scale["range"]) == (["低端", "高端"], list(charts.GROUPS[:2]))


@pytest.mark.parametrize("path", sorted((ROOT / "scenarios").glob("*.toml")), ids=lambda p: p.stem)
def test_a_saved_scenario_asks_the_same(path, tmp_path):
    before = state.from_toml(path.read_text(encoding="utf-8"), path.name)
    saved = tmp_path / "saved.toml"
    saved.write_text(download.scenario_toml(before), encoding="utf-8")
    again = read_scenario(saved)
    assert [(c.label, c.tables) for c in again.cases] == [(c["label"], c["tables"]) for c in before["cases"]]
    assert state.decode(state.encode(before)) == before


def test_a_case_that_stands_alone_takes_nothing_from_the_first(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        '[model]\nname="llama-2-7b"\n[cluster]\nnode="dgx-h100"\n[job]\nseq_len=2048\nglobal_batch_size=64\nnum_tokens=1000000\n'
        '[layout]\ntp=8\n[[compare]]\nstandalone=true\nmodel={name="gpt2"}\ncluster={node="dgx-h100"}\n'
        "job={seq_len=1024,global_batch_size=64}\n"
    )
    case = read_scenario(path).cases[1]
    assert "layout" not in case.tables
    assert case.tables["job"] == {"seq_len": 1024, "global_batch_size": 64}
    path.write_text(path.read_text().replace('model={name="gpt2"}\n', ""))
    with pytest.raises(PlannerError, match="model is missing"):
        read_scenario(path)


def test_a_slider_changes_the_figures_and_the_link_keeps_them(app):
    before = figures(app, "tokens")
    slider(app, "Sequence").set_value(1024).run()
    after = figures(app, "tokens")
    assert after[0] != before[0]
    assert after[1] == before[1]
    shared = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE_S)
    given = app.query_params["s"]
    shared.query_params["s"] = given if isinstance(given, str) else given[0]
    shared.query_params["lang"] = "zh"
    shared.run()
    assert figures(shared, "tokens") == after
    assert figures(shared, "gib") == figures(app, "gib")


@pytest.mark.parametrize("model", ["llama-2-7b", "mixtral-8x7b", "gpt2", "deepseek-v3"])
@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_of_training_becomes_a_job_whatever_came_before(kind, model):
    known = load_model(model)
    for before in get_args(Kind):
        job = {"seq_len": 1024, "global_batch_size": 8, "precision": "fp8", "optimizer": "muon"}
        inputs_job.of_kind(job, before, known)
        inputs_job.of_kind(job, kind, known)
        made = Job.build(dict(job), "job")
        assert made.kind == kind
        assert (made.adapter is not None, made.teacher is not None) == (kind in ("lora", "qlora", "gptq-lora"), kind == "distil")


@for_each("name", framework_names())
def test_a_framework_that_cannot_store_frozen_weights_so_is_no_longer_named(name):
    for kind in get_args(Kind):
        tables = {"job": {}, "framework": {"name": name, "cuda_graphs": "none"}}
        inputs_job.of_kind(tables["job"], kind, load_model("llama-2-7b"))
        inputs_job.drop_unable_framework(tables)
        able = "quantization" not in tables["job"] or load_framework(name).quantized_weights
        assert ("framework" in tables) == able


@for_each("name", model_names())
def test_every_layer_that_the_page_offers_can_carry_an_adapter(name):
    model = load_model(name)
    targets = tuple(inputs_job.modules_of(model))
    assert targets
    check_targets(model, Adapter(rank=1, target_modules=targets))


def test_a_teacher_speaks_the_students_words_and_is_no_smaller():
    student = load_model("llama-2-7b")
    found = teachers(student)
    assert "llama-2-70b" in found
    for name in found:
        assert load_model(name).vocab_size == student.vocab_size
        assert parameters_total(load_model(name)) >= parameters_total(student)


def test_fine_tuning_on_the_page_is_planners_answer(app):
    next(s for s in app.sidebar.selectbox if s.label == "Model").select("llama-2-7b").run()
    before = figures(app, "gib")[0]
    app.session_state["tabs.en"] = "Training"
    app.run()
    next(s for s in app.sidebar.selectbox if s.label == "Kind of training").select("qlora").run()
    assert not app.exception
    slider(app, "Rank").set_value(64).run()
    app.sidebar.multiselect[0].select("q_proj").select("v_proj").run()
    assert not app.exception
    tables = app.session_state["scenario"]["cases"][0]["tables"]
    assert tables["job"]["adapter"] == {"rank": 64, "target_modules": ["q_proj", "v_proj"]}
    assert figures(app, "gib")[0] != before
    given = {name: table for name, table in tables.items() if name != "price"}
    answer = planner.plan(**given, explain=False)
    assert figures(app, "gib")[0] == f"{answer.peak_total_bytes / 2**30:,.1f} GiB"


@pytest.mark.parametrize("language", text.LANGUAGES)
@pytest.mark.parametrize("page", main.PAGES)
def test_every_page_opens_in_every_language(page, language):
    """One function a page: AppTest knows no st.navigation address."""

    def script(page, language):
        import importlib

        import streamlit as st

        from planner.web import state

        state.current()
        st.session_state["language"] = language
        st.session_state["pages"] = {}
        importlib.import_module(f"planner.web.pages.{page}").page()

    test = AppTest.from_function(script, args=(page, language), default_timeout=PATIENCE_S).run()
    assert not test.exception
    assert not test.error
    assert [texts_of_figures(found.value) for found in test.dataframe] == [[]] * len(test.dataframe)


@pytest.mark.parametrize("section", ["own", "claims", "assumptions", "operators"])
def test_every_section_of_evidence_opens(section):
    def script(section):
        import streamlit as st

        from planner.web import state
        from planner.web.pages import evidence

        state.current()
        st.session_state["evidence.section"] = section
        evidence.page()

    test = AppTest.from_function(script, args=(section,), default_timeout=PATIENCE_S).run()
    assert not test.exception
    assert not test.error
    tables = [found.value for found in test.dataframe]
    assert [texts_of_figures(table.drop(columns="Value", errors="ignore")) for table in tables] == [[]] * len(tables)


# ---- words


def test_both_languages_have_the_same_keys_and_the_same_blanks():
    english, chinese = text.words("en"), text.words("zh")
    assert english.keys() == chinese.keys()
    for key in english:
        blanks = [{name for _, name, _, _ in string.Formatter().parse(words[key]) if name} for words in (english, chinese)]
        assert blanks[0] == blanks[1], key


def test_every_key_in_the_code_has_words_and_every_word_is_used():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "planner" / "web").rglob("*.py"))
    asked = set(re.findall(r"\bt\(\s*\"([a-z_]+\.[A-Za-z_0-9]+)\"", code))
    assert asked <= text.words("en").keys()


# ---- downloads


def test_every_figure_becomes_png_and_svg(app):
    del app
    figure = charts.stacked(
        "memory", "memory", 'A & B <i>"x"', "bars", [("a", [("parameters", 3.0), ("gradients", 4.0)], "7", 10.0)], charts.KINDS
    )
    assert download.png(figure).startswith(b"\x89PNG")
    svg = download.svg(figure)
    assert svg.startswith("<svg")
    import xml.etree.ElementTree as tree

    tree.fromstring(svg)
    assert "http://" not in svg.replace("http://www.w3.org", "")


def test_tables_come_back_as_they_were():
    table = pd.DataFrame({"rank": [1, 2], "layout": ["tp2", "tp4"], "mixed": [1, "a"], "none": [None, 2.5]})
    back = pd.read_parquet(io.BytesIO(download.parquet_bytes(table)))
    assert list(back["rank"]) == [1, 2]
    assert list(pd.read_csv(io.BytesIO(download.csv_bytes(table)))["layout"]) == ["tp2", "tp4"]
    with zipfile.ZipFile(io.BytesIO(download.zipped({"a.sh": "#!/bin/sh\n"}))) as archive:
        assert archive.read("a.sh") == b"#!/bin/sh\n"


def test_the_report_stands_alone_and_names_inputs_versions_and_sources():
    def script():
        import streamlit as st

        from planner.web import report, state
        from planner.web.answers import answers

        st.text(report.page(state.current(), answers()))

    html = AppTest.from_function(script, default_timeout=PATIENCE_S).run().text[0].value
    assert not re.search(r"(src|href)\s*=\s*['\"]?(https?:)?//", html)
    for part in ("<svg", "chatlaw2-moe-4x7b", planner.__version__, "[cluster]", "datasheet"):
        assert part in html


# ---- what the pages ask the planner for

WANTED = {
    "model": "llama-2-7b", "cluster": {"node": "dgx-a100-80gb", "num_gpus": 8},
    "job": {"seq_len": 4096, "global_batch_size": 64, "num_tokens": 10**9},
}  # fmt: skip


@pytest.mark.parametrize(
    "layout", [{"tp": 2, "zero": 1}, {"pp": 4, "vpp": 2, "micro_batch_size": 2}, {"zero": 0, "micro_batch_size": 8}]
)
def test_the_largest_moment_is_the_plans_peak(layout):
    answer = planner.plan(**WANTED, layout=layout, explain=False)
    heaviest = max(moments(answer), key=lambda m: m.total_bytes)
    assert heaviest.total_bytes == pytest.approx(answer.peak_total_bytes, rel=1e-12)
    assert heaviest.phase == answer.peak_phase
    assert sum(m.count for m in moments(answer)) == 3 * answer.layout.pp


def test_a_cell_of_the_fit_map_is_the_plan_of_that_cell():
    answer = planner.plan(**WANTED, layout={"tp": 2, "zero": 1}, explain=False)
    for cell in fit_map(answer, [1, 2, 3], [2048, 4096]):
        job = {**WANTED["job"], "seq_len": cell.seq_len}
        layout = {"tp": 2, "zero": 1, "micro_batch_size": cell.micro_batch_size}
        if cell.headroom_bytes is None:
            assert cell.reason
            with pytest.raises(PlannerError):
                planner.plan(**{**WANTED, "job": job}, layout=layout)
        else:
            assert planner.plan(**{**WANTED, "job": job}, layout=layout, explain=False).headroom_bytes == cell.headroom_bytes


def test_every_remedy_makes_it_fit():
    wanted = planner.plan(**WANTED, layout={"micro_batch_size": 8})
    assert not wanted.fits
    found = remedies(wanted)
    assert found
    for remedy in found:
        layout = wanted.layout.replaced(**{"dp": None, "schedule": None, **remedy.changes.get("layout", {})})
        job = {**WANTED["job"], **remedy.changes.get("job", {})}
        cluster = {**WANTED["cluster"], **remedy.changes.get("cluster", {})}
        again = planner.plan(model=WANTED["model"], cluster=cluster, job=job, layout=layout, explain=False)
        assert again.fits
        assert again.step_time_s == remedy.step_time_s


def test_more_gpus_are_never_slower_and_a_fitting_plan_needs_no_remedy():
    answer = planner.plan(**WANTED, layout={"tp": 2, "zero": 1}, explain=False)
    assert answer.fits
    assert remedies(answer) == []
    times = [p.step_time_s for p in scaling(answer)]
    assert len(times) > 1
    assert times == sorted(times, reverse=True)


def test_importing_planner_loads_no_streamlit():
    import subprocess
    import sys

    code = "import sys, planner, planner.cli, planner.training.planning; assert not {'streamlit', 'altair'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", ["chatlaw2-moe-experts", "llama4-style-moe"])
def test_a_configuration_has_the_experts_of_its_run_as_on_the_command_line(name):
    """And the whole run is that of ``planner run``, which begins from the plan without them."""
    for case in read_scenario(name).cases:
        shown, planned = answer(case.label, case.tables).known, case.plan()
        expected = case.under_experts(planned)
        assert (shown.step_time_s, shown.peak_total_bytes) == (expected.step_time_s, expected.peak_total_bytes)
        ours, theirs = whole_run(case.tables, shown).whole.wall_s, case.whole_run().wall_s
        assert [ours.lower, ours.expected, ours.upper] == pytest.approx([theirs.lower, theirs.expected, theirs.upper], rel=1e-12)
