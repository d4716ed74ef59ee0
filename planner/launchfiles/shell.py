"""Shell scripts read as far as launch scripts go: assignments, arrays, expansion, arithmetic. Nothing is ever run."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from planner.common.errors import PlannerError

MOST_WORDS, MOST_LETTERS = 100_000, 1_000_000
"""Of all that a script's variables expand to: a script of launch options has a few thousand."""
KEYWORDS = frozenset(
    ("if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "time", "exec", "nohup", "env", "{", "}")
)
DECLARES = frozenset(("export", "declare", "local", "readonly", "typeset"))
NAME = re.compile(r"[A-Za-z_]\w*")
PARAMETER = re.compile(r"[A-Za-z_]\w*|\d|@")
MOST_NOTES = 5
"""Conditions that are named as not decided: of further ones nothing else would be learnt."""
HERE = "<<here-document-"
"""What stands for a here-document in its command, before its number."""
REDIRECTS = re.compile(r"[012]?[<>]")
HERE_AT = re.compile(rf"{HERE}(\d{{1,6}})")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1([^\n]*)\n(.*?)^\s*\2[ \t]*$", re.DOTALL | re.MULTILINE)
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
    """A script's variables and commands, in the order of its text, without branches that are certainly not taken.

    ``written``: files that it writes by a here-document, by name; ``undecided``: conditions that nothing in it decides, all of
    whose branches are read; ``loops``: variables that a loop gives several values, of which the last one holds.
    """

    variables: dict[str, str | list[str]] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    undecided: list[str] = field(default_factory=list)
    loops: dict[str, str] = field(default_factory=dict)
    bodies: list[tuple[str, bool]] = field(default_factory=list)
    """Here-documents, and whether their variables are put in."""


class _Text(str):
    """A word with the pattern that it is where one is matched: its quoted letters stand for themselves."""

    pattern: str


def _pattern(word: str) -> str:
    return word.pattern if isinstance(word, _Text) else word


@dataclass
class _Word:
    """A word under construction: what is unquoted may still split. ``patterns``: the parts as patterns, see _Text."""

    parts: list[str] = field(default_factory=lambda: [""])
    patterns: list[str] = field(default_factory=lambda: [""])
    quoted: bool = False

    def add(self, text: str, *, quoted: bool) -> None:
        self.parts[-1] += text
        self.patterns[-1] += re.sub(r"[*?[]", r"[\g<0>]", text) if quoted else text

    def extend(self, items: list[str], *, quoted: bool) -> None:
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
                word = _Text(part)
                word.pattern = pattern
            words.append(word)
        return words if self.quoted and len(words) == 1 else [word for word in words if word]


def read_script(text: str, beside: Callable[[str], str | None] = lambda name: None) -> Script:
    """The commands of a script with its variables put in; what is not known stays as it is written, such as ``${MODEL}``.

    ``beside`` gives the text of a further script that this one names, None where there is none. Raises PlannerError for a script
    that expands beyond all measure.
    """
    script = Script()
    _Shell(script, beside, 0).run(text)
    return script


@dataclass
class _Block:
    """An ``if`` or ``case``: whether the branch at hand is taken, and whether an earlier one was; None: not known."""

    live: bool | None = False
    taken: bool | None = False
    subject: str | None = None  # of a case
    heading: bool = True  # its condition, or a pattern, is being read
    loop: bool = False
    value: bool | None = None
    joined: str = ""

    def test(self, value: bool | None, end: str) -> None:
        """A further command of the condition."""
        self.value = value if not self.joined else _joined(self.value, self.joined, value)
        self.joined = end if end in ("&&", "||") else ""

    def enter(self, value: bool | None) -> None:
        """Begin a branch whose condition has the value."""
        self.live = False if self.taken else (None if value and self.taken is None else value)
        self.taken = True if self.taken or self.live else None if self.taken is None or self.live is None else False
        self.heading = False


def _joined(left: bool | None, sign: str, right: bool | None) -> bool | None:
    if sign == "&&":
        return False if False in (left, right) else None if None in (left, right) else True
    return True if True in (left, right) else None if None in (left, right) else False


SHELLS = frozenset(("bash", "sh", "zsh", "dash"))
DEEPEST = 4
"""Of scripts within scripts."""
COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "-eq": operator.eq, "-ne": operator.ne, "-gt": operator.gt, "-ge": operator.ge, "-lt": operator.lt, "-le": operator.le,
}  # fmt: skip
"""Comparisons of whole numbers."""
EQUAL = ("=", "==", "!=")
"""Comparisons of text, in ``[[ ]]`` with a pattern."""
TAKES_A_WORD = re.compile(r"[-+][a-zA-Z]*[oO]|--rcfile|--init-file")
"""Options of a shell whose value is the next word, such as -euo pipefail."""
UNSET = re.compile(r"\$\{?[A-Za-z_]\w*(\[[@*]\])?\}?")
"""A variable that is not set, as it stands."""


