"""What-if changes of a model: layers and experts dropped, widths pruned, a vocabulary trimmed; what they save, and what not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from planner.common.arguments import as_a, as_list
from planner.common.errors import PlannerError, as_text
from planner.common.files import require_folder, write_text
from planner.common.message import Message
from planner.common.spec import python_value, whole_number
from planner.model.architecture import Model
from planner.model.parameters import layer_parameters, parameters_active, parameters_total
from planner.workload.resolve import ModelLike, as_model
from planner.workload.tuning import Quantization

PRECISIONS = ("fp32", "fp16", "int8", "nf4")
TABLES = ("variants", "towers")
"""Fields that hold tables."""
ALWAYS = ("name", "source", "norm_bias")
"""Fields that are written even where they have their default: left out, norm_bias would follow the norm."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What to change; None and empty = as it is."""

    vocab_size: int | None = None
    keep_layers: tuple[int, ...] = ()
    drop_layers: tuple[int, ...] = ()
    num_heads: int | None = None
    num_kv_heads: int | None = None
    ffn_hidden_size: int | None = None
    expert_ffn_hidden_size: int | None = None
    experts_kept: int | None = None
    sparsity: float | None = None  # of single weights, without a pattern


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A model before and after, and what must be said of the change."""

    before: Model
    after: Model
    notes: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Figures before and after: parameters, bytes of the weights by precision, flops of a forward pass per token."""
        figures = [
            ("parameters", "count", float(parameters_total(self.before)), float(parameters_total(self.after))),
            ("active parameters", "count", float(parameters_active(self.before)), float(parameters_active(self.after))),
            *(
                (
                    Message("weights in {0}", precision),
                    "bytes",
                    weight_bytes(self.before, precision),
                    weight_bytes(self.after, precision),
                )
                for precision in PRECISIONS
            ),
            ("forward flops per token", "flop", forward_flops(self.before), forward_flops(self.after)),
        ]
        return [{"figure": name, "unit": unit, "before": b, "after": a} for name, unit, b, a in figures]


def derive(base: ModelLike, changes: Changes, name: str) -> Derived:
    """The changed model, under a new name. ``base``: a model, its name or its fields.

    Raises PlannerError that names the option and what would be right.
    """
    base, name = as_model(base), as_text(name, "name")
    changes = _checked(as_a(changes, Changes, "changes", "planner.Changes"))
    fields = base.model_dump(exclude={"provenance"})
    notes: list[str] = []
    fields |= _vocabulary(base, changes, notes)
    fields |= _widths(base, changes)
    fields |= _experts(base, changes, notes)
    fields |= _layers(base, changes, fields)
    notes += _sparsity(changes)
    defaults = Model.model_fields
    kept = {k: v for k, v in fields.items() if k in ALWAYS or v != defaults[k].default}
    told = f"{base.source}; changed by planner models derive {base.name}" if base.source else f"derived from {base.name}"
    after = Model.build({**kept, "name": name, "source": told}, Message("planner models derive {0}", base.name))
    if changes.ffn_hidden_size is not None and all(kind.moe for kind in after.layer_kinds):
        raise PlannerError(
            "--width-ffn {0}: every layer kept of {1} has experts instead of a feed-forward; give --width-expert-ffn.",
            changes.ffn_hidden_size,
            base.name,
        )
    _require_effect(base, after, changes)
    aside = {"name", "source", "provenance"}
    if not notes and after.model_dump(exclude=aside) == base.model_dump(exclude=aside):
        raise PlannerError("planner models derive: nothing changes; give --vocab-size, --drop-layers, --width-ffn or another.")
    return Derived(before=base, after=after, notes=tuple(notes))


