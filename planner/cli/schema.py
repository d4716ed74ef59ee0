"""``planner schema`` and ``planner init``: what can be written, and a file to begin with."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from planner.cli.asked import Laid, grouped, is_scenario
from planner.cli.output import print_json, tell, width
from planner.common.errors import PlannerError, near
from planner.common.message import Message

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def schema_command(
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE[.FIELD]]", help="A table, such as job, or a field, job.seq_len.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the tables of scenarios and files; with TABLE its fields.

    Each field with type, unit, default, meaning and an example. job.adapter is a table, job.seq_len a field.
    """
    from planner.reports.schema import fields_text, tables_text
    from planner.scenarios.fields import TABLES, table_fields

    if table is None:
        if as_json:
            print_json({"tables": {name: {"where": n.where, "summary": n.summary} for name, n in TABLES.items()}})
        else:
            print(tables_text(width()))
        return
    name, _, field = (table, "", "") if table in TABLES else table.rpartition(".")
    found = table_fields(name or table)
    if field:
        named = [one for one in found if one.name == field]
        if not named:
            raise PlannerError(
                "[{0}] has no field {1!r}; {2}.",
                name,
                field,
                near(field, [one.name for one in found]),
                code="unknown",
                field=f"{name}.{field}",
                value=field,
            )
        found = tuple(named)
    if as_json:
        print_json({"table": name or table, "fields": [one.to_dict() for one in found]})
    else:
        print(fields_text(TABLES[name or table], found, width()))


@dataclass(frozen=True, kw_only=True)
class Begun(Laid):
    """A question that is asked for where it is not given."""

    target: Annotated[str | None, typer.Argument(metavar="[MODEL|SCENARIO]", help="A model, or a scenario to start from.")] = None  # type: ignore[assignment]


@grouped(Begun)
def init_command(
    given: Begun,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.toml", help="Where to write it.")] = Path(
        "scenario.toml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a scenario for you to edit, with a comment on every field.

    planner init mixtral-8x7b --on 32xh100 --tokens 100B -o mine.toml, then planner plan mine.toml.
    At a terminal it asks for what is not given.
    """
    from planner.common.files import write_text
    from planner.scenarios.commented import commented_toml

    if output.exists() and not force:
        raise PlannerError(
            "-o {0}: exists already; give another name, or --force.", output, code="output", field="-o", value=str(output)
        )
    write_text(output, commented_toml(_complete(given).scenario()[0]))
    tell(Message("wrote {0}; planner plan {0} answers it", output), error=True)


def _complete(given: Begun) -> Begun:
    """With a model and GPUs; asked for at a terminal. PlannerError where nobody can be asked."""
    if given.target is not None and (given.on is not None or is_scenario(given.target)):
        return given
    if not sys.stdin.isatty():
        missing = "a model and --on GPUs" if given.target is None else "--on GPUs"
        raise PlannerError("init: give {0}, such as planner init mixtral-8x7b --on 32xh100.", missing, code="usage", field="init")
    target = given.target or typer.prompt("Model (planner models list)", default="llama-3-8b", err=True)
    on = given.on or typer.prompt("GPUs", default="8xh100", err=True)
    tokens = given.tokens or given.samples or typer.prompt("Tokens to train on", default="100B", err=True)
    return replace(given, target=target, on=on, tokens=None if given.samples else tokens)
