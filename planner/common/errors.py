"""The one error that users see: which file, which field, which value, and what would be right."""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from planner.common.message import Message, cleaned, join_messages, message_of, shown_value

if TYPE_CHECKING:
    from pydantic import ValidationError


def brief(number: float) -> str:
    """A number for a message: its digits, or where they are more than 21 its order.

    >>> brief(4096), brief(4096.0), brief(2.5), brief(10**250)
    ('4096', '4096', '2.5', '10^250')
    """
    if abs(number) < 1e21:
        return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)
    order = number.bit_length() * math.log10(2.0) if isinstance(number, int) else math.log10(abs(number))
    return f"{'-' if number < 0 else ''}10^{math.floor(order)}"


class PlannerError(ValueError):
    """Bad input. The message is one paragraph for people; the command line prints it and exits with 2.

    ``PlannerError("{0} = {1!r}: must be text; write quotes.", "job.name", 3)``: a template and its values, to be said in another
    language (``Message``). "FIELD = VALUE: what is wrong; what would be right" fills ``field``, ``value`` and ``remedy`` where
    they are not named; an error within gives its own. A sentence that ends twice ("?.", "..") ends once.

    >>> str(PlannerError("first: did you mean a?."))
    'first: did you mean a?'
    >>> error = PlannerError("{0} = {1!r}: must be text; write {2}.", "job.name", 3, "quotes")
    >>> error.field, error.value, error.remedy
    ('job.name', 3, 'write quotes')
    """

    def __init__(self, message: str, *values: Any, code: str = "", field: str = "", value: Any = None, remedy: str = "") -> None:
        text = cleaned(Message(message, *values) if values else message)
        super().__init__(text)
        within = next((one for one in values if isinstance(one, PlannerError)), None)
        found = _named(text, values) if within is None else (within.field, within.value, within.remedy)
        self.code: str = code or (within.code if within is not None else "input")
        """What kind of error, stable: programs may compare it."""
        self.field: str = field or found[0]
        """The field that is wrong, such as "job.seq_len"; empty where no single one is."""
        self.value: Any = value if field or value is not None else found[1]
        self.remedy: str = remedy or found[2]
        """What would be right."""

    def placed(self, where: str) -> PlannerError:
        """The same error, its message beginning with a place: a file, a label."""
        return PlannerError("{0}: {1}", where, self, code=self.code, field=self.field, value=self.value, remedy=self.remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (str(self), self.code, self.field, self.value, self.remedy))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        value = self.value if isinstance(self.value, bool | int | float | str | None) else repr(self.value)
        return {"code": self.code, "message": str(self), "field": self.field, "value": value, "remedy": self.remedy}


NAMED = re.compile(r"(?:^|: )(\{(\d+)\}|[\w.\[\]-]+) = \{(\d+)\}(?=[:;]| is )")
"""FIELD = VALUE in a template, where a message or what follows its place begins."""
REMEDY = re.compile(
    r"(?:; |\. )((?:add|choose|copy|did you mean|export|give|known|leave|lower|make|measure|must be|name|paste|plan|put|raise|"
    r"remove|set|take|use|write)\b[^;]*)$",
    re.IGNORECASE,
)
"""What would be right, which ends a template."""


def _named(text: str, values: tuple[Any, ...] = ()) -> tuple[str, Any, str]:
    """Field, value and remedy of a template "FIELD = VALUE: what is wrong; what would be right.", or of the first one within."""
    if not isinstance(text, Message) or not text.values:
        return "", None, ""
    field, value, remedy = "", None, ""
    found, right = NAMED.search(text.key), REMEDY.search(text.key.removesuffix("."))
    if found is not None:
        number = int(found[3])
        field = text.values[int(found[2])] if found[2] else found[1]
        value = values[number] if len(values) == len(text.values) else _value(text.values[number])
    if right is not None:
        remedy = re.sub(r"\{(\d+)\}", lambda m: text.values[int(m[1])], right[1])
    for within in text.values:
        if field and remedy:
            break
        inner = _named(within)
        if not field:
            field, value = inner[:2]
        remedy = remedy or inner[2]
    return str.__str__(field), value, remedy


def _value(shown: str) -> Any:
    try:
        return ast.literal_eval(shown)
    except (ValueError, SyntaxError):
        return shown


def _restored(message: str, code: str, field: str, value: Any, remedy: str) -> PlannerError:
    return PlannerError(message, code=code, field=field, value=value, remedy=remedy)


