"""The commands of plans: ``plan``, ``compare``, ``operators``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from planner.cli.options import RISK, Allow, Risk, allowed_names
from planner.cli.output import check_plot, print_json, show
from planner.cli.runs import compare_at
from planner.common.errors import PlannerError

ScenarioPath = Annotated[Path, typer.Argument(metavar="SCENARIO.toml", help="A scenario file; see scenarios/.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (SI units) and nothing else.")]
PlotPath = Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Also draw memory and step time.")]


def plan_command(
    scenario: ScenarioPath, as_json: AsJson = False, plot: PlotPath = None, risk: Risk = RISK, allow: Allow = None
) -> None:
    """Answer a scenario's main case: memory, step time, days and dollars."""
    from planner.scenarios.scenario import read_scenario

    check_plot(plot)
    question = read_scenario(scenario)
    case = question.cases[0]
    answer = case.plan(risk=risk, allow=allowed_names(allow))
    if plot is not None:
        _draw(plot, question.title, [case.label], [answer], quiet=as_json)
    if as_json:
        print_json({"label": case.label, **answer.to_dict()})
        return
    from planner.reports.plans import plan_notes, plans_table

    show(plans_table(question.title, [case.label], [answer]), plan_notes([case.label], [answer]))


def compare_command(
    scenarios: Annotated[list[Path], typer.Argument(metavar="SCENARIO.toml...", help="One or more scenario files.")],
    as_json: AsJson = False,
    plot: PlotPath = None,
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Draw nothing.")] = False,
    at: Annotated[
        str | None, typer.Option("--at", help="Bring the others to the first: loss, flops, dollars, days, active, total.")
    ] = None,
    risk: Risk = RISK,
    allow: Allow = None,
) -> None:
    """Answer all cases of one or more scenarios side by side, and draw them.

    The picture goes to SCENARIO.png in the current folder unless --plot names another; with --json only --plot draws.
    With --at the other cases are brought to the first one's loss, flops, dollars, days, active or total parameters.
    """
    from planner.scenarios.scenario import read_scenario

    if plot is not None and no_plot:
        raise PlannerError("--plot and --no-plot exclude each other; give one.")
    check_plot(plot)
    questions = [read_scenario(path) for path in scenarios]
    cases = [case for question in questions for case in question.cases]
    title = " | ".join(question.title for question in questions)
    if at is not None:
        plans = [case.plan(risk=risk, allow=allowed_names(allow)) for case in cases]
        draw = not (as_json or no_plot)
        compare_at([case.label for case in cases], plans, at, title, scenarios[0], plot, draw=draw, as_json=as_json)
        return
    _check_several(cases, scenarios[0])
    answers = [case.plan(risk=risk, allow=allowed_names(allow)) for case in cases]
    labels = [case.label for case in cases]
    if plot is not None:
        _draw(plot, title, labels, answers, quiet=as_json)
    elif not (as_json or no_plot):
        _draw_beside(Path(f"{scenarios[0].stem}.png"), title, labels, answers)
    if as_json:
        from planner.training.difference import ratios

        named = [{"label": label, **a.to_dict()} for label, a in zip(labels, answers, strict=True)]
        for case, answer in zip(named[1:], answers[1:], strict=True):
            case["over_first"] = {name: found.to_dict() for name, found in ratios(answer, answers[0]).items()}
        print_json({"title": title, "cases": named})
        return
    from planner.reports.plans import differences, plan_notes, plans_table

    show(plans_table(title, labels, answers), differences(labels, answers), plan_notes(labels, answers))


def operators_command(scenario: ScenarioPath, as_json: AsJson = False) -> None:
    """The table of operators behind a scenario's main case: one GPU, one micro-batch, one layer of each kind."""
    from planner.performance.evaluation import operator_table
    from planner.reports.plans import operators_table, row_dict
    from planner.scenarios.scenario import read_scenario
    from planner.workload.layout import as_columns

    case = read_scenario(scenario).cases[0]
    answer = case.plan()
    columns = as_columns(answer.layout, answer.cluster.num_gpus)
    rows = operator_table(answer.model, answer.cluster, answer.framework, answer.job, columns).rows()
    if as_json:
        print_json({"label": case.label, "layout": answer.layout.label, "rows": [row_dict(row) for row in rows]})
        return
    show(operators_table(f"{case.label}: {answer.layout.label}, one GPU, one micro-batch, one layer", rows))


def _check_several(cases: list[Any], path: Path) -> None:
    if len(cases) < 2:
        raise PlannerError(
            f"{path}: holds a single case; add a [[compare]] table or give a second file (planner plan answers one case)."
        )


def _draw(path: Path, title: str, labels: list[str], answers: list[Any], *, quiet: bool) -> None:
    from planner.reports.plots import save_comparison

    save_comparison(path, title, labels, answers)
    if not quiet:
        print(f"wrote {path}", file=sys.stderr)


def _draw_beside(path: Path, title: str, labels: list[str], answers: list[Any]) -> None:
    """Draw unasked: where the folder cannot be written, the tables still come."""
    try:
        _draw(path, title, labels, answers, quiet=False)
    except PlannerError as error:
        print(f"no picture: {error}", file=sys.stderr)
