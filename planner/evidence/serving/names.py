"""What tables call models, accelerators and formats, and what the catalog calls them: a source's labels, then as any question."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from planner.common import data
from planner.common.errors import PlannerError, near
from planner.common.spec import read_table
from planner.hardware.asked import accelerator_named
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.names import meant
from planner.serving.weight_formats import FORMATS, format_spelling

LABELS = data.CATALOG / "serving_labels.toml"


@cache
def labels() -> dict[str, Any]:
    """The tables of ``serving_labels.toml``."""
    return read_table(LABELS)


def model_of(name: str) -> Model:
    """The model of a table's word: a label, or a name as ``load_model`` reads it; how weights are stored says the row."""
    own = labels()
    if name in own["model_fields"]:
        return Model.build({"name": name, **own["model_fields"][name]}, "model")
    word = str(own["model"].get(name, name))
    found = meant(word)
    return load_model(found.model if found is not None else word)


def accelerator_of(name: str) -> str:
    """The accelerator of a table's word: a label of a source that leaves open which one it is, or as ``--on`` reads it."""
    own: Mapping[str, str] = labels()["accelerator"]
    return own.get(name) or accelerator_named(name, "gpu")


def format_of(name: str) -> dict[str, Any]:
    """Fields of ``Serving`` for a table's word for a format; in any case and with blanks or hyphens."""
    own = labels()["weights"]
    if name in own:
        return dict(own[name])
    by_spelling = {format_spelling(n): dict(fields) for n, fields in own.items()}
    by_spelling = {format_spelling(n): {"weights": n} for n in FORMATS} | by_spelling
    found = by_spelling.get(format_spelling(name))
    if found is None:
        raise PlannerError("weights = {0!r} is not known; {1}.", name, near(name, [*own, *FORMATS]))
    return found


def require_modelled(row: Mapping[str, str]) -> None:
    """Raise PlannerError for a word in one of the row's columns that says what is not modelled."""
    for column, words in labels()["refused"].items():
        for text, why in words.items():
            if text in row.get(column, ""):
                raise PlannerError("{0} = {1!r}: {2}", column, row[column], why)
