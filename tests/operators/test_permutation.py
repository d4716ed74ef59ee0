"""Tokens into the order of their experts and back: fused kernels, or PyTorch's indexing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import LLAMA, MIXTRAL, model, setting

import planner
from planner.common import data
from planner.common.spec import read_table
from planner.hardware.cluster import cluster
from planner.hardware.curves import curves_of
from planner.launchfiles import read_launch
from planner.operators.moe import mixture_of_experts
from planner.operators.row import Row
from planner.operators.setting import Setting
from planner.performance.block_cost import compute_s
from planner.training.plan import Plan
from planner.workload.dispatch import stack_notes
from planner.workload.framework import framework_names, load_framework
from planner.workload.layout import Layout

CARD = cluster("dgx-h100", num_gpus=8)


def rows_of(stack: str, fused: bool, seq_len: int = 1024, compile: bool = False, **fields: Any) -> tuple[list[Row], Setting]:
    changes = {"fused_permutation": fused, "compile": compile}
    here = setting({**MIXTRAL, **fields}, stack, Layout(ep=1, dp=1), changes, routing="forced", seq_len=seq_len)
    kind = here.model.layer_kinds[-1]
    return list(mixture_of_experts(here, kind)), here


def seconds(stack: str, fused: bool, name: str, **fields: Any) -> dict[str, float]:
    """Of the operator's rows, by phase."""
    rows, here = rows_of(stack, fused, **fields)
    curves = curves_of(CARD.accelerator)
    return {r.phase: float(np.ravel(compute_s(r, here, CARD, curves))[0]) for r in rows if r.operator == name}


def test_indexing_takes_as_long_as_measured() -> None:
    """DeepLink-org/DLBlas#66: 8,192 tokens, 8 experts each, vectors of 4,096 in fp16 or bf16: index_select 0.439 ms, its gradient
    2.304 ms, a kernel that streams 0.198 ms."""
    big = {"hidden_size": 4096, "top_k": 8, "num_experts": 8, "seq_len": 8192}
    slow, fast = (seconds("megatron-core", fused, "permute", **big) for fused in (False, True))
    assert slow["forward"] * 1e3 == pytest.approx(0.439, rel=0.15)
    assert slow["backward"] * 1e3 == pytest.approx(2.304, rel=0.2)
    assert fast["backward"] * 1e3 == pytest.approx(0.198, rel=0.15)


def test_indexing_on_another_card_takes_about_as_long_as_measured() -> None:
    """pytorch/ao#4623, from which no constant was taken: 196,608 rows of 2,048 in bf16 permuted on B200, x[indices] 0.593 ms
    with a copy for its zero row, its gradient 1.848 ms. One rate for every card: of the gradient we are a third above."""
    rows, here = rows_of("megatron-core", False, hidden_size=2048, top_k=1, num_experts=8, seq_len=196608)
    b200 = cluster("dgx-b200", num_gpus=8)
    took = {
        r.phase: float(np.ravel(compute_s(r, here, b200, curves_of(b200.accelerator)))[0]) * 1e3
        for r in rows
        if r.operator == "permute"
    }
    assert took["forward"] == pytest.approx(0.593, rel=0.15)
    assert 1.848 <= took["backward"] <= 1.4 * 1.848


@pytest.mark.parametrize("stack", ["megatron-core", "fsdp", "transformers-fsdp"])
def test_what_is_gathered_one_way_is_added_the_other(stack: str) -> None:
    """Atomic adds where tokens come together: forward after the experts, backward before them."""
    grouped = load_framework(stack).grouped_experts
    before, after = seconds(stack, False, "permute"), seconds(stack, False, "unpermute")
    if grouped:
        assert before["forward"] < before["backward"]
        assert after["backward"] < after["forward"]
        assert before["backward"] == pytest.approx(after["forward"])
    else:  # a loop over experts is counted kernel by kernel
        assert before == seconds(stack, True, "permute")


