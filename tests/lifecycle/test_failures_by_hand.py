"""Rates, sums and moments of failures against closed forms, quadrature and other programs' distributions."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm, poisson
from scipy.stats import t as student

from planner.lifecycle.failures import (
    FailureRates,
    failure_rates,
    load_failure_rates,
    simulate_clusters,
    simulate_losses,
    waiting_s,
)
from planner.lifecycle.field_factor import FieldFactor, student_quantile
from planner.performance.interruptions import (
    Interruptions,
    Losses,
    daly_interval_s,
    expected_losses,
    intervals,
    truncated_moments,
    young_interval_s,
)

STOPS = Interruptions(
    failure_rate_per_s=1e-5,
    preemption_rate_per_s=2e-6,
    outage_rate_per_s=4e-6,
    rollback_rate_per_s=8e-6,
    detection_s=60.0,
    preemption_wait_s=600.0,
    outage_s=3600.0,
    rollback_s=1800.0,
    replacement_s=120.0,
    restart_s=300.0,
)


def test_losses_are_the_sum_of_their_causes() -> None:
    """Each cause another power of two; the number of interruptions is no cause."""
    made = Losses(**{one.name: np.array([2.0**i]) for i, one in enumerate(fields(Losses))})
    assert float(made.total[0]) == sum(2.0**i for i, one in enumerate(fields(Losses)) if one.name != "interruptions")


def test_rates_add_up_and_down_time_is_of_its_own_kind() -> None:
    assert STOPS.other_rate_per_s == pytest.approx(1.4e-5)
    assert STOPS.rate_per_s == pytest.approx(2.4e-5)
    assert STOPS.failure_share == pytest.approx(10 / 24)
    assert Interruptions().failure_share == 1.0
    down = STOPS.downtime(*(np.array([float(n)]) for n in (1, 2, 3, 4)))
    assert {cause: float(s[0]) for cause, s in down.items()} == {
        "detection": 60.0, "replacement": 120.0, "preemption": 1200.0, "outage": 10_800.0, "rollback": 7200.0,
    }  # fmt: skip


def test_gpus_their_network_and_software_fail_by_gpus_and_hosts_by_nodes() -> None:
    rates = FailureRates(name="x", gpu_mtbf_s=100.0, network_mtbf_s=200.0, software_mtbf_s=400.0, node_mtbf_s=1000.0)
    assert rates.by_cause(16, 2) == {"gpu": 0.16, "network": 0.08, "software": 0.04, "node": 0.002}
    assert rates.rate_per_s(16, 2) == pytest.approx(0.282)
    assert FailureRates(name="x").rate_per_s(1000, 100) == 0.0


@pytest.mark.parametrize("name", sorted(failure_rates()))
def test_shares_of_causes_keep_the_rate_of_a_node_of_eight(name: str) -> None:
    """Whatever table it is: with causes or shared out, a node of eight GPUs meets as many failures as were counted."""
    assert load_failure_rates(name).rate_per_s(8, 1) == pytest.approx(failure_rates()[name].rate_per_s(8, 1), rel=1e-9)


def test_the_published_rate_is_the_geometric_mean() -> None:
    logs = [math.log(rates.rate_per_s(8, 1)) for rates in failure_rates().values() if rates.counts == "jobs"]
    found = load_failure_rates("published")
    assert found.rate_per_s(8, 1) == pytest.approx(math.exp(sum(logs) / len(logs)), rel=1e-9)
    assert found.log_spread == pytest.approx(float(np.std(logs, ddof=1)), rel=1e-9)


@pytest.mark.parametrize("spares", [0, 1, 3])
@pytest.mark.parametrize("mean", [0.1, 1.0, 4.0])
def test_waiting_for_a_node_is_the_chance_of_no_spare_times_the_first_repair(mean: float, spares: int) -> None:
    assert waiting_s(mean / 3600.0, 3600.0, spares) == pytest.approx(poisson.sf(spares - 1, mean) * 3600.0 / (spares + 1))
    assert waiting_s(0.0, 3600.0, spares) == 0.0


def test_intervals_between_checkpoints() -> None:
    """Young: sqrt(2 d M). Daly's series around it: sqrt(2 d M) (1 + x / 3 + x^2 / 9) - d, x = sqrt(d / (2 M))."""
    assert young_interval_s(60.0, 10_830.0) == pytest.approx(1140.0, rel=1e-4)
    x = math.sqrt(60.0 / 20_000.0)
    assert daly_interval_s(60.0, 10_000.0) == pytest.approx(math.sqrt(1.2e6) * (1 + x / 3 + x * x / 9) - 60.0)
    assert (daly_interval_s(200.0, 100.0), daly_interval_s(300.0, 100.0)) == (100.0, 100.0)


