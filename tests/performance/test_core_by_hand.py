"""Collectives, pipelines, passes of a block, moments of a step and kernels of round numbers: by hand, or played through."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from examples import ACCELERATOR, LLAMA, MIXTRAL, NODE, framework, gpus, job, model, setting
from scipy.stats import t as student

from planner.common.errors import PlannerError
from planner.hardware.cluster import Accelerator, CollectiveName, Node, cluster, host_link_rate
from planner.hardware.curves import load_curves
from planner.model.architecture import OPEN
from planner.operators.routing import distinct_places
from planner.operators.row import FusedAttention, Matmul, Row, linear
from planner.operators.setting import distinct_axes
from planner.operators.table import build_table
from planner.performance import block_cost as blocks
from planner.performance.collectives import Exchange, collective_s, token_exchange_s
from planner.performance.context import Context
from planner.performance.evaluation import Evaluation, GridEvaluator, evaluate, evaluate_each, stage_memory, step_time_columns
from planner.performance.memory import (
    StageMemory,
    States,
    cached_bytes,
    optimizer_workspace,
    page_out,
    stage_moments,
    summed_apart,
    unsharded_gradients,
)
from planner.performance.pipeline import bubble_s, in_flight, stages
from planner.performance.risk import FitRule, check_risk
from planner.performance.roofline import MOST_STACKED, Device, device_s, devices_s, measured_s, product_of
from planner.performance.step_time import StageTime, StepTime, combine, exchange, update_s
from planner.performance.transfers import offload_s, pipeline_s
from planner.training.schedule import order_of
from planner.uncertainty.effects import standing
from planner.uncertainty.interval import DEGREES, interval_of
from planner.uncertainty.subject import Subject, lever
from planner.workload.layout import SCHEDULE, Layout, as_columns
from planner.workload.precision import precisions
from planner.workload.question import Question

# --- collectives ------------------------------------------------------------------------------------------------------

NEAR, FAR = 0.8 * 300e9, 0.8 * 25e9
"""What the test node's links reach, of 8 GPUs and between nodes; each has a latency of 10 us."""


def law(latency_s: float, wire_s: float, coefficient: float = 1.0) -> float:
    """Latency, wire, and the square root of both between."""
    return latency_s + wire_s + coefficient * (latency_s * wire_s) ** 0.5


@pytest.mark.parametrize(
    ("name", "nodes", "ranks", "stride", "crossing", "bus", "latency_s"),
    [
        # within a node each GPU has its whole port
        ("all_reduce", 1, 8, 1, 2 * 7 / 8, NEAR, 1e-5),
        ("all_gather", 1, 4, 2, 3 / 4, NEAR, 1e-5),
        ("all_to_all", 1, 8, 1, 7 / 8, NEAR, 1e-5),
        ("p2p", 1, 2, 1, 1, NEAR, 1e-5),
        # over nodes the local ranks feed as many network ports; a tree's latency doubles with the square of its nodes
        ("all_reduce", 2, 16, 1, 2 * 15 / 16, 8 * FAR, 1e-5),
        ("all_reduce", 4, 32, 1, 2 * 31 / 32, 8 * FAR, 2e-5),
        ("all_reduce", 4, 4, 8, 2 * 3 / 4, FAR, 2e-5),
        ("all_reduce", 2, 4, 4, 2 * 3 / 4, 2 * FAR, 1e-5),
        # a ring passes every node, and inside a node one more link
        ("all_gather", 2, 16, 1, 15 / 16, 8 * FAR, 2e-5 + 1e-5),
        ("reduce_scatter", 4, 32, 1, 31 / 32, 8 * FAR, 4e-5 + 1e-5),
        ("reduce_scatter", 4, 4, 8, 3 / 4, FAR, 4e-5),
        # what is for other nodes leaves through a rank's own port
        ("all_to_all", 2, 16, 1, 8 / 16, FAR, 1e-5),
        ("all_to_all", 4, 32, 1, 24 / 32, FAR, 2e-5),
        ("all_to_all", 4, 4, 8, 3 / 4, FAR, 2e-5),
        ("p2p", 2, 2, 8, 1, FAR, 1e-5),
    ],
)
def test_a_collective_by_hand(
    name: CollectiveName, nodes: int, ranks: int, stride: int, crossing: float, bus: float, latency_s: float
) -> None:
    found = float(collective_s(gpus(8 * nodes), name, 1e8, float(ranks), float(stride)))
    assert found == pytest.approx(law(latency_s, 1e8 * crossing / bus), rel=1e-9)


def with_far(**link: Any) -> Any:
    """Four nodes whose network has these fields, too."""
    near, far = (one.model_dump(exclude_unset=True) for one in NODE.links)
    node = Node.build({**NODE.model_dump(exclude_unset=True), "links": [near, {**far, **link}]}, "test")
    return cluster(node, num_gpus=32, accelerator=ACCELERATOR)


def test_a_measured_link_has_its_own_figures_and_graphs_theirs() -> None:
    """2 us and 1 us for each peer, 30 GB/s a port, half of the root; from a graph none of the latency."""
    fit = {"latency_s": 2e-6, "latency_s_per_peer": 1e-6, "bus_bytes_per_s": 30e9, "sqrt_coefficient": 0.5}
    there = with_far(collectives={"all_reduce": fit}, captured={"all_reduce": {**fit, "latency_s": 0.0}})
    wire = 1e8 * 2 * 31 / 32 / min(8 * 30e9, NEAR)
    for captured, latency in ((False, 2 * 2e-6 + 31e-6), (True, 31e-6)):
        found = float(collective_s(there, "all_reduce", 1e8, 32.0, 1.0, captured))
        assert found == pytest.approx(law(latency, wire, 0.5), rel=1e-9)
    # of another collective nothing is known
    assert float(collective_s(there, "all_gather", 1e8, 32.0, 1.0, True)) == float(
        collective_s(gpus(32), "all_gather", 1e8, 32, 1)
    )


def test_the_ranks_of_a_group_that_a_nodes_edge_cuts_share_what_lies_on_one_side() -> None:
    """Groups of four on nodes of six: two on either side, which leave through two ports; each sends half of its message over."""
    near, far = (one.model_dump(exclude_unset=True) for one in NODE.links)
    six = {**NODE.model_dump(exclude_unset=True), "num_gpus": 6, "links": [{**near, "span": 6}, far]}
    there = cluster(Node.build(six, "test"), num_gpus=12, accelerator=ACCELERATOR)
    assert float(collective_s(there, "all_to_all", 1e8, 4.0, 1.0)) == pytest.approx(law(1e-5, 1e8 / 2 / FAR))
    assert float(collective_s(there, "all_gather", 1e8, 4.0, 1.0)) == pytest.approx(law(3e-5, 1e8 * 3 / 4 / (2 * FAR)))


@pytest.mark.parametrize(("ranks", "bus"), [(2, 0.8 * 50e9), (4, 3 * 0.8 * 50e9), (8, NEAR)])
def test_gpus_joined_in_pairs_use_the_links_to_all_of_their_group(ranks: int, bus: float) -> None:
    """50 GB/s to each other one, and no more than 300 in all."""
    near, far = (one.model_dump(exclude_unset=True) for one in NODE.links)
    mesh = Node.build({**NODE.model_dump(exclude_unset=True), "links": [{**near, "per_peer_bytes_per_s": 50e9}, far]}, "test")
    found = collective_s(cluster(mesh, num_gpus=8, accelerator=ACCELERATOR), "all_gather", 1e9, float(ranks), 1.0)
    assert float(found) == pytest.approx(law(1e-5, 1e9 * (ranks - 1) / ranks / bus), rel=1e-9)


