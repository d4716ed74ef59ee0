"""Every command that writes, in the middle of it and on a full disk: the old file stays, and nothing is left beside it."""

from __future__ import annotations

import ast
import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from command_line import Run
from places import DATA, ROOT

from kernels import record as records
from planner.cli import measure as measure_command
from planner.cli import measured as measured_commands
from planner.cli.main import GROUPS
from planner.cli.serving_measured import fit_serving
from planner.common.errors import PlannerError
from planner.evidence import write_fit
from planner.evidence.fit_sets import fit_set
from planner.reports import serving_accuracy
from planner.reports.pictures import pyplot, save_figure

GPT2 = ("gpt2", "--on", "8xl4", "--tokens", "1M")
COMMANDS: dict[str, tuple[str, ...]] = {
    "plan": ("plan", *GPT2, "--write", "q.toml"),
    "plan's picture": ("plan", *GPT2, "--plot", "p.png"),
    "plan of a launch file": ("plan", "--from", "../serve.sh", "--on", "2xa10", "--write", "q.toml"),
    "compare": ("compare", "gpt2", "--on", "8xl4,8xa10", "--tokens", "1M", "--plot", "p.svg"),
    "run": ("run", *GPT2, "--months", "m.csv", "--focus", "f.csv", "--xlsx", "b.xlsx", "--plot", "p.png"),
    "search": ("search", *GPT2, "--out", "s.csv"),
    "search in parquet": ("search", *GPT2, "--out", "s.parquet"),
    "sweep": ("sweep", *GPT2, "--vary", "job.seq_len=512,1024", "--out", "s.json", "--plot", "p.png"),
    "serve": ("serve", "gpt2", "--on", "l4", "--plot", "p.png"),
    "export": ("export", *GPT2, "--to", "megatron", "--out", "files"),
    "own": ("own", "8xa10", "--out", "o.csv", "--plot", "o.png"),
    "trace": ("trace", *GPT2[:3], "--out", "t.json", "--memory", "m.csv"),
    "init": ("init", *GPT2, "--output", "q.toml"),
    "audit": ("audit", "--markdown", "a.md"),
    "validate": ("validate", str(DATA / "korthikanti2022.csv"), "--out", "v.csv", "--plot", "v.png"),
    "calibrate": ("calibrate", str(DATA / "cpu-record.json"), "--out", "cpu.toml"),
    "models import": ("models", "import", "../config.json", "--out", "m.toml"),
    "models derive": ("models", "derive", "gpt2", "--drop-layers", "0", "--out", "m.toml"),
    "prices import": ("prices", "import", "../quotes.csv"),
    "kernels run": (),
    "fit": (),
    "fit of serving": (),
    "fit's report": ("fit", "--report", "r.md"),
    "report of a fit of serving": (),
    "measure": ("measure", "--out", "."),
}
READ = {("measure", "--scenario"), ("measured", "--scenario"), ("search", "--rows")}
"""Options that name a file which is read: of a module of the command line."""
MODULES = {
    **{command: place.partition(":")[0] for commands in GROUPS.values() for command, (place, _) in commands.items()},
    "models import": "models",
    "models derive": "tuning",
}
TOGETHER = ("export", "calibrate", "fit", "fit of serving")
"""Commands whose files belong together: all change, or none does."""
CONFIG = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 128, "n_embd": 64, "n_layer": 2, "n_head": 4,
    "n_positions": 64, "n_inner": None, "activation_function": "gelu_new", "tie_word_embeddings": True,
}  # fmt: skip
QUOTES = (
    "accelerator,provider,item,term,usd_per_gpu_hour,num_gpus_per_instance,region,date,source\n"
    "l4,Acme,acme-1,on-demand,0.5,1,,2026-11-01,acme.example/prices\n"
)
NEVER_REPLACE = ("plan", "plan of a launch file", "init")
"""A scenario is somebody's work: one that exists is not written over."""
FORMS = {"to_csv", "to_parquet", "to_excel", "to_json", "savefig", "write_bytes", "ExcelWriter"}
WHOLE = {"common/files.py", "common/tables.py", "common/parsed.py", "reports/pictures.py", "evidence/write_fit.py"}
"""Modules that write what ``write_whole`` puts in place, or a cache with a checksum."""


