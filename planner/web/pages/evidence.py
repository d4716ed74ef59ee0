"""Evidence: how far off the planner is, what it says of published claims, what it assumes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from planner.common import clock
from planner.common.errors import PlannerError
from planner.common.units import GIB
from planner.evidence.held_out import load_held_out
from planner.evidence.measured_runs import runs_of
from planner.evidence.pairs import errors_by, load_pairs, pairs
from planner.evidence.predictions import predict
from planner.prices.price import Price
from planner.reports.audit import claimed_text, interval_text, ordered, sentence, spoken, unit_words, what_text
from planner.uncertainty.effects import load_effects
from planner.web import charts, commands, show
from planner.web.answers import answers, claims, fingerprint, operators, remembered
from planner.web.download import csv_bytes, take
from planner.web.figure import Figure
from planner.web.guard import UPLOAD_MB, markdown, short_text
from planner.web.messages import label, priced, said
from planner.web.text import about, language, t

if TYPE_CHECKING:
    from planner.audit.verdicts import Reading

METRICS = ("step_time_s", "peak_allocated_bytes", "peak_reserved_bytes", "peak_device_bytes")
MOST_ROWS = 2000
MOST_COLUMNS = 500
"""Of a table of runs; one that gives every field has about a hundred."""
MOST_COLOURS = 7
SECTIONS = ("accuracy", "claims", "assumptions", "own", "operators")


def page() -> None:
    """Five sections, one at a time: only what is looked at is computed."""
    show.header(t("evidence.title"), t("evidence.lead"))
    key = f"evidence.section.{language()}"
    chosen = st.segmented_control(
        t("evidence.section"),
        SECTIONS,
        default=st.session_state.get("evidence.section", "accuracy"),
        format_func=lambda n: t(f"evidence.{n}"),
        key=key,
        required=True,
        label_visibility="collapsed",
    )
    st.session_state["evidence.section"] = chosen  # the same section in the other language
    sections = {"accuracy": _accuracy, "own": _own, "claims": _claims, "assumptions": _assumptions, "operators": _operators}
    sections[str(chosen)]()


@st.cache_resource(show_spinner=False)
def _shipped() -> pd.DataFrame:
    """The shipped pairs, one table for all sessions: nobody changes it."""
    return load_pairs()


def _accuracy() -> None:
    _bottom_line()
    st.markdown(t("evidence.accuracy_text"))
    _pairs_view(_shipped(), "shipped", lambda metric, by: _of_shipped(f"{metric}.{by}.{language()}", metric, by))
    with st.expander(t("evidence.intervals")):
        st.markdown(t("evidence.intervals_text"))
        measured = [
            {
                t("evidence.metric"): t(f"metric.{metric}"),
                t("evidence.framework"): row["framework"],
                t("evidence.chips"): row["curves"],
                t("evidence.rows"): row["runs"],
                t("evidence.sources"): row["sources"],
                t("evidence.models"): len(row["models"]),
            }
            for metric, effects in load_effects().items()
            for row in effects.measured
        ]
        st.dataframe(measured, hide_index=True, alt=t("evidence.intervals"))


def _bottom_line() -> None:
    """The verdict first: how far off steps and memory were of runs whose source the fit had not seen, as in the README."""
    held_out = load_held_out()
    parts = []
    for metric in ("step_time", "memory"):
        if held_out is None:
            return
        some = held_out[(held_out["metric"] == metric) & (held_out["set"] == "training")]
        errors = (np.exp(-some["residual"]) - 1.0).abs()
        median, most = f"{errors.median():.1%}", f"{errors.quantile(0.9):.0%}"
        parts.append(t("evidence.verdict_of", metric=t(f"metric.{metric}"), median=median, p90=most, rows=f"{len(some):,}"))
    words = "<br>".join(escape(f"{part[:1].upper()}{part[1:]}{t('ask.stop')}") for part in parts)
    st.html(f"<p class='answer'>{words}</p>")


def _pairs_view(table: pd.DataFrame, key: str, drawn: Callable[[str, str], tuple[Figure, list[dict[str, Any]]]]) -> None:
    """Predicted against measured with hover, and errors by group; ``drawn`` gives both of a metric and a column of groups."""
    have = [m for m in METRICS if (table["metric"] == m).any()]
    left, right = st.columns(2)
    metric = left.selectbox(
        t("evidence.metric"), have, format_func=lambda m: t(f"metric.{m}"), key=f"evidence.metric.{key}.{language()}"
    )
    by = right.selectbox(
        t("evidence.by"),
        ("source", "family", "accelerator"),
        format_func=lambda n: t(f"evidence.by_{n}"),
        key=f"evidence.by.{key}.{language()}",
    )
    figure, groups = drawn(metric, by)
    charts.show(figure, key=f"evidence.{key}")
    formats = {"median": "%.1f%%", "p90": "%.1f%%", "bias": "%+.1f%%", "inside": "%.0f%%"}
    config = {t(f"evidence.{name}"): st.column_config.NumberColumn(format=form) for name, form in formats.items()}
    st.dataframe(groups, hide_index=True, alt=t("evidence.groups_alt"), column_config=config)
    name = "predicted-against-measured.csv"
    take(t("evidence.take_pairs"), lambda: csv_bytes(table), name, "text/csv", f"evidence.take.{key}")


@remembered
def _of_shipped(key: str, _metric: str, _by: str) -> tuple[Figure, list[dict[str, Any]]]:
    return _figure_and_errors(_shipped(), _metric, _by)


def _figure_and_errors(table: pd.DataFrame, metric: str, by: str) -> tuple[Figure, list[dict[str, Any]]]:
    """The figure and the rows of the table below it."""
    groups = [
        {
            t(f"evidence.by_{by}"): g.group,
            t("evidence.metric"): t(f"metric.{g.metric}"),
            t("evidence.rows"): g.rows,
            t("evidence.median"): 100.0 * g.median,
            t("evidence.p90"): 100.0 * g.percentile_90,
            t("evidence.bias"): 100.0 * g.bias,
            t("evidence.inside"): 100.0 * g.inside / g.rows,
        }
        for g in errors_by(table, [by])
    ]
    return pairs_figure(table, metric, by), groups


def pairs_figure(table: pd.DataFrame, metric: str, by: str) -> Figure:
    """One metric of a table of pairs, coloured by its commonest groups."""
    some = table[table["metric"] == metric]
    unit, key = (1.0, "seconds") if metric == "step_time_s" else (GIB, "gib")
    common = list(some[by].value_counts().index[: MOST_COLOURS - 1])
    rows = [
        {
            "x": row["measured"] / unit,
            "y": row["predicted"] / unit,
            "low": row["measured"] / unit,
            "group": short_text(row[by], 60) if row[by] in common else t("evidence.others"),
            "id": row["id"],
            "model": row["model"],
            "accelerator": f"{row['num_gpus']} × {row['accelerator']}",
            "error": f"{row['predicted'] / row['measured'] - 1:+.1%}",
            "interval": f"{row['lower'] / unit:.3g} – {row['upper'] / unit:.3g}",
            "source": short_text(row["source_ref"], 160),
        }
        for row in some.to_dict(orient="records")
    ]
    overall = errors_by(some.assign(all=""), ["all"])[0]
    title = t(
        "evidence.pairs_title",
        rows=f"{overall.rows:,}",
        metric=t(f"metric.{metric}"),
        median=f"{overall.median:.1%}",
        inside=f"{overall.inside / overall.rows:.0%}",
    )
    return charts.scatter(
        f"predicted-{metric}",
        title,
        t("evidence.pairs_alt"),
        rows,
        x=f"measured_{key}",
        y=f"predicted_{key}",
        tips=("id", "model", "accelerator", "error", "interval", "source"),
        logarithmic=True,
        diagonal=True,
    )


def _own() -> None:
    """A user's own runs, predicted."""
    st.markdown(t("evidence.own_text", mb=UPLOAD_MB, rows=f"{MOST_ROWS:,}"))
    file = st.file_uploader(t("evidence.own_file"), type=["csv"], key="evidence.file")
    if file is None:
        return
    key = f"own.{fingerprint(file.getvalue())}"
    if key not in st.session_state:
        try:
            with st.spinner(t("evidence.predicting")):
                st.session_state[key] = own_pairs(file.getvalue(), short_text(file.name))
        except PlannerError as error:
            show.problem(error)
            return
    table, refused = st.session_state[key]
    if len(table):
        _pairs_view(table, "own", lambda metric, by: _figure_and_errors(table, metric, by))
    if refused:
        with st.expander(t("evidence.refused", count=len(refused)), expanded=not len(table)):
            for name, reason in refused[:200]:
                st.caption(markdown(about(name, said(reason)), 400))