def test_kernels_that_write_to_other_nodes_have_their_own_rate_there() -> None:
    """0.5 of a port, 3 us for each doubling of the nodes; within a node, and of other collectives, NCCL's."""
    own = Exchange(rate=0.5, latency_s=3e-6)
    assert float(collective_s(gpus(32), "all_to_all", 1e8, 32.0, 1.0, exchange=own)) == pytest.approx(
        2 * 3e-6 + 1e8 * 24 / 32 / (0.5 * 25e9)
    )
    for name, ranks in (("all_to_all", 8.0), ("all_reduce", 32.0)):
        assert collective_s(gpus(32), cast(CollectiveName, name), 1e8, ranks, 1.0, exchange=own) == collective_s(
            gpus(32), cast(CollectiveName, name), 1e8, ranks, 1.0
        )


@pytest.mark.parametrize(("ranks", "stride", "local", "nodes"), [(32, 1, 8, 4), (16, 2, 4, 4), (4, 1, 4, 1), (2, 8, 1, 2)])
def test_a_token_crosses_the_network_once_for_a_node_and_then_once_for_a_rank(
    ranks: int, stride: int, local: int, nodes: int
) -> None:
    """Both legs as a pipeline; of 6 experts, as many places as all draws meet on average."""
    at_ranks, at_nodes = (float(distinct_places(float(n), OPEN, 6.0)) for n in (ranks, nodes))
    inside = law(1e-5, 1e7 * at_ranks * (local - 1) / local / NEAR) if local > 1 else 0.0
    across = law(1e-5 * np.log2(nodes), 1e7 * at_nodes * (nodes - 1) / nodes / FAR) if nodes > 1 else 0.0
    found = float(token_exchange_s(gpus(32), 1e7, 6.0, OPEN, float(ranks), float(stride)))
    assert found == pytest.approx(max(inside, across), rel=1e-9)


# --- pipelines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batches", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize(("pp", "vpp"), [(1, 1), (2, 1), (4, 1), (4, 2), (2, 3)])
def test_micro_batches_in_flight_are_those_of_the_schedule_played_through(pp: int, vpp: int, micro_batches: int) -> None:
    """A chunk is held from its forward to its backward, in the order that the timeline draws; beside experts' exchange each
    backward comes one forward later."""
    for stage in range(pp):
        plain = "".join("B" if backward else "F" for backward, _, _ in order_of(pp, vpp, stage, micro_batches))
        for further, order in ((0.0, plain), (1.0, plain.replace("BF", "FB"))):
            held = np.cumsum([1 if one == "F" else -1 for one in order])
            assert (held.min(), held[-1]) == (0, 0)
            found = in_flight(pp, np.array([float(vpp)]), stage, np.array([float(micro_batches)]), further)
            assert float(np.ravel(found)[0]) == held.max() / vpp, (stage, order)


@pytest.mark.parametrize(
    ("layers", "pp", "vpp", "held"),
    [
        (8, 4, 1, [2, 2, 2, 2]),
        (10, 4, 1, [2, 3, 3, 2]),
        (7, 2, 1, [3, 4]),
        (9, 2, 2, [2 + 2, 3 + 2]),  # chunks of 2, 3, 2, 2, dealt round
        (10, 2, 2, [2 + 3, 3 + 2]),
        (14, 2, 4, [1 + 2 + 2 + 2, 2 + 2 + 2 + 1]),
        (2, 2, 2, [0 + 1, 1 + 0]),  # the words and the loss are chunks of their own
        (4, 1, 1, [4]),
    ],
)
def test_layers_are_dealt_to_stages(layers: int, pp: int, vpp: int, held: list[int]) -> None:
    found = stages(model(LLAMA, num_layers=layers), pp, vpp)
    by_stage = {member: sum(n for _, n in one.layers) for one in found for member in one.members}
    assert [by_stage[s] for s in range(pp)] == held
    for one in found:
        assert (one.first, one.count) == (one.members[0], len(one.members))
        assert (one.embedding, one.head) == (0 in one.members, pp - 1 in one.members)
        assert len(one.members) == 1 or not (one.embedding or one.head)
    too_many = layers + (1 if vpp == 1 else 3)  # two more where words and loss are chunks
    with pytest.raises(ValueError, match="chunks"):
        stages(model(LLAMA, num_layers=layers), too_many, vpp)


def test_a_bubble_is_the_other_stages_in_chunks_or_filled_with_weight_gradients() -> None:
    """Qi et al. 2023, table 2: (p - 1)(F + B - 2 W), B the whole backward pass, and no less than none."""
    names = [SCHEDULE.index(name) for name in ("1f1b", "interleaved", "zero-bubble", "zero-bubble")]
    found = bubble_s(np.array(names), np.array([1.0, 4.0, 1.0, 1.0]), np.full(4, 12.0), np.array([3.0, 3.0, 4.0, 7.0]))
    assert found.tolist() == [12.0, 3.0, 4.0, 0.0]


# --- passes of a block ------------------------------------------------------------------------------------------------


def passes(monkeypatch: pytest.MonkeyPatch, *rows: tuple[Row, float | None], graphs: str = "none", layer: bool = False) -> Any:
    """A block whose rows take these seconds; a kernel costs the host 1 s."""
    seconds = [None if s is None else np.array([s]) for _, s in rows]
    monkeypatch.setattr(blocks, "_seconds_of", lambda *_: seconds)
    there = setting(LLAMA, "megatron-core", Layout(), {"host_s_per_kernel": 1.0, "cuda_graphs": graphs})
    return blocks.block_cost([row for row, _ in rows], there, gpus(1), load_curves("a100"), layer=layer)


def row(phase: Any = "forward", **more: Any) -> Row:
    """A row of a block."""
    return Row(name="x", block="attention", phase=phase, **more)


def test_graphs_of_a_layer_launch_once_what_stands_before_the_count_of_tokens() -> None:
    """Forward: one launch for 7 kernels; then 2 kernels and 4 s more of host beside 1 s, and a shared expert in the graph.
    Backward: that one launch and 3 kernels. Nothing is captured outside of layers; a whole step's graph launches nothing."""
    rows = (
        (row(kernels=7.0), 0.5),
        (row("backward", kernels=9.0), 0.5),
        (row(host_s=4.0, host_waits=True), 0.0),
        (row(kernels=2.0), 1.0),
        (row("backward", kernels=3.0), 1.0),
        (Row(name="x", block="shared_expert", phase="forward", kernels=5.0), 0.0),
    )
    for graphs, layer, forward, backward in (
        ("layers", True, 1.0 + 6.0, 4.0),
        ("layers", False, 7.0 + 11.0, 12.0),
        ("none", True, 7.0 + 11.0, 12.0),
        ("full", True, 1.5, 1.5),
    ):
        with pytest.MonkeyPatch.context() as patch:
            found = passes(patch, *rows, graphs=graphs, layer=layer)
        assert (found.forward_s.item(), found.backward_s.item()) == (forward, backward), graphs


