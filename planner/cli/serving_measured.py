"""``planner validate`` and ``planner fit`` on tables of serving measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from planner.cli.output import print_json, show, tell
from planner.common.errors import PlannerError
from planner.common.message import Message


def validate_serving(path: Path, as_json: bool, by: str, plot: Path | None) -> None:
    """Predict serving measurements, group by group, and say how far off the planner is and how many intervals hold."""
    from planner.evidence.serving.predictions import predict_runs
    from planner.evidence.serving.runs import read_serving_runs
    from planner.reports.serving_validation import table_of

    runs, refused = read_serving_runs(path)
    default = by == "source,family"
    columns = ("source", "engine") if default else tuple(name.strip() for name in by.split(",") if name.strip())
    for name in columns:
        if runs and name not in runs[0].columns and name not in ("engine", "figure"):
            raise PlannerError(
                "--by {0}: {1} has no column {2!r}; it has {3}, engine, figure.", by, path, name, ", ".join(runs[0].columns)
            )
    found, impossible = predict_runs(runs, columns)
    refusals = [*refused, *impossible]
    if plot is not None and found:
        from planner.reports.serving_plots import save_scatter

        panels: dict[str, list[tuple[float, float, str]]] = {}
        for p in found:
            panels.setdefault(p.figure, []).append((p.measured, p.predicted, p.engine))
        save_scatter(plot, panels)
    if as_json:
        print_json({"rows": [p.to_dict() for p in found], "refused": [vars(r) for r in refusals]})
    else:
        show(table_of(str(path), found, refusals))
    if not found:
        raise PlannerError("{0}: no row could be predicted; the first is refused because {1}.", path, refusals[0].reason)


def fit_serving(paths: Sequence[Path], report: Path | None, dry_run: bool) -> None:
    """Refit the engines' constants to serving measurements, predict each left out, write constants and intervals."""
    from rich.console import Console
    from rich.progress import Progress

    from planner.common.files import write_text
    from planner.evidence.serving.runs import read_serving_runs
    from planner.evidence.serving.study import study
    from planner.reports.serving_accuracy import report as page
    from planner.reports.serving_accuracy import save_picture, write_constants

    found = [read_serving_runs(path) for path in paths]
    rows, refused = [run for some, _ in found for run in some], [r for _, some in found for r in some]
    if not rows:
        raise PlannerError("no row can be read; {0} is refused because {1}.", refused[0].id, refused[0].reason)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def say(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=total)

        answer = study(rows, say)
    answer = _with_refusals(answer, refused)
    for constant, value in zip(answer.found.constants, answer.found.values.values, strict=True):
        tell(Message("{0} = {1:.3g} (prior {2:g})", constant.name, value, constant.prior))
    command = " ".join(["planner fit", *(path.name for path in paths)])
    counts = (len(answer.found.residuals), len(answer.runs), len(answer.refused))
    tell(Message("{0:,} times fitted, {1:,} predicted, {2:,} rows refused", *counts))
    for refusal in answer.refused:
        tell(Message("refused: {0}: {1}", refusal.id, refusal.reason), error=True)
    if not dry_run:
        source = f"{command}, {len(answer.found.residuals)} of {len(answer.runs)} measured times"
        for path in write_constants(answer, source):
            tell(Message("wrote {0}", path))
    if report is not None:
        picture = report.with_suffix(".png")
        save_picture(picture, answer)
        write_text(report, page(answer, f"{command} --report {report.name}", picture.name))
        tell(Message("wrote {0} and {1}", report, picture))


def _with_refusals(answer: Any, refused: Sequence[Any]) -> Any:
    from dataclasses import replace

    return replace(answer, refused=(*refused, *answer.refused))
