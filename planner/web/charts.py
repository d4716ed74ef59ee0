"""Figures: a table of what is drawn, an Altair specification made once for each language, a title that says the finding."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from planner.web.figure import Figure, Spec
from planner.web.guard import short_text
from planner.web.text import language, say, t, three

BAR = 34
"""Height of a bar, pixels."""
FITS, TIGHT, OVER, IMPOSSIBLE = "#177245", "#f0c24b", "#b3261e", "#c8cdd2"
"""Of verdicts, and of nothing else."""
INK = "currentColor"
"""Of labels and lines: the text's colour, on the light and on the dark page."""
CASES = ("#7d57d1", "#c2570c", "#0f8a7e", "#c0508a", "#8a6c4c", "#627788")
"""Of configurations: lines and points, 3:1 and more on the light and on the dark page."""
CACHE = "#c26d8c"
"""Of the KV cache, which training does not have."""
KINDS = ("#3f6fb5", "#86aede", "#5b4fa0", "#d98032", "#efbf8d", "#4f9d94", "#b7b0c9", "#87909a")
"""Of what memory is used for, in the order of ``performance.memory.KINDS``."""
PARTS = (
    "#2a7f9e",
    "#16556e",
    "#84c0d4",
    "#b04f95",
    "#863c7e",
    "#dc9cc6",
    "#a57ad0",
    "#6a4bb0",
    "#9b8f5a",
    "#b9bfc5",
    "#6d7780",
)
"""Of what a step consists of, in the order of ``performance.step_time.PARTS``."""
GROUPS = ("#5571cc", "#d07a1f", "#1d8f6d", "#b8506f", "#7a6bc9", "#7d6a1e", "#4199b2", "#7b8791", "#c65fb0", "#4f7f2a")
"""Of groups that a chart tells apart: as well."""
TEXT = 12
"""Pixels of the smallest text."""
COLUMNS: Any = alt.ExprRef("width < 450 ? 2 : 4")
"""Of a legend: fewer on a phone."""
NARROW: Any = alt.ExprRef("width < 450 ? 135 : 190")
"""Pixels of a legend's text."""
FEW: Any = alt.ExprRef("width < 450 ? 3 : 6")
"""Ticks of an axis of dollars."""
WRAPPED = "width < 450 ? split(datum.label, '\\n') : join(split(datum.label, '\\n'), '')"
"""A label in several lines on a phone."""
NO_ROOM = "width < 450 && datum.value < 0.13 * datum.edge"
"""Where a figure would not stand inside its part of a bar: on a phone."""
CONFIG = {
    "axis": {"labelFontSize": TEXT, "titleFontSize": TEXT},
    "legend": {"labelFontSize": TEXT, "titleFontSize": TEXT},
    "text": {"fontSize": TEXT},
}


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    parts = (int(colour[i : i + 2], 16) / 255.0 for i in (1, 3, 5))
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast of two colours (WCAG 2.2), 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def ink_on(colour: str) -> str:
    """White or near black, whichever reads better on a colour."""
    return max("#ffffff", "#101418", key=lambda ink: contrast(ink, colour))


def show(*figures: Figure, key: str, select: str | None = None) -> Any:
    """Draw figures, each under its title, and one button behind which they can be taken along.

    With ``select`` a click on a mark of the last one is answered.
    """
    from planner.web.download import figure_buttons

    event = None
    for figure in figures:
        st.html(f"<h2 class='finding'>{escape(figure.title)}</h2>")
        more: dict[str, Any] = {"on_select": "rerun", "selection_mode": select} if select else {}
        event = st.vega_lite_chart(figure.data, figure.spec, key=f"{key}.{figure.name}", width="stretch", alt=figure.alt, **more)
    figure_buttons(figures, key)
    return event


def _spec(chart: Any, height: int | None = None) -> Spec:
    """The specification without data, sized to its place."""
    found: Spec = json.loads(
        chart.properties(width="container", **({"height": height} if height else {})).to_json(validate=False)
    )
    for name in ("data", "datasets", "$schema"):
        found.pop(name, None)
    found["config"] = CONFIG
    found["autosize"] = {"type": "fit-x", "contains": "padding"}
    return found


def _legend(**more: Any) -> alt.Legend:
    """Above the chart."""
    return alt.Legend(**{"orient": "top", "columns": COLUMNS, "labelLimit": NARROW, "title": None, **more})


def _by_part(names: Sequence[str], colours: Sequence[str]) -> Any:
    """Colours of the parts, in their order, with squares in the legend."""
    return alt.Color(
        "part:N",
        sort=list(names),
        scale=alt.Scale(domain=list(names), range=list(colours)),
        legend=_legend(symbolType="square"),
    )


