"""Which model of the catalog a name means, as people, hubs and tables write it: "Llama 3 8B", "Qwen/Qwen2.5-7B-Instruct-AWQ".

A name is read as its words: letters that follow each other are one word however they are hyphenated, and so is each number.
It means, in this order: a model of exactly these words; another name of one (``catalog/model_names.toml``); the same without
the words that tell how weights were tuned, released or stored; the only model whose name begins with these words.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from planner.common import data
from planner.common.errors import LONGEST_NAME, PlannerError, near
from planner.common.message import Message
from planner.common.spec import read_table
from planner.model.gguf import is_gguf

CATALOG = data.CATALOG / "models"
HUB = re.compile(r"huggingface\.co/([\w.-]+/[\w.-]+)")
THOUSANDS = re.compile(r"-([1-9]\d{0,3})k$")
"""An ending that may tell a length of context: 128k."""
SHORT_CONTEXTS = (2048, 4096, 8192)
"""That releases with a longer one beside them name: Phi-3-mini-4k."""
Words = tuple[str, ...]


class Meant(NamedTuple):
    """What a name means: a model of the catalog, and how its weights are stored where the name tells ("" where not)."""

    model: str
    weights: str = ""


@cache
def model_files() -> dict[str, Path]:
    """Name -> file of every model of the catalog."""
    return {p.stem: p for p in sorted(CATALOG.glob("*.toml"), key=str)}


@cache
def _table() -> dict[str, Any]:
    return read_table(data.CATALOG / "model_names.toml")


def words_of(name: str) -> Words:
    """The words of a name: letters that follow each other, and numbers, of which 4.0 is 4.

    >>> words_of("meta-llama/Llama-3.1-8B") == words_of("llama3.1 8b")
    True
    >>> words_of("gpt-j-6b"), words_of("llama-30b") == words_of("llama-3-0b")
    (('gptj', '6', 'b'), False)
    """
    plain = latin(name.strip().rstrip("/").rpartition("/")[2].lower()).replace("+", "-plus")
    parts = re.findall(r"\d+(?:\.\d+)*|[a-z]+(?:[\W_]+[a-z]+)*", plain)
    return tuple(re.sub(r"[\W_]+", "", part) if part[0].isalpha() else part.removesuffix(".0") for part in parts)


def latin(name: str) -> str:
    """A family that is written in Chinese, as hubs write it, once.

    >>> latin("通义千问2.5-7b"), latin("智谱GLM-4.5")
    ('qwen2.5-7b', 'GLM-4.5')
    """
    if name.isascii():
        return name
    for written, hub in _table()["chinese"].items():
        if written in name:
            name = name.replace(written, "" if hub in name.lower() else hub)
    return name


@cache
def _by_words() -> dict[Words, str]:
    """Words -> catalog name; of a short name and of the files that the catalog was read from, too."""
    named = {words_of(name): name for name in model_files()}
    others = {words_of(name): model for name, model in _table()["aliases"].items()}
    hubs: dict[Words, str] = {}
    for name, path in sorted(model_files().items(), key=lambda item: (len(item[0]), item[0])):
        match = HUB.search(path.read_text(encoding="utf-8").partition("\n[")[0])
        if match is not None:
            hubs.setdefault(words_of(match[1]), name)
    return {**hubs, **others, **named}


def meant(name: str) -> Meant | None:
    """The model that a name means, or None where it means none or may mean several.

    >>> meant("llama3-8b"), meant("Qwen/Qwen2.5-7B-Instruct-AWQ")
    (Meant(model='llama-3-8b', weights=''), Meant(model='qwen2.5-7b', weights='int4-awq'))
    >>> meant("mixtral") is None and meant("llama-38b") is None
    True
    """
    found = _in_full(name)
    if found is not None or not name or len(name) > 2 * LONGEST_NAME or _why_missing(name) is not None:
        return found
    for text, weights in _shorter(name):
        models = set(_begun(words_of(text)).values())
        if len(models) == 1:
            return Meant(models.pop(), weights)
    return None


def _in_full(name: str) -> Meant | None:
    """The model that a name means by all of its words."""
    if name in model_files():
        return Meant(name)
    if not name or len(name) > 2 * LONGEST_NAME:
        return None
    known = _by_words()
    if words_of(name) not in known and _why_missing(name) is not None:
        return None
    for text, weights in _shorter(name):
        if (found := known.get(words_of(text))) is not None:
            return Meant(found, weights or _stored_by_words().get(words_of(text), ""))
    return None


@cache
def _stored_by_words() -> dict[Words, str]:
    """Words of a name -> format of its own checkpoint, where its model's is another."""
    return {words_of(name): weights for name, weights in _table()["stored"].items()}


