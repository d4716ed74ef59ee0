"""Laws that hold for every model on every layout."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from each import for_each
from examples import ACCELERATOR, GPT, LLAMA, MIXTRAL, framework, gpus, job, model, setting
from hypothesis import given, settings
from hypothesis import strategies as st

import planner
from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster as build_cluster
from planner.hardware.cluster import load_node
from planner.hardware.custom_nodes import custom_node
from planner.layout_search.space import LayoutGrid
from planner.model.catalog import load_model, model_names
from planner.model.parameters import embedding_parameters, head_parameters, layer_parameters, parameters_active, parameters_total
from planner.operators.row import Matmul, Row
from planner.operators.setting import distinct_axes
from planner.operators.table import build_table
from planner.performance.collectives import collective_s
from planner.performance.evaluation import Evaluation, evaluate
from planner.performance.feasibility import rules
from planner.performance.memory import KINDS
from planner.performance.pipeline import stages
from planner.performance.step_time import PARTS
from planner.workload.framework import Framework, framework_names
from planner.workload.job import Precision
from planner.workload.layout import Layout, Layouts, as_columns
from planner.workload.question import Question

DEVICE_BOUND = framework("megatron-core", cuda_graphs="full")
"""No kernel waits for the host: small models show what their device does."""


def run(
    fields_: dict[str, Any],
    layout: Layout | list[Layout],
    stack: str | Framework = "megatron-core",
    count: int = 8,
    **job_fields: Any,
) -> Evaluation:
    cluster = gpus(count)
    frame = framework(stack) if isinstance(stack, str) else stack
    return evaluate(Question(model(fields_), cluster, frame, job(**job_fields)), as_columns(layout, count))


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields_", [GPT, LLAMA, MIXTRAL, {**MIXTRAL, "num_shared_experts": 1, "num_dense_layers": 1}])
def test_rows_hold_exactly_the_models_parameters(fields_: dict[str, Any]) -> None:
    table = build_table(setting(fields_, "megatron-core", Layout(dp=1)))
    held = sum(float(np.ravel(row.parameters)[0]) * row.repeats for row in table.rows())
    assert held == parameters_total(model(fields_))


@pytest.mark.parametrize("stack", ["megatron-core", "huggingface"])
@for_each("name", model_names())
def test_rows_hold_every_catalog_models_parameters(name: str, stack: str) -> None:
    whole = load_model(name)
    found, _ = distinct_axes(as_columns(Layout(dp=1), 1), whole, framework(stack), job(seq_len=512))
    width = found.precision.parameter  # of weights that text alone does not read, and that nothing trains there
    rows = build_table(found).rows()
    held = sum((float(np.ravel(r.parameters)[0]) + float(np.ravel(r.skipped_bytes)[0]) / width) * r.repeats for r in rows)
    assert held == parameters_total(whole)


@pytest.mark.parametrize(
    "layout",
    [Layout(tp=2, sequence_parallel=True), Layout(pp=4), Layout(ep=8), Layout(tp=4, sequence_parallel=True, ep=4, etp=2)],
)
def test_parameters_do_not_depend_on_layout(layout: Layout) -> None:
    whole = model(MIXTRAL)
    table = build_table(setting(MIXTRAL, "megatron-core", layout.replaced(dp=8 // (layout.tp * layout.pp))))
    held = {
        group: sum(float(np.ravel(r.parameters)[0]) * r.repeats for r in table.rows() if r.shard_group == group)
        for group in ("dense", "expert")
    }
    tensors = [t for kind in whole.layer_kinds for t in layer_parameters(whole, kind)]
    copied = sum(t.elements for t in (*tensors, *embedding_parameters(whole), *head_parameters(whole)) if t.shard == "replicated")
    together = held["dense"] * layout.tp - copied * (layout.tp - 1) + held["expert"] * layout.ep * layout.etp
    assert copied > 0
    assert together == parameters_total(whole)


def test_one_expert_moe_equals_dense_feed_forward() -> None:
    moe = model(LLAMA, num_experts=1, top_k=1, expert_ffn_hidden_size=1536)
    router = 512 * 1 * 4
    assert parameters_total(moe) - router == parameters_total(model(LLAMA))
    assert parameters_active(moe) == parameters_total(moe)
    dense_rows = build_table(setting(LLAMA, "megatron-core", Layout(dp=1))).rows()
    moe_fields = {**LLAMA, "num_experts": 1, "top_k": 1, "expert_ffn_hidden_size": 1536}
    moe_rows = build_table(setting(moe_fields, "megatron-core", Layout(dp=1))).rows()

    def flops(rows: tuple[Row, ...]) -> float:
        wanted = [r for r in rows if r.block in ("feed_forward", "moe") and "projection" in r.name]
        return sum(float(np.ravel(r.flops)[0]) * r.repeats for r in wanted)

    assert flops(moe_rows) == flops(dense_rows)


# --- flops ------------------------------------------------------------------------------------------------------------


def test_model_flops_are_six_per_weight_and_token_plus_attention() -> None:
    # PaLM, appendix B: 6 N + 12 L H Q T flops per token, N the weights of matrix multiplies
    answer = run(LLAMA, Layout(), count=8)
    m, tokens = model(LLAMA), 16 * 1024
    norms_and_words = 4 * 2 * 512 + 512 + 1024 * 512
    expected = 6 * (parameters_total(m) - norms_and_words) * tokens + 12 * 4 * 512 * 1024 * tokens
    assert answer.model_flops[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kernel", ["flash", "standard"])
def test_the_causal_convention_counts_the_pairs_that_the_mask_leaves(kernel: str) -> None:
    """Megatron-LM and FlashAttention halve causal attention; exactly, s (s + 1) / 2 of s^2 pairs are left."""
    stack = framework("megatron-core").model_copy(update={"attention_kernel": kernel})
    answer = run(LLAMA, Layout(), stack, count=8)
    s, tokens = 1024, 16 * 1024
    in_full = 12 * 4 * 512 * s * tokens
    assert answer.masked_flops[0] == pytest.approx(in_full * (1 - (s + 1) / (2 * s)), rel=1e-12)
    assert answer.mfu_causal[0] / answer.mfu[0] == pytest.approx(1 - answer.masked_flops[0] / answer.model_flops[0], rel=1e-12)


def test_recompute_leaves_model_flops_unchanged_and_adds_executed_ones() -> None:
    answer = run(LLAMA, [Layout(recompute=r) for r in ("none", "selective", "full")])  # type: ignore[arg-type]
    assert answer.model_flops[0] == answer.model_flops[1] == answer.model_flops[2]
    assert answer.hardware_flops[0] < answer.hardware_flops[1] < answer.hardware_flops[2]


@pytest.mark.parametrize(
    "layout", [Layout(tp=4), Layout(tp=2, sequence_parallel=True), Layout(pp=2), Layout(cp=2), Layout(tp=2, pp=2, cp=2)]
)
def test_flops_do_not_depend_on_how_the_work_is_cut(layout: Layout) -> None:
    alone, cut = run(LLAMA, Layout()), run(LLAMA, layout)
    assert cut.model_flops[0] == pytest.approx(alone.model_flops[0], rel=1e-12)


# --- model states -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("zero", "expected"), [(0, 16.0), (1, 4 + 12 / 8), (2, 2 + 14 / 8), (3, 16 / 8)])
def test_zero_divides_as_its_paper_says(zero: int, expected: float) -> None:
    # Rajbhandari et al. 2020, figure 1: (2 + 2 + K) psi, 4 psi + K psi / Nd, 2 psi + (2 + K) psi / Nd, (4 + K) psi / Nd, K = 12
    answer = run(LLAMA, Layout(zero=zero), stack="deepspeed-zero", precision="fp16")
    states = answer.memory.parameters_bytes + answer.memory.gradients_bytes + answer.memory.optimizer_bytes
    assert states[0] == pytest.approx(expected * parameters_total(model(LLAMA)), rel=1e-12)


def test_expert_parameters_shard_over_their_own_group() -> None:
    answer = run(MIXTRAL, Layout(ep=4, zero=1), precision="bf16")
    experts = 3 * 8 * 512 * 1536 * 4
    dense = parameters_total(model(MIXTRAL)) - experts
    # 8 ranks: dense states over 8, experts cut by ep = 4, their optimizer states over the 2 ranks that hold copies
    assert answer.memory.optimizer_bytes[0] == pytest.approx(12 * (dense / 8 + experts / 4 / 2), rel=1e-12)
    assert answer.memory.parameters_bytes[0] == pytest.approx(2 * (dense + experts / 4), rel=1e-12)


# --- sums -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", framework_names())
def test_parts_add_up(stack: str) -> None:
    zero = 3 if framework(stack).mixed_precision == "sharded_fp32" else 0
    answer = run(LLAMA, Layout(zero=zero), stack=stack)
    assert answer.possible[0]
    assert sum(getattr(answer.step, f"{p}_s")[0] for p in PARTS) == pytest.approx(answer.step_time_s[0])
    assert sum(getattr(answer.memory, f"{k}_bytes")[0] for k in KINDS) == pytest.approx(answer.memory.total_bytes[0])
    assert 0 < answer.mfu[0] < 1


# --- one and many -----------------------------------------------------------------------------------------------------


def test_one_plan_equals_its_row_of_a_search_bit_for_bit() -> None:
    m, cluster, stack, work = model(MIXTRAL), gpus(16), framework("megatron-core"), job(global_batch_size=64)
    space = LayoutGrid(question=Question(m, cluster, stack, work)).columns()
    many = evaluate(Question(m, cluster, stack, work), space)
    assert many.possible.sum() > 1000
    chosen = np.flatnonzero(many.possible)[:: max(int(many.possible.sum()) // 150, 1)]
    for i in chosen:
        one = evaluate(Question(m, cluster, stack, work), space.take(slice(i, i + 1)))
        for part in ("memory", "step"):
            for f in fields(getattr(one, part)):
                assert getattr(getattr(one, part), f.name)[0] == getattr(getattr(many, part), f.name)[i], (i, f.name)
        assert one.model_flops[0] == many.model_flops[i]


def test_impossible_layouts_are_masked_with_a_reason_and_leave_the_others_alone() -> None:
    layouts = [Layout(tp=3), Layout(tp=2), Layout(pp=8)]
    answer = run(LLAMA, layouts)
    assert answer.possible.tolist() == [False, True, False]
    assert answer.reasons[answer.reason[0]] == "degrees do not multiply to the number of GPUs"
    assert answer.reasons[answer.reason[2]] == "more pipeline chunks than layers"
    assert np.isnan(answer.step_time_s[0])
    assert answer.step_time_s[1] == run(LLAMA, Layout(tp=2)).step_time_s[0]


# --- monotonicity -----------------------------------------------------------------------------------------------------

layouts_of_eight = st.builds(
    Layout,
    tp=st.sampled_from([1, 2, 4]),
    pp=st.sampled_from([1, 2]),
    zero=st.sampled_from([0, 1]),
    micro_batch_size=st.sampled_from([1, 2]),
    recompute=st.sampled_from(["none", "selective", "full"]),
)


@settings(max_examples=40, deadline=None)
@given(layout=layouts_of_eight)
def test_more_recomputation_never_takes_more_saved_memory_nor_less_time(layout: Layout) -> None:
    chain = [layout.replaced(recompute=r) for r in ("none", "selective", "full")]
    answer = run(LLAMA, chain)
    saved = answer.memory.activations_bytes
    assert saved[0] >= saved[1] >= saved[2] or answer.memory.phase[2] == 2
    assert answer.step_time_s[0] <= answer.step_time_s[1] <= answer.step_time_s[2]


@settings(max_examples=40, deadline=None)
@given(layout=layouts_of_eight, batch=st.sampled_from([16, 32, 64]))
def test_more_work_takes_longer(layout: Layout, batch: int) -> None:
    less, more = run(LLAMA, layout, global_batch_size=batch), run(LLAMA, layout, global_batch_size=2 * batch)
    assert less.step_time_s[0] < more.step_time_s[0]
    longer = run(LLAMA, layout, global_batch_size=batch, seq_len=2048)
    assert longer.memory.total_bytes[0] > less.memory.total_bytes[0]


@settings(max_examples=30, deadline=None)
@given(layout=layouts_of_eight, factor=st.sampled_from([1.5, 2.0, 4.0]))
def test_a_faster_accelerator_is_never_slower(layout: Layout, factor: float) -> None:
    from examples import NODE

    from planner.hardware.cluster import cluster

    faster = ACCELERATOR.replaced(
        peak_flops_per_s={k: v * factor for k, v in ACCELERATOR.peak_flops_per_s.items()},
        memory_bandwidth_bytes_per_s=ACCELERATOR.memory_bandwidth_bytes_per_s * factor,
    )
    columns = as_columns(layout, 8)
    slow = evaluate(Question(model(LLAMA), gpus(8), framework("megatron-core"), job()), columns)
    fast = evaluate(
        Question(model(LLAMA), cluster(NODE, num_gpus=8, accelerator=faster), framework("megatron-core"), job()), columns
    )
    assert fast.step_time_s[0] <= slow.step_time_s[0]


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_more_sharding_never_takes_more_memory(zero: int) -> None:
    less, more = (run(LLAMA, Layout(zero=z), stack="deepspeed-zero") for z in (zero, zero + 1))
    states = [m.memory.parameters_bytes + m.memory.gradients_bytes + m.memory.optimizer_bytes for m in (less, more)]
    assert states[1][0] < states[0][0]


# --- pipeline ---------------------------------------------------------------------------------------------------------


def test_pipeline_bubble_is_p_minus_1_over_m_and_interleaving_divides_it() -> None:
    # Narayanan et al. 2021, section 2.2: (p - 1) / m of the ideal time, divided by v. Equal stages: no head, no words.
    fields_ = {**LLAMA, "num_layers": 8, "vocab_size": 8, "hidden_size": 8192, "ffn_hidden_size": 32768}
    plain = run(fields_, Layout(pp=4, dp=1, micro_batch_size=1), count=4, global_batch_size=16)
    ideal = plain.step_time_s[0] - plain.step.bubble_s[0] - plain.step.optimizer_s[0] - plain.step.data_parallel_s[0]
    assert plain.step.bubble_s[0] / ideal == pytest.approx(3 / 16, rel=0.02)
    half = run(fields_, Layout(pp=4, vpp=2, dp=1, micro_batch_size=1), count=4, global_batch_size=16)
    assert half.step.bubble_s[0] == pytest.approx(plain.step.bubble_s[0] / 2, rel=0.05)
    filled = run(fields_, Layout(pp=4, dp=1, schedule="zero-bubble"), "megatron-zero-bubble", 4, global_batch_size=16)
    assert filled.step.bubble_s[0] < plain.step.bubble_s[0]


def test_interleaving_holds_more_activations() -> None:
    # Korthikanti et al. 2022, section 4.2.3: a factor 1 + (p - 1) / (p m) on the first stage
    fields_ = {**GPT, "num_layers": 8}
    plain = run(fields_, Layout(pp=4, dp=1), "megatron-2022", 4, global_batch_size=16, precision="fp16")
    twice = run(fields_, Layout(pp=4, vpp=2, dp=1), "megatron-2022", 4, global_batch_size=16, precision="fp16")
    assert twice.memory.activations_bytes[0] / plain.memory.activations_bytes[0] == pytest.approx(1 + 3 / 8, rel=1e-3)


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("faster", "slower"), [("bf16", "tf32"), ("tf32", "fp32")])
def test_narrower_types_are_faster(faster: Precision, slower: Precision) -> None:
    fields_ = {**LLAMA, "hidden_size": 4096, "num_heads": 32, "num_kv_heads": 8, "ffn_hidden_size": 12288}
    times = [run(fields_, Layout(tp=8), precision=p).step_time_s[0] for p in (faster, slower)]
    assert times[0] < times[1]


def test_layouts_round_trip_through_columns() -> None:
    layout = Layout(tp=2, pp=2, dp=2, zero=1, recompute="full", schedule="1f1b", micro_batch_size=4, offload_optimizer=True)
    columns = as_columns(layout, 8)
    assert isinstance(columns, Layouts)
    assert columns.row(0) == layout


def test_muon_keeps_one_moment_on_matrices_and_two_at_the_ends() -> None:
    answer = run(LLAMA, Layout(), precision="bf16", optimizer="muon")
    m = model(LLAMA)
    ends = 2 * 1024 * 512 + 512
    assert answer.memory.optimizer_bytes[0] == (4 + 4) * parameters_total(m) + 4 * ends


@pytest.mark.parametrize("rank", [8, 64])
def test_galore_keeps_a_projection_and_two_low_moments_for_each_matrix(rank: int) -> None:
    """arXiv 2403.03507, table 1: m r of the projection and 2 n r of moments for m x n, m <= n; plain Adam for the rest."""
    answer = run(LLAMA, Layout(), precision="bf16", optimizer="galore-adamw", optimizer_rank=rank)
    m = model(LLAMA)
    h, f, kv = m.hidden_size, m.ffn_hidden_size, m.num_kv_heads * m.head_dim
    shapes = [(h, m.num_heads * m.head_dim), (h, kv), (h, kv), (m.num_heads * m.value_head_dim, h), *[(h, f)] * 3]
    projected = m.num_layers * sum(rank * (min(s) + 2 * max(s)) for s in shapes)
    plain = parameters_total(m) - m.num_layers * sum(a * b for a, b in shapes)
    assert answer.memory.optimizer_bytes[0] == pytest.approx(4 * parameters_total(m) + 4 * projected + 8 * plain)


def test_galore_decomposes_what_adam_does_not() -> None:
    """Smaller than Adam and slower by its decompositions; sharded gradients are refused."""
    adam, galore = (run(LLAMA, Layout(), precision="bf16", optimizer=o) for o in ("adamw", "galore-adamw"))
    assert galore.memory.optimizer_bytes[0] < adam.memory.optimizer_bytes[0]
    assert galore.step.optimizer_s[0] > adam.step.optimizer_s[0]
    with pytest.raises(PlannerError, match="projects whole gradients"):
        planner.plan(
            model="llama-3-8b",
            cluster="2xh100",
            framework="fsdp",
            job={"kind": "finetune", "seq_len": 2048, "global_batch_size": 2, "optimizer": "galore-adamw"},
            layout={"zero": 3},
        )


def test_fsdp_shards_parameters_from_zero_2_on_and_gathers_once_or_twice() -> None:
    large = {**LLAMA, "hidden_size": 4096, "ffn_hidden_size": 12288}
    two, three = (run(large, Layout(zero=z), stack="fsdp", global_batch_size=32) for z in (2, 3))
    assert two.memory.parameters_bytes[0] == three.memory.parameters_bytes[0]
    assert two.memory.workspace_bytes[0] > three.memory.workspace_bytes[0]
    assert two.step.data_parallel_s[0] < three.step.data_parallel_s[0]


def test_unknown_host_memory_is_a_note_and_a_small_one_a_reason() -> None:
    from examples import NODE

    import planner
    from planner.hardware.cluster import cluster, host_usable_bytes, usual_host_bytes

    layout = Layout(zero=1, offload_optimizer=True)
    small = cluster(NODE.replaced(host_memory_bytes=1e6), num_gpus=8, accelerator=ACCELERATOR)
    answer = planner.plan(model=model(LLAMA), cluster=small, job=job(), layout=layout, price=1.0)
    assert not answer.fits
    assert "host memory" in answer.reasons[0]
    unknown = cluster(NODE.replaced(host_memory_bytes=0), num_gpus=8, accelerator=ACCELERATOR)
    noted = planner.plan(model=model(LLAMA), cluster=unknown, job=job(), layout=layout, price=1.0)
    assert noted.fits
    assert any("not known" in note for note in noted.notes)
    assert host_usable_bytes(unknown) * 8 == pytest.approx(usual_host_bytes(unknown.accelerator, 8))


def test_layers_that_do_not_divide_leave_the_ends_light() -> None:
    # Llama 3.1 405B: 126 layers in 64 chunks of two, embedding and loss counted as layers (Megatron-Core)
    content = stages(load_model("llama-3.1-405b"), 16, 4)
    assert sum(count * n for s in content for _, n in s.layers for count in (s.count,)) == 126
    first, last = next(s for s in content if s.embedding), next(s for s in content if s.head)
    assert [sum(n for _, n in s.layers) for s in (first, last)] == [7, 7]
    assert all(sum(n for _, n in s.layers) == 8 for s in content if not (s.embedding or s.head))


@pytest.mark.parametrize(("stack", "vpp", "possible"), [
    ("megatron-2022", 5, False),  # 48 layers in 10 chunks
    ("megatron-2022", 6, True),
    ("megatron-core", 5, True),  # 50 with embedding and loss
    ("torchtitan", 5, True),
])  # fmt: skip
def test_embedding_and_loss_count_as_layers_where_a_stack_can(stack: str, vpp: int, possible: bool) -> None:
    question = Question(load_model("megatron-22b"), gpus(8), framework(stack), job(global_batch_size=8))
    space, layout = LayoutGrid(question=question), Layout(tp=4, pp=2, vpp=vpp)
    columns = as_columns(layout, question.cluster.num_gpus)
    rule = next(r for r in rules(question, columns) if r.reason == "virtual stages do not divide the layers")
    assert (vpp in space.vpps(2), not np.any(rule.broken)) == (possible, possible)


@pytest.mark.parametrize("stack", ["fsdp", "torchtitan", "automodel", "jax-xla"])
@pytest.mark.parametrize("recompute", ["none", "full"])
def test_pytorch_moves_activations_to_the_host_with_and_without_recomputation(stack: str, recompute: str) -> None:
    # offload_wrapper and checkpoint_wrapper of torch.distributed nest; long sequences are tuned so (huggingface/trl 6845)
    question = Question(model(LLAMA), gpus(8), framework(stack), job(global_batch_size=8))
    columns = as_columns([{"zero": 3, "recompute": recompute, "offload_activations": True}], 8)
    assert [str(r.reason) for r in rules(question, columns) if np.any(r.broken)] == []


def test_images_need_an_encoder() -> None:
    with pytest.raises(PlannerError, match=r"job.images = 1: llama has no vision encoder"):
        evaluate(Question(model(LLAMA), gpus(1), framework("megatron-core"), job(images=1)), as_columns(Layout(), 1))


# --- what an independent review found -----------------------------------------------------------------------------------


def test_one_gpu_per_node_talks_over_the_network() -> None:
    apart = build_cluster(custom_node("h100-sxm5-80gb", 1, 10e9 / 8), num_gpus=2)
    together = build_cluster(custom_node("h100-sxm5-80gb", 2, 10e9 / 8), num_gpus=2)
    message = 4.94e9
    slow, fast = (float(collective_s(c, "all_reduce", message, 2.0, 1.0)) for c in (apart, together))
    assert slow > message / (10e9 / 8) > 100 * fast


def test_a_group_that_straddles_a_nodes_edge_takes_the_network() -> None:
    node = custom_node("h100-sxm5-80gb", 6, 400e9)
    inside = float(collective_s(build_cluster(node, num_gpus=6), "all_reduce", 1e9, 3.0, 1.0))
    aligned = float(collective_s(build_cluster(node, num_gpus=12), "all_reduce", 1e9, 3.0, 1.0))
    straddling = float(collective_s(build_cluster(node, num_gpus=12), "all_reduce", 1e9, 4.0, 1.0))
    assert aligned == inside < straddling
    # two of its four ranks lie on either side: each sends them two thirds of what is for others, through its own 25 GB/s
    cut = float(collective_s(build_cluster(node, num_gpus=12), "all_to_all", 1e9, 4.0, 1.0))
    whole = float(collective_s(build_cluster(custom_node("h100-sxm5-80gb", 2, 400e9), num_gpus=4), "all_to_all", 1e9, 4.0, 1.0))
    assert cut > 0.5 * whole > 1000 * 1e-6


@pytest.mark.parametrize("ranks", [16.0, 32.0, 64.0])
def test_a_group_of_whole_trays_lies_in_one_rack_however_many_there_are(ranks: float) -> None:
    """72 GPUs in trays of 4 under one switch: 64 of each rack hold groups of 16, 32 and 64, which cut no rack's edge."""
    node = load_node("gb300-nvl72")
    one, four = (build_cluster(node, num_gpus=n) for n in (64, 256))
    for name in ("all_to_all", "all_gather", "reduce_scatter", "all_reduce"):
        assert collective_s(four, name, 1e9, ranks, 1.0) == collective_s(one, name, 1e9, ranks, 1.0) > 1e9 / 2e12
    assert collective_s(four, "all_to_all", 1e9, 128.0, 1.0) > 2.0 * collective_s(one, "all_to_all", 1e9, 64.0, 1.0)


