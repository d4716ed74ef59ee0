"""The command line: a door to the library. Every command prints tables for people, or JSON with ``--json``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from planner.cli.measured import calibrate_command, fit_command, validate_command
from planner.cli.output import check_plot, print_json, show
from planner.cli.runs import audit_command, compare_at, prices_app, run_command
from planner.cli.serving import serve_command, size_command
from planner.cli.tuning import derive_command, tune_command
from planner.common.errors import PlannerError

app = typer.Typer(
    name="planner",
    help="Memory, time and money to train a dense or mixture-of-experts language model on given GPUs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(help="The catalog of models.", no_args_is_help=True)
hardware_app = typer.Typer(help="The catalog of accelerators and nodes.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(hardware_app, name="hardware")
app.add_typer(prices_app, name="prices")
app.command("run")(run_command)
app.command("audit")(audit_command)
app.command("validate")(validate_command)
app.command("fit")(fit_command)
app.command("calibrate")(calibrate_command)
app.command("tune")(tune_command)
models_app.command("derive")(derive_command)
app.command("serve")(serve_command)
app.command("size")(size_command)

ScenarioPath = Annotated[Path, typer.Argument(metavar="SCENARIO.toml", help="A scenario file; see scenarios/.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (SI units) and nothing else.")]
PlotPath = Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Also draw memory and step time.")]


@app.command("plan")
def plan_command(scenario: ScenarioPath, as_json: AsJson = False, plot: PlotPath = None) -> None:
    """Answer a scenario's main case: memory, step time, days and dollars."""
    from planner.scenarios.scenario import read_scenario

    check_plot(plot)
    question = read_scenario(scenario)
    case = question.cases[0]
    answer = case.plan()
    if plot is not None:
        _draw(plot, question.title, [case.label], [answer], quiet=as_json)
    if as_json:
        print_json({"label": case.label, **answer.to_dict()})
        return
    from planner.reports.plans import plan_notes, plans_table

    show(plans_table(question.title, [case.label], [answer]), plan_notes([case.label], [answer]))


@app.command("compare")
def compare_command(
    scenarios: Annotated[list[Path], typer.Argument(metavar="SCENARIO.toml...", help="One or more scenario files.")],
    as_json: AsJson = False,
    plot: PlotPath = None,
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Draw nothing.")] = False,
    at: Annotated[
        str | None, typer.Option("--at", help="Bring the others to the first: loss, flops, dollars, days, active, total.")
    ] = None,
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
        compare_at(cases, at, title, scenarios[0], plot, draw=not (as_json or no_plot), as_json=as_json)
        return
    _check_several(cases, scenarios[0])
    answers = [case.plan() for case in cases]
    labels = [case.label for case in cases]
    if plot is not None:
        _draw(plot, title, labels, answers, quiet=as_json)
    elif not (as_json or no_plot):
        _draw_beside(Path(f"{scenarios[0].stem}.png"), title, labels, answers)
    if as_json:
        named = [{"label": label, **a.to_dict()} for label, a in zip(labels, answers, strict=True)]
        print_json({"title": title, "cases": named})
        return
    from planner.reports.plans import plan_notes, plans_table

    show(plans_table(title, labels, answers), plan_notes(labels, answers))


@app.command("operators")
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


@models_app.command("list")
def models_list(as_json: AsJson = False) -> None:
    """All models of the catalog with their sizes."""
    from planner.model.catalog import load_model, model_names
    from planner.model.parameters import parameters_active, parameters_total

    rows = [(load_model(n), parameters_total(load_model(n)), parameters_active(load_model(n))) for n in model_names()]
    if as_json:
        print_json(
            [
                {"name": m.name, "family": m.family, "parameters_total": total, "parameters_active": active}
                for m, total, active in rows
            ]
        )
        return
    from rich.table import Table

    from planner.reports.text import count

    table = Table("model", "family", "total", "active", "layers", "hidden", "source")
    for m, total, active in rows:
        table.add_row(m.name, m.family, count(total), count(active), str(m.num_layers), str(m.hidden_size), m.source)
    show(table)


@models_app.command("show")
def modelsshow(
    name: Annotated[str, typer.Argument(help="A catalog name, a .toml file, or a Hugging Face config.json.")],
    as_json: AsJson = False,
) -> None:
    """One model: architecture, total and active parameters, where they lie."""
    from planner.model.catalog import load_model
    from planner.model.parameters import parameters_active, parameters_total
    from planner.reports.plans import model_table, parameters_by_block

    model = load_model(name)
    if as_json:
        print_json(
            {
                **model.model_dump(exclude={"provenance"}),
                "family": model.family,
                "parameters_total": parameters_total(model),
                "parameters_active": parameters_active(model),
                "parameters_by_block": parameters_by_block(model),
            }
        )
        return
    show(model_table(model))


@hardware_app.command("list")
def hardware_list(as_json: AsJson = False) -> None:
    """All accelerators and node types."""
    from planner.hardware.cluster import accelerator_names, load_accelerator, load_node, node_names

    accelerators = [load_accelerator(n) for n in accelerator_names()]
    nodes = [load_node(n) for n in node_names()]
    if as_json:
        print_json(
            {
                "accelerators": [a.model_dump(exclude={"provenance"}) for a in accelerators],
                "nodes": [n.model_dump(include={"name", "provider", "accelerator", "num_gpus"}) for n in nodes],
            }
        )
        return
    from rich.table import Table

    from planner.common.units import GB, GIB, TERA

    table = Table("accelerator", "dense 16-bit TFLOP/s", "memory GiB", "GB/s", "released")
    for a in accelerators:
        peak = a.peak_flops_per_s.get("bf16", a.peak_flops_per_s.get("fp16"))
        table.add_row(
            a.name,
            f"{peak / TERA:,.1f}" if peak else "-",
            f"{a.memory_bytes / GIB:.1f}",
            f"{a.memory_bandwidth_bytes_per_s / GB:,.0f}",
            a.released,
        )
    second = Table("node", "provider", "GPUs", "accelerator", "links")
    for n in nodes:
        second.add_row(n.name, n.provider, str(n.num_gpus), n.accelerator, ", ".join(link.name for link in n.links))
    show(table, second)


@hardware_app.command("show")
def hardwareshow(name: Annotated[str, typer.Argument(help="An accelerator or a node type.")], as_json: AsJson = False) -> None:
    """One accelerator or node type, each value with its source."""
    from planner.hardware.cluster import accelerator_names, load_accelerator, load_node, node_names
    from planner.reports.plans import accelerator_table, node_table

    try:
        spec: Any = load_accelerator(name)
    except PlannerError as not_an_accelerator:
        try:
            spec = load_node(name)
        except PlannerError:
            if name.endswith(".toml"):
                raise not_an_accelerator from None
            from planner.common.errors import near

            known = [*accelerator_names(), *node_names()]
            raise PlannerError(f"{name!r} is neither an accelerator nor a node type; {near(name, known)}") from None
    if as_json:
        print_json(spec.model_dump())
        return
    show(accelerator_table(spec) if hasattr(spec, "peak_flops_per_s") else node_table(spec))


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


def _more_commands() -> None:
    from planner.cli.search import add_commands

    add_commands(app)


_more_commands()


def main() -> None:
    """Run the command line; bad input ends with one paragraph on standard error and exit code 2."""
    try:
        app()
    except PlannerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(0)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
