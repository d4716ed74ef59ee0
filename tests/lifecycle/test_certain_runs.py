"""Runs and bills of which nothing varies, worked out by hand: every bound is what is expected, every cause its own product."""

from __future__ import annotations

import datetime
import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from field_bounds import check_bounds

import planner
from planner.common.spec import Spec
from planner.lifecycle.bill import MONTH_S, Bill, Costs, bill_of, mean_of
from planner.lifecycle.failures import FailureRates, simulate_clusters
from planner.lifecycle.field_factor import FieldFactor, field_factor
from planner.lifecycle.sensitivity import cash_flow, tornado
from planner.lifecycle.simulation import Z_90, WholeRun, expected_run, straggler_factor
from planner.lifecycle.spec import Run
from planner.performance.interruptions import Interruptions, Losses, expected_losses
from planner.prices.market import Commitment
from planner.prices.ownership import constants, power_w_per_gpu
from planner.prices.price import Price
from planner.training.plan import Plan
from planner.uncertainty.interval import Interval

TODAY = datetime.date(2026, 11, 21)
HOUR, DAY = 3600.0, 86_400.0


def certain(value: float) -> Interval:
    return Interval(lower=value, expected=value, upper=value)


@pytest.fixture(scope="module")
def answer() -> Plan:
    """Two nodes of eight; its step takes what it takes."""
    found = planner.plan(
        model="mixtral-8x7b",
        cluster={"node": "dgx-h100", "num_nodes": 2},
        job={"seq_len": 4096, "global_batch_size": 256, "num_tokens": 10**10, "routing": "forced"},
        layout={"tp": 2, "sequence_parallel": True, "ep": 8, "zero": 1},
        price=2.0,
    )
    found.__dict__["intervals"] = {**found.intervals, "step_time_s": certain(found.step_time_s)}
    return found


RUN: dict[str, Any] = {
    "failures": "none", "checkpoint_interval_s": 1000.0, "checkpoint_bytes": 4e12, "restart_s": 100.0, "ramp_up_s": 2 * HOUR,
    "maintenance_every_s": HOUR, "maintenance_s": 60.0, "evaluation_every_steps": 500, "evaluation_tokens": 10**7,
    "warmup_steps": 50, "warmup_slowdown": 3.0, "straggler_jitter": 0.02, "slow_node_probability": 1.0,
    "slow_node_slowdown": 1.25, "power_cap_w": 350.0, "node_storage_bytes_per_s": 1e9, "blocking_fraction": 0.5,
}  # fmt: skip


def test_what_varies_in_nothing_has_no_bounds(answer: Plan) -> None:
    """Causes by hand: steps, half as many watts as the cap lets through, two nodes that are always slow, stops each hour."""
    drawn = 700.0 * constants().power_share
    run = expected_run(answer, RUN, power_w_per_gpu=power_w_per_gpu(answer.cluster))
    for name in ("wall_s", "gpu_hours", "goodput", "interruptions"):
        found = getattr(run, name)
        assert (found.lower, found.upper) == pytest.approx((found.expected, found.expected), rel=1e-9), name
    assert run.mean_wall_s == pytest.approx(run.wall_s.expected, rel=1e-9)
    steps, step, parts = answer.num_steps, answer.step_time_s, answer.step_parts_s
    assert steps is not None
    stretch = straggler_factor(0.02, 16) * 1.25
    kernels = sum(parts[name] for name in ("forward", "backward", "recompute", "bubble", "optimizer")) / step
    forward = parts["forward"] * (step - parts["optimizer"] - parts["data_parallel"])
    forward /= parts["forward"] + parts["backward"] + parts["recompute"]
    hand = {
        "compute": steps * step,
        "stragglers": steps * step * (stretch - 1.0),
        "power_cap": steps * step * stretch * kernels * ((drawn / 350.0) ** (1 / 3) - 1.0),
        "warmup": 50 * step * 2.0 * stretch,
        "evaluation": steps // 500 * 10**7 / (256 * 4096) * forward * stretch,
    }
    busy = sum(hand.values())
    hand["maintenance"] = busy // HOUR * 160.0
    interval = round(1000.0 / step) * step  # after a whole number of steps
    hand["checkpoint"] = math.ceil((busy + hand["maintenance"]) / interval) * 4e12 / 2e9 * 0.5
    hand["startup"], hand["ramp_up"] = 100.0, 2 * HOUR
    assert min(hand.values()) > 0.0
    for name, seconds in run.causes_s.items():
        assert seconds == pytest.approx(hand.get(name, 0.0), rel=1e-9), name
    wall = sum(hand.values())
    assert run.wall_s.expected == pytest.approx(wall)
    assert run.gpu_hours.expected == pytest.approx((wall - HOUR) * 16 / HOUR)  # ramp-up: half of it is paid
    assert run.goodput.expected == pytest.approx(hand["compute"] / wall)
    assert (run.checkpoint_write_s, run.checkpoint_interval_s, run.mtbf_s) == (2000.0, pytest.approx(interval), None)
    assert run.failures_by_cause == dict.fromkeys(("gpu", "network", "software", "node"), 0.0)