def record(folder: Path, _: pytest.MonkeyPatch) -> int:
    """What the harness does after every few seconds of measuring."""
    try:
        records.write(records.read(DATA / "cpu-record.json"), folder / "r.json")
    except OSError:
        return 2
    return 0


def fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """What a fit does after minutes: constants, the model of errors and a table, which belong together."""
    monkeypatch.setattr(write_fit, "constants_written", lambda *_: {folder / "a.toml": "new", folder / "b.toml": "new"})
    monkeypatch.setattr(write_fit, "uncertainty_text", lambda *_: "new")
    monkeypatch.setattr(write_fit, "load_held_out", lambda: None)
    for name, file in (("UNCERTAINTY", "u.toml"), ("TABLE", "t.parquet")):
        monkeypatch.setattr(write_fit, name, folder / file)
    given: Any = write_fit.write_fit
    return said(lambda: given(None, pd.DataFrame({"a": [1.0]}), [], command="fit", source="s", date="2026-11-30"))


def report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """What a fit tells of itself, page and picture."""
    monkeypatch.setattr("planner.reports.accuracy.report", lambda *_, **__: "new")
    monkeypatch.setattr("planner.reports.accuracy.save_picture", lambda _, path: save_figure(pyplot().figure(), path))
    given: Any = measured_commands._write_report
    return said(lambda: given(None, [], "fit", fit_set("training"), folder / "r.md"))


def serving_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The same of serving: constants, the model of errors and classes of memory belong together."""
    monkeypatch.setattr(serving_accuracy, "constants_written", lambda *_: {folder / "a.toml": "new", folder / "b.toml": "new"})
    for name, file in (("RESIDUALS", "r.toml"), ("SERVING_UNCERTAINTY", "u.toml")):
        monkeypatch.setattr(serving_accuracy, name, folder / file)
    found: Any = SimpleNamespace(found=None, classes=(), held=())
    return said(lambda: serving_accuracy.write_constants(found, "s"))


def serving_report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Page and picture of a fit of serving, through the command itself."""
    answer = ServingAnswer(
        found=SimpleNamespace(constants=(), values=SimpleNamespace(values=()), residuals=()), runs=(), refused=()
    )
    monkeypatch.setattr("planner.evidence.serving.runs.read_serving_runs", lambda _: ([None], []))
    monkeypatch.setattr("planner.evidence.serving.study.study", lambda *_: answer)
    monkeypatch.setattr(serving_accuracy, "report", lambda *_: "new")
    monkeypatch.setattr(serving_accuracy, "save_picture", lambda path, _: save_figure(pyplot().figure(), path))
    return said(lambda: fit_serving([Path("s.csv")], folder / "r.md", True))


@dataclass(frozen=True)
class ServingAnswer:
    """What a fit of serving tells of itself, of no measurement."""

    found: Any
    runs: tuple[Any, ...]
    refused: tuple[Any, ...]


def measure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """What ``planner measure`` tells after its minutes, page and picture."""
    monkeypatch.setattr("planner.reports.measured.page", lambda *_: "new")
    monkeypatch.setattr("planner.reports.measured.save_picture", lambda path, _: save_figure(pyplot().figure(), path))
    monkeypatch.setattr("planner.calibration.measuring.to_json", lambda _: {})
    given: Any = measure_command._finish
    return said(lambda: given(None, folder, None, True))


def said(write: Callable[[], object]) -> int:
    try:
        write()
    except PlannerError:
        return 2
    return 0


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def filled(folder: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, bytes]]:
    """Let a disk take so many files more; what the folder holds each time that a file is to be on it, as that happens."""
    seen: list[dict[str, bytes]] = []

    def full(_: int) -> None:
        seen.append(files(folder))
        if len(seen) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    return seen


