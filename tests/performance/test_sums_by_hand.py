"""Single sums, bytes and signs of the core, by hand: each would survive a wrong sign in tests of the whole."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from examples import LLAMA, MIXTRAL, framework, gpus, job, model, setting

from planner.hardware.cluster import host_link_rate
from planner.operators.optimizer import optimizer_row
from planner.operators.table import build_table
from planner.performance import step_time
from planner.performance.block_cost import BlockCost
from planner.performance.evaluation import evaluate, stage_memory
from planner.performance.memory import (
    KINDS,
    StageMemory,
    States,
    _freed_at_once,
    _overhead,
    gradient_buffers,
    model_states,
    peak,
    weight_copies,
)  # fmt: skip
from planner.performance.step_time import PARTS, StageTime, Synchronization, from_host_s, sharded_block_s, synchronization_s
from planner.uncertainty.interval import ResidualClass, interval
from planner.uncertainty.subject import Subject
from planner.workload.job import Job
from planner.workload.layout import Layout, as_columns
from planner.workload.precision import precisions
from planner.workload.question import Question


def powers(spec: Any, names: list[str]) -> Any:
    """Each field another power of two: a sum tells which of them it holds, and with which sign."""
    return spec(**{name: np.array([2.0**i]) for i, name in enumerate(names)})


def test_seconds_of_a_microbatch_are_the_sum_of_its_parts() -> None:
    names = [f.name for f in fields(StageTime)]
    time = powers(StageTime, names)
    once = {"weight_gradient_s", "once_data_parallel_s", "once_optimizer_s"}
    assert float(time.microbatch_s[0]) == sum(2.0**i for i, name in enumerate(names) if name not in once)


def test_exposed_communication_of_a_block_is_the_sum_over_its_groups() -> None:
    names = [f.name for f in fields(BlockCost) if f.name in ("tp_s", "cp_s", "ep_s", "etp_s")]
    block = SimpleNamespace(**{name: np.array([2.0**i]) for i, name in enumerate(names)})
    found = cast(Any, BlockCost).communication_s.fget(block)
    assert float(found[0]) == 15.0


@pytest.mark.parametrize(
    "layout",
    [
        Layout(tp=2, sequence_parallel=True, cp=2, pp=2, ep=2, zero=1),
        Layout(tp=2, sequence_parallel=True, cp=2, ep=2, zero=1, recompute="full"),
        Layout(cp=4, pp=2, ep=4, zero=1, micro_batch_size=2),
    ],
)
def test_parts_add_up_with_every_kind_of_parallelism(layout: Layout) -> None:
    found = evaluate(
        Question(model(MIXTRAL), gpus(16), framework("megatron-core"), job(global_batch_size=64)),
        as_columns(layout, 16),
    )
    assert found.possible[0]
    step = {part: float(getattr(found.step, f"{part}_s")[0]) for part in PARTS}
    assert all(seconds >= 0.0 for seconds in step.values()), step
    assert sum(step.values()) == pytest.approx(found.step_time_s[0])
    assert sum(getattr(found.memory, f"{k}_bytes")[0] for k in KINDS) == pytest.approx(found.memory.total_bytes[0])


def moved(stack: str, layout: Layout, name: str, phase: str) -> float:
    rows = build_table(setting(MIXTRAL, stack, layout, {"fused_rotary": True})).rows()
    (found,) = {float(np.sum(r.bytes_moved)) for r in rows if r.name == name and r.phase == phase}
    return found


def test_bytes_of_the_permutation_and_of_rotary_positions() -> None:
    """1,024 tokens, 2 experts each, vectors of 512, 2 bytes. 8 query and 4 key heads of 64: read and written once."""
    layout = Layout(ep=4, dp=4)
    for name in ("permute", "unpermute", "sort by expert", "sort by rank"):
        for phase in ("forward", "backward"):
            found = build_table(setting(MIXTRAL, "megatron-core", layout, {"dispatcher": "alltoall"}, routing="forced")).rows()
            bytes_ = {float(np.sum(r.bytes_moved)) for r in found if r.name.startswith(name) and r.phase == phase}
            vectors = 2 + 2 if name.startswith("sort") else 1 + 2  # a token is read once and written for each of its experts
            assert bytes_ == {vectors * 2 * 1024 * 512}, (name, phase)
    for phase, name in (("forward", "rotary"), ("backward", "rotary gradient")):
        assert moved("megatron-core", layout, name, phase) == 2 * 2 * 1024 * (8 + 4) * 64


def content(**more: float) -> Any:
    """What a stage holds: 100 dense parameters, of which 10 at its ends, and 1,000 of experts."""
    sizes = {
        "dense_parameters": 100.0, "expert_parameters": 1000.0, "end_parameters": 10.0, "largest_layer_parameters": 300.0,
        "largest_layer_experts": 250.0, "frozen_bytes": 0.0, "frozen_expert_bytes": 0.0, "dummy_bytes": 0.0, **more,
    }  # fmt: skip
    return SimpleNamespace(**{name: np.array([value]) for name, value in sizes.items()})


def test_buckets_that_copy_gradients_hold_those_of_experts_too() -> None:
    copies = framework("apex", bucket_bytes=0.0, library_bytes=0.0, extra_parameter_bytes=0.5)
    precision = precisions(job(), copies)
    found = gradient_buffers(content(), as_columns(Layout(dp=2, zero=0), 2), copies, precision, job())
    assert float(found[0]) == precision.gradient * 1100 + 0.5 * 1100


def test_autocast_keeps_copies_of_all_but_the_ends() -> None:
    copies = framework("huggingface")
    precision = precisions(job(), copies)
    assert precision.cast == 2.0
    found = weight_copies(content(), as_columns(Layout(dp=1, zero=0), 1), copies, precision)
    assert float(found[0]) == 2.0 * (100 + 1000 - 10)


@pytest.mark.parametrize(
    ("zero", "parameters", "gradients", "optimizer"),
    [
        (0, 2 * 1102, 4 * 1102, 12 * 1102),
        (1, 2 * 1102, 4 * 1102, 12 * 525.75),
        (2, 2 * 1102, 4 * 525.75, 12 * 525.75),
        (3, 2 * 525.75, 4 * 525.75, 12 * 525.75),
    ],
)
def test_each_zero_stage_cuts_dense_parameters_and_experts_by_their_own_groups(
    zero: int, parameters: float, gradients: float, optimizer: float
) -> None:
    """Rajbhandari et al. 2020, figure 1: 2 + 4 + 12 bytes. 4 ranks, 2 hold the same experts: 101 / 4 + 1,001 / 2 = 525.75."""
    held = content(
        dense_parameters=101.0, expert_parameters=1001.0, end_parameters=0.0, skipped_bytes=0.0, skipped_expert_bytes=0.0
    )
    precision = precisions(job(), framework("megatron-core"))
    assert (precision.parameter, precision.gradient, precision.master + precision.state) == (2.0, 4.0, 12.0)
    columns = as_columns(Layout(dp=4, ep=2, zero=zero), 4)  # type: ignore[arg-type]
    found = model_states(held, columns, precision, factored_width=0.0)
    assert found.parameters_bytes[0] == parameters
    assert found.gradients_bytes[0] == gradients
    assert found.optimizer_bytes[0] == optimizer
    assert found.update_elements[0] == optimizer / 12


@pytest.mark.parametrize(
    ("stack", "zero", "still"),
    [("megatron-core", 0, 40), ("megatron-core", 2, 40), ("megatron-core", 3, 24 / 4 + 16 / 2), ("fsdp", 2, 14)],
)
def test_weights_that_do_not_train_are_cut_as_parameters_are(stack: str, zero: int, still: float) -> None:
    """24 bytes of dense ones and 16 of experts, frozen or read by no pass, on 4 ranks of which 2 hold the same experts: FSDP cuts
    them from ZeRO 2 on. They have neither gradients nor states."""
    held = content(frozen_bytes=20.0, skipped_bytes=4.0, frozen_expert_bytes=10.0, skipped_expert_bytes=6.0)
    plain = content(skipped_bytes=0.0, skipped_expert_bytes=0.0)
    precision = precisions(job(), framework(stack))
    columns = as_columns(Layout(dp=4, ep=2, zero=zero), 4)  # type: ignore[arg-type]
    shards_from = 2.0 if stack == "fsdp" else 3.0
    with_, without = (model_states(c, columns, precision, factored_width=0.0, shards_from=shards_from) for c in (held, plain))
    assert with_.parameters_bytes[0] - without.parameters_bytes[0] == pytest.approx(still)
    for name in ("gradients_bytes", "optimizer_bytes", "host_bytes", "update_elements"):
        assert getattr(with_, name)[0] == getattr(without, name)[0]


@pytest.mark.parametrize(
    ("layout", "away", "host"),
    [
        # 2 + 4 + 12 bytes a parameter: states go to the host, from ZeRO 2 on the gradients too
        ({"zero": 1, "offload_optimizer": True}, (1, 1, 0), (0, 0, 1)),
        ({"zero": 2, "offload_optimizer": True}, (1, 0, 0), (0, 1, 1)),
        ({"zero": 1}, (1, 1, 1), (0, 0, 0)),
    ],
)
def test_what_the_host_holds_the_gpu_does_not(layout: dict[str, Any], away: tuple[int, ...], host: tuple[int, ...]) -> None:
    """Ren et al. 2021, ZeRO-Offload."""
    bare = content(skipped_bytes=0.0, skipped_expert_bytes=0.0, end_parameters=0.0)
    precision, here = precisions(job(), framework("megatron-core")), {**layout, "offload_optimizer": False}
    usual = model_states(bare, as_columns(Layout(dp=4, **here), 4), precision, factored_width=0.5)
    kinds = [float(getattr(usual, f"{name}_bytes")[0]) for name in ("parameters", "gradients", "optimizer")]
    assert kinds[2] == pytest.approx(12.5 * float(usual.update_elements[0]))
    found = model_states(bare, as_columns(Layout(dp=4, **layout), 4), precision, factored_width=0.5)
    assert [float(getattr(found, f"{name}_bytes")[0]) for name in ("parameters", "gradients", "optimizer")] == [
        keeps * bytes_ for keeps, bytes_ in zip(away, kinds, strict=True)
    ]
    assert float(found.host_bytes[0]) == sum(goes * bytes_ for goes, bytes_ in zip(host, kinds, strict=True))


@pytest.mark.parametrize(("zero", "exposed"), [(0, 8 - 0.75 * 4), (1, 8 - 0.75 * 4 + 16 - 0.75 * 2), (2, 16 - 0.75 * 2), (3, 0)])
def test_of_what_computation_hides_it_loses_its_contention(zero: int, exposed: float) -> None:
    """Sums of 8 s, half of them beside a backward pass of 100 s; gathers of 16 s, a quarter beside a forward of 2 s. A second
    hidden costs computation 0.25. Gradients go once a step under ZeRO 0 and 1, parameters under 1 and 2."""
    sync = SimpleNamespace(
        layouts=SimpleNamespace(zero=np.array([zero])),
        framework=SimpleNamespace(overlap_gradient_reduction=0.5),
        gathers_16=False,
        gather_overlap=0.25,
        contention=0.25,
        reduce_s=lambda dense, expert: np.array([8.0]),
        gather_s=lambda dense, expert: np.array([16.0]),
    )
    nothing = np.zeros(1)
    found = synchronization_s(cast(Any, sync), nothing, nothing, np.array([2.0]), np.array([100.0]))
    assert float(found[0]) == exposed


def test_muon_multiplies_as_its_author_counts() -> None:
    """Five Newton-Schulz steps on a matrix of r x c, r <= c: 4 r^2 c + 2 r^3 each (Jordan 2024), here 512 x 512."""
    asked = Job.build({**job().model_dump(exclude_unset=True), "optimizer": "muon"}, "test")
    stack = framework("megatron-core")
    row = optimizer_row(512.0 * 512.0, 512.0, asked, stack, precisions(asked, stack))
    assert float(np.sum(row.flops)) == 5 * (4 * 512**2 * 512 + 2 * 512**3)


def test_an_extrapolated_interval_is_half_as_wide_again_around_its_own_middle() -> None:
    """Residuals from -0.1 to 0.3, outside what was measured: middle 0.1, half-width 1.5 x 0.2."""
    seen = ResidualClass(
        metric="step_time", rows=20, lower=-0.1, upper=0.3, fewest_gpus=1, most_gpus=8, fewest_parameters=1e9, most_parameters=1e9
    )
    subject = Subject(framework="fsdp", curves="a100", family="dense", num_nodes=1, num_gpus=8, parameters=1e9)
    found = interval(1.0, "step_time", subject, [seen])
    assert (found.lower, found.upper) == pytest.approx((np.exp(-0.2), np.exp(0.4)))
    within = interval(1.0, "step_time", subject, [seen.replaced(framework="fsdp", curves="a100")])
    assert (within.lower, within.upper) == pytest.approx((np.exp(-0.1), np.exp(0.3)))


@pytest.mark.parametrize(("pp", "zero", "bytes_"), [(1, 2, 2800), (1, 3, 1820), (2, 2, 6600), (2, 3, 6600)])
def test_fsdp_keeps_two_layers_gathered_or_in_a_pipeline_all_of_them(pp: int, zero: int, bytes_: float) -> None:
    """16-bit copies of 1,100 parameters, 10 of them at the ends, 300 in the largest layer. ZeRO 2: 2,200 bytes and a layer's
    gradient of 600. ZeRO 3: two layers and the ends, 1,220, and that gradient. A pipeline: all, and 4 bytes of gradient."""
    stack = framework("fsdp")
    columns = as_columns(Layout(dp=2, pp=pp, zero=zero), 2 * pp)  # type: ignore[arg-type]
    found = weight_copies(content(), columns, stack, precisions(job(), stack))
    assert float(found[0]) == bytes_


@pytest.mark.parametrize(
    ("precision", "layout", "frozen", "bytes_"),
    [
        # 16-bit copies of two layers of 300, the ends' 10, a gradient of 300; of frozen weights twice 30 and the ends' 5 bytes
        ("bf16", {"dp": 2, "zero": 3}, True, 2 * (2 * 300 + 10) + 2 * 30 + 5 + 2 * 300),
        ("bf16", {"dp": 2, "zero": 2}, True, 2 * 1100 + 100 + 2 * 300),
        # experts that no other rank shares lie there as they are
        ("bf16", {"dp": 2, "ep": 2, "zero": 3}, False, 2 * (2 * 50 + 10) + 2 * 50),
        # a group of one gathers nothing: whole copies in 16 bit, and none of what is kept as it is computed with
        ("bf16", {"dp": 1, "zero": 3}, False, 2 * 1100 + 2 * 50),
        ("fp32", {"dp": 1, "zero": 3}, False, 0),
        ("fp32", {"dp": 2, "zero": 3}, False, 4 * (2 * 300 + 10) + 4 * 300),
    ],
)
def test_copies_that_fsdp_gathers(precision: str, layout: dict[str, Any], frozen: bool, bytes_: float) -> None:
    stack, still = framework("fsdp"), {"frozen_bytes": 80.0, "frozen_expert_bytes": 20.0} if frozen else {}
    of_layers = {"largest_layer_frozen_bytes": 30.0, "end_frozen_bytes": 5.0}
    columns = as_columns(Layout(**layout), layout["dp"])
    found = weight_copies(content(**still, **of_layers), columns, stack, precisions(job(precision=precision), stack))
    assert float(found[0]) == bytes_


@pytest.mark.parametrize(
    ("layout", "copied", "buckets"),
    [
        ({"dp": 1}, 0, 0),  # nothing is exchanged
        ({"dp": 1, "zero": 1}, 0, 1),  # DeepSpeed has its buckets though
        ({"dp": 2}, 1, 1),
        ({"dp": 2, "zero": 1}, 1, 1),
        ({"dp": 2, "zero": 2}, 0, 1),
    ],
)
def test_buffers_of_an_exchange(layout: dict[str, int], copied: int, buckets: int) -> None:
    """A second copy of 1,100 gradients until they are sharded; a bucket of 5,000 bytes, or of what there is, 18 an element."""
    more = {"library_bytes": 7.0, "extra_parameter_bytes": 0.0, "gradient_buckets_copy": True}
    for size, held in ((5000.0, 5000.0), (1e9, 18.0 * 1100)):
        stack = framework("megatron-core", bucket_bytes=size, **more)
        precision, columns = precisions(job(), stack), as_columns(Layout(**layout), layout["dp"])  # type: ignore[arg-type]
        found = gradient_buffers(content(dummy_bytes=3.0), columns, stack, precision, job())
        assert float(found[0]) == copied * 4 * 1100 + buckets * held + 7 + 3


@pytest.mark.parametrize(("largest", "ends", "share"), [(300, 10, 300 / 1100), (300, 400, 400 / 1100), (5000, 10, 1.0)])
def test_an_optimizer_in_backward_holds_the_gradients_of_one_layer_or_of_the_ends(
    largest: float, ends: float, share: float
) -> None:
    states = States(**{f.name: np.array([2.0**i]) for i, f in enumerate(fields(States))})
    found = _freed_at_once(states, content(largest_layer_parameters=largest, end_parameters=ends))
    freed = {"gradients_bytes", "update_elements"}
    assert {f.name: float(getattr(found, f.name)[0]) for f in fields(States)} == {
        f.name: pytest.approx(2.0**i * (share if f.name in freed else 1.0)) for i, f in enumerate(fields(States))
    }


def moment(optimizer: float, activations: float, pageable: float) -> StageMemory:
    held = {f.name: np.zeros(1) for f in fields(StageMemory)}
    given = {"optimizer_bytes": optimizer, "activations_bytes": activations, "pageable_bytes": pageable, "phase": activations}
    return StageMemory(**{**held, **{name: np.array([value]) for name, value in given.items()}})


def test_the_peak_is_the_fullest_moment_and_of_full_ones_that_which_pages_the_least() -> None:
    """100 bytes and 90: the first, though less of it is firm. Twice 100, whose optimizer states may leave: the firmest."""
    full, less, firm = moment(60.0, 40.0, 60.0), moment(20.0, 70.0, 20.0), moment(10.0, 90.0, 10.0)
    for two in ((full, less), (less, full)):
        assert float(peak(two).total_bytes[0]) == 100.0
    for among in ((full, firm), (firm, full), (less, full, firm)):
        assert float(peak(among).firm_bytes[0]) == 90.0
    plain = (moment(60.0, 40.0, 0.0), moment(10.0, 90.0, 0.0))
    assert float(peak(plain).activations_bytes[0]) == 40.0  # the first of equals
    assert float(peak(plain[::-1]).activations_bytes[0]) == 90.0


def test_each_kind_of_group_of_more_than_one_has_a_communicator() -> None:
    stack = framework("megatron-core", context_bytes=1000.0, communicator_bytes=10.0)
    for degrees, groups in (({}, 0), ({"tp": 2}, 1), ({"pp": 2}, 1), ({"cp": 2}, 1), ({"dp": 2}, 1), ({"dp": 2, "ep": 2}, 2)):
        one = Layout(**{"dp": 1, **degrees})
        assert float(_overhead(as_columns(one, one.tp * one.pp * one.cp * (one.dp or 1)), stack)[0]) == 1000.0 + 10.0 * groups


@pytest.mark.parametrize(
    ("of", "heavier"), [({"position_embedding": "learned", "max_positions": 65536}, 0), ({"num_layers": 5}, 1)]
)
def test_a_pipeline_holds_on_the_host_what_its_heaviest_stage_does(of: dict[str, Any], heavier: int) -> None:
    """The first has a table of positions, or the second the odd layer; its peak is that of the heavier one, too."""
    question = Question(model(LLAMA, tied_embeddings=False, **of), gpus(2), framework("megatron-core"), job())
    columns = as_columns(Layout(pp=2, zero=1, offload_optimizer=True), 2)
    on_host = [float(stage.moments[0].host_bytes[0]) for stage in stage_memory(question, columns)]
    assert on_host[heavier] > on_host[1 - heavier] > 0
    found = evaluate(question, columns)
    assert float(found.memory.host_bytes[0]) == on_host[heavier]


def synchronization(**changes: Any) -> Any:
    """4 ranks shard the dense weights of 8 that hold copies, 2 of 4 the experts; a second hidden costs computation 0.25."""
    layouts = {
        "ranks": np.array([8.0]), "shard_ranks": np.array([4.0]), "expert_ranks": np.array([4.0]), "tp": np.array([2.0]),
        "expert_shard_ranks": np.array([2.0]), "ep": np.array([3.0]), "etp": np.array([5.0]), "zero": np.array([3]),
        "pp": np.array([1]),
    } | changes.pop("layouts", {})  # fmt: skip
    stack = SimpleNamespace(overlap_gradient_reduction=0.25)
    fields_ = {
        "cluster": gpus(8), "framework": stack, "layouts": SimpleNamespace(**layouts), "gather_width": 2.0, "reduce_width": 4.0,
        "contention": 0.25, "kept_width": 4.0, "away": np.zeros(1), "returned_s": np.array([2e-9]), "added_s": np.array([1e-9]),
        "gathers_16": False, "gather_overlap": 0.5,
    }  # fmt: skip
    return Synchronization(**{**fields_, **changes})


BLOCK: Any = SimpleNamespace(
    dense_parameters=np.array([100.0]), expert_parameters=np.array([1000.0]), frozen_dense_bytes=np.array([80.0]),
    frozen_expert_bytes=np.array([60.0]), forward_s=np.array([2.0]), backward_s=np.array([90.0]), recompute_s=np.array([10.0]),
)  # fmt: skip


def test_a_shard_comes_in_from_the_host_and_its_gradients_go_back() -> None:
    """525 of 1,100 parameters: 4 bytes each and 50 of frozen weights in, 2 ns each back, and 1 ns to add each."""
    link = host_link_rate(gpus(8))
    brought, returned, added = from_host_s(synchronization(away=np.ones(1)), BLOCK)
    assert float(brought[0]) == pytest.approx((4 * 525 + 50) / link, rel=1e-12)
    assert float(returned[0]) == pytest.approx(2e-9 * 525, rel=1e-12)
    assert float(added[0]) == pytest.approx(1e-9 * 525, rel=1e-12)
    assert [float(seconds[0]) for seconds in from_host_s(synchronization(), BLOCK)] == [0.0, 0.0, 0.0]


def test_what_shards_exchange_and_with_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dense shards lie a tensor-parallel group apart, experts' an expert group; replicas of a group sum their shards."""
    seen: list[tuple[float, ...]] = []
    prices = {"all_gather": 1.0, "reduce_scatter": 10.0, "all_reduce": 100.0}

    def taken(_: Any, name: str, message: Any, ranks: Any, stride: Any) -> Any:
        seen.append((prices[name], *(float(np.ravel(value)[0]) for value in (message, ranks, stride))))
        return prices[name] * np.asarray(message)

    monkeypatch.setattr(step_time, "collective_s", taken)
    sync, dense, expert = synchronization(), np.array([100.0]), np.array([1000.0])
    assert float(sync.gather_s(dense, expert)[0]) == 200 + 2000
    assert float(sync.gather_s(dense, expert, np.array([80.0]), np.array([60.0]))[0]) == 280 + 2060
    assert float(sync.gather_s(dense, np.zeros(1))[0]) == 200
    assert seen == [(1, 200, 4, 2), (1, 2000, 2, 15), (1, 280, 4, 2), (1, 2060, 2, 15), (1, 200, 4, 2)]
    seen.clear()
    assert float(sync.reduce_s(dense, expert)[0]) == 10 * 400 + 100 * 400 / 4 + 10 * 4000 + 100 * 4000 / 2
    assert seen == [(10, 400, 4, 2), (100, 100, 2, 8), (10, 4000, 2, 15), (100, 2000, 2, 30)]
    assert float(sync.reduce_s(dense, np.zeros(1))[0]) == 10 * 400 + 100 * 400 / 4


