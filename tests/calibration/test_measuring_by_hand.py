"""What ``planner measure`` starts, goes on with and sums up, and what profiles say of their values."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_records import as_record, fake, session

import planner
from kernels import record as kernel_records
from planner.calibration import measuring
from planner.calibration.calibrate import Calibration, calibrate
from planner.calibration.comparison import Comparison, Row
from planner.calibration.measuring import (
    LOST,
    REFUSED,
    Gain,
    Measured,
    Options,
    RefusedByHarness,
    _listed,
    _median,
    _seconds,
    gain,
    harness_command,
    measured,
    products_of,
    profile_name,
    shares,
    to_json,
)
from planner.calibration.profiles import check_target, write_profiles
from planner.calibration.records import Record
from planner.common.errors import PlannerError
from planner.hardware.cluster import load_accelerator, load_node
from planner.hardware.curves import curves_of, load_curves
from planner.hardware.measured_kernels import Kernel
from planner.workload.framework import load_framework

H200 = {"kind": "cuda", "name": "NVIDIA H200", "memory_bytes": 150e9, "num_devices": 1}


def product(m: int, seconds: float = 1e-3, dtype: str = "fp32") -> dict[str, Any]:
    made = fake("gemm", "matmul", {"m": m, "n": 8, "k": 8, "layout": "nt"}, seconds, 128.0 * m, 1.0)
    return kernel_records.seal({**made, "dtype": dtype})


def recorded(samples: Any, device: Mapping[str, Any], **fields: Any) -> Record:
    made = session()
    made.record |= {"samples": list(samples), "finished": True, **fields}
    made.record["device"] |= device
    found: Record = as_record(made)
    return found


class Harness:
    """Writes a record of so many devices, finished or not, and ends with a code."""

    def __init__(self, code: int = 0, writes: bool = True, finished: bool = True, samples: Any = (), **device: Any) -> None:
        self.code, self.writes, self.commands = code, writes, list[list[str]]()
        self.record = recorded(samples, {**H200, **device}, finished=finished).model_dump(by_alias=True)

    def __call__(self, command: list[str], environment: Mapping[str, str]) -> int:
        self.commands.append(command)
        if self.writes:
            kernel_records.write(self.record, Path(command[command.index("--out") + 1]))
        return self.code


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of what calibrates: the names of the records that it would be given."""
    monkeypatch.setattr(measuring, "calibrated", lambda folder, paths, base: ([path.name for path in paths], base))


@pytest.mark.parametrize(
    ("device", "options", "records"),
    [
        ({"num_devices": 1}, Options(), ["record.json"]),
        ({"num_devices": 2}, Options(), ["record.json", "record-x2.json"]),
        ({"num_devices": 2}, Options(alone=True), ["record.json"]),
        ({"num_devices": 2, "kind": "cpu"}, Options(), ["record.json"]),
    ],
)
def test_several_gpus_are_measured_together_unless_one_is_asked_for(
    names: None, tmp_path: Path, device: dict[str, Any], options: Options, records: list[str]
) -> None:
    harness = Harness(**device)
    found: Any = measured(tmp_path, options, harness)
    assert found == (records, None)
    assert len(harness.commands) == len(records)
    measured(tmp_path, options, harness)
    assert len(harness.commands) == len(records), "what is finished is not measured again"


def test_what_is_unfinished_or_lacks_a_product_is_gone_on_with(names: None, tmp_path: Path) -> None:
    unfinished, asked = Harness(finished=False), Options(products=(Kernel(dtype="fp32", layout="nt", m=4, n=8, k=8),))
    for _ in range(2):
        measured(tmp_path, Options(), unfinished)
    assert len(unfinished.commands) == 2
    for sample, again in ((product(5), True), (product(4), False)):
        harness = Harness(samples=[sample])
        (tmp_path / str(again)).mkdir()
        measured(tmp_path / str(again), asked, harness)
        measured(tmp_path / str(again), asked, harness)
        assert len(harness.commands) == 1 + again
    listed = json.loads((tmp_path / "True" / "shapes.json").read_text())
    assert listed == {"products": [["fp32", "nt", 0, 4, 8, 8]]}
    assert _listed(Kernel(dtype="bf16", layout="nt", groups=2, m=3, n=4, k=5)) == ["bf16", "nt", 2, 3, 4, 5]


