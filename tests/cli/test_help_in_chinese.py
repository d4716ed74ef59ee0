"""``--help --lang zh``: every command, option and heading in Chinese, each line whole at 80 columns; in English as it was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from command_line import Run
from rich.cells import cell_len

from planner.cli.main import GROUPS, app
from planner.common import translation

CHINESE = re.compile(r"[\u4e00-\u9fff]")


def commands() -> Iterator[tuple[str, Any]]:
    """(words of the command line, the command) of each."""

    def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        yield path, command
        for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
            yield from walk(command.get_command(None, name), f"{path} {name}".strip())

    return walk(typer.main.get_command(app), "")


def paragraphs() -> Iterator[tuple[str, str]]:
    """(command, text) of every sentence of the help; examples aside."""
    for path, command in commands():
        for part in (command.help or "").split("\n\n"):
            if not part.startswith(("\b", "planner debug", "planner own")):
                yield path, " ".join(part.split())
        for option in command.params:
            yield path, getattr(option, "help", None) or ""
    for title, group in GROUPS.items():
        yield title, title
        yield from ((name, text) for name, (_, text) in group.items())


def test_every_sentence_of_the_help_has_its_chinese_and_none_is_gone() -> None:
    known = translation.tables()["help"]
    told = {text for _, text in paragraphs() if text}
    values = ("32xh100, ", "h100, 2x", "bf16, ", "on-demand, spot, ")
    missing = sorted(text for text in told if text not in known and not text.startswith(values))
    assert not missing, f"ADD to [help] in planner/common/messages.zh.toml: {missing}"
    of_the_parser = {"Options", "Commands", "Arguments", "Show this message and exit."}
    stale = sorted(set(known) - told - of_the_parser)
    assert not stale, f"REMOVE from [help] in planner/common/messages.zh.toml: {stale}"


@pytest.mark.parametrize("path", [path for path, _ in commands()])
def test_the_help_of_a_command_is_chinese_and_fits(run: Run, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, said, _ = run(*path.split(), "--help", "--lang", "zh")
    assert code == 0
    assert said.startswith("用法：planner")
    for line in said.splitlines():
        assert cell_len(line) <= 80, line
        assert not re.search(r"\b[a-z]{2,} (?:the|of|and|is|are|a|an) [a-z]{2,}", line), line
    code, english, _ = run(*path.split(), "--help")
    assert (code, CHINESE.search(english.replace("中文", ""))) == (0, None)
    assert re.findall(r"(?m)^  (-[\w-]+)", said) == re.findall(r"(?m)^  (-[\w-]+)", english)
