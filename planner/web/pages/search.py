"""Search: every layout, the best of them, and why the others lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from planner.common.errors import PlannerError
from planner.common.units import DAY_S, GIB
from planner.hardware.cluster import accelerator_names
from planner.layout_search.question import SearchQuestion, as_question
from planner.layout_search.table import why_second
from planner.lifecycle.spec import Run
from planner.performance.interruptions import Recovery
from planner.training.planning import plan
from planner.web import background, charts, errands, inputs, show, state, worker
from planner.web.answers import arguments, calibrated, key_of, layout_fields, stack_name
from planner.web.background import Task
from planner.web.controls import number_field
from planner.web.download import csv_bytes, parquet_bytes, take
from planner.web.figure import Figure
from planner.web.guard import MAX_CASES, markdown, short_text
from planner.web.launch import launch_files
from planner.web.messages import said
from planner.web.text import language, t
from planner.workload.framework import framework_names
from planner.workload.layout import Layout, Layouts

OBJECTIVES = ("time", "cost", "memory", "energy")
MOST_LAYOUTS = 50_000_000
"""A page waits for at most this many; the command line goes on to a billion."""
SHOWN = (
    "rank",
    "budget_usd",
    "run_s",
    "cost_usd",
    "headroom_bytes",
    "fit_probability",
    "layout",
    "accelerator",
    "num_gpus",
    "framework",
    "step_time_s",
    "mfu",
    "peak_total_bytes",
    "group",
)

SAME_FOR_ALL = ("accelerator", "num_gpus", "framework", "group")
"""Columns that are shown where they tell the rows apart: the title says what all have."""
FORMATS = {
    "budget_usd": "localized",
    "cost_usd": "localized",
    "run_s": "%.2f",
    "headroom_bytes": "%.1f",
    "peak_total_bytes": "%.1f",
    "step_time_s": "%.3f",
    "mfu": "%.1f%%",
    "fit_probability": "%.1f%%",
}
"""Of a column: as many decimals in every row."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the form asks for."""

    objective: str
    gpus: tuple[int, ...]
    cards: tuple[str, ...]
    stacks: tuple[str, ...]
    deadline_days: float
    budget_usd: float


def key_for(tables: state.Tables, wanted: Wanted) -> str:
    """Of the question: whatever changes it changes the key, so that no answer stands under another question."""
    asked = {name: table for name, table in tables.items() if name in ("model", "cluster", "framework", "job", "price")}
    return f"search {key_of(asked)} {json.dumps([asdict(wanted), tables.get('run'), tables.get('cost')])}"


def _recovery(tables: state.Tables) -> Recovery:
    """What the run says of preemptions and checkpoints."""
    return Run.build(dict(tables.get("run", {})), "run").recovery()


def page() -> None:
    """The question, the progress, the answer."""
    show.header(t("search.title"), t("search.lead"))
    scenario = state.current()
    case = min(int(st.session_state.get("case", 0)), len(scenario["cases"]) - 1)
    one = scenario["cases"][case]
    st.caption(t("search.which", label=markdown(one["label"])))
    wanted = _form(one["tables"])
    key = key_for(one["tables"], wanted)
    task = background.known(key)
    busy = task is not None and not task.finished
    if st.button(t("search.start"), type="primary", disabled=busy, key="search.start", icon=":material/search:"):
        background.forget(key)
        task = _start(one["tables"], wanted, key)
    if task is None:
        st.info(t("search.changed" if "search.key" in st.session_state else "search.empty"))
        return
    st.session_state["search.key"] = key
    if task.finished:
        _result(task, case)
    else:
        _progress(key)


