"""Serving: how fast it answers, how much it carries, what a token costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, get_args

import pandas as pd
import streamlit as st

from planner.common.errors import PlannerError
from planner.common.units import GIB
from planner.layout_search.space import divisors
from planner.serving import FORMATS, Deployment, engine_names, load_engine, serve
from planner.serving.curves import curve, load_curve
from planner.serving.memory import KINDS
from planner.serving.spec import KvDtype
from planner.web import charts, controls, inputs, show, state
from planner.web.answers import arguments, key_of, remembered
from planner.web.download import serving_toml, take
from planner.web.figure import Figure
from planner.web.guard import markdown, require_safe, short_text
from planner.web.messages import said
from planner.web.text import t

SIMULATED = 3000
"""Requests of a simulation on the page; planner serve simulates more."""
RATES = [
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    3.0,
    4.0,
    5.0,
    6.0,
    8.0,
    10.0,
    12.0,
    15.0,
    20.0,
    25.0,
    30.0,
    40.0,
    50.0,
    75.0,
    100.0,
    150.0,
    200.0,
    300.0,
    500.0,
]
LENGTHS = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072]
QUANTILES = ("p50", "p95", "p99")
START: Mapping[str, Any] = {
    "engine": "vllm",
    "weights": "bf16",
    "prompt": 1024,
    "output": 256,
    "batch": 8,
    "requests_per_s": 2.0,
    "num_requests": SIMULATED,
}


def page() -> None:
    """The deployment of one configuration's model on its GPUs."""
    show.header(t("serving.title"), t("serving.lead"))
    scenario = state.current()
    case = min(int(st.session_state.get("case", 0)), len(scenario["cases"]) - 1)
    one = scenario["cases"][case]
    st.caption(t("serving.which", label=markdown(one["label"])))
    tables = one["tables"]
    if not tables.get("serving"):
        tables["serving"] = _start(tables)
    _controls(case, tables)
    try:
        found = deployment(tables)
    except PlannerError as error:
        show.problem(error)
        return
    st.html(card(found, one["label"]))
    for words in (*found.reasons, *found.warnings, *found.notes):
        st.caption(markdown(said(words), 400))
    charts.show(memory_figure(found, one["label"]), *(figures(found, tables) if found.fits else ()), key="serving")
    if not found.fits and found.nearest:
        st.info(t("serving.nearest", change=markdown(str(dict(found.nearest)), 300)))
    take(t("serving.save"), lambda: serving_toml(scenario["title"], one), "serving.toml", "application/toml", "serving.save")


def _start(tables: state.Tables) -> dict[str, Any]:
    """As many GPUs of one replica as the configuration has on a node."""
    node = inputs.node_of(str(tables.get("cluster", {}).get("node", "")))
    gpus = inputs.num_gpus(tables)
    return {**START, "tp": min(gpus, node.num_gpus if node else gpus)}


def _controls(case: int, tables: state.Tables) -> None:
    given, gpus = tables["serving"], inputs.num_gpus(tables)
    model = inputs.load_or_none(tables)
    left, middle, right = st.columns(3, gap="medium")
    cut = [d for d in divisors(gpus) if d <= 64]
    with left:
        controls.choice(
            case, "serving", "engine", t("serving.engine"), engine_names(), load_engine(given.get("engine", "vllm")).name
        )
        controls.choice(case, "serving", "weights", t("serving.weights"), FORMATS, given.get("weights", "bf16"))
        controls.choice(case, "serving", "kv_dtype", t("serving.kv_dtype"), get_args(KvDtype), given.get("kv_dtype", "auto"))
    with middle:
        controls.slider(case, "serving", "tp", t("in.tp"), cut, given.get("tp", 1))
        controls.slider(case, "serving", "pp", t("in.pp"), cut, given.get("pp", 1))
        experts = [d for d in divisors(model.num_experts) if d <= gpus] if model and model.num_experts else [1]
        controls.slider(case, "serving", "ep", t("in.ep"), experts, given.get("ep", 1))
        controls.slider(case, "serving", "batch", t("serving.batch"), [2**i for i in range(11)], given.get("batch", 8))
    with right:
        for name in ("prompt", "output"):
            if isinstance(given.get(name), int):
                controls.slider(case, "serving", name, t(f"serving.{name}"), LENGTHS, given[name])
        rate = float(given.get("requests_per_s", 2.0))
        controls.slider(case, "serving", "requests_per_s", t("serving.rate"), RATES, rate)


@remembered
def _serve(key: str, given: Mapping[str, Any], _arguments: Mapping[str, Any]) -> tuple[Deployment | None, str]:
    try:
        return serve(serving=given, **_arguments), ""
    except PlannerError as error:
        return None, str(error)


def deployment(tables: state.Tables) -> Deployment:
    """What the configuration's model on its GPUs does; PlannerError says what cannot be."""
    require_safe(tables["serving"], "serving")
    given = arguments(tables)
    some = {name: given[name] for name in ("model", "cluster", "price") if name in given}
    found, error = _serve(key_of(tables), tables["serving"], some)
    if found is None:
        raise PlannerError(error)
    assert isinstance(found, Deployment)
    return found


@remembered
def _curves(key: str, _found: Deployment) -> tuple[pd.DataFrame, pd.DataFrame | None, str]:
    try:
        return curve(_found), load_curve(_found), ""
    except PlannerError as error:
        return curve(_found), None, str(error)