def _stacked(names: Sequence[str], colours: Sequence[str], axis: str, legend: str, capacity: str | None) -> Any:
    """Horizontal stacked bars by ``part``, the total under the label, a line at ``capacity`` with its number."""
    base = alt.Chart(pd.DataFrame()).encode(
        y=alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=130, labelExpr="split(datum.label, '\\n')")),
    )
    room = alt.Scale(nice=False, zero=True)
    bars = base.mark_bar(size=BAR - 10).encode(
        x=alt.X("value:Q", title=axis, stack="zero", scale=room),
        color=_by_part(names, colours),
        order=alt.Order("order:Q"),
        tooltip=[alt.Tooltip("name:N", title=" "), alt.Tooltip("part:N", title=legend), alt.Tooltip("shown:N", title=axis)],
    )
    inside = base.mark_text(aria=False).encode(
        color=alt.Color("ink:N", scale=None),
        x=alt.X("middle:Q", title=axis),
        text=alt.condition(NO_ROOM, alt.value(""), "inside:N"),
        detail="part:N",
    )
    edge = base.mark_point(opacity=0, aria=False).encode(x=alt.X("max(edge):Q", title=axis), tooltip=alt.value(None))
    layers = [edge, bars, inside]
    if capacity:
        line = base.mark_tick(thickness=3, size=BAR + 2, color=INK).encode(
            x=alt.X("max(capacity):Q", title=axis), tooltip=[alt.Tooltip("max(capacity):Q", title=capacity, format=".1f")]
        )
        word = base.mark_text(align="right", dx=-5, dy=-BAR / 2 - 2, color=INK, aria=False).encode(
            x=alt.X("max(capacity):Q", title=axis), text="max(capacity_text):N"
        )
        layers += [line, word]
    return alt.layer(*layers)


@lru_cache(maxsize=256)
def stacked_spec(lang: str, kind: str, names: tuple[str, ...], colours: tuple[str, ...], rows: int) -> Spec:
    """Bars of GiB ("memory"), of seconds ("step") or of days ("days")."""
    axis, legend = say(lang, f"chart.{kind}_axis"), say(lang, f"chart.{kind}_legend")
    chart = _stacked(names, colours, axis, legend, say(lang, "chart.capacity") if kind == "memory" else None)
    return _spec(chart, rows * (BAR + 22))


def stacked(
    name: str,
    kind: str,
    title: str,
    description: str,
    rows: Sequence[tuple[str, Sequence[tuple[str, float]], str, float | None]],
    colours: Sequence[str],
) -> Figure:
    """``rows``: label, (part, value) in order, text of the total, capacity; a colour for each part, present or not.

    Labels are told apart where two are equal.
    """
    data: list[dict[str, Any]] = []
    widest = max([sum(v for _, v in parts) for _, parts, _, _ in rows] + [c or 0.0 for *_, c in rows])
    names = list(dict.fromkeys(p for _, parts, _, _ in rows for p, _ in parts))
    paint = dict(zip(names, colours, strict=False))
    for label, (_, parts, total, capacity) in zip(unlike([row[0] for row in rows]), rows, strict=True):
        end = 0.0
        for part, value in parts:
            if value > 0:
                data.append(
                    {
                        "label": f"{label}\n{total}",
                        "name": label,
                        "part": part,
                        "value": value,
                        "order": names.index(part),
                        "middle": end + value / 2,
                        "shown": three(value),
                        "inside": three(value) if value > 0.055 * widest else "",
                        "ink": ink_on(paint[part]),
                        "total": total,
                        "edge": 1.05 * widest,
                        "capacity": capacity,
                        "capacity_text": None if capacity is None else t("chart.usable", gib=f"{capacity:.1f}"),
                    }
                )
            end += value
    used = tuple(part for part in names if any(row["part"] == part for row in data))
    spec = stacked_spec(language(), kind, used, tuple(paint[part] for part in used), len(rows))
    return Figure(name=name, title=title, alt=description, spec=spec, rows=data)


def in_lines(text: str, most: int = 11) -> str:
    """A label in lines of ``most`` Latin letters where it can be broken: after a blank or a Chinese character, which is as wide
    as two. Nothing is taken out but the ends of lines.

    >>> in_lines("2. end of forward, loss"), in_lines("1. 一步开始")
    ('2. end of \\nforward, \\nloss', '1. 一步开始')
    """
    lines, now = [], ""
    for piece in re.findall(r"[^\s\u2e80-\uffef]+\s*|[\u2e80-\uffef][，、。；：）]?\s*", text):
        if now and _wide(now + piece.rstrip()) > most:
            lines.append(now)
            now = ""
        now += piece
    return "\n".join([*lines, now])