def _form(tables: state.Tables) -> Wanted:
    card = inputs.card_of(tables)
    objective = st.segmented_control(
        t("search.objective"),
        OBJECTIVES,
        default=OBJECTIVES[0],
        required=True,
        format_func=lambda n: t(f"search.by_{n}"),
        key=f"search.objective.{language()}",
    )
    left, middle, right = st.columns(3)
    now = inputs.num_gpus(tables)
    some = t("in.any_of")
    gpus = left.multiselect(t("search.gpus"), _counts(tables), default=[now], key=f"search.gpus.{card}.{now}", placeholder=some)
    others = [name for name in accelerator_names() if name != "cpu"]
    cards = middle.multiselect(
        t("search.accelerators"),
        _first(card, others),
        default=[card] if card else [],
        key=f"search.cards.{card}",
        placeholder=some,
    )
    stack = stack_name(tables)
    stacks = right.multiselect(
        t("search.frameworks"),
        _first(stack, framework_names()),
        default=[stack],
        key=f"search.stacks.{stack}",
        placeholder=some,
    )
    limits = state.current().get("ask", {})
    left, middle, _ = st.columns(3)
    deadline, budget = (
        number_field(
            t(f"search.{name}"),
            limits.get(field),
            least=0.0,
            step=step,
            place=column,
            key=f"search.{name}",
            placeholder=t("ask.no_limit"),
        )
        for column, name, field, step in ((left, "deadline", "days", 1.0), (middle, "budget", "usd", 1000.0))
    )
    return Wanted(
        objective=objective,
        gpus=tuple(gpus),
        cards=tuple(cards),
        stacks=tuple(stacks),
        deadline_days=deadline or 0.0,
        budget_usd=budget or 0.0,
    )


def _first(name: str, others: list[str]) -> list[str]:
    return [name, *(other for other in others if other != name)] if name else others


def _counts(tables: state.Tables) -> list[int]:
    return sorted({*inputs.gpu_counts(tables)[:12], inputs.num_gpus(tables)})


def question_of(tables: state.Tables, wanted: Wanted) -> SearchQuestion:
    """The checked question; PlannerError where it is none, or larger than a page waits for."""
    given = arguments(tables)
    stack = given.get("framework")
    names = [stack if stack is not None and name == tables.get("framework", {}).get("name") else name for name in wanted.stacks]
    question = as_question(
        model=given["model"],
        cluster=given["cluster"],
        job=given["job"],
        framework=names or None,
        price=given.get("price"),
        objective=wanted.objective,
        gpus=list(wanted.gpus) or None,
        accelerators=[name for name in wanted.cards if name not in calibrated()] or None,
        deadline_s=wanted.deadline_days * DAY_S or None,
        budget_usd=wanted.budget_usd or None,
        top=200,
        recovery=_recovery(tables),
    )
    if question.num_layouts > MOST_LAYOUTS:
        raise PlannerError(t("search.too_many", layouts=f"{question.num_layouts:,}", most=f"{MOST_LAYOUTS:,}"))
    return question


def _start(tables: state.Tables, wanted: Wanted, key: str) -> Task | None:
    try:
        question = question_of(tables, wanted)
    except PlannerError as error:
        show.problem(error)
        return None

    of_run = {name: tables[name] for name in ("run", "cost") if name in tables}

    def work(task: Task) -> None:
        task.size = question.num_layouts
        worker.work(task, errands.search, question, of_run)

    return background.ask(key, work)


@st.fragment(run_every=0.4)
def _progress(key: str) -> None:
    """The bar, drawn again while the search runs; the whole page once it has ended."""
    task = background.known(key)
    if task is None or task.finished:
        st.rerun(scope="app")
        return
    before = background.place(task)
    share = min(task.done / max(task.size, 1), 1.0)
    now = "budgets" if errands.BUDGETS in task.found else "progress"
    words = t("search.waiting", place=before) if before else t(f"search.{now}", done=f"{task.done:,}", size=f"{task.size:,}")
    st.progress(share, text=words)
    st.button(t("search.cancel"), key="search.cancel", icon=":material/cancel:", on_click=_cancel, args=(task,))


