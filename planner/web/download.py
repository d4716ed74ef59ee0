"""What a user takes along: figures, tables, scenario files. Made when it is asked for, never before."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from planner.web.guard import cell, markdown
from planner.web.state import Scenario
from planner.web.text import language, speaking, t

if TYPE_CHECKING:
    from planner.web.figure import Figure


def file_name(text: str, suffix: str) -> str:
    """A file name of plain letters.

    >>> file_name("4x7B <MoE> / a", "toml")
    '4x7b-moe-a.toml'
    """
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]
    return f"{plain or 'planner'}.{suffix}"


def png(figure: Figure) -> bytes:
    """The figure as a picture, two pixels for one."""
    import vl_convert

    return bytes(vl_convert.vegalite_to_png(figure.whole(), scale=2.0))


def svg(figure: Figure) -> str:
    """The figure as vectors."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(figure.whole()))


def csv_bytes(table: pd.DataFrame) -> bytes:
    """A CSV that no spreadsheet takes for formulas."""
    safe = table.map(cell).rename(columns=cell)
    return bytes(safe.to_csv(index=False).encode())


def parquet_bytes(table: pd.DataFrame) -> bytes:
    """The table as parquet, columns of several types as text."""
    mixed = [c for c in table if table[c].dtype == object and len({type(v) for v in table[c] if v is not None}) > 1]
    buffer = io.BytesIO()
    plain = table.astype(dict.fromkeys(mixed, str))
    plain.attrs = {}
    plain.to_parquet(buffer, index=False)
    return buffer.getvalue()


def zipped(files: Mapping[str, str]) -> bytes:
    """Texts as one archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def scenario_toml(scenario: Scenario) -> str:
    """The scenario as a file that ``planner plan`` and ``planner compare`` read: every further case stands alone."""
    first, *others = scenario["cases"]
    lines = [f"title = {_value(scenario['title'])}", f"label = {_value(first['label'])}"]
    for name, table in training(first).items():
        lines += ["", f"[{name}]", *_fields(table)]
    for case in others:
        lines += ["", "[[compare]]", f"label = {_value(case['label'])}", "standalone = true"]
        lines += [f"{name} = {_value(table)}" for name, table in training(case).items()]
    return "\n".join(lines) + "\n"


def training(case: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The tables that ``planner plan`` reads; how the model is served is ``planner serve``'s."""
    return {name: table for name, table in case["tables"].items() if name != "serving"}


def serving_toml(title: str, case: Mapping[str, Any]) -> str:
    """One deployment as a file that ``planner serve`` reads."""
    lines = [f"title = {_value(title)}", f"label = {_value(case['label'])}"]
    for name in ("model", "cluster", "serving", "price"):
        if case["tables"].get(name):
            lines += ["", f"[{name}]", *_fields(case["tables"][name])]
    return "\n".join(lines) + "\n"


def _fields(table: Mapping[str, Any]) -> list[str]:
    return [f"{_name(name)} = {_value(value)}" for name, value in table.items() if value is not None]


def _name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_fields(value)) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def figure_buttons(figures: Sequence[Figure], key: str) -> None:
    """PNG, SVG and the numbers of each figure, behind one button; they are drawn once it is open."""
    box = st.popover(t("download.figures"), help=t("download.figure_help"), key=f"take.{key}", type="tertiary", on_change="rerun")
    if not box.open:
        return
    with box:
        for figure in figures:
            own = f"{key}.{figure.name}"
            st.caption(markdown(figure.title))
            for words, content, suffix, mime in (
                ("download.png", lambda figure=figure: png(figure), "png", "image/png"),
                ("download.svg", lambda figure=figure: svg(figure), "svg", "image/svg+xml"),
                ("download.csv", lambda figure=figure: csv_bytes(figure.table), "csv", "text/csv"),
            ):
                take(t(words, figure=figure.name), content, file_name(figure.name, suffix), mime, f"{suffix}.{own}")


def take(label: str, content: Callable[[], bytes | str], name: str, mime: str, key: str, **more: Any) -> None:
    """A download whose content is made when it is clicked, in the language of the page that it was clicked on."""
    chosen = language()

    def made() -> bytes | str:
        with speaking(chosen):
            return content()

    st.download_button(label, made, name, mime, key=key, on_click="ignore", width="stretch", **more)
