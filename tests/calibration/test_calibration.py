"""From a record to profiles to predictions: a short real one, a committed one, and made-up ones whose answer is known."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_records import Ticks, as_record, fake, session
from places import DATA, ROOT
from typer.testing import CliRunner

from kernels import record as kernel_records
from kernels.__main__ import main
from kernels.families.training import make_trainer, saved_bytes, training_case
from kernels.models import Step, decoder, experts, gpu_steps
from planner.calibration.calibrate import BOUNDS, calibrate, step_seconds
from planner.calibration.comparison import _saved, compare_record, summary
from planner.calibration.profiles import write_profiles
from planner.calibration.records import Sample, read_record, read_records, record_runs
from planner.cli.main import app
from planner.common.errors import PlannerError
from planner.hardware.cluster import Accelerator, load_accelerator, load_node
from planner.hardware.curves import load_curves
from planner.performance.evaluation import evaluate
from planner.workload.framework import Framework, load_framework
from planner.workload.layout import as_columns

CPU_RECORD = DATA / "cpu-record.json"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_saved_bytes_of_a_whole_model_equal_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step(label="x", model=decoder(3, 128, 4, 2, 352, 512, **experts(8, 2, 96)), seq_len=64, micro_batch_size=2)
    trainer = make_trainer(step, "fp32", torch.device("cpu"))
    trainer.run()
    monkeypatch.setattr("kernels.clock.now", Ticks(0.1))
    made = session()
    made.family("training", [training_case(step, made)], 1.0)
    (sample,) = made.record["samples"]
    assert sample["extra"]["saved_bytes"] == saved_bytes(trainer)
    record = as_record(made)
    runs, _ = record_runs(record, load_accelerator("cpu"))
    (row,) = _saved(record, runs)
    assert row.predicted == pytest.approx(row.measured, rel=0.01)


TICKING = """
import itertools

from kernels import clock
from kernels.__main__ import main

