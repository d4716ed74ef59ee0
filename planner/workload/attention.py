"""Which attention kernel a framework runs on an accelerator: not every GPU has the one that its library prefers."""

from __future__ import annotations

from functools import lru_cache

from planner.common.message import Message
from planner.hardware.cluster import Accelerator
from planner.workload.framework import Framework

AMPERE, TURING = (8, 0), (7, 5)
"""Compute capabilities from which FlashAttention-2 and cuDNN's fused attention, and FlashAttention of 2022, run.

Sources: github.com/Dao-AILab/flash-attention, README ("Ampere, Ada, or Hopper GPUs"; of 2022: "Turing or Ampere GPUs");
NVIDIA/TransformerEngine, common/fused_attn/fused_attn.cpp ("sm_arch_ >= 80").
"""
CUDNN_FIRST = (9, 10)
"""Major compute capabilities on which PyTorch's scaled_dot_product_attention takes cuDNN's kernel before FlashAttention-2.

By aten/src/ATen/native/transformers/cuda/sdp_utils.cpp, check_prefer_cudnn_attention: 2.13 does (cuDNN above 9.15), for Blackwell
Ultra as for Blackwell (pytorch/pytorch#170800), and built with CUDA 13 for every minor number; 2.9 takes FlashAttention-2 first,
as do all from 2.5.1 on (pytorch/pytorch#138649, #142132: 329 against 631 TFLOP/s on an H100).
"""
LIBRARIES = {
    "transformer-engine": "Transformer Engine",
    "flash-attn": "flash-attn",
    "pytorch": "PyTorch's scaled_dot_product_attention",
}


def compute_capability(accelerator: Accelerator) -> tuple[int, int] | None:
    """(major, minor) of an NVIDIA accelerator, None of others.

    >>> from planner.hardware.cluster import load_accelerator
    >>> compute_capability(load_accelerator("t4"))
    (7, 5)
    """
    major, dot, minor = accelerator.compute_capability.partition(".")
    return (int(major), int(minor)) if dot and major.isdigit() and minor.isdigit() else None


@lru_cache(maxsize=256)
def attention_on(
    framework: Framework, accelerator: Accelerator, sinks: bool, bias: bool = False, distances: bool = False
) -> Framework:
    """The framework with the attention kernel that it runs on the accelerator, for a model with or without attention sinks,
    a learned bias of positions, and scores of tokens against ``distances``, which transformers always computes eagerly.

    Before Ampere, PyTorch takes its memory-efficient kernel, which keeps as little as FlashAttention and counts as its first
    generation; flash-attn has its first generation from Turing on; Transformer Engine computes scores, softmax and sum one by
    one, and so does everything without a fused kernel. Newer PyTorch takes cuDNN's kernel on ``CUDNN_FIRST``. A bias of positions
    that trains, flash-attn does not add; PyTorch's memory-efficient kernel does, and cuDNN's under Transformer Engine
    (docs.pytorch.org, scaled_dot_product_attention, attn_mask; TransformerEngine, DotProductAttention, core_attention_bias_type).
    """
    if distances and framework.attention_kernel == "flash":
        return framework.replaced(attention_kernel="eager")
    if sinks and framework.attention_kernel == "flash" and not framework.fused_sinks:
        return framework.replaced(attention_kernel="standard")
    if bias and framework.attention_kernel == "flash" and framework.attention_library == "flash-attn":
        return framework.replaced(attention_kernel="standard")
    if bias and framework.attention_kernel == "flash" and framework.attention_library == "pytorch":
        return framework.replaced(flash_attention=1)
    capability = compute_capability(accelerator)
    if framework.attention_kernel != "flash" or capability is None:
        return framework
    if capability >= AMPERE:
        newest = framework.cudnn_attention and framework.attention_library == "pytorch" and capability[0] in CUDNN_FIRST
        return framework.replaced(flash_attention=3) if newest else framework
    fused = framework.attention_library == "pytorch" or (framework.attention_library == "flash-attn" and capability >= TURING)
    return framework.replaced(flash_attention=1) if fused else framework.replaced(attention_kernel="standard")


def attention_notes(
    framework: Framework, accelerator: Accelerator, sinks: bool, bias: bool = False, distances: bool = False
) -> tuple[str, ...]:
    """What a reader should know where the framework's usual kernel does not run on the accelerator, or for the model."""
    runs = attention_on(framework, accelerator, sinks, bias, distances)
    library = LIBRARIES[framework.attention_library]
    if runs.attention_kernel == framework.attention_kernel and runs.flash_attention >= framework.flash_attention:
        return ()
    if distances:
        return (Message("attention: no fused kernel scores tokens against distances: scores are computed and kept in full"),)
    if bias and attention_on(framework, accelerator, sinks) != runs:
        return (
            Message(
                "attention: FlashAttention adds no learned bias of positions: {0}",
                Message("{0} takes its memory-efficient kernel", library)
                if runs.attention_kernel == "flash"
                else "scores are computed and kept in full",
            ),
        )
    if attention_on(framework, accelerator, False).attention_kernel == "flash" != runs.attention_kernel:
        name = " ".join((framework.name, framework.release)).rstrip()
        return (Message("attention: {0} has no fused kernel with attention sinks: scores are computed and kept in full", name),)
    if runs.attention_kernel == "standard":
        return (
            Message(
                "attention: {0} has no fused kernel for {1} (compute capability {2}): scores are computed and kept in full",
                library,
                accelerator.name,
                accelerator.compute_capability,
            ),
        )
    return (
        Message(
            "attention: {0} (compute capability {1}) has no FlashAttention-2; {2} takes its older fused kernel",
            accelerator.name,
            accelerator.compute_capability,
            library,
        ),
    )
