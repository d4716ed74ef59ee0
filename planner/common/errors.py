"""The one error that users see: which file, which field, which value, and what would be right."""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from planner.common.limits import LARGEST
from planner.common.message import LONGEST_SHOWN, Message, cleaned, join_messages, shown_value
from planner.common.spellings import FIELDS, VALUES, WITHOUT_EFFECT, ours, places, plain

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


def grouped(number: float) -> str:
    """As ``brief``, its digits in groups of three.

    >>> grouped(2**27), grouped(10**24)
    ('134,217,728', '10^24')
    """
    return f"{number:,}" if isinstance(number, int) and abs(number) < 1e21 else brief(number)


CODES = {
    "type": "a value of the wrong kind, such as text where a number belongs",
    "value": "a value of the right kind that is out of range, or does not go with another one",
    "unknown": "a name or a field that is not known; the message lists near ones, or all",
    "missing": "a field, a table or an argument that a question needs",
    "layout": "a layout that is impossible for this model, cluster and job",
    "model": "a model that cannot be read from a launch file",
    "no_profile": "hardware that is known, but has no profile",
    "quantity": "a number with a unit that cannot be read",
    "size": "more than is answered at once",
    "usage": "arguments of a command that do not go together",
    "file": "a file that cannot be read, or does not hold what it should",
    "output": "a file, a folder or a stream that cannot be written",
    "input": "anything else that is wrong with a question",
}
"""Kinds of errors: ``code`` -> what it says. Stable; a new kind is a new code."""
LARGEST_NUMBER = 10**24
"""Of any field: the largest of the catalog, peaks of accelerators and tokens of corpora, are some 10^16."""
LEAST_NUMBER = 1e-24
"""Of a field that must be above 0, since it divides: the least of the catalog are some 10^-8."""
LISTS = ("did you mean {0}?", "known: {0}", "known: {0} and {1} more", "must be one of {0}")
"""Templates of ``near`` and ``one_of``: an error that holds one of them is about a name that is not known."""


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
        self.code: str = code or (within.code if within is not None else _code(text))
        """What kind of error, one of CODES: programs may compare it."""
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
        """Plain values for JSON; a long one is cut as in the message."""
        value, shown = self.value, shown_value(self.value)
        short = len(shown) < LONGEST_SHOWN and not (isinstance(value, int) and abs(value) >= 10**LONGEST_SHOWN)
        value = value if short and isinstance(value, bool | int | float | str | None) else shown
        return {"code": self.code, "message": str(self), "field": self.field, "value": value, "remedy": self.remedy}


def _code(text: str) -> str:
    """The kind of an error by its template: it lists known names, or says that something is missing."""
    keys = [part.key for part in (text, *getattr(text, "values", ())) if isinstance(part, Message)]
    if any(key in LISTS for key in keys):
        return "unknown"
    return "missing" if " is missing" in (keys[0] if keys else text) else "input"