def test_groups_that_their_racks_cannot_hold_whole_take_the_network() -> None:
    """Three groups of 48 on 144 GPUs: two racks of 72 hold one each, and the third lies in both."""
    node = load_node("gb300-nvl72")
    one, two, three = (build_cluster(node, num_gpus=n) for n in (48, 144, 192))
    inside, cut, more = (float(collective_s(c, "all_to_all", 1e9, 48.0, 1.0)) for c in (one, two, three))
    assert cut > 2.0 * inside
    assert more > 2.0 * inside  # four groups on three racks
    assert collective_s(two, "all_to_all", 1e9, 24.0, 1.0) == collective_s(one, "all_to_all", 1e9, 24.0, 1.0)


@pytest.mark.parametrize(
    ("stack", "recompute"),
    [
        *((stack, recompute) for stack in ("megatron-core", "fsdp", "torchtitan") for recompute in ("selective", "full")),
        ("liger", "full"),
        ("torchtune", "full"),
    ],
)
def test_recomputing_the_only_layer_saves_no_peak_memory(stack: str, recompute: str) -> None:
    """What was dropped comes back at once, while the same temporaries are alive. A loss in chunks has some of its own, which live
    beside what is kept and not beside what comes back: at most they are saved, 6 bytes for each number of the loss's input and
    the logits of a chunk, in fp32 with their gradient, of an eighth of the tokens."""
    small = {**LLAMA, "num_layers": 1, "vocab_size": 64}
    frame = framework(stack)
    zero = 3 if frame.mixed_precision == "sharded_fp32" else 0
    kept, redone = (
        run(small, Layout(zero=zero, micro_batch_size=4, recompute=r), frame, 8, seq_len=2048, global_batch_size=32)
        for r in ("none", recompute)
    )
    of_the_loss = 4 * 2048 * (6 * 512 + 8 * 64 / 8) if frame.chunked_loss else 0.0
    assert redone.memory.allocated_bytes[0] >= 0.999 * kept.memory.allocated_bytes[0] - of_the_loss


