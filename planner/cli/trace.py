"""The command ``trace``: one step of a plan as a timeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.asked import OfLayout, stepping
from planner.cli.options import UNREAD
from planner.cli.output import tell
from planner.common.errors import PlannerError
from planner.common.files import require_folder
from planner.common.message import Message


@stepping
def trace_command(
    given: OfLayout,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.json", help="Where to write the trace.")] = Path("step.json"),
    memory: Annotated[
        Path | None,
        typer.Option("--memory", metavar="FILE.csv", help="Also write memory over the step: CSV, parquet or JSON lines."),
    ] = None,
) -> None:
    """Write the simulated step as a Chrome trace: open it in Perfetto (ui.perfetto.dev).

    Each pipeline stage is a process; computation and each kind of communication, exposed and hidden, have a track; a counter
    shows memory by kind. The trace is as long as the plan's step, and its memory peaks where the plan's does.

    \b
    planner trace llama-3-70b-h100 -o step.json
    planner trace mixtral-8x7b --on 32xh100 --memory memory.csv
    """
    if out.suffix.lower() != ".json":
        raise PlannerError("--out {0}: give a path that ends in .json.", out, code="usage", field="--out", value=str(out))
    require_folder(out, "--out")
    if memory is not None:
        from planner.common.tables import check_output

        check_output(memory, "--memory")
    from planner.reports.chrome_trace import memory_frame, write_trace
    from planner.training.timeline import timeline

    question, usual = given.scenario(unread=UNREAD["trace"])
    found = timeline(question.cases[0].plan(**given.choice()))
    write_trace(out, found)
    stages = found.plan.layout.pp
    tell(Message("wrote {0}: a step of {1:.4g} s; pipeline stages: {2}", out, found.plan.step_time_s, stages), error=True)
    if memory is not None:
        from planner.common.tables import write_table

        write_table(memory, memory_frame(found))
        tell(Message("wrote {0}", memory), error=True)
    for note in usual:
        tell(note, error=True)
