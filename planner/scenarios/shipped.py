"""The scenarios that come with the package, by name: "chatlaw2-moe", "serving/qwen-7b"."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from planner.common import data
from planner.common.errors import PlannerError, near


@cache
def _files() -> dict[str, Path]:
    found = sorted(data.SCENARIOS.rglob("*.toml"))
    return {path.relative_to(data.SCENARIOS).with_suffix("").as_posix(): path for path in found}


def scenario_names() -> list[str]:
    """All shipped scenarios; those of ``planner serve`` begin with "serving/"."""
    return list(_files())


def shipped_scenario(name: str) -> Path:
    """The file of a shipped scenario; an unknown name raises PlannerError that lists the near ones."""
    if name not in _files():
        raise PlannerError("scenario {0!r} is not among the shipped ones; {1}.", name, near(name, _files()))
    return _files()[name]


def scenario_path(given: str | Path, folder: str = "") -> Path:
    """The file that ``given`` means: a path, or the name of a shipped scenario, ``folder`` before it where none is so named.

    A file of that name in the current folder wins.
    """
    if not isinstance(given, str | Path):
        raise PlannerError("scenario = {0!r}: must be the path of a .toml file or the name of a shipped scenario.", given)
    path, name = Path(given), str(given)
    if os.path.isfile(path):
        return path
    for known in (f"{folder}/{name}", name) if folder else (name,):
        if known in _files():
            return _files()[known]
    named = name.removeprefix("scenarios/").removesuffix(".toml")
    if not os.path.exists(path) and path.suffix == ".toml" and named in _files():
        raise PlannerError("{0}: no such file; the shipped scenario of that name is {1}, without .toml.", path, named)
    if path.suffix or os.path.exists(path):
        return path  # its reader says what is wrong with it
    raise PlannerError(
        "scenario {0!r}: neither a file nor a shipped scenario (`planner scenarios list`); {1}.", name, near(name, _files())
    )