def test_expert_imbalance_needs_several_expert_ranks_and_is_bounded_by_them() -> None:
    def time(ep: int, load: float) -> float:
        return float(run(MIXTRAL, Layout(ep=ep), DEVICE_BOUND, expert_load=load).step_time_s[0])

    assert time(1, 3.0) == time(1, 1.0)
    assert time(8, 2.0) > time(8, 1.0)
    assert time(8, 50.0) == time(8, 8.0)
    busy, even = (run(MIXTRAL, Layout(ep=8), DEVICE_BOUND, expert_load=load) for load in (2.0, 1.0))
    assert busy.hardware_flops[0] == pytest.approx(even.hardware_flops[0])


@pytest.mark.parametrize("precision", ["bf16", "bf16-pure", "fp32"])
def test_fsdp_under_zero_2_holds_the_gathered_weights(precision: Precision) -> None:
    held = {
        zero: run(LLAMA, Layout(zero=zero), "fsdp", precision=precision).memory  # type: ignore[arg-type]
        for zero in (2, 3)
    }
    assert held[2].allocated_bytes[0] > held[3].allocated_bytes[0]


def test_zero_bubble_fills_each_stage_with_its_own_weight_gradients() -> None:
    """A heavy vocabulary head must not be subtracted from the stages that lack it."""
    heavy = {**LLAMA, "num_layers": 8, "vocab_size": 512_000}
    light = {**LLAMA, "num_layers": 8, "vocab_size": 512}
    for fields_ in (heavy, light):
        plain, filled = (
            run(fields_, Layout(pp=4, schedule=s), "megatron-zero-bubble", 4, global_batch_size=16)
            for s in ("1f1b", "zero-bubble")
        )
        assert 0 < filled.step.bubble_s[0] < plain.step.bubble_s[0]


