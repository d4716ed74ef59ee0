"""Shell text cut into commands: words as they are written, quotes and variables still in them; nothing is put in or decided.

No parser of bash does this: bashlex is under the GPL; tree-sitter-bash 0.25 leaves out the white space between two variables of a
string, reads no ``if [ ! ]`` and takes the placeholder of ``--model <NAME> --tp 2`` for a file that is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

NAME = re.compile(r"[A-Za-z_]\w*")
PARAMETER = re.compile(r"[A-Za-z_]\w*|\d|@")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
ITEM = re.compile(r"([A-Za-z_]\w*)\[([^\]]*)\](\+?)=(.*)", re.DOTALL)
"""``NAME[INDEX]=VALUE``."""
HERE = re.compile(r"<<(-?)[ \t]*(['\"\\]?)(\w[\w.-]*)['\"]?")
REDIRECTION = re.compile(r"\d?[<>]&[\d-]|(\d?)(>>|>&|>\||&>>?|>(?!\()|<<<|<&|<(?!\())[ \t]*")
PLACEHOLDER = re.compile(r"<[\w.-]+>")
"""What a reader is to fill in, such as <NAME>: a word, not a file that is read."""
ARITHMETIC = re.compile(r"\(\([^\n]{0,200}?\)\)")
PLAIN = re.compile(r"[^\s;|&()<>'\"\\$`]+")
SEPARATORS = ("&&", "||", ";;", "\n", ";", "|", "&", "(", ")")


@dataclass(frozen=True)
class Array:
    """``NAME=( ... )`` with its items as written; ``more``: of ``NAME+=``."""

    name: str
    more: bool
    items: tuple[str, ...]


@dataclass
class Command:
    """One command as it is written, and the sign that ends it.

    ``outputs``: (> or >>, file) of what it prints; ``body``: its here-document, and whether variables are put in.
    """

    words: list[str] = field(default_factory=list)
    arrays: list[Array] = field(default_factory=list)
    outputs: list[tuple[str, str]] = field(default_factory=list)
    body: tuple[str, bool] | None = None
    end: str = ""


def end_of_piece(text: str, at: int) -> int:
    """Where the piece of a word that begins at ``at`` ends: a quoted part, what a ``$`` begins, or one letter."""
    letter, after = text[at], text[at + 1 : at + 2]
    if letter == "\\":
        return min(at + 2, len(text))
    if letter in "'`":
        return text.find(letter, at + 1) + 1 or len(text)
    if letter == '"':
        at += 1
        while at < len(text) and text[at] != '"':
            at = end_of_piece(text, at) if text[at] in "\\$`" else at + 1
        return min(at + 1, len(text))
    if letter in "$<>" and after == "(":
        return _closing(text, at + 1, ")")
    if letter == "$":
        name = PARAMETER.match(text, at + 1)
        return _closing(text, at + 1, "}") if after == "{" else name.end() if name else at + 1 + len(after.strip(" \t\n\"'"))
    return at + 1


def _closing(text: str, at: int, closes: str) -> int:
    opens, level = text[at], 0
    for found in re.compile(rf"[{opens}{closes}]").finditer(text, at):
        level += 1 if found[0] == opens else -1
        if level == 0:
            return found.end()
    return len(text)


class Lexer:
    """Cuts a text into commands; ``comments`` holds those passed so far."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text.replace("\r\n", "\n"), 0
        self.comments: list[str] = []
        self.bodies: dict[int, int] = {}  # where a line ends after which here-documents stand -> where these end
        self.compares = False  # within [[ ]], where < and > are words

    def commands(self) -> Iterator[Command]:
        """Each command; ``;;`` is one of its own."""
        command = Command()
        while self.at < len(self.text):
            if self._blank():
                continue
            if self._redirection(command):
                continue
            sign = next((sign for sign in SEPARATORS if self.text.startswith(sign, self.at)), None)
            if sign is None or (sign == "(" and self._arithmetic(command)):
                self._word(command)
                continue
            self.at = self.bodies.pop(self.at, self.at + 1) if sign == "\n" else self.at + len(sign)
            if command.words or command.arrays or command.body or sign == ")":
                command.end = sign
                yield command
            if sign == ";;":
                yield Command(words=[sign], end=sign)
            command = Command()
        if command.words or command.arrays or command.body:
            yield command

    def _blank(self) -> bool:
        """Pass white space within a line, a continued line's end, or a comment."""
        letter = self.text[self.at]
        if letter in " \t":
            self.at += 1
        elif self.text.startswith("\\\n", self.at):
            self.at += 2
        elif letter == "#":
            end = self.text.find("\n", self.at)
            end = len(self.text) if end < 0 else end
            self.comments.append(self.text[self.at : end])
            self.at = end
        else:
            return False
        return True

    def _arithmetic(self, command: Command) -> bool:
        """Pass ``((...))`` as one word."""
        found = ARITHMETIC.match(self.text, self.at)
        if found is not None:
            command.words.append(found[0])
            self.at = found.end()
        return found is not None

    def _redirection(self, command: Command) -> bool:
        """Take a redirection or a here-document; False where none begins."""
        if self.text[self.at] not in "<>&0123456789" or self.compares or PLACEHOLDER.match(self.text, self.at):
            return False
        if here := HERE.match(self.text, self.at):
            self.at = here.end()
            command.body = self._body(*here.groups())
            return True
        found = REDIRECTION.match(self.text, self.at)
        if found is None:
            return False
        self.at = found.end()
        file = self._written() if found[2] else ""
        if file and found[1] in ("", "1") and found[2] in (">", ">>", ">|"):
            command.outputs.append((found[2].rstrip("|"), file))
        return True

    def _body(self, strips: str, quote: str, tag: str) -> tuple[str, bool]:
        """The here-document that begins after this line, and whether variables are put in."""
        line = self.text.find("\n", self.at)
        if line < 0:
            return "", not quote
        start = self.bodies.get(line, line + 1)
        end = re.compile(rf"^[ \t]*{re.escape(tag)}[ \t]*(\n|\Z)", re.MULTILINE).search(self.text, start)
        self.bodies[line] = end.end() if end else len(self.text)
        body = self.text[start : end.start() if end else len(self.text)]
        return re.sub(r"^\t+", "", body, flags=re.MULTILINE) if strips else body, not quote

    def _written(self) -> str:
        """The word at hand."""
        start = self.at
        while self.at < len(self.text):
            placeholder = PLACEHOLDER.match(self.text, self.at)
            plain = placeholder or PLAIN.match(self.text, self.at)
            if plain is not None:
                self.at = plain.end()
            elif self.text[self.at] in "'\"\\$`" or self.text[self.at : self.at + 2] in ("<(", ">("):
                self.at = end_of_piece(self.text, self.at)
            elif self.compares and self.text[self.at] in "<>":
                self.at += 1
            else:
                break
        return self.text[start : self.at]

    def _word(self, command: Command) -> None:
        word = self._written()
        if not word:  # a lone letter of another place, such as \f
            self.at += 1
            return
        head = ASSIGNMENT.fullmatch(word)
        if head is not None and not head[3] and self.text[self.at : self.at + 1] == "(":
            self.at += 1
            command.arrays.append(Array(head[1], bool(head[2]), tuple(self._items())))
            return
        self.compares = word == "[[" or (self.compares and word != "]]")
        command.words.append(word)

    def _items(self) -> Iterator[str]:
        """The items of an array, over several lines."""
        while self.at < len(self.text) and self.text[self.at] != ")":
            if not self._blank():
                item = self._written()
                if item:
                    yield item
                else:
                    self.at += 1
        self.at += 1
