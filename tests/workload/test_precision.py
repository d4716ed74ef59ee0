"""Bytes of weights, gradients, states and copies of them, by hand: the ZeRO paper's table and the tools' documentation."""

from __future__ import annotations

from typing import Any

import pytest
from examples import framework, job

from planner.common.errors import PlannerError
from planner.workload.fp8_recipe import SCALINGS
from planner.workload.job import Job
from planner.workload.precision import (
    Precisions,
    adapter_dtype,
    frozen_width,
    optimizer_state_bytes,
    precisions,
    upcasts,
)
from planner.workload.tuning import Adapter, Quantization, Teacher


def held(found: Precisions) -> tuple[float, ...]:
    """Activation, kept input, parameter, its copy, gradient, master weights, states, more of them at the ends."""
    return (
        found.activation, found.linear_input, found.parameter, found.cast, found.gradient, found.master, found.state,
        found.vector_state,
    )  # fmt: skip


MX, FOUR = 1 + 1 / 32, 0.5 + 1 / 16
"""Bytes of an element in MXFP8 (a byte of scale for 32) and in NVFP4 (one for 16)."""


@pytest.mark.parametrize(
    ("stack", "asked", "matmul", "bytes_"),
    [
        # Rajbhandari et al. 2020, section 3.1: 2 + 2 + 12; Megatron-Core adds gradients up in fp32
        ("megatron-2022", {"precision": "fp16"}, "fp16", (2, 2, 2, 0, 2, 4, 8, 0)),
        ("megatron-core", {}, "bf16", (2, 2, 2, 0, 4, 4, 8, 0)),
        ("megatron-core", {"gradient_dtype": "same"}, "bf16", (2, 2, 2, 0, 2, 4, 8, 0)),
        ("megatron-2022", {"precision": "fp16", "gradient_dtype": "fp32"}, "fp16", (2, 2, 2, 0, 4, 4, 8, 0)),
        # everything in one type
        ("megatron-core", {"precision": "fp32"}, "fp32", (4, 4, 4, 0, 4, 0, 8, 0)),
        ("megatron-core", {"precision": "tf32"}, "tf32", (4, 4, 4, 0, 4, 0, 8, 0)),
        ("megatron-core", {"precision": "bf16-pure"}, "bf16", (2, 2, 2, 0, 2, 0, 4, 0)),
        # autocast and FSDP keep fp32 and copy it to 16 bit
        ("huggingface", {}, "bf16", (2, 2, 4, 2, 4, 0, 8, 0)),
        ("fsdp", {"precision": "fp16"}, "fp16", (2, 2, 4, 2, 4, 0, 8, 0)),
        # Transformer Engine keeps inputs, and each weight twice, in 8 or 4 bit; torchao casts as it multiplies
        ("megatron-core", {"precision": "fp8"}, "fp8", (2, 1, 2, 2, 4, 4, 8, 0)),
        ("megatron-core", {"precision": "fp8", "fp8_recipe": "mxfp8"}, "fp8", (2, MX, 2, 2 * MX, 4, 4, 8, 0)),
        ("megatron-core", {"precision": "nvfp4"}, "fp4", (2, FOUR, 2, 2 * FOUR, 4, 4, 8, 0)),
        ("fsdp", {"precision": "fp8"}, "fp8", (2, 2, 4, 2, 4, 0, 8, 0)),
        # optimizers: one moment, 8 bit in blocks of 256 with two fp32 scales, sums of rows and columns, a low rank
        ("megatron-core", {"optimizer": "sgd"}, "bf16", (2, 2, 2, 0, 4, 4, 0, 0)),
        ("megatron-core", {"optimizer": "sgd-momentum"}, "bf16", (2, 2, 2, 0, 4, 4, 4, 0)),
        ("megatron-core", {"optimizer": "adamw-8bit"}, "bf16", (2, 2, 2, 0, 4, 4, 2 + 8 / 256, 0)),
        ("megatron-core", {"optimizer": "paged-adamw-8bit"}, "bf16", (2, 2, 2, 0, 4, 4, 2 + 8 / 256, 0)),
        ("megatron-core", {"optimizer": "adafactor"}, "bf16", (2, 2, 2, 0, 4, 4, 0, 0)),
        ("megatron-core", {"optimizer": "muon"}, "bf16", (2, 2, 2, 0, 4, 4, 4, 4)),
        ("megatron-core", {"optimizer": "muon", "precision": "bf16-pure"}, "bf16", (2, 2, 2, 0, 2, 0, 2, 2)),
        ("huggingface", {"optimizer": "galore-adamw"}, "bf16", (2, 2, 4, 2, 4, 0, 0, 8)),
    ],
)
def test_bytes_of_each_kind_of_number(stack: str, asked: dict[str, Any], matmul: str, bytes_: tuple[float, ...]) -> None:
    found = precisions(job(**asked), framework(stack))
    assert (found.matmul, held(found)) == (matmul, pytest.approx(bytes_))
    assert found.factored is (asked.get("optimizer") == "adafactor")
    assert found.model_states == pytest.approx(bytes_[2] + bytes_[4] + bytes_[5] + bytes_[6])