def test_a_pass_lasts_as_long_as_device_or_host() -> None:
    """Forward: 5 s of device beside 3 kernels and 4 s more of host. Backward: 2 s beside 6, of which 1 s awaits an exchange."""
    sends = {"collective": "all_reduce", "group": "tp"}
    with pytest.MonkeyPatch.context() as patch:
        rows = (
            (row(kernels=1.0), 5.0),
            (row(kernels=2.0, host_s=4.0), 0.0),
            (row("backward", kernels=5.0, role="weight gradient"), 1.5),
            (row("backward", kernels=1.0), 0.5),
            (row("backward", **sends), 1.0),
            (row("backward", collective="all_to_all", group="ep"), None),  # over one rank
            (row("recompute", kernels=2.0), 3.0),
            (row("recompute", collective="p2p", group="cp"), 0.25),
        )
        found = passes(patch, *rows)
        assert [float(x[0]) for x in (found.forward_s, found.backward_s, found.recompute_s)] == [7.0, 5.0, 3.0]
        assert [float(x[0]) for x in (found.tp_s, found.cp_s, found.ep_s, found.etp_s)] == [1.0, 0.25, 0.0, 0.0]
        assert (float(found.weight_gradient_s[0]), float(found.idle_s[0])) == (1.5, 6 - 1 - 2)
        assert (float(found.compute_s[0]), float(found.total_s[0])) == (15.0, 16.25)
        graph = passes(patch, *rows, graphs="full")  # one launch a step
        assert [float(x[0]) for x in (graph.forward_s, graph.backward_s, graph.recompute_s)] == [5.0, 2.0, 3.0]


def test_where_the_host_waits_nothing_before_hides_what_follows() -> None:
    """3 s of device, then 1 s beside 4 kernels; without waiting 4 s beside 5 kernels. A graph waits for nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for waits, graphs, lasts in ((True, "none", 3 + 4), (False, "none", 5), (True, "full", 4)):
            rows = ((row(kernels=1.0), 3.0), (row(kernels=4.0, host_waits=waits), 1.0))
            assert float(passes(patch, *rows, graphs=graphs).forward_s[0]) == lasts, (waits, graphs)


def test_amounts_of_a_block_are_the_sums_of_its_rows() -> None:
    """Temporaries beside what the rows up to theirs keep, less what all keep; flops of the mean rank, but never fewer than the
    model's; parameters and bytes by their group."""
    with pytest.MonkeyPatch.context() as patch:
        found = passes(
            patch,
            (row(saved_bytes=10.0, workspace_bytes=100.0, flops=6.0, model_flops=2.0, imbalance=2.0), 0.0),
            (row(saved_bytes=50.0, shard_group="dense", parameters=7.0, frozen_bytes=8.0, skipped_bytes=9.0), 0.0),
            (row(workspace_bytes=20.0, flops=1.0, model_flops=5.0, masked_flops=3.0), 0.0),
            (row(shard_group="expert", parameters=17.0, frozen_bytes=18.0, skipped_bytes=19.0), 0.0),
        )
        assert {name: float(getattr(found, name)[0]) for name in vars(found) if not name.endswith("_s")} == {
            "saved_bytes": 60.0, "workspace_bytes": 110.0 - 60.0, "flops": 7.0, "mean_flops": 3.0 + 5.0, "model_flops": 7.0,
            "masked_flops": 3.0, "dense_parameters": 7.0, "frozen_dense_bytes": 8.0, "skipped_dense_bytes": 9.0,
            "expert_parameters": 17.0, "frozen_expert_bytes": 18.0, "skipped_expert_bytes": 19.0, "dummy_bytes": 0.0,
        }  # fmt: skip


