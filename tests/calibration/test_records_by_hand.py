"""Records, field by field: what is read, what is refused, which run a sample is; intervals and sums worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_records import as_record, fake, session
from pydantic import BaseModel, ValidationError

from kernels import record as kernel_records
from kernels.models import Step, decoder, encoder, experts
from kernels.transformer import Choices, ModelConfig, build
from planner.calibration.calibrate import Fit, calibrate
from planner.calibration.comparison import Row, Spread, _noise, _row, _spread, compared, summary
from planner.calibration.records import (
    Device,
    Record,
    Sample,
    Time,
    model_from_fields,
    read_record,
    read_records,
    record_of,
    record_runs,
    single_node,
)
from planner.calibration.sample_tables import EXTRAS, SHAPES, Extra, Seen
from planner.calibration.sample_tables import Step as StepShape
from planner.common.errors import PlannerError
from planner.common.limits import LARGEST
from planner.evidence.predictions import Prediction
from planner.hardware.cluster import load_accelerator, load_node
from planner.model.parameters import parameters_total
from planner.workload.framework import load_framework

CARD = load_accelerator("h100-sxm5-80gb")
MODEL = decoder(2, 64, 4, 2, 96, 64)
STEP = Step(label="a step", model=MODEL, seq_len=32, micro_batch_size=4, num_microbatches=3, recompute="full")
PRODUCT = fake("gemm", "matmul", {"m": 8, "n": 8, "k": 8, "layout": "nt"}, 1e-3, 1024.0, 1.0)
TIME = {"minimum_s": 1.0, "p10_s": 1.0, "median_s": 1.0, "p90_s": 1.0, "repeats": 1, "noisy": False}
DEVICE = {"kind": "cpu", "name": "A chip", "memory_bytes": 1.0, "num_threads": 1, "before": {}, "after": {}}
SHAPE = {
    "gemm": {"m": 1, "n": 1, "k": 1, "layout": "nt"},
    "memory": {"bytes": 1},
    "copies": {"bytes": 1, "pinned": True},
    "attention": {"batch": 1, "seq_len": 1, "heads": 1, "head_dim": 1, "causal": True},
    "grouped_gemm": {"experts": 1, "tokens_per_expert": 1, "n": 1, "k": 1, "spread": "balanced"},
    "collectives": {"bytes": 1, "ranks": 1},
    "training": STEP.fields("bf16"),
    "serving": {"label": "a layer", "model": MODEL.fields(), "phase": "decode", "sequences": 1, "tokens": 1},
}
EXTRA: dict[str, dict[str, Any]] = {
    "dispatch": {"host_s_per_kernel": 1e-6}, "training": {}, "out_of_memory": {"largest_micro_batch_size": 1},
}  # fmt: skip


def accepts(table: type[BaseModel], good: dict[str, Any], field: str, value: Any) -> bool:
    try:
        table.model_validate({**good, field: value})
    except ValidationError:
        return False
    return True


TOKENS, BATCH, GPUS = (LARGEST[field][0] for field in ("job.seq_len", "serving.batch", "cluster.num_gpus"))
BEYOND = [
    *((SHAPES["gemm"], SHAPE["gemm"], field, 1, 2**40) for field in "mnk"),
    *((SHAPES["grouped_gemm"], SHAPE["grouped_gemm"], field, 1, 2**40) for field in ("experts", "tokens_per_expert", "n", "k")),
    (SHAPES["memory"], SHAPE["memory"], "bytes", 1, 2**40),
    (SHAPES["attention"], SHAPE["attention"], "batch", 1, BATCH),
    (SHAPES["attention"], SHAPE["attention"], "seq_len", 1, TOKENS),
    (SHAPES["attention"], SHAPE["attention"], "heads", 1, 2**40),
    (SHAPES["collectives"], SHAPE["collectives"], "ranks", 1, GPUS),
    (SHAPES["training"], SHAPE["training"], "seq_len", 1, TOKENS),
    (SHAPES["training"], SHAPE["training"], "micro_batch_size", 1, BATCH),
    (SHAPES["training"], SHAPE["training"], "lora_rank", 0, 2**20),
    (SHAPES["training"], SHAPE["training"], "tp", 1, GPUS),
    (SHAPES["training"], SHAPE["training"], "zero", 0, 3),
    (Seen, {}, "processes", 0, None),
    (EXTRAS["dispatch"], EXTRA["dispatch"], "host_s_per_kernel", None, 1e7),
    (EXTRAS["training"], EXTRA["training"], "saved_bytes", 0.0, 1e18),
    (EXTRAS["out_of_memory"], EXTRA["out_of_memory"], "smallest_that_fails", 1, BATCH),
    (Time, TIME, "repeats", 1, None),
    (Sample, PRODUCT, "flops", 0.0, 1e30),
    (Sample, PRODUCT, "bytes", 0.0, 1e18),
    (Sample, PRODUCT, "flops_per_s", None, 1e24),
    (Sample, PRODUCT, "error", 0.0, None),
    (Device, DEVICE, "memory_bytes", None, 1e18),
    (Device, DEVICE, "num_threads", 1, None),
    (Device, DEVICE, "num_devices", 0, None),
    (Device, DEVICE, "num_sms", 1, None),
    (Device, DEVICE, "ranks_per_node", 1, None),
]  # fmt: skip
"""Table, a good row of it, a field, its least and its most; no least: above 0, and then anything."""


@pytest.mark.parametrize(("table", "good", "field", "least", "most"), BEYOND, ids=lambda x: x if isinstance(x, str) else "")
def test_a_number_is_read_up_to_its_bounds(table: Any, good: dict[str, Any], field: str, least: Any, most: Any) -> None:
    whole = isinstance(least, int)
    if least is None:
        assert accepts(table, good, field, 1e-12)
        assert not accepts(table, good, field, 0.0)
    else:
        assert accepts(table, good, field, least)
        assert not accepts(table, good, field, least - 1 if whole else -1e-12)
    if most is not None:
        assert accepts(table, good, field, most)
        assert not accepts(table, good, field, most + 1 if whole else math.nextafter(most, math.inf))
    assert not accepts(table, good, field, str(least))
    assert not accepts(table, good, field, math.inf)


def test_whole_records_have_some_time_and_some_ranks() -> None:
    made = session().record
    for field, good, bad in (("ranks", 1, 0), ("budget_s", 1e-6, 0.0)):
        assert accepts(Record, kernel_records.seal(made), field, good)
        assert not accepts(Record, kernel_records.seal(made), field, bad)


def test_what_was_measured_cannot_be_changed() -> None:
    record = as_record(session())
    sample = Sample.model_validate(PRODUCT)
    for one, field in ((record, "ranks"), (record.device, "name"), (sample, "dtype"), (sample.time, "median_s")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(one, field, getattr(one, field))
    assert Device.model_validate({**DEVICE, "cores": 8}).model_extra == {"cores": 8}, "a device may say more"
    assert not accepts(Sample, PRODUCT, "colour", "red")


@pytest.mark.parametrize(
    ("times", "good"),
    [
        ({}, True),
        ({"minimum_s": 1.0 + 5e-10}, True),  # printed numbers round
        ({"minimum_s": 1.0 + 1e-8}, False),
        ({"minimum_s": 0.5, "p90_s": 2.0}, True),
        ({"p10_s": 1.1, "minimum_s": 0.5}, False),
        ({"p90_s": 0.9}, False),
    ],
)
def test_quantiles_are_in_order(times: dict[str, float], good: bool) -> None:
    assert accepts(Time, {**TIME, **times}, "noisy", True) is good


def test_fields_that_are_absent_are_what_readers_take_them_for() -> None:
    """A harness that leaves out what is usual writes the same run, as quiet, of the same kernel."""
    least = {k: v for k, v in STEP.fields("bf16").items() if StepShape.model_fields.get(k, None) is None or k not in DEFAULTS}
    full = StepShape.model_validate(least).model_dump()
    assert full.keys() > least.keys()
    runs = [record_runs(of(fake("training", "training step", shape, 1.0, 0.0, 1.0)), CARD)[0] for shape in (least, full)]
    assert runs[0] == runs[1]
    said = {**Extra().model_dump(), "seen": Seen().model_dump()}
    plain, spoken = (Sample.model_validate(kernel_records.seal({**PRODUCT, "extra": extra})) for extra in ({}, said))
    assert plain.doubtful is spoken.doubtful is False
    assert calibrate(with_copies({}), "x").accelerator == calibrate(with_copies(said), "x").accelerator
    assert Device.model_validate(DEVICE).num_devices == 1


DEFAULTS = ("role", "lora_rank", "ranks", "tp", "ep", "zero")


def of(*samples: dict[str, Any], **fields: Any) -> Record:
    made = session()
    made.record |= {"samples": [kernel_records.seal(s) for s in samples], **fields}
    found: Record = as_record(made)
    return found


def with_copies(extra: dict[str, Any]) -> Record:
    copies = [fake("memory", "copy", {"bytes": 2**power}, 1e-6 + 2.0**power / 1e10, 0.0, 2.0**power) for power in (14, 20, 26)]
    return of({**PRODUCT, "extra": extra}, *copies)


def test_samples_that_have_a_time_are_measured() -> None:
    record = of(
        PRODUCT,
        {**PRODUCT, "status": "skipped", "time": None, "reason": "no time"},
        {**PRODUCT, "status": "skipped"},
        {**PRODUCT, "time": None},
        fake("memory", "copy", {"bytes": 8}, 1.0, 0.0, 1.0),
    )
    assert record.measured("gemm") == record.samples[:1]


def test_what_was_edited_is_told_where() -> None:
    record = kernel_records.seal({**session().record, "samples": [PRODUCT, PRODUCT]})
    assert record_of(record, "r").samples[1].flops == 1024.0
    skipped = kernel_records.seal({**PRODUCT, "family": "dispatch", "shape": {}, "status": "skipped", "time": None})
    assert record_of(kernel_records.seal({**record, "samples": [skipped]}), "r").samples, "no extra where nothing was measured"
    for changed, words in (
        ({"budget_s": 11.0}, "^r: checksum"),
        ({"samples": [PRODUCT, {**PRODUCT, "flops": 1e3}]}, r"^r: samples\.1: checksum"),
        ({"schema": "another"}, "schema = 'another'"),
        ({"version": 2}, "version = 2"),
    ):
        with pytest.raises(PlannerError, match=words):
            record_of({**record, **changed}, "r")
    odd = {"extra": {"seen": 3}}
    places = (
        (r"samples\.0\.shape", {"shape": {"m": 0}}),
        (r"samples\.0\.extra", odd),
        (r"samples\.0\.extra", {**odd, "family": "x"}),
    )
    for words, more in places:  # of a family that is not read, what every sample may say
        sample = kernel_records.seal({**PRODUCT, **more})
        with pytest.raises(PlannerError, match=words):
            record_of(kernel_records.seal({**record, "samples": [sample]}), "r")


def test_records_of_one_device_are_one_and_of_two_none(tmp_path: Path) -> None:
    def write(name: str, /, **fields: Any) -> Path:
        made = session()
        made.record |= {"samples": [kernel_records.seal({**PRODUCT, "name": name})], "ranks": fields.pop("ranks", 1)}
        made.record["device"] |= {"name": "A chip"} | fields
        kernel_records.write(made.record, tmp_path / f"{name}.json")
        return tmp_path / f"{name}.json"

    a, b, c = write("a"), write("b", ranks=8), write("c", ranks=4)
    found = read_records([a, b, c])
    assert ([s.name for s in found.samples], found.ranks) == (["a", "b", "c"], 8)
    assert read_records([a]) == read_record(a)
    for paths in ([a, a], [a, b, a], [b, a, a]):
        with pytest.raises(PlannerError, match="same record"):
            read_records(paths)
    for other in (write("d", name="Another"), write("e", kind="cuda")):
        with pytest.raises(PlannerError, match=rf"{other.name}: device.name.*as in .*a\.json"):
            read_records([a, b, other])


# --- the run that a sample is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        MODEL,
        decoder(3, 64, 4, 2, 96, 64, tied_embeddings=True, **experts(4, 2, 32, shared=1, num_dense_layers=1)),
        decoder(2, 64, 4, 4, 96, 64, **experts(4, 1, 32)),
        encoder(2, 64, 4, 128),
    ],
    ids=["dense", "shared experts", "experts", "encoder"],
)
def test_the_planner_counts_the_weights_of_the_harness(config: ModelConfig) -> None:
    model = build(config, Choices(), "cpu", torch.float32)
    assert parameters_total(model_from_fields(config.fields(), "x")) == sum(p.numel() for p in model.parameters())


def test_a_step_is_a_run_of_its_batch_and_layout() -> None:
    """3 micro-batches of 4 on each of 4 of the 8 ranks; two by two share their sequences."""
    shape = {**STEP.fields("bf16"), "ranks": 8, "tp": 2, "ep": 4, "zero": 1, "lora_rank": 0}
    step = {**fake("distributed_steps", "ddp", shape, 0.25, 0.0, 1.0), "extra": {"peak_allocated_bytes": 5e9}}
    node = load_node("dgx-h100")
    (run,), _ = record_runs(of(step), CARD, node)
    layout = run.layouts[0]
    assert (layout.tp, layout.dp, layout.ep, layout.zero, layout.micro_batch_size, layout.recompute) == (2, 4, 4, 1, 4, "full")
    assert (run.job.global_batch_size, run.job.seq_len, run.job.precision) == (48, 32, "bf16")
    assert (run.id, run.step_time_s, run.memory_bytes, run.out_of_memory) == ("a step (ddp)", 0.25, {"allocated": 5e9}, False)
    assert run.cluster.num_gpus == 8
    assert run.columns["role"] == "validate"
    assert run.job.adapter is None


def test_adapters_of_a_step_have_its_rank() -> None:
    (run,), _ = record_runs(of(fake("training", "training step", {**STEP.fields("bf16"), "lora_rank": 1}, 1.0, 0.0, 1.0)), CARD)
    assert run.job.adapter is not None
    assert (run.job.kind, run.job.adapter.rank, run.id, run.memory_bytes) == ("lora", 1, "a step", {})


def test_a_probe_is_the_batch_that_ran_and_the_one_that_did_not() -> None:
    probe = fake("out_of_memory", "largest", {**STEP.fields("bf16"), "num_microbatches": 1}, 1.0, 0.0, 1.0)
    ran = {"largest_micro_batch_size": 6, "smallest_that_fails": 7, "peak_allocated_bytes": 7e10}
    runs, _ = record_runs(of({**probe, "extra": ran}), CARD)
    assert [(r.layouts[0].micro_batch_size, r.job.global_batch_size, r.out_of_memory) for r in runs] == [
        (6, 6, False),
        (7, 7, True),
    ]
    assert [(r.id, r.memory_bytes, r.step_time_s) for r in runs] == [
        ("a step (largest): 6", {"allocated": 7e10}, None), ("a step (largest): 7", {}, None),
    ]  # fmt: skip
    assert len(record_runs(of({**probe, "extra": {**ran, "smallest_that_fails": None}}), CARD)[0]) == 1


def test_runs_are_of_the_role_that_is_asked_for() -> None:
    shape = STEP.fields("bf16")
    roles = {"a": {"role": "fit"}, "b": {"role": "validate"}, "c": {}}
    samples = []
    for label, role in roles.items():
        plain = {k: v for k, v in shape.items() if k != "role"}
        samples.append(fake("training", "training step", {**plain, "label": label, **role}, 1.0, 0.0, 1.0))
    skipped = {**samples[1], "status": "skipped", "time": None, "reason": "out of memory"}
    odd = {**samples[1], "shape": {**samples[1]["shape"], "label": "d", "precision": "int3"}}
    record = of(*samples, PRODUCT, skipped, odd)
    for role, ids in (("fit", ["a"]), ("validate", ["b", "c"]), (None, ["a", "b", "c"])):
        runs, refused = record_runs(record, CARD, role=role)
        assert [run.id for run in runs] == ids
        assert [r.id for r in refused] == ([] if role == "fit" else ["b", "d"])
    assert "out of memory" in str(refused[0].reason)


def test_a_steps_software_is_what_it_says() -> None:
    """Fields of the stack over a framework of the catalog, or over the one that was calibrated."""
    said = {**fake("training", "training step", STEP.fields("bf16"), 1.0, 0.0, 1.0)}
    said["extra"] = {"stack": {"framework": "torchtitan", "fused_norm": False}}
    own = load_framework("kernels").replaced(host_s_per_kernel=3e-5)
    catalog, calibrated = (record_runs(of(said), CARD, None, stack)[0][0].framework for stack in (None, own))
    assert (catalog.name, catalog.fused_norm) == ("torchtitan", False)
    assert (calibrated.name, calibrated.host_s_per_kernel, calibrated.fused_norm) == ("kernels", 3e-5, False)
    bare = record_runs(of(fake("training", "training step", STEP.fields("bf16"), 1.0, 0.0, 1.0)), CARD)[0][0].framework
    assert bare.name == "kernels"


def test_a_node_of_one_joins_nothing() -> None:
    node = single_node(CARD)
    assert (node.num_gpus, [link.span for link in node.links]) == (1, [1])


# --- intervals ----------------------------------------------------------------------------------------------------------------


def test_scatter_is_that_of_a_normal_distribution() -> None:
    """Its 10 and 90 % quantiles lie 2.5631 standard deviations apart; none where nothing was timed."""
    scattered = {**PRODUCT, "time": {**TIME, "minimum_s": 1.0, "p10_s": 2.0, "median_s": 4.0, "p90_s": 5.0}}
    assert _noise(Sample.model_validate(scattered)) == pytest.approx(3.0 / 2.5631 / 4.0, rel=1e-4)
    assert _noise(Sample.model_validate({**PRODUCT, "time": None})) == 0.0


def test_an_interval_is_as_wide_as_spread_and_scatter_together() -> None:
    """30 degrees of freedom: t = 1.6973 (NIST handbook, 1.3.6.7.2); scatter beside it 1.645 of a normal one."""
    known = 1.6973 * 0.1 * math.sqrt(1 + 1 / 31)
    assert Spread(sigma=0.1, freedom=30.0).half_width(0.2) == pytest.approx(math.hypot(known, 1.645 * 0.2), rel=1e-4)
    time, memory = (predicted(metric) for metric in ("step_time_s", "peak_allocated_bytes"))
    row, half = _row(time, Spread(sigma=0.1, freedom=30.0), 0.2), math.hypot(known, 1.645 * 0.2)
    assert (row.lower, row.upper) == pytest.approx((2.0 * math.exp(-half), 2.0 * math.exp(half)), rel=1e-4)
    row = _row(memory, Spread(sigma=9.0, freedom=2.0), 9.0)
    assert (row.lower, row.upper) == pytest.approx((2.0 * math.exp(-0.0329), 2.0 * math.exp(0.0329)), rel=1e-6)


def predicted(metric: Any) -> Prediction:
    words = {"provenance": "", "why": "", "group": "", "recompute": "none"}
    return Prediction(id="a", metric=metric, measured=1.0, predicted=2.0, lower=0.0, upper=9.0, fits=True, **words)


def test_spread_is_that_of_the_steps_that_were_left_out() -> None:
    """Root of the mean square, of three errors on; two percent at least; a fifth where there are fewer."""
    record, made = with_copies({}), calibrate(with_copies({}), "x")
    for errors, sigma, freedom in (
        ((0.1, -0.2, 0.2), math.sqrt(0.03), 2.0),
        ((0.01, -0.01, 0.01, 0.01), 0.02, 3.0),
        ((0.5, 0.5), 0.2, 30.0),
    ):
        fits = (*made.fits, Fit(name="training steps used to fit", samples=len(errors), median=0.0, worst=0.0, left_out=errors))
        found = _spread(record, made.accelerator, None, made.framework, replace(made, fits=fits))
        assert (found.sigma, found.freedom) == pytest.approx((sigma, freedom))


def test_spread_by_a_profile_from_elsewhere_is_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the steps to fit as they are: predicted as 1 s, measured as 1.1, 1.2 and 0.8."""
    monkeypatch.setattr("planner.calibration.comparison.step_seconds", lambda run: 1.0)
    steps = [
        fake("training", "training step", {**STEP.fields("bf16"), "label": str(s), "role": role}, s, 0.0, 1.0)
        for s, role in ((1.1, "fit"), (1.2, "fit"), (0.8, "fit"), (9.0, "validate"))
    ]
    found = _spread(of(*steps), CARD, None, load_framework("kernels"), None)
    assert found.sigma == pytest.approx(math.sqrt((math.log(1.1) ** 2 + math.log(1.2) ** 2 + math.log(0.8) ** 2) / 3))
    assert found.freedom == 2.0


