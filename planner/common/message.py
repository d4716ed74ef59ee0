"""A sentence for people that keeps its template and what stands in its blanks, so that it can be said in another language.

``Message("{0} = {1!r}: must be text.", "job.name", 3)`` is the English sentence, a ``str`` as any other. Its ``key`` is the
template with numbered blanks; it finds the Chinese one (``planner.common.translation``). Messages within messages stay messages.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from string import Formatter
from typing import Any, SupportsIndex


@lru_cache(maxsize=4096)
def _pieces(template: str) -> tuple[tuple[str, int | None, str, str], ...]:
    """Of a template: words, then the number of a blank with its conversion and format, in order."""
    return tuple(
        (words, None if number is None else int(number), conversion or "", form or "")
        for words, number, form, conversion in Formatter().parse(template)
    )


@lru_cache(maxsize=4096)
def key_of(template: str) -> str:
    """The template as tables of translations have it: blanks by number, without their formats.

    >>> key_of("{0} = {1!r}: at most {2:,}")
    '{0} = {1}: at most {2}'
    """
    return "".join(f"{words}{{{number}}}" if number is not None else words for words, number, _, _ in _pieces(template))


def _shown(value: Any, conversion: str, form: str) -> str:
    if isinstance(value, BaseException) and not conversion:
        value = str(value)
    if isinstance(value, Message) and not conversion and not form:
        return value
    several = isinstance(value, list | tuple | dict | set | frozenset)
    if conversion == "r" or several:
        return format(shown_value(value, LONGEST_LIST if conversion and several else None), form)
    if _is_endless(value):
        return shown_value(value)
    text = format(value, form)
    if form.endswith("g") and "e" in text and SHORTEST < abs(value) < 1e15:
        return format(value, ",.0f") if "e+" in text else format(Decimal(text), "f")
    return text


SHORTEST = 1e-9
"""Of a number that is shown in digits; a smaller one has its exponent."""
LONGEST_LIST = 120
"""Characters of a list or table that a message quotes."""
LONGEST_SHOWN = 80
"""Characters of a value that a message repeats."""


def shown_value(value: Any, longest: int | None = LONGEST_SHOWN) -> str:
    """A value for a message, as Python writes it; cut where it is long. Python writes no number of more than 4,300 digits.

    >>> shown_value("tp2"), shown_value(10**5000), shown_value([1] * 100, 20)
    ("'tp2'", '10^5000', '[1, 1, 1, 1, 1, 1...')
    """
    if _is_endless(value):
        return f"{'-' * (value < 0)}10^{math.floor(value.bit_length() * math.log10(2.0))}"
    try:
        text = repr(value)
    except ValueError:  # such a number within a list
        text = f"a {type(value).__name__}"
    return text if longest is None or len(text) <= longest else f"{text[: longest - 3]}..."


def _is_endless(value: Any) -> bool:
    """Whether a number has more digits than Python turns into text."""
    return isinstance(value, int) and value.bit_length() > 14_000


class Message(str):
    """A sentence: ``template`` with numbered blanks (formats as of ``str.format``), and their values.

    >>> text = Message("{0} = {1!r}: use {2:,}", "job.seq_len", "x", 4096)
    >>> text, text.key, text.values
    ("job.seq_len = 'x': use 4,096", '{0} = {1}: use {2}', ('job.seq_len', "'x'", '4,096'))
    >>> Message("{0:.3g} ms of {1:,g} tokens", 14812.4, 10486016.0)  # no exponents: people read digits
    '14,812 ms of 10,486,016 tokens'
    >>> Message("{0:g} s, ${1:,.3g}", 1.157e-05, 9.719e-05)
    '0.00001157 s, $0.0000972'
    """

    key: str
    """The template with numbered blanks; the text itself where it has none."""
    values: tuple[str, ...]
    """What stands in the blanks, in the order of their numbers; messages stay messages."""
    changes: tuple[tuple[str, str], ...]
    """Names that were exchanged afterwards, in every language."""

    def __new__(cls, template: str, *values: Any) -> Message:
        """The sentence; a template without values is taken as it is."""
        if not values:
            return message_of(template, template, (), ())
        if all(type(value) is str and len(value) <= LONGEST_SHOWN for value in values):
            return _of_words(template, values)  # a search says the same of thousands of layouts
        return cls._filled(template, values)

    @classmethod
    def _filled(cls, template: str, values: tuple[Any, ...]) -> Message:
        shown = {n: _shown(values[n], conversion, form) for _, n, conversion, form in _pieces(template) if n is not None}
        text = "".join(part for words, n, _, _ in _pieces(template) for part in (words, "" if n is None else shown[n]))
        return message_of(text, key_of(template), tuple(shown.get(n, "") for n in range(len(values))), ())

    def __str__(self) -> str:
        """Itself: a message stays one where text is asked for."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return message_of, (str.__str__(self), self.key, self.values, self.changes)

    def __deepcopy__(self, memo: dict[int, Any]) -> Message:
        """Itself: it never changes, and pandas copies the notes of a table with every part of it."""
        return self

    def __add__(self, other: str) -> Message:
        """The message with more behind it."""
        return Message("{0}{1}", self, other)

    def __radd__(self, other: str) -> Message:
        """The message with more before it."""
        return Message("{0}{1}", other, self)

    def rstrip(self, chars: str | None = None, /) -> Message:
        """The message without what ends it."""
        return self.worded(str.rstrip(self, chars))

    def removesuffix(self, suffix: str, /) -> Message:
        """The message without the end."""
        return self.worded(str.removesuffix(self, suffix))

    def strip(self, chars: str | None = None, /) -> Message:
        """The message without what stands around it."""
        return self.worded(str.strip(self, chars))

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> Message:
        """The message with another name in it, in every language."""
        return message_of(str.replace(self, old, new, count), self.key, self.values, (*self.changes, (old, new)))

    def worded(self, text: str) -> Message:
        """The same message whose English reads ``text``."""
        return message_of(text, self.key, self.values, self.changes)