def test_redoing_half_a_matrix_multiply_takes_less_than_all_of_it() -> None:
    """Both redo the same kernels between the multiplications; of these, selective redoes half."""
    some, everything = (
        sum(
            float(np.max(row.flops))
            for row in build_table(setting(LLAMA, "torchtitan", Layout(zero=3, recompute=r, dp=1), seq_len=2048)).rows()
            if row.phase == "recompute" and isinstance(row.work, Matmul)
        )
        for r in ("selective", "full")
    )
    assert 0 < some < 0.6 * everything


def test_key_value_heads_are_copied_when_tensor_ranks_outnumber_them() -> None:
    gqa = {**LLAMA, "num_heads": 16, "num_kv_heads": 2}
    table = build_table(setting(gqa, "megatron-core", Layout(tp=8, dp=1)))
    (rows,) = table.layers.values()
    (projection,) = [r for r in rows if r.name == "query key value" and r.phase == "forward"]
    assert isinstance(projection.work, Matmul)
    assert float(np.ravel(projection.parameters)[0]) == float(np.ravel(projection.work.k * projection.work.n)[0])
    flops = [run(gqa, Layout(tp=tp), count=8).model_flops[0] for tp in (1, 2, 8)]
    assert flops == pytest.approx([flops[0]] * 3)


