"""What is written is whole or not at all; what is read is refused early where reading it would take minutes or gigabytes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from planner.common import files
from planner.common.errors import LONGEST_NAME, PlannerError, near
from planner.common.files import locked, read_text, write_text, write_texts, write_whole
from planner.common.spec import MOST_LEVELS, read_table


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full_disk(temporary: Path) -> None:
        temporary.write_bytes(b"ha")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(PlannerError, match="No space left"):
        write_whole(path, full_disk)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file_and_the_next_write_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    code = (
        "import sys, time; from pathlib import Path; from planner.common.files import write_whole\n"
        "def slow(temporary):\n"
        "    temporary.write_text('half'); print('half', flush=True); time.sleep(600)\n"
        "write_whole(Path(sys.argv[1]), slow)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_belong_together_change_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("old a")
    replace = os.replace

    def fails_at_the_second(source: Path, target: Path) -> None:
        if Path(target) == second:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fails_at_the_second)
    with pytest.raises(PlannerError, match="Read-only"):
        write_texts({first: "new a", second: "new b"})
    assert first.read_text() == "old a"
    assert list(tmp_path.iterdir()) == [first]


def test_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o640)
    write_text(path, "new")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("0")
    code = (
        "import sys; from pathlib import Path; from planner.common.files import locked, write_text\n"
        "path = Path(sys.argv[1])\n"
        "for _ in range(20):\n"
        "    with locked(path): write_text(path, str(int(path.read_text()) + 1))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(2)]
    for _ in range(20):
        with locked(path):
            write_text(path, str(int(path.read_text()) + 1))
    assert [process.wait() for process in processes] == [0, 0]
    assert path.read_text() == "60"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "s.toml"
    os.mkfifo(pipe)
    with pytest.raises(PlannerError, match="no regular file"):
        read_text(pipe)


def test_a_folder_a_circle_of_links_and_a_huge_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match="is a folder"):
        read_text(tmp_path)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(PlannerError, match="cannot be read"):
        read_text(loop)
    large = tmp_path / "large.toml"
    with large.open("wb") as file:
        file.truncate(33 * 2**20)
    with pytest.raises(PlannerError, match="33 MiB; at most 32 MiB"):
        read_table(large)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("s.toml", "a" + ".a" * 50_000 + " = 1", "key of 50,001 parts"),
        ("s.toml", "[" + ".".join("a" * 50_000) + "]", "key of 50,000 parts"),
        ("s.toml", "a = " + "[" * 50_000 + "]" * 50_000, "50,000 levels"),
        ("s.toml", "a = " + "{b = " * 50_000 + "1" + "}" * 50_000, "50,000 levels"),
        ("s.json", '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}", "levels"),
        ("s.toml", "a = " + "9" * 5_000, "number of 5,000 digits"),
        ("s.json", '{"a": ' + "9" * 400 + "}", "number of 400 digits"),
        ("s.toml", "a = 1_" + "_".join("9" * 400), "number of"),
    ],
)
def test_text_that_would_hold_a_process_never_reaches_its_parser(
    name: str, text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_text(text)
    monkeypatch.setattr("planner.common.spec.tomllib.loads", lambda _: pytest.fail("parsed"))
    monkeypatch.setattr("planner.common.spec.json.loads", lambda _: pytest.fail("parsed"))
    with pytest.raises(PlannerError, match=said):
        read_table(path)


def test_depth_is_counted_outside_texts_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    deep = "[" * (MOST_LEVELS + 8)
    path.write_text(f'a = "{deep}" # {deep}\nb = \'{deep}\'\nc = """\n{deep}"""\nd = [[1.5, 2.5]]\n')
    assert read_table(path)["d"] == [[1.5, 2.5]]


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_bytes("a = 1".encode("utf-8-sig"))
    assert read_table(path) == {"a": 1}


def test_a_very_long_name_is_compared_by_its_beginning() -> None:
    name = "llama-2-7" + "x" * 1_000_000
    assert near(name, ["llama-2-7b", "gpt2"]) == near(name[:LONGEST_NAME], ["llama-2-7b", "gpt2"])
