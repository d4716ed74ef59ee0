"""The nearest change with which a deployment fits does fit, and none of those that disturb less would."""

from __future__ import annotations

import pytest
from serving_examples import LLAMA, model, serving_times

from planner.common.errors import PlannerError
from planner.serving.nearest import _candidates, _changed, _fits, nearest_change

BIG = {**LLAMA, "num_layers": 80, "hidden_size": 6144, "num_heads": 48, "num_kv_heads": 8, "ffn_hidden_size": 24576}


@pytest.mark.parametrize(
    ("gpus", "fields"),
    [
        (1, {"batch": 4096, "prompt": 1024, "output": 256}),
        (1, {"batch": 1}),
        (4, {"batch": 1, "dp": 4}),
        (8, {"batch": 64, "prompt": 30_000, "output": 500, "dp": 4, "tp": 2}),
        (2, {"batch": 2, "prompt": 200_000, "output": 100, "tp": 2}),
    ],
)
@pytest.mark.parametrize("fields_of", [LLAMA, BIG])
def test_it_is_the_first_that_fits(gpus: int, fields: dict[str, int], fields_of: dict[str, object]) -> None:
    times = serving_times(model(fields_of), gpus, **fields)
    if _fits(times.setting, times.draft):
        return
    found = nearest_change(times)
    before = []
    for one in _candidates(times):
        if one == found:
            break
        before.append(one)
    for one in before:
        try:
            assert not _fits(_changed(times.setting, one), times.draft), one
        except PlannerError:
            continue
    if found is None:
        return
    changed = _changed(times.setting, found)
    assert _fits(changed, times.draft)
    there, after = times.setting.serving, changed.serving
    assert after.gpus_per_replica * after.dp == there.gpus_per_replica * there.dp  # on the same GPUs
    assert after.batch <= there.batch


def test_too_large_a_batch_is_lowered_to_the_largest_that_fits() -> None:
    times = serving_times(model(LLAMA), 1, batch=100_000, prompt=4096, output=256)
    found = nearest_change(times)
    assert found is not None
    assert list(found) == ["batch"]
    assert not _fits(_changed(times.setting, {"batch": int(found["batch"]) + 1}), times.draft)


def test_weights_beyond_one_card_go_over_several_or_into_fewer_bits() -> None:
    """43 billion parameters, 87 GB in 16 bit, on cards of 80 GiB: over both of two; alone in 8 bits."""
    two = serving_times(model(BIG), 2, dp=2, batch=1)
    assert not _fits(two.setting, None)
    assert nearest_change(two) == {"tp": 2, "dp": 1}
    alone = nearest_change(serving_times(model(BIG), 1, batch=1))
    assert alone is not None
    assert alone == {"weights": "fp8"}


@pytest.mark.parametrize("gpus", [3, 6])
def test_every_cut_that_the_heads_allow_is_tried(gpus: int) -> None:
    """48 heads are cut over 3 GPUs, and over 6 by twos and by threes: 87 GB are 44 over 2, 29 over 3."""
    fields = {**BIG, "num_kv_heads": 12}
    times = serving_times(model(fields), gpus, dp=gpus, batch=1)
    cuts = {one["tp"] for one in _candidates(times) if "tp" in one and "weights" not in one}
    assert cuts == {tp for tp in range(2, gpus + 1) if gpus % tp == 0}
    assert nearest_change(times) == ({"tp": 3, "dp": 1} if gpus == 3 else {"tp": 2, "dp": 3})
