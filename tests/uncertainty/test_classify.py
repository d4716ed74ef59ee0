"""Classes of residuals and their bounds against closed forms: a balanced analysis of variance, Student's t, order statistics."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from planner.evidence.serving.residuals import ENOUGH_MODELS, classify
from planner.uncertainty.classify import class_key, class_table, effective_runs
from planner.uncertainty.effects import effects_of
from planner.uncertainty.interval import ENOUGH, Interval, Member, Subject, bounds
from planner.uncertainty.ratio import ratio, ratio_of

SUBJECT = Subject(framework="megatron-core", curves="h100", family="dense", num_nodes=4, num_gpus=32, parameters=8e9)


def runs(*groups: list[float]) -> tuple[list[Member], list[int]]:
    """A run for each value, alike within its group."""
    members = [(replace(SUBJECT), value) for group in groups for value in group]
    return members, [i for i, group in enumerate(groups) for _ in group]


def test_runs_that_err_alike_count_as_kish_has_it() -> None:
    """Three groups of four: mean squares between 4 x variance of means, within the mean variance; n / (1 + (m - 1) rho)."""
    groups = ([0.0, 0.2, 0.1, 0.3], [0.4, 0.5, 0.3, 0.6], [0.1, 0.2, 0.4, 0.3])
    between = 4 * float(np.var([np.mean(g) for g in groups], ddof=1))
    within = float(np.mean([np.var(g, ddof=1) for g in groups]))
    rho = (between - within) / (between + 3 * within)
    assert 0.0 < rho < 1.0
    assert effective_runs(*runs(*groups)) == pytest.approx(max(12 / (1 + 3 * rho), 8.0), rel=1e-12)
    # many of them: not at the least number
    many = groups * 6
    between, within = 4 * float(np.var([np.mean(g) for g in many], ddof=1)), float(np.mean([np.var(g, ddof=1) for g in many]))
    rho = (between - within) / (between + 3 * within)
    assert effective_runs(*runs(*many)) == pytest.approx(72 / (1 + 3 * rho), rel=1e-12)
    assert effective_runs(*runs(*many)) > 8.0


def test_groups_of_several_sizes_have_a_typical_one() -> None:
    """Searle's n0 = (n - sum of squares / n) / (groups - 1) in place of the size."""
    sizes = (2, 3, 5, 8, 9)
    groups = tuple([0.1 * i + 0.07 * (-1) ** k * (k + 1) for k in range(size)] for i, size in enumerate(sizes))
    n, values = sum(sizes), [np.array(g) for g in groups]
    centre = np.concatenate(values).mean()
    between = sum(len(v) * (v.mean() - centre) ** 2 for v in values) / 4
    within = sum(((v - v.mean()) ** 2).sum() for v in values) / (n - 5)
    typical = (n - sum(s * s for s in sizes) / n) / 4
    rho = max((between - within) / (between + (typical - 1) * within), 0.0)
    expected = n / (1 + (sum(s * s for s in sizes) / n - 1) * rho)
    assert effective_runs(*runs(*groups)) == pytest.approx(min(max(expected, 8.0), n), rel=1e-12)


def test_runs_unlike_each_other_all_count_and_one_group_hardly() -> None:
    assert effective_runs(*runs([0.1], [0.2], [0.5])) == 3
    assert effective_runs(*runs([0.1] * 4 + [0.2] * 8)) == 8.0
    assert effective_runs(*runs([0.1, 0.2, 0.4])) == 3
    # no more alike within groups than between: all twelve
    assert effective_runs(*runs([0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0])) == 12


def test_few_residuals_have_students_bounds_for_the_next_one() -> None:
    values = [0.1, -0.2, 0.05, 0.3, -0.1]
    half = student.ppf(0.95, 4) * np.std(values, ddof=1) * math.sqrt(1 + 1 / 5)
    assert bounds(values) == pytest.approx((np.mean(values) - half, np.mean(values) + half), rel=1e-9)


@pytest.mark.parametrize(("n", "k"), [(19, 1), (38, 1), (39, 2), (59, 3), (99, 5)])
def test_many_residuals_have_their_own_order(n: int, k: int) -> None:
    """k = floor((n + 1) / 20): Vovk's split-conformal bounds."""
    values = list(np.random.default_rng(n).normal(size=n))
    ordered = sorted(values)
    assert bounds(values) == (ordered[k - 1], ordered[n - k])


def test_a_class_of_its_own_needs_runs_and_models() -> None:
    members = [(replace(SUBJECT, num_gpus=8 * (i + 1)), 0.01 * i) for i in range(ENOUGH)]
    assert (ENOUGH, ENOUGH_MODELS) == (10, 3)

    def of_framework(models: int, count: int) -> bool:
        likes = [(str(i % models), "") for i in range(count)]
        made = classify("prefill", members[:count], likes, [value for _, value in members])
        return any(one.get("framework") for one in made)

    assert of_framework(3, 10)
    assert not of_framework(2, 10)
    assert not of_framework(3, 9)