@pytest.mark.parametrize("field", ["none", "published"])
def test_a_budget_is_as_wide_as_published_runs_are_apart(answer: Plan, field: str) -> None:
    """Log-normal around the factor: its 5 % and 95 % points, of 20,000 draws."""
    run = expected_run(answer, {**RUN, "power_cap_w": None, "field": field, "num_simulations": 20_000, "restart_s": 0.0,
                                "ramp_up_s": 0.0, "checkpoint_interval_s": None, "checkpoint": "none",
                                "maintenance_every_s": None, "maintenance_s": None})  # fmt: skip
    fit, hours = field_factor(), run.wall_s if field == "published" else run.budget_s
    undisturbed = sum(seconds for name, seconds in run.causes_s.items() if name != "field")
    assert run.budget_s.expected == pytest.approx(undisturbed * fit.factor)
    assert hours.expected == pytest.approx(undisturbed * fit.factor)
    for end, z in ((hours.lower, -Z_90), (hours.upper, Z_90)):
        assert math.log(end / hours.expected) == pytest.approx(z * fit.predictive_spread, rel=0.04)
    assert run.budget_gpu_hours.upper == pytest.approx(run.budget_s.upper * 16 / HOUR)
    assert run.budget_gpu_hours.lower == pytest.approx(run.budget_s.lower * 16 / HOUR)


def test_clusters_fail_at_the_middles_of_eight_equal_parts_of_their_law() -> None:
    """Of 80,000 runs each eighth has a rate of its own; a part of its losses is the closed form's mean at that rate."""
    stops = Interruptions(failure_rate_per_s=1e-5, restart_s=300.0, detection_s=200.0)
    work = np.full(80_000, 1e6)
    found = simulate_clusters(work, 5e3, 60.0, stops, 0.5, np.random.default_rng(2))
    for i in range(8):
        rate = 1e-5 * math.exp(0.5 * NormalDist().inv_cdf((i + 0.5) / 8))
        expected = expected_losses(1e6, 5e3, 60.0, replace(stops, failure_rate_per_s=rate))
        for name in Losses.__dataclass_fields__:
            drawn = getattr(found, name)[i::8]
            assert abs(drawn.mean() - getattr(expected, name)[0]) <= 5 * drawn.std() / 100 + 1e-9, (i, name)


def test_a_cluster_on_which_no_interval_would_end_fails_less_often() -> None:
    """Half of the logarithm of the most attempts lies in the longest of interval and restart; others keep their rates."""
    from planner.performance.interruptions import MOST_ATTEMPTS_LOG

    stops = Interruptions(failure_rate_per_s=1e-4, preemption_rate_per_s=2e-5, restart_s=2e4)
    most = 0.5 * MOST_ATTEMPTS_LOG / 2e4 - 2e-5
    drawn = simulate_clusters(np.full(800, 1e5), 1e4, 60.0, stops, 2.0, np.random.default_rng(2)).interruptions
    rates = [min(1e-4 * math.exp(2.0 * NormalDist().inv_cdf((i + 0.5) / 8)), max(most, 1e-4)) for i in range(8)]
    assert rates[-1] == max(most, 1e-4)
    for i, rate in enumerate(rates):
        expected = float(expected_losses(1e5, 1e4, 60.0, replace(stops, failure_rate_per_s=rate)).interruptions[0])
        assert drawn[i::8].mean() == pytest.approx(expected, rel=0.3), i


