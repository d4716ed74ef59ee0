"""``planner measure``: from a box to its calibration and a page about it, in one command."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.output import print_json, show, tell
from planner.common.errors import PlannerError, one_of
from planner.common.files import write_text
from planner.common.message import Message

if TYPE_CHECKING:
    from planner.calibration.measuring import Measured, Options
    from planner.hardware.measured_kernels import Kernel


def measure_command(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where records, profiles and page go.")] = Path(
        "measured"
    ),
    budget: Annotated[str, typer.Option("--budget", help="Time to measure in: 5m, 15m.")] = "15m",
    python: Annotated[str, typer.Option("--python", help="The python that has torch for this GPU.")] = sys.executable,
    device: Annotated[str | None, typer.Option("--device", help="cuda, cuda:N or cpu; a GPU where there is one.")] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Families to measure, by the names that python -m kernels list prints.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads of a CPU's kernels.")] = None,
    clock: Annotated[str, typer.Option("--clock", help="wall, or cpu for a CPU that others use too.")] = "wall",
    base: Annotated[str | None, typer.Option("--base", help="Catalog accelerator whose datasheet values to keep.")] = None,
    scenario: Annotated[
        Path | None, typer.Option("--scenario", metavar="FILE.toml", help="Also measure the matrix products of this plan.")
    ] = None,
    one_gpu: Annotated[bool, typer.Option("--one-gpu", help="Do not measure all GPUs together.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (SI units) and nothing else.")] = False,
) -> None:
    """Measure this machine, calibrate on it, and say how far off the planner was and is. Call again to go on where it stopped."""
    from planner.calibration.measuring import Options, RefusedByHarness, measured

    if re.fullmatch(r"\d+(\.\d+)?[smh]?", budget) is None or float(budget.rstrip("smh")) <= 0:
        raise PlannerError("--budget = {0!r}: give a time such as 60s, 5m or 15m.", budget, field="--budget", value=budget)
    _check_harness(device, clock, threads)
    made = not out.exists()
    _check_folder(out)
    options = Options(
        python=python,
        device=device,
        budget=budget,
        only=only,
        threads=threads,
        clock=clock,
        base=base,
        alone=one_gpu,
        products=_products(scenario) if scenario is not None else (),
    )
    try:
        found = measured(out, options)
    except PlannerError as error:
        if made and not any(out.iterdir()):
            out.rmdir()
        if isinstance(error, RefusedByHarness) and not as_json:
            raise typer.Exit(2) from None  # it has said why
        raise
    _finish(found, out, options, as_json)


def _check_harness(device: str | None, clock: str, threads: int | None) -> None:
    """Refuse what the harness would refuse, before it is started."""
    if device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise PlannerError("--device = {0!r}: must be cuda, cuda:N or cpu.", device, field="--device", value=device)
    if clock not in ("wall", "cpu"):
        raise PlannerError("--clock = {0!r}: {1}.", clock, one_of(clock, ("wall", "cpu")), field="--clock", value=clock)
    if threads is not None and threads < 1:
        raise PlannerError(
            "{0} = {1!r}: must be a whole number of at least 1.", "--threads", threads, field="--threads", value=threads
        )


def _products(scenario: Path) -> tuple[Kernel, ...]:
    """Of the first case of a scenario."""
    from planner.calibration.measuring import products_of
    from planner.scenarios.scenario import read_scenario

    return products_of(read_scenario(scenario).cases[0].plan())


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise PlannerError("--out {0}: is a file; give a folder.", out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlannerError("--out {0}: cannot be made ({1}).", out, error.strerror) from None


def _finish(found: Measured, out: Path, options: Options, as_json: bool) -> None:
    """Write page and picture, print the tables."""
    from planner.calibration.measuring import gain, to_json
    from planner.reports.calibration import comparison_table, fits_table
    from planner.reports.measured import page, save_picture

    picture, text = out / "measured.png", out / "measured.md"
    save_picture(picture, found)
    write_text(text, page(found, picture.name))
    if as_json:
        print_json({**to_json(found), "page": str(text), "picture": str(picture)})
        return
    show(fits_table(found.calibration), comparison_table("Steps that no constant saw", found.after))
    tell(gain(found).sentence())
    for path in (*found.profiles, text, picture):
        tell(Message("wrote {0}", path), error=True)
    _hints(found, out, options)


def _hints(found: Measured, out: Path, options: Options) -> None:
    """What may be done next: a base profile for an unknown GPU, several nodes."""
    from planner.calibration.driver_names import named
    from planner.calibration.measuring import harness_command

    if found.calibration.base is None and found.record.device.kind == "cuda":
        near = named(found.record.device.name, found.record.device.memory_bytes).near
        bases = ", ".join(f"--base {name}" for name in near)
        nearest = Message("; the nearest of the catalog: {0}", bases) if near else ""
        text = "{0}: no profile describes it, so its fastest samples are its peaks{1}"
        tell(Message(text, found.record.device.name, nearest), error=True)
    gpus = int((found.record.device.model_extra or {}).get("num_devices", 1))
    if gpus > 1:
        command = " ".join(harness_command(out / "record-2-nodes.json", options, gpus, nodes=2))
        tell(Message("two nodes: on each, with HOST the first one's name:{0}", f"\n  {command}"), error=True)
