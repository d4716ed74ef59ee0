"""Words in two languages: ``t(key)`` in the language of the session; files ``text/en.toml`` and ``text/zh.toml``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

import streamlit as st

from planner.common import translation
from planner.common.parsed import parsed_toml

FOLDER = Path(__file__).resolve().parent / "text"
LANGUAGES = {"en": "English", "zh": "中文"}


@lru_cache(maxsize=1024)
def words(language: str) -> dict[str, str]:
    """All texts of a language, keys like ``compare.title``."""
    tables = parsed_toml((FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    if language == "zh":
        tables |= {name: translation.tables()[name] for name in ("kind", "part")}  # which messages name, too
    return {f"{table}.{key}": text for table, texts in tables.items() for key, text in texts.items()}


@lru_cache(maxsize=8)
def streamlit_words(language: str) -> dict[str, str]:
    """Streamlit's own words -> those of a language; empty where they are its own."""
    path = FOLDER / f"streamlit.{language}.toml"
    if not path.is_file():
        return {}
    found: dict[str, str] = parsed_toml(path.read_text(encoding="utf-8"))["words"]
    return found


_speaking: ContextVar[str | None] = ContextVar("speaking", default=None)


@contextmanager
def speaking(chosen: str) -> Iterator[None]:
    """A language for what is made outside of a session: a download when it is clicked."""
    token = _speaking.set(chosen)
    try:
        yield
    finally:
        _speaking.reset(token)


def language() -> str:
    """The language of this session, or the one spoken now."""
    now = _speaking.get()
    if now is not None:
        return now
    found = st.session_state.get("language", "en")
    return found if found in LANGUAGES else "en"


def t(key: str, **values: Any) -> str:
    """The text of ``key`` with its ``{names}`` filled in."""
    return say(language(), key, **values)


def say(chosen: str, key: str, **values: Any) -> str:
    """The text of ``key`` in a given language."""
    text = words(chosen)[key]
    return text.format(**values) if values else text


def three(value: float) -> str:
    """Three digits, as many in every figure beside it, and all of those before the point; no exponent.

    >>> three(23.563), three(17.0), three(101.2), three(999.7), three(1234.5), three(0.0)
    ('23.6', '17.0', '101', '1,000', '1,234', '0')
    >>> three(0.0123), three(0.00001), three(-9.996e-06)
    ('0.0123', '0.0000100', '-0.0000100')
    """
    if not value or abs(value) >= 999.5:
        return f"{value:,.0f}"
    power = int(f"{value:.2e}".partition("e")[2])  # of ten, once rounded
    return f"{value:.{2 - power}f}"


def about(label: str, text: str) -> str:
    """A text behind what it is about, with the colon of the language."""
    return f"{label}：{text}" if language() == "zh" else f"{label}: {text}"
