"""Scaling laws against their papers' tables, and comparisons on equal terms."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT
from scipy.optimize import minimize_scalar

import planner
from planner.cli.main import main
from planner.common.errors import PlannerError
from planner.model.catalog import load_model
from planner.model.parameters import parameters_active, parameters_total
from planner.scenarios.scenario import read_scenario
from planner.studies.equal_terms import TERMS, Side, dense_of_size, on_equal_terms
from planner.studies.scaling_law import (
    dense_equivalent,
    dense_loss,
    expert_ratio,
    joint_coefficients,
    joint_loss,
    optimal,
    predicted_loss,
    tokens_for_loss,
)

SCENARIO = ROOT / "scenarios" / "chatlaw2-moe.toml"


def test_hoffmann_at_chinchilla_and_gopher() -> None:
    """406.4 / 70e9^0.3392 + 410.7 / 1.4e12^0.2849 + 1.6934 by hand: Chinchilla is better than the four times larger Gopher."""
    by_hand = 1.6934 + math.exp(math.log(406.4) - 0.3392 * math.log(7e10)) + math.exp(math.log(410.7) - 0.2849 * math.log(1.4e12))
    assert dense_loss(70e9, 1.4e12) == pytest.approx(by_hand, rel=1e-12)
    assert dense_loss(70e9, 1.4e12) < dense_loss(280e9, 300e9)


@pytest.mark.parametrize(("law", "exponent"), [("hoffmann-2022", 0.46), ("besiroglu-2024", 0.512)])
def test_the_best_size_grows_with_the_papers_exponent(law: str, exponent: float) -> None:
    """Hoffmann et al. 2022, table 2, approach 3: N ~ C^0.46; Besiroglu et al. 2024: C^0.512."""
    (small, _), (large, _) = optimal(1e20, law), optimal(1e24, law)
    assert math.log(large / small) / math.log(1e4) == pytest.approx(exponent, abs=0.006)


def test_the_refit_asks_for_twenty_tokens_per_parameter_at_chinchillas_budget() -> None:
    """Besiroglu et al. 2024, section 4: about 20 tokens per parameter, as Chinchilla was trained; C = 5.76e23 (Gopher's)."""
    parameters, tokens = optimal(5.76e23, "besiroglu-2024")
    assert 15 < tokens / parameters < 30
    assert 6 * parameters * tokens == pytest.approx(5.76e23, rel=1e-6)


def test_what_is_served_is_smaller_and_trained_longer() -> None:
    """Sardana et al. 2024, finding 1; the loss for the whole budget grows with what is served."""
    (alone, seen), (served, longer) = optimal(1e23), optimal(1e23, served_tokens=1e12)
    assert served < alone
    assert longer / served > seen / alone
    assert 6 * served * longer + 2 * served * 1e12 == pytest.approx(1e23, rel=1e-6)


def test_the_best_dense_model_pays_for_what_it_serves() -> None:
    """The flops of the case's training and of its serving, 2 per active parameter and token, are spent to the last."""
    plan = planner.plan(model="gpt2", cluster="8xh100", job={"seq_len": 1024, "global_batch_size": 64, "num_tokens": 10**10})
    alone, serving = (on_equal_terms(["a", "b"], [plan, plan], "flops", served_tokens=t)[0] for t in (0.0, 1e11))
    for law in ("hoffmann-2022", "besiroglu-2024"):
        (size, seen), (small, longer) = alone.best_dense[law], serving.best_dense[law]
        assert small / longer < size / seen
        assert 6 * size * seen == pytest.approx(alone.training_flops, rel=1e-6)
        spent = serving.training_flops + 2 * serving.parameters_active * 1e11
        assert 6 * small * longer + 2 * small * 1e11 == pytest.approx(spent, rel=1e-6)
        assert serving.to_dict()["best_dense"][law] == {"parameters": small, "tokens": longer}
    with pytest.raises(PlannerError, match="served_tokens"):
        on_equal_terms(["a", "b"], [plan, plan], "flops", served_tokens=-1.0)


def test_equal_loss_says_what_every_law_asks_for() -> None:
    cases = read_scenario(SCENARIO).cases
    sides = on_equal_terms([c.label for c in cases], [c.plan() for c in cases], "loss")
    for side in sides[1:]:
        over = side.over_first["days"]
        assert over.expected == pytest.approx(side.days.expected / sides[0].days.expected)
        assert over.lower <= over.expected <= over.upper
        assert over.to_dict() == side.to_dict()["over_first"]["days"]
    side = sides[1]
    assert set(side.tokens_by_law) == {"hoffmann-2022", "besiroglu-2024", "ludziejewski-2025"}
    asked = [tokens for tokens in side.tokens_by_law.values() if tokens is not None]
    assert min(asked) < max(asked)
    assert side.gpu_hours.upper / side.gpu_hours.lower > max(asked) / min(asked)
    ratio = float(re.search(r"([\d.]+) at equal tokens", side.notes[0])[1])  # type: ignore[index]
    by_law = [float(x) for x in re.findall(r"([\d.]+) by ", side.notes[0])]
    assert by_law == pytest.approx([ratio * tokens / sides[0].tokens for tokens in asked], abs=0.006)


TABLE_4 = {  # Ludziejewski et al. 2025, table 4: E -> m, mu, n, nu
    1: (30.3640, -0.1817, 53.9838, -0.1965), 2: (27.7982, -0.1780, 66.8401, -0.2065), 4: (24.8462, -0.1731, 87.7022, -0.2192),
    8: (21.8330, -0.1676, 119.9126, -0.2338), 16: (19.0159, -0.1617, 167.5073, -0.2494),
    32: (16.5424, -0.1557, 234.6726, -0.2652),
}  # fmt: skip


@pytest.mark.parametrize("experts", TABLE_4)
def test_the_joint_law_reduces_to_the_papers_table_4(experts: int) -> None:
    m, mu, n, nu, c = joint_coefficients(experts)
    assert (m, n) == (pytest.approx(TABLE_4[experts][0], rel=2e-3), pytest.approx(TABLE_4[experts][2], rel=4e-3))
    assert (mu, nu) == (pytest.approx(TABLE_4[experts][1], abs=2e-4), pytest.approx(TABLE_4[experts][3], abs=2e-4))
    assert c == 1.3637


@pytest.mark.parametrize(
    ("flops", "experts", "active", "tokens"),
    [(1e20, 1, 1.7e9, 9.7e9), (1e20, 8, 0.99e9, 17e9), (1e21, 4, 4.4e9, 38e9), (1e22, 32, 12.2e9, 136.9e9)],
)
def test_compute_optimal_models_of_the_papers_table_1(flops: float, experts: int, active: float, tokens: float) -> None:
    best = minimize_scalar(
        lambda n: joint_loss(np.exp(n), flops / 6 / np.exp(n), experts), bounds=(np.log(1e7), np.log(1e12)), method="bounded"
    )
    assert np.exp(best.x) == pytest.approx(active, rel=0.03)
    assert flops / 6 / np.exp(best.x) == pytest.approx(tokens, rel=0.03)


def test_more_experts_are_worth_more_dense_parameters() -> None:
    """The paper's finding 2, and its rule of thumb: equal total parameters, E times the tokens, E <= 8."""
    model = load_model("olmoe-1b-7b")
    assert expert_ratio(model) == pytest.approx(8.0)
    assert parameters_active(model) < dense_equivalent(model, 20e9) < parameters_total(model)
    assert expert_ratio(load_model("llama-2-7b")) == 1.0
    assert dense_equivalent(load_model("llama-2-7b"), 1e10) == parameters_total(load_model("llama-2-7b"))
    for experts in (2, 4):
        total = 1.1e9
        active = total * 13 / (4 + 9 * experts)
        assert joint_loss(active, 8e9 * experts, experts) < joint_loss(total, 8e9, 1)


@settings(max_examples=20, deadline=None)
@given(tokens=st.floats(1e9, 1e12), factor=st.floats(1.01, 10))
def test_more_tokens_lower_the_loss_and_back(tokens: float, factor: float) -> None:
    for name in ("llama-2-7b", "olmoe-1b-7b"):
        model = load_model(name)
        assert predicted_loss(model, tokens * factor) < predicted_loss(model, tokens)
        assert tokens_for_loss(model, predicted_loss(model, tokens)) == pytest.approx(tokens, rel=1e-6)


def test_some_losses_are_never_reached() -> None:
    assert tokens_for_loss(load_model("gpt2"), 1.7) is None


@pytest.mark.parametrize(("name", "target"), [("dense-33b", 20.3e9), ("dense-33b", 7.3e9), ("mixtral-8x7b", 12.9e9)])
def test_dense_models_of_a_size(name: str, target: float) -> None:
    like = load_model(name)
    model = dense_of_size(like, target)
    assert parameters_total(model) == pytest.approx(target, rel=0.02)
    assert parameters_active(model) == parameters_total(model)
    assert model.vocab_size == like.vocab_size
    assert model.num_heads % 8 == 0
    assert model.hidden_size / model.num_layers == pytest.approx(like.hidden_size / like.num_layers, rel=0.45)


def test_no_dense_model_is_smaller_than_its_vocabulary() -> None:
    with pytest.raises(PlannerError, match="no dense model like"):
        dense_of_size(load_model("dense-33b"), 1e6)


@pytest.fixture(scope="module")
def sides() -> dict[str, tuple[Side, ...]]:
    cases = read_scenario(SCENARIO).cases
    plans = [case.plan() for case in cases]
    return {at: on_equal_terms([case.label for case in cases], plans, at) for at in TERMS}


def test_each_term_is_equal(sides: dict[str, tuple[Side, ...]]) -> None:
    get = {
        "loss": lambda s: s.loss, "flops": lambda s: s.training_flops, "days": lambda s: s.days.expected,
        "dollars": lambda s: s.cost_usd.expected, "active": lambda s: s.parameters_active, "total": lambda s: s.parameters_total,
    }  # fmt: skip
    for at, (mixture, dense) in sides.items():
        assert get[at](dense) == pytest.approx(get[at](mixture), rel=0.02 if at in ("active", "total") else 1e-6), at
        if at in ("active", "total"):
            assert dense.tokens == mixture.tokens
        assert any("outside" in note for note in mixture.notes)


def test_the_mixture_wins_where_the_law_says_it_must(sides: dict[str, tuple[Side, ...]]) -> None:
    mixture, dense = sides["active"]
    assert mixture.loss is not None
    assert dense.loss is not None
    assert mixture.loss < dense.loss  # three idle experts cannot hurt at equal tokens
    mixture, dense = sides["total"]
    assert mixture.loss > dense.loss  # type: ignore[operator]
    assert mixture.cost_usd.expected < dense.cost_usd.expected  # type: ignore[union-attr]


def test_a_single_mixture_is_met_by_a_dense_model_of_its_active_size() -> None:
    plan = read_scenario(SCENARIO).cases[0].plan()
    mixture, dense = on_equal_terms(["moe"], [plan], "flops")
    assert dense.parameters_total == pytest.approx(mixture.parameters_active, rel=0.02)
    with pytest.raises(PlannerError, match="nothing to be compared with"):
        on_equal_terms(["dense"], [dense.plan], "flops")
    with pytest.raises(PlannerError, match="is a mixture"):
        on_equal_terms(["a", "b"], [plan, plan], "total")


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["planner", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "equal.png"
    code, out, _ = call(monkeypatch, capsys, "compare", SCENARIO, "--at", "loss", "--plot", picture)
    assert code == 0
    assert "predicted loss" in out
    assert "arXiv 2502.05172" in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, out, _ = call(monkeypatch, capsys, "compare", SCENARIO, "--at", "flops", "--json")
    answer = json.loads(out)
    assert (code, answer["at"], len(answer["cases"])) == (0, "flops", 2)
    assert all(text.startswith("assumed") for text in answer["laws"])
    code, out, err = call(monkeypatch, capsys, "compare", SCENARIO, "--at", "beauty")
    assert (code, out) == (2, "")
    assert "must be one of " in err
