"""The one error that users see: which file, which field, which value, and what would be right."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


LONGEST_WORD = 300
"""Characters without a space that a message repeats: longer than any path or list of names, shorter than a pasted key."""
LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD},}}")


def brief(number: float) -> str:
    """A number for a message: its digits, or where they are more than 21 its order.

    >>> brief(4096), brief(4096.0), brief(2.5), brief(10**250)
    ('4096', '4096', '2.5', '10^250')
    """
    if abs(number) < 1e21:
        return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)
    order = number.bit_length() * math.log10(2.0) if isinstance(number, int) else math.log10(abs(number))
    return f"{'-' if number < 0 else ''}10^{math.floor(order)}"


def _cut(found: re.Match[str]) -> str:
    return f"{found[0][:60]}... ({len(found[0]):,} characters)"


class PlannerError(ValueError):
    """Bad input. The message is one paragraph for people; the command line prints it and exits with 2.

    Messages are composed of others: a sentence that ends twice ("?.", "..") ends once.

    >>> str(PlannerError("first: did you mean a?."))
    'first: did you mean a?'
    """

    def __init__(self, message: str, *, code: str = "input", field: str = "", value: Any = None, remedy: str = "") -> None:
        super().__init__(re.sub(r"(?<![.?])([.?])\.(?=\s|$|;)", r"\1", LONG_WORD.sub(_cut, message)))
        self.code = code
        """What kind of error, stable: programs may compare it."""
        self.field = field
        """The field that is wrong, such as "job.seq_len"; empty where no single one is."""
        self.value = value
        self.remedy = remedy
        """What would be right."""

    def placed(self, where: str) -> PlannerError:
        """The same error, its message beginning with a place: a file, a label."""
        return PlannerError(f"{where}: {self}", code=self.code, field=self.field, value=self.value, remedy=self.remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (str(self), self.code, self.field, self.value, self.remedy))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        value = self.value if isinstance(self.value, bool | int | float | str | None) else repr(self.value)
        return {"code": self.code, "message": str(self), "field": self.field, "value": value, "remedy": self.remedy}


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
    name = name[:LONGEST_NAME]
    names = _nearest_first(name, known)
    close = [n for n in names if _likeness(name.lower(), n.lower()) >= NEAR]
    if close:
        return f"did you mean {', '.join(close[:limit])}?"
    if len(names) <= limit + 4:
        return f"known: {', '.join(names)}"
    return f"known: {', '.join(names[:limit])} and {len(names) - limit} more"


def one_of(name: str, known: Iterable[str]) -> str:
    """All of a few known names, nearest first.

    >>> one_of("memry", ["cost", "time", "memory", "energy"])
    'must be one of memory, energy, time, cost'
    """
    return f"must be one of {', '.join(_nearest_first(name[:LONGEST_NAME], known))}"


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
    parts = []
    for item in error.errors(include_url=False):
        location = tuple(item["loc"])
        field = ".".join(str(p) for p in location) or "the whole table"
        given = item.get("input")
        if item["type"] == "extra_forbidden":
            hint = near(str(location[-1]), _field_names(model, location))
            parts.append(f"unknown field {_shortened(field)} = {_short(given)}; {hint}")
        elif item["type"] == "missing":
            parts.append(f"field {field} is missing")
        elif item["type"] == "value_error":
            message = str(item.get("ctx", {}).get("error", item["msg"]))
            parts.append(f"{field}: {message}" if location else message)
        else:
            parts.append(f"{field} = {_short(given)}: {item['msg'][0].lower()}{item['msg'][1:]}")
    return PlannerError(f"{where}: {'; '.join(parts)}.")


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _shortened(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def as_text(value: Any, field: str) -> str:
    """``value`` where it is text; PlannerError that names the field otherwise."""
    if not isinstance(value, str):
        raise PlannerError(f"{field} = {value!r}: must be text, a name in quotes.")
    return value
