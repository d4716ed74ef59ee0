"""The columns of a table of runs that tell of fine-tuning: method, rank, targets, quantization, models by name."""

from __future__ import annotations

import re
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

    Words that hold for one method or one way of sharing only name it. "ETP 4" is the degree that few tables have a column for.
    """
    degree = re.search(r"\betp (\d+)\b", given.get("notes", ""), re.IGNORECASE)
    found: dict[str, str] = {"etp": degree[1]} if degree and not given.get("etp") else {}
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
    "type_vocab_size",
)
"""Columns with a field of the same name in the model, and a whole number in it."""
SAID = (
    "gated_ffn",
    "tied_embeddings",
    "attention_sinks",
    "embedding_norm",
    "final_norm",
    "softmax_in_fp32",
    "relative_attention",
)
"""Such columns that hold a yes or a no."""
NAMED = ("architecture", "norm", "head", "position_embedding", "activation")
"""Such columns that hold a word."""
POSITIONS: dict[str, str] = {"rope": "rotary", "rotary": "rotary", "learned": "learned", "alibi": "alibi", "none": "none"}
"""What tables write of how a model knows positions -> ours."""


def catalog_model(row: Mapping[str, str], given: Mapping[str, str], labels: Labels) -> Model | None:
    """The catalog's model where the row names one and leaves out a size, or carries adapters, which need its layers' names.

    Cells on the architecture that the file gives, and that of its family, before any is filled, must say the same: PlannerError
    names the first that does not. Dropout is a choice of the run, as the row says.
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
        _agree(given, model, labels)
        if row.get("dropout"):
            changes |= dict.fromkeys(("hidden_dropout", "attention_dropout"), fraction(row, "dropout"))
    return model.replaced(**changes) if changes else model


def _agree(given: Mapping[str, str], model: Model, labels: Labels) -> None:
    """PlannerError where a cell says another architecture than the catalog's model has."""
    family = labels["family"].get(given.get("family", ""), {})
    cells = {**{column: family[column] for column in family if column == "architecture"}, **{k: v for k, v in given.items() if v}}
    for column in (*COUNTED, *SAID, *NAMED, *PARTS):
        if column in cells and (ours := _ours(column, model)) and _read(column, cells) not in ours:
            raise PlannerError(
                "{0} = {1}: {2} has {3}; correct one, or give all of {4}",
                column,
                cells[column],
                model.name,
                ours[0],
                ", ".join(SIZES),
            )


PARTS = ("biases", "attention", "max_positions", "memory_length")
"""Columns that say several fields of the model at once, or some of one."""


def _read(column: str, cells: Mapping[str, str]) -> int | str:
    """A cell as ``_ours`` counts or calls it."""
    if column in (*SAID, "biases"):
        return int(yes(cells, column))
    if column == "memory_length" and cells[column] == "seq_len":
        return whole(cells, "seq_len")
    if column in (*COUNTED, "max_positions", "memory_length"):
        return whole(cells, column)
    return POSITIONS.get(cells[column], cells[column]) if column == "position_embedding" else cells[column]


def _ours(column: str, model: Model) -> tuple[int | str, ...]:
    """What a cell may say of a model, what it has first; empty where the column changes nothing of such a model."""
    if column == "biases":  # of some layers: either word
        parts = (model.qkv_bias, model.attention_output_bias, model.ffn_bias)
        return tuple(dict.fromkeys((int(any(parts)), int(all(parts)))))
    if column == "attention":  # a table names latent attention; the heads tell the others apart
        return (model.attention,) if model.attention == "mla" else (model.attention, "mha", "gqa", "mqa")
    if column == "max_positions" and model.position_embedding != "learned":
        return ()
    if column == "full_attention_every" and not model.sliding_window:  # no window: every layer sees all
        return (0, 1)
    ours = getattr(model, column) or 0
    return (ours,) if isinstance(ours, str) else (int(ours),)


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
