"""The harness: what happens to bad cases, killed runs and edited records; a short run, its calibration, its predictions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from made_records import Ticks, session
from typer.testing import CliRunner

from kernels import record as kernel_records
from kernels.__main__ import main
from kernels.models import Step, cpu_steps, gpu_steps
from kernels.session import Case, Session, Skip, Work
from kernels.timing import summarize
from planner.calibration.records import model_from_fields, read_record
from planner.cli.main import app
from planner.common.errors import PlannerError
from planner.model.parameters import parameters_total


@pytest.fixture(autouse=True)
def _one_thread_and_a_clock_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("kernels.clock.now", Ticks(1e-4))  # no case is left out for want of time, however busy the machine
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def case(build: Callable[[Session], Work], dtype: str = "fp32", m: int = 1) -> Case:
    return Case(family="gemm", name="matmul", shape={"m": m, "n": 1, "k": 1, "layout": "nn"}, dtype=dtype, build=build)


def refuse(error: Exception) -> Callable[[Session], Work]:
    def build(_: Session) -> Work:
        raise error

    return build


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (refuse(Skip("no such op")), "no such op"),
        (refuse(torch.OutOfMemoryError("tried to allocate 9 GiB")), "out of memory: tried to allocate 9 GiB"),
        (refuse(RuntimeError("unsupported type\nlong text")), "RuntimeError: unsupported type"),
        (lambda _: Work(run=lambda: None, check=lambda: 0.5), "wrong result: relative error 5.00e-01 above 1e-02"),
        (lambda _: Work(run=lambda: None, check=lambda: float("nan")), "wrong result: relative error nan above 1e-02"),
    ],
)
def test_a_case_that_fails_is_recorded_and_the_rest_goes_on(build: Any, reason: str, tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    made = session(out)
    x = torch.randn(8, 8)
    made.family("gemm", [case(build), case(lambda _: Work(run=lambda: x @ x, flops=1024.0))], 4.0)
    first, second = kernel_records.read(out)["samples"]
    assert (first["status"], first["reason"]) == ("skipped", reason)
    assert second["status"] == "measured"
    assert second["flops_per_s"] == pytest.approx(1024.0 / second["time"]["median_s"])


def test_cases_beyond_the_time_are_skipped_with_that_reason() -> None:
    made = session()
    made.family("gemm", [case(lambda _: Work(run=lambda: None))], -1.0)
    assert "time" in made.record["samples"][0]["reason"]


def test_a_killed_run_leaves_a_valid_record(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    made = session(out)
    made.family("gemm", [case(lambda _: Work(run=lambda: None))], 4.0)
    with pytest.raises(KeyboardInterrupt):
        made.family("memory", [case(lambda _: Work(run=None, extra={}), m=2), case(refuse(KeyboardInterrupt()), m=3)], 1.0)  # type: ignore[arg-type]
    data = kernel_records.read(out)
    assert data["finished"] is False
    assert len(data["samples"]) == 1


def test_a_write_that_fails_leaves_the_old_record_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    made = session(out)
    before = out.read_text()
    with pytest.raises(ValueError, match="JSON"):
        kernel_records.write({**made.record, "budget_s": float("nan")}, out)
    assert out.read_text() == before
    assert list(tmp_path.iterdir()) == [out]


def test_scatter_and_few_repeats_are_marked_as_noise() -> None:
    assert not summarize([1.0, 1.01, 1.02, 0.99, 1.0]).noisy
    assert summarize([1.0, 1.5, 0.7, 2.0, 1.0]).noisy
    assert summarize([1.0]).noisy


def whole(tmp_path: Path) -> dict[str, Any]:
    made = session(tmp_path / "whole.json")
    x = torch.randn(8, 8)
    made.family("gemm", [case(lambda _: Work(run=lambda: x @ x, flops=1024.0)), case(refuse(Skip("why")))], 4.0)
    made.finish()
    return json.loads((tmp_path / "whole.json").read_text())


def edit(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
        target: Any = data
        for part in parents:
            target = target[part]
        if value is None:
            del target[last]
        else:
            target[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (edit("version", 0), "version"), (edit("schema", "other"), "schema"), (edit("device", None), "device"),
        (edit("samples.0.time.median_s", None), "median_s"), (edit("samples.0.flops", "many"), "flops"),
        (edit("samples.0.status", "done"), "status"), (edit("samples.0.flops", 2048.0), "checksum"),
        (edit("samples.0.extra", {"new": 1}), "checksum"), (edit("device.name", "another"), "checksum"),
        (edit("samples.1.surprise", 1), "surprise"), (edit("budget_s", -1.0), "budget_s|checksum"),
        (edit("device.memory_bytes", "24 GB"), "memory_bytes"),
    ],
)  # fmt: skip
def test_old_foreign_and_edited_records_are_refused_by_field(change: Any, word: str, tmp_path: Path) -> None:
    data = whole(tmp_path)
    change(data)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(data))
    with pytest.raises(kernel_records.RecordError, match=word):
        kernel_records.read(path)
    with pytest.raises(PlannerError, match=word):
        read_record(path)


@pytest.mark.parametrize("text", ["", '{"schema": "planner kernel rec', "[1, 2]", "\x00\x01"])
def test_files_that_are_no_records_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(kernel_records.RecordError, match=r"record\.json"):
        kernel_records.read(path)
    with pytest.raises(PlannerError, match=r"record\.json"):
        read_record(path)
    result = CliRunner().invoke(app, ["calibrate", str(path), "-o", str(tmp_path / "x.toml")])
    assert isinstance(result.exception, PlannerError)
    assert not (tmp_path / "x.toml").exists()


def test_whole_records_are_read_alike_by_both_sides(tmp_path: Path) -> None:
    data = whole(tmp_path)
    assert kernel_records.read(tmp_path / "whole.json") == data
    record = read_record(tmp_path / "whole.json")
    assert record.device.name == data["device"]["name"]
    assert [s.status for s in record.samples] == ["measured", "skipped"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--only", "gem"], "gemm"), (["--out", "/no/such/folder/r.json"], "folder"), (["--threads", "0"], "threads"),
        (["--clock", "cpu", "--threads", "2", "--device", "cpu"], "--threads 1"),
        *([] if torch.cuda.is_available() else [(["--device", "cuda"], "no GPU")]),
    ],
)  # fmt: skip
def test_bad_commands_end_with_one_line(arguments: list[str], word: str, tmp_path: Path, capsys: Any) -> None:
    assert main(["run", "--out", str(tmp_path / "r.json"), *arguments]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()


def test_a_short_run_measures_checks_and_prints(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    """On a clock that its own looks move: what is measured within the budget is the same on every machine."""
    monkeypatch.setattr("kernels.clock.now", Ticks(2e-3))
    out = tmp_path / "record.json"
    only = "memory,gemm,attention,elementwise,grouped_gemm,optimizer,moe,dispatch,copies,out_of_memory,collectives"
    assert main(["run", "--out", str(out), "--device", "cpu", "--budget", "8s", "--only", only, "--threads", "1"]) == 0
    record = read_record(out)
    measured = {s.family for s in record.samples if s.status == "measured"}
    assert measured == {"memory", "gemm", "attention", "elementwise", "grouped_gemm", "optimizer", "moe", "dispatch"}
    for sample in record.samples:
        if sample.status == "measured" and sample.time is not None:
            assert sample.time.repeats >= 5
            assert sample.family not in ("gemm", "moe") or sample.error is not None, "timed without a check"
        assert not sample.reason.startswith(("wrong result", "RuntimeError", "TypeError")), sample
    assert main(["show", str(out)]) == 0
    assert "TFLOP/s" in capsys.readouterr().out


def test_the_harness_needs_torch_and_numpy_only() -> None:
    unwanted = ("planner", "pydantic", "rich", "scipy", "pandas")
    code = f"import sys, kernels.__main__, kernels.runner; print([m for m in {unwanted} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("steps", [gpu_steps, cpu_steps])
def test_steps_cover_what_a_calibration_must_be_tested_on(steps: Callable[[], list[Step]]) -> None:
    found = steps()
    held_out = [s for s in found if s.role == "validate"]
    assert len(held_out) >= 12
    assert len({s.label for s in found}) == len(found)
    for choose in (
        lambda s: s.model.num_experts,
        lambda s: s.seq_len,
        lambda s: s.micro_batch_size,
        lambda s: s.model.hidden_size,
        lambda s: s.model.num_layers,
        lambda s: s.recompute,
        lambda s: s.attention,
    ):
        assert len({choose(s) for s in held_out}) >= 2
    sizes = [parameters_total(model_from_fields(s.model.fields(), s.label)) for s in held_out]
    if steps is gpu_steps:
        assert min(sizes) < 1.5e8
        assert max(sizes) > 2.9e9
        assert {8, 64} <= {s.model.num_experts for s in held_out}