def test_products_that_are_asked_for_are_no_matter_of_several_gpus(names: None, tmp_path: Path) -> None:
    """One GPU alone measures them: the record of all together is whole without."""
    asked = Options(products=(Kernel(dtype="fp32", layout="nt", m=4, n=8, k=8),))
    harness = Harness(num_devices=2, samples=[product(5)])
    for _ in range(2):
        measured(tmp_path, asked, harness)
    assert [command[command.index("--out") + 1].endswith("record.json") for command in harness.commands] == [True, False, True]


@pytest.mark.parametrize(
    ("code", "writes", "raised"),
    [(0, True, None), (LOST, True, None), (0, False, PlannerError), (REFUSED, True, RefusedByHarness), (1, True, PlannerError)],
)
def test_what_the_harness_measured_before_it_ended_counts_where_the_gpu_was_lost(
    names: None, tmp_path: Path, code: int, writes: bool, raised: type[Exception] | None
) -> None:
    """75 is how the harness says so (kernels/__main__.py); 2 that it has said what it cannot take."""
    from kernels.faults import DeviceLost

    assert (LOST, REFUSED, DeviceLost.__name__) == (75, 2, "DeviceLost")
    if raised is None:
        assert measured(tmp_path, Options(), Harness(code, writes)) == (["record.json"], None)
    else:
        with pytest.raises(PlannerError) as caught:
            measured(tmp_path, Options(), Harness(code, writes))
        assert type(caught.value) is raised


def test_a_command_says_what_was_asked_for_and_no_more() -> None:
    plain = harness_command(Path("r.json"), Options(python="py"))
    assert plain == ["py", "-m", "kernels", "run", "--out", "r.json", "--resume", "--budget", "15m"]
    asked = Options(
        python="py", device="cpu", only="gemm", threads=0, clock="cpu", products=(Kernel(dtype="x", layout="nt", m=1, n=1, k=1),)
    )
    given = ["--device", "cpu", "--only", "gemm", "--threads", "0", "--shapes", "shapes.json", "--clock", "cpu"]
    assert harness_command(Path("r.json"), asked) == [*plain, *given]
    launch = "-m torch.distributed.run --standalone --nproc-per-node 2 -m kernels run"
    several = " ".join(harness_command(Path("r.json"), asked, 2))
    assert several == f"py {launch} --out r.json --resume --budget 360s --device cuda"


def test_a_time_is_seconds_minutes_or_hours() -> None:
    """Two fifths of it are for all GPUs together: 36 s of 90."""
    assert [_seconds(text) for text in ("90", "60s", "5m", "1h", "1.5m")] == [90.0, 60.0, 300.0, 3600.0, 90.0]
    assert "36s" in harness_command(Path("r.json"), Options(budget="90"), 2)
    for wrong in ("", "m", "5d", "five"):
        with pytest.raises(PlannerError, match="--budget"):
            _seconds(wrong)


def test_products_of_a_plan_are_each_measured_once_and_never_in_fp8() -> None:
    """A layer of 64 wide: keys of half as many heads, two parts of the gated inner width, and the head."""
    model = {
        "name": "x", "num_layers": 3, "hidden_size": 64, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16,
        "ffn_hidden_size": 96, "vocab_size": 128,
    }  # fmt: skip
    job = {"seq_len": 32, "global_batch_size": 2, "num_steps": 1}

    def found(precision: str) -> tuple[Kernel, ...]:
        cluster = {"node": "dgx-h100", "num_gpus": 1}
        layout = {"micro_batch_size": 2}
        return products_of(planner.plan(model=model, cluster=cluster, job={**job, "precision": precision}, layout=layout))

    products = found("bf16")
    assert len({one.name for one in products}) == len(products)
    forward = {(one.m, one.n, one.k) for one in products if one.layout == "nt"}
    assert {(64, 64, 64), (64, 64, 96), (64, 128, 64)} <= forward
    assert all(one.dtype == "bf16" and {one.m, one.n, one.k} <= {32, 64, 96, 128, 192} for one in products)
    assert {one.layout for one in products} == {"nt", "nn", "tn"}
    assert all(one.dtype != "fp8" for one in found("fp8"))


