"""Ways to add a configuration: a copy, full tuning beside LoRA and QLoRA, a smaller model derived from this one's."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from planner.common.errors import PlannerError
from planner.studies.what_if import Changes, derive
from planner.web import inputs, inputs_job, show, state
from planner.web.controls import number_field
from planner.web.guard import MAX_CASES, short_text
from planner.web.text import t

METHODS = ("finetune", "lora", "qlora")


def ways_to_add(case: int) -> None:
    """What stands behind the button Add."""
    one = state.current()["cases"][case]
    if st.button(t("add.copy"), key="add.copy", width="stretch"):
        add_case(one["tables"], f"{one['label']} {len(state.current()['cases']) + 1}")
        st.rerun()
    if st.button(t("add.methods"), key="add.methods", help=t("add.methods_help"), width="stretch"):
        _methods(one["tables"])
        st.rerun()
    st.divider()
    _derived(case, one["tables"])


def add_case(tables: state.Tables, label: str) -> None:
    """One more configuration, which the controls then change."""
    scenario = state.current()
    cases = [*scenario["cases"], {"label": label, "tables": tables}]
    st.session_state["case"] = len(cases) - 1
    state.replace({**scenario, "cases": cases})


def _methods(tables: state.Tables) -> None:
    """The configuration three times: all weights, LoRA, QLoRA (planner tune)."""
    model, cases = inputs.load_or_none(tables), []
    for method in METHODS:
        copy: dict[str, Any] = json.loads(json.dumps({k: v for k, v in tables.items() if k not in ("layout", "framework")}))
        inputs_job.of_kind(copy["job"], method, model)
        cases.append({"label": t(f"in.short_{method}"), "tables": copy, "own": ["label"]})
    st.session_state["case"] = 0
    state.replace({"title": "", "cases": cases})


def _derived(case: int, tables: state.Tables) -> None:
    """A pruned model as one more configuration (planner models derive)."""
    model = inputs.load_or_none(tables)
    if model is None:
        return
    st.caption(t("add.derive"))
    width, experts = model.ffn_hidden_size, model.num_experts

    def at_most(name: str, key: str, most: int, step: int = 1) -> int:
        """What is left of ``most``."""
        key = f"derive.{key}.{model.name}"
        return int(number_field(t(f"add.{name}"), most, least=1, most=most, step=step, whole=True, key=key)) if most else 0

    layers, inner = at_most("layers", "layers", model.num_layers), at_most("ffn", "ffn", width, 64)
    words, kept = at_most("vocabulary", "words", model.vocab_size), at_most("experts", "experts", experts)
    changes = {
        "keep_layers": tuple(range(layers)) if layers < model.num_layers else (),
        "ffn_hidden_size": inner if 0 < inner < width else None,
        "vocab_size": words if words < model.vocab_size else None,
        "experts_kept": kept if 0 < kept < experts else None,
    }
    same = not any(changes.values())
    if st.button(
        t("add.derived"), key="add.derived", disabled=same or len(state.current()["cases"]) >= MAX_CASES, width="stretch"
    ):
        try:
            found = derive(model, Changes(**changes), short_text(f"{model.name}-derived", 40))  # type: ignore[arg-type]
        except PlannerError as error:
            show.problem(error)
            return
        copy = json.loads(json.dumps({k: v for k, v in tables.items() if k != "layout"}))
        copy["model"] = inputs.fields_of(found.after)
        add_case(copy, found.after.name)
        st.rerun()
