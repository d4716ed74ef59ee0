"""Laws over the catalog of machines: on the same layout a newer chip of a line is never slower and needs no more memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from each import for_each

from planner.hardware.cluster import Cluster, accelerator_names, cluster, load_accelerator, load_node, node_names
from planner.hardware.curves import curves_of
from planner.hardware.custom_nodes import custom_node
from planner.layout_search.ranking import NOISE
from planner.model.catalog import load_model
from planner.performance.evaluation import Evaluation, evaluate
from planner.scenarios.quick import quick_scenario
from planner.workload.attention import attention_on
from planner.workload.framework import framework_names, load_framework
from planner.workload.job import Job
from planner.workload.layout import Layout, as_columns
from planner.workload.question import Question

OLDER_AND_NEWER = [
    ("dgx-1v-32gb", "dgx-a100-80gb", "fp16"), ("dgx-a100-80gb", "dgx-h100", "bf16"), ("dgx-h100", "dgx-h200", "bf16"),
    ("dgx-h100", "dgx-h200", "fp8"), ("dgx-b200", "dgx-b300", "bf16"), ("dgx-b200", "dgx-b300", "fp8"),
    ("dgx-a100-40gb", "dgx-a100-80gb", "bf16"), ("mi325x-8", "bm-gpu-mi355x-8", "bf16"),
    ("standard-nd96isr-mi300x-v5", "mi325x-8", "bf16"), ("mi350x-8", "bm-gpu-mi355x-8", "bf16"),
    ("gb300-nvl72", "vr-nvl72", "bf16"), ("gb300-nvl72", "vr-nvl72", "fp8"), ("bm-gpu-mi355x-8", "helios-mi455x", "bf16"),
]  # fmt: skip
SLOWER_AND_FASTER_CARD = [
    ("a100-pcie-80gb", "a100-sxm4-80gb"), ("a100-pcie-40gb", "a100-sxm4-40gb"), ("h100-pcie-80gb", "h100-sxm5-80gb"),
    ("h100-nvl-94gb", "h200-nvl-141gb"), ("h200-nvl-141gb", "h200-sxm-141gb"), ("v100-pcie-16gb", "v100-sxm2-16gb"),
    ("a100-sxm4-40gb", "a100-sxm4-80gb"), ("a100-pcie-40gb", "a100-pcie-80gb"), ("h100-sxm5-80gb", "gh200-96gb"),
    ("rtx-pro-6000-blackwell-max-q", "rtx-pro-6000-blackwell"), ("rtx-5080-16gb", "rtx-5090-32gb"),
    ("rtx-4080-16gb", "rtx-4090-24gb"),
    ("rtx-3090-24gb", "rtx-3090-ti-24gb"), ("rtx-4090-laptop-16gb", "rtx-4080-16gb"), ("a10g", "a10"),
]  # fmt: skip
DENSE = [
    Layout(dp=8, zero=1), Layout(tp=2, dp=4, zero=1, sequence_parallel=True), Layout(tp=4, pp=2, dp=1, sequence_parallel=True),
    Layout(tp=8, dp=1, sequence_parallel=True), Layout(pp=4, dp=2),
]  # fmt: skip
EXPERTS = [Layout(dp=8, ep=8, zero=1), Layout(tp=2, sequence_parallel=True, dp=4, ep=4, zero=1)]
QUESTIONS = [
    ("llama-3.1-8b", 1024, DENSE),
    ("llama-3.1-8b", 4096, DENSE),
    ("mixtral-8x7b", 4096, EXPERTS),
    ("qwen3-30b-a3b", 1024, EXPERTS),
]


def on(
    machine: Cluster, model: str, seq_len: int, layouts: list[Layout], precision: str, stack: str = "megatron-core"
) -> Evaluation:
    job = Job.build({"seq_len": seq_len, "global_batch_size": 64, "precision": precision, "optimizer": "adamw"}, "job")
    columns = as_columns(layouts, machine.num_gpus)
    return evaluate(Question(load_model(model), machine, load_framework(stack), job), columns)


@pytest.mark.parametrize(("older", "newer", "precision"), OLDER_AND_NEWER)
@pytest.mark.parametrize(("model", "seq_len", "layouts"), QUESTIONS)
def test_a_newer_node_is_never_slower(
    older: str, newer: str, precision: str, model: str, seq_len: int, layouts: list[Layout]
) -> None:
    first, second = (on(cluster(n, num_gpus=8), model, seq_len, layouts, precision) for n in (older, newer))
    assert np.all(second.step_time_s <= first.step_time_s * (1 + 1e-9))
    assert np.all(second.memory.allocated_bytes <= first.memory.allocated_bytes)


@pytest.mark.parametrize(("older", "newer"), dict.fromkeys((older, newer) for older, newer, _ in OLDER_AND_NEWER))
def test_a_newer_node_has_as_new_an_attention_kernel_under_every_framework(older: str, newer: str) -> None:
    """PyTorch takes cuDNN's kernel on a B300 too, whose compute capability is 10.3."""
    first, second = (cluster(n, num_gpus=1).accelerator for n in (older, newer))
    for name in framework_names():
        stack = load_framework(name)
        before, after = attention_on(stack, first, False), attention_on(stack, second, False)
        assert after.flash_attention >= before.flash_attention, name
        assert before.attention_kernel == after.attention_kernel or after.attention_kernel == "flash", name


