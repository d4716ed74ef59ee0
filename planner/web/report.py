"""One page of HTML that stands alone: figures, inputs, versions, sources, assumptions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy
import pydantic

import planner
from planner.common import clock
from planner.web import download, show
from planner.web.answers import Answer
from planner.web.figure import Figure
from planner.web.messages import priced, said, word
from planner.web.state import Scenario, title_of
from planner.web.text import language, t

STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8")


def page(scenario: Scenario, answers: Sequence[Answer]) -> str:
    """The report of a scenario and its answers; nothing in it is fetched when it is opened."""
    from planner.web.pages.compare import figures

    known = [one for one in answers if one.plan is not None]
    pictures: Iterable[Figure] = figures(known) if known else ()
    parts = [
        f"<h1>{escape(title_of(scenario))}</h1>",
        f"<p>{escape(t('report.made', version=planner.__version__, date=clock.today().isoformat()))}</p>",
        "<div class='cards'>",
        *(show.card(one) for one in answers),
        "</div>",
        *(f"<figure role='img' aria-label='{escape(f.alt, quote=True)}'>{_inline(f)}</figure>" for f in pictures if f.rows),
        f"<h2>{escape(t('report.reasons'))}</h2>",
        _notes(answers),
        f"<h2>{escape(t('report.sources'))}</h2>",
        _sources(known),
        f"<h2>{escape(t('report.assumptions'))}</h2>",
        _assumptions(known),
        f"<h2>{escape(t('report.inputs'))}</h2><pre>{escape(download.scenario_toml(scenario))}</pre>",
        f"<h2>{escape(t('report.versions'))}</h2>",
        _table(_versions()),
    ]
    title, lang = escape(title_of(scenario)), language()
    return (
        f"<!doctype html><html lang='{lang}'><head><meta charset='utf-8'><title>{title}</title>"
        "<meta name='viewport' content='width=device-width'>"
        f"<style>{STYLE}{show.STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _inline(figure: Figure) -> str:
    return download.svg(figure)


def _table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> str:
    top = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>" if head else ""
    return f"<table>{top}{''.join('<tr>' + ''.join(f'<td>{escape(str(v))}</td>' for v in row) + '</tr>' for row in rows)}</table>"


def _notes(answers: Sequence[Answer]) -> str:
    rows = [(one.label, reason) for one in answers for reason in show.reasons(one)]
    rows += [(one.label, said(note)) for one in answers if one.plan for note in one.plan.notes]
    rows += [
        (one.label, f"{word(sure.provenance)}: {said(sure.why)}")
        for one in answers
        if one.plan
        for sure in (one.plan.intervals["step_time_s"],)
    ]
    return _table(rows)


def _sources(known: Sequence[Answer]) -> str:
    """Model, accelerator and price with where their values come from."""
    rows = []
    for one in known:
        plan = one.known
        rows.append((one.label, plan.model.name, plan.model.source or t("report.given")))
        card = plan.cluster.accelerator
        rows += [
            (one.label, f"{card.name} {field}", f"{word(p.kind)}: {p.source}")
            for field, p in card.provenance.items()
            if p.kind != "assumed"
        ]
        if plan.price is not None:
            rows.append((one.label, priced(plan.price), plan.price.source or t("report.given")))
    return _table(dict.fromkeys(rows))


def _assumptions(known: Sequence[Answer]) -> str:
    found = {(said(a.where), a.field, f"{a.value}", said(a.source)) for one in known for a in one.known.assumptions}
    return _table(sorted(found), (t("evidence.where"), t("evidence.field"), t("evidence.value"), t("evidence.source")))


def _versions() -> list[tuple[str, str]]:
    import altair
    import streamlit

    return [
        ("planner", planner.__version__),
        ("numpy", numpy.__version__),
        ("pydantic", pydantic.__version__),
        ("altair", altair.__version__),
        ("streamlit", streamlit.__version__),
    ]
