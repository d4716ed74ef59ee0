"""What may go wrong while measuring: leaks, crashes, hangs, full memory, other torch versions, ranks that fail, private data."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from made_records import Ticks, session
from places import PATIENCE_S
from step_memory import LiveBytes
from torch.utils.checkpoint import checkpoint

from kernels import apart, device, distributed, faults, power, probes
from kernels import record as records
from kernels.__main__ import main
from kernels.case import Case, Work
from kernels.families.out_of_memory import bracketed
from kernels.families.training import kernel_table, make_trainer, saved_bytes
from kernels.faults import DeviceLost, Skip, out_of_memory, scrubbed
from kernels.models import Step, decoder, experts
from kernels.moe_layer import MoEConfig, MoELayer
from kernels.session import Session
from kernels.supervisor import LOST, supervise

ROOT = Path(__file__).resolve().parents[2]


def step(**changes: Any) -> Step:
    fields = {"label": "x", "model": decoder(2, 64, 4, 4, 128, 256), "seq_len": 32, "micro_batch_size": 2, **changes}
    return Step(**fields)


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_counting_saved_bytes_leaves_nothing_behind(recompute: Any) -> None:
    """A saved output that is kept with its graph would hold every activation for ever (issue of the first review)."""
    trainer = make_trainer(step(recompute=recompute), "fp32", torch.device("cpu"))
    trainer.run()
    weights = {p.untyped_storage()._cdata for p in trainer.model.parameters()}
    with LiveBytes() as live:
        assert saved_bytes(trainer) > 0
        assert not live.live.keys() - weights


def test_a_first_question_inside_a_recomputed_region_changes_nothing_there() -> None:
    """What torch can do here is found by products with gradients: in a recomputed region they would be saved, once."""
    probes.forget()
    layer = MoELayer(MoEConfig(hidden_size=16, num_experts=4, top_k=2, expert_hidden_size=16))
    x = torch.randn(8, 16, requires_grad=True)
    y, _ = checkpoint(layer, x, use_reentrant=False)
    y.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2 GiB", "CUDA error: out of memory", "HIP out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "NCCL Error 1: unhandled cuda error; last error: Failed to CUDA calloc async 608 bytes",
    ],
)  # fmt: skip
def test_memory_runs_out_in_many_clothes(text: str) -> None:
    assert out_of_memory(RuntimeError(text))
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not out_of_memory(ValueError(text)), "no library says so by a ValueError"


def test_work_apart_returns_its_result_or_says_how_it_ended(monkeypatch: Any, tmp_path: Path) -> None:
    module = tmp_path / "odd_tasks.py"
    module.write_text(
        "import os, signal, time\n"
        "def good(n): return {'twice': 2 * n}\n"
        "def bad(n): raise ValueError(f'{n} is odd')\n"
        "def crash(n): os.kill(os.getpid(), signal.SIGSEGV)\n"
        "def hang(n): time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    runner = tmp_path / "sitecustomize.py"
    names = {name: f"odd_tasks:{name}" for name in ("good", "bad", "crash", "hang")}
    runner.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport kernels.apart as a\na.TASKS |= {names!r}\n")
    script = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]; import kernels.apart as a; "
    script += f"a.TASKS |= {names!r}; a.main(sys.argv[1:])"
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **more: real([command[0], "-c", script, *command[3:]], **more))
    assert apart.run_apart("good", {"n": 4}, PATIENCE_S) == {"twice": 8}
    with pytest.raises(apart.Failed, match="ValueError: 3 is odd"):
        apart.run_apart("bad", {"n": 3}, PATIENCE_S)
    with pytest.raises(apart.Failed, match="SIGSEGV"):
        apart.run_apart("crash", {"n": 1}, PATIENCE_S)
    with pytest.raises(apart.Failed, match="did not end within 1 s"):
        apart.run_apart("hang", {"n": 1}, 1.0)


def test_a_probe_that_fails_apart_leaves_the_dangerous_kernels_unused(monkeypatch: Any) -> None:
    def failed(*arguments: Any) -> None:
        raise apart.Failed("crashed with signal 11 (SIGSEGV)")

    monkeypatch.setattr(apart, "run_apart", failed)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(probes, "_norm", lambda device: False)
    probes.forget()
    found = probes.found("cuda", torch.bfloat16)
    probes.forget()
    assert found["grouped_mm"] == "the probe crashed with signal 11 (SIGSEGV)"
    assert found["shared_kv_heads"] is False


class Worker:
    """A process that has ended, or hangs."""

    def __init__(self, code: int | None) -> None:
        self.code, self.killed, self.signals = code, False, list[int]()

    def poll(self) -> int | None:
        return 130 if self.signals else self.code

    def kill(self) -> None:
        self.killed, self.code = True, -9

    def wait(self) -> int:
        return 130 if self.signals else -9

    def send_signal(self, number: int, /) -> None:
        self.signals.append(number)


def marked_record(out: Path, limit_s: float = 600.0) -> dict[str, Any]:
    made = session(out)
    case = {"family": "gemm", "name": "matmul", "shape": {"m": 1}, "dtype": "bf16"}
    records.mark(out, {**case, "limit_s": limit_s})
    return made.record


@pytest.mark.parametrize(("code", "reason"), [(LOST, "the device was lost"), (-11, "SIGSEGV"), (None, "did not end")])
def test_a_case_that_ends_its_process_is_skipped_and_the_rest_goes_on(code: int | None, reason: str, tmp_path: Path) -> None:
    out, started = tmp_path / "record.json", list[list[str]]()
    marked_record(out, limit_s=600.0 if code else -1.0)

    def start(more: list[str]) -> Worker:
        started.append(more)
        return Worker(code if len(started) == 1 else 0)

    assert supervise(start, out, poll_s=0.0) == 0
    assert started == [[], ["--resume"]]
    (sample,) = records.read(out)["samples"]
    assert reason in sample["reason"]
    assert list(tmp_path.iterdir()) == [out]


def test_a_device_that_never_comes_back_ends_the_run(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    session(out)
    assert supervise(lambda more: Worker(LOST), out, poll_s=0.0) == LOST


def test_ctrl_c_lets_the_worker_save(tmp_path: Path, monkeypatch: Any) -> None:
    worker = Worker(None)

    def pressed(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", pressed)
    assert supervise(lambda more: worker, tmp_path / "record.json") == 130
    assert worker.signals == [signal.SIGINT]


def test_a_record_is_not_destroyed_by_a_second_run(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "record.json"
    made = session(out)
    made.finish()
    before = out.read_text()
    assert main(["run", "--out", str(out), "--device", "cpu", "--only", "compile"]) == 2
    said = capsys.readouterr().err
    assert "--resume" in said
    assert "--overwrite" in said
    assert out.read_text() == before


def gemm(m: int, run: Any = lambda: None) -> Case:
    return Case(family="gemm", name="matmul", shape={"m": m}, dtype="fp32", build=lambda _: Work(run=run))


def resumed(earlier: dict[str, Any]) -> Session:
    return Session(torch.device("cpu"), 10.0, None, ["test"], earlier=earlier)


def test_a_resumed_run_measures_what_is_missing_only(monkeypatch: Any) -> None:
    monkeypatch.setattr("kernels.clock.now", Ticks(1e-4))
    first, ran = session(), list[int]()
    first.family("gemm", [gemm(1), gemm(2)], 5.0)
    first.family("gemm", [gemm(3)], -1.0)  # no time
    second = resumed(records.seal(first.record))
    second.family("gemm", [gemm(m, lambda m=m: ran.append(m)) for m in (1, 2, 3)], 5.0)
    assert set(ran) == {3}
    assert [(s["shape"]["m"], s["status"]) for s in second.record["samples"]] == [(m, "measured") for m in (1, 2, 3)]
    assert second.record["device"]["resumed"] == 1
    assert second.elapsed_s > first.record["device"]["elapsed_s"] > 0


def test_nothing_measured_is_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    assert main(["run", "--out", str(out), "--device", "cpu", "--only", "out_of_memory,copies", "--threads", "1"]) == 1
    assert records.read(out)["finished"]


def test_the_probe_of_the_largest_micro_batch_keeps_to_its_time(monkeypatch: Any) -> None:
    clock = Ticks(0.0)
    monkeypatch.setattr("kernels.clock.now", clock)
    tries = list[int]()

    def attempt(size: int) -> int | None:
        tries.append(size)
        clock.now_s += 10.0
        return 100 * size if size <= 37 else None

    whole = bracketed(1e6, 20, attempt)
    assert (whole.fits, whole.fails, whole.peak_bytes) == (37, 38, 3700)
    for guess in (1, 37, 38, 200):
        assert (found := bracketed(1e6, guess, attempt)).fits == 37, guess
        assert found.fails == 38
    tries.clear()
    short = bracketed(35.0, 20, attempt)
    assert len(tries) == 3, "the fourth would have ended after 40 s"
    assert short.fits <= 37 < (short.fails or 38)


@pytest.mark.parametrize("largest", [1, 2, 3, 64, 4096])
def test_the_limit_is_found_from_every_guess(largest: int) -> None:
    for guess in (1, 3, 70, 4096):
        found = bracketed(1e9, guess, lambda size: size if size <= largest else None)
        assert found.fits <= largest
        assert found.fits >= 0.97 * largest
        assert largest == 4096 or found.fits < found.fails <= 1.03 * largest + 1


def test_compiling_beyond_its_time_is_given_up(monkeypatch: Any) -> None:
    from kernels.families.dispatch import compiled

    def over(task: str, given: Any, timeout_s: float) -> Any:
        raise apart.Failed(f"did not end within {timeout_s:.0f} s")

    monkeypatch.setattr(apart, "run_apart", over)
    monkeypatch.setattr("kernels.clock.now", Ticks())
    made = session()
    made.family("compile", compiled(made), 4.0)
    (sample,) = made.record["samples"]
    assert sample["reason"] == "torch.compile did not end within 4 s"


def test_a_rank_that_fails_takes_the_others_out_of_the_case() -> None:
    """No rank waits for another in a collective that it never reaches: the parts of a case end together."""

    class Others:
        def number(self, value: int) -> int:
            return value

        def problem(self, problem: str) -> str:
            return problem or next(answers)

    answers = iter(["", "rank 1: out of memory: tried 2 GiB", "rank 1: out of memory: tried 2 GiB"])
    made = Session(torch.device("cpu"), 10.0, None, ["test"], ranks=2, agree=Others())
    ran: list[int] = []
    made.family("gemm", [gemm(1, lambda: ran.append(1))], 5.0)
    (sample,) = made.record["samples"]
    assert sample["reason"] == "rank 1: out of memory: tried 2 GiB"
    assert not ran


def test_torch_without_distributed_measures_one_device(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    monkeypatch.delattr(torch.distributed, "is_initialized")
    assert distributed.start("cpu") == torch.device("cpu")
    assert distributed.Agreement(torch.device("cpu")).problem("why") == "why"
    distributed.stop()


def test_ranks_without_distributed_are_refused_in_one_line(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["run", "--out", str(tmp_path / "r.json"), "--device", "cpu"]) == 2
    assert "torch.distributed" in capsys.readouterr().err


def test_where_the_driver_spills_torch_refuses(monkeypatch: Any) -> None:
    """On Windows and in its Linux a step that does not fit would be measured over PCIe."""
    said: list[float] = []
    monkeypatch.setattr("platform.release", lambda: "5.15.167.4-microsoft-standard-WSL2")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda d: (6, 8))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda f, d: said.append(f))
    device.forbid_spilling(torch.device("cuda", 0))
    assert said == [pytest.approx(0.7125)]


def test_python_3_10_and_old_torch_can_read_the_harness() -> None:
    """Python 3.10 parses all of it and finds each name: datetime.UTC, Self and StrEnum came with 3.11."""
    for path in (ROOT / "kernels").rglob("*.py"):
        tree = ast.parse(path.read_text(), feature_version=(3, 10))
        names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
        assert not names & {"UTC", "Self", "StrEnum", "tomllib", "ExceptionGroup", "assert_never"}, path


def test_old_torch_has_its_own_out_of_memory_error() -> None:
    code = "import torch; del torch.OutOfMemoryError; from kernels import faults; print(faults.OutOfMemory.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "OutOfMemoryError"


def test_records_name_no_path_host_or_serial(tmp_path: Path, monkeypatch: Any) -> None:
    """What may be shared: the record of a run with private settings and an error message with a path."""
    import socket

    monkeypatch.setenv("NCCL_DEBUG_FILE", str(tmp_path / "secret.log"))
    monkeypatch.setenv("NCCL_TOPO_FILE", "/etc/nccl/topology.xml")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-11111111-2222-3333-4444-555555555555")
    monkeypatch.setenv("NCCL_IB_HCA", "mlx5_0")
    monkeypatch.setattr("kernels.clock.now", Ticks(1e-4))
    out = tmp_path / "private" / "record.json"
    out.parent.mkdir()

    def broken(_: Session) -> Work:
        raise OSError(f"cannot open {Path.home()}/data/x.so and {tmp_path}/y.so")

    monkeypatch.setattr(
        "kernels.families.gemm.cases",
        lambda s: [Case(family="gemm", name="matmul", shape={"m": 1}, dtype="fp32", build=broken), gemm(2)],
    )
    from kernels import runner

    family = runner.FAMILIES["gemm"]
    monkeypatch.setitem(runner.FAMILIES, "gemm", type(family)(what="", cases=runner.gemm.cases, weight=1))
    assert main(["run", "--out", str(out), "--device", "cpu", "--only", "gemm"]) == 0
    text = out.read_text()
    assert "mlx5_0" in text
    for word in (str(tmp_path), str(Path.home()) + "/", "secret", "topology", "11111111", "private"):
        assert word not in text, word
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)
    assert "y.so" in text


def test_paths_are_reduced_to_their_last_part() -> None:
    assert scrubbed("error in /opt/x/y.py: no") == "error in y.py: no"
    assert scrubbed(r"error in C:\Users\ann\y.py") == "error in y.py"
    assert scrubbed("no path: 3/4 of max_split_size_mb:128") == "no path: 3/4 of max_split_size_mb:128"


def test_a_meter_reads_under_load_and_names_what_failed(monkeypatch: Any) -> None:
    readings = [
        {"sm_clock_hz": 1.9e9, "power_w": 300.0, "temperature_c": 60, "clock_reasons": ["idle"]},
        {"sm_clock_hz": 1.2e9, "power_w": 500.0, "temperature_c": 71, "clock_reasons": ["software power cap"]},
        {"sm_clock_hz": 1.8e9, "power_w": 400.0, "temperature_c": 70, "clock_reasons": []},
    ]
    found = power.summarized(readings)
    assert found["sm_clock_hz"] == 1.8e9
    assert found["lowest_sm_clock_hz"] == 1.2e9
    assert found["power_w"] == pytest.approx(400.0)
    assert found["temperature_c"] == 71
    assert found["clock_reasons"] == ["software power cap"]
    meter = power.PowerMeter(torch.device("cpu"))
    meter._nvml = type("Old", (), {"nvmlDeviceGetCurrentClocksThrottleReasons": staticmethod(lambda h: 0x44)})()
    assert meter.reading()["clock_reasons"] == ["software power cap", "hardware thermal slowdown"]
    assert meter.failed["nvmlDeviceGetCurrentClocksEventReasons"] == "AttributeError"


def test_a_profile_becomes_a_table_of_kernels() -> None:
    class Event:
        def __init__(self, key: str, kind: str, count: int, seconds: float) -> None:
            self.key, self.device_type, self.count = key, f"DeviceType.{kind}", count
            self.self_device_time_total = self.self_cpu_time_total = seconds * 1e6

    events = [Event("gemm", "CUDA", 3, 2.0), Event("aten::mm", "CPU", 3, 9.0)]
    events += [Event(f"k{i:03d}", "CUDA", 1, 0.001) for i in range(100)]
    table = kernel_table(events, cuda=True)
    assert table[0] == ["gemm", 3, pytest.approx(2.0)]
    assert table[-1] == ["others", 41, pytest.approx(0.041)]
    assert sum(row[2] for row in table) == pytest.approx(2.1)
    assert kernel_table(events, cuda=False)[0][0] == "aten::mm"


def test_a_lost_device_is_told_from_a_full_one(monkeypatch: Any) -> None:
    def says(text: str) -> Any:
        def ones(*arguments: Any, **more: Any) -> Any:
            raise RuntimeError(text)

        return ones

    monkeypatch.setattr(torch, "ones", says("CUDA error: out of memory"))
    faults.check_alive(torch.device("cuda", 0))
    monkeypatch.setattr(torch, "ones", says("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(DeviceLost, match="illegal"):
        faults.check_alive(torch.device("cuda", 0))


def test_shared_experts_on_a_second_stream_are_the_same_function() -> None:
    """On a CPU there are no streams: the option must not change a number."""
    torch.manual_seed(0)
    made = MoELayer(MoEConfig(hidden_size=16, num_experts=4, top_k=2, expert_hidden_size=16, num_shared_experts=1))
    beside = MoELayer(
        MoEConfig(hidden_size=16, num_experts=4, top_k=2, expert_hidden_size=16, num_shared_experts=1, shared_stream=True)
    )
    beside.load_state_dict(made.state_dict())
    x = torch.randn(8, 16)
    torch.testing.assert_close(made(x)[0], beside(x)[0])


def test_a_step_trains_with_the_chosen_balance_loss_and_theta() -> None:
    model = decoder(2, 64, 4, 4, 128, 256, **experts(4, 2, 64))
    losses = []
    for changes in ({}, {"balance_loss": "variation"}, {"theta": 500000.0}):
        torch.manual_seed(0)
        trainer = make_trainer(step(model=model, **changes), "fp32", torch.device("cpu"))
        torch.manual_seed(1)
        losses.append(float(trainer.run()))
    assert len(set(losses)) == 3


def test_settings_of_the_environment_are_recorded(monkeypatch: Any) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    monkeypatch.setenv("NCCL_ALGO", "Ring")
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    found = json.dumps(device.environment())
    assert "expandable_segments:True" in found
    assert "Ring" in found
    assert "abc" not in found
    assert os.environ["SECRET_TOKEN"] == "abc"
    assert Skip("x").args == ("x",)