@pytest.mark.parametrize(("slower", "faster"), SLOWER_AND_FASTER_CARD)
@pytest.mark.parametrize("model", ["gpt2", "llama-3.2-1b"])
@pytest.mark.parametrize("micro", [1, 8])
def test_a_faster_card_of_a_line_is_never_slower(slower: str, faster: str, model: str, micro: int) -> None:
    precision = "fp16" if slower.startswith("v100") else "bf16"
    layouts = [Layout(dp=1, micro_batch_size=micro)]
    first, second = (on(cluster(custom_node(n, 1), num_gpus=1), model, 1024, layouts, precision) for n in (slower, faster))
    assert second.step_time_s <= first.step_time_s * (1 + 1e-9)
    assert second.memory.allocated_bytes <= first.memory.allocated_bytes


@pytest.mark.parametrize(
    "line",
    [
        ("t4", "v100-sxm2-32gb", "a100-sxm4-40gb", "a100-sxm4-80gb", "h100-sxm5-80gb", "h200-sxm-141gb", "b200-sxm-180gb"),
        ("a10g", "rtx-3090-24gb", "rtx-4090-24gb", "rtx-5090-32gb", "rtx-pro-6000-blackwell"),
        ("l4", "l40s"),
        ("a10", "a40", "rtx-6000-ada"),
    ],
)
@pytest.mark.parametrize(("model", "kind"), [("llama-3.2-1b", "pretrain"), ("gpt2", "pretrain"), ("qwen2.5-0.5b", "finetune")])
def test_what_is_recommended_is_no_slower_on_a_better_card(line: tuple[str, ...], model: str, kind: str) -> None:
    """Faster in compute and memory and no smaller: whatever stack and layout each card is answered with."""
    seconds = [quick_scenario(model, card, kind, {}, {}).cases[0].plan().step_time_s for card in line]  # type: ignore[arg-type]
    assert all(later <= earlier * (1.0 + NOISE) for earlier, later in itertools.pairwise(seconds)), seconds


# --- what holds on every stack ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", framework_names())
@pytest.mark.parametrize("base", [{}, {"pp": 2}, {"tp": 2}])
def test_memory_falls_with_the_zero_stage(stack: str, base: dict[str, int]) -> None:
    """Each stage shards what the one before left whole; a pipeline or tensor ranks beside it change nothing of that."""
    layouts = [Layout(**base, zero=zero) for zero in (0, 1, 2, 3)]
    machine = cluster("dgx-a100-80gb", num_gpus=8)
    job = Job.build({"seq_len": 1024, "global_batch_size": 64, "precision": "bf16", "optimizer": "adamw"}, "job")
    answer = evaluate(Question(load_model("llama-3.2-1b"), machine, load_framework(stack), job), as_columns(layouts, 8))
    held = answer.memory.states_bytes[answer.possible]
    assert np.all(np.diff(held) <= 1e-9 * held[:-1]), held / 2**30


