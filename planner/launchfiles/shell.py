"""Shell scripts read as far as launch scripts go: assignments, arrays, expansion, arithmetic. Nothing is ever run."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from planner.common.errors import PlannerError

MOST_WORDS = 100_000
MOST_LETTERS = 1_000_000
"""Of all that a script's variables expand to: a script of launch options has a few thousand."""
KEYWORDS = frozenset(
    ("if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "time", "exec", "nohup", "env", "{", "}", "!")
)
DECLARES = frozenset(("export", "declare", "local", "readonly", "typeset"))
NAME = re.compile(r"[A-Za-z_]\w*")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1([^\n]*)\n.*?^\s*\2[ \t]*$", re.DOTALL | re.MULTILINE)
COMMENTED = re.compile(r"^([ \t]*#[^\n]*?)\\+\n", re.MULTILINE)
"""A comment's backslash does not continue it."""
OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.floordiv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


@dataclass
class Script:
    """A script's variables and commands, in the order of its text; both branches of a condition are read."""

    variables: dict[str, str | list[str]] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)


@dataclass
class _Word:
    """A word under construction: what is unquoted may still split."""

    parts: list[str] = field(default_factory=lambda: [""])
    quoted: bool = False

    def add(self, text: str) -> None:
        self.parts[-1] += text

    def split(self, text: str) -> None:
        """Add unquoted text, which separates words at spaces."""
        pieces = re.split(r"\s+", text)
        self.parts[-1] += pieces[0]
        self.parts += pieces[1:]

    def finished(self) -> list[str]:
        return self.parts if self.quoted and len(self.parts) == 1 else [part for part in self.parts if part]


def read_script(text: str) -> Script:
    """The commands of a script with its variables put in; what is not known stays as it is written, such as ``${MODEL}``.

    Raises PlannerError for a script that expands beyond all measure.
    """
    script = Script()
    text = COMMENTED.sub(r"\1\n", text.replace("\r\n", "\n"))
    text = HEREDOC.sub(r"\3", text).replace("\\\n", " ")
    reader = _Reader(text, script)
    for words in reader.commands():
        _take(words, script)
    script.comments = reader.comments
    return script


def _take(words: list[str], script: Script) -> None:
    """Apply a command's assignments; keep it where more is left."""
    while words and words[0] in KEYWORDS:
        words = words[1:]
    declared = bool(words) and words[0] in DECLARES
    words = words[1:] if declared else words
    while words and (found := ASSIGNMENT.fullmatch(words[0])):
        old = script.variables.get(found[1], "") if found[2] else ""
        script.variables[found[1]] = f"{old}{found[3]}" if isinstance(old, str) else [*old, found[3]]
        words = words[1:]
    if words and not declared:
        script.commands.append(words)


