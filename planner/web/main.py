"""The page around the pages: navigation, language, the scenario's controls, what can be taken along."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from planner.common.errors import PlannerError
from planner.web import adding, download, inputs, inputs_job, inputs_layout, show, state
from planner.web.answers import Answer, answers, load_archive, profile_archive, profiles_of
from planner.web.guard import MAX_CASES, UPLOAD_MB, markdown
from planner.web.text import LANGUAGES, language, speaking, streamlit_words, t

ICON = Path(__file__).with_name("icon.png")
PAGES = {
    "ask": ":material/question_answer:",
    "compare": ":material/compare_arrows:",
    "memory": ":material/memory:",
    "run": ":material/receipt_long:",
    "search": ":material/search:",
    "serving": ":material/bolt:",
    "roofline": ":material/show_chart:",
    "explore": ":material/tune:",
    "calibrate": ":material/speed:",
    "evidence": ":material/fact_check:",
}
FIRST = "ask"
CODES = {"en": "en", "zh": "zh-CN"}
SCRIPT = """document.documentElement.lang = '{code}'; /* {name} */ {{
  let looks = 0;
  const look = setInterval(() => {{
    const row = document.querySelector('.st-key-narrow-pages'), here = row?.querySelector('strong');
    if (++looks > 600) clearInterval(look);
    if (!here) return;
    looks = Math.max(looks, 550); /* style and fonts come later than words: ten more seconds of looking */
    row.onpointerdown = () => clearInterval(look);
    const seen = here.getBoundingClientRect(), frame = row.getBoundingClientRect();
    if (seen.left < frame.left || seen.right > frame.right) row.scrollLeft += seen.left - frame.left - 60;
  }}, 200);
}}"""
"""The language of the page for those who have it read aloud; then the open page in sight among all pages."""
WORDS = Path(__file__).with_name("words.js").read_text(encoding="utf-8")
"""Streamlit speaks English alone: its words are put in place."""
LOG = logging.getLogger("planner.web")


def main() -> None:
    """Draw the whole page in the language of the session; whatever goes wrong is said in words."""
    try:
        state.current()
        with speaking(language()):
            _draw()
    except Exception:
        LOG.exception("the page could not be drawn")
        st.error(t("page.broken"), icon=":material/error:")
        if st.button(t("page.start_anew"), key="broken"):
            st.session_state.clear()
            st.query_params.clear()
            st.rerun()


def _draw() -> None:
    st.set_page_config(page_title="planner", page_icon=str(ICON), layout="wide", initial_sidebar_state="auto")
    scenario = state.current()
    profiles_of(scenario)
    st.html(f"<style>{show.STYLE}</style>")
    pages = {
        name: st.Page(drawn(name), title=t(f"page.{name}"), icon=icon, url_path=name, default=name == FIRST)
        for name, icon in PAGES.items()
    }
    st.session_state["pages"] = pages  # where other pages lead to
    chosen = st.navigation(list(pages.values()), position="top")
    name = chosen.url_path or FIRST
    said = WORDS.replace("SAID", json.dumps(streamlit_words(language()), ensure_ascii=False))
    st.html(f"<script>{SCRIPT.format(code=CODES[language()], name=name)}{said}</script>", unsafe_allow_javascript=True)
    prepare(name)
    with st.sidebar:
        _language()
        if name == "ask":
            _files()
        else:
            _cases()
            case = int(st.session_state.get("case", 0))
            _tabs(min(case, len(state.current()["cases"]) - 1))
    _links(pages, name)
    if "refused_link" in st.session_state:
        show.problem(st.session_state.pop("refused_link"))
    chosen.run()
    state.remember_in_link()
    st.caption(t("page.footer"))


def _links(pages: dict[str, Any], now: str) -> None:
    """The pages in one row, for a narrow screen: there Streamlit hides them behind a button."""
    with st.container(horizontal=True, key="narrow-pages", gap="small"):
        for name, page in pages.items():
            st.page_link(page, label=f"**{t(f'page.{name}')}**" if name == now else t(f"page.{name}"))


def prepare(name: str) -> None:
    """Compute what a page shows before anything of it is drawn: the browser then draws once, not while the server computes."""
    if name == "ask":
        return
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

    def store() -> None:
        st.session_state["language"] = st.session_state[key] or "en"

    st.segmented_control(
        "Language / 语言",
        list(LANGUAGES),
        default=language(),
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

    def store() -> None:
        st.session_state["case"] = st.session_state[key]

    if count > 1:
        st.radio(
            t("in.case"),
            list(range(count)),
            index=case,
            key=key,
            on_change=store,
            format_func=lambda i: f"{i + 1} · {markdown(scenario['cases'][i]['label'])}",
        )
    left, right = st.columns(2)
    box = left.popover(t("in.add"), disabled=count >= MAX_CASES, width="stretch", key=f"add.{count}", on_change="rerun")
    if box.open:
        with box:
            adding.ways_to_add(case)
    if right.button(t("in.remove"), disabled=count < 2, width="stretch"):
        cases = [one for i, one in enumerate(scenario["cases"]) if i != case]
        st.session_state["case"] = 0
        state.replace({**scenario, "cases": cases})
        st.rerun()


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
    name, own = state.title_of(scenario), profiles_of(scenario)
    page = download.file_name(name, "html")
    if own:  # with the profiles that the scenario names
        archive = download.file_name(name, "zip")
        download.take(
            t("file.save_zip"), lambda: profile_archive(scenario), archive, "application/zip", "save.zip", icon=":material/save:"
        )
    else:
        toml = download.file_name(name, "toml")
        download.take(
            t("file.save"),
            lambda: download.scenario_toml(scenario),
            toml,
            "application/toml",
            "save.toml",
            icon=":material/save:",
        )
    box = st.popover(t("file.take"), width="stretch", icon=":material/description:", key="report", on_change="rerun")
    if box.open:
        with box:
            found = answers()  # here: the content is made later, outside of the session
            download.take(
                t("file.report"), lambda: _report(scenario, found), page, "text/html", "save.report", help=t("file.report_help")
            )
    box = st.popover(t("file.load"), width="stretch", icon=":material/folder_open:", key="load", on_change="rerun")
    if box.open:
        with box:
            _load()
    st.caption(t("file.share"))
    if own:
        st.caption(t("file.share_profile", names=markdown(", ".join(own), 200)))


def _report(scenario: state.Scenario, found: list[Answer]) -> str:
    from planner.web import report

    return report.page(scenario, found)


def _load() -> None:
    file = st.file_uploader(t("file.upload", mb=UPLOAD_MB), type=["toml", "zip"], key="load.file")
    if st.button(t("file.use"), disabled=file is None, key="load.use") and file is not None:
        if file.name.endswith(".zip"):
            _use(lambda: load_archive(file.getvalue(), file.name))
        else:
            _use(lambda: state.from_toml(file.getvalue().decode("utf-8", errors="replace"), file.name))
    examples = sorted(state.EXAMPLES.glob("*.toml")) if state.EXAMPLES.is_dir() else []
    if examples:
        chosen = st.selectbox(t("file.example"), [path.stem for path in examples], key="load.example")
        if st.button(t("file.use_example"), key="load.use_example"):
            path = next(path for path in examples if path.stem == chosen)
            _use(lambda: state.from_toml(path.read_text(encoding="utf-8"), path.name))


def _use(read: Callable[[], state.Scenario]) -> None:
    try:
        state.replace(read())
    except PlannerError as error:
        show.problem(error)
    else:
        st.session_state["case"] = 0
        st.rerun()
