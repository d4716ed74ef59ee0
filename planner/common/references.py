"""Values that one file of a catalog takes from another by reference, so that a fit that moves one moves all.

``base = "h100"`` at the top of a file takes every field that the file leaves out. A single field refers with
``{ same_as = "h100" }``: to the field of that name, or to another one with ``field = "..."`` (of the same file where
``same_as`` is left out); ``times`` scales what it finds. Both are followed on loading, never copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from planner.common.errors import PlannerError, near
from planner.common.files import State, state_of
from planner.common.spec import read_table

REFERENCE = frozenset({"same_as", "field", "times", "source"})
OWN = frozenset({"base", "name", "aliases", "notes", "before"})
"""Fields that belong to one file: no other takes them."""


def spelt(name: str) -> str:
    """A name as catalogs compare it.

    >>> spelt("RTX 4090_24GB")
    'rtx-4090-24gb'
    """
    return name.lower().replace("_", "-").replace(" ", "-")


class Place(NamedTuple):
    """Where a constant stands: a file of the catalog and a field in it."""

    file: str
    field: str


class Changes(dict[Place, float]):
    """Values laid over the constants of files; hashable, so that what follows from them can be cached. Never changed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


NONE = Changes()


@dataclass(frozen=True)
class Catalog:
    """A folder of TOML files that may refer to each other; a file is named by its stem, a user's own by its path.

    ``what`` names the folder in messages. ``borrowed_is_assumed``: a value taken from another file counts as assumed
    there, since nobody measured it on this one.
    """

    folder: Path
    what: str
    borrowed_is_assumed: bool = False

    def names(self) -> list[str]:
        """Stems of all files."""
        return list(self.files())

    def files(self) -> dict[str, Path]:
        """Stem -> path of all files, in the order of their names."""
        return _files(self.folder)

    def texts(self) -> dict[str, str]:
        """Stem -> text of all files."""
        return _texts(self.folder)

    def mentioning(self, word: str) -> Iterator[str]:
        """Stems of the files whose text holds a word, spelt as names are (``spelt``): few to parse instead of all."""
        return (name for name, text in _spelt_texts(self.folder).items() if word in text)

    def path(self, name: str, field: str) -> Path:
        """The file of that name (or path); PlannerError in ``field`` lists the near names."""
        files = self.files()
        found = Path(name) if name.endswith(".toml") else files.get(name.lower())
        if found is None:
            raise PlannerError("{0} = {1!r} is not in {2}; {3}.", field, name, self.what, near(name, files))
        return found

    def table(self, name: str, changes: Changes = NONE) -> dict[str, Any]:
        """All fields of a file with its base and its references resolved, under ``changes`` to constants of any file."""
        own = {field: value for field, value in self._own(name).items() if field in OWN - {"base"}}
        return own | {field: self._value(Place(name, field), changes, ()) for field in self._fields(name, ())}

    def lineage(self, name: str) -> tuple[str, ...]:
        """A file and those that it is based on, nearest first."""
        names = [name]
        while base := self._own(names[-1]).get("base"):
            where = f"{self._path(names[-1])}: base"
            self.path(str(base), where)
            if base in names:
                raise PlannerError("{0} = {1!r}: the files refer to each other in a circle.", where, base)
            names.append(str(base))
        return tuple(names)

    def stated_by(self, name: str, field: str) -> str | None:
        """The nearest of a file and those that it is based on that states a field; None where none does."""
        return next((file for file in self.lineage(name) if field in self._own(file)), None)

    def state(self, name: str) -> tuple[State, ...]:
        """The states of a file of one's own and of those of one's own that it takes from: what is kept of it holds for these."""
        names = [name]
        for at in names:
            own = {} if state_of(at) is None else self._own(at)
            parts = [part for value in own.values() for part in (value if isinstance(value, list) else [value])]
            taken = [own.get("base"), *(part.get("same_as") for part in parts if isinstance(part, dict))]
            names += [str(other) for other in dict.fromkeys(taken) if other is not None and str(other) not in names]
        return tuple(state_of(at) for at in names)

    def changed(self, name: str, changes: Changes) -> dict[str, float]:
        """The fields of a file that ``changes`` reach, each with its value under them."""
        reached = [f for f in self._fields(name, changes) if any(p in changes for p in self.places(Place(name, f)))]
        return {field: _number(self._value(Place(name, field), changes, ())) for field in reached}

    def depends(self, name: str, place: Place) -> bool:
        """Whether any field of a file is, or refers to, the constant at ``place``."""
        return place in _all_places(self, name, self.state(name)) or place in self.places(Place(name, place.field))

    def places(self, start: Place) -> tuple[Place, ...]:
        """All places that a field is looked up in, nearest first: its file, those it is based on, those it refers to."""
        return _places(self, start, self.state(start.file))

    def refers(self, place: Place) -> str:
        """What a file's own line says of a field where it refers to another: "h100.sustained_fraction"; else empty."""
        own = self._own(place.file).get(place.field)
        if own is None or not _is_reference(own):
            return ""
        target = _target(place, own)
        return f"{target.file}.{target.field}"

    def clear(self) -> None:
        """Forget what was read, after files have changed."""
        for read_before in (_files, _texts, _spelt_texts, _read, _places, _all_places):
            read_before.cache_clear()

    def _fields(self, name: str, more: Iterable[Place]) -> list[str]:
        stated = [field for file in self.lineage(name) for field in self._own(file)]
        return [f for f in dict.fromkeys([*stated, *(p.field for p in more if p.file in self.lineage(name))]) if f not in OWN]

    def _own(self, name: str) -> dict[str, Any]:
        return _read(self._path(name), state_of(name))

    def _path(self, name: str) -> Path:
        return self.path(name, self.what)

    def _value(self, place: Place, changes: Changes, passed: tuple[Place, ...]) -> Any:
        """The value of a field, plain or with its provenance; errors name the file that refers."""
        for file in self.lineage(place.file):
            here = Place(file, place.field)
            if here in changes:
                return _with_number(self._own(file).get(place.field), changes[here])
            if place.field not in self._own(file):
                continue
            own = self._own(file)[place.field]
            if not _is_reference(own):
                return self._borrowed(own, file, place)
            target = self._checked(here, own, passed)
            found = self._value(target, changes, (*passed, here))
            return self._borrowed(_referred(found, own, target), file, place)
        raise PlannerError("{0}: states no {1}, to which another field refers.", self._path(place.file), place.field)

    def _checked(self, here: Place, own: dict[str, Any], passed: tuple[Place, ...]) -> Place:
        where = f"{self._path(here.file)}: {here.field}"
        if odd := sorted(set(own) - REFERENCE):
            raise PlannerError("{0}: a reference holds same_as, field, times and source; not {1}.", where, ", ".join(odd))
        target = _target(here, own)
        self.path(target.file, f"{where}: same_as")
        if target in (*passed, here):
            raise PlannerError("{0}: the references lead back to {1}.{2}.", where, target.file, target.field)
        return target

    def _borrowed(self, value: Any, file: str, place: Place) -> Any:
        if not self.borrowed_is_assumed or file == place.file or not isinstance(value, dict) or "value" not in value:
            return value
        return _said(value, f"as {file}", "")


