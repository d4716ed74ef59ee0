"""An error names an option as it was typed, whichever of its names that is."""

from __future__ import annotations

import json

import pytest
from command_line import Run

from planner.cli.main import COMMANDS, as_typed, options_of

ALIASES = [
    (name, spelled, [other for other in one.opts if other != spelled])
    for name in sorted(COMMANDS)
    for one in options_of(name)
    for spelled in one.opts
    if len(one.opts) > 1
]


@pytest.mark.parametrize(("name", "spelled", "others"), ALIASES)
def test_every_other_name_of_an_option_is_said_as_typed(name: str, spelled: str, others: list[str]) -> None:
    assert as_typed([name, spelled, "x"]) == dict.fromkeys(others, spelled)
    assert as_typed([name, spelled, "x", others[0], "y"]) == as_typed([name]) == {}


@pytest.mark.parametrize(
    ("typed", "other", "line"),
    [
        ("--budget", "--budget-usd", ("limit", "llama-3-8b", "--on", "h100", "--budget", "fifty")),
        ("--budget", "--budget-usd", ("search", "llama-3-8b", "--on", "h100", "--budget=fifty")),
        ("--budget-usd", "--budget", ("limit", "llama-3-8b", "--on", "h100", "--budget-usd", "fifty")),
        ("--budget", "--budget-usd", ("limit", "llama-3-8b", "--on", "h100", "--budget", "5", "--budget", "6")),
        ("-o", "--out", ("trace", "llama-3-8b", "--on", "h100", "-o", "trace.txt")),
    ],
)
def test_an_error_names_the_option_that_was_typed(run: Run, typed: str, other: str, line: tuple[str, ...]) -> None:
    for language in ("en", "zh"):
        code, _, told = run(*line, "--lang", language)
        words = told.replace("：", " ").replace("=", " ").replace(":", " ").split()
        assert code == 2
        assert (typed in words, other in words) == (True, False), told
    error = json.loads(run(*line, "--json")[2])["error"] if line[0] != "trace" else {"field": typed}
    assert error["field"] == typed