# --- tensor-parallel exchanges beside the gradient multiplications ----------------------------------------------------


def tensor_parallel_s(hides: float, sequence_parallel: bool, **changed: Any) -> float:
    stack = framework("megatron-core").replaced(overlap_tensor_parallel_gradients=hides, **changed)
    layout = as_columns(Layout(tp=8, sequence_parallel=sequence_parallel), 8)
    step = evaluate(Question(model(LLAMA), gpus(8), stack, job(seq_len=4096)), layout).step
    return float(step.tensor_parallel_s[0])


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_exchanges_beside_gradients_hide_a_part_of_themselves_only(sequence_parallel: bool) -> None:
    open_s, half_s, hidden_s = (tensor_parallel_s(hides, sequence_parallel) for hides in (0.0, 0.5, 1.0))
    assert open_s > half_s > hidden_s
    # without sequence parallelism two of four all-reduces a layer wait for nobody (Korthikanti et al. 2022, figure 4);
    # with it the two second gathers and two of eight others may hide as well
    assert hidden_s > (0.45 if not sequence_parallel else 0.55) * open_s


def test_the_second_gather_is_there_under_sequence_parallelism_only() -> None:
    once, twice = (tensor_parallel_s(0.0, True, gathers_input_again=again) for again in (False, True))
    # 8 gathers and scatters a layer without it, 10 with it
    assert twice / once == pytest.approx(10 / 8, rel=0.03)
    once, twice = (tensor_parallel_s(0.0, False, gathers_input_again=again) for again in (False, True))
    assert twice == once