def test_parameters_in_8_bit_alone_have_no_16_bit_copy_beside_them() -> None:
    """Both copies of a matrix are all that is held: 2 of 8 bit in place of 2 bytes and 2 more."""
    only = framework("megatron-core", fp8_parameters=True)
    assert held(precisions(job(precision="fp8"), only))[2:4] == (2.0, 2 * 1.0 - 2.0)
    assert held(precisions(job(precision="fp8", fp8_recipe="mxfp8"), only))[3] == pytest.approx(2 * MX - 2)
    assert held(precisions(job(precision="nvfp4"), only))[3] == pytest.approx(2 * FOUR)


LORA = {"kind": "lora", "adapter": {"rank": 8}}


@pytest.mark.parametrize(
    ("stack", "asked", "bytes_"),
    [
        # A and B in fp32 with their gradients and moments beside a model of 16 bit; or in its type
        ("peft", {}, (2, 2, 4, 0, 4, 0, 8, 0)),
        ("peft", {"adapter": {"rank": 8, "dtype": "same"}}, (2, 2, 2, 0, 2, 0, 4, 0)),
        ("peft", {"precision": "fp32"}, (4, 4, 4, 0, 4, 0, 8, 0)),
        ("peft", {"precision": "fp32", "adapter": {"rank": 8, "dtype": "same"}}, (4, 4, 4, 0, 4, 0, 8, 0)),
        # with master copies where the framework has them; Transformer Engine keeps 8-bit inputs
        ("megatron-core", {"adapter": {"rank": 8, "dtype": "same"}}, (2, 2, 2, 0, 4, 4, 8, 0)),
        ("megatron-core", {"adapter": {"rank": 8, "dtype": "fp32"}}, (2, 2, 4, 0, 4, 0, 8, 0)),
        ("megatron-core", {"adapter": {"rank": 8, "dtype": "same"}, "gradient_dtype": "same"}, (2, 2, 2, 0, 2, 4, 8, 0)),
        ("megatron-core", {"adapter": {"rank": 8, "dtype": "same"}, "precision": "fp8"}, (2, 1, 2, 0, 4, 4, 8, 0)),
        ("fsdp", {"adapter": {"rank": 8, "dtype": "same"}, "precision": "fp8"}, (2, 2, 2, 0, 2, 0, 4, 0)),
    ],
)
def test_bytes_of_adapters(stack: str, asked: dict[str, Any], bytes_: tuple[float, ...]) -> None:
    assert held(precisions(job(**{**LORA, **asked}), framework(stack))) == pytest.approx(bytes_)


