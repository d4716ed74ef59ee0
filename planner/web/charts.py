"""Figures: a table of what is drawn, an Altair specification made once for each language, a title that says the finding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from planner.reports.plots import COLOURS
from planner.web.figure import Figure, Spec
from planner.web.guard import short_text
from planner.web.text import language, say

BAR = 34
"""Height of a bar, pixels."""
FITS, TIGHT, OVER, IMPOSSIBLE = "#0072B2", "#E69F00", "#D55E00", "#c8cdd2"
INK = "#76828e"
"""Of labels and lines: readable on the light and on the dark page."""
CASES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
"""Of configurations, from Okabe and Ito's palette."""
COLUMNS: Any = alt.ExprRef("width < 450 ? 2 : 4")
"""Of a legend: fewer on a phone."""
NARROW: Any = alt.ExprRef("width < 450 ? 105 : 190")
"""Pixels of a legend's text."""


def show(*figures: Figure, key: str, select: str | None = None) -> Any:
    """Draw figures, each under its title, and one button behind which they can be taken along.

    With ``select`` a click on a mark of the last one is answered.
    """
    from planner.web.download import figure_buttons

    event = None
    for figure in figures:
        st.html(f"<h3 class='finding'>{escape(figure.title)}</h3>")
        more: dict[str, Any] = {"on_select": "rerun", "selection_mode": select} if select else {}
        event = st.vega_lite_chart(figure.data, figure.spec, key=f"{key}.{figure.name}", width="stretch", alt=figure.alt, **more)
    figure_buttons(figures, key)
    return event


def _spec(chart: Any, height: int | None = None) -> Spec:
    """The specification without data, sized to its place."""
    found: Spec = json.loads(
        chart.properties(width="container", **({"height": height} if height else {})).to_json(validate=False)
    )
    for name in ("data", "datasets", "$schema", "config"):
        found.pop(name, None)
    found["autosize"] = {"type": "fit-x", "contains": "padding"}
    return found


def _stacked(names: Sequence[str], axis: str, legend: str, capacity: str | None) -> Any:
    """Horizontal stacked bars by ``part``, a tick at ``capacity``, the total written at the end."""
    base = alt.Chart(pd.DataFrame()).encode(
        y=alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=130, labelFontSize=12)),
    )
    bars = base.mark_bar(size=BAR - 10).encode(
        x=alt.X("value:Q", title=axis, stack="zero"),
        color=alt.Color(
            "part:N",
            title=None,
            sort=list(names),
            scale=alt.Scale(domain=list(names), range=list(COLOURS[: len(names)])),
            legend=alt.Legend(orient="bottom", columns=COLUMNS, labelLimit=NARROW, symbolType="square"),
        ),
        order=alt.Order("order:Q"),
        tooltip=[alt.Tooltip("label:N", title=" "), alt.Tooltip("part:N", title=legend), alt.Tooltip("shown:N", title=axis)],
    )
    inside = base.mark_text(fontSize=11).encode(
        color=alt.condition("datum.order === 0", alt.value("white"), alt.value("black")),
        x=alt.X("middle:Q", title=axis),
        text="inside:N",
        detail="part:N",
    )
    total = base.mark_text(align="left", dx=7, fontSize=12, fontWeight="bold", color=INK).encode(
        x=alt.X("max(right):Q", title=axis), text="max(total):N"
    )
    room = base.mark_point(opacity=0).encode(x=alt.X("max(edge):Q", title=axis), tooltip=alt.value(None))
    layers = [room, bars, inside, total]
    if capacity:
        line = base.mark_tick(thickness=3, size=BAR + 2, color=OVER).encode(
            x=alt.X("max(capacity):Q", title=axis), tooltip=[alt.Tooltip("max(capacity):Q", title=capacity, format=".1f")]
        )
        word = base.mark_text(align="right", dx=-5, dy=-BAR / 2 - 1, fontSize=11, color=OVER).encode(
            x=alt.X("max(capacity):Q", title=axis), text="max(capacity_text):N"
        )
        layers += [line, word]
    return alt.layer(*layers)


@lru_cache(maxsize=256)
def stacked_spec(lang: str, kind: str, names: tuple[str, ...], rows: int) -> Spec:
    """Bars of GiB ("memory") or of seconds ("step")."""
    axis, legend = say(lang, f"chart.{kind}_axis"), say(lang, f"chart.{kind}_legend")
    chart = _stacked(names, axis, legend, say(lang, "chart.capacity") if kind == "memory" else None)
    return _spec(chart, rows * (BAR + 16))


