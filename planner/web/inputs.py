"""The controls of one configuration: every change goes straight into the scenario. Only the open tab is drawn."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import streamlit as st

from planner.common.errors import PlannerError
from planner.hardware.cluster import Node, load_node, node_names
from planner.layout_search.space import divisors
from planner.model.architecture import Model
from planner.model.catalog import model_names
from planner.model.huggingface import model_from_config
from planner.web import state
from planner.web.answers import answer, calibrated
from planner.web.controls import key_of, slider, with_value
from planner.web.guard import UPLOAD_MB, markdown, require_safe, short_text
from planner.web.messages import said
from planner.web.state import Tables
from planner.web.text import t
from planner.workload.resolve import as_model

MOST_GPUS = 16_384


def controls(case: int) -> None:
    """Who asks what of which model on which GPUs: the first tab."""
    tables = state.current()["cases"][case]["tables"]
    _label(case)
    _model(case, tables)
    _hardware(case, tables)


def _label(case: int) -> None:
    key = key_of(case, "label")
    st.session_state.setdefault(key, state.current()["cases"][case]["label"])

    def store() -> None:
        state.current()["cases"][case]["label"] = short_text(st.session_state[key] or str(case + 1), 40)

    st.text_input(t("in.label"), key=key, on_change=store, max_chars=40)


def _model(case: int, tables: Tables) -> None:
    given = tables.get("model", {})
    name = str(given.get("name", given.get("base", "")))
    pasted = set(given) != {"name"}
    key = key_of(case, "model")
    own = t("in.pasted", name=short_text(name)) if pasted else ""
    st.session_state.setdefault(key, own or name)

    def store() -> None:
        if st.session_state[key] != own:
            tables["model"] = {"name": st.session_state[key]}
            drop_impossible_layout(tables)

    options = [*([own] if pasted else []), *with_value(model_names(), name if not pasted else model_names()[0])]
    st.selectbox(t("in.model"), options, key=key, on_change=store, help=t("in.model_help"))
    _pasted_config(case)


def _pasted_config(case: int) -> None:
    box = st.popover(t("in.config"), width="stretch", key=key_of(case, "config"), on_change="rerun")
    if not box.open:
        return
    with box:
        st.markdown(t("in.config_help", mb=UPLOAD_MB))
        name = st.text_input(t("in.config_name"), value="my-model", key=key_of(case, "config.name"), max_chars=40)
        text = st.text_area(
            t("in.config_text"), key=key_of(case, "config.text"), height=160, placeholder='{"model_type": "llama", ...}'
        )
        file = st.file_uploader(t("in.config_file"), type=["json"], key=key_of(case, "config.file"))
        if st.button(t("in.config_use"), key=key_of(case, "config.use"), type="primary"):
            content = file.getvalue().decode("utf-8", errors="replace") if file is not None else text
            try:
                fields = model_fields(content, short_text(name or "my-model"))
            except PlannerError as error:
                st.error(markdown(said(str(error)), 1200))
            else:
                state.current()["cases"][case]["tables"]["model"] = fields
                state.replace(state.current())
                st.rerun()


def model_fields(text: str, name: str) -> dict[str, Any]:
    """Fields of a scenario's [model] from the text of a config.json. PlannerError says what the planner cannot read."""
    if not text.strip():
        raise PlannerError("config.json: nothing was pasted; paste the whole file, from { to }.")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlannerError(f"config.json: not valid JSON: {error}.") from None
    if not isinstance(config, dict):
        raise PlannerError(f"config.json: holds a {type(config).__name__}; an object of fields is needed.")
    require_safe({k: v for k, v in config.items() if not k.startswith("_")}, "config.json")
    return fields_of(model_from_config(config, name=name, where="config.json"))


def fields_of(model: Model) -> dict[str, Any]:
    """A model as fields of a scenario that build it again."""
    fields: dict[str, Any] = json.loads(model.model_dump_json(exclude={"provenance"}, exclude_none=True))
    return fields


def _nodes() -> list[str]:
    return [*calibrated(), *node_names()]


def node_label(name: str) -> str:
    """A node type for people: "dgx-a100-80gb · 8 × a100-sxm4-80gb"."""
    return t("in.calibrated", name=name) if name in calibrated() else _catalog_label(name)


@lru_cache(maxsize=512)
def _catalog_label(name: str) -> str:
    try:
        node = load_node(name)
    except PlannerError:
        return short_text(name)
    return f"{node.name} · {node.num_gpus} × {node.accelerator}"


def node_of(name: str) -> Node | None:
    own = calibrated().get(name)
    if own is not None:
        return own.node
    try:
        return load_node(name)
    except PlannerError:
        return None


def _hardware(case: int, tables: Tables) -> None:
    given = tables.get("cluster", {})
    name = str(given.get("node", ""))
    key = key_of(case, "node")
    st.session_state.setdefault(key, name)

    def store() -> None:
        chosen = st.session_state[key]
        sizes = gpu_counts(node_of(chosen))
        before = num_gpus(tables)
        tables["cluster"] = {"node": chosen, "num_gpus": before if before in sizes else sizes[-1] if len(sizes) < 4 else sizes[3]}
        drop_impossible_layout(tables)
        st.session_state["revision"] += 1

    options = _nodes()
    values = options if name in options else [name, *options]
    st.selectbox(t("in.node"), values, key=key, on_change=store, format_func=node_label)
    slider(case, "cluster", "num_gpus", t("in.gpus"), gpu_counts(node_of(name)), num_gpus(tables))


def num_gpus(tables: Tables) -> int:
    """GPUs of a configuration; a number of nodes is turned into GPUs."""
    given = tables.get("cluster", {})
    node = node_of(str(given.get("node", "")))
    per_node = node.num_gpus if node else 1
    if "num_gpus" not in given:
        given["num_gpus"] = int(given.get("num_nodes", 1)) * per_node
    given.pop("num_nodes", None)
    return int(given["num_gpus"])


def gpu_counts(node: Node | None) -> list[int]:
    """Counts that fill a node in powers of two, then whole nodes in powers of two where a network joins them."""
    if node is None:
        return [1]
    found = [d for d in divisors(node.num_gpus) if d == node.num_gpus or d & (d - 1) == 0]
    if any(link.kind == "network" for link in node.links):
        found += [node.num_gpus * 2**i for i in range(1, 15) if node.num_gpus * 2**i <= MOST_GPUS]
    return found


def drop_impossible_layout(tables: Tables) -> None:
    """Forget a layout that the new model or hardware cannot have; the page then takes the fastest that fits."""
    if tables.get("layout") and answer("", tables).plan is None:
        tables["layout"] = {}
        st.session_state["revision"] += 1


def load_or_none(tables: Tables) -> Model | None:
    """The model of a configuration, or None where it cannot be."""
    try:
        return as_model(tables.get("model", {}))
    except PlannerError:
        return None
