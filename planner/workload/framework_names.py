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
ENGINES = data.CATALOG / "engine_names.toml"
"""What people call serving software: data that this floor reads to say what is none of ours."""
RELEASE = re.compile(r"(.*[^\W\d_]\W*?)[-_/\s=@]*(?:\bv)?(\d+(?:\.\d+)*)$", re.IGNORECASE)
"""A name and the release that ends it: NeMo-2.0, torchtitan==0.1, nemo2."""


def framework_of_name(name: str, field: str, kind: str | None) -> dict[str, Any] | None:
    """``name`` of the catalog's framework, and the fields that the software changes of it; None for an unknown name.

    ``kind``: the job's; transformers is peft for adapters and huggingface for all else. Raises PlannerError where that decides
    and nobody said it, and for software that is known and not modelled.

    >>> framework_of_name("NeMo", "framework.name", None)
    {'name': 'megatron-bridge'}
    >>> framework_of_name("hf", "framework.name", "qlora")
    {'name': 'peft'}
    """
    word = _plain(without_release(name)[0])
    if word in _missing():
        near = " or ".join(_missing()[word])
        raise PlannerError("{0} = {1!r}: known, but not modelled; the nearest to it: {2}.", field, name, near)
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


def without_release(name: str) -> tuple[str, str]:
    """(the name that is known, the release that follows it): a known name has none, and an unknown one stays whole.

    A digit that tells software apart is part of the name: of fsdp2 and fsdp1, of zero 1 to zero 3.

    >>> without_release("NeMo-2.0"), without_release("nemo2"), without_release("Torch FSDP 2")
    (('NeMo', '2.0'), ('nemo', '2'), ('Torch FSDP 2', ''))
    """
    match = RELEASE.fullmatch(name.strip())
    known = {*_known(), *_missing()}
    if _plain(name) in known or match is None or _plain(match[1]) not in known:
        return name, ""
    numbered = {one[:-1] for one in known if one[-1].isdigit()}
    return (name, "") if _plain(match[1]).endswith(tuple(numbered)) else (match[1], match[2])


def is_engine(name: str) -> bool:
    """Whether a name, with or without a release, is that of software that serves and does not train.

    >>> is_engine("vLLM 0.6.3"), is_engine("SGLang"), is_engine("vllm-fsdp")
    (True, True, False)
    """
    match = RELEASE.fullmatch(name.strip())
    return _plain(name) in _engines() or (match is not None and _plain(match[1]) in _engines())


@cache
def _engines() -> frozenset[str]:
    """Every engine's file and every name of its software."""
    families = read_table(ENGINES)["family"].items()
    return frozenset(_plain(str(word)) for name, f in families for word in (name, *f.get("names", ()), *f["releases"].values()))


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
    return re.sub(r"[-_/.\s]+", "", name).casefold()