def own_pairs(content: bytes, name: str) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """(measured against predicted, rows that are refused and why). PlannerError when the file is no table of runs."""
    try:
        text = content.decode("utf-8-sig")
        _require_few(text, name)
        runs, refused = runs_of(io.StringIO(text, newline=""), name)
    except (UnicodeDecodeError, csv.Error) as error:
        raise PlannerError("{0}: cannot be read as CSV ({1}).", name, short_text(error, 120)) from None
    predictions, _, impossible = predict(runs, ("id",))
    return pairs(runs, predictions), [(r.id, r.reason) for r in (*refused, *impossible)]


def _require_few(text: str, name: str) -> None:
    """Refuse a table that is too large before its rows are read as runs."""
    for row, cells in enumerate(csv.reader(io.StringIO(text, newline=""))):
        if row == 0 and len(cells) > MOST_COLUMNS:
            raise PlannerError("{0}: holds {1:,} columns; at most {2:,} are read.", name, len(cells), MOST_COLUMNS)
        if row > MOST_ROWS:
            raise PlannerError(
                "{0}: holds more than {1:,} runs, the most that the page predicts; use planner validate for all of them.",
                name,
                MOST_ROWS,
            )


def _claims() -> None:
    st.markdown(t("evidence.claims_text"))
    with st.spinner(t("evidence.judging")):
        readings = claims()
    found, speech = [j for r in readings for j in r.judgements], language()
    counts = {v: sum(j.verdict == v for j in found) for v in dict.fromkeys(j.verdict for j in found)}
    columns = st.columns(len(counts))
    for column, (verdict, count) in zip(columns, counts.items(), strict=True):
        column.metric(t(f"verdict.{verdict.replace(' ', '_')}"), count, border=True)
    for reading in readings:
        _article(reading, speech)
    rows = [
        {
            t("evidence.claim"): j.id,
            t("evidence.quote"): j.quote,
            t("evidence.says"): spoken(j.text, speech),
            t("evidence.what"): what_text(f, speech),
            t("evidence.claimed"): claimed_text(f, speech),
            t("evidence.ours"): interval_text(f.figure, speech),
            t("evidence.unit"): unit_words(f.unit, speech),
            t("evidence.verdict"): t(f"verdict.{f.verdict.replace(' ', '_')}"),
            t("evidence.why"): sentence(f, speech),
            t("evidence.instead"): spoken(j.instead, speech),
            t("evidence.do"): j.do,
            t("evidence.stake"): spoken(j.stake, speech),
            t("evidence.source"): f"{r.article.file}{t('show.comma')}{j.heading}",
        }
        for r in readings
        for j in ordered(r)
        for f in j.findings
    ]
    table = pd.DataFrame(rows)
    st.dataframe(table, hide_index=True, height=520, row_height=64, alt=t("evidence.claims"))
    take(t("download.table_csv"), lambda: csv_bytes(table), "claims.csv", "text/csv", "evidence.claims.csv")