def near(name: str, known: Iterable[str], limit: int = 8) -> str:
    """Say which known names are near to ``name``: "did you mean ...?"; when none is, the first ``limit`` and how many more.

    A name is near as a whole or by a part of it: of "a100-sxm4-80gb" the "a100".

    >>> near("lama-2-7b", ["llama-2-7b", "gpt2"])
    'did you mean llama-2-7b?'
    >>> near("A900", ["a100-sxm4-80gb", "h100-sxm5-80gb", "a40"])
    'did you mean a100-sxm4-80gb, a40?'
    >>> near("foo", ["megatron-core", "fsdp"])
    'known: fsdp, megatron-core'
    """
    name = str(name)[:LONGEST_NAME]
    names = _nearest_first(name, known)
    close = [n for n in names if _likeness(name.lower(), n.lower()) >= NEAR]
    if close:
        return Message("did you mean {0}?", ", ".join(close[:limit]))
    if len(names) <= limit + 4:
        return Message("known: {0}", ", ".join(names))
    return Message("known: {0} and {1} more", ", ".join(names[:limit]), len(names) - limit)


def one_of(name: str, known: Iterable[str]) -> str:
    """All of a few known names, nearest first.

    >>> one_of("memry", ["cost", "time", "memory", "energy"])
    'must be one of memory, energy, time, cost'
    """
    return Message("must be one of {0}", ", ".join(_nearest_first(str(name)[:LONGEST_NAME], known)))


def _nearest_first(name: str, known: Iterable[str]) -> list[str]:
    return sorted(set(known), key=lambda n: (-_likeness(name.lower(), n.lower()), n))


LONGEST_NAME = 80
"""Of a name that others are compared with; comparing takes the square of its length."""
NEAR = 0.55
"""Share of letters in common from which a name is near."""


def _likeness(name: str, known: str) -> float:
    if name and name in known:
        return 1.0 + len(name) / len(known)
    whole = difflib.SequenceMatcher(None, name, known).ratio()
    parts = [difflib.SequenceMatcher(None, name, part).ratio() for part in known.split("-") if len(part) > 2]
    return max(whole, *(0.95 * p for p in parts)) if parts and "-" not in name else whole


def _field_names(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields allowed where ``location`` points, for suggestions on a typo."""
    for part in location[:-1]:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return []
        annotation = fields[part].annotation
        inner = [a for a in (annotation, *getattr(annotation, "__args__", ())) if hasattr(a, "model_fields")]
        if not inner:
            return []
        model = inner[0]
    return list(getattr(model, "model_fields", {}))


def explain(error: ValidationError, where: str, model: type[Any]) -> PlannerError:
    """Turn pydantic's report into one paragraph that names place, field, value and remedy."""
    parts: list[str] = []
    fields, given = [], None
    for item in error.errors(include_url=False):
        location = tuple(item["loc"])
        field = ".".join(str(p) for p in location) or "the whole table"
        given = item.get("input")
        fields.append(field)
        if item["type"] == "extra_forbidden":
            hint = near(str(location[-1]), _field_names(model, location))
            parts.append(Message("unknown field {0} = {1}; {2}", _shortened(field), shown_value(given), hint))
        elif item["type"] == "missing":
            parts.append(Message("field {0} is missing", field))
        elif item["type"] == "value_error":
            message = str(item.get("ctx", {}).get("error", item["msg"]))
            parts.append(Message("{0}: {1}", field, message) if location else message)
        else:
            parts.append(Message("{0} = {1}: {2}", field, shown_value(given), _of_pydantic(item)))
    alone: dict[str, Any] = {}
    if len(fields) == 1 and fields[0] != "the whole table":
        alone = {"field": f"{where}.{fields[0]}" if where.isidentifier() else fields[0], "value": given}
    return PlannerError("{0}: {1}.", where, join_messages("; ", parts), **alone)


def _of_pydantic(item: Mapping[str, Any]) -> Message:
    """What pydantic says of a value, under the template that it has for this kind of error."""
    from pydantic_core import PydanticKnownError

    text = f"{item['msg'][0].lower()}{item['msg'][1:]}"
    context = {k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in item.get("ctx", {}).items()}
    try:
        template = PydanticKnownError(item["type"], item.get("ctx")).message_template
    except (KeyError, TypeError):
        return Message(text)
    names = re.findall(r"\{(\w+)\}", template)
    numbers = iter(range(len(names)))
    key = re.sub(r"\{\w+\}", lambda _: f"{{{next(numbers)}}}", template)
    return message_of(text, f"{key[0].lower()}{key[1:]}", tuple(context.get(name, "") for name in names), ())


def _shortened(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def as_text(value: Any, field: str) -> str:
    """``value`` where it is text; PlannerError that names the field otherwise."""
    if not isinstance(value, str):
        raise PlannerError("{0} = {1!r}: must be text, a name in quotes.", field, value, code="type", field=field, value=value)
    return value


def as_texts(value: Any, field: str) -> tuple[str, ...]:
    """The names of a list, or the one name that stands for a list of one; PlannerError that names the field otherwise.

    >>> as_texts(["lora", "full"], "methods"), as_texts("lora", "methods")
    (('lora', 'full'), ('lora',))
    """
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise PlannerError("{0} = {1!r}: must be a list of names in quotes.", field, value, code="type", field=field, value=value)
    return tuple(as_text(name, field) for name in value)
