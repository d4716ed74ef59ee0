"""Dollars and joules of a deployment by hand."""

from __future__ import annotations

import pytest
from examples import gpus

from planner.prices.ownership import power_w_per_gpu
from planner.prices.price import Price
from planner.serving import serve
from planner.serving.expense import IDLE_POWER, expense, power_w
from planner.serving.experts import distinct_experts
from planner.serving.speculative import expected_tokens
from planner.workload.resolve import as_cluster

PRICE = Price(usd_per_gpu_hour=3.6, term="on-demand")


def test_dollars_of_tokens_and_requests() -> None:
    """16 GPUs at 3.60 an hour: 0.016 dollars a second; 800 tokens a second out, 4 requests of 300 tokens in."""
    made = expense(gpus(16), PRICE, 800.0, 4.0, 300.0, prefill_share=0.25)
    assert made.usd_per_hour == pytest.approx(57.6)
    assert made.usd_per_million_tokens == pytest.approx(0.016 / 800 * 1e6)
    assert made.usd_per_million_tokens_in_and_out == pytest.approx(0.016 / 2000 * 1e6)
    assert made.usd_per_million_input_tokens == pytest.approx(0.25 * 0.016 / 1200 * 1e6)
    assert made.usd_per_million_output_tokens == pytest.approx(0.75 * 0.016 / 800 * 1e6)
    assert made.usd_per_request == pytest.approx(0.004)
    # what is divided among prompts and answers is all that is paid
    paid = made.usd_per_million_input_tokens * 1200 + made.usd_per_million_output_tokens * 800
    assert paid / 1e6 == pytest.approx(0.016)


def test_without_a_price_or_a_power_nothing_is_made_up() -> None:
    made = expense(gpus(16), None, 800.0, 4.0, 300.0, prefill_share=0.25)
    assert {name for name, value in made.to_dict().items() if value is not None} == set()


def test_idle_gpus_draw_a_quarter() -> None:
    there = as_cluster({"node": "dgx-h100", "num_nodes": 2})
    full = power_w_per_gpu(there) * 16
    assert IDLE_POWER == 0.25
    assert [power_w(there, busy) for busy in (0.0, 0.5, 1.0)] == pytest.approx([0.25 * full, 0.625 * full, full])
    made = expense(there, PRICE, 800.0, 4.0, 300.0, prefill_share=0.25, busy=0.5)
    assert (made.power_w, made.joules_per_token) == (pytest.approx(0.625 * full), pytest.approx(0.625 * full / 800))


def test_tokens_of_a_round_are_a_geometric_sum() -> None:
    assert expected_tokens(3, 0.5) == pytest.approx(1 + 0.5 + 0.25 + 0.125)
    assert [expected_tokens(g, 0.8) for g in (0, 1, 2)] == pytest.approx([1.0, 1.8, 2.44])


def test_experts_that_a_batch_touches() -> None:
    """One token touches its own; two of them all but those both chose; popular ones are touched first; all in the end."""
    assert float(distinct_experts(8, 2, 1.0)) == pytest.approx(2.0)
    assert float(distinct_experts(8, 2, 2.0)) == pytest.approx(2 + 2 - 2 * 2 / 8)
    assert float(distinct_experts(8, 2, 1.0, zipf=1.0)) == pytest.approx(2.0)
    even, uneven = (float(distinct_experts(64, 4, 30.0, zipf=z)) for z in (0.0, 1.0))
    assert 4.0 < uneven < even < 64.0
    assert float(distinct_experts(64, 4, 1e6, zipf=1.0)) == pytest.approx(64.0)
    assert float(distinct_experts(4, 4, 1.0, zipf=2.0)) == pytest.approx(4.0)


@pytest.mark.parametrize("load", [{}, {"clients": 4}, {"requests_per_s": 2.0}])
def test_dollars_hold_the_interval_of_the_price_as_those_of_training_do(load):
    """At a rate that the GPUs carry for sure, dollars a token are as uncertain as the price alone; else more."""
    asked = {"model": "llama-3.1-8b", "cluster": {"node": "dgx-h100", "num_gpus": 1}}
    found = serve(**asked, serving={"weights": "bf16", "prompt": 512, "output": 128, **load})
    sure = serve(**asked, serving={"weights": "bf16", "prompt": 512, "output": 128, **load}, price={"usd_per_gpu_hour": 4.0})
    low, high = found.price.interval_usd_per_gpu_hour
    assert low < found.price.usd_per_gpu_hour < high
    for name, mine in sure.intervals.items():
        market, width = found.intervals[name], mine.upper / mine.lower
        if "usd_" not in name:
            assert market == mine, name
        elif width == 1.0:
            assert market.upper / market.lower == pytest.approx(high / low), name
        else:
            assert market.upper / market.lower > max(width, high / low), name