@pytest.mark.parametrize("reach", [1e-6, 5e-4, 0.9e-3, 1.1e-3, 0.3, 2.0, 9.0])
def test_moments_of_a_failure_known_to_come_within_an_interval(reach: float) -> None:
    """By quadrature of the exponential density over the interval."""
    rate, length = 1e-3, reach * 1e3
    chance = -math.expm1(-reach)
    mean = quad(lambda t: t * rate * math.exp(-rate * t) / chance, 0.0, length)[0]
    variance = quad(lambda t: (t - mean) ** 2 * rate * math.exp(-rate * t) / chance, 0.0, length)[0]
    found = [float(x[0]) for x in truncated_moments(np.array([length]), rate)]
    assert found[0] == pytest.approx(mean, rel=1e-6)
    assert found[1] == pytest.approx(variance, rel=1e-3)


def test_work_is_whole_intervals_and_a_rest() -> None:
    whole, rest = intervals(np.array([1000.0, 1050.0, 99.0, 0.3]), 100.0)
    assert whole.tolist() == [10.0, 10.0, 0.0, 0.0]
    assert rest.tolist() == pytest.approx([0.0, 50.0, 99.0, 0.3])
    assert intervals(np.array([0.3]), 0.1)[0].tolist() == [3.0]  # though 0.3 / 0.1 is a little less


def test_a_run_writes_a_checkpoint_for_each_interval_and_for_the_rest() -> None:
    still = Interruptions()
    for losses in (
        expected_losses(1050.0, 100.0, 2.0, still),
        simulate_losses(np.array([1050.0]), 100.0, 2.0, still, np.random.default_rng(0)),
    ):
        assert float(losses.total[0]) == float(losses.checkpoint[0]) == 22.0
        assert float(losses.interruptions[0]) == 0.0


def test_a_run_that_is_hardly_interrupted_loses_half_an_interval_each_time() -> None:
    """To first order: rate x time interruptions, of each kind in its share, half an interval of work, one restart."""
    stops = replace(STOPS, **{name: getattr(STOPS, name) * 1e-4 for name in vars(STOPS) if name.endswith("rate_per_s")})
    work, interval, write = 1e6, 2000.0, 20.0
    found = expected_losses(work, interval, write, replace(stops, unwritten_s=50.0))
    count = stops.rate_per_s * work * (1 + write / interval)
    assert float(found.interruptions[0]) == pytest.approx(count, rel=1e-3)
    assert float(found.lost_work[0]) == pytest.approx(count * ((interval + write) / 2 + 50.0), rel=1e-3)
    assert float(found.restart[0]) == pytest.approx(count * 300.0, rel=1e-3)
    assert float(found.detection[0]) == pytest.approx(count * 10 / 24 * 60.0, rel=1e-3)
    assert float(found.preemption[0]) == pytest.approx(count * 2 / 24 * 600.0, rel=1e-3)
    assert float(found.outage[0]) == pytest.approx(count * 4 / 24 * 3600.0, rel=1e-3)
    assert float(found.rollback[0]) == pytest.approx(count * 8 / 24 * 1800.0, rel=1e-3)
    assert float(found.checkpoint[0]) == 500 * write


@pytest.mark.parametrize(("log_spread", "rate"), [(0.0, 1e-4), (0.5, 0.0)])
def test_clusters_that_are_alike_or_never_fail_are_one_cluster(log_spread: float, rate: float) -> None:
    """The same draws, bit for bit; preempted nodes are no failures of a cluster."""
    stops, work = Interruptions(failure_rate_per_s=rate, preemption_rate_per_s=5e-5, restart_s=300.0), np.full(64, 1e6)
    one, alike = np.random.default_rng(3), np.random.default_rng(3)
    expected = simulate_losses(work, 2e4, 60.0, stops, one)
    found = simulate_clusters(work, 2e4, 60.0, stops, log_spread, alike)
    for field in fields(Losses):
        assert np.array_equal(getattr(found, field.name), getattr(expected, field.name)), field.name
    assert expected.restart.sum() > 0


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 30])
@pytest.mark.parametrize("chance", [0.6, 0.9, 0.95, 0.995])
def test_students_quantiles_are_scipys(degrees: int, chance: float) -> None:
    assert student_quantile(chance, degrees) == pytest.approx(student.ppf(chance, degrees), rel=1e-9)


def test_one_more_run_spreads_by_the_runs_and_the_mean_together() -> None:
    made = FieldFactor(factor=1.2, log_spread=0.3, log_error=0.4, num_runs=20, num_organisations=9)
    assert made.predictive_spread == pytest.approx(student.ppf(0.95, 7) / norm.ppf(0.95) * 0.5, rel=1e-9)
    two = made.replaced(num_organisations=2)
    assert two.predictive_spread == pytest.approx(student.ppf(0.95, 1) / norm.ppf(0.95) * 0.5, rel=1e-9)
