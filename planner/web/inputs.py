"""The controls of one configuration: every change goes straight into the scenario. Only the open tab is drawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any

import streamlit as st

from planner.common.errors import PlannerError
from planner.common.message import of_python
from planner.common.units import GIB
from planner.hardware.cluster import accelerator_names, load_accelerator, load_node, node_names
from planner.layout_search.space import divisors
from planner.model.architecture import Model
from planner.model.catalog import model_names
from planner.model.huggingface import model_from_config
from planner.model.huggingface.forms import config_of
from planner.prices.price import load_prices
from planner.serving import spec
from planner.serving.cuts import CUT
from planner.web import state
from planner.web.answers import calibrated, cluster_of
from planner.web.controls import key_of, number_field, with_value
from planner.web.guard import UPLOAD_MB, markdown, require_safe, short_text
from planner.web.messages import said
from planner.web.question import take_model
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
    label = state.current()["cases"][case]["label"]
    key = key_of(case, f"label.{label}")

    def store() -> None:
        scenario = state.current()
        if words := short_text(st.session_state[key], 40):
            scenario["cases"][case]["label"] = words
            state.claim(scenario, case, "label")
        else:
            state.disclaim(scenario, case, "label")
            state.rename(scenario, case)
            st.session_state["revision"] += 1

    st.text_input(t("in.label"), label, key=key, on_change=store, max_chars=40, help=t("in.label_help"))


def _model(case: int, tables: Tables) -> None:
    given = tables.get("model", {})
    name = str(given.get("name", given.get("base", "")))
    pasted = set(given) != {"name"}
    key = key_of(case, "model")
    own = t("in.pasted", name=short_text(name)) if pasted else ""

    def store() -> None:
        if st.session_state[key] != own:
            take_model(tables, {"name": st.session_state[key]})
            changed(case)

    options = [*([own] if pasted else []), *with_value(model_names(), name if not pasted else model_names()[0])]
    st.selectbox(t("in.model"), options, index=options.index(own or name), key=key, on_change=store, help=t("in.model_help"))
    pasted_config(case)


def pasted_config(case: int, short: bool = False) -> None:
    """A config.json in the model's place; ``short``: where the label has no room to say how."""
    box = st.popover(
        t("in.config_short" if short else "in.config"),
        help=t("in.config") if short else None,
        width="stretch",
        key=key_of(case, "config"),
        on_change="rerun",
    )
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
                take_model(state.current()["cases"][case]["tables"], fields)
                changed(case)
                state.replace(state.current())
                st.rerun()


def model_fields(text: str, name: str) -> dict[str, Any]:
    """Fields of a scenario's [model] from the text of a config.json. PlannerError says what the planner cannot read."""
    if not text.strip():
        raise PlannerError("config.json: nothing was pasted; paste the whole file, from { to }.")
    try:
        config = config_of(text)
    except (ValueError, RecursionError) as error:
        raise PlannerError("config.json: not valid JSON: {0}.", of_python(error)) from None
    if not isinstance(config, dict):
        raise PlannerError("config.json: holds no object of fields; paste the whole file, from { to }.")
    require_safe({k: v for k, v in config.items() if not k.startswith("_")}, "config.json")
    return fields_of(model_from_config(config, name=name, where="config.json"))


def fields_of(model: Model) -> dict[str, Any]:
    """A model as fields of a scenario that build it again."""
    fields: dict[str, Any] = json.loads(model.model_dump_json(exclude={"provenance"}, exclude_none=True))
    return fields


@cache
def cards() -> tuple[str, ...]:
    """Accelerators of the catalog, those that somebody rents first."""
    rented = {price.accelerator for price in load_prices()}
    return tuple(sorted(accelerator_names(), key=lambda name: (name not in rented, name)))


def all_cards() -> list[str]:
    """Those that were calibrated in this session, then the catalog's."""
    return [*calibrated(), *cards()]


def replica_gpus(cut: Mapping[str, Any]) -> int:
    """GPUs of one replica of a deployment."""
    return spec.replica_gpus(**{name: int(cut[name]) for name in ("tp", "pp", "ep") if name in cut})


def cut_gpus(tables: Tables) -> int:
    """GPUs that the cut of a deployment shares: all but those of a pool for prompts."""
    pool = tables.get("serving", {}).get("prefill_pool")
    return num_gpus(tables) - (0 if pool is None else replica_gpus(pool) * int(pool.get("replicas", 1)))


