"""Base of everything read from a file: frozen, no unknown fields, finite numbers, and where each value comes from.

Modules of specs do without ``from __future__ import annotations``: of text pydantic would evaluate each field's on import.
"""

import json
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from threading import RLock
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError, field_validator, model_validator
from pydantic_core import CoreSchema

from planner.common.data import CATALOG, PROFILES
from planner.common.errors import LARGEST_NUMBER, LEAST_NUMBER, PlannerError, brief, explain
from planner.common.files import read_text
from planner.common.message import Message, of_python, shown_value
from planner.common.parsed import keep, kept

Kind = Literal["datasheet", "measured", "fitted", "assumed", "given", "published"]


class Provenance(BaseModel):
    """Where one number comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    source: str = ""
    date: str = ""

    @field_validator("source", mode="wrap")
    @classmethod
    def _kept(cls, value: Any, check: Callable[[Any], str]) -> str:
        """A message stays one, to be said in another language."""
        return value if isinstance(value, Message) else check(value)


def _only_numbers(schema: Any) -> None:
    """Let no field take text or a truth value for a number, nor one whose product with others is infinite."""
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float"):
            schema["strict"] = True
            schema.setdefault("le", LARGEST_NUMBER if schema["type"] == "int" else float(LARGEST_NUMBER))
            if schema["type"] == "float" and schema.get("gt") == 0:
                schema.setdefault("ge", LEAST_NUMBER)
        for part in schema.values():
            _only_numbers(part)
    elif isinstance(schema, list):
        for part in schema:
            _only_numbers(part)


@contextmanager
def _in_words(spec: type[BaseModel], where: str = "") -> Iterator[None]:
    """Pydantic's report as PlannerError that names the field, the value and what would be right; the validator is built first."""
    _complete(spec)
    try:
        yield
    except ValidationError as error:
        raise explain(error, where or spec.__name__.lower(), spec) from None