NAMED = re.compile(r"(?:^|: )(\{(\d+)\}|[\w.\[\]-]+) = \{(\d+)\}(?=[:;]| is )|^(--[\w-]+) \{(\d+)\}(?=:)")
"""FIELD = VALUE in a template, where a message or what follows its place begins, or --OPTION VALUE."""
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
        number = int(found[3] or found[5])
        field = text.values[int(found[2])] if found[2] else found[1] or found[4]
        value = values[number] if len(values) == len(text.values) else _value(text.values[number])
    if right is not None:
        remedy = re.sub(r"\{(\d+)\}", lambda m: text.values[int(m[1])], right[1])
    elif text.key in LISTS:
        remedy = str.__str__(text)
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
    >>> near("tensor_model_parallel_size", ["tp", "sequence_parallel"])
    'did you mean tp?'
    """
    name = str(name)[:LONGEST_NAME]
    known = set(known)
    elsewhere = sorted(known & {place.rpartition(".")[2] for place in ours(name, FIELDS)})
    if elsewhere and name not in known:
        return Message("did you mean {0}?", ", ".join(elsewhere))
    names = _nearest_first(name, known)
    close = _close(name, names)
    if close:
        return Message("did you mean {0}?", ", ".join(close[:limit]))
    if len(names) <= limit + 4:
        return Message("known: {0}", ", ".join(names))
    return Message("known: {0} and {1} more", ", ".join(names[:limit]), len(names) - limit)


def nearest(name: str, known: Iterable[str], limit: int = 8) -> str:
    """The known names that are near, in a list of a message's own; when none is, the first ``limit``.

    >>> nearest("A900", ["a100-sxm4-80gb", "h100-sxm5-80gb", "a40"]), nearest("foo", ["megatron-core", "fsdp"])
    ('a100-sxm4-80gb, a40', 'fsdp, megatron-core')
    """
    name = str(name)[:LONGEST_NAME]
    names = _nearest_first(name, known)
    return ", ".join((_close(name, names) or names)[:limit])


def _close(name: str, names: Iterable[str]) -> list[str]:
    return [n for n in names if _likeness(name.lower(), n.lower()) >= NEAR]


def one_of(name: str, known: Iterable[str]) -> str:
    """All of a few known names, nearest first.

    >>> one_of("memry", ["cost", "time", "memory", "energy"])
    'must be one of memory, energy, time, cost'
    """
    return Message("must be one of {0}", ", ".join(_nearest_first(str(name)[:LONGEST_NAME], known)))


def meant(name: str, known: Iterable[str]) -> str:
    """The one of a few known names that ``name`` is but for its case and its marks; else ``name`` itself.

    >>> meant("QLoRA", ["lora", "qlora"]), meant("on demand", ["spot", "on-demand"]), meant("blue", ["spot"])
    ('qlora', 'on-demand', 'blue')
    """
    known = tuple(known)
    found = [one for one in known if _bare(one) == _bare(name)]
    return found[0] if len(found) == 1 and name not in known else name


def _bare(name: str) -> str:
    return re.sub(r"[-_. ]", "", name.lower())


def _nearest_first(name: str, known: Iterable[str]) -> list[str]:
    return sorted(set(known), key=lambda n: (-_likeness(name.lower(), n.lower()), n))


LONGEST_NAME = 80
"""Of a name that others are compared with; comparing takes the square of its length."""
NEAR = 0.55
"""Share of letters in common from which a name is near."""


@lru_cache(maxsize=4096)  # asked once to order the names, and once to keep the near ones
def _likeness(name: str, known: str) -> float:
    """How much a name is like a known one, both in small letters: above 1 where it is a part, above 2 where its words are.

    >>> _likeness("llama3", "llama-3-70b") > _likeness("llama3", "llama-30b") > 1.0 > _likeness("lamo3", "llama-30b")
    True
    """
    short, long = (re.sub(r"[-_. ]", "", one) for one in (name, known))
    if short and short in long:
        words, all_words = (" ".join(re.findall(r"[a-z]+|\d+(?:\.\d+)?", one)) for one in (name, known))
        return 1.0 + len(short) / len(long) + (f" {words} " in f" {all_words} ")
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


MOST_NAMED = 8
"""Wrong fields that one paragraph names; a long list has the same mistake in each of its rows."""


def explain(error: ValidationError, where: str, model: type[Any]) -> PlannerError:
    """Turn pydantic's report into one paragraph that names place, field, value and remedy.

    A value is said as "job.seq_len = 0: must be greater than 0"; a field unknown or missing follows its place: "job: ...".
    """
    parts: list[str] = []
    limits: list[str] = []
    fields, given, dotted = [], None, where.isidentifier()
    items = error.errors(include_url=False)
    dotted = dotted and all(item["loc"] and item["type"] not in ("extra_forbidden", "missing") for item in items)
    if len(items) > MOST_NAMED:  # what is given and unknown says more than what is missing beside it
        items = sorted(items, key=lambda item: item["type"] != "extra_forbidden")
    for item in items[:MOST_NAMED]:
        location = tuple(item["loc"])
        field = ".".join(str(p) for p in location) or "the whole table"
        given = item.get("input")
        fields.append(field)
        shown = f"{where}.{field}" if dotted else field
        limit = f"{model.__name__.lower()}.{field}"
        limits.append(limit if item["type"] == "less_than_equal" and limit in LARGEST else "")
        if item["type"] == "extra_forbidden":
            hint = _unknown(str(location[-1]), _field_names(model, location))
            parts.append(Message("unknown field {0} = {1}; {2}", _shortened(field), shown_value(given), hint))
        elif item["type"] == "missing":
            parts.append(Message("field {0} is missing", field))
        elif item["type"] == "value_error":
            message = str(item.get("ctx", {}).get("error", item["msg"]))
            parts.append(Message("{0}: {1}", shown, message) if location else message)
        elif limits[-1]:
            parts.append(too_large(limits[-1], shown, shown_value(given)))
        else:
            parts.append(Message("{0} = {1}: {2}", shown, shown_value(given), _of_pydantic(item)))
    if len(items) > MOST_NAMED:
        parts.append(Message("and {0:,} more", len(items) - MOST_NAMED))
    kinds = {"size" if limit else _kind(str(item["type"])) for item, limit in zip(items[:MOST_NAMED], limits, strict=True)}
    alone: dict[str, Any] = {"code": kinds.pop() if len(kinds) == 1 else "input"}
    if len(fields) == 1 and fields[0] != "the whole table":
        alone |= {"field": f"{where}.{fields[0]}" if where.isidentifier() else fields[0], "value": given}
    said = join_messages("; ", parts)
    return PlannerError("{0}.", said, **alone) if dotted else PlannerError("{0}: {1}.", where, said, **alone)


def too_large(field: str, shown: str, value: str) -> Message:
    """What is said of a value beyond ``LARGEST``, wherever it is refused; ``shown``: the field as it stands there."""
    most, why = LARGEST[field]
    return Message("{0} = {1}: at most {2} is answered ({3}); give a smaller one", shown, value, grouped(most), why)


def _kind(of_pydantic: str) -> str:
    """The code of a kind of error of pydantic's."""
    if of_pydantic in ("missing", "extra_forbidden"):
        return "missing" if of_pydantic == "missing" else "unknown"
    return "type" if of_pydantic.endswith(("_type", "_parsing", "_from_float")) else "value"