def test_pairs_sent_by_rank_are_sorted_once_more_where_a_rank_has_several_experts() -> None:
    def sorting_bytes(stack: str, ep: int) -> float:
        rows = build_table(setting({**MIXTRAL, "num_experts": 8}, stack, Layout(ep=ep, dp=8))).rows()
        return sum(float(np.ravel(row.bytes_moved)[0]) for row in rows if row.name.startswith("sort by"))

    assert sorting_bytes("megatron-core", 1) == 0.0  # nothing was sent
    assert sorting_bytes("megatron-core", 8) == 0.0  # one expert a rank
    assert sorting_bytes("megatron-core", 4) > 0.0
    assert sorting_bytes("megatron-bridge", 4) == 0.0  # tokens travel once and are copied in order


def test_layers_of_experts_take_at_least_as_long_as_their_host() -> None:
    host, long = 0.1, job(seq_len=32768, global_batch_size=8)

    def steps(pads: bool = False, **changed: Any) -> tuple[float, float, float]:
        stack, layout = framework("megatron-core", pads_to_capacity=pads), as_columns(Layout(ep=8, dp=8), 8)
        quick, slow = (
            evaluate(Question(model({**MIXTRAL, **changed}), gpus(8), stack.replaced(expert_host_s=s), long), layout)
            for s in (0.0, host)
        )
        return float(quick.step_time_s[0]), float(slow.step_time_s[0]), float(quick.num_microbatches[0])

    quick, slow, m = steps()
    passes = 2 * MIXTRAL["num_layers"] * m * host  # forward and backward of each layer
    assert passes < slow < passes + quick
    quick, slow, _ = steps(capacity_factor=1.25)
    assert passes < slow < passes + quick  # of an expert's share only that it is no more than a capacity is known
    quick, ahead, _ = steps(pads=True, capacity_factor=1.25)
    assert passes < ahead < slow  # every expert's share is known: as many launches, and nothing to wait for (COUNTED, below)
    graphs = framework("megatron-core").replaced(expert_host_s=host, cuda_graphs="full")
    assert (
        float(evaluate(Question(model(MIXTRAL), gpus(8), graphs, job()), as_columns(Layout(ep=8, dp=8), 8)).step_time_s[0])
        < passes
    )


