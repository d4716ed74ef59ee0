"""Models by name, from TOML, or from a Hugging Face config.json."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from planner.common.errors import PlannerError, as_text
from planner.common.files import State, state_of
from planner.common.spec import read_table
from planner.model import huggingface
from planner.model.architecture import Model
from planner.model.gguf import gguf_metadata, is_gguf
from planner.model.names import context_named, meant, model_files, require_meant

FILE = "the path of a .toml or .json file"


def load_model(name: str) -> Model:
    """The model of that name, as people or hubs write it ("llama3-8b", "Qwen/Qwen3-8B-Instruct"; ``planner.model.names``), or of
    a path: ``.toml`` with our fields, ``.json`` with Hugging Face's, ``.gguf``.

    Raises PlannerError: unknown name (the near ones are listed), one that may mean several, unreadable file, bad field.
    """
    return _model_of(as_text(name, "model.name"), state_of(name))


@lru_cache(maxsize=1024)
def _model_of(name: str, state: State) -> Model:
    if name.endswith((".toml", ".json")):
        path = Path(name)
        if path.suffix == ".json":
            data = read_table(path, parsed=huggingface.config_of)
            return huggingface.model_from_config(
                data, name=path.stem if path.stem != "config" else Path(os.path.realpath(path)).parent.name, where=str(path)
            )
        return Model.build({"name": path.stem, **read_table(path)}, str(path))
    if is_gguf(name) and os.path.isfile(name):
        return huggingface.model_from_config(gguf_metadata(Path(name)), name=Path(name).stem, where=name)
    found = meant(name)
    if found is None and os.path.isfile(name):
        raise PlannerError(
            "{0}: is none of the files that describe a model; give its config.json, or a GGUF file.",
            name,
            code="file",
            field="model.config",
            value=name,
        )
    if found is None and os.path.isdir(name):
        raise PlannerError("{0}: is a folder; give {1}.", name, FILE, code="file", field="model.config", value=name)
    model_name, weights = found or require_meant(name)
    path = model_files()[model_name]
    fields = dict(read_table(path))
    if is_gguf(name):
        fields["provenance"] = {
            **fields.get("provenance", {}),
            "stored_weights": {"kind": "assumed", "source": absent(name, weights)},
        }
    if weights:
        fields["stored_weights"] = weights
    if (context := context_named(name)) is not None:
        fields["context_length"] = context
    return Model.build(fields, str(path))


def absent(name: str, weights: str) -> str:
    """What is said of a GGUF file that is not here: its name alone is read."""
    return f"{name} is not here: its name alone is read, weights in {weights or '16 bit, since it names no other format'}"


def model_names() -> list[str]:
    """All models of the catalog."""
    return list(model_files())
