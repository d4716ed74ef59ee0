"""Which framework is usual for a question, and which attention kernel it runs on an accelerator."""

from __future__ import annotations

from typing import Any

import pytest

import planner
from planner.common.errors import PlannerError
from planner.export import export_plan
from planner.hardware.cluster import accelerator_names, load_accelerator
from planner.workload.attention import AMPERE, attention_on, compute_capability
from planner.workload.framework import framework_names, load_framework

JOB: dict[str, Any] = {"seq_len": 1024, "global_batch_size": 64}
LORA = {**JOB, "kind": "lora", "adapter": {"rank": 8}}


@pytest.mark.parametrize(
    ("model", "cluster", "job", "layout", "expected"),
    [
        ("gpt2", {"node": "workstation-3x-rtx-3070", "num_gpus": 1}, JOB, None, "huggingface"),
        ("bert-base", {"node": "workstation-3x-rtx-3070"}, {**JOB, "seq_len": 512, "global_batch_size": 48}, None, "huggingface"),
        ("llama-3.1-8b", {"node": "dgx-h100", "num_gpus": 1}, LORA, None, "liger"),  # quicker than peft, the usual one
        ("llama-3.1-8b", {"node": "dgx-h100", "num_gpus": 1}, LORA, {"micro_batch_size": 1}, "peft"),
        ("llama-3.1-8b", {"node": "dgx-h100"}, JOB, None, "fsdp"),
        ("llama-3.1-8b", {"node": "dgx-h100"}, {**JOB, "precision": "fp8"}, None, "fsdp"),
        ("mixtral-8x7b", {"node": "dgx-h100"}, JOB, None, "megatron-core"),
        ("llama-3-70b", {"node": "dgx-h100", "num_nodes": 4}, JOB, None, "megatron-core"),
        ("gpt2-xl", {"node": "p3-16xlarge", "num_nodes": 2}, {**JOB, "precision": "fp16"}, None, "megatron-2022"),
        ("llama-3.1-8b", {"node": "dgx-h100"}, JOB, {"tp": 2}, "megatron-core"),
        ("llama-3.1-8b", {"node": "dgx-h100"}, JOB, {"zero": 3}, "fsdp"),
    ],
)
def test_the_usual_framework(model: str, cluster: dict[str, Any], job: dict[str, Any], layout: Any, expected: str) -> None:
    answer = planner.plan(model=model, cluster=cluster, job=job, layout=layout, explain=False)
    assert answer.framework.name == expected
    assert answer.notes[0].startswith(f"framework chosen: {expected}, ")
    named = planner.plan(model=model, cluster=cluster, job=job, layout=answer.layout, framework=expected, explain=False)
    assert named.step_time_s == answer.step_time_s
    assert not any("framework chosen" in note for note in named.notes)


def test_no_framework_runs_flashattention_2_before_ampere() -> None:
    """Dao-AILab/flash-attention and Transformer Engine ask for compute capability 8.0; of 2022, for 7.5."""
    for name in accelerator_names():
        accelerator = load_accelerator(name)
        capability = compute_capability(accelerator)
        for stack in framework_names():
            framework = load_framework(stack)
            runs = attention_on(framework, accelerator, False)
            if capability is None or capability >= AMPERE:
                assert runs.attention_kernel == framework.attention_kernel
                assert runs.flash_attention >= framework.flash_attention
            elif runs.attention_kernel == "flash":
                assert runs.flash_attention == 1
                assert runs.attention_library == "pytorch" or capability >= (7, 5)


@pytest.mark.parametrize(
    ("chip", "generation"),
    [("h100-sxm5-80gb", 3), ("b200-sxm-180gb", 3), ("b300-sxm-270gb", 3), ("a100-sxm4-80gb", 2), ("rtx-4090-24gb", 2)],
)
def test_pytorch_2_13_takes_cudnn_on_hopper_and_data_centre_blackwell(chip: str, generation: int) -> None:
    """aten/src/ATen/native/transformers/cuda/sdp_utils.cpp, check_prefer_cudnn_attention: majors 9 and 10."""
    accelerator, framework = load_accelerator(chip), load_framework("torchtitan")
    assert attention_on(framework, accelerator, False).flash_attention == generation
    for older in ({"cudnn_attention": False}, {"flash_attention": 2}):  # PyTorch before 2.13; flash-attn asked for by name
        assert attention_on(framework.replaced(**older), accelerator, False).flash_attention == 2


def test_attention_before_ampere_is_said_and_exported() -> None:
    job = {"seq_len": 1024, "global_batch_size": 64, "precision": "fp16"}
    asked: dict[str, Any] = {"model": "gpt2-medium", "framework": "megatron-core", "job": job, "layout": {"tp": 2, "zero": 1}}
    old = planner.plan(**asked, cluster={"node": "p3dn-24xlarge"}, explain=False)
    new = planner.plan(**asked, cluster={"node": "dgx-a100-40gb"}, explain=False)
    assert any("no fused kernel for v100" in note for note in old.notes)
    assert not any("attention" in note for note in new.notes)
    # Korthikanti et al. 2022: scores and softmax keep 2 x 2 a s^2 b bytes a layer without dropout, 5 with
    assert old.memory_bytes["activations"] > 2 * new.memory_bytes["activations"]
    assert "use-flash-attn" not in "".join(export_plan(old, "megatron").values()).replace("no-use-flash-attn", "")
    assert "use-flash-attn" in "".join(export_plan(new, "megatron").values())


def test_attention_sinks_without_a_fused_kernel_are_said_and_priced() -> None:
    """NVIDIA-NeMo issue 14712: gpt-oss-20b at 16,384 tokens runs out of memory on B200 with the unfused kernel of mid-2025."""
    asked: dict[str, Any] = {
        "cluster": {"node": "dgx-b200"},
        "job": {"kind": "finetune", "seq_len": 16384, "global_batch_size": 32},
        "layout": {"pp": 2, "ep": 2, "zero": 1},
        "explain": False,
    }
    old = {"name": "megatron-bridge", "release": "25.07"}
    fallen = planner.plan(model="gpt-oss-20b", framework=old, **asked)
    fused = planner.plan(model="gpt-oss-20b", framework="megatron-bridge", **asked)
    assert any("megatron-bridge 25.07 has no fused kernel with attention sinks" in note for note in fallen.notes)
    assert not any("sinks" in note for note in fused.notes)
    # at least the scores of one layer, 64 heads in 16 bit, are kept
    assert fallen.memory_bytes["activations"] - fused.memory_bytes["activations"] > 2 * 64 * 16384**2
    assert fused.fits
    assert not fallen.fits
    without = planner.plan(model="qwen3-30b-a3b", framework=old, **asked)
    assert not any("sinks" in note for note in without.notes)


def test_ligers_loss_is_cut_by_size_whatever_the_stacks_own_is() -> None:
    for name in framework_names():
        assert load_framework(name).replaced(liger=True).chunked_loss is True, name
    assert load_framework("torchtitan").loss_chunks == 8
    assert load_framework("torchtitan").replaced(chunked_loss=16.0).loss_chunks == 16
    for stack in ("automodel", "torchtitan"):
        changed = load_framework(stack).replaced(chunked_loss=False)
        assert (changed.chunked_loss, changed.loss_chunks) == (False, None)


@pytest.mark.parametrize("value", [0, 1, 8.5, "8", None])
def test_a_number_of_chunks_is_two_or_more(value: Any) -> None:
    with pytest.raises(PlannerError, match="chunked_loss: .* give 2 or more, or true or false"):
        load_framework("fsdp").replaced(chunked_loss=value)
