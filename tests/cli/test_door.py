"""The door: help that fits, commands found by what people want, errors that programs can read."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from command_line import GOOD, Run
from rich.cells import cell_len

from planner.cli import output
from planner.cli.main import COMMANDS, GROUPS
from planner.common.errors import PlannerError
from planner.common.version import VERSION


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_help_page_is_whole_at_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Nothing is cut, and the usage line names the arguments as they are typed."""
    monkeypatch.setenv("COLUMNS", "80")
    pages = [run(name, "--help")[1]]
    _, mark, listed = pages[0].partition("\nCommands:\n")
    pages += [run(name, found[1], "--help")[1] for found in re.finditer(r"^  (\w+)  ", listed, re.MULTILINE)] if mark else []
    assert len(pages) > 1 or not mark
    for page in pages:
        assert all(len(line) <= 80 for line in page.splitlines())
        usage, _, rest = page.partition("\n")
        assert not re.search(r"\w\.\.\.$", rest, re.MULTILINE), page
        assert not re.search(r"[{}]|\[\[|\[\]", usage), usage


def test_help_names_every_command_once_and_fits_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "..." not in out.partition("\n")[2]
    lines = [line.split() for line in out.splitlines() if line.startswith("  ")]
    for title, commands in GROUPS.items():
        assert f"{title}:" in out
        for name, (_, text) in commands.items():
            assert [name, *text.split()] in lines


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(("columns", "width"), [("", 72), ("60", 60)])
def test_an_error_is_a_paragraph_on_a_terminal_and_one_line_in_a_pipe(language: str, columns: str, width: int) -> None:
    """As wide as the terminal, which ``COLUMNS`` overrides; words and options are not broken."""
    command = [sys.executable, "-m", "planner", "--lang", language, "plan", "lama-3-8b", "--on", "8xh100"]
    environment = {**os.environ, "COLUMNS": columns}
    piped = subprocess.run(command, capture_output=True, text=True, env=environment).stderr
    assert piped.count("\n") == 1
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 72))
    shown = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    assert shown.wait() == 2
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        lines = terminal.read(65536).decode().splitlines()
    assert len(lines) > 2
    assert max(map(cell_len, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(piped.split())
    assert all(line.startswith("  ") for line in lines[1:])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_by_either_option(name: str, run: Run) -> None:
    code, out, err = run(name, "-h")
    assert (code, err) == (0, "")
    assert out == run(name, "--help")[1]
    assert out.startswith(f"Usage: planner {name} ")


def test_commands_are_imported_when_they_are_asked_for() -> None:
    code = """
import sys
from planner.cli.main import main
try:
    main(["--version"])
except SystemExit:
    pass
print([m for m in ("numpy", "pandas", "pydantic", "planner.cli.plans") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"planner {VERSION}", "[]"]


def test_one_answer_imports_no_library_for_tables_statistics_or_pictures() -> None:
    code = """
import sys
from planner.cli.main import main
sys.argv = ["planner", "plan", "gpt2", "--on", "rtx-3070", "--seq-len", "1k"]
try:
    main()
except SystemExit:
    pass
print([m for m in ("scipy", "pandas", "pyarrow", "matplotlib", "torch") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("gpt2, pre-training, on rtx-3070")
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plna",), "unknown command 'plna'; did you mean plan?"),
        (("plan", "--layuot", "x"), "`planner plan --help` lists what it takes"),
        (("plan",), "Missing argument"),
        (("search", "chatlaw2-moe", "--top", "many"), "--top = 'many': must be a whole number"),
        (("scenarios", "show", "chatlaw"), "did you mean chatlaw2-moe"),
        (("engines", "show", "vlm"), "did you mean vllm"),
    ],
)
def test_a_mistyped_command_ends_with_one_line(arguments: tuple[str, ...], words: str, run: Run) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_with_json_an_error_is_json_on_standard_error(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "q.toml"
    path.write_text(GOOD.replace("tp = 2", "tp = 0"), encoding="utf-8")
    code, out, err = run("plan", path, "--json")
    found = json.loads(err)
    assert (code, out, found["schema_version"]) == (2, "", 1)
    assert set(found["error"]) == {"code", "message", "field", "value", "remedy"}
    assert found["error"]["message"] == run("plan", path)[2].removeprefix("error: ").strip()
    assert json.loads(run("plan", "--nope", "--json")[2])["error"]["code"] == "usage"


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "llama-3-70b-h100"),
        ("models", "list"),
        ("hardware", "list"),
        ("scenarios", "list"),
        ("frameworks", "list"),
        ("engines", "show", "vllm"),
        ("prices", "list"),
    ],
)
def test_json_is_an_object_that_begins_with_its_schema(arguments: tuple[str, ...], run: Run) -> None:
    found = json.loads(run(*arguments, "--json")[1])
    assert next(iter(found)) == "schema_version"
    assert isinstance(found["schema_version"], int)


def test_json_is_printed_in_one_place() -> None:
    """So that every command's begins with its schema."""
    printing = {
        path.name for path in Path(output.__file__).parent.glob("*.py") if "json.dump" in path.read_text(encoding="utf-8")
    }
    assert printing == {"output.py", "main.py", "progress.py"}  # the answer, an error, progress


def test_a_closed_pipe_and_a_full_disk_end_quietly() -> None:
    command = f"{sys.executable} -m planner models list"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    full = subprocess.run(["bash", "-c", f"{command} > /dev/full"], capture_output=True, text=True, check=False)
    assert full.returncode == 2
    assert full.stderr.startswith("error: standard output: cannot be written")
    assert "Traceback" not in full.stderr


def test_an_error_keeps_what_it_knows_when_a_place_is_put_before_it() -> None:
    error = PlannerError(
        "job.seq_len = 0: must be positive.", code="range", field="job.seq_len", value=0, remedy="a positive number"
    )
    placed = error.placed("q.toml")
    assert str(placed) == "q.toml: job.seq_len = 0: must be positive."
    assert {**placed.to_dict(), "message": ""} == {**error.to_dict(), "message": ""}
