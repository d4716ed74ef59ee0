"""One command from a box to its calibration: measure, calibrate, predict what no constant saw, before and after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.calibration.calibrate import Calibration, calibrate, kernel_of
from planner.calibration.comparison import Comparison, Row, compared
from planner.calibration.driver_names import named
from planner.calibration.profiles import write_profiles
from planner.calibration.records import Record, read_record, read_records
from planner.common.data import ROOT
from planner.common.errors import PlannerError
from planner.common.files import write_text
from planner.hardware.measured_kernels import Kernel
from planner.performance.evaluation import operator_table
from planner.performance.roofline import product_of
from planner.training.plan import Plan
from planner.workload.layout import as_columns

SEVERAL_SHARE = 0.4
"""Of the budget, for the run of all GPUs together, where there are several."""
LOST = 75
"""Exit code of the harness when the GPU answered no more: what it measured before is in the record."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user chose: the harness's python, device, time, families."""

    python: str = sys.executable
    device: str | None = None
    budget: str = "15m"
    only: str | None = None
    threads: int | None = None
    clock: str = "wall"
    base: str | None = None
    alone: bool = False  # measure one GPU although there are several
    products: tuple[Kernel, ...] = ()  # to measure beside the harness's own list


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything that one page tells: the record, the calibration, predictions before and after it, and where they lie."""

    record: Record
    calibration: Calibration
    before: Comparison | None  # by the catalog's profile; None where none describes the device
    after: Comparison
    records: tuple[Path, ...]
    profiles: tuple[Path, ...]


Run = Callable[[list[str], Mapping[str, str]], int]


def measured(folder: Path, options: Options, run: Run | None = None) -> Measured:
    """Measure into ``folder`` what is not measured there yet, calibrate and compare; ``run`` starts the harness.

    A record that a former call left unfinished is gone on with. Raises PlannerError when the harness cannot measure.
    """
    run = run or _started
    first = folder / "record.json"
    if options.products:
        write_text(folder / SHAPES, json.dumps({"products": [_listed(one) for one in options.products]}))
    _measure(first, options, run, ranks=1)
    paths, record = [first], read_record(first)
    gpus = record.device.num_devices
    if gpus > 1 and record.device.kind == "cuda" and not options.alone:
        several = folder / f"record-x{gpus}.json"
        _measure(several, options, run, ranks=gpus)
        paths.append(several)
    return calibrated(folder, paths, options.base)


def calibrated(folder: Path, paths: Sequence[Path], base: str | None = None) -> Measured:
    """Calibrate on records that exist, write the profiles beside them, predict with and without."""
    both, alone = read_records(paths), read_record(paths[0])
    made = calibrate(both, profile_name(both), base)
    written = write_profiles(made, folder / f"{made.accelerator.name}.toml")
    before = compared(alone, made.accelerator.name, accelerator=made.base) if made.base is not None else None
    return Measured(
        record=both,
        calibration=made,
        before=before,
        after=compared(both, made.accelerator.name, made=made),
        records=tuple(paths),
        profiles=written,
    )


def profile_name(record: Record) -> str:
    """my- and the catalog's name of the GPU, or the device's own in small letters."""
    known = named(record.device.name, record.device.memory_bytes).profile if record.device.kind == "cuda" else None
    plain = known or "-".join("".join(c if c.isalnum() else " " for c in record.device.name.lower()).split())
    return f"my-{plain}"


REFUSED = 2
"""Exit code of the harness after one line on standard error that says what it cannot take (``python -m kernels``)."""


class RefusedByHarness(PlannerError):
    """The harness has said on standard error what it cannot take."""


def _measure(out: Path, options: Options, run: Run, ranks: int) -> None:
    """Run the harness unless the record is whole."""
    if out.is_file() and (record := read_record(out)).finished and (ranks > 1 or not _missing(record, options)):
        print(f"{out}: measured before; delete it to measure again", file=sys.stderr)
        return
    command = harness_command(out, options, ranks)
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    code = run(command, {**os.environ, "PYTHONPATH": paths})
    if code not in (0, LOST) or not out.is_file():
        raise (RefusedByHarness if code == REFUSED else PlannerError)(
            "the harness ended with code {0}, and its output above says why; {1} starts it alone, and --python names the "
            "python that has torch.",
            code,
            " ".join(command),
        )


def harness_command(out: Path, options: Options, ranks: int = 1, nodes: int = 1) -> list[str]:
    """How the harness is started: on one device, or under torchrun on all GPUs of one or of several nodes."""
    launch: list[str] = []
    if ranks > 1:
        several = ["--nnodes", str(nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", "HOST:29500"]
        launch = ["torch.distributed.run", *(["--standalone"] if nodes == 1 else several), "--nproc-per-node", str(ranks), "-m"]
    command = [options.python, "-m", *launch, "kernels", "run", "--out", str(out), "--resume"]
    command += ["--budget", options.budget if ranks == 1 else f"{SEVERAL_SHARE * _seconds(options.budget):.0f}s"]
    if ranks > 1:
        return [*command, "--device", "cuda"]
    given = {"--device": options.device, "--only": options.only, "--threads": options.threads}
    for name, value in given.items():
        command += [name, str(value)] if value is not None else []
    command += ["--shapes", str(out.with_name(SHAPES))] if options.products else []
    return [*command, *(["--clock", options.clock] if options.clock != "wall" else [])]


SHAPES = "shapes.json"
"""File of the products that were asked for, beside the record."""


def products_of(answer: Plan) -> tuple[Kernel, ...]:
    """The matrix multiplies of a plan on one GPU, each once, as a harness can measure them: whole sizes, no fp8."""
    columns = as_columns(answer.layout, answer.cluster.num_gpus)
    table = operator_table(answer.question, columns)
    found = {one.name: one for row in table.rows() if (one := product_of(row, table.setting.precision.matmul)) is not None}
    return tuple(one for one in found.values() if one.dtype in ("bf16", "fp16", "tf32", "fp32"))


def _listed(one: Kernel) -> list[str | int]:
    return [one.dtype, one.layout, one.groups, one.m, one.n, one.k]


def _missing(record: Record, options: Options) -> list[str]:
    """Products that were asked for and have no sample yet, measured or not."""
    known = {one.name for sample in record.samples if (one := kernel_of(sample)) is not None}
    return [one.name for one in options.products if one.name not in known]


def _seconds(budget: str) -> float:
    """Seconds of 90, 60s, 5m or 1h, as the harness reads them."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (budget[:-1], budget[-1]) if budget[-1:] in units else (budget, "s")
    try:
        return float(number) * units[unit]
    except ValueError:
        raise PlannerError("--budget {0}: give a time such as 60s, 5m or 15m.", budget) from None


