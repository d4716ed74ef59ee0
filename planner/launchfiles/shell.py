"""Shell scripts read as far as launch scripts go: branches, assignments, functions, further scripts. Nothing is ever run."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from planner.launchfiles.expansion import DEEPEST, Expansion, pattern_of
from planner.launchfiles.shell_words import ASSIGNMENT, ITEM, Array, Command, Lexer

KEYWORDS = frozenset(("if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac", "{", "}"))
PREFIXES = frozenset(("time", "exec", "nohup", "env"))
DECLARES = frozenset(("export", "declare", "local", "readonly", "typeset"))
MOST_NOTES = 5
"""Undecided conditions that notes name; more would tell nothing new."""
SHELLS = frozenset(("bash", "sh", "zsh", "dash"))
CONTAINERS = frozenset(("docker", "podman", "nerdctl"))
"""What starts a container, which has the variables that it is given and no others."""
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


@dataclass
class Script:
    """A script's commands with its variables put in, in the order of its text, without branches that are certainly not taken.

    ``written``: files that it writes by a here-document, by name; ``undecided``: conditions that nothing in it decides, all of
    whose branches are read; ``loops``: variables that a loop gives several values, of which the last one holds; ``around``: for
    each command, the variables that were asked for, with their values at that command; ``contained``: those that containers are
    started with.
    """

    commands: list[list[str]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    undecided: list[str] = field(default_factory=list)
    loops: dict[str, str] = field(default_factory=dict)
    around: list[dict[str, str]] = field(default_factory=list)
    contained: dict[str, str] = field(default_factory=dict)


def read_script(
    text: str, beside: Callable[[str], str | None] = lambda name: None, variables: Collection[str] = frozenset()
) -> Script:
    """The commands of a script with its variables put in; what is not known stays as it is written, such as ``${MODEL}``.

    ``beside`` gives the text of a further script that this one names, None where there is none; ``variables`` are those told of
    in ``Script.around``. Raises PlannerError for a script that expands to too much.
    """
    script = Script()
    _Shell(script, Expansion(), _Asked(beside, variables), 0).run(text)
    return script


@dataclass(frozen=True)
class _Asked:
    """What is given with a script: ``beside`` and ``variables`` of ``read_script``."""

    beside: Callable[[str], str | None]
    variables: Collection[str]


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


class _Shell:
    """Follows a script: which branches are taken, what is assigned, which further scripts are started."""

    def __init__(self, script: Script, expansion: Expansion, asked: _Asked, depth: int) -> None:
        self.script, self.expansion, self.asked, self.depth = script, expansion, asked, depth
        self.blocks: list[_Block] = []
        self.gate: bool | None = True
        self.testing = ""  # the bracket of a test that is not closed yet

    def run(self, text: str) -> None:
        """Follow the text."""
        lexer = Lexer(text)
        for command in lexer.commands():
            self._command(command)
        self.script.comments += lexer.comments

    def _command(self, command: Command) -> None:
        block = self.blocks[-1] if self.blocks else None
        if block is not None and block.subject is not None and self._case(block, command.words, command.end):
            return
        written = self._keywords(command.words, command.end)
        block = self.blocks[-1] if self.blocks else None
        if any(one.live is False and not one.heading for one in self.blocks):
            return
        words = self._words(written)
        if words and block is not None and block.heading and block.subject is None:
            block.test(self._test(words), command.end)
            return
        if not (words or command.arrays or command.body):
            return
        gate, self.gate = self.gate, True
        if self.testing or (words and words[0] in ("[", "[[", "test", "!")):
            value = _joined(gate, "&&", self._test(words)) if gate is not True else self._test(words)
            self.gate = value if command.end == "&&" else (None if value is None else not value) if command.end == "||" else True
        elif gate is not False:
            self._assign(command.arrays)
            self._take(words, command)

    def _words(self, written: Sequence[str]) -> list[str]:
        """A command's words with the variables put in; bash splits no value that is assigned."""
        words: list[str] = []
        for word in written:
            whole = (ASSIGNMENT.match(word) or ITEM.match(word)) is not None and all(_may_assign_after(one) for one in words)
            words += self.expansion.split(word, whole=whole)
        return words

    def _keywords(self, words: list[str], end: str) -> list[str]:
        """Follow the words that begin and end branches; the words of the command after them, as written."""
        while words and words[0] in KEYWORDS:
            word, words = words[0], words[1:]
            if word == "if":
                self.blocks.append(_Block())
            elif word == "case":
                self.blocks.append(_Block(subject="".join(self._words(words[:1]))))
                self._case(self.blocks[-1], words[2:], end)
                return []
            elif word in ("for", "while", "until"):
                # one through its arguments ends at once where there are none
                idle = any("$#" in one for one in words) and "@" not in self.expansion.variables
                self.blocks.append(_Block(live=not idle, heading=False, loop=True))
                if word == "for":
                    self._loop(self._words(words))
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
        pattern = "".join(map(pattern_of, self._words(words)))
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
            self.expansion.variables[words[0]] = words[-1]
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
        same = fnmatchcase(left, pattern_of(right)) if doubled else left == right
        return same == (words[1] != "!=")

    def _assign(self, arrays: Sequence[Array]) -> None:
        for array in arrays:
            old = self.expansion.variables.get(array.name, []) if array.more else []
            if any(re.match(r"\[[^\]]*\]\+?=", item) for item in array.items):  # by index: such a table is not followed
                self.expansion.variables.pop(array.name, None)
                continue
            items = [word for item in array.items for word in self.expansion.split(item)]
            self.expansion.variables[array.name] = [*([old] if isinstance(old, str) else old), *items]

    def _take(self, words: list[str], command: Command) -> None:
        """Apply a command's assignments; keep it, or follow what it starts, where more is left."""
        declared = bool(words) and words[0] in DECLARES
        words = words[1:] if declared else words
        before: dict[str, str | list[str] | None] = {}
        while words and (words[0] in PREFIXES or _assigns(words[0])):
            found = ASSIGNMENT.fullmatch(words[0])
            if found is not None:
                before.setdefault(found[1], self.expansion.variables.get(found[1]))
                self._set(found[1], found[3], more=bool(found[2]))
            elif (item := ITEM.fullmatch(words[0])) is not None:
                self._set_item(*item.groups())
            words = words[1:]
        if not words or declared:
            return
        if command.body is not None:
            self._here(words, command.outputs, *command.body)
        elif words[0] not in ("echo", "printf") and (self.depth == DEEPEST or not self._started(words)):
            self._keep(words)
        for name, old in before.items():  # what stands before a command holds for that command alone
            if old is None:
                self.expansion.variables.pop(name, None)
            else:
                self.expansion.variables[name] = old

    def _set(self, name: str, text: str, *, more: bool) -> None:
        """``NAME=TEXT``, or ``NAME+=TEXT``; of an array its first item."""
        old = self.expansion.variables.get(name, "")
        first, others = (old, None) if isinstance(old, str) else ("".join(old[:1]), old[1:])
        text = f"{first}{text}" if more else text
        self.expansion.variables[name] = text if others is None else [text, *others]

    def _set_item(self, name: str, index: str, more: str, text: str) -> None:
        """``NAME[INDEX]=TEXT``; what is no array without gaps is not known any more."""
        old, at = self.expansion.variables.get(name, []), self.expansion.whole(index)
        items = [old] if isinstance(old, str) else list(old)
        if at is None or not -len(items) <= at <= len(items):
            self.expansion.variables.pop(name, None)
            return
        at += len(items) if at < 0 else 0
        items[at : at + 1] = [f"{''.join(items[at : at + 1])}{text}" if more else text]
        self.expansion.variables[name] = items

    def _keep(self, words: list[str]) -> None:
        """A command of the script, with the variables around it that are asked for."""
        self.script.commands.append(words)
        self.script.around.append(self._around(words))

    def _around(self, words: Sequence[str]) -> dict[str, str]:
        """The variables that are asked for as what a command starts has them: those around it, and NAME=VALUE among its words; in
        a container those that it is given (``-e NAME=VALUE``, ``-e NAME`` as they are around it), and no others."""
        asked = {name: self.expansion.variables.get(name) for name in self.asked.variables}
        around = {name: value for name, value in asked.items() if isinstance(value, str)}
        given: dict[str, str] = {}
        for before, word in zip(["", *words], words, strict=False):
            option = re.match(r"--env=|-e=?(?=\w)", word)
            name, mark, value = word[option.end() if option else 0 :].partition("=")
            if name in asked and mark:
                given[name] = value
            elif name in around and (option or before in ("-e", "--env")):
                given[name] = around[name]
        if not _in_container(words):
            return around | given
        given = {**self.script.contained, **given} if "exec" in words else given
        self.script.contained |= given
        return given

    def _here(self, words: list[str], outputs: Sequence[tuple[str, str]], body: str, expands: bool) -> None:
        """A here-document: a file that is written, or a script that is run."""
        body = self.expansion.text(body) if expands else body
        aims = [(sign, "".join(self.expansion.split(name))) for sign, name in outputs]
        if "tee" in words[:2]:  # sudo tee
            own = words[words.index("tee") + 1 :]
            sign = ">>" if {"-a", "--append"} & set(own) else ">"
            aims = [*((sign, name) for name in own if not name.startswith("-")), *aims]
        for sign, name in aims:
            self.script.written[name] = (self.script.written.get(name, "") if sign == ">>" else "") + body
        if not aims and words[0].rpartition("/")[2] in SHELLS | {"sbatch", "ssh"}:
            if len(words) > 1:
                self._keep(words)
            if self.depth < DEEPEST:
                self._inner(body, [])

    def _started(self, words: list[str]) -> bool:
        """Follow ``eval TEXT``, ``bash -c TEXT`` and scripts that lie beside this one."""
        name = words[0].rpartition("/")[2]
        if name == "eval":
            _Shell(self.script, self.expansion, self.asked, self.depth + 1).run(" ".join(words[1:]))
            return True
        if name in ("source", "."):
            text = self.asked.beside(words[1]) if len(words) > 1 else None
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
        text = words[file] if said else self.asked.beside(words[file])
        if text is not None:
            before = len(self.script.commands)
            inside = self._around(words[:at]) if _in_container(words[:at]) else None
            self._inner(text, words[file + 1 + said :], own=inside)  # after a text its $0 comes first
            started = self.script.commands[before:]
            self.script.commands[before:] = [[*words[: file if at is None else at], *command] for command in started]
        return text is not None

    def _inner(
        self, text: str, arguments: list[str] | None, *, shares: bool = False, own: Mapping[str, str] | None = None
    ) -> None:
        """Follow a script with its own $1, $2, ... and $@; only a sourced one ``shares`` its variables with this one. One that
        runs in a container has its ``own`` ones of those that are asked for."""
        outer = dict(self.expansion.variables)
        if own is not None:
            self.expansion.variables = {k: v for k, v in outer.items() if k not in self.asked.variables} | dict(own)
        positional = {name: value for name, value in outer.items() if _is_positional(name)}
        if arguments is not None:
            self._replace_positional({**{str(n): word for n, word in enumerate(arguments, 1)}, "@": list(arguments)})
        _Shell(self.script, self.expansion, self.asked, self.depth + 1).run(text)
        if not shares:
            self.expansion.variables = outer
        elif arguments is not None:
            self._replace_positional(positional)

    def _replace_positional(self, arguments: Mapping[str, str | list[str]]) -> None:
        """Drop every $1, $2, ... and $@ and set these."""
        kept = {name: value for name, value in self.expansion.variables.items() if not _is_positional(name)}
        self.expansion.variables = {**kept, **arguments}


def _operand(words: list[str], start: int) -> tuple[bool, int | None]:
    """(whether -c is said, where the text or file stands that a shell runs): the first word that is no option nor an option's."""
    said, at = False, start
    while at < len(words) and words[at][:1] in ("-", "+"):
        said = said or re.fullmatch(r"-[a-zA-Z]*c[a-zA-Z]*", words[at]) is not None
        at += 2 if TAKES_A_WORD.fullmatch(words[at]) else 1
    return said, at if at < len(words) else None


def _in_container(words: Sequence[str]) -> bool:
    """Whether a command starts a container, or something in one."""
    return any(word.rpartition("/")[2] in CONTAINERS for word in words[:2])  # after sudo


def _is_positional(name: str) -> bool:
    return name.isdigit() or name == "@"


def _may_assign_after(word: str) -> bool:
    """Whether the word after this one of a command may assign a variable."""
    return _assigns(word) or word in PREFIXES | DECLARES


def _assigns(word: str) -> bool:
    return (ASSIGNMENT.fullmatch(word) or ITEM.fullmatch(word)) is not None


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,18}", text) is not None