COUNTED = [(None, False, True), (None, True, True), (1.25, False, True), (1.25, True, False)]
"""Capacity, whether experts are padded to it, whether the host waits for the router's counts."""


@pytest.mark.parametrize(("capacity", "pads", "waits"), COUNTED)
def test_what_comes_before_the_count_of_tokens_hides_no_host_work_forward(
    capacity: float | None, pads: bool, waits: bool
) -> None:
    """The host reads the router's counts: what it launches after that waits for attention forward, not backward. Experts that are
    padded to a capacity need no counts: a layer whose launches take longer than its device takes exactly as long as they do."""

    def passes(count: float, layers: int) -> tuple[float, float, float]:
        stack = framework("megatron-core", pads_to_capacity=pads, expert_host_s=count, host_s_per_kernel=0.0)
        whole = model({**MIXTRAL, "capacity_factor": capacity, "num_layers": layers})
        layout = as_columns(Layout(ep=8, dp=8), 8)
        step = evaluate(Question(whole, gpus(8), stack, job(seq_len=32768, global_batch_size=8)), layout).step
        return float(step.forward_s[0]), float(step.backward_s[0]), float(step.expert_parallel_s[0])

    def of_layers(count: float) -> tuple[float, float, float]:
        some, more = passes(count, 2), passes(count, 5)
        return more[0] - some[0], more[1] - some[1], more[2] - some[2]

    host = 3 * 0.1
    (forward, _, _), (waiting, behind, exchanged) = of_layers(0.0), of_layers(0.1)
    assert behind + exchanged / 2 == pytest.approx(host)  # launched while the device still works or exchanges
    if waits:
        assert host + 0.5 * forward < waiting < host + forward  # attention of long sequences, before the router
    else:
        assert waiting + exchanged / 2 == pytest.approx(host)


