"""Questions as new users ask them, drawn at random: whatever is asked, answers stand in the order that sense demands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planner
from planner.layout_search.ranking import NOISE
from planner.training.plan import Plan

MODELS = (
    "gpt2", "qwen2.5-0.5b", "llama-3.1-8b", "qwen2.5-7b", "mistral-7b", "gemma-2-9b", "llama-2-13b", "gpt-oss-20b",
    "qwen3-30b-a3b", "qwen3-32b", "mixtral-8x7b",
)  # fmt: skip
OLDER_AND_NEWER = (
    ("a100-sxm4-80gb", "h100"), ("h100", "h200"), ("h200", "b200"), ("b200", "b300"), ("a100-sxm4-40gb", "a100-sxm4-80gb"),
    ("rtx-4080-16gb", "rtx-4090-24gb"), ("rtx-3090-24gb", "rtx-4090-24gb"), ("rtx-4090-24gb", "rtx-5090-32gb"),
    ("v100-sxm2-32gb", "a100-sxm4-80gb"), ("mi300x", "mi325x"), ("h100-pcie-80gb", "h100-sxm5-80gb"), ("h20", "h200"),
)  # fmt: skip


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, tuple[str, str], int, dict[str, Any]]:
    """(model, older and newer card, GPUs, job)."""
    gpus = draw(st.sampled_from([1, 2, 4, 8]))
    kind = draw(st.sampled_from(["pretrain", "finetune", "lora", "qlora"]))
    of_each = draw(st.sampled_from([1, 4, 16]))
    job: dict[str, Any] = {"kind": kind, "seq_len": draw(st.sampled_from([512, 1024])), "global_batch_size": gpus * of_each}
    if kind in ("lora", "qlora"):
        job["adapter"] = {"rank": draw(st.sampled_from([8, 16, 64]))}
    return draw(st.sampled_from(MODELS)), draw(st.sampled_from(OLDER_AND_NEWER)), gpus, job


def answer(model: str, gpus: int, card: str, job: dict[str, Any], framework: str | None = None) -> Plan:
    return planner.plan(model=model, cluster=f"{gpus}x{card}", job=job, framework=framework, explain=False)


def no_worse(better: Plan, than: Plan) -> None:
    """It fits where the other does, and does as many tokens a second but for the group of equals."""
    assert better.recommended or not than.recommended
    if than.recommended:
        assert better.tokens_per_s >= than.tokens_per_s * (1.0 - NOISE)


@settings(max_examples=6, deadline=None)
@given(asked=questions())
def test_answers_stand_in_the_order_that_sense_demands(asked: tuple[str, tuple[str, str], int, dict[str, Any]]) -> None:
    model, (older, newer), gpus, job = asked
    here = answer(model, gpus, older, job)
    no_worse(answer(model, gpus, newer, job), here)
    no_worse(answer(model, 2 * gpus, older, {**job, "global_batch_size": 2 * job["global_batch_size"]}), here)
    shorter = answer(model, gpus, older, {**job, "seq_len": job["seq_len"] // 2})
    assert shorter.recommended or not here.recommended
    if here.recommended:
        assert shorter.step_time_s <= here.step_time_s * (1.0 + NOISE)
        named = answer(model, gpus, older, job, here.framework.name)
        assert named.layout == here.layout
        assert named.step_time_s == pytest.approx(here.step_time_s, rel=1e-12)
    if job["kind"] == "finetune":
        lora = answer(model, gpus, older, {**job, "kind": "lora", "adapter": {"rank": 16}})
        assert lora.recommended or not here.recommended
