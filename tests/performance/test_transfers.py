"""What a stage sends to its neighbours and to the host, against bytes over rates and Narayanan et al. 2021."""

from __future__ import annotations

from typing import Any

import pytest

import planner
from planner.common.errors import PlannerError
from planner.hardware.cluster import Cluster, cluster, host_copy_rate
from planner.performance.evaluation import Evaluation, evaluate
from planner.workload.layout import Layout, as_columns
from planner.workload.question import Question
from tests.examples import ACCELERATOR, LLAMA, NODE, framework, job, model

WIDE: dict[str, Any] = {**LLAMA, "num_layers": 8, "hidden_size": 4096, "num_heads": 32, "ffn_hidden_size": 12288}
STACK = framework("megatron-core")


def machine(count: int = 1, link: float = 25e9, sharing: int = 1) -> Cluster:
    node = NODE.replaced(host_link_bytes_per_s=link, gpus_per_host_link=sharing)
    return cluster(node, num_gpus=count, accelerator=ACCELERATOR)


def run(on: Cluster, layout: Layout, stack: Any = STACK, **changes: Any) -> Evaluation:
    columns = as_columns(layout, on.num_gpus)
    return evaluate(Question(model(WIDE), on, stack, job(**changes)), columns)


def kept_bytes(on: Cluster, **changes: Any) -> float:
    """Activations of one micro-batch without the head's, from memory that nothing is offloaded from."""
    return float(run(on, Layout(offload_activations=True), **changes).memory.host_bytes[0])


def test_a_slow_host_link_carries_every_byte_both_ways() -> None:
    # far slower than computation: each direction takes bytes / rate, less what its own pass hides
    changes = {"global_batch_size": 4}
    slow = machine(link=1e8)
    answer = run(slow, Layout(offload_activations=True), **changes)
    bytes_ = 4 * kept_bytes(slow, **changes)
    hidden = float(answer.step.forward_s[0] + answer.step.backward_s[0])
    both_ways = 2 * bytes_ / 1e8
    assert answer.step.offload_s[0] < both_ways
    assert answer.step.offload_s[0] == pytest.approx(both_ways, abs=hidden)
    assert answer.step.offload_s[0] + hidden >= both_ways * (1 - 1e-9)


def test_the_step_is_never_shorter_than_its_copies_in_either_direction() -> None:
    changes = {"global_batch_size": 4}
    for link in (1e9, 5e9, 25e9, 1e12):
        on = machine(link=link)
        answer = run(on, Layout(offload_activations=True), **changes)
        one_way = 4 * kept_bytes(on, **changes) / link
        assert answer.step.forward_s[0] + answer.step.backward_s[0] + answer.step.offload_s[0] >= 2 * one_way * (1 - 1e-9)
    assert answer.step.offload_s[0] == 0  # the fastest link hides behind computation


def test_the_backward_pass_does_not_hide_what_the_forward_pass_must_send() -> None:
    # a link whose one-way copy is longer than forward but shorter than backward: the excess over forward is exposed
    changes = {"global_batch_size": 4}
    free = run(machine(), Layout(), **changes)
    link = 4 * kept_bytes(machine(), **changes) / float(0.5 * (free.step.forward_s[0] + free.step.backward_s[0]))
    assert run(machine(link=link), Layout(offload_activations=True), **changes).step.offload_s[0] > 0


def test_gpus_that_share_a_host_link_copy_half_as_fast() -> None:
    changes = {"global_batch_size": 32}
    alone = run(machine(8, link=2e9), Layout(dp=8, offload_activations=True), **changes)
    shared = run(machine(8, link=4e9, sharing=2), Layout(dp=8, offload_activations=True), **changes)
    assert shared.step.offload_s[0] == alone.step.offload_s[0] > 0
    own = run(machine(1, link=4e9, sharing=2), Layout(offload_activations=True), **changes)  # no neighbour in use
    assert own.step.offload_s[0] < shared.step.offload_s[0] * 8