class _Shell:
    """Follows a script: which branches are taken, what is assigned, which further scripts are started."""

    def __init__(self, script: Script, beside: Callable[[str], str | None], depth: int) -> None:
        self.script, self.beside, self.depth = script, beside, depth
        self.blocks: list[_Block] = []
        self.gate: bool | None = True
        self.testing = ""  # the bracket of a test that is not closed yet

    def run(self, text: str) -> None:
        """Follow the text."""

        def keep(found: re.Match[str]) -> str:
            self.script.bodies.append((found[4], not found[1]))
            return f" {HERE}{len(self.script.bodies) - 1} {found[3]}"

        text = COMMENTED.sub(r"\1\n", text.replace("\r\n", "\n"))
        text = HEREDOC.sub(keep, text).replace("\\\n", " ")
        reader = _Reader(text, self.script)
        for words, end in reader.commands():
            self._command(words, end)
        self.script.comments += reader.comments

    def _command(self, words: list[str], end: str) -> None:
        block = self.blocks[-1] if self.blocks else None
        if block is not None and block.subject is not None and self._case(block, words, end):
            return
        words = self._keywords(words, end)
        block = self.blocks[-1] if self.blocks else None
        if not words or any(one.live is False and not one.heading for one in self.blocks):
            return
        if block is not None and block.heading and block.subject is None:
            block.test(self._test(words), end)
            return
        gate, self.gate = self.gate, True
        if self.testing or words[0] in ("[", "[[", "test", "!"):
            value = _joined(gate, "&&", self._test(words)) if gate is not True else self._test(words)
            self.gate = value if end == "&&" else (None if value is None else not value) if end == "||" else True
        elif gate is not False:
            self._take(words)

    def _keywords(self, words: list[str], end: str) -> list[str]:
        """Follow the words that begin and end branches; the words of the command after them."""
        while words and words[0] in KEYWORDS | {"case", "esac"}:
            word, words = words[0], words[1:]
            if word == "if":
                self.blocks.append(_Block())
            elif word == "case":
                self.blocks.append(_Block(subject=words[0] if words else ""))
                self._case(self.blocks[-1], words[2:], end)
                return []
            elif word in ("for", "while", "until"):
                idle = "$#" in words and "@" not in self.script.variables  # goes through arguments, of which there are none
                self.blocks.append(_Block(live=not idle, heading=False, loop=True))
                if word == "for":
                    self._loop(words)
                return []
            elif word == "done":
                if self.blocks and self.blocks[-1].loop:
                    self.blocks.pop()
            elif self.blocks:
                self._branch(word)
        return words

    def _branch(self, word: str) -> None:
        block = self.blocks[-1]
        if word == "elif":
            block.heading, block.value, block.joined = True, None, ""
        elif word in ("then", "else"):
            block.enter(block.value if word == "then" else True)
        elif word in ("fi", "esac"):
            self.blocks.pop()

    def _case(self, block: _Block, words: list[str], end: str) -> bool:
        """A pattern of a ``case``, or the end of its branch; False for a command within one."""
        if not block.heading:
            if words == [";;"]:
                block.heading, block.live, block.value = True, False, False
                return True
            return False
        if words[:1] == ["esac"]:
            self.blocks.pop()
            return True
        pattern = "".join(map(_pattern, words))
        if pattern:
            subject = self._known(block.subject or "")
            block.value = _joined(bool(block.value), "||", None if subject is None else fnmatchcase(subject, pattern))
        if end == ")":
            block.enter(block.value)
            block.value = False
        return True

    def _loop(self, words: list[str]) -> None:
        """``for NAME in A B``: NAME is the last of them."""
        if len(words) > 2 and words[1] == "in" and not any("$" in word or "`" in word for word in words):
            self.script.variables[words[0]] = words[-1]
            if len(words) > 3:
                self.script.loops[words[0]] = words[-1]

    def _known(self, word: str) -> str | None:
        """A word of a condition: text; "" for a variable that is not set; None for what only a run knows, such as $1."""
        if UNSET.fullmatch(word):
            return ""
        return None if "$" in word or "`" in word else word

    def _test(self, words: list[str]) -> bool | None:
        """The value of ``[ A = B ]`` and its like; None where it is not known."""
        negated = words[0] == "!"
        words = words[1:] if negated else words
        if not self.testing:
            if not words or words[0] not in ("[", "[[", "test"):
                return None
            self.testing, words = words[0], words[1:]
        doubled = self.testing == "[["
        if words and words[-1] in ("]", "]]"):
            words, self.testing = words[:-1], ""
        elif self.testing == "test":
            self.testing = ""
        shown = " ".join(words)
        if words and words[0] == "!":
            negated, words = not negated, words[1:]
        value = self._compared(words, doubled=doubled)
        if value is None and words and not words[0].startswith("-") and len(self.script.undecided) < MOST_NOTES:
            self.script.undecided.append(shown[:60])
        return value if value is None or not negated else not value

    def _compared(self, words: list[str], *, doubled: bool) -> bool | None:
        """The value of what stands between the brackets; ``doubled``: of ``[[ ]]``, where "==" takes a pattern."""
        if not words:
            return False
        if words[0] in ("-z", "-n"):
            text = self._known(words[1]) if len(words) > 1 else ""
            return None if text is None else (text == "") == (words[0] == "-z")
        if len(words) == 1 and not words[0].startswith("-"):
            text = self._known(words[0])
            return None if text is None else text != ""
        if len(words) != 3 or words[1] not in {*EQUAL, *COMPARED}:
            return None
        left, right = self._known(words[0]), self._known(words[2])
        if left is None or right is None:
            return None
        if words[1] in COMPARED:
            return COMPARED[words[1]](int(left), int(right)) if _is_whole(left) and _is_whole(right) else None
        same = fnmatchcase(left, _pattern(right)) if doubled else left == right
        return same == (words[1] != "!=")

    def _take(self, words: list[str]) -> None:
        """Apply a command's assignments; keep it, or follow what it starts, where more is left."""
        declared = words[0] in DECLARES
        words = words[1:] if declared else words
        while words and (found := ASSIGNMENT.fullmatch(words[0])):
            old = self.script.variables.get(found[1], "") if found[2] else ""
            self.script.variables[found[1]] = f"{old}{found[3]}" if isinstance(old, str) else [*old, found[3]]
            words = words[1:]
        if not words or declared or words[0] in ("echo", "printf"):
            return
        here = next((found for word in words if (found := HERE_AT.fullmatch(word))), None)
        if here is not None and int(here[1]) < len(self.script.bodies):
            rest = [word for word in words if word != here[0]]
            if rest:
                self._here(rest, *self.script.bodies[int(here[1])])
        elif self.depth == DEEPEST or not self._started(words):
            self.script.commands.append(words)

    def _here(self, words: list[str], body: str, expands: bool) -> None:
        """A here-document: a file that is written, or a script that is run."""
        if expands:
            body = _Reader(body, self.script).expanded()
        aims = re.findall(r"(?:^|\s)1?(>{1,2})\s*(\S+)", " ".join(words))
        if "tee" in words[:2]:  # sudo tee
            own = words[words.index("tee") + 1 :]
            own = own[: next((i for i, word in enumerate(own) if REDIRECTS.match(word)), len(own))]
            sign = ">>" if {"-a", "--append"} & set(own) else ">"
            aims = [*((sign, name) for name in own if not name.startswith("-")), *aims]
        for sign, name in aims:
            self.script.written[name] = (self.script.written.get(name, "") if sign == ">>" else "") + body
        if aims:
            return
        if words[0].rpartition("/")[2] in SHELLS | {"sbatch", "ssh"}:
            if len(words) > 1:
                self.script.commands.append(words)
            if self.depth < DEEPEST:
                self._inner(body, [])

    def _started(self, words: list[str]) -> bool:
        """Follow ``eval TEXT``, ``bash -c TEXT`` and scripts that lie beside this one."""
        name = words[0].rpartition("/")[2]
        if name == "eval":
            _Shell(self.script, self.beside, self.depth + 1).run(" ".join(words[1:]))
            return True
        if name in ("source", "."):
            text = self.beside(words[1]) if len(words) > 1 else None
            if text is not None:
                own = words[2:] if len(words) > 2 else None  # without arguments of its own it has those of this script
                self._inner(text, own, shares=True)
            return text is not None
        at = next((i for i, word in enumerate(words) if word.rpartition("/")[2] in SHELLS), None)
        said, file = (False, 0) if at is None else _operand(words, at + 1)
        if at is None and name == "sbatch":
            file = next((i for i, word in enumerate(words) if word.endswith(".sh")), None)
        if file is None or not (said or words[file].endswith(".sh")):
            return False
        text = words[file] if said else self.beside(words[file])
        if text is not None:
            before = len(self.script.commands)
            self._inner(text, words[file + 1 + said :])  # after a text its $0 comes first
            started = self.script.commands[before:]
            self.script.commands[before:] = [[*words[: file if at is None else at], *command] for command in started]
        return text is not None

    def _inner(self, text: str, arguments: list[str] | None, *, shares: bool = False) -> None:
        """Follow a script with its own $1, $2, ... and $@; only a sourced one ``shares`` its variables with this one."""
        outer = dict(self.script.variables)
        positional = {name: value for name, value in outer.items() if _is_positional(name)}
        if arguments is not None:
            self._replace_positional({**{str(n): word for n, word in enumerate(arguments, 1)}, "@": list(arguments)})
        _Shell(self.script, self.beside, self.depth + 1).run(text)
        if not shares:
            self.script.variables = outer
        elif arguments is not None:
            self._replace_positional(positional)

    def _replace_positional(self, arguments: Mapping[str, str | list[str]]) -> None:
        """Drop every $1, $2, ... and $@ and set these."""
        kept = {name: value for name, value in self.script.variables.items() if not _is_positional(name)}
        self.script.variables = {**kept, **arguments}


