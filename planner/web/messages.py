"""The planner's own messages in the language of the session: ``said(text)``, by templates of ``text/messages.zh.toml``.

Messages wrap messages ("PATH: MESSAGE", lists with "; "), so what a blank holds is said in the same way.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache

from planner.prices.price import Price
from planner.web.text import FOLDER, language, words

LONGEST = 4000
"""Characters of a text that is translated; longer ones stay as they are, and so does a translation that would be longer."""
DEEPEST = 8
"""Messages within messages."""
MOST_LOOKS = 150
"""Parts of one text that are looked up: what has more is no message of ours."""
BLANK = re.compile(r"\{(\d+)(?::([a-z]+))?\}")
AS_WRITTEN = re.compile(r"precision = ('[^']*') \(taken as ([\w-]+)\)")
EDGE = " :,"
"""What stands around a part that is appended to a message."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """A message: its words around the blanks, and the Chinese that takes them."""

    literals: tuple[str, ...]
    chinese: str
    rarest: str
    letters: int
    closed: bool
    """Nothing may follow: it ends in words, or in a blank that holds no further message."""

    def blanks(self, text: str) -> list[str] | None:
        """What the blanks hold where the whole of ``text`` is this message, leftmost first; never looks back, so linear."""
        first, *middle, last = self.literals
        if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
            return None
        held, place, end = [], len(first), len(text) - len(last)
        for literal in middle:
            found = text.find(literal, place, end)
            if found < 0:
                return None
            held.append(text[place:found])
            place = found + len(literal)
        return [*held, text[place:end]]


def template(message: str, chinese: str) -> Template:
    """Ready to be compared."""
    literals = tuple(re.split(r"\{\d+\}", _plain(message)))
    rarest = max(literals, key=len)
    said_so = chinese.strip().rstrip("。")
    closed = bool(literals[-1]) or ":choice}" in said_so
    return Template(literals=literals, chinese=said_so, rarest=rarest, letters=sum(map(len, literals)), closed=closed)


def _plain(text: str) -> str:
    """Without the marks that PlannerError may have joined: the full stop at the end, and that after a question mark."""
    return re.sub(r"\?(?=[ ;]|$)", "?.", text.strip(EDGE)).removesuffix(".")


@cache
def tables() -> dict[str, dict[str, str]]:
    """Module -> template -> Chinese; beside them what pydantic and Python say, and single words."""
    found: dict[str, dict[str, str]] = tomllib.loads((FOLDER / "messages.zh.toml").read_text(encoding="utf-8"))
    return found


@cache
def whole() -> dict[str, str]:
    """Messages without blanks."""
    texts = {k: v for name, table in tables().items() if name != "words" for k, v in table.items()}
    return {_plain(k): v.strip().rstrip("。") for k, v in texts.items() if not re.search(r"\{\d+\}", k)}


@cache
def templates() -> tuple[Template, ...]:
    """Messages with blanks, those with most words of their own first."""
    texts = {k: v for name, table in tables().items() if name != "words" for k, v in table.items()}
    found = [template(k, v) for k, v in texts.items() if re.search(r"\{\d+\}", k)]
    return tuple(sorted(found, key=lambda one: -one.letters))


def said(text: str) -> str:
    """A message of the planner in the language of the session; what is unknown stays as it is."""
    return _chinese(text) if language() == "zh" and len(text) <= LONGEST else text


def word(text: str) -> str:
    """A single word (a term of a price, where a value comes from, a part of memory or of a step) in that language."""
    return _word(text) if language() == "zh" else text


def priced(price: Price) -> str:
    """``price.describe()`` in that language."""
    found = replace(price, term=word(price.term)).describe()
    return f"{found}, {said(price.basis)}" if price.basis else found


def _word(text: str) -> str:
    known, name = words("zh"), text.replace(" ", "_")
    return tables()["words"].get(text) or known.get(f"kind.{name}") or known.get(f"part.{name}") or text


@lru_cache(maxsize=4096)
def _chinese(text: str) -> str:
    found = _as_written(_plain(text)) or Reading().read(_plain(text), DEEPEST)
    if found is None:
        return text
    found = re.sub(r"([?？])[.。](?=[ ;，；：）]|[^\x00-\x7f]|$)", r"\1", found)
    found = found + "。" if text.rstrip().endswith(".") and found[-1:] not in "。？?" else found
    return found if len(found) <= LONGEST else text


def _reaches_over(one: Template, held: list[str]) -> bool:
    """Whether a blank, but for an open last one, holds "; ", or the first, where the message begins with it, holds a place."""
    return any("; " in value for value in (held if one.closed else held[:-1])) or (not one.literals[0] and ": " in held[0])


def _as_written(text: str) -> str | None:
    """A message in which a table's own precision stands for the field (``run_columns.in_own_words``)."""
    own = AS_WRITTEN.search(text)
    if own is None:
        return None
    for name in ("job.precision", f"job.precision = {own[1]}"):
        found = Reading().message(text.replace(own[0], name, 1), DEEPEST)
        if found is not None:
            return found.replace(name, f"precision = {own[1]}（按 {own[2]} 计算）", 1)
    return None