@lru_cache(maxsize=1024)
def _of_words(template: str, values: tuple[str, ...]) -> Message:
    return Message._filled(template, values)


def message_of(text: str, key: str, values: tuple[str, ...], changes: tuple[tuple[str, str], ...]) -> Message:
    """A message of its parts."""
    made = str.__new__(Message, text)
    made.key, made.values, made.changes = key, values, changes
    return made


def of_python(error: Exception) -> Message:
    """What Python says of a text that it cannot read as JSON or TOML.

    >>> import json
    >>> try: json.loads("[1 2]")
    ... except ValueError as error: of_python(error).key
    '{0}: line {1} column {2} (char {3})'
    """
    if isinstance(error, json.JSONDecodeError):
        return Message("{0}: line {1} column {2} (char {3})", error.msg, error.lineno, error.colno, error.pos)
    at = AT_LINE.fullmatch(str(error))
    if at is not None:
        return Message("{0} (at line {1}, column {2})", *at.groups())
    what, mark, _ = str(error).partition(" (at end of document)")
    return Message("{0} (at end of document)", what) if mark else Message(str(error))


def join_messages(separator: str, parts: Iterable[Any]) -> Message:
    """Messages one after the other.

    >>> join_messages("; ", ["a is wrong", "b is wrong"])
    'a is wrong; b is wrong'
    """
    values = tuple(part if isinstance(part, Message) else str(part) for part in parts)
    key = separator.join(f"{{{n}}}" for n in range(len(values)))
    return message_of(separator.join(values), key, values, ())


AT_LINE = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)
"""Where tomllib stopped: before Python 3.14 its error says so in words only."""
LONGEST_WORD = 300
"""Characters without a space that a message repeats: longer than any path or list of names, shorter than a pasted key."""
LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD},}}")
ENDS_TWICE = re.compile(r"(?<![.?])([.?])\.(?=\s|$|;)")


def _cut(found: re.Match[str]) -> str:
    return f"{found[0][:60]}... ({len(found[0]):,} characters)"


def cleaned(message: str) -> str:
    """A message for people: endless words are cut, and a sentence that ends twice ("?.", "..") ends once."""
    text = ENDS_TWICE.sub(r"\1", LONG_WORD.sub(_cut, message))
    return message.worded(text) if isinstance(message, Message) else text
