"""Numbers, cards and notes for people, in the language of the session. Everything a user named is escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from planner.common import clock
from planner.common.units import DAY_S, GIB, HOUR_S
from planner.performance.risk import chance
from planner.prices.price import Price
from planner.reports.text import count
from planner.training.plan import Plan
from planner.uncertainty.interval import Interval
from planner.web.answers import Answer, whole_run
from planner.web.guard import markdown, short_text
from planner.web.messages import priced, said
from planner.web.text import t, three

STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
"""Of cards and headings; the report carries it too."""


def duration(value: float | None) -> str:
    """Seconds in a unit that reads well, three digits as ``planner plan`` has them.

    >>> duration(0.0123), duration(142.16), duration(2.5 * 86400)
    ('12.3 ms', '2.37 min', '2.50 days')
    """
    if value is None:
        return "–"
    unit, size = _unit(value)
    return t(f"unit.{unit}", value=three(value / size))


def _unit(value: float) -> tuple[str, float]:
    return next((unit, size) for unit, size, limit in UNITS if value < limit)


def in_one_unit(values: Iterable[float | None]) -> Callable[[float | None], str]:
    """``duration`` of what stands in one row: in the unit of the longest, of the shortest where that is less than a tenth of it.

    >>> [in_one_unit([85000.0, 422000.0])(one) for one in (85000.0, 422000.0, None)], in_one_unit([2.0, 9000.0])(9000.0)
    (['0.984 days', '4.88 days', '–'], '9,000 s')
    """
    given = [value for value in values if value]
    if not given:
        return duration
    unit, size = _unit(max(given))
    if min(given) < 0.1 * size:
        unit, size = _unit(min(given))
    return lambda value: "–" if value is None else t(f"unit.{unit}", value=three(value / size))


UNITS = (("ms", 1e-3, 1.0), ("s", 1.0, 120.0), ("min", 60.0, HOUR_S), ("h", HOUR_S, 2 * DAY_S), ("days", DAY_S, float("inf")))
"""(unit, seconds, used below so many seconds)."""


def gib(value: float) -> str:
    """Bytes in GiB."""
    return f"{value / GIB:,.1f} GiB"


def dollars(value: float | None) -> str:
    """US dollars."""
    if value is None:
        return "–"
    if 0.0 < abs(value) < 0.005:
        return f"${value:.2g}"
    return f"${value:,.2f}" if abs(value) < 100 else f"${value:,.0f}"


def number(value: float | None) -> str:
    """A count with separators."""
    return "–" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def between(found: Interval | None, show: Callable[[float], str]) -> str:
    """The 90 % interval; nothing where there is none, or where its ends read the same."""
    if found is None or show(found.lower) == show(found.upper):
        return ""
    return span(show(found.lower), show(found.upper))


def ranged(figure: str, found: str) -> str:
    """A figure with its range behind it, where it has one.

    >>> ranged("$3", "$2 to $4"), ranged("$0.01", "")
    ('$3 ($2 to $4)', '$0.01')
    """
    return t("show.ranged", figure=figure, span=found) if found else figure


def span(lower: str, upper: str) -> str:
    """Two figures as a range; a unit that both have is said once.

    >>> span("1.65 s", "3.21 s"), span("12.3 min", "2.5 h"), span("$3", "$4")
    ('1.65 to 3.21 s', '12.3 min to 2.5 h', '$3 to $4')
    """
    figure, _, unit = lower.partition(" ")
    same = unit and upper.partition(" ")[2] == unit
    return t("show.between", lower=figure if same else lower, upper=upper)


def parts(*words: str) -> str:
    """What is known of a figure, one after the other."""
    return t("show.semicolon").join(word for word in words if word)


def header(title: str, lead: str) -> None:
    """A page's title and what it answers."""
    st.html(f"<h1 class='page'>{escape(short_text(title, 120))}</h1><p class='lead'>{escape(lead)}</p>")


def section(title: str) -> None:
    """The head of a part of a page."""
    st.html(f"<h2 class='finding'>{escape(title)}</h2>")


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
    """One configuration's headline figures as HTML, in one column or side by side; no bill for what does not fit."""
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
    sub = "<br>".join((escape(model), escape(where), layout(plan.layout.label)))
    chip = f"<span class='chip'>{escape(t('show.automatic'))}</span>" if not answer.tables.get("layout") else ""
    why = "" if plan.fits else f"<p class='why'>{escape(short_text(parts(*reasons(answer)), 400))}</p>"
    return (
        f"<section class='card{' wide' if wide else ''}' aria-label='{escape(answer.label, quote=True)}'>{head}"
        f"<p class='sub'>{sub}</p>"
        f"<span class='verdict {colour}' data-figure='fits'>{escape(words)}</span>{chip}{why}"
        f"<dl>{items(_rows(answer))}</dl></section>"
    )


Item = tuple[str, str, str, str]
"""(key, name, value, interval or note)."""


