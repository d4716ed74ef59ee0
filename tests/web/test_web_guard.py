"""What must not come from the web: paths, wrong types, damaged links, names that a browser or a spreadsheet would run."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from each import for_each
from hypothesis import given, settings
from hypothesis import strategies as some
from places import DATA, PATIENCE_S, ROOT

st = pytest.importorskip("streamlit", reason="the extra `app` is not installed: pip install llm-capacity-planner[app]")

from streamlit.testing.v1 import AppTest  # noqa: E402

import planner  # noqa: E402
from planner.common.errors import PlannerError  # noqa: E402
from planner.model.catalog import load_model, model_names  # noqa: E402
from planner.web import download, guard, inputs, main, state  # noqa: E402
from planner.web.pages import calibrate, evidence  # noqa: E402


@pytest.fixture
def app(monkeypatch):
    monkeypatch.setattr(main, "FIRST", "compare")
    test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE_S)
    return test.run()


def figures(test, name):
    """Headline figures of the cards."""
    html = "".join(block.proto.body for block in test.get("html"))
    return re.findall(rf"data-figure='{name}'>([^<]+)<", html)


HOSTILE = [
    {"model": {"name": "/etc/passwd.toml"}},
    {"model": {"config": "config.json"}},
    {"model": {"base": "../../secret.json", "num_layers": 2}},
    {"cluster": {"node": "/etc/hostname.toml"}},
    {"cluster": {"node": "dgx-h100", "accelerator": "../x.TOML"}},
    {"framework": {"name": "C:\\secret.toml"}},
    {"run": {"expert_histogram": "counts.csv"}},
    {"model": {"base": "gpt2", "num_layers": 10_000}},
    {"model": {"base": "gpt2", "num_layers": 10**18}},
    {"cluster": {"node": "dgx-h100", "num_gpus": 10**12}},
    {"job": {"seq_len": float("nan"), "global_batch_size": 1}},
    {"job": {"seq_len": float("inf"), "global_batch_size": 1}},
    {"model": {"name": "x" * 10_000}},
    {"model": {"name": [[[[[[[[1]]]]]]]]}},
]
FINE = {
    "model": {"name": "gpt2"},
    "cluster": {"node": "dgx-h100", "num_gpus": 8},
    "job": {"seq_len": 1024, "global_batch_size": 8},
}
WRONG = [
    {"job": {"seq_len": "long", "global_batch_size": 8}},
    {"job": {"seq_len": 1024, "global_batch_size": 8, "num_tokens": -1}},
    {"cluster": {"node": "dgx-h100", "num_gpus": "eight"}},
    {"cluster": {"node": 7}},
    {"layout": {"tp": 1.5}},
    {"layout": {"recompute": "sometimes"}},
    {"price": {"usd_per_gpu_hour": "cheap"}},
    {"framework": {"name": None}},
    {"model": {"name": "no-such-model"}},
    {"model": {"base": "gpt2", "num_layers": "many"}},
    {"serving": {"prompt": "x", "output": 1}},
    {"run": {"failures": 3}},
]


@pytest.mark.parametrize("tables", WRONG, ids=str)
def test_wrong_types_in_a_link_are_refused_before_the_controls_see_them(tables):
    assert state.checked({"title": "x", "cases": [{"label": "x", "tables": FINE}]})
    with pytest.raises(PlannerError):
        state.checked({"title": "x", "cases": [{"label": "x", "tables": {**FINE, **tables}}]})


@pytest.mark.parametrize("tables", HOSTILE, ids=str)
def test_a_hostile_scenario_is_refused_and_no_file_is_opened(tables, monkeypatch):
    def opened(*_, **__):
        raise AssertionError("a file was opened")

    monkeypatch.setattr(Path, "read_text", opened)
    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(PlannerError):
        state.checked({"title": "x", "cases": [{"label": "x", "tables": tables}]})


@settings(max_examples=200, deadline=None)
@given(some.text(max_size=300) | some.binary(max_size=300).map(lambda b: b.hex()))
def test_a_damaged_link_is_refused_in_words(word):
    try:
        state.decode(word)
    except PlannerError as error:
        said = str(error)
        assert "link" in said or "scenario" in said


def test_a_link_that_unpacks_to_gigabytes_is_refused():
    import base64
    import zlib

    with pytest.raises(PlannerError, match="link"):
        state.decode(base64.urlsafe_b64encode(zlib.compress(b" " * 10_000_000)).decode().rstrip("="))


def test_a_hostile_link_gives_a_message_and_the_default(monkeypatch):
    monkeypatch.setattr(main, "FIRST", "compare")
    bad = {"title": "t", "cases": [{"label": "a", "tables": {"model": {"config": "/etc/passwd"}}}]}
    test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE_S)
    test.query_params["s"] = state.encode(bad)
    test.run()
    assert not test.exception
    assert "not opened from the web" in test.error[0].value
    assert len(figures(test, "gib")) == 2


def test_names_are_escaped_where_they_are_shown(app):
    scenario = json.loads(json.dumps(app.session_state["scenario"]))
    scenario["cases"][0]["label"] = "<img src=x onerror=alert(1)>"
    scenario["cases"][1]["tables"]["model"] = {"base": "llama-2-7b", "name": "<img src=y>"}
    scenario["title"] = "![t](http://evil.example/x.png)"
    test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE_S)
    test.query_params["s"] = state.encode(state.checked(scenario))
    test.run()
    assert not test.exception
    html = "".join(block.proto.body for block in test.get("html"))
    assert "<img" not in html
    assert "&lt;img" in html
    for words in (*test.markdown, *test.caption, *test.warning):
        assert "<img" not in words.value.replace("\\<img", "")
        assert "![t](http" not in words.value


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =cmd|' /C calc'!A0"])
def test_no_cell_of_a_csv_starts_a_formula(value):
    table = pd.DataFrame({"name": [value], "=column": [-3.5]})
    lines = download.csv_bytes(table).decode().splitlines()
    assert lines[0].split(",")[1].startswith("'=")
    assert lines[1].lstrip('"').startswith("'")
    assert lines[1].endswith("-3.5")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id\n" + "a\n" * 2001, "more than 2,000 runs"),
        (",".join(f"c{i}" for i in range(501)) + "\n1\n", "501 columns"),
        ("id\n" + '"' + "a" * 200_000, "cannot be read as CSV"),
    ],
)
def test_a_table_of_runs_that_is_too_large_is_refused_before_it_is_read(content, says, monkeypatch):
    """Eight megabytes of lines or of columns held a core for a minute and more."""

    def read(*_):
        raise AssertionError("its rows were read")

    monkeypatch.setattr(evidence, "runs_of", read)
    with pytest.raises(PlannerError, match=says):
        evidence.own_pairs(content.encode(), "runs.csv")


def test_a_record_of_too_many_samples_is_refused_before_it_is_fitted(monkeypatch):
    def compared(*_):
        raise AssertionError("it was fitted")

    monkeypatch.setattr(calibrate, "compared", compared)
    record = json.loads((DATA / "cpu-record.json").read_text(encoding="utf-8"))
    record["samples"] *= calibrate.MOST_SAMPLES // len(record["samples"]) + 1
    del record["checksum"]
    record["checksum"] = hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
    with pytest.raises(PlannerError, match="the page fits at most 2,000"):
        calibrate.fitted(json.dumps(record).encode(), "record.json")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "nothing was pasted"),
        ("{", "not valid JSON"),
        ("[1]", "no object of fields"),
        ('{"model_type": "perceiver"}', "model_type"),
        ('{"model_type": "llama", "num_hidden_layers": 10000}', "at most"),
        ('{"model_type": "llama", "hidden_size": NaN}', "finite"),
        ('{"model_type": "llama", "hidden_size": "big"}', "hidden_size"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_a_bad_config_gets_a_helpful_message(content, says):
    with pytest.raises(PlannerError, match=says):
        inputs.model_fields(content, "mine")


@for_each("name", model_names())
def test_a_model_as_fields_is_the_same_model(name):
    model = load_model(name)
    rebuilt = planner.Model.build(inputs.fields_of(model), "model")
    assert rebuilt.model_dump(exclude={"provenance"}) == model.model_dump(exclude={"provenance"})


def test_the_upload_limit_is_the_one_that_the_pages_state():
    config = tomllib.loads((ROOT / "planner" / "web" / ".streamlit" / "config.toml").read_text())
    assert config["server"]["maxUploadSize"] == guard.UPLOAD_MB
    assert config["browser"]["gatherUsageStats"] is False


@pytest.mark.parametrize("field", sorted(guard.LOOKED_UP))
@pytest.mark.parametrize("path", ["/tmp/x.toml", "../x.toml", "x.TOML ", "a/b"])
def test_no_field_that_is_looked_up_takes_a_path(field: str, path: str) -> None:
    with pytest.raises(PlannerError, match="not opened from the web"):
        guard.require_safe({"table": {field: path}})


@pytest.mark.parametrize(
    "serving", [{"num_requests": 5_000_000}, {"chunked_prefill_tokens": 1}, {"prompt": 2**21}, {"max_batch": 10**9}]
)
def test_servings_that_would_hold_the_server_are_refused(serving: dict[str, int]) -> None:
    with pytest.raises(PlannerError, match="the web page accepts"):
        guard.require_safe({"serving": serving})
