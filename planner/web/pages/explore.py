"""Explore: one field over many values, and the largest value that fits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from planner.common.errors import PlannerError
from planner.common.units import DAY_S, GIB
from planner.reports.text import count
from planner.scenarios.scenario import Case, Scenario, asked
from planner.studies.affordable import Affordable, Means
from planner.studies.limit import FIELDS, Limit
from planner.studies.sweep import Variation, as_sweep, crossovers, frameworks_differ, parse_variation
from planner.web import background, charts, errands, show, state, worker
from planner.web.answers import calibrated, key_of
from planner.web.controls import number_field
from planner.web.download import csv_bytes, take
from planner.web.figure import Figure
from planner.web.guard import markdown, require_safe, short_text
from planner.web.messages import said
from planner.web.text import about, language, t, three

MOST_POINTS = 400
USUAL: Mapping[str, tuple[str, str]] = {
    "job.seq_len": ("seq_len", "1024,2048,4096,8192,16384"),
    "job.global_batch_size": ("batch", "8,16,32,64,128,256"),
    "layout.micro_batch_size": ("micro_batch", "1,2,4,8"),
    "layout.tp": ("tp", "1,2,4,8"),
    "cluster.num_gpus": ("gpus", "4,8,16,32"),
    "price.usd_per_gpu_hour": ("usd", "1:4:7"),
    "model.num_layers": ("layers", "16,24,32,40"),
    "accelerator.memory_bytes": ("memory", "40e9,80e9,141e9"),
    "link.nvlink.bytes_per_s": ("nvlink", "1e11:9e11:5"),
}
"""Fields that are often varied: the words of each, and values to begin with."""
TOKENS = "job.num_tokens"
"""Beside the fields that memory limits: what money and time limit."""
MEASURES: Mapping[str, tuple[str, float]] = {
    "step_time_s": ("step_axis", 1.0),
    "tokens_per_s": ("tokens_axis", 1.0),
    "mfu": ("mfu_axis", 1.0),
    "peak_total_bytes": ("memory_axis", GIB),
    "run_s": ("run_axis", DAY_S),
    "cost_usd": ("cost_axis", 1.0),
}


def page() -> None:
    """Sweep above, limit below."""
    show.header(t("explore.title"), t("explore.lead"))
    scenario = state.current()
    _sweep(scenario)
    st.divider()
    case = min(int(st.session_state.get("case", 0)), len(scenario["cases"]) - 1)
    _limit(scenario["cases"][case])


def _in_background(key: str, asked: tuple[Any, ...], shown: Callable[[Any], None], button: str) -> None:
    """Ask when the button is pressed; then the answer, as long as the question is the same."""
    task = background.known(key)
    if st.button(t(button), key=button, type="primary", disabled=task is not None and not task.finished):
        background.forget(key)
        task = background.ask(key, lambda task: worker.work(task, *asked))
    if task is None:
        return
    if not task.finished:
        _wait(key)
    elif task.error:
        show.problem(task.error)
    elif task.result is not None:
        shown(task.result)


@st.fragment(run_every=0.5)
def _wait(key: str) -> None:
    task = background.known(key)
    if task is None or task.finished:
        st.rerun(scope="app")
        return
    before, share = background.place(task), min(task.done / max(task.size, 1), 1.0)
    words = t("explore.progress", done=f"{task.done:,}", size=f"{task.size:,}") if task.size > 1 else t("explore.working")
    st.progress(share, text=t("search.waiting", place=before) if before else words)


def _sweep(scenario: state.Scenario) -> None:
    show.section(t("explore.sweep"))
    left, right = st.columns(2)
    field = left.selectbox(
        t("explore.field"),
        list(USUAL),
        key=f"explore.field.{language()}",
        format_func=_choice,
        accept_new_options=True,
        help=t("explore.field_help"),
    )
    _, usual = USUAL.get(field, ("", ""))
    values = right.text_input(
        t("explore.values"), usual, key=f"explore.values.{field}", max_chars=200, help=t("explore.values_help")
    )
    measure = st.selectbox(t("explore.measure"), list(MEASURES), key=f"explore.measure.{language()}", format_func=_measure)
    try:
        variation = parse_variation(f"{short_text(field, 60)}={values}")
        question = sweep_of(scenario, variation)
    except PlannerError as error:
        show.problem(error)
        return
    key = f"sweep {variation} {json.dumps([[case['label'], key_of(case['tables'])] for case in scenario['cases']])}"
    _in_background(key, (errands.sweep, question), lambda table: _swept(table, variation.key, measure), "explore.go")


def field_words(field: str) -> str:
    """A field for people; one that was typed, as it was typed."""
    return t(f"explore.field_{USUAL[field][0]}") if field in USUAL else short_text(field, 60)


def _choice(field: str) -> str:
    words = field_words(field)
    return words if field not in USUAL else words[0].upper() + words[1:]


def _measure(name: str) -> str:
    return t(f"chart.{MEASURES[name][0]}")


def sweep_of(scenario: state.Scenario, variation: Variation) -> Any:
    """The checked question; PlannerError where it holds what the web must not ask, or too many points."""
    table, _, name = variation.key.partition(".")
    for value in variation.values:
        require_safe({table: {name.rpartition(".")[2]: value}}, "sweep")
    cases = tuple(Case(label=case["label"], tables=_plain(case["tables"]), where=case["label"]) for case in scenario["cases"])
    question = as_sweep(Scenario(title="", cases=cases), [variation])
    if question.num_points > MOST_POINTS:
        raise PlannerError(
            "the sweep holds {0:,} points; the page takes {1}; use planner sweep for all of them.",
            question.num_points,
            MOST_POINTS,
        )
    return question


def _plain(tables: state.Tables) -> dict[str, dict[str, Any]]:
    for table in ("cluster", "framework"):
        if any(str(value) in calibrated() for value in tables.get(table, {}).values()):
            raise PlannerError("explore: a calibrated profile has no file here; save the scenario and use planner sweep.")
    return {name: dict(table) for name, table in tables.items() if name != "serving"}


def _swept(table: pd.DataFrame, key: str, measure: str) -> None:
    axis, _ = MEASURES[measure]
    figure = sweep_figure(table, key, measure)
    if figure.rows:
        charts.show(figure, key="explore")
    else:
        st.info(t("explore.nothing", axis=t(f"chart.{axis}")))
    for note in table.attrs["notes"]:
        st.caption(markdown(f"{said(note)}{t('explore.more_of_layout', tab=t('in.layout'))}", 300))
    for turn in crossovers(table, key) if len(table) and pd.api.types.is_numeric_dtype(table[key]) else ():
        st.caption(markdown(said(turn), 300))
    take(t("download.table_csv"), lambda: csv_bytes(table), "sweep.csv", "text/csv", "explore.csv")


def sweep_figure(table: pd.DataFrame, key: str, measure: str) -> Figure:
    """One line a configuration, and a framework where they differ; points that do not fit are left out of time and money."""
    axis, unit = MEASURES[measure]
    several = frameworks_differ(table)
    rows = [
        {
            "x": row[key],
            "y": row[measure] / unit,
            "group": show.parts(str(row["case"]), row["framework"]) if several else str(row["case"]),
            "note": t("explore.fits") if row["fits"] else t("explore.no_fit"),
        }
        for row in table.to_dict(orient="records")
        if row[measure] is not None and row[measure] == row[measure] and (row["fits"] or measure == "peak_total_bytes")
    ]
    numeric = all(isinstance(row["x"], int | float) for row in rows)
    what = t(f"chart.{axis}")
    words = field_words(key)
    title = t("explore.swept", axis=what[0].upper() + what[1:], field=words, found=_ends(rows))
    return charts.swept("sweep", title, t("explore.sweep_alt"), rows, x=words, y=axis, numeric=numeric)


def _ends(rows: Sequence[Mapping[str, Any]]) -> str:
    """What each configuration begins and ends with."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault(row["group"], []).append(row)
    found = []
    for name, points in lines.items():
        first, last = points[0], points[-1]
        ends = {"first": three(first["y"]), "start": _value(first["x"]), "last": three(last["y"]), "end": _value(last["x"])}
        found.append(t("explore.ends", name=short_text(name, 40), **ends))
    return show.parts(*found)