@pytest.mark.parametrize(
    ("zero", "keeps", "pp", "seconds"),
    [
        (1, False, 1, 0.0),
        (2, False, 1, 8 - 0.75 * 2),  # a quarter of the sums hides
        (2, True, 1, 16 - 0.75 * 2 + 8 - 0.75 * 2),  # of the gather as much as the forward pass lasts
        (3, False, 1, 16 - 0.75 * 2 + 16 + 8 - 0.75 * (8 + 2)),  # and of the second one half
        (3, True, 1, 16 - 0.75 * 2 + 16 + 8 - 0.75 * (8 + 2)),
        (3, True, 2, 0.0),  # once a step, in a pipeline
    ],
)
def test_gathers_and_sums_of_a_micro_batch_by_hand(
    zero: int, keeps: bool, pp: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gathers of 16 s, sums of 8 s, beside 2 s forward and 100 s backward, of which a second hidden costs 0.25."""
    monkeypatch.setattr(Synchronization, "gather_s", lambda *_: np.array([16.0]))
    monkeypatch.setattr(Synchronization, "reduce_s", lambda *_: np.array([8.0]))
    sync = synchronization(layouts={"zero": np.array([zero]), "pp": np.array([pp])}, gathers_16=keeps)
    exposed, host = sharded_block_s(sync, BLOCK)
    assert (float(exposed[0]), float(host[0])) == (seconds, 0.0)


def test_gathers_beside_adapters_that_are_wrapped_alone_hide_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two gathers of 16 s in full, and sums of 8 s of which a quarter hides at 0.25 a second."""
    monkeypatch.setattr(Synchronization, "gather_s", lambda *_: np.array([16.0]))
    monkeypatch.setattr(Synchronization, "reduce_s", lambda *_: np.array([8.0]))
    assert float(sharded_block_s(synchronization(gather_overlap=0.0), BLOCK)[0][0]) == 16 + 16 + 8 - 0.75 * 2


def test_what_lies_on_the_host_comes_in_before_each_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 + 3 s twice, sums of 8 + 1 s; what the host adds, 5 s, hides nowhere; a block without a backward pass gathers once.

    The host has 3 of 19 s of what a gather exposes, and of the backward pass 3 + 1 of 19 + 9 s.
    """
    monkeypatch.setattr(Synchronization, "gather_s", lambda *_: np.array([16.0]))
    monkeypatch.setattr(Synchronization, "reduce_s", lambda *_: np.array([8.0]))
    monkeypatch.setattr(step_time, "from_host_s", lambda *_: (np.array([3.0]), np.array([1.0]), np.array([5.0])))
    sync = synchronization(away=np.ones(1))
    forward, backward = 19 - 0.75 * 2, 19 + 9 - 0.75 * (9.5 + 2.25)
    exposed, host = (float(seconds[0]) for seconds in sharded_block_s(sync, BLOCK))
    assert host == pytest.approx(forward * 3 / 19 + backward * 4 / 28 + 5)
    assert exposed == pytest.approx(forward * 16 / 19 + backward * 24 / 28)
    still: Any = SimpleNamespace(**{**vars(BLOCK), "backward_s": np.zeros(1), "recompute_s": np.zeros(1)})
    exposed, host = (float(seconds[0]) for seconds in sharded_block_s(sync, still))
    assert host == pytest.approx(forward * 3 / 19 + 9 * 1 / 9 + 5)
    assert exposed == pytest.approx(forward * 16 / 19 + 8)
    one = {"gather_s": lambda *_: np.zeros(1), "reduce_s": lambda *_: np.zeros(1)}
    for name, nothing in one.items():
        monkeypatch.setattr(Synchronization, name, nothing)
    exposed, host = (float(seconds[0]) for seconds in sharded_block_s(sync, BLOCK))
    assert exposed == pytest.approx(0.0)
    assert host == pytest.approx(3 - 0.75 * 1.5 + 3 + 1 - 0.75 * (1.5 + 0.25) + 5)
