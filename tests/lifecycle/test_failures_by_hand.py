"""Rates and draws of failures against closed forms and other programs' distributions."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
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
from planner.lifecycle.field_factor import FieldFactor
from planner.performance.interruptions import Interruptions, Losses


def test_a_simulated_run_writes_a_checkpoint_for_each_interval_and_for_the_rest() -> None:
    losses = simulate_losses(np.array([1050.0]), 100.0, 2.0, Interruptions(), np.random.default_rng(0))
    assert float(losses.total[0]) == float(losses.checkpoint[0]) == 22.0
    assert float(losses.interruptions[0]) == 0.0


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


def test_one_more_run_spreads_by_the_runs_and_the_mean_together() -> None:
    made = FieldFactor(factor=1.2, log_spread=0.3, log_error=0.4, num_runs=20, num_organisations=9)
    assert made.predictive_spread == pytest.approx(student.ppf(0.95, 7) / norm.ppf(0.95) * 0.5, rel=1e-9)
    two = made.replaced(num_organisations=2)
    assert two.predictive_spread == pytest.approx(student.ppf(0.95, 1) / norm.ppf(0.95) * 0.5, rel=1e-9)