def _is_reference(value: Any) -> bool:
    if not isinstance(value, dict) or "value" in value:
        return False
    return "same_as" in value or {"field"} <= set(value) <= REFERENCE


def _target(place: Place, reference: dict[str, Any]) -> Place:
    return Place(str(reference.get("same_as", place.file)), str(reference.get("field", place.field)))


def _referred(found: Any, reference: dict[str, Any], target: Place) -> dict[str, Any]:
    """What a reference stands for: the number found, times its factor, assumed, with both sources."""
    times = reference.get("times", 1.0)
    scaled = _with_number(found, _number(found) * times) if times != 1.0 else found
    factor = f"{times:g} x " if times != 1.0 else ""
    return _said(scaled, f"{factor}{target.file}.{target.field}", str(reference.get("source", "")))


def _said(value: Any, what: str, why: str) -> dict[str, Any]:
    """A value of another place: assumed here, with what it is, why it may stand for this, and its own source."""
    number, source = (value["value"], value.get("source", "")) if isinstance(value, dict) else (value, "")
    kind = value.get("kind", "given") if isinstance(value, dict) else "given"
    text = "; ".join(part for part in (f"{what} ({kind})", why, source) if part)
    return {"value": number, "kind": "assumed", "source": text}


def _number(value: Any) -> float:
    return float(value["value"] if isinstance(value, dict) else value)


def _with_number(value: Any, number: float) -> Any:
    return {**value, "value": number} if isinstance(value, dict) and "value" in value else number


@lru_cache(maxsize=1024)
def _files(folder: Path) -> dict[str, Path]:
    return {p.stem: p for p in sorted(folder.glob("*.toml"), key=str)}


@lru_cache(maxsize=1024)
def _texts(folder: Path) -> dict[str, str]:
    return {name: path.read_text(encoding="utf-8") for name, path in _files(folder).items()}


@lru_cache(maxsize=1024)
def _spelt_texts(folder: Path) -> dict[str, str]:
    return {name: spelt(text) for name, text in _texts(folder).items()}


@lru_cache(maxsize=1024)
def _read(path: Path, state: State) -> dict[str, Any]:
    return read_table(path)


@lru_cache(maxsize=1024)
def _all_places(catalog: Catalog, name: str, state: tuple[State, ...]) -> frozenset[Place]:
    return frozenset(place for field in catalog._fields(name, ()) for place in catalog.places(Place(name, field)))


@lru_cache(maxsize=65536)
def _places(catalog: Catalog, start: Place, state: tuple[State, ...]) -> tuple[Place, ...]:
    return tuple(_followed(catalog, start))


def _followed(catalog: Catalog, start: Place) -> Iterator[Place]:
    passed: set[Place] = set()
    at: Place | None = start
    while at is not None and at not in passed:
        place, at = at, None
        for file in catalog.lineage(place.file):
            here = Place(file, place.field)
            passed.add(here)
            yield here
            own = catalog._own(file).get(place.field)
            if own is not None:
                at = _target(here, own) if _is_reference(own) else None
                break
