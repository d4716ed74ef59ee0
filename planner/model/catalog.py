"""Models by name, from TOML, or from a Hugging Face config.json."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from planner.common import data
from planner.common.errors import PlannerError, as_text, near
from planner.common.spec import read_table
from planner.model.architecture import Model
from planner.model.huggingface import model_from_config

CATALOG = data.CATALOG / "models"


@cache
def _files() -> dict[str, Path]:
    return {p.stem: p for p in sorted(CATALOG.glob("*.toml"))}


def load_model(name: str) -> Model:
    """The model of that catalog name, or of a path: ``.toml`` with our fields, ``.json`` with Hugging Face's.

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
    if wanted not in files:
        raise PlannerError(
            "model.name = {0!r} is not in the catalog; {1}. Or give its fields, or a config.json.", name, near(wanted, files)
        )
    return Model.build(read_table(files[wanted]), str(files[wanted]))


def model_names() -> list[str]:
    """All models of the catalog."""
    return list(_files())