def test_sends_and_host_work_grow_with_the_chunks() -> None:
    stack = framework("megatron-2022")  # nothing of it overlaps
    sends = {
        vpp: run(machine(4), Layout(pp=4, vpp=vpp), stack, global_batch_size=16, precision="fp16").step.pipeline_s[0]
        for vpp in (1, 2)
    }
    assert sends[2] == pytest.approx(2 * sends[1])
    without = stack.replaced(host_s_per_chunk=0.0)
    less = run(machine(4), Layout(pp=4, vpp=2), without, global_batch_size=16, precision="fp16").step.pipeline_s[0]
    assert sends[2] - less == pytest.approx(16 * 2 * 2 * stack.host_s_per_chunk)  # micro-batches, chunks, passes


def test_zero_bubble_enters_each_chunk_once_more() -> None:
    stack = framework("megatron-zero-bubble")
    plain, filled = (
        run(machine(4), Layout(pp=4, schedule=s), stack, global_batch_size=16).step.pipeline_s[0] for s in ("1f1b", "zero-bubble")
    )
    assert filled - plain == pytest.approx(16 * stack.host_s_per_chunk)


def test_megatron_ships_no_zero_bubble_schedule() -> None:
    # megatron/core/pipeline_parallel/schedules.py: 1F1B and interleaved only; the launch files refuse it too
    with pytest.raises(planner.PlannerError, match="zero_bubble"):
        planner.plan(
            model="llama-2-7b",
            cluster={"node": "dgx-h100"},
            job={"seq_len": 4096, "global_batch_size": 64},
            layout={"pp": 4, "schedule": "zero-bubble"},
        )


def gain(batch: int) -> float:
    """Throughput of the interleaved over that of the plain schedule: Narayanan et al. 2021, section 5.3.2."""
    times = [
        planner.plan(
            model="gpt3-175b",
            cluster={"node": "dgx-a100-80gb", "num_nodes": 12},
            framework="megatron-2022",
            job={"seq_len": 2048, "global_batch_size": batch, "precision": "fp16"},
            layout={"tp": 8, "pp": 12, "vpp": vpp, "recompute": "full"},
            explain=False,
        ).step_time_s
        for vpp in (1, 2)
    ]
    return times[0] / times[1]


def test_interleaving_pays_at_small_batches_and_ever_less_at_large_ones() -> None:
    # figure 12: GPT 175B on 96 A100; "the gap closes as the batch size increases", since sends grow with it
    gains = [gain(batch) for batch in (12, 24, 36, 48, 60)]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 1.1
    assert gains[-1] < gains[0] - 0.1


def test_parameters_on_the_host_come_in_for_each_gather() -> None:
    """ZeRO-3 with offload_param: the shards leave the GPU for the host; each of 4 micro-batches brings them in twice."""
    stack, changes = framework("deepspeed-zero"), {"global_batch_size": 8}
    on = machine(count=2, link=1e8)
    here, away = (run(on, Layout(zero=3, offload_parameters=flag), stack, **changes) for flag in (False, True))
    shard = float(here.memory.parameters_bytes[0])
    assert away.memory.parameters_bytes[0] == 0
    assert away.memory.host_bytes[0] - here.memory.host_bytes[0] == pytest.approx(shard)
    hidden = float(here.step.forward_s[0] + here.step.backward_s[0])
    # in twice, and once back as gradients of as many bytes
    assert away.step_time_s[0] - here.step_time_s[0] == pytest.approx(4 * 3 * shard / 1e8, abs=hidden)


def test_fsdp_updates_on_the_host_what_lives_there() -> None:
    """CPUOffload moves parameters, gradients and optimizer states (torch.distributed.fsdp.CPUOffload)."""
    stack, on = framework("fsdp"), machine(count=2)
    answer = run(on, Layout(zero=3, offload_optimizer=True), stack)
    assert answer.memory.parameters_bytes[0] == answer.memory.gradients_bytes[0] == answer.memory.optimizer_bytes[0] == 0
    both = run(on, Layout(zero=3, offload_optimizer=True, offload_parameters=True), stack)
    assert both.step_time_s[0] == answer.step_time_s[0]


@pytest.mark.parametrize("zero", [2, 3])
def test_fsdp_on_the_host_by_hand(zero: int) -> None:
    """Parameters, gradients and two moments in fp32 lie on the host, 16 bytes a parameter over the ranks, at both stages."""
    answer = run(machine(count=2), Layout(zero=zero, offload_optimizer=True), framework("fsdp"))
    assert answer.memory.parameters_bytes[0] == answer.memory.gradients_bytes[0] == answer.memory.optimizer_bytes[0] == 0
    layer = 2 * 4096 * 4096 + 2 * 4096 * 512 + 3 * 4096 * 12288 + 2 * 4096  # q and output, k and v, feed-forward, norms
    assert answer.memory.host_bytes[0] == pytest.approx(16 * (8 * layer + 2 * 1024 * 4096 + 4096) / 2)


