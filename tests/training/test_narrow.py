"""Where FP8 or FP4 saves little of a step, an answer says what took it back."""

from __future__ import annotations

import re
from typing import Any

import pytest

import planner
from planner.training.narrow import SMALL_GAIN

SAID = re.compile(
    r"(?P<narrow>\w+) takes (?P<with>[\d.,]+) s a step where (?P<wide>\w+) takes (?P<without>[\d.,]+) on this layout: its "
    r"products save (?P<saved>-?[\d.e-]+) s, quantizing takes (?P<taken>[\d.e-]+) s"
)


def asked(model: str, on: str, precision: str, **layout: Any) -> dict[str, Any]:
    job = {"seq_len": 4096, "global_batch_size": 256, "precision": precision}
    return {"model": model, "cluster": on, "framework": "megatron-core", "job": job, "layout": {"zero": 1, **layout}}


@pytest.mark.parametrize(
    ("model", "on", "precision", "wider", "layout"),
    [
        ("qwen3-30b-a3b", "32xh100", "fp8", "bf16", {"pp": 4, "ep": 4, "micro_batch_size": 2}),
        ("qwen3-30b-a3b", "32xb200", "fp8", "bf16", {"ep": 4, "micro_batch_size": 4}),
        ("qwen3-30b-a3b", "32xb200", "nvfp4", "fp8", {"ep": 4, "micro_batch_size": 4}),
        ("llama-3.1-70b", "64xh100", "fp8", "bf16", {"tp": 4, "pp": 4, "micro_batch_size": 1}),
        ("llama-3.1-70b", "64xb200", "nvfp4", "fp8", {"tp": 2, "pp": 4, "micro_batch_size": 1}),
        ("llama-3.2-1b", "8xh100", "fp8", "bf16", {"micro_batch_size": 1}),
        ("mixtral-8x7b", "32xh100", "fp8", "bf16", {"pp": 8, "micro_batch_size": 1}),
    ],
)
def test_a_narrower_precision_that_saves_little_says_what_took_it_back(
    model: str, on: str, precision: str, wider: str, layout: dict[str, Any]
) -> None:
    """Told if, and only if, less than a tenth of a step is saved; what is saved less what is taken is the difference. Not where
    an answer is not explained, as of scripts with thousands of them."""
    narrow, wide = (planner.plan(**asked(model, on, one, **layout)) for one in (precision, wider))
    said = [found for note in narrow.notes if (found := SAID.search(note))]
    assert bool(said) == (narrow.step_time_s > (1.0 - SMALL_GAIN) * wide.step_time_s)
    assert not [note for note in planner.plan(**asked(model, on, "bf16", **layout)).notes if SAID.search(note)]
    for found in said:
        assert (found["narrow"], found["wide"]) == (precision, wider)
        assert float(found["with"]) == pytest.approx(narrow.step_time_s, rel=6e-3)
        assert float(found["without"]) == pytest.approx(wide.step_time_s, rel=6e-3)
        difference = float(found["saved"]) - float(found["taken"])
        assert difference == pytest.approx(wide.step_time_s - narrow.step_time_s, abs=0.06 * float(found["saved"]) + 0.01)
        assert float(found["taken"]) > 0.0
    (row,) = planner.plan_many([asked(model, on, precision, **layout)])["notes"]
    unexplained = planner.plan(**asked(model, on, precision, **layout), explain=False).notes
    assert not [note for note in (row, *unexplained) if SAID.search(note)]


def test_the_size_of_an_expert_s_product_is_told() -> None:
    """Qwen3-30B-A3B: 2,048 inputs, gate and up of 768; 8 of 128 experts for 4,096 tokens of 2 sequences and 4 ranks."""
    (note,) = (
        note
        for note in planner.plan(**asked("qwen3-30b-a3b", "32xh100", "fp8", pp=4, ep=4, micro_batch_size=2)).notes
        if SAID.search(note)
    )
    found = re.search(r"an expert multiplies ([\d,]+) x 2,048 by 2,048 x 1,536", note)
    assert found is not None
    mean = 4096 * 8 / 128 * 4 * 2
    assert mean <= float(found[1].replace(",", "")) < 1.2 * mean