@dataclass
class Reading:
    """One text on its way into Chinese: what was already read, and how much may still be looked up."""

    looks: int = MOST_LOOKS
    seen: dict[tuple[str, int], str | None] = field(default_factory=dict)

    def read(self, text: str, depth: int) -> str | None:
        """The Chinese of a text without its full stop, None where nothing in it is known."""
        if depth == 0 or self.looks <= 0 or " " not in text:
            return None
        if (text, depth) not in self.seen:
            self.looks -= 1
            self.seen[text, depth] = self._read(text, depth)
        return self.seen[text, depth]

    def _read(self, text: str, depth: int) -> str | None:
        if text in whole():
            return whole()[text]
        ways: tuple[Callable[[str, int], str | None], ...] = (
            self.message,
            self._placed,
            self._listed,
            self._any,
            self._counted,
        )
        return next((found for way in ways if (found := way(text, depth)) is not None), None)

    def message(self, text: str, depth: int) -> str | None:
        """One message whose blanks do not reach over what may be the bounds of another."""
        return self._template(text, depth, strict=True)

    def _any(self, text: str, depth: int) -> str | None:
        return self._template(text, depth, strict=False)

    def _template(self, text: str, depth: int, strict: bool) -> str | None:
        for one in templates():
            if one.rarest not in text:
                continue
            held = one.blanks(text)
            if held is None:  # its last blank may be empty, after a full stop
                held = one.blanks(f"{text}.")
            if held is None or (strict and _reaches_over(one, held)):
                continue
            return BLANK.sub(lambda m, held=held: self._filled(held[int(m[1])], m[2], depth), one.chinese)  # type: ignore[misc]
        return None

    def _filled(self, value: str, kind: str | None, depth: int) -> str:
        if kind == "word":
            return _word(value)
        if kind == "choice":
            return value.replace("' or '", "' 或 '").replace(" and ", "、")
        if kind == "list":
            return re.sub(r"[a-z][a-z ]+(?= [+-])", lambda m: _word(m[0]), value).replace(" (", "（").replace(")", "）")
        return self._inner(value, depth)

    def _inner(self, value: str, depth: int) -> str:
        found = self.read(_plain(value), depth - 1)
        return value if found is None else found

    def _placed(self, text: str, depth: int) -> str | None:
        """PLACE: MESSAGE."""
        place, mark, rest = text.partition(": ")
        if not mark or "; " in place:
            return None
        found, where = self.read(rest, depth - 1), self.read(place, depth - 1)
        return None if found is None and where is None else f"{where or place}：{found or rest}"

    def _counted(self, text: str, depth: int) -> str | None:
        """NUMBER REASON: so many layouts are rejected for it."""
        number, _, reason = text.partition(" ")
        found = self.read(reason, depth - 1) if re.fullmatch(r"[\d,]+", number) else None
        return None if found is None else f"{number} 个{found}"

    def _placed_message(self, text: str, depth: int) -> str | None:
        """One message, with or without a place before it."""
        found, places, rest = self.message(text, depth), "", text
        while found is None and ": " in rest.partition("; ")[0] and self.looks > 0:
            self.looks -= 1
            place, _, rest = rest.partition(": ")
            places += f"{self._inner(place, depth)}："
            found = self.message(rest, depth)
        return None if found is None else places + found

    def _listed(self, text: str, depth: int) -> str | None:
        """MESSAGE; MESSAGE, or sentence after sentence; two parts may be one message."""
        for mark, chinese in (("; ", "；"), (". ", "。")):
            parts = text.split(mark)
            if len(parts) < 2 or len(parts) > MOST_LOOKS:
                continue
            said_so, known, i = [], False, 0
            while i < len(parts):
                pair = mark.join(parts[i : i + 2]) if i + 1 < len(parts) and len(parts) > 2 else ""
                found = self._placed_message(pair, depth) if pair else None
                i += 1 if found is None else 2
                found = self.read(parts[i - 1], depth - 1) if found is None else found
                known = known or found is not None
                said_so.append(parts[i - 1] if found is None else found)
            if known:
                return chinese.join(said_so)
        return None
