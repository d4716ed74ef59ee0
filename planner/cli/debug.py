"""The command ``debug``: what goes into a report of a wrong prediction."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from planner.cli.choices import set_fields
from planner.cli.output import print_json


def debug_command(
    target: Annotated[
        str, typer.Argument(metavar="[SCENARIO]", help="A scenario of training or serving: a file or a shipped name.")
    ] = "",
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="TABLE.FIELD=VALUE", help="Change a field; may be repeated.")
    ] = None,
) -> None:
    """Print versions, question and answer as JSON for a report of a wrong prediction.

    Paths, user, host, titles and labels are left out; what is in no catalog stands field by field under no name. Read it
    before you send it: sizes of your own model and nodes are in it, since a prediction cannot be checked without them.

    planner debug my.toml > debug.json
    """
    from planner.reports.debug import debug_report

    print_json(debug_report(_answer(target, change) if target else None))


def _answer(target: str, change: list[str] | None) -> Any:
    from planner.scenarios import scenario, serving
    from planner.scenarios.quick import changed_scenario
    from planner.scenarios.quick_serving import changed_deployment
    from planner.scenarios.scenario import read_scenario
    from planner.scenarios.serving import ServingCase, read_serving_scenario

    serves = _serves(target)
    changes = set_fields(change, (serving if serves else scenario).TABLES)
    if serves:
        case = read_serving_scenario(target).cases[0]
        return ServingCase(label=case.label, tables=changed_deployment(case.tables, changes), where=case.where).serve()
    return changed_scenario(read_scenario(target), changes).cases[0].plan()


def _serves(target: str) -> bool:
    from pathlib import Path

    from planner.common.spec import read_table

    return target.startswith("serving/") or (
        Path(target).is_file() and target.endswith(".toml") and "serving" in read_table(Path(target))
    )
