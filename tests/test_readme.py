"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from planner.model.catalog import model_names
from planner.scenarios.scenario import read_scenario

README = (Path(__file__).parent.parent / "README.md").read_text()
SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.toml"))


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_scenario_is_answered(tmp_path: Path) -> None:
    (tmp_path / "readme.toml").write_text(block("toml"))
    answers = [case.plan() for case in read_scenario(tmp_path / "readme.toml").cases]
    assert [answer.fits for answer in answers] == [True, True]


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block("python"), "README.md", "exec"), {})
    assert "layouts fit; fastest step" in capsys.readouterr().out


def test_the_number_of_models_is_true() -> None:
    assert f"# {len(model_names())} models;" in README


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_ready_made_scenarios_are_answered(path: Path) -> None:
    for case in read_scenario(path).cases:
        answer = case.plan()
        assert answer.fits or answer.nearest is not None
        assert (answer.cost_usd is not None) == answer.fits  # what cannot run costs nothing
