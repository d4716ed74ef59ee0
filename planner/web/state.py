"""The scenario on the page: in the session, in the link, in a file."""

from __future__ import annotations

import base64
import binascii
import json
import tomllib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from planner.common import data
from planner.common.errors import PlannerError
from planner.common.spec import Spec
from planner.lifecycle.bill import Costs
from planner.lifecycle.spec import Run
from planner.prices.price import own_price
from planner.scenarios.scenario import REQUIRED, TABLES, scenario_of
from planner.serving.spec import Serving
from planner.web.guard import MAX_CASES, require_safe, short_text
from planner.web.text import LANGUAGES
from planner.workload.job import Job
from planner.workload.layout import Layout
from planner.workload.resolve import as_model

Tables = dict[str, dict[str, Any]]
Scenario = dict[str, Any]
"""``{"title": text, "cases": [{"label": text, "tables": {...}}, ...]}``: what a scenario file holds, plain values only."""

LONGEST_LINK = 16_000
MOST_BYTES = 200_000
EXAMPLES = data.SCENARIOS


def default_scenario() -> Scenario:
    """What a first visitor sees: the mixture of four 7B experts against a dense 33B model on one server."""
    job = {
        "kind": "pretrain",
        "seq_len": 2048,
        "global_batch_size": 32,
        "num_samples": 1_200_000,
        "precision": "bf16",
        "optimizer": "adamw",
    }
    common = {"cluster": {"node": "dgx-a100-80gb", "num_gpus": 8}, "framework": {"name": "megatron-core"}, "job": job}
    mixture = {"tp": 2, "sequence_parallel": True, "ep": 4, "zero": 1, "micro_batch_size": 2}
    dense = {"tp": 4, "sequence_parallel": True, "pp": 2, "vpp": 6, "micro_batch_size": 1}
    cases = [("4x7B MoE", "chatlaw2-moe-4x7b", mixture), ("dense 33B", "dense-33b", dense)]
    return checked(
        {
            "title": "4x7B mixture of experts against a dense 33B",
            "cases": [
                {"label": label, "tables": {"model": {"name": model}, **common, "layout": layout, "price": {"term": "on-demand"}}}
                for label, model, layout in cases
            ],
        }
    )


def checked(scenario: Mapping[str, Any]) -> Scenario:
    """A deep copy of plain values, refused with PlannerError where it is not a scenario that the web may ask."""
    cases = scenario.get("cases")
    if not isinstance(cases, list) or not 1 <= len(cases) <= MAX_CASES:
        raise PlannerError(f"scenario: the page compares one to {MAX_CASES} configurations.")
    found = []
    for i, case in enumerate(cases):
        tables = case.get("tables") if isinstance(case, Mapping) else None
        if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
            raise PlannerError(f"scenario: configuration {i + 1} holds no tables.")
        unknown = set(tables) - {*TABLES, "serving"}
        if unknown:
            raise PlannerError(f"scenario: unknown table {sorted(unknown)[0]!r}; known: {', '.join(TABLES)}.")
        where = f"configuration {i + 1}"
        require_safe(tables, where)
        _require_types(tables, where)
        try:
            plain = json.loads(json.dumps(tables, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise PlannerError(f"scenario: configuration {i + 1} holds a value that no scenario has ({error}).") from None
        found.append({"label": short_text(case.get("label") or f"{i + 1}", 40), "tables": plain})
    return {"title": short_text(scenario.get("title") or "", 120), "cases": found}


def _require_types(tables: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Raise PlannerError unless every table is one that the controls can show: right fields, right types."""
    for name in REQUIRED:
        if name not in tables:
            raise PlannerError(f"{where}: table {name} is missing; a scenario needs {', '.join(REQUIRED)}.")
    as_model(tables["model"])
    Job.build(dict(tables["job"]), f"{where}: job")
    specs: Mapping[str, type[Spec]] = {"layout": Layout, "run": Run, "cost": Costs, "serving": Serving}
    for name, spec in specs.items():
        if tables.get(name):
            spec.build(dict(tables[name]), f"{where}: {name}")
    for table, field in (("cluster", "node"), ("cluster", "accelerator"), ("framework", "name"), ("price", "term")):
        value = tables.get(table, {}).get(field, "")
        if not isinstance(value, str):
            raise PlannerError(f"{where}: {table}.{field} = {short_text(value)}: must be a name.")
    for field in ("num_gpus", "num_nodes"):
        count = tables["cluster"].get(field, 1)
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise PlannerError(f"{where}: cluster.{field} = {short_text(count)}: must be a whole number of at least 1.")
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
        raise PlannerError(f"link: its scenario cannot be read ({error}); copy the whole link again.") from None
    return checked(value)


def from_toml(text: str, name: str) -> Scenario:
    """The scenario of an uploaded file. PlannerError names file, field and value."""
    name = short_text(name)
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PlannerError(f"{name}: not valid TOML: {error}.") from None
    require_safe(data, name)
    found = scenario_of(data, Path(name))
    if len(found.cases) > MAX_CASES:
        raise PlannerError(f"{name}: holds {len(found.cases)} configurations; the page compares up to {MAX_CASES}.")
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
    replace(scenario)


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