def items(rows: Iterable[Item]) -> str:
    """Names with figures as HTML; where the key begins with "-" in plain weight, since nothing of it will come to pass."""
    return "".join(
        f"<div{' class=moot' if key.startswith('-') else ''}><dt>{term(name)}</dt>"
        f"<dd data-figure='{key.lstrip('-')}'>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for key, name, value, note in rows
    )


TERMS = ("MFU", "TTFT", "TPOT", "ZeRO", "LoRA", "QLoRA", "KV", "MTBF", "NCCL", "GiB", "PUE")


def term(name: str) -> str:
    """A name as HTML, its abbreviation explained on hover."""
    known = next((one for one in TERMS if one in name), None)
    if known is None:
        return escape(name)
    explained = f"<abbr title='{escape(t(f'glossary.{known}'), quote=True)}'>{known}</abbr>"
    return escape(name).replace(known, explained, 1)


SHORT = {
    "tp": "in.tp",
    "pp": "in.pp",
    "vpp": "in.vpp",
    "cp": "in.cp",
    "ep": "in.ep",
    "etp": "in.etp",
    "dp": "in.dp",
    "sp": "in.sequence_parallel",
    "zero": "in.zero",
    "shard": "remedy.shard_group_size",
    "mbs": "in.micro_batch",
}
"""Abbreviations in the label of a layout."""


def layout(label: str) -> str:
    """The label of a layout as HTML, each abbreviation explained on hover.

    >>> layout("tp2 recompute full")
    "<abbr title='Tensor parallel'>tp2</abbr> recompute full"
    """
    names = [(part, SHORT.get(part.rstrip("0123456789"))) for part in label.split()]
    return " ".join(
        f"<abbr title='{escape(t(key), quote=True)}'>{escape(part)}</abbr>" if key else escape(part) for part, key in names
    )


def budget_s(answer: Answer) -> float | None:
    """Seconds to budget; None where there is no run."""
    plan = answer.known
    if not plan.fits or plan.run_s is None:
        return None
    whole = whole_run(answer.tables, plan).whole
    return None if whole is None else whole.budget_s.expected


def budgeted(answer: Answer, say: Callable[[float | None], str] = duration) -> tuple[str, str]:
    """What to ask for, and its time and interval as a note: dollars, without a price the time; "–" where there is no run."""
    plan = answer.known
    if not plan.fits or plan.run_s is None:
        return "–", ""
    found = whole_run(answer.tables, plan)
    if found.whole is None:
        return "–", said(found.error)
    time = say(found.whole.budget_s.expected)
    if found.bill is None:
        return time, between(found.whole.budget_s, say)
    return dollars(found.bill.budget_usd.expected), parts(between(found.bill.budget_usd, dollars), time)


def _rows(answer: Answer) -> list[Item]:
    """The headline figures."""
    plan = answer.known
    sure, moot = plan.intervals, "" if plan.fits else "-"
    usable = t("show.of_usable", usable=gib(plan.usable_bytes))
    memory = parts(usable, between(sure["peak_total_bytes"], gib))
    found = [
        ("gib", t("show.memory"), gib(plan.peak_total_bytes), memory),
        (f"{moot}step", t("show.step"), duration(plan.step_time_s), between(sure["step_time_s"], duration)),
        (f"{moot}tokens", t("show.tokens"), number(plan.tokens_per_s), between(sure["tokens_per_s"], number)),
        (f"{moot}mfu", t("show.mfu"), f"{plan.mfu:.1%}", between(sure["mfu"], lambda v: f"{v:.1%}")),
    ]
    if not plan.fits:
        return found
    run = duration(plan.run_s) if plan.run_s is not None else t("show.no_length")
    cost = dollars(plan.cost_usd) if plan.run_s is not None else "–"
    return [
        *found,
        *([("budget", t("show.budget"), *budgeted(answer))] if plan.run_s is not None else []),
        ("run", t("show.run"), run, between(sure.get("run_s"), duration)),
        ("cost", t("show.cost"), cost, cost_note(plan)),
    ]


def percent(probability: float) -> float:
    """A probability for a column of numbers, never rounded up to what it does not reach, as ``risk.chance`` says it.

    >>> percent(0.9499), percent(0.95), percent(1.0)
    (94.9, 95.0, 100.0)
    """
    return float(chance(probability).rstrip("%"))


def staleness(price: Price) -> str:
    """That a quote is old, or may be; nothing where it is fresh."""
    today = clock.today()
    if price.is_stale(today):
        return t("show.stale")
    return t("show.may_be_stale", date=price.date) if price.may_be_stale(today) else ""


def cost_note(plan: Plan) -> str:
    """The interval of the cost and where the price comes from."""
    if plan.price is None:
        return t("show.no_price")
    old = staleness(plan.price)
    stale = f" · {old}" if old else ""
    quote = t("show.quote", usd=f"{plan.price.usd_per_gpu_hour:.2f}", what=priced(plan.price)) + stale
    found = plan.intervals.get("cost_usd")
    return parts(between(found, dollars), quote)


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
