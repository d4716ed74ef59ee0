"""``planner measure``: from records to one page; what is measured before is not measured again; intervals from left-out steps."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from made_records import session
from places import DATA
from scipy.optimize import least_squares

from kernels import record as kernel_records
from kernels.families import gemm
from kernels.families import grouped as grouped_gemm
from kernels.runner import Unusable, products
from planner.calibration.calibrate import Calibration, calibrate, leverage
from planner.calibration.comparison import Spread
from planner.calibration.measuring import Options, gain, harness_command, measured, shares
from planner.calibration.records import Record
from planner.common.errors import PlannerError
from planner.hardware.cluster import load_accelerator
from planner.reports.measured import page, save_picture

CPU_RECORD = DATA / "cpu-record.json"


class Harness:
    """Stands for ``python -m kernels run``: writes the stored record of a CPU where it is told to."""

    def __init__(self, code: int = 0) -> None:
        self.code, self.commands = code, list[list[str]]()

    def __call__(self, command: list[str], environment: Mapping[str, str]) -> int:
        self.commands.append(command)
        assert environment["PYTHONPATH"]
        if self.code == 0:
            shutil.copy(CPU_RECORD, command[command.index("--out") + 1])
        return self.code


@cache
def fitted(text: str, name: str, base: str | None) -> Calibration:
    return calibrate(Record.model_validate_json(text), name, base)


@pytest.fixture
def fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what stands around a fit that takes seconds: the same record is not fitted again."""
    monkeypatch.setattr(
        "planner.calibration.measuring.calibrate", lambda record, *more: fitted(record.model_dump_json(by_alias=True), *more)
    )


def test_one_command_measures_calibrates_and_tells(fitted_once: None, tmp_path: Path) -> None:
    harness = Harness()
    found = measured(tmp_path, Options(device="cpu", threads=1, clock="cpu", budget="5m"), harness)
    (command,) = harness.commands
    assert command[:4] == [sys.executable, "-m", "kernels", "run"]
    for part in ("--resume", "--device cpu", "--threads 1", "--clock cpu", "--budget 5m"):
        assert part in " ".join(command)
    assert gain(found).steps >= 8
    assert gain(found).before is None
    save_picture(tmp_path / "measured.png", found)
    text = page(found, "measured.png")
    assert gain(found).sentence() in text
    assert found.profiles[0].is_file()
    assert {s.what for s in shares(found)} >= {"matrix multiply, fp32", "memory"}
    assert (tmp_path / "measured.png").stat().st_size > 10_000
    for step in ("dense 384 wide", "MoE 4 x top 1, 1 shared"):
        assert step in text
    again = measured(tmp_path, Options(), harness)
    assert len(harness.commands) == 1, "a finished record is not measured again"
    assert gain(again) == gain(found)


def test_before_and_after_on_a_card_of_the_catalog(tmp_path: Path) -> None:
    data = json.loads(CPU_RECORD.read_text())
    memory = load_accelerator("h200-sxm-141gb").memory_bytes
    data["device"] |= {"kind": "cuda", "name": "NVIDIA H200", "num_devices": 1, "memory_bytes": memory}
    for sample in data["samples"]:
        sample["extra"].pop("saved_bytes", None)
        sample["checksum"] = kernel_records.checksum(sample)

    def harness(command: list[str], environment: Mapping[str, str]) -> int:
        kernel_records.write(data, Path(command[command.index("--out") + 1]))
        return 0

    found = measured(tmp_path, Options(), harness)
    before = gain(found).before
    assert before is not None
    assert before > 0.5, "an H200's data sheet does not describe a CPU"
    assert f"The catalog was {before:.1%} off" in page(found, "x.png")
    assert {s.what: s.peak for s in shares(found)}["memory"] == pytest.approx(4.8e12, rel=0.01)


def test_several_gpus_are_measured_together_too(tmp_path: Path) -> None:
    data = json.loads(CPU_RECORD.read_text())
    data["device"] |= {"kind": "cuda", "name": "NVIDIA H200", "num_devices": 8}
    seen: list[list[str]] = []

    def harness(command: list[str], environment: Mapping[str, str]) -> int:
        seen.append(command)
        if len(seen) == 2:
            return 2
        kernel_records.write(data, Path(command[command.index("--out") + 1]))
        return 0

    with pytest.raises(PlannerError, match="record-x8"):
        measured(tmp_path, Options(budget="10m"), harness)
    assert "torch.distributed.run --standalone --nproc-per-node 8 -m kernels run" in " ".join(seen[1])
    assert "--budget 240s" in " ".join(seen[1])


def test_a_harness_that_cannot_measure_says_how_to_start_it_alone(tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match=r"code 2.*-m kernels run"):
        measured(tmp_path, Options(), Harness(2))
    with pytest.raises(PlannerError, match="--python"):
        measured(tmp_path, Options(python="/no/such/python"))


