"""What a choice of GPUs passes over without an answer would not have been the answer."""

from __future__ import annotations

import math

import pytest

import planner
from planner.layout_search import choice, explore
from planner.performance import evaluation
from planner.studies import sizing, ways
from planner.studies.ways import LATE, Wish, serving_way, way


@pytest.mark.parametrize("model", ["llama-3.1-70b", "gemma-2-27b"])
def test_a_cut_that_is_not_simulated_is_no_faster(model, monkeypatch):
    asked = {"accelerator": "h100,mi300x-192gb,l40s", "batch": sizing.Capacity(value=True)}
    found = planner.sizes(model, "serve", **asked).to_dict()
    simulated = []
    monkeypatch.setattr(sizing, "_most_per_s", lambda d, ask: simulated.append(d) or (True, math.inf))
    assert planner.sizes(model, "serve", **asked).to_dict() == found
    assert simulated


def test_more_replicas_of_a_cut_that_does_not_hold_the_weights_are_passed_over_with_their_own_reason():
    tables = {"model": {"name": "llama-3-70b"}, "serving": {"prompt": 1024, "output": 256, "requests_per_s": 5.0}}
    found = serving_way(tables, "t4", Wish())
    last = planner.serve(**{name: found.tables[name] for name in ("model", "cluster", "serving")})
    assert (found.num_gpus, found.tables["serving"]["tp"], found.tables["serving"]["dp"]) == (16, 8, 2)
    assert not found.enough
    assert found.why == last.reasons[0]
    assert found.deployment.total_bytes == last.total_bytes


TRAINED = {"kind": "pretrain", "seq_len": 4096, "global_batch_size": 1024, "precision": "bf16"}


@pytest.mark.parametrize(
    ("card", "num_tokens", "days"),
    [("h100-sxm5-80gb", 10**12, 30.0), ("a100-pcie-80gb", 10**12, 30.0), ("mi300x-192gb", 10**11, 5.0), ("t4", 10**12, 2.0)],
)
def test_a_count_that_surely_takes_too_long_is_no_answer(card, num_tokens, days, monkeypatch):
    """Answered one after the other, no count gives another way; what is passed over is late, and never skipped for nothing."""
    tables = {"model": {"name": "llama-3-8b"}, "job": {**TRAINED, "num_tokens": num_tokens}}
    wish = Wish(deadline_s=days * 86400.0)
    found, surely_late, passed = way(tables, card, wish), ways._surely_late, []

    def told(known, num_gpus, wish):
        passed.extend([num_gpus] if surely_late(known, num_gpus, wish) else [])
        return False

    monkeypatch.setattr(ways, "_surely_late", told)
    assert way(tables, card, wish) == found
    assert passed
    for num_gpus in passed:
        assert way(tables, card, Wish(num_gpus=num_gpus, deadline_s=wish.deadline_s)).why == LATE


def test_no_count_is_surely_late_that_an_earlier_plan_bounds_by_its_floating_point_operations():
    """By hand: 6 operations for each of the 7.5 billion weights that multiply and token, at the datasheet's peak, are less than
    what the bound counts, and the plan of so many GPUs takes no less than the bound."""
    job = {**TRAINED, "num_tokens": 10**11}
    few, many = (
        planner.plan(model="llama-3-8b", cluster={"accelerator": "h100-sxm5-80gb", "num_gpus": n}, job=job) for n in (16, 64)
    )
    bound_s = (few.num_steps - 1.0) * few.step_time_s * few.mfu_causal * 16 / 64
    assert 6.0 * 7.5e9 * 10**11 / (64 * 989.4e12) < bound_s < many.run_s
    assert ways._surely_late(few, 64, Wish(deadline_s=0.999 * bound_s))
    assert not ways._surely_late(few, 64, Wish(deadline_s=1.001 * bound_s))


@pytest.mark.parametrize("kind", [{"kind": "pretrain"}, {"kind": "lora", "adapter": {"rank": 16}}])
def test_kept_tables_change_no_plan(kind, monkeypatch):
    """Rows that another accelerator's question left behind are those that its own would build."""
    job = {**TRAINED, **kind, "global_batch_size": 16, "num_steps": 10}
    asked = [
        {"model": "llama-3-8b", "cluster": {"accelerator": card, "num_gpus": 8}, "job": job}
        for card in ("h100-sxm5-80gb", "a100-sxm4-80gb", "mi300x-192gb")
    ]
    evaluation._kept_table.cache_clear()
    kept = [planner.plan(**one) for one in asked]
    assert evaluation._kept_table.cache_info().hits
    monkeypatch.setattr(evaluation, "_kept_table", evaluation._kept_table.__wrapped__)
    choice._choice.cache_clear()
    explore.parts_of.cache_clear()
    assert [planner.plan(**one) for one in asked] == kept
