"""Messages keep their templates: in other messages, in errors, through a pickle; Chinese is looked up, no sentence is parsed."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from message_templates import PLANNER

from planner.common.errors import PlannerError, near, one_of
from planner.common.message import Message, join_messages, of_python
from planner.common.translation import templates, translated
from planner.prices.price import Price

ERRORS = {"PlannerError", "ValueError"}
SEPARATED = re.compile(r"[\w}] = \{[^{}]*:[^{}]*,[^{}]*\}")
"""The value of a field with separators."""
UNSEPARATED = re.compile(
    r"\{(\d+)(?::(?:d|g|\.\d+f|\.[4-9]g))?\} (?:tokens|sequences|requests|positions|words|parameters|layouts|rows)\b"
)
"""A number without separators, and what it counts."""
NUMBERS_IN_WORDS = {"count", "_number", "_sure"}
"""Functions that write a number as text for people."""
Source = Mapping[Path, Sequence[ast.Call | ast.JoinedStr]]


@pytest.fixture(scope="module")
def source() -> Source:
    """Calls and f-strings of every module, parsed once."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PLANNER.rglob("*.py"))}
    return {path: [n for n in ast.walk(tree) if isinstance(n, ast.Call | ast.JoinedStr)] for path, tree in trees.items()}


def test_an_errors_words_are_a_template_and_its_values_are_arguments(source: Source) -> None:
    """An f-string under an error is a sentence that can be said in English only."""
    bad = []
    for path, nodes in source.items():
        for node in nodes:
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS and node.args:
                blanks = [n for n in ast.walk(node.args[0]) if isinstance(n, ast.JoinedStr) and len(n.values) > 1]
                bad += [f"{path.relative_to(PLANNER)}:{one.lineno}" for one in blanks]
    assert not bad, "write PlannerError('{0} ...', value), or Message(...) within: " + ", ".join(bad)


def test_the_words_of_a_note_or_a_reason_are_a_template_too(source: Source) -> None:
    """What is appended to ``notes`` or ``reasons``, or given as ``why``, is shown in the reader's language.

    The page's own texts come from its table of words.
    """
    bad = []
    for path, nodes in source.items():
        for node in nodes if "web" not in path.parts else ():
            if not isinstance(node, ast.Call):
                continue
            said = [word.value for word in node.keywords if word.arg == "why"]
            if isinstance(node.func, ast.Attribute) and node.func.attr == "append":
                to = node.func.value
                named = to.id if isinstance(to, ast.Name) else to.attr if isinstance(to, ast.Attribute) else ""
                said += node.args if named in ("notes", "reasons") else []
            blanks = [n for one in said for n in ast.walk(one) if isinstance(n, ast.JoinedStr) and len(n.values) > 1]
            bad += [f"{path.relative_to(PLANNER)}:{one.lineno}" for one in blanks]
    assert not bad, "write Message('{0} ...', value): " + ", ".join(bad)


@pytest.mark.parametrize(
    "package",
    [
        "lifecycle",
        "operators",
        "performance",
        "prices",
        "serving",
        "studies",
        "training",
        "uncertainty",
        "workload",
    ],
)
def test_no_sentence_of_a_numeric_package_is_an_fstring(package: str, source: Source) -> None:
    """Whatever it is returned through: seven words with a blank among them are a sentence, and could be said in English only."""
    bad = []
    for path, nodes in source.items():
        for node in nodes if path.is_relative_to(PLANNER / package) else ():
            if isinstance(node, ast.JoinedStr) and len(node.values) > 1:
                text = " ".join(part.value for part in node.values if isinstance(part, ast.Constant))
                if len(re.findall(r"\b[a-z]{2,}\b", text)) >= 7:
                    bad.append(f"{path.relative_to(PLANNER)}:{node.lineno}")
    assert not bad, "write Message('{0} ...', value): " + ", ".join(bad)