class Spec(BaseModel):
    """A frozen description. A field may be written plainly, or as ``{ value, kind, source, date }``.

    The second form is split on reading: the number stays in its field, the rest goes to ``provenance`` under
    the field's name, so that formulas see numbers and reports see sources.
    """

    # Validators are built at first use: a short question needs half of them. Under a lock, since two threads that used a model
    # first would see its parent's validator (pydantic 11849, mended in 2.14).
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True, defer_build=True)

    provenance: dict[str, Provenance] = Field(default_factory=dict, repr=False)

    def __init__(self, /, **fields: Any) -> None:
        """Raises PlannerError that names the field, the value and what would be right."""
        with _in_words(type(self)):
            super().__init__(**fields)

    # or pydantic would make specs within specs by this, and lose the place of what is wrong
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """As the constructor, of a mapping. Raises PlannerError."""
        with _in_words(cls):
            return super().model_validate(obj, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """As the constructor, of JSON's text. Raises PlannerError."""
        with _in_words(cls):
            return super().model_validate_json(json_data, **options)

    @classmethod
    def model_validate_strings(cls, obj: Any, **options: Any) -> Self:
        """As the constructor, of a mapping to text. Raises PlannerError."""
        with _in_words(cls):
            return super().model_validate_strings(obj, **options)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _only_numbers(schema)
        return schema

    def __hash__(self) -> int:
        return self.hash_of_fields

    @cached_property
    def hash_of_fields(self) -> int:
        """Hash of the values of all fields, kept with the object; of one process, so neither pickled nor copied.

        Variants of one base differ in few fields: a hash of the name alone would make each cache keyed by them a list.
        """
        values = (getattr(self, name) for name in type(self).model_fields if name != "provenance")
        return hash((type(self).__name__, *(_hashable(value) for value in values)))

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        state["__dict__"] = {name: value for name, value in state["__dict__"].items() if name != "hash_of_fields"}
        return state

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed, which are checked where a question is asked with it; its hash is its own."""
        unknown = next((name for name in update or () if name not in type(self).model_fields), None)
        if update and unknown is not None:
            self.replaced(**{unknown: update[unknown]})  # refused in words
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("hash_of_fields", None)
        if update:
            copy.__dict__["unchecked"] = True
        return copy

    def checked(self, where: str) -> Self:
        """Itself; PlannerError that begins with ``where`` where it is a copy with impossible fields, or holds one."""
        if self.__dict__.get("unchecked", False):
            self.build({name: getattr(self, name) for name in self.model_fields_set}, where)
            self.__dict__.pop("unchecked", None)
        return self

    @model_validator(mode="before")
    @classmethod
    def _split_provenance(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        values, sources = {}, dict(data.get("provenance", {}))
        for name, value in data.items():
            if isinstance(value, dict) and "value" in value and set(value) <= {"value", "kind", "source", "date"}:
                values[name] = value["value"]
                sources[name] = {"kind": "given", **{k: v for k, v in value.items() if k != "value"}}
            else:
                values[name] = value
        for name, value in values.items():
            _checked_within(value, name)
        whole = _whole_fields(cls)
        values = {name: python_value(value, name in whole) for name, value in values.items()}
        if sources:
            values["provenance"] = sources
        return values

    @classmethod
    def build(cls, data: Mapping[str, Any], where: str) -> Self:
        """Validate ``data``; on failure raise PlannerError that begins with ``where``."""
        with _in_words(cls, where):
            return super().model_validate(fields_of(data, where))

    def replaced(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        data = {k: v for k, v in self.model_dump(exclude_unset=True).items() if k not in changes}
        return type(self).build({**data, **changes}, f"{type(self).__name__.lower()} {getattr(self, 'name', '')}".rstrip())

    def assumed(self) -> dict[str, Any]:
        """The fields whose value nobody measured or published: field name -> value."""
        return {n: getattr(self, n) for n, p in self.provenance.items() if p.kind == "assumed" and hasattr(self, n)}


def _checked_within(value: Any, where: str, level: int = 0) -> None:
    """PlannerError for a copy with impossible fields, alone or in a list or table, since pydantic takes an object as it is; and
    for tables too deep, such as one that holds itself."""
    if level > MOST_LEVELS:
        raise PlannerError("{0}: holds tables {1:,} levels deep; at most {2} are read.", where, level, MOST_LEVELS)
    if isinstance(value, Spec):
        value.checked(where)
    elif isinstance(value, list | tuple):
        for item in value:
            _checked_within(item, where, level + 1)
    elif isinstance(value, dict):
        for item in value.values():
            _checked_within(item, where, level + 1)


_COMPLETING = RLock()


def _complete(spec: type[BaseModel]) -> None:
    """Build the class's validator, once."""
    if not spec.__pydantic_complete__:
        with _COMPLETING:
            spec.model_rebuild()


def _hashable(value: Any) -> Any:
    """The value, its lists as tuples and its tables as sets of pairs."""
    if isinstance(value, Mapping):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(_hashable(item) for item in value)
    return value


MOST_TEXT_BYTES = 32 * 2**20
"""The largest table of fields that is read: records of hundreds of measurements are smaller."""
MOST_DIGITS = 300
"""Of a number in a file: 64-bit numbers have at most 309."""
MOST_BITS = int(MOST_DIGITS / math.log10(2.0))
"""Of a whole number from code."""
MOST_LEVELS = 32
"""Of tables within tables, and of parts of a key with dots."""
UNQUOTED = re.compile("Invalid value")
"""How tomllib says that a value begins like none: mostly text without its quotes."""
LONG_NUMBER = re.compile(rf"\d(?:_?\d){{{MOST_DIGITS},}}")
KEY = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
LONG_KEY = re.compile(rf"(?<![\w.-]){KEY}(?:[ \t]*+\.[ \t]*+{KEY}){{{MOST_LEVELS},}}+")
TOKENS = re.compile(
    r'''"""(?s:.)*?"""|'''
    r"'''(?s:.)*?'''|"
    r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|[\[{\]}]"""
)


def require_sane(text: str, where: str) -> None:
    """PlannerError for text whose reading would take minutes or gigabytes: long numbers, long keys, deep tables. Linear."""
    found = LONG_NUMBER.search(text)
    if found is not None:
        raise PlannerError(
            "{0}: holds a number of {1:,} digits; at most {2} are read.", where, len(found[0]), MOST_DIGITS, code="file"
        )
    found = LONG_KEY.search(text)
    if found is not None:
        parts = found[0].count(".") + 1
        raise PlannerError(
            "{0}: holds a key of {1:,} parts with dots between them; at most {2} are read.",
            where,
            parts,
            MOST_LEVELS,
            code="file",
        )
    level = deepest = 0
    for token in TOKENS.finditer(text):
        level += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        deepest = max(deepest, level)
    if deepest > MOST_LEVELS:
        raise PlannerError("{0}: holds tables {1:,} levels deep; at most {2} are read.", where, deepest, MOST_LEVELS, code="file")


@lru_cache(maxsize=1024)
def _whole_fields(spec: type[BaseModel]) -> frozenset[str]:
    """Fields that hold whole numbers only."""
    return frozenset(name for name, field in spec.model_fields.items() if _is_whole(field.annotation))


def _is_whole(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_whole(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return all(_is_whole(one) for one in get_args(annotation) if one is not NoneType)
    return annotation is int


def python_value(value: Any, whole: bool = False) -> Any:
    """A numpy number as Python's own, and where whole numbers are asked for, 8.0 as 8."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise PlannerError("{0}: a whole number has at most {1} digits.", brief(value), MOST_DIGITS)
    return int(value) if whole and isinstance(value, float) and value.is_integer() else value


def whole_number(value: Any) -> Any:
    """A count from code: numpy integers and floats without a fraction become Python's int; the rest stays as it is.

    >>> whole_number(8.0), whole_number(8.5), whole_number(True)
    (8, 8.5, True)
    """
    return python_value(value, True)


def fields_of(value: Any, where: str, name: str = "") -> dict[str, Any]:
    """The fields of a mapping; PlannerError that names the place for anything else. ``name``: of one that stands for a table."""
    if isinstance(value, Mapping):
        return {str(name): one for name, one in value.items()}
    if name:
        raise PlannerError(
            "{0} = {1}: must be a table of fields, or a name such as {2!r}.",
            where,
            shown_value(value, 60),
            name,
            code="type",
            field=where,
            value=value,
        )
    raise PlannerError(
        "{0} = {1}: must be a table of fields.", where, shown_value(value, 60), code="type", field=where, value=value
    )


def read_table(path: Path, example: str = "", parsed: Callable[[str], Any] = json.loads) -> dict[str, Any]:
    """Read one TOML or JSON file that must hold a table; PlannerError says what is wrong and where.

    ``example``: where to look for what belongs into an empty file; ``parsed``: what makes JSON's text a table (ValueError: none).
    A byte-order mark is skipped.
    """
    text = read_text(path, "the path of a .toml or .json file", MOST_TEXT_BYTES)
    if not text.strip():
        raise PlannerError("{0}: the file is empty{1}{2}.", path, "; " * bool(example), example, code="file")
    shipped = path.suffix != ".json" and (path.is_relative_to(CATALOG) or path.is_relative_to(PROFILES))
    found = kept(text) if shipped else None
    if found is not None:
        return found
    if not shipped:
        require_sane(text, str(path))
    try:
        found = parsed(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        unquoted = Message("; text stands in quotes") if UNQUOTED.match(str(error)) else ""
        raise PlannerError("{0}: not valid {1}: {2}{3}.", path, kind, of_python(error), unquoted, code="file") from None
    if not isinstance(found, dict):
        raise PlannerError("{0}: holds a {1}; a table (object) of fields is needed.", path, type(found).__name__, code="file")
    if shipped:
        keep(text, found)
    return found
