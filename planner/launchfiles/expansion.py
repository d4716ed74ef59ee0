"""Shell words with their variables put in: quotes, defaults, arrays, arithmetic. Nothing is ever run."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from planner.common.errors import PlannerError
from planner.launchfiles.shell_words import NAME, end_of_piece

MOST_WORDS, MOST_LETTERS = 100_000, 1_000_000
"""Limits of what a script's variables expand to: a launch script has a few thousand words."""
DEEPEST = 4
"""Levels of scripts within scripts, and of defaults within defaults."""
LONGEST = 1000
"""Most letters of a value of which ``${A#...}`` or ``${A%...}`` cuts off an end: paths and names are shorter."""


def _divided(a: int, b: int) -> int:
    """a / b toward zero, as a shell divides."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divided,
    ast.Mod: lambda a, b: a - b * _divided(a, b),
}


class Text(str):
    """A word, and the pattern that it forms where patterns are matched: there its quoted letters stand for themselves."""

    pattern: str


def pattern_of(word: str) -> str:
    """The pattern that a word forms, see Text."""
    return word.pattern if isinstance(word, Text) else word


@dataclass
class _Word:
    """A word under construction: what is unquoted may still split. ``patterns``: the parts as patterns, see Text."""

    parts: list[str] = field(default_factory=lambda: [""])
    patterns: list[str] = field(default_factory=lambda: [""])
    quoted: bool = False

    def add(self, text: str, *, quoted: bool) -> None:
        self.parts[-1] += text
        self.patterns[-1] += re.sub(r"[*?[]", r"[\g<0>]", text) if quoted else text

    def extend(self, items: Sequence[str], *, quoted: bool) -> None:
        """Add the items of a list: the first to the word at hand, each further one as a word."""
        for i, item in enumerate(items):
            if i:
                self.parts.append("")
                self.patterns.append("")
            self.add(item, quoted=quoted)

    def finished(self) -> list[str]:
        words: list[str] = []
        for part, pattern in zip(self.parts, self.patterns, strict=True):
            word = part
            if pattern != part:
                word = Text(part)
                word.pattern = pattern
            words.append(word)
        return words if self.quoted and len(words) == 1 else [word for word in words if word]


class Expansion:
    """Puts variables into words; what is not known stays as it is written, such as ``${MODEL}``.

    Raises PlannerError for a script that expands beyond MOST_WORDS or MOST_LETTERS.
    """

    def __init__(self) -> None:
        self.variables: dict[str, str | list[str]] = {}
        self.words, self.letters, self.nested = 0, 0, 0

    def split(self, written: str, *, whole: bool = False) -> list[str]:
        """One word as written: one word, or several where an array or an unquoted variable stands for them.

        ``whole``: one word in any case, as what is assigned to a variable.
        """
        word = _Word()
        at = 0
        while at < len(written):
            start, at = at, end_of_piece(written, at)
            piece = written[start:at]
            if piece[0] == "'":
                word.add(piece[1:].removesuffix("'"), quoted=True)
                word.quoted = True
            elif piece[0] == '"':
                self._put_into(word, piece[1:-1] if len(piece) > 1 and piece[-1] == '"' else piece[1:])
                word.quoted = True
            elif piece[0] == "\\":
                word.add(piece[1:].strip("\n"), quoted=True)
            elif piece[0] in "$`":
                self._expand(word, piece, quoted=whole)
            else:
                word.add(piece, quoted=False)
        words = [" ".join(word.parts)] if whole else word.finished()
        self._measure(len(words), sum(map(len, words)))
        return words

    def text(self, written: str) -> str:
        """A text with its variables put in, as between double quotes."""
        word = _Word()
        self._put_into(word, written)
        return "".join(word.parts)

    def _measure(self, words: int, letters: int) -> None:
        self.words, self.letters = self.words + words, self.letters + letters
        if self.words > MOST_WORDS or self.letters > MOST_LETTERS:
            raise PlannerError("a script of over {0:,} words or {1:,} letters is not read.", MOST_WORDS, MOST_LETTERS)

    def _put_into(self, word: _Word, written: str) -> None:
        at = 0
        while at < len(written):
            start, at = at, end_of_piece(written, at) if written[at] in "\\$`" else at + 1
            piece = written[start:at]
            if piece[0] in "$`":
                self._expand(word, piece, quoted=True)
            elif piece[0] == "\\" and piece[1:] in ('"', "\\", "$", "`", "\n"):
                word.add(piece[1:].strip("\n"), quoted=True)
            else:
                word.add(piece, quoted=True)

    def _expand(self, word: _Word, written: str, *, quoted: bool) -> None:
        """Put in what a ``$`` stands for; what commands would print stays as it is written."""
        if written.startswith("$((") and written.endswith("))"):
            word.add(self._arithmetic(written), quoted=quoted)
            return
        inside = written[2:-1] if written.startswith("${") else written[1:]
        name = NAME.match(inside) or re.match(r"\d+|@", inside)
        value = self._value(name[0], inside[name.end() :]) if name and written[0] == "$" else None
        if value is None:
            word.add(written, quoted=quoted)
            return
        self._measure(0, len(value) if isinstance(value, str) else sum(map(len, value)))
        if isinstance(value, list):
            items = value if quoted else [one for item in value for one in item.split()]
        else:
            items = [value] if quoted else re.split(r"\s+", value)
        self._measure(len(items) - 1, 0)
        word.extend(items, quoted=quoted)

    def _value(self, name: str, rest: str) -> str | list[str] | None:
        """What ``${NAME...}`` stands for, ``rest`` being what follows the name; None: not known, or not understood."""
        value = self.variables.get(name)
        index = re.match(r"\[([^\]]*)\]", rest)
        if index is not None:
            rest = rest[index.end() :]
        if index is not None and index[1] not in ("@", "*"):
            at = self.whole(index[1])
            items = value if isinstance(value, list) else [] if value is None else [value]
            if at is None or at < -len(items):
                return None
            value = items[at] if at < len(items) else None
        elif index is None and isinstance(value, list) and name != "@":
            value = value[0] if value else None
        sign, other = (rest[1:2], rest[2:]) if rest[:1] == ":" else (rest[:1], rest[1:])
        is_set = bool(value) or (value == "" and rest[:1] != ":")
        if sign == "+":
            return self._default(other) if is_set else ""
        if sign in ("-", "=", "?"):
            return value if is_set or sign == "?" else self._default(other)
        if value is None:
            return "" if name in self.variables and not rest else None
        return value if not rest else _part(value, rest, first=int(name == "@"))

    def _default(self, written: str) -> str:
        """What stands for a variable that is not set, its own variables put in."""
        plain = written.strip("\"'")
        if "$" not in plain or self.nested == DEEPEST:
            return plain
        self.nested += 1
        text = self.text(plain)
        self.nested -= 1
        return text

    def _arithmetic(self, written: str) -> str:
        """``$((A * B / 2))`` as a number; what is not whole numbers stays as it is written."""
        number = self.whole(written[3:-2])
        return written if number is None else str(number)

    def whole(self, written: str) -> int | None:
        """The value of an arithmetic expression such as ``A * B / 2``; None where that is no whole number."""
        names = re.sub(r"\$\{?(\w+)\}?", r"\1", written)
        inside = NAME.sub(lambda found: str(self.variables.get(found[0], found[0])), names)
        try:
            return _number(ast.parse(inside.strip()[:200], mode="eval").body)
        except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
            return None


def _part(value: str | list[str], rest: str, first: int) -> str | list[str] | None:
    """The items or letters that ``${A[@]:1:2}``, ``${A:1}``, ``${A#*-}`` or ``${A%%.*}`` stands for, ``rest`` being what follows
    the name and ``first`` the number of the first; None for what is not understood."""
    cut = re.fullmatch(r":(\d{1,9})(?::(\d{1,9}))?", rest)
    if cut is not None:
        start = int(cut[1]) - first
        return None if start < 0 else value[start : None if cut[2] is None else start + int(cut[2])]
    ends = re.fullmatch(r"(##?|%%?)([^\[\]$`'\"\\]*)", rest)
    if ends is None or isinstance(value, list) or len(value) > LONGEST:
        return None
    sign, pattern = ends[1], ends[2]
    lengths = range(len(value), -1, -1) if len(sign) == 2 else range(len(value) + 1)
    if sign[0] == "#":
        return next((value[n:] for n in lengths if fnmatchcase(value[:n], pattern)), value)
    return next((value[: len(value) - n] for n in lengths if fnmatchcase(value[len(value) - n :], pattern)), value)


def _number(node: Any) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int and abs(node.value) < 10**15:
        return int(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_number(node.left), _number(node.right))
    raise ValueError("no whole number")
