"""What interruptions cost a run, in closed form: sums, moments and intervals against quadrature and published series."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from examples import gpus
from scipy.integrate import quad

from planner.common.errors import PlannerError
from planner.performance.interruptions import (
    Interruptions,
    Losses,
    Recovery,
    daly_interval_s,
    expected_losses,
    intervals,
    spot_goodput,
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
    assert {getattr(Interruptions(), one.name) for one in fields(Interruptions)} == {0.0}  # what is not said costs nothing
    down = STOPS.downtime(*(np.array([float(n)]) for n in (1, 2, 3, 4)))
    assert {cause: float(s[0]) for cause, s in down.items()} == {
        "detection": 60.0, "replacement": 120.0, "preemption": 1200.0, "outage": 10_800.0, "rollback": 7200.0,
    }  # fmt: skip


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
    losses = expected_losses(1050.0, 100.0, 2.0, Interruptions())
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


def test_a_job_takes_the_interval_of_its_rule_and_never_two_writes_at_once() -> None:
    """Young: sqrt(2 x 50 s x 10,000 s) = 1,000 s; of 50 s a quarter stops the job: 500 s. A write of 30,000 s is waited for."""
    stops = Interruptions(preemption_rate_per_s=1e-4)
    young = Recovery(checkpoint="young")
    assert young.wanted_interval_s(50.0, stops) == pytest.approx(1000.0)
    assert Recovery(checkpoint="young", blocking_fraction=0.25).wanted_interval_s(50.0, stops) == pytest.approx(500.0)
    assert Recovery().wanted_interval_s(50.0, stops) == pytest.approx(daly_interval_s(50.0, 10_000.0))
    assert young.wanted_interval_s(30_000.0, stops) == 30_000.0


def test_spot_hours_lose_writes_half_an_interval_and_the_way_back() -> None:
    """A node lost every 1e6 s, 30 s a write: sqrt(2 x 30 x 1e6) = 7,746 s between. 30 / 7,746 + (7,746 / 2 + 600 + 330) / 1e6
    of the hours are lost, to first order."""
    lost = 1.0 - spot_goodput(gpus(8), 1e6)
    assert lost == pytest.approx(30 / 7746 + (7746 / 2 + 600 + 330) / 1e6, rel=0.02)


def test_a_run_whose_interval_needs_e_to_the_12_attempts_is_refused() -> None:
    """A node lost every 1,000 s: 11,900 s without one is a chance of exp(-11.9), 12,100 s of exp(-12.1)."""
    step = np.ones(1)
    allowed = Recovery(preemption_mtbf_s=1000.0, checkpoint_interval_s=11_900.0).stretch(1, 1.0, step, None)
    assert allowed[0] > math.exp(11.9) * 1000 / 11_900  # the work lost alone
    with pytest.raises(PlannerError, match="would never end"):
        Recovery(preemption_mtbf_s=1000.0, checkpoint_interval_s=12_100.0).stretch(1, 1.0, step, None)
