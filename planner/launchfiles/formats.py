"""Formats of launch files as data: what each option is called, and which field of a scenario it is.

``planner/catalog/launch/NAME.toml`` holds one tool each, with the release and the page that its names were checked against.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from typing import Any

from planner.common import data
from planner.common.spec import read_table

CATALOG = data.CATALOG / "launch"


@dataclass(frozen=True, kw_only=True)
class Option:
    """What one option means: ``field`` of a scenario, or of ``said``, which several options decide together.

    ``values`` translates the option's words; a flag sets ``on`` where it is true and ``off`` where it is false; ``none``: an
    empty list says none of them, not that nothing is said.
    """

    field: str
    values: Mapping[str, Any] | None = None
    on: Any = None
    off: Any = None
    none: bool = False


@dataclass(frozen=True, kw_only=True)
class Core:
    """One of several engines of the same release: which one it is, and the releases that have it."""

    engine: str
    first: str = ""
    before: str = ""

    def is_in(self, release: str) -> bool:
        """Whether a release has it."""
        at = _numbers(release)
        return _numbers(self.first) <= at and (not self.before or at < _numbers(self.before))


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(one) for one in release.split(".") if one)


@dataclass(frozen=True, kw_only=True)
class Format:
    """One tool's launch file.

    ``takes``: other formats whose options it has as well; ``told_by``: options by which its commands differ from theirs.
    ``programs``: words that start it in a command; ``stages``: those that start another stage than supervised tuning.
    ``named``: the pattern of a program that is named after its method and its model, the two groups.
    ``marks``: keys that only its files have; ``marked``: keys of its files for another stage.
    ``files``: options that name a further file; ``shipped``: names of files that tools bring, with the options in them.
    ``absent``: what it means to leave an option out; ``absent_is_all`` drops what the formats in ``takes`` say of that.
    ``environment``: variables that act as options; ``images``: names of containers whose tag is the tool's release.
    ``unmodelled``: options that change memory or time and are not modelled, with what they change; ``usual``: values of these
    that change nothing, since they are what is modelled; ``neutral``: patterns of options that change neither.
    ``unwraps``: the key under which a larger file holds a file of this format.
    ``cores``: engines that a variable chooses between (``said.core``).
    """

    name: str
    title: str
    release: str
    source: str
    kind: str
    framework: str
    takes: tuple[str, ...]
    told_by: frozenset[str]
    programs: tuple[str, ...]
    stages: Mapping[str, str]
    named: str
    marked: Mapping[str, str]
    marks: tuple[tuple[str, ...], ...]
    positional: str
    options: Mapping[str, Option]
    files: frozenset[str]
    absent: Mapping[str, Any]
    unmodelled: Mapping[str, str]
    usual: Mapping[str, tuple[str, ...]]
    shipped: Mapping[str, Mapping[str, Any]]
    neutral: tuple[str, ...]
    unwraps: str
    environment: tuple[str, ...]
    images: tuple[str, ...]
    cores: Mapping[str, Core]

    def release_of(self, image: str) -> str | None:
        """The release that a container's name ends with; None for another container, or a tag that is no release."""
        names = "|".join(map(re.escape, self.images))
        found = re.search(rf"(?:^|/)(?:{names}):(v?\d+(?:\.\d+)+)", image) if names else None
        return None if found is None else found[1].removeprefix("v")

    def is_neutral(self, name: str) -> bool:
        """Whether an option changes neither memory nor time."""
        return any(fnmatchcase(name, pattern) for pattern in self.neutral)


def plain_name(name: str) -> str:
    """An option's name as the tables spell it; a name of one letter keeps its case.

    >>> plain_name("--Tensor_Parallel-Size"), plain_name("-N")
    ('tensor-parallel-size', 'N')
    """
    plain = name.lstrip("-").replace("_", "-")
    return plain if len(plain) == 1 else plain.lower()


def _option(entry: Any) -> Option:
    return Option(field=entry) if isinstance(entry, str) else Option(**entry)


def _options(entries: Mapping[str, Any]) -> dict[str, Option]:
    """Options by name; ``{ same_as = "gpu" }`` is another name of the option ``gpu`` of the same file."""
    others = {
        key: plain_name(entry["same_as"]) for key, entry in entries.items() if isinstance(entry, Mapping) and "same_as" in entry
    }
    return {key: _option(entries[others.get(key, key)]) for key in entries}


def _named(table: Mapping[str, Any]) -> dict[str, Any]:
    return {plain_name(name): value for name, value in table.items()}


@lru_cache(maxsize=1024)
def load_format(name: str) -> Format:
    """The format of that name, options of the formats that it ``takes`` included."""
    table = read_table(CATALOG / f"{name}.toml")
    taken = [load_format(other) for other in table.get("takes", ())]
    options = {key: option for other in taken for key, option in other.options.items()}
    options |= _options(_named(table.get("options", {})))
    unmodelled = {key: text for other in taken for key, text in other.unmodelled.items()}
    unmodelled |= _named(table.get("unmodelled", {}))
    usual = {key: words for other in taken for key, words in other.usual.items()}
    usual |= {key: tuple(words) for key, words in _named(table.get("usual", {})).items()}
    return Format(
        name=name,
        title=table["title"],
        release=table["release"],
        source=table["source"],
        kind=table["kind"],
        framework=table.get("framework", ""),
        takes=tuple(table.get("takes", ())),
        told_by=frozenset(map(plain_name, table.get("told_by", ()))),
        programs=(*table.get("programs", ()), *table.get("stages", {})),
        stages=table.get("stages", {}),
        named=table.get("named", ""),
        marked=_named(table.get("marked", {})),
        marks=tuple(tuple(plain_name(key) for key in keys) for keys in table.get("marks", ())),
        positional=table.get("positional", ""),
        options=options,
        files=frozenset({plain_name(one) for one in table.get("files", ())}.union(*(other.files for other in taken))),
        absent={
            **{k: v for other in taken for k, v in other.absent.items() if not table.get("absent_is_all")},
            **_named(table.get("absent", {})),
        },
        unmodelled={key: text for key, text in unmodelled.items() if key not in options or key in table.get("unmodelled", {})},
        usual=usual,
        shipped=table.get("shipped", {}),
        unwraps=table.get("unwraps", ""),
        environment=tuple(table.get("environment", ())),
        images=tuple(table.get("images", ())),
        cores={core: Core(**entry) for core, entry in table.get("cores", {}).items()},
        neutral=(*(one for other in taken for one in other.neutral), *(plain_name(one) for one in table.get("neutral", ()))),
    )


@cache
def formats() -> tuple[Format, ...]:
    """All formats; launchers last, since they start the programs of the others."""
    found = [load_format(path.stem) for path in sorted(CATALOG.glob("*.toml"))]
    return tuple(sorted(found, key=lambda one: (one.kind == "launcher", one.name)))
