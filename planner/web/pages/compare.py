"""Compare: configurations side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from html import escape

import streamlit as st

from planner.common import clock
from planner.common.errors import PlannerError
from planner.common.units import DAY_S, GIB
from planner.performance.memory import KINDS
from planner.performance.step_time import PARTS
from planner.reports.text import count
from planner.studies.equal_terms import TERMS, Side, on_equal_terms
from planner.studies.scaling_law import NAMES as LAWS
from planner.training.difference import ratios
from planner.training.plan import Plan
from planner.uncertainty.interval import Interval
from planner.uncertainty.ratio import Ratio
from planner.web import charts, show, state
from planner.web.answers import Answer, answers, key_of, on_other_sizes, remembered
from planner.web.figure import Figure
from planner.web.guard import markdown, short_text
from planner.web.launch import launch_files
from planner.web.messages import said
from planner.web.pages import memory
from planner.web.text import language, t


def page() -> None:
    """One table of figures with the difference, memory, step time, cost against time."""
    scenario = state.current()
    show.header(state.title_of(scenario), t("compare.lead"))
    found = answers()
    at = _terms(len(found))
    heads, pictures = drawn(found)
    if at == "given":
        st.html(heads)
    else:
        _equal(found, at)
    known = [one for one in found if one.plan is not None]
    if not known:
        st.info(t("compare.nothing"))
        return
    notes = st.empty()  # a place of their own, so that what follows stays where it is and is not drawn anew
    if any(not one.known.fits for one in known):
        with notes.container():
            _remedies(found)
    charts.show(*pictures, key="compare")
    box = st.popover(
        t("compare.launch"), key="compare.launch", type="tertiary", on_change="rerun", icon=":material/rocket_launch:"
    )
    if box.open:
        with box:
            case = min(int(st.session_state.get("case", 0)), len(found) - 1)
            chosen = found[case]
            if chosen.plan is None or not chosen.plan.fits:
                st.caption(t("compare.no_launch", label=markdown(chosen.label)))
            else:
                st.caption(markdown(chosen.label))
                launch_files(chosen.plan, "compare")


def _terms(cases: int) -> str:
    """As given, or everything brought to the first configuration's loss, operations, dollars, days or parameters."""
    if cases < 2:
        return "given"
    key = f"compare.at.{language()}"
    chosen = st.segmented_control(
        t("compare.at"),
        ("given", *TERMS),
        default=st.session_state.get("compare.at", "given"),
        format_func=lambda n: t(f"compare.at_{n}"),
        key=key,
        required=True,
        help=t("compare.at_help"),
    )
    st.session_state["compare.at"] = chosen
    return str(chosen)


def _remedies(found: Sequence[Answer]) -> None:
    """For each configuration that does not fit the three quickest changes with which it does, and what they cost."""
    for case, one in enumerate(found):
        if one.plan is not None and not one.plan.fits:
            memory.remedies_of(case, one, most=3)


Cell = tuple[str, str]
"""Figure and note."""


def table(found: Sequence[Answer]) -> str:
    """Figures down, configurations across, the difference of each from the first last."""
    first = found[0].plan
    others = [one for one in found[1:] if one.plan is not None] if first is not None else []
    head = "".join(f"<th scope='col'>{_head(one)}</th>" for one in found)
    single = len(others) == 1
    over = escape(t("compare.over_first", label=short_text(found[0].label, 40)))
    for one in others:
        name = t("compare.difference") if single else t("compare.difference_of", label=short_text(one.label, 40))
        head += f"<th scope='col'>{escape(name)}<small>{over}</small></th>"
    rows = []
    between = {one.label: ratios(one.known, first) for one in others} if first is not None else {}
    for key, name, figure, ratio in ROWS:
        if key == "run" and any(one.plan is not None and one.plan.run_s is not None for one in found):
            rows.append(_budgets(found, len(others)))
        if key in SECONDS:
            say = show.in_one_unit(getattr(one.plan, SECONDS[key]) for one in found if one.plan is not None)
            figure = partial(figure, say=say)
        cells = []
        for one in found:
            if one.plan is None:
                cells.append("<td>–</td>")
                continue
            value, note = figure(one.plan)
            moot = " class='moot'" if not one.plan.fits and key not in ("gib", "parameters", "where", "layout") else ""
            told = show.layout(value) if key == "layout" else escape(value)
            cells.append(f"<td{moot}><span data-figure='{key}'>{told}</span><small>{escape(note)}</small></td>")
        cells += [
            f"<td>{_difference(between[one.label], ratio) if _both(figure, first, one.plan) else ''}</td>" for one in others
        ]
        rows.append(f"<tr><th scope='row'>{show.term(t(name))}</th>{''.join(cells)}</tr>")
    caption = escape(t("compare.caption"))
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{caption}'><table class='figures'>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _budgets(found: Sequence[Answer], others: int) -> str:
    """The row of what to ask for; no ratio of budgets, whose factor is the same."""
    say = show.in_one_unit(None if one.plan is None else show.budget_s(one) for one in found)
    told = [("–", "") if one.plan is None else show.budgeted(one, say) for one in found]
    cells = [f"<td><span data-figure='budget'>{escape(value)}</span><small>{escape(note)}</small></td>" for value, note in told]
    return f"<tr><th scope='row'>{show.term(t('show.budget'))}</th>{''.join(cells)}{'<td></td>' * others}</tr>"