def context_named(name: str) -> int | None:
    """Tokens of context that a name tells, where its model's are others: more than those, or a usual short one.

    >>> context_named("zai-org/GLM-4.6-FP8"), context_named("Phi-3-mini-128k-instruct"), context_named("yi-34b-200k")
    (202752, 131072, 200000)
    >>> context_named("glm-4.5") is None and context_named("llama-3.1-8b-q8_0") is None
    True
    """
    own = _contexts()
    if name in model_files() and words_of(name) not in own:
        return None
    for text, _ in _shorter(name):
        words = words_of(text)
        if words in own:
            return own[words]
        if words in _by_words():
            return None
        if (told := _thousands(text)) is not None:
            found = _in_full(name)
            least = 0 if found is None else read_table(model_files()[found.model]).get("context_length", 0)
            return told if told in SHORT_CONTEXTS or told > least else None
    return None


@cache
def _contexts() -> dict[Words, int]:
    """Words of a name -> tokens of its context, where its model's are others."""
    return {words_of(name): int(row["tokens"]) for row in _table()["context"] for name in row["names"]}


def _thousands(text: str) -> int | None:
    """Tokens of an ending in k: a power of two in thousands or in units of 1,024, or a multiple of ten thousand.

    >>> [_thousands(f"-{number}k") for number in (4, 128, 131, 262, 200, 1048)]
    [4096, 131072, 131072, 262144, 200000, 1048576]
    >>> [_thousands(f"-{number}k") for number in (1, 15, 52)]
    [None, None, None]
    """
    found = THOUSANDS.search(text)
    if found is None or int(found[1]) < 2:
        return None
    number = int(found[1])
    power = 1 << (number * 1000).bit_length()
    if number in (power // 1000, power // 1024):
        return power
    return number * 1000 if number % 10 == 0 else None


def is_model(name: str) -> bool:
    """Whether a text names a model in full, or is a config.json or a GGUF; the beginning of a name may be that of something else.

    >>> is_model("Mixtral 8x7B"), is_model("mixtral-8x7b-32xh100-serve"), is_model("chatlaw")
    (True, False, False)
    """
    return name.endswith(".json") or is_gguf(name) or _in_full(name) is not None


def require_meant(name: str) -> Meant:
    """The model that a name means; PlannerError lists those that it may mean, or the near ones."""
    found = meant(name)
    if found is not None:
        return found
    error = PlannerError(
        "model.name = {0!r} {1}. Or give its fields, or a config.json.",
        name,
        unmeant(name),
        code="unknown",
        field="model.name",
        value=name,
    )
    error.remedy = error.remedy or "give its fields, or a config.json"
    raise error


def unmeant(name: str) -> Message:
    """Why a name means no model, and which are near: "may mean any of ...", "is not in the catalog; did you mean ...?"."""
    if (reason := _why_missing(name)) is not None:
        return Message("is known but is not in the catalog: {0}", reason)
    for text, _ in _shorter(name):
        begun = _begun(words_of(text))
        if begun:
            return Message("may mean any of {0}; name one", ", ".join(dict.fromkeys(begun.values())))
    own = latin(name).strip().rstrip("/").rpartition("/")[2].lower()[:LONGEST_NAME]
    kin = _kin(own)
    said = near(own, kin) if kin else ""
    if not said.startswith("did you mean"):
        return Message("is not in the catalog; planner models list --search TEXT finds what is")
    return Message("is not in the catalog; {0}", said)


def _why_missing(name: str) -> Message | None:
    """Why a model that people ask for is not here; a name is known with whatever follows it behind a hyphen or in digits.

    >>> [_why_missing(name) is not None for name in ("Claude Sonnet 4", "claude3", "claudette-7b")]
    [True, True, False]
    """
    plain = name.strip().rstrip("/").rpartition("/")[2].lower()[: 2 * LONGEST_NAME]
    cuts = [cut.start() for cut in re.finditer(r"(?<=[a-z])(?=\d)|(?<=[a-z\d])(?=[-_\s:(])|$", plain)]
    begun = {words_of(plain[:cut]) for cut in cuts}
    named = [words for words in _known() if words in begun]
    return _known()[max(named, key=len)] if named else None


@cache
def _known() -> dict[Words, Message]:
    """Words of a known name -> why it is not here."""
    return {words_of(name): Message(known["reason"]) for known in _table()["known"] for name in known["names"]}


def _kin(name: str) -> list[str]:
    """Models of the catalog whose first word is nearly that of a name: others share letters, not a family."""
    first = re.match(r"[a-z]+", name)
    if first is None:
        return [one for one in model_files() if words_of(name) and " ".join(words_of(name)) in " ".join(words_of(one))]
    own = first[0]

    def like(other: str) -> bool:
        return other.startswith(own) or difflib.SequenceMatcher(None, own, other).ratio() >= 0.65

    return [one for one in model_files() if like((re.match(r"[a-z]+", one) or [""])[0])]


@cache
def _beginnings() -> dict[Words, tuple[str, ...]]:
    """Words -> the names of which they are a beginning; cut where letters meet digits, or at a hyphen."""
    found: dict[Words, dict[str, None]] = {}
    for name in (*model_files(), *_table()["aliases"]):
        for cut in re.finditer(r"(?<=[a-z])(?=\d)|(?<=\d)(?=[a-z])|-", name):
            found.setdefault(words_of(name[: cut.start()]), {})[name] = None
    return {words: tuple(names) for words, names in found.items()}


def _begun(words: Words) -> dict[str, str]:
    """Names that begin with these words and go on -> their models; a number alone begins none."""
    own = _table()["aliases"]
    return {name: own.get(name, name) for name in _beginnings().get(words, ()) if words[0][0].isalpha()}


def _shorter(name: str) -> Iterator[tuple[str, str]]:
    """A name, then the same with ever fewer of the words that change no size: (text, format of the weights)."""
    table = _table()
    text = re.sub(r"\(.*?\)", " ", latin(name).strip().rstrip("/").rpartition("/")[2].lower().removesuffix(".gguf"))
    text = re.sub(r"[\s:_-]+|\.(?=i?q\d_|w\d+a\d)", "-", text).strip("-")
    yield text, ""
    weights = ""
    endings = sorted(table["formats"], key=len, reverse=True)
    released = table["released"]
    while True:
        ending = next((one for one in endings if text.endswith(f"-{one}")), None)
        if ending is not None:
            weights = weights or table["formats"][ending]
        elif _thousands(text) is not None:
            ending = text.rpartition("-")[2]
        else:
            ending = next((one for one in ["gguf", *released, *table["tuned"]] if text.endswith(f"-{one}")), None)
        if ending is None:
            break
        text = text.removesuffix(f"-{ending}")
        yield text, weights
    plain = "-".join(word for word in text.split("-") if word not in table["tuned"])
    if plain not in ("", text):
        yield plain, weights