def _cancel(task: Task) -> None:
    task.cancelled = True


def _result(task: Task, case: int) -> None:
    if task.error:
        show.problem(task.error)
        return
    table = task.result
    if table is None or table.empty:
        st.warning(t("search.cancelled_empty") if task.cancelled else t("search.nothing"))
        return
    about = table.attrs
    words = {"searched": f"{about['num_searched']:,}", "fitting": f"{about['num_fitting']:,}", "seconds": f"{task.took_s:,.1f}"}
    if about["complete"]:
        st.success(t("search.done", **words))
    else:
        st.warning(t("search.cancelled", **words))
    figure = pareto_figure(table)
    event = charts.show(figure, key="search", select="chosen")
    _rejected(about)
    if len(table) > 1:
        st.caption(markdown(said(why_second(table)), 600))
    rank = _picked(event, table)
    _take(table, rank, case)


def pareto_figure(table: pd.DataFrame) -> Figure:
    """Time against money (memory where there is none) of the best layouts and the front."""
    has_run, has_price = bool(table["run_s"].notna().any()), bool(table["cost_usd_per_step"].notna().any())
    time_column, unit = ("run_s", DAY_S) if has_run else ("step_time_s", 1.0)
    money = "cost_usd" if has_run else "cost_usd_per_step"
    has_price = has_price and len(table[["num_gpus", "accelerator", "price"]].drop_duplicates()) > 1  # else it is but time again
    rows = [
        {
            "x": row[time_column] / unit,
            "y": row[money] if has_price else row["peak_total_bytes"] / GIB,
            "group": f"{row['num_gpus']} × {row['accelerator']}",
            "rank": int(row["rank"]),
            "front": bool(row["front"]) and not has_price,
            "layout": row["layout"],
            "step": show.duration(row["step_time_s"]),
            "gib": show.gib(row["peak_total_bytes"]),
            "usd": show.dollars(row[money]) if row[money] == row[money] else "–",
            "framework": row["framework"],
        }
        for row in table.to_dict(orient="records")
    ]
    best = table.iloc[0]
    title = t(
        "search.best",
        layout=best["layout"],
        gpus=f"{best['num_gpus']} × {best['accelerator']}",
        step=show.duration(best["step_time_s"]),
        gib=show.gib(best["peak_total_bytes"]),
    )
    return charts.scatter(
        "pareto",
        title,
        t("search.pareto_alt"),
        rows,
        x="run_axis" if has_run else "step_axis",
        y=("cost_axis" if has_run else "usd_step_axis") if has_price else "memory_axis",
        tips=("rank", "layout", "group", "framework", "step", "gib", "usd"),
        select=True,
    )


def _rejected(about: Mapping[Any, Any]) -> None:
    lost = about["rejected"]
    if not lost and not about["refused"]:
        return
    with st.expander(t("search.rejected", count=f"{sum(lost.values()):,}")):
        st.dataframe(
            [{t("search.reason"): said(reason), t("search.layouts"): count} for reason, count in lost.items()],
            hide_index=True,
            alt=t("search.reason"),
        )
        for note in (*about["refused"], *about["notes"]):
            st.caption(markdown(said(note), 400))


def best_of_groups(table: pd.DataFrame) -> pd.DataFrame:
    """The first of each group of layouts that are within 2 % of each other: twenty variants of one answer are one answer."""
    return table.drop_duplicates(["group", "accelerator", "num_gpus", "framework"])