def unknown_field(where: str, name: str, value: Any, known: Iterable[str]) -> PlannerError:
    """The error of a field that a table does not have: its value, and which one is meant.

    >>> print(unknown_field("cluster", "gpus", 16, ["num_gpus", "node"]))
    cluster: unknown field gpus = 16; did you mean num_gpus?
    """
    return PlannerError(
        "{0}: unknown field {1} = {2!r}; {3}.", where, name, value, _unknown(name, known), field=f"{where}.{name}", value=value
    )


def _unknown(name: str, known: Iterable[str]) -> Message | str:
    if plain(name) in WITHOUT_EFFECT.split() and name not in known:
        return Message("it changes neither memory nor time: leave it out")
    here = {*known}
    found = places(name)
    elsewhere = [place for place in found if place.partition(".")[2] not in here]
    return Message("did you mean {0}?", ", ".join(elsewhere)) if elsewhere and elsewhere == [*found] else near(name, here)


MUST = {
    "greater_than": ("must be greater than {0}", "gt"),
    "greater_than_equal": ("must be at least {0}", "ge"),
    "less_than": ("must be less than {0}", "lt"),
    "less_than_equal": ("must be at most {0}", "le"),
    "multiple_of": ("must be a multiple of {0}", "multiple_of"),
    "finite_number": ("must be finite", ""),
    "string_type": ("must be text, in quotes", ""),
    "bool_type": ("must be true or false", ""),
    "bool_parsing": ("must be true or false", ""),
    "int_type": ("must be a whole number", ""),
    "int_parsing": ("must be a whole number", ""),
    "int_parsing_size": ("must be a whole number of fewer digits", ""),
    "int_from_float": ("must be a whole number", ""),
    "float_type": ("must be a number", ""),
    "float_parsing": ("must be a number", ""),
    "list_type": ("must be a list", ""),
    "tuple_type": ("must be a list", ""),
    "set_type": ("must be a list", ""),
    "frozen_set_type": ("must be a list", ""),
    "dict_type": ("must be a table of fields", ""),
    "model_type": ("must be a table of fields", ""),
    "model_attributes_type": ("must be a table of fields", ""),
    "string_pattern_mismatch": ("must match the pattern {0}", "pattern"),
    "string_too_short": ("must have at least {0} letters", "min_length"),
    "string_too_long": ("must have at most {0} letters", "max_length"),
    "too_short": ("must have at least {0} entries", "min_length"),
    "too_long": ("must have at most {0} entries", "max_length"),
    "literal_error": ("must be {0}", "expected"),
}
"""What pydantic calls an error -> what we say, and which part of its context that shows."""


def _of_pydantic(item: Mapping[str, Any]) -> Message:
    """What is wrong with a value; of a choice also the one that was probably meant."""
    if item["type"] not in MUST:
        return Message(f"{item['msg'][0].lower()}{item['msg'][1:]}")
    text, name = MUST[item["type"]]
    shown = item.get("ctx", {}).get(name, "")
    if name == "ge" and shown == LEAST_NUMBER and item["input"] <= 0:
        text, shown = MUST["greater_than"][0], 0
    if isinstance(shown, float) and shown.is_integer() and abs(shown) < 1e21:
        shown = int(shown)
    number = f"{shown:g}" if isinstance(shown, float) else grouped(shown) if isinstance(shown, int) else str(shown)
    said = Message(text, number) if name else Message(text)
    meant = _meant(item.get("input"), re.findall(r"'([^']*)'", str(shown)))
    return Message("{0}; did you mean {1}?", said, repr(meant)) if meant else said


def _meant(given: Any, choices: list[str]) -> str:
    """The choice that a value probably means; empty where none is near. True and False are words of TOML."""
    name = (given if isinstance(given, str) else shown_value(given))[:LONGEST_NAME]
    elsewhere = [choice for choice in ours(name, VALUES) if choice in choices]
    if elsewhere or not isinstance(given, str) or not choices:
        return elsewhere[0] if elsewhere else ""
    first = _nearest_first(name, choices)[0]
    return first if _likeness(name.lower(), first.lower()) >= NEAR else ""


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
