"""The page around the pages: navigation, language, the scenario's controls, what can be taken along."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from planner.common.errors import PlannerError
from planner.web import download, inputs, inputs_job, inputs_layout, show, state
from planner.web.answers import Answer, answers, with_layouts
from planner.web.guard import MAX_CASES, UPLOAD_MB, markdown
from planner.web.text import LANGUAGES, language, speaking, t

ICON = Path(__file__).with_name("icon.png")
PAGES = {
    "compare": ":material/compare_arrows:",
    "memory": ":material/memory:",
    "search": ":material/search:",
    "serving": ":material/bolt:",
    "calibrate": ":material/speed:",
    "evidence": ":material/fact_check:",
}


def main() -> None:
    """Draw the whole page in the language of the session."""
    state.current()
    with speaking(language()):
        _draw()


def _draw() -> None:
    st.set_page_config(page_title="planner", page_icon=str(ICON), layout="wide", initial_sidebar_state="auto")
    scenario = state.current()
    if not all(case["tables"].get("layout") for case in scenario["cases"]):
        st.session_state["scenario"] = with_layouts(scenario)
    st.html(f"<style>{show.STYLE}</style>")
    pages = {
        name: st.Page(drawn(name), title=t(f"page.{name}"), icon=icon, url_path=name, default=name == "compare")
        for name, icon in PAGES.items()
    }
    st.session_state["pages"] = pages  # where other pages lead to
    chosen = st.navigation(list(pages.values()), position="top")
    prepare(chosen.url_path or "compare")
    with st.sidebar:
        _language()
        _cases()
        case = int(st.session_state.get("case", 0))
        _tabs(min(case, len(state.current()["cases"]) - 1))
    if "refused_link" in st.session_state:
        show.problem(st.session_state.pop("refused_link"))
    chosen.run()
    state.remember_in_link()
    st.caption(t("page.footer"))


def prepare(name: str) -> None:
    """Compute what a page shows before anything of it is drawn: the browser then draws once, not while the server computes."""
    answers()
    if name == "compare":
        importlib.import_module("planner.web.pages.compare").prepare()


def drawn(name: str) -> Callable[[], None]:
    """The page of that name, loaded when it is first looked at: the first page comes sooner."""

    def draw() -> None:
        importlib.import_module(f"planner.web.pages.{name}").page()

    return draw


def _language() -> None:
    key = "language_choice"
    st.session_state.setdefault(key, st.session_state.get("language", "en"))

    def store() -> None:
        st.session_state["language"] = st.session_state[key] or "en"

    st.segmented_control(
        "Language / 语言",
        list(LANGUAGES),
        key=key,
        format_func=lambda name: LANGUAGES[name],
        on_change=store,
        required=True,
        label_visibility="collapsed",
    )


def _cases() -> None:
    """Which configuration the controls change; add and remove."""
    scenario = state.current()
    count = len(scenario["cases"])
    case = min(int(st.session_state.get("case", 0)), count - 1)
    key = f"case.{st.session_state['revision']}.{count}"
    st.session_state.setdefault(key, case)

    def store() -> None:
        st.session_state["case"] = st.session_state[key]

    if count > 1:
        st.radio(
            t("in.case"),
            list(range(count)),
            key=key,
            on_change=store,
            format_func=lambda i: f"{i + 1} · {markdown(scenario['cases'][i]['label'])}",
        )
    left, right = st.columns(2)
    if left.button(t("in.add"), disabled=count >= MAX_CASES, width="stretch", help=t("in.add_help", most=MAX_CASES)):
        add_case(scenario["cases"][case]["tables"], f"{scenario['cases'][case]['label']} {count + 1}")
        st.rerun()
    if right.button(t("in.remove"), disabled=count < 2, width="stretch"):
        cases = [one for i, one in enumerate(scenario["cases"]) if i != case]
        st.session_state["case"] = 0
        state.replace({**scenario, "cases": cases})
        st.rerun()


def add_case(tables: state.Tables, label: str) -> None:
    """One more configuration, which the controls then change."""
    scenario = state.current()
    cases = [*scenario["cases"], {"label": label, "tables": tables}]
    st.session_state["case"] = len(cases) - 1
    state.replace({**scenario, "cases": cases})


def _tabs(case: int) -> None:
    """The controls of one configuration in tabs; only the open one is drawn, so that an answer comes sooner."""
    tables = state.current()["cases"][case]["tables"]
    sections: dict[str, list[Callable[[], None]]] = {
        "in.work": [lambda: inputs.controls(case), lambda: inputs_job.size(case, tables)],
        "in.training": [lambda: inputs_job.training(case, tables)],
        "in.layout": [lambda: inputs_layout.layout(case, tables)],
        "in.price": [lambda: inputs_layout.price(case, tables)],
        "file.title": [_files],
    }
    tabs = st.tabs([t(name) for name in sections], key=f"tabs.{language()}", on_change="rerun")
    for tab, parts in zip(tabs, sections.values(), strict=True):
        if tab.open:
            with tab:
                for part in parts:
                    part()


def _files() -> None:
    """Save, load, share, report."""
    scenario = state.current()
    name = scenario["title"] or "scenario"
    toml, page = download.file_name(name, "toml"), download.file_name(name, "html")
    download.take(
        t("file.save"), lambda: download.scenario_toml(scenario), toml, "application/toml", "save.toml", icon=":material/save:"
    )
    found = answers()  # here: the content is made later, outside of the session
    download.take(
        t("file.report"),
        lambda: _report(scenario, found),
        page,
        "text/html",
        "save.report",
        help=t("file.report_help"),
        icon=":material/description:",
    )
    box = st.popover(t("file.load"), width="stretch", icon=":material/folder_open:", key="load", on_change="rerun")
    if box.open:
        with box:
            _load()
    st.caption(t("file.share"))


def _report(scenario: state.Scenario, found: list[Answer]) -> str:
    from planner.web import report

    return report.page(scenario, found)


def _load() -> None:
    file = st.file_uploader(t("file.upload", mb=UPLOAD_MB), type=["toml"], key="load.file")
    if st.button(t("file.use"), disabled=file is None, key="load.use") and file is not None:
        _use(file.getvalue().decode("utf-8", errors="replace"), file.name)
    examples = sorted(state.EXAMPLES.glob("*.toml")) if state.EXAMPLES.is_dir() else []
    if examples:
        chosen = st.selectbox(t("file.example"), [path.stem for path in examples], key="load.example")
        if st.button(t("file.use_example"), key="load.use_example"):
            path = next(path for path in examples if path.stem == chosen)
            _use(path.read_text(encoding="utf-8"), path.name)


def _use(text: str, name: str) -> None:
    try:
        state.replace(with_layouts(state.from_toml(text, name)))
    except PlannerError as error:
        show.problem(error)
    else:
        st.session_state["case"] = 0
        st.rerun()