@pytest.fixture(scope="module")
def held(answer: Plan) -> WholeRun:
    """Two and a half months on sixteen GPUs."""
    run = expected_run(answer, {"spare_nodes": 1})
    hours = 2.5 * MONTH_S * 16 / HOUR
    return replace(run, wall_s=certain(2.5 * MONTH_S), gpu_hours=certain(hours), budget_gpu_hours=certain(1.2 * hours))


COSTS: dict[str, Any] = {
    "dataset_bytes": 1.00005e13, "storage_usd_per_gb_month": 0.02, "egress_bytes": 1.2345e12, "egress_usd_per_gb": 0.05,
    "transfer_bytes": 2.0005e12, "transfer_usd_per_gb": 0.03, "num_documents": 3600, "seconds_per_document": 1000.0,
    "usd_per_cpu_hour": 0.5, "tax_rate": 0.1,
}  # fmt: skip


def bill(run: WholeRun, price: Price) -> tuple[WholeRun, Bill]:
    priced = replace(run, plan=replace(run.plan, price=price))
    return priced, bill_of(priced, COSTS, TODAY)


def test_months_of_a_bill_by_hand(held: WholeRun) -> None:
    """Two dollars an hour: 23,376 USD a month, half of it for the spare node; 200 USD a month of storage; 1,000 hours on CPUs."""
    months = cash_flow(*bill(held, Price(usd_per_gpu_hour=2.0, term="mine")))
    month = 2.0 * 16 * 365.25 / 12 * 24
    assert [m.month for m in months] == [1, 2, 3]
    for m, share in zip(months, (1.0, 1.0, 0.5), strict=True):
        assert (m.gpu_hours_usd, m.spares_usd, m.storage_usd) == pytest.approx((month * share, month / 2 * share, 200.01 * share))
        assert m.total_usd == pytest.approx(1.1 * (m.total_usd - m.tax_usd))
        assert m.commitment_usd == 0.0
    assert [m.preprocessing_usd for m in months] == [500.0, 0.0, 0.0]
    assert [m.transfer_usd for m in months] == pytest.approx([60.015, 0.0, 0.0])
    assert [m.egress_usd for m in months] == pytest.approx([0.0, 0.0, 61.725])


@pytest.mark.parametrize(("days", "upfront", "num_months"), [(365.0, 0.25, 12), (91.5, 0.5, 4), (80.0, 0.0, 3), (91.3, 0.0, 3)])
def test_bound_hours_are_paid_upfront_and_evenly(
    held: WholeRun, monkeypatch: pytest.MonkeyPatch, days: float, upfront: float, num_months: int
) -> None:
    """Of 365 days 288.9 are left over on sixteen GPUs; a quarter at once, the rest in twelve months."""
    from planner.prices import market

    term = Commitment(
        name="mine", length_days=days, upfront_fraction=upfront, minimum_gpus=1, interruptible=False, source="", kind="given"
    )
    monkeypatch.setattr(market, "_commitments", lambda: {"mine": term})
    months = cash_flow(*bill(held, Price(usd_per_gpu_hour=2.0, term="mine")))
    left = 2.0 * 16 * 24 * (days - 2.5 * 365.25 / 12)
    due = [m.commitment_usd for m in months]
    assert len(due) == num_months
    assert due[0] == pytest.approx(left * (upfront + (1 - upfront) / num_months))
    assert due[1:] == pytest.approx([left * (1 - upfront) / num_months] * (num_months - 1))
    assert sum(m.gpu_hours_usd for m in months) == pytest.approx(2.0 * 2.5 * 365.25 / 12 * 24 * 16)