class _Reader:
    def __init__(self, text: str, script: Script) -> None:
        self.text, self.at, self.script, self.letters, self.words = text, 0, script, 0, 0
        self.comments: list[str] = []

    def commands(self) -> Iterator[list[str]]:
        """Each command's words; an assigned array goes straight into the variables."""
        words: list[str] = []
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter in " \t":
                self.at += 1
            elif letter == "#":
                self._comment()
            elif letter in "\n;|&()":
                self.at += 1
                if words:
                    yield words
                words = []
            else:
                words += self._argument()
                self._measure(words)
        if words:
            yield words

    def _measure(self, words: list[str]) -> None:
        self.words += 1
        self.letters += sum(map(len, words[-8:]))
        if self.words > MOST_WORDS or self.letters > MOST_LETTERS or len(words) > MOST_WORDS:
            raise PlannerError("a script of over {0:,} words or {1:,} letters is not read.", MOST_WORDS, MOST_LETTERS)

    def _comment(self) -> None:
        end = self.text.find("\n", self.at)
        end = len(self.text) if end < 0 else end
        self.comments.append(self.text[self.at : end])
        self.at = end

    def _argument(self) -> list[str]:
        """One word, or several where an array or unquoted variable stands for them."""
        word = _Word()
        while self.at < len(self.text) and (letter := self.text[self.at]) not in " \t\n;|&()":
            if letter == "'":
                end = self.text.find("'", self.at + 1)
                end = len(self.text) if end < 0 else end
                word.add(self.text[self.at + 1 : end])
                word.quoted, self.at = True, end + 1
            elif letter == '"':
                self._double(word)
            elif letter == "\\":
                word.add(self.text[self.at + 1 : self.at + 2])
                self.at += 2
            elif letter in "$`":
                self._expand(word, quoted=False)
            else:
                word.add(letter)
                self.at += 1
        if self.text[self.at : self.at + 1] == "(" and ASSIGNMENT.fullmatch(word.parts[-1]) and word.parts[-1].endswith("="):
            self._array(word.parts[-1])
            return []
        return word.finished()

    def _array(self, head: str) -> None:
        """``NAME=( ... )``, over several lines."""
        found = ASSIGNMENT.fullmatch(head)
        assert found is not None
        self.at += 1
        items: list[str] = []
        while self.at < len(self.text) and (letter := self.text[self.at]) != ")":
            if letter in " \t\n;|&(":
                self.at += 1
            elif letter == "#":
                self._comment()
            else:
                items += self._argument()
                self._measure(items)
        self.at += 1
        old = self.script.variables.get(found[1], []) if found[2] else []
        self.script.variables[found[1]] = [*([old] if isinstance(old, str) else old), *items]

    def _double(self, word: _Word) -> None:
        self.at += 1
        word.quoted = True
        while self.at < len(self.text) and (letter := self.text[self.at]) != '"':
            if letter == "\\" and self.text[self.at + 1 : self.at + 2] in ('"', "\\", "$", "`"):
                word.add(self.text[self.at + 1])
                self.at += 2
            elif letter in "$`":
                self._expand(word, quoted=True)
            else:
                word.add(letter)
                self.at += 1
        self.at += 1

    def _expand(self, word: _Word, *, quoted: bool) -> None:
        """Put in what a ``$`` stands for; commands and unknown names stay as they are written."""
        start = self.at
        if self.text[start] == "`":
            end = self.text.find("`", start + 1)
            self.at = len(self.text) if end < 0 else end + 1
            word.add(self.text[start : self.at])
        elif self.text.startswith("$((", start):
            end = self.text.find("))", start)
            self.at = len(self.text) if end < 0 else end + 2
            word.add(self._arithmetic(self.text[start : self.at]))
        elif self.text.startswith("$(", start):
            self.at = self._closing(start + 1, "(", ")")
            word.add(self.text[start : self.at])
        elif self.text.startswith("${", start):
            self.at = self._closing(start + 1, "{", "}")
            self._put(word, self.text[start : self.at], self.text[start + 2 : self.at - 1], quoted=quoted)
        else:
            name = NAME.match(self.text, start + 1)
            self.at = name.end() if name else start + 1 + len(self.text[start + 1 : start + 2].strip())
            self._put(word, self.text[start : self.at], name[0] if name else "", quoted=quoted)

    def _closing(self, start: int, opens: str, closes: str) -> int:
        level = 0
        for at in range(start, len(self.text)):
            level += (self.text[at] == opens) - (self.text[at] == closes)
            if level == 0:
                return at + 1
        return len(self.text)

    def _put(self, word: _Word, written: str, inside: str, *, quoted: bool) -> None:
        name = NAME.match(inside)
        rest = inside[name.end() :] if name else inside
        value = self.script.variables.get(name[0]) if name else None
        if value is None and rest[:2] in (":-", ":=") and name:
            value = rest[2:].strip("\"'")
        if value is None and rest[:1] == "-" and name:
            value = rest[1:].strip("\"'")
        if value is None or (isinstance(value, str) and value == written):
            word.add(written)
        elif isinstance(value, list):
            self.letters += sum(map(len, value))
            items = value if rest in ("[@]", "[*]") else value[:1]
            word.parts[-1] += items[0] if items else ""
            word.parts += items[1:]
        else:
            self.letters += len(value)
            word.add(value) if quoted else word.split(value)
        if self.letters > MOST_LETTERS or len(word.parts) > MOST_WORDS:
            raise PlannerError("a script of over {0:,} words or {1:,} letters is not read.", MOST_WORDS, MOST_LETTERS)

    def _arithmetic(self, written: str) -> str:
        """``$((A * B / 2))`` as a number; what is not whole numbers stays as it is written."""
        names = re.sub(r"\$\{?(\w+)\}?", r"\1", written[3:-2])
        inside = NAME.sub(lambda found: str(self.script.variables.get(found[0], found[0])), names)
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