def _started(command: list[str], environment: Mapping[str, str]) -> int:
    try:
        return subprocess.run(command, env=dict(environment), check=False).returncode
    except OSError as error:
        raise PlannerError("--python {0}: cannot be started ({1}).", command[0], error.strerror) from None


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Median absolute errors of the step times that no constant saw, by the catalog and by the calibration."""

    steps: int
    before: float | None
    after: float

    def sentence(self) -> str:
        """For people: the median error of the step time."""
        if self.before is None:
            return f"With your calibration the planner is {self.after:.1%} off on {self.steps} steps that no constant saw."
        return (
            f"The catalog was {self.before:.1%} off on {self.steps} steps; with your calibration it is {self.after:.1%} "
            "(median error of the step time, on steps that no constant saw)."
        )


def gain(found: Measured) -> Gain:
    """Before against after, on the steps that both predict."""
    after = _times(found.after.rows)
    if found.before is None:
        return Gain(steps=len(after), before=None, after=_median(after.values()))
    before = _times(found.before.rows)
    common = [name for name in after if name in before]
    return Gain(steps=len(common), before=_median([before[n] for n in common]), after=_median([after[n] for n in common]))


def _times(rows: Sequence[Row]) -> dict[str, float]:
    return {row.id: abs(row.error) for row in rows if row.metric == "step_time_s"}


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    if not ordered:
        raise PlannerError("the record holds no step that no constant saw; measure longer: --budget 15m.")
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2.0


@dataclass(frozen=True, kw_only=True)
class Share:
    """The best rate of a kind of work, and the data sheet's where a profile has one; SI units."""

    what: str
    unit: str  # "flop/s" or "byte/s"
    rate: float
    peak: float | None


def shares(found: Measured) -> list[Share]:
    """What the device reaches of its data sheet: products by type, grouped products, attention, memory, the host link."""
    card, known = found.calibration.accelerator, found.calibration.base is not None
    peaks: dict[str, float] = {str(dtype): peak for dtype, peak in card.peak_flops_per_s.items()}
    answer = []
    kinds = (("gemm", "matrix multiply"), ("grouped_gemm", "grouped multiply"), ("attention", "attention"))
    for family, words in kinds:
        samples = [s for s in found.record.measured(family) if s.flops_per_s]
        for dtype in sorted({s.dtype for s in samples}):
            rate = max(s.flops_per_s or 0.0 for s in samples if s.dtype == dtype)
            peak = peaks.get(dtype) if known else None
            answer.append(Share(what=f"{words}, {dtype}", unit="flop/s", rate=rate, peak=peak))
    for family, words, peak_rate in (
        ("memory", "memory", card.memory_bandwidth_bytes_per_s),
        ("copies", "host link", card.host_link_bytes_per_s),
    ):
        samples = found.record.measured(family)
        largest = max((float(s.shape["bytes"]) for s in samples), default=0.0)
        rates = [s.bytes_per_s for s in samples if s.bytes_per_s and float(s.shape["bytes"]) >= largest / 8.0]
        if rates:
            answer.append(Share(what=words, unit="byte/s", rate=max(rates), peak=peak_rate if known else None))
    return answer


def to_json(found: Measured) -> dict[str, Any]:
    """Gain, shares, rows before and after, and the files, SI units."""
    value: dict[str, Any] = {
        "gain": vars(gain(found)),
        "shares": [vars(s) for s in shares(found)],
        "before": [row.to_dict() for row in found.before.rows] if found.before is not None else None,
        "after": [row.to_dict() for row in found.after.rows],
        "written": [str(path) for path in (*found.records, *found.profiles)],
    }
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain
