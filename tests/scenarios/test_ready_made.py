"""The ready-made scenarios are answered; what the README shows is run by tests/test_docs.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.scenarios.scenario import read_scenario

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_ready_made_scenarios_are_answered(path: Path) -> None:
    for case in read_scenario(path).cases:
        answer = case.plan()
        assert answer.fits or answer.nearest is not None
        assert (answer.cost_usd is not None) == answer.fits  # what cannot run costs nothing


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_plan_is_shown_with_the_experts_that_its_run_has(path: Path) -> None:
    """Step times of ``plan`` and ``compare`` times the steps are the compute of ``run``, uneven experts included."""
    for case in read_scenario(path).cases:
        answer = case.plan()
        whole = case.outlook(answer).run
        if whole is None:
            continue
        steps_s = whole.num_steps * case.under_experts(answer).step_time_s
        assert steps_s == pytest.approx(whole.causes_s["compute"] + whole.causes_s["expert_imbalance"])
