"""A Chinese page speaks Chinese: what a visitor reads there has no English word but names, units and terms of the trade."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from places import PATIENCE_S

pytest.importorskip("streamlit", reason="the extra `app` is not installed: pip install llm-capacity-planner[app]")

import pyarrow as pa
import streamlit
from streamlit.testing.v1 import AppTest

import planner
from planner.common.data import CATALOG, PROFILES
from planner.common.translation import translated_label
from planner.evidence.pairs import load_pairs
from planner.performance.evaluation import operator_table
from planner.web import main
from planner.web.pages import evidence
from planner.web.text import say, streamlit_words
from planner.workload.layout import as_columns

TERMS = {
    "token", "batch", "dense", "dropout", "logits", "softmax", "top-k", "qps", "theta", "beta", "epochs", "layernorm",
    "recompute", "full", "selective", "auto", "cpu", "etp", "log", "idx", "graph", "compute", "transformers", "large", "medium",
    "qlora", "loss", "gcp", "litebert", "vllm'", "planner", "serve", "Adam", "Cloud", "Google", "Oracle", "Crusoe", "Lambda",
    "Hyperstack", "Azure", "eastus", "Llama", "Mixtral", "Qwen", "Hugging", "Face", "Perfetto", "Ray", "Zen", "Daly", "Hoffmann",
    "Muennighoff", "Switch", "Transformer", "Embedding", "eager", "Zipf",
}  # fmt: skip
"""What Chinese engineers say in English: units, collectives, methods, parts of a model, values of options, names."""
UNREAD = {"id", "icon", "type", "url", "element_id", "deferred_file_id", "columns", "theme", "selection_mode"}
"""Of an element: what nobody reads."""
SHOWN = {"title", "alt", "domain", "description"}
"""Of a figure's specification: what stands in it."""
CITED = {"source", "source_ref", "id", *(say("zh", f"evidence.{name}") for name in ("source", "sources", "field"))}
"""Columns that quote: a publication, a file and its field have the names that they have."""
QUOTED = re.compile(
    r"<style.*?</style>|<[^>]+>|`[^`]+`|:material/\w+:|&\w+;|“[^”]*”|来源：[^。]*|planner(?: [-\w./=]+)+", re.DOTALL
)
"""Marks, commands, and what is cited: sources of a bill have a law of their own."""
WORD = re.compile(r"(?<![\w.@/=#-])[A-Za-z][a-z']{2,}(?![\w.@/=-]|\.\w)")
"""A word; not a name with digits or marks in it (a100-sxm4-80gb, job.seq_len, all-gather)."""


@cache
def names() -> frozenset[str]:
    """What has a file in the catalog, and who published a run."""
    files = {path.stem for folder in (CATALOG, PROFILES) for path in folder.rglob("*.toml")}
    runs = load_pairs()
    return frozenset(files).union(*(set(runs[column]) for column in ("source", "model", "family")))


def strings(message: Any) -> Iterator[str]:
    """All texts of an element of the page: labels, options, cells of tables, marks of figures."""
    for field, value in message.ListFields():
        if field.name in UNREAD:
            continue
        for one in [value] if isinstance(value, str | bytes) or not hasattr(value, "__len__") else value:
            if isinstance(one, bytes):
                yield from cells(one)
            elif isinstance(one, str):
                yield from marks(json.loads(one)) if field.name == "spec" else [one]
            elif hasattr(one, "ListFields"):
                yield from strings(one)


def cells(table: bytes) -> Iterator[str]:
    """Texts of a table, each value once; names of columns only where they are shown (those of figures are code)."""
    frame = pa.ipc.open_stream(table).read_pandas()
    for name in frame.columns:
        if name not in CITED:
            yield from {cell for cell in frame[name] if isinstance(cell, str)}