ticks = itertools.count()
clock.now = lambda: 0.01 * next(ticks)
raise SystemExit(main())
"""
"""The harness by a clock that moves at every look: the budget counts work, and no machine is too slow for it."""


def test_collectives_under_torchrun_become_links(tmp_path: Path) -> None:
    """Two gloo ranks: every collective right before it is timed, bus bandwidth as nccl-tests define it, a link fitted to it."""
    out, harness = tmp_path / "two.json", tmp_path / "harness.py"
    harness.write_text(TICKING)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(harness), "run"]
    command += ["--out", str(out), "--device", "cpu", "--threads", "1", "--budget", "6s", "--only", "collectives"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    record = read_record(out)
    assert record.ranks == 2
    samples = record.measured("collectives")
    factors = {
        "all_reduce": 1.0,
        "all_gather": 0.5,
        "reduce_scatter": 0.5,
        "all_to_all": 0.5,
        "p2p": 1.0,
    }  # doc/PERFORMANCE.md, n = 2
    assert {sample.name for sample in samples} == set(factors), [s.reason for s in record.samples]
    for sample in samples:
        assert sample.time is not None
        assert sample.extra["bus_bytes_per_s"] == pytest.approx(sample.bytes * factors[sample.name] / sample.time.median_s)
    alone = session(tmp_path / "alone.json")
    with_kernels(alone)
    kernel_records.write(alone.record, tmp_path / "alone.json")
    both = read_records([tmp_path / "alone.json", out])
    found = calibrate(both, "two")
    assert found.node.num_gpus == 2
    assert set(found.node.links[0].collectives) == set(factors)


def test_what_a_fit_may_find_is_what_curves_and_frameworks_may_hold() -> None:
    """Either bound of every fitted constant is a value of its field."""
    base, stack = load_curves("h100"), load_framework("kernels")
    for name, bounds in BOUNDS.items():
        for value in bounds:
            held = stack.replaced(**{name: value}) if name.startswith("host") else base.replaced(**{name: value})
            assert getattr(held, name) == value


def test_as_many_samples_as_constants_fit_nothing() -> None:
    """Two constants of a copy go through two points whatever they are: three are needed."""
    for number, fitted in ((2, False), (3, True)):
        made = session()
        for size in (2**14, 2**22, 2**26)[:number]:
            made.record["samples"].append(fake("memory", "copy", {"bytes": size}, 3e-6 + 2e-11 * size, 0.0, 2.0 * size))
        found = calibrate(with_kernels(made, copies=()), "few")
        assert ("memory_fraction" in found.measured) is fitted, number


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("grows", [0.0, -0.3, 1.0], ids=["latency alone", "long ones faster", "a wire"])
def test_any_noise_of_messages_gives_a_link_near_what_they_reached(grows: float, seed: int) -> None:
    """Messages of a busy machine may show no wire at all: the rate is then within a factor of the fastest that was seen."""
    noise = np.random.default_rng(seed)
    made = session()
    made.record |= {"ranks": 2}
    reached = 0.0
    for message in (2**10, 2**14, 2**18, 2**20):
        seconds = 1e-3 * (message / 2**10) ** grows * float(np.exp(noise.normal(0.0, 1.0)))
        reached = max(reached, message / seconds)
        made.record["samples"].append(
            fake("collectives", "all_reduce", {"bytes": message, "ranks": 2}, seconds, 0.0, float(message))
        )
    link = calibrate(with_kernels(made), "two").node.links[0]
    assert reached / 4.001 <= link.bytes_per_s <= reached * 4.001


def with_kernels(made: Any, copies: tuple[int, ...] = (2**14, 2**18, 2**22, 2**26)) -> Any:
    """The session as a record, with the products and copies that a profile needs."""
    for m in (64, 256, 1024, 4096):
        for n, k in ((256, 256), (1024, 1024)):
            shape = {"m": m, "n": n, "k": k, "layout": "nt"}
            made.record["samples"].append(fake("gemm", "matmul", shape, 2.0 * m * n * k / 1e12 + 1e-6, 2.0 * m * n * k, 1.0))
    for size in copies:
        made.record["samples"].append(fake("memory", "copy", {"bytes": size}, 3e-6 + 2e-11 * size, 0.0, 2.0 * size))
    return as_record(made)


@pytest.mark.parametrize(
    ("seen", "doubtful"),
    [
        ({}, False),
        ({"clock_reasons": ["software power cap"], "processes": 1}, False),
        ({"clock_reasons": ["hardware thermal slowdown"]}, True),
        ({"clock_reasons": [], "processes": 2}, True),
    ],
)
def test_a_hot_or_shared_device_is_believed_less(seen: dict[str, Any], doubtful: bool) -> None:
    """A power cap is the card as it is; heat, a failing supply and other processes are not."""
    sample = fake("gemm", "matmul", {"m": 8, "n": 8, "k": 8, "layout": "nt"}, 1e-3, 1024.0, 1.0)
    assert Sample.model_validate(kernel_records.seal({**sample, "extra": {"seen": seen}})).doubtful is doubtful


def test_a_tensor_parallel_step_is_a_layout_of_the_planner() -> None:
    made = session()
    step = Step(label="x", model=decoder(2, 64, 4, 2, 96, 64), seq_len=32, micro_batch_size=4)
    shape = {**step.fields("fp32"), "ranks": 2, "dp": 1, "zero": 0, "ep": 1, "tp": 2}
    made.record["samples"].append(fake("distributed_steps", "tensor parallel", shape, 0.1, 0.0, 1.0))
    made.record["ranks"] = 2
    card = load_accelerator("h100-sxm5-80gb")
    (run,), refused = record_runs(as_record(made), card, load_node("dgx-h100"))
    assert not refused
    assert (run.layouts[0].tp, run.layouts[0].dp) == (2, 1)
    assert run.job.global_batch_size == 4, "both ranks train on the same sequences"
    assert step_seconds(run) > 0


def tiny_steps() -> list[Step]:
    """Six steps of a few milliseconds: two to fit, four to predict."""
    a, b = decoder(2, 128, 4, 4, 352, 512), decoder(3, 64, 4, 2, 192, 512)
    moe = decoder(2, 96, 4, 4, 256, 512, **experts(4, 2, 128))
    return [
        Step(label="a", model=a, seq_len=64, micro_batch_size=2, role="fit"),
        Step(label="moe", model=moe, seq_len=64, micro_batch_size=4, role="fit"),
        Step(label="a, long", model=a, seq_len=256, micro_batch_size=1),
        Step(label="b", model=b, seq_len=64, micro_batch_size=4),
        Step(label="moe, recompute", model=moe, seq_len=64, micro_batch_size=2, recompute="full"),
        Step(label="a, two", model=a, seq_len=64, micro_batch_size=1, num_microbatches=2),
    ]


def test_record_calibration_prediction(tmp_path: Path, monkeypatch: Any) -> None:
    """The whole way in short: it must work and be sane; how exact it is, a record of minutes shows (docs/guide/calibrate.md)."""
    out, profile = tmp_path / "record.json", tmp_path / "my-cpu.toml"
    monkeypatch.setattr("kernels.families.training.cpu_steps", tiny_steps)
    ticks = itertools.count()
    monkeypatch.setattr("kernels.clock.now", lambda: 0.01 * next(ticks))  # the budget counts work: no CPU is too slow for it
    only = "memory,gemm,training,attention,grouped_gemm"
    command = ["run", "--out", str(out), "--device", "cpu", "--budget", "6s", "--only", only, "--threads", "1", "--clock", "cpu"]
    assert main(command) == 0
    result = CliRunner().invoke(app, ["calibrate", str(out), "-o", str(profile)])
    assert result.exit_code == 0, result.output
    card, node = load_accelerator(str(profile)), load_node(str(tmp_path / "my-cpu-node.toml"))
    assert card.kernel_curves is not None
    assert card.kernel_curves["matmul_peak_fraction"]["kind"] == "measured"
    runs, _ = record_runs(read_record(out), card, node, role="validate")
    assert len(runs) == 4
    for run in runs:
        assert run.step_time_s is not None
        assert 1 / 4 < step_seconds(run) / run.step_time_s < 4
    result = CliRunner().invoke(app, ["validate", str(out), "--json", "--plot", str(tmp_path / "plot.png")])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["metrics"]["step_time_s"]["rows"] == 4
    assert answer["metrics"]["saved_bytes"]["worst"] < 0.02  # the table of angles counts in models so small
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(
        f'[model]\nname = "gpt2"\n[cluster]\nnode = "{node.name}.toml"\n[framework]\nname = "my-cpu-framework.toml"\n'
        '[job]\nseq_len = 128\nglobal_batch_size = 2\nnum_steps = 10\nprecision = "fp32"\n[layout]\nmicro_batch_size = 1\n'
    )
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["plan", str(scenario), "--json"])
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["cluster"]["accelerator"] == "my-cpu"


def test_calibration_gives_back_the_constants_behind_made_up_samples() -> None:
    """Samples computed from known constants must yield predictions equal to the samples: the fit itself is exact."""
    made = session()
    record = made.record
    peak, bandwidth = 1e12, 1e11
    for m in (64, 256, 1024, 4096):
        for n, k in ((256, 256), (1024, 1024), (4096, 512)):
            seconds = 5e-6 + 2.0 * (k + 100.0) * (m * n + 1e4) / (0.8 * peak) + 4.0 * (m * k + k * n + m * n) / (0.9 * bandwidth)
            record["samples"].append(
                fake(
                    "gemm",
                    "matmul",
                    {"m": m, "n": n, "k": k, "layout": "nt"},
                    seconds,
                    2.0 * m * n * k,
                    4.0 * (m * k + k * n + m * n),
                )
            )
    for size in (2**14, 2**18, 2**22, 2**26):
        record["samples"].append(fake("memory", "copy", {"bytes": size}, 3e-6 + 2.0 * size / (0.7 * bandwidth), 0.0, 2.0 * size))
    found = calibrate(as_record(made), "made-up")
    assert {fit.name.split(",")[0] for fit in found.fits} == {"matrix multiply", "memory"}
    assert all(fit.worst < 0.02 for fit in found.fits)


@pytest.mark.parametrize("name", ["Tesla V100-SXM2-16GB", "NVIDIA GeForce RTX 3090"])
def test_what_a_group_costs_the_host_is_found_where_the_library_loops(name: str, tmp_path: Path) -> None:
    """25 us a group and 40 us a call, where the device is not the slower one; a mixture of many experts then takes that long."""
    made = session()
    card = load_accelerator({"T": "v100-sxm2-16gb", "N": "rtx-3090-24gb"}[name[0]])
    made.record["device"] |= {"kind": "cuda", "name": name, "memory_bytes": card.memory_bytes}
    for experts_, tokens in itertools.product((8, 64), (16, 64, 256, 1024)):
        for n, k in ((4096, 2048), (2048, 2048)):
            flops = 2.0 * experts_ * tokens * n * k
            seconds = max(4e-5 + 2.5e-5 * experts_, flops / (0.6 * card.peak_flops_per_s["fp16"]))
            shape = {"experts": experts_, "tokens_per_expert": tokens, "n": n, "k": k, "spread": "balanced"}
            sample = {**fake("grouped_gemm", "grouped_mm", shape, seconds, flops, 1.0), "dtype": "fp16"}
            made.record["samples"].append(kernel_records.seal({**sample, "extra": {"kernel": "loop", "groups": experts_}}))
    found = calibrate(as_record(made), "loops")
    assert found.framework.host_s_per_group == pytest.approx(2.5e-5, rel=0.2)
    assert "host_s_per_group" in found.measured
    assert not any(fit.name.startswith("grouped") for fit in found.fits), "a loop says nothing of one kernel for all groups"
    paths = write_profiles(found, tmp_path / "loops.toml")
    assert load_framework(str(paths[2])).host_s_per_group == pytest.approx(found.framework.host_s_per_group)
    step = Step(label="x", model=decoder(2, 256, 4, 4, 512, 512, **experts(64, 2, 128)), seq_len=64, micro_batch_size=1)
    stack = {"framework": "kernels", "grouped_experts": True, "grouped_kernel": "loop"}
    sample = {**fake("training", "training step", step.fields("fp16"), 1.0, 0.0, 1.0), "extra": {"stack": stack}}
    record = as_record(made).model_copy(update={"samples": [Sample.model_validate(kernel_records.seal(sample))]})
    quick, slow = (
        step_seconds(record_runs(record, card, None, found.framework.replaced(host_s_per_group=s))[0][0]) for s in (1e-5, 6e-5)
    )
    products = 2 * 3 * 64 * 2  # up with gate, and down; forward and two gradients; 64 experts in each of two layers
    assert slow - quick == pytest.approx(products * 5e-5, rel=0.2)


def test_steps_measured_on_a_cpu_are_predicted() -> None:
    """Five minutes on one core of an AMD EPYC: eight steps and more that nothing was fitted to, median 10 %, worst 30 %; their
    intervals hold four of five."""
    found = summary(compare_record(CPU_RECORD).rows)
    assert found["step_time_s"]["rows"] >= 8
    assert found["step_time_s"]["median"] <= 0.10
    assert found["step_time_s"]["worst"] <= 0.30
    assert found["step_time_s"]["inside_interval"] >= 0.8
    assert found["saved_bytes"]["worst"] <= 0.01


def made_up_gpu_record(card: Accelerator, stack: Framework) -> Any:
    """What an H200 would record if the planner with ``card`` and ``stack`` were right, 1 % of noise on top."""
    made, noise = session(), np.random.default_rng(0)
    made.record["device"] |= {"kind": "cuda", "name": "NVIDIA H200", "memory_bytes": 150e9}
    dispatch = fake("dispatch", "autograd linear", {"elements": 64}, 1e-3, 0.0, 1.0)
    made.record["samples"].append(kernel_records.seal({**dispatch, "extra": {"host_s_per_kernel": 6e-6}}))
    empty = as_record(made)
    for step in gpu_steps():
        shape = step.fields(step.precision or "bf16")
        found = {
            "framework": "kernels",
            "attention_kernel": step.attention,
            "fused_norm": True,
            "repeats_kv_heads": step.attention == "eager",
            "grouped_experts": step.experts == "auto",
        }
        sample = fake("training", "training step", shape, 1.0, 0.0, 1.0)
        sample = kernel_records.seal({**sample, "extra": {"stack": found}})
        (run,), _ = record_runs(empty.model_copy(update={"samples": [Sample.model_validate(sample)]}), card, None, stack)
        columns = as_columns(list(run.layouts), 1)
        memory = float(evaluate(run.question, columns).memory.allocated_bytes[0])
        seconds = step_seconds(run) * float(np.exp(noise.normal(0.0, 0.01)))
        sample = fake("training", "training step", shape, seconds, 0.0, 1.0)
        extra = {"stack": found, "peak_allocated_bytes": memory, "peak_reserved_bytes": 1.04 * memory}
        made.record["samples"].append(kernel_records.seal({**sample, "extra": extra}))
    return made


def test_calibration_of_a_gpu_finds_clocks_bandwidth_and_host_time(tmp_path: Path) -> None:
    """From a catalog card whose training clocks, memory and host differ: the fit must find them from the steps alone."""
    base = load_accelerator("h200-sxm-141gb")
    curves = load_curves("h200").model_copy(update={"sustained_fraction": 0.8, "memory_fraction": 0.75})
    card = base.model_copy(update={"kernel_curves": curves.model_dump(exclude={"provenance", "name", "notes"})})
    made = made_up_gpu_record(card, load_framework("kernels").replaced(host_s_per_kernel=9e-6))
    path = tmp_path / "gpu.json"
    kernel_records.write(made.record, path)
    found = compare_record(path)
    assert found.calibration is not None
    fitted = found.calibration.accelerator.kernel_curves
    assert fitted is not None
    assert fitted["sustained_fraction"] == pytest.approx(0.8, rel=0.1)
    assert fitted["memory_fraction"] == pytest.approx(0.75, rel=0.1)
    assert found.calibration.framework.fragmentation == pytest.approx(0.04, abs=0.001)
    errors = summary(found.rows)
    assert errors["step_time_s"]["rows"] >= 12
    assert errors["step_time_s"]["median"] < 0.03
    assert errors["peak_allocated_bytes"]["worst"] < 1e-6
    paths = write_profiles(found.calibration, tmp_path / "h200.toml")
    again = compare_record(path, *(str(p) for p in paths))
    for one, other in zip(found.rows, again.rows, strict=True):
        assert one.predicted == pytest.approx(other.predicted, rel=1e-9), "the profile on disk is the calibration"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--base", "h2000"], "--base.*h200"), (["--base", "h200"], "too few samples"), ([], "no gemm or no memory")],
)
def test_calibration_of_nothing_is_refused(arguments: list[str], word: str, tmp_path: Path) -> None:
    made, path = session(), tmp_path / "record.json"
    kernel_records.write(made.record, path)
    result = CliRunner().invoke(app, ["calibrate", str(path), "-o", str(tmp_path / "x.toml"), *arguments])
    assert isinstance(result.exception, PlannerError)
    assert re.search(word, str(result.exception))
    assert list(tmp_path.iterdir()) == [path]
