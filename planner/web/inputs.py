"""The controls of one configuration: every change goes straight into the scenario."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, get_args

import streamlit as st

from planner.cost import TERMS, find_price, market
from planner.errors import PlannerError
from planner.framework import framework_names, load_framework
from planner.hardware import Node, load_node, node_names
from planner.huggingface import model_from_config
from planner.job import Optimizer, Precision
from planner.layout import RECOMPUTE
from planner.layout_grid import divisors
from planner.model import Model
from planner.models import model_names
from planner.planning import as_model
from planner.web import state
from planner.web.answers import calibrated, chosen_layout
from planner.web.guard import UPLOAD_MB, markdown, require_safe, short_text
from planner.web.state import Tables
from planner.web.text import language, t

SEQUENCES = [2**i for i in range(7, 21)]
BATCHES = [2**i for i in range(15)]
MOST_GPUS = 16_384
OWN = "own price"
LENGTHS = ("num_tokens", "num_samples", "num_steps")


def _key(case: int, name: str) -> str:
    """Of a control; another one in another language, since a browser sends back the words that it showed."""
    return f"in.{language()}.{st.session_state['revision']}.{case}.{name}"


def _store(case: int, table: str, name: str, key: str) -> None:
    tables = state.current()["cases"][case]["tables"]
    state.put(tables, table, {name: st.session_state[key]})


def _with(options: Sequence[Any], value: Any) -> list[Any]:
    """The options with the present value among them, in order."""
    return list(options) if value in options else sorted([*options, value])


def slider(case: int, table: str, name: str, label: str, options: Sequence[Any], value: Any, **more: Any) -> None:
    """A slider over given values; a text where there is only one."""
    values = _with(options, value)
    if len(values) < 2:
        st.caption(f"{label}: {values[0]}")
        return
    key = _key(case, f"{table}.{name}")
    st.session_state.setdefault(key, value)
    st.select_slider(label, values, key=key, on_change=_store, args=(case, table, name, key), **more)


def choice(
    case: int, table: str, name: str, label: str, options: Sequence[Any], value: Any, show: Callable[[Any], str] = str
) -> None:
    """A list to choose from."""
    key = _key(case, f"{table}.{name}")
    values = list(options) if value in options else [value, *options]
    st.session_state.setdefault(key, value)
    st.selectbox(label, values, key=key, on_change=_store, args=(case, table, name, key), format_func=show)


def switch(case: int, table: str, name: str, label: str, value: bool) -> None:
    """A switch."""
    key = _key(case, f"{table}.{name}")
    st.session_state.setdefault(key, value)
    st.checkbox(label, key=key, on_change=_store, args=(case, table, name, key))


def controls(case: int) -> None:
    """All controls of a configuration."""
    tables = state.current()["cases"][case]["tables"]
    _label(case)
    _model(case, tables)
    _hardware(case, tables)
    st.subheader(t("in.work"), divider="gray")
    _work(case, tables)
    st.subheader(t("in.layout"), divider="gray")
    _layout(case, tables)
    st.subheader(t("in.price"), divider="gray")
    _price(case, tables)


def _label(case: int) -> None:
    key = _key(case, "label")
    st.session_state.setdefault(key, state.current()["cases"][case]["label"])

    def store() -> None:
        state.current()["cases"][case]["label"] = short_text(st.session_state[key] or str(case + 1), 40)

    st.text_input(t("in.label"), key=key, on_change=store, max_chars=40)


def _model(case: int, tables: Tables) -> None:
    given = tables.get("model", {})
    name = str(given.get("name", given.get("base", "")))
    pasted = set(given) != {"name"}
    key = _key(case, "model")
    own = t("in.pasted", name=short_text(name)) if pasted else ""
    st.session_state.setdefault(key, own or name)

    def store() -> None:
        if st.session_state[key] != own:
            tables["model"] = {"name": st.session_state[key]}

    options = [*([own] if pasted else []), *_with(model_names(), name if not pasted else model_names()[0])]
    st.selectbox(t("in.model"), options, key=key, on_change=store, help=t("in.model_help"))
    _pasted_config(case)


def _pasted_config(case: int) -> None:
    box = st.popover(t("in.config"), width="stretch", key=_key(case, "config"), on_change="rerun")
    if not box.open:
        return
    with box:
        st.markdown(t("in.config_help", mb=UPLOAD_MB))
        name = st.text_input(t("in.config_name"), value="my-model", key=_key(case, "config.name"), max_chars=40)
        text = st.text_area(
            t("in.config_text"), key=_key(case, "config.text"), height=160, placeholder='{"model_type": "llama", ...}'
        )
        file = st.file_uploader(t("in.config_file"), type=["json"], key=_key(case, "config.file"))
        if st.button(t("in.config_use"), key=_key(case, "config.use"), type="primary"):
            content = file.getvalue().decode("utf-8", errors="replace") if file is not None else text
            try:
                fields = model_fields(content, short_text(name or "my-model"))
            except PlannerError as error:
                st.error(markdown(short_text(error, 1200)))
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
    """A node type for people: "dgx-a100-80gb (8 x a100-sxm4-80gb)"."""
    own = calibrated().get(name)
    try:
        node = own.node if own is not None else load_node(name)
    except PlannerError:
        return short_text(name)
    return t("in.calibrated", name=name) if own is not None else f"{node.name} · {node.num_gpus} × {node.accelerator}"


def _node(name: str) -> Node | None:
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
    key = _key(case, "node")
    st.session_state.setdefault(key, name)

    def store() -> None:
        chosen = st.session_state[key]
        sizes = gpu_counts(_node(chosen))
        before = num_gpus(tables)
        tables["cluster"] = {"node": chosen, "num_gpus": before if before in sizes else sizes[-1] if len(sizes) < 4 else sizes[3]}
        st.session_state["revision"] += 1

    options = _nodes()
    values = options if name in options else [name, *options]
    st.selectbox(t("in.node"), values, key=key, on_change=store, format_func=node_label)
    slider(case, "cluster", "num_gpus", t("in.gpus"), gpu_counts(_node(name)), num_gpus(tables))


def num_gpus(tables: Tables) -> int:
    """GPUs of a configuration; a number of nodes is turned into GPUs."""
    given = tables.get("cluster", {})
    node = _node(str(given.get("node", "")))
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


def _work(case: int, tables: Tables) -> None:
    job = tables.get("job", {})
    slider(case, "job", "seq_len", t("in.seq_len"), SEQUENCES, job.get("seq_len", 2048))
    slider(case, "job", "global_batch_size", t("in.batch"), BATCHES, job.get("global_batch_size", 32))
    choice(case, "job", "precision", t("in.precision"), get_args(Precision), job.get("precision", "bf16"))
    choice(case, "job", "optimizer", t("in.optimizer"), get_args(Optimizer), job.get("optimizer", "adamw"))
    _length(case, job)
    if load_or_none(tables) is not None and load_or_none(tables).num_experts:  # type: ignore[union-attr]
        loads = [round(1 + i / 10, 1) for i in range(21)]
        slider(
            case,
            "job",
            "expert_load",
            t("in.expert_load"),
            loads,
            float(job.get("expert_load", 1.0)),
            help=t("in.expert_load_help"),
        )


def load_or_none(tables: Tables) -> Model | None:
    """The model of a configuration, or None where it cannot be."""
    try:
        return as_model(tables.get("model", {}))
    except PlannerError:
        return None


def _length(case: int, job: dict[str, Any]) -> None:
    unit = next((name for name in LENGTHS if name in job), "none")
    key, value_key = _key(case, "length"), _key(case, f"length.{unit}")
    st.session_state.setdefault(key, unit)

    def store() -> None:
        for name in LENGTHS:
            job.pop(name, None)
        chosen = st.session_state[key]
        if chosen != "none":
            job[chosen] = {"num_tokens": 10**10, "num_samples": 10**6, "num_steps": 10**4}[chosen]

    def store_value() -> None:
        job[unit] = int(st.session_state[value_key])

    st.selectbox(t("in.length"), [*LENGTHS, "none"], key=key, on_change=store, format_func=lambda n: t(f"in.{n}"))
    if unit != "none":
        st.session_state.setdefault(value_key, int(job[unit]))
        st.number_input(t(f"in.{unit}"), min_value=1, max_value=10**15, step=1, key=value_key, on_change=store_value)


def _layout(case: int, tables: Tables) -> None:
    layout, gpus, model = tables.get("layout", {}), num_gpus(tables), load_or_none(tables)
    names = [*calibrated(), *framework_names()]
    choice(case, "framework", "name", t("in.framework"), names, tables.get("framework", {}).get("name", "megatron-core"))
    try:
        has = load_framework(tables.get("framework", {}).get("name", "megatron-core")).features
    except PlannerError:
        has = frozenset()
    if st.button(t("in.fastest"), key=_key(case, "fastest"), help=t("in.fastest_help"), width="stretch"):
        _use_fastest(case, tables)
    cut = [d for d in divisors(gpus) if d <= 64]
    heads = model.num_heads if model else 1
    for name, options in (
        ("tp", [d for d in cut if heads % d == 0]),
        ("pp", [d for d in cut if model is None or d <= model.num_layers]),
        ("vpp", list(range(1, 9)) if layout.get("pp", 1) > 1 else [1]),
        ("cp", [d for d in cut if d <= 16]),
        ("ep", [d for d in divisors(model.num_experts) if gpus % d == 0] if model and model.num_experts else [1]),
    ):
        if name in has or layout.get(name, 1) != 1:
            slider(case, "layout", name, t(f"in.{name}"), options, layout.get(name, 1))
    stages = [z for z in (0, 1, 2, 3) if z == 0 or f"zero{z}" in has]
    slider(case, "layout", "zero", t("in.zero"), stages, layout.get("zero", 0), help=t("in.zero_help"))
    slider(case, "layout", "micro_batch_size", t("in.micro_batch"), [2**i for i in range(8)], layout.get("micro_batch_size", 1))
    modes = [r for r in RECOMPUTE if r != "selective" or "selective_recompute" in has]
    choice(
        case, "layout", "recompute", t("in.recompute"), modes, layout.get("recompute", "none"), lambda r: t(f"in.recompute_{r}")
    )
    for name in ("sequence_parallel", "offload_optimizer", "offload_activations"):
        if name in has or layout.get(name):
            switch(case, "layout", name, t(f"in.{name}"), bool(layout.get(name, False)))


def _use_fastest(case: int, tables: Tables) -> None:
    try:
        tables["layout"] = chosen_layout(tables)
    except PlannerError as error:
        st.error(markdown(short_text(error, 600)))
    else:
        state.replace(state.current())
        st.rerun()


def _price(case: int, tables: Tables) -> None:
    price, key = tables.get("price", {}), _key(case, "term")
    node = _node(str(tables.get("cluster", {}).get("node", "")))
    card = node.accelerator if node else ""
    own = "usd_per_gpu_hour" in price
    terms = [term for term in TERMS if market(card, term)]
    term = OWN if own or not terms else price.get("term", "on-demand")
    st.session_state.setdefault(key, term)

    def store() -> None:
        chosen = st.session_state[key]
        tables["price"] = {"usd_per_gpu_hour": _quote(card, price)} if chosen == OWN else {"term": chosen}

    options = [*terms, OWN] if term in (*terms, OWN) else [term, *terms, OWN]
    st.selectbox(
        t("in.term"),
        options,
        key=key,
        on_change=store,
        format_func=lambda n: t(f"in.term_{n.replace('-', '_').replace(' ', '_')}"),
    )
    if own or not terms:
        value = round(float(price.get("usd_per_gpu_hour", 0.0)), 2)
        prices = [round(i * 0.05, 2) for i in range(401)]
        slider(case, "price", "usd_per_gpu_hour", t("in.usd"), prices, value)


def _quote(card: str, price: dict[str, Any]) -> float:
    """Where the price slider starts: at the quote that it replaces."""
    try:
        return round(
            find_price(card, **{k: v for k, v in price.items() if k in ("term", "provider", "region")}).usd_per_gpu_hour, 2
        )
    except PlannerError:
        return 2.0