def test_a_summary_counts_each_metric_by_itself() -> None:
    def row(metric: str, predicted: float, lower: float, upper: float) -> Row:
        return Row(id="x", metric=metric, measured=10.0, predicted=predicted, lower=lower, upper=upper)

    rows = [row("a", 11.0, 10.0, 12.0), row("a", 8.0, 7.0, 10.0), row("b", 10.0, 9.0, 11.0), row("a", 14.0, 10.5, 16.0)]
    found = summary(rows)
    assert list(found) == ["a", "b"]
    assert found["a"] == pytest.approx({"rows": 3.0, "median": 0.2, "worst": 0.4, "bias": 0.1, "inside_interval": 2 / 3})
    assert found["b"]["rows"] == 1.0
    assert rows[0].to_dict()["error"] == pytest.approx(0.1)


def test_profiles_come_from_one_calibration_or_are_all_given() -> None:
    record = with_copies({})
    for given in ({"node": "dgx-h100"}, {"framework": "kernels"}):
        with pytest.raises(PlannerError, match="go with --accelerator"):
            compared(record, "x", **given)
    many = record.model_copy(update={"ranks": 2})
    with pytest.raises(PlannerError, match="2 ranks: give --node"):
        compared(many, "x", accelerator="h100-sxm5-80gb")
    with pytest.raises(PlannerError, match="no training step"):
        compared(many, "x", accelerator="h100-sxm5-80gb", node="dgx-h100")
    steps = of(fake("training", "training step", STEP.fields("bf16"), 1.0, 0.0, 1.0))
    rows = compared(steps, "x", accelerator="h100-sxm5-80gb").rows
    assert [row.metric for row in rows] == ["step_time_s"]
    assert np.isfinite([rows[0].lower, rows[0].upper]).all()
