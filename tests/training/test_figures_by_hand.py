"""Figures of a plan and of what is told beside it, by hand: lengths, dollars, what trains, what fits, what to change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from examples import LLAMA, MIXTRAL, gpus, model

import planner
from planner.model.parameters import parameters_total
from planner.performance.evaluation import Evaluation
from planner.prices.price import Price
from planner.training import remedies as remedies_module
from planner.training import trainable
from planner.training.hopeless import states_bytes
from planner.training.memory_map import fit_map, map_axes, moments
from planner.training.plan import Plan
from planner.training.planning import SMALL_BATCH, batch_notes, crossing_notes, evaluate, lasting, reasons_of
from planner.training.remedies import _clusters, _jobs, _layout_steps, remedies, scaling
from planner.training.row_points import row_points
from planner.training.trainable import frozen_parameters, stored_bytes, trainable_parameters, tuning_notes
from planner.workload.framework import load_framework
from planner.workload.job import Job
from planner.workload.layout import Layout
from planner.workload.resolve import as_cluster, as_job
from planner.workload.tuning import USUAL_RANK, Adapter

JOB: dict[str, Any] = {"seq_len": 512, "global_batch_size": 64, "num_tokens": 10 * 64 * 512}


def asked(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "model": model(LLAMA), "cluster": gpus(8), "framework": "megatron-core", "job": JOB, "layout": {"tp": 2, "zero": 1},
        "price": Price(usd_per_gpu_hour=3.6, term="mine"), **changes,
    }  # fmt: skip
    return planner.plan(**fields)


def test_a_run_of_ten_steps_by_hand() -> None:
    """Ten steps of 64 x 512 tokens on eight GPUs at a dollar in 1,000 s."""
    found = asked()
    step = found.step_time_s
    assert (found.num_steps, found.steps_per_epoch, found.tokens_per_step) == (10.0, 10.0, 64 * 512)
    assert found.run_s == pytest.approx(10 * step)
    assert found.gpu_hours == pytest.approx(10 * step * 8 / 3600)
    assert found.cost_usd == pytest.approx(10 * step * 8 / 1000)
    assert found.cost_usd_per_step == pytest.approx(step * 8 / 1000)
    assert found.tokens_per_s == pytest.approx(64 * 512 / step)
    assert found.tokens_per_s_per_gpu == pytest.approx(64 * 512 / step / 8)
    assert sum(found.step_parts_s.values()) == pytest.approx(step)
    assert sum(found.memory_bytes.values()) == pytest.approx(found.peak_total_bytes)
    assert found.headroom_bytes == pytest.approx(found.usable_bytes - found.peak_total_bytes)
    twice = asked(job={**JOB, "num_epochs": 2.0})
    assert (twice.num_steps, twice.epoch_s, twice.run_s) == (20.0, pytest.approx(10 * step), pytest.approx(20 * step))
    longer = lasting(found, 25)
    assert (longer.num_steps, longer.run_s, longer.cost_usd) == (
        25.0,
        pytest.approx(25 * step),
        pytest.approx(25 * step * 8 / 1000),
    )
    endless = asked(job={"seq_len": 512, "global_batch_size": 64})
    assert (endless.num_steps, endless.run_s, endless.epoch_s, endless.gpu_hours, endless.cost_usd) == (None,) * 5
    assert endless.cost_usd_per_step == pytest.approx(step * 8 / 1000)


def test_intervals_of_what_follows_from_a_step_are_the_step_s() -> None:
    """Times and dollars as many times as wide; rates the other way round; no step takes less than its operations at the peak."""
    found = asked()
    sure, step = found.intervals, found.intervals["step_time_s"]
    assert step.lower >= found.step_time_s * max(found.hfu, found.mfu)
    for name in ("run_s", "gpu_hours", "epoch_s", "cost_usd", "cost_usd_per_step"):
        assert sure[name].lower / sure[name].expected == pytest.approx(step.lower / step.expected), name
        assert sure[name].upper / sure[name].expected == pytest.approx(step.upper / step.expected), name
        assert sure[name].expected == pytest.approx(getattr(found, name))
    for name in ("tokens_per_s", "mfu", "hfu"):
        assert sure[name].lower == pytest.approx(getattr(found, name) * step.expected / step.upper), name
    near = replace(found, hfu=0.999)
    assert near.intervals["step_time_s"].lower == pytest.approx(0.999 * found.step_time_s)
    least = replace(found, mfu=1.5)
    assert least.intervals["step_time_s"].lower == pytest.approx(found.step_time_s)


def test_what_trains_and_what_is_stored_by_hand() -> None:
    """Rank 4 on queries and values of four layers: 4 (512 + 512) and 4 (512 + 256) a layer, in fp32 or 16 bit; others frozen."""
    m = model(LLAMA)
    adapter = Adapter.build({"rank": 4, "target_modules": ["q_proj", "v_proj"]}, "adapter")
    job = Job(kind="lora", seq_len=512, global_batch_size=8, adapter=adapter, precision="bf16")
    trains = 4 * (4 * (512 + 512) + 4 * (512 + 256))
    total = parameters_total(m)
    assert trainable_parameters(m, job) == trains
    assert frozen_parameters(m, job) == total
    (note,) = tuning_notes(m, job)
    assert str(note).startswith(f"{trains:,} parameters train ({trains / total:.3%} of the model's {total:,})")
    full = Job(seq_len=512, global_batch_size=8, precision="bf16")
    assert (trainable_parameters(m, full), frozen_parameters(m, full), tuning_notes(m, full)) == (total, 0, ())
    core = load_framework("megatron-core")
    assert stored_bytes(m, full, core) == 2 * total
    assert stored_bytes(m, full.replaced(precision="fp32"), core) == 4 * total
    for dtype, width in (("fp32", 4), ("same", 2)):
        typed = job.replaced(adapter=adapter.replaced(dtype=dtype))
        assert stored_bytes(m, typed, load_framework("peft")) == stored_bytes(m, typed, core) == width * trains
    # as peft and Megatron-Core make them where nobody says
    assert stored_bytes(m, job, load_framework("peft")) == 4 * trains
    assert stored_bytes(m, job, core) == 2 * trains


def test_the_least_bytes_of_all_states_by_hand() -> None:
    """Under adapters frozen weights alone, in 16 bit or in NF4 (Dettmers et al. 2023, section 3: 0.127 bit of scales); of full
    tuning with AdamW 18 bytes."""
    m, peft = model(LLAMA), load_framework("peft")
    total = parameters_total(m)
    usual = {"seq_len": 512, "global_batch_size": 8, "precision": "bf16"}
    adapter = Adapter.build({"rank": 4}, "adapter")
    assert states_bytes(m, Job(kind="lora", adapter=adapter, **usual), peft) == 2 * total
    narrow = states_bytes(m, as_job({"kind": "qlora", "adapter": {"rank": 4}, **usual}), peft)
    assert narrow == pytest.approx((4 + 0.127) / 8 * total, rel=1e-4)
    core = load_framework("megatron-core")
    assert states_bytes(m, Job(**usual), core) == 18 * total


def test_teachers_speak_the_same_words_and_are_no_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainable, "model_names", lambda: ["llama-2-70b", "gpt2", "llama-2-13b", "llama-3-8b", "llama-2-7b"])
    found = trainable.teachers.__wrapped__
    assert found(planner.load_model("llama-2-7b")) == ("llama-2-7b", "llama-2-13b", "llama-2-70b")
    assert found(planner.load_model("llama-2-13b")) == ("llama-2-13b", "llama-2-70b")


def test_a_small_batch_is_told_by_what_does_not_grow_with_it() -> None:
    """0.15 of a step and more in bubble, optimizer and the exchange after the last micro-batch."""
    found = evaluate(model=model(LLAMA), cluster=gpus(8), framework="megatron-core", job=JOB, layouts=[Layout(tp=2, zero=1)])
    job = Job(**{**JOB, "kind": "pretrain"})

    def share(once: float, **parts: float) -> Evaluation:
        """``parts`` of a step that takes a second, of which it takes ``once`` however many micro-batches it has."""
        others = {name: np.zeros(1) for name in type(found.step).__dataclass_fields__}
        given = {f"{name}_s": np.array([value]) for name, value in {**parts, "once": once}.items()}
        rest = {"forward_s": np.array([1.0 - sum(parts.values())])}
        return replace(found, step=replace(found.step, **{**others, **given, **rest}))

    assert float(share(0.1, bubble=0.1).step_time_s[0]) == pytest.approx(1.0)
    for once, told in ((0.16, "16%"), (0.14, ""), (0.3, "30%")):
        notes = batch_notes(share(once, data_parallel=0.4), job)
        assert [str(note).split("batch: ")[1].split(" ")[0] for note in notes] == ([told] if told else []), once
    assert batch_notes(share(0.5), job.replaced(kind="finetune")) == ()
    assert SMALL_BATCH == 0.15


@pytest.mark.parametrize(
    ("stack", "layout"),
    [
        ("megatron-core", {"tp": 2, "pp": 2, "zero": 1}), ("fsdp", {"zero": 2}), ("fsdp", {"zero": 3}),
        ("fsdp", {"zero": 3, "pp": 2}), ("deepspeed-zero", {"zero": 2}),
        ("deepspeed-zero", {"zero": 3, "offload_optimizer": True, "offload_parameters": True}),
    ],
)  # fmt: skip
def test_what_a_step_takes_once_is_what_is_left_without_micro_batches(stack: str, layout: dict[str, Any]) -> None:
    """The line through two numbers of micro-batches meets none at what a larger batch takes no longer for; sums of gradients,
    of which the first of a step is none, left to the multiplications."""
    fused = {"name": stack, "gradient_sum": "fused"}
    asked: dict[str, Any] = {"model": "llama-3-8b", "cluster": "8xh100", "framework": fused}
    asked["layouts"] = [{"micro_batch_size": 1, **layout}]

    def step(m: int) -> Any:
        return evaluate(**asked, job={"seq_len": 2048, "global_batch_size": 8 * m, "precision": "bf16"})

    few, more, most = step(16), step(32), step(48)
    grows = float(more.step_time_s[0] - few.step_time_s[0])
    assert float(most.step_time_s[0] - more.step_time_s[0]) == pytest.approx(grows)
    assert float(few.step.once_s[0]) == pytest.approx(float(few.step_time_s[0]) - grows, rel=1e-6)


def test_one_gpu_exchanges_nothing_with_others() -> None:
    """Whatever goes between it and its host is offload, in every micro-batch and once a step."""
    asked: dict[str, Any] = {"model": "llama-3-8b", "framework": "deepspeed-zero"}
    asked["job"] = {"seq_len": 2048, "global_batch_size": 16, "precision": "bf16"}
    layout = {"zero": 3, "offload_optimizer": True, "offload_parameters": True}
    alone = evaluate(**asked, cluster="1xh100", layouts=[layout])
    assert float(alone.step.data_parallel_s[0]) == 0.0 < float(alone.step.offload_s[0])
    together = evaluate(**asked, cluster="8xh100", layouts=[layout])
    assert float(together.step.data_parallel_s[0]) > 0.0 < float(together.step.offload_s[0])


def test_tensor_parallelism_beyond_a_node_is_told_with_its_share_of_a_step() -> None:
    """Nodes of 8 that NVLink joins; racks of 72 behind one NVLink, of nodes of 4: within neither is there a word."""
    job = {"seq_len": 4096, "global_batch_size": 64}
    for on, tp, joined in (("16xh100", 8, 0), ("16xh100", 16, 8), ("16xgb200", 16, 0)):
        cluster = as_cluster(on)
        found = evaluate(model="llama-3.1-70b", cluster=cluster, framework="megatron-core", job=job, layouts=[Layout(tp=tp)])
        notes = crossing_notes(found, cluster, Layout(tp=tp))
        share = float(found.step.tensor_parallel_s[0]) / float(found.step_time_s[0])
        assert [f"more than the {joined} GPUs" in str(note) and f"take {share:.0%} of" in str(note) for note in notes] == (
            [True] if joined else []
        )


def test_why_a_layout_does_not_fit_by_hand() -> None:
    """Of the GPU's memory and of its host's part, each alone and both; the largest kind is named."""
    found = evaluate(model=model(LLAMA), cluster=gpus(8), framework="megatron-core", job=JOB, layouts=[Layout(tp=2, zero=1)])
    memory = found.memory
    assert reasons_of(found) == ()
    small = replace(found, usable_bytes=float(memory.total_bytes[0]) / 2)
    (reason,) = reasons_of(small)
    total = float(memory.total_bytes[0]) / 2**30
    assert str(reason).startswith(f"needs {total:.1f} GiB per GPU, {total / 2:.1f} GiB usable; largest part: ")
    hosted = replace(found, memory=replace(memory, host_bytes=np.array([6.0 * 2**30])), host_usable_bytes=np.array([4.0 * 2**30]))
    assert [str(r) for r in reasons_of(hosted)] == ["offloading needs 6.0 GiB of host memory per GPU, 4.0 GiB available"]
    assert len(reasons_of(replace(hosted, usable_bytes=small.usable_bytes))) == 2


def test_one_step_of_one_field_in_the_direction_that_saves_memory() -> None:
    """Megatron has them all; a micro-batch of six is halved only, for four and eight do not divide it."""
    core = load_framework("megatron-core")
    steps = list(_layout_steps(Layout(micro_batch_size=6, tp=2, zero=1, recompute="none"), core))
    assert [value for name, value in steps if name == "micro_batch_size"] == [3]
    assert [value for name, value in steps if name == "recompute"][-1] == "full"
    assert [value for name, value in steps if name == "tp"] == [4, 8, 16]
    assert [value for name, value in steps if name == "pp"] == [2, 4, 8]
    assert all(value > 1 for name, value in steps if name == "zero")
    most = list(_layout_steps(Layout(micro_batch_size=16, recompute="full", sequence_parallel=True, tp=2), core))
    assert [value for name, value in most if name == "micro_batch_size"] == [8, 4, 2, 1]
    assert not [value for name, value in most if name in ("recompute", "sequence_parallel")]


@pytest.mark.parametrize(
    ("job", "changes"),
    [
        ({"seq_len": 512}, [{"seq_len": 256}, {"seq_len": 128}, {"optimizer": "adamw-8bit"}, {"optimizer": "adafactor"}]),
        ({"seq_len": 514, "optimizer": "adafactor"}, [{"seq_len": 257}]),
        ({"seq_len": 513, "optimizer": "adafactor", "precision": "fp32"}, [{"precision": "bf16"}]),
    ],
)
def test_one_change_of_a_job_in_the_direction_that_saves_memory(
    monkeypatch: pytest.MonkeyPatch, job: dict[str, Any], changes: list[dict[str, Any]]
) -> None:
    """Half and a quarter of the length where it divides by them, leaner optimizers than AdamW, half the bits; two and four times
    the GPUs."""
    monkeypatch.setattr(remedies_module, "_tried", lambda _, changes: list(changes))
    found = asked(job={**JOB, **job})
    assert _jobs(found) == [{"job": change} for change in changes]
    assert _clusters(found) == [{"cluster": {"num_gpus": 16}}, {"cluster": {"num_gpus": 32}}]  # type: ignore[comparison-overlap]


WAYS: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    ({"kind": "finetune", "seq_len": 512}, [
        {"job": {"kind": "lora", "adapter": {"rank": USUAL_RANK}}}, {"job": {"kind": "qlora", "adapter": {"rank": USUAL_RANK}}},
        {"job": {"optimizer": "adamw-8bit"}}, {"job": {"optimizer": "adafactor"}},
        *({"cluster": {"num_gpus": n}} for n in (16, 32, 64, 128, 256, 512)), {"job": {"seq_len": 64}}]),
    ({"kind": "pretrain", "seq_len": 516, "optimizer": "muon"}, [
        *({"cluster": {"num_gpus": n}} for n in (16, 32, 64, 128, 256, 512)), {"job": {"seq_len": 129}}]),
    ({"kind": "pretrain", "seq_len": 513, "optimizer": "muon"}, [
        {"cluster": {"num_gpus": n}} for n in (16, 32, 64, 128, 256, 512)]),
]  # fmt: skip


@pytest.mark.parametrize(("job", "tried"), WAYS)
def test_ways_out_are_tried_from_the_least_change_on(
    monkeypatch: pytest.MonkeyPatch, job: dict[str, Any], tried: list[dict[str, Any]]
) -> None:
    """The method, the optimizer, GPUs, an eighth of the length, without which no longer one is; none where a layout fits."""
    met: list[dict[str, Any]] = []
    monkeypatch.setattr(remedies_module, "_first_sure", lambda *rest: met.extend(rest[-1]) or [])
    monkeypatch.setattr(remedies_module, "_usual_stacks", lambda _: [])
    found = asked(job={**JOB, **job})
    assert remedies_module.ways_out(found) == []
    assert met == []
    assert remedies_module.ways_out(replace(found, fits=False, nearest=found.layout)) == []
    assert met == []
    assert remedies_module.ways_out(replace(found, fits=False)) == []
    assert met == tried


def test_the_first_of_several_layouts_says_which_framework_is_taken() -> None:
    """Experts over GPUs and interleaved stages are Megatron-Core's; what follows is worked out on it, whatever it would take
    alone. Replicas that are no whole number are no layout to choose by."""
    own, other = Layout(pp=2, vpp=2, zero=1), Layout(zero=3)

    def taken(*layouts: Layout) -> list[str]:
        asked: dict[str, Any] = {"model": model(LLAMA), "cluster": gpus(8), "job": JOB, "layouts": list(layouts)}
        found = evaluate(**asked)
        named = {name: evaluate(**asked, framework=name) for name in ("fsdp", "megatron-core")}
        return [name for name, one in named.items() if np.array_equal(one.step_time_s, found.step_time_s, equal_nan=True)]

    assert taken(other) == taken(other, own) == ["fsdp"]
    assert taken(own) == taken(own, other) == taken(own, Layout(tp=3)) == ["megatron-core"]
    assert taken(Layout(tp=3, pp=2, vpp=2), other) == ["fsdp"]


def test_the_same_plan_on_fewer_and_on_more_gpus() -> None:
    """Half, the same and twice as many; no part of a GPU, and none at all."""
    found = asked()
    assert [one.num_gpus for one in scaling(found, (0.5, 1, 2))] == [4, 8, 16]
    assert scaling(found, (1,)) == [found]
    assert [one.num_gpus for one in scaling(found, (0.3, 0.05, 0.25))] == [2]
    assert [one.layout.tp for one in scaling(found, (2,))] == [2]
    assert remedies(found) == []


def test_the_nearest_layout_is_told_where_it_is_more_than_one_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """One change is among the single ones already."""
    for name in ("_layouts", "_jobs", "_clusters", "ways_out"):
        monkeypatch.setattr(remedies_module, name, lambda *_: [])
    found = asked()
    near, far = ({"micro_batch_size": 2}, {"micro_batch_size": 2, "recompute": "full"})
    for nearest, changes in ((near, []), (far, [{"layout": far}])):
        wanted = replace(found, fits=False, nearest=found.layout.replaced(**nearest))
        assert [one.changes for one in remedies(wanted)] == changes


def test_a_map_of_sizes_and_lengths_holds_what_each_plan_says() -> None:
    found = asked(job={"seq_len": 512, "global_batch_size": 64})
    sizes, lengths = map_axes(asked(layout={"tp": 2, "zero": 1, "micro_batch_size": 4}))
    assert (sizes, lengths) == ([1, 2, 4, 8, 16, 32, 64], [128, 256, 512, 1024, 2048, 4096])
    cells = fit_map(found, (1, 2, 3), (512, 1024))
    assert [(c.micro_batch_size, c.seq_len) for c in cells] == [(n, s) for s in (512, 1024) for n in (1, 2, 3)]
    for cell in cells:
        if cell.micro_batch_size == 3:  # does not divide a replica's sixteen sequences
            assert (cell.headroom_bytes, cell.step_time_s) == (None, None)
            assert cell.reason
            continue
        job = {"seq_len": cell.seq_len, "global_batch_size": 64}
        same = asked(job=job, layout={"tp": 2, "zero": 1, "micro_batch_size": cell.micro_batch_size})
        assert (cell.headroom_bytes, cell.step_time_s, cell.reason) == (same.headroom_bytes, same.step_time_s, "")


def test_moments_of_memory_by_stage() -> None:
    """Two stages, each at three moments; the largest of all is the plan's peak."""
    found = asked(layout={"pp": 2, "zero": 1})
    held = moments(found)
    assert sum(m.count for m in held) == 2 * len({m.phase for m in held})
    assert max(m.total_bytes for m in held) == pytest.approx(found.peak_total_bytes)
    assert [m.first for m in held] == sorted(m.first for m in held)


