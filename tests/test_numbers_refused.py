"""A number that is refused is told what is wrong with it."""

from __future__ import annotations

import math

import pytest

from planner.common.arguments import as_amount
from planner.common.errors import PlannerError
from planner.prices.price import own_price

WRONG = {
    10**400: "too large",
    math.inf: "too large",
    1e301: "too large",
    -1: "negative",
    -(10**400): "negative",
    -math.inf: "negative",
    math.nan: "a number",
}


@pytest.mark.parametrize("value", list(WRONG))
def test_a_refused_price_or_amount_says_too_large_negative_or_no_number(value: float) -> None:
    for refuse in (lambda: own_price(value), lambda: as_amount(value, "deadline_s", "zero")):
        with pytest.raises(PlannerError) as found:
            refuse()
        words = str(found.value)
        assert WRONG[value] in words
        assert sum(word in words for word in ("too large", "is negative", "must be a number")) == 1
        assert len(words) < 120