def stacked(
    name: str, kind: str, title: str, description: str, rows: Sequence[tuple[str, Sequence[tuple[str, float]], str, float | None]]
) -> Figure:
    """``rows``: label, (part, value) in order, text of the total, capacity. Labels are told apart where two are equal."""
    data: list[dict[str, Any]] = []
    widest = max([sum(v for _, v in parts) for _, parts, _, _ in rows] + [c or 0.0 for *_, c in rows])
    names = list(dict.fromkeys(p for _, parts, _, _ in rows for p, _ in parts))
    for label, (_, parts, total, capacity) in zip(unlike([row[0] for row in rows]), rows, strict=True):
        end = 0.0
        room = sum(v for _, v in parts)
        for part, value in parts:
            if value > 0:
                data.append(
                    {
                        "label": label,
                        "part": part,
                        "value": value,
                        "order": names.index(part),
                        "middle": end + value / 2,
                        "shown": f"{value:.4g}",
                        "inside": f"{value:.3g}" if value > 0.055 * widest else "",
                        "edge": widest * 1.22,
                        "right": _beside(room, capacity, widest),
                        "total": total,
                        "capacity": capacity,
                        "capacity_text": None if capacity is None else f"{capacity:.1f}",
                    }
                )
            end += value
    spec = stacked_spec(language(), kind, tuple(names), len(rows))
    return Figure(name=name, title=title, alt=description, spec=spec, rows=data)


def _beside(end: float, capacity: float | None, widest: float) -> float:
    """Where the total is written: at the bar's end, or past the mark of the capacity where that is near."""
    return max(end, capacity) if capacity is not None and capacity - end < 0.2 * widest else end


def unlike(labels: Sequence[str]) -> list[str]:
    """Labels with a number where the same comes again.

    >>> unlike(["a", "a", "b"])
    ['a', 'a (2)', 'b']
    """
    found: list[str] = []
    for label in (short_text(label, 40) for label in labels):
        count = sum(other == label or other.startswith(f"{label} (") for other in found)
        found.append(label if not count else f"{label} ({count + 1})")
    return found


@lru_cache(maxsize=64)
def cost_time_spec(lang: str, labels: tuple[str, ...], priced: bool) -> Spec:
    """Dollars (or GPU-hours) against days, one line for each configuration over its GPU counts."""
    days, cost = say(lang, "chart.days_axis"), say(lang, "chart.usd_axis" if priced else "chart.gpu_hours_axis")
    colour = alt.Color(
        "label:N",
        title=None,
        sort=list(labels),
        scale=alt.Scale(domain=list(labels), range=list(CASES[: len(labels)])),
        legend=alt.Legend(orient="bottom", labelLimit=240),
    )
    base = alt.Chart(pd.DataFrame()).encode(
        x=alt.X(
            "days:Q", title=days, scale=alt.Scale(type="log", nice=False, padding=28), axis=alt.Axis(format=",~r", tickCount=6)
        ),
        y=alt.Y("cost:Q", title=cost, scale=alt.Scale(zero=False, padding=22), axis=alt.Axis(format="~s")),
        color=colour,
    )
    line = base.mark_line(strokeWidth=2, opacity=0.6).encode(order="gpus:Q", detail="label:N")
    span = base.mark_rule(strokeWidth=2).encode(y=alt.Y("lower:Q", title=cost), y2="upper:Q").transform_filter("datum.now")
    wide = (
        base.mark_rule(strokeWidth=2).encode(x=alt.X("days_lower:Q", title=days), x2="days_upper:Q").transform_filter("datum.now")
    )
    tips = [
        alt.Tooltip("label:N", title=" "),
        alt.Tooltip("gpus:Q", title="GPUs"),
        alt.Tooltip("days:Q", title=days, format=".3g"),
        alt.Tooltip("cost:Q", title=cost, format=",.4g"),
    ]
    points = base.mark_point(filled=True, opacity=1).encode(
        size=alt.Size("now:N", legend=None, scale=alt.Scale(domain=[False, True], range=[50, 170])), tooltip=tips
    )
    names = base.mark_text(dy=-14, dx=14, fontSize=11).encode(text="gpus_text:N", color=alt.value(INK))
    return _spec(alt.layer(line, span, wide, points, names), 300)


