"""What tables call models, accelerators and formats, and what the catalog calls them: exact labels first, then spelling."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from planner.common import data
from planner.common.errors import PlannerError, near
from planner.common.spec import read_table
from planner.hardware.cluster import load_accelerator
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.serving.weight_formats import FORMATS

LABELS = data.CATALOG / "serving_labels.toml"


BRANDS = frozenset({"rtx", "gtx", "quadro"})


@cache
def labels() -> dict[str, Any]:
    """The tables of ``serving_labels.toml``."""
    return read_table(LABELS)


@cache
def _stems(folder: Path) -> tuple[str, ...]:
    return tuple(p.stem for p in sorted(folder.glob("*.toml")))


def model_of(name: str) -> Model:
    """The model of a table's word: a label, or a name as ``load_model`` reads it."""
    own = labels()
    if name in own["model_fields"]:
        return Model.build({"name": name, **own["model_fields"][name]}, "model")
    return load_model(str(own["model"].get(name, name)))


def accelerator_of(name: str) -> str:
    """The accelerator of a table's word: a label, or the only profile that has all of its words ("3070 8GB")."""
    own: Mapping[str, str] = labels()["accelerator"]
    if name in own:
        return own[name]
    profiles = _stems(data.PROFILES / "accelerators")
    if name.lower() in profiles:
        return name.lower()
    wanted = _words(name) - set(labels()["spelling"]["dropped_words"])
    found = [p for p in profiles if wanted and wanted <= _words(p)]
    if not found:  # a size of memory that the profile's name does not repeat
        bare = {w for w in wanted if not re.fullmatch(r"\d+gb", w)}
        found = [p for p in profiles if bare and bare <= _words(p)]
    plain = [p for p in found if not {w for w in _words(p) - wanted - BRANDS if not re.fullmatch(r"\d+gb", w)}]
    found = plain or found  # "3070" is no 3070 Ti
    if len(found) == 1:
        return found[0]
    if found:
        raise PlannerError("gpu = {0!r}: may be {1}; say which", name, ", ".join(found))
    return load_accelerator(name).name  # raises, and lists the near ones


def _words(name: str) -> set[str]:
    """Lower-case words; "80 GB" is one, and memory's binary unit counts as the decimal one."""
    text = re.sub(r"(\d+)\s*gi?b\b", r"\1gb", name.lower())
    return {w for w in re.split(r"[^a-z0-9.]+", text) if w}


def format_of(name: str) -> dict[str, Any]:
    """Fields of ``Serving`` for a table's word for a format; in any case and with blanks or hyphens."""
    own = labels()["weights"]
    if name in own:
        return dict(own[name])
    by_spelling = {_format_spelling(n): dict(fields) for n, fields in own.items()}
    by_spelling = {_format_spelling(n): {"weights": n} for n in FORMATS} | by_spelling
    found = by_spelling.get(_format_spelling(name))
    if found is None:
        raise PlannerError("weights = {0!r} is not known; {1}", name, near(name, [*own, *FORMATS]))
    return found


def _format_spelling(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower())


def require_modelled(row: Mapping[str, str]) -> None:
    """Raise PlannerError for a word in one of the row's columns that says what is not modelled."""
    for column, words in labels()["refused"].items():
        for text, why in words.items():
            if text in row.get(column, ""):
                raise PlannerError("{0} = {1!r}: {2}", column, row[column], why)
