"""The commands of measurements: ``validate``, ``fit``, ``calibrate``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.output import check_plot, print_json, show, tell
from planner.cli.serving_measured import fit_serving, validate_serving
from planner.common.errors import PlannerError, near
from planner.common.files import require_folder, require_regular
from planner.common.message import Message
from planner.evidence.serving.table import is_serving_table

if TYPE_CHECKING:
    import pandas as pd

    from planner.evidence.fit_sets import FitSet
    from planner.evidence.held_out import Held
    from planner.evidence.measured_runs import Refusal, Run
    from planner.evidence.predictions import Prediction, Verdict
    from planner.evidence.study import Study

GROUPS = "source,family"
"""Columns that make groups where none are asked for."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (SI units) and nothing else.")]


def validate_command(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="RUNS.csv...", help="Measured runs (docs/guide/validate.md), a record.json, or a trace."),
    ],
    as_json: AsJson = False,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COLUMN,...",
            help="Columns to group by, separated by commas; source and family, where given, when left out.",
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw predicted against measured.")] = None,
    accelerator: Annotated[str | None, typer.Option("--accelerator", help="For a record: use this profile as it is.")] = None,
    node: Annotated[str | None, typer.Option("--node", help="For a record of several ranks: the node that joins them.")] = None,
    framework: Annotated[str | None, typer.Option("--framework", help="For a record: the calibrated host constants.")] = None,
    scenario: Annotated[
        Path | None,
        typer.Option("--scenario", metavar="FILE.toml", help="For a profiler trace (Kineto JSON): the scenario that it ran."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="For a trace: how many steps it holds; as its marks say when left out.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Also write measured and predicted: .parquet, .csv or .json."),
    ] = None,
) -> None:
    """Predict measured runs, group by group, or a record, step by step, and say how far off the planner is."""
    runs = files[0]
    check_plot(plot)
    if scenario is not None:
        _validate_trace(files, scenario, steps, as_json)
        return
    if steps is not None:
        raise PlannerError("--steps {0}: goes with a trace and the --scenario that it ran.", steps)
    alone = runs.suffix.lower() == ".json" or is_serving_table(runs)
    records = all(path.suffix.lower() == ".json" for path in files)
    if alone and ((len(files) > 1 and not records) or out is not None):
        raise PlannerError("{0}: a record or a table of served models is validated alone and without --out.", runs)
    if _validated_record(files, as_json, plot, {"accelerator": accelerator, "node": node, "framework": framework}):
        return
    if is_serving_table(runs):
        validate_serving(runs, as_json, by or GROUPS, plot)
        return
    _validate_runs(files, as_json, by, plot, out)


def _validate_trace(files: list[Path], scenario: Path, steps: int | None, as_json: bool) -> None:
    """A trace of one's own step against the scenario's first case, kind of work by kind of work."""
    from planner.calibration.trace import compare_trace, read_trace
    from planner.reports.trace import trace_table
    from planner.scenarios.scenario import read_scenario

    if len(files) > 1:
        raise PlannerError("{0}: a trace is compared alone; give one trace and its --scenario.", files[1])
    trace = read_trace(files[0], steps)
    case = read_scenario(scenario).cases[0]
    answer = case.plan()
    found = compare_trace(trace, answer)
    rate = answer.framework.elementwise_rate
    if as_json:
        rows = [{**vars(row), "error": row.error} for row in found.rows]
        print_json({**vars(found), "rows": rows, "suggested": found.overrides(rate)})
        return
    show(trace_table(Message("{0} against {1}, {2}", files[0].name, case.label, answer.layout.label), found, rate))


def _validate_runs(files: list[Path], as_json: bool, by: str | None, plot: Path | None, out: Path | None) -> None:
    """Predict the runs of one or more tables and print how far off the planner is."""
    from planner.common.tables import check_output, write_table
    from planner.evidence.pairs import pairs
    from planner.evidence.predictions import group_errors

    if out is not None:
        check_output(out)
    found, refused = _read_tables(files)
    predictions, verdicts, impossible = _predicted(found, _columns(found, by, files[0]), quiet=as_json)
    groups, refusals = group_errors(predictions), [*refused, *impossible]
    if plot is not None:
        from planner.reports.plots import save_validation

        save_validation(plot, files[0].name, predictions)
    if out is not None and predictions:
        write_table(out, pairs(found, predictions))
    if as_json:
        print_json(
            {
                "rows": [p.to_dict() for p in predictions],
                "groups": [vars(g) for g in groups],
                "fits": [vars(v) for v in verdicts],
                "refused": [vars(r) for r in refusals],
            }
        )
    else:
        from planner.reports.plans import validation_table

        show(validation_table(", ".join(str(path) for path in files), groups, verdicts, refusals))
    if not verdicts:
        raise PlannerError("{0}: no row could be predicted; the first is refused because {1}.", files[0], refusals[0].reason)


