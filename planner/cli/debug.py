"""The command ``debug``: what goes into a report of a wrong prediction."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from planner.cli.asked import Laid, grouped
from planner.cli.choices import set_fields
from planner.cli.output import print_json


@dataclass(frozen=True, kw_only=True)
class Debugged(Laid):
    """The question of a report; none where only versions are asked."""

    target: Annotated[
        str, typer.Argument(metavar="[SCENARIO|MODEL]", help="A scenario of training or serving, or a model with --on.")
    ] = ""


@grouped(Debugged)
def debug_command(given: Debugged) -> None:
    """Print versions, question and answer as JSON for a report of a wrong prediction.

    Paths, user, host, titles and labels are left out; a model or a node of your own appears as its fields, without its name.
    Read it before you send it: the sizes of your own model and nodes are in it, since a prediction cannot be checked without
    them.

    \b
    planner debug my.toml > debug.json
    planner debug llama-3-8b --on 8xh100 --seq-len 4k
    """
    from planner.reports.debug import debug_report

    print_json(debug_report(_answer(given) if given.target else None))


def _answer(given: Debugged) -> Any:
    from planner.scenarios import serving
    from planner.scenarios.quick_serving import changed_deployment
    from planner.scenarios.serving import ServingCase, read_serving_scenario

    if not _serves(given.target):
        question, _ = given.scenario()
        return question.cases[0].plan(**given.choice())
    changes = set_fields(given.change, serving.TABLES)
    case = read_serving_scenario(given.target).cases[0]
    return ServingCase(label=case.label, tables=changed_deployment(case.tables, changes), where=case.where).serve()


def _serves(target: str) -> bool:
    from pathlib import Path

    from planner.common.spec import read_table

    return target.startswith("serving/") or (
        os.path.isfile(target) and target.endswith(".toml") and "serving" in read_table(Path(target))
    )
