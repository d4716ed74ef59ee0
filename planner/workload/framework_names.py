"""Which file of the catalog training software is that people name: NeMo, nanoGPT, Unsloth."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from planner.common import data
from planner.common.errors import PlannerError
from planner.common.references import Catalog
from planner.common.spec import read_table
from planner.workload.job import ADAPTERS

CATALOG = data.CATALOG / "frameworks"
FRAMEWORKS = Catalog(CATALOG, "planner/catalog/frameworks")
"""Their files; one may be based on another, or take single values from it."""
NAMES = data.CATALOG / "framework_names.toml"


def framework_of_name(name: str, field: str, kind: str | None) -> dict[str, Any] | None:
    """``name`` of the catalog's framework, and the fields that the software changes of it; None for an unknown name.

    ``kind``: the job's; transformers is peft for adapters and huggingface for all else. Raises PlannerError where that decides
    and nobody said it, and for software that is known and not modelled.

    >>> framework_of_name("NeMo", "framework.name", None)
    {'name': 'megatron-bridge'}
    >>> framework_of_name("hf", "framework.name", "qlora")
    {'name': 'peft'}
    """
    word = _plain(name)
    if word in _missing():
        near = " or ".join(_missing()[word])
        raise PlannerError("{0} = {1!r}: is known and not modelled; nearest to it: {2}.", field, name, near)
    found = _known().get(word)
    if found is None:
        return None
    whole, adapters = found
    if kind is None and adapters != whole:
        raise PlannerError(
            "{0} = {1!r}: stands for {2} where adapters are trained and for {3} where all weights are; name one of them.",
            field,
            name,
            adapters["name"],
            whole["name"],
        )
    return dict(adapters if kind in ADAPTERS else whole)


def named_frameworks() -> dict[str, str]:
    """The catalog's framework by each name that always means the same one."""
    return {word: whole["name"] for word, (whole, adapters) in _known().items() if whole == adapters == {"name": whole["name"]}}


@cache
def _known() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """(where all weights are trained, where adapters are) by name."""
    table = read_table(NAMES)
    ours = {name: (name,) for name in FRAMEWORKS.names()} | {name: entry["names"] for name, entry in table["stacks"].items()}
    stacks = {word: ({"name": stack}, {"name": stack}) for stack, words in ours.items() for word in (stack, *words)}
    jobs = {
        word: (entry["model"], entry.get("adapters", entry["model"]))
        for software, entry in table["jobs"].items()
        for word in (software, *entry["names"])
    }
    return {_plain(word): found for word, found in {**stacks, **jobs}.items()}


@cache
def _missing() -> dict[str, list[str]]:
    return {_plain(word): names for word, names in read_table(NAMES)["missing"].items()}


def _plain(name: str) -> str:
    return " ".join(re.split(r"[-_/.\s]+", name.strip())).casefold()