def settle_cut(tables: Tables) -> None:
    """On another number of GPUs the planner cuts a deployment that no longer fills them."""
    serving, gpus = tables.get("serving", {}), num_gpus(tables)
    replica = replica_gpus(serving)
    fills = gpus == replica * serving.get("dp", max(gpus // replica, 1))
    if set(CUT) & set(serving) and "prefill_pool" not in serving and not fills:
        for name in CUT:
            serving.pop(name, None)


def card_of(tables: Tables) -> str:
    """The accelerator of a configuration, or the name of the calibrated profile that stands for one."""
    given = tables.get("cluster", {})
    if str(given.get("node", "")) in calibrated():
        return str(given["node"])
    found = cluster_of(tables)
    return str(given.get("accelerator", given.get("node", ""))) if found is None else found.accelerator.name


def card_labels() -> Callable[[str], str]:
    """What GPUs are called for people: "rtx-4090-24gb · 24 GiB"."""
    own = calibrated()
    return lambda name: t("in.calibrated", name=name) if name in own else _card_label(name)


@lru_cache(maxsize=512)
def _card_label(name: str) -> str:
    try:
        card = load_accelerator(name)
    except PlannerError:
        return short_text(name)
    return f"{card.name} · {card.memory_bytes / GIB:,.0f} GiB"


@lru_cache(maxsize=256)
def _nodes(card: str) -> tuple[str, ...]:
    """Node types with this accelerator."""
    return tuple(name for name in node_names() if load_node(name).accelerator == card)


def on_cards(tables: Tables, card: str, gpus: int) -> None:
    """Put a configuration on so many GPUs of that name; the node is the accelerator's own."""
    if card in calibrated():
        tables["cluster"] = {"node": card, "num_gpus": min(gpus, calibrated()[card].node.num_gpus)}
    else:
        tables["cluster"] = {"accelerator": card, "num_gpus": gpus}


def _hardware(case: int, tables: Tables) -> None:
    """GPU and how many; the node that they stand in is a detail."""
    name, gpus = card_of(tables), num_gpus(tables)
    card_key, count_key, node_key = (key_of(case, what) for what in ("card", "gpus", "node"))

    def store_card() -> None:
        on_cards(tables, st.session_state[card_key], num_gpus(tables))
        changed(case)
        st.session_state["revision"] += 1

    def store_count() -> None:
        tables["cluster"].pop("num_nodes", None)
        tables["cluster"]["num_gpus"] = int(st.session_state[count_key])
        changed(case)

    options = [*calibrated(), *cards()]
    values = options if name in options else [name, *options]
    at = values.index(name)
    st.selectbox(t("in.card"), values, at, key=card_key, on_change=store_card, format_func=card_labels(), help=t("in.card_help"))
    number_field(t("in.gpus"), gpus, least=1, most=MOST_GPUS, step=1, whole=True, key=count_key, on_change=store_count)
    nodes = _nodes(name)
    if not nodes:
        return
    given = str(tables["cluster"].get("node", "")) or "automatic"

    def store_node() -> None:
        chosen = st.session_state[node_key]
        place = {"accelerator": name} if chosen == "automatic" else {"node": chosen}
        tables["cluster"] = {**place, "num_gpus": num_gpus(tables)}
        changed(case)

    values = ["automatic", *nodes] if given in ("automatic", *nodes) else ["automatic", given, *nodes]
    at = values.index(given)
    st.selectbox(t("in.node"), values, at, key=node_key, on_change=store_node, format_func=_node_label, help=t("in.node_help"))


def _node_label(name: str) -> str:
    return t("in.node_automatic") if name == "automatic" else short_text(name)


def changed(case: int) -> None:
    """What follows from another model, other GPUs or another kind of training: name and layout, unless the user set them."""
    state.rename(state.current(), case)
    state.settle_layout(case)
    settle_cut(state.current()["cases"][case]["tables"])


def num_gpus(tables: Tables) -> int:
    """GPUs of a configuration; a number of nodes is turned into GPUs."""
    given = tables.get("cluster", {})
    if "num_gpus" not in given:
        found = cluster_of(tables)
        given["num_gpus"] = int(given.get("num_nodes", 1)) if found is None else found.num_gpus
    given.pop("num_nodes", None)
    return int(given["num_gpus"])


def gpu_counts(tables: Tables) -> list[int]:
    """Counts to offer: powers of two up to a node, then whole nodes in powers of two."""
    found = cluster_of(tables)
    per_node = 8 if found is None else max(found.node.num_gpus, 1)
    inside = [d for d in divisors(per_node) if d == per_node or d & (d - 1) == 0]
    return [*inside, *(per_node * 2**i for i in range(1, 15) if per_node * 2**i <= MOST_GPUS)]


def load_or_none(tables: Tables) -> Model | None:
    """The model of a configuration, or None where it cannot be."""
    try:
        return as_model(tables.get("model", {}))
    except PlannerError:
        return None
