"""Search: every layout, the best of them, and why the others lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from planner.common.errors import PlannerError
from planner.common.units import DAY_S, GIB
from planner.export import STACKS, export_plan
from planner.hardware.cluster import accelerator_names
from planner.hardware.custom_nodes import reference_node
from planner.layout_search.question import SearchQuestion, as_question
from planner.layout_search.search import run_search
from planner.layout_search.table import why_second
from planner.training.planning import plan
from planner.web import charts, inputs, show, state
from planner.web.answers import arguments, layout_fields, stack_name
from planner.web.download import csv_bytes, parquet_bytes, take, zipped
from planner.web.figure import Figure
from planner.web.guard import markdown, short_text
from planner.web.messages import said
from planner.web.text import language, t
from planner.workload.framework import framework_names
from planner.workload.layout import Layout, Layouts

OBJECTIVES = ("time", "cost", "memory", "energy")
MOST_LAYOUTS = 50_000_000
"""A page waits for at most this many; the command line goes on to a billion."""
AT_ONCE = threading.Semaphore(2)
SHOWN = (
    "rank",
    "group",
    "layout",
    "accelerator",
    "num_gpus",
    "framework",
    "step_time_s",
    "mfu",
    "peak_total_bytes",
    "headroom_bytes",
    "fit_probability",
    "run_s",
    "cost_usd",
)


@dataclass
class Search:
    """A search that runs in the background: how far it is, whether it was cancelled, what it found."""

    question: SearchQuestion
    tables: state.Tables
    done: int = 0
    size: int = 1
    cancelled: bool = False
    finished: bool = False
    error: str = ""
    table: pd.DataFrame | None = None
    started: float = field(default_factory=time.monotonic)
    took_s: float = 0.0

    def run(self) -> None:
        """Search until done or cancelled; errors become words."""
        with AT_ONCE:
            try:
                self.table = run_search(self.question, self._progress).to_frame()
            except PlannerError as error:
                self.error = str(error)
            except KeyboardInterrupt:
                self.cancelled = True
            finally:
                self.took_s = time.monotonic() - self.started
                self.finished = True

    def _progress(self, done: int, size: int) -> None:
        self.done, self.size = done, size
        if self.cancelled:
            raise KeyboardInterrupt  # how a search is stopped: it answers with what it has found


def page() -> None:
    """The question, the progress, the answer."""
    show.header(t("search.title"), t("search.lead"))
    scenario = state.current()
    case = min(int(st.session_state.get("case", 0)), len(scenario["cases"]) - 1)
    one = scenario["cases"][case]
    st.caption(t("search.which", label=markdown(one["label"])))
    running: Search | None = st.session_state.get("search")
    _form(one["tables"], busy=running is not None and not running.finished)
    if running is None:
        st.info(t("search.empty"))
    elif not running.finished:
        _progress()
    else:
        _result(running, case)


def _form(tables: state.Tables, busy: bool) -> None:
    node = inputs.node_of(str(tables.get("cluster", {}).get("node", "")))
    card = node.accelerator if node else ""
    left, middle, right = st.columns(3)
    objective = left.selectbox(
        t("search.objective"), OBJECTIVES, format_func=lambda n: t(f"search.by_{n}"), key=f"search.objective.{language()}"
    )
    gpus = middle.multiselect(t("search.gpus"), _counts(tables), default=[inputs.num_gpus(tables)], key=f"search.gpus.{node}")
    others = [name for name in accelerator_names() if reference_node(name) is not None]
    cards = right.multiselect(
        t("search.accelerators"), _first(card, others), default=[card] if card else [], key=f"search.cards.{card}"
    )
    left, middle, right = st.columns(3)
    stack = stack_name(tables)
    stacks = left.multiselect(
        t("search.frameworks"), _first(stack, framework_names()), default=[stack], key=f"search.stacks.{stack}"
    )
    deadline = middle.number_input(
        t("search.deadline"), min_value=0.0, value=0.0, step=1.0, key="search.deadline", help=t("search.zero_none")
    )
    budget = right.number_input(
        t("search.budget"), min_value=0.0, value=0.0, step=1000.0, key="search.budget", help=t("search.zero_none")
    )
    if st.button(t("search.start"), type="primary", disabled=busy, key="search.start", icon=":material/search:"):
        _start(tables, objective, gpus, cards, stacks, deadline, budget)


def _first(name: str, others: list[str]) -> list[str]:
    return [name, *(other for other in others if other != name)] if name else others


def _counts(tables: state.Tables) -> list[int]:
    node = inputs.node_of(str(tables.get("cluster", {}).get("node", "")))
    return sorted({*inputs.gpu_counts(node)[:12], inputs.num_gpus(tables)})


def _start(
    tables: state.Tables, objective: str, gpus: list[int], cards: list[str], stacks: list[str], deadline: float, budget: float
) -> None:
    try:
        given = arguments(tables)
        stack = given.get("framework")
        names = [stack if stack is not None and name == tables.get("framework", {}).get("name") else name for name in stacks]
        question = as_question(
            model=given["model"],
            cluster=given["cluster"],
            job=given["job"],
            framework=names or None,
            price=given.get("price"),
            objective=objective,
            gpus=gpus or None,
            accelerators=cards or None,
            deadline_s=deadline * DAY_S or None,
            budget_usd=budget or None,
            top=200,
        )
        if question.num_layouts > MOST_LAYOUTS:
            raise PlannerError(t("search.too_many", layouts=f"{question.num_layouts:,}", most=f"{MOST_LAYOUTS:,}"))
    except PlannerError as error:
        show.problem(error)
        return
    search = Search(question=question, tables={k: dict(v) for k, v in tables.items()})
    st.session_state["search"] = search
    threading.Thread(target=search.run, name="search", daemon=True).start()
    st.rerun()


@st.fragment(run_every=0.4)
def _progress() -> None:
    """The bar, drawn again while the search runs; the whole page once it has ended."""
    search: Search = st.session_state["search"]
    if search.finished:
        st.rerun(scope="app")
    share = min(search.done / max(search.size, 1), 1.0)
    st.progress(share, text=t("search.progress", done=f"{search.done:,}", size=f"{search.question.num_layouts:,}"))
    if st.button(t("search.cancel"), key="search.cancel", icon=":material/cancel:"):
        search.cancelled = True


def _result(search: Search, case: int) -> None:
    if search.error:
        show.problem(search.error)
        return
    table = search.table
    if table is None or table.empty:
        st.warning(t("search.cancelled_empty"))
        return
    about = table.attrs
    words = {"searched": f"{about['num_searched']:,}", "fitting": f"{about['num_fitting']:,}", "seconds": f"{search.took_s:,.1f}"}
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
    _take(search, table, rank, case)


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
        x="days_axis" if has_run else "step_axis",
        y=("usd_axis" if has_run else "usd_step_axis") if has_price else "memory_axis",
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
        for refused in about["refused"]:
            st.caption(markdown(said(refused), 400))


def _picked(event: Any, table: pd.DataFrame) -> int:
    """The rank that was clicked in the figure, else in the table, else the best."""
    shown = table[list(SHOWN)].copy()
    for name in ("peak_total_bytes", "headroom_bytes"):
        shown[name] = shown[name] / GIB
    shown["run_s"] = shown["run_s"] / DAY_S
    digits = {"step_time_s": 3, "mfu": 3, "fit_probability": 3, "peak_total_bytes": 1, "headroom_bytes": 1, "run_s": 2}
    shown = shown.round({**digits, "cost_usd": 0})
    shown.columns = [t(f"search.column_{name}") for name in SHOWN]
    rows = st.dataframe(
        shown,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="search.table",
        height=300,
        alt=t("search.table_alt"),
    )
    clicked = event.get("selection", {}).get("chosen", []) if event else []
    if clicked and "rank" in clicked[0]:
        return int(clicked[0]["rank"])
    picked = rows["selection"]["rows"]
    return int(table.iloc[picked[0]]["rank"]) if picked else 1


def row_tables(search: Search, row: Mapping[Any, Any]) -> state.Tables:
    """The configuration of one row."""
    layout = Layout(**{f.name: row[f.name].item() if hasattr(row[f.name], "item") else row[f.name] for f in fields(Layouts)})
    tables = {name: dict(table) for name, table in search.tables.items()}
    tables["layout"] = layout_fields(layout)
    node = tables["cluster"]["node"]
    mine = search.question.setups[0].grid.cluster
    if row["accelerator"] != mine.accelerator.name and reference_node(str(row["accelerator"])) is not None:
        node = reference_node(str(row["accelerator"])).name  # type: ignore[union-attr]
    tables["cluster"] = {"node": node, "num_gpus": int(row["num_gpus"])}
    if tables.get("framework", {}).get("name") != row["framework"]:
        tables["framework"] = {"name": str(row["framework"])}
    return tables


def _take(search: Search, table: pd.DataFrame, rank: int, case: int) -> None:
    """Open a layout in Compare; take the table or launch files along."""
    row = table[table["rank"] == rank].iloc[0].to_dict()
    st.html(f"<h3 class='finding'>{t('search.picked', rank=rank)} {escape(short_text(row['layout'], 120))}</h3>")
    tables = row_tables(search, row)
    left, middle, right = st.columns(3)
    full = len(state.current()["cases"]) >= 4
    if left.button(t("search.add"), key="search.add", disabled=full, type="primary", width="stretch"):
        scenario = state.current()
        label = short_text(f"{scenario['cases'][case]['label']} · {t('search.rank')} {rank}", 40)
        state.replace({**scenario, "cases": [*scenario["cases"], {"label": label, "tables": tables}]})
        st.session_state["case"] = len(scenario["cases"])
        st.switch_page(st.session_state["pages"]["compare"])
    if middle.button(t("search.use"), key="search.use", width="stretch"):
        scenario = state.current()
        cases = [{"label": c["label"], "tables": tables if i == case else c["tables"]} for i, c in enumerate(scenario["cases"])]
        state.replace({**scenario, "cases": cases})
        st.switch_page(st.session_state["pages"]["compare"])
    box = right.popover(t("search.files"), width="stretch", key="search.files", on_change="rerun")
    if box.open:
        with box:
            _downloads(table, tables, str(row["framework"]))


def _downloads(table: pd.DataFrame, tables: state.Tables, framework: str) -> None:
    take(t("download.table_csv"), lambda: csv_bytes(table), "search.csv", "text/csv", "search.csv")
    parquet = "application/vnd.apache.parquet"
    take(t("download.table_parquet"), lambda: parquet_bytes(table), "search.parquet", parquet, "search.parquet")
    stacks = [name for name, (_, frameworks) in STACKS.items() if framework in frameworks]
    for stack in stacks:
        try:
            archive = zipped(export_plan(plan(**arguments(tables), explain=False), stack))
        except PlannerError as error:
            st.caption(t("search.no_launch", stack=stack, why=markdown(said(str(error)), 300)))
        else:
            name = t("download.launch", stack=stack)
            take(name, lambda archive=archive: archive, f"{stack}.zip", "application/zip", f"launch.{stack}")  # type: ignore[misc]
    if not stacks:
        st.caption(t("search.no_stack", framework=framework))