def test_points_under_the_roof_by_hand() -> None:
    """300 TFLOP/s over 2 TB/s: 150 operations a byte; shares are of all that computes, and the longest comes first."""
    roof, points = row_points(asked())
    assert (roof.peak_flops_per_s, roof.bytes_per_s, roof.ridge) == (300e12, 2e12, 150.0)
    assert [p.share for p in points] == sorted((p.share for p in points), reverse=True)
    assert 0.5 < sum(p.share for p in points) <= 1.0
    whole = {p.repeats * p.seconds / p.share for p in points}
    assert max(whole) == pytest.approx(min(whole))
    for p in points:
        assert p.intensity == pytest.approx(p.flops / p.bytes_moved)
        assert p.rate_flops_per_s == pytest.approx(p.flops / p.seconds)
        assert p.bound == ("compute" if p.flops > 150.0 * p.bytes_moved else "memory")
        assert p.rate_flops_per_s <= 300e12


@pytest.mark.parametrize(("load", "told"), [(1.0, False), (2.5, True)])
def test_uneven_experts_are_told_where_they_cost(load: float, told: bool) -> None:
    """Beside the plan stands the same layout with even ones: a load of 2.5 of four ranks is told, one of 1 is the even one."""
    m = model({**MIXTRAL, "hidden_size": 1024, "expert_ffn_hidden_size": 8192})
    found = asked(model=m, job={**JOB, "expert_load": load}, layout={"ep": 4, "zero": 1})
    assert (found.even_routing is not None) is told
    if found.even_routing is not None:
        even = asked(model=m, job={**JOB, "routing": "forced"}, layout={"ep": 4, "zero": 1})
        assert found.even_routing.expert_load == load
        assert found.even_routing.step_time_s == pytest.approx(even.step_time_s)
        assert found.even_routing.peak_total_bytes == pytest.approx(even.peak_total_bytes)