def test_a_profile_is_called_after_what_it_is_of() -> None:
    assert profile_name(recorded((), H200)) == "my-h200-sxm-141gb"
    assert profile_name(recorded((), {"kind": "cpu", "name": "NVIDIA H200"})) == "my-nvidia-h200"
    assert profile_name(recorded((), {**H200, "name": "Some (R) GPU 9999"})) == "my-some-r-gpu-9999"


# --- sums ---------------------------------------------------------------------------------------------------------------------


def row(name: str, predicted: float, metric: str = "step_time_s") -> Row:
    return Row(id=name, metric=metric, measured=1.0, predicted=predicted, lower=0.0, upper=9.0)


def copies(*gigabytes: tuple[int, float], family: str = "memory") -> list[dict[str, Any]]:
    """Streams of so many MiB at so many GB/s."""
    shape = {"pinned": True} if family == "copies" else {}
    return [
        fake(family, "copy", {"bytes": size * 2**20, **shape}, size * 2.0**20 / (rate * 1e9), 0.0, size * 2.0**20)
        for size, rate in gigabytes
    ]


@pytest.fixture(scope="module")
def made() -> Calibration:
    """Of an H200 whose memory alone was measured."""
    return calibrate(recorded(copies((1, 1e3), (16, 2e3), (256, 3e3)), H200), "mine")


def summed(made: Calibration, after: list[Row], before: list[Row] | None = None, samples: Any = ()) -> Measured:
    def comparison(rows: list[Row]) -> Comparison:
        return Comparison(rows=tuple(rows), predictions=(), verdicts=(), refused=(), calibration=None)

    return Measured(
        record=recorded(samples, H200), calibration=made, before=None if before is None else comparison(before),
        after=comparison(after), records=(Path("r.json"),), profiles=(Path("p.toml"),),
    )  # fmt: skip


def test_a_gain_is_of_steps_that_both_predict(made: Calibration) -> None:
    """Medians: 0.1 and 0.3 make 0.2 after, 0.4 and 0.6 make 0.5 before; memory and what only one predicts are left out."""
    after = [row("a", 1.1), row("b", 0.7), row("c", 9.0), row("d", 5.0, "peak_allocated_bytes")]
    before = [row("a", 1.4), row("b", 0.4), row("e", 7.0)]
    assert gain(summed(made, after, before)) == Gain(steps=2, before=pytest.approx(0.5), after=pytest.approx(0.2))
    alone = gain(summed(made, after))
    assert alone == Gain(steps=3, before=None, after=pytest.approx(0.3))
    assert "3 steps that no constant saw" in alone.sentence()
    assert "20.0%" in gain(summed(made, after, before)).sentence()
    assert [_median(values) for values in ([3.0], [1.0, 3.0], [9.0, 1.0, 2.0], [4.0, 1.0, 2.0, 9.0])] == [3.0, 2.0, 2.0, 3.0]
    with pytest.raises(PlannerError, match="no step"):
        gain(summed(made, []))
    assert to_json(summed(made, after))["before"] is None
    assert len(to_json(summed(made, after, before))["before"]) == 3
    assert to_json(summed(made, after))["written"] == ["r.json", "p.toml"]


