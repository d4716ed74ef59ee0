"""An optimizer in backward: each weight's gradient is used and freed at once."""

from __future__ import annotations

import pytest

from planner import plan
from planner.common.errors import PlannerError
from planner.training.plan import Plan

MODEL = "llama-3.1-8b"


def tuned(gpus: int = 1, layout: dict[str, object] | None = None, on: str = "", **job: object) -> Plan:
    return plan(
        model=MODEL,
        cluster=on or {"node": "dgx-h100", "num_gpus": gpus},
        framework={"name": "torchtune"},
        job={
            "kind": "finetune",
            "seq_len": 2048,
            "global_batch_size": 2,
            "precision": "bf16-pure",
            "optimizer": "adamw-8bit",
            **job,
        },
        layout={"micro_batch_size": 2, "recompute": "full", **(layout or {})},
    )


def test_gradients_are_those_of_one_layer_or_of_the_ends() -> None:
    """16-bit gradients of all weights against those of embedding and output layer, which are the largest here and stand beside
    all that the forward pass kept: of 2 x 2048 tokens the inputs of 32 layers."""
    whole, freed = tuned(), tuned(optimizer_in_backward=True)
    n, ends, kept = 8.03e9, 2 * 128256 * 4096, 2 * 32 * 4096 * 4096
    assert whole.memory_bytes["gradients"] == pytest.approx(2 * n, rel=0.03)  # at the peak one layer's are to come
    assert freed.memory_bytes["gradients"] <= 2 * ends * 1.01
    assert freed.memory_bytes["activations"] > kept
    assert 2 * (n - ends) * 0.9 < whole.peak_allocated_bytes - (freed.peak_allocated_bytes - kept)
    assert freed.step_time_s == pytest.approx(whole.step_time_s, rel=1e-6)


def test_torchtunes_full_recipe_fits_a_24_gb_card() -> None:
    """torchtune's README: Llama 3.1 8B, full finetuning on one device with this optimizer: 18.9 GiB on an RTX 4090."""
    found = tuned(optimizer_in_backward=True, optimizer="paged-adamw-8bit")
    weights = 2 * 8.03e9
    assert weights < found.firm_bytes < 24 * 2**30


def test_a_card_that_paged_states_fill_to_the_byte_is_large_enough() -> None:
    """The same run on the README's card: what does not fit moves to the host, and torch's allocator never held the states."""
    found = tuned(on="rtx-4090", optimizer_in_backward=True, optimizer="paged-adamw-8bit")
    assert found.fits
    assert found.peak_allocated_bytes == pytest.approx(18.9 * 2**30, rel=0.01)
    assert found.peak_allocated_bytes < found.peak_total_bytes
    away = tuned(on="rtx-4090", optimizer_in_backward=True, optimizer="paged-adamw")  # four times the states: they go further
    assert away.peak_allocated_bytes == pytest.approx(found.peak_allocated_bytes)


@pytest.mark.parametrize(
    ("gpus", "layout", "batch", "says"),
    [
        (1, {"micro_batch_size": 1}, 2, "several micro-batches"),
        (2, {"micro_batch_size": 1}, 2, "one replica or zero = 3"),
    ],
)
def test_gradients_that_must_wait_are_refused(gpus: int, layout: dict[str, object], batch: int, says: str) -> None:
    with pytest.raises(PlannerError, match=says):
        tuned(gpus, layout, optimizer_in_backward=True, global_batch_size=batch)