MADE_HERE: dict[str, Callable[[Path, pytest.MonkeyPatch], int]] = {
    "kernels run": record,
    "fit": fit,
    "fit of serving": serving_fit,
    "fit's report": report,
    "report of a fit of serving": serving_report,
    "measure": measure,
}
"""What takes minutes: its end alone."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_and_a_full_disk_leave_the_old_files(
    name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    """Until its bytes are on the disk, a new file stands beside the old one under a name of its own, as a killed process leaves
    it. A disk that does not take them ends the command in words, and nothing is left."""
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "quotes.csv").write_text(QUOTES)
    (tmp_path / "serve.sh").write_text("vllm serve openai-community/gpt2 --tensor-parallel-size 2\n")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PLANNER_PRICES", str(folder / "prices.csv"))
    if name == "audit":
        readings = request.getfixturevalue("readings")
        monkeypatch.setattr("planner.audit.verdicts.audit_articles", lambda *_: readings)

    def ask() -> tuple[int, str]:
        if name in MADE_HERE:
            return MADE_HERE[name](folder, monkeypatch), "No space left on device"
        code, _, err = run(*COMMANDS[name])
        return code, err

    code, said = ask()
    assert code == 0, said
    old = {made: b"" if made == "prices.csv" else b"old" for made in files(folder)}  # an empty table of quotes is one, too
    assert old, "the command wrote nothing"
    if name in NEVER_REPLACE:
        assert ask()[0] == 2
        for made in list(old):
            (folder / made).unlink()
            del old[made]
    for made, content in old.items():
        (folder / made).write_bytes(content)
    for room in range(len(old) if name in TOGETHER else 1):
        seen = filled(folder, room, monkeypatch)
        code, said = ask()
        assert len(seen) == room + 1, "nothing waited until its bytes were on the disk"
        for then in seen:
            assert {made: then[made] for made in old} == old
            assert {Path(made).name[0] for made in then.keys() - old.keys()} == {"."}
        assert code == 2
        assert "No space left on device" in said
        assert files(folder) == old


def test_each_option_that_names_a_file_is_of_one_that_is_read_or_of_a_command_that_is_killed_here() -> None:
    """Whatever a command writes to, the test above writes to."""
    tried = {
        (MODULES[command], word)
        for name, words in COMMANDS.items()
        for command in (name if name in MODULES else words[0] if words else name,)
        if command in MODULES
        for word in words
    }
    options = dict.fromkeys(option for path in sorted((ROOT / "planner" / "cli").glob("*.py")) for option in path_options(path))
    assert len(options) > 20
    missing = {option[:2] for option in options if not any((option[0], word) in tried for word in option[1:])}
    assert missing == READ


def path_options(module: Path) -> Iterator[tuple[str, ...]]:
    """Module and names of each option of the command line whose value is a path."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        declared = node.value if isinstance(node, ast.Assign) else getattr(node, "annotation", None)
        inside = list(ast.walk(declared)) if declared is not None else []
        if any(isinstance(one, ast.Name) and one.id == "Path" for one in inside):
            for call in inside:
                if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "Option":
                    names = [one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                    yield (module.stem, *names)


def test_whatever_is_written_goes_through_one_function() -> None:
    """No module of the planner opens a file to write it, but those that fill a temporary file, or one in a temporary folder."""
    others = []
    for path in sorted((ROOT / "planner").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            form = getattr(node.func, "attr", "")
            opened = getattr(node.func, "id", form) == "open" and any(
                isinstance(one, ast.Constant) and one.value in ("w", "wb", "a", "ab", "x", "xb", "r+")
                for one in (*node.args, *(word.value for word in node.keywords))
            )
            to_text = form in ("to_csv", "to_json") and not node.args and not any(w.arg == "path_or_buf" for w in node.keywords)
            text = form == "write_text" and isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Call)
            if (opened or text or (form in FORMS and not to_text)) and str(path.relative_to(ROOT / "planner")) not in WHOLE:
                others.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert [place.partition(":")[0] for place in others] == ["planner/web/answers.py", "planner/web/download.py"], others
