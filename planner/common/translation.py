"""Messages in Chinese: ``translated(text, "zh")`` looks the templates of a ``Message`` up in ``messages.zh.toml``.

That file holds English and Chinese side by side, a table for each module; no sentence is parsed.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from planner.common.message import Message, cleaned
from planner.common.parsed import parsed_toml

FILE = Path(__file__).with_name("messages.zh.toml")
WORDS = ("words", "kind", "part", "answer", "label", "help", "operator", "region")
"""Tables of single words: for a blank {0:word}, for names of lines, and for tables, and for --help."""
BLANK = re.compile(r"\{(\d+)(?::([a-z]+))?\}")
BETWEEN_FIGURES = re.compile(r"(?<=[\x21-\x7e])，(?=[\x21-\x7e])")
"""A comma at which a narrow cell may break, lest it breaks a figure."""
AFTER_BRACKET = re.compile(r"(?<=）) (?=\S)")
"""A blank that English has behind a bracket and Chinese has not."""
MARKS = {": ": "：", "; ": "；", ". ": "。", ", ": "，"}
"""Between messages."""


@cache
def tables() -> dict[str, dict[str, str]]:
    """Module -> template -> Chinese; beside them what Python says, and single words."""
    found: dict[str, dict[str, str]] = parsed_toml(FILE.read_text(encoding="utf-8"))
    return found


@cache
def templates() -> dict[str, str]:
    """Template without its full stop -> Chinese without it."""
    texts = {k: v for name, table in tables().items() if name not in WORDS for k, v in table.items()}
    return {k.strip().removesuffix("."): v.strip().removesuffix("。") for k, v in texts.items()}


LANGUAGES = {"en": "English", "zh": "中文"}
_speaking: ContextVar[str] = ContextVar("speaking", default="en")


def speak(language: str) -> None:
    """The language of what is printed from here on: "en" or "zh"."""
    _speaking.set(language)


def spoken_language() -> str:
    """ "en" or "zh" """
    return _speaking.get()


def spoken(text: str) -> str:
    """A message in the language that is spoken."""
    return translated(text, _speaking.get())


def spoken_word(text: str) -> str:
    """A single word in the language that is spoken."""
    return translated_word(text, _speaking.get())


def spoken_label(text: str) -> str:
    """A title, header, label or cell of a table in the language that is spoken; its indentation stays."""
    return translated_label(text, _speaking.get())


def translated_label(text: str, language: str) -> str:
    """As ``spoken_label``, in ``language``: a label of [label], else a message.

    >>> translated_label("  step time", "zh"), translated_label("tp2 pp4", "zh")
    ('  每步时间', 'tp2 pp4')
    """
    bare = text.strip()
    if language != "zh" or not bare:
        return text
    plain = str.__str__(bare)
    indent = str.__str__(text)[: str.__str__(text).index(plain)]
    said = tables()["label"].get(plain) or translated(bare, language)
    if said == plain:
        said = next((found for name in ("kind", "part", "words", "operator") if (found := tables()[name].get(plain))), plain)
    return indent + BETWEEN_FIGURES.sub(", ", said)


def translated(text: str, language: str) -> str:
    """A message of the planner in ``language`` ("en", "zh"); what is unknown stays as it is.

    >>> translated(Message("known: {0}", "gpt2"), "zh")
    '已知的有：gpt2'
    """
    if language != "zh":
        return text
    return AFTER_BRACKET.sub("", cleaned(re.sub(r"。(?=[。；，：）])|(?<=[?？])[.。]", "", _said(text))))


def translated_word(text: str, language: str) -> str:
    """A single word (a term of a price, where a value comes from, a part of memory or of a step) in ``language``."""
    return _word(text) if language == "zh" else text


def _word(text: str) -> str:
    name = text.replace(" ", "_")
    return next((found for table in WORDS if (found := tables()[table].get(text) or tables()[table].get(name))), text)


def _said(text: str) -> str:
    if not isinstance(text, Message):
        text = Message(text)
    elif not text.values:
        text = Message(tables()["label"].get(text.strip()) or _word(text.strip()))
    chinese = templates().get(text.key.strip().removesuffix("."))
    made = _composed(text) if chinese is None else BLANK.sub(lambda m: _filled(text.values[int(m[1])], m[2]), chinese)
    for old, new in text.changes:
        made = made.replace(old, _said(new), 1)
    if chinese is None and not any("\u4e00" <= letter <= "\u9fff" for letter in made):
        return made
    made = re.sub(r"[.。]$", "", made)
    return f"{made}。" if text.rstrip().endswith(".") and made[-1:] not in "？?" else made


def _composed(text: Message) -> str:
    """Messages that only marks join: those in Chinese around them; the English where none of them is known."""
    values = [_said(value) for value in text.values]
    if all(new == str.__str__(old) for new, old in zip(values, text.values, strict=True)):
        return str.__str__(text)
    key = text.key
    for mark, chinese in MARKS.items():
        key = key.replace(mark, chinese)
    return BLANK.sub(lambda m: values[int(m[1])], key)


def _filled(value: str, kind: str | None) -> str:
    if kind == "word" and not (isinstance(value, Message) and value.values):
        return _word(value)
    if kind == "choice":
        return value.replace("' or '", "' 或 '").replace(" and ", "、")
    if kind == "list":
        return _said(value).replace("，", "、")
    return _said(value)