def test_a_device_alone_has_the_whole_budget() -> None:
    alone = harness_command(Path("r.json"), Options(budget="10m", device="cpu", threads=2))
    assert alone[alone.index("--budget") + 1] == "10m"
    assert alone[alone.index("--device") + 1] == "cpu"
    assert "torch.distributed.run" not in alone
    assert harness_command(Path("r.json"), Options(budget="10m"), 2).count("torch.distributed.run") == 1


def test_two_nodes_are_told_how_to_meet() -> None:
    command = " ".join(harness_command(Path("r.json"), Options(), 8, nodes=2))
    assert "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint HOST:29500 --nproc-per-node 8" in command


def test_the_door_writes_the_page(fitted_once: None, tmp_path: Path, run: Run, monkeypatch: Any) -> None:
    monkeypatch.setattr("planner.calibration.measuring._started", Harness())
    out = tmp_path / "box"
    code, printed, err = run("measure", "--out", out, "--json")
    assert code == 0, err
    answer = json.loads(printed)
    assert answer["gain"]["steps"] >= 8
    assert (out / "measured.md").read_text().startswith("# AMD EPYC")
    code, _, err = run("measure", "--out", CPU_RECORD)
    assert code == 2
    assert "folder" in err


def test_leverage_is_what_leaving_one_out_really_does() -> None:
    """For a linear fit the PRESS residual is exact: it equals the error of a fit without the sample."""
    noise = np.random.default_rng(1)
    x = np.column_stack([np.ones(8), noise.normal(size=8)])
    y = noise.normal(size=8)

    def fitted(rows: Any) -> Any:
        return least_squares(lambda p: x[rows] @ p - y[rows], np.zeros(2))

    whole = fitted(np.arange(8))
    press = (x @ whole.x - y) / (1.0 - leverage(whole.jac))
    for i in range(8):
        rest = np.delete(np.arange(8), i)
        assert press[i] == pytest.approx(float(x[i] @ fitted(rest).x - y[i]), rel=1e-5)


def test_few_steps_make_wide_intervals() -> None:
    """Student's t with 4 degrees of freedom: 2.132; a prediction of one more value: sqrt(1 + 1/5) (NIST handbook 7.2.3)."""
    assert Spread(sigma=0.05, freedom=4.0).half_width(0.0) == pytest.approx(2.132 * 0.05 * np.sqrt(1.2), rel=1e-3)
    assert Spread(sigma=0.05, freedom=4.0).half_width(0.1) > 1.645 * 0.1


def test_products_of_the_users_plan_are_measured_and_kept(fitted_once: None, tmp_path: Path, run: Run, monkeypatch: Any) -> None:
    """Shapes of the scenario go to the harness; a finished record is gone on with when it lacks them."""
    scenario = tmp_path / "mine.toml"
    scenario.write_text(
        '[model]\nname = "gpt2"\n[cluster]\nnode = "dgx-h100"\nnum_gpus = 1\n'
        '[job]\nseq_len = 512\nglobal_batch_size = 2\nnum_steps = 10\nprecision = "bf16"\n[layout]\nmicro_batch_size = 2\n'
    )
    harness = Harness()
    monkeypatch.setattr("planner.calibration.measuring._started", harness)
    for _ in (0, 1):  # the stored record has none of them: it is gone on with each time
        code, _, err = run("measure", "--out", tmp_path / "box", "--scenario", scenario, "--json")
        assert code == 0, err
    assert len(harness.commands) == 2
    shapes = Path(harness.commands[0][harness.commands[0].index("--shapes") + 1])
    found = products(shapes)
    assert ("bf16", "nt", 0, 1024, 768, 768) in found
    assert ("bf16", "nn", 0, 1024, 768, 3072) in found
    assert ("bf16", "tn", 0, 768, 3072, 1024) in found
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    "text", ["[", "{}", '{"products": [["bf16", "tt", 0, 1, 1, 1]]}', '{"products": [["bf16", "nt", 0, 0, 1, 1]]}']
)
def test_a_file_of_shapes_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "shapes.json"
    path.write_text(text)
    with pytest.raises(Unusable, match=r"--shapes .*shapes\.json"):
        products(path)


def test_products_that_were_asked_for_are_measured_first() -> None:
    made = session()
    made.products = [("fp32", "nt", 0, 24, 16, 8), ("fp32", "nt", 4, 8, 16, 8), ("fp32", "tn", 0, 64, 32, 16)]
    plain, grouped = (list(family(made)) for family in (gemm.cases, grouped_gemm.cases))
    assert [c.shape for c in plain[:2]] == [
        {"m": 24, "n": 16, "k": 8, "layout": "nt"},
        {"m": 64, "n": 32, "k": 16, "layout": "tn"},
    ]
    assert grouped[0].shape == {"experts": 4, "tokens_per_expert": 8, "n": 16, "k": 8, "spread": "balanced"}
