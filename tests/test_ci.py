"""The tests' entry never passes over a browser that could not be installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from places import ROOT, SLOWEST

SCRIPT = ROOT / ".ci" / "run"


def ci(
    folder: Path, *, root: bool = True, apt: int | None = 0, driver: bool = False, **environment: str
) -> tuple[int, str, bool]:
    """Exit code, standard error, and whether the tests were started, with these commands alone on the path."""
    (folder / ".ci").mkdir()
    shutil.copy(SCRIPT, folder / ".ci" / "run")
    programs = folder / "bin"
    programs.mkdir()
    (programs / "dirname").symlink_to(str(shutil.which("dirname")))
    stubs = {"id": f"echo {0 if root else 1000}", "make": f'[ "$1" != test ] || echo started > {folder}/started'}
    stubs |= {"chromedriver": "exit 0"} if driver else {}
    stubs |= {"apt-get": f"exit {apt}"} if apt is not None else {}
    for name, text in stubs.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    done = subprocess.run(
        [str(shutil.which("bash")), str(folder / ".ci" / "run")],
        env={"PATH": str(programs), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr, (folder / "started").exists()


def test_a_failed_installation_is_a_failure(tmp_path: Path) -> None:
    code, said, started = ci(tmp_path, apt=100)
    assert (code != 0, started) == (True, False)
    assert "chromium could not be installed" in said
    assert "PLANNER_SKIP_BROWSER=1" in said


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"apt": 100, "PLANNER_SKIP_BROWSER": "1"}, "PLANNER_SKIP_BROWSER=1"),
        ({"root": False}, "needs root and apt-get"),
        ({"apt": None}, "needs root and apt-get"),
    ],
)
def test_skipping_the_browser_is_said(how: dict[str, object], words: str, tmp_path: Path) -> None:
    code, said, started = ci(tmp_path, **how)  # type: ignore[arg-type]
    assert (code, started) == (0, True)
    assert words in said
    assert "skipped" in said


@pytest.mark.parametrize("driver", [True, False])
def test_with_a_browser_nothing_is_said(driver: bool, tmp_path: Path) -> None:
    assert ci(tmp_path, driver=driver) == (0, "", True)


def test_the_slowest_files_are_there_and_handed_out_first() -> None:
    assert all((ROOT / name).is_file() for name in SLOWEST)
    assert "--no-loadscope-reorder" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_core_of_the_suite_is_there() -> None:
    """What other Pythons run; none of it needs torch or a browser."""
    text = (ROOT / ".ci" / "versions").read_text(encoding="utf-8")
    named = [name for array in ("core", "doors") for name in text.partition(f"{array}=(")[2].partition(")")[0].split()]
    assert len(named) >= 10
    assert [name for name in named if not (ROOT / name).exists()] == []
    files = [path for name in named for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).glob("test_*.py"))]
    heavy = [path.name for path in files for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(HEAVY)]
    assert heavy == []


HEAVY = tuple(
    f"{word} {library}" for word in ("import", "from") for library in ("torch", "transformers", "peft", "streamlit", "selenium")
)