def _head(one: Answer) -> str:
    label = f"{escape(short_text(one.label))}<br>"
    if one.plan is None:
        return (
            f"{label}<span class='verdict error'>{escape(t('show.impossible'))}</span>"
            f"<small class='why'>{escape(short_text(said(one.error), 900))}</small>"
        )
    colour, words = show.verdict(one.plan)
    why = "" if one.plan.fits else f"<small class='why'>{escape(short_text(show.parts(*show.reasons(one)), 300))}</small>"
    return f"{label}<span class='verdict {colour}' data-figure='fits'>{escape(words)}</span>{why}"


def _both(figure: Callable[[Plan], Cell], first: Plan | None, plan: Plan | None) -> bool:
    """Whether two configurations both have a figure: what does not fit has neither run nor bill, so no ratio of them."""
    return first is not None and plan is not None and "–" not in (figure(first)[0], figure(plan)[0])


def _times(ratio: float) -> str:
    """A ratio, of three digits or more as a count.

    >>> _times(1.347), _times(945082.59)
    ('1.35', '945,083')
    """
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:,.0f}"


def _difference(found: dict[str, Ratio], name: str) -> str:
    """ "× 1.35 (1.20 to 1.50)", and that the order is not decidable where it is not."""
    ratio = found.get(name)
    if ratio is None:
        return ""
    span = t("show.between", lower=_times(ratio.lower), upper=_times(ratio.upper))
    note = span if ratio.lower != ratio.upper else ""
    if not ratio.decidable and note:
        note = show.parts(note, t("compare.undecided"))
    return f"× {_times(ratio.expected)}<small>{escape(note)}</small>"


def _span(plan: Plan, name: str, say: Callable[[float], str]) -> str:
    return show.between(plan.intervals.get(name), say)


def _parameters(plan: Plan) -> Cell:
    active = "" if plan.parameters_active == plan.parameters_total else t("show.active", count=count(plan.parameters_active))
    return count(plan.parameters_total), active


Say = Callable[[float | None], str]


def _run(plan: Plan, say: Say = show.duration) -> Cell:
    if not plan.fits or plan.run_s is None:
        return ("–" if plan.run_s is not None else t("show.no_length")), ""
    return say(plan.run_s), _span(plan, "run_s", say)


def _cost(plan: Plan) -> Cell:
    if not plan.fits:
        return "–", t("show.no_bill")
    return (show.dollars(plan.cost_usd) if plan.run_s is not None else "–"), show.cost_note(plan)


def _where(plan: Plan) -> Cell:
    return f"{plan.num_gpus} x {plan.cluster.accelerator.name}", f"{plan.cluster.node.name} · {plan.framework.name}"


def _layout(plan: Plan) -> Cell:
    return plan.layout.label, ""


def _memory(plan: Plan) -> Cell:
    usable = t("show.of_usable", usable=show.gib(plan.usable_bytes))
    span = _span(plan, "peak_total_bytes", show.gib)
    return show.gib(plan.peak_total_bytes), show.parts(usable, span)


def _step(plan: Plan, say: Say = show.duration) -> Cell:
    return say(plan.step_time_s), _span(plan, "step_time_s", say)


def _tokens(plan: Plan) -> Cell:
    return show.number(plan.tokens_per_s), _span(plan, "tokens_per_s", show.number)


def _mfu(plan: Plan) -> Cell:
    return f"{plan.mfu:.1%}", _span(plan, "mfu", lambda v: f"{v:.1%}")


ROWS: tuple[tuple[str, str, Callable[..., Cell], str], ...] = (
    ("parameters", "compare.parameters", _parameters, ""),
    ("where", "compare.hardware", _where, ""),
    ("layout", "in.layout", _layout, ""),
    ("gib", "show.memory", _memory, "peak_total_bytes"),
    ("step", "show.step", _step, "step_time_s"),
    ("tokens", "show.tokens", _tokens, ""),
    ("mfu", "show.mfu", _mfu, ""),
    ("run", "show.run", _run, "run_s"),
    ("cost", "show.cost", _cost, "cost_usd"),
)
"""(key, text, figure and note of a plan, the figure's name in ``difference.ratios``)."""
SECONDS = {"step": "step_time_s", "run": "run_s"}
"""Rows of durations: their figures are told in one unit."""


@remembered
def _sides(key: str, _found: Sequence[Answer], _labels: Sequence[str], at: str) -> tuple[tuple[Side, ...], str]:
    runs, costs = ([one.tables.get(name) or {} for one in _found] for name in ("run", "cost"))
    try:
        return on_equal_terms(_labels, [one.known for one in _found], at, runs=runs, costs=costs), ""
    except PlannerError as error:
        return (), str(error)


