"""The controls of the layout and of the price."""

from __future__ import annotations

from typing import Any

import streamlit as st

from planner.common.errors import PlannerError
from planner.layout_search.space import divisors
from planner.prices.market import as_price, find_price
from planner.prices.price import TERMS
from planner.web import state
from planner.web.answers import answer, automatic, calibrated, cluster_of, fingerprint, layout_fields, stack_name
from planner.web.controls import choice, key_of, slider, switch
from planner.web.inputs import load_or_none, num_gpus
from planner.web.state import Tables
from planner.web.text import t
from planner.workload.framework import framework_names, load_framework
from planner.workload.layout import RECOMPUTE

OWN = "own price"


def layout(case: int, tables: Tables) -> None:
    """The training framework and every axis that it has; what the planner chose until the user changes something."""
    names = [*calibrated(), *framework_names()]
    choice(case, "framework", "name", t("in.framework"), names, stack_name(tables), before=lambda: state.settle_layout(case))
    given = tables.get("layout")
    _whose(case, tables)
    tag = ""
    if not given:
        chosen = answer("", tables).plan
        given = {} if chosen is None else layout_fields(chosen.layout)
        tag = f".{fingerprint(str(sorted(given.items())))}"

    def touched() -> None:
        state.claim(state.current(), case, "layout")
        if not tables.get("layout"):
            tables["layout"] = dict(given)

    _axes(case, tables, given, {"tag": tag, "before": touched})


def _axes(case: int, tables: Tables, given: dict[str, Any], more: dict[str, Any]) -> None:
    gpus, model = num_gpus(tables), load_or_none(tables)
    try:
        has = load_framework(stack_name(tables)).features
    except PlannerError:
        has = frozenset()
    cut = [d for d in divisors(gpus) if d <= 64]
    heads = model.num_heads if model else 1
    for name, options in (
        ("tp", [d for d in cut if heads % d == 0]),
        ("pp", [d for d in cut if model is None or d <= model.num_layers]),
        ("vpp", list(range(1, 9)) if given.get("pp", 1) > 1 else [1]),
        ("cp", [d for d in cut if d <= 16]),
        ("ep", [d for d in divisors(model.num_experts) if gpus % d == 0] if model and model.num_experts else [1]),
        ("etp", cut if model and model.num_experts else [1]),
    ):
        if name in has or given.get(name, 1) != 1:
            slider(case, "layout", name, t(f"in.{name}"), options, given.get(name, 1), **_help(name), **more)
    stages = [z for z in (0, 1, 2, 3) if z == 0 or f"zero{z}" in has]
    slider(case, "layout", "zero", t("in.zero"), stages, given.get("zero", 0), help=t("in.zero_help"), **more)
    sizes = [2**i for i in range(8)]
    slider(case, "layout", "micro_batch_size", t("in.micro_batch"), sizes, given.get("micro_batch_size", 1), **more)
    modes = [r for r in RECOMPUTE if r != "selective" or "selective_recompute" in has]
    now = given.get("recompute", "none")
    choice(case, "layout", "recompute", t("in.recompute"), modes, now, lambda r: t(f"in.recompute_{r}"), **more)
    for name in ("sequence_parallel", "offload_optimizer", "offload_parameters", "offload_activations"):
        if name in has or given.get(name) or (name == "offload_activations" and "offload_checkpoints" in has):
            switch(case, "layout", name, t(f"in.{name}"), bool(given.get(name, False)), **more)


def _help(name: str) -> dict[str, Any]:
    return {"help": t(f"help.{name}")} if name in ("tp", "pp", "vpp", "cp", "ep", "etp") else {}


def _whose(case: int, tables: Tables) -> None:
    """Whether the planner or the user chose the layout, and what the planner's own would gain."""
    if not tables.get("layout"):
        st.caption(t("in.automatic"))
        return
    own = state.owns(state.current()["cases"][case], "layout")
    st.caption(edited(tables, own))
    if st.button(t("in.back"), key=key_of(case, "automatic"), help=t("in.back_help"), width="stretch"):
        tables.pop("layout")
        state.disclaim(state.current(), case, "layout")
        state.replace(state.current())
        st.rerun()


def edited(tables: Tables, own: bool) -> str:
    """ "Edited; automatic would be 3 % faster", as far as both fit."""
    words, now, best = t("in.edited" if own else "in.given"), answer("", tables).plan, automatic(tables).plan
    if best is None or not best.fits:
        return words
    if now is None or not now.fits:
        return f"{words} {t('in.automatic_fits')}"
    gain = now.step_time_s / best.step_time_s - 1.0
    if gain >= 0.005:
        return f"{words} {t('in.automatic_faster', share=f'{gain:.0%}' if gain >= 0.01 else f'{gain:.1%}')}"
    return f"{words} {t('in.automatic_slower', share=f'{-gain:.0%}') if gain <= -0.01 else t('in.automatic_same')}"


def price(case: int, tables: Tables) -> None:
    """The catalog's quote by term, or the user's own price."""
    asked, key = tables.get("price", {}), key_of(case, "term")
    cluster = cluster_of(tables)
    card = cluster.accelerator.name if cluster else ""
    own = "usd_per_gpu_hour" in asked
    terms = list(TERMS) if card and as_price(None, card) is not None else []
    term = OWN if own or not terms else asked.get("term", "on-demand")

    def store() -> None:
        chosen = st.session_state[key]
        tables["price"] = {"usd_per_gpu_hour": _quote(card, asked)} if chosen == OWN else {"term": chosen}

    options = [*terms, OWN] if term in (*terms, OWN) else [term, *terms, OWN]
    st.selectbox(
        t("in.term"),
        options,
        index=options.index(term),
        key=key,
        on_change=store,
        format_func=lambda n: t(f"in.term_{n.replace('-', '_').replace(' ', '_')}"),
    )
    if own or not terms:
        value = round(float(asked.get("usd_per_gpu_hour", 0.0)), 2)
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