def test_swings_of_a_bill_by_hand(held: WholeRun) -> None:
    """Everything beside the hours is as it was, and taxed with them; of 16 GPUs and the 8 of a spare node."""
    step = Interval(lower=0.9, expected=1.0, upper=1.5)
    priced, made = bill(replace(held, step_time_s=step), Price(usd_per_gpu_hour=2.0, term="on-demand"))
    beside = sum(made.items_usd[name].expected for name in ("storage", "egress", "transfer", "preprocessing"))
    hours = held.gpu_hours.expected

    def total(of: float, usd: float = 2.0) -> float:
        return 1.1 * (beside + 1.5 * of * usd)

    assert made.total_usd.expected == pytest.approx(total(hours))
    swings = {swing.name: swing for swing in tornado(priced, made)}
    ends = {name: (s.low_usd, s.high_usd) for name, s in swings.items()}
    assert ends["step time"] == pytest.approx((total(0.9 * hours), total(1.5 * hours)))
    assert (swings["step time"].low, swings["step time"].high) == ("-10%", "+50%")
    assert swings["step time"].width_usd == pytest.approx(total(1.5 * hours) - total(0.9 * hours))
    assert ends["what no plan names"] == pytest.approx((total(hours), total(1.2 * hours)))
    rates, spread = held.run.rates(), held.run.rates().log_spread
    for end, usd in zip((-1.0, 1.0), ends["failures"], strict=True):
        factor = math.exp(end * spread * 1.6448536)
        times = {
            name: getattr(rates, name) / factor for name in ("gpu_mtbf_s", "network_mtbf_s", "software_mtbf_s", "node_mtbf_s")
        }
        there = expected_run(priced.plan, {"spare_nodes": 1, **times})
        assert usd == pytest.approx(total(there.gpu_hours.expected))
    for recovery, usd in zip((600.0, 10_800.0), ends["recovery after a failure"], strict=True):
        there = expected_run(priced.plan, {"spare_nodes": 1, "detection_s": recovery - 300.0})
        assert usd == pytest.approx(total(there.gpu_hours.expected))
    quoted, of_market = bill(held, Price(usd_per_gpu_hour=2.0, term="on-demand", accelerator="h100-sxm5-80gb"))
    assert of_market.market is not None
    (price,) = (s for s in tornado(quoted, of_market) if s.name == "price")
    low, high = (of_market.market.cheapest.usd_per_gpu_hour, of_market.market.dearest.usd_per_gpu_hour)
    assert (price.low_usd, price.high_usd) == pytest.approx((total(hours, low), total(hours, high)))
    assert of_market.market.num_providers > 3
    surer = replace(priced, budget_gpu_hours=held.gpu_hours)
    assert "what no plan names" not in {s.name for s in tornado(surer, made)}


def test_the_mean_of_what_may_be_off_on_either_side() -> None:
    """Of a normal logarithm with deviations a below and b above, by integration; of what may be nothing, the middle."""
    z = np.linspace(-9.0, 9.0, 200_001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    money = np.exp(np.where(z < 0, 0.3, 0.7) * z)
    found = mean_of(Interval(lower=5 * math.exp(-0.3 * Z_90), expected=5.0, upper=5 * math.exp(0.7 * Z_90)))
    assert found == pytest.approx(5.0 * float(np.sum(money * density) * (z[1] - z[0])), rel=1e-6)
    assert mean_of(Interval(lower=0.0, expected=2.0, upper=9.0)) == 2.0
    assert mean_of(Interval(lower=0.0, expected=0.0, upper=0.0)) == 0.0


@pytest.mark.parametrize("kind", [Run, Costs, FailureRates, FieldFactor])
def test_numbers_of_a_run_and_of_its_costs_are_what_can_be(kind: type[Spec]) -> None:
    check_bounds(kind)


def test_what_nobody_says_of_a_run_costs_nothing_but_the_time_that_clusters_take_to_recover() -> None:
    """Health checks every five minutes (Kokolis et al. 2024); up to three hours where people must act."""
    silent = Costs()
    assert [getattr(silent, n) for n in ("dataset_bytes", "kept_checkpoints", "egress_bytes", "transfer_bytes", "tax_rate")] == [
        0
    ] * 5
    assert silent.num_workers == 1
    plain = Run()
    assert [
        getattr(plain, n) for n in ("spare_nodes", "ramp_up_s", "warmup_steps", "straggler_jitter", "slow_node_probability")
    ] == [0] * 5
    assert (plain.warmup_slowdown, plain.slow_node_slowdown, plain.blocking_fraction) == (1.0, 1.0, 1.0)
    assert (plain.detection_s, plain.slowest_recovery_s) == (300.0, 10_800.0)
    assert FailureRates(name="x").log_spread == 0.0