def test_a_class_states_its_sizes() -> None:
    members = [(replace(SUBJECT, num_gpus=g, parameters=p), 0.0) for g, p in ((8, 7e9), (64, 1.3e10), (16, 2e9))]
    made = class_table("memory", {"framework": "fsdp"}, [*members, members[0]], -0.12344, 0.23456)
    assert (made["rows"], made["lower"], made["upper"]) == (3, -0.1234, 0.2346)
    assert (made["fewest_gpus"], made["most_gpus"]) == (8, 64)
    assert (made["fewest_parameters"], made["most_parameters"]) == (2e9, 1.3e10)


def test_independent_factors_add_their_squares() -> None:
    """Both ways by a factor of two: sqrt(2) times the logarithm. Half of a value's inverse is twice the numerator's."""
    one = Interval(lower=0.5, expected=1.0, upper=2.0)
    both = one.with_factor(0.5, 2.0)
    assert (both.lower, both.upper) == pytest.approx((2 ** -math.sqrt(2), 2 ** math.sqrt(2)))
    uneven = Interval(lower=0.5, expected=1.0, upper=4.0).with_factor(0.25, 1.0)
    assert (uneven.lower, uneven.upper) == pytest.approx((2 ** -math.sqrt(5), 4.0))
    assert one.scaled(3.0) == Interval(lower=1.5, expected=3.0, upper=6.0)
    assert one.inverse(8.0) == Interval(lower=4.0, expected=8.0, upper=16.0)


def test_a_ratio_lies_around_its_middle_by_students_law() -> None:
    """Bounds at 1.645 deviations of the shifted logarithm; the first is the smaller with the chance of Student's t of 2 degrees
    of freedom whose 5 % and 95 % points they are."""
    made = ratio_of(math.log(2.0), 0.1, 0.2)
    z = 1.6448536269514722
    assert made.expected == pytest.approx(2.0)
    assert (made.lower, made.upper) == pytest.approx((2 * math.exp(0.1 - z * 0.2), 2 * math.exp(0.1 + z * 0.2)))
    below = student.cdf(-(math.log(2.0) + 0.1) / 0.2 / z * student.ppf(0.95, 2), 2)
    assert made.probability_first_smaller == pytest.approx(below, rel=1e-6)
    again = made.scaled(1.5)
    assert (again.lower / made.lower, again.expected / made.expected, again.upper / made.upper) == pytest.approx((1.5,) * 3)
    wider = made.widened(0.8, 1.1)
    assert (wider.lower, wider.upper) == pytest.approx((0.8 * made.lower, 1.1 * made.upper))
    assert wider.expected == pytest.approx(2.0)
    for lower, upper, down, up in ((1.2, 1.5, 1.0, 1.5), (0.5, 0.7, 0.5, 1.0)):  # the ratio itself is not moved
        moved = made.widened(lower, upper)
        assert (moved.lower, moved.upper) == pytest.approx((down * made.lower, up * made.upper))


@pytest.mark.parametrize(("chance", "known"), [(0.05, True), (0.0501, False), (0.5, False), (0.9499, False), (0.95, True)])
def test_an_order_is_known_with_95_percent(chance: float, known: bool) -> None:
    assert replace(ratio_of(0.0, 0.0, 0.1), probability_first_smaller=chance).decidable is known


def test_a_ratio_that_is_certain_and_one_of_a_question_with_itself() -> None:
    """The bounds hold the expected ratio, also where errors move it beyond."""
    assert [ratio_of(x, 0.0, 0.0).probability_first_smaller for x in (-1e-9, 0.0, 1e-9)] == [1.0, 0.5, 0.0]
    itself = ratio(6.0, 2.0, "step_time", SUBJECT, SUBJECT)
    assert (itself.lower, itself.expected, itself.upper) == pytest.approx((3.0, 3.0, 3.0))
    moved = ratio_of(0.0, 1.0, 0.1)
    assert (moved.lower, moved.upper) == pytest.approx((1.0, math.exp(1.0 + 0.16448536)))
    mean, deviation = effects_of("step_time").difference(SUBJECT, replace(SUBJECT, num_gpus=64))
    other = ratio(6.0, 2.0, "step_time", SUBJECT, replace(SUBJECT, num_gpus=64))
    assert (other.lower, other.upper) == pytest.approx(
        (3.0 * math.exp(mean - 1.6448536 * deviation), 3.0 * math.exp(mean + 1.6448536 * deviation))
    )


def test_one_node_is_a_class_and_several_are_another() -> None:
    made = class_key(replace(SUBJECT, precision="bf16"))
    assert made == {"framework": "megatron-core", "curves": "h100", "family": "dense", "precision": "bf16", "nodes": "several"}
    assert [class_key(replace(SUBJECT, num_nodes=n))["nodes"] for n in (1, 2)] == ["one", "several"]


def test_chances_of_equal_residuals_and_of_runs_counted_less() -> None:
    """Forty residuals of twenty runs: the second from either end, which is a tenth of a run's half."""
    values = [float(x) for x in range(40)]
    assert bounds(values, 20.0) == (1.0, 38.0)
    assert bounds(values, 19.5) == (2.0, 37.0)
