"""The bound of a capacity that needs no simulation, and what is not simulated for it."""

from __future__ import annotations

from typing import Any

import pytest

import planner
from planner.model.parameters import parameters_total
from planner.serving.deployment import capacity_of, most_of
from planner.studies import sizing
from planner.studies.sizing import Capacity, sizes

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("llama-3-8b", "1xh100", {}),
    ("llama-3-8b", "2xa100-80gb", {"tp": 2}),
    ("llama-3-8b", "1xrtx-4090", {"prompt": 100, "output": 1000}),
    ("llama-3-8b", "4xl4", {"pp": 4}),
    ("llama-3-8b", "1xh100", {"prompt": 4000, "output": 8}),
    ("llama-3-8b", "1xh100", {"engine": "tensorrt-llm"}),
    ("llama-3-8b", "1xh100", {"engine": "sglang", "max_batch": 16}),
    ("mixtral-8x7b", "8xh100", {"tp": 8}),
    ("deepseek-v3", "8xh200", {"tp": 8, "weights": "fp8"}),
]


@pytest.mark.parametrize(("model", "cluster", "serving"), CASES, ids=lambda value: str(value))
def test_no_capacity_exceeds_its_bound(model: str, cluster: str, serving: dict[str, Any]) -> None:
    cut = {name: serving.get(name, 1) for name in ("tp", "pp")}
    asked = {"prompt": 1000, "output": 200, "dp": 1, **cut, **serving}
    d = planner.serve(model=model, cluster=cluster, serving=asked)
    assert d.fits
    for places in (None, 8):
        most, found = most_of(d, places), capacity_of(d, places)
        assert found <= most * (1.0 + 1e-9)
        assert most < 12.0 * found  # a bound that never binds would spare nothing


def test_what_is_not_simulated_would_not_have_won(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row is the one that is found when all are simulated, in fewer simulations."""
    counted = [0]
    capacity = sizing.capacity_of

    def counting(*given: Any) -> float:
        counted[0] += 1
        return capacity(*given)

    monkeypatch.setattr(sizing, "capacity_of", counting)
    asked: dict[str, Any] = {"batch": Capacity(value=True), "accelerator": "l4,h100,rtx-4090", "max_gpus": 8}
    quick, after = sizes("llama-3-8b", "serve", **asked), counted[0]
    monkeypatch.setattr(sizing, "most_of", lambda *given: float("inf"))
    full = sizes("llama-3-8b", "serve", **asked)
    assert quick == full
    assert after < counted[0] - after


@pytest.mark.parametrize(("prompt", "output"), [(32, 1), (128, 4), (128, 16), (512, 8)])
@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
def test_short_prompts_are_not_served_faster_than_the_chip_multiplies(engine: str, prompt: int, output: int) -> None:
    """A short prompt alone hides behind reading the weights; a pass full of them does not."""
    fields = {"engine": engine, "prompt": prompt, "output": output, "requests_per_s": 0.01}
    d = planner.serve(model="llama-3.1-8b", cluster="1xh100", serving=fields)
    assert d.load is not None
    tokens = float(d.load.capacity_requests_per_s) * (prompt + output - 1.0)
    assert 2.0 * parameters_total(d.model) * tokens < 1.2 * d.cluster.accelerator.peak("bf16")
