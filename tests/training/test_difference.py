"""How sure the difference of two plans is."""

from __future__ import annotations

import math

import pytest

from planner.training.difference import ratios
from planner.training.plan import Plan
from planner.training.planning import plan
from planner.uncertainty.ratio import ratio_of

JOB = {"seq_len": 4096, "global_batch_size": 64, "num_steps": 100}


def asked(**changes: object) -> Plan:
    fields = {"model": "llama-2-7b", "cluster": "dgx-h100", "layout": {"tp": 2, "zero": 1}, "price": 2.0, "job": JOB}
    return plan(**{**fields, **changes}, framework="megatron-core")  # type: ignore[arg-type]


def test_a_plan_over_itself_is_exactly_one() -> None:
    for name, found in ratios(asked(), asked()).items():
        assert (found.lower, found.expected, found.upper) == (1.0, 1.0, 1.0), name
        assert not found.decidable


def test_what_two_plans_share_cancels() -> None:
    """Narrower than the quotient of the two intervals, and the same seen from the other side."""
    one, two = asked(), asked(layout={"tp": 4, "zero": 1})
    there, back = ratios(two, one), ratios(one, two)
    for name, found in there.items():
        first, second = one.intervals[name], two.intervals[name]
        assert math.log(found.upper / found.lower) < math.log(second.upper / first.lower) - math.log(second.lower / first.upper)
        assert found.lower <= found.expected <= found.upper
        assert found.expected == pytest.approx(getattr(two, name) / getattr(one, name))
        assert found.lower == pytest.approx(1.0 / back[name].upper)
        assert found.probability_first_smaller == pytest.approx(1.0 - back[name].probability_first_smaller)


def test_a_price_moves_the_ratio_of_dollars_alone() -> None:
    cheap, dear = asked(), asked(price=6.0)
    found = ratios(dear, cheap)
    assert found["cost_usd"].lower == pytest.approx(3.0)
    assert found["cost_usd"].upper == pytest.approx(3.0)
    assert found["cost_usd"].decidable
    assert found["run_s"].expected == 1.0


def test_an_order_is_decidable_from_95_percent() -> None:
    assert ratio_of(math.log(0.80), 0.0, 0.10).decidable
    assert not ratio_of(math.log(0.95), 0.0, 0.10).decidable
    assert ratio_of(math.log(0.80), 0.0, 0.10).probability_first_smaller > 0.95
