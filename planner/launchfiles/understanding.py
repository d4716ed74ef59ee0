"""Options to fields: what each one says, what is not known, and what changes memory or time without being modelled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner.common.message import Message
from planner.launchfiles.formats import Format, Option, plain_name
from planner.launchfiles.reading import Collected, Given

NOTHING = ("", "none", "null", "auto", "default")
"""Values that leave a choice to the tool."""
TRUE, FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")
INTEGER = re.compile(r"[+-]?\d[\d_]{0,17}")
FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One option that was understood: where it stands, as written, and the field that it sets."""

    where: str
    option: str
    value: str
    field: str
    meaning: Any


@dataclass
class Said:
    """Fields by name, ``said.*`` among them; what was understood, what was not, and what is not modelled."""

    fields: dict[str, Any] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    not_understood: list[str] = field(default_factory=list)
    unmodelled: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    """Names of the tool's own options that change neither memory nor time."""
    formats: list[Format] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    """Where the files lie that were read."""
    unset: dict[str, str] = field(default_factory=dict)
    """Options whose variables nothing sets, as written, by their fields."""
    started: frozenset[str] = frozenset()
    """Names of the formats whose programs the scripts start."""

    def has(self, *names: str) -> bool:
        """Whether one of the tools is among those found."""
        return any(form.name in names for form in self.formats)


def shown(value: Any, limit: int = 60) -> str:
    """A value in one short line."""
    text = " ".join(str(one) for one in value) if isinstance(value, list) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def scalar(value: Any) -> Any:
    """Text as the number or truth value that it spells.

    >>> scalar("4"), scalar("1e-4"), scalar("true"), scalar("q_proj,v_proj")
    (4, 0.0001, True, 'q_proj,v_proj')
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if FLOAT.fullmatch(text):
        return float(text)
    return True if text.lower() == "true" else False if text.lower() == "false" else text


def truth(value: Any) -> bool | None:
    """True or False where a value is one; None for anything else.

    >>> truth("True"), truth(0), truth("auto")
    (True, False, None)
    """
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    return True if text in TRUE else False if text in FALSE else None


def understand(found: Collected) -> Said:
    """What the options say, in their order: a later one overrides an earlier one."""
    said = Said(notes=list(found.notes), folders=list(dict.fromkeys(path.parent for path in sorted(found.files))))
    said.started = frozenset(found.started)
    given: dict[str, set[str]] = {}
    for one in found.given:
        alone = one.form.name == "transformers" and plain_name(one.name) in one.form.files
        if one.form not in said.formats and not alone:  # a script of one's own that takes another tool's file is none of theirs
            said.formats.append(one.form)
        given.setdefault(one.form.name, set()).add(plain_name(one.name))
        _one(one, said)
    for form in said.formats:
        for name, value in form.absent.items():
            if name not in given[form.name] and f"no-{name}" not in given[form.name]:
                _apply(form.options[name], value, said)
    return said


def _one(one: Given, said: Said) -> None:
    name, form = plain_name(one.name), one.form
    option = form.options.get(name)
    if name in form.files and option is None and not isinstance(one.value, Mapping):
        return
    if option is None:
        _no_field(one, name, said)
        return
    word = str(one.value).strip().lower()
    told = word in (option.values or ()) or (option.none and one.value == [])
    if _empty(one.value) and not isinstance(one.value, Mapping) and not told:
        return
    if "$" in shown(one.value, 1000):
        if not (option.field in ("said.model", "said.gguf") or form.is_neutral(name)):
            said.not_understood.append(Message("{0} ({1}): nothing in it sets this variable", _written(one), one.where))
            said.unset[option.field] = _written(one)
        return
    before = said.fields.get(option.field)
    if _apply(option, one.value, said):
        meaning = said.fields.get(option.field)
        if meaning is not None and (meaning != before or not any(line.field == option.field for line in said.lines)):
            line = Line(where=one.where, option=one.name, value=shown(one.value), field=option.field, meaning=meaning)
            said.lines.append(line)
    else:
        words = ", ".join(option.values or ("true", "false"))
        said.not_understood.append(f"{_written(one)} ({one.where}): known are {words}")


def _no_field(one: Given, name: str, said: Said) -> None:
    """An option that is no field of a scenario: it is not modelled, makes no difference, or is not known."""
    text = one.form.unmodelled.get(name)
    if text is not None:
        alone = "parallel" in name and scalar(one.value) == 1 and one.value is not True  # one GPU: nothing is cut
        if text and _matters(one.value, one.form.usual.get(name)) and not alone:
            said.unmodelled.append(Message("{0}: {1}", _written(one), Message(text)))
    elif one.form.is_neutral(name):
        if one.form.kind != "launcher" and not isinstance(one.value, Mapping):
            said.ignored.append(one.name)
    elif not _empty(one.value):
        said.not_understood.append(f"{_written(one)} ({one.where})")


def _written(one: Given) -> str:
    return f"{one.name}" if one.value is True else f"{one.name} = {shown(one.value)}"


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in NOTHING) or value == [] or value == {}


def _matters(value: Any, usual: tuple[str, ...] | None) -> bool:
    """Whether an option that is not modelled changes anything: it is on, or its value is none of those that are modelled."""
    if usual is not None:
        return not (_empty(value) or shown(value).lower() in usual)
    return not (_empty(value) or truth(value) is False or value == 0)


def _apply(option: Option, value: Any, said: Said) -> bool:
    """Set the field; False where the option has no such value."""
    if option.values is not None:
        words = [value] if not isinstance(value, list) else value
        key = str(words[-1]).strip().lower() if words else ""
        if key not in option.values:
            return False
        said.fields[option.field] = option.values[key]
        return True
    if option.on is not None or option.off is not None:
        is_so = truth(value)
        if is_so is None:
            return False
        chosen = option.on if is_so else option.off
        if chosen is not None:
            said.fields[option.field] = chosen
        return True
    said.fields[option.field] = [scalar(one) for one in value] if isinstance(value, list) else scalar(value)
    return True