@pytest.mark.parametrize(
    ("stack", "asked", "width", "caches"),
    [
        ("peft", {}, 2, 0),
        ("peft", {"precision": "fp32"}, 4, 0),
        ("peft", {"precision": "tf32"}, 4, 0),
        ("megatron-core", {"precision": "fp8"}, 2, 2),
        ("megatron-core", {"precision": "nvfp4"}, 2, 2 * FOUR),
        ("fsdp", {"precision": "fp8"}, 2, 0),
    ],
)
def test_frozen_weights_lie_there_in_the_models_type(stack: str, asked: dict[str, Any], width: float, caches: float) -> None:
    assert frozen_width(job(**{**LORA, **asked}), framework(stack)) == pytest.approx((width, caches))
    if asked.get("precision") == "fp8":  # held once in 8 bit, and no more
        once = frozen_width(job(**{**LORA, **asked}), framework(stack, fp8_parameters=True))
        assert once == (2.0, 1.0 - 2.0)


def test_peft_upcasts_what_it_does_not_quantize_but_for_gptq() -> None:
    stack = framework("peft", upcasts_unquantized=True)
    packed, gptq = (job(**{**LORA, "kind": kind}) for kind in ("qlora", "gptq-lora"))
    assert [upcasts(one, stack) for one in (packed, gptq, job(**LORA))] == [True, False, False]
    assert (frozen_width(packed, stack)[0], frozen_width(gptq, stack)[0]) == (4.0, 2.0)
    assert not upcasts(packed, framework("peft", upcasts_unquantized=False))
    weights = framework("peft", adapter_dtype="weights")
    assert [adapter_dtype(one, weights) for one in (packed, job(**LORA))] == ["fp32", "same"]


@pytest.mark.parametrize(
    ("stored", "inputs", "bytes_"),
    [
        # QLoRA, section 3: 4 bits, and a constant for 64: fp32, or one byte of its own with fp32 for 256 of them
        ({"format": "nf4"}, 4096, 0.5 + 1 / 64 + 4 / 64 / 256),
        ({"format": "fp4", "double_quantization": False}, 4096, 0.5 + 4 / 64),
        ({"format": "nf4", "block_size": 128}, 4096, 0.5 + 1 / 128 + 4 / 128 / 256),
        ({"format": "int8"}, 1024, 1 + 4 / 1024),  # an fp32 scale a row
        ({"format": "gptq-int4"}, 4096, 0.5 + (2 + 0.5) / 128),  # a 16-bit scale and a packed zero a group
        ({"format": "gptq-int8", "group_size": 32}, 4096, 1 + (2 + 1) / 32),
    ],
)
def test_bytes_of_a_packed_weight(stored: dict[str, Any], inputs: float, bytes_: float) -> None:
    assert Quantization(**stored).bytes_per_weight(float(inputs)) == pytest.approx(bytes_, rel=1e-12)


def test_a_recipe_counts_its_scales_and_its_passes_over_a_tensor() -> None:
    """Delayed: of two readings (2 + 2) and a writing (1) the first falls away. Rows: once for either side. OCP: a byte for 32."""
    assert {name: (s.scale_bytes, s.casts) for name, s in SCALINGS.items()} == {
        "delayed": (0, 3 / 5), "tensorwise": (0, 1), "rowwise": (0, 2), "blockwise": (4 / 128, 1), "mxfp8": (1 / 32, 1),
    }  # fmt: skip
    assert {name for name, s in SCALINGS.items() if s.blocks} == {"blockwise"}
    assert {name for name, s in SCALINGS.items() if s.inputs} == {"rowwise", "blockwise"}
    assert {name for name, s in SCALINGS.items() if s.weights} == {"rowwise"}
    assert job(precision="fp8").scaling == SCALINGS["tensorwise"]


