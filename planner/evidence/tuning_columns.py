"""The columns of a table of runs that tell of fine-tuning: method, rank, targets, quantization, models by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.common.errors import PlannerError, one_of
from planner.evidence.cells import fraction, whole
from planner.model.architecture import LayerKind, Model
from planner.model.catalog import load_model
from planner.model.linears import head_linear, layer_linears

METHODS = ("full", "lora", "qlora", "gptq-lora")
Labels = Mapping[str, Mapping[str, Any]]


def noted(given: Mapping[str, str], labels: Labels) -> dict[str, str]:
    """The row with the cells that its source tells in words among the notes; they count most, the last words found before all.

    Words that hold for one method or one way of sharing only name it.
    """
    found: dict[str, str] = {}
    for words, cells in {**labels["said"], **labels["noted"].get(given.get("source", ""), {})}.items():
        meant = all(cells.get(column, given.get(column)) == given.get(column) for column in ("method", "data_parallel"))
        found |= cells if words in given.get("notes", "") and meant else {}
    return {**given, **found}


def catalog_model(row: Mapping[str, str], labels: Labels) -> Model | None:
    """The catalog's model where the row names one and gives no sizes, or carries adapters, which need its layers' names."""
    if row.get("num_layers") and row.get("method", "full") in ("", "full"):
        return None
    named = row.get("model", "")
    names = [name for start, name in labels["catalog_model"].items() if named.lower().startswith(start.lower())]
    if not names:
        return None
    model = load_model(names[-1])
    return model.replaced(modules=row["modules"]) if row.get("modules") else model


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
