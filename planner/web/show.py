"""Numbers, cards and notes for people, in the language of the session. Everything a user named is escaped."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from planner.common.units import DAY_S, GIB, HOUR_S
from planner.performance.risk import chance
from planner.reports.text import count
from planner.training.plan import Plan
from planner.uncertainty.interval import Interval
from planner.web.answers import Answer
from planner.web.guard import markdown, short_text
from planner.web.messages import priced, said
from planner.web.text import t

STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
"""Of cards and headings; the report carries it too."""


def duration(value: float | None) -> str:
    """Seconds in a unit that reads well."""
    if value is None:
        return "–"
    for size, unit, digits in ((1e-3, "ms", 1), (1.0, "s", 2), (HOUR_S, "h", 2), (DAY_S, "days", 1)):
        limit = {"ms": 1.0, "s": 600.0, "h": 3 * DAY_S, "days": float("inf")}[unit]
        if value < limit:
            return t(f"unit.{unit}", value=f"{value / size:,.{digits}f}")
    raise AssertionError


def gib(value: float) -> str:
    """Bytes in GiB."""
    return f"{value / GIB:,.1f} GiB"


def dollars(value: float | None) -> str:
    """US dollars."""
    if value is None:
        return "–"
    return f"${value:,.2f}" if abs(value) < 100 else f"${value:,.0f}"


def number(value: float | None) -> str:
    """A count with separators."""
    return "–" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def between(found: Interval | None, show: Callable[[float], str]) -> str:
    """The 90 % interval."""
    return "" if found is None else t("show.between", lower=show(found.lower), upper=show(found.upper))


def header(title: str, lead: str) -> None:
    """A page's title and what it answers."""
    st.html(f"<h1 class='page'>{escape(short_text(title, 120))}</h1><p class='lead'>{escape(lead)}</p>")


def verdict(plan: Plan) -> tuple[str, str]:
    """(class of the colour, words) on whether it fits."""
    sure = plan.certainty in ("fits", "does not fit")
    if plan.fits:
        words = t("show.fits" if sure else "show.probably_fits", free=gib(plan.headroom_bytes), sure=chance(plan.fit_probability))
        return ("yes" if sure else "perhaps"), words
    if plan.headroom_bytes < 0:
        return "no", t("show.does_not_fit" if sure else "show.probably_not", over=gib(-plan.headroom_bytes))
    return "no", t("show.host_full")


def card(answer: Answer, wide: bool = False) -> str:
    """One configuration's headline figures as HTML, in one column or side by side."""
    head = f"<h2>{escape(short_text(answer.label))}</h2>"
    if answer.plan is None:
        return (
            f"<section class='card' aria-label='{escape(answer.label, quote=True)}'>{head}"
            f"<span class='verdict error'>{escape(t('show.impossible'))}</span>"
            f"<p class='why'>{escape(short_text(said(answer.error), 900))}</p></section>"
        )
    plan = answer.plan
    colour, words = verdict(plan)
    model = f"{short_text(plan.model.name)} · {count(plan.parameters_total)}"
    if plan.parameters_active != plan.parameters_total:
        model += " · " + t("show.active", count=count(plan.parameters_active))
    where = f"{short_text(plan.cluster.name, 80)} · {short_text(plan.framework.name)}"
    sub = "<br>".join(escape(line) for line in (model, where, plan.layout.label))
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd data-figure='{key}'>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for key, name, value, note in _rows(plan)
    )
    return (
        f"<section class='card{' wide' if wide else ''}' aria-label='{escape(answer.label, quote=True)}'>{head}"
        f"<p class='sub'>{sub}</p>"
        f"<span class='verdict {colour}' data-figure='fits'>{escape(words)}</span><dl>{items}</dl></section>"
    )


def _rows(plan: Plan) -> list[tuple[str, str, str, str]]:
    """(key, name, value, interval or note) of the headline figures."""
    sure = plan.intervals
    return [
        (
            "gib",
            t("show.memory"),
            gib(plan.peak_total_bytes),
            t("show.of_usable", usable=gib(plan.usable_bytes)) + "; " + between(sure["peak_total_bytes"], gib),
        ),
        ("step", t("show.step"), duration(plan.step_time_s), between(sure["step_time_s"], duration)),
        ("tokens", t("show.tokens"), number(plan.tokens_per_s), between(sure["tokens_per_s"], number)),
        ("mfu", t("show.mfu"), f"{plan.mfu:.1%}", between(sure["mfu"], lambda v: f"{v:.1%}")),
        (
            "run",
            t("show.run"),
            duration(plan.run_s) if plan.run_s is not None else t("show.no_length"),
            between(sure.get("run_s"), duration),
        ),
        ("cost", t("show.cost"), dollars(plan.cost_usd) if plan.run_s is not None else "–", cost_note(plan)),
    ]


def cost_note(plan: Plan) -> str:
    """The interval of the cost and where the price comes from."""
    if plan.price is None:
        return t("show.no_price")
    stale = " · " + t("show.stale") if plan.price.is_stale(datetime.date.today()) else ""
    quote = t("show.quote", usd=f"{plan.price.usd_per_gpu_hour:.2f}", what=priced(plan.price)) + stale
    found = plan.intervals.get("cost_usd")
    return f"{between(found, dollars)}; {quote}" if found else quote


def listed(parts: Sequence[str]) -> str:
    """Words joined for a sentence.

    >>> listed(["a"])
    'a'
    """
    if len(parts) < 2:
        return "".join(parts)
    return t("show.joined", first=t("show.comma").join(parts[:-1]), last=parts[-1])


def reasons(answer: Answer) -> Iterable[str]:
    """Why a plan does not fit."""
    return [said(text) for text in (answer.plan.reasons if answer.plan else (answer.error,))]


def problem(text: Any) -> None:
    """An error for people: what the planner says, nothing that Markdown would read."""
    st.error(t("show.problem") + " " + markdown(said(str(text)), 1200), icon=":material/error:")
