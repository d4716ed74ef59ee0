"""What interruptions cost a run, in closed form: sums, moments and intervals against quadrature and published series."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from examples import LLAMA, framework, gpus, job, model
from scipy.integrate import quad

from planner.common.errors import PlannerError
from planner.model.parameters import parameters_total
from planner.performance.interruptions import (
    Interruptions,
    Losses,
    Recovery,
    checkpoint_bytes,
    daly_interval_s,
    expected_losses,
    intervals,
    spot_goodput,
    spot_stretch,
    truncated_moments,
    young_interval_s,
)
from planner.prices.price import Price
from planner.workload.question import Question

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


def test_a_recovery_by_hand() -> None:
    """Four nodes of 2 GB/s and storage that takes 5; a node taken away every 1e6 s; 40 s to write, of which a quarter blocks."""
    plain = Recovery(preemption_mtbf_s=1e6, blocking_fraction=0.25)
    assert (plain.bandwidth_bytes_per_s(4), replace(plain, storage_bytes_per_s=5e9).bandwidth_bytes_per_s(4)) == (8e9, 5e9)
    assert replace(plain, storage_bytes_per_s=9e9).bandwidth_bytes_per_s(4) == 8e9
    stops = plain.stops(4, 40.0)
    assert (stops.preemption_rate_per_s, stops.preemption_wait_s) == (4e-6, 600.0)
    assert (stops.restart_s, stops.unwritten_s) == (300.0 + 40.0, 40.0 * 0.75)
    assert replace(plain, checkpoint="none").stops(4, 40.0).unwritten_s == 0.0
    assert Recovery().stops(4, 40.0).rate_per_s == 0.0
    assert (plain.counts(None), Recovery().counts(None)) == (True, False)
    assert [plain.counts(Price(usd_per_gpu_hour=1.0, term=term)) for term in ("spot", "on-demand")] == [True, False]


def test_checkpoints_lie_whole_steps_apart() -> None:
    """Steps of 30 s: 100 s are three, 110 s four, 5 s one; as many as were asked for; none where nothing stops."""
    stops, step = Interruptions(preemption_rate_per_s=1e-4), np.array([30.0])
    for wanted, found in ((100.0, 90.0), (110.0, 120.0), (5.0, 30.0)):
        assert Recovery(checkpoint_interval_s=wanted).interval_s(step, 1.0, stops).tolist() == [found]  # type: ignore[union-attr]
    assert Recovery(checkpoint_every_steps=7).interval_s(step, 1.0, stops).tolist() == [210.0]  # type: ignore[union-attr]
    assert Recovery(checkpoint="none").interval_s(step, 1.0, stops) is None
    assert Recovery().interval_s(step, 1.0, Interruptions()) is None
    assert Recovery(checkpoint_every_steps=7).wanted_interval_s(1.0, stops) is None


def test_a_checkpoint_holds_weights_masters_and_states() -> None:
    """bf16 under Megatron-Core: 2 + 4 + 8 bytes a parameter; of a frozen model the adapters', 4 + 8 in fp32."""
    whole = model(LLAMA)
    assert checkpoint_bytes(whole, job(), framework("megatron-core")) == 14 * parameters_total(whole)
    tuned = job(kind="lora", adapter={"rank": 8, "target_modules": ["q_proj"]})
    assert checkpoint_bytes(whole, tuned, framework("peft")) == 12 * 4 * 8 * (512 + 512)


def test_a_run_without_checkpoints_begins_again() -> None:
    """1,000 steps of 1 s, interrupted every 2,000 s: (e^x - 1) / x of the work with x = 1/2, and for each of e^x - 1
    interruptions the wait and the restart, which may be interrupted itself."""
    rare = Recovery(preemption_mtbf_s=2000.0, checkpoint="none", restart_s=100.0, preemption_wait_s=50.0)
    found = float(rare.stretch(1, 0.0, np.ones(1), 1000.0)[0])
    again, restart = math.expm1(0.5), math.expm1(100 / 2000) * 2000
    assert found == pytest.approx(again / 0.5 + again * (50 + restart) / 1000, rel=1e-6)


def test_spot_hours_count_only_where_nodes_are_taken_away() -> None:
    question = Question(model(LLAMA), gpus(8), framework("megatron-core"), job())
    assert spot_stretch(question, None, Recovery(), np.ones(3), 10.0).tolist() == [1.0] * 3
    taken = Recovery(preemption_mtbf_s=1e5)
    written = 14 * parameters_total(model(LLAMA))
    assert spot_stretch(question, None, taken, np.ones(2), None) == pytest.approx(taken.stretch(1, written, np.ones(2), None))
    assert float(taken.stretch(1, written, np.ones(1), None)[0]) > 1.0
