"""The scenario on the page: in the session, in the link, in a file."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from planner.common import data
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.spec import Spec
from planner.lifecycle.bill import Costs
from planner.lifecycle.spec import Run
from planner.prices.price import own_price
from planner.scenarios.scenario import REQUIRED, TABLES, scenario_of
from planner.serving.spec import Serving
from planner.web.guard import MAX_CASES, require_safe, short_text, toml_tables
from planner.web.text import LANGUAGES
from planner.workload.job import Job
from planner.workload.layout import Layout
from planner.workload.resolve import as_model

Tables = dict[str, dict[str, Any]]
Scenario = dict[str, Any]
"""``{"title": text, "cases": [{"label": text, "tables": {...}, "own": [...]}, ...], "ask": {...}}``: plain values only.

Cases are what a scenario file holds; without a table ``layout`` the planner chooses it. ``own`` names what the user set by hand:
"label", "layout". ``ask`` holds the limits of the first page: days, usd, whether it asks for serving, whether for any GPU.
"""
OWN = ("label", "layout")
ASKED: Mapping[str, type] = {"days": float, "usd": float, "serve": bool, "choose": bool}

LONGEST_LINK = 16_000
MOST_BYTES = 200_000
EXAMPLES = data.SCENARIOS


FIRST = EXAMPLES / "chatlaw2-moe.toml"
"""What a first visitor sees: the mixture of four 7B experts against a dense 33B model on one server."""


def default_scenario() -> Scenario:
    """The shipped file ``FIRST``; without its title, since the page's follows what is changed."""
    return {**from_toml(FIRST.read_text(encoding="utf-8"), FIRST.name), "title": ""}