def test_a_compiled_gather_streams_and_a_compiled_sum_adds_likewise() -> None:
    plain, compiled = (seconds("fsdp", False, "permute", seq_len=8192, compile=on) for on in (False, True))
    assert compiled["forward"] < plain["forward"]
    assert compiled["backward"] == pytest.approx(plain["backward"])


def test_outputs_are_weighed_apart_where_no_kernel_takes_the_probabilities_along() -> None:
    """Mixtral-like, 1,024 tokens of 2 experts each, vectors of 512, 2 bytes: read and written, backward twice."""
    held = 2 * 1024 * 2 * 512
    rows = {r.phase: float(np.ravel(r.bytes_moved)[0]) for r in rows_of("fsdp", False)[0] if r.operator == "weigh outputs"}
    assert rows == {"forward": 2 * held, "backward": 4 * held}
    assert not any(r.operator == "weigh outputs" for r in rows_of("fsdp", True)[0])
    assert not any(r.operator == "weigh outputs" for r in rows_of("fsdp", False, compile=True)[0])
    assert not any(r.operator == "weigh outputs" for r in rows_of("megatron-core", False)[0])  # its activation weighs


def asked(fused: bool) -> Plan:
    """Long enough that the device is not waiting for the host."""
    return planner.plan(
        model="qwen3-30b-a3b",
        job={"seq_len": 16384, "global_batch_size": 64, "num_steps": 10},
        cluster=cluster("dgx-h100", num_nodes=2),
        layout={"ep": 8, "zero": 1, "recompute": "full"},
        framework={"name": "megatron-core", "fused_permutation": fused},
        explain=False,
    )


def test_it_takes_time_and_no_memory() -> None:
    slow, fast = asked(False), asked(True)
    assert slow.step_time_s > fast.step_time_s
    assert slow.peak_total_bytes == fast.peak_total_bytes


def test_who_fuses() -> None:
    fused = {
        name: load_framework(name).fused_permutation for name in ("megatron-core", "megatron-bridge", "automodel", "jax-xla")
    }
    assert fused == {"megatron-core": False, "megatron-bridge": True, "automodel": True, "jax-xla": True}


@pytest.mark.parametrize("fused", [False, True])
def test_the_launch_file_says_it_and_is_read_back(fused: bool, tmp_path: Path) -> None:
    files = planner.export_plan(asked(fused), "megatron")
    assert ("--moe-permute-fusion" in "".join(files.values())) == fused
    paths = [tmp_path / name for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.write_text(text)
    found = read_launch(paths).tables["framework"]
    assert found.get("fused_permutation", False) == fused


def test_the_answer_says_how_to_be_faster() -> None:
    core = load_framework("megatron-core")
    said = "--moe-permute-fusion"
    notes = stack_notes(core, CARD, model(MIXTRAL), Layout(ep=1))
    assert any(said in note for note in notes)
    for stack, fields in ((core.replaced(fused_permutation=True), MIXTRAL), (core, LLAMA), (load_framework("fsdp"), MIXTRAL)):
        assert not any(said in note for note in stack_notes(stack, CARD, model(fields), Layout(ep=1)))


@pytest.mark.parametrize("name", framework_names())
def test_an_option_that_the_answer_names_is_one_that_launch_files_know(name: str) -> None:
    """The note's option is that of the tables that read and write launch files; software older than it has none."""
    stack = load_framework(name)
    option = stack.permutation_option.removeprefix("--")
    known = read_table(data.CATALOG / "launch" / "megatron.toml")
    assert not option or known["options"][option]["field"] == "framework.fused_permutation"
    assert not option or name not in ("internevo", "nanotron", "megatron-zero-bubble")
    notes = " ".join(stack_notes(stack, CARD, model(MIXTRAL), Layout(ep=1)))
    assert ("permuted" in notes) == (bool(option) and not stack.fused_permutation)
