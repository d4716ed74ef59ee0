"""Exchanges of tokens and of parameters: what crosses a network, what a ring costs, what computation pays for company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import ACCELERATOR, LLAMA, MIXTRAL, NODE, framework, gpus, job, model
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.hardware.cluster import Node, load_accelerator
from planner.hardware.cluster import cluster as build_cluster
from planner.hardware.curves import curves_of, load_curves
from planner.model.architecture import OPEN
from planner.operators.routing import distinct_places
from planner.operators.row import Matmul, Row, alignment, linear
from planner.performance.collectives import Exchange, collective_s, token_exchange_s
from planner.performance.evaluation import evaluate
from planner.performance.roofline import Device, device_s
from planner.serving.engine import load_engine
from planner.workload.framework import framework_names, load_framework
from planner.workload.layout import Layout, as_columns
from planner.workload.question import Question

CATALOG = [load_framework(name) for name in framework_names()]
BY_DEEPSPEED = [stack.name for stack in CATALOG if "DeepSpeed" in stack.description and "zero3" in stack.features]


def test_deepseek_sends_a_token_to_fewer_nodes_than_experts() -> None:
    """Eight experts in at most four of eight nodes: never more than four copies on the network (DeepSeek-V3, section 3.2.2)."""
    nodes = distinct_places(8.0, (8, 4), 8.0)
    assert 3.5 < nodes <= 4.0
    assert distinct_places(8.0, OPEN, 8.0) > nodes
    assert distinct_places(1.0, OPEN, 8.0) == 1.0
    assert distinct_places(1e9, OPEN, 8.0) == pytest.approx(8.0, rel=1e-6)  # ever more places: each expert its own


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([8.0, 16.0, 32.0, 64.0]), st.floats(1e6, 1e9), st.sampled_from([2.0, 6.0, 8.0]))
def test_sending_a_token_once_to_a_node_takes_no_longer_than_once_to_an_expert(ranks: float, tokens: float, k: float) -> None:
    cluster = build_cluster("dgx-h100", num_nodes=8)
    once = float(token_exchange_s(cluster, tokens, k, OPEN, ranks, 1.0))
    pairs = float(collective_s(cluster, "all_to_all", tokens * k, ranks, 1.0))
    assert once <= pairs * 1.0001
    assert token_exchange_s(cluster, tokens, k, OPEN, 1.0, 1.0) == 0.0


@pytest.mark.parametrize(
    ("ranks", "dispatch_us", "combine_us"), [(16, 118, 195), (32, 155, 273), (64, 173, 314), (128, 192, 369), (256, 194, 360)]
)
def test_tokens_of_decoding_over_a_network_as_deepep_measured(ranks: int, dispatch_us: float, combine_us: float) -> None:
    """128 tokens to 8 experts each, 7,168 wide, there in fp8 and back in 16 bit, H800 with ports of 400 Gbit/s
    (deepseek-ai/DeepEP, README, low-latency kernels)."""
    cluster, engine = build_cluster("dgx-h100", num_nodes=32), load_engine("sglang-0.5")
    own = Exchange(engine.dispatch_rate, engine.dispatch_latency_s)
    for width, measured in ((1.0, dispatch_us), (2.0, combine_us)):
        found = float(collective_s(cluster, "all_to_all", 128.0 * 8.0 * 7168.0 * width, float(ranks), 1.0, exchange=own))
        assert found == pytest.approx(measured * 1e-6, rel=0.2)


def test_a_rings_latency_grows_with_its_nodes_and_a_trees_with_their_logarithm() -> None:
    cluster = build_cluster("dgx-h100", num_nodes=64)
    times = {c: [float(collective_s(cluster, c, 1.0, 8.0 * n, 1.0)) for n in (16, 32, 64)] for c in ("all_gather", "all_reduce")}
    ring, tree = (np.diff(times[c]) for c in ("all_gather", "all_reduce"))
    assert ring[1] == pytest.approx(2.0 * ring[0], rel=0.01)
    assert tree[1] == pytest.approx(tree[0], rel=0.01)


def test_computation_that_loses_all_of_an_exchange_hides_nothing() -> None:
    layout, stack = as_columns(Layout(zero=3), 8), framework("fsdp")
    alone = stack.replaced(overlap_parameter_gather=0.0, overlap_gradient_reduction=0.0)
    curves = curves_of(gpus(8).accelerator)

    def step(frame: object, contention: float) -> float:
        chip = curves.replaced(exchange_contention=contention)
        return float(evaluate(Question(model(LLAMA), gpus(8), frame, job()), layout, chip).step_time_s[0])  # type: ignore[arg-type]

    assert step(stack, 1.0) == pytest.approx(step(alone, 0.0))
    assert step(stack, 0.0) < step(stack, 0.5) < step(stack, 1.0)


def test_a_dispatcher_that_sends_pairs_sends_more_than_one_that_sends_tokens() -> None:
    layout = as_columns(Layout(ep=8, zero=1), 16)
    cluster = build_cluster("dgx-h100", num_nodes=2)

    def exchange(dispatcher: str) -> float:
        stack = framework("megatron-core").replaced(dispatcher=dispatcher, overlap_expert=0.0)
        answer = evaluate(Question(model(MIXTRAL), cluster, stack, job(routing="forced", global_batch_size=16)), layout)
        return float(answer.step.expert_parallel_s[0])

    assert exchange("deepep") == exchange("hybridep") < exchange("alltoall") < exchange("allgather")


# --- shapes of multiplications ------------------------------------------------------------------------------------------


def test_alignment_is_the_largest_power_of_two_that_divides_both() -> None:
    assert float(np.max(alignment(4096.0, 11008.0))) == 64.0
    assert float(np.max(alignment(4096.0, 50257.0))) == 1.0  # GPT-2's vocabulary
    assert float(np.max(alignment(30522.0, 768.0))) == 2.0  # BERT's
    assert float(np.max(alignment(1024.0, 30528.0))) == 64.0  # the same, padded


@pytest.mark.parametrize("name", ["v100-sxm2-16gb", "a100-sxm4-80gb", "h100-sxm5-80gb"])
def test_padding_an_odd_vocabulary_is_faster(name: str) -> None:
    chip = load_accelerator(name)
    curves = load_curves(chip.curves)

    def seconds(vocabulary: float, cublas: int = 12) -> float:
        row = linear("logits", "head", Matmul(m=4096.0, k=1024.0, n=vocabulary), width=2.0)[0]
        on = Device(accelerator=chip, curves=curves, dtype="fp16", unquantized="fp16", cublas=cublas)
        return float(device_s(row, on))

    assert seconds(50304.0) < seconds(50257.0)
    flops = 2.0 * 4096 * 1024 * 50257
    # cuBLAS 10 leaves the tensor cores alone: at most the fp32 peak, in which the products are summed
    assert flops / seconds(50257.0, 10) < chip.peak("fp32") < flops / seconds(50257.0)
    assert seconds(50304.0, 10) == seconds(50304.0)


def test_fused_attention_pads_heads_to_the_next_kernel() -> None:
    from planner.operators.row import FusedAttention

    chip = load_accelerator("a100-sxm4-80gb")

    def seconds(head: float) -> float:
        work = FusedAttention(sequences=8.0, heads=16.0, queries=4096.0, keys=2048.0, qk_head_dim=head, value_head_dim=head)
        flops = 4.0 * 8 * 16 * 4096 * 2048 * head
        row = Row(name="fused attention", block="attention", phase="forward", flops=flops, work=work)
        return float(device_s(row, Device(accelerator=chip, curves=load_curves(chip.curves), dtype="bf16", unquantized="bf16")))

    assert seconds(128.0) / 128.0 < seconds(100.0) / 100.0


def test_in_a_full_mesh_a_group_has_a_link_to_each_other_member_alone() -> None:
    """All-gather of n shards over n - 1 links: message / n / link, half as long among 4 as among 2; a switch gives 2 all."""
    near, far = ({"name": "near", "kind": "nvlink", "span": 8, "bytes_per_s": 700e9}, NODE.links[1])
    seconds: dict[float | None, Any] = {}
    for peer in (None, 50e9):
        links = [{**near, **({"per_peer_bytes_per_s": peer} if peer else {})}, far.model_dump(exclude_unset=True)]
        node = Node.build({**NODE.model_dump(exclude_unset=True), "links": links}, "test")
        there = build_cluster(node, num_gpus=8, accelerator=ACCELERATOR)
        ranks = np.array([2.0, 4.0])
        seconds[peer] = collective_s(there, "all_gather", np.full(2, 1e12), ranks, np.ones(2))
    two, four = seconds[50e9]
    assert two / four == pytest.approx(2.0, rel=0.01)
    assert seconds[None][0] / seconds[None][1] == pytest.approx((1 / 2) / (3 / 4), rel=0.01)


@pytest.mark.parametrize(("kind", "waits"), [("lora", True), ("finetune", False)])
def test_gathers_wait_for_adapters_that_fsdp_wraps_alone(kind: str, waits: bool) -> None:
    """peft, utils/other.py, fsdp_auto_wrap_policy: A and B are units of their own. With limit_all_gathers (accelerate's default)
    the next layer's gather starts when the unit two in front is free, which is this layer's last adapter: none of it hides."""
    changes = {"kind": kind, "global_batch_size": 8, "precision": "bf16", **({"adapter": {"rank": 8}} if kind == "lora" else {})}
    columns, seconds = as_columns(Layout(zero=3, micro_batch_size=1, dp=8, recompute="full"), 8), {}
    for apart in (True, False):
        question = Question(model(LLAMA), gpus(8), framework("peft", adapters_sharded_apart=apart), job(**changes))
        seconds[apart] = float(evaluate(question, columns).step.data_parallel_s[0])
    if waits:
        link = gpus(8)
        whole = framework("peft", adapters_sharded_apart=False, overlap_parameter_gather=0.0)
        alone = evaluate(Question(model(LLAMA), link, whole, job(**changes)), columns).step.data_parallel_s[0]
        assert seconds[True] == alone > seconds[False]
    else:
        assert seconds[True] == seconds[False]


@pytest.mark.parametrize("name", BY_DEEPSPEED)
def test_what_shards_by_deepspeed_takes_nothing_of_fsdp(name: str) -> None:
    """FSDP's wrapping of adapters and what its backward pass keeps belong to FSDP: DeepSpeed's ZeRO-3 wraps no modules."""
    changes = {"kind": "lora", "adapter": {"rank": 8}, "global_batch_size": 8, "precision": "bf16"}
    columns = as_columns(Layout(zero=3, micro_batch_size=1, dp=8, recompute="full"), 8)
    stack = load_framework(name)
    found = {
        fsdp: evaluate(
            Question(
                model(LLAMA),
                gpus(8),
                stack.replaced(adapters_sharded_apart=fsdp, sharded_backward_keeps_inputs=fsdp),
                job(**changes),
            ),
            columns,
        )
        for fsdp in (True, False)
    }
    asked = evaluate(Question(model(LLAMA), gpus(8), stack, job(**changes)), columns)
    assert found[True].step.data_parallel_s[0] > found[False].step.data_parallel_s[0] == asked.step.data_parallel_s[0]
    assert found[True].memory.total_bytes[0] > found[False].memory.total_bytes[0] == asked.memory.total_bytes[0]


@pytest.mark.parametrize("name", framework_names())
def test_a_framework_gathers_as_the_software_that_shards_its_adapters(name: str) -> None:
    """Adapters that FSDP wraps are gathered by FSDP; peft under DeepSpeed gathers as DeepSpeed does."""
    stack = load_framework(name)
    if stack.adapters_sharded_apart or stack.sharded_backward_keeps_inputs:
        assert stack.provenance["overlap_parameter_gather"].source.startswith("fsdp.overlap_parameter_gather")