def _read_tables(files: list[Path]) -> tuple[list[Run], list[Refusal]]:
    from planner.evidence.measured_runs import read_runs

    if len({os.path.realpath(path) for path in files}) < len(files):
        raise PlannerError("RUNS.csv: a file is given twice; its rows would count twice.")
    tables = [read_runs(path) for path in files]
    names = [run.id for some, _ in tables for run in some]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise PlannerError("{0}: id = {1!r} is in another table too; give every run its own id.", files[-1], twice)
    return [run for some, _ in tables for run in some], [r for _, some in tables for r in some]


def _columns(found: list[Run], by: str | None, file: Path) -> tuple[str, ...]:
    """The columns that make groups (unasked: source and family where the runs have them); columns not read are named."""
    from planner.evidence.causes import CAUSES
    from planner.evidence.columns import columns_not_read

    columns = tuple(name.strip() for name in (by or GROUPS).split(",") if name.strip())
    if by is None:
        columns = tuple(name for name in columns if any(name in run.columns for run in found))
    unread = [name for name in columns_not_read(found) if name not in columns]
    if unread:
        tell(
            Message("columns that are not read: {0}; docs/guide/validate.md lists those that are", ", ".join(unread)), error=True
        )
    for name in columns:
        if found and name not in found[0].columns and name not in CAUSES:
            raise PlannerError(
                "--by {0}: {1} has no column {2!r}; {3}.", by, file, name, near(name, [*found[0].columns, *CAUSES])
            )
    return columns


def _predicted(
    found: list[Run], columns: tuple[str, ...], *, quiet: bool
) -> tuple[list[Prediction], list[Verdict], list[Refusal]]:
    from rich.console import Console
    from rich.progress import Progress

    from planner.evidence.predictions import predict

    with Progress(console=Console(stderr=True), transient=True, disable=quiet or len(found) < 200) as bar:
        task = bar.add_task("predicting", total=len(found))
        return predict(found, columns, lambda done: bar.update(task, completed=done))


def fit_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS.csv...", help="Measured runs; see docs/guide/validate.md.")],
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE.md", help="Write the accuracy study here.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what was fitted; write no constant.")] = False,
    in_package: Annotated[
        bool, typer.Option("--in-package", help="Also write constants into an installed package; otherwise only into a clone.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Number of processes.")] = 2,
    which: Annotated[str, typer.Option("--set", help="Which constants: training or finetune.")] = "training",
) -> None:
    """Fit the constants to measured runs again, predict each by a fit without its source, write constants and intervals."""
    from planner.common import data
    from planner.evidence.fit import load_constants
    from planner.evidence.fit_sets import fit_set
    from planner.evidence.held_out import fit_uncertainty
    from planner.evidence.study import study

    chosen = fit_set(which)
    if data.INSTALLED and not (dry_run or in_package):
        raise PlannerError(
            "planner fit: would change the installed package {0}; give --dry-run, or --in-package to do so.",
            data.PACKAGE,
            code="usage",
            field="--in-package",
        )
    if report is not None and (report.suffix.lower() != ".md" or report.is_dir()):
        raise PlannerError("--report {0}: give the path of a file that ends in .md.", report)
    if report is not None:
        require_folder(report, "--report")
    if len({os.path.realpath(path) for path in runs}) < len(runs):
        raise PlannerError("RUNS.csv: a file is given twice; its rows would count twice.")
    for path in runs:
        require_regular(path, "a CSV of measured runs")
    serving = [is_serving_table(path) for path in runs]
    if all(serving):
        fit_serving(runs, report, dry_run)
        return
    if any(serving):
        raise PlannerError("RUNS.csv: serving measurements and training runs are fitted apart; give the one or the other.")
    found, refused = _rows_to_fit(runs)
    with _progress() as say:
        answer = study(found, jobs, say, load_constants(chosen.constants))
    frame, models = fit_uncertainty(answer.held_out, chosen.name, alone=dry_run)
    command = " ".join(["planner fit", *(path.name for path in runs), *(["--set", which] if which != "training" else [])])
    _print_fit(answer, refused)
    if not dry_run:
        _write_fitted(answer, command, frame, models)
    if report is not None:
        _write_report(answer, models, command, chosen, report)