def _equal(found: Sequence[Answer], at: str) -> None:
    """All configurations on the first one's terms."""
    known = [one for one in found if one.plan is not None]
    if len(known) < 2:
        st.info(t("compare.nothing"))
        return
    labels = [short_text(one.label, 40) for one in known]
    key = json.dumps([at, labels, *(key_of(one.tables) for one in known)])
    sides, error = _sides(key, known, labels, at)
    if error:
        show.problem(error)
        return
    st.html(equal_table(sides))
    for note in dict.fromkeys(note for side in sides for note in side.notes):
        st.caption(short_text(said(note), 400).replace("$", "\\$"))
    if at == "loss":
        st.caption(t("compare.laws", laws=t("show.comma").join(LAWS)))


def equal_table(sides: Sequence[Side]) -> str:
    """Figures of equal terms, configurations across."""

    def span(found: Interval | None, say: Callable[[float], str]) -> Cell:
        return ("–", "") if found is None else (say(found.expected), show.between(found, say))

    runs = [s.days.scaled(DAY_S) if s.plan.fits else None for s in sides]
    say = show.in_one_unit(None if run is None else run.expected for run in runs)
    rows: list[tuple[str, list[Cell]]] = [
        (
            t("compare.parameters"),
            [(count(s.parameters_total), t("show.active", count=count(s.parameters_active))) for s in sides],
        ),
        (t("in.layout"), [(s.plan.layout.label, show.verdict(s.plan)[1]) for s in sides]),
        (t("in.num_tokens"), [(count(s.tokens), "" if s.reachable else t("compare.never")) for s in sides]),
        (t("compare.flops"), [(f"{s.training_flops:.3g}", "") for s in sides]),
        (t("run.budget"), [span(s.budget_usd, show.dollars) for s in sides]),
        (t("show.run"), [span(run, say) for run in runs]),
        (t("compare.gpu_hours"), [span(s.gpu_hours, show.number) if s.plan.fits else ("–", "") for s in sides]),
        (t("show.cost"), [span(s.cost_usd, show.dollars) for s in sides]),
        (t("compare.loss"), [("–" if s.loss is None else f"{s.loss:.3f}", t("compare.assumed")) for s in sides]),
    ]
    head = "".join(f"<th scope='col'>{escape(s.label)}</th>" for s in sides)
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>"
        + "".join(f"<td>{escape(value)}<small>{escape(note)}</small></td>" for value, note in cells)
        + "</tr>"
        for name, cells in rows
    )
    caption = escape(t("compare.caption"))
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{caption}'><table class='figures'>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def prepare() -> None:
    """Make what the page shows before it is shown: it then arrives at once."""
    drawn(answers())


def drawn(found: Sequence[Answer]) -> tuple[str, list[Figure]]:
    """(the table, the figures) of the configurations."""
    asked = [language(), clock.today().isoformat(), *([one.label, key_of(one.tables)] for one in found)]
    made: tuple[str, list[Figure]] = _drawn(json.dumps(asked), found)
    return made


@remembered
def _drawn(key: str, _found: Sequence[Answer]) -> tuple[str, list[Figure]]:
    known = [one for one in _found if one.plan is not None]
    pictures = figures(known) if known else []
    for figure in pictures:
        _ = figure.data
    return table(_found), pictures


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
    unsure = [short_text(one.label, 40) for one in known if one.known.fits and not one.known.recommended]
    title = show.listed(parts)
    if over:
        title += t("compare.over", labels=show.listed(over))
    if unsure:
        title += t("compare.unsure", labels=show.listed(unsure))
    if not over and not unsure:
        title += t("compare.all_fit" if len(known) > 1 else "compare.it_fits")
    return charts.stacked("memory", "memory", title, t("compare.memory_alt"), rows, charts.KINDS)


def step_figure(known: Sequence[Answer]) -> Figure:
    """Seconds of a step by part."""
    used = [part for part in PARTS if _any(known, part)]
    say = show.in_one_unit(one.known.step_time_s for one in known)
    rows = [
        (one.label, [(t(f"part.{part}"), one.known.step_parts_s[part]) for part in used], say(one.known.step_time_s), None)
        for one in known
    ]
    colours = [charts.PARTS[PARTS.index(part)] for part in used]
    parts = [
        t(
            "compare.takes",
            label=short_text(one.label, 40),
            time=say(one.known.step_time_s),
            part=t(f"part.{_largest(one.known)}"),
        )
        for one in known
    ]
    return charts.stacked(
        "step-time", "step", t("compare.step_title", list=show.listed(parts)), t("compare.step_alt"), rows, colours
    )


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
                    "gpus_text": t("compare.one_gpu") if other.num_gpus == 1 else t("compare.so_many_gpus", count=other.num_gpus),
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
            "compare.cheapest" if len(fitting) > 1 else "compare.costs",
            label=short_text(best.label, 40),
            usd=show.dollars(best.known.cost_usd),
            time=show.duration(best.known.run_s),
        )
    return charts.cost_time(title, t("compare.cost_alt"), rows, priced)
