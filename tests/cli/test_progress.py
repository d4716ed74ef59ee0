"""Progress of long work beside ``--json``: lines of JSON on standard error, none where it is short."""

from __future__ import annotations

import json

import pytest

from planner.cli import progress
from planner.model.catalog import load_model
from planner.studies.sizing import sizes

EVERY_S = progress.EVERY_S


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As people are told; other tests are not."""
    monkeypatch.setattr(progress, "EVERY_S", EVERY_S)


def test_json_lines_say_how_far_and_how_long(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.progress_bar("types", quiet=True) as say:
        for done in range(5):
            say(done, 10)
            now[0] += 1.0
    out, err = capsys.readouterr()
    assert out == ""
    assert [json.loads(line) for line in err.splitlines()] == [
        {"progress": "types", "done": 2, "size": 10, "remaining_s": 8.0},
        {"progress": "types", "done": 4, "size": 10, "remaining_s": 6.0},
    ]


def test_short_work_and_pipes_are_told_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 0.0)
    for quiet in (True, False):
        with progress.progress_bar("types", quiet=quiet) as say:
            say(1, 2)
    assert capsys.readouterr() == ("", "")


def test_several_cases_say_how_many_are_done_and_one_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def answer(case: int) -> int:
        now[0] += 3.0
        return 2 * case

    assert progress.answers_to([1, 2, 3], answer, quiet=True) == [2, 4, 6]
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert told == [
        {"progress": "cases", "done": 1, "size": 3, "remaining_s": 6.0},
        {"progress": "cases", "done": 2, "size": 3, "remaining_s": 3.0},
    ]
    assert progress.answers_to([1], answer, quiet=True) == [2]
    assert capsys.readouterr().err == ""


def test_sizes_say_each_type() -> None:
    told: list[tuple[int, int]] = []
    sizes(load_model("llama-3.2-1b"), "serve", accelerator="h100-sxm5-80gb", progress=lambda *at: told.append(at))
    assert told == [(0, 1)]