def _wide(text: str) -> int:
    return sum(2 if letter > "\u2e7f" else 1 for letter in text)


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
def areas_spec(lang: str, names: tuple[str, ...]) -> Spec:
    """GiB by kind over the moments of a step, stacked, a line at the capacity."""
    axis = say(lang, "chart.memory_axis")
    base = alt.Chart(pd.DataFrame()).encode(
        x=alt.X(
            "label:N",
            title=say(lang, "chart.moment_axis"),
            axis=alt.Axis(labelAngle=0, labelLimit=150, labelOverlap=False, labelExpr=WRAPPED),
        ),
    )
    scale = alt.Scale(nice=False, zero=True)
    areas = base.mark_area(line={"strokeWidth": 1}, opacity=1).encode(
        y=alt.Y("value:Q", title=axis, stack="zero", scale=scale),
        color=alt.Color(
            "part:N",
            sort=list(names),
            scale=alt.Scale(domain=list(names), range=list(KINDS[: len(names)])),
            legend=_legend(symbolType="square"),
        ),
        order=alt.Order("order:Q"),
        tooltip=[
            alt.Tooltip("when:N", title=" "),
            alt.Tooltip("part:N", title=say(lang, "chart.memory_legend")),
            alt.Tooltip("value:Q", title=axis, format=".1f"),
        ],
    )
    line = base.mark_line(color=INK, strokeWidth=2, strokeDash=[6, 4]).encode(y=alt.Y("max(capacity):Q", title=axis, scale=scale))
    word = (
        base.mark_text(align="right", baseline="bottom", dy=-4, color=INK, aria=False)
        .encode(y=alt.Y("capacity:Q", title=axis, scale=scale), text="capacity_text:N")
        .transform_filter("datum.last && datum.order === 0")
    )
    edge = base.mark_point(opacity=0, aria=False).encode(y=alt.Y("max(edge):Q", title=axis, scale=scale), tooltip=alt.value(None))
    return _spec(alt.layer(edge, areas, line, word), 320)


def areas(
    name: str, title: str, description: str, rows: Sequence[dict[str, Any]], names: Sequence[str], capacity: float
) -> Figure:
    """``rows``: at (order of the moment), when, part, value (GiB), order of the part."""
    totals = {row["at"]: sum(r["value"] for r in rows if r["at"] == row["at"]) for row in rows}
    words, edge = t("chart.usable", gib=f"{capacity:.1f}"), 1.05 * max(*totals.values(), capacity)
    end = max(totals)  # there a step is back at what it keeps: the line's label stands free
    more = {"capacity": capacity, "capacity_text": words, "edge": edge}
    data = [{**row, **more, "label": in_lines(row["when"]), "last": row["at"] == end} for row in rows]
    return Figure(name=name, title=title, alt=description, spec=areas_spec(language(), tuple(names)), rows=data)


@lru_cache(maxsize=64)
def cost_time_spec(lang: str, labels: tuple[str, ...], priced: bool) -> Spec:
    """Dollars (or GPU-hours) against days, one line for each configuration over its GPU counts."""
    days, cost = say(lang, "chart.run_axis"), say(lang, "chart.cost_axis" if priced else "chart.gpu_hours_axis")
    colour = alt.Color(
        "label:N",
        sort=list(labels),
        scale=alt.Scale(domain=list(labels), range=list(CASES[: len(labels)])),
        legend=_legend(labelLimit=240),
    )
    base = alt.Chart(pd.DataFrame()).encode(
        x=alt.X(
            "days:Q", title=days, scale=alt.Scale(type="log", nice=False, padding=28), axis=alt.Axis(format=",~r", tickCount=6)
        ),
        y=alt.Y("cost:Q", title=cost, scale=alt.Scale(zero=True), axis=alt.Axis(format=",~r")),
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
    names = base.mark_text(align="left", dy=-11, dx=6, aria=False).encode(text="gpus_text:N", color=alt.value(INK))
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
            legend=_legend(symbolType="square", symbolStrokeWidth=0),
        ),
        tooltip=tips,
    )
    text = base.mark_text(fontWeight="bold", aria=False).encode(
        text="cell:N",
        color=alt.Color("ink:N", scale=None),
        tooltip=tips,
    )
    own = base.mark_rect(fill=None, stroke=INK, strokeWidth=3).transform_filter("datum.own")
    return _spec(alt.layer(cells, text, own), rows * 36)