@pytest.mark.parametrize("stack", ["fsdp", "torchtune", "megatron-core"])
def test_torchs_adam_on_the_host_has_the_core_of_its_process(stack: str) -> None:
    """torch.optim under torchrun: twice the core's rate halves what the update takes; the node's rate is far above both."""
    rates = (1e8, 2e8, 4e8)
    zero = 3 if stack == "fsdp" else 1
    layout = Layout(zero=zero, offload_optimizer=True)
    slow, fast, faster = (
        float(run(machine(count=2), layout, framework(stack, host_process_bytes_per_s=rate)).step_time_s[0]) for rate in rates
    )
    assert slow - fast == pytest.approx(2 * (fast - faster), rel=1e-6)
    assert framework(stack).host_process_bytes_per_s == framework("fsdp").host_process_bytes_per_s < 1e10


def test_fsdp_adds_the_gradients_of_later_micro_batches_on_the_core_of_its_process() -> None:
    """torchrun gives each process one core: of m micro-batches, m - 1 bring a gradient that is read and written there,
    then read two and write their sum, in fp32."""
    layout = Layout(zero=3, offload_optimizer=True, offload_parameters=True)

    def seconds(rate: float, batch: int) -> tuple[float, float]:
        answer = run(machine(count=2), layout, framework("fsdp", host_process_bytes_per_s=rate), global_batch_size=batch)
        return float(answer.step_time_s[0]), float(answer.memory.host_bytes[0])

    slow, fast = (seconds(rate, 8)[0] - seconds(rate, 2)[0] for rate in (1e8, 1e12))
    shard = seconds(1e8, 2)[1] / 4.0  # fp32 weight, gradient and two moments
    assert slow - fast == pytest.approx(3 * (2 + 3) * shard / 1e8, rel=0.05)


@pytest.mark.parametrize(
    ("stack", "layout", "why"),
    [
        ("deepspeed-zero", {"zero": 2, "offload_parameters": True}, "only shards of zero = 3"),
        ("fsdp", {"zero": 3, "offload_parameters": True}, "set offload_optimizer = true"),
        ("litgpt", {"zero": 3, "offload_parameters": True}, "does not offer offload_parameters"),
        ("megatron-core", {"pp": 2, "offload_activations": True}, "no framework here moves them beside a pipeline"),
        ("fsdp", {"zero": 3, "pp": 2, "offload_activations": True}, "no framework here moves them beside a pipeline"),
        ("megatron-core", {"offload_activations": True, "recompute": "full"}, "recomputes nothing beside"),
        ("torchtune", {"zero": 3, "offload_activations": True}, "moves only what recomputation keeps"),
        ("huggingface", {"offload_activations": True, "recompute": "full"}, "does not offer offload_activations"),
    ],
)
def test_parameters_and_activations_stay_where_the_stack_cannot_move_them(stack: str, layout: dict[str, Any], why: str) -> None:
    with pytest.raises(PlannerError, match=why):
        planner.plan(model=model(WIDE), cluster=machine(count=2), framework=stack, job=job(), layout=layout, explain=False)


def test_copies_reach_the_measured_part_of_a_data_sheets_lanes() -> None:
    """25 of 32 GB/s on an A100 and 12 of 16 on a V100 (ZaidQureshi/bam#54), 328 MB in 13.3 ms on a 4090 (efeslab/fiddler#7)."""
    measured = {"dgx-a100-80gb": 25e9, "dgx-1v-32gb": 12e9, "workstation-1x-rtx-4090-24gb": 0.328e9 / 13.3e-3}
    for name, rate in measured.items():
        alone = cluster(name, num_gpus=1)
        assert host_copy_rate(alone.node, alone.accelerator) == pytest.approx(rate, rel=0.05)
    own = NODE.replaced(host_link_bytes_per_s=25e9)
    assert host_copy_rate(own, ACCELERATOR) == 25e9