def _value(value: Any) -> str:
    """A value of a field as the axis has it.

    >>> _value(16384), _value(4e10), _value(1.5), _value("fsdp")
    ('16,384', '40,000,000,000', '1.5', 'fsdp')
    """
    return f"{value:,.12g}" if isinstance(value, int | float) else str(value)


def _limit(one: Mapping[str, Any]) -> None:
    show.section(t("explore.limit"))
    st.caption(t("memory.which", label=markdown(one["label"])))
    fields = [*(name for name in FIELDS if name != "layout.micro_batch_size" or one["tables"].get("layout")), TOKENS]
    field = st.selectbox(
        t("explore.limit_field"),
        fields,
        key=f"explore.limit.{language()}",
        format_func=lambda n: t(f"explore.limit_{n.replace('.', '_')}"),
    )
    try:
        tables = _plain(one["tables"])
    except PlannerError as error:
        show.problem(error)
        return
    if field == TOKENS:
        _affordable(Case(label=one["label"], tables=tables, where=one["label"]), key_of(one["tables"]))
        return
    key = f"limit {field} {key_of(one['tables'])}"
    _in_background(key, (errands.limit, asked(tables), field), _limited, "explore.find")


def _affordable(case: Case, question: str) -> None:
    """The most tokens within a deadline and a budget, with interruptions and as published runs went."""
    limits = state.current().get("ask", {})
    days, usd = (
        number_field(
            t(f"search.{name}"),
            limits.get(field),
            least=0.0,
            step=0.01,
            place=column,
            key=f"explore.{field}",
            placeholder=t("ask.no_limit"),
        )
        for column, name, field in zip(st.columns(2), ("deadline", "budget"), ("days", "usd"), strict=True)
    )
    if not days and not usd:
        st.caption(t("explore.means"))
        return
    means = Means(usd=usd or None, seconds=days * DAY_S if days else None)
    _in_background(f"afford {means} {question}", (errands.afford, case, means), _afforded, "explore.find")


def _afforded(found: Affordable) -> None:
    run, bill = found.outlook.run, found.outlook.bill
    st.success(t("explore.afforded", tokens=count(found.num_tokens)))
    if run is not None:
        time, usd = show.duration(run.budget_s.expected), show.dollars(None if bill is None else bill.budget_usd.expected)
        gpus = f"{found.plan.num_gpus} x {found.plan.cluster.accelerator.name}"
        st.caption(markdown(t("explore.afforded_for", time=time, usd=usd, gpus=gpus), 300))


def _limited(found: Limit) -> None:
    value, following = (f"{n:,}" if isinstance(n, int) else short_text(str(n)) for n in (found.value, found.next_value))
    st.success(t("explore.limited", field=t(f"explore.limit_{found.field.replace('.', '_')}"), value=markdown(value)))
    plan = found.plan
    words = t(
        "explore.limit_plan", layout=plan.layout.label, need=show.gib(plan.peak_total_bytes), room=show.gib(plan.usable_bytes)
    )
    st.caption(markdown(words, 300))
    if found.next_value is not None:
        st.caption(markdown(about(following, said(found.reason)), 400))