def test_states_of_an_optimizer_by_their_width() -> None:
    assert [optimizer_state_bytes(name, 2.0) for name in ("adamw", "sgd-momentum", "muon")] == [4, 2, 2]
    assert [optimizer_state_bytes(name, 2.0) for name in ("sgd", "adafactor", "galore-adamw")] == [0, 0, 0]
    assert [optimizer_state_bytes(name, 2.0) for name in ("paged-adamw", "adamw-8bit")] == [4, 2 + 2 * 4 / 256]


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        ({"num_steps": 7}, 7.0),
        ({"num_samples": 160}, 10.0),
        ({"num_samples": 161}, 11.0),
        ({"num_tokens": 16 * 1024 * 5}, 5.0),
        ({"num_tokens": 16 * 1024 * 5 + 1}, 6.0),
        ({}, None),
    ],
)
def test_the_last_step_of_an_epoch_is_filled_up(length: dict[str, int], steps: float | None) -> None:
    asked = job(**length)
    assert (asked.steps_per_epoch, asked.tokens_per_step) == (steps, 16 * 1024)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_steps": 1, "num_tokens": 1}, "exclude each other"),
        ({"fp8_recipe": "mxfp8"}, "recipes scale FP8"),
        ({"optimizer_rank": 8}, "only GaLore"),
        ({"kind": "lora"}, "needs the table"),
        ({"adapter": {"rank": 8}}, "adapters belong to"),
        ({**LORA, "quantization": {"format": "nf4"}}, "use kind = 'qlora'"),
        ({**LORA, "kind": "gptq-lora", "quantization": {"format": "nf4"}}, "gptq-int4 or gptq-int8"),
        ({**LORA, "kind": "qlora", "quantization": {"format": "gptq-int4"}}, "nf4, fp4 or int8"),
        ({"kind": "distil"}, "distil needs"),
        ({"teacher": {"model": "gpt2"}}, "only distil has one"),
        ({**LORA, "optimizer": "muon"}, "a kin of them"),
        ({**LORA, "optimizer": "galore-adamw"}, "a kin of them"),
        ({**LORA, "multi_token_prediction": 1}, "train with all weights"),
        ({**LORA, "optimizer_in_backward": True}, "gradients are small"),
        ({**LORA, "kind": "qlora", "precision": "fp8"}, "multiply in 16 bit"),
    ],
)
def test_jobs_that_contradict_themselves_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(PlannerError, match=words):
        job(**fields)


def test_jobs_that_do_not_are_not() -> None:
    for fields in (
        {"num_tokens": 1}, {"fp8_recipe": "mxfp8", "precision": "fp8"}, {"optimizer_rank": 8, "optimizer": "galore-adamw"}, LORA,
        {**LORA, "kind": "gptq-lora"}, {"kind": "distil", "teacher": {"model": "gpt2"}}, {**LORA, "optimizer": "adamw-8bit"},
        {"multi_token_prediction": 1}, {"optimizer_in_backward": True}, {**LORA, "precision": "fp8"},
    ):  # fmt: skip
        assert isinstance(job(**fields), Job)
    assert job(**{**LORA, "kind": "qlora"}).quantization == Quantization(format="nf4")
    assert job(**{**LORA, "kind": "gptq-lora"}).quantization == Quantization(format="gptq-int4")
    flags = [(one.paged, one.low_rank) for one in (job(optimizer=n) for n in ("adamw", "paged-adamw", "galore-adamw"))]
    assert flags == [(False, False), (True, False), (False, True)]


def test_a_run_is_one_pass_over_its_data_unless_it_says_more() -> None:
    assert (job().num_epochs, job(num_epochs=2.5).num_epochs) == (1.0, 2.5)
    with pytest.raises(PlannerError, match="num_epochs"):
        job(num_epochs=0.0)


def test_adapters_lie_on_the_layers_that_were_named() -> None:
    assert Adapter(rank=4).tuned(3) == (0, 1, 2)
    assert Adapter(rank=4, last_layers=2).tuned(3) == (1, 2)
    assert Adapter(rank=4, last_layers=3).tuned(3) == (0, 1, 2)
    assert Adapter(rank=4, layers=(2, 0)).tuned(3) == (0, 2)
    for wrong in ({"layers": (3,)}, {"last_layers": 4}):
        with pytest.raises(ValueError, match="layers"):
            Adapter(rank=4, **wrong).tuned(3)  # type: ignore[arg-type]


def test_stored_logits_take_a_value_of_16_bit_and_an_index_of_32() -> None:
    assert Teacher(model="gpt2", cached_top_k=50).cache_bytes(1000.0) == 1000 * 50 * (2 + 4)
    assert Teacher(model="gpt2").cache_bytes(1000.0) == 0.0