def fit_map(title: str, description: str, rows: Sequence[dict[str, Any]]) -> Figure:
    """``rows``: micro, seq, headroom (GiB), state, cell, ink, step, reason, own."""
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
            sort=list(colours),
            scale=alt.Scale(domain=list(colours), range=[GROUPS[i % len(GROUPS)] for i in range(len(colours))]),
            legend=_legend(symbolLimit=24, columns=alt.ExprRef("width < 450 ? 1 : width < 850 ? 2 : 3"), labelLimit=280),
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
            size=alt.condition(chosen, alt.value(150), alt.value(55), empty=False),
            opacity=alt.condition(chosen, alt.value(1.0), alt.value(0.7), empty=False),
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
    scale: dict[str, Any] = {"nice": False, "padding": 12, **({"type": "log"} if logarithmic else {"zero": False})}
    range_ = [GROUPS[i % len(GROUPS)] for i in range(len(groups))]
    number = "~s" if logarithmic else ",~r"  # prefixes follow the steps of an axis: "0.2k" beside "1k"
    colour = alt.Color(
        "group:N",
        scale=alt.Scale(domain=list(groups), range=range_),
        legend=_legend(labelLimit=240) if samples else None,
    )
    base = alt.Chart(pd.DataFrame()).encode(
        x=alt.X("x:Q", title=say(lang, f"chart.{x}"), scale=alt.Scale(**scale), axis=alt.Axis(format=number, tickCount=6)),
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
    vertical = alt.Y("y:Q", title=say(lang, f"chart.{y}"), scale=alt.Scale(**scale), axis=alt.Axis(format=number, tickCount=6))
    if not samples:
        line = base.mark_line(strokeWidth=2.5, point=True).encode(y=vertical, tooltip=tips)
        names = base.mark_text(align="right", dx=-8, dy=-10, fontWeight="bold", color=INK, aria=False).encode(
            y=vertical, text="end:N", color=alt.value(INK)
        )
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


@lru_cache(maxsize=64)
def tornado_spec(lang: str, rows: int, ends: tuple[str, ...]) -> Spec:
    """From the low to the high end of each input, a line at the total as it is."""
    axis = say(lang, "chart.usd_axis")
    base = alt.Chart(pd.DataFrame()).encode(y=alt.Y("name:N", title=None, sort=None, axis=alt.Axis(labelLimit=170)))
    scale = alt.Scale(zero=False, nice=True, padding=40)
    tips = [
        alt.Tooltip("name:N", title=" "),
        alt.Tooltip("low:N", title=say(lang, "chart.tip_low")),
        alt.Tooltip("high:N", title=say(lang, "chart.tip_high")),
    ]
    bars = base.mark_bar(size=16).encode(
        x=alt.X("from:Q", title=axis, scale=scale, axis=alt.Axis(format=",~r", tickCount=FEW)),
        x2="to:Q",
        color=alt.Color(
            "end:N",
            sort=list(ends),
            scale=alt.Scale(domain=list(ends), range=[GROUPS[0], GROUPS[1]]),
            legend=_legend(symbolType="square"),
        ),
        tooltip=tips,
    )
    now = base.mark_rule(color=INK, strokeWidth=2).encode(x=alt.X("now:Q", title=axis, scale=scale), y=alt.Y(), tooltip=tips)
    return _spec(alt.layer(bars, now), rows * 30 + 20)


def tornado(name: str, title: str, description: str, rows: Sequence[dict[str, Any]]) -> Figure:
    """``rows``: name, end (which end), from, to, now (US dollars), low, high (words)."""
    inputs, ends = len({row["name"] for row in rows}), tuple(dict.fromkeys(str(row["end"]) for row in rows))
    return Figure(name=name, title=title, alt=description, spec=tornado_spec(language(), inputs, ends), rows=rows)


@lru_cache(maxsize=64)
def due_spec(lang: str, names: tuple[str, ...], colours: tuple[str, ...]) -> Spec:
    """Dollars that fall due by month, stacked by item."""
    month, usd = say(lang, "chart.month_axis"), say(lang, "chart.due_axis")
    bars = (
        alt.Chart(pd.DataFrame())
        .mark_bar()
        .encode(
            x=alt.X("month:O", title=month, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("value:Q", title=usd, stack="zero", axis=alt.Axis(format=",~r", tickCount=6)),
            color=_by_part(names, colours),
            order=alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("month:O", title=month),
                alt.Tooltip("part:N", title=" "),
                alt.Tooltip("shown:N", title=usd),
            ],
        )
    )
    return _spec(bars, 260)


def due(name: str, title: str, description: str, rows: Sequence[dict[str, Any]], colours: Sequence[str]) -> Figure:
    """``rows``: month (from 1), part, value (US dollars), shown (words), order of the part; a colour for each part."""
    names = tuple(dict.fromkeys(str(row["part"]) for row in rows))
    return Figure(name=name, title=title, alt=description, spec=due_spec(language(), names, tuple(colours)), rows=rows)


@lru_cache(maxsize=64)
def roofline_spec(lang: str, groups: tuple[str, ...], colours: tuple[str, ...]) -> Spec:
    """Rate against intensity of operators on logarithmic axes, area = time, under the chip's roof."""
    x = alt.X(
        "x:Q",
        title=say(lang, "chart.intensity_axis"),
        scale=alt.Scale(type="log", nice=False, padding=16),
        axis=alt.Axis(format="~s", tickCount=6),
    )
    y = alt.Y(
        "y:Q",
        title=say(lang, "chart.tflops_axis"),
        scale=alt.Scale(type="log", nice=False, padding=16),
        axis=alt.Axis(format="~g", tickCount=6),
    )
    base = alt.Chart(pd.DataFrame()).encode(x=x, y=y)
    roof = base.mark_line(color=INK, strokeWidth=2).encode(order="x:Q").transform_filter("datum.roof")
    chosen = alt.selection_point(name="chosen", fields=["id"], on="click")
    tips = [
        alt.Tooltip("name:N", title=" "),
        alt.Tooltip("x:Q", title=say(lang, "chart.intensity_axis"), format=",.3g"),
        alt.Tooltip("y:Q", title=say(lang, "chart.tflops_axis"), format=",.3g"),
        alt.Tooltip("share:Q", title=say(lang, "chart.tip_share"), format=".1%"),
    ]
    points = (
        base.mark_point(filled=True, opacity=0.9, stroke=INK, strokeWidth=0.75)  # an edge: some colours are near one page's
        .encode(
            color=alt.Color(
                "group:N",
                sort=None,
                scale=alt.Scale(domain=list(groups), range=list(colours)),
                legend=_legend(symbolStrokeWidth=0.75),
            ),
            size=alt.Size("share:Q", legend=None, scale=alt.Scale(range=[20, 1400], zero=True)),
            tooltip=tips,
        )
        .transform_filter("!datum.roof")
        .add_params(chosen)
    )
    return _spec(alt.layer(roof, points), 380)


def roofline(
    name: str, title: str, description: str, rows: Sequence[dict[str, Any]], groups: Sequence[str], colours: Sequence[str]
) -> Figure:
    """``rows``: id, name, group, x (flop per byte), y (TFLOP/s), share, roof (of the two limits' line); groups have colours."""
    spec = roofline_spec(language(), tuple(groups), tuple(colours))
    return Figure(name=name, title=title, alt=description, spec=spec, rows=rows)


@lru_cache(maxsize=64)
def swept_spec(lang: str, x: str, y: str, numeric: bool, groups: tuple[str, ...]) -> Spec:
    """A line for each configuration over the values of a field."""
    title = say(lang, f"chart.{y}")
    across = (
        alt.X("x:Q", title=x, axis=alt.Axis(format=",~r"), scale=alt.Scale(zero=False, nice=False, padding=14))
        if numeric
        else alt.X("x:N", title=x, sort=None, axis=alt.Axis(labelAngle=0))
    )
    base = alt.Chart(pd.DataFrame()).encode(
        x=across,
        y=alt.Y("y:Q", title=title, scale=alt.Scale(zero=True), axis=alt.Axis(format=",~r")),
        color=alt.Color(
            "group:N", sort=list(groups), scale=alt.Scale(domain=list(groups), range=list(CASES[: len(groups)])), legend=_legend()
        ),
        tooltip=[
            alt.Tooltip("group:N", title=" "),
            alt.Tooltip("x:N", title=x),
            alt.Tooltip("y:Q", title=title, format=".4g"),
            alt.Tooltip("note:N", title=say(lang, "chart.tip_note")),
        ],
    )
    return _spec(base.mark_line(strokeWidth=2.5, point={"size": 60}), 320)


def swept(name: str, title: str, description: str, rows: Sequence[dict[str, Any]], *, x: str, y: str, numeric: bool) -> Figure:
    """``rows``: x (a field's value), y, group (configuration), note."""
    groups = tuple(dict.fromkeys(str(row["group"]) for row in rows))
    return Figure(name=name, title=title, alt=description, spec=swept_spec(language(), x, y, numeric, groups), rows=rows)