def cost_time(title: str, description: str, rows: Sequence[dict[str, Any]], priced: bool) -> Figure:
    """``rows``: label, gpus, days, cost, now, and the interval of the present ones."""
    labels = tuple(dict.fromkeys(row["label"] for row in rows))
    return Figure(name="cost-time", title=title, alt=description, spec=cost_time_spec(language(), labels, priced), rows=rows)


@lru_cache(maxsize=64)
def fit_map_spec(lang: str, rows: int) -> Spec:
    """Micro-batch against sequence length, coloured by headroom, the number in every cell."""
    headroom = say(lang, "chart.headroom")
    base = alt.Chart(pd.DataFrame()).encode(
        x=alt.X("micro:O", title=say(lang, "chart.micro_axis"), axis=alt.Axis(labelAngle=0)),
        y=alt.Y("seq:O", title=say(lang, "chart.seq_axis"), sort="descending"),
    )
    states = [say(lang, f"chart.{state}") for state in ("fits", "tight", "over", "impossible")]
    colours = alt.Scale(domain=states, range=[FITS, TIGHT, OVER, IMPOSSIBLE])
    tips = [
        alt.Tooltip("micro:O", title=say(lang, "chart.micro_axis")),
        alt.Tooltip("seq:O", title=say(lang, "chart.seq_axis")),
        alt.Tooltip("headroom:Q", title=headroom, format=".1f"),
        alt.Tooltip("step:N", title=say(lang, "chart.step_axis")),
        alt.Tooltip("reason:N", title=say(lang, "chart.reason")),
    ]
    cells = base.mark_rect(stroke="white", strokeWidth=1).encode(
        color=alt.Color(
            "state:N",
            scale=colours,
            legend=alt.Legend(orient="bottom", labelLimit=NARROW, columns=COLUMNS, title=None),
        ),
        opacity=alt.Opacity("strength:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.45, 1])),
        tooltip=tips,
    )
    text = base.mark_text(fontSize=11, fontWeight="bold").encode(
        text="cell:N",
        color=alt.condition("datum.dark", alt.value("white"), alt.value("black")),
        tooltip=tips,
    )
    own = base.mark_rect(fill=None, stroke="#111111", strokeWidth=3).transform_filter("datum.own")
    return _spec(alt.layer(cells, text, own), rows * 36)


def fit_map(title: str, description: str, rows: Sequence[dict[str, Any]]) -> Figure:
    """``rows``: micro, seq, headroom (GiB), state, strength, cell, dark, step, reason, own."""
    lengths = len({row["seq"] for row in rows})
    return Figure(name="fit-map", title=title, alt=description, spec=fit_map_spec(language(), lengths), rows=rows)


@lru_cache(maxsize=64)
def scatter_spec(
    lang: str, x: str, y: str, logarithmic: bool, colours: tuple[str, ...], tips: tuple[str, ...], select: bool, diagonal: bool
) -> Spec:
    """Points of columns ``x`` and ``y`` by ``group``; ``tips`` are columns shown on hover; ``diagonal`` draws y = x."""
    kind = "log" if logarithmic else "linear"
    scale = {"type": kind, "nice": False, "padding": 20} if logarithmic else {"zero": False, "padding": 20}
    base = alt.Chart(pd.DataFrame()).encode(
        x=alt.X("x:Q", title=say(lang, f"chart.{x}"), scale=alt.Scale(**scale), axis=alt.Axis(format=",~r", tickCount=6)),
        y=alt.Y("y:Q", title=say(lang, f"chart.{y}"), scale=alt.Scale(**scale), axis=alt.Axis(format=",~r", tickCount=6)),
    )
    points = base.mark_point(filled=True, size=60, opacity=0.8).encode(
        color=alt.Color(
            "group:N",
            title=None,
            sort=list(colours),
            scale=alt.Scale(domain=list(colours), range=[COLOURS[i % len(COLOURS)] for i in range(len(colours))]),
            legend=alt.Legend(orient="bottom", columns=COLUMNS, labelLimit=NARROW, symbolLimit=24),
        ),
        tooltip=[alt.Tooltip(f"{tip}:N", title=say(lang, f"chart.tip_{tip}")) for tip in tips],
    )
    layers = []
    if diagonal:
        layers.append(
            base.mark_line(color=INK, strokeDash=[5, 4], strokeWidth=1.5).encode(
                x=alt.X("low:Q", title=say(lang, f"chart.{x}")), y=alt.Y("low:Q", title=say(lang, f"chart.{y}"))
            )
        )
    if select:
        chosen = alt.selection_point(name="chosen", fields=["rank"], on="click")
        points = points.add_params(chosen).encode(
            size=alt.condition(chosen, alt.value(150), alt.value(55)),
            opacity=alt.condition(chosen, alt.value(1.0), alt.value(0.45)),
        )
        front = (
            base.mark_line(color=INK, strokeWidth=1.5, interpolate="step-after")
            .encode(order="x:Q")
            .transform_filter("datum.front")
        )
        layers.append(front)
    return _spec(alt.layer(*layers, points), 360)


def scatter(
    name: str,
    title: str,
    description: str,
    rows: Sequence[dict[str, Any]],
    *,
    x: str,
    y: str,
    tips: Sequence[str],
    logarithmic: bool = False,
    select: bool = False,
    diagonal: bool = False,
) -> Figure:
    """``rows``: x, y, group and the columns of ``tips``."""
    groups = tuple(dict.fromkeys(str(row["group"]) for row in rows))
    spec = scatter_spec(language(), x, y, logarithmic, groups, tuple(tips), select, diagonal)
    return Figure(name=name, title=title, alt=description, spec=spec, rows=rows)


@lru_cache(maxsize=64)
def lines_spec(lang: str, x: str, y: str, logarithmic: bool, groups: tuple[str, ...], samples: bool) -> Spec:
    """Lines of ``y`` over ``x`` by group; or samples, ``y`` measured, with a dash where the fit ``fitted`` lies."""
    scale = {"type": "log", "nice": False, "padding": 12} if logarithmic else {"zero": False, "padding": 12}
    range_ = [COLOURS[i % len(COLOURS)] for i in range(len(groups))]
    colour = alt.Color(
        "group:N",
        title=None,
        scale=alt.Scale(domain=list(groups), range=range_),
        legend=alt.Legend(orient="bottom", labelLimit=240, columns=COLUMNS) if samples else None,
    )
    base = alt.Chart(pd.DataFrame()).encode(
        x=alt.X("x:Q", title=say(lang, f"chart.{x}"), scale=alt.Scale(**scale), axis=alt.Axis(format="~s", tickCount=6)),
        color=colour,
    )
    titles = {
        "group:N": " ",
        "x:Q": say(lang, f"chart.{x}"),
        "y:Q": say(lang, f"chart.{y}"),
        "note:N": say(lang, "chart.tip_note"),
    }
    tips = [
        alt.Tooltip(field, title=title, format=".4g") if field[-1] == "Q" else alt.Tooltip(field, title=title)
        for field, title in titles.items()
    ]
    vertical = alt.Y("y:Q", title=say(lang, f"chart.{y}"), scale=alt.Scale(**scale), axis=alt.Axis(format="~s", tickCount=6))
    if not samples:
        line = base.mark_line(strokeWidth=2.5, point=True).encode(y=vertical, tooltip=tips)
        names = base.mark_text(align="right", dx=-8, dy=-10, fontSize=12, fontWeight="bold").encode(y=vertical, text="end:N")
        return _spec(alt.layer(line, names), 320)
    apart = base.mark_rule(opacity=0.45).encode(y=vertical, y2="fitted:Q")
    measured = base.mark_point(size=40, opacity=0.85).encode(y=vertical, tooltip=tips)
    dash = alt.Y("fitted:Q", title=say(lang, f"chart.{y}"))
    fitted = base.mark_tick(orient="horizontal", size=14, thickness=2.5).encode(y=dash, tooltip=tips)
    return _spec(alt.layer(apart, measured, fitted), 320)


def lines(
    name: str,
    title: str,
    description: str,
    rows: Sequence[dict[str, Any]],
    *,
    x: str,
    y: str,
    logarithmic: bool = False,
    samples: bool = False,
) -> Figure:
    """``rows``: x, y, group, note; of samples also ``fitted``."""
    groups = tuple(dict.fromkeys(str(row["group"]) for row in rows))
    last = {group: max(row["x"] for row in rows if row["group"] == group) for group in groups}
    rows = [{**row, "end": str(row["group"]) if not samples and row["x"] == last[str(row["group"])] else ""} for row in rows]
    spec = lines_spec(language(), x, y, logarithmic, groups, samples)
    return Figure(name=name, title=title, alt=description, spec=spec, rows=rows)
