"""The bound of a capacity that needs no simulation, and what is not simulated for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import planner
from planner.model.parameters import parameters_total
from planner.serving import load
from planner.serving.deployment import capacity_of, most_of
from planner.serving.load import Replica, most_per_s, part_of_a_full_pass_s, replica, room_of, simulated_per_s
from planner.serving.pass_time import Times
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
    ("llama-3-8b", "8xa100-80gb", {"pp": 8, "prompt": 16_384, "output": 32}),
    ("llama-3-8b", "8xl4", {"pp": 4, "tp": 2, "prompt": 8000, "output": 100}),
    ("llama-3-8b", "8xl4", {"pp": 4, "tp": 2, "prompt": 8000, "output": 100, "engine": "tensorrt-llm"}),
    ("qwen3-30b-a3b", "8xh100", {"ep": 8, "prompt": 4000, "output": 40}),
    ("llama-3-8b", "1xa100-80gb", {"prompt": 1024, "output": 32_768}),
    ("llama-3-8b", "1xh100", {"prompt": 16, "output": 100_000, "engine": "sglang"}),
]


def replica_of(d: planner.Deployment, places: int | None = None) -> Replica:
    return replica(d.times, room_of(d.times, places))


@pytest.mark.parametrize(("model", "cluster", "serving"), CASES, ids=lambda value: str(value))
def test_no_simulated_capacity_exceeds_its_bound(model: str, cluster: str, serving: dict[str, Any]) -> None:
    cut = {name: serving.get(name, 1) for name in ("tp", "pp")}
    asked = {"prompt": 1000, "output": 200, "dp": 1, **cut, **serving}
    d = planner.serve(model=model, cluster=cluster, serving=asked)
    assert d.fits
    for places in (None, 8):
        most, found = most_of(d, places), capacity_of(d, places)
        assert found <= most
        assert most < 12.0 * found  # a bound that never binds would spare nothing
        one = replica_of(d, places)  # 3 %: a group of requests more or less is counted, and prompts' seconds are interpolated
        assert simulated_per_s(one) <= 1.03 * most_per_s(one)


@pytest.mark.parametrize(
    ("cluster", "serving"),
    [
        ("1xa100-80gb", {"prompt": 1024, "output": 32_768}),
        ("1xa100-80gb", {"prompt": 16_384, "output": 131_072}),
        ("1xh100", {"prompt": 16, "output": 65_536, "engine": "sglang"}),
        ("1xh100", {"prompt": 1000, "output": {"kind": "lognormal", "mean": 8000, "standard_deviation": 8000}}),
    ],
    ids=lambda value: str(value),
)
def test_a_capacity_where_the_cache_overflows_is_that_of_many_more_requests(
    cluster: str, serving: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few requests that are preempted again and again say as much as five times as many; a rough count by time agrees."""
    one = replica_of(planner.serve(model="llama-3-8b", cluster=cluster, serving=serving))
    assert load._overflows(one)
    n = load._saturating(one)
    found = simulated_per_s(one)
    monkeypatch.setattr(load, "_saturating", lambda _: 5 * n)
    random = isinstance(serving["output"], dict)
    assert simulated_per_s(one) == pytest.approx(found, rel=0.1 if random else 0.015)
    monkeypatch.setattr(load, "_overflows", lambda _: False)
    assert simulated_per_s(one) == pytest.approx(found, rel=0.1 if random else 0.03)


def test_an_overflowing_cache_by_hand() -> None:
    """60 tokens hold four requests of 5 and 10 tokens until they are done, six that reserve half of 10, twelve that reserve none;
    seven where there is no place for more, one where even one is too long."""
    one = replica(planner.serve(model="llama-3-8b", cluster="1xh100", serving={"prompt": 5, "output": 10}).times)
    cases = ((1.0, 20, 60.0, 4, 4), (0.5, 20, 60.0, 6, 4), (0.0, 20, 60.0, 12, 4), (0.0, 7, 60.0, 7, 4), (0.0, 7, 4.0, 1, 1))
    for reserved, slots, tokens, first, done in cases:
        server = replace(one.server, cache_tokens=tokens, slots=slots, reserved_output=reserved)
        here = replace(one, server=server)
        assert load._held(here) == (first, done)
        assert load._overflows(here) == (first > 2 * done)


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
    head = float(d.model.vocab_size * d.model.hidden_size)  # a matrix of its own for each token that is written; no embedding
    flops = 2.0 * (parameters_total(d.model) - 2.0 * head) * (prompt + output - 1.0) + 2.0 * head * output
    assert flops * float(d.load.capacity_requests_per_s) < d.cluster.accelerator.peak("bf16")


@pytest.mark.parametrize(("engine", "splits"), [("vllm", True), ("sglang", True), ("tensorrt-llm", False)])
@pytest.mark.parametrize("groups", [1, 8])
def test_a_pass_takes_parts_of_prompts_where_the_engine_splits_them(engine: str, splits: bool, groups: int) -> None:
    """One token more than half a pass, or a whole one, moves nothing there; else a pass holds one prompt in place of two."""
    model, cut = ("llama-3.1-8b", {}) if groups == 1 else ("qwen3-235b-a22b", {"tp": 1, "ep": groups, "weights": "fp8"})

    def times(prompt: int) -> Times:
        fields = {"engine": engine, "prompt": prompt, "output": 2, **cut}
        return planner.serve(model=model, cluster=f"{groups}xh200", serving=fields).times.on_device

    def of_a_token(prompt: int, slots: float = 1e6) -> float:
        return part_of_a_full_pass_s(times(prompt), float(prompt), slots) / prompt

    most = times(1).setting.pass_tokens
    for edge in (most // 2, most):
        assert of_a_token(edge + 1) == pytest.approx(of_a_token(edge), rel=1e-3 if splits else 0.5)
    assert (of_a_token(most // 2 + 1) > 1.001 * of_a_token(most // 2)) == (not splits)
    assert of_a_token(most // 4, 1.0) > of_a_token(most // 4)  # one place holds one prompt