@pytest.mark.parametrize("stack", ["megatron-core", "fsdp", "deepspeed-zero"])
@pytest.mark.parametrize("node", ["dgx-1v-32gb", "dgx-a100-80gb", "dgx-h100", "dgx-b200"])
@pytest.mark.parametrize(("model", "seq_len", "layouts"), QUESTIONS)
def test_nothing_runs_above_the_sustained_peak_and_hardware_does_at_least_the_models_work(
    stack: str, node: str, model: str, seq_len: int, layouts: list[Layout]
) -> None:
    machine = cluster(node, num_gpus=8)
    precision = "fp16" if node == "dgx-1v-32gb" else "bf16"
    again = [layout.replaced(recompute="full") for layout in layouts]
    answer = on(machine, model, seq_len, [*layouts, *again], precision, stack)
    at = answer.possible
    hfu = answer.hardware_flops[at] / (answer.peak_flops_per_s * answer.num_gpus * answer.step_time_s[at])
    assert np.all(hfu >= answer.mfu[at] * (1 - 1e-9))
    assert np.all(hfu <= curves_of(machine.accelerator).sustained_fraction)


# --- what every profile must hold ---------------------------------------------------------------------------------------------


@for_each("name", accelerator_names())
def test_every_number_of_an_accelerator_has_a_source(name: str) -> None:
    card = load_accelerator(name)
    stated = {"memory_bytes", "memory_bandwidth_bytes_per_s", "host_link_bytes_per_s"} | {
        f"peak_flops_per_s.{t}" for t in card.peak_flops_per_s
    }
    missing = {field for field in stated if not card.provenance.get(field) or not card.provenance[field].source}
    assert name == "cpu" or not missing


@for_each("name", accelerator_names())
def test_every_accelerator_is_plausible(name: str) -> None:
    """Dates, and the flop per byte that chips of 2016 to 2026 have: 10 (no matrix units) to 600 (Trillium: 560)."""
    card = load_accelerator(name)
    curves_of(card)
    if name == "cpu":
        return
    assert "2015" <= card.released[:4] <= "2026"
    assert len(card.released) in (7, 10)
    peak = card.peak_flops_per_s.get("bf16", card.peak_flops_per_s.get("fp16", card.peak_flops_per_s["fp32"]))
    assert 10 <= peak / card.memory_bandwidth_bytes_per_s <= 600
    assert 4e9 <= (card.usable_memory_bytes or card.memory_bytes) <= card.memory_bytes <= 6e11
    assert card.peak_flops_per_s["fp32"] <= peak
    if card.vendor == "NVIDIA" and float(card.compute_capability) < 7.0:  # no matrix units: sums in fp32 take fp32's rate
        assert peak == card.peak_flops_per_s["fp32"]


@for_each("name", node_names())
def test_every_node_holds_together(name: str) -> None:
    node = load_node(name)
    card = load_accelerator(node.accelerator)
    for link in node.links:
        assert link.provenance["bytes_per_s"].source
        assert link.kind == "network" or link.bytes_per_s >= 0.25 * min(card.host_link_bytes_per_s, 3.2e10)
        assert link.bytes_per_s <= 1.8e12  # NVLink 6: 3.6 TB/s in both directions
    networks = [link for link in node.links if link.kind == "network"]
    assert len(networks) <= 1
    assert not networks or networks[0] is node.links[-1]


def test_names_and_aliases_are_unique() -> None:
    for load, names in ((load_accelerator, accelerator_names()), (load_node, node_names())):
        found: dict[str, str] = {}
        for name in names:
            for alias in {name, *(a.lower().replace("_", "-").replace(" ", "-") for a in load(name).aliases)}:
                assert found.setdefault(alias, name) == name, f"{alias} names {found[alias]} and {name}"


def test_usable_memory_is_the_cards_own() -> None:
    """What torch sees on a card is a little less than its memory: a reference must not carry over that of a smaller one."""
    seen = {name: load_accelerator(name) for name in accelerator_names()}
    parts = {
        name: a.usable_memory_bytes / a.memory_bytes for name, a in seen.items() if a.usable_memory_bytes and a.vendor == "nvidia"
    }
    assert {name: round(part, 3) for name, part in parts.items() if not 0.9 <= part <= 1.0} == {}
