"""Laws of intervals and of the probabilities that follow from them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit
from scipy.stats import t

from planner.evidence.held_out import load_held_out, subjects
from planner.performance.risk import FitRule
from planner.uncertainty.effects import standing
from planner.uncertainty.interval import (
    STUDENT_95,
    Interval,
    Metric,
    Subject,
    bounding_factors,
    interval,
    probability_below,
    student_below,
    student_quantile,
)

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


@given(LOW, UP, LOW, UP)
def test_reaches_of_independent_factors_add_as_squares(lower: float, upper: float, less: float, more: float) -> None:
    both = between(lower, upper).with_factor(less, more)
    assert math.log(both.lower) ** 2 == pytest.approx(math.log(lower) ** 2 + math.log(less) ** 2)
    assert math.log(both.upper) ** 2 == pytest.approx(math.log(upper) ** 2 + math.log(more) ** 2)
    assert both.expected == 1.0


def test_what_may_be_nothing_has_no_logarithm_to_widen() -> None:
    free = Interval(lower=0.0, expected=1.0, upper=2.0)
    assert free.with_factor(0.5, 2.0) == free


@given(LOW, UP, st.lists(st.floats(0.0, 10.0), min_size=2, max_size=20))
def test_probability_grows_with_the_limit_and_is_the_same_one_by_one(lower: float, upper: float, limits: list[float]) -> None:
    sure = between(lower, upper)
    many = np.asarray(sure.probability_below(np.sort(limits)))
    assert ((many >= 0.0) & (many <= 1.0)).all()
    assert (np.diff(many) >= 0.0).all()
    assert many.tolist() == [sure.probability_below(float(limit)) for limit in np.sort(limits)]


@given(st.floats(-1e6, 1e6), st.floats(0.001, 0.999))
def test_the_law_of_memory_is_students_with_2_degrees_of_freedom(x: float, probability: float) -> None:
    assert float(student_below(x)) == pytest.approx(t.cdf(x, 2), rel=1e-9)
    assert student_quantile(probability, 2) == pytest.approx(t.ppf(probability, 2), rel=1e-9, abs=1e-12)
    assert float(student_below(-x)) + float(student_below(x)) == pytest.approx(1.0, abs=1e-15)
    assert student_below(np.array([-np.inf, np.inf])).tolist() == [0.0, 1.0]


@given(st.floats(0.001, 0.9999))
def test_with_2_degrees_the_quantile_has_a_closed_form(p: float) -> None:
    """t = (2 p - 1) / sqrt(2 p (1 - p)): the distribution (1 + t / sqrt(2 + t^2)) / 2, turned round."""
    assert student_quantile(p, 2) == pytest.approx((2.0 * p - 1.0) / math.sqrt(2.0 * p * (1.0 - p)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("probability", [0.05, 0.5, 0.6, 0.9, 0.95, 0.995, 0.999])
def test_students_quantiles_are_those_of_scipy(probability: float) -> None:
    for degrees in range(1, 60):
        assert student_quantile(probability, degrees) == pytest.approx(stdtrit(degrees, probability), rel=1e-12, abs=1e-15), (
            degrees
        )


@given(LOW, UP, st.floats(0.01, 0.5), st.floats(0.0, 1.0))
def test_what_holds_at_a_risk_has_that_probability(lower: float, upper: float, risk: float, states: float) -> None:
    """At any risk, not at that of the bounds alone: the rule and the probability are one law."""
    if upper / lower > 1.0 + 1e-6:
        rule = FitRule(usable_bytes=80e9, error=between(lower, upper), risk=risk)
        most = float(rule.most_bytes(1.0 - states))
        sure = float(rule.probability(most, states * most))
        assert sure == pytest.approx(1.0 - risk, abs=1e-9) or (most == 80e9 and sure > 1.0 - risk)  # the whole of the GPU


def test_half_of_the_measured_peaks_lie_where_the_law_says_that_half_do() -> None:
    """The catalog's peaks around the catalog's predictions, a source of n as sqrt(n): near ones and far ones, where a normal law
    would have 35 % in place of half, and none in a hundred in place of three."""
    frame = load_held_out()
    assert frame is not None
    peaks = frame[frame["metric"] == "memory"]
    found = [bounding_factors(standing("memory", s)) for s in subjects(peaks)]
    lower, upper = np.log(np.array(found)).T
    x = STUDENT_95 * (2.0 * peaks["residual"].to_numpy() - lower - upper) / (upper - lower)
    weights = peaks.groupby("source")["id"].transform("size").to_numpy() ** -0.5
    for said in (0.5, 0.75, 0.9, 0.97):
        inside = np.average(np.abs(2.0 * student_below(x) - 1.0) <= said, weights=weights)
        assert inside == pytest.approx(said, abs=0.06), said


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


def test_a_risk_of_one_in_a_thousand_needs_the_margin_that_the_docs_say() -> None:
    """docs/concepts/intervals.md: 7.6 times that of one in twenty, in the logarithm."""
    assert student_quantile(0.999, 2) / STUDENT_95 == pytest.approx(7.6, abs=0.05)