def test_a_capacity_that_drops_nothing_tells_of_uneven_experts_as_none_does() -> None:
    """Without padding; padded, no rank has more than another, and nothing is told."""

    def told(capacity: float | None, pads: bool) -> Any:
        m = model({**MIXTRAL, "hidden_size": 1024, "expert_ffn_hidden_size": 8192, "capacity_factor": capacity})
        stack = {"name": "megatron-core", "dispatcher": "alltoall", "pads_to_capacity": pads}
        return asked(model=m, framework=stack, job={**JOB, "expert_load": 2.5}, layout={"ep": 4, "zero": 1}).even_routing

    dropless, wide = told(None, False), told(1000.0, False)
    assert wide.expert_load == dropless.expert_load
    assert wide.step_time_s == pytest.approx(dropless.step_time_s)
    assert told(3.0, False).expert_load < dropless.expert_load
    assert told(4.0, True) is None


def test_how_sure_it_fits_is_said_in_words() -> None:
    """Surely at most the accepted risk; else only probably."""
    found = asked()
    assert (found.fits, found.recommended, found.certainty) == (True, True, "fits")
    assert found.fit_probability > 0.95
    crowded = replace(found, host_bytes_per_gpu=1e15)
    assert crowded.fit_probability == 0.0
    assert replace(crowded, fits=False).certainty == "does not fit"
    risky = replace(found, firm_bytes=found.usable_bytes * 0.999)
    assert risky.certainty == "probably fits"