def _operand(words: list[str], start: int) -> tuple[bool, int | None]:
    """(whether -c is said, where the text or file stands that a shell runs): the first word that is no option nor an option's."""
    said, at = False, start
    while at < len(words) and words[at][:1] in ("-", "+"):
        said = said or re.fullmatch(r"-[a-zA-Z]*c[a-zA-Z]*", words[at]) is not None
        at += 2 if TAKES_A_WORD.fullmatch(words[at]) else 1
    return said, at if at < len(words) else None


def _is_positional(name: str) -> bool:
    return name.isdigit() or name == "@"


def _assigns(words: list[str]) -> bool:
    """Whether a further word of a command may assign a variable."""
    return all(ASSIGNMENT.fullmatch(word) or word in KEYWORDS | DECLARES for word in words)


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,18}", text) is not None


class _Reader:
    def __init__(self, text: str, script: Script) -> None:
        self.text, self.at, self.script, self.letters, self.words, self.nested = text, 0, script, 0, 0, 0
        self.comments: list[str] = []

    def commands(self) -> Iterator[tuple[list[str], str]]:
        """Each command's words with the sign that ends it; an assigned array goes straight into the variables."""
        words: list[str] = []
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter in " \t":
                self.at += 1
            elif letter == "#":
                self._comment()
            elif letter in "\n;|&()":
                end = self.text[self.at : self.at + 2]
                end = end if end in ("&&", "||", ";;") else letter
                self.at += len(end)
                if words or end == ")":
                    yield words, end
                if end == ";;":
                    yield [";;"], end
                words = []
            else:
                argument = self._argument()
                if len(argument) > 1 and ASSIGNMENT.match(argument[0]) and _assigns(words):  # bash splits no assigned value
                    argument = [" ".join(argument)]
                words += argument
                self._measure(argument)
        if words:
            yield words, ""

    def expanded(self) -> str:
        """The whole text with its variables put in, as between double quotes."""
        word = _Word()
        self.text = f'{self.text.replace(chr(34), chr(92) + chr(34))}"'
        self.at = -1
        self._double(word)
        return "".join(word.parts)

    def _measure(self, words: list[str]) -> None:
        self.words += 1
        self.letters += sum(map(len, words[-8:]))
        self._bound(max(self.words, len(words)))

    def _bound(self, words: int) -> None:
        """PlannerError for a script that expands beyond all measure."""
        if words > MOST_WORDS or self.letters > MOST_LETTERS:
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
                word.add(self.text[self.at + 1 : end], quoted=True)
                word.quoted, self.at = True, end + 1
            elif letter == '"':
                self._double(word)
            elif letter == "\\":
                word.add(self.text[self.at + 1 : self.at + 2], quoted=True)
                self.at += 2
            elif letter in "$`":
                self._expand(word, quoted=False)
            else:
                word.add(letter, quoted=False)
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
                word.add(self.text[self.at + 1], quoted=True)
                self.at += 2
            elif letter in "$`":
                self._expand(word, quoted=True)
            else:
                word.add(letter, quoted=True)
                self.at += 1
        self.at += 1

    def _expand(self, word: _Word, *, quoted: bool) -> None:
        """Put in what a ``$`` stands for; commands and unknown names stay as they are written."""
        start = self.at
        if self.text[start] == "`":
            end = self.text.find("`", start + 1)
            self.at = len(self.text) if end < 0 else end + 1
            word.add(self.text[start : self.at], quoted=quoted)
        elif self.text.startswith("$((", start):
            end = self.text.find("))", start)
            self.at = len(self.text) if end < 0 else end + 2
            word.add(self._arithmetic(self.text[start : self.at]), quoted=quoted)
        elif self.text.startswith("$(", start):
            self.at = self._closing(start + 1, "(", ")")
            word.add(self.text[start : self.at], quoted=quoted)
        elif self.text.startswith("${", start):
            self.at = self._closing(start + 1, "{", "}")
            self._put(word, self.text[start : self.at], self.text[start + 2 : self.at - 1], quoted=quoted)
        else:
            name = PARAMETER.match(self.text, start + 1)
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
        name = NAME.match(inside) or re.match(r"\d+|@", inside)
        rest = inside[name.end() :] if name else inside
        value = self.script.variables.get(name[0]) if name else None
        sign = rest[1:2] if rest[:1] == ":" else rest[:1]
        other = rest[2:] if rest[:1] == ":" else rest[1:]
        if sign == "+" and name:
            value = self._text(other) if value else ""
        elif sign in ("-", "=") and name and (value is None or (value == "" and rest[:1] == ":")):
            value = self._text(other)
        if value is None or (isinstance(value, str) and value == written):
            word.add(written, quoted=quoted)
        elif isinstance(value, list):
            self.letters += sum(map(len, value))
            items = value if rest in ("[@]", "[*]", "") else value[:1]
            items = items if quoted else [one for item in items for one in item.split()]
            word.extend(items, quoted=quoted)
        else:
            self.letters += len(value)
            word.extend([value] if quoted else re.split(r"\s+", value), quoted=quoted)
        self._bound(len(word.parts))

    def _text(self, written: str) -> str:
        """What stands for a variable that is not set, its own variables put in."""
        plain = written.strip("\"'")
        if "$" not in plain or self.nested == DEEPEST:
            return plain
        inner = _Reader(plain, self.script)
        inner.nested, inner.letters = self.nested + 1, self.letters
        return inner.expanded()

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
