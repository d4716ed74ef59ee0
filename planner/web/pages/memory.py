"""Memory: where every GiB goes, when, and what would make it fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from planner.common.errors import PlannerError
from planner.common.units import GIB
from planner.performance.memory import KINDS
from planner.training.memory_map import Cell, Moment
from planner.training.plan import Plan
from planner.training.remedies import Remedy
from planner.web import charts, show, state
from planner.web.answers import Answer, answers, memory_map, memory_moments, what_would_fit
from planner.web.figure import Figure
from planner.web.guard import markdown, short_text
from planner.web.messages import said
from planner.web.text import t

TIGHT = 0.05
"""Of the usable memory: less headroom than this is shown as tight."""


def page() -> None:
    """One configuration's memory by stage, kind and moment; the fit map; remedies."""
    show.header(t("memory.title"), t("memory.lead"))
    case = _chosen()
    one = answers()[case]
    if one.plan is None:
        show.problem(one.error)
        return
    st.html(show.card(one, wide=True))
    _remedies(case, one)
    found = memory_moments(one.tables, one.plan)
    cells = memory_map(one.tables, one.plan)
    charts.show(stage_figure(one.plan, found), timeline_figure(one.plan, found), map_figure(one.plan, cells), key="memory")


def _chosen() -> int:
    cases = state.current()["cases"]
    case = min(int(st.session_state.get("case", 0)), len(cases) - 1)
    if len(cases) > 1:
        st.caption(t("memory.which", label=markdown(cases[case]["label"])))
    return case


def stage_name(moment: Moment) -> str:
    """Stages of equal content, counted from 1."""
    first = moment.first + 1
    return t("memory.stage", first=first) if moment.count == 1 else t("memory.stages", first=first, count=moment.count)


def _kinds(moment: Moment) -> list[tuple[str, float]]:
    return [(t(f"kind.{kind}"), moment.kinds_bytes[kind] / GIB) for kind in KINDS]


def stage_figure(plan: Plan, found: Sequence[Moment]) -> Figure:
    """Every stage at its own peak."""
    peaks: dict[int, Moment] = {}
    for moment in found:
        if moment.first not in peaks or moment.total_bytes > peaks[moment.first].total_bytes:
            peaks[moment.first] = moment
    rows = [(stage_name(m), _kinds(m), show.gib(m.total_bytes), plan.usable_bytes / GIB) for m in peaks.values()]
    heaviest = max(peaks.values(), key=lambda m: m.total_bytes)
    largest = max(KINDS, key=lambda kind: heaviest.kinds_bytes[kind])
    title = t(
        "memory.stage_title",
        stage=stage_name(heaviest),
        gib=show.gib(heaviest.total_bytes),
        kind=t(f"kind.{largest}"),
        part=show.gib(heaviest.kinds_bytes[largest]),
    )
    return charts.stacked("memory-by-stage", "memory", title, t("memory.stage_alt"), rows)


def timeline_figure(plan: Plan, found: Sequence[Moment]) -> Figure:
    """The heaviest stage at the moments of a step, in order."""
    heaviest = max(found, key=lambda m: m.total_bytes)
    moments = [m for m in found if m.first == heaviest.first]
    names = [t("memory.moment", number=i + 1, phase=t(f"phase.{m.phase.replace(' ', '_')}")) for i, m in enumerate(moments)]
    rows = [(name, _kinds(m), show.gib(m.total_bytes), plan.usable_bytes / GIB) for name, m in zip(names, moments, strict=True)]
    phase = t(f"phase.{heaviest.phase.replace(' ', '_')}")
    title = t("memory.timeline_title", phase=phase, gib=show.gib(heaviest.total_bytes), stage=stage_name(heaviest))
    return charts.stacked("memory-timeline", "memory", title, t("memory.timeline_alt"), rows)


def map_figure(plan: Plan, cells: Sequence[Cell]) -> Figure:
    """Micro-batch against sequence length, coloured by headroom."""
    rows = [_map_row(plan, cell) for cell in cells]
    fitting = [c for c in cells if c.headroom_bytes is not None and c.headroom_bytes >= 0]
    if fitting:
        longest = max(fitting, key=lambda c: (c.seq_len, c.micro_batch_size))
        title = t("memory.map_title", seq=f"{longest.seq_len:,}", micro=longest.micro_batch_size)
    else:
        title = t("memory.map_none")
    return charts.fit_map(title, t("memory.map_alt"), rows)


def _map_row(plan: Plan, cell: Cell) -> dict[str, Any]:
    headroom = cell.headroom_bytes
    share = 0.0 if headroom is None else headroom / plan.usable_bytes
    kind = "impossible" if headroom is None else "over" if share < 0 else "tight" if share < TIGHT else "fits"
    strength = 1.0 if kind == "impossible" else min(1.0, abs(share) * 1.5)
    return {
        "micro": cell.micro_batch_size,
        "seq": cell.seq_len,
        "headroom": None if headroom is None else headroom / GIB,
        "state": t(f"chart.{kind}"),
        "strength": strength,
        "cell": "–" if headroom is None else f"{headroom / GIB:+.0f}",
        "dark": kind in ("fits", "over") and strength > 0.35,
        "step": show.duration(cell.step_time_s),
        "reason": said(cell.reason),
        "own": cell.micro_batch_size == plan.layout.micro_batch_size and cell.seq_len == plan.job.seq_len,
    }


def _remedies(case: int, one: Answer) -> None:
    """What would make it fit, each with a button that does it."""
    if one.known.fits:
        return
    st.html(f"<h3 class='finding'>{t('memory.remedies')}</h3>")
    try:
        _, found = what_would_fit(one.tables)
    except PlannerError as error:
        show.problem(error)
        return
    if not found:
        st.info(t("memory.no_remedy", reason=markdown("; ".join(show.reasons(one)), 600)))
        return
    for i, remedy in enumerate(found[:8]):
        left, right = st.columns([3, 2], vertical_alignment="center")
        right.markdown(t("memory.remedy_costs", step=show.duration(remedy.step_time_s), free=show.gib(remedy.headroom_bytes)))
        if left.button(change_words(remedy), key=f"remedy.{st.session_state['revision']}.{i}", width="stretch"):
            apply(case, remedy, one.known)
            st.rerun()


def apply(case: int, remedy: Remedy, plan: Plan) -> None:
    """Write a remedy into the scenario."""
    changes: dict[str, Mapping[str, Any]] = dict(remedy.changes)
    if "layout" in changes:
        changes["layout"] = {"dp": None, "schedule": None, **changes["layout"]}
    if "cluster" in changes:
        changes["cluster"] = {**changes["cluster"], "num_nodes": None}
    if plan.layout.dp is not None and "cluster" in changes:
        changes["layout"] = {"dp": None}
    state.change(case, changes)


def change_words(remedy: Remedy) -> str:
    """A remedy in words."""
    parts = []
    for fields in remedy.changes.values():
        for name, value in fields.items():
            words = t(f"in.recompute_{value}") if name == "recompute" else value
            words = t("memory.on" if value else "memory.off") if isinstance(value, bool) else words
            parts.append(f"{t(f'remedy.{name}')} → {words}")
    return short_text(", ".join(parts), 200)
