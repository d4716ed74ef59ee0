"""Models by name, from TOML, or from a Hugging Face config.json."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from planner.common import data
from planner.common.errors import PlannerError, as_text, near
from planner.common.spec import read_table
from planner.model.architecture import Model
from planner.model.huggingface import model_from_config

CATALOG = data.CATALOG / "models"
FILE = "the path of a .toml or .json file"


@cache
def _files() -> dict[str, Path]:
    return {p.stem: p for p in sorted(CATALOG.glob("*.toml"))}


def load_model(name: str) -> Model:
    """The model of that catalog name or of its name at Hugging Face ("Qwen/Qwen3-8B-Instruct"), or of a path: ``.toml`` with our
    fields, ``.json`` with Hugging Face's.

    Raises PlannerError: unknown name (the near ones are listed), unreadable file, bad field.
    """
    return _model_of(as_text(name, "model.name"))


@cache
def _model_of(name: str) -> Model:
    if name.endswith((".toml", ".json")):
        path = Path(name)
        data = read_table(path)
        if path.suffix == ".json":
            return model_from_config(
                data, name=path.stem if path.stem != "config" else path.resolve().parent.name, where=str(path)
            )
        return Model.build({"name": path.stem, **data}, str(path))
    files = _files()
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    if wanted not in files and "/" in name:
        wanted = _hub_names().get(_hub_name(name), wanted)
    if wanted not in files and Path(name).is_dir():
        raise PlannerError("{0}: is a folder; give {1}.", name, FILE, code="file", field="model.config", value=name)
    if wanted not in files:
        raise PlannerError(
            "model.name = {0!r} is not in the catalog; {1}. Or give its fields, or a config.json.",
            name,
            near(wanted.rpartition("/")[2], files),
        )
    return Model.build(read_table(files[wanted]), str(files[wanted]))


HUB = re.compile(r"huggingface\.co/([\w.-]+/[\w.-]+)")
TUNED = re.compile(r"-(?:instruct|chat|it|base|pt|hf)(?=-|$)|(?<=/)meta-(?=llama)")
"""What a hub's name has more or less of where only the weights' values differ."""


@cache
def _hub_names() -> dict[str, str]:
    """Hugging Face's name of each model whose config.json the catalog was read from -> ours; the first where several have it."""
    found: dict[str, str] = {}
    for name, path in _files().items():
        match = HUB.search(path.read_text(encoding="utf-8").partition("\n[")[0])
        if match is not None:
            found.setdefault(_hub_name(match[1]), name)
    return found


def _hub_name(name: str) -> str:
    """A hub's name without what instruction tuning adds to it.

    >>> _hub_name("meta-llama/Meta-Llama-3-8B-Instruct"), _hub_name("google/gemma-2-9b-it")
    ('meta-llama/llama-3-8b', 'google/gemma-2-9b')
    """
    return TUNED.sub("", name.strip().lower().removeprefix("https://").removeprefix("huggingface.co/"))


def model_names() -> list[str]:
    """All models of the catalog."""
    return list(_files())