def marks(specification: Any) -> Iterator[str]:
    """Titles and legends of a figure."""
    if isinstance(specification, dict):
        for key, value in specification.items():
            if key in SHOWN:
                yield from [value] if isinstance(value, str) else (v for v in value or () if isinstance(v, str))
            yield from marks(value)
    elif isinstance(specification, list):
        for value in specification:
            yield from marks(value)


def english(texts: Iterator[str]) -> dict[str, str]:
    """Word -> one of the texts that it stands in."""
    found = {}
    for text in texts:
        if text in names():
            continue
        plain = QUOTED.sub(" ", text).replace("\\", "")
        found.update({word: plain.strip()[:200] for word in WORD.findall(plain)})
    return found


def drawn(page: str, section: str = "accuracy") -> AppTest:
    """A page as a Chinese visitor finds it."""

    def script(page: str, section: str) -> None:
        import importlib

        import streamlit as st

        from planner.web import state

        state.current()
        st.session_state["language"] = "zh"
        st.session_state["pages"] = {}
        st.session_state["evidence.section"] = section
        importlib.import_module(f"planner.web.pages.{page}").page()

    test = AppTest.from_function(script, args=(page, section), default_timeout=PATIENCE_S).run()
    assert not test.exception
    return test


PLACES = [*((page, "accuracy") for page in main.PAGES), *(("evidence", name) for name in evidence.SECTIONS[1:])]


@pytest.mark.parametrize(("page", "section"), PLACES)
def test_a_chinese_page_has_no_english_word_but_names_and_terms(page: str, section: str) -> None:
    test = drawn(page, section)
    elements = [
        one.proto for part in (test.main, test.sidebar) for one in part if hasattr(getattr(one, "proto", None), "ListFields")
    ]
    texts = (text for element in elements for text in strings(element))
    left = {word: text for word, text in english(texts).items() if word not in TERMS}
    assert sorted(left.items()) == []


def test_every_word_of_streamlit_that_is_put_into_chinese_is_still_its_own() -> None:
    """A release of Streamlit that says something else needs other words here; keys that it puts together are left out."""
    scripts = "".join(path.read_text(encoding="utf-8") for path in Path(streamlit.__file__).parent.glob("static/static/js/*.js"))
    assert streamlit_words("en") == {}
    for words, chinese in streamlit_words("zh").items():
        parts = [part for part in words.split("{0}") if part.strip()]
        assert words.startswith(("Press ", "add ")) or all(part in scripts for part in parts), words
        assert ("{0}" in words) == ("{0}" in chinese)


# ---- operators

MANY = (
    "kimi-k3", "deepseek-v4-flash", "mbart-large-50", "falcon-mamba-7b", "qwen3.5-122b-a10b", "glm-4-32b-0414",
    "nemotron-3-nano-30b-a3b", "deberta-v3-base", "gemma-4-e2b", "gemma-4-26b-a4b", "deepseek-v2-lite", "llama-3.2-11b-vision",
    "flan-t5-base", "gpt-oss-120b", "all-minilm-l6-v2",
)  # fmt: skip
"""Between them they have every operator that a model of the catalog has."""
LORA = {"kind": "lora", "adapter": {"rank": 16}}


@pytest.mark.parametrize("model", MANY)
@pytest.mark.parametrize("job", [{}, LORA], ids=["all weights", "adapters"])
def test_every_operator_has_a_chinese_name(model: str, job: dict[str, Any]) -> None:
    given = {"seq_len": 512, "global_batch_size": 64, "num_tokens": 10**9, **job}
    cluster = {"accelerator": "h100-sxm5-80gb", "num_gpus": 8}
    plan = planner.plan(model=model, cluster=cluster, job=given, layout={"zero": 3}, explain=False)
    rows = operator_table(plan.question, as_columns(plan.layout, 8)).rows()
    shown = {translated_label(text, "zh") for row in rows for text in (row.name, row.block)}
    assert sorted(set(english(iter(shown))) - TERMS) == []