def _picked(event: Any, table: pd.DataFrame) -> int:
    """The rank that was clicked in the figure, else in the table, else the best."""
    if not st.checkbox(t("search.variants"), key="search.variants"):
        table = best_of_groups(table)
    shown = table[[name for name in SHOWN if name not in SAME_FOR_ALL or table[name].nunique() > 1]].copy()
    if shown["budget_usd"].isna().all():  # no length, no price, or spot nodes whose preemptions nobody gave
        shown = shown.drop(columns="budget_usd")
    for name in ("peak_total_bytes", "headroom_bytes"):
        shown[name] = shown[name] / GIB
    shown["mfu"], shown["fit_probability"] = 100.0 * shown["mfu"], shown["fit_probability"].map(show.percent)
    shown["run_s"] = shown["run_s"] / DAY_S
    config = {t(f"search.column_{name}"): st.column_config.NumberColumn(format=form) for name, form in FORMATS.items()}
    shown = shown.round(dict.fromkeys(("budget_usd", "cost_usd"), 0))
    shown.columns = [t(f"search.column_{name}") for name in shown.columns]
    rows = st.dataframe(
        shown,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="search.table",
        height=300,
        alt=t("search.table_alt"),
        column_config=config,
    )
    clicked = event.get("selection", {}).get("chosen", []) if event else []
    if clicked and "rank" in clicked[0]:
        return int(clicked[0]["rank"])
    picked = rows["selection"]["rows"]
    return int(table.iloc[picked[0]]["rank"]) if picked else 1


def row_tables(tables: state.Tables, row: Mapping[Any, Any]) -> state.Tables:
    """The configuration with the cluster, the framework and the layout of one row; all else stays as it is."""
    layout = Layout(**{f.name: row[f.name].item() if hasattr(row[f.name], "item") else row[f.name] for f in fields(Layouts)})
    found = {name: dict(table) for name, table in tables.items()}
    if row["accelerator"] != inputs.card_of(tables) and inputs.card_of(tables) not in calibrated():
        inputs.on_cards(found, str(row["accelerator"]), int(row["num_gpus"]))
    else:
        found["cluster"] = {**{k: v for k, v in found["cluster"].items() if k != "num_nodes"}, "num_gpus": int(row["num_gpus"])}
    found["layout"] = layout_fields(layout)
    if stack_name(tables) != row["framework"]:
        found["framework"] = {"name": str(row["framework"])}
    return found


def _take(table: pd.DataFrame, rank: int, case: int) -> None:
    """Open a layout in Compare; take the table or launch files along."""
    row = table[table["rank"] == rank].iloc[0].to_dict()
    st.html(f"<h2 class='finding'>{t('search.picked', rank=rank)} {escape(short_text(row['layout'], 120))}</h2>")
    tables = row_tables(state.current()["cases"][case]["tables"], row)
    left, middle, right = st.columns(3)
    full = len(state.current()["cases"]) >= MAX_CASES
    if left.button(t("search.add"), key="search.add", disabled=full, type="primary", width="stretch"):
        scenario = state.current()
        label = short_text(f"{scenario['cases'][case]['label']} · {t('search.rank')} {rank}", 40)
        state.replace({**scenario, "cases": [*scenario["cases"], {"label": label, "tables": tables}]})
        st.session_state["case"] = len(scenario["cases"])
        st.switch_page(st.session_state["pages"]["compare"])
    if middle.button(t("search.use"), key="search.use", width="stretch"):
        scenario = state.current()
        scenario["cases"][case]["tables"] = tables
        state.rename(scenario, case)
        state.replace(scenario)
        st.switch_page(st.session_state["pages"]["compare"])
    box = right.popover(t("search.files"), width="stretch", key="search.files", on_change="rerun")
    if box.open:
        with box:
            _downloads(table, tables)


def _downloads(table: pd.DataFrame, tables: state.Tables) -> None:
    take(t("download.table_csv"), lambda: csv_bytes(table), "search.csv", "text/csv", "search.csv")
    parquet = "application/vnd.apache.parquet"
    take(t("download.table_parquet"), lambda: parquet_bytes(table), "search.parquet", parquet, "search.parquet")
    try:
        found = plan(**arguments(tables), explain=False)
    except PlannerError as error:
        st.caption(markdown(said(str(error)), 300))
    else:
        launch_files(found, "launch")
