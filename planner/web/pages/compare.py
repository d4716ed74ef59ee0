"""Compare: up to four configurations side by side."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence

import streamlit as st

from planner.common.units import DAY_S, GIB
from planner.performance.memory import KINDS
from planner.performance.step_time import PARTS
from planner.training.plan import Plan
from planner.web import charts, show, state
from planner.web.answers import Answer, answers, key_of, on_other_sizes, remembered, whole_run
from planner.web.figure import Figure
from planner.web.guard import markdown, short_text
from planner.web.text import language, t


def page() -> None:
    """Headline figures, memory, step time, cost against time, whole runs."""
    scenario = state.current()
    show.header(scenario["title"] or t("compare.title"), t("compare.lead"))
    found = answers()
    columns = st.columns(len(found), gap="small")
    cards, pictures = drawn(found)
    for column, card in zip(columns, cards, strict=True):
        column.html(card)
    known = [one for one in found if one.plan is not None]
    if not known:
        st.info(t("compare.nothing"))
        return
    notes = st.empty()  # a place of their own, so that what follows stays where it is and is not drawn anew
    over = [one for one in known if not one.known.fits]
    if over:
        with notes.container():
            for one in over:
                st.warning(t("compare.see_memory", label=markdown(one.label)), icon=":material/memory:")
    charts.show(*pictures, key="compare")
    _whole_runs(found)


def prepare() -> None:
    """Make what the page shows before it is shown: it then arrives at once."""
    drawn(answers())


def drawn(found: Sequence[Answer]) -> tuple[list[str], list[Figure]]:
    """(the cards, the figures) of the configurations."""
    asked = [language(), datetime.date.today().isoformat(), *([one.label, key_of(one.tables)] for one in found)]
    made: tuple[list[str], list[Figure]] = _drawn(json.dumps(asked), found)
    return made


@remembered
def _drawn(key: str, _found: Sequence[Answer]) -> tuple[list[str], list[Figure]]:
    known = [one for one in _found if one.plan is not None]
    pictures = figures(known) if known else []
    for figure in pictures:
        _ = figure.data
    return [show.card(one) for one in _found], pictures


def figures(known: Sequence[Answer]) -> list[Figure]:
    """The figures of the page; the report shows the same."""
    return [memory_figure(known), step_figure(known), cost_figure(known)]


def memory_figure(known: Sequence[Answer]) -> Figure:
    """Memory by kind against what the GPU holds."""
    rows = [
        (
            one.label,
            [(t(f"kind.{kind}"), one.known.memory_bytes[kind] / GIB) for kind in KINDS],
            show.gib(one.known.peak_total_bytes),
            one.known.usable_bytes / GIB,
        )
        for one in known
    ]
    parts = [t("compare.needs", label=short_text(one.label, 40), gib=show.gib(one.known.peak_total_bytes)) for one in known]
    over = [short_text(one.label, 40) for one in known if not one.known.fits]
    title = show.listed(parts) + (
        t("compare.over", labels=show.listed(over)) if over else t("compare.all_fit" if len(known) > 1 else "compare.it_fits")
    )
    return charts.stacked("memory", "memory", title, t("compare.memory_alt"), rows)


def step_figure(known: Sequence[Answer]) -> Figure:
    """Seconds of a step by part."""
    rows = [
        (
            one.label,
            [(t(f"part.{part}"), one.known.step_parts_s[part]) for part in PARTS if _any(known, part)],
            show.duration(one.known.step_time_s),
            None,
        )
        for one in known
    ]
    parts = [
        t(
            "compare.takes",
            label=short_text(one.label, 40),
            time=show.duration(one.known.step_time_s),
            part=t(f"part.{_largest(one.known)}"),
        )
        for one in known
    ]
    return charts.stacked("step-time", "step", t("compare.step_title", list=show.listed(parts)), t("compare.step_alt"), rows)


def _any(known: Sequence[Answer], part: str) -> bool:
    return any(one.known.step_parts_s[part] > 0 for one in known)


def _largest(plan: Plan) -> str:
    return max(PARTS, key=lambda part: plan.step_parts_s[part])


def cost_figure(known: Sequence[Answer]) -> Figure:
    """Dollars (GPU-hours where there is no price) against days, on fewer and more GPUs."""
    long = [one for one in known if one.known.run_s is not None]
    priced = bool(long) and all(one.known.price is not None for one in long)
    rows = []
    for name, one in zip(charts.unlike([o.label for o in long]), long, strict=True):
        for other in on_other_sizes(one.tables, one.known):
            assert other.run_s is not None
            cost = other.cost_usd if priced else other.gpu_hours
            if cost is None:  # no bill for what does not fit
                continue
            sure = other.intervals["cost_usd" if priced else "gpu_hours"]
            rows.append(
                {
                    "label": name,
                    "gpus": other.num_gpus,
                    "gpus_text": f"{other.num_gpus} GPU",
                    "days": other.run_s / DAY_S,
                    "cost": cost,
                    "now": other.num_gpus == one.known.num_gpus,
                    "lower": sure.lower,
                    "upper": sure.upper,
                    "days_lower": other.intervals["run_s"].lower / DAY_S,
                    "days_upper": other.intervals["run_s"].upper / DAY_S,
                }
            )
    fitting = [one for one in long if one.known.fits]
    if not rows:
        title = t("compare.no_length")
    elif not fitting or not priced:
        title = t("compare.cost_plain")
    else:
        best = min(fitting, key=lambda one: one.known.cost_usd or 0.0)
        title = t(
            "compare.cheapest",
            label=short_text(best.label, 40),
            usd=show.dollars(best.known.cost_usd),
            time=show.duration(best.known.run_s),
        )
    return charts.cost_time(title, t("compare.cost_alt"), rows, priced)


def _whole_runs(found: Sequence[Answer]) -> None:
    """What interruptions, checkpoints and uneven experts add: asked for, since it simulates thousands of runs."""
    if not st.toggle(t("compare.whole_run"), help=t("compare.whole_run_help"), key="whole_run"):
        return
    rows = []
    for one in found:
        if one.plan is None:
            continue
        run, error = whole_run(one.tables, one.plan)
        if run is None:
            show.problem(f"{one.label}: {error}")
            continue
        rows.append(
            {
                t("compare.case"): short_text(one.label),
                t("compare.wall"): show.duration(run.wall_s.expected),
                t("compare.interval"): show.between(run.wall_s, show.duration),
                t("compare.goodput"): f"{run.goodput.expected:.1%}",
                t("compare.interruptions"): f"{run.interruptions.expected:,.2f}",
                **{t(f"cause.{cause}"): show.duration(value) for cause, value in run.causes_s.items() if value > 0},
            }
        )
    if rows:
        st.dataframe(rows, hide_index=True, alt=t("compare.whole_run"))