def _checked(changes: Changes) -> Changes:
    """The changes, their numbers Python's own; PlannerError for what is no number or no list of layers."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(changes):
        given, where = getattr(changes, field.name), f"changes.{field.name}"
        if field.name in ("keep_layers", "drop_layers"):
            found[field.name] = tuple(
                _count(layer, where) for layer in as_list(given, where, Message("layers, whole numbers from 0"))
            )
        elif field.name == "sparsity" and given is not None:
            value = python_value(given)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise PlannerError("{0} = {1!r}: must be a number between 0 and 1.", where, value, code="type")
            found[field.name] = value
        elif given is not None:
            found[field.name] = _count(given, where)
    return replace(changes, **found)


def _count(given: Any, where: str) -> int:
    value = whole_number(given)
    if isinstance(value, bool) or not isinstance(value, int):
        raise PlannerError("{0} = {1!r}: must be a whole number.", where, value, code="type")
    return value


def _require_effect(base: Model, after: Model, changes: Changes) -> None:
    """PlannerError for a width that no layer of the model has: attention's of a state space, a dense block's of experts alone."""
    given = {
        "--width-heads": changes.num_heads,
        "--width-kv-heads": changes.num_kv_heads,
        "--width-ffn": changes.ffn_hidden_size,
        "--width-expert-ffn": changes.expert_ffn_hidden_size,
    }
    option = next((name for name, value in given.items() if value is not None), None)
    if option is None or changes.keep_layers or changes.drop_layers:
        return
    same = _layer_elements(after) == _layer_elements(base)
    fields = ("num_heads", "num_kv_heads", "ffn_hidden_size", "expert_ffn_hidden_size")
    if same and changes.experts_kept is None and any(getattr(after, field) != getattr(base, field) for field in fields):
        raise PlannerError("{0} {1}: no layer of {2} has such a width; nothing would change.", option, given[option], base.name)


def _vocabulary(base: Model, changes: Changes, notes: list[str]) -> dict[str, Any]:
    if changes.vocab_size is None:
        return {}
    if not 0 < changes.vocab_size <= base.vocab_size:
        raise PlannerError(
            "--vocab-size {0}: must be 1 to {1}, the words of {2}.", changes.vocab_size, base.vocab_size, base.name
        )
    rows = 1 if base.tied_embeddings or base.head == "none" else 2
    notes.append(
        Message(
            "the trimmed vocabulary drops {0:,} words, {1} row(s) of {2:,} each; text then takes more tokens, which this does "
            "not count",
            base.vocab_size - changes.vocab_size,
            rows,
            base.hidden_size,
        )
    )
    return {"vocab_size": changes.vocab_size}


def _widths(base: Model, changes: Changes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option, field, new in (
        ("--width-heads", "num_heads", changes.num_heads),
        ("--width-kv-heads", "num_kv_heads", changes.num_kv_heads),
        ("--width-ffn", "ffn_hidden_size", changes.ffn_hidden_size),
        ("--width-expert-ffn", "expert_ffn_hidden_size", changes.expert_ffn_hidden_size),
    ):
        if new is None:
            continue
        old = getattr(base, field)
        if old is None:
            raise PlannerError("{0} {1}: {2} has no experts.", option, new, base.name)
        if field == "num_kv_heads" and base.attention == "mla":
            raise PlannerError(
                "--width-kv-heads {0}: {1} has latent attention, no key-value heads; give --width-heads.", new, base.name
            )
        if not 0 < new <= old:
            raise PlannerError("{0} {1}: pruning keeps 1 to {2}, the {3} of {4}.", option, new, old, field, base.name)
        found[field] = new
    if "num_heads" in found or "num_kv_heads" in found:
        heads, kv = found.get("num_heads", base.num_heads), found.get("num_kv_heads", base.num_kv_heads)
        if base.num_kv_heads == base.num_heads and "num_kv_heads" not in found:
            kv = heads  # each head has its own keys and values: they go together
        if heads % kv:
            raise PlannerError(
                "--width-heads {0}: {1} key-value heads do not divide them; give --width-kv-heads, too.", heads, kv
            )
        latent = base.attention == "mla"
        kind = "mla" if latent else "mha" if heads == kv else "mqa" if kv == 1 else "gqa"
        found |= {"num_heads": heads, "num_kv_heads": heads if latent else kv, "head_dim": base.head_dim, "attention": kind}
    return found


def _experts(base: Model, changes: Changes, notes: list[str]) -> dict[str, Any]:
    kept = changes.experts_kept
    if kept is None:
        return {}
    if not base.num_experts:
        raise PlannerError("--experts-kept {0}: {1} is dense.", kept, base.name)
    if not base.top_k <= kept <= base.num_experts:
        raise PlannerError(
            "--experts-kept {0}: must be {1} (top_k) to {2}, the experts of {3}.", kept, base.top_k, base.num_experts, base.name
        )
    notes.append(
        Message(
            "{0} of {1} experts are dropped from memory; a token still passes {2}, so the flops per token stay. Which experts "
            "are least used, and what quality goes with them, only your data can tell",
            base.num_experts - kept,
            base.num_experts,
            base.top_k,
        )
    )
    return {"num_experts": kept}


def _layers(base: Model, changes: Changes, fields: dict[str, Any]) -> dict[str, Any]:
    keep, drop = changes.keep_layers, changes.drop_layers
    if not keep and not drop:
        return {}
    if keep and drop:
        raise PlannerError("--keep-layers and --drop-layers exclude each other; give one.")
    option, given = ("--keep-layers", keep) if keep else ("--drop-layers", drop)
    beyond = [i for i in given if not 0 <= i < base.num_layers]
    if beyond:
        raise PlannerError("{0} {1}: {2} has layers 0 to {3}.", option, beyond[0], base.name, base.num_layers - 1)
    stay = sorted(set(keep)) if keep else [i for i in range(base.num_layers) if i not in set(drop)]
    if not stay:
        raise PlannerError("{0}: drops every layer of {1}; keep at least one.", option, base.name)
    kinds = [base.layer_kinds[i] for i in stay]
    sliding = any(kind.sliding for kind in kinds)
    found: dict[str, Any] = {
        "num_layers": len(stay),
        "full_attention_every": 0,
        "first_sliding_layer": 0,
        "num_dense_layers": 0,
        "moe_every": 1,
        "full_attention_layers": tuple(i for i, kind in enumerate(kinds) if not kind.sliding) if sliding else (),
        "sliding_window": base.sliding_window if sliding else None,
        "dense_layers": tuple(i for i, kind in enumerate(kinds) if not kind.moe) if base.num_experts else (),
    }
    if base.variants:
        letters = ["A", *(variant.letter for variant in base.variants)]
        pattern = "".join(letters[kind.variant] for kind in kinds)
        found |= {"layer_pattern": pattern, "variants": [v for v in fields["variants"] if v["letter"] in pattern]}
    if base.num_experts and not any(kind.moe for kind in kinds):
        raise PlannerError("{0}: leaves no layer with experts of {1}; keep one of them.", option, base.name)
    return found


def _sparsity(changes: Changes) -> list[str]:
    if changes.sparsity is None:
        return []
    if not 0 < changes.sparsity < 1:
        raise PlannerError("--sparsity {0:g}: must be between 0 and 1, the part of single weights set to zero.", changes.sparsity)
    return [
        Message(
            "zeroing {0:.0%} of single weights changes none of these figures: a dense tensor stores its zeros and "
            "dense kernels multiply them. Only 2:4 patterns with sparse kernels halve the multiplications"
            " and nearly halve the weights",
            changes.sparsity,
        )
    ]


def weight_bytes(model: Model, precision: str) -> float:
    """Bytes of all weights; nf4 (bitsandbytes, double quantization) leaves embeddings, norms, output layer in 16 bit."""
    total = float(parameters_total(model))
    if precision != "nf4":
        return total * {"fp32": 4.0, "fp16": 2.0, "int8": 1.0}[precision]
    matrices = _layer_matrices(model)
    return matrices * Quantization(format="nf4").bytes_per_weight(float(model.hidden_size)) + 2.0 * (total - matrices)


def _layer_elements(model: Model) -> float:
    return sum(t.elements for kind in model.layer_kinds for t in layer_parameters(model, kind))


def _layer_matrices(model: Model) -> float:
    """Elements of the linear layers inside the layers, without routers."""
    names = ("attention.", "ffn.", "experts.", "shared.", "mixer.", "latent.", "streams.")
    return sum(
        t.elements
        for kind in model.layer_kinds
        for t in layer_parameters(model, kind)
        if t.name.endswith(".weight") and t.name.startswith(names) and "norm" not in t.name
    )


def forward_flops(model: Model) -> float:
    """Flops of a forward pass per token without attention's own products: two for each active weight but the look-up's."""
    width = model.embedding_projection_size or model.hidden_size
    table = model.vocab_size * width if not model.tied_embeddings else 0
    positions = model.max_positions * model.hidden_size if model.position_embedding == "learned" else 0
    return 2.0 * (parameters_active(model) - table - positions)


def model_text(model: Model) -> str:
    """The model as TOML: what differs from the defaults; layers that differ and towers as tables behind it."""
    lines, tables = [], []
    for field, value in model.model_dump(exclude={"provenance"}).items():
        default = Model.model_fields[field].default
        if field not in ALWAYS and (value == default or value is None or value == ()):
            continue
        if field in TABLES:
            tables += [f"[[{field}]]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in _said(part).items()) for part in value]
        else:
            lines.append(f"{field} = {_toml(value)}")
    return "\n".join([*lines, "", *tables]) if tables else "\n".join(lines) + "\n"


def _said(part: dict[str, Any]) -> dict[str, Any]:
    """What a table says: no nulls, no provenance."""
    return {k: v for k, v in part.items() if v is not None and k != "provenance"}


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(list(value)) if isinstance(value, Sequence) else repr(value)


def write_model(model: Model, path: Path) -> None:
    """Write a model for use by its path; PlannerError where that is no TOML file or cannot be written."""
    if path.suffix.lower() != ".toml" or path.is_dir():
        raise PlannerError("-o {0}: give the path of a file that ends in .toml.", path)
    require_folder(path, "-o")
    write_text(path, model_text(model))
