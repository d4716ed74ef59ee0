"""Widgets that write straight into the scenario: slider, list, switch.

Each is given its value, not only its key: what is drawn a second time before the browser has shown it else begins empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from planner.web import state
from planner.web.text import about, language


def key_of(case: int, name: str) -> str:
    """Of a control; another one in another language, since a browser sends back the words that it showed."""
    return f"in.{language()}.{st.session_state['revision']}.{case}.{name}"


Stored = Callable[[], None]
"""What is done once a value has been written: other values may follow from it."""


def _store(case: int, table: str, name: str, key: str, before: Stored | None, after: Stored | None = None) -> None:
    if before is not None:
        before()
    tables = state.current()["cases"][case]["tables"]
    state.put(tables, table, {name: st.session_state[key]})
    if after is not None:
        after()


def with_value(options: Sequence[Any], value: Any) -> list[Any]:
    """The options with the present value among them, in order."""
    return list(options) if value in options else sorted([*options, value])


def slider(
    case: int,
    table: str,
    name: str,
    label: str,
    options: Sequence[Any],
    value: Any,
    *,
    tag: str = "",
    before: Stored | None = None,
    after: Stored | None = None,
    **more: Any,
) -> None:
    """A slider over given values; a text where there is only one. ``tag``: another control for a value from elsewhere; ``before``
    and ``after`` the value is written."""
    values = with_value(options, value)
    if len(values) < 2:
        st.caption(about(label, str(values[0])))
        return
    key = key_of(case, f"{table}.{name}{tag}")
    st.select_slider(label, values, value, key=key, on_change=_store, args=(case, table, name, key, before, after), **more)


def choice(
    case: int,
    table: str,
    name: str,
    label: str,
    options: Sequence[Any],
    value: Any,
    show: Callable[[Any], str] = str,
    *,
    tag: str = "",
    before: Stored | None = None,
    **more: Any,
) -> None:
    """A list to choose from."""
    key = key_of(case, f"{table}.{name}{tag}")
    values = list(options) if value in options else [value, *options]
    at = values.index(value)
    st.selectbox(label, values, at, key=key, on_change=_store, args=(case, table, name, key, before), format_func=show, **more)


def switch(
    case: int, table: str, name: str, label: str, value: bool, *, tag: str = "", before: Stored | None = None, **more: Any
) -> None:
    """A switch."""
    key = key_of(case, f"{table}.{name}{tag}")
    st.checkbox(label, value, key=key, on_change=_store, args=(case, table, name, key, before), **more)


MOST_WHOLE = 2**53 - 1
"""Of a whole number in a browser; a larger one is a float there."""


def number_field(
    label: str,
    value: float | None,
    *,
    least: float,
    most: float | None = None,
    step: float,
    whole: bool = False,
    place: Any = st,
    **more: Any,
) -> Any:
    """A field for a number, in ``place``: limits give way to a present value beyond them, and all are of one kind, as Streamlit
    wants it."""
    if value is not None:
        least, most = min(least, value), None if most is None else max(most, value)
    kind: Callable[[Any], Any] = int if whole and max(value or 0, most or 0) <= MOST_WHOLE else float
    low, high, now = (None if given is None else kind(given) for given in (least, most, value))
    form = None if kind is int else "%.6g"
    return place.number_input(label, low, high, now, step=kind(step), format=form, **more)


def number(case: int, table: str, name: str, label: str, value: Any, **more: Any) -> None:
    """A number; empty takes the field out."""
    key = key_of(case, f"{table}.{name}")
    number_field(label, value, key=key, on_change=_store, args=(case, table, name, key, None), **more)


def switch_to(case: int, table: str, name: str, label: str, value: Any, now: Any, **more: Any) -> None:
    """A switch that writes ``value``, or takes the field out."""
    key = key_of(case, f"{table}.{name}")
    on = now is not None and (now == value or not isinstance(value, str))

    def store() -> None:
        tables = state.current()["cases"][case]["tables"]
        state.put(tables, table, {name: value if st.session_state[key] else None})

    st.checkbox(label, on, key=key, on_change=store, **more)
