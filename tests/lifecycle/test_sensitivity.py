"""What moves a bill, and when it falls due."""

from __future__ import annotations

from dataclasses import replace

import pytest

import planner
from planner.lifecycle.bill import bill_of
from planner.lifecycle.sensitivity import cash_flow, tornado
from planner.lifecycle.simulation import WholeRun, expected_run
from planner.prices.price import Price


@pytest.fixture(scope="module")
def result() -> WholeRun:
    plan = planner.plan(
        model="llama-2-70b",
        cluster={"node": "dgx-a100-80gb", "num_nodes": 16},
        framework="megatron-core",
        job={"seq_len": 4096, "global_batch_size": 1024, "num_tokens": 2 * 10**11},
        layout={"tp": 8, "pp": 4, "sequence_parallel": True, "zero": 1},
        price=2.0,
    )
    return expected_run(plan)


def test_the_months_add_up_to_the_bill(result: WholeRun) -> None:
    bill = bill_of(
        result,
        {"dataset_bytes": 1e13, "storage_usd_per_gb_month": 0.02, "egress_bytes": 1e12, "egress_usd_per_gb": 0.05},
    )
    months = cash_flow(result, bill)
    assert len(months) > 1
    assert sum(month.total_usd for month in months) == pytest.approx(bill.total_usd.expected)
    assert months[0].gpu_hours_usd == pytest.approx(2.0 * 128 * 365.25 / 12 * 24)  # a full month of 128 GPUs at 2 USD
    assert [month.egress_usd > 0 for month in months] == [False] * (len(months) - 1) + [True]


def test_a_year_bound_falls_due_over_its_twelve_months_and_moves_with_its_price(result: WholeRun) -> None:
    """2 USD, 128 GPUs, 8,760 hours: 2.24 million USD, though the run takes weeks; nothing but the price moves it."""
    price = Price(usd_per_gpu_hour=2.0, term="reserved-1-year", accelerator="a100-sxm4-80gb")
    bound = replace(result, plan=replace(result.plan, price=price))
    bill = bill_of(bound, {"tax_rate": 0.1})
    assert bill.total_usd.expected == pytest.approx(1.1 * 2 * 128 * 8760)
    months = cash_flow(bound, bill)
    assert len(months) == 12
    assert sum(month.total_usd for month in months) == pytest.approx(bill.total_usd.expected)
    widths = {swing.name: swing.width_usd for swing in tornado(bound, bill)}
    assert all(width == pytest.approx(0.0, abs=1e-3) for name, width in widths.items() if name != "price")
    assert widths["price"] > 0.1 * bill.total_usd.expected


@pytest.mark.parametrize("spares", [0, 4])
def test_swings_hold_the_total_and_the_widest_comes_first(result: WholeRun, spares: int) -> None:
    result = expected_run(result.plan, {"spare_nodes": spares}) if spares else result
    bill = bill_of(result)
    swings = tornado(result, bill)
    assert {"step time", "what no plan names", "failures", "recovery after a failure"} <= {s.name for s in swings}
    for swing in swings:
        assert swing.low_usd <= bill.total_usd.expected * (1 + 1e-9), swing
        assert swing.high_usd >= bill.total_usd.expected * (1 - 1e-9), swing
    assert [s.width_usd for s in swings] == sorted((s.width_usd for s in swings), reverse=True)


def test_rates_that_the_user_gives_leave_no_doubt_about_failures(result: WholeRun) -> None:
    known = expected_run(result.plan, {"node_mtbf_s": 1e7})
    assert "failures" not in {swing.name for swing in tornado(known, bill_of(known))}


def test_a_recovery_that_the_user_gives_leaves_no_doubt_about_it(result: WholeRun) -> None:
    known = expected_run(result.plan, {"detection_s": 600.0})
    assert "recovery after a failure" not in {swing.name for swing in tornado(known, bill_of(known))}
