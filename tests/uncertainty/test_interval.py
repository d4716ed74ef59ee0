"""Laws of intervals and of the probabilities that follow from them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.uncertainty.interval import Interval, Metric, Subject, interval, probability_below

LOW = st.floats(0.2, 1.0)
UP = st.floats(1.0, 5.0)
SUBJECT = Subject(framework="megatron-core", curves="h100", family="dense", num_nodes=4, num_gpus=32, parameters=8e9)


def between(lower: float, upper: float) -> Interval:
    return Interval(lower=lower, expected=1.0, upper=upper)


@given(LOW, UP)
def test_the_bounds_are_the_points_of_5_and_95_percent(lower: float, upper: float) -> None:
    if upper / lower > 1.0 + 1e-9:
        sure = between(lower, upper)
        assert sure.probability_below(lower) == pytest.approx(0.05, abs=1e-9)
        assert sure.probability_below(upper) == pytest.approx(0.95, abs=1e-9)
        assert sure.probability_below(math.sqrt(lower * upper)) == pytest.approx(0.5, abs=1e-6)


@given(LOW, UP, st.lists(st.floats(0.0, 10.0), min_size=2, max_size=20))
def test_probability_grows_with_the_limit_and_is_the_same_one_by_one(lower: float, upper: float, limits: list[float]) -> None:
    sure = between(lower, upper)
    many = np.asarray(sure.probability_below(np.sort(limits)))
    assert ((many >= 0.0) & (many <= 1.0)).all()
    assert (np.diff(many) >= 0.0).all()
    assert many.tolist() == [sure.probability_below(float(limit)) for limit in np.sort(limits)]


def test_nothing_fits_into_nothing_and_what_is_certain_is_certain() -> None:
    assert between(0.9, 1.1).probability_below(0.0) == 0.0
    assert between(1.0, 1.0).probability_below(1.0) == 1.0
    assert between(1.0, 1.0).probability_below(0.999) == 0.0


def test_the_probability_that_it_fits_falls_with_the_need() -> None:
    need = np.array([20e9, 60e9, 79e9, 85e9, 200e9])
    found = np.asarray(probability_below(80e9, need, "memory", SUBJECT))
    assert (np.diff(found) <= 0.0).all()
    assert found[0] > 0.99
    assert found[-1] < 0.01
    assert found[2] == probability_below(80e9, 79e9, "memory", SUBJECT)


@pytest.mark.parametrize("metric", ["step_time", "memory"])
def test_a_run_that_leaves_out_part_of_its_setting_is_known_less_well(metric: Metric) -> None:
    whole, part = (interval(1.0, metric, replace(SUBJECT, incomplete=gap)) for gap in (0.0, 1.0))
    assert part.lower < whole.lower
    assert part.upper > whole.upper


def test_a_family_that_takes_its_kernels_from_another_is_told_by_what_was_measured_of_that() -> None:
    """An H100 of 500 W takes the kernels of an H100; a GeForce RTX 4090 was measured itself."""
    for root, curves, family in (
        ("vllm", "h100-500w", "h100"),
        ("sglang", "h100-500w", "h100"),
        ("vllm", "ada-geforce", "ada-geforce"),
    ):
        of_family = replace(SUBJECT, framework=root, root=root, curves=curves)
        why = interval(1.0, "decode", of_family).why
        assert f"on {family} GPUs" in why, why
