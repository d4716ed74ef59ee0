"""Whole run: from step to bill. Wall clock with failures, energy, CO2, rent or own, what moves the total."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import streamlit as st

from planner.common.units import DAY_S, GB
from planner.lifecycle.bill import ITEMS, Bill
from planner.lifecycle.sensitivity import Swing, cash_flow
from planner.lifecycle.simulation import CAUSES, WholeRun
from planner.prices.carbon import grids
from planner.prices.market import class_prices, find_price
from planner.prices.ownership import Ownership
from planner.prices.price import TERMS
from planner.studies.holding import Holding, Way, holding
from planner.training.plan import Plan
from planner.uncertainty.interval import Interval
from planner.web import charts, controls, show, state
from planner.web.answers import Run, answers, swings, whole_run
from planner.web.download import csv_bytes, take
from planner.web.figure import Figure
from planner.web.guard import markdown, short_text
from planner.web.messages import priced, said, word
from planner.web.pages.compare import Cell
from planner.web.text import about, t, three

FAILURES = ("published", "none")


def page() -> None:
    """The runs of all configurations; the controls are those of the chosen one."""
    show.header(t("run.title"), t("run.lead"))
    cases = state.current()["cases"]
    case = min(int(st.session_state.get("case", 0)), len(cases) - 1)
    _controls(case, cases[case]["tables"])
    found, labels, moved = [], [], []
    for at, one in enumerate(answers()):
        if one.plan is None:
            show.problem(about(one.label, said(one.error)))
            continue
        if not one.plan.fits:
            st.warning(t("run.does_not_fit", label=markdown(one.label)), icon=":material/memory:")
            continue
        run = whole_run(one.tables, one.plan)
        if run.whole is None:
            show.problem(about(one.label, said(run.error)))
            price = one.plan.price
            if price is not None and price.preempted and not one.tables.get("run", {}).get("preemption_mtbf_s"):
                daily = {"run": {"preemption_mtbf_s": DAY_S}}
                st.button(t("run.once_a_day"), key=f"run.once_a_day.{at}", on_click=state.change, args=(at, daily))
            continue
        found.append(run)
        moved.append(swings(one.tables, run))
        labels.append(short_text(one.label, 40))
    if not found:
        return
    wholes, bills = [run.whole for run in found if run.whole is not None], [run.bill for run in found]
    st.html(table(labels, wholes, bills))
    figures = [causes_figure(labels, wholes)]
    figures += [
        tornado_figure(label, run.bill, ends) for label, run, ends in zip(labels, found, moved, strict=True) if run.bill and ends
    ]
    chosen = answers()[case]
    if chosen.plan is not None and "own" in chosen.tables.get("cost", {}):
        figures.append(holding_figure(_held(chosen.plan, chosen.tables)))
    figures += [flow for label, run in zip(labels, found, strict=True) if (flow := cash_flow_figure(label, run)) is not None]
    charts.show(*figures, key="run")
    for note, those in notes_of(labels, found).items():
        st.caption(markdown(about(show.listed(those), note) if len(labels) > 1 else note, 400))
    _lines(labels, bills)
    _months(labels, found)
    _elsewhere(answers()[case].plan)


def notes_of(labels: Sequence[str], found: Sequence[Run]) -> dict[str, list[str]]:
    """What runs and bills rest on, once each -> the configurations of which it is said."""
    told: dict[str, list[str]] = {}
    for label, run in zip(labels, found, strict=True):
        notes = (*run.whole.notes, *(run.bill.notes if run.bill else ())) if run.whole else ()
        for note in dict.fromkeys(said(note) for note in notes):
            told.setdefault(note, []).append(label)
    return told


def _controls(case: int, tables: state.Tables) -> None:
    """What the run meets, and what it costs beside GPU-hours."""
    run, cost = tables.setdefault("run", {}), tables.setdefault("cost", {})
    with st.expander(t("run.change"), expanded=False):
        left, middle, right = st.columns(3)
        with left:
            controls.choice(
                case,
                "run",
                "failures",
                t("run.failures"),
                FAILURES,
                run.get("failures", "published"),
                lambda n: t(f"run.failures_{n}"),
            )
            controls.switch_to(case, "run", "field", t("run.field"), "published", run.get("field"), help=t("run.field_help"))
        with middle:
            regions = [grid.region for grid in grids().values()]
            now = cost.get("region", "")
            controls.choice(
                case, "cost", "region", t("run.region"), ["", *regions], now, lambda n: word(n) if n else t("in.none")
            )
            controls.number(
                case,
                "cost",
                "electricity_usd_per_kwh",
                t("run.electricity"),
                cost.get("electricity_usd_per_kwh"),
                least=0.0,
                most=10.0,
                step=0.01,
                placeholder=t("run.usual"),
            )
        with right:
            controls.number(
                case,
                "run",
                "preemption_mtbf_s",
                t("run.preemption"),
                run.get("preemption_mtbf_s"),
                least=60.0,
                most=1e9,
                step=3600.0,
                placeholder=t("run.needed_for_spot"),
            )
            controls.switch_to(case, "cost", "own", t("run.own"), {}, cost.get("own"), help=t("run.own_help"))


def _span(found: Interval | None, say: Callable[[float], str]) -> Cell:
    if found is None:
        return "–", ""
    return say(found.expected), show.between(found, say) if found.lower != found.upper else ""


def _spans(found: Sequence[Interval]) -> list[Cell]:
    """Durations of a row, in one unit."""
    say = show.in_one_unit(one.expected for one in found)
    return [_span(one, say) for one in found]


def _kwh(value: float) -> str:
    return t("run.kwh", value=f"{value:,.0f}")


def _carbon(grams: float) -> str:
    return t("run.tonnes", value=three(grams / 1e6)) if grams >= 1e6 else t("run.kilograms", value=three(grams / 1e3))


def _interruptions(run: WholeRun) -> Cell:
    """Expected number, and the range of whole ones: nothing where it is none in nineteen runs of twenty."""
    found = run.interruptions
    return f"{found.expected:,.2g}" if found.expected < 100 else show.number(found.expected), (
        show.span(f"{math.floor(found.lower):,}", f"{math.floor(found.upper):,}") if found.upper >= 1 else ""
    )


Rows = list[tuple[str, str, list[Cell]]]


def table(labels: Sequence[str], runs: Sequence[WholeRun], bills: Sequence[Bill | None]) -> str:
    """Figures down, configurations across; what is budgeted beside what is modelled."""
    mtbf = show.in_one_unit(r.mtbf_s for r in runs)
    rows: Rows = [
        *_budget_rows(bills),
        ("budget-days", t("run.budget_time"), _spans([r.budget_s for r in runs])),
        ("wall", t("run.wall"), _spans([r.wall_s for r in runs])),
        ("", t("run.gpu_hours"), [_span(r.gpu_hours, show.number) for r in runs]),
        ("goodput", t("run.goodput"), [_span(r.goodput, lambda v: f"{v:.1%}") for r in runs]),
        ("", t("run.interruptions"), [_interruptions(r) for r in runs]),
        ("", t("run.mtbf"), [(mtbf(r.mtbf_s), "") for r in runs]),
        ("", t("run.checkpoint"), [_checkpoint(r) for r in runs]),
    ]
    rows += _bill_rows(bills)
    head = "".join(f"<th scope='col'>{escape(label)}</th>" for label in labels)
    body = "".join(
        f"<tr><th scope='row'>{show.term(name)}</th>"
        + "".join(
            f"<td><span data-figure='{key}'>{escape(value)}</span><small>{escape(note)}</small></td>" for value, note in cells
        )
        + "</tr>"
        for key, name, cells in rows
    )
    caption = escape(t("run.caption"))
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{caption}'><table class='figures'>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _checkpoint(run: WholeRun) -> Cell:
    size = t("run.gb", value=f"{run.checkpoint_bytes / GB:,.0f}", time=show.duration(run.checkpoint_write_s))
    every = t("run.never") if run.checkpoint_interval_s is None else t("run.every", time=show.duration(run.checkpoint_interval_s))
    return every, size


def _budget_rows(bills: Sequence[Bill | None]) -> Rows:
    if not any(bills):
        return []
    return [
        ("budget", t("run.budget"), [_span(None if b is None else b.budget_usd, show.dollars) for b in bills]),
        ("", t("run.budget_mean"), [("–", "") if b is None else (show.dollars(b.budget_mean_usd), "") for b in bills]),
    ]


def _bill_rows(bills: Sequence[Bill | None]) -> Rows:
    known = [b for b in bills if b is not None]
    if not known:
        return []
    rows: Rows = [("", t("run.price"), [("–", t("show.no_price")) if b is None else _price(b) for b in bills])]
    for item in ITEMS:
        if any(b.items_usd[item].expected > 0 for b in known):
            rows.append(
                ("", t(f"run.item_{item}"), [_span(None if b is None else b.items_usd[item], show.dollars) for b in bills])
            )
    rows.append(("total", t("run.total"), [_span(None if b is None else b.total_usd, show.dollars) for b in bills]))
    rows.append(("energy", t("run.energy"), [_span(None if b is None else b.energy_kwh, _kwh) for b in bills]))
    if any(b.grams_co2 for b in known):
        rows.append(("co2", t("run.co2"), [_span(None if b is None else b.grams_co2, _carbon) for b in bills]))
    rows.append(("", t("run.embodied"), [_span(None if b is None else b.embodied_grams_co2, _carbon) for b in bills]))
    if any(b.owned for b in known):
        rows.append(("own", t("run.on_own"), [_own(b) for b in bills]))
    return rows


def _price(bill: Bill) -> Cell:
    old = show.staleness(bill.price)
    words = f"{priced(bill.price)} · {old}" if old else priced(bill.price)
    return f"${bill.price.usd_per_gpu_hour:.2f}", words


def _own(bill: Bill | None) -> Cell:
    if bill is None or bill.owned is None or bill.owned_usd is None:
        return "–", ""
    share = bill.owned.break_even_utilisation
    note = t("run.own_never") if share is None else t("run.own_above", share=f"{share:.0%}", years=f"{bill.owned.years:.0f}")
    if share is not None and share > 1.0:
        note = t("run.own_longer", years=f"{bill.owned.years:.0f}")
    return show.dollars(bill.owned_usd.expected), note


def causes_figure(labels: Sequence[str], runs: Sequence[WholeRun]) -> Figure:
    """Days of wall clock by cause."""
    used = [cause for cause in CAUSES if any(r.causes_s[cause] > 0 for r in runs)]
    say = show.in_one_unit(r.wall_s.expected for r in runs)
    rows = [
        (label, [(t(f"cause.{cause}"), r.causes_s[cause] / DAY_S) for cause in used], say(r.wall_s.expected), None)
        for label, r in zip(labels, runs, strict=True)
    ]
    lost = [t("run.useful", label=label, share=f"{r.goodput.expected:.1%}") for label, r in zip(labels, runs, strict=True)]
    paint = (*charts.PARTS, *charts.GROUPS)
    return charts.stacked(
        "wall-clock", "days", show.listed(lost), t("run.causes_alt"), rows, [paint[CAUSES.index(cause)] for cause in used]
    )


def end_words(text: str) -> str:
    """An end of an input in the language of the session: "0.5 x as many", "10 min", "as modelled"."""
    value, _, unit = text.partition(" ")
    units = {"x as many": "run.as_many", "min": "run.minutes", "of rated": "run.of_rated"}
    if unit in units:
        return t(units[unit], value=value)
    known = {"as modelled": "run.as_modelled", "as published runs went": "run.as_published"}
    return t(known[text]) if text in known else text


def tornado_figure(label: str, bill: Bill, swings: Sequence[Swing]) -> Figure:
    """What moves the total, the widest first."""
    now = bill.total_usd.expected
    rows: list[dict[str, Any]] = []
    for swing in swings:
        words = {
            "name": t(f"run.swing_{swing.name.replace(' ', '_')}"),
            "low": about(end_words(swing.low), show.dollars(swing.low_usd)),
            "high": about(end_words(swing.high), show.dollars(swing.high_usd)),
            "now": now,
        }
        rows += [
            {**words, "end": t("run.low_end"), "from": now, "to": swing.low_usd},
            {**words, "end": t("run.high_end"), "from": now, "to": swing.high_usd},
        ]
    widest = swings[0]
    title = t(
        "run.tornado_title",
        label=label,
        name=t(f"run.swing_{widest.name.replace(' ', '_')}"),
        low=show.dollars(min(widest.low_usd, widest.high_usd)),
        high=show.dollars(max(widest.low_usd, widest.high_usd)),
    )
    return charts.tornado("tornado", title, t("run.tornado_alt"), rows)


def _held(plan: Plan, tables: state.Tables) -> Holding:
    """All ways to hold the plan's GPUs for five years, under [cost] and [cost.own]; at a rent of one's own where one is given."""
    cost, run = tables.get("cost", {}), tables.get("run", {})
    own_rent = plan.price is not None and plan.price.term == "own price"
    return holding(
        plan.cluster,
        Ownership.build(dict(cost.get("own") or {}), "cost.own"),
        rent_usd_per_gpu_hour=plan.price.usd_per_gpu_hour if own_rent and plan.price else None,
        preemption_mtbf_s=run.get("preemption_mtbf_s"),
        pue=cost.get("pue"),
        electricity_usd_per_kwh=cost.get("electricity_usd_per_kwh"),
        power_w_per_gpu=cost.get("power_w_per_gpu"),
    )


def _way(name: str) -> str:
    return t(f"run.way_{name.replace('-', '_')}")


def _line(way: Way) -> str:
    return t("run.whole_terms", way=_way(way.name)) if way.binds else _way(way.name)


def _month(value: float | None) -> str:
    return t("run.never_pays") if value is None else f"{value:.0f}"


def holding_figure(found: Holding) -> Figure:
    """Dollars so far of each way over the months, a term that binds whole from the day it begins (what the break-even compares);
    the break-even of owning in the title."""
    quarters = found.months[found.months % 3 == 0]
    lines = {_line(way): way.steps() if way.binds else (quarters, way.usd[quarters.astype(int) - 1]) for way in found.ways}
    rows = [
        {"x": float(month), "y": float(usd), "group": name, "note": show.dollars(float(usd))}
        for name, line in lines.items()
        for month, usd in zip(*line, strict=True)
    ]
    even = next(one for one in found.break_even if one.against == "on-demand")
    title = t(
        "run.holding_title",
        years=f"{found.years:g}",
        use=f"{found.utilisation:.0%}",
        best=_way(found.cheapest.name),
        month=_month(even.months),
        lower=_month(even.months_lower),
        upper=_month(even.months_upper),
    )
    return charts.lines("holding", title, t("run.holding_alt"), rows, x="months_axis", y="usd_axis")


def cash_flow_figure(label: str, run: Run) -> Figure | None:
    """What falls due each month by item; None where all of it falls due in one month."""
    months = cash_flow(run.whole, run.bill) if run.whole is not None and run.bill is not None else ()
    if run.bill is None or len(months) < 2:
        return None
    due = {item: [getattr(month, f"{item}_usd") for month in months] for item in ITEMS}
    rows = [
        {"month": month.month, "part": t(f"run.item_{item}"), "value": usd, "shown": show.dollars(usd), "order": order}
        for order, item in enumerate(ITEMS)
        for month, usd in zip(months, due[item], strict=True)
        if usd > 0
    ]
    title = t("run.cash_flow_title", label=label, usd=show.dollars(run.bill.total_usd.expected), months=len(months))
    colours = [charts.GROUPS[i] for i, item in enumerate(ITEMS) if any(due[item])]
    return charts.due("cash-flow", title, t("run.cash_flow_alt"), rows, colours)


def line_rows(labels: Sequence[str], bills: Sequence[Bill | None]) -> list[dict[str, Any]]:
    """Each line of each bill: quantity x unit price, term, date and source, as ``planner run`` has them."""
    several = len(labels) > 1
    return [
        {
            **({t("run.column_case"): label} if several else {}),
            t("run.column_item"): t(f"run.item_{line.item}"),
            t("run.column_quantity"): line.quantity,
            t("run.column_unit"): said(line.unit),
            t("run.column_unit_usd"): line.unit_usd,
            t("run.column_line_usd"): line.usd,
            t("run.column_term"): word(line.term) if line.term else "–",
            t("run.column_date"): line.date or "–",
            t("evidence.source"): said(line.source),
        }
        for label, bill in zip(labels, bills, strict=True)
        if bill is not None
        for line in bill.lines
    ]


def _lines(labels: Sequence[str], bills: Sequence[Bill | None]) -> None:
    rows = line_rows(labels, bills)
    if rows:
        with st.expander(t("run.lines")):
            config = {
                t("run.column_quantity"): st.column_config.NumberColumn(format="localized"),
                t("run.column_line_usd"): st.column_config.NumberColumn(format="%.2f"),
            }
            st.dataframe(rows, hide_index=True, alt=t("run.lines"), column_config=config)


def _months(labels: Sequence[str], found: Sequence[Any]) -> None:
    """Dollars by month, to take along."""
    import pandas as pd

    rows = [
        {"case": label, **vars(month), "total_usd": month.total_usd}
        for label, run in zip(labels, found, strict=True)
        if run.bill is not None
        for month in cash_flow(run.whole, run.bill)
    ]
    if rows:
        take(t("run.months"), lambda: csv_bytes(pd.DataFrame(rows)), "months.csv", "text/csv", "run.months")


def _elsewhere(plan: Any) -> None:
    """What the same GPU costs at other terms and of other kinds of provider, with dates (planner prices show)."""
    if plan is None:
        return
    card = plan.cluster.accelerator.name
    with st.expander(t("run.elsewhere", card=card)):
        rows = []
        quotes = [(t(f"in.term_{name.replace('-', '_')}"), find_price(card, term=name)) for name in TERMS]
        quotes += [(t(f"run.class_{name.replace('-', '_')}"), price) for name, price in class_prices(card).items()]
        for name, price in quotes:
            low, high = price.interval_usd_per_gpu_hour
            rows.append(
                {
                    t("run.column_term"): name,
                    t("in.usd"): price.usd_per_gpu_hour,
                    t("run.column_between"): t("show.between", lower=f"{low:.2f}", upper=f"{high:.2f}"),
                    t("run.column_quote"): priced(price),
                    t("run.column_age"): show.staleness(price),
                }
            )
        cents = {t("in.usd"): st.column_config.NumberColumn(format="%.2f")}
        st.dataframe(rows, hide_index=True, alt=t("run.elsewhere", card=card), column_config=cents)