def _rows_to_fit(files: list[Path]) -> tuple[list[Run], list[Refusal]]:
    from planner.evidence.measured_runs import read_runs

    found = [read_runs(path) for path in files]
    rows, refused = [run for some, _ in found for run in some], [r for _, some in found for r in some]
    if not rows and refused:
        raise PlannerError("no row can be read; {0} is refused because {1}.", refused[0].id, refused[0].reason)
    return rows, refused


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each task on standard error, where somebody looks at it."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        tasks: dict[str, Any] = {}

        def say(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=total)

        yield say


def _print_fit(answer: Study, refused: list[Refusal]) -> None:
    for constant, value in zip(answer.found.constants, answer.found.values.values, strict=True):
        tell(Message("{0} = {1:.3g} (prior {2:g})", constant.name, value, constant.prior))
    out = len(refused) + len(answer.refused)
    tell(Message("{0:,} steps fitted, {1:,} predicted, {2:,} rows refused", len(answer.found.residuals), len(answer.runs), out))
    for refusal in (*refused, *answer.refused):
        tell(Message("refused: {0}: {1}", refusal.id, refusal.reason), error=True)


def _write_fitted(answer: Study, command: str, frame: pd.DataFrame, models: Sequence[Held]) -> None:
    """Constants, held-out runs and the model of their errors into the catalog."""
    import datetime

    from planner.evidence.write_fit import write_fit

    source = f"{command}, {len(answer.found.residuals)} of {len(answer.runs)} measured steps"
    today = datetime.date.today().isoformat()
    for path in write_fit(answer.found, frame, models, command=command, source=source, date=today):
        tell(Message("wrote {0}", path))
    tell(Message("python benchmarks/published_gpu_hours.py --write fits the field factor to them"), error=True)


def _write_report(answer: Study, models: Sequence[Held], command: str, chosen: FitSet, report: Path) -> None:
    from planner.common.files import write_text
    from planner.reports.accuracy import report as page
    from planner.reports.accuracy import save_picture

    picture = report.with_suffix(".png")
    save_picture(answer, picture)
    told = f"{command} --report {report.name}"
    write_text(report, page(answer, models, told, picture.name, chosen.title, chosen.constants.name, hours=not chosen.apart))
    tell(Message("wrote {0} and {1}", report, picture))


def _validated_record(files: list[Path], as_json: bool, plot: Path | None, profiles: dict[str, str | None]) -> bool:
    """Predict a record, or several of one machine, and print it; False when the file is a CSV of runs."""
    path = files[0]
    if path.suffix.lower() != ".json":
        for option, value in profiles.items():
            if value is not None:
                raise PlannerError("--{0} {1}: goes with a record.json; the rows of a CSV name their own.", option, value)
        return False
    from planner.calibration.comparison import compare_record, summary
    from planner.reports.calibration import comparison_table, fits_table

    check_plot(plot)
    found = compare_record(files, **profiles)
    if plot is not None:
        from planner.reports.plots import save_validation

        save_validation(plot, path.name, found.predictions)
    if as_json:
        print_json(
            {
                "rows": [row.to_dict() for row in found.rows],
                "metrics": summary(found.rows),
                "fits": [vars(fit) for fit in found.calibration.fits] if found.calibration else [],
                "verdicts": [vars(v) for v in found.verdicts],
                "refused": [vars(r) for r in found.refused],
            }
        )
        return True
    if found.calibration is not None:
        show(fits_table(found.calibration))
    show(comparison_table(Message("{0}: predicted against measured", path.name), found))
    return True


def calibrate_command(
    records: Annotated[
        list[Path], typer.Argument(metavar="RECORD.json...", help="What python -m kernels run wrote, alone and under torchrun.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.toml", help="Where the profile goes.")],
    base: Annotated[str | None, typer.Option("--base", help="Catalog accelerator whose datasheet values to keep.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit an accelerator's curves, the links and the host's constants to records, and write them as profiles."""
    from planner.calibration.calibrate import calibrate
    from planner.calibration.driver_names import named
    from planner.calibration.profiles import check_target, write_profiles
    from planner.calibration.records import read_records
    from planner.reports.calibration import fits_table

    check_target(out)
    both = read_records(records)
    found = calibrate(both, out.stem, base)
    paths = write_profiles(found, out)
    if found.base is None:
        near = named(both.device.name, both.device.memory_bytes).near
        nearest = Message(" (nearest: {0})", ", ".join(near)) if near else ""
        text = "no base profile: peaks and bandwidth are those of the fastest samples; --base NAME keeps a data sheet's{0}"
        tell(Message(text, nearest), error=True)
    if as_json:
        print_json({"written": [str(p) for p in paths], "fits": [vars(fit) for fit in found.fits]})
        return
    show(fits_table(found))
    for path in paths:
        tell(Message("wrote {0}", path), error=True)