def test_the_value_of_a_field_is_as_a_file_takes_it() -> None:
    """``serving.max_context = 8,192`` is no TOML: separators are for numbers within the words."""
    bad = []
    for path in sorted(PLANNER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                text = ast.unparse(node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            bad += [f"{path.relative_to(PLANNER)}:{node.lineno}: {one}" for one in SEPARATED.findall(text)]
    assert not bad, "write {0} after the name of a field: " + ", ".join(bad)


def test_numbers_within_the_words_have_separators() -> None:
    """131,072 tokens are read at a glance, 131072 are not; three digits (``{0:.3g}``) are written so by ``Message``."""
    bad = []
    for path in sorted(PLANNER.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        texts = {
            target.id
            for node in nodes
            if isinstance(node, ast.Assign) and _is_text(node.value, set())
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        shown: set[tuple[int, str]] = set()  # blanks that text stands in: id of the template, number
        for node in nodes:
            if isinstance(node, ast.Call) and node.args:
                arguments = {str(i) for i, value in enumerate(node.args[1:]) if _is_text(value, texts)}
                shown |= {(id(node.args[0]), number) for number in arguments}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found = [m for m in UNSEPARATED.finditer(node.value) if (id(node), m[1]) not in shown]
                bad += [f"{path.relative_to(PLANNER)}:{node.lineno}: {m[0]}" for m in found]
    assert not bad, "write {0:,}: " + ", ".join(bad)


def _is_text(value: ast.expr, texts: set[str]) -> bool:
    """Whether a value is a number in words already, by the functions that make it."""
    called = value.func.id if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) else ""
    return called in NUMBERS_IN_WORDS or (isinstance(value, ast.Name) and value.id in texts)


def nested() -> PlannerError:
    inner = PlannerError("field {0} is missing", "seq_len")
    return PlannerError("{0}: {1}.", "a.toml", join_messages("; ", [str(inner), Message("known: {0}", "x, y")]))


@pytest.mark.parametrize("error", [nested(), pickle.loads(pickle.dumps(nested())), nested().placed("b")])
def test_messages_within_messages_are_said_in_chinese(error: PlannerError) -> None:
    assert str(error).endswith("a.toml: field seq_len is missing; known: x, y.")
    assert translated(str(error), "zh").endswith("a.toml：缺少字段 seq_len；已知的有：x, y。")
    assert translated(str(error), "en") == str(error)


def test_what_only_looks_like_a_message_of_ours_stays() -> None:
    """A user's own text that reads like a template is no template: nothing is parsed."""
    assert translated("field seq_len is missing", "zh") == "field seq_len is missing"
    assert translated(Message("field {0} is missing", "field x is missing"), "zh") == "缺少字段 field x is missing"


def test_names_exchanged_afterwards_and_cut_ends_hold_in_both_languages() -> None:
    text = Message("{0} = {1!r}: must be text, a name in quotes.", "job.name", 3)
    assert text.replace("job.name", "name").rstrip(".") == "name = 3: must be text, a name in quotes"
    assert translated(text.replace("job.name", "name").rstrip("."), "zh") == "name = 3：必须是文本，即带引号的名称"
    assert "before " + text == "before job.name = 3: must be text, a name in quotes."
    assert translated("before " + text, "zh") == "before job.name = 3：必须是文本，即带引号的名称。"


def test_a_value_is_taken_as_it_is() -> None:
    """Braces of a user's text are no blanks, in either language."""
    text = Message("field {0} is missing", "{0} {nope} %s")
    assert text == "field {0} {nope} %s is missing"
    assert translated(text, "zh") == "缺少字段 {0} {nope} %s"
    assert str(PlannerError("set {a} aside")) == "set {a} aside"


def test_an_error_names_field_value_and_remedy_of_its_template() -> None:
    error = PlannerError(
        "{0}: {1}", "s.toml", PlannerError("layout.tp = {0}: does not divide {1}; use one of {2}.", 3, 32, "1, 2")
    )
    assert (error.field, error.value, error.remedy) == ("layout.tp", 3, "use one of 1, 2")
    assert json.loads(json.dumps(error.to_dict()))["message"] == "s.toml: layout.tp = 3: does not divide 32; use one of 1, 2."


@pytest.mark.parametrize("name", ["fsdpp", "nothing like it"])
def test_names_that_would_be_right_are_the_remedy(name: str) -> None:
    """Near names, all of a few, or the first of many."""
    for listed in (near(name, ["fsdp", "ddp"]), one_of(name, ["fsdp", "ddp"]), near(name, (f"x{i}" for i in range(50)))):
        error = PlannerError("framework.name = {0!r}: is not known; {1}.", name, listed)
        assert (error.code, error.field, error.value, error.remedy) == ("unknown", "framework.name", name, listed)


def test_what_python_says_of_json_and_toml_is_translated() -> None:
    for bad in ("", "[1 2]", '{"a" 1}', "{a}", "[1] 2", '"x'):
        with pytest.raises(json.JSONDecodeError) as raised:
            json.loads(bad)
        message = of_python(raised.value)
        assert message == str(raised.value)
        assert message.values[0] in templates(), message


INTERVAL = Message("{0} ({1} to {2})", 142, 82.2, 267)
QUOTE = Price(usd_per_gpu_hour=2.0, term="on-demand", provider="X", region="r", date="2026-09-19").describe()


@pytest.mark.parametrize(
    ("said", "chinese"),
    [
        (Message("{0} tokens/s, {1} requests/s", INTERVAL, 3), "142（82.2 至 267）tokens/s，3 请求/s"),
        (Message("{0}; {1}", QUOTE, 1), "X 按需，r，2026-09-19；1"),
    ],
)
def test_chinese_has_its_own_commas_and_no_blank_behind_its_brackets(said: Message, chinese: str) -> None:
    assert translated(said, "zh") == chinese


def test_a_message_in_a_blank_stays_one_though_the_same_words_came_before() -> None:
    words, message = "142 tokens", Message("{0} tokens", "142")
    assert words == message
    assert type(Message("{0}: {1}", "x", words).values[1]) is str
    assert Message("{0}: {1}", "x", message).values[1] is message
    assert Message("{0}: {1}", "x", words) is Message("{0}: {1}", "x", words)


def test_a_message_is_not_copied() -> None:
    """It never changes; with every part of a table pandas copies what stands beside it."""
    said = Message("{0} = {1}", "a", 1)
    assert copy.deepcopy([said])[0] is said


def test_what_is_listed_in_chinese_has_its_comma() -> None:
    listed = join_messages(", ", [Message("{0} on {1}", "bf16", "h100"), Message("{0} on {1}", "fp16", "v100")])
    assert translated(Message("precision, as usual: {0}", listed), "zh") == "按常用值，精度为：h100 用 bf16、v100 用 fp16"