def test_transformer_engine_keeps_a_dummy_gradient_for_each_weight() -> None:
    """Two bytes an element of weights that train, of linear layers that are its own: not the router, nor grouped experts."""
    work = Matmul(m=8.0, n=3.0, k=5.0)
    kept = {"parameters": 15.0, "work": work}
    rows = [row(**kept), row("backward", **kept), row(work=work), replace(row(**kept), block="moe"), row(parameters=15.0)]
    rows += [replace(row(**kept), block=block) for block in ("feed_forward", "shared_expert")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_seconds_of", lambda rows, *_: [np.zeros(1) for _ in rows])
        for caches, kind, bytes_ in (
            (True, {}, 3 * 2 * 15.0),
            (False, {}, 0.0),
            (True, {"kind": "lora", "adapter": {"rank": 8}}, 0.0),
        ):
            there = setting(LLAMA, "megatron-core", Layout(), {"dummy_weight_gradients": caches}, **kind)
            assert float(blocks.block_cost(rows, there, gpus(1), load_curves("a100")).dummy_bytes[0]) == bytes_


@pytest.mark.parametrize(
    ("hides", "beside", "left"), [(0.0, 5.0, 8.0), (0.5, 5.0, 5.5), (1.0, 5.0, 3.0), (1.0, 20.0, 0.0), (1.0, None, 8.0)]
)
def test_what_a_product_beside_leaves_of_an_exchange(hides: float, beside: float | None, left: float) -> None:
    """Of 10 s a fifth hides anywhere; of the rest as much as the product beside lasts, so far as the stack launches it there."""
    stack = framework("megatron-core", overlap_tensor_parallel=0.2, overlap_tensor_parallel_gradients=hides)
    one = row(collective="all_reduce", group="tp")
    found = blocks._unhidden_s(one, np.array([10.0]), None if beside is None else np.array([beside]), stack)
    assert float(found[0]) == pytest.approx(left)


def test_each_group_hides_its_own_part() -> None:
    stack = framework("megatron-core", overlap_tensor_parallel=0.1, overlap_context=0.2, overlap_expert=0.3)
    assert [blocks.overlap(stack, group) for group in blocks.GROUPS] == [0.1, 0.2, 0.3, 0.3]
    there = setting(MIXTRAL, "megatron-core", Layout(tp=2, sequence_parallel=True, cp=4, ep=8, etp=2, dp=4))
    lie = {group: tuple(float(x[0]) for x in blocks.group_of(there, group)) for group in blocks.GROUPS}
    assert lie == {"tp": (2, 1), "cp": (4, 2), "ep": (8, 2), "etp": (2, 1)}  # tp - cp - dp - pp, of experts etp - ep


# --- moments of a step ------------------------------------------------------------------------------------------------


def moments(micro_batches: float = 1.0, layout: Layout | None = None, stack: dict[str, Any] | None = None, **held: float) -> Any:
    """Gradients, activations and workspace at the end of forward, of backward, and in the optimizer's step."""
    sizes = {
        "dense_parameters": 100.0, "expert_parameters": 300.0, "end_parameters": 0.0, "largest_layer_parameters": 100.0,
        "largest_layer_experts": 0.0, "activations_bytes": 1000.0, "head_activations_bytes": 80.0, "dummy_bytes": 0.0,
        "largest_layer_activations_bytes": 50.0, "layer_workspace_bytes": 30.0, "head_workspace_bytes": 20.0,
        "frozen_bytes": 0.0, "frozen_expert_bytes": 0.0, "end_frozen_bytes": 0.0, "largest_layer_frozen_bytes": 0.0,
        "skipped_bytes": 0.0, "skipped_expert_bytes": 0.0, **held,
    }  # fmt: skip
    content: Any = SimpleNamespace(**{name: np.array([value]) for name, value in sizes.items()})
    plain = {
        "persistent_gradients": False, "context_bytes": 7.0, "communicator_bytes": 0.0, "bucket_bytes": 0.0, "library_bytes": 0.0,
        "extra_parameter_bytes": 0.0, "fragmentation": 0.5, "least_fragmentation": 0.25, "fused_optimizer": "foreach",
        "length_fragmentation": 0.0, **(stack or {}),
    }  # fmt: skip
    there = framework("megatron-core", **plain)
    states = States(**{f.name: np.array([400.0 * (i + 1)]) for i, f in enumerate(fields(States))})
    asked = job()
    return stage_moments(
        content,
        as_columns(layout or Layout(dp=1), (layout and layout.dp) or 1),
        states,
        framework=there,
        precision=precisions(asked, there),
        job=asked,
        num_microbatches=np.array([micro_batches]),
        usable=1e6,
    )


def three(found: Any, name: str) -> list[float]:
    return [float(getattr(one, f"{name}_bytes")[0]) for one in found]


def test_a_step_holds_the_most_at_three_moments() -> None:
    """Forward's end: all activations and the loss's; its workspace, or a layer's beyond what the loss keeps. Backward's end: one
    layer's. The update: no activation, but 4 bytes of 2,000 elements for a denominator. Gradients of 800 come in backward, those
    of the first layer, a quarter of the parameters, last."""
    found = moments()
    assert three(found, "activations") == [1080.0, 50.0, 0.0]
    assert three(found, "workspace") == [20.0, 30.0, 4 * 2000.0]
    assert three(found, "gradients") == [0.0, 800 * 3 / 4, 800.0]
    assert three(found, "parameters") == [400.0] * 3
    assert three(found, "optimizer") == [1200.0] * 3
    assert three(found, "overhead") == [7.0] * 3
    assert three(found, "host") == [1600.0] * 3
    assert [float(one.phase[0]) for one in found] == [0.0, 1.0, 2.0]
    # the allocator cannot do without a quarter, and takes as much again where there is room
    for one in found:
        assert float(one.fragmentation_bytes[0]) == float(one.cache_bytes[0]) == 0.25 * float(one.held_bytes[0])
    assert three(moments(layer_workspace_bytes=300.0), "workspace")[:2] == [300.0 - 80.0, 300.0]


@pytest.mark.parametrize(
    ("head", "most"),
    [
        # beside the loss, the ends and the last layer are gathered, in 16 bit
        (1000.0, 1000 + 2 * (10 + 100)),
        # beside a layer's backward pass, the ends, it and the next one; its own gradient is whole; the loss's 80 bytes are free
        (20.0, 30 - 80 + 2 * (10 + 2 * 100) + 2 * 100),
    ],
)
def test_beside_the_loss_one_layer_is_gathered_and_none_has_a_gradient(head: float, most: float) -> None:
    """FSDP, ZeRO 3: the last layer of forward is freed or kept, the first of backward fetched while the root's runs
    (BackwardPrefetch.BACKWARD_PRE); two layers and a gradient are there once a layer's own backward pass runs."""
    shards, sizes = {"mixed_precision": "sharded_fp32"}, {"end_parameters": 10.0, "expert_parameters": 0.0}
    found = moments(layout=Layout(dp=2, zero=3), stack=shards, head_workspace_bytes=head, **sizes, dense_parameters=400.0)
    assert three(found, "workspace")[0] == most


@pytest.mark.parametrize(("micro_batches", "stack"), [(2.0, {}), (1.0, {"persistent_gradients": True})])
def test_gradients_that_stay_are_there_from_the_start(micro_batches: float, stack: dict[str, Any]) -> None:
    assert three(moments(micro_batches, stack=stack), "gradients") == [800.0] * 3


def test_activations_on_the_host_leave_two_layers_here() -> None:
    found = moments(layout=Layout(dp=1, offload_activations=True))
    assert three(found, "activations") == [2 * 50.0 + 80.0, 50.0, 0.0]
    assert three(found, "host") == [1600.0 + 1000.0] * 3
    assert three(moments(layout=Layout(dp=1, offload_activations=True), activations_bytes=70.0), "activations")[0] == 150.0
    assert three(moments(layout=Layout(dp=1, offload_optimizer=True)), "workspace")[2] == 0.0


@pytest.mark.parametrize(
    ("stack", "changes", "asked", "width"),
    [
        ("fsdp", {"fused_optimizer": "foreach"}, {}, 4),
        ("fsdp", {"fused_optimizer": "foreach"}, {"precision": "bf16-pure"}, 2),
        ("fsdp", {"fused_optimizer": "fused"}, {}, 0),
        ("fsdp", {"fused_optimizer": "foreach"}, {"optimizer": "sgd"}, 0),
        ("fsdp", {"fused_optimizer": "foreach"}, {"optimizer": "sgd-momentum"}, 0),
        ("fsdp", {"fused_optimizer": "foreach"}, {"optimizer": "adamw-8bit"}, 0),
        ("fsdp", {"fused_optimizer": "foreach"}, {"optimizer": "galore-adamw"}, 0),
        ("megatron-2022", {"fused_optimizer": "foreach"}, {"precision": "fp16"}, 4),  # of the master weights
        ("deepspeed-zero", {"step_gradients": True}, {"precision": "bf16"}, 4),  # 16-bit gradients, copied
    ],
)
def test_temporaries_of_an_update(stack: str, changes: dict[str, Any], asked: dict[str, Any], width: int) -> None:
    there, work = framework(stack, **changes), job(**asked)
    states = States(**{f.name: np.array([1e6, 3e9]) for f in fields(States)})
    found = optimizer_workspace(states, there, precisions(work, there), work)
    # DeepSpeed copies a thousand million elements at a time
    assert found.tolist() == [width * 1e6, width * (1e9 if stack == "deepspeed-zero" else 3e9)]


def test_an_allocator_keeps_no_more_than_there_is_room_for() -> None:
    there = framework("megatron-core", fragmentation=0.3, least_fragmentation=0.1)
    allocated = np.full(4, 100.0)
    assert cached_bytes(allocated, np.array([-5.0, 0.0, 12.0, 50.0]), there, None).tolist() == [
        0.0,
        0.0,
        12.0,
        pytest.approx(20.0),
    ]
    assert cached_bytes(allocated, np.full(4, 50.0), there, np.full(4, 7.0)).tolist() == pytest.approx([27.0] * 4)
    tight = framework("megatron-core", fragmentation=0.05, least_fragmentation=0.1)
    assert cached_bytes(allocated, np.full(4, 50.0), tight, None).tolist() == [0.0] * 4


def test_paged_states_leave_as_far_as_the_rest_needs() -> None:
    held = {f.name: np.zeros(1) for f in fields(StageMemory)}
    one = StageMemory(**{**held, "optimizer_bytes": np.array([60.0]), "activations_bytes": np.array([70.0])})
    for usable, away in ((200.0, 0.0), (100.0, 30.0), (10.0, 60.0)):
        left = page_out(one, usable)
        found = [float(getattr(left, f"{name}_bytes")[0]) for name in ("optimizer", "pageable", "host")]
        assert found == pytest.approx([60 - away, 60 - away, away], rel=1e-6)
        assert float(left.activations_bytes[0]) == 70.0


def test_fsdp_that_accumulates_holds_whole_gradients() -> None:
    """400 parameters in the width of their copies, and 50 bytes of frozen weights; offloaded ones are exchanged at once."""
    there = framework("fsdp", accumulates_unsharded=True)
    content: Any = SimpleNamespace(
        dense_parameters=np.array([100.0]), expert_parameters=np.array([300.0]), frozen_bytes=np.array([20.0]),
        frozen_expert_bytes=np.array([30.0]),
    )  # fmt: skip
    layouts = as_columns([Layout(zero=3), Layout(zero=2), Layout(zero=3, offload_optimizer=True)], 8)
    assert unsharded_gradients(content, layouts, there, precisions(job(), there)).tolist() == [2 * 400 + 50, 0.0, 0.0]
    plain = framework("fsdp", accumulates_unsharded=False)
    assert unsharded_gradients(content, layouts, plain, precisions(job(), plain)).tolist() == [0.0] * 3


# --- kernels ----------------------------------------------------------------------------------------------------------

CURVES = load_curves("a100").model_copy(
    update={"memory_fraction": 0.8, "memory_latency_s": 1e-6, "flash1_rate": 0.5, "flash2_rate": 0.75}
)


def device(card: Accelerator = ACCELERATOR, **changes: Any) -> Device:
    """The test chip: 2 TB/s, 300 TFLOP/s."""
    return Device(accelerator=card, curves=CURVES, **{"dtype": "bf16", "unquantized": "bf16", **changes})


def test_memory_bound_work_by_hand() -> None:
    """1 GB at 0.5 x 0.4 x 0.8 of 2 TB/s, three kernels of 1 us, 1 ms of idling; kernels without bytes are free; products in
    chunks take no less than their flops at the peak."""
    one = row(bytes_moved=1e9, kernels=3.0, idle_s=1e-3, rate=0.5)
    moved = 1e9 / (0.5 * 0.4 * 0.8 * 2e12)
    on = device(elementwise_rate=0.4)
    assert float(device_s(one, on)) == pytest.approx(moved + 3e-6 + 1e-3, rel=1e-12)
    assert float(device_s(replace(one, bytes_moved=0.0), on)) == 1e-3
    heavy = replace(one, flops=3e12, in_chunks=True)
    assert float(device_s(heavy, on)) == pytest.approx(3e12 / 300e12 + 3e-6 + 1e-3, rel=1e-12)
    assert float(device_s(replace(heavy, flops=3e10), on)) == pytest.approx(moved + 3e-6 + 1e-3, rel=1e-12)


def test_older_fused_attention_reaches_its_part_of_the_newest() -> None:
    work = FusedAttention(sequences=1.0, heads=8.0, queries=4096.0, keys=4096.0, qk_head_dim=128.0, value_head_dim=128.0)
    one = row(flops=1e12, work=work)
    first, second, third = (float(device_s(one, device(flash=flash))) - CURVES.attention_latency_s for flash in (1, 2, 3))
    assert (third / first, third / second) == (pytest.approx(0.5), pytest.approx(0.75))


@pytest.mark.parametrize(
    ("capability", "aligned", "dtype", "cublas", "tflops"),
    [
        ("8.0", 8.0, "bf16", 12, None),
        ("8.0", 64.0, "bf16", 12, None),
        ("8.0", 1.0, "bf16", 12, 5 * 128 * 156.25e9),  # 20 TFLOP/s of 64 lanes, two flops each: 156.25 G clocks a second
        ("8.0", 2.0, "bf16", 12, 2 * 5 * 128 * 156.25e9),
        ("8.0", 4.0, "bf16", 12, None),  # comes in faster than it is multiplied
        ("9.0", 1.0, "bf16", 12, 5 * 128 * 78.125e9),  # of 128 lanes
        ("8.0", 1.0, "tf32", 12, 5 * 128 * 156.25e9),
        ("8.0", 4.0, "tf32", 12, None),
        ("7.0", 4.0, "fp16", 10, 20e12),
        ("7.0", 8.0, "fp16", 10, None),
    ],
)
def test_narrow_rows_are_multiplied_no_faster_than_they_come_in(
    capability: str, aligned: float, dtype: str, cublas: int, tflops: float | None
) -> None:
    """A row of whole words begins at multiples of 16 bytes. Others come in element by element, or by 2 or 4; and cuBLAS 10 takes
    them to the CUDA cores."""
    peaks = {**ACCELERATOR.peak_flops_per_s, "fp16": 300e12, "tf32": 150e12, "fp32": 20e12}
    card = ACCELERATOR.model_copy(update={"compute_capability": capability, "peak_flops_per_s": peaks})
    free = CURVES.model_copy(update={"matmul_latency_s": 0.0})
    on = replace(device(card, dtype=dtype, unquantized=dtype, cublas=cublas), curves=free)
    whole, found = (
        float(device_s(row(flops=1e12, work=Matmul(m=4096.0, n=4096.0, k=4096.0, aligned=a)), on)) for a in (64.0, aligned)
    )
    rate = free.matmul_peak_fraction * free.sustained_fraction * peaks[dtype]
    assert whole / found == pytest.approx((rate if tflops is None else tflops) / rate, rel=1e-9)


def test_eight_bit_products_run_in_16_bit_where_there_are_none() -> None:
    """bitsandbytes on Volta and older."""
    work = Matmul(m=4096.0, n=4096.0, k=4096.0, dtype="int8")
    one, wide = row(flops=work.flops, work=work), row(flops=work.flops, work=replace(work, dtype=None))
    assert device_s(one, device()) == device_s(wide, device())
    able = ACCELERATOR.model_copy(update={"peak_flops_per_s": {**ACCELERATOR.peak_flops_per_s, "int8": 600e12}})
    assert device_s(one, device(able)) < device_s(wide, device(able))


@pytest.mark.parametrize(("fields_", "precision"), [(MIXTRAL, "fp8"), (LLAMA, "bf16")])
def test_rows_together_take_the_seconds_of_each_alone(fields_: dict[str, Any], precision: str) -> None:
    """Bit for bit, of few layouts as of many: the branch for many takes rows one by one."""
    for number in (1, 7, MOST_STACKED, MOST_STACKED + 1):
        many = as_columns([Layout(dp=1, micro_batch_size=1 + i, recompute="selective") for i in range(number)], 1.0)
        there, _ = distinct_axes(many, model(fields_), framework("megatron-core"), job(precision=precision))
        rows = [one for one in build_table(there).rows() if one.collective is None]
        on = device(dtype=there.precision.matmul, scaling=there.job.scaling)
        for one, together in zip(rows, devices_s(rows, (number,), on), strict=True):
            alone = np.broadcast_to(device_s(one, on), (number,))
            assert np.array_equal(np.broadcast_to(together, (number,)), alone), (number, one.name)


def test_a_measured_product_is_slowed_as_the_law_is_and_named_by_its_shape() -> None:
    """Seconds of a burst at training's clocks; the three products of a layer of 512 tokens, 4,096 to 2,048."""
    names = {"bf16 nt 512 x 2048 x 4096": 1.0, "bf16 nn 512 x 4096 x 2048": 2.0, "bf16 tn 4096 x 2048 x 512": 3.0}
    card = ACCELERATOR.model_copy(update={"measured_kernels": names})
    rows = linear("x", "b", Matmul(m=512.0, k=4096.0, n=2048.0), width=2.0)
    assert [float(measured_s(one, card, "bf16")) for one in rows] == [1.0, 2.0, 3.0]
    kernels = [product_of(one, "bf16") for one in rows]
    assert [k.name for k in kernels if k is not None] == list(names)
    slow = CURVES.model_copy(update={"sustained_fraction": 0.5, "matmul_latency_s": 0.0, "matmul_bandwidth_fraction": 1.3})
    computes = [replace(one, bytes_moved=1.0) for one in rows]
    for one, measured in zip(computes, (1.0, 2.0, 3.0), strict=True):
        assert float(device_s(one, replace(device(card), curves=slow))) == pytest.approx(2 * measured, rel=1e-3)
    batched = linear("x", "b", Matmul(m=512.0, k=4096.0, n=2048.0, batch=8.0), width=2.0)[0]
    grouped = linear("x", "b", Matmul(m=512.0, k=4096.0, n=2048.0, batch=8.0, grouped=True), width=2.0)
    assert product_of(batched, "bf16") is None
    assert np.isnan(measured_s(batched, card, "bf16"))
    told = product_of(grouped[0], "fp8")
    assert told is not None
    assert told.name == "fp8 grouped nt 8 x 512 x 2048 x 4096"
    assert product_of(grouped[1], "bf16") is None  # only forward were grouped ones measured
    for off in ({"flops": 0.0}, {"work": Matmul(m=0.5, k=4096.0, n=2048.0)}, {"work": None}):
        assert product_of(replace(rows[0], **off), "bf16") is None


def test_rows_whose_product_was_measured_are_named() -> None:
    """A down projection of 1,024 tokens, forward, and its weight's gradient as its transpose."""
    table = build_table(setting(LLAMA, "megatron-core", Layout(dp=1)))
    assert blocks.measured_rows(table, gpus(1)) == frozenset()
    kept = {"bf16 nt 1024 x 512 x 1536": 1e-3, "bf16 tn 512 x 1536 x 1024": 1e-3, "fp8 nt 1024 x 512 x 512": 1e-3}
    card = ACCELERATOR.model_copy(update={"measured_kernels": kept})
    found = blocks.measured_rows(table, gpus(1).model_copy(update={"accelerator": card}))
    rows = table.rows()
    assert [(rows[i].operator, rows[i].role) for i in sorted(found)] == [
        ("out projection", "product"),
        ("out projection", "weight gradient"),
    ]


# --- what is made of an evaluation ------------------------------------------------------------------------------------


def test_rates_of_an_evaluation_are_its_amounts_over_its_seconds() -> None:
    """16 sequences of 1,024 tokens on 8 GPUs of 300 TFLOP/s."""
    found: Evaluation = evaluate(
        Question(model(LLAMA), gpus(8), framework("megatron-core"), job()),
        as_columns([Layout(recompute="full"), Layout(tp=3)], 8),
    )
    step = float(found.step_time_s[0])
    assert float(found.tokens_per_s_per_gpu[0]) == pytest.approx(16 * 1024 / step / 8)
    whole = step * 8 * 300e12
    assert float(found.mfu[0]) == pytest.approx(float(found.model_flops[0]) / whole)
    assert float(found.hfu[0]) == pytest.approx(float(found.hardware_flops[0]) / whole)
    assert float(found.mfu_causal[0]) == pytest.approx(float(found.model_flops[0] - found.masked_flops[0]) / whole)
    # a layer's forward pass once more, but for the embedding's and the head's
    assert 1.2 < float(found.hfu[0] / found.mfu[0]) < 4 / 3
    assert float(found.headroom_bytes[0]) == found.usable_bytes - float(found.memory.total_bytes[0])
    frame = found.to_frame(usd_per_gpu_hour=3.0, num_steps=100.0)
    good, bad = frame.iloc[0], frame.iloc[1]
    assert good["cost_usd_per_step"] == pytest.approx(step / 3600 * 8 * 3.0)
    assert (good["run_s"], good["gpu_hours"]) == (pytest.approx(100 * step), pytest.approx(100 * step / 3600 * 8))
    assert good["cost_usd"] == pytest.approx(100 * good["cost_usd_per_step"])
    assert good["tokens_per_s"] == pytest.approx(16 * 1024 / step)
    assert (good["possible"], good["reason"], bad["possible"], bad["fits"]) == (True, "", False, False)
    assert bad["reason"] == "degrees do not multiply to the number of GPUs"
    assert not {"cost_usd", "run_s", "cost_usd_per_step"} & set(found.to_frame().columns)


def test_flops_of_a_step_are_of_every_block_as_often_as_it_occurs() -> None:
    """Vectors of 32 of each of four layers: words are projected to all of them at the entrance, and each layer goes down and up
    again; 2 flops a weight and token, and twice as many backward."""

    def flops(of: dict[str, Any], **work: Any) -> float:
        question = Question(model(of), gpus(8), framework("megatron-core"), job(**work))
        return float(evaluate(question, as_columns(Layout(tp=2, micro_batch_size=2), 8)).model_flops[0])

    tokens, weights = 16 * 1024, 512 * 4 * 32 + 4 * 2 * 512 * 32
    assert flops({**LLAMA, "per_layer_embedding_size": 32}) - flops(LLAMA) == pytest.approx(6 * tokens * weights, rel=1e-9)


def test_what_fits_fits_on_the_gpu_and_on_its_host() -> None:
    found = evaluate(Question(model(LLAMA), gpus(8), framework("megatron-core"), job()), as_columns(Layout(), 8))
    total = float(found.memory.total_bytes[0])
    for usable, host, room, fits in (
        (total, 0.0, 1.0, True), (total * 0.999, 0.0, 1.0, False), (total, 5.0, 5.0, True), (total, 5.0, 4.0, False),
        (total, 0.0, -1.0, True),
    ):  # fmt: skip
        memory = replace(found.memory, host_bytes=np.array([host]))
        assert replace(found, usable_bytes=usable, memory=memory, host_usable_bytes=room).fits.tolist() == [fits]
    assert replace(found, possible=np.array([False])).fits.tolist() == [False]


@pytest.mark.parametrize("optimizer", ["adamw", "paged-adamw-8bit"])
def test_a_block_of_a_search_has_the_figures_of_each_layout_alone(optimizer: str) -> None:
    """Two stages, the first of which holds more words: peak, states, what is firm, the host's share, seconds; bit for bit."""
    work, stack = job(optimizer=optimizer), framework("megatron-core")
    of = model(LLAMA, tied_embeddings=False, position_embedding="learned", max_positions=65536, num_layers=5)
    question = Question(of, cluster(NODE, num_gpus=8, accelerator=ACCELERATOR), stack, work)
    layouts = as_columns(
        [Layout(pp=2, micro_batch_size=m, zero=1, offload_optimizer=o) for m in (1, 2) for o in (False, True)], 8
    )
    grid = GridEvaluator(question)
    costs, (index,) = grid.block_costs([layouts])
    found, each = grid.summary(layouts, costs.take(index), 2, stages(of, 2, 1)), evaluate(question, layouts)
    assert found.peak_bytes.tolist() == each.memory.total_bytes.tolist()
    assert np.broadcast_to(found.firm_bytes, 4).tolist() == each.firm_bytes.tolist()
    assert found.states_bytes.tolist() == each.states_bytes.tolist()
    assert found.host_bytes.tolist() == each.memory.host_bytes.tolist()
    assert set(each.heaviest_stage.tolist()) == {0.0}
    assert grid.step_time_s(layouts, costs.take(index), 2, found.held).tolist() == each.step_time_s.tolist()
    some = found.at(np.array([False, True, False, True]))
    assert some.peak_bytes.tolist() == found.peak_bytes[[1, 3]].tolist()
    assert len(some.held) == len(found.held) == 2


def test_jobs_on_clusters_of_several_sizes_have_the_figures_of_each_alone() -> None:
    """One layout each; a sixth whose degrees do not divide its GPUs; bit for bit."""
    sizes, lengths, batches = (8, 16, 8, 32, 16, 8), (1024, 2048, 512, 1024, 1024, 1024), (16, 32, 8, 64, 48, 16)
    layouts = [Layout(tp=t, pp=p, zero=1, sequence_parallel=t > 1) for t, p in ((1, 1), (2, 1), (2, 2), (4, 2), (1, 4), (3, 1))]
    stack, of = framework("megatron-core"), model(LLAMA)
    jobs = [job(seq_len=s, global_batch_size=b) for s, b in zip(lengths, batches, strict=True)]
    columns = as_columns(layouts, np.array([float(n) for n in sizes]))
    found = evaluate_each(of, [gpus(n) for n in sizes], stack, jobs, columns)
    assert found.possible.tolist() == [True] * 5 + [False]
    for i in range(5):
        alone = evaluate(Question(of, gpus(sizes[i]), stack, jobs[i]), as_columns(layouts[i], sizes[i]))
        for name in ("step_time_s", "tokens_per_s_per_gpu", "mfu", "model_flops", "num_microbatches"):
            assert getattr(found, name)[i] == getattr(alone, name)[0], (i, name)
        assert found.memory.total_bytes[i] == alone.memory.total_bytes[0]


@pytest.mark.parametrize("layout", [Layout(zero=1), Layout(tp=2, pp=2, zero=1, recompute="full")])
def test_several_sets_of_constants_give_the_seconds_of_each(layout: Layout) -> None:
    """As a fit asks: three rates of products and of memory at once."""
    question = Question(model(LLAMA), gpus(8), framework("megatron-core", host_s_per_layer=0.0, host_s_per_kernel=0.0), job())
    sets = [{"matmul_peak_fraction": 0.5 + i / 10, "memory_fraction": 0.9 - i / 10} for i in range(3)]
    together = CURVES.model_copy(update={name: np.array([one[name] for one in sets]) for name in sets[0]})
    columns = as_columns(layout, 8)
    alone = [float(evaluate(question, columns, CURVES.model_copy(update=one)).step_time_s[0]) for one in sets]
    assert step_time_columns(question, columns, together, 3).tolist() == alone  # type: ignore[arg-type]
    assert len(set(alone)) == 3


def test_the_second_stage_may_be_the_heaviest_and_the_slowest() -> None:
    """A vocabulary of a million words: its logits lie on the last stage."""
    of = model(LLAMA, vocab_size=1_000_000, tied_embeddings=False)
    question = Question(of, gpus(8), framework("megatron-core", fused_cross_entropy=False), job())
    found = evaluate(question, as_columns(Layout(pp=2, zero=1), 8))
    assert found.heaviest_stage.tolist() == [1.0]
    first, last = stage_memory(question, as_columns(Layout(pp=2, zero=1), 8))
    assert float(found.memory.total_bytes[0]) == max(float(one.total_bytes[0]) for one in last.moments)
    assert float(found.states_bytes[0]) == float(last.moments[-1].states_bytes[0])
    assert last.time.microbatch_s > first.time.microbatch_s
    step = found.step
    assert float(step.forward_s[0]) == float(last.time.forward_s[0]) * float(found.num_microbatches[0])
    # until the last stage has its first micro-batch, it waits for the first one's forward and backward pass
    assert float(step.bubble_s[0]) == pytest.approx(float(first.time.microbatch_s[0]))
    assert float(step.optimizer_s[0]) == max(float(one.time.once_optimizer_s[0]) for one in (first, last))
    assert float(step.data_parallel_s[0]) == pytest.approx(max(float(one.time.once_data_parallel_s[0]) for one in (first, last)))


def test_a_step_is_its_slowest_stage_times_its_micro_batches_and_what_happens_once() -> None:
    """Each part another power of two, four times over; gathers beside what is exchanged once, the bubble, one update."""
    parts = {f.name: 2.0**i for i, f in enumerate(fields(StageTime))}
    slowest = StageTime(**{name: np.array([s]) for name, s in parts.items()})
    found = combine(slowest, np.array([0.5]), np.array([0.25]), np.array([4.0]), np.array([0.125]))
    seconds = {f.name: float(getattr(found, f.name)[0]) for f in fields(StepTime)}
    assert seconds == {name: 4 * parts[name] for name in seconds if name in parts} | {
        "data_parallel_s": 4 * parts["gather_s"] + 0.5, "bubble_s": 0.125, "optimizer_s": 0.25, "once_s": 0.875,
    }  # fmt: skip
    assert float(found.total_s[0]) == sum(seconds.values()) - seconds["once_s"]
    # the other stage where it is chosen
    other = StageTime(**{name: np.array([-s]) for name, s in parts.items()})
    assert float(slowest.where(np.array([True]), other).forward_s[0]) == 1.0
    assert float(slowest.where(np.array([False]), other).forward_s[0]) == -1.0


# --- risk, sends and updates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("states", [None, 0.0, 30.0, 60.0])
def test_a_need_fits_with_the_probability_of_its_error(states: float | None) -> None:
    """Student's t of the logarithm through a 90 % interval of 0.8 to 1.5 times; wider where less is model states."""
    error = replace(
        interval_of(1.0, standing("memory", Subject.of(Question(model(LLAMA), gpus(8), framework("fsdp"), job()), Layout()))),
        lower=0.8,
        upper=1.5,
    )
    rule = FitRule(usable_bytes=100.0, error=error, risk=0.1)
    middle, half = (np.log(0.8) + np.log(1.5)) / 2, (np.log(1.5) - np.log(0.8)) / 2
    wide = 1.0 if states is None else float(lever(1 - states / 60))
    scale = half / student.ppf(0.95, DEGREES)
    assert float(rule.probability(60.0, states)) == pytest.approx(
        student.cdf((np.log(100 / 60) / wide - middle) / scale, DEGREES), rel=1e-3
    )
    most = float(rule.most_bytes(0.5))
    assert most == pytest.approx(100 / np.exp(middle + scale * student.ppf(0.9, DEGREES)), rel=1e-3)
    assert float(rule.probability(most)) == pytest.approx(0.9, abs=1e-3)
    assert rule.holds(np.array([0.999, 1.001]) * most).tolist() == [True, False]
    assert float(replace(rule, headroom=0.5).most_bytes(0.5)) == 50.0


@pytest.mark.parametrize("risk", [0.0, 0.51, True, "none", -0.1])
def test_risks_that_are_none_are_refused(risk: Any) -> None:
    with pytest.raises(PlannerError, match="risk = "):
        check_risk(risk)
    assert [check_risk(one) for one in (0.5, 1e-9)] == [0.5, 1e-9]


@pytest.mark.parametrize(("schedule", "vpp", "entries"), [("1f1b", 1, 2), ("zero-bubble", 1, 3), ("interleaved", 2, 4)])
def test_a_stage_sends_its_share_of_each_chunk_both_ways(schedule: str, vpp: int, entries: int) -> None:
    """2 sequences of 1,024 tokens over cp 2 and tp 2, 1,000 bytes each, one neighbour in another node; the host enters a chunk in
    each pass, and once more for weight gradients. Of an interleaved schedule's sends a quarter hides."""
    stack = framework("megatron-core", overlap_pipeline=0.25, host_s_per_chunk=1.0)
    columns = as_columns(Layout(tp=2, cp=2, pp=2, vpp=vpp, micro_batch_size=2, schedule=schedule), 16)  # type: ignore[arg-type]
    once = law(1e-5, 1000 * 2 * 1024 / 4 / FAR)
    left = 0.75 if vpp > 1 else 1.0
    found = float(pipeline_s(gpus(16), stack, columns, 1000.0, 1024)[0])
    assert found == pytest.approx(left * (2 * vpp * once + 2 * vpp) + (entries - 2 * vpp), rel=1e-9)
    assert float(pipeline_s(gpus(16), stack, as_columns(Layout(), 16), 1000.0, 1024)[0]) == 0.0


@pytest.mark.parametrize(
    ("gigabytes", "exposed"), [(1.0, 0.0), (2.0, 3 * 0.02), (3.0, 3 * (0.06 + 0.03)), (4.0, 3 * (0.1 + 0.07))]
)
def test_copies_to_the_host_hide_behind_their_own_pass(gigabytes: float, exposed: float) -> None:
    """Three layers at 25 GB/s: 60 ms hide going away, beside the forward pass, and 90 ms coming back, beside backward and what is
    done again. A layout that moves nothing waits for nothing."""
    layer = {"saved_bytes": gigabytes * 1e9, "forward_s": 0.06, "backward_s": 0.07, "recompute_s": 0.02}
    block: Any = SimpleNamespace(**{name: np.array([value]) for name, value in layer.items()})
    layouts = as_columns([Layout(offload_activations=True), Layout()], 8)
    assert offload_s(gpus(8), layouts, [(3.0, block)]).tolist() == pytest.approx([exposed, 0.0])
    assert offload_s(gpus(8), as_columns(Layout(), 8), [(3.0, block)]).tolist() == [0.0]


@pytest.mark.parametrize(
    ("stack", "changes", "asked", "gathered", "reduced"),
    [
        # FSDP gathers 16-bit copies of fp32 shards and reduces in fp32, or in 16 bit where asked; without copies what it keeps
        ("fsdp", {}, {}, 2, 4),
        ("fsdp", {}, {"gradient_dtype": "same"}, 2, 2),
        ("fsdp", {}, {"precision": "fp32", "gradient_dtype": "same"}, 4, 4),
        ("megatron-core", {}, {}, 2, 4),
        ("megatron-core", {}, {"gradient_dtype": "same"}, 2, 2),
        ("megatron-core", {"fp8_parameters": True}, {"precision": "fp8"}, 1, 4),
        (
            "megatron-core",
            {"fp8_parameters": True},
            {"precision": "fp8", "kind": "lora", "adapter": {"rank": 8, "dtype": "same"}},
            2,
            4,
        ),
        ("megatron-core", {}, {"precision": "fp8"}, 2, 4),
    ],
)
def test_bytes_that_ranks_exchange_of_a_parameter(
    stack: str, changes: dict[str, Any], asked: dict[str, Any], gathered: int, reduced: int
) -> None:
    zero = 3 if stack == "fsdp" else 1
    question = Question(model(LLAMA), gpus(8), framework(stack, **changes), job(**asked)).tuned()
    context, layouts = Context.of(question, CURVES), as_columns(Layout(zero=zero), 8)  # type: ignore[arg-type]
    costs, (index,) = GridEvaluator(question).block_costs([layouts])
    found = exchange(context, layouts, costs.take(index)).sync
    assert (found.gather_width, found.reduce_width) == (gathered, reduced)
    assert found.kept_width == context.precision.parameter
    assert found.gathers_16 is (stack == "fsdp")


@pytest.mark.parametrize(("batch", "later"), [(8, 0.0), (16, 1 / 2), (32, 3 / 4)])
def test_gradients_on_the_host_are_added_there_but_for_the_first(batch: int, later: float) -> None:
    """8 ranks of one sequence each, 4 bytes a gradient. The first goes over the link; a later one is staged, read and written at
    an eighth of 80 GB/s, slower than the link, and added: the sum, the new one and the written one. DeepSpeed adds on the GPU."""
    for stack, adds in (("fsdp", True), ("deepspeed-zero", False)):
        there = framework(stack, host_optimizer_bytes_per_s=80e9, host_process_bytes_per_s=1e12)
        question = Question(model(LLAMA), gpus(8), there, job(global_batch_size=batch))
        context, layouts = Context.of(question, CURVES), as_columns(Layout(zero=3, offload_optimizer=True), 8)
        costs, (index,) = GridEvaluator(question).block_costs([layouts])
        sync, width = exchange(context, layouts, costs.take(index)).sync, context.precision.gradient
        assert float(sync.returned_s[0]) == pytest.approx((1 - later * adds) * width / host_link_rate(gpus(8)))
        assert float(sync.added_s[0]) == pytest.approx((2 + 3) * 4 * later / 10e9 * adds)
        assert sync.away.tolist() == [1.0 if adds else 0.0]


def test_a_gradient_is_staged_no_faster_than_the_link_brings_it() -> None:
    """Half of a step's two micro-batches are later ones."""
    there = framework("fsdp", host_optimizer_bytes_per_s=1e15, host_process_bytes_per_s=1e15)
    question = Question(model(LLAMA), gpus(8), there, job(global_batch_size=16))
    context, layouts = Context.of(question, CURVES), as_columns(Layout(zero=3, offload_optimizer=True), 8)
    costs, (index,) = GridEvaluator(question).block_costs([layouts])
    sync = exchange(context, layouts, costs.take(index)).sync
    assert float(sync.added_s[0]) == pytest.approx(float(sync.returned_s[0]), rel=1e-3)


@pytest.mark.parametrize("fp8", [False, True])
def test_an_update_sweeps_memory_or_the_host_and_the_link_to_it(fp8: bool) -> None:
    """Thousand million elements. On the GPU 0.8 of 2 TB/s, 20 kernels of 1 us and 1 ms of the host's own; paged states come in
    and go. On the host its eighth of 80 GB/s, and gradients of 4 bytes to it, weights of 2 back, at 25 GB/s."""
    elements = np.array([1e9])
    stack = framework(
        "megatron-core",
        fused_optimizer="fused",
        host_s_per_step=1e-3,
        host_optimizer_bytes_per_s=80e9,
        host_process_bytes_per_s=1e12,
    )
    context = Context.of(Question(model(LLAMA), gpus(8), stack, job(precision="fp8" if fp8 else "bf16")), CURVES)
    swept = 1e9 * (4 + 4 + 2 * 4 + 2 * 8 + 2)  # a norm's gradient, gradient, masters and moments in and out, the copy
    here, away = (as_columns(Layout(offload_optimizer=o), 8) for o in (False, True))
    assert float(update_s(context, here, elements)[0]) == pytest.approx(swept / (0.8 * 2e12) + 20e-6 + 1e-3)
    assert float(update_s(context, away, elements)[0]) == pytest.approx(swept / 10e9 + 1e9 * (4 + 2) / 25e9 + 1e-3)
    paged = Context.of(Question(model(LLAMA), gpus(8), stack, job(optimizer="paged-adamw")), CURVES)
    plain = Context.of(Question(model(LLAMA), gpus(8), stack, job(optimizer="adamw")), CURVES)
    more = float(update_s(paged, here, elements, np.array([5e9]))[0] - update_s(plain, here, elements)[0])
    assert more == pytest.approx(2 * 5e9 / 25e9)


def test_chunks_of_a_loss_sum_gradients_apart_unless_whole_ones_are_counted() -> None:
    """FSDP2 holds the sum whole until the last chunk, then scatters it; unsharded, it is the gradient that stays."""

    def apart(layout: Layout, num_gpus: int, always: float) -> float:
        return float(summed_apart(np.array([5.0]), as_columns(layout, num_gpus), np.array([always]))[0])

    for always in (0.0, 1.0):
        assert apart(Layout(zero=3, dp=8), 8, always) == 5.0
        assert apart(Layout(zero=3, dp=4, pp=2), 8, always) == 0.0
        assert apart(Layout(dp=8), 8, always) == 5.0 * (1.0 - always)
        assert apart(Layout(zero=3, dp=1), 1, always) == 5.0 * (1.0 - always)