def checked(scenario: Mapping[str, Any]) -> Scenario:
    """A deep copy of plain values, refused with PlannerError where it is not a scenario that the web may ask."""
    cases = scenario.get("cases")
    if not isinstance(cases, list) or not 1 <= len(cases) <= MAX_CASES:
        raise PlannerError("scenario: the page compares one to {0} configurations.", MAX_CASES)
    found = []
    for i, case in enumerate(cases):
        tables = case.get("tables") if isinstance(case, Mapping) else None
        if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
            raise PlannerError("scenario: configuration {0} holds no tables.", i + 1)
        unknown = set(tables) - {*TABLES, "serving"}
        if unknown:
            raise PlannerError("scenario: unknown table {0!r}; known: {1}.", sorted(unknown)[0], ", ".join(TABLES))
        where = Message("configuration {0}", i + 1)
        require_safe(tables, where)
        _require_types(tables, where)
        try:
            plain = json.loads(json.dumps(tables, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise PlannerError("scenario: configuration {0} holds a value that no scenario has ({1}).", i + 1, error) from None
        one = {"label": short_text(case.get("label") or f"{i + 1}", 40), "tables": plain}
        own = case.get("own")
        if isinstance(own, list) and (kept := [name for name in OWN if name in own]):
            one["own"] = kept
        found.append(one)
    title = {"title": short_text(scenario.get("title") or "", 120), "cases": found}
    limits = _asked(scenario.get("ask"))
    return {**title, "ask": limits} if limits else title


def _asked(given: Any) -> dict[str, Any]:
    """The limits of the first page, those that it knows."""
    if not isinstance(given, Mapping):
        return {}
    require_safe(given, "ask")
    found: dict[str, Any] = {}
    for name, kind in ASKED.items():
        value = given.get(name)
        if isinstance(value, bool) == (kind is bool) and isinstance(value, int | float) and value > 0:
            found[name] = kind(value)
    return found


def _require_types(tables: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Raise PlannerError unless every table is one that the controls can show: right fields, right types."""
    for name in REQUIRED:
        if name not in tables:
            raise PlannerError("{0}: table {1} is missing; a scenario needs {2}.", where, name, ", ".join(REQUIRED))
    as_model(tables["model"])
    Job.build(dict(tables["job"]), Message("{0}: job", where))
    specs: Mapping[str, type[Spec]] = {"layout": Layout, "run": Run, "cost": Costs, "serving": Serving}
    for name, spec in specs.items():
        if tables.get(name):
            spec.build(dict(tables[name]), Message("{0}: {1}", where, name))
    for table, field in (("cluster", "node"), ("cluster", "accelerator"), ("framework", "name"), ("price", "term")):
        value = tables.get(table, {}).get(field, "")
        if not isinstance(value, str):
            raise PlannerError("{0}: {1}.{2} = {3}: must be a name.", where, table, field, short_text(value))
    for field in ("num_gpus", "num_nodes"):
        count = tables["cluster"].get(field, 1)
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise PlannerError("{0}: cluster.{1} = {2}: must be a whole number of at least 1.", where, field, short_text(count))
    usd = tables.get("price", {}).get("usd_per_gpu_hour")
    if usd is not None:
        own_price(usd)


def encode(scenario: Scenario) -> str:
    """The scenario as a word for a link."""
    text = json.dumps(scenario, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def decode(word: str) -> Scenario:
    """The scenario of a link; PlannerError when the link is damaged or asks what the web may not."""
    try:
        if len(word) > LONGEST_LINK:
            raise ValueError("too long")
        reader = zlib.decompressobj()
        data = reader.decompress(base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)), MOST_BYTES)
        if reader.unconsumed_tail:
            raise ValueError("too large")
        value = json.loads(data.decode())
        if not isinstance(value, dict):
            raise ValueError("no table")
    except (ValueError, binascii.Error, zlib.error, RecursionError) as error:
        raise PlannerError("link: its scenario cannot be read ({0}); copy the whole link again.", error) from None
    return checked(value)


def from_toml(text: str, name: str) -> Scenario:
    """The scenario of an uploaded file. PlannerError names file, field and value."""
    name = short_text(name)
    return from_tables(toml_tables(text, name), name)


def from_tables(tables: dict[str, Any], name: str) -> Scenario:
    """The scenario of a file's tables."""
    found = scenario_of(tables, Path(name))
    if len(found.cases) > MAX_CASES:
        raise PlannerError("{0}: holds {1} configurations; the page compares up to {2}.", name, len(found.cases), MAX_CASES)
    return checked({"title": found.title, "cases": [{"label": c.label, "tables": c.tables} for c in found.cases]})


def current() -> Scenario:
    """The scenario of this session: on the first call that of the link, else the default."""
    if "scenario" not in st.session_state:
        _start()
    found: Scenario = st.session_state["scenario"]
    return found


def _start() -> None:
    given = st.query_params.get("lang", "")
    if given in LANGUAGES:
        st.session_state["language"] = given
    st.session_state["revision"] = 0
    try:
        word = st.query_params.get("s")
        st.session_state["scenario"] = decode(word) if word else default_scenario()
    except PlannerError as error:
        st.session_state["scenario"] = default_scenario()
        st.session_state["refused_link"] = str(error)


def replace(scenario: Scenario) -> None:
    """Make it the session's scenario; controls start anew from its values."""
    st.session_state["scenario"] = checked(scenario)
    st.session_state["revision"] = int(st.session_state.get("revision", 0)) + 1


def change(case: int, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Change fields of one configuration (table -> field -> value; None takes a field out) and start the controls anew."""
    scenario = json.loads(json.dumps(current()))
    for table, fields in changes.items():
        put(scenario["cases"][case]["tables"], table, fields)
    if {"model", "cluster"} & set(changes):
        rename(scenario, case)
    if changes.get("layout"):
        claim(scenario, case, "layout")
    replace(scenario)


def claim(scenario: Scenario, case: int, name: str) -> None:
    """The user set it by hand: it stays."""
    one = scenario["cases"][case]
    one["own"] = [known for known in OWN if known == name or known in one.get("own", ())]


def disclaim(scenario: Scenario, case: int, name: str) -> None:
    """The planner may set it again."""
    one = scenario["cases"][case]
    one["own"] = [known for known in one.get("own", ()) if known != name]


def owns(case: Mapping[str, Any], name: str) -> bool:
    """Whether the user set it by hand."""
    return name in case.get("own", ())


def rename(scenario: Scenario, case: int) -> None:
    """Call a configuration what it is now, unless the user named it; a title that a file brought holds no longer.

    The model; the kind of training but pre-training; the GPUs where another configuration would be called the same.
    """
    scenario["title"] = ""
    one = scenario["cases"][case]
    if owns(one, "label"):
        return
    tables = one["tables"]
    model, job = tables.get("model", {}), tables.get("job", {})
    name = short_text(model.get("name") or model.get("base") or "model", 40)
    if (kind := job.get("kind", "pretrain")) != "pretrain":
        name = f"{name}, {kind}"
    others = [other["label"] for i, other in enumerate(scenario["cases"]) if i != case]
    if any(other == name or other.startswith(f"{name}, ") for other in others):
        cluster = tables.get("cluster", {})
        name = f"{name}, {cluster.get('num_gpus', '')} x {cluster.get('accelerator') or cluster.get('node', '')}"
    one["label"] = short_text(name, 40)


def title_of(scenario: Scenario) -> str:
    """What the scenario is called: its title, else its configurations."""
    return scenario["title"] or " / ".join(short_text(case["label"], 40) for case in scenario["cases"])


def settle_layout(case: int) -> None:
    """On another model, other GPUs or another kind of training the planner chooses the layout, unless the user set it."""
    one = current()["cases"][case]
    if not owns(one, "layout"):
        one["tables"].pop("layout", None)


def put(tables: Tables, table: str, fields: Mapping[str, Any]) -> None:
    """Write fields into a table of a configuration ("job", "job.adapter"); None takes a field out."""
    given = tables
    for part in table.split("."):
        given = given.setdefault(part, {})
    for name, value in fields.items():
        if value is None:
            given.pop(name, None)
        else:
            given[name] = value


def remember_in_link() -> None:
    """Write scenario and language into the address bar, where they changed."""
    word, chosen = encode(current()), st.session_state.get("language", "en")
    if st.query_params.get("s") != word:
        st.query_params["s"] = word
    if st.query_params.get("lang") != chosen:
        st.query_params["lang"] = chosen
