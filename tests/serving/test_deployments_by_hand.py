"""Bytes of a token and kinds of kernels, counted by hand."""

from __future__ import annotations

import pytest
from serving_examples import LLAMA, model, serving_times

from planner.serving.deploy import answer
from planner.serving.weight_formats import GROUPED, weight_format


@pytest.mark.parametrize("name", sorted(GROUPED))
def test_kernels_of_a_grouped_format_are_those_of_its_bits(name: str) -> None:
    found = weight_format(name)
    assert found.family == found.bits == GROUPED[name][0]


def test_bytes_of_a_token_are_those_of_the_blocks_that_a_request_fills() -> None:
    """4 layers, keys and values of 4 heads of 64, 2 bytes: 4,096 bytes a token. Behind a window of 128 of 320 tokens no more is
    kept than the window and a block at either end."""
    plain, window = (
        answer(serving_times(model({**LLAMA, **more}), prompt=256, output=64), None) for more in ({}, {"sliding_window": 128})
    )
    assert plain.kv_bytes_per_token == 4 * 2 * 4 * 64 * 2
    assert plain.kv_bytes_per_sequence == 320 * plain.kv_bytes_per_token
    assert 128 <= window.kv_bytes_per_token * 320 / plain.kv_bytes_per_token <= 128 + 2 * plain.times.setting.block_size
