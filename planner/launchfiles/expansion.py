"""Words of a shell as written to words with the variables put in: quotes, defaults, arrays, arithmetic. Nothing is ever run."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from planner.common.errors import PlannerError
from planner.launchfiles.shell_words import NAME, end_of_piece

MOST_WORDS, MOST_LETTERS = 100_000, 1_000_000
"""Of all that a script's variables expand to: a script of launch options has a few thousand."""
DEEPEST = 4
"""Of scripts within scripts, and of defaults within defaults."""
OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.floordiv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class Text(str):
    """A word with the pattern that it is where one is matched: its quoted letters stand for themselves."""

    pattern: str


def pattern_of(word: str) -> str:
    """The pattern that a word is, see Text."""
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

    Raises PlannerError for a script that expands beyond all measure.
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
        """What ``${NAME...}`` stands for, ``rest`` being what follows the name; None: not known."""
        value = self.variables.get(name)
        sign, other = (rest[1:2], rest[2:]) if rest[:1] == ":" else (rest[:1], rest[1:])
        if sign == "+":
            return self._default(other) if value else ""
        if sign in ("-", "=") and (value is None or (value == "" and rest[:1] == ":")):
            return self._default(other)
        if isinstance(value, list) and rest not in ("[@]", "[*]", ""):
            index = re.fullmatch(r"\[(\d{1,9})\]", rest)
            return value[int(index[1]) : int(index[1]) + 1] if index else value[:1]
        return value

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
        names = re.sub(r"\$\{?(\w+)\}?", r"\1", written[3:-2])
        inside = NAME.sub(lambda found: str(self.variables.get(found[0], found[0])), names)
        try:
            return str(_number(ast.parse(inside.strip()[:200], mode="eval").body))
        except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
            return written


def _number(node: Any) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and abs(node.value) < 10**15:
        return int(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_number(node.left), _number(node.right))
    raise ValueError("no whole number")