@pytest.mark.parametrize(("stack", "forward", "backward"), [("megatron-core", 10.0, 10.0), ("torchtitan", 38.0, 10.0)])
def test_each_later_step_of_a_ring_adds_its_part_in_fp32(stack: str, forward: float, backward: float) -> None:
    """Bytes by hand: of the output forward; of queries', keys' and values' gradients backward; three quarters of the tokens."""

    def sums(cp: int) -> dict[str, float]:
        rows = build_table(setting(LLAMA, stack, Layout(cp=cp, dp=8 // cp))).rows()
        return {
            row.phase: float(np.ravel(row.bytes_moved)[0])
            for row in rows
            if row.operator == "ring sums" and row.phase != "recompute"
        }

    assert sums(1) == {}
    m, tokens = model(LLAMA), job().seq_len / 4
    queries, keys = m.num_heads * m.head_dim * tokens, 2 * m.num_kv_heads * m.head_dim * tokens
    assert sums(4) == {"forward": forward * 0.75 * 3 * queries, "backward": backward * 0.75 * 3 * (queries + keys)}


def test_fewer_adapted_layers_never_communicate_more() -> None:
    def data_parallel_s(last_layers: int) -> float:
        tuned = job(kind="lora", seq_len=1024, adapter={"rank": 16, "last_layers": last_layers})
        step = evaluate(
            Question(model({**LLAMA, "num_layers": 16}), gpus(16), framework("fsdp"), tuned),
            as_columns(Layout(dp=16, zero=3), 16),
        )
        return float(step.step.data_parallel_s[0])

    seconds = [data_parallel_s(n) for n in (1, 4, 16)]
    assert seconds == sorted(seconds)  # below the lowest adapter nothing is gathered for a backward pass that is not there


@pytest.mark.parametrize(("gpu", "cublas"), [("v100-sxm2-32gb", 10), ("a100-sxm4-80gb", 12)])
def test_an_odd_vocabulary_is_as_slow_on_each_rank_and_padding_mends_it(gpu: str, cublas: int) -> None:
    """GPT-2's 50,257 words: no rank has an even share, so cutting them makes no rank's rows aligned; Megatron-LM pads them."""
    cluster = {"accelerator": gpu, "num_gpus": 4}

    def step_s(framework: str, tp: int, words: int) -> float:
        layout = {"tp": tp, "sequence_parallel": tp > 1, "zero": 3 if framework == "fsdp" else 1}
        job = {"seq_len": 1024, "global_batch_size": 64, "precision": "fp16"}
        model = {"base": "gpt2", "vocab_size": words}
        stack = {"name": framework, "cublas": cublas}
        asked = planner.plan(model=model, cluster=cluster, framework=stack, job=job, layout=layout)
        return asked.step_time_s

    for tp in (1, 2):
        assert step_s("fsdp", tp, 50_257) > 1.05 * step_s("fsdp", tp, 50_304)
        assert step_s("megatron-core", tp, 50_257) <= step_s("megatron-core", tp, 50_304)
    assert step_s("llm.c", 1, 50_257) <= step_s("llm.c", 1, 50_304)


def test_an_odd_vocabulary_costs_a_gpu_more_whose_tensor_cores_outrun_its_loads() -> None:
    """Narrow loads go by clocks and multiprocessors: an H100 loses more than an A100, and that more than a V100. cuBLAS 10, which
    leaves a V100's tensor cores alone, loses most."""

    def loss(gpu: str, cublas: int = 12) -> float:
        odd, even = (
            planner.plan(
                model={"base": "gpt2", "vocab_size": words},
                cluster={"accelerator": gpu, "num_gpus": 1},
                framework={"name": "apex", "cublas": cublas},
                job={"seq_len": 1024, "global_batch_size": 8, "precision": "fp16"},
                layout={"micro_batch_size": 8, "recompute": "none"},
            ).step_time_s
            for words in (50_257, 50_304)
        )
        return odd / even

    assert 1.0 < loss("v100-sxm2-32gb") < loss("a100-sxm4-80gb") < loss("h100-sxm5-80gb")
    assert loss("v100-sxm2-32gb", 10) > loss("h100-sxm5-80gb")
    assert loss("rtx-4090-24gb") == pytest.approx(1.0, abs=0.01)


def test_a_loop_over_tensors_takes_as_long_as_its_launches_or_its_bytes() -> None:
    """The same device work on a small model waits for the host, on a large one it does not."""

    def optimizer_s(model: str, **stack: Any) -> float:
        asked = planner.plan(
            model=model,
            cluster={"accelerator": "h200-sxm-141gb", "num_gpus": 1},
            framework={"name": "apex", "fused_optimizer": "loop", **stack},
            job={"seq_len": 512, "global_batch_size": 1, "precision": "fp16"},
            layout={"micro_batch_size": 1, "recompute": "full"},
        )
        return asked.step_parts_s["optimizer"]

    small, large = (optimizer_s(m, host_s_per_kernel=8e-6, host_s_per_step=0.0) for m in ("gpt2", "llama-2-7b"))
    assert small == pytest.approx(148 * 10 * 8e-6)
    assert large == optimizer_s("llama-2-7b", host_s_per_kernel=1e-9, host_s_per_step=0.0)


# --- features ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", framework_names())
def test_a_switch_of_tensor_parallelism_asks_for_nothing_on_one_rank(stack: str) -> None:
    """Sequence parallelism without tensor parallelism is none: what has not got it refuses two ranks of it alone."""
    one = framework(stack)
    layouts = [Layout(tp=tp, sequence_parallel=on, dp=8 // tp) for tp, on in ((1, False), (1, True), (2, True))]
    question = Question(model(LLAMA), gpus(8), one, job())
    asked = {str(rule.reason): rule.broken.tolist() for rule in rules(question, as_columns(layouts, 8)) if np.any(rule.broken)}
    wanted = {reason: broken for reason, broken in asked.items() if reason.endswith(("no sequence_parallel", "no tp"))}
    missing = {"sequence_parallel", "tp"} - one.answered
    assert wanted == {f"{stack} has no {feature}": [False, False, True] for feature in missing}