def _article(reading: Reading, speech: str) -> None:
    """One article: what to rely on, the setting of our figures, and how its open points are read."""
    article, chinese = reading.article, speech == "zh"
    with st.expander(article.title if chinese else article.title_en):
        for name, lines in (
            ("short", article.summary_zh if chinese else article.summary),
            ("setting", article.setting_zh if chinese else article.setting),
            ("reading", reading.words(speech)),
        ):
            if lines:
                st.markdown(f"**{t(f'evidence.{name}')}**\n\n" + "\n".join(f"- {markdown(line, 1000)}" for line in lines))


def _assumptions() -> None:
    """What nobody measured behind the answers on the other pages, and prices that are old."""
    st.markdown(t("evidence.assumptions_text"))
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in answers():
        if one.plan is None:
            continue
        _price_age(one.label, one.plan.price)
        sure = one.plan.intervals["step_time_s"]
        st.caption(
            t("evidence.sure", label=markdown(one.label), kind=t(f"kind_of.{sure.provenance}"), why=markdown(said(sure.why), 300))
        )
        for a in one.plan.assumptions:
            value = f"{a.value:.4g}" if isinstance(a.value, float) else str(a.value)
            row = rows.setdefault(
                (a.where, a.field),
                {
                    t("evidence.where"): said(a.where),
                    t("evidence.field"): a.field,
                    t("evidence.value"): value,
                    t("evidence.source"): said(a.source),
                },
            )
            row[t("evidence.used_by")] = t("show.comma").join(
                dict.fromkeys([*filter(None, [row.get(t("evidence.used_by"))]), short_text(one.label)])
            )
    if rows:
        st.html(f"<h2 class='finding'>{t('evidence.assumed', count=len(rows))}</h2>")
        st.dataframe(list(rows.values()), hide_index=True, height=480, alt=t("evidence.assumptions"))
    _elsewhere()


