"""Every command that reads a file: pipes, circles of links and files without end are refused and never waited for; sizes that
would hold a process are refused wherever they are said. Many who write one table lose nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import Run
from places import PATIENCE_S, ROOT

MOST_BYTES = 200e6
"""Of memory that a refusal may take."""
READERS: dict[str, tuple[str, ...]] = {
    "q.toml": ("plan", "{}"),
    "config.json": ("models", "show", "{}"),
    "model.gguf": ("models", "show", "{}"),
    "import.json": ("models", "import", "{}"),
    "base.toml": ("models", "derive", "{}", "--drop-layers", "0"),
    "v.csv": ("validate", "{}"),
    "record.json": ("calibrate", "{}", "--out", "x.toml"),
    "quotes.csv": ("prices", "import", "{}"),
    "claims.toml": ("audit", "{}"),
    "serve.toml": ("serve", "{}"),
    "serve.sh": ("serve", "--from", "{}", "--on", "h100"),
    "train.sh": ("plan", "--from", "{}", "--on", "8xh100"),
    "rows.csv": ("export", "gpt2", "--on", "8xh100", "--tokens", "1M", "--to", "megatron", "--rows", "{}"),
    "fit.csv": ("fit", "{}"),
    "node.toml": ("plan", "gpt2", "--on", "{}", "--tokens", "1M"),
}


@pytest.fixture(autouse=True)
def never_for_ever() -> Iterator[None]:
    """A reader that waits is interrupted; the test fails."""

    def stop(*_: Any) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(int(PATIENCE_S))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def circle(path: Path) -> None:
    path.symlink_to(path)


def endless(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(300 * 2**20)


def folder(path: Path) -> None:
    path.mkdir()


def refused(run: Run, *arguments: str | Path) -> str:
    tracemalloc.start()
    try:
        code, out, err = run(*arguments)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert code == 2, (out, err)
    assert out == ""
    assert "Traceback" not in err
    assert len(err) < 2000
    assert most < MOST_BYTES
    return err


@pytest.mark.parametrize("make", [pipe, circle, endless, folder])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_of_a_sensible_size_is_refused(
    name: str, make: Callable[[Path], None], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    make(path)
    said = refused(run, *(str(path) if word == "{}" else word for word in READERS[name]))
    assert name in said


QUESTION = """
[model]
name = "gpt2"
[cluster]
node = "dgx-h100"
[job]
seq_len = 1024
global_batch_size = 8
num_tokens = 1_000_000
"""
SERVED = """
[model]
name = "gpt2"
[cluster]
node = "dgx-h100"
[serving]
engine = "vllm"
prompt = 512
output = 128
requests_per_s = 1.0
"""


@pytest.mark.parametrize(
    ("command", "text", "said"),
    [
        ("plan", QUESTION.replace('"dgx-h100"', '"dgx-h100"\nnum_gpus = 1_000_000_000'), "num_gpus"),
        ("search", QUESTION.replace('"dgx-h100"', '"dgx-h100"\nnum_gpus = 1_000_000_000'), "num_gpus"),
        ("plan", QUESTION + "[price]\nusd_per_gpu_hour = 1e300\n", "usd_per_gpu_hour"),
        ("run", QUESTION + "[run]\nrestart_s = 1e300\n", "restart_s"),
        ("plan", QUESTION.replace("1024", "9" * 400), "400 digits"),
        ("plan", QUESTION.replace("1024", "9" * 5000), "digits"),
        ("plan", QUESTION.replace("1024", "1e308"), "seq_len"),
        ("serve", SERVED + "num_requests = 5_000_000\n", "num_requests"),
        ("serve", SERVED + "dp = 1_000_000_000\n", "dp"),
        ("serve", SERVED + "batch = 1_000_000_000_000\n", "batch"),
    ],
)
def test_sizes_that_would_hold_a_process_are_refused_in_a_file(
    command: str, text: str, said: str, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "q.toml"
    path.write_text(text)
    assert said in refused(run, command, path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plan", "gpt2", "--on", "1000000000xh100", "--tokens", "1M"), "num_gpus"),
        (("plan", "gpt2", "--on", "9" * 400 + "xh100", "--tokens", "1M"), "at most 300 digits"),
        (("plan", "gpt2", "--on", "8xh100", "--tokens", "9" * 400), "--tokens"),
        (("plan", "gpt2", "--on", "8xh100", "--tokens", "9" * 5000), "--tokens"),
        (("plan", "gpt2", "--on", "8xh100", "--tokens", "1M", "--price", "1e300"), "price.usd_per_gpu_hour"),
        (("plan", "x" * 1_000_000, "--on", "8xh100", "--tokens", "1M"), "xxx"),
        (("serve", "gpt2", "--on", "h100", "--rate", "1e300"), "requests_per_s"),
        (("serve", "gpt2", "--on", "h100", "--clients", "1000000000000"), "clients"),
    ],
)
def test_sizes_that_would_hold_a_process_are_refused_on_the_line(arguments: tuple[str, ...], said: str, run: Run) -> None:
    assert said in refused(run, *arguments)


def test_a_type_of_a_million_letters_and_a_field_that_never_ends_are_refused(run: Run, tmp_path: Path) -> None:
    config, table = tmp_path / "config.json", tmp_path / "quotes.csv"
    config.write_text(json.dumps({"model_type": "x" * 1_000_000, "hidden_size": 64}))
    assert "model_type" in refused(run, "models", "show", config)
    table.write_text("provider,item\n" + "x" * 200_000 + ",y\n")
    for command in (("prices", "import"), ("validate",)):
        assert "quotes.csv" in refused(run, *command, table)


def test_many_who_import_prices_at_once_lose_none(tmp_path: Path) -> None:
    """Four at a time into one table, each quotes of its own."""
    head = "provider,item,accelerator,term,region,usd_per_gpu_hour,date,source\n"
    for name in "abcd":
        lines = (f"Acme {name},big-{i},l4,on-demand,moon,{1 + i},2026-11-01,acme.example\n" for i in range(50))
        (tmp_path / f"{name}.csv").write_text(head + "".join(lines))
    table = tmp_path / "own" / "prices.csv"
    environment = {**os.environ, "PLANNER_PRICES": str(table), "PYTHONPATH": str(ROOT)}
    importing = [
        subprocess.Popen([sys.executable, "-m", "planner", "prices", "import", str(tmp_path / f"{name}.csv")], env=environment)
        for name in "abcd"
    ]
    assert [one.wait(PATIENCE_S) for one in importing] == [0, 0, 0, 0]
    found = pd.read_csv(table)
    assert sorted(found["provider"].value_counts().items()) == [(f"Acme {name}", 50) for name in "abcd"]
    assert [path.name for path in table.parent.iterdir()] == ["prices.csv"]