def card(found: Deployment, label: str) -> str:
    """Headline figures as HTML."""
    sure = found.intervals
    kind = "show.fits" if found.certainty == "fits" else "show.probably_fits"
    words = t(kind, free=show.gib(found.limit_bytes - found.total_bytes), sure=show.chance(found.fit_probability))
    verdict = words if found.fits else t("serving.does_not_fit")
    rows = [
        ("serving-gib", t("show.memory"), show.gib(found.total_bytes), t("show.of_usable", usable=show.gib(found.limit_bytes))),
        ("ttft", t("serving.ttft"), show.duration(found.ttft_s), show.between(sure.get("ttft_s"), show.duration)),
        ("tpot", t("serving.tpot"), show.duration(found.tpot_s), show.between(sure.get("tpot_s"), show.duration)),
        (
            "rate",
            t("serving.throughput"),
            show.number(found.output_tokens_per_s),
            show.between(sure.get("output_tokens_per_s"), show.number),
        ),
        ("usd", t("serving.usd"), show.dollars(_usd(found)), show.between(sure.get("usd_per_million_tokens"), show.dollars)),
        ("most", t("serving.max_batch"), f"{found.max_batch:,}", t("serving.max_context", tokens=f"{found.max_context:,}")),
    ]
    if found.load is not None:
        rows.append(("load", t("serving.at_rate", rate=f"{found.load.requests_per_s:g}"), *_load_words(found)))
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd data-figure='{key}'>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for key, name, value, note in rows
    )
    colour = "no" if not found.fits else "yes" if found.certainty == "fits" else "perhaps"
    sub = " · ".join((short_text(found.model.name), found.cluster.name, f"{found.engine.name} {found.serving.weights}"))
    name = escape(short_text(label), quote=True)
    return (
        f"<section class='card wide' aria-label='{name}'><h2>{name}</h2><p class='sub'>{escape(sub)}</p>"
        f"<span class='verdict {colour}'>{escape(verdict)}</span><dl>{items}</dl></section>"
    )


def _usd(found: Deployment) -> float | None:
    return found.expense.usd_per_million_tokens if found.expense else None


def _load_words(found: Deployment) -> tuple[str, str]:
    load = found.load
    assert load is not None
    if not load.stable or load.e2e_s is None or load.ttft_s is None:
        return t("serving.unstable"), t("serving.capacity", rate=f"{load.capacity_requests_per_s:.3g}")
    first = ", ".join(f"{q} {show.duration(load.ttft_s[q])}" for q in QUANTILES)
    whole = ", ".join(f"{q} {show.duration(load.e2e_s[q])}" for q in QUANTILES)
    share = t("serving.utilised", share=f"{load.utilisation:.0%}")
    return share, t("serving.percentiles", first=first, whole=whole)


def memory_figure(found: Deployment, label: str) -> Figure:
    """Bytes of the fullest GPU by kind against the limit."""
    parts = [(t(f"serving.kind_{kind}"), found.memory_bytes[kind] / GIB) for kind in KINDS]
    title = t(
        "serving.memory_title",
        gib=show.gib(found.total_bytes),
        batch=found.serving.batch,
        weights=show.gib(found.memory_bytes["weights"]),
    )
    rows = [(label, parts, show.gib(found.total_bytes), found.limit_bytes / GIB)]
    return charts.stacked("serving-memory", "memory", title, t("compare.memory_alt"), rows)


def figures(found: Deployment, tables: state.Tables) -> Sequence[Figure]:
    """Latency against throughput, dollars against batch, percentiles against request rate."""
    # the curves do not depend on the rate asked for
    key = key_of({**tables, "serving": {k: v for k, v in tables["serving"].items() if k != "requests_per_s"}})
    table, load, error = _curves(key, found)
    shown = [_throughput(table)]
    if found.price is not None:
        shown.append(_dollars(table))
    if load is not None and len(load):
        shown.append(_percentiles(load, found))
    elif error:
        st.caption(markdown(said(error), 300))
    return shown


def _throughput(table: pd.DataFrame) -> Figure:
    rows = [
        {
            "x": row["output_tokens_per_s"],
            "y": row["tpot_s"] * 1e3,
            "group": t("serving.tpot"),
            "note": t("serving.batch_of", batch=int(row["batch"])),
        }
        for row in table.to_dict(orient="records")
    ]
    last = table.iloc[-1]
    title = t(
        "serving.curve_title",
        tokens=show.number(float(last["output_tokens_per_s"])),
        batch=int(last["batch"]),
        tpot=show.duration(float(last["tpot_s"])),
        alone=show.duration(float(table.iloc[0]["tpot_s"])),
    )
    return charts.lines("latency-throughput", title, t("serving.curve_alt"), rows, x="tokens_s_axis", y="tpot_axis")


def _dollars(table: pd.DataFrame) -> Figure:
    rows = [
        {
            "x": row["batch"],
            "y": row["usd_per_million_tokens"],
            "group": t("serving.usd"),
            "note": f"{row['output_tokens_per_s']:,.0f} token/s",
        }
        for row in table.to_dict(orient="records")
    ]
    best = table["usd_per_million_tokens"].min()
    title = t(
        "serving.usd_title", least=show.dollars(float(best)), alone=show.dollars(float(table.iloc[0]["usd_per_million_tokens"]))
    )
    return charts.lines(
        "dollars-batch", title, t("serving.usd_alt"), rows, x="batch_axis", y="usd_million_axis", logarithmic=True
    )


def _percentiles(load: pd.DataFrame, found: Deployment) -> Figure:
    rows = [
        {"x": row["requests_per_s"], "y": row[f"e2e_s_{q}"], "group": q, "note": f"TTFT {show.duration(row[f'ttft_s_{q}'])}"}
        for row in load[load["stable"]].to_dict(orient="records")
        for q in QUANTILES
    ]
    capacity = found.load.capacity_requests_per_s if found.load else float(load["requests_per_s"].max())
    title = t("serving.load_title", rate=f"{capacity:.3g}")
    return charts.lines("percentiles-rate", title, t("serving.load_alt"), rows, x="rate_axis", y="e2e_axis")
