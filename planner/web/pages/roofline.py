"""Roofline: where each operator of a plan lies under its GPU's limits, and what stands behind its time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import streamlit as st

from planner.common.units import TERA
from planner.performance.step_time import PARTS
from planner.training.plan import Plan
from planner.training.row_points import Roof, RowPoint, row_points
from planner.web import charts, show, state
from planner.web.answers import answers, key_of, remembered
from planner.web.figure import Figure
from planner.web.guard import markdown
from planner.web.messages import label, word
from planner.web.text import about, t

MOST = 12
"""Rows that are listed under the figure."""


def page() -> None:
    """One configuration's operators."""
    show.header(t("roofline.title"), t("roofline.lead"))
    cases = state.current()["cases"]
    case = min(int(st.session_state.get("case", 0)), len(cases) - 1)
    st.caption(t("memory.which", label=markdown(cases[case]["label"])))
    one = answers()[case]
    if one.plan is None:
        show.problem(one.error)
        return
    roof, points = _points(key_of(one.tables), one.plan)
    event = charts.show(figure(roof, points), key="roofline", select="chosen")
    clicked = event.get("selection", {}).get("chosen", []) if event else []
    place = int(clicked[0]["id"]) if clicked and "id" in clicked[0] else 0
    if points:
        _detail(one.plan, roof, points[min(place, len(points) - 1)])
    _listed(points)


@remembered
def _points(key: str, _plan: Plan) -> tuple[Roof, list[RowPoint]]:
    return row_points(_plan)


def figure(roof: Roof, points: Sequence[RowPoint]) -> Figure:
    """Every operator a point, the two limits a line."""
    rows: list[dict[str, Any]] = [
        {
            "id": i,
            "name": f"{_name(p)}{t('show.comma')}{word(p.phase)}",
            "group": word(p.phase),
            "x": p.intensity,
            "y": p.rate_flops_per_s / TERA,
            "share": p.share,
            "roof": False,
        }
        for i, p in enumerate(points)
    ]
    ends = [min([row["x"] for row in rows], default=0.1), roof.ridge, max([row["x"] for row in rows], default=1e4)]
    line = [
        {
            "id": -1,
            "name": "",
            "group": "",
            "x": x,
            "y": min(x * roof.bytes_per_s, roof.peak_flops_per_s) / TERA,
            "share": 0.0,
            "roof": True,
        }
        for x in sorted({min(ends[0], roof.ridge / 2), roof.ridge, max(ends[2], roof.ridge * 2)})
    ]
    bound = sum(p.share for p in points if p.bound == "compute")
    title = t("roofline.finding", share=f"{bound:.0%}", ridge=f"{roof.ridge:,.0f}")
    phases = sorted({p.phase for p in points}, key=_part)
    colours = [charts.PARTS[_part(phase)] for phase in phases]
    return charts.roofline("roofline", title, t("roofline.alt"), [*line, *rows], [word(phase) for phase in phases], colours)


def _part(phase: str) -> int:
    """Which part of a step a phase is."""
    return PARTS.index("data_parallel" if phase == "gradient_sync" else phase)


def _name(point: RowPoint) -> str:
    """Block and operator in the language of the session."""
    return about(label(point.block), label(point.name))


def _detail(plan: Plan, roof: Roof, point: RowPoint) -> None:
    """The formula behind one operator's time, with its numbers and their source."""
    card = plan.cluster.accelerator
    compute, memory = point.flops / roof.peak_flops_per_s, point.bytes_moved / roof.bytes_per_s
    st.html(f"<h2 class='finding'>{escape(t('roofline.picked', name=_name(point), phase=word(point.phase)))}</h2>")
    st.markdown(
        t(
            "roofline.formula",
            flops=f"{point.flops / 1e9:,.3g}",
            peak=f"{roof.peak_flops_per_s / TERA:,.0f}",
            compute=show.duration(compute),
            megabytes=f"{point.bytes_moved / 1e6:,.3g}",
            bandwidth=f"{roof.bytes_per_s / 1e9:,.0f}",
            memory=show.duration(memory),
            seconds=show.duration(point.seconds),
            share=f"{max(compute, memory) / point.seconds:.0%}",
        )
    )
    source = card.provenance.get("memory_bandwidth_bytes_per_s")
    st.caption(t("roofline.source", curves=markdown(card.curves), source=markdown(source.source if source else "", 200)))


def _listed(points: Sequence[RowPoint]) -> None:
    intensity, rate, share = t("chart.intensity_axis"), t("chart.tflops_axis"), t("chart.tip_share")
    rows = [
        {
            t("operator.block"): label(p.block),
            t("operator.name"): label(p.name),
            t("operator.phase"): word(p.phase),
            t("operator.repeats"): round(p.repeats),
            share: 100.0 * p.share,
            intensity: p.intensity,
            rate: p.rate_flops_per_s / TERA,
        }
        for p in points[:MOST]
    ]
    formats = {intensity: "%.1f", rate: "%.1f", share: "%.1f%%"}
    config = {name: st.column_config.NumberColumn(format=form) for name, form in formats.items()}
    st.dataframe(rows, hide_index=True, alt=t("roofline.listed"), column_config=config)
