"""TOML kept parsed: equal to tomllib's reading, never of another text, never half, never in the way."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from planner.common import data
from planner.common.parsed import MOST_FILES, WORTH_CHARACTERS, cache_folder, kept, parsed_toml
from planner.common.spec import read_table

LARGE = [
    path
    for folder in (data.CATALOG, data.PROFILES, data.PACKAGE / "common")
    for path in sorted(folder.rglob("*.toml"))
    if len(path.read_text(encoding="utf-8")) >= WORTH_CHARACTERS
]
TEXT = "\n".join(f"key_{i} = {i / 7!r}" for i in range(1000))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder() / "parsed"


def test_what_is_kept_equals_what_is_parsed_in_values_types_and_order(folder: Path) -> None:
    assert len(LARGE) >= 8
    for path in LARGE:
        text = path.read_text(encoding="utf-8")
        parsed_toml(text)
        assert repr(kept(text)) == repr(tomllib.loads(text)), path
    assert len(list(folder.iterdir())) == min(len(LARGE), MOST_FILES)


def test_shipped_tables_are_kept_and_a_user_s_are_not(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(TEXT)
    assert read_table(tmp_path / "own.toml") == tomllib.loads(TEXT)
    assert not folder.exists()
    shipped = data.CATALOG / "uncertainty.toml"
    first = read_table(shipped)
    assert kept(shipped.read_text(encoding="utf-8")) == read_table(shipped) == first
    first.clear()  # a caller's own object
    assert read_table(shipped)


@pytest.mark.parametrize("spoilt", [b"", b"half", b"\n{}", "cut", "changed"])
def test_a_spoilt_file_is_parsed_anew(folder: Path, spoilt: bytes | str) -> None:
    found = parsed_toml(TEXT)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    if spoilt == "cut":
        file.write_bytes(whole[:-100])
    elif spoilt == "changed":
        file.write_bytes(whole.replace(b"0.142857", b"0.242857"))
    else:
        assert isinstance(spoilt, bytes)
        file.write_bytes(spoilt)
    assert kept(TEXT) is None
    assert parsed_toml(TEXT) == found
    assert file.read_bytes() == whole


def test_another_text_does_not_find_it() -> None:
    parsed_toml(TEXT)
    assert kept(TEXT + "\n") is None
    assert parsed_toml(TEXT + "\nlast = 1")["last"] == 1


def test_texts_that_json_cannot_say_are_parsed_each_time(folder: Path) -> None:
    for last in ("day = 2026-01-01", "most = inf", "none = nan"):
        text = f"{TEXT}\n{last}"
        assert repr(parsed_toml(text)) == repr(tomllib.loads(text))
        assert kept(text) is None
    assert not folder.exists()


def test_mistakes_are_told_as_tomllib_tells_them() -> None:
    for _ in range(2):
        with pytest.raises(tomllib.TOMLDecodeError):
            parsed_toml(f"{TEXT}\nkey_0 = 1")


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert parsed_toml(TEXT) == tomllib.loads(TEXT)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert parsed_toml(TEXT) == tomllib.loads(TEXT)


def test_only_the_newest_stay(folder: Path) -> None:
    folder.mkdir(parents=True)
    for i in range(MOST_FILES + 3):
        (folder / f"old-{i}").write_bytes(b"")
        os.utime(folder / f"old-{i}", (i, i))
    parsed_toml(TEXT)
    assert len(list(folder.iterdir())) == MOST_FILES
    assert kept(TEXT) is not None
