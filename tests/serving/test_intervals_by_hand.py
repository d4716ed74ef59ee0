"""Intervals of a deployment by hand: which figure was measured, what follows from a capacity, what a slower clock does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from serving_examples import LLAMA, MIXTRAL, deployment, model, serving_times

from planner.serving.disaggregated import Pools, load_apart
from planner.serving.intervals import (
    _at_rate,
    _of_capacity,
    _slowed,
    certainty,
    interval_of,
    remembered,
    stability,
    subject_of,
)
from planner.serving.load import Load
from planner.uncertainty.interval import Interval, interval

CAPACITY = Interval(lower=4.0, expected=8.0, upper=10.0, provenance="extrapolated", why="few")


def test_what_a_token_costs_at_a_capacity_and_at_a_rate() -> None:
    """The inverse of a throughput from half to 1.25 times as much; at a rate nothing is unsure until the GPUs may carry less."""
    full = _of_capacity(CAPACITY, 3.0)
    assert (full.lower, full.expected, full.upper, full.provenance) == (2.4, 3.0, 6.0, "extrapolated")
    carried = _at_rate(CAPACITY, 4.0, 3.0)
    assert (carried.lower, carried.expected, carried.upper) == (3.0, 3.0, 3.0)
    beyond = _at_rate(CAPACITY, 6.0, 3.0)
    assert (beyond.lower, beyond.expected, beyond.upper) == (3.0, 3.0, 4.5)
    assert "may carry less: few" in str(beyond.why)


@pytest.mark.parametrize(
    ("rate", "stable", "clients", "words"),
    [
        (3.9, True, None, "stable"), (4.0, True, None, "probably stable"), (10.0, False, None, "probably unstable"),
        (10.1, False, None, "unstable"), (99.0, True, 4, "stable"),
    ],
)  # fmt: skip
def test_how_sure_a_queue_is_stable(rate: float, stable: bool, clients: int | None, words: str) -> None:
    load = Load(requests_per_s=rate, capacity_requests_per_s=8.0, utilisation=rate / 8.0, stable=stable, clients=clients)
    assert stability(CAPACITY, load) == words


@pytest.mark.parametrize(
    ("card", "fits", "words"),
    [(10.0, True, "fits"), (9.9, True, "probably fits"), (4.0, False, "probably does not fit"), (3.9, False, "does not fit")],
)
def test_how_sure_it_fits(card: float, fits: bool, words: str) -> None:
    assert certainty(CAPACITY, card, fits) == words


def test_a_rate_errs_as_its_seconds_the_other_way_round() -> None:
    """50 tokens a second are 20 ms each; the throughput of a batch is that of decoding, of many requests its own."""
    setting = deployment(model(LLAMA))
    seconds = interval(0.02, "decode", subject_of(setting, "batched"))
    for name in ("decode_tokens_per_s", "output_tokens_per_s"):
        rate = interval_of(setting, name, 50.0, batch=4)
        assert (rate.lower, rate.expected, rate.upper) == pytest.approx((1 / seconds.upper, 50.0, 1 / seconds.lower))
    loaded = interval_of(setting, "output_tokens_per_s", 50.0, batch=4, loaded=True)
    saturated = interval(0.02, "throughput", subject_of(setting, "saturated"))
    assert loaded.lower == pytest.approx(1 / saturated.upper)
    vectors = deployment(model(LLAMA), prompt=8, output=1, embeds=True, engine="vllm-v1")
    first = interval(0.02, "prefill", subject_of(vectors, "prefill"))
    assert interval_of(vectors, "e2e_s", 0.02).upper == pytest.approx(first.upper)


def test_the_subject_of_a_deployment_by_hand() -> None:
    """Eight experts on four GPUs of which two share attention: log2 of 2, 1, 1, 4, batch, context, 4 GPUs and parameters."""
    setting = deployment(model(MIXTRAL), 4, tp=2, ep=4, weights="fp8")
    s = subject_of(setting, "batched", 8.0, 512.0)
    assert s.coordinates[:7] == (1.0, 0.0, 0.0, 2.0, 3.0, 9.0, 2.0)
    assert 2.0 ** s.coordinates[7] == pytest.approx(s.parameters)
    assert subject_of(setting, "batched", 0.5, 0.5).coordinates[4:6] == (0.0, 0.0)
    assert (s.num_gpus, s.job, s.precision, s.figure) == (4, "several GPUs", "fp8", "batched")
    assert s.model == "4x512x8x1024x8"
    alone = subject_of(deployment(model(LLAMA)), "decode")
    assert (alone.job, alone.model, alone.precision) == ("one GPU", "4x512x8x1024", "16")


@pytest.mark.parametrize(
    ("weights", "stored", "precision"),
    [
        ("bf16", "", "16-bit"), ("fp8", "", "quantized"), ("fp8", "fp8", "16-bit"), ("fp8-weight-only", "fp8-block", "16-bit"),
        ("fp8-weight-only", "mxfp4", "quantized"), ("int4-awq", "fp8", "quantized"),
    ],
)  # fmt: skip
def test_weights_of_known_bytes(weights: str, stored: str, precision: str) -> None:
    m = model(LLAMA).model_copy(update={"stored_weights": stored})
    assert remembered(replace(deployment(model(LLAMA), weights=weights), model=m)).precision == precision


def test_pools_that_take_twice_as_long_are_those_on_another_clock() -> None:
    """Twice the latencies at twice the rate, of both pools as of one, where requests wait for others."""
    times = serving_times(model(LLAMA), 2, prefill_pool={}, requests_per_s=1.0, num_requests=200, prompt=64, output=8)
    rate = 0.4 * Pools(times).capacity_per_s
    slow, twice = _slowed(times, rate, 2.0), load_apart(times, 2.0 * rate, Pools(times))
    assert (twice.ttft_s or {})["p95"] > 1.05 * (load_apart(times, 0.01 * rate, Pools(times)).ttft_s or {})["p95"]
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        for key, value in (getattr(twice, name) or {}).items():
            assert slow[name][key] == pytest.approx(2.0 * value, rel=1e-6), (name, key)