def _elsewhere() -> None:
    """What only the command line does."""
    with st.expander(t("evidence.elsewhere")):
        for name, command in commands.ELSEWHERE.items():
            st.markdown(f"`{command}`: {t(f'evidence.command_{name}')}")
        for name, one in commands.OPTIONS_ELSEWHERE.items():
            st.markdown(f"`{one.command}`: {t(f'evidence.option_{name}')}")


def _price_age(label: str, price: Price | None) -> None:
    """Whether the price behind an answer is old."""
    today, name = clock.today(), markdown(label)
    if price is not None and price.is_stale(today):
        words = t("evidence.stale", label=name, quote=markdown(priced(price)), days=f"{price.age_days(today):,}")
        st.warning(words, icon=":material/schedule:")
    elif price is not None and price.may_be_stale(today):
        words = t("evidence.may_be_stale", label=name, quote=markdown(priced(price)), date=price.date)
        st.warning(words, icon=":material/schedule:")
    elif price is not None and price.provider:
        st.success(t("evidence.fresh", label=name, quote=markdown(priced(price))), icon=":material/schedule:")


def _operators() -> None:
    """The table of operators of one configuration."""
    known = [one for one in answers() if one.plan is not None]
    if not known:
        st.info(t("compare.nothing"))
        return
    place = (
        st.selectbox(t("in.case"), range(len(known)), format_func=lambda i: short_text(known[i].label), key="evidence.case") or 0
    )
    one = known[min(place, len(known) - 1)]
    st.markdown(t("evidence.operators_text", layout=markdown(one.known.layout.label)))
    rows = operators(one.tables, one.known)
    table = pd.DataFrame(rows)
    numbers = {"flops": 1e9, "bytes_moved": 1e6, "saved_bytes": 1e6, "workspace_bytes": 1e6, "communication_bytes": 1e6}
    names = ("block", "name", "phase", "repeats", *numbers, "parameters", "kernels", "collective", "group")
    said_of = {name: [label(row[name]) for row in rows] for name in ("block", "name", "phase")}  # pandas keeps no messages
    shown = table[list(names)].assign(**{name: table[name] / unit for name, unit in numbers.items()}, **said_of)
    shown = shown[
        (table[["flops", "bytes_moved", "saved_bytes", "workspace_bytes", "parameters", "communication_bytes"]] != 0).any(axis=1)
    ]
    shown.columns = [t(f"operator.{name}") for name in names]
    config = {t(f"operator.{name}"): st.column_config.NumberColumn(format="%.3f") for name in numbers}
    st.dataframe(shown, hide_index=True, height=520, alt=t("evidence.operators"), column_config=config)
    take(t("download.table_csv"), lambda: csv_bytes(table), "operators.csv", "text/csv", "evidence.operators.csv")