def test_shares_are_of_the_best_rate_of_each_kind(made: Calibration) -> None:
    """Of streams only from an eighth of the largest on."""
    samples = [
        *copies((80, 1.0), (10, 3.0), (9, 7.0)), *copies((80, 2.0), (10, 5.0), (9, 6.0), family="copies"),
        product(64, 1e-6), product(64, 2e-6), product(64, 1e-7, "bf16"),
    ]  # fmt: skip
    card = made.accelerator
    found = {s.what: s for s in shares(summed(made, [], samples=samples))}
    assert found["memory"].rate == pytest.approx(3e9)
    assert found["host link"].rate == pytest.approx(5e9)
    assert found["matrix multiply, fp32"].rate == pytest.approx(64 * 128 / 1e-6)
    assert found["matrix multiply, bf16"].rate == pytest.approx(64 * 128 / 1e-7)
    assert (found["memory"].peak, found["host link"].peak) == (card.memory_bandwidth_bytes_per_s, card.host_link_bytes_per_s)
    assert found["matrix multiply, bf16"].peak == card.peak_flops_per_s["bf16"]
    assert list(found) == ["matrix multiply, bf16", "matrix multiply, fp32", "memory", "host link"]
    unknown = shares(summed(replace(made, base=None), [], samples=samples))
    assert {s.peak for s in unknown} == {None}
    assert shares(summed(made, [])) == []


# --- profiles -----------------------------------------------------------------------------------------------------------------


def test_a_profile_says_of_each_value_where_it_is_from(made: Calibration, tmp_path: Path) -> None:
    """What was fitted is measured; the rest keeps its source, and what nobody says is assumed."""
    stack = made.framework.replaced(fragmentation=0.5)
    paths = write_profiles(replace(made, framework=stack), tmp_path / "mine.toml")
    card, node, framework = load_accelerator(str(paths[0])), load_node(str(paths[1])), load_framework(str(paths[2]))
    assert [path.name for path in paths] == ["mine.toml", "mine-node.toml", "mine-framework.toml"]
    ours, theirs = (curves_of(one).model_dump(exclude={"provenance", "name", "notes"}) for one in (card, made.accelerator))
    assert ours == theirs
    assert card.peak_flops_per_s == made.accelerator.peak_flops_per_s
    assert card.memory_bytes == 150e9
    sheet = load_accelerator("h200-sxm-141gb")
    assert card.provenance["memory_bandwidth_bytes_per_s"] == sheet.provenance["memory_bandwidth_bytes_per_s"]
    assert card.provenance["peak_flops_per_s.bf16"] == sheet.provenance["peak_flops_per_s.bf16"]
    assert (card.provenance["memory_bytes"].kind, card.num_sms, card.aliases) == ("measured", sheet.num_sms, ())
    written = tomllib.loads(paths[0].read_text())["kernel_curves"]
    kinds = {name: written[name]["kind"] for name in ("memory_fraction", "matmul_depth")}
    assert kinds == {"memory_fraction": "measured", "matmul_depth": load_curves("h200").provenance["matmul_depth"].kind}
    assert {
        name for name, value in written.items() if value["kind"] == "measured" and made.source in value["source"]
    } == made.measured
    assert (node.num_gpus, node.accelerator) == (1, str(paths[0].resolve()))
    assert (framework.fragmentation, framework.provenance["fragmentation"].kind) == (0.5, "measured")
    catalog = load_framework("kernels")
    kept, there = (one.model_dump(exclude={"provenance", "name", "fragmentation"}) for one in (framework, catalog))
    assert kept == there
    for name in ("host_s_per_kernel", "vendors"):
        assert framework.provenance.get(name) == catalog.provenance.get(name), name


@pytest.mark.parametrize("name", ["x.json", "x", "x.toml.txt"])
def test_a_profile_ends_in_toml_and_lies_in_a_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match=r"ends in \.toml"):
        check_target(tmp_path / name)
    check_target(tmp_path / "x.toml")
    with pytest.raises(PlannerError, match="-o"):
        check_target(tmp_path / "none" / "x.toml")
