"""Memory: where every GiB goes, when, and what would make it fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import streamlit as st

from planner.common.errors import PlannerError
from planner.common.units import GIB
from planner.performance.memory import KINDS
from planner.training.memory_map import Cell, Moment
from planner.training.plan import Plan
from planner.training.remedies import Remedy
from planner.web import charts, show, state
from planner.web.answers import Answer, answers, layout_fields, memory_map, memory_moments, what_would_fit
from planner.web.figure import Figure
from planner.web.guard import markdown, short_text
from planner.web.messages import said
from planner.web.text import t

MAP = {"fits": charts.FITS, "tight": charts.TIGHT, "over": charts.OVER, "impossible": charts.IMPOSSIBLE}
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
    remedies_of(case, one)
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
    return charts.stacked("memory-by-stage", "memory", title, t("memory.stage_alt"), rows, charts.KINDS)


def timeline_figure(plan: Plan, found: Sequence[Moment]) -> Figure:
    """The heaviest stage over one step as areas by kind: it begins as the step before ended, between moments it is a line."""
    heaviest = max(found, key=lambda m: m.total_bytes)
    moments = [m for m in found if m.first == heaviest.first]
    names = [t(f"phase.{m.phase.replace(' ', '_')}") for m in moments]
    begin = start_of(moments)
    rows = [
        {"at": at, "when": f"{at + 1}. {when}", "part": t(f"kind.{kind}"), "value": kinds[kind] / GIB, "order": KINDS.index(kind)}
        for at, (when, kinds) in enumerate(
            [(t("memory.begin"), begin), *zip(names, [m.kinds_bytes for m in moments], strict=True)]
        )
        for kind in KINDS
    ]
    phase = t(f"phase.{heaviest.phase.replace(' ', '_')}")
    title = t("memory.timeline_title", phase=phase, gib=show.gib(heaviest.total_bytes), stage=stage_name(heaviest))
    return charts.areas(
        "memory-timeline", title, t("memory.timeline_alt"), rows, [t(f"kind.{kind}") for kind in KINDS], plan.usable_bytes / GIB
    )


def start_of(moments: Sequence[Moment]) -> dict[str, float]:
    """What a GPU holds when a step begins: states and what no step frees; nothing saved, no workspace."""
    held = {kind: min(m.kinds_bytes[kind] for m in moments) for kind in KINDS}
    return {**held, "activations": 0.0, "workspace": 0.0}


def map_figure(plan: Plan, cells: Sequence[Cell]) -> Figure:
    """Micro-batch against sequence length, coloured by headroom."""
    possible = {cell.micro_batch_size for cell in cells if cell.headroom_bytes is not None}
    cells = [cell for cell in cells if cell.micro_batch_size in possible or not possible]  # no column that cannot be
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
    return {
        "micro": cell.micro_batch_size,
        "seq": cell.seq_len,
        "headroom": None if headroom is None else headroom / GIB,
        "state": t(f"chart.{kind}"),
        "cell": "–" if headroom is None else f"{headroom / GIB:+.0f}",
        "ink": charts.ink_on(MAP[kind]),
        "step": show.duration(cell.step_time_s),
        "reason": said(cell.reason),
        "own": cell.micro_batch_size == plan.layout.micro_batch_size and cell.seq_len == plan.job.seq_len,
    }


def remedies_of(case: int, one: Answer, most: int = 8) -> None:
    """What would make it fit, each with a button that does it, and what it costs."""
    if one.known.fits:
        return
    st.html(f"<h2 class='finding'>{escape(t('memory.remedies_of', label=short_text(one.label, 40)))}</h2>")
    try:
        _, found = what_would_fit(one.tables)
    except PlannerError as error:
        show.problem(error)
        return
    if not found:
        st.info(t("memory.no_remedy", reason=markdown(show.parts(*show.reasons(one)), 600)))
        return
    for i, remedy in enumerate(found[:most]):
        left, right = st.columns([3, 2], vertical_alignment="center")
        right.markdown(t("memory.remedy_costs", step=show.duration(remedy.step_time_s), free=show.gib(remedy.headroom_bytes)))
        if left.button(change_words(remedy), key=f"remedy.{st.session_state['revision']}.{case}.{i}", width="stretch"):
            apply(case, remedy, one.known)
            st.rerun()


def apply(case: int, remedy: Remedy, plan: Plan) -> None:
    """Write a remedy into the scenario."""
    changes: dict[str, Mapping[str, Any]] = dict(remedy.changes)
    if "layout" in changes and not state.current()["cases"][case]["tables"].get("layout"):
        changes["layout"] = {**layout_fields(plan.layout), **changes["layout"]}
    if "layout" in changes:
        changes["layout"] = {"dp": None, "schedule": None, **changes["layout"]}
    if "cluster" in changes:
        changes["cluster"] = {**changes["cluster"], "num_nodes": None}
    if plan.layout.dp is not None and "cluster" in changes:
        changes["layout"] = {"dp": None}
    tables = state.current()["cases"][case]["tables"]
    if remedy.anew:  # automatic again
        changes["layout"] = dict.fromkeys(tables.get("layout", {}))
    if "framework" in changes:  # as its file has it
        changes["framework"] = {**dict.fromkeys(tables.get("framework", {})), **changes["framework"]}
    state.change(case, changes)
    if remedy.anew:
        state.disclaim(state.current(), case, "layout")


def change_words(remedy: Remedy) -> str:
    """A remedy in words."""
    parts = []
    for fields in remedy.changes.values():
        for name, value in fields.items():
            if name == "adapter":  # comes with the method
                continue
            words = t(f"in.{name}_{value}") if name in ("recompute", "kind") else value
            words = t("memory.on" if value else "memory.off") if isinstance(value, bool) else words
            parts.append(f"{t(f'remedy.{name}')} → {words}")
    return short_text(t("show.comma").join(parts), 200)
