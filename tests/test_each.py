"""A law over all values in one test: every value is tried, with the test's fixtures, and the one that fails is named."""

from __future__ import annotations

import inspect

import pytest
from each import for_each


def test_every_value_is_tried_and_the_one_that_fails_is_named() -> None:
    tried = []

    @for_each("number", range(5))
    def law(fixture: list[int], number: int) -> None:
        fixture.append(number)
        assert number < 3

    assert list(inspect.signature(law).parameters) == ["fixture"]
    with pytest.raises(AssertionError) as failed:
        law(fixture=tried)
    assert tried == [0, 1, 2, 3]
    assert failed.value.__notes__ == ["number = 3"]
    with pytest.raises(AssertionError, match="nothing"):
        for_each("nothing", [])
