"""What a choice of GPUs passes over without an answer would not have been the answer."""

from __future__ import annotations

import math

import pytest

import planner
from planner.studies import sizing
from planner.studies.ways import Wish, serving_way


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
