"""The code blocks of the documentation: each page's commands and programs are run, and what they print stands below them.

``python -m doctools.blocks`` checks every page, ``--write`` writes what is printed today. A page's blocks run one after the
other in an empty folder of its own, at 80 columns:

- ``console``: lines that begin with "$ " are commands of planner; what follows is what they print;
- ``toml title="NAME"``: a file of that name; without a title the block must be valid TOML;
- ``python``: run, all of a page in one namespace; a ``text`` block behind it is what it prints;
- ``sh``: lines that begin with "planner" are read by its own parser, not run: they name files that only the reader has.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from doctools import AS_OF
from doctools.figures import with_figures
from planner.cli.main import COMMANDS, app, main
from planner.common import clock

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^(?P<mark>```)(?P<language>\w+)(?P<rest>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')


GENERATED = ("accuracy.md", "accuracy-finetune.md", "accuracy-serving.md", "audit.md", "audit.zh.md", "gpu-hours.md")
"""Pages that commands write whole."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block: where its body stands in the page."""

    language: str
    title: str
    body: str
    start: int
    end: int


def pages() -> list[Path]:
    """The pages whose blocks are run: all but the generated ones and the Chinese ones, whose blocks are the same."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    generated = {ROOT / "docs" / name for name in GENERATED}
    return [path for path in found if "zh" not in path.relative_to(ROOT).parts and path not in generated]


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page, in order."""
    found = []
    for match in FENCE.finditer(text):
        title = TITLE.search(match["rest"])
        found.append(
            Block(
                language=match["language"],
                title=title[1] if title else "",
                body=match["body"],
                start=match.start("body"),
                end=match.end("body"),
            )
        )
    return found


def run_page(text: str) -> str:
    """The page with what its blocks print today. Raises AssertionError for a block that does not run."""
    blocks = blocks_of(text)
    changes: list[tuple[int, int, str]] = []
    namespace: dict[str, object] = {"__name__": "page"}
    with _empty_folder():
        printed = ""
        for block in blocks:
            if block.language == "console":
                changes.append((block.start, block.end, _console(block.body)))
            elif block.language == "toml":
                tomllib.loads(block.body)
                if block.title:
                    Path(block.title).write_text(block.body, encoding="utf-8")
            elif block.language == "python":
                printed = _python(block.body, namespace)
            elif block.language == "text" and printed:
                changes.append((block.start, block.end, printed))
                printed = ""
            elif block.language == "sh":
                _shell(block.body)
        for start, end, body in reversed(changes):
            text = text[:start] + body + text[end:]
        return with_figures(text)


@contextlib.contextmanager
def _empty_folder() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"COLUMNS": "80", clock.VARIABLE: AS_OF}):
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def commands_of(body: str) -> list[str]:
    """The commands of a console block, continued lines joined as they stand."""
    return re.findall(r"^\$ ((?:[^\n]*\\\n)*[^\n]*)", body, re.MULTILINE)


def _console(body: str) -> str:
    parts = []
    for command in commands_of(body):
        parts.append(f"$ {command}\n{_printed(command)}")
    return "".join(parts)


def _printed(command: str) -> str:
    """What a command prints, on both streams; the lines that "| head -N" keeps."""
    words = shlex.split(command.replace("\\\n", " "), comments=True)
    keep = None
    if "|" in words:
        at = words.index("|")
        words, pipe = words[:at], words[at + 1 :]
        assert pipe[0] == "head", f"{command}: only head is known"
        keep = -int(pipe[1])
    if words[0] == "cat":
        return "".join(Path(name).read_text(encoding="utf-8") for name in words[1:])
    assert words[0] == "planner", f"{command}: is no command of planner"
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(words[1:])
        except SystemExit as stop:
            code = stop.code
    assert code in (0, 2), f"{command}: exit code {code}\n{out.getvalue()}"
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "".join(f"{line}\n" for line in lines[:keep])


def _python(body: str, namespace: dict[str, object]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(body, "page", "exec"), namespace)
    return out.getvalue()


def _shell(body: str) -> None:
    import typer

    group = typer.main.get_command(app)
    for line in body.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix(".venv/bin/"), comments=True)
        if words[:1] != ["planner"] or len(words) < 2 or words[1].startswith("-"):
            continue
        assert words[1] in COMMANDS, f"{line}: no such command"
        words = words[: words.index("|")] if "|" in words else words
        with group.make_context("planner", words[1:]) as context:
            _parsed(context, group)


def _parsed(context: object, group: object) -> None:
    """Reads the arguments of a command, and of a command in it; the parser raises what it would raise for a user."""
    command: object = group
    while hasattr(command, "resolve_command"):
        given = [*context._protected_args, *context.args] if hasattr(context, "_protected_args") else context.args  # type: ignore[attr-defined]
        if not given:
            return
        name, command, rest = command.resolve_command(context, list(given))  # type: ignore[attr-defined]
        context = command.make_context(name, rest, parent=context)  # type: ignore[attr-defined]


def translated(path: Path) -> Path | None:
    """The Chinese page of a page, where there is one."""
    if path == ROOT / "README.md":
        return ROOT / "README.zh.md"
    found = ROOT / "docs" / "zh" / path.relative_to(ROOT / "docs")
    return found if found.is_file() else None


def with_blocks_of(text: str, original: str) -> str:
    """A translated page with the blocks of the original, which are the same in the same order."""
    mine, theirs = blocks_of(text), blocks_of(original)
    assert [(b.language, b.title) for b in mine] == [(b.language, b.title) for b in theirs], "other blocks than the original"
    for here, there in zip(reversed(mine), reversed(theirs), strict=True):
        text = text[: here.start] + there.body + text[here.end :]
    return with_figures(text, "zh")


def check(write: bool, paths: list[Path] | None = None) -> list[str]:
    """The pages that say what is not printed today; ``write`` corrects them."""
    wrong = []
    for path in pages() if paths is None else paths:
        text = path.read_text(encoding="utf-8")
        today = run_page(text)
        wrong += _differs(path, text, today, write)
        chinese = translated(path)
        if chinese is not None:
            text = chinese.read_text(encoding="utf-8")
            wrong += _differs(chinese, text, with_blocks_of(text, today), write)
    return wrong


def _differs(path: Path, text: str, today: str, write: bool) -> list[str]:
    if today != text and write:
        path.write_text(today, encoding="utf-8")
    return [str(path.relative_to(ROOT))] if today != text else []


if __name__ == "__main__":
    found = check("--write" in sys.argv)
    print("\n".join(found) or "every page says what is printed today")
    sys.exit(bool(found) and "--write" not in sys.argv)
