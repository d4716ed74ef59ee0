"""An encoder-decoder is written for what wraps any model, and refused by what trains decoders."""

from __future__ import annotations

import json
from typing import Any

import pytest

import planner
from planner.common.errors import PlannerError
from planner.export import export_plan
from planner.export.tuners import export_tuning
from planner.training.plan import Plan

JOB = {"seq_len": 512, "target_len": 128, "global_batch_size": 64}


def made(**changes: Any) -> Plan:
    ask: dict[str, Any] = {
        "model": "flan-t5-base",
        "cluster": "8xa100-80gb",
        "framework": "fsdp",
        "job": {"kind": "finetune", **JOB},
    }
    return planner.plan(**{**ask, "layout": {"zero": 3, "micro_batch_size": 1}, **changes})


def test_files_say_how_long_the_target_is() -> None:
    files = export_plan(made(), "accelerate-fsdp")
    assert any("planner: job.target_len = 128" in text for text in files.values())


@pytest.mark.parametrize("stack", ["torchtitan", "nemo", "megatron"])
def test_stacks_of_decoders_refuse(stack: str) -> None:
    framework = "fsdp" if stack == "torchtitan" else "megatron-core"
    with pytest.raises(PlannerError, match="encoder-decoder"):
        export_plan(made(framework=framework, layout={"zero": 3 if stack == "torchtitan" else 1, "micro_batch_size": 1}), stack)


def test_adapters_are_of_sequence_to_sequence() -> None:
    lora = {"kind": "lora", **JOB, "adapter": {"rank": 8, "target_modules": ["q", "v"]}}
    plan = made(cluster="1xa100-80gb", framework="peft", job=lora, layout={"micro_batch_size": 1})
    assert json.loads(export_tuning(plan, "peft")["adapter_config.json"])["task_type"] == "SEQ_2_SEQ_LM"
    with pytest.raises(PlannerError, match="encoder-decoder"):
        export_tuning(plan, "trl")


def test_adapters_of_peft_count_as_by_hand() -> None:
    """Rank 8 on q and v of 12 encoder layers, and of 12 decoder layers twice: 36 blocks of two, 8 (768 + 768) each."""
    lora = {"kind": "lora", **JOB, "adapter": {"rank": 8, "target_modules": ["q", "v"]}}
    plan = made(cluster="1xa100-80gb", framework="peft", job=lora, layout={"micro_batch_size": 1})
    assert any(f"{36 * 2 * 8 * 1536:,} parameters train" in note for note in plan.notes)


def test_layers_that_attend_to_images_are_written_by_what_wraps_any_model() -> None:
    seen: dict[str, Any] = {"model": "llama-3.2-11b-vision", "job": {"seq_len": 2048, "global_batch_size": 64, "images": 1}}
    assert any("planner: job.images = 1.0" in text for text in export_plan(made(**seen), "accelerate-fsdp").values())
    with pytest.raises(PlannerError, match="attend to images"):
        export_plan(made(**seen, framework="megatron-core", layout={"tp": 2, "zero": 1, "micro_batch_size": 1}), "nemo")
