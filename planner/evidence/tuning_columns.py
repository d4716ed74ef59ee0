"""The columns of a table of runs that tell of fine-tuning: method, rank, targets, quantization, models by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.common.errors import PlannerError, one_of
from planner.common.message import Message
from planner.evidence.cells import fraction, whole, yes
from planner.model.architecture import LayerKind, Model
from planner.model.catalog import load_model
from planner.model.linears import head_linear, layer_linears
from planner.model.names import Meant, meant, unmeant

METHODS = ("full", "lora", "qlora", "gptq-lora")
Labels = Mapping[str, Mapping[str, Any]]


def noted(given: Mapping[str, str], labels: Labels) -> dict[str, str]:
    """The row with the cells that its source tells in words among the notes; they count most, the last words found before all.

    Words that hold for one method or one way of sharing only name it.
    """
    found: dict[str, str] = {}
    for words, cells in {**labels["said"], **labels["noted"].get(given.get("source", ""), {})}.items():
        holds = all(cells.get(column, given.get(column)) == given.get(column) for column in ("method", "data_parallel"))
        found |= cells if words in given.get("notes", "") and holds else {}
    return {**given, **found}


SIZES = ("num_layers", "hidden_size", "num_heads", "vocab_size")
"""Columns without which a row must name a model of the catalog."""
COUNTED = (
    *SIZES,
    "num_kv_heads",
    "head_dim",
    "q_lora_rank",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "ffn_hidden_size",
    "num_experts",
    "top_k",
    "expert_ffn_hidden_size",
    "num_shared_experts",
    "num_dense_layers",
    "sliding_window",
    "full_attention_every",
)
"""Columns with a field of the same name in the model, and a whole number in it."""
SAID = ("gated_ffn", "tied_embeddings", "attention_sinks")
"""Such columns that hold a yes or a no."""


def catalog_model(row: Mapping[str, str], given: Mapping[str, str], labels: Labels) -> Model | None:
    """The catalog's model where the row names one and leaves out a size, or carries adapters, which need its layers' names.

    Cells on the architecture that the file gives, before any is filled, must say the same: PlannerError names the first that
    does not. Dropout is a choice of the run, as the row says.
    """
    left_out = next((column for column in SIZES if not row.get(column)), None)
    named = row.get("model", "")
    if left_out is None and row.get("method", "full") in ("", "full"):
        return None
    names = [name for start, name in labels["catalog_model"].items() if named.lower().startswith(start.lower())]
    found = Meant(names[-1]) if names else meant(named)
    if left_out is None and not names:
        return None
    if found is None:
        raise PlannerError(
            "{0} is empty: give it, or the name of a model of the catalog as model, where {1!r} {2}",
            left_out,
            named,
            unmeant(named) if named else Message("names none"),
        )
    model = load_model(found.model)
    changes: dict[str, Any] = {"modules": row["modules"]} if row.get("modules") else {}
    if left_out is not None:
        _agree(given, model)
        if row.get("dropout"):
            changes |= dict.fromkeys(("hidden_dropout", "attention_dropout"), fraction(row, "dropout"))
    return model.replaced(**changes) if changes else model


def _agree(given: Mapping[str, str], model: Model) -> None:
    """PlannerError where a cell says another architecture than the catalog's model has."""
    for column in (*COUNTED, *SAID):
        ours = getattr(model, column) or 0
        if given.get(column) and ours != (whole(given, column) if column in COUNTED else yes(given, column)):
            raise PlannerError(
                "{0} = {1}: {2} has {3}; correct one, or give all of {4}",
                column,
                given[column],
                model.name,
                int(ours),
                ", ".join(SIZES),
            )


def tuning_fields(row: Mapping[str, str], model: Model, labels: Labels) -> dict[str, Any]:
    """Fields of the job: kind, adapter and quantization; empty for a row that trains all weights."""
    method = row.get("method", "") or "full"
    if method not in METHODS:
        raise PlannerError("method = {0!r}: {1}", method, one_of(method, METHODS))
    if method == "full":
        return {}
    rank = whole(row, "lora_rank", 0)
    if not rank:
        raise PlannerError("lora_rank is empty or 0 with method = {0!r}: adapters need a rank", method)
    adapter: dict[str, Any] = {"rank": rank, "dropout": fraction(row, "lora_dropout"), **_targets(row, model, labels)}
    fields: dict[str, Any] = {"kind": method, "adapter": adapter}
    bits = whole(row, "quant_bits", 4 if method != "lora" else 0)
    if method == "lora":
        if bits:
            raise PlannerError("quant_bits = {0} with method = 'lora': use qlora or gptq-lora", bits)
        return fields
    default = {4: "nf4", 8: "int8"} if method == "qlora" else {4: "gptq-int4", 8: "gptq-int8"}
    if bits not in default:
        raise PlannerError("quant_bits = {0}: must be 4 or 8", bits)
    form = row.get("quantization") or default[bits]
    fields["kind"] = "gptq-lora" if form.startswith("gptq") else "qlora"
    fields["quantization"] = {"format": form}
    if form == "nf4" and row.get("double_quantization"):
        fields["quantization"]["double_quantization"] = row["double_quantization"] == "1"
    return fields


def _targets(row: Mapping[str, str], model: Model, labels: Labels) -> dict[str, Any]:
    """Of the names that a table's words stand for, those that the model has; peft leaves the others out, too."""
    told = row.get("lora_targets", "") or "all-linear"
    known = labels["lora_targets"].get(told)
    names = str(known if known is not None else told).split(",")
    if names == ["all-linear"]:
        return {"target_modules": "all-linear"}
    linears = [linear for kind in dict.fromkeys(model.layer_kinds) for linear in layer_linears(model, LayerKind(*kind[:2]))]
    head = head_linear(model)
    linears += [head] if head is not None else []
    here = [name for name in names if any(linear.named(name) for linear in linears)]
    if not here:
        raise PlannerError("lora_targets = {0!r}: none of {1} is a linear layer of {2}", told, ", ".join(names), model.name)
    saved = labels["modules_to_save"].get(told)
    return {"target_modules": here, **({"modules_to_save": str(saved).split(",")} if saved else {})}
